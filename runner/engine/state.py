"""What the parts of the engine share during one run: ports to the world, what is known so far."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio

from runner.engine.lock import Lock, Share, TreeLock
from runner.engine.marks import Marks
from runner.events import Marked, Notice, Passed, SnapshotTaken, Uncommitted, Waited
from runner.frozen import frozen
from runner.outcome import StepOutcome
from runner.plan import HOST, Uses
from runner.workspace.commands import run_command

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Collection,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )
    from pathlib import Path

    from runner.engine.graph import Graph
    from runner.engine.names import Names
    from runner.events import Event
    from runner.flight import Flight
    from runner.git import Repository, StartState
    from runner.models.choice import Choice
    from runner.outcome import Change, CommandResult, Mend, OverBudget
    from runner.plan import AgentSpec, Options, Step, ValueType, Workflow
    from runner.policy import Outlook, Policy
    from runner.sandbox import Sandbox
    from runner.telemetry.carrier import Carrier
    from runner.tools import Permit
    from runner.workspace.commands import Command
    from runner.workspace.masking import Mask
    from runner.workspace.tree import Tree


CLOSING = 4.5
"""Seconds from being told to end until the last command is ended, too: a CI system gives 7.5 in all
(https://github.com/actions/runner/issues/1309), and snapshot, restore and report come after it."""

WORTH_TELLING = 0.05
"""Seconds of waiting below which nobody needs to know of it."""


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


class RunCommand(Protocol):
    """Runs one command to its end, as `workspace.commands.run_command` does."""

    async def __call__(
        self, command: Command, *, on_line: Callable[[str], None] | None = None
    ) -> CommandResult:
        """Return how it ended; *on_line* hears its output."""
        ...


CUT_OFF = (3, 6)
"""Exit codes of runs that end for want of money, of time or of a provider: they can go on."""


class Halted(Exception):  # noqa: N818  no error: it ends a step
    """Raised where a step that began gets the tree, and nothing new starts in the run any more."""


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
    late_tree: Callable[[], Awaitable[Tree]]
    """Opens the tree all the same, once an autofix is about to change it."""
    repo: Repository | None
    """`None` outside of a git repository, or when nothing here needs git."""
    start: StartState | None
    agents: Mapping[str, AgentSpec]
    choices: Mapping[str, Choice]
    inputs: Mapping[str, Any]
    secrets: Mapping[str, str]
    """Granted secrets by name."""
    mask: Mask
    """Hides them in whatever is shown, kept or read by a model."""
    environ: Mapping[str, str]
    workers: Callable[[], Awaitable[Workers]]
    policy: Policy
    outlook: Callable[[str, Sequence[str], bool], Awaitable[Outlook | None]]
    """Estimates what rungs cost, for a kind of failure, roles, and whether it is irreversible."""
    carrier: Carrier
    """Tells commands the span of the run's trace that they belong to."""
    shell: bool = False
    """Whether agents may have a shell: it was granted, or the sandbox holds."""
    network: bool = False
    """Whether commands of agents may reach the network."""
    sandbox: Sandbox | None = None
    """Confines all commands; `None` where it was switched off."""
    run_command: RunCommand = run_command
    """Starts processes."""


@frozen
class Unpaid:
    """A request that was not sent, for the budget does not cover it."""

    role: str
    ending: OverBudget

    @property
    def words(self) -> str:
        """Why nothing new starts, in few words."""
        lack = self.ending.lack
        if lack is None or self.ending.disputed or lack.model:
            return lack.words if lack else self.ending.detail
        return f"the budget does not cover a request of {self.role}"


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
    flights: dict[str, Flight] = field(default_factory=dict[str, "Flight"])
    """Steps that an earlier life of the run began, by shown id, until they are taken up."""
    kept: dict[str, StepOutcome] = field(default_factory=dict[str, StepOutcome])
    """How steps ended in earlier lives, by shown id."""
    reserved: str = ""
    """Step in flight, by shown id, that the tree is kept for until it asks for it."""
    last: str = ""
    """The newest snapshot in the journal."""
    calls: int = 0
    """Calls of agents' tools so far that may have changed files."""
    shelled: bool = False
    """Whether an agent used a shell that is held; `shell_wrote` forgets it."""
    ran: dict[str, tuple[Step, Names]] = field(default_factory=dict[str, "tuple[Step, Names]"])
    """Steps that were run, with the names in their sight, by shown id."""
    mended: set[str] = field(default_factory=set[str])
    """Paths that autofix or mends changed and that no commit has taken up."""
    marks: Marks = field(default_factory=Marks)
    committed: str = ""
    """The commit that this run made last."""
    remote_ref: str = ""
    stop: str = ""
    """Why nothing new starts any more; empty while the run goes on."""
    stop_code: int = 0
    unpaid: Unpaid | None = None
    """The request that ended the run, for its budget did not cover it."""
    signal: int | None = None
    """Number of the signal that told the run to end."""
    close_by: float = 0.0
    """Until when, by the loop's clock, steps `when: always` may run; 0 before the run was told to
    end."""
    workflows: tuple[Workflow, ...] = ()
    """The workflow and all that it uses; found out when first asked for."""
    commands: int = 0
    """How many commands were begun; the last one's number."""
    logs: dict[str, int] = field(default_factory=dict[str, int])
    callers: dict[str, Graph] = field(default_factory=dict[str, "Graph"])
    """The graph that each running step belongs to, for what it delegates."""
    places: dict[str, tuple[int, ...]] = field(default_factory=dict[str, "tuple[int, ...]"])
    """Where each step that was run stands in the order of the workflow."""

    def say(self, text: str, step: str = "") -> None:
        """Tell people something that is no failure by itself."""
        self.ports.emit(Notice(text, step))

    @property
    def confined(self) -> bool:
        """Whether agents' shells are held by a sandbox, which keeps git and environments too."""
        sandbox = self.ports.sandbox
        return sandbox is not None and sandbox.held.by == "bubblewrap"

    def shell_wrote(self) -> bool:
        """Whether an agent's shell may have changed files since this was asked last."""
        shelled, self.shelled = self.shelled, False
        return self.ports.shell and (shelled or not self.confined)

    def place(self, shown: str) -> tuple[int, ...]:
        """Return a step's place in the order of the workflow; a delegated one has its caller's."""
        while shown and shown not in self.places:
            shown = shown.rpartition("/")[0]
        return self.places.get(shown, ())

    def halt(self, reason: str, code: int = 0) -> None:
        """Let nothing new start; the first reason stays."""
        if not self.stop:
            self.stop, self.stop_code = reason, code

    def halt_unpaid(self, unpaid: Unpaid, code: int) -> None:
        """Let nothing new start, for the budget does not cover a request."""
        if not self.stop:
            self.unpaid = unpaid
        self.halt(unpaid.words, code)

    def close(self, reason: str, code: int) -> None:
        """Let the run end now: what goes on is cancelled, what runs `always` gets a moment."""
        self.halt(reason, code)
        self.close_by = anyio.current_time() + CLOSING

    def next_command(self) -> int:
        """Return the number of the command that begins now."""
        self.commands += 1
        return self.commands

    @asynccontextmanager
    async def sharing(self, lock: Lock, shown: str) -> AsyncGenerator[Share]:
        """Hold the tree together with other commands, and tell how long a step waited for it."""
        began = time.monotonic()
        async with lock.share() as share:
            self.waited(shown, "tree", began)
            self._refuse_halted(lock, shown)
            yield share

    @asynccontextmanager
    async def alone(self, lock: Lock, shown: str, *, in_tree: bool = False) -> AsyncGenerator[None]:
        """Hold the tree alone, and tell how long a step waited for it.

        *in_tree*: an earlier life left something of it in the tree, to go on with or to undo.
        """
        began = time.monotonic()
        async with lock.sole(self.place(shown)):
            self.waited(shown, "tree", began)
            if not in_tree:
                self._refuse_halted(lock, shown)
            yield

    def _refuse_halted(self, lock: Lock, shown: str) -> None:
        """Let a step that waited begin nothing where the run has lost its provider or its money.

        Raises:
            Halted: It has.
        """
        # What a holder of the tree starts itself is a part of what was begun before.
        if self.stop_code not in CUT_OFF or not isinstance(lock, TreeLock):
            return
        step, _ = self.ran.get(shown, (None, None))
        if step is None or step.when != "always":
            raise Halted

    def waited(self, shown: str, reason: Literal["slot", "tree"], began: float) -> None:
        """Tell that a step waited from *began*, by the monotonic clock, where it is worth it."""
        seconds = time.monotonic() - began
        if seconds > WORTH_TELLING:
            self.ports.emit(Waited(shown, reason, seconds))

    async def snapshot(self, step: str, label: str) -> str:
        """Record the tree as it is now; empty where nothing is hashed."""
        if self.ports.tree is None:
            return ""
        return await self.snapshot_of(self.ports.tree, step, label)

    async def snapshot_of(self, tree: Tree, step: str, label: str) -> str:
        """Record a tree as it is now."""
        taken = await tree.snapshot()
        self.record(step, label, taken)
        return taken

    def record(self, step: str, label: str, taken: str) -> None:
        """Write down a snapshot."""
        self.ports.emit(SnapshotTaken(step, label, taken))
        self.last = taken

    async def look(self, step: str, label: str) -> str:
        """Return the tree as it is now, recorded only where it is not what was recorded last."""
        if self.ports.tree is None:
            return ""
        taken = await self.ports.tree.snapshot()
        if taken != self.last:
            self.ports.emit(SnapshotTaken(step, label, taken))
            self.last = taken
        return taken

    async def settled(self, step: str) -> None:
        """Record what a call of an agent's tool left, before the call counts as done."""
        self.calls += 1
        await self.look(step, f"after call {self.calls}")

    async def keep_others(self, path: str) -> None:
        """Record what somebody else left at a path since the newest snapshot: it is written to."""
        tree, file = self.ports.tree, self.ports.root / path
        if tree is None or not self.last or file.is_symlink() or not file.is_file():
            return
        data = file.read_bytes()
        if self.marks.blobs.get(path) == tree.blob_id(data):
            return
        known = self.last
        if data != await tree.read(known, path) and await self.look("", "before call") != known:
            self.say(f"{path}: somebody else changed it, and an agent writes to it: theirs is kept")

    def wrote(self, path: str, data: bytes) -> None:
        """Note what a file tool is about to write; called in the tool's own thread."""
        if self.ports.tree is not None:
            anyio.from_thread.run_sync(self._mark, {path: self.ports.tree.blob_id(data)})

    async def took(self, before: str, after: str, spare: Collection[str] = ()) -> None:
        """Note that what changed between two snapshots was this run's doing, but for *spare*."""
        if self.ports.tree is not None and before != after:
            changes = await self.ports.tree.changes(before, after)
            blobs = {change.path: change.after_blob for change in changes}
            self._mark({path: blob for path, blob in blobs.items() if path not in spare})

    def _mark(self, blobs: Mapping[str, str], forgotten: Iterable[str] = ()) -> None:
        """Note what the run leaves at paths; in memory also where the journal cannot be written."""
        if blobs or forgotten:
            self.marks.mark(blobs, forgotten)
            self.ports.emit(Marked(blobs, tuple(forgotten)))

    def unmark(self, paths: Sequence[str], earlier: Mapping[str, str]) -> None:
        """Note that paths were brought back to what they were when *earlier* was copied."""
        self._mark({path: earlier[path] for path in paths if path in earlier}, paths)

    def disown(self, paths: Iterable[str]) -> None:
        """Let what is at paths count as others': no commit of this run takes it up."""
        self._mark({}, sorted(path for path in paths if path in self.marks.blobs))

    def saw_pass(self, key: str, tree: str) -> None:
        """Note that a command passed, and on which tree."""
        if self.ports.tree is not None:
            self.ports.emit(Passed(key, tree))
        self.passes[key] = Pass(tree)

    def set_mended(self, paths: Iterable[str]) -> None:
        """Note all paths that autofix and mends changed and that no commit has taken up."""
        if self.mended != (now := set(paths)):
            self.ports.emit(Uncommitted(tuple(sorted(now))))
            self.mended = now

    @asynccontextmanager
    async def doing(self) -> AsyncGenerator[None]:
        """Take what changes during the block for this run's doing, however the block ends."""
        tree = self.ports.tree
        before = await tree.snapshot() if tree else ""
        try:
            yield
        finally:
            if tree is not None:
                with anyio.CancelScope(shield=True):
                    await self.took(before, await tree.snapshot())

    async def told_apart(
        self, before: str, after: str
    ) -> tuple[tuple[Change, ...], frozenset[str]]:
        """Return the changes between two snapshots that are this run's, and the others' paths."""
        if self.ports.tree is None or before == after:
            return (), frozenset()
        changes = await self.ports.tree.changes(before, after)
        ours = tuple(change for change in changes if self.marks.is_ours(change))
        return ours, frozenset(change.path for change in changes if change not in ours)

    def log_path(self, shown: str, purpose: str) -> Path:
        """Return a new file for a command's full output."""
        number = self.logs[shown] = self.logs.get(shown, 0) + 1
        name = shown.replace("/", "~")
        return self.ports.run_dir / "logs" / f"{name}.{number:02d}.{purpose}.log"

    def available(self, role: str) -> bool:
        """Whether a model answers for *role* in this run."""
        choice = self.ports.choices.get(role)
        return choice is not None and choice.available and not self.ports.options.no_models

    def hosted(self, role: str) -> bool:
        """Whether the agent that called this run plays *role*."""
        choice = self.ports.choices.get(role)
        return choice is not None and choice.id == HOST

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


def all_steps(
    steps: Iterable[Step], prefix: str = "", *, lenient: bool = False
) -> Iterator[tuple[str, Step, bool]]:
    """Yield steps and those of the workflows they use, by shown id, and whether each may fail."""
    for step in steps:
        shown, may_fail = shown_id(prefix, step), lenient or step.allow_failure
        yield shown, step, may_fail
        if isinstance(step.kind, Uses):
            yield from all_steps(step.kind.workflow.steps, shown, lenient=may_fail)
