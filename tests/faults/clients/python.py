"""Many legacy clients of the official Python SDK (mcp 1.30.0) in one process, told what to do line by line:

    python python.py

Promises: as of typescript.mjs in this folder: one answer a line, with its `seq`, within 60 s, an end with stdin, and a
`ledger` of every request and every answer as they passed the transport. Python clients do not reconnect: when a stream
ends, their calls fail with "Connection closed".

The trap: a client's contexts must be left by the task that entered them, so each client is a task of its own.
"""

import json
import os
import sys
from typing import Any

import anyio
import httpx
from mcp import ClientSession, types
from mcp.client.sse import sse_client
from mcp.shared._httpx_utils import create_mcp_http_client

COMMAND_S = 60
CALL_S = 20


def dump(value: Any) -> Any:
    return value.model_dump(by_alias=True, mode="json", exclude_none=True)


class NotingStream:
    """The transport's read stream, as the session uses it, with a look at everything."""

    def __init__(self, stream: Any, note: Any) -> None:
        self._stream = stream
        self._note = note

    async def __aenter__(self) -> "NotingStream":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stream.__aexit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __aiter__(self) -> "NotingStream":
        return self

    async def __anext__(self) -> Any:
        item = await self._stream.__anext__()
        self._note(item)
        return item


class Person:
    """One client, and all that passed between it and its transport."""

    def __init__(self, name: str, token: str | None) -> None:
        self.name = name
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.requests: list[dict[str, Any]] = []
        self.strangers: list[Any] = []
        self.notifications: list[str] = []
        self.gets: list[Any] = []
        self.troubles: list[str] = []
        self.session: ClientSession
        self.ready = anyio.Event()
        """Set when the handshake is over, or failed."""
        self.failed: BaseException | None = None
        self.leave = anyio.Event()
        self.left = anyio.Event()

    async def live(self, url: str) -> None:
        info = types.Implementation(name=self.name, version="1.0.0")
        try:
            async with (
                sse_client(url, headers=self.headers, httpx_client_factory=self.http) as (read, write),
                ClientSession(NotingStream(read, self.received), write, client_info=info) as self.session,
            ):
                with anyio.fail_after(CALL_S):
                    await self.session.initialize()
                self.ready.set()
                await self.leave.wait()
        except Exception as error:
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            self.failed = error
        self.ready.set()
        self.left.set()

    def http(self, **kwargs: Any) -> httpx.AsyncClient:
        client = create_mcp_http_client(**kwargs)
        client.event_hooks = {"request": [self.posting], "response": [self.posted]}
        return client

    async def posting(self, request: httpx.Request) -> None:
        if request.method != "POST":
            return
        message = json.loads(request.content)
        if "method" in message and "id" in message:
            token = message.get("params", {}).get("arguments", {}).get("token")
            entry = {"id": message["id"], "method": message["method"], "token": token, "stream": 1, "answers": []}
            self.requests.append(entry)
            request.extensions["entry"] = entry

    async def posted(self, response: httpx.Response) -> None:
        if entry := response.request.extensions.get("entry"):
            entry["posted"] = response.status_code
        elif response.request.method == "GET":
            self.gets.append(response.status_code)

    def received(self, item: Any) -> None:
        if isinstance(item, Exception):
            self.troubles.append(f"{type(item).__name__}: {item}")
            return
        message = dump(item.message)
        if "method" in message:
            if "id" not in message:
                self.notifications.append(message["method"])
            return
        entry = next((entry for entry in self.requests if entry["id"] == message["id"]), None)
        if entry is None:
            self.strangers.append(message)
        elif "error" in message:
            entry["answers"].append({"error": message["error"]})
        else:
            mine = not entry["token"] or entry["token"] in message["result"]["content"][0]["text"]
            entry["answers"].append({"mine": mine})

    async def call(self, tool: str, args: dict[str, Any], seconds: float) -> str:
        async def on_progress(*_: Any) -> None:
            pass

        with anyio.fail_after(seconds):
            result = await self.session.call_tool(tool, args, progress_callback=on_progress)
        return result.content[0].text

    def account(self) -> dict[str, Any]:
        names = ["requests", "strangers", "notifications", "gets", "troubles"]
        return {"streams": 1, **{name: getattr(self, name) for name in names}}


class Crowd:
    """All clients, and what they can be told."""

    def __init__(self, tasks: Any) -> None:
        self.tasks = tasks
        self.people: dict[str, Person] = {}

    async def connect(self, client: str, url: str, token: str | None = None) -> dict[str, Any]:
        person = self.people[client] = Person(client, token)
        self.tasks.start_soon(person.live, url)
        await person.ready.wait()
        if person.failed:
            raise person.failed
        return {}

    async def call(self, client: str, tool: str, args: dict[str, Any], ms: float = CALL_S * 1000) -> dict[str, Any]:
        return {"text": await self.people[client].call(tool, args, ms / 1000)}

    async def list(self, client: str) -> dict[str, Any]:
        tools = await self.people[client].session.list_tools()
        return {"tools": [tool.name for tool in tools.tools]}

    async def ledger(self) -> dict[str, Any]:
        return {"clients": {name: person.account() for name, person in self.people.items()}}

    async def close(self, client: str) -> dict[str, Any]:
        self.people[client].leave.set()
        await self.people[client].left.wait()
        return {}

    async def obey(self, order: dict[str, Any]) -> None:
        seq, what = order.pop("seq"), order.pop("do")
        try:
            with anyio.fail_after(COMMAND_S):
                done = await getattr(self, what)(**order)
        except Exception as error:
            told = getattr(error, "error", None)
            if isinstance(told, types.ErrorData):
                done = {"failed": dump(told)}
            else:
                done = {"failed": {"message": f"{type(error).__name__}: {error}"}}
        print(json.dumps({"seq": seq, **done}), flush=True)


async def main() -> None:
    async with anyio.create_task_group() as tasks:
        crowd = Crowd(tasks)
        async for line in anyio.wrap_file(sys.stdin):
            tasks.start_soon(crowd.obey, json.loads(line))
        os._exit(0)


if __name__ == "__main__":
    anyio.run(main)
