"""Takes snapshots of the work tree, compares them, and brings one back."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread

from runner.errors import RunnerError
from runner.globs import matches_any
from runner.workspace.environments import Environments
from runner.workspace.files import ABSENT, Files, State
from runner.workspace.gitexec import GitError
from runner.workspace.places import excludes, locate
from runner.workspace.scan import Scanner
from runner.workspace.store import Store, valid

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from runner.outcome import Change
    from runner.workspace.places import GitPlace
    from runner.workspace.store import Entry

TEXT_LIMIT = 1024 * 1024
"""Bytes of the largest file that `texts` reads."""
_GITLINK = "160000"
_DIFF = (
    *("diff-tree", "-r", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-color"),
    # Asked for, so that git does not look into `.gitmodules` for it, which may be a hostile one.
    "--ignore-submodules=none",
)
_HOLLOW = ("ls-files", "-z", "--others", "--directory", "--exclude-standard")
_CACHES = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis")
"""Ignored directories that a second checkout must not share: they hold results of the first."""


class TextPair(NamedTuple):
    """A text file in two snapshots; `None` where it is absent."""

    path: str
    before: str | None
    after: str | None


class Tree:
    """A work tree: its tracked and its untracked-not-ignored files.

    Snapshots hold raw bytes and live in the state directory; the user's repository, its index,
    stash and refs are only read. Paths are relative to the root, with `/`; names that are not UTF-8
    come as surrogate escapes. The empty string stands for the tree without files.

    Attributes:
        root: Top of the work tree.
    """

    def __init__(self, root: Path, store: Store, place: GitPlace | None) -> None:
        self.root = root
        self._store = store
        self._scanner = Scanner(store, place)
        self._files = Files(root, store.object_format)
        self._head = "" if place is None else place.head
        self._lock = anyio.Lock()
        self._last = ""
        self._entries: dict[str, tuple[Entry, ...]] = {}
        self._subsets: dict[tuple[str, tuple[str, ...]], str] = {}

    @classmethod
    async def open(cls, root: Path, state: Path, *, place: GitPlace | None = None) -> Tree:
        """Open the tree below `root`, keeping snapshots in `state`.

        Args:
            root: The top of a git work tree, or any directory.
            state: The work tree's own state directory (`repo_state`), outside of the tree.
            place: Where its repository is, if that is known already; else it is looked for.

        Raises:
            RunnerError: git is not installed, or the state directory cannot be written.
        """
        place = place if place is not None else locate(root)
        ignored = await excludes(root, place)
        try:
            return cls(root, Store(root, state, place, ignored), place)
        except OSError as error:
            raise RunnerError(
                f"snapshots cannot be kept in {state}: {error.strerror}",
                hint="Choose another place with --state-dir.",
            ) from error

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last snapshot left out, and why, a line each."""
        return tuple(f"{path}: {why}" for path, why in sorted(self._scanner.notes.items()))

    def close(self) -> None:
        """Remove this object's private files; snapshots stay."""
        self._store.close()

    async def snapshot(self) -> str:
        """Record the tree as it is now and return its hash.

        Raises:
            GitError: It cannot be recorded, for example because the disk is full.
        """
        async with self._lock:
            changed = await self._scanner.update()
            if self._last and not changed:
                return self._last
            tree = os.fsdecode(await self._store.run("write-tree")).strip()
            await self._keep(tree)
            if changed:
                self._store.publish()
            self._last = tree
            return tree

    async def changes(self, before: str, after: str) -> tuple[Change, ...]:
        """Return how two snapshots differ, sorted by path."""
        return await self._store.changes(before or self._store.empty, after or self._store.empty)

    async def diff(self, before: str, after: str, *, limit: int = 200_000) -> str:
        """Return a unified diff of at most about `limit` bytes; its last line says if cut."""
        pair = (valid(before or self._store.empty), valid(after or self._store.empty))
        found = await self._store.run_capped(*_DIFF, "-p", *pair, limit=limit)
        if not found.cut:
            return found.out.decode("utf-8", "replace")
        whole = found.out[: found.out.rfind(b"\n") + 1]
        return whole.decode("utf-8", "replace") + "[... the diff goes on ...]\n"

    async def stat(self, before: str, after: str) -> str:
        """Return a compact diffstat of at most 40 files."""
        pair = (valid(before or self._store.empty), valid(after or self._store.empty))
        out = await self._store.run(*_DIFF, "--stat=100", "--stat-count=40", *pair)
        return out.decode("utf-8", "replace")

    async def texts(self, before: str, after: str) -> list[TextPair]:
        """Return the changed files that are text of at most 1 MiB on both sides."""
        changed = [c for c in await self.changes(before, after) if not _is_nested(c)]
        sizes = await self._store.sizes(_unique(b for c in changed for b in _blobs_of(c)))
        small = [c for c in changed if all(sizes[b] <= TEXT_LIMIT for b in _blobs_of(c))]
        texts: dict[str, str | None] = {"": None}
        async for blob, data in self._store.blobs(b for c in small for b in _blobs_of(c)):
            if b"\0" not in data[:8000]:
                texts[blob] = data.decode("utf-8", "replace")
        return [
            TextPair(c.path, texts[c.before_blob], texts[c.after_blob])
            for c in small
            if c.before_blob in texts and c.after_blob in texts
        ]

    async def read(self, tree: str, path: str) -> bytes | None:
        """Return a file's bytes (a link's target) in a snapshot; `None` if it has none there."""
        entry = next((e for e in await self._listing(tree) if e.path == path), None)
        if entry is None or entry.mode == _GITLINK:
            return None
        return await self._store.run("cat-file", "blob", entry.blob)

    async def paths(self, tree: str) -> tuple[str, ...] | None:
        """Return a snapshot's paths; `None` where it holds a repository of its own.

        What such a one is at is not told by how its directory looks.
        """
        entries = await self._listing(tree)
        nested = any(entry.mode == _GITLINK for entry in entries)
        return None if nested else tuple(entry.path for entry in entries)

    async def hollow(self) -> tuple[str, ...]:
        """Return the directories that are not ignored and hold no file of the last snapshot.

        Only the topmost of nested ones.
        """
        listed = await self._store.run(*_HOLLOW)
        names = os.fsdecode(listed).split("\0")
        return tuple(name[:-1] for name in names if name.endswith("/"))

    async def subset(self, tree: str, globs: tuple[str, ...] | None) -> str:
        """Return a hash over the paths that match `globs`; of the whole tree when `None`."""
        if globs is None:
            return tree
        key = (tree, globs)
        if key not in self._subsets:
            digest = hashlib.sha256()
            for entry in await self._listing(tree):
                if matches_any(globs, entry.path):
                    line = f"{entry.mode} {entry.blob} {entry.path}\0"
                    digest.update(line.encode("utf-8", "surrogateescape"))
            _bound(self._subsets, 256)
            self._subsets[key] = digest.hexdigest()
        return self._subsets[key]

    async def restore(
        self, current: str, to: str, *, keep: Collection[str] = ()
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Undo what changed from snapshot `to` to snapshot `current`, and nothing else.

        A path is written only where it still is what `current` holds. Links are never followed.
        What is in `keep` is left alone: somebody else changed it, before `current` was taken.

        Returns:
            The paths that are as in `to` now, and those left alone because somebody else changed
            them since, or because they are repositories of their own.

        Raises:
            RunnerError: A content of the snapshot is damaged; nothing was written for it.
        """
        changes = await self.changes(current, to)
        alone = {c.path for c in changes if _is_nested(c) or c.path in keep}
        done: dict[str, str] = dict.fromkeys(alone, "external")
        plain = [c for c in changes if c.path not in alone]
        # What must go comes first, deepest first: a directory may have to give way to a file.
        for change in reversed([c for c in plain if c.kind == "deleted"]):
            done[change.path] = await self._put(change, b"")
            await anyio.to_thread.run_sync(self._files.prune, change.path)
        by_blob: dict[str, list[Change]] = {}
        for change in plain:
            if change.kind != "deleted":
                by_blob.setdefault(change.after_blob, []).append(change)
        async for blob, data in self._store.blobs(by_blob):
            if self._files.blob_id(data) != blob:
                raise RunnerError(
                    f"the snapshot {to} is damaged: content {blob} is not what it was"
                )
            for change in by_blob[blob]:
                done[change.path] = await self._put(change, data)
        restored = tuple(sorted(path for path, how in done.items() if how == "restored"))
        return restored, tuple(sorted(path for path, how in done.items() if how == "external"))

    async def reveal(self, before: str, known: str) -> tuple[str, ...]:
        """Delete what came to light since snapshot `before` because it is ignored no longer.

        Args:
            before: Taken before the files that say what is ignored were restored.
            known: A snapshot whose paths are kept.
        """
        now = await self.snapshot()
        kept = {entry.path for entry in await self._listing(known)}
        new = [c for c in await self.changes(now, before) if c.kind == "deleted"]
        gone = [c for c in new if c.path not in kept and not _is_nested(c)]
        done = {change.path: await self._put(change, b"") for change in reversed(gone)}
        for change in reversed(gone):
            await anyio.to_thread.run_sync(self._files.prune, change.path)
        return tuple(sorted(path for path, how in done.items() if how == "restored"))

    def blob_id(self, data: bytes) -> str:
        """Return the id that a content has in snapshots."""
        return self._files.blob_id(data)

    async def export(self, tree: str, destination: Path) -> None:
        """Write all files of a snapshot into an empty directory."""
        index = self._store.index.with_name(f"export-{os.path.basename(destination)}")  # noqa: PTH119
        try:
            await self._store.run("read-tree", valid(tree), index=index)
            args = ("checkout-index", "-a", "-q", "--")
            await self._store.run(*args, index=index, work_tree=destination)
        finally:
            index.unlink(missing_ok=True)

    async def link_ignored(self, destination: Path) -> None:
        """Link what is ignored here (environments, `node_modules`) into another checkout."""
        await anyio.to_thread.run_sync(_link_all, self.root, destination, await self._ignored())

    def environments(self, watched: Callable[[str], bool]) -> Environments:
        """Return the watch over the ignored files that commands run.

        Args:
            watched: Whether a single ignored file, in no environment, counts as well.
        """
        return Environments(
            self.root, self._store.directory.parent / "environments", self._ignored, watched
        )

    @property
    def aside(self) -> Path:
        """Private directory for what was taken out of the tree and is in no snapshot."""
        return self._store.directory.parent / "put-away"

    async def _ignored(self) -> list[str]:
        """List what is ignored; a directory that is so as a whole ends with a slash."""
        args = ("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")
        return os.fsdecode(await self._store.run(*args)).split("\0")[:-1]

    async def _put(self, change: Change, data: bytes) -> str:
        expected = State(change.before_mode, change.before_blob)
        wanted = State(change.after_mode, change.after_blob) if change.after_mode else ABSENT
        return await anyio.to_thread.run_sync(self._files.put, change.path, expected, wanted, data)

    async def _keep(self, tree: str) -> None:
        """Own what neither HEAD nor an earlier snapshot of this object holds."""
        base = self._last or self._head or self._store.empty
        try:
            changed = await self._store.changes(base, tree)
        except GitError:  # HEAD is not there to compare with, as in a partial clone
            changed = await self._store.changes(self._store.empty, tree)
        await self._store.keep(
            _unique(c.after_blob for c in changed if c.after_blob and c.after_mode != _GITLINK)
        )

    async def _listing(self, tree: str) -> tuple[Entry, ...]:
        if tree not in self._entries:
            _bound(self._entries, 4)
            self._entries[tree] = await self._store.entries(tree or self._store.empty)
        return self._entries[tree]


def _is_nested(change: Change) -> bool:
    return _GITLINK in {change.before_mode, change.after_mode}


def _blobs_of(change: Change) -> list[str]:
    return [blob for blob in (change.before_blob, change.after_blob) if blob]


def _unique(items: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(items))


def _bound(cache: dict[Any, Any], most: int) -> None:
    while len(cache) >= most:
        del cache[next(iter(cache))]


def _link_all(root: Path, destination: Path, listed: Sequence[str]) -> None:
    for name in listed:
        path = name.rstrip("/")
        if path.endswith((".pyc", ".pyo")) or any(part in _CACHES for part in path.split("/")):
            continue
        link = destination / path
        if link.parent.is_dir() and not os.path.lexists(link):
            link.symlink_to(root / path)
