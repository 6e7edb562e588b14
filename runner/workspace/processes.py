"""Starts one process in a session of its own, and ends everything that came of it.

Who belongs to a process that was started here is told, on Linux, by three marks that children
inherit: its session or process group, the `SUBRUNNER_COMMAND` variable, and ancestry. While any
such process runs, this program is a child subreaper, so an orphan of a command becomes a child of
ours instead of vanishing under init. Only marked processes are ever signalled or waited for: the
children of other commands, of other runs in this program and of other libraries are left alone.
Elsewhere than on Linux the process group is all there is.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping, Sequence
    from pathlib import Path

MARK = "SUBRUNNER_COMMAND"
"""Variable by which the descendants of a command are told; nested runners append to it."""

LINUX = sys.platform == "linux"
_SETTLE = 0.1
"""Seconds for what outlives its leader to end by itself: `> >(tee log)` needs a few ms."""
_KILL = 0.8
"""Seconds in which a killed tree must be gone; a process stuck in the kernel is given up."""
_BRIEF = 0.25
"""Below this many seconds of life, process ids cannot have wrapped around."""
_PR_SET_CHILD_SUBREAPER = 36
_counter = itertools.count(1)


@dataclass(frozen=True, slots=True)
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


class _Adoption:
    """Counts the processes that run, and is a subreaper while there are any.

    The kernel's flag is one for the whole program, and so is this count; threads share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self.leaders: set[int] = set()

    def enter(self) -> None:
        with self._lock:
            self._count += 1
            if self._count == 1 and LINUX:
                _set_subreaper(on=True)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0 and LINUX:
                _set_subreaper(on=False)


_adoption = _Adoption()


@contextlib.contextmanager
def adopting() -> Generator[None]:
    """Stay a subreaper for the length of the block, so that `end_strays` sees every orphan."""
    _adoption.enter()
    try:
        yield
    finally:
        _adoption.leave()


class Process:
    """A running leader in a session of its own, with its output on a pipe.

    Attributes:
        pid: Of the leader; also its session and process group.
        output: The non-blocking read end of the pipe.
    """

    def __init__(self, popen: subprocess.Popen[bytes], output: int, token: str) -> None:
        self.pid = popen.pid
        self.output = output
        self._popen = popen
        self._token = token.encode()
        self._pipe = f"pipe:[{os.fstat(output).st_ino}]"
        self._started = time.monotonic()
        self._pidfd = _pidfd(popen.pid)

    @classmethod
    def start(
        cls,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: bytes | None = None,
        stderr: int = subprocess.STDOUT,
    ) -> Process:
        """Start a process; blocks for the millisecond that spawning takes.

        `preexec_fn` is never used: it turns a cheap spawn into a copy of this whole program.

        Raises:
            OSError: The program, the directory or the resources are not there.
            ValueError: An argument or variable cannot be passed on: it holds a NUL, for example.
        """
        if not argv:
            raise ValueError("there is no program to run")
        token = f"{os.getpid()}.{next(_counter)}.{time.monotonic_ns()}"
        marked = {**env, MARK: f"{os.environ.get(MARK, '')}/{token}/"}
        read, write = os.pipe()
        try:
            _adoption.enter()
            try:
                with _stdin(stdin) as source:
                    popen = subprocess.Popen(
                        argv,
                        cwd=cwd,
                        env=marked,
                        stdin=source,
                        stdout=write,
                        stderr=stderr,
                        start_new_session=True,
                    )
            except BaseException:
                _adoption.leave()
                raise
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        _adoption.leaders.add(popen.pid)
        os.set_blocking(read, False)
        return cls(popen, read, token)

    def exited(self) -> bool:
        """Whether the leader has ended; on Linux it stays a zombie, so its pid stays taken."""
        if self._popen.returncode is not None:
            return True
        if self._pidfd is None:
            return self._popen.poll() is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        try:
            return os.waitid(os.P_PIDFD, self._pidfd, flags) is not None
        except ChildProcessError:  # somebody in this program waits for any child at all
            return True

    async def wait(self) -> None:
        """Wait until the leader has ended, whatever its children do."""
        pause = 0.001
        while not self.exited():
            if self._pidfd is not None:
                await anyio.wait_readable(self._pidfd)
            else:
                await anyio.sleep(pause)
                pause = min(pause * 2, 0.02)

    async def end(self, grace: float) -> None:
        """End all that is left of the process: TERM, `grace` seconds, then KILL until it is gone.

        Returns at once when nothing is left. Call it shielded from cancellation.
        """
        if self.gone():
            return
        if self.exited() and await self._gone_within(_SETTLE):
            return
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # a stopped process hears TERM only when it goes on
        if await self._gone_within(grace):
            return
        deadline = time.monotonic() + _KILL
        while time.monotonic() < deadline:
            # Again and again: a process born between the look and the kill is found next time.
            self._signal(signal.SIGKILL)
            if await self._gone_within(0.02):
                return

    def close(self) -> int | None:
        """Let go of the leader and the pipe; return its exit code as a shell says it.

        `None` when even KILL did not end it.
        """
        code = self._popen.poll()
        _adoption.leaders.discard(self.pid)
        if self._pidfd is not None:
            os.close(self._pidfd)
        os.close(self.output)
        _adoption.leave()
        return code if code is None or code >= 0 else 128 - code

    async def _gone_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        pause = 0.002
        while not self.gone():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            await anyio.sleep(min(pause, left))
            pause = min(pause * 2, 0.05)
        return True

    def gone(self) -> bool:
        """Whether leader and descendants have all ended; reaps orphans that have."""
        if not self.exited():
            return False
        if not LINUX:
            return not _group_exists(self.pid)
        # After the leader's end whatever is left hangs below orphans, which are children of ours.
        orphans = [m for m in self._adopted() if self._is_marked(m)]
        for orphan in orphans:
            if not orphan.alive:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(orphan.pid, os.WNOHANG)
        return not any(orphan.alive for orphan in orphans)

    def _adopted(self) -> list[Member]:
        brief = time.monotonic() - self._started < _BRIEF
        pids = _born_since(self.pid) if brief else _all_pids()
        return _strangers(_table(pid for pid in pids if pid not in _adoption.leaders))

    def _is_marked(self, member: Member) -> bool:
        if self.pid in {member.session, member.group}:
            return True
        return self._token in _environ(member.pid) or _writes_to(member.pid, self._pipe)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._popen.returncode is None or not LINUX:
                os.killpg(self.pid, number)
        if LINUX:
            for member in self._members():
                if member.group != self.pid:
                    _signal_member(member, number)

    def _members(self) -> list[Member]:
        table = _table(_all_pids())
        roots = {m.pid for m in table if self.pid in {m.pid, m.session, m.group}}
        roots |= {m.pid for m in _strangers(table) if m.alive and self._is_marked(m)}
        return [m for m in _descendants(table, roots) if m.alive]


def end_strays() -> int:
    """Kill every command that still runs and all orphans that were adopted; return how many.

    For the end of the command-line program only: inside somebody else's program a child that is
    not ours may look like an orphan.
    """
    leaders = set(_adoption.leaders)
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    if not LINUX:
        return len(leaders)
    killed: set[int] = set()
    for _ in range(20):  # one that is born between the look and the kill is found next time
        table = _table(_all_pids())
        roots = leaders | {member.pid for member in _strangers(table)}
        strays = [member for member in _descendants(table, roots) if member.alive]
        if not strays:
            break
        for stray in strays:
            _signal_member(stray, signal.SIGKILL)
        killed.update(stray.pid for stray in strays)
        time.sleep(0.005)
    return len(killed)


@contextlib.contextmanager
def _stdin(data: bytes | None) -> Generator[int]:
    """A file at its start with `data` in it: no writer has to be kept going beside the process."""
    if data is None:
        yield subprocess.DEVNULL
        return
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        yield file.fileno()


@cache
def _prctl() -> object:
    import ctypes  # noqa: PLC0415  5 ms that a run without commands need not pay

    return ctypes.CDLL(None, use_errno=True).prctl


def _set_subreaper(*, on: bool) -> None:
    prctl = _prctl()
    assert callable(prctl)
    prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def _pidfd(pid: int) -> int | None:
    if not LINUX:
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:  # a kernel or a seccomp filter without it: polled instead
        return None


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  speed


def _born_since(pid: int) -> Iterable[int]:
    """Process ids given out after `pid`: they are given out in turn (`idr_alloc_cyclic`)."""
    try:
        with open("/proc/loadavg", "rb") as file:  # noqa: PTH123  on the path of every command
            last = int(file.read().split()[4])
    except (OSError, IndexError, ValueError):
        return _all_pids()
    if pid <= last <= pid + 200:
        return range(pid + 1, last + 1)
    return [other for other in _all_pids() if other > pid or other <= last < pid]


def _table(pids: Iterable[int]) -> list[Member]:
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


def _environ(pid: int) -> bytes:
    return _read_proc(pid, "environ")


def _writes_to(pid: int, pipe: str) -> bool:
    """Whether standard output or error is this pipe.

    Other descriptors say nothing: a child that another thread is just starting holds copies of all
    of ours until it executes its program.
    """
    for fd in (1, 2):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{fd}") == pipe:  # noqa: PTH115  on the path of a sweep
                return True
    return False


def _strangers(table: Iterable[Member]) -> list[Member]:
    """Children of ours outside our own session: a command's orphans are always among them.

    A child inside our session was made by another library: no command's descendant can get there.
    """
    own, session = os.getpid(), os.getsid(0)
    return [m for m in table if m.parent == own and m.session != session]


def _descendants(table: Sequence[Member], roots: set[int]) -> list[Member]:
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


def _signal_member(member: Member, number: signal.Signals) -> None:
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
