"""`runner measure`: reads session logs of Claude Code and Codex, and prints what they show."""

from __future__ import annotations

import os
import shutil
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.output import print_json, print_text, wants_color
from runner.economics import Helper
from runner.errors import UsageError
from runner.loader.config import load_config
from runner.measure import measure
from runner.measure.figures import to_json
from runner.measure.files import default_places, find
from runner.measure.rates import Rates
from runner.measure.render import render
from runner.measure.tally import Asked
from runner.models.choice import split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.measure.figures import Figures

_EVERY = 0.1
"""Seconds between two signs of progress."""
_EPILOG = (
    "Only reads, and only token counts, models, times, exit codes and command lines; of a command "
    "line only its family (test, lint ...) is kept. Without PATHS: ~/.claude/projects and "
    "~/.codex/sessions, or where CLAUDE_CONFIG_DIR and CODEX_HOME point."
)


@click.command("measure", epilog=_EPILOG)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--prices", metavar="MODEL", help="Price every request as this model's.")
@click.option("--main", metavar="MODEL", help="Price main conversations as this model's.")
@click.option("--cheap", metavar="MODEL", help="The model that runs are delegated to.")
@click.option(
    "--failure-rate",
    metavar="P",
    type=click.FloatRange(0, 1),
    default=0.05,
    show_default=True,
    help="Share of delegated runs that fail and are done again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all figures as JSON.")
def measure_command(
    paths: Sequence[Path],
    failure_rate: float,
    as_json: bool,  # noqa: FBT001  click passes flags by name
    **models: str | None,
) -> int:
    """Read your own session logs of Claude Code and Codex, and print what mechanical turns cost.

    Prints turns, tokens and cost, the share of mechanical turns and how long they run, caches lost
    in gaps, and what batching, steps that the runner starts, and delegation to a cheap model would
    have saved: each with quartiles, and with what is measured and what is assumed.

    A MODEL is written `provider:model`, as in anthropic:claude-opus-5-5.
    """
    config = load_config()
    rates = Rates(config.prices)
    for option, model in models.items():
        _check(option, model, rates)
    helper = Helper(fails=Decimal(str(failure_rate)))
    asked = Asked(**models, helper=helper, caches=config.caches)
    found = _measured(paths, asked, rates)
    if as_json:
        print_json(to_json(found))
    else:
        print_text(render(found, width=_width(), color=wants_color()))
    return 0


def _measured(paths: Sequence[Path], asked: Asked, rates: Rates) -> Figures:
    places = [path.expanduser() for path in paths] or default_places(os.environ, Path.home())
    logs, unread = find(places)
    if not logs:
        why = "; ".join(f"{one.path}: {one.why}" for one in unread[:3])
        where = ", ".join(str(place) for place in places) or "~/.claude and ~/.codex"
        raise UsageError(
            f"no session logs (*.jsonl) found in {where}" + (f" ({why})" if why else ""),
            hint="Name files or directories: runner measure DIR",
        )
    progress = _Progress(len(logs), sum(log.size for log in logs))
    try:
        return measure(logs, unread, asked, rates, heard=progress.heard)
    finally:
        progress.clear()


def _check(option: str, model: str | None, rates: Rates) -> None:
    if model is None:
        return
    split(model)
    if rates.of(model, None, 1) is None:
        hint = "The user's configuration can name one under `prices`."
        raise UsageError(f"--{option} {model}: no price is known for it", hint=hint)


class _Progress:
    """One line on a terminal's stderr, written anew; silent anywhere else."""

    def __init__(self, files: int, size: int) -> None:
        self._files = files
        self._size = max(1, size)
        self._read = 0
        self._shown = False
        self._next = time.monotonic() + _EVERY * 3 if sys.stderr.isatty() else float("inf")

    def heard(self, done: int, size: int) -> None:
        self._read += size
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        self._shown = True
        share = min(99, 100 * self._read // self._size)
        text = f"reading file {done + 1:,} of {self._files:,}, {share} %"
        click.echo(f"\r\x1b[K{text}", err=True, nl=False)

    def clear(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)


def _width() -> int:
    return max(60, min(shutil.get_terminal_size((100, 24)).columns, 160))
