"""`runner init`: looks at this repository and writes a workflow for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from runner.cli.options import directory_option
from runner.cli.output import tell
from runner.init import CI, Written, initialise
from runner.prepare import work_tree

if TYPE_CHECKING:
    from pathlib import Path


@click.command("init")
@click.option(
    "--ci", type=click.Choice(["github", "gitlab"]), help="Write a CI job that runs it, too."
)
@click.option("--force", is_flag=True, help="Replace files that exist.")
@directory_option
def init_command(ci: str | None, force: bool, directory: Path) -> int:  # noqa: FBT001  click passes flags by name
    """Look at this repository and write a workflow that passes on it.

    Beside a workflow that is there already, --ci writes the CI job alone.

    Only tools that the repository uses and that are installed become steps; models may mend lint,
    type and test failures. Nothing is run.
    """
    root = work_tree(directory.resolve())
    tell(render(initialise(root, ci=cast("CI | None", ci), force=force), root))
    return 0


def render(written: Written, root: Path) -> str:
    """Say what was written, what was left out and why, and what to type next."""
    checks = written.proposal.checks
    width = max((len(check.id) for check in checks), default=0)
    lines = [f"Wrote {', '.join(written.files)} in {root}:"]
    if written.kept:
        lines = [f"Wrote {', '.join(written.files)} in {root}; the workflow stays as it is."]
        return "\n".join([*lines, *_next()])
    lines += [f"  {check.id:<{width}}  {check.run}   ({check.why})" for check in checks]
    if not checks:
        lines.append("  Nothing to check was found: put your own commands in.")
    lines += [f"Left out: {note}" for note in written.proposal.notes]
    return "\n".join([*lines, *_next()])


def _next() -> list[str]:
    return ["Next:", "  runner plan    what a run would do", "  runner exec    run it"]
