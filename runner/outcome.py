"""What happened: frozen nouns for failures, attempts, endings and steps."""

from __future__ import annotations

from dataclasses import field
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Literal

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Rung(StrEnum):
    """Who does the work, cheapest first."""

    COMMAND = "command"
    SUBAGENT = "subagent"
    MAIN = "main"


class Verdict(StrEnum):
    """What one attempt came to."""

    PASSED = "passed"
    SOFT = "soft"
    HARD = "hard"
    FLAKY = "flaky"
    INFRA = "infra"
    DENIED = "denied"
    CANCELLED = "cancelled"


class Status(StrEnum):
    """What one step came to."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    BLOCKED = "blocked"
    CANCELLED = "cancelled"


class Phase(IntEnum):
    """How far a command came before it failed; later is better."""

    PARSE = 0
    COLLECT = 1
    """Collecting tests, or compiling."""
    RUN = 2


@frozen
class Fingerprint:
    """What a failure is, apart from line numbers, times and paths of the machine."""

    tool: str
    """Who reported it: `pytest`, `ruff` ...; `general` where nobody is recognised."""
    phase: Phase
    failures: frozenset[str]
    """Normalised test ids or `path:rule` codes."""


@frozen
class Place:
    """A line of the tree that a failing command's output points at."""

    path: str
    """Relative to the root."""
    line: int = 0
    """From 1; 0 where only the file is named."""
    column: int = 0
    """From 1; 0 where no column is named."""
    message: str = ""
    """What is said of it, on one line."""


@frozen
class Failure:
    """A command that did not exit with 0."""

    fingerprint: Fingerprint
    exit_code: int | None
    """`None` when it was ended by the runner."""
    timed_out: bool
    tail: str
    """The failing output, cleaned and capped."""
    files: tuple[str, ...]
    """Files of the tree that the output names, in order of first mention."""
    places: tuple[Place, ...] = ()
    """Lines of the tree that it points at, the first ten."""


@frozen
class Denial:
    """Something that a command needed and the sandbox kept from it."""

    what: str
    hint: str
    """The line to write, or the flag to give."""


@frozen
class CommandResult:
    """One command, run to its end."""

    exit_code: int | None
    """`None` when it was ended by the runner; else the code, or 128 + signal as a shell says it."""
    timed_out: bool
    seconds: float
    head: str
    """First bytes of the output (both streams, in order), decoded, not cleaned."""
    tail: str
    """Last bytes; empty when `head` holds everything."""
    total_bytes: int
    log: Path | None
    """The whole output on disk, up to the cap."""
    denial: Denial | None = None
    """What the sandbox kept from it, where that is proved to be why it failed."""

    @property
    def passed(self) -> bool:
        """Whether the command exited with 0."""
        return self.exit_code == 0 and not self.timed_out


@frozen
class Usage:
    """Tokens of one or more model responses; `input_tokens` includes cache reads and writes."""

    requests: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """Part of `cache_write_tokens` that is kept for an hour."""
    output_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            self.output_tokens + other.output_tokens,
        )


def add_cost(one: Decimal | None, other: Decimal | None) -> Decimal | None:
    """Add two costs in USD; unknown and anything is unknown, for unknown is not zero."""
    return None if one is None or other is None else one + other


# How a model's work ended. A closed union: match it with `assert_never`.


@frozen
class Done:
    """The agent says that it is done; the command decides whether that is so."""

    summary: str
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])


@frozen
class Cannot:
    """The agent says, by its typed output, that it cannot."""

    reason: str
    evidence: str = ""


@frozen
class Exhausted:
    """A limit of the agent's own was used up."""

    limit: Literal["turns", "seconds", "usd"]
    detail: str = ""


@frozen
class Refused:
    """A request was refused as too long or rejected, or answers stayed unusable after retries."""

    why: Literal["too_long", "rejected", "unparseable", "content_filter"]
    detail: str = ""


@frozen
class Unavailable:
    """Infra: the provider could not be reached or kept failing; never held against a model."""

    detail: str


@frozen
class Misconfigured:
    """Authentication, unknown model, or another model served: the run ends with exit 6 at once."""

    why: Literal["authentication", "unknown_model", "other_model_served", "quota"]
    detail: str


@frozen
class Lack:
    """What a budget lacks for a request, and what of it would have been enough."""

    words: str
    """`needs up to $0.1122, $0.0196 left`."""
    enough_usd: Decimal | None = None
    """Budget that would have covered it, all that was spent included."""
    enough_tokens: int | None = None
    model: str = ""
    """Id of the model whose price nobody knows."""


@frozen
class OverBudget:
    """The run's budget could not cover the worst case of the next request, which was not sent."""

    needed: Decimal | None
    left: Decimal | None
    detail: str
    kept_back: bool = False
    """What is left is kept for a packet to main, which may still be asked."""
    disputed: bool = False
    """A provider billed more than is possible: nothing more is asked, however little it costs."""
    lack: Lack | None = None


@frozen
class PrefixBroken:
    """A main request would have lost the prompt cache; it was not sent, for the user said so."""

    detail: str


@frozen
class OffRecord:
    """In a replay, a request was not the one that was recorded; nobody was asked."""

    detail: str


@frozen
class HandedBack:
    """The main agent is whoever called this run: the packet is given to it when the run ends."""

    packet: str


Ending = (
    Done
    | Cannot
    | Exhausted
    | Refused
    | Unavailable
    | Misconfigured
    | OverBudget
    | PrefixBroken
    | OffRecord
    | HandedBack
)


@frozen
class Mend:
    """What one model attempt used, by the ledger, and how it ended."""

    ending: Ending
    usage: Usage
    cost: Decimal | None
    seconds: float


@frozen
class Attempt:
    """One try at one rung."""

    number: int
    rung: Rung
    model: str | None
    verdict: Verdict
    reason: str
    requests: int = 0
    cost_usd: Decimal | None = Decimal(0)
    seconds: float = 0.0
    files: tuple[str, ...] = ()
    """Paths that the attempt changed."""
    summary: str = ""
    """What the agent said, capped; empty at rung `command`."""
    role: str = ""
    """Model role that was asked; empty at rung `command`."""


@frozen
class Packet:
    """A failing step as the agent that called this run is told of it."""

    text: str
    failure: str
    """Short name of the failure's fingerprint: the same where the same failed again."""


@frozen
class StepOutcome:
    """What one step came to, with how it got there."""

    id: str
    status: Status
    rung: Rung | None = None
    """The rung that settled it; `None` when nothing ran."""
    reason: str = ""
    verified: bool = False
    """Whether an outside check, not a model's word, says so."""
    seconds: float = 0.0
    cost_usd: Decimal | None = Decimal(0)
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    log: str = ""
    """Path of the last command's full log."""
    attempts: tuple[Attempt, ...] = ()
    exit_code: int = 0
    """What this step alone asks the run to exit with: 0, 1, 3, 4, 5 or 6."""
    tail: str = ""
    """The failing output shown to people; empty on success."""
    hint: str = ""
    """What to do next, for people."""
    packet: Packet | None = None
    """What the agent that called this run is told of the failure; `None` where it is told none."""
    places: tuple[Place, ...] = ()
    """Lines of the tree that the failing output points at."""


@frozen
class Change:
    """How one path differs between two snapshots."""

    path: str
    kind: Literal["added", "modified", "deleted", "mode", "type"]
    """`type`: a file became a symbolic link or a submodule, or the other way round."""
    before_mode: str = ""
    """Git's six digits (`100644`, `100755`, `120000`, `160000`); empty when absent."""
    after_mode: str = ""
    before_blob: str = ""
    after_blob: str = ""
