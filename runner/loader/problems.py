"""Collects what is wrong in one file: every mistake with its place, the line itself, and a hint."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from runner.errors import WorkflowError, WorkflowErrors
from runner.plan import Location

MAX_REPORTED = 20
"""Mistakes shown at once; more would bury the first."""
_SHOWN_LINE = 160
_LINE_BREAK = re.compile(r"\r\n|\r|\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class Placed(Protocol):
    """Anything with a place in a file; line and column count from 1."""

    @property
    def line(self) -> int:
        """Line, from 1."""
        ...

    @property
    def column(self) -> int:
        """Column, from 1."""
        ...


class Spot(NamedTuple):
    """A bare place."""

    line: int
    column: int


class Unreadable(Exception):  # noqa: N818  a signal inside the loader, never seen by a user
    """Raised by a shape after it has told `Problems` what is wrong."""


class Source(NamedTuple):
    """A file's text, to show lines of it."""

    file: str
    """As a user would name it."""
    lines: tuple[str, ...]

    @classmethod
    def of(cls, file: str, text: str) -> Source:
        """Split a text into lines as YAML does."""
        return cls(file, tuple(_LINE_BREAK.split(text)))

    def line(self, number: int) -> str:
        """Return a line (from 1), cut and cleaned; empty when there is none."""
        if not 0 < number <= len(self.lines):
            return ""
        text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", self.lines[number - 1])
        return text if len(text) <= _SHOWN_LINE else text[:_SHOWN_LINE] + " ..."


@dataclass(slots=True)
class Problems:
    """What is wrong in one file so far."""

    source: Source
    found: list[WorkflowError] = field(default_factory=list[WorkflowError])

    def add(self, message: str, at: Placed, *, hint: str = "", shown: int | None = None) -> None:
        """Add a mistake.

        Args:
            message: What is wrong.
            at: A node, or any other place.
            hint: What to do.
            shown: Show only so many characters of the line: the rest may be a secret.
        """
        where = Location(self.source.file, at.line, at.column)
        text = self.source.line(at.line)
        if shown is not None and len(text) > shown:
            text = text[:shown] + " ..."
        if at.column > _SHOWN_LINE:
            text = ""
        self.found.append(WorkflowError(message, where=where, line=text, hint=hint))

    def fail(self, message: str, at: Placed, *, hint: str = "") -> Unreadable:
        """Add a mistake and return the signal to raise."""
        self.add(message, at, hint=hint)
        return Unreadable()

    def raise_if_any(self) -> None:
        """Raise all mistakes in the order of the file.

        Raises:
            WorkflowErrors: There is at least one.
        """
        if not self.found:
            return
        unique = {(str(error.where), error.message): error for error in self.found}
        raise WorkflowErrors(sorted(unique.values(), key=self._order)[:MAX_REPORTED])

    def _order(self, error: WorkflowError) -> tuple[bool, str, int, int]:
        """Put this file's mistakes before those of files that it uses, each from top to bottom."""
        where = error.where
        return where.file != self.source.file, where.file, where.line, where.column
