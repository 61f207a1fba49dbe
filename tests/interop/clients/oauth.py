"""A legacy Python client that logs in as its SDK does, told what to do line by line:

    python oauth.py URL NAME

Promises: it is written as the SDK's own example is (an `OAuthClientProvider` that keeps things in memory and a callback on
loopback), for every version alike. Lines in and out as in oauth.mjs. It ends with its stdin.

The trap: a session lives in one task, so commands are taken inside of it once it is open.
"""

import json
import logging
import os
import sys
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import parse_qs, urlparse

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from mcp import ClientSession
from mcp.client.auth import OAuthClientProvider
from mcp.client.sse import sse_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.shared.auth import OAuthClientMetadata

PATIENCE = 8
"""After this many seconds without an answer, none is expected."""


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


class Storage:
    """Keeps things in memory."""

    def __init__(self) -> None:
        self.tokens = self.client_info = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client_info

    async def set_client_info(self, client_info: Any) -> None:
        self.client_info = client_info


class Callback:
    """Where the browser comes back to."""

    def __init__(self) -> None:
        self.sender, self.arrived = anyio.create_memory_object_stream[dict[str, list[str]]](8)

    async def handle(self, stream: Any) -> None:
        async with stream:
            head = await BufferedByteReceiveStream(stream).receive_until(b"\r\n\r\n", 65536)
            query = parse_qs(urlparse(head.split()[1].decode()).query)
            await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await self.sender.send(query)

    async def code(self) -> tuple[str, str | None]:
        query = await self.arrived.receive()
        if "error" in query:
            raise RuntimeError(f"the login ended with {query['error'][0]}")
        return query["code"][0], query.get("state", [None])[0]


class Requests:
    """Knows when nothing is on the way any more: 1.12 answers a call while it still sends it a second time."""

    def __init__(self) -> None:
        self.active = 0

    def factory(self, *args: Any, **kwargs: Any) -> Any:
        client = create_mcp_http_client(*args, **kwargs)
        send = client.send

        async def counted(*args: Any, **kwargs: Any) -> Any:
            self.active += 1
            try:
                return await send(*args, **kwargs)
            finally:
                self.active -= 1

        client.send = counted
        return client

    async def settle(self) -> None:
        while self.active:
            await anyio.sleep(0.005)


async def open_browser(url: str) -> None:
    say({"open": url})


def leaf(error: BaseException) -> str:
    """What went wrong, below the groups that anyio puts around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


async def call(session: ClientSession, wanted: dict[str, Any], requests: Requests) -> None:
    with anyio.move_on_after(PATIENCE) as patience:
        try:
            result = await session.call_tool(wanted["tool"], {})
            await requests.settle()
            say({"works": result.content[0].text})
        except Exception as error:
            say({"error": leaf(error)})
    if patience.cancelled_caught:
        say({"hangs": True})


async def lines() -> Any:
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        yield json.loads(line)


async def watch(connected: anyio.Event) -> None:
    """Ends a client that does not get connected. Not by a cancel scope: the connection has to outlive it."""
    with anyio.move_on_after(PATIENCE):
        return await connected.wait()
    say({"hangs": True})
    os._exit(0)


async def converse(url: str, name: str, callback: Callback, redirect_uri: str, tasks: Any) -> None:
    metadata = OAuthClientMetadata(
        client_name=name,
        redirect_uris=[redirect_uri],
        grant_types=["authorization_code", "refresh_token"],
        response_types=["code"],
        token_endpoint_auth_method="none",
    )
    provider = OAuthClientProvider(url, metadata, Storage(), open_browser, callback.code)
    session, requests = None, Requests()
    async with AsyncExitStack() as stack:
        async for wanted in lines():
            if wanted["do"] == "call":
                await call(session, wanted, requests)
                continue
            connected = anyio.Event()
            tasks.start_soon(watch, connected)
            try:
                client = sse_client(url, auth=provider, httpx_client_factory=requests.factory)
                streams = await stack.enter_async_context(client)
                session = await stack.enter_async_context(ClientSession(*streams))
                await session.initialize()
                await requests.settle()
            finally:
                connected.set()
            say({"works": "connected"})


async def main() -> None:
    callback = Callback()
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(listener.serve, callback.handle)
        try:
            await converse(*sys.argv[1:3], callback, f"http://127.0.0.1:{port}/callback", tasks)
        except Exception as error:  # the connection could not be made
            say({"error": leaf(error)})
        tasks.cancel_scope.cancel()


logging.disable(logging.CRITICAL)
anyio.run(main)
