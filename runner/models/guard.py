"""Decides how a request follows the one before it in its conversation, and what its cache promises.

One `Guard` for each request: it looks when the request is sent, tells when it was answered.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner import clock
from runner.cache import HOUR, Sent, expected_read, explain, held
from runner.errors import RunnerError
from runner.events import Continuity
from runner.prefix import digest_of, extends, retention_asked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from runner.cache import CacheRules
    from runner.outcome import Usage
    from runner.prefix import Prefix
    from runner.recalled import Answered


class PrefixBrokenError(RunnerError):
    """Raised instead of sending a main request that would lose the prompt cache: a defect here."""


@dataclass(slots=True)
class Memory:
    """What the last answered request of a conversation looked like."""

    messages: int = 0
    prefix: Prefix | None = None
    input_tokens: int = 0
    sent: Sent | None = None
    """The same for its cache; `None` when nobody knows how many tokens it had."""
    under_way: int = 0
    """Requests that are not answered yet."""
    trouble: str = ""
    """Why the provider, not the model, is what a request waits for; empty while it does not."""


def remember(
    memory: Memory,
    rules: CacheRules | None,
    prefix: Prefix,
    fields: Mapping[str, Any],
    answered: Answered,
) -> None:
    """Let a conversation remember a request that an earlier life of the run had answered.

    Args:
        memory: Of the conversation, which is new here.
        rules: What is known of the model's prompt cache.
        prefix: The request, made anew.
        fields: Its body.
        answered: What the journal knows of it.
    """
    usage = answered.usage
    memory.prefix, memory.input_tokens = prefix, usage.input_tokens
    if usage.input_tokens > 0 and rules is not None:
        ago = max(0.0, time.time() - answered.at)
        began = clock.seconds() - ago
        memory.sent = _sent(rules, usage, began, retention_asked(fields))


def _sent(rules: CacheRules, usage: Usage, began: float, asked: float | None) -> Sent:
    return Sent(
        tokens=usage.input_tokens,
        cached=held(rules, usage),
        began=began,
        marked=asked is not None,
        retention=(asked == HOUR and rules.longer) or rules.retention,
    )


class Guard:
    """One request of a conversation beside the one before it.

    Args:
        rules: What is known of the model's prompt cache.
        memory: Of the conversation.
        main: Whether it is the main conversation, whose requests must extend each other.
        again: Whether the last request is sent once more, only to keep its cache.
    """

    def __init__(
        self, rules: CacheRules | None, memory: Memory, *, main: bool, again: bool
    ) -> None:
        self.prefix: Prefix | None = None
        self._rules, self._memory, self._main, self._again = rules, memory, main, again
        self.digest = ""
        """Of the request that was sent."""
        self._how = "first"
        self._alone = True
        self._before: Prefix | None = None
        self._sent_before: Sent | None = None
        self._retention: float | None = None
        self._began = clock.seconds()

    def look(self, prefix: Prefix, fields: Mapping[str, Any]) -> None:
        """Compare a request with the one before, as that is when this one is about to be sent.

        Args:
            prefix: The request as a cache sees it.
            fields: Its body.
        """
        memory = self._memory
        self.prefix, self._retention = prefix, retention_asked(fields)
        self._before, self._sent_before = memory.prefix, memory.sent
        self._alone = memory.under_way <= 1
        self._how = self._follows(memory.prefix, prefix) if self._main else ""

    @property
    def broken(self) -> bool:
        """Whether it is a main request that would lose the prompt cache."""
        return self._main and Continuity(self._how).broken

    @property
    def fresh(self) -> bool:
        """Whether the cache of the request before is still there, by the rules."""
        sent = self._sent_before
        return sent is not None and clock.seconds() - sent.began < sent.retention

    def begin(self) -> None:
        """Note that the request is sent now: the time of what it caches begins."""
        self._began = clock.seconds()

    def continuity(self, reported: int | None) -> Continuity | None:
        """Say how a main request follows the one before; `None` for any other.

        Args:
            reported: Cached tokens that the provider says it read; `None` when it does not say.
        """
        if not self._main or self.prefix is None:
            return None
        expected, why = None, ""
        # What another request, not answered yet, did to the cache nobody can tell.
        if reported is not None and self._alone and self._how in ("extends", "same"):
            before, began = self._sent_before, self._began
            expected = expected_read(self._rules, before, began)
            why = explain(self._rules, before, began, expected=expected, reported=reported)
        blocks, size = len(self.prefix.blocks), self.prefix.size
        digest = self.digest or digest_of(self.prefix)
        return Continuity(self._how, blocks, size, digest, expected, why)

    def remember(self, usage: Usage | None) -> None:
        """Keep what the next request of the conversation is compared with.

        Args:
            usage: As the provider told it; `None` when it did not, or nothing plausible.
        """
        memory, rules = self._memory, self._rules
        if self._again and memory.prefix is not self._before:
            return  # the conversation went on meanwhile
        memory.prefix, memory.sent = self.prefix, None
        memory.input_tokens = usage.input_tokens if usage else 0
        if usage is not None and rules is not None:
            memory.sent = _sent(rules, usage, self._began, self._retention)

    def _follows(self, before: Prefix | None, prefix: Prefix) -> str:
        """`first`, `extends`, `same`, or where a request differs from the one before."""
        if before is None:
            return "first"
        differs = extends(before, prefix)
        if not self._again:
            return differs or "extends"
        return differs or ("same" if len(prefix.blocks) == len(before.blocks) else "longer")
