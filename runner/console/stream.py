"""A text stream that never raises: what cannot be written any more is dropped."""

from __future__ import annotations

import os
from typing import TextIO


class Quietly:
    """Wraps a stream. Once it is broken (closed, a reader gone, a full disk) it stays silent."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._broken = False

    @property
    def encoding(self) -> str:
        """The encoding of what is written."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write what can be written; a character that the encoding has not becomes `?`."""
        if not self._broken:
            try:
                self._stream.write(text.encode(self.encoding, "replace").decode(self.encoding))
            except (OSError, ValueError):
                self._broken = True
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered."""
        if not self._broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._broken = True

    def isatty(self) -> bool:
        """Whether a terminal reads it."""
        try:
            return self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        """The descriptor below. Raises OSError where there is none, as streams do."""
        return self._stream.fileno()

    def width(self, default: int = 100) -> int:
        """Columns of the terminal; `default` where there is none."""
        try:
            columns = os.get_terminal_size(self.fileno()).columns
        except (OSError, ValueError, AttributeError):
            return default
        return columns or 80
