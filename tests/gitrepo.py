"""Support for the tests of git: real repositories, driven by the user's own git."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.git import Files, Repository, Staged, StartState

if TYPE_CHECKING:
    from pathlib import Path

GIT = shutil.which("git") or "git"
"""Found before any test bends PATH."""


@dataclass(frozen=True)
class Repo:
    """A work tree, a private state directory, and a canary that nothing may create."""

    root: Path
    home: Path

    @property
    def state(self) -> Path:
        return self.home / "state"

    @property
    def canary(self) -> Path:
        return self.home / "canary"

    def git(self, *args: str, cwd: Path | None = None, stdin: str | None = None) -> str:
        return user_git(*args, cwd=cwd or self.root, stdin=stdin)

    def write(self, path: str, text: str | bytes, *, mode: int | None = None) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        if mode is not None:
            file.chmod(mode)
        return file

    def commit_all(self, message: str = "chore: begin") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.head()

    def head(self) -> str:
        return self.git("rev-parse", "HEAD").strip()

    def status(self) -> list[str]:
        return [line for line in self.git("status", "--porcelain").split("\n") if line]

    def show(self, path: str, commit: str = "HEAD") -> str:
        return self.git("show", f"{commit}:{path}")

    def plant(self, name: str = "planted") -> Path:
        """Write a program that leaves the canary and passes its input on, as a filter would."""
        return self._plant(name, "cat\n")

    def plant_silent(self, name: str = "silent") -> Path:
        """Write one that ends at once, for where git would wait for an answer."""
        return self._plant(name, "")

    def _plant(self, name: str, body: str) -> Path:
        script = self.home / name
        script.write_text(f'#!/bin/sh\necho "$0 $*" >>"{self.canary}"\n{body}exit 0\n')
        script.chmod(0o755)
        return script

    async def open(self, *, filters: tuple[str, ...] = ()) -> Repository:
        found = await Repository.open(self.root, state=self.state, filters=filters)
        assert found is not None
        return found


def try_git(*args: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run git as the user would, whatever its exit code."""
    return subprocess.run([GIT, *args], cwd=cwd, capture_output=True, check=False)


def user_git(*args: str, cwd: Path, stdin: str | None = None) -> str:
    """Run git as the user would; the test's own HOME says who that is."""
    done = subprocess.run(
        [GIT, *args],
        cwd=cwd,
        env=dict(os.environ),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"git {args}: {done.stderr}"
    return done.stdout


def make_repo(home: Path, name: str = "work") -> Repo:
    repo = Repo(home / name, home)
    repo.root.mkdir(parents=True)
    repo.git("init", "-q", "-b", "main", ".")
    repo.write("src/app.py", "print('one')\n")
    repo.write("README.md", "# Read me\n")
    repo.commit_all()
    return repo


async def commit_from(
    repository: Repository,
    start: StartState,
    run_paths: tuple[str, ...] = (),
    files: Files = "run",
) -> tuple[Staged, str]:
    """Prepare and commit what the run changed since *start*."""
    staged = await repository.prepare(files, start=start, run_paths=run_paths)
    assert staged is not None
    fact = await repository.commit(staged, "fix: mend\n\nRunner-Run: 1\n")
    return staged, fact.sha
