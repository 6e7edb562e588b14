"""Puts a command's captured output together: cleaned, in lines, paths relative to the tree."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from runner.fingerprints.reading import CUT
from runner.frozen import frozen
from runner.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.outcome import CommandResult

_NAME = r"\w.@+~\-"
_ABSOLUTE = re.compile(rf"(?<![{_NAME}/])/[{_NAME}]+(?:/[{_NAME}]+)*")
_PATH = re.compile(rf"(?<![{_NAME}/])(?:\.{{0,2}}/)?[{_NAME}]+(?:/[{_NAME}()\[\]]+)*")
"""A path never begins within a name, so each character is looked at once."""
_NOT_THE_TREE = re.compile(r"/(?:site-packages|dist-packages|node_modules|rustc|\.cargo|go/pkg)/")
_PUNCTUATION = ".-~+()[]"
_MOST_CANDIDATES = 4000
_MOST_FILES = 50
_LONGEST_PATH = 1000
_LONGEST_LINE = 2000
"""Characters of a line that are read: minified code and hostile output make no reader slow."""


@frozen
class Output:
    """What a command printed, ready to be read."""

    lines: tuple[str, ...]
    """Cleaned; `reading.CUT` stands where the middle is missing."""
    truncated: bool
    files: tuple[str, ...]
    """Files of the tree that are named, in order of first mention."""


def prepare(result: CommandResult, known: Callable[[str], bool], directory: str) -> Output:
    """Clean and split a command's output and name its files as the tree does."""
    pieces, truncated = _pieces(result)
    text = f"\n{CUT}\n".join(pieces)
    text = _relative(text, known)
    files = tuple(_files(text, known, directory))
    return Output(tuple(line[:_LONGEST_LINE] for line in text.split("\n")), truncated, files)


def _pieces(result: CommandResult) -> tuple[list[str], bool]:
    """Return the one or two pieces of the output, without the halves of lines at the cut."""
    if not result.tail:
        cut = _least_bytes(result.head) < result.total_bytes
        return ([clean(result.head), ""] if cut else [clean(result.head)]), cut
    if _least_bytes(result.head) + _least_bytes(result.tail) >= result.total_bytes:
        return [clean(result.head + result.tail)], False
    head = result.head[: result.head.rfind("\n") + 1]
    tail = result.tail[result.tail.find("\n") + 1 :] if "\n" in result.tail else ""
    return [clean(head).removesuffix("\n"), clean(tail)], True


def _least_bytes(text: str) -> int:
    """Return how many bytes `text` was at least: each U+FFFD may stand for a single bad byte."""
    return len(text.encode("utf-8", "replace")) - 2 * text.count("\ufffd")


def _relative(text: str, known: Callable[[str], bool]) -> str:
    """Take the root's absolute path off the paths of the tree.

    The root is not told; it is what is left of an absolute path whose end is a file of the tree.
    The prefix that most paths agree on is it.
    """
    votes: Counter[str] = Counter()
    seen: set[str] = set()
    for match in _ABSOLUTE.finditer(text):
        path = match[0].rstrip(_PUNCTUATION)
        if path in seen or len(path) > _LONGEST_PATH or _NOT_THE_TREE.search(path):
            continue
        seen.add(path)
        if len(seen) > _MOST_CANDIDATES:
            break
        names = path.split("/")
        for start in range(2, len(names)):
            if known("/".join(names[start:])):
                votes["/".join(names[:start]) + "/"] += len(names) - start
                break
    if not votes:
        return text
    root = max(votes, key=lambda prefix: (votes[prefix], -len(prefix)))
    return re.sub(rf"(?:file://|(?<![{_NAME}/])){re.escape(root)}", "", text)


def _files(text: str, known: Callable[[str], bool], directory: str) -> Iterator[str]:
    """Yield the files of the tree that `text` names, as they stand or seen from `directory`."""
    prefix = "" if directory in ("", ".") else directory.strip("/") + "/"
    seen: set[str] = set()
    found: set[str] = set()
    for match in _PATH.finditer(text):
        token = match[0].removeprefix("./").rstrip(_PUNCTUATION)
        if token in seen or ".." in token.split("/") or not ("." in token or "/" in token):
            continue
        seen.add(token)
        if len(seen) > _MOST_CANDIDATES or len(found) >= _MOST_FILES:
            return
        # tsc writes `a.ts(3,4)`, but `(app)` may as well be a directory's name.
        tries = (token, prefix + token, token.partition("(")[0], prefix + token.partition("(")[0])
        path = next((path for path in tries if path and known(path)), None)
        if path is not None and path not in found:
            found.add(path)
            yield path
