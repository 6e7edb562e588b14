"""Turns a staged tree into a commit and brings the user's index along.

HEAD moves only if it stood still meanwhile.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.facts import CommitFact
from runner.git.process import both
from runner.git.status import copy_index, digest_of, index_entries, join

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from runner.git.facts import Staged
    from runner.git.shadow import Shadow
    from runner.outcome import Change

_SEARCHED = 2000
"""Commits back from HEAD in which one of this run is looked for."""


@frozen
class Move:
    """HEAD goes from one commit to another."""

    ref: str
    """Full name of the branch; empty when HEAD is detached."""
    old: str
    new: str
    why: str
    """For the reflog."""


def identity_environment(identity: tuple[str, str]) -> dict[str, str]:
    """Name author and committer to git by environment, never by argument."""
    name, address = identity
    return {
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": address,
        "GIT_COMMITTER_NAME": os.environ.get("GIT_COMMITTER_NAME", name),
        "GIT_COMMITTER_EMAIL": os.environ.get("GIT_COMMITTER_EMAIL", address),
    }


def checked_message(message: str) -> bytes:
    """Return the message as git stores it: no trailing blanks, one line break at the end."""
    if "\0" in message:
        raise GitRefused("the commit message holds a NUL byte")
    text = "\n".join(line.rstrip() for line in message.strip().splitlines())
    if not text:
        raise GitRefused("the commit message is empty")
    return (text + "\n").encode("utf-8", "surrogateescape")


async def commit_tree(
    shadow: Shadow, tree: str, parent: str, message: str, identity: Mapping[str, str]
) -> str:
    """Write a commit object; nothing refers to it yet."""
    parents = ("-p", parent) if parent else ()
    args = ("commit-tree", tree, *parents, "-F", "-")
    out = await shadow.check(*args, stdin=checked_message(message), extra=identity)
    return out.decode().strip()


@contextmanager
def locked_index(shadow: Shadow) -> Generator[Path]:
    """Hold the user's `index.lock` as git itself does; it is gone afterwards unless renamed.

    Raises:
        GitRefused: Another process holds it, or left it behind.
    """
    lock = shadow.places.git_dir / "index.lock"
    try:
        _lock(lock)
    except FileExistsError:
        raise GitRefused(
            f"{lock} exists: another git process is at work, or one was killed",
            hint=f"if no git process runs any more: rm '{lock}'",
        ) from None
    except OSError as error:
        raise GitRefused(f"the index cannot be locked: {error}") from error
    try:
        yield lock
    finally:
        lock.unlink(missing_ok=True)
        _mark_of(lock).unlink(missing_ok=True)


def _mark_of(lock: Path) -> Path:
    """Return the second name that a lock of ours has, by which it is known after a kill."""
    return lock.with_name(f"{lock.name}.subrunner")


def _lock(lock: Path) -> None:
    """Make a lock file as git does, under two names at once.

    Raises:
        FileExistsError: Somebody else holds it.
        OSError: It cannot be made.
    """
    mark = _mark_of(lock)
    mark.unlink(missing_ok=True)
    os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    try:
        # Like an exclusive creation: it never takes the place of another's.
        os.link(mark, lock)
    except FileExistsError:
        mark.unlink()
        raise
    except OSError:  # a file system without second names
        mark.unlink()
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))


def settle_locks(git_dir: Path, *, finish: bool) -> None:
    """End what a killed process of ours left locked; the locks of others are left alone.

    Args:
        git_dir: Of the work tree.
        finish: Whether HEAD was moved: then the index that was to follow it takes its place.
    """
    for name in ("index", "HEAD"):
        lock = git_dir / f"{name}.lock"
        mark = _mark_of(lock)
        try:
            ours = lock.samefile(mark)
        except OSError:
            ours = False
        if ours and finish and name == "index":
            lock.replace(git_dir / name)
        elif ours:
            lock.unlink(missing_ok=True)
        mark.unlink(missing_ok=True)


async def commit_staged(
    shadow: Shadow, staged: Staged, ref: str, message: str, identity: tuple[str, str]
) -> CommitFact:
    """Commit exactly *staged*'s tree on its parent."""
    who = identity_environment(identity)
    with locked_index(shadow) as lock:
        index, sha = await both(
            _index_after(shadow, staged),
            commit_tree(shadow, staged.tree, staged.parent, message, who),
        )
        kind = "commit" if staged.parent else "commit (initial)"
        subject = message.strip().splitlines()[0][:200]
        move = Move(ref, staged.parent, sha, f"{kind}: {subject}")
        fill_lock(shadow, index, lock)
        await move_head(shadow, move, who)
        lock.replace(shadow.places.git_dir / "index")
    return CommitFact(sha=sha, parent=staged.parent, ref=ref or "HEAD")


async def _index_after(shadow: Shadow, staged: Staged) -> Path:
    """Make the index that the user will have: as it is now, with the committed paths brought along.

    What was staged and left out stays staged. A path whose entry the user staged anew since is
    left alone.
    """
    index = copy_index(shadow, shadow.directory / "index.after")
    newer = await _staged_since(shadow, staged, index)
    changes = [one for one in staged.changes if one.path not in newer | staged.partly]
    await put_entries(shadow, changes, index)
    return index


async def _staged_since(shadow: Shadow, staged: Staged, index: Path) -> set[str]:
    """Return committed paths whose entry is neither the parent's, the commit's, nor as prepared."""
    if digest_of(index) == staged.index_digest:
        return set()
    now = await index_entries(shadow, index)
    return {
        change.path
        for change in staged.changes
        if now.get(change.path, ("", ""))
        not in (
            (change.before_mode, change.before_blob),
            (change.after_mode, change.after_blob),
            staged.index_before.get(change.path, ("", "")),
        )
    }


async def put_entries(shadow: Shadow, changes: list[Change], index: Path) -> None:
    """Set entries of *index* to what *changes* lead to, with fresh stat data."""
    lines = b"".join(
        f"{one.after_mode or '0'} {one.after_blob or '0' * len(one.before_blob)}\t".encode()
        + join([one.path])
        for one in changes
    )
    if lines:
        args = ("update-index", "--replace", "-z", "--index-info")
        await shadow.check(*args, stdin=lines, index=index)
        # Exits with 1 when something is dirty, which is no failure here.
        await shadow.run("update-index", "-q", "--refresh", index=index)


def fill_lock(shadow: Shadow, index: Path, lock: Path) -> None:
    """Copy *index* into the lock file, which becomes the index by one rename."""
    target = shadow.places.git_dir / "index"
    shutil.copyfile(index, lock)
    if target.exists():
        shutil.copymode(target, lock)
    # Entries as young as the index itself look racy to git, which then compares them by content.
    # The copy must not look younger than the index that the entries were compared with.
    found = index.stat()
    os.utime(lock, ns=(found.st_atime_ns, found.st_mtime_ns))


async def move_head(shadow: Shadow, move: Move, identity: Mapping[str, str]) -> None:
    """Move the branch, or a detached HEAD, from *old* to *new*: only if it still is at *old*.

    Raises:
        GitRefused: It is not there any more.
    """
    _make_log_directories(shadow)
    if not move.ref:
        await _move_detached(shadow, move, identity)
        return
    old = move.old or "0" * len(move.new)
    args = ("update-ref", "-m", move.why, move.ref, move.new, old)
    done = await shadow.run(*args, extra=identity)
    if done.code != 0:
        raise GitRefused(
            f"{move.ref} is not at {move.old[:12] or 'its start'} any more: {done.said}",
            hint="somebody else committed meanwhile; run again on the branch as it is now",
        )


async def _move_detached(shadow: Shadow, move: Move, identity: Mapping[str, str]) -> None:
    """Write HEAD as git does: lock, compare, rename; then the reflog."""
    head = shadow.places.git_dir / "HEAD"
    lock = head.with_name("HEAD.lock")
    try:
        _lock(lock)
    except FileExistsError:
        raise GitRefused(f"{lock} exists: another git process is at work") from None
    try:
        lock.write_bytes(move.new.encode() + b"\n")
        if head.read_text("utf-8").strip() != move.old:
            raise GitRefused(
                f"HEAD is not at {move.old[:12]} any more",
                hint="somebody else moved it meanwhile; run again",
            )
        lock.replace(head)
    finally:
        lock.unlink(missing_ok=True)
        _mark_of(lock).unlink(missing_ok=True)
    await _log_detached(shadow, move, identity)


async def _log_detached(shadow: Shadow, move: Move, identity: Mapping[str, str]) -> None:
    log = shadow.places.git_dir / "logs" / "HEAD"
    if not log.is_file():
        return
    who = (await shadow.check("var", "GIT_COMMITTER_IDENT", extra=identity)).decode().strip()
    with log.open("a", encoding="utf-8", errors="surrogateescape") as opened:
        opened.write(f"{move.old} {move.new} {who}\t{move.why}\n")


def _make_log_directories(shadow: Shadow) -> None:
    """Make what the shadow's links point to: git makes no directory through a dangling one."""
    (shadow.places.common_dir / "logs" / "refs").mkdir(parents=True, exist_ok=True)
    (shadow.places.git_dir / "logs").mkdir(exist_ok=True)


@frozen
class Made:
    """A commit of a run, found again by its trailers."""

    sha: str
    parent: str
    tree: str
    step: str
    subject: str


async def commits_of(shadow: Shadow, head: str, run_id: str) -> list[Made]:
    """Return the commits of a run that *head* reaches, oldest first."""
    if not head:
        return []
    form = "--format=" + "%x00".join(
        (
            "%H",
            "%P",
            "%T",
            "%(trailers:key=Runner-Run,valueonly,separator=%x01)",
            "%(trailers:key=Runner-Step,valueonly,separator=%x01)",
            "%s%x02",
        )
    )
    out = await shadow.check("log", "--no-mailmap", f"--max-count={_SEARCHED}", form, head)
    found: list[Made] = []
    for record in os.fsdecode(out).split("\x02"):
        fields = record.strip("\n").split("\0")
        if len(fields) == 6 and run_id in fields[3].split("\x01"):
            sha, parents, tree, _, steps, subject = fields
            found.append(Made(sha, parents.partition(" ")[0], tree, steps, subject))
    return found[::-1]


async def find_commit(shadow: Shadow, head: str, run_id: str, step: str) -> str | None:
    """Look back from *head* for a commit with this run's trailers; newest first."""
    if not head:
        return None
    form = "--format=%H%x00%(trailers:key=Runner-Run,valueonly,separator=%x01)%x00" + (
        "%(trailers:key=Runner-Step,valueonly,separator=%x01)%x02"
    )
    out = await shadow.check("log", "--no-mailmap", f"--max-count={_SEARCHED}", form, head)
    for record in os.fsdecode(out).split("\x02"):
        fields = record.strip("\n").split("\0")
        if len(fields) == 3 and run_id in fields[1].split("\x01"):
            steps = [name for name in fields[2].split("\x01") if name]
            if not step or not steps or step in steps:
                return fields[0]
    return None
