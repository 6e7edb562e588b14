"""Makes spans of attempts, of the agents that work at them, and of the commands that judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.outcome import Rung, Verdict
from runner.plan import HOST, MAIN
from runner.telemetry import describing, names
from runner.telemetry.asking import unanswered
from runner.telemetry.life import Trying
from runner.telemetry.nouns import Link

if TYPE_CHECKING:
    from runner.events import (
        AttemptFinished,
        AttemptStarted,
        CommandFinished,
        CommandStarted,
        Decided,
        RunStarted,
        SnapshotTaken,
    )
    from runner.telemetry.growing import Growing
    from runner.telemetry.life import Life, Stepping
    from runner.telemetry.nouns import Span, Value

_HEIGHT = {Rung.COMMAND: 0, Rung.SUBAGENT: 1, Rung.MAIN: 2}
_PASSED = frozenset({Verdict.PASSED, Verdict.FLAKY})
_ENDED = "after attempt "
"""How the label of the snapshot begins that is taken when an agent has ended."""


def decided(life: Life, event: Decided, now: int) -> None:
    """Keep a decision for the attempt that follows; where none does, the step has it."""
    step = life.step(event.step)
    step.decided = event
    if event.decision == "GiveUp":
        attributes = describing.decision_attributes(event, content=life.content)
        attributes[names.DECISION_REASON] = life.private.text(event.reason)
        life.note(event.step, names.DECIDED_EVENT, now, attributes)


def attempt_started(life: Life, event: AttemptStarted, now: int) -> None:
    """Open an attempt, and the agent that works at it."""
    step, role = life.step(event.step), _role_of(life.started, event)
    attributes: dict[str, Value] = {
        names.STEP_ID: event.step,
        names.ATTEMPT_NUMBER: event.number,
        names.ATTEMPT_RUNG: str(event.rung),
        **({names.ATTEMPT_ROLE: role} if event.rung is not Rung.COMMAND else {}),
    }
    span = life.trace.begin(
        ("attempt", event.step, str(event.number)),
        life.home(event.step),
        names.ATTEMPT_SPAN.format(event.number, role),
        now,
        attributes=attributes,
    )
    step.trying = Trying(span, event.number, event.rung)
    _explain(life, step, span, event)
    if event.rung is not Rung.COMMAND and event.model != HOST:
        step.trying.agent = _begin_agent(life, event, span, now)


def attempt_finished(life: Life, event: AttemptFinished, now: int) -> list[Span]:
    """Close an attempt with its verdict."""
    step, attempt = life.step(event.step), event.attempt
    trying = life.trying(event.step, attempt.number)
    if trying is None:
        return []
    span, reason = trying.span, life.private.reason(attempt)
    if attempt.role:
        span.name = names.ATTEMPT_SPAN.format(attempt.number, attempt.role)
    span.attributes |= describing.attempt_attributes(attempt)
    span.attributes[names.ATTEMPT_REASON] = reason
    error = describing.attempt_error(attempt, judged=trying.judged, timed_out=trying.timed_out)
    if error:
        span.fail(error, reason)
    step.last = (attempt, span.id)
    return end_attempt(life, step, now)


def end_attempt(life: Life, step: Stepping, now: int) -> list[Span]:
    """Close what a step's attempt has open, as it is."""
    trying = step.trying
    if trying is None:
        return []
    ended = end_agent(life, step, now)
    trying.span.attributes |= trying.tally.attributes()
    step.trying = None
    return [*ended, *life.trace.end(trying.span, now)]


def snapshot(life: Life, event: SnapshotTaken, now: int) -> list[Span]:
    """End the agent where the tree is taken after it."""
    step = life.steps.get(event.step)
    if step is None or not event.label.startswith(_ENDED):
        return []
    return end_agent(life, step, now)


def end_agent(life: Life, step: Stepping, now: int) -> list[Span]:
    """Close the agent of a step's attempt; one that was never asked is no span."""
    trying = step.trying
    if trying is None or trying.agent is None:
        return []
    ended = settle(life, step, now)
    agent, trying.agent = trying.agent, None
    if trying.asked:
        return [*ended, *life.trace.end(agent, now)]
    # Money or a key was lacking before anything was asked.
    life.trace.drop(agent)
    return ended


def settle(life: Life, step: Stepping, now: int) -> list[Span]:
    """Hand out what was held back until more would be known of it."""
    trying = step.trying
    if trying is None:
        return []
    ended = unanswered(life, step, trying, now)
    for span, end in trying.held:
        ended += life.trace.end(span, end)
    trying.held = []
    return ended


def command_started(life: Life, event: CommandStarted, now: int) -> list[Span]:
    """Open a command where it belongs: below the agent, a check, an attempt, or the step."""
    step = life.step(event.step)
    above, ended = _above_command(life, step, event, now)
    number = str(event.number) if event.number else f"{event.step} {event.purpose}"
    span = life.trace.begin(
        ("command", number),
        above,
        describing.executable(event),
        now,
        kind="client",
        attributes=describing.command_attributes(event),
    )
    step.running.append((span, event))
    return ended


def command_finished(life: Life, event: CommandFinished, now: int) -> list[Span]:
    """Close a command, and with it the check that it is."""
    step = life.step(event.step)
    found = next((one for one in reversed(step.running) if _is(one[1], event)), None)
    if found is None:
        return []
    step.running.remove(found)
    span, trying, error = found[0], step.trying, describing.command_error(event)
    if not life.trace.is_open(span):
        return []
    span.attributes |= describing.output_attributes(event)
    if error:
        span.fail(error)
    if trying is None:
        return life.trace.end(span, now)
    if trying.agent is not None and span.parent is trying.agent:
        trying.held.append((span, now))
        return []
    trying.timed_out = event.timed_out
    ended = life.trace.end(span, now)
    if trying.check is not None and span.parent is trying.check:
        ended += _judged(life, trying, error, now)
    return ended


def _judged(life: Life, trying: Trying, error: str, now: int) -> list[Span]:
    check, trying.check, trying.judged = trying.check, None, True
    assert check is not None, "a command below it ended"
    check.attributes[names.EVALUATION_LABEL] = "fail" if error else "pass"
    if error:
        check.fail(names.CHECK_FAILED)
    return life.trace.end(check, now)


def _above_command(
    life: Life, step: Stepping, event: CommandStarted, now: int
) -> tuple[Growing, list[Span]]:
    trying = step.trying
    if trying is None:
        return life.home(step.id), []
    if event.purpose == "agent":
        trying.asked = True
        return trying.agent or trying.span, []
    if event.purpose != "check" or trying.rung is Rung.COMMAND:
        return trying.span, []
    ended = end_agent(life, step, now)
    attributes: dict[str, Value] = {names.STEP_ID: step.id, names.EVALUATION_NAME: step.id}
    trying.check = life.trace.begin(
        ("check", step.id, str(trying.number)),
        trying.span,
        names.CHECK_SPAN.format(step.id),
        now,
        attributes=attributes,
    )
    return trying.check, ended


def _begin_agent(life: Life, event: AttemptStarted, attempt: Growing, now: int) -> Growing:
    name = event.agent or (MAIN if event.rung is Rung.MAIN else "subagent")
    model = describing.model_attributes(event.model or "")
    attempt.attributes |= {
        names.AGENT_NAME: name,
        names.REQUEST_MODEL: model[names.REQUEST_MODEL],
    }
    attributes: dict[str, Value] = {
        names.OPERATION: names.INVOKE_AGENT,
        names.AGENT_NAME: name,
        names.STEP_ID: event.step,
    }
    return life.trace.begin(
        ("agent", event.step, str(event.number)),
        attempt,
        names.AGENT_SPAN.format(name),
        now,
        attributes=attributes | model,
    )


def _role_of(started: RunStarted, event: AttemptStarted) -> str:
    """Return the model role that an attempt is shown by; older journals name it at its end."""
    if event.role or event.rung is not Rung.SUBAGENT:
        return event.role or str(event.rung)
    models = started.models.items()
    own = (role for role, model in models if model == event.model and role != MAIN)
    return next(own, str(event.rung))


def _explain(life: Life, step: Stepping, span: Growing, event: AttemptStarted) -> None:
    """Say why an attempt is made: what the policy decided, and which attempt it follows."""
    decision, step.decided = step.decided, None
    reason = life.private.text(decision.reason) if decision else ""
    if decision is not None:
        span.attributes |= describing.decision_attributes(decision, content=life.content)
        span.attributes[names.DECISION_REASON] = reason
    if step.last is None or step.last[0].verdict in _PASSED:
        return
    before, its_span = step.last
    rises = _HEIGHT[event.rung] > _HEIGHT[before.rung]
    reason = reason or life.private.reason(before)
    why: dict[str, Value] = {
        names.LINK_KIND: names.ESCALATED_FROM if rises else names.RETRY_OF,
        names.LINK_REASON: reason,
    }
    span.links.append(Link(life.trace.id, its_span, why))
    # Some readers drop what a link says of itself.
    span.attributes |= {**why, names.ATTEMPT_PREVIOUS: its_span}
    if rises:
        told: dict[str, Value] = {
            names.ESCALATE_FROM: str(before.rung),
            names.ESCALATE_TO: str(event.rung),
            names.LINK_REASON: reason,
        }
        life.note(step.id, names.ESCALATE_EVENT, span.start, told)


def _is(begun: CommandStarted, ended: CommandFinished) -> bool:
    """Tell whether an end belongs to a beginning; older releases did not number them."""
    if begun.number or ended.number:
        return begun.number == ended.number
    return (begun.purpose, begun.command) == (ended.purpose, ended.command)
