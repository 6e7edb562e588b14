"""Finds session logs and gives their lines: bounded, unpacked, each file once. Only reads."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from runner.frozen import frozen
from runner.measure.parse import LONGEST, TOO_LONG, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

_ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
_CLAUDE_KEYS = frozenset({"sessionId", "message", "leafUuid", "uuid"})
_BUFFER = 1 << 18


@frozen
class Log:
    """A file to read."""

    path: Path
    size: int

    @property
    def name(self) -> str:
        """Its name without endings."""
        return self.path.name.partition(".jsonl")[0]


@frozen
class Unread:
    """A file or directory that could not be read."""

    path: Path
    why: str


def default_places(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return where Claude Code and Codex keep their logs, as far as the places exist."""
    named = environ.get("CLAUDE_CONFIG_DIR", "").split(",")
    claude = [Path(one.strip()).expanduser() for one in named if one.strip()]
    codex = Path(environ.get("CODEX_HOME") or home / ".codex").expanduser()
    places = [
        *(base / "projects" for base in claude or (home / ".claude", home / ".config" / "claude")),
        codex / "sessions",
        codex / "archived_sessions",
    ]
    return tuple(place for place in places if place.is_dir())


def find(paths: Iterable[Path]) -> tuple[list[Log], list[Unread]]:
    """Return the logs at and below paths, in the order of their names, each once.

    A path to a file is taken whatever it is called. Links are followed; a directory that a link
    leads back to is not entered again.
    """
    search = _Search()
    for path in paths:
        search.enter(path, named=True)
    plain = {log.path for log in search.logs}
    # Beside its unpacked self a packed file is the same log twice.
    kept = [
        log
        for log in search.logs
        if log.path.suffix not in {".gz", ".zst"} or log.path.with_suffix("") not in plain
    ]
    return kept, search.unread


class _Search:
    def __init__(self) -> None:
        self.logs: list[Log] = []
        self.unread: list[Unread] = []
        self.seen: set[tuple[int, int]] = set()

    def enter(self, path: Path, *, named: bool) -> None:
        waiting = [path]
        while waiting:
            here = waiting.pop()
            try:
                found = here.stat()
                if not self._is_new(found) or not self._wanted(here, found, named=named):
                    continue
                if stat.S_ISDIR(found.st_mode):
                    names = sorted(os.listdir(here), reverse=True)  # noqa: PTH208  names are sorted
                    waiting += [here / name for name in names]
                    named = False
                else:
                    self.logs.append(Log(here, found.st_size))
            except OSError as error:
                self.unread.append(Unread(here, error.strerror or "cannot be read"))

    def _is_new(self, found: os.stat_result) -> bool:
        key = (found.st_dev, found.st_ino)
        if key in self.seen:
            return False
        self.seen.add(key)
        return True

    def _wanted(self, path: Path, found: os.stat_result, *, named: bool) -> bool:
        if stat.S_ISDIR(found.st_mode):
            return True
        # A pipe or device could be waited for without end.
        return stat.S_ISREG(found.st_mode) and (named or path.name.endswith(_ENDINGS))


@contextmanager
def opened(log: Log) -> Generator[IO[bytes]]:
    """Open a log, unpacked.

    Raises:
        OSError: It cannot be read or unpacked.
    """
    with log.path.open("rb", buffering=_BUFFER) as file:
        match log.path.suffix:
            case ".gz":
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield cast("IO[bytes]", unpacked)
            case ".zst":
                with _zstd(file) as unpacked:
                    yield unpacked
            case _:
                yield file


@contextmanager
def _zstd(file: IO[bytes]) -> Generator[IO[bytes]]:
    """Unpack by the user's own `zstd`: Python has none before 3.14."""
    program = shutil.which("zstd")
    if program is None:
        raise OSError(0, "packed by zstd, which is not installed")
    process = subprocess.Popen(
        [program, "-dcq"], stdin=file, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        yield process.stdout
        if process.wait() != 0:
            raise OSError(0, "cannot be unpacked whole")
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def lines(file: IO[bytes], heard: Callable[[int], object]) -> Iterator[bytes]:
    """Return a file's lines, `TOO_LONG` for each that is longer than `LONGEST` bytes.

    Args:
        file: What is read.
        heard: Told how many bytes were read, line by line.
    """
    while line := file.readline(LONGEST):
        heard(len(line))
        if len(line) < LONGEST or line.endswith(b"\n"):
            yield line
            continue
        while rest := file.readline(LONGEST):
            heard(len(rest))
            if rest.endswith(b"\n"):
                break
        yield TOO_LONG


def is_codex(log: Log, head: Iterable[bytes]) -> bool:
    """Tell by a log's first lines, else by its name, whether Codex wrote it."""
    for line in head:
        record = parsed(line) or {}
        if "payload" in record:
            return True
        if not _CLAUDE_KEYS.isdisjoint(record):
            return False
    return log.path.name.startswith("rollout-")
