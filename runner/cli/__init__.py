"""The command line: argv in, exit code out. A command is imported only when it is used."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import click

from runner.cli.app import COMPLETE_VARIABLE, root
from runner.errors import RunnerError, WorkflowError, WorkflowErrors

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["invoke", "main"]

INTERRUPTED = 130
"""Exit code after SIGINT, as shells say it (128 + 2)."""


def main() -> None:
    """Entry point of the `runner` command."""
    # Imports leave no garbage, and looking for it is a tenth of the start; `app` turns it on again.
    gc.disable()
    sys.exit(invoke(sys.argv[1:]))


def invoke(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; everything meant for people goes to stderr."""
    try:
        code = root.main(
            args=list(argv),
            prog_name="runner",
            standalone_mode=False,
            complete_var=COMPLETE_VARIABLE,
        )
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (WorkflowError, WorkflowErrors) as error:
        click.echo(str(error), err=True)  # begins with `file:line:column`, as editors expect it
        return error.exit_code
    except RunnerError as error:
        click.echo(f"runner: {error}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("runner: interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else 0
