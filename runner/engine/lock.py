"""Lets commands share the tree and gives it to one writer alone, first come, first served."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Share:
    """One command's share of the tree."""

    def __init__(self, *, overlapped: bool = False) -> None:
        self.overlapped = overlapped
        """Whether another command ran at any moment of this one."""


class Ticket:
    """One waiter: for a share, or for the tree alone."""

    def __init__(self, place: tuple[int, ...] | None) -> None:
        self.place = place
        """A sole waiter's step in the order of the workflow; `None` waits for a share."""
        self.called = anyio.Event()


class TreeLock:
    """A fair lock: many shares, or one sole holder.

    First come, first served; but of those who wait for the tree alone, the first step of the
    workflow goes first, so that packets reach the main agent in step order.

    A sole holder hands `Held()` to the work that it starts itself: that must not wait for it.
    """

    def __init__(self) -> None:
        self._shares: list[Share] = []
        self._sole = False
        self._queue: deque[Ticket] = deque()
        self._reserved: tuple[int, ...] | None = None

    def reserve(self, place: tuple[int, ...]) -> None:
        """Keep the tree for the step at a place, before anybody asks for it.

        It was alone with the tree when an earlier life of the run ended.
        """
        self._sole, self._reserved = True, place

    def give_up(self) -> None:
        """Let others have the tree where it was reserved and never asked for."""
        if self._reserved is not None:
            self._sole, self._reserved = False, None
            self._wake()

    @asynccontextmanager
    async def share(self) -> AsyncGenerator[Share]:
        """Hold the tree together with other commands."""
        await self._wait(None)
        mine = Share(overlapped=bool(self._shares))
        for other in self._shares:
            other.overlapped = True
        self._shares.append(mine)
        try:
            yield mine
        finally:
            self._shares.remove(mine)
            self._wake()

    @asynccontextmanager
    async def sole(self, place: tuple[int, ...] = ()) -> AsyncGenerator[None]:
        """Hold the tree alone; *place* is the step's in the order of the workflow."""
        if self._reserved is not None and self._reserved == place:
            self._reserved = None
        else:
            await self._wait(place)
        self._sole = True
        try:
            yield
        finally:
            self._sole = False
            self._wake()

    def _free(self, place: tuple[int, ...] | None) -> bool:
        return not self._sole and (place is None or not self._shares)

    async def _wait(self, place: tuple[int, ...] | None) -> None:
        if not self._queue and self._free(place):
            return
        ticket = Ticket(place)
        self._queue.insert(self._position(place), ticket)
        try:
            while True:
                await ticket.called.wait()
                if self._queue[0] is ticket and self._free(place):
                    break
                ticket.called = anyio.Event()
                self._wake()
        except BaseException:
            self._queue.remove(ticket)
            self._wake()
            raise
        self._queue.popleft()
        # Shares that queued behind a share go on together with it.
        if place is None:
            self._wake()

    def _position(self, place: tuple[int, ...] | None) -> int:
        """Return where in the queue a waiter belongs: last, or before a later step."""
        if place is not None:
            for index, other in enumerate(self._queue):
                if other.place is not None and other.place > place:
                    return index
        return len(self._queue)

    def _wake(self) -> None:
        if self._queue and self._free(self._queue[0].place):
            self._queue[0].called.set()


class Held:
    """The lock of work that runs under a sole holder: nothing to wait for."""

    @asynccontextmanager
    async def share(self) -> AsyncGenerator[Share]:
        """Go on at once; whoever holds the tree runs one thing at a time."""
        yield Share()

    @asynccontextmanager
    async def sole(self, place: tuple[int, ...] = ()) -> AsyncGenerator[None]:
        """Go on at once."""
        del place
        yield


Lock = TreeLock | Held
