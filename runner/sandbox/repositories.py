"""Finds all that git keeps of a work tree, by reading its files as data.

A command that could write any of it would choose what the user's own git runs next: hooks, filters,
`core.fsmonitor`. What is there when the run starts counts: linked worktrees, submodules, and object
directories that are borrowed from.
"""

# pathlib raises where a path may not be looked at, and at loops of links; here such is not there.
# ruff: noqa: PTH110, PTH112

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.workspace.places import git_dir_of, shared_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

_SMALL = 256 * 1024
_MOST_MODULES = 200
_DEEPEST = 5
"""How far submodules, and object directories, are followed into one another."""


def git_paths(root: Path) -> tuple[Path, ...]:
    """Return every path that git keeps of the tree at *root*: real ones, each once."""
    return tuple(dict.fromkeys(_repository(root, root, _DEEPEST)))


def _repository(tree: Path, root: Path, deeper: int) -> Iterator[Path]:
    dot = tree / ".git"
    if not os.path.lexists(dot):
        return
    yield dot
    git_dir = git_dir_of(tree)
    if git_dir is None or not _is_git_dir(git_dir):
        return
    common = shared_dir(git_dir)
    yield from (common, git_dir)
    yield from _borrowed(common / "objects", _DEEPEST)
    if deeper:
        for module in _modules(tree):
            real = Path(os.path.realpath(module))
            if real.is_relative_to(root):
                yield from _repository(real, root, deeper - 1)


def _is_git_dir(path: Path) -> bool:
    """Whether a path that a file of the tree named is a repository, and no other secret place."""
    common = shared_dir(path)
    return (
        os.path.exists(path / "HEAD")
        and os.path.isdir(common / "objects")
        and os.path.isdir(common / "refs")
    )


def _borrowed(objects: Path, deeper: int) -> Iterator[Path]:
    """Yield the object directories that one borrows from (gitrepository-layout(5))."""
    for line in _text(objects / "info" / "alternates").splitlines():
        if not line or line.startswith("#"):
            continue
        found = Path(os.path.realpath(objects / line))
        if os.path.isdir(found / "pack") and os.path.isdir(found / "info"):
            yield found
            if deeper:
                yield from _borrowed(found, deeper - 1)


def _modules(tree: Path) -> list[Path]:
    """Return where the submodules of a tree are (gitmodules(5))."""
    found: list[Path] = []
    for line in _text(tree / ".gitmodules").splitlines():
        key, _, value = line.partition("=")
        path = value.strip().strip('"')
        if key.strip().lower() == "path" and path and ".." not in Path(path).parts:
            found.append(tree / path)
    return found[:_MOST_MODULES]


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return os.fsdecode(file.read(_SMALL))
    except OSError:
        return ""
