"""Finds what of a tree a mend may write, and what of that not, as far as it is there."""

# pathlib raises where a path may not be looked at, and at loops of links; here such is not there.
# ruff: noqa: PTH110, PTH113, PTH114

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.globs import is_wild, matches_any, names_of
from runner.sandbox.mounts import Reach
from runner.secretfiles import is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.sandbox.nouns import Need

_MOST_ENTRIES = 50_000
"""Files and directories of the tree that are looked at."""


def reach_of(need: Need) -> Reach | None:
    """Return what of the tree a mend may write and what not; `None` for an author's command.

    A glob is as wide as the directory before its first wildcard: what of that it may not write is
    seen on the diff. Top-level files that it names one by one are themselves.
    """
    if need.write is None:
        return None
    write = dict.fromkeys(_writable(need.tree, need.write))
    survey = _Survey(need)
    survey.look(need.tree)
    return Reach(
        write=tuple(write),
        keep=tuple(survey.keep),
        hidden=tuple(path for path, is_dir in survey.hide if not is_dir),
        closed=tuple(path for path, is_dir in survey.hide if is_dir),
    )


def _writable(tree: Path, globs: Sequence[str]) -> Iterator[Path]:
    for glob in globs:
        names = names_of(glob)
        fixed: list[str] = []
        for name in names:
            if is_wild(name) or "{" in name or name == "**":
                break
            fixed.append(name)
        place = tree.joinpath(*fixed)
        if not place.resolve().is_relative_to(tree):
            continue
        if fixed or names == ("**",):
            if os.path.exists(place):
                yield place
            continue
        yield from (entry for entry in _entries(tree) if matches_any((glob,), entry.name))


def _entries(tree: Path) -> list[Path]:
    try:
        return [path for path in tree.iterdir() if path.name != ".git" and not os.path.islink(path)]
    except OSError:
        return []


class _Survey:
    """Looks through what a mend may write for what it may not, and for what it may not even read.

    Environments are kept as a whole: a judge runs what is in them.
    """

    def __init__(self, need: Need) -> None:
        self.keep: list[Path] = []
        self.hide: list[tuple[Path, bool]] = []
        self._need, self._left = need, _MOST_ENTRIES
        self._protect, self._lifted = (
            tuple(map(str.lower, globs)) for globs in (need.protect, need.lifted)
        )

    def look(self, start: Path) -> None:
        """Go through the whole tree."""
        # Strings, for these are tens of thousands: paths cost more than all else here.
        skipped = len(os.fspath(start)) + 1
        for folder, folders, files in os.walk(start):
            for name in list(folders):
                if self._sorted(f"{folder}/{name}", name, skipped, is_dir=True):
                    folders.remove(name)
            for name in files:
                self._sorted(f"{folder}/{name}", name, skipped, is_dir=False)
            self._left -= len(files) + len(folders)
            if self._left < 0:
                return

    def _sorted(self, path: str, name: str, skipped: int, *, is_dir: bool) -> bool:
        """Sort one path; tell whether there is nothing to look for below it."""
        relative = path[skipped:]
        folded = relative.lower()  # as the most forgiving file system would
        secret = name != ".git" and is_secret(relative)
        protected = matches_any(self._protect, folded) and not matches_any(self._lifted, folded)
        if not (secret or protected or (is_dir and _is_environment(path, name))):
            return False
        if not os.path.islink(path):
            if secret:
                self.hide.append((Path(path), is_dir))
            else:
                self.keep.append(Path(path))
        return True


def _is_environment(path: str, name: str) -> bool:
    return name in ("node_modules", ".git", ".tox", ".nox") or os.path.isfile(f"{path}/pyvenv.cfg")
