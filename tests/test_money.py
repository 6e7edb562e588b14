from __future__ import annotations

from decimal import Decimal
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.money import OverBudgetError, Purse, Reservation, Room, Worst
from runner.outcome import Lack


def usd(text: str) -> Decimal:
    return Decimal(text)


async def test_what_was_used_is_booked_and_the_rest_is_free_again() -> None:
    purse = Purse("run", usd=usd("1"))
    reservation = await purse.reserve(Worst(usd("0.60"), 1000))
    assert purse.left == usd("0.40")
    reservation.settle(usd("0.10"), 200)
    assert (purse.spent, purse.reserved, purse.left) == (usd("0.10"), 0, usd("0.90"))
    assert purse.spent_tokens == 200


@pytest.mark.parametrize(
    ("end", "spent"),
    [
        ("lost", "0.60"),
        ("release", "0"),
        ("negative", "0.60"),
        ("nan", "0.60"),
        ("no tokens", "0.60"),
        ("unknown price", "0.60"),
    ],
)
async def test_what_nobody_knows_counts_at_its_worst(end: str, spent: str) -> None:
    purse = Purse("run", usd=usd("1"))
    reservation = await purse.reserve(Worst(usd("0.60"), 1000))
    match end:
        case "lost":
            reservation.lost()
        case "release":
            reservation.release()
        case "negative":
            reservation.settle(usd("-5"), 10)
        case "nan":
            reservation.settle(usd("nan"), 10)
        case "no tokens":
            reservation.settle(usd("0.01"), None)
        case _:
            reservation.settle(None, 10)
    assert purse.spent == usd(spent)
    assert reservation.outcome == ("released" if end == "release" else "unknown")


async def test_a_reservation_ends_once() -> None:
    reservation = await Purse("run").reserve(Worst(usd("1"), 1))
    reservation.release()
    with pytest.raises(RuntimeError, match="already released"):
        reservation.lost()


async def test_a_bill_above_the_bound_is_disputed_and_closes_the_purse() -> None:
    run = Purse("run", usd=usd("10"))
    step = Purse("lint", parent=run)
    reservation = await step.reserve(Worst(usd("1"), 100))
    reservation.settle(usd("1.5"), 100)
    assert reservation.outcome == "disputed"
    assert run.spent == usd("1.5")
    for purse in (run, step):
        with pytest.raises(OverBudgetError, match="more usage than is possible"):
            await purse.reserve(Worst(usd("0.01"), 1))


async def test_what_can_never_be_covered_is_refused_with_what_is_needed_and_left() -> None:
    run = Purse("run", usd=usd("1"))
    (await run.reserve(Worst(usd("0.75"), 1))).lost()
    with pytest.raises(OverBudgetError) as caught:
        await run.reserve(Worst(usd("0.30"), 1))
    error = caught.value
    assert (error.purse, error.needed, error.left) == ("run", usd("0.30"), usd("0.25"))
    assert error.exit_code == 3
    assert error.message == (
        "The next request needs up to $0.3000 (its worst case); of $1.0000, $0.7500 is spent and "
        "$0.2500 left."
    )
    assert error.lack == Lack("needs up to $0.3000, $0.2500 left", enough_usd=usd("1.05"))


async def test_amounts_that_would_look_the_same_are_told_apart() -> None:
    run = Purse("run", usd=usd("0.25"))
    for needed, words in (("0.25001", "$0.250010, $0.250000"), ("0.26", "$0.2600, $0.2500")):
        with pytest.raises(OverBudgetError) as caught:
            await run.reserve(Worst(usd(needed), 1))
        assert caught.value.lack.words == "needs up to {}, {} left".format(*words.split(", "))


async def test_what_is_kept_back_is_told_and_would_be_needed_on_top() -> None:
    run = Purse("run", usd=usd("1"), keep_back=usd("0.4"))
    with pytest.raises(OverBudgetError) as caught:
        await run.reserve(Worst(usd("0.7"), 1))
    assert caught.value.lack == Lack(
        "needs up to $0.7000, $0.6000 left, $0.4000 kept back for an escalation",
        enough_usd=usd("1.1"),
    )
    assert caught.value.kept_back


async def test_a_steps_purse_names_itself_and_the_runs_is_drawn_on_too() -> None:
    run = Purse("run", usd=usd("1"))
    step = Purse("lint", usd=usd("0.10"), parent=run)
    with pytest.raises(OverBudgetError) as caught:
        await step.reserve(Worst(usd("0.20"), 1))
    assert caught.value.purse == "lint"
    assert caught.value.lack.words == "needs up to $0.2000, $0.1000 left of the step's $0.1000"
    await step.reserve(Worst(usd("0.10"), 1))
    assert run.reserved == usd("0.10")


async def test_an_unknown_price_does_not_start_under_a_ceiling_in_money() -> None:
    with pytest.raises(OverBudgetError, match="no price is known for a:b: ") as caught:
        await Purse("run", usd=usd("1")).reserve(Worst(None, 10, "a:b"))
    assert caught.value.lack.model == "a:b"
    free = Purse("run", tokens=100)
    (await free.reserve(Worst(None, 60))).settle(None, 50)
    assert (free.spent, free.spent_tokens) == (0, 50)
    with pytest.raises(OverBudgetError, match=r"60 tokens .*; of 100, 50 are spent and 50 left"):
        await free.reserve(Worst(None, 60))


async def test_what_is_kept_back_is_for_the_main_agent() -> None:
    purse = Purse("run", usd=usd("1"), keep_back=usd("0.50"))
    assert (purse.headroom().usd, purse.headroom(kept=True).usd) == (usd("0.50"), usd("1"))
    with pytest.raises(OverBudgetError):
        await purse.reserve(Worst(usd("0.60"), 1))
    await purse.reserve(Worst(usd("0.60"), 1), kept=True)


async def test_a_request_waits_for_money_that_others_may_give_back() -> None:
    purse = Purse("run", usd=usd("1"))
    first = await purse.reserve(Worst(usd("0.80"), 1))
    order: list[str] = []

    async def second() -> None:
        reservation = await purse.reserve(Worst(usd("0.80"), 1))
        order.append("second reserved")
        reservation.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        order.append("first settles")
        first.settle(usd("0.05"), 1)
    assert order == ["first settles", "second reserved"]


async def test_a_waiting_request_is_refused_once_it_is_hopeless() -> None:
    purse = Purse("run", usd=usd("1"))
    first = await purse.reserve(Worst(usd("0.80"), 1))
    refused: list[OverBudgetError] = []

    async def second() -> None:
        try:
            await purse.reserve(Worst(usd("0.80"), 1))
        except OverBudgetError as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        first.lost()
    assert len(refused) == 1


async def test_who_waits_is_served_before_those_that_come_later() -> None:
    """A large request would starve otherwise, for there is always room for a small one."""
    purse = Purse("run", usd=usd("1"))
    running = await purse.reserve(Worst(usd("0.50"), 1))
    order: list[str] = []

    async def ask(name: str, amount: str) -> None:
        reservation = await purse.reserve(Worst(usd(amount), 1))
        order.append(name)
        await anyio.wait_all_tasks_blocked()
        reservation.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "large", "0.90")
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(ask, "small", "0.20")
        await anyio.wait_all_tasks_blocked()
        assert order == []
        running.release()
    assert order == ["large", "small"]
    assert purse.line == []


@pytest.mark.parametrize("end", ["cancelled", "hopeless"])
async def test_who_leaves_the_line_lets_the_next_one_have_its_turn(end: str) -> None:
    purse = Purse("run", usd=usd("1"))
    step = Purse("lint", usd=usd("0.95"), parent=purse)
    running = await step.reserve(Worst(usd("0.50"), 1))
    order: list[str] = []

    async def small() -> None:
        await purse.reserve(Worst(usd("0.20"), 1))
        order.append("small")

    async def large(scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await purse.reserve(Worst(usd("0.90"), 1))
            except OverBudgetError:
                order.append("hopeless")

    async with anyio.create_task_group() as tasks:
        scope = anyio.CancelScope()
        tasks.start_soon(large, scope)
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(small)
        await anyio.wait_all_tasks_blocked()
        assert order == []
        if end == "cancelled":
            scope.cancel()
        else:
            running.settle(usd("0.11"), 1)
    assert order == (["small"] if end == "cancelled" else ["hopeless", "small"])


async def test_two_that_wait_for_two_purses_do_not_wait_for_each_other() -> None:
    """The older one waits for the run's money, the younger for the step's; then both are free."""
    run = Purse("run", usd=usd("1"))
    step = Purse("lint", usd=usd("0.5"), parent=run)
    of_step, of_run = await step.reserve(Worst(usd("0.2"))), await run.reserve(Worst(usd("0.6")))
    order: list[str] = []

    async def one(name: str, worst: str) -> None:
        reservation = await step.reserve(Worst(usd(worst)))
        order.append(name)
        reservation.release()

    with anyio.fail_after(1):
        async with anyio.create_task_group() as tasks:
            for name, worst in (("older", "0.25"), ("younger", "0.4")):
                tasks.start_soon(one, name, worst)
                await anyio.wait_all_tasks_blocked()
            of_step.release()
            of_run.release()
    assert order == ["older", "younger"]


async def test_what_is_kept_back_goes_past_the_line() -> None:
    purse = Purse("run", usd=usd("1"), keep_back=usd("0.50"))
    running = await purse.reserve(Worst(usd("0.40"), 1))
    with anyio.move_on_after(0.05) as scope:
        await purse.reserve(Worst(usd("0.30"), 1))
    assert scope.cancelled_caught
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(purse.reserve, Worst(usd("0.30"), 1))
        await anyio.wait_all_tasks_blocked()
        assert len(purse.line) == 1
        with anyio.fail_after(1):
            main = await purse.reserve(Worst(usd("0.45"), 1), kept=True)
        main.release()
        running.release()


def test_the_room_of_a_step_is_the_least_of_its_own_and_the_runs() -> None:
    run = Purse("run", usd=usd("1"), tokens=500, keep_back=usd("0.4"))
    step = Purse("lint", usd=usd("0.7"), parent=run)
    assert step.headroom() == Room(usd("0.6"), 500)
    assert step.headroom(kept=True) == Room(usd("0.7"), 500)
    assert Purse("free").headroom() == Room(None, None)
    assert Room(None, 500).covers(Worst(None, 500))
    assert not Room(None, 500).covers(Worst(None, 501))
    assert not Room(usd("9"), None).covers(Worst(None, 1))


Ending = Literal["settle", "lost", "release", "cancel", "absurd"]
REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 3),  # whose purse
        st.integers(1, 60),  # worst case, cents and tokens
        st.integers(0, 1000),  # thousandths of it that are used
        st.integers(0, 4),  # how many turns of the loop it takes
        st.sampled_from(["settle", "lost", "release", "cancel", "absurd"]),
        st.booleans(),  # whether it is main's
        st.none() | st.integers(0, 6),  # turns after which it is cancelled, waiting or not
    ),
    min_size=1,
    max_size=25,
)
Request = tuple[int, int, int, int, Ending, bool, "int | None"]


def finish(reservation: Reservation, end: Ending, real: Decimal, tokens: int) -> None:
    match end:
        case "settle":
            reservation.settle(real, tokens)
        case "release":
            reservation.release()
        case "absurd":
            reservation.settle(Decimal(-1), -5)
        case "lost" | "cancel":
            reservation.lost()


class Market:
    """Purses, and the provider's own books; it never bills above the worst case."""

    def __init__(self, limit: Decimal, back: Decimal, tokens: int | None) -> None:
        self.run = Purse("run", usd=limit, tokens=tokens, keep_back=back)
        steps = [Purse(f"s{n}", usd=limit / n, parent=self.run) for n in (1, 2, 3)]
        self.purses = [self.run, *steps]
        self.billed = self.others = Decimal(0)
        self.counted = 0

    async def one(self, request: Request) -> None:
        whose, cents, part, turns, end, kept, _ = request
        try:
            worst = Worst(Decimal(cents) / 100, cents)
            reservation = await self.purses[whose].reserve(worst, kept=kept)
        except OverBudgetError:
            return
        real, used = Decimal(cents * part) / 100_000, cents * part // 1000
        if end != "release":
            self.billed += real
            self.counted += used
            self.others += 0 if kept else real
        try:
            with anyio.CancelScope() as scope:
                if end == "cancel":
                    scope.cancel()
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
        finally:
            finish(reservation, end, real, used)
            self.check()

    async def cancelled(self, request: Request) -> None:
        """Cancel a request after some turns, which may find it in the line."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.one, request)
            for _ in range(request[-1] or 0):
                await anyio.lowlevel.checkpoint()
            if request[-1] is not None:
                tasks.cancel_scope.cancel()

    async def all_of_them(self, requests: list[Request]) -> None:
        # Nobody may wait for ever: whoever waits, waits for a request that ends by itself.
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for request in requests:
                    tasks.start_soon(self.cancelled, request)

    def check(self) -> None:
        run = self.run
        for purse in self.purses:
            assert purse.usd is not None
            assert purse.spent + purse.reserved <= purse.usd
            assert (
                purse.tokens is None or purse.spent_tokens + purse.reserved_tokens <= purse.tokens
            )
        assert self.billed <= run.spent + run.reserved
        assert self.counted <= run.spent_tokens + run.reserved_tokens
        # What is kept back stays for main.
        assert run.usd is not None
        assert self.others <= run.usd - run.keep_back


@settings(max_examples=400, deadline=None)
@given(REQUESTS, st.integers(0, 200), st.integers(0, 100), st.none() | st.integers(0, 200))
def test_no_schedule_of_concurrent_requests_overspends(
    requests: list[Request], budget: int, back: int, tokens: int | None
) -> None:
    limit = Decimal(budget) / 100
    market = Market(limit, limit * back / 100, tokens)
    anyio.run(market.all_of_them, requests)
    market.check()
    for purse in market.purses:
        assert (purse.reserved, purse.reserved_tokens, purse.line) == (0, 0, [])
