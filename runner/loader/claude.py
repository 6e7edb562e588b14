"""Maps an agent of Claude Code (`.claude/agents/NAME.md`) onto ours, by a written table.

Keys that have no meaning here are ignored (`color`, `hooks` ...). A model or a tool that has no
counterpart is an error: an agent without what it counts on would fail in odd ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.loader import scalars
from runner.loader.document import Mapping, Node, Scalar, Sequence
from runner.plan import CHEAP, MAIN, AgentSpec

if TYPE_CHECKING:
    from runner.loader.markdown import Page
    from runner.loader.problems import Problems

FOLDER = ".claude/agents"

MODELS = {"haiku": CHEAP, "sonnet": CHEAP, "opus": MAIN, "inherit": MAIN}
"""An agent without a model gets `cheap`: it is a subagent here."""

TOOLS = {
    "Read": ("read_file",),
    "Edit": ("edit_file",),
    "MultiEdit": ("edit_file",),
    "Write": ("write_file",),
    "LS": ("list",),
    "Glob": ("list",),
    "Grep": ("grep",),
    "Bash": ("shell",),
    # A to-do list of its own has no effect outside the agent; nothing is lost without it.
    "TodoWrite": (),
}
ALL_TOOLS = ("read_file", "edit_file", "write_file", "list", "grep", "check")
"""For an agent that names no tools. A free shell must be asked for by name."""


def map_agent(page: Page, stem: str) -> AgentSpec:
    """Return the agent; mistakes go to the page's problems."""
    front, problems = page.front, page.problems
    if not isinstance(front, Mapping):
        problems.add("the front matter must be a mapping", front)
        return AgentSpec(stem, "", page.body)
    description = _text(front, "description")
    if not description:
        problems.add("the key `description` is missing", front)
    return AgentSpec(
        name=stem,
        description=description[:500],
        instructions=page.body,
        model=_model(front, problems),
        tools=_tools(front, problems),
    )


def _entry(front: Mapping, key: str) -> Node | None:
    found = front.entries.get(key)
    if found is None:
        return None
    node = found[1]
    empty = isinstance(node, Scalar) and scalars.look(node) == "null"
    return None if empty else node


def _text(front: Mapping, key: str) -> str:
    node = _entry(front, key)
    return node.text.strip() if isinstance(node, Scalar) else ""


def _model(front: Mapping, problems: Problems) -> str:
    node = _entry(front, "model")
    if node is None:
        return CHEAP
    name = _text(front, "model")
    if name in MODELS:
        return MODELS[name]
    hint = f"Mapped are {', '.join(MODELS)}; copy the agent to `.runner/agents` for another."
    problems.add(f"the model `{name[:60]}` cannot be mapped to a role", node, hint=hint)
    return CHEAP


def _tools(front: Mapping, problems: Problems) -> tuple[str, ...]:
    node = _entry(front, "tools")
    if node is None:
        return ALL_TOOLS
    found: list[str] = []
    for name, at in _names(node):
        mapped = TOOLS.get(name)
        if mapped is None:
            hint = (
                f"Mapped are {', '.join(TOOLS)}; copy the agent to `.runner/agents` to change it."
            )
            problems.add(f"the tool `{name[:60]}` cannot be mapped", at, hint=hint)
            continue
        found.extend(mapped)
    return tuple(dict.fromkeys((*found, "check")))


def _names(node: Node) -> list[tuple[str, Node]]:
    """Return tools' names, written as a list or between commas."""
    match node:
        case Scalar():
            return [(part.strip(), node) for part in node.text.split(",") if part.strip()]
        case Sequence():
            return [(item.text if isinstance(item, Scalar) else "?", item) for item in node.items]
        case Mapping():
            return [("?", node)]
