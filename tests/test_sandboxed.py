"""Real commands in the real sandbox: what they can reach, how they end, and that nothing is left.

Nothing here would do harm if it got out: what is tried is a write of a marker, or a read.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from textwrap import dedent, indent
from typing import TYPE_CHECKING, Any

import pytest
from scratch import Scratch, make

from runner import Options, run
from runner.events import RunStarted, ToolCalled
from runner.sandbox.bubblewrap import find_program, try_out

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner import Report

PROGRAM = find_program()
HELD = PROGRAM is not None and try_out(PROGRAM).by == "bubblewrap"

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(not HELD, reason="bubblewrap is not here, or makes no sandbox"),
]

CANARY = "canary-of-the-home-5f1c"


@pytest.fixture(autouse=True)
def _sandboxed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUBRUNNER_SANDBOX")


@pytest.fixture
def home() -> Path:
    """The test's own home, with something secret in it."""
    place = Path(os.environ["HOME"])
    (place / ".ssh").mkdir()
    (place / ".ssh" / "id_ed25519").write_text(CANARY)
    return place


@pytest.fixture
def repo(world: Path, home: Path) -> Scratch:
    del home
    return make(world)


def workflow(run: str, more: str = "") -> str:
    """Return a workflow of one step `it`."""
    body = indent(dedent(run).strip(), "      ")
    return f"steps:\n  - id: it\n    run: |\n{body}\n{indent(dedent(more), '    ')}"


async def said(repo: Scratch, run: str, more: str = "", **options: Any) -> tuple[str, int]:
    """Run one step; return what its command said, and the run's exit code."""
    report = await repo.run(workflow("set +e\n" + dedent(run), more), **options)
    return output(report), report.exit_code or 0


def output(report: Report, step: str = "it") -> str:
    """Return what a step's last command said."""
    log = next(one.log for one in report.steps if one.id == step)
    return Path(log).read_text() if log else ""


def facts(text: str) -> dict[str, str]:
    """Read lines of the form `name=value`."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


# -- what is there -------------------------------------------------------------------------------


async def _look_around(repo: Scratch, home: Path, here: str) -> tuple[str, int]:
    return await said(
        repo,
        f"""
        echo home=$(ls -A ~ | grep -c ssh)
        echo secret=$(cat {home}/.ssh/id_ed25519 2>&1 | grep -c {CANARY})
        echo run=$(ls -A /run | wc -l)
        echo sockets=$(find / -xdev -type s 2>/dev/null | wc -l)
        echo shadow=$(cat /etc/shadow 2>/dev/null | wc -c)
        echo caps=$(grep '^Cap' /proc/self/status | cut -d: -f2 | grep -c '[1-9a-f]')
        echo nonew=$(grep NoNewPrivs /proc/self/status | cut -f2)
        echo processes=$(ls -d /proc/[0-9]* | wc -l)
        echo runner=$(cat /proc/{os.getpid()}/environ 2>/dev/null | wc -c)
        echo tmp=$(cat {here} 2>/dev/null | wc -c)
        echo outside=$(touch /usr/x /etc/x /opt/x 2>/dev/null; echo $?)
        echo tree=$(echo new > new.txt; cat new.txt)
        echo stdin=$(timeout 2 cat | wc -c)
        echo tty=$( (exec 3<>/dev/tty) 2>/dev/null && echo yes || echo no)
        echo user=$(id -u)
        """,
    )


async def test_a_command_is_alone_with_its_tree(repo: Scratch, home: Path) -> None:
    with tempfile.NamedTemporaryFile("w", dir="/tmp") as others:
        others.write("somebody else's")
        others.flush()
        text, code = await _look_around(repo, home, others.name)
    assert code == 0
    found = facts(text)
    assert int(found.pop("processes")) <= 6
    assert found == {
        "home": "0",
        "secret": "0",
        "run": "0",
        "sockets": "0",
        "shadow": "0",
        "tmp": "0",
        "caps": "0",
        "nonew": "1",
        "runner": "0",
        "outside": "1",
        "tree": "new",
        "stdin": "0",
        "tty": "no",
        "user": str(os.getuid()),
    }
    assert repo.read("new.txt") == "new\n"
    assert repo.of(RunStarted)[0].sandbox == "bubblewrap"


async def test_git_cannot_be_written_whatever_is_tried(repo: Scratch) -> None:
    before = {path: path.read_bytes() for path in sorted((repo.root / ".git").rglob("*"))
              if path.is_file()}  # fmt: skip
    text, _ = await said(
        repo,
        """
        try() { echo "$1=$( (eval "$2") >/dev/null 2>&1 && echo done || echo refused)"; }
        try move 'mv .git .g'
        try remove 'rm -rf .git'
        try commondir 'echo ../x > .git/commondir'
        try attributes 'echo "* filter=x" > .git/info/attributes'
        try alternates 'echo /x > .git/objects/info/alternates'
        try worktree 'echo "[core] fsmonitor = x" > .git/config.worktree'
        try config 'git config core.fsmonitor touch'
        try hook 'echo x > .git/hooks/pre-commit'
        try commit 'git commit -qm x --allow-empty'
        try mount 'mount --bind /tmp .git'
        try umount 'umount .git'
        try status 'git status'
        try log 'git log'
        """,
    )
    found = facts(text)
    assert {found.pop("status"), found.pop("log")} == {"done"}
    assert set(found.values()) == {"refused"}
    after = {path: path.read_bytes() for path in before}
    assert after == before
    assert repo.git("status", "--porcelain") == ""


async def test_a_linked_worktree_is_held_as_well(repo: Scratch, world: Path) -> None:
    linked = Scratch(world / "linked")
    repo.git("worktree", "add", "-q", str(linked.root))
    text, _ = await said(
        linked,
        f"""
        echo status=$(git status --porcelain | wc -l)
        echo log=$(git log --oneline | wc -l)
        echo pointer=$(echo 'gitdir: /x' > .git && echo done || echo refused)
        echo moved=$(mv .git .g && echo done || echo refused)
        echo own=$(touch {repo.root}/.git/worktrees/linked/x && echo done || echo refused)
        echo common=$(touch {repo.root}/.git/x && echo done || echo refused)
        echo other=$(cat {repo.root}/calc.py | wc -l)
        """,
    )
    assert facts(text) == {
        "status": "0",
        "log": "1",
        "pointer": "refused",
        "moved": "refused",
        "own": "refused",
        "common": "refused",
        "other": "0",
    }


async def test_submodules_and_borrowed_objects_work_and_are_held(
    repo: Scratch, world: Path
) -> None:
    part = world / "part"
    repo.git("clone", "-q", "--shared", str(repo.root), str(part))
    whole = Scratch(world / "whole")
    repo.git("clone", "-q", "--shared", str(repo.root), str(whole.root))
    whole.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(part), "sub")
    whole.commit_all("with a submodule")
    text, _ = await said(
        whole,
        """
        echo log=$(git log --oneline | wc -l)
        echo inner=$(git -C sub log --oneline | wc -l)
        echo pointer=$( (echo 'gitdir: /x' > sub/.git) 2>/dev/null && echo done || echo refused)
        echo moved=$(mv sub/.git sub/.g 2>/dev/null && echo done || echo refused)
        echo module=$(touch .git/modules/sub/x 2>/dev/null && echo done || echo refused)
        echo tree=$(touch sub/new && echo done || echo refused)
        """,
    )
    assert facts(text) == {
        "log": "2",
        "inner": "1",
        "pointer": "refused",
        "moved": "refused",
        "module": "refused",
        "tree": "done",
    }


async def test_a_pointer_to_a_place_that_is_no_repository_shows_nothing(
    world: Path, home: Path
) -> None:
    tree = Scratch(world / "plain")
    tree.root.mkdir()
    tree.write(".git", f"gitdir: {home}/.ssh\n")
    tree.write("env/pyvenv.cfg", f"home = {home}/.ssh\n")
    text, _ = await said(tree, f"echo shown=$(cat {home}/.ssh/* 2>/dev/null | wc -c)")
    assert facts(text) == {"shown": "0"}


async def test_a_run_from_a_subdirectory_has_the_whole_tree(repo: Scratch) -> None:
    repo.write("deep/er/x.txt", "x\n")
    file = repo.root.parent / "workflow.yaml"
    file.write_text(workflow("cat ../../calc.py | head -1\npwd\ntouch here", "dir: deep/er"))
    report = await _at(repo.root / "deep", file)
    assert output(report).splitlines() == ["def add(a, b):", str(repo.root / "deep" / "er")]
    assert (repo.root / "deep" / "er" / "here").exists()


async def _at(cwd: Path, file: Path) -> Report:
    return await run(file, cwd=cwd, options=Options(state_dir=file.parent / "state"))


async def test_outputs_are_read_and_those_of_others_are_out_of_reach(repo: Scratch) -> None:
    report = await repo.run(
        """
        steps:
          - id: one
            run: echo '{"n":1}' > "$SUBRUNNER_OUTPUT"
            outputs: {n: number}
          - id: two
            run: |
              others=$(dirname "$(dirname "$SUBRUNNER_OUTPUT")")
              ls "$others"
              mkdir -p "$others/one"; echo '{"n":2}' > "$others/one/outputs.json"
              test ${{ '$' }}N = 1 || true
        """.replace("${{ '$' }}N", "1")
    )
    assert report.exit_code == 0
    assert output(report, "two") == "two\n"
    kept = list((repo.root.parent / "state").glob("repos/*/runs/*/outputs/one/outputs.json"))
    assert [json.loads(path.read_text()) for path in kept] == [{"n": 1}]


async def test_a_link_in_the_place_of_outputs_is_not_followed(repo: Scratch, home: Path) -> None:
    (home / "private.json").write_text('{"token": "x"}')
    report = await repo.run(workflow(f'ln -s {home}/private.json "$SUBRUNNER_OUTPUT"'))
    assert report.exit_code == 0
    assert dict(report.steps[0].outputs) == {}


async def test_caches_are_private_and_what_is_in_them_stays_for_the_next_run(
    repo: Scratch, home: Path
) -> None:
    users = home / ".cache" / "tool"
    users.mkdir(parents=True)
    (users / "mine").write_text("mine")
    line = "mkdir -p ~/.cache/tool && ls ~/.cache/tool && touch ~/.cache/tool/theirs ~/loose"
    first, _ = await said(repo, line)
    second, _ = await said(repo, line)
    assert (first, second) == ("", "theirs\n")
    assert sorted(path.name for path in users.iterdir()) == ["mine"]
    assert not (home / "loose").exists()


async def test_tools_below_the_home_are_found_and_cannot_be_changed(
    repo: Scratch, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = home / "tools" / "thing-1.0"
    for name in ("bin", "lib"):
        (tool / name).mkdir(parents=True)
    (tool / "lib" / "part").write_text("the part\n")
    program = tool / "bin" / "thing"
    program.write_text('#!/bin/sh\ncat "$(dirname "$(readlink -f "$0")")/../lib/part"\n')
    program.chmod(0o755)
    links = home / ".local" / "bin"
    links.mkdir(parents=True)
    (links / "linked").symlink_to(program)
    monkeypatch.setenv("PATH", f"{links}{os.pathsep}{os.environ['PATH']}")
    text, _ = await said(
        repo,
        f"linked; (echo x > {program}) 2>/dev/null || echo refused; ls -A {home / 'tools'}",
    )
    assert text == "the part\nrefused\nthing-1.0\n"


def _environment(where: Path) -> None:
    base = Path(sys.base_prefix) / "bin" / "python3"
    subprocess.run([str(base), "-m", "venv", "--without-pip", str(where)], check=True)


@pytest.mark.parametrize("place", ["inside", "outside"])
async def test_a_virtual_environment_works_wherever_it_is(
    repo: Scratch, world: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    where = repo.root / ".venv" if place == "inside" else world / "env"
    _environment(where)
    monkeypatch.setenv("VIRTUAL_ENV", str(where))
    monkeypatch.setenv("PATH", f"{where}/bin{os.pathsep}{os.environ['PATH']}")
    text, code = await said(repo, "python -c 'import sys, ssl, json; print(sys.prefix)'")
    assert (text, code) == (f"{where}\n", 0)


async def test_the_users_configuration_adds_places(
    repo: Scratch, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("shown", "open", "closed"):
        (world / name).mkdir()
        (world / name / "x").write_text("x")
    config = world / "config.yaml"
    config.write_text(f"sandbox: {{ read: [{world}/shown], write: [{world}/open] }}\n")
    monkeypatch.setenv("SUBRUNNER_CONFIG", str(config))
    text, _ = await said(
        repo,
        f"""
        for name in shown open closed; do
          at={world}/$name
          echo $name=$(cat $at/x 2>/dev/null)$(touch $at/y 2>/dev/null && echo +)
        done
        """,
    )
    assert facts(text) == {"shown": "x", "open": "x+", "closed": ""}
    assert (world / "open" / "y").exists()


# -- network -------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[int]:
    """A server on the machine's loopback; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            while True:
                try:
                    link, _ = listening.accept()
                except OSError:
                    return
                link.sendall(b"reached")
                link.close()

        threading.Thread(target=answer, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


ASK = (
    "python3 -c \"import socket; print(socket.create_connection(('127.0.0.1', {}), 2)"
    '.recv(9).decode())"'
)
OWN = (
    "python3 -c \"import socket; s = socket.create_server(('127.0.0.1', 0));"
    ' socket.create_connection(s.getsockname()); print(1)"'
)


async def test_without_network_there_is_a_loopback_of_its_own_and_no_more(
    repo: Scratch, server: int
) -> None:
    text, _ = await said(
        repo,
        f"""
        echo reached=$({ASK.format(server)} 2>/dev/null)
        echo own=$({OWN})
        echo routes=$(tail -n +2 /proc/net/route | wc -l)
        echo names=$(getent hosts example.com | wc -l)
        echo unix=$(tail -n +2 /proc/net/unix | wc -l)
        """,
    )
    assert facts(text) == {"reached": "", "own": "1", "routes": "0", "names": "0", "unix": "0"}


async def test_with_network_granted_a_step_shares_the_machines(repo: Scratch, server: int) -> None:
    text, _ = await said(repo, ASK.format(server), "network: true", allow_network=True)
    assert text == "reached\n"


# -- how commands end ----------------------------------------------------------------------------


def running(mark: str) -> list[str]:
    """Return the processes whose command line has a mark."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line:
                found.append(line.decode(errors="replace"))
    return found


async def test_nothing_that_a_command_starts_outlives_it(repo: Scratch) -> None:
    mark = f"1271828.{os.getpid()}"
    began = time.monotonic()
    _, code = await said(
        repo,
        f"""
        sleep {mark} &
        setsid sleep {mark} &
        nohup sleep {mark} >/dev/null 2>&1 &
        ( (setsid sleep {mark} >/dev/null 2>&1 &) & )
        (trap '' TERM HUP; sleep {mark}) &
        exit 0
        """,
    )
    assert code == 0
    assert running(mark) == []
    assert time.monotonic() - began < 60


async def test_a_command_that_leaves_its_output_to_another_loses_none(repo: Scratch) -> None:
    text, _ = await said(repo, "(echo one; echo two) > >(cat; sleep 0.03; echo three)")
    assert text == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [("exit 7", "exit 7"), ("kill -TERM $$", "exit 143"), ("kill -KILL $$", "exit 137"),
     ("trap '' TERM; kill 0; exit 5", "exit 5"), ("exec no-such-program", "exit 127"),
     ("exec /etc", "exit 126")],
)  # fmt: skip
async def test_exit_codes_are_the_commands_own(repo: Scratch, line: str, code: str) -> None:
    report = await repo.run(workflow(line), sandbox="require")
    assert report.steps[0].reason == code


async def test_a_command_that_is_told_to_end_may_clean_up(repo: Scratch) -> None:
    text, code = await said(
        repo,
        """
        trap 'sleep 0.2; echo cleaned; exit 0' TERM
        echo began
        while :; do sleep 0.05; done
        """,
        "timeout: 2s",
    )
    assert code == 1
    assert text.splitlines()[-1] == "cleaned"


async def test_a_command_that_hears_nothing_is_ended_all_the_same(repo: Scratch) -> None:
    mark = f"2271828.{os.getpid()}"
    _, code = await said(
        repo, f"trap '' TERM; (trap '' TERM; exec sleep {mark}) & sleep {mark}; sleep {mark}",
        "timeout: 1s",
    )  # fmt: skip
    assert code == 1
    assert running(mark) == []


def test_nothing_outlives_a_runner_that_is_killed(repo: Scratch) -> None:
    mark = f"3271828.{os.getpid()}"
    file = repo.root.parent / "w.yaml"
    file.write_text(workflow(f"setsid sleep {mark} & touch ready; sleep {mark}"))
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "exec", str(file)],
        cwd=repo.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _until((repo.root / "ready").exists)
        assert running(mark)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    _until(lambda: not running(mark))


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


async def test_settings_of_the_loader_reach_the_command_and_not_bubblewrap(
    repo: Scratch, world: Path
) -> None:
    report = await repo.run(
        workflow(
            "echo told=$LD_DEBUG_OUTPUT",
            f"env: {{LD_DEBUG: files, LD_DEBUG_OUTPUT: {world}/loader}}",
        )
    )
    assert f"told={world}/loader\n" in output(report)
    assert not list(world.glob("loader*"))


# -- commits and mends ---------------------------------------------------------------------------


async def test_hooks_stage_stash_and_write_their_own_git_only(repo: Scratch) -> None:
    hooks = repo.root / ".git" / "hooks"
    _program(
        hooks / "pre-commit",
        """
        grep -q fixed calc.py || echo '# fixed' >> calc.py
        git add calc.py
        git stash store -q "$(git stash create)"
        git update-ref refs/heads/planted HEAD
        git config core.fsmonitor 'touch planted'
        """,
    )
    _program(hooks / "commit-msg", 'echo "Seen: yes" >> "$1"')
    repo.write("new.py", "NEW = 1\n")
    report = await repo.run("steps: [{id: c, commit: {message: more, files: all}}]")
    assert report.exit_code == 0, report
    assert "# fixed" in repo.git("show", "HEAD:calc.py")
    assert "Seen: yes" in repo.git("log", "-1", "--format=%B")
    assert repo.git("branch", "--list", "planted") == ""
    assert repo.git("stash", "list") == ""
    assert "fsmonitor" not in (repo.root / ".git" / "config").read_text()
    assert repo.git("fsck", "--no-dangling") == ""


def _program(path: Path, text: str) -> None:
    path.write_text("#!/bin/bash\nset -e\n" + dedent(text))
    path.chmod(0o755)


async def test_checks_run_on_a_clean_checkout_too(repo: Scratch) -> None:
    repo.write("other.txt", "not to be committed\n")
    repo.write("calc.py", repo.read("calc.py") + "# more\n")
    report = await repo.run(
        """
        steps:
          - id: check
            run: git status --porcelain; git log -1; test -f calc.py; ls
          - id: c
            needs: [check]
            commit: {message: more}
        """
    )
    assert report.exit_code == 0, report
    logs = (repo.root.parent / "state").glob("repos/*/runs/*/logs/*.log")
    assert {"other.txt" in log.read_text().splitlines() for log in logs} == {True, False}
    assert "# more" in repo.git("show", "HEAD:calc.py")


SHELL = """
rules:
  - when: {{ role: cheap }}
    turns:
      - calls: [{{ call: shell, with: {{ command: {command} }} }}]
      - done: mended
"""


async def test_an_agents_shell_writes_only_the_scope(repo: Scratch, home: Path) -> None:
    """A shell that nobody granted: the sandbox holds it."""
    repo.write("src/a.py", "A = 1\n")
    repo.write("src/locked.py", "L = 1\n")
    repo.write(".env", "TOKEN=abc\n")
    repo.write(".runner/x", "x\n")
    tried = (
        "sed -i s/1/2/ src/a.py; echo x > calc.py; echo x > src/locked.py; echo x > .runner/x;"
        f" echo x > .git/x; cat .env {home}/.ssh/*; mv src/locked.py src/l2.py; echo > src/new.py;"
        " echo ran"
    )
    models = repo.script(SHELL.format(command=json.dumps(tried)))
    report = await repo.run(
        """
        steps:
          - id: it
            run: grep 2 src/a.py
            fix: { agent: fixer, attempts: 1, write: ["src/**"], protect: ["src/locked.py"] }
            escalate: false
        """,
        models=models,
    )
    assert report.exit_code == 7, report
    assert repo.read("src/a.py") == "A = 2\n"
    assert repo.read("src/locked.py") == "L = 1\n"
    assert repo.read("calc.py").startswith("def add")
    assert (repo.root / "src" / "new.py").exists()
    said_to_model = "".join(event.result for event in repo.of(ToolCalled))
    assert "ran" in said_to_model
    assert "TOKEN=abc" not in said_to_model
    assert CANARY not in said_to_model


# -- whether it holds ----------------------------------------------------------------------------


def cli(
    *args: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real command."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *args],
        cwd=cwd,
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_run_within_a_sandbox_of_another_run_says_what_holds(repo: Scratch, world: Path) -> None:
    inner = world / "inner.yaml"
    inner.write_text(workflow("touch within"))
    repo.write("inner.yaml", inner.read_text())
    package = Path(__file__).parent.parent
    environment = Path(sys.prefix)
    config = world / "config.yaml"
    config.write_text(f"sandbox: {{ read: [{package}, {environment}] }}\n")
    outer = world / "outer.yaml"
    outer.write_text(workflow(
        f"{sys.executable} -m runner exec inner.yaml --json --state-dir /tmp/state > told.json"
    ))  # fmt: skip
    done = cli("exec", str(outer), cwd=repo.root, env={"SUBRUNNER_CONFIG": str(config)})
    assert done.returncode == 0, done.stderr
    told = json.loads(repo.read("told.json"))
    assert told["status"] == "succeeded"
    assert told["sandbox"].startswith(("bubblewrap", "landlock", "none: "))
    assert (repo.root / "within").exists()


def test_plan_and_report_say_what_holds(repo: Scratch) -> None:
    repo.write("workflow.yaml", workflow("true"))
    assert "sandbox   bubblewrap\n" in cli("plan", cwd=repo.root).stdout
    assert "sandbox   off" in cli("plan", "--sandbox", "off", cwd=repo.root).stdout
    report = json.loads(cli("exec", "--json", "--sandbox", "require", cwd=repo.root).stdout)
    assert (report["sandbox"], report["exit_code"]) == ("bubblewrap", 0)


def test_no_program_of_the_tree_is_taken_for_bubblewrap(repo: Scratch, world: Path) -> None:
    fake = repo.root / "bin" / "bwrap"
    fake.parent.mkdir()
    _program(fake, f"touch {world}/taken; shift 99")
    repo.write("workflow.yaml", workflow("true"))
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    done = cli("exec", "--sandbox", "require", cwd=repo.root, env={"PATH": path})
    assert done.returncode == 0, done.stderr
    assert not (world / "taken").exists()
    assert shutil.which("bwrap", path=path) == str(fake)
