"""Landlock lets a command touch what it is granted, and nothing else."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from runner.sandbox.kept import kept_from
from runner.sandbox.landlock import (
    FILTERED,
    OLDEST,
    Landlock,
    Rule,
    instead_of,
    readable_for,
    rules_for,
    seen_by,
    try_out,
    version,
    without,
)
from runner.sandbox.nouns import Held, Need
from runner.sandbox.surroundings import look_around
from runner.workspace.commands import Command, run_command

needs_landlock = pytest.mark.skipif(
    version() < OLDEST, reason=f"the kernel's Landlock is version {version()}"
)


def test_without(world: Path) -> None:
    """A directory is granted but for what is kept: then entry by entry."""
    for name in ("a/one.txt", "a/b/two.txt", "a/b/kept.txt", "c/three.txt"):
        (world / name).parent.mkdir(parents=True, exist_ok=True)
        (world / name).write_text("x")
    (world / "a/link").symlink_to(world / "c")

    def granted(*kept: str) -> list[str]:
        found = without(world / "a", frozenset(world / name for name in kept))
        return [str(path.relative_to(world)) for path in found]

    assert granted() == ["a"]
    assert granted("c") == ["a"]
    assert granted("a/b") == ["a/one.txt"]
    assert granted("a/b/kept.txt") == ["a/b/two.txt", "a/one.txt"]
    assert granted("a") == []
    assert granted(".") == []


@pytest.mark.parametrize(
    ("path", "sight"),
    [
        ("/usr/bin/git", "read"),
        ("/home/ada/work/src/a.py", "write"),
        ("/home/ada/work/README", "read"),
        ("/home/ada/.netrc", "hidden"),
        ("/home/ada/workshop", "hidden"),
    ],
)
def test_sight(path: str, sight: str) -> None:
    """The widest of the rules above a path counts."""
    rules = [
        Rule(Path("/usr"), "read"),
        Rule(Path("/home/ada/work"), "read"),
        Rule(Path("/home/ada/work/src"), "write"),
    ]
    assert seen_by(rules, PurePath(path)) == sight


class Bench:
    """A repository, a home with something in it, and a sandbox."""

    def __init__(self, world: Path) -> None:
        self.root, self.home = world / "tree", world / "home"
        for name in ("tree/src", "tree/.git/hooks", "home/.ssh", "state"):
            (world / name).mkdir(parents=True)
        (self.home / ".ssh" / "id").write_text("key")
        (self.root / "src" / "a.txt").write_text("one")
        (self.root / "other.txt").write_text("other")
        (self.root / ".git" / "config").write_text("config")
        environ = {"HOME": str(self.home), "PATH": os.environ["PATH"]}
        around = look_around(self.root, world / "state", environ)
        self.box = Landlock(Held("landlock", "no bubblewrap", "install it"), around)
        self.author = Need(tree=self.root)
        self.mend = Need(tree=self.root, write=("src/**",))
        self.env = {"PATH": "/usr/bin:/bin", "HOME": str(self.home)}

    def command(self, text: str) -> Command:
        """Return a command line of the shell."""
        return Command(argv=("/bin/sh", "-c", text), cwd=self.root, env=self.env, timeout=30)

    async def run(self, text: str, need: Need | None = None) -> tuple[int | None, str]:
        """Run it confined; return its code and its output."""
        done = await run_command(self.box.confine(self.command(text), need or self.author))
        return done.exit_code, done.head


@pytest.fixture
def bench(world: Path) -> Bench:
    """Return a fresh one."""
    return Bench(world)


@needs_landlock
class TestConfined:
    """Everything here is looked up from outside."""

    def test_it_is_tried(self, world: Path) -> None:
        """What holds is found out by an attempt, and why it is not bubblewrap is kept."""
        assert try_out(world)
        assert instead_of(Held("none", "why", "fix"), world) == Held("landlock", "why", "fix")
        assert instead_of(Held("bubblewrap"), world) == Held("bubblewrap")
        assert not list(world.iterdir())

    async def test_author(self, bench: Bench) -> None:
        """An author's command writes its tree and its own directories, and reads no home."""
        code, output = await bench.run(
            "echo two > src/a.txt && mkdir new && echo x > new/b.txt && echo $TMPDIR"
            ' && echo y > "$TMPDIR/t" && echo z > "$HOME/h"'
        )
        assert code == 0, output
        assert (bench.root / "src" / "a.txt").read_text() == "two\n"
        assert not (bench.home / "h").exists()
        code, output = await bench.run(f"cat {bench.home}/.ssh/id; echo x > {bench.home}/x")
        assert "key" not in output
        assert not (bench.home / "x").exists()
        code, output = await bench.run(f"ls {bench.home} {bench.home.parent}")
        assert code != 0
        assert ".ssh" not in output

    async def test_mend(self, bench: Bench) -> None:
        """A mend writes its scope; not the rest of the tree, and never `.git`."""
        code, output = await bench.run("cat other.txt; echo two > src/b.txt", bench.mend)
        assert (code, output) == (0, "other")
        await bench.run(
            "echo x > other.txt; echo x > new.txt; echo x >> .git/config;"
            " echo x > .git/hooks/pre-commit; mv .git .moved; mv src/a.txt .git/hooks/post-commit",
            bench.mend,
        )
        assert (bench.root / "other.txt").read_text() == "other"
        assert not (bench.root / "new.txt").exists()
        assert (bench.root / ".git" / "config").read_text() == "config"
        assert not list((bench.root / ".git" / "hooks").iterdir())

    async def test_whole_tree_without_git(self, bench: Bench) -> None:
        """A mend that may write everything may not write `.git`."""
        need = replace(bench.mend, write=("**",))
        await bench.run("echo x > other.txt; echo x >> .git/config", need)
        assert (bench.root / "other.txt").read_text() == "x\n"
        assert (bench.root / ".git" / "config").read_text() == "config"

    async def test_other_processes(self, bench: Bench) -> None:
        """Nothing outside is ended, and nothing of its variables is read, by root neither."""
        code, output = await bench.run(
            f"kill -9 {os.getpid()}; cat /proc/{os.getpid()}/environ; grep Cap /proc/self/status"
        )
        assert os.environ["HOME"] not in output
        assert "CapEff:\t0000000000000000" in output
        assert "CapBnd:\t0000000000000000" in output
        assert code == 0

    @pytest.mark.skipif(os.uname().machine not in FILTERED, reason="there is no filter for it")
    async def test_no_sockets(self, bench: Bench) -> None:
        """A mend makes no sockets, of no kind; a pair of them, which leads nowhere, it does."""
        for kind in ("AF_INET, s.SOCK_STREAM", "AF_INET, s.SOCK_DGRAM", "AF_INET6", "AF_UNIX"):
            text = f"{sys.executable} -I -S -c 'import _socket as s; s.socket(s.{kind})'"
            code, output = await bench.run(text, bench.mend)
            assert code == 1, kind
            assert "PermissionError" in output
            assert (await bench.run(text))[0] == 0, "an author's command may"
            assert (await bench.run(text, replace(bench.mend, network=True)))[0] == 0, "granted"
        text = f"{sys.executable} -I -S -c 'import _socket as s; s.socketpair()'"
        assert await bench.run(text, bench.mend) == (0, "")

    async def test_as_without(self, bench: Bench) -> None:
        """Exit codes, signals, standard input and a broken pipe are as without a sandbox."""
        assert (await bench.run("exit 7"))[0] == 7
        assert (await bench.run("kill -TERM $$"))[0] == 143
        assert (await bench.run("yes | head -n 1")) == (0, "y\n")
        assert (await bench.run("cat")) == (0, "")
        assert (await bench.run("no-such-program"))[0] == 127
        command = replace(bench.command(""), argv=("no-such-program",))
        done = await run_command(bench.box.confine(command, bench.author))
        assert done.exit_code == 127
        assert "no-such-program" in done.head

    async def test_variables(self, bench: Bench) -> None:
        """What is loaded into programs reaches the command, and not what confines it."""
        bench.env |= {"PYTHONPATH": str(bench.root), "LD_PRELOAD": str(bench.root / "x.so")}
        (bench.root / "json.py").write_text(f"open({str(bench.home / 'out')!r}, 'w')\n")
        _, output = await bench.run("env")
        assert f"PYTHONPATH={bench.root}" in output
        assert "LD_PRELOAD" in output
        assert not (bench.home / "out").exists()

    async def test_denied(self, bench: Bench) -> None:
        """What it kept is told apart from what failed by itself."""
        root = os.access("/usr/share", os.W_OK)
        for text, what in (
            ("touch /usr/share/x", "writing to /usr/share/x" if root else None),
            ("cat missing.txt", None),
            # What lies in the machine's own /tmp proves nothing, for anybody may make it.
            (f"cat {bench.home}/.ssh/id", None if str(bench.home).startswith("/tmp/") else ".ssh"),
        ):
            command = bench.command(text)
            done = await run_command(bench.box.confine(command, bench.author))
            found = kept_from(bench.box, command, bench.author, done)
            if what is None:
                assert found is None
            else:
                assert found is not None
                assert what in found.what

    async def test_left_directories(self, bench: Bench) -> None:
        """What a process that is gone kept for itself is removed by the next."""
        gone = bench.root.parent / "state" / "private" / "999999999"
        gone.mkdir(parents=True)
        await bench.run("true")
        assert [path.name for path in gone.parent.iterdir()] == [str(os.getpid())]

    async def test_background_is_ended(self, bench: Bench) -> None:
        """A process in a session of its own does not stay."""
        seconds = f"77.{time.time_ns()}"
        await bench.run(f"setsid sleep {seconds} > /dev/null 2>&1 &")
        lines = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if _readable(p)]
        assert not [line for line in lines if seconds.encode() in line]


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_rules_of_tools(bench: Bench) -> None:
    """The interpreter that confines is not one that a command may change."""
    rules = (*readable_for(bench.box.surroundings), *rules_for(bench.box.surroundings, bench.mend))
    assert seen_by(rules, Path(os.path.realpath(sys.executable))) in ("read", "hidden")
    assert seen_by(rules, bench.root / ".git" / "config") == "read"
    assert seen_by(rules, bench.root / "src" / "a.txt") == "write"
