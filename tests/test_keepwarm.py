"""Keeping the main's cache: tables, properties, and bills where entries expire by the clock."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pauses import CONTEXTS, MINUTE, MODELS, always, best, cache_of, never, overdue, play, runner

from runner.ahead import StepAhead, next_ask, pauses_ahead, usual
from runner.frozen import frozen
from runner.keepwarm import (
    Ahead,
    Cache,
    Expire,
    Ping,
    Wait,
    choose_retention,
    next_move,
)

if TYPE_CHECKING:
    from pauses import Bill

    from runner.keepwarm import Move, Retention

OPUS = cache_of("claude-opus-5-5", 80_000)
"""A read is $0.016, a re-write $0.40: 25 times as much."""
UNKNOWN = Ahead(None)
NOTHING = Decimal(0)


def move(
    ahead: Ahead = UNKNOWN,
    *,
    cache: Cache = OPUS,
    idle: float = 0.0,
    sent: int = 0,
    spent: str = "0",
    retention: Retention = "default",
) -> Move:
    return next_move(cache, ahead, idle=idle, sent=sent, spent=Decimal(spent), retention=retention)


# One move


@pytest.mark.parametrize(
    ("ahead", "idle", "expected"),
    [
        (Ahead(60), 0, Wait),
        (Ahead(240), 0, Wait),
        (Ahead(240), 100, Ping),
        (Ahead(8), 285, Wait),
        (Ahead(600), 0, Ping),
        (Ahead(100 * MINUTE), 0, Ping),
        (Ahead(200 * MINUTE), 0, Expire),
        (Ahead(None), 0, Ping),
        (Ahead(None), 299, Expire),
        (Ahead(10), 299, Expire),
        (Ahead(None, 0.0), 0, Expire),
        (Ahead(600, 0.01), 0, Expire),
        (Ahead(600, 0.2), 0, Ping),
    ],
)
def test_what_is_known_of_the_pause_decides(ahead: Ahead, idle: float, expected: type) -> None:
    assert isinstance(move(ahead, idle=idle), expected)


@pytest.mark.parametrize(
    ("ahead", "idle", "after"),
    [
        (Ahead(None), 0, 280),
        (Ahead(None), 100, 180),
        (Ahead(None), 285, 0),
        (Ahead(1000), 0, 280),
        (Ahead(60), 0, 280),
        # Two pings spare a third when the gaps are a little longer.
        (Ahead(850), 0, 850 / 3),
        # No ping, when only the margin would ask for one.
        (Ahead(290), 0, 290),
        (Ahead(8), 285, 8),
        # Main is due: as late as is safe.
        (Ahead(0), 0, 280),
        (Ahead(0.5), 285, 0.5),
        (Ahead(0), 285, 9),
        (Ahead(0), 293, 1),
        (Ahead(0), 294, 0),
        # Somebody who wakes up late.
        (Ahead(0), 296, 0),
        (Ahead(None), 296, 0),
    ],
)
def test_a_move_says_when(ahead: Ahead, idle: float, after: float) -> None:
    found = move(ahead, idle=idle)
    assert isinstance(found, Ping | Wait)
    assert found.after == pytest.approx(after)


@pytest.mark.parametrize("idle", [280, 285, 293.9])
def test_main_that_is_due_is_waited_for_until_the_last_safe_moment(idle: float) -> None:
    due = move(Ahead(0), idle=idle)
    assert isinstance(due, Wait)
    late = move(Ahead(0), idle=idle + due.after)
    assert isinstance(late, Ping)
    assert late.after == 0


@pytest.mark.parametrize(
    ("ahead", "idle", "why"),
    [
        (Ahead(1000), 0, "pings until then cost less than a re-write"),
        (Ahead(None), 0, "length unknown: pings so far cost less than a re-write"),
        (Ahead(0), 294, "main is overdue: pings so far cost less than a re-write"),
    ],
)
def test_a_ping_says_why(ahead: Ahead, idle: float, why: str) -> None:
    found = move(ahead, idle=idle)
    assert isinstance(found, Ping)
    assert found.reason == why


@pytest.mark.parametrize(
    ("seconds", "idle", "expected"),
    [(86_390, 0, Wait), (86_395, 0, Ping), (0, 86_395, Ping), (0, 86_396, Expire)],
)
def test_seconds_of_a_retention_of_a_day_are_as_long(
    seconds: float, idle: float, expected: type
) -> None:
    """What is dared before an expiry does not grow with the retention beyond the margin."""
    found = move(Ahead(seconds), cache=replace(OPUS, retention=86_400.0), idle=idle)
    assert isinstance(found, expected)


@pytest.mark.parametrize(
    ("cache", "why"),
    [
        (replace(OPUS, tokens=4095, minimum=4096), "too short to be cached"),
        (replace(OPUS, tokens=0), "too short to be cached"),
        (replace(OPUS, promised=False), "the provider promises no retention"),
        (replace(OPUS, ping_output=None), "the model's rules allow no keep-alive request"),
        (replace(OPUS, read=NOTHING, write=NOTHING), "a re-write costs no more than a read"),
        (replace(OPUS, read=OPUS.write), "a re-write costs no more than a read"),
    ],
)
@pytest.mark.parametrize(
    ("ahead", "idle"),
    [(Ahead(None), 0), (Ahead(600), 0), (Ahead(60), 0), (Ahead(None, 0.0), 0), (Ahead(0), 999)],
)
def test_some_caches_are_never_kept_alive(
    cache: Cache, why: str, ahead: Ahead, idle: float
) -> None:
    found = move(ahead, cache=cache, idle=idle)
    assert isinstance(found, Expire)
    assert (found.reason, found.always) == (why, True)


@pytest.mark.parametrize(
    ("ahead", "idle", "pings", "why"),
    [
        (Ahead(None, 0.0), 0, 0, "main is not asked again"),
        (Ahead(600), 299, 0, "it has expired, or would before a ping arrives"),
        (Ahead(200 * MINUTE), 0, 0, "a re-write costs no more than pings until then"),
        (Ahead(0), 294, 25, "with one more, pings would cost more than a re-write"),
        (UNKNOWN, 0, 100, "with one more, pings would cost more than a re-write"),
    ],
)
def test_what_speaks_against_one_pause_is_not_for_always(
    ahead: Ahead, idle: float, pings: int, why: str
) -> None:
    found = move(ahead, idle=idle, sent=pings, spent=f"{pings * 0.01602:.6f}")
    assert isinstance(found, Expire)
    assert (found.reason, found.always) == (why, False)


def test_the_smallest_prefix_that_is_cached_is_kept() -> None:
    assert isinstance(move(cache=replace(OPUS, tokens=4096, minimum=4096)), Ping)


def test_without_a_known_length_pings_go_on_until_they_cost_the_re_write() -> None:
    """To the nearest whole ping: a re-write is $0.40, a ping $0.01602."""
    assert isinstance(move(sent=24, spent="0.384480"), Ping)
    last = move(sent=25, spent="0.400500")
    assert isinstance(last, Expire)
    assert last.reason == "with one more, pings would cost more than a re-write"


def test_a_re_write_that_is_unlikely_is_worth_fewer_pings() -> None:
    half = Ahead(None, 0.5)
    assert isinstance(move(half, sent=12, spent="0.19"), Ping)
    assert isinstance(move(half, sent=13, spent="0.2083"), Expire)
    assert isinstance(move(UNKNOWN, sent=13, spent="0.2083"), Ping)


@pytest.mark.parametrize("ahead", [UNKNOWN, Ahead(1000)])
def test_a_ping_that_came_too_late_wrote_anew_and_is_forgiven_once(ahead: Ahead) -> None:
    assert isinstance(move(ahead, sent=7, spent="0.496120"), Ping)
    found = move(ahead, sent=8, spent="0.896140")
    assert isinstance(found, Expire)
    assert (found.reason, found.always) == ("two pings have missed the cache", False)


def test_the_longer_retention_is_pinged_at_its_own_pace() -> None:
    found = move(retention="longer", idle=300)
    assert isinstance(found, Ping)
    assert found.after == 3570 - 300
    assert isinstance(move(Ahead(50 * MINUTE), retention="longer"), Wait)


def test_the_facts_are_the_arithmetic() -> None:
    found = move(Ahead(1000), idle=10, sent=2, spent="0.03204")
    assert dict(found.facts) == {
        "tokens": 80_000,
        "minimum_tokens": 1,
        "retention_seconds": 300.0,
        "ping_every_seconds": 280.0,
        "read_usd": "0.016000",
        "write_usd": "0.400000",
        "ping_usd": "0.016020",
        "ahead_seconds": 1000,
        "use": 1.0,
        "idle_seconds": 10,
        "pings_sent": 2,
        "pings_spent_usd": "0.032040",
        "pings_needed": 3,
        "pings_usd": "0.048060",
        "expire_usd": "0.384000",
        "pings_limit_usd": "0.408010",
    }


# The retention


@pytest.mark.parametrize(
    ("name", "minutes", "expected"),
    [
        # One pause: pings are cheaper up to where (w1 - w) / r of them are needed.
        ("claude-opus-4-8", [35], "default"),
        ("claude-opus-4-8", [45], "longer"),
        ("claude-opus-5-5", [45], "default"),
        ("claude-opus-5-5", [90], "longer"),
        ("claude-fable-5-2", [120], "default"),
        # Several: the dearer write is paid once.
        ("claude-opus-5-5", [30], "default"),
        ("claude-opus-5-5", [30, 30, 30], "longer"),
        # What nobody knows, or what is short, speaks for nothing.
        ("claude-opus-5-5", [], "default"),
        ("claude-opus-5-5", [None, None], "default"),
        ("claude-opus-5-5", [2, 3, 4, 2], "default"),
        ("claude-opus-5-5", [None, 90], "longer"),
        ("gpt-6.1-sol", [90], "default"),
    ],
)
def test_the_retention_is_chosen_by_the_pauses_ahead(
    name: str, minutes: list[float | None], expected: str
) -> None:
    pauses = [Ahead(None if one is None else one * MINUTE) for one in minutes]
    assert choose_retention(cache_of(name, 80_000), pauses).retention == expected


def test_the_longer_retention_is_not_paid_for_a_pause_that_hardly_matters() -> None:
    assert choose_retention(OPUS, [Ahead(90 * MINUTE, 0.5)]).retention == "default"


def test_without_keep_alives_the_longer_retention_is_the_only_way() -> None:
    silent = replace(OPUS, ping_output=None)
    assert choose_retention(silent, [Ahead(10 * MINUTE)]).retention == "longer"
    assert choose_retention(silent, [Ahead(4 * MINUTE)]).retention == "default"
    assert choose_retention(silent, [Ahead(90 * MINUTE)]).retention == "default"


def test_a_retention_that_is_not_promised_is_not_paid_for() -> None:
    chosen = choose_retention(replace(OPUS, promised=False), [Ahead(90 * MINUTE)])
    assert (chosen.retention, chosen.facts) == ("default", {})


def test_that_no_pause_is_known_is_said() -> None:
    for pauses in ([], [UNKNOWN]):
        chosen = choose_retention(OPUS, pauses)
        assert chosen.retention == "default"
        assert chosen.reason.startswith("no pause is known yet; ")
    assert "dearer writes cost no less" in choose_retention(OPUS, [Ahead(MINUTE)]).reason


def test_the_choice_of_the_retention_tells_its_sums() -> None:
    chosen = choose_retention(OPUS, [Ahead(90 * MINUTE), UNKNOWN])
    assert dict(chosen.facts) == {
        "tokens": 80_000,
        "pauses_known": 1,
        "pauses_seconds": 5400.0,
        "default_seconds": 300.0,
        "default_usd": "0.288360",
        "longer_seconds": 3600.0,
        "longer_premium_usd": "0.240000",
        "longer_usd": "0.256020",
    }


# What is known of the steps ahead


@frozen
class Row:
    name: str
    steps: tuple[StepAhead, ...]
    expected: Ahead


def step(
    name: str, needs: str = "", seconds: float | None = None, chance: float = 0.0, asks: str = "end"
) -> StepAhead:
    assert asks in ("start", "end")
    return StepAhead(
        id=name,
        needs=tuple(needs.split()),
        seconds=seconds,
        chance=chance,
        asks="start" if asks == "start" else "end",
    )


ROWS = [
    Row("nothing", (), Ahead(None, 0.0)),
    Row("nobody asks", (step("a", seconds=5), step("b", "a", 5)), Ahead(None, 0.0)),
    Row(
        "a prompt after two steps",
        (step("a", seconds=5), step("b", "a", 7), step("p", "b", 60, 1.0, "start")),
        Ahead(12.0, 1.0),
    ),
    Row("delegated work", (step("task", seconds=90, chance=1.0),), Ahead(90.0, 1.0)),
    Row(
        "the longer of two branches",
        (
            step("a", seconds=5),
            step("b", seconds=50),
            step("p", "a b", None, 1.0, "start"),
        ),
        Ahead(50.0, 1.0),
    ),
    Row(
        "an unknown step before the prompt",
        (step("a"), step("p", "a", 60, 1.0, "start")),
        Ahead(None, 1.0),
    ),
    Row(
        "an unknown step beside the prompt",
        (step("a", chance=0.5), step("b", seconds=9), step("p", "b", 60, 1.0, "start")),
        Ahead(9.0, 1.0),
    ),
    Row(
        "a possible failure before the prompt",
        (step("a", seconds=10, chance=0.5), step("b", "a", 20), step("p", "b", None, 1.0, "start")),
        Ahead(20.0, 1.0),
    ),
    Row("a possible failure alone", (step("a", seconds=10, chance=0.25),), Ahead(10.0, 0.25)),
    Row(
        "two possible failures, the second one unknown",
        (step("a", seconds=10, chance=0.5), step("b", "a", chance=0.5)),
        Ahead(None, 0.75),
    ),
    Row(
        "a need that has ended",
        (step("p", "gone", 60, 1.0, "start"),),
        Ahead(0.0, 1.0),
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_time_until_main_is_asked(row: Row) -> None:
    assert next_ask(row.steps) == row.expected


@pytest.mark.parametrize(
    ("elapsed", "expected"),
    [(0, Ahead(60.0)), (20, Ahead(40.0)), (60, Ahead(None)), (90, Ahead(None))],
)
def test_a_step_that_takes_longer_than_usual_is_of_unknown_length(
    elapsed: float, expected: Ahead
) -> None:
    running = StepAhead(id="a", seconds=60, elapsed=elapsed)
    assert next_ask((running, step("p", "a", None, 1.0, "start"))) == expected


def test_a_group_takes_no_time_of_its_own() -> None:
    group = StepAhead(id="group", needs=("a",), seconds=0.0, elapsed=30)
    steps = (step("a", seconds=60), group, step("p", "group", None, 1.0, "start"))
    assert next_ask(steps) == Ahead(60.0)


def test_every_pause_of_a_conversation_is_foreseen() -> None:
    steps = (
        step("a", seconds=100, chance=0.5),
        step("p", "a", None, 1.0, "start"),
        step("b", "p", 200),
        step("q", "b", 5, 1.0, "start"),
        step("c", "q", 300, 0.25),
        step("d", "c", 50),
    )
    assert pauses_ahead(steps) == (Ahead(100.0), Ahead(200.0), Ahead(300.0, 0.25))


def test_no_pause_is_foreseen_where_main_is_never_asked() -> None:
    assert pauses_ahead((step("a", seconds=100), step("b", "a"))) == ()


@pytest.mark.parametrize(
    ("past", "expected"),
    [((), None), ((4,), 4), ((9, 1), 5), ((100, 2, 3), 3), ((4, 1, 3, 2), 2.5)],
)
def test_what_is_usual_is_the_median(past: tuple[float, ...], expected: float | None) -> None:
    assert usual(past) == expected


# Bills: never, always, the runner told the length or not, and the best in hindsight


@frozen
class Worst:
    """The worst ratio to the best in hindsight, over every minute from 1 to `until`."""

    whole: float
    pause: float


def worst(name: str, tokens: int, who: str, *, until: int = 120, paused: bool = False) -> Worst:
    cache = cache_of(name, tokens)
    whole, pause = 0.0, 0.0
    for minutes in range(1, until + 1):
        seconds = minutes * MINUTE
        ideal = best(cache, seconds, "from the pause on" if paused else "anything")
        bill = bill_of(cache, seconds, who)
        whole = max(whole, float(bill.whole / ideal.whole))
        pause = max(pause, float(bill.pause / ideal.pause))
    return Worst(whole, pause)


def bill_of(cache: Cache, seconds: float, who: str) -> Bill:
    match who:
        case "never":
            return play(cache, seconds, never)
        case "always":
            return play(cache, seconds, always(cache))
        case _:
            return runner(cache, seconds, known=who == "known")


EVERYWHERE = pytest.mark.parametrize(
    ("name", "tokens"), [(name, tokens) for name in MODELS for tokens in CONTEXTS]
)


@EVERYWHERE
def test_a_known_pause_costs_at_most_a_tenth_more_than_the_best(name: str, tokens: int) -> None:
    found = worst(name, tokens, "known")
    assert found.whole <= 1.03
    assert found.pause <= 1.10


@EVERYWHERE
def test_an_unknown_pause_costs_at_most_twice_the_best(name: str, tokens: int) -> None:
    """The whole bill, against all of hindsight; the pause alone, against what it leaves open."""
    assert worst(name, tokens, "unknown").whole <= 1.7
    assert worst(name, tokens, "unknown", paused=True).pause <= 2.0


def test_never_and_always_are_each_far_off_somewhere() -> None:
    assert worst("claude-fable-5-2", 50_000, "never").pause > 20
    assert worst("claude-opus-5-5", 50_000, "never").pause > 12
    assert worst("claude-opus-5-5", 50_000, "never").whole > 1.8
    assert worst("gpt-6.1-sol", 50_000, "never").pause > 12
    assert worst("claude-opus-4-8", 50_000, "always").pause > 2.7
    assert worst("claude-opus-4-8", 50_000, "always").whole > 1.7
    assert worst("claude-opus-4-8", 50_000, "always", until=480, paused=True).pause > 7


def test_no_rule_keeps_an_unknown_pause_within_twice_all_of_hindsight() -> None:
    """Where a read is a tenth of the input price: a longer retention is no longer to be had.

    Any rule that does not know the length is a number of pings after which it stops, or the longer
    retention, which for the shortest pause costs what it is dearer by for nothing.
    """
    cache = cache_of("claude-opus-4-8", 200_000)
    after = 299.0

    def ratio(pings: int | None, retention: Retention = "default") -> float:
        return max(
            float(
                play(
                    cache,
                    minutes * MINUTE,
                    lambda now: after if pings is None or now.pings < pings else None,
                    retention=retention,
                ).pause
                / best(cache, minutes * MINUTE).pause
            )
            for minutes in range(1, 121)
        )

    assert min(ratio(pings) for pings in (*range(31), None)) > 2.25
    assert ratio(0, "longer") > 8
    # The runner's, which is held to twice what the pause leaves open.
    assert worst("claude-opus-4-8", 200_000, "unknown").pause < 2.6


@pytest.mark.parametrize("late", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("known", [True, False])
def test_pings_that_start_late_still_find_the_cache(late: float, known: bool) -> None:
    for minutes in range(1, 121):
        bill = runner(OPUS, minutes * MINUTE, known=known, late=lambda _: late)
        one = OPUS.read * OPUS.tokens + (OPUS.ping_output or 0)
        assert bill.pinged == bill.pings * one


@pytest.mark.parametrize("known", [True, False])
def test_one_ping_that_misses_the_cache_costs_one_re_write(known: bool) -> None:
    read, write = OPUS.read * OPUS.tokens, OPUS.write * OPUS.tokens
    output = OPUS.ping_output or NOTHING
    missed = runner(OPUS, 45 * MINUTE, known=known, late=lambda ping: 30.0 * (ping == 3))
    assert missed.pings == 9
    assert missed.pause == write + 8 * read + 9 * output + read


@pytest.mark.slow
def test_the_table_of_the_benchmark_holds_its_goals() -> None:
    file = Path(__file__).parent.parent / "benchmarks" / "keep_warm.py"
    command = [sys.executable, file, "--json", "--model", "claude-opus-4-8", "--minutes", "6", "90"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    six, ninety = json.loads(done.stdout)
    assert (six["ways"]["known"]["pings"], six["ways"]["known"]["ratio"]) == (1, 1.0)
    assert ninety["ways"]["always"]["usd"] > 2 * ninety["ways"]["known"]["usd"]


prices = st.integers(50, 1000).map(lambda cents: Decimal(cents) / 100_000_000)


@st.composite
def caches(draw: st.DrawFn) -> Cache:
    """Any prices with a re-write of 5 to 60 reads, and any lifetimes."""
    read = draw(prices)
    write = read * draw(st.integers(50, 600)) / 10
    tokens = draw(st.integers(5_000, 500_000))
    retention = draw(st.sampled_from([60.0, 300.0, 1800.0]))
    return Cache(
        read=read,
        write=write,
        write_longer=draw(st.none() | st.just(write * Decimal("1.6"))),
        retention=retention,
        longer=draw(st.none() | st.just(retention * 12)),
        tokens=tokens,
        ping_output=read * tokens * draw(st.integers(0, 50)) / 1000,
    )


@given(caches(), st.floats(1, 50_000))
def test_an_unknown_pause_is_bounded_whatever_its_length(cache: Cache, seconds: float) -> None:
    """Twice, 7 % for the margin before an expiry, and half a ping of at least five."""
    bill = runner(cache, seconds, known=False)
    assert bill.pause <= best(cache, seconds, "from the pause on").pause * Decimal("2.25")
    assert bill.whole <= best(cache, seconds).whole * 2


@given(caches(), st.floats(1, 50_000))
def test_a_known_pause_is_never_dearer_than_to_do_nothing(cache: Cache, seconds: float) -> None:
    assert runner(cache, seconds, known=True).whole <= play(cache, seconds, never).whole


@given(caches(), st.floats(1, 50_000))
def test_a_known_pause_is_the_cheapest_that_keeps_a_distance(cache: Cache, seconds: float) -> None:
    """The best of somebody who pings with a fifteenth of the retention to spare."""
    life, longer = cache.retention, cache.longer
    distant = replace(
        cache,
        retention=life - apart(life),
        longer=None if longer is None else longer - apart(longer),
    )
    bound = best(distant, seconds).whole
    assert runner(cache, seconds, known=True).whole <= bound


@given(caches(), st.floats(1, 50_000))
def test_a_main_that_is_always_due_is_bounded_too(cache: Cache, seconds: float) -> None:
    """No ping before the last safe moment, and no more of them than where nothing is known."""
    bill = overdue(cache, seconds)
    last = cache.retention - 0.3 * apart(cache.retention)
    assert bill.pings <= seconds / last
    assert bill.pinged <= cache.write * cache.tokens + (cache.read * cache.tokens) / 2 + (
        cache.ping_output or NOTHING
    )
    assert bill.pause <= best(cache, seconds, "from the pause on").pause * Decimal("2.25")


@pytest.mark.parametrize(("seconds", "pings"), [(60, 0), (285, 0), (293, 0), (295, 1), (600, 2)])
def test_a_main_that_is_due_is_not_pinged_for_just_before_it_asks(
    seconds: float, pings: int
) -> None:
    bill = overdue(OPUS, seconds)
    assert bill.pings == pings
    assert bill.next == OPUS.read * OPUS.tokens


def apart(life: float) -> float:
    return min(30.0, life / 15)


@given(
    caches(),
    st.lists(st.none() | st.just(0.0) | st.floats(0, 20_000), max_size=200),
    st.floats(0, 1),
    st.sampled_from([1.05, 0.9, 0.3, 0.2]),
)
def test_pings_never_cost_more_than_a_re_write_whatever_is_believed(
    cache: Cache, beliefs: list[float | None], use: float, left: float
) -> None:
    """Estimates that slip again and again, too."""
    one = cache.read * cache.tokens + (cache.ping_output or 0)
    sent = 0
    for belief in beliefs:
        idle = cache.retention - left * apart(cache.retention)
        found = next_move(cache, Ahead(belief, use), idle=idle, sent=sent, spent=sent * one)
        sent += isinstance(found, Ping)
    assert sent * one <= cache.write * cache.tokens * Decimal(str(use)) + one / 2


@given(caches(), st.floats(0, 50_000), st.floats(0, 4_000))
def test_nobody_is_told_to_wait_for_no_time(cache: Cache, seconds: float, idle: float) -> None:
    """Who looks again at once would do so for ever."""
    found = next_move(cache, Ahead(seconds), idle=idle, sent=0, spent=NOTHING)
    if isinstance(found, Wait):
        assert found.after > 0
        assert found.after >= seconds


@given(caches(), st.none() | st.floats(0, 50_000), st.floats(0, 4_000), st.integers(0, 60))
def test_a_ping_starts_while_the_entry_lives(
    cache: Cache, seconds: float | None, idle: float, sent: int
) -> None:
    found = next_move(cache, Ahead(seconds), idle=idle, sent=sent, spent=sent * cache.read)
    life = cache.retention
    if not isinstance(found, Expire):
        assert found.after >= 0
        assert idle + found.after < life
        assert found.after == 0 or idle + found.after <= life - 0.28 * apart(life)
