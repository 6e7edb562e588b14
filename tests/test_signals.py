"""Signals for real: the command line in a process of its own, interrupted at every kind of work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from scratch import CALC, Scratch, make, with_remote

from runner.events import RunFinished, StepFinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WITHIN = 7.0
"""Seconds from the signal to the end: a CI system's second signal comes after 7.5."""
BROKEN = CALC.replace("a + b", "a - b")
STATUSES = {"succeeded", "failed", "skipped", "blocked", "cancelled"}


@dataclass
class Told:
    """A run that was told to end."""

    scratch: Scratch
    code: int
    seconds: float
    stdout: str
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.scratch.root.parent / "report.json").read_text())

    def status(self) -> dict[str, str]:
        return {step["id"]: step["status"] for step in self.report["steps"]}


class World:
    """A repository, a workflow, and processes that can be told from all others."""

    def __init__(self, where: Path) -> None:
        self.where = where
        self.scratch = make(where)
        self.mark = where / "reached"
        # A duration that nobody else sleeps: what is left over can be found.
        self.tag = f"987.{os.getpid()}{time.monotonic_ns() % 10**9}"
        self.sleep = f"sleep {self.tag}"
        self.reach = f"echo x >> {self.mark}"

    def write_workflow(self, text: str) -> None:
        (self.where / "workflow.yaml").write_text(dedent(text))

    def start(self, *options: str) -> subprocess.Popen[str]:
        argv = [
            *(sys.executable, "-m", "runner", "exec", str(self.where / "workflow.yaml")),
            *("--state-dir", str(self.where / "state"), "--json"),
            *("--report", str(self.where / "report.json")),
            *("--events", str(self.where / "events.jsonl")),
            *options,
        ]
        return subprocess.Popen(
            argv,
            cwd=self.scratch.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def tell(
        self,
        *options: str,
        numbers: tuple[signal.Signals, ...] = (signal.SIGINT,),
        when: Callable[[], bool] | None = None,
        pause: float = 0.0,
    ) -> Told:
        """Start, wait until it is where it should be, send the signals, wait for its end."""
        process = self.start(*options)
        try:
            self.wait_until(when or self.mark.exists, process)
            time.sleep(pause)
            began = time.monotonic()
            for at, number in enumerate(numbers):
                time.sleep(0.3 if at else 0)  # two at once would be one to the kernel
                process.send_signal(number)
            out, err = process.communicate(timeout=30)
            return Told(self.scratch, process.returncode, time.monotonic() - began, out, err)
        finally:
            if process.returncode is None:
                process.kill()
                process.communicate()

    def wait_until(self, reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 60
        while not reached():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def events(self) -> list[dict[str, Any]]:
        file = self.where / "events.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def heard(self, kind: str, **fields: str) -> Callable[[], bool]:
        """Return whether an event of this kind has been written."""

        def test() -> bool:
            return any(
                event["type"] == kind and fields.items() <= event.items() for event in self.events()
            )

        return test

    def left(self) -> dict[int, str]:
        """Return the processes of this world that still run, with their command lines."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if self.tag in line or str(self.where) in line:
                    found[int(entry.name)] = line
        return found


@pytest.fixture
def here(world: Path) -> Iterator[World]:
    place = World(world)
    yield place
    for pid in place.left():
        os.kill(pid, signal.SIGKILL)


def assert_ended_well(here: World, told: Told, code: int) -> None:
    """Hold what is promised for every first signal, whatever went on."""
    assert told.code == code, told.stderr
    assert told.seconds < WITHIN, told.stderr
    assert here.left() == {}
    last = here.events()[-1]
    assert last["type"] == "run_finished"
    assert last["exit_code"] == code
    report = told.report
    assert json.loads(told.stdout) == report
    assert report["exit_code"] == code
    assert report["status"] == "cancelled"
    assert {step["status"] for step in report["steps"]} <= STATUSES
    planned = {plan["id"] for plan in here.events()[0]["steps"]}
    ended = {e["outcome"]["id"] for e in here.events() if e["type"] == "step_finished"}
    assert planned <= ended
    runs = subprocess.run(
        [sys.executable, "-m", "runner", "show", "--json", "--state-dir", here.where / "state"],
        cwd=here.scratch.root,
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(runs.stdout) == report


def fork(here: World) -> str:
    """Return a command with children of every sort, none of which ends by itself."""
    return " ".join(
        [
            f"(trap '' TERM INT HUP; {here.sleep}; {here.sleep}) &",
            f"setsid {here.sleep} &",
            f"(nohup {here.sleep} >/dev/null 2>&1 &) ;",
            f"{here.reach}; wait",
        ]
    )


@pytest.fixture(autouse=True)
def _hear_hangups() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]  pytest's
    """Undo `nohup`: a SIGHUP that is ignored stays so in children, and then in the runner."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["INT", "TERM", "HUP"],
)
def test_in_the_middle_of_a_command(here: World, number: signal.Signals, code: int) -> None:
    here.write_workflow(f"""
        steps:
          - id: before
            run: echo made > made.txt
          - id: long
            run: {fork(here)}
          - id: after
            run: "true"
        """)
    told = here.tell(numbers=(number,))
    assert_ended_well(here, told, code)
    assert told.status() == {"before": "succeeded", "long": "cancelled", "after": "cancelled"}


def test_a_second_signal_ends_it_at_once(here: World) -> None:
    here.write_workflow(f"""
        steps:
          - id: long
            run: {fork(here)}
        """)
    told = here.tell(numbers=(signal.SIGINT, signal.SIGINT))
    assert told.code == 130
    assert told.seconds < 1.5
    assert here.left() == {}


MEND = """
steps:
  - id: test
    run: {command}
    fix: {{ agent: test-fixer, attempts: 2 }}
"""
EDIT = '{ call: edit_file, with: { path: calc.py, old_text: "a - b", new_text: "a + b" } }'


def scripted(here: World, rules: str) -> list[str]:
    """Break the tree, in a way that is not committed; return the options that name the models."""
    here.scratch.write("calc.py", BROKEN)
    here.scratch.write("new.txt", "untracked\n")
    script = here.where / "script.yaml"
    script.write_text(dedent(rules))
    return [f"--model=cheap=script:{script}", f"--model=main=script:{script}"]


def seen(here: World) -> tuple[str, dict[str, bytes]]:
    """Return the tree as the user's git tells it, and its bytes."""
    root = here.scratch.root
    files = {p.name: p.read_bytes() for p in root.iterdir() if p.is_file()}
    return here.scratch.git("status", "--porcelain"), files


def test_while_a_model_thinks_after_it_has_changed_a_file(here: World) -> None:
    here.write_workflow(MEND.format(command="grep -q 'a + b' calc.py"))
    models = scripted(here, f"""
        rules:
          - when: {{ role: cheap }}
            turns: [{EDIT}, {{ done: mended, delay: 60s }}]
        """)  # fmt: skip
    before = seen(here)
    changed = here.heard("tool_called", tool="edit_file")
    told = here.tell(*models, when=changed, pause=0.3)
    assert_ended_well(here, told, 130)
    assert seen(here) == before
    assert any(event["type"] == "restored" for event in here.events())
    assert told.status() == {"test": "cancelled"}


def test_while_the_check_of_a_mend_runs(here: World) -> None:
    here.write_workflow(MEND.format(command=f"grep -q 'a + b' calc.py || exit 1; {fork(here)}"))
    models = scripted(here, f"""
        rules:
          - when: {{ role: cheap }}
            turns: [{EDIT}, {{ done: mended }}]
        """)  # fmt: skip
    before = seen(here)
    told = here.tell(*models)
    assert_ended_well(here, told, 130)
    assert seen(here) == before


def test_in_the_main_agents_turn(here: World) -> None:
    here.write_workflow("""
        steps:
          - id: implement
            prompt: Make it add.
        """)
    models = scripted(here, f"""
        rules:
          - when: {{ role: main }}
            turns: [{EDIT}, {{ done: mended, delay: 60s }}]
        """)  # fmt: skip
    before = seen(here)
    told = here.tell(*models, when=here.heard("tool_called", tool="edit_file"), pause=0.3)
    assert_ended_well(here, told, 130)
    assert seen(here) == before


SHIP = """
steps:
  - id: test
    run: "true"
  - id: commit
    commit: { message: "fix: add" }
  - id: push
    push: { remote: origin }
"""


def test_in_a_commit_hook(here: World) -> None:
    with_remote(here.scratch)
    hook = here.scratch.root / ".git/hooks/pre-commit"
    hook.write_text(f"#!/bin/bash\n{fork(here)}\n")
    hook.chmod(0o755)
    here.scratch.write("calc.py", CALC + "# more\n")
    here.write_workflow(SHIP)
    before, head = seen(here), here.scratch.git("rev-parse", "HEAD")
    told = here.tell()
    assert_ended_well(here, told, 130)
    assert seen(here) == before
    assert here.scratch.git("rev-parse", "HEAD") == head
    assert told.status() == {"test": "succeeded", "commit": "cancelled", "push": "cancelled"}


def test_in_a_push(here: World) -> None:
    remote = with_remote(here.scratch)
    hook = remote / "hooks/pre-receive"
    hook.write_text(f"#!/bin/bash\n{fork(here)}\n")
    hook.chmod(0o755)
    here.scratch.write("calc.py", CALC + "# more\n")
    here.write_workflow(SHIP)
    told = here.tell()
    assert_ended_well(here, told, 130)
    assert told.status() == {"test": "succeeded", "commit": "succeeded", "push": "cancelled"}
    assert here.scratch.git("status", "--porcelain") == ""
    assert here.scratch.git("ls-remote", "origin").count("refs/heads/") == 1


def test_what_runs_always_still_runs_within_its_budget(here: World) -> None:
    here.write_workflow(f"""
        steps:
          - id: long
            run: {fork(here)}
          - id: down
            needs: [long]
            when: always
            run: echo down > {here.where}/down.txt
          - id: slow
            needs: [down]
            when: always
            run: {fork(here)}
          - id: after
            needs: [down]
            run: "true"
        """)
    told = here.tell()
    assert_ended_well(here, told, 130)
    assert (here.where / "down.txt").read_text() == "down\n"
    status = told.status()
    assert status == {
        "long": "cancelled", "down": "succeeded", "slow": "cancelled", "after": "cancelled",
    }  # fmt: skip


def test_what_runs_always_in_a_used_workflow_runs_too_and_once(here: World) -> None:
    down = here.where / "down.txt"
    (here.where / "inner.yaml").write_text(
        dedent(f"""
        steps:
          - id: long
            run: {fork(here)}
          - id: down
            when: always
            run: echo inner >> {down}
        """)
    )
    here.write_workflow(f"""
        steps:
          - id: part
            uses: ./inner.yaml
          - id: down
            when: always
            needs: []
            run: echo outer >> {down}; {here.sleep}
          - id: last
            when: always
            run: echo last >> {down}
        """)
    told = here.tell("-j", "4")
    assert_ended_well(here, told, 130)
    assert told.status() == {
        "part": "cancelled", "down": "cancelled", "last": "succeeded",
        "part/long": "cancelled", "part/down": "succeeded",
    }  # fmt: skip
    assert down.read_text().split() == ["outer", "inner", "last"]


async def test_cancelled_by_the_program_around_it(here: World) -> None:
    repo = here.scratch
    with anyio.move_on_after(0.5) as scope:
        await repo.run(f"""
            steps:
              - id: long
                run: {fork(here)}
              - id: down
                when: always
                run: echo down > {here.where}/down.txt
            """)
    assert scope.cancelled_caught
    assert here.left() == {}
    assert (here.where / "down.txt").exists()
    ended = {event.outcome.id: str(event.outcome.status) for event in repo.of(StepFinished)}
    assert ended == {"long": "cancelled", "down": "succeeded"}
    assert repo.events[-1] == repo.of(RunFinished)[0]
    assert repo.of(RunFinished)[0].exit_code == 130
