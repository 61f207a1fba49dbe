"""What conversation.py does, step by step, and what each step saw.

The traps: the SDK has no way of cancelling a call (whoever does so drops the wait and sends the notification, as done
here); and what Streamable HTTP sends on another stream than the answer (updates, list_changed, server-everything's log
messages) may arrive after it, so these are awaited and never expected in an order.
"""

from base64 import b64decode
from typing import Any

import anyio
from mcp import types
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl, BaseModel
from session import Answers, Inbox, answer, brief, dump, failure, is_log, is_notification, listed, plain, sha256

MEBIBYTE = 1024 * 1024
PARALLEL_CALLS = 50
ODD_TEXT = (
    "line\u2028paragraph\u2029next\u0085bom\ufeffnul\u0000tab\tcrlf\r\n"
    '"\\" \u00fc\u4e16\U0001f600\U0001f469\u200d\U0001f680'
)
"""Characters that line-based and careless readers trip over."""
LATER_TOOL = "added-by-interop-py"
NO_ANSWER = {408, types.CONNECTION_CLOSED}
"""Error codes that the SDK makes itself, when no answer came."""


class UnknownRequest(BaseModel):
    """A request of a method that nobody knows."""

    method: str = "interop/unknown"


class Conversation:
    """The steps: every method named in `STEPS`, with its detail as the result."""

    def __init__(self, session: Any, inbox: Inbox, answers: Answers, profile: dict[str, Any]) -> None:
        self.session = session
        self.inbox = inbox
        self.answers = answers
        self.profile = profile
        self.cancelled: set[Any] = set()
        """Ids of the calls that this client cancelled."""

    async def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        return answer(await self.session.call_tool(name, arguments))

    async def say(self, message: str) -> str:
        return (await self.session.call_tool("echo", {"message": message})).content[0].text

    def no_late_result(self) -> bool:
        """Only results count: Python answers a cancelled call natively, with the error "Request cancelled"."""
        return not any(m.get("id") in self.cancelled and "result" in m for m in self.inbox.messages)

    async def initialize(self) -> Any:
        result = dump(await self.session.initialize())
        return {**result, "instructions": brief(result["instructions"])}

    async def ping(self) -> Any:
        return dump(await self.session.send_ping())

    async def tools_list(self) -> Any:
        """server-everything registers some tools only after `initialized`, and says so when it has."""
        while True:
            start = len(self.inbox.messages)
            tools = (await self.session.list_tools()).tools
            if any(tool.name == "trigger-sampling-request" for tool in tools):
                return listed(tools, "name")
            await self.inbox.arrival(is_notification("tools/list_changed"), start)

    async def prompts_list(self) -> Any:
        return listed((await self.session.list_prompts()).prompts, "name")

    async def resources_list(self) -> Any:
        return listed((await self.session.list_resources()).resources, "uri")

    async def resource_templates_list(self) -> Any:
        return listed((await self.session.list_resource_templates()).resourceTemplates, "name")

    async def echo(self) -> Any:
        return await self.say("hello")

    async def unicode(self) -> Any:
        back = await self.say(ODD_TEXT)
        return {"back": back, "equal": back == f"Echo: {ODD_TEXT}"}

    async def one_mebibyte(self) -> Any:
        message = sha256("seed") * (MEBIBYTE // 64)
        back = await self.say(message)
        there = await self.call("digest", message=message) if "digest" in self.profile["features"] else None
        arrived = there is None or sha256(message) in there["text"]
        return {"sent": len(message), "back": len(back), "arrived": arrived, "equal": back == f"Echo: {message}"}

    async def structured_content(self) -> Any:
        return await self.call("get-structured-content", location="New York")

    async def progress(self) -> Any:
        start = len(self.inbox.messages)
        called: list[Any] = []

        async def on_progress(progress: float, total: float | None, _: str | None) -> None:
            called.append([progress, total])

        arguments = {"duration": 0.5, "steps": 5}
        name = "trigger-long-running-operation"
        result = await self.session.call_tool(name, arguments, progress_callback=on_progress)
        here = self.inbox.messages[start:]
        at = [i for i, message in enumerate(here) if is_notification("progress")(message)]
        values = [[here[i]["params"]["progress"], here[i]["params"]["total"]] for i in at]
        return {
            "values": values,
            "inOrder": values == sorted(values),
            "beforeResult": bool(at) and at[-1] < next(i for i, message in enumerate(here) if "result" in message),
            "callbackSawAll": called == values,
            **answer(result),
        }

    async def logging(self) -> Any:
        """The Python server logs on demand; server-everything a message of a random level, and one a subscription."""
        start = len(self.inbox.messages)
        if "log" in self.profile["features"]:
            await self.session.set_logging_level("warning")
            result = await self.call("log")
            await self.inbox.arrival(is_log("emergency"), start)
            logs = [m["params"] for m in self.inbox.messages[start:] if is_log(" message$")(m)]
            return {"logs": [[log["level"], log["logger"], log["data"]] for log in logs], **result}
        await self.session.set_logging_level("debug")
        started = await self.call("toggle-simulated-logging")
        random = (await self.inbox.arrival(is_log("level.message"), start))["params"]
        stopped = await self.call("toggle-simulated-logging")
        start = len(self.inbox.messages)
        await self.session.subscribe_resource(AnyUrl(self.profile["watched"]))
        told = (await self.inbox.arrival(is_log("^Received Subscribe"), start))["params"]
        await self.session.unsubscribe_resource(AnyUrl(self.profile["watched"]))
        fits = random["data"].lower().startswith(random["level"])
        on_subscribe = [told["level"], plain(told["data"])]
        return {"levelFitsText": fits, "onSubscribe": on_subscribe, "started": started, "stopped": stopped}

    async def sampling(self) -> Any:
        result = await self.call("trigger-sampling-request", prompt="why?", maxTokens=17)
        return {"asked": self.answers.asked_sampling, **result}

    async def elicitation(self) -> Any:
        accepted = await self.call("trigger-elicitation-request")
        self.answers.elicitation = types.ElicitResult(action="decline")
        declined = await self.call("trigger-elicitation-request")
        return {"asked": self.answers.asked_elicitation, "accepted": accepted, "declined": declined}

    async def roots(self) -> Any:
        """server-everything caches the roots and fetches them anew when told of a change, which only its log shows."""
        before = await self.call("get-roots-list")
        self.answers.roots.append(types.Root(uri="file:///interop/two", name="two"))
        start = len(self.inbox.messages)
        await self.session.send_roots_list_changed()
        if self.profile["roots_log"]:
            await self.inbox.arrival(is_log(self.profile["roots_log"]), start)
        return {"before": before, "after": await self.call("get-roots-list")}

    async def subscription(self) -> Any:
        start = len(self.inbox.messages)
        await self.session.subscribe_resource(AnyUrl(self.profile["watched"]))
        first = await self.call(self.profile["watch_tool"])
        updated = await self.inbox.arrival(is_notification("resources/updated"), start)
        await self.session.unsubscribe_resource(AnyUrl(self.profile["watched"]))
        second = await self.call(self.profile["watch_tool"])
        return {"updated": updated["params"]["uri"], "first": first, "second": second}

    async def resource_read(self) -> Any:
        seen = []
        for uri in self.profile["reads"]:
            content = (await self.session.read_resource(AnyUrl(uri))).contents[0]
            is_text = isinstance(content, types.TextResourceContents)
            data = content.text if is_text else b64decode(content.blob).decode("latin-1")
            seen.append({"uri": str(content.uri), "mimeType": content.mimeType, "content": brief(data)})
        return seen

    async def prompt_get(self) -> Any:
        args = await self.session.get_prompt("args-prompt", {"city": "Z\u00fcrich", "state": "ZH"})
        completable = await self.session.get_prompt("completable-prompt", {"department": "Sales", "name": "Eve"})
        return {"args": dump(args)["messages"], "completable": dump(completable)["messages"]}

    async def completion(self) -> Any:
        async def values(ref: Any, argument: dict[str, str], context: dict[str, str] | None = None) -> list[str]:
            return (await self.session.complete(ref, argument, context)).completion.values

        prompt = types.PromptReference(type="ref/prompt", name="completable-prompt")
        template = types.ResourceTemplateReference(type="ref/resource", uri=self.profile["template"])
        return {
            "department": await values(prompt, {"name": "department", "value": "E"}),
            "name": await values(prompt, {"name": "name", "value": ""}, {"department": "Sales"}),
            "template": await values(template, self.profile["template_argument"]),
        }

    async def cancellation(self) -> Any:
        """The proof is a call that ends only after the cancelled one would have: by then an answer must have shown."""
        start = len(self.inbox.messages)
        given_up = anyio.CancelScope()

        async def ignore(*_: Any) -> None:
            pass

        async def long_call() -> None:
            with given_up:
                await self.session.call_tool(**self.profile["cancel_call"], progress_callback=ignore)

        async with anyio.create_task_group() as calls:
            calls.start_soon(long_call)
            seen = await self.inbox.arrival(is_notification("progress"), start)
            given_up.cancel()
        request_id = seen["params"]["progressToken"]  # this SDK takes the id for the token
        self.cancelled.add(request_id)
        params = types.CancelledNotificationParams(requestId=request_id, reason="enough")
        await self.session.send_notification(types.ClientNotification(types.CancelledNotification(params=params)))
        proof = await self.call(self.profile["cancel_proof"]["name"], **self.profile["cancel_proof"]["arguments"])
        after = await self.say("still here")
        rejected = given_up.cancelled_caught
        return {"rejected": rejected, "proof": proof, "noLateResult": self.no_late_result(), "after": after}

    async def parallel_calls(self) -> Any:
        words = [f"parallel {i} {sha256(str(i))}" for i in range(PARALLEL_CALLS)]
        texts: dict[str, str] = {}

        async def one(word: str) -> None:
            texts[word] = await self.say(word)

        async with anyio.create_task_group() as calls:
            for word in words:
                calls.start_soon(one, word)
        return {"calls": len(texts), "allMatched": all(texts[word] == f"Echo: {word}" for word in words)}

    async def refused(self, attempt: Any) -> Any:
        """What the server says to something wrong: a JSON-RPC error of its own, or a tool result with `isError`."""
        try:
            result = await attempt
        except McpError as error:
            if error.error.code in NO_ANSWER:
                raise
            return failure(error)
        is_call = isinstance(result, types.CallToolResult)
        return {"refused": is_call and result.isError, **(answer(result) if is_call else {})}

    async def error_unknown_tool(self) -> Any:
        return await self.refused(self.session.call_tool("no-such-tool"))

    async def error_invalid_arguments(self) -> Any:
        return await self.refused(self.session.call_tool("echo", {"message": {"not": "text"}}))

    async def error_invalid_params(self) -> Any:
        return await self.refused(self.session.get_prompt("args-prompt", {}))

    async def error_unknown_resource(self) -> Any:
        return await self.refused(self.session.read_resource(AnyUrl(self.profile["unknown_resource"])))

    async def error_unknown_method(self) -> Any:
        return await self.refused(self.session.send_request(UnknownRequest(), types.EmptyResult))

    async def headers(self) -> Any:
        return await self.call("headers")

    async def tools_list_changed(self) -> Any:
        async def names() -> list[str]:
            return sorted(tool.name for tool in (await self.session.list_tools()).tools)

        before = await names()
        start = len(self.inbox.messages)
        added = await self.call("add-tool", name=LATER_TOOL)
        await self.inbox.arrival(is_notification("tools/list_changed"), start)
        new = [name for name in await names() if name not in before]
        spoken = await self.call(LATER_TOOL)
        start = len(self.inbox.messages)
        await self.call("remove-tool", name=LATER_TOOL)
        await self.inbox.arrival(is_notification("tools/list_changed"), start)
        return {"new": new, "added": added, "spoken": spoken, "restored": await names() == before}

    async def echo_after(self) -> Any:
        return await self.say("goodbye")
