"""Finds out what a failed command's sandbox kept from it: collects the facts for `denied`."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, assert_never

from runner.sandbox.denied import Facts, Sight, denial
from runner.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.outcome import CommandResult, Denial
    from runner.sandbox.nouns import Mount, Need, Sandbox
    from runner.workspace.commands import Command


def kept_from(
    sandbox: Sandbox, command: Command, need: Need, result: CommandResult
) -> Denial | None:
    """Say what the sandbox kept from a command; `None` where nothing proves that it did.

    Args:
        sandbox: What confined it.
        command: As it was before that.
        need: What it was allowed.
        result: How it ended.
    """
    if result.passed or sandbox.held.by == "none":
        return None
    around = sandbox.surroundings
    facts = Facts(
        tree=str(need.tree),
        cwd=str(command.cwd),
        home=str(around.home),
        network=need.network or (sandbox.held.by == "landlock" and need.write is None),
        sight=_seen_through(_sight_of(sandbox, need)),
        exists=os.path.lexists,
        writable=_writable,
        which=partial(_which, path=command.env.get("PATH", "")),
        listens=_listens,
        forbids=sandbox.held.by == "landlock",
        git=tuple(map(str, around.git)),
    )
    return denial(clean(result.head + result.tail), facts, whole=not result.tail)


def _sight_of(sandbox: Sandbox, need: Need) -> Callable[[PurePath], Sight]:
    # Only a command that failed needs either.
    match sandbox.held.by:
        case "bubblewrap":
            from runner.sandbox.mounts import mounts_for  # noqa: PLC0415  as said
            from runner.sandbox.reach import reach_of  # noqa: PLC0415
            from runner.sandbox.surroundings import filled_caches  # noqa: PLC0415

            around, mend = sandbox.surroundings, bool(need.write)
            filled = filled_caches(around, mend=mend)
            mounts = mounts_for(around, need, reach=reach_of(need), filled=filled)
            return partial(seen_at, {mount.path: mount for mount in mounts})
        case "landlock":
            from runner.sandbox import landlock  # noqa: PLC0415  as said

            around = sandbox.surroundings
            rules = (*landlock.readable_for(around), *landlock.rules_for(around, need))
            return partial(landlock.seen_by, rules)
        case "none":
            return lambda _: "write"
        case _:
            assert_never(sandbox.held.by)


def seen_at(mounts: Mapping[Path, Mount], path: PurePath) -> Sight:
    """Say what a real path is where just these mounts are: pure."""
    for place in (path, *path.parents):
        mount = mounts.get(Path(place))
        if mount is None:
            continue
        match mount.kind:
            case "read":
                return "read"
            case "write":
                return "write"
            case "empty":
                return "empty" if place == path else "hidden"
            case "mask" | "hide":
                return "hidden"
            case "link":
                continue
            case _:
                assert_never(mount.kind)
    return "hidden"


def _seen_through(sight: Callable[[PurePath], Sight]) -> Callable[[str], Sight]:
    """Follow links as they are outside: one in the tree may lead to what is hidden."""
    return lambda path: sight(PurePath(os.path.realpath(path)))


def _writable(path: str) -> bool:
    if os.path.lexists(path):
        return os.access(path, os.W_OK)
    return os.access(Path(path).parent, os.W_OK)


def _which(name: str, *, path: str) -> str:
    return shutil.which(name, path=path) or ""


_LISTENING = "0A"
"""State of a socket that waits for connections (proc_pid_net(5))."""


def _listens(port: int) -> bool:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for _, local, _, state, *_ in map(str.split, lines):
            if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                return True
    return False
