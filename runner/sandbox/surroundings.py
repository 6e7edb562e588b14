"""Looks at what lies around a work tree: system, tools, interpreters, caches, git's directories.

Nothing that the tree says is believed: a path that stands in one of its files is shown only where
what lies there is plainly an interpreter or a repository.
"""

# pathlib raises where a path may not be looked at, and at loops of links; here such is not there.
# ruff: noqa: PTH110, PTH112, PTH113, PTH114

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.frozen import frozen
from runner.sandbox.gitconfig import user_settings
from runner.sandbox.nouns import Cache, Surroundings
from runner.sandbox.repositories import git_paths
from runner.sandbox.tools import CACHES, FOREIGN_CACHES, HOMES, IN_CACHE, NAMED, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_MOST_LINKS = 400
"""Programs of one directory on PATH that are followed to where they really are."""
_MOST_DIRECTORIES = 300
"""Directories of the tree that are looked at for environments."""
_NEVER_ENTERED = frozenset({".git", "node_modules", "__pycache__"})


@frozen(kw_only=True)
class Extra:
    """What the user's configuration adds."""

    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()


def look_around(
    root: Path, state: Path, environ: Mapping[str, str], extra: Extra | None = None
) -> Surroundings:
    """Return what a run's commands find around the work tree.

    Args:
        root: The work tree's top.
        state: This repository's part of the state directory.
        environ: The runner's own environment: the user's, not a step's.
        extra: What the user's configuration adds.

    Raises:
        UsageError: A path of the configuration is relative.
    """
    extra = extra or Extra()
    root = root.resolve()
    home = home_of(environ)
    look = _Look(root, home)
    for path in SYSTEM:
        look.show(Path(path))
    look.show_homes(environ)
    look.show_path(environ.get("PATH", ""))
    for environment in environments_of(root, environ):
        look.show_interpreter(environment)
    look.show(Path(sys.prefix))
    look.show_interpreter(Path(sys.prefix))
    look.show_certificates()
    for text in extra.read:
        look.show(_expanded(text, home, "read"), wanted=True)
    private = tuple(_private(look.readable, state))
    return Surroundings(
        root=root,
        home=home,
        readable=tuple(look.readable),
        writable=tuple(_expanded(text, home, "write").resolve() for text in extra.write),
        hidden=tuple(path for path, is_dir in private if not is_dir),
        closed=tuple(path for path, is_dir in private if is_dir),
        links=tuple(look.links.items()),
        git=git_paths(root),
        gitconfig=user_settings(home, environ),
        caches=tuple(
            cache for cache in _caches(home, state, environ) if look.can_mount(cache.path)
        ),
        state=state,
    )


def home_of(environ: Mapping[str, str]) -> Path:
    """Return the user's home; `/root` where nothing says."""
    named = environ.get("HOME", "")
    if named.startswith("/") and named != "/":
        return Path(named).resolve()
    import pwd  # noqa: PLC0415  few have no HOME

    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir).resolve()
    except KeyError:
        return Path("/root")


class _Look:
    """Collects what is shown; each path once, parents before children."""

    def __init__(self, root: Path, home: Path) -> None:
        self.readable: dict[Path, None] = {}
        self.links: dict[Path, str] = {}
        self._root, self._home = root, home

    def show(self, path: Path, *, wanted: bool = False) -> None:
        """Show a path that exists, and the links on the way to it.

        What holds the whole home or the tree is never shown for a tool's sake.
        """
        real = self._follow(path)
        if real is None or real.is_relative_to(self._root):
            return
        if self._root.is_relative_to(real) or (not wanted and self._home.is_relative_to(real)):
            return
        if not self._shown(real):
            self.readable[real] = None

    def can_mount(self, path: Path) -> bool:
        """Whether something else can be put at a path: nothing can be made below what is shown."""
        if path.is_relative_to(self._root):
            return False
        return os.path.isdir(path) if self._shown(path) else not os.path.isfile(path)

    def _shown(self, path: Path) -> bool:
        return path in self.readable or any(parent in self.readable for parent in path.parents)

    def _follow(self, path: Path) -> Path | None:
        """Return where a path really is, and keep the links that lead there."""
        if not os.path.exists(path):
            return None
        for _ in range(40):
            link = self._first_link(path)
            if link is None:
                return path
            target = os.readlink(link)  # noqa: PTH115  as it stands, for the link to be made anew
            if not self._shown(link) and not link.is_relative_to(self._root):
                self.links[link] = target
            path = Path(os.path.normpath(link.parent / target)) / path.relative_to(link)
        return None

    @staticmethod
    def _first_link(path: Path) -> Path | None:
        for part in (*reversed(path.parents), path):
            if os.path.islink(part):
                return part
        return None

    def show_homes(self, environ: Mapping[str, str]) -> None:
        """Show where tools keep themselves below the home, or where variables say."""
        for name in HOMES:
            self.show(self._home / name)
        for variable in NAMED:
            value = environ.get(variable, "")
            if value.startswith("/"):
                self.show(Path(value))
                self.show_interpreter(Path(value))

    def show_path(self, value: str) -> None:
        """Show the directories of PATH, and what programs of the user's own need beside them."""
        for text in dict.fromkeys(value.split(os.pathsep)):
            directory = Path(text)
            if not directory.is_absolute() or not os.path.isdir(directory):
                continue
            self.show(prefix_of(directory))
            self.show(directory)
            if Path(os.path.realpath(directory)).is_relative_to(self._home):
                for program in _linked(directory):
                    self.show(prefix_of(program.parent) if _is_bin(program.parent) else program)

    def show_interpreter(self, environment: Path) -> None:
        """Show the Python that an environment was made from, where it is one."""
        base = base_of(environment)
        if base is not None:
            self.show(base)
            self.show(Path(os.path.realpath(base)))

    def show_certificates(self) -> None:
        """Show what files of `/etc` lead to elsewhere: certificates, the time zone."""
        for name in ("/etc/localtime", "/etc/ssl/certs/ca-certificates.crt"):
            if os.path.islink(Path(name)):
                self.show(Path(name))


def _is_bin(directory: Path) -> bool:
    return directory.name in ("bin", "sbin")


def prefix_of(directory: Path) -> Path:
    """Return what a directory of programs belongs to: `/opt/node` for `/opt/node/bin`."""
    if not _is_bin(directory) or directory.parent.name in (".local", ""):
        return directory
    above = directory.parent
    beside = any(os.path.isdir(above / name) for name in ("lib", "lib64", "libexec", "share"))
    return above if beside else directory


def _linked(directory: Path) -> Iterator[Path]:
    """Yield where the links among a directory's programs lead."""
    try:
        with os.scandir(directory) as entries:
            links = [entry.path for entry in entries if entry.is_symlink()]
    except OSError:
        return
    for link in links[:_MOST_LINKS]:
        yield Path(os.path.realpath(link))


def environments_of(root: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """Yield the Python environments of a tree: near its top, and those of tox and nox."""
    for variable in ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "CONDA_PREFIX"):
        if environ.get(variable, "").startswith("/"):
            yield Path(environ[variable])
    budget = _MOST_DIRECTORIES
    for directory in _directories(root):
        if os.path.isfile(directory / "pyvenv.cfg"):
            yield directory
            continue
        hidden = directory.name.startswith(".") and directory.name not in (".tox", ".nox")
        if hidden or directory.name in _NEVER_ENTERED:
            continue
        for inner in _directories(directory):
            budget -= 1
            if budget < 0:
                return
            if os.path.isfile(inner / "pyvenv.cfg"):
                yield inner


def _directories(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return [Path(e.path) for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def base_of(environment: Path) -> Path | None:
    """Return the Python that an environment was made from (PEP 405); `None` if it is none.

    The file stands in the tree, and anybody can write it: what it names must be a Python.
    """
    try:
        with (environment / "pyvenv.cfg").open(encoding="utf-8", errors="replace") as file:
            lines = file.read(64_000).splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip().lower() == "home" and value.strip().startswith("/"):
            directory = Path(os.path.normpath(value.strip()))
            base = directory.parent if _is_bin(directory) else directory
            return base if _is_python(base) else None
    return None


def _is_python(base: Path) -> bool:
    has_program = any(
        os.path.exists(base / "bin" / name) for name in ("python3", "python", "pypy3")
    )
    libraries = (base / "lib").glob("py*3*/os.py")
    return has_program and next(libraries, None) is not None


def _caches(home: Path, state: Path, environ: Mapping[str, str]) -> tuple[Cache, ...]:
    """Return the tools' caches, each with a private one in the state directory."""

    def place(variable: str, default: Path) -> Path:
        named = environ.get(variable, "") if variable else ""
        return Path(os.path.normpath(named)) if named.startswith("/") else default

    private = state / "caches"
    top = place("XDG_CACHE_HOME", home / ".cache")
    found = [Cache("XDG_CACHE_HOME", top, private / "cache")]
    for variable, name, shown in IN_CACHE:
        path = place(variable, top / name)
        if shown and os.path.isdir(path):
            found.append(Cache(variable, path, private / "cache" / name, shown=True))
        elif not path.is_relative_to(top):
            found.append(Cache(variable, path, private / "cache" / name))
    for variable, below, name, shown in CACHES:
        named = environ.get(variable, "") if variable else ""
        path = Path(named) / below if named.startswith("/") else home / name
        keeps = shown and os.path.isdir(path)
        found.append(Cache(variable, path, private / name.replace("/", "-").lstrip("."), keeps))
    for name in FOREIGN_CACHES:
        path = home / name
        if os.path.isdir(path):
            found.append(Cache("", path, private / name.replace("/", "-").lstrip("."), shown=True))
    return tuple(found)


def filled_caches(around: Surroundings, *, mend: bool) -> frozenset[Path]:
    """Make the private caches that are about to be mounted; return those that hold something."""
    if mend:
        return frozenset()
    filled: set[Path] = set()
    for cache in around.caches:
        try:
            with os.scandir(cache.private) as entries:
                if next(entries, None) is not None:
                    filled.add(cache.private)
        except FileNotFoundError:
            cache.private.mkdir(mode=0o700, parents=True, exist_ok=True)
    return frozenset(filled)


def _private(readable: Iterable[Path], state: Path) -> Iterator[tuple[Path, bool]]:
    """Yield what lies below something that is shown and is private, and whether it is a directory.

    Whoever is not root can read nothing of `/etc` that is for root only, sandbox or not.
    """
    if any(state.is_relative_to(path) for path in readable):
        yield state, True
    if os.geteuid() == 0:
        yield from _for_root_only(Path("/etc"), depth=3)


def _for_root_only(directory: Path, depth: int) -> Iterator[tuple[Path, bool]]:
    try:
        with os.scandir(directory) as entries:
            found = list(entries)
    except OSError:
        return
    for entry in found:
        if entry.is_symlink():
            continue
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError:
            continue
        if not mode & stat.S_IROTH:
            yield Path(entry.path), stat.S_ISDIR(mode)
        elif stat.S_ISDIR(mode) and depth:
            yield from _for_root_only(Path(entry.path), depth - 1)


def _expanded(text: str, home: Path, key: str) -> Path:
    path = home / text[2:] if text.startswith("~/") else Path(text)
    if not path.is_absolute():
        raise UsageError(
            f"`sandbox.{key}` of your configuration: {text!r} is not an absolute path",
            hint="Write it from `/` or `~/`.",
        )
    return Path(os.path.normpath(path))
