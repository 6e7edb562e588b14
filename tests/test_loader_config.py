"""The user's own configuration: strict, optional, and without keys in it."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import UsageError, WorkflowErrors
from runner.loader import load_config
from runner.loader.config import config_path, parse_config
from runner.plan import Budget, Grants, Price, Provider, UserConfig

if TYPE_CHECKING:
    from pathlib import Path

FULL = """
models: { main: "anthropic:claude-opus-5-5", cheap: "local:qwen" }
providers:
  local: { base_url: "http://localhost:8000/v1" }
  corp: { base_url: https://llm.example.com/v1, key_env: CORP_KEY }
prices:
  "local:*": { input: 0, output: 0 }
  "corp:big": { input: 2.50, output: 10, cache_read: 0.25, cache_write: 3, cache_write_1h: 5 }
grants: { secrets: [FORGE_TOKEN], network: true, shell: false, trust_checkout_auth: true }
ceilings: { usd: 5, tokens: 100000, time: 1h }
keep_runs: 10
protected_branches: [main, "release/*"]
filters: [lfs]
"""


def test_reads_a_configuration(world: Path) -> None:
    path = world / "config.yaml"
    path.write_text(FULL)
    expected = UserConfig(
        models={"main": "anthropic:claude-opus-5-5", "cheap": "local:qwen"},
        providers={
            "local": Provider("local", "http://localhost:8000/v1"),
            "corp": Provider("corp", "https://llm.example.com/v1", "CORP_KEY"),
        },
        prices={
            "local:*": Price(Decimal(0), Decimal(0), None, None, None),
            "corp:big": Price(
                *map(Decimal, ("2.50", "10", "0.25", "3", "5")),
            ),
        },
        grants=Grants(("FORGE_TOKEN",), network=True, shell=False, trust_checkout_auth=True),
        ceilings=Budget(usd=Decimal(5), tokens=100_000, seconds=3600),
        keep_runs=10,
        protected_branches=("main", "release/*"),
        filters=("lfs",),
    )
    assert load_config(path) == expected
    assert load_config(environ={"SUBRUNNER_CONFIG": str(path)}) == expected


def test_without_a_file_nothing_is_granted() -> None:
    assert load_config(environ={}) == UserConfig()
    assert load_config(environ={"SUBRUNNER_CONFIG": ""}) == UserConfig()
    assert parse_config("# nothing\n", file="x") == UserConfig()


def test_reads_the_users_own_place() -> None:
    config_path().parent.mkdir(parents=True)
    config_path().write_text("keep_runs: 7")
    assert load_config(environ={}).keep_runs == 7
    assert load_config(environ={"SUBRUNNER_CONFIG": ""}).keep_runs == 50


def test_a_file_that_was_named_must_exist(world: Path) -> None:
    with pytest.raises(UsageError, match="there is no configuration file"):
        load_config(environ={"SUBRUNNER_CONFIG": str(world / "no.yaml")})
    with pytest.raises(UsageError, match="not a regular file"):
        load_config(world)


@pytest.mark.parametrize(
    ("text", "place", "message", "hint"),
    [
        ("model: {}", (1, 1), "unknown key `model`", "Did you mean `models`?"),
        ("api_key: sk-abcdef", (1, 1), "unknown key `api_key`", "key_env"),
        ("providers: { x: {} }", (1, 17), "needs the key `base_url`", "https://HOST/v1"),
        ("providers: { x: { base_url: ftp://x } }", (1, 29), "is not an address", "https://"),
        (
            "providers: { x: { base_url: 'https://u:p@h/' } }",
            (1, 29),
            "not an address",
            "key in it",
        ),
        ("grants: { secrets: all }", (1, 20), "list of secrets' names", "[all]"),
        ("prices: { a:b: 3 }", (1, 16), "must be a mapping", "`{ input: 3, output: 15 }`, in USD"),
        (
            "caches: { a:b: { retention: 1h, longer: 5m } }",
            (1, 41),
            "`longer` must be longer than `retention`",
            "leave it out",
        ),
        ("grants: true", (1, 9), "must be a mapping", ""),
        ("keep_runs: 0", (1, 12), "from 1 to", ""),
        ("ceilings: { usd: -1 }", (1, 18), "an amount in USD", ""),
        ("- a", (1, 1), "must be a mapping, but it is a list", ""),
    ],
)
def test_says_what_is_wrong(text: str, place: tuple[int, int], message: str, hint: str) -> None:
    with pytest.raises(WorkflowErrors) as caught:
        parse_config(text, file="config.yaml")
    first = caught.value.errors[0]
    assert (first.where.line, first.where.column) == place
    assert message in first.message
    assert hint in first.hint


@pytest.mark.parametrize(
    "text",
    [
        "api_key: sk-abcdef",
        "providers:\n  x: { base_url: https://h/v1, key: sk-abcdef }",
        "providers:\n  x:\n    base_url: https://me:sk-abcdef@h/v1",
    ],
)
def test_never_shows_a_key_that_stands_where_it_does_not_belong(text: str) -> None:
    with pytest.raises(WorkflowErrors) as caught:
        parse_config(text, file="config.yaml")
    assert "sk-abcdef" not in str(caught.value)


_LINES = st.sampled_from([*FULL.splitlines(), "x: y", "  z", "grants:", "- a", "~"])


@given(st.one_of(st.lists(_LINES, max_size=8).map("\n".join), st.text()))
@settings(max_examples=150, deadline=None)
def test_no_text_crashes_the_reader(text: str) -> None:
    try:
        found = parse_config(text, file="x")
    except UsageError:
        return
    assert found.keep_runs >= 1
