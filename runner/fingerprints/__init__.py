"""Says what failed, apart from line numbers and times, and whether a later failure is a lesser one.

    read(command, result, known)   output -> Failure
    progress(before, after)        two fingerprints -> progress, same, worse or changed

Soundness before cleverness: what is not recognised for sure is one opaque failure (`general`), and
a list that may have lost entries where the output was cut is marked, so that it never looks like a
smaller one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.outcome import CommandResult, Failure, Fingerprint

Progress = Literal["progress", "same", "worse", "changed"]

PARTIAL = "(incomplete list"
"""Begins the entry that marks a list of failures as not complete."""

_PARTIAL_OF = re.compile(r"\(incomplete list: (?P<count>\d+) in all\)$")


def read(
    command: str, result: CommandResult, known: Callable[[str], bool], directory: str = "."
) -> Failure:
    """Say what failed.

    Args:
        command: As the workflow writes it; only a hint, for it is often `make test`.
        result: A command that did not exit with 0.
        known: Whether a path relative to the root is a file of the tree.
        directory: Where the command ran, relative to the root: paths may be relative to it.
    """
    # A run whose commands all pass needs none of the readers.
    from runner.fingerprints import recognise  # noqa: PLC0415  only a failure needs it

    return recognise.failure(command, result, known, directory)


def progress(before: Fingerprint, after: Fingerprint) -> Progress:
    """Compare two failures of the same command, the later one second.

    A later phase, or within a phase a strict subset, is progress; the reverse is worse. A list that
    is not complete is never progress, for what is missing may be all of it.
    """
    if before.tool != after.tool:
        return "changed"
    if before.phase != after.phase:
        return "progress" if after.phase > before.phase else "worse"
    was, now = _listed(before), _listed(after)
    if was.partial or now.partial:
        return _of_partial(was, now)
    if was.ids == now.ids:
        return "same"
    return "progress" if now.ids < was.ids else "worse" if now.ids > was.ids else "changed"


@frozen
class _List:
    """The failures of a fingerprint, without the mark of a list that is not complete."""

    ids: frozenset[str]
    partial: bool
    count: int | None
    """How many there are in all, where the list is partial and the tool counted them."""


def _listed(fingerprint: Fingerprint) -> _List:
    marks = [one for one in fingerprint.failures if one.startswith(PARTIAL)]
    match = _PARTIAL_OF.match(marks[0]) if marks else None
    count = int(match["count"]) if match else None
    return _List(fingerprint.failures.difference(marks), bool(marks), count)


def _of_partial(was: _List, now: _List) -> Progress:
    """Compare where at least one of two lists lost entries: only what is certain is said."""
    if was.partial and now.partial:
        alike = was.ids == now.ids and was.count is not None and was.count == now.count
        return "same" if alike else "changed"
    if now.partial:
        more = len(now.ids) > len(was.ids) or (now.count or 0) > len(was.ids)
        return "worse" if was.ids <= now.ids and more else "changed"
    fewer = len(now.ids) < len(was.ids) or len(now.ids) < (was.count or 0)
    return "progress" if now.ids <= was.ids and fewer else "changed"
