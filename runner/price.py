"""Prices usage by the bundled table of genai-prices, never by anything fetched while running.

Light until the first price is asked for: the table costs about 0.4 seconds to load.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.plan import Price

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genai_prices.types import Usage as PricedUsage

    from runner.outcome import Usage

MILLION = Decimal(1_000_000)
NOTHING = Decimal(0)
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
    own = _own(model_id, prices or {})
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
) -> Decimal | None:
    """Tell the most that a request of that size can cost in USD, in the dearest cache class."""
    own = _own(model_id, prices or {})
    if own is not None:
        dearest = max(own.input, own.cache_read or own.input, own.cache_write or own.input)
        return (dearest * input_tokens + own.output * output_tokens) / MILLION
    begin = at or datetime.now(UTC)
    found: list[Decimal] = []
    for moment in (begin, begin + LONGEST_REQUEST):
        for written, written_1h in ((0, 0), (input_tokens, 0), (input_tokens, input_tokens)):
            usage = _TableUsage(input_tokens, 0, written, written_1h, output_tokens)
            price = _table_price(model_id, usage, moment)
            if price is None:
                return None
            found.append(price)
    return max(found)


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

    provider, _, name = model_id.partition(":")
    try:
        _, model = get_snapshot().find_provider_model(
            name, None, _VENDOR.get(provider, provider), None
        )
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

    provider, _, name = model_id.partition(":")
    counted: PricedUsage = Usage(
        input_tokens=usage.input,
        cache_read_tokens=usage.read,
        cache_write_tokens=usage.write,
        cache_write_1h_tokens=usage.write_1h,
        output_tokens=usage.output,
    )
    try:
        found = calc_price(
            counted,
            name,
            provider_id=_VENDOR.get(provider, provider),
            genai_request_timestamp=at,
        )
    except (LookupError, ValueError):
        # Unknown provider or model; or counts that the table cannot price.
        return None
    return found.total_price


def _own(model_id: str, prices: Mapping[str, Price]) -> Price | None:
    provider = model_id.partition(":")[0]
    return prices.get(model_id) or prices.get(f"{provider}:*")


def _priced(price: Price, usage: Usage) -> Decimal:
    read, written = usage.cache_read_tokens, usage.cache_write_tokens
    plain = usage.input_tokens - read - written
    of_read = price.input if price.cache_read is None else price.cache_read
    of_write = price.input if price.cache_write is None else price.cache_write
    total = price.input * plain + of_read * read + of_write * written
    return (total + price.output * usage.output_tokens) / MILLION
