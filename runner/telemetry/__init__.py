"""A run as an OpenTelemetry trace, folded from its events alone.

The live exporter, the file beside the journal and `runner trace` of a run that was killed hours ago
all show the same spans under the same ids, for ids are derived, never drawn.
OpenTelemetry's own packages are needed only for sending, and imported only there.
"""

from runner.telemetry.nouns import Link, Span, SpanEvent, Value

__all__ = ["Link", "Span", "SpanEvent", "Value"]
