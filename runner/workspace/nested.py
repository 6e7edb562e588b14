"""Finds repositories that came to be inside a tree, and takes them out of it.

Snapshots say nothing of a `.git` in a directory of its own, yet whoever's git is started there
would follow its configuration.
"""

# As in `environments`: many paths, as strings.
# ruff: noqa: PTH118

from __future__ import annotations

import os
import secrets
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_GIT = ".git"
_PASSED_BY = frozenset({"node_modules", ".venv", "venv", "site-packages", ".tox", ".nox"})
"""Watched file by file elsewhere."""


def repositories(root: Path) -> frozenset[str]:
    """Return the paths of all `.git` below a tree's root, however it is spelled, but its own."""
    found: set[str] = set()
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(os.path.join(root, folder)))
        except OSError:
            continue
        for entry in entries:
            below = os.path.join(folder, entry.name)
            if entry.name.casefold() == _GIT:
                if folder:
                    found.add(below)
            elif entry.name not in _PASSED_BY and entry.is_dir(follow_symlinks=False):
                pending.append(below)
    return frozenset(found)


def put_away(root: Path, paths: Iterable[str], keep: Path) -> tuple[str, ...]:
    """Move paths out of the tree, so that nothing is lost; return those that cannot be."""
    lost: list[str] = []
    for path in sorted(paths):
        try:
            keep.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.move(os.path.join(root, path), keep / secrets.token_hex(8))
        except OSError:
            lost.append(path)
    return tuple(lost)
