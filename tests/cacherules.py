"""Counts cached tokens by the rules that providers publish; part of `cacheserver`.

Where a rule is not published it takes the reading that grants less.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cacheprompt import Prompt

MINUTE, HOUR = 60.0, 3600.0

_MINIMA = (
    (r"claude-((opus|fable|mythos)-5(-\d)?|sonnet-5-5)$", 512),
    (r"claude-(opus-4-8|sonnet-5$|sonnet-4|opus-4-1|opus-4$)", 1024),
    (r"claude-opus-4-7", 2048),
)
"""Smallest prefix that is cached, by model; 4,096 for all others.

platform.claude.com/docs/en/build-with-claude/prompt-caching#cache-limitations; of Opus 5.5 and
Sonnet 5.5 second-hand.
"""
LOOKBACK = 20
"""Positions that are looked at from a breakpoint, itself the first."""
OPENAI_MINIMUM = 1024
OPENAI_ENDINGS = 20
"""Earlier ends of messages that are looked up, beside the newest.

developers.openai.com/api/docs/guides/prompt-caching#how-prefix-matching-works says so; the API's
reference speaks of the latest 80 breakpoints.
"""
OPENAI_RETENTION = 30 * MINUTE
OLD_RETENTION = 5 * MINUTE
"""In memory: 5 to 10 idle minutes before GPT-5.5."""
GOOGLE_RETENTION = 5 * MINUTE
"""Google promises nothing; as short as the shortest of the others."""


@dataclass(slots=True)
class _Entry:
    """A prefix that is cached."""

    number: int
    tokens: int
    ready: float
    expires: float
    lifetime: float


@dataclass(frozen=True, slots=True)
class Counted:
    read: int = 0
    write: int = 0
    write_1h: int = 0
    reads_of: int | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    number: int
    now: float
    ready: float
    """When the first byte of the answer leaves: only then is what it writes of use to others."""


@dataclass(slots=True)
class _Remembered:
    """A whole prompt, where a provider finds common beginnings by itself."""

    entry: _Entry
    prompt: Prompt


@dataclass(slots=True)
class Caches:
    """All that is cached; every key begins with the model."""

    minimum: int | None
    entries: dict[bytes, _Entry] = field(default_factory=dict[bytes, _Entry])
    prompts: dict[bytes, list[_Remembered]] = field(
        default_factory=dict[bytes, "list[_Remembered]"]
    )

    def count(self, prompt: Prompt, moment: Moment) -> Counted:
        """Apply the rules of the prompt's API and model."""
        match prompt.api:
            case "anthropic":
                return self._anthropic(prompt, moment)
            case "google":
                least = 2048 if "gemini-2.5" in prompt.model else 4096
                return self._common(prompt, moment, (least, 1, GOOGLE_RETENTION))
            case _ if _at_least_5_6(prompt.model):
                return self._openai(prompt, moment)
            case _:
                return self._common(prompt, moment, _old_openai(prompt))

    def _live(self, key: bytes, now: float) -> _Entry | None:
        entry = self.entries.get(key)
        usable = entry is not None and entry.ready <= now < entry.expires
        return entry if usable else None

    def _put(self, prompt: Prompt, index: int, lifetime: float, moment: Moment) -> None:
        key = prompt.blocks[index].key
        entry = _Entry(
            moment.number, prompt.ends[index], moment.ready, moment.now + lifetime, lifetime
        )
        before = self.entries.get(key)
        if before is not None and moment.now < before.expires:
            # Still on its way: whoever is first to answer makes it useful to all.
            entry.number = before.number if before.ready <= entry.ready else entry.number
            entry.ready = min(before.ready, entry.ready)
            entry.expires = max(before.expires, entry.expires)
        self.entries[key] = entry

    def _anthropic(self, prompt: Prompt, moment: Moment) -> Counted:
        """Breakpoints, look-back, minimum and mixed lifetimes.

        platform.claude.com/docs/en/build-with-claude/prompt-caching, "How automatic prefix
        checking works" and "Mixing different TTLs".
        """
        least = self.minimum or _minimum(prompt.model)
        hits = [
            found
            for index in prompt.marks
            if (found := self._look_back(prompt, index, moment.now)) is not None
        ]
        best = max(hits, key=lambda entry: entry.tokens, default=None)
        for entry in hits:
            entry.expires = moment.now + entry.lifetime
        read = best.tokens if best else 0
        new = {
            index: ttl
            for index, ttl in prompt.marks.items()
            if prompt.ends[index] > read and prompt.ends[index] >= least
        }
        for index, ttl in new.items():
            self._put(prompt, index, ttl, moment)
        last_1h = max((prompt.ends[i] for i, ttl in new.items() if ttl == HOUR), default=read)
        last = max((prompt.ends[i] for i in new), default=read)
        return Counted(read, last - read, last_1h - read, best.number if best else None)

    def _look_back(self, prompt: Prompt, mark: int, now: float) -> _Entry | None:
        for index in range(mark, -1, -1):
            if prompt.positions[mark] - prompt.positions[index] >= LOOKBACK:
                return None
            found = self._live(prompt.blocks[index].key, now)
            if found is not None:
                return found
        return None

    def _openai(self, prompt: Prompt, moment: Moment) -> Counted:
        """GPT-5.6 and later: one breakpoint of its own, more by request, no rounding.

        developers.openai.com/api/docs/guides/prompt-caching
        """
        explicit = [*prompt.marks]
        endings = [] if prompt.explicit_only else prompt.endings
        looked_up = {*explicit[:2], *explicit[-50:], *endings[-OPENAI_ENDINGS - 1 :]}
        if not prompt.explicit_only and prompt.opening is not None:
            looked_up.add(prompt.opening)
        found = [self._live(prompt.blocks[i].key, moment.now) for i in looked_up]
        best = max((e for e in found if e), key=lambda entry: entry.tokens, default=None)
        if best is not None:
            best.expires = moment.now + best.lifetime
        read = best.tokens if best else 0
        slots = 4 if prompt.explicit_only else 3
        written = {
            index
            for index in {*explicit[-slots:], *endings[-1:]}
            if prompt.ends[index] > read and prompt.ends[index] >= OPENAI_MINIMUM
        }
        for index in written:
            self._put(prompt, index, OPENAI_RETENTION, moment)
        last = max((prompt.ends[i] for i in written), default=read)
        return Counted(read, last - read, 0, best.number if best else None)

    def _common(self, prompt: Prompt, moment: Moment, rules: tuple[int, int, float]) -> Counted:
        """Longest common beginning with any prompt of late: automatic, free to write."""
        least, step, lifetime = rules
        known = self.prompts.setdefault(prompt.machine, [])
        live = [one for one in known if one.entry.ready <= moment.now < one.entry.expires]
        # Of equally good ones the newest: its life is the longest.
        best = max(
            live, key=lambda one: (prompt.common(one.prompt), one.entry.number), default=None
        )
        read = prompt.common(best.prompt) // step * step if best else 0
        if read < least:
            best, read = None, 0
        # Its life needs no refreshing: this prompt, which begins alike, is remembered as well.
        if prompt.total >= least:
            expires = moment.now + lifetime
            entry = _Entry(moment.number, prompt.total, moment.ready, expires, lifetime)
            known.append(_Remembered(entry, prompt))
        return Counted(read, 0, 0, best.entry.number if best else None)


def _minimum(model: str) -> int:
    return next((least for name, least in _MINIMA if re.match(name, model)), 4096)


def _at_least_5_6(model: str) -> bool:
    found = re.match(r"gpt-(\d+)(?:\.(\d+))?", model)
    return found is not None and (int(found[1]), int(found[2] or 0)) >= (5, 6)


def _old_openai(prompt: Prompt) -> tuple[int, int, float]:
    """Smallest prefix, step and lifetime of the models before GPT-5.6."""
    if prompt.model.startswith("gpt-5.5"):
        return OPENAI_MINIMUM, 2048, 30 * MINUTE
    return OPENAI_MINIMUM, 128, 24 * HOUR if prompt.extended else OLD_RETENTION
