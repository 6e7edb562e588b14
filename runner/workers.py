"""The model side of a run behind one door; imported when the first model is asked, never before."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pydantic_ai

from runner import clock, price
from runner.brief import FIXED_BYTES, PACKET_BYTES
from runner.conversation import MainConversation
from runner.events import ModelResponded
from runner.history import timetable
from runner.keeper import Keeper
from runner.models import Models
from runner.models.exchange import LEAST_OUTPUT_TOKENS, UNSEEN_TOKENS
from runner.models.metered import smallest_answer
from runner.money import Purse
from runner.outcome import Mend, Usage, add_cost
from runner.outlook import VALUE_OF_TIME, Known, outlook_of
from runner.plan import MAIN
from runner.prepare import known_secrets
from runner.price import Remembered
from runner.recalled import attempted, main_talk, money_of
from runner.subagent import SubagentTask, run_subagent
from runner.whatif import Assumptions, baseline, observed
from runner.workspace.environment import secret_values
from runner.workspace.masking import Mask

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence

    from runner.agentloop import Worked
    from runner.brief import DelegateReport, HandoverFacts
    from runner.engine.state import MainAsk, SubagentAsk
    from runner.events import Event, Sink
    from runner.history import Tried
    from runner.policy import Outlook
    from runner.prepare import Prepared
    from runner.price import ClassPrices
    from runner.progress import Progress
    from runner.recorded import Recorded
    from runner.report import Baseline
    from runner.tools import DelegateItem

MOST_KEPT = Decimal("0.75")
"""Share of the budget that is kept back for a packet at most: subagents do the rest for little."""


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
        progress: Progress,
        stopped: Callable[[], bool],
        past: Sequence[Tried],
        spawn: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
        recorded: Recorded | None = None,
    ) -> None:
        # The library would greet the user across the live tree. Its own switch, made for programs.
        pydantic_ai.BANNER_ENABLED = False
        config, options = prepared.config, prepared.options
        self._recorded = recorded
        said = recorded.said if recorded else ()
        spent, self._spent = money_of(said)
        assert options.replay is None or prepared.tape, "a replay never reaches the network"
        self._purse = Purse("run", usd=prepared.budget.usd, tokens=prepared.budget.tokens)
        self._purse.carry(spent.usd, spent.tokens, disputed=spent.disputed)
        # As the journal's own, so that it has what was sent.
        mask = Mask({*known_secrets(prepared), *secret_values(prepared.environ)})
        self._mask = mask.text if mask else str
        self._listeners, self._choices = emit, prepared.choices
        self._roster, self._root = tuple(prepared.agents.values()), prepared.root
        self._token, self._delegate, self._facts = token, delegate, facts
        self._prices = {**config.prices, **options.prices}
        self._day = prepared.tape.day if prepared.tape else None
        self._models = Models(
            purse=self._purse,
            emit=self._emit,
            providers={**config.providers, **options.providers},
            environ=prepared.environ,
            root=prepared.root,
            prices=self._prices,
            caches=config.caches,
            strict_prefix=options.strict_prefix,
            said=said,
            waits=recorded.waits if recorded else {},
            tape=prepared.tape,
        )
        self._stopped = stopped
        warm = "off" not in (config.keep_warm, prepared.workflow.keep_warm)
        # The cache of an agent that called this run is not ours to keep.
        self._keeper = self._make_keeper(progress) if warm and not options.host else None
        self._spawn = spawn
        self._past = past
        self._repo = prepared.state.name
        worth = config.value_of_time
        self._value_of_time = VALUE_OF_TIME if worth is None else worth
        self._main: MainConversation | None = None
        self._purses: dict[str, Purse] = {}
        self._keeps_back = False
        self._rows: dict[tuple[str, int], list[ModelResponded]] = {}
        self._taken_up: set[tuple[str, int]] = set()
        open_main = self._choices[MAIN].available and not options.host
        if open_main and main_talk(said) is not None:
            # Its cache lives on, and what it holds tells what asking it costs.
            self._main = self._open_main()

    def keep_back(self) -> None:
        """Keep what the next packet to main takes at worst out of subagents' reach."""
        self._keeps_back = True
        talk = main_talk(self._recorded.said) if self._recorded else None
        seen = talk.answered.usage if talk and talk.answered else None
        # No token is less than a byte.
        self._keep_packet(seen.input_tokens + seen.output_tokens if seen else FIXED_BYTES)

    def _keep_packet(self, before: int) -> None:
        """Keep back for a packet after so many tokens of conversation, and only what is enough.

        A part of its price would buy nothing and be left over in the end.
        """
        purse, priced_as = self._purse, self._models.priced_as(self._choices[MAIN].id)
        if purse.usd is None or priced_as is None:
            return
        tokens = before + PACKET_BYTES + UNSEEN_TOKENS
        usd = price.worst_case(
            priced_as,
            tokens,
            LEAST_OUTPUT_TOKENS,
            self._day,
            prices=self._prices,
            hour=self._for_an_hour(),
        )
        most = min(purse.usd * MOST_KEPT, purse.usd - purse.spent)
        purse.keep_back = usd if usd is not None and usd <= most else Decimal(0)

    def _for_an_hour(self) -> bool:
        """Tell whether the next packet may be written to the cache for an hour, at that price."""
        if self._main is not None:
            return self._main.for_an_hour
        return self._keeper is not None and self._keeper.would_be_longer()

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
            mask=self._mask,
            recorded=self._take_up(ask.step, ask.attempt),
        )
        worked = await run_subagent(task, models=self._models, emit=self._emit)
        return self._by_ledger(worked, ask.step, ask.attempt)

    async def main(self, ask: MainAsk) -> Mend:
        """Append a message to the main conversation and let the main agent work.

        The run pays: a step's own money is its subagents', and an escalation follows on its end.
        """
        if self._main is None:
            self._main = self._open_main()
        self._take_up(ask.step, ask.attempt)
        worked = await self._main.turn(
            ask.text,
            step=ask.step,
            attempt=ask.attempt,
            permit=ask.permit,
            outputs=ask.outputs,
        )
        return self._by_ledger(worked, ask.step, ask.attempt)

    def _open_main(self) -> MainConversation:
        """Open the main conversation, or the one that an earlier life of the run held."""
        main = MainConversation(
            self._models,
            self._choices[MAIN].id,
            root=self._root,
            roster=self._roster,
            emit=self._emit,
            facts=self._facts,
            token=self._token,
            delegate=self._delegate,
            retention=self._keeper.retention if self._keeper else None,
            table=timetable(self._past),
            mask=self._mask,
            recorded=self._recorded,
        )
        if self._keeper is not None and self._recorded is not None:
            rows = (event for event in self._recorded.said if isinstance(event, ModelResponded))
            self._keeper.take_up(rows, longer=main.for_an_hour)
        self._keep(main)
        return main

    def _take_up(self, step: str, attempt: int) -> Recorded | None:
        """Return what earlier lives of the run recorded, for an attempt that goes on: once.

        What it used by then is booked already, and counts for the attempt.
        """
        key = (step, attempt)
        if self._recorded is None or key in self._taken_up:
            return None
        self._taken_up.add(key)
        before = attempted(self._recorded, step, attempt)
        if before is None:
            return None
        self._rows[key] = [*before.rows]
        return self._recorded

    def outlook(self, kind: str, roles: Sequence[str], irreversible: bool) -> Outlook:  # noqa: FBT001  as the port says it
        """Estimate what the rungs cost for one failure."""
        models = {role: self._choices[role].id for role in roles}
        main = self._choices[MAIN].id
        sent = self._main.sent if self._main else None
        tokens = sent.tokens if sent else 0
        cold = sent is None or clock.seconds() - sent.began > sent.retention
        return outlook_of(
            Known(
                kind=kind,
                repo=self._repo,
                past=self._past,
                roles=models,
                main=main,
                prices={one: self._class_prices(one, tokens) for one in {main, *models.values()}},
                context=tokens,
                cold=cold,
                left_usd=self._purse.left,
                value_of_time=self._value_of_time,
                irreversible=irreversible,
            )
        )

    def baseline(self, events: Iterable[Event]) -> Baseline:
        """Estimate what a run's work would have cost in main alone, and by switching models."""
        return baseline(observed(events), Remembered(self._class_prices), Assumptions())

    def _class_prices(self, model_id: str, tokens: int) -> ClassPrices | None:
        priced_as = self._models.priced_as(model_id)
        if priced_as is None:
            return None
        return price.class_prices(priced_as, self._day or datetime.now(UTC), self._prices, tokens)

    def hear(self, event: Event) -> None:
        """Listen to the run: what has begun and ended tells when main is asked next."""
        if self._keeper is not None:
            self._keeper.hear(event)

    async def rest(self) -> None:
        """Ask nothing more by itself: the work is done."""
        if self._keeper is not None:
            await self._keeper.rest()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._models.aclose()

    def _make_keeper(self, progress: Progress) -> Keeper | None:
        """Make what keeps main's cache alive; `None` where its price is not known."""
        model_id = self._choices[MAIN].id
        if self._models.priced_as(model_id) is None:
            return None
        return Keeper(
            progress,
            rules=self._models.cache_rules(model_id),
            prices=lambda tokens: self._class_prices(model_id, tokens),
            least=smallest_answer(model_id),
            emit=self._emit,
            stopped=self._stopped,
        )

    def _keep(self, conversation: MainConversation) -> None:
        keeper = self._keeper
        if keeper is None:
            return

        async def keep() -> None:
            # In a later life of a run, only what was recalled can be kept.
            await conversation.recall()
            await keeper.keep(conversation)

        self._spawn(keep)

    def _emit(self, event: Event) -> None:
        """Pass an event on, keeping the ledger's rows."""
        if isinstance(event, ModelResponded):
            if event.step:  # a keep-alive is nobody's attempt
                self._rows.setdefault((event.step, event.attempt), []).append(event)
            main = event.continuity is not None  # not a subagent of main's model
            if self._keeps_back and main and event.usage.input_tokens > 0:
                self._keep_packet(event.usage.input_tokens + event.usage.output_tokens)
        self._listeners(event)

    def _by_ledger(self, worked: Worked, step: str, attempt: int) -> Mend:
        """Let the ledger say what an attempt used: it has lost and refused requests too."""
        usage = Usage()
        known: Decimal | None = Decimal(0)
        for row in self._rows.pop((step, attempt), []):
            usage, known = usage + row.usage, add_cost(known, row.cost_usd)
        return Mend(worked.ending, usage, known, worked.seconds)

    def _purse_of(self, step: str, usd: Decimal | None) -> Purse:
        """Return the step's own purse, one for all its subagents, part of the run's."""
        if step not in self._purses:
            purse = self._purses[step] = Purse(step, usd=usd, parent=self._purse)
            if (spent := self._spent.get(step)) is not None:
                purse.carry(spent.usd, spent.tokens)
        return self._purses[step]
