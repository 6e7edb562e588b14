"""Writes the demo's scratch repository and its remote to disk, and looks at them afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.demo.project import Scene

BRANCH = "main"
DATE = "2026-01-01T12:00:00Z"
"""Fixed, so that a seed gives the same commit everywhere."""


@frozen
class Scratch:
    """Where the demo plays."""

    base: Path
    repository: Path
    remote: Path


def make(scene: Scene, directory: Path | None) -> Scratch:
    """Write repository and remote below `directory`, or in a new temporary folder.

    Raises:
        UsageError: The directory is not empty, or git is missing or fails.
    """
    base = _empty(directory)
    scratch = Scratch(base, base / scene.project.name, base / "remote.git")
    _write(scratch.repository, scene.committed)
    _scripts(scratch.repository / "script")
    git(base, "init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(scratch.remote))
    git(scratch.repository, "init", "--quiet", f"--initial-branch={BRANCH}")
    for key, value in (("user.name", "Runner Demo"), ("user.email", "demo@example.com")):
        git(scratch.repository, "config", key, value)
    git(scratch.repository, "add", "--all")
    git(scratch.repository, "commit", "--quiet", "--message", "feat: a first version")
    git(scratch.repository, "remote", "add", "origin", str(scratch.remote))
    git(scratch.repository, "push", "--quiet", "--set-upstream", "origin", BRANCH)
    _write(scratch.repository, scene.tree)
    return scratch


def python_first(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with this Python's folder first: the scripts ask for `python3`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), environ.get("PATH", os.defpath)])
    return {**environ, "PATH": path}


def head(scratch: Scratch) -> str:
    """Return the repository's commit."""
    return git(scratch.repository, "rev-parse", "HEAD")


def remote_refs(scratch: Scratch) -> Mapping[str, str]:
    """Return the remote's refs and the commits they point to, as the remote itself tells them."""
    lines = git(scratch.base, "ls-remote", str(scratch.remote)).splitlines()
    return {ref: commit for commit, _, ref in (line.partition("\t") for line in lines)}


def git(cwd: Path, *args: str) -> str:
    """Run git without the user's configuration: no hook, template or signing key of theirs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment = kept | {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TEMPLATE_DIR": "",
        "GIT_AUTHOR_DATE": DATE,
        "GIT_COMMITTER_DATE": DATE,
    }
    try:
        done = subprocess.run(
            ["git", *args], cwd=cwd, env=environment, capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        message = "git is not installed, or not on PATH"
        raise UsageError(message, hint="The demo needs git 2.31 or later.") from error
    except subprocess.CalledProcessError as error:
        message = f"git {args[0]} failed in {cwd}: {error.stderr.strip()}"
        raise UsageError(message) from error
    return done.stdout.strip()


def _empty(directory: Path | None) -> Path:
    if directory is None:
        return Path(tempfile.mkdtemp(prefix="runner-demo-")).resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        message = f"{directory} is not an empty directory"
        raise UsageError(
            message, hint="Name a new one, or none: the demo then takes a temporary one."
        )
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{directory} cannot be made: {error.strerror}") from error
    return directory.resolve()


def _write(folder: Path, texts: Mapping[str, str]) -> None:
    for path, text in texts.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def _scripts(folder: Path) -> None:
    folder.mkdir()
    for source in (files("runner.demo") / "script").iterdir():
        target = folder / source.name
        target.write_bytes(source.read_bytes())
        target.chmod(0o755)
