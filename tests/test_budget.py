"""A budget holds from the bound of one request to the exit code of a run."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from forking import forked
from hypothesis import given, settings
from hypothesis import strategies as st
from provider import Answer, Ask, Call, Fault, Provider, Reply, Tokens, in_turn, serving
from pydantic import BaseModel
from pydantic_ai import Agent, ToolOutput
from scratch import CALC, UNITTEST, Scratch, make

from runner.brief import HandoverFacts
from runner.conversation import MainConversation
from runner.errors import JournalError
from runner.events import ModelResponded
from runner.models import Asking, Models, error_ending
from runner.models.transport import RequestLimits
from runner.money import OverBudgetError, Purse, Worst
from runner.outcome import Done as OutcomeDone
from runner.outcome import OverBudget, Refused, Usage
from runner.plan import Price
from runner.plan import Provider as Declared
from runner.price import cost, worst_case
from runner.tools import Permit

if TYPE_CHECKING:
    from pathlib import Path

    from runner.events import Event
    from runner.models.metered import MeteredModel

HAIKU = "anthropic:claude-haiku-5-5"
OPUS = "anthropic:claude-opus-5-5"
VENDORS = [HAIKU, "openai:gpt-6-luna", "openai-chat:gpt-6-luna", "local:qwen"]
QUICK = RequestLimits(tries=2, try_seconds=2, total_seconds=3, first_wait=0.01, longest_wait=0.3)
LOCAL = {
    "local:*": Price(Decimal(1), Decimal(3)),
    "openai-chat:*": Price(Decimal("0.1"), Decimal("0.5"), Decimal("0.01"), Decimal("0.125")),
}


class Done(BaseModel):
    summary: str


class Bench:
    """Models over a served provider."""

    def __init__(self, provider: Provider, purse: Purse) -> None:
        self.purse = purse
        self.events: list[Event] = []
        environ = provider.environ()
        self.models = Models(
            purse=purse,
            emit=self.hear,
            providers={"local": Declared("local", environ["OPENAI_BASE_URL"])},
            environ=environ,
            prices=LOCAL,
            limits=QUICK,
        )

    def hear(self, event: Event) -> None:
        self.events.append(event)

    @property
    def rows(self) -> list[ModelResponded]:
        return [event for event in self.events if isinstance(event, ModelResponded)]

    def open(self, model_id: str, role: str = "cheap", purse: Purse | None = None) -> MeteredModel:
        return self.models.open(
            role,
            model_id,
            conversation="c1",
            asking=lambda: Asking("lint", 2, purse),
            main=role == "main",
        )

    def agent(self, model_id: str) -> Agent[None, Done]:
        agent = Agent(self.open(model_id), output_type=ToolOutput(Done, name="done"))

        @agent.tool_plain
        def write(text: str) -> str:  # pyright: ignore[reportUnusedFunction]
            self.written.append(text)
            return "written"

        return agent

    written: list[str]


def limit(ask: Ask) -> int:
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    (found,) = [ask.body[name] for name in names if name in ask.body]
    return int(found)


def purse(usd: str | None = "1", **more: Any) -> Purse:
    return Purse("run", usd=None if usd is None else Decimal(usd), **more)


# Answers that are cut off


HALF = Answer(calls=(Call("write", {"text": "half a fi"}),), tokens=Tokens(output=8_000), cut=True)
WHOLE = Answer(calls=(Call("write", {"text": "half a file"}),), tokens=Tokens(output=9_000))
DONE = Answer(calls=(Call("done", {"summary": "ok"}),))


@pytest.mark.parametrize("model_id", VENDORS)
async def test_an_answer_that_is_cut_off_is_asked_for_once_more_with_more_room(
    model_id: str,
) -> None:
    with serving(in_turn(HALF, WHOLE, DONE)) as provider:
        bench = Bench(provider, purse())
        bench.written = []
        async with bench.models:
            result = await bench.agent(model_id).run("Write it.")
        first, again, _ = provider.asks
    assert result.output == Done(summary="ok")
    # A half call looks like a whole one; it is never carried out, and never sent back.
    assert bench.written == ["half a file"]
    assert all('half a fi"' not in ask.text for ask in provider.asks)
    assert (limit(first), limit(again)) == (8_000, 32_000)
    assert {k: v for k, v in first.body.items() if v != 8_000} == {
        k: v for k, v in again.body.items() if v != 32_000
    }
    assert len(bench.rows) == 3
    assert bench.purse.spent == sum((row.cost_usd or 0 for row in bench.rows), Decimal(0))
    # What was cut off is paid for, and no part of the conversation.
    assert bench.rows[0].messages == ""
    assert json.loads(bench.rows[1].messages)[0]["parts"][0]["content"] == "Write it."


@pytest.mark.parametrize("answer", [HALF, Answer("I was about to", cut=True), Answer(cut=True)])
@pytest.mark.parametrize("model_id", VENDORS)
async def test_what_is_cut_off_twice_is_a_refusal_and_nothing_is_carried_out(
    model_id: str, answer: Answer
) -> None:
    with serving(in_turn(answer)) as provider:
        bench = Bench(provider, purse())
        bench.written = []
        async with bench.models:
            with pytest.raises(Exception) as caught:  # noqa: PT011  its type is what is tested
                await bench.agent(model_id).run("Write it.")
        assert len(provider.asks) == 2
    assert error_ending(caught.value) == Refused(
        "unparseable", "the answer was cut off at 32000 tokens"
    )
    assert bench.written == []


async def test_no_longer_answer_is_asked_for_than_can_be_paid() -> None:
    """The first could have 8,000 tokens; what is left after it pays for less."""
    with serving(in_turn(HALF)) as provider:
        bench = Bench(provider, purse("0.0080"))
        async with bench.models:
            with pytest.raises(Exception) as caught:  # noqa: PT011  its type is what is tested
                await bench.agent(HAIKU).run("Write it.")
        assert len(provider.asks) == 1
    assert isinstance(error_ending(caught.value), Refused)


# The bound


@pytest.mark.parametrize("model_id", [*VENDORS, OPUS, "openai:gpt-6.1-sol"])
@pytest.mark.parametrize("cache", [True, False, "1h"])
async def test_what_is_reserved_covers_every_class_that_the_wire_allows(
    model_id: str, cache: Any
) -> None:
    reserved: list[Worst] = []

    def script(ask: Ask) -> Reply:
        reserved.append(Worst(bench.purse.reserved, bench.purse.reserved_tokens))
        return DONE

    with serving(script) as provider:
        bench = Bench(provider, purse("9"))
        bench.written = []
        async with bench.models:
            await bench.agent(model_id).run("x" * 20_000, model_settings={"cache": cache})
        (ask,) = provider.asks
    (worst,) = reserved
    hour = '"ttl":"1h"' in ask.text
    assert hour == (cache == "1h" and ask.api == "anthropic")
    whole, output = len(ask.raw) + 1_024, limit(ask)
    assert worst.tokens == whole + output
    classes = [(0, 0, 0), (whole, 0, 0), (0, whole, 0), *([(0, whole, whole)] if hour else [])]
    for read, written, written_1h in classes:
        usage = Usage(1, whole, read, written, written_1h, output)
        billed = cost(model_id, usage, prices=LOCAL)
        assert billed is not None
        assert worst.usd is not None
        assert billed <= worst.usd
    # And no more than the dearest of them.
    assert worst.usd == worst_case(model_id, whole, output, prices=LOCAL, hour=hour)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([HAIKU, OPUS, "openai:gpt-6.1-sol", "google:gemini-4-argon", "local:qwen"]),
    st.tuples(*[st.integers(0, 300_000)] * 4),
    st.integers(0, 50_000),
)
def test_without_an_hour_on_the_wire_the_bound_holds_for_all_other_classes(
    model_id: str, counts: tuple[int, ...], less: int
) -> None:
    plain, read, write, output = counts
    whole = plain + read + write
    real = cost(model_id, Usage(1, whole, read, write, 0, output), prices=LOCAL)
    bound = worst_case(model_id, whole + less, output + less, prices=LOCAL, hour=False)
    assert real is not None
    assert bound is not None
    assert real <= bound


@pytest.mark.parametrize(
    ("reported", "tight"),
    [
        (Tokens(5_000), True),
        (Tokens(4_000, cache_read=3_900), True),
        (Tokens(100), False),  # the part that was not read from the cache, say
        (Tokens(-5), False),
        (Tokens(10, cache_read=5_000), False),
        (None, False),
    ],
)
@pytest.mark.filterwarnings("ignore:Failed to extract usage")
async def test_a_count_bounds_the_next_request_only_when_it_can_be_true(
    reported: Tokens | None, tight: bool
) -> None:
    bounds: list[int] = []

    def script(ask: Ask) -> Reply:
        bounds.append(bench.purse.reserved_tokens - limit(ask) - len(ask.raw))
        call = Call("write", {"text": "x"}) if ask.number == 1 else DONE.calls[0]
        return Answer(calls=(call,), tokens=reported)

    with serving(script) as provider:
        bench = Bench(provider, purse("9"))
        bench.written = []
        async with bench.models:
            await bench.agent("openai:gpt-6-luna").run("word " * 4_000)
    first, second = bounds
    assert first == 1_024
    assert (second < -10_000) if tight else (second == 1_024)


async def test_a_count_of_an_older_request_bounds_one_that_extends_it_and_no_other() -> None:
    bounds: list[int] = []

    def script(ask: Ask) -> Reply:
        bounds.append(bench.purse.reserved_tokens - limit(ask) - len(ask.raw))
        if ask.number == 2:
            return Fault(break_off="reset")
        return Answer("fine", tokens=Tokens(5_000))

    with serving(script) as provider:
        bench = Bench(provider, purse("9"))
        async with bench.models:
            model = bench.open(OPUS, role="main")
            agent = Agent(model, instructions="Be good.")
            once = await agent.run("word " * 4_000)
            history = once.all_messages()
            await agent.run("and " * 1_000, message_history=history)  # lost once, then answered
            await model.keep_alive()
            await agent.run("or " * 1_000, message_history=history)  # extends the first only
            await agent.run("x " * 9_000)
    assert bounds[0] == bounds[5] == 1_024
    # The one that was lost left nothing behind.
    assert bounds[1] == bounds[2] < -10_000
    assert bounds[3] < -15_000
    # The last answered request is another one now: all of it counts anew.
    assert bounds[4] == 1_024


# Waiting, shortening, giving up


async def test_what_no_longer_has_room_after_waiting_is_shortened_again() -> None:
    """Both find room for 8,000 tokens; the first one to be answered leaves less than that."""
    asked: list[int] = []

    def script(ask: Ask) -> Reply:
        asked.append(limit(ask))
        return Answer(calls=DONE.calls, tokens=Tokens(1_000, output=limit(ask)), delay=0.15)

    with serving(script) as provider:
        bench = Bench(provider, purse("0.0075"))
        bench.written = []
        async with bench.models, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(bench.agent(HAIKU).run, "Write it.")
    assert asked[0] == 8_000
    assert 2_000 <= asked[1] < 8_000
    assert bench.purse.spent <= Decimal("0.0075")


async def test_each_try_is_shortened_to_what_is_left_then() -> None:
    """Lost tries count at their worst, so that the next one has less; the third is hopeless."""
    asked: list[int] = []

    def script(ask: Ask) -> Reply:
        asked.append(limit(ask))
        return Fault(break_off="reset")

    with serving(script) as provider:
        bench = Bench(provider, purse("0.008"))
        bench.written = []
        async with bench.models:
            with pytest.raises(Exception) as caught:  # noqa: PT011  its type is what is tested
                await bench.agent(HAIKU).run("Write it.")
    assert asked[0] == 8_000
    assert asked[1:] == sorted(asked[1:], reverse=True)
    assert asked[1] < 8_000
    assert isinstance(error_ending(caught.value), OverBudget)
    assert bench.purse.spent <= Decimal("0.008")


async def test_a_ceiling_in_tokens_shortens_answers_and_then_refuses() -> None:
    with serving(in_turn(DONE)) as provider:
        bench = Bench(provider, purse(None, tokens=6_000))
        bench.written = []
        async with bench.models:
            await bench.agent(HAIKU).run("Write it.")
            (ask,) = provider.asks
            assert 2_000 <= limit(ask) < 6_000
            with pytest.raises(OverBudgetError) as caught:
                await bench.agent(HAIKU).run("Write it. " * 300)
    assert caught.value.message.startswith("The next request of cheap needs up to ")
    assert caught.value.message.endswith(
        " tokens (its worst case); of 6,000, 120 are spent and 5,880 left."
    )


async def test_a_full_disk_is_not_taken_for_a_bad_connection() -> None:
    with serving(in_turn(Fault(break_off="reset"))) as provider:
        bench = Bench(provider, purse())

        def full(event: Event) -> None:
            if isinstance(event, ModelResponded):
                raise JournalError("disk full")

        environ = provider.environ()
        models = Models(purse=bench.purse, emit=full, environ=environ, limits=QUICK)
        async with models:
            model = models.open("cheap", HAIKU, conversation="c", asking=lambda: Asking("lint", 1))
            with pytest.raises(JournalError):
                await Agent(model).run("x")
    assert bench.purse.spent > 0
    assert bench.purse.reserved == 0


# Through the command


BROKEN = CALC.replace("a + b", "a - b")
MENDED = Call("edit_file", {"path": "calc.py", "old_text": "a - b", "new_text": "a + b"})


def look_on(ask: Ask) -> Reply:
    """Do nothing useful, at a price: each answer is as long as it may be."""
    call = Call("read_file", {"path": "calc.py", "offset": ask.number})
    return Answer(calls=(call,), tokens=Tokens(len(ask.raw) // 4, output=limit(ask)))


def run_mend(
    repo: Scratch, provider: Provider, *options: str, fix: str = "{ agent: fixer }", more: str = ""
) -> tuple[int, dict[str, Any], str]:
    """Run a workflow whose one test fails; return exit code, report and what people read."""
    file = repo.root.parent / "mend.yaml"
    step = f"steps:\n  - {{ id: test, run: {json.dumps(UNITTEST)}, fix: {fix}"
    file.write_text(f"name: mend\n{more}{step} }}\n")
    models = ("--model", f"cheap={HAIKU}", "--model", f"main={OPUS}")
    argv = ["exec", str(file), *models, "--json", "--allow-uncommitted", *options]
    environ = {**os.environ, **provider.environ(), "NO_COLOR": "1"}
    done = forked(*argv, cwd=repo.root, environ=environ)
    # Long lines are broken to the width of the stream.
    return done.returncode, json.loads(done.stdout), " ".join(done.stderr.split())


@pytest.fixture
def broken(world: Path) -> Scratch:
    repo = make(world)
    repo.write("calc.py", BROKEN)
    repo.commit_all("break it")
    return repo


LEFT = r"not asked: needs up to \$0\.\d+, \$0\.\d+ left"
LACKED = (
    r"Short +The next request of cheap needs up to \$0\.\d+ \(its worst case\); "
    r"of \$0\.0060, \$0\.\d+ is spent and \$0\.\d+ left\."
)


@pytest.mark.parametrize("given", ["option", "workflow", "ceiling"])
def test_a_run_whose_money_is_used_up_exits_with_3_and_says_why(
    broken: Scratch, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    options, more = ("--budget", "0.006"), ""
    if given == "workflow":
        options, more = (), "budget: { usd: 0.006 }\n"
    elif given == "ceiling":
        config = broken.root.parent / "config.yaml"
        config.write_text("ceilings: { usd: 0.006 }\n")
        monkeypatch.setenv("SUBRUNNER_CONFIG", str(config))
        options = ("--budget", "5")
    with serving(look_on) as provider:
        code, report, told = run_mend(broken, provider, *options, more=more)
        assert 1 <= len(provider.asks) <= 5
    assert code == report["exit_code"] == 3
    assert re.search(LEFT, report["steps"][0]["reason"])
    assert re.search(LEFT, told)
    assert re.search(LACKED, told)
    if given == "ceiling":
        assert re.search(
            r"Next +raise `ceilings\.usd` in \S+/config\.yaml to 0\.01 or more: "
            r"--budget cannot lift it ", told
        )  # fmt: skip
    else:
        assert re.search(r"Next +runner exec( \S+)? --budget 0\.0\d or more ", told)
    assert 0 < report["cost_usd"] <= 0.006
    assert broken.git("status", "--porcelain") == ""


@pytest.mark.parametrize("given", ["workflow", "ceiling"])
def test_a_run_whose_tokens_are_used_up_exits_with_3_and_says_why(
    broken: Scratch, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    more = "budget: { tokens: 20000 }\n"
    if given == "ceiling":
        config = broken.root.parent / "config.yaml"
        config.write_text("ceilings: { tokens: 20000 }\n")
        monkeypatch.setenv("SUBRUNNER_CONFIG", str(config))
        more = "budget: { tokens: 900000 }\n"
    with serving(look_on) as provider:
        code, report, told = run_mend(broken, provider, more=more)
        assert len(provider.asks) >= 1
    assert code == 3
    said = r"needs up to [\d,]+ tokens, [\d,]+ left"
    assert re.search(said, report["steps"][0]["reason"])
    assert re.search(r"of 20,000, [\d,]+ are spent and [\d,]+ left\.", told)
    where = (
        r"`ceilings\.tokens` in \S+" if given == "ceiling" else r"`budget\.tokens` in the workflow"
    )
    assert re.search(rf"Next +raise {where}.* to \d\d,000 or more ", told)
    tokens = sum(m["input_tokens"] + m["output_tokens"] for m in report["models"].values())
    assert 0 < tokens <= 20_000


def test_a_steps_own_money_used_up_is_a_hard_failure_and_main_goes_on(broken: Scratch) -> None:
    def script(ask: Ask) -> Reply:
        if "haiku" in ask.model:
            return look_on(ask)
        main.append(ask.number)
        return Answer(calls=(MENDED,) if len(main) == 1 else DONE.calls)

    main: list[int] = []
    fix = "{ agent: fixer, usd: 0.006 }"
    with serving(script) as provider:
        code, report, _ = run_mend(broken, provider, fix=fix)
    assert code == 0, report
    attempts = report["steps"][0]["attempts"]
    assert [(a["rung"], a["verdict"]) for a in attempts] == [
        ("command", "hard"),
        ("subagent", "hard"),
        ("main", "passed"),
    ]
    assert attempts[1]["reason"].startswith("not asked: needs up to ")
    assert attempts[1]["reason"].endswith(" left of the step's $0.0060")
    assert attempts[1]["cost_usd"] <= 0.006
    assert broken.read("calc.py") == CALC


def test_a_steps_own_money_is_counted_by_the_users_prices(broken: Scratch) -> None:
    """By the list this is ten times the step's money, by the user's own price a tenth of it."""

    def script(ask: Ask) -> Reply:
        calls = (MENDED,) if ask.number == 4 else DONE.calls if ask.number > 4 else looked
        return Answer(calls=calls, tokens=Tokens(len(ask.raw), output=2_000))

    looked = (Call("read_file", {"path": "calc.py"}),)
    price, fix = ("--price", f"{HAIKU}=0.001/0.005"), "{ agent: fixer, usd: 0.001 }"
    with serving(script) as provider:
        code, report, _ = run_mend(broken, provider, *price, fix=fix)
    assert code == 0, report
    attempt = report["steps"][0]["attempts"][1]
    assert (attempt["rung"], attempt["verdict"], attempt["requests"]) == ("subagent", "passed", 5)
    assert attempt["cost_usd"] == report["cost_usd"] < 0.0001


@pytest.mark.slow
@pytest.mark.parametrize(
    ("budget", "kept"),
    # The second is enough because nobody asks for an hour: at that price it were not.
    [("0.22", True), ("0.18", True), ("0.10", False)],
)
def test_a_packet_is_kept_back_where_that_is_enough_for_one(
    broken: Scratch, budget: str, kept: bool
) -> None:
    def script(ask: Ask) -> Reply:
        if "haiku" in ask.model:
            return look_on(ask)
        main.append(ask.number)
        return Answer(calls=(MENDED,) if len(main) == 1 else DONE.calls)

    main: list[int] = []
    fix = "{ agent: fixer, turns: 60 }"
    with serving(script) as provider:
        code, report, _ = run_mend(broken, provider, "--budget", budget, fix=fix)
    spent = Decimal(str(report["cost_usd"]))
    if kept:
        reason = report["steps"][0]["attempts"][1]["reason"]
        assert (code, len(main)) == (0, 2), report
        assert reason.startswith("not asked: needs up to ")
        assert "kept back for an escalation" in reason
    else:
        # Less than a packet takes would be kept for nothing: subagents have it all.
        assert (code, main) == (3, []), report
        assert spent > Decimal(budget) * 9 / 10
    assert spent <= Decimal(budget)


async def test_a_conversation_too_dear_to_go_on_is_handed_over_to_a_new_one(
    tmp_path: Path,
) -> None:
    async def facts() -> HandoverFacts:
        return HandoverFacts(steps=("lint: succeeded (subagent)",), diffstat="")

    allowed = Permit(
        root=tmp_path, allows=lambda _: True, why_not=lambda _: "", turns=6, shell=False
    )
    with serving(in_turn(Answer(calls=DONE.calls, tokens=Tokens(20_000)), DONE)) as provider:
        run = purse("2")
        bench = Bench(provider, run)
        async with bench.models:
            main = MainConversation(
                bench.models,
                OPUS,
                root=tmp_path,
                roster=[],
                emit=bench.hear,
                facts=facts,
                token="t",
            )
            await main.turn("x" * 60_000, step="a", attempt=1, permit=allowed)
            assert run.usd is not None
            (await run.reserve(Worst(run.usd - run.spent - Decimal("0.12")))).lost()
            mend = await main.turn("Packet.", step="b", attempt=1, permit=allowed)
            assert mend.ending == OutcomeDone("ok")
            assert main.conversation == "main-2"
            # A new one is no way out of an empty purse.
            (await run.reserve(Worst(run.usd - run.spent))).lost()
            mend = await main.turn("Packet.", step="c", attempt=1, permit=allowed)
    assert isinstance(mend.ending, OverBudget)
    assert len(provider.asks) == 2
