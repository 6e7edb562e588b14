"""What a reader of one tool's output gives back, and how text is made the same from run to run."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.outcome import Phase

CUT = "\x00cut"
"""Stands as a line of its own where the middle of the output is missing; no tool prints it, for
control characters were taken out before."""


@frozen
class Reading:
    """What one tool says failed, in one part of the output."""

    tool: str
    phase: Phase
    ids: tuple[str, ...]
    """Each failure, normalised; equal ones are told apart by `numbered`."""
    lines: range
    """The part of the output that belongs to this tool: nobody else reads it."""
    stated: int | None = None
    """How many failures the tool itself counted, to be compared with `seen`."""
    seen: int | None = None
    """How many of them were found; the number of ids when it is not given."""
    whole: bool | None = None
    """Whether nothing can be missing (or surely is), whatever was cut; `None`: the counts say."""
    head_share: float = 0.5
    """How much of what is shown of it is taken from its beginning: where its news are."""

    def complete(self, *, truncated: bool) -> bool:
        """Return whether `ids` are all of the failures."""
        if self.whole is not None:
            return self.whole
        if self.stated is not None:
            return self._seen() >= self.stated
        return not truncated

    def count(self) -> int | None:
        """Return how many ids there would be at least with nothing missing; `None`: not known.

        A tool may count more than has an id: jest counts a test's suite, too.
        """
        if self.stated is None:
            return None
        return len(self.ids) + max(0, self.stated - self._seen())

    def _seen(self) -> int:
        return len(self.ids) if self.seen is None else self.seen


def numbered(ids: Iterable[str]) -> tuple[str, ...]:
    """Tell equal ids apart, so that one of two fixed leaves a smaller set: `a`, `a #2`."""
    counts: Counter[str] = Counter()
    told: list[str] = []
    for one in ids:
        counts[one] += 1
        told.append(one if counts[one] == 1 else f"{one} #{counts[one]}")
    return tuple(told)


def unique(ids: Iterable[str]) -> tuple[str, ...]:
    """Drop repetitions: for tools that name one failure several times."""
    return tuple(dict.fromkeys(ids))


def whole_range(lines: Sequence[str], found: Iterable[int]) -> range:
    """Return the lines from the first to the last of `found`."""
    places = sorted(found)
    return range(places[0], places[-1] + 1) if places else range(0)


_TMP = r"(?:/private)?(?:/var/folders/\w+/\w+/T|/var/tmp|/tmp|/dev/shm)"
_UNIT = r"(?:ns|[uµμ]s|ms|secs?|seconds?|mins?|minutes?|s)"

_UNSTEADY = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"^\s*>?\s*\d+\s*[|│]|^\s*\d+:\d+(?=\s)", "|"),  # the margin of quoted code
        (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
        (r"\b0x[0-9a-fA-F]+\b", "<address>"),
        (r"\b[0-9a-f]{32,64}\b", "<hash>"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?", "<time>"),
        (r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
        # The names under which a run's own temporary directories begin; what follows is kept.
        (_TMP + r"(?:/pytest-of-[\w.-]+/pytest-\d+(?:/popen-gw\d+)?|/[\w.+@~-]+)", "<tmp>"),
        (r"\b\d+(?:\.\d+)? ?" + _UNIT + r"(?!\w)", "<seconds>"),
        (r"\b((?:localhost|127\.0\.0\.1|\[::1?\]|0\.0\.0\.0)):\d+", r"\1:<port>"),
        (r"\b(pid|PID|[Pp]rocess|port|goroutine|thread)([ =:]+|\s\()\d+", r"\1\2<n>"),
        (r"(?<=') \(\d+\)(?= panicked)", ""),
        (r"\b([Ll]ines?|[Cc]ol(?:umn)?s?)([ :=]+)\d+(?:[-:,]\d+)*", r"\1\2<n>"),
        (r"(\.[A-Za-z]\w{0,7})(?::\d+(?::\d+)?(?:-\d+(?::\d+)?)?|\(\d+,\d+\))(?!\w)", r"\1"),
        (r"\[ *\d+%\]|\(\d+:\d+\)$", ""),
    )
)
"""What differs from one run of the same failure to the next. Narrow on purpose: a number that is
taken out can make two different failures look equal."""

_LONGEST = 2000
"""Characters of a line that count for what it is."""


def stable(text: str) -> str:
    """Return `text` without line numbers, times, addresses, temporary paths and the like."""
    text = text[:_LONGEST]
    for pattern, instead in _UNSTEADY:
        text = pattern.sub(instead, text)
    return " ".join(text.split())
