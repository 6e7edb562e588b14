"""Writes and judges commit messages: Conventional Commits 1.0, a subject of 72 characters."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runner.scope import is_test

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from runner.outcome import Change

SUBJECT = 72
"""Most characters of a subject line."""

TYPES = (
    "build",
    "chore",
    "ci",
    "docs",
    "feat",
    "fix",
    "perf",
    "refactor",
    "revert",
    "style",
    "test",
)

# https://www.conventionalcommits.org/en/v1.0.0/#specification, points 1 to 5
_HEADER = re.compile(r"(?P<type>[A-Za-z]+)(?:\((?P<scope>[^()\r\n]+)\))?!?: (?P<text>\S.*)")
_TRAILER = re.compile(r"(?:[A-Za-z][A-Za-z0-9-]*|BREAKING CHANGE)(?:: | #)\S.*")
_DOCS = (".md", ".rst", ".adoc", ".txt")
_BUILD = ("pyproject.toml", "package.json", "Cargo.toml", "go.mod", "Makefile", "setup.py")
_LISTED = 20


def by_rule(changes: Sequence[Change], steps: Sequence[str]) -> str:
    """Write a plain message from what changed and which steps passed; needs no model."""
    paths = [change.path for change in changes]
    text = _described(changes)
    header = f"{_type_of(paths)}{_scope_of(paths)}: {text}"
    if len(header) > SUBJECT:
        header = f"{_type_of(paths)}: {text}"
    if len(header) > SUBJECT or header.endswith("."):
        header = f"{_type_of(paths)}: update {len(paths)} file{'s' if len(paths) > 1 else ''}"
    body = [f"- {_verb(change)} {shown(change.path)}" for change in changes[:_LISTED]]
    if len(changes) > _LISTED:
        body.append(f"- and {len(changes) - _LISTED} more")
    if steps:
        body += ["", f"Passed: {', '.join(steps)}."]
    return "\n".join([header, "", *body]) + "\n"


def _type_of(paths: Sequence[str]) -> str:
    kinds = {_kind(path) for path in paths}
    return kinds.pop() if len(kinds) == 1 else "chore"


def _kind(path: str) -> str:
    pure = PurePosixPath(path)
    if path.startswith((".github/", ".gitlab", ".circleci/")):
        return "ci"
    if is_test(path):
        return "test"
    if pure.suffix.lower() in _DOCS or path.startswith("docs/"):
        return "docs"
    return "build" if pure.name in _BUILD else "chore"


def _scope_of(paths: Sequence[str]) -> str:
    """Name the one directory that holds everything, when there is one."""
    tops = {PurePosixPath(path).parts[0] for path in paths if "/" in path}
    if len(tops) != 1 or any("/" not in path for path in paths):
        return ""
    name = tops.pop()
    return f"({name})" if re.fullmatch(r"[A-Za-z0-9_-]{1,20}", name) else ""


def _described(changes: Sequence[Change]) -> str:
    verb, _ = Counter(_verb(change) for change in changes).most_common(1)[0]
    if any(_verb(change) != verb for change in changes):
        verb = "update"
    if len(changes) == 1:
        return f"{verb} {shown(PurePosixPath(changes[0].path).name)}"
    return f"{verb} {len(changes)} files"


def _verb(change: Change) -> str:
    match change.kind:
        case "added":
            return "add"
        case "deleted":
            return "remove"
        case "modified" | "mode" | "type":
            return "update"


def shown(path: str) -> str:
    """Spell a path without what could break a line or fool a terminal."""
    printable = path.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() else "?" for char in printable)[:200]


def listed(paths: Collection[str]) -> str:
    """Spell paths as the value of a trailer: on one line, and not without end."""
    named = [shown(path) for path in sorted(paths)[:_LISTED]]
    more = len(paths) - len(named)
    return ", ".join([*named, f"and {more} more"] if more else named)


def problems(message: str) -> tuple[str, ...]:
    """Say what keeps *message* from being a Conventional Commit; empty when nothing does."""
    found: list[str] = []
    lines = message.rstrip("\n").split("\n")
    header = lines[0]
    match = _HEADER.fullmatch(header)
    if match is None:
        found.append("the first line is not `type(scope): text`")
    elif match["type"].lower() not in TYPES:
        found.append(f"type {match['type']!r} is not one of {', '.join(TYPES)}")
    if len(header) > SUBJECT:
        found.append(f"the first line has {len(header)} characters, more than {SUBJECT}")
    if header.endswith("."):
        found.append("the first line ends with a full stop")
    if len(lines) > 1 and lines[1].strip():
        found.append("the second line is not blank")
    if any(not (char.isprintable() or char in "\n\t") for char in message):
        found.append("it holds control characters")
    return tuple(found)


def with_trailers(message: str, trailers: Mapping[str, str]) -> str:
    """Add trailers to the message's last paragraph if that holds trailers, else after a blank line.

    Raises:
        ValueError: A name is no trailer token, or a value holds a line break.
    """
    lines = [_trailer(name, value) for name, value in trailers.items()]
    text = message.rstrip()
    if not lines:
        return text + "\n"
    paragraphs = re.split(r"\n[ \t]*\n", text)
    joint = "\n" if len(paragraphs) > 1 and _all_trailers(paragraphs[-1]) else "\n\n"
    return text + joint + "\n".join(lines) + "\n"


def _all_trailers(paragraph: str) -> bool:
    return all(_TRAILER.fullmatch(line) for line in paragraph.split("\n"))


def _trailer(name: str, value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]*", name):
        raise ValueError(f"{name!r} is no trailer name")
    if any(char in value for char in "\r\n\0"):
        raise ValueError(f"the trailer {name} holds a line break")
    return f"{name}: {value}"
