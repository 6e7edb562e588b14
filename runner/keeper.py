"""Keeps main's prompt cache alive while nobody asks it: hears the run, does as `keepwarm` says."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol, assert_never

import anyio

from runner import clock
from runner.ahead import next_ask, pauses_ahead
from runner.events import Decided, Event, ModelResponded
from runner.keepwarm import (
    Ahead,
    Cache,
    Chosen,
    Expire,
    Move,
    Ping,
    Wait,
    choose_retention,
    next_move,
)
from runner.plan import KEEPALIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runner.cache import CacheRules, Sent
    from runner.events import Sink
    from runner.price import ClassPrices
    from runner.progress import Progress

TYPICAL_TOKENS = 20_000
"""Size of a main conversation where nobody knows it yet; all sums are in proportion to it."""
_LAST_MOMENT = 5.0
"""Seconds that the end of a run waits for a keep-alive that is under way."""
_PATIENCE = 60.0
"""Seconds that a keep-alive may take."""


class Kept(Protocol):
    """The conversation whose cache is kept."""

    @property
    def sent(self) -> Sent | None:
        """Its last answered request; `None` while nobody knows."""
        ...

    @property
    def asking(self) -> bool:
        """Whether a request of it is under way."""
        ...

    @property
    def in_turn(self) -> bool:
        """Whether it waits for its own tools: it is surely asked again."""
        ...

    async def keep_alive(self) -> str:
        """Send its last request again; return why that failed, or nothing."""
        ...


class Keeper:
    """Sends keep-alives while main is idle, when and as long as that is cheaper.

        keeper = Keeper(progress, rules=rules, prices=prices, least=1, emit=emit)
        cache = keeper.retention()              # when a conversation opens
        task_group.start_soon(keeper.keep, conversation)
        keeper.hear(event)                      # of every event

    Args:
        progress: What is known of the steps ahead.
        rules: Of the main model's cache; `None` where nothing is known: then nothing is done.
        prices: USD per token by class, for a prompt of so many tokens; `None`: no price is known.
        least: Tokens of the shortest answer that may be asked for.
        emit: Hears what was decided, with its arithmetic.
        stopped: Tells whether nothing new starts in the run any more.
        clock: Seconds, as `Sent.began` has them.
    """

    def __init__(
        self,
        progress: Progress,
        *,
        rules: CacheRules | None,
        prices: Callable[[int], ClassPrices | None],
        least: int,
        emit: Sink,
        stopped: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = clock.seconds,
    ) -> None:
        self._progress, self._rules, self._prices = progress, rules, prices
        self._least, self._emit, self._clock = least, emit, clock
        self._stopped = stopped
        self._news = anyio.Event()
        self._longer = False
        self._spent = Decimal(0)
        self._pings = 0
        self._said = ""
        self._given_up = False
        self._always: set[str] = set()
        self._pinging = anyio.Lock()

    def hear(self, event: Event) -> None:
        """Listen to the run."""
        changed = self._progress.hear(event, time.time())
        if isinstance(event, ModelResponded):
            changed = self._answered(event)
        if changed:
            self._news.set()

    def take_up(self, rows: Iterable[ModelResponded], *, longer: bool) -> None:
        """Go on where an earlier life of the run was.

        Args:
            rows: Its part of the ledger.
            longer: Whether the conversation asks for the longer retention.
        """
        self._longer = longer
        for row in rows:
            self._answered(row)

    def _answered(self, row: ModelResponded) -> bool:
        """Count keep-alives since main was answered; return whether it changed anything."""
        main = row.continuity is not None
        if row.role == KEEPALIVE:
            self._pings += 1
            self._spent += row.cost_usd or 0
        elif main:
            self._pings, self._spent, self._said = 0, Decimal(0), ""
            self._given_up = False
        return main

    def retention(self) -> bool:
        """Decide whether a conversation that opens now asks for the longer retention."""
        chosen = self._choose()
        if chosen is None:
            return False
        self._longer = chosen.retention == "longer"
        which = "longer" if self._longer else "usual"
        self._tell(f"ask for the {which} retention of main's cache", chosen)
        return self._longer

    def would_be_longer(self) -> bool:
        """Tell what `retention` would decide now; nothing is decided, nor recorded."""
        chosen = self._choose()
        return chosen is not None and chosen.retention == "longer"

    def _choose(self) -> Chosen | None:
        """Choose the retention by the steps ahead; `None` where nothing is known of the cache."""
        cache = self._cache(TYPICAL_TOKENS)
        if cache is None:
            return None
        return choose_retention(cache, pauses_ahead(self._progress.later(time.time())))

    async def rest(self) -> None:
        """Send nothing more; wait a moment for what is under way, which is paid for anyway."""
        self._given_up = True
        with anyio.move_on_after(_LAST_MOMENT):
            async with self._pinging:
                pass

    async def keep(self, conversation: Kept) -> None:
        """Send keep-alives until cancelled."""
        while True:
            self._news = anyio.Event()
            move = self._move(conversation)
            match move:
                case None | Expire():
                    await self._news.wait()
                case Wait(after) | Ping(after) if after > 0:
                    with anyio.move_on_after(after):
                        await self._news.wait()
                case Wait():
                    await self._news.wait()
                case Ping():
                    await self._ping(conversation)
                case _:
                    assert_never(move)

    def _move(self, conversation: Kept) -> Move | None:
        """Say what to do now; `None` while there is nothing to decide."""
        sent = conversation.sent
        if sent is None or conversation.asking or self._given_up or self._stopped():
            return None
        cache = self._cache(sent.tokens)
        if cache is None:
            return None
        move = next_move(
            cache,
            self._ahead(conversation),
            idle=self._clock() - sent.began,
            sent=self._pings,
            spent=self._spent,
            retention="longer" if self._longer else "default",
        )
        self._record(move)
        return move

    def _record(self, move: Move) -> None:
        """Record what is done, and what is not done although main may be asked again."""
        match move:
            case Ping(after) if after <= 0:
                self._tell("keep main's cache alive", move)
            case Expire(reason) if move.always:
                # Said once: it holds as long as the conversation is as it is.
                if reason not in self._always:
                    self._always.add(reason)
                    self._tell("let main's cache expire", move)
            case Expire() if move.facts.get("use"):
                self._tell("let main's cache expire", move)
            case _:
                pass

    def _ahead(self, conversation: Kept) -> Ahead:
        return next_ask(self._progress.steps(time.time(), in_turn=conversation.in_turn))

    async def _ping(self, conversation: Kept) -> None:
        """Send one; after one that failed, none before main itself was answered."""
        failed = f"no answer in {_PATIENCE:.0f} s"
        async with self._pinging:
            with anyio.move_on_after(_PATIENCE):
                failed = await conversation.keep_alive()
        if failed:
            self._given_up = True
            self._emit(Decided("", "let main's cache expire", f"a keep-alive failed: {failed}"))

    def _cache(self, tokens: int) -> Cache | None:
        rules, prices = self._rules, self._prices(tokens)
        if rules is None or prices is None:
            return None
        longer = None if rules.longer is None else prices.write_1h
        return Cache(
            read=prices.read,
            write=prices.write,
            write_longer=longer,
            retention=rules.retention,
            longer=rules.longer,
            tokens=tokens,
            ping_output=prices.output * self._least,
            minimum=rules.minimum,
            promised=rules.promised,
        )

    def _tell(self, words: str, what: Move | Chosen) -> None:
        """Record a decision with its arithmetic, once in a pause."""
        if words != self._said:
            self._said = words
            self._emit(Decided("", words, what.reason, what.facts))
