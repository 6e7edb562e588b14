r"""The scripted model: answers requests from a file, for demonstrations and tests of workflows.

The format is documented in `docs/scripted-models.md`. In short, a file holds rules; each request
goes through them from the top, and the first whose `when` (role, step, attempt, text, regex)
matches answers with tool calls, text, `done`, `cannot` or an error:

    rules:
      - when: { role: cheap, step: lint }
        turns:
          - { call: edit_file, with: { path: a.py, old_text: "import os\n", new_text: "" } }
          - done: Removed the unused import.
      - cannot: This script has no answer.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from pydantic_ai import exceptions as pai
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ToolCallPart,
)
from pydantic_ai.models import CompletedStreamedResponse, Model
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.usage import RequestUsage
from typing_extensions import override

from runner.frozen import frozen
from runner.models.failures import ScriptError
from runner.models.rendering import render, shown_text
from runner.prefix import Prefix, extends, new_bytes, prefix_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from pydantic_ai import RunContext
    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models import ModelRequestParameters, StreamedResponse
    from pydantic_ai.settings import ModelSettings

    from runner.events import ModelAsked
    from runner.models.scriptfile import Answer, Call, Rule, Script

BYTES_PER_TOKEN = 4


@dataclass(slots=True)
class _Playing:
    """A rule that has begun in a conversation."""

    rule: Rule
    next_turn: int


class Player:
    """Plays one script for all conversations of a run: counts uses, remembers where each one is."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._uses: Counter[int] = Counter()
        self.requests: Counter[str] = Counter()
        """Requests answered so far, by conversation."""
        self._playing: dict[str, _Playing] = {}

    def answer(self, who: Speaker, shown: str) -> Answer:
        """Choose the answer to the next request of a conversation.

        Raises:
            ScriptError: No rule matches.
        """
        self.requests[who.conversation] += 1
        playing = self._playing.get(who.conversation)
        if playing is not None and playing.rule.when.fits(who.role, who.step, who.attempt):
            return self._turn(who.conversation, playing)
        for rule in self.script.rules:
            left = rule.times is None or self._uses[rule.line] < rule.times
            fits = rule.when.fits(who.role, who.step, who.attempt)
            if left and fits and rule.when.reads(shown):
                self._uses[rule.line] += 1
                return self._turn(who.conversation, _Playing(rule, 0))
        begin = " ".join(shown.split())[:200]
        raise ScriptError(
            f"{self.script.file}: no rule answers role `{who.role}`, step `{who.step}`, "
            f"attempt {who.attempt}, shown: {begin!r}",
            hint="Add a rule for it, or one without `when` at the end.",
        )

    def take_up(self, asked: ModelAsked) -> None:
        """Move on past a request that an earlier life of the run had answered."""
        who = Speaker(asked.role, asked.step, asked.attempt, asked.conversation)
        # A script that was changed since goes on where it fits.
        with suppress(ScriptError):
            self.answer(who, _newest(ModelMessagesTypeAdapter.validate_json(asked.messages)))

    def _turn(self, conversation: str, playing: _Playing) -> Answer:
        answer = playing.rule.turns[playing.next_turn]
        playing.next_turn += 1
        if playing.next_turn < len(playing.rule.turns):
            self._playing[conversation] = playing
        else:
            self._playing.pop(conversation, None)
        return answer


@frozen
class Speaker:
    """Whose request is being answered."""

    role: str
    step: str
    attempt: int
    conversation: str


class ScriptedModel(Model):
    """One conversation of a scripted model.

    Args:
        player: Shared by all conversations with the same file.
        speaker: Asked at each request: the main conversation's step changes.
    """

    def __init__(self, player: Player, speaker: Callable[[], Speaker]) -> None:
        super().__init__(
            profile=ModelProfile(supports_json_schema_output=True, supports_json_object_output=True)
        )
        self._player = player
        self._speaker = speaker
        self._requests = 0
        self._previous: Prefix | None = None

    def recall(
        self,
        messages: list[ModelMessage],
        settings: ModelSettings | None,
        parameters: ModelRequestParameters,
    ) -> None:
        """Go on after a request that an earlier life of the run had answered."""
        _, prepared = self.prepare_request(settings, parameters)
        self._previous = prefix_of("anthropic", render(messages, prepared))
        self._requests = self._player.requests[self._speaker().conversation]

    @property
    @override
    def model_name(self) -> str:
        """What it is priced as, else the file's name."""
        return self._player.script.priced_as or self._player.script.file

    @property
    @override
    def system(self) -> str:
        """The provider's name, in traces."""
        return "script"

    @override
    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        _, parameters = self.prepare_request(model_settings, model_request_parameters)
        speaker = self._speaker()
        answer = self._player.answer(speaker, _newest(messages))
        self._requests += 1
        await anyio.sleep(answer.delay)
        if answer.error is not None:
            raise _failure(self.model_name, answer.error)
        parts = self._parts(answer, parameters, speaker)
        body = render(messages, parameters)
        return ModelResponse(
            parts=parts,
            usage=self._usage(answer, body, parts),
            model_name=answer.served or self.model_name,
            provider_name=self.system,
            finish_reason="tool_call" if answer.calls or answer.output else "stop",
        )

    @asynccontextmanager
    @override
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        response = await self.request(messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(
            response, model_request_parameters=model_request_parameters, replay_events=True
        )

    def _parts(
        self, answer: Answer, parameters: ModelRequestParameters, speaker: Speaker
    ) -> list[ModelResponsePart]:
        parts: list[ModelResponsePart] = []
        if answer.text is not None:
            parts.append(TextPart(answer.text))
        calls = list(answer.calls)
        if answer.output is not None:
            calls.append(self._output(answer.output, parameters, answer.line))
        for number, call in enumerate(calls):
            # The same in every run: the conversation can be compared byte for byte.
            made = f"call_{speaker.conversation}_{self._requests}_{number}"
            parts.append(ToolCallPart(call.tool, call.arguments, tool_call_id=made))
        return parts

    def _output(self, output: Call, parameters: ModelRequestParameters, line: int) -> Call:
        names = [tool.name for tool in parameters.output_tools]
        if output.tool in names:
            return output
        raise ScriptError(
            f"{self._player.script.file}:{line}: this agent has no `{output.tool}` to end with",
            hint=f"It ends with {', '.join(names) or 'text'}.",
        )

    def _usage(self, answer: Answer, body: bytes, parts: list[ModelResponsePart]) -> RequestUsage:
        current = prefix_of("anthropic", body)
        previous, self._previous = self._previous, current
        given = answer.usage
        if given is not None:
            return RequestUsage(
                input_tokens=given.input,
                cache_read_tokens=given.cache_read,
                cache_write_tokens=given.cache_write,
                output_tokens=given.output,
            )
        fresh = len(body)
        if previous is not None and current is not None and not extends(previous, current):
            fresh = new_bytes(previous, current)
        total, new = (-(-count // BYTES_PER_TOKEN) for count in (len(body), fresh))
        said = sum(len(_said(part)) for part in parts)
        return RequestUsage(
            input_tokens=total,
            cache_read_tokens=total - new,
            cache_write_tokens=new,
            output_tokens=-(-said // BYTES_PER_TOKEN),
        )


def _newest(messages: list[ModelMessage]) -> str:
    for message in reversed(messages):
        if isinstance(message, ModelRequest):
            return shown_text(message)
    return ""


def _said(part: ModelResponsePart) -> str:
    if isinstance(part, TextPart):
        return part.content
    if isinstance(part, ToolCallPart):
        return part.tool_name + json.dumps(part.args)
    return ""


_CATEGORIES = {
    401: pai.ModelAuthenticationError,
    402: pai.ModelQuotaExceededError,
    403: pai.ModelAuthenticationError,
    404: pai.ModelNotFoundError,
    429: pai.ModelRateLimitError,
    503: pai.ModelUnavailableError,
    529: pai.ModelOverloadedError,
}


def _failure(model: str, error: int | str) -> Exception:
    """The error that a vendor's client would end in."""
    if isinstance(error, int):
        category = _CATEGORIES.get(error)
        if category is None and error not in {408, 409, 413, 425}:
            category = pai.ModelServerError if error >= 500 else pai.ModelRequestRejectedError
        return pai.ModelHTTPError.for_category(category, status_code=error, model_name=model)
    if error == "timeout":
        return pai.ModelTimeoutError(model, "scripted time-out")
    if error == "too_long":
        return pai.ModelContextWindowExceededError(model, "scripted: the prompt is too long")
    if error == "content_filter":
        return pai.ContentFilterError("scripted: content filter")
    phase = "connect" if error == "refused" else "read"
    return pai.ModelConnectionError(model, f"scripted: connection {error}", phase=phase)
