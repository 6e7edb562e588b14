"""Runs one fresh subagent: its own context, its own limits, one typed answer."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

import anyio

from runner.agentloop import Work, Worked, drive, make_agent
from runner.frozen import frozen
from runner.models import Asking
from runner.tools import TOOL_NAMES, Permit
from runner.toolset import Hands

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.events import Sink
    from runner.models import Models
    from runner.money import Purse
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
    """Pays for the requests; `None` is the run's own."""


async def run_subagent(task: SubagentTask, *, models: Models, emit: Sink) -> Worked:
    """Run a subagent to its end; it can neither delegate nor see anything but its brief.

    Raises:
        UsageError: The model id names no known provider.
        ProviderError: The provider's key is missing.
    """
    began = anyio.current_time()
    outputs = task.agent.output if task.outputs is None else task.outputs
    conversation = f"{task.step}.{task.attempt}.{secrets.token_hex(4)}"
    asking = Asking(task.step, task.attempt, task.purse)
    tools = wire_tools(task.agent, task.permit)
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
        cache=bool(tools),  # without tools it makes one request, and nothing is read again
        conversation=conversation,
        deadline=began + (task.permit.seconds or float("inf")),
    )
    agent = make_agent(task.agent.name, task.agent.instructions, tools, outputs=bool(outputs))
    ending = await drive(agent, work)
    return Worked(ending, anyio.current_time() - began)


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
