"""Brings tree, git and what the engine knows to where an earlier life of the run was cut off.

Steps that ended are taken over. A mend that was cut off is brought back to its last settled call,
or undone where its step begins again. What others changed meanwhile is kept, and named; where it is
in the way, the resume is refused before anything is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.engine.commands import result_of
from runner.engine.prompt import WRITING_TOOLS
from runner.engine.state import Pass, all_steps
from runner.errors import UsageError
from runner.events import Notice, Restored, StepFinished
from runner.frozen import frozen
from runner.outcome import Status, StepOutcome, Verdict
from runner.plan import MAIN, Commit, Prompt, Push, Run, Uses

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.engine.state import Run as RunState
    from runner.flight import Flight
    from runner.git.committing import Made
    from runner.outcome import Change
    from runner.plan import ResumeOptions, Step
    from runner.recorded import Recorded
    from runner.workspace.tree import Tree

_MANY = 12
_AFTERMATH = 5.0
"""Seconds for which commands of a killed run may go on unseen: what is written later is others'."""
_LEFTOVER = re.compile(r"(?:.*/)?\.subrunner-[0-9a-f]{16}")
"""Where a file was to be put in one stroke, and the process was killed before the stroke."""


@frozen(kw_only=True)
class Aim:
    """Where the tree has to be for a step in flight."""

    flight: Flight
    base: str
    """Tree that its own changes are counted from."""
    to: str
    all: bool = False
    """Whether all that differs may be the run's: nobody can tell."""
    among: frozenset[str] | None = None
    """The paths that this is told of; `None`: of every path."""
    reserve: bool = False
    """Whether the step goes on alone with the tree."""

    def tells_of(self, path: str) -> bool:
        """Tell whether `all` is said of a path."""
        return self.among is None or path in self.among


@dataclass(slots=True)
class Rejoin:
    """One run being taken up again."""

    run: RunState
    recorded: Recorded
    steps: Sequence[Step]
    wishes: ResumeOptions
    left: int = 0
    """Processes of the run that worked on until now."""
    now: str = ""
    """The tree as it was found."""
    external: tuple[str, ...] = ()
    """Paths that somebody else changed since the run was last heard of."""
    late: frozenset[str] = frozenset()
    """Of them, those that were written when nothing of the run was there any more."""
    aims: list[tuple[Aim, frozenset[str]]] = field(
        default_factory=list["tuple[Aim, frozenset[str]]"]
    )
    """Each with the paths that are left alone."""
    over: set[str] = field(default_factory=set[str])
    """Commits and pushes in flight whose job cannot go on, and begins again."""
    kinds: dict[str, Step] = field(default_factory=dict[str, "Step"])
    tree: Tree | None = None

    # -- first look, and refuse ------------------------------------------------------------------

    async def look(self) -> None:
        """Find out what there is to do; change nothing but the locks that the run itself left.

        Raises:
            UsageError: It cannot go on so; the message says what to do.
        """
        self.kinds = {shown: step for shown, step, _ in all_steps(self.steps)}
        self._refuse_unsure()
        await self._look_at_git()
        self.tree = self.run.ports.tree
        if self.tree is None and any(f.autofix == "open" for f in self.recorded.flights.values()):
            self.tree = await self.run.ports.late_tree()
        if self.tree is None or not self.recorded.tree:
            return
        self.run.marks.blobs.update(self.recorded.marks)
        await self._remove_leftovers(self.tree)
        self.now = await self.tree.snapshot()
        since = await self.tree.changes(self.recorded.tree, self.now)
        self.late = frozenset(change.path for change in since if self._is_late(change.path))
        others = {change.path for change in since if not self.run.marks.is_ours(change)}
        for flight in self.recorded.flights.values():
            doubt = flight.doubt(shell=self.run.ports.shell)
            if flight.open is not None and flight.asked is None and doubt:
                # As while it runs: what changed beside a command counts as the run's.
                ran = {change.path for change in await self.tree.changes(doubt, self.now)}
                others -= ran - self.late
            aim = await self._aim(flight)
            if aim is not None:
                others -= await self._choose(self.tree, aim)
        self.external = tuple(sorted(others))

    def _is_late(self, path: str) -> bool:
        """Tell whether a path was written after the run's own processes had all gone.

        A command that was cut off may have written to anything; not so long after the run was last
        heard of, unless it was still there.
        """
        try:
            written = (self.run.ports.root / path).lstat().st_ctime
        except OSError:
            return False
        return not self.left and written > self.recorded.heard_at + _AFTERMATH

    def _refuse_unsure(self) -> None:
        """Refuse where a command was cut off that may not be safe to run again."""
        named = {*self.wishes.again, *self.wishes.done}
        unsure = {
            shown: flight
            for shown, flight in self.recorded.flights.items()
            if flight.command is not None and self._irreversible(shown)
        }
        for name in sorted(named - unsure.keys()):
            cut = ", ".join(sorted(unsure)) or "none"
            raise UsageError(
                f"--again and --done name steps whose command was cut off and may not be safe to "
                f"run again; {name!r} is none (there is: {cut})"
            )
        for shown, flight in unsure.items():
            if shown in named or flight.command is None:
                continue
            raise UsageError(
                f"step {shown!r} was cut off while its command ran, which may not be safe to run "
                f"again: it reaches out of the tree, or comes after a commit: "
                f"{flight.command.command.strip().splitlines()[0]}",
                hint=f"Find out whether it did its work; then: --done {shown}, or --again {shown}.",
            )

    def _irreversible(self, shown: str) -> bool:
        step = self.kinds.get(shown)
        if step is None or not isinstance(step.kind, Run):
            return False
        return bool(step.network or step.secrets) or self._ships_before(shown, step)

    def _ships_before(self, shown: str, step: Step) -> bool:
        prefix = shown.rpartition("/")[0]
        for need in step.needs:
            name = f"{prefix}/{need}" if prefix else need
            needed = self.kinds.get(name)
            if needed is not None and (_ships(needed) or self._ships_before(name, needed)):
                return True
        return bool(prefix) and self._ships_before(prefix, self.kinds[prefix])

    async def _look_at_git(self) -> None:
        """Take over the run's commits; refuse where branch or history are not what they were."""
        repo, start = self.run.ports.repo, self.recorded.start
        if repo is None or self.run.ports.start is None:
            return
        if repo.facts.branch != start.branch:
            was, now = start.branch or "no branch", repo.facts.branch or "no branch"
            raise UsageError(
                f"the run was on {was}, and the work tree is on {now}",
                hint=f"git switch {start.branch}" if start.branch else "git switch --detach",
            )
        made = await repo.rejoin(
            self.run.ports.run_id,
            expected=self.recorded.committed or start.git_before,
            finish=self._moved_head,
        )
        self.run.committed = made[-1].sha if made else ""
        self.run.remote_ref = self.recorded.remote_ref

    def _moved_head(self, newest: Made | None) -> bool:
        """Tell whether HEAD was moved by what was cut off, before the index followed."""
        if newest is None or newest.sha == self.recorded.committed:
            return False
        for flight in self.recorded.flights.values():
            if flight.rebase_from and flight.rebase is not None:
                return newest.sha != flight.rebase.facts["head"]
            if flight.intent is None or flight.fact is not None:
                continue
            facts = flight.intent.facts
            if (facts.get("parent"), facts.get("tree")) == (newest.parent, newest.tree):
                return True
        return False

    async def _remove_leftovers(self, tree: Tree) -> None:
        """Remove what the run was about to move into its place when it was killed."""
        since = await tree.changes(self.recorded.tree, await tree.snapshot())
        for change in since:
            if change.kind == "added" and _LEFTOVER.fullmatch(change.path):
                (tree.root / change.path).unlink(missing_ok=True)

    # -- where the tree has to be ------------------------------------------------------------------

    async def _aim(self, flight: Flight) -> Aim | None:
        """Decide where a step in flight needs the tree; `None` where it takes it as it is."""
        if flight.autofix == "open":
            return Aim(flight=flight, base=flight.autofix_from, to=flight.autofix_from, all=True)
        step = self.kinds.get(flight.step)
        if step is None or isinstance(step.kind, Uses):
            return None
        if isinstance(step.kind, Commit | Push):
            return await self._aim_of_shipping(flight)
        if flight.base:
            return self._aim_of_mends(flight)
        if isinstance(step.kind, Prompt) and flight.prompt_from and self._writes(step.kind):
            return self._aim_of_prompt(flight)
        return None

    async def _aim_of_shipping(self, flight: Flight) -> Aim | None:
        """Let the job go on that was cut off, or undo it: then the step begins again."""
        if flight.job and not self._goes_on(flight):
            self.over.add(flight.step)
        elif flight.job:
            return self._aim_of_mends(flight) if flight.base else None
        repo, rebase = self.run.ports.repo, flight.rebase
        if repo is not None and rebase is not None and flight.rebase_from:
            if self.run.committed != rebase.facts["head"]:
                return None  # it has moved HEAD: it is done
            start = flight.rebase_from
            paths = await repo.rebase_paths(rebase.facts["onto"])
            if flight.base:
                paths |= {path for stay in flight.stays for path in stay.paths}
            return Aim(flight=flight, base=start, to=start, all=True, among=paths)
        return Aim(flight=flight, base=flight.base, to=flight.base) if flight.base else None

    def _goes_on(self, flight: Flight) -> bool:
        """Tell whether the job that was cut off in a commit or push can go on as it was."""
        repo, (_, _, name) = self.run.ports.repo, flight.job.rpartition(":")
        known = not flight.base or (flight.first and result_of(self.run, flight.first)) is not None
        match name:
            case "pre-commit":
                hooked = repo is not None and name in repo.facts.hooks
                return bool(known and hooked and not self.run.ports.options.no_hooks)
            case "conflict":
                unmoved = flight.rebase and self.run.committed == flight.rebase.facts["head"]
                begun = flight.passed or (flight.base and known)
                return bool(unmoved and begun and flight.conflicted)
            case _:
                return bool(known)

    def _aim_of_mends(self, flight: Flight) -> Aim:
        first = result_of(self.run, flight.first) if flight.first else None
        if first is None:
            return Aim(flight=flight, base=flight.base, to=flight.base)
        soft = bool(flight.stays) and flight.attempts[-1].verdict is Verdict.SOFT
        between = flight.stays[-1].after if soft else flight.base
        if flight.asked is None:
            return Aim(flight=flight, base=flight.base, to=between, reserve=True)
        return self._aim_of_attempt(flight, flight.base, flight.settled or between)

    def _aim_of_prompt(self, flight: Flight) -> Aim | None:
        base = flight.prompt_from
        if flight.attempts and flight.attempts[0].verdict is not Verdict.PASSED:
            return Aim(flight=flight, base=base, to=base)
        if flight.asked is None or flight.attempts:
            return None
        return self._aim_of_attempt(flight, base, flight.settled or base)

    def _aim_of_attempt(self, flight: Flight, base: str, to: str) -> Aim:
        loose = flight.loose or self.run.ports.shell
        return Aim(flight=flight, base=base, to=to, all=loose, reserve=True)

    def _writes(self, kind: Prompt) -> bool:
        if kind.agent == MAIN or kind.check is not None:
            return True
        return bool(WRITING_TOOLS.intersection(self.run.ports.agents[kind.agent].tools))

    async def _choose(self, tree: Tree, aim: Aim) -> frozenset[str]:
        """Decide which paths go back and which stay; return those that are the run's.

        Raises:
            UsageError: Somebody else changed a path that must go back.
        """
        back = await tree.changes(self.now, aim.to)
        base = {change.path for change in await tree.changes(self.now, aim.base)}
        if aim.flight.asked is not None and not aim.flight.undoing:
            # Nobody was about to undo it: whoever brought it back to the start did so on purpose.
            since = await tree.changes(self.recorded.tree, self.now)
            base |= {change.path for change in since}
        touched = {change.path for change in await tree.changes(aim.base, aim.to)}
        touched |= {change.path for change in await tree.changes(aim.to, self.recorded.tree)}
        sure = {
            change.path
            for change in back
            if (aim.all and change.path not in self.late and aim.tells_of(change.path))
            or change.path not in base
            or self._is_mark(change)
        }
        open_to_doubt = touched - self.late if aim.flight.ran else frozenset[str]()
        sure |= {change.path for change in back} & open_to_doubt
        spared = await self._done_since(tree, aim)
        sure -= spared
        conflict = {change.path for change in back} & touched - sure - spared
        if conflict and not self.wishes.discard_external:
            raise UsageError(
                f"step {aim.flight.step!r} was cut off, and somebody else changed since what it "
                f"goes on from: {_some(conflict)}",
                hint="Save your changes elsewhere, or give --discard-external: the run takes its "
                "own version, and yours stays in a snapshot (runner restore).",
            )
        sure |= conflict
        self.aims.append((aim, frozenset(change.path for change in back) - sure))
        return frozenset(sure - conflict)

    async def _done_since(self, tree: Tree, aim: Aim) -> set[str]:
        """Return what other steps left after an attempt had been undone that is to go on."""
        if not aim.flight.undone or aim.flight.asked is None:
            return set()
        since = await tree.changes(aim.flight.undone, self.recorded.tree)
        own = {change.path for change in await tree.changes(aim.base, aim.to)}
        return {change.path for change in since} - own

    def _is_mark(self, change: Change) -> bool:
        """Tell whether what is there now is what the run left there."""
        return self.run.marks.blobs.get(change.path) == change.before_blob

    # -- then do it --------------------------------------------------------------------------------

    async def join(self) -> None:
        """Take over what is known, and bring the tree to where it has to be."""
        run, known = self.run, self.recorded
        run.kept.update(known.outcomes)
        run.passes.update({key: Pass(tree) for key, tree in known.passes.items()})
        run.mended |= known.mended
        run.flights.update(known.flights)
        run.flights.update({step: known.flights[step].without_job() for step in self.over})
        run.commands, run.logs = known.numbers, dict(known.logs)
        run.start_tree, run.last = known.start_tree, known.tree
        if self.tree is not None and self.now:
            await self._bring(self.tree)
        self._say_done()

    async def _bring(self, tree: Tree) -> None:
        run = self.run
        # Whatever is undone now can be brought back from here.
        run.last = await run.snapshot_of(tree, "", "resumed")
        for flight in self.recorded.flights.values():
            if flight.open is not None and flight.asked is None and flight.before:
                await run.took(flight.before, self.now, spare=self.late)
        for aim, alone in self.aims:
            current = await tree.snapshot()
            back, kept = await tree.restore(current, aim.to, keep=alone)
            await self._mark(tree, aim, back)
            if aim.reserve and not run.reserved:
                run.reserved = aim.flight.step
                run.lock.reserve(_place(self.steps, aim.flight.step))
            if back:
                run.ports.emit(Restored(aim.flight.step, aim.to, back, kept))
        if self.aims:
            run.last = await run.look("", "rejoined")

    async def _mark(self, tree: Tree, aim: Aim, back: Iterable[str]) -> None:
        """Note what the run has left at paths that were brought to where they were once."""
        left = {change.path: change.after_blob for change in await tree.changes(aim.base, aim.to)}
        marked = aim.flight.marked or self.recorded.marks
        paths = list(back)
        self.run.unmark(paths, {**{path: marked[path] for path in paths if path in marked}, **left})

    def _say_done(self) -> None:
        """Take a step's word for done that its user gives."""
        for shown in self.wishes.done:
            outcome = StepOutcome(shown, Status.SUCCEEDED, reason="said to be done: --done")
            self.run.flights.pop(shown, None)
            self.run.kept[shown] = outcome
            if self.now:
                self.run.saw_pass(shown, self.now)
            self.run.ports.emit(StepFinished(outcome))

    def tell(self) -> None:
        """Say what differs from what the run left."""
        if self.external:
            self.run.ports.emit(
                Notice(f"changed by others meanwhile, and kept: {_some(self.external)}")
            )


def _ships(step: Step) -> bool:
    match step.kind:
        case Commit() | Push():
            return True
        case Uses(workflow):
            return any(map(_ships, workflow.steps))
        case _:
            return False


def _place(steps: Sequence[Step], shown: str) -> tuple[int, ...]:
    """Return where a step stands in the order of the workflow, as `Run.place` does."""
    own, _, rest = shown.partition("/")
    for index, step in enumerate(steps):
        if step.id == own:
            if rest and isinstance(step.kind, Uses):
                return (index, *_place(step.kind.workflow.steps, rest))
            return (index,)
    return ()


def _some(paths: Iterable[str]) -> str:
    found = sorted(paths)
    more = f" and {len(found) - _MANY} more" if len(found) > _MANY else ""
    return ", ".join(found[:_MANY]) + more
