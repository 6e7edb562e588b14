"""Commands share the tree, a writer has it alone, and nobody waits for ever."""

from __future__ import annotations

import random

import anyio
import pytest

from runner.engine.lock import Held, TreeLock


async def test_shares_run_together_and_a_sole_holder_alone() -> None:
    lock, log = TreeLock(), list[str]()

    async def share(name: str) -> None:
        async with lock.share():
            log.append(f"+{name}")
            await anyio.sleep(0.02)
            log.append(f"-{name}")

    async def sole(name: str) -> None:
        async with lock.sole():
            log.append(f"+{name}")
            await anyio.sleep(0.02)
            log.append(f"-{name}")

    async with anyio.create_task_group() as group:
        group.start_soon(share, "a")
        group.start_soon(share, "b")
        await anyio.sleep(0.005)
        group.start_soon(sole, "W")
        await anyio.sleep(0.005)
        group.start_soon(share, "c")
    assert sorted(log[:4]) == ["+a", "+b", "-a", "-b"]
    assert log[4:] == ["+W", "-W", "+c", "-c"]


async def test_sole_waiters_go_in_step_order() -> None:
    lock, log = TreeLock(), list[int]()

    async def sole(place: int) -> None:
        async with lock.sole((place,)):
            log.append(place)

    async with anyio.create_task_group() as group, lock.sole():
        for place in (3, 1, 2):
            group.start_soon(sole, place)
            await anyio.sleep(0.005)
    assert log == [1, 2, 3]


async def test_overlap_is_seen_by_both() -> None:
    lock = TreeLock()
    async with lock.share() as one:
        assert not one.overlapped
        async with lock.share() as other:
            assert other.overlapped
    assert one.overlapped
    async with lock.share() as alone:
        assert not alone.overlapped


async def test_a_waiter_that_is_cancelled_does_not_block_the_next() -> None:
    lock, got = TreeLock(), anyio.Event()

    async def late() -> None:
        async with lock.sole():
            got.set()

    async with anyio.create_task_group() as group:
        async with lock.share():
            with anyio.move_on_after(0.01):
                async with lock.sole():
                    pytest.fail("the share was still held")
            group.start_soon(late)
            await anyio.sleep(0.01)
            assert not got.is_set()
        with anyio.fail_after(1):
            await got.wait()


@pytest.mark.parametrize("seed", range(20))
async def test_exclusion_holds_under_random_traffic(seed: int) -> None:
    lock, chance = TreeLock(), random.Random(seed)
    inside = {"share": 0, "sole": 0}

    async def visit(kind: str, pause: float, patience: float) -> None:
        with anyio.move_on_after(patience):
            place = (chance.randrange(5),)
            async with lock.sole(place) if kind == "sole" else lock.share():
                inside[kind] += 1
                assert inside["sole"] <= 1
                assert not (inside["sole"] and inside["share"])
                try:
                    await anyio.sleep(pause)
                finally:
                    inside[kind] -= 1

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for _ in range(60):
                kind = chance.choice(["share", "share", "sole"])
                group.start_soon(visit, kind, chance.random() / 500, chance.random() / 20)
                await anyio.sleep(chance.random() / 1000)
        async with lock.sole():
            pass


async def test_work_under_a_sole_holder_does_not_wait() -> None:
    lock = TreeLock()
    with anyio.fail_after(1):
        async with lock.sole():
            held = Held()
            async with held.sole(), held.share():
                pass
