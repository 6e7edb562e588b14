"""Makes spans of what agents do: requests to models, and calls of tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.telemetry import describing, names
from runner.telemetry.growing import Growing, nanoseconds
from runner.telemetry.messages import content_attributes

if TYPE_CHECKING:
    from runner.events import ModelResponded, ModelRetried, ToolCalled
    from runner.telemetry.life import Life, Stepping, Trying
    from runner.telemetry.nouns import Span, Value


def responded(life: Life, row: ModelResponded, now: int) -> list[Span]:
    """Show a request with all its tries; a keep-alive is nobody's, and below the root."""
    life.tally.add(row)
    trying = life.trying(row.step, row.attempt)
    if row.step in life.steps:
        life.steps[row.step].tally.add(row)
    attributes = describing.chat_attributes(row)
    attributes[names.CONVERSATION] = f"{life.started.run_id}/{row.conversation}"
    if row.step:
        attributes[names.STEP_ID] = row.step
    if life.content:
        attributes |= content_attributes(row.messages)
    span = life.trace.begin(
        ("chat", row.step, str(row.attempt)),
        _above(life, row.step, trying),
        _name(row.asked),
        now - nanoseconds(row.seconds),
        kind="client",
        attributes=attributes,
    )
    if trying is not None:
        trying.tally.add(row)
        _tell_retries(span, trying)
    error = describing.lost(row)
    if error:
        span.fail(error)
    return life.trace.end(span, now)


def retried(life: Life, event: ModelRetried, now: int) -> None:
    """Keep a try for the request that it belongs to."""
    trying = life.trying(event.step, event.attempt)
    if trying is not None:
        trying.asked = True
        trying.retries.append((now, event))


def unanswered(life: Life, step: Stepping, trying: Trying, now: int) -> list[Span]:
    """Show a request that was tried and never answered: nothing else tells of it."""
    if not trying.retries:
        return []
    began, last = trying.retries[0][0], trying.retries[-1][1]
    attributes: dict[str, Value] = {
        names.OPERATION: names.CHAT,
        **describing.model_attributes(last.model),
        names.ROLE: last.role,
        names.STEP_ID: step.id,
    }
    span = life.trace.begin(
        ("chat", step.id, str(trying.number)),
        _above(life, step.id, trying),
        _name(last.model),
        began,
        kind="client",
        attributes=attributes,
    )
    _tell_retries(span, trying)
    span.fail(describing.retry_error(last))
    return life.trace.end(span, now)


def called(life: Life, event: ToolCalled, now: int) -> list[Span]:
    """Show a call of a tool, and the command that it ran."""
    trying = life.trying(event.step, event.attempt)
    number = event.attempt or (trying.number if trying else 0)
    attributes: dict[str, Value] = {names.STEP_ID: event.step}
    span = life.trace.begin(
        ("tool", event.step, str(number), event.call),
        _above(life, event.step, trying),
        names.TOOL_SPAN.format(event.tool),
        now - nanoseconds(event.seconds),
        attributes=attributes | describing.tool_attributes(event, content=life.content),
    )
    if event.failed:
        span.fail("tool_failed", event.reason if life.content else "")
    ended: list[Span] = []
    if trying is not None and event.tool == "check":
        for command, end in trying.held:
            command.parent, command.start = span, max(command.start, span.start)
            ended += life.trace.end(command, end)
        trying.held = []
    return [*ended, *life.trace.end(span, now)]


def _above(life: Life, step: str, trying: Trying | None) -> Growing:
    if trying is None:
        return life.home(step)
    trying.asked = True
    return trying.agent or trying.span


def _name(model_id: str) -> str:
    return names.CHAT_SPAN.format(describing.provider_and_model(model_id)[1])


def _tell_retries(span: Growing, trying: Trying) -> None:
    retries, trying.retries = trying.retries, []
    if not retries:
        return
    span.attributes[names.RETRY_COUNT] = len(retries)
    for number, (at, event) in enumerate(retries, 1):
        told: dict[str, Value] = {
            names.ATTEMPT_NUMBER: number,
            names.RETRY_DELAY: event.delay,
            names.ERROR_TYPE: describing.retry_error(event),
        }
        span.tell(names.RETRY_EVENT, max(at, span.start), told)
