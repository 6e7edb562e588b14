"""What a stranger gets wrong at the command line, and that each message says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from runner.cli.restore import named
from runner.errors import UsageError
from runner.events import SnapshotTaken
from runner.plan import Options
from runner.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Shell = Callable[..., subprocess.CompletedProcess[str]]

WORKFLOW = """\
name: checks
secrets: [TOKEN]
steps:
  - id: lint
    run: echo linted
  - id: test
    run: echo tested; exit 1
    fix: true
  - id: deploy
    run: "true"
    secrets: [TOKEN]
"""


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    (folder / "workflow.yaml").write_text(WORKFLOW)
    return folder


@pytest.fixture
def shell(work: Path) -> Shell:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {**kept, "SUBRUNNER_STATE_DIR": str(work.parent / "state"), "SUBRUNNER_CONFIG": ""}

    def call(*args: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runner", *args]
        return subprocess.run(
            command, cwd=work, env=environ | more, capture_output=True, text=True, check=False
        )

    return call


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["exec", "test"], ["no workflow `test`", "It is a step", "`workflow.yaml test`"]),
        (["exec", "tset"], ["no workflow `tset`", "Here: workflow.yaml"]),
        (["exec", "."], ["no workflow `.`"]),
        (["-C", "x", "exec"], ["no option '-C' before a command", "runner exec -C DIR"]),
        (["exec", "--model", "cheep=script:x"], ["no model role 'cheep'", "Did you mean `cheap`?"]),
        (
            ["exec", "--provider", "x=ftp://host"],
            ["not an address", "--provider x=https://HOST/v1"],
        ),
        (["exec", "--events", "/dev/null/x"], ["--events /dev/null/x: "]),
        (
            ["exec", "workflow.yaml", "lint", "--model", "cheap=script:none.yaml"],
            ["none.yaml cannot be read", "No such file"],
        ),
        (["demo", "/dev/null/x"], ["cannot be made: Not a directory"]),
        (["demo", "/dev/null/x", "-q"], ["cannot be made"]),
    ],
)
def test_a_slip_is_explained_before_anything_runs(
    args: list[str], words: list[str], shell: Shell
) -> None:
    done = shell(*args)
    assert done.returncode == 2
    assert [word for word in words if word not in done.stderr] == []
    assert "Traceback" not in done.stderr


def test_a_broken_script_is_told_by_its_place(shell: Shell, work: Path) -> None:
    (work / "x.script.yaml").write_text("rules:\n  - whn: 1\n    done: x\n")
    wanted = ("exec", "workflow.yaml", "lint", "--model", "cheap=script:x.script.yaml")
    done = shell(*wanted)
    assert done.returncode == 2
    assert "x.script.yaml:2:5: a rule has no key `whn`" in done.stderr
    assert shell(*wanted, "--no-models").returncode == 0


def test_a_missing_program_is_named(shell: Shell, work: Path) -> None:
    (work / "workflow.yaml").write_text("steps:\n  - { id: a, run: no-such-program --x }\n")
    done = shell("exec")
    assert done.returncode == 1
    assert "`no-such-program` was not found: install it" in done.stderr


def test_a_plan_needs_no_secret(shell: Shell) -> None:
    for value in ({}, {"TOKEN": ""}):
        done = shell("plan", **value)
        assert done.returncode == 0, done.stderr
        assert "secret TOKEN: not granted" in done.stdout


def test_runs_as_json_say_how_each_ended(shell: Shell) -> None:
    assert json.loads(shell("runs", "--json").stdout) == []
    assert shell("exec", "workflow.yaml", "test").returncode == 1
    (row,) = json.loads(shell("runs", "--json").stdout)
    assert (row["workflow"], row["status"], row["exit_code"]) == ("checks", "failed", 1)
    assert row["started_at"].endswith("+00:00")
    slip = shell("explain", "test")
    assert slip.returncode == 2
    assert "runner explain last test" in slip.stderr


def test_a_reader_that_goes_away_ends_no_run(shell: Shell, work: Path) -> None:
    del shell
    (work / "workflow.yaml").write_text(
        'steps:\n  - { id: a, run: "sleep 0.5" }\n  - { id: b, run: touch ran }\n'
    )
    environ = {**os.environ, "SUBRUNNER_STATE_DIR": str(work.parent / "state")}
    command = [sys.executable, "-m", "runner", "exec", "--events", "-"]
    with subprocess.Popen(
        command, cwd=work, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stderr
        assert "run_started" in process.stdout.readline()
        process.stdout.close()
        told = process.stderr.read()
    assert (work / "ran").exists()
    assert "events are no longer written" in told
    assert "Traceback" not in told


SNAPSHOTS = [SnapshotTaken("", "start", "a1" * 20), SnapshotTaken("x", "later", "a2" * 20)]


def test_a_snapshot_is_named_by_its_beginning() -> None:
    assert named("a2", SNAPSHOTS, "run") == "a2" * 20
    assert named("b3" * 20, SNAPSHOTS, "run") == "b3" * 20
    for wrong in ("a", "zz", "--help"):
        with pytest.raises(UsageError, match="runner restore run --list"):
            named(wrong, SNAPSHOTS, "run")


def test_the_configuration_can_trust_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("grants: { trust_checkout_auth: true }\n")
    monkeypatch.setenv("SUBRUNNER_CONFIG", str(config))
    work = tmp_path / "work"
    work.mkdir()
    (work / "workflow.yaml").write_text('steps:\n  - { id: a, run: "true" }\n')
    options = Options(state_dir=tmp_path / "state")
    assert prepare(None, options=options, cwd=work).options.trust_checkout_auth


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("exec ", {"ship", "workflow.yaml"}),
        ("exec work", {"workflow.yaml"}),
        ("exec workflow.yaml t", {"test"}),
        ("exec --fix d", {"deploy"}),
        ("exec --model c", {"cheap="}),
        ("agents test", {"test-fixer"}),
        ("show ", set[str]()),
        ("log last ", set[str]()),
    ],
)
def test_a_shell_completes(words: str, expected: set[str], shell: Shell) -> None:
    line = f"runner {words}"
    count = len(line.split()) - (0 if line.endswith(" ") else 1)
    done = shell(SUBRUNNER_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(count))
    found = {word.partition(",")[2] for word in done.stdout.split()}
    assert found == expected


def test_a_shell_completes_runs_and_their_steps(shell: Shell) -> None:
    shell("exec", "workflow.yaml", "lint")
    asked = {"SUBRUNNER_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    assert shell(**asked, COMP_WORDS="runner log last ").stdout.strip() == "plain,lint"
    asked["COMP_CWORD"] = "2"
    assert shell(**asked, COMP_WORDS="runner show l").stdout.strip() == "plain,last"
