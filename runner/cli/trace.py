"""`runner trace`: shows a run as a trace, writes that as a file; `upload` sends it."""

from __future__ import annotations

import os
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli.look import RUN_HELP
from runner.cli.options import completing, directory_option, state_option
from runner.cli.output import print_json, print_text, tell, wants_color
from runner.cli.where import journal_of
from runner.console.spantree import render_trace
from runner.console.style import glyphs_for
from runner.errors import RunnerError
from runner.telemetry.otlp import line, traces
from runner.telemetry.reading import resource_of, spans_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from click.shell_completion import CompletionItem

    from runner.telemetry import Span, Value

SHOW = "show"
_BATCH = 500
"""Spans of one line of a file."""


class TraceGroup(click.Group):
    """A group whose first command need not be named: `runner trace RUN` shows it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help page."""
        del ctx
        return [SHOW, "upload"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command; only the one that is asked for is imported."""
        del ctx
        if cmd_name == SHOW:
            return show_command
        if cmd_name != "upload":
            return None
        command: click.Command = import_module("runner.cli.upload").upload_command
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take what begins with no command's name for a run, or for an option of its own."""
        completing_names = ctx.resilient_parsing and not args
        named = args[:1] and args[0] in (*self.list_commands(ctx), *ctx.help_option_names)
        if not named and not completing_names:
            args = [SHOW, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name or a run."""
        argument = next(one for one in show_command.params if one.name == "run")
        with show_command.make_context(SHOW, [], parent=ctx, resilient_parsing=True) as shown:
            runs = argument.shell_complete(shown, incomplete)
        return [*super().shell_complete(ctx, incomplete), *runs]


@click.group("trace", cls=TraceGroup, subcommand_metavar="[RUN] | COMMAND ...", epilog=RUN_HELP)
def trace_command() -> None:
    """Show a run as a trace: when each step, attempt, command and model request was.

    `runner trace` is short for `runner trace show`.
    """


@click.command(SHOW, epilog=RUN_HELP)
@click.argument("run", default="last", shell_complete=completing("runs"))
@click.option("--json", "as_json", is_flag=True, help="Print OTLP/JSON.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write OTLP/JSON lines to FILE, which Jaeger's upload takes.",
)
@click.option(
    "--trace-content",
    is_flag=True,
    help="With prompts, tool arguments and answers, in --json and FILE.",
)
@state_option
@directory_option
def show_command(
    run: str,
    as_json: bool,  # noqa: FBT001  click passes flags by name
    output: Path | None,
    trace_content: bool,  # noqa: FBT001  as above
    state_dir: Path | None,
    directory: Path,
) -> int:
    """Draw a run's spans from the journal: also of a run that was killed, or goes on."""
    with journal_of(directory, state_dir) as journal:
        run_id = journal.find(run)
        row = next(row for row in journal.runs() if row.id == run_id)
        happened = [(record.event, record.at) for record in journal.records(run_id)]
    events = [event for event, _ in happened]
    alive = row.status == "running"
    ended, going = spans_of(happened, alive=alive, content=trace_content)
    resource = resource_of(events, os.environ, host=row.host, pid=row.pid)
    if as_json:
        print_json(traces(ended, resource))
    if output is not None:
        _write(output, ended, resource)
        tell(f"{len(ended)} spans written to {output}")
    if not as_json and output is None:
        width = min(shutil.get_terminal_size((100, 24)).columns, 160)
        glyphs = glyphs_for(sys.stdout.encoding)
        text = render_trace([*ended, *going], width=width, color=wants_color(), glyphs=glyphs)
        print_text(text or "This run has no spans: it ended before it began.")
    if alive:
        tell("The run goes on: what is not over yet is shown as it is now.")
    return 0


def _write(path: Path, spans: Sequence[Span], resource: Mapping[str, Value]) -> None:
    """Write spans to a file of the user's own eyes only.

    Raises:
        RunnerError: It cannot be written.
    """
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            for first in range(0, len(spans), _BATCH):
                file.write(line(spans[first : first + _BATCH], resource))
    except OSError as error:
        raise RunnerError(f"--output {path}: {error.strerror}") from error
