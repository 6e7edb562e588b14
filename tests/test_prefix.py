from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.prefix import Api, Prefix, extends, new_bytes, prefix_of

TOOL = {"name": "look", "description": "Looks.", "input_schema": {"type": "object"}}
ANTHROPIC: dict[str, Any] = {
    "model": "claude-opus-5-5",
    "max_tokens": 8000,
    "tools": [TOOL, {**TOOL, "name": "edit"}],
    "system": [{"type": "text", "text": "Be good."}],
    "tool_choice": {"type": "auto"},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Mend it."}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"p": 1}}],
        },
    ],
}
MORE = {
    "role": "user",
    "content": [
        {
            "type": "tool_result",
            "tool_use_id": "t1",
            "content": [{"type": "text", "text": "seen"}],
        }
    ],
}
CHAT: dict[str, Any] = {
    "model": "gpt-6-luna",
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "messages": [
        {"role": "system", "content": "Be good."},
        {"role": "user", "content": "Mend it."},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "t1", "type": "function"}]},
    ],
}
RESPONSES: dict[str, Any] = {
    "model": "gpt-6-luna",
    "instructions": "Be good.",
    "tools": [{"type": "function", "name": "look"}],
    "reasoning": {"effort": "low"},
    "input": [
        {"role": "user", "content": "Mend it."},
        {"type": "reasoning", "id": "r1", "encrypted_content": "xyz"},
        {"type": "function_call", "call_id": "t1", "name": "look", "arguments": "{}"},
    ],
}


def split(api: Api, body: dict[str, Any]) -> Prefix:
    found = prefix_of(api, json.dumps(body).encode())
    assert found is not None
    return found


def compare(api: Api, before: dict[str, Any], after: dict[str, Any]) -> str:
    return extends(split(api, before), split(api, after))


def changed(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(body), **fields}


@pytest.mark.parametrize(
    ("api", "body", "key", "more"),
    [
        ("anthropic", ANTHROPIC, "messages", MORE),
        ("chat", CHAT, "messages", {"role": "tool", "tool_call_id": "t1", "content": "seen"}),
        (
            "responses",
            RESPONSES,
            "input",
            {"type": "function_call_output", "call_id": "t1", "output": "seen"},
        ),
    ],
)
def test_more_messages_extend(api: Api, body: dict[str, Any], key: str, more: Any) -> None:
    longer = changed(body, **{key: [*body[key], more]}, stream=True, top_p=0.5)
    assert compare(api, body, body) == ""
    assert compare(api, body, longer) == ""
    assert "left out" in compare(api, longer, body)


@pytest.mark.parametrize(
    ("api", "before", "after", "where"),
    [
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, model="claude-haiku-5-5"), "model"),
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, tools=[TOOL]), "tools[1]"),
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, tools=ANTHROPIC["tools"][::-1]), "tools[0]"),
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, system="Be bad."), "system[0]"),
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, tool_choice={"type": "any"}), "tool_choice"),
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, thinking={"type": "adaptive"}), "thinking"),
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, output_config={"effort": "low"}), "output_con"),
        ("anthropic", ANTHROPIC, changed(ANTHROPIC, a_new_field=1), "a_new_field"),
        (
            "anthropic",
            ANTHROPIC,
            changed(ANTHROPIC, messages=[MORE, *ANTHROPIC["messages"][1:]]),
            "messages[0].content[0]",
        ),
        ("chat", CHAT, changed(CHAT, response_format={"type": "json_object"}), "response_format"),
        ("chat", CHAT, changed(CHAT, prompt_cache_key="other"), "prompt_cache_key"),
        ("chat", CHAT, changed(CHAT, messages=CHAT["messages"][1:]), "messages[0].content[0]"),
        ("responses", RESPONSES, changed(RESPONSES, instructions="Be bad."), "instructions"),
        ("responses", RESPONSES, changed(RESPONSES, reasoning={"effort": "high"}), "reasoning"),
        ("responses", RESPONSES, changed(RESPONSES, text={"verbosity": "low"}), "text"),
        ("responses", RESPONSES, changed(RESPONSES, input=RESPONSES["input"][1:]), "input[0]"),
    ],
)
def test_what_breaks_a_prefix_is_named(
    api: Api, before: dict[str, Any], after: dict[str, Any], where: str
) -> None:
    assert compare(api, before, after).startswith(where)


def test_cache_markers_are_no_part_of_the_prompt() -> None:
    marked = copy.deepcopy(ANTHROPIC)
    marked["cache_control"] = {"type": "ephemeral"}
    marked["tools"][-1]["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
    marked["system"][0]["cache_control"] = {"type": "ephemeral"}
    marked["messages"][0]["content"][0]["cache_control"] = {"type": "ephemeral"}
    result = copy.deepcopy(MORE)
    longer = changed(ANTHROPIC, messages=[*ANTHROPIC["messages"], result])
    inner = copy.deepcopy(longer)
    inner["messages"][-1]["content"][0]["content"][0]["cache_control"] = {"type": "ephemeral"}
    assert compare("anthropic", ANTHROPIC, marked) == ""
    assert compare("anthropic", marked, ANTHROPIC) == ""
    assert compare("anthropic", longer, inner) == ""


def test_a_marker_in_the_arguments_of_a_tool_is_content() -> None:
    other = copy.deepcopy(ANTHROPIC)
    other["messages"][1]["content"][0]["input"]["cache_control"] = 1
    assert compare("anthropic", ANTHROPIC, other).startswith("messages[1]")


def test_a_plain_text_is_one_text_part() -> None:
    plain = changed(ANTHROPIC, system="Be good.")
    plain["messages"][0]["content"] = "Mend it."
    assert compare("anthropic", ANTHROPIC, plain) == ""
    parts = copy.deepcopy(CHAT)
    parts["messages"][1]["content"] = [
        {"type": "text", "text": "Mend it.", "prompt_cache_breakpoint": {"mode": "explicit"}}
    ]
    assert compare("chat", CHAT, parts) == ""


def test_new_bytes_count_what_is_not_shared() -> None:
    text = "x" * 5000
    longer = changed(
        ANTHROPIC, messages=[*ANTHROPIC["messages"], {"role": "user", "content": text}]
    )
    before, after = split("anthropic", ANTHROPIC), split("anthropic", longer)
    assert 5000 <= new_bytes(before, after) <= 5000 + before.size
    assert new_bytes(before, after) >= after.size - before.size


@given(st.text(max_size=40), st.lists(st.text(max_size=30), max_size=4))
def test_bytes_that_are_new_are_never_undercounted(first: str, later: list[str]) -> None:
    start = changed(ANTHROPIC, system=first)
    more = [{"role": "user", "content": text} for text in later]
    longer = changed(start, messages=[*ANTHROPIC["messages"], *more])
    before, after = split("anthropic", start), split("anthropic", longer)
    assert extends(before, after) == ""
    # What the provider must read beyond the first request is at most what is counted as new.
    assert new_bytes(before, after) >= sum(len(json.dumps(text)) - 2 for text in later)


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'"x"', b"[" * 100_000])
def test_what_is_no_request_is_none(body: bytes) -> None:
    assert prefix_of("anthropic", body) is None


def test_quick_enough_to_look_at_every_request() -> None:
    messages = [{"role": "user", "content": f"{n} " + "word " * 400} for n in range(50)]
    body = json.dumps(changed(ANTHROPIC, messages=messages)).encode()
    assert len(body) > 100_000
    best = 1.0
    for _ in range(20):
        begin = time.perf_counter()
        found = prefix_of("anthropic", body)
        assert found is not None
        extends(found, found)
        best = min(best, time.perf_counter() - begin)
    assert best < 0.005  # measured 0.6 ms; five times that and a shared machine
