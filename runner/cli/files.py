"""`runner check`, `agents`, `schema`: read files and say what is in them; run nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runner.cli.options import completing, directory_option
from runner.cli.output import print_json, print_text, tell
from runner.errors import UsageError
from runner.loader import load_agents, workflow_schema
from runner.prepare import find_and_load, work_tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from runner.plan import AgentSpec


@click.command("check")
@click.argument(
    "target", required=False, metavar="[FILE|NAME]", shell_complete=completing("workflows")
)
@directory_option
def check_command(target: str | None, directory: Path) -> int:
    """Check a workflow file, with every error by file, line and column. Exit code 2 if any."""
    cwd = directory.resolve()
    workflow = find_and_load(target, work_tree(cwd), cwd)
    steps = ", ".join(step.id for step in workflow.steps)
    tell(f"{workflow.file}: workflow {workflow.name!r} is good; its steps: {steps}")
    return 0


@click.command("schema")
@click.option("--events", "what", flag_value="events", help="Of one line of exec --events.")
@click.option("--report", "what", flag_value="report", help="Of exec --json and --report.")
def schema_command(what: str | None) -> int:
    """Print the JSON Schema of workflow files, for editors, or of what a run writes.

    Save it beside the workflow, and name it in the workflow's first line:

    \b
      runner schema > runner.schema.json
      # yaml-language-server: $schema=./runner.schema.json
    """  # noqa: D301  `\b` is click's mark for lines to leave alone
    if what is None:
        print_json(workflow_schema())
        return 0
    from runner.schemas import event_schema, report_schema  # noqa: PLC0415  few ask for it

    print_json(event_schema() if what == "events" else report_schema())
    return 0


@click.command("agents")
@click.argument("name", required=False, shell_complete=completing("agents"))
@directory_option
def agents_command(name: str | None, directory: Path) -> int:
    """List the agents that steps can name, or print one NAME whole."""
    agents = load_agents(work_tree(directory.resolve()), None)
    if name is None:
        print_text(render_agents(agents.values()))
        return 0
    if name not in agents:
        raise UsageError(f"no agent {name!r}", hint=f"There are: {', '.join(sorted(agents))}")
    print_text(render_agent(agents[name]))
    return 0


def render_agents(agents: Iterable[AgentSpec]) -> str:
    """Render one line for each agent: name, model role, source, description."""
    rows = sorted((a.name, a.model, a.source, a.description) for a in agents)
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines: list[str] = []
    for *cells, description in rows:
        padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        lines.append("  ".join([*padded, description]))
    return "\n".join(lines)


def render_agent(agent: AgentSpec) -> str:
    """Render one agent with its limits and instructions."""
    head = {
        "name": agent.name,
        "description": agent.description,
        "model": agent.model,
        "tools": ", ".join(agent.tools),
        "turns": str(agent.turns),
        "source": agent.source,
    }
    lines = [f"{key + ':':<13}{value}" for key, value in head.items()]
    return "\n".join([*lines, "", agent.instructions.strip()])
