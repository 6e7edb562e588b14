"""`runner completion`: prints the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import shell_complete

from runner.cli.app import COMPLETE_VARIABLE, root

SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> int:
    """Print the completion script for SHELL, for its start-up file.

    \b
      runner completion bash >> ~/.bashrc
      runner completion zsh >> ~/.zshrc      below `autoload -U compinit && compinit`
      runner completion fish > ~/.config/fish/completions/runner.fish
    """  # noqa: D301  `\b` is click's mark for lines to leave alone
    return shell_complete(root, {}, "runner", COMPLETE_VARIABLE, f"{shell}_source")
