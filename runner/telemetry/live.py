"""A sink that exports a run while it goes on, where the standard `OTEL_*` variables ask for it.

Everything happens in a thread of its own, which also imports OpenTelemetry's packages: commands do
not wait for it, and at the run's end it has two seconds. It never fails a run.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING

from anyio import CancelScope, to_thread
from typing_extensions import override

from runner.errors import RunnerError
from runner.events import CommandOutput, TimedSink
from runner.telemetry.quiet import Quiet
from runner.telemetry.settings import sending

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping

    from runner.events import Event
    from runner.telemetry.export import Export
    from runner.telemetry.settings import Sending

END_SECONDS = 1.9
"""What the end of a run may cost at most, be the server slow or dead."""


@contextmanager
def exporting(
    tell: Callable[[str], None],
    otlp: str | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    content: bool = False,
) -> Generator[tuple[Live, ...]]:
    """Export the run that the block is about; gives its sink, or none where nobody asked for it.

    Args:
        tell: Told one line when the block is left and something did not arrive.
        otlp: Address of a server; it comes before what the environment says.
        environ: The process's environment.
        content: Whether spans hold prompts, tool arguments and answers.

    Raises:
        UsageError: *otlp* is no address.
    """
    live = Live(sending(environ, otlp), environ, content=content)
    try:
        yield (live,) if live.sending else ()
    finally:
        trouble = live.close()
        if trouble:
            tell(f"runner: {trouble}")


@asynccontextmanager
async def exporting_beside(
    environ: Mapping[str, str] = os.environ,
    *,
    content: bool = False,
) -> AsyncGenerator[tuple[Live, ...]]:
    """Do the same for a run in a program that does other things meanwhile; tells the log."""
    live = Live(sending(environ), environ, content=content)
    try:
        yield (live,) if live.sending else ()
    finally:
        with CancelScope(shield=True):
            trouble = await to_thread.run_sync(live.close)
            if trouble:
                logging.getLogger("runner").warning(trouble)


class Live(TimedSink):
    """The sink. The thread begins with the first event and ends with `close`."""

    def __init__(
        self, sending: Sending, environ: Mapping[str, str], *, content: bool = False
    ) -> None:
        self.sending, self._environ, self._content = sending, environ, content
        self._events: SimpleQueue[tuple[Event, float, bool] | None] = SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="runner-export", daemon=True)
        self._export: Export | None = None
        self._trouble = ""
        self._until = 0.0
        self._over = threading.Event()

    @override
    def hear(self, event: Event, at: float) -> None:
        if not isinstance(event, CommandOutput):
            self._put(event, at, past=False)

    @override
    def continued(self, past: Iterable[tuple[Event, float]]) -> None:
        """Send the spans of earlier lives again: what a killed process had not sent is lost.

        Their ids stay the same; what they measured is not counted twice.
        """
        for event, at in past:
            self._put(event, at, past=True)

    def close(self) -> str:
        """Send what is left and say in one line what did not arrive; empty when all did.

        Takes `END_SECONDS` at most, less when it is interrupted: the run is over, and its result
        stands. What hangs then is left alone: it ends with the process.
        """
        if self._worker.ident is not None:
            self._until = time.monotonic() + END_SECONDS
            self._events.put(None)
            with suppress(KeyboardInterrupt):
                # Not `join`: interrupted, it may take the thread for one that has ended.
                self._over.wait(END_SECONDS)
        return "; ".join(filter(None, (self._missing(), *self.sending.remarks)))

    def _put(self, event: Event, at: float, *, past: bool) -> None:
        if self._worker.ident is None:
            self._worker.start()
        self._events.put((event, at, past))

    def _work(self) -> None:
        with Quiet() as quiet:
            quiet.adopt()
            try:
                # Here, for it takes a fifth of a second: the run is on its way meanwhile.
                from runner.telemetry.export import Export  # noqa: PLC0415
                from runner.telemetry.spans import Spans  # noqa: PLC0415

                self._export = Export(
                    self.sending, quiet, self._environ, Spans(content=self._content)
                )
                while (item := self._events.get()) is not None:
                    self._export.add(*item)
                self._export.close(self._until)
            except RunnerError as error:
                self._trouble = f"{error.args[0]}. {error.hint}" if error.hint else str(error)
            except Exception as error:  # noqa: BLE001  never fails a run, whatever a variable says
                self._trouble = f"{type(error).__name__}: {error}"
            finally:
                self._over.set()

    def _missing(self) -> str:
        if self._trouble:
            return f"the run is not exported: {self._trouble}"
        if self._worker.ident is None:
            return ""
        in_time = self._over.is_set()
        if self._export is None:
            return "" if in_time else "the run is not exported: there was no time for it"
        return self._export.missing(in_time=in_time)
