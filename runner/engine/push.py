"""Pushes exactly this run's commit, never by force, and reads it back."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

import anyio

from runner.engine.checks import Shipping
from runner.engine.hooks import hook_job, wanted
from runner.engine.jobs import scope_within
from runner.engine.ladder import Job
from runner.errors import GitRefused
from runner.events import GitFact, GitIntent, Restored
from runner.expressions import render
from runner.git import Conflict, NotFastForward, PushAuth, Pushed, Rebased
from runner.git.urls import masked
from runner.loader import branch_problem
from runner.outcome import CommandResult, Status, StepOutcome
from runner.plan import Escalate, Fix, Push, Retry

if TYPE_CHECKING:
    from pathlib import Path

    from runner.engine.lock import Lock
    from runner.events import Purpose

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
        repo, push = self.repo(), self.kind()
        sha = run.committed or repo.facts.head
        if not sha or (not run.committed and push.branch is None):
            return self.end(Status.SKIPPED, "nothing to push: this run made no commit")
        refused = self.unpassed()
        if refused is not None:
            return refused
        async with lock.sole(self.graph.run.place(self.shown)):
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
            case Pushed(remote, ref, pushed):
                emit(GitFact(self.shown, "push", {"sha": pushed, "ref": ref, "remote": remote}))
                self.graph.run.remote_ref = pushed
                outputs = {"sha": pushed, "ref": ref, "remote": remote}
                return self.end(Status.SUCCEEDED, outputs=outputs)
            case NotFastForward(rebase=True):
                return await self._rebase(auth)
            case NotFastForward(detail=detail, command=command):
                return self.end(Status.FAILED, detail, hint=f"By hand: {command}")
            case _:
                assert_never(result)

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
        done = await repo.rebase_onto_upstream(auth=auth)
        if isinstance(done, Conflict):
            mended = await self._mend_conflict(done)
            if isinstance(mended, StepOutcome):
                return mended
            done = mended
        run.committed = done.sha
        failed, _ = await self.renew(self.checks(), mends=False)
        if failed is not None:
            return replace(
                failed, hint=f"The rebased commit {done.sha[:12]} is local and not pushed."
            )
        return None

    async def _mend_conflict(self, conflict: Conflict) -> Rebased | StepOutcome:
        """Show the conflict in the tree, let it be mended, commit it; else leave nothing of it."""
        repo, run = self.repo(), self.graph.run
        before = await run.snapshot(self.shown, "before conflict")
        marked = ""
        try:
            await repo.show_conflict(conflict)
            marked = await run.snapshot(self.shown, "with conflict markers")
            failed = self._unmarked(conflict) or await self.climb(
                self._conflict_job(conflict), "the rebase has conflicts"
            )
            if failed is None:
                after = await run.snapshot(self.shown, "conflict mended")
                mended, _ = await run.told_apart(marked, after)
                touched = {change.path for change in mended}
                done = await repo.resolve(conflict, touched=touched)
                # The commit has taken them up.
                run.mended -= {*conflict.paths, *touched}
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
        run, root = self.graph.run, self.repo().facts.root

        async def invoke(purpose: Purpose) -> CommandResult:
            began = time.monotonic()
            lines = [
                f"{path}:{number}: conflict marker"
                for path in conflict.paths
                for number in marker_lines(root / path)
            ]
            text = "\n".join(lines)
            seconds = time.monotonic() - began
            return CommandResult(
                exit_code=int(bool(lines)),
                timed_out=False,
                seconds=seconds,
                head=text,
                tail="",
                total_bytes=len(text),
                log=None,
            )

        return Job(
            shown=self.shown,
            key=f"{self.shown}:conflict",
            command="no conflict markers",
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
