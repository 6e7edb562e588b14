"""Prints what the same mechanical work costs when it is done in three ways.

    python benchmarks/three_ways.py [--quick] [--json] [--pair anthropic|openai] [--steps 1 3 10]

The work (checks in a scratch repository, and small edits where they fail) is really done each time,
through the vendors' own clients, against the tests' server that counts cached tokens by the rules
that providers publish. Its bills, times prices typed in by hand, are what is shown. The models are
scripted: this measures what their requests cost, not how able they are.

    inline   all in the main conversation, one call of `bash` for each step
    at once  the same with all checks in one call, and as many reads and edits as there are at once
    switch   the conversation is switched to the cheap model for the work, and back
    runner   this program: the work is the steps of a workflow

Steps all pass, or all fail at first; of these some are hard: beyond the cheap model.

`switch 1h` asks for the longer retention of an hour, `runner off` has `keep_warm: off`; both are
shown where the work is so slow that main's cache would expire.

Costs are USD after the opening turn, which fills the main conversation and is equal in all, and
with one turn of main after the work, so that a lost cache shows; `alone` is that turn without any
work. Exit code 1 when two ways leave different trees, a check fails at the end, or the runner's
ledger is not what was billed.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import anyio
from ways import PAIRS, SPEED, Bench, Case, Chores

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

    from ways import Spent, Way

WAYS: tuple[Way, ...] = ("inline", "at once", "switch", "runner")
SLOW_WAYS: tuple[Way, ...] = ("inline", "switch", "switch 1h", "runner off", "runner")
SLOW_SECONDS = 480
"""Of all checks of a slow work together: longer than Anthropic keeps a cache by default."""


@dataclass(frozen=True, slots=True)
class Row:
    """The same work, done in each way."""

    case: Case
    alone: Decimal
    """USD of the turns after the work, without any work."""
    spent: Mapping[Way, Spent]

    def saved(self, way: Way) -> float:
        """How much less the runner costs than another way, in percent of that."""
        return float(100 * (1 - self.spent["runner"].usd / self.spent[way].usd))

    def faults(self) -> Iterator[str]:
        """Say what must not be, whatever it costs."""
        where = f"{work_of(self.case)}, {self.case.chores.steps} steps"
        for way, one in self.spent.items():
            if one.tree != self.spent["inline"].tree:
                yield f"{where}, {way}: leaves another tree"
            if one.failing:
                yield f"{where}, {way}: {', '.join(one.failing)} still fails"
            if one.ledger_usd not in (None, one.bills_usd):
                yield f"{where}, {way}: says {one.ledger_usd}, is billed {one.bills_usd}"

    def json(self) -> dict[str, object]:
        """Return all that was measured."""
        ways = {
            way: {
                "usd": float(one.usd),
                "opening_usd": float(one.opening_usd),
                "main_requests": one.main,
                "cheap_requests": one.cheap,
                "tokens": one.tokens,
                "tree": one.tree,
            }
            for way, one in self.spent.items()
        }
        saved = {way: round(self.saved(way), 1) for way in self.spent if way != "runner"}
        return {
            "pair": asdict(self.case.pair),
            "work": work_of(self.case),
            "slow": self.case.slow,
            **asdict(self.case.chores),
            "alone_usd": float(self.alone),
            "ways": ways,
            "runner_saves_percent": saved,
        }


def work_of(case: Case) -> str:
    """Name the kind of work."""
    if not case.chores.failing:
        return "all pass"
    return f"all fail, {case.chores.hard} hard" if case.chores.hard else "all fail"


def cases(asked: argparse.Namespace, *, slow: bool) -> Iterator[Case]:
    """Return what is compared, in the order of the table."""
    pairs = [PAIRS[name] for name in asked.pair if name == "anthropic" or not slow]
    sizes = Chores(steps=0, output=asked.output, result=asked.result, later=asked.later)
    mended = replace(sizes, failing=True)
    hard = [replace(mended, hard=count) for count in asked.hard]
    kinds = [sizes, *hard] if asked.quick else [sizes, mended, *hard]
    for pair in pairs:
        # Slow work is shown where it passes: pings are in time there, on a busy machine too.
        for kind in kinds[:1] if slow else kinds:
            for context in asked.context:
                for steps in asked.steps[-1:] if slow else asked.steps:
                    if kind.hard > steps:
                        continue
                    pause = SLOW_SECONDS / steps / SPEED if slow else 0.0
                    chores = replace(kind, steps=steps, context=context, pause=pause)
                    yield Case(pair, chores, slow)


async def measure(bench: Bench, case: Case, ways: Sequence[Way]) -> Row:
    """Do the work in each way."""
    spent: dict[Way, Spent] = {way: await bench.spend(case, way) for way in ways}
    return Row(case, await bench.alone(case), spent)


def head(case: Case, ways: Sequence[Way]) -> str:
    """Return the beginning of a table as Markdown, under the names of its models."""
    pace = f"; the checks take {SLOW_SECONDS // 60} minutes together" if case.slow else ""
    names = ["work", "context", "steps", "alone", *ways, *(f"of {way}" for way in ways[:-1])]
    title = f"\n{case.pair.main} and {case.pair.cheap}{pace}\n"
    return f"{title}\n{_line(names)}\n{_line(['---', *['---:'] * (len(names) - 1)])}"


def line(row: Row) -> str:
    """Return one line of a table: what each way costs, and how much of it the runner saves."""
    chores, (*others, _) = row.case.chores, row.spent
    return _line(
        [
            work_of(row.case),
            f"{chores.context:,}",
            str(chores.steps),
            *(f"{cost:.4f}" for cost in (row.alone, *(one.usd for one in row.spent.values()))),
            *(f"{row.saved(way):.0f} %" for way in others),
        ]
    )


def _line(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |"


def show(asked: argparse.Namespace, text: str) -> None:
    """Print for people, as soon as it is known."""
    if not asked.json:
        print(text, flush=True)


async def run(asked: argparse.Namespace) -> int:
    """Measure and print all that was asked for."""
    bench, rows = Bench(), list[Row]()
    for slow, ways in ((False, WAYS), (True, SLOW_WAYS)):
        last = ""
        for case in () if slow and asked.quick else cases(asked, slow=slow):
            if case.pair.vendor != last:
                show(asked, head(case, ways))
            last = case.pair.vendor
            rows.append(await measure(bench, case, ways))
            show(asked, line(rows[-1]))
    if asked.json:
        print(json.dumps([row.json() for row in rows], indent=1))
    faults = [fault for row in rows for fault in row.faults()]
    print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr)
    return 1 if faults else 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="two small lines")
    parser.add_argument("--json", action="store_true", help="all that was measured")
    parser.add_argument("--pair", nargs="+", choices=PAIRS, default=list(PAIRS))
    parser.add_argument("--context", nargs="+", type=int, default=[10_000, 50_000, 150_000])
    parser.add_argument("--steps", nargs="+", type=int, default=[1, 3, 10])
    parser.add_argument("--hard", nargs="+", type=int, default=[1, 3], help="mended by main alone")
    parser.add_argument("--output", type=int, default=150, help="tokens of each answer")
    parser.add_argument("--result", type=int, default=600, help="tokens that a check prints")
    parser.add_argument("--later", type=int, default=1, help="turns of main after the work")
    asked = parser.parse_args()
    if asked.quick:
        asked.pair, asked.context = ["anthropic"], [6_000]
        asked.steps, asked.hard = [2], [1]
    return anyio.run(run, asked)


if __name__ == "__main__":
    sys.exit(main())
