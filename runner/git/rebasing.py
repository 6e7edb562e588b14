"""Puts this run's own commits on top of the upstream's; no code of the repository runs."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.committing import (
    Move,
    commit_tree,
    fill_lock,
    identity_environment,
    locked_index,
    move_head,
    put_entries,
)
from runner.git.facts import Conflict, Rebased
from runner.git.staging import (
    Stage,
    add_paths,
    changes_between,
    refuse_filtered,
    tree_of,
    write_tree,
)
from runner.git.status import copy_index

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence
    from pathlib import Path

    from runner.git.shadow import Shadow
    from runner.outcome import Change

_MARKER = re.compile(rb"^(?:<{7} |>{7} |\|{7} )", re.MULTILINE)
_BY_HAND = "git pull --rebase && git push"


@frozen
class Rebase:
    """This run's commits, oldest first, the commit that they began on, and where they go."""

    ref: str
    base: str
    commits: tuple[str, ...]
    onto: str
    identity: tuple[str, str]

    @property
    def head(self) -> str:
        """The last of this run's commits."""
        return self.commits[-1]


async def plan_rebase(
    shadow: Shadow, ref: str, made: Sequence[str], onto: str, identity: tuple[str, str]
) -> Rebase:
    """Check that only this run's own commits would be rewritten.

    Raises:
        GitRefused: The branch holds others on top of, between or below them.
    """
    out = await shadow.check("rev-list", "--parents", "--reverse", f"{onto}..HEAD")
    lines = [line.split() for line in out.decode().splitlines()]
    chain = tuple(line[0] for line in lines)
    if not chain:
        raise GitRefused("the upstream already has this run's commits: there is nothing to rebase")
    if not set(chain) <= set(made):
        raise GitRefused(
            "the branch holds earlier commits of yours that the remote has not", hint=_BY_HAND
        )
    if any(len(line) != 2 for line in lines):
        raise GitRefused("this run's commits are no straight line on the upstream", hint=_BY_HAND)
    return Rebase(ref, lines[0][1], chain, onto, identity)


async def rebase(stage: Stage, plan: Rebase, *, index_name: str) -> Rebased | Conflict:
    """Merge each commit onto the upstream, then move branch, index and work tree at once."""
    tip = await replay(stage.shadow, plan)
    if isinstance(tip, Conflict):
        return tip
    changed = await _advance(stage, plan, tip, index_name)
    return Rebased(tip, plan.onto, changed)


async def replay(shadow: Shadow, plan: Rebase) -> str | Conflict:
    """Merge each commit onto the upstream; nothing refers to the last one, which is returned."""
    who = identity_environment(plan.identity)
    tip = plan.onto
    for commit in plan.commits:
        tree, paths, detail = await _merged(shadow, commit, tip, who)
        if paths:
            return await _whole_conflict(shadow, plan, who, detail)
        tip = await _recommit(shadow, commit, tree, tip, who)
    return tip


async def touched_by(shadow: Shadow, plan: Rebase) -> frozenset[str]:
    """Return the paths that a rebase, or showing its conflict, changes in the work tree."""
    end = await replay(shadow, plan)
    tree = end.tree if isinstance(end, Conflict) else await tree_of(shadow, end)
    changes = await changes_between(shadow, await tree_of(shadow, plan.head), tree)
    return frozenset(change.path for change in changes)


async def _merged(
    shadow: Shadow, commit: str, tip: str, who: dict[str, str]
) -> tuple[str, tuple[str, ...], str]:
    """Apply what *commit* changed to *tip*: (tree, paths in conflict, what git said).

    `merge-tree` picks the merge base itself before git 2.40. A commit of the tip's tree on the
    picked commit's parent makes that parent the base.
    """
    parent = (await shadow.check("rev-parse", "--verify", f"{commit}^")).decode().strip()
    ours = await commit_tree(shadow, await tree_of(shadow, tip), parent, "merge", who)
    flags = ("--write-tree", "-z", "--name-only", "--messages")
    done = await shadow.run("merge-tree", *flags, ours, commit)
    if done.code not in (0, 1):
        raise GitRefused(
            f"git cannot merge without a work tree: {done.said}",
            hint=f"git 2.38 or newer is needed; by hand: {_BY_HAND}",
        )
    head, _, said = done.out.partition(b"\0\0")
    tree, *paths = [os.fsdecode(item) for item in head.split(b"\0") if item]
    conflicts = tuple(dict.fromkeys(paths)) if done.code else ()
    lines = said.replace(b"\0", b"\n").decode("utf-8", "replace").splitlines()
    return (
        tree,
        conflicts,
        "\n".join(one for one in lines if one.startswith("CONFLICT ") and ":" in one)[:2000],
    )


async def _recommit(
    shadow: Shadow, commit: str, tree: str, parent: str, who: dict[str, str]
) -> str:
    form = "--format=%an%x00%ae%x00%aI%x00%B"
    out = await shadow.check("show", "-s", "--no-mailmap", form, commit)
    name, address, date, message = os.fsdecode(out).split("\0", 3)
    author = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": address, "GIT_AUTHOR_DATE": date}
    return await commit_tree(shadow, tree, parent, message, who | author)


async def _whole_conflict(
    shadow: Shadow, plan: Rebase, who: dict[str, str], detail: str
) -> Conflict:
    """Merge all of the run's commits as one: one conflict to resolve, one commit afterwards."""
    total = await commit_tree(
        shadow, await tree_of(shadow, plan.head), plan.base, "all commits of the run", who
    )
    tree, paths, said = await _merged(shadow, total, plan.onto, who)
    message = os.fsdecode(await shadow.check("show", "-s", "--format=%B", plan.head))
    return Conflict(paths, tree, plan.onto, message, said or detail)


async def _advance(stage: Stage, plan: Rebase, tip: str, index_name: str) -> tuple[str, ...]:
    """Bring work tree, index and branch from the run's last commit to *tip*."""
    shadow = stage.shadow
    changes = await changes_between(
        shadow, await tree_of(shadow, plan.head), await tree_of(shadow, tip)
    )
    paths = tuple(change.path for change in changes)
    with locked_index(shadow) as lock:
        index = copy_index(shadow, shadow.directory / index_name)
        await refuse_filtered(stage, paths, index)
        await switch_tree(shadow, plan.head, tip, index)
        move = Move(plan.ref, plan.head, tip, f"rebase (runner): onto {plan.onto}")
        fill_lock(shadow, index, lock)
        try:
            await move_head(shadow, move, identity_environment(plan.identity))
        except GitRefused:
            await switch_tree(shadow, tip, plan.head, index)
            raise
        lock.replace(shadow.places.git_dir / "index")
    return paths


async def switch_tree(shadow: Shadow, before: str, after: str, index: Path) -> None:
    """Bring *index* and work tree from one commit or tree to another; local changes survive.

    Raises:
        GitRefused: A local change or an untracked file is in the way; nothing was written.
    """
    await shadow.run("update-index", "-q", "--refresh", index=index)
    done = await shadow.run("read-tree", "-m", "-u", before, after, index=index)
    if done.code != 0:
        raise GitRefused(
            f"changes in the work tree are in the way of the upstream's: {done.said}",
            hint=f"commit or stash them, then {_BY_HAND}",
        )


async def show_conflict(stage: Stage, head: str, conflict: Conflict, index_name: str) -> None:
    """Write the merged files into the work tree; the user's index and HEAD stay as they are."""
    shadow = stage.shadow
    index = copy_index(shadow, shadow.directory / index_name)
    changes = await changes_between(shadow, await tree_of(shadow, head), conflict.tree)
    await refuse_filtered(stage, [change.path for change in changes], index)
    await switch_tree(shadow, head, conflict.tree, index)


async def resolve(
    stage: Stage,
    plan: Rebase,
    conflict: Conflict,
    touched: Collection[str],
    admit: Callable[[str, str, Sequence[Change]], Awaitable[None]],
) -> Rebased:
    """Commit what the mended conflict left in the work tree on top of the upstream.

    *admit* is given tree, parent and changes before anything is committed, and may refuse them.
    """
    shadow = stage.shadow
    # All else is as git merged it: a file that the user edits meanwhile is not taken up.
    paths = sorted(set(conflict.paths) | set(touched))
    _refuse_markers(shadow, conflict.paths)
    index = shadow.directory / "index.resolve"
    index.unlink(missing_ok=True)
    await shadow.check("read-tree", conflict.tree, index=index)
    await refuse_filtered(stage, paths, index)
    await add_paths(shadow, paths, index)
    tree = await write_tree(stage, index)
    onto = await tree_of(shadow, conflict.onto)
    await admit(tree, conflict.onto, await changes_between(shadow, onto, tree))
    who = identity_environment(plan.identity)
    tip = await commit_tree(shadow, tree, conflict.onto, conflict.message, who)
    with locked_index(shadow) as lock:
        after = copy_index(shadow, shadow.directory / "index.after")
        await _bring_index(shadow, plan.head, tip, after)
        move = Move(plan.ref, plan.head, tip, f"rebase (runner): onto {plan.onto}")
        fill_lock(shadow, after, lock)
        await move_head(shadow, move, who)
        lock.replace(shadow.places.git_dir / "index")
    moved = await changes_between(shadow, await tree_of(shadow, plan.head), tree)
    return Rebased(tip, conflict.onto, tuple(change.path for change in moved))


async def _bring_index(shadow: Shadow, before: str, after: str, index: Path) -> None:
    """Move the index alone: the work tree already is what *after* holds."""
    changes = await changes_between(
        shadow, await tree_of(shadow, before), await tree_of(shadow, after)
    )
    await put_entries(shadow, list(changes), index)


def _refuse_markers(shadow: Shadow, paths: Collection[str]) -> None:
    for path in paths:
        file = shadow.places.root / path
        if file.is_file() and not file.is_symlink() and _MARKER.search(file.read_bytes()):
            raise GitRefused(f"{path} still holds conflict markers")
