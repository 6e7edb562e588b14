"""Reads the process table of Linux: who is whose child, and in which session."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@frozen
class Member:
    """One line of the process table."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    born: int
    """Clock ticks since boot: with the pid, the identity of a process."""

    @property
    def alive(self) -> bool:
        """Whether it still runs: a zombie is dead already."""
        return self.state not in {"Z", "X"}


def all_pids() -> list[int]:
    """Return the ids of all processes; threads are not among them."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  speed


def born_since(pid: int) -> Iterable[int]:
    """Process ids given out after `pid`: they are given out in turn (`idr_alloc_cyclic`)."""
    try:
        with open("/proc/loadavg", "rb") as file:  # noqa: PTH123  on the path of every command
            last = int(file.read().split()[4])
    except (OSError, IndexError, ValueError):
        return all_pids()
    if pid <= last <= pid + 200:
        return range(pid + 1, last + 1)
    return [other for other in all_pids() if other > pid or other <= last < pid]


def table_of(pids: Iterable[int]) -> list[Member]:
    """Return what is known of those processes that are there."""
    return [member for pid in pids if (member := _member(pid)) is not None]


def _member(pid: int) -> Member | None:
    raw = _read_proc(pid, "stat")
    fields = raw[raw.rfind(b")") + 1 :].split()  # a program's name may hold anything
    if len(fields) < 20:
        return None
    numbers = [int(fields[index]) for index in (1, 2, 3, 19)]
    return Member(pid, fields[0].decode(), *numbers)


def _read_proc(pid: int, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:  # noqa: PTH123  on the path of every command
            return file.read()
    except OSError:
        return b""


def variables(pid: int) -> bytes:
    """Return the environment a process started its program with; empty if it cannot be read."""
    return _read_proc(pid, "environ")


def writes_to(pid: int, pipe: str) -> bool:
    """Whether standard output or error is this pipe.

    Other descriptors say nothing: a child that another thread is just starting holds copies of all
    of ours until it executes its program.
    """
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == pipe:  # noqa: PTH115  on the path of a sweep
                return True
    return False


def strangers(table: Iterable[Member]) -> list[Member]:
    """Children of ours outside our own session: a command's orphans are always among them.

    A child inside our session was made by another library: no command's descendant can get there.
    """
    own, session = os.getpid(), os.getsid(0)
    return [m for m in table if m.parent == own and m.session != session]


def descendants(table: Sequence[Member], roots: set[int]) -> list[Member]:
    """Return the roots that are in the table and everything below them."""
    below: dict[int, list[Member]] = {}
    for member in table:
        below.setdefault(member.parent, []).append(member)
    found = {m.pid: m for m in table if m.pid in roots}
    queue = list(found)
    while queue:
        for child in below.get(queue.pop(), ()):
            if child.pid not in found:
                found[child.pid] = child
                queue.append(child.pid)
    return list(found.values())


def signal_member(member: Member, number: signal.Signals) -> None:
    """Signal exactly this process: its id may have gone to another since the table was read."""
    try:
        handle = os.pidfd_open(member.pid)
    except OSError:
        return
    try:
        now = _member(member.pid)
        if now is not None and now.born == member.born:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)
