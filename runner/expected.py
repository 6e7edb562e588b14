"""Decides whom to ask first by expected cost, minutes priced. Pure, like every policy.

Compared are the orders in which a failure may go up: the subagent, then main; a further subagent's
model between them or instead, where the step names one; main at once. A rung is paid for as often
as all before it fail: c + (1 - q)(what comes after), q the chance that it mends. That is how boxes
are opened in Weitzman, "Optimal Search for the Best Alternative" (Econometrica 47, 1979).

Only whom to ask first is decided so. Once an attempt went wrong, what came of it says more than any
average: the ladder decides whether its rung is left.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from itertools import combinations
from typing import TYPE_CHECKING, Any

from runner.frozen import frozen
from runner.policy import AskMain, AskSubagent, GiveUp, ladder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.history import Odds
    from runner.plan import PolicyName
    from runner.policy import Move, Outlook, Policy, Situation

    Facts = dict[str, Any]

_HOUR = 3_600
_FIRST = "subagent"
"""What the facts call the step's own subagent; a further one goes by its role."""


@frozen
class _Rung:
    """One subagent's model that can be asked."""

    name: str
    role: str
    """As a move names it; empty is the step's first."""
    odds: Odds
    chance: Decimal
    """That it mends: the lower bound where a wrong pass cannot be taken back."""
    usd: Decimal | None
    seconds: Decimal


@frozen
class _Order:
    """Who is asked one after the other, main last; and what that is expected to come to."""

    rungs: tuple[_Rung, ...]
    paid: Decimal
    """USD for models."""
    seconds: Decimal
    total: Decimal
    """USD, minutes priced."""

    @property
    def words(self) -> str:
        """What people call it, and the facts with underscores."""
        names = [rung.name for rung in self.rungs]
        return " then ".join([*names, "main"]) if names else "main at once"


def expected_cost(now: Situation) -> Move:
    """Choose whom to ask first by expected cost; whatever cannot be compared goes as by `ladder`.

    That is so without history of the subagent's model, where a price is unknown, where main cannot
    be asked, and after a soft attempt. `facts` of the move hold all inputs, sums and the choice.
    """
    move = ladder(now)
    if not isinstance(move, AskSubagent) or _goes_on(now, move):
        return _as_ladder(move, "the attempts so far decide" if now.attempts else move.reason)
    if now.outlook is None:
        return _as_ladder(move, "nobody estimated the costs")
    outlook, rungs = now.outlook, _rungs(now, move, now.outlook)
    facts = _inputs(outlook, rungs)
    if not _asks_main(now):
        return _as_ladder(move, "main cannot be asked", facts)
    orders = _orders(rungs, outlook, failed=bool(now.attempts))
    if not orders:
        return _as_ladder(move, "a price is unknown", facts)
    return _decided(move, orders, outlook, facts)


def main_first(now: Situation) -> Move:
    """Ask main at once wherever it can be asked at all; for comparison."""
    move = ladder(now)
    if isinstance(move, AskSubagent) and _asks_main(now):
        return AskMain(f"{move.reason}; the policy is to ask main at once")
    return move


def cheap_only(now: Situation) -> Move:
    """Ask subagents only, and leave undone what they cannot mend; for comparison."""
    move = ladder(now)
    if isinstance(move, AskMain):
        return GiveUp(f"{move.reason}; the policy is never to ask main")
    return move


POLICIES: Mapping[str, Policy] = {
    "expected-cost": expected_cost,
    "ladder": ladder,
    "main": main_first,
    "cheap": cheap_only,
}
"""By the names that the command line and the configuration know them by."""


def policy_of_run(name: PolicyName) -> Policy:
    """Return a policy by its name; whoever set another than the default reads that in the record.

    `choice` among the facts of each step's first decision names it.
    """
    policy = POLICIES[name]
    if policy is expected_cost:
        return policy

    def told(now: Situation) -> Move:
        move = policy(now)
        if now.attempts:
            return move
        return replace(move, facts={"choice": f"as by {name}: that policy is set", **move.facts})

    return told


def _goes_on(now: Situation, move: AskSubagent) -> bool:
    """Tell whether the move asks once more who was asked already."""
    return bool(now.attempts) and (not move.role or any(a.role == move.role for a in now.attempts))


def _asks_main(now: Situation) -> bool:
    return now.main and now.escalate is not None and now.escalate.max > 0


def _as_ladder(move: Move, why: str, facts: Facts | None = None) -> Move:
    return replace(move, facts={"choice": f"as by ladder: {why}", **(facts or {})})


def _rungs(now: Situation, move: AskSubagent, outlook: Outlook) -> list[_Rung]:
    """Return who can be asked before main, from the move's rung on: nobody is asked twice."""

    def one(role: str, odds: Odds, usd: Decimal | None, seconds: float) -> _Rung:
        chance = odds.low if outlook.irreversible else odds.chance
        return _Rung(role or _FIRST, role, odds, _exact(chance, 6), usd, _exact(seconds, 1))

    then = now.fix.then if now.fix and now.mid else None
    mid = [one(m.role, m.odds, m.usd, m.seconds) for m in outlook.mid if m.role == then]
    if move.role:
        return mid
    return [one("", outlook.odds, outlook.cheap_usd, outlook.cheap_seconds), *mid]


def _orders(rungs: Sequence[_Rung], outlook: Outlook, *, failed: bool) -> list[_Order]:
    """Sum up each order, the ladder's first; nothing where a price is unknown."""
    if not rungs or outlook.main_usd is None or any(rung.usd is None for rung in rungs):
        return []
    sizes = range(len(rungs), -1, -1)
    chosen = (some for size in sizes for some in combinations(rungs, size))
    return [_order(some, outlook, failed=failed) for some in chosen]


def _order(rungs: tuple[_Rung, ...], outlook: Outlook, *, failed: bool) -> _Order:
    """Sum up one order; `failed`: there is a subagent's failure to read of in any case."""
    assert outlook.main_usd is not None, "only known prices are compared"
    paid = outlook.main_usd + (outlook.report_usd if rungs or failed else 0)
    seconds = _exact(outlook.main_seconds, 1)
    for rung in reversed(rungs):
        assert rung.usd is not None, "only known prices are compared"
        paid = rung.usd + (1 - rung.chance) * paid
        seconds = rung.seconds + (1 - rung.chance) * seconds
    return _Order(rungs, paid, seconds, paid + outlook.value_of_time * seconds / _HOUR)


def _decided(move: AskSubagent, orders: Sequence[_Order], outlook: Outlook, facts: Facts) -> Move:
    """Choose the order with the least sum; of equal ones the first, which asks the cheaper rung."""
    allowed = [one for one in orders if not _barred(one, orders[0], outlook)]
    best = min(allowed, key=lambda one: one.total)
    least = min(orders, key=lambda one: one.total)
    others = [one for one in orders if one not in (best, least)]
    choice = f"{best.words} ({best.total:.4f} USD, minutes priced)"
    if least is not best:
        barred = _barred(least, orders[0], outlook)
        choice += f", though {least.words} ({least.total:.4f}) is expected to cost less: {barred}"
    if others:
        choice += "; " + ", ".join(f"{one.words} {one.total:.4f}" for one in others)
    facts = {"choice": choice, **_sums(orders), **_needed(orders, outlook), **facts}
    if not best.rungs:
        return AskMain(f"{move.reason}; main at once is expected to cost less", facts)
    return AskSubagent(move.reason, facts, best.rungs[0].role)


def _barred(order: _Order, ladder_order: _Order, outlook: Outlook) -> str:
    """Say why an order is not to be chosen though it may cost least; empty when it is."""
    unseen = [r.name for r in ladder_order.rungs if r not in order.rungs and not r.odds.known]
    if unseen:
        return f"nothing was seen of {unseen[0]} yet"
    left, needed = outlook.left_usd, outlook.main_usd
    if not order.rungs and left is not None and needed is not None and needed > left:
        return "the budget left does not cover a packet to main"
    return ""


def _sums(orders: Sequence[_Order]) -> Facts:
    facts: Facts = {}
    for order in orders:
        name = order.words.replace(" ", "_")
        facts[f"{name}_usd"] = _usd(order.total)
        facts[f"{name}_paid_usd"] = _usd(order.paid)
        facts[f"{name}_seconds"] = float(round(order.seconds, 1))
    return facts


def _needed(orders: Sequence[_Order], outlook: Outlook) -> Facts:
    """Return above which chance each rung, and main after it, costs less than main at once."""
    at_once, facts = orders[-1], dict[str, Any]()
    for order in orders:
        if len(order.rungs) != 1:
            continue
        (rung,) = order.rungs
        never = _order((replace(rung, chance=Decimal(0)),), outlook, failed=True)
        surely = _order((replace(rung, chance=Decimal(1)),), outlook, failed=True)
        if never.total > surely.total:
            needed = (never.total - at_once.total) / (never.total - surely.total)
            facts[f"{rung.name}_chance_needed"] = float(
                round(min(max(needed, Decimal(0)), Decimal(1)), 4)
            )
    return facts


def _inputs(outlook: Outlook, rungs: Sequence[_Rung]) -> Facts:
    """Return what was compared, for the record; money in USD as text."""
    facts: Facts = {}
    for rung in rungs:
        facts |= _of_rung(rung)
    return facts | {
        "subagent_usd_from": outlook.usd_from,
        "chance_taken": "the lower bound: irreversible" if outlook.irreversible else "the mean",
        "main_usd": _usd(outlook.main_usd),
        "main_seconds": round(outlook.main_seconds, 1),
        "main_context_tokens": outlook.context,
        "main_cache": _cache(outlook),
        "report_usd": _usd(outlook.report_usd),
        "left_usd": "no budget" if outlook.left_usd is None else _usd(outlook.left_usd),
        "value_of_time_usd_per_hour": str(outlook.value_of_time),
    }


def _of_rung(rung: _Rung) -> Facts:
    name, odds = rung.name, rung.odds
    return {
        f"{name}_usd": _usd(rung.usd),
        f"{name}_seconds": float(rung.seconds),
        f"{name}_mended": round(odds.mended, 2),
        f"{name}_failed": round(odds.failed, 2),
        f"{name}_seen_elsewhere": round(odds.elsewhere, 2),
        f"{name}_chance": round(odds.chance, 4),
        f"{name}_chance_low": round(odds.low, 4),
        f"{name}_chance_high": round(odds.high, 4),
    }


def _cache(outlook: Outlook) -> str:
    if not outlook.context:
        return "main is not open"
    return "gone" if outlook.cold else "warm"


def _exact(value: float, digits: int) -> Decimal:
    return Decimal(str(round(value, digits)))


def _usd(amount: Decimal | None) -> str:
    return "unknown" if amount is None else f"{amount:.6f}"
