"""A private git directory that stands in for the user's: real objects and refs, own configuration.

git reads its configuration, attributes and hooks from here and never from the repository, so that
nothing that the repository names can run. Refs and logs are symbolic links to the real
ones, so that locks are shared with the user's own git.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.config import is_plain
from runner.git.process import Done, base_environment, run

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import BinaryIO

    from runner.git.config import Configuration
    from runner.git.discover import Places

_DATA = (
    "core.filemode",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.protecthfs",
    "core.protectntfs",
    "core.symlinks",
    "core.trustctime",
    "core.checkstat",
    "core.autocrlf",
    "core.eol",
    "core.bigfilethreshold",
    "core.logallrefupdates",
    "core.sharedrepository",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "core.quotepath",
    "index.sparse",
    "index.version",
    "merge.conflictstyle",
    "merge.renames",
    "merge.directoryrenames",
    "sparse.expectfilesoutsideofpatterns",
)
"""Settings that are plain data: they say how files are compared and stored, and run nothing."""

_CLOSED = {
    "core.bare": "false",
    "core.fsmonitor": "false",
    "core.hookspath": os.devnull,
    "core.splitindex": "false",
    "core.untrackedcache": "false",
    "core.safecrlf": "false",
    "core.usereplacerefs": "false",
    "core.pager": "cat",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "receive.autogc": "false",
    "submodule.recurse": "false",
    "fetch.recursesubmodules": "false",
    "push.recursesubmodules": "no",
    "protocol.allow": "never",
    "diff.submodule": "short",
    "diff.ignoresubmodules": "none",
    "advice.detachedhead": "false",
    "status.renames": "false",
    "merge.verifysignatures": "false",
    "log.showsignature": "false",
}


@frozen
class Shadow:
    """How git is run on behalf of one repository."""

    git: str
    directory: Path
    places: Places
    environment: Mapping[str, str]
    object_format: str = ""
    """`extensions.objectFormat` of the repository; empty for SHA-1."""

    async def run(
        self,
        *args: str,
        stdin: bytes = b"",
        index: Path | None = None,
        worktree: Path | None = None,
        extra: Mapping[str, str] | None = None,
        most: int | None = None,
        to: BinaryIO | None = None,
    ) -> Done:
        """Run git, whatever its exit code."""
        env = dict(self.environment)
        if index is not None:
            env["GIT_INDEX_FILE"] = str(index)
        if worktree is not None:
            env["GIT_WORK_TREE"] = str(worktree)
        return await run(
            [self.git, "--no-pager", *args],
            env=env | dict(extra or {}),
            cwd=worktree or self.places.root,
            stdin=stdin,
            most=most,
            to=to,
        )

    async def check(
        self,
        *args: str,
        stdin: bytes = b"",
        index: Path | None = None,
        worktree: Path | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run git and return its output.

        Raises:
            GitRefused: It failed; the message is git's own.
        """
        done = await self.run(*args, stdin=stdin, index=index, worktree=worktree, extra=extra)
        if done.code != 0:
            raise GitRefused(f"git {args[0]} failed: {done.said or f'exit {done.code}'}")
        return done.out


def make_shadow(
    git: str, state: Path, places: Places, config: Configuration, filters: Collection[str]
) -> Shadow:
    """Make (or make anew) the private git directory under *state*."""
    directory = state / "shadow.git"
    if directory.exists():
        shutil.rmtree(directory)
    (directory / "info").mkdir(parents=True, mode=0o700)
    (directory / "logs").mkdir()
    _link(directory / "refs", places.common_dir / "refs")
    _link(directory / "packed-refs", places.common_dir / "packed-refs")
    _link(directory / "logs" / "refs", places.common_dir / "logs" / "refs")
    _link(directory / "logs" / "HEAD", places.git_dir / "logs" / "HEAD")
    _link(directory / "shallow", places.common_dir / "shallow")
    for name in ("lfs", "git-crypt"):  # where these two keep objects and keys
        _link(directory / name, places.common_dir / name)
    _copy_data(directory, places, config)
    text = _config_text(directory, config, filters)
    (directory / "config").write_text(text, "utf-8", "surrogateescape")
    (directory / "HEAD").write_text("ref: refs/heads/unset\n", "utf-8")
    environment = base_environment(places.root) | {
        "GIT_DIR": str(directory),
        "GIT_COMMON_DIR": str(directory),
        "GIT_WORK_TREE": str(places.root),
        "GIT_OBJECT_DIRECTORY": str(places.common_dir / "objects"),
        "GIT_INDEX_FILE": str(directory / "index"),
    }
    object_format = config.repository.get("extensions.objectformat")
    return Shadow(git, directory, places, environment, object_format)


def share_split_index(shadow: Shadow) -> None:
    """Let a copied index find the shared part that a split index refers to."""
    for shared in shadow.places.git_dir.glob("sharedindex.*"):
        link = shadow.directory / shared.name
        if not link.is_symlink():
            _link(link, shared)


def point_head(shadow: Shadow, branch_ref: str, commit: str) -> None:
    """Give the shadow the HEAD that the repository has."""
    text = f"ref: {branch_ref}\n" if branch_ref else f"{commit}\n"
    (shadow.directory / "HEAD").write_text(text, "utf-8", "surrogateescape")


def _link(link: Path, target: Path) -> None:
    link.symlink_to(target)


def _copy_data(directory: Path, places: Places, config: Configuration) -> None:
    info = directory / "info"
    _copy(places.common_dir / "info" / "exclude", info / "exclude")
    _copy(places.common_dir / "info" / "attributes", info / "attributes")
    _copy(places.git_dir / "info" / "sparse-checkout", info / "sparse-checkout")
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "git"
    excludes = config.merged.get("core.excludesfile")
    attributes = config.merged.get("core.attributesfile")
    _copy(expanded(excludes, places.root) if excludes else home / "ignore", directory / "excludes")
    wanted = expanded(attributes, places.root) if attributes else home / "attributes"
    _copy(wanted, directory / "attributes")


def expanded(path: str, root: Path) -> Path:
    """Resolve a path of the configuration as git does: `~`, else from the root."""
    try:
        return root / Path(path).expanduser()
    except RuntimeError:
        return root / path


def _copy(source: Path, target: Path) -> None:
    if is_plain(source):
        target.write_bytes(source.read_bytes())


def _config_text(directory: Path, config: Configuration, filters: Collection[str]) -> str:
    values = dict(_CLOSED)
    values["core.repositoryformatversion"] = "1"
    values["core.excludesfile"] = str(directory / "excludes")
    values["core.attributesfile"] = str(directory / "attributes")
    object_format = config.repository.get("extensions.objectformat")
    if object_format:
        values["extensions.objectformat"] = object_format
    for key in _DATA:
        if key in config.merged.values:
            values[key] = config.merged.get(key)
    for name in filters:
        values |= _driver(config, name)
    return "".join(config_line(key, value) for key, value in values.items())


def _driver(config: Configuration, name: str) -> dict[str, str]:
    """Take a filter that is allowed by name from the user's files, else the repository's."""
    for settings in (config.user, config.repository):
        found = {
            f"filter.{name}.{kind}": settings.get(f"filter.{name}.{kind}")
            for kind in ("clean", "smudge", "process", "required")
            if settings.get(f"filter.{name}.{kind}")
        }
        if found:
            return found
    return {}


def config_line(key: str, value: str) -> str:
    """Spell one setting so that git reads back exactly *value*."""
    section, _, rest = key.partition(".")
    middle, _, name = rest.rpartition(".")
    quoted = middle.replace("\\", "\\\\").replace('"', '\\"')
    header = f'[{section} "{quoted}"]' if middle else f"[{section}]"
    return f"{header}\n\t{name} = {_quoted(value)}\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t") + '"'
