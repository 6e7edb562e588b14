"""Says what a run cost, and what its work would have cost otherwise; each line with its grounds.

Every line names what is measured and what is assumed. What speaks against this program is counted:
failed attempts are part of what the run cost, and no other way is charged for a cache that would
have been cold. Pure.
"""

from __future__ import annotations

from dataclasses import field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner.frozen import frozen
from runner.outcome import Verdict, add_cost
from runner.plan import CHEAP, MAIN
from runner.report import Baseline
from runner.whatif.observed import Command, Own, Try
from runner.whatif.work import Manner, Stretch, inline, own_usd, parts_of, rates_of, switched

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.whatif.assume import Assumptions, Prices
    from runner.whatif.observed import Observed, Request
    from runner.whatif.work import Part

    Facts = dict[str, Any]

NOTHING = Decimal(0)
_FAILED = frozenset({Verdict.SOFT, Verdict.HARD})


@frozen
class Line:
    """What one way to do the run's work costs."""

    name: str
    low_usd: Decimal | None
    """`None`: a price is not known."""
    high_usd: Decimal | None
    """The same as `low_usd` where nothing but prices and sizes is uncertain."""
    measured: str
    assumed: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


def usd_of(requests: Iterable[Request]) -> Decimal | None:
    """Return what requests cost; `None` when that of any is unknown, which is not zero."""
    total: Decimal | None = NOTHING
    for request in requests:
        total = add_cost(total, request.usd)
    return total


def less(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Subtract a cost; unknown is not zero."""
    return None if one is None or other is None else one - other


def as_it_was(seen: Observed) -> Line:
    """Say what the run cost."""
    usd = usd_of(seen.requests)
    failed = [item for item in seen.items if isinstance(item, Try) and not seen.useful(item)]
    lost = usd_of(request for item in failed for request in item.requests)
    kept = usd_of(seen.kept)
    asked = len(seen.requests)
    parts = [f"{_count(asked, 'request')}, as the ledger has them" if asked else "nobody was asked"]
    if failed:
        parts.append(f"{_usd(lost)} of it for failed attempts")
    if seen.kept:
        parts.append(f"{_usd(kept)} to keep main's cache")
    undone = [step for step in seen.decided if step not in seen.mended]
    if undone:
        parts.append(f"left unmended: {', '.join(undone)}")
    facts: Facts = {
        "unmended": undone,
        "requests": len(seen.requests),
        "failed_attempts": len(failed),
        "failed_attempts_usd": as_float(lost),
        "keepalive_usd": as_float(kept),
    }
    assumed = "nothing; scripted models stood in, so nobody paid it" if seen.scripted else "nothing"
    return Line("this run", usd, usd, "; ".join(parts), assumed, facts)


def in_main(seen: Observed, prices: Prices, assume: Assumptions, *, at_once: bool = False) -> Line:
    """Say what main would have paid to do all of it itself, in its own conversation."""
    model = _model(seen, MAIN, assume)
    base = assume.context or 0
    own = own_usd(seen, prices, base, packets=not at_once)
    found: list[Decimal | None] = []
    parts: tuple[Part, ...] = ()
    for most in (False, True):
        parts = parts_of(seen, assume, Manner(who=MAIN, most=most, at_once=at_once))
        found.append(add_cost(own, inline(parts, rates_of(prices, model), base)))
    low, high = _between(found)
    name = "inline on main, at once" if at_once else "inline on main"
    return Line(
        name,
        low,
        high,
        _work_measured(seen, model),
        _work_assumed(seen, assume, at_once=at_once),
        {"model": model, "own_requests_usd": as_float(own), **_sizes(parts)},
    )


def by_switching(
    seen: Observed, prices: Prices, assume: Assumptions, *, expired: bool = False
) -> Line:
    """Say what it would have cost to hand main's conversation to the cheap model and back."""
    main, cheap = _model(seen, MAIN, assume), _model(seen, CHEAP, assume)
    base = assume.context or 0
    own = own_usd(seen, prices, base)
    found: list[Decimal | None] = []
    parts: tuple[Part, ...] = ()
    for most in (False, True):
        parts = parts_of(seen, assume, Manner(who=CHEAP, most=most))
        paid = switched(
            parts, rates_of(prices, main), rates_of(prices, cheap), base, expired=expired
        )
        found.append(add_cost(own, paid))
    low, high = _between(found)
    visits = sum(isinstance(part, Stretch) for part in parts)
    assumed = [
        f"{_count(visits, 'visit')} of {cheap}",
        f"main's cache {'gone' if expired else 'still there'} at each return",
        _turns_assumed(seen, assume),
        _where_assumed(seen, assume),
    ]
    if _failed(seen):
        assumed.append("what it failed at in the run fails again")
    return Line(
        f"by switching models, {'cold' if expired else 'warm'} return",
        low,
        high,
        _work_measured(seen, main),
        "; ".join(assumed),
        {"model": main, "cheap_model": cheap, "visits": visits, **_sizes(parts)},
    )


def baseline(seen: Observed, prices: Prices, assume: Assumptions) -> Baseline:
    """Estimate what the report sets beside a run's cost.

    Nothing where no model was asked, or none could have been asked as main. Where a line is an
    interval, its lower end: a saving is not to be overstated.
    """
    if not seen.requests or MAIN not in seen.models:
        return Baseline()
    switch = by_switching(seen, prices, assume).low_usd if CHEAP in seen.models else None
    return Baseline(in_main(seen, prices, assume).low_usd, switch)


def models_of(seen: Observed, assume: Assumptions) -> dict[str, str]:
    """Return the model of each role, what is assumed for `main` and `cheap` included."""
    return {role: _model(seen, role, assume) for role in (MAIN, CHEAP)} | dict(seen.models)


def _model(seen: Observed, role: str, assume: Assumptions) -> str:
    return seen.models.get(role) or (assume.main if role == MAIN else assume.cheap)


def _between(found: Sequence[Decimal | None]) -> tuple[Decimal | None, Decimal | None]:
    known = [usd for usd in found if usd is not None]
    return (min(known), max(known)) if len(known) == len(found) else (None, None)


def _sizes(parts: Sequence[Part]) -> Facts:
    turns = [turn for part in parts if isinstance(part, Stretch) for turn in part.turns]
    contexts = [part.context for part in parts if isinstance(part, Stretch)]
    return {
        "turns": len(turns),
        "turns_tokens": sum(turn.result for turn in turns),
        "context_low": min(contexts, default=0),
        "context_high": max(contexts, default=0),
    }


def _work_measured(seen: Observed, main: str) -> str:
    commands = [item for item in seen.items if isinstance(item, Command) and item.counts]
    tries = [item for item in seen.items if isinstance(item, Try) and seen.useful(item)]
    output = sum(item.output_bytes for item in commands)
    parts = [f"{_count(len(commands), 'command')} with {output:,} bytes of output"]
    if tries:
        asked = sum(len(item.requests) for item in tries)
        parts.append(f"{_count(len(tries), 'mend')} in {_count(asked, 'request')}")
    own = [item for item in seen.items if isinstance(item, Own)]
    if own:
        parts.append(f"{_count(len(own), 'request')} of main ({main}) and its context")
    return ", ".join(parts)


def _work_assumed(seen: Observed, assume: Assumptions, *, at_once: bool) -> str:
    parts = [_turns_assumed(seen, assume)]
    if at_once:
        parts.append(
            "calls of different steps in one turn, as if none needed another: the least it can take"
        )
    parts.append(_where_assumed(seen, assume))
    failed = _failed(seen)
    loose = {one.step for one in failed if seen.unsettled(one.step)}
    if len(loose) < len({one.step for one in failed}):
        parts.append("none of the attempts that failed before main mended it")
    if loose:
        parts.append(f"as many turns in vain as subagents had for {', '.join(sorted(loose))}")
    return "; ".join(parts)


def _failed(seen: Observed) -> list[Try]:
    return [
        one
        for one in seen.items
        if isinstance(one, Try) and one.verdict in _FAILED and not seen.useful(one)
    ]


def _where_assumed(seen: Observed, assume: Assumptions) -> str:
    """Say in which conversation the work would have been done."""
    if assume.context is not None and seen.own:
        return f"a warm conversation of {assume.context:,} tokens more than the run's own"
    if seen.own:
        return "main's conversation as the run had it, never cold"
    tokens = assume.unknown_context if assume.context is None else assume.context
    return f"a warm conversation of {tokens:,} tokens, which goes on for no turn after"


def _turns_assumed(seen: Observed, assume: Assumptions) -> str:
    text = f"a turn of {assume.said} tokens for each command"
    if any(isinstance(item, Try) for item in seen.items):
        text += f", a subagent's requests / {assume.more_turns} for a mend, of the same tokens"
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _usd(usd: Decimal | None) -> str:
    return "an unknown part" if usd is None else f"${usd:.4f}"


def as_float(usd: Decimal | None) -> float | None:
    """Return a sum as JSON has it."""
    return None if usd is None else float(usd)
