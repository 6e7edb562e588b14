"""The model side of a run behind one door; imported when the first model is asked, never before."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

import pydantic_ai

from runner import price
from runner.brief import FIXED_BYTES, PACKET_BYTES
from runner.conversation import MainConversation
from runner.events import ModelResponded
from runner.models import Models
from runner.models.exchange import LEAST_OUTPUT_TOKENS, UNSEEN_TOKENS
from runner.money import Purse
from runner.outcome import Usage, add_cost
from runner.plan import MAIN
from runner.subagent import SubagentTask, run_subagent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from runner.brief import DelegateReport, HandoverFacts
    from runner.engine.state import MainAsk, SubagentAsk
    from runner.events import Event, Sink
    from runner.outcome import Mend
    from runner.prepare import Prepared
    from runner.tools import DelegateItem


class ModelWorkers:
    """Runs subagents and holds the one main conversation of a run."""

    def __init__(
        self,
        *,
        prepared: Prepared,
        emit: Sink,
        token: str,
        delegate: Callable[[Sequence[DelegateItem], str], Awaitable[Sequence[DelegateReport]]],
        facts: Callable[[], Awaitable[HandoverFacts]],
    ) -> None:
        # The library would greet the user across the live tree. Its own switch, made for programs.
        pydantic_ai.BANNER_ENABLED = False
        config, options = prepared.config, prepared.options
        self._purse = Purse("run", usd=prepared.budget.usd, tokens=prepared.budget.tokens)
        self._listeners, self._choices = emit, prepared.choices
        self._roster, self._root = tuple(prepared.agents.values()), prepared.root
        self._token, self._delegate, self._facts = token, delegate, facts
        self._prices = {**config.prices, **options.prices}
        self._models = Models(
            purse=self._purse,
            emit=self._emit,
            providers={**config.providers, **options.providers},
            environ=prepared.environ,
            root=prepared.root,
            prices=self._prices,
        )
        self._main: MainConversation | None = None
        self._purses: dict[str, Purse] = {}
        self._rows: dict[tuple[str, int], list[ModelResponded]] = {}

    def keep_back(self) -> None:
        """Keep what one packet to main takes at worst out of subagents' reach, half at most."""
        purse, priced_as = self._purse, self._models.priced_as(self._choices[MAIN].id)
        if purse.usd is not None and priced_as is not None:
            tokens = FIXED_BYTES + PACKET_BYTES + UNSEEN_TOKENS  # no token is less than a byte
            usd = price.worst_case(priced_as, tokens, LEAST_OUTPUT_TOKENS, prices=self._prices)
            purse.keep_back = min(usd or Decimal(0), purse.usd / 2)

    async def subagent(self, ask: SubagentAsk) -> Mend:
        """Run a fresh subagent to its end."""
        task = SubagentTask(
            step=ask.step,
            attempt=ask.attempt,
            agent=ask.agent,
            role=ask.role,
            model_id=self._choices[ask.role].id,
            brief=ask.brief,
            permit=ask.permit,
            token=self._token,
            outputs=ask.outputs,
            purse=self._purse_of(ask.step, ask.permit.usd),
        )
        mend = await run_subagent(task, models=self._models, emit=self._emit)
        return self._by_ledger(mend, ask.step, ask.attempt)

    async def main(self, ask: MainAsk) -> Mend:
        """Append a message to the main conversation and let the main agent work."""
        if self._main is None:
            self._main = MainConversation(
                self._models,
                self._choices[MAIN].id,
                root=self._root,
                roster=self._roster,
                emit=self._emit,
                facts=self._facts,
                token=self._token,
                delegate=self._delegate,
            )
        mend = await self._main.turn(
            ask.text,
            step=ask.step,
            attempt=ask.attempt,
            permit=ask.permit,
            outputs=ask.outputs,
            purse=self._purse_of(ask.step, None),
        )
        return self._by_ledger(mend, ask.step, ask.attempt)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._models.aclose()

    def _emit(self, event: Event) -> None:
        """Pass an event on, keeping the ledger's rows."""
        if isinstance(event, ModelResponded):
            self._rows.setdefault((event.step, event.attempt), []).append(event)
        self._listeners(event)

    def _by_ledger(self, mend: Mend, step: str, attempt: int) -> Mend:
        """Let the ledger say what an attempt used: it has lost and refused requests too."""
        usage = Usage()
        known: Decimal | None = Decimal(0)
        for row in self._rows.pop((step, attempt), []):
            usage, known = usage + row.usage, add_cost(known, row.cost_usd)
        return replace(mend, usage=usage, cost=known)

    def _purse_of(self, step: str, usd: Decimal | None) -> Purse:
        """Return the step's own purse, one for all its attempts, part of the run's."""
        return self._purses.setdefault(step, Purse(step, usd=usd, parent=self._purse))
