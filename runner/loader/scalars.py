"""Decides what a scalar means: YAML 1.2's core schema, durations, money. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from runner.loader.document import Scalar
    from runner.plan import ValueType

Look = Literal["null", "boolean", "number", "text"]

# YAML 1.2.2, section 10.3.2, "Tag Resolution" of the core schema.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_NUMBER = re.compile(
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
    r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_DECIMAL = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,15})?")
_DURATION = re.compile(r"(?:([0-9]{1,6})d)?(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,9})s)?")
_SECONDS = (86_400, 3_600, 60, 1)


def look(scalar: Scalar) -> Look:
    """Return what YAML 1.2 takes a scalar for."""
    text = scalar.text
    if not scalar.plain:
        return "text"
    if text in _NULL:
        return "null"
    if text in _TRUE or text in _FALSE:
        return "boolean"
    return "number" if _NUMBER.fullmatch(text) else "text"


def boolean(text: str) -> bool | None:
    """Return `true` or `false`, or `None` for anything else."""
    return True if text in _TRUE else False if text in _FALSE else None


def number(text: str) -> int | float | None:
    """Return a number in plain decimal notation, or `None`: no exponents, no other bases."""
    if not _DECIMAL.fullmatch(text):
        return None
    return float(text) if "." in text else int(text)


def money(text: str) -> Decimal | None:
    """Return an amount, exactly as written, or `None`."""
    return Decimal(text) if _DECIMAL.fullmatch(text) else None


def duration(text: str) -> float | None:
    """Return seconds for `90s`, `10m`, `1h30m`, `2d`, or a plain number of seconds; else `None`."""
    plain = number(text)
    if plain is not None:
        return float(plain)
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        return None
    return float(
        sum(int(part or 0) * unit for part, unit in zip(match.groups(), _SECONDS, strict=True))
    )


def typed(text: str, type_: ValueType) -> str | int | float | bool | None:
    """Return a text as a value of a type, or `None` where it is none."""
    match type_:
        case "string" | "json":
            return text
        case "number":
            return number(text)
        case "boolean":
            return boolean(text)
