"""What conversation.py does, step by step, and what each step saw.

The traps: to cancel a call is to drop the wait for it, and with the SDK 1.x to send the notification too; and what
Streamable HTTP sends on another stream than the answer (updates, list_changed, server-everything's log messages) may
arrive after it, so these are awaited and never expected in an order.
"""

from base64 import b64decode
from typing import Any

import anyio
from sdk import Session
from session import Answers, Inbox, answer, brief, failure, is_log, is_notification, listed, plain, sha256

MEBIBYTE = 1024 * 1024
PARALLEL_CALLS = 50
ODD_TEXT = (
    "line\u2028paragraph\u2029next\u0085bom\ufeffnul\u0000tab\tcrlf\r\n"
    '"\\" \u00fc\u4e16\U0001f600\U0001f469\u200d\U0001f680'
)
"""Characters that line-based and careless readers trip over."""
LATER_TOOL = "added-by-interop-py"


def long(length: int) -> str:
    """A text as long as wanted."""
    return sha256("seed") * (length // 64)


class Conversation:
    """The steps: every method named in `STEPS`, with its detail as the result."""

    def __init__(self, session: Session, inbox: Inbox, answers: Answers, profile: dict[str, Any]) -> None:
        self.session = session
        self.inbox = inbox
        self.answers = answers
        self.profile = profile
        self.cancelled: set[Any] = set()
        """Ids of the calls that this client cancelled."""

    async def call(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        return answer(await self.session.call(name, arguments))

    async def say(self, message: str) -> str:
        return (await self.session.call("echo", {"message": message}))["content"][0]["text"]

    async def echoed(self, word: str) -> Any:
        """A word that must come back as it was sent."""
        back = await self.say(word)
        return {"back": back, "equal": back == f"Echo: {word}"}

    def no_late_result(self) -> bool:
        """Only results count: Python answers a cancelled call natively, with the error "Request cancelled"."""
        return not any(m.get("id") in self.cancelled and "result" in m for m in self.inbox.messages)

    async def initialize(self) -> Any:
        result = await self.session.initialize()
        return {**result, "instructions": brief(result.get("instructions", ""))}

    async def ping(self) -> Any:
        return await self.session.ping()

    async def tools_list(self) -> Any:
        """server-everything registers some tools only after `initialized`, and says so when it has."""
        while True:
            start = len(self.inbox.messages)
            tools = await self.session.list("tools")
            if any(tool["name"] == "trigger-sampling-request" for tool in tools):
                return listed(tools, "name")
            await self.inbox.arrival(is_notification("tools/list_changed"), start)

    async def prompts_list(self) -> Any:
        return listed(await self.session.list("prompts"), "name")

    async def resources_list(self) -> Any:
        return listed(await self.session.list("resources"), "uri")

    async def resource_templates_list(self) -> Any:
        return listed(await self.session.list("resource_templates"), "name")

    async def echo(self) -> Any:
        return await self.echoed("hello")

    async def unicode(self) -> Any:
        return await self.echoed(ODD_TEXT)

    async def one_mebibyte(self) -> Any:
        message = long(MEBIBYTE)
        back = await self.say(message)
        there = await self.call("digest", message=message) if "digest" in self.profile["features"] else None
        arrived = there is None or sha256(message) in there["text"]
        return {"sent": len(message), "back": len(back), "arrived": arrived, "equal": back == f"Echo: {message}"}

    async def three_mebibyte_request(self) -> Any:
        """Close to what servers take: 4 MiB. Where there is no `digest`, the echo tells whether it arrived."""
        message = long(3 * MEBIBYTE)
        if "digest" not in self.profile["features"]:
            return {"arrived": await self.say(message) == f"Echo: {message}"}
        told = await self.call("digest", message=message)
        return {"text": told["text"], "arrived": sha256(message) in told["text"]}

    async def ten_mebibyte_result(self) -> Any:
        result = await self.session.call("long-text", {"length": 10 * MEBIBYTE})
        text = result["content"][0]["text"]
        return {"length": len(text), "equal": text == long(10 * MEBIBYTE)}

    async def structured_content(self) -> Any:
        return await self.call("get-structured-content", location="New York")

    async def progress(self) -> Any:
        start = len(self.inbox.messages)
        called: list[Any] = []

        async def on_progress(progress: float, total: float | None, _: str | None) -> None:
            called.append([progress, total])

        arguments = {"duration": 0.5, "steps": 5}
        name = "trigger-long-running-operation"
        result = answer(await self.session.call(name, arguments, on_progress))
        here = self.inbox.messages[start:]
        at = [i for i, message in enumerate(here) if is_notification("progress")(message)]
        values = [[here[i]["params"]["progress"], here[i]["params"]["total"]] for i in at]
        return {
            "values": values,
            "inOrder": values == sorted(values),
            "beforeResult": bool(at) and at[-1] < next(i for i, message in enumerate(here) if "result" in message),
            "callbackSawAll": called == values,
            **result,
        }

    async def logging(self) -> Any:
        """The Python server logs on demand; server-everything a message of a random level, and one a subscription."""
        start = len(self.inbox.messages)
        if "log" in self.profile["features"]:
            await self.session.set_level("warning")
            result = await self.call("log")
            await self.inbox.arrival(is_log("emergency"), start)
            logs = [m["params"] for m in self.inbox.messages[start:] if is_log(" message$")(m)]
            return {"logs": [[log["level"], log["logger"], log["data"]] for log in logs], **result}
        await self.session.set_level("debug")
        started = await self.call("toggle-simulated-logging")
        random = (await self.inbox.arrival(is_log("level.message"), start))["params"]
        stopped = await self.call("toggle-simulated-logging")
        start = len(self.inbox.messages)
        await self.session.subscribe(self.profile["watched"])
        told = (await self.inbox.arrival(is_log("^Received Subscribe"), start))["params"]
        await self.session.unsubscribe(self.profile["watched"])
        fits = random["data"].lower().startswith(random["level"])
        on_subscribe = [told["level"], plain(told["data"])]
        return {"levelFitsText": fits, "onSubscribe": on_subscribe, "started": started, "stopped": stopped}

    async def sampling(self) -> Any:
        result = await self.call("trigger-sampling-request", prompt="why?", maxTokens=17)
        asked = self.answers.asked_sampling
        return {"asked": asked, "reached": len(asked) == 1, **result}

    async def elicitation(self) -> Any:
        accepted = await self.call("trigger-elicitation-request")
        self.answers.elicitation = {"action": "decline"}
        declined = await self.call("trigger-elicitation-request")
        asked = self.answers.asked_elicitation
        return {"asked": asked, "reached": len(asked) == 2, "accepted": accepted, "declined": declined}

    async def roots(self) -> Any:
        """server-everything caches the roots and fetches them anew when told of a change, which only its log shows."""
        before = await self.call("get-roots-list")
        self.answers.roots.append({"uri": "file:///interop/two", "name": "two"})
        start = len(self.inbox.messages)
        await self.session.roots_changed()
        if self.profile["roots_log"]:
            await self.inbox.arrival(is_log(self.profile["roots_log"]), start)
        reached = not before.get("isError", False)
        return {"before": before, "reached": reached, "after": await self.call("get-roots-list")}

    async def questions_in_rounds(self) -> Any:
        """Two questions at once, one of them about roots, and then one that follows from an answer."""
        start = len(self.answers.asked_sampling)
        result = await self.call("ask-in-rounds")
        asked = self.answers.asked_sampling[start:]
        return {"asked": asked, "reached": len(asked) == 2, **result}

    async def subscription(self) -> Any:
        """What is touched while nobody is subscribed must not be told; the echo gives it the time to come."""
        start = len(self.inbox.messages)
        uri, touch = self.profile["watched"], self.profile["watch_tool"]

        def updates() -> list[Any]:
            return [m["params"] for m in self.inbox.messages[start:] if is_notification("resources/updated")(m)]

        await self.session.subscribe(uri)
        first = await self.call(touch)
        await self.inbox.arrival(lambda _: len(updates()) == 1)
        await self.session.unsubscribe(uri)
        second = await self.call(touch)
        told = {"updated": updates()[0]["uri"], "first": first, "second": second}
        if touch != "touch-resource":
            return told
        await self.say("is it quiet?")
        quiet = len(updates()) == 1
        await self.session.subscribe(uri)
        third = await self.call(touch)
        await self.inbox.arrival(lambda _: len(updates()) > 1)
        await self.session.unsubscribe(uri)
        return {**told, "quiet": quiet, "third": third}

    async def resource_read(self) -> Any:
        seen = []
        for uri in self.profile["reads"]:
            content = await self.session.read(uri)
            data = content["text"] if "text" in content else b64decode(content["blob"]).decode("latin-1")
            seen.append({"uri": content["uri"], "mimeType": content.get("mimeType"), "content": brief(data)})
        return seen

    async def prompt_get(self) -> Any:
        return {
            "args": await self.session.prompt("args-prompt", {"city": "Z\u00fcrich", "state": "ZH"}),
            "completable": await self.session.prompt("completable-prompt", {"department": "Sales", "name": "Eve"}),
        }

    async def completion(self) -> Any:
        complete, prompt = self.session.complete, {"name": "completable-prompt"}
        template, argument = {"uri": self.profile["template"]}, self.profile["template_argument"]
        return {
            "department": await complete("prompt", prompt, {"name": "department", "value": "E"}),
            "name": await complete("prompt", prompt, {"name": "name", "value": ""}, {"department": "Sales"}),
            "template": await complete("resource", template, argument),
        }

    async def cancellation(self) -> Any:
        """The proof is a call that ends only after the cancelled one would have: by then an answer must have shown."""
        start = len(self.inbox.messages)
        given_up = anyio.CancelScope()

        async def ignore(*_: Any) -> None:
            pass

        async def long_call() -> None:
            with given_up:
                await self.session.call(**self.profile["cancel_call"], on_progress=ignore)

        async with anyio.create_task_group() as calls:
            calls.start_soon(long_call)
            seen = await self.inbox.arrival(is_notification("progress"), start)
            given_up.cancel()
        request_id = seen["params"]["progressToken"]  # this SDK takes the id for the token
        self.cancelled.add(request_id)
        await self.session.cancelled(request_id, "enough")
        proof = await self.call(self.profile["cancel_proof"]["name"], **self.profile["cancel_proof"]["arguments"])
        after = await self.say("still here")
        rejected = given_up.cancelled_caught
        return {
            "rejected": rejected,
            "proof": proof,
            "reached": proof["text"] != "not cancelled",
            "noLateResult": self.no_late_result(),
            "after": after,
        }

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
        except Exception as error:
            if not self.session.is_servers_error(error):
                raise
            return failure(error)
        is_call = isinstance(result, dict) and "content" in result
        return {"refused": is_call and result.get("isError", False), **(answer(result) if is_call else {})}

    async def error_unknown_tool(self) -> Any:
        return await self.refused(self.session.call("no-such-tool", {}))

    async def error_invalid_arguments(self) -> Any:
        return await self.refused(self.session.call("echo", {"message": {"not": "text"}}))

    async def error_invalid_params(self) -> Any:
        return await self.refused(self.session.prompt("args-prompt", {}))

    async def error_unknown_resource(self) -> Any:
        return await self.refused(self.session.read(self.profile["unknown_resource"]))

    async def error_unknown_method(self) -> Any:
        return await self.refused(self.session.unknown_method())

    async def mirrored_argument(self) -> Any:
        return await self.call("where", region="Z\u00fcrich")

    async def headers(self) -> Any:
        return await self.call("headers")

    async def tools_list_changed(self) -> Any:
        async def names() -> list[str]:
            return sorted(tool["name"] for tool in await self.session.list("tools"))

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
        return await self.echoed("goodbye")
