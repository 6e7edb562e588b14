"""The model side of a run as a session sees it: loaded when the first model is asked, or never."""

from __future__ import annotations

from contextlib import asynccontextmanager
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING

import anyio

from runner.events import Notice
from runner.outcome import HandedBack, Mend, Usage
from runner.plan import MAIN, Prompt, Uses
from runner.plan import Run as RunStep
from runner.recalled import lost_rows
from runner.report import Baseline
from runner.workspace.environment import secret_values

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    from anyio.abc import TaskGroup

    from runner.brief import HandoverFacts
    from runner.engine.state import MainAsk, Run, SubagentAsk, Workers
    from runner.events import Sink
    from runner.history import Tried
    from runner.journal import Journal
    from runner.plan import Step
    from runner.policy import Outlook
    from runner.prepare import Prepared
    from runner.progress import Progress
    from runner.recorded import Recorded
    from runner.workers import ModelWorkers
    from runner.workspace.masking import Mask


class ModelSide:
    """Who is asked in one run, what was learned from earlier ones, what it would have cost."""

    def __init__(
        self,
        prepared: Prepared,
        journal: Journal,
        run_id: str,
        emit: Sink,
        sinks: list[Sink],
        *,
        mask: Mask,
        recorded: Recorded | None = None,
    ) -> None:
        self._mask = mask
        self._prepared, self._journal, self._run_id = prepared, journal, run_id
        self._emit, self._sinks, self._recorded = emit, sinks, recorded
        self._workers: ModelWorkers | None = None
        self._loading = anyio.Lock()
        self._without_history = False
        """It cannot be read, which has been said."""
        self._beside: TaskGroup | None = None
        """Goes on beside the work, and is cancelled when that is done."""

    def book_lost(self) -> None:
        """Book the requests that were lost with an earlier process: each may have to be paid."""
        for row in lost_rows(self._recorded.said) if self._recorded else ():
            self._emit(row)

    @asynccontextmanager
    async def beside(self) -> AsyncGenerator[None]:
        """Let what main needs go on beside the work inside, and end with it."""
        async with anyio.create_task_group() as self._beside:
            yield
            if self._workers is not None:
                await self._workers.rest()
            self._beside.cancel_scope.cancel()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._workers is not None:
            await self._workers.aclose()

    async def workers(self, run: Run) -> Workers:
        """Return who is asked in this run: models, or besides them the agent that called it."""
        return HandBack(self, run) if run.hosted(MAIN) else await self.load(run)

    async def load(self, run: Run) -> ModelWorkers:
        """Load the model side, in a thread: it takes seconds, and commands go on meanwhile."""
        async with self._loading:
            if self._workers is not None:
                return self._workers
            # Told to end, the run does not wait for it.
            await anyio.to_thread.run_sync(_import_workers, abandon_on_cancel=True)
            from runner.engine.delegate import delegate  # noqa: PLC0415  as the next
            from runner.workers import ModelWorkers  # noqa: PLC0415  the one lazy door to models

            assert self._beside is not None, "models are asked while the run goes on"
            # A provider's error may hold the key that it was asked with; and agents read files.
            self._mask.learn(secret_values(self._prepared.environ))
            workers = ModelWorkers(
                prepared=self._prepared,
                emit=self._emit,
                token=self._run_id,
                delegate=lambda items, step: delegate(run, items, step),
                facts=lambda: _handover(run),
                progress=self._progress(),
                past=self._past(),
                stopped=lambda: bool(run.stop),
                spawn=self._beside.start_soon,
                recorded=self._recorded,
            )
            self._sinks.append(workers.hear)
            asks_main = run.available(MAIN) and not run.hosted(MAIN)
            if asks_main and any(map(_escalates, self._prepared.steps)):
                workers.keep_back()
            self._workers = workers
            return workers

    async def outlook(
        self,
        run: Run,
        kind: str,
        roles: Sequence[str],
        irreversible: bool,  # noqa: FBT001  as the port says it
    ) -> Outlook | None:
        """Estimate what the rungs cost for a failure, just before a model is asked.

        `None` where main is the agent that called this run: its price is not known here.
        """
        if run.hosted(MAIN):
            return None
        workers = await self.load(run)
        return workers.outlook(kind, roles, irreversible)

    def _past(self) -> Sequence[Tried]:
        """Return what was tried before this run; nothing is added while it goes on."""
        if self._prepared.tape is not None:
            return ()  # the same, whenever and wherever it is replayed
        from runner.historyfile import recall  # noqa: PLC0415  only runs with models ask for it

        past, trouble = recall(self._state_root())
        if trouble:
            self._without_history = True
            self._emit(Notice(trouble))
        return past

    def _state_root(self) -> Path:
        """Return the directory of all the runner's state, of which this repository's is a part."""
        return self._prepared.state.parent.parent

    def remember(self) -> None:
        """Add what models tried to the history, for later runs."""
        # Models that an earlier life asked tried something, too.
        none_asked = self._workers is None and self._recorded is None
        if none_asked or self._without_history:
            return
        if self._prepared.options.replay is not None:
            return  # no model has tried anything
        from runner.historyfile import record  # noqa: PLC0415  only runs with models ask for it

        trouble = record(self._journal, self._run_id, self._prepared.state.name, self._state_root())
        if trouble:
            self._emit(Notice(trouble))

    def _progress(self) -> Progress:
        """Return what is known of the steps until now, and of past runs."""
        from runner.progress import Progress  # noqa: PLC0415  only runs with models ask for it

        past = () if self._prepared.tape else self._journal.past(self._run_id)
        progress = Progress(self._prepared.steps, past)
        for record in self._journal.records(self._run_id):
            progress.hear(record.event, record.at)
        return progress

    def lacked(self, run: Run, code: int) -> dict[str, str]:
        """Say what the budget did not cover, and what to give more of."""
        if code != 3:
            return {}
        from runner import advice  # noqa: PLC0415  few runs end so

        if run.unpaid is None:
            return {"advice": advice.for_time(advice.means_of(self._prepared))}
        ending, means = run.unpaid.ending, advice.means_of(self._prepared)
        return {"lacked": ending.detail, "advice": advice.for_budget(ending, means)}

    def baseline(self) -> Baseline:
        """Estimate what the run's work would have cost otherwise; nothing if no model was asked."""
        if self._workers is None or self._prepared.options.host:
            return Baseline()
        return self._workers.baseline(self._journal.events(self._run_id))


class HandBack:
    """Workers whose main agent called this run: what is for it ends the attempt.

    The models' side is loaded for subagents only, so that a run without a cheap model needs none.
    """

    def __init__(self, side: ModelSide, run: Run) -> None:
        self._side, self._run = side, run

    async def subagent(self, ask: SubagentAsk) -> Mend:
        """Run a fresh subagent to its end."""
        if self._run.hosted(ask.role):
            return _handed_back(ask.brief)
        return await (await self._side.load(self._run)).subagent(ask)

    async def main(self, ask: MainAsk) -> Mend:
        """Hand the message back."""
        return _handed_back(ask.text)


def _handed_back(packet: str) -> Mend:
    return Mend(HandedBack(packet), Usage(), Decimal(0), 0.0)


def _escalates(step: Step) -> bool:
    """Tell whether a packet to main may come of a step."""
    match step.kind:
        case Uses(workflow):
            return any(map(_escalates, workflow.steps))
        case RunStep(escalate=escalate) | Prompt(escalate=escalate):
            return escalate is not None
        case _:
            return False


def _import_workers() -> None:
    import_module("runner.workers")


async def _handover(run: Run) -> HandoverFacts:
    from runner.brief import HandoverFacts  # noqa: PLC0415  needed by few runs

    lines = tuple(
        f"{outcome.id}: {outcome.status}" + (f" at rung {outcome.rung}" if outcome.rung else "")
        for outcome in run.outcomes.values()
    )
    tree, now = run.ports.tree, await run.snapshot("", "hand-over")
    stat = await tree.stat(run.start_tree, now) if tree else ""
    return HandoverFacts(lines, stat)
