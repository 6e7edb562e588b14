"""Decides what delegating a run of mechanical turns would have cost, from what was measured. Pure.

The cost model is that of `runner.economics`, (c) a fresh subagent; what the main paid itself is
not estimated but measured, and prefixes written anew are not credited.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runner.economics import Helper, Rates, Work, helped
from runner.frozen import frozen

if TYPE_CHECKING:
    from runner.price import ClassPrices

ZERO = Decimal(0)


@frozen
class Run:
    """Consecutive mechanical turns of one conversation, as far as they can be priced."""

    turns: int
    context: int
    """Tokens of the first turn's prompt."""
    first_read: Decimal
    """USD: what the first turn paid for reading the cache; the main's call to a helper pays it."""
    inline: Decimal
    """USD: reads and output of the turns; new tokens of each, written once and read by the rest."""
    output: int
    """Tokens of output of all turns."""
    growth: int
    """Tokens by which they made the prompt longer."""
    expired: bool
    """Whether they took longer than the main's cache is kept."""
    rates: ClassPrices
    """Of the main model at the first turn."""
    new_rate: Decimal
    """USD that a new token of the main's prompt costs, as the session wrote it."""
    closed: bool
    """Whether the main went on after it."""

    @property
    def work(self) -> Work:
        """What a helper would be given."""
        said, result = round(self.output / self.turns), round(self.growth / self.turns)
        return Work(context=self.context, turns=self.turns, said=said, result=result, later=0)


def saved_at_once(run: Run, cheap: ClassPrices, helper: Helper) -> Decimal:
    """Return what delegating saves up to the end of the run, in USD; below zero where it costs.

    It costs the main's call, brief and answer, the helper, the main's cache written anew where it
    would have expired meanwhile, and, with the assumed probability, all of it done again by main.
    """
    main = run.rates
    added = helper.brief + helper.answer if run.closed else 0
    report = helper.report if run.closed else 0
    rewritten = (run.new_rate - main.read) * run.context if run.expired and run.closed else ZERO
    rates = Rates(cheap.input, cheap.read, cheap.write, cheap.output)
    delegated = (
        run.first_read
        + main.output * helper.brief
        + run.new_rate * added
        + max(ZERO, rewritten)
        + helped(rates, run.work, helper)
    )
    again = run.inline + main.read * run.turns * added + run.new_rate * report
    return run.inline - delegated - helper.fails * again


def lighter_by(run: Run, helper: Helper) -> Decimal:
    """Return by how many tokens the main's later prompts would have been shorter."""
    if not run.closed:
        return ZERO
    added = helper.brief + helper.answer
    return run.growth - added - helper.fails * (run.growth + helper.report)
