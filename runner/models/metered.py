"""Wraps a model: each request is reserved, sent, settled, recorded and checked, in this order."""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pydantic_ai.exceptions import AgentRunError, ModelAPIError, UnexpectedModelBehavior
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.models.wrapper import WrapperModel
from typing_extensions import override

from runner import price
from runner.errors import RunnerError
from runner.frozen import frozen
from runner.models.exchange import OUTPUT_TOKENS, Exchange, Memory, ShortenError, Terms
from runner.models.failures import OtherModelServedError
from runner.models.rendering import render
from runner.models.transport import paid_by
from runner.outcome import Usage
from runner.plan import MAIN

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from pydantic_ai import RunContext
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.settings import ModelSettings

    from runner.events import Sink
    from runner.models import Asking
    from runner.money import Purse

T = TypeVar("T")

_DATED = re.compile(r"[-@:](\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|00\d)", re.ASCII)


@frozen
class _Asked:
    messages: list[ModelMessage]
    settings: ModelSettings
    parameters: ModelRequestParameters


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
        self._memory = Memory()

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
        except ShortenError as short:
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
        written = ModelMessagesTypeAdapter.dump_json(new).decode()
        self._emit(replace(row, served=served, messages=written, prefix=prefix))
        if not right:
            raise OtherModelServedError(
                f"{self._terms.model_id} was asked for, but `{served}` answered.",
                hint="Ask for the model by the name that the provider serves it under.",
            )


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
