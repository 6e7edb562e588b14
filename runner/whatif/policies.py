"""Says what the run would have cost, had another policy chosen whom to ask first. Pure.

Each first choice is made again, by the policy itself, on what the record of the run's own choice
holds. What was tried then is known; what was not is an interval, between it mends and it does not.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner import economics
from runner.economics import Helper, Work
from runner.expected import POLICIES
from runner.history import Odds
from runner.outcome import Failure, Fingerprint, Phase, Rung, add_cost
from runner.plan import CHEAP, MAIN, Escalate, Fix
from runner.policy import AskMain, AskSubagent, Outlook, Situation
from runner.whatif.lines import Line, less, usd_of
from runner.whatif.work import Packet, packet, rates_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.plan import PolicyName
    from runner.policy import Move
    from runner.whatif.assume import Assumptions, Prices
    from runner.whatif.observed import Observed

    Facts = dict[str, Any]
    Between = tuple[Decimal | None, Decimal | None]

NOTHING = Decimal(0)
_NONE = Failure(Fingerprint("", Phase.RUN, frozenset()), None, timed_out=False, tail="", files=())


def with_policy(seen: Observed, prices: Prices, assume: Assumptions, policy: PolicyName) -> Line:
    """Say what the run would have cost by another policy."""
    low = high = usd_of(seen.requests)
    first: dict[str, str] = {}
    why: dict[str, str] = {}
    same: list[str] = []
    opened = bool(seen.own)
    for step, decided in seen.decided.items():
        move = POLICIES[policy](_situation(step, decided))
        first[step], why[step] = _rung(move), str(move.facts.get("choice") or move.reason)
        if policy == "main" and not decided.get("main_available"):
            why[step] = "main could not be asked"
        sent = Packet(step, seen.models.get(MAIN) or assume.main, opened)
        between = _between(seen, prices, assume, sent, move, only=policy == "cheap")
        if between is None:
            same.append(step)
            continue
        opened |= isinstance(move, AskMain)
        before = add_cost(*_paid(seen, step))
        low = add_cost(less(low, before), between[0])
        high = add_cost(less(high, before), between[1])
    facts: Facts = {"policy": policy, "first": first, "reasons": why, "unchanged": same}
    steps = "1 failing step" if len(first) == 1 else f"{len(first)} failing steps"
    measured = f"the choices at {steps}, and what was paid for them"
    if not first:
        measured = "no step failed that a model could have been asked about: nothing changes"
    lost = [step for step in first if policy == "cheap" and seen.packets(step)]
    if lost:
        facts["unmended"] = lost
    assumed = _assumed(first, same, lost)
    if "main could not be asked" in why.values():
        assumed += "; main could not be asked"
    return Line(f"by policy {policy}", low, high, measured, assumed, facts)


def _assumed(first: Mapping[str, str], same: Sequence[str], lost: Sequence[str]) -> str:
    parts = [", ".join(f"{step}: {rung} first" for step, rung in first.items()) or "nothing"]
    if len(same) + len(lost) < len(first):
        parts.append("what was not tried in the run is between it mends at once and it does not")
    if lost:
        parts.append(f"what only main mended fails the run: {', '.join(lost)}")
    return "; ".join(parts)


def _between(
    seen: Observed,
    prices: Prices,
    assume: Assumptions,
    sent: Packet,
    move: Move,
    *,
    only: bool,
) -> Between | None:
    """Return between what a step's models would cost after a first choice; `None`: as it was."""
    match move:
        case AskMain():
            return _by_main(seen, prices, assume, sent)
        case AskSubagent():
            return _by_subagent(seen, prices, assume, sent.step, only=only)
        case _:
            return (NOTHING, NOTHING) if seen.tries(sent.step) or seen.packets(sent.step) else None


def _rung(move: Move) -> str:
    match move:
        case AskSubagent():
            return Rung.SUBAGENT.value
        case AskMain():
            return Rung.MAIN.value
        case _:
            return "nobody"


def _paid(seen: Observed, step: str) -> tuple[Decimal | None, Decimal | None]:
    """Return what a step's subagents and its packets cost."""
    tried = usd_of(request for one in seen.tries(step) for request in one.requests)
    return tried, usd_of(seen.packets(step))


def _by_main(seen: Observed, prices: Prices, assume: Assumptions, sent: Packet) -> Between | None:
    """Return between what a step would cost that main is asked about at once; `None`: it was."""
    if not seen.tries(sent.step):
        return None
    if seen.packets(sent.step):
        _, packed = _paid(seen, sent.step)
        return packed, packed
    first = packet(seen, prices, assume, sent)
    return first, add_cost(first, packet(seen, prices, assume, replace(sent, opened=True)))


def _by_subagent(
    seen: Observed, prices: Prices, assume: Assumptions, step: str, *, only: bool
) -> Between | None:
    """Return between what a step would cost that a subagent is asked about first.

    `None`: it was asked. With *only*, main is not asked after it.
    """
    tried, packed = _paid(seen, step)
    if seen.tries(step):
        return (tried, tried) if only and seen.packets(step) else None
    if not seen.packets(step):
        return None
    cheap = _subagent(seen, prices, assume, step)
    return cheap, cheap if only else add_cost(cheap, packed)


def _subagent(seen: Observed, prices: Prices, assume: Assumptions, step: str) -> Decimal | None:
    """Return what a subagent would cost that was not asked: as was expected then, or typically."""
    expected = _decimal(seen.decided[step].get("subagent_usd"))
    if expected is not None:
        return expected
    cheap = rates_of(prices, seen.models.get(CHEAP) or assume.cheap)(assume.fixed)
    if cheap is None:
        return None
    work = Work(context=0, turns=assume.mend_turns, said=assume.said)
    return economics.helped(cheap, work, Helper(fixed=assume.fixed, more_turns=Decimal(1)))


def _situation(step: str, facts: Mapping[str, Any]) -> Situation:
    """Rebuild what the first choice was made on, as far as the record has it."""
    return Situation(
        step=step,
        failure=_NONE,
        fix=Fix(agent=""),
        escalate=Escalate() if facts.get("main_available") else None,
        subagent=bool(facts.get("subagent_available")),
        main=bool(facts.get("main_available")),
        attempts=(),
        out_of_scope=bool(facts.get("out_of_scope")),
        outlook=_outlook(facts),
    )


def _outlook(facts: Mapping[str, Any]) -> Outlook | None:
    """Rebuild what was expected; `None` where nobody estimated it."""
    if "subagent_chance" not in facts:
        return None
    left = facts.get("left_usd")
    return Outlook(
        kind=str(facts.get("kind", "")),
        odds=Odds(
            mended=float(facts["subagent_mended"]),
            failed=float(facts["subagent_failed"]),
            chance=float(facts["subagent_chance"]),
            low=float(facts["subagent_chance_low"]),
            high=float(facts["subagent_chance_high"]),
            elsewhere=float(facts["subagent_seen_elsewhere"]),
        ),
        cheap_usd=_decimal(facts.get("subagent_usd")),
        cheap_seconds=float(facts["subagent_seconds"]),
        main_usd=_decimal(facts.get("main_usd")),
        main_seconds=float(facts.get("main_seconds", 0.0)),
        report_usd=_decimal(facts.get("report_usd")) or NOTHING,
        context=int(facts.get("main_context_tokens", 0)),
        cold=facts.get("main_cache") != "warm",
        left_usd=None if left == "no budget" else _decimal(left),
        value_of_time=_decimal(facts.get("value_of_time_usd_per_hour")) or NOTHING,
        irreversible=str(facts.get("chance_taken", "")).startswith("the lower"),
        usd_from=str(facts.get("subagent_usd_from", "estimate")),
    )


def _decimal(value: object) -> Decimal | None:
    return Decimal(value) if isinstance(value, str) and value[:1].isdigit() else None
