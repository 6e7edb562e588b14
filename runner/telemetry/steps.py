"""Makes spans of steps, of their waiting, and of the run itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.outcome import Status
from runner.telemetry import describing, names
from runner.telemetry.attempts import end_agent, end_attempt, settle
from runner.telemetry.growing import nanoseconds

if TYPE_CHECKING:
    from runner.events import RunFinished, StepStarted, Waited
    from runner.outcome import StepOutcome
    from runner.telemetry.growing import Growing
    from runner.telemetry.life import Life, Stepping
    from runner.telemetry.nouns import Span, Value


def step_started(life: Life, event: StepStarted, now: int) -> list[Span]:
    """Open a step; where it waited for its turn, it began with the waiting."""
    step = life.step(event.step)
    span = _begin(life, step, now)
    if event.continued and event.step in life.earlier:
        span.links.append(life.earlier[event.step])
    return _settle_waits(life, step, span)


def waited(life: Life, event: Waited, now: int) -> list[Span]:
    """Show a wait; that of a step that has not begun yet, when it does."""
    step = life.step(event.step)
    start = now - nanoseconds(event.seconds)
    if step.span is not None:
        return _queue(life, step.span, event, start, now)
    step.waits.append((start, now, event))
    return []


def step_finished(life: Life, outcome: StepOutcome, now: int) -> list[Span]:
    """Close a step; one that never began is a moment, for its result is worth knowing."""
    step = life.step(outcome.id)
    ended = end_attempt(life, step, now)
    if step.span is None:
        _begin(life, step, now)
    span = step.span
    assert span is not None, "it has just begun"
    ended += _settle_waits(life, step, span)
    _describe_end(life, span, step, outcome)
    ended += life.trace.end(span, now)
    if outcome.id in life.plans:
        life.counts[names.STEPS_TOTAL] += 1
        life.counts[names.STEPS_FAILED] += outcome.status is Status.FAILED
    life.counts[names.STEPS_ESCALATED] += bool(span.attributes[names.STEP_ESCALATED])
    # The same id once more (delegated twice, say) is another span.
    del life.steps[outcome.id]
    return ended


def finish(life: Life, event: RunFinished, now: int) -> list[Span]:
    """End the run, and with it whatever told no end of its own."""
    ended = [span for step in life.steps.values() for span in end_agent(life, step, now)]
    life.sum_up()
    life.root.attributes |= describing.end_attributes(event)
    error = describing.run_error(event)
    if error:
        life.root.fail(error, event.lacked or f"exit {event.exit_code}")
    return [*ended, *life.trace.end(life.root, now)]


def cut_off(life: Life, now: int, error_type: str) -> list[Span]:
    """End everything as an error: nobody is there any more who could."""
    ended = [span for step in life.steps.values() for span in settle(life, step, now)]
    for step in life.steps.values():
        if step.span is not None:
            step.span.attributes |= step.tally.attributes()
        if step.trying is not None:
            step.trying.span.attributes |= step.trying.tally.attributes()
    life.sum_up()
    life.root.attributes[names.RUN_OUTCOME] = error_type
    life.root.attributes[names.PIPELINE_RESULT] = "error"
    for span in life.trace.spans():
        span.fail(error_type)
    return [*ended, *life.trace.end(life.root, now)]


def _begin(life: Life, step: Stepping, now: int) -> Growing:
    plan = life.plans.get(step.id)
    attributes: dict[str, Value] = {
        names.STEP_ID: step.id,
        names.TASK_NAME: step.id,
        names.TASK_RUN: f"{life.started.run_id}/{step.id}",
        **({names.STEP_KIND: plan.kind} if plan else {}),
    }
    step.span = life.trace.begin(
        ("step", step.id),
        life.above(step.id),
        names.STEP_SPAN.format(step.id),
        step.waits[0][0] if step.waits else now,
        attributes=attributes,
    )
    life.step_ids[step.id] = step.span.id
    return step.span


def _describe_end(life: Life, span: Growing, step: Stepping, outcome: StepOutcome) -> None:
    span.attributes |= describing.step_attributes(outcome) | step.tally.attributes()
    reason = life.private.text(outcome.reason)
    if reason:
        span.attributes[names.STEP_REASON] = reason
    if outcome.hint:
        span.attributes[names.STEP_HINT] = life.private.text(outcome.hint)
    if outcome.status is Status.FAILED:
        span.fail(describing.step_error(outcome), reason)
    if outcome.status is Status.CANCELLED:
        span.attributes[names.RUN_OUTCOME] = "cancelled"


def _settle_waits(life: Life, step: Stepping, span: Growing) -> list[Span]:
    waits, step.waits = step.waits, []
    ended: list[Span] = []
    for start, end, event in waits:
        ended += _queue(life, span, event, start, end)
    return ended


def _queue(life: Life, above: Growing, event: Waited, start: int, end: int) -> list[Span]:
    attributes: dict[str, Value] = {
        names.STEP_ID: event.step,
        names.WAIT_REASON: event.reason,
    }
    name = names.QUEUE_SPAN.format(event.step)
    made = life.trace.begin(("queue", event.step), above, name, start, attributes=attributes)
    return life.trace.end(made, end)
