"""Sends the trace of a run that is over, from its journal: to a server that was not there before.

Ids are derived from the run's, so that a trace that is sent twice is still one trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry.sdk.trace.export import SpanExportResult

from runner.errors import RunnerError, UsageError
from runner.events import RunResumed, RunStarted
from runner.telemetry.delivery import exporter
from runner.telemetry.quiet import Quiet
from runner.telemetry.reading import resource_of, spans_of
from runner.telemetry.sdk import converted
from runner.telemetry.settings import DISABLED, sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.journal import Record, RunRow
    from runner.telemetry.nouns import Span
    from runner.telemetry.settings import Target

BATCH = 512
"""Spans in one request, as the SDK's own batches."""


def target_of(environ: Mapping[str, str], otlp: str | None) -> Target:
    """Return where to send to.

    Raises:
        UsageError: No server is named, or telemetry is turned off.
    """
    if environ.get(DISABLED, "").strip().lower() == "true":
        raise UsageError(f"{DISABLED} turns all telemetry off", hint=f"Unset {DISABLED}.")
    # Which exporter and sampler runs have while they go on does not matter: this was asked for.
    asked = {name: value for name, value in environ.items() if name != "OTEL_TRACES_EXPORTER"}
    decided = sending(asked, otlp)
    if decided.traces is None:
        raise UsageError(
            "; ".join(decided.remarks) or "no server is named to send the trace to",
            hint="Give --otlp http://localhost:4318, or set OTEL_EXPORTER_OTLP_ENDPOINT.",
        )
    return decided.traces


def upload(
    row: RunRow,
    records: Iterable[Record],
    target: Target,
    environ: Mapping[str, str],
    progress: Callable[[int, int], None],
    *,
    content: bool = False,
) -> list[Span]:
    """Send a run's trace and return its spans.

    Args:
        row: The run's row in the journal.
        records: Its events.
        target: Where to.
        environ: Says what the trace is of, as while a run goes on.
        progress: Told how many spans of how many were taken, after each request.
        content: Whether spans hold prompts, tool arguments and answers.

    Raises:
        RunnerError: A request failed; what was sent before it is there.
    """
    known = [(record.event, record.at) for record in records]
    spans, _ = spans_of(known, alive=row.status == "running", content=content)
    if not spans:
        raise RunnerError(f"nothing of run {row.id} is over yet", hint="Send it when it is.")
    lives = [event for event, _ in known if isinstance(event, RunStarted | RunResumed)]
    resource = resource_of(lives, environ, host=row.host, pid=row.pid)
    ready = converted(spans, resource, [life.trace_parent for life in lives])
    with Quiet() as quiet:
        quiet.adopt()
        out, wire = exporter(target, patient=False)
        for at in range(0, len(ready), BATCH):
            batch = ready[at : at + BATCH]
            if out.export(batch) is not SpanExportResult.SUCCESS:
                said = quiet.said[-1] if quiet.said else "it is not known why"
                raise _failure(target, (wire.trouble if wire else "") or said, at)
            if wire is not None and wire.rejected:
                raise _failure(target, f"it did not keep {wire.rejected} spans", at)
            progress(at + len(batch), len(ready))
        out.shutdown()
    return spans


def _failure(target: Target, trouble: str, sent: int) -> RunnerError:
    hint = next((hint for what, hint in _HINTS if what in trouble), _HINT)
    before = f" (after {sent} spans)" if sent else ""
    return RunnerError(f"{target}: {trouble}{before}", hint=hint)


_HINT = "Send it again later: its ids stay the same."
_ADDRESS = (
    "OTLP over HTTP is taken at another address: http://HOST:4318 with Jaeger and most collectors."
)
_KEY = "Give its key in OTEL_EXPORTER_OTLP_HEADERS: NAME=VALUE."
_HINTS = (
    ("connection refused", "Is it running? Jaeger takes OTLP over HTTP at http://HOST:4318."),
    ("no such host", "Look at the address for a slip."),
    ("it points to", _ADDRESS),
    ("404", _ADDRESS),
    ("405", _ADDRESS),
    ("web page", _ADDRESS),
    ("415", "It takes no protobuf over HTTP; send to a collector in front of it."),
    ("401", _KEY),
    ("403", _KEY),
    ("certificate", "Name its authority's file in OTEL_EXPORTER_OTLP_CERTIFICATE."),
)
