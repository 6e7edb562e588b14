"""Says what the run itself would have cost with other models or another retention. Pure.

What attempts of other models would have come to, nobody knows: such a line is an interval, between
they mend all that they are asked to mend, and nothing of it.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import groupby, pairwise
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from runner.cache import FIVE_MINUTES, HOUR, rules_of
from runner.outcome import add_cost
from runner.plan import KEEPALIVE, MAIN
from runner.whatif.lines import Line, as_float, less, usd_of
from runner.whatif.observed import Try
from runner.whatif.work import Packet, packet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.plan import CacheOverride
    from runner.whatif.assume import Assumptions, Prices
    from runner.whatif.observed import Observed, Request

    Facts = dict[str, Any]

Retention = Literal["5m", "1h"]
SECONDS: Mapping[Retention, float] = {"5m": FIVE_MINUTES, "1h": HOUR}
_MARGIN = 20.0
"""Seconds that a keep-alive has to arrive in, as `keepwarm` leaves it of 5 minutes."""
NOTHING = Decimal(0)


# -- other models --------------------------------------------------------------------------------


def with_models(
    seen: Observed, prices: Prices, assume: Assumptions, chosen: Mapping[str, str]
) -> Line:
    """Say what the run would have cost with other models, asked for the same."""
    exact: Decimal | None = NOTHING
    for request in seen.requests:
        exact = add_cost(exact, _repriced(request, prices, chosen))
    tokens = "token counts as the run's models have them, which another's tokenizer may not"
    assumed = [tokens]
    low, high = exact, exact
    if any(role != MAIN for role in chosen):
        low = less(exact, _packets(seen, prices, _asked_steps(seen, chosen), chosen))
        high = add_cost(high, _threatening(seen, prices, assume, chosen))
        assumed.append("between: subagents mend all that they were asked to mend, and nothing")
    if MAIN in chosen:
        high = add_cost(high, _packets(seen, prices, seen.mended, chosen))
        assumed.append("between: each packet mends what it mended, and needs another as dear")
    changed = [one for one in seen.requests if _role(one) in chosen]
    names = ", ".join(f"{role}={model}" for role, model in chosen.items())
    measured = f"tokens by class of {len(changed)} of {len(seen.requests)} requests"
    facts: Facts = {
        "models": dict(chosen),
        "repriced_requests": len(changed),
        "same_outcome_usd": as_float(exact),
    }
    return Line(f"with {names}", low, high, measured, "; ".join(assumed), facts)


def _role(request: Request) -> str:
    """Return whose model answered: keep-alives are main's."""
    return MAIN if request.role == KEEPALIVE else request.role


def _repriced(request: Request, prices: Prices, chosen: Mapping[str, str]) -> Decimal | None:
    """Price a request as another model's; what is too short for its cache is not cached."""
    model = chosen.get(_role(request))
    if model is None:
        return request.usd
    usage = request.usage
    found = prices(model, usage.input_tokens)
    if found is None or not usage.input_tokens:
        return None if found is None else request.usd
    read, write = usage.cache_read_tokens, usage.cache_write_tokens
    hour = usage.cache_write_1h_tokens
    rules = rules_of(model, {})
    if rules is not None and usage.input_tokens < rules.minimum:
        read = write = hour = 0
    plain = usage.input_tokens - read - write
    usd = found.input * plain + found.read * read + found.output * usage.output_tokens
    longer = found.write_1h if rules is None or rules.longer is not None else found.write
    return usd + found.write * (write - hour) + longer * hour


def _packets(
    seen: Observed, prices: Prices, steps: Iterable[str], chosen: Mapping[str, str]
) -> Decimal | None:
    """Return what the packets of some steps would have cost."""
    total: Decimal | None = NOTHING
    for step in steps:
        for request in seen.packets(step):
            total = add_cost(total, _repriced(request, prices, chosen))
    return total


def _threatening(
    seen: Observed, prices: Prices, assume: Assumptions, chosen: Mapping[str, str]
) -> Decimal | None:
    """Return what packets would cost for all that subagents mended."""
    total: Decimal | None = NOTHING
    main = chosen.get(MAIN) or seen.models.get(MAIN) or assume.main
    opened = bool(seen.own)
    for step in _asked_steps(seen, chosen):
        if seen.decided.get(step, {}).get("main_available") and not seen.packets(step):
            work = Packet(step, main, opened=opened)
            total, opened = add_cost(total, packet(seen, prices, assume, work)), True
    return total


def _asked_steps(seen: Observed, chosen: Mapping[str, str]) -> tuple[str, ...]:
    tries = (item for item in seen.items if isinstance(item, Try) and item.role in chosen)
    return tuple(dict.fromkeys(one.step for one in tries))


# -- another retention ---------------------------------------------------------------------------


def with_retention(
    seen: Observed, prices: Prices, retention: Retention, caches: Mapping[str, CacheOverride]
) -> Line:
    """Say what the run would have cost with another retention of main's cache."""
    name = f"with main's cache kept for {retention}"
    rows = sorted((*seen.own, *seen.kept), key=lambda one: one.at)
    if not rows:
        usd = usd_of(seen.requests)
        return Line(name, usd, usd, "main was not asked: nothing changes", "nothing")
    rules = rules_of(rows[0].model, caches)
    offered = () if rules is None else (rules.retention, rules.longer)
    if SECONDS[retention] not in offered:
        why = f"{rows[0].model} offers no retention of {retention}"
        return Line(name, None, None, why, "nothing", {"offered": False})
    own = list(seen.own)
    rest = [one for one in seen.requests if one not in own and one not in seen.kept]
    total, pings, lost = usd_of(rest), 0, 0
    for _, some in groupby(own, key=lambda one: one.conversation):
        usd, pinged, missed = _conversation(list(some), prices, SECONDS[retention])
        total, pings, lost = add_cost(total, usd), pings + pinged, lost + missed
    gaps = [b.at - a.at for a, b in _pairs(own) if a.at and b.at]
    longest = f"{max(gaps, default=0):.0f} s apart at most"
    measured = f"tokens and times of {len(own)} requests of main, {longest}"
    assumed = "a pause longer than the retention costs keep-alives or a re-write, whichever is less"
    facts: Facts = {"retention": retention, "keepalives": pings, "rewrites": lost}
    return Line(name, total, total, measured, assumed, facts)


def _pairs(own: Sequence[Request]) -> list[tuple[Request, Request]]:
    return [(a, b) for a, b in pairwise(own) if a.conversation == b.conversation]


def _conversation(
    own: Sequence[Request], prices: Prices, kept: float
) -> tuple[Decimal | None, int, int]:
    """Price one conversation anew; return its cost, its keep-alives and its re-writes."""
    total, pings, lost, before = NOTHING, 0, 0, None
    for request in own:
        usage = request.usage
        found = prices(request.model, usage.input_tokens)
        if found is None:
            return None, 0, 0
        if not usage.cache_read_tokens and not usage.cache_write_tokens:
            if request.usd is None:
                return None, 0, 0
            total += request.usd
            continue
        write = found.write_1h if kept > FIVE_MINUTES else found.write
        read = usage.cache_read_tokens
        gap = request.at - before.at if before and before.at else 0.0
        if before is not None:
            read = min(before.usage.input_tokens, usage.input_tokens)
        if gap > kept:
            needed = ceil(gap / (kept - _MARGIN)) - 1
            pinged = needed * (found.read * read + found.output)
            rewritten = (write - found.read) * read
            pings, lost = (pings + needed, lost) if pinged < rewritten else (pings, lost + 1)
            total += min(pinged, rewritten)
        plain = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
        written = max(0, usage.input_tokens - read - plain)
        total += found.input * plain + found.read * read + write * written
        total += found.output * usage.output_tokens
        before = request
    return total, pings, lost
