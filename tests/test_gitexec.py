"""Tests of the hardened git: what a repository's configuration names is never run."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import anyio
import pytest

from runner.errors import RunnerError
from runner.workspace.gitexec import GitError, git, git_result

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


def env(root: Path) -> dict[str, str | None]:
    return {"GIT_DIR": str(root / ".git"), "GIT_WORK_TREE": str(root)}


def configure(root: Path, key: str, value: str) -> None:
    subprocess.run(["git", "config", key, value], cwd=root, check=True)


def processes() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


async def test_output_and_input(repo: Path) -> None:
    blob = await git(("hash-object", "-w", "--stdin"), env=env(repo), cwd=repo, stdin=b"hello\n")
    assert blob.strip() == b"ce013625030ba8dba906f756967f9e9ca394464a"
    found = await git(("cat-file", "blob", blob.decode().strip()), env=env(repo), cwd=repo)
    assert found == b"hello\n"


async def test_failure_says_what_git_said(repo: Path) -> None:
    with pytest.raises(GitError, match="Not a valid object name nothing") as caught:
        await git(("cat-file", "-p", "nothing"), env=env(repo), cwd=repo)
    assert caught.value.code == 128
    assert await git(("cat-file", "-p", "nothing"), env=env(repo), cwd=repo, check=False) == b""


async def test_without_a_git_dir_none_is_looked_for(repo: Path) -> None:
    with pytest.raises(GitError, match="not a git repository"):
        await git(("rev-parse", "--git-dir"), env={}, cwd=repo)


async def test_config_of_the_repository_runs_nothing(repo: Path) -> None:
    sentinel = repo / "ran"
    hook = repo / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {sentinel}\n")
    hook.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.editor", "diff.external", "gpg.program"):
        configure(repo, key, f"touch {sentinel}; false")
    (repo / "a").write_text("a\n")
    await git(("update-index", "--add", "a"), env=env(repo), cwd=repo)
    await git(("status", "--porcelain"), env=env(repo), cwd=repo)
    await git(("diff", "--cached", "--no-ext-diff"), env=env(repo), cwd=repo)
    with pytest.raises(GitError, match="external diff died"):
        await git(("diff", "--cached"), env=env(repo), cwd=repo)
    assert not sentinel.exists()


async def test_output_beyond_the_limit_is_cut_and_git_ended(repo: Path) -> None:
    (repo / "big").write_text("x\n" * 3_000_000)
    args = ("diff", "--no-ext-diff", "--no-index", "/dev/null", "big")
    started = time.monotonic()
    found = await git_result(args, env=env(repo), cwd=repo, limit=1000)
    assert (found.cut, len(found.out)) == (True, 1000)
    assert time.monotonic() - started < 3


async def test_cancelling_ends_git(repo: Path) -> None:
    with anyio.move_on_after(0.2) as scope:
        await git(("-c", "alias.wait=!sleep 4711", "wait"), env=env(repo), cwd=repo)
    assert scope.cancelled_caught
    assert "sleep 4711" not in processes()


async def test_missing_git_is_a_clear_error(repo: Path) -> None:
    with pytest.raises(RunnerError, match="git could not be started") as caught:
        await git(("version",), env={**env(repo), "PATH": "/nowhere"}, cwd=repo)
    assert "Install git" in caught.value.hint
