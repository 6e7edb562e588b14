"""Shows a run as plain lines, one for each change: for logs, pipes and CI jobs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from runner.console.money import CACHE_LOST
from runner.console.style import (
    Line,
    Span,
    Style,
    budget,
    count,
    duration,
    fit,
    glyphs_for,
    model_name,
    money,
    paint,
    plural,
)
from runner.console.summary import render_end
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandOutput,
    CommandStarted,
    Event,
    ModelResponded,
    ModelRetried,
    Notice,
    Restored,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFinished,
    StepStarted,
    TimedSink,
)
from runner.outcome import Attempt, Rung, Status, StepOutcome, Verdict
from runner.plan import KEEPALIVE
from runner.report import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from runner.console.stream import Quietly
    from runner.report import Report

HEARTBEAT = 30.0
"""Seconds after which a step that says nothing is named again."""

_LINE = 300
"""Columns of a line at most; nobody's log is wrapped at 80."""

_PURPOSES = {
    "run": "",
    "retry": "again ",
    "autofix": "autofix ",
    "check": "check ",
    "hook": "hook ",
    "stale": "again, for the tree has changed ",
    "clean": "on a clean checkout ",
}
"""What is said of a command by why it runs; commands that an agent asks for are left out."""

_STATUS_STYLE: dict[Status, Style] = {
    Status.SUCCEEDED: "ok",
    Status.FAILED: "bad",
    Status.CANCELLED: "warn",
}


class PlainConsole(TimedSink):
    """Writes a line for each change, and every `heartbeat` seconds one for what still runs."""

    def __init__(
        self,
        stream: Quietly,
        *,
        color: bool = False,
        quiet: bool = False,
        where: str = "",
        clock: Callable[[], float] = time.monotonic,
        heartbeat: float = HEARTBEAT,
    ) -> None:
        self._stream = stream
        self._color = color
        self._quiet = quiet
        self._where = where
        self._clock = clock
        self._tally = Tally()
        self._begun = clock()
        self._ended: RunFinished | None = None
        self._pulse = _Pulse(heartbeat, clock, self._say)
        self._roles: dict[str, str] = {}
        self._may_fail: Collection[str] = ()

    def continued(self, past: Iterable[tuple[Event, float]]) -> None:
        """Take up what is known of a run that is resumed; none of it is said again."""
        for event, _ in past:
            self._add(event)

    def hear(self, event: Event, at: float) -> None:
        """Show one event."""
        del at
        self._add(event)
        if isinstance(event, RunResumed) and not self._quiet:
            self._say("", _resumed_text(self._tally.report()), "bold")
        if isinstance(event, RunFinished):
            self._ended = event
        if self._quiet:
            return
        self._pulse.hear(event)
        told = tell(event, self._roles, self._may_fail)
        if told is not None:
            self._say(*told)

    def _add(self, event: Event) -> None:
        self._tally.add(event)
        if isinstance(event, RunStarted):
            self._begun = self._clock()
            self._roles, self._may_fail = dict(event.models), event.may_fail

    def close(self) -> None:
        """Stop, and say how the run ended if it did; `quiet` says so only when it was not well."""
        self._pulse.stop()
        ended, self._ended = self._ended, None
        if ended is None:
            return
        report = self._tally.report()
        if self._quiet and report.ok and report.prefix.unbroken:
            return
        eventful = not report.ok or any(rung.usage.requests for rung in report.rungs)
        text = render_end(
            report,
            width=self._stream.width(),
            color=self._color,
            glyphs=glyphs_for(self._stream.encoding),
            steps=eventful or self._quiet,
            where=self._where,
        )
        self._stream.write(text)
        self._stream.flush()

    def _say(self, step: str, text: str, style: Style = "") -> None:
        at = f"[{self._clock() - self._begun:6.1f}s] "
        name = f"{step}: " if step else ""
        line: Line = (Span(at, "dim"), Span(name, "bold"), Span(fit(text, _LINE), style))
        # One write for each line: the heartbeat's thread writes too.
        self._stream.write(paint([line], color=self._color))
        self._stream.flush()


def tell(
    event: Event, roles: dict[str, str], may_fail: Collection[str] = ()
) -> tuple[str, str, Style] | None:
    """Put an event into words: step, text, style; `None` where nothing changed for a reader."""
    match event:
        case RunStarted():
            return "", _begin_text(event), "bold"
        case CommandStarted(step, purpose, command) if purpose in _PURPOSES:
            return step, f"{_PURPOSES[purpose]}$ {command}", ""
        case AttemptStarted() if event.rung is not Rung.COMMAND:
            return event.step, _attempt_text(event, roles), ""
        case AttemptFinished(step, attempt) if _worth_a_line(attempt):
            return step, _verdict_text(attempt), "warn"
        case Restored(step, _, paths):
            return step, f"undid the changes to {plural(len(paths), 'path')}", ""
        case Notice(text, step):
            return step, f"note: {text}", "warn"
        case ModelRetried() | ModelResponded():
            return _model_text(event)
        case StepFinished(outcome):
            text, style = _outcome_text(outcome), _STATUS_STYLE.get(outcome.status, "dim")
            if outcome.status is Status.FAILED and outcome.id in may_fail:
                text, style = f"{text} (it may fail)", "warn"
            return outcome.id, text, style
        case _:
            return None


def _model_text(event: ModelRetried | ModelResponded) -> tuple[str, str, Style] | None:
    """Tell of retries, a lost cache and keep-alives; all other responses are an attempt's."""
    if isinstance(event, ModelRetried):
        return event.step, f"note: {event.words}", "warn"
    if event.continuity is not None and event.continuity.broken:
        return event.step, f"{CACHE_LOST}: {event.continuity.how}", "bad"
    if event.role != KEEPALIVE:
        return None
    read = count(event.usage.cache_read_tokens)
    return event.step, f"keep-alive of main: {read} cached, {money(event.cost_usd)}", "dim"


def _worth_a_line(attempt: Attempt) -> bool:
    """A command that passes is told by the step's own last line."""
    return attempt.rung is not Rung.COMMAND or attempt.verdict is not Verdict.PASSED


def _begin_text(event: RunStarted) -> str:
    limits = budget(event)
    parts = [f"run {event.run_id}", plural(len(event.steps), "step")]
    parts += [f"budget {limits}"] if limits else []
    parts += ["scripted"] if event.scripted else []
    parts += ["replayed"] if event.replayed else []
    return f"{event.workflow}: {', '.join(parts)}"


def _resumed_text(report: Report) -> str:
    done = sum(step.status in ("succeeded", "skipped") for step in report.steps)
    known = f"{done} of {plural(len(report.steps), 'step')} done before"
    return f"{report.workflow}: run {report.run_id} goes on, {known}"


def _attempt_text(event: AttemptStarted, roles: dict[str, str]) -> str:
    who = event.agent or event.rung.value
    model = model_name(event.model, roles)
    at = f"attempt {event.number} at rung {event.rung.value}"
    return f"{at}: {who}{f' on {model}' if model else ''}"


def _verdict_text(attempt: Attempt) -> str:
    text = f"attempt {attempt.number} {attempt.verdict.value}: {attempt.reason}"
    if attempt.rung is Rung.COMMAND:
        return text
    spent = f"{plural(attempt.requests, 'request')}, {money(attempt.cost_usd)}"
    files = f", {plural(len(attempt.files), 'file')} changed" if attempt.files else ""
    return f"{text} ({spent}{files})"


def _outcome_text(outcome: StepOutcome) -> str:
    spent = duration(outcome.seconds) if outcome.attempts or outcome.seconds else ""
    if outcome.cost_usd != 0:
        spent += f", {money(outcome.cost_usd)}"
    rung = f" at rung {outcome.rung.value}" if outcome.rung else ""
    text = f"{outcome.status.value}{rung}{f' ({spent})' if spent else ''}"
    return f"{text}: {outcome.reason}" if outcome.reason else text


class _Pulse:
    """Names what has been silent for long, from a thread of its own."""

    def __init__(
        self,
        every: float,
        clock: Callable[[], float],
        say: Callable[[str, str], None],
    ) -> None:
        self._every = every
        self._clock = clock
        self._say = say
        self._lock = threading.Lock()
        self._running: dict[str, tuple[float, float, str]] = {}
        """Step: when it began, when it was last named, its last line."""
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def hear(self, event: Event) -> None:
        """Note what runs and what it said last."""
        if self._every <= 0:
            return
        now = self._clock()
        match event:
            case StepStarted(step):
                with self._lock:
                    self._running[step] = (now, now, "")
                self._start()
            case CommandOutput(step, line):
                with self._lock:
                    begun, named, _ = self._running.get(step, (now, now, ""))
                    self._running[step] = (begun, named, line)
            case StepFinished(outcome):
                with self._lock:
                    self._running.pop(outcome.id, None)
            case CommandStarted(step) | AttemptStarted(step):
                with self._lock:
                    begun, _, line = self._running.get(step, (now, now, ""))
                    self._running[step] = (begun, now, line)
            case _:
                pass

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _start(self) -> None:
        if self._thread is None and not self._over.is_set():
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(self._every / 10):
            for step, begun, line in self._due(self._clock()):
                said = f": {line}" if line else ""
                self._say(step, f"still running after {duration(self._clock() - begun)}{said}")

    def _due(self, now: float) -> list[tuple[str, float, str]]:
        with self._lock:
            due = [
                (step, begun, line)
                for step, (begun, named, line) in self._running.items()
                if now - named >= self._every
            ]
            for step, begun, line in due:
                self._running[step] = (begun, now, line)
        return due
