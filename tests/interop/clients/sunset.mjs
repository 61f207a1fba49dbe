// A TypeScript client whose user is to see what the switch-off looks like:
//
//     node sunset.mjs 1.8.0|1.13.3|1.32.2|mcp-remote|mcp-remote-sse visit|stay URL NAME
//
// The first three are the SDK's SSE client as its examples use it; the others are its stdio client with mcp-remote 0.15.1
// behind, as a desktop program has it, in its default mode and told to speak SSE only. `visit` connects, does what there is
// to do and leaves; `stay` makes a call that takes too long, and another one at once and after each line on stdin.
//
// Promises: each line on stdout is {"works": what came} or {"error": what the program has to show}, with what mcp-remote
// printed as "stderr". After an error nothing is closed here that the SDK would leave open: a process that still ends by
// itself has nothing left that would try again, and one that does not can be watched trying.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { require } from '../packages/packages.mjs';

const [kind, manner, url, name] = process.argv.slice(2);
const version = kind.startsWith('mcp-remote') ? '1.32.2' : kind;
// As modules: the SDK 1.8 cannot be required, and `require.resolve` finds the other flavour only.
const load = path =>
    import(pathToFileURL(require.resolve(`sdk-${version}/${path}`).replace('/dist/cjs/', '/dist/esm/')));
const [{ Client }, types] = await Promise.all(['client/index.js', 'types.js'].map(load));

let stderr = '';
const transport = kind.startsWith('mcp-remote') ? await remote() : await sse();
const client = new Client({ name, version: '1.0.0' }, { capabilities: {} });
/** What the server logged. */
const logged = [];
client.setNotificationHandler(types.LoggingMessageNotificationSchema, ({ params }) => logged.push(params));

async function sse() {
    const { SSEClientTransport } = await load('client/sse.js');
    return new SSEClientTransport(new URL(url));
}

async function remote() {
    const { StdioClientTransport } = await load('client/stdio.js');
    const home = mkdtempSync(join(tmpdir(), 'interop-mcp-remote-'));
    process.on('exit', () => rmSync(home, { recursive: true, force: true }));
    const only = kind === 'mcp-remote-sse' ? ['--transport', 'sse-only'] : [];
    const program = join(dirname(require.resolve('mcp-remote/package.json')), 'dist/proxy.js');
    const stdio = new StdioClientTransport({
        command: process.execPath,
        args: [program, url, '--allow-http', ...only],
        env: { ...process.env, MCP_REMOTE_CONFIG_DIR: home },
        stderr: 'pipe'
    });
    stdio.stderr.on('data', chunk => (stderr += chunk));
    return stdio;
}

const say = line => process.stdout.write(`${JSON.stringify({ ...line, stderr })}\n`);

async function tell(act) {
    try {
        say({ works: await act() });
        return true;
    } catch (error) {
        say({ error: error.message });
        return false;
    }
}

const echo = async () => (await client.callTool({ name: 'echo', arguments: { message: 'still here' } })).content[0].text;

async function visit() {
    await client.connect(transport);
    const server = client.getServerVersion();
    await client.ping();
    const lists = await Promise.all([client.listTools(), client.listPrompts(), client.listResources()]);
    const sum = await client.callTool({ name: 'get-sum', arguments: { a: 2, b: 40 } });
    const text = await echo();
    await client.close();
    return { server, capabilities: client.getServerCapabilities(), lists, sum: sum.content, text, logged };
}

async function stay() {
    if (!(await tell(async () => void (await client.connect(transport))))) return;
    // Longer than anything waits for it.
    const endless = { name: 'trigger-long-running-operation', arguments: { duration: 600, steps: 1 } };
    await tell(() => client.callTool(endless));
    await tell(echo);
    for await (const _ of createInterface({ input: process.stdin })) await tell(echo);
    await client.close();
}

if (manner === 'visit') await tell(visit);
else await stay();
