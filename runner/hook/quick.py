"""Answers a hook from what is remembered, in the time that Python takes to start.

A tree that passed, or whose failure was told, and that looks as it did then, needs no run. Whatever
is not certain goes the long way: the command line with all its imports.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

from runner.hook import claude
from runner.hook.memory import file_of, recall, remember
from runner.hook.stamps import stamp_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.hook.claude import Request

SETTLED = frozenset({"passed", "noted"})
_OWN = "subagent-runner"


def answered(argv: Sequence[str]) -> bool:
    """Answer `runner hook claude-code` if nothing has to run; else leave stdin as it was."""
    if "claude-code" not in argv or sys.stdin is None or sys.stdin.isatty():
        return False
    data = sys.stdin.buffer.read(claude.LARGEST + 1)
    try:
        text = reply(data, argv, os.environ)
    except (OSError, ValueError, TypeError):
        text = None
    if text is None:
        sys.stdin = io.TextIOWrapper(io.BytesIO(data))
        return False
    if text:
        print(text)  # noqa: T201  the answer; click is not there yet
    return True


def reply(data: bytes, argv: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """Return the answer, empty for none at all; `None` where that takes a closer look.

    Raises:
        ValueError: The input is not what Claude Code documents.
        OSError: The session's file cannot be written.
    """
    asked = claude.read(data)
    if not asked.event:
        return ""
    root = root_of(asked.cwd)
    if not root:
        return ""
    state = state_of(argv, environ)
    if not state:
        return None
    return _remembered(asked, file_of(state, root, asked.session, argv))


def _remembered(asked: Request, file: str) -> str | None:
    memory = recall(file)
    if asked.event == "prompt":
        if not memory.changed:
            return ""
        context = told_of(memory.changed)
        memory.changed = []
        remember(file, memory)
        return claude.write(asked.event, claude.Reply(context=context))
    if memory.state in SETTLED and memory.stamp and memory.stamp == stamp_of(memory.paths):
        return ""
    return None


def told_of(changed: Sequence[str]) -> str:
    """Say to the agent which files are no longer as it knows them."""
    named = ", ".join(ascii(path)[1:-1] for path in changed[:40])
    more = f" and {len(changed) - 40} more" if len(changed) > 40 else ""
    return (
        "The repository's workflow (runner) changed these files after your last turn; they are not"
        f" as you read or wrote them: {named}{more}"
    )


def root_of(cwd: str) -> str:
    """Return the real path of the git work tree around a directory; empty where there is none."""
    at = os.path.realpath(cwd)
    while True:
        if os.path.lexists(f"{at}/.git"):
            return at
        above = os.path.dirname(at)  # noqa: PTH120  pathlib costs as much as all else here
        if above == at:
            return ""
        at = above


def state_of(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the runner's state directory, as `state_root` does; empty where it is not certain."""
    given = environ.get("SUBRUNNER_STATE_DIR") or ""
    for at, word in enumerate(argv):
        if word == "--state-dir":
            given = argv[at + 1] if at + 1 < len(argv) else ""
        elif word.startswith("--state-dir="):
            given = word.partition("=")[2]
        elif word.startswith("--state"):
            return ""
    if given:
        return os.path.abspath(os.path.expanduser(given))  # noqa: PTH100, PTH111  as above
    home = os.path.expanduser("~")  # noqa: PTH111  as above
    if sys.platform == "darwin":
        return f"{home}/Library/Application Support/{_OWN}"
    base = environ.get("XDG_STATE_HOME") or ""
    return f"{base if base.strip() else home + '/.local/state'}/{_OWN}"
