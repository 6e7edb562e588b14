"""Tells which of the files that a mend deleted are there under another name, more or less changed.

By content alone, as git does it: at least half of the lines must be the same.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runner.tamper.nouns import FileDiff, suffix

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_PAIRS = 10_000
_ALIKE = 0.5


def joined(files: Sequence[FileDiff]) -> tuple[FileDiff, ...]:
    """Return the files with each renamed one as one, at its new path."""
    gone = [file for file in files if file.after is None and file.before is not None]
    came = [file for file in files if file.before is None and file.after is not None]
    to = _unchanged(gone, came)
    taken = set(to.values())
    gone = [file for file in gone if file.path not in to]
    came = [file for file in came if file.path not in taken]
    to |= _alike(gone, came)
    if not to:
        return tuple(files)
    taken = set(to.values())
    by_path = {file.path: file for file in files}
    whole: list[FileDiff] = []
    for file in files:
        if file.path in to:
            new = by_path[to[file.path]]
            whole.append(FileDiff(new.path, file.before, new.after, was=file.path))
        elif file.path not in taken:
            whole.append(file)
    return tuple(whole)


def _unchanged(gone: Sequence[FileDiff], came: Sequence[FileDiff]) -> dict[str, str]:
    """Pair files of the same content, those of the same name first: thousands may move at once."""
    by_text: dict[str, list[str]] = {}
    for file in came:
        by_text.setdefault(file.after or "", []).append(file.path)
    to: dict[str, str] = {}
    for file in gone:
        paths = by_text.get(file.before or "", [])
        same = next((path for path in paths if _name(path) == _name(file.path)), None)
        if paths:
            to[file.path] = same or paths[0]
            paths.remove(to[file.path])
    return to


def _alike(gone: Sequence[FileDiff], came: Sequence[FileDiff]) -> dict[str, str]:
    """Pair files that share most of their lines, the likest first."""
    lines = {file.path: _lines(file) for file in (*gone, *came)}
    # Of very many, only those that kept their names are compared.
    key = suffix if len(gone) * len(came) <= _MOST_PAIRS else _name
    pairs = sorted(
        (-_likeness(lines[old.path], lines[new.path]), old.path, new.path)
        for old in gone
        for new in came
        if key(old.path) == key(new.path)
    )
    to: dict[str, str] = {}
    for likeness, old, new in pairs:
        if -likeness >= _ALIKE and old not in to and new not in to.values():
            to[old] = new
    return to


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _lines(file: FileDiff) -> Counter[str]:
    text = file.after if file.before is None else file.before
    return Counter(line for raw in (text or "").splitlines() if (line := raw.strip()))


def _likeness(one: Counter[str], other: Counter[str]) -> float:
    most = max(one.total(), other.total())
    return (one & other).total() / most if most else 1.0
