"""Writes what a run cost: by rung and in all, what is left, and where a cache was lost. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runner.console.style import (
    Glyphs,
    Line,
    Span,
    count,
    fit,
    known_money,
    money,
    plural,
    share,
)
from runner.outcome import Rung
from runner.plan import KEEPALIVE
from runner.report import guarded

if TYPE_CHECKING:
    from runner.outcome import Usage
    from runner.report import Report

CACHE_LOST = "the main conversation's prompt cache was lost"
_WARM = "keep-alive"
_BREAKS = 3
"""Lost caches that are named; `show --prefix` has all."""


def rung_table(report: Report, *, width: int) -> list[Line]:
    """Totals by rung; empty for a run in which no model was asked."""
    if not report.ledger:
        return []
    titles = ["rung", "steps", "attempts", "requests", "tokens in", "cached", "out", "cost"]
    table = [titles]
    for rung in report.rungs:
        cost = "" if rung.cost_usd == 0 else known_money(rung.total.known_usd, rung.total.unknown)
        figures = _figures(rung.usage) if rung.usage.requests else ["", "", "", ""]
        table.append([rung.rung.value, str(rung.steps), str(rung.attempts), *figures, cost])
        warm = report.models.get(KEEPALIVE)
        if rung.rung is Rung.MAIN and warm is not None and warm.usage.requests:
            cost = known_money(warm.total.known_usd, warm.total.unknown)
            table.append([f"· {_WARM}", "", "", *_figures(warm.usage), cost])
    widths = [max(len(line[column]) for line in table) for column in range(len(titles))]
    free = width - 2 - sum(widths)
    gap = " " * max(1, min(3, free // (len(titles) - 1)))
    lines: list[Line] = []
    for number, line in enumerate(table):
        first, *rest = line
        text = gap.join(f"{cell:>{size}}" for cell, size in zip(rest, widths[1:], strict=True))
        lines.append((Span(f"  {first:<{widths[0]}}{gap}{text}", "dim" if number == 0 else ""),))
    return lines


def _figures(usage: Usage) -> list[str]:
    return [
        str(usage.requests),
        count(usage.input_tokens),
        share(usage.cache_read_tokens, usage.input_tokens),
        count(usage.output_tokens),
    ]


def breaks(report: Report, *, room: int, glyphs: Glyphs, where: str = "") -> list[Line]:
    """Say loudly where the main conversation lost its prompt cache: no workflow can cause that."""
    found = report.prefix.breaks
    if not found:
        return []
    named = [f"{CACHE_LOST} at {one}" for one in found[:_BREAKS]]
    if len(found) > _BREAKS:
        named.append(f"and {plural(len(found) - _BREAKS, 'time')} more")
    lines: list[Line] = [
        (Span(f"  {glyphs.bad} {fit(text, room, glyphs.more)}", "bold bad"),) for text in named
    ]
    look = f"runner show {report.run_id} --prefix{where}"
    lines.append(
        (Span("    This is a defect of runner. Please report it, with the output of", "bad"),)
    )
    lines.append((Span(f"    {look}", "bad"),))
    return lines


def misses(report: Report, *, room: int, glyphs: Glyphs) -> list[Line]:
    """Say in one line which cached tokens main did not read though its prefix was whole."""
    found: list[tuple[str, int, str]] = []
    held = 0
    for row, how in guarded(report):
        usage, expected = row.usage, how.expected
        if expected == 0 and how.why.startswith("expired") and not usage.cache_read_tokens:
            expected = held
        if expected and how.how in ("extends", "same") and usage.cache_read_tokens < expected:
            missed = expected - usage.cache_read_tokens
            found.append((row.step or _WARM, missed, how.why))
        held = usage.cache_read_tokens + usage.cache_write_tokens or usage.input_tokens
    if not found:
        return []
    step, _, why = found[0]
    tokens = sum(missed for _, missed, _ in found)
    text = f"{tokens:,} cached tokens of main had to be paid anew, at {step}"
    text += f" and {plural(len(found) - 1, 'time')} more" if len(found) > 1 else ""
    text += f": {why}" if why else ""
    return [(Span(f"  {glyphs.warn} ", "warn"), Span(fit(text, room, glyphs.more)))]


def cost_text(report: Report) -> str:
    """Say what was paid, of how much, what is left, and what of it is not known or not real."""
    if not report.ledger:
        asked = any(one.rung is not Rung.COMMAND for step in report.steps for one in step.attempts)
        who = "no model answered" if asked else "no model was asked"
        return f"no tokens: {who}" if report.models else ""
    unknown = report.cost_usd is None
    text = known_money(report.known_cost_usd, int(unknown))
    if report.budget_usd is not None:
        default = "" if report.budget_given else " (the default)"
        text += f" of {money(report.budget_usd)}{default}"
    if unknown:
        text += "; a price is not known"
    elif left := left_text(report):
        text += f", {left}"
    if report.replayed and report.known_cost_usd:
        return f"{text}, replayed: paid when it was recorded"
    if not report.scripted_usd:
        return text
    if report.scripted_usd == report.known_cost_usd:
        return f"{text}, scripted: nothing was paid"
    return f"{text}; {money(report.scripted_usd)} of it scripted"


def left_text(report: Report) -> str:
    """Say which share of the budget is left, rounded down; empty without a budget in USD."""
    if report.budget_usd is None or report.budget_usd <= 0:
        return ""
    left = max(Decimal(0), report.budget_usd - report.known_cost_usd)
    return f"{100 * left // report.budget_usd}% left"


def baseline_text(report: Report) -> str:
    """Say what the same work would have cost otherwise, and plainly where that is less.

    Empty while nobody estimated it.
    """
    inline, switch = report.baseline.inline_usd, report.baseline.switch_usd
    parts = [
        f"{money(usd)} {how}{_less(usd, report)}"
        for usd, how in ((inline, "inline on main"), (switch, "by switching models"))
        if usd is not None
    ]
    return f"about {', '.join(parts)} (estimated)" if parts else ""


def _less(usd: Decimal, report: Report) -> str:
    return " (less than this run)" if usd < report.known_cost_usd else ""
