"""Draws whom `expected-cost` asks first, over a grid of failures: docs/policy.svg.

    python benchmarks/policy_grid.py [FILE]

Each cell is one failure that the policy itself decided: by the context of the main conversation,
how often the subagent fails, the turns that the work takes, what became of main's cache, and the
prices of a pair of models. The cost of a rung is what the cost model says of that many turns; time
is priced as by default. Prices typed in from the vendors' lists of 2026-11-21.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING

from runner.economics import Helper, Rates, Work, helped, inline
from runner.expected import expected_cost
from runner.history import SHIPPED, Odds
from runner.outcome import Failure, Fingerprint, Phase
from runner.outlook import (
    CHEAP_SECONDS,
    FAILED_TOKENS,
    FIXED_TOKENS,
    LATER,
    MAIN_SECONDS,
    PACKET_TOKENS,
    TURNS,
)
from runner.plan import Escalate, Fix
from runner.policy import AskSubagent, Outlook, Situation

if TYPE_CHECKING:
    from collections.abc import Iterator

MILLION = Decimal(1_000_000)
FILE = Path(__file__).parent.parent / "docs/policy.svg"


def rates(text: str) -> Rates:
    """Read prices per million tokens: input, cache read, cache write, output."""
    return Rates(*(Decimal(usd) / MILLION for usd in text.split()))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models' prices."""

    main: str
    subagent: str
    rates: Rates
    hour: Decimal
    """USD for a token that main's cache keeps for an hour; the plain write where there is none."""
    cheap: Rates
    slower: int = 1
    """How many times as long a subagent's turn takes."""


OPUS, SOL = rates("4 0.20 5 20"), rates("2 0.10 2.5 10")
PAIRS = (
    Pair("Opus 5.5", "Haiku 5.5", OPUS, 8 / MILLION, rates("0.10 0.01 0.125 0.50")),
    Pair("GPT-6.1 Sol", "GPT-6 Luna", SOL, SOL.write, rates("0.10 0.01 0.125 0.50")),
    Pair("Opus 5.5", "Sonnet 5.5", OPUS, 8 / MILLION, rates("2 0.10 2.5 10")),
    Pair("Opus 5.5", "local, free, slow", OPUS, 8 / MILLION, rates("0 0 0 0"), 3),
)
WORK = (2, 6, 16)
"""Turns that the work takes main."""
COLUMNS, ROWS = 22, 20
SMALLEST, LARGEST = 5_000, 200_000
CACHES = ("warm", "gone", "gone, kept for an hour")
VALUE_OF_TIME = Decimal("3.00")
FAILURE = Failure(
    Fingerprint("x", Phase.RUN, frozenset("a")), 1, timed_out=False, tail="", files=()
)


def asks_subagent(pair: Pair, turns: int, context: int, fails: float, cache: str) -> bool:
    """Let the policy decide one failure."""
    work = Work(context=context + PACKET_TOKENS, turns=turns, later=LATER)
    later = pair.rates.write + LATER * pair.rates.read
    main = inline(pair.rates, work) + later * PACKET_TOKENS
    if cache != "warm":
        write = pair.hour if cache != "gone" else pair.rates.write
        main += (write - pair.rates.read) * context
    mends = 1.0 - fails
    outlook = Outlook(
        kind="test",
        odds=Odds(mends, fails, mends, mends, mends, 0.0),
        cheap_usd=helped(pair.cheap, Work(context=0, turns=turns), Helper(fixed=FIXED_TOKENS)),
        cheap_seconds=CHEAP_SECONDS / TURNS * turns * pair.slower,
        main_usd=main,
        main_seconds=MAIN_SECONDS / TURNS * turns,
        report_usd=later * FAILED_TOKENS,
        context=context,
        cold=cache != "warm",
        left_usd=None,
        value_of_time=VALUE_OF_TIME,
        irreversible=False,
    )
    now = Situation(
        "test",
        FAILURE,
        fix=Fix("fixer"),
        escalate=Escalate(),
        subagent=True,
        main=True,
        attempts=(),
        out_of_scope=False,
        outlook=outlook,
    )
    return isinstance(expected_cost(now), AskSubagent)


def level(pair: Pair, turns: int, context: int, fails: float) -> int:
    """Tell in how many of the cache's states the subagent is asked first."""
    return sum(asks_subagent(pair, turns, context, fails, cache) for cache in CACHES)


# -- the picture --------------------------------------------------------------------------------

WIDTH, HEIGHT = 1_000, 780
LEFT, TOP = 92, 150
CELL_X, CELL_Y = 9, 8
ACROSS, DOWN = COLUMNS * CELL_X, ROWS * CELL_Y
STEP_X, STEP_Y = ACROSS + 24, DOWN + 26
COLOURS = ("#d9772b", "#f3d7b3", "#a9cce3", "#2471a3")
"""By level; told apart by the colour-blind, too: they differ in lightness on either side."""
LEGEND = (
    (3, "subagent first, whatever became of main's cache"),
    (2, "subagent first once main's cache is gone; main while it is warm"),
    (1, "subagent first only where an hour's cache is gone"),
    (0, "main at once, whatever became of its cache"),
)


def svg() -> str:
    """Return the picture."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
            f' width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12"'
            ' role="img" aria-labelledby="title">',
            '<title id="title">Whom expected-cost asks first, by the size of the main'
            " conversation and how often the subagent fails</title>",
            # A ground of its own: the page behind may be light or dark.
            f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="#ffffff"/>',
            '<g fill="#1c2833">',
            *_head(),
            *_panels(),
            *_axes(),
            "</g>",
            "</svg>\n",
        ]
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}"{more}>{text}</text>'


def _head() -> Iterator[str]:
    yield _text(LEFT, 34, "Whom a failure goes to first", ' font-size="19" font-weight="bold"')
    for index, (found, words) in enumerate(LEGEND):
        x, y = LEFT + 480 * (index // 2), 54 + 22 * (index % 2)
        yield f'<rect x="{x}" y="{y}" width="18" height="14" fill="{COLOURS[found]}"/>'
        yield _text(x + 26, y + 12, words)


def _panels() -> Iterator[str]:
    for column, pair in enumerate(PAIRS):
        x = LEFT + column * STEP_X
        yield _text(x, TOP - 26, f"main: {pair.main}", ' font-weight="bold"')
        yield _text(x, TOP - 10, f"subagent: {pair.subagent}", ' font-weight="bold"')
        for row, turns in enumerate(WORK):
            yield from _panel(pair, turns, x, TOP + row * STEP_Y)


def _panel(pair: Pair, turns: int, left: int, top: int) -> Iterator[str]:
    """Draw one grid; cells of a row that are alike are one rectangle."""
    for row in range(ROWS):
        fails = 1.0 - (row + 0.5) / ROWS
        levels = [level(pair, turns, context_of(column), fails) for column in range(COLUMNS)]
        x, y = left, top + row * CELL_Y
        for found, run in groupby(levels):
            width = CELL_X * len(list(run))
            yield (
                f'<rect x="{x}" y="{y}" width="{width}" height="{CELL_Y}" fill="{COLOURS[found]}"/>'
            )
            x += width
    guess = top + DOWN * SHIPPED["test"]
    yield (
        f'<path d="M{left} {guess:g}h{ACROSS}" stroke="#1c2833" stroke-dasharray="4 3"'
        ' stroke-opacity="0.65"/>'
    )
    yield (
        f'<rect x="{left}" y="{top}" width="{ACROSS}" height="{DOWN}" fill="none"'
        ' stroke="#5d6d7e"/>'
    )


def context_of(column: int) -> int:
    """Return the tokens of the main conversation in the middle of a column."""
    share = (column + 0.5) / COLUMNS
    return round(SMALLEST * (LARGEST / SMALLEST) ** share)


def _axes() -> Iterator[str]:
    bottom = TOP + (len(WORK) - 1) * STEP_Y + DOWN
    for column in range(len(PAIRS)):
        for tokens in (10_000, 50_000, 200_000):
            share = log10(tokens / SMALLEST) / log10(LARGEST / SMALLEST)
            x = LEFT + column * STEP_X + ACROSS * share
            yield f'<path d="M{x:.1f} {bottom}v5" stroke="#5d6d7e"/>'
            yield _text(round(x, 1), bottom + 19, f"{tokens // 1000}k", ' text-anchor="middle"')
    for row, turns in enumerate(WORK):
        top = TOP + row * STEP_Y
        for percent in (0, 50, 100):
            y = top + DOWN * (1 - percent / 100)
            yield _text(LEFT - 8, y + 4, f"{percent} %", ' text-anchor="end"')
        middle = top + DOWN / 2
        yield _text(
            22,
            middle,
            f"{turns} turns of work",
            f' text-anchor="middle" font-weight="bold" transform="rotate(-90 22 {middle:g})"',
        )
        yield _text(
            42,
            middle,
            "subagent fails",
            f' text-anchor="middle" transform="rotate(-90 42 {middle:g})"',
        )
    middle = LEFT + (len(PAIRS) - 1) * STEP_X / 2 + ACROSS / 2
    yield _text(middle, bottom + 40, "tokens in the main conversation", ' text-anchor="middle"')
    yield _text(
        LEFT,
        bottom + 66,
        f"Each cell is a choice of the policy. Minutes at {VALUE_OF_TIME} USD an hour; prices of"
        f" 2026-11-21; the local model takes {PAIRS[-1].slower} times as long for a turn.",
    )
    yield _text(
        LEFT,
        bottom + 84,
        "Dashed: the shipped guess for tests. Before anything was seen of a model, it is asked"
        " first everywhere.",
    )


def main() -> int:
    """Write the picture."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_text(svg())
    print(f"written: {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
