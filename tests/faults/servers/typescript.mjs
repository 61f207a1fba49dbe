// An upgraded server to be killed, of the official TypeScript SDK 1.32.2, with sessions:
//
//     node typescript.mjs JOURNAL [--json] [--resumable] [--slow-initialize MS] [--port PORT]
//
// Promises: exactly one line on stdout, `LISTENING http://127.0.0.1:PORT`, once connections are accepted (Streamable
// HTTP at /mcp); what it does stands in the file JOURNAL, one line each and before it is done, so that nothing that was
// carried out is missing there after kill -9; and an end when stdin reaches EOF, so that a test which dies leaves
// nothing behind.
//
// Lines on stdin steer it: `release` answers the calls of `hold`, `forget` drops every session and closes nothing.

import { randomUUID } from 'node:crypto';
import { appendFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { require } from '../../interop/packages/packages.mjs';

const { McpServer } = require('sdk-1.32.2/server/mcp.js');
const { StreamableHTTPServerTransport } = require('sdk-1.32.2/server/streamableHttp.js');
const { z } = require('zod');

/** How often a call that takes long tells its progress. */
const PROGRESS_MS = 100;

const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        json: { type: 'boolean', default: false },
        resumable: { type: 'boolean', default: false },
        'slow-initialize': { type: 'string', default: '0' },
        port: { type: 'string', default: '0' }
    }
});
const [journal] = positionals;

const write = (...words) => appendFileSync(journal, `${words.join(' ')}\n`);
const text = content => ({ content: [{ type: 'text', text: content }] });

/** To be called on `release`. */
const held = new Set();
/** Transports by session id. */
const sessions = new Map();

/** Keeps every event of a session, so that its streams can be resumed. */
class EventStore {
    events = [];

    async storeEvent(stream, message) {
        this.events.push({ id: `${stream}_${this.events.length}`, stream, message });
        return this.events.at(-1).id;
    }

    async getStreamIdForEventId(id) {
        return this.events.find(event => event.id === id)?.stream;
    }

    async replayEventsAfter(last, { send }) {
        const from = this.events.findIndex(event => event.id === last);
        const { stream } = this.events[from];
        for (const { id, stream: other, message } of this.events.slice(from + 1)) {
            if (other === stream && Object.keys(message).length > 0) await send(id, message);
        }
        return stream;
    }
}

/** The length of the call, with progress if it was asked for. */
async function work(ms, extra) {
    const progressToken = extra._meta?.progressToken;
    for (let done = 0; done < ms; done += PROGRESS_MS) {
        await sleep(Math.min(PROGRESS_MS, ms - done));
        if (progressToken === undefined) continue;
        const params = { progressToken, progress: done + PROGRESS_MS, total: ms };
        await extra.sendNotification({ method: 'notifications/progress', params });
    }
}

function build() {
    const server = new McpServer({ name: 'faults-typescript', version: '1.0.0' }, { capabilities: { logging: {} } });
    const counted = { token: z.string(), ms: z.number().default(0) };
    server.registerTool('count', { inputSchema: counted }, async ({ token, ms }, extra) => {
        write('run', token);
        extra.signal.addEventListener('abort', () => write('cancelled', token));
        await work(ms, extra);
        write('done', token, Date.now());
        return text(`counted ${token}`);
    });
    server.registerTool('hold', { inputSchema: { token: z.string() } }, async ({ token }, extra) => {
        write('run', token);
        const cancelled = new Promise(resolve => extra.signal.addEventListener('abort', resolve));
        cancelled.then(() => write('cancelled', token));
        await Promise.race([cancelled, new Promise(resolve => held.add(resolve))]);
        write('answered', token);
        return text(`held ${token}`);
    });
    const lengthy = { token: z.string(), length: z.number() };
    server.registerTool('long', { inputSchema: lengthy }, ({ token, length }) => {
        write('run', token);
        return text(`${token} ${'x'.repeat(length)}`);
    });
    server.server.oninitialized = () => write('initialized');
    const setLevel = require('sdk-1.32.2/types.js').SetLevelRequestSchema;
    server.server.setRequestHandler(setLevel, ({ params }) => {
        write('level', params.level);
        return {};
    });
    return server;
}

/** A session that is being opened. */
async function open() {
    const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: randomUUID,
        enableJsonResponse: options.json,
        eventStore: options.resumable ? new EventStore() : undefined,
        onsessioninitialized: id => sessions.set(id, transport),
        onsessionclosed: id => {
            write('deleted', id);
            sessions.delete(id);
        }
    });
    await build().connect(transport);
    return transport;
}

async function body(request) {
    const parts = [];
    for await (const part of request) parts.push(part);
    return parts.length ? JSON.parse(Buffer.concat(parts)) : undefined;
}

async function answer(request, response) {
    const message = request.method === 'POST' ? await body(request) : undefined;
    const id = request.headers['mcp-session-id'];
    if (message?.method === 'initialize' && id === undefined) {
        const { clientInfo, protocolVersion } = message.params;
        write('initialize', clientInfo.name, protocolVersion);
        response.on('close', () => write('initialize-over'));
        await sleep(Number(options['slow-initialize']));
        await (await open()).handleRequest(request, response, message);
        return;
    }
    const transport = sessions.get(id);
    if (transport) {
        await transport.handleRequest(request, response, message);
        return;
    }
    write('unknown-session', message?.method ?? request.method);
    const error = { code: -32001, message: 'Session not found' };
    response.writeHead(404, { 'content-type': 'application/json' });
    response.end(JSON.stringify({ jsonrpc: '2.0', error, id: null }));
}

const http = createServer((request, response) => {
    answer(request, response).catch(error => {
        write('failed', error.message);
        response.destroy();
    });
});
http.listen(Number(options.port), '127.0.0.1', () => {
    write('boot');
    process.stdout.write(`LISTENING http://127.0.0.1:${http.address().port}\n`);
});

const steering = createInterface({ input: process.stdin });
steering.on('line', line => {
    if (line === 'release') {
        for (const resolve of held) resolve();
        held.clear();
    }
    if (line === 'forget') sessions.clear();
});
steering.on('close', () => process.exit(0));
