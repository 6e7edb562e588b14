"""Draws what a run cost beside what it would have, and what main read from its cache. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runner.console.style import count, known_money, model_name, money, plural
from runner.frozen import frozen
from runner.page.axis import percent, ticks
from runner.page.html import Html, el, join
from runner.plan import KEEPALIVE, MAIN
from runner.report import guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.events import Continuity, ModelResponded
    from runner.outcome import Usage
    from runner.report import Report

_ROW = 46
_BAR = 18
_PLOT = 170
_TOP = 22
REQUESTS = 400
"""Requests of the main conversation that are drawn and listed; of more, the last ones."""
_WIDE = 60
"""With more requests, the chart scrolls instead of growing thinner."""


@frozen
class _Cost:
    """One row of the cost chart."""

    name: str
    told: str
    parts: tuple[tuple[str, str, Decimal], ...]
    """Class, words and USD of each part."""

    @property
    def usd(self) -> Decimal:
        return sum((usd for _, _, usd in self.parts), Decimal(0))


def uncached(usage: Usage) -> int:
    """Return the input tokens that were neither read from a cache nor written to one."""
    return max(0, usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens)


def cost_chart(report: Report) -> Html | None:
    """Draw the cost by role beside the two estimates; `None` where nothing cost anything."""
    rows = _costs(report)
    most = max((row.usd for row in rows), default=Decimal(0))
    if not most:
        return None
    drawn = [_cost_row(row, number * _ROW, most) for number, row in enumerate(rows)]
    said = "; ".join(f"{row.name} {row.told}" for row in rows)
    title, words = el("title", "Cost by role, beside what was estimated"), el("desc", said)
    return join(
        el("svg", title, words, _hatch("estimate-hatch", "estimate"), drawn, width="100%",
           height=_ROW * len(rows), role="img", class_="chart"),
        _cost_legend(rows[0]),
    )  # fmt: skip


def _costs(report: Report) -> list[_Cost]:
    parts = tuple(
        (_class(role), f"{role}: {model_name(model.id, {})}", model.total.known_usd)
        for role, model in report.models.items()
        if model.usage.requests
    )
    told = known_money(report.known_cost_usd, int(report.cost_usd is None))
    rows = [_Cost("this run", told + (", scripted" if report.scripted else ""), parts)]
    estimates = (
        ("inline on main", report.baseline.inline_usd),
        ("by switching models", report.baseline.switch_usd),
    )
    return rows + [
        _Cost(f"{name} (estimate)", f"about {money(usd)}", (("estimate", name, usd),))
        for name, usd in estimates
        if usd is not None
    ]


def _class(role: str) -> str:
    return {MAIN: "main", KEEPALIVE: "warm"}.get(role, "subagent")


def _cost_row(row: _Cost, y: int, most: Decimal) -> Html:
    at, bars = Decimal(0), list[Html]()
    for kind, words, usd in row.parts:
        fill = "url(#estimate-hatch)" if kind == "estimate" else None
        bars.append(
            el("rect", el("title", f"{words}, {money(usd)}"), x=percent(float(at), float(most)),
               y=y + 20, width=percent(float(usd), float(most)), height=_BAR, fill=fill,
               class_=kind)
        )  # fmt: skip
        at += usd
    name = el("text", row.name, x=0, y=y + 14)
    told = el("text", row.told, x="100%", y=y + 14, text_anchor="end", class_="figure")
    return join(name, told, bars)


def _cost_legend(row: _Cost) -> Html:
    items = [el("li", _swatch(kind), words) for kind, words, usd in row.parts if usd]
    return el("ul", items, class_="legend")


def _swatch(kind: str, fill: str | None = None) -> Html:
    rect = el("rect", x=1, y=3, width=20, height=14, class_=kind, fill=fill)
    return el("svg", rect, width=22, height=20, aria_hidden="true", class_="chart key")


def _hatch(name: str, kind: str) -> Html:
    stripe = el("path", d="M0 8L8 0M-2 2L2 -2M6 10L10 6", class_=f"{kind}-stripe")
    return el(
        "defs", el("pattern", stripe, id=name, width=8, height=8, patternUnits="userSpaceOnUse")
    )


@frozen
class _Column:
    """One request of the main conversation, in tokens."""

    number: int
    row: ModelResponded
    how: Continuity

    @property
    def read(self) -> int:
        return self.row.usage.cache_read_tokens

    @property
    def written(self) -> int:
        return self.row.usage.cache_write_tokens

    @property
    def uncached(self) -> int:
        return uncached(self.row.usage)

    @property
    def words(self) -> str:
        parts = [f"{count(self.read)} read", f"{count(self.written)} written",
                 f"{count(self.uncached)} uncached"]  # fmt: skip
        if self.how.expected is not None:
            parts.append(f"{count(self.how.expected)} expected")
        broken = ", PREFIX BROKEN" if self.how.broken else ""
        return f"request {self.number}, {self.row.step or KEEPALIVE}: {', '.join(parts)}{broken}"


def cache_chart(report: Report) -> Html | None:
    """Draw what each main request read, wrote and paid whole; `None` without such a request."""
    columns = [_Column(n, row, how) for n, (row, how) in enumerate(guarded(report), start=1)]
    shown = columns[-REQUESTS:]
    most = max((max(c.row.usage.input_tokens, c.how.expected or 0) for c in shown), default=0)
    if not most:
        return None
    slot = min(100 / len(shown), 14.0)
    scale = _Scale(most, slot)
    broken = [str(c.number) for c in shown if c.how.broken]
    said = f"{plural(len(shown), 'request')}; {len(broken)} broke the prefix"
    said += f": {', '.join(broken[:40])}" if broken else ""
    wide = len(shown) > _WIDE
    chart = el(
        "svg",
        el("title", "Tokens of each request of the main conversation, by what became of them"),
        el("desc", said),
        _hatch("written-hatch", "written"),
        scale.axis(),
        [scale.column(at, one) for at, one in enumerate(shown)],
        [scale.number(at, one, len(shown)) for at, one in enumerate(shown)],
        width=len(shown) * 9 if wide else "100%",
        height=_TOP + _PLOT + 20,
        role="img",
        class_="chart",
    )
    if wide:
        words = "Chart of the main conversation's requests"
        chart = el("div", chart, class_="scroll", tabindex=0, role="group", aria_label=words)
    return join(chart, _cache_legend(shown))


@frozen
class _Scale:
    most: int
    slot: float
    """Per cent of the width that a request has."""

    def y(self, tokens: float) -> float:
        return round(_TOP + _PLOT * (1 - tokens / self.most), 2)

    def axis(self) -> Html:
        marks = ticks(self.most, 4)
        return el(
            "g",
            [
                join(
                    el("line", x1=0, x2="100%", y1=self.y(mark), y2=self.y(mark)),
                    el("text", count(int(mark)), x="100%", y=self.y(mark) - 3, text_anchor="end"),
                )
                for mark in marks
            ],
            class_="grid",
        )

    def column(self, at: int, one: _Column) -> Html:
        x, width = f"{at * self.slot + self.slot * 0.15:.3f}%", f"{self.slot * 0.7:.3f}%"
        rects: list[Html] = []
        base = 0
        for kind, tokens in (
            ("read", one.read),
            ("written", one.written),
            ("uncached", one.uncached),
        ):
            if tokens:
                top = self.y(base + tokens)
                fill = "url(#written-hatch)" if kind == "written" else None
                rects.append(
                    el("rect", x=x, width=width, y=top, height=round(self.y(base) - top, 2),
                       class_=kind, fill=fill)
                )  # fmt: skip
            base += tokens
        return el("g", el("title", one.words), rects, self._expected(at, one), self._break(at, one))

    def _expected(self, at: int, one: _Column) -> Html | None:
        if one.how.expected is None:
            return None
        y = self.y(one.how.expected)
        x1, x2 = f"{at * self.slot:.3f}%", f"{(at + 1) * self.slot:.3f}%"
        return el("line", x1=x1, x2=x2, y1=y, y2=y, class_="expected")

    def _break(self, at: int, one: _Column) -> Html | None:
        if not one.how.broken:
            return None
        x = f"{(at + 0.5) * self.slot:.3f}%"
        return join(
            el("line", x1=x, x2=x, y1=_TOP - 6, y2=_TOP + _PLOT, class_="break"),
            el("text", "✗", x=x, y=_TOP - 9, text_anchor="middle", class_="break"),
        )

    def number(self, at: int, one: _Column, of: int) -> Html | None:
        every = next(step for step in (1, 2, 5, 10, 20, 50, 100) if of / step <= 14 or step == 100)
        if one.number % every and one.number != 1:
            return None
        x = f"{(at + 0.5) * self.slot:.3f}%"
        return el("text", one.number, x=x, y=_TOP + _PLOT + 15, text_anchor="middle")


def _cache_legend(shown: Sequence[_Column]) -> Html:
    items = [
        el("li", _swatch("read"), "read from the cache"),
        el("li", _swatch("written", "url(#written-hatch)"), "written to it"),
        el("li", _swatch("uncached"), "neither"),
    ]
    if any(one.how.expected is not None for one in shown):
        line = el("line", x1=0, x2=22, y1=10, y2=10, class_="expected")
        svg = el("svg", line, width=22, height=20, aria_hidden="true", class_="chart")
        items.append(el("li", svg, "reads that the provider's rules promise"))
    if any(one.how.broken for one in shown):
        items.append(el("li", el("span", "✗ ", class_="bad"), "the prefix was broken"))
    return el("ul", items, class_="legend")
