"""Prints what the prefix guard costs: milliseconds of the processor per 100 kB of a request.

    python benchmarks/prefix.py [--rounds N]

Of the guard alone (splitting, comparing with the request before, counting what is new) and with the
parsing of the request's JSON. Exit code 1 when the guard alone misses its goal.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING, Any, get_args

from runner.prefix import Api, digest_of, extends, new_bytes, prefix_of_json

if TYPE_CHECKING:
    from collections.abc import Callable

GOAL = 1.0
TURNS = 60
SOURCE = 'def total(items):\n    return sum(items)  # "quoted" é and more\n' * 20
SCHEMA = {
    "type": "object",
    "properties": {
        name: {"type": "string", "description": "A path, relative to the root."} for name in "abcd"
    },
}


def conversation(api: Api) -> dict[str, Any]:
    """Return a request as an agent sends it after many turns: tools, calls, results of 1 kB."""
    said: list[dict[str, Any]] = []
    for turn in range(TURNS):
        said += _TURNS[api](f"call_{turn}")
    if api == "google":
        declared = [{"name": f"tool{n}", "parametersJsonSchema": SCHEMA} for n in range(8)]
        return {
            "contents": said,
            "systemInstruction": {"parts": [{"text": "Be good. " * 400}]},
            "tools": [{"functionDeclarations": declared}],
            "generationConfig": {"maxOutputTokens": 8000},
        }
    tools = [{"name": f"tool{n}", "input_schema": SCHEMA} for n in range(8)]
    if api == "responses":
        return {"model": "m", "instructions": "Be good. " * 400, "tools": tools, "input": said}
    first = {"role": "system", "content": "Be good. " * 400}
    return {"model": "m", "max_tokens": 8000, "tools": tools, "messages": [first, *said]}


def _anthropic(call: str) -> list[dict[str, Any]]:
    used = {"type": "tool_use", "id": call, "name": "tool1", "input": {"a": "src/a.py"}}
    text: dict[str, Any] = {"type": "text", "text": SOURCE}
    result = {"type": "tool_result", "tool_use_id": call, "content": [text]}
    return [
        {"role": "assistant", "content": [{"type": "text", "text": "I look."}, used]},
        {"role": "user", "content": [result]},
    ]


def _chat(call: str) -> list[dict[str, Any]]:
    function = {"name": "tool1", "arguments": '{"a": "src/a.py"}'}
    used = {"id": call, "type": "function", "function": function}
    return [
        {"role": "assistant", "content": "I look.", "tool_calls": [used]},
        {"role": "tool", "tool_call_id": call, "content": SOURCE},
    ]


def _responses(call: str) -> list[dict[str, Any]]:
    said = {"type": "output_text", "text": "I look."}
    return [
        {"role": "assistant", "content": [said]},
        {"type": "function_call", "call_id": call, "name": "tool1", "arguments": "{}"},
        {"type": "function_call_output", "call_id": call, "output": SOURCE},
    ]


def _google(call: str) -> list[dict[str, Any]]:
    used = {"functionCall": {"id": call, "name": "tool1", "args": {"a": "src/a.py"}}}
    result = {"id": call, "name": "tool1", "response": {"return_value": SOURCE}}
    return [
        {"role": "model", "parts": [{"text": "I look."}, used]},
        {"role": "user", "parts": [{"functionResponse": result}]},
    ]


_TURNS: dict[Api, Callable[[str], list[dict[str, Any]]]] = {
    "anthropic": _anthropic,
    "chat": _chat,
    "responses": _responses,
    "google": _google,
}


def best(rounds: int, action: Callable[[], object]) -> float:
    """Return the processor's seconds of the quickest round: what others do does not count."""
    times: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        action()
        times.append(time.process_time() - began)
    return min(times)


def measure(api: Api, rounds: int) -> bool:
    """Print one API's figures; tell whether the guard keeps its goal."""
    body = conversation(api)
    raw = json.dumps(body).encode()
    before = prefix_of_json(api, body, len(raw))

    def guard() -> None:
        now = prefix_of_json(api, body, len(raw))
        assert extends(before, now) == ""
        new_bytes(before, now)
        digest_of(now)

    scale = 1000 * 100_000 / len(raw)
    alone, parsing = (best(rounds, action) * scale for action in (guard, lambda: json.loads(raw)))
    verdict = "ok" if alone < GOAL else "MISSED"
    print(
        f"{api:<12}{len(raw):>8} bytes {len(before.blocks):>5} blocks {alone:>7.2f} ms per 100 kB, "
        f"{alone + parsing:.2f} with parsing  goal < {GOAL:g}  {verdict}"
    )
    return alone < GOAL


def main() -> int:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    rounds = parser.parse_args().rounds
    kept = [measure(api, rounds) for api in get_args(Api)]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
