"""Reads ruff (check and format), mypy and pyright."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.fingerprints.reading import Reading, numbered, stable, unique, whole_range
from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

_CODE = r"(?:[A-Z]{1,6}\d{2,4}|invalid-syntax|[a-z]+(?:-[a-z]+)+)"
_PLACE = r"(?P<path>[^\s:][^:]*):(?P<line>\d+):(?P<column>\d+)"
_RUFF_CONCISE = re.compile(rf"{_PLACE}: (?P<code>{_CODE})(?: \[\*\])?:? (?P<message>.+)$")
_RUFF_FULL = re.compile(rf"(?P<code>{_CODE})(?: \[\*\])?:? (?P<message>.+)$")
_ARROW = re.compile(r" *--> (?P<path>.+?):\d+:\d+$")
_RUFF_GITHUB = re.compile(
    rf"::error title=[Rr]uff \((?P<code>{_CODE})\),file=(?P<path>[^,]+),[^:]*::(?:\S+ )?"
    rf"(?:{_CODE}:? )?(?P<message>[^%]+)"
)
_RUFF_GROUP = re.compile(r"(?P<path>\S.*):$")
_RUFF_GROUPED = re.compile(rf"  \d+:\d+ +(?P<code>{_CODE})(?: \[\*\])?:? (?P<message>.+)$")
_RUFF_FOUND = re.compile(
    r"Found (?P<all>\d+) errors?(?: \(\d+ fixed, (?P<left>\d+) remaining\))?\.$"
)
_SYNTAX = ("invalid-syntax", "E999", "syntax-error")


def read_ruff(lines: Sequence[str], command: str) -> Reading | None:
    """Read `ruff check` in any of its formats for people."""
    found = [number for number, line in enumerate(lines) if _RUFF_FOUND.match(line)]
    github = any(line.startswith("::error title=ruff (") for line in lines)
    if not (found or github or re.search(r"\bruff\b", command)):
        return None
    places: list[int] = []
    ids: list[str] = []
    syntax = False
    group = ""
    for number, line in enumerate(lines):
        if heading := _RUFF_GROUP.match(line):
            group = heading["path"]
        told = _ruff_line(lines, number, group)
        if told is not None:
            path, code, message = told
            places.append(number)
            syntax = syntax or code in _SYNTAX
            ids.append(f"{path}:{code}: {stable(message)}")
    if not ids:
        return None
    stated = _ruff_stated(lines, found)
    phase = Phase.PARSE if syntax else Phase.RUN
    area = whole_range(lines, places + found)
    return Reading("ruff", phase, numbered(ids), area, stated, head_share=0.75)


def _ruff_line(lines: Sequence[str], number: int, group: str) -> tuple[str, str, str] | None:
    """Return path, code and message of the diagnostic that begins here."""
    line = lines[number]
    match = _RUFF_CONCISE.match(line) or _RUFF_GITHUB.match(line)
    if match:
        return match["path"], match["code"], match["message"]
    if group and (match := _RUFF_GROUPED.match(line)):
        return group, match["code"], match["message"]
    following = lines[number + 1] if number + 1 < len(lines) else ""
    if (match := _RUFF_FULL.match(line)) and (arrow := _ARROW.match(following)):
        return arrow["path"], match["code"], match["message"]
    return None


def _ruff_stated(lines: Sequence[str], found: Sequence[int]) -> int | None:
    """Add up what each run of ruff in this output says that it left."""
    counts = [match for number in found if (match := _RUFF_FOUND.match(lines[number]))]
    return sum(int(match["left"] or match["all"]) for match in counts) if counts else None


_WOULD = re.compile(r"Would reformat: (?P<path>.+)$")
_UNFORMATTED = re.compile(r"unformatted: File would be reformatted$")
_WOULD_COUNT = re.compile(r"(?P<count>\d+) files? would be reformatted")
_NOT_PARSED = re.compile(r"error: Failed to parse (?P<path>.+?):\d+:\d+: (?P<message>.+)$")
_DIFFED = re.compile(r"--- (?P<path>\S+)$")


def read_ruff_format(lines: Sequence[str], command: str) -> Reading | None:
    """Read `ruff format --check` and `--diff`."""
    counted = [number for number, line in enumerate(lines) if _WOULD_COUNT.match(line)]
    unformatted = any(_UNFORMATTED.match(line) or _WOULD.match(line) for line in lines)
    formats = bool(re.search(r"\bruff\b.*\bformat\b", command))
    if not (unformatted or (formats and (counted or _any_unparsed(lines)))):
        return None
    places = list(counted)
    ids: list[str] = []
    syntax = False
    for number, line in enumerate(lines):
        told = _format_line(lines, number)
        if told:
            places.append(number)
            ids.append(told)
            syntax = syntax or "syntax" in told
        elif line.startswith("--- ") and (match := _DIFFED.match(line)):
            places.append(number)
            ids.append(f"{match['path']}: unformatted")
    if not ids:
        return None
    phase = Phase.PARSE if syntax else Phase.RUN
    # Files that cannot be parsed are not in the tool's count: it proves nothing about them.
    area = whole_range(lines, places)
    return Reading("ruff-format", phase, unique(ids), area, head_share=0.75)


def _any_unparsed(lines: Sequence[str]) -> bool:
    return any(_NOT_PARSED.match(line) or line.startswith("invalid-syntax: ") for line in lines)


def _format_line(lines: Sequence[str], number: int) -> str | None:
    """Return the failure that a line of `ruff format` tells."""
    line = lines[number]
    if match := _WOULD.match(line):
        return f"{match['path']}: unformatted"
    if match := _NOT_PARSED.match(line):
        return f"{match['path']}: syntax: {stable(match['message'])}"
    following = lines[number + 1] if number + 1 < len(lines) else ""
    if arrow := _ARROW.match(following):
        if _UNFORMATTED.match(line):
            return f"{arrow['path']}: unformatted"
        if line.startswith("invalid-syntax: "):
            return f"{arrow['path']}: syntax: {stable(line)}"
    return None


_MYPY = re.compile(
    r"(?P<path>[^\s:][^:]*)(?::\d+)?(?::\d+)?(?::\d+:\d+)?: error: (?P<message>.*?)"
    r"(?:  \[(?P<code>[\w-]+)\])?$"
)
_MYPY_FOUND = re.compile(
    r"Found (?P<count>\d+) errors? in \d+ files? \((?:checked|errors prevented)"
)
_MYPY_CODE = re.compile(r"(?P<rest>.*?) {1,2}\[(?P<code>[\w-]+)\]$")
_MOST_WRAPPED = 6


def read_mypy(lines: Sequence[str], command: str) -> Reading | None:
    """Read mypy, also with `--pretty` and without error codes."""
    found = [number for number, line in enumerate(lines) if _MYPY_FOUND.match(line)]
    if not found and not re.search(r"\bd?mypy\b", command):
        return None
    places: list[int] = []
    ids: list[str] = []
    syntax = False
    for number, line in enumerate(lines):
        if match := _MYPY.match(line):
            message, code = match["message"], match["code"] or ""
            if not code:
                message, code = _unwrapped(lines, number, message)
            places.append(number)
            syntax = syntax or code == "syntax"
            ids.append(f"{match['path']}:{code}: {stable(message)}")
    if not ids:
        return None
    counts = [match for number in found if (match := _MYPY_FOUND.match(lines[number]))]
    stated = sum(int(match["count"]) for match in counts) if counts else None
    prevented = any("errors prevented" in lines[number] for number in found)
    phase = Phase.PARSE if syntax else Phase.COLLECT if prevented else Phase.RUN
    area = whole_range(lines, places + found)
    return Reading("mypy", phase, numbered(ids), area, stated, head_share=0.75)


def _unwrapped(lines: Sequence[str], number: int, message: str) -> tuple[str, str]:
    """Put together a message that `--pretty` spread over several lines, with its code."""
    parts = [message]
    for line in lines[number + 1 : number + _MOST_WRAPPED]:
        if line.startswith("    ") or _MYPY.match(line) or _MYPY_FOUND.match(line):
            break
        if match := _MYPY_CODE.match(line):
            return " ".join([*parts, match["rest"]]), match["code"]
        parts.append(line)
    return message, ""


_PYRIGHT = re.compile(r"\s*(?P<path>\S.*?):\d+:\d+ - error: (?P<message>.*)$")
_PYRIGHT_ANY = re.compile(r"\s*\S.*?:\d+:\d+ - (?:error|warning|information)")
_PYRIGHT_RULE = re.compile(r"(?P<rest>.*?) ?\((?P<rule>report\w+)\)$")
_PYRIGHT_FOUND = re.compile(
    r"(?P<count>\d+) errors?, \d+ warnings?(?:, \d+ (?:notes?|informations?))?"
)


def read_pyright(lines: Sequence[str], command: str) -> Reading | None:
    """Read pyright and basedpyright."""
    del command
    found = [number for number, line in enumerate(lines) if _PYRIGHT_FOUND.match(line)]
    places: list[int] = []
    ids: list[str] = []
    syntax = False
    for number, line in enumerate(lines):
        match = _PYRIGHT.match(line)
        if match is None or match["message"].startswith("TS"):
            continue
        places.append(number)
        message, rule = _pyright_rule(lines, number, match["message"])
        syntax = syntax or not rule
        ids.append(f"{match['path']}:{rule}: {stable(message)}")
    if not ids or not found:
        return None
    counts = [match for number in found if (match := _PYRIGHT_FOUND.match(lines[number]))]
    stated = sum(int(match["count"]) for match in counts)
    phase = Phase.PARSE if syntax else Phase.RUN
    area = whole_range(lines, places + found)
    return Reading("pyright", phase, numbered(ids), area, stated, head_share=0.75)


def _pyright_rule(lines: Sequence[str], number: int, message: str) -> tuple[str, str]:
    """Return the first line of a message and the rule, which stands at the end of its last."""
    if match := _PYRIGHT_RULE.match(message):
        return match["rest"], match["rule"]
    for line in lines[number + 1 : number + 12]:
        if not line[:1].isspace() or _PYRIGHT_ANY.match(line):
            break
        if match := _PYRIGHT_RULE.match(line):
            return message, match["rule"]
    return message, ""
