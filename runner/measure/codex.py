"""Reads the requests of a Codex session log; lets out numbers, a model and families. Pure.

One line is `{timestamp, type, payload}`, in newer versions with an `ordinal`. What matters
(observed up to version 0.156, in public fixtures and in codex-rs/rollout and codex-rs/protocol of
github.com/openai/codex):

- `event_msg` of type `token_count`: a request's end. `info.total_token_usage` grows over the whole
  session, `info.last_token_usage` is the request's own; an event whose total did not grow repeats
  one (limits were read anew). `input_tokens` includes `cached_input_tokens` and
  `cache_write_input_tokens`; `output_tokens` includes reasoning.
- `response_item` of type `function_call` (`exec_command`, `shell`, `write_stdin` ...),
  `local_shell_call` or `custom_tool_call`: a tool's call, written before the request's event; its
  `..._output` comes after.
- `turn_context` and `session_meta`: model, provider, the session's id.
- `compacted`: the conversation before it is gone.

A fork or a subagent's log begins with its parent's records: below `subagent_history_start_ordinal`,
of a task that had begun long before it was written, or older than the log itself.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from runner.measure.claude import work_of
from runner.measure.mechanical import Mechanical, mechanical
from runner.measure.parse import (
    TOO_LONG,
    Json,
    digest,
    inside,
    is_list,
    is_object,
    model_id,
    parsed,
    seconds,
    session_name,
    text,
    tokens,
)
from runner.measure.records import Trouble, Turn, Used

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.measure.claude import Call
    from runner.measure.records import Record

_KNOWN = frozenset(
    {"inter_agent_communication", "world_state"}  # the others are read
)
_COUNTS = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens")
_EXIT = re.compile(r"(?:exited with code|[Ee]xit code:?)\s*(-?\d{1,10})")
_HEAD = 400
"""Characters of a result in which its exit code can stand."""
_REPLAYED = 120.0
"""Seconds by which a task's start may lie before its record: later, it is another session's."""
_REPEATED_WITHIN = 5.0
"""Seconds in which an old version had repeated a parent's records."""
_SHELL_NAMES = frozenset({"exec_command", "shell", "shell_command", "container.exec"})
_SCRIPT_CALL = re.compile(r"\btools\.(\w+)\s*\(")
_SCRIPT_COMMAND = re.compile(
    r"\btools\.exec_command\s*\(\s*\{[^{}]*?\bcmd\s*:\s*"
    r"(\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\$]|\\.)*`)"
)
_PROVIDERS = {"openai": "openai", "azure": "openai", "openrouter": "openrouter"}


def read(lines: Iterable[bytes], file: str) -> Iterator[Record]:
    """Return the requests of one log, each once its tools' results were seen.

    Args:
        lines: Of the log.
        file: Its name, standing for a session that has none.
    """
    reader = _Reader(file)
    for line in lines:
        yield from reader.line(line)
    yield from reader.rest()


class _Call:
    """A tool's call and whether it succeeded."""

    def __init__(self, what: Call) -> None:
        self.what: Call = what
        self.passed: bool | None = None

    def told(self) -> bool | None:
        """Tell whether all of it succeeded; `None` where its exit code does not say so."""
        telling = isinstance(self.what, Mechanical) and self.what.telling
        return None if self.passed and not telling else self.passed


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.session = ""
        self.ancestors: list[str] = []
        self.side = False
        self.model: Any = None
        self.provider = "openai"
        self.fast = False
        self.start: float | None = None
        self.history = 0
        """Ordinals below it are the parent's."""
        self.replaying = False
        self.dated = False
        """Whether a task's own start told so; else only the first moments are taken for it."""
        self.fresh = False
        self.asked: float | None = None
        self.total: Used | None = None
        self.calls: dict[str, _Call] = {}
        """Of the request that is still open."""
        self.done: tuple[Turn, dict[str, _Call]] | None = None
        """The last request, until all results of its calls were seen."""

    def line(self, line: bytes) -> Iterator[Record]:
        if not line.strip():
            return
        record = parsed(line)
        if record is None:
            yield Trouble("lines over 8 MB" if line == TOO_LONG else "broken lines")
            return
        payload = inside(record, "payload")
        at = seconds(record.get("timestamp"))
        match text(record.get("type")):
            case "event_msg":
                yield from self._event(record, payload, at)
            case "response_item":
                self._item(payload, at)
            case "turn_context":
                self.model = payload.get("model") or self.model
                self._ask(at)
            case "session_meta":
                self._meta(payload, at)
            case "compacted":
                self.fresh = True
            case kind if kind not in _KNOWN:
                yield Trouble("records of other kinds")
            case _:
                pass

    def rest(self) -> Iterator[Record]:
        """Return the last request."""
        if self.done is not None:
            turn, calls = self.done
            self.done = None
            yield _finished(turn, calls)

    def _meta(self, payload: Json, at: float | None) -> None:
        name = text(payload.get("id")) or text(payload.get("session_id"))
        if self.session:
            if name != self.session:
                # The parent's, at the head of what is repeated from it.
                self.ancestors.append(name)
                self.replaying, self.dated = not self.history, False
            return
        self.session = name or self.file
        self.start = at if (started := seconds(payload.get("timestamp"))) is None else started
        source = inside(payload, "source", "subagent")
        self.side = bool(source) or payload.get("thread_source") == "subagent"
        self.provider = text(payload.get("model_provider")) or "openai"
        parents = [payload.get("forked_from_id"), payload.get("parent_thread_id")]
        self.ancestors += [parent for parent in parents if isinstance(parent, str)]
        history = tokens(payload.get("subagent_history_start_ordinal"))
        self.history = history or 0

    def _ask(self, at: float | None) -> None:
        if at is not None and not self.calls:
            self.asked = at

    def _event(self, record: Json, payload: Json, at: float | None) -> Iterator[Record]:
        match text(payload.get("type")):
            case "token_count":
                yield from self._count(record, payload.get("info"), at)
            case "task_started":
                began = payload.get("started_at")
                if isinstance(began, (int, float)) and at is not None:
                    self.replaying, self.dated = at - began > _REPLAYED, True
                self._ask(at)
            case "thread_settings_applied":
                settings = inside(payload, "thread_settings")
                self.model = settings.get("model") or self.model
                tier = settings.get("service_tier")
                if "service_tier" in settings:
                    self.fast = tier in {"priority", "fast"}
            case "thread_rolled_back":
                self.fresh = True
            case _:
                pass

    def _in_history(self, record: Json) -> bool:
        ordinal = record.get("ordinal")
        return isinstance(ordinal, int) and ordinal < self.history

    def _item(self, payload: Json, at: float | None) -> None:
        kind = text(payload.get("type"))
        if kind.endswith("_output"):
            self._result(payload)
            self._ask(at)
        elif kind.endswith("_call"):
            name = text(payload.get("call_id")) or text(payload.get("id")) or f"#{len(self.calls)}"
            self.calls[name] = _Call(what_is(payload))
        elif kind == "message" and payload.get("role") != "assistant":
            self._ask(at)

    def _result(self, payload: Json) -> None:
        name = text(payload.get("call_id"))
        call = self.calls.get(name) or (self.done[1].get(name) if self.done else None)
        if call is not None:
            call.passed = succeeded(payload.get("output"))

    def _count(self, record: Json, info: Any, at: float | None) -> Iterator[Record]:
        if not is_object(info):
            return
        total = _used(info.get("total_token_usage"))
        last = _used(info.get("last_token_usage"))
        if total is not None and total == self.total:
            return
        used = last
        if used is None and total is not None:
            used = _grown(self.total, total)
        self.total = total or self.total
        if used is None:
            yield Trouble("records with unreadable usage")
            return
        if not used.prompt and not used.output:
            return  # an estimate of the context, no request
        yield from self.rest()
        self.done = (self._turn(record, used, at), self.calls)
        self.calls, self.fresh, self.asked = {}, False, None

    def _turn(self, record: Json, used: Used, at: float | None) -> Turn:
        session = self.session or self.file
        return Turn(
            source="codex",
            session=session_name(session),
            conversation="main",
            side=self.side,
            model=model_id(self.model, _PROVIDERS.get(self.provider.lower(), self.provider)),
            began=at if self.asked is None else self.asked,
            used=used,
            work="none",
            fresh=self.fresh,
            copied=self._in_history(record) or self._is_replayed(at),
            fast=self.fast,
            ids=self._ids(session),
        )

    def _is_replayed(self, at: float | None) -> bool:
        if self.start is None or at is None or self.dated:
            return self.replaying
        return at < self.start - 1 or (self.replaying and at <= self.start + _REPEATED_WITHIN)

    def _ids(self, session: str) -> tuple[int, ...]:
        """Name a request by how far the session, or one that it goes on from, had come by it."""
        if self.total is None:
            return ()
        total = self.total
        come = f"{total.uncached}/{total.read}/{total.write_5m}/{total.output}"
        return tuple(digest(name, come) for name in dict.fromkeys([session, *self.ancestors]))


def _finished(turn: Turn, calls: dict[str, _Call]) -> Turn:
    told: list[Call] = [call.what for call in calls.values()]
    results = [call.told() for call in calls.values()]
    passed = False if False in results else None if None in results or not results else True
    return Turn(
        source=turn.source,
        session=turn.session,
        conversation=turn.conversation,
        side=turn.side,
        model=turn.model,
        began=turn.began,
        used=turn.used,
        work=work_of(told),
        families=tuple(f for one in told if isinstance(one, Mechanical) for f in one.families),
        passed=passed,
        fresh=turn.fresh,
        copied=turn.copied,
        fast=turn.fast,
        ids=turn.ids,
    )


def what_is(payload: Json) -> Call:
    """Return what a tool's call is."""
    kind, name = text(payload.get("type")), text(payload.get("name"))
    if kind == "local_shell_call":
        return _of_command(inside(payload, "action").get("command"))
    if kind == "custom_tool_call":
        return of_script(text(payload.get("input"))) if name == "exec" else "other"
    if kind != "function_call":
        return "other"
    arguments = parsed(text(payload.get("arguments"))) or {}
    if name == "write_stdin":
        return "other" if arguments.get("chars") else "waiting"
    if name not in _SHELL_NAMES:
        return "other"
    return _of_command(arguments.get("cmd") or arguments.get("command"))


def _of_command(command: Any) -> Call:
    if isinstance(command, str):
        return mechanical(command) or "other"
    if not is_list(command) or not all(isinstance(word, str) for word in command):
        return "other"
    words: list[str] = command
    if len(words) == 3 and words[1] in {"-c", "-lc"}:
        return mechanical(words[2]) or "other"
    # Words of a list are quoted each, so that nothing in them acts.
    return mechanical(" ".join("'" + word.replace("'", "") + "'" for word in words)) or "other"


def of_script(script: str) -> Call:
    """Return what a script that calls tools does: mechanical when it only runs such commands.

    Each call must be `tools.exec_command({cmd: "..."})` with the command as plain text.
    """
    commands = [found.group(1) for found in _SCRIPT_COMMAND.finditer(script)]
    if not commands or len(commands) != len(_SCRIPT_CALL.findall(script)):
        return "other"
    told = [mechanical(_literal(command)) for command in commands]
    known = [one for one in told if one is not None]
    if len(known) < len(told):
        return "other"
    # The script's own result says nothing of its commands'.
    return Mechanical(tuple(family for one in known for family in one.families), telling=False)


def _literal(quoted: str) -> str:
    """Return the text of a JavaScript string; what only it knows is left as it stands."""
    inner = quoted[1:-1]
    if quoted[0] != '"':
        inner = re.sub(r"\\(['`])", r"\1", inner).replace('"', '\\"').replace("\n", "\\n")
    try:
        value: object = json.loads(f'"{inner}"')
    except ValueError:
        return ""
    return text(value)


def succeeded(output: Any) -> bool | None:
    """Tell from a result's head whether its command succeeded; `None` when it does not say."""
    if is_object(output):
        output = output.get("content") or output.get("output")
    if not isinstance(output, str):
        return None
    if output.startswith("{"):
        code = inside(parsed(output), "metadata").get("exit_code")
        return code == 0 if isinstance(code, int) else None
    found = _EXIT.search(output[:_HEAD].partition("Output:\n")[0])
    return int(found.group(1)) == 0 if found else None


def _used(usage: Any) -> Used | None:
    if not is_object(usage):
        return None
    if "input_tokens" not in usage:
        return None
    known = [count for name in _COUNTS if (count := tokens(usage.get(name))) is not None]
    if len(known) < len(_COUNTS):
        return None
    prompt, read, written, output = known
    read = min(read, prompt)
    written = min(written, prompt - read)
    return Used(prompt - read - written, read, written, 0, output)


def _grown(before: Used | None, after: Used) -> Used:
    """Return by how much a session's sum grew; the sum itself where it began anew."""
    if before is None:
        return after
    grown = (
        after.uncached - before.uncached,
        after.read - before.read,
        after.write_5m - before.write_5m,
        after.output - before.output,
    )
    if min(grown) < 0:
        return after
    return Used(grown[0], grown[1], grown[2], 0, grown[3])
