"""A run read back from a real Phoenix: an independent reader with price tables of its own."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from provider import serving
from readers import PHOENIX, Server, phoenix
from traced import MODELS, Players, Told, command, repository, told

from runner.events import ModelResponded

if TYPE_CHECKING:
    from collections.abc import Generator

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PHOENIX is None, reason="no Phoenix: see .ci/readers.sh"),
]

COSTS = """
query ($trace: String!) {
  getTraceByOtelId(traceId: $trace) {
    numSpans
    costSummary { total { cost tokens } }
  }
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[Server]:
    with phoenix(tmp_path_factory.mktemp("phoenix")) as running:
        yield running


@pytest.fixture(scope="module")
def ladder(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A run with a retry, a mend, an escalation and a failed step, sent while it went on."""
    repo = repository(tmp_path_factory.mktemp("ladder").resolve())
    with serving(Players()) as provider:
        env = {**provider.environ(), "OTEL_EXPORTER_OTLP_ENDPOINT": server.otlp}
        done = command(repo, "exec", *MODELS, env=env)
    assert (done.returncode, provider.errors) == (1, [])
    assert "did not reach" not in done.stderr
    run = told(repo)
    end = time.monotonic() + 60
    while summary(server, run)["numSpans"] != len(run.spans):
        assert time.monotonic() < end, "Phoenix does not have all spans"
        time.sleep(0.3)
    return run


def summary(server: Server, run: Told) -> Any:
    """Ask for how many spans a trace has, what it cost and how many tokens it took."""
    body = {"query": COSTS, "variables": {"trace": run.spans[0].trace_id}}
    answer = server.post("/graphql", json.dumps(body).encode())
    assert answer["data"] is not None, answer
    return answer["data"]["getTraceByOtelId"] or {"numSpans": 0}


def test_its_cost_and_tokens_are_the_ledgers(server: Server, ladder: Told) -> None:
    """Its prices are a table of its own, so that this is the sum done twice."""
    rows = [r.event for r in ladder.records if isinstance(r.event, ModelResponded)]
    cost = sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0))
    tokens = sum(row.usage.input_tokens + row.usage.output_tokens for row in rows)
    assert cost > Decimal("0.05")

    end = time.monotonic() + 60
    while (total := summary(server, ladder)["costSummary"]["total"])["tokens"] != tokens:
        assert time.monotonic() < end, total  # it prices spans some time after it took them
        time.sleep(0.3)
    assert total == {"cost": pytest.approx(float(cost), rel=1e-9), "tokens": tokens}


def test_its_tree_is_the_journals(server: Server, ladder: Told) -> None:
    trace = ladder.spans[0].trace_id
    found = server.get(f"/v1/projects/runner/spans?trace_id={trace}&limit=100")["data"]
    assert {
        (s["context"]["span_id"], s["parent_id"] or "", s["name"], s["status_code"].lower())
        for s in found
    } == {(s.span_id, s.parent_id, s.name, s.status) for s in ladder.spans}
    kinds = {s["name"]: s["span_kind"] for s in found}
    assert kinds["chat claude-opus-4-5"] == "LLM"
    assert kinds["execute_tool edit_file"] == "TOOL"
    assert kinds["invoke_agent fixer"] == "AGENT"
