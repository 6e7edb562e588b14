"""Reads tsc, eslint and biome."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.fingerprints.reading import CUT, Reading, numbered, stable, whole_range
from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

_TSC = re.compile(
    r"(?:(?P<path>[^\s:(][^:(]*)(?:\(\d+,\d+\)|:\d+:\d+)(?::| -) )?"
    r"error (?P<code>TS\d+): (?P<message>.+)$"
)
_TSC_FOUND = re.compile(r"Found (?P<count>\d+) errors?(?: in .*)?\.(?: Watching.*)?$")
_TSC_SYNTAX = re.compile(r"TS1\d{3}$")
_TSC_USAGE = re.compile(r"TS(?:5|6|18)\d{3}$")


def read_tsc(lines: Sequence[str], command: str) -> Reading | None:
    """Read tsc and what prints like it (vue-tsc)."""
    del command
    places: list[int] = []
    ids: list[str] = []
    early = False
    for number, line in enumerate(lines):
        if match := _TSC.match(line):
            path, code = match["path"] or "", match["code"]
            places.append(number)
            usage = not path and _TSC_USAGE.match(code)
            early = early or bool(_TSC_SYNTAX.match(code) or usage)
            ids.append(f"{path}:{code}: {stable(match['message'])}")
    if not ids:
        return None
    # Pretty output only tells a count, and eslint and ruff end in words much like it.
    counts = [m for n, line in enumerate(lines) if n > places[0] and (m := _TSC_FOUND.match(line))]
    stated = int(counts[0]["count"]) if len(counts) == 1 else None
    area = whole_range(lines, places)
    phase = Phase.PARSE if early else Phase.RUN
    return Reading("tsc", phase, numbered(ids), area, stated, head_share=0.75)


_ESLINT_LINE = re.compile(
    r"\s+\d+:\d+\s+(?P<level>error|warning)\s+(?P<message>\S.*?)(?:\s{2,}(?P<rule>[@\w/.-]+))?$"
)
_ESLINT_FILE = re.compile(r"(?P<path>(?:\.{0,2}/)?[^\s:].*\.\w+)$")
_ESLINT_FOUND = re.compile(
    r"✖ \d+ problems? \((?P<errors>\d+) errors?, (?P<warnings>\d+) warnings?\)"
)
_ESLINT_TOO_MANY = re.compile(r"ESLint found too many warnings")


def read_eslint(lines: Sequence[str], command: str) -> Reading | None:
    """Read eslint's own format (`stylish`). Warnings count only where they are what failed."""
    del command
    found = [number for number, line in enumerate(lines) if _ESLINT_FOUND.match(line)]
    if not found:
        return None
    errors, warnings, places = _eslint_lines(lines)
    counts = [match for number in found if (match := _ESLINT_FOUND.match(lines[number]))]
    stated_errors = sum(int(match["errors"]) for match in counts)
    stated = stated_errors + sum(int(match["warnings"]) for match in counts)
    ids = [*errors, *warnings]
    if stated_errors and not any(_ESLINT_TOO_MANY.match(line) for line in lines):
        ids, stated = errors, stated_errors
    if not ids:
        return None
    phase = Phase.PARSE if any("Parsing error" in one for one in ids) else Phase.RUN
    area = whole_range(lines, places + found)
    return Reading("eslint", phase, numbered(ids), area, stated, head_share=0.75)


def _eslint_lines(lines: Sequence[str]) -> tuple[list[str], list[str], list[int]]:
    """Return errors, warnings and the lines where they stand."""
    errors: list[str] = []
    warnings: list[str] = []
    places: list[int] = []
    path = ""
    for number, line in enumerate(lines):
        if match := _ESLINT_FILE.match(line):
            path = match["path"]
        elif path and (match := _ESLINT_LINE.match(line)):
            kind = errors if match["level"] == "error" else warnings
            kind.append(f"{path}:{match['rule'] or ''}: {stable(match['message'])}")
            places.append(number)
    return errors, warnings, places


_BIOME = re.compile(
    r"(?P<path>\S.*?)(?::\d+:\d+)? (?P<what>(?:lint|assist|suppressions|syntax|plugin)/\S+"
    r"|format|parse|organizeImports|assist|plugin|internalError/\w+)(?:\s+[A-Z]+)*\s+━{5,}$"
)
_BIOME_ERROR = "\u00d7\u2716"
_BIOME_LEVEL = re.compile("\\s+(?P<level>[\u00d7\u2716!\u26a0i\u2139])\\s+(?P<message>.+)$")
_BIOME_FOUND = re.compile(r"Found (?P<count>\d+) (?P<level>error|warning)s?\.$")


def read_biome(lines: Sequence[str], command: str) -> Reading | None:
    """Read `biome check`, `lint`, `format` and `ci`."""
    del command
    errors: list[str] = []
    warnings: list[str] = []
    places: list[int] = []
    lost = False
    for number, line in enumerate(lines):
        if match := _BIOME.match(line):
            places.append(number)
            told = _biome_message(lines, number)
            if told is None:
                lost = True
                continue
            level, message = told
            kind = errors if level in _BIOME_ERROR else warnings
            kind.append(f"{match['path']}:{match['what']}: {stable(message)}")
    found = [number for number, line in enumerate(lines) if _BIOME_FOUND.match(line)]
    if not errors and not warnings:
        return None
    stated = _biome_stated(lines, found)
    level = "error" if errors or stated.get("error") else "warning"
    ids = errors if level == "error" else warnings
    if not ids:
        return None
    phase = Phase.PARSE if any(":parse: " in one for one in ids) else Phase.RUN
    area = whole_range(lines, places + found)
    count = stated.get(level)
    # Biome shows the first twenty only, unless told otherwise.
    whole = False if lost or (count is not None and count > len(ids)) else None
    return Reading("biome", phase, numbered(ids), area, count, whole=whole, head_share=0.75)


def _biome_message(lines: Sequence[str], number: int) -> tuple[str, str] | None:
    """Return how bad a diagnostic is and what it says, below its heading; `None`: it was cut."""
    for line in lines[number + 1 : number + 5]:
        if line == CUT:
            return None
        if match := _BIOME_LEVEL.match(line):
            return match["level"], match["message"]
    return _BIOME_ERROR[0], ""


def _biome_stated(lines: Sequence[str], found: Sequence[int]) -> dict[str, int]:
    """Add up biome's own counts; it prints only the first 20 diagnostics unless told otherwise."""
    stated: dict[str, int] = {}
    for number in found:
        if match := _BIOME_FOUND.match(lines[number]):
            stated[match["level"]] = stated.get(match["level"], 0) + int(match["count"])
    return stated
