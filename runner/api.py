"""Wires the parts of one run together: files in, events out, report back.

argv or Python → load and validate → prepare (nothing has run yet) → engine → report
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio

from runner.engine.graph import Graph
from runner.engine.names import asks_git, untrusted_inputs
from runner.engine.state import Ports, Run, all_steps
from runner.engine.stopping import watch_signals, watch_time
from runner.errors import RunnerError
from runner.events import CommandOutput, Notice, RunFinished, RunStarted, StepFinished
from runner.expected import policy_of_run
from runner.journal import Journal, new_run_id
from runner.outcome import Status, StepOutcome
from runner.plan import MAIN, Options, Prompt, Uses
from runner.plan import Run as RunStep
from runner.prepare import Prepared, find_and_load, plan_of, prepare, work_tree
from runner.report import Baseline, Tally, exit_code
from runner.workspace.masking import Mask
from runner.workspace.processes import adopting, end_strays

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anyio.abc import TaskGroup

    from runner.brief import HandoverFacts
    from runner.events import Event, Sink
    from runner.git import Repository
    from runner.history import Tried
    from runner.plan import PolicyName, Step, Workflow
    from runner.policy import Outlook, Policy
    from runner.progress import Progress
    from runner.report import Report
    from runner.workers import ModelWorkers
    from runner.workspace.tree import Tree


NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


async def execute(
    target: str | Path | Workflow | None,
    *,
    options: Options | None = None,
    cwd: Path | None = None,
    sinks: Sequence[Sink] = (),
    environ: Mapping[str, str] | None = None,
    policy: Policy | PolicyName | None = None,
    handle_signals: bool = False,
) -> Report:
    """Run a workflow and return its report; a failing run is a report too, not an exception.

    Args:
        target: A file, the name of a workflow, a loaded one, or `None` for the repository's own.
        options: What the caller chose.
        cwd: Directory that paths are relative to; the tree is the git work tree around it.
        sinks: Listeners to the run's events.
        environ: Stands for the process's environment.
        policy: Chooses who tries next when a command fails: one by name, or a function of your own;
            `None` is what options and the user's configuration say.
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
        # What escapes its command is still found, for it becomes this process's child.
        stack.enter_context(adopting())
        chosen = policy or prepared.options.policy or prepared.config.policy
        decide = chosen if callable(chosen) else policy_of_run(chosen)
        session = Session(prepared, journal, run_id, sinks, decide)
        try:
            return await session.go(stack, handle_signals=handle_signals)
        except (BaseExceptionGroup, OSError) as error:
            raise _told(_first_of(error)) from error


async def run(
    workflow: str | Path | Workflow | None = None,
    *,
    inputs: Mapping[str, str | float | bool] | None = None,
    models: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    options: Options | None = None,
    sinks: Sequence[Sink] = (),
    policy: Policy | PolicyName | None = None,
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
        policy: Chooses who tries next when a command fails, by name or as a function of your own.

    Raises:
        UsageError: Nothing has run: bad workflow, input or option, or a missing grant.
    """
    chosen = options or Options()
    chosen = replace(
        chosen,
        inputs={**chosen.inputs, **(inputs or {})},
        models={**chosen.models, **(models or {})},
    )
    place = Path(cwd) if cwd else None
    return await execute(workflow, options=chosen, cwd=place, sinks=sinks, policy=policy)


def run_sync(
    workflow: str | Path | Workflow | None = None,
    *,
    inputs: Mapping[str, str | float | bool] | None = None,
    models: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    options: Options | None = None,
    sinks: Sequence[Sink] = (),
    policy: Policy | PolicyName | None = None,
) -> Report:
    """Run a workflow where no event loop is running; as `run` otherwise."""

    async def go() -> Report:
        return await run(
            workflow,
            inputs=inputs,
            models=models,
            cwd=cwd,
            options=options,
            sinks=sinks,
            policy=policy,
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
        self.sinks, self.policy = [*sinks], policy
        self.mask = Mask(prepared.secrets.values())
        self.tally = Tally()
        self.began = time.monotonic()
        self.run_dir = prepared.state / "runs" / run_id
        self._workers: ModelWorkers | None = None
        self._late: Tree | None = None
        self._loading = anyio.Lock()
        self._without_history = False
        """It cannot be read, which has been said."""
        self._beside: TaskGroup | None = None
        """Goes on beside the work, and is cancelled when that is done."""

    def emit(self, event: Event) -> None:
        """Journal an event, then tell everybody."""
        if self.mask:
            event = self.mask.noun(event)
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
            late_tree=lambda: self._late_tree(stack),
            repo=repo,
            start=await repo.start_state() if repo and prepared.ships else None,
            agents=prepared.agents,
            choices=prepared.choices,
            inputs=prepared.inputs,
            secrets=prepared.secrets,
            mask=self.mask,
            environ=prepared.environ,
            workers=lambda: self._load_workers(stack, run),
            policy=self.policy,
            outlook=lambda kind, roles, irreversible: self._outlook(
                stack, run, kind, roles, irreversible
            ),
            shell=prepared.grants.shell,
        )
        run = Run(ports)
        self.emit(self._started(repo))
        async with anyio.create_task_group() as watchers:
            try:
                with anyio.CancelScope() as work:
                    if handle_signals:
                        watchers.start_soon(watch_signals, run, work)
                    if prepared.budget.seconds is not None:
                        watchers.start_soon(watch_time, run, work, prepared.budget.seconds)
                    async with anyio.create_task_group() as self._beside:
                        await self._work(run)
                        if self._workers is not None:
                            await self._workers.rest()
                        self._beside.cancel_scope.cancel()
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
        run.start_tree = await run.snapshot("", "start")
        for note in _notes(ports.tree, ports.repo if prepared.ships else None):
            run.say(note)
        jobs = prepared.options.jobs or os.cpu_count() or 1
        slots = anyio.CapacityLimiter(jobs)
        untrusted = untrusted_inputs(prepared.workflow)
        graph = Graph(run, prepared.steps, prepared.inputs, slots, run.lock, untrusted=untrusted)
        await graph.go()

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

    async def _late_tree(self, stack: AsyncExitStack) -> Tree:
        """Open the tree of a run that hashes nothing, for an autofix is about to change it."""
        if self._late is None:
            from runner.workspace.tree import Tree  # noqa: PLC0415  as in `_open`

            self._late = await Tree.open(self.prepared.root, self.prepared.state)
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
                role: choice.id for role, choice in prepared.choices.items() if choice.available
            },
            budget_usd=prepared.budget.usd,
            budget_seconds=prepared.budget.seconds,
            budget_given=prepared.workflow.budget_given or prepared.options.budget_usd is not None,
            budget_tokens=prepared.budget.tokens,
            budget_default=prepared.defaults,
            scripted=prepared.scripted and not prepared.options.no_models,
            sandbox="none",
            git_before=repo.facts.head if repo else "",
            branch=repo.facts.branch if repo else "",
            steps=tuple(plan_of(step) for step in prepared.steps),
            started_at=time.time(),
            may_fail=tuple(shown for shown, _, may_fail in all_steps(prepared.steps) if may_fail),
        )

    async def _load_workers(self, stack: AsyncExitStack, run: Run) -> ModelWorkers:
        """Load the model side, in a thread: it takes seconds, and commands go on meanwhile."""
        async with self._loading:
            if self._workers is not None:
                return self._workers
            # Told to end, the run does not wait for it.
            await anyio.to_thread.run_sync(_import_workers, abandon_on_cancel=True)
            from runner.engine.delegate import delegate  # noqa: PLC0415  as the next
            from runner.workers import ModelWorkers  # noqa: PLC0415  the one lazy door to models

            assert self._beside is not None, "models are asked while the run goes on"
            workers = ModelWorkers(
                prepared=self.prepared,
                emit=self.emit,
                token=self.run_id,
                delegate=lambda items, step: delegate(run, items, step),
                facts=lambda: _handover(run),
                progress=self._progress(),
                past=self._past(),
                stopped=lambda: bool(run.stop),
                spawn=self._beside.start_soon,
            )
            self.sinks.append(workers.hear)
            if run.available(MAIN) and any(map(_escalates, self.prepared.steps)):
                workers.keep_back()
            stack.push_async_callback(workers.aclose)
            self._workers = workers
            return workers

    async def _outlook(
        self,
        stack: AsyncExitStack,
        run: Run,
        kind: str,
        roles: Sequence[str],
        irreversible: bool,  # noqa: FBT001  as the port says it
    ) -> Outlook:
        """Estimate what the rungs cost for a failure, just before a model is asked."""
        workers = await self._load_workers(stack, run)
        return workers.outlook(kind, roles, irreversible)

    def _past(self) -> Sequence[Tried]:
        """Return what was tried before this run; nothing is added while it goes on."""
        from runner.historyfile import recall  # noqa: PLC0415  only runs with models ask for it

        past, trouble = recall(self._state_root())
        if trouble:
            self._without_history = True
            self.emit(Notice(trouble))
        return past

    def _state_root(self) -> Path:
        """Return the directory of all the runner's state, of which this repository's is a part."""
        return self.prepared.state.parent.parent

    def _remember(self) -> None:
        """Add what models tried to the history, for later runs."""
        if self._workers is None or self._without_history:
            return
        from runner.historyfile import record  # noqa: PLC0415  only runs with models ask for it

        trouble = record(self.journal, self.run_id, self.prepared.state.name, self._state_root())
        if trouble:
            self.emit(Notice(trouble))

    def _progress(self) -> Progress:
        """Return what is known of the steps until now, and of past runs."""
        from runner.progress import Progress  # noqa: PLC0415  only runs with models ask for it

        progress = Progress(self.prepared.steps, self.journal.past(self.run_id))
        for record in self.journal.records(self.run_id):
            progress.hear(record.event, record.at)
        return progress

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
        self._remember()
        otherwise = self._baseline()
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
                **self._lacked(run, code),
            )
        )
        for forgotten in self.journal.prune(self.prepared.config.keep_runs):
            shutil.rmtree(self.prepared.state / "runs" / forgotten, ignore_errors=True)

    def _lacked(self, run: Run, code: int) -> dict[str, str]:
        """Say what the budget did not cover, and what to give more of."""
        if code != 3:
            return {}
        from runner import advice  # noqa: PLC0415  few runs end so

        if run.unpaid is None:
            return {"advice": advice.for_time(advice.means_of(self.prepared))}
        ending, means = run.unpaid.ending, advice.means_of(self.prepared)
        return {"lacked": ending.detail, "advice": advice.for_budget(ending, means)}

    def _baseline(self) -> Baseline:
        """Estimate what the run's work would have cost otherwise; nothing if no model was asked."""
        if self._workers is None:
            return Baseline()
        return self._workers.baseline(self.journal.events(self.run_id))

    async def _uncommitted(self, run: Run) -> tuple[str, ...]:
        """Return what autofix and mends changed and no commit took up; keep it as a patch."""
        tree = run.ports.tree or self._late
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


def _first_of(error: BaseException) -> BaseException:
    """Return what broke first: task groups wrap it, and callers catch it by its type."""
    while isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error).exceptions[0]
    return error


def _told(error: BaseException) -> BaseException:
    """Return a disk's own failure as a person should read it; all else as it is."""
    if not isinstance(error, OSError) or error.errno not in NO_ROOM:
        return error
    where = error.filename2 or error.filename or "the state directory"
    return RunnerError(
        f"{os.fsdecode(where)}: {error.strerror}",
        hint="Make room or choose another place with --state-dir, then run again.",
    )


def _escalates(step: Step) -> bool:
    """Tell whether a packet to main may come of a step."""
    match step.kind:
        case Uses(workflow):
            return any(map(_escalates, workflow.steps))
        case RunStep(escalate=escalate) | Prompt(escalate=escalate):
            return escalate is not None
        case _:
            return False


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
