"""A scratch repository with real git and real checks, and runs of workflows in it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from runner import Options, run

if TYPE_CHECKING:
    from pathlib import Path

    from runner import Report
    from runner.events import Event

PYTHON = sys.executable

CALC = """\
def add(a, b):
    return a + b


def double(a):
    return a * 2
"""
TEST = """\
import unittest

from calc import add, double


class TestCalc(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)

    def test_double(self):
        self.assertEqual(double(4), 8)
"""
UNITTEST = f"{PYTHON} -m unittest -q test_calc"


@dataclass
class Scratch:
    """A repository under test."""

    root: Path
    events: list[Event] = field(default_factory=list["Event"])

    def write(self, path: str, text: str) -> None:
        """Write a file of the tree."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))

    def read(self, path: str) -> str:
        """Read a file of the tree."""
        return (self.root / path).read_text()

    def git(self, *args: str) -> str:
        """Run the user's own git."""
        done = subprocess.run(
            ["git", *args], cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit_all(self, message: str = "start") -> str:
        """Commit everything as the user would."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def script(self, text: str) -> dict[str, str]:
        """Write a script outside the tree; return the models that it plays."""
        file = self.root.parent / "script.yaml"
        file.write_text(dedent(text))
        return {"cheap": f"script:{file}", "main": f"script:{file}"}

    async def run(self, workflow: str, **options: Any) -> Report:
        """Write a workflow outside the tree and run it."""
        file = self.root.parent / "workflow.yaml"
        file.write_text(dedent(workflow))
        self.events.clear()
        inputs, models = options.pop("inputs", {}), options.pop("models", {})
        watch = options.pop("watch", None)
        return await run(
            file,
            cwd=self.root,
            inputs=inputs,
            models=models,
            options=Options(state_dir=self.root.parent / "state", **options),
            sinks=[self.events.append, watch] if watch else [self.events.append],
        )

    def of(self, kind: type[Any]) -> list[Any]:
        """Return the events of one type."""
        return [event for event in self.events if isinstance(event, kind)]


def make(where: Path) -> Scratch:
    """Make a repository whose tests pass, with one commit."""
    root = where / "repo"
    root.mkdir()
    scratch = Scratch(root)
    scratch.git("init", "-q")
    scratch.write("calc.py", CALC)
    scratch.write("test_calc.py", TEST)
    scratch.commit_all()
    return scratch


def with_remote(scratch: Scratch) -> Path:
    """Give the repository a bare remote called `origin` that knows its branch."""
    remote = scratch.root.parent / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    scratch.git("remote", "add", "origin", str(remote))
    scratch.git("push", "-q", "-u", "origin", "HEAD")
    return remote
