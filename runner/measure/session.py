"""Adds up what one session's requests show."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

from runner.measure.assume import ZERO

if TYPE_CHECKING:
    from decimal import Decimal

    from runner.measure.course import Priced
    from runner.measure.records import Family, Source, Used

Way = Literal["batching", "steps", "delegation"]
WAYS: tuple[Way, ...] = ("batching", "steps", "delegation")
GAPS = (300, 3_600)
"""Seconds: the retentions that gaps are compared with; 0 stands for shorter ones."""


class Tokens:
    """Sums of tokens by class."""

    __slots__ = ("output", "read", "uncached", "write_1h", "write_5m")

    def __init__(self) -> None:
        self.uncached = self.read = self.write_5m = self.write_1h = self.output = 0

    def add(self, used: Used | Tokens) -> None:
        """Add a request's, or another sum."""
        self.uncached += used.uncached
        self.read += used.read
        self.write_5m += used.write_5m
        self.write_1h += used.write_1h
        self.output += used.output


class Gaps:
    """Times between requests beyond a length, and what was written again after them."""

    __slots__ = ("count", "lost", "tokens", "usd")

    def __init__(self) -> None:
        self.count = self.lost = self.tokens = 0
        self.usd = ZERO

    def add(self, count: int, lost: int, tokens: int, usd: Decimal) -> None:
        """Add what was seen."""
        self.count += count
        self.lost += lost
        self.tokens += tokens
        self.usd += usd


class Session:
    """One session, its side-chains with it."""

    __slots__ = (
        "batched",
        "commands",
        "cost",
        "delegated",
        "failed",
        "fast",
        "first",
        "gaps",
        "last",
        "left_out",
        "mechanical",
        "mechanical_usd",
        "name",
        "paid",
        "passed",
        "runs",
        "saved",
        "side_turns",
        "source",
        "tokens",
        "turns",
        "undelegated",
        "unpriced",
    )

    def __init__(self, source: Source, name: str) -> None:
        self.source = source
        self.name = name
        self.turns = self.side_turns = self.unpriced = self.fast = 0
        self.mechanical = self.passed = self.failed = 0
        self.batched = self.left_out = self.delegated = self.undelegated = self.paid = 0
        self.tokens = Tokens()
        self.cost = self.mechanical_usd = ZERO
        self.commands: Counter[Family] = Counter()
        self.runs: list[int] = []
        self.gaps = {length: Gaps() for length in (0, *GAPS)}
        self.saved: dict[Way, Decimal] = dict.fromkeys(WAYS, ZERO)
        self.first: float | None = None
        self.last: float | None = None

    def add(self, one: Priced) -> None:
        """Add a request."""
        turn = one.turn
        self.turns += 1
        self.side_turns += turn.side
        self.fast += turn.fast
        self.tokens.add(turn.used)
        usd = one.usd
        self.cost += usd
        if turn.began is not None:
            self.first = min(turn.began, self.first or turn.began)
            self.last = max(turn.began, self.last or turn.began)
        if one.mechanical:
            self.mechanical += 1
            self.mechanical_usd += usd
            self.passed += turn.passed is True
            self.failed += turn.passed is False
            self.commands.update(turn.families)

    def gap(self, seconds: float, rewritten: int, usd: Decimal) -> None:
        """Add the time between two requests; what is beyond an hour is beyond 5 minutes, too."""
        beyond = [length for length in GAPS if seconds > length] or [0]
        for length in beyond:
            self.gaps[length].add(1, int(rewritten > 0), rewritten, usd)
