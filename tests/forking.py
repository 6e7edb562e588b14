"""Runs the command line in forks of one process that has imported it; support for tests.

Such a process is what `python -m runner ARGV` is: a session of its own, its own environment and
streams. It only begins without the second that imports take, more where models are asked.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

WARM = (
    "anyio._backends._asyncio", "click", "opentelemetry.propagate", "pydantic_ai.models.anthropic",
    "pydantic_ai.models.openai", "pydantic_ai.providers.vllm", "runner.api", "runner.cli.app",
    "runner.cli.exec", "runner.cli.resume", "runner.engine.commit", "runner.engine.delegate",
    "runner.engine.mend", "runner.engine.prompt", "runner.engine.push", "runner.engine.rejoin",
    "runner.fingerprints.recognise", "runner.git", "runner.historyfile", "runner.modelside",
    "runner.models.scripted", "runner.models.vendors", "runner.progress", "runner.tamper.judges",
    "runner.telemetry.describing", "runner.telemetry.file", "runner.workers",
    "runner.workspace.tree", "tomllib",
)  # fmt: skip
"""What they would import each for itself."""
_PAUSE = 0.01


class Forked:
    """One process, with as much of `subprocess.Popen` as tests of runs need."""

    def __init__(self, argv: Sequence[str], *, cwd: Path, environ: Mapping[str, str]) -> None:
        self._where = Path(tempfile.mkdtemp(prefix="forked-"))
        self._said: tuple[str, str] | None = None
        self.returncode: int | None = None
        order = {
            "argv": [*argv],
            "cwd": str(cwd),
            "environ": {**environ},
            "where": str(self._where),
        }
        self.pid = _zygote().begin(order)

    def poll(self) -> int | None:
        """Return how it ended, minus the signal's number where it was killed; `None`: not yet."""
        code = self._where / "code"
        if self.returncode is None and code.exists():
            self.returncode = int(code.read_text())
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return what it wrote to stdout and stderr.

        Raises:
            TimeoutExpired: It has not ended within so many seconds.
        """
        deadline = time.monotonic() + (timeout or 600)
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(["runner"], timeout or 600)
            time.sleep(_PAUSE)
        if self._said is None:
            out, err = ((self._where / name).read_text("utf-8", "replace") for name in _STREAMS)
            self._said = out, err
            shutil.rmtree(self._where)
        return self._said

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def forked(*argv: str, cwd: Path, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run `runner ARGV` to its end, as `subprocess.run` would."""
    process = Forked(argv, cwd=cwd, environ=environ)
    out, err = process.communicate()
    assert process.returncode is not None
    return subprocess.CompletedProcess(["runner", *argv], process.returncode, out, err)


_STREAMS = ("out", "err")


class _Zygote:
    """The process that all the others are forks of."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def begin(self, order: dict[str, Any]) -> int:
        """Fork one process; return its id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        line = self._process.stdout.readline()
        assert line, "the zygote is gone"
        return int(line)

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@functools.cache
def _zygote() -> _Zygote:
    """Start it at its first use; it ends with the tests."""
    zygote = _Zygote()
    atexit.register(zygote.close)
    return zygote


# -- in the process itself -------------------------------------------------------------------------


def serve() -> None:
    """Fork a process for each order from stdin; write down how each of them ends."""
    for name in WARM:
        import_module(name)
    gc.collect()
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, _wake_up)
    signal.set_wakeup_fd(wake)
    children: dict[int, Path] = {}
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 512)
            _reap(children)
        if 0 in ready:
            line = sys.stdin.buffer.readline()
            if not line:
                return
            order = json.loads(line)
            child = os.fork()
            if not child:
                os.close(woken)
                os.close(wake)
                _be_runner(order)
            children[child] = Path(order["where"])
            sys.stdout.write(f"{child}\n")
            sys.stdout.flush()


def _wake_up(number: int, frame: object) -> None:
    """Nothing: that a signal has come is told by the pipe."""
    del number, frame


def _reap(children: dict[int, Path]) -> None:
    for child, where in list(children.items()):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            del children[child]
            (where / "code.new").write_text(str(os.waitstatus_to_exitcode(status)))
            (where / "code.new").replace(where / "code")


def _be_runner(order: dict[str, Any]) -> None:
    """Become what `runner ARGV` would be."""
    code = 70
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.chdir(order["cwd"])
        where = Path(order["where"])
        for number, name in enumerate(("/dev/null", where / "out", where / "err")):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
            opened = os.open(name, flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.clear()
        os.environ.update(order["environ"])
        customize = order["environ"].get("TEST_CUSTOMIZE")
        if customize:
            exec(Path(customize).read_text(), {})  # what `sitecustomize` would do
        sys.argv = ["runner", *order["argv"]]
        from runner.cli import main

        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  it is told, and the process ends
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
