"""Decides what mechanical work costs: by main itself, by switching models, delegated. Pure.

All money is in USD, all prices in USD per token. The three options are compared for one stretch of
work: *turns* turns of the main agent, each of which says `said` tokens and reads `result` tokens of
a tool's output, at a point where the main conversation has `context` tokens and goes on for `later`
turns. What is learnt stays in the context and is read again by each later turn.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil

from runner.frozen import frozen

NOTHING = Decimal(0)


@frozen
class Rates:
    """What a token of one model costs, by the class that it is billed in."""

    input: Decimal
    read: Decimal
    write: Decimal
    output: Decimal


@frozen(kw_only=True)
class Work:
    """One stretch of mechanical work, as main would do it itself."""

    context: int
    """Tokens of the main conversation when it begins."""
    turns: int
    said: int = 300
    """Tokens that a turn writes."""
    result: int = 1_200
    """Tokens by which a turn makes the context longer: what it said and the tool's output."""
    later: int = 30
    """Turns of the main conversation that come after."""


@frozen(kw_only=True)
class Helper:
    """How a fresh subagent would do it."""

    fixed: int = 3_000
    """Tokens of its instructions and tools."""
    task: int = 2_500
    """Tokens of its brief."""
    brief: int = 250
    """Of them, tokens that main itself wrote; none where the runner writes the brief."""
    answer: int = 300
    """Tokens of its answer that main reads; none where a command judges it."""
    report: int = 600
    """Tokens of its report when it failed."""
    more_turns: Decimal = Decimal("1.3")
    """Turns that it needs for each of main's."""
    fails: Decimal = Decimal("0.05")
    """Chance that main has to do it all the same."""
    asked: bool = True
    """Whether main spends a turn on starting it; not where the runner does."""


def inline(main: Rates, work: Work) -> Decimal:
    """Return what main pays to do the work itself, its cache kept warm by doing so."""
    turns, grown = work.turns, work.result * work.turns
    own = main.read * (turns * work.context + work.result * _before(turns))
    return own + main.write * grown + main.output * work.said * turns + _kept(main, work, grown)


def switched(main: Rates, cheap: Rates, work: Work, *, expired: bool = False) -> Decimal:
    """Return what it costs to let the cheap model go on in the main conversation, and back.

    The cheap model has a cache of its own: it reads the whole conversation anew. On return main
    writes what has come since.

    Args:
        main: Rates of the main model.
        cheap: Rates of the cheap one.
        work: What is done.
        expired: Whether main's own cache is gone by then.
    """
    turns, grown = work.turns, work.result * work.turns
    again = (turns - 1) * work.context + work.result * _before(turns)
    there = cheap.write * (work.context + grown) + cheap.read * again
    there += cheap.output * work.said * turns
    return there + main.write * grown + _kept(main, work, grown) + _rewrite(main, work, expired)


def helped(cheap: Rates, work: Work, helper: Helper) -> Decimal:
    """Return what the subagent itself costs."""
    turns = ceil(helper.more_turns * work.turns)
    start = helper.fixed + helper.task
    again = (turns - 1) * start + work.result * _before(turns)
    grown = work.result * turns
    return cheap.write * (start + grown) + cheap.read * again + cheap.output * work.said * turns


def delegated(
    main: Rates,
    cheap: Rates,
    work: Work,
    helper: Helper,
    *,
    pings: int = 0,
    expired: bool = False,
) -> Decimal:
    """Return what it costs to give the work to a fresh subagent, a failure's redo included.

    Args:
        main: Rates of the main model.
        cheap: Rates of the subagent's.
        work: What is done.
        helper: How the subagent does it.
        pings: Keep-alives while main waits.
        expired: Whether main's cache is gone when it goes on.
    """
    asked = helper.brief + helper.answer
    spent = pings * main.read * work.context + _rewrite(main, work, expired)
    if helper.asked:
        spent += main.read * work.context + main.output * helper.brief
        spent += main.write * asked + main.read * work.later * asked
    return spent + helped(cheap, work, helper) + helper.fails * redo(main, work, helper)


def redo(main: Rates, work: Work, helper: Helper) -> Decimal:
    """Return what main pays when the subagent failed: its report, and the work itself."""
    known = work.context + (helper.brief + helper.answer if helper.asked else 0)
    again = Work(
        context=known,
        turns=work.turns,
        said=work.said,
        result=work.result,
        later=work.later,
    )
    report = (main.write + work.later * main.read) * helper.report
    return inline(main, again) + report


def _before(turns: int) -> int:
    """How often a turn's result is read again within the work: 0 + 1 + ... for each turn."""
    return turns * (turns - 1) // 2


def _kept(main: Rates, work: Work, tokens: int) -> Decimal:
    return main.read * work.later * tokens


def _rewrite(main: Rates, work: Work, expired: bool) -> Decimal:  # noqa: FBT001  two words for one
    return (main.write - main.read) * work.context if expired else NOTHING
