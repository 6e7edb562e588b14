"""Reads files of the repository and the user, never more than is allowed and never a device."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.loader.document import MAX_BYTES

if TYPE_CHECKING:
    from pathlib import Path


def read_file(path: Path, what: str) -> bytes:
    """Return a file's bytes, one more than `MAX_BYTES` at most.

    Args:
        path: The file.
        what: What it is, for the message: `workflow file`.

    Raises:
        UsageError: It is missing, unreadable, or no regular file.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{path} is no {what}: it is not a regular file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"there is no {what} {path}") from None
    except (OSError, ValueError) as error:
        # ValueError: a NUL in the path.
        raise UsageError(f"the {what} {str(path)!r} cannot be read: {error}") from None


def shown(path: Path, root: Path | None) -> str:
    """Return a file's name as a user would write it: inside `root` relative to it."""
    if root is not None:
        try:
            return str(path.resolve().relative_to(root.resolve()))
        except (ValueError, OSError):
            pass
    return str(path)


def is_inside(path: Path, root: Path) -> bool:
    """Return whether a path, symbolic links followed, is inside a directory."""
    return path.resolve().is_relative_to(root.resolve())
