// Many legacy clients of the official TypeScript SDK 1.32.2 in one process, told what to do line by line:
//
//     node typescript.mjs
//
// Promises: each line on stdin, `{"seq", "do", ...}`, is answered by one on stdout with the same `seq`, after 60 s at
// the latest, in whatever order they come to an end; and the process ends when stdin does. Every request that a client
// posts and every answer that comes for it is noted where it passes the transport, so that answers which the SDK would
// drop (doubled ones, strangers') are seen: `ledger` tells all of it.

import { setMaxListeners } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { require } from '../../interop/packages/packages.mjs';

const load = path =>
    import(pathToFileURL(require.resolve(`sdk-1.32.2/${path}`).replace('/dist/cjs/', '/dist/esm/')));
const { Client } = await load('client/index.js');
const { SSEClientTransport } = await load('client/sse.js');

const COMMAND_MS = 60_000;
const CALL_MS = 20_000;
/** How long a call of `load` may take: longer than a client is away, and a server down, on a busy machine. */
const LOAD_CALL_MS = 30_000;
/** Every so many calls of `load` one takes longer, so that some are running whenever something breaks. */
const SLOW_ONE_IN = 5;
const SLOW_MS = 1_500;

/** One client, and all that passed between it and its transport. */
class Person {
    constructor(name, token) {
        this.name = name;
        this.token = token;
        /** Requests in the order of their POST: what became of it, and the answers that came. */
        this.requests = [];
        this.byId = new Map();
        /** Answers under an id that this client never posted. */
        this.strangers = [];
        /** Methods of the notifications that came. */
        this.notifications = [];
        /** Endpoint events: the first stream is 1. */
        this.streams = 0;
        /** The last stream on which a request was posted that got a result. */
        this.served = 0;
        /** Status codes of the GETs, or why there was none. */
        this.gets = [];
        this.troubles = [];
        this.calls = 0;
    }

    async connect(url) {
        const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
        const transport = new SSEClientTransport(new URL(url), {
            requestInit: { headers },
            fetch: (target, init) => this.fetch(target, init)
        });
        let endpoint;
        Object.defineProperty(transport, '_endpoint', {
            get: () => endpoint,
            set: given => {
                endpoint = given;
                this.streams += 1;
            }
        });
        // The SDK takes the callback that it finds into its own.
        transport.onmessage = message => this.received(message);
        transport.onerror = error => this.troubles.push(error.message);
        this.client = new Client({ name: this.name, version: '1.0.0' });
        await this.client.connect(transport, { timeout: CALL_MS });
    }

    async fetch(target, init) {
        if (init?.method !== 'POST') {
            return this.noting(status => this.gets.push(status), fetch(target, init));
        }
        const message = JSON.parse(init.body);
        if (message.method === undefined || message.id === undefined) return fetch(target, init);
        const { id, method, params } = message;
        const token = params?.arguments?.token;
        const entry = { id, method, token, stream: this.streams, posted: undefined, answers: [] };
        this.requests.push(entry);
        this.byId.set(id, entry);
        return this.noting(status => (entry.posted = status), fetch(target, init));
    }

    async noting(note, fetching) {
        try {
            const response = await fetching;
            note(response.status);
            return response;
        } catch (error) {
            note(`${error.message}: ${error.cause?.code}`);
            throw error;
        }
    }

    received(message) {
        if (message.method !== undefined) {
            if (message.id === undefined) this.notifications.push(message.method);
            return;
        }
        const entry = this.byId.get(message.id);
        if (!entry) {
            this.strangers.push(message);
            return;
        }
        const { result, error } = message;
        if (error) entry.answers.push({ error });
        else {
            entry.answers.push({ mine: !entry.token || result.content[0].text.includes(entry.token) });
            this.served = Math.max(this.served, entry.stream);
        }
    }

    /** A tool call, whose token is told apart from all others. */
    async call(tool, args, ms = CALL_MS) {
        const options = { timeout: ms, onprogress: () => {} };
        const result = await this.client.callTool({ name: tool, arguments: args }, undefined, options);
        return result.content[0].text;
    }

    /** Calls one after the other until `stopped`, come what may. */
    async work(pauseMs, stopped) {
        while (!stopped.aborted) {
            this.calls += 1;
            const args = { token: `${this.name}-${this.calls}`, ms: this.calls % SLOW_ONE_IN ? 0 : SLOW_MS };
            await this.call('count', args, LOAD_CALL_MS).catch(() => {});
            await sleep(pauseMs * (0.5 + Math.random()), undefined, { signal: stopped }).catch(() => {});
        }
    }

    account() {
        const { requests, strangers, notifications, streams, gets, troubles } = this;
        return { requests, strangers, notifications, streams, gets, troubles };
    }
}

const people = new Map();
/** What `load` started and `stop` ends. */
let loads = [];
let stopping = new AbortController();

const commands = {
    async connect({ client, url, token }) {
        const person = new Person(client, token);
        people.set(client, person);
        await person.connect(url);
        return {};
    },
    async call({ client, tool, args, ms }) {
        return { text: await people.get(client).call(tool, args, ms) };
    },
    async list({ client }) {
        return { tools: (await people.get(client).client.listTools()).tools.map(tool => tool.name) };
    },
    async level({ client, level }) {
        await people.get(client).client.setLoggingLevel(level);
        return {};
    },
    async load({ pause }) {
        setMaxListeners(0, stopping.signal);
        loads = [...people.values()].map(person => person.work(pause, stopping.signal));
        return {};
    },
    async stop() {
        stopping.abort();
        await Promise.all(loads);
        stopping = new AbortController();
        return { calls: [...people.values()].reduce((sum, person) => sum + person.calls, 0) };
    },
    async streams() {
        const of = what => Object.fromEntries([...people].map(([name, person]) => [name, person[what]]));
        return { streams: of('streams'), served: of('served') };
    },
    async ledger() {
        return { clients: Object.fromEntries([...people].map(([name, person]) => [name, person.account()])) };
    },
    async close({ client }) {
        await people.get(client).client.close();
        return {};
    }
};

function failure(error) {
    return { failed: { code: error.code, message: error.message, data: error.data } };
}

async function obey({ seq, do: what, ...args }) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no end of ${what} within ${COMMAND_MS} ms`)), COMMAND_MS);
    });
    const done = await Promise.race([commands[what](args), late]).catch(failure);
    clearTimeout(timer);
    process.stdout.write(`${JSON.stringify({ seq, ...done })}\n`);
}

const orders = createInterface({ input: process.stdin });
orders.on('line', line => void obey(JSON.parse(line)));
orders.on('close', () => process.exit(0));
