"""Tests of running commands: bounds hold, and no process is left behind. Real processes only."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from runner.workspace.commands import Command, run_command
from runner.workspace.processes import MARK, adopting, end_strays

if TYPE_CHECKING:
    from collections.abc import Iterator

ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and child subreapers")


@pytest.fixture
def nap(request: pytest.FixtureRequest) -> Iterator[str]:
    """A sleep that no other test and no other process of this machine does."""
    text = f"sleep {5000 + os.getpid() % 1000}.{abs(hash(request.node.nodeid)) % 10**8:08d}"
    yield text
    for pid in sleeping(text):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def sleeping(nap: str) -> list[int]:
    rows = subprocess.run(["ps", "-eo", "pid=,stat=,args="], capture_output=True, text=True).stdout
    found = (row.split(None, 2) for row in rows.splitlines())
    return [int(row[0]) for row in found if len(row) == 3 and row[2].strip() == nap]


def shell(script: str, **more: object) -> Command:
    given: dict[str, object] = {"cwd": Path("/"), "env": ENV, "grace": 0.3, **more}
    return Command(argv=("bash", "-c", script), **given)  # pyright: ignore[reportArgumentType]


def python(script: str) -> str:
    argv = [sys.executable, "-c", script]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def popen(text: str, *, detached: bool = False) -> subprocess.Popen[bytes]:
    return subprocess.Popen(text.split(), start_new_session=detached)


def seconds_of_true() -> float:
    """What a process costs however it is run."""
    started = time.perf_counter()
    subprocess.run(["true"], env=ENV, cwd="/", capture_output=True, check=True)
    return time.perf_counter() - started


def processes_of(parent: int) -> list[str]:
    argv = ["ps", "-o", "pid=,stat=", "--ppid", str(parent)]
    return subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


# -- results ---------------------------------------------------------------------------------------


async def test_both_streams_come_in_order_with_the_exit_code() -> None:
    result = await run_command(shell("echo out; echo err >&2; echo out again; exit 3"))
    assert result.head == "out\nerr\nout again\n"
    assert (result.exit_code, result.timed_out, result.passed) == (3, False, False)
    assert (result.tail, result.total_bytes, result.log) == ("", 18, None)


async def test_success_passes() -> None:
    assert (await run_command(shell("true"))).passed


async def test_a_signal_is_told_as_a_shell_tells_it() -> None:
    assert (await run_command(shell("kill -SEGV $$"))).exit_code == 128 + signal.SIGSEGV


async def test_standard_input_is_empty_and_no_terminal_is_there() -> None:
    result = await run_command(shell("cat; (: </dev/tty) 2>/dev/null || echo no tty", timeout=5.0))
    assert result.head == "no tty\n"


async def test_standard_input_of_any_size_arrives() -> None:
    data = os.urandom(3_000_000)
    result = await run_command(shell("sha256sum", stdin=data))
    import hashlib

    assert result.head.split()[0] == hashlib.sha256(data).hexdigest()


async def test_only_the_given_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "1")
    result = await run_command(Command(argv=("env",), cwd=Path("/"), env={**ENV, "A": "b c\nd"}))
    assert "CANARY" not in result.head
    assert "A=b c\nd" in result.head


async def test_directory_and_program_come_from_the_command(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\npwd\n")
    tool.chmod(0o755)
    env = {"PATH": str(tmp_path)}
    assert (await run_command(Command(argv=("tool",), cwd=Path("/usr"), env=env))).head == "/usr\n"


@pytest.mark.parametrize(
    ("argv", "env", "cwd", "code", "text"),
    [
        (("no-such-program",), ENV, "/", 127, "no-such-program: command not found"),
        (("/etc/passwd",), ENV, "/", 126, "cannot run /etc/passwd: Permission denied"),
        (("true", "x" * 3_000_000), ENV, "/", 126, "arguments and environment are too large"),
        (("true",), {**ENV, "BIG": "x" * 3_000_000}, "/", 126, "put large values into a file"),
        (("true",), {**ENV, **{f"V{n}": "x" * 900 for n in range(9000)}}, "/", 126, "too large"),
        (("true", "a\0b"), ENV, "/", 126, "embedded null byte"),
        (("true",), ENV, "/no/such/place", 126, "the directory /no/such/place is not there"),
        ((), ENV, "/", 126, "there is no program to run"),
        (("true",), {**ENV, "A=B": "c"}, "/", 126, "cannot run true"),
    ],
)
async def test_what_cannot_start_is_a_plain_result(
    argv: tuple[str, ...], env: dict[str, str], cwd: str, code: int, text: str
) -> None:
    result = await run_command(Command(argv=argv, cwd=Path(cwd), env=env))
    assert result.exit_code == code
    assert text in result.head
    assert len(result.head) < 500


async def test_one_gigabyte_costs_little_memory_and_time(tmp_path: Path) -> None:
    """In a program of its own: the peak of this one says nothing."""
    script = f"""
import anyio, resource, sys, time
from pathlib import Path
from runner.workspace.commands import Command, run_command
def run(text):
    log = Path({str(tmp_path / "log")!r})
    command = Command(argv=("sh", "-c", text), cwd=Path("/"), env={ENV!r}, log=log)
    return anyio.run(run_command, command)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run("echo warm")
before = peak()
result = run("head -c 1000000000 /dev/zero; echo; echo END")
print(result.total_bytes, result.tail.endswith("END\\n"), len(result.head))
print(peak() - before, result.seconds)
"""
    said = python(script)
    total, ends, head, extra_kb, seconds = said.split()
    assert (total, ends, head) == ("1000000005", "True", str(64 * 1024))
    assert int(extra_kb) < 20_000
    assert float(seconds) < 30
    assert (tmp_path / "log").stat().st_size < 64 * 1024 * 1024 + 100


async def test_two_floods_and_a_quiet_one_share_the_loop() -> None:
    started = time.monotonic()
    quiet = 0.0

    async def watch() -> None:
        nonlocal quiet
        await run_command(shell("sleep 0.1; echo x"))
        quiet = time.monotonic() - started

    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(run_command, shell("yes | head -c 300000000"))
        tasks.start_soon(watch)
    assert quiet < 2.0


async def test_the_last_line_is_told_while_it_runs() -> None:
    lines: list[str] = []
    await run_command(
        shell("for n in 1 2 3; do echo line $n; sleep 0.15; done"), on_line=lines.append
    )
    assert lines == ["line 1", "line 2", "line 3"]


# -- ends ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        "{nap} & {nap}",
        "({nap} | {nap}) & wait",
        "trap '' TERM; {nap}; {nap}",
        "kill -STOP $$; {nap}",
        "set -m; {nap} & {nap}",
        pytest.param("setsid {nap} & {nap}", marks=linux),
        pytest.param("setsid bash -c 'trap \"\" TERM; setsid {nap} & {nap}' & wait", marks=linux),
    ],
)
async def test_a_time_limit_ends_the_whole_tree(script: str, nap: str) -> None:
    started = time.monotonic()
    result = await run_command(shell(script.format(nap=nap), timeout=0.3))
    assert (result.exit_code, result.timed_out) == (None, True)
    assert time.monotonic() - started < 0.3 + 0.3 + 1
    assert sleeping(nap) == []


@pytest.mark.parametrize(
    "script",
    [
        "{nap} & echo x",
        "nohup {nap} >/dev/null 2>&1 & echo x",
        "(trap '' TERM HUP; {nap}) & echo x",
        "({nap} &) ; echo x",
        "set -m; {nap} & echo x",
        pytest.param("env -i {nap} >/dev/null 2>&1 & sleep 0.05; echo x", marks=linux),
        pytest.param("setsid {nap} & echo x", marks=linux),
        pytest.param("setsid {nap} >/dev/null 2>&1 & sleep 0.05; echo x", marks=linux),
        pytest.param(
            "(setsid bash -c '(setsid {nap} &) ; {nap}' >/dev/null 2>&1 &); echo x", marks=linux
        ),
        pytest.param("env -i setsid {nap} & sleep 0.05; echo x", marks=linux),
    ],
)
async def test_what_outlives_its_leader_is_ended(script: str, nap: str) -> None:
    started = time.monotonic()
    result = await run_command(shell(script.format(nap=nap)))
    assert (result.head, result.exit_code, result.timed_out) == ("x\n", 0, False)
    assert time.monotonic() - started < 0.3 + 1
    assert sleeping(nap) == []


@linux
async def test_nothing_escapes_in_the_moment_of_forking(nap: str) -> None:
    """The leader is gone before its children have even executed their programs."""
    script = f"(setsid bash -c '(setsid {nap} &) ; {nap}' >/dev/null 2>&1 &)"
    for _ in range(40):
        await run_command(shell(script))
        assert sleeping(nap) == []
    rows = processes_of(os.getpid())
    assert [row for row in rows if " Z" in row] == []


async def test_a_background_writer_gets_to_finish() -> None:
    result = await run_command(shell("exec > >(sleep 0.03; cat) 2>&1; echo kept"))
    assert (result.head, result.exit_code) == ("kept\n", 0)


async def test_term_is_heard_before_kill() -> None:
    script = "trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done"
    result = await run_command(shell(script, timeout=0.3, grace=3.0))
    assert (result.head[-4:], result.exit_code, result.timed_out) == ("bye\n", None, True)
    assert result.seconds < 2


async def test_a_stopped_command_hears_term() -> None:
    script = "trap 'echo bye; exit' TERM; kill -STOP $$; sleep 60"
    result = await run_command(shell(script, timeout=0.3, grace=5.0))
    assert result.head.endswith("bye\n")
    assert result.seconds < 3


async def test_output_goes_on_being_read_while_a_command_is_ended() -> None:
    script = "trap 'head -c 3000000 /dev/zero; echo done; exit' TERM; while :; do sleep 0.02; done"
    result = await run_command(shell(script, timeout=0.2, grace=5.0))
    assert result.total_bytes >= 3_000_005
    assert result.tail.endswith("done\n")


@pytest.mark.parametrize("script", ["{nap}", "trap '' TERM; setsid {nap} & {nap}; {nap}"])
async def test_cancelling_leaves_nothing_and_is_quick(script: str, nap: str) -> None:
    started = 0.0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_command, shell(script.format(nap=nap)))
        await anyio.sleep(0.3)
        assert sleeping(nap)
        started = time.monotonic()
        tasks.cancel_scope.cancel()
    assert time.monotonic() - started < 0.3 + 1
    assert sleeping(nap) == []


async def test_processes_that_breed_are_all_ended(nap: str) -> None:
    """Fifty parents start a new child ten times a second, whatever becomes of the last one."""
    script = (
        "for n in $(seq 50); do (trap '' TERM; while :; do {nap} & sleep 0.1; done) & done; wait"
    )
    result = await run_command(shell(script.format(nap=nap), timeout=0.5))
    assert result.timed_out
    assert sleeping(nap) == []


# -- many at once ----------------------------------------------------------------------------------


@linux
async def test_commands_do_not_end_each_others_processes(nap: str) -> None:
    """One command ends over and over while the others' escaped children must live on."""
    results: list[str] = []

    async def patient() -> None:
        script = f"setsid bash -c 'sleep 0.8; echo alive' & sleep 0.01; (setsid {nap} &); wait"
        results.append((await run_command(shell(script))).head)

    async def busy() -> None:
        for _ in range(5):
            await run_command(shell(f"setsid {nap} & sleep 0.02"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(patient)
            tasks.start_soon(busy)
    assert results == ["alive\n"] * 3
    assert sleeping(nap) == []


@linux
async def test_children_of_others_are_left_alone(nap: str) -> None:
    """Processes that somebody else in this program started, detached or not."""
    detached = popen(nap, detached=True)
    plain = popen(nap)
    watched = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.5; exit 7")
    brief = popen("true")
    await run_command(shell(f"setsid {nap} & echo x"))
    await run_command(shell("sleep 5", timeout=0.05))
    assert (detached.poll(), plain.poll()) == (None, None)
    assert brief.wait() == 0
    assert await watched.wait() == 7
    for process in (detached, plain):
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert sleeping(nap) == []


async def test_two_hundred_at_once_need_no_more_than_they_should() -> None:
    codes: list[int | None] = []

    async def one(number: int) -> None:
        codes.append((await run_command(shell(f"echo {number}; exit {number % 7}"))).exit_code)

    before = open_files()
    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(one, number)
    assert sorted(code or 0 for code in codes) == sorted(number % 7 for number in range(200))
    assert open_files() <= before + 1


async def test_commands_run_in_several_threads_at_once(nap: str) -> None:
    """As several runs in one program do, each with a loop of its own."""

    async def some() -> list[str]:
        return [(await run_command(shell(f"setsid {nap} & echo {n}"))).head for n in range(3)]

    async def in_thread() -> None:
        assert await anyio.to_thread.run_sync(anyio.run, some) == ["0\n", "1\n", "2\n"]

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(in_thread)
    assert sleeping(nap) == []


async def test_a_runner_inside_a_runner_is_swept(nap: str) -> None:
    inner = f"""
import anyio, os
from pathlib import Path
from runner.workspace.commands import Command, run_command
argv = ("bash", "-c", "setsid {nap} & sleep 60")
anyio.run(run_command, Command(argv=argv, cwd=Path("/"), env={ENV!r}))
"""
    env = {**ENV, MARK: "outer"}
    command = Command(
        argv=(
            sys.executable,
            "-c",
            f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{inner}",
        ),
        cwd=Path.cwd(),
        env=env,
        timeout=1.5,
        grace=0.3,
    )
    assert (await run_command(command)).timed_out
    assert sleeping(nap) == []


@linux
async def test_strays_are_found_at_the_end_of_the_program(nap: str) -> None:
    """Session, variable and pipe given up: only the end of the program can tell whose it was."""
    script = f"""
import anyio
from pathlib import Path
from runner.workspace.commands import Command, run_command
from runner.workspace.processes import adopting, end_strays
argv = ("bash", "-c", "env -i setsid {nap} >/dev/null 2>&1 & sleep 0.1")
with adopting():
    anyio.run(run_command, Command(argv=argv, cwd=Path("/"), env={ENV!r}))
    print(end_strays())
"""
    said = python(script)
    assert said == "1\n"
    assert sleeping(nap) == []


@linux
async def test_this_program_adopts_only_while_commands_run() -> None:
    import ctypes

    def subreaper() -> int:
        value = ctypes.c_int()
        ctypes.CDLL(None).prctl(37, ctypes.byref(value), 0, 0, 0)
        return value.value

    with adopting():
        assert subreaper() == 1
        await run_command(shell("true"))
        assert subreaper() == 1
    assert subreaper() == 0
    assert end_strays() == 0


async def test_a_no_op_costs_little_beyond_its_process() -> None:
    command = Command(argv=("true",), cwd=Path("/"), env=ENV)
    await run_command(command)
    over: list[float] = []
    for _ in range(60):
        floor = seconds_of_true()
        started = time.perf_counter()
        await run_command(command)
        over.append(time.perf_counter() - started - floor)
    assert sorted(over)[len(over) // 4] < 0.003
