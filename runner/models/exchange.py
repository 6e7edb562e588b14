"""Decides what one request may cost, reserves it, and books what came of each of its tries."""

from __future__ import annotations

import json
import time
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from runner import price
from runner.errors import RunnerError
from runner.events import ModelResponded, Notice
from runner.frozen import frozen
from runner.money import Worst
from runner.outcome import Usage
from runner.plan import MAIN
from runner.prefix import Api, Prefix, extends, new_bytes, prefix_of_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from runner.events import Sink
    from runner.models import Asking
    from runner.money import Purse, Reservation
    from runner.plan import Price

OUTPUT_TOKENS = 8_000
"""Asked for where nobody says how long an answer may be; all of it is reserved."""
LEAST_OUTPUT_TOKENS = 2_000
"""An answer may be shortened to this much before a request is given up for want of money."""
UNSEEN_TOKENS = 1_024
"""Tokens that a provider adds out of sight: its own instructions for tools, markers of roles."""
UNSEEN_IN_TURN = 256
LONGEST_ANSWER = 128_000
"""Assumed where the wire does not say."""


@frozen
class Terms:
    """What stays the same for all requests of one conversation."""

    role: str
    model_id: str
    """As asked for; `script:FILE` too."""
    priced_as: str | None
    """The id whose prices hold; `None` costs nothing (a script that names no model)."""
    conversation: str
    wired: bool
    """Whether requests pass our transport; else they are looked at before they leave."""
    scripted: bool
    prices: Mapping[str, Price]


@dataclass(slots=True)
class Memory:
    """What the last answered request of a conversation looked like."""

    messages: int = 0
    prefix: Prefix | None = None
    input_tokens: int = 0


class ShortenError(Exception):
    """Raised inside the transport: the answer must be shorter to be affordable."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


class Exchange:
    """One request with all its tries: the transport's gate."""

    def __init__(
        self, terms: Terms, asking: Asking, purse: Purse, memory: Memory, emit: Sink
    ) -> None:
        self.terms = terms
        self.asking = asking
        self.started = time.monotonic()
        self.at = datetime.now(UTC)
        self.prefix: Prefix | None = None
        self.stopped: BaseException | None = None
        """What kept a try from being sent; vendor clients wrap it in errors of their own."""
        self._purse = purse
        self._memory = memory
        self._emit = emit
        self._reservation: Reservation | None = None

    async def before(self, path: str, body: bytes) -> None:
        """Reserve the worst case of a try, which no longer waits for anything else after."""
        api = _api_of(path)
        if api is None:
            return
        try:
            await self._reserve(api, body)
        except (RunnerError, ShortenError) as error:
            self.stopped = error
            raise

    def refused(self) -> None:
        """Give the money back: the provider did not take the request."""
        if self._reservation is not None:
            self._reservation.release()
            self._reservation = None

    def lost(self) -> None:
        """Book the worst case as a row of its own: the try may be billed."""
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return
        reservation.lost()
        self._emit(self.row(Usage(requests=1), reservation, known=False))

    def waiting(self, why: str, seconds: float) -> None:
        """Tell people that the provider is tried again."""
        text = f"{self.terms.model_id}: {why}, trying again in {seconds:.3g} s"
        self._emit(Notice(text, self.asking.step))

    def close(self) -> None:
        """End the exchange; a reservation that is still open is of a request nobody knows about."""
        self.lost()

    def settle(self, usage: Usage, *, measured: bool) -> ModelResponded:
        """Book what the response used and return its row of the ledger."""
        reservation, self._reservation = self._reservation, None
        assert reservation is not None, "a response without a request"
        spent = self._cost(usage) if measured else None
        tokens = usage.input_tokens + usage.output_tokens
        unpriced = reservation.worst.usd is None
        known = measured and price.plausible(usage) and (unpriced or spent is not None)
        if known:
            reservation.settle(spent, tokens)
        else:
            reservation.lost()
            self._emit(Notice(self._unusable(reservation.worst), self.asking.step))
        if reservation.outcome == "disputed":
            self._emit(Notice(self._disputed(reservation.worst, spent, tokens), self.asking.step))
        return self.row(usage, reservation, known=known, spent=spent)

    def row(
        self, usage: Usage, reservation: Reservation, *, known: bool, spent: Decimal | None = None
    ) -> ModelResponded:
        """Make a row of the ledger; without a known cost it is what was booked: the worst case."""
        return ModelResponded(
            step=self.asking.step,
            attempt=self.asking.attempt,
            role=self.terms.role,
            asked=self.terms.model_id,
            served="",
            usage=usage,
            cost_usd=spent if known else reservation.worst.usd,
            seconds=time.monotonic() - self.started,
            conversation=self.terms.conversation,
            scripted=self.terms.scripted,
        )

    def continuity(self) -> str:
        """Say how the request follows the one before: `first`, `extends`, or where it differs."""
        if self._memory.prefix is None:
            return "first"
        if self.prefix is None:
            return "unreadable"
        return extends(self._memory.prefix, self.prefix) or "extends"

    async def _reserve(self, api: Api, body: bytes) -> None:
        fields = cast("Mapping[str, Any]", json.loads(body))
        self.prefix = prefix_of_json(api, fields, len(body))
        kept = self.terms.role == MAIN
        tokens = self._input_bound(len(body))
        answer = _answer_limit(fields)
        worst = self._worst(tokens, answer)
        room = self._purse.headroom(kept=kept)
        if room is not None and worst.usd is not None and worst.usd > room:
            least = min(answer, LEAST_OUTPUT_TOKENS)
            if self._dollars(tokens, least) <= room and least < answer:
                raise ShortenError(self._longest(tokens, least, answer, room))
            # Nothing helps: refused below, with the least that would have been needed.
            worst = self._worst(tokens, least)
        self._reservation = await self._purse.reserve(worst, kept=kept)

    def _input_bound(self, size: int) -> int:
        """Bound the prompt's tokens: none is less than a byte.

        What the provider counted for the part that it has seen, and the bytes of what is new.
        """
        memory, whole = self._memory, size + UNSEEN_TOKENS
        if memory.prefix is None or self.prefix is None or memory.input_tokens == 0:
            return whole
        if extends(memory.prefix, self.prefix):
            return whole
        fresh = new_bytes(memory.prefix, self.prefix)
        return min(whole, memory.input_tokens + fresh + UNSEEN_IN_TURN)

    def _worst(self, input_tokens: int, answer: int) -> Worst:
        if self.terms.priced_as is None:
            return Worst(price.NOTHING, input_tokens + answer)
        usd = price.worst_case(
            self.terms.priced_as, input_tokens, answer, self.at, prices=self.terms.prices
        )
        return Worst(usd, input_tokens + answer)

    def _dollars(self, input_tokens: int, answer: int) -> Decimal:
        usd = self._worst(input_tokens, answer).usd
        assert usd is not None, "a model that has a price has one for any size"
        return usd

    def _longest(self, tokens: int, least: int, most: int, room: Decimal) -> int:
        """The longest answer that the room allows; known to be at least `least`."""
        sizes = range(least, most)
        return least + bisect_right(sizes, room, key=lambda n: self._dollars(tokens, n)) - 1

    def _cost(self, usage: Usage) -> Decimal | None:
        if self.terms.priced_as is None:
            return price.NOTHING
        return price.cost(self.terms.priced_as, usage, self.at, prices=self.terms.prices)

    def _unusable(self, worst: Worst) -> str:
        counted = "an unknown cost" if worst.usd is None else f"its worst case, ${worst.usd:.4f}"
        return f"{self.terms.model_id} reported no usable usage; the request counts at {counted}"

    def _disputed(self, worst: Worst, spent: Decimal | None, tokens: int) -> str:
        return (
            f"{self.terms.model_id} reported {tokens} tokens (${spent or 0:.4f}) where at most "
            f"{worst.tokens} (${worst.usd or 0:.4f}) are possible; nothing more is asked"
        )


def _api_of(path: str) -> Api | None:
    """Tell what is spoken at a path; `None` where no model answers (counting tokens, say)."""
    if path.endswith("/messages"):
        return "anthropic"
    if path.endswith("/chat/completions"):
        return "chat"
    return "responses" if path.endswith("/responses") else None


def _answer_limit(fields: Mapping[str, Any]) -> int:
    """How long the answer may be, by the wire itself."""
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        limit = fields.get(name)
        if isinstance(limit, int):
            return limit
    return LONGEST_ANSWER
