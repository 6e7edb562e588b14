"""Folds what was asked and answered in a run's earlier lives: conversations, money, requests. Pure.

Messages stay the texts that they are in the journal: nothing here loads a model library, for a
resumed run that asks no model books its lost requests all the same.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from runner.events import (
    ConversationOpened,
    Event,
    ModelAsked,
    ModelRefused,
    ModelResponded,
    RunResumed,
    ToolCalled,
    TurnEnded,
)
from runner.frozen import frozen
from runner.outcome import Usage
from runner.plan import KEEPALIVE, MAIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runner.recorded import Recorded

_MAIN = re.compile(rf"{MAIN}-\d+")
ZERO = Decimal(0)


@frozen
class Answered:
    """The last answered request of a conversation."""

    digest: str
    """Of all that the cache depends on; empty where it was not recorded."""
    usage: Usage
    at: float
    """When the cache was last told of it, by keep-alives too; seconds since the epoch."""


@frozen(kw_only=True)
class Talk:
    """One conversation as far as the journal knows it."""

    conversation: str
    opened: ConversationOpened | None = None
    messages: tuple[str, ...] = ()
    """All messages up to the last answer, in pieces of JSON."""
    tail: str = ""
    """What came after it, as JSON: a request without an answer, or how a turn ended."""
    unanswered: bool = False
    """Whether `tail` is a request that was sent."""
    turn: tuple[str, int] = ("", 0)
    """Step and attempt that the last request was for."""
    answered_turn: tuple[str, int] = ("", 0)
    """Step and attempt that the last answer was for."""
    answered: Answered | None = None


@frozen
class Money:
    """What earlier lives spent."""

    usd: Decimal
    tokens: int
    disputed: bool = False
    """Whether a provider billed more than is possible: nothing more is asked."""


@frozen(kw_only=True)
class Attempted:
    """A model attempt that was under way, as far as the journal knows it."""

    conversation: str
    """The newest of its conversations; empty where nothing was asked."""
    turns: int
    """Requests that were answered."""
    seconds: float
    rows: tuple[ModelResponded, ...]
    """Of the ledger, with one for each request that was lost with its process."""
    said: tuple[Event, ...]
    """Answers and settled calls, oldest first."""


def talk_of(said: Iterable[Event], conversation: str) -> Talk:
    """Fold one conversation."""
    talk: dict[str, object] = {"conversation": conversation}
    pieces: list[str] = []
    digests: dict[int, str] = {}
    for event in said:
        if getattr(event, "conversation", None) != conversation:
            continue
        match event:
            case ConversationOpened():
                talk["opened"] = event
            case ModelAsked():
                digests[event.number] = event.digest
                if event.role != KEEPALIVE:
                    turn = (event.step, event.attempt)
                    talk |= {"tail": event.messages, "unanswered": True, "turn": turn}
            case ModelResponded() if event.messages:
                pieces.append(event.messages)
                usage = Usage() if event.unknown else event.usage
                answered = Answered(digests.get(event.number, ""), usage, event.at)
                talk |= {"tail": "", "unanswered": False, "answered": answered}
                talk["answered_turn"] = (event.step, event.attempt)
            case ModelResponded(role=role) if role == KEEPALIVE and not event.unknown:
                _renew(talk, event)
            case TurnEnded():
                talk["tail"] = event.messages
            case _:
                pass
    return Talk(messages=tuple(pieces), **talk)  # pyright: ignore[reportArgumentType]  by its fields


def _renew(talk: dict[str, object], row: ModelResponded) -> None:
    """Take up that a keep-alive renewed the cache of the last answered request."""
    before = talk.get("answered")
    if isinstance(before, Answered):
        talk["answered"] = Answered(before.digest, row.usage, row.at)


def main_talk(said: Sequence[Event]) -> Talk | None:
    """Return the main conversation that was open last; `None`: none was."""
    names = [
        event.conversation
        for event in said
        if isinstance(event, ConversationOpened | ModelAsked | TurnEnded)
        and _MAIN.fullmatch(event.conversation)
    ]
    return talk_of(said, names[-1]) if names else None


def main_said(said: Iterable[Event]) -> list[str]:
    """Return what the main agent said at the end of its turns, a line each."""
    lines: dict[tuple[str, int], str] = {}
    for event in said:
        if isinstance(event, TurnEnded):
            # An attempt that went on in a later life ends once more.
            lines.pop((event.step, event.attempt), None)
            if event.said:
                lines[event.step, event.attempt] = event.said
    return [*lines.values()]


def attempted(recorded: Recorded, step: str, number: int) -> Attempted | None:
    """Return what is known of an attempt that was under way; `None`: it begins afresh."""
    flight = recorded.flights.get(step)
    since = flight.said_since(number) if flight is not None else None
    if flight is None or since is None:
        return None
    own = [
        event
        for event in recorded.said[since:]
        if getattr(event, "step", "") == step and getattr(event, "attempt", 0) == number
    ]
    asked = [event.conversation for event in own if isinstance(event, ModelAsked)]
    rows = [event for event in own if isinstance(event, ModelResponded)]
    booked = {row.number for row in rows}
    lost = [row for row in lost_rows(recorded.said) if row.step == step and row.attempt == number]
    return Attempted(
        conversation=asked[-1] if asked else "",
        turns=sum(bool(row.messages) for row in rows),
        seconds=flight.busy,
        rows=(*rows, *(row for row in lost if row.number not in booked)),
        said=tuple(e for e in own if isinstance(e, ModelResponded | ToolCalled)),
    )


def open_requests(said: Iterable[Event]) -> list[ModelAsked]:
    """Return the requests that left and of which the journal knows nothing more."""
    found: dict[int, ModelAsked] = {}
    for event in said:
        match event:
            case ModelAsked():
                found[event.number] = event
            case ModelResponded(number=number) | ModelRefused(number=number):
                found.pop(number, None)
            case _:
                pass
    return [*found.values()]


def lost_rows(said: Iterable[Event]) -> list[ModelResponded]:
    """Return the ledger's rows of requests that were lost with their process, each once.

    They may be billed, so that they count at their worst case.
    """
    return [
        ModelResponded(
            step=asked.step,
            attempt=asked.attempt,
            role=asked.role,
            asked=asked.model,
            served="",
            usage=Usage(requests=1),
            cost_usd=asked.worst_usd,
            seconds=0.0,
            conversation=asked.conversation,
            scripted=asked.scripted,
            at=asked.at,
            number=asked.number,
            unknown="killed",
        )
        for asked in open_requests(said)
    ]


def last_number(said: Iterable[Event]) -> int:
    """Return the number of the run's newest request; 0 before the first."""
    return max((event.number for event in said if isinstance(event, ModelAsked)), default=0)


def money_of(said: Sequence[Event]) -> tuple[Money, dict[str, Money]]:
    """Return what the run spent, and of that what each step's subagents did.

    As while the run lived: what nobody knows counts at its worst case, in tokens too.
    """
    asks = {event.number: event for event in said if isinstance(event, ModelAsked)}
    whole, steps = Money(ZERO, 0), dict[str, Money]()
    rows = (event for event in said if isinstance(event, ModelResponded))
    for row in (*rows, *lost_rows(said)):
        asked = asks.get(row.number)
        spent = _spent(row, asked)
        whole = _sum(whole, spent)
        if row.step and not _MAIN.fullmatch(row.conversation):
            steps[row.step] = _sum(steps.get(row.step, Money(ZERO, 0)), spent)
    return whole, steps


def _spent(row: ModelResponded, asked: ModelAsked | None) -> Money:
    usd, tokens = row.cost_usd or ZERO, row.usage.input_tokens + row.usage.output_tokens
    if row.unknown:
        return Money(usd, asked.worst_tokens if asked else tokens)
    above = asked is not None and (
        tokens > asked.worst_tokens or (asked.worst_usd is not None and usd > asked.worst_usd)
    )
    return Money(usd, tokens, above)


def _sum(one: Money, other: Money) -> Money:
    disputed = one.disputed or other.disputed
    return Money(one.usd + other.usd, one.tokens + other.tokens, disputed)


def played(said: Iterable[Event]) -> list[ModelAsked]:
    """Return the requests that scripted models answered, in order: each moved its script on.

    One that was cut off did not: whoever resumes asks it again.
    """
    asks: list[ModelAsked] = []
    stopped: set[int] = set()
    life: set[int] = set()
    for event in said:
        match event:
            case ModelAsked(scripted=True, role=role) if role != KEEPALIVE:
                asks.append(event)
                life.add(event.number)
            case ModelResponded(number=number, unknown=unknown):
                if unknown in ("cancelled", "killed"):
                    stopped.add(number)
                life.discard(number)
            case RunResumed():
                stopped |= life
                life.clear()
            case _:
                pass
    return [asked for asked in asks if asked.number not in stopped | life]


class Earlier:
    """Calls of an attempt that an earlier life of the run began, and how those ended that did."""

    def __init__(self, said: Sequence[Event]) -> None:
        """*said* are the attempt's answers and settled calls, oldest first."""
        self._rounds: list[list[ToolCalled]] = [[]]
        for event in said:
            if isinstance(event, ToolCalled):
                self._rounds[-1].append(event)
            elif isinstance(event, ModelResponded) and event.messages:
                self._rounds.append([])
        self._open = True

    def settled(self, call: str, tool: str) -> ToolCalled | None:
        """Return how a call of the last response ended, each once; `None`: nobody knows."""
        found = (e for e in self._rounds[-1] if e.call == call and e.tool == tool)
        event = next(found, None)
        if event is not None:
            self._rounds[-1].remove(event)
        return event

    @property
    def rounds(self) -> Sequence[Sequence[ToolCalled]]:
        """Settled calls by response; not those of the last one while they are being answered."""
        return self._rounds[:-1] if self._open else self._rounds

    def close(self) -> None:
        """Take it that all calls from now on are new: the model was asked again."""
        self._open = False

    @property
    def open(self) -> bool:
        """Whether calls of the last response are being answered."""
        return self._open
