"""Decides whether a request extends the one before, block by block, as a provider's cache sees it.

A prompt cache holds a prefix of the rendered prompt: tools, then instructions, then messages. A
request that changes any of them before its end, or a field that is rendered into them, pays for
everything after that place again. Cache markers themselves are not part of the prompt.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, cast

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Api = Literal["anthropic", "chat", "responses"]
"""Anthropic Messages, OpenAI chat completions, OpenAI Responses."""

_MARKERS = frozenset({"cache_control", "prompt_cache_breakpoint"})
_ALWAYS_APART = frozenset({"tools", "stream", "temperature", "top_p", "metadata"})
_APART = {
    "anthropic": _ALWAYS_APART
    | {"messages", "system", "cache_control", "max_tokens", "top_k", "stop_sequences"},
    "chat": _ALWAYS_APART
    | {"messages", "max_tokens", "max_completion_tokens", "stream_options", "seed", "stop"}
    | {"store", "user", "n", "logprobs", "top_logprobs", "logit_bias", "presence_penalty"}
    | {"frequency_penalty", "prompt_cache_options", "prompt_cache_retention"},
    "responses": _ALWAYS_APART
    | {"input", "instructions", "max_output_tokens", "stream_options", "store", "include", "user"}
    | {"top_logprobs", "prompt_cache_options", "prompt_cache_retention", "background"},
}
"""Fields that are blocks themselves, or that no provider documents as part of its cache.

Every other field counts, so that one nobody thought of is reported rather than overlooked. Sources:
platform.claude.com/docs/en/build-with-claude/prompt-caching (what invalidates the cache),
developers.openai.com/api/docs/guides/prompt-caching.
"""


@frozen
class Block:
    """One piece of a request: a tool, an instruction, a part of a message."""

    where: str
    size: int
    """Bytes of its JSON."""
    digest: bytes


@frozen
class Prefix:
    """A request as a provider's cache sees it."""

    api: Api
    fields: Mapping[str, str]
    """Other fields that the cache depends on, each as JSON."""
    blocks: tuple[Block, ...]
    size: int
    """Bytes of the whole body."""


def prefix_of(api: Api, body: bytes) -> Prefix | None:
    """Split a request's JSON body; `None` when it is not a JSON object."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, dict):
        return None
    return prefix_of_json(api, cast("Mapping[str, Any]", parsed), len(body))


def prefix_of_json(api: Api, body: Mapping[str, Any], size: int) -> Prefix:
    """Split a request that is parsed already; `size` is that of its bytes."""
    apart = _APART[api]
    fields = {name: _text(value) for name, value in body.items() if name not in apart}
    blocks = tuple(
        # Its label is no part of what is on the wire.
        Block(where, len(text) - text.index(b"\n") - 1, blake2b(text, digest_size=16).digest())
        for where, text in _BLOCKS[api](body)
    )
    return Prefix(api, fields, blocks, size)


def extends(previous: Prefix, current: Prefix) -> str:
    """Say where `current` first differs from all of `previous`; empty when it extends it."""
    if previous.api != current.api:
        return f"api: {previous.api} became {current.api}"
    for name in sorted({*previous.fields, *current.fields}):
        before, after = previous.fields.get(name), current.fields.get(name)
        if before != after:
            return f"{name}: {_short(before)} became {_short(after)}"
    for before, after in zip(previous.blocks, current.blocks, strict=False):
        if before.digest != after.digest:
            return _moved(before, after)
    if len(current.blocks) < len(previous.blocks):
        return f"{previous.blocks[len(current.blocks)].where}: left out"
    return ""


def new_bytes(previous: Prefix, current: Prefix) -> int:
    """Count the bytes of `current` beyond the blocks it shares with `previous` from the start."""
    shared = 0
    for before, after in zip(previous.blocks, current.blocks, strict=False):
        if before.digest != after.digest:
            break
        shared += after.size
    return max(0, current.size - shared)


def _moved(before: Block, after: Block) -> str:
    if before.where == after.where:
        return f"{before.where}: changed ({before.size} bytes became {after.size})"
    return f"{before.where}: became {after.where}"


def _short(text: str | None) -> str:
    if text is None:
        return "absent"
    return text if len(text) <= 60 else f"{text[:57]}..."


def _text(value: object) -> str:
    # Key order stays as it is on the wire: providers render what they are sent.
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _bytes(label: str, value: object) -> bytes:
    return f"{label}\n{_text(value)}".encode(errors="surrogatepass")


def _mapping(value: object) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def _items(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _unmarked(value: object) -> object:
    """A block without its cache markers; markers stand on a block, or on one nested as content."""
    block = _mapping(value)
    if block is None:
        return value
    bare = {key: item for key, item in block.items() if key not in _MARKERS}
    if block.get("type") == "tool_result" and isinstance(block.get("content"), list):
        bare["content"] = [_unmarked(item) for item in _items(block["content"])]
    return bare


def _parts(content: object) -> Iterator[object]:
    """Parts of a message; a plain text is the same as one text part."""
    if isinstance(content, list):
        for item in _items(cast("object", content)):
            part = _unmarked(item)
            inner = _mapping(part)
            # OpenAI's three spellings of a text part render alike.
            bare = inner is not None and set(inner) == {"type", "text"}
            yield inner["text"] if inner is not None and bare and _is_text(inner) else part
    elif content is not None:
        yield content


def _is_text(part: Mapping[str, Any]) -> bool:
    return part["type"] in {"text", "input_text", "output_text"}


def _tools(body: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    for number, tool in enumerate(_items(body.get("tools"))):
        yield f"tools[{number}]", _bytes("tool", _unmarked(tool))


def _message(where: str, message: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """A message's parts, then whatever else it holds: tool calls, ids."""
    role = message.get("role", "")
    for number, part in enumerate(_parts(message.get("content"))):
        yield f"{where}.content[{number}]", _bytes(f"{role}", part)
    rest = {
        key: value for key, value in message.items() if key not in {"role", "content", *_MARKERS}
    }
    if rest:
        yield f"{where}", _bytes(f"{role}", rest)


def _anthropic(body: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield from _tools(body)
    for number, part in enumerate(_parts(body.get("system"))):
        yield f"system[{number}]", _bytes("system", part)
    yield from _messages(body.get("messages"), "messages")


def _chat(body: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield from _tools(body)
    yield from _messages(body.get("messages"), "messages")


def _responses(body: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    yield from _tools(body)
    if body.get("instructions") is not None:
        yield "instructions", _bytes("instructions", body["instructions"])
    given = body.get("input")
    if isinstance(given, str):
        yield "input", _bytes("user", given)
        return
    for number, value in enumerate(_items(given)):
        item = _mapping(value)
        where = f"input[{number}]"
        if item is None:
            yield where, _bytes("", value)
        elif "content" in item and "role" in item:
            bare = {
                key: value for key, value in item.items() if key != "type" or value != "message"
            }
            yield from _message(where, bare)
        else:
            yield where, _bytes("", _unmarked(item))


def _messages(value: object, where: str) -> Iterator[tuple[str, bytes]]:
    for number, item in enumerate(_items(value)):
        message = _mapping(item)
        if message is None:
            yield f"{where}[{number}]", _bytes("", item)
        else:
            yield from _message(f"{where}[{number}]", message)


_BLOCKS: Mapping[Api, Callable[[Mapping[str, Any]], Iterator[tuple[str, bytes]]]] = {
    "anthropic": _anthropic,
    "chat": _chat,
    "responses": _responses,
}
