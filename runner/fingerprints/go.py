"""Reads `go test`, `go build` and `go vet`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.fingerprints.reading import Reading, numbered, stable, whole_range
from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

_TEST = re.compile(r"\s*--- FAIL: (?P<name>\S.*?) \([\d.]+s\)$")
_PACKAGE = re.compile(
    r"(?:FAIL\t(?P<failed>\S+)(?: \[(?P<why>build|setup) failed\]|\t[\d.]+s|\s*\(cached\))"
    r"|ok  \t\S+|\?   \t\S+)"
)
_PANIC = re.compile(r"(?:panic|fatal error): (?P<what>.*?)(?: \[recovered.*\])?$")
_HEADING = re.compile(r"# (?P<package>[\w./\[\]~-]+)(?: \[(?P<variant>[\w./~-]+)\])?$")
_MESSAGE = re.compile(r"(?:vet: )?(?P<path>[\w./~+@-]+\.go)(?::\d+)(?::\d+)?: (?P<message>.+)$")
_TOOL = re.compile(r"go: (?P<what>.+)$")
_TOO_MANY = "too many errors"


def read_go(lines: Sequence[str], command: str) -> Reading | None:
    """Read the go command. Packages that do not build count as compiling, whatever else ran."""
    tests, places, broken = _tests(lines)
    errors, at, capped = _errors(lines, command)
    ids = numbered([*errors, *tests])
    if not ids:
        return _refused(lines, command)
    tool = "go-vet" if not (tests or broken) and _vets(lines, command) else "go"
    unchecked = any(line.startswith("vet: ") for line in lines)
    compiling = broken or unchecked or (bool(errors) and tool == "go")
    syntax = any(": syntax error: " in one for one in errors)
    phase = Phase.PARSE if syntax else Phase.COLLECT if compiling else Phase.RUN
    # `go build` stops after ten errors of a package and says so.
    whole = False if capped else None
    area = whole_range(lines, places + at)
    return Reading(tool, phase, ids, area, whole=whole, head_share=0.75 if compiling else 0.5)


def _tests(lines: Sequence[str]) -> tuple[list[str], list[int], bool]:
    """Return what failed by package, where that is said, and whether a package did not build."""
    ids: list[str] = []
    places: list[int] = []
    names: list[str] = []
    broken = False
    for number, line in enumerate(lines):
        if match := _TEST.match(line):
            names.append(stable(match["name"]))
            places.append(number)
        elif names and (match := _PANIC.match(line)):
            names.append(f"panic: {stable(match['what'])}")
        elif match := _PACKAGE.match(line):
            if match["failed"]:
                places.append(number)
                broken = broken or bool(match["why"])
                names = names or [f"{match['why']} failed" if match["why"] else "failed"]
                ids += [f"{match['failed']}: {name}" for name in names]
            names = []
    # Tests whose package is not told: a cut, or output of a test binary run by hand.
    return ids + [f"?: {name}" for name in names], places, broken


def _errors(lines: Sequence[str], command: str) -> tuple[list[str], list[int], bool]:
    """Return what the compiler or vet complained about, where, and whether it gave up counting."""
    ids: list[str] = []
    places: list[int] = []
    capped = False
    package = ""
    trusted = bool(re.search(r"\bgo(?:test)? (?:build|vet|test|install|run)\b", command))
    for number, line in enumerate(lines):
        if heading := _HEADING.match(line):
            package = heading["package"]
            places.append(number)
        elif line.strip() == _TOO_MANY or line.endswith(f": {_TOO_MANY}"):
            capped = capped or bool(package)
        elif (package or trusted) and (match := _MESSAGE.match(line)):
            ids.append(f"{match['path']}: {stable(match['message'])}")
            places.append(number)
        elif not line.startswith(("\t", "vet: ")):
            package = ""
    return ids, places, capped


def _vets(lines: Sequence[str], command: str) -> bool:
    return bool(re.search(r"\bgo vet\b", command)) or any(
        line.startswith("vet: ") for line in lines
    )


def _refused(lines: Sequence[str], command: str) -> Reading | None:
    """Read what the go command says before it builds anything: modules that do not fit."""
    if not re.search(r"\bgo (?:test|build|vet|run|install)\b", command):
        return None
    found = [number for number, line in enumerate(lines) if _TOOL.match(line)]
    said = [stable(lines[n]) for n in found if not lines[n].startswith("go: downloading")]
    if not said:
        return None
    return Reading("go", Phase.PARSE, numbered(said), whole_range(lines, found))
