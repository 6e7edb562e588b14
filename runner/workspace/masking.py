"""Hides secrets in what commands write and in what listeners hear.

Each form of a secret is found by one word of eight bytes for each way that it may lie on a grid of
eight, so that almost all text is passed after one look at every eighth byte. Forms that are too
short for that have a grid of four.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

T = TypeVar("T")

HIDDEN = "***"
_HIDDEN = HIDDEN.encode()
_SHORTEST_WORD = 4
_ESCAPE = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])"
)
"""An escape sequence of a terminal (ECMA-48 section 5.4, 5.6 and 5.3): colours, titles, links."""
_BEGUN = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*|[\]PX^_][^\x07\x1b]*\x1b?|[ -/]*)\Z")
"""One whose end is not there yet."""
_LONGEST_ESCAPE = 4096
"""Bytes in which one must end to be known for one when it comes in pieces."""


class Mask:
    """The secrets of one run; false when there is none.

    A secret is hidden as a whole, line by line, and in the forms that encoders and quoting give it.
    What an escape sequence splits is found, too: a run with secrets keeps no escape sequences.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._grids = (_Grid("Q"), _Grid("I"))
        self.longest = 0
        """Bytes of the longest form."""
        self.learn(secrets)

    def learn(self, secrets: Iterable[str]) -> None:
        """Hide these, too, in whatever begins from now on."""
        values = [secret for secret in secrets if secret]
        if not values:
            return
        # Few runs have secrets: the others do not pay for these imports.
        from runner.workspace.secretforms import forms_of  # noqa: PLC0415

        forms = frozenset[bytes]().union(*map(forms_of, values))
        self.longest = max(self.longest, *map(len, forms), 0)
        for form in forms:
            next(grid for grid in self._grids if grid.fits(form)).add(form)

    def __bool__(self) -> bool:
        return self.longest > 0

    def text(self, text: str) -> str:
        """Hide secrets in a text."""
        if not self or len(text) < _SHORTEST_WORD:
            return text
        try:
            errors, data = "surrogateescape", text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # half a character, as JSON may hold
            errors, data = "surrogatepass", text.encode("utf-8", "surrogatepass")
        plain = _without_escapes(data)
        spans = list(self.spans(plain))
        return _hidden(plain, spans).decode("utf-8", errors) if spans else text

    def spans(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where secrets are, in order; what overlaps is one."""
        start = end = -1
        for first, last in sorted({span for grid in self._grids for span in grid.find(data)}):
            if first > end:
                if end > 0:
                    yield start, end
                start = first
            end = max(end, last)
        if end > 0:
            yield start, end

    def noun(self, value: T) -> T:
        """Hide secrets in all texts of a frozen noun, a mapping or a tuple, however deep."""
        found: Any = value
        if type(found) is str:
            found = self.text(found)
        elif isinstance(found, dict):
            pairs = cast("Mapping[Any, Any]", found).items()
            found = {self.noun(key): self.noun(one) for key, one in pairs}
        elif isinstance(found, tuple | list):
            masked = [self.noun(one) for one in cast("Iterable[Any]", found)]
            found = masked if isinstance(found, list) else tuple(masked)
        elif is_dataclass(found) and not isinstance(found, type):
            found = replace(
                found, **{one.name: self.noun(getattr(found, one.name)) for one in fields(found)}
            )
        return cast("T", found)


class _Grid:
    """Forms by words, of as many bytes as an item of an array of *code* has."""

    def __init__(self, code: Literal["I", "Q"]) -> None:
        self._code: Literal["I", "Q"] = code
        self._size = array(code).itemsize
        self._words: dict[int, list[tuple[bytes, int]]] = {}

    def fits(self, form: bytes) -> bool:
        """Tell whether a form holds a whole word, however it lies."""
        return len(form) >= 2 * self._size - 1

    def add(self, form: bytes) -> None:
        """Let a form be found: by the word that is most unusual, for each way that it may lie."""
        for start in range(self._size):
            places = range(start, len(form) - self._size + 1, self._size)
            offset = max(places, key=lambda at: _rarity(form[at : at + self._size]))
            (word,) = array(self._code, form[offset : offset + self._size])
            self._words.setdefault(word, []).append((form, offset))

    def find(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Yield where forms are, in any order."""
        known = self._words
        if not known:
            return
        words = array(self._code, data[: len(data) // self._size * self._size])
        if known.keys().isdisjoint(words):
            return
        for place in [index for index, word in enumerate(words) if word in known]:
            for form, offset in known[words[place]]:
                first = place * self._size - offset
                if data.startswith(form, first):
                    yield first, first + len(form)


class MaskedStream:
    """Hides secrets in a stream of bytes, those too that come in many pieces.

    What comes out is what `Mask` makes of the whole, however it was cut.
    """

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._raw = b""
        """The beginning of an escape sequence, maybe."""
        self._held = b""
        """What may hold the beginning of a secret."""
        self._covered = -1
        """How many of the held bytes belong to a secret already told of; -1 is none such."""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be told so far; what may be the beginning of a secret is held back."""
        raw = self._raw + chunk
        begun = _BEGUN.search(raw, max(0, len(raw) - _LONGEST_ESCAPE)) if b"\x1b" in raw else None
        cut = begun.start() if begun else len(raw)
        self._raw = raw[cut:]
        return self._told(_without_escapes(raw[:cut]), last=False)

    def rest(self) -> bytes:
        """Return what was held back to the end."""
        raw, self._raw = self._raw, b""
        return self._told(_without_escapes(raw), last=True)

    def _told(self, plain: bytes, *, last: bool) -> bytes:
        data = self._held + plain
        # A secret that begins before the cut is all there.
        cut = len(data) if last else max(0, len(data) - self._mask.longest + 1)
        parts: list[bytes] = []
        at, covered = max(0, self._covered), self._covered >= 0
        for start, end in self._mask.spans(data):
            if start >= cut:
                break
            if not (covered and start <= at):
                parts += (data[at:start], _HIDDEN)
            at, covered = max(at, end), True
        parts.append(data[at:cut])
        self._held = data[cut:]
        self._covered = at - cut if covered and at >= cut else -1
        return b"".join(parts)


def _rarity(word: bytes) -> int:
    """Tell how unusual a word is in what programs write: lower case and blanks are everywhere."""
    return sum(2 if byte in _RARE else byte not in _COMMON for byte in word) + len({*word})


_COMMON = frozenset(b"abcdefghijklmnopqrstuvwxyz \n_./-0=")
_RARE = frozenset(b"JKQVWXYZGBHU")


def _hidden(data: bytes, spans: Iterable[tuple[int, int]]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for start, end in spans:
        parts += (data[at:start], _HIDDEN)
        at = end
    return b"".join((*parts, data[at:])) if parts else data


def _without_escapes(data: bytes) -> bytes:
    return _ESCAPE.sub(b"", data) if b"\x1b" in data else data
