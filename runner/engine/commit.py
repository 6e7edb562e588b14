"""Commits exactly the tree that passed."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.engine import mend
from runner.engine.checks import ROUNDS, Check, Shipping
from runner.engine.hooks import hook_job, hook_scope, wanted
from runner.engine.jobs import scope_of
from runner.engine.roles import changed_paths
from runner.engine.state import SubagentAsk
from runner.events import AttemptFinished, AttemptStarted, GitFact, GitIntent
from runner.expressions import render
from runner.git.message import by_rule, listed, problems, with_trailers
from runner.globs import matches_any
from runner.outcome import Attempt, Done, Rung, Status, StepOutcome, Verdict
from runner.plan import Commit, Run
from runner.text import fence, head_tail, one_line
from runner.tools import Permit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.engine.lock import Lock
    from runner.git import Staged


@dataclass(slots=True)
class Committing(Shipping):
    """One commit step under way."""

    kept_out: set[str] = field(default_factory=set[str])
    """Paths that hooks changed and that are none of theirs."""

    def kind(self) -> Commit:
        """Return what the step asks for."""
        assert isinstance(self.step.kind, Commit)
        return self.step.kind

    async def go(self, lock: Lock) -> StepOutcome:
        """Bring checks, hooks and tree together, then commit."""
        self.repo()
        refused = self.unpassed()
        if refused is not None:
            return refused
        async with lock.sole(self.graph.run.place(self.shown)):
            for _ in range(ROUNDS):
                outcome = await self._round()
                if outcome is not None:
                    return outcome
        return self.end(
            Status.FAILED,
            f"hooks and checks did not settle on one tree in {ROUNDS} rounds",
            hint="A hook changes files each time it runs. Run it by hand, or use --no-hooks.",
        )

    async def _round(self) -> StepOutcome | None:
        """Try once; `None` when a hook or a mend changed files, so that all must be seen again."""
        run, checks = self.graph.run, self.checks()
        failed, now = await self.renew(checks)
        if failed is not None:
            return failed
        staged = await self._prepare(now)
        if staged is None:
            return self.end(Status.SKIPPED, "nothing to commit")
        hooked = await self._pre_commit(staged, now)
        if not isinstance(hooked, tuple):
            return hooked
        staged, index_only = hooked
        if staged.left_out or staged.partly or index_only:
            broken = await self._clean(staged, checks)
            if broken:
                return self._not_alone(staged, broken)
        message = await self._message(staged, checks)
        if isinstance(message, StepOutcome):
            return message
        if await run.snapshot(self.shown, "before commit") != now:
            return None
        return await self._commit(staged, message, checks)

    async def _prepare(self, now: str) -> Staged | None:
        """Stage what this commit takes up of the tree as it is now."""
        run = self.graph.run
        assert run.ports.start is not None
        paths = await changed_paths(run, run.start_tree, now) & run.marks.blobs.keys()
        paths -= self.kept_out
        return await self.repo().prepare(self.kind().files, start=run.ports.start, run_paths=paths)

    async def _pre_commit(
        self, staged: Staged, now: str
    ) -> tuple[Staged, bool] | StepOutcome | None:
        """Run the hook; return what is to be committed and whether only the index was changed."""
        repo, run = self.repo(), self.graph.run
        changed = repo.hooks_changed()
        if changed:
            reason = f"hooks changed during the run: {', '.join(changed)}"
            return self.end(Status.FAILED, reason, code=5)
        if not wanted(self, "pre-commit"):
            return staged, False
        seen, earlier = now, len(self.attempts)

        async def stage() -> Staged:
            nonlocal staged, seen
            current = await run.snapshot(self.shown, "before hook")
            if current != seen:
                staged, seen = await self._prepare(current) or staged, current
            return staged

        job = hook_job(self, "pre-commit", stage=stage)
        failed = await self.climb(job, "the pre-commit hook fails")
        after = await run.snapshot(self.shown, "after hook")
        touched = await changed_paths(run, now, after)
        if touched:
            out = {path for path in touched if not hook_scope(self).allows(path)}
            self.kept_out |= out
            run.mended |= touched - out
            models = (a for a in self.attempts[earlier:] if a.rung is not Rung.COMMAND)
            if failed is None or not any(models):
                return None
        if failed is not None:
            return failed
        taken = await repo.take_up(staged, touched=touched, allows=hook_scope(self).allows)
        if taken.refused:
            run.say(
                f"hook changes out of scope are left out: {', '.join(taken.refused)}", self.shown
            )
        if taken.staged is None:
            return self.end(Status.SKIPPED, "nothing left to commit after the hook")
        return taken.staged, bool(taken.changed)

    async def _clean(self, staged: Staged, checks: Sequence[Check]) -> str:
        """Run the checks on a clean checkout of exactly what will be committed."""
        if not checks:
            return ""
        run = self.graph.run
        directory = Path(tempfile.mkdtemp(prefix="checkout-", dir=run.ports.run_dir))
        try:
            await self.repo().checkout(staged, directory)
            if run.ports.tree is not None:
                await run.ports.tree.link_ignored(directory)
            return await self.on_clean_checkout(checks, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _not_alone(self, staged: Staged, broken: str) -> StepOutcome:
        left = ", ".join(staged.left_out[:8]) + (" ..." if len(staged.left_out) > 8 else "")
        return self.end(
            Status.FAILED,
            f"check {broken!r} passes in the work tree but not on what would be committed",
            hint=f"Left out: {left}. Take them up with `commit: {{files: all}}`, or delete them.",
        )

    # -- message -----------------------------------------------------------------------------------

    async def _message(self, staged: Staged, checks: Sequence[Check]) -> str | StepOutcome:
        """Write the message, let its hooks see it, check it."""
        text = await self._words(staged, checks)
        changed = [a for a in self.graph.run.mended if a in staged.paths]
        trailers = {
            "Runner-Run": self.graph.run.ports.run_id,
            "Runner-Step": self.shown,
            "Runner-Verified": ", ".join(check.shown for check in checks),
            "Runner-Mended": listed(changed),
            "Runner-Protected": listed(self._lifted(changed)),
        }
        text = with_trailers(text, {key: value for key, value in trailers.items() if value})

        async def stage() -> Staged:
            return staged

        with tempfile.TemporaryDirectory(dir=self.graph.run.ports.run_dir) as folder:
            file = Path(folder) / "COMMIT_EDITMSG"
            file.write_text(text, "utf-8", "surrogateescape")
            for name in ("prepare-commit-msg", "commit-msg"):
                if not wanted(self, name):
                    continue
                job = hook_job(self, name, stage=stage, message_file=file)
                job = replace(
                    job, fix=None, escalate=None, unmended="no agent can write the message"
                )
                failed = await self.climb(job, f"the {name} hook refuses the message")
                if failed is not None:
                    return failed
            # Hooks may write what is no UTF-8; git keeps such bytes, and so does the commit.
            return file.read_text("utf-8", "surrogateescape")

    def _lifted(self, mended: Sequence[str]) -> list[str]:
        """Return the mended paths that are protected unless a step's `fix.write` names them."""
        run = self.graph.run
        named = tuple(
            glob
            for step, _ in run.ran.values()
            if isinstance(step.kind, Run)
            for glob in scope_of(run, step, step.kind.command, step.kind.fix).named
        )
        return [path for path in sorted(mended) if matches_any(named, path)]

    async def _words(self, staged: Staged, checks: Sequence[Check]) -> str:
        kind = self.kind()
        rule = by_rule(staged.changes, [check.shown for check in checks])
        if kind.message != "auto":
            return render(kind.message, self.names.look_up)
        if kind.agent is None:
            return rule
        spec = self.graph.run.ports.agents[kind.agent]
        if not self.graph.run.available(spec.model):
            return rule
        written = await self._ask(kind.agent, staged)
        wrong = problems(written)
        if not written or wrong:
            why = "; ".join(wrong) or "it wrote none"
            self.graph.run.say(
                f"message of {kind.agent!r} not taken ({why}); by rule instead", self.shown
            )
            return rule
        return written

    async def _ask(self, name: str, staged: Staged) -> str:
        """Ask a cheap subagent for a message; whatever it says is checked like any other."""
        run, number = self.graph.run, len(self.attempts) + 1
        spec = run.ports.agents[name]
        model = run.ports.choices[spec.model].id
        run.ports.emit(AttemptStarted(self.shown, number, Rung.SUBAGENT, model, name))
        workers = await run.ports.workers()
        permit = Permit(
            root=run.ports.root,
            allows=lambda _: False,
            why_not=lambda path: f"{path}: a message writer changes no files",
            turns=spec.turns,
            seconds=120.0,
            tools=(),
        )
        asked = await workers.subagent(
            SubagentAsk(
                step=self.shown,
                attempt=number,
                agent=spec,
                role=spec.model,
                brief=_message_task(staged, run.ports.run_id),
                permit=permit,
            )
        )
        text = (
            str(asked.ending.outputs.get("message", "")) if isinstance(asked.ending, Done) else ""
        )
        attempt = Attempt(
            number,
            Rung.SUBAGENT,
            model,
            Verdict.PASSED if text and not problems(text) else Verdict.HARD,
            one_line(mend.said(asked.ending) or "no message", 200),
            requests=asked.usage.requests,
            cost_usd=asked.cost,
            seconds=asked.seconds,
        )
        self.attempts.append(attempt)
        run.ports.emit(AttemptFinished(self.shown, attempt))
        return text

    # -- the commit itself -------------------------------------------------------------------------

    async def _commit(self, staged: Staged, message: str, checks: Sequence[Check]) -> StepOutcome:
        repo, run = self.repo(), self.graph.run
        intent = {"parent": staged.parent, "tree": staged.tree, "run": run.ports.run_id}
        run.ports.emit(GitIntent(self.shown, "commit", intent))
        fact = await repo.commit(staged, message)
        facts = {"sha": fact.sha, "ref": fact.ref, "branch": fact.ref.removeprefix("refs/heads/")}
        run.ports.emit(GitFact(self.shown, "commit", facts))
        run.committed = fact.sha
        # What is not left out is in the commit, or was no change to the one before.
        run.mended &= set(staged.left_out)
        if staged.left_out:
            run.say(f"left out of the commit: {', '.join(staged.left_out)}", self.shown)
        if not checks:
            run.say("committed without a check: this step needs none", self.shown)
        subject = message.splitlines()[0]
        return self.end(
            Status.SUCCEEDED, outputs={"sha": fact.sha, "ref": fact.ref, "subject": subject}
        )


def _message_task(staged: Staged, token: str) -> str:
    """Write the brief of the agent that words a commit."""
    diff = fence(head_tail(staged.diff, 10_000), "staged diff", token=token)
    stat = fence(head_tail(staged.stat, 2_000), "files", token=token)
    return f"Write the message of a commit with these changes.\n\n{stat}\n\n{diff}\n"
