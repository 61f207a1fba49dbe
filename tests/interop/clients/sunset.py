"""A Python client whose user is to see what the switch-off looks like:

    python sunset.py visit|stay URL NAME

It is written as the SDK's own examples are. `visit` connects, does what there is to do and leaves; `stay` makes a call that
takes too long, and another one at once and after each line on stdin.

Promises: lines out as in sunset.mjs. "shown" is what a program shows that prints the exception as it comes out of the two
context managers, where anyio puts groups around what went wrong.
"""

import json
import sys
from typing import Any

import anyio
from mcp import ClientSession, types
from mcp.client.sse import sse_client

PATIENCE = 10
"""After this many seconds without an answer, none is expected."""


def say(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def leaf(error: BaseException) -> str:
    """What went wrong, below the groups that anyio puts around it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def dump(value: Any) -> Any:
    return value.model_dump(by_alias=True, mode="json", exclude_none=True)


async def visit(session: ClientSession, logged: list[Any]) -> dict[str, Any]:
    greeting = dump(await session.initialize())
    await session.send_ping()
    lists = [dump(await of()) for of in (session.list_tools, session.list_prompts, session.list_resources)]
    total = dump(await session.call_tool("get-sum", {"a": 2, "b": 40}))
    return {"server": greeting, "lists": lists, "sum": total, "text": await echo(session), "logged": logged}


async def echo(session: ClientSession) -> str:
    return (await session.call_tool("echo", {"message": "still here"})).content[0].text


async def tell(act: Any) -> None:
    with anyio.move_on_after(PATIENCE) as patience:
        try:
            say({"works": await act})
        except Exception as error:
            say({"error": leaf(error)})
    if patience.cancelled_caught:
        say({"error": "no answer"})


async def endless(session: ClientSession) -> str:
    # Longer than anything waits for it.
    result = await session.call_tool("trigger-long-running-operation", {"duration": 600, "steps": 1})
    return result.content[0].text


async def stay(session: ClientSession) -> None:
    await session.initialize()
    say({"works": None})
    try:
        say({"works": await endless(session)})
    except Exception as error:
        say({"error": leaf(error)})
    await tell(echo(session))
    while await anyio.to_thread.run_sync(sys.stdin.readline):
        await tell(echo(session))


async def main(manner: str, url: str, name: str) -> None:
    logged: list[Any] = []

    async def log(params: types.LoggingMessageNotificationParams) -> None:
        logged.append(dump(params))

    info = types.Implementation(name=name, version="1.0.0")
    async with (
        sse_client(url) as streams,
        ClientSession(*streams, client_info=info, logging_callback=log) as session,
    ):
        if manner == "stay":
            return await stay(session)
        result = await visit(session, logged)
    say({"works": result})


try:
    anyio.run(main, *sys.argv[1:])
except Exception as error:
    say({"error": leaf(error), "shown": str(error)})
