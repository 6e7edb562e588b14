"""Tells by a look at the files, nothing read, whether a tree is as it was. Imports next to nothing.

Each path counts with its size, inode, mode and times, as in git's index
(https://git-scm.com/docs/racy-git); a directory's change when an entry comes or goes, and the time
of its last change stays when somebody puts the other one back. The same stamp is the same tree;
another one may be, too: then the contents decide.
"""

from __future__ import annotations

import os
import time
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_TICK = 30_000_000
"""Nanoseconds in which two writes may get the same time: kernels count in ticks of 1 to 10 ms."""
_TRIES = 4


def stamp_of(paths: list[str]) -> str:
    """Return one short text for how all these paths, files and directories, look now."""
    return _look(paths)[0]


def settled_stamp(paths: list[str]) -> str:
    """Return the stamp once no file is so fresh that a write could hide behind its time.

    Empty where the files do not come to rest.
    """
    for _ in range(_TRIES):
        now = time.time_ns()
        stamp, newest = _look(paths)
        if now - newest > _TICK:
            return stamp
        time.sleep(_TICK / 1e9)
    return ""


def with_directories(root: str, files: list[str], hollow: Sequence[str] = ()) -> list[str]:
    """Return files given relative to *root* as absolute paths, and all their directories.

    Those that hold no such file yet, *hollow*, count with what is below: one may turn up there.
    """
    found = {root: None}
    for top in hollow:
        found.update((folder, None) for folder, _, _ in os.walk(f"{root}/{top}"))
    for file in files:
        at = file.find("/")
        while at >= 0:
            found[f"{root}/{file[:at]}"] = None
            at = file.find("/", at + 1)
    return [*found, *(f"{root}/{file}" for file in files)]


def _look(paths: list[str]) -> tuple[str, int]:
    digest, newest = blake2b(digest_size=16), 0
    for path in paths:
        try:
            seen = os.lstat(path)
        except OSError:
            digest.update(f"{path}\0gone\0".encode("utf-8", "surrogateescape"))
            continue
        newest = max(newest, seen.st_mtime_ns, seen.st_ctime_ns)
        facts = f"{seen.st_mode} {seen.st_ino} {seen.st_size} {seen.st_mtime_ns} {seen.st_ctime_ns}"
        digest.update(f"{path}\0{facts}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest(), newest
