"""What the sandbox costs a command, and where the time goes.

    python benchmarks/sandbox_cost.py [-C DIR] [--times N]

Every round runs each way once, so that what else the machine does touches all alike; the figures
are medians. The goal is less than 40 ms beyond the command without a sandbox.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from runner.sandbox.bubblewrap import Bubblewrap, arguments_for, find_program
from runner.sandbox.mounts import mounts_for
from runner.sandbox.nouns import Need
from runner.sandbox.surroundings import filled_caches, look_around
from runner.workspace.commands import Command, run_command
from runner.workspace.environment import clean_environment

if TYPE_CHECKING:
    from collections.abc import Callable

TRUE = ("/bin/true",)


def milliseconds(did: Callable[[], object]) -> float:
    """Return how long it took."""
    began = time.perf_counter()
    did()
    return (time.perf_counter() - began) * 1000


async def ran(command: Command) -> float:
    """Return how long a command took from the call to its result."""
    began = time.perf_counter()
    result = await run_command(command)
    assert result.exit_code == 0, result.head
    return (time.perf_counter() - began) * 1000


async def measure(root: Path, state: Path, times: int) -> None:
    """Print the table."""
    program = find_program()
    if program is None:
        print("bubblewrap is not installed")
        return
    around = look_around(root, state, os.environ)
    need = Need(tree=around.root)
    mounts = mounts_for(around, need, filled=filled_caches(around, mend=False))
    sandbox = Bubblewrap(program, around)
    env = clean_environment(base=os.environ, declared={}, inherit=(), secrets={}, extra={})
    command = Command(argv=TRUE, cwd=around.root, env=env)
    few = [*arguments_for((), network=False), "--bind", "/", "/", "--dev", "/dev"]
    least = (str(program), *few, "--proc", "/proc", "--chdir", "/", "--", *TRUE)
    ways = {
        "the command alone": command,
        "bwrap with its namespaces and no mounts": Command(argv=least, cwd=around.root, env=env),
        "bwrap, mounting as for a command": None,
        "the command in the sandbox": None,
    }
    taken = {name: list[float]() for name in ways}
    looked, decided = list[float](), list[float]()
    for _ in range(times):
        looked.append(milliseconds(lambda: look_around(root, state, os.environ)))
        decided.append(milliseconds(lambda: sandbox.confine(command, need)))
        for name, way in ways.items():
            taken[name].append(await ran(way or made(name, sandbox, command, need)))
    alone = statistics.median(taken["the command alone"])
    print(f"{len(mounts)} mounts; medians of {times} rounds, milliseconds\n")
    print(f"{'looking at the machine, once per run':44}{statistics.median(looked):8.1f}")
    print(f"{'deciding what is mounted, per command':44}{statistics.median(decided):8.1f}")
    for name, times_of in taken.items():
        middle = statistics.median(times_of)
        print(f"{name:44}{middle:8.1f}  {middle - alone:+8.1f}  best {min(times_of):.1f}")


def made(name: str, sandbox: Bubblewrap, command: Command, need: Need) -> Command:
    """Return the confined command, or the same without the shell that waits within."""
    confined = sandbox.confine(command, need)
    if name == "the command in the sandbox":
        return confined
    launcher = confined.launcher
    return replace(confined, launcher=launcher[: launcher.index("--") + 1])


def main() -> None:
    """Measure in the directory that is named, or in a new one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-C", dest="root", type=Path)
    parser.add_argument("--times", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = asked.root or Path(scratch) / "tree"
        root.mkdir(exist_ok=True)
        anyio.run(measure, root, Path(scratch) / "state", asked.times)


if __name__ == "__main__":
    main()
