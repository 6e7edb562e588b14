"""Renders a request's new messages for its span, where content is asked for; cut, never broken.

https://github.com/open-telemetry/semantic-conventions-genai (gen-ai-input-messages.json,
gen-ai-output-messages.json). A span holds what is new since the request before, not the whole
conversation again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from runner.telemetry import names
from runner.text import head_tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from runner.telemetry.nouns import Value

PART_BYTES = 4_000
"""Of one text, one call's arguments, one result."""
ALL_BYTES = 16_000
"""Of one attribute: what a span's reader, and its wire, still bear."""

_Object = dict[str, Any]


def content_attributes(messages: str) -> dict[str, Value]:
    """Return what was said, as attributes; nothing where it cannot be read.

    Args:
        messages: JSON, as `ModelResponded.messages` holds it; masked already.
    """
    try:
        said = cast("list[_Object]", json.loads(messages)) if messages else []
        asked = [_message(one) for one in said if one.get("kind") == "request"]
        answered = [_answer(one) for one in said if one.get("kind") == "response"]
        told = _instructions(said)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
        return {}
    found: dict[str, Value] = {}
    if told:
        parts = [{"type": "text", "content": _cut(told)}]
        found[names.SYSTEM_INSTRUCTIONS] = json.dumps(parts, ensure_ascii=False)
    if asked:
        found[names.INPUT_MESSAGES] = _bounded(asked)
    if answered:
        found[names.OUTPUT_MESSAGES] = _bounded(answered)
    return found


def _instructions(said: Sequence[_Object]) -> str:
    """Return the instructions where a conversation begins; they are the same ever after."""
    first = said[0] if said else {}
    opens = any(part.get("part_kind") == "user-prompt" for part in first.get("parts", ()))
    return str(first.get("instructions") or "") if opens else ""


def _message(message: _Object) -> _Object:
    parts = list(_parts(message))
    answers = all(part["type"] == "tool_call_response" for part in parts)
    return {"role": "tool" if parts and answers else "user", "parts": parts}


def _answer(message: _Object) -> _Object:
    reason = str(message.get("finish_reason") or "stop")
    return {"role": "assistant", "parts": list(_parts(message)), "finish_reason": reason}


def _parts(message: _Object) -> Iterator[_Object]:
    for part in message["parts"]:
        match part.get("part_kind"):
            case "tool-call":
                yield {
                    "type": "tool_call",
                    "id": part.get("tool_call_id"),
                    "name": part.get("tool_name"),
                    "arguments": _arguments(part.get("args")),
                }
            case "tool-return":
                yield _response(part)
            case "retry-prompt" if part.get("tool_name"):
                yield _response(part)
            case "thinking":
                yield {"type": "reasoning", "content": _cut(part.get("content"))}
            case _:
                yield {"type": "text", "content": _cut(part.get("content"))}


def _response(part: Mapping[str, Any]) -> _Object:
    return {
        "type": "tool_call_response",
        "id": part.get("tool_call_id"),
        "response": _cut(part.get("content")),
    }


def _arguments(arguments: Any) -> Any:
    """Return a call's arguments as they are where they are short, else as a cut text."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    if len(text.encode("utf-8", "replace")) > PART_BYTES:
        return _cut(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _cut(content: Any) -> str:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    return head_tail(text, PART_BYTES, 0.5)


def _bounded(messages: list[_Object]) -> str:
    """Write messages as JSON; of too many, the first and as many of the last as there is room."""
    written = [json.dumps(message, ensure_ascii=False) for message in messages]
    room = ALL_BYTES - len(written[0].encode("utf-8", "replace"))
    kept = len(written)
    while kept > 1:
        room -= len(written[kept - 1].encode("utf-8", "replace"))
        if room < 0:
            break
        kept -= 1
    if kept > 1:
        text = f"[{kept - 1} messages left out]"
        gap = {"role": messages[0]["role"], "parts": [{"type": "text", "content": text}]}
        if "finish_reason" in messages[0]:
            gap["finish_reason"] = "stop"
        written[1:kept] = [json.dumps(gap)]
    return f"[{','.join(written)}]"
