"""Shows a run to people: a live tree at a terminal, plain lines elsewhere, and how it ended.

What `show`, `runs` and `explain` print is in `runner.console.show`, which a run does not import.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, Protocol

from runner.console.plain import PlainConsole
from runner.console.stream import Quietly

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TextIO

    from runner.events import Event

__all__ = ["Console", "Progress", "make_console"]

Progress = Literal["auto", "tree", "plain", "quiet"]
"""How a run is shown while it goes on."""


class Console(Protocol):
    """A sink that shows events. It never raises, not even when its stream is gone."""

    def __call__(self, event: Event) -> None:
        """Show one event."""
        ...

    def close(self) -> None:
        """Stop showing; after the last event of a run, say how it ended. May be called twice."""
        ...


def make_console(
    stream: TextIO,
    *,
    progress: Progress = "auto",
    color: bool | None = None,
    where: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Console:
    """Choose how to show a run on `stream`.

    Args:
        stream: Where to write; stderr, for stdout is for results.
        progress: `tree` is drawn at terminals only, elsewhere it is `plain`; `quiet` says nothing
            but how it ended, and that only when it did not end well; `auto` draws the tree at a
            terminal that can, outside CI.
        color: `None`: at a terminal, unless `NO_COLOR` says otherwise; elsewhere on `FORCE_COLOR`.
        where: Options that the commands it names need, to be about the same repository.
        environ: The environment to decide by.
    """
    quietly = Quietly(stream)
    terminal = quietly.isatty() and environ.get("TERM", "dumb") not in ("dumb", "unknown", "")
    if color is None:
        color = _colors(environ, terminal=terminal)
    in_ci = environ.get("CI", "").lower() not in ("", "0", "false")
    if not terminal or progress in ("plain", "quiet") or (progress == "auto" and in_ci):
        return PlainConsole(quietly, color=color, quiet=progress == "quiet", where=where)
    from runner.console.tree import TreeConsole  # noqa: PLC0415  rich costs a passing run too much

    return TreeConsole(quietly, color=color, where=where)


def _colors(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether to colour: no-color.org goes before all, then FORCE_COLOR, then the terminal."""
    if environ.get("NO_COLOR"):
        return False
    return terminal or environ.get("FORCE_COLOR", "") not in ("", "0", "false")
