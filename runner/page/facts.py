"""Folds a run's journaled events into what its page tells: when, by whom, on which trees. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from runner.console.show import told_of
from runner.console.style import duration, fit
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    CommandStarted,
    Decided,
    GitFact,
    ModelAsked,
    ModelResponded,
    ModelRetried,
    Notice,
    Restored,
    RunResumed,
    SnapshotTaken,
    StepFinished,
    StepStarted,
    ToolCalled,
    Waited,
)
from runner.frozen import frozen
from runner.outcome import Rung

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.events import Event
    from runner.journal import Record
    from runner.outcome import Attempt
    from runner.report import Report

_BAR = 120
"""Characters of what a bar is told in."""

BarKind = Literal["step", "attempt", "command", "request", "wait"]


@frozen
class Bar:
    """Something that took time, in seconds since the run began; pauses between lives left out."""

    kind: BarKind
    start: float
    end: float
    words: str
    rung: Rung | None = None
    cut: bool = False
    """Whether the process ended before it did."""


@frozen
class Made:
    """One decision, with the arithmetic that it rests on."""

    number: int
    """From 1 within the run."""
    at: float
    step: str
    text: str
    facts: Mapping[str, object]


@frozen
class Ran:
    """One command that ended."""

    at: float
    text: str
    failed: bool
    log: str
    purpose: str
    attempt: int


@frozen
class Tried:
    """One try at one rung."""

    number: int
    rung: Rung
    model: str
    at: float
    attempt: Attempt | None = None
    """`None` when it was cut off."""
    tools: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    """Trees before and after a model's attempt; empty where none was recorded."""


Told = Made | Ran | Tried | str
"""What a step's course is told in; a text is told as it is."""


@frozen
class Course:
    """One step from its start to its end."""

    id: str
    bars: tuple[Bar, ...] = ()
    told: tuple[tuple[float, Told], ...] = ()
    """In the order in which it happened, with seconds since the run began."""


@frozen
class Story:
    """A run as its page tells it."""

    report: Report
    courses: Mapping[str, Course]
    """By step; that of the run itself under the empty name."""
    decisions: tuple[Made, ...] = ()
    resumed: tuple[float, ...] = ()
    """When the run was taken up again, in seconds since it began."""
    seconds: float = 0.0
    """From the first event to the last, pauses between lives left out."""


def story_of(records: Iterable[Record], report: Report) -> Story:
    """Fold a run's records; `report` is what the same events came to."""
    fold = _Fold()
    for record in records:
        fold.add(record.at, record.event)
    return fold.story(report)


@dataclass(slots=True)
class _Step:
    bars: list[Bar] = field(default_factory=list[Bar])
    told: list[tuple[float, Told]] = field(default_factory=list["tuple[float, Told]"])
    open: dict[object, Bar] = field(default_factory=dict[object, Bar])
    """What has begun: attempts by number, commands by purpose and number."""
    attempt: int = 0
    tools: list[str] = field(default_factory=list[str])
    trees: dict[str, str] = field(default_factory=dict[str, str])
    last_tree: str = ""


class _Fold:
    def __init__(self) -> None:
        self._steps: dict[str, _Step] = {}
        self._decisions: list[Made] = []
        self._resumed: list[float] = []
        self._origin: float | None = None
        self._paused = 0.0
        self._now = 0.0

    def add(self, at: float, event: Event) -> None:
        if self._origin is None:
            self._origin = at
        if isinstance(event, RunResumed):
            # Nobody worked at it meanwhile: a night between two lives is no time of the run.
            self._cut_all()
            self._paused = max(self._paused, at - self._origin - self._now)
            self._resumed.append(self._now)
        # Clocks may be set back; time on a page does not go so.
        self._now = max(self._now, at - self._origin - self._paused)
        self._time(event)
        self._tell(event)

    def story(self, report: Report) -> Story:
        self._cut_all()
        courses = {
            step: Course(step, tuple(one.bars), tuple(one.told))
            for step, one in self._steps.items()
        }
        return Story(report, courses, tuple(self._decisions), tuple(self._resumed), self._now)

    def _of(self, step: str) -> _Step:
        return self._steps.setdefault(step, _Step())

    def _cut_all(self) -> None:
        for one in self._steps.values():
            for bar in one.open.values():
                words = f"{bar.words}, cut off after {duration(self._now - bar.start)}"
                one.bars.append(Bar(bar.kind, bar.start, self._now, words, bar.rung, cut=True))
                if bar.kind == "attempt" and bar.rung is not None:
                    one.told.append((self._now, f"attempt {one.attempt} was cut off"))
            one.open.clear()

    def _time(self, event: Event) -> None:
        """Take up what an event tells about how long something took."""
        now = self._now
        match event:
            case StepStarted(step):
                self._of(step).open["step"] = Bar("step", now, now, "the step")
            case StepFinished(outcome):
                begun = self._of(outcome.id).open.pop("step", None)
                if begun is not None:
                    words = f"the step: {outcome.status.value} after {duration(now - begun.start)}"
                    self._of(outcome.id).bars.append(Bar("step", begun.start, now, words))
            case AttemptStarted(step, number, rung, model):
                words = f"attempt {number}, {rung.value}{f', {model}' if model else ''}"
                self._of(step).open[number] = Bar("attempt", now, now, words, rung)
            case AttemptFinished(step, attempt):
                here = self._of(step)
                begun = here.open.pop(attempt.number, None)
                start = begun.start if begun else max(0.0, now - attempt.seconds)
                words = begun.words if begun else f"attempt {attempt.number}, {attempt.rung.value}"
                words += f": {attempt.verdict.value} after {duration(now - start)}"
                here.bars.append(Bar("attempt", start, now, words, attempt.rung))
            case CommandStarted(step, purpose, _, number):
                self._of(step).open[purpose, number] = Bar("command", now, now, purpose)
            case CommandFinished(step, purpose):
                here = self._of(step)
                here.open.pop((purpose, event.number), None)
                here.bars.append(self._ended("command", event.seconds, _command_words(event)))
            case Waited(step, reason, seconds):
                what = "a free slot" if reason == "slot" else "the tree"
                words = f"waited for {what}, {duration(seconds)}"
                self._of(step).bars.append(self._ended("wait", seconds, words))
            case _:
                self._time_request(event)

    def _time_request(self, event: Event) -> None:
        """Take up what an event tells about how long a model was asked."""
        now = self._now
        match event:
            case ModelAsked(step):
                words = f"request to {event.model}"
                self._of(step).open["request", event.number] = Bar("request", now, now, words)
            case ModelResponded(unknown="killed"):
                pass  # what was cut off is told where it was; this row only settles its cost
            case ModelResponded():
                rung = Rung.MAIN if event.continuity else Rung.SUBAGENT
                words = f"request to {event.asked}, {duration(event.seconds)}"
                here = self._of(event.step)
                here.open.pop(("request", event.number), None)
                here.bars.append(self._ended("request", event.seconds, words, rung))
            case _:
                pass

    def _ended(self, kind: BarKind, seconds: float, words: str, rung: Rung | None = None) -> Bar:
        return Bar(kind, max(0.0, self._now - seconds), self._now, words, rung)

    def _tell(self, event: Event) -> None:
        """Take up what an event tells about a step's course."""
        now = self._now
        match event:
            case AttemptStarted(step, number):
                here = self._of(step)
                here.attempt = number
                here.tools.clear()
            case AttemptFinished(step, attempt):
                self._tell_attempt(step, attempt)
            case SnapshotTaken(step, label, tree):
                here = self._of(step)
                if label.startswith("before"):
                    here.trees["before"] = tree
                here.trees[label] = tree
            case Decided(step, facts=facts):
                made = Made(len(self._decisions) + 1, now, step, _words(event), facts)
                self._decisions.append(made)
                self._of(step).told.append((now, made))
            case ToolCalled(step, tool, summary):
                how = f" (failed{f': {event.reason}' if event.reason else ''})"
                line = f"{tool} {summary}{how if event.failed else ''}"
                self._of(step).tools.append(line)
            case CommandFinished(step) if event.purpose != "agent":
                here = self._of(step)
                failed = event.exit_code != 0 or event.timed_out
                ran = Ran(now, _words(event), failed, event.log, event.purpose, here.attempt)
                here.told.append((now, ran))
            case _:
                self._tell_aside(event)

    def _tell_attempt(self, step: str, attempt: Attempt) -> None:
        here = self._of(step)
        after = here.trees.get(f"after attempt {attempt.number}", "")
        before = here.trees.get(f"before attempt {attempt.number}") or here.trees.get("before", "")
        begun = self._now - attempt.seconds
        tried = Tried(
            attempt.number,
            attempt.rung,
            attempt.model or "",
            max(0.0, begun),
            attempt,
            tuple(here.tools),
            before if after else "",
            after,
        )
        here.told.append((self._now, tried))
        here.tools.clear()
        if after:
            here.trees["before"] = after

    def _tell_aside(self, event: Event) -> None:
        """What stands beside attempts and commands, a line each."""
        match event:
            case Restored(step):
                self._of(step).told.append((self._now, _words(event)))
            case Notice(text, step):
                self._of(step).told.append((self._now, f"note: {text}"))
            case ModelRetried(step):
                self._of(step).told.append((self._now, event.words))
            case GitFact(step, action, facts):
                named = " ".join(f"{key} {value}" for key, value in facts.items() if value)
                self._of(step).told.append((self._now, f"git {action}: {named}"))
            case _:
                pass


def _words(event: Event) -> str:
    told = told_of(event)
    return told.text if told else ""


def _command_words(event: CommandFinished) -> str:
    return fit(_words(event) or f"{event.purpose}, {duration(event.seconds)}", _BAR)


def failed_commands(courses: Iterable[Course]) -> Sequence[Ran]:
    """Return the commands that failed, whose output a reader wants to see."""
    return [
        one for course in courses for _, one in course.told if isinstance(one, Ran) and one.failed
    ]


def mends(courses: Iterable[Course]) -> Sequence[tuple[str, Tried]]:
    """Return each step's attempts that changed the tree from one snapshot to another."""
    return [
        (course.id, one)
        for course in courses
        for _, one in course.told
        if isinstance(one, Tried) and one.before and one.after and one.before != one.after
    ]
