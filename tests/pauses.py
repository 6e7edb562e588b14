"""Plays pauses of the main conversation against a cache that expires by the clock.

It shares no code with what it judges: prices typed in by hand, lifetimes counted from the start of
a request, an entry dead from its last second on. Whoever keeps the cache is a function that is told
what a keeper can know, and says when to ping. The best in hindsight is worked out, not played: it
pings in the very last moment, which nobody could do for certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from runner.keepwarm import Ahead, Cache, Ping, Wait, choose_retention, next_move

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.keepwarm import Retention

MILLION = Decimal(1_000_000)
MINUTE = 60.0
CONTEXTS = (20_000, 50_000, 100_000, 200_000)
PAUSES = (1, 2, 4, 6, 10, 20, 30, 45, 60, 90, 120)
"""Minutes, as they are shown; the proofs take every minute."""


@dataclass(frozen=True, slots=True)
class Vendor:
    """What a model's page says: USD per million tokens, minutes."""

    read: str
    write: str
    longer: str | None
    output: str
    minutes: int
    longer_minutes: int | None


MODELS = {
    "claude-opus-5-5": Vendor("0.20", "5", "8", "20", 5, 60),
    "claude-fable-5-2": Vendor("0.20", "10", "16", "40", 5, 60),
    "claude-opus-4-8": Vendor("0.50", "6.25", "10", "25", 5, 60),
    "gpt-6.1-sol": Vendor("0.10", "2.5", None, "10", 30, None),
}
SMALLEST = {"claude": 1, "gpt": 16}
"""Tokens of the shortest answer that may be asked for."""


def cache_of(name: str, tokens: int) -> Cache:
    """What the runner would know of a model and a context."""
    model = MODELS[name]
    smallest = SMALLEST[name.split("-", maxsplit=1)[0]]
    return Cache(
        read=Decimal(model.read) / MILLION,
        write=Decimal(model.write) / MILLION,
        write_longer=None if model.longer is None else Decimal(model.longer) / MILLION,
        retention=model.minutes * MINUTE,
        longer=None if model.longer_minutes is None else model.longer_minutes * MINUTE,
        tokens=tokens,
        ping_output=Decimal(model.output) / MILLION * smallest,
    )


@dataclass(frozen=True, slots=True)
class Bill:
    """What one conversation with one pause costs in USD."""

    opening: Decimal
    """Writing the prefix for the first time, for the retention that was asked for."""
    pings: int
    pinged: Decimal
    """All pings, re-writes by those that came too late among them."""
    next: Decimal
    """Reading the prefix after the pause, or writing it anew."""
    dearer: Decimal
    """The part of `opening` that the longer retention was dearer by."""

    @property
    def whole(self) -> Decimal:
        """From the first request to the one after the pause."""
        return self.opening + self.pinged + self.next

    @property
    def pause(self) -> Decimal:
        """What the pause makes dearer or cheaper: pings, the next request, the longer retention."""
        return self.pinged + self.next + self.dearer


@dataclass(frozen=True, slots=True)
class Known:
    """What a keeper knows when it is asked what to do."""

    now: float
    """Seconds since the pause began, which is when the request before it started."""
    idle: float
    pings: int
    pinged: Decimal


if TYPE_CHECKING:
    Keeper = Callable[[Known], float | None]
    """Says in how many seconds to ping next; `None` is never."""
    Late = Callable[[int], float]
    """Seconds by which a ping is late, the first one being number 0."""


def on_time(_: int) -> float:
    """Start every ping when it is planned."""
    return 0.0


def play(
    cache: Cache,
    seconds: float,
    keeper: Keeper,
    *,
    retention: Retention = "default",
    late: Late = on_time,
) -> Bill:
    """Play one pause.

    Args:
        cache: Prices, lifetimes and size.
        seconds: From the start of the request before it to the start of the one after it.
        keeper: Asked at the beginning and after every ping.
        retention: What the conversation asked for.
        late: Seconds by which a ping starts later than planned.
    """
    short, long = cache.write * cache.tokens, (cache.write_longer or Decimal(0)) * cache.tokens
    life, write = cache.retention, short
    if retention == "longer":
        assert cache.longer is not None, "only where it can be asked for"
        life, write = cache.longer, long
    read = cache.read * cache.tokens
    used, pings, pinged = 0.0, 0, Decimal(0)
    while True:
        after = keeper(Known(used, 0.0, pings, pinged))
        if after is None:
            break
        after += late(pings)
        if used + after >= seconds:
            break
        alive = after < life
        used += after
        pings += 1
        pinged += (read if alive else write) + (cache.ping_output or 0)
    return Bill(write, pings, pinged, read if seconds - used < life else write, write - short)


def never(_: Known) -> None:
    """Let it expire."""


def always(cache: Cache) -> Keeper:
    """Ping for ever, shortly before each expiry."""
    after = cache.retention - min(30.0, cache.retention / 15)
    return lambda _: after


def runner(cache: Cache, seconds: float, *, known: bool, late: Late = on_time) -> Bill:
    """Play the runner's choice, told the length of the pause or not."""
    chosen = choose_retention(cache, [Ahead(seconds if known else None)])

    def told(now: float) -> Ahead:
        return Ahead(seconds - now if known else None)

    keeper = _by_moves(cache, seconds, told, chosen.retention)
    return play(cache, seconds, keeper, retention=chosen.retention, late=late)


def overdue(cache: Cache, seconds: float) -> Bill:
    """Play the runner that is told at every moment of the pause that main is asked now."""
    return play(cache, seconds, _by_moves(cache, seconds, lambda _: Ahead(0.0), "default"))


def _by_moves(
    cache: Cache, seconds: float, told: Callable[[float], Ahead], retention: Retention
) -> Keeper:
    """Follow the runner's moves, who looks again after each wait."""

    def keeper(now: Known) -> float | None:
        waited = 0.0
        while now.now + waited < seconds:
            move = next_move(
                cache,
                told(now.now + waited),
                idle=now.idle + waited,
                sent=now.pings,
                spent=now.pinged,
                retention=retention,
            )
            match move:
                case Wait(after):
                    waited += after
                case Ping(after):
                    return waited + after
                case _:
                    return None
        return None

    return keeper


Hindsight = Literal["anything", "from the pause on"]


def best(cache: Cache, seconds: float, hindsight: Hindsight = "anything") -> Bill:
    """Return the cheapest bill that somebody could have had who knew how long the pause is.

    Of expiring, as many pings as it takes, and, with `anything`, the longer retention asked for
    when the conversation opened, with and without pings of its own.
    """
    read, output = cache.read * cache.tokens, cache.ping_output or Decimal(0)
    bills: list[Bill] = []
    short = cache.write * cache.tokens
    terms = [(cache.retention, short)]
    if hindsight == "anything" and cache.longer is not None and cache.write_longer is not None:
        terms.append((cache.longer, cache.write_longer * cache.tokens))
    for life, write in terms:
        # Each ping may start as near to the expiry as one likes, but not at it.
        pings = int(seconds // life)
        dearer = write - short
        bills.append(Bill(write, pings, pings * (read + output), read, dearer))
        if pings:
            bills.append(Bill(write, 0, Decimal(0), write, dearer))
    return min(bills, key=lambda bill: bill.whole)
