"""Refuses a commit or a push that carries a key: looks through all that would become public.

Of a commit: what its files hold that the parent's tree did not, the names of new files, and the
message. Of a push: the same of every commit and object that the remote has not got, who wrote
them, and the branch's name. The key itself is never told.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import anyio

from runner.errors import GitRefused
from runner.frozen import frozen
from runner.git.process import both
from runner.git.staging import SUBMODULES
from runner.git.status import split
from runner.secretscan import OVERLAP, Hit, told

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from runner.git.shadow import Shadow
    from runner.outcome import Change
    from runner.secretscan import Scanner

_WHOLE = 8 << 20
"""Bytes of blobs that are read at once; bigger ones are read piece by piece."""
_PIECE = 4 << 20
_COMMITS = 2000
"""Newest commits of a push that are looked at; a whole history may have many more."""
_OBJECTS = 50_000
_BOUNDARIES = 5
_SUBMODULE = "160000"


@frozen
class Reach:
    """What a push would make public."""

    sha: str
    remote: str
    branch: str
    has: tuple[str, ...]
    """Commits that the remote is known to have."""

    @property
    def range(self) -> tuple[str, ...]:
        """Arguments for git: what *sha* reaches and the remote does not."""
        wild = any(char in self.remote for char in "*?[\\")
        known = () if wild else (f"--remotes={self.remote}",)
        return (self.sha, "--ignore-missing", "--not", *known, *self.has)


class Leaks:
    """Looks through what is about to leave; what was found clean once is not looked at again."""

    def __init__(self, shadow: Shadow, scanner: Scanner) -> None:
        self._shadow = shadow
        self._scanner = scanner
        self._clean: set[object] = set()

    async def refuse_tree(self, tree: str, parent: str, changes: Iterable[Change]) -> None:
        """Refuse a tree whose changes carry a key.

        Raises:
            GitRefused: With places and kinds.
        """
        if (tree, parent) in self._clean:
            return
        changed = [one for one in changes if one.after_blob and one.after_mode != _SUBMODULE]
        names = [hit for one in changed if one.kind == "added" for hit in self._named(one.path)]
        wanted = {one.after_blob: one.path for one in changed if one.after_blob != one.before_blob}
        hits = await self._new(await self._blobs(wanted), (parent,) if parent else ())
        _refuse("this commit", [*names, *hits])
        self._clean.add((tree, parent))

    def refuse_message(self, message: str) -> None:
        """Refuse a commit's message that carries a key.

        Raises:
            GitRefused: Without the key.
        """
        _refuse("this commit", self._scanner.words(message, "the commit's message"))

    async def refuse_push(self, reach: Reach) -> None:
        """Refuse a push of anything that carries a key.

        Raises:
            GitRefused: With places and kinds.
        """
        if reach in self._clean:
            return
        hits = self._scanner.words(reach.branch, "the branch's name")
        written, objects = await both(self._written(reach), self._objects(reach))
        found = await self._blobs(objects)
        if found:
            found = await self._new(found, await self._boundaries(reach))
        _refuse("this push", [*hits, *written, *found])
        self._clean.add(reach)

    def _named(self, path: str) -> list[Hit]:
        return self._scanner.new_name(path)

    async def _written(self, reach: Reach) -> list[Hit]:
        """Look through messages, who wrote them, and names of files that they added."""
        most = f"--max-count={_COMMITS}"
        form = "--format=%h%x00%an %ae%n%cn %ce%n%B"
        names = ("--diff-filter=A", "--name-only", "--no-renames", "--format=", SUBMODULES)
        said, added = await both(
            self._shadow.check("log", "-z", "--no-mailmap", "-s", most, form, *reach.range),
            self._shadow.check("log", "-z", most, *names, *reach.range),
        )
        hits: list[Hit] = []
        fields = os.fsdecode(said).split("\0")
        for sha, text in zip(fields[0::2], fields[1::2], strict=False):
            hits += self._scanner.words(text, f"commit {sha}")
        for path in dict.fromkeys(split(added)):
            hits += self._named(path)
        return hits

    async def _objects(self, reach: Reach) -> dict[str, str]:
        """Return path by id of the objects that the remote has not got."""
        args = ("rev-list", "--objects", f"--max-count={_COMMITS}", *reach.range)
        found: dict[str, str] = {}
        for line in os.fsdecode(await self._shadow.check(*args)).split("\n"):
            sha, _, path = line.partition(" ")
            if path and len(found) < _OBJECTS:
                found.setdefault(sha, path)
        return found

    async def _boundaries(self, reach: Reach) -> tuple[str, ...]:
        args = ("rev-list", "--boundary", f"--max-count={_COMMITS}", *reach.range)
        lines = (await self._shadow.check(*args)).decode().split()
        return tuple(line[1:] for line in lines if line.startswith("-"))[:_BOUNDARIES]

    async def _blobs(self, wanted: Mapping[str, str]) -> list[Hit]:
        """Look through blobs, told of by their paths; what is no blob is passed by."""
        if not wanted:
            return []
        stdin = "".join(f"{sha}\n" for sha in wanted).encode()
        done = await self._shadow.run("cat-file", "--batch", stdin=stdin, most=_WHOLE)
        if len(done.out) < _WHOLE:
            return await anyio.to_thread.run_sync(self._batch, done.out, wanted)
        return await self._one_by_one(stdin, wanted)

    def _batch(self, out: bytes, wanted: Mapping[str, str]) -> list[Hit]:
        return [
            hit
            for sha, data in _contents(out)
            for hit in self._scanner.file(wanted.get(sha, sha), data)
        ]

    async def _one_by_one(self, stdin: bytes, wanted: Mapping[str, str]) -> list[Hit]:
        """Look through blobs that are too big to be held all at once."""
        out = await self._shadow.check("cat-file", "--batch-check", stdin=stdin)
        hits: list[Hit] = []
        for line in out.decode().splitlines():
            sha, kind, *_ = line.split(" ")
            if kind != "blob":
                continue
            with tempfile.TemporaryFile(dir=self._shadow.directory) as file:
                await self._shadow.run("cat-file", "blob", sha, to=file)
                hits += await anyio.to_thread.run_sync(self._pieces, file, wanted[sha])
        return hits

    def _pieces(self, file: BinaryIO, path: str) -> list[Hit]:
        file.seek(0)
        hits: list[Hit] = []
        kept, at = b"", 0
        while data := file.read(_PIECE):
            whole = kept + data
            hits += self._scanner.file(path, whole, at=at)
            kept = whole[-OVERLAP:]
            at += len(whole) - len(kept)
        return hits

    async def _new(self, hits: Sequence[Hit], before: Sequence[str]) -> list[Hit]:
        """Leave out the keys that commits already hold: moving a line leaks nothing new."""
        old: dict[bytes, bool] = {}
        for token in {hit.token for hit in hits} if before else ():
            old[token] = any([await self._holds(commit, token) for commit in before])
        return [hit for hit in hits if not old.get(hit.token)]

    async def _holds(self, commit: str, token: bytes) -> bool:
        line = max(token.split(b"\n"), key=len)
        args = ("grep", "--quiet", "--text", "--fixed-strings", "-f", "-", commit)
        return (await self._shadow.run(*args, stdin=line + b"\n")).code == 0


def _contents(out: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield id and content of the blobs that `cat-file --batch` told."""
    at = 0
    while at < len(out):
        end = out.find(b"\n", at)
        if end < 0:
            return
        sha, kind, *size = out[at:end].decode("ascii", "replace").split(" ")
        at = end + 1
        if kind == "missing" or not size:
            continue
        data = out[at : at + int(size[0])]
        at += int(size[0]) + 1
        if kind == "blob":
            yield sha, data


def _refuse(what: str, hits: Sequence[Hit]) -> None:
    if not hits:
        return
    hint = "Take it out; if it is real, revoke it: others may have read it already."
    if not all(hit.known for hit in hits):
        hint += (
            " If it is meant to be there: `runner: allow-secret` in a comment on its line,"
            " or the file under `allow_secrets` in your own configuration."
        )
    raise GitRefused(f"{what} would carry a key: {told(hits)}", hint=hint)
