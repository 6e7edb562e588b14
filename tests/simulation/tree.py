"""A work tree whose snapshots are small files beside it: what `workspace.tree.Tree` does, no git.

The files themselves are real, so that agents' own tools work on them.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from typing import TYPE_CHECKING

from runner.globs import matches_any
from runner.outcome import Change
from runner.workspace.tree import TextPair

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

MODE = "100644"


def blob_of(data: bytes) -> str:
    """Return git's id of a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class FakeTree:
    """Snapshots by content; each step of a restore is a moment at which a process may die."""

    notes: tuple[str, ...] = ()

    def __init__(self, root: Path, store: Path, moment: Callable[[str], None]) -> None:
        self.root, self.store, self.moment = root, store, moment
        self.kept: set[str] = set()
        store.mkdir(exist_ok=True)

    def close(self) -> None:
        """Leave everything."""

    def scan(self) -> dict[str, str]:
        """Return the id of each file's content, and keep the contents."""
        found: dict[str, str] = {}
        top = f"{self.root}/"
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if name != ".git"]
            for name in names:
                path = os.path.join(folder, name)  # noqa: PTH118  half of a run's time is here
                with open(path, "rb") as file:  # noqa: PTH123  as above
                    data = file.read()
                blob = found[path[len(top) :]] = blob_of(data)
                if blob not in self.kept:
                    self.kept.add(blob)
                    (self.store / blob).write_bytes(data)
        return found

    def keep(self, files: dict[str, str]) -> str:
        """Write a snapshot down."""
        if not files:
            return ""
        text = json.dumps(files, sort_keys=True)
        tree = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        if not (self.store / f"{tree}.tree").exists():
            (self.store / f"{tree}.tree").write_text(text)
        return tree

    def files(self, tree: str) -> dict[str, str]:
        """Return a snapshot's files."""
        return json.loads((self.store / f"{tree}.tree").read_text()) if tree else {}

    def data(self, blob: str) -> bytes:
        """Return a content."""
        return (self.store / blob).read_bytes()

    async def snapshot(self) -> str:
        """Record the tree as it is now."""
        self.moment("snapshot")
        return self.keep(self.scan())

    async def changes(self, before: str, after: str) -> tuple[Change, ...]:
        """Return how two snapshots differ."""
        old, new = self.files(before), self.files(after)
        return tuple(
            Change(
                path,
                "added" if path not in old else "deleted" if path not in new else "modified",
                MODE if path in old else "",
                MODE if path in new else "",
                old.get(path, ""),
                new.get(path, ""),
            )
            for path in sorted(old.keys() | new.keys())
            if old.get(path) != new.get(path)
        )

    async def texts(self, before: str, after: str) -> list[TextPair]:
        """Return the changed files' texts."""
        return [
            TextPair(
                one.path,
                self.data(one.before_blob).decode() if one.before_blob else None,
                self.data(one.after_blob).decode() if one.after_blob else None,
            )
            for one in await self.changes(before, after)
        ]

    async def read(self, tree: str, path: str) -> bytes | None:
        """Return a file's content in a snapshot."""
        blob = self.files(tree).get(path)
        return self.data(blob) if blob else None

    async def diff(self, before: str, after: str, *, limit: int = 200_000) -> str:
        """Return a diff of the texts."""
        lines: list[str] = []
        for path, old, new in await self.texts(before, after):
            pair = ((old or "").splitlines(keepends=True), (new or "").splitlines(keepends=True))
            lines += difflib.unified_diff(*pair, f"a/{path}", f"b/{path}")
        return "".join(lines)[:limit]

    async def stat(self, before: str, after: str) -> str:
        """Return the changed paths."""
        return "\n".join(one.path for one in await self.changes(before, after))

    async def subset(self, tree: str, globs: tuple[str, ...] | None) -> str:
        """Return a hash over the paths that match."""
        if globs is None:
            return tree
        chosen = {p: b for p, b in self.files(tree).items() if matches_any(globs, p)}
        return hashlib.sha1(repr(sorted(chosen.items())).encode()).hexdigest()

    async def restore(
        self, current: str, to: str, *, keep: Collection[str] = ()
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Undo what changed between two snapshots, only where nobody has changed it since."""
        back: list[str] = []
        kept: list[str] = []
        for one in await self.changes(current, to):
            file = self.root / one.path
            now = blob_of(file.read_bytes()) if file.is_file() else ""
            if one.path in keep or now not in (one.before_blob, one.after_blob):
                kept.append(one.path)
                continue
            self.moment("restore")
            if one.after_blob:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(self.data(one.after_blob))
            else:
                file.unlink(missing_ok=True)
            back.append(one.path)
        return tuple(back), tuple(kept)

    async def reveal(self, before: str, known: str) -> tuple[str, ...]:
        """Nothing is ignored here."""
        del before, known
        return ()

    def blob_id(self, data: bytes) -> str:
        """Return the id that a content has in snapshots."""
        return blob_of(data)

    async def link_ignored(self, destination: Path) -> None:
        """Nothing is ignored here."""
        del destination
