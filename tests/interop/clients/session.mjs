// The session of conversation.mjs: one of the clients of sdk.mjs, what it answers when the server asks, everything it
// received, and waiting for it.
//
// Promises: every message is noted as it left the transport, before the SDK looks at it, because the SDK drops some
// that the steps want to judge: progress that comes together with its result, answers to cancelled calls.

import { clients } from './sdk.mjs';
import { canonical, plain, sha256 } from './summaries.mjs';

/** How long one step may take. */
export const DEADLINE_MS = 20_000;

/** The name that the client gives itself. */
export const NAME = 'interop-ts';

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

function note(message) {
    received.push(message);
    for (const wake of waiting) wake();
    waiting.clear();
}

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

// ---- What the client answers

/** What the client answers when asked; steps change it. */
export const answers = {
    roots: [{ uri: 'file:///interop/one', name: 'one' }],
    elicitation: { action: 'accept', content: { name: 'Ada', check: true, integer: 7 } }
};
/** What the server asked. */
export const asked = { sampling: [], elicitation: [] };

function sample({ params }) {
    // 2025-11-25 allows a list of contents.
    const prompt = [params.messages[0].content].flat()[0].text;
    asked.sampling.push({ prompt, system: params.systemPrompt, maxTokens: params.maxTokens });
    const content = { type: 'text', text: `Answer to: ${prompt}` };
    return { role: 'assistant', model: 'interop-model', stopReason: 'endTurn', content };
}

function elicit({ params }) {
    asked.elicitation.push({ message: params.message, schema: sha256(canonical(params.requestedSchema)) });
    return answers.elicitation;
}

// ---- The session

/**
 * The session of the client `kind`, over `transport` (`sse` or `http`) to `url`; not yet connected. With
 * `CLIENT@VERSION`, the client is made to ask for that version of the protocol and not for its newest.
 */
export async function open(kind, transportKind, url) {
    const [name, version] = kind.split('@');
    const sdk = await clients[name](NAME);
    sdk.answerTo('sampling/createMessage', sample);
    sdk.answerTo('elicitation/create', elicit);
    sdk.answerTo('roots/list', () => ({ roots: answers.roots }));
    sdk.client.onerror = error => {
        // Natively, progress and Python's "Request cancelled" do arrive for cancelled calls: no trouble.
        if (/unknown (token|message ID)/.test(error.message) || sdk.forgives?.test(error.message)) return;
        troubles.push(plain(error.message));
    };
    const transport = noted(await sdk.transport(transportKind, url), version);
    /** A tool call; the deadline of the step ends it, not one of the SDK. */
    const call = (name, args = {}, options = {}) =>
        sdk.callTool({ name, arguments: args }, { timeout: 2 * DEADLINE_MS, ...options });
    return {
        client: sdk.client,
        lacks: { ...sdk.lacks, ...(version < '2025-06-18' && { elicitation: 'this version knows no elicitation' }) },
        isServersError: sdk.isServersError,
        unknownMethod: sdk.unknownMethod,
        /** Whether a call is cancelled by closing its stream, and not by a notification. */
        cancelsByClosing: sdk.cancelsByClosing ?? false,
        /** What the server told of itself. */
        handshake: sdk.handshake ?? (() => received.find(message => message.result?.protocolVersion).result),
        connect: () => sdk.client.connect(transport, { timeout: 2 * DEADLINE_MS }),
        call,
        echo: async message => (await call('echo', { message })).content[0].text
    };
}

/** The transport, with a copy of everything that it carries from the first message on, asking for `version` if given. */
function noted(transport, version) {
    let handler;
    const seen = new WeakSet();
    // An accessor, because the SDK 1.8 overwrites the callback that it finds, while later ones take it into their own
    // (hence `seen`), and the probe of 2.x puts one there for a while.
    Object.defineProperty(transport, 'onmessage', {
        get: () => handler,
        set(given) {
            handler = given && ((message, extra) => {
                if (!seen.has(message)) note(message);
                seen.add(message);
                given(message, extra);
            });
        }
    });
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
        if (message.params?.reason === CANCEL_REASON) cancelled.add(message.params.requestId);
        const asks = version && message.method === 'initialize';
        return send(asks ? { ...message, params: { ...message.params, protocolVersion: version } } : message, options);
    };
    return transport;
}
