"""`runner runs`, `show`, `log`, `explain`: print what journal and logs hold; change nothing."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.options import completing, directory_option, state_option
from runner.cli.output import print_json, print_text, wants_color
from runner.cli.where import has_journal, journal_of, typed
from runner.console.ledger import render_cost, render_prefix
from runner.console.show import render_explain, render_runs, render_show
from runner.errors import UsageError
from runner.report import StepReport, ledger_json, prefix_json, summarise, to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.journal import Journal, RunRow
    from runner.report import Report

RUN_WORDS = "RUN is a run id, its beginning or last part, or `last`"
RUN_HELP = f"{RUN_WORDS}, the default."


@click.command("runs")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@state_option
@directory_option
def runs_command(as_json: bool, state_dir: Path | None, directory: Path) -> int:  # noqa: FBT001  click passes flags by name
    """List the runs of this repository, newest first."""
    if as_json and not has_journal(directory, state_dir):
        print_json([])
        return 0
    with journal_of(directory, state_dir) as journal:
        rows = journal.runs()
    if as_json:
        print_json([_row_json(row) for row in rows])
    else:
        print_text(render_runs(rows, now=time.time(), width=_width(), color=wants_color()))
    return 0


@click.command("show", epilog=RUN_HELP)
@click.argument("run", default="last", shell_complete=completing("runs"))
@click.option("--cost", is_flag=True, help="Print the ledger: what each attempt and role cost.")
@click.option(
    "--prefix", is_flag=True, help="Print each main request, and how it extends the one before."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the report, or what is asked, as JSON."
)
@state_option
@directory_option
def show_command(run: str, state_dir: Path | None, directory: Path, **asked: bool) -> int:
    """Print how a run went: steps, attempts, what failed, costs."""
    with journal_of(directory, state_dir) as journal:
        report = _report(journal, journal.find(run))
    parts = tuple(part for part in ("cost", "prefix") if asked[part])
    if asked["as_json"]:
        print_json(_json(report, parts))
    elif parts:
        print_text(_text(report, parts))
    else:
        where = typed(directory, state_dir)
        print_text(render_show(report, width=_width(), color=wants_color(), where=where))
    return 0


def _json(report: Report, parts: Sequence[str]) -> Any:
    """Return the report, or the list that was asked for, or both lists under their names."""
    if not parts:
        return to_json(report)
    lists = {part: _LISTS[part](report) for part in parts}
    return lists if len(parts) > 1 else lists[parts[0]]


def _text(report: Report, parts: Sequence[str]) -> str:
    """Return what was asked for as a person reads it; tables use the whole terminal."""
    width = shutil.get_terminal_size((100, 24)).columns
    shown = [_TABLES[part](report, width=width, color=wants_color()) for part in parts]
    return "\n".join(shown)


_LISTS = {"cost": ledger_json, "prefix": prefix_json}
_TABLES = {"cost": render_cost, "prefix": render_prefix}


@click.command("explain", epilog=RUN_HELP)
@click.argument("run", default="last", shell_complete=completing("runs"))
@click.argument("step", required=False, shell_complete=completing("run_steps"))
@state_option
@directory_option
def explain_command(run: str, step: str | None, state_dir: Path | None, directory: Path) -> int:
    """Print every decision of a run, or of one STEP, with its reason and facts."""
    with journal_of(directory, state_dir) as journal:
        run_id = _find(journal, run) if step is None else journal.find(run)
        if step is not None:
            _step(_report(journal, run_id), step)
        records = tuple(journal.records(run_id))
    print_text(render_explain(records, step, width=_width(), color=wants_color()))
    return 0


@click.command("log", epilog=f"{RUN_WORDS}. For example: runner log last test")
@click.argument("run", shell_complete=completing("runs"))
@click.argument("step", shell_complete=completing("run_steps"))
@state_option
@directory_option
def log_command(run: str, step: str, state_dir: Path | None, directory: Path) -> int:
    """Print the whole output of the last command of STEP, as it was written."""
    with journal_of(directory, state_dir) as journal:
        found = _step(_report(journal, journal.find(run)), step)
    if not found.log:
        raise UsageError(f"step {step!r} ran no command, so it has no log")
    path = Path(found.log)
    if not path.exists():
        raise UsageError(f"the log of step {step!r} is gone: {path}")
    with path.open("rb") as log:
        shutil.copyfileobj(log, sys.stdout.buffer)
    sys.stdout.flush()
    return 0


def _row_json(row: RunRow) -> dict[str, Any]:
    """Return a run's line; `null` is an exit code not there yet, or a cost not known."""
    return {
        "run_id": row.id,
        "workflow": row.workflow,
        "status": row.status,
        "exit_code": row.exit_code,
        "started_at": datetime.fromtimestamp(row.started_at, UTC).isoformat(timespec="seconds"),
        "seconds": round(row.heard_at - row.started_at, 3),
        "cost_usd": None if row.cost_usd is None else float(row.cost_usd),
        "scripted": row.scripted,
        "root": row.root,
    }


def _find(journal: Journal, text: str) -> str:
    """Find a run; say so when the text is a step of the last one instead."""
    try:
        return journal.find(text)
    except UsageError as error:
        if journal.runs() and text in {one.id for one in _report(journal, journal.find()).steps}:
            hint = f"A run stands before a step: runner explain last {text}"
            raise UsageError(error.message, hint=hint) from None
        raise


def _report(journal: Journal, run_id: str) -> Report:
    row = next(row for row in journal.runs() if row.id == run_id)
    return summarise(journal.events(run_id), alive=journal.alive(run_id), until=row.heard_at)


def _step(report: Report, step: str) -> StepReport:
    for one in report.steps:
        if one.id == step:
            return one
    names: Sequence[str] = [one.id for one in report.steps]
    message = f"run {report.run_id} has no step {step!r}"
    raise UsageError(message, hint=f"Its steps: {', '.join(names)}")


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 120)
