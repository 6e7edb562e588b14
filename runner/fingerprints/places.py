"""Finds the lines of the tree that a failing command's output points at, for CI systems to mark.

The readers say which tool speaks in which part of the output; each tool is looked at in one of two
ways: checks name a place and a message at once, tests name a failure and its places below it. Only
files of the tree count, and only what is an error where there is any.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from runner.fingerprints.reading import CUT
from runner.frozen import frozen
from runner.outcome import Place
from runner.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.fingerprints.reading import Reading

    _Resolve = Callable[[str], str]

MOST_PLACES = 10
"""As many as GitHub shows of one kind for one of its steps."""

_LONGEST_MESSAGE = 300

_DECORATION = re.compile(r"^\S+:\d+:\d+: (?=[A-Z]+\d|invalid-syntax)|(?<=\d )\[\*\] ")
"""The place told twice, and ruff's mark of what it could fix itself."""


@frozen
class _Found:
    """A place as the output names it."""

    path: str
    line: str = ""
    column: str = ""
    message: str = ""
    mild: bool = False
    """A warning or a note: left out where there are errors."""


def places_in(
    lines: Sequence[str],
    readings: Sequence[Reading],
    known: Callable[[str], bool],
    directory: str,
) -> tuple[Place, ...]:
    """Return where the failures are, each place once, at most `MOST_PLACES`.

    Args:
        lines: The output, its paths relative to the root.
        readings: What the tools said in it.
        known: Whether a path relative to the root is a file of the tree.
        directory: Where the command ran, relative to the root: paths may be relative to it.
    """
    resolve = partial(_resolved, known, directory)
    found = [one for part, tool in _parts(lines, readings) for one in _scan(part, tool, resolve)]
    if any(not one.mild for one in found):
        found = [one for one in found if not one.mild]
    places: dict[tuple[str, int, int], Place] = {}
    for one in found:
        path = resolve(one.path)
        if path:
            place = Place(path, _number(one.line), _number(one.column), _short(one.message))
            places.setdefault((place.path, place.line, place.column), place)
        if len(places) >= MOST_PLACES:
            break
    return tuple(places.values())


def _parts(
    lines: Sequence[str], readings: Sequence[Reading]
) -> Iterator[tuple[Sequence[str], str]]:
    if not readings:
        yield lines, ""
    for reading in sorted(readings, key=lambda one: one.lines.start):
        # A heading above the first diagnostic and an arrow below the last one belong to it.
        yield lines[max(0, reading.lines.start - 2) : reading.lines.stop + 4], reading.tool


def _scan(part: Sequence[str], tool: str, resolve: _Resolve) -> Iterator[_Found]:
    style = _STYLES.get(tool)
    if style is not None:
        yield from _of_tests(part, style, resolve)
    if style is None or tool in _MIXED:
        yield from _of_checks(part)


def _resolved(known: Callable[[str], bool], directory: str, path: str) -> str:
    """Return a path as the tree has it; empty when it is no file of the tree."""
    path = path.removeprefix("./")
    prefix = "" if directory in ("", ".") else directory.strip("/") + "/"
    tries = (prefix + path, path) if prefix else (path,)
    return next((one for one in tries if ".." not in one.split("/") and known(one)), "")


def _number(text: str) -> int:
    return int(text[:9]) if text else 0


def _short(message: str) -> str:
    return one_line(_DECORATION.sub("", message), _LONGEST_MESSAGE)


# -- checks ----------------------------------------------------------------------------------------

_LEVEL = r"(?:(?P<level>error|warning|note|info(?:rmation)?|hint)\b(?:\[\w+\])?[\s:]*)?"
_INLINE = re.compile(
    r"\s*(?:vet: |error: Failed to parse )?(?P<path>[^\s:(][^:(]*)"
    r"(?::(?P<line>\d+)(?::(?P<column>\d+))?|\((?P<row>\d+),(?P<place>\d+)\))"
    rf"(?::\d+:\d+)?(?::| -)\s+{_LEVEL}(?P<message>\S.*)$"
)
_ARROW = re.compile(r"\s*--> (?P<path>.+?):(?P<line>\d+):(?P<column>\d+)$")
_GROUPED = re.compile(rf"\s+(?P<line>\d+):(?P<column>\d+)\s+{_LEVEL}(?P<message>\S.*)$")
_BIOME = re.compile(r"(?P<path>\S.*?):(?P<line>\d+):(?P<column>\d+) (?P<rule>[\w/]+/\w+).*━{5,}$")
_BIOME_SAYS = re.compile("\\s+(?P<level>[\u00d7\u2716!\u26a0i\u2139])\\s+(?P<message>.+)$")
_RUSTFMT = re.compile(r"Diff in (?P<path>.+?)(?::(?P<line>\d+):?| at line (?P<row>\d+):?)$")
_FORMAT = re.compile(r"(?:Would reformat: |would reformat )(?P<path>.+)$")
_GITHUB = re.compile(r"::(?P<level>error|warning|notice)\s+(?P<facts>[^:]*)::(?P<message>.*)$")
_FACT = re.compile(r"(?:^|,)(file|line|col)=((?<=file=)[^,]*|[0-9]+)(?=,|$)")
_MILD = ("warning", "note", "notice", "info", "information", "hint")


def _of_checks(part: Sequence[str]) -> Iterator[_Found]:
    group = ""
    for number, line in enumerate(part):
        found = _diagnostic(part, number, group)
        if found is not None:
            yield found
        elif line.strip() and not line[0].isspace():
            group = "" if line == CUT else line.removesuffix(":")


def _diagnostic(part: Sequence[str], number: int, group: str) -> _Found | None:
    """Return the place that a line tells; `group` is the heading above it."""
    line = part[number]
    if match := _GITHUB.match(line):
        return _of_github(match)
    if match := _BIOME.match(line):
        return _of_biome(part, number, match)
    if match := _INLINE.match(line):
        return _inline(match)
    if match := _ARROW.match(line):
        return _of_arrow(part, number, match)
    if group and (match := _GROUPED.match(line)):
        return _Found(group, match["line"], match["column"], match["message"], _mild(match))
    if match := _RUSTFMT.match(line):
        return _Found(match["path"], match["line"] or match["row"], message="not formatted")
    match = _FORMAT.match(line)
    return _Found(match["path"], message="not formatted") if match else None


def _mild(match: re.Match[str]) -> bool:
    return match["level"] in _MILD


def _inline(match: re.Match[str]) -> _Found:
    line, column = match["line"] or match["row"], match["column"] or match["place"] or ""
    return _Found(match["path"], line, column, match["message"], _mild(match))


def _of_arrow(part: Sequence[str], number: int, match: re.Match[str]) -> _Found:
    """Take the message from the line above: `F401 ...`, `error[E0425]: ...`."""
    above = part[number - 1] if number else ""
    level, colon, rest = above.partition(": ")
    name = level.partition("[")[0]
    if colon and name in ("error", *_MILD):
        code = level.partition("[")[2].removesuffix("]")
        above = f"{code}: {rest}" if code else rest
    return _Found(match["path"], match["line"], match["column"], above, name in _MILD)


def _of_biome(part: Sequence[str], number: int, match: re.Match[str]) -> _Found:
    message, mild = "", False
    for line in part[number + 1 : number + 5]:
        if said := _BIOME_SAYS.match(line):
            message, mild = said["message"], said["level"] not in "\u00d7\u2716"
            break
    words = f"{match['rule']}: {message}"
    return _Found(match["path"], match["line"], match["column"], words, mild)


def _of_github(match: re.Match[str]) -> _Found:
    """Read what a tool printed for GitHub itself, which does not hear it from here."""
    facts: dict[str, str] = dict(_FACT.findall(match["facts"]))
    message = match["message"].replace("%0A", " ").replace("%25", "%")
    line, column = facts.get("line", ""), facts.get("col", "")
    return _Found(facts.get("file", ""), line, column, message, _mild(match))


# -- tests -----------------------------------------------------------------------------------------


@frozen
class _Style:
    """How a runner of tests writes a failure."""

    heading: re.Pattern[str]
    place: re.Pattern[str]
    message: re.Pattern[str]
    last: bool
    """Which of a failure's places in the tree is the one: stacks grow up or down."""


_FRAME = re.compile(r'\s*File "(?P<path>[^"]+)", line (?P<line>\d+)')
_RAISED = re.compile(
    r"(?P<message>[\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Failed)\b.*|AssertionError)$"
)
_JS_MESSAGE = re.compile(r"\s*(?P<message>\S.*)$")
_PYTEST = _Style(
    re.compile(r"_{2,} \S.*? _{2,}$"),
    re.compile(r"(?P<path>[^\s:][^:]*):(?P<line>\d+):(?: |$)"),
    re.compile(r"E\s+(?P<message>\S.*)$"),
    last=True,
)
_STYLES = {
    "": _Style(re.compile(r"Traceback \(most recent call last\):$"), _FRAME, _RAISED, last=True),
    "pytest": _PYTEST,
    "unittest": _Style(
        re.compile(r"(?:FAIL|ERROR|UNEXPECTED SUCCESS): \S"), _FRAME, _RAISED, last=True
    ),
    "jest": _Style(
        re.compile(r"  ● \S"),
        re.compile(r"\s+at (?:.*\()?(?P<path>[^()\s]+?):(?P<line>\d+):(?P<column>\d+)\)?$"),
        _JS_MESSAGE,
        last=False,
    ),
    "vitest": _Style(
        re.compile(r" FAIL  \S"),
        re.compile(r" \u276f (?:.* )?(?P<path>\S+?):(?P<line>\d+):(?P<column>\d+)$"),
        _JS_MESSAGE,
        last=False,
    ),
    "cargo": _Style(
        re.compile(r"thread '.*' .*panicked at "),
        re.compile(r"thread '.*' .*panicked at (?P<path>[^:]+):(?P<line>\d+):(?P<column>\d+):?$"),
        re.compile(r"(?!thread ')(?P<message>\S.*)$"),
        last=False,
    ),
}
_MIXED = ("", "cargo")
"""Tools of both kinds, and nobody in particular."""

_UNPLACED = re.compile(
    r"(?:FAILED|ERROR) (?P<path>[^\s:]+\.py)(?:::\S.*?)?(?: - (?P<message>.*))?$"
)


def _of_tests(part: Sequence[str], style: _Style, resolve: _Resolve) -> Iterator[_Found]:
    """Yield the place of each failure, then the files of those that tell no line."""
    placed: set[str] = set()
    for entry in _entries(part, style):
        message = next((m["message"] for line in entry if (m := style.message.match(line))), "")
        matches = [match for line in entry if (match := style.place.match(line))]
        inside = [match for match in matches if resolve(match["path"])]
        if inside:
            facts = inside[-1 if style.last else 0].groupdict()
            placed.add(facts["path"])
            yield _Found(facts["path"], facts["line"], facts.get("column") or "", message)
    for line in part:
        if style is _PYTEST and (match := _UNPLACED.match(line)) and match["path"] not in placed:
            yield _Found(match["path"], message=match["message"] or "failed")


def _entries(part: Sequence[str], style: _Style) -> Iterator[list[str]]:
    """Split at the headings; before the first one each line stands for itself (`--tb=line`)."""
    entry: list[str] | None = None
    for line in part:
        if style.heading.match(line):
            if entry is not None:
                yield entry
            # A panic tells its place in the heading; all others only name the test there.
            entry = [line] if style.place.match(line) else []
        elif entry is None:
            match = style.place.match(line)
            yield [line, f"E {line[match.end() :]}"] if match else []
        else:
            entry.append(line)
    if entry is not None:
        yield entry
