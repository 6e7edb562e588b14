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
    ModelRetried,
    Notice,
    Restored,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFinished,
    StepPlan,
    StepStarted,
)
from runner.outcome import Attempt, Rung, Status, StepOutcome
from runner.plan import KEEPALIVE
from runner.report.nouns import (
    Baseline,
    Break,
    GitReport,
    ModelReport,
    PrefixReport,
    Report,
    RungReport,
    Spent,
    StepReport,
    StepStatus,
    Total,
    TraceReport,
)
from runner.telemetry.identity import trace_id

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.events import Continuity


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
        self._ledger: list[ModelResponded] = []
        self._total = Total()
        self._models: dict[str, ModelReport] = {}
        self._by_rung: dict[Rung, Total] = {}
        self._by_step: dict[str, Total] = {}
        self._by_attempt: dict[tuple[str, int, str, str], Spent] = {}
        self._prices: tuple[str, str] | None = None
        self._unpaid = Decimal(0)
        self._conversations: set[str] = set()
        self._prefixes = 0
        self._breaks: list[Break] = []
        self._git: dict[str, str] = {}
        self._notices: list[str] = []
        self._scripted = False
        self._life = (1, "")
        """The number of its last life, and the `TRACEPARENT` that was given to that."""

    def add(self, event: Event) -> None:
        """Take up the next event."""
        match event:
            case RunStarted():
                self._begin(event)
            case RunResumed():
                self._end, self._life = None, (event.life, event.trace_parent)
            case RunFinished():
                self._end = event
            case StepStarted(step, continued):
                self._begun.add(step)
                self._outcomes.pop(step, None)
                if not continued:
                    # A resumed run that begins a step anew tries it anew, too.
                    self._attempts.pop(step, None)
            case AttemptStarted(step, number, rung):
                self._rung_of[step, number] = rung
            case AttemptFinished(step, attempt):
                # One that was cut off goes on under its number.
                tried = self._attempts.get(step, [])
                self._attempts[step] = [o for o in tried if o.number != attempt.number] + [attempt]
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
        return Report(
            run_id=start.run_id,
            workflow=start.workflow,
            status=end.status if end else "running" if alive else "killed",
            exit_code=end.exit_code if end else None,
            seconds=end.seconds if end else seconds,
            cost_usd=self._total.cost_usd,
            scripted=start.scripted or self._scripted,
            replayed=start.replayed,
            git=self._git_report(),
            sandbox=start.sandbox,
            state_dir=start.state_dir,
            models=dict(self._models),
            prefix=PrefixReport(self._prefixes, len(self._conversations), tuple(self._breaks)),
            steps=self._steps(alive=alive),
            rungs=self._rungs(),
            known_cost_usd=self._total.known_usd,
            scripted_usd=self._unpaid,
            file=start.file,
            root=start.root,
            started_at=start.started_at,
            budget_usd=start.budget_usd,
            budget_seconds=start.budget_seconds,
            budget_given=_usd_given(start),
            lacked=end.lacked if end else "",
            advice=end.advice if end else "",
            notices=tuple(self._notices),
            uncommitted=end.uncommitted if end else (),
            baseline=Baseline(end.inline_usd, end.switch_usd) if end else Baseline(),
            ledger=tuple(self._ledger),
            by_attempt=tuple(self._by_attempt.values()),
            by_step=dict(self._by_step),
            prices=self._prices,
            trace=self._trace(),
        )

    def _trace(self) -> TraceReport | None:
        if not self._start.trace_file:
            return None
        trace = trace_id(self._start.run_id, *self._life)
        return TraceReport(trace, self._start.trace_file)

    def _begin(self, event: RunStarted) -> None:
        # A resumed run starts again: what its earlier life paid and finished still counts.
        self._start = event
        self._end, self._life = None, (1, event.trace_parent)
        self._plans = {plan.id: plan for plan in event.steps}
        self._models = {
            role: ModelReport(asked) for role, asked in event.models.items()
        } | self._models

    def _pay(self, event: ModelResponded) -> None:
        # What was said is in the journal; rows are held in memory while the run goes on.
        row = replace(event, messages="")
        self._ledger.append(row)
        self._total = self._total.plus(row)
        before = self._models.get(row.role, ModelReport(row.asked)).total
        self._models[row.role] = ModelReport(row.asked, before.plus(row))
        rung = self._rung(row)
        self._by_rung[rung] = self._by_rung.get(rung, Total()).plus(row)
        self._by_step[row.step] = self._by_step.get(row.step, Total()).plus(row)
        key = (row.step, row.attempt, row.role, row.asked)
        known = self._by_attempt.get(key)
        spent = (known.total if known else Total()).plus(row)
        self._by_attempt[key] = Spent(row.step, row.attempt, rung, row.role, row.asked, spent)
        if len(row.prices) == 2 and row.cost_usd is not None:
            self._prices = (row.prices[0], row.prices[1])
        self._unpaid += (row.cost_usd or 0) * row.scripted
        self._scripted |= row.scripted
        if row.continuity is not None:
            self._guard(row, row.continuity)

    def _rung(self, row: ModelResponded) -> Rung:
        """A keep-alive is of main's conversation, and of no attempt."""
        otherwise = Rung.MAIN if row.continuity or row.role == KEEPALIVE else Rung.SUBAGENT
        return self._rung_of.get((row.step, row.attempt), otherwise)

    def _guard(self, row: ModelResponded, continuity: Continuity) -> None:
        self._prefixes += 1
        self._conversations.add(row.conversation)
        if continuity.broken:
            self._breaks.append(Break(self._prefixes, row.step, continuity.how))

    def _note(self, event: Event) -> None:
        match event:
            case Notice(text, step):
                self._notices.append(f"{step}: {text}" if step else text)
            case ModelRetried():
                self._notices.append(f"{event.step}: {event.words}" if event.step else event.words)
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
            tried = tuple(self._attempts.get(step, ()))
            outcome = replace(outcome, attempts=tried, cost_usd=self._cost_of(step))
        if outcome is None:
            return StepReport(
                step,
                plan.kind,
                plan.title,
                self._open_status(step, alive=alive),
                cost_usd=self._cost_of(step),
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
            cost_usd=self._cost_of(step, outcome.cost_usd),
            outputs=outcome.outputs,
            log=outcome.log,
            attempts=outcome.attempts or tuple(self._attempts.get(step, ())),
            tail=outcome.tail,
            hint=outcome.hint,
            may_fail=step in self._start.may_fail,
            places=outcome.places,
        )

    def _cost_of(self, step: str, otherwise: Decimal | None = Decimal(0)) -> Decimal | None:
        total = self._by_step.get(step)
        return otherwise if total is None else total.cost_usd

    def _open_status(self, step: str, *, alive: bool) -> StepStatus:
        if self._end is not None:
            return "cancelled"
        if step not in self._begun:
            return "pending"
        return "running" if alive else "interrupted"

    def _rungs(self) -> tuple[RungReport, ...]:
        return tuple(self._rung_report(rung) for rung in Rung)

    def _rung_report(self, rung: Rung) -> RungReport:
        attempts = dict(self._attempts) | {
            outcome.id: list(outcome.attempts) for outcome in self._outcomes.values()
        }
        here = [one for tried in attempts.values() for one in tried if one.rung is rung]
        return RungReport(
            rung,
            steps=sum(outcome.rung is rung for outcome in self._outcomes.values()),
            attempts=len(here),
            seconds=sum(one.seconds for one in here),
            total=self._by_rung.get(rung, Total()),
        )


def _usd_given(start: RunStarted) -> bool:
    """Tell whether somebody chose how much money the run may cost."""
    if start.budget_default is None:
        return start.budget_given
    return "usd" not in start.budget_default
