"""Whom a failure goes to first, by expected cost: tables and properties over plain records."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.expected import POLICIES, cheap_only, expected_cost, main_first, policy_of_run
from runner.history import Odds
from runner.outcome import Attempt, Failure, Fingerprint, Phase, Rung, Verdict
from runner.plan import Escalate, Fix
from runner.policy import AskMain, AskSubagent, GiveUp, Mid, Outlook, Situation, ladder

if TYPE_CHECKING:
    from runner.policy import Move

FAILURE = Failure(
    Fingerprint("pytest", Phase.RUN, frozenset("a")), 1, timed_out=False, tail="", files=()
)
FIX, THEN = Fix("fixer"), Fix("fixer", then="strong")


def odds(chance: float, *, low: float | None = None, seen: float = 10.0) -> Odds:
    least = chance if low is None else low
    return Odds(seen * chance, seen * (1.0 - chance), chance, least, 1.0, 0.0)


UNSEEN = odds(0.6, seen=0.0)


def outlook(
    chance: float = 0.8,
    cheap: str | None = "0.01",
    main: str | None = "0.10",
    **others: object,
) -> Outlook:
    """Prices of a model pair; time costs nothing unless said."""
    made = Outlook(
        kind="test",
        odds=odds(chance),
        cheap_usd=None if cheap is None else Decimal(cheap),
        cheap_seconds=30.0,
        main_usd=None if main is None else Decimal(main),
        main_seconds=60.0,
        report_usd=Decimal("0.002"),
        context=80_000,
        cold=False,
        left_usd=None,
        value_of_time=Decimal(0),
        irreversible=False,
    )
    return replace(made, **others)


def situation(
    now: Outlook | None, *attempts: Attempt, fix: Fix | None = FIX, **others: object
) -> Situation:
    made = Situation(
        "test",
        FAILURE,
        fix,
        Escalate(2),
        subagent=True,
        main=True,
        attempts=attempts,
        out_of_scope=False,
        mid=fix is not None and fix.then is not None,
        outlook=now,
    )
    return replace(made, **others)


def tried(rung: Rung, verdict: Verdict, role: str = "cheap") -> Attempt:
    return Attempt(1, rung, "m", verdict, "because", role=role)


def strong(chance: float, usd: str | None, seconds: float = 30.0, seen: float = 10.0) -> Mid:
    price = None if usd is None else Decimal(usd)
    return Mid(role="strong", odds=odds(chance, seen=seen), usd=price, seconds=seconds)


def asked(move: Move) -> str:
    """Who is asked, in a word."""
    match move:
        case AskSubagent(role=role):
            return role or "subagent"
        case AskMain():
            return "main"
        case GiveUp():
            return "nobody"


SUB_HARD = tried(Rung.SUBAGENT, Verdict.HARD)
SUB_SOFT = tried(Rung.SUBAGENT, Verdict.SOFT)
MAIN_HARD = tried(Rung.MAIN, Verdict.HARD, "main")


@pytest.mark.parametrize(
    ("now", "who"),
    [
        # 0.01 + 0.2 * 0.102 = 0.0304 against 0.10
        (outlook(), "subagent"),
        # The chance that is needed: (0.01 + 0.002) / 0.102 = 0.1176
        (outlook(0.118), "subagent"),
        (outlook(0.117), "main"),
        # A tie goes to the cheaper rung: 0.051 + 0.5 * 0.102 = 0.102, and so is main at once
        (outlook(0.5, "0.0510", "0.102", report_usd=Decimal(0)), "subagent"),
        (outlook(0.5, "0.0511", "0.102", report_usd=Decimal(0)), "main"),
        # As dear as main itself: only what mends in passing speaks for it
        (outlook(0.9, "0.10"), "main"),
        # Half a minute of waiting at 60 USD an hour costs 0.50; then main's minute saves 1.00
        (outlook(0.4, value_of_time=Decimal(60)), "main"),
        (outlook(0.6, value_of_time=Decimal(60)), "subagent"),
        (outlook(0.6, value_of_time=Decimal(60), cheap_seconds=45.0), "main"),
        # A wrong pass cannot be taken back: by the lower bound
        (outlook(odds=odds(0.5, low=0.1)), "subagent"),
        (outlook(odds=odds(0.5, low=0.1), irreversible=True), "main"),
        # What no budget covers is not chosen first
        (outlook(0.1, left_usd=Decimal("0.10")), "main"),
        (outlook(0.1, left_usd=Decimal("0.099")), "subagent"),
        # Nothing to compare
        (None, "subagent"),
        (outlook(0.1, cheap=None), "subagent"),
        (outlook(0.1, main=None), "subagent"),
        (outlook(odds=odds(0.01, seen=0.0)), "subagent"),
        (outlook(odds=replace(odds(0.01, seen=0.0), elsewhere=1.0)), "main"),
        # A model that costs nothing
        (outlook(0.01, "0"), "main"),
        (outlook(0.05, "0"), "subagent"),
    ],
)
def test_who_is_asked_first(now: Outlook | None, who: str) -> None:
    assert asked(expected_cost(situation(now))) == who


@pytest.mark.parametrize(
    ("cheap", "mid", "who", "order"),
    [
        # Each worth its price: 0.01 + 0.4 (0.03 + 0.2 * 0.102) = 0.03016
        (0.6, strong(0.8, "0.03"), "subagent", "subagent then strong then main"),
        # A poor subagent is passed over, a poor further one as well, both, for the better
        (0.1, strong(0.8, "0.03"), "strong", "strong then main"),
        (0.6, strong(0.2, "0.03"), "subagent", "subagent then main"),
        (0.1, strong(0.2, "0.03"), "main", "main at once"),
        # Of a further one that was never seen, nothing is known that speaks for leaving it out
        (0.6, strong(0.2, "0.03", seen=0.0), "subagent", "subagent then strong then main"),
        (0.02, strong(0.2, "0.03", seen=0.0), "strong", "strong then main"),
        # No price, no comparison
        (0.1, strong(0.8, None), "subagent", "as by ladder"),
    ],
)
def test_a_further_model_is_asked_where_it_is_worth_it(
    cheap: float, mid: Mid, who: str, order: str
) -> None:
    move = expected_cost(situation(outlook(cheap, mid=(mid,)), fix=THEN))
    assert asked(move) == who
    assert move.facts["choice"].startswith(order)


def test_a_further_model_counts_only_where_the_step_names_it_and_it_answers() -> None:
    now = outlook(0.1, mid=(strong(0.8, "0.03"),))
    assert asked(expected_cost(situation(now, fix=THEN))) == "strong"
    assert asked(expected_cost(situation(now, fix=THEN, mid=False))) == "main"
    assert asked(expected_cost(situation(now))) == "main"
    assert asked(expected_cost(situation(now, fix=Fix("fixer", then="other")))) == "main"


@pytest.mark.parametrize(
    ("mid", "who"),
    [
        (strong(0.8, "0.03"), "strong"),
        (strong(0.2, "0.03"), "main"),
        (strong(0.2, "0.03", seen=0.0), "strong"),
        (strong(0.2, None), "strong"),
    ],
)
def test_after_a_hard_failure_the_further_model_is_compared_with_main(mid: Mid, who: str) -> None:
    move = expected_cost(situation(outlook(mid=(mid,)), SUB_HARD, fix=THEN))
    assert asked(move) == who
    assert move.reason.startswith("because"), "what went wrong is still said"


@pytest.mark.parametrize(
    "attempts",
    [
        (SUB_SOFT,),
        (SUB_HARD,),
        (SUB_SOFT, SUB_SOFT),
        (SUB_HARD, tried(Rung.SUBAGENT, Verdict.SOFT, "strong")),
        (SUB_HARD, tried(Rung.SUBAGENT, Verdict.HARD, "strong")),
        (tried(Rung.SUBAGENT, Verdict.SOFT, "strong"),),
        (MAIN_HARD,),
        (SUB_HARD, MAIN_HARD),
        (MAIN_HARD, MAIN_HARD),
    ],
)
@pytest.mark.parametrize("chance", [0.01, 0.99])
def test_an_attempt_that_goes_wrong_overrides_the_first_decision(
    attempts: tuple[Attempt, ...], chance: float
) -> None:
    fix = THEN if any(one.role == "strong" for one in attempts) else FIX
    now = situation(outlook(chance, mid=(strong(chance, "0.03"),)), *attempts, fix=fix)
    move, plain = expected_cost(now), ladder(now)
    assert replace(move, facts={}) == plain
    assert move.facts["choice"] == "as by ladder: the attempts so far decide"


@pytest.mark.parametrize(
    "others",
    [
        {"main": False},
        {"escalate": None},
        {"escalate": Escalate(0)},
        {"subagent": False},
        {"out_of_scope": True},
        {"fix": None},
        {"unmended": "after a commit"},
        {"fix": None, "escalate": None},
    ],
)
def test_where_there_is_no_choice_it_is_the_ladders_move(others: dict[str, object]) -> None:
    now = situation(outlook(0.01), **others)  # pyright: ignore[reportArgumentType]  by name
    assert replace(expected_cost(now), facts={}) == ladder(now)


def test_the_facts_hold_inputs_sums_and_choice_as_json() -> None:
    now = outlook(
        odds=Odds(7.5, 2.5, 0.7, 0.5, 0.9, 3.0),
        value_of_time=Decimal("3.00"),
        left_usd=Decimal("0.8"),
        usd_from="history",
        cold=True,
    )
    move = expected_cost(situation(now))
    assert json.loads(json.dumps(move.facts)) == {
        "choice": "subagent then main (0.0806 USD, minutes priced); main at once 0.1500",
        "subagent_then_main_usd": "0.080600",
        "subagent_then_main_paid_usd": "0.040600",
        "subagent_then_main_seconds": 48.0,
        "main_at_once_usd": "0.150000",
        "main_at_once_paid_usd": "0.100000",
        "main_at_once_seconds": 60.0,
        "subagent_chance_needed": 0.2434,
        "subagent_usd": "0.010000",
        "subagent_seconds": 30.0,
        "subagent_mended": 7.5,
        "subagent_failed": 2.5,
        "subagent_seen_elsewhere": 3.0,
        "subagent_chance": 0.7,
        "subagent_chance_low": 0.5,
        "subagent_chance_high": 0.9,
        "subagent_usd_from": "history",
        "chance_taken": "the mean",
        "main_usd": "0.100000",
        "main_seconds": 60.0,
        "main_context_tokens": 80_000,
        "main_cache": "gone",
        "report_usd": "0.002000",
        "left_usd": "0.800000",
        "value_of_time_usd_per_hour": "3.00",
    }


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (outlook(odds=UNSEEN, cheap="0.2"), "nothing was seen of subagent yet"),
        (outlook(0.1, left_usd=Decimal(0)), "the budget left does not cover"),
    ],
)
def test_why_the_least_is_not_chosen_is_said(now: Outlook, said: str) -> None:
    choice = expected_cost(situation(now)).facts["choice"]
    assert choice.startswith("subagent then main (")
    assert f"), though main at once (0.1000) is expected to cost less: {said}" in choice


@pytest.mark.parametrize(
    ("now", "who"),
    [
        (situation(None), "main"),
        (situation(None, MAIN_HARD), "main"),
        (situation(None, MAIN_HARD, MAIN_HARD), "nobody"),
        (situation(None, main=False), "subagent"),
        (situation(None, escalate=None), "subagent"),
        (situation(None, escalate=Escalate(0)), "subagent"),
        (situation(None, unmended="after a commit"), "nobody"),
    ],
)
def test_main_first(now: Situation, who: str) -> None:
    assert asked(main_first(now)) == who


@pytest.mark.parametrize(
    ("now", "who"),
    [
        (situation(None), "subagent"),
        (situation(None, SUB_SOFT), "cheap"),
        (situation(None, SUB_HARD), "nobody"),
        (situation(None, SUB_HARD, fix=THEN), "strong"),
        (situation(None, out_of_scope=True), "nobody"),
        (situation(None, fix=None), "nobody"),
    ],
)
def test_cheap_only(now: Situation, who: str) -> None:
    assert asked(cheap_only(now)) == who


def test_the_policies_go_by_the_names_of_the_command_line() -> None:
    assert list(POLICIES) == ["expected-cost", "ladder", "main", "cheap"]


CHANCES = st.floats(0.0, 1.0)
MONEY = st.decimals(0, 2, places=4)
SECONDS = st.floats(0.0, 900.0)


@st.composite
def outlooks(draw: st.DrawFn, *, seen: bool | None = None) -> Outlook:
    """Any outlook with prices."""

    def any_odds() -> Odds:
        chance = draw(CHANCES)
        known = draw(st.booleans()) if seen is None else seen
        return odds(chance, low=chance * draw(CHANCES), seen=10.0 if known else 0.0)

    mid = [
        Mid(role="strong", odds=any_odds(), usd=draw(MONEY), seconds=draw(SECONDS))
        for _ in range(draw(st.integers(0, 1)))
    ]
    return outlook(
        odds=any_odds(),
        cheap_usd=draw(MONEY),
        cheap_seconds=draw(SECONDS),
        main_usd=draw(MONEY),
        main_seconds=draw(SECONDS),
        report_usd=draw(st.decimals(0, 1, places=4)),
        left_usd=draw(st.none() | MONEY),
        value_of_time=draw(st.decimals(0, 100, places=2)),
        irreversible=draw(st.booleans()),
        mid=tuple(mid),
    )


ATTEMPTS = st.lists(
    st.sampled_from([SUB_SOFT, SUB_HARD, tried(Rung.SUBAGENT, Verdict.SOFT, "strong"), MAIN_HARD]),
    max_size=4,
)


@given(outlooks(), CHANCES)
def test_a_better_chance_never_moves_the_choice_to_main(now: Outlook, more: float) -> None:
    def better(one: Odds) -> Odds:
        return replace(one, chance=max(one.chance, more), low=max(one.low, min(more, one.chance)))

    before = asked(expected_cost(situation(now, fix=THEN)))
    after = replace(now, odds=better(now.odds))
    after_mid = replace(now, mid=tuple(replace(m, odds=better(m.odds)) for m in now.mid))
    if before != "main":
        assert asked(expected_cost(situation(after, fix=THEN))) != "main"
        assert asked(expected_cost(situation(after_mid, fix=THEN))) != "main"


@given(outlooks(), MONEY, SECONDS)
def test_a_cheaper_or_quicker_subagent_never_moves_the_choice_to_main(
    now: Outlook, usd: Decimal, seconds: float
) -> None:
    assert now.cheap_usd is not None
    after = replace(
        now, cheap_usd=min(now.cheap_usd, usd), cheap_seconds=min(now.cheap_seconds, seconds)
    )
    if asked(expected_cost(situation(now, fix=THEN))) != "main":
        assert asked(expected_cost(situation(after, fix=THEN))) != "main"


@given(outlooks(), MONEY)
def test_a_dearer_main_is_never_asked_where_a_cheaper_one_was_not(
    now: Outlook, more: Decimal
) -> None:
    assert now.main_usd is not None
    after = replace(now, main_usd=now.main_usd + more)
    if asked(expected_cost(situation(now, fix=THEN))) != "main":
        assert asked(expected_cost(situation(after, fix=THEN))) != "main"


@given(outlooks(), ATTEMPTS)
def test_equal_inputs_give_equal_moves(now: Outlook, attempts: list[Attempt]) -> None:
    one, other = (situation(replace(now), *attempts, fix=THEN) for _ in range(2))
    assert expected_cost(one) == expected_cost(other)


@given(outlooks(), st.sampled_from([Decimal("0.001"), Decimal("0.3"), Decimal(7), Decimal(1000)]))
def test_the_currency_does_not_matter_where_time_is_free(now: Outlook, times: Decimal) -> None:
    now = replace(now, value_of_time=Decimal(0))
    assert now.cheap_usd is not None
    assert now.main_usd is not None
    other = replace(
        now,
        cheap_usd=now.cheap_usd * times,
        main_usd=now.main_usd * times,
        report_usd=now.report_usd * times,
        left_usd=None if now.left_usd is None else now.left_usd * times,
        mid=tuple(replace(m, usd=m.usd * times) for m in now.mid if m.usd is not None),
    )
    moves = [asked(expected_cost(situation(one, fix=THEN))) for one in (now, other)]
    assert moves[0] == moves[1]


@given(outlooks(seen=False), ATTEMPTS, st.booleans(), st.integers(0, 2))
def test_without_history_it_is_the_ladder(
    now: Outlook, attempts: list[Attempt], main: bool, packets: int
) -> None:
    at = situation(now, *attempts, fix=THEN, main=main, escalate=Escalate(packets))
    assert replace(expected_cost(at), facts={}) == ladder(at)
    blind = replace(at, outlook=None)
    assert replace(expected_cost(blind), facts={}) == ladder(blind)


def test_a_policy_that_was_set_is_named_by_each_first_decision() -> None:
    first = situation(outlook(0.9))
    for name in ("ladder", "main", "cheap"):
        move = policy_of_run(name)(first)
        assert move.facts == {"choice": f"as by {name}: that policy is set"}
        assert replace(move, facts={}) == POLICIES[name](first)
        later = replace(first, attempts=(tried(Rung.SUBAGENT, Verdict.HARD),))
        assert policy_of_run(name)(later) == POLICIES[name](later)
    assert policy_of_run("expected-cost") is expected_cost


@given(outlooks(), ATTEMPTS, st.booleans(), st.integers(0, 2), st.sampled_from(list(POLICIES)))
def test_no_policy_asks_who_cannot_be_asked(
    now: Outlook, attempts: list[Attempt], main: bool, packets: int, name: str
) -> None:
    at = situation(now, *attempts, fix=THEN, main=main, escalate=Escalate(packets))
    move = POLICIES[name](at)
    json.dumps(move.facts)
    if isinstance(move, AskMain):
        assert main
        assert sum(a.rung is Rung.MAIN for a in attempts) < packets
        assert name != "cheap"
    if isinstance(move, AskSubagent):
        assert not any(a.rung is Rung.MAIN for a in attempts)
        assert sum(a.role == move.role for a in attempts) < FIX.attempts


@given(outlooks(seen=True))
def test_no_sum_is_less_than_that_of_the_choice(now: Outlook) -> None:
    now = replace(now, left_usd=None)
    move = expected_cost(situation(now, fix=THEN))
    sums = {name: Decimal(usd) for name, usd in move.facts.items() if _is_sum(name)}
    chosen = move.facts["choice"].partition(" (")[0].replace(" ", "_")
    assert sums[f"{chosen}_usd"] == min(sums.values())


def _is_sum(name: str) -> bool:
    return name.endswith(("then_main_usd", "at_once_usd"))
