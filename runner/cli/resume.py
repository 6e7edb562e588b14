"""`runner resume`: goes on with a run that was killed, interrupted, or left without a provider."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from runner.cli.drive import drive_again
from runner.cli.options import (
    Seconds,
    Usd,
    completing,
    directory_option,
    sandbox_option,
    state_option,
)
from runner.cli.outputs import output_from, output_options
from runner.plan import ResumeOptions

if TYPE_CHECKING:
    from pathlib import Path

EPILOG = (
    "RUN is a run id, its beginning or last part, or `last`, the default. Exit codes are those of "
    "`runner exec`; 2 also where the run cannot be resumed: then nothing was done."
)


@click.command("resume", epilog=EPILOG)
@click.argument("run", default="last", shell_complete=completing("runs"))
@output_options
@click.option(
    "--budget",
    type=Usd(),
    metavar="USD",
    help="Spend at most this much, with what the run has spent already.",
)
@click.option(
    "--time",
    "seconds",
    type=Seconds(),
    metavar="TIME",
    help="Take at most this long, with what the run has taken already: 90s, 30m, 2h.",
)
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="Grant a secret; those that the run was granted need only be set.",
)
@click.option(
    "--again",
    multiple=True,
    metavar="STEP",
    help="Run STEP's command again, though it was cut off and reaches out of the tree.",
)
@click.option(
    "--done", multiple=True, metavar="STEP", help="Take it that STEP's command did its work."
)
@click.option(
    "--discard-external",
    is_flag=True,
    help="Put back what the run goes on from where others changed it; theirs stays in a snapshot.",
)
@sandbox_option
@state_option
@directory_option
def resume_command(run: str, directory: Path, **given: Any) -> int:
    """Go on with a run that was killed or interrupted, or that lacked provider, money or time.

    What is finished is not done again, and no answer of a model is paid twice.
    """
    options = ResumeOptions(
        budget_usd=given["budget"],
        seconds=given["seconds"],
        secrets=tuple(given["secrets"]),
        again=tuple(given["again"]),
        done=tuple(given["done"]),
        discard_external=given["discard_external"],
        sandbox=given["sandbox"],
        state_dir=given["state_dir"],
    )
    report = drive_again(
        run,
        options=options,
        cwd=directory.resolve(),
        output=output_from(given),
        environ=os.environ,
    )
    return report.exit_code or 0
