"""What a run tells its listeners. The journal hears each event first, before it is acted on.

Every event but `CommandOutput` is journaled as JSON; report, console and `show` fold them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import TYPE_CHECKING, Any, Literal

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from runner.outcome import Attempt, Denial, Rung, StepOutcome, Usage

Purpose = Literal["run", "retry", "autofix", "check", "hook", "stale", "agent", "clean"]
"""Why a command runs: `stale` is a check run again before a commit, `clean` one on a clean
checkout, `agent` the step's own command run on an agent's request."""


@frozen
class StepPlan:
    """A step as listeners see it before the run."""

    id: str
    kind: Literal["run", "prompt", "commit", "push", "uses"]
    title: str
    """Its command, the first line of its prompt, or what it does."""
    needs: tuple[str, ...]


@frozen
class RunStarted:
    """First event of a run."""

    run_id: str
    workflow: str
    file: str
    root: str
    state_dir: str
    models: Mapping[str, str]
    """Role to model id."""
    budget_usd: Decimal | None
    budget_seconds: float | None
    budget_given: bool
    scripted: bool
    sandbox: str
    git_before: str
    """HEAD's commit, or empty."""
    branch: str
    steps: tuple[StepPlan, ...]
    started_at: float
    """Seconds since the epoch."""
    may_fail: tuple[str, ...] = ()
    """Steps, also of used workflows, whose failure is no failure of the run."""
    budget_tokens: int | None = None
    budget_default: tuple[Literal["usd", "time"], ...] | None = None
    """Ceilings that nobody gave; `None` in an older release's journal: both, or none if given."""
    trace_parent: str = ""
    """The `TRACEPARENT` that the run was started with (W3C Trace Context); empty where there was
    none that is well formed."""
    trace_state: str = ""
    trace_file: str = ""
    """Where its trace is written; empty where nobody wants one, and in an older release's."""
    replayed: bool = False
    """Whether a cassette answered in the models' place."""


@frozen
class RunResumed:
    """A run is taken up again whose process is gone; its first event in a new process."""

    life: int
    """How many processes have worked at the run by now, this one included: 2 or more."""
    at: float
    """Seconds since the epoch."""
    external: tuple[str, ...] = ()
    """Paths that somebody else changed since the run was last alive."""
    trace_parent: str = ""
    trace_state: str = ""


@frozen
class Waited:
    """A step could not go on at once; told when the waiting is over and was worth telling."""

    step: str
    reason: Literal["slot", "tree"]
    """`slot`: as many steps as may were running; `tree`: another step held the tree."""
    seconds: float


@frozen
class StepStarted:
    """A step's turn has come; its needs are met and its condition holds."""

    step: str
    continued: bool = False
    """Whether an earlier life of the run began it, and this one goes on where that was cut off."""


@frozen
class AttemptStarted:
    """One try at one rung begins."""

    step: str
    number: int
    rung: Rung
    model: str | None
    agent: str = ""
    role: str = ""
    """Model role that is asked; empty at rung `command`."""
    job: str = ""
    """What it is about where that is not the step's own command: `STEP:pre-commit`, the id of a
    check that a commit found stale, `STEP:conflict`, `STEP:message`."""
    job_from: int = 0
    """Attempts of the step that began before the job's first."""


@frozen
class CommandStarted:
    """A command of a step begins."""

    step: str
    purpose: Purpose
    command: str
    number: int = 0
    """From 1 within the run; its span in the trace goes by it."""
    argv: tuple[str, ...] = ()
    """What is executed; empty in an older release's journal."""


@frozen
class CommandOutput:
    """A piece of a running command's last output line; shown, never kept."""

    step: str
    line: str


@frozen
class CommandFinished:
    """A command of a step ended."""

    step: str
    purpose: Purpose
    command: str
    exit_code: int | None
    timed_out: bool
    seconds: float
    output_bytes: int
    log: str
    number: int = 0
    """That of its `CommandStarted`."""
    denial: Denial | None = None
    """What the sandbox kept from it, where that is why it failed."""


@frozen
class Continuity:
    """How a request of the main conversation follows the one before, as a prompt cache sees it."""

    how: str
    """`first`, `extends`, `same` (a keep-alive), or where it first differs."""
    blocks: int = 0
    """Tools, instructions and parts of messages in it."""
    size: int = 0
    """Bytes on the wire."""
    digest: str = ""
    """16 hex digits over all blocks and the fields that the cache depends on."""
    expected: int | None = None
    """Cached tokens that the provider's published rules promise; `None` where nobody knows."""
    why: str = ""
    """What explains that the provider reported another number of cached tokens."""

    @property
    def broken(self) -> bool:
        """Whether it does not extend the request before."""
        return self.how not in ("first", "extends", "same")


@frozen
class ConversationOpened:
    """A conversation's first request is about to be sent: what stays the same for all of them."""

    conversation: str
    role: str
    model: str
    """Model id asked for."""
    instructions: str
    tools: str
    """All tool definitions as JSON, in the order of the wire."""
    retention: Literal["", "5m", "1h"]
    """For how long the cache is asked to keep the conversation; empty: it is not asked."""
    cache_key: str
    step: str = ""
    attempt: int = 0


@frozen
class ModelAsked:
    """A request is about to leave; without an answer in the journal it counts at its worst case."""

    step: str
    attempt: int
    role: str
    model: str
    """Model id asked for."""
    conversation: str
    number: int
    """From 1 within the run, anew for each try; its `ModelResponded` or `ModelRefused` has it."""
    worst_usd: Decimal | None
    """`None` when no price is known."""
    worst_tokens: int
    at: float = 0.0
    """Seconds since the epoch."""
    digest: str = ""
    """16 hex digits over all that a prompt cache depends on, as sent."""
    messages: str = ""
    """The messages new since the last response, as JSON; empty for a keep-alive."""
    main: bool = False
    """Whether it is of the main conversation, whatever its role is called."""
    scripted: bool = False


@frozen
class ModelRefused:
    """A request was provably not accepted: it costs nothing."""

    step: str
    attempt: int
    number: int


@frozen
class TurnEnded:
    """A turn of the main conversation is over, however it ended."""

    step: str
    attempt: int
    conversation: str
    messages: str
    """What it added after the model's last response, as JSON."""
    said: str = ""
    """One line of what the main agent said, for a hand-over."""


@frozen
class ModelResponded:
    """One model response: a row of the ledger."""

    step: str
    attempt: int
    role: str
    """Model role: `main`, `cheap` ...; `keepalive` for a request that only keeps main's cache."""
    asked: str
    """Model id asked for."""
    served: str
    usage: Usage
    cost_usd: Decimal | None
    """`None` when no price is known; never 0 for that."""
    seconds: float
    conversation: str
    messages: str = ""
    """The messages new since the last response, as JSON (pydantic-ai's own format)."""
    continuity: Continuity | None = None
    """Of the main conversation and its keep-alives; `None` for subagents."""
    scripted: bool = False
    at: float = 0.0
    """When the request began, in seconds since the epoch."""
    prices: tuple[str, ...] = ()
    """Name and date of the price table behind `cost_usd`; empty: the user's own prices, or none."""
    number: int = 0
    """That of its `ModelAsked`; 0 where nothing was sent, or in an older release's journal."""
    unknown: Literal["", "failed", "cancelled", "killed"] = ""
    """Why nobody knows what it used, so that it counts at its worst case; empty where it is known.
    `failed`: no usable answer came; `killed`: the process ended before one came."""


@frozen
class ToolCalled:
    """An agent called a tool."""

    step: str
    tool: str
    summary: str
    """Arguments in one short line, for people."""
    failed: bool = False
    attempt: int = 0
    call: str = ""
    """The provider's id of the call."""
    seconds: float = 0.0
    output_bytes: int = 0
    """Of the answer, before it was cut."""
    truncated: bool = False
    reason: str = ""
    """Why it failed or was refused, in one line."""
    result: str = ""
    """The text that the model was answered with."""


@frozen
class ModelRetried:
    """A try of a request failed for a reason of the provider's; it is tried again."""

    step: str
    attempt: int
    role: str
    model: str
    error: str
    """In few words: `HTTP 429`, `HTTP 529`, `ReadTimeout` ..."""
    delay: float
    """Seconds until the next try."""

    @property
    def words(self) -> str:
        """What people are told."""
        return f"{self.model}: {self.error}, trying again in {self.delay:.3g} s"


@frozen
class SnapshotTaken:
    """The tree as it is now was recorded under its hash."""

    step: str
    label: str
    """`start`, `before attempt 1`, `after attempt 1`, `before restore`, `end` ..."""
    tree: str


@frozen
class Restored:
    """An attempt's changes were undone."""

    step: str
    to: str
    paths: tuple[str, ...]
    external: tuple[str, ...]
    """Paths left alone, for somebody else changed them since."""


@frozen
class Decided:
    """The policy chose what comes next, and why; printed by `runner explain`."""

    step: str
    decision: str
    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@frozen
class AttemptFinished:
    """One try at one rung ended."""

    step: str
    attempt: Attempt
    outputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Named outputs of the agent's answer: a resumed run does not ask for them again."""
    others: tuple[str, ...] = ()
    """Paths that somebody else changed meanwhile."""


@frozen
class StartSeen:
    """What git called changed, untracked and staged whole when the run began."""

    changed: tuple[str, ...]
    untracked: tuple[str, ...]
    staged_whole: tuple[str, ...]


@frozen
class Passed:
    """A command passed, and on which tree."""

    key: str
    """The step's shown id; of a hook or a conflict with its name behind a colon."""
    tree: str
    """Empty when the tree moved while it ran, or where nothing is hashed."""


@frozen
class Marked:
    """What the run leaves at paths; written before a tool writes, and after a command did."""

    blobs: Mapping[str, str]
    """Git's id of the content, by path; empty for a deletion."""
    forgotten: tuple[str, ...] = ()
    """Paths that are no longer of the run's making; taken out before `blobs` are put in."""


@frozen
class Uncommitted:
    """All paths that autofix or mends changed and no commit has taken up, as of now."""

    paths: tuple[str, ...]


@frozen
class GitIntent:
    """What git is about to be made to do; looked up in the world when a run is resumed."""

    step: str
    action: Literal["commit", "push", "rebase"]
    facts: Mapping[str, str]


@frozen
class GitFact:
    """What git did."""

    step: str
    action: Literal["commit", "push"]
    facts: Mapping[str, str]


@frozen
class Notice:
    """Something a person should know that is no failure by itself."""

    text: str
    step: str = ""


@frozen
class StepFinished:
    """A step's last event."""

    outcome: StepOutcome


@frozen
class RunFinished:
    """Last event of a run that ended by itself or by a signal."""

    exit_code: int
    status: Literal["succeeded", "failed", "cancelled"]
    seconds: float
    git_after: str = ""
    branch: str = ""
    remote_ref: str = ""
    uncommitted: tuple[str, ...] = ()
    """Paths that this run changed and that no commit of it took up."""
    inline_usd: Decimal | None = None
    """Estimate of what the same work would have cost in main alone; `None`: no model was asked, or
    a price is not known."""
    switch_usd: Decimal | None = None
    """The same by switching the main conversation to the cheap model and back."""
    lacked: str = ""
    """What a request needed that the budget did not cover, what is spent and what is left."""
    advice: str = ""
    """What to give more of, and where, so that the next run can go on."""


Event = (
    RunStarted
    | RunResumed
    | StepStarted
    | Waited
    | AttemptStarted
    | CommandStarted
    | CommandOutput
    | CommandFinished
    | ConversationOpened
    | ModelAsked
    | ModelRefused
    | ModelResponded
    | ModelRetried
    | TurnEnded
    | ToolCalled
    | SnapshotTaken
    | Restored
    | Decided
    | AttemptFinished
    | StartSeen
    | Passed
    | Marked
    | Uncommitted
    | GitIntent
    | GitFact
    | Notice
    | StepFinished
    | RunFinished
)

Sink = Callable[[Event], None]
"""A listener. It must not raise; the journal, which may, is no sink."""


class TimedSink:
    """A listener that is told when an event happened, as the journal has it.

    What folds events with their times, now and from the journal later, must come to the same.
    """

    def hear(self, event: Event, at: float) -> None:
        """Take an event; *at* is in seconds since the epoch."""
        raise NotImplementedError

    def continued(self, past: Iterable[tuple[Event, float]]) -> None:
        """Take what earlier processes of a resumed run did, before anything else."""
        raise NotImplementedError

    def __call__(self, event: Event) -> None:
        """Take an event that happens now."""
        self.hear(event, time.time())
