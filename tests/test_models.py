from __future__ import annotations

import json
import socket
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from provider import Answer, Ask, Call, Fault, Reply, Tokens, in_turn, serving
from pydantic import BaseModel
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.settings import ModelSettings
from pydantic_ai.usage import UsageLimits

from runner.errors import JournalError, ProviderError, UsageError
from runner.events import ModelResponded, ModelRetried, Notice
from runner.models import Asking, Models, error_ending
from runner.models.guard import PrefixBrokenError
from runner.models.metered import MeteredModel, serves
from runner.models.transport import RequestLimits
from runner.money import OverBudgetError, Purse
from runner.outcome import (
    Exhausted,
    Misconfigured,
    OverBudget,
    PrefixBroken,
    Refused,
    Unavailable,
    Usage,
)
from runner.plan import Provider as Declared
from runner.price import FREE, Price

if TYPE_CHECKING:
    from runner.events import Event

HAIKU = "anthropic:claude-haiku-5-5"
LUNA = "openai:gpt-6-luna"
LUNA_CHAT = "openai-chat:gpt-6-luna"
LOCAL = "local:qwen"
GEMINI = "google:gemini-3.5-flash-lite"
VENDORS = [HAIKU, LUNA, LUNA_CHAT, LOCAL]
ALL = [*VENDORS, GEMINI]
QUICK = RequestLimits(tries=2, try_seconds=0.5, total_seconds=3, first_wait=0.01, longest_wait=0.3)
# Of servers that are not the vendor's own nobody knows a price but the user.
PRICES = {
    "local:*": FREE,
    "openai-chat:*": Price(Decimal("0.1"), Decimal("0.5"), Decimal("0.01"), Decimal("0.125")),
}
BUSY = {"retry-after": "0"}


class Done(BaseModel):
    summary: str


class Bench:
    """Models over a served provider, with everything that they told."""

    def __init__(self, environ: dict[str, str], usd: str | None = "1", **more: Any) -> None:
        self.events: list[Event] = []
        self.purse = Purse("run", usd=None if usd is None else Decimal(usd))
        local = Declared("local", environ.get("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"))
        given: dict[str, Any] = {
            "limits": QUICK,
            "prices": PRICES,
            "providers": {"local": local},
        } | more
        self.models = Models(purse=self.purse, emit=self.events.append, environ=environ, **given)

    @property
    def rows(self) -> list[ModelResponded]:
        return [event for event in self.events if isinstance(event, ModelResponded)]

    @property
    def hows(self) -> list[str | None]:
        return [row.continuity and row.continuity.how for row in self.rows]

    @property
    def notices(self) -> list[str]:
        return [
            event.words if isinstance(event, ModelRetried) else event.text
            for event in self.events
            if isinstance(event, Notice | ModelRetried)
        ]

    def open(self, model_id: str, role: str = "cheap", purse: Purse | None = None) -> MeteredModel:
        return self.models.open(
            role,
            model_id,
            conversation="c1",
            asking=lambda: Asking("lint", 2, purse),
            cache_key="fixer",
            main=role == "main",
        )

    def agent(self, model_id: str, role: str = "cheap", **more: Any) -> Agent[None, Done]:
        agent = Agent(
            self.open(model_id, role),
            output_type=ToolOutput(Done, name="done"),
            instructions="Be good.",
            **more,
        )

        @agent.tool_plain
        def look(path: str) -> str:  # pyright: ignore[reportUnusedFunction]
            return f"content of {path}"

        return agent

    async def failing(self, model_id: str) -> BaseException:
        with pytest.raises(Exception) as caught:  # noqa: PT011  its type is what is tested
            await self.agent(model_id).run("Mend it.")
        return caught.value


def look_then_done(ask: Ask) -> Reply:
    if ask.number % 2:
        return Answer("I look.", (Call("look", {"path": "a"}),), Tokens(1000, 0, 900, 0, 20))
    return Answer(calls=(Call("done", {"summary": "ok"}),), tokens=Tokens(1100, 900, 150, 0, 30))


DONE = Answer(calls=(Call("done", {"summary": "ok"}),))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model_id", VENDORS)
async def test_a_run_is_recorded_priced_and_settled(model_id: str, stream: bool) -> None:
    with serving(look_then_done) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            agent = bench.agent(model_id, role="main")
            if stream:
                async with agent.run_stream("Mend it.") as streamed:
                    output = await streamed.get_output()
            else:
                output = (await agent.run("Mend it.")).output
        assert all(bool(ask.body.get("stream")) == stream for ask in provider.asks)
    assert output == Done(summary="ok")
    first, second = bench.rows
    assert (first.step, first.attempt, first.role, first.conversation) == ("lint", 2, "main", "c1")
    assert (first.asked, first.served) == (model_id, model_id.partition(":")[2])
    assert first.usage == Usage(1, 1000, 0, 900, 0, 20)
    assert second.usage == Usage(1, 1100, 900, 150, 0, 30)
    assert bench.hows == ["first", "extends"]
    # By hand: 0.10 in, 0.01 read, 0.125 write, 0.50 out, for a million.
    by_hand = [] if model_id == LOCAL else [Decimal("0.0001325"), Decimal("0.00004775")]
    assert [row.cost_usd for row in bench.rows] == (by_hand or [0, 0])
    assert bench.purse.spent == sum(by_hand)
    assert (bench.purse.reserved, bench.notices) == (0, [])
    assert not any(row.scripted for row in bench.rows)


async def test_the_messages_of_the_rows_are_the_whole_conversation() -> None:
    with serving(look_then_done) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            result = await bench.agent(HAIKU).run("Mend it.")
    journaled = [
        message
        for row in bench.rows
        for message in ModelMessagesTypeAdapter.validate_json(row.messages)
    ]
    # The last request of a run only tells the model that its output was taken. Ids of the run are
    # added to a response after it was written down; nothing of them goes over the wire.
    assert [message.parts for message in journaled] == [
        message.parts for message in result.all_messages()[:-1]
    ]
    assert len(journaled) == 4


async def test_what_goes_over_the_wire() -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            for model_id in VENDORS:
                await bench.agent(model_id).run("Mend it.")
        anthropic, responses, chat, local = (ask.body for ask in provider.asks)
        assert provider.asks[0].headers["authorization"] == "Bearer test-key"
        assert provider.asks[1].headers["authorization"] == "Bearer test-key"
        assert provider.asks[3].headers["authorization"] == "Bearer no-key"
        assert {ask.headers["x-stainless-retry-count"] for ask in provider.asks} == {"0"}
    assert anthropic["max_tokens"] == responses["max_output_tokens"] == 8000
    assert chat["max_completion_tokens"] == local["max_tokens"] == 8000
    assert responses["store"] is False
    assert responses["include"] == ["reasoning.encrypted_content"]
    assert responses["prompt_cache_key"] == chat["prompt_cache_key"] == "fixer"


async def test_the_row_is_written_before_the_agent_acts() -> None:
    seen: list[int] = []
    with serving(look_then_done) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            agent = Agent(bench.open(HAIKU), output_type=ToolOutput(Done, name="done"))

            @agent.tool_plain
            def look(path: str) -> str:  # pyright: ignore[reportUnusedFunction]
                seen.append(len(bench.rows))
                return path

            await agent.run("Mend it.")
    assert seen == [1]


async def test_a_journal_that_fails_ends_the_run_and_the_money_is_booked() -> None:
    def emit(event: Event) -> None:
        if isinstance(event, ModelResponded):
            raise JournalError("disk full")

    with serving(look_then_done) as provider:
        bench = Bench(provider.environ())
        bench.models = Models(
            purse=bench.purse, emit=emit, environ=provider.environ(), limits=QUICK
        )
        async with bench.models:
            error = await bench.failing(HAIKU)
    assert isinstance(error, JournalError)
    assert bench.purse.spent == Decimal("0.0001325")
    assert error_ending(error) is None


REFUSED_LONG = Fault(
    400,
    {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
            "message": "prompt is too long: 210000 tokens > 200000 maximum",
        },
    },
)
NO_QUOTA = Fault(
    429, {"error": {"code": "insufficient_quota", "message": "no", "type": "billing_error"}}
)


@pytest.mark.parametrize("model_id", VENDORS)
@pytest.mark.parametrize(
    ("fault", "ending", "why"),
    [
        (Fault(400), Refused, "rejected"),
        (Fault(422), Refused, "rejected"),
        (REFUSED_LONG, Refused, "too_long"),
        (Fault(413), Refused, "too_long"),
        (Fault(401), Misconfigured, "authentication"),
        (Fault(403), Misconfigured, "authentication"),
        (Fault(402), Misconfigured, "quota"),
        (NO_QUOTA, Misconfigured, "quota"),
        (Fault(404), Misconfigured, "unknown_model"),
        (Fault(408), Unavailable, ""),
        (Fault(409), Unavailable, ""),
        (Fault(429), Unavailable, ""),
        (Fault(429, headers={"retry-after": "100000000"}), Unavailable, ""),
        (Fault(429, headers={"retry-after": "-1"}), Unavailable, ""),
        (Fault(529, headers={"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT"}), Unavailable, ""),
        (Fault(500), Unavailable, ""),
        (Fault(502, b"<html>bad gateway</html>"), Unavailable, ""),
        (Fault(503), Unavailable, ""),
        (Fault(504), Unavailable, ""),
        (Fault(529), Unavailable, ""),
        (Fault(break_off="reset"), Unavailable, ""),
        (Fault(200, {"x": "y" * 50}, break_off="half"), Unavailable, ""),
        (Fault(break_off="hang", seconds=0.7), Unavailable, ""),
        (Fault(200, b"<html>welcome to the hotel</html>"), Unavailable, ""),
        (Fault(200, b'{"id": "x", "content": ['), Unavailable, ""),
        (Fault(200, b"[" * 50_000), Unavailable, ""),
    ],
)
async def test_each_failure_lands_in_its_class(
    model_id: str, fault: Fault, ending: type, why: str
) -> None:
    with serving(in_turn(fault)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            error = await bench.failing(model_id)
    found = error_ending(error)
    assert isinstance(found, ending)
    assert getattr(found, "why", "") == why
    assert bench.purse.reserved == 0
    # Rows are written for what may be billed, and for nothing else.
    assert sum((row.cost_usd or Decimal(0) for row in bench.rows), Decimal(0)) == bench.purse.spent
    assert bench.purse.spent <= 1


@pytest.mark.parametrize("model_id", ALL)
@pytest.mark.parametrize(
    "body",
    [{}, [], "text", None, 7, {"content": "x"}, {"choices": 3, "output": 4, "content": 5}],
)
async def test_json_that_is_no_answer_is_a_typed_error(model_id: str, body: Any) -> None:
    raw = json.dumps(body).encode()
    with serving(in_turn(Fault(200, raw))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            error = await bench.failing(model_id)
    assert isinstance(error_ending(error), Unavailable | Refused)
    assert bench.purse.reserved == 0


@pytest.mark.parametrize("model_id", ALL)
async def test_a_dead_port_is_unavailable_and_costs_nothing(model_id: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        environ = {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "k",
            "OPENAI_BASE_URL": f"{url}/v1",
            "GOOGLE_GEMINI_BASE_URL": url,
            "GEMINI_API_KEY": "k",
        }
        bench = Bench(environ)
        async with bench.models:
            error = await bench.failing(model_id)
    assert isinstance(error_ending(error), Unavailable)
    assert (bench.purse.spent, bench.rows) == (0, [])
    assert "trying again" in bench.notices[0]


@pytest.mark.parametrize("model_id", ALL)
async def test_what_passes_after_a_retry_is_one_row(model_id: str) -> None:
    with serving(in_turn(Fault(529, headers=BUSY), DONE)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            result = await bench.agent(model_id).run("Mend it.")
        assert len(provider.asks) == 2
        assert provider.asks[0].raw == provider.asks[1].raw
    assert result.output == Done(summary="ok")
    assert len(bench.rows) == 1
    assert bench.notices == [f"{model_id}: HTTP 529, trying again in 0 s"]


@pytest.mark.parametrize("model_id", ALL)
async def test_a_content_filter_and_nonsense_are_refusals(model_id: str) -> None:
    nonsense = Answer(calls=(Call("done", '{"summary": 3'),))
    with serving(in_turn(nonsense)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            found = error_ending(await bench.failing(model_id))
    assert isinstance(found, Refused)
    assert found.why == "unparseable"
    with serving(in_turn(Answer(refused=True))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            found = error_ending(await bench.failing(model_id))
    assert isinstance(found, Refused)
    assert found.why == "content_filter"


async def test_the_limits_of_an_agent_are_its_own_exhaustion() -> None:
    with serving(in_turn(Answer(calls=(Call("look", {"path": "a"}),), delay=0.02))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            with pytest.raises(Exception) as turns:  # noqa: PT011  its type is what is tested
                await bench.agent(HAIKU).run("x", usage_limits=UsageLimits(request_limit=2))
            with pytest.raises(Exception) as seconds:  # noqa: PT011  its type is what is tested
                await bench.agent(HAIKU).run(
                    "x", timeout=0.15, usage_limits=UsageLimits(request_limit=None)
                )
    found = error_ending(turns.value)
    assert isinstance(found, Exhausted)
    assert found.limit == "turns"
    found = error_ending(seconds.value)
    assert isinstance(found, Exhausted)
    assert found.limit == "seconds"


async def test_a_drip_of_bytes_ends_at_the_deadline() -> None:
    drip = Fault(200, {"x": "y" * 500}, break_off="slow", seconds=0.05)
    with serving(in_turn(drip)) as provider:
        bench = Bench(provider.environ(), limits=RequestLimits(tries=1, try_seconds=0.3))
        async with bench.models:
            with anyio.fail_after(2):
                error = await bench.failing(HAIKU)
            assert isinstance(error_ending(error), Unavailable)
            tries = RequestLimits(tries=9, try_seconds=0.3, total_seconds=0.5, first_wait=0.01)
            other = Bench(provider.environ(), limits=tries)
            with anyio.fail_after(2):
                error = await other.failing(LUNA)
            assert isinstance(error_ending(error), Unavailable)
            await other.models.aclose()


@pytest.mark.parametrize(
    ("asked", "served", "right"),
    [
        ("claude-haiku-4-5", "claude-haiku-4-5", True),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001", True),
        ("claude-haiku-4-5-latest", "claude-haiku-4-5-20251001", True),
        ("gpt-5.4-mini", "gpt-5.4-mini-2026-03-17", True),
        ("gpt-4", "gpt-4-0613", True),
        ("gemini-3.8-flash", "models/gemini-3.8-flash-001", True),
        ("Qwen/Qwen3", "qwen/qwen3", True),
        ("claude-opus-5", "claude-opus-5-5", False),
        ("claude-opus-5-5", "claude-haiku-5-5", False),
        ("gpt-4", "gpt-4-32k", False),
        ("gpt-6.1-sol", "gpt-6.1-sol-mini", False),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20260101", False),
    ],
)
def test_a_dated_version_is_the_model_asked_for(asked: str, served: str, right: bool) -> None:
    assert serves(asked, served) is right


@pytest.mark.parametrize("model_id", ALL)
async def test_another_model_served_is_recorded_and_ends_the_run(model_id: str) -> None:
    with serving(in_turn(Answer(model="cheaper-one", calls=DONE.calls))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            found = error_ending(await bench.failing(model_id))
    assert isinstance(found, Misconfigured)
    assert found.why == "other_model_served"
    (row,) = bench.rows
    assert row.served == "cheaper-one"
    # Its price is not that of the model asked for: booked at the worst case.
    assert bench.purse.spent == row.cost_usd
    why = "was asked for, but `cheaper-one` answered, whose price is another; the request counts at"
    assert bench.notices[0].startswith(f"{model_id} {why} its worst case, $")


async def test_keys_and_providers_that_are_missing() -> None:
    bench = Bench({})
    for model_id in (HAIKU, LUNA, LUNA_CHAT):
        with pytest.raises(ProviderError, match="_API_KEY is not set") as caught:
            bench.open(model_id)
        found = error_ending(caught.value)
        assert isinstance(found, Misconfigured)
        assert found.why == "authentication"
    keyed = Declared("corp", "http://127.0.0.1:9/v1", key_env="CORP_KEY")
    corp = Bench({}, providers={"corp": keyed})
    with pytest.raises(ProviderError, match="CORP_KEY is not set"):
        corp.open("corp:big")
    with pytest.raises(UsageError, match="--provider nobody=URL"):
        bench.open("nobody:x")
    with pytest.raises(UsageError, match="provider:model"):
        bench.open("claude")


async def test_other_vendors_take_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "k")
    monkeypatch.delenv("GROQ_API_KEY", raising=False)
    bench = Bench({})
    assert bench.open("deepseek:deepseek-flash").model_name == "deepseek-flash"
    with pytest.raises(ProviderError, match="groq"):
        bench.open("groq:llama")
    await bench.models.aclose()


async def test_windows(tmp_path: Any) -> None:
    (tmp_path / "s.yaml").write_text(f"as: {HAIKU}\nrules: [{{text: x}}]")
    bench = Bench({}, root=tmp_path)
    assert bench.models.window(HAIKU) == 1_000_000
    assert bench.models.window(LOCAL) == 128_000
    assert bench.models.window("openai:not-known") == 200_000
    assert bench.models.window("script:s.yaml") == 1_000_000


# Money


async def test_nothing_is_sent_that_cannot_be_paid() -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider.environ(), usd="0.0005")
        async with bench.models:
            error = await bench.failing(HAIKU)
        assert provider.asks == []
    assert isinstance(error, OverBudgetError)
    found = error_ending(error)
    assert isinstance(found, OverBudget)
    assert found.needed is not None
    # The least that would do: 2,000 tokens of answer cost 0.001.
    assert Decimal("0.001") < found.needed < Decimal("0.004")
    assert found.left == Decimal("0.0005")


async def test_a_steps_own_money_is_the_steps_exhaustion() -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider.environ())
        step = Purse("lint", usd=Decimal("0.0001"), parent=bench.purse)
        async with bench.models:
            model = bench.open(HAIKU, purse=step)
            with pytest.raises(OverBudgetError) as caught:
                await Agent(model).run("x")
    found = error_ending(caught.value)
    assert isinstance(found, Exhausted)
    assert found.limit == "usd"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model_id", [HAIKU, LUNA, LUNA_CHAT])
async def test_the_answer_is_shortened_before_a_request_is_given_up(
    model_id: str, stream: bool
) -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider.environ(), usd="0.003")
        async with bench.models:
            if stream:
                async with bench.agent(model_id).run_stream("Mend it.") as streamed:
                    await streamed.get_output()
            else:
                await bench.agent(model_id).run("Mend it.")
        (ask,) = provider.asks
    names = ("max_tokens", "max_output_tokens", "max_completion_tokens")
    (limit,) = [ask.body[name] for name in names if name in ask.body]
    assert 2000 <= limit < 8000


async def test_an_unknown_price_does_not_start_under_a_budget() -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider.environ(), prices={})
        async with bench.models:
            found = error_ending(await bench.failing(LOCAL))
        assert provider.asks == []
        assert isinstance(found, OverBudget)
        assert found.needed is None
        open_end = Bench(provider.environ(), usd=None, prices={})
        async with open_end.models:
            await open_end.agent(LOCAL).run("x")
    assert [row.cost_usd for row in open_end.rows] == [None]


@pytest.mark.parametrize("model_id", [HAIKU, LUNA, LUNA_CHAT])
async def test_usage_that_is_missing_counts_at_its_worst(model_id: str) -> None:
    with serving(in_turn(Answer(calls=DONE.calls, tokens=None))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            if model_id == HAIKU:
                # Its client insists on usage: an answer without is unusable.
                error = await bench.failing(model_id)
                assert isinstance(error_ending(error), Unavailable | Refused)
            else:
                await bench.agent(model_id).run("x")
                assert "worst case" in bench.notices[0]
    (row,) = bench.rows
    assert bench.purse.spent == row.cost_usd
    assert bench.purse.spent > Decimal("0.004")


@pytest.mark.filterwarnings("ignore:Failed to extract usage")
@pytest.mark.parametrize(
    "tokens",
    [Tokens(-5, 0, 0, 0, 20), Tokens(10, 500, 0, 0, 20), Tokens(10, 0, 0, 0, -7)],
)
@pytest.mark.parametrize("model_id", [HAIKU, LUNA, LUNA_CHAT])
async def test_usage_that_is_absurd_counts_at_its_worst(model_id: str, tokens: Tokens) -> None:
    with serving(in_turn(Answer(calls=DONE.calls, tokens=tokens))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            await bench.agent(model_id).run("x")
    (row,) = bench.rows
    assert bench.purse.spent == row.cost_usd
    assert "no usable usage" in bench.notices[0]


async def test_usage_above_the_bound_is_disputed_and_stops_the_run() -> None:
    script = in_turn(Answer(calls=(Call("look", {"path": "a"}),), tokens=Tokens(5_000_000)))
    with serving(script) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            error = await bench.failing(HAIKU)
        assert len(provider.asks) == 1
    assert isinstance(error_ending(error), OverBudget)
    assert bench.purse.disputed
    assert "nothing more is asked" in bench.notices[0]


async def test_a_cancelled_request_counts_at_its_worst_and_has_a_row() -> None:
    with serving(in_turn(Answer(calls=DONE.calls, delay=5))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            with anyio.move_on_after(0.2) as scope:
                await bench.agent(HAIKU).run("x")
            assert scope.cancelled_caught
    (row,) = bench.rows
    assert (row.served, row.messages) == ("", "")
    assert bench.purse.spent == row.cost_usd
    assert bench.purse.spent > 0
    assert bench.purse.reserved == 0


@pytest.mark.parametrize(
    "events",
    [
        b"",
        b"event: ping\r\ndata: {}\r\n\r\n" * 5,
        b'event: message_stop\ndata: {"type": "message_stop"}\n\n',
        b'event: message_start\ndata: {"type": "message_st',
        b'event: message_start\ndata: {"type": "message_start"}\n\n',
        b"data: not json at all\n\n",
        b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n',
        b'data: {"error": {"message": "overloaded", "code": "server_error"}}\n\n',
        b"data: [DONE]\n\n",
    ],
)
@pytest.mark.parametrize("model_id", ALL)
async def test_a_stream_that_is_no_answer_is_a_typed_error(model_id: str, events: bytes) -> None:
    broken = Fault(200, events, {"content-type": "text/event-stream"})
    limits = RequestLimits(tries=1, try_seconds=0.4, total_seconds=0.4)
    with serving(in_turn(broken)) as provider:
        bench = Bench(provider.environ(), limits=limits)
        async with bench.models:
            with pytest.raises(Exception) as caught:  # noqa: PT011  its type is what is tested
                async with bench.agent(model_id).run_stream("x") as streamed:
                    await streamed.get_output()
    assert isinstance(error_ending(caught.value), Unavailable | Refused)
    assert bench.purse.reserved == 0
    assert bench.purse.spent == sum(row.cost_usd or 0 for row in bench.rows)


async def test_an_abandoned_stream_counts_at_its_worst() -> None:
    with serving(in_turn(Answer("word " * 50))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            model = bench.open(HAIKU)
            async with Agent(model).run_stream("x"):
                pass
    assert bench.purse.reserved == 0
    assert bench.purse.spent == sum(row.cost_usd or 0 for row in bench.rows)
    assert bench.purse.spent > 0


async def test_later_requests_are_bounded_by_what_was_counted_before() -> None:
    """A long conversation must not reserve a token for each byte of what was counted already."""
    long_text = "word " * 40_000  # 200 kB, 50,000 tokens as the provider counts
    opened: list[Decimal] = []

    def script(ask: Ask) -> Reply:
        opened.append(bench.purse.reserved)
        if ask.number == 1:
            return Answer(calls=(Call("look", {"path": "a"}),), tokens=Tokens(50_000))
        return Answer(calls=DONE.calls, tokens=Tokens(50_100))

    with serving(script) as provider:
        bench = Bench(provider.environ(), usd="10")
        async with bench.models:
            await bench.agent("anthropic:claude-opus-5-5").run(long_text)
    # 5 for a million written for five minutes, and 8,000 tokens of answer at 20: 0.16.
    first, second = (money - Decimal("0.16") for money in opened)
    assert Decimal(1) < first < Decimal("1.03")
    assert Decimal("0.25") < second < Decimal("0.27")


async def test_a_changed_earlier_message_is_named_for_the_main_conversation() -> None:
    with serving(in_turn(Answer("fine"))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            model = bench.open(HAIKU, role="main")
            await Agent(model, instructions="One.").run("x")
            await Agent(model, instructions="Two.").run("x")
            cheap = bench.open(HAIKU)
            await Agent(cheap, instructions="Two.").run("x")
    assert [row.continuity and row.continuity.broken for row in bench.rows] == [False, True, None]
    assert bench.hows[0] == "first"
    assert str(bench.hows[1]).startswith("system[0]: changed")


async def test_a_strict_main_conversation_sends_nothing_that_would_lose_its_cache() -> None:
    with serving(in_turn(Answer("fine"))) as provider:
        bench = Bench(provider.environ(), strict_prefix=True)
        async with bench.models:
            model = bench.open(HAIKU, role="main")
            await Agent(model, instructions="One.").run("x")
            with pytest.raises(PrefixBrokenError, match=r"system\[0\]: changed") as caught:
                await Agent(model, instructions="Two.").run("x")
    assert len(provider.asks) == 1
    assert isinstance(error_ending(caught.value), PrefixBroken)
    assert (bench.purse.reserved, bench.purse.spent) == (0, bench.rows[0].cost_usd)


@pytest.mark.parametrize(
    ("model_id", "field", "least"),
    [
        ("anthropic:claude-opus-5-5", "max_tokens", 1),
        ("openai:gpt-6.1-sol", "max_output_tokens", 16),
        ("openai-chat:gpt-6.1-sol", "max_completion_tokens", 1),
    ],
)
async def test_a_keep_alive_sends_the_last_request_again_but_for_a_short_answer(
    model_id: str, field: str, least: int
) -> None:
    said = (
        Answer("fine", tokens=Tokens(input=5003, cache_write=5000, output=10)),
        Answer("", tokens=Tokens(input=5003, cache_read=4992, cache_write=8, output=1)),
        Answer("fine", tokens=Tokens(input=5100, cache_read=5000, output=10)),
    )
    with serving(in_turn(*said)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            model = bench.open(model_id, role="main")
            agent = Agent(model, instructions="Be good.")
            once = await agent.run("x" * 20_000, model_settings={"cache": True})
            await model.keep_alive()
            await agent.run(
                "y", message_history=once.all_messages(), model_settings={"cache": True}
            )
    one, again, _ = provider.asks
    assert again.body == {**one.body, field: least}
    assert list(again.body) == list(one.body), "the order of the fields, too"
    assert [row.role for row in bench.rows] == ["main", "keepalive", "main"]
    assert bench.hows == ["first", "same", "extends"]
    expected = [row.continuity and row.continuity.expected for row in bench.rows]
    assert expected == [None, 5000, 5000]
    kept = bench.rows[1]
    assert kept.continuity is not None
    assert kept.continuity.why.startswith("8 of 5000 expected cached tokens")
    assert (kept.step, kept.attempt, kept.messages, kept.usage.cache_read_tokens) == (
        *("", 0, ""), 4992,
    )  # fmt: skip
    assert bench.purse.spent == sum(row.cost_usd or 0 for row in bench.rows)


@pytest.mark.parametrize("budget", ["0.004", "0.01", "0.02"])
async def test_concurrent_subagents_never_overspend_and_the_ledger_agrees(budget: str) -> None:
    """Faults, lost requests and cancellations included; the provider bills what it accepted."""
    billed: list[Decimal] = []

    def script(ask: Ask) -> Reply:
        kind = ask.number % 7
        if kind == 2:
            return Fault(529, headers=BUSY)
        answer = Answer(
            calls=(Call("look", {"path": "a"}),) if kind in {1, 3} else DONE.calls,
            tokens=Tokens(len(ask.raw), output=int(ask.body["max_tokens"])),
            delay=0.3 if kind == 5 else 0.0,
        )
        assert answer.tokens is not None
        # 0.125 a million to write, 0.50 to answer: the dearest that 5m caching bills.
        cost = Decimal("0.1") * answer.tokens.input + Decimal("0.5") * answer.tokens.output
        billed.append(cost / 1_000_000)
        return Fault(break_off="half", body={"x": 1}) if kind == 4 else answer

    results: Counter[str] = Counter()
    with serving(script) as provider:
        bench = Bench(provider.environ(), usd=budget)

        async def one(number: int) -> None:
            with anyio.move_on_after(0.2 if number % 3 == 0 else 3):
                try:
                    await bench.agent(HAIKU).run("Mend it.")
                except Exception as error:  # noqa: BLE001  any ending is counted
                    results[type(error_ending(error)).__name__] += 1

        async with bench.models, anyio.create_task_group() as tasks:
            for number in range(8):
                tasks.start_soon(one, number)
    assert bench.purse.reserved == 0
    assert sum(billed) <= bench.purse.spent <= Decimal(budget)
    assert sum((row.cost_usd or Decimal(0) for row in bench.rows), Decimal(0)) == bench.purse.spent
    assert set(results) <= {"OverBudget", "Unavailable"}


async def test_an_error_that_is_nobodys_is_no_ending() -> None:
    assert error_ending(ValueError("ours")) is None
    assert error_ending(UserError("ours")) is None
    assert error_ending(KeyboardInterrupt()) is None
    group = ExceptionGroup("g", [TimeoutError(), ValueError()])
    assert error_ending(group) is None
    assert isinstance(error_ending(ExceptionGroup("g", [TimeoutError()])), Exhausted)


async def test_own_settings_of_the_caller_win() -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider.environ(), prices={**PRICES, HAIKU: Price(Decimal(1), Decimal(1))})
        async with bench.models:
            settings = ModelSettings(max_tokens=123)
            await bench.agent(HAIKU, model_settings=settings).run("x")
        assert provider.asks[0].body["max_tokens"] == 123
    assert bench.rows[0].cost_usd == Decimal("0.00012")
