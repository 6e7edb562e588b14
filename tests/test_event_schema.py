"""The published schemas of events and report, held against what real runs write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from jsonschema import Draft202012Validator, ValidationError
from scratch import UNITTEST, make
from story import START, failing, kept_warm

from runner.cli.drive import EventWriter
from runner.codec import decode, encode, kinds
from runner.events import CommandOutput, Event, RunResumed, RunStarted, StepStarted
from runner.journal import Journal
from runner.report import summarise, to_json
from runner.schemas import event_schema, report_schema
from runner.telemetry.identity import trace_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from scratch import Scratch

EVENTS: Any = Draft202012Validator(event_schema())
REPORT: Any = Draft202012Validator(report_schema())
Full = tuple[list[dict[str, Any]], Any, Any]
HEAD = {"schema": 1, "seq": 1, "ts": 1.5, "run_id": "r", "trace_id": "a" * 32}
WORKFLOW = f"""
name: ship
models: {{}}
steps:
  - id: flaky
    run: test -e ../flag || {{{{ touch ../flag; exit 9; }}}}
    retry: {{{{ attempts: 1 }}}}
  - id: test
    needs: []
    run: {UNITTEST}
    fix: {{{{ agent: test-fixer, attempts: 1, write: [calc.py] }}}}
    escalate: true
  - id: never
    needs: []
    run: exit 4
    allow_failure: true
  - id: commit
    needs: [test]
    commit: {{{{ message: mend }}}}
"""
SCRIPT = """
rules:
  - when: { role: cheap }
    turns:
      - { call: read_file, with: { path: calc.py } }
      - cannot: It is beyond me.
  - when: { role: main }
    turns:
      - { call: edit_file, with: { path: calc.py, old_text: a - b, new_text: a + b } }
      - done: It is mended.
"""


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


# -- the schemas themselves ------------------------------------------------------------------------


def test_both_are_draft_2020_12() -> None:
    for schema in (event_schema(), report_schema()):
        assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        Draft202012Validator.check_schema(schema)
        json.dumps(schema)


def test_every_kind_of_event_that_is_written_is_named() -> None:
    schema = event_schema()
    written = set(get_args(Event)) - {CommandOutput}
    named = schema["properties"]["type"]["examples"]
    assert {kinds()[kind] for kind in named} == written
    assert {cls.__name__ for cls in written} <= set(schema["$defs"])
    assert all(schema["$defs"][cls.__name__]["description"] for cls in written)


@pytest.mark.parametrize("option", ["--events", "--report"])
def test_the_command_prints_them(option: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "schema", option], capture_output=True, check=True
    )
    assert json.loads(done.stdout) == (event_schema() if "ev" in option else report_schema())


def test_the_workflow_schema_is_still_the_default() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "schema"], capture_output=True, check=True
    )
    assert "steps" in json.loads(done.stdout)["properties"]


def test_what_a_newer_release_adds_stays_valid() -> None:
    EVENTS.validate({"type": "step_started", **HEAD, "step": "a", "colour": {"new": [1]}})
    EVENTS.validate({"type": "moon_landed", **HEAD, "where": 3})
    report = to_json(summarise(failing()))
    report["steps"][0]["colour"] = report["models"]["main"]["colour"] = report["moon"] = 1
    REPORT.validate(report)


def test_what_an_older_release_left_out_stays_valid() -> None:
    EVENTS.validate(
        {"type": "command_started", **HEAD, "step": "a", "purpose": "run", "command": "x"}
    )
    report = to_json(summarise(failing()))
    del report["trace"], report["replayed"]
    REPORT.validate(report)


@pytest.mark.parametrize(
    "line",
    [
        {"type": "step_started", **HEAD},
        {"type": "step_started", **HEAD, "step": 3},
        {"type": "step_started", **{k: v for k, v in HEAD.items() if k != "seq"}, "step": "a"},
        {"type": "step_started", **HEAD, "step": "a", "run_id": 5},
        {"type": "step_started", **HEAD, "step": "a", "trace_id": "XYZ"},
        {"type": "waited", **HEAD, "step": "a", "reason": "moon", "seconds": 1.0},
        {"type": "snapshot_taken", **HEAD, "step": "a", "label": "x"},
        {**HEAD, "step": "a"},
    ],
)
def test_what_is_wrong_is_not_valid(line: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EVENTS.validate(line)


# -- held against events and reports ---------------------------------------------------------------


@pytest.mark.parametrize("event", [*failing(), kept_warm()], ids=lambda one: type(one).__name__)
def test_each_event_as_it_is_encoded(event: Event) -> None:
    if not isinstance(event, CommandOutput):
        EVENTS.validate({**HEAD, **encode(event)})


def unnamed(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> Iterator[str]:
    """Yield the keys of a value that its schema does not tell of."""
    if "anyOf" in schema and value is not None:
        schema = next(one for one in schema["anyOf"] if one.get("type") != "null")
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, list) and schema:
        for item in value:  # pyright: ignore[reportUnknownVariableType]  any JSON
            yield from unnamed(item, schema["items"], root)
    if isinstance(value, dict) and schema:
        more = schema.get("additionalProperties")
        for key, item in value.items():  # pyright: ignore[reportUnknownVariableType]  any JSON
            inner = schema.get("properties", {}).get(key, more)
            if inner is None:
                yield str(key)  # pyright: ignore[reportUnknownArgumentType]  any JSON
            else:
                yield from unnamed(item, inner, root)


@pytest.mark.parametrize("events", [failing(), [*failing()[:-1], kept_warm()], failing()[:3]])
def test_the_report_and_its_schema_name_the_same_keys(events: list[Event]) -> None:
    report = to_json(summarise(events))
    REPORT.validate(report)
    assert [*unnamed(report, report_schema(), report_schema())] == []


def test_it_would_be_seen_if_a_key_were_not_named() -> None:
    report = to_json(summarise(failing()))
    report["steps"][0]["colour"] = 1
    assert [*unnamed(report, report_schema(), report_schema())] == ["colour"]


# -- lines of events -------------------------------------------------------------------------------


def written(*events: Event, past: Sequence[Event] = ()) -> list[dict[str, Any]]:
    stream = StringIO()
    writer = EventWriter(stream)
    writer.continued((one, 1.0) for one in past)
    for event in events:
        writer(event)
    return lines(stream.getvalue())


def test_a_line_begins_with_its_kind_and_says_where_it_belongs() -> None:
    events = failing()
    found = written(*events)
    start = next(one for one in events if isinstance(one, RunStarted))
    assert {tuple(line)[:6] for line in found} == {
        ("type", "schema", "seq", "ts", "run_id", "trace_id")
    }
    assert [line["seq"] for line in found] == [*range(1, len(found) + 1)]
    assert {line["run_id"] for line in found} == {start.run_id}
    assert {line["trace_id"] for line in found} == {trace_id(start.run_id)}
    assert [line["type"] for line in found].count("command_output") == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_ends_the_events_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w") as stream:
        writer = EventWriter(stream)
        for event in failing():
            writer(event)
        writer.close()
    told = "runner: events are no longer written: No space left on device; the run goes on\n"
    assert capsys.readouterr().err == told


def test_a_line_is_still_the_event_that_it_was() -> None:
    events = [one for one in failing() if not isinstance(one, CommandOutput)]
    assert [decode(line) for line in written(*events)] == events


def test_a_resumed_run_goes_on_counting_in_a_trace_of_its_own() -> None:
    past = [one for one in failing()[:5] if not isinstance(one, CommandOutput)]
    (first, second) = written(RunResumed(2, 5.0), StepStarted("a"), past=past)
    assert (first["seq"], second["seq"]) == (len(past) + 1, len(past) + 2)
    assert first["run_id"] == second["run_id"] == START.run_id
    assert second["trace_id"] == trace_id(START.run_id, 2)


# -- real runs -------------------------------------------------------------------------------------


def execute(scratch: Scratch, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    state = scratch.root.parent / "state"
    return subprocess.run(
        [sys.executable, "-m", "runner", "exec", "--state-dir", str(state), *options],
        cwd=scratch.root, capture_output=True, text=True, check=False,
        env={**os.environ, **environ},
    )  # fmt: skip


@pytest.fixture(scope="module")
def full(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Full]:
    """Run through every rung: lines of events, report, and the journal's records."""
    patch = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("home")
    patch.setenv("HOME", str(home))
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n")
    world = tmp_path_factory.mktemp("full").resolve()
    scratch = make(world)
    scratch.write("calc.py", scratch.read("calc.py").replace("a + b", "a - b"))
    scratch.write(".runner/workflow.yaml", WORKFLOW.replace("{{", "{").replace("}}", "}"))
    scratch.commit_all()
    models = scratch.script(SCRIPT)
    parent = f"00-{'5' * 32}-{'7' * 16}-01"
    options = ["--json", "--policy", "ladder", "--events", str(world / "events.jsonl")]
    options += [f"--model={role}={model}" for role, model in models.items()]
    done = execute(scratch, *options, TRACEPARENT=parent)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    state = next((world / "state" / "repos").iterdir())
    with Journal.open(state, create=False) as journal:
        records = [*journal.records(report["run_id"])]
    yield lines((world / "events.jsonl").read_text()), report, records
    patch.undo()


def test_every_line_of_a_real_run_is_valid(full: Full) -> None:
    found, report, _ = full
    for line in found:
        EVENTS.validate(line)
    assert {"model_responded", "tool_called", "decided", "git_fact"} <= {x["type"] for x in found}
    REPORT.validate(report)
    assert [*unnamed(report, report_schema(), report_schema())] == []
    assert {one["rung"] for one in report["steps"]} >= {"command", "main"}


def test_every_field_of_a_real_line_is_named(full: Full) -> None:
    schema = event_schema()
    for line in full[0]:
        head = set(schema["properties"])
        named = schema["$defs"][kinds()[line["type"]].__name__]
        body = {key: value for key, value in line.items() if key not in head - {"run_id"}}
        if line["type"] != "run_started":
            del body["run_id"]
        assert [*unnamed(body, named, schema)] == []


def test_lines_have_the_journals_numbers(full: Full) -> None:
    found, report, records = full
    assert [line["seq"] for line in found] == [record.seq for record in records]
    assert [decode(line) for line in found] == [record.event for record in records]
    assert {line["run_id"] for line in found} == {report["run_id"]}
    assert all(
        abs(line["ts"] - record.at) < 60 for line, record in zip(found, records, strict=True)
    )


def test_lines_are_of_the_trace_that_the_run_belongs_to(
    full: Full,
) -> None:
    start = full[0][0]
    assert start["type"] == "run_started"
    expected = trace_id(start["run_id"], 1, start["trace_parent"])
    assert {line["trace_id"] for line in full[0]} == {expected}


def test_a_run_of_commands_imports_no_schema(world: Path) -> None:
    scratch = make(world)
    scratch.write(".runner/workflow.yaml", 'name: a\nsteps: [{id: a, run: "true"}]\n')
    code = (
        "import sys; from runner.cli import invoke; invoke(['exec', '--junit', '../j.xml']);"
        "heavy = ('pydantic', 'rich', 'jsonschema', 'opentelemetry');"
        "late = ('runner.schemas', 'runner.cli.github', 'runner.report.github');"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in heavy or m in late))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=scratch.root, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
