"""Estimates what the rungs cost for one failure: from history, prices and cache. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runner.economics import Helper, Rates, Work, helped, inline
from runner.frozen import frozen
from runner.history import Line, Tried, odds_of, timetable
from runner.outcome import Rung
from runner.policy import Mid, Outlook

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.price import ClassPrices

VALUE_OF_TIME = Decimal("3.00")
"""USD that an hour of waiting is worth, where the user does not say."""
TURNS = 4
"""Requests that a mend takes, where nobody knows: look, read, edit, answer."""
LATER = 10
"""Turns of the main conversation that come after a packet and read it again."""
PACKET_TOKENS = 1_500
FIXED_TOKENS = 3_000
"""Instructions and tools of an agent."""
FAILED_TOKENS = 300
"""By which a packet is longer after a subagent's failure: what it tried, its best diff."""
_SOME = 3
"""Packets from which on their median cost is believed."""
CHEAP_SECONDS = 30.0
MAIN_SECONDS = 60.0


@frozen(kw_only=True)
class Known:
    """What an outlook is made from."""

    kind: str
    repo: str
    past: Sequence[Tried]
    roles: Mapping[str, str]
    """Model ids of the subagent's roles, the step's first one first."""
    main: str
    prices: Mapping[str, ClassPrices | None]
    """By model id."""
    context: int
    cold: bool
    left_usd: Decimal | None
    value_of_time: Decimal
    irreversible: bool


def outlook_of(known: Known) -> Outlook:
    """Estimate what the choice of a rung is likely to cost."""
    lines = {(line.kind, line.rung, line.model): line for line in timetable(known.past)}
    first, *others = [_mid(known, role, lines) for role in known.roles]
    seen = lines.get((known.kind, Rung.SUBAGENT, next(iter(known.roles.values()))))
    to_main = lines.get((known.kind, Rung.MAIN, known.main))
    rates = _rates(known.prices.get(known.main))
    return Outlook(
        kind=known.kind,
        odds=first.odds,
        cheap_usd=first.usd,
        cheap_seconds=first.seconds,
        main_usd=None if rates is None else _packet(rates, known, to_main),
        main_seconds=to_main.seconds if to_main else MAIN_SECONDS,
        report_usd=Decimal(0) if rates is None else _read_later(rates, FAILED_TOKENS),
        context=known.context,
        cold=known.cold,
        left_usd=known.left_usd,
        value_of_time=known.value_of_time,
        irreversible=known.irreversible,
        usd_from="history" if seen and seen.usd is not None else "estimate",
        mid=tuple(others),
    )


def _mid(known: Known, role: str, lines: Mapping[tuple[str, Rung, str], Line]) -> Mid:
    model = known.roles[role]
    odds = odds_of(known.past, kind=known.kind, model=model, repo=known.repo)
    line = lines.get((known.kind, Rung.SUBAGENT, model))
    rates = _rates(known.prices.get(model))
    usd = line.usd if line else None
    if usd is None and rates is not None:
        usd = helped(rates, Work(context=0, turns=TURNS), Helper(fixed=FIXED_TOKENS))
    return Mid(role=role, odds=odds, usd=usd, seconds=line.seconds if line else CHEAP_SECONDS)


def _packet(main: Rates, known: Known, past: Line | None) -> Decimal:
    """Return what main pays for one packet: its own turns, and its cache where that is gone.

    What packets cost before is believed once there are some, but never less than it costs to read
    the conversation as it is now.
    """
    context = max(known.context, FIXED_TOKENS)
    again = (main.write - main.read) * context if known.cold else Decimal(0)
    if past is not None and past.usd is not None and past.tried >= _SOME:
        return max(past.usd, TURNS * main.read * context + again)
    work = Work(context=context + PACKET_TOKENS, turns=TURNS, later=LATER)
    return inline(main, work) + _read_later(main, PACKET_TOKENS) + again


def _read_later(main: Rates, tokens: int) -> Decimal:
    return (main.write + LATER * main.read) * tokens


def _rates(prices: ClassPrices | None) -> Rates | None:
    if prices is None:
        return None
    return Rates(prices.input, prices.read, prices.write, prices.output)
