"""Wraps a model: each request is reserved, sent, settled, recorded and checked, in this order."""

from __future__ import annotations

import re
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import anyio
import httpx2
from pydantic_ai.exceptions import (
    AgentRunError,
    IncompleteToolCall,
    ModelAPIError,
    ModelConnectionError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.models.wrapper import WrapperModel
from typing_extensions import override

from runner import price
from runner.errors import ReplayError, RunnerError
from runner.events import ConversationOpened
from runner.frozen import frozen
from runner.models import Asking
from runner.models.exchange import (
    LONG_OUTPUT_TOKENS,
    OUTPUT_TOKENS,
    Exchange,
    ShortenError,
    Terms,
)
from runner.models.failures import OtherModelServedError
from runner.models.guard import Memory, remember
from runner.models.markers import mark
from runner.models.recalling import RecalledError, Rehearsal, told_instructions, told_tools, unlike
from runner.models.rendering import render
from runner.models.scripted import ScriptedModel
from runner.models.transport import paid_by
from runner.outcome import Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from pydantic_ai import RunContext
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse
    from pydantic_ai.settings import ModelSettings

    from runner.cache import Sent
    from runner.events import Sink
    from runner.money import Purse
    from runner.recalled import Answered

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
_Send: TypeAlias = "Callable[[list[ModelMessage], ModelSettings], Awaitable[T]]"

_SMALLEST_ANSWER = {"openai": 16, "openai-responses": 16, "azure-responses": 16}
"""The shortest answer in tokens that can be asked for, by provider; 1 elsewhere. OpenAI's Responses
API refuses less than 16 (developers.openai.com/api/reference/resources/responses)."""

_DATED = re.compile(r"[-@:](\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{2}|\d{2}-\d{4}|\d{4}|00\d)", re.ASCII)


def smallest_answer(model_id: str) -> int:
    """Tell the shortest answer, in tokens, that a model can be asked for."""
    return _SMALLEST_ANSWER.get(model_id.partition(":")[0], 1)


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
        self._last: _Asked | None = None
        self._opened = False
        self._recalling: Answered | None = None
        self._quiet_until = 0.0

    @property
    def asking(self) -> bool:
        """Whether a request is under way."""
        return self._memory.under_way > 0

    @property
    def sent(self) -> Sent | None:
        """The last answered request as far as its prompt cache is concerned; `None`: not known."""
        return self._memory.sent

    @property
    def trouble(self) -> str:
        """Why a request that was cut off waited for its provider, not for the model; else empty."""
        return self._memory.trouble

    def recall(self, answered: Answered) -> None:
        """Take the next request for the conversation's last answered one, and send nothing.

        It ends in `RecalledError`, which says whether the next one will find its cache.
        """
        self._recalling, self._opened = answered, True

    def rest_until(self, moment: float) -> None:
        """Send nothing before a moment, in epoch seconds: so the provider asked an earlier life."""
        self._quiet_until = moment

    async def keep_alive(self) -> None:
        """Send the last answered request again, but for the smallest legal answer.

        It is reserved, settled and recorded as any other, as role `keepalive`, paid by the run; it
        is no part of the conversation.

        Raises:
            Exception: As `request`; `models.error_ending` tells what it means.
        """
        asked, terms = self._last, self._terms
        if asked is None:
            return
        nobody = Asking("", 0)
        least = smallest_answer(terms.model_id)
        settings = cast("ModelSettings", {**asked.settings, "max_tokens": least})
        with Exchange(terms, nobody, self._purse, self._memory, self._emit, again=True) as exchange:
            response = await self._once(
                exchange,
                asked,
                settings,
                lambda sent, chosen: self.wrapped.request(sent, chosen, asked.parameters),
            )
            self._record(exchange, response)

    @override
    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        merged = self._merged(model_settings)
        asked = _Asked(list(messages), merged, model_request_parameters)
        if self._recalling is not None:
            answered, self._recalling = self._recalling, None
            raise RecalledError(await self._rehearse(asked, answered))
        await self._about_to_ask(asked)
        response, limit = await self._answered(asked)
        if not _is_cut(response):
            return response
        # A call that is cut off may look whole: nobody acts on it, and it is no part of what was
        # said. The same request with room for a longer answer costs less than a lost attempt.
        longer = cast("ModelSettings", {**merged, "max_tokens": max(limit, LONG_OUTPUT_TOKENS)})
        response, limit = await self._answered(replace(asked, settings=longer), more_than=limit)
        if _is_cut(response):
            raise _cut_off(limit)
        return response

    async def _answered(self, asked: _Asked, more_than: int = 0) -> tuple[ModelResponse, int]:
        """Send, settle and record; return the answer and how many tokens it could have."""
        with self._exchange(asked) as exchange:
            response = await self._send(
                exchange,
                asked,
                lambda sent, settings: self.wrapped.request(sent, settings, asked.parameters),
                more_than=more_than,
            )
            self._record(exchange, response, asked, said=not _is_cut(response))
        return response, exchange.answer

    async def _about_to_ask(self, asked: _Asked) -> None:
        """Write down what a conversation begins with, once, and wait as the provider asked."""
        wait, self._quiet_until = self._quiet_until - time.time(), 0.0
        self._memory.trouble = "the provider asked to wait" if wait > 0 else ""
        if wait > 0:
            await anyio.sleep(wait)
        if not self._opened:
            self._opened = True
            now, terms = self._asking(), self._terms
            wanted = asked.settings.get("cache")
            self._emit(
                ConversationOpened(
                    conversation=terms.conversation,
                    role=terms.role,
                    model=terms.model_id,
                    instructions=told_instructions(asked.parameters),
                    tools=told_tools(asked.parameters),
                    retention="1h" if wanted == "1h" else "5m" if wanted else "",
                    cache_key=terms.cache_key,
                    step=now.step,
                    attempt=now.attempt,
                )
            )

    async def _rehearse(self, asked: _Asked, answered: Answered) -> str:
        """Make the last answered request once more, without sending it, and remember it.

        Returns:
            How it differs from what an earlier life sent; empty when it does not.
        """
        rehearsal = Rehearsal()
        sent = mark(
            self.wrapped, self._terms.rules, asked.messages, asked.settings, asked.parameters
        )
        if self._terms.wired:
            with paid_by(rehearsal):
                await rehearsal.of(self.wrapped.request(*sent, asked.parameters))
        else:
            rehearsal.made("/messages", _unwired(asked, asked.settings))
            if isinstance(self.wrapped, ScriptedModel):
                self.wrapped.recall(asked.messages, asked.settings, asked.parameters)
        prefix = rehearsal.prefix()
        if prefix is None:
            return "it can no longer be made"
        differs = unlike(prefix, answered.digest)
        self._memory.messages = len(asked.messages) + 1
        if not differs:
            self._last = asked
            remember(self._memory, self._terms.rules, prefix, rehearsal.fields, answered)
        return differs

    @asynccontextmanager
    @override
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        merged = self._merged(model_settings)
        asked = _Asked(list(messages), merged, model_request_parameters)
        await self._about_to_ask(asked)
        async with AsyncExitStack() as stack:
            exchange = stack.enter_context(self._exchange(asked))
            stream = await self._send(
                exchange,
                asked,
                lambda sent, settings: stack.enter_async_context(
                    self.wrapped.request_stream(sent, settings, asked.parameters, run_context)
                ),
            )
            yield stream
            response = stream.get()
            # Only a stream read to its end tells its usage; any other is booked at its worst case.
            if response.finish_reason is not None:
                self._record(exchange, response, asked)

    def _take_up(self, asked: _Asked, response: ModelResponse) -> str:
        """Keep an answered request; return the messages that are new since the one before."""
        written = _json([*self._news(asked), response])
        self._memory.messages = len(asked.messages) + 1
        return written

    def _news(self, asked: _Asked) -> list[ModelMessage]:
        """Return the messages that are new since the last answer."""
        seen = self._memory.messages
        return asked.messages[seen if seen <= len(asked.messages) else 0 :]

    def _merged(self, given: ModelSettings | None) -> ModelSettings:
        merged = {"max_tokens": OUTPUT_TOKENS, **(self.wrapped.settings or {}), **(given or {})}
        return cast("ModelSettings", merged)

    async def _send(
        self, exchange: Exchange, asked: _Asked, send: _Send[T], *, more_than: int = 0
    ) -> T:
        """Send, with a shorter answer if only that can be paid.

        And with a shorter one yet, as others spend meanwhile: each is shorter than the one before.
        """
        settings = asked.settings
        while True:
            try:
                return await self._once(exchange, asked, settings, send)
            except ShortenError as short:
                exchange.stopped = None
                if short.tokens <= more_than:
                    raise _cut_off(more_than) from None
                settings = cast("ModelSettings", {**settings, "max_tokens": short.tokens})

    async def _once(
        self,
        exchange: Exchange,
        asked: _Asked,
        settings: ModelSettings,
        send: _Send[T],
    ) -> T:
        rules = self._terms.rules
        sent = mark(self.wrapped, rules, asked.messages, settings, asked.parameters)
        try:
            with paid_by(exchange, exchange.caller):
                if not self._terms.wired:
                    await exchange.before("/messages", _unwired(asked, settings))
                return await send(*sent)
        except Exception as error:
            converted = _unwrapped(exchange, error, self.model_name)
            if converted is error:
                raise
            raise converted from error

    def _exchange(self, asked: _Asked) -> Exchange:
        asking = self._asking()
        purse = asking.purse or self._purse
        exchange = Exchange(self._terms, asking, purse, self._memory, self._emit)
        exchange.news = _json(self._news(asked))
        return exchange

    def _record(
        self,
        exchange: Exchange,
        response: ModelResponse,
        asked: _Asked | None = None,
        *,
        said: bool = True,
    ) -> None:
        """Settle and write the row before anybody acts on the response.

        Args:
            exchange: The request.
            response: Its answer.
            asked: What was asked; `None` for a keep-alive, which asks nothing new.
            said: Whether the answer is part of the conversation; not one that was cut off.
        """
        usage, measured = _usage_of(response)
        served, name = response.model_name or "", self.wrapped.model_name
        self._memory.trouble = ""
        # Another model has another price: what was reserved for the one asked for is booked whole.
        right = not served or serves(name, served)
        row = exchange.settle(usage, measured=measured, other="" if right else served)
        told = measured and price.plausible(usage)
        continuity = exchange.guard.continuity(usage.cache_read_tokens if told else None)
        exchange.guard.remember(usage if told else None)
        self._last = asked or self._last
        written = self._take_up(asked, response) if asked is not None and said else ""
        self._emit(replace(row, served=served, messages=written, continuity=continuity))
        if not right:
            raise OtherModelServedError(
                f"{self._terms.model_id} was asked for, but `{served}` answered.",
                hint="Ask for the model by the name that the provider serves it under.",
            )


def _json(messages: list[ModelMessage]) -> str:
    return ModelMessagesTypeAdapter.dump_json(messages).decode()


def _unwired(asked: _Asked, settings: ModelSettings) -> bytes:
    """What is sent, as far as it can be told before a client of the vendor's own sends it."""
    body = render(asked.messages, asked.parameters)
    return body[:-1] + f',"max_tokens":{settings.get("max_tokens", OUTPUT_TOKENS)}}}'.encode()


def _is_cut(response: ModelResponse) -> bool:
    """Tell whether an answer ended at its limit; the last call in it may lack its end."""
    return response.finish_reason == "length"


def _cut_off(limit: int) -> IncompleteToolCall:
    return IncompleteToolCall(f"the answer was cut off at {limit} tokens")


def serves(asked: str, served: str) -> bool:
    """Tell whether `served` is the model asked for, or a dated version of it."""
    one, other = (name.lower().removeprefix("models/") for name in (asked, served))
    base = one.removesuffix("-latest")
    return other in {one, base} or (
        other.startswith(base) and _DATED.fullmatch(other[len(base) :]) is not None
    )


_HITS = "prompt_cache_hit_tokens"
"""How DeepSeek names what it read from its cache; the library leaves it among the details. The
misses are the rest of the prompt: api-docs.deepseek.com/guides/kv_cache."""


def _usage_of(response: ModelResponse) -> tuple[Usage, bool]:
    """The usage as reported, and whether it was reported at all."""
    reported = response.usage
    usage = Usage(
        requests=1,
        input_tokens=reported.input_tokens,
        cache_read_tokens=reported.cache_read_tokens or reported.details.get(_HITS, 0),
        cache_write_tokens=reported.cache_write_tokens,
        cache_write_1h_tokens=reported.cache_write_1h_tokens,
        output_tokens=reported.output_tokens,
    )
    # An answer that took no token is a count left out.
    told = usage.input_tokens > 0 and (usage.output_tokens > 0 or not response.parts)
    return usage, told and not reported.unmeasured_requests


def _chained(error: BaseException | None, kind: type[E]) -> E | None:
    """The error of a kind that is behind another: vendors' clients wrap what they meet."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


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
    # What kept a replayed request from being answered.
    if (off := _chained(error, ReplayError)) is not None:
        return off
    lost = isinstance(error, ModelConnectionError)
    if lost and (broken := _chained(error, httpx2.TransportError)) is not None:
        # "Connection error." tells nobody what to look at.
        return ModelAPIError(model, str(broken) or type(broken).__name__)
    if type(error) is not UnexpectedModelBehavior and isinstance(error, _TYPED):
        return error
    if isinstance(error, _STUMBLES):
        return ModelAPIError(model, f"unusable answer: {type(error).__name__}: {error}")
    return error
