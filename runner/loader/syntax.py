"""Says what a YAML syntax error means, in the words of somebody who writes a workflow."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.loader.problems import Spot

if TYPE_CHECKING:
    import yaml

    from runner.loader.problems import Source

# Beginning of libyaml's (or PyYAML's own) words -> what is wrong, and what to do.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        "mapping values are not allowed",
        "a `:` with a space after it cannot stand inside a text without quotes",
        "Put the whole value in quotes, or write it as a block: `run: |` and the text below.",
    ),
    (
        "found a tab character",
        "a tab stands where only spaces may",
        "Indent with spaces.",
    ),
    (
        "block sequence entries are not allowed",
        "a list entry (`- `) cannot begin here",
        "Begin each `- ` on a line of its own, below its key.",
    ),
    (
        "found unexpected end of stream",
        "a quoted text begins here and does not end",
        "Close it by the same quote; within '...' write '' for a quote.",
    ),
    (
        "found unknown escape character",
        "within double quotes a backslash begins an escape, and this one is unknown",
        "Use single quotes, within which a backslash is a backslash.",
    ),
    (
        "did not find expected ',' or ']'",
        "this list (`[`) is not closed, or lacks a `,`",
        "Close it by `]`; quote entries that hold `,`, `[`, `]`, `{`, `}` or `: `.",
    ),
    (
        "did not find expected ',' or '}'",
        "this mapping (`{`) is not closed, or lacks a `,`",
        "Close it by `}`; quote values that hold `,`, `{`, `}` or `: `.",
    ),
    (
        "did not find expected '-' indicator",
        "a list entry should begin with `- ` here",
        "Indent this line like the entries above, or further out if the list ends here.",
    ),
    (
        "did not find expected key",
        "a key should stand here",
        "Check the indentation, and that a value does not go on after its closing quote.",
    ),
    (
        "could not find expected ':'",
        "this line is neither `key: value` nor a part of the text above",
        "Add the `:`, or indent the line if it belongs to the value above.",
    ),
    (
        "did not find expected alphabetic or numeric character",
        "a `*` or `&` at the start of a text has a meaning of its own",
        "Put the text in quotes.",
    ),
)


_KEY = re.compile(r"\s+[A-Za-z_][\w-]*:")
"""A line up to its colon, when all before that is a key."""
_LOOK_WHERE_IT_BEGAN = (
    "did not find expected ','",
    "found unexpected end of stream",
    "could not find expected ':'",
)


def explain(error: yaml.MarkedYAMLError, source: Source, shift: int) -> tuple[Spot, str, str]:
    """Return the place, the message and the hint for a syntax error.

    Args:
        error: What the YAML library raised.
        source: The whole file.
        shift: Lines of the file before the document.
    """
    problem = error.problem or "unreadable"
    mark = error.problem_mark
    if problem.startswith(_LOOK_WHERE_IT_BEGAN) and error.context_mark is not None:
        mark = error.context_mark
    spot = Spot(mark.line + 1 + shift, mark.column + 1) if mark else Spot(1 + shift, 1)
    if problem.startswith("found character that cannot start any token"):
        return (spot, *_bad_start(source, spot))
    if problem.startswith("mapping values") and _KEY.fullmatch(
        source.line(spot.line), 0, spot.column
    ):
        message = "this line stands deeper than the key above it, so that it goes on with its text"
        return spot, message, "Begin it in the column where the key above begins."
    if problem.startswith("did not find expected ','") and "${{" in source.line(spot.line):
        hint = 'Write "${{ ... }}", in quotes, or put the value on a line of its own.'
        return spot, "within `{ }` or `[ ]` a `${{ }}` needs quotes", hint
    for beginning, message, hint in _MEANINGS:
        if problem.startswith(beginning):
            return spot, message, hint
    return spot, f"this is not YAML: {problem}", ""


def _bad_start(source: Source, spot: Spot) -> tuple[str, str]:
    sign = source.line(spot.line)[spot.column - 1 : spot.column]
    if sign == "\t":
        return "a tab stands where only spaces may", "Indent with spaces."
    return f"a text without quotes cannot begin with {sign!r}", "Put the text in quotes."
