"""Brings the private index up to date with what is on disk, without ever entering a repository.

`git add -A` is not used: for a nested repository it runs `git status` inside, under that
repository's own configuration. git lists what changed, this module looks at each path itself, and
`update-index` takes up only plain files, links and the commit that a nested repository is at.
"""

from __future__ import annotations

import os
import re
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from runner.workspace.gitexec import GitError
from runner.workspace.places import git_dir_of, head_of, shared_dir

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.workspace.places import GitPlace
    from runner.workspace.store import Store

LARGEST = 1024**3
"""Bytes of the largest file that a snapshot takes up."""
_MOST_WATCHED = 10_000
_ROUNDS = 4
_FRESH = 3 * 10**9
"""Nanoseconds for which git's comparison by whole seconds is not enough."""
_LIST = ("ls-files", "-z", "-t", "--others", "--modified", "--deleted", "--exclude-standard")
_NESTED = re.compile(rb"(?:\A|(?<=\0))160000 ([0-9a-f]+) 0\t([^\0]+)")
_IGNORED = ("ls-files", "-z", "--cached", "--ignored", "--exclude-standard")

Stamp = tuple[int, int, int, int]
"""Inode, size, mtime and ctime in nanoseconds."""


@dataclass(slots=True)
class Plan:
    """What has to be done to the index; paths are as git lists them."""

    add: list[bytes] = field(default_factory=list[bytes])
    remove: list[bytes] = field(default_factory=list[bytes])
    nested: list[tuple[bytes, str]] = field(default_factory=list[tuple[bytes, str]])
    notes: dict[bytes, str] = field(default_factory=dict[bytes, str])
    stamps: dict[bytes, Stamp] = field(default_factory=dict[bytes, "Stamp"])
    """Of what is to be added: its state before it was read."""
    again: bool = False
    """A directory came or went where the index had something else: list once more."""

    def __bool__(self) -> bool:
        return bool(self.add or self.remove or self.nested)


class Scanner:
    """Keeps one store's index equal to the tree.

    Attributes:
        notes: Paths that snapshots leave out, and why.
    """

    def __init__(self, store: Store, place: GitPlace | None) -> None:
        self.notes: dict[str, str] = {}
        self._store = store
        self._index = None if place is None else place.git_dir / "index"
        self._index_seen: Stamp | None = None
        self._forced: set[bytes] = set()
        self._watched: set[bytes] = set()
        self._fresh: dict[bytes, Stamp] = {}
        self._nested: dict[bytes, str] = {}
        self._first = True

    async def update(self) -> bool:
        """Take up what changed; whether anything did."""
        await self._read_user_index()
        if self._first and self._store.index.exists():
            await self._forget_ignored()
            staged = await self._store.run("ls-files", "-z", "--stage")
            self._nested = {path: commit.decode() for commit, path in _NESTED.findall(staged)}
        changed = False
        for _ in range(_ROUNDS):
            plan = await self._plan()
            if not plan:
                break
            try:
                await self._apply(plan)
            except GitError:
                # A file went away or changed under git's hands: look again.
                await anyio.sleep(0.02)
                continue
            changed = True
            if not plan.again:
                break
        self._first = False
        return changed

    async def _plan(self) -> Plan:
        listed = (await self._store.run(*_LIST)).split(b"\0")[:-1]
        wanted = {line[2:]: line[:1] != b"?" for line in listed}
        for path in self._watched:
            wanted.setdefault(path, False)
        touched = self._touched()
        wanted.update((path, True) for path in touched)
        # Of a repository that went away git says nothing, so the commits are looked up here.
        wanted.update((path, True) for path in self._moved())
        if not wanted:
            self.notes = {}
            return Plan()
        plan = await anyio.to_thread.run_sync(_look, os.fsencode(self._store.root), wanted)
        self.notes = {os.fsdecode(path): why for path, why in plan.notes.items()}
        # git would take these for unchanged: only a new entry is read again.
        plan.remove += [path for path in touched if path in plan.stamps]
        return plan

    def _moved(self) -> list[bytes]:
        """Return the nested repositories that are at another commit than recorded, or gone."""
        root = os.fsencode(self._store.root) + b"/"
        return [path for path, was in self._nested.items() if _nested_head(root + path) != was]

    def _touched(self) -> list[bytes]:
        """Return the recently added paths that changed since, by nanoseconds.

        git compares whole seconds: a file that was changed twice in one second, the second time
        with its size kept and its mtime set back, would look the same to it.
        """
        if not self._fresh:
            return []
        old = time.time_ns() - _FRESH
        root = os.fsencode(self._store.root) + b"/"
        now = {path: _stamp(root + path) for path in self._fresh}
        touched = [path for path, stamp in self._fresh.items() if now[path] != stamp]
        self._fresh = {p: s for p, s in self._fresh.items() if p in touched or s[3] > old}
        return touched

    async def _apply(self, plan: Plan) -> None:
        zero = "0" * len(self._store.empty)
        info = [f"0 {zero}\t".encode() + path for path in plan.remove]
        info += [f"160000 {commit}\t".encode() + path for path, commit in plan.nested]
        if info:
            await self._store.run("update-index", "-z", "--index-info", stdin=_lines(info))
        recent = time.time_ns() - _FRESH
        self._fresh.update((path, s) for path, s in plan.stamps.items() if s[3] > recent)
        if plan.add:
            args = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")
            await self._store.run(*args, stdin=_lines(plan.add))
        for path in plan.remove:
            self._nested.pop(path, None)
        self._nested.update(plan.nested)
        # What comes back must be found even where it is ignored: git would not list it.
        if len(self._watched) < _MOST_WATCHED:
            self._watched.update(plan.remove)
        self._watched.difference_update(plan.add)

    async def _read_user_index(self) -> None:
        """Learn which files the user's repository tracks although they are ignored."""
        if self._index is None:
            return
        seen = _stamp(self._index)
        if seen == self._index_seen:
            return
        self._index_seen = seen
        try:
            with self._store.copy_of(self._index) as copy:
                out = await self._store.run(*_IGNORED, index=copy)
        except (GitError, OSError):  # an index that this git cannot read: nothing is forced
            return
        self._forced = set(out.split(b"\0")[:-1])
        self._watched |= self._forced

    async def _forget_ignored(self) -> None:
        """Drop what an earlier run took up and is ignored by now.

        Within a run nothing is dropped: a mend cannot hide a file by ignoring it.
        """
        known = set((await self._store.run(*_IGNORED)).split(b"\0")[:-1])
        self._watched -= known
        if stale := known - self._forced:
            await self._apply(Plan(remove=sorted(stale)))
            self._watched -= stale


def _look(root: bytes, wanted: dict[bytes, bool]) -> Plan:
    """Decide for each path what it is now; `wanted` tells whether the index knows it."""
    plan = Plan()
    sound: dict[bytes, bool] = {}
    for path, known in wanted.items():
        name = path.rstrip(b"/")
        if any(part.lower() == b".git" for part in name.split(b"/")):
            continue
        if not _is_below(root, os.path.dirname(name), sound):  # noqa: PTH120  bytes
            _gone(plan, name, known=known)
            continue
        try:
            found = os.lstat(root + b"/" + name)
        except PermissionError:
            plan.notes[name] = "not readable"
        except (OSError, ValueError):
            _gone(plan, name, known=known)
        else:
            _sort(plan, root, name, found, known=known)
    return plan


def _sort(plan: Plan, root: bytes, name: bytes, found: os.stat_result, *, known: bool) -> None:
    full = root + b"/" + name
    if stat.S_ISLNK(found.st_mode):
        _take(plan, name, found)
    elif stat.S_ISDIR(found.st_mode):
        _sort_directory(plan, full, name, known=known)
    elif not stat.S_ISREG(found.st_mode):
        plan.notes[name] = "neither a file nor a link"
        _gone(plan, name, known=known)
    elif found.st_size > LARGEST:
        plan.notes[name] = f"larger than {LARGEST >> 20:,} MiB"
        _gone(plan, name, known=known)
    elif not os.access(full, os.R_OK):
        plan.notes[name] = "not readable"
    else:
        _take(plan, name, found)


def _take(plan: Plan, name: bytes, found: os.stat_result) -> None:
    plan.add.append(name)
    plan.stamps[name] = _as_stamp(found)


def _sort_directory(plan: Plan, full: bytes, name: bytes, *, known: bool) -> None:
    """A directory is listed only if a repository is in it, or if the index has something else."""
    commit = _nested_head(full)
    plan.again = plan.again or known
    if commit:
        plan.nested.append((name, commit))
        plan.notes[name] = "a repository of its own: only the commit it is at is recorded"
        return
    if commit is not None:
        plan.notes[name] = "a repository of its own, without a commit"
    _gone(plan, name, known=known)


def _nested_head(full: bytes) -> str | None:
    git_dir = git_dir_of(Path(os.fsdecode(full)))
    return None if git_dir is None else head_of(git_dir, shared_dir(git_dir))


def _gone(plan: Plan, name: bytes, *, known: bool) -> None:
    if known:
        plan.remove.append(name)


def _is_below(root: bytes, directory: bytes, sound: dict[bytes, bool]) -> bool:
    """Whether every directory on the way is one, and no link: nothing is read beyond a link."""
    if not directory:
        return True
    if directory not in sound:
        above = _is_below(root, os.path.dirname(directory), sound)  # noqa: PTH120  bytes
        sound[directory] = above and _is_directory(root + b"/" + directory)
    return sound[directory]


def _is_directory(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except PermissionError:
        return True  # what is inside will say so itself
    except OSError:
        return False


def _stamp(path: Path | bytes) -> Stamp | None:
    try:
        return _as_stamp(os.lstat(path))
    except (OSError, ValueError):
        return None


def _as_stamp(found: os.stat_result) -> Stamp:
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _lines(items: Iterable[bytes]) -> bytes:
    return b"".join(item + b"\0" for item in items)
