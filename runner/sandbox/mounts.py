"""Decides what a command finds at which path: pure, from what lies around and what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.sandbox.nouns import Mount

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runner.sandbox.nouns import Cache, Need, Surroundings

_PRIVATE = tuple(map(Path, ("/tmp", "/var/tmp", "/run")))  # noqa: S108  new ones, in the sandbox
"""Directories that are empty for each command, and its own."""
_RESOLVERS = (
    Path("/run/systemd/resolve"),
    Path("/run/NetworkManager"),
    Path("/run/resolvconf"),
)
"""Where `/etc/resolv.conf` may lead (systemd-resolved(8), resolvconf(8))."""
_CGROUPS = (Path("/sys/devices/system"), Path("/sys/fs/cgroup"))
"""How many processors there are, and how much of them may be used: runtimes ask."""


@frozen(kw_only=True)
class Reach:
    """What of the tree a mend may write, as far as there is something at those paths."""

    write: tuple[Path, ...] = ()
    keep: tuple[Path, ...] = ()
    """Lies below something of `write`, and may not."""
    hidden: tuple[Path, ...] = ()
    """Files that it may not even read: they hold keys."""
    closed: tuple[Path, ...] = ()
    """The same for directories."""


def mounts_for(
    around: Surroundings, need: Need, *, reach: Reach | None = None, filled: frozenset[Path]
) -> tuple[Mount, ...]:
    """Return everything that is there for a command, parents before what lies below them.

    Args:
        around: What was found around the tree.
        need: What the command may reach.
        reach: What of the tree it may write; `None` is the whole tree.
        filled: Private caches that hold something.
    """
    layers: list[Mount] = []
    layers += [Mount("empty", path) for path in _PRIVATE]
    if not around.home.is_relative_to(around.root):
        layers.append(Mount("empty", around.home))
    layers += [Mount("link", path, target) for path, target in around.links]
    layers += [Mount("read", path, optional=True) for path in (*around.readable, *_CGROUPS)]
    layers += _caches(around.caches, filled, network=need.network, mend=need.write is not None)
    layers += [Mount("mask", path, "/dev/null") for path in around.hidden]
    layers += [Mount("hide", path) for path in around.closed]
    if need.network:
        layers += [Mount("read", path, optional=True) for path in _RESOLVERS]
    layers += [Mount("write", path, optional=True) for path in around.writable]
    layers += _tree(around, need, reach)
    for path, source, writable in need.instead:
        layers.append(Mount("write" if writable else "read", path, str(source)))
    layers += [Mount("write", path) for path in need.private]
    return _in_order(layers, need.tree)


def _tree(around: Surroundings, need: Need, reach: Reach | None) -> Iterator[Mount]:
    if reach is None:
        yield Mount("write", need.tree)
    else:
        yield Mount("read", need.tree)
        yield from (Mount("write", path) for path in reach.write)
        yield from (Mount("read", path, optional=True) for path in reach.keep)
        yield from (Mount("mask", path, "/dev/null") for path in reach.hidden)
        yield from (Mount("hide", path) for path in reach.closed)
    # What git keeps of a clean checkout is small and its own; that of the tree must stay as it is.
    yield from (Mount("read", path, optional=True) for path in around.git)
    if need.tree != around.root:
        # A checkout has links to what is ignored there: environments, and caches in them.
        yield Mount("write", around.root, optional=True)
        yield Mount("read", need.tree / ".git", optional=True)


def _caches(
    caches: Iterable[Cache], filled: frozenset[Path], *, network: bool, mend: bool
) -> Iterator[Mount]:
    """Show the user's own cache where nothing new can be fetched into the private one.

    A mend gets one that is thrown away: what it leaves there, a judge would run.
    """
    for cache in caches:
        if cache.shown and (mend or not (network or cache.private in filled)):
            yield Mount("read", cache.path, optional=True)
        elif mend:
            yield Mount("empty", cache.path)
        else:
            yield Mount("write", cache.path, str(cache.private))


def _in_order(layers: Iterable[Mount], tree: Path) -> tuple[Mount, ...]:
    """Put parents before children; of two at one path the later one stays.

    Within the tree only what was meant for it counts: a tool found there is no reason to keep the
    tree, or a part of it, from being written.
    """
    last: dict[Path, Mount] = {}
    for mount in layers:
        last.pop(mount.path, None)
        last[mount.path] = mount
    ordered = sorted(last.values(), key=lambda mount: len(mount.path.parts))
    return tuple(_needed(ordered, tree))


def _needed(ordered: Iterable[Mount], tree: Path) -> Iterator[Mount]:
    """Leave out what a parent shows already in the same way."""
    shown: dict[Path, Mount] = {}
    for mount in ordered:
        above = next((shown[path] for path in mount.path.parents if path in shown), None)
        if _shows(above, mount) and mount.path != tree:
            continue
        shown[mount.path] = mount
        yield mount


def _shows(above: Mount | None, mount: Mount) -> bool:
    if above is None or above.source or mount.source:
        return False
    return above.kind == mount.kind == "read"
