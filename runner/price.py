"""Prices usage by the bundled table of genai-prices, never by anything fetched while running.

Light until the first price is asked for: the table costs about 0.4 seconds to load.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.outcome import Usage
from runner.plan import Price

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import date

    from genai_prices.types import Usage as PricedUsage

MILLION = Decimal(1_000_000)
NOTHING = Decimal(0)
_LARGEST = 1 << 23
"""Tokens: no prompt is larger, so that no tier of prices begins above."""
LONGEST_REQUEST = timedelta(minutes=30)
"""A dated price may begin, or a peak hour open, while a request runs: both ends are looked at."""

_VENDOR = {
    "openai-chat": "openai",
    "openai-responses": "openai",
    "google-cloud": "google",
    "bedrock": "aws",
    "azure-responses": "azure",
    "xai": "x-ai",
}
"""Prefix of a model id to genai-prices' id of the provider, where they differ."""

UNLISTED = "unlisted"
"""Prefix of the id of a model that the table is not to be asked about, however it is called."""
FREE = Price(NOTHING, NOTHING)


def cost(
    model_id: str,
    usage: Usage,
    at: datetime | None = None,
    *,
    prices: Mapping[str, Price] | None = None,
) -> Decimal | None:
    """Tell what one request costs in USD; `None` when no price is known or the usage is absurd.

    Args:
        model_id: `provider:model`, as asked for.
        usage: Of ONE request: prices have tiers by the size of a prompt.
        at: When the request began, for dated prices; now by default.
        prices: The user's own, by model id or by `provider:*`; they come first.
    """
    if not plausible(usage):
        return None
    own = own_price(model_id, prices or {})
    if own is not None:
        return _priced(own, usage)
    return _table_price(model_id, _table_usage(usage), at or datetime.now(UTC))


def worst_case(
    model_id: str,
    input_tokens: int,
    output_tokens: int,
    at: datetime | None = None,
    *,
    prices: Mapping[str, Price] | None = None,
    hour: bool = True,
) -> Decimal | None:
    """Tell the most that a request of that size can cost in USD, in the dearest cache class.

    Without *hour* no cache write for an hour is asked for, and none can be billed.
    """
    own = own_price(model_id, prices or {})
    if own is not None:
        written = own.input if own.cache_write is None else own.cache_write
        for_an_hour = own.cache_write_1h if hour else None
        dearest = max(own.input, own.cache_read or NOTHING, written, for_an_hour or NOTHING)
        return (dearest * input_tokens + own.output * output_tokens) / MILLION
    begin = at or datetime.now(UTC)
    found: list[Decimal] = []
    classes = [(0, 0), (input_tokens, 0), (input_tokens, input_tokens)]
    for moment in (begin, begin + LONGEST_REQUEST):
        for written, written_1h in classes if hour else classes[:-1]:
            usage = _TableUsage(input_tokens, 0, written, written_1h, output_tokens)
            price = _table_price(model_id, usage, moment)
            if price is None:
                return None
            found.append(price)
    return max(found)


@frozen
class ClassPrices:
    """What a token costs in USD, by the class that it is billed in."""

    input: Decimal
    read: Decimal
    write: Decimal
    write_1h: Decimal
    output: Decimal


def class_prices(
    model_id: str, at: datetime, prices: Mapping[str, Price], prompt_tokens: int
) -> ClassPrices | None:
    """Tell what each class costs in a prompt of that size; `None` when no price is known."""
    size = max(1, prompt_tokens)
    whole = cost(model_id, Usage(1, size), at, prices=prices)
    read = cost(model_id, Usage(1, size, cache_read_tokens=size), at, prices=prices)
    write = cost(model_id, Usage(1, size, 0, size), at, prices=prices)
    hour = cost(model_id, Usage(1, size, 0, size, size), at, prices=prices)
    answered = cost(model_id, Usage(1, size, output_tokens=1), at, prices=prices)
    if whole is None or read is None or write is None or hour is None or answered is None:
        return None
    return ClassPrices(whole / size, read / size, write / size, hour / size, answered - whole)


def source() -> tuple[str, str]:
    """Tell the table's name with its version, and the date to print beside its prices.

    The date (`YYYY-MM-DD`) is the newest one, up to the day the package was installed, on which a
    price of the table begins. The table does not say when it was written or last compared with the
    vendors' pages: it may be some days newer, and even older where a price was announced ahead.
    Prices that begin later still are in it, too, and hold from their day on.
    """
    import genai_prices  # noqa: PLC0415  start-up: loads the table

    begins = list(_begins())
    table = Path(genai_prices.__file__)
    installed = datetime.fromtimestamp(table.stat().st_mtime, UTC).date()
    # Some installers set files back to 1970.
    known = [day for day in begins if day <= installed] or begins
    return f"genai-prices {genai_prices.__version__}", max(known).isoformat()


def _begins() -> Iterator[date]:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  start-up: loads the table
    from genai_prices.types import (  # noqa: PLC0415  start-up: loads the table
        ModelPrice,
        StartDateConstraint,
    )

    today = datetime.now(UTC).date()
    for provider in get_snapshot().providers:
        for model in provider.models:
            rows = [] if isinstance(model.prices, ModelPrice) else model.prices
            for row in (*rows, *(model.price_variants or ())):
                constraint = row.constraint
                if isinstance(constraint, StartDateConstraint) and constraint.start_date <= today:
                    yield constraint.start_date


class Remembered:
    """Asks for a model's prices once for each tier, for the table is slow to ask.

    A price that is the same for a smaller and a larger prompt is taken to be the same between.
    """

    def __init__(self, prices: Callable[[str, int], ClassPrices | None]) -> None:
        self._prices = prices
        self._known: dict[str, list[tuple[int, ClassPrices | None]]] = {}

    def __call__(self, model: str, tokens: int) -> ClassPrices | None:
        """Return what a token costs by class, in a prompt of so many tokens."""
        known = self._known.setdefault(model, [])
        if not known:
            known += [(size, self._prices(model, size)) for size in (1, _LARGEST)]
        at = bisect_right(known, tokens, key=lambda entry: entry[0])
        below, above = known[max(0, at - 1)], known[min(at, len(known) - 1)]
        if below[1] == above[1] or below[0] == tokens:
            return below[1]
        found = self._prices(model, tokens)
        known.insert(at, (tokens, found))
        return found


def plausible(usage: Usage) -> bool:
    """Tell whether the counts can be true: none negative, the parts no more than the whole."""
    parts = (usage.cache_read_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens)
    if min(*parts, usage.input_tokens, usage.output_tokens) < 0:
        return False
    whole = usage.cache_read_tokens + usage.cache_write_tokens
    return whole <= usage.input_tokens and usage.cache_write_1h_tokens <= usage.cache_write_tokens


def window(model_id: str) -> int | None:
    """Tell the model's context window in tokens; `None` when the table does not say."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  start-up: loads the table

    listed = _listed(model_id)
    if listed is None:
        return None
    try:
        _, model = get_snapshot().find_provider_model(listed[1], None, listed[0], None)
    except LookupError:
        return None
    return model.context_window


@frozen
class _TableUsage:
    input: int
    read: int
    write: int
    write_1h: int
    output: int


def _table_usage(usage: Usage) -> _TableUsage:
    return _TableUsage(
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.cache_write_1h_tokens,
        usage.output_tokens,
    )


def _table_price(model_id: str, usage: _TableUsage, at: datetime) -> Decimal | None:
    from genai_prices import Usage, calc_price  # noqa: PLC0415  start-up: loads the table

    listed = _listed(model_id)
    if listed is None:
        return None
    counted: PricedUsage = Usage(
        input_tokens=usage.input,
        cache_read_tokens=usage.read,
        cache_write_tokens=usage.write,
        cache_write_1h_tokens=usage.write_1h,
        output_tokens=usage.output,
    )
    try:
        found = calc_price(counted, listed[1], provider_id=listed[0], genai_request_timestamp=at)
    except (LookupError, ValueError):
        # Unknown model; or counts that the table cannot price.
        return None
    rates = found.model_price
    # A row without a price is of a model that costs nothing, or of one whose price nobody wrote
    # down: who can tell.
    return None if rates.input_mtok is None or rates.output_mtok is None else found.total_price


def _listed(model_id: str) -> tuple[str, str] | None:
    """The table's id of the provider, and the model; `None` when it has no such provider.

    The table itself guesses: to it `my-openai` is OpenAI.
    """
    prefix, _, name = model_id.partition(":")
    provider = _VENDOR.get(prefix, prefix)
    return (provider, name) if provider in _vendors() else None


@cache
def _vendors() -> frozenset[str]:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415  start-up: loads the table

    return frozenset(provider.id for provider in get_snapshot().providers)


def own_price(model_id: str, prices: Mapping[str, Price]) -> Price | None:
    """Return what the user says that a model costs; `None` when they do not say."""
    provider = model_id.partition(":")[0]
    return prices.get(model_id) or prices.get(f"{provider}:*")


def _priced(price: Price, usage: Usage) -> Decimal:
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    plain = usage.input_tokens - read - written
    of_read = price.input if price.cache_read is None else price.cache_read
    of_write = price.input if price.cache_write is None else price.cache_write
    of_hour = of_write if price.cache_write_1h is None else price.cache_write_1h
    hour = usage.cache_write_1h_tokens
    total = price.input * plain + of_read * read + of_write * (written - hour) + of_hour * hour
    return (total + price.output * usage.output_tokens) / MILLION
