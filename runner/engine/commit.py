"""Commits exactly the tree that passed."""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass, replace
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
from runner.flight import WORDING
from runner.git.message import by_rule, listed, problems, with_trailers
from runner.globs import matches_any
from runner.outcome import Attempt, Done, Rung, Status, StepOutcome, Verdict
from runner.plan import Commit, Run
from runner.text import fence, head_tail, one_line
from runner.tools import Permit
from runner.workspace.plainfile import plain_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.engine.lock import Lock
    from runner.flight import Flight
    from runner.git import Staged


MESSAGE_LIMIT = 1_000_000
"""Bytes of a message that a hook may leave."""


@dataclass(slots=True)
class Committing(Shipping):
    """One commit step under way."""

    hooked: Staging | None = None
    """What the hook passed on that an earlier life was cut off in."""

    def kind(self) -> Commit:
        """Return what the step asks for."""
        assert isinstance(self.step.kind, Commit)
        return self.step.kind

    async def go(self, lock: Lock) -> StepOutcome:
        """Bring checks, hooks and tree together, then commit."""
        self.repo()
        flight = self.take_up()
        made = await self._made(flight) if flight is not None else None
        if made is not None:
            return made
        refused = self.unpassed()
        if refused is not None:
            return refused
        in_tree = flight is not None and bool(flight.base)
        async with self.graph.run.alone(lock, self.shown, in_tree=in_tree):
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
        if (flight := self.cut_off(f"{self.shown}:pre-commit")) is not None:
            return await self._hook_again(flight)
        failed, now = await self.renew(checks)
        if failed is not None:
            return failed
        staged = await self.stage_on(now)
        if staged is None:
            return self.end(Status.SKIPPED, "nothing to commit")
        await self.repo().refuse_keys(staged)
        if (said := self._said_before(staged)) is not None:
            return await self._commit(staged, said, checks)
        hooked = await self._pre_commit(staged, now)
        if not isinstance(hooked, tuple):
            return hooked
        staged, index_only = hooked
        await self.repo().refuse_keys(staged)
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

    async def stage_on(self, now: str) -> Staged | None:
        """Stage what this commit takes up of the tree as it is now."""
        run = self.graph.run
        assert run.ports.start is not None
        paths = await changed_paths(run, run.start_tree, now) & run.marks.blobs.keys()
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
        earlier = len(self.attempts)
        staging, failed = self._passed_on(staged), None
        if staging is None:
            staging = Staging(self, staged, now)
            failed = await self._climb_hook(staging)
        touched = await self._touched(now)
        if touched:
            models = (a for a in self.attempts[earlier:] if a.rung is not Rung.COMMAND)
            if failed is None or not any(models):
                return None
        if failed is not None:
            return failed
        staged = staging.staged
        taken = await repo.take_up(staged, touched=touched, allows=hook_scope(self).allows)
        if taken.refused:
            run.say(
                f"hook changes out of scope are left out: {', '.join(taken.refused)}", self.shown
            )
        if taken.staged is None:
            return self.end(Status.SKIPPED, "nothing left to commit after the hook")
        return taken.staged, bool(taken.changed)

    async def _climb_hook(
        self, staging: Staging, flight: Flight | None = None
    ) -> StepOutcome | None:
        job = hook_job(self, "pre-commit", stage=staging.renew)
        return await self.climb(job, "the pre-commit hook fails", flight)

    async def _touched(self, now: str) -> set[str]:
        """Return what a hook, or a mend of its failure, changed since *now*, and remember that."""
        run = self.graph.run
        changes, _ = await run.told_apart(now, await run.snapshot(self.shown, "after hook"))
        touched = {change.path for change in changes}
        out = {path for path in touched if not hook_scope(self).allows(path)}
        run.disown(out)
        run.set_mended(run.mended | (touched - out))
        return touched

    async def _hook_again(self, flight: Flight) -> StepOutcome | None:
        """Go on with the hook's mends that an earlier life was cut off in."""
        now = await self.graph.run.snapshot(self.shown, "before hook")
        staged = await self.stage_on(now)
        if staged is None:
            # Somebody else has committed it all: nothing is left that the hook could judge.
            await self._undo(flight)
            return None
        staging = Staging(self, staged, now)
        failed = await self._climb_hook(staging, flight)
        touched = await self._touched(flight.held_on)
        if staging.ran and not touched:
            self.hooked = staging
        return failed

    def _passed_on(self, staged: Staged) -> Staging | None:
        """Return what the hook has just passed on, where it is what is staged now; once."""
        hooked, self.hooked = self.hooked, None
        same = hooked and (hooked.staged.tree, hooked.staged.parent) == (staged.tree, staged.parent)
        return hooked if same else None

    async def _undo(self, flight: Flight) -> None:
        """Undo the mends of a hook that an earlier life left in the tree."""

        async def stage() -> Staged:
            raise AssertionError("it is not run")

        work = mend.Work(self.graph.run, hook_job(self, "pre-commit", stage=stage))
        await work.begin(flight)
        work.open_from = flight.before if flight.asked else ""
        await work.undo_all()

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
            message = plain_bytes(file, MESSAGE_LIMIT) or b""
            return message.decode("utf-8", "surrogateescape")

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
        written = self._written_before(staged)
        if written is None:
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
        run, key = self.graph.run, f"{self.shown}:{WORDING}"
        before = self.flight.wording if self.flight else None
        number = before.number if before else self.begun + 1
        begun = before.job_from if before else self.begun
        self.begun = max(self.begun, number)
        spec = run.ports.agents[name]
        model = run.ports.choices[spec.model].id
        run.ports.emit(
            AttemptStarted(self.shown, number, Rung.SUBAGENT, model, name, spec.model, key, begun)
        )
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
        # A later life has only what may be written down.
        outputs = {"message": text, "tree": staged.tree} if self._is_whole(text) else {}
        run.ports.emit(AttemptFinished(self.shown, attempt, outputs))
        return text

    def _is_whole(self, text: str) -> bool:
        """Tell whether the journal keeps a text as it is: it holds no secret."""
        return self.graph.run.ports.mask.text(text) == text

    # -- the commit itself -------------------------------------------------------------------------

    async def _commit(self, staged: Staged, message: str, checks: Sequence[Check]) -> StepOutcome:
        repo, run = self.repo(), self.graph.run
        left_out = json.dumps(staged.left_out)
        intent = {
            "parent": staged.parent,
            "tree": staged.tree,
            "run": run.ports.run_id,
            **({"message": message} if self._is_whole(message) else {}),
            "left_out": left_out,
        }
        run.ports.emit(GitIntent(self.shown, "commit", intent))
        fact = await repo.commit(staged, message)
        if not checks:
            run.say("committed without a check: this step needs none", self.shown)
        return self._settle(fact.sha, fact.ref, message.splitlines()[0], staged.left_out)

    def _settle(
        self, sha: str, ref: str, subject: str, left_out: Sequence[str], *, told: bool = False
    ) -> StepOutcome:
        """Write down what git did, unless an earlier life has; return how the step ended."""
        run = self.graph.run
        facts = {"sha": sha, "ref": ref, "branch": ref.removeprefix("refs/heads/")}
        if not told:
            run.ports.emit(GitFact(self.shown, "commit", {**facts, "subject": subject}))
        run.committed = sha
        # What is not left out is in the commit, or was no change to the one before.
        run.set_mended(run.mended & set(left_out))
        if left_out:
            run.say(f"left out of the commit: {', '.join(left_out)}", self.shown)
        return self.end(Status.SUCCEEDED, outputs={"sha": sha, "ref": ref, "subject": subject})

    # -- taken up again ----------------------------------------------------------------------------

    async def _made(self, flight: Flight) -> StepOutcome | None:
        """Return the outcome where an earlier life made the commit; `None` where it did not."""
        repo = self.repo()
        if flight.intent is None:
            return None
        facts = flight.intent.facts
        left_out = json.loads(facts.get("left_out", "[]"))
        if flight.fact is not None:
            fact = flight.fact.facts
            subject = fact.get("subject", "")
            return self._settle(fact["sha"], fact["ref"], subject, left_out, told=True)
        for one in await repo.commits_of(self.graph.run.ports.run_id):
            known = (one.step, one.parent, one.tree)
            if known == (self.shown, facts.get("parent"), facts.get("tree")):
                return self._settle(one.sha, repo.ref, one.subject, left_out)
        return None

    def _said_before(self, staged: Staged) -> str | None:
        """Return the message of the very commit that an earlier life was about to make."""
        intent = self.flight.intent if self.flight else None
        if intent is None or "message" not in intent.facts:
            return None
        same = (intent.facts.get("tree"), intent.facts.get("parent"))
        return intent.facts["message"] if same == (staged.tree, staged.parent) else None

    def _written_before(self, staged: Staged) -> str | None:
        """Return what an agent wrote on the same changes for an earlier life: not paid twice."""
        if self.flight is None or self.flight.outputs.get("tree") != staged.tree:
            return None
        return str(self.flight.outputs["message"])


@dataclass(slots=True)
class Staging:
    """What the hook of a commit finds in the index: what is to be committed as the tree is now."""

    committing: Committing
    staged: Staged
    seen: str
    """Tree that it was staged from."""
    ran: bool = False
    """Whether the hook has seen it in this life: then the private index has what it staged."""

    async def renew(self) -> Staged:
        """Stage anew where a hook, or a mend, has changed files since."""
        step, self.ran = self.committing, True
        current = await step.graph.run.snapshot(step.shown, "before hook")
        if current != self.seen:
            self.staged, self.seen = await step.stage_on(current) or self.staged, current
        return self.staged


def _message_task(staged: Staged, token: str) -> str:
    """Write the brief of the agent that words a commit."""
    diff = fence(head_tail(staged.diff, 10_000), "staged diff", token=token)
    stat = fence(head_tail(staged.stat, 2_000), "files", token=token)
    return f"Write the message of a commit with these changes.\n\n{stat}\n\n{diff}\n"
