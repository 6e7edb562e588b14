"""Puts single files of a tree back, never through a link and never over somebody else's change."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import sys
from functools import cache
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

Outcome = Literal["restored", "external"]

LINK = "120000"
_EXECUTABLE = "100755"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RENAME_EXCHANGE = 2
_CHUNK = 1024 * 1024


@frozen
class State:
    """What a path is: git's mode and blob id; both empty when nothing is there."""

    mode: str
    blob: str


ABSENT = State("", "")
_OTHER = State("other", "")


class Files:
    """The files below one directory, reached one name at a time."""

    def __init__(self, root: Path, object_format: str) -> None:
        self._root = root
        self._object_format = object_format

    def put(self, path: str, expected: State, wanted: State, data: bytes) -> Outcome:
        """Make `path` what is `wanted`, but only if it still is what is `expected`."""
        parts = os.fsencode(path).split(b"/")
        try:
            with self._parent(parts, create=wanted != ABSENT) as parent:
                return self._put(parent, parts[-1], expected, wanted, data)
        except (FileNotFoundError, NotADirectoryError):
            return "restored" if wanted == ABSENT else "external"
        except OSError:  # a link or a foreign directory is in the way, or the disk refuses
            return "external"

    def prune(self, path: str) -> None:
        """Remove the directories above `path` that are empty now."""
        parts = os.fsencode(path).split(b"/")[:-1]
        while parts:
            try:
                with self._parent(parts, create=False) as parent:
                    os.rmdir(parts[-1], dir_fd=parent)
            except OSError:
                return
            parts.pop()

    def _put(
        self, parent: int, name: bytes, expected: State, wanted: State, data: bytes
    ) -> Outcome:
        now = self._state(parent, name)
        if now == wanted:
            return "restored"
        if now != expected:
            return "external"
        temporary = f".subrunner-{secrets.token_hex(8)}".encode()
        if wanted == ABSENT:
            return self._take_away(parent, name, temporary, expected)
        _create(parent, temporary, wanted, data, _permissions(parent, name))
        try:
            if expected == ABSENT:
                # Unlike a rename, a link never replaces what came meanwhile.
                os.link(
                    temporary, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False
                )
                return "restored"
            return self._exchange(parent, name, temporary, expected)
        except FileExistsError:
            return "external"
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=parent)

    def _exchange(self, parent: int, name: bytes, temporary: bytes, expected: State) -> Outcome:
        """Swap new and old, then look at the old: a change in the last moment is put back."""
        if not _swap(parent, temporary, name):
            os.replace(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            return "restored"
        if self._state(parent, temporary) == expected:
            return "restored"
        _swap(parent, temporary, name)
        return "external"

    def _take_away(self, parent: int, name: bytes, temporary: bytes, expected: State) -> Outcome:
        os.rename(name, temporary, src_dir_fd=parent, dst_dir_fd=parent)
        if self._state(parent, temporary) != expected:
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
            return "external"
        os.unlink(temporary, dir_fd=parent)
        return "restored"

    @contextlib.contextmanager
    def _parent(self, parts: list[bytes], *, create: bool) -> Generator[int]:
        fd = os.open(self._root, _DIRECTORY & ~os.O_NOFOLLOW)
        try:
            for part in parts[:-1]:
                if create:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=fd)
                below = os.open(part, _DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def _state(self, parent: int, name: bytes) -> State:
        try:
            found = os.lstat(name, dir_fd=parent)
        except FileNotFoundError:
            return ABSENT
        if stat.S_ISLNK(found.st_mode):
            return State(LINK, self.blob_id(os.readlink(name, dir_fd=parent)))
        if not stat.S_ISREG(found.st_mode):
            return _OTHER
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=parent)
        with os.fdopen(fd, "rb") as file:
            found = os.fstat(file.fileno())
            digest = hashlib.new(self._object_format, usedforsecurity=False)
            digest.update(b"blob %d\0" % found.st_size)
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
        mode = _EXECUTABLE if found.st_mode & stat.S_IXUSR else "100644"
        return State(mode, digest.hexdigest())

    def blob_id(self, data: bytes) -> str:
        """Return git's id of a content."""
        digest = hashlib.new(self._object_format, usedforsecurity=False)
        digest.update(b"blob %d\0" % len(data))
        digest.update(data)
        return digest.hexdigest()


def _create(parent: int, name: bytes, wanted: State, data: bytes, permissions: int | None) -> None:
    if wanted.mode == LINK:
        os.symlink(data, name, dir_fd=parent)
        return
    executable = wanted.mode == _EXECUTABLE
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fd = os.open(name, flags, 0o777 if executable else 0o666, dir_fd=parent)
    with os.fdopen(fd, "wb") as file:
        if permissions is not None:
            bits = (permissions & 0o444) >> 2
            os.fchmod(file.fileno(), permissions | bits if executable else permissions & ~0o111)
        file.write(data)


def _permissions(parent: int, name: bytes) -> int | None:
    """The permission bits of a file that is there: a private one stays private."""
    try:
        found = os.lstat(name, dir_fd=parent)
    except OSError:
        return None
    return found.st_mode & 0o777 if stat.S_ISREG(found.st_mode) else None


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    if sys.platform != "linux":
        return None
    import ctypes  # noqa: PLC0415  only a restore needs it

    return getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


def _swap(parent: int, one: bytes, other: bytes) -> bool:
    rename = _renameat2()
    return rename is not None and rename(parent, one, parent, other, _RENAME_EXCHANGE) == 0
