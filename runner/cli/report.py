"""`runner report`: writes a run as one HTML page, from its journal, logs and snapshots."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import click

from runner.cli.look import RUN_HELP
from runner.cli.options import completing, directory_option, state_option
from runner.cli.output import print_bytes, print_text, tell
from runner.cli.where import journal_of, typed
from runner.errors import RunnerError, UsageError
from runner.page import Seen, failed_commands, mends, render_page, story_of, told_steps
from runner.prepare import work_tree
from runner.report import summarise
from runner.text import clean
from runner.workspace.environment import secret_values
from runner.workspace.masking import Mask
from runner.workspace.state import repo_state, state_root
from runner.workspace.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.page import Course, Story

TAIL = 16_384
"""Bytes read of the end of a failing command's log."""
DIFF = 100_000
"""Bytes read of one attempt's changes."""
LOGS = 400
"""Logs that are read; of more, the last ones."""
DIFFS = 200
_GONE = "[the changes cannot be read: a snapshot is gone]"


@click.command("report", epilog=RUN_HELP)
@click.argument("run", default="last", shell_complete=completing("runs"))
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write it there, `-` to stdout.  [default: report.html in the run's state directory]",
)
@click.option("--open", "show", is_flag=True, help="Open it in the browser.")
@state_option
@directory_option
def report_command(
    run: str, output: str | None, state_dir: Path | None, directory: Path, *, show: bool
) -> int:
    """Write a run as one HTML page: what it did, what it cost and why.

    The page needs no network and no script. Its path is printed. It holds the ends of failing
    outputs and what models changed: whoever may read it may read those.
    """
    # What was granted was masked as it was recorded; not so a key that the run only might have met.
    mask = Mask(secret_values(os.environ))
    told, root, state = _read(run, state_dir, directory)
    run_dir = Path(told.report.state_dir)
    story = mask.noun(told) if mask else told
    seen = anyio.run(partial(_look, _told(told), root, state, run_dir, mask))
    page = render_page(story, seen, where=typed(directory, state_dir))
    if output == "-":
        print_bytes(page.encode("utf-8", "replace"))
        return 0
    path = Path(output) if output else Path(story.report.state_dir) / "report.html"
    _write(path, page, given=output is not None)
    print_text(str(path))
    if show and click.launch(str(path)):
        tell("runner: no browser could be opened")
    return 0


def _read(run: str, state_dir: Path | None, directory: Path) -> tuple[Story, Path, Path]:
    """Fold the run's journal; with the work tree and its state directory."""
    root = work_tree(directory.resolve())
    state = repo_state(root, state_root(state_dir))
    with journal_of(directory, state_dir) as journal:
        run_id = journal.find(run)
        row = next(row for row in journal.runs() if row.id == run_id)
        records = list(journal.records(run_id))
        events = (record.event for record in records)
        report = summarise(events, alive=journal.alive(run_id), until=row.heard_at)
    if not report.run_id:
        # Its process died before it could tell anything.
        place = str(state / "runs" / run_id)
        report = replace(report, run_id=run_id, state_dir=place, started_at=row.started_at)
    return story_of(records, report), root, state


def _told(story: Story) -> list[Course]:
    """Return the steps whose course is told, those that failed first: they get the room."""
    steps = sorted(told_steps(story), key=lambda step: not step.failed)
    return [story.courses[step.id] for step in steps if step.id in story.courses]


async def _look(
    courses: Sequence[Course], root: Path, state: Path, run_dir: Path, mask: Mask
) -> Seen:
    """Read what the journal only names: ends of logs, and changes between snapshots."""
    logs = list(dict.fromkeys(one.log for one in failed_commands(courses) if one.log))
    outputs = {log: mask.text(_tail(Path(log), run_dir)) for log in logs[:LOGS]}
    return Seen(await _diffs(courses, root, state, mask), outputs)


def _tail(log: Path, run_dir: Path) -> str:
    """Read the end of a log of this run; nothing where it is gone."""
    if not log.resolve().is_relative_to(run_dir.resolve()):
        return ""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL))
            data = file.read()
    except OSError:
        return ""
    text = data.decode("utf-8", "replace")
    if size > TAIL:
        text = f"[... {size - TAIL:,} bytes before this ...]\n{text.partition(chr(10))[2]}"
    return clean(text)


async def _diffs(
    courses: Sequence[Course], root: Path, state: Path, mask: Mask
) -> dict[tuple[str, int], str]:
    """Read what each attempt changed; a line in brackets where that cannot be shown."""
    wanted = mends(courses)
    found = {(step, one.number): "[changes left out: too many]" for step, one in wanted[DIFFS:]}
    if not wanted:
        return found
    tree = await Tree.open(root, state)
    try:
        for step, one in wanted[:DIFFS]:
            try:
                text = await tree.diff(one.before, one.after, limit=DIFF) or _GONE
            except RunnerError as error:
                text = f"[the changes cannot be read: {error.message}]"
            except ValueError as error:
                text = f"[the changes cannot be read: {error}]"
            found[step, one.number] = mask.text(text)
    finally:
        tree.close()
    return found


def _write(path: Path, page: str, *, given: bool) -> None:
    """Write the page, for its owner's eyes only where nobody named a file."""
    try:
        if not given:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(page, "utf-8", "replace")
        if not given:
            path.chmod(0o600)
    except OSError as error:
        message = f"the report cannot be written to {path}: {error.strerror}"
        raise UsageError(message, hint="Name another place: -o FILE, or -o - for stdout") from error
