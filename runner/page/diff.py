"""Builds a unified diff with its lines told apart by sign and by colour. Pure."""

from __future__ import annotations

import re

from runner.page.html import Html, el, join

_HUNK = re.compile(r"@@ -\d{1,9}(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@")
_HEADERS = ("diff --git ", "index ", "--- ", "+++ ", "new file", "deleted file", "old mode",
            "new mode", "similarity", "rename ", "Binary files")  # fmt: skip


def counted(diff: str) -> tuple[int, int]:
    """Return how many lines a diff adds and removes."""
    kinds = [kind for kind, _ in _kinds(diff)]
    return kinds.count("added"), kinds.count("removed")


def render_diff(diff: str) -> Html:
    """Build a diff, a block for each line; each ends so, that it can be read without a style."""
    rows: list[Html] = []
    for kind, line in _kinds(diff):
        match kind:
            case "added":
                rows.append(el("ins", line, "\n"))
            case "removed":
                rows.append(el("del", line, "\n"))
            case "":
                rows.append(el("span", line, "\n"))
            case _:
                rows.append(el("span", line, "\n", class_=kind))
    return el("pre", join(rows), class_="diff")


def _kinds(diff: str) -> list[tuple[str, str]]:
    """Tell lines of a hunk from headers: a removed `-- x` is written `--- x`."""
    found: list[tuple[str, str]] = []
    old = new = 0
    for line in diff.removesuffix("\n").split("\n"):
        kind = ""
        if line.startswith("@@"):
            old, new = _sizes(line)
            kind = "hunk"
        elif (old > 0 or new > 0) and line[:1] in ("+", "-", " ", ""):
            kind = {"+": "added", "-": "removed"}.get(line[:1], "")
            old -= line[:1] != "+"
            new -= line[:1] != "-"
        elif line.startswith("diff --git "):
            kind = "file"
        elif line.startswith(_HEADERS):
            kind = "head"
        found.append((kind, line))
    return found


def _sizes(header: str) -> tuple[int, int]:
    """Return how many lines a hunk has before and after, from `@@ -1,4 +1,5 @@`."""
    found = _HUNK.match(header)
    return (int(found[1] or 1), int(found[2] or 1)) if found else (0, 0)
