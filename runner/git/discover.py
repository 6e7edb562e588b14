"""Finds a work tree and its git directories by reading files.

git's own search obeys the configuration that it finds.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.config import rewritten

if TYPE_CHECKING:
    from pathlib import Path

    from runner.git.config import Configuration

_POINTER_BYTES = 64_000

_OPERATIONS = (
    ("rebase-merge", "rebase"),
    ("rebase-apply/applying", "am"),
    ("rebase-apply", "rebase"),
    ("MERGE_HEAD", "merge"),
    ("CHERRY_PICK_HEAD", "cherry-pick"),
    ("REVERT_HEAD", "revert"),
    ("sequencer", "cherry-pick"),
    ("BISECT_LOG", "bisect"),
)


@frozen
class Places:
    """Where a repository is: resolved once, used for every git process of the run."""

    root: Path
    git_dir: Path
    common_dir: Path


def find_places(directory: Path) -> Places | None:
    """Look for `.git` upwards from *directory*; `None` where there is none."""
    start = directory.resolve()
    for root in (start, *start.parents):
        git_dir = _git_dir(root)
        if git_dir is not None:
            return Places(root, git_dir, _common_dir(git_dir))
        if root.name == ".git" and _is_git_dir(root):
            return None  # inside a git directory there is no work tree
    return None


def _git_dir(root: Path) -> Path | None:
    dot = root / ".git"
    if dot.is_dir():
        found = dot.resolve()
    elif dot.is_file():
        text = _pointer(dot)
        if not text.startswith("gitdir:"):
            return None
        found = (root / text.removeprefix("gitdir:").strip()).resolve()
    else:
        return None
    return found if _is_git_dir(found) else None


def _common_dir(git_dir: Path) -> Path:
    pointer = git_dir / "commondir"
    return (git_dir / _pointer(pointer).strip()).resolve() if pointer.is_file() else git_dir


def _is_git_dir(path: Path) -> bool:
    if not os.path.lexists(path / "HEAD"):
        return False
    common = _common_dir(path)
    return (common / "objects").is_dir() and (common / "refs").is_dir()


def _pointer(file: Path) -> str:
    with file.open("rb") as opened:
        return os.fsdecode(opened.read(_POINTER_BYTES)).rstrip("\n")


def read_head(places: Places) -> tuple[str, str]:
    """Return (full name of the branch or empty, commit or empty) that HEAD's file holds."""
    head = places.git_dir / "HEAD"
    text = str(head.readlink()) if head.is_symlink() else _pointer(head)
    if text.startswith(("ref:", "refs/")):
        return text.removeprefix("ref:").strip(), ""
    return "", text.strip()


def operation(git_dir: Path) -> str:
    """Name the operation that is under way, or return the empty string."""
    for name, what in _OPERATIONS:
        if (git_dir / name).exists():
            return what
    return ""


def unsupported(config: Configuration, places: Places) -> str:
    """Say why nothing can be committed here, or return the empty string."""
    storage = config.repository.get("extensions.refstorage", "files")
    if storage != "files":
        return f"refs are stored as {storage!r}, which is not supported yet"
    if config.repository.truth("core.bare") and places.git_dir == places.root / ".git":
        return "the repository says it is bare (core.bare)"
    worktree = config.repository.get("core.worktree")
    if worktree and (places.git_dir / worktree).resolve() != places.root:
        return f"core.worktree says that the work tree is {worktree!r}, not {places.root}"
    return ""


def identity(config: Configuration) -> tuple[str, str] | None:
    """Return the author's name and address, or `None` when git would have to guess.

    Raises:
        GitRefused: One of them holds a line break or an angle bracket.
    """
    merged = config.merged
    name = merged.get("author.name") or merged.get("user.name")
    address = merged.get("author.email") or merged.get("user.email")
    name = os.environ.get("GIT_AUTHOR_NAME", name)
    address = os.environ.get("GIT_AUTHOR_EMAIL", address)
    if any(char in name + address for char in "\n\r\0<>"):
        raise GitRefused(
            "user.name or user.email holds a line break, NUL or angle bracket",
            hint="git config --global user.name 'Your Name'",
        )
    return (name, address) if name.strip() and address.strip() else None


def upstream(config: Configuration, branch: str) -> tuple[str, str] | None:
    """Return remote and branch that *branch* follows."""
    remote = config.merged.get(f"branch.{branch}.remote")
    ref = config.merged.get(f"branch.{branch}.merge")
    if not branch or not remote or remote == "." or not ref.startswith("refs/heads/"):
        return None
    return remote, ref.removeprefix("refs/heads/")


def remote_urls(config: Configuration, root: Path, *, push: bool) -> dict[str, str]:
    """Return each remote's URL; relative paths are made absolute from the work tree's root."""
    found = {name: values[0] for name, values in config.repository.sub("remote", "url")}
    own_push: set[str] = set()
    if push:
        for name, values in config.repository.sub("remote", "pushurl"):
            found[name] = values[0]
            own_push.add(name)
    return {
        # As in git: pushInsteadOf does not apply where a pushurl is given.
        name: _absolute(rewritten(url, config.user, push=push and name not in own_push), root)
        for name, url in found.items()
    }


def _absolute(url: str, root: Path) -> str:
    is_path = url.startswith(("./", "../")) or url in (".", "..")
    return os.path.normpath(root / url) if is_path else url


def filter_names(config: Configuration) -> tuple[str, ...]:
    """Return the names of all filter drivers that some configuration defines."""
    kinds = ("clean", "smudge", "process")
    return tuple(sorted({name for kind in kinds for name, _ in config.merged.sub("filter", kind)}))


def notes(config: Configuration) -> tuple[str, ...]:
    """Tell what a person should know before a run commits."""
    found: list[str] = []
    if config.merged.truth("commit.gpgsign"):
        found.append("commit.gpgSign is set; commits of a run are not signed")
    includes = [key for key in config.repository.values if key.split(".")[0].startswith("include")]
    if includes:
        found.append("the repository's configuration includes other files, which are not read")
    rewrites = [*config.repository.sub("url", "insteadof")]
    rewrites += config.repository.sub("url", "pushinsteadof")
    if rewrites:
        found.append("the repository's own url.*.insteadOf is not applied")
    return tuple(found)
