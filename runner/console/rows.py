"""Lays out one row for each step, the same while a run goes on and after it. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runner.console.style import (
    Glyphs,
    Line,
    Span,
    Style,
    cells,
    count,
    duration,
    fit,
    money,
    pad,
    plural,
    share,
)
from runner.frozen import frozen
from runner.outcome import Usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.report import StepReport

_RUNG_STYLES: Mapping[str, Style] = {"subagent": "warn", "main": "bold warn"}
_NOTE_STYLES: Mapping[str, Style] = {"failed": "bad", "allowed": "warn"}
_RUNG = len("subagent")
_TIME = 7
_COST = 8
_TOKENS = len("123.4k in, 100% cached, 12.3k out")
_WIDE = 120
"""Columns from which on tokens are shown."""
_NOTHING = Usage()
_NAME = 24
"""Widest column of step ids; at narrow terminals a third of the width."""


@frozen
class Row:
    """What is shown of a step."""

    status: str
    name: str
    rung: str = ""
    note: str = ""
    seconds: float | None = None
    """`None` shows nothing."""
    cost: Decimal | None = Decimal(0)
    frame: int = 0
    """Of the sign that turns while the step runs."""
    usage: Usage = _NOTHING
    """Tokens, shown where there is room."""


def row_of(step: StepReport, usage: Usage = _NOTHING) -> Row:
    """Return the row of a step that is over, or that nobody watches, and what it used."""
    rung = step.rung.value if step.rung else ""
    ran = bool(step.attempts) or step.seconds > 0
    seconds = step.seconds if ran else None
    status = "allowed" if step.allowed else step.status
    return Row(status, step.id, rung, _note(step), seconds, step.cost_usd, usage=usage)


def _note(step: StepReport) -> str:
    tries = len(step.attempts)
    tried = plural(tries, "attempt") if tries > 1 else ""
    if step.status == "succeeded":
        unverified = "" if step.verified or step.kind != "prompt" else "not verified"
        return ", ".join(part for part in (step.reason, tried, unverified) if part)
    may = "may fail" if step.allowed else ""
    aside = ", ".join(part for part in (may, tried) if part)
    reason = step.reason or step.status
    return f"{reason} ({aside})" if aside else reason


def layout(rows: Sequence[Row], *, width: int, glyphs: Glyphs) -> list[Line]:
    """Lay rows out in columns, together at most `width` columns wide."""
    widest = max((cells(row.name) for row in rows), default=0)
    name = min(widest, _NAME, max(8, width // 3))
    sign = max(cells(glyphs.of(row.status)[0]) for row in rows) if rows else 1
    paid = any(row.cost is None or row.cost for row in rows)
    rungs = any(row.rung for row in rows)
    used = width >= _WIDE and any(row.usage.requests for row in rows)
    fixed = 2 + sign + 1 + name + (2 + _RUNG) * rungs + 2 + _TIME + (2 + _COST) * paid
    fixed += (2 + _TOKENS) * used
    note = max(0, width - fixed - 2)
    columns = _Columns(sign, name, _RUNG * rungs, note, _COST * paid, _TOKENS * used)
    return [_lay_out(row, columns, glyphs) for row in rows]


@frozen
class _Columns:
    """Widths; 0 leaves a column out."""

    sign: int
    name: int
    rung: int
    note: int
    cost: int
    tokens: int


def _lay_out(row: Row, columns: _Columns, glyphs: Glyphs) -> Line:
    sign, style = glyphs.of(row.status)
    if row.status == "running":
        sign = glyphs.spin[row.frame % len(glyphs.spin)]
    quiet: Style = "dim" if row.status in ("pending", "skipped", "blocked") else ""
    spans = [
        Span(f"  {pad(sign, columns.sign)} ", style),
        Span(pad(fit(row.name, columns.name, glyphs.more), columns.name), quiet or "bold"),
    ]
    if columns.rung:
        spans.append(Span(f"  {row.rung:<{columns.rung}}", _rung_style(row.rung)))
    note = pad(fit(row.note, columns.note, glyphs.more), columns.note)
    spans.append(Span(f"  {note}", _NOTE_STYLES.get(row.status, "dim")))
    time = "" if row.seconds is None else duration(row.seconds)
    spans.append(Span(f"  {time:>{_TIME}}", quiet))
    if columns.tokens:
        spans.append(Span(f"  {_tokens(row.usage):>{columns.tokens}}", "dim"))
    if columns.cost:
        cost = "" if row.cost == 0 else money(row.cost)
        spans.append(Span(f"  {cost:>{columns.cost}}", quiet))
    return tuple(spans)


def _tokens(usage: Usage) -> str:
    """Write what went in, how much of it came from a cache, and what came out."""
    if not usage.requests:
        return ""
    cached = share(usage.cache_read_tokens, usage.input_tokens)
    return f"{count(usage.input_tokens)} in, {cached} cached, {count(usage.output_tokens)} out"


def _rung_style(rung: str) -> Style:
    """Make what costs stand out: nothing for commands, more the dearer it is."""
    return _RUNG_STYLES.get(rung, "dim")
