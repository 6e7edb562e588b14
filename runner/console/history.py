"""Renders the history for `runner history`: which model mended what, how reliably. Pure."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from runner.console.style import (
    Span,
    cells,
    duration,
    fit,
    model_name,
    money,
    pad,
    paint,
    plural,
)
from runner.history import timetable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.console.style import Line as Shown
    from runner.history import Line, Tried

_WIDE = 120
"""From this many columns on, models are written with their vendor."""
_TITLES = ("kind", "rung", "model", "tried", "mended", "90% interval", "cost", "time")
_ALIGNED = "<<<>>>>>"
_MODEL = _TITLES.index("model")
_LEAST = 12
"""Columns that a model's name gets at least."""
_MEANS = (
    "The chance of mending lies in the interval with 90%, by these counts alone. "
    "Cost and time are medians of all attempts of a rung at one failing step."
)


def render_history(
    rows: Sequence[Tried], *, repo: str | None, width: int = 100, color: bool = False
) -> str:
    """Render the timetable of what was tried, with a line of what it is made of below.

    Args:
        rows: What was tried; not empty.
        repo: Whose rows they are; `None` is all repositories.
        width: Columns of the terminal.
        color: Whether to colour.
    """
    lines = timetable(rows)
    names = _names([line.model for line in lines], wide=width >= _WIDE)
    table = [_TITLES, *(_cells(line, names[line.model]) for line in lines)]
    shown = _table(table, width)
    shown.append(())
    for text in (_scope(rows, repo), _MEANS):
        shown += [(Span(f"  {line}", "dim"),) for line in wrap(text, max(20, min(width, 100) - 4))]
    return paint(shown, color=color)


def _cells(line: Line, model: str) -> tuple[str, ...]:
    return (
        line.kind,
        line.rung.value,
        model,
        str(line.tried),
        str(line.mended),
        f"{100 * line.low:.0f}-{100 * line.high:.0f}%",
        "unknown" if line.usd is None else money(line.usd),
        duration(line.seconds),
    )


def _names(models: Sequence[str], *, wide: bool) -> Mapping[str, str]:
    """Return what to call each model: without its vendor, where that is still one model's name."""
    ids = dict.fromkeys(models)
    short = {one: model_name(one, {}) or "(none)" for one in ids}
    taken = list(short.values())
    return {
        one: one if (wide or taken.count(name) > 1) and not name.startswith("script:") else name
        for one, name in short.items()
    }


def _table(rows: Sequence[Sequence[str]], width: int) -> list[Shown]:
    sizes = [max(cells(row[at]) for row in rows) for at in range(len(_TITLES))]
    gap = 2 if sum(sizes) + 2 * len(sizes) <= width else 1
    spare = width - 2 - gap * (len(sizes) - 1) - (sum(sizes) - sizes[_MODEL])
    sizes[_MODEL] = min(sizes[_MODEL], max(_LEAST, spare))
    shown: list[Shown] = []
    for number, row in enumerate(rows):
        parts = [
            pad(fit(cell, size), size) if how == "<" else f"{cell:>{size}}"
            for cell, size, how in zip(row, sizes, _ALIGNED, strict=True)
        ]
        shown.append((Span(f"  {(' ' * gap).join(parts)}", "" if number else "dim"),))
    return shown


def _scope(rows: Sequence[Tried], repo: str | None) -> str:
    steps = plural(len({(one.run, one.step) for one in rows}), "failing step")
    what = f"{steps} of {plural(len({one.run for one in rows}), 'run')}"
    if repo is not None:
        return f"{what} in this repository ({repo})."
    repos = len({one.repo for one in rows})
    return f"{what} in {'1 repository' if repos == 1 else f'{repos} repositories'}."
