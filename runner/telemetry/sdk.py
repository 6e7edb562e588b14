"""Turns spans into those of OpenTelemetry's SDK: same ids, same times, within the SDK's limits.

The provider is our own, never the process's global one: a program that we are a part of keeps its
traces apart from ours, and two runs in one process do as well.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from typing_extensions import override

from runner.telemetry import names
from runner.telemetry.identity import TraceParent, parse_traceparent
from runner.telemetry.resource import own_version
from runner.telemetry.settings import SAMPLER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.telemetry.nouns import Attributes, Span, Value

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_CODES = {"unset": StatusCode.UNSET, "ok": StatusCode.OK, "error": StatusCode.ERROR}


class Converter:
    """Makes SDK spans of ours and gives them to the SDK's own processors.

    Attributes:
        handed: How many spans went to the processors; what a sampler left out did not.
    """

    def __init__(
        self, resource: Attributes, processors: Sequence[SpanProcessor], *, sampled: bool = True
    ) -> None:
        """Read the SDK's variables.

        Args:
            resource: What the spans are of.
            processors: Where they go.
            sampled: Whether a sampler that the user chose may leave the run out.

        Raises:
            ValueError: One of them is malformed.
        """
        self._ids = _Ids()
        chosen = sampled and bool(os.environ.get(SAMPLER, "").strip())
        self._provider = TracerProvider(
            # The SDK's own default obeys a parent's flag: a CI's 00 would silence the run.
            sampler=None if chosen else ALWAYS_ON,
            resource=resource_of(resource),
            shutdown_on_exit=False,  # it would wait for half a minute
            id_generator=self._ids,
            meter_provider=NoOpMeterProvider(),
        )
        for processor in processors:
            self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer(names.SCOPE, own_version(), names.SCHEMA_URL)
        self._parents: dict[str, TraceParent] = {}
        """By trace: the span that somebody else has begun around ours."""
        self._sampled: dict[str, bool] = {}
        self.handed = 0

    def begin(self, trace_parent: str) -> None:
        """Take note of what a life of the run was started within; nothing, where empty."""
        parent = parse_traceparent(trace_parent)
        if parent is not None:
            self._parents[parent.trace_id] = parent

    def hand(self, span: Span) -> None:
        """Make an SDK span of one that is over and give it to the processors."""
        if not self._kept(span):
            return
        self._ids.trace, self._ids.span = int(span.trace_id, 16), int(span.span_id, 16)
        made = self._tracer.start_span(
            _text(span.name),
            self._around(span),
            _KINDS[span.kind],
            _clean(span.attributes),
            [_link(link.trace_id, link.span_id, link.attributes) for link in span.links],
            span.start,
        )
        if not made.is_recording():
            return  # a sampler of the user's own that does not decide by the trace
        for event in span.events:
            made.add_event(event.name, _clean(event.attributes), event.at)
        if span.status != "unset":
            message = _text(span.message) if span.status == "error" else None
            made.set_status(Status(_CODES[span.status], message))
        self.handed += 1
        made.end(span.end)

    def shutdown(self) -> None:
        """Let the processors send what they hold, and end them."""
        self._provider.shutdown()

    def _kept(self, span: Span) -> bool:
        """Ask the sampler, once for each trace: here children come before their parents."""
        if span.trace_id not in self._sampled:
            parent = self._parents.get(span.trace_id)
            context = _context(parent, remote=True) if parent else Context()
            asked = self._provider.sampler.should_sample(context, int(span.trace_id, 16), span.name)
            self._sampled[span.trace_id] = asked.decision.is_sampled()
        return self._sampled[span.trace_id]

    def _around(self, span: Span) -> Context:
        """Return the context that a span begins in: its parent, or nothing at all."""
        if not span.parent_id:
            return Context()
        parent = self._parents.get(span.trace_id)
        if parent is not None and parent.span_id == span.parent_id:
            return _context(parent, remote=True, state=span.trace_state)
        own = TraceParent(span.trace_id, span.parent_id)
        return _context(own, remote=False, state=span.trace_state)


class Kept(SpanProcessor):
    """Keeps all spans, for who sends them in one go."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    @override
    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


def resource_of(attributes: Attributes) -> Resource:
    """Return what the spans are of, with the SDK's own name and version.

    Without the process: a resumed run, or an upload, sends the spans of an earlier one again, and a
    server takes a span for the same only when it is of the same.
    """
    kept = {name: value for name, value in attributes.items() if name != names.PROCESS_ID}
    return Resource.create(_clean(kept))


class _Ids(IdGenerator):
    """Gives the ids that the fold derived, in place of random ones."""

    trace = 0
    span = 0

    @override
    def generate_span_id(self) -> int:
        return self.span

    @override
    def generate_trace_id(self) -> int:
        return self.trace

    @override
    def is_trace_id_random(self) -> bool:
        return True  # derived by a hash: as evenly spread as drawn ones


def _context(parent: TraceParent, *, remote: bool, state: str = "") -> Context:
    context = SpanContext(
        int(parent.trace_id, 16),
        int(parent.span_id, 16),
        remote,
        TraceFlags(parent.flags),
        TraceState.from_header([state]) if state else None,
    )
    return set_span_in_context(NonRecordingSpan(context), Context())


def _link(trace: str, span: str, attributes: Attributes) -> Link:
    context = SpanContext(int(trace, 16), int(span, 16), is_remote=False)
    return Link(context, _clean(attributes))


def _clean(attributes: Attributes) -> dict[str, str | bool | int | float | Sequence[str]]:
    return {_text(name): _value(value) for name, value in attributes.items()}


def _value(value: Value) -> str | bool | int | float | Sequence[str]:
    match value:
        case str():
            return _text(value)
        case tuple():
            return tuple(map(_text, value))
        case _:
            return value


def _text(text: str) -> str:
    """Return a text that can be sent: one lone half of a character would lose a whole batch."""
    return text.encode("utf-8", "replace").decode()


def converted(
    spans: Iterable[Span], resource: Attributes, trace_parents: Iterable[str]
) -> list[ReadableSpan]:
    """Make SDK spans of all spans of a run."""
    kept = Kept()
    converter = Converter(resource, [kept], sampled=False)
    for parent in trace_parents:
        converter.begin(parent)
    for span in spans:
        converter.hand(span)
    return kept.spans
