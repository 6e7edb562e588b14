"""What an estimate takes for granted, each figure with where it is from. Pure."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runner.price import ClassPrices

    Prices = Callable[[str, int], ClassPrices | None]
    """What a model's token costs by class, in a prompt of so many tokens; `None`: unknown."""


@frozen(kw_only=True)
class Assumptions:
    """Figures that no run measures. Sizes are tokens unless they say otherwise."""

    said: int = 300
    """Tokens that an agent writes to run one command."""
    cap: int = 6_000
    """Bytes of a command's output that an agent reads at most."""
    bytes_per_token: int = 4
    git_bytes: int = 400
    """Bytes that git prints for a commit or a push."""
    more_turns: Decimal = Decimal("1.3")
    """Turns of a subagent for each that main would have needed."""
    context: int | None = None
    """Tokens of the conversation in which the run's work would have been done otherwise."""
    unknown_context: int = 50_000
    """The same for a run that opened no main conversation."""
    fixed: int = 3_000
    """Tokens of an agent's instructions and tools."""
    packet: int = 1_500
    """Tokens of a packet, where none was sent."""
    mend_turns: int = 4
    """Turns of a mend that nobody tried."""
    mend_result: int = 1_200
    """Tokens by which each of them makes the conversation longer."""
    main: str = "anthropic:claude-opus-5-5"
    """Model of role `main`, where the run had none."""
    cheap: str = "anthropic:claude-haiku-5-5"
    """Model of role `cheap`, where the run had none."""

    def tokens(self, output_bytes: int) -> int:
        """Return the tokens that an agent reads of a command's output."""
        return -(-min(output_bytes, self.cap) // self.bytes_per_token)


SOURCES: Mapping[str, str] = {
    "said": "tokens an agent writes to run one command; the cost model's typical turn",
    "cap": "bytes it reads of a command's output at most; what this program shows its own agents",
    "bytes_per_token": "bytes of output in a token; English text and code",
    "git_bytes": "bytes that git prints for a commit or push",
    "more_turns": "turns of a subagent for one of main's; the cost model's",
    "context": "tokens of the conversation that the work would have been done in; by --context",
    "unknown_context": "tokens of that conversation, for the run opened none: set it by --context",
    "fixed": "tokens of an agent's instructions and tools, where nobody measured them",
    "packet": "tokens of a packet to main, where none was sent",
    "mend_turns": "turns of a mend that nobody tried",
    "mend_result": "tokens by which each of them makes the conversation longer; the cost model's",
    "main": "model of `main` where the run had none: set it by --set main=MODEL",
    "cheap": "model of `cheap` where the run had none: set it by --set cheap=MODEL",
}
"""Each figure in words, with where it is from."""


def stated(assume: Assumptions) -> dict[str, Any]:
    """Return all figures by name, but for those that nobody set; for people and as JSON."""
    found = {entry.name: getattr(assume, entry.name) for entry in fields(assume)}
    if assume.context is None:
        del found["context"]
    else:
        del found["unknown_context"]
    return {
        name: float(value) if isinstance(value, Decimal) else value for name, value in found.items()
    }
