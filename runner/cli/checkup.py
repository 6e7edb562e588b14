"""Tries what keeps git, secrets and the state directory safe here, and looks for tools and keys."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.git import Repository
from runner.models.choice import KEYS
from runner.sandbox.probes import Proof
from runner.workspace.commands import Command, run_command
from runner.workspace.environment import clean_environment
from runner.workspace.masking import Mask
from runner.workspace.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Mapping

TOOLS = ("git", "bwrap", "bash", "python3", "uv", "node", "cargo", "go", "docker", "gh")
"""What workflows often run, and says its version quickly."""
_NUMBER = re.compile(r"\d+\.\d+(?:\.\d+)*")
_VERSION_SECONDS = 5.0
_NETWORK_KINDS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "beegfs"}
)
_PLANTED = "planted"


@frozen
class Tool:
    """A program that was found."""

    name: str
    path: str
    version: str
    """Empty where it does not say."""


async def try_git(state: Path) -> Proof:
    """Let our git work in a repository that names programs wherever git would run one."""
    top = Path(tempfile.mkdtemp(prefix="doctor-git-", dir=state))
    try:
        root, ran = top / "tree", top / "ran"
        _plant_repository(root, ran)
        tree = await Tree.open(root, top / "state")
        before = await tree.snapshot()
        (root / "a.txt").write_text("changed\n", "utf-8")
        await tree.diff(before, await tree.snapshot())
        tree.close()
        repo = await Repository.open(root, state=top / "repository", filters=("ours",))
        assert repo is not None, "it was made just now"
        start = await repo.start_state()
        staged = await repo.prepare("all", start=start, run_paths=())
        if staged is not None:
            await repo.commit(staged, "A test of nothing")
        seen = ran.read_text("utf-8").split() if ran.exists() else []
    finally:
        shutil.rmtree(top, ignore_errors=True)
    return Proof(
        id="git-programs",
        title="git runs nothing it is told to",
        tried="hooks, fsmonitor, diff drivers",
        holds=not seen,
        promised=True,
        seen=", ".join(dict.fromkeys(seen)),
    )


def _plant_repository(root: Path, ran: Path) -> None:
    (root / "sub").mkdir(parents=True)
    env = {"PATH": os.environ.get("PATH", ""), "HOME": str(root.parent)}
    env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
    for name in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{name}_NAME": "Doctor", f"GIT_{name}_EMAIL": "doctor@example.com"}

    def git(*args: str) -> None:
        subprocess.run(["git", "-C", str(root), *args], env=env, check=True, capture_output=True)

    git("init", "--quiet")
    for name in ("a.txt", "sub/b.txt"):
        (root / name).write_text("one\n", "utf-8")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")

    def program(name: str) -> str:
        path = root / ".git" / f"{_PLANTED}-{name}"
        path.write_text(f'#!/bin/sh\necho {name} >> "{ran}"\ncat\n', "utf-8")
        path.chmod(0o755)
        return str(path)

    for key, value in (
        ("core.fsmonitor", program("fsmonitor")),
        ("core.pager", program("pager")),
        ("core.editor", program("editor")),
        ("diff.external", program("diff")),
        ("diff.planted.textconv", program("textconv")),
        ("alias.status", f"!{program('alias')}"),
        ("gpg.program", program("gpg")),
        ("user.name", "Doctor"),
        ("user.email", "doctor@example.com"),
    ):
        git("config", key, value)
    for hook in ("pre-commit", "post-commit", "post-index-change", "reference-transaction"):
        shutil.copy(program(hook), root / ".git" / "hooks" / hook)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "attributes").write_text("*.txt diff=planted\n", "utf-8")


async def try_masking(state: Path) -> Proof:
    """Let a command print a secret in the forms that one is printed in, and read its log."""
    top = Path(tempfile.mkdtemp(prefix="doctor-mask-", dir=state))
    secret = os.urandom(12).hex() + "/+ x"
    script = (
        "import base64,json,os,sys,urllib.parse as u\n"
        "s=os.environ['IT'];b=s.encode();w=sys.stdout.write\n"
        "for t in (s,json.dumps(s),u.quote(s,safe=''),b.hex(),"
        "*(base64.b64encode(b'x'*n+b).decode() for n in range(3))):\n"
        "  w(t[:7]);sys.stdout.flush();w(t[7:]+'\\n')\n"
    )
    try:
        env = clean_environment(
            base=os.environ, declared={}, inherit=(), secrets={"IT": secret}, extra={}
        )
        command = Command(
            argv=(sys.executable, "-I", "-c", script),
            cwd=top,
            env=env,
            timeout=20,
            log=top / "log",
            mask=Mask([secret]),
        )
        result = await run_command(command)
        text = result.head + (top / "log").read_text("utf-8")
    finally:
        shutil.rmtree(top, ignore_errors=True)
    core = secret[:16]
    seen = [core] if core in text or core.encode().hex() in text else []
    shown = text.count("***") >= 14 if result.passed else False
    return Proof(
        id="masking",
        title="secrets are masked",
        tried="plain, JSON, URL, hex, base64",
        holds=not seen and shown,
        promised=True,
        seen="" if shown and not seen else "not all of them were",
    )


def try_state(state: Path) -> Proof:
    """Look whether others may read the state directory, and whether it is on the network."""
    seen: list[str] = []
    found = state.stat()
    if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        seen.append(f"others may reach it (mode {stat.S_IMODE(found.st_mode):o})")
    if found.st_uid != os.geteuid():
        seen.append(f"it belongs to user {found.st_uid}")
    kind = file_system(state)
    if kind in _NETWORK_KINDS:
        seen.append(f"it is on a network file system ({kind})")
    return Proof(
        id="state",
        title="the state directory is yours alone",
        tried="its mode, owner and file system",
        holds=not seen,
        promised=True,
        seen="; ".join(seen),
    )


def file_system(path: Path) -> str:
    """Return the type of the file system that a path is on; empty where nobody says."""
    try:
        lines = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    mounts = [line.split()[1:3] for line in lines]
    real = path.resolve()
    on = [(len(where), kind) for where, kind in mounts if real.is_relative_to(where)]
    # The last of two at one place is the one that is seen.
    return max(reversed(on), key=lambda pair: pair[0])[1] if on else ""


def tools(environ: Mapping[str, str]) -> tuple[Tool, ...]:
    """Return the programs that workflows often run, as far as they are there."""
    found: list[Tool] = []
    for name in TOOLS:
        path = shutil.which(name, path=environ.get("PATH"))
        if path is not None:
            found.append(Tool(name, path, _version(path, name)))
    return tuple(found)


def _version(path: str, name: str) -> str:
    try:
        done = subprocess.run(
            [path, "version" if name == "go" else "--version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_VERSION_SECONDS,
            check=False,
            cwd=os.sep,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = _NUMBER.search(done.stdout.decode("utf-8", "replace"))
    return match.group() if match else ""


def keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the names of the variables with models' keys that are set."""
    names = dict.fromkeys(name for names in KEYS.values() for name in names)
    return tuple(name for name in names if environ.get(name))
