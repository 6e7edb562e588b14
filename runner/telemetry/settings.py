"""Decides from the standard `OTEL_*` variables whether and where a run is exported live.

Only what must be known before the SDK is imported; all else (headers, compression, certificates,
batches, limits) the SDK reads for itself.
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit, urlunsplit

from runner.errors import UsageError
from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
DISABLED = "OTEL_SDK_DISABLED"
SAMPLER = "OTEL_TRACES_SAMPLER"

Signal = Literal["traces", "metrics"]
Protocol = Literal["http/protobuf", "grpc"]


@frozen
class Target:
    """Where one signal goes."""

    url: str
    """Of the signal itself for `http/protobuf`, of the server for `grpc`; empty: to the console."""
    protocol: Protocol = "http/protobuf"

    def __str__(self) -> str:
        """Say where, without a password that the address may hold."""
        return without_password(self.url)


@frozen
class Sending:
    """What is exported while a run goes on; `None` is not."""

    traces: Target | None
    metrics: Target | None
    console: bool = False
    """Whether finished spans are also written to stderr, as `OTEL_TRACES_EXPORTER=console` asks."""
    remarks: tuple[str, ...] = ()
    """What was asked for and is not done, in one line each."""

    def __bool__(self) -> bool:
        """Whether anything is exported at all."""
        return bool(self.traces or self.metrics or self.console)


NOTHING = Sending(None, None)


def sending(environ: Mapping[str, str], otlp: str | None = None) -> Sending:
    """Decide what is exported and where.

    Args:
        environ: The process's environment.
        otlp: Address of a server given on the command line; it comes before the environment's.

    Raises:
        UsageError: *otlp* is no address.
    """
    base = checked(otlp) if otlp else ""
    if _is_true(environ.get(DISABLED, "")):
        return NOTHING
    remarks: list[str] = []
    wanted = {signal: _exporters(environ, signal, remarks) for signal in ("traces", "metrics")}
    found = {
        signal: _target(environ, signal, base, remarks) if "otlp" in wanted[signal] else None
        for signal in ("traces", "metrics")
    }
    decided = Sending(
        found["traces"],
        found["metrics"],
        console="console" in wanted["traces"],
        remarks=tuple(dict.fromkeys(remarks)),
    )
    given = base or any(environ.get(name, "").strip() for name in _ENDPOINTS)
    # Where nothing is to be sent, what is wrong with the other variables is not ours to say.
    return decided if decided or given else NOTHING


def checked(otlp: str) -> str:
    """Return the address of an OTLP server without the path of a signal.

    Raises:
        UsageError: It is none.
    """
    base = otlp.strip().rstrip("/")
    for signal in ("traces", "metrics"):
        base = base.removesuffix(f"/v1/{signal}")
    if not _is_address(base):
        raise UsageError(
            f"--otlp {otlp}: not an address",
            hint="Write --otlp http://localhost:4318, the server's port for OTLP over HTTP.",
        )
    return base


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def without_password(url: str) -> str:
    """Return an address as it may be shown: what stands before the `@` is left out."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ascii(url.rpartition("@")[2].partition("?")[0])
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _exporters(environ: Mapping[str, str], signal: Signal, remarks: list[str]) -> frozenset[str]:
    """Read `OTEL_TRACES_EXPORTER` or `OTEL_METRICS_EXPORTER`: a list, `otlp` by default."""
    name = f"OTEL_{signal.upper()}_EXPORTER"
    given = environ.get(name, "").strip().lower()
    chosen = frozenset(part.strip() for part in given.split(",") if part.strip())
    if not chosen:
        return frozenset({"otlp"})
    known = {"otlp", "console", "none"} if signal == "traces" else {"otlp", "none"}
    remarks.extend(
        f"{name}: {other!r} is not spoken here, otlp is" for other in sorted(chosen - known)
    )
    return frozenset() if "none" in chosen else chosen & known


def _target(
    environ: Mapping[str, str], signal: Signal, base: str, remarks: list[str]
) -> Target | None:
    specific = f"OTEL_EXPORTER_OTLP_{signal.upper()}_"
    own = "" if base else environ.get(f"{specific}ENDPOINT", "").strip()
    base = base or environ.get(ENDPOINT, "").strip()
    if not own and not base:
        return None
    name = f"{specific}PROTOCOL" if environ.get(f"{specific}PROTOCOL") else _PROTOCOL
    protocol = environ.get(name, "").strip().lower() or "http/protobuf"
    if protocol == "grpc":
        return Target(own or base, "grpc")
    if protocol != "http/protobuf":
        remarks.append(f"{name}: {protocol!r} is not spoken here, http/protobuf is used")
    url = own or f"{base.rstrip('/')}/v1/{signal}"
    if not _is_address(url):
        missing = "" if url.startswith(("http://", "https://")) else ": http:// is missing"
        remarks.append(f"{without_password(url)} is no address for OTLP{missing}")
        return None
    return Target(url)


def _is_true(value: str) -> bool:
    """Read a boolean variable: only `true`, in any case, is true; as the specification says."""
    return value.strip().lower() == "true"


_ENDPOINTS = (
    ENDPOINT,
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
)
_PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"
