"""Takes the trace that a run belongs to from its environment, and hands it to what the run starts.

The names in the environment: https://opentelemetry.io/docs/specs/otel/context/env-carriers/
`BAGGAGE` is not handed on: nobody who runs a workflow asked for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.telemetry import identity

if TYPE_CHECKING:
    from collections.abc import Mapping

TRACEPARENT = "TRACEPARENT"
TRACESTATE = "TRACESTATE"
DISABLED = "OTEL_SDK_DISABLED"
"""`true` turns all telemetry off
(https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/)."""
_EXPORT = "OTEL_EXPORTER_"


@frozen
class Carrier:
    """Tells each command of one life of a run the span that it belongs to."""

    run_id: str
    life: int = 1
    trace_parent: str = ""
    """As the run was given it; empty where it was given none that is well formed."""
    trace_state: str = ""
    on: bool = True
    """Whether the run has a trace; where not, what it was given passes through."""

    def command(self, number: int) -> dict[str, str]:
        """Return the variables for the run's *number*-th command."""
        return self._variables("command", str(number))

    def tool(self, step: str, attempt: int, call: str) -> dict[str, str]:
        """Return the variables for what an agent's tool runs."""
        return self._variables("tool", step, str(attempt), call)

    def _variables(self, *path: str) -> dict[str, str]:
        parent = self.trace_parent
        if self.on:
            parent = identity.span_parent(self.run_id, self.life, parent, *path)
        named = {TRACEPARENT: parent, TRACESTATE: self.trace_state}
        return {name: value for name, value in named.items() if value}


def carrier_of(environ: Mapping[str, str], run_id: str, life: int = 1) -> Carrier:
    """Read what a run's environment says of its trace; what is malformed was not said."""
    parent = identity.parse_traceparent(environ.get(TRACEPARENT, ""))
    if parent is None:
        return Carrier(run_id, life, on=is_on(environ))
    state = identity.parse_tracestate(environ.get(TRACESTATE, ""))
    return Carrier(run_id, life, environ[TRACEPARENT].strip(" \t"), state, is_on(environ))


def is_on(environ: Mapping[str, str]) -> bool:
    """Tell whether telemetry is wanted: it is, unless somebody turned it off."""
    return environ.get(DISABLED, "").strip().lower() != "true"


def without_export(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the settings of where telemetry is sent, and with which keys.

    An agent chose what runs in it.
    """
    return {name: value for name, value in env.items() if not name.startswith(_EXPORT)}
