"""Agents' definitions: front matter, which name means which file, Claude's by a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import UsageError, WorkflowErrors
from runner.loader import load_agents, load_workflow, parse_workflow
from runner.loader.agents import MAX_INSTRUCTIONS, built_in_names, parse_agent
from runner.plan import AgentSpec

if TYPE_CHECKING:
    from pathlib import Path

    from runner.plan import Workflow

PAGE = """---
name: mine
description: Does things.
model: big
tools: [read_file, grep]
turns: 5
output: { ok: boolean, notes: string }
---

Do it.

---
Even after a line.
"""


def parse(text: str | bytes, name: str = "mine") -> AgentSpec:
    data = text.encode() if isinstance(text, str) else text
    return parse_agent(data, name=name, file=f"{name}.md", source="test")


def workflow(fix: str = "fixer", *, head: str = "") -> Workflow:
    return parse_workflow(f"{head}\nsteps: [{{ id: a, run: x, fix: '{fix}' }}]", file=None)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_reads_an_agent() -> None:
    assert parse(PAGE) == AgentSpec(
        name="mine",
        description="Does things.",
        instructions="Do it.\n\n---\nEven after a line.",
        model="big",
        tools=("read_file", "grep"),
        turns=5,
        output={"ok": "boolean", "notes": "string"},
        source="test",
    )
    assert parse(PAGE.replace("\n", "\r\n")).tools == ("read_file", "grep")


def test_an_agent_needs_little() -> None:
    spec = parse("---\nname: mine\ndescription: Does things.\n---\nDo it.")
    assert spec == AgentSpec("mine", "Does things.", "Do it.", source="test")
    assert parse("---\nname: mine\ndescription: x\ntools: []\n---\nDo it.").tools == ()


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no front matter"),
        ("Do it.", 1, "no front matter"),
        ("---\nname: mine\n", 1, "does not end"),
        ("---\n---\nDo it.", 1, "needs the key `name`"),
        ("---\n- name\n---\nDo it.", 2, "must be a mapping, but it is a list"),
        (PAGE.replace("name: mine", "name: other"), 2, "`other` stands in a file named `mine`"),
        (PAGE.replace("turns: 5", "turns: many"), 6, "a whole number from 1 to 100"),
        (PAGE.replace("turns: 5", "maxTurns: 5"), 6, "unknown key `maxTurns`"),
        (PAGE.replace("read_file", "read-file"), 5, "one of read_file"),
        (PAGE.replace("model: big", "model: anthropic:x"), 4, "is not a model role"),
        (PAGE.replace("ok: boolean", "ok: bool"), 7, "one of string, number, boolean, json"),
        (PAGE.replace("description: Does", "description: It: does"), 3, "a `:` with a space"),
        ("---\nname: mine\ndescription: x\n---\n\n  \n", 1, "instructions are missing"),
        (PAGE + "x" * MAX_INSTRUCTIONS, 1, "are the most"),
    ],
)
def test_says_what_is_wrong_with_an_agent(text: str, line: int, message: str) -> None:
    with pytest.raises(WorkflowErrors) as caught:
        parse(text)
    first = caught.value.errors[0]
    assert (first.where.file, first.where.line) == ("mine.md", line)
    assert message in first.message


def test_main_is_no_subagent() -> None:
    with pytest.raises(WorkflowErrors, match="main agent's name"):
        parse(PAGE.replace("name: mine", "name: main"), "main")


def test_the_built_in_agents_are_right(world: Path) -> None:
    agents = load_agents(world, None)
    assert set(agents) == set(built_in_names())
    assert {"fixer", "lint-fixer", "test-fixer", "reviewer"} <= set(agents)
    assert all(spec.source == "built-in" for spec in agents.values())


def test_reads_the_repositorys_own(world: Path) -> None:
    write(world / ".runner/agents/mine.md", PAGE)
    write(world / ".runner/agents/notes.txt", "not an agent")
    spec = load_agents(world, workflow("mine", head="models: { big: 'a:b' }"))["mine"]
    assert spec.source == ".runner/agents/mine.md"
    with pytest.raises(UsageError, match="model role `big`, which the workflow does not have"):
        load_agents(world, workflow("mine"))


def test_a_name_of_a_built_in_is_reserved(world: Path) -> None:
    own = "---\nname: fixer\ndescription: x\n---\nMine."
    write(world / ".runner/agents/fixer.md", own)
    with pytest.raises(UsageError, match=r"overrides: \[fixer\]"):
        load_agents(world, workflow())
    taken = load_agents(world, workflow(head="overrides: [fixer]"))["fixer"]
    assert (taken.instructions, taken.source) == ("Mine.", ".runner/agents/fixer.md")
    assert load_agents(world, None)["fixer"].source == "built-in"


def test_a_workflow_names_only_agents_that_exist(world: Path) -> None:
    write(world / "w.yaml", "steps: [{ id: a, run: x, fix: fixr }]")
    with pytest.raises(WorkflowErrors, match="no agent `fixr`") as caught:
        load_workflow(world / "w.yaml", root=world)
    assert "Did you mean `fixer`?" in str(caught.value)
    assert load_workflow(world / "w.yaml").steps
    with pytest.raises(UsageError, match="no agent `fixr`"):
        load_agents(world, workflow("fixr"))


def test_then_is_another_role_than_the_agents_own(world: Path) -> None:
    write(world / "w.yaml", "steps: [{ id: a, run: x, fix: { agent: fixer, then: cheap } }]")
    with pytest.raises(UsageError, match="step `a`: `then: cheap` is the role that") as caught:
        load_workflow(world / "w.yaml", root=world)
    assert caught.value.hint == "Name a dearer one, or leave it out."


def test_a_broken_agent_stops_the_workflow(world: Path) -> None:
    write(world / "w.yaml", "steps: [{ id: a, run: x, fix: mine }]")
    write(world / ".runner/agents/mine.md", "---\nnome: mine\n---\nx")
    with pytest.raises(WorkflowErrors, match="unknown key `nome`"):
        load_workflow(world / "w.yaml", root=world)


def test_an_agent_does_not_lead_out_of_the_repository(world: Path) -> None:
    root = world / "repo"
    write(world / "outside.md", PAGE)
    (root / ".runner/agents").mkdir(parents=True)
    (root / ".runner/agents/mine.md").symlink_to(world / "outside.md")
    with pytest.raises(UsageError, match="leads out of the repository"):
        load_agents(root, workflow())


# Claude's.

CLAUDE = """---
name: reviewer
description: Use it to review.
tools: Read, Grep, Bash, TodoWrite
model: sonnet
color: blue
---
Review it.
"""


def test_maps_an_agent_of_claude(world: Path) -> None:
    write(world / ".claude/agents/reviewer.md", CLAUDE)
    spec = load_agents(world, workflow("claude:reviewer"))["claude:reviewer"]
    assert spec == AgentSpec(
        name="claude:reviewer",
        description="Use it to review.",
        instructions="Review it.",
        model="cheap",
        tools=("read_file", "grep", "shell", "check"),
        source=".claude/agents/reviewer.md",
    )


@pytest.mark.parametrize(
    ("key", "role"),
    [("haiku", "cheap"), ("sonnet", "cheap"), ("opus", "main"), ("inherit", "main"), ("", "cheap")],
)
def test_maps_models(world: Path, key: str, role: str) -> None:
    write(world / ".claude/agents/reviewer.md", CLAUDE.replace("sonnet", key))
    assert load_agents(world, workflow("claude:reviewer"))["claude:reviewer"].model == role


def test_maps_tools(world: Path) -> None:
    path = world / ".claude/agents/reviewer.md"
    for written, tools in (
        ("tools: [Edit, MultiEdit, Write, LS, Glob]", ("edit_file", "write_file", "list", "check")),
        ("", ("read_file", "edit_file", "write_file", "list", "grep", "check")),
        ("tools:", ("read_file", "edit_file", "write_file", "list", "grep", "check")),
    ):
        write(path, CLAUDE.replace("tools: Read, Grep, Bash, TodoWrite", written))
        assert load_agents(world, workflow("claude:reviewer"))["claude:reviewer"].tools == tools


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Bash", "WebFetch", "the tool `WebFetch` cannot be mapped"),
        ("Bash", "Bash(git:*)", "cannot be mapped"),
        ("Bash", "mcp__db__query", "cannot be mapped"),
        ("sonnet", "claude-opus-4", "the model `claude-opus-4` cannot be mapped"),
        ("description: Use it to review.\n", "", "`description` is missing"),
        ("Review it.", "", "instructions are missing"),
    ],
)
def test_what_cannot_be_mapped_is_an_error_if_it_is_asked_for(
    world: Path, old: str, new: str, message: str
) -> None:
    write(world / ".claude/agents/reviewer.md", CLAUDE.replace(old, new))
    with pytest.raises(WorkflowErrors) as caught:
        load_agents(world, workflow("claude:reviewer"))
    assert message in str(caught.value)
    assert "claude:reviewer" not in load_agents(world, None)
    assert "claude:reviewer" not in load_agents(world, workflow())


def test_lists_claudes_agents_that_can_be_mapped(world: Path) -> None:
    write(world / ".claude/agents/reviewer.md", CLAUDE)
    assert load_agents(world, None)["claude:reviewer"].model == "cheap"


_PIECES = st.sampled_from(
    [
        "---\n",
        "name: mine\n",
        "description: x\n",
        "tools: [grep]\n",
        "- a\n",
        "\n",
        "x",
        "---",
        "\r",
    ]
)


@given(st.one_of(st.lists(_PIECES, max_size=12).map("".join).map(str.encode), st.binary()))
@settings(max_examples=200, deadline=None)
def test_no_file_crashes_the_reader(data: bytes) -> None:
    try:
        spec = parse(data)
    except UsageError:
        return
    assert spec.instructions
