"""An OTLP receiver on loopback for tests: keeps what is sent to it, decoded by OTLP's own protobuf.

    with collecting() as collector:
        environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        ...
        collector.spans          # every span, in the order of arrival
        collector.points         # every data point of the last metrics of each name

`answer` decides how each request is answered; by default it is taken.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
    from opentelemetry.proto.trace.v1.trace_pb2 import Span as Wired

from runner.telemetry.nouns import Link, Span, SpanEvent

KINDS = {1: "internal", 2: "server", 3: "client"}
CODES = {0: "unset", 1: "ok", 2: "error"}


@dataclass(frozen=True, slots=True)
class Post:
    """One request."""

    number: int
    """From 1."""
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Unpacked."""
    at: float
    """`time.monotonic()` of its arrival."""


@dataclass(frozen=True, slots=True)
class Reply:
    """How it is answered."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes | None = None
    """`None`: what OTLP says for it."""
    wait: threading.Event | None = None
    """Nothing is answered before it is set."""
    trickle: bool = False
    """A byte of the head every now and then, and never its end."""


class Collector:
    """What came."""

    def __init__(self, answer: Callable[[Post], Reply]) -> None:
        self.answer = answer
        self.posts: list[Post] = []
        self.taken: list[Post] = []
        """Those that were answered with 200."""
        self.closing = threading.Event()
        self.lock = threading.Lock()
        self.url = ""

    @property
    def requests(self) -> list[ExportTraceServiceRequest]:
        """What was taken of traces, whole."""
        return [
            ExportTraceServiceRequest.FromString(post.body)
            for post in self.taken
            if post.path.endswith("/v1/traces")
        ]

    @property
    def spans(self) -> list[Span]:
        """What was taken, as our own nouns."""
        return [
            span_of(span)
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resources(self) -> list[dict[str, Any]]:
        """The attributes of what each request's spans are of."""
        return [
            attributes_of(resource.resource.attributes)
            for request in self.requests
            for resource in request.resource_spans
        ]

    @property
    def points(self) -> dict[str, list[tuple[dict[str, Any], float]]]:
        """By name of the metric: attributes and value (a histogram's sum) of the last request."""
        found: dict[str, list[tuple[dict[str, Any], float]]] = {}
        for post in self.taken:
            if not post.path.endswith("/v1/metrics"):
                continue
            for metric in _metrics(ExportMetricsServiceRequest.FromString(post.body)):
                sums = [(p.attributes, p.as_double or p.as_int) for p in metric.sum.data_points]
                sums += [(p.attributes, p.sum) for p in metric.histogram.data_points]
                found[metric.name] = [(attributes_of(kept), value) for kept, value in sums]
        return found


def _metrics(request: ExportMetricsServiceRequest) -> list[Any]:
    return [
        metric
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    ]


def span_of(span: Wired) -> Span:
    """Read a span from the wire."""
    return Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=KINDS[span.kind],  # pyright: ignore[reportArgumentType]  one of the three
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        attributes=attributes_of(span.attributes),
        status=CODES[span.status.code],  # pyright: ignore[reportArgumentType]  the same
        message=span.status.message,
        links=tuple(
            Link(link.trace_id.hex(), link.span_id.hex(), attributes_of(link.attributes))
            for link in span.links
        ),
        events=tuple(
            SpanEvent(event.name, event.time_unix_nano, attributes_of(event.attributes))
            for event in span.events
        ),
        trace_state=span.trace_state,
    )


def attributes_of(attributes: Any) -> dict[str, Any]:
    """Read attributes from the wire."""
    pairs: list[KeyValue] = list(attributes)
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return tuple(_value(one) for one in value.array_value.values)
    return getattr(value, kind) if kind else None


def take(_: Post) -> Reply:
    """Take everything."""
    return Reply()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, collector: Collector) -> None:
        self.collector = collector
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]  it is always ours

    def do_POST(self) -> None:
        """Keep one request and answer it."""
        raw = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        packing = headers.get("content-encoding", "")
        unpack = {"gzip": gzip.decompress, "deflate": zlib.decompress}.get(packing, bytes)
        with self.server.collector.lock:
            post = Post(
                len(self.server.collector.posts) + 1,
                self.path,
                headers,
                unpack(raw),
                time.monotonic(),
            )
            self.server.collector.posts.append(post)
        reply = self.server.collector.answer(post)
        if reply.trickle:
            self._trickle()
            return
        if reply.wait is not None:
            reply.wait.wait(60)
        if reply.status == 200 and reply.body is None:
            with self.server.collector.lock:
                self.server.collector.taken.append(post)
        if self.server.collector.closing.is_set():
            return
        self._send(reply, post)

    def _trickle(self) -> None:
        self.close_connection = True
        try:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nx-more: ")
            while not self.server.collector.closing.wait(0.2):
                self.wfile.write(b".")
        except OSError:
            pass  # who asked is gone

    def _send(self, reply: Reply, post: Post) -> None:
        traces = post.path.endswith("/v1/traces")
        kind = ExportTraceServiceResponse if traces else ExportMetricsServiceResponse
        body = kind().SerializeToString() if reply.body is None else reply.body
        try:
            self.send_response(reply.status)
            for name, value in {
                "content-type": "application/x-protobuf",
                **reply.headers,
                "content-length": str(len(body)),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # who asked is gone: that is what some tests are about

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""


@contextmanager
def collecting(answer: Callable[[Post], Reply] = take) -> Generator[Collector]:
    """Serve for the length of the block."""
    collector = Collector(answer)

    server = _Server(collector)
    collector.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
