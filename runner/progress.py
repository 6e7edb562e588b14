"""Knows which steps of a run are not finished, and how long they usually take; fed by events.

What the steps ahead may take is what they took in past runs of the workflow, as the journal has it.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from runner.ahead import StepAhead, usual
from runner.engine.state import shown_id
from runner.events import AttemptStarted, Event, StepFinished, StepStarted
from runner.frozen import frozen
from runner.outcome import Rung
from runner.plan import MAIN, Prompt, Run, Uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.outcome import StepOutcome
    from runner.plan import Step

_PRIOR_RUNS = 2.0
_FAILS_HARD = 0.05
"""Chance that a command step asks main, before it has been seen; as if seen `_PRIOR_RUNS` times."""
_FAILS_HARD_NOW = 0.3
"""The same once a model is at work on it."""


@frozen
class Kind:
    """What is known of one step of the plan."""

    shown: str
    needs: tuple[str, ...]
    sure: bool
    """Whether it asks main for certain: a prompt of the main agent."""
    may: bool
    """Whether it may ask main, should its command fail."""
    seconds: float | None
    """What it takes where history need not be asked: nothing, for one that only groups."""


def kinds_of(
    steps: Iterable[Step], prefix: str = "", outer: tuple[str, ...] = ()
) -> Iterator[Kind]:
    """Flatten a plan, each step after those it needs; used workflows' steps stand before it."""
    for step in steps:
        shown = shown_id(prefix, step)
        needs = tuple(f"{prefix}/{need}" if prefix else need for need in step.needs) or outer
        match step.kind:
            case Uses(workflow):
                inner = tuple(kinds_of(workflow.steps, shown, needs))
                yield from inner
                ids = (*needs, *(kind.shown for kind in inner))
                yield Kind(shown, ids, sure=False, may=False, seconds=0.0)
            case Prompt(agent=agent, escalate=escalate):
                may = escalate is not None
                yield Kind(shown, needs, sure=agent == MAIN, may=may, seconds=None)
            case Run(escalate=escalate):
                yield Kind(shown, needs, sure=False, may=escalate is not None, seconds=None)
            case _:
                yield Kind(shown, needs, sure=False, may=False, seconds=None)


class Progress:
    """What is known of the steps that are not finished; fed by events."""

    def __init__(self, steps: Iterable[Step], past: Iterable[StepOutcome]) -> None:
        self._kinds = {kind.shown: kind for kind in kinds_of(steps)}
        self._began: dict[str, float] = {}
        self._done: set[str] = set()
        self._asked: set[str] = set()
        self._climbing: set[str] = set()
        self._past: dict[str, list[StepOutcome]] = defaultdict(list)
        for outcome in past:
            self._past[outcome.id].append(outcome)

    def hear(self, event: Event, at: float) -> bool:
        """Take an event up that happened at a time; return whether it changed anything."""
        match event:
            case StepStarted(step):
                self._began[step] = at
            case AttemptStarted(step, _, rung) if rung is not Rung.COMMAND:
                (self._asked if rung is Rung.MAIN else self._climbing).add(step)
            case StepFinished(outcome):
                self._done.add(outcome.id)
            case _:
                return False
        return True

    def steps(self, now: float, *, in_turn: bool) -> list[StepAhead]:
        """Return the steps that are not finished, for `keepwarm`.

        Args:
            now: By the clock of `hear`.
            in_turn: Whether main itself waits for what goes on.
        """
        delegated = [s for s in self._began if s not in self._kinds and s not in self._done]
        if in_turn:
            # It waits for what it delegated, or for a tool of its own that takes as long as it may.
            return [self._delegated(step, now) for step in delegated] or [
                StepAhead(id="", seconds=None, chance=1.0)
            ]
        return [
            self._ahead(kind, now) for kind in self._kinds.values() if kind.shown not in self._done
        ]

    def later(self, now: float) -> list[StepAhead]:
        """Return those that come after what main itself is at work on, which is no pause."""
        return [step for step in self.steps(now, in_turn=False) if step.id not in self._asked]

    def _delegated(self, step: str, now: float) -> StepAhead:
        elapsed = now - self._began[step]
        own = step.rpartition("/")[2]
        return StepAhead(id=step, seconds=self._usual(own), elapsed=elapsed, chance=1.0)

    def _ahead(self, kind: Kind, now: float) -> StepAhead:
        began = self._began.get(kind.shown)
        seconds = self._usual(kind.shown) if kind.seconds is None else kind.seconds
        asked = kind.shown in self._asked
        return StepAhead(
            id=kind.shown,
            needs=kind.needs,
            seconds=seconds,
            elapsed=0.0 if began is None else max(0.0, now - began),
            chance=1.0 if kind.sure and not asked else self._chance(kind),
            asks="start" if kind.sure and not asked else "end",
        )

    def _usual(self, step: str) -> float | None:
        return usual([one.seconds for one in self._past[step] if one.attempts])

    def _chance(self, kind: Kind) -> float:
        """Estimate how likely a step asks main, by past runs and a cautious guess."""
        if not kind.may:
            return 0.0
        past = self._past[kind.shown]
        guess = _FAILS_HARD
        if kind.shown in self._climbing:
            guess = _FAILS_HARD_NOW
            past = [one for one in past if any(a.rung is not Rung.COMMAND for a in one.attempts)]
        hard = sum(any(a.rung is Rung.MAIN for a in one.attempts) for one in past)
        return (hard + guess * _PRIOR_RUNS) / (len(past) + _PRIOR_RUNS)
