"""What holds of every trace, whatever the run was; shared by the tests of traces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.telemetry import Span


def roots(spans: Iterable[Span]) -> list[Span]:
    """Return the spans that stand for a life of a run."""
    return [span for span in spans if span.name.startswith("invoke_workflow ")]


def check_trees(spans: list[Span], *, outside: str = "") -> None:
    """Fail unless the spans are whole trees: one for each life of a run."""
    by_id = {span.span_id: span for span in spans}
    assert len(by_id) == len(spans), "ids are unique"
    for span in spans:
        assert re.fullmatch("[0-9a-f]{32}", span.trace_id)
        assert re.fullmatch("[0-9a-f]{16}", span.span_id)
        assert 0 < span.start < span.end
        assert (span.status == "error") == (names.ERROR_TYPE in span.attributes), span
        assert len(span.attributes) < 60
        if span.name.startswith("invoke_workflow "):
            assert span.parent_id == outside
            continue
        above = by_id[span.parent_id]
        assert above.trace_id == span.trace_id
        assert above.start <= span.start, (above.name, span.name)
        assert span.end <= above.end, (above.name, span.name)
        assert all(span.start <= event.at <= span.end for event in span.events)
        for link in span.links:
            assert by_id[link.span_id].trace_id == link.trace_id
