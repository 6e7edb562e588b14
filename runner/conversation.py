"""The main conversation: one long history, only ever appended to, closed and handed over when full.

Its model, instructions, tools, answer type and settings are the same for every request of a run;
what a turn may do is decided by its permit when a tool is called.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
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
from runner.agentloop import MOMENT, FullError, Work, Worked, drive, make_agent, recall, take_up
from runner.errors import JournalError
from runner.events import Notice, TurnEnded
from runner.frozen import frozen
from runner.models import Asking, error_ending
from runner.outcome import Cannot, Done, Ending, OverBudget, Refused
from runner.plan import MAIN
from runner.recalled import attempted, main_said, main_talk
from runner.text import one_line
from runner.tools import TOOL_NAMES, Permit
from runner.toolset import Hands

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.settings import CacheSetting
    from pydantic_ai.usage import RunUsage

    from runner.cache import Sent
    from runner.events import Sink
    from runner.history import Line
    from runner.models import Models
    from runner.plan import AgentSpec, ValueType
    from runner.recalled import Attempted, Talk
    from runner.recorded import Recorded
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
        mask: Hides secrets in what is said, so that the journal has what was sent.
        recorded: What earlier lives of the run left; the conversation goes on from there.
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
        mask: Callable[[str], str] = str,
        recorded: Recorded | None = None,
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
        self._mask = mask
        self._recorded = recorded
        self._lock = anyio.Lock()
        self._asking = Asking("", 0)
        self._said: list[str] = main_said(recorded.said) if recorded else []
        self._number = 0
        self._talk = main_talk(recorded.said) if recorded else None
        """What an earlier life said in the conversation that is open; `None` after a turn."""
        self._recall = anyio.Lock()
        self._broken = "" if self._talk is None or self._talk.answered is None else None
        """Why it cannot go on; empty when it can, `None` while nobody knows."""
        opened = self._talk.opened if self._talk else None
        # Told once for the whole run: what other runs taught meanwhile would change the prefix.
        told = opened.instructions if opened else mask(brief.main_instructions(roster, table))
        self._agent = make_agent(MAIN, told, MAIN_TOOLS, outputs=True)
        if self._talk is None:
            self._open()
        else:
            self._reopen(self._talk)

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
            if await self.recall():
                return "the conversation of an earlier life of the run cannot go on"
            await self._model.keep_alive()
        except JournalError:
            raise
        except Exception as error:  # noqa: BLE001  what only saves money never ends a run
            ending = error_ending(error)
            return str(getattr(ending, "detail", "") or error)
        return ""

    async def recall(self) -> str:
        """Recall what an earlier life said, once; say why that cannot go on byte for byte, if so.

        Its cache would be lost anyway: it is then closed like one that is full.
        """
        async with self._recall:
            talk = self._talk
            if self._broken is None and talk is not None and talk.answered is not None:
                self._broken = "another model is asked now"
                if talk.opened is not None and talk.opened.model == self._model_id:
                    work = self._work(_NOBODY, None, float("inf"), None)
                    work.history = _loads(*talk.messages)
                    self._broken = await recall(self._agent, work, self._model, talk.answered)
            return self._broken or ""

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
        before = attempted(self._recorded, turn.step, turn.attempt) if self._recorded else None
        used = before.seconds if before else 0.0
        deadline = began + (turn.permit.seconds or float("inf")) - used
        broken = await self.recall()
        talk, self._talk, self._broken = self._talk, None, ""
        if broken:
            self._emit(Notice(f"{self.conversation} is closed and another opened: {broken}"))
            self._closed = True
        work = self._begun(turn, deadline, before, talk)
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
        if before is not None:
            self._recorded = None
        return Worked(ending, anyio.current_time() - began + used)

    def _begun(
        self, turn: Turn, deadline: float, before: Attempted | None, talk: Talk | None
    ) -> Work:
        """Return the work of a turn, or what is left of one that an earlier life began."""
        now = (turn.step, turn.attempt)
        if before is not None and talk is not None and talk.unanswered and talk.turn == now:
            self._history = _loads(*talk.messages, talk.tail)
        elif before is not None and talk is not None and talk.answered_turn == now:
            self._history = _loads(*talk.messages)
        else:
            return self._work(turn, self._asked(turn), deadline, None)
        # What was answered in time still counts, however late it is now.
        work = self._work(turn, None, max(deadline, anyio.current_time() + MOMENT), None)
        take_up(work, before)
        return work

    async def _drive(self, work: Work) -> Ending | None:
        """Let the agent work, keeping what was said whatever happens; `None`: no room is left."""
        try:
            return await drive(self._agent, work)
        except FullError:
            return None
        finally:
            said = len(work.messages) >= max(len(work.history), 1)
            self._history = repair_messages(work.messages if said else self._history)

    def _work(
        self, turn: Turn, prompt: str | None, deadline: float, usage: RunUsage | None
    ) -> Work:
        hands = Hands(
            permit=turn.permit,
            step=turn.step,
            attempt=turn.attempt,
            emit=self._emit,
            token=self._token,
            outputs=turn.outputs,
            delegate=self._delegate,
            mask=self._mask,
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
        text = self._mask(_with_names(turn))
        last = self._history[-1] if self._history else None
        if isinstance(last, ModelRequest):
            part = last.parts[-1] if last.parts else None
            if isinstance(part, UserPromptPart) and part.content == text:
                return None
        return text

    def _is_full(self, messages: Sequence[ModelMessage], request: ModelRequest) -> bool:
        """Whether a request would be beyond the part of the window that is used, or cannot be."""
        if self._closed:
            return True
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
        text = brief.handover(
            facts, said=self._said, open_text=_with_names(turn), token=self._token, midway=midway
        )
        return self._mask(text)

    def _open(self) -> None:
        self._number += 1
        self._closed = False
        self._history: list[ModelMessage] = []
        # The same for the whole conversation: an entry keeps the retention that it was written for.
        self._cache: CacheSetting = "1h" if self._retention and self._retention() else True
        self._open_model(f"{self.conversation}-{self._tree}")

    def _reopen(self, talk: Talk) -> None:
        """Go on with a conversation of an earlier life, with the cache that it asked for."""
        self._closed = False
        """Whether nothing more is asked in it."""
        self._number = int(talk.conversation.rpartition("-")[2])
        self._history = repair_messages(_loads(*talk.messages, talk.tail))
        opened = talk.opened
        self._cache = "1h" if opened and opened.retention == "1h" else True
        usual = f"{self.conversation}-{self._tree}"
        self._open_model(opened.cache_key if opened else usual)

    def _open_model(self, cache_key: str) -> None:
        self._model = self._models.open(
            MAIN,
            self._model_id,
            conversation=self.conversation,
            asking=lambda: self._asking,
            main=True,
            cache_key=cache_key,
        )

    def _remember(self, turn: Turn, ending: Ending) -> None:
        """Keep one line of what the main agent said, for a hand-over, and write down the end."""
        said = ""
        match ending:
            case Done(summary):
                said = one_line(f"{turn.step}: {summary}", 240)
            case Cannot(reason):
                said = one_line(f"{turn.step}: cannot: {reason}", 240)
            case _:
                pass
        if said:
            self._said.append(said)
        last = max(
            (n for n, message in enumerate(self._history) if isinstance(message, ModelResponse)),
            default=-1,
        )
        tail = ModelMessagesTypeAdapter.dump_json(self._history[last + 1 :]).decode()
        self._emit(TurnEnded(turn.step, turn.attempt, self.conversation, tail, said))


_NOBODY = Turn(
    text="",
    step="",
    attempt=0,
    permit=Permit(root=Path(), allows=lambda _: False, why_not=lambda _: ""),
    outputs={},
)


def _loads(*pieces: str) -> list[ModelMessage]:
    """Read messages back from the journal's pieces."""
    return [m for piece in pieces if piece for m in ModelMessagesTypeAdapter.validate_json(piece)]


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
