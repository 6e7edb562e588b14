"""Pushes exactly this run's commit, never by force, and reads it back."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

from runner.engine.checks import Shipping
from runner.engine.hooks import hook_job, wanted
from runner.engine.ladder import Job
from runner.engine.roles import changed_paths
from runner.events import GitFact, GitIntent
from runner.expressions import render
from runner.git import Conflict, NotFastForward, PushAuth, Pushed, Rebased
from runner.outcome import CommandResult, Status, StepOutcome
from runner.plan import Escalate, Fix, Push, Retry
from runner.scope import scope_for

if TYPE_CHECKING:
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
        async with lock.sole():
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
            # What a mend changed now could not be part of the commit any more.
            job = replace(job, fix=None, escalate=None)
            failed = await self.climb(job, "the pre-push hook fails")
            if failed is not None:
                return failed
        emit = self.graph.run.ports.emit
        emit(GitIntent(self.shown, "push", {"sha": sha, "ref": plan.remote_ref, "url": plan.url}))
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
        return render(wanted_branch, self.names.look_up)

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
        repo, run = self.repo(), self.graph.run
        tree = run.ports.tree
        assert tree is not None
        before = await run.snapshot(self.shown, "before conflict")
        await repo.show_conflict(conflict)
        marked = await run.snapshot(self.shown, "with conflict markers")
        failed = await self.climb(self._conflict_job(conflict), "the rebase has conflicts")
        if failed is not None:
            await tree.restore(marked, before)
            return replace(
                failed, hint=f"Nothing was changed. By hand: git pull --rebase ({conflict.detail})"
            )
        after = await run.snapshot(self.shown, "conflict mended")
        touched = await changed_paths(run, marked, after)
        return await repo.resolve(conflict, touched=touched)

    def _conflict_job(self, conflict: Conflict) -> Job:
        root = self.repo().facts.root

        async def invoke(purpose: Purpose) -> CommandResult:
            began = time.monotonic()
            lines = [
                f"{path}:{number}: conflict marker"
                for path in conflict.paths
                if (root / path).is_file()
                for number, line in enumerate(
                    (root / path).read_bytes().splitlines(keepends=True), 1
                )
                if line.startswith(MARKERS)
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
            scope=scope_for(
                write=tuple(conflict.paths),
                protect=self.graph.run.ports.workflow.protect,
                workflow_file=None,
                nature="other",
            ),
            fix=Fix(agent="conflict-fixer"),
            escalate=Escalate(),
            retry=Retry(),
        )
