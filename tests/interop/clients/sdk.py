"""The official Python clients behind one face: the SDK 1.x (`ClientSession`) and 2.x (`Client`, which probes
`server/discover` before it says `initialize`). Which of them is found out from what is installed. Where the probe finds
the era of 2026, 2.x is no legacy client: it is what a server of that era is tried with, and steps that this era has other
means for are taken by these.

Promises: `connect` gives a `Session` whose results are plain JSON as on the wire. What a version cannot do stands in
`lacks`, found by looking at the SDK, not at its number.

The trap: 1.x sends no `notifications/cancelled` of its own, 2.x does as soon as a call is dropped.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
from mcp import ClientSession, types
from mcp.client.sse import sse_client
from pydantic import AnyUrl, BaseModel
from session import NAME, Answers, Inbox, NotingStream, dump

try:
    from mcp import Client
except ImportError:
    Client = None  # 1.x

MODERN = "2026-07-28"

HEADERS = {"Authorization": "Bearer interop-token", "X-Interop": "yes"}
HOMEMADE = {408, types.CONNECTION_CLOSED} if hasattr(types, "CONNECTION_CLOSED") else {408}
"""Error codes that the SDK makes itself, when no answer came."""
NO_ANSWER_2X = {"Request timed out", "Connection closed"}
"""Texts of these errors in 2.x, where the codes are the server's as well."""


class UnknownRequest(BaseModel):
    """A request of a method that nobody knows."""

    method: str = "interop/unknown"


class Session:
    """A `ClientSession` of 1.x, not yet initialized, or a `Client` of 2.x, which is."""

    def __init__(self, inner: Any, tasks: Any = None) -> None:
        self.inner = inner
        self.second = Client is not None
        """Whether this is the SDK 2.x."""
        self.modern = self.second and inner.protocol_version == MODERN
        """Whether it speaks the era of 2026."""
        self.tasks = tasks
        """The task group that holds what this session listens to."""
        self.level: str | None = None
        """Least severe level of the log messages that it wants."""
        self.unsubscribed = anyio.Event()
        """Ends the subscription when it is set."""

    def lacks(self, features: list[str]) -> dict[str, str]:
        """Steps that this version cannot take, and why."""
        lacks = {}
        if not hasattr(types, "ElicitResult"):
            lacks["elicitation"] = "this SDK knows no elicitation"
        elif types.LATEST_PROTOCOL_VERSION < "2025-06-18":
            lacks["elicitation"] = "this version knows no elicitation"
        if self.second:
            steps = ["one_mebibyte", "ten_mebibyte_result"]
            # Without `digest` only an echo of that length can tell what arrived.
            steps += [] if "digest" in features else ["three_mebibyte_request"]
            lacks |= {step: "this SDK takes 1 MiB an event at most" for step in steps}
        if self.modern:
            lacks["ping"] = "this era has none"
        return lacks

    def is_servers_error(self, error: Exception) -> bool:
        """Whether it is a JSON-RPC error that came, not one that the SDK made because nothing came."""
        told = getattr(error, "error", None)
        if not isinstance(told, types.ErrorData):
            return False
        return told.message not in NO_ANSWER_2X if self.second else told.code not in HOMEMADE

    async def initialize(self) -> dict[str, Any]:
        if self.modern:
            await self.listen(anyio.Event(), tools_list_changed=True)
            told = {"capabilities": self.inner.server_capabilities, "serverInfo": self.inner.server_info}
            instructions = self.inner.instructions
            return {"protocolVersion": MODERN, "instructions": instructions} | {k: dump(v) for k, v in told.items()}
        return dump(self.inner.session.initialize_result if self.second else await self.inner.initialize())

    async def ping(self) -> dict[str, Any]:
        return dump(await self.inner.send_ping())

    async def list(self, what: str) -> list[dict[str, Any]]:
        """`tools`, `prompts`, `resources` or `resource_templates`."""
        listed = dump(await getattr(self.inner, f"list_{what}")())
        return listed[{"resource_templates": "resourceTemplates"}.get(what, what)]

    async def call(self, name: str, arguments: dict[str, Any], on_progress: Any = None) -> dict[str, Any]:
        meta = {"meta": {types.LOG_LEVEL_META_KEY: self.level}} if self.level else {}
        return dump(await self.inner.call_tool(name, arguments, progress_callback=on_progress, **meta))

    async def set_level(self, level: str) -> None:
        if self.modern:
            self.level = level
        else:
            await self.inner.set_logging_level(level)

    async def subscribe(self, uri: str) -> None:
        if self.modern:
            self.unsubscribed = anyio.Event()
            await self.listen(self.unsubscribed, resource_subscriptions=[uri])
        else:
            await self.inner.subscribe_resource(self._uri(uri))

    async def unsubscribe(self, uri: str) -> None:
        if self.modern:
            self.unsubscribed.set()
        else:
            await self.inner.unsubscribe_resource(self._uri(uri))

    async def listen(self, until: anyio.Event, **what: Any) -> None:
        """Listens in a task of its own, as what it enters may not be left in another step."""

        async def hold(*, task_status: Any) -> None:
            async with self.inner.listen(**what):
                task_status.started()
                await until.wait()

        await self.tasks.start(hold)

    async def read(self, uri: str) -> dict[str, Any]:
        return dump(await self.inner.read_resource(self._uri(uri)))["contents"][0]

    async def prompt(self, name: str, arguments: dict[str, str]) -> Any:
        return dump(await self.inner.get_prompt(name, arguments))["messages"]

    async def complete(self, kind: str, ref: dict[str, str], argument: dict[str, str], context: Any = None) -> Any:
        """`kind` is `prompt` or `resource`. The context is left out where the SDK knows none."""
        names = {"prompt": ["PromptReference"], "resource": ["ResourceTemplateReference", "ResourceReference"]}[kind]
        Reference = next(getattr(types, name) for name in names if hasattr(types, name))
        knows_context = "context_arguments" in inspect.signature(self.inner.complete).parameters
        more = [context] if context and knows_context else []
        reference = Reference.model_validate({"type": f"ref/{kind}", **ref})
        return dump(await self.inner.complete(reference, argument, *more))["completion"]["values"]

    async def roots_changed(self) -> None:
        if self.modern:
            return  # roots are asked for whenever they are needed
        await self.inner.send_roots_list_changed()

    async def cancelled(self, request_id: Any, reason: str) -> None:
        """To be called after a call was dropped."""
        if self.second:
            return
        params = types.CancelledNotificationParams(requestId=request_id, reason=reason)
        notification = types.CancelledNotification(method="notifications/cancelled", params=params)
        await self.inner.send_notification(types.ClientNotification(notification))

    async def unknown_method(self) -> None:
        if self.second:
            request = types.Request[None, str](method="interop/unknown", params=None)
            await self.inner.session.send_request(request, types.EmptyResult)
        else:
            await self.inner.send_request(UnknownRequest(), types.EmptyResult)

    def _uri(self, uri: str) -> Any:
        return uri if self.second else AnyUrl(uri)


@asynccontextmanager
async def transport_to(kind: str, url: str, inbox: Inbox) -> AsyncIterator[tuple[Any, Any]]:
    """The two streams of a connected transport, `sse` or `http`, the inbox reading along."""
    async with AsyncExitStack() as stack:
        if kind == "sse":
            opened = sse_client(url, headers=HEADERS)
        elif Client is None:
            from mcp.client.streamable_http import streamablehttp_client

            opened = streamablehttp_client(url, headers=HEADERS)
        else:
            from mcp.client.streamable_http import streamable_http_client
            from mcp.shared._httpx_utils import create_mcp_http_client

            http_client = await stack.enter_async_context(create_mcp_http_client(headers=HEADERS))
            opened = streamable_http_client(url, http_client=http_client)
        read, write, *_ = await stack.enter_async_context(opened)
        yield NotingStream(read, inbox), write


@asynccontextmanager
async def connect(mode: str, kind: str, url: str, inbox: Inbox, answers: Answers) -> AsyncIterator[Session]:
    """A session over `kind` (`sse` or `http`) to `url`; all that the SDK can do is declared.

    In the mode `without-probe` 2.x does not ask for `server/discover`; a mode that is a version makes 1.x ask for that.
    """
    if mode not in ("default", "without-probe"):
        types.LATEST_PROTOCOL_VERSION = mode
    callbacks: dict[str, Callable[..., Awaitable[Any]]] = {
        "sampling_callback": answers.sample,
        "list_roots_callback": answers.list_roots,
        "elicitation_callback": answers.elicit,
    }
    if "elicitation_callback" not in inspect.signature(ClientSession).parameters:
        del callbacks["elicitation_callback"]
    info = types.Implementation(name=NAME, version="1.0.0")
    transport = transport_to(kind, url, inbox)
    if Client is not None:
        modes = {"without-probe": {"mode": "legacy"}, "default": {}}
        async with (
            Client(transport, client_info=info, **modes[mode], **callbacks) as client,
            anyio.create_task_group() as tasks,
        ):
            yield Session(client, tasks)
            tasks.cancel_scope.cancel()
        return
    async with (
        transport as (read, write),
        ClientSession(read, write, client_info=info, **callbacks) as session,
    ):
        yield Session(session)
