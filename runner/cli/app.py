"""The table of commands and the first help page; imports no command before it is used."""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from click.shell_completion import CompletionItem

COMPLETE_VARIABLE = "SUBRUNNER_COMPLETE"
"""Set by the shell's completion script; see `runner completion --help`."""


@frozen
class Entry:
    """One line of the help page and where its command is written."""

    section: str
    module: str
    """Module below `runner.cli` whose attribute `NAME_command` is the command."""
    summary: str


_YOURS = "Your agent, your shell"

COMMANDS: Mapping[str, Entry] = {
    "demo": Entry("Start", "demo", "See every rung at work in a scratch repository; free."),
    "init": Entry("Start", "init", "Look at this repository and write a workflow for it."),
    "exec": Entry("Start", "exec", "Run a workflow."),
    "resume": Entry("Start", "resume", "Go on with a run that was killed or interrupted."),
    "check": Entry("Workflows", "files", "Say what is wrong with a workflow file; run nothing."),
    "plan": Entry("Workflows", "plan", "Print what a run would do, ask and cost; run nothing."),
    "agents": Entry("Workflows", "files", "List the agents that steps can name."),
    "schema": Entry("Workflows", "files", "Print the JSON Schema of workflows, reports or events."),
    "runs": Entry("Runs", "look", "List the runs of this repository."),
    "show": Entry("Runs", "look", "Print how a run went."),
    "log": Entry("Runs", "look", "Print the whole output of a step's last command."),
    "explain": Entry("Runs", "look", "Print why a step went up or down the rungs."),
    "trace": Entry("Runs", "trace", "Draw when a run did what, or send that to a server."),
    "report": Entry("Runs", "report", "Write a run as one HTML page."),
    "whatif": Entry("Runs", "whatif", "Print what a run would have cost otherwise."),
    "history": Entry(
        "Runs", "history", "Print which model mended what, how reliably, at what cost."
    ),
    "restore": Entry("Runs", "restore", "Bring the tree back to a snapshot of a run."),
    "hook": Entry(_YOURS, "hook", "Run the workflow whenever Claude Code stops."),
    "allow": Entry(_YOURS, "allow", "Let hooks run this repository's workflow as it is."),
    "measure": Entry(_YOURS, "measure", "Print what chores cost in your agents' own logs."),
    "doctor": Entry(_YOURS, "doctor", "Try every protection here, and say how to get more."),
    "completion": Entry(_YOURS, "completion", "Print the completion script for a shell."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and summaries without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the help page."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command; `None` when there is none."""
        del ctx
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = import_module(f"runner.cli.{entry.module}")
        if not gc.isenabled():
            # What was imported stays to the end: collections need not look at it again.
            gc.freeze()
            gc.enable()
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the command; say where a command's own options stand."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            message = f"no option {error.option_name!r} before a command"
            hint = "Options of a command stand behind it, as in: runner exec -C DIR"
            raise click.UsageError(f"{message}. {hint}", ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail with the names that come close."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(unknown_command(args[0], list(COMMANDS)), ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name from the table, for a shell that waits at every key."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  only when completing

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        found = [(name, entry) for name, entry in COMMANDS.items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=entry.summary) for name, entry in found]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in sections, from the table alone."""
        del ctx
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            rows = [(n, e.summary) for n, e in COMMANDS.items() if e.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_max=12)


def unknown_command(name: str, known: Sequence[str]) -> str:
    """Say that there is no such command, and what may have been meant."""
    from difflib import get_close_matches  # noqa: PLC0415  only after a slip; `--help` need not pay

    if name.endswith((".yaml", ".yml")):
        return f"no command {name!r}. To run a workflow file: runner exec {name}"
    close = get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"no command {name!r}.{hint} All commands: {' '.join(known)}"


def print_version(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Print the installed version and stop."""
    del param
    if not value or ctx.resilient_parsing:
        return
    from importlib.metadata import version  # noqa: PLC0415  costs 20 ms that `--help` need not pay

    click.echo(f"runner {version('subagent-runner')}")
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    subcommand_metavar="COMMAND ...",
    epilog="New here? `runner demo`, then in a repository `runner init`, `runner exec`.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=print_version,
    help="Print the version.",
)
def root() -> None:
    """Run a workflow: commands first, then a cheap agent, the main agent last.
    While every command passes, a run costs no token and needs no key.
    """  # noqa: D205  one paragraph: the first help page is to fit a screen
