"""What the journal's file is: its tables, its formats, and how its errors are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner import sqlitefile
from runner.sqlitefile import DAMAGED, Layout, transaction

if TYPE_CHECKING:
    import sqlite3
    from contextlib import AbstractContextManager
    from pathlib import Path

__all__ = ["DAMAGED", "FILE", "connect", "explained", "transaction"]

FILE = "journal.sqlite3"

_MIGRATIONS: tuple[tuple[str, ...], ...] = (
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

_LAYOUT = Layout(
    noun="journal",
    application=0x52554E52,  # "RUNR"
    migrations=_MIGRATIONS,
    wait=30.0,
    second="Two processes must not write one run; end one of them",
)


def connect(path: Path) -> sqlite3.Connection:
    """Open the journal's file, making it and its directory when they are missing.

    Raises:
        JournalError: It is of a newer format, or not a journal.
        sqlite3.Error: As SQLite says; `explained` makes a JournalError of it.
    """
    return sqlitefile.connect(path, _LAYOUT)


def explained(path: Path) -> AbstractContextManager[None]:
    """Turn what SQLite and the system say into a JournalError that a person can act on."""
    return sqlitefile.explained(path, _LAYOUT)
