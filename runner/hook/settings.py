"""Puts the hook's entries into Claude Code's settings and takes them out again. Pure, on the text.

Every byte that is not ours stays: order, indentation, numbers as they are written. The shape is

    {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "...", "timeout": 600}]}]}}

(https://code.claude.com/docs/en/hooks, "Configuration" and "Command hook fields"; neither comments
nor trailing commas are allowed there.)
"""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from runner.errors import UsageError
from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_BLANK = " \t\r\n"
_DECODER = json.JSONDecoder()
_INDENT = re.compile(r"\n([ \t]+)\S")
_WORDS = ["hook", "claude-code"]


@frozen
class Entry:
    """One hook as the settings are to have it."""

    event: str
    command: str
    timeout: int
    """Seconds after which Claude Code gives up on it."""

    @property
    def handler(self) -> dict[str, Any]:
        """The handler's object."""
        return {"type": "command", "command": self.command, "timeout": self.timeout}


class _Span(NamedTuple):
    """Where one member or item stands in the text."""

    start: int
    value: int
    """Where its value starts; `start` itself for an item."""
    end: int
    key: str = ""


class _Container(NamedTuple):
    """An object or array in the text: the places of its brackets, and what is between them."""

    start: int
    end: int
    """Of the closing bracket."""
    parts: tuple[_Span, ...]


def install(text: str, entries: Sequence[Entry]) -> str:
    """Return the settings with these entries in them, each once.

    Raises:
        UsageError: The text is no settings file that can be changed without losing something.
    """
    text = text if text.strip(_BLANK) else "{}\n"
    for entry in entries:
        _check(text)
        text = _put(text, entry)
    return text


def uninstall(text: str) -> str:
    """Return the settings without any entry of ours, and without what only held them.

    Raises:
        UsageError: The text is no settings file.
    """
    if not text.strip(_BLANK):
        return text
    _check(text)
    while (shorter := _without_one(text)) is not None:
        text = shorter
    return text


def is_ours(handler: Any) -> bool:
    """Tell whether a handler runs `runner hook claude-code`, however that was written."""
    if not isinstance(handler, dict):
        return False
    given = cast("Mapping[str, Any]", handler)
    command, more = given.get("command"), given.get("args")
    if given.get("type") != "command" or not isinstance(command, str):
        return False
    if isinstance(more, list):
        words = [command, *map(str, cast("list[Any]", more))]
    else:
        try:
            words = shlex.split(command)
        except ValueError:
            return False
    at = next((at for at in range(1, len(words)) if words[at : at + 2] == _WORDS), 0)
    return at > 0 and words[at - 1].rpartition("/")[2] == "runner"


# -- putting in ------------------------------------------------------------------------------------


def _put(text: str, entry: Entry) -> str:
    root = _object(text, _skip(text, 0))
    group = {"hooks": [entry.handler]}
    hooks = _member(root, "hooks")
    if hooks is None:
        return _add(text, root, {entry.event: [group]}, "hooks")
    inner = _object(text, hooks.value, "`hooks`")
    event = _member(inner, entry.event)
    if event is None:
        return _add(text, inner, [group], entry.event)
    groups = _array(text, event.value, f"`hooks.{entry.event}`")
    for handler in _ours(text, groups):
        return _renew(text, handler, entry)
    return _add(text, groups, group)


def _renew(text: str, start: int, entry: Entry) -> str:
    """Give an entry that is there already the command and time of this one."""
    for key, value in (("command", entry.command), ("timeout", entry.timeout)):
        handler = _object(text, start)
        member = _member(handler, key)
        if member is None:
            text = _add(text, handler, value, key)
        elif json.loads(text[member.value : member.end]) != value:
            text = text[: member.value] + _dump(value) + text[member.end :]
    return text


def _add(text: str, container: _Container, value: Any, key: str = "") -> str:
    """Add a member, or an item where there is no key, in the manner of what is there."""
    newline = "\r\n" if "\r\n" in text else "\n"
    unit = next((found[1] for found in _INDENT.finditer(text)), "  ")
    name = f"{_dump(key)}: " if key else ""
    if container.parts:
        gap = text[container.start + 1 : container.parts[0].start]
        at = container.parts[-1].end
        if "\n" not in gap:
            return f"{text[:at]}, {name}{_dump(value)}{text[at:]}"
        own = gap.rpartition("\n")[2]
        return f"{text[:at]},{newline}{own}{name}{_dump(value, unit, own, newline)}{text[at:]}"
    around = _indent_at(text, container.start)
    own = around + unit
    inner = f"{newline}{own}{name}{_dump(value, unit, own, newline)}{newline}{around}"
    return text[: container.start + 1] + inner + text[container.end :]


def _dump(value: Any, unit: str | None = None, own: str = "", newline: str = "\n") -> str:
    text = json.dumps(value, indent=unit, ensure_ascii=False)
    return text.replace("\n", newline + own)


def _indent_at(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


# -- taking out ------------------------------------------------------------------------------------


def _without_one(text: str) -> str | None:
    """Take one handler of ours out, and what holds nothing else; `None` where there is none."""
    root = _object(text, _skip(text, 0))
    hooks = _member(root, "hooks")
    if hooks is None or text[hooks.value] != "{":
        return None
    inner = _object(text, hooks.value)
    for event in inner.parts:
        if text[event.value] != "[":
            continue
        groups = _array(text, event.value)
        for group in groups.parts:
            listed = _handlers(text, group)
            for handler in listed.parts if listed else ():
                if is_ours(json.loads(text[handler.value : handler.end])):
                    chain = [(root, hooks), (inner, event), (groups, group)]
                    return _cut(text, [*chain, (cast("_Container", listed), handler)])
    return None


def _cut(text: str, chain: list[tuple[_Container, _Span]]) -> str:
    """Remove the last of a chain, or as much above it as would be left empty."""
    container, span = chain.pop()
    while len(container.parts) == 1 and chain:
        container, span = chain.pop()
    at = container.parts.index(span)
    if len(container.parts) == 1:
        return text[: container.start + 1] + text[container.end :]
    if at + 1 < len(container.parts):
        return text[: span.start] + text[container.parts[at + 1].start :]
    return text[: container.parts[at - 1].end] + text[span.end :]


# -- reading ---------------------------------------------------------------------------------------


def _ours(text: str, groups: _Container) -> Iterator[int]:
    """Yield where each handler of ours starts."""
    for group in groups.parts:
        listed = _handlers(text, group)
        for handler in listed.parts if listed else ():
            if is_ours(json.loads(text[handler.value : handler.end])):
                yield handler.value


def _handlers(text: str, group: _Span) -> _Container | None:
    """Return the handlers of a matcher group; `None` where it is none."""
    if text[group.value] != "{":
        return None
    listed = _member(_object(text, group.value), "hooks")
    return _array(text, listed.value) if listed and text[listed.value] == "[" else None


def _member(container: _Container, key: str) -> _Span | None:
    return next((part for part in container.parts if part.key == key), None)


def _object(text: str, at: int, what: str = "the file") -> _Container:
    if text[at] != "{":
        raise UsageError(f"{what} is no JSON object")
    parts: list[_Span] = []
    here = _skip(text, at + 1)
    while text[here] != "}":
        key, after = _DECODER.raw_decode(text, here)
        value = _skip(text, _skip(text, after) + 1)  # the colon
        _, end = _DECODER.raw_decode(text, value)
        parts.append(_Span(here, value, end, key))
        here = _next(text, end)
    return _Container(at, here, tuple(parts))


def _array(text: str, at: int, what: str = "") -> _Container:
    if text[at] != "[":
        raise UsageError(f"{what} is no JSON array")
    parts: list[_Span] = []
    here = _skip(text, at + 1)
    while text[here] != "]":
        _, end = _DECODER.raw_decode(text, here)
        parts.append(_Span(here, here, end))
        here = _next(text, end)
    return _Container(at, here, tuple(parts))


def _next(text: str, end: int) -> int:
    """Return where the next part, or the closing bracket, starts."""
    here = _skip(text, end)
    return _skip(text, here + 1) if text[here] == "," else here


def _skip(text: str, at: int) -> int:
    while text[at] in _BLANK:
        at += 1
    return at


def _check(text: str) -> None:
    """Refuse what is no JSON, and what Python would read in another way than it is written."""
    try:
        found = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UsageError(f"{where}: {error.msg}") from None
    except RecursionError:
        raise UsageError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise UsageError("the file is no JSON object")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise UsageError(f"the key {key!r} stands twice in one object")
        found[key] = value
    return found
