"""Runs of the real command that are killed at chosen moments, and resumed; support for tests.

A run is killed from outside (`Life.kill`), by a command, hook or provider of the test's own, or by
itself: a file that `arm` writes counts calls of the system and of SQLite there and sends SIGKILL
before or after the n-th. Nothing of the runner's own is replaced.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from forking import Forked
from scratch import Scratch, make

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CUSTOMIZE = """
import os, signal, sqlite3, sys
_NAME, _WHAT, _WHEN, _NTH = os.environ.get("TEST_CRASH", ":::").split(":")
_seen = 0

def _hit(subject, when):
    global _seen
    if when != _WHEN or _WHAT not in subject:
        return
    _seen += 1
    if _seen == int(_NTH):
        os.kill(os.getpid(), 9)

def _wrap(module, name, subject):
    real = getattr(module, name)
    def call(*args, **kwargs):
        text = subject(args)
        _hit(text, "before")
        result = real(*args, **kwargs)
        _hit(text, "after")
        return result
    setattr(module, name, call)

if _NAME == "replace":
    for name in ("replace", "rename"):
        _wrap(os, name, lambda args: os.fsdecode(args[1]))
if _NAME == "write":
    class Connection(sqlite3.Connection):
        def execute(self, sql, *args):
            text = str(args[0]) if args and sql.startswith("INSERT INTO event") else sql
            _hit(text, "before")
            result = super().execute(sql, *args)
            _hit(text, "after")
            return result
    _connect = sqlite3.connect
    def connect(*args, **kwargs):
        return _connect(*args, factory=Connection, **kwargs)
    sqlite3.connect = connect
"""


@dataclass
class Ended:
    """One process of a run that ended by itself."""

    code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads(self.stdout)

    def status(self) -> dict[str, str]:
        return {step["id"]: step["status"] for step in self.report["steps"]}


class Life:
    """One process of a run, going on."""

    def __init__(self, process: Forked) -> None:
        self.process = process

    def kill(self) -> None:
        """End the process and nothing else, as an out-of-memory killer does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=30)

    def killed(self) -> None:
        """Wait until something else has killed it."""
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode == -signal.SIGKILL, (self.process.returncode, out, err)

    def end(self) -> Ended:
        out, err = self.process.communicate(timeout=60)
        assert self.process.returncode is not None
        return Ended(self.process.returncode, out, err)

    def wait_for(self, reached: Callable[[], bool]) -> Life:
        deadline = time.monotonic() + 60
        while not reached():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self


@dataclass
class World:
    """A repository, a workflow outside of it, and a ledger of what commands did."""

    where: Path
    scratch: Scratch = field(init=False)
    environ: dict[str, str] = field(default_factory=dict[str, str])
    started: list[Life] = field(default_factory=list[Life])

    def __post_init__(self) -> None:
        self.scratch = make(self.where)
        self.arm("")

    @property
    def root(self) -> Path:
        return self.scratch.root

    def arm(self, crash: str) -> None:
        """Let the next processes kill themselves: `replace:/index:before:1`; nothing disarms."""
        folder = self.where / "custom"
        folder.mkdir(exist_ok=True)
        (folder / "customize.py").write_text(CUSTOMIZE)
        self.environ.pop("TEST_CRASH", None)
        self.environ.pop("TEST_CUSTOMIZE", None)
        if crash:
            customize = str(folder / "customize.py")
            self.environ |= {"TEST_CRASH": crash, "TEST_CUSTOMIZE": customize}

    def workflow(self, text: str) -> None:
        (self.where / "workflow.yaml").write_text(dedent(text))

    def file(self, name: str) -> Path:
        return self.where / name

    def note(self, word: str) -> str:
        """Return a command that writes to the ledger."""
        return f"echo {word} >> {self.file('ledger')}"

    def hold(self, name: str = "go") -> str:
        """Return a command that says that it is there and waits for a file."""
        return (
            f"touch {self.file('at-' + name)}; until [ -e {self.file(name)} ]; do sleep 0.05; done"
        )

    def go(self, name: str = "go") -> None:
        self.file(name).touch()

    @property
    def ledger(self) -> list[str]:
        file = self.file("ledger")
        return file.read_text().split() if file.exists() else []

    def start(self, *options: str, environ: Mapping[str, str] | None = None) -> Life:
        return self._start("exec", str(self.where / "workflow.yaml"), *options, environ=environ)

    def resume(self, *options: str, environ: Mapping[str, str] | None = None) -> Ended:
        return self._start("resume", *options, environ=environ).end()

    def start_resume(self, *options: str, environ: Mapping[str, str] | None = None) -> Life:
        return self._start("resume", *options, environ=environ)

    def _start(self, *argv: str, environ: Mapping[str, str] | None = None) -> Life:
        process = Forked(
            [
                *(*argv, "--state-dir", str(self.where / "state"), "--json"),
                *("--events", str(self.where / f"events-{len(self.started) + 1}.jsonl")),
            ],
            cwd=self.root,
            environ={**os.environ, **self.environ, **(environ or {})},
        )
        life = Life(process)
        self.started.append(life)
        return life

    def at(self, name: str = "go") -> Callable[[], bool]:
        """Tell when a held command has been reached."""
        return self.file(f"at-{name}").exists

    def events(self, life: int = -1) -> list[dict[str, Any]]:
        number = life if life > 0 else len(self.started)
        text = (self.where / f"events-{number}.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def of(self, kind: str, life: int = -1) -> list[dict[str, Any]]:
        return [event for event in self.events(life) if event["type"] == kind]

    def heard(self, kind: str, **fields: str) -> Callable[[], bool]:
        """Tell when an event of the newest process has been written."""

        def test() -> bool:
            try:
                found = self.of(kind)
            except (FileNotFoundError, ValueError):
                return False
            return any(fields.items() <= event.items() for event in found)

        return test

    def runner(self, *argv: str) -> str:
        argv = (*argv, "--state-dir", str(self.where / "state"))
        return "".join(Forked(argv, cwd=self.root, environ=os.environ).communicate())

    def close(self) -> None:
        """End everything that was started here."""
        for life in self.started:
            if life.process.poll() is None:
                life.process.kill()
                life.process.communicate()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if os.fsencode(self.where) in line:
                    os.kill(int(entry.name), signal.SIGKILL)
