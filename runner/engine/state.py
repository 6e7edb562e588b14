"""What the parts of the engine share during one run: ports to the world, what is known so far."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from runner.engine.lock import TreeLock
from runner.events import Notice, SnapshotTaken
from runner.frozen import frozen
from runner.outcome import StepOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from runner.engine.graph import Graph
    from runner.engine.names import Names
    from runner.events import Event
    from runner.git import Repository, StartState
    from runner.models.choice import Choice
    from runner.outcome import Mend
    from runner.plan import AgentSpec, Options, Step, ValueType, Workflow
    from runner.policy import Policy
    from runner.tools import Permit
    from runner.workspace.tree import Tree


@frozen(kw_only=True)
class SubagentAsk:
    """One fresh subagent, asked for one thing."""

    step: str
    attempt: int
    agent: AgentSpec
    role: str
    brief: str
    permit: Permit
    outputs: Mapping[str, ValueType] | None = None
    """Named outputs that the answer must have; `None` is what the agent's definition says."""


@frozen(kw_only=True)
class MainAsk:
    """One message appended to the main conversation."""

    step: str
    attempt: int
    text: str
    permit: Permit
    outputs: Mapping[str, ValueType] | None = None


class Workers(Protocol):
    """The model side, behind one door; loaded when the first model is asked."""

    async def subagent(self, ask: SubagentAsk) -> Mend:
        """Run a fresh subagent to its end."""
        ...

    async def main(self, ask: MainAsk) -> Mend:
        """Append a message to the main conversation and let the main agent work."""
        ...


@frozen
class Pass:
    """A command passed, and on which tree."""

    tree: str
    """Empty when the tree moved while the command ran: such a pass is stale at once."""


@frozen(kw_only=True)
class Ports:
    """Everything outside of the engine that one run works with."""

    run_id: str
    workflow: Workflow
    options: Options
    root: Path
    """Directory of the tree; commands run in it or below."""
    run_dir: Path
    """The run's own directory in the state directory: logs, patches, outputs."""
    emit: Callable[[Event], None]
    tree: Tree | None
    """`None` when the workflow has no commit, push, fix or prompt: then nothing is hashed."""
    repo: Repository | None
    """`None` outside of a git repository, or when nothing here needs git."""
    start: StartState | None
    agents: Mapping[str, AgentSpec]
    choices: Mapping[str, Choice]
    inputs: Mapping[str, Any]
    secrets: Mapping[str, str]
    """Granted secrets by name."""
    environ: Mapping[str, str]
    workers: Callable[[], Awaitable[Workers]]
    policy: Policy
    shell: bool = False
    """Whether agents may have a free shell."""


@dataclass(slots=True)
class Run:
    """A run in progress."""

    ports: Ports
    lock: TreeLock = field(default_factory=TreeLock)
    started: float = field(default_factory=time.monotonic)
    start_tree: str = ""
    outcomes: dict[str, StepOutcome] = field(default_factory=dict[str, StepOutcome])
    """Of every step that ended, by shown id (`ship/lint` for a step of a used workflow)."""
    passes: dict[str, Pass] = field(default_factory=dict[str, Pass])
    ran: dict[str, tuple[Step, Names]] = field(default_factory=dict[str, "tuple[Step, Names]"])
    """Steps that were run, with the names in their sight, by shown id."""
    mended: set[str] = field(default_factory=set[str])
    """Paths that autofix or mends changed and that no commit has taken up."""
    committed: str = ""
    """The commit that this run made last."""
    remote_ref: str = ""
    stop: str = ""
    """Why nothing new starts any more; empty while the run goes on."""
    stop_code: int = 0
    logs: dict[str, int] = field(default_factory=dict[str, int])
    packets: int = 0
    callers: dict[str, Graph] = field(default_factory=dict[str, "Graph"])
    """The graph that each running step belongs to, for what it delegates."""

    def say(self, text: str, step: str = "") -> None:
        """Tell people something that is no failure by itself."""
        self.ports.emit(Notice(text, step))

    def halt(self, reason: str, code: int = 0) -> None:
        """Let nothing new start; the first reason stays."""
        if not self.stop:
            self.stop, self.stop_code = reason, code

    async def snapshot(self, step: str, label: str) -> str:
        """Record the tree as it is now; empty where nothing is hashed."""
        if self.ports.tree is None:
            return ""
        tree = await self.ports.tree.snapshot()
        self.ports.emit(SnapshotTaken(step, label, tree))
        return tree

    def log_path(self, shown: str, purpose: str) -> Path:
        """Return a new file for a command's full output."""
        number = self.logs[shown] = self.logs.get(shown, 0) + 1
        name = shown.replace("/", "~")
        return self.ports.run_dir / "logs" / f"{name}.{number:02d}.{purpose}.log"

    def available(self, role: str) -> bool:
        """Whether a model answers for *role* in this run."""
        choice = self.ports.choices.get(role)
        return choice is not None and choice.available and not self.ports.options.no_models

    def missing(self, roles: Sequence[str]) -> str:
        """Say in one line how to get a model for *roles*; empty when one of them has one."""
        if self.ports.options.no_models:
            return "Models are off: --no-models."
        wanted = [self.ports.choices[role] for role in roles if role in self.ports.choices]
        if not wanted:
            return (
                "No model is chosen. Set ANTHROPIC_API_KEY or OPENAI_API_KEY, or --model cheap=ID."
            )
        lacking = [choice for choice in wanted if not choice.available]
        if not lacking:
            return ""
        who = "No model was" if len(lacking) == len(wanted) else f"Role {lacking[0].role!r} was not"
        return f"{who} asked: set {lacking[0].missing} to let {lacking[0].id} mend it."


def shown_id(prefix: str, step: Step) -> str:
    """Return a step's id as people see it, below the steps that use its workflow."""
    return f"{prefix}/{step.id}" if prefix else step.id
