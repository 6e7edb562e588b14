"""`runner history`: prints which model mended what, and shares that between machines."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from runner.cli.options import directory_option, state_option
from runner.cli.output import print_json, print_text, tell, wants_color
from runner.cli.where import typed
from runner.console.history import render_history
from runner.console.style import plural
from runner.errors import RunnerError, UsageError
from runner.frozen import frozen
from runner.history import timetable
from runner.historyfile import History, past
from runner.historyjson import LIMIT, export, read, scripted, text_of
from runner.prepare import work_tree
from runner.workspace.state import repo_state, state_root

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.history import Line, Tried

_EPILOG = """\
\b
Examples:
  runner history                       # this repository
  runner history --all                 # all of your repositories
  runner history --export mends.json   # in a CI job: keep this file ...
  runner history --import mends.json   # ... and give it to the next one

A step that a model tried to mend adds one row for each rung. Only what the step's command
said counts; a provider's failures, and what was denied or cancelled, say nothing of a model.

An exported file holds, for each row: the names of repository, run and step, the kind of
failure, model, rung, whether it was mended, cost, seconds and time. No code, no output, no
path. Rows of scripted models are left out. A row that is there already is not added twice.

With --json: {repo, steps, runs, timetable: [{kind, rung, model, tried, mended, low, high,
median_cost_usd, median_seconds}]}; the chance of mending lies from low to high with 90%.
"""
_PATH = click.Path(dir_okay=False, allow_dash=True, path_type=str)


@frozen
class Place:
    """Which history a call is about, and which part of it."""

    root: Path
    """The directory of all state."""
    own: str
    """Name of this repository's state directory."""
    repo: str | None
    """The part that was asked for; `None` is all repositories."""
    options: str
    """What another command needs to find the same."""


@click.command("history", epilog=_EPILOG)
@click.option("--all", "everywhere", is_flag=True, help="Of all repositories, not this one alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--export", "target", type=_PATH, metavar="FILE", help="Write the rows; - is stdout.")
@click.option("--import", "source", type=_PATH, metavar="FILE", help="Add rows; - is stdin.")
@click.option(
    "--here",
    is_flag=True,
    help="With --import: count the rows as this repository's own, for checkouts at other paths.",
)
@click.option("--forget", is_flag=True, help="Forget the rows, after a question.")
@click.option("-y", "--yes", is_flag=True, help="With --forget: do not ask.")
@state_option
@directory_option
def history_command(
    target: str | None,
    source: str | None,
    state_dir: Path | None,
    directory: Path,
    **asked: bool,
) -> int:
    """Print which model mended what kind of failure, how reliably, at what cost.

    Who tries first when a step fails is decided by this.
    """
    _refuse_contradictions(target, source, asked)
    root = state_root(state_dir)
    own = repo_state(work_tree(directory.resolve()), root).name
    options = typed(directory, state_dir)
    place = Place(root, own, None if asked["everywhere"] else own, options)
    if source is not None:
        _import(place, source, here=asked["here"])
    elif target is not None:
        _export(place, target)
    elif asked["forget"]:
        _forget(place, sure=asked["yes"])
    elif asked["as_json"]:
        print_json(_json(place, past(root, place.repo)))
    else:
        _show(place)
    return 0


def _refuse_contradictions(target: str | None, source: str | None, asked: dict[str, bool]) -> None:
    """Refuse options that would be ignored."""
    given = {"--export": target is not None, "--import": source is not None}
    given |= {"--forget": asked["forget"], "--json": asked["as_json"]}
    chosen = [name for name, on in given.items() if on]
    if len(chosen) > 1:
        raise UsageError(f"{chosen[0]} and {chosen[1]} do not go together")
    for option, name, needs in (("--here", "here", "--import"), ("--yes", "yes", "--forget")):
        if asked[name] and needs not in chosen:
            raise UsageError(f"{option} goes with {needs} only")
    if asked["everywhere"] and source is not None:
        raise UsageError(
            "--all does not go with --import",
            hint="All rows of the file are added, each to its repository.",
        )


def _show(place: Place) -> None:
    rows = past(place.root, place.repo)
    if rows:
        width = min(shutil.get_terminal_size((100, 24)).columns, 160)
        print_text(render_history(rows, repo=place.repo, width=width, color=wants_color()))
        return
    nothing = "Nothing is known yet: each step that a model tries to mend adds to the history."
    if place.repo is not None and past(place.root):
        nothing += f" Other repositories': runner history --all{place.options}"
    print_text(nothing)


def _json(place: Place, rows: Sequence[Tried]) -> dict[str, Any]:
    return {
        "repo": place.repo,
        "steps": len({(one.run, one.step) for one in rows}),
        "runs": len({one.run for one in rows}),
        "timetable": [_line_json(line) for line in timetable(rows)],
    }


def _line_json(line: Line) -> dict[str, Any]:
    """Return one line; `null` is a cost that is not known."""
    return {
        "kind": line.kind,
        "rung": line.rung.value,
        "model": line.model,
        "tried": line.tried,
        "mended": line.mended,
        "low": round(line.low, 4),
        "high": round(line.high, 4),
        "median_cost_usd": None if line.usd is None else float(line.usd),
        "median_seconds": round(line.seconds, 3),
    }


def _export(place: Place, target: str) -> None:
    rows = past(place.root, place.repo)
    exported = export(rows)
    left_out = sum(map(scripted, rows))
    note = f"; {plural(left_out, 'row')} of scripted models left out" if left_out else ""
    if target == "-":
        print_text(text_of(exported))
    else:
        try:
            Path(target).write_text(text_of(exported), encoding="utf-8")
        except OSError as error:
            raise RunnerError(f"--export {target}: {error.strerror}") from error
    where = "" if target == "-" else f" to {target}"
    tell(f"Wrote {plural(len(exported['rows']), 'row')}{where}{note}.")


def _import(place: Place, source: str, *, here: bool) -> None:
    data, name = _read(source), "stdin" if source == "-" else source
    rows = read(data, name=name, now=time.time())
    with History.open(place.root) as history:
        done = history.import_(rows, repo=place.own if here else None)
    moved = f", {done.moved} now counted as this repository's" if done.moved else ""
    tell(f"{name}: {plural(done.rows, 'row')}, {done.new} new{moved}.")
    if rows and not here and all(row.repo != place.own for row in rows):
        tell(f"  None of them is of this repository ({place.own}).")
        tell("  To count them as its own, for they are of another checkout of it, add --here.")


def _read(source: str) -> bytes:
    """Read a file, no more of it than a history can have."""

    def some(stream: BinaryIO) -> bytes:
        return stream.read(LIMIT + 1)

    try:
        if source == "-":
            return some(sys.stdin.buffer)
        with Path(source).open("rb") as stream:
            return some(stream)
    except OSError as error:
        raise UsageError(f"--import {source}: {error.strerror}") from error


def _forget(place: Place, *, sure: bool) -> None:
    count = len(past(place.root, place.repo))
    whose = "all repositories" if place.repo is None else "this repository"
    if not count:
        tell(f"There is nothing to forget of {whose}.")
        return
    if not sure:
        if not sys.stdin.isatty():
            raise UsageError("--forget asks first, and nobody is there", hint="Add --yes.")
        if not click.confirm(f"Forget {plural(count, 'row')} of {whose}?", err=True):
            tell("Nothing was forgotten.")
            return
    with History.open(place.root) as history:
        tell(f"Forgot {plural(history.forget(place.repo), 'row')} of {whose}.")
