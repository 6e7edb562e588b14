"""Declares what the readers of session logs let out: numbers, models, families; no content."""

from __future__ import annotations

from typing import Literal, TypeAlias

from runner.frozen import frozen

Source = Literal["claude", "codex"]
Family = Literal["format", "lint", "types", "test", "build", "git"]
Work = Literal["none", "mechanical", "waiting", "other"]
"""What a turn's tool calls are: none, mechanical commands only, only waiting for a command that
runs, or anything else."""


@frozen
class Used:
    """Tokens of one request, in classes that do not overlap."""

    uncached: int
    read: int
    write_5m: int
    """Written to a cache with the provider's own retention."""
    write_1h: int
    output: int

    @property
    def new(self) -> int:
        """Tokens of the prompt that were not read from a cache."""
        return self.uncached + self.write_5m + self.write_1h

    @property
    def prompt(self) -> int:
        """Tokens of the whole prompt."""
        return self.new + self.read


@frozen
class Turn:
    """One model request, as far as this program may know it."""

    source: Source
    session: str
    """A UUID, or a digest of what stood in its place."""
    conversation: str
    """Which conversation of its file: the main one or a side-chain's; a digest."""
    side: bool
    """Whether a subagent made the request."""
    model: str
    """`provider:model`, as served."""
    began: float | None
    """When it was sent, in seconds since the epoch: what came before it in the log; else when the
    answer was there."""
    used: Used
    work: Work
    families: tuple[Family, ...] = ()
    """Of each mechanical command, in order."""
    passed: bool | None = None
    """Whether every command succeeded; `None` where the log does not say."""
    fresh: bool = False
    """Whether the conversation was compacted or cleared before it."""
    copied: bool = False
    """Whether the log only repeats it from another session's."""
    fast: bool = False
    """Whether a faster, dearer service was used."""
    ids: tuple[int, ...] = ()
    """Digests of the response's ids: a copy of it in another log shares one."""


What = Literal[
    "broken lines",
    "lines over 8 MB",
    "records with unreadable usage",
    "records of other kinds",
    "synthetic records",
]


@frozen
class Trouble:
    """A line that gave no turn where one could have been, or that was not understood."""

    what: What


Record: TypeAlias = Turn | Trouble
