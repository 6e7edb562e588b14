"""Prints what a pause of the main conversation costs: never kept warm, always, by the runner, best.

    python benchmarks/keep_warm.py [--model NAME ...] [--context TOKENS ...] [--json]
    python benchmarks/keep_warm.py --served [--speed N] [--context TOKENS] [--json]

The first plays pauses against a cache that expires by the clock. The second really makes them:
whole runs of a workflow (a prompt, a command that takes so long, a prompt) and the vendor's own
client, against the server of the tests that counts cached tokens by the published rules, its clock
put forward or running faster. There the runner does not know the length in a workflow's first run,
and knows it from the journal in the second. A busy machine needs a lower speed: at 30, a keep-alive
that is two thirds of a second late misses the cache.

never     no request before the main agent is asked again
always    a keep-alive shortly before each expiry, for ever
known     the runner, which knows how long the pause is
unknown   the runner, which does not
best      the cheapest in hindsight: to expire, any number of keep-alives, each in the very last
          moment, or the longer retention from the start, with any number of its own

USD of the pause: keep-alives, reading or writing the conversation after it, and what a longer
retention made writing it dearer. The whole bill holds the first write, too. Exit code 1 when a goal
is missed: known within 1.1 of the best; unknown within 2, the pause of what it leaves open (what is
chosen when a conversation opens can no longer be chosen then), the whole bill of everything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import anyio

# The oracles are the tests' own; under pytest they are on the path already.
sys.path.append(str(Path(__file__).parent.parent / "tests"))

from cacheserver import HAND_PRICES, MILLION, caching
from chores import RUNNER, filler, keeps_alive
from pauses import MINUTE, MODELS, PAUSES, always, best, cache_of, never, play, runner
from provider import Answer, Tokens
from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.providers.anthropic import AnthropicProvider

from runner import Options
from runner.api import execute

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cacheserver import Bill
    from pauses import Bill as Paid
    from pauses import Hindsight
    from provider import Ask

    from runner.keepwarm import Cache

Way = Literal["never", "always", "known", "unknown"]
WAYS: tuple[Way, ...] = get_args(Way)
KNOWN_GOAL, UNKNOWN_GOAL = 1.1, 2.0
SERVED = "claude-opus-5-5"
READ_BYTES = 14_000
"""Of a file that the main agent reads in one call."""
FIXED_TOKENS = 2_500
"""Of the main agent's instructions and tools, about."""
MEASURES = {
    "the pause, to the best in hindsight": "ratio",
    "the pause, to the best of what it leaves open": "open_ratio",
    "the whole bill, to the best in hindsight": "whole_ratio",
}
MARGIN = 20
"""Seconds before an expiry at which somebody pings who always does."""


@dataclass(frozen=True, slots=True)
class Cost:
    """USD of one pause, and of the whole bill with it."""

    pause: Decimal
    whole: Decimal
    pings: int

    def over(self, other: Cost) -> tuple[float, float]:
        """Return how many times the other's pause and bill these are."""
        return float(self.pause / other.pause), float(self.whole / other.whole)


@dataclass(frozen=True, slots=True)
class Made:
    """One pause in one way, beside what would have been the best for one of its length."""

    cost: Cost
    best: Cost
    left_open: Cost
    """The best without what had to be chosen when the conversation opened."""

    @property
    def ratio(self) -> float:
        """Of the pause, to the best."""
        return self.cost.over(self.best)[0]

    @property
    def whole_ratio(self) -> float:
        """Of the whole bill, to the best."""
        return self.cost.over(self.best)[1]

    @property
    def open_ratio(self) -> float:
        """Of the pause, to the best of what it leaves open."""
        return self.cost.over(self.left_open)[0]


@dataclass(frozen=True, slots=True)
class Row:
    """One pause in all ways."""

    minutes: float
    ways: dict[Way, Made]

    def missed(self) -> list[str]:
        """Say which goals are missed."""
        known, unknown = self.ways["known"], self.ways["unknown"]
        found = {
            "known": known.ratio - KNOWN_GOAL,
            "unknown": unknown.open_ratio - UNKNOWN_GOAL,
            "unknown, whole bill": unknown.whole_ratio - UNKNOWN_GOAL,
        }
        return [f"{self.minutes:g} minutes, {name}: MISSED" for name, by in found.items() if by > 0]


def made(cache: Cache, seconds: float, cost: Cost) -> Made:
    """Put a cost beside the best ones."""

    def one(hindsight: Hindsight) -> Cost:
        bill = best(cache, seconds, hindsight)
        return Cost(bill.pause, bill.whole, bill.pings)

    return Made(cost, one("anything"), one("from the pause on"))


def simulated(name: str, tokens: int, minutes: float) -> Row:
    """Play one pause in all ways."""
    cache, seconds = cache_of(name, tokens), minutes * MINUTE
    bills: dict[Way, Paid] = {
        "never": play(cache, seconds, never),
        "always": play(cache, seconds, always(cache)),
        "known": runner(cache, seconds, known=True),
        "unknown": runner(cache, seconds, known=False),
    }
    ways: dict[Way, Made] = {
        way: made(cache, seconds, Cost(bill.pause, bill.whole, bill.pings))
        for way, bill in bills.items()
    }
    return Row(minutes, ways)


# Served: whole runs, and the vendor's own client


@dataclass(frozen=True, slots=True)
class Case:
    """One pause that is really made."""

    minutes: float
    tokens: int
    speed: int
    """Seconds on the server's clock in one real second, for the runner's runs."""


def served(case: Case) -> Row:
    """Make one pause in all ways."""
    return anyio.run(_served, case)


async def _served(case: Case) -> Row:
    ways: dict[Way, Made] = {
        "never": await _by_client(case, always=False),
        "always": await _by_client(case, always=True),
    }
    with tempfile.TemporaryDirectory(prefix="keep-warm-") as name:
        root = Path(name)
        _write(root, case)
        # What the second run knows it has from the first.
        ways["unknown"] = await _by_runner(root, case)
        ways["known"] = await _by_runner(root, case)
    return Row(case.minutes, {way: ways[way] for way in WAYS})


async def _by_client(case: Case, *, always: bool) -> Made:
    """Ask by pydantic-ai itself, the clock put forward in between."""
    with caching(lambda _: Answer("Yes.", tokens=Tokens(output=1))) as provider:
        own = AnthropicProvider(base_url=provider.url, api_key="none")
        model = AnthropicModel(SERVED, provider=own)
        said = [ModelRequest.user_text_prompt(filler(4 * case.tokens))]
        await model_request(model, said, model_settings={"cache": True})
        left, every = case.minutes * MINUTE, 5 * MINUTE - MARGIN
        while always and left > every:
            provider.skip(every)
            left -= every
            await model_request(model, said, model_settings={"cache": True, "max_tokens": 1})
        provider.skip(left)
        said.append(ModelRequest.user_text_prompt("Go on."))
        await model_request(model, said, model_settings={"cache": True})
        return _sum_up(provider.bills)


async def _by_runner(root: Path, case: Case) -> Made:
    """Run the workflow; what is known to it is what earlier runs of it took."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with caching(Main(_parts(case)), speed=case.speed) as provider:
        environ = {**kept, **provider.environ(), "SUBRUNNER_CONFIG": str(root / "config.yaml")}
        report = await execute(
            root / "pause.yaml",
            options=Options(state_dir=root / "state", allow_uncommitted=True),
            cwd=root / "repository",
            environ=environ,
        )
        report.raise_for_status()
        # Keep-alives are in the ledger, like all that the provider bills.
        assert report.cost_usd == provider.usd(), f"{report.cost_usd}, billed {provider.usd()}"
        return _sum_up(provider.bills[1:])


class Main:
    """The main agent: reads some files in its first turn, and ends all turns."""

    def __init__(self, files: Sequence[str]) -> None:
        self._files = [*files]

    def __call__(self, ask: Ask) -> Answer:
        """Answer one request."""
        if keeps_alive(ask):
            return Answer("o", tokens=Tokens(output=1))
        calls = tuple(map(RUNNER.read, self._files)) or RUNNER.end("This is done.")
        self._files.clear()
        return Answer("", calls, Tokens(output=20))


def _parts(case: Case) -> list[str]:
    """Name the files that fill the conversation."""
    bytes_of_files = 4 * max(0, case.tokens - FIXED_TOKENS)
    return [f"part_{number}.txt" for number in range(-(-bytes_of_files // READ_BYTES))]


def _write(root: Path, case: Case) -> None:
    """Write the repository, the workflow and the configuration."""
    home = root / "repository"
    home.mkdir()
    for name in _parts(case):
        (home / name).write_text(filler(READ_BYTES))
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    for line in (("init", "-q"), ("add", "-A"), (*identity, "commit", "-qm", "start")):
        subprocess.run(["git", *line], cwd=home, check=True)
    workflow = {
        "name": "pause",
        "models": {"main": f"anthropic:{SERVED}"},
        "budget": {"usd": 1000, "time": "3h"},
        "steps": [
            {"id": "open", "prompt": "Read all files."},
            {"id": "wait", "run": f"sleep {case.minutes * MINUTE / case.speed:.3f}"},
            {"id": "next", "prompt": "Go on."},
        ],
    }
    (root / "pause.yaml").write_text(json.dumps(workflow))
    times = {"retention": 5 * MINUTE / case.speed, "longer": 60 * MINUTE / case.speed}
    (root / "config.yaml").write_text(json.dumps({"caches": {"anthropic:*": times}}))


def _sum_up(bills: Sequence[Bill]) -> Made:
    """Sum up what the server billed for the prefix that was there when the pause began.

    Args:
        bills: From the last request before the pause to the first one after it.
    """
    before, *pings, after = bills
    tokens = before.tokens.input
    _, read, write, write_1h, _ = HAND_PRICES[SERVED]
    paid = write_1h if before.tokens.cache_write_1h else write
    again = read if after.tokens.cache_read >= tokens else paid
    pinged = sum((ping.usd() for ping in pings), Decimal(0))
    opening = paid * tokens / MILLION
    whole = opening + pinged + again * tokens / MILLION
    cost = Cost(whole - write * tokens / MILLION, whole, len(pings))
    return made(cache_of(SERVED, tokens), after.at - before.at, cost)


# What is printed


def table(rows: Iterable[Row]) -> str:
    """Return the pauses as Markdown."""
    head = ["minutes", *WAYS, "best", *(f"{way} / best" for way in WAYS), "pings of the runner"]
    lines = [head, ["---:"] * len(head)]
    for row in rows:
        ways = [row.ways[way] for way in WAYS]
        pings = f"{row.ways['known'].cost.pings}, {row.ways['unknown'].cost.pings}"
        lines.append(
            [f"{row.minutes:g}"]
            + [
                f"{cost.pause:.4f}"
                for cost in (*(one.cost for one in ways), row.ways["known"].best)
            ]
            + [f"{one.ratio:.2f}" for one in ways]
            + [pings]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def worst(rows: Sequence[Row]) -> str:
    """Return the worst ratios of some pauses, by what they are compared with."""
    lines = [["", *WAYS], ["---", *["---:"] * len(WAYS)]]
    for name, attribute in MEASURES.items():
        found = [max(getattr(row.ways[way], attribute) for row in rows) for way in WAYS]
        lines.append([name, *(f"{ratio:.2f}" for ratio in found)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def as_json(name: str, tokens: int, rows: Iterable[Row]) -> list[dict[str, object]]:
    """Return the pauses as plain values."""
    return [
        {
            "model": name,
            "context": tokens,
            "minutes": row.minutes,
            "ways": {
                way: {
                    "usd": float(one.cost.pause),
                    "whole_usd": float(one.cost.whole),
                    "pings": one.cost.pings,
                    "best_usd": float(one.best.pause),
                    **{key: round(getattr(one, key), 3) for key in MEASURES.values()},
                }
                for way, one in row.ways.items()
            },
        }
        for row in rows
    ]


def measure_served(asked: argparse.Namespace) -> list[Row]:
    """Make all pauses at once: they mostly wait."""
    context = (asked.context or [20_000])[0]
    cases = [Case(minutes, context, asked.speed) for minutes in asked.minutes]
    with ProcessPoolExecutor(len(cases), get_context("spawn")) as pool:
        return list(pool.map(served, cases))


def main() -> int:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--served", action="store_true", help="really make the pauses")
    parser.add_argument("--speed", type=int, default=30, help="of the server's clock (default: 30)")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--context", nargs="+", type=int, help="tokens of the main conversation")
    parser.add_argument("--minutes", nargs="+", type=float, default=list(PAUSES))
    parser.add_argument("--json", action="store_true", help="all that was measured")
    asked = parser.parse_args()
    told: list[dict[str, object]] = []
    missed: list[str] = []
    models = [SERVED] if asked.served else asked.model
    for name in models:
        for tokens in asked.context or [20_000 if asked.served else 100_000]:
            shown = (
                measure_served(asked)
                if asked.served
                else [simulated(name, tokens, minutes) for minutes in asked.minutes]
            )
            every = shown if asked.served else [simulated(name, tokens, m) for m in range(1, 121)]
            missed += [
                f"{name}, {tokens:,} tokens: {miss}" for row in every for miss in row.missed()
            ]
            told += as_json(name, tokens, shown)
            if not asked.json:
                print(f"\n{name}, {tokens:,} tokens; USD of the pause\n\n{table(shown)}")
                which = "these pauses" if asked.served else "every minute from 1 to 120"
                print(f"\nAt worst, over {which}:\n\n{worst(every)}", flush=True)
    if asked.json:
        print(json.dumps(told, indent=1))
    print(*missed, sep="\n", end="\n" if missed else "", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
