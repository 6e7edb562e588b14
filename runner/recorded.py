"""Folds what a run's journal holds into what a later process goes on from. Pure.

One fold for all who resume: the engine takes finished steps, passes and steps in flight from it;
the model side takes `said`: conversations, calls and requests by step and attempt.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from runner import flight
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    CommandStarted,
    ConversationOpened,
    Decided,
    Event,
    GitFact,
    GitIntent,
    Marked,
    ModelAsked,
    ModelRefused,
    ModelResponded,
    ModelRetried,
    Passed,
    Restored,
    RunFinished,
    RunResumed,
    RunStarted,
    SnapshotTaken,
    StartSeen,
    StepFinished,
    StepStarted,
    ToolCalled,
    TurnEnded,
    Uncommitted,
)
from runner.flight import Flight
from runner.frozen import frozen
from runner.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.outcome import StepOutcome

MODEL_SIDE = (
    RunResumed,
    ConversationOpened,
    ModelAsked,
    ModelRefused,
    ModelResponded,
    ToolCalled,
    TurnEnded,
)
"""Events that the model side reads, in `recalled`; in `Recorded.said` as they came."""
READING = frozenset({"read_file", "list", "grep"})
"""Tools that change nothing: such a call that was cut off is simply made again."""


@frozen(kw_only=True)
class Recorded:
    """All that a resumed run knows of its earlier lives."""

    start: RunStarted
    lives: int = 1
    """Processes that have worked at the run so far."""
    seconds: float = 0.0
    """That they worked, all together."""
    heard_at: float = 0.0
    """Time of the newest event, in seconds since the epoch."""
    finished: RunFinished | None = None
    """How the newest life ended; `None`: it was killed."""
    outcomes: Mapping[str, StepOutcome] = field(default_factory=dict[str, "StepOutcome"])
    """By shown id; those that the end of a life cut off are not among them."""
    flights: Mapping[str, Flight] = field(default_factory=dict[str, Flight])
    """By shown id; none of delegated work, which is begun again."""
    passes: Mapping[str, str] = field(default_factory=dict[str, str])
    marks: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the run left at each path; see `engine.marks`."""
    mended: frozenset[str] = frozenset()
    seen: StartSeen | None = None
    start_tree: str = ""
    tree: str = ""
    """The newest snapshot."""
    committed: str = ""
    remote_ref: str = ""
    numbers: int = 0
    """Commands begun so far."""
    logs: Mapping[str, int] = field(default_factory=dict[str, int])
    """Commands of each step so far, for the names of their logs."""
    said: tuple[Event, ...] = ()
    """All events of `MODEL_SIDE`, oldest first: the model side's own part of the journal."""
    waits: Mapping[str, float] = field(default_factory=dict[str, float])
    """Until when a provider asked not to be asked again, in epoch seconds, by model id."""


def recorded(events: Iterable[tuple[float, Event]]) -> Recorded | None:
    """Fold a run's events, each with its time in epoch seconds; `None` without a first event."""
    known = [*events]
    fold = _Fold(_over(event for _, event in known))
    for at, event in known:
        fold.add(at, event)
    return fold.sum_up()


def _over(events: Iterable[Event]) -> frozenset[str]:
    """Return the steps that have ended for good: how they went is nobody's concern any more."""
    over: set[str] = set()
    for event in events:
        match event:
            case StepStarted(step):
                over.discard(step)
            case StepFinished(outcome) if not _is_cut_off(outcome):
                over.add(outcome.id)
            case _:
                pass
    return frozenset(over)


_CUT_OFF = frozenset({3, 6})
"""Exit codes of steps that failed for want of money or of a provider, not by themselves."""


class _Fold:
    """What is known after each event, in the making."""

    def __init__(self, over: frozenset[str]) -> None:
        self._over = over
        self._start: RunStarted | None = None
        self._lives, self._seconds = 1, 0.0
        self._life_began = self._heard_at = 0.0
        self._finished: RunFinished | None = None
        self._outcomes: dict[str, StepOutcome] = {}
        self._flights: dict[str, Flight] = {}
        self._passes: dict[str, str] = {}
        self._marks: dict[str, str] = {}
        self._marked: dict[str, Mapping[str, str]] = {}
        self._mended: frozenset[str] = frozenset()
        self._seen: StartSeen | None = None
        self._start_tree = self._tree = ""
        self._committed = self._remote_ref = ""
        self._numbers = 0
        self._logs: dict[str, int] = {}
        self._said: list[Event] = []
        self._waits: dict[str, float] = {}
        self._since: dict[str, float] = {}
        """When each attempt under way began, or went on in its newest life."""

    def add(self, at: float, event: Event) -> None:
        """Take up the next event."""
        if isinstance(event, RunResumed):
            self._pause()
            self._seconds += self._heard_at - self._life_began
            self._life_began, self._lives, self._finished = at, event.life, None
        self._heard_at = at
        match event:
            case RunStarted():
                self._start, self._life_began = event, at
            case RunFinished():
                self._finished = event
            case GitIntent() | GitFact():
                self._git(event)
            case StartSeen() | Passed() | Marked() | Uncommitted():
                self._know(event)
            case CommandStarted() | CommandFinished():
                self._command(event)
            case SnapshotTaken() | Restored():
                self._tree_of(event)
            case StepStarted() | StepFinished() | AttemptStarted() | AttemptFinished():
                self._step(event)
            case _:
                self._hear(event)

    def sum_up(self) -> Recorded | None:
        """Return what is known now."""
        if self._start is None:
            return None
        self._pause()
        planned = self._planned()
        return Recorded(
            start=self._start,
            lives=self._lives,
            seconds=self._seconds + self._heard_at - self._life_began,
            heard_at=self._heard_at,
            finished=self._finished,
            outcomes={key: one for key, one in self._outcomes.items() if not _is_cut_off(one)},
            flights={key: one for key, one in self._flights.items() if planned(key)},
            passes=self._passes,
            marks=self._marks,
            mended=self._mended,
            seen=self._seen,
            start_tree=self._start_tree,
            tree=self._tree,
            committed=self._committed,
            remote_ref=self._remote_ref,
            numbers=self._numbers,
            logs=self._logs,
            said=tuple(self._said),
            waits=self._waits,
        )

    def _pause(self) -> None:
        """Count what attempts under way took until their life ended."""
        for step, known in self._flights.items():
            if known.asked is not None and step in self._since:
                self._update(step, busy=known.busy + self._heard_at - self._since.pop(step))

    def _planned(self) -> Callable[[str], bool]:
        """Tell declared steps, those of used workflows too, from delegated work."""
        assert self._start is not None
        uses = {plan.id for plan in self._start.steps if plan.kind == "uses"}
        own = {plan.id for plan in self._start.steps}

        def planned(step: str) -> bool:
            return step in own or step.partition("/")[0] in uses

        return planned

    def _flying(self, step: str) -> Flight | None:
        """Return the step in flight that a command of *step* runs for."""
        if (known := self._flights.get(step)) is not None:
            return known
        # A commit runs the checks that it found stale.
        return next((one for one in self._flights.values() if one.job == step), None)

    def _above(self, step: str) -> list[str]:
        """Return the steps in flight that a delegated one may have been started by."""
        return [one for one in self._flights if step.startswith(f"{one}/")]

    def _update(self, step: str, **changes: Any) -> None:
        known = self._flights.get(step)
        if known is not None:
            self._flights[step] = replace(known, **changes)

    def _hear(self, event: Event) -> None:
        """Take up what is decided and said."""
        if isinstance(event, MODEL_SIDE):
            self._said.append(event)
        match event:
            case ModelRetried(model=model, delay=delay):
                self._waits[model] = self._heard_at + delay
            case Decided(step, reason=reason):
                self._update(step, reason=reason)
            case ToolCalled(step, tool):
                # A tree that it changed was recorded before the call counted as done.
                self._update(step, ran=False, loose=False)
                known = self._flights.get(step)
                if known is not None and known.unsettled and tool not in READING:
                    self._update(step, settled=known.unsettled, unsettled="", judged="")
            case _:
                pass

    def _step(self, event: StepStarted | StepFinished | AttemptStarted | AttemptFinished) -> None:
        match event:
            case StepStarted(step, continued):
                self._outcomes.pop(step, None)
                fresh = not continued or step not in self._flights
                if fresh and step not in self._over:
                    self._flights[step] = Flight(step=step)
                for above in self._above(step):
                    self._update(above, loose=True)
            case StepFinished(outcome):
                self._outcomes[outcome.id] = outcome
                if not _is_cut_off(outcome):
                    self._flights.pop(outcome.id, None)
            case AttemptStarted(step):
                self._since[step] = self._heard_at
                if (known := self._flights.get(step)) is not None:
                    self._flights[step] = flight.begin(known, event, self._tree, len(self._said))
            case AttemptFinished(step):
                if (known := self._flights.get(step)) is not None:
                    self._flights[step] = flight.finish(known, event)

    def _command(self, event: CommandStarted | CommandFinished) -> None:
        if isinstance(event, CommandStarted):
            self._numbers = max(self._numbers + 1, event.number)
            self._logs[event.step] = self._logs.get(event.step, 0) + 1
        if (known := self._flying(event.step)) is not None:
            self._flights[known.step] = flight.command(known, event)

    def _tree_of(self, event: SnapshotTaken | Restored) -> None:
        known = self._flights.get(event.step)
        match event:
            case SnapshotTaken(step, label, tree):
                self._tree = tree
                # A run that hashes nothing first looks where an autofix is about to begin.
                if label in ("start", "before autofix"):
                    self._start_tree = self._start_tree or tree
                if known is not None:
                    self._flights[step] = flight.snapshot(known, label, tree, self._marks)
            case Restored(step):
                if known is not None:
                    self._flights[step] = flight.restore(known, event)

    def _know(self, event: StartSeen | Passed | Marked | Uncommitted) -> None:
        match event:
            case StartSeen():
                self._seen = event
            case Passed(key, tree):
                self._passes[key] = tree
            case Marked(blobs, forgotten):
                for path in forgotten:
                    self._marks.pop(path, None)
                self._marks.update(blobs)
            case Uncommitted(paths):
                self._mended = frozenset(paths)

    def _git(self, event: GitIntent | GitFact) -> None:
        match event:
            case GitIntent(step, action="rebase"):
                self._update(step, rebase=event)
            case GitIntent(step):
                self._update(step, intent=event)
            case GitFact(step, action, facts):
                self._update(step, fact=event)
                if action == "commit":
                    self._committed = facts.get("sha", "")
                else:
                    self._remote_ref = facts.get("sha", "")


def _is_cut_off(outcome: StepOutcome) -> bool:
    """Tell whether a step was ended by the end of a life, and not by itself."""
    if outcome.status is Status.FAILED:
        return outcome.exit_code in _CUT_OFF
    return outcome.status is Status.CANCELLED
