"""Folds events into spans and measurements and sends them: what the exporting thread works with."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from runner.events import RunResumed, RunStarted
from runner.telemetry import delivery as by
from runner.telemetry.metrics import Metrics
from runner.telemetry.resource import resource_attributes
from runner.telemetry.sdk import Converter, resource_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.events import Event
    from runner.telemetry.quiet import Quiet
    from runner.telemetry.settings import Sending
    from runner.telemetry.spans import Spans


class Export:
    """One run's way to the servers."""

    def __init__(
        self, sending: Sending, quiet: Quiet, environ: Mapping[str, str], spans: Spans
    ) -> None:
        """Make what needs no more than the variables, so that what is wrong is known at once.

        Raises:
            RunnerError: A package is not installed.
            ValueError: A variable is malformed.
        """
        self._sending, self._quiet, self._environ = sending, quiet, environ
        self._delivery = by.Delivery(sending.traces, quiet) if sending.traces else None
        self._spans, self._metrics = spans, Metrics()
        self._converter: Converter | None = None
        self._metering: by.Metering | None = None
        self._run = ""

    def add(self, event: Event, at: float, past: bool) -> None:  # noqa: FBT001  as it was queued
        """Take one event; a `past` one is of an earlier life, which measured it itself."""
        if isinstance(event, RunStarted):
            self._begin(event)
        if isinstance(event, RunStarted | RunResumed) and self._converter is not None:
            self._converter.begin(event.trace_parent)
        spans, measures = self._spans.add(event, at), self._metrics.add(event)
        if self._converter is None:
            return
        for span in spans:
            self._converter.hand(span)
        if self._metering is not None and not past:
            for measure in measures:
                self._metering.record(measure)

    def close(self, until: float) -> None:
        """Send what is left, spans and measurements at the same time."""
        if self._converter is None:
            return
        beside: threading.Thread | None = None
        if self._metering is not None:
            beside = threading.Thread(target=self._metering.close, args=(until,), daemon=True)
            beside.start()
        if self._delivery is not None:
            self._delivery.hurry(until)
        self._converter.shutdown()
        if beside is not None:
            beside.join(max(0.0, until - time.monotonic()))

    def missing(self, *, in_time: bool) -> str:
        """Say what did not arrive and where it can be found; empty when all did."""
        delivery, handed = self._delivery, self._converter.handed if self._converter else 0
        if delivery is not None and delivery.delivered < handed:
            lost = handed - delivery.delivered
            what = "the trace" if lost == handed else f"{lost} of {handed} spans"
            why = delivery.trouble if in_time else delivery.trouble or "no answer in time"
            later = f"; later: runner trace upload {self._run}"
            return f"{what} did not reach {self._sending.traces}: {why}{later}"
        if self._metering is not None and self._metering.trouble:
            return f"metrics did not reach {self._sending.metrics}: {self._metering.trouble}"
        return ""

    def _begin(self, started: RunStarted) -> None:
        self._run = started.run_id
        attributes = resource_attributes(started, self._environ)
        self._converter = Converter(attributes, by.processors(self._sending, self._delivery))
        if self._sending.metrics is not None:
            resource = resource_of(attributes)
            self._metering = by.Metering(self._sending.metrics, resource, self._quiet)
