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
    from collections.abc import Iterator

_MAX_FILE_BYTES = 2 << 20
_MAX_LINE = 300
_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG", "cassette.json")
"""Files that tell a directory of generated things (an environment, a cache, a recorded run)."""


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
    for path in _files(request):
        for number, line in _matching(Path(request["root"], path), pattern):
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
    return any(fnmatch.fnmatchcase(name.casefold(), glob) for glob in request["secret"])


def _skipped(folder: Path, request: Request) -> bool:
    return folder.name.casefold() in request["skip"] or any(
        (folder / mark).exists() for mark in _MARKS
    )


def _wanted(path: str, glob: str) -> bool:
    name = path if "/" in glob else path.rpartition("/")[2]
    return not glob or fnmatch.fnmatchcase(name, glob)


def _matching(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """Yield number and text of the matching lines of one regular text file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return
    with open(handle, "rb") as file:  # noqa: PTH123  by descriptor: nothing can be swapped in
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return
        data = file.read(_MAX_FILE_BYTES)
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        if pattern.search(line):
            yield number, line


if __name__ == "__main__":
    sys.stdout.buffer.write(search(json.load(sys.stdin)).encode("utf-8", "replace"))
