"""Lets commands share the tree and gives it to one writer alone, first come, first served."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@dataclass(slots=True)
class Share:
    """One command's share of the tree."""

    overlapped: bool = False
    """Whether another command ran at any moment of this one."""


@dataclass(slots=True)
class TreeLock:
    """A fair lock: many shares, or one sole holder.

    A sole holder hands `Held()` to the work that it starts itself: that must not wait for it.
    """

    _shares: list[Share] = field(default_factory=list["Share"])
    _sole: bool = False
    _queue: deque[tuple[bool, anyio.Event]] = field(
        default_factory=deque["tuple[bool, anyio.Event]"]
    )

    @asynccontextmanager
    async def share(self) -> AsyncGenerator[Share]:
        """Hold the tree together with other commands."""
        await self._wait(sole=False)
        mine = Share(overlapped=bool(self._shares))
        for other in self._shares:
            other.overlapped = True
        self._shares.append(mine)
        try:
            yield mine
        finally:
            # By identity: two shares compare equal.
            self._shares = [share for share in self._shares if share is not mine]
            self._wake()

    @asynccontextmanager
    async def sole(self) -> AsyncGenerator[None]:
        """Hold the tree alone."""
        await self._wait(sole=True)
        self._sole = True
        try:
            yield
        finally:
            self._sole = False
            self._wake()

    def _free(self, *, sole: bool) -> bool:
        return not self._sole and not (sole and self._shares)

    async def _wait(self, *, sole: bool) -> None:
        if not self._queue and self._free(sole=sole):
            return
        ticket = (sole, anyio.Event())
        self._queue.append(ticket)
        while True:
            try:
                await ticket[1].wait()
            except BaseException:
                self._queue.remove(ticket)
                self._wake()
                raise
            if self._queue[0] is ticket and self._free(sole=sole):
                self._queue.popleft()
                # Shares that queued behind a share go on together with it.
                if not sole:
                    self._wake()
                return
            ticket = (sole, anyio.Event())
            self._queue[0] = ticket

    def _wake(self) -> None:
        if self._queue and self._free(sole=self._queue[0][0]):
            self._queue[0][1].set()


@dataclass(slots=True)
class Held:
    """The lock of work that runs under a sole holder: nothing to wait for."""

    @asynccontextmanager
    async def share(self) -> AsyncGenerator[Share]:
        """Go on at once; whoever holds the tree runs one thing at a time."""
        yield Share()

    @asynccontextmanager
    async def sole(self) -> AsyncGenerator[None]:
        """Go on at once."""
        yield


Lock = TreeLock | Held
