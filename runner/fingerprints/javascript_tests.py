"""Reads jest and vitest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.fingerprints.reading import CUT, Reading, stable, unique
from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

_JEST_FILE = re.compile(r"(?P<result>FAIL|PASS) (?P<path>\S.*?)(?: \([\d.]+ m?s\))?$")
_JEST_TITLE = re.compile(r"  ● (?P<title>\S.*)$")
_JEST_SUITES = re.compile(r"Test Suites: (?:.*?(?P<failed>\d+) failed)?")
_JEST_TESTS = re.compile(r"Tests: +(?:.*?(?P<failed>\d+) failed)?")
_JEST_END = re.compile(r"Ran all test suites|Time: ")
_JEST_THRESHOLD = re.compile(r'Jest: "?(?P<what>.+?)"? coverage threshold for (?P<kind>\w+)')
_JEST_NONE = re.compile(r"No tests found, exiting with code 1")
_NOT_RUN = "Test suite failed to run"
_NO_TESTS = ("Console",)


def read_jest(lines: Sequence[str], command: str) -> Reading | None:
    """Read jest. A suite that cannot be loaded counts as collecting, as its tests are unknown."""
    del command
    region = _jest_region(lines)
    if region is None:
        return _nothing(lines, "jest", _JEST_NONE)
    part = [lines[number] for number in region]
    files, tests, broken = _jest_failures(part)
    coverage = [
        f"coverage of {match['kind']}: {match['what']}"
        for line in lines
        if (match := _JEST_THRESHOLD.match(line))
    ]
    ids = unique([*broken, *tests, *coverage])
    if not ids:
        return None
    if CUT in part:
        # A suite's heading may have been kept while all that it says is gone.
        files = {one.partition(": ")[0] for one in (*tests, *broken)}
    suites = _count(part, _JEST_SUITES)
    failed = _count(part, _JEST_TESTS)
    stated = None if suites is None or failed is None else suites + failed
    return Reading(
        "jest",
        Phase.COLLECT if broken else Phase.RUN,
        ids,
        region,
        stated,
        seen=len(files) + len(set(tests)),
    )


def _jest_region(lines: Sequence[str]) -> range | None:
    start = next((n for n, line in enumerate(lines) if _JEST_FILE.match(line)), None)
    end = next((n for n, line in enumerate(lines) if _JEST_SUITES.match(line)), None)
    if end is None:
        return None
    start = min(end, end if start is None else start)
    while end + 1 < len(lines) and not _JEST_END.match(lines[end]) and lines[end].strip():
        end += 1
    return range(start, end + 1)


def _jest_failures(part: Sequence[str]) -> tuple[set[str], list[str], list[str]]:
    """Return the files that failed, the tests that failed and the suites that could not run."""
    files: set[str] = set()
    tests: list[str] = []
    broken: list[str] = []
    path = ""
    for number, line in enumerate(part):
        if match := _JEST_FILE.match(line):
            path = match["path"].removeprefix("./") if match["result"] == "FAIL" else ""
            if path:
                files.add(path)
        elif path and (match := _JEST_TITLE.match(line)):
            title = match["title"]
            if title == _NOT_RUN:
                broken.append(f"{path}: {_NOT_RUN}: {_jest_reason(part, number)}")
            elif title not in _NO_TESTS:
                tests.append(f"{path}: {stable(title)}")
    return files, tests, broken


def _jest_reason(part: Sequence[str], number: int) -> str:
    """Return why a suite could not run: its syntax error, or the first line of the message."""
    lines = part[number + 1 : number + 45]
    end = next((n for n, line in enumerate(lines) if _JEST_FILE.match(line)), len(lines))
    texts = [line.strip() for line in lines[:end] if line.strip()]
    special = next((text for text in texts if text.startswith("SyntaxError: ")), None)
    return stable(special or (texts[0] if texts else ""))


def _count(part: Sequence[str], pattern: re.Pattern[str]) -> int | None:
    """Return the number of failed ones in a line of the summary; `None` without that line."""
    for line in reversed(part):
        if match := pattern.match(line):
            return int(match["failed"] or 0)
    return None


def _nothing(lines: Sequence[str], tool: str, pattern: re.Pattern[str]) -> Reading | None:
    for number, line in enumerate(lines):
        if pattern.match(line):
            span = range(number, number + 1)
            return Reading(tool, Phase.COLLECT, ("no tests ran",), span, whole=True)
    return None


_VITEST_START = re.compile(r"\s*RUN  ?v\d")
_VITEST_FAIL = re.compile(r" FAIL  (?P<name>\S.*)$")
_VITEST_SUITE = re.compile(r"(?P<path>\S.*?) \[ .* \]$")
_VITEST_FILES = re.compile(r" *Test Files +(?:.*?(?P<failed>\d+) failed)?")
_VITEST_TESTS = re.compile(r" *Tests +(?:.*?(?P<failed>\d+) failed)?")
_VITEST_ERRORS = re.compile(r" *Errors +(?P<failed>\d+) errors?")
_VITEST_END = re.compile(r" *Duration +")
_VITEST_NONE = re.compile(r"No test files found, exiting with code 1")
_VITEST_THRESHOLD = re.compile(
    r"ERROR: Coverage for (?P<kind>\w+) \([\d.]+%\) does not meet (?P<what>.*)"
)


def read_vitest(lines: Sequence[str], command: str) -> Reading | None:
    """Read vitest's default, verbose and dot reporters."""
    del command
    start = next((n for n, line in enumerate(lines) if _VITEST_START.match(line)), None)
    if start is None and not any(_VITEST_FILES.match(line) for line in lines):
        return None
    start = start or 0
    ends = [n for n in range(start, len(lines)) if _VITEST_END.match(lines[n])]
    region = range(start, (ends[0] if ends else len(lines) - 1) + 1)
    part = [lines[number] for number in region]
    tests, broken = _vitest_failures(part)
    coverage = [
        stable(f"coverage of {match['kind']}")
        for line in lines
        if (match := _VITEST_THRESHOLD.match(line))
    ]
    ids = unique([*broken, *tests, *coverage])
    if not ids:
        return _nothing(lines, "vitest", _VITEST_NONE)
    failed = _count(part, _VITEST_TESTS)
    files = _count(part, _VITEST_FILES)
    stated = None if failed is None or files is None else failed + files
    if stated is not None:
        # Unhandled errors have no name that could be followed from run to run.
        stated += _count(part, _VITEST_ERRORS) or 0
    seen = len(set(tests)) + len({one.split(" > ")[0].split(": ")[0] for one in tests + broken})
    phase = Phase.COLLECT if broken else Phase.RUN
    return Reading("vitest", phase, ids, region, stated, seen)


def _vitest_failures(part: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the tests that failed and the files that could not be loaded."""
    tests: list[str] = []
    broken: list[str] = []
    for number, line in enumerate(part):
        match = _VITEST_FAIL.match(line)
        if match is None:
            continue
        if suite := _VITEST_SUITE.match(match["name"]):
            reason = part[number + 1] if number + 1 < len(part) else ""
            broken.append(f"{suite['path']}: {stable(reason)}")
        else:
            tests.append(stable(match["name"]))
    return tests, broken
