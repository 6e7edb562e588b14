"""Offers what a shell can complete: workflows, steps, agents, runs. Never fails, never runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from click.shell_completion import CompletionItem

from runner.cli.where import has_journal, journal_of
from runner.errors import RunnerError
from runner.events import RunStarted
from runner.loader.agents import agent_names
from runner.loader.find import workflow_names
from runner.plan import CHEAP, MAIN
from runner.prepare import find_and_load, work_tree

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

    from runner.plan import Workflow

SHOWN_RUNS = 20


def workflows(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the workflow of `exec`, `plan` and `check`: a name or a file, else any file."""
    del param
    directory = _directory(ctx)
    files = sorted(path.name for path in directory.glob("*.y*ml"))
    found = _starting([*workflow_names(work_tree(directory)), *files], incomplete)
    return found or [CompletionItem(incomplete, type="file")]


def steps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a step of the workflow that the line names, else of the repository's own."""
    del param
    workflow = _workflow(ctx)
    return _starting([step.id for step in workflow.steps] if workflow else [], incomplete)


def roles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete `ROLE=` of `--model`."""
    del param
    workflow = _workflow(ctx)
    names = dict.fromkeys([MAIN, CHEAP, *(workflow.models if workflow else ())])
    return _starting([f"{name}=" for name in names], incomplete)


def agents(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete an agent's name."""
    del param
    return _starting(agent_names(work_tree(_directory(ctx))), incomplete)


def runs(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a run's id, newest first."""
    del param
    state = ctx.params.get("state_dir")
    directory = _directory(ctx)
    try:
        if not has_journal(directory, state):
            return []
        with journal_of(directory, state) as journal:
            rows = journal.runs()[:SHOWN_RUNS]
    except RunnerError:
        return []
    ids = {"last": "the newest run"} | {row.id: f"{row.workflow} {row.status}" for row in rows}
    return [CompletionItem(name, help=ids[name]) for name in ids if name.startswith(incomplete)]


def run_steps(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a step of the run that the line names."""
    del param
    try:
        with journal_of(_directory(ctx), ctx.params.get("state_dir")) as journal:
            events = journal.events(journal.find(ctx.params.get("run")))
            started = next((event for event in events if isinstance(event, RunStarted)), None)
    except RunnerError:
        return []
    return _starting([step.id for step in started.steps] if started else [], incomplete)


def _workflow(ctx: click.Context) -> Workflow | None:
    directory = _directory(ctx)
    try:
        return find_and_load(ctx.params.get("target"), work_tree(directory), directory)
    except RunnerError:
        return None


def _directory(ctx: click.Context) -> Path:
    return Path(ctx.params.get("directory") or ".").resolve()


def _starting(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
