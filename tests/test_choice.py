from __future__ import annotations

import pytest

from runner.errors import UsageError
from runner.models.choice import KEYLESS, KEYS, Choice, choose, is_scripted, split, variable_of
from runner.plan import Provider, UserConfig

KEYED = {"ANTHROPIC_API_KEY": "a", "OPENAI_API_KEY": "o"}
LOCAL = Provider("local", "http://127.0.0.1:8080/v1")
CORP = Provider("corp", "https://models.example/v1", key_env="CORP_KEY")


def test_the_order_is_command_line_environment_configuration_workflow_shipped() -> None:
    layers = {
        "workflow": {"main": "openai:w"},
        "config": {"main": "openai:c"},
        "environ": {**KEYED, "SUBRUNNER_MODEL_MAIN": "openai:e"},
        "options": {"main": "openai:o"},
    }
    full = choose(
        layers["workflow"], layers["options"], layers["environ"], UserConfig(layers["config"]), {}
    )
    assert full["main"] == Choice("main", "openai:o", "command line", available=True)
    no_options = choose(layers["workflow"], {}, layers["environ"], UserConfig(layers["config"]), {})
    assert (no_options["main"].id, no_options["main"].source) == ("openai:e", "environment")
    no_environ = choose(layers["workflow"], {}, KEYED, UserConfig(layers["config"]), {})
    assert (no_environ["main"].id, no_environ["main"].source) == (
        "openai:c",
        "user configuration",
    )
    no_config = choose(layers["workflow"], {}, KEYED, UserConfig(), {})
    assert (no_config["main"].id, no_config["main"].source) == ("openai:w", "workflow")
    nothing = choose({}, {}, KEYED, UserConfig(), {})
    assert (nothing["main"].id, nothing["main"].source) == (
        "anthropic:claude-opus-5-5",
        "shipped",
    )
    assert nothing["cheap"].id == "anthropic:claude-haiku-5-5"


def test_the_shipped_choice_follows_the_key_that_is_set() -> None:
    chosen = choose({}, {}, {"OPENAI_API_KEY": "o"}, UserConfig(), {})
    assert chosen["main"].id == "openai:gpt-6.1-sol"
    assert chosen["cheap"].id == "openai:gpt-6-luna"
    assert all(choice.available for choice in chosen.values())


def test_without_any_key_the_missing_ones_are_named() -> None:
    chosen = choose({}, {}, {}, UserConfig(), {})
    assert not chosen["main"].available
    assert chosen["main"].missing == "ANTHROPIC_API_KEY or OPENAI_API_KEY"


@pytest.mark.parametrize(
    ("model", "environ", "available", "missing"),
    [
        ("anthropic:x", {}, False, "ANTHROPIC_API_KEY"),
        ("anthropic:x", {"ANTHROPIC_API_KEY": ""}, False, "ANTHROPIC_API_KEY"),
        ("openai:x", {"OPENAI_BASE_URL": "http://h/v1"}, True, ""),
        ("openai-chat:x", {}, False, "OPENAI_API_KEY"),
        ("google:x", {"GEMINI_API_KEY": "g"}, True, ""),
        ("google:x", {}, False, "GOOGLE_API_KEY or GEMINI_API_KEY"),
        ("local:qwen:7b", {}, True, ""),
        ("corp:big", {}, False, "CORP_KEY"),
        ("corp:big", {"CORP_KEY": "k"}, True, ""),
        ("bedrock:anthropic.claude", {}, True, ""),
        ("gateway/openai:x", {}, True, ""),
        ("script:demo.yaml", {}, True, ""),
    ],
)
def test_availability(model: str, environ: dict[str, str], available: bool, missing: str) -> None:
    config = UserConfig(providers={"corp": CORP})
    chosen = choose({"cheap": model}, {}, environ, config, {"local": LOCAL})["cheap"]
    assert (chosen.available, chosen.missing) == (available, missing)


def test_roles_are_main_cheap_and_all_that_are_named() -> None:
    environ = {**KEYED, "SUBRUNNER_MODEL_FAST_ONE": "openai:fast"}
    chosen = choose({"fast-one": "openai:slow"}, {"extra": "openai:x"}, environ, UserConfig(), {})
    assert list(chosen) == ["main", "cheap", "fast-one", "extra"]
    assert chosen["fast-one"].id == "openai:fast"
    assert variable_of("fast-one") == "SUBRUNNER_MODEL_FAST_ONE"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("claude-opus-5-5", "anthropic:claude-opus-5-5"),
        ("gpt-6-luna", "openai:gpt-6-luna"),
        (":x", "provider:model"),
        ("openai:", "provider:model"),
        ("antropic:claude", "Did you mean `anthropic`"),
        ("nowhere:x", "--provider nowhere=URL"),
    ],
)
def test_a_wrong_id_says_what_to_write(model: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose({"main": model}, {}, KEYED, UserConfig(), {})
    assert message in str(caught.value)


def test_ids() -> None:
    assert split("local:qwen:7b") == ("local", "qwen:7b")
    assert is_scripted("script:a.yaml")
    assert not is_scripted("scripted:a")


def test_the_providers_are_those_that_the_library_knows() -> None:
    from pydantic_ai.providers import infer_provider_class

    for name in [*KEYS, *KEYLESS]:
        try:
            infer_provider_class(name)
        except ImportError:
            continue  # known, its client is an extra
