"""Decides what the run's mechanical work is, as turns of an agent, and what turns cost. Pure.

A command is one turn: a call of a shell that reads the conversation and makes it longer. A mend is
as many turns as the subagent took, divided by how many more a subagent takes. Sums are those of
`runner.economics`, turn by turn, for turns here are of different size.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from itertools import zip_longest
from typing import TYPE_CHECKING

from runner import economics
from runner.economics import Rates, Work
from runner.frozen import frozen
from runner.outcome import Verdict
from runner.whatif.observed import Command, Item, Own, Try

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runner.whatif.assume import Assumptions, Prices
    from runner.whatif.observed import Observed, Request

    RatesOf = Callable[[int], Rates | None]
    """Rates of one model, in a prompt of so many tokens; `None`: unknown."""

NOTHING = Decimal(0)


@frozen
class Turn:
    """One turn of an agent that does mechanical work."""

    said: int
    """Tokens that it writes."""
    result: int
    """Tokens by which it makes the conversation longer."""


@frozen
class Stretch:
    """Turns that follow each other, with none of main's own between them."""

    context: int
    """Tokens of the main conversation when they begin, as the run had it."""
    turns: tuple[Turn, ...]
    later: int
    """Requests of main that came after, and would have read what they added."""


Part = Stretch | Own


@frozen(kw_only=True)
class Manner:
    """How the same work is done."""

    who: str
    """`main`: what subagents tried in vain is not tried; `cheap`: it is."""
    most: bool = False
    """Whether what nobody mended takes all the turns that were tried, not those of the last try."""
    at_once: bool = False
    """Whether the calls of different steps are made in the same turn, as if none needed another."""


def parts_of(seen: Observed, assume: Assumptions, how: Manner) -> tuple[Part, ...]:
    """Return the run's work as turns, between main's own requests."""
    parts: list[Part] = []
    steps: dict[str, list[Turn]] = {}
    context, later = 0, sum(not (how.at_once and item.packet) for item in _own(seen))

    def close() -> None:
        if steps:
            turns = _waves(steps.values()) if how.at_once else _in_a_row(steps.values())
            parts.append(Stretch(_context(context, seen, assume), turns, later))
            steps.clear()

    for item in seen.items:
        if isinstance(item, Own) and not (how.at_once and item.packet):
            close()
            parts.append(item)
            later -= 1
        elif turns := _turns(item, seen, assume, how):
            context = context if steps else item.context
            steps.setdefault(item.step, []).extend(turns)
    close()
    return tuple(parts)


def _own(seen: Observed) -> list[Own]:
    return [item for item in seen.items if isinstance(item, Own)]


def _in_a_row(steps: Iterable[Sequence[Turn]]) -> tuple[Turn, ...]:
    return tuple(turn for turns in steps for turn in turns)


def _waves(steps: Iterable[Sequence[Turn]]) -> tuple[Turn, ...]:
    """Let each turn make the next call of every step; it writes no more than the longest of them.

    That is the least that it can take: who looks between, or writes each call in full, needs more.
    """
    waves = [[turn for turn in wave if turn] for wave in zip_longest(*steps)]
    return tuple(
        Turn(
            said=max(turn.said for turn in wave),
            result=max(turn.said for turn in wave)
            + sum(max(0, turn.result - turn.said) for turn in wave),
        )
        for wave in waves
    )


def _context(tokens: int, seen: Observed, assume: Assumptions) -> int:
    """Return the size of the conversation where the run had none open yet, or never."""
    if tokens:
        return tokens
    if not seen.own:
        return assume.unknown_context if assume.context is None else 0
    return min(assume.fixed, seen.own[0].usage.input_tokens)


def _turns(item: Item, seen: Observed, assume: Assumptions, how: Manner) -> list[Turn]:
    match item:
        case Command():
            size = assume.git_bytes if item.purpose in ("commit", "push") else item.output_bytes
            return [Turn(assume.said, assume.said + assume.tokens(size))] if item.counts else []
        case Try():
            more = assume.more_turns
            return mend_turns(item.requests, more) if _redone(item, seen, how) else []
        case Own(request):
            return _packet_turns(request, seen)


def _packet_turns(request: Request, seen: Observed) -> list[Turn]:
    """Return all turns of main for a packet, at its first request; its last one only answers it."""
    same = [one for one in seen.packets(request.step) if one.attempt == request.attempt]
    return mend_turns(same[:-1] or same, Decimal(1)) if same[0] is request else []


def _redone(one: Try, seen: Observed, how: Manner) -> bool:
    """Tell whether a try's turns are part of the work."""
    if seen.useful(one):
        return True
    failed = one.verdict in (Verdict.SOFT, Verdict.HARD)
    again = how.who == "cheap" or seen.unsettled(one.step)
    return failed and again and (how.most or one is seen.tries(one.step)[-1])


def mend_turns(requests: Sequence[Request], more: Decimal) -> list[Turn]:
    """Return the turns of main for what a subagent read and did in `more` times as many."""
    if not requests:
        return []
    exact = (len(requests) / more).quantize(Decimal(1), ROUND_HALF_UP)
    count = max(1, int(exact))
    said = round(sum(one.usage.output_tokens for one in requests) / len(requests))
    sizes = [one.usage.input_tokens for one in requests if one.usage.input_tokens]
    grown = sizes[-1] - sizes[0] + requests[-1].usage.output_tokens if sizes else 0
    each, rest = divmod(max(grown, said), count)
    return [Turn(said, each + (number < rest)) for number in range(count)]


# -- what turns cost ---------------------------------------------------------------------------


def inline(parts: Sequence[Part], main: RatesOf, base: int = 0) -> Decimal | None:
    """Return what main pays for the turns, its cache kept warm by them; `None`: price unknown.

    Args:
        parts: The work; main's own requests in it are not counted, but read what turns added.
        main: Rates of main's model.
        base: Tokens that the conversation has besides what the run knows of.
    """
    total, grown = NOTHING, base
    for part in parts:
        if isinstance(part, Own):
            continue
        for turn in part.turns:
            context = part.context + grown
            rates = main(context)
            if rates is None:
                return None
            total += economics.inline(rates, _work(context, turn, part.later))
            grown += turn.result
    return total


def switched(
    parts: Sequence[Part], main: RatesOf, cheap: RatesOf, base: int = 0, *, expired: bool = False
) -> Decimal | None:
    """Return what the turns cost when the cheap model does them in the main conversation.

    Each stretch is one visit. What the cheap model has read on an earlier one it finds in its cache
    again, which is to the benefit of switching.

    Args:
        parts: As for `inline`.
        main: Rates of main's model.
        cheap: Rates of the cheap one's.
        base: As for `inline`.
        expired: Whether main's cache is gone at each return.
    """
    total, grown, known = NOTHING, base, 0
    for part in parts:
        if isinstance(part, Own):
            continue
        start = context = part.context + grown
        known = min(known, start)
        for number, turn in enumerate(part.turns):
            there = cheap(context)
            if there is None:
                return None
            new = start - known if number == 0 else 0
            total += there.read * (context - new) + there.write * (new + turn.result)
            total += there.output * turn.said
            context += turn.result
        back = main(start)
        if back is None:
            return None
        added = context - start
        total += (back.write + back.read * part.later) * added
        total += (back.write - back.read) * start if expired else NOTHING
        grown, known = grown + added, context
    return total


def _work(context: int, turn: Turn, later: int) -> Work:
    return Work(context=context, turns=1, said=turn.said, result=turn.result, later=later)


def rates_of(prices: Prices, model: str) -> RatesOf:
    """Return one model's rates by the size of a prompt."""

    def rates(tokens: int) -> Rates | None:
        found = prices(model, tokens)
        if found is None:
            return None
        return Rates(found.input, found.read, found.write, found.output)

    return rates


def own_usd(
    seen: Observed, prices: Prices, base: int = 0, *, packets: bool = True
) -> Decimal | None:
    """Return what main's own requests cost, had its cache never been cold between them.

    A re-write that the run paid, because subagents or commands took long, is not held against a
    conversation that would have been at work meanwhile.

    Args:
        seen: The run.
        prices: Of main's model.
        base: Tokens that the conversation has besides, read by each request.
        packets: Whether those are counted that packets asked for.
    """
    total, before = NOTHING, dict[str, int]()
    for request in (item.request for item in _own(seen) if packets or not item.packet):
        found = prices(request.model, request.usage.input_tokens + base)
        if request.usd is None or found is None:
            return None
        usage = request.usage
        missed = 0
        if usage.cache_read_tokens or usage.cache_write_tokens:
            at_hand = min(before.get(request.conversation, 0), usage.input_tokens)
            missed = max(0, at_hand - usage.cache_read_tokens)
        paid = found.write if usage.cache_write_tokens else found.input
        paid = found.write_1h if usage.cache_write_1h_tokens else paid
        total += request.usd - missed * (paid - found.read) + base * found.read
        if usage.input_tokens:
            before[request.conversation] = usage.input_tokens
    return total


# -- a packet that nobody sent -------------------------------------------------------------------


@frozen
class Packet:
    """A packet that main might have got."""

    step: str
    model: str
    """Main's."""
    opened: bool
    """Whether main's conversation was opened for something else in any case."""


def packet(seen: Observed, prices: Prices, assume: Assumptions, sent: Packet) -> Decimal | None:
    """Return what main would pay to mend a step that it was not asked about.

    Where nothing else opened its conversation, that is part of it: the fixed part is written.
    """
    place, later = _place(seen, sent.step)
    requests = [request for one in seen.tries(sent.step) for request in one.requests]
    turns = mend_turns(requests, assume.more_turns)
    context = place or assume.fixed
    rates = rates_of(prices, sent.model)(context + assume.packet)
    if rates is None:
        return None
    work = Work(
        context=context + assume.packet,
        turns=len(turns) or assume.mend_turns,
        said=turns[0].said if turns else assume.said,
        result=turns[0].result if turns else assume.mend_result,
        later=later,
    )
    appended = (rates.write - rates.read + later * rates.read) * assume.packet
    opening = NOTHING if sent.opened else (rates.write - rates.read) * context
    return economics.inline(rates, work) + appended + opening


def _place(seen: Observed, step: str) -> tuple[int, int]:
    """Return the main conversation's size when a step failed, and main's requests after it."""
    later = len(seen.own)
    for item in seen.items:
        if isinstance(item, Own):
            later -= 1
        elif item.step == step:
            return item.context, later
    return 0, 0
