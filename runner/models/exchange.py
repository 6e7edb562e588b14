"""Decides what one request may cost, reserves it, and books what came of each of its tries."""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_right
from dataclasses import field, replace
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from runner import price
from runner.errors import RunnerError
from runner.events import ModelAsked, ModelRefused, ModelResponded, ModelRetried, Notice
from runner.frozen import frozen
from runner.models.guard import Guard, Memory, PrefixBrokenError
from runner.models.transport import Caller
from runner.money import OverBudgetError, Worst
from runner.outcome import Usage
from runner.plan import KEEPALIVE
from runner.prefix import Api, digest_of, extends, model_in, new_bytes, prefix_of_json
from runner.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from runner.cache import CacheRules
    from runner.events import Event, Sink
    from runner.models import Asking
    from runner.money import Purse, Reservation, Room
    from runner.plan import Price

OUTPUT_TOKENS = 8_000
"""Asked for where nobody says how long an answer may be; all of it is reserved."""
LONG_OUTPUT_TOKENS = 32_000
"""Asked for once more after an answer that was cut off."""
LEAST_OUTPUT_TOKENS = 2_000
"""An answer may be shortened to this much before a request is given up for want of money."""
UNSEEN_TOKENS = 1_024
"""Tokens that a provider adds out of sight: its own instructions for tools, markers of roles."""
UNSEEN_IN_TURN = 256
MOST_BYTES_PER_TOKEN = 16
"""A provider that counts fewer tokens left a part out, such as what it read from its cache: its
count is no bound of the next request."""
LONGEST_ANSWER = 128_000
"""Assumed where the wire does not say."""
_HOUR = re.compile(rb'"ttl"\s*:\s*"1h"')
"""A cache marker that asks for an hour; in a text its quotes would be escaped."""


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
    main: bool = False
    """Whether it is the main conversation, whatever its role is called."""
    rules: CacheRules | None = None
    """What is known of the model's prompt cache."""
    strict: bool = False
    """Whether a main request that does not extend the one before is refused."""
    cache_key: str = ""
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    """Numbers the requests of a run."""
    day: datetime | None = None
    """The day whose prices hold, in a replay; `None` is the day of the request."""


class TooLateError(RunnerError):
    """Raised instead of sending a keep-alive that would cost more than it saves."""


class ShortenError(Exception):
    """Raised inside the transport: the answer must be shorter to be affordable."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


class Exchange:
    """One request with all its tries: the transport's gate."""

    def __init__(
        self,
        terms: Terms,
        asking: Asking,
        purse: Purse,
        memory: Memory,
        emit: Sink,
        *,
        again: bool = False,
    ) -> None:
        """*again* sends the last request once more, only to keep its cache: once, or not at all."""
        self.terms = terms
        self.asking = asking
        self.started = time.monotonic()
        self.at = datetime.now(UTC)
        self.answer = LONGEST_ANSWER
        """How many tokens the answer to the last try may have."""
        self.news = ""
        """The messages that are new since the last response, as they are journaled."""
        self.stopped: BaseException | None = None
        """What kept a try from being sent; vendor clients wrap it in errors of their own."""
        self._purse = purse
        self._memory = memory
        memory.under_way += 1
        self.guard = Guard(terms.rules, memory, main=terms.main, again=again)
        self._emit = emit
        self._reservation: Reservation | None = None
        self._again = again
        self._tried = False
        self._hour = True
        """Whether a cache write for an hour may be billed."""
        self._number = 0
        """Of the request that is under way."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        cancelled = kind is not None and not issubclass(kind, Exception)
        self.close("cancelled" if cancelled else "failed")

    @property
    def caller(self) -> Caller:
        """On whose behalf the request is made."""
        terms, asking = self.terms, self.asking
        return Caller(
            step=asking.step,
            attempt=asking.attempt,
            role=terms.role,
            model=terms.model_id,
            conversation=terms.conversation,
            main=terms.main,
        )

    async def before(self, path: str, body: bytes) -> None:
        """Reserve the worst case of a try, which no longer waits for anything else after."""
        api = api_of(path)
        if api is None:
            return
        try:
            await self._reserve(api, path, body)
        except (RunnerError, ShortenError) as error:
            self.stopped = error
            raise

    def refused(self) -> None:
        """Give the money back: the provider did not take the request."""
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.release()
            number, self._number = self._number, 0
            self._tell(ModelRefused(self.asking.step, self.asking.attempt, number))

    def lost(self, why: Literal["failed", "cancelled"] = "failed") -> None:
        """Book the worst case as a row of its own: the try may be billed."""
        reservation, self._reservation = self._reservation, None
        if reservation is None:
            return
        reservation.lost()
        self._tell(replace(self.row(Usage(requests=1), reservation, known=False), unknown=why))

    def waiting(self, why: str, seconds: float) -> None:
        """Tell people that the provider is tried again."""
        if self._again:
            return
        self._memory.trouble = why
        asking, terms = self.asking, self.terms
        self._tell(
            ModelRetried(asking.step, asking.attempt, terms.role, terms.model_id, why, seconds)
        )

    def _tell(self, event: Event) -> None:
        """Emit from within a vendor's client, which would take a full disk for a bad connection."""
        try:
            self._emit(event)
        except Exception as error:
            self.stopped = error
            raise

    def close(self, why: Literal["failed", "cancelled"] = "failed") -> None:
        """End the exchange; a reservation that is still open is of a request nobody knows about."""
        self._memory.under_way -= 1
        self.lost(why)

    def settle(self, usage: Usage, *, measured: bool, other: str = "") -> ModelResponded:
        """Book what the response used and return its row of the ledger.

        What an *other* model used is not measured by the price of the one that was asked for.
        """
        measured = measured and not other
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
            self._emit(Notice(self._unusable(reservation.worst, other), self.asking.step))
        if reservation.outcome == "disputed":
            self._emit(Notice(self._disputed(reservation.worst, spent, tokens), self.asking.step))
        return self.row(usage, reservation, known=known, spent=spent)

    def row(
        self, usage: Usage, reservation: Reservation, *, known: bool, spent: Decimal | None = None
    ) -> ModelResponded:
        """Make a row of the ledger; without a known cost it is what was booked: the worst case."""
        row = self._row(usage, spent if known else reservation.worst.usd)
        self._number = 0
        return row if known else replace(row, unknown="failed")

    def _row(self, usage: Usage, usd: Decimal | None) -> ModelResponded:
        return ModelResponded(
            step=self.asking.step,
            attempt=self.asking.attempt,
            role=KEEPALIVE if self._again else self.terms.role,
            asked=self.terms.model_id,
            served="",
            usage=usage,
            cost_usd=usd,
            seconds=time.monotonic() - self.started,
            conversation=self.terms.conversation,
            scripted=self.terms.scripted,
            at=self.at.timestamp(),
            prices=self._table(),
            number=self._number,
        )

    def _table(self) -> tuple[str, ...]:
        """Name and date of the price table; empty where the user's own price holds, or none."""
        model, own = self.terms.priced_as, self.terms.prices
        if model is None or model in own or f"{model.partition(':')[0]}:*" in own:
            return ()
        return price.source()

    async def _reserve(self, api: Api, path: str, body: bytes) -> None:
        if self._again and self._tried:
            raise TooLateError("it was not answered at the first try")
        # A client that asks again before its last answer was settled pays for that, too.
        self.lost()
        # Prices have dates: those of the try count, not of when it began to wait for its turn.
        self.at = datetime.now(UTC)
        fields = cast("Mapping[str, Any]", json.loads(body))
        prefix = prefix_of_json(api, fields, len(body), model=model_in(path))
        self.guard.look(prefix, fields)
        if self.terms.strict and self.guard.broken:
            self._refuse_broken()
        # What the wire does not ask for cannot be billed; of other clients' wires nobody knows.
        self._hour = not self.terms.wired or _HOUR.search(body) is not None
        kept = self.terms.main and not self._again
        tokens, answer = self._input_bound(len(body)), _answer_limit(fields)
        self.answer = answer
        if self._again:
            self._reserve_again(self._worst(tokens, answer))
            return
        while True:
            room = self._purse.headroom(kept=kept)
            worst = self._within(tokens, answer, room)
            try:
                self._reservation = await self._purse.reserve(worst, kept=kept)
            except OverBudgetError:
                # While it waited others may have used up what a long answer takes, not a shorter.
                if self._purse.headroom(kept=kept) == room:
                    raise
            else:
                self._begin()
                return

    def _reserve_again(self, worst: Worst) -> None:
        """Reserve for a keep-alive, which neither waits for money nor is of use when it is late."""
        if not self.guard.fresh:
            raise TooLateError("the cache has expired")
        self._reservation = self._purse.reserve_now(worst)
        if self._reservation is None:
            raise TooLateError("the budget cannot cover it now")
        self._begin()

    def _begin(self) -> None:
        """Write down that the request leaves, before it does."""
        self._tried = True
        reservation, prefix = self._reservation, self.guard.prefix
        assert reservation is not None, "what leaves is reserved"
        assert prefix is not None, "what leaves was looked at"
        digest = self.guard.digest = digest_of(prefix)
        asked = ModelAsked(
            step=self.asking.step,
            attempt=self.asking.attempt,
            role=KEEPALIVE if self._again else self.terms.role,
            model=self.terms.model_id,
            conversation=self.terms.conversation,
            number=next(self.terms.numbers),
            worst_usd=reservation.worst.usd,
            worst_tokens=reservation.worst.tokens,
            at=self.at.timestamp(),
            digest=digest,
            messages=self.news,
            main=self.terms.main,
            scripted=self.terms.scripted,
        )
        try:
            self._tell(asked)
        except BaseException:
            # It does not leave after all.
            self._reservation = None
            reservation.release()
            raise
        self._number = asked.number
        self.guard.begin()

    def _refuse_broken(self) -> None:
        """Record a main request that would lose the prompt cache, and do not send it."""
        continuity = self.guard.continuity(None)
        assert continuity is not None, "only main's requests can break a prefix"
        self._tell(replace(self._row(Usage(), price.NOTHING), continuity=continuity))
        raise PrefixBrokenError(
            f"A request of the main conversation does not extend the one before: {continuity.how}.",
            hint="Nothing was sent (--strict-prefix). This is a defect of runner: report it.",
        )

    def _within(self, tokens: int, answer: int, room: Room) -> Worst:
        """The worst case; where that has no room, a shorter answer's, which is never sent so.

        Raises:
            ShortenError: With the longest answer that has room.
        """
        worst = self._worst(tokens, answer)
        if room.covers(worst):
            return worst
        least = min(answer, LEAST_OUTPUT_TOKENS)
        shortest = self._worst(tokens, least)
        if least < answer and room.covers(shortest):
            raise ShortenError(self._longest(tokens, least, answer, room))
        # Nothing helps: refused by the purse, with the least that would have been needed.
        return shortest

    def _input_bound(self, size: int) -> int:
        """Bound the prompt's tokens: none is less than a byte.

        What the provider counted for the part that it has seen, and the bytes of what is new.
        """
        before, counted = self._memory.prefix, self._memory.input_tokens
        now, whole = self.guard.prefix, size + UNSEEN_TOKENS
        if before is None or now is None or extends(before, now):
            return whole
        if counted * MOST_BYTES_PER_TOKEN < before.size:
            return whole
        return min(whole, counted + new_bytes(before, now) + UNSEEN_IN_TURN)

    def _worst(self, input_tokens: int, answer: int) -> Worst:
        if self.terms.priced_as is None:
            return Worst(price.NOTHING, input_tokens + answer, role=self.terms.role)
        usd = price.worst_case(
            self.terms.priced_as,
            input_tokens,
            answer,
            self.terms.day or self.at,
            prices=self.terms.prices,
            hour=self._hour,
        )
        return Worst(usd, input_tokens + answer, self.terms.priced_as, self.terms.role)

    def _longest(self, tokens: int, least: int, most: int, room: Room) -> int:
        """The longest answer that has room; known to be at least `least`."""
        sizes = range(least, most)
        # 0 where it has room, 1 beyond: all 0 come first.
        beyond = bisect_right(
            sizes, 0, key=lambda size: int(not room.covers(self._worst(tokens, size)))
        )
        return least + beyond - 1

    def _cost(self, usage: Usage) -> Decimal | None:
        if self.terms.priced_as is None:
            return price.NOTHING
        when = self.terms.day or self.at
        return price.cost(self.terms.priced_as, usage, when, prices=self.terms.prices)

    def _unusable(self, worst: Worst, other: str) -> str:
        """Say why a request counts at its worst case."""
        counted = "an unknown cost" if worst.usd is None else f"its worst case, ${worst.usd:.4f}"
        why = "reported no usable usage"
        if other:
            why = f"was asked for, but `{one_line(other, 80)}` answered, whose price is another"
        return f"{self.terms.model_id} {why}; the request counts at {counted}"

    def _disputed(self, worst: Worst, spent: Decimal | None, tokens: int) -> str:
        return (
            f"{self.terms.model_id} reported {tokens} tokens (${spent or 0:.4f}) where at most "
            f"{worst.tokens} (${worst.usd or 0:.4f}) are possible; nothing more is asked"
        )


def api_of(path: str) -> Api | None:
    """Tell what is spoken at a path; `None` where no model answers (counting tokens, say)."""
    if path.endswith("/messages"):
        return "anthropic"
    if path.endswith("/chat/completions"):
        return "chat"
    if path.endswith((":generateContent", ":streamGenerateContent")):
        return "google"
    return "responses" if path.endswith("/responses") else None


def _answer_limit(fields: Mapping[str, Any]) -> int:
    """How long the answer may be, by the wire itself; the largest number of those it has.

    Google's bounds what is thought and what is answered together, as the others' do: seen, not
    promised (github.com/googleapis/python-genai/issues/2062).
    """
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    generation = cast("Mapping[str, Any]", fields.get("generationConfig") or {})
    found = [*map(fields.get, names), generation.get("maxOutputTokens")]
    limits = [limit for limit in found if isinstance(limit, int) and limit > 0]
    return max(limits, default=LONGEST_ANSWER)
