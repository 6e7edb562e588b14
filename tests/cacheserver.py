"""A provider on loopback that counts cached tokens by the rules that providers publish.

    with caching(script, speed=600) as provider:      # one real second is ten minutes to it
        Models(environ=provider.environ(), ...)       # or os.environ of a child process
        provider.bills                                # what it counted, request by request
        provider.usd(HAND_PRICES)                     # what it bills

The script is one of `provider.serving`; of the tokens in its answers only the output counts. It is
an oracle: it shares no code with the runner. Where a rule is not published it takes the reading
that grants less: nothing is read here that a provider might refuse.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cacheprompt import (
    BadRequestError,
    Prompt,
    anthropic_prompt,
    chat_prompt,
    google_prompt,
    responses_prompt,
)
from cacherules import Caches, Moment
from provider import Answer, Fault, Provider, Tokens, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from provider import Ask, Reply

MILLION = Decimal(1_000_000)

Prices = tuple[Decimal, Decimal, Decimal, Decimal, Decimal]
"""Input, cache read, write for 5 (OpenAI: 30) minutes, write for an hour, output."""


def _prices(text: str) -> Prices:
    a, b, c, d, e = (Decimal(0 if one == "-" else one) for one in text.split())
    return a, b, c, d, e


HAND_PRICES: Mapping[str, Prices] = {
    "claude-fable-5-2": _prices("8 0.20 10 16 40"),
    "claude-fable-5-1": _prices("10 0.25 12.5 20 50"),
    "claude-opus-5-5": _prices("4 0.20 5 8 20"),
    "claude-opus-5": _prices("5 0.50 6.25 10 25"),
    "claude-opus-4-8": _prices("5 0.50 6.25 10 25"),
    "claude-sonnet-5-5": _prices("2 0.10 2.5 4 10"),
    "claude-haiku-5-5": _prices("0.10 0.01 0.125 0.20 0.50"),
    "claude-haiku-4-5": _prices("1 0.10 1.25 2 5"),
    "gpt-6-astra": _prices("10 1.00 12.5 - 50"),
    "gpt-6.1-sol": _prices("2 0.10 2.5 - 10"),
    "gpt-6-sol": _prices("2 0.20 2.5 - 10"),
    "gpt-6.1-terra": _prices("1 0.05 1.25 - 5"),
    "gpt-6-luna": _prices("0.10 0.01 0.125 - 0.50"),
    "gpt-5.6-sol": _prices("4 0.40 5 - 20"),
    "gpt-5.6-luna": _prices("0.2 0.02 0.25 - 1.2"),
    "gpt-5.4-mini": _prices("0.75 0.075 - - 4.5"),
    "gemini-4-argon": _prices("2 0.10 - - 10"),
    "gemini-3.8-flash": _prices("0.75 0.075 - - 3.75"),
}
"""USD per million tokens, typed in by hand from the providers' pages; a dash is never billed."""

Tier = tuple[int, Decimal, Decimal]
"""Prompts of more tokens than this cost so many times as much: input of every class, output."""

HAND_TIERS: Mapping[str, Tier] = {
    "claude-haiku-5-5": (100_000, Decimal(5), Decimal(5)),
    **{
        name: (272_000, Decimal(2), Decimal("1.5"))
        for name in HAND_PRICES
        if name.startswith(("gpt-6", "gpt-5.6"))
    },
}


@dataclass(frozen=True, slots=True)
class Bill:
    """What one answered request is billed."""

    number: int
    """Of the request."""
    api: str
    model: str
    at: float
    """When it came, in the server's seconds."""
    tokens: Tokens
    reads_of: int | None
    """Number of the request that wrote the entry it read."""

    @property
    def body_tokens(self) -> Mapping[str, int]:
        """Tokens by class: `input` (uncached), `read`, `write`, `write_1h`, `output`."""
        one = self.tokens
        return {
            "input": one.input - one.cache_read - one.cache_write,
            "read": one.cache_read,
            "write": one.cache_write - one.cache_write_1h,
            "write_1h": one.cache_write_1h,
            "output": one.output,
        }

    def usd(
        self, prices: Mapping[str, Prices] = HAND_PRICES, tiers: Mapping[str, Tier] = HAND_TIERS
    ) -> Decimal:
        """What it costs, to the last digit."""
        above, dearer_in, dearer_out = tiers.get(self.model, (0, Decimal(1), Decimal(1)))
        big = above > 0 and self.tokens.input > above
        count = self.body_tokens
        of_input, of_read, of_write, of_write_1h, of_output = prices[self.model]
        prompt = of_input * count["input"] + of_read * count["read"]
        prompt += of_write * count["write"] + of_write_1h * count["write_1h"]
        prompt *= dearer_in if big else 1
        return (prompt + of_output * count["output"] * (dearer_out if big else 1)) / MILLION


class CachingProvider:
    """A running server that counts."""

    def __init__(self, script: Callable[[Ask], Reply], speed: float, minimum: int | None) -> None:
        self.bills: list[Bill] = []
        """One for each answer; a `Fault` is not billed and writes nothing."""
        self.prompts: dict[int, Prompt] = {}
        """By number of the request."""
        self._inner: Provider | None = None
        self._script = script
        self._speed = speed
        self._caches = Caches(minimum)
        self._began = time.monotonic()
        self._skipped = 0.0

    @contextmanager
    def serve(self) -> Generator[CachingProvider]:
        """Serve until the block ends."""
        with serving(self._answer) as self._inner:
            yield self

    @property
    def served(self) -> Provider:
        """The server beneath."""
        assert self._inner is not None, "only while it serves"
        return self._inner

    @property
    def url(self) -> str:
        """Without a path: Anthropic's base URL."""
        return self.served.url

    @property
    def openai_url(self) -> str:
        """OpenAI's base URL."""
        return self.served.openai_url

    @property
    def asks(self) -> list[Ask]:
        """Every request, with its parsed body."""
        return self.served.asks

    def environ(self) -> dict[str, str]:
        """The variables that lead the vendors' clients here."""
        return self.served.environ()

    @property
    def now(self) -> float:
        """Seconds on the server's clock, from 0."""
        return (time.monotonic() - self._began) * self._speed + self._skipped

    def skip(self, seconds: float) -> None:
        """Put the server's clock forward."""
        self._skipped += seconds

    def usd(
        self,
        prices: Mapping[str, Prices] = HAND_PRICES,
        *,
        tiers: Mapping[str, Tier] = HAND_TIERS,
        models: Iterable[str] | None = None,
    ) -> Decimal:
        """What all bills, or those of some models, come to."""
        wanted = None if models is None else {*models}
        chosen = (bill for bill in self.bills if wanted is None or bill.model in wanted)
        return sum((bill.usd(prices, tiers) for bill in chosen), Decimal(0))

    def extends(self, earlier: int, later: int) -> bool:
        """Whether a request begins with all of an earlier one, settings too."""
        one, other = self.prompts[earlier], self.prompts[later]
        return len(one.blocks) <= len(other.blocks) and (
            one.blocks[-1].key == other.blocks[len(one.blocks) - 1].key
        )

    def _answer(self, ask: Ask) -> Reply:
        now = self.now
        try:
            prompt = _PROMPTS[ask.api](ask)
        except BadRequestError as error:
            kind = {"type": "invalid_request_error", "message": str(error)}
            return Fault(400, {"type": "error", "error": kind})
        reply = self._script(ask)
        if isinstance(reply, Fault):
            return reply
        self.prompts[ask.number] = prompt
        counted = self._caches.count(
            prompt, Moment(ask.number, now, now + reply.delay * self._speed)
        )
        tokens = Tokens(
            prompt.total,
            counted.read,
            counted.write,
            counted.write_1h,
            (reply.tokens or Tokens()).output,
        )
        self.bills.append(Bill(ask.number, ask.api, prompt.model, now, tokens, counted.reads_of))
        return replace(reply, tokens=None if reply.tokens is None else tokens)


@contextmanager
def caching(
    script: Callable[[Ask], Reply] = lambda _: Answer(text="yes"),
    *,
    speed: float = 1.0,
    minimum: int | None = None,
) -> Generator[CachingProvider]:
    """Serve, and count cached tokens.

    Args:
        script: What the models say; `Answer.tokens.output` is taken, all else is counted.
        speed: Seconds on the server's clock in one real second.
        minimum: Smallest prefix that Anthropic's models cache; `None` is each model's own.
    """
    with CachingProvider(script, speed, minimum).serve() as provider:
        yield provider


_PROMPTS: Mapping[Any, Callable[[Ask], Prompt]] = {
    "anthropic": anthropic_prompt,
    "chat": chat_prompt,
    "responses": responses_prompt,
    "google": google_prompt,
}
