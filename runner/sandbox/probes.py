"""Tries to break out of the sandbox that a run here would have, and says what came of it.

What was reached is looked up from outside: a file that is there, a connection that came in, a
process that lives. The one who tries is not believed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import ProtectionError
from runner.frozen import frozen
from runner.sandbox.landlock import FILTERED, version
from runner.sandbox.nouns import Need
from runner.sandbox.opening import Extra, open_sandbox
from runner.workspace.commands import Command, run_command
from runner.workspace.environment import clean_environment

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from runner.outcome import CommandResult
    from runner.sandbox.nouns import Sandbox

_PRIVATE = (
    *(".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".netrc", ".npmrc", ".pypirc"),
    *(".git-credentials", ".config/gh", ".config/gcloud", ".bash_history", ".zsh_history"),
    *(".claude", ".codex", ".mozilla", ".thunderbird", ".password-store"),
)
"""Below a home: what nobody shows to a test suite."""
_SOCKETS = ("/var/run/docker.sock", "/run/podman/podman.sock", "/run/containerd/containerd.sock")
_SECONDS = 30.0
_ROUNDS = 7
_SIGNALS = 6
"""Landlock's version that knows signals and abstract sockets."""


@frozen(kw_only=True)
class Proof:
    """One protection, and what an attempt to break it came to."""

    id: str
    title: str
    tried: str
    """What was tried, in few words."""
    holds: bool
    promised: bool
    """Whether it should hold here; what does not and was not promised is no defect."""
    seen: str = ""
    """What was reached."""


@frozen(kw_only=True)
class Proofs:
    """What all attempts came to."""

    proofs: tuple[Proof, ...]
    milliseconds: float
    """What the sandbox adds to a command, at the median."""


_ATTEMPTS = r"""
home=$1 canary=$2 temporary=$3 socket=$4 port=$5 pid=$6 token=$7 usr=$8; shift 8
( echo '#!/bin/sh' > .git/hooks/pre-commit ) 2>/dev/null
( echo x > .git/commondir ) 2>/dev/null
mv .git .moved 2>/dev/null
( echo x > "$home/.subrunner-$token" ) 2>/dev/null
( echo x > "$usr/.subrunner-$token" ) 2>/dev/null
cat "$canary" "$temporary" 2>/dev/null
for path in "$@"; do
  if [ -d "$path" ]; then ls "$path" >/dev/null 2>&1 && echo "seen $path"
  elif head -c 1 "$path" >/dev/null 2>&1; then echo "seen $path"; fi
done
[ -S "$socket" ] && echo "seen $socket"
env
for each in /proc/[0-9]*; do
  tr '\0' '\n' < "$each/environ" 2>/dev/null
  shown=$(tr '\0' ' ' < "$each/cmdline" 2>/dev/null)
  case "$shown" in *"sleep 40.$token"*) echo seen-process;; esac
done
grep CapEff /proc/self/status
timeout 2 bash -c 'echo tcp > /dev/tcp/127.0.0.1/'"$port" 2>/dev/null
timeout 2 bash -c 'echo udp > /dev/udp/127.0.0.1/'"$port" 2>/dev/null
setsid sleep "41.$token" > /dev/null 2>&1 < /dev/null &
( kill -9 "$pid" ) 2>/dev/null
echo all-tried
exit 0
"""
_MEND = r"""
port=$1
( echo x > other.txt ) 2>/dev/null
( echo x > src/inside.txt ) 2>/dev/null
( echo x >> .git/config ) 2>/dev/null
( echo x >> workflow.yaml ) 2>/dev/null
cat .env 2>/dev/null
timeout 2 bash -c 'echo tcp > /dev/tcp/127.0.0.1/'"$port" 2>/dev/null
timeout 2 bash -c 'echo udp > /dev/udp/127.0.0.1/'"$port" 2>/dev/null
exit 0
"""


class Doors:
    """Somebody outside whom nobody within should reach: at a TCP port, and at the UDP one."""

    def __init__(self) -> None:
        for _ in range(20):
            self.tcp = socket.create_server(("127.0.0.1", 0))
            self.port: int = self.tcp.getsockname()[1]
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self.udp.bind(("127.0.0.1", self.port))
            except OSError:
                self.close()
                continue
            break
        self.tcp.settimeout(0)
        self.udp.settimeout(0)

    def reached(self) -> str:
        """Say who got through since the last look."""
        found: list[str] = []
        try:
            self.tcp.accept()[0].close()
            found.append("TCP")
        except BlockingIOError:
            pass
        try:
            self.udp.recv(64)
            found.append("UDP")
        except BlockingIOError:
            pass
        return " and ".join(found)

    def close(self) -> None:
        """Let go of both."""
        self.tcp.close()
        self.udp.close()


@frozen(kw_only=True)
class Scene:
    """What was planted for the attempts."""

    root: Path
    home: Path
    token: str
    secret: str
    canary: Path
    temporary: Path
    socket: Path
    usr: Path
    doors: Doors
    victim: subprocess.Popen[bytes]
    private: tuple[str, ...]


async def attempt(state: Path, environ: Mapping[str, str]) -> Proofs:
    """Try everything from within a sandbox like that of a run.

    Args:
        state: Directory of all state; the scratch repository is made, and removed, below it.
        environ: The runner's own environment.
    """
    with _scene(state, environ) as scene:
        known = {**environ, "DOCTORS_CANARY_TOKEN": scene.secret}
        sandbox = open_sandbox("auto", scene.root, scene.root.parent / "state", environ, Extra())
        assert sandbox is not None, "it was not switched off"
        env = clean_environment(base=known, declared={}, inherit=(), secrets={}, extra={})
        author = Need(tree=scene.root)
        told = (scene.home, scene.canary, scene.temporary, scene.socket, scene.doors.port,
                scene.victim.pid, scene.token, scene.usr, *scene.private)  # fmt: skip
        result = await _run(sandbox, author, scene.root, env, _ATTEMPTS, told)
        proofs = [*_of_author(sandbox, scene, result)]
        need = Need(tree=scene.root, write=("src/**",), protect=("workflow.yaml",))
        result = await _run(sandbox, need, scene.root, env, _MEND, (scene.doors.port,))
        proofs += _of_mend(sandbox, scene, result)
        cost = await _cost(sandbox, author, scene.root, env)
    return Proofs(proofs=tuple(proofs), milliseconds=cost)


async def _run(
    sandbox: Sandbox,
    need: Need,
    cwd: Path,
    env: Mapping[str, str],
    script: str,
    told: Iterable[object],
) -> CommandResult:
    argv = ("/bin/sh", "-c", script, "sh", *map(str, told))
    command = Command(argv=argv, cwd=cwd, env=env, timeout=_SECONDS, grace=0.2)
    return await run_command(sandbox.confine(command, need))


def _of_author(sandbox: Sandbox, scene: Scene, result: CommandResult) -> list[Proof]:
    """Look from outside what came of an author's command."""
    output = result.head + result.tail
    by = sandbox.held.by
    alone, some = by == "bubblewrap", by != "none"
    git = scene.root / ".git"
    hooked = [name for name in ("hooks/pre-commit", "commondir") if (git / name).exists()]
    if not git.exists():
        hooked.append("moved away")
        (scene.root / ".moved").rename(git)
    for name in ("hooks/pre-commit", "commondir"):
        (git / name).unlink(missing_ok=True)
    written = [str(p) for p in _written(scene)]
    seen = [line[5:] for line in output.splitlines() if line.startswith("seen /")]
    private = [path for path in seen if path in scene.private]
    sockets = [path for path in seen if path == str(scene.socket) or path in _SOCKETS]
    root = "1" if os.geteuid() == 0 else "0"  # elsewhere than on Linux, root is all there is
    caps = next((line.split()[1] for line in output.splitlines() if line[:7] == "CapEff:"), root)
    if "all-tried" not in output:
        raise ProtectionError(
            "the attempts to leave the sandbox could not be made, so nothing is proved",
            hint=f"It ended with {result.exit_code} and said: {output[-300:].strip() or 'nothing'}",
        )
    network = scene.doors.reached()
    left = _left(f"sleep\0{41}.{scene.token}")
    killed = scene.victim.poll() is not None
    secret = scene.secret in output
    return [
        _proof("git", ".git cannot be written", "a hook, commondir, moving it away", hooked,
               promised=alone),
        _proof("home", "the home cannot be read", "keys, histories, the state directory",
               [*private, *(["the state directory"] if "canary:" in output else [])],
               promised=some),
        _proof("write", "nothing is written elsewhere", "a file in the home and in /usr", written,
               promised=some),
        _proof("network", "no network unless granted", "TCP and UDP to this machine", network,
               promised=alone),
        _proof("processes", "other processes are not seen", "the command line of one",
               _if("seen-process" in output), promised=alone),
        _proof("signals", "other processes are not ended", "kill -9 of one", _if(killed),
               promised=alone or (by == "landlock" and version() >= _SIGNALS)),
        _proof("behind", "no process is left behind", "a process in a session of its own",
               _if(left), promised=True),
        _proof("secrets", "the runner's secrets are not seen",
               "variables, also of other processes", _if(secret), promised=some),
        _proof("sockets", "other programs' sockets are not there", "Docker's, and one in /tmp",
               sockets, promised=alone),
        _proof("tmp", "temporary files are private", "a file of somebody else's",
               _if("temporary:" in output), promised=some),
        _proof("root", "no capabilities", "those of the command", _if(int(caps, 16) != 0),
               promised=some),
    ]  # fmt: skip


def _of_mend(sandbox: Sandbox, scene: Scene, result: CommandResult) -> list[Proof]:
    by, output = sandbox.held.by, result.head + result.tail
    alone, some = by == "bubblewrap", by != "none"
    beyond = [name for name in ("other.txt",) if (scene.root / name).exists()]
    beyond += [
        name
        for name in ("workflow.yaml", ".git/config")
        if (scene.root / name).read_text("utf-8").endswith("x\n")
    ]
    if not (scene.root / "src" / "inside.txt").exists():
        beyond.append("its scope cannot be written either")
    network = scene.doors.reached()
    promised = alone or (by == "landlock" and os.uname().machine in FILTERED)
    return [
        _proof("scope", "a mend writes its scope only", "another file, the workflow, .git",
               beyond, promised=some),
        _proof("mend-network", "a mend has no network", "TCP and UDP to this machine", network,
               promised=promised),
        _proof("mend-secrets", "a mend reads no secrets", ".env", _if("dotenv:" in output),
               promised=some),
    ]  # fmt: skip


def _if(reached: object) -> str:
    return "reached" if reached else ""


def _proof(
    name: str, title: str, tried: str, reached: Iterable[str] | str, *, promised: bool
) -> Proof:
    seen = reached if isinstance(reached, str) else ", ".join(reached)
    return Proof(id=name, title=title, tried=tried, holds=not seen, promised=promised, seen=seen)


def _written(scene: Scene) -> list[Path]:
    found: list[Path] = []
    for directory in (scene.home, scene.usr):
        path = directory / f".subrunner-{scene.token}"
        if path.exists():
            found.append(path)
            path.unlink()
    return found


def _left(marker: str) -> bool:
    """Look for a process by its command line, and end it."""
    found = False
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (entry / "cmdline").read_bytes():
                found = True
                os.kill(int(entry.name), 9)
        except OSError:
            continue
    return found


async def _cost(sandbox: Sandbox, need: Need, cwd: Path, env: Mapping[str, str]) -> float:
    """Return the milliseconds that the sandbox adds to a command, at the median."""
    command = Command(argv=("/bin/sh", "-c", ":"), cwd=cwd, env=env, timeout=_SECONDS)
    plain: list[float] = []
    confined: list[float] = []
    for _ in range(_ROUNDS):
        began = time.monotonic()
        await run_command(command)
        plain.append(time.monotonic() - began)
        began = time.monotonic()
        await run_command(sandbox.confine(command, need))
        confined.append(time.monotonic() - began)
    return max(0.0, statistics.median(confined) - statistics.median(plain)) * 1000


@contextmanager
def _scene(state: Path, environ: Mapping[str, str]) -> Generator[Scene]:
    """Plant a repository, files, a process and two ports; take all of it away at the end."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    token, secret = f"{secrets.randbelow(10**12):012}", secrets.token_hex(24)
    with ExitStack() as stack:
        top = Path(tempfile.mkdtemp(prefix="doctor-", dir=state)).resolve()
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        shared = Path(tempfile.mkdtemp(prefix="subrunner-doctor-"))
        stack.callback(shutil.rmtree, shared, ignore_errors=True)
        root = top / "tree"
        _plant(root, top, shared, secret)
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(shared / "socket"))
        listening.listen()
        doors = Doors()
        stack.callback(doors.close)
        victim = subprocess.Popen(
            ["sleep", f"40.{token}"], env={"PATH": "/usr/bin:/bin", "DOCTOR": secret}
        )
        stack.callback(_end, victim)
        home = Path(environ.get("HOME") or "/root")
        yield Scene(
            root=root,
            home=home,
            token=token,
            secret=secret,
            canary=top / "canary",
            temporary=shared / "canary",
            socket=shared / "socket",
            usr=Path("/usr"),
            doors=doors,
            victim=victim,
            private=tuple(
                str(path)
                for path in (*(home / name for name in _PRIVATE), *map(Path, _SOCKETS))
                if os.access(path, os.R_OK)
            ),
        )


def _plant(root: Path, top: Path, shared: Path, secret: str) -> None:
    (root / "src").mkdir(parents=True)
    for part in ("hooks", "objects", "refs/heads"):
        (root / ".git" / part).mkdir(parents=True)
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n", "utf-8")
    (root / ".git" / "config").write_text("[core]\n\tbare = false\n", "utf-8")
    (root / "workflow.yaml").write_text("name: scratch\n", "utf-8")
    (root / ".env").write_text(f"dotenv: {secret}\n", "utf-8")
    (top / "canary").write_text("canary: \n", "utf-8")
    (shared / "canary").write_text("temporary: \n", "utf-8")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
