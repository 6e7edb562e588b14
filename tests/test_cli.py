"""The command line: help, errors and exit codes, through the real entry point."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from runner.cli import invoke
from runner.cli.app import COMMANDS, root
from runner.cli.drive import Output
from runner.cli.exec import exec_command
from runner.cli.options import options_from, provider
from runner.cli.restore import chosen, render_snapshots
from runner.errors import UsageError
from runner.events import SnapshotTaken
from runner.plan import Options, Provider

if TYPE_CHECKING:
    from collections.abc import Callable

HEAVY = (
    "pydantic",
    "pydantic_ai",
    "opentelemetry",
    "httpx2",
    "rich",
    "jsonschema",
    "sqlite3",
    "yaml",
)

WORKFLOW = """\
name: ship
secrets: [TOKEN]
steps:
  - id: lint
    run: echo lint
    autofix: echo better
    fix: { agent: lint-fixer, write: ["src/**"] }
  - id: test
    run: "true"
  - id: deploy
    run: "true"
    secrets: [TOKEN]
"""


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the `runner` command in an empty directory, with state of its own and without keys."""
    kept = ("PATH", "HOME", "LANG")
    environ = {name: os.environ[name] for name in kept if name in os.environ}
    environ["SUBRUNNER_STATE_DIR"] = str(tmp_path / "state")
    environ["SUBRUNNER_CONFIG"] = str(tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_text("{}\n")
    work = tmp_path / "work"
    work.mkdir()

    def call(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runner", *args]
        return subprocess.run(
            command, cwd=work, env=environ | more, capture_output=True, text=True, check=False
        )

    return call


def test_the_first_help_page_is_short_and_names_every_command() -> None:
    page = CliRunner().invoke(root, ["--help"], prog_name="runner").output
    lines = page.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    for name in COMMANDS:
        assert any(line.startswith(f"  {name} ") for line in lines), name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str) -> None:
    result = CliRunner().invoke(root, [name, "--help"], prog_name="runner")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: runner {name} ")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from runner.cli import invoke; code = invoke(['--help']); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "[]\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["exce"], "Did you mean 'exec'?"),
        (["workflow.yaml"], "runner exec workflow.yaml"),
        (["exec", "--budget", "lots"], "'lots' is no amount of US dollars"),
        (["exec", "--budget=-1"], "'-1' is no amount of US dollars"),
        (["exec", "--budget", "nan"], "'nan' is no amount of US dollars"),
        (["exec", "--model", "gpt"], "'gpt' is not of the form ROLE=ID"),
        (["exec", "-i", "=x"], "'=x' is not of the form NAME=VALUE"),
        (["exec", "-j", "0"], "0 is not in the range"),
        (["exec", "--json", "--events", "-"], "both want stdout"),
        (["exec", "-C", "nowhere"], "'nowhere' does not exist"),
        (["exec", "--fixx", "test"], "No such option"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_wrong_usage_is_explained_and_exits_with_2(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(argv) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_version_and_completion(shell: Callable[..., Any]) -> None:
    assert shell("--version").stdout.startswith("runner ")
    assert "SUBRUNNER_COMPLETE=bash_complete" in shell("completion", "bash").stdout
    completed = shell(SUBRUNNER_COMPLETE="bash_complete", COMP_WORDS="runner ex", COMP_CWORD="1")
    assert completed.stdout.split(",")[1:] == ["exec\nplain", "explain\n"]


MINE = Provider("mine", "http://h", "MINE_API_KEY")


def parsed(*argv: str) -> Options:
    context = exec_command.make_context("exec", list(argv))
    return options_from(context.params, {"MINE_API_KEY": "x"})


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], Options()),
        (["file.yaml", "a", "b"], Options(steps=("a", "b"))),
        (["-i", "a=b=c", "-i", "d="], Options(inputs={"a": "b=c", "d": ""})),
        (["--model", "main=openai:x"], Options(models={"main": "openai:x"})),
        (["--budget", "$0.50"], Options(budget_usd=Decimal("0.50"))),
        (["--fix", "a", "--fix", "b"], Options(fix=("a", "b"))),
        (["--secret", "T", "-j", "3"], Options(secrets=("T",), jobs=3)),
        (
            ["--no-models", "--no-push", "--no-hooks"],
            Options(no_models=True, no_push=True, no_hooks=True),
        ),
        (["--fail-fast", "--allow-shell"], Options(fail_fast=True, allow_shell=True)),
        (["--policy", "main"], Options(policy="main")),
        (["--strict-prefix"], Options(strict_prefix=True)),
        (
            ["--allow-network", "--allow-uncommitted"],
            Options(allow_network=True, allow_uncommitted=True),
        ),
        (["--trust-checkout-auth"], Options(trust_checkout_auth=True)),
        (["--state-dir", "s"], Options(state_dir=Path("s"))),
        (
            ["--provider", "mine=http://h"],
            Options(providers={"mine": Provider("mine", "http://h", "MINE_API_KEY")}),
        ),
    ],
)
def test_options_are_what_the_command_line_said(
    argv: list[str], expected: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUBRUNNER_STATE_DIR", raising=False)
    assert parsed(*argv) == replace(expected, input_files=True)


def test_a_server_without_a_key_in_the_environment_has_none() -> None:
    assert provider("my-own", "http://h", {}).key_env is None
    assert provider("my-own", "http://h", {"MY_OWN_API_KEY": "x"}).key_env == "MY_OWN_API_KEY"


def test_two_things_cannot_both_have_stdout() -> None:
    assert Output(as_json=True, events="file").checked()
    with pytest.raises(UsageError):
        Output(as_json=True, events="-").checked()


def test_check_says_what_is_good(shell: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "work/workflow.yaml").write_text(WORKFLOW)
    done = shell("check")
    assert (done.returncode, done.stdout) == (0, "")
    assert "workflow 'ship' is good; its steps: lint, test, deploy" in done.stderr


def test_check_names_file_line_and_column_of_every_error(
    shell: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "work/workflow.yaml").write_text("steps:\n  - id: a\n    rum: x\n  - id: a\n")
    done = shell("check", "workflow.yaml")
    assert done.returncode == 2
    assert "workflow.yaml:3:5: " in done.stderr
    assert "run" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_without_a_workflow_says_how_to_get_one(shell: Callable[..., Any]) -> None:
    done = shell("check")
    assert done.returncode == 2
    assert "runner init" in done.stderr


def test_schema_is_json(shell: Callable[..., Any]) -> None:
    assert json.loads(shell("schema").stdout)["properties"]["steps"]


def test_agents_lists_the_built_in_ones_and_prints_one(shell: Callable[..., Any]) -> None:
    listed = shell("agents").stdout
    assert {"fixer", "lint-fixer", "test-fixer"} <= {
        line.split()[0] for line in listed.splitlines()
    }
    one = shell("agents", "fixer").stdout
    assert one.startswith("name:        fixer\n")
    missing = shell("agents", "nobody")
    assert missing.returncode == 2
    assert "There are: " in missing.stderr


def test_plan_shows_steps_rungs_models_grants_and_cost_and_runs_nothing(
    shell: Callable[..., Any], tmp_path: Path
) -> None:
    workflow = WORKFLOW.replace("echo lint", "touch ran")
    (tmp_path / "work/workflow.yaml").write_text(workflow)
    done = shell("plan", ANTHROPIC_API_KEY="x")
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "secret TOKEN: not granted, --secret TOKEN" in done.stdout
    assert "cheap: anthropic:claude-haiku-5-5 (shipped)" in lines
    assert "test   after lint" in lines
    assert "subagent  lint-fixer on cheap, 2 attempts of " in done.stdout
    assert "may write src/**" in lines
    assert "ceilings  1.00 USD: the default" in lines
    assert "30m: the default" in lines
    assert "at most 1.00 USD (the default budget)" in done.stdout
    assert re.match(r"prices: genai-prices [\d.]+, of 20\d\d-\d\d-\d\d$", lines[-1])
    assert not (tmp_path / "work/ran").exists()


def test_plan_says_where_ceilings_and_the_policy_are_set(
    shell: Callable[..., Any], tmp_path: Path
) -> None:
    budget = "budget: { usd: 3, tokens: 900000, time: 10m }\n"
    (tmp_path / "work/workflow.yaml").write_text(budget + WORKFLOW)
    config = tmp_path / "own.yaml"
    config.write_text("ceilings: { usd: 2, time: 90s }\npolicy: main\n")
    done = shell("plan", SUBRUNNER_CONFIG=str(config))
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert f"policy    main: `policy` in {config}" in lines, done.stderr
    at = lines.index(f"ceilings  2.00 USD: `ceilings.usd` in {config}")
    assert lines[at + 1 : at + 3] == [
        "900,000 tokens: the workflow",
        f"1m 30s: `ceilings.time` in {config}",
    ]
    done = shell("plan", "--policy", "cheap", "--budget", "1.5", SUBRUNNER_CONFIG=str(config))
    assert "policy    cheap: --policy\nceilings  1.50 USD: --budget\n" in done.stdout


def test_plan_without_a_key_says_what_to_set(shell: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "work/workflow.yaml").write_text(WORKFLOW)
    done = shell("plan")
    assert "set ANTHROPIC_API_KEY or OPENAI_API_KEY" in done.stdout
    assert "nothing: there is no model to ask" in done.stdout
    assert "prices:" not in done.stdout


def test_plan_of_some_steps_and_granted_secrets(shell: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "work/workflow.yaml").write_text(WORKFLOW)
    some = shell("plan", "workflow.yaml", "test").stdout
    assert "deploy" not in some
    granted = shell("plan", "--secret", "TOKEN", "--no-models").stdout
    assert "secret TOKEN: granted" in granted
    assert "models    none: --no-models" in granted


@pytest.mark.parametrize("command", ["runs", "show", "explain", "restore"])
def test_without_a_run_there_is_nothing_to_look_at(command: str, shell: Callable[..., Any]) -> None:
    done = shell(command)
    assert done.returncode == 2
    assert "no run has been recorded" in done.stderr
    assert "runner exec" in done.stderr


SNAPSHOTS = [
    SnapshotTaken("", "start", "t0"),
    SnapshotTaken("lint", "before attempt 1", "t1"),
    SnapshotTaken("lint", "after attempt 1", "t2"),
]


@pytest.mark.parametrize(("step", "tree"), [(None, "t0"), ("lint", "t1")])
def test_restore_goes_back_to_before_the_run_or_the_step(step: str | None, tree: str) -> None:
    assert chosen(SNAPSHOTS, "run", step) == tree


def test_restore_says_which_steps_have_snapshots() -> None:
    with pytest.raises(UsageError, match="Steps with snapshots: lint"):
        chosen(SNAPSHOTS, "run", "test")
    with pytest.raises(UsageError, match="took no snapshot"):
        chosen([], "run", None)


def test_snapshots_are_listed_one_a_line() -> None:
    assert render_snapshots(SNAPSHOTS).splitlines()[1] == "t1  lint  before attempt 1"


def test_exec_prints_the_report_only_and_exits_with_its_code(
    shell: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "work/workflow.yaml").write_text("steps:\n  - { id: a, run: 'echo out; exit 3' }\n")
    done = shell("exec", "--json", "--report", "r/report.json", "--events", "r/events.jsonl")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert (report["exit_code"], report["steps"][0]["status"]) == (1, "failed")
    assert json.loads((tmp_path / "work/r/report.json").read_text()) == report
    events = (tmp_path / "work/r/events.jsonl").read_text().splitlines()
    kinds = [next(iter(json.loads(line).values())) for line in events]
    assert kinds[0] == "run_started"
    assert kinds[-1] == "run_finished"
    assert "runner exec --fix a" in done.stderr


def test_a_failure_that_is_allowed_is_told_as_a_warning(
    shell: Callable[..., Any], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    steps = "  - { id: lint, run: exit 3, allow_failure: true }\n  - { id: test, run: 'true' }\n"
    (work / "inner.yaml").write_text(f"steps:\n{steps}")
    (work / "workflow.yaml").write_text(f"steps:\n{steps}  - {{ id: in, uses: ./inner.yaml }}\n")
    done = shell("exec", "workflow.yaml")
    assert done.returncode == 0
    for step in ("lint", "in/lint"):
        assert re.search(rf"\] {step}: failed .*: exit 3 \(it may fail\)\n", done.stderr)
        assert f"\n! {step}" in done.stderr
    assert "✗" not in done.stderr
    assert shell("exec", "workflow.yaml", "--quiet").stderr == ""


def test_events_can_go_to_stdout(shell: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "work/workflow.yaml").write_text("steps:\n  - { id: a, run: 'true' }\n")
    lines = shell("exec", "--events", "-", "--quiet").stdout.splitlines()
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert len(lines) > 3


def test_a_run_can_be_looked_at_and_its_tree_brought_back_and_forth(
    shell: Callable[..., Any], tmp_path: Path
) -> None:
    work = tmp_path / "work"
    steps = "steps:\n  - id: a\n    run: grep -q new f.txt || exit 1; echo seen\n"
    (work / "workflow.yaml").write_text(steps + "    autofix: echo new > f.txt\n    fix: fixer\n")
    (work / "f.txt").write_text("old\n")
    assert shell("exec", "--allow-uncommitted").returncode == 0
    assert "workflow" in shell("runs").stdout
    assert "succeeded" in shell("show").stdout
    assert json.loads(shell("show", "last", "--json").stdout)["exit_code"] == 0
    assert shell("explain", "last", "a").stdout.startswith("a\n")
    assert shell("log", "last", "a").stdout == "seen\n"
    assert "start" in shell("restore", "--list").stdout
    back = shell("restore", "last", "a")
    assert (back.returncode, (work / "f.txt").read_text()) == (0, "old\n")
    undo = back.stderr.partition("To undo this: runner ")[2].split()
    assert shell(*undo).returncode == 0
    assert (work / "f.txt").read_text() == "new\n"
    assert "has no step 'b'" in shell("explain", "last", "b").stderr
    assert "has no step 'b'" in shell("log", "last", "b").stderr
