"""`runner completion`: prints the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import shell_complete

from runner.cli.app import COMPLETE_VARIABLE, root

HOW = {
    "bash": "runner completion bash >> ~/.bashrc",
    "zsh": "runner completion zsh >> ~/.zshrc",
    "fish": "runner completion fish > ~/.config/fish/completions/runner.fish",
}


@click.command("completion", epilog="For example: " + HOW["bash"])
@click.argument("shell", type=click.Choice(list(HOW)))
def completion_command(shell: str) -> int:
    """Print the completion script for SHELL."""
    return shell_complete(root, {}, "runner", COMPLETE_VARIABLE, f"{shell}_source")
