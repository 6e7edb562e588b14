"""Searches files for a regular expression, in a process of its own that can be stopped.

A pattern from a model may take for ever (`(a|a)+$`); Python's `re` can neither be interrupted nor
does it let others run meanwhile. So this file is run as a script, with a JSON request on its
standard input; it imports nothing of the package.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_FILE_BYTES = 2 << 20
_MAX_LINE = 300
_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG", "cassette.json")
"""Files that tell a directory of generated things (an environment, a cache, a recorded run)."""
_KEYS = frozenset({".aws", ".kube", ".ssh", ".gnupg", ".docker"})
"""Directories that hold keys, whatever the files in them are called."""


class Request(TypedDict):
    """What to search for, and where."""

    root: str
    path: str
    """File or directory to search, relative to the root, links resolved."""
    pattern: str
    glob: str
    """Of file names, or of paths where it has a slash; empty is all."""
    ignore_case: bool
    limit: int
    """Bytes of the answer, at most."""
    secret: list[str]
    """Globs of file names that are passed by."""
    open: list[str]
    """Globs of those among them that are not."""
    home: list[str]
    """Files in the user's home whose hard links are passed by."""
    skip: list[str]
    """Names of directories that are passed by."""


def search(request: Request) -> str:
    """Return `path:line: text` lines for a request's `pattern`, with a note where they are cut."""
    try:
        pattern = re.compile(request["pattern"], re.IGNORECASE if request["ignore_case"] else 0)
    except re.error as error:
        return f"Bad regular expression: {error}"
    lines: list[str] = []
    size = 0
    reader = _Reader(request)
    for path in _files(request):
        for number, line in reader.matching(Path(request["root"], path), pattern):
            found = f"{path}:{number}: {line.strip()[:_MAX_LINE]}"
            size += len(found.encode("utf-8", "replace")) + 1
            if size > request["limit"]:
                return "\n".join([*lines, "[... more left out; narrow the pattern or the path]"])
            lines.append(found)
    return "\n".join(lines) or "No matches."


def _files(request: Request) -> Iterator[str]:
    """Yield the searched files, relative to the root, in order; links are never followed."""
    root = Path(request["root"])
    start = root / request["path"]
    if not start.is_dir():
        yield request["path"]
        return
    for folder, folders, names in os.walk(str(start)):
        folders[:] = sorted(name for name in folders if not _skipped(Path(folder, name), request))
        for name in sorted(names):
            path = Path(folder, name).relative_to(root).as_posix()
            if not _is_secret(name, request) and _wanted(path, request["glob"]):
                yield path


def _is_secret(name: str, request: Request) -> bool:
    return _is_closed(name, request["secret"], request["open"])


def _is_closed(name: str, closed: Iterable[str], opened: Iterable[str]) -> bool:
    folded = name.casefold()
    return any(fnmatch.fnmatchcase(folded, glob) for glob in closed) and not any(
        fnmatch.fnmatchcase(folded, glob) for glob in opened
    )


def closed_files(
    root: str,
    closed: Iterable[str],
    opened: Iterable[str],
    skipped: Iterable[str],
    home: Iterable[str],
) -> frozenset[tuple[int, int]]:
    """Return device and inode of all files that are closed by their names, below and at home."""
    passed = frozenset(skipped) - _KEYS
    found: set[tuple[int, int]] = set()
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name.casefold() not in passed]
        inside = _KEYS.intersection(Path(folder).relative_to(root).parts)
        for name in names:
            if inside or _is_closed(name, closed, opened):
                found |= _inode(Path(folder, name))
    place = Path(os.environ.get("HOME", "/nonexistent"))
    for name in home:
        for path in place.glob(name):
            found |= _inode(path)
    return frozenset(found)


def _inode(path: Path) -> set[tuple[int, int]]:
    try:
        info = path.lstat()
    except OSError:
        return set()
    return {(info.st_dev, info.st_ino)}


def _skipped(folder: Path, request: Request) -> bool:
    return folder.name.casefold() in request["skip"] or any(
        (folder / mark).exists() for mark in _MARKS
    )


def _wanted(path: str, glob: str) -> bool:
    name = path if "/" in glob else path.rpartition("/")[2]
    return not glob or fnmatch.fnmatchcase(name, glob)


class _Reader:
    """Reads files, but none that is a closed one by another name."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._closed: frozenset[tuple[int, int]] | None = None

    def matching(self, path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        """Yield number and text of the matching lines of one regular text file."""
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return
        with open(handle, "rb") as file:  # noqa: PTH123  by descriptor: nothing can be swapped in
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode) or (info.st_nlink > 1 and self._is_twin(info)):
                return
            data = file.read(_MAX_FILE_BYTES)
        yield from _lines(data, pattern)

    def _is_twin(self, info: os.stat_result) -> bool:
        if self._closed is None:
            wanted = self._request
            self._closed = closed_files(
                wanted["root"], wanted["secret"], wanted["open"], wanted["skip"], wanted["home"]
            )
        return (info.st_dev, info.st_ino) in self._closed


def _lines(data: bytes, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if pattern.search(line):
            yield number, line


if __name__ == "__main__":
    sys.stdout.buffer.write(search(json.load(sys.stdin)).encode("utf-8", "replace"))
