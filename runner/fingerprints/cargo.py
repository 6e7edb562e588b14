"""Reads `cargo build`, `check`, `clippy`, `test`, `nextest` and `fmt --check`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.fingerprints.reading import CUT, Reading, numbered, stable, unique, whole_range
from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

_ERROR = re.compile(r"error(?:\[(?P<code>\w+)\])?: (?P<message>.+)$")
_SHORT = re.compile(
    r"(?P<path>[^\s:][^:]*\.rs):\d+:\d+: error(?:\[(?P<code>\w+)\])?: (?P<message>.+)$"
)
_ARROW = re.compile(r"\s*--> (?P<path>[^:]+):\d+:\d+$")
_SUMMARY = re.compile(
    r"error: could not compile `(?P<crate>[^`]+)`(?: \(.*?\))? due to (?:(?P<count>\d+) )?previous"
)
_SYNTAX = re.compile(
    r"expected |unexpected |unclosed |unterminated |unknown start of token|mismatched closing"
    r"|this file contains an unclosed|string values must be quoted|invalid "
)


def read_rustc(lines: Sequence[str], command: str) -> Reading | None:
    """Read what the compiler or clippy complained about. Warnings did not fail the command."""
    ids: list[str] = []
    places: list[int] = []
    coded = syntax = False
    for number in range(len(lines)):
        told = _error_line(lines, number)
        if told is None:
            continue
        path, code, message = told
        coded = coded or bool(code)
        syntax = syntax or (not code and bool(_SYNTAX.match(message)))
        ids.append(f"{path}:{code}: {stable(message)}")
        places.append(number)
    summaries = {
        match["crate"]: int(match["count"] or 1)
        for line in lines
        if (match := _SUMMARY.match(line))
    }
    if not ids or not (summaries or "cargo" in command or syntax):
        return None
    lints = not coded and ("clippy" in command or any("clippy::" in line for line in lines))
    phase = Phase.PARSE if syntax else Phase.RUN if lints else Phase.COLLECT
    tool = "clippy" if lints else "cargo"
    stated = sum(summaries.values()) if summaries else None
    area = whole_range(lines, places)
    # As with tests: each crate has a count of its own.
    whole = False if CUT in lines[area.start : area.stop] else None
    return Reading(tool, phase, numbered(ids), area, stated, whole=whole, head_share=0.75)


def _error_line(lines: Sequence[str], number: int) -> tuple[str, str, str] | None:
    """Return path, code and message of the error that begins here."""
    line = lines[number]
    if match := _SHORT.match(line):
        return match["path"], match["code"] or "", match["message"]
    if match := _ERROR.match(line):
        for following in lines[number + 1 : number + 4]:
            if arrow := _ARROW.match(following):
                return arrow["path"], match["code"] or "", match["message"]
    return None


_TARGET = re.compile(r"\s+(?:Running (?:unittests )?(?P<path>\S+) \(|Doc-tests (?P<doc>\S+))")
_LISTED = re.compile(r"    (?P<name>\S.*)$")
_RESULT = re.compile(r"test result: FAILED\. \d+ passed; (?P<failed>\d+) failed;")
_DOC_LINE = re.compile(r" \(line \d+\)$")
_DIED = re.compile(r"\s*process didn't exit successfully: .*\((?P<how>.+)\)$")
_RUNNING = re.compile(r"running \d+ tests?$")
_NEXTEST = re.compile(
    r"\s+(?:FAIL|SIGABRT|SIGSEGV|TIMEOUT|LEAK-FAIL)(?: \[[^\]]*\])+\s+(?P<name>\S.*)$"
)
_NEXTEST_SUM = re.compile(r"\s+Summary \[.*?\].*?(?P<failed>\d+) (?:failed|timed out)")


def read_cargo_test(lines: Sequence[str], command: str) -> Reading | None:
    """Read the built-in test harness of Rust, and nextest."""
    del command
    ids: list[str] = []
    places: list[int] = []
    target, listing, stated = "", False, 0
    for number, line in enumerate(lines):
        if match := _TARGET.match(line):
            target = match["path"] or f"doc {match['doc']}"
        if match := _RESULT.match(line):
            stated += int(match["failed"])
            places.append(number)
        elif match := _DIED.match(line):
            ids.append(f"{target}: died: {stable(match['how'])}")
        elif _RUNNING.match(line):
            places.append(number)
        elif listing and (match := _LISTED.match(line)):
            ids.append(f"{target}: {_DOC_LINE.sub('', match['name'])}")
            continue
        listing = line == "failures:"
    if places and stated:
        area = whole_range(lines, places)
        if not ids:
            return None
        # Each target has a count of its own, and whole targets may be missing at a cut.
        whole = False if CUT in lines[area.start : area.stop] else None
        return Reading("cargo", Phase.RUN, numbered(ids), area, stated, whole=whole)
    return _nextest(lines)


def _nextest(lines: Sequence[str]) -> Reading | None:
    ids = unique(stable(m["name"]) for line in lines if (m := _NEXTEST.match(line)))
    sums = [number for number, line in enumerate(lines) if _NEXTEST_SUM.match(line)]
    if not ids or not sums:
        return None
    summary = _NEXTEST_SUM.match(lines[sums[-1]])
    stated = int(summary["failed"]) if summary else None
    found = [number for number, line in enumerate(lines) if _NEXTEST.match(line)]
    area = whole_range(lines, found + sums)
    return Reading("cargo", Phase.RUN, ids, area, stated)


_DIFF = re.compile(r"Diff in (?P<path>.+?)(?::\d+:?| at line \d+:?)$")


def read_rustfmt(lines: Sequence[str], command: str) -> Reading | None:
    """Read `cargo fmt --check`."""
    del command
    found = [number for number, line in enumerate(lines) if _DIFF.match(line)]
    paths = (match["path"] for number in found if (match := _DIFF.match(lines[number])))
    ids = unique(f"{path}: unformatted" for path in paths)
    if not ids:
        return None
    return Reading("rustfmt", Phase.RUN, ids, whole_range(lines, found), head_share=0.75)
