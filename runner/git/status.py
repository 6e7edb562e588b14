"""Tells what the user's own git would call changed; no filter, monitor or submodule runs."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.shadow import share_split_index

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from runner.git.shadow import Shadow

_ABSENT = "000000"
_BATCH = 250
_ORDINARY = 9  # fields of a porcelain v2 line of an ordinary entry, its path included


@frozen
class Entry:
    """A tracked path that differs between HEAD, index and work tree."""

    path: str
    staged: bool
    unstaged: bool
    head_mode: str
    head_blob: str

    @property
    def in_head(self) -> bool:
        """Whether HEAD has the path."""
        return self.head_mode != _ABSENT


@frozen
class Status:
    """Tracked changes and untracked paths at one moment."""

    entries: tuple[Entry, ...]
    untracked: tuple[str, ...]
    unmerged: tuple[str, ...]


def digest_of(index: Path) -> str:
    """Return the SHA-256 of an index file, by which an unchanged one is known."""
    return hashlib.sha256(index.read_bytes()).hexdigest() if index.is_file() else ""


def copy_index(shadow: Shadow, target: Path) -> Path:
    """Copy the user's index with its time stamp, by which git tells what may be racy."""
    source = shadow.places.git_dir / "index"
    share_split_index(shadow)
    target.unlink(missing_ok=True)
    if source.is_file():
        shutil.copy2(source, target)
    return target


async def read_status(shadow: Shadow, index: Path, allowed: Collection[str]) -> Status:
    """Compare HEAD, *index* and the work tree.

    A file with a filter that is not allowed cannot be compared by content. It counts as changed
    unless its times, size and inode are, to the nanosecond, those that the index recorded.
    """
    done = await shadow.check(
        "status",
        "--porcelain=v2",
        "-z",
        "--untracked-files=all",
        "--no-renames",
        "--ignore-submodules=dirty",
        index=index,
    )
    status = _parse(done)
    suspects = [entry.path for entry in status.entries if entry.unstaged]
    filtered = await filters_of(shadow, suspects, index, allowed)
    same = await _untouched(shadow, index, filtered) if filtered else frozenset[str]()
    entries = (
        Entry(one.path, one.staged, False, one.head_mode, one.head_blob)  # noqa: FBT003  a record
        if one.path in same
        else one
        for one in status.entries
    )
    kept = tuple(entry for entry in entries if entry.staged or entry.unstaged)
    return Status(kept, status.untracked, status.unmerged)


def _parse(out: bytes) -> Status:
    entries: list[Entry] = []
    untracked: list[str] = []
    unmerged: list[str] = []
    for line in split(out):
        kind = line[:2]
        if kind == "1 ":
            entries.append(_entry(line))
        elif kind == "? ":
            untracked.append(line[2:])
        elif kind == "u ":
            unmerged.append(line.split(" ", 10)[10])
    return Status(tuple(entries), tuple(untracked), tuple(unmerged))


def _entry(line: str) -> Entry:
    fields = line.split(" ", _ORDINARY - 1)
    staged, unstaged = fields[1]
    return Entry(fields[8], staged != ".", unstaged != ".", fields[3], fields[6])


def split(out: bytes) -> Iterator[str]:
    """Split NUL-terminated output; bytes that are no UTF-8 survive as surrogates."""
    return (os.fsdecode(item) for item in out.split(b"\0") if item)


def join(paths: Collection[str]) -> bytes:
    """Make NUL-terminated input."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)


async def index_entries(shadow: Shadow, index: Path) -> dict[str, tuple[str, str]]:
    """Return mode and object of every path of *index*."""
    found: dict[str, tuple[str, str]] = {}
    for line in split(await shadow.check("ls-files", "--stage", "-z", index=index)):
        meta, _, path = line.partition("\t")
        mode, blob, _ = meta.split(" ")
        found[path] = (mode, blob)
    return found


async def filters_of(
    shadow: Shadow, paths: Sequence[str], index: Path, allowed: Collection[str] = ()
) -> dict[str, str]:
    """Return the filter of each of *paths* that has one which is not allowed by name."""
    if not paths:
        return {}
    args = ("check-attr", "-z", "--stdin", "filter")
    out = await shadow.check(*args, stdin=join(paths), index=index)
    fields = [os.fsdecode(item) for item in out.split(b"\0")]
    return {
        path: value
        for path, value in zip(fields[0::3], fields[2::3], strict=False)
        if value not in ("unspecified", "unset", "set", "") and value not in allowed
    }


async def _untouched(shadow: Shadow, index: Path, paths: Collection[str]) -> frozenset[str]:
    recorded = await _recorded(shadow, index, paths)
    root = os.fsencode(shadow.places.root)
    return frozenset(
        path for path, stat in recorded.items() if _stat(root + b"/" + os.fsencode(path)) == stat
    )


async def _recorded(
    shadow: Shadow, index: Path, paths: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """Return mtime, ctime (both in ns), inode and size that *index* recorded."""
    found: dict[str, tuple[int, ...]] = {}
    for some in batched(sorted(paths)):
        out = await shadow.check("ls-files", "-z", "--debug", "--", *some, index=index)
        found |= _parse_debug(out)
    return found


def batched(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    """Split what must go into arguments, which the system limits."""
    return (paths[at : at + _BATCH] for at in range(0, len(paths), _BATCH))


def _parse_debug(rest: bytes) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    while b"\0" in rest:
        name, _, rest = rest.partition(b"\0")
        lines = rest.split(b"\n", 5)
        if len(lines) < 6:
            break
        ctime, mtime = (_nanoseconds(line) for line in lines[:2])
        inode = int(lines[2].split(b"ino: ")[1])
        size = int(lines[4].split(b"size: ")[1].split()[0])
        found[os.fsdecode(name)] = (mtime, ctime, inode & 0xFFFFFFFF, size)
        rest = lines[5]
    return found


def _nanoseconds(line: bytes) -> int:
    seconds, _, part = line.split(b": ")[1].partition(b":")
    return int(seconds) * 1_000_000_000 + int(part)


def _stat(path: bytes) -> tuple[int, ...]:
    try:
        found = os.lstat(path)
    except OSError:
        return ()
    return (
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_ino & 0xFFFFFFFF,
        found.st_size & 0xFFFFFFFF,
    )


def refuse_unmerged(status: Status) -> None:
    """Refuse a commit while the index holds conflicts."""
    if status.unmerged:
        raise GitRefused(
            f"the index holds unmerged paths: {', '.join(status.unmerged[:5])}",
            hint="resolve them and `git add` them first; nothing was changed",
        )
