"""Virtual time: a loop that jumps to its next timer, in an order of turns that a seed gives.

`install` must run before the product is imported: some of its classes bind the clock.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

_REAL = {name: getattr(time, name) for name in ("time", "monotonic", "time_ns", "monotonic_ns")}
_loops: list[VirtualLoop] = []


class Stuck(BaseException):
    """Raised when nothing can ever happen again."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only when nothing is ready."""

    def __init__(self, now: float, chance: random.Random) -> None:
        self.now = now
        self.chance = chance
        self.turns = 0
        super().__init__()
        self._clock_resolution = 1e-6  # floats of today's epoch are no finer
        _loops.append(self)

    def time(self) -> float:
        return self.now

    def close(self) -> None:
        super().close()
        _loops.remove(self)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  a thread hands over any
            done.set_exception(error)
        return done

    def _run_once(self) -> None:
        self.turns += 1
        if self.turns > 300_000:
            raise Stuck("it goes round in circles")
        parts: Any = self
        parts._process_events(parts._selector.select(0))
        if len(parts._ready) > 1:
            ready = list(parts._ready)
            self.chance.shuffle(ready)
            parts._ready = deque(ready)
        if not parts._ready:
            self._jump(parts)
        super()._run_once()  # type: ignore[misc]  private in typeshed, the only way in

    def _jump(self, parts: Any) -> None:
        timers = parts._scheduled
        while timers and timers[0]._cancelled:
            parts._timer_cancelled_count -= 1
            heapq.heappop(timers)._scheduled = False
        if not timers:
            raise Stuck("everybody waits, and no timer is set")
        self.now = max(self.now, timers[0]._when)


def _now(name: str) -> float:
    if not _loops:
        return _REAL[name]()
    now = _loops[-1].now
    return int(now * 1e9) if name.endswith("_ns") else now


def install() -> None:
    """Let the standard library's clocks tell the time of the loop that runs, where one does.

    Work for threads is done on the spot: there is nothing to wait for, and order stays the seed's.
    """
    for name in _REAL:
        setattr(time, name, lambda name=name: _now(name))
    real = time.clock_gettime
    time.clock_gettime = lambda clock: _loops[-1].now if _loops else real(clock)

    from anyio._backends import _asyncio
    from anyio._core._eventloop import threadlocals
    from anyio.lowlevel import current_token

    async def inline(
        cls: Any,
        func: Callable[..., Any],
        args: Any,
        abandon_on_cancel: bool = False,
        limiter: Any = None,
    ) -> Any:
        del abandon_on_cancel, limiter
        await cls.checkpoint()
        threadlocals.current_token = current_token()
        return func(*args)

    def direct(cls: Any, func: Callable[..., Any], args: Any, token: object) -> Any:
        del cls, token
        return func(*args)

    backend: Any = _asyncio.AsyncIOBackend
    backend.run_sync_in_worker_thread = classmethod(inline)
    backend.run_sync_from_thread = classmethod(direct)
