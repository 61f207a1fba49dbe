"""A protected server of the Python SDK 1.x, as it was (HTTP+SSE at /sse and /messages/) or upgraded (Streamable HTTP at /mcp):

    python oauth.py native|upgraded --issuer URL [--origin URL] [--audience URL ...]

Promises: the SDK's own auth settings and middleware, with tokens verified by introspection, so that one that is taken back
is refused at once. Without --audience the SDK compares the token's resource with the server's own URL, exactly; with it,
tokens for any of these are taken. `restricted` needs a scope more, and says so by HTTP 403. It says LISTENING as the other
servers here, and ends with its stdin.

The trap: the SDK's own 403 names no scope, so that no client could know what to ask for; this one names it.
"""

import argparse
import json
import os
import socket
import sys
import threading
from collections import Counter
from typing import Any

import httpx
import uvicorn
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.routes import build_resource_metadata_url
from mcp.server.auth.settings import AuthSettings
from mcp.server.fastmcp import FastMCP
from pydantic import AnyHttpUrl
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

sys.dont_write_bytecode = True  # nothing of ours is to appear in the tree


class Introspection:
    """Asks the authorization server about every token."""

    def __init__(self, issuer: str, audiences: list[str]) -> None:
        self.url = f"{issuer}/introspect"
        self.audiences = audiences

    async def verify_token(self, token: str) -> AccessToken | None:
        async with httpx.AsyncClient(trust_env=False) as client:
            told = (await client.post(self.url, data={"token": token})).json()
        if not told["active"] or (self.audiences and told["aud"] not in self.audiences):
            return None
        return AccessToken(
            token=token,
            client_id=told["client_id"],
            scopes=told["scope"].split(),
            expires_at=told["exp"],
            resource=told["aud"],
            subject=told["sub"],
            claims=told,
        )


class StepUp:
    """Refuses `restricted` to whoever lacks the scope for it."""

    def __init__(self, app: Any, metadata: str) -> None:
        self.app = app
        self.challenge = (
            'Bearer error="insufficient_scope", error_description="Required scope: admin", scope="mcp admin", '
            f'resource_metadata="{metadata}"'
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            return await self.app(scope, receive, send)
        events = []
        while not events or events[-1].get("more_body"):
            events.append(await receive())
        body = b"".join(event.get("body", b"") for event in events)
        try:
            wanted = json.loads(body)["params"]["name"]
        except (ValueError, KeyError, TypeError):
            wanted = None
        if wanted == "restricted" and "auth" in scope and scope["auth"].scopes and "admin" not in scope["auth"].scopes:
            headers = {"WWW-Authenticate": self.challenge}
            error = {"error": "insufficient_scope", "error_description": "Required scope: admin"}
            return await JSONResponse(error, 403, headers)(scope, receive, send)

        async def again() -> Any:
            return events.pop(0) if events else await receive()

        await self.app(scope, again, send)


def build(settings: AuthSettings, verifier: Introspection) -> FastMCP:
    server = FastMCP("interop-protected", auth=settings, token_verifier=verifier)
    counts: Counter[str] = Counter()

    @server.tool()
    def restricted() -> str:
        return "Restricted: done"

    @server.tool()
    def count() -> str:
        """How often it ran for this user."""
        user = get_access_token().subject
        counts[user] += 1
        return f"Count: {counts[user]}"

    return server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("age", choices=["native", "upgraded"])
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--origin")
    parser.add_argument("--audience", action="append", default=[])
    options = parser.parse_args()

    listener = socket.create_server(("127.0.0.1", 0))
    address = "http://%s:%d" % listener.getsockname()
    resource = (options.origin or address) + ("/sse" if options.age == "native" else "/mcp")
    settings = AuthSettings(
        issuer_url=options.issuer,
        resource_server_url=resource,
        required_scopes=["mcp"],
        validate_token_resource=not options.audience,
    )
    server = build(settings, Introspection(options.issuer, options.audience))
    app = server.sse_app() if options.age == "native" else server.streamable_http_app()
    # Innermost: it needs what the SDK's middleware found out.
    metadata = str(build_resource_metadata_url(AnyHttpUrl(resource)))
    app.user_middleware.append(Middleware(StepUp, metadata=metadata))

    def end_with_stdin() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=end_with_stdin, daemon=True).start()
    print(f"LISTENING {address}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


main()
