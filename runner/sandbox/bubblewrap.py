"""Says how bubblewrap is started so that a command finds just its mounts, and that it can be.

https://manpages.debian.org/bookworm/bubblewrap/bwrap.1.en.html
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from runner.sandbox.mounts import mounts_for
from runner.sandbox.nouns import Held
from runner.sandbox.reach import reach_of
from runner.sandbox.surroundings import filled_caches
from runner.workspace.processes import GIVEN, TELLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runner.sandbox.nouns import Mount, Need, Surroundings
    from runner.workspace.commands import Command

PROGRAMS = (Path("/usr/bin/bwrap"), Path("/bin/bwrap"), Path("/usr/local/bin/bwrap"))
"""Where it is looked for: never on PATH, which may lead into the tree."""
NIX = Path("/run/current-system/sw/bin/bwrap")
_MOST_PROCESSES = 4096
"""Processes and threads of one command; the kernel exempts root."""
_SETTLE = 10
"""Hundredths of a second for what outlives its command: `> >(tee log)` needs a few ms."""
_INNER = (
    "exec 3>&2 2>/dev/null; "
    '[ -z "$1" ] || [ -e "$2" ] || printf %s "$1" > "$2"; shift 2; '
    f"ulimit -p {_MOST_PROCESSES} || ulimit -u {_MOST_PROCESSES}; "
    "trap : HUP INT QUIT TERM USR1 USR2 ALRM; "
    '"$@" 2>&3 3>&-; code=$?; left=' + str(_SETTLE) + "; "
    "while set -- /proc/[0-9]*; [ $# -gt 2 ] && [ $left -gt 0 ]; "
    "do left=$((left-1)); sleep 0.01; done; exit $code"
)
"""Runs the command within: it lives through signals, so that the command can answer them, and
waits a moment for what the command left, because all ends with it."""
_PROBE_SECONDS = 10.0
_NAMESPACES = (
    "--unshare-user-try",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
_ALWAYS = (*_NAMESPACES, "--die-with-parent", "--new-session", "--cap-drop", "ALL")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Bubblewrap:
    """Confines the commands of one run by bubblewrap."""

    def __init__(self, program: Path, surroundings: Surroundings) -> None:
        self.held = Held("bubblewrap")
        self.surroundings = surroundings
        self._program = str(program)

    def confine(self, command: Command, need: Need) -> Command:
        """Return the command as it is started so that it reaches no more than it needs.

        Its variables are among what bubblewrap reads: those that change how programs are loaded
        must not reach bubblewrap itself, which is outside.
        """
        around = self.surroundings
        mounts = mounts_for(
            around, need, reach=reach_of(need), filled=filled_caches(around, mend=bool(need.write))
        )
        env = _within(command.env, need)
        arguments = [*arguments_for(mounts, network=need.network), *_settings(env)]
        arguments += ["--chdir", str(command.cwd)]
        return replace(
            command,
            launcher=(
                *(self._program, "--info-fd", TELLS, "--args", GIVEN),
                *("--", "/bin/sh", "-c", _INNER, "sh"),
                *_settings_of_git(around),
            ),
            given=b"".join(os.fsencode(part) + b"\0" for part in arguments),
            env={"PATH": _PATH},
            encloses=True,
        )


def _settings_of_git(around: Surroundings) -> tuple[str, str]:
    """Return what the user's git configuration says within, and where; a home of theirs is left."""
    home = around.home
    given = any(home.is_relative_to(path) for path in around.writable)
    return "" if given else around.gitconfig, str(home / ".gitconfig")


def arguments_for(mounts: Iterable[Mount], *, network: bool) -> tuple[str, ...]:
    """Return bubblewrap's arguments: pure."""
    parts: list[str] = [*_ALWAYS]
    if not network:
        parts.append("--unshare-net")
    parts += ["--proc", "/proc", "--dev", "/dev"]
    for mount in mounts:
        parts += _mounted(mount)
    return tuple(parts)


def _mounted(mount: Mount) -> Sequence[str]:
    path, source = str(mount.path), mount.source or str(mount.path)
    tried = "-try" if mount.optional else ""
    match mount.kind:
        case "read":
            return (f"--ro-bind{tried}", source, path)
        case "write":
            return (f"--bind{tried}", source, path)
        case "link":
            return ("--symlink", source, path)
        case "empty":
            return ("--perms", "1777" if path.endswith("tmp") else "0700", "--tmpfs", path)
        case "mask":
            return ("--ro-bind-try", source, path)
        case "hide":
            # It can be gone through: what a command may write can lie below.
            return ("--perms", "0111", "--tmpfs", path)
        case _:
            assert_never(mount.kind)


def _settings(env: Mapping[str, str]) -> Iterator[str]:
    for name, value in env.items():
        yield from ("--setenv", name, value)


def _within(env: Mapping[str, str], need: Need) -> dict[str, str]:
    """Return the variables of a command: the machine's directories for temporary files are gone."""
    return {
        name: value
        for name, value in env.items()
        if name not in ("TMPDIR", "TEMP", "TMP") or Path(value).is_relative_to(need.tree)
    }


def find_program(programs: Sequence[Path] = PROGRAMS) -> Path | None:
    """Return bubblewrap where the system has it; nobody but root can have put it there."""
    for program in (*programs, NIX):
        try:
            found = program.resolve()
            status = found.stat()
        except OSError:
            continue
        if status.st_uid == 0 and not status.st_mode & 0o022 and os.access(found, os.X_OK):
            return found
    return None


def probe(program: Path, state: Path) -> Held:
    """Say whether bubblewrap can make a sandbox here, by making one.

    The answer is kept in *state* until the machine starts anew, or bubblewrap or its rights change.
    """
    key = _key(program)
    kept = state / "bubblewrap.json"
    try:
        known = json.loads(kept.read_text("utf-8"))
        if known["key"] == key and known["held"]:
            return Held("bubblewrap")
    except (OSError, ValueError, KeyError, TypeError):
        pass
    held = try_out(program)
    if held.by == "bubblewrap":
        new = state / f"bubblewrap.json.{os.getpid()}"
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        new.write_text(json.dumps({"key": key, "held": True}), "utf-8")
        new.replace(kept)
    return held


def try_out(program: Path) -> Held:
    """Make a sandbox with all that a command's has, and look whether it holds."""
    argv = [str(program), *_ALWAYS, "--unshare-net", "--ro-bind", "/", "/", "--tmpfs", "/run"]
    argv += ["--proc", "/proc", "--dev", "/dev", "--", "/bin/sh", "-c", "exit 42"]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": _PATH, "LC_ALL": "C"},
            cwd="/",
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Held("none", f"bubblewrap cannot be run: {error}", _to_install())
    if done.returncode == 42:
        return Held("bubblewrap")
    said = done.stdout.decode("utf-8", "replace").strip().splitlines()
    return refused(said[-1] if said else f"exit code {done.returncode}")


def not_installed() -> Held:
    """Say that bubblewrap is missing."""
    return Held("none", "bubblewrap is not installed", _to_install())


def refused(said: str) -> Held:
    """Say why bubblewrap cannot make a sandbox, from what it said, and what to do."""
    from runner.sandbox import remedies  # noqa: PLC0415  as below

    return Held("none", said, remedies.to_allow(said, remedies.this_machine()))


def _to_install() -> str:
    from runner.sandbox import remedies  # noqa: PLC0415  3 ms that nobody pays where it holds

    return remedies.to_install(remedies.this_machine())


def _key(program: Path) -> str:
    """Name everything that an earlier answer depends on."""
    status = program.stat()
    namespace = os.readlink("/proc/self/ns/user")  # noqa: PTH115  it leads nowhere
    facts: list[object] = [namespace, _text(_BOOT), os.geteuid(), str(program)]
    facts += [status.st_ino, status.st_mtime_ns, status.st_mode]
    facts += [_text(Path("/proc/sys") / name) for name in _SWITCHES]
    return json.dumps(facts)


_BOOT = Path("/proc/sys/kernel/random/boot_id")
_SWITCHES = (
    "user/max_user_namespaces",
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8").strip()
    except OSError:
        return ""
