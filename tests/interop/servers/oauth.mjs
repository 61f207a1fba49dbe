// A protected server of the TypeScript SDK 1.32.2, as it was (HTTP+SSE at /sse and /messages) or upgraded (Streamable HTTP
// at /mcp):
//
//     node oauth.mjs native|upgraded --issuer URL [--origin URL] [--audience URL ...]
//
// Promises: the SDK's own `requireBearerAuth` and metadata routes, with tokens verified by introspection, so that one that
// is taken back is refused at once. Without --audience the SDK compares the token's resource with the server's own URL,
// exactly; with it, tokens for any of these are taken. `restricted` needs a scope more, and says so by HTTP 403. It says
// LISTENING as the other servers here, and ends with its stdin.

import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { require } from '../packages/packages.mjs';

const { createMcpExpressApp } = require('sdk-1.32.2/server/express.js');
const { InvalidTokenError } = require('sdk-1.32.2/server/auth/errors.js');
const { McpServer } = require('sdk-1.32.2/server/mcp.js');
const { SSEServerTransport } = require('sdk-1.32.2/server/sse.js');
const { StreamableHTTPServerTransport } = require('sdk-1.32.2/server/streamableHttp.js');
const { getOAuthProtectedResourceMetadataUrl, mcpAuthMetadataRouter } = require('sdk-1.32.2/server/auth/router.js');
const { requireBearerAuth } = require('sdk-1.32.2/server/auth/middleware/bearerAuth.js');

const options = {
    issuer: { type: 'string' },
    origin: { type: 'string' },
    audience: { type: 'string', multiple: true, default: [] }
};
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const isNative = positionals[0] === 'native';

/** How often each user's `count` ran. */
const counts = new Map();

function build() {
    const server = new McpServer({ name: 'interop-protected', version: '1.0.0' });
    const text = content => ({ content: [{ type: 'text', text: content }] });
    server.registerTool('restricted', { inputSchema: {} }, () => text('Restricted: done'));
    server.registerTool('count', { inputSchema: {} }, (_, { authInfo }) => {
        const user = authInfo.extra.sub;
        counts.set(user, (counts.get(user) ?? 0) + 1);
        return text(`Count: ${counts.get(user)}`);
    });
    return server;
}

async function verifyAccessToken(token) {
    const answer = await fetch(`${values.issuer}/introspect`, { method: 'POST', body: new URLSearchParams({ token }) });
    const told = await answer.json();
    if (!told.active) throw new InvalidTokenError('The token is unknown, expired or revoked');
    const { audience } = values;
    if (audience.length && !audience.includes(told.aud)) throw new InvalidTokenError('The token is for somebody else');
    const scopes = told.scope.split(' ');
    return {
        token,
        clientId: told.client_id,
        scopes,
        expiresAt: told.exp,
        resource: new URL(told.aud),
        extra: { sub: told.sub }
    };
}

function protect(app, resource, metadata) {
    app.use(
        mcpAuthMetadataRouter({ oauthMetadata: metadata, resourceServerUrl: resource, scopesSupported: ['mcp'] })
    );
    const guard = requiredScopes =>
        requireBearerAuth({
            verifier: { verifyAccessToken },
            requiredScopes,
            resourceMetadataUrl: getOAuthProtectedResourceMetadataUrl(resource),
            expectedResource: values.audience.length ? undefined : resource
        });
    const [plain, stepped] = [guard(['mcp']), guard(['mcp', 'admin'])];
    return [
        plain,
        (request, response, next) =>
            request.body?.params?.name === 'restricted' ? stepped(request, response, next) : next()
    ];
}

function serveNative(app, guards) {
    const sessions = new Map();
    app.get('/sse', ...guards, async (_, response) => {
        const transport = new SSEServerTransport('/messages', response);
        sessions.set(transport.sessionId, transport);
        response.on('close', () => sessions.delete(transport.sessionId));
        await build().connect(transport);
    });
    app.post('/messages', ...guards, async (request, response) => {
        const transport = sessions.get(request.query.sessionId);
        if (!transport) response.status(404).send('Session not found');
        else await transport.handlePostMessage(request, response, request.body);
    });
}

function serveUpgraded(app, guards) {
    const sessions = new Map();
    app.all('/mcp', ...guards, async (request, response) => {
        const id = request.headers['mcp-session-id'];
        let transport = sessions.get(id);
        if (!transport && id) return response.status(404).json({ error: 'Session not found' });
        if (!transport) {
            transport = new StreamableHTTPServerTransport({
                sessionIdGenerator: randomUUID,
                onsessioninitialized: opened => sessions.set(opened, transport),
                onsessionclosed: closed => sessions.delete(closed)
            });
            await build().connect(transport);
        }
        await transport.handleRequest(request, response, request.body);
    });
}

const app = createMcpExpressApp();
const http = createServer(app);
http.listen(0, '127.0.0.1', async () => {
    const address = `http://127.0.0.1:${http.address().port}`;
    const resource = new URL(isNative ? '/sse' : '/mcp', values.origin ?? address);
    const metadata = await (await fetch(`${values.issuer}/.well-known/oauth-authorization-server`)).json();
    const guards = protect(app, resource, metadata);
    if (isNative) serveNative(app, guards);
    else serveUpgraded(app, guards);
    process.stdout.write(`LISTENING ${address}\n`);
});

for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
process.stdin.resume();
