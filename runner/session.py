"""One run from its first to its last event: opens the tree, runs the graph, says how it ended."""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from runner.engine.graph import Graph
from runner.engine.names import asks_git, untrusted_inputs
from runner.engine.state import Ports, Run, all_steps
from runner.engine.stopping import watch_signals, watch_time
from runner.events import (
    CommandOutput,
    Notice,
    RunFinished,
    RunResumed,
    RunStarted,
    StartSeen,
    StepFinished,
    TimedSink,
)
from runner.frozen import frozen
from runner.modelside import ModelSide
from runner.outcome import Status, StepOutcome
from runner.plan import HOST
from runner.prepare import known_secrets, plan_of
from runner.report import Tally, exit_code
from runner.telemetry.carrier import carrier_of
from runner.telemetry.file import NAME as TRACE_FILE
from runner.telemetry.file import TraceFile
from runner.workspace.commands import run_command
from runner.workspace.masking import Mask
from runner.workspace.processes import end_strays

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AsyncExitStack
    from pathlib import Path

    from runner.engine.state import RunCommand
    from runner.events import Event, Sink
    from runner.git import Repository, StartState
    from runner.journal import Journal, Record
    from runner.plan import ResumeOptions
    from runner.policy import Policy
    from runner.prepare import Prepared
    from runner.recorded import Recorded
    from runner.report import Report
    from runner.workspace.tree import Tree


@frozen
class Resumed:
    """What a run goes on from."""

    recorded: Recorded
    wishes: ResumeOptions
    past: Sequence[Record]
    """All that the journal has, read once: a long run's takes longer than anything else here."""
    left: int = 0
    """Processes that the run had left, and that worked until they were ended just now."""


async def open_tree(prepared: Prepared) -> Tree:
    """Open the work tree for snapshots."""
    # A run that hashes nothing does not pay for this import.
    from runner.workspace.tree import Tree  # noqa: PLC0415

    return await Tree.open(prepared.root, prepared.state)


async def open_repository(prepared: Prepared) -> Repository | None:
    """Open the repository around the work tree; `None` where there is none."""
    # A run that does not look at git does not pay for this import.
    from runner.git import Repository  # noqa: PLC0415
    from runner.secretscan import Scanner  # noqa: PLC0415

    return await Repository.open(
        prepared.root,
        state=prepared.state,
        filters=prepared.config.filters,
        protected=prepared.config.protected_branches,
        scanner=Scanner(known_secrets(prepared), prepared.config.allow_secrets),
    )


@frozen(kw_only=True)
class Outside:
    """How a run reaches what is outside of this program: the real things, unless told otherwise."""

    run_command: RunCommand = run_command
    open_tree: Callable[[Prepared], Awaitable[Tree]] = open_tree
    open_repository: Callable[[Prepared], Awaitable[Repository | None]] = open_repository


class Session:
    """One run between its first and its last event."""

    def __init__(
        self,
        prepared: Prepared,
        journal: Journal,
        run_id: str,
        sinks: Sequence[Sink],
        policy: Policy,
        resumed: Resumed | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.prepared, self.journal, self.run_id = prepared, journal, run_id
        self.outside = outside or Outside()
        self.sinks, self.policy = [*sinks], policy
        self.mask = Mask(known_secrets(prepared))
        self.tally = Tally()
        self.resumed = resumed
        self.began = time.monotonic() - (resumed.recorded.seconds if resumed else 0.0)
        self.epoch = time.time() - time.monotonic()
        """When the monotonic clock was 0, by the clock of the beginning: one that is set meanwhile
        must neither use up nor give back the run's time."""
        self.run_dir = prepared.state / "runs" / run_id
        self.life = resumed.recorded.lives + 1 if resumed else 1
        self.carrier = carrier_of(prepared.environ, run_id, self.life)
        self.model_side = ModelSide(
            prepared,
            journal,
            run_id,
            self.emit,
            self.sinks,
            mask=self.mask,
            recorded=resumed.recorded if resumed else None,
        )
        self._late: Tree | None = None

    def emit(self, event: Event) -> None:
        """Journal an event, then tell everybody."""
        if self.mask:
            event = self.mask.noun(event)
        at = self.epoch + time.monotonic()
        if not isinstance(event, CommandOutput):
            self.journal.append(self.run_id, event, at=at)
            self.tally.add(event)
        for sink in self.sinks:
            if isinstance(sink, TimedSink):
                sink.hear(event, at)
            else:
                sink(event)

    async def go(self, stack: AsyncExitStack, *, handle_signals: bool) -> Report:
        """Run the graph under the time budget and the signals, then say how it ended."""
        prepared = self.prepared
        for name in ("logs", "outputs"):
            (self.run_dir / name).mkdir(parents=True, mode=0o700, exist_ok=True)
        tree, repo = await self._open()
        if tree is not None:
            stack.callback(tree.close)
        stack.push_async_callback(self.model_side.aclose)
        ports = Ports(
            run_id=self.run_id,
            workflow=prepared.workflow,
            options=prepared.options,
            root=prepared.root,
            run_dir=self.run_dir,
            emit=self.emit,
            tree=tree,
            late_tree=lambda: self._late_tree(stack),
            repo=repo,
            start=await self._start_state(repo),
            agents=prepared.agents,
            choices=prepared.choices,
            inputs=prepared.inputs,
            secrets=prepared.secrets,
            mask=self.mask,
            environ=prepared.environ,
            carrier=self.carrier,
            workers=lambda: self.model_side.workers(run),
            policy=self.policy,
            outlook=lambda kind, roles, irreversible: self.model_side.outlook(
                run, kind, roles, irreversible
            ),
            shell=prepared.grants.shell or prepared.contains_agents,
            network=prepared.grants.network,
            sandbox=prepared.sandbox,
            run_command=self.outside.run_command,
        )
        run = Run(ports)
        if self.carrier.on:
            self._write_trace(stack)
        if self.resumed is not None:
            self._tell_past()
        await self._begin(run, repo)
        async with anyio.create_task_group() as watchers:
            try:
                with anyio.CancelScope() as work:
                    if handle_signals:
                        watchers.start_soon(watch_signals, run, work)
                    if prepared.budget.seconds is not None:
                        left = prepared.budget.seconds - (time.monotonic() - self.began)
                        watchers.start_soon(watch_time, run, work, left, prepared.budget.seconds)
                    async with self.model_side.beside():
                        await self._work(run)
            except anyio.get_cancelled_exc_class():
                # Not told by us, but by the program that this is a part of.
                run.signal = run.signal or signal.SIGINT
                await self._finish(run)
                raise
            await self._finish(run)
            if handle_signals and run.signal is not None:
                # What a server beside us was made to start: a local remote's hooks, say.
                end_strays()
            watchers.cancel_scope.cancel()
        return self.tally.report()

    async def _work(self, run: Run) -> None:
        """Take the first snapshot and run the graph."""
        prepared, ports = self.prepared, run.ports
        if not run.start_tree:
            run.start_tree = await run.snapshot("", "start")
        for note in _notes(ports.tree, ports.repo if prepared.ships else None):
            run.say(note)
        jobs = prepared.options.jobs or os.cpu_count() or 1
        slots = anyio.CapacityLimiter(jobs)
        untrusted = untrusted_inputs(prepared.workflow)
        graph = Graph(run, prepared.steps, prepared.inputs, slots, run.lock, untrusted=untrusted)
        await graph.go()

    def _write_trace(self, stack: AsyncExitStack) -> None:
        """Write the trace beside the journal; what earlier lives did is written anew."""
        prepared = self.prepared
        trace = TraceFile(
            self.run_dir / TRACE_FILE,
            prepared.environ,
            lambda text: self.emit(Notice(text)),
            content=prepared.options.trace_content,
        )
        self.sinks.append(trace)
        stack.callback(trace.close)

    def _tell_past(self) -> None:
        """Tell sinks that count or fold all events what earlier lives of the run did."""
        assert self.resumed is not None
        for sink in self.sinks:
            if isinstance(sink, TimedSink):
                sink.continued((one.event, one.at) for one in self.resumed.past)

    async def _begin(self, run: Run, repo: Repository | None) -> None:
        """Write the first event of this process, and what a later one needs to know."""
        resumed = self.resumed
        if resumed is None:
            self.emit(self._started(repo))
            if self.prepared.sandbox and (warning := self.prepared.sandbox.held.warning):
                self.emit(Notice(warning))
        else:
            from runner.engine.rejoin import Rejoin  # noqa: PLC0415  few runs are resumed

            for record in resumed.past:
                self.tally.add(record.event)
            steps = self.prepared.steps
            rejoin = Rejoin(run, resumed.recorded, steps, resumed.wishes, resumed.left)
            await rejoin.look()
            self.emit(
                RunResumed(
                    self.life,
                    time.time(),
                    rejoin.external,
                    self.carrier.trace_parent,
                    self.carrier.trace_state,
                )
            )
            self.model_side.book_lost()
            await rejoin.join()
            rejoin.tell()
        start = run.ports.start
        if start is not None and (resumed is None or resumed.recorded.seen is None):
            fields = (start.changed, start.untracked, start.staged_whole)
            self.emit(StartSeen(*(tuple(sorted(paths)) for paths in fields)))

    async def _start_state(self, repo: Repository | None) -> StartState | None:
        """Return what git called changed when the run began."""
        if repo is None or not self.prepared.ships:
            return None
        seen = self.resumed.recorded.seen if self.resumed else None
        if seen is None:
            return await repo.start_state()
        from runner.git import StartState  # noqa: PLC0415  as in `open_repository`

        return StartState(
            frozenset(seen.changed), frozenset(seen.untracked), frozenset(seen.staged_whole)
        )

    async def _open(self) -> tuple[Tree | None, Repository | None]:
        """Open the tree and the repository where this run needs them."""
        prepared = self.prepared
        if not prepared.hashes and not any(map(asks_git, prepared.steps)):
            return None, None
        repo = await self.outside.open_repository(prepared)
        if not prepared.hashes:
            return None, repo
        return await self.outside.open_tree(prepared), repo

    async def _late_tree(self, stack: AsyncExitStack) -> Tree:
        """Open the tree of a run that hashes nothing, for an autofix is about to change it."""
        if self._late is None:
            self._late = await self.outside.open_tree(self.prepared)
            stack.callback(self._late.close)
        return self._late

    def _started(self, repo: Repository | None) -> RunStarted:
        prepared = self.prepared
        return RunStarted(
            run_id=self.run_id,
            workflow=prepared.workflow.name,
            file=str(prepared.workflow.file or ""),
            root=str(prepared.root),
            state_dir=str(self.run_dir),
            models={
                role: choice.id
                for role, choice in prepared.choices.items()
                if choice.available and choice.id != HOST
            },
            budget_usd=prepared.budget.usd,
            budget_seconds=prepared.budget.seconds,
            budget_given=prepared.workflow.budget_given or prepared.options.budget_usd is not None,
            budget_tokens=prepared.budget.tokens,
            budget_default=prepared.defaults,
            scripted=prepared.scripted and not prepared.options.no_models,
            replayed=prepared.options.replay is not None,
            sandbox=prepared.sandbox.held.words if prepared.sandbox else "off",
            git_before=repo.facts.head if repo else "",
            branch=repo.facts.branch if repo else "",
            steps=tuple(plan_of(step) for step in prepared.steps),
            started_at=time.time(),
            may_fail=tuple(shown for shown, _, may_fail in all_steps(prepared.steps) if may_fail),
            trace_parent=self.carrier.trace_parent,
            trace_state=self.carrier.trace_state,
            trace_file=str(self.run_dir / TRACE_FILE) if self.carrier.on else "",
        )

    async def _finish(self, run: Run) -> None:
        """Settle what never began, keep what was not committed, write the last event."""
        for step in self.prepared.steps:
            if step.id not in run.outcomes:
                outcome = StepOutcome(step.id, Status.CANCELLED, reason=run.stop)
                run.outcomes[step.id] = outcome
                self.emit(StepFinished(outcome))
        left: tuple[str, ...] = ()
        with anyio.CancelScope(shield=True):
            left = await self._uncommitted(run)
        lenient = {shown for shown, _, may_fail in all_steps(self.prepared.steps) if may_fail}
        code = exit_code(
            (o for o in run.outcomes.values() if o.id not in lenient),
            interrupted=run.signal,
            run_codes=(run.stop_code,),
            uncommitted=left,
            allow_uncommitted=self.prepared.options.allow_uncommitted,
        )
        ended = "failed" if run.signal is None else "cancelled"
        status = "succeeded" if code in (0, 7) else ended
        repo = run.ports.repo
        self.model_side.remember()
        otherwise = self.model_side.baseline()
        self.emit(
            RunFinished(
                exit_code=code,
                status=status,
                seconds=time.monotonic() - self.began,
                git_after=run.committed or (repo.facts.head if repo else ""),
                branch=repo.facts.branch if repo else "",
                remote_ref=run.remote_ref,
                uncommitted=left,
                inline_usd=otherwise.inline_usd,
                switch_usd=otherwise.switch_usd,
                **self.model_side.lacked(run, code),
            )
        )
        config, runs = self.prepared.config, self.prepared.state / "runs"
        forgotten = self.journal.prune(
            config.keep_runs,
            days=config.keep_days,
            most=config.keep_size * 1_000_000 if config.keep_size is not None else None,
            size=lambda run_id: _size(runs / run_id),
        )
        for run_id in forgotten:
            shutil.rmtree(runs / run_id, ignore_errors=True)

    async def _uncommitted(self, run: Run) -> tuple[str, ...]:
        """Return what autofix and mends changed and no commit took up; keep it as a patch."""
        tree = run.ports.tree or self._late
        if tree is None and run.mended:
            tree = await run.ports.late_tree()  # an autofix of an earlier life is in the tree
        if tree is None or not run.start_tree:
            return ()
        end = await run.snapshot_of(tree, "", "end")
        changed = {change.path for change in await tree.changes(run.start_tree, end)}
        left = tuple(sorted(run.mended & changed))
        if left and run.ports.repo is not None:
            # A mend that led back to what HEAD holds leaves nothing to commit.
            dirty = await run.ports.repo.status()
            left = tuple(path for path in left if path in {*dirty.changed, *dirty.untracked})
        if left:
            patch = await tree.diff(run.start_tree, end)
            (self.run_dir / "uncommitted.patch").write_text(patch, "utf-8", "surrogateescape")
        return left


def _size(directory: Path) -> int:
    """Return the bytes of all files below a directory."""
    found = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with suppress(OSError):
                found += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118  speed
    return found


def _notes(tree: Tree | None, repo: Repository | None) -> tuple[str, ...]:
    """Return what a person should know of the tree and of commits in this repository."""
    return (*(tree.notes if tree else ()), *(repo.facts.notes if repo else ()))
