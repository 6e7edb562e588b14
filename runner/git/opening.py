"""Gathers the facts of a repository and what its `.git` is known again by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.git import hooks
from runner.git.discover import (
    filter_names,
    identity,
    notes,
    operation,
    remote_urls,
    unsupported,
    upstream,
)
from runner.git.facts import RepositoryFacts
from runner.git.recording import place_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.git.config import Configuration
    from runner.git.discover import Places
    from runner.git.facts import PushAuth
    from runner.git.shadow import Shadow


async def head_commit(shadow: Shadow) -> str:
    """Return HEAD's commit; empty on an unborn branch."""
    done = await shadow.run("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    return done.out.decode().strip() if done.code == 0 else ""


def make_private(directory: Path) -> None:
    """Make a directory that only the user can read."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)


def make_facts(
    places: Places, config: Configuration, branch_ref: str, head: str
) -> RepositoryFacts:
    """Read everything once."""
    branch = branch_ref.removeprefix("refs/heads/")
    hooks_dir = hooks.hooks_directory(config, places)
    found = hooks.find_hooks(hooks_dir)
    return RepositoryFacts(
        root=places.root,
        git_dir=places.git_dir,
        common_dir=places.common_dir,
        head=head,
        branch=branch,
        upstream=upstream(config, branch),
        remotes=remote_urls(config, places.root, push=False),
        push_urls=remote_urls(config, places.root, push=True),
        identity=identity(config),
        hooks=found,
        hooks_dir=hooks_dir,
        hook_files=hooks.hook_files(hooks_dir, places.root) if found else {},
        operation=operation(places.git_dir),
        sparse=config.merged.truth("core.sparsecheckout"),
        shallow=(places.common_dir / "shallow").is_file(),
        partial=_is_partial(config),
        filters=filter_names(config),
        unsupported=unsupported(config, places),
        notes=notes(config),
    )


def _is_partial(config: Configuration) -> bool:
    marked = any(values[-1] == "true" for _, values in config.repository.sub("remote", "promisor"))
    return marked or bool(config.repository.get("extensions.partialclone"))


def pins(places: Places) -> Mapping[str, object]:
    """Return what `.git` is known again by: inodes of its directories, content of its pointers."""
    dot = places.root / ".git"
    pins: dict[str, object] = {
        str(path): place_of(path)
        for path in (places.git_dir, places.common_dir, places.common_dir / "objects")
    }
    pins[str(dot)] = _pointer_of(dot)
    for pointer in (
        places.git_dir / "commondir",
        places.common_dir / "objects" / "info" / "alternates",
    ):
        pins[str(pointer)] = _pointer_of(pointer)
    return pins


def _pointer_of(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    if path.is_file():
        return path.read_bytes()[:100_000]
    return place_of(path)


def refuse_auth(auth: PushAuth, protocol: str) -> None:
    """Refuse an `auth` that the URL has no use for: the push would go out as nobody."""
    if auth.kind == "ssh" and protocol in ("https", "http"):
        raise GitRefused(
            "`auth: ssh` was asked for, but the remote's URL is https",
            hint="git remote set-url --push REMOTE git@HOST:PATH, or another `auth`",
        )
    if auth.kind == "secret" and not auth.secret:
        raise GitRefused("the secret for the push is empty or was not granted")
    if auth.kind == "secret" and protocol == "ssh":
        raise GitRefused(
            "`auth: secret:NAME` works over https, but the remote's URL is ssh",
            hint="`auth: ssh`, or git remote set-url --push REMOTE https://HOST/PATH",
        )
