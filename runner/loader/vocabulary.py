"""Declares the small values of the language: names, globs, texts, and a step's variables."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runner.loader.document import Mapping, Node
from runner.loader.shapes import JsonSchema, ListOf, MapOf, Text, describe

if TYPE_CHECKING:
    from runner.loader.problems import Problems

# Names.

STEP_ID = Text(
    "a step's id",
    pattern=r"[A-Za-z][A-Za-z0-9_-]*",
    rule="An id begins with a letter and holds letters, digits, `-` and `_`.",
    max_length=60,
)
NAME_TEXT = Text(
    "a name",
    pattern=r"[A-Za-z_][A-Za-z0-9_-]*",
    rule="A name begins with a letter and holds letters, digits, `-` and `_`.",
    max_length=60,
)
WORKFLOW_NAME = Text(
    "a workflow's name",
    pattern=r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+)*",
    rule="It becomes part of a branch: letters, digits, `-`, `_` and `.`, no spaces.",
    max_length=60,
)
VARIABLE = Text(
    "a variable's name",
    pattern=r"(?!SUBRUNNER_)[A-Za-z_][A-Za-z0-9_]*",
    rule="Letters, digits and `_`, not beginning with a digit; `SUBRUNNER_...` is reserved.",
    max_length=100,
)
ROLE_TEXT = Text(
    "a model role",
    # `keepalive` is the ledger's: requests that only keep main's prompt cache.
    pattern=r"(?!keepalive$)[a-z][a-z0-9_-]*",
    rule="Write `main`, `cheap` or a name that `models` adds; a vendor's id stands in `models`.",
    max_length=40,
)
MODEL_ID = Text(
    "a model id",
    pattern=r"[A-Za-z][A-Za-z0-9_.-]*:[^\s]+",
    rule="Write PROVIDER:MODEL, such as `anthropic:claude-haiku-5-5`.",
    max_length=200,
)
AGENT_TEXT = Text(
    "an agent's name",
    pattern=r"(?:claude:)?[A-Za-z][A-Za-z0-9_-]*",
    rule="Write the name of a file in `.runner/agents` without `.md`, or `claude:NAME`.",
    max_length=80,
)
GLOB = Text(
    "a glob inside the repository",
    pattern=r"(?![/!~])(?!(?:.*/)?\.\.(?:/|$))[^\\\x00-\x1f\x7f]+",
    rule="Globs are relative to the repository's root, with `/`; no `..`, no `!`, no leading `/`.",
    max_length=500,
)
DIRECTORY = Text(
    "a directory inside the repository",
    pattern=r"(?![/~])(?!(?:.*/)?\.\.(?:/|$))[^\\\x00-\x1f\x7f]+",
    rule="It is relative to the repository's root and stays inside it.",
    max_length=500,
)

# Texts.

COMMAND = Text(
    "a command",
    max_length=50_000,
    no_template=True,
    example="Write one text, such as `pytest -q`; several commands as a block: `|`, one a line.",
)
EXPRESSION = Text("an expression", max_length=1_000)
PROMPT_TEXT = Text("a prompt", max_length=100_000)
PLAIN = Text("a text", max_length=2_000)


class Environment(NamedTuple):
    """What `env` holds."""

    values: dict[str, str]
    nodes: dict[str, Node]
    inherit: tuple[str, ...]


class EnvironmentShape:
    """Variables by name, and under `inherit` names taken over from the runner's own environment."""

    _VALUES = MapOf(VARIABLE, Text("a value", any_scalar=True, empty=True, max_length=32_000))
    _INHERIT = ListOf(VARIABLE, "variables' names", unique=True)

    def read(self, node: Node, problems: Problems) -> Environment:
        """Return both parts."""
        if not isinstance(node, Mapping):
            message = f"this must be a mapping, but it is {describe(node)}"
            raise problems.fail(message, node, hint='Write `NAME: "value"`, one a line.')
        entries = dict(node.entries)
        inherit = entries.pop("inherit", None)
        rest = Mapping(entries, node.line, node.column)
        values = self._VALUES.read(rest, problems)
        names = self._INHERIT.read(inherit[1], problems) if inherit else ()
        return Environment(values, {name: entry[1] for name, entry in entries.items()}, names)

    def schema(self) -> JsonSchema:
        """Return the schema."""
        schema = self._VALUES.schema()
        schema["properties"] = {"inherit": self._INHERIT.schema()}
        return schema


ENVIRONMENT_SHAPE = EnvironmentShape()
