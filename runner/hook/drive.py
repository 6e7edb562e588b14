"""Runs a workflow because an agent wants to stop; the agent's session is the main agent.

One hook at a time works in a tree. What it says goes into the reply, what it did into the journal.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from runner.api import execute
from runner.errors import NotGranted, RunnerError
from runner.events import SnapshotTaken, StepFinished
from runner.frozen import frozen
from runner.hook import trust
from runner.hook.alone import alone, forget_old
from runner.hook.answer import Failed, Known, Ran, decide
from runner.hook.choose import FILES, chosen, places, workflow_of
from runner.hook.claude import Reply
from runner.hook.memory import FOLDER, file_of, lock_of, recall, remember
from runner.hook.quick import root_of
from runner.hook.stamps import settled_stamp, with_directories
from runner.outcome import Rung, Status, Verdict
from runner.prepare import prepare
from runner.workspace.state import repo_state, state_root
from runner.workspace.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.events import Event
    from runner.hook.claude import Request
    from runner.hook.memory import Memory
    from runner.outcome import StepOutcome
    from runner.plan import Options, Workflow
    from runner.prepare import Prepared
    from runner.report import Report

_MOST_WATCHED = 200_000
"""Paths whose looks are faster asked than git is."""
PATIENCE = 60.0
"""Seconds that a hook waits for another session's in the same tree."""


@frozen(kw_only=True)
class Wish:
    """What the hook's command line says."""

    argv: tuple[str, ...]
    options: Options
    workflow: str | None = None
    """A file or name; `None` is the repository's own."""
    with_commit: bool = False
    seconds: float = 540.0
    """Time for the whole run: less than the host gives the hook."""


@frozen(kw_only=True)
class Place:
    """Where a session works."""

    root: Path
    state: Path
    """Directory of all the runner's state."""
    session: str
    file: str
    """The session's memory."""


async def stop(asked: Request, wish: Wish) -> Reply:
    """Return what to answer an agent that wants to stop."""
    root = root_of(asked.cwd)
    if not root:
        return Reply()
    state = state_root(wish.options.state_dir)
    where = Place(
        root=Path(root),
        state=state,
        session=asked.session,
        file=file_of(str(state), root, asked.session, wish.argv),
    )
    (state / FOLDER).mkdir(mode=0o700, exist_ok=True)
    began = time.monotonic()
    lock = await alone(lock_of(str(state), root), asked.session, min(PATIENCE, wish.seconds / 2))
    if lock is None:
        return Reply()
    try:
        left = max(1.0, wish.seconds - (time.monotonic() - began))
        return await _turn(asked, replace(wish, seconds=left), where)
    finally:
        os.close(lock)


async def _turn(asked: Request, wish: Wish, where: Place) -> Reply:
    """Answer with the tree to ourselves, and remember what came of it."""
    memory = recall(where.file)
    if not asked.again:
        memory.in_row = 0
    try:
        reply = await _look(wish, where, memory)
    except RunnerError as error:
        memory.state = ""
        reply = Reply(note=_once(memory, f"runner: {error}"))
    remember(where.file, memory)
    forget_old(where.state / FOLDER)
    return reply


async def _look(wish: Wish, where: Place, memory: Memory) -> Reply:
    """Run what is to be run, unless this very tree passed already."""
    workflow = workflow_of(wish.workflow, where.root, wish.seconds)
    if workflow is None:
        _rest(memory, places(where.root))
        return Reply()
    options = replace(
        wish.options,
        host=True,
        steps=chosen(workflow, wish.options.steps, with_commit=wish.with_commit),
    )
    if not options.steps:
        return Reply(note=_once(memory, f"runner: {workflow.name}: no step comes before a commit"))
    made = trust.made_of(prepare(workflow, options=options, cwd=where.root))
    if made.asks and not trust.is_allowed(where.state, made):
        return _refused(where, made, memory)
    before = await _snapshot(where)
    if memory.state and (memory.tree, memory.made_of) == (before, made.digest):
        if memory.state != "told":
            await _settle(where, memory, made, before)
            return Reply()
    elif memory.made_of != made.digest:
        memory.told, memory.made_of = {}, made.digest
    return await _run(workflow, options, where, memory, made, before)


async def _run(
    workflow: Workflow,
    options: Options,
    where: Place,
    memory: Memory,
    made: trust.Made,
    before: str,
) -> Reply:
    heard = _Heard()

    def admit(prepared: Prepared) -> None:
        """What was looked at is what runs, whoever writes files meanwhile."""
        if trust.made_of(prepared).digest != made.digest:
            raise NotGranted("the workflow changed while it was looked at; nothing was run")

    report = await execute(
        workflow,
        options=options,
        cwd=where.root,
        sinks=(heard.hear,),
        handle_signals=True,
        admit=admit,
    )
    ran = await _ran(report, heard, where, before)
    told_on = memory.tree if memory.state == "told" else ""
    known = Known(memory.told, memory.in_row, told_on, tuple(memory.changed))
    decision = decide(ran, known)
    memory.told, memory.in_row = dict(decision.known.told), decision.known.in_row
    memory.changed = list(decision.known.changed)
    memory.state = decision.state
    memory.tree, memory.stamp, memory.paths = ran.after, "", []
    if decision.state in {"passed", "noted"}:
        await _settle(where, memory, made, ran.after)
    return decision.reply


class _Heard:
    """What of a run's events the answer needs."""

    def __init__(self) -> None:
        self.ended: list[StepOutcome] = []
        self.autofix: dict[str, list[str]] = {}
        """Trees before and after each autofix, by step."""

    def hear(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, StepFinished):
            self.ended.append(event.outcome)
        elif isinstance(event, SnapshotTaken) and event.label.endswith(" autofix"):
            self.autofix.setdefault(event.step, []).append(event.tree)


async def _ran(report: Report, heard: _Heard, where: Place, before: str) -> Ran:
    """Sum a run up for the answer."""
    lenient = {step.id for step in report.steps if step.may_fail}
    failed = [
        Failed(one.id, one.packet, one.reason or one.status)
        for one in heard.ended
        if one.status is Status.FAILED and one.id.partition("/")[0] not in lenient
    ]
    tree = await Tree.open(where.root, _state(where))
    try:
        after = await tree.snapshot()
        touched = {change.path for change in await tree.changes(before, after)}
        mended = {
            f"{one.id} (subagent)": tuple(sorted({*_files(one)} & touched)) for one in heard.ended
        }
        for step, pairs in heard.autofix.items():
            changes = [
                change.path
                for old, new in zip(pairs[::2], pairs[1::2], strict=False)
                for change in await tree.changes(old, new)
            ]
            mended[f"{step} (autofix)"] = tuple(sorted({*changes} & touched))
    finally:
        tree.close()
    inner = {one.step.partition("/")[0] for one in failed if "/" in one.step}
    return Ran(
        run_id=report.run_id,
        exit_code=1 if report.exit_code is None else report.exit_code,
        # A `uses` step fails with what it uses, which says more.
        failed=tuple(one for one in failed if one.packet or one.step not in inner),
        passed=tuple(one.id for one in heard.ended if one.status is Status.SUCCEEDED),
        mended={who: paths for who, paths in mended.items() if paths},
        cost_usd=report.cost_usd,
        trouble=_trouble(report),
        before=before,
        after=after,
    )


def _files(outcome: StepOutcome) -> Iterable[str]:
    """Return what the subagents that mended a step changed."""
    if outcome.status is not Status.SUCCEEDED or outcome.rung is not Rung.SUBAGENT:
        return ()
    good = {Verdict.PASSED, Verdict.SOFT}
    return (path for one in outcome.attempts if one.verdict in good for path in one.files)


def _trouble(report: Report) -> str:
    """Say why a run ended before its time; empty where its steps decided."""
    if report.exit_code not in {3, 6}:
        return ""
    what = "the budget or the time ran out" if report.exit_code == 3 else "a provider failed"
    reasons = [step.reason for step in report.steps if step.reason and step.status != "succeeded"]
    return ". ".join([what, *reasons[:1], *([report.advice] if report.advice else [])])


def _refused(where: Place, made: trust.Made, memory: Memory) -> Reply:
    """Say once that this workflow is not allowed, and wait for a change of it or of the list."""
    changed = trust.was_allowed(where.state, made)
    why = "changed since it was allowed" if changed else "is not allowed to run in a hook"
    own = "" if made.workflow in FILES else f" {made.workflow}"
    note = f"runner: {made.workflow} {why}; nothing was run. To look at it: runner allow{own}"
    paths = [str(part.path) for part in made.parts if part.path is not None]
    memory.made_of = made.digest
    _rest(memory, [*paths, str(where.state / trust.FILE)])
    return Reply(note=_once(memory, note, made.digest))


def _rest(memory: Memory, paths: list[str]) -> None:
    """Let the quick way answer until one of these paths changes."""
    memory.tree, memory.paths, memory.stamp = "", paths, settled_stamp(paths)
    memory.state = "noted"


async def _settle(where: Place, memory: Memory, made: trust.Made, tree: str) -> None:
    """Let the quick way answer until a file of the tree, or of the workflow, changes."""
    memory.tree, memory.made_of = tree, made.digest
    memory.paths, memory.stamp = [], ""
    paths = await _watched(where, made, tree)
    if paths is None:
        return
    stamp = await anyio.to_thread.run_sync(settled_stamp, paths)
    # Only what is still the tree that passed may be told by its looks.
    if stamp and await _snapshot(where) == tree and await _watched(where, made, tree) == paths:
        memory.paths, memory.stamp = paths, stamp


async def _watched(where: Place, made: trust.Made, tree: str) -> list[str] | None:
    """Return all paths whose looks tell a change of the tree; `None` where looks do not tell it."""
    opened = await Tree.open(where.root, _state(where))
    try:
        files, hollow = await opened.paths(tree), await opened.hollow()
    finally:
        opened.close()
    if files is None:
        return None
    own = [str(part.path) for part in made.parts if part.path is not None]
    paths = [*with_directories(str(where.root), list(files), hollow), *own]
    return paths if len(paths) <= _MOST_WATCHED else None


async def _snapshot(where: Place) -> str:
    tree = await Tree.open(where.root, _state(where))
    try:
        return await tree.snapshot()
    finally:
        tree.close()


def _state(where: Place) -> Path:
    return repo_state(where.root, where.state)


def _once(memory: Memory, note: str, key: str = "") -> str:
    """Return a note that the user has not seen in this session; else nothing."""
    name = sha256((key or note).encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if name in memory.said:
        return ""
    memory.said = [*memory.said[-50:], name]
    return note
