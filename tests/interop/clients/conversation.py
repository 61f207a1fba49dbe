"""One whole conversation of a legacy client, as the Python SDK holds it over HTTP+SSE:

    python conversation.py SSE_URL everything|python

Promises: what conversation.mjs promises, step by step: one JSON object a step on stdout, ``{"step", "ok", "detail"}``,
with details so plain that a native legacy server and the proxy before the same server's Streamable HTTP flavour give
the same bytes. A step that throws is ``ok: false`` with the normalised error, one whose detail says ``false`` to a
check is so too, and the conversation goes on; no step outlives its deadline; the exit code is 0 whenever the end was
reached (1: no event stream, so that no step could be tried). What the two servers do differently stands in
profiles.json.

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
from session import DEADLINE_S, Answers, Inbox, connect, failure  # noqa: E402
from steps import Conversation  # noqa: E402

STEPS = """initialize ping tools_list prompts_list resources_list resource_templates_list echo unicode one_mebibyte
    structured_content progress logging sampling elicitation roots subscription resource_read prompt_get completion
    cancellation parallel_calls error_unknown_tool error_invalid_arguments error_invalid_params error_unknown_resource
    error_unknown_method headers tools_list_changed echo_after""".split()
NEEDS = {"headers": "headers", "tools_list_changed": "add-tool"}
"""Steps that take a feature of the profile."""


def report(step: str, ok: bool, detail: Any) -> None:
    """The line of a step; a check that came out false fails it."""
    if isinstance(detail, dict):
        ok = ok and not any(value is False for value in detail.values())
    print(json.dumps({"step": step, "ok": ok, "detail": detail}), flush=True)


async def converse(url: str, profile: dict[str, Any]) -> int:
    inbox, answers = Inbox(), Answers()
    talk: Conversation | None = None
    troubles: list[str] = []
    # One scope around the whole, as the transport's contexts allow none that ends inside them: its deadline is set
    # for connecting and for closing, and lifted in between, where every step has its own.
    try:
        with anyio.fail_after(DEADLINE_S) as whole:
            async with connect(url, inbox, answers) as session:
                whole.deadline = math.inf
                talk = Conversation(session, inbox, answers, profile)
                for step in STEPS:
                    if step in NEEDS and NEEDS[step] not in profile["features"]:
                        continue
                    try:
                        with anyio.fail_after(DEADLINE_S):
                            detail = await getattr(talk, step)()
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
    if len(sys.argv) != 3 or sys.argv[2] not in profiles:
        sys.exit("usage: python conversation.py SSE_URL everything|python")
    sys.exit(anyio.run(converse, sys.argv[1], profiles[sys.argv[2]]))


if __name__ == "__main__":
    main()
