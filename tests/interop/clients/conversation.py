"""One whole conversation of a legacy client, as an official Python client holds it:

    python conversation.py default|without-probe|VERSION sse|http URL SERVER

The client is whatever SDK is installed; 2.x probes for the era of 2026 unless told otherwise, and 1.x asks for its newest
version of the protocol unless told another. Promises: what
conversation.mjs promises, step by step, in the same words. The exit code is 1 if there was no session, so that no step
could be tried.

The trap: the SDK POSTs one message at a time and its writer dies for ever of one refused POST, so that every step after
that one fails too.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import anyio

sys.dont_write_bytecode = True  # nothing of ours is to appear in the tree
from sdk import connect  # noqa: E402
from session import DEADLINE_S, Answers, Inbox, failure  # noqa: E402
from steps import Conversation  # noqa: E402

STEPS = """initialize ping tools_list prompts_list resources_list resource_templates_list echo unicode one_mebibyte
    three_mebibyte_request ten_mebibyte_result structured_content progress logging sampling elicitation roots
    questions_in_rounds subscription resource_read prompt_get completion cancellation parallel_calls error_unknown_tool
    error_invalid_arguments error_invalid_params error_unknown_resource error_unknown_method mirrored_argument headers
    tools_list_changed echo_after""".split()
NEEDS = {
    "headers": "headers",
    "mirrored_argument": "where",
    "questions_in_rounds": "ask-in-rounds",
    "tools_list_changed": "add-tool",
    "ten_mebibyte_result": "long-text",
}
"""Steps that take a feature of the profile."""


def report(step: str, ok: bool, detail: Any) -> None:
    """The line of a step; a check that came out false fails it."""
    if isinstance(detail, dict):
        ok = ok and not any(value is False for value in detail.values())
    print(json.dumps({"step": step, "ok": ok, "detail": detail}), flush=True)


def skip(step: str, profile: dict[str, Any], client_lacks: dict[str, str]) -> bool:
    """Tells why a step is not tried, if so."""
    if step in client_lacks:
        why = {"skipped": client_lacks[step], "whose": "client"}
    elif step in profile["lacks"]:
        why = {"skipped": profile["lacks"][step], "whose": "server"}
    elif step in NEEDS and NEEDS[step] not in profile["features"]:
        why = {"skipped": "it has no tool for that", "whose": "server"}
    else:
        return False
    print(json.dumps({"step": step, **why}), flush=True)
    return True


async def undisturbed(inbox: Inbox, run: Any) -> Any:
    """What `run` gives; an error as soon as the transport reports one: what it could not read will not come again."""
    start = len(inbox.messages)

    async def watch() -> None:
        seen = await inbox.arrival(lambda message: "trouble" in message, start)
        raise RuntimeError(seen["trouble"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        result = await run()
        tasks.cancel_scope.cancel()
    return result


async def converse(mode: str, kind: str, url: str, profile: dict[str, Any]) -> int:
    inbox, answers = Inbox(), Answers()
    talk: Conversation | None = None
    troubles: list[str] = []
    # One scope around the whole, as the transport's contexts allow none that ends inside them: its deadline is set
    # for connecting and for closing, and lifted in between, where every step has its own.
    try:
        with anyio.fail_after(DEADLINE_S) as whole:
            async with connect(mode, kind, url, inbox, answers) as session:
                whole.deadline = math.inf
                talk = Conversation(session, inbox, answers, profile)
                client_lacks = session.lacks(profile["features"])
                if not session.modern:
                    profile["lacks"] |= profile["lacks_straight"]
                for step in STEPS:
                    if skip(step, profile, client_lacks):
                        continue
                    try:
                        with anyio.fail_after(DEADLINE_S):
                            detail = await undisturbed(inbox, getattr(talk, step))
                        report(step, True, detail)
                    except Exception as error:
                        report(step, False, failure(error))
                troubles = [message["trouble"] for message in inbox.messages if "trouble" in message]
                whole.deadline = anyio.current_time() + DEADLINE_S
    except Exception as error:
        report("close" if talk else "initialize", False, failure(error))
        return 0 if talk else 1
    report("close", True, {"noLateResult": talk.no_late_result(), "untroubled": not troubles, "troubles": troubles})
    return 0


def main() -> None:
    profiles = json.loads(Path(__file__).with_name("profiles.json").read_text())
    if len(sys.argv) != 5 or sys.argv[4] not in profiles["servers"]:
        sys.exit("usage: python conversation.py default|without-probe|VERSION sse|http URL SERVER")
    _, mode, kind, url, name = sys.argv
    server = profiles["servers"][name]
    profile = {**profiles["tools"][server["tools"]], "lacks": server["lacks"]}
    profile["lacks_straight"] = server.get("lacks_in_the_session_era", {}) if kind == "http" else {}
    sys.exit(anyio.run(converse, mode, kind, url, profile))


if __name__ == "__main__":
    main()
