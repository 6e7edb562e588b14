"""`runner demo`: runs the built-in `ship` workflow in a scratch repository, models scripted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from runner import demo
from runner.cli.drive import Output, drive
from runner.cli.output import tell
from runner.plan import Options

PACE = 0.4
"""Seconds that a scripted answer takes at a terminal, so that a person can follow."""


@click.command("demo")
@click.argument("base", required=False, metavar="[DIR]", type=click.Path(path_type=Path))
@click.option("--seed", type=int, default=1, show_default=True, help="Vary project and defects.")
@click.option("--json", "as_json", is_flag=True, help="Print the report to stdout as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what failed.")
def demo_command(base: Path | None, seed: int, as_json: bool, quiet: bool) -> int:  # noqa: FBT001  click passes flags by name
    """Make a scratch repository with real defects in DIR, and ship it.

    A format error, a lint error that no tool can fix, and a failing test that the cheap model
    gives up on; then commit and push to a local remote. Needs Python and git only; no key, no
    network, no cost: the models are scripted, everything else is real.
    """
    stage = demo.prepare(base, seed, pace=PACE if sys.stderr.isatty() and not quiet else 0.0)
    if not quiet:
        tell(demo.opening(stage))
    output = Output(as_json=as_json, progress="quiet" if quiet else "auto")
    options = Options(models=stage.models, state_dir=stage.state)
    report = drive(
        demo.WORKFLOW,
        options=options,
        cwd=stage.scratch.repository,
        output=output,
        environ=demo.scratch.python_first(os.environ),
    )
    problems = demo.problems(stage, report)
    if problems or not quiet:
        tell(demo.closing(stage, report, problems))
    return report.exit_code or (1 if problems else 0)
