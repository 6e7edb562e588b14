"""Decides whether a request extends the one before, block by block, as a provider's cache sees it.

A prompt cache holds a prefix of the rendered prompt: tools, then instructions, then messages. A
request that changes any of them before its end, or a field that is rendered into them, pays for
everything after that place again. Cache markers themselves are not part of the prompt.
"""

from __future__ import annotations

import json
import marshal
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Api = Literal["anthropic", "chat", "responses", "google"]
"""Anthropic Messages, OpenAI chat completions, OpenAI Responses, Gemini's `generateContent`."""

_MARKERS = frozenset({"cache_control", "prompt_cache_breakpoint"})
_BLOCK_FIELDS = {
    "anthropic": frozenset({"tools", "system", "messages"}),
    "chat": frozenset({"tools", "messages"}),
    "responses": frozenset({"tools", "instructions", "input"}),
    "google": frozenset({"tools", "systemInstruction", "contents"}),
}
_ALWAYS_APART = frozenset({"stream", "temperature", "top_p", "metadata"})
_OPENAI_APART = _ALWAYS_APART | {
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "store",
    "stream_options",
    "top_logprobs",
    "user",
}
_APART = {
    "anthropic": _ALWAYS_APART
    | {"cache_control", "diagnostics", "max_tokens", "stop_sequences", "top_k"},
    "chat": _OPENAI_APART
    | {"frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens", "n"}
    | {"presence_penalty", "seed", "stop"},
    "responses": _OPENAI_APART | {"background", "include", "max_output_tokens"},
    "google": frozenset({"labels", "safetySettings", "store"}),
}
"""Fields that no provider documents as part of its cache: sampling, limits, names, markers.

Every other field counts (output format, tool choice, thinking, effort, service tier ...), so that
one nobody thought of is reported rather than overlooked. Sources:
platform.claude.com/docs/en/build-with-claude/prompt-caching (what invalidates the cache),
developers.openai.com/api/docs/guides/prompt-caching, and for Google ai.google.dev/api/caching: a
cached content is a model, contents, tools, system instruction and tool configuration.
`prompt_cache_options` and `diagnostics` name the response before, anew with each request.
"""
_GENERATION = "generationConfig"
_GENERATION_APART = frozenset(
    {"candidateCount", "frequencyPenalty", "logprobs", "maxOutputTokens", "presencePenalty"}
    | {"responseLogprobs", "seed", "stopSequences", "temperature", "topK", "topP"}
)
"""The same inside Google's `generationConfig`; thinking, schema and modalities count."""


class Block(NamedTuple):
    """One piece of a request: a tool, an instruction, a part of a message.

    A tuple, for there are thousands of them: they must cost next to nothing.
    """

    where: str
    data: bytes
    """Who says it and what, without cache markers: equal for what a cache holds as one."""


@frozen
class Prefix:
    """A request as a provider's cache sees it."""

    api: Api
    fields: Mapping[str, str]
    """Other fields that the cache depends on, each as JSON."""
    blocks: tuple[Block, ...]
    size: int
    """Bytes of the whole body."""
    spare: int
    """Bytes of it at most that a request which extends it can do without."""


def prefix_of(api: Api, body: bytes) -> Prefix | None:
    """Split a request's JSON body; `None` when it is not a JSON object."""
    try:
        parsed: Any = json.loads(body)
        if not isinstance(parsed, dict):
            return None
        return prefix_of_json(api, cast("Mapping[str, Any]", parsed), len(body))
    except (ValueError, RecursionError):
        return None


def prefix_of_json(api: Api, body: Mapping[str, Any], size: int, *, model: str = "") -> Prefix:
    """Split a request that is parsed already.

    Args:
        api: What is spoken.
        body: The parsed request.
        size: Bytes that it has on the wire.
        model: The model, where the path and not the body names it (`model_in`).

    Raises:
        ValueError: It is nested deeper than any provider takes.
    """
    fields = {"model": model} if model else {}
    apart: dict[str, Any] = {}
    for name, value in body.items():
        if name in _BLOCK_FIELDS[api]:
            continue
        if name in _APART[api]:
            apart[name] = value
        elif name == _GENERATION and api == "google":
            for inner, setting in (_mapping(value) or {}).items():
                if inner in _GENERATION_APART:
                    apart[inner] = setting
                else:
                    fields[f"{name}.{inner}"] = _text(setting)
        else:
            fields[name] = _text(value)
    splitter = _Splitter()
    _BLOCKS[api](splitter, body)
    spare = splitter.spare + (_longest(apart) if apart else 0)
    return Prefix(api, fields, tuple(splitter.blocks), size, spare)


def model_in(path: str) -> str:
    """Return the model that a path names, as Google's do; empty when it names none."""
    _, found, rest = path.rpartition("/models/")
    return rest.partition(":")[0] if found else ""


def extends(previous: Prefix, current: Prefix) -> str:
    """Say where `current` first differs from all of `previous`; empty when it extends it."""
    if previous.api != current.api:
        return f"api: {previous.api} became {current.api}"
    for name in sorted({*previous.fields, *current.fields}):
        before, after = previous.fields.get(name), current.fields.get(name)
        if before != after:
            return f"{name}: {_short(before)} became {_short(after)}"
    for before, after in zip(previous.blocks, current.blocks, strict=False):
        if before.data != after.data:
            return _moved(before, after)
    if len(current.blocks) < len(previous.blocks):
        return f"{previous.blocks[len(current.blocks)].where}: left out"
    return ""


def digest_of(prefix: Prefix) -> str:
    """Return 16 hex digits over all blocks and fields: equal for what a cache holds as one."""
    whole = blake2b(digest_size=8)
    for name, value in sorted(prefix.fields.items()):
        whole.update(f"{name}={value}\n".encode(errors="surrogatepass"))
    for block in prefix.blocks:
        whole.update(block.data)
    return whole.hexdigest()


def retention_asked(body: Mapping[str, Any]) -> float | None:
    """Return for how many seconds a request asks its whole prompt to be kept; `None`: it does not.

    A marker at the top level stands for one on the last block (Anthropic's automatic caching).
    """
    marker = body.get("cache_control")
    if marker is None and (messages := _items(body.get("messages"))):
        content = _items((_mapping(messages[-1]) or {}).get("content"))
        marker = (_mapping(content[-1]) or {}).get("cache_control") if content else None
    found = _mapping(marker)
    if found is None:
        return None
    return 3_600.0 if found.get("ttl") == "1h" else 300.0


def new_bytes(previous: Prefix, current: Prefix) -> int:
    """Bound the bytes of `current` that are not in `previous`, which it extends.

    Never too few: what `previous` may have had besides its blocks counts as new, too.
    """
    return min(current.size, max(0, current.size - previous.size + previous.spare))


def _moved(before: Block, after: Block) -> str:
    if before.where == after.where:
        return f"{before.where}: changed ({len(before.data)} bytes became {len(after.data)})"
    return f"{before.where}: became {after.where}"


def _short(text: str | None) -> str:
    if text is None:
        return "absent"
    return text if len(text) <= 60 else f"{text[:57]}..."


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _text(value: object) -> str:
    # Key order stays as it is on the wire: providers render what they are sent.
    return _compact(value)


def _longest(value: object) -> int:
    """Bytes of a value's JSON in the longest spelling that clients use."""
    return len(json.dumps(value))


def _mapping(value: object) -> Mapping[str, Any] | None:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else None


def _items(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


_BARE_TEXT = frozenset({"type", "text"})
_TEXT_TYPES = frozenset({"text", "input_text", "output_text"})
_BARE_TEXT_SIZE = _longest([{"type": "output_text", "text": ""}])
_SAID = {"role", "content"}


class _Splitter:
    """Collects the blocks of one request."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.spare = 0

    def add(self, where: str, who: str, what: Any) -> None:
        # Far quicker than JSON; format 2 tells nothing of how the value is held in memory.
        self.blocks.append(Block(where, marshal.dumps((who, what), 2)))

    def unmarked(self, value: Any) -> Any:
        """A block without its cache markers; they stand on it, or on one nested as content."""
        if not isinstance(value, dict):
            return cast("object", value)
        block = cast("dict[str, Any]", value)
        bare = block if _MARKERS.isdisjoint(block) else self._stripped(block)
        if block.get("type") == "tool_result":
            for item in _items(block.get("content")):
                if isinstance(item, dict) and not _MARKERS.isdisjoint(cast("Any", item)):
                    inner = [self.unmarked(each) for each in block["content"]]
                    return {**bare, "content": inner}
        return bare

    def _stripped(self, block: Mapping[str, Any]) -> dict[str, Any]:
        marked = {key: value for key, value in block.items() if key in _MARKERS}
        self.spare += _longest(marked)
        return {key: value for key, value in block.items() if key not in _MARKERS}

    def parts(self, where: str, who: str, content: object) -> None:
        """Parts of a message; a plain text is the same as one text part."""
        if not isinstance(content, list):
            if content is not None:
                self.add(f"{where}[0]", who, content)
            return
        for number, item in enumerate(cast("list[Any]", content)):
            part = self.unmarked(item)
            # OpenAI's three spellings of a text part render alike.
            if isinstance(item, dict) and part.keys() == _BARE_TEXT and part["type"] in _TEXT_TYPES:
                self.spare += _BARE_TEXT_SIZE
                part = part["text"]
            self.add(f"{where}[{number}]", who, part)

    def tools(self, body: Mapping[str, Any]) -> None:
        for number, tool in enumerate(_items(body.get("tools"))):
            self.add(f"tools[{number}]", "tool", self.unmarked(tool))

    def message(self, where: str, message: Mapping[str, Any]) -> None:
        """A message's parts, then whatever else it holds: tool calls, ids."""
        role = str(message.get("role", ""))
        self.parts(f"{where}.content", role, message.get("content"))
        if len(message) != 2 or "role" not in message or "content" not in message:
            bare = message if _MARKERS.isdisjoint(message) else self._stripped(message)
            if rest := {key: value for key, value in bare.items() if key not in _SAID}:
                self.add(where, role, rest)

    def messages(self, value: object) -> None:
        for number, item in enumerate(_items(value)):
            message = _mapping(item)
            if message is None:
                self.add(f"messages[{number}]", "", item)
            else:
                self.message(f"messages[{number}]", message)


def _anthropic(split: _Splitter, body: Mapping[str, Any]) -> None:
    split.tools(body)
    split.parts("system", "system", body.get("system"))
    split.messages(body.get("messages"))


def _chat(split: _Splitter, body: Mapping[str, Any]) -> None:
    split.tools(body)
    split.messages(body.get("messages"))


def _responses(split: _Splitter, body: Mapping[str, Any]) -> None:
    split.tools(body)
    if body.get("instructions") is not None:
        split.add("instructions", "instructions", body["instructions"])
    given = body.get("input")
    if isinstance(given, str):
        split.add("input", "user", given)
        return
    for number, value in enumerate(_items(given)):
        item = _mapping(value)
        where = f"input[{number}]"
        if item is None:
            split.add(where, "", value)
        elif "content" in item and "role" in item:
            if item.get("type") == "message":
                split.spare += _MESSAGE_TYPE_SIZE
                item = {key: value for key, value in item.items() if key != "type"}
            split.message(where, item)
        else:
            split.add(where, "", split.unmarked(item))


_MESSAGE_TYPE_SIZE = _longest({"type": "message"})


def _google(split: _Splitter, body: Mapping[str, Any]) -> None:
    for number, value in enumerate(_items(body.get("tools"))):
        tool = _mapping(value) or {}
        where = f"tools[{number}]"
        for which, declared in enumerate(_items(tool.get("functionDeclarations"))):
            split.add(f"{where}.functionDeclarations[{which}]", "tool", declared)
        if rest := {key: item for key, item in tool.items() if key != "functionDeclarations"}:
            split.add(where, "tool", rest)
    if body.get("systemInstruction") is not None:
        _google_content(split, "systemInstruction", body["systemInstruction"])
    for number, value in enumerate(_items(body.get("contents"))):
        _google_content(split, f"contents[{number}]", value)


def _google_content(split: _Splitter, where: str, value: object) -> None:
    content = _mapping(value)
    if content is None:
        split.add(where, "", value)
        return
    role = str(content.get("role", ""))
    for number, part in enumerate(_items(content.get("parts"))):
        split.add(f"{where}.parts[{number}]", role, part)


_BLOCKS: Mapping[Api, Callable[[_Splitter, Mapping[str, Any]], None]] = {
    "anthropic": _anthropic,
    "chat": _chat,
    "responses": _responses,
    "google": _google,
}
