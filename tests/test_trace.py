"""Traces of real runs: what the spans say, the file beside the journal, and `runner trace`."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scratch import UNITTEST, Scratch, make
from spantrees import check_trees
from story import START

from runner.console.spantree import render_trace
from runner.events import (
    CommandFinished,
    Event,
    Notice,
    RunStarted,
    StepFinished,
    StepStarted,
    Waited,
)
from runner.outcome import Status, StepOutcome
from runner.report import to_json
from runner.telemetry import Span, names
from runner.telemetry.identity import parse_traceparent
from runner.telemetry.reading import spans_of

if TYPE_CHECKING:
    from runner.report import Report

RUNNER = str(Path(sys.executable).with_name("runner"))
GOOD = '{ call: edit_file, with: { path: calc.py, old_text: "a - b", new_text: "a + b" } }'
BROKEN = "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n"
STORY = f"""
steps:
  - id: test
    run: {UNITTEST}
    retry: {{ attempts: 1 }}
    fix: {{ agent: test-fixer, attempts: 2 }}
    escalate: {{ max: 1 }}
  - id: lint
    needs: [test]
    run: test -e nowhere.txt
    fix: {{ agent: lint-fixer, attempts: 2 }}
    escalate: {{ max: 1 }}
  - id: after
    needs: [lint]
    run: "true"
"""
"""A retry and a subagent's mend; an escalation and a failed step; what hangs on that is blocked."""
SCRIPT = f"""
rules:
  - when: {{ role: cheap, step: test }}
    turns:
      - {GOOD}
      - {{ call: check }}
      - done: canary-summary
  - when: {{ role: cheap, step: lint }}
    cannot: {{ reason: canary-reason, evidence: canary-evidence }}
  - when: {{ role: main, text: canary-reason }}
    turns:
      - call: write_file
        with: {{ path: notes.txt, content: canary-argument }}
      - done: canary-done
"""


@pytest.fixture
def broken(world: Path) -> Scratch:
    repo = make(world)
    repo.write("calc.py", BROKEN)
    repo.commit_all("break it")
    return repo


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scratch, Report]:
    """Run the story once, as a program would; what reads it runs no model."""
    repo = make(tmp_path_factory.mktemp("story").resolve())
    repo.write("calc.py", BROKEN)
    repo.commit_all("break it")

    async def go() -> Report:
        return await repo.run(STORY, models=repo.script(SCRIPT))

    return repo, anyio.run(go)


def told(file: Path) -> list[dict[str, Any]]:
    """Read the file back, as any reader of OTLP/JSON lines would."""
    batches = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [
        span
        for batch in batches
        for resource in batch["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def fields(span: dict[str, Any]) -> dict[str, Any]:
    """Return a span's attributes as plain values."""

    def plain(value: dict[str, Any]) -> Any:
        (kind, inner), *_ = value.items()
        if kind == "arrayValue":
            return [plain(one) for one in inner["values"]]
        return int(inner) if kind == "intValue" else inner

    return {one["key"]: plain(one["value"]) for one in span["attributes"]}


def outline(spans: list[dict[str, Any]]) -> list[str]:
    """Draw a trace as indented names, `!` behind those that are errors."""
    known = {span["spanId"] for span in spans}
    below: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda one: int(one["startTimeUnixNano"])):
        parent = span.get("parentSpanId", "")
        below.setdefault(parent if parent in known else "", []).append(span)

    def lines(span: dict[str, Any], depth: int) -> list[str]:
        mark = " !" if span.get("status", {}).get("code") == 2 else ""
        own = f"{'  ' * depth}{span['name']}{mark}"
        return [own, *(x for one in below.get(span["spanId"], []) for x in lines(one, depth + 1))]

    return [line for root in below[""] for line in lines(root, 0)]


def runner(*args: str, repo: Scratch, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a repository, with the state that its other runs have."""
    env = {**os.environ, "COLUMNS": "80", "SUBRUNNER_STATE_DIR": str(state(repo)), **environ}
    return subprocess.run(
        [RUNNER, *args], cwd=repo.root, env=env, capture_output=True, text=True, check=False
    )


def state(repo: Scratch) -> Path:
    return repo.root.parent / "state"


def trace_file(report: Report) -> Path:
    assert report.trace is not None
    return Path(report.trace.file)


def folded(repo: Scratch, **more: Any) -> list[Span]:
    return spans_of([(event, 1.0) for event in repo.events], **more)[0]


def named(spans: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [span for span in spans if span["name"] == name]


def attributes(data: dict[str, Any]) -> dict[str, Any]:
    return fields(data["resourceSpans"][0]["resource"])


# -- the file -------------------------------------------------------------------------------------


def test_a_run_is_one_tree_of_what_happened(story: tuple[Scratch, Report]) -> None:
    repo, report = story
    assert report.exit_code == 1
    file = trace_file(report)
    assert file.name == "trace.otlp.jsonl"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    spans = told(file)
    assert outline(spans) == [
        "invoke_workflow workflow !",
        "  step test",
        "    attempt 1 command !",
        "      python3 !",
        "    attempt 2 command !",
        "      python3 !",
        "    attempt 3 cheap",
        "      invoke_agent test-fixer",
        "        chat script.yaml",
        "        execute_tool edit_file",
        "        chat script.yaml",
        "        execute_tool check",
        "          python3",
        "        chat script.yaml",
        "      check test",
        "        python3",
        "  step lint !",
        "    attempt 1 command !",
        "      test !",
        "    attempt 2 cheap !",
        "      invoke_agent lint-fixer",
        "        chat script.yaml",
        "      check lint !",
        "        test !",
        "    attempt 3 main !",
        "      invoke_agent main",
        "        chat script.yaml",
        "        execute_tool write_file",
        "        chat script.yaml",
        "      check lint !",
        "        test !",
        "  step after",
    ]
    ids = {span["spanId"] for span in spans}
    assert {span["traceId"] for span in spans} == {report.trace and report.trace.id}
    assert sum(span.get("parentSpanId") not in ids for span in spans) == 1
    # Whoever folds the same events gets the same spans.
    assert {span.span_id for span in folded(repo)} == ids
    root = fields(named(spans, "invoke_workflow workflow")[0])
    assert root[names.PIPELINE_RESULT] == "failure"
    assert root[names.STEPS_TOTAL] == 3
    assert root[names.STEPS_FAILED] == 1
    assert root[names.STEPS_ESCALATED] == 1
    assert to_json(report)["trace"] == {"id": spans[0]["traceId"], "file": str(file)}


def test_every_beginning_of_a_real_run_closes_into_a_tree(story: tuple[Scratch, Report]) -> None:
    repo, _ = story
    for length in range(1, len(repo.events) + 1):
        part = [(event, 100.0 + n) for n, event in enumerate(repo.events[:length])]
        check_trees(spans_of(part)[0])


def test_links_tell_which_attempt_went_before(story: tuple[Scratch, Report]) -> None:
    _, report = story
    attempts = [
        span
        for span in told(trace_file(report))
        if span["name"].startswith("attempt") and fields(span)[names.STEP_ID] == "lint"
    ]
    first, second, third = attempts
    assert "links" not in first
    kind = "escalated_from"
    for span, before in ((second, first), (third, second)):
        (link,) = span["links"]
        assert link["spanId"] == before["spanId"]
        assert fields(link)[names.LINK_KIND] == kind
        assert fields(span)[names.LINK_KIND] == kind
        assert fields(span)[names.LINK_REASON] == fields(link)[names.LINK_REASON]
    assert fields(third)[names.LINK_REASON] == "the agent gave up"


def test_without_content_no_word_of_an_agent_is_in_the_trace(
    story: tuple[Scratch, Report],
) -> None:
    repo, report = story
    text = trace_file(report).read_text("utf-8")
    assert "canary" not in text
    assert "a - b" not in text
    assert "canary" not in runner("trace", "--json", repo=repo).stdout
    with_it = runner("trace", "--json", "--trace-content", repo=repo).stdout
    for canary in ("reason", "argument", "evidence", "done", "summary"):
        assert f"canary-{canary}" in with_it
    assert "a - b" in with_it


async def test_a_secret_is_in_no_span(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "s3cr3t-value-of-the-token")
    repo = make(world)
    report = await repo.run(
        """
        secrets: [DEPLOY_TOKEN]
        steps:
          - id: leak
            secrets: [DEPLOY_TOKEN]
            env: { ALSO: "x" }
            run: echo s3cr3t-value-of-the-token
        """,
        secrets=("DEPLOY_TOKEN",),
        trace_content=True,
    )
    assert report.exit_code == 0
    assert "s3cr3t" not in trace_file(report).read_text("utf-8")


async def test_waiting_for_a_slot_and_for_the_tree_is_shown(broken: Scratch) -> None:
    report = await broken.run(
        """
        steps:
          - id: one
            needs: []
            run: sleep 0.2
          - id: two
            needs: []
            run: "true"
        """,
        jobs=1,
    )
    (queue,) = (span for span in told(trace_file(report)) if span["name"].startswith("queue "))
    assert fields(queue)[names.WAIT_REASON] == "slot"
    (waited,) = broken.of(Waited)
    assert waited.seconds > 0.05


async def test_a_file_that_cannot_be_written_costs_one_notice(world: Path) -> None:
    repo = make(world)

    def block(event: Event) -> None:
        if isinstance(event, RunStarted):
            Path(event.trace_file).mkdir()

    report = await repo.run(
        """
        steps:
          - { id: one, run: "true" }
          - { id: two, run: "true" }
          - { id: three, run: "true" }
        """,
        watch=block,
    )
    assert report.exit_code == 0
    (notice,) = repo.of(Notice)
    assert "the trace is not written" in notice.text
    assert "Is a directory" in notice.text


FULL_DISK = """
import resource, sys
from pathlib import Path
from story import failing
from runner.telemetry.file import TraceFile

limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
said = []
trace = TraceFile(Path(sys.argv[1]), {}, said.append)
for event in failing():
    trace(event)
trace.close()
print(len(said))
"""


@pytest.mark.parametrize(("limit", "notices"), [(100, 1), (3_000, 1), (1_000_000, 0)])
def test_a_full_disk_leaves_whole_lines(world: Path, limit: int, notices: int) -> None:
    file = world / "trace.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(file), str(limit)],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert done.stdout.strip() == str(notices)
    assert len(told(file)) < 100
    assert file.stat().st_size <= limit


async def test_a_run_that_breaks_leaves_a_whole_tree(world: Path) -> None:
    repo = make(world)

    def breaks(event: Event) -> None:
        if isinstance(event, CommandFinished):
            raise RuntimeError("a listener of the caller's own")

    with pytest.raises(RuntimeError):
        await repo.run("steps: [{ id: one, run: 'true' }]", watch=breaks)
    (file,) = state(repo).rglob("trace.otlp.jsonl")
    assert outline(told(file)) == [
        "invoke_workflow workflow !",
        "  step one !",
        "    attempt 1 command !",
        "      true !",
    ]


# -- the trace around a run, and commands in it ---------------------------------------------------

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
TELLING = """
steps:
  - id: told
    run: env > ../told.env; test -e mended.txt
    fix: { agent: fixer, attempts: 1 }
"""
TOLD_SCRIPT = """
rules:
  - turns:
      - { call: shell, with: { command: "env > ../shell.env" } }
      - { call: check }
      - { call: write_file, with: { path: mended.txt, content: x } }
      - done: mended
"""


def variables(repo: Scratch, file: str) -> dict[str, str]:
    text = (repo.root.parent / file).read_text()
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value for name, _, value in pairs}


async def test_each_command_is_told_its_own_span(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "TRACEPARENT": PARENT,
        "TRACESTATE": "a=1",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:1",
        "OTEL_EXPORTER_OTLP_HEADERS": "key=value",
    }.items():
        monkeypatch.setenv(name, value)
    repo = make(world)
    seen: list[tuple[str, dict[str, str]]] = []

    def look(event: Event) -> None:
        if isinstance(event, CommandFinished):
            seen.append((event.purpose, variables(repo, "told.env")))

    models = repo.script(TOLD_SCRIPT)
    report = await repo.run(TELLING, models=models, allow_shell=True, watch=look)
    spans = {span["spanId"]: span for span in told(trace_file(report))}
    root = next(span for span in spans.values() if span["name"].startswith("invoke_workflow"))
    assert (root["traceId"], root["parentSpanId"]) == (TRACE, PARENT[36:52])
    assert root["traceState"] == "a=1"
    assert [purpose for purpose, _ in seen] == ["run", "agent", "check"]
    for purpose, env in seen:
        own = parse_traceparent(env["TRACEPARENT"])
        assert own is not None
        assert own.trace_id == TRACE
        assert fields(spans[own.span_id])[names.COMMAND_PURPOSE] == purpose
        assert env["TRACESTATE"] == "a=1"
        assert "OTEL_EXPORTER_OTLP_HEADERS" not in env
        # An agent chose what runs in it.
        assert ("OTEL_EXPORTER_OTLP_ENDPOINT" in env) is (purpose != "agent")
    shell = variables(repo, "shell.env")
    own = parse_traceparent(shell["TRACEPARENT"])
    assert own is not None
    assert spans[own.span_id]["name"] == "execute_tool shell"
    assert not [name for name in shell if name.startswith("OTEL_")]


@pytest.mark.parametrize("parent", ["nonsense", "00-0-0-00", f"{PARENT}-more"])
async def test_a_malformed_parent_fails_no_run(
    world: Path, monkeypatch: pytest.MonkeyPatch, parent: str
) -> None:
    monkeypatch.setenv("TRACEPARENT", parent)
    monkeypatch.setenv("TRACESTATE", "a=1")
    repo = make(world)
    report = await repo.run("steps: [{ id: told, run: env > ../told.env }]")
    assert report.exit_code == 0
    env = variables(repo, "told.env")
    own = parse_traceparent(env["TRACEPARENT"])
    assert own is not None
    assert report.trace is not None
    assert own.trace_id == report.trace.id
    assert own.trace_id not in parent
    assert "TRACESTATE" not in env


async def test_headers_pass_when_a_step_inherits_them_and_what_it_declares_stays(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "key=value")
    repo = make(world)
    await repo.run(
        """
        steps:
          - id: told
            env: { inherit: [OTEL_EXPORTER_OTLP_HEADERS], TRACEPARENT: mine }
            run: env > ../told.env
        """
    )
    env = variables(repo, "told.env")
    assert env["OTEL_EXPORTER_OTLP_HEADERS"] == "key=value"
    assert env["TRACEPARENT"] == "mine"


async def test_turned_off_there_is_no_file_and_the_outer_trace_passes_through(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("TRACEPARENT", PARENT)
    repo = make(world)
    report = await repo.run("steps: [{ id: told, run: env > ../told.env }]")
    assert report.trace is None
    assert to_json(report)["trace"] is None
    assert list(state(repo).rglob("*.jsonl")) == []
    assert variables(repo, "told.env")["TRACEPARENT"] == PARENT


# -- runs that are ended --------------------------------------------------------------------------


def begun(repo: Scratch, workflow: str) -> subprocess.Popen[str]:
    """Start a run in a process of its own and wait until its command has begun."""
    repo.write("workflow.yaml", workflow)
    env = {**os.environ, "SUBRUNNER_STATE_DIR": str(state(repo))}
    process = subprocess.Popen([RUNNER, "exec", "-q"], cwd=repo.root, env=env, text=True)
    while not (repo.root / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    return process


SLOW = """
steps:
  - { id: quick, run: "true" }
  - { id: slow, run: touch begun; sleep 60 }
"""


def test_sigterm_loses_no_span(world: Path) -> None:
    repo = make(world)
    process = begun(repo, SLOW)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    (file,) = state(repo).rglob("trace.otlp.jsonl")
    assert outline(told(file)) == [
        "invoke_workflow workflow",
        "  step quick",
        "    attempt 1 command",
        "      true",
        "  step slow",
        "    attempt 1 command",
        "      touch",
    ]
    root = fields(named(told(file), "invoke_workflow workflow")[0])
    assert root[names.PIPELINE_RESULT] == "cancellation"


def test_a_killed_run_is_whole_again_from_its_journal(world: Path) -> None:
    repo = make(world)
    process = begun(repo, SLOW)
    shown = runner("trace", repo=repo)
    assert "touch" in shown.stdout
    assert "goes on" in shown.stderr
    process.kill()
    process.wait()
    (file,) = state(repo).rglob("trace.otlp.jsonl")
    assert [span["name"] for span in told(file)] == ["true", "attempt 1 command", "step quick"]
    again = world / "again.jsonl"
    done = runner("trace", "last", "-o", str(again), repo=repo)
    assert done.returncode == 0, done.stderr
    spans = told(again)
    assert outline(spans)[0] == "invoke_workflow workflow !"
    assert [fields(span).get("error.type") for span in spans].count("killed") == 4
    # The ids are those that were written, and told to commands, before the kill.
    assert {span["spanId"] for span in told(file)} <= {span["spanId"] for span in spans}
    assert stat.S_IMODE(again.stat().st_mode) == 0o600


# -- runner trace ---------------------------------------------------------------------------------


def test_the_tree_is_drawn_within_eighty_columns(story: tuple[Scratch, Report]) -> None:
    repo, _ = story
    shown = runner("trace", repo=repo)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert re.match(r"run \d{8}-\d{6}-[0-9a-f]{4}  trace [0-9a-f]{32}$", lines[0])
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in shown.stdout
    (attempt,) = (line for line in lines if "attempt 3 cheap" in line)
    assert re.search(r"\d+ms|\d\.\ds", attempt)
    assert "━" in attempt
    assert re.search(r"4\.\dk in \(\d\d% cached\)", attempt)
    (lint,) = (line for line in lines if "step lint" in line)
    assert "no progress: the same failure" in " ".join(lines) or "no progress" in lint
    # In a terminal that has no such signs.
    plain = runner("trace", repo=repo, PYTHONIOENCODING="ascii")
    assert plain.stdout.isascii()
    assert "==" in plain.stdout


@pytest.mark.parametrize("width", [40, 80, 160])
def test_long_names_and_reasons_stay_in_their_columns(width: int) -> None:
    long = "a-step-with-a-very-long-name-that-nobody-would-write-but-somebody-did/" * 3
    steps: list[Event] = [
        StepStarted(long),
        StepFinished(StepOutcome(long, Status.FAILED, None, long)),
    ]
    spans, _ = spans_of([(event, 100.0) for event in (START, *steps)])
    text = render_trace(spans, width=width)
    assert max(map(len, text.splitlines()[1:])) <= width
    assert "step a-step-with" in text


def test_otlp_is_printed_and_the_group_knows_its_commands(world: Path) -> None:
    repo = make(world)
    repo.write("workflow.yaml", "steps: [{ id: ok, run: 'true' }]")
    assert runner("exec", "-q", repo=repo).returncode == 0
    done = runner("trace", "--json", repo=repo, OTEL_SERVICE_NAME="mine")
    data = json.loads(done.stdout)
    assert attributes(data)["service.name"] == "mine"
    run_id = attributes(data)["service.instance.id"]
    assert {name["name"] for name in data["resourceSpans"][0]["scopeSpans"][0]["spans"]} == {
        "invoke_workflow workflow", "step ok", "attempt 1 command", "true",
    }  # fmt: skip
    assert json.loads(runner("trace", run_id, "--json", repo=repo).stdout).keys() == data.keys()
    assert runner("trace", "show", "last", repo=repo).stdout == runner("trace", repo=repo).stdout
    helped = runner("trace", "--help", repo=repo).stdout
    assert "show" in helped
    assert "upload" in helped
    missing = runner("trace", "nothing", repo=repo)
    assert missing.returncode == 2
    assert "no run 'nothing' here" in missing.stderr
    nowhere = runner("trace", "-o", "none/x.jsonl", repo=repo)
    assert nowhere.returncode == 1
    assert "none/x.jsonl: No such file" in nowhere.stderr


def test_a_shell_completes_runs_and_commands(world: Path) -> None:
    repo = make(world)
    repo.write("workflow.yaml", "steps: [{ id: ok, run: 'true' }]")
    runner("exec", "-q", repo=repo)

    def complete(words: str, place: int) -> str:
        return runner(
            repo=repo, SUBRUNNER_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(place)
        ).stdout

    first = complete("runner trace ", 2)
    assert "upload" in first
    run_id = re.search(r"\d{8}-\d{6}-[0-9a-f]{4}", first)
    assert run_id is not None
    assert run_id[0] in complete("runner trace show ", 3)


def test_exec_takes_the_content_option(broken: Scratch) -> None:
    broken.write("workflow.yaml", STORY)
    chosen = [f"--model={role}={one}" for role, one in broken.script(SCRIPT).items()]
    runner("exec", "-q", "--trace-content", *chosen, repo=broken)
    (file,) = state(broken).rglob("trace.otlp.jsonl")
    assert "canary-argument" in file.read_text("utf-8")
