"""Keeps the passes true that a commit stands on: which checks are stale, and running them again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner.engine.commands import Shell
from runner.engine.jobs import invoker, job_of, judges
from runner.engine.ladder import Climb
from runner.engine.lock import Held
from runner.engine.roles import changed_paths
from runner.engine.state import Pass, all_steps, shown_id
from runner.errors import GitRefused
from runner.frozen import frozen
from runner.globs import matches_any
from runner.outcome import Attempt, Status, StepOutcome, add_cost
from runner.plan import Uses

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from runner.engine.graph import Graph
    from runner.engine.ladder import Job
    from runner.engine.names import Names
    from runner.flight import Flight
    from runner.git import Repository
    from runner.plan import Step

ROUNDS = 5
"""How often stale checks and hooks may go round before a commit gives up."""


@frozen
class Check:
    """A judging step that a commit depends on."""

    shown: str
    step: Step
    names: Names


@dataclass(slots=True)
class Shipping:
    """What committing and pushing share: the repository, the checks, the way up the ladder."""

    graph: Graph
    step: Step
    shown: str
    names: Names
    attempts: list[Attempt] = field(default_factory=list["Attempt"])
    begun: int = 0
    """Attempts begun so far: the number of the last one."""
    flight: Flight | None = None
    """Where an earlier life of the run was cut off in this step."""
    started: float = field(default_factory=time.monotonic)

    def take_up(self) -> Flight | None:
        """Take over what an earlier life of the run did of this step."""
        self.flight = flight = self.graph.run.flights.pop(self.shown, None)
        if flight is not None:
            self.attempts, self.begun = [*flight.earlier, *flight.attempts], flight.numbers
        return flight

    def cut_off(self, job: str) -> Flight | None:
        """Return where an earlier life was cut off in the job of that key; once."""
        flight = self.flight
        if flight is None or flight.job != job:
            return None
        self.attempts, self.flight = [*flight.earlier], flight.without_job()
        return flight

    def repo(self) -> Repository:
        """Return the repository.

        Raises:
            GitRefused: There is none.
        """
        repo = self.graph.run.ports.repo
        if repo is None:
            root = self.graph.run.ports.root
            raise GitRefused(
                f"{root} is no git repository: nothing can be committed or pushed",
                hint="Run `git init` there first, or take the step out of the workflow.",
            )
        return repo

    def checks(self) -> list[Check]:
        """Return every judging step that this step needs, transitively, and that passed.

        A step of a used workflow needs what the `uses` step needs, too.
        """
        run, wanted = self.graph.run, self._wanted()
        return [
            Check(shown, step, names)
            for shown, (step, names) in run.ran.items()
            if judges(step)
            and shown in run.outcomes
            and run.outcomes[shown].status is Status.SUCCEEDED
            and _belongs(shown, wanted)
        ]

    def unpassed(self) -> StepOutcome | None:
        """Refuse to go on where such a step did not pass, whatever `when` says of this one."""
        run, wanted = self.graph.run, self._wanted()
        bad = [
            shown
            for shown, step, lenient in all_steps(run.ports.workflow.steps)
            if (judges(step) or isinstance(step.kind, Uses))
            and not lenient
            and (_belongs(shown, wanted) or f"{shown}/" in wanted)
            and shown in run.outcomes
            and run.outcomes[shown].status not in {Status.SUCCEEDED, Status.SKIPPED}
        ]
        if not bad:
            return None
        return self.end(
            Status.FAILED,
            f"needs a pass of {', '.join(bad)}",
            hint="Only what passed is committed. `allow_failure` lets a step count all the same.",
        )

    def _wanted(self) -> set[str]:
        """Return the shown ids of what this step needs; those of `uses` steps end with a slash."""
        wanted: set[str] = set()
        place: tuple[Graph, Step] | None = (self.graph, self.step)
        while place is not None:
            graph, step = place
            wanted.update(_needed(graph, step))
            place = graph.outer
        return wanted

    async def stale(self, checks: Sequence[Check], now: str) -> list[Check]:
        """Return the checks whose pass was seen on a tree that differs where it counts."""
        run = self.graph.run
        seen = {check.shown: run.passes.get(check.shown, Pass("")).tree for check in checks}
        old = [check for check in checks if await self._moved(check, seen[check.shown], now)]
        for check in checks:
            tree = seen[check.shown]
            if check not in old and tree != now and await self._uncovered(checks, tree, now):
                old.append(check)
        return old

    async def _moved(self, check: Check, seen: str, now: str) -> bool:
        """Tell whether the sources of a check are not what they were when it passed."""
        tree, sources = self.graph.run.ports.tree, check.step.sources
        if seen == now and seen:
            return False
        if tree is None or sources is None or not seen:
            return True
        return await tree.subset(seen, sources) != await tree.subset(now, sources)

    async def _uncovered(self, checks: Sequence[Check], seen: str, now: str) -> bool:
        """Tell whether a file changed that no check's `sources` covers: that makes all stale."""
        globs = tuple(glob for check in checks for glob in check.step.sources or ("**",))
        changed = await changed_paths(self.graph.run, seen, now)
        return any(not matches_any(globs, path) for path in changed)

    async def renew(
        self, checks: Sequence[Check], *, mends: bool = True
    ) -> tuple[StepOutcome | None, str]:
        """Run stale checks until all hold on one tree; return what failed, or that tree."""
        run = self.graph.run
        for check in checks:
            # First of all: until it has ended, the tree is in the middle of a mend.
            if (flight := self.cut_off(check.shown)) is not None:
                failed = await self._renew(check, flight, mends=mends)
                if failed is not None:
                    return failed, ""
        for _ in range(ROUNDS):
            now = await run.snapshot(self.shown, "before checks")
            old = await self.stale(checks, now)
            if not old:
                return None, now
            for check in old:
                failed = await self._renew(check, None, mends=mends)
                if failed is not None:
                    return failed, ""
        return self.end(
            Status.FAILED,
            f"the checks did not hold on one tree in {ROUNDS} rounds: a command changes files",
            hint="See which with `git status`; ignore those files, or give the checks `sources`.",
        ), ""

    async def _renew(
        self, check: Check, flight: Flight | None, *, mends: bool
    ) -> StepOutcome | None:
        """Run a stale check again, or go on with that; return what failed."""
        job = job_of(self.graph.run, check.step, check.shown, check.names, "stale")
        job = replace(job, shown=self.shown, key=check.shown)
        if not mends:
            job = replace(job, autofix=None, fix=None, escalate=None)
        return await self.climb(job, f"check {check.shown!r} fails on the tree to commit", flight)

    async def on_clean_checkout(self, checks: Sequence[Check], directory: Path) -> str:
        """Run the checks on what will be committed and nothing else; return which fails."""
        for check in checks:
            shell = Shell(check.step, self.shown, check.names, cwd=directory)
            kind = job_of(self.graph.run, check.step, check.shown, check.names)
            result = await invoker(self.graph.run, shell, kind.command)("clean")
            if not result.passed:
                return check.shown
        return ""

    async def climb(
        self, job: Job, reason: str, flight: Flight | None = None
    ) -> StepOutcome | None:
        """Take a job of this step up the ladder; `None` when it passes in the end.

        It goes on where an earlier life was cut off, where that is given.
        """
        earlier = self.begun if flight is None else flight.job_from
        climb = Climb(self.graph.run, job, Held(), earlier=earlier, flight=flight)
        outcome = await climb.go()
        self.attempts.extend(climb.attempts)
        self.begun = max(self.begun, earlier + len(climb.attempts))
        if outcome.status is Status.SUCCEEDED:
            return None
        return replace(
            outcome,
            id=self.shown,
            reason=f"{reason}: {outcome.reason}",
            attempts=tuple(self.attempts),
            cost_usd=self.cost(),
            seconds=time.monotonic() - self.started,
        )

    def cost(self) -> Decimal | None:
        """Return the money of all attempts of this step, in USD."""
        total: Decimal | None = Decimal(0)
        for attempt in self.attempts:
            total = add_cost(total, attempt.cost_usd)
        return total

    def end(
        self,
        status: Status,
        reason: str = "",
        *,
        hint: str = "",
        code: int = 1,
        outputs: Mapping[str, Any] | None = None,
    ) -> StepOutcome:
        """Return this step's outcome."""
        return StepOutcome(
            self.shown,
            status,
            rung=self.attempts[-1].rung if self.attempts else None,
            reason=reason,
            verified=status is Status.SUCCEEDED,
            seconds=time.monotonic() - self.started,
            cost_usd=self.cost(),
            outputs=outputs or {},
            attempts=tuple(self.attempts),
            exit_code=code if status is Status.FAILED else 0,
            hint=hint,
        )


def _needed(graph: Graph, step: Step) -> Iterator[str]:
    """Yield the shown ids of what a step needs within its own workflow, transitively."""
    steps = {one.id: one for one in graph.steps}
    seen: set[str] = set()
    todo = list(step.needs)
    while todo:
        need = todo.pop()
        if need not in seen:
            seen.add(need)
            todo.extend(steps[need].needs)
            # With all steps of a workflow that it uses; what a step delegated is none of them.
            uses = isinstance(steps[need].kind, Uses)
            yield shown_id(graph.prefix, steps[need]) + ("/" if uses else "")


def _belongs(shown: str, wanted: set[str]) -> bool:
    return shown in wanted or any(one.endswith("/") and shown.startswith(one) for one in wanted)
