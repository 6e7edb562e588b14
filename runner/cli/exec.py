"""`runner exec`: runs a workflow and exits with the run's code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.drive import drive
from runner.cli.options import completing, options_from, run_options
from runner.cli.output import tell
from runner.cli.outputs import output_from, output_options

if TYPE_CHECKING:
    from runner.plan import Options
    from runner.report import Report

EXIT_CODES = (
    "Exit codes: 0 passed; 1 a step failed; 2 bad workflow, input or missing grant; 3 budget or "
    "time ran out; 4 a protection is not available; 5 a mend left its scope; 6 a provider failed; "
    "7 passed, but mends are not committed; 130, 143 interrupted."
)


@click.command("exec", epilog=EXIT_CODES)
@click.argument(
    "target", required=False, metavar="[FILE|NAME]", shell_complete=completing("workflows")
)
@click.argument("steps", nargs=-1, metavar="[STEP]...", shell_complete=completing("steps"))
@output_options
@click.option(
    "--trace-content",
    is_flag=True,
    help="Put prompts, tool arguments and answers into the trace as well; secrets are masked.",
)
@click.option(
    "--record",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Record models' answers, commands and decisions in DIR, a new directory.",
)
@click.option(
    "--replay",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Let DIR answer in the models' place, without network or key; fail where the run is not "
    "as it was recorded.",
)
@run_options
def exec_command(target: str | None, directory: Path, **given: Any) -> int:
    """Run a workflow, or only its STEPs and what they need.

    FILE is a path; NAME is looked up in workflows/, .runner/workflows/ and the built-in ones.
    Without either: workflow.yaml, .runner/workflow.yaml, or the only file in workflows/.
    """
    output = output_from(given)
    options = options_from(given, os.environ)
    report = drive(target, options=options, cwd=directory.resolve(), output=output)
    _tell_of_cassette(options, report)
    return report.exit_code or 0


def _tell_of_cassette(options: Options, report: Report) -> None:
    """Say what became of the cassette; that a replay was another is an error, and told so."""
    ended = (report.exit_code or 0) <= 128
    if options.record is not None:
        what = f"recorded in {options.record}" if ended else "interrupted: nothing was recorded"
        tell(f"runner: {what}")
    elif options.replay is not None and ended:
        tell(f"runner: as it was recorded in {options.replay}")
