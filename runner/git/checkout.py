"""Writes a clean checkout of exactly what will be committed, with a small `.git` of its own."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.git.shadow import config_line
from runner.git.staging import is_gone
from runner.git.status import filters_of, split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runner.git.facts import RepositoryFacts, Staged
    from runner.git.shadow import Shadow
    from runner.git.staging import Stage


async def write_checkout(
    stage: Stage, staged: Staged, destination: Path, facts: RepositoryFacts
) -> None:
    """Write *staged* to the empty directory *destination*.

    Line ends are converted as git does; what a sparse checkout leaves out is left out. A file
    whose filter may not run is copied from the work tree, where it already stands as the filter
    made it: only unchanged ones come this far.
    """
    index = _make_repository(stage.shadow, staged, destination, facts)
    shadow = stage.shadow
    await shadow.check("read-tree", "--reset", staged.tree, index=index)
    await _keep_sparse(shadow, staged, index)
    await shadow.check("checkout-index", "-a", "-f", "-q", "-u", index=index, worktree=destination)
    await _copy_filtered(stage, index, destination)


async def _keep_sparse(shadow: Shadow, staged: Staged, index: Path) -> None:
    """Mark as absent what the user's sparse checkout has absent.

    The flag alone does not say so: people also set it on files that they keep changes in.
    """
    out = await shadow.check("ls-files", "-v", "-z", index=staged.index)
    flagged = [line[2:] for line in split(out) if line.startswith(("S ", "s "))]
    absent = [path for path in flagged if is_gone(shadow.places.root, path)]
    if absent:
        stdin = b"".join(os.fsencode(path) + b"\0" for path in absent)
        await shadow.check(
            "update-index", "--skip-worktree", "-z", "--stdin", stdin=stdin, index=index
        )


def _make_repository(
    shadow: Shadow, staged: Staged, destination: Path, facts: RepositoryFacts
) -> Path:
    """Make a repository whose HEAD is the parent, so that tools that ask git get an answer."""
    destination.mkdir(parents=True, exist_ok=True)
    if any(destination.iterdir()):
        raise GitRefused(f"{destination} is not empty")
    directory = destination / ".git"
    (directory / "refs" / "heads").mkdir(parents=True)
    (directory / "objects" / "info").mkdir(parents=True)
    (directory / "info").mkdir()
    alternates = directory / "objects" / "info" / "alternates"
    alternates.write_text(f"{facts.common_dir / 'objects'}\n", "utf-8", "surrogateescape")
    for name in ("exclude", "attributes", "sparse-checkout"):
        source = shadow.directory / "info" / name
        if source.is_file():
            shutil.copyfile(source, directory / "info" / name)
    shared = shadow.directory / "config"
    text = shared.read_text("utf-8", "surrogateescape")
    if facts.identity is not None:
        text += config_line("user.name", facts.identity[0])
        text += config_line("user.email", facts.identity[1])
    (directory / "config").write_text(text, "utf-8", "surrogateescape")
    if staged.parent and facts.shallow:
        shutil.copyfile(facts.common_dir / "shallow", directory / "shallow")
    (directory / "HEAD").write_text(
        f"{staged.parent}\n" if staged.parent else "ref: refs/heads/main\n", "utf-8"
    )
    return directory / "index"


async def _copy_filtered(stage: Stage, index: Path, destination: Path) -> None:
    shadow = stage.shadow
    paths: Sequence[str] = list(split(await shadow.check("ls-files", "-z", index=index)))
    if not _mentions_filter(destination, paths, shadow):
        return
    for path in await filters_of(shadow, paths, index, stage.allowed):
        source, target = shadow.places.root / path, destination / path
        if source.is_file() and not source.is_symlink() and target.is_file():
            shutil.copyfile(source, target)


def _mentions_filter(destination: Path, paths: Sequence[str], shadow: Shadow) -> bool:
    """Whether any attributes file speaks of a filter; asking for every path is slow."""
    files = [shadow.directory / "info" / "attributes", shadow.directory / "attributes"]
    files += [destination / path for path in paths if path.endswith(".gitattributes")]
    return any(b"filter" in file.read_bytes() for file in files if file.is_file())
