"""Makes the vendors' own clients and models: with our transport, without retries of their own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI
from pydantic_ai.exceptions import UserError
from pydantic_ai.models import Model, infer_model
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.profiles import ModelProfile, merge_profile
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers import infer_provider, infer_provider_class
from pydantic_ai.providers._openai_compatible import OpenAICompatibleProvider
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.vllm import VLLMProvider
from typing_extensions import override

from runner.errors import ProviderError, UsageError
from runner.frozen import frozen
from runner.models.choice import KEYS, split

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx2
    from pydantic_ai.settings import ModelSettings

    from runner.models.transport import RequestLimits
    from runner.plan import Provider

NO_KEY = "no-key"
"""Sent to servers without keys: their clients insist on one."""


@frozen
class Wiring:
    """What all clients of a run share."""

    client: httpx2.AsyncClient
    limits: RequestLimits
    environ: Mapping[str, str]
    providers: Mapping[str, Provider]


@frozen
class Opened:
    """A vendor's model."""

    model: Model
    wired: bool
    """Whether its requests pass our transport."""


def open_vendor(model_id: str, wiring: Wiring, *, cache_key: str) -> Opened:
    """Open a model of a vendor, or of a server that the user declared.

    Raises:
        UsageError: An unknown provider or an id that is not `provider:model`.
        ProviderError: Its key, or the extra that brings its client, is missing.
    """
    provider, name = split(model_id)
    settings = _settings(wiring.limits)
    if provider in wiring.providers:
        return Opened(_declared(wiring.providers[provider], name, wiring, settings), wired=True)
    match provider:
        case "anthropic":
            made = AnthropicProvider(anthropic_client=_anthropic(wiring))
            return Opened(AnthropicModel(name, provider=made, settings=settings), wired=True)
        case "openai" | "openai-responses":
            made = OpenAIProvider(openai_client=_openai(wiring))
            settings = _openai_settings(settings, cache_key, responses=True)
            return Opened(OpenAIResponsesModel(name, provider=made, settings=settings), wired=True)
        case "openai-chat":
            made = OpenAIProvider(openai_client=_openai(wiring))
            settings = _openai_settings(settings, cache_key, responses=False)
            return Opened(OpenAIChatModel(name, provider=made, settings=settings), wired=True)
        case "google":
            return Opened(_google(name, wiring, settings), wired=True)
        case _:
            return _other(model_id, provider, wiring, settings)


def _settings(limits: RequestLimits) -> ModelSettings:
    # Their own retries off: there is one retry layer.
    return {"max_retries": 0, "request_timeout": limits.total_seconds}


def _openai_settings(base: ModelSettings, cache_key: str, *, responses: bool) -> ModelSettings:
    settings: dict[str, Any] = {**base}
    if cache_key:
        settings["openai_prompt_cache_key"] = _bounded(cache_key)
    if responses:
        # Nothing of a repository stays with the vendor; reasoning comes back encrypted instead.
        settings["openai_store"] = False
    return cast("ModelSettings", settings)


def _bounded(key: str) -> str:
    """A key that is not refused: beyond 64 characters OpenAI answers `string_above_max_length`."""
    return key if len(key) <= 64 else hashlib.sha256(key.encode()).hexdigest()


def _anthropic(wiring: Wiring) -> AsyncAnthropic:
    key = wiring.environ.get("ANTHROPIC_API_KEY")
    if not key:
        raise _missing("ANTHROPIC_API_KEY")
    return AsyncAnthropic(
        api_key=key,
        base_url=wiring.environ.get("ANTHROPIC_BASE_URL") or None,
        http_client=wiring.client,
        timeout=wiring.client.timeout,
        max_retries=0,
    )


def _openai(wiring: Wiring) -> AsyncOpenAI:
    key = wiring.environ.get("OPENAI_API_KEY")
    base_url = wiring.environ.get("OPENAI_BASE_URL") or None
    if not key and base_url is None:
        raise _missing("OPENAI_API_KEY")
    return _openai_client(wiring, key or NO_KEY, base_url)


def _openai_client(wiring: Wiring, key: str, base_url: str | None) -> AsyncOpenAI:
    return AsyncOpenAI(
        api_key=key,
        base_url=base_url,
        http_client=wiring.client,
        timeout=wiring.client.timeout,
        max_retries=0,
    )


def _google(name: str, wiring: Wiring, settings: ModelSettings) -> Model:
    # As google-genai reads them: the newer name of the key first.
    key = wiring.environ.get("GOOGLE_API_KEY") or wiring.environ.get("GEMINI_API_KEY")
    if not key:
        raise _missing("GOOGLE_API_KEY")
    try:
        from runner.models.gemini import gemini  # noqa: PLC0415  an extra, and slow to import
    except ImportError as error:
        raise ProviderError(
            f"`google:{name}` cannot be asked: {error}",
            hint="pip install 'subagent-runner[google]'",
        ) from error
    base_url = wiring.environ.get("GOOGLE_GEMINI_BASE_URL") or None
    return gemini(name, key=key, base_url=base_url, client=wiring.client, settings=settings)


class _DeclaredProvider(VLLMProvider):
    """A server that the user declared: what OpenAI-compatible servers have in common, no more."""

    def __init__(self, name: str, client: AsyncOpenAI) -> None:
        super().__init__(openai_client=client)
        self._name = name

    @property
    @override
    def name(self) -> str:
        return self._name

    @staticmethod
    @override
    def model_profile(model_name: str) -> ModelProfile | None:
        # Every such server knows `max_tokens`; not all know its successor.
        older = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False)
        return merge_profile(VLLMProvider.model_profile(model_name), older)


def _declared(
    provider: Provider, name: str, wiring: Wiring, settings: ModelSettings
) -> OpenAIChatModel:
    key: str | None = NO_KEY
    if provider.key_env is not None:
        key = wiring.environ.get(provider.key_env)
    if not key:
        raise _missing(str(provider.key_env))
    client = _openai_client(wiring, key, provider.base_url)
    return OpenAIChatModel(
        name,
        provider=_DeclaredProvider(provider.name, client),
        settings=settings,
    )


def _other(model_id: str, provider: str, wiring: Wiring, settings: ModelSettings) -> Opened:
    """Any other vendor that pydantic-ai knows; its client comes with an extra."""
    wired = False
    try:
        if provider.startswith("gateway/"):
            model = infer_model(model_id)
        else:
            kind = infer_provider_class(provider)
            wired = issubclass(kind, OpenAICompatibleProvider)
            made = _wired_provider(kind, provider, wiring) if wired else infer_provider(provider)
            model = infer_model(model_id, provider_factory=lambda _: made)
    except ValueError as error:
        raise UsageError(
            f"Unknown provider in `{model_id}`.",
            hint=f"A server of your own is declared by --provider {provider}=URL.",
        ) from error
    except (UserError, ImportError) as error:
        raise ProviderError(f"`{model_id}` cannot be asked: {error}") from error
    model._settings = settings  # noqa: SLF001  infer_model takes none  # pyright: ignore[reportPrivateUsage]
    return Opened(model, wired)


def _wired_provider(kind: type[Any], provider: str, wiring: Wiring) -> Any:
    """Make a provider that asks over our transport; it would look for its key in the process."""
    keys = (wiring.environ.get(name) for name in KEYS.get(provider, ()))
    key = next(filter(None, keys), None)
    given = {} if key is None else {"api_key": key}
    return kind(http_client=wiring.client, **given)


def _missing(variable: str) -> ProviderError:
    return ProviderError(f"{variable} is not set.", hint=f"export {variable}=...")
