"""Decides whether what is about to be committed or pushed carries a key; never tells the key.

Known values (granted secrets, and the environment's) count in every form that they may be written
in; other keys by the shapes that vendors gave them, or, beside a name that says so, by looking as
if a generator had made them. A line may say that it holds no secret, in the words that other
scanners know; that does not let a known value pass.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import field
from itertools import pairwise
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.globs import matches_any
from runner.secretfiles import is_unshippable
from runner.secretkinds import ALLOWED, ALLOWED_NEXT, RANDOM, RULES, Pattern
from runner.workspace.masking import Mask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

OVERLAP = 4096
"""Bytes that the pieces of a big file share, so that no key is cut in two."""
_MOST_HITS = 50
"""Of one file; more say nothing new."""
_LONG_LINE = 1000
"""Bytes of a line from which it was written by a program: what has no prefix is not told there."""
_GUESSED = 2_000_000
"""Bytes of a file up to which it is searched for keys without a prefix."""
_REACH = 1200
"""Bytes from its literal in which a key ends."""
_WINDOW = 1 << 18
_SHORTEST = 20
"""Bytes that the shortest key with a prefix has."""
_WORDS = bytes(
    byte if byte < 128 and (chr(byte).isalnum() or chr(byte) in "_-.:/=+") else 32
    for byte in range(256)
)
"""Makes blanks of all bytes that no key has."""
_BEFORE, _AFTER = 2000, 400
_GENERATED = (
    *(".lock", "-lock.json", "-lock.yaml", "-lock.yml", ".lockfile", "npm-shrinkwrap.json", ".sum"),
    *(".min.js", ".min.css", ".map", ".snap", ".svg", ".ipynb", ".po", ".pot", ".lock.hcl"),
    *("/record", ".secrets.baseline", ".cassette"),
)
"""Written by programs and full of digests."""
_PLACEHOLDER = re.compile(
    rb"example|dummy|fake|placeholder|sample|redacted|change.?me|your[_-]|insert|replace|mock"
    rb"|invalid|notreal|not[_-]a|xxxx|\.\.\.|\*\*\*|<|\$\{|\{\{|%\(|abcdef|123456789|qwerty|deadbeef"
    rb"|(?:test|my|super|some|foo|bar|demo|local)[_-]?(?:api|key|secret|token|pass|auth|value)",
    re.IGNORECASE,
)
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DOTTED = re.compile(rb"(?!eyJ)[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
"""A name in code."""
_PERCENT = re.compile(rb"%[0-9A-Fa-f]{2}")
_NO_KEY = re.compile(
    rb"(?i)(?:hash|digest|checksum|sum|sha\d*|md5|type|name|file|path|url|uri|host|id|ids|regex|pattern"
    rb"|prefix|suffix|field|header|size|len|count|class|version|format|endpoint|expir\w*|public\w*)$"
)
"""Ends of a name that say that its value is no key itself: `token_url`, `secret_name`."""


@frozen
class Hit:
    """A key, or what looks like one."""

    where: str
    """`src/app.py:12`, or in words; holds no key itself."""
    kind: str
    token: bytes = field(repr=False)
    """The key: to know it again, never to be shown."""
    known: bool = False
    """A value that the run was given or found in its environment."""

    @property
    def words(self) -> str:
        """The hit in a few words."""
        return f"{self.where} ({self.kind})"


class Scanner:
    """Looks for keys.

    Args:
        known: Values that may appear nowhere, in no form.
        allow: Globs of files in which other keys are meant to be: the user's own setting.
    """

    def __init__(self, known: Iterable[str] = (), allow: Iterable[str] = ()) -> None:
        self._known = Mask(known)
        self._allow = tuple(allow)
        self._patterns = [Pattern(rule) for rule in RULES]

    def file(self, path: str, data: bytes, *, at: int = 0) -> list[Hit]:
        """Look through a file's content; *at* is where a piece of a bigger one begins."""
        where, plain = self.shown(path), _as_utf8(data)
        hits = [
            Hit(_place(where, plain, start, at), _GIVEN, plain[start:end], known=True)
            for start, end in self._known.spans(plain)
        ]
        if matches_any(self._allow, path):
            return hits[:_MOST_HITS]
        guess = not at and len(plain) <= _GUESSED and not path.lower().endswith(_GENERATED)
        for kind, start, token in self._keys(plain, guess=guess):
            if len(hits) >= _MOST_HITS:
                break
            if not _allowed(plain, start):
                hits.append(Hit(_place(where, plain, start, at), kind, token))
        return hits

    def new_name(self, path: str) -> list[Hit]:
        """Look at the name of a file that is to be added."""
        hits = self.words(path, f"the name of a file in {_folder(self.shown(path))}")
        if is_unshippable(path) and not matches_any(self._allow, path):
            token = path.encode("utf-8", "surrogateescape")
            hits.append(Hit(self.shown(path), "a file that holds keys by its name", token))
        return hits

    def words(self, text: str, where: str) -> list[Hit]:
        """Look through a message or a name, told of as *where*."""
        data = text.encode("utf-8", "surrogateescape")
        spans = self._known.spans(data)
        hits = [Hit(where, _GIVEN, data[start:end], known=True) for start, end in spans]
        return hits + [Hit(where, kind, token) for kind, _, token in self._keys(data, guess=True)]

    def shown(self, text: str) -> str:
        """Return a name without the keys in it, for a message."""
        data = text.encode("utf-8", "surrogateescape")
        tokens = [token for _, _, token in self._keys(data, guess=False)]
        for start, end in [*self._known.spans(data)]:
            tokens.append(data[start:end])
        for token in tokens:
            data = data.replace(token, b"***")
        return data.decode("utf-8", "replace")

    def _keys(self, data: bytes, *, guess: bool) -> Iterator[tuple[str, int, bytes]]:
        """Yield kind, place and key."""
        lower, words = (data.lower() if guess else b""), _long_words(data)
        for pattern in self._patterns:
            rule = pattern.rule
            if rule.kind in RANDOM and not guess:
                continue
            if rule.one_word and not any(literal in words for literal in rule.literals):
                continue
            seems = _guessed if rule.kind in RANDOM else _given_out
            for match in _matches(pattern, lower if rule.folded else data, data):
                token = match[match.lastindex or 0]
                if seems(data, match, token):
                    yield rule.kind, match.start(), token


def _long_words(data: bytes) -> bytes:
    """Return the words that are long enough for a key: a hundredth of most texts."""
    found: list[bytes] = []
    for at in range(0, len(data), _WINDOW):
        piece = data[at : at + _WINDOW + _REACH].translate(_WORDS)
        found += [word for word in piece.split() if len(word) >= _SHORTEST]
    return b" ".join(found)


def _matches(pattern: Pattern, folded: bytes, data: bytes) -> Iterator[re.Match[bytes]]:
    """Yield what matches around the literals: to find those costs almost nothing."""
    back = pattern.rule.back
    for literal in pattern.rule.literals:
        at, behind = folded.find(literal), 0
        while at >= 0:
            find = pattern.compiled.search if back else pattern.compiled.match
            match = find(data, max(behind, at - back), at + _REACH)
            if match is not None:
                yield match
                behind = match.end()
            at = folded.find(literal, max(at + len(literal), behind))


_GIVEN = "a secret of this run or of its environment"


def _given_out(data: bytes, match: re.Match[bytes], token: bytes) -> bool:
    """Tell whether a key with a vendor's prefix is a real one: an example in a text is none."""
    if token.startswith(b"PuTTY"):
        return True
    if _PLACEHOLDER.search(token):
        return False
    body = token[6:] or token
    return len(set(body)) >= min(8, len(body) // 2)


def _guessed(data: bytes, match: re.Match[bytes], token: bytes) -> bool:
    """Tell whether a value without a prefix is a key: by its name, its line and its letters."""
    begin = data.rfind(b"\n", 0, match.start()) + 1
    end = data.find(b"\n", match.end())
    if (len(data) if end < 0 else end) - begin > _LONG_LINE:
        return False
    if match.lastindex == 2 and _NO_KEY.search(match[1]):
        return False
    # What follows a value without quotes tells code from data: `token = make_token_2(`.
    if data[match.end() : match.end() + 1] in (b"(", b"[") or _DOTTED.fullmatch(token):
        return False
    return is_random(token)


def is_random(value: bytes) -> bool:
    """Tell whether a value looks as if a generator had made it, and not a person."""
    value = _PERCENT.sub(b".", value)
    if _PLACEHOLDER.search(value) or _UUID.search(value):
        return False
    # Names are made of short words: a generator's alphabet has few signs that part them.
    run = max(re.findall(rb"[A-Za-z0-9]+", value) or [b""], key=len)
    classes = [_class(byte) for byte in run]
    if len(run) < min(12, len(value) - 1) or classes.count("digit") < 2:
        return False
    changes = sum(one != other for one, other in pairwise(classes))
    if changes < 0.28 * (len(run) - 1):
        return False
    return entropy(value) >= min(3.4, 0.82 * math.log2(len(value)))


def _class(byte: int) -> str:
    if 48 <= byte <= 57:
        return "digit"
    if 97 <= byte <= 122:
        return "lower"
    return "upper" if 65 <= byte <= 90 else "other"


def entropy(value: bytes) -> float:
    """Return Shannon's entropy in bits per byte."""
    counts = Counter(value).values()
    return -sum(count / len(value) * math.log2(count / len(value)) for count in counts)


def _as_utf8(data: bytes) -> bytes:
    """Return a text in UTF-16 as UTF-8; all else as it is."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").encode()
    return data


def _allowed(data: bytes, start: int) -> bool:
    """Tell whether a line, or the one before it, says that it holds no secret."""
    begin = data.rfind(b"\n", max(0, start - _BEFORE), start) + 1
    end = data.find(b"\n", start, start + _AFTER)
    line = data[begin : end if end >= 0 else start + _AFTER]
    if ALLOWED.search(line):
        return True
    above = data[max(0, data.rfind(b"\n", 0, max(0, begin - 1)) + 1) : begin]
    return ALLOWED_NEXT.search(above) is not None


def _place(where: str, data: bytes, start: int, at: int) -> str:
    if b"\0" in data[:8000]:
        return f"{where}, byte {at + start}"
    if at:
        return f"{where}, after byte {at}"
    line = data.count(b"\n", 0, start) + 1
    return f"{where}:{line}"


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "the root"


def told(hits: Iterable[Hit], most: int = 5) -> str:
    """Return where keys are, in one line."""
    first: dict[str, str] = {}
    for hit in hits:
        first.setdefault(hit.where, hit.words)
    places = list(first.values())
    more = f" and {len(places) - most} more" if len(places) > most else ""
    return ", ".join(places[:most]) + more


def fresh(hits: Iterable[Hit], before: Callable[[bytes], bool]) -> list[Hit]:
    """Leave out the keys that were there before, as *before* tells."""
    return [hit for hit in hits if not before(hit.token)]
