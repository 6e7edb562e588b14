from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.outcome import Usage
from runner.price import FREE, Price, cost, plausible, window, worst_case

AT = datetime(2026, 11, 21, tzinfo=UTC)
OWN = {"local:*": FREE, "x:one": Price(Decimal(2), Decimal(6), cache_read=Decimal(1))}


@pytest.mark.parametrize(
    ("model", "usage", "by_hand"),
    [
        # economics.md, section 2: 4 in, 0.20 read, 5 write, 8 write for an hour, 20 out.
        ("anthropic:claude-opus-5-5", Usage(1, 80_000, 70_000, 5_000, 0, 100), "0.061"),
        ("anthropic:claude-opus-5-5", Usage(1, 1_000, 0, 1_000, 1_000, 0), "0.008"),
        ("anthropic:claude-opus-5-5", Usage(1, 1_000, 0, 1_000, 400, 0), "0.0062"),
        # Above 100,000 tokens of prompt everything costs five times as much.
        ("anthropic:claude-haiku-5-5", Usage(1, 100_001, 0, 0, 0, 0), "0.0500005"),
        ("openai:gpt-6.1-sol", Usage(1, 10_000, 8_000, 1_000, 0, 500), "0.0103"),
        ("openai-chat:gpt-6.1-sol", Usage(1, 10_000, 8_000, 1_000, 0, 500), "0.0103"),
        ("local:llama", Usage(1, 10_000, 0, 0, 0, 500), "0"),
        ("x:one", Usage(1, 1_000_000, 500_000, 250_000, 0, 1_000_000), "7.5"),
    ],
)
def test_prices_by_hand(model: str, usage: Usage, by_hand: str) -> None:
    assert cost(model, usage, AT, prices=OWN) == Decimal(by_hand)


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("anthropic:no-such-model", Usage(1, 10)),
        ("nobody:claude-opus-5-5", Usage(1, 10)),
        ("anthropic:claude-opus-5-5", Usage(1, -10)),
        ("anthropic:claude-opus-5-5", Usage(1, 10, 20)),
        ("anthropic:claude-opus-5-5", Usage(1, 10, 0, 5, 6)),
    ],
)
def test_what_is_unknown_or_absurd_has_no_price(model: str, usage: Usage) -> None:
    assert cost(model, usage, AT) is None


def test_a_model_without_a_price_has_no_worst_case() -> None:
    assert worst_case("anthropic:no-such-model", 10, 10, AT) is None


MODELS = [
    "anthropic:claude-opus-5-5",
    "anthropic:claude-haiku-5-5",
    "openai:gpt-6.1-sol",
    "openai:gpt-6-luna",
    "google:gemini-4-argon",
    "deepseek:deepseek-v4-pro",
    "x:one",
]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(MODELS),
    st.tuples(*[st.integers(0, 400_000)] * 5),
    st.integers(0, 24 * 60),
)
def test_no_usage_within_the_bound_costs_more_than_the_worst_case(
    model: str, counts: tuple[int, ...], minute: int
) -> None:
    plain, read, write, write_1h, output = counts
    hour, minute = divmod(minute % (24 * 60), 60)
    at = datetime(2026, 11, 21, hour, minute, tzinfo=UTC)
    whole = plain + read + write + write_1h
    usage = Usage(1, whole, read, write + write_1h, write_1h, output)
    real, bound = (
        cost(model, usage, at, prices=OWN),
        worst_case(model, whole, output, at, prices=OWN),
    )
    assert real is not None
    assert bound is not None
    assert real <= bound


def test_plausible() -> None:
    assert plausible(Usage(1, 10, 4, 6, 6, 0))
    assert not plausible(Usage(1, 10, 5, 6, 0, 0))
    assert not plausible(Usage(1, 10, 0, 0, 0, -1))


def test_context_windows() -> None:
    assert window("anthropic:claude-opus-5-5") == 1_000_000
    assert window("anthropic:claude-haiku-4-5") == 200_000
    assert window("nobody:what") is None


def test_importing_loads_no_table() -> None:
    code = (
        "import sys, runner.price, runner.money, runner.prefix, runner.models.choice;"
        "heavy = {'pydantic', 'pydantic_ai', 'genai_prices', 'httpx2', 'tenacity', 'anthropic'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or None)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})
