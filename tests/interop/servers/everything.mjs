// server-everything, its real entry point unmodified, on a port that the kernel chose:
//
//     node everything.mjs sse|streamableHttp
//
// Promises: exactly one line on stdout, `LISTENING http://127.0.0.1:PORT`, once connections are accepted (SSE at
// /sse and /message, Streamable HTTP at /mcp); and an end when stdin reaches EOF, so that a test which drops the
// pipe, or dies, leaves nothing behind. Stdin must therefore be a pipe that is held open: /dev/null ends it at once.
//
// The server only takes PORT from the environment and never says which port it got. It runs in this very
// process, where the port can be read off its listening socket: with a child process we would have to guess a
// free port and could not tell our server from another process that took it first.

import { Server } from 'node:net';
import { pathToFileURL } from 'node:url';
import { require } from '../packages/packages.mjs';

const transport = process.argv[2];
if (transport !== 'sse' && transport !== 'streamableHttp') {
    console.error('usage: node everything.mjs sse|streamableHttp');
    process.exit(2);
}

// The Streamable HTTP flavour logs every request on stdout, which would fill a pipe that nobody reads any more.
console.log = console.error;

const listen = Server.prototype.listen;
Server.prototype.listen = function (...args) {
    this.once('listening', () => process.stdout.write(`LISTENING http://127.0.0.1:${this.address().port}\n`));
    return listen.apply(this, args);
};

for (const event of ['end', 'close', 'error']) process.stdin.on(event, () => process.exit(0));
process.stdin.resume();

// The entry point reads the transport from process.argv[2], as its own command line would have it.
process.env.PORT = '0';
await import(pathToFileURL(require.resolve('@modelcontextprotocol/server-everything/dist/index.js')));
