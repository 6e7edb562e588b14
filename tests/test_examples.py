"""Runs every example, offline, as its own text says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py") if "_test_" not in path.name)
TESTS = sorted(path.name for path in EXAMPLES.glob("*_test_*.py"))
WORKFLOWS = sorted(p.name for p in EXAMPLES.glob("*.yaml") if not p.name.endswith(".script.yaml"))
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.script.yaml"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Copy the examples into a repository of their own, with a first commit."""
    work = tmp_path / "work"
    shutil.copytree(EXAMPLES, work / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    for command in ("init --quiet", "add --all", "commit --quiet -m start"):
        subprocess.run(["git", *identity, *command.split()], cwd=work, check=True)
    return work


def run(folder: Path, *command: str) -> str:
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "PATH") if name in os.environ}
    environ = {**kept, "SUBRUNNER_STATE_DIR": str(folder.parent / "state")}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_what_it_says(name: str, folder: Path) -> None:
    _, _, said = (EXAMPLES / name).read_text().partition("# Prints:\n")
    expected = [line.removeprefix("# ") for line in said.splitlines()]
    assert expected
    assert run(folder, sys.executable, f"examples/{name}").splitlines() == expected


@pytest.mark.parametrize("name", TESTS)
def test_an_example_of_a_test_passes(name: str, folder: Path) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto")
    assert " passed" in run(folder, sys.executable, "-m", "pytest", *options, f"examples/{name}")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_as_it_says(name: str, folder: Path) -> None:
    command = re.search(r"^# Run: runner (.*)$", (EXAMPLES / name).read_text(), re.MULTILINE)
    assert command
    run(folder, sys.executable, "-m", "runner", *shlex.split(command[1]))


def test_the_example_of_delegate_shows_one_batch(folder: Path) -> None:
    text = (EXAMPLES / "08_delegate.yaml").read_text()
    command = text.partition("# Run: runner ")[2].partition("\n")[0]
    options = (*shlex.split(command), "--events", "-")
    lines = run(folder, sys.executable, "-m", "runner", *options).splitlines()
    events = [json.loads(line) for line in lines]
    calls = [one for one in events if one["type"] == "tool_called" and one["tool"] == "delegate"]
    ended = {one["outcome"]["id"]: one["outcome"]["rung"] for one in events if "outcome" in one}
    assert len(calls) == 1
    assert not calls[0]["failed"]
    assert ended["write/spelling"] == ended["write/stops"] == "subagent"
    assert ended["write/length"] == ended["spelling"] == "command"


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_belongs_to_a_workflow(name: str) -> None:
    assert any(name in (EXAMPLES / workflow).read_text() for workflow in WORKFLOWS)


@pytest.mark.parametrize("name", [*PROGRAMS, *TESTS, *WORKFLOWS, *SCRIPTS])
def test_an_example_is_short_and_numbered(name: str) -> None:
    assert re.match(r"\d\d_", name)
    assert len((EXAMPLES / name).read_text().splitlines()) <= 60
