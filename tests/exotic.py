"""Support for runs in unusual repositories: a small project to ship, and a look at all there is."""

from __future__ import annotations

import os
import stat
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from runner import Options, run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from runner import Report
    from runner.events import Event

APP = "x=1\ngreeting: helo\n"
"""One thing that the autofix mends, one that takes a subagent."""
SHIPPED = "x = 1\ngreeting: hello\n"
FORMATTED = "x = 1\ngreeting: helo\n"

SHIP = """
name: ship
steps:
  - id: format
    run: |
      ! grep -Hn 'x=1' -- 'APP'
    autofix: |
      sed -i 's/x=1/x = 1/' -- 'APP'
  - id: lint
    run: |
      ! grep -Hn helo -- 'APP'
    fix: { agent: lint-fixer, attempts: 1 }
  - id: commit
    commit: { message: auto }
  - id: push
    push: { remote: origin, branch: out }
"""


@dataclass
class Exotic:
    """A work tree to run in, its remote, and a place outside for everything else."""

    home: Path
    root: Path
    app: str = "app.txt"
    events: list[Event] = field(default_factory=list["Event"])
    listeners: list[Callable[[Event], None]] = field(
        default_factory=list["Callable[[Event], None]"]
    )

    @property
    def remote(self) -> Path:
        return self.home / "remote.git"

    @property
    def state(self) -> Path:
        return self.home / "state"

    def git(self, *args: str, cwd: Path | None = None) -> str:
        """Run the user's own git; surrogates stand for bytes that are no UTF-8."""
        return user_git(*args, cwd=cwd or self.root)

    def shell(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.root, capture_output=True, check=True
        )
        return os.fsdecode(done.stdout)

    def write(self, path: str, text: str | bytes, *, mode: int | None = None) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else dedent(text).encode())
        if mode is not None:
            file.chmod(mode)
        return file

    def read(self, path: str = "") -> str:
        return (self.root / (path or self.app)).read_bytes().decode()

    def hook(self, name: str, body: str, *, where: str = ".git/hooks") -> Path:
        return self.write(f"{where}/{name}", f"#!/bin/sh\n{dedent(body)}", mode=0o755)

    def commit_all(self, message: str = "start") -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.head

    @property
    def head(self) -> str:
        return self.git("rev-parse", "HEAD")

    def status(self) -> list[str]:
        out = self.git("status", "--porcelain", "-z", "--untracked-files=all")
        return sorted(line for line in out.split("\0") if line)

    def pushed(self, branch: str = "out") -> str:
        """What the remote has at a branch; empty for nothing."""
        out = user_git(
            "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}", cwd=self.remote
        )
        return out.strip()

    def script(self, text: str, name: str = "script.yaml") -> dict[str, str]:
        """Write a script outside the tree; return the models that it plays."""
        file = self.home / name
        file.write_text(dedent(text))
        return {"cheap": f"script:{file}", "main": f"script:{file}"}

    def mender(self) -> dict[str, str]:
        """Mend the app at the cheap rung."""
        return self.script(f"""
            rules:
              - when: {{ role: cheap, step: lint }}
                turns:
                  - call: edit_file
                    with: {{ path: {yaml_text(self.app)}, old_text: helo, new_text: hello }}
                  - done: spelled right
              - cannot: not my part
            """)

    def bungler(self) -> dict[str, str]:
        """Edit the app to no avail, and add a file, at both rungs; then give up."""
        return self.script(f"""
            rules:
              - when: {{ step: lint }}
                turns:
                  - call: edit_file
                    with: {{ path: {yaml_text(self.app)}, old_text: helo, new_text: helo helo }}
                  - call: write_file
                    with: {{ path: notes.txt, content: "I tried" }}
                  - cannot: too hard
              - cannot: not my part
            """)

    async def run(
        self,
        workflow: str = SHIP,
        *,
        cwd: Path | None = None,
        models: dict[str, str] | None = None,
        state_dir: Path | None = None,
        **options: Any,
    ) -> Report:
        """Write a workflow outside the tree and run it."""
        file = self.home / "workflow.yaml"
        file.write_text(dedent(workflow).replace("APP", self.app))
        self.events.clear()
        return await run(
            file,
            cwd=cwd or self.root,
            models=self.mender() if models is None else models,
            options=Options(state_dir=state_dir or self.state, **options),
            sinks=[self.events.append, *self.listeners],
        )

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def said(self) -> str:
        from runner.events import Notice

        return "\n".join(event.text for event in self.of(Notice))


def try_git(*args: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    """Run git as the user would, whatever its exit code."""
    return subprocess.run(["git", *args], cwd=cwd, capture_output=True, check=False)


def user_git(*args: str, cwd: Path) -> str:
    done = try_git(*args, cwd=cwd)
    assert done.returncode == 0, f"git {args}: {os.fsdecode(done.stderr)}"
    return os.fsdecode(done.stdout).removesuffix("\n")


def yaml_text(text: str) -> str:
    """Spell a text as YAML: single quotes double."""
    return "'" + text.replace("'", "''") + "'"


def begin(home: Path, name: str = "repo") -> Exotic:
    """Make an ordinary repository whose app wants formatting and mending, and a bare remote."""
    place = Exotic(home, home / name)
    place.root.mkdir()
    place.git("init", "-q", "-b", "main")
    place.write("app.txt", APP)
    place.write("README.md", "# Read me\n")
    place.write("docs/guide.txt", "guide\n")
    place.commit_all()
    subprocess.run(["git", "init", "-q", "--bare", str(place.remote)], check=True)
    place.git("remote", "add", "origin", str(place.remote))
    place.git("push", "-q", "-u", "origin", "main")
    return place


# -- all there is ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """Everything of a user's that a run could damage, byte for byte."""

    files: dict[str, tuple[int, bytes]]
    index: dict[str, str]
    refs: dict[str, str]
    head: str
    stash: str
    inner: dict[str, bytes]
    """Configuration, hooks, info."""


def look(place: Exotic) -> Look:
    """Read it all."""
    git_dir = Path(place.git("rev-parse", "--absolute-git-dir"))
    common = (place.root / place.git("rev-parse", "--git-common-dir")).resolve()
    flags = place.git("ls-files", "-v", "-z").split("\0")
    staged = place.git("ls-files", "--stage", "-z").split("\0")
    index = {line.partition("\t")[2] + line[-0:0]: line for line in staged if line}
    index |= {f"flag {line[2:]}": line[0] for line in flags if line}
    refs = place.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    inner: dict[str, bytes] = {}
    for base in {git_dir, common}:
        for name in (
            "config",
            "config.worktree",
            "HEAD" if base == common != git_dir else "config",
        ):
            if (base / name).is_file():
                inner[str(base / name)] = (base / name).read_bytes()
        for folder in ("hooks", "info"):
            for file in sorted((base / folder).glob("*")):
                if file.is_file():
                    inner[str(file)] = file.read_bytes()
    return Look(
        files=dict(sorted(files_below(place.root))),
        index=index,
        refs=dict(line.split(" ", 1) for line in refs),
        head=(git_dir / "HEAD").read_text(),
        stash=place.git("stash", "list", "--format=%H %gs"),
        inner=inner,
    )


def files_below(root: Path) -> list[tuple[str, tuple[int, bytes]]]:
    found: list[tuple[str, tuple[int, bytes]]] = []
    for folder, names, files in os.walk(root):
        if ".git" in names and Path(folder) == root:
            names.remove(".git")
        links = [name for name in names if Path(folder, name).is_symlink()]
        for name in [*files, *links]:
            path = Path(folder, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                content = os.fsencode(path.readlink())
            elif stat.S_ISREG(mode):
                content = path.read_bytes()
            else:
                content = b""
            if path != root / ".git":
                found.append((str(path.relative_to(root)), (mode, content)))
    return found


def kept(
    before: Look,
    after: Look,
    *,
    files: Collection[str] = (),
    index: Collection[str] | None = None,
    refs: Collection[str] = (),
) -> None:
    """Assert that exactly the named files, index entries and refs differ, and nothing else."""
    assert differing(before.files, after.files) == set(files)
    assert differing(before.index, after.index) == set(files if index is None else index)
    assert differing(before.refs, after.refs) == set(refs)
    assert (after.head, after.stash) == (before.head, before.stash)
    assert after.inner == before.inner


def differing(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
