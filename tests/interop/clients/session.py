"""The legacy client of conversation.py: the Python SDK's ``ClientSession`` over ``sse_client``, what it answers when
the server asks, everything it received, and summaries that come out the same on every run.

Promises: every message is noted as it left the transport, before the SDK looks at it, because the SDK hands on neither
answers to cancelled calls nor the order of results and notifications, which the steps want to judge.
"""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import ClientSession, types
from mcp.client.sse import sse_client
from mcp.shared.exceptions import McpError

DEADLINE_S = 20
"""How long one step may take."""

HEADERS = {"Authorization": "Bearer interop-token", "X-Interop": "yes"}

# ---- Summaries


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def dump(value: Any) -> Any:
    """A model of the SDK as plain JSON."""
    return value.model_dump(by_alias=True, mode="json", exclude_none=True)


def canonical(value: Any) -> str:
    """JSON with sorted keys, so that equal values have equal text."""
    return json.dumps(value, sort_keys=True)


def plain(text: str) -> str:
    """Takes out what differs between two runs."""
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<id>", text)
    text = re.sub(r"http://(127\.0\.0\.1|localhost):\d+[^\s'\"]*", "<url>", text)
    return re.sub(r"created at .*", "created at <time>", text)


def brief(text: str) -> Any:
    """Short texts to read, long ones by their digest."""
    return plain(text) if len(text) <= 300 else {"length": len(text), "sha256": sha256(plain(text))}


def listed(items: list[Any], key: str) -> dict[str, Any]:
    """Names to read, and a digest by which any other change of the list is noticed."""
    items = sorted((dump(item) for item in items), key=lambda item: item[key])
    return {"names": [item[key] for item in items], "sha256": sha256(canonical(items))}


def answer(result: types.CallToolResult) -> dict[str, Any]:
    """The result of a tool call."""
    summary: dict[str, Any] = {"text": brief("\n".join(part.text for part in result.content))}
    if result.isError:
        summary["isError"] = True
    if result.structuredContent:
        summary["structured"] = result.structuredContent
    return summary


def failure(error: BaseException) -> dict[str, Any]:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, McpError):
        return {"code": error.error.code, "error": brief(error.error.message)}
    if isinstance(error, TimeoutError):
        return {"error": f"no end within {DEADLINE_S} s"}
    return {"error": brief(f"{type(error).__name__}: {error}")}


# ---- What was seen, and waiting for it


class Inbox:
    """Every message that left the transport, in order."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        """As JSON; errors of the transport as ``{"trouble": text}``."""
        self._news = anyio.Event()
        """Set, and replaced, when something arrives."""

    def note(self, item: Any) -> None:
        self.messages.append({"trouble": plain(str(item))} if isinstance(item, Exception) else dump(item.message))
        self._news.set()
        self._news = anyio.Event()

    async def arrival(self, fits: Callable[[dict[str, Any]], bool], start: int = 0) -> dict[str, Any]:
        """The first message since `start` that fits; the deadline of the step ends the wait."""
        while True:
            for message in self.messages[start:]:
                if fits(message):
                    return message
            await self._news.wait()


class NotingStream:
    """The transport's read stream, as the session uses it, with a copy of everything for the inbox."""

    def __init__(self, stream: Any, inbox: Inbox) -> None:
        self._stream = stream
        self._inbox = inbox

    async def __aenter__(self) -> "NotingStream":
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._stream.__aexit__(*error)

    def __aiter__(self) -> "NotingStream":
        return self

    async def __anext__(self) -> Any:
        item = await self._stream.__anext__()
        self._inbox.note(item)
        return item


def is_notification(method: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: message.get("method") == f"notifications/{method}"


def is_log(pattern: str) -> Callable[[dict[str, Any]], bool]:
    return lambda message: is_notification("message")(message) and bool(
        re.search(pattern, str(message["params"]["data"]))
    )


# ---- The client and what it answers


class Answers:
    """What the client answers when asked (steps change it), and what it was asked."""

    def __init__(self) -> None:
        self.roots = [types.Root(uri="file:///interop/one", name="one")]
        self.elicitation = types.ElicitResult(action="accept", content={"name": "Ada", "check": True, "integer": 7})
        self.asked_sampling: list[Any] = []
        self.asked_elicitation: list[Any] = []

    async def sample(self, _: Any, params: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        prompt = params.messages[0].content.text
        self.asked_sampling.append({"prompt": prompt, "system": params.systemPrompt, "maxTokens": params.maxTokens})
        content = types.TextContent(type="text", text=f"Answer to: {prompt}")
        return types.CreateMessageResult(role="assistant", model="interop-model", stopReason="endTurn", content=content)

    async def elicit(self, _: Any, params: types.ElicitRequestParams) -> types.ElicitResult:
        schema = sha256(canonical(params.requestedSchema))
        self.asked_elicitation.append({"message": params.message, "schema": schema})
        return self.elicitation

    async def list_roots(self, _: Any) -> types.ListRootsResult:
        return types.ListRootsResult(roots=self.roots)


@asynccontextmanager
async def connect(url: str, inbox: Inbox, answers: Answers) -> AsyncIterator[ClientSession]:
    """A session, not yet initialized; all capabilities declared: server-everything hides the tools for the others."""
    async with (
        sse_client(url, headers=HEADERS) as (read, write),
        ClientSession(
            NotingStream(read, inbox),
            write,
            sampling_callback=answers.sample,
            elicitation_callback=answers.elicit,
            list_roots_callback=answers.list_roots,
            client_info=types.Implementation(name="interop-py", version="1.0.0"),
        ) as session,
    ):
        yield session
