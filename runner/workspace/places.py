"""Finds a work tree's repository by reading its files as data: nothing it names is run."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from runner.frozen import frozen
from runner.workspace.gitexec import git

ObjectFormat = Literal["sha1", "sha256"]

_HEX = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_SHA256 = re.compile(r"^\s*objectformat\s*=\s*sha256\s*$", re.IGNORECASE | re.MULTILINE)
_SMALL = 64 * 1024
_LARGE = 64 * 1024 * 1024
_FOREIGN = "node_modules/\n.venv/\n__pycache__/\n"
"""Left out where no repository says what belongs to the tree."""


@frozen
class GitPlace:
    """Where a work tree's repository is, as found when the run started."""

    git_dir: Path
    common_dir: Path
    """Equal to `git_dir` but in a linked worktree."""
    head: str
    """HEAD's commit; empty when unborn or not readable as a file."""
    object_format: ObjectFormat = "sha1"


def locate(root: Path) -> GitPlace | None:
    """Return the repository whose work tree's top is `root`; `None` when there is none."""
    git_dir = git_dir_of(root)
    if git_dir is None:
        return None
    common_dir = shared_dir(git_dir)
    if not (common_dir / "objects").is_dir():
        return None
    sha256 = _SHA256.search(_read(common_dir / "config", _LARGE)) is not None
    return GitPlace(
        git_dir, common_dir, head_of(git_dir, common_dir), "sha256" if sha256 else "sha1"
    )


def git_dir_of(directory: Path) -> Path | None:
    """Return the git directory that `directory/.git` is or points to."""
    dot = directory / ".git"
    if dot.is_dir():
        return dot.resolve()
    text = _read(dot, _SMALL)
    if not text.startswith("gitdir: "):
        return None
    found = (directory / text.removeprefix("gitdir: ").rstrip("\n")).resolve()
    return found if found.is_dir() else None


def shared_dir(git_dir: Path) -> Path:
    """Return the directory that linked worktrees share; `git_dir` itself where there are none."""
    common = _read(git_dir / "commondir", _SMALL).strip()
    return (git_dir / common).resolve() if common else git_dir


def head_of(git_dir: Path, common_dir: Path) -> str:
    """Return the commit that HEAD names; empty when unborn, or kept in another way than files."""
    value = _read(git_dir / "HEAD", _SMALL).strip()
    for _ in range(5):  # a symbolic ref may name another
        if not value.startswith("ref: "):
            break
        name = value.removeprefix("ref: ").strip()
        if ".." in name or not name.startswith("refs/"):
            return ""
        value = (
            _read(git_dir / name, _SMALL).strip()
            or _read(common_dir / name, _SMALL).strip()
            or _packed(common_dir, name)
        )
    return value if _HEX.match(value) else ""


async def excludes(root: Path, place: GitPlace | None) -> bytes:
    """Return what the user's own git ignores here besides the tree's `.gitignore` files.

    The global file comes first: in git, `info/exclude` is stronger.
    """
    args = ("config", "--type=path", "--get", "core.excludesFile")
    env = {
        "GIT_DIR": str(place.git_dir) if place is not None else None,
        # Asked as the user's own git would be; `config` reads and runs nothing.
        "GIT_CONFIG_NOSYSTEM": None,
        "GIT_CONFIG_SYSTEM": None,
        "GIT_CONFIG_GLOBAL": None,
    }
    # Without a repository of its own the tree must not be asked through one further up.
    where = root if place is not None else Path(os.sep)
    named = os.fsdecode(await git(args, env=env, cwd=where, check=False)).strip("\n")
    user = _bytes(root / named if named else _user_ignore())
    own = _bytes(place.common_dir / "info" / "exclude") if place is not None else _FOREIGN.encode()
    return user + b"\n" + own + b"\n"


def _user_ignore() -> Path:
    home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return home / "git" / "ignore"


def _packed(common_dir: Path, name: str) -> str:
    for line in _read(common_dir / "packed-refs", _LARGE).splitlines():
        if line.endswith(f" {name}") and not line.startswith(("#", "^")):
            return line.split(" ", 1)[0]
    return ""


def _read(path: Path, limit: int) -> str:
    return _bytes(path, limit).decode("utf-8", "surrogateescape")


def _bytes(path: Path, limit: int = _LARGE) -> bytes:
    """A regular file's bytes; empty when it is none, or not readable, or too large."""
    try:
        if not path.is_file() or path.stat().st_size > limit:
            return b""
        return path.read_bytes()
    except OSError:
        return b""
