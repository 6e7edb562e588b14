"""Decides what of a run's circumstances a cassette holds, and brings them back for a replay. Pure.

What the caller of the replay says himself comes first. What a workflow must be granted (secrets, a
shell, the network, force) is never taken from a cassette: that is a file of the repository.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from runner.models.choice import KEYS, Choice, split
from runner.plan import Budget, CacheOverride, Options, Price, Provider

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.plan import PolicyName
    from runner.prepare import Prepared

PLACEHOLDER = "replayed"
"""Stands in for a key: vendors' clients insist on one, and nobody will see it."""
_NOWHERE = "http://cassette.invalid"
"""Stands in for a host of the user's own; `.invalid` leads nowhere (RFC 2606, section 2)."""
_VENDORS = (".openai.com", ".anthropic.com", ".googleapis.com")
_BASE_URLS = ("ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL")
_SAID = ("no_models", "no_hooks", "fail_fast", "strict_prefix", "allow_uncommitted")
_PRICE = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
_CACHE = ("minimum", "retention", "longer")

Json = dict[str, Any]


def setting_of(prepared: Prepared) -> Json:
    """Return what decides which requests a run makes, as JSON; no key, no host of one's own."""
    options, config, workflow = prepared.options, prepared.config, prepared.workflow
    models = {role: one.id for role, one in prepared.choices.items() if one.available}
    providers = {**config.providers, **options.providers}
    prices = {**config.prices, **options.prices}
    environ, budget = prepared.environ, prepared.budget
    return {
        "workflow": {
            "name": workflow.name,
            "file": _file(workflow.file, prepared.root),
            "sha256": workflow.sha256,
        },
        "steps": list(options.steps),
        # Agents are told of their tools: where no sandbox holds, a shell is not among them.
        "held_shell": prepared.contains_agents,
        # What the workflow says by itself is not kept: a replay is to notice that it has changed.
        "inputs": {name: prepared.inputs[name] for name in options.inputs},
        "fix": list(options.fix),
        **{name: getattr(options, name) for name in _SAID},
        "models": models,
        "models_of_workflow": [
            role for role in models if prepared.choices[role].source == "workflow"
        ],
        "providers": {name: neutral(one.base_url) for name, one in providers.items()},
        "base_urls": {name: neutral(environ[name]) for name in _BASE_URLS if environ.get(name)},
        "keys": _keys(models.values(), environ),
        "budget": {
            "usd": None if budget.usd is None else str(budget.usd),
            "tokens": budget.tokens,
            "seconds": budget.seconds,
        },
        "policy": options.policy or config.policy,
        "value_of_time": None if config.value_of_time is None else str(config.value_of_time),
        "prices": {model: _fields(price, _PRICE) for model, price in prices.items()},
        "caches": {model: _fields(cache, _CACHE) for model, cache in config.caches.items()},
    }


def chosen(options: Options, head: Json) -> Options:
    """Return what a replay is asked for: what was recorded where the caller says nothing."""
    inputs = {name: _as_given(value) for name, value in _dict(head, "inputs").items()}
    return replace(
        options,
        steps=options.steps or tuple(_list(head, "steps")),
        inputs={**inputs, **options.inputs},
        providers={**_providers(head), **options.providers},
        fix=options.fix or tuple(_list(head, "fix")),
        no_push=True,  # nothing leaves the machine
        **{name: getattr(options, name) or bool(head.get(name)) for name in _SAID},
    )


def restored(prepared: Prepared, head: Json, given: Options) -> Prepared:
    """Return what a replay works with: as recorded, but for what the caller said himself.

    Args:
        prepared: What was read.
        head: What was recorded, names put in.
        given: What the caller said.
    """
    prices = {model: _price(one) for model, one in _dict(head, "prices").items()}
    caches = {
        model: CacheOverride(**{name: one.get(name) for name in _CACHE})
        for model, one in _dict(head, "caches").items()
    }
    worth = head.get("value_of_time")
    config = replace(
        prepared.config,
        providers=_providers(head),
        prices=prices,
        caches=caches,
        policy=cast("PolicyName", head.get("policy") or prepared.config.policy),
        value_of_time=None if worth is None else Decimal(str(worth)),
        keep_warm="off",
    )
    inputs = {**prepared.inputs, **_dict(head, "inputs"), **_given_inputs(prepared, given)}
    return replace(
        prepared,
        config=config,
        choices=_choices(prepared, _models(prepared, head), given),
        inputs={name: inputs[name] for name in prepared.inputs},
        held_shell=head.get("held_shell") is True,
        budget=prepared.budget if given.budget_usd is not None else _budget(head, prepared.budget),
        environ=_environ(prepared.environ, head),
    )


def digest_of(head: Json) -> str:
    """Return the digest of the workflow file that was recorded."""
    return str(_dict(head, "workflow").get("sha256", ""))


def neutral(url: str) -> str:
    """Return a base URL without its host, unless that is a vendor's own; never with a password."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if f".{host}".endswith(_VENDORS):
        return f"{parts.scheme}://{host}{parts.path}"
    return _NOWHERE + parts.path


def _file(file: Path | None, root: Path) -> str:
    """Name the workflow's file for people, without a path of the machine."""
    if file is None:
        return ""
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _providers(head: Json) -> dict[str, Provider]:
    """Return the declared servers; none of them has a key, for none is asked."""
    return {name: Provider(name, str(url)) for name, url in _dict(head, "providers").items()}


def _given_inputs(prepared: Prepared, given: Options) -> Mapping[str, Any]:
    return {name: prepared.inputs[name] for name in given.inputs if name in prepared.inputs}


def _as_given(value: Any) -> Any:
    # A recorded text is a value, whatever it begins with; `restored` puts it in as it was.
    return f" {value}" if isinstance(value, str) and value.startswith("@") else value


def _keys(models: Any, environ: Mapping[str, str]) -> list[str]:
    names = {name for model in models for name in KEYS.get(split(model)[0], ())}
    return sorted(name for name in names if environ.get(name) and not name.endswith("_BASE_URL"))


def _models(prepared: Prepared, head: Json) -> Json:
    """Return the recorded models by role, but what the workflow itself says as it says it now."""
    own = prepared.workflow.models
    named = [role for role in _list(head, "models_of_workflow") if role in own]
    return {**_dict(head, "models"), **{role: own[role] for role in named}}


def _choices(prepared: Prepared, models: Json, given: Options) -> Mapping[str, Choice]:
    choices: dict[str, Choice] = {}
    for role, choice in prepared.choices.items():
        if role in given.models:
            choices[role] = replace(choice, available=True, missing="")
        elif role not in models:
            missing = choice.missing or "its key while recording"
            choices[role] = replace(choice, available=False, missing=missing)
    for role, model in models.items():
        if role not in choices:
            choices[role] = Choice(role, str(model), "command line", available=True)
    return choices


def _environ(environ: Mapping[str, str], head: Json) -> dict[str, str]:
    kept = {name: value for name, value in environ.items() if name not in _BASE_URLS}
    keys = {str(name): environ.get(str(name)) or PLACEHOLDER for name in _list(head, "keys")}
    urls = {name: str(url) for name, url in _dict(head, "base_urls").items() if name in _BASE_URLS}
    return {**kept, **keys, **urls}


def _budget(head: Json, otherwise: Budget) -> Budget:
    told = _dict(head, "budget")
    if not told:
        return otherwise
    usd, tokens, seconds = told.get("usd"), told.get("tokens"), told.get("seconds")
    return Budget(
        usd=None if usd is None else _decimal(usd),
        tokens=tokens if isinstance(tokens, int) else None,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
    )


def _fields(noun: object, names: tuple[str, ...]) -> Json:
    found = {name: getattr(noun, name) for name in names}
    return {
        name: str(value) if isinstance(value, Decimal) else value for name, value in found.items()
    }


def _price(told: Any) -> Price:
    found = cast("Json", told)
    amounts = {name: found.get(name) for name in _PRICE}
    return Price(**{name: None if v is None else _decimal(v) for name, v in amounts.items()})  # pyright: ignore[reportArgumentType]  `input` and `output` are always there


def _decimal(value: object) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return Decimal(0)


def _dict(head: Json, name: str) -> Json:
    found = head.get(name)
    return cast("Json", found) if isinstance(found, dict) else {}


def _list(head: Json, name: str) -> list[str]:
    found = head.get(name)
    return [str(one) for one in cast("list[Any]", found)] if isinstance(found, list) else []
