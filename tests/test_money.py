from __future__ import annotations

from decimal import Decimal
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.money import OverBudgetError, Purse, Reservation, Worst


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
    assert purse.unknown == (end != "release")


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


async def test_a_steps_purse_names_itself_and_the_runs_is_drawn_on_too() -> None:
    run = Purse("run", usd=usd("1"))
    step = Purse("lint", usd=usd("0.10"), parent=run)
    with pytest.raises(OverBudgetError) as caught:
        await step.reserve(Worst(usd("0.20"), 1))
    assert caught.value.purse == "lint"
    await step.reserve(Worst(usd("0.10"), 1))
    assert run.reserved == usd("0.10")


async def test_an_unknown_price_does_not_start_under_a_ceiling_in_money() -> None:
    with pytest.raises(OverBudgetError, match="no price is known"):
        await Purse("run", usd=usd("1")).reserve(Worst(None, 10))
    free = Purse("run", tokens=100)
    (await free.reserve(Worst(None, 60))).settle(None, 50)
    assert (free.spent, free.spent_tokens) == (0, 50)
    with pytest.raises(OverBudgetError, match="60 tokens of 50 left"):
        await free.reserve(Worst(None, 60))


async def test_what_is_kept_back_is_for_the_main_agent() -> None:
    purse = Purse("run", usd=usd("1"), keep_back=usd("0.50"))
    assert (purse.headroom(), purse.headroom(kept=True)) == (usd("0.50"), usd("1"))
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


Ending = Literal["settle", "lost", "release", "cancel", "absurd"]
REQUESTS = st.lists(
    st.tuples(
        st.integers(0, 3),  # whose purse
        st.integers(1, 60),  # worst case, cents
        st.integers(0, 1000),  # thousandths of it that are used
        st.integers(0, 4),  # how many turns of the loop it takes
        st.sampled_from(["settle", "lost", "release", "cancel", "absurd"]),
    ),
    min_size=1,
    max_size=25,
)


def finish(reservation: Reservation, end: Ending, real: Decimal) -> None:
    match end:
        case "settle":
            reservation.settle(real, reservation.worst.tokens)
        case "release":
            reservation.release()
        case "absurd":
            reservation.settle(Decimal(-1), -5)
        case "lost" | "cancel":
            reservation.lost()


@settings(max_examples=250, deadline=None)
@given(REQUESTS, st.integers(0, 200))
def test_no_schedule_of_concurrent_requests_overspends(
    requests: list[tuple[int, int, int, int, Ending]], budget: int
) -> None:
    limit = Decimal(budget) / 100
    run = Purse("run", usd=limit)
    purses = [run, *(Purse(f"s{n}", usd=limit / n, parent=run) for n in (1, 2, 3))]
    # The provider's own books: it never bills above the worst case.
    billed = Decimal(0)

    async def one(whose: int, cents: int, part: int, turns: int, end: Ending) -> None:
        nonlocal billed
        worst = Worst(Decimal(cents) / 100, cents)
        try:
            reservation = await purses[whose].reserve(worst)
        except OverBudgetError:
            return
        real = Decimal(cents * part) / 100_000
        if end != "release":
            billed += real
        try:
            with anyio.CancelScope() as scope:
                if end == "cancel":
                    scope.cancel()
                for _ in range(turns):
                    await anyio.lowlevel.checkpoint()
        finally:
            finish(reservation, end, real)
            check()

    def check() -> None:
        for purse in purses:
            assert purse.usd is not None
            assert purse.spent + purse.reserved <= purse.usd
        assert billed <= run.spent + run.reserved <= limit

    async def all_of_them() -> None:
        async with anyio.create_task_group() as tasks:
            for request in requests:
                tasks.start_soon(one, *request)

    anyio.run(all_of_them)
    assert all(purse.reserved == 0 for purse in purses)
    assert billed <= run.spent <= limit
