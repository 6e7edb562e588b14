"""What a trace is made of; OpenTelemetry's own data model, without its packages.

https://opentelemetry.io/docs/specs/otel/trace/api/#span
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from runner.frozen import frozen

Value = str | bool | int | float | tuple[str, ...]
"""An attribute's value: what OTLP calls string, bool, int, double and an array of strings."""

Attributes = Mapping[str, Value]


@frozen
class Link:
    """Another span that this one has to do with, that is not its parent."""

    trace_id: str
    span_id: str
    attributes: Attributes = field(default_factory=dict[str, Value])


@frozen
class SpanEvent:
    """Something that happened at one moment of a span."""

    name: str
    at: int
    """Nanoseconds since the epoch."""
    attributes: Attributes = field(default_factory=dict[str, Value])


@frozen(kw_only=True)
class Span:
    """One piece of a run's work that is over."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_id: str
    """16 hex digits; empty for a root."""
    name: str
    kind: Literal["internal", "server", "client"]
    start: int
    """Nanoseconds since the epoch."""
    end: int
    """The same; never before `start`."""
    attributes: Attributes
    status: Literal["unset", "ok", "error"]
    message: str = ""
    """Of an error, for people."""
    links: tuple[Link, ...] = ()
    events: tuple[SpanEvent, ...] = ()
    trace_state: str = ""
