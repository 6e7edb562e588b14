"""Wraps a model: each request is reserved, sent, settled, recorded and checked, in this order."""

from __future__ import annotations

import json
import re
import time
from bisect import bisect_right
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic_ai.exceptions import AgentRunError, ModelAPIError, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.models.wrapper import WrapperModel
from typing_extensions import override

from runner import price
from runner.errors import RunnerError
from runner.events import ModelResponded, Notice
from runner.models.failures import OtherModelServedError
from runner.models.rendering import render
from runner.models.transport import paid_by
from runner.money import Worst
from runner.outcome import Usage
from runner.plan import MAIN
from runner.prefix import Api, Prefix, extends, new_bytes, prefix_of_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from pydantic_ai import RunContext
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.settings import ModelSettings

    from runner.events import Sink
    from runner.models import Asking
    from runner.money import Purse, Reservation
    from runner.price import Price

T = TypeVar("T")

OUTPUT_TOKENS = 8_000
"""Asked for where nobody says how long an answer may be; all of it is reserved."""
LEAST_OUTPUT_TOKENS = 2_000
"""An answer may be shortened to this much before a request is given up for want of money."""
UNSEEN_TOKENS = 1_024
"""Tokens that a provider adds out of sight: its own instructions for tools, markers of roles."""
UNSEEN_IN_TURN = 256
LONGEST_ANSWER = 128_000
"""Assumed where the wire does not say."""

_DATED = re.compile(r"[-@:](\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|00\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
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
class _Memory:
    """What the last answered request of a conversation looked like."""

    messages: int = 0
    prefix: Prefix | None = None
    input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    messages: list[ModelMessage]
    settings: ModelSettings
    parameters: ModelRequestParameters


class _ShortenError(Exception):
    """Raised inside the transport: the answer must be shorter to be affordable."""

    def __init__(self, tokens: int) -> None:
        super().__init__(tokens)
        self.tokens = tokens


class Exchange:
    """One request with all its tries: the transport's gate."""

    def __init__(
        self, terms: Terms, asking: Asking, purse: Purse, memory: _Memory, emit: Sink
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
        except (RunnerError, _ShortenError) as error:
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
        self, usage: Usage, reservation: Reservation, *, known: bool, spent: Any = None
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
                raise _ShortenError(self._longest(tokens, least, answer, room))
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

    def _dollars(self, input_tokens: int, answer: int) -> Any:
        usd = self._worst(input_tokens, answer).usd
        assert usd is not None, "a model that has a price has one for any size"
        return usd

    def _longest(self, tokens: int, least: int, most: int, room: Any) -> int:
        """The longest answer that the room allows; known to be at least `least`."""
        sizes = range(least, most)
        return least + bisect_right(sizes, room, key=lambda n: self._dollars(tokens, n)) - 1

    def _cost(self, usage: Usage) -> Any:
        if self.terms.priced_as is None:
            return price.NOTHING
        return price.cost(self.terms.priced_as, usage, self.at, prices=self.terms.prices)

    def _unusable(self, worst: Worst) -> str:
        counted = "an unknown cost" if worst.usd is None else f"its worst case, ${worst.usd:.4f}"
        return f"{self.terms.model_id} reported no usable usage; the request counts at {counted}"

    def _disputed(self, worst: Worst, spent: Any, tokens: int) -> str:
        return (
            f"{self.terms.model_id} reported {tokens} tokens (${spent or 0:.4f}) where at most "
            f"{worst.tokens} (${worst.usd or 0:.4f}) are possible; nothing more is asked"
        )


class MeteredModel(WrapperModel):
    """One conversation with a model, paid for by whoever `asking` names."""

    def __init__(
        self,
        wrapped: Model,
        terms: Terms,
        *,
        asking: Callable[[], Asking],
        purse: Purse,
        emit: Sink,
    ) -> None:
        super().__init__(wrapped)
        self._terms = terms
        self._asking = asking
        self._purse = purse
        self._emit = emit
        self._memory = _Memory()

    @override
    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        asked = _Asked(messages, self._merged(model_settings), model_request_parameters)
        exchange = self._exchange()
        try:
            response = await self._send(
                exchange,
                asked,
                lambda settings: self.wrapped.request(messages, settings, asked.parameters),
            )
            self._record(exchange, messages, response)
        finally:
            exchange.close()
        return response

    @asynccontextmanager
    @override
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        asked = _Asked(messages, self._merged(model_settings), model_request_parameters)
        exchange = self._exchange()
        async with AsyncExitStack() as stack:
            stack.callback(exchange.close)
            stream = await self._send(
                exchange,
                asked,
                lambda settings: stack.enter_async_context(
                    self.wrapped.request_stream(messages, settings, asked.parameters, run_context)
                ),
            )
            yield stream
            response = stream.get()
            # Only a stream read to its end tells its usage; any other is booked at its worst case.
            if response.finish_reason is not None:
                self._record(exchange, messages, response)

    def _merged(self, given: ModelSettings | None) -> ModelSettings:
        merged = {"max_tokens": OUTPUT_TOKENS, **(self.wrapped.settings or {}), **(given or {})}
        return cast("ModelSettings", merged)

    async def _send(
        self, exchange: Exchange, asked: _Asked, send: Callable[[ModelSettings], Awaitable[T]]
    ) -> T:
        """Send, with a shorter answer if only that can be paid."""
        try:
            return await self._once(exchange, asked, asked.settings, send)
        except _ShortenError as short:
            exchange.stopped = None
            settings: dict[str, Any] = {**asked.settings, "max_tokens": short.tokens}
            return await self._once(exchange, asked, cast("ModelSettings", settings), send)

    async def _once(
        self,
        exchange: Exchange,
        asked: _Asked,
        settings: ModelSettings,
        send: Callable[[ModelSettings], Awaitable[T]],
    ) -> T:
        try:
            with paid_by(exchange):
                if not self._terms.wired:
                    await exchange.before("/messages", _unwired(asked, settings))
                return await send(settings)
        except Exception as error:
            converted = _unwrapped(exchange, error, self.model_name)
            if converted is error:
                raise
            raise converted from error

    def _exchange(self) -> Exchange:
        asking = self._asking()
        return Exchange(self._terms, asking, asking.purse or self._purse, self._memory, self._emit)

    def _record(
        self, exchange: Exchange, messages: list[ModelMessage], response: ModelResponse
    ) -> None:
        """Settle and write the row before anybody acts on the response."""
        usage, measured = _usage_of(response)
        served = response.model_name or ""
        asked = self.wrapped.model_name
        # Another model has another price: what was reserved for the one asked for is booked whole.
        right = not served or serves(asked, served)
        row = exchange.settle(usage, measured=measured and right)
        memory = self._memory
        seen = memory.messages if memory.messages <= len(messages) else 0
        new = [*messages[seen:], response]
        prefix = exchange.continuity() if self._terms.role == MAIN else ""
        memory.messages = len(messages) + 1
        memory.prefix = exchange.prefix
        memory.input_tokens = usage.input_tokens if measured and price.plausible(usage) else 0
        self._emit(_completed(row, served, ModelMessagesTypeAdapter.dump_json(new), prefix))
        if not right:
            raise OtherModelServedError(
                f"{self._terms.model_id} was asked for, but `{served}` answered.",
                hint="Ask for the model by the name that the provider serves it under.",
            )


def _api_of(path: str) -> Api | None:
    """Tell what is spoken at a path; `None` where no model answers (counting tokens, say)."""
    if path.endswith("/messages"):
        return "anthropic"
    if path.endswith("/chat/completions"):
        return "chat"
    return "responses" if path.endswith("/responses") else None


def _unwired(asked: _Asked, settings: ModelSettings) -> bytes:
    """What is sent, as far as it can be told before a client of the vendor's own sends it."""
    body = render(asked.messages, asked.parameters)
    return body[:-1] + f',"max_tokens":{settings.get("max_tokens", OUTPUT_TOKENS)}}}'.encode()


def serves(asked: str, served: str) -> bool:
    """Tell whether `served` is the model asked for, or a dated version of it."""
    one, other = (name.lower().removeprefix("models/") for name in (asked, served))
    base = one.removesuffix("-latest")
    return other in {one, base} or (
        other.startswith(base) and _DATED.fullmatch(other[len(base) :]) is not None
    )


def _usage_of(response: ModelResponse) -> tuple[Usage, bool]:
    """The usage as reported, and whether it was reported at all."""
    reported = response.usage
    usage = Usage(
        requests=1,
        input_tokens=reported.input_tokens,
        cache_read_tokens=reported.cache_read_tokens,
        cache_write_tokens=reported.cache_write_tokens,
        cache_write_1h_tokens=reported.cache_write_1h_tokens,
        output_tokens=reported.output_tokens,
    )
    return usage, usage.input_tokens > 0 and not reported.unmeasured_requests


def _completed(row: ModelResponded, served: str, messages: bytes, prefix: str) -> ModelResponded:
    return ModelResponded(
        step=row.step,
        attempt=row.attempt,
        role=row.role,
        asked=row.asked,
        served=served,
        usage=row.usage,
        cost_usd=row.cost_usd,
        seconds=row.seconds,
        conversation=row.conversation,
        messages=messages.decode(),
        prefix=prefix,
        scripted=row.scripted,
    )


def _answer_limit(fields: Mapping[str, Any]) -> int:
    """How long the answer may be, by the wire itself."""
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        limit = fields.get(name)
        if isinstance(limit, int):
            return limit
    return LONGEST_ANSWER


_TYPED = (AgentRunError, RunnerError)
_STUMBLES = (
    UnexpectedModelBehavior,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    RecursionError,
)


def _unwrapped(exchange: Exchange, error: Exception, model: str) -> Exception:
    """The error to raise: our own reason for not sending first, typed errors as they are.

    What a vendor's client or adapter stumbles over in an answer (a missing field, a text where a
    list should be, nesting without end) is an unusable answer, not a defect of this program.
    """
    if exchange.stopped is not None and isinstance(exchange.stopped, Exception):
        return exchange.stopped
    if type(error) is not UnexpectedModelBehavior and isinstance(error, _TYPED):
        return error
    if isinstance(error, _STUMBLES):
        return ModelAPIError(model, f"unusable answer: {type(error).__name__}: {error}")
    return error
