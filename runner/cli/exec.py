"""`runner exec`: runs a workflow and exits with the run's code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from runner.cli.drive import Output, drive
from runner.cli.options import completing, options_from, run_options

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
@click.option("--json", "as_json", is_flag=True, help="Print the report to stdout as JSON.")
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the report to FILE as JSON.",
)
@click.option("--events", metavar="FILE|-", help="Write each event as one line of JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what failed.")
@run_options
def exec_command(target: str | None, directory: Path, **given: Any) -> int:
    """Run a workflow, or only its STEPs and what they need.

    FILE is a path; NAME is looked up in workflows/, .runner/workflows/ and the built-in ones.
    Without either: workflow.yaml, .runner/workflow.yaml, or the only file in workflows/.
    """
    output = Output(
        as_json=given["as_json"],
        report=given["report"],
        events=given["events"],
        quiet=given["quiet"],
    ).checked()
    options = options_from(given, os.environ)
    report = drive(target, options=options, cwd=directory.resolve(), output=output)
    return report.exit_code or 0
