"""Wires the parts of one run together: files in, events out, report back.

argv or Python → load and validate → prepare (nothing has run yet) → engine → report
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from runner.engine.graph import Graph
from runner.engine.names import asks_git
from runner.engine.state import Ports, Run, Workers
from runner.events import CommandOutput, RunFinished, RunStarted, StepFinished
from runner.journal import Journal, new_run_id
from runner.money import Purse
from runner.outcome import Status, StepOutcome
from runner.plan import Options
from runner.policy import ladder
from runner.prepare import Prepared, find_and_load, plan_of, prepare, work_tree
from runner.report import Tally, exit_code
from runner.workspace.processes import end_strays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.brief import HandoverFacts
    from runner.events import Event, Sink
    from runner.git import Repository
    from runner.plan import Workflow
    from runner.policy import Policy
    from runner.report import Report
    from runner.workspace.tree import Tree


async def execute(
    target: str | Path | Workflow | None,
    *,
    options: Options | None = None,
    cwd: Path | None = None,
    sinks: Sequence[Sink] = (),
    environ: Mapping[str, str] | None = None,
    policy: Policy = ladder,
    handle_signals: bool = False,
) -> Report:
    """Run a workflow and return its report; a failing run is a report too, not an exception.

    Args:
        target: A file, the name of a workflow, a loaded one, or `None` for the repository's own.
        options: What the caller chose.
        cwd: Directory that paths are relative to; the tree is the git work tree around it.
        sinks: Listeners to the run's events.
        environ: Stands for the process's environment.
        policy: Chooses who tries next when a command fails.
        handle_signals: Whether SIGINT, SIGTERM and SIGHUP end the run in good order: for a
            program whose main thread this is.

    Raises:
        UsageError: Nothing has run: bad workflow, input or option, or a missing grant.
        JournalError: The journal cannot be written.
    """
    cwd = (cwd or Path.cwd()).resolve()
    prepared = prepare(target, options=options or Options(), cwd=cwd, environ=environ)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal.open(prepared.state))
        run_id = new_run_id(time.time())
        journal.begin(run_id, prepared.root)
        stack.callback(journal.end, run_id)
        session = Session(prepared, journal, run_id, sinks, policy)
        return await session.go(stack, handle_signals=handle_signals)


async def run(
    workflow: str | Path | Workflow | None = None,
    *,
    inputs: Mapping[str, str | float | bool] | None = None,
    models: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    options: Options | None = None,
    sinks: Sequence[Sink] = (),
) -> Report:
    """Run a workflow inside a running event loop; several may run at once in one process.

        report = await run("workflow.yaml", inputs={"change": "..."}, cwd="repo")
        report.raise_for_status()

    Args:
        workflow: A file, the name of a workflow, a loaded one, or `None` for the repository's own.
        inputs: The workflow's inputs; they come before those of `options`.
        models: Role to model id; they come before those of `options`.
        cwd: Directory of the repository; the process's own by default.
        options: Everything else that the command line can say.
        sinks: Listeners to the run's events.

    Raises:
        UsageError: Nothing has run: bad workflow, input or option, or a missing grant.
    """
    chosen = options or Options()
    chosen = replace(
        chosen,
        inputs={**chosen.inputs, **(inputs or {})},
        models={**chosen.models, **(models or {})},
    )
    return await execute(workflow, options=chosen, cwd=Path(cwd) if cwd else None, sinks=sinks)


def run_sync(
    workflow: str | Path | Workflow | None = None,
    *,
    inputs: Mapping[str, str | float | bool] | None = None,
    models: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    options: Options | None = None,
    sinks: Sequence[Sink] = (),
) -> Report:
    """Run a workflow where no event loop is running; as `run` otherwise."""

    async def go() -> Report:
        return await run(
            workflow, inputs=inputs, models=models, cwd=cwd, options=options, sinks=sinks
        )

    return anyio.run(go)


def load(workflow: str | Path, *, cwd: str | Path | None = None) -> Workflow:
    """Read and check a workflow; nothing runs.

    Raises:
        WorkflowErrors: With every error in the file.
    """
    place = Path(cwd).resolve() if cwd else Path.cwd()
    return find_and_load(workflow, work_tree(place), place)


class Session:
    """One run between its first and its last event."""

    def __init__(
        self,
        prepared: Prepared,
        journal: Journal,
        run_id: str,
        sinks: Sequence[Sink],
        policy: Policy,
    ) -> None:
        self.prepared, self.journal, self.run_id = prepared, journal, run_id
        self.sinks, self.policy = sinks, policy
        self.tally = Tally()
        self.began = time.monotonic()
        self.interrupted: int | None = None
        self.run_dir = prepared.state / "runs" / run_id
        self._workers: Workers | None = None
        self._loading = anyio.Lock()

    def emit(self, event: Event) -> None:
        """Journal an event, then tell everybody."""
        if not isinstance(event, CommandOutput):
            self.journal.append(self.run_id, event)
            self.tally.add(event)
        for sink in self.sinks:
            sink(event)

    async def go(self, stack: AsyncExitStack, *, handle_signals: bool) -> Report:
        """Run the graph under the time budget and the signals, then say how it ended."""
        prepared = self.prepared
        for name in ("logs", "outputs"):
            (self.run_dir / name).mkdir(parents=True, mode=0o700)
        tree, repo = await self._open()
        if tree is not None:
            stack.callback(tree.close)
        ports = Ports(
            run_id=self.run_id,
            workflow=prepared.workflow,
            options=prepared.options,
            root=prepared.root,
            run_dir=self.run_dir,
            emit=self.emit,
            tree=tree,
            repo=repo,
            start=await repo.start_state() if repo and prepared.ships else None,
            agents=prepared.agents,
            choices=prepared.choices,
            inputs=prepared.inputs,
            secrets=prepared.secrets,
            environ=prepared.environ,
            workers=lambda: self._load_workers(stack, run),
            policy=self.policy,
            shell=prepared.grants.shell,
        )
        run = Run(ports)
        self.emit(self._started(repo))
        run.start_tree = await run.snapshot("", "start")
        for note in _notes(tree, repo if prepared.ships else None):
            run.say(note)
        jobs = prepared.options.jobs or os.cpu_count() or 1
        graph = Graph(run, prepared.steps, prepared.inputs, anyio.CapacityLimiter(jobs), run.lock)
        await self._until_done_or_told(graph, handle_signals=handle_signals)
        with anyio.CancelScope(shield=True):
            await self._finish(run)
        return self.tally.report()

    async def _until_done_or_told(self, graph: Graph, *, handle_signals: bool) -> None:
        seconds = self.prepared.budget.seconds
        async with anyio.create_task_group() as group:
            if handle_signals:
                group.start_soon(self._watch_signals, group.cancel_scope)
            with anyio.move_on_after(seconds) as limit:
                await graph.go()
            if limit.cancelled_caught:
                graph.run.halt(f"the run's time budget of {seconds:.0f} s is used up", 3)
            group.cancel_scope.cancel()

    async def _watch_signals(self, scope: anyio.CancelScope) -> None:
        """End the run in good order on the first signal, at once on the second."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            async for number in signals:
                if self.interrupted is not None:
                    end_strays()
                    os._exit(128 + number)
                self.interrupted = int(number)
                scope.cancel()
                # The receiver must outlive the cancelled scope, or a second signal finds nobody.
                with anyio.CancelScope(shield=True):
                    async for again in signals:
                        end_strays()
                        os._exit(128 + again)

    async def _open(self) -> tuple[Tree | None, Repository | None]:
        """Open the tree and the repository where this run needs them."""
        prepared = self.prepared
        if not prepared.hashes and not any(map(asks_git, prepared.steps)):
            return None, None
        # A run that neither hashes nor looks at git does not pay for these imports.
        from runner.git import Repository  # noqa: PLC0415
        from runner.workspace.tree import Tree  # noqa: PLC0415

        repo = await Repository.open(
            prepared.root,
            state=prepared.state,
            filters=prepared.config.filters,
            protected=prepared.config.protected_branches,
        )
        if not prepared.hashes:
            return None, repo
        return await Tree.open(prepared.root, prepared.state), repo

    def _started(self, repo: Repository | None) -> RunStarted:
        prepared = self.prepared
        return RunStarted(
            run_id=self.run_id,
            workflow=prepared.workflow.name,
            file=str(prepared.workflow.file or ""),
            root=str(prepared.root),
            state_dir=str(self.run_dir),
            models={
                role: choice.id for role, choice in prepared.choices.items() if choice.available
            },
            budget_usd=prepared.budget.usd,
            budget_seconds=prepared.budget.seconds,
            budget_given=prepared.workflow.budget_given or prepared.options.budget_usd is not None,
            scripted=prepared.scripted and not prepared.options.no_models,
            sandbox="none",
            git_before=repo.facts.head if repo else "",
            branch=repo.facts.branch if repo else "",
            steps=tuple(plan_of(step) for step in prepared.steps),
            started_at=time.time(),
        )

    async def _load_workers(self, stack: AsyncExitStack, run: Run) -> Workers:
        """Load the model side, in a thread: it takes seconds, and commands go on meanwhile."""
        async with self._loading:
            if self._workers is not None:
                return self._workers
            await anyio.to_thread.run_sync(_import_workers)
            from runner.engine.delegate import delegate  # noqa: PLC0415  as the next
            from runner.workers import ModelWorkers  # noqa: PLC0415  the one lazy door to models

            prepared = self.prepared
            workers = ModelWorkers(
                purse=Purse("run", usd=prepared.budget.usd, tokens=prepared.budget.tokens),
                emit=self.emit,
                providers={**prepared.config.providers, **prepared.options.providers},
                prices={**prepared.config.prices, **prepared.options.prices},
                environ=prepared.environ,
                choices=prepared.choices,
                roster=tuple(prepared.agents.values()),
                root=prepared.root,
                token=self.run_id,
                delegate=lambda items, step: delegate(run, items, step),
                facts=lambda: _handover(run),
            )
            stack.push_async_callback(workers.aclose)
            self._workers = workers
            return workers

    async def _finish(self, run: Run) -> None:
        """Settle what did not end by itself, keep what was not committed, write the last event."""
        stopped = self.interrupted is not None or bool(run.stop_code)
        for step in self.prepared.steps:
            if step.id not in run.outcomes:
                why = "interrupted" if self.interrupted is not None else run.stop
                outcome = StepOutcome(step.id, Status.CANCELLED, reason=why)
                run.outcomes[step.id] = outcome
                self.emit(StepFinished(outcome))
        left = await self._uncommitted(run)
        lenient = {step.id for step in self.prepared.steps if step.allow_failure}
        code = exit_code(
            (o for o in run.outcomes.values() if o.id not in lenient),
            interrupted=self.interrupted,
            run_codes=(run.stop_code,),
            uncommitted=left,
            allow_uncommitted=self.prepared.options.allow_uncommitted,
        )
        status = "succeeded" if code in (0, 7) else "cancelled" if stopped else "failed"
        repo = run.ports.repo
        self.emit(
            RunFinished(
                exit_code=code,
                status=status,
                seconds=time.monotonic() - self.began,
                git_after=run.committed or (repo.facts.head if repo else ""),
                branch=repo.facts.branch if repo else "",
                remote_ref=run.remote_ref,
                uncommitted=left,
            )
        )
        for forgotten in self.journal.prune(self.prepared.config.keep_runs):
            shutil.rmtree(self.prepared.state / "runs" / forgotten, ignore_errors=True)

    async def _uncommitted(self, run: Run) -> tuple[str, ...]:
        """Return what autofix and mends changed and no commit took up; keep it as a patch."""
        tree = run.ports.tree
        if tree is None:
            return ()
        end = await run.snapshot("", "end")
        changed = {change.path for change in await tree.changes(run.start_tree, end)}
        left = tuple(sorted(run.mended & changed))
        if left:
            patch = await tree.diff(run.start_tree, end)
            (self.run_dir / "uncommitted.patch").write_text(patch, "utf-8", "surrogateescape")
        return left


def _import_workers() -> None:
    import_module("runner.workers")


def _notes(tree: Tree | None, repo: Repository | None) -> tuple[str, ...]:
    """Return what a person should know of the tree and of commits in this repository."""
    return (*(tree.notes if tree else ()), *(repo.facts.notes if repo else ()))


async def _handover(run: Run) -> HandoverFacts:
    from runner.brief import HandoverFacts  # noqa: PLC0415  needed by few runs

    lines = tuple(
        f"{outcome.id}: {outcome.status}" + (f" at rung {outcome.rung}" if outcome.rung else "")
        for outcome in run.outcomes.values()
    )
    tree, now = run.ports.tree, await run.snapshot("", "hand-over")
    stat = await tree.stat(run.start_tree, now) if tree else ""
    return HandoverFacts(lines, stat)
