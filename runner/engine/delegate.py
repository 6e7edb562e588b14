"""Answers the main agent's `delegate` tool: declared steps and agent tasks, up to rung subagent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.brief import DelegateReport
from runner.engine.graph import MET
from runner.engine.jobs import job_of
from runner.engine.ladder import Climb
from runner.engine.lock import Held
from runner.engine.names import Names
from runner.engine.prompt import Asked
from runner.engine.state import shown_id
from runner.errors import RunnerError
from runner.events import StepFinished, StepStarted
from runner.outcome import Rung, Status, StepOutcome
from runner.plan import MAIN, Prompt, Run, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.engine import state
    from runner.engine.graph import Graph
    from runner.tools import DelegateItem


async def delegate(
    run: state.Run, items: Sequence[DelegateItem], caller: str
) -> list[DelegateReport]:
    """Do each item in turn; the caller holds the tree, so nothing else moves it meanwhile."""
    graph = run.callers[caller]
    done: set[str] = set()
    reports: list[DelegateReport] = []
    for number, item in enumerate(items, 1):
        if item.step:
            report = await _step(graph, item.step, caller, done)
        else:
            report = await _task(graph, item.agent, item.task, f"{caller}/{number}")
        if report.status == Status.SUCCEEDED and item.step:
            done.add(item.step)
        reports.append(report)
    return reports


async def _step(graph: Graph, wanted: str, caller: str, done: set[str]) -> DelegateReport:
    run = graph.run
    step = next((one for one in graph.steps if one.id == wanted), None)
    refusal = _refusal(graph, step, wanted, caller, done)
    if refusal or step is None:
        return DelegateReport(name=wanted, status="refused", evidence=refusal)
    shown = f"{caller}/{step.id}"
    outcomes = {
        one.id: run.outcomes[shown_id(graph.prefix, one)]
        for one in graph.steps
        if shown_id(graph.prefix, one) in run.outcomes
    }
    run.ports.emit(StepStarted(shown))
    try:
        names = Names(graph.inputs, run.ports.run_id, outcomes).for_step(step)
        job = job_of(run, step, shown, names)
        # The packet is the tool's answer: work that main started never comes back to it as a turn.
        outcome = await Climb(run, replace(job, escalate=None), Held()).go()
    except RunnerError as error:
        outcome = StepOutcome(shown, Status.FAILED, reason=error.message)
    run.ports.emit(StepFinished(outcome))
    return _report(step.id, outcome)


def _refusal(graph: Graph, step: Step | None, wanted: str, caller: str, done: set[str]) -> str:
    if step is None:
        known = ", ".join(one.id for one in graph.steps if isinstance(one.kind, Run))
        return f"there is no step {wanted!r}; steps that can be delegated: {known}"
    if not isinstance(step.kind, Run):
        return f"{wanted!r} is no command step; only those can be delegated"
    if step.secrets or step.network:
        return f"{wanted!r} names secrets or asks for network; the runner runs it itself"
    run = graph.run
    for need in step.needs:
        shown = f"{graph.prefix}/{need}" if graph.prefix else need
        met = shown in run.outcomes and run.outcomes[shown].status in MET
        if not met and shown != caller and need not in done:
            return f"{wanted!r} needs {need!r}, which has not succeeded yet"
    return ""


async def _task(graph: Graph, agent: str, task: str, shown: str) -> DelegateReport:
    run = graph.run
    if agent == MAIN or agent not in run.ports.agents:
        known = ", ".join(sorted(run.ports.agents))
        return DelegateReport(
            name=agent, status="refused", evidence=f"there is no agent {agent!r}; agents: {known}"
        )
    where = graph.steps[0].where
    step = Step(id=shown.rpartition("/")[2], kind=Prompt(text="", agent=agent), where=where)
    names = Names(graph.inputs, run.ports.run_id)
    run.ports.emit(StepStarted(shown))
    try:
        outcome = await Asked(run, step, shown, names, task=task).go(Held())
    except RunnerError as error:
        outcome = StepOutcome(shown, Status.FAILED, reason=error.message)
    run.ports.emit(StepFinished(outcome))
    return _report(agent, outcome)


def _report(name: str, outcome: StepOutcome) -> DelegateReport:
    files = sorted({path for attempt in outcome.attempts for path in attempt.files})
    tried = tuple(
        f"{a.rung} {a.verdict}: {a.reason}" for a in outcome.attempts if a.rung is not Rung.COMMAND
    )
    last = outcome.attempts[-1].summary if outcome.attempts else ""
    return DelegateReport(
        name=name,
        status=outcome.status.value,
        rung=outcome.rung.value if outcome.rung else "",
        diffstat=", ".join(files[:12]),
        tried=tried,
        evidence=outcome.tail or outcome.reason or last,
    )
