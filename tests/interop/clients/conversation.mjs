// One whole conversation of a legacy client, as an official TypeScript client holds it:
//
//     node conversation.mjs CLIENT sse|http URL SERVER [lacking]
//
// CLIENT is a name of sdk.mjs, with `@VERSION` if it is to ask for another version of the protocol, SERVER one of profiles.json, which tells what the servers do differently; `http` is
// Streamable HTTP, for a control without the proxy. Promises: one JSON object a step on stdout,
// `{"step", "ok", "detail"}`, with details so plain that a native legacy server and the proxy before the same server's
// Streamable HTTP flavour give the same bytes: no times, ids or ports. A step that throws is `ok: false` with the
// normalised error, one whose detail says `false` to a check is so too, and the conversation goes on; no step outlives
// its deadline; the exit code is 0 whenever the end was reached. What the client or the server cannot do is not tried
// but told: `{"step", "skipped": why, "whose": "client"|"server"}`. With `lacking`, only what the profile says that the
// server lacks is tried, and shortly, so that the profile cannot go stale.
//
// The trap: what Streamable HTTP sends on another stream than the answer (updates, list_changed, server-everything's
// log messages) may arrive after it, so these are awaited and never expected in an order.

import { readFileSync } from 'node:fs';
import {
    CANCEL_REASON, DEADLINE_MS, answers, arrival, asked, cancelled, isLog, noLateResult, open, received, troubles
} from './session.mjs';
import { answer, brief, canonical, failure, listed, plain, sha256 } from './summaries.mjs';

const MEBIBYTE = 1024 * 1024;
const PARALLEL_CALLS = 50;
/** Enough for a server that can; what a server lacks is told by the wait for it. */
const LACKING_DEADLINE_MS = 2_000;
/** Characters that line-based and careless readers trip over. */
const ODD_TEXT =
    'line\u2028paragraph\u2029next\u0085bom\ufeffnul\u0000tab\tcrlf\r\n' +
    '"\\" \u00fc\u4e16\u{1f600}\u{1f469}\u200d\u{1f680}';
const LATER_TOOL = 'added-by-interop-ts';

const [kind, transport, url, server, only] = process.argv.slice(2);
const { tools, servers } = JSON.parse(readFileSync(new URL('profiles.json', import.meta.url), 'utf8'));
if (!servers[server]) {
    console.error('usage: node conversation.mjs CLIENT sse|http URL SERVER [lacking]');
    process.exit(2);
}
const straight = transport === 'http' && !kind.endsWith('-modern');
const profile = {
    ...tools[servers[server].tools],
    lacks: { ...servers[server].lacks, ...(straight && servers[server].lacks_in_the_session_era) }
};
const session = await open(kind, transport, url);
const { call, client, echo } = session;

async function initialize() {
    await session.connect();
    const { protocolVersion, capabilities, serverInfo, instructions } = session.handshake();
    return { protocolVersion, capabilities, serverInfo, instructions: instructions && brief(instructions) };
}

/** server-everything registers some tools only after `initialized`, and says so when it has. */
async function toolsList() {
    for (;;) {
        const from = received.length;
        const { tools } = await client.listTools();
        if (tools.some(tool => tool.name === 'trigger-sampling-request')) return listed(tools, 'name');
        await arrival(message => message.method === 'notifications/tools/list_changed', from);
    }
}

/** A word that must come back as it was sent. */
const echoed = word => async () => {
    const back = await echo(word);
    return { back, equal: back === `Echo: ${word}` };
};

/** The characters of a text as long as wanted, none of which repeats its neighbours' order. */
const long = length => sha256('seed').repeat(length / 64);

/** Both ways, and with a tool that tells what it got, so that two mistakes cannot undo each other. */
async function oneMebibyte() {
    const message = long(MEBIBYTE);
    const back = await echo(message);
    const there = profile.features.includes('digest') && answer(await call('digest', { message })).text;
    const arrived = !there || there.includes(sha256(message));
    return { sent: message.length, back: back.length, arrived, equal: back === `Echo: ${message}` };
}

/** Close to what servers take: 4 MiB. Where there is no `digest`, the echo tells whether it arrived. */
async function threeMebibyteRequest() {
    const message = long(3 * MEBIBYTE);
    if (!profile.features.includes('digest')) return { arrived: (await echo(message)) === `Echo: ${message}` };
    const { text } = answer(await call('digest', { message }));
    return { text, arrived: text.includes(sha256(message)) };
}

async function tenMebibyteResult() {
    const [{ text }] = (await call('long-text', { length: 10 * MEBIBYTE })).content;
    return { length: text.length, equal: text === long(10 * MEBIBYTE) };
}

async function progress() {
    const from = received.length;
    let callbacks = 0;
    const args = { duration: 0.5, steps: 5 };
    const result = await call('trigger-long-running-operation', args, { onprogress: () => (callbacks += 1) });
    const here = received.slice(from);
    const seen = here.filter(message => message.method === 'notifications/progress');
    const values = seen.map(({ params }) => [params.progress, params.total]);
    return {
        values,
        inOrder: values.every(([value], i) => i === 0 || value > values[i - 1][0]),
        beforeResult: seen.length > 0 && here.indexOf(seen.at(-1)) < here.findIndex(message => message.result),
        // How often is up to chance: the SDK forgets the callback with the result, before it handles the last one.
        callbackUsed: callbacks > 0,
        ...answer(result)
    };
}

/** The Python server logs one message a level on demand; server-everything a random one, and one a subscription. */
async function logging() {
    let from = received.length;
    if (profile.features.includes('log')) {
        await client.setLoggingLevel('warning');
        const result = await call('log');
        await arrival(isLog(/emergency/), from);
        const logs = received.slice(from).filter(isLog(/ message$/));
        return { logs: logs.map(({ params }) => [params.level, params.logger, params.data]), ...answer(result) };
    }
    await client.setLoggingLevel('debug');
    const started = answer(await call('toggle-simulated-logging'));
    const { params: random } = await arrival(isLog(/level.message/), from);
    const stopped = answer(await call('toggle-simulated-logging'));
    from = received.length;
    await client.subscribeResource({ uri: profile.watched });
    const { params: told } = await arrival(isLog(/^Received Subscribe/), from);
    await client.unsubscribeResource({ uri: profile.watched });
    const levelFitsText = random.data.toLowerCase().startsWith(random.level);
    return { levelFitsText, onSubscribe: [told.level, plain(told.data)], started, stopped };
}

async function sampling() {
    const result = answer(await call('trigger-sampling-request', { prompt: 'why?', maxTokens: 17 }));
    return { asked: asked.sampling, reached: asked.sampling.length === 1, ...result };
}

async function elicitation() {
    const accepted = answer(await call('trigger-elicitation-request'));
    answers.elicitation = { action: 'decline' };
    const declined = answer(await call('trigger-elicitation-request'));
    return { asked: asked.elicitation, reached: asked.elicitation.length === 2, accepted, declined };
}

/** server-everything caches the roots and fetches them anew when told of a change, which only its log shows. */
async function roots() {
    const before = answer(await call('get-roots-list'));
    answers.roots = [...answers.roots, { uri: 'file:///interop/two', name: 'two' }];
    const from = received.length;
    await client.sendRootsListChanged();
    if (profile.roots_log) await arrival(isLog(new RegExp(profile.roots_log)), from);
    return { before, reached: !before.isError, after: answer(await call('get-roots-list')) };
}

/** Two questions at once, one of them about roots, and then one that follows from an answer. */
async function questionsInRounds() {
    const from = asked.sampling.length;
    const result = answer(await call('ask-in-rounds'));
    return { asked: asked.sampling.slice(from), reached: asked.sampling.length === from + 2, ...result };
}

/** What is touched while nobody is subscribed must not be told; the echo gives it the time to come. */
async function subscription() {
    const from = received.length;
    const updates = () => received.slice(from).filter(message => message.method === 'notifications/resources/updated');
    const subscribe = () => client.subscribeResource({ uri: profile.watched });
    const unsubscribe = () => client.unsubscribeResource({ uri: profile.watched });
    const touch = async () => answer(await call(profile.watch_tool));
    await subscribe();
    const first = await touch();
    await arrival(() => updates().length === 1);
    await unsubscribe();
    const second = await touch();
    const told = { updated: updates()[0].params.uri, first, second };
    if (profile.watch_tool !== 'touch-resource') return told;
    await echo('is it quiet?');
    const quiet = updates().length === 1;
    await subscribe();
    const third = await touch();
    await arrival(() => updates().length > 1);
    await unsubscribe();
    return { ...told, quiet, third };
}

async function resourceRead() {
    const read = async uri => (await client.readResource({ uri })).contents[0];
    const contents = await Promise.all(profile.reads.map(read));
    return contents.map(({ uri, mimeType, text, blob }) => ({
        uri,
        mimeType,
        content: brief(text ?? Buffer.from(blob, 'base64').toString('latin1'))
    }));
}

async function promptGet() {
    const prompt = async (name, args) => (await client.getPrompt({ name, arguments: args })).messages;
    return {
        args: await prompt('args-prompt', { city: 'Z\u00fcrich', state: 'ZH' }),
        completable: await prompt('completable-prompt', { department: 'Sales', name: 'Eve' })
    };
}

async function completion() {
    const values = async (ref, argument, context) =>
        (await client.complete({ ref, argument, ...(context && { context }) })).completion.values;
    const prompt = { type: 'ref/prompt', name: 'completable-prompt' };
    return {
        department: await values(prompt, { name: 'department', value: 'E' }),
        name: await values(prompt, { name: 'name', value: '' }, { arguments: { department: 'Sales' } }),
        template: await values({ type: 'ref/resource', uri: profile.template }, profile.template_argument)
    };
}

/** The proof is a call that ends only after the cancelled one would have: by then an answer must have shown. */
async function cancellation() {
    const abort = new AbortController();
    const options = { signal: abort.signal, onprogress: () => abort.abort(CANCEL_REASON) };
    const outcome = await call(profile.cancel_call.name, profile.cancel_call.arguments, options).then(answer, failure);
    const proof = answer(await call(profile.cancel_proof.name, profile.cancel_proof.arguments));
    const after = await echo('still here');
    const rejected = 'error' in outcome && cancelled.size === (session.cancelsByClosing ? 0 : 1);
    const reached = proof.text !== 'not cancelled';
    return { outcome, rejected, proof, reached, noLateResult: noLateResult(), after };
}

async function parallelCalls() {
    const words = Array.from({ length: PARALLEL_CALLS }, (_, i) => `parallel ${i} ${sha256(String(i))}`);
    const texts = await Promise.all(words.map(echo));
    return { calls: texts.length, allMatched: texts.every((text, i) => text === `Echo: ${words[i]}`) };
}

async function toolsListChanged() {
    const isChange = message => message.method === 'notifications/tools/list_changed';
    const names = async () => (await client.listTools()).tools.map(tool => tool.name).sort();
    const before = await names();
    let from = received.length;
    const added = answer(await call('add-tool', { name: LATER_TOOL }));
    await arrival(isChange, from);
    const now = await names();
    const spoken = answer(await call(LATER_TOOL));
    from = received.length;
    await call('remove-tool', { name: LATER_TOOL });
    await arrival(isChange, from);
    const restored = canonical(await names()) === canonical(before);
    return { new: now.filter(name => !before.includes(name)), added, spoken, restored };
}

/** What the server says to something wrong: a JSON-RPC error of its own, or a tool result with `isError`. */
const refused = attempt => async () => {
    try {
        const result = await attempt();
        return { refused: result.isError === true, ...(result.content && answer(result)) };
    } catch (error) {
        if (!session.isServersError(error)) throw error;
        return failure(error);
    }
};

async function close() {
    // What goes wrong from here on is our own doing: closing aborts a POST whose answer is not read to its end.
    const before = [...troubles];
    await client.close();
    return { noLateResult: noLateResult(), untroubled: before.length === 0, troubles: before };
}

/** Name, what to do, and the feature of the profile that it takes. */
const steps = [
    ['initialize', initialize],
    ['ping', () => client.ping()],
    ['tools_list', toolsList],
    ['prompts_list', async () => listed((await client.listPrompts()).prompts, 'name')],
    ['resources_list', async () => listed((await client.listResources()).resources, 'uri')],
    ['resource_templates_list', async () => listed((await client.listResourceTemplates()).resourceTemplates, 'name')],
    ['echo', echoed('hello')],
    ['unicode', echoed(ODD_TEXT)],
    ['one_mebibyte', oneMebibyte],
    ['three_mebibyte_request', threeMebibyteRequest],
    ['ten_mebibyte_result', tenMebibyteResult, 'long-text'],
    ['structured_content', async () => answer(await call('get-structured-content', { location: 'New York' }))],
    ['progress', progress],
    ['logging', logging],
    ['sampling', sampling],
    ['elicitation', elicitation],
    ['roots', roots],
    ['questions_in_rounds', questionsInRounds, 'ask-in-rounds'],
    ['subscription', subscription],
    ['resource_read', resourceRead],
    ['prompt_get', promptGet],
    ['completion', completion],
    ['cancellation', cancellation],
    ['parallel_calls', parallelCalls],
    ['error_unknown_tool', refused(() => call('no-such-tool'))],
    ['error_invalid_arguments', refused(() => call('echo', { message: { not: 'text' } }))],
    ['error_invalid_params', refused(() => client.getPrompt({ name: 'args-prompt', arguments: {} }))],
    ['error_unknown_resource', refused(() => client.readResource({ uri: profile.unknown_resource }))],
    ['error_unknown_method', refused(session.unknownMethod)],
    ['mirrored_argument', async () => answer(await call('where', { region: 'Z\u00fcrich' })), 'where'],
    ['headers', async () => answer(await call('headers')), 'headers'],
    ['tools_list_changed', toolsListChanged, 'add-tool'],
    ['echo_after', echoed('goodbye')],
    ['close', close]
];

/** Why a step is not to be tried, if so. */
function skipped(step, feature) {
    if (session.lacks[step]) return { skipped: session.lacks[step], whose: 'client' };
    if (profile.lacks[step]) return { skipped: profile.lacks[step], whose: 'server' };
    if (feature && !profile.features.includes(feature)) return { skipped: 'it has no tool for that', whose: 'server' };
    return undefined;
}

/** The detail of a step, or its error when the time is up. */
async function inTime(run, limit) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`no end within ${limit} ms`)), limit);
    });
    try {
        return await Promise.race([run(), late]);
    } finally {
        clearTimeout(timer);
    }
}

async function lineOf(step, run, limit) {
    try {
        const detail = await inTime(run, limit);
        return { step, ok: !Object.values(detail).includes(false), detail };
    } catch (error) {
        return { step, ok: false, detail: failure(error) };
    }
}

/** Nothing but ASCII on stdout, so that no reader splits a line at U+2028. */
const ascii = text => text.replace(/[^ -~]/g, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
const print = line => process.stdout.write(`${ascii(JSON.stringify(line))}\n`);

if (only === 'lacking') {
    await inTime(session.connect, DEADLINE_MS);
    for (const [step, run] of steps) {
        if (step in profile.lacks) print(await lineOf(step, run, LACKING_DEADLINE_MS));
    }
} else {
    for (const [step, run, feature] of steps) {
        const why = skipped(step, feature);
        print(why ? { step, ...why } : await lineOf(step, run, DEADLINE_MS));
    }
}
process.exit(0);
