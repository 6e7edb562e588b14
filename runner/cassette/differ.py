"""Shows where two requests, or two lists of rows, differ: short, in lines that people read. Pure.

A request is shown as its leaves, one a line with its place (`messages[0].content[1].text: ...`);
long texts stand below their place, cut at lines and ends of sentences, so that one changed word
shows as one changed line.
"""

from __future__ import annotations

import json
import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, cast

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH = 120
"""Longer lines are cut."""
MOST_LINES = 60
"""Of one diff; more is counted, not shown."""
_AROUND = 2
_SENTENCE = re.compile(r"(?<=[.;:!?])(?= )")


@frozen
class Line:
    """One line of a request as it is shown."""

    place: str
    """Path of the leaf that it belongs to."""
    text: str


def lines_of(value: Any, place: str = "") -> Iterator[Line]:
    """Yield a JSON value leaf by leaf."""
    match value:
        case dict() if value:
            for name, item in cast("dict[str, Any]", value).items():
                yield from lines_of(item, f"{place}.{name}" if place else name)
        case list() if value:
            for number, item in enumerate(cast("list[Any]", value)):
                yield from lines_of(item, f"{place}[{number}]")
        case str() if "\n" in value or len(value) > WIDTH - len(place):
            yield Line(place, f"{place}:")
            for line in value.split("\n"):
                for number, piece in enumerate(_pieces(line)):
                    yield Line(place, f"  {'¦' if number else '|'} {piece}".rstrip(" "))
        case _:
            yield Line(place, f"{place}: {json.dumps(value, ensure_ascii=False)}")


def diff(before: Sequence[Line], after: Sequence[Line]) -> tuple[str, str]:
    """Return where two lists of lines first differ, and a unified diff of them.

    Each hunk begins with the place that it is in.
    """
    before, after = _changed(before, after)
    old, new = [line.text for line in before], [line.text for line in after]
    groups = list(SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(_AROUND))
    shown: list[str] = []
    for group in groups:
        tag, first, _, second, _ = next(code for code in group if code[0] != "equal")
        del tag
        shown.append(f"@@ {_place(before, after, first, second)} @@")
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                shown += (f"  {text}" for text in old[i1:i2])
            else:
                shown += (f"- {text}" for text in old[i1:i2])
                shown += (f"+ {text}" for text in new[j1:j2])
    where = shown[0].strip("@ ") if shown else ""
    left_out = len(shown) - MOST_LINES
    if left_out > 0:
        shown[MOST_LINES:] = [f"[... {left_out} more lines differ or stand around ...]"]
    return where, "\n".join(shown)


def rows_diff(before: Sequence[Any], after: Sequence[Any]) -> str:
    """Return a diff of two lists of JSON objects, one a line; empty when they are equal."""
    old, new = ([Line("", _flat(row)) for row in rows] for rows in (before, after))
    if old == new:
        return ""
    return "\n".join(line for line in diff(old, new)[1].split("\n") if not line.startswith("@@"))


def _changed(
    before: Sequence[Line], after: Sequence[Line]
) -> tuple[Sequence[Line], Sequence[Line]]:
    """Leave out what both begin and end with: a long conversation is compared in no time."""
    shorter = min(len(before), len(after))
    first = next((n for n in range(shorter) if before[n].text != after[n].text), shorter)
    rest = shorter - first
    last = next((n for n in range(rest) if before[-1 - n].text != after[-1 - n].text), rest)
    begin, end = max(0, first - _AROUND), max(0, last - _AROUND)
    return before[begin : len(before) - end], after[begin : len(after) - end]


def _place(before: Sequence[Line], after: Sequence[Line], first: int, second: int) -> str:
    if second < len(after):
        return after[second].place
    return before[first].place if first < len(before) else "the end"


def _flat(row: Any) -> str:
    return " ".join(
        f"{name}={value if isinstance(value, str) and _plain(value) else _json(value)}"
        for name, value in cast("dict[str, Any]", row).items()
    )


def _plain(text: str) -> bool:
    return bool(text) and not re.search(r'[\s="]', text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _pieces(line: str) -> Iterator[str]:
    """Cut a long line at ends of sentences, and those that are too long anywhere."""
    if len(line) <= WIDTH:
        yield line
        return
    for sentence in _SENTENCE.split(line):
        for at in range(0, len(sentence), WIDTH * 2):
            yield sentence[at : at + WIDTH * 2]
