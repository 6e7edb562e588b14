"""Draws a run's spans as a tree with a time line, for `runner trace`. Pure: spans in, text out."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runner.console.style import (
    UNICODE,
    Glyphs,
    Line,
    Span,
    Style,
    count,
    duration,
    fit,
    money,
    pad,
    paint,
    plural,
)
from runner.frozen import frozen
from runner.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.telemetry import Span as Traced

_INDENT = 2
_DURATION = 7
_LEAST_NAME, _MOST_NAME = 26, 44
_REASONS = (
    names.STEP_REASON,
    names.ATTEMPT_REASON,
    names.TOOL_REASON,
    names.CACHE_WHY,
    names.WAIT_REASON,
)


_WAITS = {"slot": "waited for a free slot", "tree": "waited: another step held the tree"}


@frozen
class Columns:
    """How wide each column is; what is left of the terminal has the rest."""

    name: int
    bar: int
    rest: int


@frozen
class Row:
    """A span and how deep it is below its root."""

    span: Traced
    depth: int


def render_trace(
    spans: Iterable[Traced], *, width: int = 100, color: bool = False, glyphs: Glyphs = UNICODE
) -> str:
    """Render all traces of a run, one for each of its lives; spans that never ended are marked."""
    lines: list[Line] = []
    for root, rows in trees(list(spans)):
        lines += [(), *_head(root, rows)] if lines else _head(root, rows)
        columns = _columns(rows, width)
        lines += [_line(row, root, columns, glyphs) for row in rows]
    return paint(lines, color=color)


def trees(spans: Sequence[Traced]) -> list[tuple[Traced, list[Row]]]:
    """Sort spans into trees: each root with all rows below it, children by their start."""
    known = {span.span_id for span in spans}
    below: dict[str, list[Traced]] = {}
    for span in sorted(spans, key=lambda one: one.start):
        parent = span.parent_id if span.parent_id in known else ""
        below.setdefault(parent, []).append(span)
    return [(root, list(_rows(root, below))) for root in below.get("", ())]


def _rows(root: Traced, below: Mapping[str, Sequence[Traced]]) -> Iterable[Row]:
    todo = [Row(root, 0)]
    while todo:
        row = todo.pop()
        yield row
        todo += [Row(one, row.depth + 1) for one in reversed(below.get(row.span.span_id, ()))]


def _head(root: Traced, rows: Sequence[Row]) -> list[Line]:
    failed = sum(row.span.status == "error" for row in rows)
    errors = f", {failed} with an error" if failed else ""
    life = root.attributes.get(names.RUN_LIFE, 1)
    which = f" (life {life})" if life != 1 else ""
    run = root.attributes.get(names.RUN_ID, "")
    return [
        (
            Span(f"run {run}{which}", "bold"),
            Span(f"  trace {root.trace_id}", "dim"),
        ),
        (Span(f"{plural(len(rows), 'span')}{errors}", "dim"),),
    ]


def _columns(rows: Sequence[Row], width: int) -> Columns:
    longest = max(row.depth * _INDENT + len(row.span.name) for row in rows)
    name = max(_LEAST_NAME, min(longest, _MOST_NAME, width // 2 - 4))
    bar = max(4, min(24, (width - name) // 4))
    return Columns(name, bar, max(0, width - name - _DURATION - bar - 6))


def _line(row: Row, root: Traced, columns: Columns, glyphs: Glyphs) -> Line:
    span, failed = row.span, row.span.status == "error"
    indent = min(row.depth * _INDENT, columns.name - 8)
    name = pad(" " * indent + fit(span.name, columns.name - indent, glyphs.more), columns.name)
    style: Style = "bad" if failed else "bold" if row.depth == 0 else ""
    took = _took(span).rjust(_DURATION)
    bar = _bar(span, root, columns.bar, glyphs)
    rest = fit(_details(span, glyphs), columns.rest, glyphs.more)
    return (
        Span(name, style),
        Span(f" {took}", ""),
        Span(f"  {bar}", "bad" if failed else "dim"),
        Span(f"  {rest}", "bad" if failed else ""),
    )


def _took(span: Traced) -> str:
    seconds = (span.end - span.start) / 1e9
    return f"{seconds * 1000:.0f}ms" if seconds < 0.9995 else duration(seconds)


def _bar(span: Traced, root: Traced, width: int, glyphs: Glyphs) -> str:
    """Draw when a span was, within its root; at least one sign."""
    whole = max(1, root.end - root.start)
    first = min(width - 1, (span.start - root.start) * width // whole)
    last = min(width, max(first + 1, round((span.end - root.start) * width / whole)))
    sign = "=" if glyphs.more == "..." else "━"
    return f"{' ' * first}{sign * (last - first)}".ljust(width)


def _details(span: Traced, glyphs: Glyphs) -> str:
    found = span.attributes
    error = found.get(names.ERROR_TYPE, "") if span.status == "error" else ""
    verdict = found.get(names.ATTEMPT_VERDICT, "")
    reason = next((str(found[name]) for name in _REASONS if found.get(name)), "")
    if span.name.startswith("queue "):
        reason = _WAITS.get(reason, reason)
    what = f"{verdict}: {reason}" if verdict and reason not in ("", verdict) else reason or verdict
    status = found.get(names.STEP_STATUS, "") if not what else ""
    used = (_tokens(found), _cost(found))
    # Where it went wrong people look for why; elsewhere for what it took.
    parts = (
        (what or str(error).replace("exit_", "exit "), *used) if error else (*used, what, status)
    )
    return f" {glyphs.dot} ".join(str(part) for part in parts if part)


def _tokens(found: Mapping[str, object]) -> str:
    """Write what went in, how much of that was cached, and what came out."""
    for asked, read, answered in (
        (names.INPUT_TOKENS, names.CACHE_READ, names.OUTPUT_TOKENS),
        (names.USAGE_INPUT, names.USAGE_CACHE_READ, names.USAGE_OUTPUT),
    ):
        if asked in found:
            size, cached, out = (found.get(name, 0) for name in (asked, read, answered))
            assert isinstance(size, int), "counts are whole"
            assert isinstance(cached, int), "counts are whole"
            assert isinstance(out, int), "counts are whole"
            share = f" ({cached * 100 // size}% cached)" if cached and size else ""
            return f"{count(size)} in{share}, {count(out)} out"
    return ""


def _cost(found: Mapping[str, object]) -> str:
    cost = found.get(names.COST_USD)
    return money(Decimal(str(cost))) if isinstance(cost, float) else ""
