"""Folds what one step that began and did not end has done so far: its attempts, its trees. Pure."""

from __future__ import annotations

from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Literal

from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    CommandStarted,
    GitIntent,
)
from runner.frozen import frozen
from runner.outcome import Rung, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.events import GitFact, Restored
    from runner.outcome import Attempt

WORDING = "message"
"""Last part of the key of the job in which an agent words a commit."""
OUTSIDE = (Verdict.INFRA, Verdict.CANCELLED)
"""Verdicts of attempts that were cut off from outside: they go on where they were."""
_JUDGING = frozenset({"run", "retry", "check", "stale", "hook"})
"""Purposes of commands whose failure is what somebody mends."""


@frozen
class Stay:
    """What one finished model attempt left in the tree, not undone since."""

    before: str
    after: str
    paths: tuple[str, ...]
    others: tuple[str, ...]
    """Paths that somebody else changed meanwhile."""


@frozen(kw_only=True)
class Flight:
    """A step that began and did not end.

    A commit or push has jobs one after another: stale checks, hooks, a conflict. What is told of
    attempts is told of the newest job; every other step has one.
    """

    step: str
    job: str = ""
    """Key of the job that was under way; empty for the step's own command, and between jobs."""
    job_from: int = 0
    """Attempts of the step that began before the job's first."""
    earlier: tuple[Attempt, ...] = ()
    """Attempts of the jobs before, in order."""
    attempts: tuple[Attempt, ...] = ()
    """Those that finished, in order."""
    numbers: int = 0
    """The highest number of an attempt so far."""
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Of the last attempt that gave any."""
    wording: AttemptStarted | None = None
    """The attempt that was to word a commit, if it did not end; jobs may have come in between."""
    wording_from: int = 0
    """Where in `Recorded.said` that begins."""
    open: AttemptStarted | None = None
    """The attempt that was under way."""
    command: CommandStarted | None = None
    """The command that was running."""
    ran: bool = False
    """Whether a command began since the tree was settled: nobody can tell what it changed."""
    autofix: Literal["", "open", "done"] = ""
    autofix_from: str = ""
    """Tree before the autofix that was under way."""
    base: str = ""
    """Tree before the first mend; empty while nobody has been asked to mend."""
    marked: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the run had left in the tree before the first mend, or before the prompt."""
    prompt_from: str = ""
    """Tree that a prompt's agent began on."""
    before: str = ""
    """Tree before the attempt that was under way."""
    settled: str = ""
    """Tree after the last settled call of that attempt that changed files; else as `before`."""
    unsettled: str = ""
    """Tree after a call that is not known to be done yet: its model was not told of it."""
    judged: str = ""
    """Tree after the command judged that attempt."""
    best: str = ""
    """Tree after the newest attempt that made some progress."""
    stays: tuple[Stay, ...] = ()
    """What finished attempts left in the tree, oldest first."""
    undoing: bool = False
    """Whether the end of a life had begun to undo it."""
    undone: str = ""
    """Tree as that left it: what differs since is the work of steps that run `always`."""
    loose: bool = False
    """Whether delegated work began since then: it may have changed anything."""
    reason: str = ""
    """Of the newest decision."""
    first: CommandFinished | None = None
    """The failure that the first mend began with."""
    ended: CommandFinished | None = None
    """How the command of the attempt that was under way ended, where it did."""
    last: CommandFinished | None = None
    """The command's newest end."""
    begun_with: CommandFinished | None = None
    """The newest end before the attempt that was under way: what it is to mend."""
    held_on: str = ""
    """Tree that a commit or push last looked at the checks on."""
    rebase: GitIntent | None = None
    """The newest rebase that git was about to do."""
    rebase_from: str = ""
    """Tree that a rebase began on, which is undone where it was cut off."""
    conflicted: str = ""
    """Tree that shows the conflict of that rebase."""
    intent: GitIntent | None = None
    """The commit or push that git was about to do, the newest."""
    fact: GitFact | None = None
    """What git did, where the step had not ended by then."""
    said_from: int = 0
    """Where in `Recorded.said` the attempt begins that was under way."""
    busy: float = 0.0
    """Seconds that the attempt which was under way has taken so far, over all lives."""

    @property
    def asked(self) -> AttemptStarted | None:
        """The model attempt that was under way."""
        return None if self.open is None or self.open.rung is Rung.COMMAND else self.open

    def said_since(self, number: int) -> int | None:
        """Return where in `Recorded.said` the attempt of a number begins; `None`: it is over."""
        if self.asked is not None and self.asked.number == number:
            return self.said_from
        worded = self.wording is not None and self.wording.number == number
        return self.wording_from if worded else None

    @property
    def passed(self) -> bool:
        """Whether the job is over, and its command passed in the end."""
        return not self.open and bool(self.attempts) and self.attempts[-1].verdict in PASSES

    def doubt(self, *, shell: bool) -> str:
        """Return the tree since which nobody can tell the run's changes from others'; or nothing.

        As while the run lives: what changes while one of its commands runs counts as the run's.
        """
        if self.autofix == "open":
            return self.autofix_from
        if self.open is None:
            return ""
        if self.asked is None:
            return self.before
        return self.settled if self.ran or self.loose or shell else ""

    def without_job(self) -> Flight:
        """Return it between two jobs: the newest one is over, or is not to go on."""
        return replace(
            self,
            job="",
            job_from=self.numbers,
            earlier=(*self.earlier, *self.attempts),
            attempts=(),
            open=None,
            ran=False,
            base="",
            before="",
            settled="",
            unsettled="",
            judged="",
            best="",
            stays=(),
            first=None,
            ended=None,
        )


PASSES = (Verdict.PASSED, Verdict.FLAKY)


def begin(flight: Flight, event: AttemptStarted, tree: str, said: int) -> Flight:
    """Take up that an attempt begins, or goes on, on the newest *tree* and after so much *said*."""
    if (event.job, event.job_from) != (flight.job, flight.job_from):
        flight = replace(flight.without_job(), job=event.job, job_from=event.job_from)
    if flight.asked and flight.asked.number == event.number:
        return flight
    if event.job.endswith(f":{WORDING}"):
        same = flight.wording is not None and flight.wording.number == event.number
        said = flight.wording_from if same else said
        flight = replace(flight, wording=event, wording_from=said)
    # What a prompt began on was recorded before its attempt.
    before = tree if event.rung is Rung.COMMAND else flight.before
    return replace(
        flight,
        open=event,
        numbers=max(flight.numbers, event.number),
        before=before,
        settled=before,
        unsettled="",
        judged="",
        ran=False,
        ended=None,
        said_from=said,
        busy=0.0,
    )


def finish(flight: Flight, event: AttemptFinished) -> Flight:
    """Take up that an attempt ended."""
    attempt = event.attempt
    if attempt.verdict in OUTSIDE and attempt.rung is not Rung.COMMAND:
        return flight
    if flight.wording and flight.wording.number == attempt.number:
        flight = replace(flight, wording=None)
    changes: dict[str, Any] = {"attempts": (*flight.attempts, attempt), "open": None, "before": ""}
    if event.outputs:
        changes["outputs"] = event.outputs
    if attempt.rung is not Rung.COMMAND and flight.base:
        after = flight.judged or flight.settled
        stay = Stay(flight.before, after, attempt.files, event.others)
        changes["stays"] = (*flight.stays, stay)
        if attempt.verdict is Verdict.SOFT:
            changes["best"] = flight.settled
        if attempt.verdict in PASSES:
            changes |= {"base": "", "stays": (), "first": None}
    return replace(flight, **changes)


def command(flight: Flight, event: CommandStarted | CommandFinished) -> Flight:
    """Take up that a command began or ended."""
    if isinstance(event, CommandStarted):
        return replace(flight, command=event, ran=True)
    if event.purpose in _JUDGING:
        return replace(flight, command=None, last=event, ended=event)
    return replace(flight, command=None)


def restore(flight: Flight, event: Restored) -> Flight:
    """Take up that something was undone."""
    # What was cut off goes on where it was: its way back is needed again.
    if flight.asked is not None:
        return replace(flight, undone=event.to)
    return replace(
        flight,
        stays=() if event.to == flight.base else flight.stays,
        rebase_from="" if event.to == flight.rebase_from else flight.rebase_from,
    )


def snapshot(flight: Flight, label: str, tree: str, marks: Mapping[str, str]) -> Flight:
    """Take up a snapshot of the tree by its label; *marks* is what the run has left by then."""
    match label.split():
        case ["before", "autofix"]:
            return replace(flight, autofix="open", autofix_from=tree)
        case ["after", "autofix"]:
            return replace(flight, autofix="done")
        case ["before", "mends"]:
            return replace(flight, base=tree, first=flight.last, marked=dict(marks), stays=())
        case ["before", "checks"]:
            return replace(flight.without_job(), held_on=tree)
        case ["before", "rebase"]:
            return replace(flight, rebase_from=tree, conflicted="")
        case ["with", "conflict", "markers"]:
            return replace(flight, conflicted=tree)
        case ["rebased"]:
            return replace(flight.without_job(), rebase_from="", conflicted="")
        case words:
            return _within(flight, words, tree, marks)


def _within(flight: Flight, words: list[str], tree: str, marks: Mapping[str, str]) -> Flight:
    """Take up a snapshot around a model attempt."""
    match words:
        case ["before", "prompt"]:
            return replace(flight, before=tree, prompt_from=tree, marked=dict(marks))
        case ["before", "attempt", _]:
            begun = flight.last if flight.stays else flight.first
            return replace(flight, before=tree, settled=tree, begun_with=begun)
        case ["after", "call", _] if flight.asked is not None:
            return replace(flight, unsettled=tree, undoing=False, undone="")
        case ["after", "attempt", _] if flight.asked is not None:
            flight = replace(flight, settled=tree, ran=False, loose=False, judged="")
            return replace(flight, unsettled="", undoing=False, undone="")
        case ["judged"]:
            return replace(flight, judged=tree, ran=False)
        case ["before", "restore"]:
            return replace(flight, undoing=True, undone=tree)
        case _:
            return flight
