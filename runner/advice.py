"""Decides what to advise when a run ended for want of money, tokens or time. Pure."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.loader import config_name

if TYPE_CHECKING:
    from runner.outcome import OverBudget
    from runner.plan import Budget
    from runner.prepare import Prepared

_CENT = Decimal("0.01")
_THOUSAND = 1000


@frozen(kw_only=True)
class Means:
    """Where a run's ceilings came from."""

    given: Budget
    """The workflow's."""
    usd_given: Decimal | None
    """By `--budget`, in place of the workflow's."""
    ceilings: Budget
    """The user's own, for every run."""
    config: str
    """Path of the file that has them; empty for none."""

    def key(self, name: str) -> str:
        """Say where a ceiling of the user's own is written."""
        return f"`ceilings.{name}` in {self.config or 'your configuration'}"


def means_of(prepared: Prepared) -> Means:
    """Return where the ceilings of a run came from."""
    return Means(
        given=prepared.workflow.budget,
        usd_given=prepared.options.budget_usd,
        ceilings=prepared.config.ceilings,
        config=config_name(prepared.environ),
    )


def for_budget(ending: OverBudget, means: Means) -> str:
    """Say what to give more of so that the request is sent, and where that is written."""
    lack = ending.lack
    if ending.disputed or lack is None:
        return "compare what the provider bills with `runner show --cost` before you go on"
    if lack.enough_usd is not None:
        return _usd(lack.enough_usd.quantize(_CENT, ROUND_CEILING), means)
    if lack.enough_tokens is not None:
        # A round number is easier to type.
        return _tokens(-(-lack.enough_tokens // _THOUSAND) * _THOUSAND, means)
    return f"runner exec --price {lack.model or 'MODEL'}=IN/OUT, in USD per million tokens"


def for_time(means: Means) -> str:
    """Say where to give a run more time."""
    given, ceiling = means.given.seconds, means.ceilings.seconds
    if ceiling is not None and (given is None or ceiling < given):
        return f"give it more time: raise {means.key('time')}"
    return "give it more time: `budget: { time: ... }` in the workflow file"


def _usd(enough: Decimal, means: Means) -> str:
    given = means.given.usd if means.usd_given is None else means.usd_given
    give = f"runner exec --budget {enough} or more"
    if means.ceilings.usd is None or enough <= means.ceilings.usd:
        return give
    ceiling = f"raise {means.key('usd')} to {enough} or more: --budget cannot lift it"
    return ceiling if given is None or given >= enough else f"{ceiling}; then {give}"


def _tokens(enough: int, means: Means) -> str:
    given, ceiling = means.given.tokens, means.ceilings.tokens
    places: list[str] = []
    if ceiling is not None and enough > ceiling:
        places.append(means.key("tokens"))
    if given is not None and enough > given:
        places.append("`budget.tokens` in the workflow file")
    return f"raise {' and '.join(places)} to {enough:,} or more"
