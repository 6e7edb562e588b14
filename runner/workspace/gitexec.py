"""Runs git so that nothing a repository's configuration names is ever executed."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import anyio

from runner.errors import RunnerError
from runner.frozen import frozen
from runner.workspace.processes import Process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_CHUNK = 256 * 1024
_INHERITED = ("PATH", "HOME", "XDG_CONFIG_HOME", "TMPDIR", "USER", "LOGNAME")
_HARDENED = {
    # Without a GIT_DIR of the caller's git would look for a repository by itself: fail instead.
    "GIT_DIR": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_LITERAL_PATHSPECS": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_EDITOR": ":",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",
}
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.pager=cat",
    "core.sshCommand=ssh",
    "credential.helper=",
    # Empty means that every diff fails which does not say `--no-ext-diff`: better than running one.
    "diff.external=",
    "protocol.ext.allow=never",
    "safe.bareRepository=explicit",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "submodule.recurse=false",
    "advice.addEmbeddedRepo=false",
)
_OPTIONS = tuple(word for setting in _SETTINGS for word in ("-c", setting))


class GitError(RunnerError):
    """Raised when git failed where it should not have.

    Attributes:
        code: Its exit code; `None` when it was killed.
        stderr: What it said, decoded.
    """

    def __init__(self, args: Sequence[str], code: int | None, stderr: str) -> None:
        said = stderr.strip().splitlines()
        name = next((word for word in args if word != "-c" and "=" not in word), "")
        super().__init__(f"git {name} failed ({code}): {said[-1] if said else 'no message'}")
        self.code = code
        self.stderr = stderr


@frozen
class GitResult:
    """What one git process came to."""

    code: int | None
    out: bytes
    err: str
    cut: bool = False
    """Whether output beyond the limit was left unread."""


async def git(
    args: Sequence[str],
    *,
    env: Mapping[str, str | None],
    cwd: Path,
    stdin: bytes | None = None,
    check: bool = True,
) -> bytes:
    """Run git and return its standard output.

    Args:
        args: The subcommand and its arguments; settings of the caller's own (`-c`) come first.
        env: Added to a hardened base without any of the user's git variables; must name `GIT_DIR`;
            `None` takes a variable out of the base.
        cwd: Where it runs.
        stdin: Its input; `None` is an empty one.
        check: Whether a code other than 0 is an error.

    Raises:
        GitError: It failed and `check` is on.
        RunnerError: git is not installed.
    """
    result = await git_result(args, env=env, cwd=cwd, stdin=stdin)
    if check and result.code != 0:
        raise GitError(args, result.code, result.err)
    return result.out


async def git_result(
    args: Sequence[str],
    *,
    env: Mapping[str, str | None],
    cwd: Path,
    stdin: bytes | None = None,
    limit: int | None = None,
) -> GitResult:
    """Run git and return all about it; with `limit`, stop it after so many bytes of output.

    Cancelling the call ends git and everything that it started.

    Raises:
        RunnerError: git is not installed, or could not be started.
    """
    argv = ("git", *_OPTIONS, *args)
    with tempfile.TemporaryFile() as errors:
        try:
            process = Process.start(
                argv, cwd=cwd, env=_environment(env), stdin=stdin, stderr=errors.fileno()
            )
        except OSError as error:
            raise RunnerError(
                f"git could not be started: {error.strerror}",
                hint="Install git, or put its directory on PATH.",
            ) from error
        code: int | None = None
        try:
            out, cut = await _read(process.output, limit)
            if not cut:
                await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await process.end(grace=0.5)
            code = process.close()
        errors.seek(0)
        return GitResult(code, out, errors.read().decode("utf-8", "replace"), cut)


def _environment(env: Mapping[str, str | None]) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    merged = {**inherited, **_HARDENED, **env}
    return {name: value for name, value in merged.items() if value is not None}


async def _read(fd: int, limit: int | None) -> tuple[bytes, bool]:
    chunks: list[bytes] = []
    size = 0
    while limit is None or size <= limit:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            await anyio.wait_readable(fd)
            continue
        if not chunk:
            return b"".join(chunks), False
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)[:limit], True
