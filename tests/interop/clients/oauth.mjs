// A legacy TypeScript client that logs in as its SDK does, told what to do line by line:
//
//     node oauth.mjs VERSION URL NAME
//
// Promises: it is written as the SDK's own example is (an OAuthClientProvider that keeps things in memory, a callback on
// loopback, `finishAuth` with the code, and after a login that interrupted a call, that call again), for every version
// alike. Each line on stdin is {"do": "connect"} or {"do": "call", "tool": NAME}, and is answered by one
// line, {"works": text}, {"error": text} or {"hangs": true}; before that, {"open": url} stands for a browser that opens.
// It ends with its stdin.

import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { require } from '../packages/packages.mjs';

/** After this long without an answer, none is expected. */
const PATIENCE_MS = 8_000;

const [version, url, name] = process.argv.slice(2);
// As modules: the SDK 1.8 cannot be required, and `require.resolve` finds the other flavour only.
const load = path =>
    import(pathToFileURL(require.resolve(`sdk-${version}/${path}`).replace('/dist/cjs/', '/dist/esm/')));
const [{ Client }, { SSEClientTransport }, { UnauthorizedError }] = await Promise.all(
    ['client/index.js', 'client/sse.js', 'client/auth.js'].map(load)
);

const say = line => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Codes that the browser brought, or whoever waits for the next. */
const arrived = [];
let waiting;
const callback = createServer((request, response) => {
    const query = new URL(request.url, 'http://localhost').searchParams;
    response.end('Logged in; this window can be closed.');
    arrived.push(query);
    waiting?.();
});
await new Promise(resolve => callback.listen(0, '127.0.0.1', resolve));
const redirectUrl = `http://127.0.0.1:${callback.address().port}/callback`;

async function nextCode() {
    if (!arrived.length) await new Promise(resolve => (waiting = resolve));
    const query = arrived.shift();
    if (query.has('error')) throw new Error(`the login ended with ${query.get('error')}`);
    return query.get('code');
}

const kept = {};
const provider = {
    redirectUrl,
    clientMetadata: {
        client_name: name,
        redirect_uris: [redirectUrl],
        grant_types: ['authorization_code', 'refresh_token'],
        response_types: ['code'],
        token_endpoint_auth_method: 'none'
    },
    clientInformation: () => kept.client,
    saveClientInformation: information => void (kept.client = information),
    tokens: () => kept.tokens,
    saveTokens: tokens => void (kept.tokens = tokens),
    codeVerifier: () => kept.verifier,
    saveCodeVerifier: verifier => void (kept.verifier = verifier),
    redirectToAuthorization: address => say({ open: address.href }),
    invalidateCredentials(scope) {
        if (scope === 'all' || scope === 'tokens') delete kept.tokens;
        if (scope === 'all' || scope === 'client') delete kept.client;
        if (scope === 'all' || scope === 'verifier') delete kept.verifier;
    }
};

let client;
let transport;

async function connect() {
    for (let attempt = 0; ; attempt++) {
        client = new Client({ name, version: '1.0.0' }, { capabilities: {} });
        transport = new SSEClientTransport(new URL(url), { authProvider: provider });
        try {
            await client.connect(transport);
            return 'connected';
        } catch (error) {
            if (!(error instanceof UnauthorizedError) || attempt) throw error;
            await transport.finishAuth(await nextCode());
        }
    }
}

async function call({ tool }) {
    const once = () => client.callTool({ name: tool, arguments: {} });
    const result = await once().catch(async error => {
        if (!(error instanceof UnauthorizedError)) throw error;
        await transport.finishAuth(await nextCode());
        return once();
    });
    return result.content[0].text;
}

async function within(promise) {
    let timer;
    const patience = new Promise(resolve => (timer = setTimeout(resolve, PATIENCE_MS, { hangs: true })));
    const answer = promise.then(works => ({ works }), error => ({ error: `${error.name}: ${error.message}` }));
    const said = await Promise.race([answer, patience]);
    clearTimeout(timer);
    return said;
}

for await (const line of createInterface({ input: process.stdin })) {
    const wanted = JSON.parse(line);
    say(await within(wanted.do === 'connect' ? connect() : call(wanted)));
}
process.exit(0);
