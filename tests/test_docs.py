"""Holds `docs/workflow.md` to the language: every key is there, none that is not, examples load."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from runner.loader import parse_workflow, workflow_schema
from runner.loader.agents import AGENT
from runner.loader.config import CONFIG, parse_config
from runner.loader.language import SHELLS, TOOLS
from runner.outcome import Status, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/workflow.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
TEXT = re.sub(r"^```.*?^```$", "", PAGE, flags=re.MULTILINE | re.DOTALL)
EXAMPLES = [text for language, text in BLOCKS if language == "yaml"]

WORKFLOW = {
    "": "## The file",
    "budget": "### `budget`",
    "inputs": "### `inputs`",
    "defaults": "### `defaults`",
    "step": "## Steps",
    "fix": "### `fix`",
    "escalate": "### `escalate`",
    "retry": "### `retry`",
    "commit": "### `commit`",
    "push": "### `push`",
}
CONFIGURATION = {
    "": "## The user's configuration",
    "providers": "### `providers`",
    "prices": "### `prices`",
    "caches": "### `caches`",
    "grants": "### `grants`",
    "sandbox": "### `sandbox`",
    "ceilings": "### `ceilings`",
}


def records(schema: Any, name: str = "") -> Iterator[tuple[str, frozenset[str]]]:
    """Yield every mapping with keys of its own, under the key that holds it."""
    if isinstance(schema, list):
        for one in cast("list[Any]", schema):
            yield from records(one, name)
    if not isinstance(schema, dict):
        return
    node = cast("dict[str, Any]", schema)
    inner: dict[str, Any] = node.get("properties", {})
    if inner and name != "env":
        yield name, frozenset(inner)
    for key, value in {**inner, **node.get("$defs", {})}.items():
        yield from records(value, key)
    for key in ("additionalProperties", "items", "anyOf"):
        yield from records(node.get(key), name)


def keys_of(heading: str) -> set[str]:
    """Return the keys that the table below a heading explains."""
    _, found, rest = TEXT.partition(f"\n{heading}\n")
    assert found, heading
    section = re.split(r"^#", rest, maxsplit=1, flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (`[^|]+`) \|", section, re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row)}


@pytest.mark.parametrize("name", WORKFLOW)
def test_every_key_of_a_workflow_is_explained_and_no_other(name: str) -> None:
    found = dict(records(workflow_schema()))
    assert set(found) == set(WORKFLOW)
    assert keys_of(WORKFLOW[name]) == found[name]


@pytest.mark.parametrize("name", CONFIGURATION)
def test_every_key_of_the_configuration_is_explained_and_no_other(name: str) -> None:
    found = dict(records(CONFIG.schema()))
    assert set(found) == set(CONFIGURATION)
    assert keys_of(CONFIGURATION[name]) == found[name]


def test_every_key_of_an_agent_is_explained_and_no_other() -> None:
    ((_, keys),) = records(AGENT.schema())
    assert keys_of("## Agents") == keys


@pytest.mark.parametrize("text", EXAMPLES, ids=lambda text: str(text).splitlines()[0])
def test_an_example_loads(text: str, tmp_path: Path) -> None:
    if "steps:" in text:
        assert parse_workflow(text, file=None, root=tmp_path).steps
    else:
        assert parse_config(text, file="config.yaml").providers


def test_each_expression_is_good() -> None:
    (expressions,) = [text for language, text in BLOCKS if language == "text"]
    for line in expressions.splitlines():
        parse_workflow(
            "inputs: { change: { type: string } }\n"
            'steps:\n  - { id: type-check, run: "true" }\n'
            f'  - id: a\n    run: "true"\n    if: |\n      {line}\n',
            file=None,
        )


def test_every_variable_is_explained_and_no_other() -> None:
    code = "".join(path.read_text() for path in (ROOT / "runner").rglob("*.py"))
    variable = r"SUBRUNNER_[A-Z]+(?:_[A-Z]+)*(?![_A-Z])"
    assert {*re.findall(variable, code), "SUBRUNNER_MODEL_ROLE"} == set(re.findall(variable, PAGE))


@pytest.mark.parametrize("word", [*Status, *Verdict, *TOOLS, *SHELLS])
def test_every_word_that_can_be_written_or_read_is_there(word: str) -> None:
    assert f"`{word}`" in PAGE or f"`{word} " in PAGE


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)\s]+)\)", text.replace("](\n", "](")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        assert not path or (page.parent / path).exists(), target
        assert path or anchor in headings, target
