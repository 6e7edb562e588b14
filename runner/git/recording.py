"""Reads the files under `.git` that must not change, and keeps a copy of each by its digest."""

# Paths are bytes here, as the system has them: pathlib has no say.
# ruff: noqa: PTH114, PTH115

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.git.facts import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from runner.git.discover import Places

_GIT_DIR = (
    "HEAD",
    "index",
    "commondir",
    "gitdir",
    "config.worktree",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "AUTO_MERGE",
    "CHERRY_PICK_HEAD",
    "REVERT_HEAD",
    "BISECT_LOG",
    "BISECT_START",
    "rebase-merge",
    "rebase-apply",
    "sequencer",
    "refs",
    "logs",
    "info",
)
_COMMON_DIR = (
    "config",
    "config.worktree",
    "commondir",
    "packed-refs",
    "shallow",
    "refs",
    "logs",
    "hooks",
    "info",
    "branches",
    "remotes",
    "objects/info",
    "modules",
)
_OTHER_WORKTREES = ("commondir", "gitdir", "config.worktree")
"""Of the other work trees; their HEAD and index move when a person works there."""
_SKIPPED = frozenset({b"objects", b"lfs", b"COMMIT_EDITMSG", b"FETCH_HEAD", b"ORIG_HEAD"})
"""Below the watched places: big, or rewritten by every harmless command."""
_HARMLESS = (b".lock", b"/objects/info/packs", b"/objects/info/commit-graph", b"/info/refs")
_MOST = 300_000
_COPIED = 512 * 1024 * 1024


class Recorder:
    """Records paths; what has not changed since the last time is not read again."""

    def __init__(self, places: Places, store: Path) -> None:
        self._places = places
        self._store = store
        self._known: dict[bytes, Recorded] = {}

    def record(self) -> Mapping[bytes, Recorded]:
        """Record everything that is watched.

        Raises:
            GitRefused: There is too much of it to be watched.
        """
        found: dict[bytes, Recorded] = {}
        for path in self._watched():
            recorded = self._one(path)
            if recorded is not None:
                found[path] = recorded
            if len(found) > _MOST:
                raise GitRefused(
                    f"more than {_MOST} loose refs and other files under .git",
                    hint="git pack-refs --all",
                )
        self._known = found
        return found

    def saved(self, digest: str) -> bytes:
        """Return the content that was recorded under *digest*."""
        return (self._store / digest).read_bytes()

    def can_restore(self, recorded: Recorded) -> bool:
        """Whether a copy of the content was kept."""
        return recorded.kind != "file" or (self._store / recorded.digest).is_file()

    def _watched(self) -> Iterator[bytes]:
        places = self._places
        yield os.fsencode(places.root / ".git")
        tops = {places.common_dir / name for name in _COMMON_DIR}
        tops |= {places.git_dir / name for name in _GIT_DIR}
        for top in tops:
            yield from (p for p in _walk(os.fsencode(top)) if not p.endswith(_HARMLESS))
        for shared in places.git_dir.glob("sharedindex.*"):
            yield os.fsencode(shared)
        for other in (places.common_dir / "worktrees").glob("*"):
            if other != places.git_dir:
                yield from (os.fsencode(other / name) for name in _OTHER_WORKTREES)

    def _one(self, path: bytes) -> Recorded | None:
        try:
            found = os.lstat(path)
        except OSError:
            return None
        signature = _signature(found)
        known = self._known.get(path)
        if known is not None and known.signature == signature and self.can_restore(known):
            return known
        if stat.S_ISDIR(found.st_mode):
            return Recorded("directory", signature[:2])
        if stat.S_ISLNK(found.st_mode):
            return Recorded("link", signature, os.fsdecode(os.readlink(path)))
        if not stat.S_ISREG(found.st_mode):
            return Recorded("other", signature)
        return Recorded("file", signature, self._keep(path, found.st_size))

    def _keep(self, path: bytes, size: int) -> str:
        """Copy a file into the store; of a huge one only the digest is taken."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return "unreadable"
        with os.fdopen(descriptor, "rb") as opened:
            if size > _COPIED:
                return hashlib.file_digest(opened, "sha256").hexdigest()
            content = opened.read()
        digest = hashlib.sha256(content).hexdigest()
        target = self._store / digest
        if not target.exists():
            temporary = target.with_suffix(".new")
            temporary.write_bytes(content)
            temporary.replace(target)
        return digest


def _signature(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_dev,
        found.st_ino,
        found.st_size,
        found.st_mode,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def _walk(path: bytes) -> Iterator[bytes]:
    """Yield *path* and all below it, links not followed."""
    if not os.path.lexists(path):
        return
    yield path
    if os.path.islink(path):
        return
    pending = [path]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.name in _SKIPPED:
                        continue
                    yield entry.path
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except (NotADirectoryError, FileNotFoundError, PermissionError):
            continue


def is_inside(path: bytes, directory: Path) -> bool:
    """Whether *path* is below *directory*."""
    return path.startswith(os.fsencode(directory) + b"/")


def place_of(path: Path) -> tuple[int, int]:
    """Return device and inode, by which a directory is known again; zeros when it is gone."""
    try:
        found = path.lstat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino
