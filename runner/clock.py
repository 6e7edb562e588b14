"""Tells how much time has passed, that in which the machine slept included."""

from __future__ import annotations

import time
from typing import Final

# A provider's cache grows older while a laptop is shut; Linux's monotonic clock does not.
_BOOT: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def seconds() -> float:
    """Return seconds by a clock that only goes forward, from an arbitrary start."""
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)
