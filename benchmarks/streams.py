"""Prints what each policy costs on streams of simulated failures, beside one that knows the odds.

    python benchmarks/streams.py [--seeds N] [--failures N] [--value-of-time USD] ...

A stream is one repository's failures, one a run: of three kinds, each given to a subagent on one of
two models, Haiku 5.5 or Sonnet 5.5, with Opus 5.5 as main; contexts, turns and expired caches vary.
Policies, history, odds and outlook are the runner's own, fed by what each policy itself got to see;
the outcome of a subagent on a failure is the same for all. Worlds differ in how often subagents
really mend:

as guessed  as the shipped guess says, for ever: nothing is to be learnt
worse       a quarter as often, for ever
drifting    anywhere around the guess at first, and wandering from there

expected-cost, ladder, main   the policies of these names
cheap       never asks main: what its subagents cannot mend stays broken, and costs nothing more
oracle      expected-cost told the true chance and mean costs in place of estimates

USD and minutes are of whole streams, mean and standard deviation over the seeds; `priced` is USD
with the minutes at the value of time. The last column is what expected-cost spends less, priced,
with its 95 % interval over seeds. Prices typed in from the vendors' lists of 2026-11-21.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import cache
from math import exp, log, sqrt
from random import Random
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal

from runner.economics import Helper, Rates, Work, helped, inline
from runner.events import AttemptFinished, Decided
from runner.expected import POLICIES, expected_cost
from runner.history import SHIPPED, Odds, tried_of
from runner.outcome import Attempt, Failure, Fingerprint, Phase, Rung, Verdict
from runner.outlook import FAILED_TOKENS, FIXED_TOKENS, LATER, PACKET_TOKENS, Known, outlook_of
from runner.plan import Escalate, Fix
from runner.policy import AskMain, GiveUp, Outlook, Situation
from runner.price import ClassPrices

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.events import Event
    from runner.history import Tried

MILLION = Decimal(1_000_000)
KINDS = ("lint", "type", "test")
MAIN, HAIKU, SONNET = "opus-5-5", "haiku-5-5", "sonnet-5-5"
SUBAGENTS = (HAIKU, SONNET)
PRICES = {
    # Input, cache read, cache write, the same for an hour, output.
    MAIN: ("4", "0.20", "5", "8", "20"),
    SONNET: ("2", "0.10", "2.5", "4", "10"),
    HAIKU: ("0.10", "0.01", "0.125", "0.20", "0.50"),
}
CLASSES = {
    model: ClassPrices(*(Decimal(usd) / MILLION for usd in row)) for model, row in PRICES.items()
}
RATES = {model: Rates(one.input, one.read, one.write, one.output) for model, one in CLASSES.items()}
MAIN_MENDS = 0.95
TURNS = range(2, 7)
World = Literal["as guessed", "worse", "drifting"]
WORLDS: tuple[World, ...] = ("as guessed", "worse", "drifting")
SPREAD, DRIFT = 1.5, 0.12
"""Of the log-odds in the drifting world: at first, and with each failure of the stream."""
NAMES = (*POLICIES, "oracle")
LEARNT = "expected-cost"
HEAD = (
    f"{'policy':<14}  {'USD':>16}  {'minutes':>14}  {'priced':>16}  {'unmended':>9}"
    f"  {'expected-cost spends less':>25}"
)
SEEDS, FAILURES, VALUE_OF_TIME = 200, 60, Decimal("3.00")
STEP, CHEAP = "test", "cheap"
FAILURE = Failure(
    Fingerprint("x", Phase.RUN, frozenset("a")), 1, timed_out=False, tail="", files=()
)


@dataclass(frozen=True, slots=True)
class Failed:
    """One failure as it truly is: what each rung makes of it, and at what price."""

    kind: str
    model: str
    chance: float
    """That the subagent mends it."""
    context: int
    cold: bool
    subagent: tuple[Attempt, ...]
    """One after the other, for as long as it is asked."""
    main: tuple[Attempt, ...]
    report_usd: Decimal


@dataclass(slots=True)
class Bill:
    """What one policy came to on one stream."""

    usd: Decimal = Decimal(0)
    seconds: float = 0.0
    unmended: int = 0

    def priced(self, value_of_time: Decimal) -> float:
        """Return USD, minutes priced."""
        return float(self.usd) + float(value_of_time) * self.seconds / 3_600


def stream(world: World, seed: int, failures: int) -> list[Failed]:
    """Draw the failures of one repository."""
    random = Random(f"{world} {seed}")  # noqa: S311  a simulation
    odds = {(kind, model): _first(world, kind, random) for kind in KINDS for model in SUBAGENTS}
    context = round(exp(random.uniform(log(10_000), log(150_000))))
    found: list[Failed] = []
    for _ in range(failures):
        if world == "drifting":
            odds = {arm: _bounded(one + random.gauss(0.0, DRIFT)) for arm, one in odds.items()}
        kind, model = random.choice(KINDS), random.choice(SUBAGENTS)
        found.append(_failed(kind, model, 1 / (1 + exp(-odds[kind, model])), context, random))
    return found


def _first(world: World, kind: str, random: Random) -> float:
    guess = SHIPPED[kind] * (0.25 if world == "worse" else 1.0)
    spread = random.gauss(0.0, SPREAD) if world == "drifting" else 0.0
    return log(guess / (1 - guess)) + spread


def _bounded(odds: float) -> float:
    return max(-4.0, min(4.0, odds))


def _failed(kind: str, model: str, chance: float, context: int, random: Random) -> Failed:
    turns, cold = random.choice(TURNS), random.random() < 0.3
    mends, twice = random.random() < chance, random.random() < 0.5
    ends = [Verdict.PASSED if mends else Verdict.HARD]
    verdicts = [Verdict.SOFT, *ends] if twice and random.random() < 0.6 else ends
    one = _subagent(model, turns)
    subagent = [
        _attempt(Rung.SUBAGENT, verdict, model, one, 12 + 5 * turns, random) for verdict in verdicts
    ]
    packet, main = _packet(context, turns, cold), list[Attempt]()
    while not main or (main[-1].verdict is Verdict.HARD and len(main) < 2):
        verdict = Verdict.PASSED if random.random() < MAIN_MENDS else Verdict.HARD
        main.append(_attempt(Rung.MAIN, verdict, MAIN, packet, 15 + 10 * turns, random))
    report = _later(FAILED_TOKENS)
    return Failed(kind, model, chance, context, cold, tuple(subagent), tuple(main), report)


def _subagent(model: str, turns: int) -> Decimal:
    return helped(RATES[model], Work(context=0, turns=turns), Helper(fixed=FIXED_TOKENS))


def _packet(context: int, turns: int, cold: bool) -> Decimal:  # noqa: FBT001  one of three facts
    work = Work(context=context + PACKET_TOKENS, turns=turns, later=LATER)
    usd = inline(RATES[MAIN], work) + _later(PACKET_TOKENS)
    return usd + (RATES[MAIN].write - RATES[MAIN].read) * context if cold else usd


def _later(tokens: int) -> Decimal:
    return (RATES[MAIN].write + LATER * RATES[MAIN].read) * tokens


def _attempt(
    rung: Rung, verdict: Verdict, model: str, usd: Decimal, seconds: float, random: Random
) -> Attempt:
    """Draw one attempt around what the cost model says: with a sigma of 30 %, its mean kept."""
    dearer, slower = (exp(random.gauss(-0.045, 0.3)) for _ in range(2))
    cost = usd * Decimal(f"{dearer:.6f}")
    role = CHEAP if rung is Rung.SUBAGENT else "main"
    return Attempt(1, rung, model, verdict, "", 0, cost, seconds * slower, role=role)


# -- policies -----------------------------------------------------------------------------------


def play(failures: Iterable[Failed], name: str, value_of_time: Decimal) -> Bill:
    """Let one policy go through a stream."""
    bill = Bill()
    past: list[Tried] = []
    for number, failed in enumerate(failures):
        outlook = None
        if name == LEARNT:
            outlook = _outlook(failed, past, value_of_time)
        elif name == "oracle":
            outlook = _truth(failed, value_of_time)
        attempts = _climb(failed, name, outlook)
        _pay(bill, failed, attempts)
        if name == LEARNT:
            past += tried_of(_events(failed, attempts, number), repo="here", run=str(number))
    return bill


def explained(failed: Failed, past: Sequence[Tried], value_of_time: Decimal) -> Mapping[str, Any]:
    """Return the facts of the policy's first decision, as `runner explain` prints them."""
    return expected_cost(_situation(_outlook(failed, past, value_of_time))).facts


def _climb(failed: Failed, name: str, outlook: Outlook | None) -> tuple[Attempt, ...]:
    policy, now = POLICIES.get(name, expected_cost), _situation(outlook)
    while not (now.attempts and now.attempts[-1].verdict is Verdict.PASSED):
        move = policy(now)
        if isinstance(move, GiveUp):
            break
        rung = Rung.MAIN if isinstance(move, AskMain) else Rung.SUBAGENT
        so_far = sum(one.rung is rung for one in now.attempts)
        script = failed.main if rung is Rung.MAIN else failed.subagent
        now = replace(now, attempts=(*now.attempts, script[so_far]))
    return now.attempts


def _situation(outlook: Outlook | None) -> Situation:
    return Situation(
        STEP,
        FAILURE,
        fix=Fix("fixer"),
        escalate=Escalate(2),
        subagent=True,
        main=True,
        attempts=(),
        out_of_scope=False,
        outlook=outlook,
    )


def _pay(bill: Bill, failed: Failed, attempts: Sequence[Attempt]) -> None:
    for attempt in attempts:
        bill.usd += attempt.cost_usd or 0
        bill.seconds += attempt.seconds
    if len({one.rung for one in attempts}) > 1:
        bill.usd += failed.report_usd
    bill.unmended += attempts[-1].verdict is not Verdict.PASSED


def _events(failed: Failed, attempts: Sequence[Attempt], number: int) -> list[tuple[float, Event]]:
    at = float(number)
    ended = [(at, AttemptFinished(STEP, attempt)) for attempt in attempts]
    return [(at, Decided(STEP, "", "", {"kind": failed.kind})), *ended]


def _outlook(failed: Failed, past: Sequence[Tried], value_of_time: Decimal) -> Outlook:
    """Look ahead as the engine does: by history, prices and cache."""
    return outlook_of(
        Known(
            kind=failed.kind,
            repo="here",
            past=past,
            roles={CHEAP: failed.model},
            main=MAIN,
            prices=CLASSES,
            context=failed.context,
            cold=failed.cold,
            left_usd=None,
            value_of_time=value_of_time,
            irreversible=False,
        )
    )


def _truth(failed: Failed, value_of_time: Decimal) -> Outlook:
    """Look ahead as who knows all but the dice: the true chance, mean costs."""
    attempts, packets = Decimal("1.3"), Decimal(2) - Decimal(str(MAIN_MENDS))
    turns = fmean(TURNS)
    return Outlook(
        kind=failed.kind,
        odds=Odds(1.0, 1.0, failed.chance, failed.chance, failed.chance, 0.0),
        cheap_usd=_mean_subagent(failed.model) * attempts,
        cheap_seconds=(12 + 5 * turns) * float(attempts),
        main_usd=_mean_packet(failed.context, failed.cold) * packets,
        main_seconds=(15 + 10 * turns) * float(packets),
        report_usd=failed.report_usd,
        context=failed.context,
        cold=failed.cold,
        left_usd=None,
        value_of_time=value_of_time,
        irreversible=False,
    )


@cache
def _mean_subagent(model: str) -> Decimal:
    return sum((_subagent(model, turns) for turns in TURNS), Decimal(0)) / len(TURNS)


@cache
def _mean_packet(context: int, cold: bool) -> Decimal:  # noqa: FBT001  as `_packet`
    return sum((_packet(context, turns, cold) for turns in TURNS), Decimal(0)) / len(TURNS)


# -- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One policy in one world; means, with the standard deviation over seeds."""

    policy: str
    usd: tuple[float, float]
    minutes: tuple[float, float]
    priced: tuple[float, float]
    unmended: float
    gain: tuple[float, float]
    """What expected-cost spends less, priced, on the same stream; half its 95 % interval."""

    def __str__(self) -> str:
        cells = [f"{self.policy:<14}", f"{self.unmended:>9.1f}"]
        pairs = [f"{mean:>8.2f} ±{spread:>6.2f}" for mean, spread in (self.usd, self.priced)]
        cells[1:1] = [pairs[0], f"{self.minutes[0]:>7.1f} ±{self.minutes[1]:>5.1f}", pairs[1]]
        if self.policy not in (LEARNT, "cheap"):
            mean, half = self.gain
            cells.append(f"{mean:>+8.2f} ({mean - half:+.2f} to {mean + half:+.2f})")
        return "  ".join(cells)


def rows_of(bills: dict[str, list[Bill]], value_of_time: Decimal) -> list[Row]:
    """Sum up the seeds of one world."""
    priced = {name: [bill.priced(value_of_time) for bill in bills[name]] for name in bills}
    return [
        Row(
            policy=name,
            usd=_spread([float(bill.usd) for bill in bills[name]]),
            minutes=_spread([bill.seconds / 60 for bill in bills[name]]),
            priced=_spread(priced[name]),
            unmended=fmean(bill.unmended for bill in bills[name]),
            gain=_interval([b - a for a, b in zip(priced[LEARNT], priced[name], strict=True)]),
        )
        for name in bills
    ]


def _spread(values: Sequence[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else 0.0


def _interval(values: Sequence[float]) -> tuple[float, float]:
    mean, spread = _spread(values)
    return mean, 1.96 * spread / sqrt(len(values))


def verdict(rows: Sequence[Row]) -> str:
    """Say what learning gained over the ladder, which learns nothing."""
    ladder = next(row for row in rows if row.policy == "ladder")
    oracle = next(row for row in rows if row.policy == "oracle")
    mean, half = ladder.gain
    share = f"{abs(mean) / ladder.priced[0]:.1%}"
    room = f"all that could be known is worth {1 - oracle.priced[0] / ladder.priced[0]:.1%}"
    if mean - half > 0:
        return f"Learning spends {share} less than ladder; {room}."
    if mean + half < 0:
        return f"Learning gains nothing here: {share} dearer than ladder; {room}."
    return f"Learning gains nothing here: no difference to ladder beyond chance; {room}."


def played(world: World, seeds: int, failures: int, value_of_time: Decimal) -> list[Row]:
    """Let all policies go through all streams of a world."""
    bills: dict[str, list[Bill]] = {name: [] for name in NAMES}
    for seed in range(seeds):
        drawn = stream(world, seed, failures)
        for name in NAMES:
            bills[name].append(play(drawn, name, value_of_time))
    return rows_of(bills, value_of_time)


def markdown(world: World, rows: Sequence[Row]) -> str:
    """Return the lines of docs/policy.md for a world."""
    cells = {
        f"**{world}**, USD": [f"{row.usd[0]:.2f}" for row in rows],
        "minutes": [f"{row.minutes[0]:.0f}" for row in rows],
        "priced": [f"{row.priced[0]:.2f} ± {row.priced[1]:.2f}" for row in rows],
        "left broken": [f"{row.unmended:.1f}" for row in rows],
    }
    return "\n".join(f"| {name} | {' | '.join(values)} |" for name, values in cells.items())


def main() -> int:
    """Print a table for each world."""
    parser = argparse.ArgumentParser(description="Policies on streams of simulated failures.")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--failures", type=int, default=FAILURES, help="in each stream")
    parser.add_argument("--value-of-time", type=Decimal, default=VALUE_OF_TIME, metavar="USD")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true")
    shape.add_argument("--markdown", action="store_true", help="the table of docs/policy.md")
    asked = parser.parse_args()
    found: dict[str, list[dict[str, object]]] = {}
    for world in WORLDS:
        rows = played(world, asked.seeds, asked.failures, asked.value_of_time)
        found[world] = [asdict(row) for row in rows]
        if asked.markdown:
            print(markdown(world, rows))
        elif not asked.json:
            print(f"\n{world}: {asked.seeds} streams of {asked.failures} failures")
            print("\n".join([HEAD, *map(str, rows), verdict(rows)]))
    if asked.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
