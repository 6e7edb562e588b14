"""The main conversation: one long history, only ever appended to, closed and handed over when full.

Its model, instructions, tools, answer type and settings are the same for every request of a run;
what a turn may do is decided by its permit when a tool is called.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import anyio
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    UserPromptPart,
    repair_messages,
)

from runner import brief
from runner.agentloop import FullError, Work, Worked, drive, make_agent
from runner.errors import JournalError
from runner.frozen import frozen
from runner.models import Asking, error_ending
from runner.outcome import Cannot, Done, Ending, OverBudget, Refused
from runner.plan import MAIN
from runner.text import one_line
from runner.tools import TOOL_NAMES, Permit
from runner.toolset import Hands

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.settings import CacheSetting
    from pydantic_ai.usage import RunUsage

    from runner.cache import Sent
    from runner.events import Sink
    from runner.history import Line
    from runner.models import Models
    from runner.plan import AgentSpec, ValueType
    from runner.toolset import Delegate

MAIN_TOOLS = (*TOOL_NAMES, "delegate")
_WINDOW_SHARE = 0.7
_BYTES_PER_TOKEN = 3
"""Fewer than most text has, so that sizes are guessed too large rather than too small."""
_MOST_HANDOVERS = 2
"""Conversations that one turn may open; a turn that fills more goes in circles."""


@frozen(kw_only=True)
class Turn:
    """One message for the main agent."""

    text: str
    step: str
    attempt: int
    permit: Permit
    outputs: Mapping[str, ValueType]


class MainConversation:
    """The main agent's conversation over a whole run.

        main = MainConversation(models, "anthropic:claude-opus-5-5", root=root, roster=agents,
                                emit=emit, facts=facts, token=run_id, delegate=delegate)
        worked = await main.turn(packet, step="test", attempt=3, permit=permit)

    Args:
        models: Opens the model anew for each conversation.
        model_id: The main agent's model; never changes.
        root: The tree's root; part of the cache key.
        roster: Agents that can be delegated to.
        emit: Hears of tool calls.
        facts: What a hand-over must tell; asked only when one is needed.
        token: The run's own part of the delimiters around untrusted text.
        delegate: Does delegated work; `None` refuses it.
        retention: Tells, when a conversation opens, whether its cache is to be kept for long;
            `None` is never.
        table: The timetable: what agents did in the past; told once, never changed.
        max_context: Tokens above which no request is sent; `None` is 70 % of the model's window.
    """

    def __init__(
        self,
        models: Models,
        model_id: str,
        *,
        root: Path,
        roster: Sequence[AgentSpec],
        emit: Sink,
        facts: Callable[[], Awaitable[brief.HandoverFacts]],
        token: str,
        delegate: Delegate | None = None,
        retention: Callable[[], bool] | None = None,
        table: Sequence[Line] = (),
        max_context: int | None = None,
    ) -> None:
        self._models = models
        self._model_id = model_id
        self._tree = hashlib.sha256(bytes(root)).hexdigest()[:12]
        self._emit = emit
        self._facts = facts
        self._token = token
        self._delegate = delegate
        self._retention = retention
        self._max_context = max_context or int(models.window(model_id) * _WINDOW_SHARE)
        told = brief.main_instructions(roster, table)
        self._agent = make_agent(MAIN, told, MAIN_TOOLS, outputs=True)
        self._lock = anyio.Lock()
        self._asking = Asking("", 0)
        self._said: list[str] = []
        self._number = 0
        self._open()

    @property
    def conversation(self) -> str:
        """Id of the conversation that is open now."""
        return f"{MAIN}-{self._number}"

    @property
    def sent(self) -> Sent | None:
        """The last answered request, as far as its cache is concerned."""
        return self._model.sent

    @property
    def for_an_hour(self) -> bool:
        """Whether the open conversation asks for its cache to be kept for long."""
        return self._cache == "1h"

    @property
    def asking(self) -> bool:
        """Whether a request is under way."""
        return self._model.asking

    @property
    def in_turn(self) -> bool:
        """Whether a turn is under way: the main agent will be asked again when its tools are."""
        return self._lock.locked()

    async def keep_alive(self) -> str:
        """Send the last request again so that its cache lives on; return why it failed, or nothing.

        The conversation takes no notice of it: nothing is appended, whatever comes of it.
        """
        try:
            await self._model.keep_alive()
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001  what only saves money never ends a run
            ending = error_ending(error)
            return str(getattr(ending, "detail", "") or error)
        return ""

    async def turn(
        self,
        text: str,
        *,
        step: str,
        attempt: int,
        permit: Permit,
        outputs: Mapping[str, ValueType] | None = None,
    ) -> Worked:
        """Append one message and let the main agent work until it answers; turns are serial.

        After any ending, and after cancellation, the next turn goes on from all that was said:
        calls in flight are answered as interrupted. The same text again, after no answer came, is
        not appended twice.

        Args:
            text: A prompt or a packet.
            step: Whose turn it is, for the ledger.
            attempt: Number of the step's attempt.
            permit: What the tools may do during this turn.
            outputs: Named outputs that the answer must have.
        """
        turn = Turn(
            text=text,
            step=step,
            attempt=attempt,
            permit=permit,
            outputs=outputs or {},
        )
        async with self._lock:
            return await self._turn(turn)

    async def _turn(self, turn: Turn) -> Worked:
        began = anyio.current_time()
        self._asking = Asking(turn.step, turn.attempt)
        deadline = began + (turn.permit.seconds or float("inf"))
        prompt = self._asked(turn)
        work = self._work(turn, prompt, deadline, None)
        ending = await self._drive(work)
        for _ in range(_MOST_HANDOVERS):
            if ending is not None and not _too_long(ending, work):
                break
            midway = len(work.messages) > len(work.history) + 1
            prompt = await self._handover(turn, midway=midway)
            work = self._work(turn, prompt, deadline, work.usage)
            ending = await self._drive(work)
        ending = ending or Refused("too_long", f"{_MOST_HANDOVERS} new conversations were filled")
        self._remember(turn, ending)
        return Worked(ending, anyio.current_time() - began)

    async def _drive(self, work: Work) -> Ending | None:
        """Let the agent work, keeping what was said whatever happens; `None`: no room is left."""
        try:
            return await drive(self._agent, work)
        except FullError:
            return None
        finally:
            if len(work.messages) >= max(len(work.history), 1):
                self._history = repair_messages(work.messages)

    def _work(
        self, turn: Turn, prompt: str | None, deadline: float, usage: RunUsage | None
    ) -> Work:
        hands = Hands(
            permit=turn.permit,
            step=turn.step,
            emit=self._emit,
            token=self._token,
            outputs=turn.outputs,
            delegate=self._delegate,
        )
        work = Work(
            prompt=prompt,
            hands=hands,
            model=self._model,
            cache=self._cache,
            conversation=self.conversation,
            history=self._history,
            full=self._is_full,
            deadline=deadline,
        )
        if usage is not None:
            work.usage = usage
        return work

    def _asked(self, turn: Turn) -> str | None:
        """Return what to append: the text, and the names of the outputs; nothing a second time."""
        text = _with_names(turn)
        last = self._history[-1] if self._history else None
        if isinstance(last, ModelRequest):
            part = last.parts[-1] if last.parts else None
            if isinstance(part, UserPromptPart) and part.content == text:
                return None
        return text

    def _is_full(self, messages: Sequence[ModelMessage], request: ModelRequest) -> bool:
        """Whether a request would be beyond the part of the window that is used."""
        if self._models.closed:
            return False  # it is not sent anyway: a disputed count says nothing of the size
        last = next((m for m in reversed(messages) if isinstance(m, ModelResponse)), None)
        if last is None:
            return False
        known = last.usage.input_tokens + last.usage.output_tokens
        new: list[ModelMessage] = [request] if known else [*messages, request]
        return known + _size(new) // _BYTES_PER_TOKEN > self._max_context

    async def _handover(self, turn: Turn, *, midway: bool) -> str:
        """Close the conversation, open the next one, and return its first message."""
        facts = await self._facts()
        self._open()
        return brief.handover(
            facts, said=self._said, open_text=_with_names(turn), token=self._token, midway=midway
        )

    def _open(self) -> None:
        self._number += 1
        self._history: list[ModelMessage] = []
        # The same for the whole conversation: an entry keeps the retention that it was written for.
        self._cache: CacheSetting = "1h" if self._retention and self._retention() else True
        self._model = self._models.open(
            MAIN,
            self._model_id,
            conversation=self.conversation,
            asking=lambda: self._asking,
            main=True,
            cache_key=f"{self.conversation}-{self._tree}",
        )

    def _remember(self, turn: Turn, ending: Ending) -> None:
        """Keep one line of what the main agent said, for a hand-over."""
        match ending:
            case Done(summary):
                self._said.append(one_line(f"{turn.step}: {summary}", 240))
            case Cannot(reason):
                self._said.append(one_line(f"{turn.step}: cannot: {reason}", 240))
            case _:
                return


def _with_names(turn: Turn) -> str:
    if not turn.outputs:
        return turn.text
    names = ", ".join(f"`{name}` ({kind})" for name, kind in turn.outputs.items())
    return f"{turn.text}\n\nAnswer `done` with these `outputs`: {names}."


def _too_long(ending: Ending, work: Work) -> bool:
    """Whether a conversation is too long, to the provider or to be paid, that can begin anew.

    All that was said before may be billed once more, at the price of a cache write: a new
    conversation goes on where the old one could not, and less of the budget is left over.
    """
    long = isinstance(ending, Refused) and ending.why == "too_long"
    dear = isinstance(ending, OverBudget) and ending.needed is not None and not ending.disputed
    return (long or dear) and len(work.history) > 0


def _size(messages: Sequence[ModelMessage]) -> int:
    return len(ModelMessagesTypeAdapter.dump_json(list(messages)))
