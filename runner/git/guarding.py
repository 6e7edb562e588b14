"""Decides what a model's attempt did to `.git`, and undoes it byte for byte.

A refreshed index and packed refs are no change: the check itself may have run `git status`.
"""

# Paths are bytes here, as the system has them: pathlib has no say.
# ruff: noqa: PTH103, PTH105, PTH108, PTH112, PTH114, PTH120, PTH211

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.facts import Guard, Recorded
from runner.git.recording import Recorder, is_inside, place_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from runner.git.discover import Places
    from runner.git.shadow import Shadow

_PEELED = b"^"


@frozen
class Difference:
    """What was changed, for people, and the paths to put back."""

    said: tuple[str, ...]
    paths: frozenset[bytes]


class Watch:
    """Takes guards and compares with them."""

    def __init__(self, shadow: Shadow, store: Path) -> None:
        store.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._shadow = shadow
        self._places = shadow.places
        self._store = store
        self._recorder = Recorder(shadow.places, store)

    def take(self) -> Guard:
        """Record the present state."""
        entries = self._recorder.record()
        for path, recorded in entries.items():
            if not self._recorder.can_restore(recorded):
                raise GitRefused(f"{os.fsdecode(path)} cannot be read or is too big to be guarded")
        return Guard(entries, _inodes(self._places))

    async def compare(self, guard: Guard) -> Difference:
        """Say what differs from *guard* and matters."""
        swapped = self._swapped(guard)
        if swapped:
            return Difference(swapped, frozenset())
        now = self._recorder.record()
        touched = frozenset(
            path
            for path in guard.entries.keys() | now.keys()
            if not _same(guard.entries.get(path), now.get(path))
        )
        said = tuple(await self._words(touched, guard.entries, now))
        # Once something matters all is put back, a mere refresh and the reflog too.
        return Difference(said, touched if said else frozenset())

    async def _words(
        self,
        touched: frozenset[bytes],
        before: Mapping[bytes, Recorded],
        now: Mapping[bytes, Recorded],
    ) -> list[str]:
        """Say what was done to the index, to refs with their logs, and to the rest."""
        index = os.fsencode(self._places.git_dir / "index")
        indexes = {path for path in touched if path == index or b"/sharedindex." in path}
        refs = {path for path in touched if self._is_ref(path)}
        rest = {path for path in touched - indexes - refs if not _is_directory(path, before, now)}
        said = [self._named(path, before, now) for path in sorted(rest)]
        if index in indexes and await self._index_differs(before.get(index), now.get(index)):
            said.append("the index was changed")
        return said + (self._refs_said(before, now) if refs else [])

    def _is_ref(self, path: bytes) -> bool:
        common, own = self._places.common_dir, self._places.git_dir
        if path == os.fsencode(common / "packed-refs"):
            return True
        return any(
            is_inside(path, base / name) or path == os.fsencode(base / name)
            for base in {common, own}
            for name in ("refs", "logs")
        )

    def _refs_said(
        self, before: Mapping[bytes, Recorded], now: Mapping[bytes, Recorded]
    ) -> list[str]:
        old, new = self._refs(before), self._refs(now)
        said = [
            f"{os.fsdecode(name)} was {_what(old.get(name), new.get(name))}"
            for name in sorted(old.keys() | new.keys())
            if old.get(name) != new.get(name)
        ]
        stash = os.fsencode(self._places.common_dir / "logs" / "refs" / "stash")
        if not said and not _same(before.get(stash), now.get(stash)):
            said.append("the list of stashes was changed")
        return said

    def _refs(self, entries: Mapping[bytes, Recorded]) -> dict[bytes, bytes]:
        """Read all refs from recorded files: packed ones first, loose ones over them."""
        found: dict[bytes, bytes] = {}
        packed = entries.get(os.fsencode(self._places.common_dir / "packed-refs"))
        if packed is not None and packed.kind == "file":
            for line in self._recorder.saved(packed.digest).splitlines():
                value, _, name = line.partition(b" ")
                if name and not line.startswith((b"#", _PEELED)):
                    found[name] = value
        for base in (self._places.common_dir, self._places.git_dir):
            prefix = os.fsencode(base) + b"/"
            for path, recorded in entries.items():
                if recorded.kind == "directory" or not path.startswith(prefix + b"refs/"):
                    continue
                value = os.fsencode(recorded.digest)
                if recorded.kind == "file":
                    value = self._recorder.saved(recorded.digest).strip()
                found[path.removeprefix(prefix)] = value
        return found

    async def _index_differs(self, before: Recorded | None, now: Recorded | None) -> bool:
        if before is None or now is None or now.kind != "file":
            return True
        old = self._store / "index.old"
        new = self._store / "index.new"
        old.write_bytes(self._recorder.saved(before.digest))
        new.write_bytes(self._recorder.saved(now.digest))
        try:
            return await _flagged(self._shadow, old) != await _flagged(self._shadow, new)
        except GitRefused:
            return True  # an index that git cannot read is not the one it was

    def _named(
        self, path: bytes, before: Mapping[bytes, Recorded], now: Mapping[bytes, Recorded]
    ) -> str:
        for base in (self._places.git_dir, self._places.common_dir, self._places.root):
            if is_inside(path, base):
                name = os.fsdecode(path[len(os.fsencode(base)) + 1 :])
                break
        else:
            name = os.fsdecode(path)
        kind = "added" if path not in before else "removed" if path not in now else "changed"
        return f"{name} was {kind}" if base == self._places.root else f".git: {name} was {kind}"

    def _swapped(self, guard: Guard) -> tuple[str, ...]:
        return tuple(f"{path} was replaced" for path in _moved(guard))

    async def undo(self, guard: Guard) -> None:
        """Put back what :meth:`compare` names.

        Raises:
            GitRefused: The real `.git` was moved away and is not found again.
        """
        if self._swapped(guard):
            _bring_back(self._places, guard, self._store)
        difference = await self.compare(guard)
        gone = [path for path in difference.paths if path not in guard.entries]
        for path in sorted(gone, key=len, reverse=True):
            _remove(path)
        for path in sorted(difference.paths, key=len):
            recorded = guard.entries.get(path)
            if recorded is not None:
                self._put_back(path, recorded)
        left = await self.compare(guard)
        if left.said:
            raise GitRefused(f"not all changes to .git could be undone: {left.said[0]}")

    def _put_back(self, path: bytes, recorded: Recorded) -> None:
        if recorded.kind == "directory":
            if os.path.islink(path) or not os.path.isdir(path):
                _remove(path)
                os.makedirs(path)
            return
        if os.path.isdir(path) and not os.path.islink(path):
            _remove(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = path + b".subrunner-undo"
        if recorded.kind == "link":
            os.symlink(os.fsencode(recorded.digest), temporary)
        elif recorded.kind == "file":
            _write(temporary, self._recorder.saved(recorded.digest), recorded)
        else:
            return
        os.replace(temporary, path)


async def _flagged(shadow: Shadow, index: Path) -> bytes:
    """Return what an index holds beside stat data: entries, stages, flags."""
    return await shadow.check("ls-files", "--stage", "-v", "-z", index=index)


def _inodes(places: Places) -> dict[bytes, tuple[int, int]]:
    watched = {places.git_dir, places.common_dir, places.common_dir / "objects"}
    dot = places.root / ".git"
    if dot.is_dir() and not dot.is_symlink():
        watched.add(dot)
    return {os.fsencode(path): place_of(path) for path in watched}


def _same(one: Recorded | None, other: Recorded | None) -> bool:
    if one is None or other is None:
        return one is other
    if one.kind == "directory" or one.kind != other.kind:
        return one.kind == other.kind
    mode_and_kind = one.signature[3] == other.signature[3]
    return mode_and_kind and one.digest == other.digest


def _is_directory(
    path: bytes, before: Mapping[bytes, Recorded], now: Mapping[bytes, Recorded]
) -> bool:
    """Whether a directory merely came or went: git makes and prunes empty ones freely."""
    kinds = {entries[path].kind for entries in (before, now) if path in entries}
    return kinds == {"directory"}


def _what(old: bytes | None, new: bytes | None) -> str:
    if old is None:
        return f"added at {os.fsdecode(new or b'')}"
    if new is None:
        return f"removed from {os.fsdecode(old)}"
    # In full: what is undone can still be found by it.
    return f"moved from {os.fsdecode(old)} to {os.fsdecode(new)}"


def _remove(path: bytes) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _write(path: bytes, content: bytes, recorded: Recorded) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
        os.fchmod(opened.fileno(), recorded.signature[3] & 0o7777)
    # git tells by the index's own time which entries may be racy: it must not look younger.
    os.utime(path, ns=(recorded.signature[4], recorded.signature[4]))


def _bring_back(places: Places, guard: Guard, store: Path) -> None:
    """Find the real `.git` by its inode beside the impostor, and put it back."""
    dot = places.root / ".git"
    place = guard.places.get(os.fsencode(dot))
    if place is None or place_of(dot) == place:
        raise GitRefused(
            f"a directory of the repository was replaced: {', '.join(_moved(guard))}",
            hint="put it back by hand; the work tree's snapshots are in the state directory",
        )
    for candidate in _candidates(places.root):
        if place_of(candidate) == place:
            _set_aside(dot, store)
            candidate.replace(dot)
            return
    raise GitRefused(
        f"{dot} was moved away and is not found again",
        hint="put it back by hand; the work tree's snapshots are in the state directory",
    )


def _moved(guard: Guard) -> list[str]:
    named = {os.fsdecode(path): place for path, place in guard.places.items()}
    return [path for path, place in named.items() if place_of(Path(path)) != place]


def _candidates(root: Path) -> Collection[Path]:
    near = [*root.iterdir()]
    for folder in tuple(near):
        if folder.is_dir() and not folder.is_symlink():
            near += folder.iterdir()
    return near


def _set_aside(impostor: Path, store: Path) -> None:
    if not os.path.lexists(impostor):
        return
    number = sum(1 for _ in store.glob("replaced-*"))
    shutil.move(impostor, store / f"replaced-{number}", copy_function=shutil.copy2)
