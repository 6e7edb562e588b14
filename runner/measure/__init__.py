"""Measures the user's own session logs: mechanical turns, lost caches, what other ways would save.

Reads files of Claude Code and Codex and nothing else, and writes nothing. Only numbers, models'
names and the families of commands leave the readers.
"""

from __future__ import annotations

import zlib
from itertools import chain, islice
from typing import TYPE_CHECKING

from runner.measure import claude, codex
from runner.measure.figures import Figures, Looked, figures
from runner.measure.files import Log, Unread, is_codex, lines, opened
from runner.measure.tally import Tally
from runner.price import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runner.measure.rates import Rates
    from runner.measure.records import Record
    from runner.measure.tally import Asked

__all__ = ["Figures", "measure"]

_HEAD = 5
"""Lines by which a log's format is told."""


def measure(
    logs: Sequence[Log],
    unread: Sequence[Unread],
    asked: Asked,
    rates: Rates,
    *,
    heard: Callable[[int, int], object],
) -> Figures:
    """Read all logs, one line at a time, and return the figures.

    Args:
        logs: What to read, in this order: a request that stands in two is counted in the first.
        unread: What was not found readable before.
        asked: Prices and assumptions.
        rates: Prices of models.
        heard: Told after each line how many files are done, and how many bytes were read more.
    """
    tally = Tally(asked, rates)
    failed = list(unread)
    for done, log in enumerate(logs):
        try:
            tally.file(_records(log, lambda size, done=done: heard(done, size)))
        except (OSError, EOFError, zlib.error) as error:
            why = error.strerror if isinstance(error, OSError) else None
            failed.append(Unread(log.path, why or "cannot be read to its end"))
    size = sum(log.size for log in logs)
    looked = Looked(len(logs), size, tuple(failed), source() if tally.models else None)
    return figures(tally, looked)


def _records(log: Log, heard: Callable[[int], object]) -> Iterator[Record]:
    with opened(log) as file:
        rest = lines(file, heard)
        head = list(islice(rest, _HEAD))
        reader = codex if is_codex(log, head) else claude
        yield from reader.read(chain(head, rest), log.name)
