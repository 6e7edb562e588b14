"""Pushes exactly this run's commit, never by force, and reads it back."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

import anyio

from runner.engine.checks import Shipping
from runner.engine.commands import look
from runner.engine.hooks import hook_job, wanted
from runner.engine.jobs import scope_within
from runner.engine.ladder import Job
from runner.errors import GitRefused
from runner.events import GitFact, GitIntent, Restored
from runner.expressions import render
from runner.git import Conflict, NotFastForward, PushAuth, Pushed, Rebased
from runner.git.urls import masked
from runner.loader import branch_problem
from runner.outcome import Status, StepOutcome
from runner.plan import Escalate, Fix, Push, Retry

if TYPE_CHECKING:
    from pathlib import Path

    from runner.engine.lock import Lock
    from runner.events import Purpose
    from runner.flight import Flight
    from runner.git.rebasing import Rebase
    from runner.outcome import CommandResult

TRIES = 3
"""How often a push that somebody else overtook is rebased and tried again."""
MARKERS = (b"<<<<<<< ", b"=======\n", b">>>>>>> ")


@dataclass(slots=True)
class Pushing(Shipping):
    """One push step under way."""

    def kind(self) -> Push:
        """Return what the step asks for."""
        assert isinstance(self.step.kind, Push)
        return self.step.kind

    async def go(self, lock: Lock) -> StepOutcome:
        """Push, after a rebase where the upstream went on meanwhile."""
        run = self.graph.run
        if run.ports.options.no_push:
            return self.end(Status.SKIPPED, "--no-push")
        flight = self.take_up()
        repo, push = self.repo(), self.kind()
        sha = run.committed or repo.facts.head
        if not sha or (not run.committed and push.branch is None):
            return self.end(Status.SKIPPED, "nothing to push: this run made no commit")
        refused = self.unpassed()
        if refused is not None:
            return refused
        in_tree = flight is not None and bool(flight.base or flight.rebase_from)
        async with self.graph.run.alone(lock, self.shown, in_tree=in_tree):
            outcome = await self._rebased_before(flight) if flight is not None else None
            if outcome is not None:
                return outcome
            for _ in range(TRIES):
                outcome = await self._once(run.committed or sha)
                if outcome is not None:
                    return outcome
        return self.end(Status.FAILED, f"the remote branch went on {TRIES} times; try again later")

    async def _once(self, sha: str) -> StepOutcome | None:
        """Push once; `None` after a rebase, to push again."""
        repo, push = self.repo(), self.kind()
        branch, auth = self._branch(), self._auth()
        plan = await repo.push_plan(remote=push.remote, branch=branch, auth=auth, expected=sha)
        if plan.remote_sha == sha and self._pushed_before(sha):
            found = Pushed(push.remote, plan.remote_ref, sha)
            await repo.note_pushed(found)
            return self._settle(found)
        if plan.remote_sha == sha:
            return self.end(Status.SKIPPED, f"nothing to push: {push.remote}/{branch} has it")
        changed = repo.hooks_changed()
        if changed:
            reason = f"hooks changed during the run: {', '.join(changed)}"
            return self.end(Status.FAILED, reason, code=5)
        if wanted(self, "pre-push"):
            job = hook_job(self, "pre-push", push=plan)
            why = "what a mend changes now would be no part of the commit"
            job = replace(job, fix=None, escalate=None, unmended=why)
            failed = await self.climb(job, "the pre-push hook fails")
            if failed is not None:
                return failed
        emit = self.graph.run.ports.emit
        where = {"sha": sha, "ref": plan.remote_ref, "url": masked(plan.url)}
        emit(GitIntent(self.shown, "push", where))
        result = await repo.push(remote=push.remote, branch=branch, auth=auth, expected=sha)
        match result:
            case Pushed():
                return self._settle(result)
            case NotFastForward(rebase=True):
                return await self._rebase(auth)
            case NotFastForward(detail=detail, command=command):
                return self.end(Status.FAILED, detail, hint=f"By hand: {command}")
            case _:
                assert_never(result)

    def _pushed_before(self, sha: str) -> bool:
        """Tell whether an earlier life was about to push this commit, which is there now."""
        intent = self.flight.intent if self.flight else None
        return intent is not None and intent.facts.get("sha") == sha

    def _settle(self, pushed: Pushed) -> StepOutcome:
        """Write down what was pushed, and return how the step ended."""
        run = self.graph.run
        outputs = {"sha": pushed.sha, "ref": pushed.ref, "remote": pushed.remote}
        if self.flight is None or self.flight.fact is None:
            run.ports.emit(GitFact(self.shown, "push", outputs))
        run.remote_ref = pushed.sha
        return self.end(Status.SUCCEEDED, outputs=outputs)

    def _branch(self) -> str:
        ports = self.graph.run.ports
        wanted_branch = self.kind().branch
        if wanted_branch is None:
            name = re.sub(r"[^A-Za-z0-9_-]+", "-", ports.workflow.name).strip("-") or "workflow"
            return f"runner/{name}-{ports.run_id}"
        branch = render(wanted_branch, self.names.look_up)
        problem = branch_problem(branch)
        if problem:
            raise GitRefused(f"branch {branch!r} cannot be pushed to: {problem}")
        return branch

    def _auth(self) -> PushAuth:
        ports, auth = self.graph.run.ports, self.kind().auth
        trust = ports.options.trust_checkout_auth
        kind, _, name = auth.partition(":")
        match kind:
            case "secret":
                return PushAuth("secret", secret=ports.secrets.get(name, ""), trust_checkout=trust)
            case "ssh":
                return PushAuth("ssh")
            case "helper":
                return PushAuth("helper")
            case _:
                granted = [ports.secrets[n] for n in self.step.secrets if n in ports.secrets]
                return PushAuth("auto", secret=next(iter(granted), ""), trust_checkout=trust)

    # -- rebase ------------------------------------------------------------------------------------

    async def _rebase(self, auth: PushAuth) -> StepOutcome | None:
        """Put this run's commits on top of the upstream's; a conflict goes up the ladder."""
        repo, run = self.repo(), self.graph.run
        run.say("the upstream went on: fetching and rebasing this run's own commits", self.shown)
        await run.snapshot(self.shown, "before rebase")
        done = await repo.rebase_onto_upstream(auth=auth, announce=self._announce)
        if isinstance(done, Conflict):
            done = await self._mend_conflict(done)
        return done if isinstance(done, StepOutcome) else await self._look_after(done.sha)

    def _announce(self, plan: Rebase) -> None:
        facts = {"head": plan.head, "onto": plan.onto}
        self.graph.run.ports.emit(GitIntent(self.shown, "rebase", facts))

    async def _look_after(self, sha: str) -> StepOutcome | None:
        """Run the checks that a rebase made stale; `None` when all hold."""
        run = self.graph.run
        run.committed = sha
        await run.snapshot(self.shown, "rebased")
        failed, _ = await self.renew(self.checks(), mends=False)
        if failed is None:
            return None
        return replace(failed, hint=f"The rebased commit {sha[:12]} is local and not pushed.")

    async def _rebased_before(self, flight: Flight) -> StepOutcome | None:
        """Go on with a rebase of an earlier life; `None` when the commit is to be pushed."""
        if flight.rebase is None:
            return None
        facts, run = flight.rebase.facts, self.graph.run
        mending = self.cut_off(f"{self.shown}:conflict")
        if mending is not None:
            conflict = await self.repo().conflict_again(facts["onto"])
            done = await self._mend_conflict(conflict, mending)
            return done if isinstance(done, StepOutcome) else await self._look_after(done.sha)
        # Its end may not have been seen: no commit is pushed whose checks are stale.
        moved = run.committed != facts["head"]
        return await self._look_after(run.committed) if moved else None

    async def _mend_conflict(
        self, conflict: Conflict, flight: Flight | None = None
    ) -> Rebased | StepOutcome:
        """Show the conflict in the tree, let it be mended, commit it; else leave nothing of it."""
        repo, run = self.repo(), self.graph.run
        before = flight.rebase_from if flight else await run.snapshot(self.shown, "before conflict")
        marked = flight.conflicted if flight else ""
        try:
            if flight is None:
                await repo.show_conflict(conflict)
                marked = await run.snapshot(self.shown, "with conflict markers")
            failed = self._unmarked(conflict) if flight is None else None
            failed = failed or await self.climb(
                self._conflict_job(conflict), "the rebase has conflicts", flight
            )
            if failed is None:
                after = await run.snapshot(self.shown, "conflict mended")
                mended, _ = await run.told_apart(marked, after)
                touched = {change.path for change in mended}
                done = await repo.resolve(conflict, touched=touched)
                # The commit has taken them up.
                run.set_mended(run.mended - {*conflict.paths, *touched})
                return done
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._take_back(before, marked)
            raise
        await self._take_back(before, marked)
        return replace(
            failed, hint=f"Nothing was changed. By hand: git pull --rebase ({conflict.detail})"
        )

    async def _take_back(self, before: str, marked: str) -> None:
        """Undo what was shown and mended; what others changed since is kept."""
        tree = self.graph.run.ports.tree
        assert tree is not None
        now = await self.graph.run.snapshot(self.shown, "before restore")
        back, kept = await tree.restore(marked or now, before)
        self.graph.run.ports.emit(Restored(self.shown, before, back, kept))

    def _unmarked(self, conflict: Conflict) -> StepOutcome | None:
        """Refuse a conflict that no text shows: one side of it would silently be lost."""
        root = self.repo().facts.root
        hidden = [path for path in conflict.paths if not marker_lines(root / path)]
        if not hidden:
            return None
        return self.end(
            Status.FAILED, f"the rebase has conflicts that no text shows: {', '.join(hidden)}"
        )

    def _conflict_job(self, conflict: Conflict) -> Job:
        run, root, command = self.graph.run, self.repo().facts.root, "no conflict markers"

        async def invoke(purpose: Purpose) -> CommandResult:
            return look(
                run,
                self.shown,
                command,
                purpose,
                lambda: [
                    f"{path}:{number}: conflict marker"
                    for path in conflict.paths
                    for number in marker_lines(root / path)
                ],
            )

        return Job(
            shown=self.shown,
            key=f"{self.shown}:conflict",
            command=command,
            purpose="check",
            invoke=invoke,
            scope=scope_within(run, write=tuple(filter(scope_within(run).allows, conflict.paths))),
            fix=Fix(agent="conflict-fixer"),
            escalate=Escalate(),
            retry=Retry(),
        )


def marker_lines(file: Path) -> list[int]:
    """Return the numbers of a file's lines that begin a part of a conflict."""
    if file.is_symlink() or not file.is_file():
        return []
    lines = file.read_bytes().splitlines(keepends=True)
    return [number for number, line in enumerate(lines, 1) if line.startswith(MARKERS)]
