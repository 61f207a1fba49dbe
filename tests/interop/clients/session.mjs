// The legacy client of conversation.mjs: the TypeScript SDK's `Client` over `SSEClientTransport`, what it answers when
// the server asks, everything it received, and summaries that come out the same on every run.
//
// Promises: every message is noted as it left the transport, before the SDK looks at it, because the SDK drops some
// that the steps want to judge: progress that comes together with its result, answers to cancelled calls.

import { createHash } from 'node:crypto';
import { require } from '../packages.mjs';

const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { SSEClientTransport } = require('@modelcontextprotocol/sdk/client/sse.js');
const types = require('@modelcontextprotocol/sdk/types.js');

/** How long one step may take. */
export const DEADLINE_MS = 20_000;

// ---- Summaries

export const sha256 = data => createHash('sha256').update(data).digest('hex');

/** JSON with sorted keys, so that equal values have equal text. */
export const canonical = value =>
    JSON.stringify(value, (_, inner) =>
        inner && typeof inner === 'object' && !Array.isArray(inner)
            ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
            : inner
    );

/** Takes out what differs between two runs. */
export const plain = text =>
    text
        .replace(/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, '<id>')
        .replace(/http:\/\/(127\.0\.0\.1|localhost):\d+[^\s"]*/g, '<url>')
        .replace(/created at .*/g, 'created at <time>');

/** Short texts to read, long ones by their digest. */
export const brief = text =>
    text.length <= 300 ? plain(text) : { length: text.length, sha256: sha256(plain(text)) };

/** Names to read, and a digest by which any other change of the list is noticed. */
export const listed = (items, key) => ({
    names: items.map(item => item[key]).sort(),
    sha256: sha256(canonical(items.toSorted((a, b) => (a[key] < b[key] ? -1 : 1))))
});

/** The result of a tool call. */
export const answer = result => ({
    ...(result.isError && { isError: true }),
    text: brief(result.content.map(part => part.text).join('\n')),
    ...(result.structuredContent && { structured: result.structuredContent })
});

export const failure = error => ({
    ...(error.code !== undefined && { code: error.code }),
    error: brief(error.message ?? String(error))
});

// ---- What was seen, and waiting for it

/** Every message that left the transport, in order. */
export const received = [];
/** Why the cancellation step cancels; the SDK cancels too, with other words, what got no answer in time. */
export const CANCEL_REASON = 'enough';
/** Ids of the calls that this step cancelled. */
export const cancelled = new Set();
/** Errors of the transport or the protocol that no step asked for. */
export const troubles = [];
/** To be called when something arrives. */
const waiting = new Set();

/** The first message since `from` that fits; the deadline of the step ends the wait. */
export async function arrival(fits, from = 0) {
    for (;;) {
        const found = received.slice(from).find(fits);
        if (found) return found;
        await new Promise(resolve => waiting.add(resolve));
    }
}

export const isLog = pattern => message =>
    message.method === 'notifications/message' && pattern.test(String(message.params.data));

/** Only results count: Python answers a cancelled call natively, with the error "Request cancelled". */
export const noLateResult = () => !received.some(message => cancelled.has(message.id) && message.result);

// ---- The client and what it answers

/** What the client answers when asked; steps change it. */
export const answers = {
    roots: [{ uri: 'file:///interop/one', name: 'one' }],
    elicitation: { action: 'accept', content: { name: 'Ada', check: true, integer: 7 } }
};
/** What the server asked. */
export const asked = { sampling: [], elicitation: [] };

/** The client, all capabilities declared: server-everything hides the tools for the others. */
export const client = new Client(
    { name: 'interop-ts', version: '1.0.0' },
    { capabilities: { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } } }
);

client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => {
    const prompt = params.messages[0].content.text;
    asked.sampling.push({ prompt, system: params.systemPrompt, maxTokens: params.maxTokens });
    const content = { type: 'text', text: `Answer to: ${prompt}` };
    return { role: 'assistant', model: 'interop-model', stopReason: 'endTurn', content };
});
client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => {
    asked.elicitation.push({ message: params.message, schema: sha256(canonical(params.requestedSchema)) });
    return answers.elicitation;
});
client.setRequestHandler(types.ListRootsRequestSchema, () => ({ roots: answers.roots }));
client.onerror = error => {
    // Natively, progress and Python's "Request cancelled" do arrive for cancelled calls: no trouble.
    if (!/unknown (token|message ID)/.test(error.message)) troubles.push(plain(error.message));
};

/** Connects the client; what the transport carries is noted from the first message on. */
export async function connect(url) {
    const transport = new SSEClientTransport(new URL(url), {
        requestInit: { headers: { Authorization: 'Bearer interop-token', 'X-Interop': 'yes' } }
    });
    transport.onmessage = message => {
        received.push(message);
        for (const wake of waiting) wake();
        waiting.clear();
    };
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
        if (message.params?.reason === CANCEL_REASON) cancelled.add(message.params.requestId);
        return send(message, options);
    };
    await client.connect(transport, { timeout: 2 * DEADLINE_MS });
}

/** A tool call; the deadline of the step ends it, not one of the SDK. */
export const call = (name, args = {}, options = {}) =>
    client.callTool({ name, arguments: args }, undefined, { timeout: 2 * DEADLINE_MS, ...options });

export const echo = async message => (await call('echo', { message })).content[0].text;
