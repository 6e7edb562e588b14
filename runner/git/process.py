"""Runs git itself: an absolute program, a closed environment, no input it could ask for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import anyio

from runner.errors import GitRefused
from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from typing import BinaryIO

    from anyio.abc import ByteReceiveStream, ByteSendStream

T = TypeVar("T")
S = TypeVar("S")

SECONDS = 300.0
"""Longest that one local git process may take; a network one has its own limit."""

_KEPT = ("HOME", "TMPDIR", "TZ", "SYSTEMROOT", "XDG_CONFIG_HOME")

_HARD = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_ASKPASS": "",
    "SSH_ASKPASS": "",
    "GIT_EDITOR": ":",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}


@frozen
class Done:
    """How a git process ended."""

    code: int
    out: bytes
    err: bytes

    @property
    def said(self) -> str:
        """What it said on its error stream, short, for a message."""
        return self.err.decode("utf-8", "replace").strip()[:2000]


def find_git(root: Path) -> str:
    """Find the user's git: never one inside *root*, never through a relative PATH entry."""
    found = shutil.which("git", path=clean_path(root))
    if found is None:
        raise GitRefused("git is not on PATH", hint="install git 2.30 or newer")
    return found


def clean_path(root: Path) -> str:
    """Return PATH without relative or empty entries and without those inside *root*."""
    entries = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(
        entry
        for entry in entries
        if entry and Path(entry).is_absolute() and not Path(entry).resolve().is_relative_to(root)
    )


def base_environment(root: Path) -> dict[str, str]:
    """Make the environment that every git process of ours starts from."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"PATH": clean_path(root)} | _HARD


async def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdin: bytes = b"",
    seconds: float = SECONDS,
    most: int | None = None,
    to: BinaryIO | None = None,
) -> Done:
    """Run to the end, or until *most* bytes of output: then it is stopped and those are returned.

    With *to* the output goes there, and none is returned.

    Raises:
        GitRefused: It took longer than *seconds*.
    """
    out, err = bytearray(), bytearray()
    process = await anyio.open_process(
        list(argv),
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=to or subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
    )
    try:
        with anyio.fail_after(seconds):
            async with anyio.create_task_group() as group:
                if process.stdin is not None:
                    group.start_soon(_feed, process.stdin, stdin)
                if process.stderr is not None:
                    group.start_soon(_collect, process.stderr, err, 1_000_000)
                if process.stdout is not None and await _collect(process.stdout, out, most):
                    _kill(process)
            code = await process.wait()
    except TimeoutError:
        raise GitRefused(
            f"git took longer than {seconds:.0f} s: git {argv[1] if len(argv) > 1 else ''}".strip(),
            hint="nothing was changed; try the same git command by hand",
        ) from None
    finally:
        await _end(process)
    return Done(code, bytes(out), bytes(err))


async def _feed(stream: ByteSendStream, data: bytes) -> None:
    try:
        await stream.send(data)
    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
        return  # it ended before it had read everything: its exit code tells why
    await stream.aclose()


async def _collect(stream: ByteReceiveStream, into: bytearray, most: int | None) -> bool:
    """Read all; True when there was more than *most*. An error stream is drained, not stopped."""
    async for chunk in stream:
        room = len(chunk) if most is None else max(0, most - len(into))
        into += chunk[:room]
        if most is not None and room < len(chunk):
            return True
    return False


async def _end(process: anyio.abc.Process) -> None:
    with anyio.CancelScope(shield=True):
        if process.returncode is None:
            _kill(process)
            await process.wait()
        await process.aclose()


def _kill(process: anyio.abc.Process) -> None:
    """End git and what it started (ssh, a transport): they are one session of their own.

    Not `process.kill()`: that polls, and steals the exit code from the event loop.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def together(*works: Awaitable[T]) -> list[T]:
    """Await all at the same time; the first refusal is raised as it is, not in a group."""
    results: dict[int, T] = {}
    refused: list[GitRefused] = []

    async def one(number: int, work: Awaitable[T]) -> None:
        try:
            results[number] = await work
        except GitRefused as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        for number, work in enumerate(works):
            group.start_soon(one, number, work)
    if refused:
        raise refused[0]
    return [results[number] for number in range(len(works))]


async def both(one: Awaitable[T], other: Awaitable[S]) -> tuple[T, S]:
    """Await two of different types at the same time, as :func:`together`."""
    results = await together(_any(one), _any(other))
    return cast("tuple[T, S]", tuple(results))


async def _any(work: Awaitable[object]) -> object:
    return await work
