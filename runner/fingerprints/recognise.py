"""Finds out which tools speak in a command's output, and puts together what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.fingerprints import PARTIAL
from runner.fingerprints.cargo import read_cargo_test, read_rustc, read_rustfmt
from runner.fingerprints.general import digest
from runner.fingerprints.go import read_go
from runner.fingerprints.javascript_checks import read_biome, read_eslint, read_tsc
from runner.fingerprints.javascript_tests import read_jest, read_vitest
from runner.fingerprints.output import Output, prepare
from runner.fingerprints.places import places_in
from runner.fingerprints.precommit import read_pre_commit
from runner.fingerprints.python_checks import read_mypy, read_pyright, read_ruff, read_ruff_format
from runner.fingerprints.python_tests import read_pytest, read_unittest
from runner.fingerprints.reading import CUT, Reading, numbered
from runner.outcome import Failure, Fingerprint, Phase
from runner.text import head_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.outcome import CommandResult

TAIL_BYTES = 6000
"""Upper bound of `Failure.tail`."""

_SESSIONS = (read_pytest, read_unittest, read_jest, read_vitest, read_go, read_cargo_test)
"""Runners of tests: what their tests print may look like any other tool, so they come first and
keep their part of the output to themselves."""

_CHECKS = (
    read_ruff,
    read_ruff_format,
    read_mypy,
    read_pyright,
    read_tsc,
    read_eslint,
    read_biome,
    read_rustc,
    read_rustfmt,
)

_MOST_SESSIONS = 50
_SIGNALLED = 128
"""Exit codes above it tell of a signal: what was printed until then is not all."""


def failure(
    command: str, result: CommandResult, known: Callable[[str], bool], directory: str
) -> Failure:
    """Say what failed; see `runner.fingerprints.read`."""
    output = prepare(result, known, directory)
    readings, complete = _readings(output, command)
    code = result.exit_code
    if result.timed_out or code is None or not readings or _doubtful(output, readings):
        fingerprint = _general(output, result)
    else:
        fingerprint = _combined(readings, complete=complete and code <= _SIGNALLED)
    return Failure(
        fingerprint=fingerprint,
        exit_code=result.exit_code,
        timed_out=result.timed_out,
        tail=_useful(output, readings),
        files=output.files,
        places=places_in(output.lines, readings, known, directory),
    )


def _readings(output: Output, command: str) -> tuple[list[Reading], bool]:
    """Return what every tool says that can be recognised, and whether nothing is missing."""
    complete = True
    found = read_pre_commit(output.lines, command, _read_all)
    if found is None:
        readings = _read_all(output.lines, command)
    else:
        hooks, complete = found
        readings = _read_all(output.lines[: hooks.lines.start], command)
    complete = complete and all(one.complete(truncated=output.truncated) for one in readings)
    readings += [found[0]] if found else []
    if output.truncated:
        # Between two tools' parts the whole output of a third may be missing.
        cut = output.lines.index(CUT)
        complete = complete and any(cut in one.lines for one in readings)
    return readings, complete


def _read_all(lines: Sequence[str], command: str) -> list[Reading]:
    """Return what every tool but pre-commit says."""
    rest = list(lines)
    readings: list[Reading] = []
    for reader in _SESSIONS:
        for _ in range(_MOST_SESSIONS):
            reading = reader(rest, command)
            if reading is None:
                break
            readings.append(reading)
            rest[reading.lines.start : reading.lines.stop] = [""] * len(reading.lines)
    readings += [one for reader in _CHECKS if (one := reader(rest, command)) is not None]
    return readings


def _doubtful(output: Output, readings: Sequence[Reading]) -> bool:
    """Return whether a tool counted more failures than were understood with nothing cut out."""
    return not output.truncated and any(
        reading.whole is None and not reading.complete(truncated=False) for reading in readings
    )


def _combined(readings: Sequence[Reading], *, complete: bool) -> Fingerprint:
    """Put together what one or more tools say."""
    tools = sorted({reading.tool for reading in readings})
    many = len(tools) > 1
    ids = numbered(
        f"{reading.tool}: {one}" if many else one for reading in readings for one in reading.ids
    )
    failures = set(ids)
    if not complete:
        counted = [count for reading in readings if (count := reading.count()) is not None]
        all_counted = len(counted) == len(readings)
        failures.add(f"{PARTIAL}: {sum(counted)} in all)" if all_counted else f"{PARTIAL})")
    phase = min(reading.phase for reading in readings)
    return Fingerprint("+".join(tools), phase, frozenset(failures))


def _general(output: Output, result: CommandResult) -> Fingerprint:
    """Describe a failure that nobody recognises."""
    said = f"exit {result.exit_code}: {digest(output.lines)}"
    said = "timed out" if result.timed_out else said
    return Fingerprint("general", Phase.RUN, frozenset({said}))


def _useful(output: Output, readings: Sequence[Reading]) -> str:
    """Return the part of the output that tells what failed, cut to `TAIL_BYTES`."""
    lines: Sequence[str] = output.lines
    share = 0.25
    if len(readings) == 1:
        lines = lines[readings[0].lines.start :]
        share = readings[0].head_share
    shown = ["[... output left out ...]" if line == CUT else line.rstrip() for line in lines]
    return head_tail("\n".join(shown).strip("\n"), TAIL_BYTES, share)
