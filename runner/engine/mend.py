"""One model attempt at a failing command: snapshot, guard, ask, look, run the command, judge."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from runner import brief, fingerprints, tamper
from runner.engine.confining import agents_shell
from runner.engine.packets import packet_text, tried_line
from runner.engine.roles import agent_of, is_file, who
from runner.engine.state import MainAsk, SubagentAsk, Unpaid
from runner.engine.surroundings import Surroundings
from runner.errors import JournalError
from runner.events import Restored
from runner.frozen import frozen
from runner.outcome import (
    Attempt,
    Cannot,
    Done,
    Ending,
    Failure,
    HandedBack,
    Misconfigured,
    OffRecord,
    OverBudget,
    PrefixBroken,
    Rung,
    Unavailable,
    Verdict,
)
from runner.plan import MAIN
from runner.policy import DIFFERENT, Evidence, judge
from runner.scope import is_lock, is_test, violations
from runner.text import one_line
from runner.tools import Permit
from runner.workspace.files import LINK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.engine.ladder import Job
    from runner.engine.state import Run
    from runner.flight import Flight
    from runner.outcome import Change, CommandResult, Mend
    from runner.workspace.tree import Tree

MAIN_TURNS = 40
"""Requests of the main agent for one packet, at most."""
ATTEMPT_SECONDS = 600.0
"""Wall-clock seconds of one model attempt, unless the step says otherwise."""


@frozen
class Tried:
    """What one model attempt came to."""

    attempt: Attempt
    passed: bool = False
    stop: int = 0
    """Exit code when nothing new may start after this; 0 to go on."""
    result: CommandResult | None = None
    failure: Failure | None = None
    seen: str = ""
    ending: Ending | None = None
    others: tuple[str, ...] = ()
    """Paths that somebody else changed meanwhile."""

    @property
    def packet(self) -> str:
        """What the agent that called this run is told; empty where nothing was handed back."""
        return self.ending.packet if isinstance(self.ending, HandedBack) else ""


@frozen
class Try:
    """Who tries next, and why."""

    rung: Rung
    role: str
    """The model role that is asked."""
    number: int
    reason: str
    before: str = ""
    """Tree that an earlier life began this attempt on; empty for an attempt that begins now."""


@frozen
class Left:
    """What one attempt left in the tree."""

    before: str
    after: str
    paths: frozenset[str]
    others: frozenset[str]
    """Paths that somebody else changed meanwhile."""


@dataclass(slots=True)
class Work:
    """All model attempts at one job, and the way back to before the first."""

    run: Run
    job: Job
    base: str = ""
    left: list[Left] = field(default_factory=list["Left"])
    open_from: str = ""
    """Tree before the attempt that is under way; empty between attempts."""
    around: Surroundings = field(init=False)
    """What snapshots do not hold, as it was before the attempt that is under way."""
    best: str = ""
    """Diff of the best soft attempts, for the packet."""
    lenient: bool = False
    """Whether an attempt was already let through as merely different."""
    marked: dict[str, str] = field(default_factory=dict[str, str])
    """What the run had left in the tree before the first attempt."""

    def __post_init__(self) -> None:
        self.around = Surroundings(self.run, self.job.shown, self.job.scope)

    async def begin(self, flight: Flight | None = None) -> None:
        """Record the tree that a hard failure goes back to, or take it from an earlier life."""
        if flight is None:
            self.base = await self.run.snapshot(self.job.shown, "before mends")
            self.marked = dict(self.run.marks.blobs)
            return
        self.base, self.marked = flight.base, dict(flight.marked)
        self.left = [
            Left(stay.before, stay.after, frozenset(stay.paths), frozenset(stay.others))
            for stay in flight.stays
        ]
        self.lenient = any(one.reason == DIFFERENT for one in flight.attempts)
        self.best = await self._diff(flight.best) if flight.best else ""

    def changed(self) -> set[str]:
        """Return the paths that the attempts still in the tree changed."""
        return {path for left in self.left for path in left.paths}

    async def attempt(self, now: Try, failure: Failure, attempts: tuple[Attempt, ...]) -> Tried:
        """Let one model try, and judge it by the tree and the command alone."""
        run, began, number = self.run, time.monotonic(), now.number
        before = self.open_from = now.before or await run.snapshot(
            self.job.shown, f"before attempt {number}"
        )
        await self.around.take()
        asked = await self._ask(now, failure, attempts)
        tampering = await self.around.undo()
        after = await run.snapshot(self.job.shown, f"after attempt {number}")
        await self._own(before, after)
        changes, _ = await run.told_apart(before, after)
        paths = frozenset(change.path for change in changes)
        evidence = await self._look(asked.ending, failure, changes, after, tampering)
        result, evidence, seen = await self._judge_by_command(evidence, after)
        await self.around.drop()
        # What the mended code did while it was judged goes when the mend goes.
        _, others = await run.told_apart(before, seen)
        self.left.append(Left(before, seen, paths, others))
        self.open_from = ""
        judged = judge(evidence)
        if judged.verdict is Verdict.SOFT:
            self.lenient |= judged.different
            self.best = await self._diff(after)
        attempt = Attempt(
            number=number,
            rung=now.rung,
            model=who(run, self.job.fix, now.role)[0],
            verdict=judged.verdict,
            reason=one_line(judged.reason, 300),
            requests=asked.usage.requests,
            cost_usd=asked.cost,
            seconds=time.monotonic() - began,
            files=tuple(sorted(paths)),
            summary=one_line(said(asked.ending), 300),
            role=now.role,
        )
        return Tried(
            attempt,
            passed=judged.verdict in {Verdict.PASSED, Verdict.FLAKY},
            stop=0 if evidence.passed else self._stop(asked.ending),
            result=result,
            failure=evidence.after,
            seen=seen if seen == after else "",
            ending=asked.ending,
            others=tuple(sorted(others)),
        )

    async def undo_all(self) -> None:
        """Undo what the attempts changed, the last first; what others changed since is kept."""
        tree = self.run.ports.tree
        if tree is None:
            return
        try:
            await self.around.undo()
        finally:
            # Whatever becomes of git, the tree goes back.
            await self.around.drop()
            await self._restore(tree)

    async def _restore(self, tree: Tree) -> None:
        try:
            now = await self.run.snapshot(self.job.shown, "before restore")
        except JournalError:
            # Even a journal that cannot be written keeps no mend in the tree.
            now = await tree.snapshot()
        if self.open_from:
            with suppress(JournalError):  # as above
                await self._own(self.open_from, now)
            _, others = await self.run.told_apart(self.open_from, now)
            self.left.append(Left(self.open_from, now, frozenset(), others))
            self.open_from = ""
        restored: set[str] = set()
        external: set[str] = set()
        for left in reversed(self.left):
            back, kept = await tree.restore(left.after, left.before, keep=left.others)
            restored |= set(back)
            external |= set(kept)
        self.left.clear()
        if any(path.rpartition("/")[2] == ".gitignore" for path in restored):
            restored |= set(await tree.reveal(now, self.base))
        self.run.unmark(sorted(restored), self.marked)
        if restored or external:
            self.run.ports.emit(
                Restored(
                    self.job.shown, self.base, tuple(sorted(restored)), tuple(sorted(external))
                )
            )

    async def _own(self, before: str, after: str) -> None:
        """Take all that changed for the agent's where it had a shell, which tells nobody."""
        if self.run.shell_wrote():
            await self.run.took(before, after)

    # -- asking ------------------------------------------------------------------------------------

    async def _ask(self, now: Try, failure: Failure, attempts: tuple[Attempt, ...]) -> Mend:
        workers = await self.run.ports.workers()
        earlier = tuple(tried_line(a) for a in attempts if a.rung is not Rung.COMMAND)
        if now.rung is Rung.SUBAGENT:
            return await workers.subagent(self._subagent_ask(now, failure, attempts, earlier))
        text = packet_text(self.run, self.job, failure, attempts, reason=now.reason, diff=self.best)
        permit = self._permit(now.number, turns=MAIN_TURNS)
        return await workers.main(
            MainAsk(step=self.job.shown, attempt=now.number, text=text, permit=permit)
        )

    def _subagent_ask(
        self,
        now: Try,
        failure: Failure,
        attempts: tuple[Attempt, ...],
        earlier: tuple[str, ...],
    ) -> SubagentAsk:
        fix, run = self.job.fix, self.run
        assert fix is not None
        agent = agent_of(run, fix)
        text = brief.brief(
            brief.BriefFacts(
                step=self.job.shown,
                command=self.job.command,
                exit_code=failure.exit_code,
                failure=failure,
                goal=self.job.goal,
                scope=self.job.scope.describe(),
                earlier=earlier,
                attempt=1 + sum(a.role == now.role for a in attempts),
                attempts=fix.attempts,
                token=run.ports.run_id,
            )
        )
        return SubagentAsk(
            step=self.job.shown,
            attempt=now.number,
            agent=agent,
            role=now.role,
            brief=text,
            permit=self._permit(now.number, turns=fix.turns or agent.turns),
        )

    def _permit(self, number: int, *, turns: int) -> Permit:
        fix, scope = self.job.fix, self.job.scope
        permit = Permit(
            root=self.run.ports.root,
            allows=scope.allows,
            why_not=scope.reason,
            wrote=self.run.wrote,
            keeps=self.run.keep_others,
            settled=lambda: self.run.settled(self.job.shown),
            check=self._check_for_agent,
            shell=self.run.ports.shell,
            confine=agents_shell(self.run, scope),
            environment=agent_environment(self.run),
            traced=lambda call: self.run.ports.carrier.tool(self.job.shown, number, call),
            turns=turns,
            seconds=(fix and fix.seconds) or ATTEMPT_SECONDS,
            usd=fix.usd if fix else None,
        )
        return replace(permit, tools=fix.tools) if fix and fix.tools is not None else permit

    async def _check_for_agent(self) -> str:
        """Run the step's own command on an agent's request."""
        async with self.around.command(), self.run.doing():
            result = await self.job.invoke("agent")
        if result.passed:
            return "exit 0: the command passes"
        failure = self._read(result)
        how = "timed out" if result.timed_out else f"exit {result.exit_code}"
        return f"{how}\n{failure.tail}"

    # -- looking -----------------------------------------------------------------------------------

    async def _look(
        self,
        ending: Ending,
        failure: Failure,
        changes: Sequence[Change],
        after: str,
        tampering: tuple[str, ...],
    ) -> Evidence:
        """Compare the trees: scope per attempt, tampering over all attempts together."""
        tree = self.run.ports.tree
        if tree is None:
            return Evidence(ending, changed=False, before=failure, after=None, passed=False)
        _, others = await self.run.told_apart(self.base, after)
        texts = [text for text in await tree.texts(self.base, after) if text.path not in others]
        files = [tamper.FileDiff(*text) for text in texts]
        found = tamper.findings(files, self.job.scope.nature)
        return Evidence(
            ending,
            changed=bool(changes),
            before=failure,
            after=None,
            passed=False,
            violations=violations(self.job.scope, changes, await _targets(tree, changes, after)),
            tampering=(*tampering, *(str(finding) for finding in found)),
            soft_before=self.lenient,
        )

    async def _judge_by_command(
        self, evidence: Evidence, after: str
    ) -> tuple[CommandResult | None, Evidence, str]:
        """Run the command, unless the attempt is lost whatever it says; return the tree then."""
        settled = self._stop(evidence.ending) or isinstance(evidence.ending, HandedBack)
        if evidence.violations or evidence.tampering or settled:
            return None, evidence, after
        async with self.around.command(), self.run.doing():
            result = await self.job.invoke("check")
        seen = await self.run.snapshot(self.job.shown, "judged")
        evidence = await self._look_again(evidence, after, seen)
        if result.passed:
            return result, replace(evidence, passed=True), seen
        return result, replace(evidence, after=self._read(result)), seen

    def _stop(self, ending: Ending) -> int:
        """Return the exit code when nothing new may start; main may still have money of its own."""
        kept = isinstance(ending, OverBudget) and ending.kept_back
        escalates = self.job.escalate is not None and self.run.available(MAIN)
        return 0 if kept and escalates else stop_code(ending)

    async def _look_again(self, evidence: Evidence, after: str, seen: str) -> Evidence:
        """Look at what mended code did while it was judged: it ran with the judge's rights.

        The command itself may write reports, recorded results and lock files.
        """
        tree, scope = self.run.ports.tree, self.job.scope
        tampering = await self.around.undo()
        if tree is None or after == seen:
            return replace(evidence, tampering=tampering)
        changes = [
            change
            for change in await tree.changes(after, seen)
            if change.kind != "added" and not is_test(change.path) and not is_lock(change.path)
        ]
        guarded = [change for change in changes if scope.reason(change.path).startswith("protect")]
        files = [tamper.FileDiff(*text) for text in await tree.texts(after, seen)]
        found = (str(finding) for finding in tamper.findings(files, scope.nature))
        return replace(
            evidence, violations=violations(scope, guarded), tampering=(*tampering, *found)
        )

    def _read(self, result: CommandResult) -> Failure:
        root = self.run.ports.root
        return fingerprints.read(
            self.job.command, result, lambda path: is_file(root, path), self.job.directory
        )

    async def _diff(self, after: str) -> str:
        tree = self.run.ports.tree
        return await tree.diff(self.base, after, limit=20_000) if tree else ""


async def _targets(tree: Tree, changes: Sequence[Change], after: str) -> dict[str, str]:
    """Return what the symbolic links that an attempt left behind point to."""
    return {
        change.path: os.fsdecode(await tree.read(after, change.path) or b"")
        for change in changes
        if change.after_mode == LINK
    }


def agent_environment(run: Run) -> dict[str, str]:
    """Return the environment of an agent's shell: no secret, no declared variable."""
    base = run.ports.environ
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV")
    return {
        **{name: base[name] for name in kept if name in base},
        "TERM": "dumb",
        "CI": "1",
        "NO_COLOR": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def halt(run: Run, tried: Tried, role: str) -> None:
    """Let nothing new start after an attempt that ended so."""
    if isinstance(tried.ending, OverBudget):
        run.halt_unpaid(Unpaid(role, tried.ending), tried.stop)
    else:
        run.halt(tried.attempt.reason, tried.stop)


def stop_code(ending: Ending) -> int:
    """Return the exit code of an ending after which nothing new starts; 0 for all others."""
    match ending:
        case Unavailable() | Misconfigured():
            return 6
        case OverBudget():
            return 3
        case PrefixBroken() | OffRecord():
            return 1
        case _:
            return 0


def said(ending: Ending) -> str:
    """Return what the agent itself said, for people; empty where it said nothing."""
    match ending:
        case Done(summary):
            return summary
        case Cannot(reason, evidence):
            return f"{reason} ({evidence})" if evidence else reason
        case _:
            return ""
