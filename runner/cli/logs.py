"""Reads what a command printed from its log: all of it, or its two ends."""

from __future__ import annotations

import os
from pathlib import Path

_HEAD_SHARE = 4


def printed(log: str, limit: int) -> str:
    """Return at most about `limit` bytes of a log, its middle left out; empty when it is gone.

    What is not UTF-8 becomes U+FFFD; nothing is cleaned.
    """
    if not log or limit <= 0:
        return ""
    try:
        with Path(log).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return file.read(limit).decode("utf-8", "replace")
            head = file.read(limit // _HEAD_SHARE)
            file.seek(size - (limit - len(head)))
            tail = file.read(limit)
    except (OSError, ValueError):
        return ""
    marker = f"\n[... {size - len(head) - len(tail)} bytes left out ...]\n"
    return head.decode("utf-8", "replace") + marker + tail.decode("utf-8", "replace")
