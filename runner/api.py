"""Wires the parts of one run together: files in, events out, report back.

argv or Python → load and validate → prepare (nothing has run yet) → engine → report
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio

from runner.errors import RunnerError, UsageError
from runner.expected import policy_of_run
from runner.journal import Journal, new_run_id
from runner.plan import Options, ResumeOptions
from runner.preparation import keep
from runner.prepare import find_and_load, opened, prepare, state_of, work_tree
from runner.session import Session
from runner.workspace.processes import adopting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from runner.cassette import Tape
    from runner.events import Sink
    from runner.plan import PolicyName, Workflow
    from runner.policy import Policy
    from runner.prepare import Prepared
    from runner.report import Report
    from runner.session import Outside


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
    admit: Callable[[Prepared], None] | None = None,
    outside: Outside | None = None,
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
        admit: Looks at exactly what would run, and may refuse it by raising.
        outside: How processes, tree and repository are reached; the real ones by default.

    Raises:
        UsageError: Nothing has run: bad workflow, input or option, or a missing grant.
        JournalError: The journal cannot be written.
        ReplayError: The run is over, and was not as its cassette has it.
    """
    cwd = (cwd or Path.cwd()).resolve()
    options = options or Options()
    tape = _tape(options)
    if tape is not None:
        options = tape.choose(options)
    prepared = prepare(target, options=options, cwd=cwd, environ=environ)
    if admit is not None:
        admit(prepared)
    prepared = opened(prepared)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal.open(prepared.state))
        run_id = new_run_id(time.time())
        if tape is not None:
            prepared = replace(tape.begin(prepared, run_id), tape=tape)
            sinks = (*sinks, tape.hear)
        chosen = policy or prepared.options.policy or prepared.config.policy
        decide = chosen if callable(chosen) else policy_of_run(chosen)
        session = Session(prepared, journal, run_id, sinks, decide, outside=outside)
        keep(prepared, session.run_dir, session.mask, policy="" if callable(chosen) else chosen)
        journal.begin(run_id, prepared.root)
        stack.callback(journal.end, run_id)
        report = await _carry_out(session, stack, handle_signals=handle_signals)
        if tape is not None:
            tape.end(report)
        return report


async def execute_again(
    run_id: str | None = None,
    *,
    options: ResumeOptions | None = None,
    cwd: Path | None = None,
    sinks: Sequence[Sink] = (),
    environ: Mapping[str, str] | None = None,
    workflow: Workflow | None = None,
    policy: Policy | None = None,
    handle_signals: bool = False,
    outside: Outside | None = None,
) -> Report:
    """Resume a run: what is finished is not done again, and not paid again.

    Args:
        run_id: An id, its beginning or last part; the newest run by default.
        options: What differs from how the run was started.
        cwd: Directory in the run's work tree.
        sinks: Listeners to the events of this process.
        environ: Stands for the process's environment.
        workflow: The run's workflow, where it was no file.
        policy: The run's policy, where it was a function.
        handle_signals: As for `execute`.
        outside: As for `execute`.

    Raises:
        UsageError: Nothing was done: the run is over, alive, or cannot be resumed so.
        JournalError: The journal cannot be read or written.
    """
    from runner.resuming import take_up  # noqa: PLC0415  `exec` need not pay for it

    wishes = options or ResumeOptions()
    root = work_tree((cwd or Path.cwd()).resolve())
    state = state_of(root, wishes.state_dir, environ)
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal.open(state, create=False))
        run_id = journal.find(run_id)
        journal.begin(run_id, root, resume=True)
        stack.callback(journal.end, run_id)
        prepared, resumed, named = take_up(
            journal,
            run_id,
            wishes,
            root=root,
            state=state,
            workflow=workflow,
            environ=environ,
        )
        if policy is None and not named:
            raise UsageError(
                f"run {run_id} was begun with a policy of a program's own",
                hint="Resume it from there: resume(..., policy=...)",
            )
        decide = policy or policy_of_run(cast("PolicyName", named))
        prepared = opened(prepared)
        session = Session(prepared, journal, run_id, sinks, decide, resumed, outside)
        return await _carry_out(session, stack, handle_signals=handle_signals)


async def _carry_out(session: Session, stack: AsyncExitStack, *, handle_signals: bool) -> Report:
    # What escapes its command is still found, for it becomes this process's child.
    stack.enter_context(adopting())
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
    go = partial(execute, workflow, options=chosen, cwd=place, policy=policy)
    return await _exported(go, sinks, content=chosen.trace_content)


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


async def resume(
    run_id: str | None = None,
    *,
    cwd: str | Path | None = None,
    options: ResumeOptions | None = None,
    sinks: Sequence[Sink] = (),
    workflow: Workflow | None = None,
    policy: Policy | None = None,
) -> Report:
    """Resume a run that was killed, interrupted, or left without provider, money or time.

        report = await resume(cwd="repo")

    Args:
        run_id: An id, its beginning or last part; the newest run by default.
        cwd: Directory of the repository; the process's own by default.
        options: What differs from how the run was started.
        sinks: Listeners to the events of this process.
        workflow: The run's workflow, where it was loaded from no file.
        policy: The run's policy, where it was a function of your own.

    Raises:
        UsageError: Nothing was done: the run is over, alive, or cannot be resumed so.
    """
    place = Path(cwd) if cwd else None
    go = partial(
        execute_again, run_id, options=options, cwd=place, workflow=workflow, policy=policy
    )
    return await _exported(go, sinks)


def resume_sync(
    run_id: str | None = None,
    *,
    cwd: str | Path | None = None,
    options: ResumeOptions | None = None,
    sinks: Sequence[Sink] = (),
    workflow: Workflow | None = None,
    policy: Policy | None = None,
) -> Report:
    """Resume a run where no event loop is running; as `resume` otherwise."""

    async def go() -> Report:
        return await resume(
            run_id, cwd=cwd, options=options, sinks=sinks, workflow=workflow, policy=policy
        )

    return anyio.run(go)


def load(workflow: str | Path, *, cwd: str | Path | None = None) -> Workflow:
    """Read and check a workflow; nothing runs.

    Raises:
        WorkflowErrors: With every error in the file.
    """
    place = Path(cwd).resolve() if cwd else Path.cwd()
    return find_and_load(workflow, work_tree(place), place)


async def _exported(
    go: Callable[..., Awaitable[Report]], sinks: Sequence[Sink], *, content: bool = False
) -> Report:
    """Carry out a run, and export it meanwhile where the environment asks for that."""
    if not any(name.startswith("OTEL_") for name in os.environ):
        return await go(sinks=sinks)
    from runner.telemetry.live import exporting_beside  # noqa: PLC0415  few runs are exported

    async with exporting_beside(content=content) as more:
        return await go(sinks=(*sinks, *more))


def _tape(options: Options) -> Tape | None:
    if options.record is None and options.replay is None:
        return None
    from runner.cassette import open_tape  # noqa: PLC0415  few runs are recorded or replayed

    return open_tape(options)


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
