"""Opens a SQLite file of ours: checks that it is ours, migrates it, and explains its errors.

Nothing is written to a file that is damaged, newer or somebody else's.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from runner.errors import JournalError
from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


@frozen(kw_only=True)
class Layout:
    """What one kind of file holds, and how its errors are told."""

    noun: str
    """What people call it: `journal`."""
    application: int
    """SQLite's `application_id`: tells these files from any other's."""
    migrations: tuple[tuple[str, ...], ...]
    """Each entry raises the format by one, and stays for ever: released formats must migrate."""
    wait: float
    """Seconds that a writer waits for another one; each write takes well under a millisecond."""
    second: str = ""
    """What to do where two processes wrote what only one may write."""
    error: type[JournalError] = JournalError

    @property
    def format(self) -> int:
        """Version of the file's format, kept in SQLite's `user_version`."""
        return len(self.migrations)


def connect(path: Path, layout: Layout) -> sqlite3.Connection:
    """Open the file, making it and its directory when they are missing, readable by its owner only.

    Raises:
        JournalError: It is of a newer format, or not such a file; of the layout's own class.
        sqlite3.Error: As SQLite says; `explained` makes a JournalError of it.
    """
    _make_private(path)
    database = sqlite3.connect(path, timeout=layout.wait, isolation_level=None)
    try:
        _prepare_patiently(database, path, layout)
    except BaseException:
        database.close()
        raise
    return database


def _prepare_patiently(database: sqlite3.Connection, path: Path, layout: Layout) -> None:
    """Prepare the file; wait where SQLite does not: while others make it, and the mode changes."""
    until = time.monotonic() + layout.wait
    while True:
        try:
            return _prepare(database, path, layout)
        except sqlite3.OperationalError as error:
            if _code(error) != "SQLITE_BUSY" or time.monotonic() > until:
                raise
        time.sleep(0.01)


@contextmanager
def transaction(database: sqlite3.Connection) -> Generator[None]:
    """Write all of what is done inside, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        # After a full disk SQLite may have rolled back by itself.
        with suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _make_private(path: Path) -> None:
    """Make a missing file with mode 0600, which SQLite gives its helper files too.

    An existing one is left alone: closing any descriptor of it would drop the locks that another
    connection of this process holds on it (POSIX).
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _prepare(database: sqlite3.Connection, path: Path, layout: Layout) -> None:
    """Check that the file is ours before anything is written; then bring it up to its format."""
    # In this order: whoever makes the file writes to it before the helper file is there.
    helped = path.with_name(f"{path.name}-wal").exists()
    if helped and path.stat().st_size == 0:
        # SQLite would take it for a new file and throw away what the helper file still holds.
        raise layout.error(f"the {layout.noun} {path} has been emptied", hint=DAMAGED)
    if _format_of(database, path, layout) == 0:
        # Only possible before the first table is made.
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    if _format_of(database, path, layout) < layout.format:
        _migrate(database, path, layout)


def _format_of(database: sqlite3.Connection, path: Path, layout: Layout) -> int:
    # In this order: another process may write all three at once in between, and one that finds
    # tables must find whose they are.
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    version = cast("int", database.execute("PRAGMA user_version").fetchone()[0])
    application = database.execute("PRAGMA application_id").fetchone()[0]
    if application != layout.application and (application or version or tables):
        raise layout.error(f"{path} is not a {layout.noun} of runner", hint=_ELSEWHERE)
    if version > layout.format:
        raise layout.error(
            f"{path} has format {version}; this release knows formats up to {layout.format}",
            hint="Use the newer release of runner that wrote it, or choose another --state-dir",
        )
    return version


def _migrate(database: sqlite3.Connection, path: Path, layout: Layout) -> None:
    """Bring the file up to its format; all or nothing, once only when several processes try."""
    with transaction(database):
        for version in range(_format_of(database, path, layout), layout.format):
            for statement in layout.migrations[version]:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {layout.application}")
        database.execute(f"PRAGMA user_version = {layout.format}")


_ELSEWHERE = "Choose another --state-dir, or move that file away"
DAMAGED = (
    "Nothing was changed in it. Keep a copy, then move it and its -wal file away to start a new one"
)

_HINTS = {
    "SQLITE_FULL": "The disk is full: make room, then go on",
    "SQLITE_BUSY": "Another process has been writing to it for long; try again",
    "SQLITE_READONLY": "It cannot be written: check its permissions, or choose another --state-dir",
    "SQLITE_CANTOPEN": "Check the directory's permissions, or choose another --state-dir",
    "SQLITE_IOERR": "The disk reported an error; nothing more was written",
    "SQLITE_CORRUPT": DAMAGED,
    "SQLITE_NOTADB": DAMAGED,
}


def _code(error: sqlite3.Error) -> str:
    """Return SQLite's code; extended ones are longer: SQLITE_IOERR_WRITE, SQLITE_BUSY_SNAPSHOT."""
    return "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])


@contextmanager
def explained(path: Path, layout: Layout) -> Generator[None]:
    """Turn what SQLite and the system say into what a person can act on."""
    try:
        yield
    except sqlite3.Error as error:
        code = _code(error)
        hint = layout.second if code == "SQLITE_CONSTRAINT" else _HINTS.get(code, "")
        raise layout.error(f"the {layout.noun} {path}: {error}", hint=hint) from error
    except OSError as error:
        raise layout.error(
            f"the {layout.noun} {path}: {error.strerror or error}",
            hint="Check the directory, or choose another --state-dir",
        ) from error
