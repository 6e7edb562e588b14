"""Reads agents' definitions: the built-ins, `.runner/agents`, and `.claude/agents` by a table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.loader import claude
from runner.loader.builtin import builtin
from runner.loader.files import is_inside, read_file, shown
from runner.loader.language import TOOLS, VALUE_TYPE
from runner.loader.markdown import Page, read_page
from runner.loader.problems import Spot, Unreadable
from runner.loader.records import Field, Record, fields_of
from runner.loader.shapes import Choice, ListOf, MapOf, Text, Whole
from runner.loader.vocabulary import NAME_TEXT, ROLE_TEXT
from runner.plan import CHEAP, MAIN, AgentSpec, Commit, Fix, Prompt, Run, Uses, Workflow
from runner.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

MAX_INSTRUCTIONS = 8_000
"""Bytes: a subagent's whole fixed part, tools included, may have no more."""
CLAUDE = "claude:"
_DEFAULT = AgentSpec("", "", "")


class AgentKeys:
    """Keys of an agent's front matter."""

    NAME = Field("name", NAME_TEXT, "Its name, the file's without `.md`.", required=True)
    DESCRIPTION = Field(
        "description",
        Text("a description", max_length=500),
        "What it is for; the main agent reads it.",
        required=True,
    )
    MODEL = Field("model", ROLE_TEXT, "A model role; default `cheap`.")
    TOOLS = Field(
        "tools", ListOf(Choice(TOOLS), "tools", unique=True), "What it may call; [] is nothing."
    )
    TURNS = Field("turns", Whole(1, 100), "Requests at most; default 12.")
    OUTPUT = Field("output", MapOf(NAME_TEXT, VALUE_TYPE), "Typed values it answers.")


AGENT = Record(
    "an agent's front matter",
    fields_of(AgentKeys),
    foreign={"max-turns": "Write `turns`.", "instructions": "They stand below the second `---`."},
)


def load_agents(root: Path, workflow: Workflow | None) -> Mapping[str, AgentSpec]:
    """Return all agents by name.

    The repository's own come from `.runner/agents`; a name of a built-in is reserved unless the
    workflow lists it under `overrides`. Of `.claude/agents` those that the workflow names
    (`claude:NAME`) are read; without a workflow all that can be mapped.

    Raises:
        WorkflowErrors: A file is wrong, or names a model role that the workflow does not have.
        UsageError: A file cannot be read or leads out of the repository; an agent that the
            workflow names does not exist.
    """
    agents = _built_in()
    reserved = set(agents) - set(workflow.overrides if workflow else ())
    for path in _files(root / ".runner/agents"):
        if path.stem not in reserved:
            agents[path.stem] = _own(path, root)
        elif workflow is not None:
            hint = f"Rename it, or list it in the workflow: `overrides: [{path.stem}]`."
            message = f"{shown(path, root)}: `{path.stem}` is the name of a built-in agent"
            raise UsageError(message, hint=hint)
    agents |= _foreign(root, workflow)
    if workflow is not None:
        _check(agents, workflow)
    return agents


def agent_names(root: Path) -> tuple[str, ...]:
    """Return the names of all agents there are, without reading their files."""
    names = {path.stem for path in _shipped()} | {
        path.stem for path in _files(root / ".runner/agents")
    }
    foreign = {f"{CLAUDE}{path.stem}" for path in _files(root / claude.FOLDER)}
    return tuple(sorted(names | foreign))


def built_in_names() -> tuple[str, ...]:
    """Return the names of the built-in agents."""
    return tuple(path.stem for path in _shipped())


def own_names(root: Path) -> tuple[str, ...]:
    """Return the names of the repository's own agents."""
    return tuple(path.stem for path in _files(root / ".runner/agents"))


def named_agents(workflow: Workflow) -> Iterator[str]:
    """Yield each agent that a workflow names, those of workflows that it uses included."""
    if workflow.default_fix is not None:
        yield workflow.default_fix.agent
    for step in workflow.steps:
        match step.kind:
            case Run(fix=Fix(agent=name)):
                yield name
            case Prompt(agent=name) if name != MAIN:
                yield name
            case Commit(agent=str() as name):
                yield name
            case Uses(workflow=inner):
                yield from named_agents(inner)
            case _:
                pass


def parse_agent(data: bytes, *, name: str, file: str, source: str) -> AgentSpec:
    """Return the agent of a file's bytes.

    Args:
        data: The file.
        name: What the file's name says.
        file: The file as a user would name it.
        source: What `AgentSpec.source` is to say.

    Raises:
        WorkflowErrors: With every mistake found.
    """
    page = read_page(data, file)
    try:
        fields = AGENT.read(page.front, page.problems)
    except Unreadable:
        page.problems.raise_if_any()
        raise
    own = fields.get(AgentKeys.NAME)
    if own is not None and own != name:
        hint = "The name is the file's, without `.md`."
        page.problems.add(
            f"`{own}` stands in a file named `{name}`", fields.value(AgentKeys.NAME), hint=hint
        )
    if own == MAIN:
        page.problems.add("`main` is the main agent's name", fields.value(AgentKeys.NAME))
    check_instructions(page)
    page.problems.raise_if_any()
    return AgentSpec(
        name=name,
        description=fields.get_or(AgentKeys.DESCRIPTION, ""),
        instructions=page.body,
        model=fields.get_or(AgentKeys.MODEL, CHEAP),
        tools=fields.get_or(AgentKeys.TOOLS, _DEFAULT.tools),
        turns=fields.get_or(AgentKeys.TURNS, _DEFAULT.turns),
        output=fields.get_or(AgentKeys.OUTPUT, {}),
        source=source,
    )


def check_instructions(page: Page) -> None:
    """Tell the page's problems when its instructions are missing or too long."""
    size = len(page.body.encode())
    if not page.body:
        page.problems.add(
            "the instructions are missing", Spot(1, 1), hint="Write them below the second `---`."
        )
    elif size > MAX_INSTRUCTIONS:
        message = f"the instructions have {size:,} bytes; {MAX_INSTRUCTIONS:,} are the most"
        page.problems.add(
            message, Spot(1, 1), hint="They are sent with every request; shorten them."
        )


def _shipped() -> list[Path]:
    return _files(builtin("agents"))


def _built_in() -> dict[str, AgentSpec]:
    return {
        path.stem: parse_agent(
            path.read_bytes(), name=path.stem, file=f"built-in:{path.name}", source="built-in"
        )
        for path in _shipped()
    }


def _own(path: Path, root: Path) -> AgentSpec:
    name = shown(path, root)
    return parse_agent(_read(path, root), name=path.stem, file=name, source=name)


def _read(path: Path, root: Path) -> bytes:
    if not is_inside(path, root):
        raise UsageError(f"the agent file {path} leads out of the repository")
    return read_file(path, "agent file")


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".md")
    except OSError:
        return []


def _foreign(root: Path, workflow: Workflow | None) -> dict[str, AgentSpec]:
    folder = root / claude.FOLDER
    if workflow is None:
        found: dict[str, AgentSpec] = {}
        for path in _files(folder):
            try:
                found[f"{CLAUDE}{path.stem}"] = _claude(path, root)
            except UsageError:
                continue  # nobody asked for it: what cannot be mapped is not offered
        return found
    names = {name for name in named_agents(workflow) if name.startswith(CLAUDE)}
    paths = {name: folder / f"{name.removeprefix(CLAUDE)}.md" for name in sorted(names)}
    return {name: _claude(path, root) for name, path in paths.items() if path.is_file()}


def _claude(path: Path, root: Path) -> AgentSpec:
    name = shown(path, root)
    page = read_page(_read(path, root), name)
    spec = claude.map_agent(page, path.stem)
    check_instructions(page)
    page.problems.raise_if_any()
    return replace(spec, name=f"{CLAUDE}{path.stem}", source=name)


def _check(agents: Mapping[str, AgentSpec], workflow: Workflow) -> None:
    roles: Collection[str] = (MAIN, CHEAP, *workflow.models)
    named = set(named_agents(workflow))
    for name in sorted(named):
        spec = agents.get(name)
        if spec is None:
            hint = did_you_mean(name, agents, label="Agents")
            raise UsageError(f"there is no agent `{name}`", hint=hint)
        if spec.model not in roles:
            hint = did_you_mean(spec.model, roles, label="Roles")
            message = f"{spec.source}: the agent `{name}` asks for the model role `{spec.model}`"
            raise UsageError(f"{message}, which the workflow does not have", hint=hint)
    _check_then(agents, workflow)


def _check_then(agents: Mapping[str, AgentSpec], workflow: Workflow) -> None:
    """Check that no `then` asks the role again that the agent's own file names."""
    for step in workflow.steps:
        match step.kind:
            case Run(fix=Fix() as fix) | Prompt(fix=Fix() as fix):
                if fix.then is not None and fix.then == (fix.model or agents[fix.agent].model):
                    raise UsageError(
                        f"step `{step.id}`: `then: {fix.then}` is the role that the agent "
                        f"`{fix.agent}` is asked with first",
                        hint="Name a dearer one, or leave it out.",
                    )
            case Uses(workflow=inner):
                _check_then(agents, inner)
            case _:
                pass
