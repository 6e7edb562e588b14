"""Runs one fresh subagent: its own context, its own limits, one typed answer."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

import anyio
from pydantic_ai.messages import ModelMessagesTypeAdapter

from runner.agentloop import MOMENT, Work, Worked, drive, make_agent, recall, take_up
from runner.frozen import frozen
from runner.models import Asking
from runner.recalled import attempted, talk_of
from runner.tools import TOOL_NAMES, Permit
from runner.toolset import Hands

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pydantic_ai.messages import ModelMessage

    from runner.agentloop import Worker
    from runner.events import Sink
    from runner.models import Models
    from runner.models.metered import MeteredModel
    from runner.money import Purse
    from runner.plan import AgentSpec, ValueType
    from runner.recalled import Attempted, Talk
    from runner.recorded import Recorded


@frozen(kw_only=True)
class SubagentTask:
    """One fresh subagent, asked for one thing."""

    step: str
    attempt: int
    agent: AgentSpec
    role: str
    model_id: str
    brief: str
    permit: Permit
    token: str
    """The run's own part of the delimiters around untrusted text."""
    outputs: Mapping[str, ValueType] | None = None
    """What the answer must have; `None` is what the agent's definition says."""
    purse: Purse | None = None
    """Pays for the requests; `None` is the run's own."""
    mask: Callable[[str], str] = str
    """Hides secrets in what is said, so that the journal has what was sent."""
    recorded: Recorded | None = None
    """What earlier lives of the run left; an attempt that they began goes on from there."""


async def run_subagent(task: SubagentTask, *, models: Models, emit: Sink) -> Worked:
    """Run a subagent to its end; it can neither delegate nor see anything but its brief.

    Raises:
        UsageError: The model id names no known provider.
        ProviderError: The provider's key is missing.
    """
    began = anyio.current_time()
    outputs = task.agent.output if task.outputs is None else task.outputs
    conversation = f"{task.step}.{task.attempt}.{secrets.token_hex(4)}"
    before = attempted(task.recorded, task.step, task.attempt) if task.recorded else None
    if before is not None and before.conversation:
        conversation = before.conversation
    used = before.seconds if before else 0.0
    asking = Asking(task.step, task.attempt, task.purse)
    tools = wire_tools(task.agent, task.permit)
    model = models.open(
        task.role,
        task.model_id,
        conversation=conversation,
        asking=lambda: asking,
        cache_key=_cache_key(task),
    )
    work = Work(
        prompt=task.mask(task.brief),
        hands=Hands(
            permit=task.permit,
            step=task.step,
            attempt=task.attempt,
            emit=emit,
            token=task.token,
            outputs=outputs,
            mask=task.mask,
        ),
        model=model,
        cache=bool(tools),  # without tools it makes one request, and nothing is read again
        conversation=conversation,
        deadline=began + (task.permit.seconds or float("inf")) - used,
    )
    told = task.mask(task.agent.instructions)
    agent = make_agent(task.agent.name, told, tools, outputs=bool(outputs))
    if before is not None and task.recorded is not None and before.conversation:
        talk = talk_of(task.recorded.said, conversation)
        await _go_on(agent, work, model, before, talk)
    ending = await drive(agent, work)
    return Worked(ending, anyio.current_time() - began + used)


async def _go_on(
    agent: Worker, work: Work, model: MeteredModel, before: Attempted, talk: Talk
) -> None:
    """Let a subagent go on where an earlier life of the run was cut off."""
    pieces = [*talk.messages, talk.tail] if talk.unanswered else talk.messages
    messages: list[ModelMessage] = []
    for piece in filter(None, pieces):
        messages += ModelMessagesTypeAdapter.validate_json(piece)
    if not messages:
        return
    work.prompt, work.history = None, messages
    # What was answered in time still counts, however late it is now.
    work.deadline = max(work.deadline, anyio.current_time() + MOMENT)
    if talk.answered is not None:
        # Should it differ, only this subagent's own small cache is lost.
        await recall(agent, work, model, talk.answered)
    take_up(work, before)


def wire_tools(agent: AgentSpec, permit: Permit) -> tuple[str, ...]:
    """Return the tools that a subagent is told of: equal for all spawns of it in a run.

    The step's own choice comes before the definition's. A shell that nobody granted is not
    mentioned, for each call of it would be refused.
    """
    chosen = agent.tools if permit.tools == TOOL_NAMES else permit.tools
    return tuple(name for name in chosen if name != "shell" or permit.shell)


def _cache_key(task: SubagentTask) -> str:
    """Name the fixed part, alike for all spawns of an agent in one repository."""
    root = hashlib.sha256(str(task.permit.root).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{task.agent.name}-{root[:12]}"
