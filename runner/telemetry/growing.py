"""Spans that are not over yet: their ids, their parents, and what is cut off when one ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from runner.telemetry import identity, names
from runner.telemetry.nouns import Span, SpanEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.telemetry.nouns import Link, Value

Kind = Literal["internal", "server", "client"]
SECOND = 1_000_000_000
_LONGEST = 10 * 365 * 86_400.0
"""Seconds; a duration beyond it is none."""


def nanoseconds(seconds: float) -> int:
    """Return a duration; what is no sensible one is 0."""
    return round(seconds * SECOND) if 0 < seconds < _LONGEST else 0


class Growing:
    """A span under way; its fields are those of `Span`."""

    def __init__(
        self, span_id: str, parent: Growing | None, name: str, kind: Kind, start: int
    ) -> None:
        self.id, self.parent, self.name, self.start = span_id, parent, name, start
        self.kind: Kind = kind
        self.attributes: dict[str, Value] = {}
        self.status: Literal["unset", "error"] = "unset"
        self.message = ""
        self.links: list[Link] = []
        self.events: list[SpanEvent] = []
        self.least_end = start
        """When the last of the spans below ended."""

    def fail(self, error_type: str, message: str = "") -> None:
        """Let it end as an error."""
        self.status, self.message = "error", message
        self.attributes[names.ERROR_TYPE] = error_type

    def tell(self, name: str, at: int, attributes: Mapping[str, Value]) -> None:
        """Note what happened at one moment."""
        self.events.append(SpanEvent(name, at, dict(attributes)))


class Trace:
    """The spans of one life of a run, as they begin and end."""

    def __init__(self, run_id: str, life: int, trace_parent: str, trace_state: str) -> None:
        self.id = identity.trace_id(run_id, life, trace_parent)
        self.root_id = identity.root_id(run_id, life, trace_parent)
        parent = identity.parse_traceparent(trace_parent)
        self._outside = parent.span_id if parent else ""
        self._state = trace_state
        self._path = (run_id, str(life))
        self._used = {self.root_id}
        self._open: dict[str, Growing] = {}
        """In the order in which they began: children after their parents."""
        self._last = 0
        self._behind = 0
        """Nanoseconds that the clock was put back by until now."""

    def now(self, at: float) -> int:
        """Return a moment that is not before any other, even where the clock was put back."""
        moment = round(at * SECOND) + self._behind
        if moment < self._last:
            self._behind += self._last - moment
            moment = self._last
        self._last = moment
        return moment

    @property
    def last(self) -> int:
        """The latest moment that was asked for."""
        return self._last

    def spans(self) -> list[Growing]:
        """Return what is open, children after their parents."""
        return list(self._open.values())

    def is_open(self, span: Growing) -> bool:
        """Tell whether a span has not ended yet."""
        return self._open.get(span.id) is span

    def begin(
        self,
        path: tuple[str, ...],
        parent: Growing | None,
        name: str,
        start: int,
        *,
        kind: Kind = "internal",
        attributes: Mapping[str, Value] | None = None,
    ) -> Growing:
        """Open a span; nothing begins before its parent, or below one that is over.

        The root has no path and no parent.
        """
        while parent is not None and not self.is_open(parent):
            parent = parent.parent
        start = max(start, parent.start) if parent else start
        made = Growing(self._free_id(path), parent, name, kind, start)
        made.attributes |= attributes or {}
        self._open[made.id] = made
        return made

    def end(self, span: Growing, at: int) -> list[Span]:
        """Close a span and whatever is still open below it, which comes first."""
        ending = [one for one in self._open.values() if one is span or _below(one, span)]
        found = [self._closed(one, at) for one in reversed(ending)]
        for ended in found:
            del self._open[ended.span_id]
        return found

    def drop(self, span: Growing) -> None:
        """Forget a span that is open and turned out to be nothing; nothing is below it."""
        self._open.pop(span.id, None)

    def as_of(self, span: Growing, at: int) -> Span:
        """Return a span as if it ended now."""
        return self._closed(span, at)

    def _closed(self, span: Growing, at: int) -> Span:
        parent = span.parent.id if span.parent else self._outside
        # Some readers do not take a span without any length for one that has ended.
        end = max(at, span.start + 1, span.least_end)
        if span.parent is not None:
            span.parent.least_end = max(span.parent.least_end, end)
        return Span(
            trace_id=self.id,
            span_id=span.id,
            parent_id=parent,
            name=span.name,
            kind=span.kind,
            start=span.start,
            end=end,
            attributes=dict(span.attributes),
            status=span.status,
            message=span.message,
            links=tuple(span.links),
            events=tuple(span.events),
            trace_state=self._state,
        )

    def _free_id(self, path: tuple[str, ...]) -> str:
        """Derive an id; what goes by the same path once more is counted."""
        if not path:
            return self.root_id
        found, count = identity.span_id(self.id, *self._path, *path), 1
        while found in self._used:
            count += 1
            found = identity.span_id(self.id, *self._path, *path, str(count))
        self._used.add(found)
        return found


def _below(span: Growing, other: Growing) -> bool:
    parent = span.parent
    while parent is not None:
        if parent is other:
            return True
        parent = parent.parent
    return False
