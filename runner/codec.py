"""Turns events into plain JSON values and back, exactly.

Fields that a newer release added are ignored when read; fields that an older one did not have take
their default. Values of type `Any` are JSON values: what is not (a `Decimal`, a path, a set) is
written as its nearest JSON value and comes back as that.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from runner import events, outcome
from runner.errors import JournalError

_NAMES = {"Mapping": Mapping, "Decimal": Decimal, "Path": Path, **vars(outcome)}
"""What the nouns' annotations name but import for the type checker only."""

Noun = TypeVar("Noun")

_AS_IS = frozenset({str, int, float, bool, type(None)})


def _kind(cls: type[object]) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


_KIND_OF: Mapping[type[object], str] = {cls: _kind(cls) for cls in get_args(events.Event)}
_CLASS_OF: Mapping[str, type[object]] = {kind: cls for cls, kind in _KIND_OF.items()}


def kinds() -> Mapping[str, type[object]]:
    """Return every kind of event by the name that it is written under."""
    return _CLASS_OF


def kind_of(event: events.Event) -> str:
    """Return the event's name as it is written: `step_started` for `StepStarted`."""
    return _KIND_OF[type(event)]


def encode(event: events.Event) -> dict[str, Any]:
    """Return `event` as plain JSON values, its name under `type`. Money is a string."""
    return {"type": _KIND_OF[type(event)], **_fields_of(event)}


def decode(data: Mapping[str, Any]) -> events.Event:
    """Return the event that `encode` wrote.

    Raises:
        JournalError: `data` is no event, or one that only a newer release knows.
    """
    kind = data.get("type")
    cls = _CLASS_OF.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise JournalError(
            f"unknown event {kind!r}",
            hint="it was written by a newer release of runner; use that one",
        )
    try:
        return _reader(cls)(data)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise JournalError(f"event {kind!r} is damaged: {error!r}") from error


def plain(value: object) -> Any:
    """Return a noun, or a value of nouns, as plain JSON values."""
    return _plain(value)


def reader(cls: type[Noun]) -> Callable[[Any], Noun]:
    """Return what turns the JSON values of a noun of this class back into it."""
    return _reader(cls)


def hints_of(cls: type[Any]) -> dict[str, Any]:
    """Return the types of a noun's fields, resolved."""
    return get_type_hints(cls, localns={**vars(events), **_NAMES})


@cache
def fields_of(cls: type[Any]) -> tuple[str, ...]:
    """Return the names of a noun's fields, in order."""
    return tuple(entry.name for entry in dataclasses.fields(cls))


def _fields_of(value: object) -> dict[str, Any]:
    return {name: _plain(getattr(value, name)) for name in fields_of(type(value))}


def _plain(value: Any) -> Any:
    if type(value) in _AS_IS:
        return value
    match value:
        case Enum():
            return value.value
        case Decimal() | PurePath():
            return str(value)
        case Mapping():
            entries = cast("Mapping[object, object]", value)
            return {str(key): _plain(item) for key, item in entries.items()}
        case list() | tuple():
            return [_plain(item) for item in cast("list[object] | tuple[object, ...]", value)]
        case set() | frozenset():
            items = cast("frozenset[object]", value)
            return sorted((_plain(item) for item in items), key=str)
        case _ if dataclasses.is_dataclass(value):
            return _fields_of(value)
        case _:
            raise TypeError(f"cannot be journaled: {value!r} of {type(value)!r}")


Reader = Callable[[Any], Any]


@cache
def _reader(hint: Any) -> Reader:
    """Build what turns JSON values into a value of the annotated type."""
    if hint in _AS_IS or hint is Any or get_origin(hint) is Literal:
        return _as_is
    if hint in (Decimal, Path) or (isinstance(hint, type) and issubclass(hint, Enum)):
        return hint
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _object_reader(hint)
    return _container_reader(get_origin(hint), get_args(hint), hint)


def _container_reader(origin: Any, args: tuple[Any, ...], hint: Any) -> Reader:
    if origin in (Union, types.UnionType):
        return _optional_reader(args, hint)
    if origin in (tuple, frozenset) and args:
        item, make = _reader(args[0]), cast("type[tuple[object, ...]]", origin)
        return lambda value: make(item(entry) for entry in value)
    if origin in (Mapping, dict):
        item = _reader(args[1])
        return lambda value: {key: item(entry) for key, entry in value.items()}
    raise TypeError(f"no reader for {hint!r}")


def _optional_reader(args: tuple[Any, ...], hint: Any) -> Reader:
    inner = [arg for arg in args if arg is not type(None)]
    if all(arg in _AS_IS for arg in inner):
        return _as_is
    if len(inner) != 1:
        raise TypeError(f"no reader for {hint!r}: a union that JSON cannot tell apart")
    item = _reader(inner[0])
    return lambda value: None if value is None else item(value)


def _object_reader(cls: type[Any]) -> Reader:
    hints = hints_of(cls)
    readers = {name: _reader(hints[name]) for name in fields_of(cls)}

    def read(data: Mapping[str, Any]) -> Any:
        return cls(**{name: item(data[name]) for name, item in readers.items() if name in data})

    return read


def _as_is(value: Any) -> Any:
    return value
