"""Estimates what a recorded run would have cost otherwise, from its events and prices. Pure.

seen = observed(journal.events(run_id))
lines = alternatives(seen, prices, Assumptions(), Changes(models={"cheap": "openai:gpt-6-luna"}))
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.whatif.assume import SOURCES, Assumptions, stated
from runner.whatif.changed import Retention, with_models, with_retention
from runner.whatif.lines import Line, as_it_was, baseline, by_switching, in_main, models_of
from runner.whatif.observed import Command, Observed, Try, observed
from runner.whatif.policies import with_policy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.plan import CacheOverride, PolicyName
    from runner.whatif.assume import Prices

__all__ = [
    "SOURCES",
    "Assumptions",
    "Changes",
    "Command",
    "Line",
    "Observed",
    "Retention",
    "Try",
    "alternatives",
    "baseline",
    "models_of",
    "observed",
    "stated",
]


@frozen
class Changes:
    """What else is asked: each adds a line."""

    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Other models, by role."""
    retention: Retention | None = None
    policy: PolicyName | None = None
    caches: Mapping[str, CacheOverride] = field(default_factory=dict[str, "CacheOverride"])
    """What the user knows better of prompt caches."""


def alternatives(
    seen: Observed,
    prices: Prices,
    assume: Assumptions | None = None,
    changes: Changes | None = None,
) -> tuple[Line, ...]:
    """Say what a run cost, and what its work would have cost otherwise, each with its grounds.

    Args:
        seen: The run.
        prices: What a model's tokens cost; a line that needs an unknown price has no sum.
        assume: What no run measures.
        changes: What else is asked.
    """
    assume, changes = assume or Assumptions(), changes or Changes()
    lines = [
        as_it_was(seen),
        in_main(seen, prices, assume),
        in_main(seen, prices, assume, at_once=True),
        by_switching(seen, prices, assume),
        by_switching(seen, prices, assume, expired=True),
    ]
    if changes.models:
        lines.append(with_models(seen, prices, assume, changes.models))
    if changes.retention is not None:
        lines.append(with_retention(seen, prices, changes.retention, changes.caches))
    if changes.policy is not None:
        lines.append(with_policy(seen, prices, assume, changes.policy))
    return tuple(lines)
