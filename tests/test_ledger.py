"""The ledger's sums, to the last digit, against prices applied by hand to the usage on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI
from provider import Answer, Ask, Call, Provider, Reply, serving
from pydantic_ai import Agent, Tool, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.deepseek import DeepSeekProvider
from pydantic_ai.providers.openai import OpenAIProvider
from test_models import LOCAL, QUICK, Bench, Done

from runner.events import ModelResponded
from runner.journal import Journal
from runner.models import Asking, Models
from runner.models.exchange import Terms
from runner.models.metered import MeteredModel
from runner.models.transport import shared_client
from runner.outcome import Usage
from runner.plan import Price

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import httpx2

    from runner.events import Event

Hand = tuple[str, str, str, str, str]
"""USD for a million tokens: input, read, written for 5 minutes, written for an hour, output."""

LOOK = Call("look", {"path": "a"})
END = Call("done", {"summary": "ok"})


def anthropic(plain: int, read: int, five: int, hour: int, output: int) -> dict[str, Any]:
    return {
        "input_tokens": plain,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour},
        "output_tokens": output,
    }


def chat(plain: int, read: int, written: int, hour: int, output: int) -> dict[str, Any]:
    total = plain + read + written + hour
    return {
        "prompt_tokens": total,
        "completion_tokens": output,
        "total_tokens": total + output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        # Part of the output, not besides it.
        "completion_tokens_details": {"reasoning_tokens": output // 2},
    }


def responses(plain: int, read: int, written: int, hour: int, output: int) -> dict[str, Any]:
    total = plain + read + written + hour
    return {
        "input_tokens": total,
        "input_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": output // 2},
        "total_tokens": total + output,
    }


def google(plain: int, read: int, written: int, hour: int, output: int) -> dict[str, Any]:
    total = plain + read + written + hour
    return {
        "promptTokenCount": total,
        "cachedContentTokenCount": read,
        "candidatesTokenCount": output - output // 3,
        # Besides the candidates', and billed as output.
        "thoughtsTokenCount": output // 3,
        "totalTokenCount": total + output,
    }


def deepseek(plain: int, read: int, written: int, hour: int, output: int) -> dict[str, Any]:
    total = plain + read + written + hour
    return {
        "prompt_tokens": total,
        "completion_tokens": output,
        "total_tokens": total + output,
        "prompt_cache_hit_tokens": read,
        "prompt_cache_miss_tokens": total - read,
    }


CASES: list[tuple[str, Callable[[int, int, int, int, int], dict[str, Any]], Hand]] = [
    ("anthropic:claude-opus-5-5", anthropic, ("4", "0.20", "5", "8", "20")),
    ("anthropic:claude-haiku-5-5", anthropic, ("0.10", "0.01", "0.125", "0.20", "0.50")),
    ("openai-chat:gpt-6.1-sol", chat, ("2", "0.10", "2.5", "2.5", "10")),
    ("openai:gpt-6.1-sol", responses, ("2", "0.10", "2.5", "2.5", "10")),
    ("google:gemini-3.5-flash-lite", google, ("0.30", "0.03", "0.30", "0.30", "2.5")),
    ("deepseek:deepseek-flash", deepseek, ("0.15", "0.003", "0.15", "0.15", "0.60")),
]
COUNTS = (
    # Uncached, read, written for 5 minutes, for an hour, output.
    (1_003, 0, 4_007, 0, 211),
    (17, 4_007, 331, 0, 97),
    (13, 4_338, 0, 577, 1_999),
    (1, 4_915, 7, 11, 1),
)


def wire_counts(model_id: str) -> list[tuple[int, int, int, int, int]]:
    """Only Anthropic tells an hour's writes apart; Google and DeepSeek bill no writes at all."""
    if model_id.startswith("anthropic:"):
        return list(COUNTS)
    if model_id.startswith("openai"):
        return [(plain, read, five + hour, 0, out) for plain, read, five, hour, out in COUNTS]
    return [(plain + five + hour, read, 0, 0, out) for plain, read, five, hour, out in COUNTS]


def by_hand(row: ModelResponded, counts: Sequence[int], prices: Hand) -> Decimal:
    sum_ = sum(
        (Decimal(price) * count for price, count in zip(prices, counts, strict=True)), Decimal(0)
    )
    hour = datetime.fromtimestamp(row.at, UTC).hour
    # DeepSeek's peak hours cost twice as much: 01 to 04 and 06 to 10, Greenwich.
    peak = row.asked.startswith("deepseek:") and (1 <= hour < 4 or 6 <= hour < 10)
    return sum_ * (2 if peak else 1) / 1_000_000


def metered(
    bench: Bench, model_id: str, provider: Provider, client: httpx2.AsyncClient
) -> MeteredModel:
    """The model as it is at its vendor's own address, where the table's prices hold."""
    vendor, _, name = model_id.partition(":")
    if vendor not in ("openai-chat", "deepseek"):
        return bench.open(model_id)
    openai = AsyncOpenAI(
        api_key="k", base_url=provider.openai_url, http_client=client, max_retries=0
    )
    made = DeepSeekProvider if vendor == "deepseek" else OpenAIProvider
    return MeteredModel(
        OpenAIChatModel(name, provider=made(openai_client=openai)),
        Terms("cheap", model_id, model_id, "c1", wired=True, scripted=False, prices={}),
        asking=lambda: Asking("lint", 2),
        purse=bench.purse,
        emit=bench.events.append,
    )


def looking(model: MeteredModel, look: Callable[[str], str]) -> Agent[None, Done]:
    tool = Tool(look, takes_ctx=False, name="look")
    return Agent(model, output_type=ToolOutput(Done, name="done"), tools=[tool])


def paged(path: str) -> str:
    return path * 8000


@pytest.mark.parametrize(("model_id", "wire", "prices"), CASES)
async def test_the_sums_agree_with_prices_by_hand_to_the_last_digit(
    model_id: str, wire: Callable[..., dict[str, Any]], prices: Hand
) -> None:
    counts = wire_counts(model_id)

    def script(ask: Ask) -> Reply:
        call = END if ask.number == len(counts) else LOOK
        # Each prompt is long enough for what is said to be in it.
        return Answer(calls=(call,), usage=wire(*counts[ask.number - 1]))

    with serving(script) as provider:
        bench = Bench(provider.environ(), usd="10")
        async with bench.models, shared_client(QUICK) as client:
            model = metered(bench, model_id, provider, client)
            await looking(model, paged).run("x" * 8000)
    assert len(bench.rows) == len(counts)
    for row, each in zip(bench.rows, counts, strict=True):
        plain, read, five, hour, output = each
        total = plain + read + five + hour
        assert row.usage == Usage(1, total, read, five + hour, hour, output)
        assert row.cost_usd == by_hand(row, each, prices)
        assert (row.asked, row.step, row.attempt) == (model_id, "lint", 2)
    hand = sum(
        (by_hand(row, each, prices) for row, each in zip(bench.rows, counts, strict=True)),
        Decimal(0),
    )
    assert bench.purse.spent == hand
    assert hand > 0
    assert (bench.purse.reserved, bench.purse.disputed) == (0, False)
    assert bench.purse.spent_tokens == sum(map(sum, counts))


@pytest.mark.parametrize("budget", ["10", None])
async def test_a_local_server_without_usage(budget: str | None) -> None:
    """At its worst case where a price is known; and where none is, at an unknown cost."""
    said = Answer(calls=(END,), tokens=None)
    with serving(lambda _: said) as provider:
        prices = {} if budget is None else {"local:*": Price(Decimal(1), Decimal(3))}
        bench = Bench(provider.environ(), usd=budget, prices=prices)
        async with bench.models:
            await looking(bench.open(LOCAL), paged).run("Mend it.")
        (ask,) = provider.asks
    (row,) = bench.rows
    assert row.usage == Usage(1)
    if budget is None:
        assert row.cost_usd is None
        assert "an unknown cost" in bench.notices[0]
    else:
        # No token is less than a byte, and 1,024 may be out of sight; 8,000 may be answered.
        worst = (Decimal(1) * (len(ask.raw) + 1024) + Decimal(3) * 8000) / 1_000_000
        assert row.cost_usd == worst == bench.purse.spent


@pytest.mark.parametrize("model_id", ["anthropic:claude-haiku-5-5", "google:gemini-3.5-flash-lite"])
async def test_a_row_is_in_the_journal_before_the_tool_acts(model_id: str, tmp_path: Path) -> None:
    state, made = tmp_path / "state", tmp_path / "made"
    seen: list[tuple[int, int]] = []

    def look(path: str) -> str:
        with Journal.open(state, create=False) as other:
            rows = [event for event in other.events("r1") if isinstance(event, ModelResponded)]
        seen.append((len(rows), len(list(tmp_path.glob("made*")))))
        made.with_suffix(f".{len(seen)}").touch()
        return path

    def script(ask: Ask) -> Reply:
        return Answer(calls=(END if ask.number == 3 else LOOK,))

    with serving(script) as provider, Journal.open(state) as journal:
        journal.begin("r1", tmp_path)

        def emit(event: Event) -> None:
            journal.append("r1", event)

        bench = Bench(provider.environ())
        bench.models = Models(
            purse=bench.purse, emit=emit, environ=provider.environ(), limits=QUICK
        )
        async with bench.models:
            await looking(bench.open(model_id), look).run("Mend it.")
        rows = [event for event in journal.events("r1") if isinstance(event, ModelResponded)]
    # One row for each response, there before what it asked for was done.
    assert seen == [(1, 0), (2, 1)]
    assert len(rows) == 3
    assert sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0)) == bench.purse.spent
