"""Folds a run that is over, or goes on, into its spans at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.events import RunStarted
from runner.telemetry.resource import resource_attributes
from runner.telemetry.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.events import Event
    from runner.telemetry.nouns import Span, Value


def spans_of(
    happened: Iterable[tuple[Event, float]], *, alive: bool = False, content: bool = False
) -> tuple[list[Span], list[Span]]:
    """Return the spans that are over, and those that are not.

    Args:
        happened: Events with their times, in seconds since the epoch.
        alive: Whether the run goes on; what is open ended with the last event otherwise.
        content: Whether the spans hold prompts, tool arguments and answers.
    """
    spans, ended, last = Spans(content=content), list["Span"](), 0.0
    for event, last in happened:
        ended += spans.add(event, last)
    if alive:
        return ended, spans.open()
    return [*ended, *spans.close(last)], []


def resource_of(
    happened: Iterable[Event], environ: Mapping[str, str], *, host: str, pid: int
) -> dict[str, Value]:
    """Return what a run's spans are of; nothing of a run that did not begin."""
    started = next((event for event in happened if isinstance(event, RunStarted)), None)
    if started is None:
        return {}
    return resource_attributes(started, environ, host=host, pid=pid)
