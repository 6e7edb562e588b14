"""Keeps on disk what was tried in past runs: one SQLite file for the user, all repositories.

It is a convenience, never a condition: what cannot be read or written becomes a HistoryError, of
which a run makes one notice and goes on as if there were no history.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Self

from runner import sqlitefile
from runner.errors import HistoryError, JournalError
from runner.frozen import frozen
from runner.history import Tried, tried_of
from runner.outcome import Rung
from runner.sqlitefile import DAMAGED, Layout, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from runner.journal import Journal

FILE = "history.sqlite3"
KEEP = 5_000
"""Rows that are kept, the newest: years of one person's failures."""

_LAYOUT = Layout(
    noun="history",
    application=0x52554E48,  # "RUNH"
    migrations=(
        (
            """
            CREATE TABLE tried (
                repo TEXT NOT NULL,
                run TEXT NOT NULL,
                step TEXT NOT NULL,
                kind TEXT NOT NULL,
                model TEXT NOT NULL,
                rung TEXT NOT NULL,
                mended INTEGER NOT NULL,
                usd TEXT,                   -- decimal; NULL is unknown
                seconds REAL NOT NULL,
                at REAL NOT NULL,
                UNIQUE (run, step, kind, model, rung)
            )
            """,
            "CREATE INDEX tried_at ON tried (at)",
        ),
    ),
    wait=5.0,  # a run does not wait longer for what it can do without
    error=HistoryError,
)
_NEWEST = "ORDER BY at DESC, run DESC, step, rung, model, kind"
"""The same whoever added them in which order."""
_COLUMNS = "repo, run, step, kind, model, rung, mended, usd, seconds, at"


@frozen
class Imported:
    """What came of an import."""

    rows: int
    """In the file."""
    new: int
    """Were not known, and are kept."""
    moved: int
    """Were known as another repository's, and now count as the one that was named."""


class History:
    """What was tried, by all runs of a user. A context manager; one thread only."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self._path = path
        self._database = database

    @classmethod
    def open(cls, state_root: Path) -> Self:
        """Open the history in `state_root`, making it when it is missing.

        Raises:
            HistoryError: It is damaged, of a newer format, or not a history; it is left as it is.
        """
        path = state_root / FILE
        with sqlitefile.explained(path, _LAYOUT):
            database = sqlitefile.connect(path, _LAYOUT)
        return cls(path, database)

    def add(self, rows: Iterable[Tried]) -> int:
        """Add rows and forget all but the newest `KEEP`; what is known already stays as it is.

        Returns:
            How many were not known, and are kept.

        Raises:
            HistoryError: They could not be written; none of them was.
        """
        with self._explained(), transaction(self._database):
            return self._add(rows)

    def all(self, repo: str | None = None, limit: int = KEEP) -> tuple[Tried, ...]:
        """Read the newest `limit` rows of a repository, or of all; the newest come first.

        Args:
            repo: Name of the repository's state directory.
            limit: How many at most.

        Raises:
            HistoryError: What is on the disk cannot be read.
        """
        query = f"SELECT {_COLUMNS} FROM tried WHERE ? IN (repo, '') {_NEWEST}"  # noqa: S608  constants
        with self._explained():
            rows = self._database.execute(f"{query} LIMIT ?", (repo or "", limit)).fetchall()
        return tuple(self._tried(row) for row in rows)

    def import_(self, rows: Sequence[Tried], *, repo: str | None = None) -> Imported:
        """Merge what another machine exported (`historyjson.read`); all of it or nothing.

        Args:
            rows: What was read.
            repo: Repository whose own the rows shall be; each row's own by default.

        Raises:
            HistoryError: The rows could not be written.
        """
        with self._explained(), transaction(self._database):
            moved = sum(self._move(row, repo) for row in rows) if repo else 0
            new = self._add(rows, repo)
        return Imported(len(rows), new, moved)

    def forget(self, repo: str | None = None) -> int:
        """Forget the rows of a repository, or all; return how many there were."""
        with self._explained(), transaction(self._database):
            gone = self._database.execute("DELETE FROM tried WHERE ? IN (repo, '')", (repo or "",))
            return gone.rowcount

    def close(self) -> None:
        """Close the file. Repeatable."""
        with self._explained():
            self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _explained(self) -> AbstractContextManager[None]:
        return sqlitefile.explained(self._path, _LAYOUT)

    def _add(self, rows: Iterable[Tried], repo: str | None = None) -> int:
        execute = self._database.execute
        (before,) = execute("SELECT COALESCE(MAX(rowid), 0) FROM tried").fetchone()
        self._database.executemany(
            f"INSERT INTO tried ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608  constants
            " ON CONFLICT (run, step, kind, model, rung) DO NOTHING",
            [(repo or one.repo, *_key(one), *_figures(one)) for one in rows],
        )
        # Before anything goes: a new row has a greater number than all that are there.
        (new,) = execute("SELECT count(*) FROM tried WHERE rowid > ?", (before,)).fetchone()
        oldest = f"SELECT rowid FROM tried {_NEWEST} LIMIT -1 OFFSET ?"  # noqa: S608  constants
        execute(f"DELETE FROM tried WHERE rowid IN ({oldest})", (KEEP,))  # noqa: S608  constants
        (kept,) = execute("SELECT count(*) FROM tried WHERE rowid > ?", (before,)).fetchone()
        return min(new, kept)

    def _move(self, row: Tried, repo: str) -> int:
        where = "run = ? AND step = ? AND kind = ? AND model = ? AND rung = ? AND repo <> ?"
        return self._database.execute(
            f"UPDATE tried SET repo = ? WHERE {where}",  # noqa: S608  constants
            (repo, *_key(row), repo),
        ).rowcount

    def _tried(self, row: tuple[Any, ...]) -> Tried:
        repo, run, step, kind, model, rung, mended, usd, seconds, at = row
        try:
            return Tried(
                kind=kind,
                model=model,
                rung=Rung(rung),
                mended=bool(mended),
                usd=None if usd is None else Decimal(usd),
                seconds=float(seconds),
                at=float(at),
                repo=repo,
                run=run,
                step=step,
            )
        except (ValueError, TypeError, InvalidOperation) as error:
            message = f"the history {self._path}: a row of run {run!r} cannot be read: {error}"
            raise HistoryError(message, hint=DAMAGED) from error


def _key(one: Tried) -> tuple[str, ...]:
    # A file's name that is no text (`script:` and bytes) would be refused by SQLite.
    texts = (one.run, one.step, one.kind, one.model, one.rung.value)
    return tuple(text.encode("utf-8", "backslashreplace").decode() for text in texts)


def _figures(one: Tried) -> tuple[Any, ...]:
    return one.mended, None if one.usd is None else str(one.usd), one.seconds, one.at


def past(state_root: Path, repo: str | None = None) -> tuple[Tried, ...]:
    """Read what was tried, of a repository or of all, newest first; makes no file.

    Raises:
        HistoryError: There is a history, and it cannot be read.
    """
    path = state_root / FILE
    with sqlitefile.explained(path, _LAYOUT):
        if not path.exists():
            return ()
    with History.open(state_root) as history:
        return history.all(repo)


def recall(state_root: Path) -> tuple[tuple[Tried, ...], str]:
    """Read what was tried in all repositories, for a run that goes on without it.

    Returns:
        The rows, newest first, and what to tell in one notice; nothing and empty is no history.
    """
    try:
        return past(state_root), ""
    except HistoryError as error:
        return (), _told("the history is left out of this run", error)


def record(journal: Journal, run_id: str, repo: str, state_root: Path) -> str:
    """Add what a run tried to the history, once all its attempts are journaled.

    Safe to call twice, and without any attempt: then no file is opened.

    Args:
        journal: Holds the run.
        run_id: The run's id.
        repo: Name of the repository's state directory.
        state_root: The directory of all the runner's state.

    Returns:
        What to tell of it in one notice; empty when all went well.
    """
    try:
        events = ((record.at, record.event) for record in journal.records(run_id))
        tried = tried_of(events, repo=repo, run=run_id)
        if tried:
            with History.open(state_root) as history:
                history.add(tried)
    except JournalError as error:
        return _told("this run is not in the history", error)
    return ""


def _told(what: str, error: JournalError) -> str:
    return f"{what}: {error.message}. {error.hint}".rstrip(". ")
