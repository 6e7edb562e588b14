"""Writes what a command was asked for to stdout, and all else that people read to stderr."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from runner.errors import RunnerError


def print_text(text: str) -> None:
    """Print text with one newline at its end."""
    _print(text.rstrip("\n"))


def print_json(value: Any) -> None:
    """Print a JSON value, readable and in the order given."""
    _print(json.dumps(value, indent=2, ensure_ascii=False))


def _print(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:
        raise  # click ends the program quietly: the reader has seen enough
    except OSError as error:
        raise RunnerError(f"stdout cannot be written: {error.strerror}") from error


def tell(text: str = "") -> None:
    """Say something to the person at the terminal, on stderr."""
    click.echo(text, err=True)


def wants_color() -> bool:
    """Tell whether stdout may be coloured: a terminal, and nobody said no."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
