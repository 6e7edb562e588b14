"""Executes what the README tells people to type, as far as that needs no package registry.

The two lines that install something are executed whole by `.ci/run`; here what comes after that.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from runner.loader import parse_workflow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
LINES = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
INSTALLS = [line for line in LINES if line.startswith("python3 -m venv ")]
COMMANDS = [line for line in LINES if line not in INSTALLS]


def environment(folder: Path) -> dict[str, str]:
    """Return an environment with this Python's programs first, own state, and no key."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    config = folder / "config.yaml"
    config.write_text("{}\n")
    state = {"SUBRUNNER_STATE_DIR": str(folder / "state"), "SUBRUNNER_CONFIG": str(config)}
    return {**kept, **state, "PATH": path}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    cwd = folder / "work"
    done = subprocess.run(
        command, cwd=cwd, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a repository as a reader may have one: a module with a test."""
    folder = tmp_path_factory.mktemp("readme")
    work = folder / "work"
    (work / "tests").mkdir(parents=True)
    (work / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    (work / "tests/test_calc.py").write_text(
        "import unittest\n\nimport calc\n\n\nclass Calc(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(calc.add(1, 2), 3)\n"
    )
    for command in ("init --quiet", "add --all", "commit --quiet -m start"):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
        run(["git", *identity, *command.split()], folder)
    return folder


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_two_lines_install_and_each_is_found_by_ci() -> None:
    script = (ROOT / ".ci/run").read_text()
    for what in ("pytest", "runner demo"):
        assert re.search(rf'readme_command "?{what}"?\)', script)
        assert len([line for line in INSTALLS if re.match(rf"python3 -m venv .*{what}", line)]) == 1
    assert len(INSTALLS) == 2


def test_what_the_first_line_runs_after_installing(project: Path) -> None:
    *_, last = INSTALLS[0].split(" && ")
    assert last == ".venv/bin/runner demo"
    done = run([sys.executable, "-m", "runner", "demo", str(project / "demo")], project)
    assert "Shipped: " in done.stderr


def test_what_the_second_line_runs_is_pytest_with_what_the_project_declares() -> None:
    *_, install, last = INSTALLS[1].split(" && ")
    assert shlex.split(last) == [".venv/bin/pytest", "-n", "2"]
    assert "-e . --group test" in install


def test_every_other_command_in_order(project: Path) -> None:
    for line in COMMANDS:
        program, *arguments = shlex.split(line)
        assert program == "runner", line
        run([sys.executable, "-m", "runner", *arguments], project)
    assert (project / "work/.runner/workflow.yaml").exists()
    assert {"runner restore last", "runner hook --install --yes"} <= {*COMMANDS}


def test_the_workflow_is_good(tmp_path: Path) -> None:
    (text,) = [text for language, text in BLOCKS if language == "yaml"]
    workflow = parse_workflow(text, file=None, root=tmp_path)
    assert [step.id for step in workflow.steps] == ["format", "lint", "test", "commit", "push"]


def test_the_python_program_runs(tmp_path: Path) -> None:
    (text,) = [text for language, text in BLOCKS if language == "python"]
    work = tmp_path / "work"
    (work / "workflows").mkdir(parents=True)
    (work / "workflows/checks.yaml").write_text('steps:\n  - { id: a, run: "true" }\n')
    (work / "answers.yaml").write_text("rules:\n  - done: nothing to do\n")
    done = run([sys.executable, "-c", text], tmp_path)
    assert done.stdout == "a succeeded command\n"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\]\(([\w./-]+)\)", README))))
def test_what_it_links_to_exists(name: str) -> None:
    assert (ROOT / name).exists()
