"""Makes Google's own client and model; apart, for its client is an extra and slow to import."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, cast

from google.genai import Client
from google.genai.types import HttpOptions
from pydantic_ai.exceptions import UnexpectedModelBehavior
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.providers.google import GoogleProvider
from typing_extensions import override

if TYPE_CHECKING:
    import httpx2
    from google.genai.types import GenerateContentConfigDict, GenerateContentResponse
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.models.google import GoogleModelSettings
    from pydantic_ai.settings import ModelSettings


class _GeminiModel(GoogleModel):
    """A model whose call is one request, and whose answer is one."""

    @override
    async def _build_content_and_config(
        self,
        messages: list[ModelMessage],
        model_settings: GoogleModelSettings,
        model_request_parameters: ModelRequestParameters,
    ) -> tuple[Any, GenerateContentConfigDict]:
        made: tuple[Any, GenerateContentConfigDict]
        made = await cast("Any", super())._build_content_and_config(  # noqa: SLF001  overridden here
            messages, model_settings, model_request_parameters
        )
        contents, config = made
        # Else google-genai asks on by itself where an answer was cut: each request is paid for.
        config["automatic_continuation"] = False
        return contents, config

    @override
    def _process_response(
        self,
        response: GenerateContentResponse,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        # google-genai makes an empty answer of JSON that is none.
        if response.candidates is None and response.prompt_feedback is None:
            raise UnexpectedModelBehavior("neither a candidate nor feedback on the prompt")
        return super()._process_response(response, model_request_parameters)


def gemini(
    name: str,
    *,
    key: str,
    base_url: str | None,
    client: httpx2.AsyncClient,
    settings: ModelSettings,
) -> GoogleModel:
    """Open a model of the Gemini API; its own retries are off by `max_retries` of the settings.

    Args:
        name: The model's, without a provider.
        key: The API key.
        base_url: Another server than Google's.
        client: Sends all requests; it stays the caller's to close.
        settings: Of all requests.
    """
    # For clients of its own, which nobody uses: they trust nobody, and certificates that are not
    # read save a tenth of a second for each model.
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    seconds = client.timeout.read
    options = HttpOptions(
        base_url=base_url,
        httpx_async_client=client,
        client_args={"verify": nobody},
        async_client_args={"verify": nobody, "ssl": nobody},
        # Without it, google-genai would wait for ever.
        timeout=None if seconds is None else int(seconds * 1000),
    )
    provider = GoogleProvider(client=Client(vertexai=False, api_key=key, http_options=options))
    return _GeminiModel(name, provider=provider, settings=settings)
