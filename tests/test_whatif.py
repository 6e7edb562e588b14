"""`runner whatif`: the worked examples to the cent, tables of made-up runs, and real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from cacheserver import HAND_PRICES, MILLION, caching
from hypothesis import given, settings
from hypothesis import strategies as st
from provider import Answer, Ask, Call, Tokens
from scratch import PYTHON, UNITTEST, Scratch, make

from runner import economics
from runner.console.money import baseline_text
from runner.console.style import cells
from runner.console.whatif import render_whatif, verdict
from runner.economics import Rates, Work
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    Continuity,
    Decided,
    Event,
    GitFact,
    ModelResponded,
    RunFinished,
    RunStarted,
    StepFinished,
)
from runner.outcome import Attempt, Rung, Status, StepOutcome, Usage, Verdict
from runner.price import ClassPrices, Remembered
from runner.report import Baseline, summarise, to_json
from runner.whatif import (
    Assumptions,
    Changes,
    Line,
    alternatives,
    baseline,
    observed,
    stated,
)
from runner.whatif.work import Stretch, Turn, inline, switched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

OPUS, HAIKU = "anthropic:claude-opus-5-5", "anthropic:claude-haiku-5-5"
SONNET, LUNA = "anthropic:claude-sonnet-5-5", "openai:gpt-6-luna"
OPUS_4_8, HAIKU_4_5 = "anthropic:claude-opus-4-8", "anthropic:claude-haiku-4-5"
PER_MILLION = {
    OPUS: "4 0.20 5 8 20",
    HAIKU: "0.10 0.01 0.125 0.20 0.50",
    SONNET: "2 0.10 2.5 4 10",
    LUNA: "0.10 0.01 0.125 0.125 0.50",
    OPUS_4_8: "5 0.50 6.25 10 25",
    HAIKU_4_5: "1 0.10 1.25 2 5",
}
"""Input, read, write, write for an hour, output: typed in from the vendors' pages."""
NAMES = (
    "this run",
    "inline on main",
    "inline on main, at once",
    "by switching models, warm return",
    "by switching models, cold return",
)


def prices(model: str, tokens: int) -> ClassPrices | None:
    """What is published; Haiku 5.5 costs five times as much in prompts above 100,000 tokens."""
    if model not in PER_MILLION:
        return None
    dear = 5 if model == HAIKU and tokens > 100_000 else 1
    return ClassPrices(*(dear * Decimal(one) / MILLION for one in PER_MILLION[model].split()))


def cents(usd: Decimal | None) -> str:
    assert usd is not None
    return str((usd * 100).quantize(Decimal("0.1")))


# -- made-up runs --------------------------------------------------------------------------------


def started(main: str | None = OPUS, cheap: str = HAIKU) -> RunStarted:
    models = {"main": main, "cheap": cheap} if main else {"cheap": cheap}
    return RunStarted(
        run_id="20261121-174530-3f9a", workflow="ship", file="", root="", state_dir="",
        models=models, budget_usd=None, budget_seconds=None, budget_given=True, scripted=False,
        sandbox="", git_before="", branch="", steps=(), started_at=1000.0,
    )  # fmt: skip


def ran(step: str, size: int = 0, purpose: Any = "run") -> CommandFinished:
    return CommandFinished(step, purpose, "make", 1, False, 1.0, size, "")


def asked(
    role: str, tokens: tuple[int, int, int, int], *, step: str = "test", number: int = 2,
    model: str = "", at: float = 0.0, conversation: str = "main-1",
) -> ModelResponded:  # fmt: skip
    """Tell of a response of (input, read, written, output) tokens, priced by the table."""
    model = model or {"main": OPUS, "keepalive": OPUS, "cheap": HAIKU}[role]
    whole, read, written, output = tokens
    rates = prices(model, whole)
    usd = rates and (
        rates.input * (whole - read - written)
        + rates.read * read
        + rates.write * written
        + rates.output * output
    )
    how = None if role == "cheap" else Continuity("extends")
    return ModelResponded(
        step, number, role, model, model, Usage(1, whole, read, written, 0, output), usd, 1.0,
        conversation, continuity=how, at=at,
    )  # fmt: skip


def tried(
    step: str, verdict: Verdict, *requests: tuple[int, int, int, int], number: int = 2
) -> list[Event]:
    """Tell of one attempt of a subagent."""
    rows = [asked("cheap", one, step=step, number=number) for one in requests]
    attempt = Attempt(number, Rung.SUBAGENT, HAIKU, verdict, "", len(rows), role="cheap")
    return [
        AttemptStarted(step, number, Rung.SUBAGENT, HAIKU),
        *rows,
        AttemptFinished(step, attempt),
    ]


def packed(step: str, *requests: tuple[int, int, int, int], number: int = 3) -> list[Event]:
    """Tell of a packet that main mended."""
    return [
        Decided(step, "AskMain", "it failed", {"main_available": True}),
        AttemptStarted(step, number, Rung.MAIN, OPUS),
        *(asked("main", one, step=step, number=number) for one in requests),
        AttemptFinished(step, Attempt(number, Rung.MAIN, OPUS, Verdict.PASSED, "", role="main")),
    ]


def ended(step: str, rung: Rung, status: Status = Status.SUCCEEDED) -> StepFinished:
    return StepFinished(StepOutcome(step, status, rung))


def lines(
    events: Sequence[Event], assume: Assumptions | None = None, **changes: Any
) -> dict[str, Line]:
    found = alternatives(observed(events), prices, assume, Changes(**changes))
    return {line.name: line for line in found}


MEND = ((2_000, 0, 0, 100), (2_500, 0, 0, 100), (3_000, 0, 0, 100), (3_200, 0, 0, 60))
"""A subagent's four requests."""
PACKET = ((3_000, 0, 3_000, 100), (3_600, 3_000, 600, 80))


# -- the worked examples ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("main", "cheap", "context", "expected"),
    [
        # inline; by switching, warm and cold
        (OPUS, HAIKU, 80_000, "21.5 9.5 47.9"),
        (OPUS, HAIKU, 180_000, "33.5 24.7 111.1"),
        (SONNET, HAIKU, 80_000, "10.7 5.6 24.8"),
        (OPUS_4_8, HAIKU_4_5, 80_000, "44.7 31.3 77.3"),
    ],
)
def test_the_worked_examples_as_a_recorded_run(
    main: str, cheap: str, context: int, expected: str
) -> None:
    """Six commands of 900 tokens in a conversation, and thirty turns of main after them."""
    before = asked("main", (context - 500, 0, context - 500, 500), model=main, number=1)
    after = asked("main", (context, context, 0, 10), model=main, number=1)
    commands = [ran(f"step-{n}", 3_600) for n in range(6)]
    seen = observed([started(main, cheap), before, *commands, *[after] * 30])
    known = sum((one.usd or Decimal(0) for one in seen.own), Decimal(0))
    found = {line.name: line.low_usd for line in alternatives(seen, prices)}
    ways = [found[name] for name in (NAMES[1], NAMES[3], NAMES[4])]
    # Main's own requests cost the same whoever does the work.
    assert " ".join(cents(usd - known) for usd in ways if usd is not None) == expected


rate = st.integers(1, 2_000).map(lambda n: Decimal(n) / 100 / MILLION)
rates = st.builds(Rates, rate, rate, rate, rate)
works = st.builds(
    Work, context=st.integers(0, 300_000), turns=st.integers(1, 12), said=st.integers(1, 900),
    result=st.integers(900, 5_000), later=st.integers(0, 50),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(main=rates, cheap=rates, work=works, expired=st.booleans())
def test_turns_of_one_size_cost_what_the_cost_model_says(
    main: Rates, cheap: Rates, work: Work, expired: bool
) -> None:
    parts = (Stretch(work.context, (Turn(work.said, work.result),) * work.turns, work.later),)
    assert inline(parts, lambda _: main) == economics.inline(main, work)
    found = switched(parts, lambda _: main, lambda _: cheap, expired=expired)
    assert found == economics.switched(main, cheap, work, expired=expired)


# -- what is work ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "turns", "tokens"),
    [
        pytest.param([ran("a", 400)], 1, 400, id="a-command"),
        pytest.param([ran("a", 9_999_999)], 1, 1_800, id="an-agent-reads-no-more"),
        pytest.param([ran("a", 400, "stale"), ran("a", 4, "hook"), ran("a", 4, "clean")], 0, 0,
                     id="what-only-this-program-runs"),
        pytest.param([GitFact("c", "commit", {}), GitFact("p", "push", {})], 2, 800, id="git"),
        # Four requests / 1.3; what was read is 3,200 - 2,000 + 60 tokens.
        pytest.param([*tried("a", Verdict.PASSED, *MEND), ended("a", Rung.SUBAGENT)], 3, 1_260,
                     id="a-mend"),
        pytest.param([ran("a", 0, "agent"), *tried("a", Verdict.PASSED, *MEND)], 3, 1_260,
                     id="what-an-agent-runs-is-one-of-its-turns"),
        pytest.param([*tried("a", Verdict.SOFT, *MEND), *tried("a", Verdict.PASSED, *MEND),
                      ended("a", Rung.SUBAGENT)], 6, 2_520, id="progress-is-part-of-a-mend"),
        pytest.param([*tried("a", Verdict.INFRA, *MEND)], 0, 0, id="a-provider-that-failed"),
    ],
)  # fmt: skip
def test_what_main_would_have_done(events: list[Event], turns: int, tokens: int) -> None:
    line = lines([started(), *events])["inline on main"]
    assert (line.facts["turns"], line.facts["turns_tokens"]) == (turns, tokens)


def test_a_mend_is_judged_once_whoever_runs_the_command() -> None:
    blind = [*tried("a", Verdict.PASSED, *MEND)[:-1], ran("a", 0, "check")]
    looked = [blind[0], ran("a", 0, "agent"), *blind[1:]]
    found = [
        lines([started(), *events, tried("a", Verdict.PASSED)[-1]])["inline on main"].facts["turns"]
        for events in (blind, looked)
    ]
    assert found == [4, 3]


def test_failed_attempts_are_paid_by_the_run_and_by_nobody_else_but_who_switches() -> None:
    failed = tried("a", Verdict.HARD, *MEND)
    mended = [*packed("a", *PACKET), ended("a", Rung.MAIN)]
    found, without = (lines([started(), ran("a"), *some, *mended]) for some in (failed, []))
    lost = found["this run"].facts["failed_attempts_usd"]
    assert lost > 0
    run, before = found["this run"].low_usd, without["this run"].low_usd
    assert run is not None
    assert before is not None
    assert float(run - before) == pytest.approx(lost)
    for name in NAMES[1:3]:
        assert found[name].low_usd == without[name].low_usd
    assert (found[NAMES[3]].low_usd or 0) > (without[NAMES[3]].low_usd or 0)


def test_what_nobody_mended_takes_between_the_last_try_and_all() -> None:
    events = [*tried("a", Verdict.SOFT, *MEND), *tried("a", Verdict.HARD, *MEND, number=3)]
    line = lines([started(), *events, ended("a", Rung.SUBAGENT, Status.FAILED)])["inline on main"]
    assert line.low_usd is not None
    assert line.high_usd is not None
    assert line.low_usd < line.high_usd
    assert "in vain" in line.assumed


def test_a_cache_that_went_cold_in_the_run_is_not_held_against_main() -> None:
    """Main's second request wrote all anew, for its cache had expired meanwhile."""
    first = asked("main", (10_000, 0, 10_000, 100), number=1)
    cold, warm = (
        asked("main", (11_000, read, 11_000 - read, 100), number=1) for read in (0, 10_000)
    )
    after_cold, after_warm = (lines([started(), first, one]) for one in (cold, warm))
    assert after_cold["inline on main"].low_usd == after_warm["inline on main"].low_usd
    assert after_cold["this run"].low_usd != after_warm["this run"].low_usd


def test_a_run_without_a_conversation_is_set_into_an_assumed_one() -> None:
    events = [started(None), ran("a", 400)]
    line = lines(events)["inline on main"]
    assert line.low_usd == economics.inline(
        Rates(*(Decimal(one) / MILLION for one in ("4", "0.20", "5", "20"))),
        Work(context=50_000, turns=1, result=400, later=0),
    )
    assert "50,000 tokens" in line.assumed
    longer = lines(events, Assumptions(context=150_000))["inline on main"]
    assert (longer.low_usd or 0) - (line.low_usd or 0) == 100_000 * Decimal("0.20") / MILLION


def test_calls_at_once_are_the_least_that_it_can_take() -> None:
    found = lines([started(), *(ran(f"s{n}", 400) for n in range(5)), ran("s0", 400)])
    at_once, one_by_one = found[NAMES[2]], found[NAMES[1]]
    assert (at_once.facts["turns"], one_by_one.facts["turns"]) == (2, 6)
    # Each output is read all the same; what is said, once in a turn.
    assert at_once.facts["turns_tokens"] == 2 * 300 + 6 * 100


def test_a_packet_is_work_like_any_other_where_calls_are_made_at_once() -> None:
    found = lines(failing())
    assert found[NAMES[1]].facts["own_requests_usd"] == pytest.approx(float(usd(OPUS, *PACKET)))
    assert found[NAMES[2]].facts["own_requests_usd"] == 0
    # `lint` and `test`, then the mends: three turns of one, beside them the packet's.
    assert found[NAMES[2]].facts["turns"] == 4
    longer = [started(), ran("a"), *packed("a", *[PACKET[0]] * 6), ended("a", Rung.MAIN)]
    # The last of six requests only answers the packet.
    assert lines(longer)[NAMES[2]].facts["turns"] == 1 + 5


def test_before_main_was_open_its_conversation_has_its_fixed_part() -> None:
    later = asked("main", (9_000, 0, 9_000, 100), number=1)
    assert lines([started(), ran("a"), later])[NAMES[1]].facts["context_low"] == 3_000
    small = asked("main", (2_000, 0, 2_000, 100), number=1)
    assert lines([started(), ran("a"), small])[NAMES[1]].facts["context_low"] == 2_000


def test_the_cheap_model_finds_again_what_it_read_on_an_earlier_visit() -> None:
    first = asked("main", (40_000, 0, 40_000, 0), number=1)
    again = asked("main", (40_300, 40_000, 300, 0), number=1)
    one = lines([started(), first, ran("a", 400), again])[NAMES[3]]
    two = lines([started(), first, ran("a", 400), again, ran("b", 400)])[NAMES[3]]
    assert (one.facts["visits"], two.facts["visits"]) == (1, 2)
    assert one.low_usd is not None
    assert two.low_usd is not None
    rates = prices(HAIKU, 1)
    assert rates is not None
    # 40,400 tokens it has read before, 300 of main's are new to it; then a turn as any other.
    there = rates.read * 40_400 + rates.write * (300 + 400) + rates.output * 300
    back = Decimal(5) / MILLION * 400
    assert two.low_usd - one.low_usd == there + back


def test_a_conversation_besides_is_read_by_every_request() -> None:
    events = [started(), asked("main", (10_000, 0, 10_000, 100), number=1), ran("a", 400)]
    alone = lines(events)[NAMES[1]].low_usd
    besides = lines(events, Assumptions(context=50_000))[NAMES[1]].low_usd
    assert alone is not None
    assert besides is not None
    assert besides - alone == 2 * 50_000 * Decimal("0.20") / MILLION


def test_an_unknown_price_is_no_sum() -> None:
    found = lines([started("nix:model"), ran("a", 400)])
    assert found["this run"].low_usd == 0
    assert {found[name].low_usd for name in NAMES[1:]} == {None}
    text = rendered([started("nix:model"), ran("a", 400)], 100)
    assert text.count("a price is not known") == 4
    assert "name models with --set" in text


# -- other models ----------------------------------------------------------------------------------


def failing(facts: Mapping[str, Any] | None = None) -> list[Event]:
    """One step that the subagent mended, one that only main did."""
    known = {"main_available": True, "subagent_available": True, **(facts or {})}
    return [
        started(),
        ran("lint", 400),
        Decided("lint", "AskSubagent", "it failed", known),
        *tried("lint", Verdict.PASSED, *MEND),
        ended("lint", Rung.SUBAGENT),
        ran("test", 800),
        Decided("test", "AskSubagent", "it failed", known),
        *tried("test", Verdict.HARD, *MEND),
        *packed("test", *PACKET),
        ended("test", Rung.MAIN),
    ]


def usd(model: str, *requests: tuple[int, int, int, int]) -> Decimal:
    role = "main" if model.startswith(("anthropic:claude-o", "anthropic:claude-s")) else "cheap"
    costs = [asked(role, one, model=model).cost_usd for one in requests]
    return sum((one or Decimal(0) for one in costs), Decimal(0))


def test_other_models_are_priced_by_their_own_table() -> None:
    line = lines(failing(), models={"cheap": HAIKU_4_5})[f"with cheap={HAIKU_4_5}"]
    expected = 2 * usd(HAIKU_4_5, *MEND) + usd(OPUS, *PACKET)
    assert line.facts["same_outcome_usd"] == pytest.approx(float(expected))
    # If it mends all, main is not asked; if it mends nothing, once more.
    assert line.low_usd == 2 * usd(HAIKU_4_5, *MEND)
    assert "tokenizer" in line.assumed
    # As much as main would have cost for `lint`, by the policy that asks it at once.
    by_main = lines(failing(), policy="main")["by policy main"].low_usd
    assert by_main is not None
    assert line.high_usd == expected + by_main - usd(OPUS, *PACKET)
    alone = lines(failing({"main_available": False}), models={"cheap": HAIKU_4_5})
    assert alone[line.name].high_usd == expected


def test_another_main_may_need_another_packet() -> None:
    line = lines(failing(), models={"main": SONNET})[f"with main={SONNET}"]
    low = 2 * usd(HAIKU, *MEND) + usd(SONNET, *PACKET)
    assert (line.low_usd, line.high_usd) == (low, low + usd(SONNET, *PACKET))


def test_what_is_too_short_for_another_cache_is_not_cached() -> None:
    """OpenAI caches from 1,024 tokens on."""
    short = asked("cheap", (900, 500, 400, 10))
    line = lines([started(), short], models={"cheap": LUNA})[f"with cheap={LUNA}"]
    assert line.facts["same_outcome_usd"] == pytest.approx(900 * 0.10e-6 + 10 * 0.50e-6)


# -- another retention -----------------------------------------------------------------------------


def conversation(gap: float, *, kept: bool = False) -> list[Event]:
    first = asked("main", (20_000, 0, 20_000, 100), number=1, at=1_000.0)
    ping = asked("keepalive", (20_000, 20_000, 0, 1), step="", number=0, at=1_280.0)
    second = asked("main", (21_000, 20_000, 1_000, 100), number=1, at=1_000.0 + gap)
    return [started(), first, *([ping] if kept else []), second]


@pytest.mark.parametrize(
    ("gap", "retention", "pings", "rewrites"),
    [(10, "5m", 0, 0), (500, "5m", 1, 0), (9_000, "5m", 0, 1), (500, "1h", 0, 0)],
)
def test_another_retention(gap: float, retention: str, pings: int, rewrites: int) -> None:
    line = lines(conversation(gap), retention=retention)[f"with main's cache kept for {retention}"]
    assert (line.facts["keepalives"], line.facts["rewrites"]) == (pings, rewrites)
    written = Decimal(5 if retention == "5m" else 8) / MILLION
    read, said = Decimal("0.20") / MILLION, Decimal(20) / MILLION
    plain = written * 21_000 + read * 20_000 + said * 200
    extra = pings * (read * 20_000 + said) + rewrites * (Decimal(5) / MILLION - read) * 20_000
    assert line.low_usd == line.high_usd == plain + extra


def test_the_retention_that_the_run_had_costs_what_the_run_cost() -> None:
    found = lines(conversation(500, kept=True), retention="5m")
    assert found["with main's cache kept for 5m"].low_usd == found["this run"].low_usd


def test_a_retention_that_nobody_offers_has_no_sum() -> None:
    row = asked("main", (20_000, 0, 20_000, 100), number=1, model="openai:gpt-6.1-sol")
    line = lines([started(), row], retention="1h")["with main's cache kept for 1h"]
    assert line.low_usd is None
    assert line.measured == "openai:gpt-6.1-sol offers no retention of 1h"


# -- another policy --------------------------------------------------------------------------------

EXPECTED = {
    "subagent_usd": "0.001", "subagent_seconds": 10.0, "subagent_mended": 1.0,
    "subagent_failed": 9.0, "subagent_chance": 0.1, "subagent_chance_low": 0.05,
    "subagent_chance_high": 0.2, "subagent_seen_elsewhere": 0.0, "main_usd": "0.02",
    "main_seconds": 10.0, "report_usd": "0.001", "main_context_tokens": 0, "main_cache": "warm",
    "left_usd": "no budget", "value_of_time_usd_per_hour": "3.00", "chance_taken": "the mean",
}  # fmt: skip
"""A subagent that hardly ever mends, and takes as long as main."""


@pytest.mark.parametrize(
    ("policy", "facts", "first"),
    [
        ("ladder", {}, "subagent"),
        ("cheap", {}, "subagent"),
        ("main", {}, "main"),
        ("main", {"main_available": False}, "subagent"),
        ("ladder", {"out_of_scope": True}, "main"),
        ("expected-cost", {}, "subagent"),
        ("expected-cost", EXPECTED, "main"),
        ("expected-cost", {**EXPECTED, "subagent_chance": 0.9}, "subagent"),
    ],
)
def test_each_policy_chooses_again_on_what_was_recorded(
    policy: str, facts: Mapping[str, Any], first: str
) -> None:
    line = lines(failing(facts), policy=policy)[f"by policy {policy}"]
    assert line.facts["first"] == {"lint": first, "test": first}


def test_what_was_tried_is_known_and_what_was_not_is_an_interval() -> None:
    found = {
        policy: lines(failing(), policy=policy)[f"by policy {policy}"]
        for policy in ("ladder", "cheap", "main")
    }
    assert found["ladder"].low_usd == found["ladder"].high_usd == lines(failing())[NAMES[0]].low_usd
    # Main is never asked: what it mended is not mended.
    assert found["cheap"].low_usd == found["cheap"].high_usd == 2 * usd(HAIKU, *MEND)
    assert "fails the run: test" in found["cheap"].assumed
    # Main mended `test` and would have again; of `lint` nobody knows how many packets it takes.
    main = found["main"]
    assert main.low_usd is not None
    assert main.high_usd is not None
    one = main.low_usd - usd(OPUS, *PACKET)
    assert one > 0
    assert main.high_usd == main.low_usd + one


def test_the_conversation_that_packets_open_is_opened_once() -> None:
    mended = [event for event in failing() if getattr(event, "step", "lint") == "lint"][:7]
    twice = [replace(one, step="more") if hasattr(one, "step") else one for one in mended[1:]]
    one, two = (
        lines(events, policy="main")["by policy main"].low_usd
        for events in (mended, [*mended, *twice])
    )
    assert one is not None
    assert two is not None
    opening = (Decimal(5) - Decimal("0.20")) / MILLION * 3_000
    assert two == 2 * one - opening


def test_a_subagent_that_was_not_asked_may_save_the_packet_or_not() -> None:
    facts = {"main_available": True, "subagent_available": True}
    events = [
        started(), ran("test"), Decided("test", "AskMain", "it failed", facts),
        *packed("test", *PACKET)[1:], ended("test", Rung.MAIN),
    ]  # fmt: skip
    line = lines(events, policy="ladder")["by policy ladder"]
    assert line.low_usd is not None
    assert line.high_usd == line.low_usd + usd(OPUS, *PACKET)
    events[2] = Decided("test", "AskMain", "it failed", {**facts, "subagent_usd": "0.00123"})
    known = lines(events, policy="ladder")["by policy ladder"]
    assert known.low_usd == Decimal("0.00123")


@pytest.mark.parametrize("end", range(len(failing()) + 1))
def test_a_run_that_was_killed_anywhere_can_be_looked_at(end: int) -> None:
    text = rendered(failing()[:end], 100, models={"cheap": LUNA}, policy="main", retention="1h")
    assert "inline on main" in text


# -- what people read ------------------------------------------------------------------------------


def rendered(events: Sequence[Event], width: int, **changes: Any) -> str:
    seen = observed(events)
    ways = alternatives(seen, prices, Assumptions(), Changes(**changes))
    source = ("genai-prices 0.2.3", "2026-11-09")
    return render_whatif(seen, ways, stated(Assumptions()), prices=source, width=width)


@pytest.mark.parametrize("width", [80, 160])
def test_every_line_says_what_is_measured_and_what_is_assumed(width: int) -> None:
    changes = {"models": {"cheap": LUNA}, "retention": "1h", "policy": "main"}
    text = rendered(failing(), width, **changes)
    assert max(map(cells, text.splitlines())) <= width
    heads = [line for line in text.splitlines() if re.match(r"  \S.*\$", line)]
    assert len(heads) == 8
    assert text.count("    measured  ") == text.count("    assumed   ") == 8
    assert "genai-prices 0.2.3, of 2026-11-09" in text


def test_it_never_promises_a_saving() -> None:
    """A run that paid much for little is told so as plainly as one that saved."""
    dear = tried("lint", Verdict.PASSED, *[(90_000, 0, 0, 4_000)] * 12)
    events = [started(), ran("lint", 40), *dear, ended("lint", Rung.SUBAGENT)]
    assert "would have cost $" in verdict(tuple(lines(events).values()))
    assert verdict(tuple(lines([started(), ran("lint", 40)]).values())) == (
        "By these estimates no other way would have cost less than this run."
    )
    given_up = [*failing()[:12], *tried("test", Verdict.HARD, *MEND)]
    assert verdict(tuple(lines(given_up).values())).endswith(
        "It left test unmended: another way may have done more."
    )
    # To leave steps unmended is no other way to do the same.
    cheap = lines(failing(), policy="cheap")
    left = (cheap["this run"], cheap["by policy cheap"])
    assert (left[1].low_usd or 0) < (left[0].low_usd or 0)
    assert left[1].facts["unmended"] == ["test"]
    assert "No price is known for any other way" in verdict(left)
    report = replace(summarise(failing()), baseline=Baseline(Decimal("0.5"), Decimal("0.0001")))
    assert baseline_text(report) == (
        "about $0.5000 inline on main, $0.0001 by switching models (less than this run) (estimated)"
    )


def test_the_last_event_brings_the_baseline_into_the_report() -> None:
    assert baseline(observed([started(), ran("a")]), prices, Assumptions()) == Baseline()
    assert baseline(observed([started(None), *failing()[1:8]]), prices, Assumptions()) == Baseline()
    found = baseline(observed(failing()), prices, Assumptions())
    assert found.inline_usd is not None
    last = RunFinished(0, "succeeded", 1.0, "", "", "", (), found.inline_usd, found.switch_usd)
    told = to_json(summarise([*failing(), last]))["baseline"]
    assert told["inline_usd"] == float(found.inline_usd)
    assert to_json(summarise(failing()))["baseline"]["inline_usd"] is None


def test_prices_are_asked_once_for_each_tier() -> None:
    asked_for: list[int] = []

    def slow(model: str, tokens: int) -> ClassPrices | None:
        asked_for.append(tokens)
        return prices(model, tokens)

    table = Remembered(slow)
    sizes = [1, 99_999, 100_000, 100_001, 150_000, 5, 250_000, 0, 100_000]
    assert [table(HAIKU, one) for one in sizes] == [prices(HAIKU, one) for one in sizes]
    before = len(asked_for)
    assert table(HAIKU, 50_000) == prices(HAIKU, 50_000)
    assert len(asked_for) == before
    assert [table(OPUS, one) for one in sizes] == [prices(OPUS, one) for one in sizes]
    assert len(asked_for) == before + 2


# -- real runs -------------------------------------------------------------------------------------

BROKEN = "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n"
SCRIPT = f"""
    as: {HAIKU}
    rules:
      - when: {{ role: cheap }}
        turns:
          - {{ call: edit_file, with: {{ path: calc.py, old_text: a - b, new_text: a + b }} }}
          - done: It adds again.
"""
WORKFLOW = f"""
    name: mended
    steps:
      - id: test
        run: {UNITTEST}
        fix: {{ agent: test-fixer }}
      - id: commit
        commit: {{ message: auto }}
"""


def whatif(repo: Scratch, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PYTHON, "-m", "runner", "whatif", "--state-dir", str(repo.root.parent / "state"),
         *arguments],
        cwd=repo.root, capture_output=True, text=True, check=False, env={**os.environ},
    )  # fmt: skip


@pytest.mark.anyio
async def test_a_scripted_run(world: Path) -> None:
    repo = make(world)
    repo.write("calc.py", BROKEN)
    repo.commit_all("broken")
    report = await repo.run(WORKFLOW, models=repo.script(SCRIPT))
    assert report.exit_code == 0
    told = json.loads(whatif(repo, "--json").stdout)
    found = {line["name"]: line for line in told["lines"]}
    assert tuple(found) == NAMES
    assert found["this run"]["low_usd"] == pytest.approx(float(report.cost_usd or 0))
    # The failing test, two requests / 1.3, the test again, the commit.
    assert found["inline on main"]["facts"]["turns"] == 5
    assert told["assumptions"]["unknown_context"] == 50_000
    # Its script stands for Haiku in both roles, and nobody asked main.
    assert told["models"] == {"main": HAIKU, "cheap": HAIKU}
    base = report.baseline
    assert float(base.inline_usd or 0) == pytest.approx(found["inline on main"]["low_usd"])
    assert float(base.switch_usd or 0) == pytest.approx(found[NAMES[3]]["low_usd"])
    again = json.loads(whatif(repo, "--json", "--set", f"main={OPUS}").stdout)
    assert again["models"]["main"] == OPUS
    assert again["lines"][1]["low_usd"] > found["inline on main"]["low_usd"]
    refused = whatif(repo, "--set", "mian=a:b")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "Roles: main, cheap." in refused.stderr


@pytest.mark.anyio
async def test_a_run_without_models_has_no_baseline(world: Path) -> None:
    repo = make(world)
    report = await repo.run("name: plain\nsteps:\n  - id: test\n    run: echo fine\n")
    assert report.baseline == Baseline()
    text = whatif(repo).stdout
    assert "nobody was asked" in text
    assert "no other way would have cost less" in text


def test_the_start_pays_nothing_for_it() -> None:
    code = "import sys, runner.api, runner.cli.exec; print(sorted(sys.modules))"
    done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    assert "genai_prices" not in done.stdout
    assert "runner.whatif" not in done.stdout


def talk(ask: Ask) -> Answer:
    """Main answers its prompt; the subagent mends `one` and gives up on `two`, which main mends."""
    newest = json.dumps(ask.body["messages"][-1])
    done = Call("done", {"summary": "as asked"})
    if ask.model == "claude-opus-5-5":
        edit = Call("edit_file", {"path": "two.txt", "old_text": "broken", "new_text": "whole"})
        return Answer(calls=(edit if "Packet" in newest else done,), tokens=Tokens(output=90))
    if "two.txt" in ask.text:
        return Answer(
            calls=(Call("cannot", {"reason": "nobody told me"}),), tokens=Tokens(output=40)
        )
    edit = Call("edit_file", {"path": "one.txt", "old_text": "broken", "new_text": "whole"})
    return Answer(calls=(done if "tool_result" in newest else edit,), tokens=Tokens(output=70))


CHECK = "grep -qx whole {0}.txt || { echo {0}.txt:1: error: not whole; exit 1; }"


@pytest.mark.slow
def test_a_run_against_a_provider_that_counts_its_cache(world: Path) -> None:
    repo = make(world)
    steps: list[dict[str, Any]] = [{"id": "plan", "prompt": "Say that you have read this. " * 900}]
    for name in ("one", "two"):
        repo.write(f"{name}.txt", "broken\n")
        command = CHECK.replace("{0}", name)
        steps.append({"id": name, "run": command, "fix": {"agent": "fixer", "attempts": 1}})
    repo.commit_all("two parts")
    flow = {"name": "parts", "budget": {"usd": 5, "time": "2m"}, "steps": steps}
    (world / "parts.yaml").write_text(json.dumps(flow))
    arguments = ["exec", str(world / "parts.yaml"), "--json", "--allow-uncommitted"]
    arguments += ["--state-dir", str(world / "state")]
    arguments += ["--model", f"main={OPUS}", "--model", f"cheap={HAIKU}"]
    with caching(talk) as provider:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *arguments],
            cwd=repo.root, env={**os.environ, **provider.environ()}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    asked_for = ["--set", f"cheap={HAIKU_4_5}", "--retention", "5m", "--policy", "ladder"]
    told = json.loads(whatif(repo, "--json", *asked_for).stdout)
    found = {line["name"]: line for line in told["lines"]}
    billed = float(provider.usd())
    assert found["this run"]["low_usd"] == pytest.approx(billed)
    assert found["with main's cache kept for 5m"]["low_usd"] == pytest.approx(billed)
    assert found["by policy ladder"]["low_usd"] == pytest.approx(billed)
    assert report["baseline"]["inline_usd"] == pytest.approx(found["inline on main"]["low_usd"])
    assert report["baseline"]["switch_usd"] == pytest.approx(found[NAMES[3]]["low_usd"])
    # What the server counted, times prices typed in by hand.
    kinds = ("input", "read", "write", "write_1h", "output")
    repriced = sum(
        bill.body_tokens.get(kind, 0) * float(price) / 1e6
        for bill in provider.bills
        for kind, price in zip(
            kinds, HAND_PRICES[bill.model.replace("haiku-5-5", "haiku-4-5")], strict=True
        )
    )
    line = found[f"with cheap={HAIKU_4_5}"]
    assert line["facts"]["same_outcome_usd"] == pytest.approx(repriced)
    assert line["low_usd"] < repriced < line["high_usd"]
