"""Derives the ids of traces and spans from a run's own, and reads and writes `TRACEPARENT`.

Nothing is drawn at random, so whoever folds the same events gets the same ids, and a command can be
told its span before anybody has made one.

Formats: https://www.w3.org/TR/trace-context/ (traceparent, tracestate). In environment variables:
https://opentelemetry.io/docs/specs/otel/context/env-carriers/
"""

from __future__ import annotations

import hashlib
import re

from runner.frozen import frozen

SAMPLED = 0x01
RANDOM = 0x02
"""The trace id's last seven bytes are random: passed on, for it is said of the id.
https://www.w3.org/TR/trace-context-2/#random-trace-id-flag"""

_PARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})"
    r"-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?",
    re.DOTALL,
)
_STATE_KEY = re.compile(
    r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
)
_STATE_VALUE = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_MOST_MEMBERS = 32


@frozen
class TraceParent:
    """The span that somebody else has begun around us."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    flags: int = SAMPLED

    def __str__(self) -> str:
        """Write it as `TRACEPARENT` has it."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


def parse_traceparent(text: str) -> TraceParent | None:
    """Read a `TRACEPARENT`; `None` when it is malformed: then the caller begins a trace of its own.

    https://www.w3.org/TR/trace-context/#versioning-of-traceparent: a later version may have more
    behind the flags, set apart by a dash; version 00 has not, and version ff is forbidden.
    """
    found = _PARENT.fullmatch(text.strip(" \t"))
    if found is None or (found["more"] is not None and found["version"] == "00"):
        return None
    return TraceParent(found["trace"], found["span"], int(found["flags"], 16))


def parse_tracestate(text: str) -> str:
    """Return a `TRACESTATE` that can be passed on; empty when any part of it is malformed.

    https://www.w3.org/TR/trace-context/#tracestate-header-field-values
    """
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    keys = [member.partition("=")[0] for member in members]
    if len(members) > _MOST_MEMBERS or len(set(keys)) < len(keys):
        return ""
    return ",".join(members) if all(map(_is_member, members)) else ""


def _is_member(text: str) -> bool:
    key, _, value = text.partition("=")
    return bool(_STATE_KEY.fullmatch(key) and _STATE_VALUE.fullmatch(value))


def trace_id(run_id: str, life: int = 1, trace_parent: str = "") -> str:
    """Return the trace of one life of a run: its parent's where it has one, else its own."""
    parent = parse_traceparent(trace_parent)
    return parent.trace_id if parent else _digest(16, "trace", run_id, str(life))


def span_id(trace: str, *path: str) -> str:
    """Return the id of the span that *path* leads to; two runs in one trace differ in it."""
    return _digest(8, "span", trace, *path)


def root_id(run_id: str, life: int = 1, trace_parent: str = "") -> str:
    """Return the id of the span that stands for one life of a run."""
    return span_id(trace_id(run_id, life, trace_parent), run_id, str(life))


def command_id(run_id: str, life: int, trace_parent: str, number: int) -> str:
    """Return the id of the span of a run's *number*-th command."""
    trace = trace_id(run_id, life, trace_parent)
    return span_id(trace, run_id, str(life), "command", str(number))


def command_parent(run_id: str, life: int, trace_parent: str, number: int) -> str:
    """Return the `TRACEPARENT` for a run's *number*-th command: it names the command's own span."""
    return span_parent(run_id, life, trace_parent, "command", str(number))


def span_parent(run_id: str, life: int, trace_parent: str, *path: str) -> str:
    """Return the `TRACEPARENT` that names the span that *path* leads to."""
    trace, parent = trace_id(run_id, life, trace_parent), parse_traceparent(trace_parent)
    # Ours is recorded whatever the parent's flag says: the trace is there for the asking.
    flags = SAMPLED | (parent.flags & RANDOM if parent else 0)
    return str(TraceParent(trace, span_id(trace, run_id, str(life), *path), flags))


def _digest(size: int, *path: str) -> str:
    """Hash a path to *size* bytes of hex."""
    # Each part with its length, so that none runs into the next.
    text = "".join(f"{len(part)}:{part}" for part in path)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[: size * 2]
