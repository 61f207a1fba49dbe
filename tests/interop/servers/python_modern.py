"""The tools of python_server.py that tell or ask the client something, as `mcp` 2.x writes them for the era of 2026, which
keeps no session: questions are results, changes go to whoever listens, and the level of log messages comes with the
request.

Promises: names, arguments and answers as those of the session era, except that `touch-resource` always says that it told:
who listens, no tool can know. The trap: what is to outlast a request lives in the process.
"""

from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, ListRoots, Resolve, Sample
from mcp_types import LOG_LEVEL_META_KEY, CreateMessageResult, ListRootsResult, SamplingMessage, TextContent


def add_tools(lib: Any, watched: str, levels: list[str], form: Any) -> None:
    add_tools_that_tell(lib, watched, levels)
    add_tool_to_be_cancelled(lib)
    add_tools_that_ask_the_client(lib, form)


def add_tools_that_tell(lib: Any, watched: str, levels: list[str]) -> None:
    async def set_level(*_: Any) -> None:
        """There to make the SDK declare that this server logs; no client of this era sends it."""

    lib.on("logging/setLevel", set_level)

    @lib.tool()
    async def log(ctx: Context) -> str:
        """One message of every level; those that the client did not ask for, the SDK drops."""
        wanted = (ctx.request_context.meta or {}).get(LOG_LEVEL_META_KEY)
        for level in levels:
            await ctx.log(level, f"{level} message", logger_name="interop")
        return f"logged {len(levels[levels.index(wanted) :]) if wanted else 0}"

    @lib.tool("touch-resource")
    async def touch(ctx: Context) -> str:
        await ctx.notify_resource_updated(watched)
        return "told"

    @lib.tool("add-tool")
    async def add_tool(name: str, ctx: Context) -> str:
        lib.add_tool(lambda: f"{name} speaking", name)
        await ctx.notify_tools_changed()
        return f"added {name}"

    @lib.tool("remove-tool")
    async def remove_tool(name: str, ctx: Context) -> str:
        lib.remove_tool(name)
        await ctx.notify_tools_changed()
        return f"removed {name}"


def add_tool_to_be_cancelled(lib: Any) -> None:
    cancelled = anyio.Event()

    @lib.tool("wait-until-cancelled")
    async def wait_until_cancelled(ctx: Context) -> str:
        nonlocal cancelled
        cancelled = anyio.Event()
        await ctx.report_progress(1, 2)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            cancelled.set()
            raise
        return "never reached"

    @lib.tool("was-cancelled")
    async def was_cancelled() -> str:
        """Proof from the server's side; waits, as the cancellation may be on its way still."""
        with anyio.move_on_after(5):
            await cancelled.wait()
            return "cancelled"
        return "not cancelled"


def add_tools_that_ask_the_client(lib: Any, form: Any) -> None:
    """The first call returns the question and a sealed state, the second brings the answer and the state back."""

    def ask_to_sample(prompt: str, maxTokens: int) -> Sample:
        content = TextContent(type="text", text=f"Resource sample context: {prompt}")
        message = SamplingMessage(role="user", content=content)
        return Sample([message], max_tokens=maxTokens, system_prompt="You are a helpful test server.")

    def ask_one() -> Sample:
        return ask_to_sample("one", 10)

    def ask_two(one: Annotated[CreateMessageResult, Resolve(ask_one)]) -> Sample:
        return ask_to_sample(f"two, after {one.content.text}", 10)

    def ask_for_form() -> Elicit[Any]:
        return Elicit("Please provide inputs for the following fields:", form)

    def ask_for_roots() -> ListRoots:
        return ListRoots()

    @lib.tool("trigger-sampling-request")
    async def sample(
        prompt: str, sampled: Annotated[CreateMessageResult, Resolve(ask_to_sample)], maxTokens: int = 100
    ) -> str:
        return f"LLM sampling result: {sampled.model_dump_json(by_alias=True, exclude_none=True)}"

    @lib.tool("ask-in-rounds")
    async def ask_in_rounds(
        two: Annotated[CreateMessageResult, Resolve(ask_two)], known: Annotated[ListRootsResult, Resolve(ask_for_roots)]
    ) -> str:
        """Two questions at once, and then one that follows from an answer."""
        return f"{two.content.text}; roots: {' '.join(str(root.uri) for root in known.roots)}"

    @lib.tool("trigger-elicitation-request")
    async def elicit(answer: Annotated[ElicitationResult[form], Resolve(ask_for_form)]) -> str:
        return f"{answer.action}: {answer.data.model_dump_json() if answer.action == 'accept' else None}"

    @lib.tool("get-roots-list")
    async def roots(known: Annotated[ListRootsResult, Resolve(ask_for_roots)]) -> str:
        return "\n".join(f"{root.name}: {root.uri}" for root in known.roots)
