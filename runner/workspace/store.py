"""The runner's own git directory for one work tree: objects of snapshots, and how git is asked.

It lives in the state directory, so no configuration, hook, filter or attribute of the user's
repository has a say: content is stored raw, byte for byte, whatever `.gitattributes` asks for.
Objects that the user's repository has are borrowed, not copied, as long as HEAD reaches them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import sys
from typing import TYPE_CHECKING

from runner.errors import RunnerError
from runner.frozen import frozen
from runner.outcome import Change
from runner.workspace.gitexec import git, git_result

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterable, Sequence
    from pathlib import Path

    from runner.workspace.gitexec import GitResult
    from runner.workspace.places import GitPlace, ObjectFormat

_EMPTY = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_OID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_ATTRIBUTES = "* -text -ident !filter !working-tree-encoding !diff !merge !eol !crlf\n"
"""The strongest attributes. `-working-tree-encoding` would make git die: only `!` is legal."""
_GROUP = 64 * 1024 * 1024
_counter = itertools.count(1)


@frozen
class Entry:
    """One path of a snapshot."""

    path: str
    mode: str
    blob: str


class Store:
    """An own git directory and one private index over a work tree.

    Attributes:
        directory: The git directory.
        index: This store's private index.
        empty: Id of the tree without files.
    """

    def __init__(self, root: Path, state: Path, place: GitPlace | None, ignored: bytes) -> None:
        self.root = root
        self.object_format: ObjectFormat = "sha1" if place is None else place.object_format
        self.empty = _EMPTY[self.object_format]
        self.directory = state / (
            "control.git" if self.object_format == "sha1" else "control256.git"
        )
        self._objects = None if place is None else place.common_dir / "objects"
        _prepare(self.directory, self.object_format)
        _remove_dead(self.directory / "trees")
        self._private = self.directory / "trees" / f"{os.getpid()}.{next(_counter)}"
        self._private.mkdir(mode=0o700, parents=True)
        self.index = self._private / "index"
        _copy(self.directory / "index", self.index)
        self._excludes = self._private / "exclude"
        self._excludes.write_bytes(ignored)

    def close(self) -> None:
        """Remove the private index."""
        shutil.rmtree(self._private, ignore_errors=True)

    def publish(self) -> None:
        """Let later runs start from this index: unchanged files are not read again."""
        with contextlib.suppress(OSError):  # they only start slower without it
            _copy(self.index, self.directory / "index")

    @contextlib.contextmanager
    def copy_of(self, index: Path) -> Generator[Path]:
        """Give a copy of the user's index (and the one it is split from) for the block.

        Raises:
            OSError: It cannot be read.
        """
        copy = self._private / "user-index"
        shutil.copyfile(index, copy)
        for shared in index.parent.glob("sharedindex.*"):
            _copy(shared, self.directory / shared.name)
        try:
            yield copy
        finally:
            copy.unlink(missing_ok=True)

    async def run(
        self,
        *args: str,
        stdin: bytes | None = None,
        index: Path | None = None,
        work_tree: Path | None = None,
    ) -> bytes:
        """Run git in this store and return its output.

        Raises:
            GitError: It failed.
        """
        top = work_tree or self.root
        return await git(
            ("-c", f"core.excludesFile={self._excludes}", *args),
            env=self._environment(index or self.index, top),
            cwd=top,
            stdin=stdin,
        )

    async def run_capped(self, *args: str, limit: int) -> GitResult:
        """Run git in this store and read at most `limit` bytes of its output."""
        return await git_result(
            args, env=self._environment(self.index, self.root), cwd=self.root, limit=limit
        )

    async def changes(self, before: str, after: str) -> tuple[Change, ...]:
        """Return how two trees differ, path by path, sorted by path."""
        if before == after:
            return ()
        out = await self.run(
            *("diff-tree", "-r", "-z", "--raw", "--no-renames", "--ignore-submodules=none"),
            *(valid(before), valid(after)),
        )
        fields = os.fsdecode(out).split("\0")
        return tuple(_change(fields[at], fields[at + 1]) for at in range(0, len(fields) - 1, 2))

    async def entries(self, tree: str) -> tuple[Entry, ...]:
        """Return every path of a tree, sorted."""
        out = os.fsdecode(await self.run("ls-tree", "-r", "-z", valid(tree)))
        found: list[Entry] = []
        for line in out.split("\0")[:-1]:
            facts, _, path = line.partition("\t")
            mode, _, blob = facts.split(" ")
            found.append(Entry(path, mode, blob))
        return tuple(found)

    async def sizes(self, blobs: Sequence[str]) -> dict[str, int]:
        """Return the size of each blob.

        Raises:
            RunnerError: One is missing or damaged.
        """
        if not blobs:
            return {}
        asked = "".join(f"{valid(blob)}\n" for blob in blobs).encode()
        out = (await self.run("cat-file", "--batch-check", stdin=asked)).decode()
        rows = (line.split(" ") for line in out.splitlines())
        found = {row[0]: int(row[2]) for row in rows if row[1:2] == ["blob"]}
        if lost := [blob for blob in blobs if blob not in found]:
            raise RunnerError(
                f"a content of the snapshot is missing or damaged: {lost[0]}",
                hint=f"It was kept in {self.directory}.",
            )
        return found

    async def blobs(self, wanted: Iterable[str]) -> AsyncIterator[tuple[str, bytes]]:
        """Yield each blob's content, reading at most about 64 MiB at a time."""
        sizes = await self.sizes(list(dict.fromkeys(wanted)))
        group: list[str] = []
        size = 0
        for blob, length in sizes.items():
            if group and size + length > _GROUP:
                for found in await self._read(group):
                    yield found
                group, size = [], 0
            group.append(blob)
            size += length
        for found in await self._read(group):
            yield found

    async def keep(self, blobs: Iterable[str]) -> None:
        """Copy borrowed blobs into this store: the user's repository may forget them one day."""
        objects = self.directory / "objects"
        borrowed = [b for b in blobs if not (objects / b[:2] / b[2:]).exists()]
        if borrowed and self._objects is not None:
            asked = "".join(f"{blob}\n" for blob in borrowed).encode()
            await self.run("pack-objects", "-q", str(objects / "pack" / "pack"), stdin=asked)

    async def _read(self, blobs: Sequence[str]) -> list[tuple[str, bytes]]:
        if not blobs:
            return []
        asked = "".join(f"{blob}\n" for blob in blobs).encode()
        out = await self.run("cat-file", "--batch", stdin=asked)
        found: list[tuple[str, bytes]] = []
        at = 0
        for blob in blobs:
            end = out.index(b"\n", at)
            size = int(out[at:end].rsplit(b" ", 1)[1])
            found.append((blob, out[end + 1 : end + 1 + size]))
            at = end + 1 + size + 1
        return found

    def _environment(self, index: Path, work_tree: Path) -> dict[str, str | None]:
        borrowed = None if self._objects is None else _quoted(self._objects)
        return {
            "GIT_DIR": str(self.directory),
            "GIT_WORK_TREE": str(work_tree),
            "GIT_INDEX_FILE": str(index),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": borrowed,
        }


def valid(oid: str) -> str:
    """Return `oid` if it is one.

    Raises:
        ValueError: It could be taken for an option or a name.
    """
    if not _OID.match(oid):
        raise ValueError(f"no id of a snapshot: {oid[:80]!r}")
    return oid


def _prepare(directory: Path, object_format: ObjectFormat) -> None:
    """Make a git directory by hand: `git init` would cost a process and copy templates."""
    for name in ("objects/info", "objects/pack", "refs", "info", "trees"):
        (directory / name).mkdir(mode=0o700, parents=True, exist_ok=True)
    version = 0 if object_format == "sha1" else 1
    # A file system that folds case or has no executable bit is told from a raw snapshot alike.
    config = (
        f"[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tsymlinks = true\n"
        f"\tbare = false\n\tignorecase = {'true' if sys.platform == 'darwin' else 'false'}\n"
        "\tprecomposeunicode = false\n\tprotectNTFS = false\n\tprotectHFS = false\n"
        "\tautocrlf = false\n\tsafecrlf = false\n\ttrustctime = true\n\tcheckStat = default\n"
        "\tquotePath = false\n\tcompression = 1\n\tfsync = none\n\tlogAllRefUpdates = false\n"
        "\tsparseCheckout = false\n\tuntrackedCache = false\n\tsplitIndex = false\n"
        "[index]\n\tsparse = false\n[diff]\n\tignoreSubmodules = all\n[pack]\n\tthreads = 1\n"
    )
    if version:
        config += "[extensions]\n\tobjectFormat = sha256\n"
    for name, text in (
        ("HEAD", "ref: refs/heads/none\n"),
        ("config", config),
        ("info/attributes", _ATTRIBUTES),
        ("info/exclude", ""),
    ):
        path = directory / name
        if not path.is_file() or path.read_text("utf-8") != text:
            _write(path, text.encode())


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{next(_counter)}")
    temporary.write_bytes(data)
    temporary.replace(path)


def _copy(source: Path, target: Path) -> None:
    """Copy an index with its time: git trusts an entry only if it is older than the index."""
    if not source.is_file():
        return
    temporary = target.with_name(f"{target.name}.{os.getpid()}.{next(_counter)}")
    times = source.stat()
    shutil.copyfile(source, temporary)
    os.utime(temporary, ns=(times.st_atime_ns, times.st_mtime_ns))
    temporary.replace(target)


def _remove_dead(directory: Path) -> None:
    for private in directory.iterdir():
        pid = private.name.partition(".")[0]
        if pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(private, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _quoted(path: Path) -> str:
    text = str(path)
    if ":" not in text and not text.startswith('"'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _change(facts: str, path: str) -> Change:
    before_mode, after_mode, before, after, _ = facts.removeprefix(":").split(" ")
    absent = "000000"
    if before_mode == absent:
        return Change(path, "added", "", after_mode, "", after)
    if after_mode == absent:
        return Change(path, "deleted", before_mode, "", before, "")
    if before_mode[:3] != after_mode[:3]:
        kind = "type"
    else:
        kind = "mode" if before == after else "modified"
    return Change(path, kind, before_mode, after_mode, before, after)
