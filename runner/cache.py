"""Decides what a provider's published rules promise of its prompt cache. Pure.

A cache holds the prompts of earlier requests for a while; a request that begins with one of them
reads it for a fraction of the price. What is promised and what is reported are compared, so that a
lost cache is seen on the request that lost it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.outcome import Usage
    from runner.plan import CacheOverride

FIVE_MINUTES = 300.0
HALF_AN_HOUR = 1_800.0
HOUR = 3_600.0
_MARGIN_PARTS = 300
"""Around the end of a retention nobody can tell on which side a request fell: 1 second for each 5
minutes of it."""


@frozen
class CacheRules:
    """What a provider publishes of a model's prompt cache."""

    minimum: int
    """Tokens that a prefix must have to be cached at all."""
    step: int
    """Cached tokens are a multiple of it."""
    retention: float
    """Seconds for which an entry is kept after its last use, counted from the request's start."""
    longer: float | None
    """Seconds of the longer retention that can be asked for; `None` where there is none."""
    promised: bool
    """Whether the retention is promised; else an entry may go at any time."""
    marked: bool
    """Whether only prefixes that end at a marker are cached."""
    writes: bool
    """Whether the provider tells how many tokens it wrote to the cache."""


@frozen
class Sent:
    """One answered request of a conversation, as far as its cache is concerned."""

    tokens: int
    """Tokens of the whole prompt, as the provider counted them."""
    cached: int
    """Of them, those that its cache holds since."""
    began: float
    """When it was sent, by a clock that only goes forward, in seconds."""
    marked: bool
    """Whether it asked for its prompt to be cached."""
    retention: float
    """Seconds that it asked for, or the provider's own."""


_ANTHROPIC_MINIMUM = (
    (re.compile(r"(opus|fable|mythos)-5(-\d)?(-\d{8})?$|sonnet-5-5"), 512),
    (re.compile(r"opus-4-8|sonnet-5(-\d{8})?$|sonnet-4|opus-4-1|opus-4(-\d{8})?$"), 1_024),
    (re.compile(r"opus-4-7"), 2_048),
)
"""platform.claude.com/docs/en/build-with-claude/prompt-caching lists them by model; for the newest
others the largest published one stands in; of Opus 5.5 and Sonnet 5.5 it is known second-hand."""
_ANTHROPIC_DEFAULT = 4_096

_OPENAI_NEW = re.compile(r"gpt-(5\.[6-9]|[6-9]|1\d)")
"""From GPT-5.6 on: writes are priced, entries end at breakpoints and live for 30 minutes at least.
Azure's name of GPT-3.5 is `gpt-35-turbo`, which is none of them.
developers.openai.com/api/docs/guides/prompt-caching."""

_OPENAI = frozenset({"openai", "openai-chat", "openai-responses", "azure", "azure-responses"})


def rules_of(model_id: str, overrides: Mapping[str, CacheOverride]) -> CacheRules | None:
    """Return what holds for a model; `None` where nothing is published that could be relied on.

    Args:
        model_id: `provider:model`.
        overrides: What the user knows better, by model id or `provider:*`.
    """
    provider, _, name = model_id.partition(":")
    rules = _published(provider, name)
    better = overrides.get(model_id) or overrides.get(f"{provider}:*")
    if better is None:
        return rules
    base = rules or CacheRules(0, 1, FIVE_MINUTES, None, promised=False, marked=False, writes=False)
    return CacheRules(
        minimum=base.minimum if better.minimum is None else better.minimum,
        step=base.step,
        retention=base.retention if better.retention is None else better.retention,
        longer=base.longer if better.longer is None else better.longer,
        promised=base.promised or better.retention is not None,
        marked=base.marked,
        writes=base.writes,
    )


def _published(provider: str, name: str) -> CacheRules | None:
    if provider == "anthropic":
        minimum = next(
            (least for which, least in _ANTHROPIC_MINIMUM if which.search(name)),
            _ANTHROPIC_DEFAULT,
        )
        return CacheRules(minimum, 1, FIVE_MINUTES, HOUR, promised=True, marked=True, writes=True)
    if provider in _OPENAI:
        if name.startswith("gpt-5.5"):
            return CacheRules(
                2_048, 2_048, HALF_AN_HOUR, None, promised=False, marked=False, writes=False
            )
        if _OPENAI_NEW.match(name):
            return CacheRules(
                1_024, 1, HALF_AN_HOUR, None, promised=True, marked=False, writes=True
            )
        return CacheRules(
            1_024, 128, FIVE_MINUTES, None, promised=False, marked=False, writes=False
        )
    if provider in {"google", "google-cloud"}:
        # ai.google.dev/gemini-api/docs/caching: implicit, without a guarantee.
        minimum = 2_048 if name.startswith("gemini-2") else 4_096
        return CacheRules(
            minimum, 1, FIVE_MINUTES, None, promised=False, marked=False, writes=False
        )
    return None


def cacheable(rules: CacheRules | None, tokens: int) -> bool:
    """Tell whether a prompt of so many tokens can be cached at all; unknown rules do not hinder."""
    return rules is None or tokens >= rules.minimum


def held(rules: CacheRules, usage: Usage) -> int:
    """Return the tokens of an answered request's prompt that the cache holds since.

    A provider that tells what it wrote may leave some behind the last marker; of one that does not,
    the whole prompt is taken for cached.
    """
    if rules.writes:
        return usage.cache_read_tokens + usage.cache_write_tokens
    return usage.input_tokens


def expected_read(rules: CacheRules | None, before: Sent | None, now: float) -> int | None:
    """Return the cached tokens that a request promises to read that extends `before` whole.

    Args:
        rules: Of the model; `None` where nobody knows them.
        before: The request that it extends; `None` when it is a conversation's first, which may
            find what an earlier run left.
        now: When the request was sent, by the same clock as `before.began`.

    Returns:
        Tokens; `None` when nothing can be expected for certain.
    """
    if rules is None or before is None or before.tokens <= 0:
        return None
    if _uncached(rules, before):
        return 0
    age = now - before.began
    if abs(age - before.retention) <= before.retention / _MARGIN_PARTS:
        return None
    if age > before.retention:
        # One that is not promised may live on; one that is, may as well.
        return 0
    return before.cached - before.cached % rules.step


def explain(
    rules: CacheRules | None,
    before: Sent | None,
    now: float,
    *,
    expected: int | None,
    reported: int,
) -> str:
    """Say why a provider read nothing or something else than expected; empty when all is well."""
    if rules is None or before is None or expected is None:
        return ""
    if expected == reported > 0:
        return ""
    if expected == 0:
        return _nothing_expected(rules, before, now, reported)
    if reported > expected:
        return f"{reported - expected} more than promised"
    missing = f"{expected - reported} of {expected} expected cached tokens not read"
    if not rules.promised:
        return f"{missing}: the provider promises no retention"
    return f"{missing}: the provider missed its cache"


def _nothing_expected(rules: CacheRules, before: Sent, now: float, reported: int) -> str:
    why = _uncached(rules, before)
    if not why:
        age, kept = now - before.began, before.retention
        why = f"expired: {age:.0f} s after a request that is kept for {kept:.0f} s"
    return f"{why}; yet {reported} were read" if reported else why


def _uncached(rules: CacheRules, sent: Sent) -> str:
    """Say why a request's prompt was not cached; empty when it was."""
    if sent.tokens < rules.minimum:
        return f"too short: {sent.tokens} of {rules.minimum} tokens"
    if rules.marked and not sent.marked:
        return "not asked to be cached"
    return "" if sent.cached else "the provider cached nothing of the request before"
