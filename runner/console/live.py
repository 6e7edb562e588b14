"""What a live tree shows at one moment: folds events, and lays out as many lines as fit. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from runner.console.rows import Row, layout
from runner.console.style import (
    Glyphs,
    Line,
    Span,
    budget,
    cells,
    count,
    duration,
    fit,
    model_name,
    money,
    plural,
    share,
)
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandOutput,
    CommandStarted,
    Event,
    ModelResponded,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFinished,
    StepStarted,
    ToolCalled,
)
from runner.outcome import Rung, Status, StepOutcome, Usage, add_cost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FRAMES = 10
"""Frames a second."""


@dataclass(slots=True)
class _Step:
    """One step as it is now."""

    id: str
    title: str
    status: str = "pending"
    rung: Rung | None = None
    attempt: int = 0
    model: str = ""
    last: str = ""
    """The last line of output, or the last tool."""
    begun: float = 0.0
    seconds: float | None = None
    reason: str = ""
    usage: Usage = field(default_factory=Usage)
    cost: Decimal | None = Decimal(0)


class Live:
    """The state of a run as a tree shows it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start: RunStarted | None = None
        self._begun = clock()
        self._over = False
        self._roles: Mapping[str, str] = {}
        self._steps: dict[str, _Step] = {}
        self._kept_warm = _Step("", "")
        """What is paid for no step: keep-alives of main's prompt cache."""

    @property
    def going(self) -> bool:
        """Whether there is a run to show."""
        return self._start is not None and not self._over

    def add(self, event: Event) -> None:
        """Take up the next event."""
        match event:
            case RunStarted():
                self._start, self._roles = event, event.models
                self._begun = self._clock()
                self._steps = {plan.id: _Step(plan.id, plan.title) for plan in event.steps}
            case StepStarted(step):
                state = self._step(step)
                state.status, state.begun = "running", self._clock()
            case StepFinished(outcome):
                self._finish(outcome)
            case RunFinished():
                self._over = True
            case RunResumed():
                self._resume()
            case _:
                self._advance(event)

    def lines(self, *, width: int, height: int, glyphs: Glyphs) -> list[Line]:
        """Lay out this moment in at most `height` lines of at most `width` columns."""
        now = self._clock()
        steps = list(self._steps.values())
        rows = [self._row(step, now) for step in steps]
        shown = _folded(rows, max(1, height - 3))
        return [
            self._head(width, glyphs),
            *layout(shown, width=width, glyphs=glyphs),
            (),
            self._foot(steps, now, width, glyphs),
        ]

    def _resume(self) -> None:
        """Go on in a new process: what was cut off, or never begun, has its turn before it."""
        self._over, self._begun = False, self._clock()
        for state in self._steps.values():
            if state.status in ("running", "cancelled", "blocked"):
                state.status, state.rung, state.seconds = "pending", None, None
                state.reason = state.last = ""

    def _step(self, step: str) -> _Step:
        # Work that the main agent started is in no plan.
        return self._steps.setdefault(step, _Step(step, ""))

    def _advance(self, event: Event) -> None:
        match event:
            case AttemptStarted(step, number, rung, model):
                state = self._step(step)
                state.rung, state.attempt = rung, number
                state.model, state.last = model_name(model, self._roles), ""
            case CommandStarted(step, _, command):
                self._step(step).last = f"$ {command}"
            case CommandOutput(step, line) if line.strip():
                self._step(step).last = line
            case ToolCalled(step, tool, summary):
                self._step(step).last = f"{tool} {summary}"
            case ModelResponded():
                state = self._step(event.step) if event.step else self._kept_warm
                state.usage += event.usage
                state.cost = add_cost(state.cost, event.cost_usd)
            case AttemptFinished(step, attempt):
                self._step(step).last = f"{attempt.verdict.value}: {attempt.reason}"
            case _:
                pass

    def _finish(self, outcome: StepOutcome) -> None:
        state = self._step(outcome.id)
        state.status, state.rung = outcome.status.value, outcome.rung
        if outcome.status is Status.FAILED and self._start and outcome.id in self._start.may_fail:
            state.status = "allowed"
        state.reason, state.last = outcome.reason, ""
        state.seconds = outcome.seconds if outcome.attempts or outcome.seconds else None

    def _row(self, step: _Step, now: float) -> Row:
        rung = step.rung.value if step.rung else ""
        if step.status == "running":
            frame = int(now * FRAMES)
            note = _running_note(step)
            seconds = now - step.begun
            return Row("running", step.id, rung, note, seconds, step.cost, frame, step.usage)
        note = step.title if step.status == "pending" else step.reason
        return Row(step.status, step.id, rung, note, step.seconds, step.cost, usage=step.usage)

    def _head(self, width: int, glyphs: Glyphs) -> Line:
        start = self._start
        if start is None:
            return ()
        mark = "  [scripted]" if start.scripted else "  [replayed]" if start.replayed else ""
        room = max(8, width - len(start.run_id) - len(mark) - 2)
        name = fit(start.workflow, room, glyphs.more)
        limits = budget(start)
        limits = f"  budget {limits}" if limits else ""
        if cells(name) + len(limits) > room:
            limits = ""
        return (
            Span(name, "bold"),
            Span(f"  {start.run_id}{limits}", "dim"),
            Span(mark, "warn"),
        )

    def _foot(self, steps: Sequence[_Step], now: float, width: int, glyphs: Glyphs) -> Line:
        """Time, counts, money and tokens; the last ones go where there is no room."""
        running = sum(step.status == "running" for step in steps)
        waiting = sum(step.status == "pending" for step in steps)
        counts = f"{len(steps) - running - waiting} done, {running} running, {waiting} waiting"
        parts = [duration(now - self._begun), counts]
        usage, cost = Usage(), Decimal(0)
        for step in (*steps, self._kept_warm):
            usage, cost = usage + step.usage, add_cost(cost, step.cost)
        if usage.requests:
            ceiling = self._start.budget_usd if self._start else None
            parts.append(money(cost) + (f" of {money(ceiling)}" if ceiling is not None else ""))
            cached = share(usage.cache_read_tokens, usage.input_tokens)
            parts.append(f"{count(usage.input_tokens)} in ({cached} cached)")
            parts.append(f"{count(usage.output_tokens)} out")
        if warm := self._kept_warm.usage.requests:
            parts.append(f"{plural(warm, 'keep-alive')} {money(self._kept_warm.cost)}")
        text = f"  {parts[0]}"
        for part in parts[1:]:
            longer = f"{text}  {glyphs.dot}  {part}"
            if cells(longer) > width:
                break
            text = longer
        return (Span(fit(text, width) if cells(text) > width else text, "dim"),)


def _running_note(step: _Step) -> str:
    if step.rung in (None, Rung.COMMAND):
        return step.last or step.title
    who = " ".join(part for part in (f"#{step.attempt}", step.model) if part)
    return f"{who}: {step.last}" if step.last else who


def _folded(rows: list[Row], limit: int) -> list[Row]:
    """Fold rows until they fit: first what is done, then what waits, what cannot run, what runs.

    Of what is done the earliest go, of all else the last: the middle of the work stays in sight.
    """
    for statuses, name, earliest in (
        ({"succeeded", "skipped"}, "{} done", True),
        ({"allowed"}, "{} failed, as they may", True),
        ({"pending"}, "{} waiting", False),
        ({"blocked", "cancelled"}, "{} not run", False),
        ({"running"}, "{} more running", False),
        ({"failed"}, "{} more failed", False),
    ):
        if len(rows) > limit:
            ours = [place for place, row in enumerate(rows) if row.status in statuses]
            # Where a model is at work costs money: that is watched for longest.
            ours.sort(key=lambda place: rows[place].rung in ("", Rung.COMMAND))
            # The row that stands for them takes a line, too.
            excess = len(rows) - limit + 1
            rows = _fold(rows, sorted(ours)[:excess] if earliest else ours[-excess:], name)
    return rows[:limit]


def _fold(rows: list[Row], places: list[int], name: str) -> list[Row]:
    """Put the rows at these places into one, at the last one's place."""
    if len(places) < 2:
        return rows
    places = sorted(places)
    going = [rows[place] for place in places]
    sums = {"rung": "", "note": "", "seconds": None, "cost": _cost(going), "usage": _used(going)}
    folded = replace(going[-1], name=name.format(len(going)), **sums)
    gone = set(places[:-1])
    kept = [folded if place == places[-1] else row for place, row in enumerate(rows)]
    return [row for place, row in enumerate(kept) if place not in gone]


def _used(rows: Sequence[Row]) -> Usage:
    total = Usage()
    for row in rows:
        total += row.usage
    return total


def _cost(rows: Sequence[Row]) -> Decimal | None:
    total: Decimal | None = Decimal(0)
    for row in rows:
        total = add_cost(total, row.cost)
    return total
