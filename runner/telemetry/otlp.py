"""Writes spans as OTLP/JSON, one line for one batch.

https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids in hex, enums as numbers,
64-bit numbers as strings, names in lowerCamelCase.
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/: one `TracesData` in a line.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from runner.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.telemetry.nouns import Link, Span, SpanEvent, Value

KINDS = {"internal": 1, "server": 2, "client": 3}
STATUSES = {"unset": 0, "ok": 1, "error": 2}
_SAMPLED = 0x01
_KNOWN = 0x100
_REMOTE = 0x200
"""Bits of `flags`: whether it is known that the parent, or the linked span, is of another process.
https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/trace/v1/trace.proto"""


def line(spans: Sequence[Span], resource: Mapping[str, Value]) -> bytes:
    """Return spans as one line of a file, with its end."""
    text = json.dumps(traces(spans, resource), ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"


def traces(spans: Sequence[Span], resource: Mapping[str, Value]) -> dict[str, Any]:
    """Return what OTLP calls `TracesData`, or an `ExportTraceServiceRequest`."""
    version = resource.get(names.SERVICE_VERSION, "")
    scope = {
        "scope": {"name": names.SCOPE, "version": version},
        "spans": [_span(span) for span in spans],
        "schemaUrl": names.SCHEMA_URL,
    }
    return {
        "resourceSpans": [
            {"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}
        ]
    }


def _span(span: Span) -> dict[str, Any]:
    # Only the root of a run has a parent that is not of this run.
    remote = _REMOTE if span.kind == "server" and span.parent_id else 0
    found: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "traceState": span.trace_state,
        "parentSpanId": span.parent_id,
        "flags": _SAMPLED | _KNOWN | remote,
        "name": _text(span.name),
        "kind": KINDS[span.kind],
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
        "events": [_event(event) for event in span.events],
        "links": [_link(link) for link in span.links],
        "status": _status(span),
    }
    return {key: value for key, value in found.items() if value not in ("", [], {})}


def _status(span: Span) -> dict[str, Any]:
    if span.status == "unset":
        return {}
    found: dict[str, Any] = {"code": STATUSES[span.status]}
    return found | ({"message": _text(span.message)} if span.message else {})


def _event(event: SpanEvent) -> dict[str, Any]:
    return {
        "timeUnixNano": str(event.at),
        "name": _text(event.name),
        "attributes": _attributes(event.attributes),
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "traceId": link.trace_id,
        "spanId": link.span_id,
        "flags": _SAMPLED | _KNOWN,
        "attributes": _attributes(link.attributes),
    }


def _attributes(attributes: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": _text(key), "value": _value(value)} for key, value in attributes.items()]


def _value(value: Value) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value if math.isfinite(value) else _not_finite(value)}
        case tuple():
            return {"arrayValue": {"values": [{"stringValue": _text(one)} for one in value]}}
        case str():
            return {"stringValue": _text(value)}


def _text(text: str) -> str:
    """Return a text that has a UTF-8 form: what Python keeps of other bytes has none."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _not_finite(value: float) -> str:
    """Write what JSON has no number for (https://protobuf.dev/programming-guides/json/)."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
