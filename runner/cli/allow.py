"""`runner allow`: shows what a hook would run in this repository, and lets the user allow it."""

from __future__ import annotations

import os
import shlex
import time
from typing import TYPE_CHECKING

import click

from runner.cli.options import completing, directory_option, state_option
from runner.cli.output import agreed, print_text, tell
from runner.hook import trust
from runner.loader.language import SHELLS
from runner.plan import HOST, Commit, Options, Prompt, Push, Run, Uses
from runner.prepare import find_and_load, prepare, work_tree
from runner.workspace.state import state_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.hook.trust import Allowed, Made
    from runner.plan import AgentSpec, Step
    from runner.prepare import Prepared


@click.command("allow")
@click.argument(
    "target", required=False, metavar="[FILE|NAME]", shell_complete=completing("workflows")
)
@click.option("--list", "listing", is_flag=True, help="List what is allowed, and where.")
@click.option("--revoke", is_flag=True, help="Take back what is allowed in this repository.")
@click.option("-y", "--yes", is_flag=True, help="Allow without asking.")
@state_option
@directory_option
def allow_command(
    target: str | None,
    listing: bool,  # noqa: FBT001  click passes flags by name
    revoke: bool,  # noqa: FBT001  as above
    yes: bool,  # noqa: FBT001  as above
    state_dir: Path | None,
    directory: Path,
) -> int:
    """Let `runner hook` run this repository's workflow, exactly as it is now.

    Shown is everything that the runner would execute or tell a model. When any of it changes, the
    hook runs nothing until it is allowed again. The commands themselves run the repository's code.
    """
    cwd, state = directory.resolve(), state_root(state_dir)
    root = work_tree(cwd)
    if listing:
        print_text("\n".join(map(line, trust.listed(state))) or "Nothing is allowed.")
        return 0
    if revoke:
        name = None
        if target is not None:
            file = find_and_load(target, root, cwd).file
            name = trust.label(file, root) if file else None
        gone = trust.revoke(state, str(root.resolve()), name)
        tell("\n".join(f"No longer allowed: {line(one)}" for one in gone) or "Nothing was allowed.")
        return 0
    prepared, made = look(target, cwd, root)
    tell(render(prepared, made))
    if not made.asks:
        tell("All of it is your own: it needs no `runner allow`.")
    elif trust.is_allowed(state, made):
        tell("This is allowed already.")
    elif yes or agreed("Allow hooks to run this?"):
        trust.allow(state, made)
        tell(f"Allowed in {made.root}.")
    else:
        tell("Nothing was allowed.")
        return 1
    return 0


def look(target: str | None, cwd: Path, root: Path) -> tuple[Prepared, Made]:
    """Read everything that a hook's run is made of; secrets and grants are not asked for yet.

    Raises:
        UsageError: The workflow, or an agent that it names, is wrong.
    """
    workflow = find_and_load(target, root, cwd)
    asked = {name for step in walk(workflow.steps) for name in step.secrets}
    options = Options(host=True, secrets=tuple(asked), allow_network=True)
    environ = dict(os.environ)
    environ |= {name: "not looked at here" for name in asked if not environ.get(name)}
    prepared = prepare(workflow, options=options, cwd=root, environ=environ)
    return prepared, trust.made_of(prepared)


def render(prepared: Prepared, made: Made) -> str:
    """Show what would run: every line of every command, and who may be told what."""
    rows = [f"workflow  {visible(made.workflow)}", f"tree      {visible(made.root)}"]
    models = [
        f"{one.role}: {one.id}" + ("" if one.available else f" (not without {one.missing})")
        for one in prepared.choices.values()
        if one.id != HOST
    ]
    rows.append(f"models    {visible(', '.join(models))}; main: the agent that stops")
    rows += [f"made of   {visible(part.label)}  {part.sha256[:12]}" for part in made.parts]
    rows.append("")
    for step in prepared.steps:
        rows.extend(_step(step, ""))
    for agent in trust.agents_of(prepared):
        rows.extend(_agent(agent))
    return "\n".join(rows)


def walk(steps: tuple[Step, ...]) -> Iterator[Step]:
    """Yield every step, those of used workflows too."""
    for step in steps:
        yield step
        if isinstance(step.kind, Uses):
            yield from walk(step.kind.workflow.steps)


def _step(step: Step, space: str) -> Iterator[str]:
    match step.kind:
        case Run(command, autofix, fix):
            yield f"{space}{step.id}"
            yield from _block(f"{space}  run", command)
            if autofix:
                yield from _block(f"{space}  autofix", autofix)
            if fix:
                yield f"{space}  mended by {visible(fix.agent)}"
        case Prompt(text, agent):
            yield f"{space}{step.id}  a prompt to {visible(agent)}; main's are skipped in a hook"
            yield from _block(f"{space}  prompt", text)
            if step.kind.check:
                yield from _block(f"{space}  check", step.kind.check)
        case Commit() | Push():
            kind = "commit" if isinstance(step.kind, Commit) else "push"
            yield f"{space}{step.id}  {kind}; in a hook only with --with-commit"
        case Uses(workflow):
            yield f"{space}{step.id}  uses {visible(workflow.name)}"
            for inner in workflow.steps:
                yield from _step(inner, f"{space}  ")
    yield from _around(step, space)
    asks = [*(f"secret {name}" for name in step.secrets), *(["network"] if step.network else [])]
    if asks:
        yield f"{space}  asks for {visible(', '.join(asks))}"


def _around(step: Step, space: str) -> Iterator[str]:
    """Show what decides with a command what it does: its shell, its variables, its directory."""
    if step.shell != SHELLS["bash"]:
        yield f"{space}  shell  {visible(shlex.join(step.shell))}"
    yield from (f"{space}  env  {visible(f'{name}={value}')}" for name, value in step.env.items())
    if step.inherit:
        yield f"{space}  inherits  {visible(', '.join(step.inherit))}"
    if step.dir != ".":
        yield f"{space}  dir  {visible(step.dir)}"


def _agent(agent: AgentSpec) -> Iterator[str]:
    """Show what a model is told; what comes with the runner is known."""
    if agent.source != "built-in":
        yield f"agent {visible(agent.name)}  with {', '.join(map(visible, agent.tools))}"
        yield from _block("  told", agent.instructions)


def _block(head: str, text: str) -> Iterator[str]:
    for at, one in enumerate(text.strip("\n").split("\n")):
        name = head if at == 0 else " " * len(head)
        yield f"{name}  {visible(one)}"


def visible(text: str) -> str:
    """Return text with all that a terminal would not show, or act on, written out."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def line(one: Allowed) -> str:
    """Return an allowed workflow as a line."""
    at = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.at))
    return f"{visible(one.root)}  {visible(one.workflow)}  {one.sha256[:12]}  since {at}"
