"""Decides what past attempts say of the next: who mends which failures, how reliably. Pure.

Only what a command verified counts: an attempt that mended, or one that did not. What was the
provider's doing, was denied, cancelled or flaky says nothing of a model and is never counted.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from functools import lru_cache
from math import exp, lgamma, log
from typing import TYPE_CHECKING

from runner.events import AttemptFinished, Decided, Event
from runner.frozen import frozen
from runner.outcome import Rung, Verdict, add_cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.outcome import Attempt

_COUNTED = {Verdict.PASSED: True, Verdict.SOFT: False, Verdict.HARD: False}

FADES = 0.98
"""Weight of an attempt for each later run of its repository: models and prices drift."""
_OF_REPOSITORY = 8.0
"""As many attempts' weight has what is known of all repositories, beside a repository's own."""
_OF_KIND = 4.0
"""As many has the shipped guess, beside what is known of a kind and model."""
SHIPPED: Mapping[str, float] = {"format": 0.9, "lint": 0.8, "type": 0.65, "test": 0.6}
"""Guess of how often a cheap subagent mends a failure of a kind, before anything is known."""
SHIPPED_OTHER = 0.6

_CLOSE = 1e-8
"""A last step towards a quantile: what is left to go is far less, about its square."""


@frozen
class Tried:
    """What one rung came to on one failing step, all its attempts together."""

    kind: str
    """Of the failure: `test`, `lint`, `format`, `type`, `other`."""
    model: str
    rung: Rung
    mended: bool
    usd: Decimal | None
    """`None`: its price is not known."""
    seconds: float
    at: float
    """When it ended, in seconds since the epoch."""
    repo: str
    """Name of the repository's state directory: the same for all runs in one work tree."""
    run: str
    step: str = ""


@frozen
class Odds:
    """How likely a model mends a kind of failure, and what that is known from."""

    mended: float
    """Attempts that mended, of this repository, the older the less."""
    failed: float
    chance: float
    """Shrunk towards what is known of all repositories, and that towards the shipped guess."""
    low: float
    """Below which it lies with a chance of 5 %; irreversible steps go by it."""
    high: float
    """Above which it lies with a chance of 5 %."""
    elsewhere: float
    """Weight of the attempts of other repositories that were looked at."""

    @property
    def known(self) -> bool:
        """Whether anything at all was seen of this kind and model."""
        return self.mended + self.failed + self.elsewhere > 0


@frozen
class Line:
    """One line of the timetable: what one model did with one kind of failure."""

    kind: str
    model: str
    rung: Rung
    tried: int
    mended: int
    low: float
    high: float
    usd: Decimal | None
    """Median; `None` where no price is known."""
    seconds: float
    """Median."""


def tried_of(events: Iterable[tuple[float, Event]], *, repo: str, run: str) -> list[Tried]:
    """Fold a run's events into what was tried: for each step, rung and model, all attempts.

    Args:
        events: Each with its time, in order.
        repo: Name of the repository's state directory.
        run: The run's id.
    """
    kinds: dict[str, str] = {}
    attempts: dict[tuple[str, Rung, str], list[Attempt]] = defaultdict(list)
    ended: dict[tuple[str, Rung, str], float] = {}
    for at, event in events:
        match event:
            case Decided(step, facts=facts) if "kind" in facts:
                kinds[step] = str(facts["kind"])
            case AttemptFinished(step, attempt) if attempt.rung is not Rung.COMMAND:
                key = (step, attempt.rung, attempt.model or "")
                attempts[key].append(attempt)
                ended[key] = at
            case _:
                pass
    return [
        Tried(
            kind=kinds[step],
            model=model,
            rung=rung,
            mended=_COUNTED[tried[-1].verdict],
            usd=_sum(one.cost_usd for one in tried),
            seconds=sum(one.seconds for one in tried),
            at=ended[step, rung, model],
            repo=repo,
            run=run,
            step=step,
        )
        for (step, rung, model), tried in attempts.items()
        if step in kinds and tried[-1].verdict in _COUNTED
    ]


def odds_of(
    past: Iterable[Tried], *, kind: str, model: str, repo: str, rung: Rung = Rung.SUBAGENT
) -> Odds:
    """Tell how likely a model mends a kind of failure in a repository."""
    past = tuple(past)
    here = [0.0, 0.0]
    everywhere = [0.0, 0.0]
    # Runs in which others were asked count for its age, too: who is never asked any more is
    # forgotten, and so asked again some day.
    for one, weight in zip(past, _weights(past), strict=True):
        if (one.kind, one.model, one.rung) != (kind, model, rung):
            continue
        everywhere[one.mended] += weight
        if one.repo == repo:
            here[one.mended] += weight
    guess = SHIPPED.get(kind, SHIPPED_OTHER)
    all_of_kind = (everywhere[1] + _OF_KIND * guess) / (sum(everywhere) + _OF_KIND)
    good = here[1] + _OF_REPOSITORY * all_of_kind
    bad = here[0] + _OF_REPOSITORY * (1.0 - all_of_kind)
    return Odds(
        mended=here[1],
        failed=here[0],
        chance=good / (good + bad),
        low=quantile(good, bad, 0.05),
        high=quantile(good, bad, 0.95),
        elsewhere=sum(everywhere) - sum(here),
    )


def timetable(past: Iterable[Tried]) -> tuple[Line, ...]:
    """Sum up who mended what, by kind, rung and model; the intervals hold nine in ten."""
    groups: dict[tuple[str, Rung, str], list[Tried]] = defaultdict(list)
    for one in past:
        groups[one.kind, one.rung, one.model].append(one)
    rungs = list(Rung)
    order = sorted(groups, key=lambda key: (key[0], rungs.index(key[1]), key[2]))
    return tuple(_line(groups[key]) for key in order)


def _line(tried: Sequence[Tried]) -> Line:
    first, mended = tried[0], sum(one.mended for one in tried)
    good, bad = mended + 1.0, len(tried) - mended + 1.0
    costs = [one.usd for one in tried]
    known = [usd for usd in costs if usd is not None]
    return Line(
        kind=first.kind,
        model=first.model,
        rung=first.rung,
        tried=len(tried),
        mended=mended,
        low=quantile(good, bad, 0.05),
        high=quantile(good, bad, 0.95),
        usd=_median(known) if len(known) == len(costs) else None,
        seconds=float(_median([Decimal(str(one.seconds)) for one in tried])),
    )


def _sum(costs: Iterable[Decimal | None]) -> Decimal | None:
    total: Decimal | None = Decimal(0)
    for usd in costs:
        total = add_cost(total, usd)
    return total


def _weights(past: Sequence[Tried]) -> list[float]:
    """Weigh each attempt by how many runs of its repository came after its own."""
    ages: dict[str, dict[str, int]] = defaultdict(dict)
    for one in sorted(past, key=lambda one: one.at, reverse=True):
        ages[one.repo].setdefault(one.run, len(ages[one.repo]))
    return [FADES ** ages[one.repo][one.run] for one in past]


def _median(values: Sequence[Decimal]) -> Decimal:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


@lru_cache(maxsize=1_000)
def quantile(good: float, bad: float, share: float) -> float:
    """Return below which a chance lies with probability `share`, under Beta(good, bad)."""
    low, high, x = 0.0, 1.0, good / (good + bad)
    scale = lgamma(good + bad) - lgamma(good) - lgamma(bad)
    # Newton's method; halving wherever it would leave what is known to hold the answer.
    while high - low > _CLOSE / 100:
        miss = _cumulative(x, good, bad) - share
        low, high = (low, x) if miss > 0.0 else (x, high)
        slope = exp(scale + (good - 1.0) * log(x) + (bad - 1.0) * log(1.0 - x))
        step = miss / slope if slope > 0.0 else 1.0
        if abs(step) <= _CLOSE:
            return min(max(x - step, low), high)
        x = x - step if low < x - step < high else (low + high) / 2
    return x


def _cumulative(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function (Numerical Recipes, section 6.4)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(1.0 - x))
    if x < (a + 1.0) / (a + b + 2.0):
        return front * _fraction(x, a, b) / a
    return 1.0 - front * _fraction(1.0 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    """Its continued fraction, by Lentz's method."""
    tiny = 1e-300
    c, d = 1.0, 1.0 / max(tiny, 1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, 400):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d, c = 1.0 + step * d, 1.0 + step / c
            d = 1.0 / (d if abs(d) > tiny else tiny)
            c = c if abs(c) > tiny else tiny
            value *= d * c
        if abs(d * c - 1.0) < 1e-12:
            break
    return value
