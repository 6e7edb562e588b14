"""Decides which model plays each role, from the command line down to the shipped choice.

Light: needs no model library, so that `plan` and a run without models can tell at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from runner.errors import UsageError
from runner.frozen import frozen
from runner.plan import CHEAP, HOST, MAIN
from runner.suggest import closest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.plan import Provider, UserConfig

Source = Literal[
    "command line", "environment", "user configuration", "workflow", "shipped", "caller"
]

SCRIPT = "script"
KEYS: Mapping[str, tuple[str, ...]] = {
    "alibaba": ("ALIBABA_API_KEY", "DASHSCOPE_API_KEY"),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "azure-responses": ("AZURE_OPENAI_API_KEY",),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("CO_API_KEY",),
    "crusoe": ("CRUSOE_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks": ("FIREWORKS_API_KEY",),
    "github": ("GITHUB_API_KEY",),
    "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
    "groq": ("GROQ_API_KEY",),
    "heroku": ("HEROKU_INFERENCE_KEY",),
    "huggingface": ("HF_TOKEN",),
    "meta": ("META_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshotai": ("MOONSHOTAI_API_KEY",),
    "nebius": ("NEBIUS_API_KEY",),
    "openai": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "openai-chat": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "openai-responses": ("OPENAI_API_KEY", "OPENAI_BASE_URL"),
    "openrouter": ("OPENROUTER_API_KEY",),
    "ovhcloud": ("OVHCLOUD_API_KEY",),
    "sambanova": ("SAMBANOVA_API_KEY",),
    "together": ("TOGETHER_API_KEY",),
    "vercel": ("VERCEL_AI_GATEWAY_API_KEY", "VERCEL_OIDC_TOKEN"),
    "xai": ("XAI_API_KEY",),
    "zai": ("ZAI_API_KEY",),
}
"""Variables, one of which must be set, as pydantic-ai reads them; a base URL needs no key."""

KEYLESS = frozenset(
    {
        "bedrock",
        "bedrock-mantle",
        "github-copilot",
        "google-cloud",
        "litellm",
        "ollama",
        "openai-chatgpt",
        "openai-codex",
        "snowflake",
        "vllm",
    }
)
"""Providers whose credentials are not one variable; they are found out when first asked."""

_SHIPPED = (
    (
        ("ANTHROPIC_API_KEY",),
        {MAIN: "anthropic:claude-opus-5-5", CHEAP: "anthropic:claude-haiku-5-5"},
    ),
    (("OPENAI_API_KEY",), {MAIN: "openai:gpt-6.1-sol", CHEAP: "openai:gpt-6-luna"}),
)


@frozen
class Choice:
    """The model that plays one role, and whether it can be asked at all."""

    role: str
    id: str
    source: Source
    available: bool
    missing: str = ""
    """What to set when it is not available: one variable, or `A or B`."""


def choose(
    workflow_models: Mapping[str, str],
    options_models: Mapping[str, str],
    environ: Mapping[str, str],
    config: UserConfig,
    providers: Mapping[str, Provider],
) -> Mapping[str, Choice]:
    """Choose a model for each role: `main`, `cheap` and every role that somebody names.

    Args:
        workflow_models: What the workflow asks for; comes after all that is the user's.
        options_models: The command line's, or the Python caller's.
        environ: `SUBRUNNER_MODEL_MAIN`, `SUBRUNNER_MODEL_CHEAP` ... and the vendors' keys.
        config: The user's configuration.
        providers: Declared on the command line; the configuration's are known besides.

    Raises:
        UsageError: An id that is not `provider:model`, or an unknown provider.
    """
    known = {**config.providers, **providers}
    roles = dict.fromkeys([MAIN, CHEAP, *workflow_models, *config.models, *options_models])
    chosen: dict[str, Choice] = {}
    for role in roles:
        layers: tuple[tuple[Source, str | None], ...] = (
            ("command line", options_models.get(role)),
            ("environment", environ.get(variable_of(role)) or None),
            ("user configuration", config.models.get(role)),
            ("workflow", workflow_models.get(role)),
            ("shipped", _shipped(role, environ)),
        )
        source, model_id = next((found for found in layers if found[1]), ("shipped", None))
        if model_id is not None:
            chosen[role] = _choice(role, model_id, source, environ, known)
    return chosen


def hosted(choices: Mapping[str, Choice]) -> Mapping[str, Choice]:
    """Let the caller of a run be its main agent: it needs no key, and nothing of it is priced."""
    return {**choices, MAIN: Choice(MAIN, HOST, "caller", available=True)}


def variable_of(role: str) -> str:
    """Name the environment variable that chooses a role's model."""
    return "SUBRUNNER_MODEL_" + "".join(c if c.isalnum() else "_" for c in role).upper()


def is_scripted(model_id: str) -> bool:
    """Tell whether the model answers from a file instead of being one."""
    return model_id.startswith(f"{SCRIPT}:")


def split(model_id: str) -> tuple[str, str]:
    """Split `provider:model`.

    Raises:
        UsageError: It is not of that form.
    """
    provider, colon, name = model_id.partition(":")
    if colon and provider and name:
        return provider, name
    vendor = next((v for start, v in _STARTS if model_id.startswith(start)), "anthropic")
    raise UsageError(
        f"A model is written `provider:model`, not `{model_id}`.",
        hint=f"Perhaps {vendor}:{model_id.strip(':') or 'MODEL'}",
    )


_STARTS = (("claude", "anthropic"), ("gpt", "openai"), ("gemini", "google"), ("grok", "xai"))


def _shipped(role: str, environ: Mapping[str, str]) -> str | None:
    for keys, models in _SHIPPED:
        if any(environ.get(key) for key in keys):
            return models.get(role)
    return _SHIPPED[0][1].get(role)


def _choice(
    role: str,
    model_id: str,
    source: Source,
    environ: Mapping[str, str],
    providers: Mapping[str, Provider],
) -> Choice:
    provider, _ = split(model_id)
    needed = _needed(provider, model_id, source, providers)
    available = not needed or any(environ.get(name) for name in needed)
    if available:
        return Choice(role, model_id, source, available=True)
    if source == "shipped":
        needed = tuple(key for keys, _ in _SHIPPED for key in keys)
    # A base URL stands in for a key, but the key is what to tell people about.
    told = [name for name in needed if not name.endswith("_BASE_URL")]
    return Choice(role, model_id, source, available=False, missing=" or ".join(told))


def key_variables() -> frozenset[str]:
    """Return the variables that hold keys of models, of all providers that are known by name."""
    names = (name for found in KEYS.values() for name in found)
    return frozenset(name for name in names if not name.endswith("_URL"))


def _needed(
    provider: str, model_id: str, source: Source, providers: Mapping[str, Provider]
) -> tuple[str, ...]:
    if provider == SCRIPT:
        return ()
    if provider in providers:
        key = providers[provider].key_env
        return () if key is None else (key,)
    if provider in KEYS:
        return KEYS[provider]
    if provider in KEYLESS or provider.startswith("gateway/"):
        return ()
    names = sorted({*KEYS, *KEYLESS, *providers, SCRIPT})
    close = closest(provider, names)
    raise UsageError(
        f"Unknown provider `{provider}` in `{model_id}` ({source}).",
        hint=(f"Did you mean `{close}`? " if close else "")
        + f"A server of your own is declared by --provider {provider}=URL.",
    )
