"""What conversation.py hears and says besides its steps: everything it received, what it answers when the server asks,
and summaries that come out the same on every run.

Promises: every message is noted as it left the transport, before the SDK looks at it, because the SDK hands on neither
answers to cancelled calls nor the order of results and notifications, which the steps want to judge. All of it is plain
JSON, as on the wire, whatever the SDK of the day makes of it.
"""

import hashlib
import json
import re
from collections.abc import Callable
from typing import Any

import anyio
from mcp import types

DEADLINE_S = 20
"""How long one step may take."""

NAME = "interop-py"
"""The name that the client gives itself."""

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


def listed(items: list[dict[str, Any]], key: str) -> dict[str, Any]:
    """Names to read, and a digest by which any other change of the list is noticed."""
    items = sorted(items, key=lambda item: item[key])
    return {"names": [item[key] for item in items], "sha256": sha256(canonical(items))}


def answer(result: dict[str, Any]) -> dict[str, Any]:
    """The result of a tool call."""
    summary: dict[str, Any] = {"text": brief("\n".join(part["text"] for part in result["content"]))}
    if result.get("isError"):
        summary["isError"] = True
    if result.get("structuredContent"):
        summary["structured"] = result["structuredContent"]
    return summary


def failure(error: BaseException) -> dict[str, Any]:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(getattr(error, "error", None), types.ErrorData):
        return {"code": error.error.code, "error": brief(error.error.message)}
    if isinstance(error, TimeoutError):
        return {"error": "no end in time"}
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

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

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


# ---- What the client answers


class Answers:
    """What the client answers when asked (steps change it), and what it was asked."""

    def __init__(self) -> None:
        self.roots = [{"uri": "file:///interop/one", "name": "one"}]
        self.elicitation: dict[str, Any] = {
            "action": "accept",
            "content": {"name": "Ada", "check": True, "integer": 7},
        }
        self.asked_sampling: list[Any] = []
        self.asked_elicitation: list[Any] = []

    async def sample(self, _: Any, params: Any) -> types.CreateMessageResult:
        asked = dump(params)
        prompt = asked["messages"][0]["content"]["text"]
        self.asked_sampling.append(
            {"prompt": prompt, "system": asked.get("systemPrompt"), "maxTokens": asked["maxTokens"]}
        )
        content = {"type": "text", "text": f"Answer to: {prompt}"}
        reply = {"role": "assistant", "content": content, "model": "interop-model", "stopReason": "endTurn"}
        return types.CreateMessageResult.model_validate(reply)

    async def elicit(self, _: Any, params: Any) -> Any:
        asked = dump(params)
        schema = sha256(canonical(asked["requestedSchema"]))
        self.asked_elicitation.append({"message": asked["message"], "schema": schema})
        return types.ElicitResult.model_validate(self.elicitation)

    async def list_roots(self, _: Any) -> types.ListRootsResult:
        return types.ListRootsResult.model_validate({"roots": self.roots})
