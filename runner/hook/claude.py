"""Reads what Claude Code gives a hook, and writes what it takes. Pure; imports next to nothing.

As documented at https://code.claude.com/docs/en/hooks, August 2026:

- "Common input fields", "Stop input", "UserPromptSubmit input": one JSON object on stdin.
- "Stop decision control": `{"decision": "block", "reason": ...}` lets Claude go on with the reason
  as its next instruction; `stop_hook_active` is true when it goes on because of that already, and
  after 8 blocks in a row Claude Code ends the turn all the same. `additionalContext` goes on, too:
  nothing at all reaches Claude from a Stop hook without one more turn.
- "UserPromptSubmit decision control": `additionalContext` rides along with the user's next prompt.
- "JSON output": `systemMessage` is for the user; each string at most 10,000 characters.
- "Exit code output": exit code 2 blocks by itself; with JSON on stdout, 0 is the one to use.

`SubagentStop` is not answered: the main agent's own stop follows it, and judges the same tree once
all its subagents are done. `transcript_path` is never read.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

LARGEST = 8 * 1024 * 1024
"""Bytes of input: the last message, background tasks and cron prompts take some thousand."""
MOST_CHARACTERS = 9_500
"""Of one string of the answer; Claude Code puts longer ones into a file."""
_WORKING = frozenset({"subagent", "workflow", "teammate", "cloud session"})
"""Background tasks that go on changing files; the session is woken up when they are done."""
_READ_ONLY = "plan"
"""The permission mode in which Claude may not edit."""


class Request(NamedTuple):
    """What a hook is asked."""

    event: str
    """`stop`, `prompt`, or empty where nothing is to be done."""
    session: str
    cwd: str
    again: bool = False
    """Whether the agent goes on because of a hook already."""


class Reply(NamedTuple):
    """What a hook answers; all empty lets the agent stop without a word."""

    block: str = ""
    """What the agent is to do before it stops."""
    context: str = ""
    """What the agent is told beside its user's prompt."""
    note: str = ""
    """What the user is told."""


def read(data: bytes) -> Request:
    """Return what Claude Code asks.

    Raises:
        ValueError: It is nothing that Claude Code documents; says what is wrong.
    """
    if len(data) > LARGEST:
        raise ValueError(f"the input is longer than {LARGEST // 1024**2} MB")
    try:
        given: Any = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("the input is no JSON") from None
    if not isinstance(given, dict):
        raise ValueError("the input is no JSON object")
    fields = cast("Mapping[str, Any]", given)
    event, session, cwd = (fields.get(key) for key in ("hook_event_name", "session_id", "cwd"))
    if not (isinstance(event, str) and isinstance(session, str) and isinstance(cwd, str)):
        raise ValueError("the input lacks `hook_event_name`, `session_id` or `cwd`")
    if not session or not _is_path(cwd):
        raise ValueError("the input's `session_id` or `cwd` is none")
    again = fields.get("stop_hook_active") is True
    return Request(_event(event, fields), session, cwd, again)


def write(event: str, reply: Reply) -> str:
    """Return the JSON that Claude Code takes; empty where there is nothing to say."""
    answer: dict[str, Any] = {}
    if reply.block:
        answer |= {"decision": "block", "reason": _cut(reply.block)}
    if reply.context and event == "prompt":
        context = {"hookEventName": "UserPromptSubmit", "additionalContext": _cut(reply.context)}
        answer["hookSpecificOutput"] = context
    if reply.note:
        answer["systemMessage"] = _cut(reply.note)
    return json.dumps(answer) if answer else ""


def _is_path(cwd: str) -> bool:
    try:
        # Half a character is nothing that a file system has.
        return b"\0" not in cwd.encode("utf-8", "surrogateescape") and cwd.startswith("/")
    except UnicodeEncodeError:
        return False


def _event(name: str, fields: Mapping[str, Any]) -> str:
    if name == "UserPromptSubmit":
        return "prompt"
    if name != "Stop" or fields.get("permission_mode") == _READ_ONLY or _goes_on(fields):
        return ""
    return "stop"


def _goes_on(fields: Mapping[str, Any]) -> bool:
    """Tell whether it is a subagent that stops, or the session only waits for its own."""
    listed = fields.get("background_tasks")
    tasks = cast("list[Any]", listed) if isinstance(listed, list) else []
    waiting = any(isinstance(one, dict) and _kind(one) in _WORKING for one in tasks)
    return waiting or bool(fields.get("agent_id"))


def _kind(task: Any) -> str:
    return str(task.get("type"))


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "\n[cut]"
