"""Several runs at once in one process, each in a directory of its own."""

import tempfile
from pathlib import Path

import anyio

from runner import run

WORKFLOW = "name: one-of-many\nsteps:\n  - { id: touch, run: echo ok > done.txt }\n"


def make(folder: Path) -> Path:
    """Make a directory with a workflow."""
    folder.mkdir()
    (folder / "workflow.yaml").write_text(WORKFLOW)
    return folder


async def one(folder: Path, results: dict[str, int | None]) -> None:
    """Run the workflow of one directory."""
    report = await run(folder / "workflow.yaml", cwd=folder)
    results[folder.name] = report.exit_code


async def main() -> None:
    """Start them all, and wait for all."""
    results: dict[str, int | None] = {}
    with tempfile.TemporaryDirectory() as name:
        folders = [make(Path(name, letter)) for letter in "abc"]
        async with anyio.create_task_group() as group:
            for folder in folders:
                group.start_soon(one, folder, results)
    print(sorted(results.items()))


anyio.run(main)

# Prints:
# [('a', 0), ('b', 0), ('c', 0)]
