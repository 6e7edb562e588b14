"""The files that an agent's tools may touch: inside the tree, in scope, never a secret's.

A workspace for the harness's file tools. Every path is resolved through its links first and judged
by where it really leads; then it is opened one directory at a time without following links, so that
one swapped in between is refused instead of followed.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from pydantic_ai.workspaces import FileEntry, WorkspaceRef

from runner import search, secretfiles

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from runner.tools import Permit

SKIPPED_FOLDERS = (
    *secretfiles.FOLDERS,
    "node_modules",
    "__pycache__",
    ".venv",
    "venv",
    ".tox",
    ".nox",
)
"""Directories that listing and searching pass by."""

_MAX_READ = 8 << 20
_MAX_WRITE = 2 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class AgentFiles:
    """One attempt's view of the tree, as `pydantic_ai.workspaces` wants a workspace.

    It runs no commands: then the harness reads files itself instead of starting `git` or `rg`,
    which would read the repository's configuration.
    """

    def __init__(self, permit: Permit, *, search_seconds: float = 10.0) -> None:
        self._permit = permit
        self._search_seconds = search_seconds
        self._root = os.path.realpath(permit.root)

    @property
    def ref(self) -> WorkspaceRef | None:
        """No identity: an attempt's files are never resumed."""
        return None

    async def working_dir(self) -> str:
        """The tree's root."""
        return self._root

    async def realpath(self, path: str) -> str:
        """Resolve links."""
        return await anyio.to_thread.run_sync(os.path.realpath, path)

    async def read_bytes(self, path: str) -> bytes:
        """Read a regular file of at most 8 MiB."""
        return await anyio.to_thread.run_sync(self._read, path)

    async def write_bytes(self, path: str, data: bytes) -> None:
        """Put a new file in the place of an old one, or of none, where the scope allows it."""
        await anyio.to_thread.run_sync(self._write, path, data)

    async def stat(self, path: str) -> FileEntry:
        """Say what is at a path."""
        return await anyio.to_thread.run_sync(self._stat, path)

    async def list_dir(self, path: str) -> Sequence[FileEntry]:
        """List a directory, without what agents need not see."""
        return await anyio.to_thread.run_sync(self._list, path)

    async def make_dir(self, path: str) -> None:
        """Refuse: directories come with the files in them."""
        msg = f"directories are made by writing a file: {path}"
        raise PermissionError(msg)

    async def remove(self, path: str) -> None:
        """Refuse: no tool deletes."""
        msg = f"no tool deletes: {path}"
        raise PermissionError(msg)

    async def exists(self, path: str) -> bool:
        """Say whether anything is at a path."""
        return await anyio.to_thread.run_sync(os.path.exists, path)

    def path(self, given: str) -> str:
        """Make a model's path absolute; where it leads is judged when it is used."""
        if "\0" in given or not given.strip():
            msg = "the path is empty or holds a NUL byte"
            raise PermissionError(msg)
        return os.path.normpath(Path(self._root, given))

    def relative(self, path: str) -> str:
        """Where a path really leads, relative to the root.

        Raises:
            PermissionError: Outside the tree, or a place that is closed to agents.
        """
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(self._root):
            msg = "outside the tree; give a path relative to its root"
            raise PermissionError(msg)
        relative = real.relative_to(self._root)
        if secretfiles.is_secret(relative.as_posix()):
            msg = f"{relative}: closed to agents, for such files hold keys or belong to git"
            raise PermissionError(msg)
        return relative.as_posix()

    async def grep(self, pattern: str, path: str, glob: str, *, ignore_case: bool) -> str:
        """Search the files below a path; a note instead of matches when it takes too long."""
        request: search.Request = {
            "root": self._root,
            "path": await anyio.to_thread.run_sync(self.relative, self.path(path)),
            "pattern": pattern,
            "glob": glob,
            "ignore_case": ignore_case,
            "limit": 8_000,
            "secret": list(secretfiles.NAMES),
            "open": list(secretfiles.OPEN),
            "home": list(secretfiles.AT_HOME),
            "skip": list(SKIPPED_FOLDERS),
        }
        script = [sys.executable, "-I", "-S", search.__file__]
        with anyio.move_on_after(self._search_seconds):
            done = await anyio.run_process(
                script, input=json.dumps(request).encode(), check=False, stderr=subprocess.DEVNULL
            )
            return done.stdout.decode("utf-8", "replace") or "The search failed."
        limit = self._search_seconds
        return f"Stopped after {limit:g} s: simplify the pattern or narrow the path."

    def _read(self, path: str) -> bytes:
        with self._parent(self.relative(path)) as (folder, name):
            handle = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
            )
        with open(handle, "rb") as file:  # noqa: PTH123  by descriptor
            mode = os.fstat(handle).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(name)
            if not stat.S_ISREG(mode):
                msg = f"not a regular file: {name!r}"
                raise OSError(msg)
            self._refuse_twin(os.fstat(handle), name)
            data = file.read(_MAX_READ + 1)
        if len(data) > _MAX_READ:
            msg = f"larger than {_MAX_READ >> 20} MiB: search it with grep"
            raise PermissionError(msg)
        return data

    def _refuse_twin(self, found: os.stat_result, name: str) -> None:
        """Refuse a file that is a closed one by another name: a hard link tells nobody of it."""
        if found.st_nlink < 2:
            return
        closed = search.closed_files(
            self._root, secretfiles.NAMES, secretfiles.OPEN, SKIPPED_FOLDERS, secretfiles.AT_HOME
        )
        if (found.st_dev, found.st_ino) in closed:
            msg = f"{name}: closed to agents, for it is another name of a file that holds keys"
            raise PermissionError(msg)

    def _write(self, path: str, data: bytes) -> None:
        relative = self.relative(path)
        if not self._permit.allows(relative):
            msg = f"{relative} may not be written: {self._permit.why_not(relative)}"
            raise PermissionError(msg)
        if len(data) > _MAX_WRITE:
            msg = f"{relative}: {len(data)} bytes are more than {_MAX_WRITE >> 20} MiB"
            raise PermissionError(msg)
        with self._parent(relative, make=True) as (folder, name):
            # Told first: a run that is killed in between must know the content for its own.
            if self._permit.wrote is not None:
                self._permit.wrote(relative, data)
            _replace(folder, name, data)

    def _stat(self, path: str) -> FileEntry:
        with self._parent(self.relative(path)) as (folder, name):
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        is_dir = stat.S_ISDIR(info.st_mode)
        return FileEntry(
            name=Path(path).name, path=path, is_dir=is_dir, size=None if is_dir else info.st_size
        )

    def _list(self, path: str) -> list[FileEntry]:
        entries: list[FileEntry] = []
        inside = f"{self.relative(path)}/."
        with self._parent(inside) as (folder, _), os.scandir(folder) as scan:
            for entry in sorted(scan, key=lambda entry: entry.name):
                is_dir = entry.is_dir(follow_symlinks=False)
                hidden = is_dir and _passed_by(entry.name, folder)
                if hidden or entry.is_symlink() or secretfiles.is_secret(entry.name):
                    continue
                size = None if is_dir else entry.stat(follow_symlinks=False).st_size
                entries.append(
                    FileEntry(
                        name=entry.name,
                        path=os.path.join(path, entry.name),  # noqa: PTH118  a plain join
                        is_dir=is_dir,
                        size=size,
                    )
                )
        return entries

    @contextmanager
    def _parent(self, relative: str, *, make: bool = False) -> Generator[tuple[int, str]]:
        """Open the directory of a resolved path step by step, refusing any link on the way."""
        *folders, name = relative.split("/")
        current = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                if make:
                    _make_folder(folder, current)
                below = os.open(folder, _DIRECTORY, dir_fd=current)
                os.close(current)
                current = below
            yield current, name
        finally:
            os.close(current)


def _passed_by(name: str, parent: int) -> bool:
    """Whether a directory is none of an agent's business: a recorded run is not, either."""
    if name.casefold() in SKIPPED_FOLDERS:
        return True
    try:
        os.stat(f"{name}/cassette.json", dir_fd=parent)
    except OSError:
        return False
    return True


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        return


def _replace(folder: int, name: str, data: bytes) -> None:
    """Write beside and rename over: whole or not at all, and never through a hard link."""
    try:
        before = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        before = None
    if before is not None and not stat.S_ISREG(before.st_mode):
        msg = f"not a regular file: {name!r}"
        raise OSError(msg)
    # A name that a resume knows for its own, and removes.
    beside = f".subrunner-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(beside, flags, 0o666, dir_fd=folder)
    try:
        with open(handle, "wb") as file:  # noqa: PTH123  by descriptor
            file.write(data)
            if before is not None:
                os.fchmod(handle, stat.S_IMODE(before.st_mode) & 0o777)
        os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(beside, dir_fd=folder)
        raise
