"""Puts the same names in the place of what differs between two runs of the same work. Pure.

Two levels. `Places` replaces names of this run and machine wherever they stand: each by a name of
its own, so that what a model answered can be turned back. `still` drops what programs print anew
each time; it is applied inside fences only, so that no word of a prompt is ever overlooked.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUN, ROOT, STATE, TREE = "⟦run⟧", "⟦root⟧", "⟦state⟧", "⟦tree⟧"

_MADE_UP = re.compile(r"\bpyd_ai_[0-9a-f]{32}\b")
"""Ids of tool calls that pydantic-ai makes up where a provider gives none (Gemini)."""
_LONG_KEY = re.compile(r"[0-9a-f]{64}")
"""A cache key that was too long, hashed: the root is in it and cannot be taken out."""
_FENCE = re.compile(r"(<untrusted-(⟦run⟧[\w-]*) [^\n>]*>\n)(.*?)(</untrusted-\2>|\Z)", re.DOTALL)
_CLOCK = r"\d{1,2}:\d\d:\d\d(?:[.,]\d+)?"
_DAY = r"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? +)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_ZONE = r"(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)\b)?"
_UNIT = r"(?:ns|µs|us|ms|msecs?|s|secs?|seconds?|mins?|minutes?)"
_STILL: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (rf"\b\d{{4}}([-/])\d\d\1\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?{_ZONE})?", "⟦date⟧"),
        # `date`, `git log`, C's `ctime`: 22 Nov 2026 as `Sun Nov 22 17:45:30 UTC 2026`.
        (
            rf"\b{_DAY}{_MONTH} +\d{{1,2}} {_CLOCK}(?: [AP]M)?(?: [A-Z]{{2,5}}| [+-]\d+)?"
            rf" \d{{4}}{_ZONE}",
            "⟦date⟧",
        ),
        # Mail, HTTP, `date` of other languages' regions; logs of web servers.
        (
            rf"\b{_DAY}\d{{1,2}}([ /-]){_MONTH}\1\d{{4}}(?:[ :]{_CLOCK}(?: [AP]M)?{_ZONE})?",
            "⟦date⟧",
        ),
        (rf"\b{_MONTH} [ \d]\d (?:{_CLOCK}|\d\d:\d\d| \d{{4}})(?!\S)", "⟦date⟧"),  # `ls -l`, syslog
        (r"(?<![\w.])1[7-9]\d{8}(?:\.\d+|(?:\d{3}){1,3})?(?![\w.])", "⟦date⟧"),  # since the epoch
        (rf"(?<![\w:.]){_CLOCK}\b", "⟦clock⟧"),
        (rf"(?<![\w.])(?:\d+[dhm] ?)*\d+(?:\.\d+)?\s?{_UNIT}\b", "⟦time⟧"),
        (r" ?\(⟦time⟧\)", ""),  # jest and mocha tell it only of tests that are slow
        (r"\b0x[0-9a-fA-F]{6,16}\b", "⟦address⟧"),
        (r"\b(?:[0-9a-f]{64}|[0-9a-f]{40})\b", "⟦id⟧"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "⟦id⟧"),
        (r"\((node):\d+\)|\b([Pp][Ii][Dd])([ :=]{1,2})\d+\b", r"\1\2\3⟦process⟧"),
        (r"\b(localhost|127\.0\.0\.1):(?:3[2-9]|[4-6]\d)\d{3}\b", r"\1:⟦port⟧"),
        (r"(thread '[^'\n]*' )\(\d+\)", r"\1(⟦id⟧)"),  # of a panic in Rust
        (r"\bpytest-of-[\w.-]+/pytest-\d+", "⟦temporary⟧"),
        (r"(?<=/)tmp(?:[a-z0-9_]{8}\b|\.[A-Za-z0-9]{6,10}\b)", "⟦temporary⟧"),
        (r"([=_~*#-])\1{3,}", r"\1\1\1\1"),  # lines that are drawn around a time
        (r"\[\.\.\. \d+ bytes left out \.\.\.\]", "[... bytes left out ...]"),
    )
)
"""What programs print anew each time: dates, times of day, durations, addresses, git's full ids,
UUIDs, process ids where they are named so, ports that a system hands out, and the directories that
pytest, Python's `tempfile` and `mktemp` make."""


class Places:
    """The names that only one run on one machine has."""

    def __init__(self, *, run_id: str, root: Path, run_dir: Path) -> None:
        tree = hashlib.sha256(bytes(root)).hexdigest()[:12]
        named = ((str(run_dir), STATE), (str(root), ROOT), (run_id, RUN), (tree, TREE))
        # The root of the file system is no name.
        self._pairs = tuple((text, name) for text, name in named if len(text) > 1)
        found = "|".join(
            rf"(?<![\w.⟧-]){re.escape(text)}(?![\w⟦-]|\.\w)"
            if text.startswith("/")
            else re.escape(text)
            for text, _ in self._pairs
        )
        self._found = re.compile(found)
        self._names = dict(self._pairs)

    def out(self, text: str) -> str:
        """Replace the run's own names."""
        return self._found.sub(lambda match: self._names[match[0]], text)

    def back(self, text: str) -> str:
        """Put the run's own names in, as `out` of another run took them out."""
        for own, name in self._pairs:
            text = text.replace(name, own)
        return text


def still(text: str) -> str:
    """Drop from a program's output what it prints anew each time."""
    for pattern, name in _STILL:
        text = pattern.sub(name, text)
    return text


def comparable(value: Any) -> Any:
    """Return a request as it is compared: `method`, `path`, `body`; names replaced already."""
    made: dict[str, str] = {}

    def number(match: re.Match[str]) -> str:
        return made.setdefault(match[0], f"⟦call {len(made) + 1}⟧")

    def one(text: str) -> str:
        if "pyd_ai_" in text:
            text = _MADE_UP.sub(number, text)
        if "<untrusted-" in text:
            text = _FENCE.sub(lambda found: f"{found[1]}{still(found[3])}{found[4]}", text)
        return text

    changed = texts(value, one)
    body = changed.get("body") if isinstance(changed, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if isinstance(body, dict):
        key = cast("dict[str, Any]", body).get("prompt_cache_key")
        if isinstance(key, str) and _LONG_KEY.fullmatch(key):
            body["prompt_cache_key"] = TREE
    return cast("Any", changed)


def texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with all of its texts changed, the names of its fields, too."""
    match value:
        case str():
            return change(value)
        case dict():
            pairs = cast("dict[str, Any]", value).items()
            return {change(key): texts(item, change) for key, item in pairs}
        case list():
            return [texts(item, change) for item in cast("list[Any]", value)]
        case _:
            return value
