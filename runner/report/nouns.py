"""What a run came to: the report's frozen nouns, and the decision on its exit code."""

from __future__ import annotations

from dataclasses import field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from runner.errors import RunFailed
from runner.frozen import frozen
from runner.outcome import Attempt, Place, Rung, StepOutcome, Usage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from runner.events import Continuity, ModelResponded

RunStatus = Literal["succeeded", "failed", "cancelled", "running", "killed"]
"""`running` and `killed` only where no last event was seen: of a live run, and of a dead one."""

StepStatus = Literal[
    "succeeded", "failed", "skipped", "blocked", "cancelled", "pending", "running", "interrupted"
]
"""A step's status; `pending`, `running` and `interrupted` only in a run that has not ended."""

_PRECEDENCE = (6, 3, 5, 4, 1)
"""DESIGN section 3: of several exit codes, the first in this order; after a signal's, before 7."""


@frozen
class Total:
    """What some rows of the ledger come to."""

    usage: Usage = field(default_factory=Usage)
    known_usd: Decimal = Decimal(0)
    """Of the rows whose cost is known, exact."""
    unknown: int = 0
    """Rows whose cost is not known."""

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost; `None` when that of any row is unknown, which is not zero."""
        return None if self.unknown else self.known_usd

    def plus(self, row: ModelResponded) -> Total:
        """Return this with one more row."""
        known = self.known_usd if row.cost_usd is None else self.known_usd + row.cost_usd
        return Total(self.usage + row.usage, known, self.unknown + (row.cost_usd is None))


@frozen
class Spent:
    """What one attempt had of one model."""

    step: str
    """Empty for a keep-alive of main's prompt cache, which belongs to no step."""
    attempt: int
    rung: Rung
    role: str
    model: str
    """The model asked for."""
    total: Total


@frozen
class ModelReport:
    """What one model role used."""

    id: str
    total: Total = Total()

    @property
    def usage(self) -> Usage:
        """Its tokens."""
        return self.total.usage

    @property
    def cost_usd(self) -> Decimal | None:
        """Its cost; `None` is unknown, which is not zero."""
        return self.total.cost_usd


@frozen
class RungReport:
    """What one rung did in all."""

    rung: Rung
    steps: int = 0
    """Steps that this rung settled."""
    attempts: int = 0
    seconds: float = 0.0
    total: Total = Total()

    @property
    def usage(self) -> Usage:
        """Its tokens."""
        return self.total.usage

    @property
    def cost_usd(self) -> Decimal | None:
        """Its cost; `None` is unknown, which is not zero."""
        return self.total.cost_usd


@frozen
class StepReport:
    """One step: what was planned and what came of it."""

    id: str
    kind: str
    title: str
    """Its command, the first line of its prompt, or what it does."""
    status: StepStatus
    rung: Rung | None = None
    reason: str = ""
    verified: bool = False
    seconds: float = 0.0
    cost_usd: Decimal | None = Decimal(0)
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    log: str = ""
    attempts: tuple[Attempt, ...] = ()
    tail: str = ""
    """The failing output, cleaned and capped; empty on success."""
    hint: str = ""
    """What to do next, as the engine says it."""
    may_fail: bool = False
    """Whether its failure is no failure of the run: `allow_failure`."""
    places: tuple[Place, ...] = ()
    """Lines of the tree that the failing output points at."""

    @property
    def failed(self) -> bool:
        """Whether it ended badly by itself; a blocked or cancelled step did not."""
        return self.status == "failed"

    @property
    def allowed(self) -> bool:
        """Whether it failed and was allowed to."""
        return self.failed and self.may_fail


@frozen
class GitReport:
    """Where the repository stood before and after. Empty: not known, or no repository."""

    before: str = ""
    after: str = ""
    branch: str = ""
    remote_ref: str = ""
    """The commit that the remote's ref was read back as."""
    pushed_to: str = ""
    """Remote and branch, for people."""


@frozen
class Break:
    """A request of the main conversation that did not extend the one before."""

    request: int
    """Its number among all requests of the main conversation, from 1, keep-alives included."""
    step: str
    """Empty for a keep-alive."""
    where: str
    """Where it first differs."""

    def __str__(self) -> str:
        return f"{self.step or 'keep-alive'}: {self.where}"


@frozen
class PrefixReport:
    """Whether each request of the main conversation extended the one before."""

    requests: int = 0
    conversations: int = 0
    breaks: tuple[Break, ...] = ()

    @property
    def unbroken(self) -> bool:
        """Whether there was no break."""
        return not self.breaks


@frozen
class Baseline:
    """What the same work would have cost otherwise, in USD; `None` until it is estimated."""

    inline_usd: Decimal | None = None
    """In the main conversation, by the main model."""
    switch_usd: Decimal | None = None
    """By switching the main conversation to the cheap model and back."""


@frozen
class TraceReport:
    """Where a run can be looked at as a trace."""

    id: str
    """32 hex digits; of the run's last life."""
    file: str
    """OTLP/JSON, one batch of spans in a line."""


@frozen
class Report:
    """One run, summed up.

    `to_json` gives its published form; the fields beyond that are for people's eyes.
    """

    run_id: str
    workflow: str
    status: RunStatus
    exit_code: int | None
    """`None` while the run has not ended."""
    seconds: float
    cost_usd: Decimal | None
    """`None` when the price of any response is unknown; `known_cost_usd` is the rest."""
    scripted: bool
    """Whether a scripted model stood in for any model."""
    git: GitReport
    sandbox: str
    state_dir: str
    models: Mapping[str, ModelReport]
    prefix: PrefixReport
    steps: tuple[StepReport, ...]
    baseline: Baseline = Baseline()
    rungs: tuple[RungReport, ...] = ()
    known_cost_usd: Decimal = Decimal(0)
    scripted_usd: Decimal = Decimal(0)
    """Part of it that nobody paid, for a scripted model answered."""
    file: str = ""
    root: str = ""
    started_at: float = 0.0
    """Seconds since the epoch."""
    budget_usd: Decimal | None = None
    budget_seconds: float | None = None
    budget_given: bool = True
    lacked: str = ""
    """What a request needed that the budget did not cover, what is spent and what is left."""
    advice: str = ""
    """What to give more of, where the run ended for want of it."""
    notices: tuple[str, ...] = ()
    uncommitted: tuple[str, ...] = ()
    """Paths that the run changed and that no commit of it took up."""
    ledger: tuple[ModelResponded, ...] = ()
    """One row for each model response, in order, without its messages."""
    by_attempt: tuple[Spent, ...] = ()
    """The ledger summed up by step, attempt and model, in order of the first response."""
    by_step: Mapping[str, Total] = field(default_factory=dict[str, Total])
    """The ledger summed up by step; keep-alives under the empty name."""
    prices: tuple[str, str] | None = None
    """Name and date of the price table; `None` when no cost is from it."""
    trace: TraceReport | None = None
    """`None` where there is no file: nobody wanted one, or an older release made the run."""
    replayed: bool = False
    """Whether a cassette answered in the models' place: what it cost was paid while recording."""

    @property
    def ok(self) -> bool:
        """Whether the run ended with exit code 0."""
        return self.exit_code == 0

    def raise_for_status(self) -> Report:
        """Return this report, so that calls can be chained.

        Raises:
            RunFailed: The run did not end with exit code 0.
        """
        if self.ok:
            return self
        failed = [f"{step.id} ({step.reason or step.status})" for step in self.steps if step.failed]
        what = f": {', '.join(failed)}" if failed else ""
        raise RunFailed(
            f"run {self.run_id} of {self.workflow} {self.status}{what}; {meaning(self.exit_code)}",
            report=self,
            exit_code=1 if self.exit_code is None else self.exit_code,
            hint=f"See: runner show {self.run_id}",
        )


def guarded(report: Report) -> Iterator[tuple[ModelResponded, Continuity]]:
    """Yield the rows of the main conversation and its keep-alives, each with its continuity.

    A run that an older release recorded has rows of main without one: they are left out.
    """
    for row in report.ledger:
        if row.continuity is not None:
            yield row, row.continuity


_MEANINGS = {
    0: "all steps succeeded",
    1: "a step failed",
    2: "the workflow, an input or a grant is wrong; nothing ran",
    3: "the run's budget or time ran out",
    4: "a protection asked for is not available, or the sandbox denied a command what it needs",
    5: "a mend left its scope or tampered with its judge, and nothing better was found",
    6: "a model's provider failed, refused or served another model",
    7: "every step passed, but only after changes that no commit of this run took up",
    130: "interrupted",
    143: "asked to stop",
}


def ending_of(report: Report) -> str:
    """Say in a few words how a run ended: what its exit code means, if a step is behind that."""
    if report.exit_code == 1 and not any(step.failed for step in report.steps):
        return "an error ended the run"
    return meaning(report.exit_code)


def meaning(code: int | None) -> str:
    """Say in a few words what an exit code of DESIGN section 3 means; `None` is no end yet."""
    if code is None:
        return "the run has not ended"
    return _MEANINGS.get(code, f"ended by signal {code - 128}" if code > 128 else "failed")


def exit_code(
    outcomes: Iterable[StepOutcome],
    *,
    interrupted: int | None = None,
    run_codes: Iterable[int] = (),
    uncommitted: Collection[str] = (),
    allow_uncommitted: bool = False,
) -> int:
    """Decide the run's exit code: the first that applies of 130/143, 6, 3, 5, 4, 1, 7, else 0.

    Args:
        outcomes: What the steps came to; each one's `exit_code` is what it asks for.
        interrupted: Number of the signal that ended the run (2 gives 130, 15 gives 143).
        run_codes: Codes asked for by the run itself (its money or time ran out: 3).
        uncommitted: Paths changed by mends or autofixes that no commit took up.
        allow_uncommitted: Whether that is all right.
    """
    if interrupted is not None:
        return 128 + interrupted
    asked = {outcome.exit_code for outcome in outcomes} | set(run_codes)
    for code in _PRECEDENCE:
        if code in asked:
            return code
    if asked - {0}:
        # Never green over a code that nobody foresaw.
        return 1
    return 7 if uncommitted and not allow_uncommitted else 0


RESUMABLE = frozenset({3, 6, 129, 130, 143})
"""Exit codes of runs that ended before their work did."""


def can_resume(status: str, exit_code: int | None) -> bool:
    """Tell whether a run can be resumed, as far as its end tells."""
    return status == "killed" or exit_code in RESUMABLE
