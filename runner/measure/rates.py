"""Looks prices up once for each model, day and size of prompt: the table is slow to ask."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeAlias

from runner.outcome import Usage
from runner.price import Remembered, class_prices, cost

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from runner.plan import Price
    from runner.price import ClassPrices

    Mark: TypeAlias = tuple[Decimal | None, Decimal | None]

_HOUR = 3600
_DAY = 24 * _HOUR
_LARGEST = 1 << 23
"""Tokens: no prompt is larger, so that no tier of prices begins above."""


class Rates:
    """What a token of each class costs, remembered.

    A model's tiers are found again on a day on which the smallest or the largest prompt costs
    something else.

    Args:
        prices: The user's own, by model id or `provider:*`.
    """

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = prices
        self._steps: dict[str, int] = {}
        self._of_day: dict[tuple[str, int], Remembered] = {}
        self._of_mark: dict[tuple[str, Mark], Remembered] = {}

    def of(self, model: str, at: float | None, prompt: int) -> ClassPrices | None:
        """Return a model's prices; `None` when none are known.

        Args:
            model: `provider:model`.
            at: When the request began, in seconds since the epoch; without it, now.
            prompt: Tokens of its prompt.
        """
        moment = datetime.now(UTC).timestamp() if at is None else at
        step = self._steps.get(model)
        if step is None:
            step = self._steps[model] = self._step(model, moment)
        key = (model, int(moment // step))
        table = self._of_day.get(key)
        if table is None:
            table = self._of_day[key] = self._table(model, key[1] * step)
        return table(model, prompt)

    def _table(self, model: str, at: float) -> Remembered:
        """Return the prices of a time, the same table for times of the same prices."""
        when, mark = datetime.fromtimestamp(at, UTC), self._mark(model, at)
        fresh = Remembered(lambda name, size: class_prices(name, when, self._prices, size))
        return self._of_mark.setdefault((model, mark), fresh)

    def _mark(self, model: str, at: float) -> Mark:
        """Return what tells a day's prices from another's: two requests' cost."""
        when = datetime.fromtimestamp(at, UTC)
        sizes = (8, _LARGEST)
        usages = [Usage(1, size, size // 4, size // 2, size // 8, 1) for size in sizes]
        small, large = (cost(model, usage, when, prices=self._prices) for usage in usages)
        return small, large

    def _step(self, model: str, at: float) -> int:
        """Return for how many seconds prices hold: for an hour where a day has peak hours."""
        start = at // _DAY * _DAY
        first = self._mark(model, start)
        hours = range(1, 24) if first[0] is not None else ()
        varies = any(self._mark(model, start + hour * _HOUR) != first for hour in hours)
        return _HOUR if varies else _DAY
