"""Follows one conversation, request by request: runs, gaps, and what other ways would have saved.

Each estimate credits parts of what requests really paid, so that none can save more than was paid:
a request left out, its cached reads and its output; a token that would not have come into the
conversation, its writing and each later reading. Prefixes written anew are never credited.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.measure.assume import ZERO, Run, lighter_by, saved_at_once
from runner.price import ClassPrices

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.economics import Helper
    from runner.measure.records import Turn
    from runner.measure.session import Session

FREE = ClassPrices(ZERO, ZERO, ZERO, ZERO, ZERO)
"""Of a model whose price is not known: its requests add nothing to any sum."""
LOST = 1_024
"""Tokens: a smaller part of a prefix that was not read is its end, not a lost cache."""


@frozen
class Priced:
    """A request with what its tokens cost."""

    turn: Turn
    rates: ClassPrices
    mechanical: bool

    @property
    def new_rate(self) -> Decimal:
        """USD of a token that was not read from a cache."""
        used, rates = self.turn.used, self.rates
        if not used.new:
            return rates.write
        return self.new_usd / used.new

    @property
    def new_usd(self) -> Decimal:
        """USD of all tokens that were not read from a cache."""
        used, rates = self.turn.used, self.rates
        plain = rates.input * used.uncached
        return plain + rates.write * used.write_5m + rates.write_1h * used.write_1h

    @property
    def usd(self) -> Decimal:
        """USD of the request."""
        return self.new_usd + self.own_usd

    @property
    def read_usd(self) -> Decimal:
        """USD of what it read from a cache."""
        return self.rates.read * self.turn.used.read

    @property
    def own_usd(self) -> Decimal:
        """USD that would not have been paid without the request: what it read, what it wrote."""
        return self.read_usd + self.rates.output * self.turn.used.output

    def written(self, tokens: int) -> Decimal:
        """USD for which it took in that many new tokens, or all where it has fewer."""
        return self.new_rate * min(tokens, self.turn.used.new)


def cost_of(turn: Turn, rates: ClassPrices) -> Decimal:
    """Return what a request cost in USD."""
    return Priced(turn, rates, mechanical=False).usd


class Course:
    """One conversation of a file, up to its last request.

    Args:
        helper: What no log can tell of a helper.
        cheap: Gives the cheap model's prices for a run of a model: `model`, when, tokens of its
            longest prompt; `None` where no cheap model is known.
        retention: Gives a model's cache retention in seconds.
    """

    def __init__(
        self,
        helper: Helper,
        cheap: Callable[[Turn, int], ClassPrices | None],
        retention: Callable[[Turn], float],
    ) -> None:
        self._helper = helper
        self._cheap = cheap
        self._retention = retention
        self._last: Priced | None = None
        self._run: list[Priced] = []
        self._gone = 0
        """Tokens that steps started by the runner would have kept out of the conversation."""
        self._lighter = ZERO
        """Tokens that delegation would have kept out of it; below zero where it put more in."""

    def hear(self, turn: Turn, rates: ClassPrices, session: Session) -> None:
        """Take one more request, and add what it shows to its session."""
        last = self._before(turn)
        if last is None:
            self.end(session)
        waited = turn.work == "waiting" and last is not None and last.mechanical
        now = Priced(turn, rates, turn.work == "mechanical" or waited)
        if last is not None:
            self._gap(last, now, session)
        self._batch(last, now, session)
        self._steps(last, now, session)
        self._delegate(last, now, session)
        session.add(now)
        self._last = now

    def copied(self, turn: Turn, session: Session) -> None:
        """Take a request that the log only repeats: it was paid elsewhere, and stays the prefix."""
        self.end(session)
        self._last = Priced(turn, FREE, mechanical=False)

    def end(self, session: Session) -> None:
        """End the conversation, or the part of it before a compaction."""
        self._close(None, session)
        self._last = None
        self._gone, self._lighter = 0, ZERO

    def _before(self, turn: Turn) -> Priced | None:
        """Return the request that this one extends; `None` when it begins anew."""
        last = self._last
        if last is None or turn.fresh or turn.used.prompt * 2 < last.turn.used.prompt:
            return None
        return last

    def _gap(self, last: Priced, now: Priced, session: Session) -> None:
        before, used = last.turn.used, now.turn.used
        rewritten = min(before.prompt, used.prompt) - used.read
        if rewritten < LOST:
            rewritten = 0
        dearer = max(ZERO, now.new_rate - now.rates.read)
        began, was = now.turn.began, last.turn.began
        seconds = 0.0 if began is None or was is None else began - was
        session.gap(seconds, rewritten, dearer * rewritten)

    def _batch(self, last: Priced | None, now: Priced, session: Session) -> None:
        """A command behind one that passed could have stood behind it in the same turn."""
        if last is not None and last.mechanical and last.turn.passed and now.mechanical:
            session.batched += 1
            session.saved["batching"] += now.read_usd

    def _steps(self, last: Priced | None, now: Priced, session: Session) -> None:
        """A mechanical turn whose commands passed would not have been a turn."""
        grown = 0
        if last is not None and _left_out(last):
            grown = max(0, now.turn.used.prompt - last.turn.used.prompt)
        saved = now.written(grown)
        if _left_out(now):
            session.left_out += 1
            saved += now.own_usd
        else:
            saved += now.rates.read * min(self._gone, now.turn.used.read)
        session.saved["steps"] += saved
        self._gone += grown

    def _delegate(self, last: Priced | None, now: Priced, session: Session) -> None:
        if now.mechanical and not now.turn.side:
            if not self._run:
                self._read_lighter(now, session, 0)
            self._run.append(now)
            return
        inside = 0
        if self._run and last is not None:
            inside = max(0, last.turn.used.prompt - self._run[0].turn.used.prompt)
        self._read_lighter(now, session, inside)
        self._close(now, session)

    def _read_lighter(self, now: Priced, session: Session, inside: int) -> None:
        """Credit what a request would not have read; *inside* is the run's that ends before it."""
        most = max(0, now.turn.used.read - inside)
        session.saved["delegation"] += now.rates.read * min(self._lighter, Decimal(most))

    def _close(self, after: Priced | None, session: Session) -> None:
        """End a run of mechanical turns, with the request that came after it."""
        run, self._run = self._run, []
        if not run:
            return
        session.runs.append(len(run))
        told = _run(run, after, self._retention(run[0].turn))
        longest = self._helper.fixed + self._helper.task + told.growth
        rates = self._cheap(run[0].turn, longest)
        if rates is None or run[0].rates is FREE:
            session.undelegated += 1
            return
        saved = saved_at_once(told, rates, self._helper)
        lighter = lighter_by(told, self._helper)
        session.saved["delegation"] += saved
        session.delegated += 1
        session.paid += saved > 0
        self._lighter += lighter


def _left_out(one: Priced) -> bool:
    return one.mechanical and one.turn.passed is True


def _run(run: list[Priced], after: Priced | None, retention: float) -> Run:
    chain = [*run, after] if after is not None else run
    inline = sum((one.own_usd for one in run), ZERO)
    grown = 0
    for one, following in pairwise(chain):
        growth = max(0, following.turn.used.prompt - one.turn.used.prompt)
        inline += following.written(growth)
        if after is not None and following is after:
            # What the turns before the last put in, it reads.
            inline += after.rates.read * min(grown, after.turn.used.read)
        grown += growth
    first, last = run[0], chain[-1]
    took = (last.turn.began or 0.0) - (first.turn.began or 0.0)
    return Run(
        turns=len(run),
        context=first.turn.used.prompt,
        first_read=first.read_usd,
        inline=inline,
        output=sum(one.turn.used.output for one in run),
        growth=grown,
        expired=took > retention,
        rates=first.rates,
        new_rate=(after or first).new_rate,
        closed=after is not None,
    )
