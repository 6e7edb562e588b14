"""Folds the events of a run into the spans of its trace.

invoke_workflow NAME
  step ID
    queue ID                    where it waited for a slot or for the tree
    attempt N ROLE
      EXECUTABLE                a command
      invoke_agent NAME
        chat MODEL
        execute_tool NAME
          EXECUTABLE            the step's own command, run on the agent's request
        step ID/OTHER           what the agent delegated
      check ID                  the command judges the mend
        EXECUTABLE

Nothing here fails, whatever the events are: those of older releases lack numbers, those of a run
that was killed lack their ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    CommandStarted,
    Decided,
    GitFact,
    ModelResponded,
    ModelRetried,
    Notice,
    Restored,
    RunFinished,
    RunResumed,
    RunStarted,
    SnapshotTaken,
    StepFinished,
    StepStarted,
    ToolCalled,
    Waited,
)
from runner.telemetry import asking, attempts, describing, names, steps
from runner.telemetry.growing import Trace
from runner.telemetry.life import Life
from runner.telemetry.nouns import Link, Span, SpanEvent, Value

if TYPE_CHECKING:
    from runner.events import Event

__all__ = ["Link", "Span", "SpanEvent", "Spans", "Value"]


class Spans:
    """The spans of one run, folded from its events in their order."""

    def __init__(self, *, content: bool = False) -> None:
        """*content* puts prompts, tool arguments and answers into the spans, too."""
        self._content = content
        self._started: RunStarted | None = None
        self._life: Life | None = None
        self._before: Link | None = None
        """To the root of the life before."""
        self._steps_before: dict[str, Link] = {}

    def add(self, event: Event, at: float) -> list[Span]:
        """Take one event, which happened *at* (seconds since the epoch).

        Returns:
            The spans that are over with it; children may come before their parents.
        """
        if isinstance(event, RunStarted):
            ended = self.close(at)
            self._started, self._before, self._steps_before = event, None, {}
            self._begin(1, event.trace_parent, event.trace_state, at)
            return ended
        if isinstance(event, RunResumed):
            return self._resume(event, at)
        life = self._life
        if life is None:
            return []
        if isinstance(event, RunFinished):
            ended = steps.finish(life, event, life.trace.now(at))
            self._end(life)
            return ended
        return _of_steps(life, event, life.trace.now(at))

    def open(self) -> list[Span]:
        """Return what is open as if it ended now, parents first."""
        if self._life is None:
            return []
        trace = self._life.trace
        return [trace.as_of(span, trace.last) for span in trace.spans()]

    def close(self, at: float, error_type: str = names.KILLED) -> list[Span]:
        """End what was open when the process died; *at* is the time of the last event."""
        if self._life is None:
            return []
        return self._cut_off(self._life, self._life.trace.now(at), error_type)

    def _resume(self, event: RunResumed, at: float) -> list[Span]:
        if self._started is None:
            return []
        ended: list[Span] = []
        if self._life is not None:
            # It ended when its last event came, not when somebody took the run up again.
            ended = self._cut_off(self._life, self._life.trace.last, names.KILLED)
        self._begin(event.life, event.trace_parent, event.trace_state, at).root.attributes |= (
            {names.EXTERNAL: len(event.external)} if event.external else {}
        )
        return ended

    def _cut_off(self, life: Life, at: int, error_type: str) -> list[Span]:
        ended = steps.cut_off(life, at, error_type)
        self._end(life)
        return ended

    def _begin(self, number: int, trace_parent: str, trace_state: str, at: float) -> Life:
        assert self._started is not None, "a life is a run's"
        trace = Trace(self._started.run_id, number, trace_parent, trace_state)
        self._life = Life(
            self._started,
            number,
            trace,
            trace.now(at),
            content=self._content,
            earlier=self._steps_before,
        )
        if self._before is not None:
            self._life.root.links.append(self._before)
        return self._life

    def _end(self, life: Life) -> None:
        self._life = None
        kind: dict[str, Value] = {names.LINK_KIND: names.RESUME_OF}
        self._before = Link(life.trace.id, life.root.id, kind)
        self._steps_before |= {
            step: Link(life.trace.id, span, kind) for step, span in life.step_ids.items()
        }


def _of_steps(life: Life, event: Event, now: int) -> list[Span]:
    match event:
        case StepStarted():
            return steps.step_started(life, event, now)
        case Waited():
            return steps.waited(life, event, now)
        case StepFinished(outcome):
            return steps.step_finished(life, outcome, now)
        case CommandStarted():
            return attempts.command_started(life, event, now)
        case CommandFinished():
            return attempts.command_finished(life, event, now)
        case _:
            return _of_attempts(life, event, now)


def _of_attempts(life: Life, event: Event, now: int) -> list[Span]:
    match event:
        case AttemptStarted():
            attempts.attempt_started(life, event, now)
            return []
        case AttemptFinished():
            return attempts.attempt_finished(life, event, now)
        case SnapshotTaken():
            return attempts.snapshot(life, event, now)
        case ModelResponded():
            return asking.responded(life, event, now)
        case ToolCalled():
            return asking.called(life, event, now)
        case _:
            _notes(life, event, now)
            return []


def _notes(life: Life, event: Event, now: int) -> None:
    """Take what becomes no span; most of the rest tells nothing of spans at all."""
    match event:
        case ModelRetried():
            asking.retried(life, event, now)
        case Decided():
            attempts.decided(life, event, now)
        case Restored():
            count: dict[str, Value] = {names.RESTORED_PATHS: len(event.paths)}
            life.note(event.step, names.RESTORED_EVENT, now, count)
        case Notice():
            text = life.private.text(event.text)
            life.note(event.step, names.NOTICE_EVENT, now, {names.NOTICE_TEXT: text})
        case GitFact():
            life.note(event.step, names.GIT_EVENT, now, describing.git_attributes(event))
        case _:
            pass
