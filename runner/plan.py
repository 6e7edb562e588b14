"""What a workflow asks for: frozen nouns, made by the loader, read by everybody else."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal
    from pathlib import Path

When = Literal["success", "failure", "always"]
PolicyName = Literal["expected-cost", "ladder", "main", "cheap"]
"""How the rung is chosen that tries to mend a failure first."""
KeepWarm = Literal["auto", "off"]
"""Whether the main conversation's prompt cache is kept alive where that is cheaper."""
ValueType = Literal["string", "number", "boolean", "json"]
"""Type of an input or output; `json` is any JSON value and cannot be used in an expression."""

MAIN = "main"
"""The role of the main agent's model, and the name of the main agent in `agent:`."""
CHEAP = "cheap"
"""The role of the subagents' model."""
HOST = "host"
"""In place of main's model id: the main agent is the one that called this run."""
KEEPALIVE = "keepalive"
"""In the ledger, the role of a request that only keeps the main conversation's cache alive."""


@frozen
class Location:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@frozen
class Budget:
    """Ceilings of a run. `None` is no ceiling of that sort."""

    usd: Decimal | None
    tokens: int | None
    seconds: float | None


@frozen
class Input:
    """A value the caller gives. Without `default` it is required."""

    name: str
    type: ValueType
    default: str | float | bool | None
    required: bool
    description: str
    untrusted: bool
    """Fenced as data when a model reads it; other inputs are instructions."""


@frozen
class Retry:
    """Runs of the command itself on the same tree, before anything else is tried."""

    attempts: int = 0
    delay: float = 0.0
    """Seconds between two tries."""


@frozen
class Fix:
    """How a failing command is mended by subagents."""

    agent: str
    model: str | None = None
    """A model role; `None` is the agent's own."""
    then: str | None = None
    """A further model role, asked by a subagent after the first failed hard and before main."""
    attempts: int = 2
    turns: int | None = None
    seconds: float | None = None
    usd: Decimal | None = None
    write: tuple[str, ...] | None = None
    """Globs a mend may write; `None` is all that is not ignored."""
    protect: tuple[str, ...] = ()
    tools: tuple[str, ...] | None = None


@frozen
class Escalate:
    """How many packets of a step may go to the main agent."""

    max: int = 2


@frozen
class Run:
    """A step that is a command."""

    command: str
    autofix: str | None = None
    fix: Fix | None = None
    escalate: Escalate | None = None


@frozen
class Prompt:
    """A step that asks an agent; `check` or `accept` judges it."""

    text: str
    agent: str = MAIN
    check: str | None = None
    accept: str | None = None
    output: Mapping[str, ValueType] = field(default_factory=dict[str, ValueType])
    write: tuple[str, ...] | None = None
    protect: tuple[str, ...] = ()
    fix: Fix | None = None
    escalate: Escalate | None = None


@frozen
class Commit:
    """A step that commits exactly the tree that passed."""

    message: str = "auto"
    """`auto` is a plain message by rule, or `agent`'s from the staged diff where one is named."""
    agent: str | None = None
    files: Literal["run", "all", "staged"] | tuple[str, ...] = "run"


@frozen
class Push:
    """A step that pushes this run's commit, never by force."""

    remote: str = "origin"
    branch: str | None = None
    """Destination branch; `None` is `runner/<workflow>-<run id>`."""
    auth: str = "auto"
    """`auto`, `ssh`, `helper` or `secret:NAME`."""


@frozen
class Uses:
    """A step that runs another workflow's steps as its own."""

    workflow: Workflow
    inputs: Mapping[str, str | float | bool]


StepKind = Run | Prompt | Commit | Push | Uses


@frozen
class Condition:
    """`if`: a boolean expression; false skips the step, or with `else: stop` ends the run."""

    source: str
    else_stop: bool
    where: Location


@frozen
class Step:
    """One node of the graph."""

    id: str
    kind: StepKind
    where: Location
    needs: tuple[str, ...] = ()
    condition: Condition | None = None
    when: When = "success"
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    """Declared variables; values may hold `${{ path }}`."""
    inherit: tuple[str, ...] = ()
    """Names of variables taken over from the runner's own environment."""
    secrets: tuple[str, ...] = ()
    dir: str = "."
    shell: tuple[str, ...] = ("bash", "-eo", "pipefail", "-c")
    timeout: float | None = None
    """Seconds for each command of the step; `None` is the run's remaining time."""
    retry: Retry = Retry()
    sources: tuple[str, ...] | None = None
    """Globs that make an earlier pass stale; `None` is the whole tree."""
    network: bool = False
    allow_failure: bool = False
    outputs: Mapping[str, ValueType] = field(default_factory=dict[str, ValueType])


@frozen
class Workflow:
    """A validated workflow file."""

    name: str
    file: Path | None
    """Where it was read from; `None` for one made from text."""
    steps: tuple[Step, ...]
    models: Mapping[str, str]
    """Role to model id, as the file asks; the user's choice comes before it."""
    budget: Budget
    inputs: Mapping[str, Input]
    secrets: tuple[str, ...]
    protect: tuple[str, ...]
    """Globs that no mend of any step may write."""
    overrides: tuple[str, ...]
    """Built-in agents that the repository may replace by its own."""
    sha256: str
    """Of the file's bytes."""
    budget_given: bool = True
    """False when the shipped default of 1.00 USD and 30 minutes applies."""
    default_fix: Fix | None = None
    """`defaults.fix`, for hooks and for `--fix STEP`; `None` when the file has none."""
    keep_warm: KeepWarm = "auto"
    sandbox: Literal["require"] | None = None
    """`require`: it does not run where no sandbox holds; a workflow cannot ask for less."""


def with_used(workflow: Workflow) -> Iterator[Workflow]:
    """Yield a workflow and all that its steps use."""
    yield workflow
    for step in workflow.steps:
        if isinstance(step.kind, Uses):
            yield from with_used(step.kind.workflow)


@frozen
class AgentSpec:
    """An agent's definition: front matter and instructions."""

    name: str
    description: str
    instructions: str
    model: str = CHEAP
    tools: tuple[str, ...] = ("read_file", "edit_file", "grep", "check")
    turns: int = 12
    output: Mapping[str, ValueType] = field(default_factory=dict[str, ValueType])
    source: str = "built-in"
    """`built-in`, or the file it was read from."""


@frozen
class Provider:
    """An OpenAI-compatible server that the user declared; `NAME:model` asks it."""

    name: str
    base_url: str
    key_env: str | None = None
    """Variable that holds its key; `None` is a server without one."""


@frozen
class Price:
    """A price that the user gives, in USD per million tokens."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    """`None`: as `input`."""
    cache_write: Decimal | None = None
    """`None`: as `input`."""
    cache_write_1h: Decimal | None = None
    """For an hour; `None`: as `cache_write`."""


@frozen
class CacheOverride:
    """What the user knows better of a model's prompt cache; `None` is what is shipped."""

    minimum: int | None = None
    """Tokens that a prefix must have to be cached at all."""
    retention: float | None = None
    """Seconds for which an entry is kept after its last use."""
    longer: float | None = None
    """Seconds of the longer retention that can be asked for."""


@frozen
class Grants:
    """What the user allows a workflow; a workflow itself can only ask."""

    secrets: tuple[str, ...] = ()
    network: bool = False
    """Commands of agents may reach the network (where a sandbox could keep them from it)."""
    shell: bool = False
    """Agents may have a free shell although no sandbox holds."""
    trust_checkout_auth: bool = False


SandboxMode = Literal["auto", "require", "off"]
"""`auto` takes what holds here, `require` ends the run where that is not bubblewrap."""


@frozen
class SandboxSettings:
    """What the user says of the sandbox; a repository has no say in it."""

    mode: SandboxMode | None = None
    """`None` is `auto`."""
    read: tuple[str, ...] = ()
    """Paths outside of the tree that commands may read, from `/` or `~/`."""
    write: tuple[str, ...] = ()
    """The same for writing."""


@frozen
class UserConfig:
    """The user's own configuration file; never read from a repository."""

    models: Mapping[str, str] = field(default_factory=dict[str, str])
    providers: Mapping[str, Provider] = field(default_factory=dict[str, Provider])
    prices: Mapping[str, Price] = field(default_factory=dict[str, "Price"])
    """By model id, or `NAME:*` for all models of a provider; before the bundled table."""
    caches: Mapping[str, CacheOverride] = field(default_factory=dict[str, "CacheOverride"])
    """By model id, or `NAME:*`; before what is shipped."""
    keep_warm: KeepWarm = "auto"
    """`off` here is off for every workflow."""
    policy: PolicyName = "expected-cost"
    value_of_time: Decimal | None = None
    """USD that an hour of waiting is worth; `None` is what is shipped."""
    grants: Grants = Grants()
    sandbox: SandboxSettings = SandboxSettings()
    ceilings: Budget = Budget(usd=None, tokens=None, seconds=None)
    keep_runs: int = 50
    keep_days: int = 90
    """Days after which a run's records go, however few there are."""
    keep_size: int | None = None
    """Megabytes of runs' files that are kept; the newest run's always are."""
    protected_branches: tuple[str, ...] = ()
    """Globs of branches that no run commits or pushes to."""
    filters: tuple[str, ...] = ()
    """Names of git filters that may be run by name: `lfs` ..."""
    allow_secrets: tuple[str, ...] = ()
    """Globs of files in which commits and pushes may carry what looks like a key."""


@frozen(kw_only=True)
class ResumeOptions:
    """What the caller of a resume chose; all else is as the run was started with."""

    budget_usd: Decimal | None = None
    """In place of what the run was given; what it has spent counts."""
    seconds: float | None = None
    """Wall-clock seconds of all the run's processes together, in place of the run's own."""
    secrets: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    """Steps whose command may run again though it reaches out of the tree."""
    done: tuple[str, ...] = ()
    """Steps whose command did what it was to do, though nobody wrote it down."""
    sandbox: SandboxMode | None = None
    """In place of what the run was started with."""
    discard_external: bool = False
    """Whether others' changes give way where the run must put a file back."""
    state_dir: Path | None = None


@frozen(kw_only=True)
class Options:
    """What the caller of one run chose, by command line or Python."""

    steps: tuple[str, ...] = ()
    """Run only these steps and what they need; empty is all."""
    inputs: Mapping[str, str | float | bool] = field(
        default_factory=dict[str, "str | float | bool"]
    )
    input_files: bool = False
    """Whether a value `@FILE` of an input is read from that file; the command line says so."""
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    providers: Mapping[str, Provider] = field(default_factory=dict[str, Provider])
    prices: Mapping[str, Price] = field(default_factory=dict[str, "Price"])
    budget_usd: Decimal | None = None
    secrets: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    """Steps that get the default fix for this run."""
    policy: PolicyName | None = None
    """`None` is the user's configuration's."""
    strict_prefix: bool = False
    """Whether a main request that does not extend the one before is refused and fails the run."""
    no_models: bool = False
    no_push: bool = False
    no_hooks: bool = False
    jobs: int | None = None
    fail_fast: bool = False
    allow_shell: bool = False
    allow_network: bool = False
    allow_uncommitted: bool = False
    trust_checkout_auth: bool = False
    sandbox: SandboxMode | None = None
    """`None` is what `SUBRUNNER_SANDBOX` or the user's configuration says, else `auto`."""
    trace_content: bool = False
    """Whether the trace holds prompts, tool arguments and answers as well."""
    host: bool = False
    """Whether the caller is the main agent: what would go to main is handed back to it."""
    record: Path | None = None
    """Directory to write a cassette of the run into; it must be empty or not there."""
    replay: Path | None = None
    """Cassette to answer all requests from: no network, no key."""
    state_dir: Path | None = None
