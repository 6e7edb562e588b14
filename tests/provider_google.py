"""What `provider.py` says as Gemini's `generateContent` and `streamGenerateContent`.

ai.google.dev/api/generate-content (requests, answers, usageMetadata), cloud.google.com/apis/design/
errors (errors).
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from provider import Answer, Ask, Tokens

PATH = re.compile(r"/v1(?:beta)?/models/([^/:]+):(?:streamG|g)enerateContent$")

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def tool_names(body: dict[str, Any]) -> list[str]:
    tools: list[dict[str, list[dict[str, str]]]] = body.get("tools") or []
    return [each["name"] for tool in tools for each in tool.get("functionDeclarations", [])]


def error(status: int) -> dict[str, Any]:
    kind = _STATUS.get(status, "UNKNOWN")
    return {"error": {"code": status, "message": f"status {status}", "status": kind}}


def usage(tokens: Tokens) -> dict[str, Any]:
    """The prompt's count includes what was cached; the candidates' is without thoughts."""
    thoughts = tokens.output // 2
    counted = {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": tokens.output - thoughts,
        "thoughtsTokenCount": thoughts,
        "totalTokenCount": tokens.input + tokens.output,
    }
    return {**counted, "cachedContentTokenCount": tokens.cache_read}


def _parts(ask: Ask, answer: Answer) -> list[dict[str, Any]]:
    """Thoughts first; a signature stands on the part that comes after its thought."""
    said: list[dict[str, Any]] = [{"text": answer.text}] if answer.text else []
    for number, call in enumerate(answer.calls):
        given = call.arguments
        arguments = {"unparsed": given} if isinstance(given, str) else dict(given)
        made = {"id": f"call_{ask.number}_{number}", "name": call.tool, "args": arguments}
        said.append({"functionCall": made})
    parts: list[dict[str, Any]] = []
    first_call = len(said) - len(answer.calls)
    for number, part in enumerate(said):
        for thought in answer.thoughts:
            if number == (thought.before + first_call if thought.before else 0):
                if thought.text:
                    parts.append({"text": thought.text, "thought": True})
                part["thoughtSignature"] = thought.sealed
        parts.append(part)
    return parts


def _frame(ask: Ask, answer: Answer) -> dict[str, Any]:
    return {"modelVersion": answer.model or ask.model, "responseId": f"google-{ask.number}"}


def whole(ask: Ask, answer: Answer) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "finishReason": "STOP"}
    if answer.refused:
        candidate["finishReason"] = "SAFETY"
    else:
        if answer.cut:
            candidate["finishReason"] = "MAX_TOKENS"
        candidate["content"] = {"role": "model", "parts": _parts(ask, answer)}
    body = {**_frame(ask, answer), "candidates": [candidate]}
    if answer.tokens is not None:
        body["usageMetadata"] = usage(answer.tokens)
    return body


def events(ask: Ask, answer: Answer) -> Iterator[tuple[str, dict[str, Any]]]:
    last = whole(ask, answer)
    content = last["candidates"][0].pop("content", {"parts": []})
    for part in content["parts"]:
        said = {"index": 0, "content": {"role": "model", "parts": [part]}}
        yield "", {**_frame(ask, answer), "candidates": [said]}
    yield "", last


def retry_in(seconds: float) -> dict[str, Any]:
    """The body of a 429 that asks to wait."""
    body = error(429)
    info = "type.googleapis.com/google.rpc.RetryInfo"
    body["error"]["details"] = [{"@type": info, "retryDelay": f"{seconds}s"}]
    return json.loads(json.dumps(body))
