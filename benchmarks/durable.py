"""Measures what being durable costs: `python benchmarks/durable.py [--steps 500] [--profile]`.

Prints the cost of an event, of a run's beginning, and of resuming a run of many steps, all but one
of which are finished, each with the goal that `runner` has for it. Times are of the processor: what
else the machine does is no cost of ours; waiting for the disk is told apart.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from runner.api import execute, execute_again
from runner.events import AttemptStarted, CommandStarted, GitIntent, RunStarted, StepStarted
from runner.journal import Journal, new_run_id
from runner.outcome import CommandResult, Rung
from runner.plan import Options, ResumeOptions
from runner.session import Outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.events import Event
    from runner.workspace.commands import Command

EVENTS = 3_000
PASSED = CommandResult(
    exit_code=0, timed_out=False, seconds=0.0, head="", tail="", total_bytes=0, log=None
)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=500, help="of the run that is resumed (500)")
    parser.add_argument("--profile", action="store_true", help="show where the resume's time goes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="durable-") as name:
        where = Path(name).resolve()
        rows = [*events(where), *beginning(where), *resuming(where, given.steps, given.profile)]
    for what, milliseconds, goal in rows:
        say(f"{what:<58}{milliseconds:>9.3f} ms   goal {goal}")


def events(where: Path) -> list[tuple[str, float, str]]:
    """Write many events, as a run does."""
    some: list[Event] = [
        StepStarted("lint", continued=False),
        AttemptStarted("lint", 1, Rung.COMMAND, None),
        CommandStarted("lint", "run", "ruff check .", 1, ("bash", "-c", "ruff check .")),
    ]
    with Journal.open(where / "events") as journal:
        run = begun(journal, where)
        taken = [spent(lambda n=n: journal.append(run, some[n % 3])) for n in range(EVENTS)]
        intent = GitIntent("commit", "commit", {"parent": "0" * 40, "tree": "1" * 40})
        durable = [waited(lambda: journal.append(run, intent)) for _ in range(20)]
    return [
        ("an event: mean", statistics.mean(taken), "< 1"),
        ("an event: 99 of 100 within", sorted(taken)[int(EVENTS * 0.99)], "< 1"),
        ("what git is about to do: median wait for the disk", statistics.median(durable), "-"),
    ]


def begun(journal: Journal, where: Path) -> str:
    """Begin a run in the journal."""
    run = new_run_id(time.time())
    journal.begin(run, where)
    return run


def beginning(where: Path) -> list[tuple[str, float, str]]:
    """Open a new journal, take the lease, write the first event; as often as it needs."""
    taken: list[float] = []
    started: list[Event] = []
    anyio.run(_steps, where / "seen", 1, [started.append])
    first = next(one for one in started if isinstance(one, RunStarted))
    for number in range(20):

        def begin(number: int = number) -> None:
            with Journal.open(where / f"begin-{number % 2}") as journal:
                journal.append(begun(journal, where), first)

        taken.append(spent(begin))
    return [
        ("the beginning of a run, journal not there yet", taken[0], "< 10"),
        ("the beginning of a run, journal there: median", statistics.median(taken[2:]), "< 10"),
    ]


def resuming(where: Path, steps: int, profile: bool) -> list[tuple[str, float, str]]:  # noqa: FBT001
    """Kill a run in its last step, and resume it; commands take no time here."""
    child = os.fork()
    if not child:
        nobody: list[Callable[[Event], None]] = []
        anyio.run(_steps, where / "long", steps, nobody)
        os._exit(1)
    os.waitpid(child, 0)
    told: list[tuple[float, Event]] = []
    options = ResumeOptions(state_dir=where / "long" / "state")
    profiler = cProfile.Profile()
    began = time.process_time()

    async def go() -> None:
        await execute_again(
            options=options,
            cwd=where / "long" / "repo",
            sinks=[lambda event: told.append((time.process_time(), event))],
            outside=Outside(run_command=_pass),
        )

    if profile:
        profiler.runcall(anyio.run, go)
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(35)
    else:
        anyio.run(go)
    ended = time.process_time()
    first = next(at for at, event in told if isinstance(event, CommandStarted))
    what = f"resume of a run of {steps} steps"
    return [
        (f"{what}: until its next command begins", (first - began) * 1000, "< 300"),
        (f"{what}: until all is over", (ended - began) * 1000, "-"),
    ]


async def _steps(where: Path, count: int, sinks: list[Callable[[Event], None]]) -> None:
    """Run a chain of steps, and be killed in the last one where there are many."""
    root = where / "repo"
    (root / ".git").mkdir(parents=True)
    ids = [f"step-{number}" for number in range(count)]
    workflow = {"name": "long", "steps": [{"id": one, "run": "true"} for one in ids]}
    (where / "workflow.yaml").write_text(json.dumps(workflow))
    done = 0

    async def command(command: Command, *, on_line: object = None) -> CommandResult:
        nonlocal done
        done += 1
        if done == count > 1:
            os._exit(9)
        return await _pass(command, on_line=on_line)

    await execute(
        where / "workflow.yaml",
        options=Options(state_dir=where / "state"),
        cwd=root,
        sinks=sinks,
        outside=Outside(run_command=command),
    )


async def _pass(command: Command, *, on_line: object = None) -> CommandResult:
    del command, on_line
    await anyio.lowlevel.checkpoint()
    return PASSED


def waited(work: Callable[[], object]) -> float:
    """Return how long somebody waits for something, in milliseconds."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def spent(work: Callable[[], object]) -> float:
    """Return how long the processor works at something, in milliseconds."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def say(line: str) -> None:
    """Print a line."""
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
