"""What past attempts say of the next: counts, their weights and intervals, as pure functions."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from math import comb

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runner.events import AttemptFinished, Decided, Event
from runner.history import FADES, SHIPPED, Odds, Tried, odds_of, quantile, timetable, tried_of
from runner.outcome import Attempt, Rung, Verdict

HAIKU, LUNA = "anthropic:haiku", "openai:luna"
ONE_MILLIONTH = 1e-6


def tried(
    mended: bool,
    run: int = 0,
    *,
    repo: str = "here",
    model: str = HAIKU,
    kind: str = "test",
    rung: Rung = Rung.SUBAGENT,
    usd: str | None = "0.01",
    seconds: float = 30.0,
) -> Tried:
    cost = None if usd is None else Decimal(usd)
    return Tried(kind, model, rung, mended, cost, seconds, float(run), repo, f"{repo}-{run}")


def odds(*past: Tried, kind: str = "test", repo: str = "here") -> Odds:
    return odds_of(past, kind=kind, model=HAIKU, repo=repo)


# -- quantiles of Beta --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("good", "bad", "share", "value"),
    [
        # Beta(n, 1): share^(1/n); Beta(1, n): 1 - (1 - share)^(1/n)
        (1.0, 1.0, 0.05, 0.05),
        (10.0, 1.0, 0.05, 0.05**0.1),
        (1.0, 10.0, 0.95, 1 - 0.05**0.1),
        (1.0, 0.5, 0.05, 1 - 0.95**2),
        # No failure in 22: its rate is below 12.7 %
        (22.0, 1.0, 0.05, 1 - 0.1273),
        # Tables of the F distribution: F(0.05; 10, 10) = 1 / 2.978, x = 1 / (1 + 2.978)
        (5.0, 5.0, 0.05, 0.2514),
        (5.0, 5.0, 0.95, 0.7486),
        # F(0.95; 4, 6) = 4.534: x = 4 * 4.534 / (4 * 4.534 + 6)
        (2.0, 3.0, 0.95, 0.7514),
    ],
)
def test_quantiles_are_those_of_the_tables(
    good: float, bad: float, share: float, value: float
) -> None:
    assert quantile(good, bad, share) == pytest.approx(value, abs=1e-4)


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 0.99))
def test_a_quantile_is_where_the_binomial_tail_says(good: int, bad: int, share: float) -> None:
    x, n = quantile(good, bad, share), good + bad - 1
    # P(Beta(a, b) <= x) = P(Binomial(a + b - 1, x) >= a)
    tail = sum(comb(n, k) * x**k * (1 - x) ** (n - k) for k in range(good, n + 1))
    assert tail == pytest.approx(share, abs=1e-7)


PARAMETERS = st.floats(0.2, 4_000.0)


@given(PARAMETERS, PARAMETERS, st.floats(0.01, 0.99))
def test_to_swap_good_and_bad_mirrors_it(good: float, bad: float, share: float) -> None:
    mirrored = 1.0 - quantile(bad, good, 1.0 - share)
    assert quantile(good, bad, share) == pytest.approx(mirrored, abs=1e-8)


@given(PARAMETERS, PARAMETERS, st.floats(0.02, 0.98))
def test_it_rises_with_the_good_and_the_share_and_falls_with_the_bad(
    good: float, bad: float, share: float
) -> None:
    one = quantile(good, bad, share)
    assert 0.0 <= one <= 1.0
    assert quantile(good + 1.0, bad, share) >= one - ONE_MILLIONTH
    assert quantile(good, bad + 1.0, share) <= one + ONE_MILLIONTH
    assert quantile(good, bad, share + 0.01) >= one - ONE_MILLIONTH


# -- odds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["format", "lint", "type", "test", "other", "never heard of"])
def test_without_history_it_is_the_shipped_guess(kind: str) -> None:
    found = odds(kind=kind)
    assert not found.known
    assert found.chance == pytest.approx(SHIPPED.get(kind, 0.6))
    assert found.low < found.chance < found.high


def test_counts_are_shrunk_as_the_policy_says() -> None:
    # In one run, so that none has faded: here 3 of 4, elsewhere 0 of 6.
    past = [tried(True)] * 3 + [tried(False)] + [tried(False, repo="there")] * 6
    found = odds(*past)
    of_kind = (3 + 4 * 0.6) / (10 + 4)
    assert found.chance == pytest.approx((3 + 8 * of_kind) / (4 + 8))
    assert (found.mended, found.failed, found.elsewhere) == (3, 1, 6)


@pytest.mark.parametrize(
    "other",
    [
        tried(False, model=LUNA),
        tried(False, kind="lint"),
        tried(False, rung=Rung.MAIN),
    ],
)
def test_another_model_kind_or_rung_says_nothing(other: Tried) -> None:
    assert odds(other) == odds()


def test_an_attempt_fades_with_each_later_run_of_its_repository() -> None:
    past = [tried(True, 1), tried(False, 2), tried(False, 2), tried(True, 3)]
    found = odds(*past)
    assert found.mended == pytest.approx(1 + FADES**2)
    assert found.failed == pytest.approx(2 * FADES)
    elsewhere = [tried(True, run, repo="there") for run in range(10)]
    again = odds(*past, *elsewhere)
    assert (again.mended, again.failed) == (found.mended, found.failed), "runs of its own only"


def test_who_is_not_asked_any_more_is_forgotten_and_so_asked_again() -> None:
    bad = [tried(False, run) for run in range(20)]
    by_others = [tried(True, 20 + run, rung=Rung.MAIN) for run in range(200)]
    assert odds(*bad).chance < 0.25
    assert odds(*bad, *by_others).chance > 0.5
    assert odds(*bad, *by_others).known


TRIED = st.builds(
    tried,
    st.booleans(),
    st.integers(0, 12),
    repo=st.sampled_from(["here", "there", "elsewhere"]),
    model=st.sampled_from([HAIKU, LUNA]),
    kind=st.sampled_from(["test", "lint"]),
    rung=st.sampled_from([Rung.SUBAGENT, Rung.MAIN]),
)
PASTS = st.lists(TRIED, max_size=20)


@given(PASTS)
def test_odds_are_chances_and_lie_in_their_interval(past: list[Tried]) -> None:
    found = odds(*past)
    assert 0.0 < found.low < found.high < 1.0
    # A mean may lie outside the middle nine tenths only where nearly all is on one side.
    assert 0.0 < found.chance < 1.0
    assert found.low < found.chance < found.high
    alike = [one for one in past if (one.model, one.kind, one.rung) == (HAIKU, "test", "subagent")]
    assert found.known == bool(alike)
    assert found.mended + found.failed + found.elsewhere <= len(alike) + ONE_MILLIONTH


@given(PASTS, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(past: list[Tried], random: object) -> None:
    assert hasattr(random, "shuffle")
    other = list(past)
    random.shuffle(other)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    one, two = odds(*past), odds(*other)
    assert one.chance == pytest.approx(two.chance)
    assert (one.low, one.high) == (pytest.approx(two.low), pytest.approx(two.high))


@given(PASTS, TRIED)
def test_a_mend_speaks_for_a_model_more_than_a_failure(past: list[Tried], more: Tried) -> None:
    good, bad = odds(*past, replace(more, mended=True)), odds(*past, replace(more, mended=False))
    assert good.chance >= bad.chance
    assert good.low >= bad.low - ONE_MILLIONTH
    assert good.high >= bad.high - ONE_MILLIONTH


@given(st.floats(0.0, 1.0), st.integers(1, 200))
def test_evidence_draws_the_odds_from_the_guess_to_the_rate(rate: float, runs: int) -> None:
    mends = round(rate * runs)
    past = [tried(index < mends) for index in range(runs)]
    found = odds(*past).chance
    assume(mends / runs != SHIPPED["test"])
    low, high = sorted([mends / runs, SHIPPED["test"]])
    assert low - 1e-9 <= found <= high + 1e-9
    assert abs(found - mends / runs) <= 12 / (runs + 8)


# -- from events --------------------------------------------------------------------------------


def attempt(
    verdict: Verdict,
    *,
    model: str | None = HAIKU,
    rung: Rung = Rung.SUBAGENT,
    usd: str | None = "0.01",
    seconds: float = 10.0,
) -> Attempt:
    cost = None if usd is None else Decimal(usd)
    return Attempt(1, rung, model, verdict, "", cost_usd=cost, seconds=seconds)


def events_of(
    *attempts: Attempt, step: str = "test", kind: str = "test"
) -> list[tuple[float, Event]]:
    decided = Decided(step, "AskSubagent", "", {"kind": kind})
    ended = [(float(at), AttemptFinished(step, one)) for at, one in enumerate(attempts, 1)]
    return [(0.0, decided), *ended]


def fold(events: list[tuple[float, Event]]) -> list[Tried]:
    return tried_of(events, repo="here", run="r1")


SOFT, HARD, PASSED = (attempt(one) for one in (Verdict.SOFT, Verdict.HARD, Verdict.PASSED))


@pytest.mark.parametrize(
    ("verdicts", "mended"),
    [
        ([Verdict.PASSED], True),
        ([Verdict.HARD], False),
        ([Verdict.SOFT, Verdict.PASSED], True),
        ([Verdict.SOFT, Verdict.SOFT], False),
        ([Verdict.SOFT, Verdict.HARD], False),
        ([Verdict.INFRA, Verdict.PASSED], True),
        # None of these says anything of the model.
        ([Verdict.INFRA], None),
        ([Verdict.DENIED], None),
        ([Verdict.CANCELLED], None),
        ([Verdict.FLAKY], None),
        ([Verdict.SOFT, Verdict.INFRA], None),
        ([Verdict.SOFT, Verdict.CANCELLED], None),
        ([Verdict.SOFT, Verdict.FLAKY], None),
        ([], None),
    ],
)
def test_only_what_a_command_verified_counts(verdicts: list[Verdict], mended: bool | None) -> None:
    found = fold(events_of(*(attempt(one) for one in verdicts)))
    assert [one.mended for one in found] == ([] if mended is None else [mended])


def test_attempts_of_a_rung_are_one_row_with_their_sum() -> None:
    command = attempt(Verdict.HARD, model=None, rung=Rung.COMMAND)
    (row,) = fold(events_of(command, SOFT, replace(PASSED, cost_usd=Decimal("0.03"))))
    assert row == Tried(
        "test", HAIKU, Rung.SUBAGENT, True, Decimal("0.04"), 20.0, 3.0, "here", "r1", "test"
    )


def test_rungs_steps_and_models_are_apart() -> None:
    by_luna = attempt(Verdict.HARD, model=LUNA)
    by_main = attempt(Verdict.PASSED, model="opus", rung=Rung.MAIN, usd="0.2")
    found = fold([*events_of(HARD, by_luna, by_main), *events_of(PASSED, step="lint", kind="lint")])
    assert [(row.step, row.kind, row.model, row.rung.value, row.mended) for row in found] == [
        ("test", "test", HAIKU, "subagent", False),
        ("test", "test", LUNA, "subagent", False),
        ("test", "test", "opus", "main", True),
        ("lint", "lint", HAIKU, "subagent", True),
    ]
    assert [row.at for row in found] == [1.0, 2.0, 3.0, 1.0], "each has its own end"


def test_an_unknown_price_makes_the_sum_unknown() -> None:
    (row,) = fold(events_of(SOFT, attempt(Verdict.PASSED, usd=None)))
    assert row.usd is None


def test_without_a_decision_that_tells_its_kind_nothing_is_counted() -> None:
    bare = Decided("test", "AskSubagent", "", {})
    assert fold([(0.0, bare), (1.0, AttemptFinished("test", PASSED))]) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(list(Verdict)),
            st.sampled_from([Rung.COMMAND, Rung.SUBAGENT, Rung.MAIN]),
            st.sampled_from(["test", "lint"]),
        ),
        max_size=12,
    )
)
def test_whatever_happens_a_row_ends_with_a_verdict_that_counts(
    happened: list[tuple[Verdict, Rung, str]],
) -> None:
    events: list[tuple[float, Event]] = [
        (0.0, Decided(step, "x", "", {"kind": step})) for step in ("test", "lint")
    ]
    last: dict[tuple[str, Rung], Verdict] = {}
    for at, (verdict, rung, step) in enumerate(happened, 1):
        events.append((float(at), AttemptFinished(step, attempt(verdict, rung=rung))))
        last[step, rung] = verdict
    counted = {Verdict.PASSED: True, Verdict.SOFT: False, Verdict.HARD: False}
    expected = {
        key: counted[verdict]
        for key, verdict in last.items()
        if verdict in counted and key[1] is not Rung.COMMAND
    }
    assert {(row.step, row.rung): row.mended for row in fold(events)} == expected


# -- the timetable ------------------------------------------------------------------------------


def test_the_timetable_sums_up_by_kind_rung_and_model() -> None:
    past = [
        tried(True, 1, usd="0.01", seconds=10.0),
        tried(False, 2, usd="0.03", seconds=30.0),
        tried(True, 3, usd="0.02", seconds=20.0, repo="there"),
        tried(True, 3, kind="lint", usd="0.01", seconds=5.0),
        tried(True, 3, kind="lint", usd="0.02", seconds=6.0),
        tried(True, 3, model="opus", rung=Rung.MAIN, usd=None),
        tried(True, 3, model=LUNA),
    ]
    lines = timetable(past)
    assert [(line.kind, line.rung.value, line.model) for line in lines] == [
        ("lint", "subagent", HAIKU),
        ("test", "subagent", HAIKU),
        ("test", "subagent", LUNA),
        ("test", "main", "opus"),
    ]
    lint, test, _, main = lines
    assert (lint.tried, lint.mended, lint.usd, lint.seconds) == (2, 2, Decimal("0.015"), 5.5)
    assert (test.tried, test.mended, test.usd, test.seconds) == (3, 2, Decimal("0.02"), 20.0)
    # Beta(3, 2), the mirror of Beta(2, 3) above
    assert test.low == pytest.approx(1 - 0.7514, abs=1e-4)
    assert main.usd is None


@given(PASTS)
def test_the_timetable_counts_every_row_once(past: list[Tried]) -> None:
    lines = timetable(past)
    assert sum(line.tried for line in lines) == len(past)
    assert sum(line.mended for line in lines) == sum(one.mended for one in past)
    assert all(0.0 <= line.low < line.high <= 1.0 for line in lines)
    assert lines == timetable(past)
