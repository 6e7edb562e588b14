"""Splits requests into the blocks that a provider's prompt cache sees; part of `cacheserver`.

A block is a tool, an instruction or a part of a message. Its key stands for it and all before it,
so that equal keys mean equal prefixes. Tokens of a block: a quarter of the bytes of its compact
JSON without cache markers, rounded up; whole numbers that add up.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import accumulate
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from provider import Ask

TTLS = {"5m": 300.0, "1h": 3600.0}
MARKERS = {"cache_control", "prompt_cache_breakpoint"}
FIRST_BYTES = 4 * 256
"""The first 256 tokens lead to a machine."""


class BadRequestError(ValueError):
    """The provider answers 400."""


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a prompt."""

    label: str
    text: bytes
    key: bytes
    kind: str = ""

    @property
    def tokens(self) -> int:
        """A quarter of its bytes."""
        return -(-len(self.text) // 4)


@dataclass(slots=True)
class Prompt:
    """A request as a prompt cache sees it."""

    api: str
    model: str
    settings: str = ""
    """Fields that stand before everything in the prompt, or keep caches apart."""
    blocks: list[Block] = field(default_factory=list[Block])
    marks: dict[int, float] = field(default_factory=dict[int, float])
    """Index of a block with an explicit (or Anthropic's automatic) breakpoint, and its seconds."""
    endings: list[int] = field(default_factory=list[int])
    """OpenAI: the last blocks of user messages and of groups of tool responses."""
    opening: int | None = None
    """OpenAI: the last block of the developer messages at the beginning."""
    explicit_only: bool = False
    extended: bool = False
    """OpenAI before GPT-5.5: retention of 24 hours."""
    ends: list[int] = field(default_factory=list[int])
    """Tokens up to the end of each block."""
    positions: list[int] = field(default_factory=list[int])
    """As the look-back counts: runs of tool uses, and of tool results, are one."""

    def salt(self, value: object) -> None:
        """Make all that follows depend on something that is no block."""
        self._hash.update(b"\0" + _json(value))

    def add(self, label: str, value: object, kind: str = "") -> int:
        """Append a block and return its index."""
        text = _json(value)
        self._hash.update(b"\1" + label.encode() + b"\0" + text)
        self.blocks.append(Block(label, text, self._hash.digest(), kind))
        return len(self.blocks) - 1

    def closed(self) -> Prompt:
        """Do the sums."""
        self.ends = list(accumulate(block.tokens for block in self.blocks))
        kinds = [block.kind for block in self.blocks]
        new = [
            int(not (kind in {"tool_use", "tool_result"} and kind == before))
            for before, kind in zip(["", *kinds], kinds, strict=False)
        ]
        self.positions = list(accumulate(new))
        return self

    @property
    def total(self) -> int:
        """Tokens of all of it."""
        return self.ends[-1] if self.ends else 0

    @property
    def machine(self) -> bytes:
        """Where it is sent: model, settings and the first 256 tokens."""
        first = b"".join(block.text for block in self.blocks)[:FIRST_BYTES]
        return _json([self.api, self.model, self.settings]) + first

    def common(self, other: Prompt) -> int:
        """Count the tokens that two prompts of equal settings share from the start."""
        shared = 0
        for one, two in zip(self.blocks, other.blocks, strict=False):
            if one.key == two.key:
                shared += one.tokens
                continue
            if one.label == two.label:
                shared += _alike(one.text, two.text) // 4
            break
        return shared

    def __post_init__(self) -> None:
        self._hash = blake2b(_json([self.api, self.model, self.settings]), digest_size=16)

    _hash: Any = field(init=False, repr=False)


def anthropic_prompt(ask: Ask) -> Prompt:
    """Tools, system, messages, and what each level depends on beside its blocks.

    platform.claude.com/docs/en/build-with-claude/prompt-caching, "What invalidates the cache".

    Raises:
        BadRequestError: More than four breakpoints, one on a block that can have none, or
            lifetimes out of order.
    """
    body = ask.body
    prompt = Prompt("anthropic", ask.model)
    for tool in _list(body.get("tools")):
        _anthropic_block(prompt, "tool", tool)
    config = _dict(body.get("output_config"))
    prompt.salt([body.get("speed"), config.get("format"), body.get("output_format")])
    for part in _parts(body.get("system")):
        _anthropic_block(prompt, "system", part)
    messages = _list(body.get("messages"))
    images = any('"type":"image"' in _json(message).decode() for message in messages)
    prompt.salt([body.get("tool_choice"), body.get("thinking"), config.get("effort"), images])
    for message in messages:
        for part in _parts(message.get("content")):
            _anthropic_block(prompt, message["role"], part)
    _automatic(prompt, body.get("cache_control"))
    if len(prompt.marks) > 4:
        raise BadRequestError(
            f"A maximum of 4 blocks with cache_control may be provided. Found {len(prompt.marks)}."
        )
    lifetimes = [prompt.marks[index] for index in sorted(prompt.marks)]
    if lifetimes != sorted(lifetimes, reverse=True):
        raise BadRequestError("a ttl='1h' cache_control block must not come after a ttl='5m' one")
    return prompt.closed()


def _anthropic_block(prompt: Prompt, label: str, value: dict[str, Any]) -> None:
    kind = str(value.get("type") or "")
    mark = value.get("cache_control")
    if mark and not _markable(kind, value):
        raise BadRequestError(f"cache_control cannot be set for this block: {kind}")
    nested = [_dict(part).get("cache_control") for part in _maybe_list(value.get("content"))]
    mark = mark or next((one for one in nested if one), None)
    index = prompt.add(label, _unmarked(value), kind)
    if mark:
        prompt.marks[index] = _ttl(mark)


def _automatic(prompt: Prompt, control: Any) -> None:
    """Put the breakpoint of the whole request on the last block that can have one.

    platform.claude.com/docs/en/build-with-claude/prompt-caching, "Automatic caching", edge cases.
    """
    if not control:
        return
    able = [n for n, one in enumerate(prompt.blocks) if _markable(one.kind, json.loads(one.text))]
    if not able:
        return
    asked = _ttl(control)
    if prompt.marks.setdefault(able[-1], asked) != asked:
        raise BadRequestError("cache_control: the last block has one with another ttl")


def _markable(kind: str, value: dict[str, Any]) -> bool:
    if kind in {"thinking", "redacted_thinking"}:
        return False
    return kind != "text" or bool(value.get("text"))


def _ttl(control: Mapping[str, Any]) -> float:
    try:
        return TTLS[control.get("ttl") or "5m"]
    except KeyError:
        raise BadRequestError(f"cache_control.ttl: {control}") from None


def chat_prompt(ask: Ask) -> Prompt:
    """OpenAI chat completions: tools, then messages."""
    body = ask.body
    settings = [
        body.get(name)
        for name in ("response_format", "reasoning_effort", "verbosity", "parallel_tool_calls")
    ]
    prompt = _openai(ask, "chat", settings)
    pieces = [(str(one["role"]), one) for one in _list(body.get("messages"))]
    for number, (role, message) in enumerate(pieces):
        for part in _parts(message.get("content")):
            _openai_block(prompt, role, part)
        for call in _list(message.get("tool_calls")):
            prompt.add(role, call)
        _ending(prompt, number, [one for one, _ in pieces])
    return prompt.closed()


def responses_prompt(ask: Ask) -> Prompt:
    """OpenAI Responses: tools, instructions, then items."""
    body = ask.body
    text, reasoning = _dict(body.get("text")), _dict(body.get("reasoning"))
    settings = [
        text.get("format"),
        text.get("verbosity"),
        reasoning.get("effort"),
        body.get("parallel_tool_calls"),
        body.get("context_management"),
    ]
    prompt = _openai(ask, "responses", settings)
    if body.get("instructions"):
        prompt.add("instructions", body["instructions"])
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else _list(given)
    roles = [_role(item) for item in items]
    for number, item in enumerate(items):
        if "role" in item:
            for part in _parts(item.get("content")):
                _openai_block(prompt, roles[number], part)
        else:
            _openai_block(prompt, "", item)
        _ending(prompt, number, roles)
    return prompt.closed()


def _openai(ask: Ask, api: str, settings: list[Any]) -> Prompt:
    body = ask.body
    options = _dict(body.get("prompt_cache_options"))
    if options.get("ttl") not in {None, "30m"}:
        raise BadRequestError(f"prompt_cache_options.ttl: {options['ttl']} is not modelled here")
    settings += [body.get("service_tier"), body.get("prompt_cache_key")]
    prompt = Prompt(api, ask.model, _json(settings).decode())
    prompt.explicit_only = options.get("mode") == "explicit"
    prompt.extended = body.get("prompt_cache_retention") == "24h"
    for tool in _list(body.get("tools")):
        prompt.add("tool", tool)
    return prompt


def _openai_block(prompt: Prompt, label: str, value: dict[str, Any]) -> None:
    nested = [_dict(part) for part in _maybe_list(value.get("output"))]
    marked = any("prompt_cache_breakpoint" in one for one in (value, *nested))
    index = prompt.add(label, _unmarked(value))
    if marked:
        prompt.marks[index] = 1800.0


def _role(item: Mapping[str, Any]) -> str:
    """Role of an item; `tool` for what answers a tool call."""
    if "role" in item:
        return str(item["role"])
    return "tool" if str(item.get("type")).endswith("_output") else "assistant"


def _ending(prompt: Prompt, number: int, roles: list[str]) -> None:
    """Note where a message ends that an implicit breakpoint may follow.

    developers.openai.com/api/docs/guides/prompt-caching, "How caching works", implicit mode.
    """
    role, last = roles[number], len(prompt.blocks) - 1
    following = roles[number + 1] if number + 1 < len(roles) else ""
    first = {"system", "developer"}
    if {*roles[: number + 1]} <= first and following not in first:
        prompt.opening = last
        prompt.endings.append(last)
    elif role == "user" or (role == "tool" and following != "tool"):
        prompt.endings.append(last)


def google_prompt(ask: Ask) -> Prompt:
    """Google's `generateContent`: instructions, tools, then contents.

    ai.google.dev/gemini-api/docs/caching, "Implicit caching": what is common at the beginning.
    """
    body = ask.body
    config = _dict(body.get("generationConfig"))
    settings = [body.get("toolConfig"), config.get("responseSchema"), config.get("thinkingConfig")]
    prompt = Prompt("google", ask.model, _json(settings).decode())
    for part in _list(_dict(body.get("systemInstruction")).get("parts")):
        prompt.add("system", part)
    for tool in _list(body.get("tools")):
        prompt.add("tool", tool)
    for content in _list(body.get("contents")):
        for part in _list(content.get("parts")):
            prompt.add(str(content.get("role")), part)
    return prompt.closed()


def _json(value: object) -> bytes:
    # The order of keys stays as it is on the wire: it is part of what is rendered.
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode(errors="surrogatepass")


def _list(value: object) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", value or [])


def _maybe_list(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _parts(content: object) -> Iterator[dict[str, Any]]:
    """Parts of a message; all spellings of a text are one."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}
        return
    for part in _list(content):
        if part.get("type") in {"text", "input_text", "output_text"}:
            marks = {name: part[name] for name in part.keys() & MARKERS}
            yield {"type": "text", "text": part["text"], **marks}
        else:
            yield part


def _unmarked(value: Any) -> Any:
    """A block without its markers, and without those in its own content."""
    if not isinstance(value, dict):
        return value
    block = cast("dict[str, Any]", value)
    bare = {name: item for name, item in block.items() if name not in MARKERS}
    for name in ("content", "output"):
        if isinstance(block.get(name), list):
            bare[name] = [_unmarked(item) for item in block[name]]
    return bare


def _alike(one: bytes, two: bytes) -> int:
    """Count equal bytes from the start, by halving."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == two[:middle] else (low, middle - 1)
    return low
