"""Reads the user's own configuration: what a workflow can never decide for itself."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.loader.document import decode, read_document
from runner.loader.files import read_file
from runner.loader.language import KEEP_WARM_SHAPE
from runner.loader.problems import Problems, Unreadable
from runner.loader.records import Field, Fields, Record, fields_of
from runner.loader.shapes import Choice, Duration, Flag, ListOf, MapOf, Money, Text, Whole
from runner.loader.vocabulary import MODEL_ID, NAME_TEXT, ROLE_TEXT, VARIABLE
from runner.plan import (
    Budget,
    CacheOverride,
    Grants,
    Price,
    Provider,
    SandboxSettings,
    UserConfig,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.plan import PolicyName, SandboxMode

VARIABLE_NAME = "SUBRUNNER_CONFIG"
"""Names another file; `SUBRUNNER_CONFIG=` (empty) reads none."""


class ProviderKeys:
    """Keys of a provider."""

    BASE_URL = Field(
        "base_url",
        Text(
            "an address",
            pattern=r"https?://[^\s/@]+(?:/[^\s]*)?",
            rule="Write `https://HOST/v1`, without a user or key in it.",
            private=True,
        ),
        "Where the OpenAI-compatible server is.",
        required=True,
    )
    KEY_ENV = Field("key_env", VARIABLE, "The variable that holds its key.")


class PriceKeys:
    """Keys of a price, in USD per million tokens."""

    INPUT = Field("input", Money(), "Uncached input.", required=True)
    OUTPUT = Field("output", Money(), "Output.", required=True)
    CACHE_READ = Field("cache_read", Money(), "Input read from a cache; else as `input`.")
    CACHE_WRITE = Field("cache_write", Money(), "Input written to a cache; else as `input`.")
    CACHE_WRITE_1H = Field(
        "cache_write_1h", Money(), "Input written to it for an hour; else as `cache_write`."
    )


class CacheKeys:
    """Keys of what is known of a model's prompt cache."""

    MINIMUM = Field(
        "minimum", Whole(0, 10**9), "Tokens that a prefix must have to be cached at all."
    )
    RETENTION = Field("retention", Duration(), "How long an entry is kept after its last use.")
    LONGER = Field("longer", Duration(), "The longer retention that can be asked for.")


class GrantKeys:
    """Keys of `grants`."""

    SECRETS = Field("secrets", ListOf(VARIABLE, "secrets' names", unique=True), "Always granted.")
    NETWORK = Field("network", Flag(), "Agents may use the network.")
    SHELL = Field("shell", Flag(), "Agents may have a free shell without a sandbox.")
    TRUST_CHECKOUT_AUTH = Field("trust_checkout_auth", Flag(), "Push by a CI checkout's header.")


SANDBOX_MODE_SHAPE: Choice[SandboxMode] = Choice(
    ("auto", "require", "off"), foreign={"false": "off", "none": "off", "true": "require"}
)
_PLACES = ListOf(
    Text("a path", pattern=r"(?:/|~/).+", rule="Write it from `/` or `~/`.", max_length=4000),
    "paths",
)


class SandboxKeys:
    """Keys of `sandbox`."""

    MODE = Field(
        "mode",
        SANDBOX_MODE_SHAPE,
        "`auto` (default): what holds here; `require`: no run without it; `off`.",
    )
    READ = Field("read", _PLACES, "Paths outside of the tree that commands may read.")
    WRITE = Field("write", _PLACES, "Directories outside of the tree that they may write.")


class CeilingKeys:
    """Keys of `ceilings`."""

    USD = Field("usd", Money(), "Money of one run at most.")
    TOKENS = Field("tokens", Whole(0, 10**12), "Tokens of one run at most.")
    TIME = Field("time", Duration(), "Time of one run at most.")


_KEY_HINT = "Keys never stand in a file: name the variable that holds one by `key_env`."


POLICY_SHAPE: Choice[PolicyName] = Choice(("expected-cost", "ladder", "main", "cheap"))


_PRICE_EXAMPLE = "Write `{ input: 3, output: 15 }`, in USD per million tokens."


class ConfigKeys:
    """Keys of the user's configuration."""

    MODELS = Field("models", MapOf(ROLE_TEXT, MODEL_ID), "Model ids by role.")
    PROVIDERS = Field(
        "providers",
        MapOf(
            NAME_TEXT,
            Record(
                "a provider",
                fields_of(ProviderKeys),
                foreign={"key": _KEY_HINT, "api-key": _KEY_HINT, "token": _KEY_HINT},
                example="Write `base_url: https://HOST/v1`.",
            ),
        ),
        "OpenAI-compatible servers, asked as `NAME:model`.",
    )
    PRICES = Field(
        "prices",
        MapOf(MODEL_ID, Record("a price", fields_of(PriceKeys), example=_PRICE_EXAMPLE)),
        "USD per million tokens, by model id or `NAME:*`; before the bundled table.",
    )
    CACHES = Field(
        "caches",
        MapOf(
            MODEL_ID,
            Record("a prompt cache", fields_of(CacheKeys), example="Write `minimum: 1024`."),
        ),
        "What holds for prompt caches, by model id or `NAME:*`; before what is shipped.",
    )
    KEEP_WARM = Field(
        "keep_warm", KEEP_WARM_SHAPE, "`off`: no workflow keeps main's prompt cache alive."
    )
    POLICY = Field("policy", POLICY_SHAPE, "How the first rung is chosen; default `expected-cost`.")
    VALUE_OF_TIME = Field(
        "value_of_time", Money(), "USD that an hour of waiting is worth; default 3.00."
    )
    GRANTS = Field("grants", Record("`grants`", fields_of(GrantKeys)), "What workflows may have.")
    SANDBOX = Field(
        "sandbox",
        Record(
            "`sandbox`",
            fields_of(SandboxKeys),
            foreign={
                "network": "Write `network: true` in the step, and `grants: {network: true}`."
            },
            example="Write `{ read: [~/data] }`.",
        ),
        "What keeps commands from the rest of the machine.",
    )
    CEILINGS = Field("ceilings", Record("`ceilings`", fields_of(CeilingKeys)), "At most, per run.")
    KEEP_RUNS = Field("keep_runs", Whole(1, 10_000), "How many runs' records are kept.")
    KEEP_DAYS = Field("keep_days", Whole(1, 10_000), "For how many days; default 90.")
    KEEP_SIZE = Field(
        "keep_size", Whole(1, 10_000_000), "How many MB of runs' files; no limit by default."
    )
    PROTECTED = Field(
        "protected_branches",
        ListOf(Text("a branch or glob", max_length=250), "branches"),
        "Branches that no run commits or pushes to.",
    )
    FILTERS = Field("filters", ListOf(NAME_TEXT, "filters' names"), "git filters that may run.")
    ALLOW_SECRETS = Field(
        "allow_secrets",
        ListOf(Text("a path or glob", max_length=250), "paths"),
        "Files in which commits may hold what looks like a key.",
    )


CONFIG = Record(
    "the configuration",
    fields_of(ConfigKeys),
    foreign={
        "api-key": _KEY_HINT,
        "secrets": "Write `grants: { secrets: [NAME] }`.",
        "budget": "Write `ceilings`.",
    },
)


def load_config(path: Path | None = None, *, environ: Mapping[str, str] = os.environ) -> UserConfig:
    """Return the user's configuration.

    Args:
        path: The file; without it `$SUBRUNNER_CONFIG`, else `config.yaml` in the user's
            configuration directory for `subagent-runner`, which need not exist.
        environ: Variables to look in.

    Raises:
        UsageError: A file that was named is missing or cannot be read.
        WorkflowErrors: The file is wrong.
    """
    named = path or (Path(environ[VARIABLE_NAME]) if environ.get(VARIABLE_NAME) else None)
    if named is not None:
        return parse_config(read_file(named.expanduser(), "configuration file"), file=str(named))
    if VARIABLE_NAME in environ:
        return UserConfig()
    default = config_path()
    if not default.is_file():
        return UserConfig()
    return parse_config(read_file(default, "configuration file"), file=str(default))


def config_name(environ: Mapping[str, str] = os.environ) -> str:
    """Return the path of the file that `load_config` reads, for people; empty for none."""
    named = environ.get(VARIABLE_NAME)
    return str(config_path()) if named is None else named


def config_path() -> Path:
    """Return where the user's configuration is looked for."""
    from platformdirs import user_config_path  # noqa: PLC0415  5 ms that most commands never need

    return user_config_path("subagent-runner", appauthor=False) / "config.yaml"


def parse_config(data: str | bytes, *, file: str) -> UserConfig:
    """Return the configuration of a file's bytes.

    Raises:
        WorkflowErrors: With every mistake found.
    """
    text, problems = decode(data, file)
    root = read_document(text, problems)
    if root is None:
        return UserConfig()
    try:
        fields = CONFIG.read(root, problems)
    except Unreadable:
        problems.raise_if_any()
        raise UsageError(f"{file} cannot be read") from None
    _check_caches(fields, problems)
    problems.raise_if_any()
    defaults = UserConfig()
    return UserConfig(
        models=fields.get_or(ConfigKeys.MODELS, {}),
        providers=_providers(fields),
        prices=_prices(fields),
        caches=_caches(fields),
        keep_warm=fields.get_or(ConfigKeys.KEEP_WARM, defaults.keep_warm),
        policy=fields.get_or(ConfigKeys.POLICY, defaults.policy),
        value_of_time=fields.get(ConfigKeys.VALUE_OF_TIME),
        grants=_grants(fields.get(ConfigKeys.GRANTS)),
        sandbox=_sandbox(fields.get(ConfigKeys.SANDBOX)),
        ceilings=_ceilings(fields.get(ConfigKeys.CEILINGS)),
        keep_runs=fields.get_or(ConfigKeys.KEEP_RUNS, defaults.keep_runs),
        keep_days=fields.get_or(ConfigKeys.KEEP_DAYS, defaults.keep_days),
        keep_size=fields.get(ConfigKeys.KEEP_SIZE),
        protected_branches=fields.get_or(ConfigKeys.PROTECTED, ()),
        filters=fields.get_or(ConfigKeys.FILTERS, ()),
        allow_secrets=fields.get_or(ConfigKeys.ALLOW_SECRETS, ()),
    )


def _providers(fields: Fields) -> dict[str, Provider]:
    return {
        name: Provider(name, one.get_or(ProviderKeys.BASE_URL, ""), one.get(ProviderKeys.KEY_ENV))
        for name, one in fields.get_or(ConfigKeys.PROVIDERS, {}).items()
    }


def _prices(fields: Fields) -> dict[str, Price]:
    return {
        model: Price(
            one.get_or(PriceKeys.INPUT, Decimal(0)),
            one.get_or(PriceKeys.OUTPUT, Decimal(0)),
            one.get(PriceKeys.CACHE_READ),
            one.get(PriceKeys.CACHE_WRITE),
            one.get(PriceKeys.CACHE_WRITE_1H),
        )
        for model, one in fields.get_or(ConfigKeys.PRICES, {}).items()
    }


def _caches(fields: Fields) -> dict[str, CacheOverride]:
    return {
        model: CacheOverride(
            one.get(CacheKeys.MINIMUM), one.get(CacheKeys.RETENTION), one.get(CacheKeys.LONGER)
        )
        for model, one in fields.get_or(ConfigKeys.CACHES, {}).items()
    }


def _check_caches(fields: Fields, problems: Problems) -> None:
    for one in fields.get_or(ConfigKeys.CACHES, {}).values():
        kept, longer = one.get(CacheKeys.RETENTION), one.get(CacheKeys.LONGER)
        if kept is not None and longer is not None and longer <= kept:
            problems.add(
                "`longer` must be longer than `retention`",
                one.value(CacheKeys.LONGER),
                hint="Write `{ retention: 5m, longer: 1h }`, or leave it out.",
            )


def _grants(fields: Fields | None) -> Grants:
    if fields is None:
        return Grants()
    return Grants(
        secrets=fields.get_or(GrantKeys.SECRETS, ()),
        network=fields.get_or(GrantKeys.NETWORK, default=False),
        shell=fields.get_or(GrantKeys.SHELL, default=False),
        trust_checkout_auth=fields.get_or(GrantKeys.TRUST_CHECKOUT_AUTH, default=False),
    )


def _sandbox(fields: Fields | None) -> SandboxSettings:
    if fields is None:
        return SandboxSettings()
    return SandboxSettings(
        mode=fields.get(SandboxKeys.MODE),
        read=fields.get_or(SandboxKeys.READ, ()),
        write=fields.get_or(SandboxKeys.WRITE, ()),
    )


def _ceilings(fields: Fields | None) -> Budget:
    if fields is None:
        return Budget(usd=None, tokens=None, seconds=None)
    return Budget(
        usd=fields.get(CeilingKeys.USD),
        tokens=fields.get(CeilingKeys.TOKENS),
        seconds=fields.get(CeilingKeys.TIME),
    )
