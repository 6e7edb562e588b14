"""A sink that writes the trace beside the journal, as spans end; it never fails a run.

The file is a convenience: the journal holds all of it, and `runner trace RUN -o FILE` writes it
anew. Nothing is imported or written before the first step has ended.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from runner.events import (
    CommandOutput,
    ModelResponded,
    RunFinished,
    RunStarted,
    StepFinished,
    TimedSink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from runner.events import Event
    from runner.telemetry.nouns import Span, Value
    from runner.telemetry.spans import Spans

NAME = "trace.otlp.jsonl"
"""In the directory of a run."""


class TraceFile(TimedSink):
    """Writes one run's trace; call it with each event, and close it in the end."""

    def __init__(
        self,
        path: Path,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        *,
        content: bool = False,
    ) -> None:
        """*say* is told once when the file cannot be written."""
        self._path, self._environ, self._say = path, environ, say
        self._content = content
        self._waiting: list[tuple[Event, float]] = []
        self._spans: Spans | None = None
        self._resource: dict[str, Value] = {}
        self._file = -1
        self._size = 0
        self._failed = False

    def hear(self, event: Event, at: float) -> None:
        """Take one event; what is over with a step is on the disk when this returns."""
        if self._failed or isinstance(event, CommandOutput):
            return
        self._waiting.append((event, at))
        # Messages are long: none is kept longer than it takes to look at it.
        if isinstance(event, StepFinished | RunFinished | ModelResponded):
            self._write(self._fold(), final=isinstance(event, RunFinished))

    def continued(self, past: Iterable[tuple[Event, float]]) -> None:
        """Take what earlier processes did: the file is written anew, with what they left open."""
        with suppress(OSError):  # what cannot be removed cannot be written, which is told then
            self._path.unlink(missing_ok=True)
        self._waiting.extend(past)

    def close(self) -> None:
        """End what is open, for nobody will tell of it any more."""
        spans = self._fold()
        if self._spans is not None:
            spans += self._spans.close(time.time())
        self._write(spans, final=True)
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _fold(self) -> list[Span]:
        """Turn what came into spans; return those that are over."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return []
        # A tenth of what a run of one short command may cost; most of it is over while that runs.
        from runner.telemetry.resource import resource_attributes  # noqa: PLC0415
        from runner.telemetry.spans import Spans  # noqa: PLC0415

        self._spans = self._spans or Spans(content=self._content)
        ended: list[Span] = []
        for event, at in waiting:
            if isinstance(event, RunStarted):
                self._resource = resource_attributes(event, self._environ)
            ended += self._spans.add(event, at)
        return ended

    def _write(self, spans: list[Span], *, final: bool) -> None:
        if not spans or self._failed:
            return
        from runner.telemetry.otlp import line  # noqa: PLC0415  as in `_fold`

        try:
            self._append(line(spans, self._resource))
        except (OSError, ValueError) as error:
            self._failed = True
            self._waiting.clear()
            if not final:
                # After the last event nothing more is journaled.
                why = error.strerror if isinstance(error, OSError) else type(error).__name__
                self._say(f"the trace is not written: {self._path}: {why}")

    def _append(self, data: bytes) -> None:
        """Add to the file, all or nothing: half a line would spoil what follows.

        Raises:
            OSError: It could not be written.
        """
        if self._file < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(self._path, flags, 0o600)
            self._size = os.fstat(self._file).st_size
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._file, self._size)
            raise
        self._size += len(data)
