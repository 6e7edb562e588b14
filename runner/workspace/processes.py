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
import re
import signal
import subprocess
import sys
import threading
import time
from functools import cache
from typing import TYPE_CHECKING

import anyio

from runner.frozen import frozen
from runner.workspace.proctable import (
    all_pids,
    born_since,
    descendants,
    signal_member,
    strangers,
    table_of,
    variables,
    writes_to,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from runner.workspace.proctable import Member

GIVEN = "{given}"
"""In a launcher's arguments: the descriptor that it reads what it is given from."""
TELLS = "{tells}"
"""The same for the descriptor that it writes to which process is the first one within."""
MARK = "SUBRUNNER_COMMAND"
"""Variable by which the descendants of a command are told; nested runners append to it."""

LINUX = sys.platform == "linux"
_SETTLE = 0.1
"""Seconds for what outlives its leader to end by itself: `> >(tee log)` needs a few ms."""
_KILL = 0.8
"""Seconds in which a killed tree must be gone; a process stuck in the kernel is given up."""
_BRIEF = 0.25
"""Below this many seconds of life, process ids cannot have wrapped around."""
_BLANK = 0.05
"""Seconds that executing a program may take from the old variables to the new ones."""
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_counter = itertools.count(1)
_CHILD = re.compile(rb'"child-pid": *(\d+)')
"""As bubblewrap tells it (`--info-fd`)."""


class _Adoption:
    """Counts the processes that run, and is a subreaper while there are any.

    The kernel's flag is one for the whole program, and so is this count; threads share it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner = os.getpid()
        self._count = 0
        self.leaders: set[int] = set()
        self.blank: dict[tuple[int, int], float] = {}
        """When a process without any variables was first seen."""

    def enter(self) -> None:
        with self._lock:
            if self._owner != os.getpid():  # a fork of the program that counted until now
                self._owner, self._count, self.leaders = os.getpid(), 0, set()
            self._count += 1
            if self._count == 1 and LINUX:
                _set_subreaper(on=True)

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0 and LINUX:
                _set_subreaper(on=False)
                self.blank.clear()


_adoption = _Adoption()


def close_to_others() -> None:
    """Keep this process's memory and variables from others of the same user, for good.

    Its keys stand in `/proc/PID/environ`, which every command could read where no sandbox hides it;
    nor can it be traced, or dump its memory into a file. What it starts is not affected.
    For the command-line program only: a debugger is kept out, too
    (https://man7.org/linux/man-pages/man2/PR_SET_DUMPABLE.2const.html).
    """
    if LINUX:
        prctl = _prctl()
        assert callable(prctl)
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextlib.contextmanager
def adopting() -> Generator[None]:
    """Stay a subreaper for the length of the block, so that `end_strays` sees every orphan."""
    _adoption.enter()
    try:
        yield
    finally:
        _adoption.leave()


@frozen
class Launch:
    """What starts a program in the place of this one: a sandbox, say."""

    argv: tuple[str, ...]
    """Put before the program; `GIVEN` and `TELLS` in it stand for descriptors."""
    given: bytes = b""
    encloses: bool = False
    """Whether it stays as the outermost process, and all others die with it; what it tells is then
    which process is the first one within."""


class Process:
    """A running leader in a session of its own, with its output on a pipe.

    Attributes:
        pid: Of the leader; also its session and process group.
        output: The non-blocking read end of the pipe.
    """

    def __init__(
        self,
        popen: subprocess.Popen[bytes],
        output: int,
        token: str,
        *,
        tells: int | None = None,
    ) -> None:
        self.pid = popen.pid
        self.output = output
        self._tells = tells
        """Read for the first process within, where the leader encloses all others."""
        self._within: int | None = None
        self._popen = popen
        self._token = token.encode()
        self._pipe = f"pipe:[{os.fstat(output).st_ino}]"
        self._known: set[tuple[int, int]] = set()
        self._dead: set[tuple[int, int]] = set()
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
        launch: Launch | None = None,
    ) -> Process:
        """Start a process; blocks for the millisecond that spawning takes.

        `preexec_fn` is never used: it turns a cheap spawn into a copy of this whole program.

        Args:
            argv: The program and its arguments.
            cwd: Where it starts.
            env: Its whole environment, but for the mark.
            stdin: What it reads; nothing by default.
            stderr: Where its errors go; to its output by default.
            launch: What starts it.

        Raises:
            OSError: The program, the directory or the resources are not there.
            ValueError: An argument or variable cannot be passed on: it holds a NUL, for example.
        """
        if not argv:
            raise ValueError("there is no program to run")
        token = f"{os.getpid()}.{next(_counter)}.{time.monotonic_ns()}"
        marked = {**env, MARK: f"{os.environ.get(MARK, '')}/{token}/"}
        read, write = os.pipe()
        tells = os.memfd_create("tells") if launch is not None and launch.encloses else None
        try:
            _adoption.enter()
            try:
                with (
                    _stdin(stdin) as source,
                    _told(launch) as given,
                ):
                    passed = [fd for fd in (given, tells) if fd is not None]
                    started = argv if launch is None else (*_put(launch, given, tells), *argv)
                    popen = subprocess.Popen(
                        started,
                        cwd=cwd,
                        env=marked,
                        stdin=source,
                        stdout=write,
                        stderr=stderr,
                        start_new_session=True,
                        pass_fds=passed,
                    )
            except BaseException:
                _adoption.leave()
                raise
        except BaseException:
            os.close(read)
            if tells is not None:
                os.close(tells)
            raise
        finally:
            os.close(write)
        _adoption.leaders.add(popen.pid)
        os.set_blocking(read, False)
        return cls(popen, read, token, tells=tells)

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
        if self._tells is not None:
            os.close(self._tells)
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
        if self._is_within():
            return False
        # After the leader's end whatever is left hangs below orphans, which are children of ours.
        # One that is dead may have left a child after the look began, so only a look that finds
        # nobody of this command, and nobody newly dead, is the last one.
        for _ in range(100):
            adopted = self._adopted()
            orphans = [m for m in adopted if self._owns(m)]
            if not all(not orphan.alive and _reap(orphan.pid) for orphan in orphans):
                return False
            dead = {(m.pid, m.born) for m in adopted if not m.alive} - self._dead
            if not orphans and not dead:
                return True
            self._dead |= dead
        return False

    def _is_within(self) -> bool:
        """Whether the first process within an ended leader is still there; reaps it when it ends.

        It dies with the leader, and all others within die before it (pid_namespaces(7)).
        """
        if self._tells is None:
            return False
        if self._within is None:
            found = _CHILD.search(os.pread(self._tells, 4096, 0))
            self._within = int(found[1]) if found else 0
        if not self._within:
            return False
        try:
            ended = os.waitpid(self._within, os.WNOHANG)[0] == self._within
        except ChildProcessError:  # it never came to us, or somebody waits for any child at all
            ended = True
        if ended:
            self._within = 0
        return not ended

    def _adopted(self) -> list[Member]:
        brief = time.monotonic() - self._started < _BRIEF
        pids = born_since(self.pid) if brief else all_pids()
        found = strangers(table_of(pid for pid in pids if pid not in _adoption.leaders))
        for orphan in found:
            if not orphan.alive and orphan.session != orphan.pid:
                # Neither in our session nor leader of its own: it was born elsewhere, so nobody in
                # this program waits for it.
                _reap(orphan.pid)
        return found

    def _owns(self, member: Member) -> bool:
        """Whether it came of this process, or may have."""
        identity = (member.pid, member.born)
        if identity in self._known or self.pid in {member.session, member.group}:
            self._known.add(identity)  # once dead it has neither variables nor files
            return True
        found = variables(member.pid)
        if self._token in found or writes_to(member.pid, self._pipe):
            self._known.add(identity)
            return True
        if found or not member.alive:
            return False
        # It may be executing a program right now: for a moment it has no variables at all.
        seen = _adoption.blank.setdefault(identity, time.monotonic())
        return time.monotonic() - seen < _BLANK

    def _surely_owns(self, member: Member) -> bool:
        return self._owns(member) and (member.pid, member.born) in self._known

    def _signal(self, number: signal.Signals) -> None:
        if self._tells is not None and number != signal.SIGKILL and not self.exited():
            # The outermost process must not end before those within: they would die with it at
            # once. With KILL that is just what is wanted.
            for member in descendants(table_of(all_pids()), {self.pid}):
                if member.pid != self.pid:
                    signal_member(member, number)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._popen.returncode is None or not LINUX:
                os.killpg(self.pid, number)
        if LINUX:
            for member in self._members():
                if member.group != self.pid:
                    signal_member(member, number)

    def _members(self) -> list[Member]:
        table = table_of(all_pids())
        roots = {m.pid for m in table if self.pid in {m.pid, m.session, m.group}}
        roots |= {m.pid for m in strangers(table) if m.alive and self._surely_owns(m)}
        members = descendants(table, roots)
        self._known.update((member.pid, member.born) for member in members)
        return members


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
        table = table_of(all_pids())
        roots = leaders | {member.pid for member in strangers(table)}
        strays = [member for member in descendants(table, roots) if member.alive]
        if not strays:
            break
        for stray in strays:
            signal_member(stray, signal.SIGKILL)
        killed.update(stray.pid for stray in strays)
        time.sleep(0.005)
    return len(killed)


@contextlib.contextmanager
def _told(launch: Launch | None) -> Generator[int | None]:
    """Return a descriptor that reads what a launcher is given.

    It is no file of the file system and no argument: nobody else can read it.
    """
    if launch is None or not launch.given:
        yield None
        return
    told = os.memfd_create("given")
    try:
        os.write(told, launch.given)
        os.lseek(told, 0, os.SEEK_SET)
        yield told
    finally:
        os.close(told)


def _put(launch: Launch, given: int | None, tells: int | None) -> Generator[str]:
    numbers = {GIVEN: given, TELLS: tells}
    return (str(numbers[part]) if part in numbers else part for part in launch.argv)


@contextlib.contextmanager
def _stdin(data: bytes | None) -> Generator[int]:
    """A file at its start with `data` in it: no writer has to be kept going beside the process."""
    if data is None:
        yield subprocess.DEVNULL
        return
    import tempfile  # noqa: PLC0415  4 ms that most commands need not pay: they get no input

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


def _reap(pid: int) -> bool:
    """Take a dead orphan out of the process table; false if a thread of it still runs."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # somebody else in this program waits for any child at all
        return True


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
