"""Ends what a killed process of ours left running: commands outlive it in their own sessions."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from runner.workspace.processes import LINUX
from runner.workspace.proctable import (
    all_pids,
    descendants,
    signal_member,
    table_of,
    variables,
)

if TYPE_CHECKING:
    from pathlib import Path

    from runner.workspace.proctable import Member

_GIVEN_UP = 2.0
"""Seconds after which a process that does not go is left: it is stuck in the kernel."""


def end_earlier(run_id: str, state: Path) -> int:
    """Kill what earlier processes of a run left running in its work tree; return how many.

    Its commands carry the run's id, its git processes the state directory, in variables that
    children inherit. This process, those above it and its own children are spared. Elsewhere than
    on Linux nothing is found.
    """
    if not LINUX:
        return 0
    marks = (f"SUBRUNNER_RUN_ID={run_id}\0".encode(), b"GIT_DIR=" + os.fsencode(state) + b"/")
    killed: set[tuple[int, int]] = set()
    deadline = time.monotonic() + _GIVEN_UP
    while time.monotonic() < deadline:
        strays = _strays(marks)
        if not strays:
            break
        for stray in strays:
            signal_member(stray, signal.SIGKILL)
        killed |= {(stray.pid, stray.born) for stray in strays}
        time.sleep(0.005)
    return len(killed)


def _strays(marks: tuple[bytes, ...]) -> list[Member]:
    table = table_of(all_pids())
    spared = _above(table) | {m.pid for m in descendants(table, {os.getpid()})}
    roots = {
        m.pid
        for m in table
        if m.alive and m.pid not in spared and any(mark in variables(m.pid) for mark in marks)
    }
    return [m for m in descendants(table, roots) if m.alive and m.pid not in spared]


def _above(table: list[Member]) -> set[int]:
    """Return this process and those that it came of."""
    parents = {member.pid: member.parent for member in table}
    found: set[int] = set()
    pid = os.getpid()
    while pid and pid not in found:
        found.add(pid)
        pid = parents.get(pid, 0)
    return found
