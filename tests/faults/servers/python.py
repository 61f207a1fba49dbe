"""An upgraded server to be killed, of the official Python SDK (FastMCP of mcp 1.30.0), with sessions:

    python python.py JOURNAL [--json] [--port PORT]

Promises: as of typescript.mjs in this folder: one line on stdout, what it does in the file JOURNAL before it is done,
an end with stdin. The tools `count` and `hold` are the same; `release` on stdin answers the calls of `hold`.
"""

import argparse
import os
import socket
import sys
import threading

import anyio
import uvicorn
from mcp.server.fastmcp import Context, FastMCP

PROGRESS_S = 0.1
"""How often a call that takes long tells its progress."""


class Journal:
    """A file that is complete whenever the process ends."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, *words: str) -> None:
        os.write(self._file, (" ".join(words) + "\n").encode())


def build(journal: Journal, json_response: bool, released: threading.Event) -> FastMCP:
    server = FastMCP("faults-python", json_response=json_response)

    @server.tool(structured_output=False)
    async def count(token: str, ctx: Context, ms: float = 0) -> str:
        journal.write("run", token)
        steps = int(ms / 1000 / PROGRESS_S)
        try:
            for done in range(steps):
                await anyio.sleep(PROGRESS_S)  # the length of the call, nobody is waited for
                await ctx.report_progress(done + 1, steps)
        except anyio.get_cancelled_exc_class():
            journal.write("cancelled", token)
            raise
        return f"counted {token}"

    @server.tool(structured_output=False)
    async def hold(token: str) -> str:
        journal.write("run", token)
        try:
            while not released.is_set():
                await anyio.sleep(PROGRESS_S)
        except anyio.get_cancelled_exc_class():
            journal.write("cancelled", token)
            raise
        return f"held {token}"

    return server


class AnnouncingServer(uvicorn.Server):
    """uvicorn that says when it accepts."""

    journal: Journal

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = sockets[0].getsockname()
        self.journal.write("boot")
        print(f"LISTENING http://{host}:{port}", flush=True)


def steer(released: threading.Event) -> None:
    """Does what stdin says, and ends the process with it."""
    for line in sys.stdin:
        if line.strip() == "release":
            released.set()
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("journal")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()

    journal, released = Journal(args.journal), threading.Event()
    app = build(journal, args.json, released).streamable_http_app()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", args.port))
    threading.Thread(target=steer, args=[released], daemon=True).start()
    # uvicorn's access log goes to stdout, which belongs to the announcement.
    server = AnnouncingServer(uvicorn.Config(app, log_level="warning", access_log=False))
    server.journal = journal
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
