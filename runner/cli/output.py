"""Writes what a command was asked for to stdout, and all else that people read to stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from runner.errors import RunnerError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


def in_github(environ: Mapping[str, str]) -> bool:
    """Tell whether this runs in a job of GitHub Actions, which reads output for commands."""
    return environ.get("GITHUB_ACTIONS") == "true"


def print_text(text: str) -> None:
    """Print text with one newline at its end."""
    _print(text.rstrip("\n"))


def print_json(value: Any) -> None:
    """Print a JSON value, readable and in the order given."""
    _print(json.dumps(value, indent=2, ensure_ascii=False))


def print_bytes(data: bytes) -> None:
    """Print bytes as they are."""
    _print(data, nl=False)


def _print(text: str | bytes, *, nl: bool = True) -> None:
    try:
        click.echo(text, nl=nl)
    except BrokenPipeError:
        raise  # click ends the program quietly: the reader has seen enough
    except OSError as error:
        raise RunnerError(f"stdout cannot be written: {error.strerror}") from error


def tell(text: str = "") -> None:
    """Say something to the person at the terminal, on stderr.

    A message may quote a file, an output or a model: in a job of GitHub's it gives no commands.
    """
    if in_github(os.environ):
        from runner.report.github import harmless  # noqa: PLC0415  nobody else pays for it

        text = harmless(text)
    click.echo(text, err=True)


def agreed(question: str) -> bool:
    """Ask a question that `--yes` answers, too; an answer may be piped in.

    Raises:
        UsageError: Nobody is there to answer.
    """
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise  # interrupted
        tell()
        raise UsageError(
            "nobody is there to answer", hint="If what it shows is right: --yes."
        ) from None


def wants_color() -> bool:
    """Tell whether stdout may be coloured: a terminal, and nobody said no."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
