"""Folds the events of a run into measurements: what it used, how long it took, how it ended.

Pure; the exporter hands them to OpenTelemetry. Attributes are of few values each, so that a
database can add runs up: ids of runs and attempts are for traces.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from runner.events import (
    AttemptFinished,
    ModelResponded,
    ModelRetried,
    RunFinished,
    RunStarted,
    StepFinished,
)
from runner.frozen import frozen
from runner.outcome import Rung
from runner.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.events import Event
    from runner.outcome import Attempt, Usage
    from runner.telemetry.nouns import Attributes


@frozen
class Instrument:
    """What is measured, in which unit."""

    kind: Literal["counter", "histogram"]
    unit: str
    """As UCUM writes it."""
    description: str
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram."""


@frozen
class Measure:
    """One measurement."""

    name: str
    """A key of `INSTRUMENTS`."""
    value: float
    attributes: Attributes


_SECONDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
_OPERATION = tuple(0.01 * 2**n for n in range(14))
"""The convention's own, 0.01 to 81.92 seconds:
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-metrics/"""

INSTRUMENTS: Mapping[str, Instrument] = {
    names.METRIC_TOKENS: Instrument(
        "counter", "{token}", "Tokens by model role and by the class that they are billed in."
    ),
    names.METRIC_COST: Instrument("counter", "{USD}", "Cost of model responses of known price."),
    names.METRIC_UNPRICED: Instrument(
        "counter", "{response}", "Model responses of which nobody knows the price."
    ),
    names.METRIC_OPERATION_SECONDS: Instrument(
        "histogram", "s", "Duration of a model request.", _OPERATION
    ),
    names.METRIC_RUN_SECONDS: Instrument("histogram", "s", "Duration of a run.", _SECONDS),
    names.METRIC_STEP_SECONDS: Instrument("histogram", "s", "Duration of a step.", _SECONDS),
    names.METRIC_STEPS: Instrument("counter", "{step}", "Steps by status and settling rung."),
    names.METRIC_ATTEMPTS: Instrument("counter", "{attempt}", "Attempts by rung and verdict."),
    names.METRIC_ESCALATIONS: Instrument(
        "counter", "{escalation}", "Failures that a higher rung was asked to mend."
    ),
    names.METRIC_RETRIES: Instrument(
        "counter", "{retry}", "Tries of a request that failed for a reason of the provider's."
    ),
    names.METRIC_PREFIX_BREAKS: Instrument(
        "counter", "{request}", "Requests of main that did not extend the one before."
    ),
}


class Metrics:
    """The fold. One run; in a resumed one only what this process did is measured."""

    def __init__(self) -> None:
        self._workflow: dict[str, str] = {}

    def add(self, event: Event) -> list[Measure]:
        """Return what an event measures."""
        match event:
            case RunStarted():
                self._workflow = {names.PIPELINE_NAME: event.workflow}
                return []
            case ModelResponded():
                return [*self._response(event)]
            case ModelRetried():
                return [self._one(names.METRIC_RETRIES, 1, {names.ROLE: event.role})]
            case AttemptFinished(attempt=attempt):
                return [*self._attempt(attempt)]
            case StepFinished():
                return [*self._step(event)]
            case RunFinished():
                return [*self._run(event)]
            case _:
                return []

    def _one(self, name: str, value: float, attributes: Attributes) -> Measure:
        return Measure(name, value, {**self._workflow, **attributes})

    def _response(self, event: ModelResponded) -> Iterator[Measure]:
        provider, _, model = event.asked.partition(":")
        who: Attributes = {names.ROLE: event.role, names.REQUEST_MODEL: model or provider}
        for kind, tokens in _classes(event.usage):
            if tokens:
                attributes = {**who, names.TOKEN_CLASS: kind}
                yield self._one(names.METRIC_TOKENS, tokens, attributes)
        if event.cost_usd is None:
            yield self._one(names.METRIC_UNPRICED, 1, who)
        else:
            yield self._one(names.METRIC_COST, float(event.cost_usd), who)
        operation: Attributes = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: provider,
            names.RESPONSE_MODEL: event.served,
        }
        yield self._one(names.METRIC_OPERATION_SECONDS, event.seconds, {**who, **operation})
        if event.continuity is not None and event.continuity.broken:
            yield self._one(names.METRIC_PREFIX_BREAKS, 1, {})

    def _attempt(self, attempt: Attempt) -> Iterator[Measure]:
        what: Attributes = {
            names.ATTEMPT_RUNG: attempt.rung.value,
            names.ATTEMPT_VERDICT: attempt.verdict.value,
        }
        yield self._one(names.METRIC_ATTEMPTS, 1, what)

    def _step(self, event: StepFinished) -> Iterator[Measure]:
        outcome = event.outcome
        rung = outcome.rung.value if outcome.rung else "none"
        what: Attributes = {names.STEP_STATUS: outcome.status.value, names.STEP_RUNG: rung}
        yield self._one(names.METRIC_STEPS, 1, what)
        if outcome.rung is not None:
            yield self._one(names.METRIC_STEP_SECONDS, outcome.seconds, what)
        rungs = [attempt.rung for attempt in outcome.attempts]
        for before, after in pairwise(rungs):
            if _HEIGHT[after] > _HEIGHT[before]:
                steps: Attributes = {
                    names.ESCALATE_FROM: before.value,
                    names.ESCALATE_TO: after.value,
                }
                yield self._one(names.METRIC_ESCALATIONS, 1, steps)

    def _run(self, event: RunFinished) -> Iterator[Measure]:
        what: Attributes = {
            names.PIPELINE_STATE: "executing",
            names.PIPELINE_RESULT: _RESULT[event.status],
            names.RUN_EXIT: event.exit_code,
        }
        yield self._one(names.METRIC_RUN_SECONDS, event.seconds, what)


_RESULT = {"succeeded": "success", "failed": "failure", "cancelled": "cancellation"}
_HEIGHT = {Rung.COMMAND: 0, Rung.SUBAGENT: 1, Rung.MAIN: 2}


def _classes(usage: Usage) -> tuple[tuple[str, int], ...]:
    """Split a response's tokens into classes that are billed apart; their sum is the whole."""
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    return (
        ("input", max(0, usage.input_tokens - read - written)),
        ("cache_read", read),
        ("cache_write", written),
        ("output", usage.output_tokens),
    )
