"""Reads what a command may have written: a plain file only, and not more than is bearable."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def plain_bytes(path: Path, most: int) -> bytes | None:
    """Return the first *most* bytes of a file; `None` where there is none, or no plain one.

    A link is not followed: it may lead to what the command itself could not read. A pipe is not
    waited for.
    """
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            return None
        with os.fdopen(opened, "rb", closefd=False) as file:
            return file.read(most)
    finally:
        os.close(opened)
