"""Takes one failing command up the ladder: retry, autofix, subagent, main; or undoes it all."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

import anyio

from runner.engine.commands import result_of
from runner.engine.roles import FOULS, is_file, role_of, who
from runner.engine.state import CUT_OFF, Halted
from runner.events import AttemptFinished, AttemptStarted, Decided
from runner.frozen import frozen
from runner.outcome import (
    Attempt,
    CommandResult,
    Failure,
    Fingerprint,
    Rung,
    Status,
    StepOutcome,
    Verdict,
    add_cost,
)
from runner.plan import MAIN
from runner.policy import AskMain, AskSubagent, GiveUp, Move, Situation, of_command
from runner.scope import is_test

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.engine.lock import Lock
    from runner.engine.mend import Tried, Work
    from runner.engine.state import Run
    from runner.events import Purpose
    from runner.flight import Flight
    from runner.outcome import Denial
    from runner.plan import Escalate, Fix, Retry
    from runner.policy import Outlook
    from runner.scope import Scope


@frozen(kw_only=True)
class Job:
    """A command that judges, and everything that may be tried when it fails."""

    shown: str
    command: str
    """As people read it, and as the fingerprints know tools by."""
    purpose: Purpose
    invoke: Callable[[Purpose], Awaitable[CommandResult]]
    scope: Scope
    rescope: Callable[[Fingerprint], Scope] | None = None
    """The scope once the output has told what it was that failed: `make check` may be tests."""
    goal: str = ""
    """What an agent was asked for, where the command judges that."""
    directory: str = "."
    """Where the command runs, relative to the root: what its output calls files."""
    autofix: Callable[[], Awaitable[CommandResult]] | None = None
    fix: Fix | None = None
    escalate: Escalate | None = None
    retry: Retry
    sources: tuple[str, ...] | None = None
    key: str = ""
    """Under which a pass is remembered; empty for `shown`."""
    unmended: str = ""
    """Why no model may be asked here; empty when one may."""
    irreversible: bool = False
    """Whether the command may reach out of the tree: what it does then cannot be taken back."""


@dataclass(slots=True)
class Climb:
    """One job on its way up."""

    run: Run
    job: Job
    lock: Lock
    attempts: list[Attempt] = field(default_factory=list["Attempt"])
    earlier: int = 0
    """Attempts of the same step before this climb, for their numbers."""
    started: float = field(default_factory=time.monotonic)
    seen: str = ""
    """The tree that the last failing command was seen on; empty when it moved meanwhile."""
    flight: Flight | None = None
    """Where an earlier life of the run was cut off in this climb."""
    retried: int = 0
    """Retries that earlier lives have used up."""

    async def go(self) -> StepOutcome:
        """Return the outcome; the tree is then either mended or as it was before the first mend."""
        known = await self._taken_up() if self.flight is not None else None
        if known is not None:
            return known
        result = await self._on_shared_tree()
        if not result.passed and result.denial is None:
            result = await self._retries(result)
        if result.passed:
            return self._passed(result)
        if result.denial is not None:
            return self._denied(result, result.denial)
        if self.job.autofix is None and self.job.fix is None and self.job.escalate is None:
            return self._failed(
                result, self.read(result), "no model was asked: this step has no fix"
            )
        try:
            async with self.run.alone(self.lock, self.job.shown):
                return await self._alone(result)
        except Halted:
            # Others were asked meanwhile, and not answered: nobody is asked to mend this.
            return self._given_up(self._failed(result, self.read(result), self.run.stop))

    # -- rung command ---------------------------------------------------------------------------

    async def _on_shared_tree(self) -> CommandResult:
        """Run the command beside others; again alone if somebody moved its sources meanwhile."""
        async with self.run.sharing(self.lock, self.job.shown) as share:
            result, moved = await self._observed(self.job.purpose)
        if moved and share.overlapped:
            self.run.say(
                f"{self.job.shown}: its sources changed while it ran; running it again",
                self.job.shown,
            )
            async with self.run.alone(self.lock, self.job.shown):
                result, _ = await self._observed(self.job.purpose)
        return result

    async def _observed(self, purpose: Purpose) -> tuple[CommandResult, bool]:
        """Run the command between two hashes; remember a pass with the tree that it was seen on."""
        tree, began = self.run.ports.tree, time.monotonic()
        before = await self.run.look(self.job.shown, "before command")
        began_on, ended = self._ended()
        self._start(Rung.COMMAND)
        result = ended or await self.job.invoke(purpose)
        after = await self.run.look(self.job.shown, "after command")
        before = began_on if ended and tree else before
        await self.run.took(before, after)
        moved = before != after and await self._differs(before, after)
        self.seen = "" if moved else after
        if result.passed:
            self.run.saw_pass(self.job.key or self.job.shown, self.seen)
        verdict = of_command(result, again=purpose == "retry")
        self._finish(Rung.COMMAND, verdict, ending(result), time.monotonic() - began)
        return result, moved

    async def _differs(self, before: str, after: str) -> bool:
        tree, sources = self.run.ports.tree, self.job.sources
        if tree is None or sources is None:
            return before != after
        return await tree.subset(before, sources) != await tree.subset(after, sources)

    async def _retries(self, result: CommandResult) -> CommandResult:
        for _ in range(self.job.retry.attempts - self.retried):
            await anyio.sleep(self.job.retry.delay)
            try:
                async with self.run.sharing(self.lock, self.job.shown):
                    result, _ = await self._observed("retry")
            except Halted:
                break
            if result.passed or result.denial is not None:
                break
        return result

    async def _alone(self, result: CommandResult) -> StepOutcome:
        """Go on with the tree to ourselves: the failure must have been seen on exactly it."""
        result = await self._again_if_moved(result)
        if not result.passed and self.job.autofix is not None and result.denial is None:
            result = await self._autofix(self.job.autofix)
        if result.passed:
            return self._passed(result)
        if result.denial is not None:
            return self._denied(result, result.denial)
        if self.job.fix is None and self.job.escalate is None:
            return self._failed(
                result, self.read(result), "no model was asked: this step has no fix"
            )
        return await self._mends(result)

    async def _again_if_moved(self, result: CommandResult) -> CommandResult:
        tree = self.run.ports.tree
        if tree is None or (self.seen and self.seen == await tree.snapshot()):
            return result
        result, _ = await self._observed(self.job.purpose)
        return result

    async def _autofix(self, autofix: Callable[[], Awaitable[CommandResult]]) -> CommandResult:
        run, step = self.run, self.job.shown
        tree = run.ports.tree or await run.ports.late_tree()
        before = await run.snapshot_of(tree, step, "before autofix")
        run.start_tree = run.start_tree or before
        fixed = await autofix()
        if not fixed.passed:
            run.say(f"autofix: {ending(fixed)}; its output: {fixed.log or 'none'}", step)
        after = await tree.snapshot()
        # Whose the changes are is written first: what follows tells a resume that all is known.
        await run.took(before, after)
        changes = await tree.changes(before, after)
        run.set_mended(run.mended | {change.path for change in changes})
        run.record(step, "after autofix", after)
        result, _ = await self._observed(self.job.purpose)
        return result

    # -- rungs subagent and main -----------------------------------------------------------------

    async def _mends(self, result: CommandResult) -> StepOutcome:
        """Ask models until the command passes or the policy gives up; then undo what they did."""
        # A run whose commands pass pays for none of this.
        from runner.engine.mend import Work  # noqa: PLC0415

        first = failure = self.read(result)
        if self.job.rescope is not None:
            self.job = replace(self.job, scope=self.job.rescope(first.fingerprint))
        work, flight = Work(self.run, self.job), self.flight
        await work.begin(flight)
        try:
            if flight is not None:
                failure = await self._catch_up(work, flight, first)
                flight = self.flight
            while True:
                move = _open_move(flight) or await self._choose(failure)
                if flight is None and self._changes_hands(move):
                    # Attempts used up are a hard failure like any other.
                    await work.undo_all()
                    failure = first
                if isinstance(move, GiveUp):
                    await work.undo_all()
                    return self._given_up(self._failed(result, first, move.reason))
                tried, flight = await self._attempt(work, move, failure), None
                if tried.passed:
                    return self._passed(tried.result or result)
                if tried.stop or tried.packet:
                    self._halt(tried)
                    await work.undo_all()
                    reason = tried.attempt.reason
                    return self._stopped(tried, self._failed(result, first, reason, tried.packet))
                failure = tried.failure or failure
                if tried.attempt.verdict is Verdict.HARD:
                    await work.undo_all()
                    failure = first
        except BaseException:
            # Cancelled or broken in the middle of a mend: the tree must be as before all the same.
            with anyio.CancelScope(shield=True):
                await work.undo_all()
            raise

    def _changes_hands(self, move: Move) -> bool:
        """Tell whether another model takes over from one whose soft attempt is in the tree."""
        last = self.attempts[-1]
        if isinstance(move, GiveUp) or last.verdict is not Verdict.SOFT:
            return False
        rung = Rung.SUBAGENT if isinstance(move, AskSubagent) else Rung.MAIN
        return (last.rung, last.role) != (rung, self._role(move))

    async def _outlook(self) -> Outlook | None:
        """Estimate what the rungs cost, where there is a choice."""
        run, job = self.run, self.job
        if job.fix is None or job.escalate is None:
            return None
        roles = [role_of(run, job.fix)]
        if job.fix.then is not None and run.available(job.fix.then):
            roles.append(job.fix.then)
        return await run.ports.outlook(job.scope.nature, roles, job.irreversible)

    def _role(self, move: AskSubagent | AskMain) -> str:
        """Return the model role that a move asks."""
        if isinstance(move, AskMain):
            return MAIN
        return move.role or role_of(self.run, self.job.fix)

    async def _choose(self, failure: Failure) -> Move:
        run, job = self.run, self.job
        tried = tuple(a for a in self.attempts if a.rung is not Rung.COMMAND)
        situation = Situation(
            step=job.shown,
            failure=failure,
            fix=job.fix,
            escalate=job.escalate,
            subagent=run.available(role_of(run, job.fix)),
            main=run.available(MAIN),
            mid=bool(job.fix and job.fix.then and run.available(job.fix.then)),
            attempts=tried,
            out_of_scope=out_of_scope(failure, job.scope),
            unmended=job.unmended or run.stop,
        )
        if situation.main and not situation.unmended and not any(map(_by_main, tried)):
            situation = replace(situation, outlook=await self._outlook())
        move = run.ports.policy(situation)
        run.ports.emit(
            Decided(
                job.shown,
                decision=type(move).__name__,
                reason=move.reason,
                facts={
                    **move.facts,
                    "kind": job.scope.nature,
                    "tool": failure.fingerprint.tool,
                    "phase": failure.fingerprint.phase.name.lower(),
                    "failures": sorted(failure.fingerprint.failures)[:20],
                    "subagent_available": situation.subagent,
                    "main_available": situation.main,
                    "out_of_scope": situation.out_of_scope,
                    "attempts": [f"{a.rung}: {a.verdict}" for a in situation.attempts],
                },
            )
        )
        return move

    async def _attempt(self, work: Work, move: AskSubagent | AskMain, failure: Failure) -> Tried:
        from runner.engine.mend import Try  # noqa: PLC0415  as in `_mends`

        rung = Rung.SUBAGENT if isinstance(move, AskSubagent) else Rung.MAIN
        role = self._role(move)
        model, agent = who(self.run, self.job.fix, role)
        self._start(rung, model, agent, role)
        number = self.earlier + len(self.attempts) + 1
        flight, self.flight = self.flight, None
        before = flight.before if flight and flight.asked else ""
        now = Try(rung, role, number, move.reason, before)
        tried = await work.attempt(now, failure, tuple(self.attempts))
        if tried.passed:
            # First: with the attempt's own record nothing of it is done again.
            self.run.set_mended(self.run.mended | work.changed())
            self.run.saw_pass(self.job.key or self.job.shown, tried.seen)
        self._record(tried.attempt, tried.others)
        return tried

    # -- taken up again ---------------------------------------------------------------------------

    async def _taken_up(self) -> StepOutcome | None:
        """Go on where an earlier life was cut off; `None` where the command is to run again."""
        flight = self.flight
        assert flight is not None
        self.attempts = [*flight.attempts]
        if flight.passed:
            ended = result_of(self.run, flight.last) if flight.last else None
            return self._passed(ended or _nothing_known(self.attempts[-1].seconds))
        if flight.autofix == "done":
            self.job = replace(self.job, autofix=None)
        runs = sum(one.rung is Rung.COMMAND for one in self.attempts)
        self.retried = min(self.job.retry.attempts, max(0, runs - 1))
        first = result_of(self.run, flight.first) if flight.base and flight.first else None
        if first is None:
            return None
        async with self.run.alone(self.lock, self.job.shown, in_tree=True):
            return await self._mends(first)

    def _ended(self) -> tuple[str, CommandResult | None]:
        """Return how the command ended that an earlier life began, and the tree before it."""
        flight, self.flight = self.flight, None
        if flight is None or flight.open is None or flight.asked or flight.ended is None:
            return "", None
        return flight.before, result_of(self.run, flight.ended)

    async def _catch_up(self, work: Work, flight: Flight, first: Failure) -> Failure:
        """Bring the tree to where the attempts so far belong; return what is to be mended now."""
        if flight.asked is not None:
            begun = result_of(self.run, flight.begun_with) if flight.begun_with else None
            return self.read(begun) if begun else first
        self.flight = None
        last = self.attempts[-1]
        ended = result_of(self.run, flight.last) if flight.last else None
        if last.verdict is Verdict.SOFT and ended is not None:
            return self.read(ended)
        await work.undo_all()
        return first

    # -- endings ---------------------------------------------------------------------------------

    def read(self, result: CommandResult) -> Failure:
        """Read a failing command's output."""
        root = self.run.ports.root
        # Some hundred patterns are compiled here: a run whose commands pass pays for none.
        from runner import fingerprints  # noqa: PLC0415

        return fingerprints.read(
            self.job.command, result, lambda path: is_file(root, path), self.job.directory
        )

    def _passed(self, result: CommandResult) -> StepOutcome:
        last = self.attempts[-1]
        return StepOutcome(
            id=self.job.shown,
            status=Status.SUCCEEDED,
            rung=last.rung,
            reason="flaky" if last.verdict is Verdict.FLAKY else "",
            verified=True,
            seconds=time.monotonic() - self.started,
            cost_usd=self._cost(),
            log=str(result.log or ""),
            attempts=tuple(self.attempts),
        )

    def _failed(
        self, result: CommandResult, failure: Failure, reason: str, written: str = ""
    ) -> StepOutcome:
        from runner.engine.packets import host_packet  # noqa: PLC0415  as in `_mends`

        fouls = [a for a in self.attempts if a.reason.startswith(FOULS)]
        asked = any(a.rung is not Rung.COMMAND for a in self.attempts)
        return StepOutcome(
            id=self.job.shown,
            status=Status.FAILED,
            rung=self.attempts[-1].rung,
            reason=ending(result) if not asked else reason,
            seconds=time.monotonic() - self.started,
            cost_usd=self._cost(),
            log=str(result.log or ""),
            attempts=tuple(self.attempts),
            exit_code=5 if fouls else 1,
            tail=failure.tail,
            hint=self._hint(reason),
            places=failure.places,
            packet=host_packet(self.run, self.job, failure, self.attempts, written),
        )

    def _denied(self, result: CommandResult, denial: Denial) -> StepOutcome:
        """Return the outcome of a command that the sandbox kept something from."""
        failed = self._failed(result, self.read(result), "")
        hint = f"{denial.hint[:1].upper()}{denial.hint[1:]}."
        # Whoever called this run can mend it no more than a model here can.
        return replace(failed, reason=ending(result), exit_code=4, hint=hint, packet=None)

    def _halt(self, tried: Tried) -> None:
        """End the run with the step, before anything else may start: the tree is yet to go back.

        Not the run where the step was handed back: others go on.
        """
        if not tried.packet:
            from runner.engine.mend import halt  # noqa: PLC0415  as in `_mends`

            halt(self.run, tried, tried.attempt.role)

    def _stopped(self, tried: Tried, failed: StepOutcome) -> StepOutcome:
        """Return the outcome; what to do about the run's money is said at its end."""
        if tried.packet:
            return replace(failed, hint="")
        return replace(failed, exit_code=tried.stop, hint="" if self.run.unpaid else failed.hint)

    def _hint(self, reason: str) -> str:
        job, run = self.job, self.run
        if job.unmended:
            return f"No model was asked: {job.unmended}."
        if job.fix is None and job.escalate is None:
            plain = (job.key or job.shown).rpartition("/")[2]
            return f"No model was asked: this step has no fix. Try: runner exec --fix {plain}"
        roles = [role_of(run, job.fix)] if job.fix else []
        return run.missing([*roles, *([MAIN] if job.escalate else [])]) or reason

    def _cost(self) -> Decimal | None:
        total: Decimal | None = Decimal(0)
        for attempt in self.attempts:
            total = add_cost(total, attempt.cost_usd)
        return total

    def _given_up(self, failed: StepOutcome) -> StepOutcome:
        """Let a resumed run begin the step again whose agents were not asked for the run's end."""
        cut_off = self.run.stop and not self.job.unmended and self.run.stop_code in CUT_OFF
        return replace(failed, exit_code=self.run.stop_code) if cut_off else failed

    def _start(self, rung: Rung, model: str | None = None, agent: str = "", role: str = "") -> None:
        number = self.earlier + len(self.attempts) + 1
        job, begun = self.job.key, self.earlier
        self.run.ports.emit(
            AttemptStarted(self.job.shown, number, rung, model, agent, role, job, begun)
        )

    def _finish(self, rung: Rung, verdict: Verdict, reason: str, seconds: float) -> None:
        number = self.earlier + len(self.attempts) + 1
        self._record(Attempt(number, rung, None, verdict, reason, seconds=seconds))

    def _record(self, attempt: Attempt, others: tuple[str, ...] = ()) -> None:
        self.attempts.append(attempt)
        self.run.ports.emit(AttemptFinished(self.job.shown, attempt, others=others))


def _open_move(flight: Flight | None) -> AskSubagent | AskMain | None:
    """Return the move that an earlier life was cut off in."""
    if flight is None or flight.asked is None:
        return None
    if flight.asked.rung is Rung.MAIN:
        return AskMain(flight.reason)
    return AskSubagent(flight.reason, role=flight.asked.role)


def _nothing_known(seconds: float) -> CommandResult:
    """Stand for a command that passed in an earlier life and whose log is gone."""
    return CommandResult(
        exit_code=0, timed_out=False, seconds=seconds, head="", tail="", total_bytes=0, log=None
    )


def _by_main(attempt: Attempt) -> bool:
    return attempt.rung is Rung.MAIN


def out_of_scope(failure: Failure, scope: Scope) -> bool:
    """Tell whether a failure names files and a mend may write none of them.

    Tests do not count where tests judge: a failing test always names itself.
    """
    judging = scope.nature == "test"
    named = [path for path in failure.files if not (judging and is_test(path))]
    return bool(named) and not any(map(scope.allows, named))


def ending(result: CommandResult) -> str:
    """Say how a command ended, in two or three words; or what was kept from it."""
    if result.denial is not None:
        return f"the sandbox kept from it: {result.denial.what}"
    if result.timed_out:
        return f"timed out after {result.seconds:.0f} s"
    return "passed" if result.passed else f"exit {result.exit_code}"
