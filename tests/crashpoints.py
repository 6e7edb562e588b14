"""Counts what this process does to the outside, and kills or fails it there; support for tests.

Each call that changes something outside of the process is a point, numbered from 1: a statement to
SQLite, a file put in place or opened for writing, a process begun or reaped, bytes sent to or
received from a provider, a signal. `install` wraps the system's own functions, none of the runner.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import resource
import socket
import sqlite3
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Label = Callable[[tuple[Any, ...], dict[str, Any]], str | None]

WRITING = ("INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT")
_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_ODD = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}|[0-9a-f]{7,64}|\d+\.\d+|(?<=[-.])\d{3,}")
_write, _kill, _system_open = os.write, os.kill, os.open


@dataclass(frozen=True)
class Plan:
    """What is to happen, and where."""

    log: str
    """File that the labels of points go to: all when nothing is to happen, else the one hit."""
    at: int = 0
    """Number of the point; 0 only counts."""
    act: str = ""
    """`alone`: SIGKILL to this process; `all`: to its descendants, too; `jump`; an errno's name."""
    when: str = "before"
    """Or `after`; a failure is always before."""
    kind: str = ""
    """Points that count: labels that begin with it."""
    lasting: bool = False
    """Whether all later points of the kind fail, too."""
    jump: float = 0.0
    """Seconds that the clock jumps by at the point, where the act is `jump`."""
    files: int = 0
    """Most files that the process may have open; 0 is as ever."""


class _Points:
    """The points passed so far."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._lock = threading.Lock()
        self._passed = 0
        self.jumped = 0.0
        """Seconds that the clock has jumped by."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = _system_open(plan.log, flags, 0o600)

    def call(self, label: str, real: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Call for real, with what is to happen before and after."""
        plan = self._plan
        label = _ODD.sub("#", label)
        if not label.startswith(plan.kind):
            return real(*args, **kwargs)
        with self._lock:
            self._passed += 1
            number = self._passed
            if not plan.at:
                _write(self._log, f"{label}\n".encode())
        hit = number == plan.at
        if hit and plan.act == "jump":
            _write(self._log, f"{label}\n".encode())
            self.jumped = plan.jump
        if hit and plan.when == "before" and plan.act in {"alone", "all"}:
            self._die(label)
        if plan.at and (hit or (plan.lasting and number > plan.at)) and plan.act.startswith("E"):
            if hit:
                _write(self._log, f"{label}\n".encode())
            raise _error(label, plan.act)
        try:
            return real(*args, **kwargs)
        finally:
            if hit and plan.when == "after" and plan.act in {"alone", "all"}:
                self._die(label)

    def wrap(self, module: Any, name: str, label: Label) -> None:
        """Replace a function by one whose calls are points; `None` for a label is none."""
        real = getattr(module, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            text = label(args, kwargs)
            return real(*args, **kwargs) if text is None else self.call(text, real, args, kwargs)

        setattr(module, name, call)

    def _die(self, label: str) -> None:
        _write(self._log, f"{label}\n".encode())
        if self._plan.act == "all":
            for pid in descendants(os.getpid()):
                _kill_quietly(pid)
        _kill(os.getpid(), 9)


def descendants(root: int) -> list[int]:
    """Return the processes below one, nearest first, as /proc tells."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  quick, for others change it meanwhile
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            parents[int(name)] = int(stat.rpartition(")")[2].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _kill_quietly(pid: int) -> None:
    try:
        _kill(pid, 9)
    except OSError:
        return


def _error(label: str, name: str) -> Exception:
    code = getattr(errno, name)
    if label.startswith(("journal", "history")):
        full = name == "ENOSPC"
        error = sqlite3.OperationalError("database or disk is full" if full else "disk I/O error")
        error.sqlite_errorname = "SQLITE_FULL" if full else "SQLITE_IOERR_WRITE"
        error.sqlite_errorcode = 13 if full else 778
        return error
    return OSError(code, os.strerror(code))


def install(plan: Plan) -> None:
    """Wrap what this process changes the outside with; for its whole life."""
    points = _Points(plan)
    _wrap_files(points, str(Path(plan.log).parent))
    _wrap_processes(points)
    _wrap_sqlite(points)
    for name in ("send", "recv"):
        points.wrap(socket.socket, name, lambda args, _, name=name: _talking(name, *args))
    if plan.jump:
        now = time.time
        time.time = lambda: now() + points.jumped
    if plan.files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (plan.files, plan.files))


def _wrap_files(points: _Points, where: str) -> None:
    def short(path: Any) -> str:
        return "fd" if isinstance(path, int) else os.fsdecode(path).replace(where, "~")

    for name in ("replace", "rename", "link"):
        points.wrap(os, name, lambda args, _, name=name: f"file {name} {short(args[1])}")
    for name in ("unlink", "remove", "rmdir", "mkdir"):
        points.wrap(os, name, lambda args, _, name=name: f"file {name} {short(args[0])}")
    points.wrap(os, "open", lambda args, _: _opening(short, args))

    def opening(args: tuple[Any, ...], given: dict[str, Any]) -> str | None:
        path, *rest = args
        mode = rest[0] if rest else given.get("mode", "r")
        return f"file open {short(path)}" if set("wax+") & set(mode) else None

    for module in (io, builtins):
        points.wrap(module, "open", opening)


def _wrap_processes(points: _Points) -> None:
    for name in ("kill", "killpg"):
        points.wrap(os, name, lambda args, _, name=name: f"signal {name} {int(args[1])}")
    points.wrap(subprocess.Popen, "__init__", lambda args, _: f"process {_words(*args)}")
    points.wrap(os, "waitpid", lambda _, __: "process reaped")
    own: Any = getattr(subprocess, "_del_safe", None)  # Python 3.12 keeps its own name for it
    if own is not None:
        own.waitpid = os.waitpid


def _opening(short: Callable[[Any], str], args: tuple[Any, ...]) -> str | None:
    path, flags = short(args[0]), args[1]
    if not flags & _CHANGING or path.startswith(("/proc", "/dev")):
        return None
    return f"file open {path}"


def _talking(name: str, one: socket.socket, *_: Any) -> str | None:
    return f"provider {name}" if one.family == socket.AF_INET else None


def _words(_: object, argv: Any = (), *__: Any) -> str:
    words = [str(word) for word in ([argv] if isinstance(argv, str) else argv)]
    plain = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return " ".join([Path(words[0]).name, *plain[:1]]).replace("\n", " ")[:60]


def _wrap_sqlite(points: _Points) -> None:
    connect = sqlite3.connect

    def connecting(path: Any, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        which = "journal" if "journal" in str(path) else "history"

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
                words = sql.split()
                if words[0] not in WRITING:
                    return super().execute(sql, *args)
                subject = " ".join(words[:3])
                if sql.startswith("INSERT INTO event"):
                    subject = str(args[0][3])
                return points.call(f"{which} {subject}", super().execute, (sql, *args), {})

        return connect(path, *args, factory=Connection, **kwargs)

    sqlite3.connect = connecting
