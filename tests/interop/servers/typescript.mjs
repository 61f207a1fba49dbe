// A server of the TypeScript packages 2.x, as their documentation starts: `createMcpHandler`, which makes a fresh
// instance for each request and speaks the era of 2026:
//
//     node typescript.mjs stateless|reject
//
// With `stateless`, its default, it serves clients of the session era too, without sessions; with `reject` it refuses
// them. Promises: exactly one line on stdout, `LISTENING http://127.0.0.1:PORT`, once connections are accepted
// (Streamable HTTP at /mcp, no HTTP+SSE), on a port that the kernel chose; tools, prompts and answers named and worded
// as in python_server.py; and an end when stdin reaches EOF, so that a test which drops the pipe, or dies, leaves
// nothing behind. Stdin must therefore be a pipe that is held open: /dev/null ends it at once.
//
// The trap: whatever is to outlast a request lives in the process, so run one conversation at a time against it (each
// removes what it added). Tools that ask the client do so in the way of 2026, by results; where the client is of the
// session era they fail, as nothing can be asked of it then.

import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { require } from '../packages/packages.mjs';

const {
    LOG_LEVEL_META_KEY, McpServer, ResourceTemplate, completable, createMcpHandler, createRequestStateCodec, inputRequired,
    inputResponse
} = require('@modelcontextprotocol/server');
const { localhostHostValidation, localhostOriginValidation, toNodeHandler } = require('@modelcontextprotocol/node');
const { z } = require('zod');

const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];
const TEAMS = { Engineering: ['Alice', 'Bob', 'Charlie'], Sales: ['David', 'Eve', 'Frank'] };
const WATCHED = 'interop://watched';

/** What outlasts a request. */
const state = { added: new Set(), cancelled: new AbortController() };

/** Signs what a call is to know again when it comes back with its answers. */
const requestState = createRequestStateCodec({ key: randomBytes(32) });

const sha256 = data => createHash('sha256').update(data).digest('hex');
const text = content => ({ content: [{ type: 'text', text: content }] });

/** Tools that need no more than their arguments and the request. */
function addPlainTools(server) {
    const message = z.object({ message: z.string() });
    server.registerTool('echo', { inputSchema: message }, args => text(`Echo: ${args.message}`));
    server.registerTool('digest', { inputSchema: message }, args => {
        const data = Buffer.from(args.message);
        return text(`${data.length} bytes, sha256 ${sha256(data)}`);
    });
    server.registerTool('long-text', { inputSchema: z.object({ length: z.number() }) }, ({ length }) =>
        text(sha256('seed').repeat(length / 64))
    );
    const weather = z.object({ temperature: z.number(), conditions: z.string(), humidity: z.number() });
    const structured = { inputSchema: z.object({ location: z.string() }), outputSchema: weather };
    server.registerTool('get-structured-content', structured, ({ location }) => {
        const structuredContent = { temperature: 33, conditions: `Cloudy in ${location}`, humidity: 82 };
        return { ...text(JSON.stringify(structuredContent)), structuredContent };
    });
    server.registerTool('headers', {}, ctx => {
        const seen = ctx.http.req.headers;
        return text(`authorization: ${seen.get('authorization')}, x-interop: ${seen.get('x-interop')}`);
    });
    // In the era of 2026 the request must bear this argument in a header too, and is refused if it does not.
    const region = z.string().meta({ 'x-mcp-header': 'Region' });
    server.registerTool('where', { inputSchema: z.object({ region }) }, args => text(`In ${args.region}`));
    const operation = { inputSchema: z.object({ duration: z.number(), steps: z.number() }) };
    server.registerTool('trigger-long-running-operation', operation, async ({ duration, steps }, ctx) => {
        for (let done = 1; done <= steps; done += 1) {
            await sleep((duration * 1000) / steps); // the length of the operation, nobody is waited for
            await progress(ctx, done, steps);
        }
        return text(`Long running operation completed. Duration: ${duration} seconds, Steps: ${steps}.`);
    });
    server.registerTool('log', {}, async ctx => {
        // In the session era `log` knows the level and nobody else does: every request has another instance.
        const wanted = LEVELS.slice(Math.max(0, LEVELS.indexOf(ctx.mcpReq.envelope?.[LOG_LEVEL_META_KEY])));
        for (const level of LEVELS) await ctx.mcpReq.log(level, `${level} message`, 'interop');
        return text(`logged ${wanted.length}`);
    });
}

function progress(ctx, done, total) {
    const params = { progressToken: ctx.mcpReq._meta.progressToken, progress: done, total };
    return ctx.mcpReq.notify({ method: 'notifications/progress', params });
}

/** Tools that tell of changes, and one that is there to be cancelled. */
function addToolsThatTell(server) {
    server.registerTool('touch-resource', {}, () => {
        handler.notify.resourceUpdated(WATCHED);
        return text('told');
    });
    server.registerTool('wait-until-cancelled', {}, async ctx => {
        state.cancelled = new AbortController();
        await progress(ctx, 1, 2);
        await new Promise(resolve => ctx.mcpReq.signal.addEventListener('abort', resolve));
        state.cancelled.abort();
        throw ctx.mcpReq.signal.reason;
    });
    // Proof from the server's side; waits, as the cancellation may be on its way still.
    server.registerTool('was-cancelled', {}, async () =>
        text(await sleep(5_000, 'not cancelled', { signal: state.cancelled.signal }).catch(() => 'cancelled'))
    );
    const named = { inputSchema: z.object({ name: z.string() }) };
    server.registerTool('add-tool', named, ({ name }) => {
        state.added.add(name);
        handler.notify.toolsChanged();
        return text(`added ${name}`);
    });
    server.registerTool('remove-tool', named, ({ name }) => {
        state.added.delete(name);
        handler.notify.toolsChanged();
        return text(`removed ${name}`);
    });
    for (const name of state.added) {
        server.registerTool(name, { description: 'Added later' }, () => text(`${name} speaking`));
    }
}

function questionToLlm(prompt, maxTokens) {
    const messages = [{ role: 'user', content: { type: 'text', text: `Resource sample context: ${prompt}` } }];
    return inputRequired.createMessage({ messages, maxTokens, systemPrompt: 'You are a helpful test server.' });
}

/** Tools that ask the client: the first call returns the question, and the second brings the answer. */
function addToolsThatAskTheClient(server) {
    const sampling = { inputSchema: z.object({ prompt: z.string(), maxTokens: z.number() }) };
    server.registerTool('trigger-sampling-request', sampling, ({ prompt, maxTokens }, ctx) => {
        const answer = inputResponse(ctx.mcpReq.inputResponses, 'sample');
        if (answer.kind === 'sampling') {
            const { content, model, role, stopReason } = answer.result; // each client has another order
            return text(`LLM sampling result: ${JSON.stringify({ role, content, model, stopReason })}`);
        }
        return inputRequired({ inputRequests: { sample: questionToLlm(prompt, maxTokens) } });
    });
    server.registerTool('trigger-elicitation-request', {}, async ctx => {
        const answer = inputResponse(ctx.mcpReq.inputResponses, 'form');
        if (answer.kind === 'elicit') {
            if (ctx.mcpReq.requestState()?.asked !== 'form') throw new Error('the state is not what was returned');
            return text(`${answer.action}: ${JSON.stringify(answer.content ?? null)}`);
        }
        const requestedSchema = {
            type: 'object',
            required: ['name'],
            properties: {
                name: { type: 'string', description: 'Your full, legal name' },
                integer: { type: 'integer', description: 'Your favorite integer', default: 42 }
            }
        };
        const message = 'Please provide inputs for the following fields:';
        return inputRequired({
            inputRequests: { form: inputRequired.elicit({ message, requestedSchema }) },
            requestState: await requestState.mint({ asked: 'form' })
        });
    });
    // Two questions at once, and then one that follows from an answer; the other answer is in the state by then.
    server.registerTool('ask-in-rounds', {}, async ctx => {
        const [one, roots, two] = ['one', 'roots', 'two'].map(key => inputResponse(ctx.mcpReq.inputResponses, key));
        if (two.kind === 'sampling') return text(`${two.result.content.text}; roots: ${ctx.mcpReq.requestState().roots}`);
        if (one.kind === 'sampling') {
            return inputRequired({
                inputRequests: { two: questionToLlm(`two, after ${one.result.content.text}`, 10) },
                requestState: await requestState.mint({ roots: roots.roots.map(({ uri }) => uri).join(' ') })
            });
        }
        return inputRequired({ inputRequests: { one: questionToLlm('one', 10), roots: inputRequired.listRoots() } });
    });
    server.registerTool('get-roots-list', {}, ctx => {
        const answer = inputResponse(ctx.mcpReq.inputResponses, 'roots');
        if (answer.kind === 'roots') return text(answer.roots.map(({ name, uri }) => `${name}: ${uri}`).join('\n'));
        return inputRequired({ inputRequests: { roots: inputRequired.listRoots() } });
    });
}

function addResourcesAndPrompts(server) {
    const plain = { mimeType: 'text/plain' };
    const contents = content => async uri => ({ contents: [{ uri: uri.href, ...content }] });
    const fixed = 'A fixed text, with \u00fcmlauts and\ntwo lines.\n'.repeat(40);
    server.registerResource('text', 'interop://text', plain, contents({ ...plain, text: fixed }));
    const bytes = Buffer.from(Array.from({ length: 512 }, (_, i) => i % 256)).toString('base64');
    const binary = { mimeType: 'application/octet-stream' };
    server.registerResource('blob', 'interop://blob', binary, contents({ ...binary, blob: bytes }));
    const always = { ...plain, text: 'Always the same.' };
    server.registerResource('watched', WATCHED, plain, contents(always));
    const template = new ResourceTemplate('interop://greeting/{name}', {
        list: undefined,
        complete: { name: value => ['Ada', 'Alan'].filter(name => name.startsWith(value)) }
    });
    server.registerResource('greeting', template, plain, async (uri, { name }) => ({
        contents: [{ uri: uri.href, ...plain, text: `Hello, ${name}!` }]
    }));

    const prompt = content => ({ messages: [{ role: 'user', content: { type: 'text', text: content } }] });
    const place = z.object({ city: z.string(), state: z.string().optional() });
    server.registerPrompt('args-prompt', { argsSchema: place }, ({ city, state }) =>
        prompt(`What's weather in ${city}${state ? `, ${state}` : ''}?`)
    );
    const starting = (values, value) => values.filter(one => one.startsWith(value));
    const person = z.object({
        department: completable(z.string(), value => starting(Object.keys(TEAMS), value)),
        name: completable(z.string(), (value, context) =>
            starting(TEAMS[context?.arguments?.department] ?? ['Ada', 'Alan'], value)
        )
    });
    server.registerPrompt('completable-prompt', { argsSchema: person }, ({ department, name }) =>
        prompt(`Please promote ${name} to the head of the ${department} team.`)
    );
}

function build() {
    const capabilities = {
        logging: {},
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        prompts: { listChanged: true }
    };
    const instructions = 'A server for interop tests.';
    const options = { capabilities, instructions, requestState: { verify: requestState.verify } };
    const server = new McpServer({ name: 'interop-typescript', version: '1.0.0' }, options);
    addPlainTools(server);
    addToolsThatTell(server);
    addToolsThatAskTheClient(server);
    addResourcesAndPrompts(server);
    return server;
}

const legacy = process.argv[2];
if (legacy !== 'stateless' && legacy !== 'reject') {
    console.error('usage: node typescript.mjs stateless|reject');
    process.exit(2);
}
const handler = createMcpHandler(build, { legacy });
const handle = toNodeHandler(handler);
const [validateHost, validateOrigin] = [localhostHostValidation(), localhostOriginValidation()];
const http = createServer((request, response) => {
    if (!validateHost(request, response) || !validateOrigin(request, response)) return;
    if (request.url !== '/mcp') response.writeHead(404).end('Not found');
    else handle(request, response);
});
http.listen(0, '127.0.0.1', () => process.stdout.write(`LISTENING http://127.0.0.1:${http.address().port}\n`));

for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
process.stdin.resume();
