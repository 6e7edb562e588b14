"""Decides which cache markers a request carries. Pure; never changes what the markers stand on.

The agent says whether its conversation is worth caching (`cache` of the settings): not one that
makes a single request. Here that becomes the vendor's own markers, by two rules more: none where
the prompt is too short to be cached, and always one where the request before ended.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from pydantic_ai.messages import CachePoint, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models import ModelRequestParameters

from runner.cache import cacheable
from runner.models.rendering import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models import Model
    from pydantic_ai.settings import CacheSetting, ModelSettings

    from runner.cache import CacheRules

_BYTES_PER_TOKEN = 2
"""Fewer than text has: a marker that comes too early costs nothing, one too late a second write."""


def mark(
    model: Model,
    rules: CacheRules | None,
    messages: list[ModelMessage],
    settings: ModelSettings,
    parameters: ModelRequestParameters,
) -> tuple[list[ModelMessage], ModelSettings]:
    """Return the messages and settings to send.

    Args:
        model: The vendor's.
        rules: Of its prompt cache; `None` where nothing is published, which hinders nothing.
        messages: The conversation from its first message; left as they are.
        settings: `cache` is what the agent wants; without it they come back as they are.
        parameters: Tools and instructions.
    """
    wanted = settings.get("cache")
    if wanted is None:
        return messages, settings
    if model.profile.get("openai_supports_prompt_cache_breakpoints"):
        return messages, _for_openai(rules, settings, parameters)
    if not wanted or not cacheable(rules, prompt_tokens(messages, parameters)):
        return messages, _without_cache(settings)
    if model.system == "anthropic":
        return _point_at_last_end(messages, wanted), settings
    return messages, settings


def prompt_tokens(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> int:
    """Estimate a prompt's tokens: as the provider counted, and rather too many for what is new."""
    for number, message in reversed(list(enumerate(messages))):
        if isinstance(message, ModelResponse) and message.usage.input_tokens > 0:
            known = message.usage.input_tokens + message.usage.output_tokens
            return known + _estimate(messages[number + 1 :], ModelRequestParameters())
    return _estimate(messages, parameters)


def _estimate(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> int:
    return len(render(messages, parameters)) // _BYTES_PER_TOKEN


def _without_cache(settings: ModelSettings) -> ModelSettings:
    return cast("ModelSettings", {key: settings[key] for key in settings if key != "cache"})


def _for_openai(
    rules: CacheRules | None, settings: ModelSettings, parameters: ModelRequestParameters
) -> ModelSettings:
    """Choose the markers of GPT-5.6 and later.

    They cache the end of each prompt by themselves, at the price of a write, unless the mode is
    `explicit`; and they read an entry only where it ends, so that conversations that begin alike
    share nothing without a breakpoint after the part that they share. It is decided by that part
    alone: with the breakpoint the instructions move on the wire, and they must stay where they are
    from request to request, and from spawn to spawn of an agent.

    https://developers.openai.com/api/docs/guides/prompt-caching
    """
    if not settings.get("cache"):
        nothing: dict[str, Any] = {"openai_prompt_cache_options": {"mode": "explicit"}}
        return cast("ModelSettings", {**_without_cache(settings), **nothing})
    if cacheable(rules, _estimate((), parameters)):
        return settings
    return _without_cache(settings)


def _point_at_last_end(messages: list[ModelMessage], wanted: CacheSetting) -> list[ModelMessage]:
    """Mark also where the last answered request ended, which is where the cache has its entry.

    Anthropic looks for an entry at most 20 blocks before a marker; eleven calls in one response and
    their results are more. With tools, instructions and the end it makes four markers, the most.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching
    """
    answers = [n for n, message in enumerate(messages) if isinstance(message, ModelResponse)]
    for number in range(answers[-1] - 1, -1, -1) if answers else ():
        message = messages[number]
        if isinstance(message, ModelRequest) and message.parts:
            # All markers of a request ask for the same retention: a longer one may not come late.
            point = UserPromptPart([CachePoint(ttl="1h" if _retention(wanted) == "1h" else "5m")])
            marked = replace(message, parts=[*message.parts, point])
            return [*messages[:number], marked, *messages[number + 1 :]]
    return messages


def _retention(wanted: CacheSetting) -> str:
    if isinstance(wanted, dict):
        return wanted.get("retention", "5m")
    return wanted if isinstance(wanted, str) else "5m"
