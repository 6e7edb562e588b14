"""Reads output that nobody recognises: one opaque failure, equal only to itself.

A smaller output is no smaller failure (a command that dies earlier prints less), so nothing here is
ever a subset of something else: two such failures are the same or they are not.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from runner.fingerprints.reading import CUT, stable

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOISE = re.compile(
    r"\s*(?:Compiling|Checking|Downloading|Downloaded|Fetching|Installing|Installed|Resolving"
    r"|Resolved|Updating|Building|Built|Preparing|Prepared|Collecting|Using cached|Blocking"
    r"|Finished|Requirement already satisfied|npm (?:warn|notice)|go: downloading)\b"
    r"|[\s.\-=_*#~━─⎯|]*$"
)
"""Lines about what was fetched or built first: they depend on what the run before left behind."""


def digest(lines: Iterable[str]) -> str:
    """Return what the lines come to, whatever their order, numbers, times and temporary paths."""
    kept = {stable(line) for line in lines if line != CUT and not _NOISE.match(line)}
    return hashlib.sha256("\n".join(sorted(kept)).encode("utf-8", "replace")).hexdigest()[:16]
