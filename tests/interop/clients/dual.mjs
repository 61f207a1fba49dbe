// Clients that speak both transports and were given one URL, as their programs do it: which transport they end up on, and
// that it works. `node dual.mjs typescript|vscode URL`.
//
// The trap: what VS Code falls back with. Its GET has `Accept: text/event-stream` and nothing else that would tell it from a
// GET of Streamable HTTP, so a proxy that upgrades must not take it for one.

import { require } from '../packages/packages.mjs';

const [kind, url] = process.argv.slice(2);
const ECHO = { name: 'echo', arguments: { message: 'both ways' } };
const initialize = {
    jsonrpc: '2.0',
    id: 0,
    method: 'initialize',
    params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'interop-dual', version: '1.0.0' } }
};

/** The SDK's own example (`streamableHttpWithSseFallbackClient`): Streamable HTTP, and SSE when that fails. */
async function typescript() {
    const { Client } = require('sdk-1.32.2/client/index.js');
    const { StreamableHTTPClientTransport } = require('sdk-1.32.2/client/streamableHttp.js');
    const { SSEClientTransport } = require('sdk-1.32.2/client/sse.js');
    for (const [transport, Transport] of [['http', StreamableHTTPClientTransport], ['sse', SSEClientTransport]]) {
        try {
            const client = new Client({ name: 'interop-dual', version: '1.0.0' }, { capabilities: {} });
            await client.connect(new Transport(new URL(url)));
            const text = (await client.callTool(ECHO)).content[0].text;
            await client.close();
            return { transport, text };
        } catch (error) {
            if (transport === 'sse') throw error;
        }
    }
}

/** As VS Code's `McpHTTPHandle`: a POST; on any 4xx but 401 and 403 a GET of HTTP+SSE, with `Accept` alone. */
async function vscode() {
    const headers = { Accept: 'text/event-stream, application/json', 'Content-Type': 'application/json' };
    const greeted = await fetch(url, { method: 'POST', headers, body: JSON.stringify(initialize) });
    if (greeted.status >= 400 && greeted.status < 500 && ![401, 403].includes(greeted.status)) return legacy();
    const session = greeted.headers.get('mcp-session-id');
    await greeted.text();
    const own = { ...headers, ...(session && { 'Mcp-Session-Id': session }), 'MCP-Protocol-Version': '2025-06-18' };
    const post = body => fetch(url, { method: 'POST', headers: own, body: JSON.stringify(body) });
    await post({ jsonrpc: '2.0', method: 'notifications/initialized' });
    // Its stream for what happens outside of calls; 4xx means that there is none.
    const stop = new AbortController();
    const { Accept, ...rest } = own;
    const stream = await fetch(url, { headers: { ...rest, Accept: 'text/event-stream' }, signal: stop.signal });
    const answer = await (await post({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: ECHO })).text();
    stop.abort();
    if (!stream.ok && stream.status >= 500) throw new Error(`no stream: ${stream.status}`);
    await fetch(url, { method: 'DELETE', headers: own });
    const data = answer.startsWith('{') ? answer : answer.split('\n').findLast(line => line.startsWith('data: ')).slice(6);
    return { transport: 'http', text: JSON.parse(data).result.content[0].text };
}

async function legacy() {
    const stream = await fetch(url, { headers: { Accept: 'text/event-stream' } });
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    const data = async () => {
        for (;;) {
            const end = text.indexOf('\n\n');
            if (end >= 0) {
                const event = text.slice(0, end);
                text = text.slice(end + 2);
                const line = event.split('\n').find(line => line.startsWith('data: '));
                if (line) return line.slice(6);
                continue;
            }
            const { value, done } = await reader.read();
            if (done) throw new Error('the stream is over');
            text += value;
        }
    };
    const endpoint = new URL(await data(), url);
    const headers = { 'Content-Type': 'application/json' };
    const post = body => fetch(endpoint, { method: 'POST', headers, body: JSON.stringify(body) });
    await post(initialize);
    await data();
    await post({ jsonrpc: '2.0', method: 'notifications/initialized' });
    await post({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: ECHO });
    const answer = JSON.parse(await data());
    return { transport: 'sse', text: answer.result.content[0].text };
}

console.log(JSON.stringify(await { typescript, vscode }[kind]()));
process.exit(0);
