"""Keeps the first and last bytes of a stream of any length, and all of it on disk up to a cap."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from runner.workspace.masking import MaskedStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.workspace.masking import Mask

KEEP = 64 * 1024
"""Bytes kept of the start, and as many of the end."""
CHUNK = 256 * 1024
_BURST = 16
"""Reads before other tasks get their turn."""
_LINE_EVERY = 0.1
_LINE_LIMIT = 500
_RECENT = 4096


class Capture:
    """What one command wrote, however much that was.

    Attributes:
        total: Bytes read so far.
        closed: Whether the stream has ended.
        log: Where all of it is, up to the cap; `None` while nothing was written.
    """

    def __init__(
        self,
        fd: int,
        *,
        log: Path | None = None,
        log_cap: int = 0,
        on_line: Callable[[str], None] | None = None,
        mask: Mask | None = None,
    ) -> None:
        self.total = 0
        self.closed = False
        self.log: Path | None = None
        self._fd = fd
        self._head = b""
        self._tail = b""
        self._log = _Log(log, log_cap) if log is not None else None
        self._last_line = _LastLine(on_line) if on_line is not None else None
        self._masked = MaskedStream(mask) if mask else None

    async def pump(self) -> None:
        """Read until the stream ends; may be cancelled and called again."""
        burst = 0
        while not self.closed:
            if not self._read():
                burst = 0
                await anyio.wait_readable(self._fd)
            elif (burst := burst + 1) >= _BURST:
                burst = 0
                await anyio.lowlevel.checkpoint()

    async def drain(self, seconds: float) -> None:
        """Read what is left, for at most `seconds`: somebody may hold the stream open for ever."""
        while self._read():
            if self.total % (_BURST * CHUNK) < CHUNK:
                break
        if not self.closed:
            with anyio.move_on_after(seconds):
                await self.pump()

    def finish(self) -> tuple[str, str]:
        """Close the log and return head and tail as text; the tail is empty if the head is all."""
        if self._masked is not None:
            self._take(self._masked.rest())
        if self._log is not None:
            self._log.close()
            self.log = self._log.written_to
        if self._last_line is not None:
            self._last_line.flush()
        return _as_text(self._head, self._tail, dropped=self.total > len(self._head + self._tail))

    def _read(self) -> bool:
        """Take one chunk; false when there is none now or ever."""
        try:
            chunk = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return False
        if not chunk:
            self.closed = True
            return False
        self._take(chunk if self._masked is None else self._masked.feed(chunk))
        return True

    def _take(self, chunk: bytes) -> None:
        if not chunk:
            return
        self.total += len(chunk)
        if self._log is not None:
            self._log.write(chunk)
        if self._last_line is not None:
            self._last_line.feed(chunk)
        room = KEEP - len(self._head)
        if room:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if len(chunk) >= KEEP:
            self._tail = chunk[-KEEP:]
        elif chunk:
            self._tail = (self._tail + chunk)[-KEEP:]


class _Log:
    """The stream on disk. A full or failing disk ends the log, never the command."""

    def __init__(self, path: Path, cap: int) -> None:
        self._path = path
        self._left = cap
        self._fd: int | None = None
        self._ended = False
        self.written_to: Path | None = None

    def write(self, chunk: bytes) -> None:
        if self._ended:
            return
        try:
            fd = self._open()
            _write_all(fd, chunk[: self._left])
            self._left -= len(chunk)
            if self._left < 0:
                self._ended = True
                _write_all(fd, b"\n[... log capped here ...]\n")
        except OSError:
            self._ended = True

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            self._fd = os.open(self._path, flags, 0o600)
            self.written_to = self._path
        return self._fd


class _LastLine:
    """Tells a listener the last whole line, at most ten times a second."""

    def __init__(self, listener: Callable[[str], None]) -> None:
        self._listener = listener
        self._told = 0.0
        self._pending = b""
        self._rest = b""

    def feed(self, chunk: bytes) -> None:
        # A progress bar ends its lines by carriage returns only.
        rest = self._rest if len(chunk) <= _RECENT else b""
        recent = (rest + chunk[-_RECENT:]).replace(b"\r", b"\n")
        end = recent.rfind(b"\n")
        self._rest = recent[end + 1 :][:_LINE_LIMIT]
        if end < 0:
            return
        line = recent[:end].rstrip(b"\n").rpartition(b"\n")[2]
        self._pending = line[:_LINE_LIMIT] or self._pending
        if time.monotonic() - self._told >= _LINE_EVERY:
            self._tell()

    def flush(self) -> None:
        if self._rest.strip():
            self._pending = self._rest
        self._tell()

    def _tell(self) -> None:
        line = self._pending.decode("utf-8", "replace").rstrip()
        self._pending = b""
        if line:
            self._told = time.monotonic()
            self._listener(line)


def recall(log: Path, total: int) -> tuple[str, str]:
    """Return the head and tail of a command's output from its log, as `Capture.finish` did.

    Args:
        log: Where the output is, up to the log's cap.
        total: Bytes of it that there were.

    Raises:
        OSError: The log cannot be read.
    """
    with log.open("rb") as file:
        head = file.read(KEEP)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(len(head), size - KEEP))
        tail = file.read(KEEP)
    return _as_text(head, tail, dropped=total > len(head + tail))


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _as_text(head: bytes, tail: bytes, *, dropped: bool) -> tuple[str, str]:
    """Decode without cutting a character in two: a half one moves over, or goes with the gap."""
    cut = _whole_characters(head)
    if tail:
        head, half = head[:cut], head[cut:]
        tail = _without_half_start(tail) if dropped else half + tail
    return head.decode("utf-8", "replace"), tail.decode("utf-8", "replace")


def _whole_characters(data: bytes) -> int:
    """Length of `data` without an unfinished UTF-8 character at its end."""
    for back in range(1, min(4, len(data) + 1)):
        byte = data[-back]
        if byte >= 0xC0:
            width = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) - back if back < width else len(data)
        if byte < 0x80:
            break
    return len(data)


def _without_half_start(data: bytes) -> bytes:
    start = 0
    while start < min(3, len(data)) and 0x80 <= data[start] < 0xC0:
        start += 1
    return data[start:]
