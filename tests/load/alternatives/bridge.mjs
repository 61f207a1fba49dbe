// The npm library mcp-proxy as a bridge: HTTP+SSE in front, a Streamable HTTP server behind.
//
//     node bridge.mjs URL PORT
//
// As its README has it (`proxyServer`, `startHTTPServer`), with a connection to the server for every session, as it takes
// for what a server asks or tells one client. Its own command shares one among all, and has stdio behind it only.

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { Server } from '@modelcontextprotocol/server';
import { proxyServer, startHTTPServer } from 'mcp-proxy';

const [url, port] = process.argv.slice(2);
/** The connection to the server that belongs to a session. */
const clients = new WeakMap();

await startHTTPServer({
    host: '127.0.0.1',
    port: Number(port),
    async createServer() {
        const client = new Client({ name: 'bridge', version: '1' });
        await client.connect(new StreamableHTTPClientTransport(new URL(url)));
        const serverCapabilities = client.getServerCapabilities();
        const server = new Server(client.getServerVersion(), { capabilities: serverCapabilities });
        await proxyServer({ client, server, serverCapabilities });
        clients.set(server, client);
        return server;
    },
    onClose: (server) => clients.get(server)?.close(),
});
