// The official TypeScript clients behind one face: the SDK 1.x in two versions, the 2.x packages with and without the
// `server/discover` probe, and mcp-remote, which is spoken to over stdio by the SDK 1.32.2 as a desktop program does.
//
// Promises: `open` gives a client, not yet connected, its transport, and what the steps need to know of that version.
// What a version cannot do stands in `lacks`, found by looking at the SDK, not at its number.
//
// The trap: the SDK 1.x wants zod schemas where 2.x wants method names, and takes `resultSchema` as second argument of
// `callTool`; nothing outside of this file shall know.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { require } from '../packages/packages.mjs';

const HEADERS = { Authorization: 'Bearer interop-token', 'X-Interop': 'yes' };

/** All that the SDK can do: server-everything hides the tools for the rest. */
const CAPABILITIES = { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } };

/** SDK 1.x, as installed under `alias`. */
async function first(alias, name) {
    // As modules: the SDK 1.8 cannot be required, and `require.resolve` finds the other flavour only.
    const load = path => import(pathToFileURL(require.resolve(`${alias}/${path}`).replace('/dist/cjs/', '/dist/esm/')));
    const [{ Client }, types] = await Promise.all(['client/index.js', 'types.js'].map(load));
    const schemas = {
        'sampling/createMessage': types.CreateMessageRequestSchema,
        'elicitation/create': types.ElicitRequestSchema,
        'roots/list': types.ListRootsRequestSchema
    };
    const { elicitation, ...older } = CAPABILITIES;
    const capabilities = schemas['elicitation/create'] ? CAPABILITIES : older;
    const client = new Client({ name, version: '1.0.0' }, { capabilities });
    // These two the SDK makes itself, when no answer came.
    const homemade = [types.ErrorCode.RequestTimeout, types.ErrorCode.ConnectionClosed];
    return {
        client,
        lacks: schemas['elicitation/create'] ? {} : { elicitation: 'this SDK knows no elicitation' },
        callTool: (params, options) => client.callTool(params, undefined, options),
        unknownMethod: () => client.request({ method: 'interop/unknown' }, types.ResultSchema),
        answerTo: (method, handler) => schemas[method] && client.setRequestHandler(schemas[method], handler),
        isServersError: error => error instanceof types.McpError && !homemade.includes(error.code),
        async transport(kind, url) {
            const requestInit = { headers: HEADERS };
            if (kind === 'sse') {
                const { SSEClientTransport } = await load('client/sse.js');
                return new SSEClientTransport(new URL(url), { requestInit });
            }
            const { StreamableHTTPClientTransport } = await load('client/streamableHttp.js');
            return new StreamableHTTPClientTransport(new URL(url), { requestInit });
        }
    };
}

/** The 2.x packages; `versionNegotiation` as the application would give it. */
function second(name, versionNegotiation) {
    const sdk = require('@modelcontextprotocol/client');
    const client = new sdk.Client(
        { name, version: '1.0.0' },
        { capabilities: CAPABILITIES, ...(versionNegotiation && { versionNegotiation }) }
    );
    const anything = { '~standard': { version: 1, vendor: 'interop', validate: value => ({ value }) } };
    return {
        client,
        lacks: {},
        callTool: (params, options) => client.callTool(params, options),
        unknownMethod: () => client.request({ method: 'interop/unknown' }, anything),
        answerTo: (method, handler) => client.setRequestHandler(method, handler),
        isServersError: error => error instanceof sdk.ProtocolError,
        transport(kind, url) {
            const Transport = kind === 'sse' ? sdk.SSEClientTransport : sdk.StreamableHTTPClientTransport;
            return new Transport(new URL(url), { requestInit: { headers: HEADERS } });
        }
    };
}

/**
 * The same in the era of 2026, which is no legacy client: it is what a server of that era is tried with. Steps that this
 * era has other means for are taken by these.
 */
function modern(name) {
    const sdk = require('@modelcontextprotocol/client');
    const face = second(name, { mode: { pin: '2026-07-28' } });
    const { client } = face;
    const connect = client.connect.bind(client);
    let level;
    let subscription;
    Object.assign(client, {
        async connect(transport, options) {
            await connect(transport, options);
            await client.listen({ toolsListChanged: true });
        },
        setLoggingLevel: async wanted => (level = wanted),
        subscribeResource: async ({ uri }) => (subscription = await client.listen({ resourceSubscriptions: [uri] })),
        unsubscribeResource: () => subscription.close(),
        // Roots are asked for whenever they are needed.
        sendRootsListChanged: async () => {}
    });
    return {
        ...face,
        lacks: {
            ping: 'this era has none',
            error_unknown_method: 'this client takes the 404 for a failure of the transport'
        },
        cancelsByClosing: true,
        // It sends `cancelled` too, without the headers that rmcp wants to see on it.
        forgives: /missing required Mcp-Method header/,
        callTool: (params, options) =>
            client.callTool({ ...params, ...(level && { _meta: { [sdk.LOG_LEVEL_META_KEY]: level } }) }, options),
        handshake: () => {
            const { capabilities, instructions, _meta } = client.getDiscoverResult();
            const serverInfo = _meta[sdk.SERVER_INFO_META_KEY];
            return { protocolVersion: client.getNegotiatedProtocolVersion(), capabilities, serverInfo, instructions };
        }
    };
}

/** mcp-remote in its default mode: it tries Streamable HTTP first and falls back when told 404 or 405. */
async function remote(name) {
    const sdk = await first('sdk-1.32.2', name);
    const { StdioClientTransport } = require('sdk-1.32.2/client/stdio.js');
    const program = join(dirname(require.resolve('mcp-remote/package.json')), 'dist/proxy.js');
    const headers = Object.entries(HEADERS).flatMap(([header, value]) => ['--header', `${header}:${value}`]);
    return {
        ...sdk,
        lacks: { ten_mebibyte_result: 'stdio of the SDK 1.32.2 takes less than 10 MiB' },
        transport(_, url) {
            const home = mkdtempSync(join(tmpdir(), 'interop-mcp-remote-'));
            process.on('exit', () => rmSync(home, { recursive: true, force: true }));
            return new StdioClientTransport({
                command: process.execPath,
                args: [program, url, '--allow-http', ...headers],
                env: { ...process.env, MCP_REMOTE_CONFIG_DIR: home },
                stderr: 'ignore'
            });
        }
    };
}

/** The clients by the names that the runner gives them. */
export const clients = {
    'typescript-1.8.0': name => first('sdk-1.8.0', name),
    'typescript-1.32.2': name => first('sdk-1.32.2', name),
    'typescript-2.4.0': name => second(name),
    'typescript-2.4.0-auto': name => second(name, { mode: 'auto' }),
    'typescript-2.4.0-modern': modern,
    'mcp-remote-0.15.1': remote
};
