"""Records what a run's models answered, and runs the workflow again from that, without network.

A cassette is a directory of plain files. What is recorded, and at which seam:

- Model requests, on the wire: between the retry layer and the network, so that the vendors' own
  clients work in a replay as they did while recording. Each try is kept, 429s too; never a header
  that authenticates, never a host. A scripted model has no wire and plays its own file again.
- Commands and decisions, from the run's events: a recorder is one more sink, the loop knows nothing
  of it. In a replay commands run for real, for they are what is tested; their exit codes, the
  decisions, statuses, rungs, tokens and costs are compared with the record when the run has ended.
- What decides which requests are made (models, budget, policy, own prices, the day of the price
  table) is recorded and stands in where the caller says nothing. Grants never are.

Compared is each request, in order within its conversation: method, path and body, byte for byte but
for the spelling of JSON. Normalised are only names of this run and machine (run id, root, state
directory, the root's hash in cache keys, ids that a client makes up), and within the fences around
what programs print also times, dates, addresses, commit ids and temporary names (`places`).
Random or clocked choices are switched off in both: no history, no keep-alives, no push in a replay.
A difference ends the run with exit code 1 and a diff (`differ`). Nothing reaches the network: in a
replay there is no socket to fall back to. Secrets are masked before anything is compared or kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.cassette.tape import Tape
from runner.errors import UsageError

if TYPE_CHECKING:
    from runner.plan import Options

__all__ = ["Tape", "open_tape"]


def open_tape(options: Options) -> Tape | None:
    """Return what records or replays a run; `None` where neither is asked for.

    Raises:
        UsageError: Both are, the directory to record into is not empty, or the cassette cannot be
            read.
    """
    if options.record is not None and options.replay is not None:
        raise UsageError("a run is either recorded or replayed", hint="Leave one of them out.")
    if options.record is not None:
        from runner.cassette.recorder import Recorder  # noqa: PLC0415  only what is asked for

        return Recorder(options.record)
    if options.replay is not None:
        from runner.cassette.player import Player  # noqa: PLC0415  only what is asked for

        return Player(options.replay)
    return None
