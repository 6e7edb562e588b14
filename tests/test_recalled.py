from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from runner.events import (
    AttemptStarted,
    ConversationOpened,
    Event,
    ModelAsked,
    ModelRefused,
    ModelResponded,
    ModelRetried,
    RunResumed,
    RunStarted,
    StepPlan,
    StepStarted,
    ToolCalled,
    TurnEnded,
)
from runner.outcome import Rung, Usage
from runner.recalled import (
    Earlier,
    attempted,
    last_number,
    lost_rows,
    main_said,
    main_talk,
    money_of,
    open_requests,
    played,
    talk_of,
)
from runner.recorded import recorded

if TYPE_CHECKING:
    from runner.recorded import Recorded

START = RunStarted(
    "r", "w", "", "/r", "/s", {}, None, None, budget_given=False, scripted=False, sandbox="none",
    git_before="", branch="", steps=(StepPlan("a", "run", "a", ()),), started_at=0.0,
)  # fmt: skip


def asked(number: int, **changed: Any) -> ModelAsked:
    fields: dict[str, Any] = {
        "step": "a", "attempt": 2, "role": "cheap", "model": "p:m", "conversation": "a.2.x",
        "number": number, "worst_usd": Decimal("0.5"), "worst_tokens": 900,
        "digest": f"d{number}", "messages": f"[q{number}]",
    }  # fmt: skip
    return ModelAsked(**{**fields, **changed})


def row(number: int, **changed: Any) -> ModelResponded:
    fields: dict[str, Any] = {
        "step": "a", "attempt": 2, "role": "cheap", "asked": "p:m", "served": "m",
        "usage": Usage(1, 100, output_tokens=20), "cost_usd": Decimal("0.1"), "seconds": 1.0,
        "conversation": "a.2.x", "messages": f"[m{number}]", "number": number,
    }  # fmt: skip
    return ModelResponded(**{**fields, **changed})


MAIN: dict[str, Any] = {"conversation": "main-1", "role": "main"}
LOST: dict[str, Any] = {"messages": "", "usage": Usage(1), "cost_usd": Decimal("0.5")}


def under_way(*events: Event, at: float = 10.0) -> Recorded:
    """A run whose step `a` is in its second attempt, at which a subagent works."""
    before: list[Event] = [START, StepStarted("a"), row(1, attempt=1), ToolCalled("a", "shell", "")]
    before.append(AttemptStarted("a", 2, Rung.SUBAGENT, "p:m"))
    times = [0.0] * len(before) + [at + n for n in range(len(events))]
    found = recorded(zip(times, [*before, *events], strict=True))
    assert found is not None
    return found


# requests and money


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ([asked(1)], [1]),
        ([asked(1), row(1)], []),
        ([asked(1), ModelRefused("a", 2, 1)], []),
        ([asked(1), row(1), asked(2), asked(3), row(3)], [2]),
        ([asked(1), RunResumed(2, 0.0), row(1, **LOST, unknown="killed"), asked(2)], [2]),
    ],
)
def test_a_request_is_open_until_it_is_answered_refused_or_booked(
    said: list[Event], numbers: list[int]
) -> None:
    assert [one.number for one in open_requests(said)] == numbers
    rows = lost_rows(said)
    assert [(one.number, one.unknown, one.cost_usd) for one in rows] == [
        (number, "killed", Decimal("0.5")) for number in numbers
    ]
    assert lost_rows([*said, *rows]) == [], "booked once, whatever the number of lives"


def test_what_nobody_knows_counts_at_its_worst_case() -> None:
    said = [
        asked(1), row(1),
        asked(2), row(2, **LOST, unknown="cancelled"),
        asked(3, **MAIN), row(3, **MAIN),
        asked(4, step="b"),
    ]  # fmt: skip
    whole, steps = money_of(said)
    assert (whole.usd, whole.tokens) == (Decimal("1.2"), 120 + 900 + 120 + 900)
    assert steps["a"].usd == Decimal("0.6"), "a step's money is its subagents'"
    assert steps["b"].usd == Decimal("0.5")
    assert not whole.disputed
    assert last_number(said) == 4


@pytest.mark.parametrize(
    "usage", [Usage(1, 900, output_tokens=1), Usage(1, 1)], ids=["tokens", "usd"]
)
def test_a_bill_above_the_bound_closes_the_purse_in_later_lives_too(usage: Usage) -> None:
    cost = Decimal("0.6") if usage.input_tokens == 1 else Decimal("0.5")
    assert money_of([asked(1), row(1, usage=usage, cost_usd=cost)])[0].disputed


# conversations


def test_a_request_without_an_answer_is_the_tail() -> None:
    talk = talk_of([asked(1), row(1), asked(2)], "a.2.x")
    assert (talk.messages, talk.tail, talk.unanswered) == (("[m1]",), "[q2]", True)
    assert talk.answered is not None
    assert talk.answered.digest == "d1"


def test_lost_and_cut_off_answers_are_no_part_of_what_was_said() -> None:
    talk = talk_of([asked(1), row(1, **LOST, unknown="failed"), asked(2), row(2)], "a.2.x")
    assert (talk.messages, talk.tail, talk.unanswered) == (("[m2]",), "", False)


def test_a_keep_alive_renews_the_cache_and_says_nothing() -> None:
    ping: dict[str, Any] = {**MAIN, "role": "keepalive", "step": "", "attempt": 0}
    said = [
        asked(1, **MAIN), row(1, **MAIN, at=5.0),
        asked(2, **ping, messages=""), row(2, **ping, messages="", at=9.0),
    ]  # fmt: skip
    talk = main_talk(said)
    assert talk is not None
    assert (talk.messages, talk.turn, talk.unanswered) == (("[m1]",), ("a", 2), False)
    assert talk.answered is not None
    assert (talk.answered.at, talk.answered.digest) == (9.0, "d1")


def test_the_newest_main_conversation_goes_on_with_all_that_was_said() -> None:
    opened = ConversationOpened("main-2", "main", "p:m", "Do.", "[]", "1h", "key")
    said = [
        asked(1, **MAIN), row(1, **MAIN), TurnEnded("a", 2, "main-1", "[t]", "a: mended"),
        opened,
        asked(2, role="main", conversation="main-2"),
        row(2, role="main", conversation="main-2"),
        TurnEnded("b", 1, "main-2", "[u]", "b: first"),
        TurnEnded("b", 1, "main-2", "[v]", "b: in a later life"),
    ]  # fmt: skip
    talk = main_talk(said)
    assert talk is not None
    assert (talk.conversation, talk.opened, talk.tail) == ("main-2", opened, "[v]")
    assert talk.messages == ("[m2]",)
    assert main_said(said) == ["a: mended", "b: in a later life"]
    assert main_talk([asked(1), row(1)]) is None


# attempts


def test_an_attempt_under_way_keeps_its_turns_time_and_rows() -> None:
    call = ToolCalled("a", "edit_file", "", attempt=2, call="c1", result="done")
    found = under_way(asked(2), row(2), call, asked(3), at=7.0)
    before = attempted(found, "a", 2)
    assert before is not None
    assert (before.turns, before.seconds, before.conversation) == (1, 10.0, "a.2.x")
    assert [(one.number, one.unknown) for one in before.rows] == [(2, ""), (3, "killed")]
    assert before.said == (row(2), call), "nothing of the first attempt"
    assert attempted(found, "a", 1) is None
    assert attempted(found, "b", 2) is None


def test_time_between_two_lives_counts_for_nobody() -> None:
    again = AttemptStarted("a", 2, Rung.SUBAGENT, "p:m")
    events = [(0.0, START), (0.0, StepStarted("a")), (1.0, again), (4.0, asked(1))]
    events += [(900.0, RunResumed(2, 900.0)), (901.0, again), (903.0, asked(2))]
    found = recorded(events)
    assert found is not None
    before = attempted(found, "a", 2)
    assert before is not None
    assert before.seconds == 3.0 + 2.0
    assert [one.number for one in before.rows] == [1, 2]


def test_a_provider_that_asked_to_wait_is_remembered() -> None:
    found = under_way(ModelRetried("a", 2, "cheap", "p:m", "HTTP 429", 30.0), at=100.0)
    assert found.waits == {"p:m": 130.0}


def test_a_settled_call_is_answered_once_and_only_as_itself() -> None:
    one = ToolCalled("a", "edit_file", "", call="c", result="first")
    two = ToolCalled("a", "edit_file", "", call="c", result="second")
    earlier = Earlier([row(1), ToolCalled("a", "grep", "", call="b"), row(2), one, two])
    assert earlier.settled("b", "grep") is None, "of a response before"
    assert earlier.settled("c", "shell") is None
    assert [earlier.settled("c", "edit_file") for _ in range(3)] == [one, two, None]
    assert [len(calls) for calls in earlier.rounds] == [0, 1]


# scripts


def test_a_script_moves_on_with_what_it_answered_failures_too() -> None:
    said = [
        asked(1, scripted=True), row(1),
        asked(2, scripted=True), row(2, **LOST, unknown="failed"),
        asked(3, scripted=True), row(3, **LOST, unknown="cancelled"),
        asked(4, scripted=True),
        RunResumed(2, 0.0), row(4, **LOST, unknown="killed"),
        asked(5, scripted=True), row(5),
        asked(6), row(6),
        asked(7, scripted=True),
    ]  # fmt: skip
    assert [one.number for one in played(said)] == [1, 2, 5]
