"""Folds a run's events into what an estimate needs: commands, tries, requests, in order. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import field
from typing import TYPE_CHECKING, Any

from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    Decided,
    Event,
    GitFact,
    ModelResponded,
    RunStarted,
    StepFinished,
)
from runner.frozen import frozen
from runner.outcome import Rung, Status, Usage, Verdict
from runner.plan import KEEPALIVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from runner.outcome import Attempt, StepOutcome

UNDONE = frozenset({"stale", "clean", "hook"})
"""Why commands run that an agent would not run: checks bound to what is committed are this
program's own promise, and hooks run within `git commit`."""
_MOVES = frozenset({"AskSubagent", "AskMain", "GiveUp"})


@frozen
class Request:
    """One model response, as far as it can be priced again."""

    step: str
    attempt: int
    role: str
    model: str
    """Whose prices hold: what a script stands for, else the model that was asked."""
    usage: Usage
    usd: Decimal | None
    at: float
    """When it began, in seconds since the epoch; 0 where nobody kept it."""
    conversation: str


@frozen
class Command:
    """Something that an agent would do in one call of its shell."""

    step: str
    purpose: str
    """As in events; `commit` and `push` for what git did."""
    output_bytes: int
    context: int
    """Tokens of the main conversation then; 0 while it was not open."""
    counts: bool = True
    """Whether an agent would have run it, too, and by itself."""


@frozen
class Try:
    """One attempt of a subagent."""

    step: str
    role: str
    verdict: Verdict | None
    """`None`: it was cut off."""
    requests: tuple[Request, ...]
    context: int
    """Tokens of the main conversation then; 0 while it was not open."""


@frozen
class Own:
    """One request of the main conversation."""

    request: Request
    packet: bool
    """Whether a packet asked for it, not a step's prompt."""
    context: int = 0
    """Tokens of the main conversation before it; 0 when it opened it."""

    @property
    def step(self) -> str:
        """Whose turn it is."""
        return self.request.step


Item = Command | Try | Own


@frozen(kw_only=True)
class Observed:
    """What is known of a run, in the order in which it happened."""

    run: str = ""
    workflow: str = ""
    started_at: float = 0.0
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Model ids by role, those of the scripts resolved that answered."""
    items: tuple[Item, ...] = ()
    kept: tuple[Request, ...] = ()
    """Keep-alives."""
    mended: Mapping[str, Rung] = field(default_factory=dict[str, Rung])
    """Steps that succeeded, and at which rung."""
    decided: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, "Mapping[str, Any]"])
    """Steps for whose failure somebody was chosen, with the facts of the first choice."""
    scripted: bool = False
    prices: tuple[str, ...] = ()
    """Name and date of the price table of its ledger."""

    @property
    def requests(self) -> tuple[Request, ...]:
        """All that was paid."""
        found = list(self.kept)
        for item in self.items:
            match item:
                case Try(requests=requests):
                    found += requests
                case Own(request):
                    found.append(request)
                case Command():
                    pass
        return tuple(found)

    @property
    def own(self) -> tuple[Request, ...]:
        """What was asked in the main conversation, without keep-alives."""
        return tuple(item.request for item in self.items if isinstance(item, Own))

    def useful(self, one: Try) -> bool:
        """Tell whether a subagent's try is part of what mended its step."""
        if one.verdict in (Verdict.PASSED, Verdict.FLAKY):
            return True
        if one.verdict is not Verdict.SOFT or self.mended.get(one.step) is not Rung.SUBAGENT:
            return False
        return self.tries(one.step)[-1].role == one.role

    def tries(self, step: str) -> tuple[Try, ...]:
        """Return the subagents' tries at a step."""
        return tuple(item for item in self.items if isinstance(item, Try) and item.step == step)

    def packets(self, step: str) -> tuple[Request, ...]:
        """Return the requests of main that packets of a step led to."""
        return tuple(
            item.request
            for item in self.items
            if isinstance(item, Own) and item.packet and item.request.step == step
        )

    def unsettled(self, step: str) -> bool:
        """Tell whether only subagents tried, and none mended it."""
        return step not in self.mended and not self.packets(step)


def observed(events: Iterable[Event]) -> Observed:
    """Fold a run's events, in order; one that is cut off anywhere will do."""
    watch = _Watch()
    for event in events:
        watch.add(event)
    return watch.seen()


class _Watch:
    """What was seen so far."""

    def __init__(self) -> None:
        self._run = ("", "", 0.0)
        self._models: dict[str, str] = {}
        self._answered: dict[str, str] = {}
        self._items: list[Item] = []
        self._kept: list[Request] = []
        self._open: dict[tuple[str, int], list[Request]] = defaultdict(list)
        self._rungs: dict[tuple[str, int], Rung] = {}
        self._packets: set[tuple[str, int]] = set()
        self._last: dict[str, str] = {}
        self._checked: set[str] = set()
        self._mended: dict[str, Rung] = {}
        self._decided: dict[str, Mapping[str, Any]] = {}
        self._context = 0
        self._scripted = False
        self._prices: tuple[str, ...] = ()

    def add(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._run = (event.run_id, event.workflow, event.started_at)
                self._models |= event.models
            case CommandFinished(step, purpose, output_bytes=size):
                self._command(step, purpose, size)
            case GitFact(step, action):
                self._items.append(Command(step, action, 0, self._context))
            case ModelResponded():
                self._answer(event)
            case Decided(step, decision, facts=facts) if decision in _MOVES:
                self._last[step] = decision
                self._decided.setdefault(step, facts)
            case AttemptStarted(step, number, rung):
                self._begin(step, number, rung)
            case AttemptFinished(step, attempt):
                self._end(step, attempt)
            case StepFinished(outcome):
                self._settle(outcome)
            case _:
                pass

    def seen(self) -> Observed:
        for (step, _), requests in self._open.items():
            # Their attempt was cut off, or they came after its end.
            self._items.append(Try(step, requests[0].role, None, tuple(requests), self._context))
        run, workflow, started = self._run
        return Observed(
            run=run,
            workflow=workflow,
            started_at=started,
            models=self._models | self._answered,
            items=tuple(self._items),
            kept=tuple(self._kept),
            mended=self._mended,
            decided=self._decided,
            scripted=self._scripted,
            prices=self._prices,
        )

    def _command(self, step: str, purpose: str, size: int) -> None:
        if purpose == "agent":
            # One of the requests asked for it.
            self._checked.add(step)
            return
        judged = purpose == "check" and step in self._checked
        counts = purpose not in UNDONE and not judged
        self._items.append(Command(step, purpose, size, self._context, counts))

    def _answer(self, row: ModelResponded) -> None:
        model = row.served if row.scripted and ":" in row.served else row.asked
        request = Request(
            row.step, row.attempt, row.role, model, row.usage, row.cost_usd, row.at,
            row.conversation,
        )  # fmt: skip
        self._scripted |= row.scripted
        self._prices = row.prices or self._prices
        if row.role == KEEPALIVE:
            self._kept.append(request)
            return
        self._answered[row.role] = model
        key = (row.step, row.attempt)
        otherwise = Rung.SUBAGENT if row.continuity is None else Rung.MAIN
        if self._rungs.get(key, otherwise) is not Rung.MAIN:
            self._open[key].append(request)
            return
        self._items.append(Own(request, key in self._packets, self._context))
        self._context = row.usage.input_tokens + row.usage.output_tokens or self._context

    def _begin(self, step: str, number: int, rung: Rung) -> None:
        self._rungs[step, number] = rung
        if rung is Rung.COMMAND:
            return
        self._checked.discard(step)
        if rung is Rung.MAIN and self._last.get(step) == "AskMain":
            self._packets.add((step, number))

    def _end(self, step: str, attempt: Attempt) -> None:
        if attempt.rung is not Rung.SUBAGENT:
            return
        requests = tuple(self._open.pop((step, attempt.number), ()))
        role = requests[0].role if requests else attempt.role
        self._items.append(Try(step, role, attempt.verdict, requests, self._context))

    def _settle(self, outcome: StepOutcome) -> None:
        if outcome.status is Status.SUCCEEDED and outcome.rung is not None:
            self._mended[outcome.id] = outcome.rung
