"""A server of one of the Python libraries, with all that the conversations in ../clients ask for:

    python python_server.py --library mcp|fastmcp --transport sse|streamableHttp [--stateless|--questions-by-result] [--json]

Promises: exactly one line on stdout, ``LISTENING http://127.0.0.1:PORT``, once connections are accepted (SSE at /sse
and /messages/, Streamable HTTP at /mcp), on a port that the kernel chose; the same server behind either transport;
and an end when stdin reaches EOF, so that a test which drops the pipe, or dies, leaves nothing behind. Stdin must
therefore be a pipe that is held open: /dev/null ends it at once.

Tools, prompts and answers are named and worded as in server-everything wherever it has the like, so that one
conversation fits both. Without sessions, and with them if it is told to ask by results, `mcp` 2.x gets the tools of
python_modern.py, which speak to clients as the era of 2026 wants it. The trap: tools that were added live in the process, not in the session, so run one
conversation at a time against a process (each removes what it added).
"""

import argparse
import hashlib
import os
import socket
import sys
import threading
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import anyio
import uvicorn
from mcp import types
from pydantic import AnyUrl, BaseModel, Field

sys.dont_write_bytecode = True  # nothing of ours is to appear in the tree
from python_library import LIBRARIES, remembered  # noqa: E402

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
TEAMS = {
    "Engineering": ["Alice", "Bob", "Charlie"],
    "Sales": ["David", "Eve", "Frank"],
}
WATCHED = "interop://watched"


class Weather(BaseModel):
    """Structured content with an output schema, the figures as in server-everything."""

    temperature: int
    conditions: str
    humidity: int


class Form(BaseModel):
    """What the elicitation asks for."""

    name: str = Field(description="Your full, legal name")
    integer: int = Field(default=42, description="Your favorite integer")


class SessionState:
    """What the server remembers of one client session; gone with it."""

    def __init__(self) -> None:
        self.level = "debug"
        """Least severe level that `log` sends, as set by logging/setLevel."""
        self.subscribed: set[str] = set()
        """URIs whose updates the client asked for."""
        self.cancelled = anyio.Event()
        """Set when `wait-until-cancelled` was cancelled."""


def build(library: str, json_response: bool, stateless: bool, by_result: bool) -> Any:
    """The server, not yet bound to a transport."""
    lib = LIBRARIES[library]("interop-python", "A server for interop tests.", json_response, stateless)
    sessions: WeakKeyDictionary[Any, SessionState] = WeakKeyDictionary()

    def state(session: Any) -> SessionState:
        return sessions.setdefault(remembered(session), SessionState())

    add_plain_tools(lib)
    add_resources_and_prompts(lib)
    if by_result or lib.modern:
        # Only this library has what it imports.
        import python_modern

        python_modern.add_tools(lib, WATCHED, LEVELS, Form)
    else:
        add_session_tools(lib, state)
        add_tools_that_ask_the_client(lib)
        add_session_handlers(lib, state)
    return lib


def add_plain_tools(lib: Any) -> None:
    """Tools that need no more than their arguments and the request."""

    @lib.tool()
    def echo(message: str) -> str:
        return f"Echo: {message}"

    @lib.tool()
    def digest(message: str) -> str:
        """What arrived, in a form that shows every changed byte without sending it back."""
        data = message.encode()
        return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}"

    @lib.tool("long-text")
    def long_text(length: int) -> str:
        """As long a result as wanted, without a request of that length."""
        return hashlib.sha256(b"seed").hexdigest() * (length // 64)

    @lib.server.tool(name="get-structured-content")
    def structured(location: str) -> Weather:
        return Weather(temperature=33, conditions=f"Cloudy in {location}", humidity=82)

    @lib.tool()
    def headers(ctx: lib.Context) -> str:
        """The two headers of this request that the clients set."""
        seen = ctx.request_context.request.headers
        return f"authorization: {seen.get('authorization')}, x-interop: {seen.get('x-interop')}"

    @lib.tool()
    def where(region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        """In the era of 2026 the request must bear this argument in a header too, and is refused if it does not."""
        return f"In {region}"

    @lib.tool("trigger-long-running-operation")
    async def long_running(ctx: lib.Context, duration: float = 10, steps: int = 5) -> str:
        for done in range(1, steps + 1):
            await anyio.sleep(duration / steps)  # the length of the operation, nobody is waited for
            await ctx.report_progress(done, steps)
        return f"Long running operation completed. Duration: {duration} seconds, Steps: {steps}."


def add_session_tools(lib: Any, state: Any) -> None:
    """Tools that send notifications or remember something of the session."""

    @lib.tool()
    async def log(ctx: lib.Context) -> str:
        """One message of every level that the client wants to hear."""
        wanted = LEVELS[LEVELS.index(state(ctx.session).level) :]
        for level in wanted:
            await ctx.session.send_log_message(level, f"{level} message", "interop", ctx.request_id)
        return f"logged {len(wanted)}"

    @lib.tool("touch-resource")
    async def touch(ctx: lib.Context) -> str:
        if WATCHED not in state(ctx.session).subscribed:
            return "nobody to tell"
        await ctx.session.send_resource_updated(AnyUrl(WATCHED))
        return "told"

    @lib.tool("wait-until-cancelled")
    async def wait_until_cancelled(ctx: lib.Context) -> str:
        state(ctx.session).cancelled = anyio.Event()
        await ctx.report_progress(1, 2)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            state(ctx.session).cancelled.set()
            raise
        return "never reached"

    @lib.tool("was-cancelled")
    async def was_cancelled(ctx: lib.Context) -> str:
        """Proof from the server's side; waits, as the cancellation may be on its way still."""
        with anyio.move_on_after(5):
            await state(ctx.session).cancelled.wait()
            return "cancelled"
        return "not cancelled"

    @lib.tool("add-tool")
    async def add_tool(name: str, ctx: lib.Context) -> str:
        lib.add_tool(lambda: f"{name} speaking", name)
        await ctx.session.send_tool_list_changed()
        return f"added {name}"

    @lib.tool("remove-tool")
    async def remove_tool(name: str, ctx: lib.Context) -> str:
        lib.remove_tool(name)
        await ctx.session.send_tool_list_changed()
        return f"removed {name}"


def add_tools_that_ask_the_client(lib: Any) -> None:
    """Requests from the server: tied to the call that caused them, except roots/list, which the SDK never ties."""

    async def ask(prompt: str, max_tokens: int, ctx: lib.Context) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text=f"Resource sample context: {prompt}")
        return await ctx.session.create_message(
            [types.SamplingMessage(role="user", content=content)],
            max_tokens=max_tokens,
            system_prompt="You are a helpful test server.",
            related_request_id=ctx.request_id,
        )

    @lib.tool("trigger-sampling-request")
    async def sample(prompt: str, ctx: lib.Context, maxTokens: int = 100) -> str:
        result = await ask(prompt, maxTokens, ctx)
        return f"LLM sampling result: {result.model_dump_json(by_alias=True, exclude_none=True)}"

    @lib.tool("ask-in-rounds")
    async def ask_in_rounds(ctx: lib.Context) -> str:
        """Two questions at once, and then one that follows from an answer."""
        known: list[str] = []

        async def ask_for_roots() -> None:
            known.extend(str(root.uri) for root in (await ctx.session.list_roots()).roots)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask_for_roots)
            one = await ask("one", 10, ctx)
        two = await ask(f"two, after {one.content.text}", 10, ctx)
        return f"{two.content.text}; roots: {' '.join(known)}"

    @lib.tool("trigger-elicitation-request")
    async def elicit(ctx: lib.Context) -> str:
        answer = await ctx.elicit("Please provide inputs for the following fields:", Form)
        return f"{answer.action}: {answer.data.model_dump_json() if answer.action == 'accept' else None}"

    @lib.tool("get-roots-list")
    async def roots(ctx: lib.Context) -> str:
        known = (await ctx.session.list_roots()).roots
        return "\n".join(f"{root.name}: {root.uri}" for root in known)


def add_resources_and_prompts(lib: Any) -> None:
    """Two resources, a template, two prompts and their completions."""

    @lib.server.resource("interop://text", mime_type="text/plain")
    def text() -> str:
        return "A fixed text, with \u00fcmlauts and\ntwo lines.\n" * 40

    @lib.server.resource("interop://blob", mime_type="application/octet-stream")
    def blob() -> bytes:
        return bytes(range(256)) * 2

    @lib.server.resource(WATCHED, mime_type="text/plain")
    def watched() -> str:
        return "Always the same, whatever touch-resource says."

    @lib.server.resource("interop://greeting/{name}", mime_type="text/plain")
    def greeting(name: str) -> str:
        return f"Hello, {name}!"

    @lib.server.prompt(name="args-prompt", description="A prompt with two arguments, one required and one optional")
    def args_prompt(city: str, state: str | None = None) -> str:
        return f"What's weather in {city}{f', {state}' if state else ''}?"

    @lib.server.prompt(name="completable-prompt")
    def completable_prompt(department: str, name: str) -> str:
        return f"Please promote {name} to the head of the {department} team."

    @lib.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> types.Completion:
        known = context.arguments if context and context.arguments else {}
        candidates = {
            "department": list(TEAMS),
            "name": TEAMS.get(known.get("department", ""), ["Ada", "Alan"]),
        }.get(argument.name, [])
        values = [value for value in candidates if value.startswith(argument.value)]
        return types.Completion.model_validate({"values": values, "total": len(values), "hasMore": False})


def add_session_handlers(lib: Any, state: Any) -> None:
    """What the client asks of its session."""

    async def set_level(session: Any, params: Any) -> None:
        state(session).level = params.level

    async def subscribe(session: Any, params: Any) -> None:
        state(session).subscribed.add(str(params.uri))

    async def unsubscribe(session: Any, params: Any) -> None:
        state(session).subscribed.discard(str(params.uri))

    lib.on("logging/setLevel", set_level)
    lib.on("resources/subscribe", subscribe)
    lib.on("resources/unsubscribe", unsubscribe)


class AnnouncingServer(uvicorn.Server):
    """uvicorn that says when it accepts."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = sockets[0].getsockname()
        print(f"LISTENING http://{host}:{port}", flush=True)


def exit_with_stdin() -> None:
    """Ends the process at EOF, at once: open event streams would hold up an orderly shutdown."""
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", choices=list(LIBRARIES), default="mcp")
    parser.add_argument("--transport", choices=["sse", "streamableHttp"], required=True)
    parser.add_argument("--stateless", action="store_true", help="no sessions (Streamable HTTP only)")
    parser.add_argument("--json", action="store_true", help="answer with JSON, not SSE (Streamable HTTP only)")
    parser.add_argument("--questions-by-result", action="store_true", help="tools for clients of 2026 (2.x only)")
    args = parser.parse_args()

    app = build(args.library, args.json, args.stateless, args.questions_by_result).app(args.transport)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    threading.Thread(target=exit_with_stdin, daemon=True).start()
    # uvicorn's access log goes to stdout, which belongs to the announcement.
    AnnouncingServer(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listener])


if __name__ == "__main__":
    main()
