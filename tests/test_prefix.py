from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.prefix import conversation
from runner.prefix import Api, Prefix, extends, model_in, new_bytes, prefix_of, prefix_of_json

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
GOOGLE: dict[str, Any] = {
    "contents": [
        {"role": "user", "parts": [{"text": "Mend it."}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "t1", "name": "look", "args": {}}, "thoughtSignature": "s"}
            ],
        },
    ],
    "systemInstruction": {"role": "user", "parts": [{"text": "Be good."}]},
    "tools": [{"functionDeclarations": [{"name": "look"}, {"name": "done"}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY"}},
    "generationConfig": {"maxOutputTokens": 8000, "responseModalities": ["TEXT"]},
}
BODIES: dict[Api, dict[str, Any]] = {
    "anthropic": ANTHROPIC,
    "chat": CHAT,
    "responses": RESPONSES,
    "google": GOOGLE,
}


def split(api: Api, body: dict[str, Any]) -> Prefix:
    found = prefix_of(api, json.dumps(body).encode())
    assert found is not None
    return found


def compare(api: Api, before: dict[str, Any], after: dict[str, Any]) -> str:
    return extends(split(api, before), split(api, after))


def sampling(api: Api) -> dict[str, Any]:
    if api == "google":
        return {"generationConfig": {**GOOGLE["generationConfig"], "topP": 0.123456789}}
    return {"stream": True, "top_p": 0.123456789}


def changed(body: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(body), **fields}


@pytest.mark.parametrize(
    ("api", "key", "more"),
    [
        ("anthropic", "messages", MORE),
        ("chat", "messages", {"role": "tool", "tool_call_id": "t1", "content": "seen"}),
        (
            "responses",
            "input",
            {"type": "function_call_output", "call_id": "t1", "output": "seen"},
        ),
        (
            "google",
            "contents",
            {
                "role": "user",
                "parts": [{"functionResponse": {"id": "t1", "response": {"r": 1}}}],
            },
        ),
    ],
)
def test_more_messages_extend(api: Api, key: str, more: Any) -> None:
    body = BODIES[api]
    longer = changed(body, **{key: [*body[key], more]}) | sampling(api)
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
        ("google", GOOGLE, changed(GOOGLE, tools=[]), "tools[0].functionDeclarations[0]"),
        (
            "google",
            GOOGLE,
            changed(GOOGLE, tools=[*GOOGLE["tools"], {"googleSearch": {}}]),
            "systemInstruction.parts[0]: became tools[1]",
        ),
        (
            "google",
            GOOGLE,
            changed(GOOGLE, systemInstruction={"role": "user", "parts": [{"text": "Be bad."}]}),
            "systemInstruction.parts[0]",
        ),
        (
            "google",
            GOOGLE,
            changed(
                GOOGLE,
                contents=[
                    GOOGLE["contents"][0],
                    {"role": "model", "parts": [{"functionCall": {"id": "t1", "name": "look"}}]},
                ],
            ),
            "contents[1].parts[0]",
        ),
    ],
)
def test_what_breaks_a_prefix_is_named(
    api: Api, before: dict[str, Any], after: dict[str, Any], where: str
) -> None:
    assert compare(api, before, after).startswith(where)


def fields(api: Api, text: str) -> list[tuple[Api, str]]:
    return [(api, name) for name in text.split()]


def holding(api: Api, name: str, value: Any) -> dict[str, Any]:
    """The API's request with a field of any name; `outer.inner` is one inside another."""
    outer, _, inner = name.partition(".")
    inside = {**BODIES[api].get(outer, {}), inner: value} if inner else value
    return changed(BODIES[api], **{outer: inside})


@pytest.mark.parametrize(
    ("api", "name"),
    [
        # platform.claude.com/docs/en/build-with-claude/prompt-caching, what invalidates the cache;
        # .../adaptive-thinking, .../effort, .../fast-mode, .../structured-outputs.
        *fields("anthropic", "model tool_choice thinking output_config output_format speed"),
        *fields("anthropic", "service_tier context_management mcp_servers container inference_geo"),
        # developers.openai.com/api/docs/guides/prompt-caching: messages, images, tools, structured
        # outputs; the key chooses the machine that has the cache.
        *fields("chat", "model tool_choice parallel_tool_calls response_format reasoning_effort"),
        *fields("chat", "verbosity service_tier prompt_cache_key functions modalities"),
        *fields("responses", "model tool_choice parallel_tool_calls text reasoning truncation"),
        *fields("responses", "service_tier prompt_cache_key previous_response_id conversation"),
        *fields("responses", "prompt context_management"),
        # ai.google.dev/api/caching#CachedContent, and .../gemini-api/docs/thinking.
        *fields("google", "toolConfig cachedContent serviceTier generationConfig.thinkingConfig"),
        *fields("google", "generationConfig.responseSchema generationConfig.responseJsonSchema"),
        *fields("google", "generationConfig.responseMimeType generationConfig.responseModalities"),
        *fields("google", "generationConfig.mediaResolution generationConfig.nobody_knows"),
        *((api, "nobody_knows") for api in BODIES),
    ],
)
def test_a_field_that_a_cache_depends_on_counts(api: Api, name: str) -> None:
    before, after = holding(api, name, "one"), holding(api, name, "other")
    assert compare(api, before, after) == f'{name}: "one" became "other"'
    # It may neither come nor go.
    without = {key: value for key, value in BODIES[api].items() if key != name}
    if "." not in name:
        assert compare(api, without, after).startswith(f"{name}: absent")
        assert compare(api, after, without).startswith(f'{name}: "other"')


@pytest.mark.parametrize(
    ("api", "name"),
    [
        *fields("anthropic", "max_tokens temperature top_p top_k stop_sequences stream metadata"),
        *fields("anthropic", "cache_control diagnostics"),
        *fields("chat", "max_tokens max_completion_tokens temperature top_p stop stream seed n"),
        *fields("chat", "stream_options store metadata user safety_identifier logprobs logit_bias"),
        *fields("chat", "top_logprobs presence_penalty frequency_penalty prompt_cache_options"),
        *fields(
            "responses", "max_output_tokens temperature top_p stream stream_options store user"
        ),
        *fields("responses", "include metadata background safety_identifier top_logprobs"),
        *fields("responses", "prompt_cache_options prompt_cache_retention"),
        *fields("google", "safetySettings labels store generationConfig.maxOutputTokens"),
        *fields(
            "google", "generationConfig.temperature generationConfig.topP generationConfig.topK"
        ),
        *fields("google", "generationConfig.seed generationConfig.stopSequences"),
    ],
)
def test_a_field_that_no_cache_depends_on_does_not_count(api: Api, name: str) -> None:
    before, after = holding(api, name, "one"), holding(api, name, "other")
    assert compare(api, before, after) == ""
    assert compare(api, BODIES[api], after) == ""


def test_a_model_that_the_path_names_counts() -> None:
    assert model_in("/v1beta/models/gemini-4-argon:generateContent") == "gemini-4-argon"
    assert model_in("/v1/messages") == ""
    one, other = (prefix_of_json("google", GOOGLE, 1, model=model) for model in ("a", "b"))
    assert extends(one, other).startswith("model: a became b")


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
    assert 5000 <= new_bytes(before, after) <= 5000 + 200
    assert new_bytes(before, after) >= after.size - before.size


def dressed(
    api: Api, texts: list[str], *, marked: bool, sampled: bool, named: bool
) -> dict[str, Any]:
    """A request with one message for each text, as clients send it with and without markers."""
    kind = "input_text" if api == "responses" else "text"
    marker = "cache_control" if api == "anthropic" else "prompt_cache_breakpoint"
    parts: list[Any] = [
        [{"type": kind, "text": text, marker: {"type": "ephemeral", "ttl": "1h"}}]
        if marked
        else text
        for text in texts
    ]
    body = sampling(api) if sampled else {}
    if api == "google":
        said = [{"role": "user", "parts": [{"text": text}]} for text in texts]
        return {"generationConfig": GOOGLE["generationConfig"], **body, "contents": said}
    key = "input" if api == "responses" else "messages"
    typed = {"type": "message"} if named and api == "responses" else {}
    return {**body, key: [{**typed, "role": "user", "content": part} for part in parts]}


@given(
    st.sampled_from(sorted(BODIES)),
    st.lists(st.text(max_size=40), min_size=1, max_size=4),
    st.lists(st.text(max_size=30), max_size=4),
    st.tuples(*[st.booleans()] * 7),
)
@example("responses", ["x"] * 4, ["new"], (False, False, True, False, False, False, False))
@example("anthropic", ["x"] * 4, ["new"], (True, False, False, False, False, False, False))
@example("chat", ["x"] * 4, ["new"], (False, True, False, False, False, False, False))
def test_bytes_that_are_new_are_never_undercounted(
    api: Api, first: list[str], later: list[str], how: tuple[bool, ...]
) -> None:
    """Whatever the first request had besides, and the second does without."""
    ascii_only = how[6]
    bodies = (
        dressed(api, first, marked=how[0], sampled=how[1], named=how[2]),
        dressed(api, [*first, *later], marked=how[3], sampled=how[4], named=how[5]),
    )
    raw = [json.dumps(body, ensure_ascii=ascii_only).encode() for body in bodies]
    before, after = prefix_of(api, raw[0]), prefix_of(api, raw[1])
    assert before is not None
    assert after is not None
    assert extends(before, after) == ""
    # What the provider must read beyond the first request is at most what is counted as new.
    new = [json.dumps(text, ensure_ascii=ascii_only).encode() for text in later]
    assert new_bytes(before, after) >= sum(len(text) - 2 for text in new)


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'"x"', b"[" * 100_000])
def test_what_is_no_request_is_none(body: bytes) -> None:
    assert prefix_of("anthropic", body) is None


@pytest.mark.parametrize("api", BODIES)
def test_quick_enough_to_look_at_every_request(api: Api) -> None:
    body = conversation(api)
    raw = json.dumps(body).encode()
    assert len(raw) > 100_000
    best = 1.0
    for _ in range(20):
        begin = time.process_time()
        found = prefix_of_json(api, body, len(raw))
        extends(found, found)
        new_bytes(found, found)
        best = min(best, time.process_time() - begin)
    assert best / len(raw) * 100_000 < 0.002  # measured 0.3 ms; a shared machine has bad days
