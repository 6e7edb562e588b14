"""Runs a `prompt` step: ask the agent, look at what it wrote, let `check` or `accept` judge."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio

from runner import brief
from runner.engine import mend
from runner.engine.confining import agents_shell
from runner.engine.jobs import job_of, scope_of
from runner.engine.ladder import Climb
from runner.engine.lock import Held
from runner.engine.roles import FOULS
from runner.engine.state import MainAsk, SubagentAsk
from runner.events import AttemptFinished, AttemptStarted, Restored
from runner.expressions import as_text, render
from runner.outcome import (
    Attempt,
    Done,
    Failure,
    Fingerprint,
    Phase,
    Rung,
    Status,
    StepOutcome,
    Verdict,
    add_cost,
)
from runner.plan import MAIN, Prompt
from runner.policy import Evidence, judge
from runner.scope import violations
from runner.text import fence, one_line
from runner.tools import Permit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.engine.lock import Lock
    from runner.engine.names import Names
    from runner.engine.state import Run
    from runner.flight import Flight
    from runner.git import Guard
    from runner.outcome import Ending, Mend
    from runner.plan import Step
    from runner.scope import Scope

_NO_FAILURE = Failure(
    Fingerprint("", Phase.RUN, frozenset()), None, timed_out=False, tail="", files=()
)
WRITING_TOOLS = frozenset({"edit_file", "write_file", "shell"})


class Asked:
    """One prompt step under way."""

    def __init__(
        self, run: Run, step: Step, shown: str, names: Names, *, task: str | None = None
    ) -> None:
        """*task* stands for the step's own text, and is taken as it is."""
        assert isinstance(step.kind, Prompt)
        self.flight = run.flights.pop(shown, None)
        """Where an earlier life of the run was cut off in this step."""
        self.task = task
        self.run, self.step, self.shown, self.names = run, step, shown, names
        self.kind = step.kind
        self.agent = None if self.kind.agent == MAIN else run.ports.agents[self.kind.agent]
        self.role = self.agent.model if self.agent else MAIN
        self.rung = Rung.SUBAGENT if self.agent else Rung.MAIN
        # What is asked for may well be tests; only mends of a failing check leave them alone.
        self.scope: Scope = scope_of(run, step, self.kind.check or "", None, nature="other")
        self.writes = (
            self.agent is None
            or self.kind.check is not None
            or bool(WRITING_TOOLS.intersection(self.agent.tools))
        )
        """Otherwise commands run beside it, and what changes is theirs."""
        self.output: Mapping[str, Any] = {}
        self.marked: dict[str, str] = {}
        self.guard: Guard | None = None
        """What `.git` was before the attempt that is under way."""
        self.attempts: list[Attempt] = []
        self.started = time.monotonic()

    async def go(self, lock: Lock) -> StepOutcome:
        """Return the step's outcome."""
        if self.run.hosted(self.role):
            # What it is to do, its user tells it.
            return self._end(Status.SKIPPED, "its agent is the one that called this run", code=0)
        if not self.run.available(self.role):
            hint = self.run.missing([self.role])
            return self._end(Status.FAILED, f"no model for role {self.role!r}", hint=hint)
        run = self.run
        in_tree = self.flight is not None and bool(self.flight.prompt_from)
        async with (
            run.alone(lock, self.shown, in_tree=in_tree)
            if self.writes
            else run.sharing(lock, self.shown)
        ):
            outcome = await self._ask_and_look()
            if outcome is not None:
                return outcome
            accept = self.kind.accept
            if accept and not replace(self.names, output=self.output).holds(accept):
                return self._end(Status.FAILED, f"not accepted: {accept}")
            if self.kind.check is not None:
                return await self._check()
        return self._end(Status.SUCCEEDED, "", verified=bool(accept))

    async def _ask_and_look(self) -> StepOutcome | None:
        """Ask, and undo what was not allowed; `None` when the work stands."""
        text, flight = self._text(), self.flight
        if flight is not None and flight.attempts:
            return self._answered(flight)
        self.flight = None
        if flight is not None and flight.prompt_from:
            before, self.marked = flight.prompt_from, dict(flight.marked)
        else:
            before = await self.run.snapshot(self.shown, "before prompt")
            self.marked = dict(self.run.marks.blobs)
        try:
            tried = await self._once(text, before)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._undo(before)
            raise
        if tried.attempt.verdict is Verdict.PASSED:
            return None
        await self._undo(before)
        return self._stopped(tried)

    def _answered(self, flight: Flight) -> StepOutcome | None:
        """Take over what the agent did in an earlier life; what was not allowed has been undone."""
        first, *_ = flight.attempts
        self.attempts, self.output = [first], flight.outputs
        if first.verdict is Verdict.PASSED:
            return None
        return self._stopped(mend.Tried(first))

    async def _once(self, text: str, before: str) -> mend.Tried:
        run, began, number = self.run, time.monotonic(), len(self.attempts) + 1
        repo = run.ports.repo
        model = run.ports.choices[self.role].id
        run.ports.emit(
            AttemptStarted(self.shown, number, self.rung, model, self.kind.agent, self.role)
        )
        # Without a free shell no tool reaches git: a commit that is made meanwhile is the user's.
        loose = run.ports.shell and self.writes and not run.confined
        self.guard = await repo.guard() if repo and loose else None
        asked = await self._ask(text, number)
        tampering = await self._undo_git()
        after = await run.snapshot(self.shown, f"after attempt {number}")
        if self.writes and run.shell_wrote():
            await run.took(before, after)
        changes, _ = await run.told_apart(before, after) if self.writes else ((), frozenset[str]())
        verdict, reason = self._judge(asked.ending, violations(self.scope, changes), tampering)
        attempt = Attempt(
            number,
            self.rung,
            model,
            verdict,
            one_line(reason, 300),
            requests=asked.usage.requests,
            cost_usd=asked.cost,
            seconds=time.monotonic() - began,
            files=tuple(sorted(change.path for change in changes)),
            summary=one_line(mend.said(asked.ending), 300),
        )
        self.attempts.append(attempt)
        if isinstance(asked.ending, Done):
            self.output = asked.ending.outputs
        run.ports.emit(AttemptFinished(self.shown, attempt, self.output))
        return mend.Tried(attempt, stop=mend.stop_code(asked.ending), ending=asked.ending)

    def _judge(
        self, ending: Ending, foul: tuple[str, ...], tampering: tuple[str, ...]
    ) -> tuple[Verdict, str]:
        """Scope and git first; then the agent's own ending, for nothing else judges yet."""
        evidence = Evidence(
            ending, changed=True, before=_NO_FAILURE, after=None, passed=False,
            violations=foul, tampering=tampering,
        )  # fmt: skip
        if isinstance(ending, Done) and not foul and not tampering:
            return Verdict.PASSED, "the agent says that it is done"
        judged = judge(evidence)
        return judged.verdict, judged.reason

    async def _ask(self, text: str, number: int) -> Mend:
        workers = await self.run.ports.workers()
        permit = Permit(
            root=self.run.ports.root,
            allows=self.scope.allows,
            why_not=self.scope.reason,
            wrote=self.run.wrote,
            keeps=self.run.keep_others,
            settled=(lambda: self.run.settled(self.shown)) if self.writes else None,
            shell=self.run.ports.shell,
            confine=agents_shell(self.run, self.scope),
            environment=mend.agent_environment(self.run),
            traced=lambda call: self.run.ports.carrier.tool(self.shown, number, call),
            turns=self.agent.turns if self.agent else mend.MAIN_TURNS * 2,
            seconds=self.step.timeout,
        )
        if self.agent is None:
            return await workers.main(
                MainAsk(
                    step=self.shown,
                    attempt=number,
                    text=text,
                    permit=permit,
                    outputs=self._declared(),
                )
            )
        return await workers.subagent(
            SubagentAsk(
                step=self.shown,
                attempt=number,
                agent=self.agent,
                role=self.role,
                brief=text,
                permit=permit,
                outputs=self._declared(),
            )
        )

    def _text(self) -> str:
        text = self._asked_for()
        if self.task is not None:
            # Another model wrote it.
            return brief.task_brief(text, self.scope.describe())
        if len(text.encode(errors="replace")) > brief.PROMPT_BYTES:
            self.run.say(f"the prompt is cut to {brief.PROMPT_BYTES:,} bytes", self.shown)
        return brief.task_brief(text, self.scope.describe(), limit=brief.PROMPT_BYTES)

    def _asked_for(self) -> str:
        """Render the prompt; untrusted inputs are fenced where they stand."""
        token = self.run.ports.run_id

        def look_up(path: str) -> object:
            value = self.names.look_up(path)
            if not self.names.is_untrusted(path):
                return value
            return fence(as_text(value), path, token=token)

        return self.task if self.task is not None else render(self.kind.text, look_up)

    def _declared(self) -> Mapping[str, Any]:
        return self.kind.output or (self.agent.output if self.agent else {})

    async def _check(self) -> StepOutcome:
        """Let the check judge, and mend what it finds like any failing command."""
        job = replace(job_of(self.run, self.step, self.shown, self.names), goal=self._asked_for())
        flight = self.flight
        if flight is not None and not (flight.open or flight.base or len(flight.attempts) > 1):
            flight = None  # the check had not begun
        climb = Climb(
            self.run, job, Held(), attempts=self.attempts, started=self.started, flight=flight
        )
        outcome = await climb.go()
        # A check that passes at once, or that nobody may mend, only judged what the agent did.
        rung = self.rung if outcome.rung is Rung.COMMAND else outcome.rung
        return replace(outcome, outputs=self.output, rung=rung)

    async def _undo_git(self) -> tuple[str, ...]:
        """Put `.git` back as it was when the attempt began, and say what was changed."""
        repo, guard, self.guard = self.run.ports.repo, self.guard, None
        if repo is None or guard is None:
            return ()
        tampering = await repo.tampered(guard)
        if tampering:
            await repo.undo(guard)
        return tampering

    async def _undo(self, before: str) -> None:
        try:
            await self._undo_git()
        finally:
            await self._restore(before)

    async def _restore(self, before: str) -> None:
        tree = self.run.ports.tree
        if tree is None or not self.writes:
            return
        run = self.run
        now = await run.snapshot(self.shown, "before restore")
        if run.shell_wrote():
            await run.took(before, now)
        _, others = await run.told_apart(before, now)
        back, kept = await tree.restore(now, before, keep=others)
        run.unmark(back, self.marked)
        if back or kept:
            run.ports.emit(Restored(self.shown, before, tuple(back), tuple(kept)))

    def _stopped(self, tried: mend.Tried) -> StepOutcome:
        attempt = tried.attempt
        if tried.stop:
            mend.halt(self.run, tried, self.role)
        foul = 5 if attempt.reason.startswith(FOULS) else 1
        return self._end(Status.FAILED, attempt.reason, code=tried.stop or foul)

    def _end(
        self, status: Status, reason: str, *, verified: bool = False, hint: str = "", code: int = 1
    ) -> StepOutcome:
        cost = None
        for index, attempt in enumerate(self.attempts):
            cost = attempt.cost_usd if index == 0 else add_cost(cost, attempt.cost_usd)
        outcome = StepOutcome(
            id=self.shown,
            status=status,
            rung=self.rung if self.attempts else None,
            reason=reason,
            verified=verified,
            seconds=time.monotonic() - self.started,
            outputs=self.output,
            attempts=tuple(self.attempts),
            exit_code=0 if status is Status.SUCCEEDED else code,
            hint=hint,
        )
        return replace(outcome, cost_usd=cost) if self.attempts else outcome
