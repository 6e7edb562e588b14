"""Runs exported live: what arrives, what the variables change, what a bad server costs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from collector import Collector, Post, Reply, collecting
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from provider import serving
from scratch import make
from story import RUN, failing
from traced import MODELS, Players, Told, command, environment, repository, told

from runner import Options, run
from runner.errors import UsageError
from runner.events import ModelResponded, RunFinished, RunStarted
from runner.telemetry.live import Live
from runner.telemetry.reading import spans_of
from runner.telemetry.settings import NOTHING, Sending, Target, checked, sending, without_password

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from runner.events import Event
    from runner.telemetry.nouns import Span

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}"
HELLO = """\
name: hello
steps:
  - id: greet
    run: echo hello
"""


# -- What is asked for ----------------------------------------------------------------------------


def both(base: str) -> Sending:
    return Sending(Target(f"{base}/v1/traces"), Target(f"{base}/v1/metrics"))


@pytest.mark.parametrize(
    ("environ", "otlp", "expected"),
    [
        ({}, None, NOTHING),
        ({"OTEL_SERVICE_NAME": "mine", "OTEL_TRACES_EXPORTER": "zipkin"}, None, NOTHING),
        ({ENDPOINT: "http://a:1"}, None, both("http://a:1")),
        ({ENDPOINT: " http://a:1/ "}, None, both("http://a:1")),
        ({ENDPOINT: "http://a:1/base"}, None, both("http://a:1/base")),
        ({ENDPOINT: "http://a:1"}, "http://b:2", both("http://b:2")),
        ({ENDPOINT: "http://a:1", "OTEL_SDK_DISABLED": " TRUE "}, "http://b:2", NOTHING),
        ({ENDPOINT: "http://a:1", "OTEL_SDK_DISABLED": "1"}, None, both("http://a:1")),
        (
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1/t"},
            None,
            Sending(Target("http://a:1/t"), None),
        ),
        (
            {ENDPOINT: "http://a:1", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:2/x"},
            None,
            Sending(Target("http://a:1/v1/traces"), Target("http://m:2/x")),
        ),
        (
            {ENDPOINT: "http://a:1", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:2/x"},
            "http://b:2",
            both("http://b:2"),
        ),
        (
            {ENDPOINT: "http://a:1", "OTEL_TRACES_EXPORTER": "none"},
            None,
            Sending(None, Target("http://a:1/v1/metrics")),
        ),
        (
            {ENDPOINT: "http://a:1", "OTEL_METRICS_EXPORTER": "none"},
            None,
            Sending(Target("http://a:1/v1/traces"), None),
        ),
        ({"OTEL_TRACES_EXPORTER": "console"}, None, Sending(None, None, console=True)),
        (
            {ENDPOINT: "http://a:1", "OTEL_TRACES_EXPORTER": "otlp, console"},
            None,
            replace(both("http://a:1"), console=True),
        ),
        (
            {ENDPOINT: "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            None,
            Sending(Target("http://a:4317", "grpc"), Target("http://a:4317", "grpc")),
        ),
        (
            {
                ENDPOINT: "http://a:1",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            None,
            Sending(Target("http://a:1/v1/traces"), Target("http://a:1", "grpc")),
        ),
    ],
)
def test_the_variables_decide_what_goes_where(
    environ: Mapping[str, str], otlp: str | None, expected: Sending
) -> None:
    assert sending(environ, otlp) == expected


@pytest.mark.parametrize(
    ("environ", "remark"),
    [
        ({ENDPOINT: "a:4318"}, "a:4318/v1/traces is no address for OTLP: http:// is missing"),
        ({ENDPOINT: "//[a"}, "'//[a/v1/traces' is no address for OTLP: http:// is missing"),
        ({ENDPOINT: "http://me:secret@[a"}, "'[a/v1/traces' is no address for OTLP"),
        ({ENDPOINT: "http://a:99999"}, "http://a:99999/v1/traces is no address for OTLP"),
        (
            {ENDPOINT: "http://a:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'http/json' is not spoken here, http/protobuf is used",
        ),
        (
            {ENDPOINT: "http://a:1", "OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER: 'zipkin' is not spoken here, otlp is",
        ),
    ],
)
def test_what_is_asked_for_and_not_done_is_said(environ: Mapping[str, str], remark: str) -> None:
    assert sending(environ).remarks[0] == remark


@pytest.mark.parametrize(
    "text", ["", "localhost:4318", "ftp://a", "http://", "http://a:port", "http://[::1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        checked(text)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://a:4318", "http://a:4318"),
        ("https://a/otlp/", "https://a/otlp"),
        ("http://a:4318/v1/traces", "http://a:4318"),
        ("http://a:4318/v1/metrics/", "http://a:4318"),
    ],
)
def test_an_address_may_name_a_signal(text: str, base: str) -> None:
    assert checked(text) == base


def test_no_password_is_shown() -> None:
    assert without_password("http://me:secret@a:4318/v1/traces?k=v") == "http://a:4318/v1/traces"
    assert without_password("http://me:secret@[a?k=v") == "'[a'"
    assert str(Target("//me:secret@[a", "grpc")) == "'[a'"


# -- A whole run ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Collector, Told]:
    """One run with everything in it, sent to a collector of ours."""
    repo = repository(tmp_path_factory.mktemp("ladder").resolve())
    with collecting() as collector, serving(Players()) as provider:
        done = command(repo, "exec", *MODELS, "--otlp", collector.url, env=provider.environ())
        assert (done.returncode, provider.errors) == (1, [])
        assert "did not reach" not in done.stderr
    return collector, told(repo)


def in_order(spans: Iterable[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: span.span_id)


def test_what_arrives_is_what_the_journal_tells(ladder: tuple[Collector, Told]) -> None:
    collector, run = ladder
    assert len(run.spans) > 40
    assert in_order(collector.spans) == in_order(run.spans)


def test_what_arrives_is_one_tree(ladder: tuple[Collector, Told]) -> None:
    collector, _ = ladder
    ids = [span.span_id for span in collector.spans]
    assert len(set(ids)) == len(ids)
    assert [s.name for s in collector.spans if s.parent_id not in ids] == ["invoke_workflow ladder"]
    assert len({span.trace_id for span in collector.spans}) == 1


def test_it_is_sent_as_protobuf_of_a_resource(ladder: tuple[Collector, Told]) -> None:
    collector, run = ladder
    assert {post.headers["content-type"] for post in collector.posts} == {"application/x-protobuf"}
    resource = collector.resources[0]
    assert resource["service.name"] == "runner"
    assert resource["service.instance.id"] == run.run_id
    assert resource["telemetry.sdk.language"] == "python"


def test_metrics_add_up_to_the_ledger(ladder: tuple[Collector, Told]) -> None:
    collector, run = ladder
    rows = [r.event for r in run.records if isinstance(r.event, ModelResponded)]
    points = collector.points
    tokens: dict[str, float] = {}
    for attributes, value in points["runner.tokens"]:
        kind = attributes["runner.token.class"]
        tokens[kind] = tokens.get(kind, 0) + value
    usage = sum((row.usage for row in rows[1:]), rows[0].usage)
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    assert tokens == {
        "input": usage.input_tokens - cached,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "output": usage.output_tokens,
    }
    cost = {a["runner.role"]: value for a, value in points["runner.cost"]}
    for role in ("main", "cheap"):
        exact = sum((row.cost_usd or Decimal(0) for row in rows if row.role == role), Decimal(0))
        assert cost[role] == pytest.approx(float(exact))
    requests = sum(row.seconds for row in rows)
    measured = sum(value for _, value in points["gen_ai.client.operation.duration"])
    assert measured == pytest.approx(requests)


def test_metrics_count_steps_attempts_and_escalations(ladder: tuple[Collector, Told]) -> None:
    collector, run = ladder
    points = collector.points
    steps = {
        (a["runner.step.status"], a["runner.step.rung"]): value
        for a, value in points["runner.steps"]
    }
    assert steps == {
        ("succeeded", "command"): 1,
        ("succeeded", "subagent"): 1,
        ("succeeded", "main"): 1,
        ("failed", "main"): 1,
        ("blocked", "none"): 1,
    }
    moved = {
        (a["runner.escalate.from"], a["runner.escalate.to"]): value
        for a, value in points["runner.escalations"]
    }
    assert moved == {("command", "subagent"): 3, ("subagent", "main"): 2}
    ((result, seconds),) = points["cicd.pipeline.run.duration"]
    (end,) = [r.event for r in run.records if isinstance(r.event, RunFinished)]
    assert (result["cicd.pipeline.result"], seconds) == ("failure", pytest.approx(end.seconds))
    assert {a["runner.attempt.verdict"] for a, _ in points["runner.attempts"]} == {
        "hard",
        "flaky",
        "passed",
    }
    assert "runner.prefix.breaks" not in points


# -- Made-up runs, in this process ----------------------------------------------------------------


def play(environ: Mapping[str, str], events: Iterable[Event] | None = None) -> str:
    """Give events to a sink and close it; return the line it says, or nothing."""
    live = Live(sending(environ), environ)
    for number, event in enumerate(events or failing()):
        live.hear(event, 1000.0 + number)
    return live.close()


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables of this process, which the SDK reads."""

    def put(collector: Collector | None = None, **variables: str) -> Mapping[str, str]:
        if collector is not None:
            variables = {ENDPOINT: collector.url, **variables}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return os.environ

    return put


def flags_of(collector: Collector, name: str) -> set[int]:
    """Return the wire's flags of the spans of a name: whether their parents are somebody else's."""
    return {
        span.flags
        for request in collector.requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
        if span.name == name
    }


def test_all_spans_of_a_run_arrive(setenv: Any) -> None:
    with collecting() as collector:
        assert play(setenv(collector)) == ""
    events = [(event, 1000.0 + number) for number, event in enumerate(failing())]
    assert in_order(collector.spans) == in_order(spans_of(events)[0])


def test_headers_compression_and_names_are_the_users(setenv: Any) -> None:
    with collecting() as collector:
        environ = setenv(
            collector,
            OTEL_EXPORTER_OTLP_HEADERS="x-key=one%20two,x-other=3",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            OTEL_SERVICE_NAME="mine",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment=ci,team=a%20b",
        )
        assert play(environ) == ""
    for post in collector.posts:
        assert (post.headers["x-key"], post.headers["x-other"]) == ("one two", "3")
        assert post.headers["content-encoding"] == "gzip"
    resource = collector.resources[0]
    assert (resource["service.name"], resource["team"]) == ("mine", "a b")


def test_values_are_cut_where_the_user_says(setenv: Any) -> None:
    with collecting() as collector:
        environ = setenv(collector, OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT="5")
        assert play(environ) == ""
    texts = [v for s in collector.spans for v in s.attributes.values() if isinstance(v, str)]
    assert max(map(len, texts)) == 5


def test_batches_are_as_large_as_the_user_says(setenv: Any) -> None:
    with collecting() as collector:
        assert play(setenv(collector, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")) == ""
    assert len(collector.requests) == len(collector.spans) > 5


def test_a_certificate_that_is_not_trusted_is_named(setenv: Any) -> None:
    # Plain HTTP behind https: the handshake fails, as with a wrong certificate.
    with collecting() as collector:
        said = play(setenv(**{ENDPOINT: collector.url.replace("http:", "https:")}))
    assert said.startswith("the trace did not reach https://127.0.0.1")
    assert said.count("\n") == 0


@pytest.mark.parametrize("chosen", ["traces", "metrics"])
def test_each_signal_can_be_turned_off(chosen: str, setenv: Any) -> None:
    other = {"traces": "METRICS", "metrics": "TRACES"}[chosen]
    with collecting() as collector:
        assert play(setenv(collector, **{f"OTEL_{other}_EXPORTER": "none"})) == ""
    assert {post.path for post in collector.posts} == {f"/v1/{chosen}"}


def test_spans_go_to_the_console_on_request(
    setenv: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert play(setenv(OTEL_TRACES_EXPORTER="console")) == ""
    out, err = capsys.readouterr()
    assert (out, err.count('"name": "step test"')) == ("", 1)


@pytest.mark.parametrize(
    ("flags", "sampler", "kept"),
    [
        ("00", None, True),
        ("01", None, True),
        ("00", "parentbased_always_on", False),
        ("01", "parentbased_always_on", True),
        ("01", "always_off", False),
        ("00", "always_on", True),
        ("00", "parentbased_traceidratio", False),
    ],
)
def test_a_run_is_left_out_only_where_the_user_says_so(
    flags: str, sampler: str | None, kept: bool, setenv: Any
) -> None:
    started, *others = failing()
    assert isinstance(started, RunStarted)
    started = replace(started, trace_parent=PARENT.format(flags=flags))
    variables = {"OTEL_TRACES_SAMPLER": sampler} if sampler else {}
    with collecting() as collector:
        assert play(setenv(collector, **variables), [started, *others]) == ""
    assert bool(collector.spans) is kept
    if kept:
        (root,) = [s for s in collector.spans if s.name == "invoke_workflow ship"]
        assert (root.trace_id, root.parent_id) == (
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "00f067aa0ba902b7",
        )
        assert flags_of(collector, root.name) == {0x300}  # its parent is somebody else's


def test_half_a_character_loses_nothing(setenv: Any) -> None:
    started, *others = failing()
    assert isinstance(started, RunStarted)
    started = replace(started, workflow="caf\udce9")
    with collecting() as collector:
        assert play(setenv(collector), [started, *others]) == ""
    assert "invoke_workflow caf?" in {span.name for span in collector.spans}


def test_a_resumed_run_sends_what_was_before_it_again(setenv: Any) -> None:
    first, *rest = failing()
    with collecting() as collector:
        live = Live(sending(setenv(collector)), os.environ)
        half = len(rest) // 2
        live.continued((event, 1000.0 + n) for n, event in enumerate([first, *rest[:half]]))
        for number, event in enumerate(rest[half:]):
            live.hear(event, 1001.0 + half + number)
        assert live.close() == ""
    events = [(event, 1000.0 + number) for number, event in enumerate(failing())]
    assert in_order(collector.spans) == in_order(spans_of(events)[0])
    steps = sum(value for _, value in collector.points["runner.steps"])
    assert 0 < steps < 3  # what an earlier process measured is not counted twice


# -- Servers that do not answer as they should ----------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(404), "404 Not Found"),
        (Reply(415), "415 Unsupported Media Type"),
        (Reply(401), "401 Unauthorized"),
        (Reply(500), "500 Internal Server Error"),
        (Reply(302, {"location": "http://login"}), "302, it points to http://login"),
        (Reply(200, {"content-type": "text/html"}, b"<html>"), "a web page answered, no OTLP"),
    ],
)
def test_why_it_did_not_arrive_is_said_in_one_line(reply: Reply, why: str, setenv: Any) -> None:
    with collecting(lambda _: reply) as collector:
        said = play(setenv(collector))
    where = f"{collector.url}/v1/traces"
    later = f"later: runner trace upload {RUN}"
    assert said == f"the trace did not reach {where}: {why}; {later}"


def test_what_a_server_did_not_keep_is_counted(setenv: Any) -> None:
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2

    def reply(post: Post) -> Reply:
        body = answer.SerializeToString() if post.path.endswith("traces") else None
        return Reply(body=body)

    with collecting(reply) as collector:
        said = play(setenv(collector))
    assert said.startswith("2 of ")
    assert "it did not keep 2 spans" in said


def test_a_server_of_traces_alone_is_not_blamed(setenv: Any) -> None:
    def traces_only(post: Post) -> Reply:
        return Reply() if post.path.endswith("/v1/traces") else Reply(404)

    with collecting(traces_only) as collector:
        assert play(setenv(collector)) == ""
    assert collector.spans


def test_lost_metrics_are_told(setenv: Any) -> None:
    def no_metrics(post: Post) -> Reply:
        return Reply() if post.path.endswith("/v1/traces") else Reply(500)

    with collecting(no_metrics) as collector:
        said = play(setenv(collector))
    assert said == f"metrics did not reach {collector.url}/v1/metrics: 500 Internal Server Error"


def test_a_wait_between_two_tries_is_cut_short_at_the_end(setenv: Any) -> None:
    """The server is busy, asks for an hour, and is well again when the run ends."""
    asked = threading.Event()

    def busy_once(post: Post) -> Reply:
        if post.path.endswith("/v1/traces") and not asked.is_set():
            asked.set()
            return Reply(503, {"retry-after": "3600"})
        return Reply()

    with collecting(busy_once) as collector:
        environ = setenv(
            collector, OTEL_EXPORTER_OTLP_TIMEOUT="7200", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1"
        )
        live = Live(sending(environ), environ)
        for number, event in enumerate(failing()):
            live.hear(event, 1000.0 + number)
            if number == 8:  # something is over by then
                assert asked.wait(20)
        assert live.close() == ""
    events = [(event, 1000.0 + number) for number, event in enumerate(failing())]
    assert in_order(collector.spans) == in_order(spans_of(events)[0])


def test_spans_that_find_no_room_are_counted(setenv: Any) -> None:
    held = threading.Event()
    with collecting(lambda _: Reply(wait=held)) as collector:
        environ = setenv(
            collector,
            OTEL_BSP_MAX_QUEUE_SIZE="2",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="2",
            OTEL_METRICS_EXPORTER="none",
        )
        live = Live(sending(environ), environ)
        for number, event in enumerate(failing()):
            live.hear(event, 1000.0 + number)
        deadline = time.monotonic() + 20
        while not collector.posts and time.monotonic() < deadline:
            time.sleep(0.01)
        threading.Timer(0.3, held.set).start()
        said = live.close()
    lost = len(spans_of([(e, 1000.0 + n) for n, e in enumerate(failing())])[0])
    lost -= len(collector.spans)
    assert lost > 0
    assert said.startswith(f"{lost} of ")


def test_a_malformed_variable_fails_nothing(setenv: Any) -> None:
    with collecting() as collector:
        said = play(setenv(collector, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="-1"))
    assert said.startswith("the run is not exported: ValueError: max_export_batch_size")


def test_a_protocol_that_is_not_installed_is_one_clear_line(setenv: Any) -> None:
    said = play(setenv(**{ENDPOINT: "http://a:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}))
    assert said.startswith("the run is not exported: OTEL_EXPORTER_OTLP_PROTOCOL=grpc needs")
    assert "opentelemetry-exporter-otlp-proto-grpc" in said
    assert said.count("\n") == 0


# -- Other people's logs and traces ---------------------------------------------------------------


class _Heard(logging.Handler):
    """Pytest's own would also hear what goes to no parent, where an earlier test still sends."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def heard() -> Iterator[list[str]]:
    handler = _Heard()
    logging.getLogger().addHandler(handler)
    yield handler.said
    logging.getLogger().removeHandler(handler)


def test_the_sdk_says_nothing_of_ours_and_all_of_others(setenv: Any, heard: list[str]) -> None:
    theirs = logging.getLogger("opentelemetry.exporter.otlp")
    held = threading.Event()
    with collecting(lambda _: Reply(500, wait=held)) as collector:
        environ = setenv(collector, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1")
        live = Live(sending(environ), environ)
        for number, event in enumerate(failing()):
            live.hear(event, 1000.0 + number)
        while not collector.posts:
            time.sleep(0.01)
        theirs.warning("a program's own trouble")
        held.set()
        assert live.close() != ""
    assert heard == ["a program's own trouble"]
    theirs.warning("afterwards")
    assert heard[-1] == "afterwards"


async def test_two_runs_at_once_are_two_traces(world: Path, setenv: Any) -> None:
    from opentelemetry import metrics, trace

    with collecting() as collector:
        setenv(collector)
        for name in ("one", "two"):
            (world / name).mkdir()
            (world / name / "workflow.yaml").write_text(HELLO.replace("hello", name))

        async def go(name: str) -> None:
            where = world / name
            options = Options(state_dir=world / f"{name}-state")
            await run(where / "workflow.yaml", cwd=where, options=options)

        async with anyio.create_task_group() as both:
            both.start_soon(go, "one")
            both.start_soon(go, "two")
    traces: dict[str, set[str]] = {}
    for span in collector.spans:
        traces.setdefault(span.trace_id, set()).add(span.name)
    common = {"echo", "attempt 1 command", "step greet"}
    assert sorted(map(sorted, traces.values())) == [
        sorted({f"invoke_workflow {name}", *common}) for name in ("one", "two")
    ]
    assert len({r["service.instance.id"] for r in collector.resources}) == 2
    assert not hasattr(trace.get_tracer_provider(), "add_span_processor")
    assert not hasattr(metrics.get_meter_provider(), "shutdown")


# -- The real command -----------------------------------------------------------------------------


def test_nothing_is_imported_while_nobody_asks(world: Path) -> None:
    for variables in ({}, {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"}):
        where = world / f"with-{len(variables)}"
        where.mkdir()
        (where / "workflow.yaml").write_text(HELLO)
        code = (
            "import sys; from runner.cli import main; sys.argv[1:] = ['exec']\n"
            "try: main()\nexcept SystemExit as end: assert not end.code, end\n"
            "heavy = ('opentelemetry', 'requests')\n"
            "print([m for m in sys.modules if m.partition('.')[0] in heavy])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=where, env={**os.environ, **variables},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr


@pytest.mark.parametrize("kind", ["refused", "black hole", "busy", "slow", "trickling"])
def test_a_bad_server_costs_one_line_and_no_run(kind: str, world: Path) -> None:
    """It answers only when the run has ended: who waits for it waits for ever."""
    repo = make(world)
    repo.write("workflow.yaml", HELLO)
    over = threading.Event()
    replies = {
        "black hole": Reply(wait=over),
        "busy": Reply(503, {"retry-after": "3600"}),
        "slow": Reply(wait=over),
        "trickling": Reply(trickle=True),
    }
    patience = "7200" if kind != "slow" else "30"
    with collecting(lambda _: replies.get(kind, Reply())) as collector:
        url = "http://127.0.0.1:9" if kind == "refused" else collector.url
        env = {ENDPOINT: url, "OTEL_EXPORTER_OTLP_TIMEOUT": patience}
        done = command(repo, "exec", env=env)
        ended = time.monotonic()
        over.set()
    assert done.returncode == 0
    # It is two seconds; the SDK alone waits for thirty at the least.
    assert all(ended - post.at < 20 for post in collector.posts)
    lines = [line for line in done.stderr.splitlines() if line.startswith("runner: ")]
    assert len(lines) == 1
    assert lines[0].startswith(f"runner: the trace did not reach {url}/v1/traces: ")
    assert lines[0] == done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "env",
    [
        {ENDPOINT: "//[a"},
        {ENDPOINT: "http://[a"},
        {ENDPOINT: "http://[a", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_RESOURCE_ATTRIBUTES": "\udcff=1"},
    ],
)
def test_no_malformed_variable_fails_a_run(env: dict[str, str], world: Path) -> None:
    repo = make(world)
    repo.write("workflow.yaml", HELLO)
    done = command(repo, "exec", env=env)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert told(repo).spans
    shown = command(repo, "trace", "--json", env=env)
    assert shown.returncode == 0, shown.stderr


def test_who_interrupts_the_last_sending_keeps_the_result(world: Path) -> None:
    repo = make(world)
    repo.write("workflow.yaml", HELLO)
    over = threading.Event()
    with collecting(lambda _: Reply(wait=over)) as collector:
        argv = [sys.executable, "-m", "runner", "exec", "--otlp", collector.url]
        with subprocess.Popen(
            argv, cwd=repo.root, env=environment(repo, {}), stderr=subprocess.PIPE
        ) as process:
            # All is over but the sending, which nobody answers.
            while not any(b"invoke_workflow hello" in post.body for post in collector.posts):
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        over.set()
    assert process.returncode == 0, err
    assert b"Traceback" not in err
    assert b"the trace did not reach" in err.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_loses_no_span(number: signal.Signals, world: Path) -> None:
    repo = make(world)
    repo.write(
        "workflow.yaml",
        "name: long\nsteps:\n  - id: quick\n    run: echo quick\n"
        "  - id: slow\n    run: touch ../begun && sleep 60\n    needs: [quick]\n",
    )
    with collecting() as collector:
        argv = [sys.executable, "-m", "runner", "exec", "--otlp", collector.url]
        with subprocess.Popen(
            argv, cwd=repo.root, env=environment(repo, {}), stderr=subprocess.PIPE
        ) as process:
            while not (world / "begun").exists():
                time.sleep(0.01)
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    spans = {span.name: span for span in collector.spans}
    assert in_order(collector.spans) == in_order(told(repo).spans)
    assert spans["invoke_workflow long"].attributes["runner.outcome"] == "cancelled"
    assert {"step quick", "step slow", "echo", "touch"} <= set(spans)


def test_an_address_that_is_none_runs_nothing(world: Path) -> None:
    repo = make(world)
    repo.write("workflow.yaml", HELLO)
    done = command(repo, "exec", "--otlp", "localhost:4318")
    assert done.returncode == 2
    assert "--otlp localhost:4318: not an address" in done.stderr
    assert "greet" not in done.stderr


# -- Sent later -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A repository with one run that nobody exported."""
    repo = make(tmp_path_factory.mktemp("finished").resolve())
    repo.write("workflow.yaml", HELLO)
    assert command(repo, "exec").returncode == 0
    return repo


def test_a_run_is_sent_from_its_journal_and_again(finished: Any) -> None:
    with collecting() as collector:
        first = command(finished, "trace", "upload", "--otlp", collector.url)
        again = command(finished, "trace", "upload", "last", env={ENDPOINT: collector.url})
    run = told(finished)
    assert (first.returncode, again.returncode) == (0, 0)
    assert first.stdout == again.stdout
    assert f"4 spans of run {run.run_id} sent to {collector.url}" in first.stdout
    assert run.spans[0].trace_id in first.stdout
    assert in_order(collector.spans[:4]) == in_order(collector.spans[4:]) == in_order(run.spans)


def test_who_asks_for_an_upload_gets_it_whatever_live_runs_do(finished: Any) -> None:
    with collecting() as collector:
        env = {"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "always_off"}
        done = command(finished, "trace", "upload", "--otlp", collector.url, env=env)
    assert (done.returncode, len(collector.spans)) == (0, 4)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(404), ("404 Not Found", "http://HOST:4318")),
        (Reply(405), ("405 Method Not Allowed", "http://HOST:4318")),
        (Reply(415), ("415 Unsupported Media Type", "no protobuf")),
        (Reply(403), ("403 Forbidden", "OTEL_EXPORTER_OTLP_HEADERS")),
        (Reply(200, {"content-type": "text/html"}, b"<p>"), ("a web page", "http://HOST:4318")),
    ],
)
def test_an_upload_that_fails_says_why(reply: Reply, words: tuple[str, str], finished: Any) -> None:
    with collecting(lambda _: reply) as collector:
        done = command(finished, "trace", "upload", "--otlp", collector.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert all(word in done.stderr for word in (*words, collector.url))


def test_an_upload_to_nobody_says_so_at_once(finished: Any) -> None:
    done = command(finished, "trace", "upload", "--otlp", "http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (1, "")
    assert "http://127.0.0.1:9/v1/traces: connection refused" in done.stderr
    done = command(finished, "trace", "upload")
    assert done.returncode == 2
    assert "--otlp http://localhost:4318" in done.stderr


def test_a_killed_run_is_sent_with_what_was_open(world: Path) -> None:
    repo = make(world)
    repo.write(
        "workflow.yaml", "name: doomed\nsteps:\n  - id: a\n    run: kill -9 $PPID; sleep 9\n"
    )
    killed = command(repo, "exec", env={"TRACEPARENT": PARENT.format(flags="01")})
    assert killed.returncode == -signal.SIGKILL
    with collecting() as collector:
        done = command(repo, "trace", "upload", "--otlp", collector.url)
    assert done.returncode == 0, done.stderr
    by_name = {span.name: span for span in collector.spans}
    assert {"invoke_workflow doomed", "step a", "attempt 1 command"} <= set(by_name)
    assert {s.attributes["error.type"] for s in collector.spans} == {"killed"}
    assert flags_of(collector, "invoke_workflow doomed") == {0x300}
    assert flags_of(collector, "step a") == {0x100}
