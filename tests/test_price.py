from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.models import Models
from runner.money import Purse
from runner.outcome import Usage
from runner.plan import Provider
from runner.price import (
    FREE,
    MILLION,
    Price,
    class_prices,
    cost,
    plausible,
    source,
    window,
    worst_case,
)

AT = datetime(2026, 11, 21, tzinfo=UTC)
OWN = {
    "local:*": FREE,
    "x:one": Price(Decimal(2), Decimal(6), cache_read=Decimal(1)),
    "x:hour": Price(Decimal(2), Decimal(6), Decimal(1), Decimal(3), Decimal(5)),
    "x:write": Price(Decimal(2), Decimal(6), cache_write=Decimal(3)),
}


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
        # Of a million written, 400,000 for an hour: 3 and 5, or 3 where the hour costs no more.
        ("x:hour", Usage(1, 1_000_000, 0, 1_000_000, 400_000, 0), "3.8"),
        ("x:write", Usage(1, 1_000_000, 0, 1_000_000, 400_000, 0), "3"),
        (
            "moonshotai:kimi-k3.1-pro",
            Usage(1, 1_000_000, 100_000, 500_000, 200_000, 10_000),
            "2.32",
        ),
        ("google:gemini-3.5-flash-lite", Usage(1, 10_000, 8_000, 0, 0, 100), "0.00109"),
    ],
)
def test_prices_by_hand(model: str, usage: Usage, by_hand: str) -> None:
    assert cost(model, usage, AT, prices=OWN) == Decimal(by_hand)


@pytest.mark.parametrize(
    ("model", "usage", "by_hand"),
    [
        # The size of the whole prompt decides, cached or not; then all of it costs more.
        ("anthropic:claude-haiku-5-5", Usage(1, 100_000, 90_000, 10_000, 0, 1_000), "0.00265"),
        ("anthropic:claude-haiku-5-5", Usage(1, 100_001, 90_001, 10_000, 0, 1_000), "0.01325005"),
        ("anthropic:claude-haiku-5-5", Usage(1, 100_001, 0, 100_001, 100_001, 0), "0.100001"),
        ("openai:gpt-6.1-sol", Usage(1, 272_000, 200_000, 72_000, 0, 1_000), "0.21"),
        # Above 272,000: input in all classes twice, output one and a half times.
        ("openai:gpt-6.1-sol", Usage(1, 272_001, 200_001, 72_000, 0, 1_000), "0.4150002"),
        ("xai:grok-4.7", Usage(1, 150_000, 100_000, 0, 0, 1_000), "0.156"),
        ("xai:grok-4.7", Usage(1, 250_000, 100_000, 0, 0, 1_000), "0.712"),
    ],
)
def test_prices_by_the_size_of_the_prompt(model: str, usage: Usage, by_hand: str) -> None:
    assert cost(model, usage, AT) == Decimal(by_hand)


@pytest.mark.parametrize(
    ("model", "at", "by_hand"),
    [
        # 700,000 read, 300,000 not, 100,000 answered.
        ("google:gemini-4-argon", "2026-11-30T23:59:59", "1.67"),
        ("google:gemini-4-argon", "2026-12-01T00:00:00", "3.34"),
        ("google:gemini-4-argon", "2026-12-01T02:00:00+05:00", "1.67"),
        ("google:gemini-3.8-flash", "2026-12-31T23:59:59", "0.6525"),
        ("google:gemini-3.8-flash", "2027-01-01T00:00:00", "1.305"),
        ("deepseek:deepseek-flash", "2026-11-21T00:59:59", "0.1071"),
        ("deepseek:deepseek-flash", "2026-11-21T01:00:00", "0.2142"),
        ("deepseek:deepseek-flash", "2026-11-21T03:59:59", "0.2142"),
        ("deepseek:deepseek-flash", "2026-11-21T04:00:00", "0.1071"),
        ("deepseek:deepseek-flash", "2026-11-21T06:00:00", "0.2142"),
        ("deepseek:deepseek-flash", "2026-11-21T10:00:00", "0.1071"),
        # Nine in the evening in New York is one in the night in Greenwich... in summer.
        ("deepseek:deepseek-flash", "2026-11-20T21:30:00-04:00", "0.2142"),
    ],
)
def test_prices_by_date_and_hour(model: str, at: str, by_hand: str) -> None:
    moment = datetime.fromisoformat(at)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    usage = Usage(1, 1_000_000, 700_000, 0, 0, 100_000)
    assert cost(model, usage, moment) == Decimal(by_hand)


def test_a_request_around_a_change_is_bounded_by_the_dearer_price() -> None:
    last = datetime(2026, 11, 30, 23, 45, tzinfo=UTC)
    model = "google:gemini-4-argon"
    assert worst_case(model, 1_000_000, 0, last - timedelta(hours=1)) == 2
    assert worst_case(model, 1_000_000, 0, last) == 4


@pytest.mark.parametrize(
    ("model", "usage"),
    [
        ("anthropic:no-such-model", Usage(1, 10)),
        ("nobody:claude-opus-5-5", Usage(1, 10)),
        # Called like a vendor, or by the name of a vendor's model.
        ("my-openai:gpt-6-luna", Usage(1, 10)),
        ("openai-proxy:gpt-6-luna", Usage(1, 10)),
        ("local:gpt-6-luna", Usage(1, 10)),
        ("mistral-at-home:mistral-large-latest", Usage(1, 10)),
        ("unlisted:openai-chat:gpt-6-luna", Usage(1, 10)),
        # In the table, without a price there.
        ("google:gemma-4-31b-it", Usage(1, 10, 0, 0, 0, 10)),
        ("openai:text-embedding-3-small", Usage(1, 10, 0, 0, 0, 10)),
        ("anthropic:claude-opus-5-5", Usage(1, -10)),
        ("anthropic:claude-opus-5-5", Usage(1, 10, 20)),
        ("anthropic:claude-opus-5-5", Usage(1, 10, 0, 5, 6)),
    ],
)
def test_what_is_unknown_or_absurd_has_no_price(model: str, usage: Usage) -> None:
    assert cost(model, usage, AT) is None


@pytest.mark.parametrize(
    "model", ["anthropic:no-such-model", "my-openai:gpt-6-luna", "google:gemma-4-31b-it"]
)
def test_a_model_without_a_price_has_no_worst_case(model: str) -> None:
    assert worst_case(model, 10, 10, AT) is None
    assert class_prices(model, AT, {}, 10) is None


@pytest.mark.parametrize(
    ("model_id", "base_url", "priced"),
    [
        ("openai-chat:gpt-6-luna", None, True),
        ("openai-chat:gpt-6-luna", "https://api.openai.com/v1", True),
        ("openai-chat:gpt-6-luna", "https://eu.api.OpenAI.com:443/v1", True),
        ("openai-chat:gpt-6-luna", "http://127.0.0.1:8080/v1", False),
        ("openai-chat:gpt-6-luna", "http://localhost:8080/v1", False),
        ("openai-chat:gpt-oss-20b", "https://models.example.com/v1", False),
        ("openai-chat:gpt-6-luna", "https://api.openai.com.example.com/v1", False),
        ("openai-chat:gpt-6-luna", "https://notopenai.com/v1", False),
        # Another vendor's protocol, led through a gateway.
        ("openai:gpt-6-luna", "http://127.0.0.1:8080/v1", True),
        ("local:gpt-6-luna", None, False),
        # A server that is called as a vendor is.
        ("mistral:mistral-large-latest", None, False),
    ],
)
def test_only_a_vendors_own_server_has_its_prices(
    model_id: str, base_url: str | None, *, priced: bool
) -> None:
    servers = [Provider(name, "http://127.0.0.1:9/v1") for name in ("local", "mistral")]
    environ = {} if base_url is None else {"OPENAI_BASE_URL": base_url}
    models = Models(
        purse=Purse("run"),
        emit=lambda _: None,
        providers={server.name: server for server in servers},
        environ=environ,
    )
    known = models.priced_as(model_id)
    assert known is not None
    assert (cost(known, Usage(1, 10), AT) is not None) is priced
    # The user knows better.
    prefix = model_id.partition(":")[0]
    prices = {f"{prefix}:*": Price(Decimal(1), Decimal(2))}
    owned = Models(
        purse=Purse("run"),
        emit=lambda _: None,
        providers={server.name: server for server in servers},
        environ=environ,
        prices=prices,
    )
    assert cost(owned.priced_as(model_id) or "", Usage(1, 10), AT, prices=prices) == Decimal("1e-5")


@pytest.mark.parametrize(
    ("model", "tokens", "by_hand"),
    [
        # USD for a million: input, read, written for 5 minutes, for an hour, output.
        ("anthropic:claude-opus-5-5", 50_000, "4 0.20 5 8 20"),
        ("anthropic:claude-haiku-5-5", 50_000, "0.10 0.01 0.125 0.20 0.50"),
        ("anthropic:claude-haiku-5-5", 150_000, "0.50 0.05 0.625 1.00 2.50"),
        ("openai:gpt-6.1-sol", 50_000, "2 0.10 2.5 2.5 10"),
        ("openai:gpt-6.1-sol", 300_000, "4 0.20 5 5 15"),
        ("google:gemini-4-argon", 50_000, "2 0.10 2 2 10"),
        ("moonshotai:kimi-k3.1-pro", 50_000, "2 0.20 2 4 10"),
        ("x:one", 50_000, "2 1 2 2 6"),
        ("x:hour", 50_000, "2 1 3 5 6"),
        ("x:write", 0, "2 2 3 3 6"),
    ],
)
def test_prices_of_classes(model: str, tokens: int, by_hand: str) -> None:
    found = class_prices(model, AT, OWN, tokens)
    assert found is not None
    each = (found.input, found.read, found.write, found.write_1h, found.output)
    assert [price * MILLION for price in each] == [Decimal(price) for price in by_hand.split()]


def test_the_table_and_its_date_are_named() -> None:
    name, day = source()
    assert name == f"genai-prices {version('genai-prices')}"
    # The newest in September was of the 28th; what is announced for later is no date of the table.
    assert date(2026, 9, 28) <= date.fromisoformat(day) <= datetime.now(UTC).date()


MODELS = [
    "anthropic:claude-opus-5-5",
    "anthropic:claude-haiku-5-5",
    "openai:gpt-6.1-sol",
    "openai:gpt-6-luna",
    "google:gemini-4-argon",
    "deepseek:deepseek-v4-pro",
    "moonshotai:kimi-k3.1-pro",
    "x:one",
    "x:hour",
    "x:write",
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
