"""Reads pytest and unittest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.fingerprints.general import digest
from runner.fingerprints.reading import CUT, Reading, numbered, stable
from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence

_KIND = (
    r"failed|passed|skipped|deselected|xfailed|xpassed|warnings?|errors?|rerun|retried"
    r"|subtests? (?:passed|failed|skipped)"
)
_STATS = re.compile(
    rf"(?P<bar>=+ )?(?P<counts>no tests ran|\d+ (?:{_KIND})(?:, \d+ (?:{_KIND}))*)"
    r" in [\d.]+s(?: \([\d:, days]+\))?(?: =+)?$"
)
_SESSION = re.compile(r"=+ test session starts =+$")
_SECTION = re.compile(r"=+ (?:ERRORS|FAILURES|short test summary info) =+$")
_SUMMARY = re.compile(r"=+ short test summary info =+$")
_FAILED = re.compile(
    r"(?P<kind>FAILED|ERROR|SUBFAIL(?:ED)?(?:[\[(][^\])]*[\])])*(?: \(.*?\))?)"
    r" (?P<id>[^\[]*?(?:\[.*?\])?)(?: - .*)?$"
)
_HEADER = re.compile(r"_{2,} (?P<name>\S.*?) _{2,}$")
_COLLECTING = re.compile(r"ERROR collecting (?P<path>.+)$")
_RAISED = re.compile(r"E\s+(?P<what>[\w.]*(?:Error|Exception|Exit|Interrupt|Warning|Failed)\b.*)$")
_PARSE = re.compile(
    r"(?:ERROR: )?usage: |pytest: error: |ERROR: .*(?:not found|unrecognized)"
    r"|pytest\.UsageError|ERROR: while parsing|ERROR: [\w./-]+:\d+: "
)
_CONFTEST = re.compile(r"ImportError while loading conftest '(?P<path>.*)'")
_COVERAGE = re.compile(
    r"(?:FAIL Required test coverage|ERROR: Coverage failure|Coverage failure: total)"
)


def read_pytest(lines: Sequence[str], command: str) -> Reading | None:
    """Read the first pytest session; `None` when there is none that failed in a known way."""
    region = _session(lines)
    if region is None:
        return _never_started(lines, command)
    part = [lines[number] for number in region]
    stats = _STATS.match(part[-1])
    counts = stats["counts"] if stats else ""
    collecting = _collection_errors(part)
    ids = _summary_ids(part, collecting) or _header_ids(part)
    seen = len(ids)
    stated = _stated(counts)
    after = lines[region.stop : region.stop + 3]
    if any(_COVERAGE.match(line) for line in (*part, *after)):
        ids = (*ids, "coverage below its threshold")
    if counts == "no tests ran" and not ids:
        said = [stable(line) for line in after if line.startswith("ERROR: ")]
        ids, stated, seen = (": ".join(["no tests ran", *said]),), 1, 1
    if not ids:
        return None
    early = collecting or counts == "no tests ran"
    # The list of failures stands at the end: with its heading in one piece it is all there.
    whole = True if stated is None and _summary_is_whole(part) else None
    phase = Phase.COLLECT if early else Phase.RUN
    return Reading("pytest", phase, ids, region, stated, seen, whole)


def _session(lines: Sequence[str]) -> range | None:
    """Find where the first session begins and ends.

    Tests of pytest plugins print whole sessions of their own inside ours: depth tells them apart.
    """
    start = next((n for n, line in enumerate(lines) if _SESSION.match(line)), None)
    if start is None:
        return _quiet_session(lines)
    depth = 0
    last = start
    for number in range(start, len(lines)):
        line = lines[number]
        if _SESSION.match(line):
            depth += 1
        elif (stats := _STATS.match(line)) and stats["bar"]:
            depth -= 1
            last = number
            if depth == 0:
                return range(start, number + 1)
    return range(start, last + 1) if last > start else None


def _quiet_session(lines: Sequence[str]) -> range | None:
    """Find a session without its heading (`-q`), with or without its last line (`-qq`)."""
    start = next((n for n, line in enumerate(lines) if _SECTION.match(line)), None)
    ends = [n for n, line in enumerate(lines) if _STATS.match(line)]
    if start is None:
        ran = next((n for n in ends if "failed" in lines[n] or "error" in lines[n]), None)
        return None if ran is None else range(ran, ran + 1)
    if ends and ends[-1] > start:
        return range(start, ends[-1] + 1)
    summary = [n for n in range(start, len(lines)) if _FAILED.match(lines[n])]
    return range(start, summary[-1] + 1) if summary else None


def _stated(counts: str) -> int | None:
    found = [int(n) for n, _ in re.findall(r"(\d+) (failed|errors?|subtests? failed)", counts)]
    return sum(found) if found else None


def _summary_is_whole(part: Sequence[str]) -> bool:
    headings = [n for n, line in enumerate(part) if _SUMMARY.match(line)]
    return bool(headings) and CUT not in part[headings[-1] :]


def _summary_ids(part: Sequence[str], collecting: dict[str, str]) -> tuple[str, ...]:
    """Read the list of failures at the end of a session."""
    headings = [n for n, line in enumerate(part) if _SUMMARY.match(line)]
    # Without its heading (cut off) the lines still mean what they say.
    start = headings[-1] if headings else (part.index(CUT) if CUT in part else len(part))
    ids: list[str] = []
    for line in part[start:]:
        if match := _FAILED.match(line):
            name = stable(match["id"])
            if match["kind"].startswith("SUB"):
                ids.append(f"{name} {stable(match['kind'])}")
            elif match["kind"] == "ERROR":
                ids.append(f"{name}: error{collecting.get(match['id'], '')}")
            else:
                ids.append(name)
    return numbered(ids)


def _header_ids(part: Sequence[str]) -> tuple[str, ...]:
    """Read the headings of the failures, where the list at the end was switched off."""
    sections = [n for n, line in enumerate(part) if _SECTION.match(line)]
    if not sections:
        return ()
    return numbered(
        stable(match["name"]) for line in part[sections[0] :] if (match := _HEADER.match(line))
    )


def _collection_errors(part: Sequence[str]) -> dict[str, str]:
    """Return what was raised while collecting each file that could not be collected."""
    errors: dict[str, str] = {}
    path = ""
    for line in part:
        if header := _HEADER.match(line):
            collecting = _COLLECTING.match(header["name"])
            path = collecting["path"] if collecting else ""
            if path:
                errors.setdefault(path, "")
        elif path and (raised := _RAISED.match(line)):
            errors[path] = ": " + stable(raised["what"])
    return errors


def _never_started(lines: Sequence[str], command: str) -> Reading | None:
    """Read what pytest says when it cannot even begin: a bad option, a broken `conftest.py`."""
    for number, line in enumerate(lines):
        line_after = lines[number + 1] if number + 1 < len(lines) else ""
        if line.startswith("INTERNALERROR>"):
            ids = ("internal error: " + digest(lines[number:]),)
            return Reading("pytest", Phase.PARSE, ids, range(number, len(lines)), whole=True)
        if match := _CONFTEST.match(line):
            raised = [stable(m["what"]) for one in lines[number:] if (m := _RAISED.match(one))]
            ids = (f"{match['path']}: {raised[-1] if raised else 'cannot be imported'}",)
            return Reading("pytest", Phase.COLLECT, ids, range(number, len(lines)), whole=True)
        if _PARSE.match(line) and any("pytest" in one for one in (command, line, line_after)):
            said = lines[number : number + 3]
            ids = tuple(stable(one) for one in said if one.strip() and one != CUT)
            # What stands before a cut may be half a line.
            whole = CUT not in lines[number : number + 4]
            return Reading("pytest", Phase.PARSE, ids, range(number, len(lines)), whole=whole)
    return None


_RESULT = re.compile(r"(?P<kind>FAIL|ERROR|UNEXPECTED SUCCESS): (?P<name>\S.*)$")
_RULE = re.compile(r"={70}$")
_ENDED = re.compile(r"FAILED \((?P<counts>.*(?:failures|errors|unexpected successes)=\d+.*)\)$")
_NOT_LOADED = "unittest.loader._FailedTest"
_FRAME = re.compile(r'\s+File "(?P<path>[^"]+)", line \d+')
_LOADING = re.compile(r"(?:.*[\\/])?unittest[\\/]loader\.py$")


def read_unittest(lines: Sequence[str], command: str) -> Reading | None:
    """Read the first run of unittest (also by way of Django) that failed."""
    del command
    end = next((n for n, line in enumerate(lines) if _ENDED.match(line)), None)
    if end is None:
        return _never_loaded(lines)
    counts = re.findall(r"(?:failures|errors|unexpected successes)=(\d+)", lines[end])
    ids: list[str] = []
    start = end
    for number in range(1, end):
        match = _RESULT.match(lines[number])
        # After a cut the rule above the heading may be missing.
        if match and (_RULE.match(lines[number - 1]) or lines[number - 1] == CUT):
            start = min(start, number - 1)
            error = match["kind"] != "FAIL"
            what = f": error{_raised_in(lines, number, end)}" if error else ""
            ids.append(stable(match["name"]) + what)
    if not ids:
        return None
    loaded = [one for one in ids if _NOT_LOADED not in one]
    return Reading(
        "unittest",
        Phase.RUN if loaded else Phase.COLLECT,
        numbered(ids),
        range(start, end + 1),
        stated=sum(int(count) for count in counts),
    )


def _never_loaded(lines: Sequence[str]) -> Reading | None:
    """Read what unittest says when a module that it was given by name cannot be imported."""
    starts = [n for n, line in enumerate(lines) if line == "Traceback (most recent call last):"]
    for start in starts:
        stop = next((n for n in range(start + 1, len(lines)) if lines[n][:1].strip()), None)
        if stop is None:
            return None
        frames = [m["path"] for line in lines[start:stop] if (m := _FRAME.match(line))]
        if any(map(_LOADING.match, frames)):
            ids = (stable(f"{frames[-1]}: {lines[stop]}"),)
            return Reading("unittest", Phase.COLLECT, ids, range(start, stop + 1), whole=True)
    return None


def _raised_in(lines: Sequence[str], start: int, end: int) -> str:
    """Return what kept a module from being loaded; other errors are known by their test."""
    if _NOT_LOADED not in lines[start]:
        return ""
    for number in range(start + 1, end):
        if _RULE.match(lines[number]):
            break
        if re.match(r"(?:\w+\.)*\w*Error: (?!Failed to import)", lines[number]):
            return ": " + stable(lines[number])
    return ""
