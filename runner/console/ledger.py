"""Renders the ledger and the prefix of a run, for `show --cost` and `show --prefix`. Pure."""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from runner.console.money import CACHE_LOST, cost_text
from runner.console.style import (
    UNICODE,
    Line,
    Span,
    Style,
    cells,
    count,
    fit,
    model_name,
    money,
    pad,
    paint,
    plural,
)
from runner.console.summary import join, labelled
from runner.frozen import frozen
from runner.outcome import Rung
from runner.plan import KEEPALIVE
from runner.report import Total, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.events import Continuity, ModelResponded
    from runner.report import Report

_WIDE = 120
"""From this many columns on, figures are written with all their digits."""
_WARM = "keep-alive"
_DIGEST = 8
"""Digits of a digest that are shown; enough to see that two differ."""
_WHY = 400
"""Where a prefix differs, and what explains a figure, is cut there."""


def render_cost(report: Report, *, width: int = 100, color: bool = False) -> str:
    """Render what a run's model responses cost: by step and attempt, by role, and in all."""
    if not report.ledger:
        return f"No model was asked in run {report.run_id}: it cost no token.\n"
    facts = {
        "Cost": cost_text(report),
        "Cached": _cached_text(report),
        "Booked": _unmeasured_text(report),
        "Prices": _prices_text(report),
    }
    return paint(join([_cost_table(report, width), labelled(facts, width=width)])[1:], color=color)


def render_prefix(report: Report, *, width: int = 100, color: bool = False) -> str:
    """Render each request of the main conversation: how it follows the one before, what it read."""
    requests = list(guarded(report))
    if not requests:
        return f"{_without_prefix(report)}\n"
    blocks = [_prefix_table(requests, width), _prefix_verdict(report)]
    return paint(join(blocks)[1:], color=color)


@frozen
class _Row:
    """A line of a table; without cells an empty one."""

    cells: tuple[str, ...] = ()
    style: Style = ""
    below: tuple[Line, ...] = ()


def _table(rows: Sequence[_Row], *, aligned: str, width: int) -> list[Line]:
    """Lay rows out, `<` or `>` for each column; left-aligned columns are cut where room lacks."""
    columns = range(len(aligned))
    sizes = [max(cells(row.cells[at]) for row in rows if row.cells) for at in columns]
    names = [at for at in columns if aligned[at] == "<"]
    gap = max(1, min(3, (width - 2 - sum(sizes)) // (len(sizes) - 1)))
    while 2 + sum(sizes) + gap * (len(sizes) - 1) > width and max(sizes[at] for at in names) > 8:
        sizes[max(names, key=lambda at: sizes[at])] -= 1
    lines: list[Line] = []
    for row in rows:
        parts = [
            pad(_cut(cell, size, title), size) if how == "<" else f"{cell:>{size}}"
            for cell, size, how, title in zip(
                row.cells, sizes, aligned, rows[0].cells, strict=False
            )
        ]
        lines += [(Span(f"  {(' ' * gap).join(parts)}", row.style),), *row.below]
    return lines


def _cut(text: str, size: int, title: str) -> str:
    """Cut a name; that of a step in its middle, for many steps begin alike."""
    if title != "step" or cells(text) <= size or cells(text) != len(text):
        return fit(text, size)
    tail = (size - 1) // 2
    return f"{text[: size - 1 - tail]}{UNICODE.more}{text[-tail:]}"


# -- cost ------------------------------------------------------------------------------------------


def _cost_table(report: Report, width: int) -> list[Line]:
    """A line for each step with its sum and its attempts, then one for each role, then the sum."""
    hour = any(row.usage.cache_write_1h_tokens for row in report.ledger)
    wide = width >= _WIDE
    of_cache = ["cache read", "cache write"] if wide else ["read", "write"]
    of_cache += ["for 1h" if wide else "1h"] if hour else []
    titles = ["requests" if wide else "reqs", "input", *of_cache, "output", "cost"]
    roles = {role: model.id for role, model in report.models.items()}

    def line(name: str, rung: str, model: str, total: Total, style: Style = "") -> _Row:
        figures = _figures(total, wide=wide, hour=hour)
        return _Row((name, rung, model_name(model, roles), *figures), style)

    rows = [_Row(("step", "rung", "model", *titles), "dim")]
    for step, total in report.by_step.items():
        here = [one for one in report.by_attempt if one.step == step]
        if not step:
            rows.append(line(_WARM, here[0].rung.value, here[0].model, total))
        elif len(here) == 1:
            rows.append(line(step, here[0].rung.value, here[0].model, total))
        else:
            rows.append(line(step, "", "", total, "bold"))
            rows += [
                line(f"· attempt {one.attempt}", one.rung.value, one.model, one.total)
                for one in here
            ]
    asked = {role: model for role, model in report.models.items() if model.usage.requests}
    rows += [_Row(), _Row(("role", "", "", *[""] * len(titles)), "dim")]
    for role, model in asked.items():
        rows.append(line(_WARM if role == KEEPALIVE else role, "", model.id, model.total))
    rows += [_Row(), line("total", "", "", _total(report), "bold")]
    return _table(rows, aligned="<<<" + ">" * len(titles), width=width)


def _total(report: Report) -> Total:
    total = Total()
    for row in report.ledger:
        total = total.plus(row)
    return total


def _figures(total: Total, *, wide: bool, hour: bool) -> list[str]:
    usage = total.usage
    tokens = [usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens]
    tokens += [usage.cache_write_1h_tokens] if hour else []
    tokens += [usage.output_tokens]
    figures = [f"{number:,}" if wide else count(number) for number in tokens]
    return [str(usage.requests), *figures, _cost(total, wide=wide)]


def _cost(total: Total, *, wide: bool) -> str:
    """Write a cost; with room to the millionth, so that the lines of a column can be added up."""
    if total.unknown and not total.known_usd:
        return "unknown"
    known = f"${total.known_usd:,.6f}" if wide else money(total.known_usd)
    return f"≥{known}" if total.unknown else known


def _cached_text(report: Report) -> str:
    """Set what the main conversation read from its cache against what the rules promise.

    What was read beyond that makes up for no miss. A conversation's first request has nothing to
    read, and one that broke the prefix is told of elsewhere.
    """
    follow = [(row, how) for row, how in guarded(report) if how.how in ("extends", "same")]
    known = [
        (row.usage.cache_read_tokens, how.expected)
        for row, how in follow
        if how.expected is not None
    ]
    if not any(expected for _, expected in known):
        return ""
    read = sum(min(read, expected) for read, expected in known)
    promised = sum(expected for _, expected in known)
    text = f"{read:,} of {promised:,} expected tokens read by main"
    blind = len(follow) - len(known)
    return f"{text}; nobody knows of {plural(blind, 'request')}" if blind else text


def _unmeasured_text(report: Report) -> str:
    """Say how many requests are in the ledger at the most that they can have cost."""
    blind = [row for row in report.ledger if not row.usage.input_tokens and row.cost_usd]
    what = "whose usage nobody told, at the most that they can have cost"
    return f"{plural(len(blind), 'request')} {what}" if blind else ""


def _prices_text(report: Report) -> str:
    # Rows of an older release, which have no time either, do not tell what priced them.
    rows = [row for row in report.ledger if row.cost_usd and row.at and not row.prices]
    own = dict.fromkeys(row.asked for row in rows)
    table = "" if report.prices is None else ", of ".join(report.prices)
    if not own:
        return table
    return f"own for {', '.join(own)}{f'; else {table}' if table else ''}"


# -- prefix ----------------------------------------------------------------------------------------


def _prefix_table(requests: Sequence[tuple[ModelResponded, Continuity]], width: int) -> list[Line]:
    titles = ("#", "step", "blocks", "bytes", "digest", "cached", "expected", "prefix")
    rows = [_Row(titles, "dim")]
    before = requests[0][0].conversation
    for number, (row, how) in enumerate(requests, start=1):
        if row.conversation != before:
            rows.append(_Row())
            before = row.conversation
        rows.append(_request(number, row, how, width))
    return _table(rows, aligned="><>>>>><", width=width)


def _request(number: int, row: ModelResponded, how: Continuity, width: int) -> _Row:
    told = row.usage.input_tokens > 0
    figures = (
        str(number),
        _WARM if row.role == KEEPALIVE else row.step,
        f"{how.blocks:,}",
        f"{how.size:,}",
        how.digest[:_DIGEST],
        f"{row.usage.cache_read_tokens:,}" if told else "?",
        "?" if how.expected is None else f"{how.expected:,}",
        "BROKEN" if how.broken else how.how,
    )
    below = list(_below(f"differs: {how.how}", width, "bad")) if how.broken else []
    below += _below(how.why, width, "warn") if how.why else []
    return _Row(figures, "bold bad" if how.broken else "", tuple(below))


def _below(text: str, width: int, style: Style) -> Iterator[Line]:
    for line in wrap(fit(text, _WHY), max(20, width - 6)):
        yield (Span(f"      {line}", style),)


def _prefix_verdict(report: Report) -> list[Line]:
    prefix = report.prefix
    requests = plural(prefix.requests, "request")
    if prefix.unbroken:
        text = f"unbroken: {requests}, {plural(prefix.conversations, 'conversation')}"
        return [(Span(f"{UNICODE.ok} {text}", "bold ok"),)]
    lost = f"BROKEN: {CACHE_LOST} {plural(len(prefix.breaks), 'time')} in {requests}"
    return [
        (Span(f"{UNICODE.bad} {lost}", "bold bad"),),
        (Span("  This is a defect of runner: please report it, with this list.", "bad"),),
    ]


def _without_prefix(report: Report) -> str:
    """Say why there is nothing to show."""
    if not report.ledger:
        return f"No model was asked in run {report.run_id}: there is no prefix."
    if any(one.rung is Rung.MAIN for one in report.by_attempt):
        return (
            f"Run {report.run_id} was recorded by an older release of runner, "
            "which kept nothing about the prefix."
        )
    return f"Run {report.run_id} had no main conversation: there is no prefix."
