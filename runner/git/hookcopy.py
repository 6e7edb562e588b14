"""Gives a hook in a sandbox a `.git` of its own to write: what it stages is kept, all else is not.

git and its hooks write there at every turn: objects of `git add`, the stash of lint-staged. What
the repository has stays as it is; the objects that a hook made are put in by git itself, which
names them by their content.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from runner.frozen import frozen

if TYPE_CHECKING:
    from runner.git.facts import RepositoryFacts
    from runner.git.shadow import Shadow

OBJECTS = Path("/run/runner-objects")
"""Where a hook finds the repository's own objects; the copy borrows from there."""
_SHARED = frozenset({"modules", "worktrees", "lfs", "annex", "git-crypt", "rr-cache"})
"""Directories that can be large: shown as they are, to be read."""
_HEX = re.compile(r"[0-9a-f]{2}\Z")
_REST = re.compile(r"(?:[0-9a-f]{38}|[0-9a-f]{62})\Z")
_MOST = 100_000


@frozen
class Shown:
    """What a hook finds at a path."""

    path: Path
    source: Path
    writable: bool


@frozen
class HookCopy:
    """A `.git` that a hook may write."""

    shown: tuple[Shown, ...]
    objects: Path
    """Where the objects are that it makes."""


def copy_for_hook(facts: RepositoryFacts, directory: Path) -> HookCopy:
    """Copy what git keeps of a repository, but for its objects, into a new *directory*."""
    directory.mkdir(mode=0o700, parents=True)
    common, objects = facts.common_dir, directory / "objects"
    shown = [Shown(OBJECTS, common / "objects", writable=False)]
    copied = directory / "common"
    _copy(common, copied)
    (copied / "objects").mkdir()
    (objects / "info").mkdir(parents=True)
    (objects / "pack").mkdir()
    (objects / "info" / "alternates").write_text(f"{OBJECTS}\n", "utf-8")
    shown += [Shown(common, copied, writable=True), Shown(common / "objects", objects, True)]  # noqa: FBT003  as the field says
    for name in sorted(_SHARED):
        if (common / name).is_dir():
            (copied / name).mkdir()
            shown.append(Shown(common / name, common / name, writable=False))
    if facts.git_dir != common:
        _copy(facts.git_dir, directory / "own")
        shown.append(Shown(facts.git_dir, directory / "own", writable=True))
    return HookCopy(tuple(shown), objects)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(mode=0o700)
    with os.scandir(source) as entries:
        for entry in entries:
            place = target / entry.name
            if entry.name == "objects" or entry.name in _SHARED:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.copytree(entry.path, place, symlinks=True, ignore=_special)
            elif entry.is_symlink() or entry.is_file():
                shutil.copy2(entry.path, place, follow_symlinks=False)


def _special(folder: str, names: list[str]) -> list[str]:
    """Name what is neither file, directory nor link: the socket of a file monitor, say."""
    odd: list[str] = []
    for name in names:
        mode = os.lstat(Path(folder) / name).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            odd.append(name)
    return odd


async def keep_objects(shadow: Shadow, objects: Path) -> None:
    """Put the objects that a hook made into the repository, under the names of their content.

    What is no sound object is left out; what needs it fails later, as it would in any repository.
    """
    made = _made(objects)
    if not made:
        return
    real = shadow.environment["GIT_OBJECT_DIRECTORY"]
    place = {"GIT_OBJECT_DIRECTORY": str(objects), "GIT_ALTERNATE_OBJECT_DIRECTORIES": real}
    names = "".join(f"{name}\n" for name in made).encode()
    # The copy borrows from a path that is only there in the sandbox.
    (objects / "info" / "alternates").unlink(missing_ok=True)
    packed = await shadow.run("pack-objects", "--stdout", "-q", stdin=names, extra=place)
    if packed.code == 0:
        await shadow.run("unpack-objects", "-q", stdin=packed.out)


def _made(objects: Path) -> list[str]:
    found: list[str] = []
    for folder in objects.iterdir():
        if _HEX.match(folder.name) and folder.is_dir() and not folder.is_symlink():
            found += [folder.name + one.name for one in folder.iterdir() if _REST.match(one.name)]
    return found[:_MOST]
