"""The three Python server libraries behind one face: `mcp` 1.x (FastMCP), `mcp` 2.x (MCPServer) and `fastmcp`. Which
`mcp` it is is found out from what is installed.

Promises: what python_server.py registers means the same in all of them. The three agree on most decorators and on
`Context`; only where they do not, there is a method here.

The trap: in 2.x `ctx.session` is made anew for every request, so nothing can be remembered by it.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from mcp import types

try:
    from mcp.server.mcpserver import Context as SdkContext
    from mcp.server.mcpserver import MCPServer as SdkServer

    SECOND = True
except ImportError:
    from mcp.server.fastmcp import Context as SdkContext
    from mcp.server.fastmcp import FastMCP as SdkServer

    SECOND = False


class Sdk:
    """The server of the `mcp` package itself."""

    Context = SdkContext
    """What a tool annotates an argument with to be given the request."""
    modern: bool
    """Whether the tools are to be those for clients of the era of 2026, which keeps no session."""

    def __init__(self, name: str, instructions: str, json_response: bool, stateless: bool) -> None:
        modes = {"json_response": json_response, "stateless_http": stateless}
        self.modern = SECOND and stateless
        # 1.x takes the modes with the server, 2.x with the app.
        self.app_modes = modes if SECOND else {}
        server_modes = {} if SECOND else modes
        self.server = SdkServer(name, instructions=instructions, log_level="WARNING", **server_modes)
        self.low_level = self.server._lowlevel_server if SECOND else self.server._mcp_server
        self._declare()

    def app(self, transport: str) -> Any:
        """The web application, for `sse` or `streamableHttp`."""
        return self.server.sse_app() if transport == "sse" else self.server.streamable_http_app(**self.app_modes)

    def tool(self, name: str | None = None) -> Any:
        """A tool whose result is text only."""
        return self.server.tool(name=name, structured_output=False)

    def add_tool(self, function: Callable[..., Any], name: str) -> None:
        self.server.add_tool(function, name=name, description="Added later", structured_output=False)

    def remove_tool(self, name: str) -> None:
        self.server.remove_tool(name)

    def completion(self) -> Any:
        return self.server.completion()

    def on(self, method: str, handler: Callable[[Any, Any], Awaitable[None]]) -> None:
        """Registers `handler(session, params)` for a request that no decorator of the library is for."""
        request = {
            "logging/setLevel": "SetLevelRequest",
            "resources/subscribe": "SubscribeRequest",
            "resources/unsubscribe": "UnsubscribeRequest",
        }[method]

        async def second(ctx: Any, params: Any) -> types.EmptyResult:
            await handler(remembered(ctx.session), params)
            return types.EmptyResult()

        async def first(request: Any) -> types.ServerResult:
            await handler(remembered(self.low_level.request_context.session), request.params)
            return types.ServerResult(types.EmptyResult())

        if SECOND:
            self.low_level.add_request_handler(method, getattr(types, f"{request}Params"), second)
        else:
            self.low_level.request_handlers[getattr(types, request)] = first

    def _declare(self) -> None:
        """The SDK never declares that tools may change, nor, in 1.x, that resources can be subscribed to."""
        from mcp.server.lowlevel import NotificationOptions

        original = self.low_level.create_initialization_options

        def options(*_: Any, **__: Any) -> Any:
            made = original(NotificationOptions(tools_changed=True))
            made.capabilities.resources.subscribe = True
            return made

        self.low_level.create_initialization_options = options


class FastMcp(Sdk):
    """The server of the `fastmcp` package, which stands on `mcp` 2.x."""

    def __init__(self, name: str, instructions: str, json_response: bool, stateless: bool) -> None:
        import fastmcp

        self.Context = fastmcp.Context
        self.modern = False
        self.app_modes = {"json_response": json_response, "stateless_http": stateless}
        self.server = fastmcp.FastMCP(name, instructions=instructions)
        self.low_level = self.server._mcp_server

    def app(self, transport: str) -> Any:
        return self.server.http_app(transport="sse" if transport == "sse" else "http", **self.app_modes)

    def tool(self, name: str | None = None) -> Any:
        return self.server.tool(name=name, output_schema=None)

    def add_tool(self, function: Callable[..., Any], name: str) -> None:
        from fastmcp.tools import Tool

        made = Tool.from_function(function, name=name, description="Added later", output_schema=None)
        self.server.add_tool(made)

    def remove_tool(self, name: str) -> None:
        self.server.local_provider.remove_tool(name)


LIBRARIES = {"mcp": Sdk, "fastmcp": FastMcp}


def remembered(session: Any) -> Any:
    """What stays the same during a client's session; 2.x has it behind the session of the request."""
    return getattr(session, "_connection", session)
