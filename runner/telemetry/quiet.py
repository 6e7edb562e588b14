"""Keeps what OpenTelemetry's SDK logs in our threads off the terminal, and remembers it.

The SDK tells of a server that does not answer through `logging`, again and again, in the middle of
a live picture. A run says one line at its end instead. Records of other threads, where a program
that we are a part of exports its own traces, go where they went before.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_LOGGER = "opentelemetry"
_KEPT = 20
_lock = threading.Lock()
_open: list[Quiet] = []
_before = True
"""Whether the logger's records went on to its parents before anybody was quiet."""


class Quiet:
    """A block within which the SDK is quiet in the threads that belong to it."""

    def __init__(self) -> None:
        self.said: deque[str] = deque(maxlen=_KEPT)
        """The last things that the SDK said, oldest first."""
        self._threads: set[int] = set()

    def adopt(self) -> None:
        """Make the calling thread one of ours."""
        self._threads.add(threading.get_ident())

    def owns(self, thread: int | None) -> bool:
        """Tell whether a thread is one of ours."""
        return thread in self._threads

    def __enter__(self) -> Self:
        global _before  # loggers are the process's, and so is this
        with _lock:
            logger = logging.getLogger(_LOGGER)
            if not _open:
                _before = logger.propagate
                logger.addHandler(_handler)
            # Each time: a program that sets up its logging may have put it back meanwhile.
            logger.propagate = False
            _open.append(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _lock:
            _open.remove(self)
            if not _open:
                logger = logging.getLogger(_LOGGER)
                logger.removeHandler(_handler)
                logger.propagate = _before


class _Handler(logging.Handler):
    """Gives a record to whoever owns its thread, else to those who would have had it."""

    def emit(self, record: logging.LogRecord) -> None:
        for quiet in tuple(_open):
            if quiet.owns(record.thread):
                quiet.said.append(record.getMessage())
                return
        if _before:
            logging.getLogger().callHandlers(record)


_handler = _Handler()
