"""`runner restore`: brings the tree back to a snapshot of a run, and can be undone itself."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from runner.cli.options import completing, directory_option, state_option
from runner.cli.output import print_text, tell
from runner.cli.where import journal_of
from runner.errors import UsageError
from runner.events import SnapshotTaken
from runner.prepare import work_tree
from runner.workspace.state import repo_state, state_root
from runner.workspace.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from runner.journal import Journal

SHOWN = 20
"""Paths named after a restore; the rest is counted."""


@click.command("restore")
@click.argument("run", default="last", shell_complete=completing("runs"))
@click.argument("step", required=False, shell_complete=completing("run_steps"))
@click.option("--tree", metavar="ID", help="Restore this snapshot instead, from --list.")
@click.option("--list", "listing", is_flag=True, help="List the snapshots; change nothing.")
@state_option
@directory_option
def restore_command(
    run: str,
    step: str | None,
    tree: str | None,
    listing: bool,  # noqa: FBT001  click passes flags by name
    state_dir: Path | None,
    directory: Path,
) -> int:
    """Bring the tree back to before RUN, or to before STEP of it.

    The present is kept as a snapshot first, so that a restore can be undone. Ignored files, the git
    index and git's history are left alone. RUN is a run id, a part of one, or `last`.
    """
    root = work_tree(directory.resolve())
    with journal_of(directory, state_dir) as journal:
        _refuse_while_running(journal, root)
        run_id = journal.find(run)
        snapshots = [e for e in journal.events(run_id) if isinstance(e, SnapshotTaken)]
    if listing:
        print_text(render_snapshots(snapshots))
        return 0
    target = named(tree, snapshots, run_id) if tree else chosen(snapshots, run_id, step)
    state = repo_state(root, state_root(state_dir))
    tell(anyio.run(partial(bring_back, root, state, target)))
    return 0


def named(tree: str, snapshots: Sequence[SnapshotTaken], run_id: str) -> str:
    """Return the id of the run's only snapshot that begins so; a whole id may be any snapshot's.

    Raises:
        UsageError: There is none, or more than one.
    """
    found = {one.tree for one in snapshots if one.tree.startswith(tree)}
    if len(found) == 1:
        return found.pop()
    if re.fullmatch(r"[0-9a-f]{40}(?:[0-9a-f]{24})?", tree):
        return tree  # kept by another run, or by an earlier restore
    message = f"--tree {tree}: run {run_id} has {'more than one' if found else 'no'} such snapshot"
    raise UsageError(message, hint=f"See them with: runner restore {run_id} --list")


def chosen(snapshots: Sequence[SnapshotTaken], run_id: str, step: str | None) -> str:
    """Return the first snapshot of the run, or the first of one step: the tree before it.

    Raises:
        UsageError: There is none.
    """
    found = [one for one in snapshots if step is None or one.step == step]
    if found:
        return found[0].tree
    if step is None:
        message = f"run {run_id} took no snapshot: none of its steps could change the tree"
        raise UsageError(message)
    steps = dict.fromkeys(one.step for one in snapshots if one.step)
    message = f"run {run_id} took no snapshot before step {step!r}"
    hint = f"Steps with snapshots: {', '.join(steps)}" if steps else "No step of it has one."
    raise UsageError(message, hint=hint)


def render_snapshots(snapshots: Iterable[SnapshotTaken]) -> str:
    """Render one line for each snapshot: its id, the step, what it was taken for."""
    rows = [(one.tree, one.step or "-", one.label) for one in snapshots]
    width = max((len(row[1]) for row in rows), default=0)
    lines = [f"{tree}  {step:<{width}}  {label}" for tree, step, label in rows]
    return "\n".join(lines) or "no snapshots"


async def bring_back(root: Path, state: Path, target: str) -> str:
    """Snapshot the present, restore the target, and say what changed and how to undo it."""
    tree = await Tree.open(root, state)
    present = await tree.snapshot()
    if present == target:
        return "The tree is already as it was then; nothing changed."
    restored, external = await tree.restore(present, target)
    count = f"{len(restored)} path{'s' if len(restored) != 1 else ''}"
    lines = [f"Restored {count}:", *(f"  {path}" for path in restored[:SHOWN])]
    if len(restored) > SHOWN:
        lines.append(f"  ... and {len(restored) - SHOWN} more")
    lines += [f"Left alone, for it changed meanwhile: {path}" for path in external]
    where = f"-C {root} --state-dir {state.parent.parent}"
    lines.append(f"To undo this: runner restore {where} --tree {present}")
    return "\n".join(lines)


def _refuse_while_running(journal: Journal, root: Path) -> None:
    for row in journal.runs():
        if row.status == "running" and row.root == str(root):
            message = f"run {row.id} is going on in {root}"
            raise UsageError(message, hint="Wait for its end, or interrupt it, then restore.")
