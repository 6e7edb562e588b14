from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from provider import Answer, Call, Fault, Thought, Tokens, in_turn, serving
from provider_google import error, retry_in, whole
from pydantic_ai import Agent
from test_models import DONE, GEMINI, Bench, Done, look_then_done

from runner.errors import ProviderError
from runner.models import error_ending
from runner.models.transport import RequestLimits, retry_info
from runner.outcome import Misconfigured, OverBudget, Refused, Unavailable, Usage

ONE_TRY = RequestLimits(tries=1, try_seconds=0.5, total_seconds=3)
NAME = GEMINI.partition(":")[2]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_with_tool_calls_is_recorded_priced_and_settled(*, stream: bool) -> None:
    with serving(look_then_done) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            agent = bench.agent(GEMINI, role="main")
            if stream:
                async with agent.run_stream("Mend it.") as streamed:
                    output = await streamed.get_output()
            else:
                output = (await agent.run("Mend it.")).output
        first, second = provider.asks
    assert output == Done(summary="ok")
    assert [first.streamed, second.streamed] == [stream, stream]
    assert first.model == NAME
    assert first.tools == ["look", "done"]
    assert first.headers["x-goog-api-key"] == "test-key"
    assert first.body["generationConfig"]["maxOutputTokens"] == 8000
    assert "content of a" in second.text
    one, two = bench.rows
    assert (one.asked, one.served, two.served) == (GEMINI, NAME, NAME)
    # What the provider counts includes what it read from its cache; it bills no writes.
    assert one.usage == Usage(1, 1000, 0, 0, 0, 20)
    assert two.usage == Usage(1, 1100, 900, 0, 0, 30)
    # By hand: 0.30 in, 0.03 read, 2.50 out, thoughts included, for a million.
    assert one.cost_usd == Decimal("0.00035")
    assert two.cost_usd == Decimal("0.000162")
    assert bench.purse.spent == Decimal("0.000512")
    assert bench.purse.reserved == 0
    assert bench.hows == ["first", "extends"]


async def test_signatures_of_thoughts_go_back_verbatim() -> None:
    calls = (Call("look", {"path": "a"}), Call("look", {"path": "b"}))
    thoughts = (Thought("Hm.", "b25l"), Thought("So.", "dHdv", before=1))
    said = Answer(calls=calls, thoughts=thoughts)
    with serving(in_turn(said, DONE)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            await bench.agent(GEMINI, role="main").run("Mend it.")
        first, second = provider.asks
    answered = whole(first, said)["candidates"][0]["content"]
    signed = [part.get("thoughtSignature") for part in answered["parts"]]
    assert signed == [None, "b25l", None, "dHdv"]
    assert second.body["contents"][1]["parts"] == answered["parts"]
    assert bench.hows == ["first", "extends"]


TOO_LONG = error(400)
TOO_LONG["error"]["message"] = (
    "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."
)
BAD_KEY = error(400)
BAD_KEY["error"]["details"] = [
    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
]


@pytest.mark.parametrize(
    ("fault", "ending", "why"),
    [
        (Fault(400), Refused, "rejected"),
        (Fault(400, TOO_LONG), Refused, "too_long"),
        (Fault(413), Refused, "too_long"),
        (Fault(400, BAD_KEY), Misconfigured, "authentication"),
        (Fault(401), Misconfigured, "authentication"),
        (Fault(403), Misconfigured, "authentication"),
        (Fault(404), Misconfigured, "unknown_model"),
        (Fault(429), Unavailable, ""),
        (Fault(429, retry_in(0.01)), Unavailable, ""),
        (Fault(429, retry_in(86400)), Unavailable, ""),
        (Fault(500), Unavailable, ""),
        (Fault(502, b"<html>bad gateway</html>"), Unavailable, ""),
        (Fault(503), Unavailable, ""),
        (Fault(504), Unavailable, ""),
        (Fault(break_off="reset"), Unavailable, ""),
        (Fault(200, {"x": "y" * 50}, break_off="half"), Unavailable, ""),
        (Fault(break_off="hang", seconds=0.7), Unavailable, ""),
        (Fault(200, b"<html>welcome to the hotel</html>"), Unavailable, ""),
        (Fault(200, b'{"candidates": ['), Unavailable, ""),
        (Fault(200, b"null"), Unavailable, ""),
        (Fault(200, b"{}"), Unavailable, ""),
        (Fault(200, {"promptFeedback": {"blockReason": "SAFETY"}}), Refused, "content_filter"),
    ],
)
async def test_each_failure_lands_in_its_class(fault: Fault, ending: type, why: str) -> None:
    with serving(in_turn(fault)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            failed = await bench.failing(GEMINI)
    found = error_ending(failed)
    assert isinstance(found, ending)
    assert getattr(found, "why", "") == why
    assert bench.purse.reserved == 0
    assert bench.purse.spent == sum((row.cost_usd or Decimal(0) for row in bench.rows), Decimal(0))


@pytest.mark.parametrize(
    "fault", [Fault(503), Fault(429), Fault(break_off="reset"), Fault(200, b"<html>")]
)
async def test_nobody_but_our_one_retry_layer_tries_again(fault: Fault) -> None:
    with serving(in_turn(fault)) as provider:
        bench = Bench(provider.environ(), limits=ONE_TRY)
        async with bench.models:
            assert isinstance(error_ending(await bench.failing(GEMINI)), Unavailable)
        assert len(provider.asks) == 1


@pytest.mark.parametrize(
    ("seconds", "asks", "notices"),
    [
        (0.05, 2, [f"{GEMINI}: HTTP 429, trying again in 0.05 s"]),
        (0.0, 2, [f"{GEMINI}: HTTP 429, trying again in 0 s"]),
        # Longer than anybody waits: the run can be resumed later.
        (60.0, 1, []),
    ],
)
async def test_the_wait_that_the_body_asks_for_is_kept(
    seconds: float, asks: int, notices: list[str]
) -> None:
    with serving(in_turn(Fault(429, retry_in(seconds)))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            await bench.failing(GEMINI)
        assert len(provider.asks) == asks
    assert bench.notices == notices


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (retry_in(34.5), 34.5),
        (retry_in(0), 0),
        (retry_in(-1), None),
        (retry_in(float("nan")), None),
        (error(429), None),
        ({"error": {"details": [{"reason": "X"}, {"retryDelay": "2s"}]}}, 2),
        ({"error": {"details": [{"retryDelay": "soon"}]}}, None),
        ({"error": {"details": [{"retryDelay": None}]}}, None),
        ({"error": {"details": {"retryDelay": "2s"}}}, None),
        ({"error": {"details": [3]}}, None),
        ({"error": "busy"}, None),
        ([], None),
        (None, None),
    ],
)
def test_seconds_to_wait_in_a_body(body: object, seconds: float | None) -> None:
    assert retry_info(json.dumps(body).encode()) == seconds


@pytest.mark.parametrize("content", [b"", b"<html>", b"[" * 100_000, b"\xff"])
def test_no_seconds_in_what_is_no_json(content: bytes) -> None:
    assert retry_info(content) is None


async def test_an_answer_that_was_cut_is_not_asked_on_behind_our_back() -> None:
    cut: dict[str, Any] = {
        "modelVersion": NAME,
        "candidates": [
            {
                "content": {"role": "model", "parts": [{"text": "and"}]},
                "finishReason": "CONTINUATION",
                "continuationToken": "bW9yZQ==",
            }
        ],
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 8000},
    }
    with serving(in_turn(Fault(200, cut), Answer("all of it"))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            await Agent(bench.open(GEMINI)).run("x")
        # Whatever is asked after it is our own request, with a row of its own.
        assert not any("continuationToken" in ask.text for ask in provider.asks)
        assert len(bench.rows) == len(provider.asks)
    assert bench.rows[0].usage == Usage(1, 100, 0, 0, 0, 8000)
    assert bench.purse.reserved == 0
    assert bench.purse.spent == sum(row.cost_usd or 0 for row in bench.rows)


async def test_what_is_thought_is_within_the_bound_of_the_answer() -> None:
    used = {"promptTokenCount": 500, "candidatesTokenCount": 1, "thoughtsTokenCount": 7999}
    with serving(in_turn(Answer(calls=DONE.calls, usage=used))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            await bench.agent(GEMINI).run("x")
    assert bench.rows[0].usage.output_tokens == 8000
    assert not bench.purse.disputed
    assert bench.purse.spent == Decimal("0.02015")


async def test_more_than_the_bound_is_disputed() -> None:
    used = {"promptTokenCount": 500, "candidatesTokenCount": 8000, "thoughtsTokenCount": 50_000}
    look = (Call("look", {"path": "a"}),)
    with serving(in_turn(Answer(calls=look, usage=used))) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            assert isinstance(error_ending(await bench.failing(GEMINI)), OverBudget)
        assert len(provider.asks) == 1
    assert bench.purse.disputed


async def test_the_answer_is_shortened_before_a_request_is_given_up() -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider.environ(), usd="0.008")
        async with bench.models:
            await bench.agent(GEMINI).run("Mend it.")
        (ask,) = provider.asks
    assert 2000 <= ask.body["generationConfig"]["maxOutputTokens"] < 8000


@pytest.mark.parametrize(
    "answer",
    [
        Answer(calls=DONE.calls, tokens=None),
        Answer(calls=DONE.calls, tokens=Tokens(10, 500, 0, 0, 20)),
        Answer(calls=DONE.calls, tokens=Tokens(-5, 0, 0, 0, 20)),
    ],
)
@pytest.mark.filterwarnings("ignore:Failed to extract usage")
async def test_usage_that_is_missing_or_absurd_counts_at_its_worst(answer: Answer) -> None:
    with serving(in_turn(answer)) as provider:
        bench = Bench(provider.environ())
        async with bench.models:
            await bench.agent(GEMINI).run("x")
    (row,) = bench.rows
    assert bench.purse.spent == row.cost_usd
    assert bench.purse.spent > Decimal("0.02")


async def test_the_key_may_have_its_older_name() -> None:
    with serving(in_turn(DONE)) as provider:
        environ = {"GOOGLE_GEMINI_BASE_URL": provider.url, "GEMINI_API_KEY": "older"}
        bench = Bench(environ)
        async with bench.models:
            await bench.agent(GEMINI).run("x")
        assert provider.asks[0].headers["x-goog-api-key"] == "older"
    with pytest.raises(ProviderError, match="GOOGLE_API_KEY is not set"):
        Bench({}).open(GEMINI)


WITHOUT = """
import sys
sys.modules["google.genai"] = None  # as if it were not installed
from decimal import Decimal
from runner.errors import ProviderError
from runner.models import Asking, Models
from runner.money import Purse
models = Models(purse=Purse("run"), emit=print, environ={"GOOGLE_API_KEY": "k"})
try:
    models.open("main", "google:gemini-4-argon", conversation="c", asking=lambda: Asking("s", 1))
except ProviderError as error:
    print(error.message)
    print(error.hint)
"""
LAZY = """
import sys, json
import runner.models.vendors
print(json.dumps([name for name in sys.modules if name.startswith("google")]))
"""


def python(code: str) -> str:
    environ = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environ, check=True, capture_output=True, text=True
    )
    return done.stdout


@pytest.mark.slow
def test_without_its_client_the_extra_is_named() -> None:
    said = python(WITHOUT)
    assert "`google:gemini-4-argon` cannot be asked" in said
    assert "pip install 'subagent-runner[google]'" in said


def test_its_client_is_imported_only_when_it_is_asked() -> None:
    assert json.loads(python(LAZY)) == []
