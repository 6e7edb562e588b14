"""Runs read back from a real Jaeger, which has of them what the journal has."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from provider import serving
from readers import JAEGER, Server, jaeger
from scratch import make
from traced import CHEAP, MODELS, Players, Told, command, environment, repository, told

from runner.telemetry.nouns import Link, Span, SpanEvent

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(JAEGER is None, reason="no Jaeger: see .ci/readers.sh"),
]

KINDS = {1: "internal", 2: "server", 3: "client"}
CODES = {0: "unset", 1: "ok", 2: "error"}
PARENT = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


def read(server: Server, trace_id: str) -> list[Span]:
    """Ask for a trace; in order of ids."""
    answer = server.get(f"/api/v3/traces/{trace_id}")
    spans = [
        _span(span)
        for resource in answer["result"]["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope.get("spans", [])
    ]
    return in_order(spans)


def differing(found: list[Span], told: list[Span]) -> list[tuple[Span | None, Span | None]]:
    """Pair those that are not the same, so that a failure shows no more than them."""
    one = {span.span_id: span for span in found}
    other = {span.span_id: span for span in told}
    assert len(one) == len(found)
    ids = sorted({*one, *other})
    return [(one.get(i), other.get(i)) for i in ids if one.get(i) != other.get(i)]


def in_order(spans: list[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: span.span_id)


def _span(span: dict[str, Any]) -> Span:
    return Span(
        trace_id=span["traceId"],
        span_id=span["spanId"],
        parent_id=span.get("parentSpanId", ""),
        name=span["name"],
        kind=KINDS[span["kind"]],  # pyright: ignore[reportArgumentType]  one of the three
        start=int(span["startTimeUnixNano"]),
        end=int(span["endTimeUnixNano"]),
        attributes=_attributes(span),
        status=CODES[span.get("status", {}).get("code", 0)],  # pyright: ignore[reportArgumentType]
        message=span.get("status", {}).get("message", ""),
        links=tuple(
            Link(link["traceId"], link["spanId"], _attributes(link))
            for link in span.get("links", [])
        ),
        # It orders them by their names.
        events=tuple(sorted(map(_event, span.get("events", [])), key=lambda event: event.at)),
        trace_state=span.get("traceState", ""),
    )


def _event(event: dict[str, Any]) -> SpanEvent:
    return SpanEvent(event["name"], int(event["timeUnixNano"]), _attributes(event))


def _attributes(holder: dict[str, Any]) -> dict[str, Any]:
    return {pair["key"]: _value(pair["value"]) for pair in holder.get("attributes", [])}


def _value(value: dict[str, Any]) -> Any:
    ((kind, plain),) = value.items()
    if kind == "intValue":
        return int(plain)
    if kind == "arrayValue":
        return tuple(_value(one) for one in plain.get("values", []))
    return plain


@pytest.fixture(scope="module")
def ladder(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Told, list[Span]]:
    """A run with a retry, a mend, an escalation and a failed step, sent while it went on."""
    repo = repository(tmp_path_factory.mktemp("ladder").resolve())
    with serving(Players()) as provider:
        env = {**provider.environ(), "OTEL_EXPORTER_OTLP_ENDPOINT": server.otlp}
        done = command(repo, "exec", *MODELS, env=env)
    assert (done.returncode, provider.errors) == (1, [])
    # Jaeger takes no metrics, which is nobody's fault.
    assert "did not reach" not in done.stderr
    run = told(repo)
    return repo.root, run, read(server, run.spans[0].trace_id)


def test_jaeger_has_what_the_journal_tells(ladder: tuple[Path, Told, list[Span]]) -> None:
    _, run, found = ladder
    assert len(found) > 40
    assert differing(found, run.spans) == []


def test_the_tree_and_its_red_chain(ladder: tuple[Path, Told, list[Span]]) -> None:
    _, _, found = ladder
    by_id = {span.span_id: span for span in found}

    def path(span: Span) -> list[str]:
        parent = by_id.get(span.parent_id)
        return [*(path(parent) if parent else []), span.name]

    paths = {" > ".join(path(span)): span for span in found}
    root = "invoke_workflow ladder"
    expected = {
        root: "error",
        f"{root} > step shaky": "unset",
        f"{root} > step shaky > attempt 1 command > test": "error",
        f"{root} > step shaky > attempt 2 command > test": "unset",
        f"{root} > step lint": "unset",
        f"{root} > step lint > attempt 2 cheap > invoke_agent fixer > chat {CHEAP}": "unset",
        f"{root} > step lint > attempt 2 cheap > check lint > grep": "unset",
        f"{root} > step rule > attempt 2 cheap": "error",
        f"{root} > step rule > attempt 3 main > invoke_agent main > chat claude-opus-4-5": "unset",
        f"{root} > step rule": "unset",
        f"{root} > step hopeless": "error",
        f"{root} > step hopeless > attempt 3 main": "error",
        f"{root} > step after": "unset",
    }
    assert {name: paths[name].status for name in expected} == expected
    assert paths[root].kind == "server"
    assert paths[f"{root} > step shaky > attempt 1 command > test"].kind == "client"


def test_links_lead_to_the_attempt_before_with_the_reason(
    ladder: tuple[Path, Told, list[Span]],
) -> None:
    _, _, found = ladder
    by_id = {span.span_id: span for span in found}
    links = {
        (span.attributes["runner.step.id"], span.name): (
            by_id[link.span_id].name,
            link.attributes["runner.link.kind"],
        )
        for span in found
        for link in span.links
    }
    assert links == {
        ("shaky", "attempt 2 command"): ("attempt 1 command", "retry_of"),
        ("lint", "attempt 2 cheap"): ("attempt 1 command", "escalated_from"),
        ("rule", "attempt 2 cheap"): ("attempt 1 command", "escalated_from"),
        ("rule", "attempt 3 main"): ("attempt 2 cheap", "escalated_from"),
        ("hopeless", "attempt 2 cheap"): ("attempt 1 command", "escalated_from"),
        ("hopeless", "attempt 3 main"): ("attempt 2 cheap", "escalated_from"),
    }
    # Jaeger's own page leaves the attributes of links out.
    for span in found:
        for link in span.links:
            assert link.attributes.items() <= span.attributes.items()


def test_it_is_found_by_service_operation_and_attribute(
    server: Server, ladder: tuple[Path, Told, list[Span]]
) -> None:
    _, run, _ = ladder
    assert "runner" in server.get("/api/v3/services")["services"]
    operations = server.get("/api/v3/operations?service=runner")["operations"]
    names = {(one["name"], one.get("spanKind", "")) for one in operations}
    assert ("invoke_workflow ladder", "server") in names
    query = (
        "query.service_name=runner&query.start_time_min=2020-01-01T00:00:00Z"
        "&query.start_time_max=2100-01-01T00:00:00Z&query.num_traces=20&query.search_depth=20"
        f"&query.attributes=%7B%22runner.run.id%22%3A%22{run.run_id}%22%7D"
    )
    found = server.get(f"/api/v3/traces?{query}")["result"]["resourceSpans"]
    ids = {s["traceId"] for r in found for c in r["scopeSpans"] for s in c.get("spans", [])}
    assert ids == {run.spans[0].trace_id}


def test_the_file_beside_the_journal_is_what_jaeger_takes(
    server: Server, ladder: tuple[Path, Told, list[Span]]
) -> None:
    """Its page sends each line of an uploaded file through /api/transform."""
    root, run, _ = ladder
    (file,) = (root.parent / "state").rglob("trace.otlp.jsonl")
    ids: list[str] = []
    for line in file.read_bytes().splitlines():
        (trace,) = server.post("/api/transform", line)["data"]
        ids += [span["spanID"] for span in trace["spans"]]
        assert {one["serviceName"] for one in trace["processes"].values()} == {"runner"}
    assert sorted(ids) == [span.span_id for span in in_order(run.spans)]


def test_sending_it_again_changes_nothing(
    server: Server, ladder: tuple[Path, Told, list[Span]]
) -> None:
    root, run, found = ladder
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "runner", "trace", "upload", "--otlp", server.otlp],
            cwd=root,
            env={**os.environ, "SUBRUNNER_STATE_DIR": str(root.parent / "state")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert differing(read(server, run.spans[0].trace_id), found) == []


def test_the_address_of_jaegers_page_is_told_from_that_of_otlp(
    server: Server, ladder: tuple[Path, Told, list[Span]]
) -> None:
    root, _, _ = ladder
    done = subprocess.run(
        [sys.executable, "-m", "runner", "trace", "upload", "--otlp", server.api],
        cwd=root,
        env={**os.environ, "SUBRUNNER_STATE_DIR": str(root.parent / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "a web page answered, no OTLP" in done.stderr


SLOW = """\
name: doomed
steps:
  - id: quick
    run: echo quick
  - id: slow
    run: touch ../begun && test -e ../go || sleep 60
    needs: [quick]
"""


def test_a_killed_run_is_whole_when_it_is_sent_and_linked_when_it_is_resumed(
    server: Server, world: Path
) -> None:
    repo = make(world)
    repo.write("workflow.yaml", SLOW)
    argv = [sys.executable, "-m", "runner", "exec", "--otlp", server.otlp]
    with subprocess.Popen(argv, cwd=repo.root, env=environment(repo, {})) as process:
        while not (world / "begun").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    sent = command(repo, "trace", "upload", "--otlp", server.otlp)
    assert sent.returncode == 0, sent.stderr
    first = told(repo)
    killed = read(server, first.spans[0].trace_id)
    assert differing(killed, first.spans) == []
    status = {span.name: span.attributes.get("error.type") for span in killed}
    assert (status["step quick"], status["step slow"]) == (None, "killed")
    assert status["invoke_workflow doomed"] == "killed"
    assert {span.parent_id for span in killed} <= {"", *(span.span_id for span in killed)}

    (world / "go").touch()
    resumed = command(repo, "resume", "--otlp", server.otlp)
    assert resumed.returncode == 0, resumed.stderr
    run = told(repo)
    before, after = dict.fromkeys(span.trace_id for span in run.spans)
    assert before == first.spans[0].trace_id
    assert differing(read(server, before), killed) == []
    second = read(server, after)
    assert differing(second, [span for span in run.spans if span.trace_id == after]) == []
    (root,) = [span for span in second if not span.parent_id]
    (link,) = root.links
    assert (link.trace_id, link.attributes["runner.link.kind"]) == (before, "resume_of")


CHILD = """\
import os, sys
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
provider = TracerProvider(resource=Resource.create({"service.name": "tests"}))
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint=sys.argv[1])))
around = TraceContextTextMapPropagator().extract({"traceparent": os.environ["TRACEPARENT"]})
with provider.get_tracer("tests").start_as_current_span("test_add", around):
    pass
"""


def test_a_run_is_part_of_the_trace_around_it_and_its_commands_of_its_own(
    server: Server, world: Path
) -> None:
    repo = make(world)
    (world / "child.py").write_text(CHILD)
    program = f"{sys.executable} ../child.py {server.otlp}/v1/traces"
    repo.write("workflow.yaml", f"name: inner\nsteps:\n  - id: unit\n    run: {program}\n")
    env = {"TRACEPARENT": f"00-{PARENT[0]}-{PARENT[1]}-00", "TRACESTATE": "vendor=1"}
    done = command(repo, "exec", "--otlp", server.otlp, env=env)
    assert done.returncode == 0, done.stderr
    found = {span.name: span for span in read(server, PARENT[0])}
    assert found["invoke_workflow inner"].parent_id == PARENT[1]
    assert found["invoke_workflow inner"].trace_state == "vendor=1"
    python = next(name for name in found if name.startswith("python"))
    assert found["test_add"].parent_id == found[python].span_id
