"""Confines commands by Landlock, where bubblewrap cannot run: a list of what may be touched.

https://docs.kernel.org/userspace-api/landlock.html . What it does not do: hide other processes'
command lines, take away root's capabilities, keep anybody from a socket's file, make a private
loopback. It cannot take anything out of a directory that it grants, so an author's command may
write `.git`, too, and a mend makes no new files where something protected lies.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen
from runner.sandbox.landlocked import SCRIPT
from runner.sandbox.nouns import Held
from runner.sandbox.reach import reach_of
from runner.workspace.processes import GIVEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from runner.sandbox.denied import Sight
    from runner.sandbox.nouns import Need, Surroundings
    from runner.workspace.commands import Command

OLDEST = 3
"""Landlock's version from which on it holds a file against `truncate`, too (Linux 6.2)."""
FILTERED = ("x86_64", "aarch64")
"""Machines where a filter keeps a mend from making sockets at all; elsewhere Landlock knows TCP,
from its fourth version on (Linux 6.7)."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm")
_KERNELS = ("/proc", "/sys/devices/system", "/sys/fs/cgroup")
_RESOLVERS = ("/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf")
_HOMES = (("RUSTUP_HOME", ".rustup"), ("CARGO_HOME", ".cargo"), ("PYENV_ROOT", ".pyenv"),
          ("NVM_DIR", ".nvm"), ("VOLTA_HOME", ".volta"), ("BUN_INSTALL", ".bun"),
          ("GOPATH", "go"), ("ASDF_DATA_DIR", ".asdf"))  # fmt: skip
"""Where tools look below the home when nobody says: a command's home is another one."""
_MOST_ENTRIES = 4096


@frozen
class Rule:
    """One file or directory with all below it, and what may be done there."""

    path: Path
    access: Literal["read", "write"]


class Landlock:
    """Confines the commands of one run by Landlock."""

    def __init__(self, held: Held, surroundings: Surroundings) -> None:
        self.held, self.surroundings = held, surroundings
        self._always: tuple[Rule, ...] = ()

    def confine(self, command: Command, need: Need) -> Command:
        """Return the command as it is started so that it reaches no more than it needs."""
        around = self.surroundings
        private = _private_directory(around)
        self._always = self._always or (*readable_for(around), Rule(private, "write"))
        rules = (*self._always, *rules_for(around, need))
        told = {
            "rules": [[str(rule.path), rule.access] for rule in rules],
            "tcp": need.network or need.write is None,
            "sockets": need.network or need.write is None,
            "env": _environment(command.env, around, private),
        }
        return replace(
            command,
            launcher=(_python(), "-I", "-S", "-c", SCRIPT, GIVEN),
            given=json.dumps(told).encode(),
            env={},
        )


def readable_for(around: Surroundings) -> tuple[Rule, ...]:
    """Return what every command may read: the system's and tools' own, and devices."""
    hidden = frozenset((*around.hidden, *around.closed))
    rules = [Rule(each, "read") for path in around.readable for each in without(path, hidden)]
    rules += [Rule(Path(path), "read") for path in (*_KERNELS, *_RESOLVERS)]
    rules += [Rule(Path("/dev", name), "write") for name in _DEVICES]
    return tuple(rules)


def rules_for(around: Surroundings, need: Need) -> tuple[Rule, ...]:
    """Return what else one command may touch; whatever is in no rule, it may not."""
    reach = reach_of(need)
    hidden = frozenset(() if reach is None else (*reach.hidden, *reach.closed))
    rules: list[Rule] = []
    for path in dict.fromkeys((*around.git, need.tree, around.root)):
        rules += [Rule(each, "read") for each in without(path, hidden)]
    for one in around.caches:
        rules.append(Rule(one.path, "read") if one.shown else Rule(one.private, "read"))
        if one.variable and reach is None:
            rules.append(Rule(one.private, "write"))
    for path, source, writable in need.instead:
        rules.append(Rule(source, "write" if writable else "read"))
        rules.append(Rule(path, "read"))
    rules += [Rule(path, "write") for path in (*around.writable, *need.private)]
    if reach is None:
        rules.append(Rule(need.tree, "write"))
        return tuple(rules)
    kept = frozenset((*reach.keep, *hidden, *around.git, need.tree / ".git"))
    for path in reach.write:
        rules += [Rule(each, "write") for each in without(path, kept)]
    return tuple(dict.fromkeys(rules))


def without(path: Path, kept: frozenset[Path]) -> Iterator[Path]:
    """Yield what to grant for *path* so that nothing of *kept* is granted with it."""
    if any(path.is_relative_to(one) for one in kept):
        return
    if not any(one.is_relative_to(path) for one in kept):
        yield path
        return
    try:
        entries = sorted(path.iterdir())[:_MOST_ENTRIES]
    except OSError:
        return
    for entry in entries:
        if not entry.is_symlink():  # it is followed when it is opened: what it leads to is meant
            yield from without(entry, kept)


def seen_by(rules: Iterable[Rule], path: PurePath) -> Sight:
    """Say what a real path is for a command under these rules: pure."""
    found = {rule.access for rule in rules if path.is_relative_to(rule.path)}
    if "write" in found:
        return "write"
    return "read" if found else "hidden"


# -- where a command keeps what is its own ---------------------------------------------------------


def _private_directory(around: Surroundings) -> Path:
    """Make this process' directory for temporary files, and remove those of processes gone."""
    assert around.state is not None, "a sandbox has a place of its own"
    top = around.state / "private"
    own = top / str(os.getpid())
    if not own.is_dir():
        top.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in top.iterdir():
            if left.name.isdigit() and not Path("/proc", left.name).exists():
                shutil.rmtree(left, ignore_errors=True)
        for name in ("home", "tmp"):
            (own / name).mkdir(mode=0o700, parents=True)
        (own / "home" / ".gitconfig").write_text(around.gitconfig, "utf-8")
    return own


def _environment(env: Mapping[str, str], around: Surroundings, private: Path) -> dict[str, str]:
    """Return a command's variables: it has another home, and another place for temporary files."""
    found = dict(env)
    for name in ("TMPDIR", "TEMP", "TMP"):
        if not Path(found.get(name, "/")).is_relative_to(around.root):
            found[name] = str(private / "tmp")
    for name, below in _HOMES:
        if name not in found and (around.home / below).is_dir():
            found[name] = str(around.home / below)
    for one in around.caches:
        if one.variable and one.path.name != "git" and not one.shown:
            one.private.mkdir(mode=0o700, parents=True, exist_ok=True)
            found[one.variable] = str(one.private)
    return {**found, "HOME": str(private / "home")}


# -- whether it holds ------------------------------------------------------------------------------


@cache
def version() -> int:
    """Return which version of Landlock the kernel has; 0 for none, or where it is switched off."""
    if sys.platform != "linux":
        return 0
    import ctypes  # noqa: PLC0415  5 ms that a run with bubblewrap need not pay

    create, by_version = 444, 1
    return max(0, ctypes.CDLL(None, use_errno=True).syscall(create, None, 0, by_version))


def instead_of(held: Held, state: Path) -> Held:
    """Return Landlock where bubblewrap does not hold and Landlock does; tried, not guessed."""
    if held.by != "none" or version() < OLDEST or not try_out(state):
        return held
    return Held("landlock", held.why, held.fix)


def try_out(state: Path) -> bool:
    """Let a confined shell try to write where it may only read."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    target = state / f"landlock.{os.getpid()}"
    told = {"rules": [["/", "read"]], "tcp": True, "sockets": False, "env": {"PATH": "/bin"}}
    given = os.memfd_create("given")
    try:
        os.write(given, json.dumps(told).encode())
        os.lseek(given, 0, os.SEEK_SET)
        done = subprocess.run(
            [_python(), "-I", "-S", "-c", SCRIPT, str(given), "/bin/sh", "-c",
             'true > "$1" && exit 1; exit 42', "sh", str(target)],
            pass_fds=[given],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={},
            timeout=10,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        os.close(given)
    written = target.exists()
    target.unlink(missing_ok=True)
    return done.returncode == 42 and not written


@cache
def _python() -> str:
    """Return the interpreter itself: a link to it may lie in the tree, where it can be changed."""
    return os.path.realpath(sys.executable)
