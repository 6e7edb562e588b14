"""The one loop: takes the steps in order, lets each act, and records what came of it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

import anyio

from runner.engine.commands import Shell, read_outputs
from runner.engine.jobs import job_of
from runner.engine.ladder import Climb
from runner.engine.names import GitView, Names, asks_git, untrusted_inputs
from runner.engine.state import CUT_OFF, Halted, shown_id
from runner.errors import JournalError, RunnerError
from runner.events import StepFinished, StepStarted
from runner.expressions import render
from runner.frozen import frozen
from runner.globs import matches
from runner.loader import resolve_inputs
from runner.outcome import Status, StepOutcome
from runner.plan import Commit, Prompt, Push, Run, Uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.engine.lock import Lock
    from runner.engine.state import Run as RunState
    from runner.plan import Step

MET = frozenset({Status.SUCCEEDED, Status.SKIPPED})
_UNMET = "if: "
"""Before the condition that did not hold, in the reason of a step that was skipped for it."""


@frozen
class Graph:
    """The steps of one workflow file inside a run."""

    run: RunState
    steps: Sequence[Step]
    inputs: Mapping[str, object]
    slots: anyio.CapacityLimiter
    lock: Lock
    prefix: str = ""
    untrusted: frozenset[str] = frozenset()
    """Names of the inputs that are data, not instructions."""
    outer: tuple[Graph, Step] | None = None
    """The graph whose `uses` step this one is."""

    async def go(self) -> dict[str, StepOutcome]:
        """Run every step when its needs are settled; return the outcomes by plain id."""
        done: dict[str, StepOutcome] = {}
        try:
            if self.run.kept:
                await self._keep(done)
            await self._follow([step for step in self.steps if step.id not in done], done)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._close(done)
            raise
        return done

    async def _follow(self, steps: Sequence[Step], done: dict[str, StepOutcome]) -> None:
        settled = {step.id: anyio.Event() for step in steps}

        async def follow(step: Step) -> None:
            for need in step.needs:
                if need in settled:
                    await settled[need].wait()
            done[step.id] = await self._turn(step, done)
            settled[step.id].set()

        async with anyio.create_task_group() as group:
            for step in steps:
                group.start_soon(follow, step)

    async def _keep(self, done: dict[str, StepOutcome]) -> None:
        """Take over how steps ended in earlier lives: those whose needs are taken over, too."""
        left, before = list(self.steps), -1
        while len(left) != before:
            before, waiting = len(left), list["Step"]()
            for step in left:
                known = shown_id(self.prefix, step) in self.run.kept
                if known and all(need in done for need in step.needs):
                    await self._keep_one(step, done)
                else:
                    waiting.append(step)
            left = waiting

    async def _keep_one(self, step: Step, done: dict[str, StepOutcome]) -> None:
        shown = shown_id(self.prefix, step)
        outcome = self.run.outcomes[shown] = done[step.id] = self.run.kept[shown]
        self._fail_fast(step, outcome)
        if outcome.reason.startswith(_UNMET) and step.condition and step.condition.else_stop:
            self._stop_by(step, shown)
        if outcome.status not in {Status.SUCCEEDED, Status.FAILED}:
            return
        # What failed may have failed for want of just these names.
        with suppress(RunnerError):
            names = (await self._names(step, done)).for_step(step)
            self._place(step, shown, names)
            if isinstance(step.kind, Run) and outcome.outputs and self.run.ports.mask:
                # The journal has them with secrets hidden; what the command wrote is still there.
                written = read_outputs(self.run, Shell(step, shown, names))
                if self.run.ports.mask.noun(written) == outcome.outputs:
                    outcome = replace(outcome, outputs=written)
                    self.run.outcomes[shown] = done[step.id] = outcome
            if isinstance(step.kind, Uses):
                await self._used(step, step.kind, shown, names, self.lock).go()

    async def _close(self, done: dict[str, StepOutcome]) -> None:
        """Cancelled: run what is to run `always` while there is time, and settle all the others."""
        if not self.run.close_by:
            self.run.close("cancelled", 130)
        last = [step for step in self.steps if step.id not in done and self._runs_always(step)]
        self._cancel((step for step in self.steps if step not in last), done)
        with anyio.CancelScope(deadline=self.run.close_by):
            await self._follow(last, done)
        self._cancel(last, done)

    def _runs_always(self, step: Step) -> bool:
        """Tell whether a step may still run: a command that was not interrupted itself."""
        begun = shown_id(self.prefix, step) in self.run.ran
        return step.when == "always" and isinstance(step.kind, Run) and not begun

    def _cancel(self, steps: Iterable[Step], done: dict[str, StepOutcome]) -> None:
        for step in steps:
            shown = shown_id(self.prefix, step)
            if shown not in self.run.outcomes:
                self._record(step, StepOutcome(shown, Status.CANCELLED, reason=self.run.stop))
            done[step.id] = self.run.outcomes[shown]

    async def _turn(self, step: Step, done: Mapping[str, StepOutcome]) -> StepOutcome:
        """Decide whether the step runs at all, run it, record it."""
        shown = shown_id(self.prefix, step)
        if shown == self.run.reserved:
            # Nobody else moves the tree before it does: it must wait for nobody's slot either.
            try:
                outcome = await self._attempt(step, shown, done)
            finally:
                self.run.lock.give_up()
            self._record(step, outcome)
            return outcome
        outcome = self._without_running(step, shown, done)
        if outcome is None:
            if isinstance(step.kind, Uses):
                # Its own steps take the slots.
                outcome = await self._attempt(step, shown, done)
            else:
                began = time.monotonic()
                async with self.slots:
                    self.run.waited(shown, "slot", began)
                    outcome = self._without_running(step, shown, done) or await self._attempt(
                        step, shown, done
                    )
        self._record(step, outcome)
        return outcome

    def _without_running(
        self, step: Step, shown: str, done: Mapping[str, StepOutcome]
    ) -> StepOutcome | None:
        unmet = [need for need in step.needs if not self._met(need, done[need])]
        # Without provider or money an agent that is to run `always` has nobody to ask.
        lost = self.run.stop_code in CUT_OFF and not isinstance(step.kind, Run | Uses)
        if self.run.stop and (lost or step.when != "always"):
            status = Status.CANCELLED if self.run.stop_code else Status.SKIPPED
            return StepOutcome(shown, status, reason=self.run.stop)
        if step.when == "success" and unmet:
            return StepOutcome(shown, Status.BLOCKED, reason=f"needs {', '.join(unmet)}")
        if step.when == "failure" and not unmet:
            return StepOutcome(shown, Status.SKIPPED, reason="nothing it needs failed")
        return None

    def _met(self, need: str, outcome: StepOutcome) -> bool:
        if outcome.status is Status.FAILED:
            return any(other.id == need and other.allow_failure for other in self.steps)
        return outcome.status in MET

    async def _attempt(
        self, step: Step, shown: str, done: Mapping[str, StepOutcome]
    ) -> StepOutcome:
        """Run the step if its condition holds; an error of the step's own making is its failure."""
        began = time.monotonic()
        try:
            names = (await self._names(step, done)).for_step(step)
            continued = shown in self.run.flights
            held = continued or step.condition is None
            if step.condition is not None and not (held or names.holds(step.condition.source)):
                if step.condition.else_stop:
                    self._stop_by(step, shown)
                return StepOutcome(shown, Status.SKIPPED, reason=_UNMET + step.condition.source)
            self.run.ports.emit(StepStarted(shown, continued=continued))
            return await self.run_step(step, shown, names, self.lock)
        except JournalError:
            # What is not written down must not be acted on: the whole run ends.
            raise
        except Halted:
            seconds = time.monotonic() - began
            return StepOutcome(shown, Status.CANCELLED, reason=self.run.stop, seconds=seconds)
        except RunnerError as error:
            return StepOutcome(
                shown,
                Status.FAILED,
                reason=error.message,
                seconds=time.monotonic() - began,
                exit_code=error.exit_code if error.exit_code != 2 else 1,
                hint=error.hint,
            )
        except anyio.get_cancelled_exc_class():
            seconds = time.monotonic() - began
            why = self.run.stop or "cancelled"
            self._record(step, StepOutcome(shown, Status.CANCELLED, reason=why, seconds=seconds))
            raise

    async def run_step(self, step: Step, shown: str, names: Names, lock: Lock) -> StepOutcome:
        """The one door: declared steps and delegated ones both pass here."""
        self._place(step, shown, names)
        match step.kind:
            case Run():
                job = job_of(self.run, step, shown, names)
                if self.run.close_by:
                    job = replace(
                        job, autofix=None, fix=None, escalate=None, unmended="the run is ending"
                    )
                flight = self.run.flights.pop(shown, None)
                outcome = await Climb(self.run, job, lock, flight=flight).go()
                return self._with_outputs(outcome, Shell(step, shown, names))
            # Each kind of step brings its own imports: a run of commands alone pays for none.
            case Prompt():
                from runner.engine.prompt import Asked  # noqa: PLC0415

                return await Asked(self.run, step, shown, names).go(lock)
            case Commit():
                from runner.engine.commit import Committing  # noqa: PLC0415

                return await Committing(self, step, shown, names).go(lock)
            case Push():
                from runner.engine.push import Pushing  # noqa: PLC0415

                return await Pushing(self, step, shown, names).go(lock)
            case Uses():
                inner = await self._used(step, step.kind, shown, names, lock).go()
                return summed(shown, step.kind.workflow.steps, inner)
            case _:
                assert_never(step.kind)

    def _place(self, step: Step, shown: str, names: Names) -> None:
        """Remember a step that runs, or ran, with where it stands and what it sees."""
        self.run.ran[shown] = (step, names)
        self.run.callers[shown] = self
        # By identity: comparing a step with all others costs more than running it.
        index = next((at for at, one in enumerate(self.steps) if one is step), 0)
        self.run.places[shown] = (*self.run.place(self.prefix), index)

    def _used(self, step: Step, uses: Uses, shown: str, names: Names, lock: Lock) -> Graph:
        """Return the graph of a used workflow's steps."""
        given = {name: _rendered(value, names) for name, value in uses.inputs.items()}
        return replace(
            self,
            steps=uses.workflow.steps,
            inputs=resolve_inputs(uses.workflow, given, None),
            lock=lock,
            prefix=shown,
            untrusted=untrusted_inputs(uses.workflow) | names.tainted(uses.inputs),
            outer=(self, step),
        )

    def _stop_by(self, step: Step, shown: str) -> None:
        assert step.condition is not None
        self.run.halt(f"step {shown!r} stopped the run: {step.condition.source}")

    async def _names(self, step: Step, done: Mapping[str, StepOutcome]) -> Names:
        git = await self._git_view() if asks_git(step) else GitView()
        return Names(
            self.inputs, self.run.ports.run_id, dict(done), {}, git, untrusted=self.untrusted
        )

    async def _git_view(self) -> GitView:
        repo = self.run.ports.repo
        if repo is None:
            return GitView()
        dirty = await repo.status()
        paths = (*dirty.changed, *dirty.untracked)

        def changed(glob: str) -> bool:
            return any(matches(glob, path) for path in paths)

        return GitView(repo.facts.branch, bool(dirty), changed)

    def _with_outputs(self, outcome: StepOutcome, shell: Shell) -> StepOutcome:
        if outcome.status is not Status.SUCCEEDED:
            return outcome
        try:
            return replace(outcome, outputs=read_outputs(self.run, shell))
        except RunnerError as error:
            return replace(
                outcome, status=Status.FAILED, reason=error.message, hint=error.hint, exit_code=1
            )

    def _record(self, step: Step, outcome: StepOutcome) -> None:
        self.run.outcomes[outcome.id] = outcome
        self.run.ports.emit(StepFinished(outcome))
        self._fail_fast(step, outcome)

    def _fail_fast(self, step: Step, outcome: StepOutcome) -> None:
        failed = outcome.status is Status.FAILED and not step.allow_failure
        if failed and self.run.ports.options.fail_fast:
            self.run.halt(f"step {outcome.id!r} failed (--fail-fast)", 1)


def summed(shown: str, steps: Iterable[Step], inner: Mapping[str, StepOutcome]) -> StepOutcome:
    """Sum up the steps of a used workflow as one outcome; the costs stay with the steps."""
    lenient = {step.id for step in steps if step.allow_failure}
    bad = [
        outcome
        for name, outcome in inner.items()
        if outcome.status not in MET and not (name in lenient and outcome.status is Status.FAILED)
    ]
    # First what was cut off for want of money or of a provider: then so was the whole.
    first = next((one for one in bad if one.exit_code in CUT_OFF), next(iter(bad), None))
    return StepOutcome(
        shown,
        first.status if first else Status.SUCCEEDED,
        reason=f"step {first.id!r}: {first.reason}" if first else "",
        exit_code=first.exit_code if first else 0,
        verified=all(o.verified for o in inner.values() if o.status is Status.SUCCEEDED),
        seconds=sum(outcome.seconds for outcome in inner.values()),
    )


def _rendered(value: str | float | bool, names: Names) -> str | float | bool:  # noqa: FBT001  a value, no flag
    return render(value, names.look_up) if isinstance(value, str) else value
