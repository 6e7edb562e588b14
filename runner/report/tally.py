"""Folds a run's events into its report. Pure."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from runner.events import (
    AttemptFinished,
    AttemptStarted,
    Event,
    GitFact,
    ModelResponded,
    Notice,
    Restored,
    RunFinished,
    RunStarted,
    StepFinished,
    StepPlan,
    StepStarted,
)
from runner.outcome import Attempt, Rung, Status, StepOutcome, Usage, add_cost
from runner.report.nouns import (
    GitReport,
    ModelReport,
    PrefixReport,
    Report,
    RungReport,
    StepReport,
    StepStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterable


def summarise(events: Iterable[Event], *, alive: bool = True, until: float | None = None) -> Report:
    """Fold a run's events into its report; `Tally` does the same one event at a time."""
    tally = Tally()
    for event in events:
        tally.add(event)
    return tally.report(alive=alive, until=until)


_NO_RUN = RunStarted(
    run_id="", workflow="", file="", root="", state_dir="", models={}, budget_usd=None,
    budget_seconds=None, budget_given=True, scripted=False, sandbox="", git_before="", branch="",
    steps=(), started_at=0.0,
)  # fmt: skip


class Tally:
    """A report in the making: one event at a time, in order."""

    def __init__(self) -> None:
        self._start = _NO_RUN
        self._end: RunFinished | None = None
        self._plans: dict[str, StepPlan] = {}
        self._begun: set[str] = set()
        self._attempts: dict[str, list[Attempt]] = {}
        self._outcomes: dict[str, StepOutcome] = {}
        self._rung_of: dict[tuple[str, int], Rung] = {}
        self._models: dict[str, ModelReport] = {}
        self._spent: dict[str, tuple[Usage, Decimal | None]] = {}
        """By rung."""
        self._cost_of: dict[str, Decimal | None] = {}
        """By step."""
        self._known = Decimal(0)
        self._unpaid = Decimal(0)
        self._conversations: set[str] = set()
        self._prefixes = 0
        self._breaks: list[str] = []
        self._git: dict[str, str] = {}
        self._notices: list[str] = []
        self._scripted = False

    def add(self, event: Event) -> None:
        """Take up the next event."""
        match event:
            case RunStarted():
                self._begin(event)
            case RunFinished():
                self._end = event
            case StepStarted(step):
                self._begun.add(step)
            case AttemptStarted(step, number, rung):
                self._rung_of[step, number] = rung
            case AttemptFinished(step, attempt):
                self._attempts.setdefault(step, []).append(attempt)
            case StepFinished(outcome):
                self._outcomes[outcome.id] = outcome
            case ModelResponded():
                self._pay(event)
            case _:
                self._note(event)

    def report(self, *, alive: bool = True, until: float | None = None) -> Report:
        """Sum up what was heard so far.

        Args:
            alive: Whether the run, if its last event was not heard, is still going on.
            until: When such a run was last heard of, in seconds since the epoch.
        """
        start, end = self._start, self._end
        seconds = max(0.0, (until or start.started_at) - start.started_at)
        costs = [model.cost_usd for model in self._models.values()]
        return Report(
            run_id=start.run_id,
            workflow=start.workflow,
            status=end.status if end else "running" if alive else "killed",
            exit_code=end.exit_code if end else None,
            seconds=end.seconds if end else seconds,
            cost_usd=None if None in costs else self._known,
            scripted=start.scripted or self._scripted,
            git=self._git_report(),
            sandbox=start.sandbox,
            state_dir=start.state_dir,
            models=dict(self._models),
            prefix=PrefixReport(self._prefixes, len(self._conversations), tuple(self._breaks)),
            steps=self._steps(alive=alive),
            rungs=self._rungs(),
            known_cost_usd=self._known,
            scripted_usd=self._unpaid,
            file=start.file,
            root=start.root,
            started_at=start.started_at,
            budget_usd=start.budget_usd,
            budget_seconds=start.budget_seconds,
            budget_given=start.budget_given,
            notices=tuple(self._notices),
            uncommitted=end.uncommitted if end else (),
        )

    def _begin(self, event: RunStarted) -> None:
        # A resumed run starts again: what its earlier life paid and finished still counts.
        self._start = event
        self._end = None
        self._plans = {plan.id: plan for plan in event.steps}
        self._models = {
            role: ModelReport(asked) for role, asked in event.models.items()
        } | self._models

    def _pay(self, event: ModelResponded) -> None:
        before = self._models.get(event.role, ModelReport(event.asked))
        cost = add_cost(before.cost_usd, event.cost_usd)
        self._models[event.role] = ModelReport(event.asked, before.usage + event.usage, cost)
        rung = self._rung_of.get((event.step, event.attempt))
        if rung is None:
            rung = Rung.MAIN if event.prefix else Rung.SUBAGENT
        usage, cost = self._spent.get(rung, (Usage(), Decimal(0)))
        self._spent[rung] = (usage + event.usage, add_cost(cost, event.cost_usd))
        cost = self._cost_of.get(event.step, Decimal(0))
        self._cost_of[event.step] = add_cost(cost, event.cost_usd)
        self._known += event.cost_usd or 0
        self._unpaid += (event.cost_usd or 0) * event.scripted
        self._scripted |= event.scripted
        if event.prefix:
            self._guard(event)

    def _guard(self, event: ModelResponded) -> None:
        self._prefixes += 1
        self._conversations.add(event.conversation)
        if event.prefix not in ("first", "extends"):
            self._breaks.append(f"{event.step}: {event.prefix}")

    def _note(self, event: Event) -> None:
        match event:
            case Notice(text, step):
                self._notices.append(f"{step}: {text}" if step else text)
            case Restored(step, external=external) if external:
                names = ", ".join(external)
                self._notices.append(f"{step}: left as they are, changed by others since: {names}")
            case GitFact(action="commit", facts=facts):
                self._git |= {"after": facts.get("sha", ""), "branch": facts.get("branch", "")}
            case GitFact(action="push", facts=facts):
                self._git["remote_ref"] = facts.get("sha", "")
                where = (facts.get("remote", ""), facts.get("ref", "").removeprefix("refs/heads/"))
                self._git["pushed_to"] = " ".join(filter(None, where))
            case _:
                pass

    def _git_report(self) -> GitReport:
        end = self._end
        return GitReport(
            before=self._start.git_before,
            after=(end and end.git_after) or self._git.get("after", ""),
            branch=(end and end.branch) or self._git.get("branch") or self._start.branch,
            remote_ref=(end and end.remote_ref) or self._git.get("remote_ref", ""),
            pushed_to=self._git.get("pushed_to", ""),
        )

    def _steps(self, *, alive: bool) -> tuple[StepReport, ...]:
        # Work that the main agent started is in no plan: it comes after what is.
        ids = list(dict.fromkeys([*self._plans, *self._outcomes, *sorted(self._begun)]))
        return tuple(self._step(step, alive=alive) for step in ids)

    def _step(self, step: str, *, alive: bool) -> StepReport:
        plan = self._plans.get(step) or StepPlan(step, "run", "", ())
        outcome = self._outcomes.get(step)
        if outcome is not None and outcome.status is Status.CANCELLED and not outcome.attempts:
            # Whoever ended it could not tell what had been tried and paid until then.
            tried, cost = tuple(self._attempts.get(step, ())), self._cost_of.get(step, Decimal(0))
            outcome = replace(outcome, attempts=tried, cost_usd=cost)
        if outcome is None:
            return StepReport(
                step,
                plan.kind,
                plan.title,
                self._open_status(step, alive=alive),
                cost_usd=self._cost_of.get(step, Decimal(0)),
                attempts=tuple(self._attempts.get(step, ())),
            )
        return StepReport(
            step,
            plan.kind,
            plan.title,
            outcome.status.value,
            rung=outcome.rung,
            reason=outcome.reason,
            verified=outcome.verified,
            seconds=outcome.seconds,
            # The ledger knows what a step paid that was cut off before it could tell.
            cost_usd=self._cost_of.get(step, outcome.cost_usd),
            outputs=outcome.outputs,
            log=outcome.log,
            attempts=outcome.attempts or tuple(self._attempts.get(step, ())),
            tail=outcome.tail,
            hint=outcome.hint,
        )

    def _open_status(self, step: str, *, alive: bool) -> StepStatus:
        if self._end is not None:
            return "cancelled"
        if step not in self._begun:
            return "pending"
        return "running" if alive else "interrupted"

    def _rungs(self) -> tuple[RungReport, ...]:
        return tuple(self._rung(rung) for rung in Rung)

    def _rung(self, rung: Rung) -> RungReport:
        attempts = dict(self._attempts) | {
            outcome.id: list(outcome.attempts) for outcome in self._outcomes.values()
        }
        here = [one for tried in attempts.values() for one in tried if one.rung is rung]
        usage, cost = self._spent.get(rung, (Usage(), Decimal(0)))
        return RungReport(
            rung,
            steps=sum(outcome.rung is rung for outcome in self._outcomes.values()),
            attempts=len(here),
            seconds=sum(one.seconds for one in here),
            usage=usage,
            cost_usd=cost,
        )
