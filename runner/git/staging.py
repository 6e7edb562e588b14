"""Decides what a commit takes up and stages it in a private copy of the user's index."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.facts import Files, Staged, StartState, TakenUp
from runner.git.process import both, together
from runner.git.status import (
    Entry,
    Status,
    copy_index,
    digest_of,
    filters_of,
    index_entries,
    join,
    read_status,
    refuse_unmerged,
    split,
)
from runner.globs import matches_any
from runner.outcome import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from runner.git.shadow import Shadow

DIFF_BYTES = 200_000
_STAT_BYTES = 20_000
_ABSENT = "000000"
SUBMODULES = "--ignore-submodules=none"
"""Asked for, so that git does not look into `.gitmodules` for it, which may be a hostile one."""


@frozen
class Stage:
    """What staging needs to know of its repository."""

    shadow: Shadow
    allowed: frozenset[str]
    """Filters that the user allows by name."""
    partial: bool
    """Objects may be absent: a partial clone."""


@frozen
class Selection:
    """Which paths a commit takes from the work tree, which from the index, and which not."""

    from_tree: tuple[str, ...]
    from_index: tuple[str, ...]
    left_out: tuple[str, ...]


def start_state(status: Status) -> StartState:
    """Freeze what was changed, untracked and staged."""
    return StartState(
        changed=frozenset(entry.path for entry in status.entries),
        untracked=frozenset(status.untracked),
        staged_whole=frozenset(
            entry.path for entry in status.entries if entry.staged and not entry.unstaged
        ),
    )


def select(
    files: Files, status: Status, start: StartState, run_paths: Collection[str]
) -> Selection:
    """Decide, per path, whether a commit takes it up, and from where."""
    touched = frozenset(run_paths)
    from_tree: list[str] = []
    from_index: list[str] = []
    left_out: list[str] = []
    for entry in status.entries:
        wanted, whole = _wants(entry, files, start, touched)
        if not wanted:
            left_out.append(entry.path)
        elif whole and entry.unstaged:
            from_tree.append(entry.path)
        else:
            from_index.append(entry.path)
    for path in status.untracked:
        taken = not path.endswith("/") and _wants_new(path, files, start, touched)
        (from_tree if taken else left_out).append(path)
    return Selection(tuple(from_tree), tuple(from_index), tuple(left_out))


def _wants(
    entry: Entry, files: Files, start: StartState, touched: frozenset[str]
) -> tuple[bool, bool]:
    """Return (whether to take the path up, whether as it stands in the work tree)."""
    if files == "staged":
        # What was staged whole goes on standing for the file, so that its mends are committed.
        return entry.staged, entry.path in start.staged_whole and entry.path in touched
    if files == "all":
        return True, True
    if files == "run":
        return entry.path in start.changed or entry.path in touched, True
    return matches_any(files, entry.path), True


def _wants_new(path: str, files: Files, start: StartState, touched: frozenset[str]) -> bool:
    if files == "staged":
        return False
    if files == "all":
        return True
    if files == "run":
        return path in touched and path not in start.untracked
    return matches_any(files, path)


_OLD = 2 * 86_400
"""Seconds after which no process needs its private index any more."""


def forget_old(place: Path) -> None:
    """Remove private indexes of processes that ended long ago."""
    with suppress(OSError):
        for directory in place.iterdir():
            if directory.stat().st_mtime < time.time() - _OLD:
                shutil.rmtree(directory, ignore_errors=True)


async def prepare(
    stage: Stage,
    files: Files,
    *,
    start: StartState,
    run_paths: Collection[str],
    parent: str,
    index: Path,
) -> Staged | None:
    """Stage in *index* what *files* selects; `None` when that is nothing."""
    copy_index(stage.shadow, index)
    digest = digest_of(index)
    before, status = await both(
        index_entries(stage.shadow, index), read_status(stage.shadow, index, stage.allowed)
    )
    refuse_unmerged(status)
    chosen = select(files, status, start, run_paths)
    await refuse_filtered(stage, chosen.from_tree, index)
    dropped = frozenset(chosen.left_out)
    await _reset(stage.shadow, [one for one in status.entries if one.path in dropped], index)
    await add_paths(stage.shadow, chosen.from_tree, index)
    unstaged = {entry.path for entry in status.entries if entry.unstaged}
    partly = unstaged.intersection(chosen.from_index)
    left_out = tuple(sorted(dropped | partly))
    draft = Draft(parent, index, left_out, frozenset(partly), files, before, digest)
    return await _staged(stage, draft, await write_tree(stage, index))


@frozen
class Draft:
    """A private index that is about to become a tree."""

    parent: str
    index: Path
    left_out: tuple[str, ...]
    partly: frozenset[str]
    files: Files
    index_before: Mapping[str, tuple[str, str]]
    """Of the whole user's index, or of the paths that matter."""
    index_digest: str


async def _staged(stage: Stage, draft: Draft, tree: str) -> Staged | None:
    base = await tree_of(stage.shadow, draft.parent)
    if tree == base:
        return None
    shadow = stage.shadow
    found, (diff, stat) = await both(
        changes_between(shadow, base, tree),
        together(
            _rendered(shadow, base, tree, ("--patch",), DIFF_BYTES),
            _rendered(shadow, base, tree, ("--stat=100", "--summary"), _STAT_BYTES),
        ),
    )
    return Staged(
        tree=tree,
        parent=draft.parent,
        changes=found,
        left_out=draft.left_out,
        index=draft.index,
        diff=diff,
        stat=stat,
        partly=draft.partly,
        files=draft.files,
        index_digest=draft.index_digest,
        index_before={
            change.path: draft.index_before[change.path]
            for change in found
            if change.path in draft.index_before
        },
    )


async def refuse_filtered(stage: Stage, paths: Sequence[str], index: Path) -> None:
    """Refuse to store a path raw that the user's own git would have filtered."""
    found = await filters_of(stage.shadow, paths, index, stage.allowed)
    if found:
        path, name = next(iter(found.items()))
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise GitRefused(
            f"{path!r}{more} goes through the filter {name!r}, which is not allowed to run here; "
            "it would be stored raw",
            hint=f"allow the filter {name!r} in your own configuration, stage the file yourself "
            "with `git add`, or leave it out by `files`",
        )


async def _reset(shadow: Shadow, entries: Iterable[Entry], index: Path) -> None:
    """Let *index* have HEAD's version of what is staged but left out."""
    lines = b"".join(
        f"{entry.head_mode if entry.in_head else '0'} {entry.head_blob}\t".encode()
        + join([entry.path])
        for entry in entries
        if entry.staged
    )
    if lines:
        await shadow.check(
            "update-index", "--replace", "-z", "--index-info", stdin=lines, index=index
        )
        # Entries put in by hand have no stat data; a hook's `git diff-files` would call them dirty.
        await shadow.run("update-index", "-q", "--refresh", index=index)


async def add_paths(shadow: Shadow, paths: Sequence[str], index: Path) -> None:
    """Let *index* have *paths* as they stand in the work tree; what is gone there goes here."""
    gone = [path for path in paths if is_gone(shadow.places.root, path)]
    if gone:
        # Not by `--remove`: that refuses a path whose directory became a symbolic link.
        args = ("update-index", "--force-remove", "-z", "--stdin")
        await shadow.check(*args, stdin=join(gone), index=index)
    there = sorted(set(paths).difference(gone))
    if there:
        # Without the first flag `--remove` would delete what a sparse checkout leaves absent.
        flags = ("--ignore-skip-worktree-entries", "--add", "--remove", "--replace")
        args = ("update-index", *flags, "-z", "--stdin")
        await shadow.check(*args, stdin=join(there), index=index)


def is_gone(root: Path, path: str) -> bool:
    """Whether the work tree has no such file: absent, or behind a symbolic link."""
    place = root
    *folders, name = path.rstrip("/").split("/")
    for folder in folders:
        place /= folder
        if place.is_symlink() or not place.is_dir():
            return True
    return not os.path.lexists(place / name)


async def write_tree(stage: Stage, index: Path) -> str:
    """Write the tree of *index* to the repository's objects."""
    flags = ("--missing-ok",) if stage.partial else ()
    return (await stage.shadow.check("write-tree", *flags, index=index)).decode().strip()


async def tree_of(shadow: Shadow, commit: str) -> str:
    """Return the tree of *commit*, or the empty tree for no commit."""
    if not commit:
        return (await shadow.check("hash-object", "-t", "tree", "-w", "/dev/null")).decode().strip()
    return (await shadow.check("rev-parse", "--verify", f"{commit}^{{tree}}")).decode().strip()


async def changes_between(shadow: Shadow, before: str, after: str) -> tuple[Change, ...]:
    """List how two trees differ; a rename is a deletion and an addition."""
    flags = ("-r", "-z", "--raw", "--no-renames", SUBMODULES)
    out = await shadow.check("diff-tree", *flags, before, after)
    fields = list(split(out))
    return tuple(_change(meta, path) for meta, path in zip(fields[0::2], fields[1::2], strict=True))


def _change(meta: str, path: str) -> Change:
    before_mode, after_mode, before_blob, after_blob, letter = meta.removeprefix(":").split(" ")
    kinds: dict[str, Literal["added", "modified", "deleted", "mode", "type"]] = {
        "A": "added",
        "D": "deleted",
        "T": "type",
    }
    kind = kinds.get(letter, "mode" if before_blob == after_blob else "modified")
    return Change(
        path=path,
        kind=kind,
        before_mode="" if before_mode == _ABSENT else before_mode,
        after_mode="" if after_mode == _ABSENT else after_mode,
        before_blob="" if before_mode == _ABSENT else before_blob,
        after_blob="" if after_mode == _ABSENT else after_blob,
    )


async def _rendered(
    shadow: Shadow, before: str, after: str, flags: tuple[str, ...], most: int
) -> str:
    args = ("diff-tree", "-r", "--no-ext-diff", "--no-textconv", "--no-color", SUBMODULES, *flags)
    done = await shadow.run(*args, before, after, most=most)
    text = done.out.decode("utf-8", "replace")
    return text + "\n[... cut here ...]\n" if len(done.out) >= most else text


async def take_up(
    stage: Stage,
    staged: Staged,
    *,
    touched: Collection[str],
    allows: Callable[[str], bool],
) -> TakenUp:
    """Make a new tree of what a hook staged and of what it changed in the work tree.

    A file that is committed as it stands in the work tree is taken from there again. One that is
    staged in part is taken from the private index, where the hook stages what it means.
    """
    now = await write_tree(stage, staged.index)
    in_index = set(await _differing(stage.shadow, staged.tree, now))
    candidates = in_index | {path for path in touched if _relevant(path, staged)}
    # A hook that stages everything must not carry in what the commit leaves out.
    left = frozenset(staged.left_out) - staged.partly
    refused = tuple(sorted(path for path in candidates if path in left or not allows(path)))
    await _put_back(stage.shadow, staged.tree, sorted(in_index.intersection(refused)), staged.index)
    # What a hook stages without a file in the work tree (outside a sparse cone) is meant so.
    root = stage.shadow.places.root
    index_only = {path for path in in_index if is_gone(root, path)}
    from_tree = sorted(candidates - staged.partly - index_only - set(refused))
    await refuse_filtered(stage, from_tree, staged.index)
    await add_paths(stage.shadow, from_tree, staged.index)
    left_out = tuple(sorted({*staged.left_out, *refused}))
    draft = Draft(
        staged.parent,
        staged.index,
        left_out,
        staged.partly,
        staged.files,
        staged.index_before,
        staged.index_digest,
    )
    tree = await write_tree(stage, staged.index)
    changed = await _differing(stage.shadow, staged.tree, tree)
    fresh = await _staged(stage, draft, tree) if changed else staged
    return TakenUp(fresh, changed, refused)


def _relevant(path: str, staged: Staged) -> bool:
    """Whether a change in the work tree alone belongs to the commit."""
    if path in staged.partly:
        return False
    if staged.files in ("run", "all") or path in staged.paths:
        return True
    return staged.files != "staged" and matches_any(tuple(staged.files), path)


async def _differing(shadow: Shadow, before: str, after: str) -> tuple[str, ...]:
    return tuple(change.path for change in await changes_between(shadow, before, after))


async def _put_back(shadow: Shadow, tree: str, paths: Sequence[str], index: Path) -> None:
    if not paths:
        return
    known = await entries_of(shadow, tree, paths)
    lines = b"".join(
        (f"{known[path][0]} {known[path][1]}" if path in known else f"0 {'0' * len(tree)}").encode()
        + b"\t"
        + join([path])
        for path in paths
    )
    await shadow.check("update-index", "-z", "--index-info", stdin=lines, index=index)


async def entries_of(shadow: Shadow, tree: str, paths: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return mode and object of each of *paths* that *tree* has."""
    found: dict[str, tuple[str, str]] = {}
    for line in split(await shadow.check("ls-tree", "-r", "-z", "--full-tree", tree)):
        meta, _, path = line.partition("\t")
        mode, _, blob = meta.split(" ")
        found[path] = (mode, blob)
    return {path: found[path] for path in paths if path in found}
