"""Watches the ignored files that a judge runs: environments, `node_modules`, settings.

Snapshots leave out what is ignored, so a shell could change there what a test imports. Here these
files are known by their stamps, and copies are kept to put them back; caches may change freely.
"""

# Tens of thousands of paths, as strings: pathlib would cost more than the system's calls.
# ruff: noqa: PTH101, PTH102, PTH103, PTH105, PTH106, PTH108, PTH112, PTH113, PTH114, PTH115, PTH118
# ruff: noqa: PTH120, PTH123, PTH211

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from pathlib import Path

Stamp = tuple[str, int, int, int, int, int]
"""A link's target (else empty), mode, size, mtime and ctime in nanoseconds, inode."""

_NAMES = frozenset({"node_modules", ".venv", "venv", "site-packages", ".tox", ".nox"})
"""Directories whose content is run; any other is one where `pyvenv.cfg` says so."""
_PACKAGES = "node_modules"
_RUN_FROM_DOT = frozenset({".bin", ".pnpm"})
"""What is run of a `node_modules`' own hidden directories; the others are caches."""
_COMPILED = (".pyc", ".pyo")
_MOST = 200_000
_PIECE = 1 << 20
_COPIED = 1 << 30
"""Bytes of copies, at most; what is beyond is watched and cannot be put back."""


class Environments:
    """The ignored files of one tree that are run.

    Args:
        root: Top of the tree.
        keep: Private directory for the copies; it outlives a run, so that the next copies less.
        listed: Tells the ignored paths; a directory that is ignored as a whole ends with `/`.
        watched: Whether a single ignored file counts.
    """

    def __init__(
        self,
        root: Path,
        keep: Path,
        listed: Callable[[], Awaitable[Sequence[str]]],
        watched: Callable[[str], bool],
    ) -> None:
        self._root, self._keep = os.fspath(root), os.fspath(keep)
        self._listed, self._watched = listed, watched
        self._roots: set[str] = set()

    async def record(self) -> dict[str, Stamp]:
        """Return the present state, and keep copies of it."""
        now = await self.look()
        await anyio.to_thread.run_sync(self._copy_all, now)
        await anyio.to_thread.run_sync(self._forget_all_but, now)
        return now

    async def look(self) -> dict[str, Stamp]:
        """Return the present state."""
        listed = await self._listed()
        return await anyio.to_thread.run_sync(self._look, listed)

    async def changed(self, before: Mapping[str, Stamp]) -> tuple[str, ...]:
        """Return the paths that are not what they were."""
        now = await self.look()
        return await anyio.to_thread.run_sync(self._changed, before, now)

    async def allow(
        self, baseline: dict[str, Stamp], before: Mapping[str, Stamp], after: Mapping[str, Stamp]
    ) -> None:
        """Take into a baseline what changed from `before` to `after`: a command's own doing.

        What was not as in the baseline before stays a change.
        """
        fresh: dict[str, Stamp] = {}
        for path in before.keys() | after.keys():
            was, now = before.get(path), after.get(path)
            if was == now or baseline.get(path) != was:
                continue
            if now is None:
                baseline.pop(path, None)
            else:
                baseline[path] = fresh[path] = now
        await anyio.to_thread.run_sync(self._copy_all, fresh)

    async def undo(self, before: Mapping[str, Stamp], paths: Sequence[str]) -> tuple[str, ...]:
        """Put paths back; return those that cannot be, for want of a copy."""
        return await anyio.to_thread.run_sync(self._undo, before, paths)

    # -- looking -----------------------------------------------------------------------------------

    def _look(self, listed: Sequence[str]) -> dict[str, Stamp]:
        found: dict[str, Stamp] = {}
        for name in listed:
            path = name.rstrip("/")
            if not name.endswith("/"):
                if path.rpartition("/")[2] in _NAMES or self._watched(path):
                    self._roots.add(path)
            elif self._is_environment(path):
                self._roots.add(path)
        # What was an environment before stays one: it may be ignored no longer, or be gone.
        for path in self._roots:
            for each in self._walk(path):
                if len(found) >= _MOST:
                    return found
                stamp = self._stamp(each)
                if stamp is not None:
                    found[each] = stamp
        return found

    def _is_environment(self, path: str) -> bool:
        if path.rpartition("/")[2] in _NAMES:
            return True
        return os.path.isfile(os.path.join(self._root, path, "pyvenv.cfg"))

    def _walk(self, path: str) -> Iterator[str]:
        """Yield all files and links at and below a path, but no caches; links are not followed."""
        full = os.path.join(self._root, path)
        if os.path.islink(full) or not os.path.isdir(full):
            yield path
            return
        pending = [path]
        while pending:
            folder = pending.pop()
            try:
                entries = list(os.scandir(os.path.join(self._root, folder)))
            except OSError:
                continue
            for entry in entries:
                below = f"{folder}/{entry.name}"
                if not entry.is_dir(follow_symlinks=False):
                    yield below
                elif not _is_cache(folder, entry.name):
                    pending.append(below)

    def _stamp(self, path: str) -> Stamp | None:
        full = os.path.join(self._root, path)
        try:
            found = os.lstat(full)
            target = os.readlink(full) if stat.S_ISLNK(found.st_mode) else ""
        except OSError:
            return None
        facts = found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
        return (target, *facts)

    def _changed(self, before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> tuple[str, ...]:
        return tuple(
            path
            for path in sorted(before.keys() | now.keys())
            if before.get(path) != now.get(path) and not self._harmless(path, before, now)
        )

    def _harmless(self, path: str, before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> bool:
        """Tell whether a changed stamp means nothing: merely touched, or compiled by an import."""
        was, is_now = before.get(path), now.get(path)
        if was is None:
            return path.endswith(_COMPILED)
        if is_now is None or was[:2] != is_now[:2] or was[2] != is_now[2]:
            return False
        if stat.S_ISLNK(was[1]):
            return True
        copy = self._copy(path, was)
        return _same_content(copy, os.path.join(self._root, path))

    # -- keeping and putting back ------------------------------------------------------------------

    def _copy(self, path: str, stamp: Stamp) -> str:
        name = hashlib.sha256(f"{path}\0{stamp}".encode("utf-8", "surrogateescape")).hexdigest()
        return os.path.join(self._keep, name[:2], name)

    def _copy_all(self, stamps: Mapping[str, Stamp]) -> None:
        left = _COPIED
        for path, stamp in stamps.items():
            if not stat.S_ISREG(stamp[1]):
                continue
            left -= stamp[2]
            copy = self._copy(path, stamp)
            if left < 0 or os.path.isfile(copy):
                continue
            os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
            try:
                shutil.copyfile(os.path.join(self._root, path), f"{copy}.new")
            except OSError:  # unreadable, or gone: then it cannot be put back
                continue
            os.replace(f"{copy}.new", copy)

    def _forget_all_but(self, stamps: Mapping[str, Stamp]) -> None:
        """Delete the copies of what is no longer so: they would pile up from run to run."""
        kept = {self._copy(path, stamp) for path, stamp in stamps.items()}
        for folder, _, names in os.walk(self._keep):
            for name in names:
                copy = os.path.join(folder, name)
                if copy not in kept:
                    os.unlink(copy)

    def _undo(self, before: Mapping[str, Stamp], paths: Sequence[str]) -> tuple[str, ...]:
        lost: list[str] = []
        for path in paths:
            stamp, full = before.get(path), os.path.join(self._root, path)
            try:
                if stamp is None:
                    _remove(full)
                    _prune(self._root, path)
                elif stat.S_ISLNK(stamp[1]):
                    _make_room(self._root, path)
                    os.symlink(stamp[0], full)
                else:
                    self._put(path, stamp)
            except OSError:
                lost.append(path)
        return tuple(lost)

    def _put(self, path: str, stamp: Stamp) -> None:
        copy, full = self._copy(path, stamp), os.path.join(self._root, path)
        if not os.path.isfile(copy):
            raise FileNotFoundError(copy)
        _make_room(self._root, path)
        shutil.copyfile(copy, full, follow_symlinks=False)
        os.chmod(full, stat.S_IMODE(stamp[1]))
        os.utime(full, ns=(stamp[3], stamp[3]))


def _same_content(one: str, other: str) -> bool:
    try:
        with open(one, "rb") as a, open(other, "rb") as b:
            while piece := a.read(_PIECE):
                if piece != b.read(_PIECE):
                    return False
            return not b.read(1)
    except OSError:
        return False


def _is_cache(folder: str, name: str) -> bool:
    inside = folder.rpartition("/")[2]
    return inside == _PACKAGES and name.startswith(".") and name not in _RUN_FROM_DOT


def _make_room(root: str, path: str) -> None:
    """Remove what is at a path and make the directories above it real ones."""
    current = root
    for name in path.split("/")[:-1]:
        current = os.path.join(current, name)
        if os.path.islink(current) or not os.path.isdir(current):
            _remove(current)
            os.mkdir(current)
    _remove(os.path.join(root, path))


def _prune(root: str, path: str) -> None:
    """Remove the directories above a path that are empty now."""
    while path := path.rpartition("/")[0]:
        try:
            os.rmdir(os.path.join(root, path))
        except OSError:
            return


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
