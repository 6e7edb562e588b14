"""Renders a request of pydantic-ai as JSON, shaped like Anthropic Messages, without any client.

Used where no wire can be looked at: for scripted models, and for vendors whose clients bring their
own transport. The same request gives the same bytes; times and random ids are left out.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import (
    InstructionPart,
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic_ai.models import ModelRequestParameters


def render(messages: Sequence[ModelMessage], parameters: ModelRequestParameters) -> bytes:
    """Render what the model is sent: tools, instructions, messages."""
    tools = [*parameters.function_tools, *parameters.output_tools]
    body = {
        "tools": [
            {"name": t.name, "description": t.description, "schema": t.parameters_json_schema}
            for t in tools
        ],
        "system": _instructions(messages, parameters),
        "messages": [
            {
                "role": "user" if isinstance(message, ModelRequest) else "assistant",
                "content": [_part(part) for part in message.parts],
            }
            for message in messages
        ],
    }
    return json.dumps(body, ensure_ascii=False, default=str).encode(errors="surrogatepass")


def shown_text(message: ModelRequest) -> str:
    """Return what a request newly shows the model, as one text."""
    return "\n".join(_request_text(part) for part in message.parts)


def _instructions(
    messages: Sequence[ModelMessage], parameters: ModelRequestParameters
) -> str | None:
    if parameters.instruction_parts:
        return InstructionPart.join(parameters.instruction_parts)
    asked = [m.instructions for m in messages if isinstance(m, ModelRequest) and m.instructions]
    return asked[-1] if asked else None


def _part(part: ModelRequestPart | ModelResponsePart) -> dict[str, Any]:
    if isinstance(part, ToolCallPart):
        return {
            "type": "tool_use",
            "id": part.tool_call_id,
            "name": part.tool_name,
            "input": part.args,
        }
    if isinstance(part, (TextPart, ThinkingPart)):
        return {"type": part.part_kind, "content": part.content}
    if isinstance(part, ToolReturnPart):
        return {
            "type": "tool_return",
            "id": part.tool_call_id,
            "content": part.model_response_str(),
        }
    text = _request_text(part)
    return {"type": part.part_kind, "content": text}


def _request_text(part: ModelRequestPart | ModelResponsePart) -> str:
    if isinstance(part, ToolReturnPart):
        return part.model_response_str()
    if isinstance(part, UserPromptPart) and not isinstance(part.content, str):
        return "\n".join(item if isinstance(item, str) else repr(item) for item in part.content)
    content = getattr(part, "content", "")
    return content if isinstance(content, str) else json.dumps(content, default=str)
