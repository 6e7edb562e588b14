"""Runs an agent until its typed answer or one of its limits, and says how it ended.

The one loop below both a subagent and the main conversation. Every limit is explicit; every way to
end is an `Ending`; errors are told apart by type, never by text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

import anyio
from pydantic import BaseModel, Field
from pydantic_ai import (
    Agent,
    CallToolsNode,
    ModelRetry,
    RunContext,
    ToolOutput,
    capture_run_messages,
)
from pydantic_ai.exceptions import UsageLimitExceeded
from pydantic_ai.messages import ModelResponse
from pydantic_ai.usage import RunUsage, UsageLimits
from pydantic_graph import End

from runner.frozen import frozen
from runner.models import error_ending
from runner.models.metered import MeteredModel
from runner.models.recalling import RecalledError
from runner.outcome import Cannot, Done, Ending, Exhausted, Unavailable
from runner.recalled import Earlier
from runner.text import clean, head_tail
from runner.toolset import FloodError, Hands, recount, toolset

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic_ai.messages import ModelMessage, ModelRequest
    from pydantic_ai.models import Model
    from pydantic_ai.settings import CacheSetting

    from runner.plan import ValueType
    from runner.recalled import Answered, Attempted

_TOOL_RETRIES = 3
"""Malformed calls of one tool in a row, or calls of one unknown tool, before a run is given up."""
_OUTPUT_RETRIES = 2
"""Answers that are no `done` or `cannot`, or lack an output, before a run is given up."""
MOMENT = 10.0
"""Seconds that are left at least to an attempt that goes on in a later life of the run."""
_SAID_BYTES = 2_000
_OUTPUTS_BYTES = 65_536


class DoneAnswer(BaseModel):
    """It is done."""

    summary: str = Field(description="What was wrong and what you changed, in at most five lines.")


class DoneWithOutputs(BaseModel):
    """It is done."""

    summary: str = Field(description="What you did, in at most five lines.")
    outputs: dict[str, Any] = Field(
        default_factory=dict, description="The named outputs that were asked for; else empty."
    )


class CannotAnswer(BaseModel):
    """It cannot be done within the limits."""

    reason: str = Field(description="Why, in one or two sentences.")
    evidence: str = Field(default="", description="The lines of output or code that show it.")


Answer = DoneAnswer | DoneWithOutputs | CannotAnswer
Worker = Agent[Hands, Answer]


class FullError(Exception):
    """Raised instead of sending a request that the caller's `full` says is too long."""


@dataclass(slots=True, kw_only=True)
class Work:
    """One piece of work for an agent, filled in as it goes on: it can be cut off anywhere."""

    prompt: str | None
    """`None` sends the history's last request again."""
    hands: Hands
    model: Model
    cache: CacheSetting
    conversation: str
    history: Sequence[ModelMessage] = ()
    """What came before, as `pydantic_ai.messages.repair_messages` leaves it."""
    full: Callable[[Sequence[ModelMessage], ModelRequest], bool] | None = None
    deadline: float = float("inf")
    """On the clock of `anyio.current_time`."""
    usage: RunUsage = field(default_factory=RunUsage)
    messages: list[ModelMessage] = field(default_factory=list["ModelMessage"])
    """All messages, the history's too; empty as long as nothing has begun."""


@frozen
class Worked:
    """How a piece of work ended; what it used is in the ledger, where lost requests are, too."""

    ending: Ending
    seconds: float


def make_agent(name: str, instructions: str, tools: Sequence[str], *, outputs: bool) -> Worker:
    """Make an agent whose every turn ends in `done` or `cannot`; equal facts give equal bytes."""
    done = DoneWithOutputs if outputs else DoneAnswer
    agent: Worker = Agent(
        name=name,
        instructions=instructions,
        deps_type=Hands,
        output_type=[ToolOutput(done, name="done"), ToolOutput(CannotAnswer, name="cannot")],
        toolsets=[toolset(tools)],
        retries={"tools": _TOOL_RETRIES, "output": _OUTPUT_RETRIES},
        end_strategy="graceful",  # an edit that comes together with `done` is still made
    )
    agent.output_validator(_with_outputs)
    return agent


async def drive(agent: Worker, work: Work) -> Ending:
    """Let an agent work until it ends.

    Raises:
        FullError: `work.full` said so; whatever the tools did is done.
    """
    turns = work.hands.permit.turns
    # The tools themselves bound the calls of a response.
    limits = UsageLimits(request_limit=turns)
    with capture_run_messages() as work.messages, anyio.CancelScope(deadline=work.deadline):
        try:
            return await _loop(agent, work, limits)
        except FloodError as error:
            return Exhausted("turns", str(error))
        except UsageLimitExceeded:
            return Exhausted("turns", f"{work.usage.requests} of {turns} requests made")
        except Exception as error:
            ending = error_ending(error)
            if ending is None:
                raise
            return ending
    if isinstance(work.model, MeteredModel) and work.model.trouble:
        # The time went by waiting for the provider: no fault of the model's.
        return Unavailable(f"{work.model.trouble}, and no answer within the attempt's seconds")
    return Exhausted("seconds", f"after {work.usage.requests} requests")


def output_problems(outputs: Mapping[str, Any], wanted: Mapping[str, ValueType]) -> list[str]:
    """Say what is missing or of the wrong type among outputs; nothing when all is well."""
    problems = [
        f"`{name}` must be a {kind}" if name in outputs else f"`{name}` ({kind}) is missing"
        for name, kind in wanted.items()
        if name not in outputs or not _is(outputs[name], kind)
    ]
    kept = {name: outputs.get(name) for name in wanted}
    if len(json.dumps(kept, default=str)) > _OUTPUTS_BYTES:
        problems.append(f"all outputs together may have {_OUTPUTS_BYTES} bytes")
    return problems


async def recall(agent: Worker, work: Work, model: MeteredModel, answered: Answered) -> str:
    """Let a model recall the conversation of `work`, which an earlier life of the run held.

    Its last answered request is made once more and not sent.

    Returns:
        How that request differs from what was sent then; empty when it does not.
    """
    last = max(n for n, message in enumerate(work.history) if isinstance(message, ModelResponse))
    model.recall(answered)
    try:
        async with agent.iter(
            None,
            deps=work.hands,
            model=model,
            message_history=list(work.history[:last]),
            model_settings={"cache": work.cache},
            conversation_id=work.conversation,
        ) as run:
            async for _ in run:
                pass
    except RecalledError as recalled:
        return recalled.differs
    return "it asks for nothing"


def take_up(work: Work, before: Attempted) -> None:
    """Let a piece of work go on with what is left of its limits after earlier lives of the run."""
    work.usage.requests = before.turns
    work.hands.earlier = Earlier(before.said)
    if not isinstance(work.history[-1] if work.history else None, ModelResponse):
        work.hands.earlier.close()
    calls = {
        part.tool_call_id: part
        for message in work.history
        if isinstance(message, ModelResponse)
        for part in message.tool_calls
    }
    recount(work.hands, calls)


async def _loop(agent: Worker, work: Work, limits: UsageLimits) -> Ending:
    async with agent.iter(
        work.prompt,
        deps=work.hands,
        model=work.model,
        message_history=list(work.history) or None,
        usage=work.usage,
        usage_limits=limits,
        model_settings={"cache": work.cache},
        conversation_id=work.conversation,
    ) as run:
        node, heard = run.next_node, _unheard(work)
        while not isinstance(node, End):
            if Agent.is_call_tools_node(node):
                heard = None
            elif Agent.is_model_request_node(node):
                if heard is not None:
                    # It called nothing: the library would rather ask once more than complain.
                    node, heard = CallToolsNode[Hands, Answer](heard), None
                elif work.full is not None and work.full(work.messages, node.request):
                    raise FullError
                elif work.hands.earlier is not None:
                    work.hands.earlier.close()
            node = await run.next(node)
    assert run.result is not None, "an agent's run ends with a result or raises"
    return _ending(run.result.output, work.hands.outputs)


def _unheard(work: Work) -> ModelResponse | None:
    """Return the history's last message where it is an answer that is still to be acted on."""
    last = work.history[-1] if work.history and work.prompt is None else None
    return last if isinstance(last, ModelResponse) else None


def _ending(answer: Answer, wanted: Mapping[str, ValueType]) -> Ending:
    match answer:
        case DoneAnswer(summary=summary):
            return Done(_short(summary))
        case DoneWithOutputs(summary=summary, outputs=outputs):
            return Done(_short(summary), {name: outputs[name] for name in wanted})
        case CannotAnswer(reason=reason, evidence=evidence):
            return Cannot(_short(reason), _short(evidence))
        case _:
            assert_never(answer)


async def _with_outputs(ctx: RunContext[Hands], answer: Answer) -> Answer:
    """Send an answer back that lacks what was asked for."""
    if isinstance(answer, DoneWithOutputs):
        problems = output_problems(answer.outputs, ctx.deps.outputs)
        if problems:
            raise ModelRetry(f"`outputs`: {'; '.join(problems)}.")
    return answer


def _is(value: object, kind: ValueType) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "number":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "json":
            return True
        case _:
            assert_never(kind)


def _short(text: str) -> str:
    return head_tail(clean(text).strip(), _SAID_BYTES, 0.75)
