"""Runs one command to its end in bounded time and memory, and leaves no process behind."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import anyio

from runner.frozen import frozen
from runner.outcome import CommandResult
from runner.workspace.output import Capture
from runner.workspace.processes import Launch, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runner.workspace.masking import Mask

LOG_CAP = 64 * 1024 * 1024
_DRAIN = 0.5
"""Seconds for the rest of the output once no process of the command is left."""
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


@frozen(kw_only=True)
class Command:
    """What to run, where, and within which bounds."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    """The whole environment; nothing is inherited beside it."""
    timeout: float | None = None
    """Seconds until it is ended; `None` is no limit."""
    log: Path | None = None
    """File for the whole output; made when there is some."""
    stdin: bytes | None = None
    """`None` is an empty standard input."""
    log_cap: int = LOG_CAP
    """Bytes of output that the log takes."""
    grace: float = 2.0
    """Seconds between TERM and KILL."""
    mask: Mask | None = None
    """Hides secrets in the output, in the log too."""
    launcher: tuple[str, ...] = ()
    """What starts it, put before `argv`; events and reports have `argv` alone. `{given}` in it is
    the number of a descriptor that reads `given`."""
    given: bytes = b""
    """What the launcher is told beside its arguments: they can be seen by anybody."""
    encloses: bool = False
    """Whether the launcher stays, outside of all others, and they die with it: it hears no TERM."""


async def run_command(
    command: Command, *, on_line: Callable[[str], None] | None = None
) -> CommandResult:
    """Run a command in a session of its own and end everything it started.

    What outlives the leader is ended too: the call returns when no process of the command is left.
    A command that cannot be started is a result (126, 127), not an error. Cancelling the call ends
    the command within `grace` + 1 seconds and then goes on as a cancellation.

    Args:
        command: What to run.
        on_line: Hears the last line of the output, at most about ten times a second.
    """
    started = time.monotonic()
    try:
        process = Process.start(
            command.argv,
            cwd=command.cwd,
            env=command.env,
            stdin=command.stdin,
            launch=Launch(command.launcher, command.given, command.encloses)
            if command.launcher
            else None,
        )
    except (OSError, ValueError) as error:
        return _not_started(command, error, time.monotonic() - started)
    capture = Capture(
        process.output,
        log=command.log,
        log_cap=command.log_cap,
        on_line=on_line,
        mask=command.mask,
    )
    timed_out = True
    code: int | None = None
    try:
        timed_out = not await _exits_in_time(process, capture, command.timeout)
    finally:
        with anyio.CancelScope(shield=True):
            await _end(process, capture, command.grace)
        code = process.close()
        head, tail = capture.finish()
    return CommandResult(
        exit_code=None if timed_out else code,
        timed_out=timed_out,
        seconds=time.monotonic() - started,
        head=head,
        tail=tail,
        total_bytes=capture.total,
        log=capture.log,
    )


async def _exits_in_time(process: Process, capture: Capture, seconds: float | None) -> bool:
    """Read on until the leader exits; false when the time ran out first."""
    with anyio.move_on_after(seconds) as limit:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(capture.pump)
            await process.wait()
            tasks.cancel_scope.cancel()
    return not limit.cancelled_caught or process.exited()


async def _end(process: Process, capture: Capture, grace: float) -> None:
    """End the tree of processes while still reading: one blocked on a full pipe hears no TERM."""
    if not process.gone():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(capture.pump)
            await process.end(grace)
            tasks.cancel_scope.cancel()
    await capture.drain(_DRAIN)


def _not_started(command: Command, error: OSError | ValueError, seconds: float) -> CommandResult:
    """Say as a shell would why a command did not start."""
    code, text = _why_not(command, error)
    return CommandResult(
        exit_code=code,
        timed_out=False,
        seconds=seconds,
        head=f"runner: {text}\n",
        tail="",
        total_bytes=0,
        log=None,
    )


def _why_not(command: Command, error: OSError | ValueError) -> tuple[int, str]:
    program = command.argv[0][:200] if command.argv else ""
    if not command.cwd.is_dir():
        return _NOT_EXECUTABLE, f"the directory {command.cwd} is not there"
    if isinstance(error, ValueError):
        return _NOT_EXECUTABLE, f"cannot run {program or 'it'}: {error}"
    if error.errno == errno.E2BIG:
        size = sum(len(os.fsencode(text)) + 1 for text in (*command.argv, *_pairs(command.env)))
        return _NOT_EXECUTABLE, (
            f"cannot run {program}: arguments and environment are too large ({size:,} bytes);"
            " put large values into a file"
        )
    if error.errno == errno.ENOENT:
        return _NOT_FOUND, f"{program}: command not found"
    return _NOT_EXECUTABLE, f"cannot run {program}: {error.strerror}"


def _pairs(env: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in env.items()]
