"""Lets one hook at a time work in a tree, and forgets what is known of old sessions."""

from __future__ import annotations

import fcntl
import os
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import anyio

from runner.errors import RunnerError
from runner.hook.memory import KEPT

if TYPE_CHECKING:
    from pathlib import Path

_PAUSE = 0.1


async def alone(path: str, session: str, patience: float) -> int | None:
    """Take the tree for this hook; `None` where another hook of the session has it.

    Raises:
        RunnerError: Another session's has had it for *patience* seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    name = sha256(session.encode("utf-8", "surrogatepass")).hexdigest().encode()
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if os.pread(descriptor, 64, 0) == name:
                os.close(descriptor)
                return None
            if time.monotonic() > until:
                os.close(descriptor)
                raise RunnerError(
                    f"the hook of another session has worked in this tree for {patience:.0f} s;"
                    " nothing was run at this stop"
                ) from None
            await anyio.sleep(_PAUSE)
        else:
            os.pwrite(descriptor, name, 0)
            return descriptor


def forget_old(folder: Path) -> None:
    """Delete what is known of sessions that ended long ago."""
    now = time.time()
    for path in folder.iterdir():
        try:
            if path.suffix == ".json" and now - path.stat().st_mtime > KEPT:
                path.unlink()
        except OSError:
            continue
