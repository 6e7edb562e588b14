"""Keeps what happened on disk, each event before it is acted on, and reads it back.

One SQLite file for each repository, in its state directory. A run that is going on can be read by
others. `begin(resume=True)` is where a later `resume` takes a dead run over.
"""

from __future__ import annotations

import json
import os
import time
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple, Self, cast

from runner.codec import decode, encode, kind_of
from runner.errors import JournalError, UsageError
from runner.events import (
    CommandOutput,
    Event,
    GitFact,
    GitIntent,
    ModelResponded,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFinished,
)
from runner.frozen import frozen
from runner.journalfile import DAMAGED, FILE, connect, explained, transaction
from runner.lease import Holder, Lease, held, myself, refuse_network
from runner.outcome import add_cost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runner.outcome import StepOutcome

__all__ = ["Journal", "Record", "RunRow", "decode", "encode", "new_run_id"]


class Record(NamedTuple):
    """One journaled event with its place and time."""

    seq: int
    """From 1, without gaps, within its run."""
    at: float
    """Seconds since the epoch."""
    event: Event


@frozen
class RunRow:
    """One run in the list of runs."""

    id: str
    root: str
    workflow: str
    status: Literal["succeeded", "failed", "cancelled", "running", "killed"]
    """`killed`: no last event, and nobody holds its lease."""
    exit_code: int | None
    started_at: float
    """Seconds since the epoch."""
    heard_at: float
    """Time of its last event."""
    cost_usd: Decimal | None
    """`None` when the price of any response is unknown."""
    scripted: bool
    host: str
    pid: int


def new_run_id(now: float) -> str:
    """Return a fresh id, `20261121-174530-3f9a`, from epoch seconds; it says UTC, and sorts."""
    return time.strftime("%Y%m%d-%H%M%S", time.gmtime(now)) + f"-{os.urandom(2).hex()}"


class Journal:
    """The runs of one repository. A context manager; one thread only."""

    def __init__(
        self, path: Path, database: sqlite3.Connection, clock: Callable[[], float]
    ) -> None:
        self._path = path
        self._database = database
        self._clock = clock
        self._leases: dict[str, Lease] = {}
        self._last: dict[str, int] = {}

    @classmethod
    def open(
        cls, directory: Path, *, create: bool = True, clock: Callable[[], float] = time.time
    ) -> Self:
        """Open the journal in `directory`, making both when they are missing.

        Raises:
            JournalError: It is damaged, of a newer format, or not a journal; it is left as it is.
            UsageError: There is none and `create` is false.
        """
        path = directory / FILE
        if not create and not path.exists():
            raise UsageError(
                "no run has been recorded for this directory", hint="Start one: runner exec"
            )
        with explained(path):
            database = connect(path)
        return cls(path, database, clock)

    def begin(self, run_id: str, root: Path, *, resume: bool = False) -> None:
        """Open a run in `root` and take its lease, which lasts until `end` or this process's end.

        Args:
            run_id: From `new_run_id`; with `resume` that of a run that is no longer alive.
            root: The work tree. Only one run at a time may be open in it.
            resume: Whether to take over a run instead of opening a new one.

        Raises:
            UsageError: Another run is alive in `root`.
            JournalError: The journal cannot be written, or knows the id already.
        """
        where = str(root.resolve())
        refuse_network(self._path.parent)
        with explained(self._path), transaction(self._database):
            self._refuse_second(where)
            lease = Lease.take(self._lease_path(run_id))
            if lease is None:
                raise UsageError(f"run {run_id} is being taken up by another process")
            try:
                self._register(run_id, where, resume=resume)
            except BaseException:
                lease.release()
                raise
            self._leases[run_id] = lease

    def append(self, run_id: str, event: Event, *, at: float | None = None) -> int:
        """Write one event of a run that is open here, and return its number.

        It happened *at*, in seconds since the epoch; now by default.

        `CommandOutput` is not kept; the last event's number is returned for it. What git is about
        to do, and did, is on the disk when this returns; all else survives a kill, not a power cut.

        Raises:
            JournalError: It could not be written: the event must not be acted on.
        """
        if run_id not in self._leases:
            raise JournalError(f"run {run_id!r} is not open for writing in this process")
        if isinstance(event, CommandOutput):
            return self._last[run_id]
        seq = self._last[run_id] + 1
        at = self._clock() if at is None else at
        row = (run_id, seq, at, kind_of(event), _dump(event))
        with explained(self._path):
            match event:
                case GitIntent() | GitFact():
                    self._insert_durably(row)
                case RunStarted() | RunResumed() | ModelResponded() | RunFinished():
                    with transaction(self._database):
                        self._insert(row)
                        self._sum_up(run_id, event)
                case _:
                    self._insert(row)
        self._last[run_id] = seq
        return seq

    def end(self, run_id: str) -> None:
        """Close a run that is open here and give up its lease. May be called twice."""
        lease = self._leases.pop(run_id, None)
        if lease is None:
            return
        try:
            with explained(self._path):
                self._database.execute("UPDATE run SET open = 0 WHERE id = ?", (run_id,))
        finally:
            lease.release()

    def records(self, run_id: str, *, after: int = 0) -> Iterator[Record]:
        """Read a run's events with number and time, those after number `after`.

        Raises:
            JournalError: What is on the disk cannot be read.
        """
        query = "SELECT seq, at, data FROM event WHERE run = ? AND seq > ? ORDER BY seq"
        with explained(self._path):
            for seq, at, data in self._database.execute(query, (run_id, after)):
                yield Record(seq, at, _load(data, f"event {seq} of run {run_id} in {self._path}"))

    def events(self, run_id: str) -> Iterator[Event]:
        """Read a run's events in order."""
        return (record.event for record in self.records(run_id))

    def past(self, run_id: str, runs: int = 20) -> tuple[StepOutcome, ...]:
        """Return how the steps ended in the newest earlier runs of a run's workflow and root.

        Raises:
            JournalError: What is on the disk cannot be read.
        """
        query = """
            SELECT data FROM event WHERE type = 'step_finished' AND run IN (
                SELECT other.id FROM run AS other JOIN run AS own
                    ON own.id = ? AND own.id <> other.id
                    AND own.root = other.root AND own.workflow = other.workflow
                ORDER BY other.started_at DESC LIMIT ?)
            """
        with explained(self._path):
            rows = self._database.execute(query, (run_id, runs)).fetchall()
        events = (_load(cast("str", data), f"{self._path}") for (data,) in rows)
        return tuple(event.outcome for event in events if isinstance(event, StepFinished))

    def alive(self, run_id: str) -> bool:
        """Return whether a run is open and the process that opened it still lives."""
        query = "SELECT open, host, boot, pid, pid_started FROM run WHERE id = ?"
        with explained(self._path):
            row = self._database.execute(query, (run_id,)).fetchone()
        return row is not None and self._alive(run_id, *row)

    def holder(self, run_id: str) -> Holder:
        """Return who held a run's lease last.

        Raises:
            UsageError: There is no such run.
        """
        query = "SELECT host, boot, pid, pid_started FROM run WHERE id = ?"
        with explained(self._path):
            row = self._database.execute(query, (run_id,)).fetchone()
        if row is None:
            raise UsageError(f"no run {run_id!r} here", hint=_LIST)
        return Holder(*row)

    def runs(self) -> tuple[RunRow, ...]:
        """List all runs, newest first."""
        query = """
            SELECT id, root, workflow, status, exit_code, started_at, cost_usd, scripted,
                   (SELECT at FROM event WHERE run = run.id ORDER BY seq DESC LIMIT 1) AS heard_at,
                   open, host, boot, pid, pid_started
            FROM run ORDER BY started_at DESC, id DESC
            """
        with explained(self._path):
            cursor = self._database.execute(query)
            names = [column[0] for column in cursor.description]
            rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return tuple(self._run_row(row) for row in rows)

    def find(self, text: str | None = None) -> str:
        """Find a run: the newest one (`None` or `last`), or by its id, the id's start or last part.

        Raises:
            UsageError: There is none, or more than one.
        """
        query = "SELECT id FROM run ORDER BY started_at DESC, id DESC"
        with explained(self._path):
            ids = [cast("str", row[0]) for row in self._database.execute(query)]
        if text in (None, "last"):
            found = ids[:1]
        else:
            found = [text] if text in ids else [one for one in ids if _matches(one, text)]
        if len(found) == 1:
            return found[0]
        if found:
            some = ", ".join(found[:5])
            raise UsageError(f"{text!r} may be any of {len(found)} runs: {some}", hint=_LIST)
        what = "no run has been recorded here" if not ids else f"no run {text!r} here"
        raise UsageError(what, hint=_LIST if ids else "Start one: runner exec")

    def prune(
        self,
        keep: int,
        *,
        days: int | None = None,
        most: int | None = None,
        size: Callable[[str], int] = lambda _: 0,
    ) -> tuple[str, ...]:
        """Forget all but the newest `keep` runs; what is alive, and the newest, stays.

        Args:
            keep: Runs that are kept at most.
            days: Age in days from which runs are forgotten; `None` is no limit.
            most: Bytes of files that the kept runs may have together; `None` is no limit.
            size: Returns the bytes of a run's files.

        Returns:
            The forgotten runs' ids, so that the caller can remove their files.
        """
        since = self._clock() - days * 86_400 if days is not None else 0.0
        old: list[str] = []
        total = 0
        for number, row in enumerate(self.runs()):
            total += size(row.id) if most is not None else 0
            spare = number == 0 and keep > 0
            full = most is not None and total > most
            if row.status == "running" or spare:
                continue
            if number >= max(0, keep) or row.heard_at < since or full:
                old.append(row.id)
        if not old:
            return ()
        with explained(self._path):
            with transaction(self._database):
                for run_id in old:
                    self._database.execute("DELETE FROM event WHERE run = ?", (run_id,))
                    self._database.execute("DELETE FROM run WHERE id = ?", (run_id,))
            # `execute` would free one page only: it does not step on without rows.
            self._database.executescript("PRAGMA incremental_vacuum")
        for run_id in old:
            self._lease_path(run_id).unlink(missing_ok=True)
        return tuple(old)

    def close(self) -> None:
        """Close the file; runs still open here are ended, and count as killed. Repeatable."""
        try:
            for run_id in tuple(self._leases):
                self.end(run_id)
        finally:
            with explained(self._path):
                self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _lease_path(self, run_id: str) -> Path:
        return self._path.parent / f"run-{run_id}.lease"

    def _refuse_second(self, root: str) -> None:
        query = "SELECT id, open, host, boot, pid, pid_started FROM run WHERE root = ? AND open = 1"
        for run_id, *row in self._database.execute(query, (root,)).fetchall():
            if self._alive(run_id, *row):
                raise UsageError(
                    f"run {run_id} is going on in {root} (process {row[3]} on {row[1]})",
                    hint=f"Wait for it, or end it with: kill {row[3]}",
                )

    def _register(self, run_id: str, root: str, *, resume: bool) -> None:
        me = myself()
        holder = (me.host, me.boot, me.pid, me.started)
        if resume:
            changed = self._database.execute(
                "UPDATE run SET open = 1,"
                " host = ?, boot = ?, pid = ?, pid_started = ? WHERE id = ?",
                (*holder, run_id),
            )
            if changed.rowcount != 1:
                raise UsageError(f"no run {run_id!r} here", hint=_LIST)
        else:
            self._database.execute(
                "INSERT INTO run (id, root, started_at, host, boot, pid, pid_started)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (run_id, root, self._clock(), *holder),
            )
        query = "SELECT COALESCE(MAX(seq), 0) FROM event WHERE run = ?"
        self._last[run_id] = self._database.execute(query, (run_id,)).fetchone()[0]

    def _insert(self, row: tuple[str, int, float, str, str]) -> None:
        self._database.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?)", row)

    def _insert_durably(self, row: tuple[str, int, float, str, str]) -> None:
        self._database.execute("PRAGMA synchronous = FULL")
        try:
            self._insert(row)
        finally:
            self._database.execute("PRAGMA synchronous = NORMAL")

    def _sum_up(
        self, run_id: str, event: RunStarted | RunResumed | ModelResponded | RunFinished
    ) -> None:
        """Keep in the run's row what the list of runs shows."""
        match event:
            case RunResumed():
                self._database.execute(
                    "UPDATE run SET status = NULL, exit_code = NULL WHERE id = ?", (run_id,)
                )
            case RunStarted():
                self._database.execute(
                    "UPDATE run SET workflow = ?, scripted = ? WHERE id = ?",
                    (event.workflow, event.scripted, run_id),
                )
            case ModelResponded():
                query = "SELECT cost_usd FROM run WHERE id = ?"
                (before,) = self._database.execute(query, (run_id,)).fetchone()
                cost = add_cost(None if before is None else Decimal(before), event.cost_usd)
                self._database.execute(
                    "UPDATE run SET cost_usd = ?, scripted = scripted OR ? WHERE id = ?",
                    (None if cost is None else str(cost), event.scripted, run_id),
                )
            case RunFinished():
                self._database.execute(
                    "UPDATE run SET status = ?, exit_code = ? WHERE id = ?",
                    (event.status, event.exit_code, run_id),
                )

    def _alive(self, run_id: str, is_open: int, *holder: str | int) -> bool:
        host, boot, pid, started = holder
        who = Holder(str(host), str(boot), int(pid), str(started))
        return bool(is_open) and held(self._lease_path(run_id), who)

    def _run_row(self, row: dict[str, str | int | float | None]) -> RunRow:
        run_id = str(row["id"])
        holder = [cast("str | int", row[name]) for name in ("host", "boot", "pid", "pid_started")]
        status = row["status"]
        if status is None:
            alive = self._alive(run_id, cast("int", row["open"]), *holder)
            status = "running" if alive else "killed"
        started_at = cast("float", row["started_at"])
        return RunRow(
            id=run_id,
            root=str(row["root"]),
            workflow=str(row["workflow"]),
            status=cast("Literal['succeeded', 'failed', 'cancelled', 'running', 'killed']", status),
            exit_code=cast("int | None", row["exit_code"]),
            started_at=started_at,
            heard_at=cast("float | None", row["heard_at"]) or started_at,
            cost_usd=None if row["cost_usd"] is None else Decimal(str(row["cost_usd"])),
            scripted=bool(row["scripted"]),
            host=str(row["host"]),
            pid=cast("int", row["pid"]),
        )


_LIST = "See them with: runner runs"


def _matches(run_id: str, text: str | None) -> bool:
    return bool(text) and (run_id.startswith(text) or run_id.rpartition("-")[2] == text)


def _dump(event: Event) -> str:
    return json.dumps(encode(event), separators=(",", ":"))


def _load(data: str, where: str) -> Event:
    try:
        return decode(json.loads(data))
    except (JournalError, ValueError) as error:
        hint = error.hint if isinstance(error, JournalError) else DAMAGED
        raise JournalError(f"{where} cannot be read: {error.args[0]}", hint=hint) from error
