"""Decides whether the main's cache is kept alive while the main agent is not asked. Pure.

A prompt cache forgets a conversation minutes after its last request, and to write it anew is the
largest cost there is. It may expire; keep-alive requests may read it, which begins its time anew;
or the conversation asks for a longer retention when it opens, and every write is dearer. That is
chosen once: what is read is not written again, so that an entry keeps the retention it was written
for (platform.claude.com/docs/en/build-with-claude/prompt-caching, "Mixing different TTLs").

Where the length of a pause is known, the cheapest is chosen. Where it is not, pings go on until
they have cost the re-write, as in the ski rental. Pings and the next request then cost at most
twice the least that expiring or any number of pings would have, and at published prices 8 % for the
margin before an expiry. The longer retention, which can no longer be had when a pause begins, may
in hindsight have cost a third of that; the whole bill is within twice the best even so.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING, Literal, get_args

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Facts = Mapping[str, str | float]

Retention = Literal["default", "longer"]
PingReason = Literal[
    "pings until then cost less than a re-write",
    "length unknown: pings so far cost less than a re-write",
    "main is overdue: pings so far cost less than a re-write",
]
NeverReason = Literal[
    "too short to be cached",
    "a re-write costs no more than a read",
    "the provider promises no retention",
    "the model's rules allow no keep-alive request",
    "nobody knows what its cache costs",
]
"""What holds in every pause. The last is for who has no `Cache` to ask about."""
LetGoReason = Literal[
    "main is not asked again",
    "it has expired, or would before a ping arrives",
    "a re-write costs no more than pings until then",
    "with one more, pings would cost more than a re-write",
    "two pings have missed the cache",
]

NOTHING = Decimal(0)
_MARGIN_PARTS = 15
"""One part in fifteen of a retention is left for a ping to arrive in: 20 seconds of 5 minutes."""
_MOST_MARGIN = 30.0
_TIGHT = 0.3
"""Part of the margin that is always left. The rest is spent where that spares a ping: a read saved
at once is worth more than a re-write in the rare case that a ping takes so long to arrive."""
_LATE = 0.15
"""Part of the margin that is left to somebody who woke up late: what expires is surely lost."""
_ROUNDING = 0.015
"""Gaps that are longer by this part of the margin need no other ping: clocks are not exact."""
_NEVER: frozenset[str] = frozenset(get_args(NeverReason))


@frozen(kw_only=True)
class Cache:
    """What the main's cache costs; prices in USD per token, lifetimes in seconds."""

    read: Decimal
    write: Decimal
    write_longer: Decimal | None
    """For the longer retention; `None` where it cannot be asked for."""
    retention: float
    """How long an entry lives, counted from the START of the last request that used it."""
    longer: float | None
    """The longer retention that can be asked for; `None` where there is none."""
    tokens: int
    """Size of the prefix that would have to be written anew."""
    ping_output: Decimal | None
    """USD for the smallest legal answer; `None` where the model's rules allow no keep-alive."""
    minimum: int = 0
    """Tokens that a prefix must have to be cached at all."""
    promised: bool = True
    """Whether the provider promises the retention; else an entry may go at any time."""


@frozen
class Ahead:
    """What is known of a pause: the time until main is asked next, and whether it is at all."""

    seconds: float | None
    """From now; `None` where nobody knows, 0 where main waits for nothing but its turn."""
    use: float = 1.0
    """Chance, from 0 to 1, that main is asked again at all."""


@frozen
class Chosen:
    """The retention that the conversation asks for, and why."""

    retention: Retention
    reason: str
    facts: Facts


@frozen
class Ping:
    """Send a keep-alive request in `after` seconds, unless something else is known by then."""

    after: float
    reason: PingReason
    facts: Facts


@frozen
class Wait:
    """Send nothing now: main is expected in time. Look again in `after` seconds."""

    after: float
    reason: Literal["main is asked before its cache expires"]
    facts: Facts


@frozen
class Expire:
    """Let the cache go; nothing is to be done in this pause, unless its length is known anew."""

    reason: NeverReason | LetGoReason
    facts: Facts

    @property
    def always(self) -> bool:
        """Whether no pause matters: nothing can be done for a conversation of this size."""
        return self.reason in _NEVER


Move = Ping | Wait | Expire


@frozen
class _Terms:
    """What holds under one retention; money in USD for the whole prefix."""

    kept: float
    gap: float
    """Seconds between the starts of two requests that are safe."""
    tight: float
    """The most that is dared where it spares a ping."""
    latest: float
    """The most after which a ping is still worth a try."""
    rounding: float
    """Seconds that do not matter."""
    read: Decimal
    write: Decimal
    ping: Decimal | None


def choose_retention(cache: Cache, pauses: Iterable[Ahead]) -> Chosen:
    """Choose what the conversation asks for; made once, when it opens.

    The dearer write is paid for every token, whether a pause comes or not, so only pauses of known
    length speak for it. All sums are in proportion to the tokens: the size need not be known well.

    Args:
        cache: With `tokens` as expected in the pauses.
        pauses: All that the conversation will have, as `pauses_ahead` tells.
    """
    default, longer = _default(cache), _longer(cache)
    if longer is None:
        return Chosen("default", "no longer retention can be asked for", {})
    known = [pause for pause in pauses if pause.seconds is not None]
    short = sum((_cheapest(default, pause) for pause in known), NOTHING)
    premium = longer.write - default.write
    long = premium + sum((_cheapest(longer, pause) for pause in known), NOTHING)
    facts: Facts = {
        "tokens": cache.tokens,
        "pauses_known": len(known),
        "pauses_seconds": round(sum(pause.seconds or 0.0 for pause in known), 1),
        "default_seconds": default.kept,
        "default_usd": _usd(short),
        "longer_seconds": longer.kept,
        "longer_premium_usd": _usd(premium),
        "longer_usd": _usd(long),
    }
    if long < short:
        return Chosen("longer", "dearer writes cost less than the pauses ahead would", facts)
    if not known:
        why = "no pause is known yet; dearer writes are not paid for on a guess"
        return Chosen("default", why, facts)
    return Chosen("default", "dearer writes cost no less than the pauses ahead", facts)


def next_move(
    cache: Cache,
    ahead: Ahead,
    *,
    idle: float,
    sent: int,
    spent: Decimal,
    retention: Retention = "default",
) -> Move:
    """Say what to do now that main is not being asked.

    To be asked again when a request of main or a ping has ended, when what is known of the steps
    ahead changes, and when the time that the last move names is over.

    Args:
        cache: With the size that it has now.
        ahead: What is known of the time until main is asked.
        idle: Seconds since the last request of the conversation STARTED, a ping too.
        sent: Pings of this pause.
        spent: What they cost, in USD.
        retention: What the conversation asked for when it opened.
    """
    terms = (_longer(cache) if retention == "longer" else None) or _default(cache)
    facts = _facts(cache, terms, ahead)
    facts |= {"idle_seconds": round(idle, 1), "pings_sent": sent, "pings_spent_usd": _usd(spent)}
    never = _never(cache, terms, ahead, idle)
    if never is not None:
        return Expire(never, facts)
    assert terms.ping is not None, "a reason never to ping"
    due = max(0.0, terms.gap - idle)
    needed, pings = 0, terms.ping
    reason: PingReason = "length unknown: pings so far cost less than a re-write"
    if ahead.seconds is not None:
        reason = "main is overdue: pings so far cost less than a re-write"
        needed, due = _plan(terms, idle, ahead.seconds)
        if needed == 0 and due > 0.0:
            return Wait(due, "main is asked before its cache expires", facts)
    if needed:
        reason = "pings until then cost less than a re-write"
        pings, lost = needed * terms.ping, _lost(terms, ahead)
        facts |= {"pings_needed": needed, "pings_usd": _usd(pings), "expire_usd": _usd(lost)}
        if pings >= lost:
            return Expire("a re-write costs no more than pings until then", facts)
    limit = _limit(terms, ahead)
    facts["pings_limit_usd"] = _usd(limit)
    # One that came too late wrote the cache anew, which is paid and of use: that does not count.
    planned = sent * terms.ping
    if spent - planned > _exact(1.5) * (terms.write - terms.read):
        return Expire("two pings have missed the cache", facts)
    if min(spent, planned) + pings >= limit:
        return Expire("with one more, pings would cost more than a re-write", facts)
    return Ping(due, reason, facts)


def _default(cache: Cache) -> _Terms:
    return _terms(cache, cache.retention, cache.write)


def _longer(cache: Cache) -> _Terms | None:
    if cache.longer is None or cache.write_longer is None or not cache.promised:
        return None
    return _terms(cache, cache.longer, cache.write_longer)


def _terms(cache: Cache, kept: float, write: Decimal) -> _Terms:
    read = cache.read * cache.tokens
    ping = None if cache.ping_output is None else read + cache.ping_output
    # For latency, and for one more try.
    margin = min(_MOST_MARGIN, kept / _MARGIN_PARTS)
    return _Terms(
        kept=kept,
        gap=kept - margin,
        tight=kept - _TIGHT * margin,
        latest=kept - _LATE * margin,
        rounding=_ROUNDING * margin,
        read=read,
        write=write * cache.tokens,
        ping=ping,
    )


def _facts(cache: Cache, terms: _Terms, ahead: Ahead) -> dict[str, str | float]:
    """Return the arithmetic of a move, for the record."""
    return {
        "tokens": cache.tokens,
        "minimum_tokens": max(cache.minimum, 1),
        "retention_seconds": terms.kept,
        "ping_every_seconds": round(terms.gap, 3),
        "read_usd": _usd(terms.read),
        "write_usd": _usd(terms.write),
        "ping_usd": "none" if terms.ping is None else _usd(terms.ping),
        "ahead_seconds": "unknown" if ahead.seconds is None else round(ahead.seconds, 1),
        "use": round(ahead.use, 3),
    }


def _never(
    cache: Cache, terms: _Terms, ahead: Ahead, idle: float
) -> NeverReason | LetGoReason | None:
    """Say why no ping can be of use, what is for always first; `None` when one can."""
    if cache.tokens < max(cache.minimum, 1):
        return "too short to be cached"
    if terms.write <= terms.read:
        return "a re-write costs no more than a read"
    if not cache.promised:
        return "the provider promises no retention"
    if terms.ping is None:
        return "the model's rules allow no keep-alive request"
    if ahead.use <= 0.0:
        return "main is not asked again"
    if idle > terms.latest:
        return "it has expired, or would before a ping arrives"
    return None


def _plan(terms: _Terms, idle: float, seconds: float) -> tuple[int, float]:
    """Return how many pings keep an entry until main is asked, and when to look at it again."""
    safe, daring = (_needed(gap, idle, seconds, terms.rounding) for gap in (terms.gap, terms.tight))
    if daring == 0:
        # Not before main should have been asked: whoever waits would ask again and again.
        due = max(terms.gap - idle, seconds)
        # One that is overdue asks any moment: a ping just before it would be for nothing.
        return 0, due if due > 0.0 else max(0.0, terms.tight - idle)
    if daring == safe:
        return safe, max(0.0, terms.gap - idle)
    # One is spared, so that the gaps are between the two; even ones leave the most margin.
    return daring, max(0.0, min(terms.tight, (idle + seconds) / (daring + 1)) - idle)


def _needed(gap: float, idle: float, seconds: float, rounding: float) -> int:
    """Count the pings, each after a whole gap, that keep an entry until main is asked."""
    if idle + seconds <= gap + rounding:
        return 0
    after_first = seconds - max(0.0, gap - idle)
    return max(1, ceil((after_first - rounding) / gap))


def _limit(terms: _Terms, pause: Ahead) -> Decimal:
    """Return what pings may cost in one pause, whatever is believed of its length, in USD.

    The re-write, as often as it is likely to be paid, and half a ping to round to whole ones.
    """
    return terms.write * _exact(pause.use) + (terms.ping or NOTHING) / 2


def _lost(terms: _Terms, pause: Ahead) -> Decimal:
    """Return what an expired entry is likely to cost beyond a read, in USD."""
    return max(NOTHING, (terms.write - terms.read) * _exact(pause.use))


def _cheapest(terms: _Terms, pause: Ahead) -> Decimal:
    """Return what a pause of known length costs beyond the read after it, in USD."""
    assert pause.seconds is not None, "only pauses of known length are compared"
    needed, _ = _plan(terms, 0.0, pause.seconds)
    if needed == 0:
        return NOTHING
    lost = _lost(terms, pause)
    return lost if terms.ping is None else min(needed * terms.ping, lost)


def _exact(share: float) -> Decimal:
    return Decimal(str(share))


def _usd(amount: Decimal) -> str:
    return f"{amount:.6f}"
