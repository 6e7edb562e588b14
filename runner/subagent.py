"""Runs one fresh subagent: its own context, its own limits, one typed answer."""

from __future__ import annotations

import hashlib
import secrets
from decimal import Decimal
from typing import TYPE_CHECKING

import anyio

from runner.agentloop import Work, booked, drive, make_agent, mend
from runner.frozen import frozen
from runner.models import Asking
from runner.tools import TOOL_NAMES, Permit
from runner.toolset import Hands

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_ai.settings import CacheSetting

    from runner.events import Sink
    from runner.models import Models
    from runner.money import Purse
    from runner.outcome import Mend
    from runner.plan import AgentSpec, ValueType


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
    """Pays for the requests, and tells what was booked; `None` is the run's own."""


async def run_subagent(task: SubagentTask, *, models: Models, emit: Sink) -> Mend:
    """Run a subagent to its end; it can neither delegate nor see anything but its brief.

    Raises:
        UsageError: The model id names no known provider.
        ProviderError: The provider's key is missing.
    """
    began, spent = anyio.current_time(), task.purse.spent if task.purse else Decimal(0)
    outputs = task.agent.output if task.outputs is None else task.outputs
    conversation = f"{task.step}.{task.attempt}.{secrets.token_hex(4)}"
    asking = Asking(task.step, task.attempt, task.purse)
    work = Work(
        prompt=task.brief,
        hands=Hands(
            permit=task.permit, step=task.step, emit=emit, token=task.token, outputs=outputs
        ),
        model=models.open(
            task.role,
            task.model_id,
            conversation=conversation,
            asking=lambda: asking,
            cache_key=_cache_key(task),
        ),
        cache=_cache(task.agent),
        conversation=conversation,
        deadline=began + (task.permit.seconds or float("inf")),
    )
    tools = wire_tools(task.agent, task.permit)
    agent = make_agent(task.agent.name, task.agent.instructions, tools, outputs=bool(outputs))
    ending = await drive(agent, work)
    cost = booked(work.cost, task.purse, spent)
    return mend(ending, work, seconds=anyio.current_time() - began, cost=cost)


def wire_tools(agent: AgentSpec, permit: Permit) -> tuple[str, ...]:
    """Return the tools that a subagent is told of: equal for all spawns of it in a run.

    The step's own choice comes before the definition's. A shell that nobody granted is not
    mentioned, for each call of it would be refused.
    """
    chosen = agent.tools if permit.tools == TOOL_NAMES else permit.tools
    return tuple(name for name in chosen if name != "shell" or permit.shell)


def _cache(agent: AgentSpec) -> CacheSetting:
    """Cache what is read again: nothing of an agent without tools, which makes one request."""
    return bool(agent.tools)


def _cache_key(task: SubagentTask) -> str:
    """Name the fixed part, alike for all spawns of an agent in one repository."""
    root = hashlib.sha256(str(task.permit.root).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{task.agent.name}-{root[:12]}"
