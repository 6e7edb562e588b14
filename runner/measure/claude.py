"""Reads the requests of a Claude Code session log; lets out numbers, a model and families. Pure.

One line is one record; of the many types only these matter (observed up to version 2.1, in public
fixtures of log viewers, and github.com/anthropics/claude-code/issues/93620):

- `assistant`: a piece of a response: `message.id`, `requestId`, `message.model`, `message.usage`
  (classes that do not overlap), `message.content`. A response is written as several records, one
  for each block; in a subagent's file all but the last carry a count of output that is not final.
- `user`: a prompt, or the results of tools with `is_error`; the request that follows begins then.
- `system` with `subtype: compact_boundary`: the conversation before it is gone.

A record with `isSidechain` is a subagent's, in a file of its own (`agentId`) or, in old versions,
between the others. A resumed or forked session repeats records of another with their ids.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from runner.measure.mechanical import Mechanical, mechanical
from runner.measure.parse import (
    TOO_LONG,
    Json,
    digest,
    inside,
    is_list,
    is_object,
    model_id,
    objects,
    parsed,
    seconds,
    session_name,
    text,
    tokens,
)
from runner.measure.records import Trouble, Turn, Used

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.measure.records import Record, Work

OPEN_RESPONSES = 8
"""How many responses of a conversation may be written at once: old versions mix side-chains."""
_QUIET = frozenset(
    {
        "agent-name",
        "ai-title",
        "attachment",
        "custom-title",
        "file-history-delta",
        "file-history-snapshot",
        "last-prompt",
        "mode",
        "permission-mode",
        "pr-link",
        "progress",
        "queue-operation",
        "summary",
        "tag",
    }
)
"""Types of records that are known to hold no request."""
_WAITING = frozenset({"BashOutput", "TaskOutput"})
_LONGEST_TURN = 6 * 3600.0
_PROVIDERS = (
    ("claude", "anthropic"),
    ("gpt", "openai"),
    ("gemini", "google"),
    ("deepseek", "deepseek"),
    ("kimi", "moonshotai"),
    ("glm", "zai"),
    ("grok", "xai"),
    ("minimax", "minimax"),
)


Call: TypeAlias = Mechanical | Literal["waiting", "other"]
"""What a tool's call is."""


class _Response:
    """A response while its records are still being read."""

    def __init__(self, record: Json, began: float | None, *, fresh: bool) -> None:
        message = inside(record, "message")
        self.session = text(record.get("sessionId"))
        self.side = record.get("isSidechain") is True
        self.model = message.get("model")
        self.began = began
        self.fresh = fresh
        self.used = Used(0, 0, 0, 0, 0)
        self.fast = False
        self.ids: set[int] = set()
        self.calls: dict[str, Call] = {}
        self.failed: dict[str, bool] = {}

    def add(self, record: Json, used: Used, ids: Iterable[int]) -> None:
        """Take one more record: its count of output is the better one where it is greater."""
        message = inside(record, "message")
        if used.output >= self.used.output:
            self.used = used
        speed, tier = (inside(message, "usage").get(name) for name in ("speed", "service_tier"))
        self.fast = self.fast or speed == "fast" or tier == "priority"
        self.ids.update(ids)
        for number, block in enumerate(objects(message.get("content"))):
            if text(block.get("type")).endswith("tool_use"):
                self.calls[text(block.get("id")) or f"#{number}"] = _call(block)

    def turn(self, conversation: str, file: str) -> Turn:
        told = [call for call in self.calls.values() if isinstance(call, Mechanical)]
        return Turn(
            source="claude",
            session=session_name(self.session or file),
            conversation=conversation,
            side=self.side,
            model=served(self.model),
            began=self.began,
            used=self.used,
            work=work_of(list(self.calls.values())),
            families=tuple(family for call in told for family in call.families),
            passed=self._passed(),
            fresh=self.fresh,
            fast=self.fast,
            # Invented ids of other tools repeat between sessions, but hardly in pairs.
            ids=(digest(*(str(one) for one in sorted(self.ids))),) if self.ids else (),
        )

    def _passed(self) -> bool | None:
        """Tell whether all calls succeeded: one that failed says more than one still unknown."""
        if any(self.failed.values()):
            return False
        told = [isinstance(call, Mechanical) and call.telling for call in self.calls.values()]
        return True if all(told) and self.failed.keys() == self.calls.keys() else None


def work_of(calls: Sequence[Call]) -> Work:
    """Return what a turn's calls are, from what each is."""
    if not calls:
        return "none"
    if "other" in calls:
        return "other"
    return "mechanical" if any(isinstance(call, Mechanical) for call in calls) else "waiting"


def _call(block: Json) -> Call:
    name = text(block.get("name"))
    if name in _WAITING:
        return "waiting"
    if block.get("type") != "tool_use" or name != "Bash":
        return "other"
    given = inside(block, "input")
    found = mechanical(text(given.get("command")))
    if found is None:
        return "other"
    # One in the background succeeds at once, whatever becomes of it.
    telling = found.telling and not given.get("run_in_background")
    return Mechanical(found.families, telling)


def served(name: Any) -> str:
    """Return the id under which a served model is priced: Anthropic's own, or a cloud's."""
    plain = text(name)
    if "anthropic." in plain:
        return model_id(plain, "bedrock")
    if "/" in plain:
        return model_id(plain, "openrouter")
    plain = plain.partition("@")[0]  # Vertex writes a model's date behind it
    provider = next((of for start, of in _PROVIDERS if plain.lower().startswith(start)), "unlisted")
    return model_id(plain, provider)


class _Conversation:
    """What is known of one conversation of a file."""

    def __init__(self) -> None:
        self.open: dict[int, _Response] = {}
        self.asked: float | None = None
        self.fresh = False
        self.opened = 0

    def began(self, at: float | None) -> float | None:
        """Return when the request was sent: when what it answers was written."""
        asked = self.asked
        if asked is None or at is None:
            return at if at is not None else asked
        return asked if 0 <= at - asked <= _LONGEST_TURN else at


def read(lines: Iterable[bytes], file: str) -> Iterator[Record]:
    """Return the requests of one log, each once all of its records and results were seen.

    Args:
        lines: Of the log.
        file: Its name, standing for a session that has none.
    """
    reader = _Reader(file)
    for line in lines:
        yield from reader.line(line)
    yield from reader.rest()


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file
        self.conversations: dict[str, _Conversation] = {}

    def line(self, line: bytes) -> Iterator[Record]:
        if not line.strip():
            return
        record = parsed(line)
        if record is None:
            yield Trouble("lines over 8 MB" if line == TOO_LONG else "broken lines")
            return
        kind = text(record.get("type"))
        if kind == "assistant" or (not kind and "usage" in inside(record, "message")):
            yield from self._assistant(record)
        elif kind == "user":
            self._user(record)
        elif kind == "system":
            if record.get("subtype") == "compact_boundary":
                self._conversation(record)[1].fresh = True
        elif kind not in _QUIET:
            yield Trouble("records of other kinds")

    def rest(self) -> Iterator[Record]:
        for name, conversation in self.conversations.items():
            for response in conversation.open.values():
                yield response.turn(name, self.file)

    def _conversation(self, record: Json) -> tuple[str, _Conversation]:
        side = record.get("isSidechain") is True
        agent = text(record.get("agentId")) or "side" if side else "main"
        name = f"{digest(text(record.get('sessionId')), agent):x}"
        return name, self.conversations.setdefault(name, _Conversation())

    def _user(self, record: Json) -> None:
        conversation = self._conversation(record)[1]
        at = seconds(record.get("timestamp"))
        if at is not None:
            conversation.asked = at
        told = inside(record, "toolUseResult")
        if told.get("backgroundTaskId"):
            return  # moved to the background: this is not how it ended
        for block in objects(inside(record, "message").get("content")):
            if block.get("type") != "tool_result":
                continue
            called = text(block.get("tool_use_id"))
            failed = block.get("is_error") is True or told.get("interrupted") is True
            for response in conversation.open.values():
                if called in response.calls:
                    response.failed[called] = failed

    def _assistant(self, record: Json) -> Iterator[Record]:
        message = inside(record, "message")
        if message.get("model") == "<synthetic>" or record.get("isApiErrorMessage") is True:
            yield Trouble("synthetic records")
            return
        used = _used(message.get("usage"))
        if used is None:
            yield Trouble("records with unreadable usage")
            return
        name, conversation = self._conversation(record)
        ids = _ids(record, message)
        response = next((one for key in ids if (one := conversation.open.get(key))), None)
        if response is None:
            response = next(
                (r for r in conversation.open.values() if not r.ids.isdisjoint(ids)), None
            )
        if response is None:
            while len(conversation.open) >= OPEN_RESPONSES:
                oldest = next(iter(conversation.open))
                yield conversation.open.pop(oldest).turn(name, self.file)
            began = conversation.began(seconds(record.get("timestamp")))
            response = _Response(record, began, fresh=conversation.fresh)
            conversation.fresh = False
            conversation.opened += 1
            conversation.open[ids[0] if ids else conversation.opened] = response
        response.add(record, used, ids)


def _ids(record: Json, message: Json) -> list[int]:
    """Return digests of what names the response: its own id, its request's; else the record's."""
    named = [("m", message.get("id")), ("r", record.get("requestId"))]
    found = [digest(kind, value) for kind, value in named if isinstance(value, str) and value]
    if not found and (uuid := text(record.get("uuid"))):
        found = [digest("u", uuid)]
    return found


def _used(usage: Any) -> Used | None:
    """Return a response's tokens; `None` when they are missing or cannot be true.

    `cache_creation` splits the written tokens by retention; `iterations` repeats the whole.
    """
    if not is_object(usage) or is_list(usage):
        return None
    split = inside(usage, "cache_creation")
    counts = [
        tokens(usage.get("input_tokens")),
        tokens(usage.get("cache_read_input_tokens")),
        tokens(usage.get("cache_creation_input_tokens")),
        tokens(split.get("ephemeral_1h_input_tokens")),
        tokens(split.get("ephemeral_5m_input_tokens")),
        tokens(usage.get("output_tokens")),
    ]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    uncached, read, written, hour, five, output = known
    if "cache_creation_input_tokens" not in usage:
        written = hour + five
    hour = min(hour, written)
    return Used(uncached, read, written - hour, hour, output)
