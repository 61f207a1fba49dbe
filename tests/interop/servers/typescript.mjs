// A server of the TypeScript packages 2.x, as their documentation starts: `createMcpHandler` in its default mode, which
// serves clients of the session era without sessions, each request by a fresh instance:
//
//     node typescript.mjs
//
// Promises: exactly one line on stdout, `LISTENING http://127.0.0.1:PORT`, once connections are accepted (Streamable
// HTTP at /mcp, no HTTP+SSE), on a port that the kernel chose; tools, prompts and answers named and worded as in
// python_server.py; and an end when stdin reaches EOF, so that a test which drops the pipe, or dies, leaves nothing
// behind. Stdin must therefore be a pipe that is held open: /dev/null ends it at once.
//
// The trap: nothing can be remembered of a client, nor can it be asked, in this mode. The tools that would do so are
// there all the same, so that a control can find them failing.

import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { require } from '../packages/packages.mjs';

const { McpServer, ResourceTemplate, completable, createMcpHandler } = require('@modelcontextprotocol/server');
const { localhostHostValidation, localhostOriginValidation, toNodeHandler } = require('@modelcontextprotocol/node');
const { z } = require('zod');

const LEVELS = ['debug', 'info', 'notice', 'warning', 'error', 'critical', 'alert', 'emergency'];
const TEAMS = { Engineering: ['Alice', 'Bob', 'Charlie'], Sales: ['David', 'Eve', 'Frank'] };
const WATCHED = 'interop://watched';

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
    const operation = { inputSchema: z.object({ duration: z.number(), steps: z.number() }) };
    server.registerTool('trigger-long-running-operation', operation, async ({ duration, steps }, ctx) => {
        for (let progress = 1; progress <= steps; progress += 1) {
            await sleep((duration * 1000) / steps); // the length of the operation, nobody is waited for
            const params = { progressToken: ctx.mcpReq._meta.progressToken, progress, total: steps };
            await ctx.mcpReq.notify({ method: 'notifications/progress', params });
        }
        return text(`Long running operation completed. Duration: ${duration} seconds, Steps: ${steps}.`);
    });
    server.registerTool('log', {}, async ctx => {
        for (const level of LEVELS) await ctx.mcpReq.log(level, `${level} message`, 'interop');
        return text(`logged ${LEVELS.length}`);
    });
}

/** Tools that need a session: this mode has none. */
function addSessionTools(server) {
    server.registerTool('touch-resource', {}, async () => {
        await server.server.sendResourceUpdated({ uri: WATCHED });
        return text('told');
    });
    server.registerTool('wait-until-cancelled', {}, async ctx => {
        const params = { progressToken: ctx.mcpReq._meta.progressToken, progress: 1, total: 2 };
        await ctx.mcpReq.notify({ method: 'notifications/progress', params });
        await new Promise((_, reject) => ctx.mcpReq.signal.addEventListener('abort', reject));
    });
    server.registerTool('was-cancelled', {}, () => text('not cancelled'));
    const named = { inputSchema: z.object({ name: z.string() }) };
    for (const name of ['add-tool', 'remove-tool']) {
        server.registerTool(name, named, async () => {
            await server.sendToolListChanged();
            return text('told');
        });
    }
    const sampling = { inputSchema: z.object({ prompt: z.string(), maxTokens: z.number() }) };
    server.registerTool('trigger-sampling-request', sampling, async ({ prompt, maxTokens }, ctx) => {
        const messages = [{ role: 'user', content: { type: 'text', text: prompt } }];
        return text(JSON.stringify(await ctx.mcpReq.requestSampling({ messages, maxTokens })));
    });
    server.registerTool('trigger-elicitation-request', {}, async ctx => {
        const requestedSchema = { type: 'object', properties: { name: { type: 'string' } } };
        return text(JSON.stringify(await ctx.mcpReq.elicitInput({ message: 'Please', requestedSchema })));
    });
    server.registerTool('get-roots-list', {}, async ctx =>
        text(JSON.stringify(await ctx.mcpReq.send({ method: 'roots/list' })))
    );
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
    const options = { capabilities: { logging: {} }, instructions: 'A server for interop tests.' };
    const server = new McpServer({ name: 'interop-typescript', version: '1.0.0' }, options);
    addPlainTools(server);
    addSessionTools(server);
    addResourcesAndPrompts(server);
    return server;
}

const handle = toNodeHandler(createMcpHandler(build));
const [validateHost, validateOrigin] = [localhostHostValidation(), localhostOriginValidation()];
const http = createServer((request, response) => {
    if (!validateHost(request, response) || !validateOrigin(request, response)) return;
    if (request.url !== '/mcp') response.writeHead(404).end('Not found');
    else handle(request, response);
});
http.listen(0, '127.0.0.1', () => process.stdout.write(`LISTENING http://127.0.0.1:${http.address().port}\n`));

for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
process.stdin.resume();
