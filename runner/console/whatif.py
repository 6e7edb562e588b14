"""Renders what a run would have cost otherwise: a sum, its grounds and its doubts. Pure."""

from __future__ import annotations

from decimal import Decimal
from textwrap import wrap
from typing import TYPE_CHECKING

from runner.console.style import Line, Span, fit, money, paint
from runner.console.summary import join, labelled
from runner.whatif import SOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from runner.whatif import Line as Way
    from runner.whatif import Observed

_NAME = 34
_SUM = 20
"""Columns of names, of sums; a longer name takes a line of its own."""
_WIDE = 100
_TENTHS = Decimal("0.95")
_WHOLE = Decimal("99.5")


def render_whatif(
    seen: Observed,
    ways: Sequence[Way],
    stated: Mapping[str, Any],
    *,
    prices: tuple[str, str] | None,
    width: int = 100,
    color: bool = False,
) -> str:
    """Render what a run cost, and what its work would have cost otherwise.

    Args:
        seen: The run.
        ways: The run itself, then the others.
        stated: The figures that were assumed, by name.
        prices: Name and date of the price table; `None` when all prices are the user's own.
        width: Columns.
        color: Whether to colour.
    """
    blocks = [
        _head(seen, width),
        *(_way(number, ways, width) for number in range(len(ways))),
        _figures(stated, width),
        labelled({"Prices": f"{prices[0]}, of {prices[1]}" if prices else "your own"}, width=width),
        [(Span(text, "bold"),) for text in wrap(verdict(ways), width)],
    ]
    return paint(join(blocks)[1:], color=color)


def verdict(ways: Sequence[Way]) -> str:
    """Say plainly whether any other way is estimated to cost less than the run did."""
    run, *others = ways
    if run.low_usd is None:
        return "What the run itself cost is not known: nothing can be compared with it."
    left = run.facts.get("unmended")
    undone = f" It left {', '.join(left)} unmended: another way may have done more." if left else ""
    # What leaves steps unmended is cheap, but not the same work.
    known = [way for way in others if way.low_usd is not None and not way.facts.get("unmended")]
    if not known:
        return "No price is known for any other way: name models with --set ROLE=MODEL."
    low = min(known, key=lambda way: way.low_usd or Decimal(0))
    assert low.low_usd is not None, "only known sums are compared"
    if low.low_usd >= run.low_usd:
        return f"By these estimates no other way would have cost less than this run.{undone}"
    saved = money(run.low_usd - low.low_usd)
    sure = low.high_usd is not None and low.high_usd <= run.low_usd
    how = "would have cost" if sure else "could have cost up to"
    return f"By these estimates `{low.name}` {how} {saved} less than this run.{undone}"


def _head(seen: Observed, width: int) -> list[Line]:
    scripted = " Scripted models stood in: nobody paid it." if seen.scripted else ""
    text = (
        f"Run {seen.run} of {fit(seen.workflow, 60)}, and what its work would have cost otherwise. "
        f"All but the first sum are estimates.{scripted}"
    )
    return [(Span(line),) for line in wrap(text, width)]


def _way(number: int, ways: Sequence[Way], width: int) -> list[Line]:
    way, before = ways[number], ways[number - 1] if number else None
    compared = "" if before is None else _times(way, ways[0])
    if compared.endswith("times") and width >= _WIDE:
        compared += " this run"
    lines: list[Line] = []
    name = fit(way.name, width - 2)
    if len(name) > _NAME:
        lines.append((Span(f"  {name}", "bold"),))
        name = ""
    head = Span(f"  {name:<{_NAME}}  {_sum(way):<{_SUM}}  ", "bold")
    lines.append((head, Span(compared)))
    same = before is not None and before.measured == way.measured
    lines += _ground("measured", "as above" if same else way.measured, width)
    return lines + _ground("assumed", way.assumed, width)


def _ground(label: str, text: str, width: int) -> list[Line]:
    first, *rest = wrap(text, max(20, width - 16), break_on_hyphens=False) or [""]
    return [
        (Span(f"    {label:<8}  ", "dim"), Span(first)),
        *((Span(f"{'':14}{line}"),) for line in rest),
    ]


def _sum(way: Way) -> str:
    if way.low_usd is None or way.high_usd is None:
        return "unknown"
    if way.low_usd == way.high_usd:
        return money(way.low_usd)
    return f"{money(way.low_usd)} to {money(way.high_usd)}"


def _times(way: Way, run: Way) -> str:
    """Say how many times what the run cost it is; empty for a run that cost nothing."""
    if way.low_usd is None or way.high_usd is None:
        return "" if way.facts.get("offered") is False else "a price is not known"
    if not run.low_usd:
        return ""
    ratios = (usd / run.low_usd for usd in (way.low_usd, way.high_usd))
    low, high = map(_ratio, ratios)
    return f"{low} times" if low == high else f"{low} to {high} times"


def _ratio(one: Decimal) -> str:
    if one >= _WHOLE:
        return f"{one:,.0f}"
    return f"{one:.1f}" if one >= _TENTHS else f"{one:.2f}"


def _figures(stated: Mapping[str, Any], width: int) -> list[Line]:
    """Lay out the figures, aligned on the right, and below them the models."""
    lines: list[Line] = [(Span("  Figures that are assumed", "dim"),)]
    numbers = {name: str(value) for name, value in stated.items() if not isinstance(value, str)}
    models = {name: value for name, value in stated.items() if isinstance(value, str)}
    for group, right in ((numbers, True), (models, False)):
        size = max((len(value) for value in group.values()), default=0)
        for name, value in group.items():
            shown = value.rjust(size) if right else value.ljust(size)
            lines += _ground_of(shown, SOURCES[name], width, size)
    return lines


def _ground_of(value: str, text: str, width: int, size: int) -> list[Line]:
    first, *rest = wrap(text, max(20, width - size - 7), break_on_hyphens=False)
    return [
        (Span(f"    {value}  "), Span(first, "dim")),
        *((Span(f"{'':{size + 6}}{line}", "dim"),) for line in rest),
    ]
