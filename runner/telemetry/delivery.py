"""Sends SDK spans and measurements while a run goes on, and counts what arrived.

At the end there is little time: a request that hangs is left alone, a wait between two tries is cut
short and tried once more, and a server that gave no answer is not asked again.
"""

from __future__ import annotations

import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import Counter, Histogram, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from typing_extensions import override

from runner.errors import RunnerError
from runner.telemetry import names
from runner.telemetry.metrics import INSTRUMENTS
from runner.telemetry.wire import Wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    from runner.telemetry.metrics import Measure
    from runner.telemetry.quiet import Quiet
    from runner.telemetry.settings import Sending, Target

GRPC = "opentelemetry-exporter-otlp-proto-grpc"


class Delivery(SpanExporter):
    """The SDK's own exporter, with a count and a way to be hurried.

    Attributes:
        delivered: Spans that the server took.
        trouble: Why the last batch was not taken; empty while all is well.
    """

    def __init__(self, target: Target, quiet: Quiet) -> None:
        """Make the exporter.

        Raises:
            RunnerError: It speaks a protocol whose package is not installed.
        """
        self._target, self._quiet = target, quiet
        self._exporter, self._wire = exporter(target)
        self._busy = threading.Lock()
        self._hurried = self._lost = False
        self.delivered, self.trouble = 0, ""

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._quiet.adopt()
        if self._hurried and self._lost:
            return SpanExportResult.FAILURE
        with self._busy:
            asked, wire = self._exporter, self._wire
            result = asked.export(spans)
        if result is not SpanExportResult.SUCCESS and asked is not self._exporter:
            # Hurried in the midst of it: what was cut short gets its last try.
            wire = self._wire
            result = self._exporter.export(spans)
        self._count(len(spans), wire, result)
        return result

    def hurry(self, until: float) -> None:
        """End by `time.monotonic()` *until*; told from another thread."""
        self._hurried = True
        if self._busy.acquire(blocking=False):
            self._busy.release()
            if self._wire is not None:
                self._wire.until = until
            return
        # It is in a request, or waits for seconds before it tries again.
        before = self._exporter
        self._exporter, self._wire = exporter(self._target, until)
        before.shutdown()

    @override
    def shutdown(self) -> None:
        self._exporter.shutdown()

    def _count(self, spans: int, wire: Wire | None, result: SpanExportResult) -> None:
        rejected = 0
        if wire is not None:
            rejected, wire.rejected = wire.rejected, 0
        if result is SpanExportResult.SUCCESS:
            self.delivered += max(0, spans - rejected)
            self.trouble = f"it did not keep {rejected} spans" if rejected else ""
            self._lost = False
            return
        self._lost = True
        # A chosen exporter's own word where we see no more of it.
        said = self._quiet.said[-1] if self._quiet.said else "it is not known why"
        self.trouble = (wire.trouble if wire else "") or said


def exporter(
    target: Target, until: float | None = None, *, patient: bool = True
) -> tuple[SpanExporter, Wire | None]:
    """Make the SDK's exporter of spans, and the wire below it where we lay that.

    Args:
        target: Where to.
        until: As `Wire` has it.
        patient: Whether to try again where nobody listens.

    Raises:
        RunnerError: It speaks a protocol whose package is not installed.
    """
    if target.protocol == "grpc":
        made = _grpc("trace_exporter").OTLPSpanExporter(endpoint=target.url)
        return cast("SpanExporter", made), None
    wire = Wire(until, patient=patient)
    return OTLPSpanExporter(endpoint=target.url, session=wire.session()), wire


def processors(sending: Sending, delivery: Delivery | None) -> list[SpanProcessor]:
    """Return what spans go through: in batches to the server, at once to the console."""
    found: list[SpanProcessor] = []
    if delivery is not None:
        found.append(BatchSpanProcessor(delivery, meter_provider=NoOpMeterProvider()))
    if sending.console:
        # stdout is for results.
        found.append(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stderr)))
    return found


class Metering:
    """Gives measurements to the SDK, which sends their sums now and then, and at the end."""

    def __init__(self, target: Target, resource: Resource, quiet: Quiet) -> None:
        """Make the provider.

        Raises:
            RunnerError: It speaks a protocol whose package is not installed.
        """
        self._wire = Wire() if target.protocol == "http/protobuf" else None
        self._provider = MeterProvider(
            [_Reader(_metric_exporter(target, self._wire), quiet)],
            resource,
            shutdown_on_exit=False,
        )
        self._meter = self._provider.get_meter(names.SCOPE)
        self._made: dict[str, Counter | Histogram] = {}

    def record(self, measure: Measure) -> None:
        """Add one measurement."""
        made = self._made.get(measure.name)
        if made is None:
            made = self._made[measure.name] = self._make(measure.name)
        if isinstance(made, Counter):
            made.add(measure.value, measure.attributes)
        else:
            made.record(measure.value, measure.attributes)

    def close(self, until: float) -> None:
        """Send what there is, by `time.monotonic()` *until*."""
        if self._wire is not None:
            self._wire.until = until
        self._provider.shutdown(timeout_millis=max(1.0, (until - time.monotonic()) * 1000))

    @property
    def trouble(self) -> str:
        """Why the last sums did not arrive; empty where the server just takes no metrics."""
        if self._wire is None or self._wire.status in _NO_METRICS:
            return ""
        return self._wire.trouble

    def _make(self, name: str) -> Counter | Histogram:
        what = INSTRUMENTS[name]
        if what.kind == "counter":
            return self._meter.create_counter(name, what.unit, what.description)
        return self._meter.create_histogram(
            name, what.unit, what.description, explicit_bucket_boundaries_advisory=what.buckets
        )


_NO_METRICS = (400, 404, 405, 415, 501)
"""How servers of traces alone answer: Jaeger 404, Phoenix 405."""


class _Reader(PeriodicExportingMetricReader):
    def __init__(self, exporter: MetricExporter, quiet: Quiet) -> None:
        self._quiet = quiet
        super().__init__(exporter)

    @override
    def _receive_metrics(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> None:
        self._quiet.adopt()
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]  its `kwargs`


def _metric_exporter(target: Target, wire: Wire | None) -> MetricExporter:
    if wire is None:
        made = _grpc("metric_exporter").OTLPMetricExporter(endpoint=target.url)
        return cast("MetricExporter", made)
    return OTLPMetricExporter(endpoint=target.url, session=wire.session())


def _grpc(module: str) -> Any:
    try:
        return import_module(f"opentelemetry.exporter.otlp.proto.grpc.{module}")
    except ImportError as error:
        raise RunnerError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs the package {GRPC}",
            hint="Install it beside the runner, or set the variable to http/protobuf and the "
            "endpoint to the server's port for that, 4318 as a rule.",
        ) from error
