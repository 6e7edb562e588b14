"""Decides whether a request may be paid for, so that a run can never spend more than its budget.

The worst case of a request is reserved before it is sent and settled after. Nothing here waits on
the world: between looking at a purse and reserving from it no other task can run.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Literal

import anyio

from runner.errors import RunnerError
from runner.frozen import frozen
from runner.outcome import Lack

ZERO = Decimal(0)
_LEAST_SHOWN = Decimal("0.0001")
Outcome = Literal["open", "settled", "unknown", "released", "disputed"]


class OverBudgetError(RunnerError):
    """Raised instead of sending a request whose worst case the purse cannot cover.

    Attributes:
        purse: Name of the purse that is short: `run`, or a step's.
        needed: Worst case of the request in USD; `None` when no price is known.
        left: What the purse still has in USD, not counting what others have reserved; `None` when
            the purse has no ceiling in USD.
        kept_back: Whether it could pay, were a part of it not kept back.
        disputed: Whether it is closed, whatever is left: a provider billed more than the bound.
        lack: The same in few words, and what would have been enough.
    """

    exit_code = 3

    def __init__(
        self,
        message: str,
        *,
        purse: str,
        needed: Decimal | None,
        left: Decimal | None,
        lack: Lack,
        kept_back: bool = False,
        disputed: bool = False,
    ) -> None:
        super().__init__(message, hint="Nothing was sent.")
        self.purse = purse
        self.needed = needed
        self.left = left
        self.lack = lack
        self.kept_back = kept_back
        self.disputed = disputed


@frozen
class Worst:
    """The most that one request can cost."""

    usd: Decimal | None
    """`None`: no price is known, which is not zero."""
    tokens: int = 0
    """Input and output together."""
    model: str = ""
    """Whose price it is."""
    role: str = ""
    """Who asks, for messages."""

    @property
    def whose(self) -> str:
        """What messages call the request."""
        return f"The next request of {self.role}" if self.role else "The next request"


@frozen
class Room:
    """What a single request could get once all others are settled at nothing."""

    usd: Decimal | None
    """`None` without a ceiling in USD."""
    tokens: int | None
    """`None` without a ceiling in tokens."""

    def covers(self, worst: Worst) -> bool:
        """Tell whether a request fits; without a price it fits no ceiling in USD."""
        if self.tokens is not None and worst.tokens > self.tokens:
            return False
        return self.usd is None or (worst.usd is not None and worst.usd <= self.usd)


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


class Ticket:
    """A place in the lines for purses; numbered by when it came, as all lines are ordered."""

    __slots__ = ("kept", "number")
    _numbers = count()

    def __init__(self, *, kept: bool) -> None:
        self.kept = kept
        self.number = next(self._numbers)


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
        self.disputed = False
        """A provider billed more than the bound: nothing more is reserved."""
        self.changed = anyio.Event()
        """Set, and replaced, when a reservation ends or somebody leaves the line."""
        self.line: list[Ticket] = []
        """Who waits for this purse."""

    @property
    def left(self) -> Decimal | None:
        """USD neither spent nor reserved, never below 0; `None` without a ceiling."""
        return None if self.usd is None else max(ZERO, self.usd - self.spent - self.reserved)

    def headroom(self, *, kept: bool = False) -> Room:
        """Tell what a single request could get: the least over all purses that this one is in."""
        chain = self._chain()
        usd = [max(ZERO, left) for purse in chain if (left := purse.unspent(kept=kept)) is not None]
        tokens = [
            max(0, purse.tokens - purse.spent_tokens) for purse in chain if purse.tokens is not None
        ]
        return Room(min(usd, default=None), min(tokens, default=None))

    async def reserve(self, worst: Worst, *, kept: bool = False) -> Reservation:
        """Set the worst case of a request aside, waiting for running requests to settle if need be.

        Who waits is served before those that come later, so that a large request is not starved by
        small ones; only what is kept back goes past the line.

        Raises:
            OverBudgetError: It cannot be covered even when all running requests turn out free, or
                no price is known under a ceiling in USD.
        """
        ticket = Ticket(kept=kept)
        try:
            while True:
                # The run's purse first: when that is short, the run ends and not only an attempt.
                for purse in reversed(self._chain()):
                    purse.refuse_hopeless(worst, kept=kept)
                short = next((p for p in self._chain() if not p.serves(ticket, worst)), None)
                if short is None:
                    return self._take(worst)
                if ticket not in short.line:
                    short.line.append(ticket)
                await short.changed.wait()
        finally:
            for purse in self._chain():
                purse.leave(ticket)

    def reserve_now(self, worst: Worst) -> Reservation | None:
        """Set the worst case of a request aside if that can be done without waiting.

        Raises:
            OverBudgetError: As `reserve`.
        """
        chain, ticket = self._chain(), Ticket(kept=False)
        for purse in reversed(chain):
            purse.refuse_hopeless(worst, kept=False)
        if all(purse.serves(ticket, worst) for purse in chain):
            return self._take(worst)
        return None

    def carry(self, usd: Decimal, tokens: int, *, disputed: bool = False) -> None:
        """Take over what earlier lives of the run spent; of this purse alone, before it is used."""
        self.spent += usd
        self.spent_tokens += tokens
        self.disputed = self.disputed or disputed

    def _chain(self) -> list[Purse]:
        chain: list[Purse] = []
        purse: Purse | None = self
        while purse is not None:
            chain.append(purse)
            purse = purse.parent
        return chain

    def unspent(self, *, kept: bool) -> Decimal | None:
        """USD of this purse alone that is not spent; `None` without a ceiling."""
        return (
            None if self.usd is None else self.usd - self.spent - (ZERO if kept else self.keep_back)
        )

    def refuse_hopeless(self, worst: Worst, *, kept: bool) -> None:
        """Raise `OverBudgetError` when waiting for others cannot help; this purse alone."""
        room = self.unspent(kept=kept)
        if self.disputed:
            raise self._disputed(worst, room)
        if room is not None and worst.usd is None:
            raise self._unpriced(worst, room)
        if room is not None and worst.usd is not None and worst.usd > room:
            raise self._short_of_money(worst, worst.usd, room, kept=kept)
        if self.tokens is not None and worst.tokens > self.tokens - self.spent_tokens:
            raise self._short_of_tokens(worst, self.tokens, room)

    def _disputed(self, worst: Worst, room: Decimal | None) -> OverBudgetError:
        why = "the provider reported more usage than is possible"
        return OverBudgetError(
            f"Nothing more is asked: {why}; {_usd(self.spent)} is spent.",
            purse=self.name,
            needed=worst.usd,
            left=None if room is None else max(ZERO, room),
            disputed=True,
            lack=Lack(why),
        )

    def _unpriced(self, worst: Worst, room: Decimal) -> OverBudgetError:
        model = worst.model or "this model"
        return OverBudgetError(
            f"no price is known for {model}: the budget of ${self.usd} covers no request of it.",
            purse=self.name,
            needed=None,
            left=max(ZERO, room),
            lack=Lack(f"no price is known for {model}", model=worst.model),
        )

    def _short_of_money(
        self, worst: Worst, needed: Decimal, room: Decimal, *, kept: bool
    ) -> OverBudgetError:
        assert self.usd is not None, "only a ceiling can be too low"
        left, back = max(ZERO, room), ZERO if kept else self.keep_back
        digits = 4 if needed - left >= _LEAST_SHOWN and (not left or left >= _LEAST_SHOWN) else 6
        most, rest, spent = (_usd(one, digits) for one in (needed, left, self.spent))
        of = "" if self.parent is None else f" of the step's {_usd(self.usd)}"
        aside = f", {_usd(back)} kept back for an escalation" if back else ""
        return OverBudgetError(
            f"{worst.whose} needs up to {most} (its worst case); of {_usd(self.usd)}, {spent} "
            f"is spent{aside} and {rest} left.",
            purse=self.name,
            needed=needed,
            left=left,
            # Main may have what is kept back for it, though this one needs more than there is.
            kept_back=back > ZERO,
            lack=Lack(
                f"needs up to {most}, {rest} left{of}{aside}",
                enough_usd=self.spent + needed + back,
            ),
        )

    def _short_of_tokens(self, worst: Worst, tokens: int, room: Decimal | None) -> OverBudgetError:
        spent, left = self.spent_tokens, max(0, tokens - self.spent_tokens)
        return OverBudgetError(
            f"{worst.whose} needs up to {worst.tokens:,} tokens (its worst case); of "
            f"{tokens:,}, {spent:,} are spent and {left:,} left.",
            purse=self.name,
            needed=worst.usd,
            left=None if room is None else max(ZERO, room),
            lack=Lack(
                f"needs up to {worst.tokens:,} tokens, {left:,} left",
                enough_tokens=spent + worst.tokens,
            ),
        )

    def serves(self, ticket: Ticket, worst: Worst) -> bool:
        """Tell whether `worst` can be reserved right now and it is its turn; this purse alone."""
        # By age and not by place: two that wait in two lines may each come first in one of them.
        for other in self.line:
            if other.number < ticket.number and (other.kept or not ticket.kept):
                return False
        return self.covers(worst, kept=ticket.kept)

    def leave(self, ticket: Ticket) -> None:
        """Let those behind `ticket` have their turn; nothing for who never waited here."""
        if ticket in self.line:
            self.line.remove(ticket)
            self._wake()

    def covers(self, worst: Worst, *, kept: bool) -> bool:
        """Tell whether `worst` can be reserved right now; this purse alone."""
        taken = self.spent_tokens + self.reserved_tokens
        if self.tokens is not None and worst.tokens > self.tokens - taken:
            return False
        room = self.unspent(kept=kept)
        return room is None or (worst.usd is not None and worst.usd <= room - self.reserved)

    def _take(self, worst: Worst) -> Reservation:
        for purse in self._chain():
            purse.reserved += worst.usd or ZERO
            purse.reserved_tokens += worst.tokens
        return Reservation(self, worst)

    def book(self, worst: Worst, booked: Worst, *, disputed: bool) -> None:
        """Turn a reservation into what is spent; for `Reservation` only."""
        for purse in self._chain():
            purse.reserved -= worst.usd or ZERO
            purse.reserved_tokens -= worst.tokens
            purse.spent += booked.usd or ZERO
            purse.spent_tokens += booked.tokens
            purse.disputed = purse.disputed or disputed
            purse._wake()  # noqa: SLF001  its own class

    def _wake(self) -> None:
        waiting, self.changed = self.changed, anyio.Event()
        waiting.set()


def _usd(amount: Decimal, digits: int = 4) -> str:
    """Dollars for people: to a hundredth of a cent, or finer where that would hide something."""
    return f"${amount:.{digits}f}"
