"""Prints what the runner costs beside what it is compared with; both are run in turn.

    python benchmarks/ratios.py [--rounds N]

Ratios hold on a busy machine, too. Milliseconds beyond a command are those of the processor: what
others do meanwhile does not count, and with nobody else they are what a clock shows. Exit code 1
when a figure misses its goal.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import TYPE_CHECKING

import anyio

from runner.loader import parse_workflow
from runner.workspace.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Callable

RUNNER = (sys.executable, "-m", "runner")
SHELL = ("bash", "-eo", "pipefail", "-c", "true")
STEPS = 1000
FILES = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One figure and its goal."""

    name: str
    value: float
    goal: float
    unit: str

    def __str__(self) -> str:
        verdict = "ok" if self.value < self.goal else "MISSED"
        return f"{self.name:<58}{self.value:>8.2f} {self.unit:<3} goal < {self.goal:g}  {verdict}"


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that the action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def worked(action: Callable[[], object]) -> float:
    """Return the processor's seconds of the action's processes and all that they waited for."""
    began = getrusage(RUSAGE_CHILDREN)
    action()
    ended = getrusage(RUSAGE_CHILDREN)
    return ended.ru_utime - began.ru_utime + ended.ru_stime - began.ru_stime


def command(*argv: str, cwd: Path | None = None) -> Callable[[], object]:
    """Return an action that runs a command and fails when it does."""

    def action() -> None:
        subprocess.run(argv, cwd=cwd, check=True, capture_output=True, env=ENVIRON)

    return action


def in_turn(
    rounds: int,
    *actions: Callable[[], object],
    measure: Callable[[Callable[[], object]], float] = timed,
) -> list[list[float]]:
    """Measure the actions one after the other, so many rounds; a first round does not count."""
    for action in actions:
        action()
    return [
        list(times)
        for times in zip(*([measure(a) for a in actions] for _ in range(rounds)), strict=True)
    ]


def help_page(rounds: int) -> Row:
    """Compare the first help page with importing click."""
    ours, click = in_turn(
        rounds, command(*RUNNER, "--help"), command(sys.executable, "-c", "import click")
    )
    ratio = median(a / b for a, b in zip(ours, click, strict=True))
    return Row("runner --help / python -c 'import click'", ratio, 2.5, "x")


def one_step(rounds: int, folder: Path) -> Row:
    """Compare a workflow of one passing step with its bare command."""
    (folder / "one.yaml").write_text('steps:\n  - { id: a, run: "true" }\n')
    ours, bare = in_turn(
        rounds,
        command(*RUNNER, "exec", "one.yaml", cwd=folder),
        command(*SHELL, cwd=folder),
        measure=worked,
    )
    extra = median(a - b for a, b in zip(ours, bare, strict=True))
    return Row("one passing step beyond its command", extra * 1000, 250, "ms")


def many_steps(rounds: int, folder: Path) -> Row:
    """Compare many independent steps with as many bare commands, as many at once."""
    step = '  - {{ id: s{0}, needs: [], run: "true" }}\n'
    (folder / "many.yaml").write_text("steps:\n" + "".join(map(step.format, range(STEPS))))
    (folder / "one.yaml").write_text('steps:\n  - { id: a, run: "true" }\n')

    def bare() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in [pool.submit(command(*SHELL, cwd=folder)) for _ in range(STEPS)]:
                done.result()

    many, one, commands = in_turn(
        max(1, rounds // 5),
        command(*RUNNER, "exec", "many.yaml", cwd=folder),
        command(*RUNNER, "exec", "one.yaml", cwd=folder),
        bare,
        measure=worked,
    )
    extra = median(a - b - c for a, b, c in zip(many, one, commands, strict=True)) / STEPS
    return Row(f"each of {STEPS} steps beyond its process", extra * 1000, 3, "ms")


def loading(rounds: int) -> Row:
    """Time the loading of a large file, as a run does it."""
    step = (
        "  - id: s{0}\n    run: echo {0}\n    timeout: 10m\n    sources: [src/**]\n    fix: fixer\n"
    )
    text = "name: big\nsteps:\n" + "".join(map(step.format, range(200)))
    (ours,) = in_turn(rounds, lambda: parse_workflow(text, file=None))
    return Row("loading a file of 200 steps", median(ours) * 1000, 100, "ms")


def hashing(rounds: int, folder: Path) -> Row:
    """Time the hash of a large tree that has not changed."""
    root, state = folder / "tree", folder / "tree-state"
    for at in range(FILES):
        path = root / f"d{at % 100}" / f"f{at}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{at}\n")
    state.mkdir(mode=0o700)
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)

    async def measure() -> list[float]:
        tree = await Tree.open(root, state)
        await tree.snapshot()
        times: list[float] = []
        for _ in range(rounds):
            began = time.perf_counter()
            await tree.snapshot()
            times.append(time.perf_counter() - began)
        return times

    return Row(
        f"hash of an unchanged tree of {FILES} files", median(anyio.run(measure)) * 1000, 60, "ms"
    )


def main() -> int:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    missed = False
    with tempfile.TemporaryDirectory(prefix="runner-ratios-") as name:
        folder = Path(name) / "work"
        folder.mkdir()
        ENVIRON["SUBRUNNER_STATE_DIR"] = str(Path(name) / "state")
        for figure in (
            lambda: help_page(rounds),
            lambda: one_step(rounds, folder),
            lambda: many_steps(rounds, folder),
            lambda: loading(rounds),
            lambda: hashing(rounds, Path(name)),
        ):
            row = figure()
            missed = missed or row.value >= row.goal
            print(row, flush=True)
    return 1 if missed else 0


ENVIRON = {**os.environ, "NO_COLOR": "1"}
# Compiling all modules anew at each start is not what is measured.
ENVIRON.pop("PYTHONDONTWRITEBYTECODE", None)

if __name__ == "__main__":
    sys.exit(main())
