"""Opens the journal's file: checks that it is ours, migrates it, and explains its errors.

Nothing is written to a file that is damaged, newer or somebody else's.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from runner.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

FILE = "journal.sqlite3"
_APPLICATION = 0x52554E52
"""SQLite's `application_id`: tells this program's files from any other's ("RUNR")."""

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
    # Each entry raises the format by one, and stays for ever: released formats must migrate.
    (
        """
        CREATE TABLE run (
            id TEXT PRIMARY KEY,
            root TEXT NOT NULL,
            workflow TEXT NOT NULL DEFAULT '',
            started_at REAL NOT NULL,
            open INTEGER NOT NULL DEFAULT 1,    -- 0 once its holder gave the lease up
            status TEXT,                        -- NULL until the run's last event
            exit_code INTEGER,
            cost_usd TEXT DEFAULT '0',          -- decimal; NULL is unknown
            scripted INTEGER NOT NULL DEFAULT 0,
            host TEXT NOT NULL,                 -- who holds, or held, the lease
            boot TEXT NOT NULL,
            pid INTEGER NOT NULL,
            pid_started TEXT NOT NULL
        )
        """,
        """
        CREATE TABLE event (
            run TEXT NOT NULL REFERENCES run(id),
            seq INTEGER NOT NULL,
            at REAL NOT NULL,
            type TEXT NOT NULL,
            data TEXT NOT NULL,                 -- the event as JSON
            UNIQUE (run, seq)
        )
        """,
    ),
)
FORMAT = len(_MIGRATIONS)
"""Version of the file's format, kept in SQLite's `user_version`."""

_WAIT = 30.0
"""Seconds that a writer waits for another one; each write takes well under a millisecond."""


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, making it and its directory when they are missing, readable by its owner only.

    Raises:
        JournalError: It is of a newer format, or not a journal.
        sqlite3.Error: As SQLite says; `explained` makes a JournalError of it.
    """
    _make_private(path)
    database = sqlite3.connect(path, timeout=_WAIT, isolation_level=None)
    try:
        _prepare(database, path)
    except BaseException:
        database.close()
        raise
    return database


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


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Check that the file is ours before anything is written; then bring it up to `FORMAT`."""
    helper = path.with_name(f"{path.name}-wal")
    if path.stat().st_size == 0 and helper.exists():
        # SQLite would take it for a new file and throw away what the helper file still holds.
        raise JournalError(f"the journal {path} has been emptied", hint=DAMAGED)
    if _format_of(database, path) == 0:
        # Only possible before the first table is made.
        database.execute("PRAGMA auto_vacuum = INCREMENTAL")
    if database.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    if _format_of(database, path) < FORMAT:
        _migrate(database, path)


def _format_of(database: sqlite3.Connection, path: Path) -> int:
    application = database.execute("PRAGMA application_id").fetchone()[0]
    version = cast("int", database.execute("PRAGMA user_version").fetchone()[0])
    tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != _APPLICATION and (application or version or tables):
        raise JournalError(f"{path} is not a journal of runner", hint=_ELSEWHERE)
    if version > FORMAT:
        raise JournalError(
            f"{path} has format {version}; this release knows formats up to {FORMAT}",
            hint="Use the newer release of runner that wrote it, or choose another --state-dir",
        )
    return version


def _migrate(database: sqlite3.Connection, path: Path) -> None:
    """Bring the file up to `FORMAT`; all or nothing, and once only when several processes try."""
    with transaction(database):
        for version in range(_format_of(database, path), FORMAT):
            for statement in _MIGRATIONS[version]:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION}")
        database.execute(f"PRAGMA user_version = {FORMAT}")


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
    "SQLITE_CONSTRAINT": "Two processes must not write one run; end one of them",
}


@contextmanager
def explained(path: Path) -> Generator[None]:
    """Turn what SQLite and the system say into what a person can act on."""
    try:
        yield
    except sqlite3.Error as error:
        # Extended codes are longer: SQLITE_IOERR_WRITE, SQLITE_BUSY_SNAPSHOT.
        code = "_".join(getattr(error, "sqlite_errorname", "").split("_")[:2])
        raise JournalError(f"the journal {path}: {error}", hint=_HINTS.get(code, "")) from error
    except OSError as error:
        raise JournalError(
            f"the journal {path}: {error.strerror or error}",
            hint="Check the directory, or choose another --state-dir",
        ) from error
