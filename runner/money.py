"""Decides whether a request may be paid for, so that a run can never spend more than its budget.

The worst case of a request is reserved before it is sent and settled after. Nothing here waits on
the world: between looking at a purse and reserving from it no other task can run.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import anyio

from runner.errors import RunnerError
from runner.frozen import frozen

ZERO = Decimal(0)
Outcome = Literal["open", "settled", "unknown", "released", "disputed"]


class OverBudgetError(RunnerError):
    """Raised instead of sending a request whose worst case the purse cannot cover.

    Attributes:
        purse: Name of the purse that is short: `run`, or a step's.
        needed: Worst case of the request in USD; `None` when no price is known.
        left: What the purse still has in USD, not counting what others have reserved; `None` when
            the purse has no ceiling in USD.
        kept_back: Whether it could pay, were a part of it not kept back.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        purse: str,
        needed: Decimal | None,
        left: Decimal | None,
        kept_back: bool = False,
        hint: str = "",
    ) -> None:
        super().__init__(message, hint=hint)
        self.purse = purse
        self.needed = needed
        self.left = left
        self.kept_back = kept_back


@frozen
class Worst:
    """The most that one request can cost."""

    usd: Decimal | None
    """`None`: no price is known, which is not zero."""
    tokens: int = 0
    """Input and output together."""


class Reservation:
    """Money set aside for one try of one request; ended exactly once, by one of its methods."""

    __slots__ = ("_purse", "outcome", "worst")

    def __init__(self, purse: Purse, worst: Worst) -> None:
        self._purse = purse
        self.worst = worst
        self.outcome: Outcome = "open"

    def settle(self, usd: Decimal | None, tokens: int | None) -> None:
        """Book what was really used; what is unknown, negative or no number books the worst case.

        More than the worst case is booked as it is, marked `disputed`, and closes the purse.
        """
        worst = self.worst
        usable = usd is None or (usd.is_finite() and usd >= 0)
        known = (
            usable and tokens is not None and tokens >= 0 and (usd is None) == (worst.usd is None)
        )
        if not known or tokens is None:
            self._end("unknown", worst)
            return
        above = tokens > worst.tokens or (usd or ZERO) > (worst.usd or ZERO)
        self._end("disputed" if above else "settled", Worst(usd, tokens))

    def lost(self) -> None:
        """Book the worst case: nobody can say whether the provider will bill the request."""
        self._end("unknown", self.worst)

    def release(self) -> None:
        """Book nothing: the provider provably did not accept the request."""
        self._end("released", Worst(ZERO, 0))

    def _end(self, outcome: Outcome, booked: Worst) -> None:
        if self.outcome != "open":
            raise RuntimeError(f"reservation was already {self.outcome}")
        self.outcome = outcome
        self._purse.book(self.worst, booked, disputed=outcome == "disputed")


class Purse:
    """A pot of money and tokens that many tasks draw from, itself part of a larger one.

    A step's purse has the run's as its parent: each reservation is made in both or in neither.

    Args:
        name: Who it belongs to, for messages: `run`, or a step's id.
        usd: Ceiling in USD; `None` is none.
        tokens: Ceiling in tokens, input and output; `None` is none.
        parent: The purse that this one is a part of.
        keep_back: Part of `usd` that only requests with `kept=True` may draw: an escalation's.
    """

    def __init__(
        self,
        name: str,
        *,
        usd: Decimal | None = None,
        tokens: int | None = None,
        parent: Purse | None = None,
        keep_back: Decimal = ZERO,
    ) -> None:
        self.name = name
        self.usd = usd
        self.tokens = tokens
        self.parent = parent
        self.keep_back = keep_back
        self.spent = ZERO
        """USD booked so far, worst cases of unknown requests included."""
        self.spent_tokens = 0
        self.reserved = ZERO
        self.reserved_tokens = 0
        self.unknown = 0
        """Requests booked at their worst case."""
        self.disputed = False
        """A provider billed more than the bound: nothing more is reserved."""
        self.changed = anyio.Event()
        """Set, and replaced, when a reservation ends."""

    @property
    def left(self) -> Decimal | None:
        """USD neither spent nor reserved, never below 0; `None` without a ceiling."""
        return None if self.usd is None else max(ZERO, self.usd - self.spent - self.reserved)

    def headroom(self, *, kept: bool = False) -> Decimal | None:
        """USD that a single request could get once all others are settled at nothing.

        The least over this purse and those that it is part of; `None` when none has a ceiling.
        """
        rooms = [
            max(ZERO, purse.usd - purse.spent - (ZERO if kept else purse.keep_back))
            for purse in self._chain()
            if purse.usd is not None
        ]
        return min(rooms, default=None)

    async def reserve(self, worst: Worst, *, kept: bool = False) -> Reservation:
        """Set the worst case of a request aside, waiting for running requests to settle if need be.

        Raises:
            OverBudgetError: It cannot be covered even when all running requests turn out free, or
                no price is known under a ceiling in USD.
        """
        while True:
            # The run's purse first: when that is short, the run ends and not only an attempt.
            for purse in reversed(self._chain()):
                purse.refuse_hopeless(worst, kept=kept)
            short = next((p for p in self._chain() if not p.covers(worst, kept=kept)), None)
            if short is None:
                return self._take(worst)
            await short.changed.wait()

    def _chain(self) -> list[Purse]:
        chain: list[Purse] = []
        purse: Purse | None = self
        while purse is not None:
            chain.append(purse)
            purse = purse.parent
        return chain

    def refuse_hopeless(self, worst: Worst, *, kept: bool) -> None:
        """Raise `OverBudgetError` when waiting for others cannot help; this purse alone."""
        room = (
            None if self.usd is None else self.usd - self.spent - (ZERO if kept else self.keep_back)
        )
        if self.disputed:
            raise self._over(worst, room, "the provider reported more usage than is possible")
        if room is not None and worst.usd is None:
            raise OverBudgetError(
                f"no price is known for this model, so that the budget of ${self.usd} covers no "
                "request of it; give its price: --price MODEL=IN/OUT, in USD per million tokens.",
                purse=self.name,
                needed=None,
                left=max(ZERO, room),
                hint="Nothing was sent.",
            )
        if room is not None and worst.usd is not None and worst.usd > room:
            why = f"the next request may cost ${worst.usd:.4f}"
            if not kept and worst.usd <= room + self.keep_back:
                why += f", and ${self.keep_back:.4f} is kept back for an escalation"
                raise self._over(worst, room, why, kept_back=True)
            raise self._over(worst, room, why)
        if self.tokens is not None and worst.tokens > self.tokens - self.spent_tokens:
            left = self.tokens - self.spent_tokens
            raise self._over(
                worst, room, f"the next request may take {worst.tokens} tokens of {left} left"
            )

    def _over(
        self, worst: Worst, room: Decimal | None, why: str, *, kept_back: bool = False
    ) -> OverBudgetError:
        left = None if room is None else max(ZERO, room)
        money = (
            "" if left is None else f", ${left:.4f} left of ${self.usd}, ${self.spent:.4f} spent"
        )
        return OverBudgetError(
            f"The budget of {self.name} is used up: {why}{money}.",
            purse=self.name,
            needed=worst.usd,
            left=left,
            kept_back=kept_back,
            hint="Nothing was sent. Give more with --budget USD.",
        )

    def covers(self, worst: Worst, *, kept: bool) -> bool:
        """Tell whether `worst` can be reserved right now; this purse alone."""
        taken = self.spent_tokens + self.reserved_tokens
        if self.tokens is not None and worst.tokens > self.tokens - taken:
            return False
        if self.usd is None:
            return True
        available = self.usd - self.spent - self.reserved - (ZERO if kept else self.keep_back)
        return worst.usd is not None and worst.usd <= available

    def _take(self, worst: Worst) -> Reservation:
        for purse in self._chain():
            purse.reserved += worst.usd or ZERO
            purse.reserved_tokens += worst.tokens
        return Reservation(self, worst)

    def book(self, worst: Worst, booked: Worst, *, disputed: bool) -> None:
        """Turn a reservation into what is spent; for `Reservation` only."""
        unknown = booked is worst
        for purse in self._chain():
            purse.reserved -= worst.usd or ZERO
            purse.reserved_tokens -= worst.tokens
            purse.spent += booked.usd or ZERO
            purse.spent_tokens += booked.tokens
            purse.unknown += unknown
            purse.disputed = purse.disputed or disputed
            waiting, purse.changed = purse.changed, anyio.Event()
            waiting.set()
