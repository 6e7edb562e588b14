"""Reads pre-commit (and prek): each failing hook by what its own tool says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.fingerprints.general import digest
from runner.fingerprints.reading import CUT, Reading, stable
from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    ReadAll = Callable[[Sequence[str], str], Sequence[Reading]]

_HOOK = re.compile(
    r"(?P<name>\S.*?)(?<!\.)\.{3,}+(?:\([^()]*\))?(?P<result>Passed|Failed|Skipped|Error)$"
)
_DETAIL = re.compile(r"- (?P<what>hook id|exit code|duration): (?P<value>.+)$")
_MODIFIED = re.compile(r"- files were modified by this hook$")
_CONFIG = re.compile(r"An (?:unexpected )?error has occurred: (?P<what>.+)$")


def read_pre_commit(
    lines: Sequence[str], command: str, read_all: ReadAll
) -> tuple[Reading, bool] | None:
    """Read a run of pre-commit; the second value tells whether every failing hook is whole.

    Args:
        lines: The output.
        command: The command, as a hint.
        read_all: Reads what a hook printed with every reader but this one.
    """
    heads = [number for number, line in enumerate(lines) if _HOOK.match(line)]
    if not heads or not any(_DETAIL.match(line) for line in lines):
        return _broken_config(lines, command)
    ids: list[str] = []
    phase = Phase.RUN
    complete = True
    for place, number in enumerate(heads):
        match = _HOOK.match(lines[number])
        if match is None or match["result"] not in ("Failed", "Error"):
            continue
        end = heads[place + 1] if place + 1 < len(heads) else len(lines)
        hook = _hook(lines[number + 1 : end], match["name"], read_all)
        ids += hook[0]
        phase = min(phase, hook[1])
        complete = complete and hook[2]
    if not ids:
        return None
    # A whole hook may be what was cut out.
    complete = complete and CUT not in lines
    reading = Reading("pre-commit", phase, tuple(ids), range(heads[0], len(lines)))
    return reading, complete


def _hook(body: Sequence[str], name: str, read_all: ReadAll) -> tuple[list[str], Phase, bool]:
    """Return the failures of one hook, how far it came, and whether these are all of them."""
    details = {match["what"]: match["value"] for line in body if (match := _DETAIL.match(line))}
    hook = details.get("hook id", stable(name))
    modified = any(_MODIFIED.match(line) for line in body)
    ids = [f"{hook}: modified files"] if modified else []
    rest = [line for line in body if not _DETAIL.match(line) and not _MODIFIED.match(line)]
    readings = read_all(rest, "")
    truncated = CUT in rest
    for reading in readings:
        ids += [f"{hook}: {one}" for one in reading.ids]
    if readings:
        phase = min(reading.phase for reading in readings)
        return ids, phase, all(reading.complete(truncated=truncated) for reading in readings)
    if "exit code" in details or not modified:
        ids.append(f"{hook}: exit {details.get('exit code', '?')}: {digest(rest)}")
    return ids, Phase.RUN, not truncated


def _broken_config(lines: Sequence[str], command: str) -> tuple[Reading, bool] | None:
    """Read what pre-commit says when its own configuration is wrong."""
    for number, line in enumerate(lines):
        if match := _CONFIG.match(line):
            if "pre-commit" not in command and not any("pre-commit" in one for one in lines):
                return None
            what = f"{stable(match['what'])} {digest(lines[number:])}"
            span = range(number, len(lines))
            return Reading("pre-commit", Phase.PARSE, (what,), span), True
    return None
