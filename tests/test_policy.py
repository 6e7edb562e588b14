"""What an attempt comes to and who tries next, as tables over plain records."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.outcome import (
    Attempt,
    Cannot,
    Done,
    Exhausted,
    Failure,
    Fingerprint,
    Misconfigured,
    OverBudget,
    Phase,
    Refused,
    Rung,
    Unavailable,
    Verdict,
)
from runner.plan import Escalate, Fix
from runner.policy import AskMain, AskSubagent, Evidence, GiveUp, Situation, judge, ladder

if TYPE_CHECKING:
    from runner.outcome import Ending
    from runner.policy import Move


def failing(*ids: str, phase: Phase = Phase.RUN, tool: str = "pytest") -> Failure:
    fingerprint = Fingerprint(tool, phase, frozenset(ids))
    return Failure(fingerprint, 1, timed_out=False, tail="", files=())


BEFORE = failing("a", "b")
DONE = Done("mended")


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (failing("a"), Verdict.SOFT),
        (failing("a", "b"), Verdict.HARD),
        (failing("a", "b", "c"), Verdict.HARD),
        (failing("c"), Verdict.SOFT),
        (failing("x", phase=Phase.COLLECT), Verdict.HARD),
        (failing("b", "c"), Verdict.SOFT),
    ],
)
def test_progress_decides_between_soft_and_hard(after: Failure, verdict: Verdict) -> None:
    evidence = Evidence(DONE, changed=True, before=BEFORE, after=after, passed=False)
    assert judge(evidence).verdict is verdict


def test_a_merely_different_failure_is_soft_only_once() -> None:
    evidence = Evidence(
        DONE, changed=True, before=BEFORE, after=failing("c"), passed=False, soft_before=True
    )
    assert judge(evidence).verdict is Verdict.HARD


def test_a_later_phase_is_progress() -> None:
    before = failing("syntax", phase=Phase.PARSE)
    evidence = Evidence(DONE, changed=True, before=before, after=BEFORE, passed=False)
    assert judge(evidence).verdict is Verdict.SOFT


@pytest.mark.parametrize(
    ("ending", "verdict"),
    [
        (Done("it works now, trust me"), Verdict.HARD),
        (Cannot("too hard"), Verdict.HARD),
        (Exhausted("turns"), Verdict.HARD),
        (Exhausted("seconds"), Verdict.HARD),
        (Exhausted("usd"), Verdict.HARD),
        (Refused("too_long"), Verdict.HARD),
        (Refused("unparseable"), Verdict.HARD),
        (Unavailable("503"), Verdict.INFRA),
        (Misconfigured("authentication", "401"), Verdict.INFRA),
        (Misconfigured("other_model_served", "x"), Verdict.INFRA),
        (OverBudget(Decimal(1), Decimal(0), "x"), Verdict.CANCELLED),
    ],
)
def test_each_ending_has_its_verdict_when_nothing_changed(ending: Ending, verdict: Verdict) -> None:
    evidence = Evidence(ending, changed=False, before=BEFORE, after=BEFORE, passed=False)
    assert judge(evidence).verdict is verdict


@pytest.mark.parametrize("ending", [DONE, Cannot("no"), Exhausted("turns"), Refused("rejected")])
def test_a_passing_command_passes_whatever_the_agent_says(ending: Ending) -> None:
    evidence = Evidence(ending, changed=True, before=BEFORE, after=None, passed=True)
    assert judge(evidence).verdict is Verdict.PASSED


def test_a_pass_without_any_change_is_flaky() -> None:
    evidence = Evidence(DONE, changed=False, before=BEFORE, after=None, passed=True)
    assert judge(evidence).verdict is Verdict.FLAKY


@pytest.mark.parametrize(
    ("violations", "tampering", "reason"),
    [
        (("tests/test_a.py: out of scope",), (), "left its scope"),
        ((), ("src/a.py:3: noqa added",), "tampered with its judge"),
    ],
)
def test_foul_play_is_hard_even_when_the_command_passes(
    violations: tuple[str, ...], tampering: tuple[str, ...], reason: str
) -> None:
    evidence = Evidence(
        DONE,
        changed=True,
        before=BEFORE,
        after=None,
        passed=True,
        violations=violations,
        tampering=tampering,
    )
    judged = judge(evidence)
    assert judged.verdict is Verdict.HARD
    assert judged.reason.startswith(reason)


def tried(rung: Rung, verdict: Verdict) -> Attempt:
    return Attempt(1, rung, "m", verdict, "because")


def situation(
    *attempts: Attempt,
    fix: Fix | None = Fix("fixer", attempts=2),  # noqa: B008  frozen
    escalate: Escalate | None = Escalate(2),  # noqa: B008  frozen
    subagent: bool = True,
    main: bool = True,
    out_of_scope: bool = False,
    unmended: str = "",
) -> Situation:
    return Situation(
        "test", BEFORE, fix, escalate, subagent, main, attempts, out_of_scope, unmended
    )


SUB_SOFT, SUB_HARD = tried(Rung.SUBAGENT, Verdict.SOFT), tried(Rung.SUBAGENT, Verdict.HARD)
MAIN_SOFT, MAIN_HARD = tried(Rung.MAIN, Verdict.SOFT), tried(Rung.MAIN, Verdict.HARD)


@pytest.mark.parametrize(
    ("now", "move"),
    [
        (situation(), AskSubagent),
        (situation(SUB_SOFT), AskSubagent),
        (situation(SUB_SOFT, SUB_SOFT), AskMain),
        (situation(SUB_HARD), AskMain),
        (situation(SUB_HARD, MAIN_HARD), AskMain),
        (situation(SUB_HARD, MAIN_SOFT), AskMain),
        (situation(SUB_HARD, MAIN_HARD, MAIN_HARD), GiveUp),
        (situation(fix=None, escalate=None), GiveUp),
        (situation(SUB_HARD, escalate=None), GiveUp),
        (situation(SUB_HARD, escalate=Escalate(0)), GiveUp),
        (situation(subagent=False), AskMain),
        (situation(subagent=False, main=False), GiveUp),
        (situation(SUB_HARD, main=False), GiveUp),
        (situation(out_of_scope=True), AskMain),
        (situation(unmended="after a commit"), GiveUp),
        (situation(fix=None), AskMain),
    ],
)
def test_the_ladder_leaves_a_rung_only_on_a_hard_failure(now: Situation, move: type) -> None:
    assert isinstance(ladder(now), move)


@given(
    st.lists(st.sampled_from([SUB_SOFT, SUB_HARD, MAIN_SOFT, MAIN_HARD]), max_size=12),
    st.integers(1, 4),
    st.integers(0, 4),
    st.booleans(),
    st.booleans(),
)
def test_the_ladder_never_asks_more_often_than_it_may(
    attempts: list[Attempt], most: int, packets: int, subagent: bool, main: bool
) -> None:
    now = situation(
        *attempts,
        fix=Fix("fixer", attempts=most),
        escalate=Escalate(packets),
        subagent=subagent,
        main=main,
    )
    match ladder(now):
        case AskSubagent():
            assert subagent
            assert sum(a.rung is Rung.SUBAGENT for a in attempts) < most
            assert not any(a.rung is Rung.MAIN for a in attempts)
        case AskMain():
            assert main
            assert sum(a.rung is Rung.MAIN for a in attempts) < packets
        case GiveUp(reason):
            assert reason


def test_a_middle_model_comes_after_the_first_and_stands_in_for_it() -> None:
    fix = Fix("fixer", attempts=2, then="mid")

    def by(role: str, verdict: Verdict) -> Attempt:
        return replace(tried(Rung.SUBAGENT, verdict), role=role)

    def move(*attempts: Attempt, subagent: bool = True, mid: bool = True) -> Move:
        return ladder(replace(situation(*attempts, fix=fix, subagent=subagent), mid=mid))

    hard, soft = Verdict.HARD, Verdict.SOFT
    assert move() == AskSubagent("the command failed")
    assert move(subagent=False) == AskSubagent("the command failed", role="mid")
    assert move(by("cheap", hard)) == AskSubagent("because", role="mid")
    assert move(by("cheap", soft)) == AskSubagent("because", role="cheap")
    assert move(by("cheap", soft), by("cheap", soft)) == AskSubagent(
        "2 attempts used up", role="mid"
    )
    assert isinstance(move(by("cheap", hard), by("mid", hard)), AskMain)
    assert move(by("cheap", hard), by("mid", soft)) == AskSubagent("because", role="mid")
    assert isinstance(move(by("cheap", hard), mid=False), AskMain)
    assert isinstance(move(subagent=False, mid=False), AskMain)
