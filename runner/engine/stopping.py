"""Ends a run in good order when it is told to or its time is up, and at once when told twice."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import anyio

from runner.workspace.processes import end_strays

if TYPE_CHECKING:
    from runner.engine.state import Run


async def watch_signals(run: Run, work: anyio.CancelScope) -> None:
    """Cancel the work on the first signal; on the second end the program, whatever goes on."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as `nohup` leaves it
        numbers.append(signal.SIGHUP)
    with anyio.open_signal_receiver(*numbers) as signals:
        async for number in signals:
            if run.signal is not None:
                end_strays()
                os._exit(128 + number)
            run.signal = int(number)
            run.close("interrupted", 128 + number)
            work.cancel()


async def watch_time(run: Run, work: anyio.CancelScope, left: float, seconds: float) -> None:
    """Cancel the work when what is left of the run's time budget is used up."""
    await anyio.sleep(max(left, 0.0))
    run.close(f"the run's time budget of {seconds:.0f} s is used up", 3)
    work.cancel()
