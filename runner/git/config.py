"""Reads git's configuration files as data: nothing in them is obeyed unless a caller asks for it.

The user's own files (system, global) are trusted and may include others. The repository's are not:
each is read alone, without its includes.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.process import Done, base_environment, run, together

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_TRUE = {"true", "yes", "on", "1", ""}
_MOST = 4_000_000


@frozen
class Settings:
    """Values in the order git would see them; the last one counts."""

    values: Mapping[str, tuple[str, ...]]

    def get(self, key: str, default: str = "") -> str:
        """Return the last value of *key* (section and name in lower case)."""
        found = self.values.get(key)
        return found[-1] if found else default

    def truth(self, key: str, *, default: bool = False) -> bool:
        """Read a boolean as git does."""
        found = self.values.get(key)
        return default if not found else found[-1].lower() in _TRUE

    def all(self, key: str) -> tuple[str, ...]:
        """Return every value of *key*, in order."""
        return self.values.get(key, ())

    def sub(self, section: str, name: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield (subsection, values) of every `section.SUBSECTION.name`."""
        for key, values in self.values.items():
            if key.startswith(section + ".") and key.endswith("." + name):
                middle = key[len(section) + 1 : -len(name) - 1]
                if middle:
                    yield middle, values


@frozen
class Configuration:
    """The user's own settings, the repository's, and both in git's order."""

    user: Settings
    repository: Settings
    merged: Settings


async def read_configuration(
    git: str, root: Path, git_dir: Path, common_dir: Path, state: Path
) -> Configuration:
    """Read all levels; the repository's own without its includes."""
    own = _own_environment(root, git_dir)
    closed = base_environment(root) | {"GIT_DIR": str(state), "GIT_CEILING_DIRECTORIES": "/"}

    async def read(env: Mapping[str, str], *args: str) -> Settings:
        argv = [git, "--no-pager", "config", "--list", "-z", *args]
        return _parse(await run(argv, env=env, cwd=state, most=_MOST))

    async def read_plain(file: Path) -> Settings:
        if not is_plain(file):
            return Settings({})
        return await read(closed, "--no-includes", "--file", str(file))

    system, own_file, repository, worktree = await together(
        read(own, "--system", "--includes"),
        read(own, "--global", "--includes"),
        read_plain(common_dir / "config"),
        read_plain(git_dir / "config.worktree"),
    )
    user = _joined(system, own_file)
    if repository.truth("extensions.worktreeconfig"):
        repository = _joined(repository, worktree)
    return Configuration(user, repository, _joined(user, repository))


async def read_file(git: str, root: Path, file: Path, state: Path) -> Settings:
    """Read one configuration file alone, without its includes."""
    if not is_plain(file):
        return Settings({})
    env = base_environment(root) | {"GIT_DIR": str(state)}
    args = [git, "--no-pager", "config", "--list", "-z", "--no-includes", "--file", str(file)]
    return _parse(await run(args, env=env, cwd=state, most=_MOST))


def is_plain(path: Path) -> bool:
    """Whether *path* is a regular file of bearable size: a FIFO would hang whoever reads it."""
    try:
        return path.is_file() and path.stat().st_size <= _MOST
    except OSError:
        return False


def _own_environment(root: Path, git_dir: Path) -> dict[str, str]:
    """Let git find the user's own files; GIT_DIR so that their `includeIf "gitdir:"` hold."""
    env = base_environment(root)
    for name in ("GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_GLOBAL"):
        del env[name]
        if name in os.environ:
            env[name] = os.environ[name]
    if "GIT_CONFIG_SYSTEM" in os.environ:
        env["GIT_CONFIG_SYSTEM"] = os.environ["GIT_CONFIG_SYSTEM"]
    return env | {"GIT_DIR": str(git_dir)}


def _parse(done: Done) -> Settings:
    if done.code != 0:
        # 1 is what git says when the user has no such file at all.
        if done.code == 1 or b"unable to read config file" in done.err:
            return Settings({})
        raise GitRefused(
            f"a git configuration file cannot be read: {done.said}",
            hint="`git config --list --show-origin` shows where it is",
        )
    values: defaultdict[str, list[str]] = defaultdict(list)
    for item in os.fsdecode(done.out).split("\0"):
        key, separator, value = item.partition("\n")
        if key:
            values[key].append(value if separator else "")
    return Settings({key: tuple(found) for key, found in values.items()})


def _joined(*parts: Settings) -> Settings:
    values: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for part in parts:
        for key, found in part.values.items():
            values[key] += found
    return Settings(dict(values))


def rewritten(url: str, user: Settings, *, push: bool) -> str:
    """Apply the user's own `insteadOf`, longest prefix first; the repository's never."""
    if push:
        done = _rewrite(url, user, "pushinsteadof")
        if done is not None:
            return done
    return _rewrite(url, user, "insteadof") or url


def _rewrite(url: str, user: Settings, name: str) -> str | None:
    best: tuple[int, str] | None = None
    for base, prefixes in user.sub("url", name):
        for prefix in prefixes:
            if prefix and url.startswith(prefix) and (best is None or len(prefix) > best[0]):
                best = len(prefix), base + url[len(prefix) :]
    return best[1] if best else None
