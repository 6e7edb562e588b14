"""Keeps what is known of one agent's session with one command line. Imports next to nothing.

A JSON file for each, private to the user, in the runner's state directory; whatever cannot be read
counts as nothing known, and is written anew.
"""

from __future__ import annotations

import json
import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

VERSION = 1
FOLDER = "hook"
KEPT = 30 * 86_400
"""Seconds after which what is known of a session is forgotten."""
_LARGEST = 64 * 1024 * 1024


class Memory:
    """What is known of one session.

    A plain class, not a frozen noun: it is read where each import counts.

    Attributes:
        state: `passed` on the tree `tree`; `told` the agent of failures on it; `noted` that it
            stopped all the same; empty where nothing is settled.
        tree: Hash of that tree.
        made_of: Digest of what the workflow was made of.
        paths: What `stamp` was taken of; empty where only the tree's hash tells.
        stamp: How these paths looked; empty where only the tree's hash tells.
        told: How often each failure was handed back, by `step:failure`.
        in_row: Hand-backs since the user last said something.
        changed: Paths that the runner changed and the agent has not been told of.
        said: Digests of notes that the user has seen.
    """

    __slots__ = (
        "changed", "in_row", "made_of", "paths", "said", "stamp", "state", "told", "tree",
    )  # fmt: skip

    def __init__(self) -> None:
        self.state = ""
        self.tree = ""
        self.made_of = ""
        self.paths: list[str] = []
        self.stamp = ""
        self.told: dict[str, int] = {}
        self.in_row = 0
        self.changed: list[str] = []
        self.said: list[str] = []


_TYPES: Mapping[str, type] = {
    "state": str, "tree": str, "made_of": str, "paths": list, "stamp": str,
    "told": dict, "in_row": int, "changed": list, "said": list,
}  # fmt: skip


def file_of(state_root: str, root: str, session: str, argv: Sequence[str]) -> str:
    """Return the file of one session; whatever its id holds, the name is plain."""
    parts = "\0".join([root, session, *argv]).encode("utf-8", "surrogatepass")
    return f"{state_root}/{FOLDER}/{blake2b(parts, digest_size=16).hexdigest()}.json"


def lock_of(state_root: str, root: str) -> str:
    """Return the file that one hook at a time holds for a work tree."""
    name = blake2b(root.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return f"{state_root}/{FOLDER}/{name}.lock"


def recall(file: str) -> Memory:
    """Read a session's file; nothing known where there is none, or none of ours."""
    memory = Memory()
    try:
        with open(file, "rb") as stream:  # noqa: PTH123  pathlib costs as much as all else here
            if os.fstat(stream.fileno()).st_uid != os.geteuid():
                return memory
            found: Any = json.loads(stream.read(_LARGEST))
    except (OSError, ValueError, RecursionError):
        return memory
    if not isinstance(found, dict) or found.get("version") != VERSION:  # pyright: ignore[reportUnknownMemberType]  checked field by field
        return memory
    for name, kind in _TYPES.items():
        value: Any = found.get(name)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if type(value) is not kind:  # pyright: ignore[reportUnknownArgumentType]
            return Memory()
        setattr(memory, name, value)
    return memory


def remember(file: str, memory: Memory) -> None:
    """Write a session's file in one go; who reads it meanwhile sees the old or the new one."""
    folder = os.path.dirname(file)  # noqa: PTH120  as above
    os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103  as above
    data = {"version": VERSION, **{name: getattr(memory, name) for name in _TYPES}}
    own = f"{file}.{os.getpid()}"
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as stream:
        json.dump(data, stream)
    os.replace(own, file)  # noqa: PTH105  as above
