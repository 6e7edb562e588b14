"""What a provider's published rules promise of its cache, and how a difference is explained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.cache import CacheRules, Sent, cacheable, expected_read, explain, rules_of
from runner.plan import CacheOverride

OPUS = CacheRules(4_096, 1, 300, 3_600, promised=True, marked=True, writes=True)
OLD_GPT = CacheRules(1_024, 128, 300, None, promised=False, marked=False, writes=False)


def sent(
    tokens: int, began: float = 100.0, *, marked: bool, retention: float, cached: int | None = None
) -> Sent:
    return Sent(tokens, tokens if cached is None else cached, began, marked, retention)


SENT = sent(10_000, marked=True, retention=300.0)


@pytest.mark.parametrize(
    ("model", "minimum", "step", "retention", "longer", "promised"),
    [
        ("anthropic:claude-opus-5-5", 512, 1, 300, 3_600, True),
        ("anthropic:claude-sonnet-5-5", 512, 1, 300, 3_600, True),
        ("anthropic:claude-fable-5-2", 512, 1, 300, 3_600, True),
        ("anthropic:claude-haiku-5-5", 4_096, 1, 300, 3_600, True),
        ("anthropic:claude-haiku-4-5-20251001", 4_096, 1, 300, 3_600, True),
        ("anthropic:claude-opus-5", 512, 1, 300, 3_600, True),
        ("anthropic:claude-fable-5", 512, 1, 300, 3_600, True),
        ("anthropic:claude-opus-4-8", 1_024, 1, 300, 3_600, True),
        ("anthropic:claude-sonnet-5", 1_024, 1, 300, 3_600, True),
        ("anthropic:claude-opus-4-20250514", 1_024, 1, 300, 3_600, True),
        ("anthropic:claude-opus-4-7", 2_048, 1, 300, 3_600, True),
        ("anthropic:claude-opus-4-6", 4_096, 1, 300, 3_600, True),
        ("openai:gpt-6.1-sol", 1_024, 1, 1_800, None, True),
        ("openai-chat:gpt-5.6-luna", 1_024, 1, 1_800, None, True),
        ("openai:gpt-5.5-mini", 2_048, 2_048, 1_800, None, False),
        ("openai:gpt-5.4-mini", 1_024, 128, 300, None, False),
        ("openai-chat:gpt-4.1", 1_024, 128, 300, None, False),
        ("azure:gpt-35-turbo", 1_024, 128, 300, None, False),
        ("openai:gpt-10", 1_024, 1, 1_800, None, True),
        ("google:gemini-4-argon", 4_096, 1, 300, None, False),
        ("google:gemini-2.5-flash", 2_048, 1, 300, None, False),
    ],
)
def test_the_rules_of_a_model(
    model: str, minimum: int, step: int, retention: float, longer: float | None, promised: bool
) -> None:
    rules = rules_of(model, {})
    assert rules is not None
    assert (rules.minimum, rules.step) == (minimum, step)
    assert (rules.retention, rules.longer, rules.promised) == (retention, longer, promised)


@pytest.mark.parametrize("model", ["deepseek:deepseek-flash", "local:qwen", "script:x.yaml"])
def test_where_nothing_is_published_nothing_is_assumed(model: str) -> None:
    assert rules_of(model, {}) is None
    assert expected_read(None, SENT, 101.0) is None
    assert cacheable(None, 1)


def test_the_user_knows_better() -> None:
    caches = {
        "anthropic:*": CacheOverride(minimum=7),
        "anthropic:claude-opus-5-5": CacheOverride(retention=6.0),
        "local:*": CacheOverride(minimum=16, retention=60.0),
    }
    opus = rules_of("anthropic:claude-opus-5-5", caches)
    assert opus == CacheRules(512, 1, 6.0, 3_600, promised=True, marked=True, writes=True)
    haiku = rules_of("anthropic:claude-haiku-5-5", caches)
    assert haiku is not None
    assert (haiku.minimum, haiku.retention) == (7, 300)
    local = rules_of("local:qwen", caches)
    assert local == CacheRules(16, 1, 60.0, None, promised=True, marked=False, writes=False)


@pytest.mark.parametrize(
    ("rules", "before", "now", "reported", "expected", "why"),
    [
        (OPUS, SENT, 110.0, 10_000, 10_000, ""),
        (OPUS, SENT, 398.0, 10_000, 10_000, ""),
        (OPUS, SENT, 400.5, 0, None, ""),
        (OPUS, SENT, 500.0, 0, 0, "expired: 400 s after a request that is kept for 300 s"),
        (
            OPUS, SENT, 500.0, 10_000, 0,
            "expired: 400 s after a request that is kept for 300 s; yet 10000 were read",
        ),
        (
            OPUS, SENT, 110.0, 4_000, 10_000,
            "6000 of 10000 expected cached tokens not read: the provider missed its cache",
        ),
        (OPUS, SENT, 110.0, 10_400, 10_000, "400 more than promised"),
        (
            OPUS, sent(3_000, marked=True, retention=300.0), 110.0, 0, 0,
            "too short: 3000 of 4096 tokens",
        ),
        (
            OPUS, sent(9_000, marked=False, retention=300.0), 110.0, 0, 0,
            "not asked to be cached",
        ),
        (OPUS, sent(9_000, marked=True, retention=3_600.0), 2_000.0, 9_000, 9_000, ""),
        (OLD_GPT, sent(1_500, marked=False, retention=300.0), 110.0, 1_408, 1_408, ""),
        (
            OLD_GPT, sent(1_500, marked=False, retention=300.0), 110.0, 0, 1_408,
            "1408 of 1408 expected cached tokens not read: the provider promises no retention",
        ),
        # The provider left three tokens behind its last marker.
        (OPUS, sent(9_003, marked=True, retention=300.0, cached=9_000), 110.0, 9_000, 9_000, ""),
        (
            OPUS, sent(9_003, marked=True, retention=300.0, cached=0), 110.0, 0, 0,
            "the provider cached nothing of the request before",
        ),
        (OPUS, None, 110.0, 0, None, ""),
        (OPUS, sent(0, marked=True, retention=300.0), 110.0, 0, None, ""),
    ],
)  # fmt: skip
def test_expected_and_explained(
    rules: CacheRules,
    before: Sent | None,
    now: float,
    reported: int,
    expected: int | None,
    why: str,
) -> None:
    assert expected_read(rules, before, now) == expected
    assert explain(rules, before, now, expected=expected, reported=reported) == why


@given(
    tokens=st.integers(0, 10**6),
    age=st.floats(0, 10**5),
    marked=st.booleans(),
    reported=st.integers(0, 10**6),
)
def test_no_more_is_expected_than_was_sent_and_every_loss_has_a_reason(
    tokens: int, age: float, marked: bool, reported: int
) -> None:
    for rules in (OPUS, OLD_GPT):
        before = sent(tokens, 0.0, marked=marked, retention=rules.retention)
        expected = expected_read(rules, before, age)
        why = explain(rules, before, age, expected=expected, reported=reported)
        if expected is None:
            assert why == ""
            continue
        assert 0 <= expected <= tokens
        assert expected % rules.step == 0
        assert (why == "") == (reported == expected > 0)
