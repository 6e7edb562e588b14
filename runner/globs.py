"""Decides whether a path of the tree matches a glob, in time linear in both.

A glob is anchored at the root. `*`, `?` and `[...]` stay within one name, `**` is any number of
whole names, `{a,b}` is either. `src/`, `src/**` and `src` all mean the directory and everything
below it.
"""

from __future__ import annotations

import re
from functools import lru_cache

_MOST_ALTERNATIVES = 256
_NAME = "[^/]+/"


def matches(glob: str, path: str) -> bool:
    """Return whether `path` (relative to the root, `/` between names) matches `glob`."""
    return _pattern((glob,)).fullmatch(path + "/") is not None


def matches_any(globs: tuple[str, ...], path: str) -> bool:
    """Return whether `path` matches one of `globs`."""
    return bool(globs) and _pattern(globs).fullmatch(path + "/") is not None


@lru_cache(maxsize=512)
def _pattern(globs: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(_regex(one) for glob in globs for one in alternatives(glob)))


def alternatives(glob: str) -> tuple[str, ...]:
    """Spell out the `{a,b}` of a glob; as it is when there are too many or none."""
    done: list[str] = []
    todo = [glob]
    while todo:
        text = todo.pop()
        found = re.search(r"\{([^{}]*,[^{}]*)\}", text)
        if found is None:
            done.append(text)
        else:
            before, after = text[: found.start()], text[found.end() :]
            todo += [before + part + after for part in found[1].split(",")]
        if len(done) + len(todo) > _MOST_ALTERNATIVES:
            return (glob,)
    return tuple(reversed(done))


def names_of(glob: str) -> tuple[str, ...]:
    """Split a glob into its names; a directory's content is spelled out as a last `**`."""
    names = [name for name in glob.split("/") if name not in ("", ".")]
    if not names or glob.endswith("/") or not is_wild(names[-1]):
        names.append("**")
    return tuple(names)


def is_wild(name: str) -> bool:
    """Return whether a glob's name stands for more than itself."""
    return any(char in name for char in "*?[")


def _regex(glob: str) -> str:
    """Translate a glob without braces; the result is matched against the path and a last `/`.

    Between two `**` stands a piece of a fixed number of names: its first place leaves most for the
    rest, so nothing is lost by never coming back to it (the atomic group). That makes it linear.
    """
    pieces: list[list[str]] = [[]]
    for name in names_of(glob):
        if name == "**":
            if pieces[-1] or len(pieces) == 1:
                pieces.append([])
        else:
            pieces[-1].append(_name_regex(name))
    first, *rest = ["".join(piece) for piece in pieces]
    if not rest:
        return first
    *middle, last = rest
    skipped = "".join(f"(?>(?:{_NAME})*?{piece})" for piece in middle)
    return f"{first}{skipped}(?:{_NAME})*{last}"


def _name_regex(name: str) -> str:
    """Translate one name of a glob; between two `*` stands text of fixed length: as above."""
    chunks: list[list[str]] = [[]]
    position = 0
    while position < len(name):
        char = name[position]
        if char == "*":
            chunks.append([])
            position += 1
            continue
        one, position = _one(name, position)
        chunks[-1].append(one)
    first, *rest = ["".join(chunk) for chunk in chunks]
    if not rest:
        return first + "/"
    *middle, last = rest
    stars = "".join(f"(?>[^/]*?{chunk})" for chunk in middle if chunk)
    # A name is never empty: without the look-ahead, `*` alone would match one.
    return f"(?=[^/]){first}{stars}[^/]*{last}/"


def _one(name: str, position: int) -> tuple[str, int]:
    """Translate the one character, `?` or `[...]` that begins here; tell where the next begins."""
    char = name[position]
    if char == "?":
        return "[^/]", position + 1
    end = name.find(
        "]", position + 3 if name[position + 1 : position + 2] in "!^" else position + 2
    )
    if char != "[" or end < 0:
        return re.escape(char), position + 1
    return _class(name[position + 1 : end]), end + 1


def _class(inside: str) -> str:
    """Translate what stands between `[` and `]`."""
    negated = inside[0] in "!^" and len(inside) > 1
    inside = inside[1:] if negated else inside
    parts: list[str] = []
    position = 0
    while position < len(inside):
        low, high = inside[position], inside[position + 2 : position + 3]
        if high and inside[position + 1] == "-":
            position += 3
            if low <= high:
                parts.append(f"{re.escape(low)}-{re.escape(high)}")
            continue
        parts.append(re.escape(low))
        position += 1
    body = "".join(parts)
    if not body:  # only empty ranges such as `z-a`
        return "[^/]" if negated else r"(?!)"
    return f"(?!/)[{'^' if negated else ''}{body}]"
