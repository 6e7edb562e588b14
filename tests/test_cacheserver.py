"""The counting server itself, rule by rule, by plain requests.

Anthropic's rules: platform.claude.com/docs/en/build-with-claude/prompt-caching (CLAUDE below).
OpenAI's: developers.openai.com/api/docs/guides/prompt-caching (OPENAI).
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from cacheserver import HAND_PRICES, CachingProvider, caching
from provider import Answer, Fault, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.timeout(30)

OPUS, HAIKU, FABLE = "claude-opus-5-5", "claude-haiku-5-5", "claude-fable-5-1"
SOL, MINI, ARGON = "gpt-6.1-sol", "gpt-5.4-mini", "gemini-4-argon"
FIVE, HOUR = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}
EMPTY_BLOCK = len('{"type":"text","text":""}')
Json = dict[str, Any]


def words(tokens: int, name: str = "a") -> str:
    """A text whose block has exactly so many tokens."""
    return (name + " word" * tokens)[: 4 * tokens - EMPTY_BLOCK]


def text(tokens: int, name: str = "a", **more: Any) -> Json:
    return {"type": "text", "text": words(tokens, name), **more}


def user(*parts: Json) -> Json:
    return {"role": "user", "content": list(parts)}


def said(*parts: Json) -> Json:
    return {"role": "assistant", "content": list(parts)}


@dataclass
class Asker:
    """Asks over plain HTTP, and tells what was counted."""

    provider: CachingProvider

    def post(self, path: str, body: Json) -> Json:
        """Return the answer.

        Raises:
            HTTPError: The server refused.
        """
        data = json.dumps(body).encode()
        request = Request(self.provider.url + path, data, {"content-type": "application/json"})
        with urlopen(request) as answer:
            return cast("Json", json.load(answer))

    def claude(self, *messages: Json, model: str = OPUS, **more: Any) -> tuple[int, int, int, int]:
        """Uncached, read, written for 5 minutes, written for an hour."""
        body = {"model": model, "max_tokens": 9, "messages": list(messages), **more}
        used = self.post("/v1/messages", body)["usage"]
        split = used["cache_creation"]
        five, hour = split["ephemeral_5m_input_tokens"], split["ephemeral_1h_input_tokens"]
        assert used["cache_creation_input_tokens"] == five + hour
        return used["input_tokens"], used["cache_read_input_tokens"], five, hour

    def refused(self, *messages: Json, **more: Any) -> str:
        """Why Anthropic answers 400."""
        with pytest.raises(HTTPError) as error:
            self.claude(*messages, **more)
        assert error.value.code == 400
        return str(json.loads(error.value.read())["error"]["message"])

    def gpt(self, *items: Json, model: str = SOL, **more: Any) -> tuple[int, int, int]:
        """The whole prompt, read, written; the whole includes both."""
        body = {"model": model, "input": list(items), **more}
        used = self.post("/v1/responses", body)["usage"]
        details = used["input_tokens_details"]
        return used["input_tokens"], details["cached_tokens"], details["cache_write_tokens"]

    def gemini(self, *texts: str, model: str) -> tuple[int, int | None]:
        """The whole prompt, and what of it was read."""
        contents = [{"role": "user", "parts": [{"text": text} for text in texts]}]
        path = f"/v1beta/models/{model}:generateContent"
        used = self.post(path, {"contents": contents})["usageMetadata"]
        return used["promptTokenCount"], used["cachedContentTokenCount"] or None


@pytest.fixture
def asker() -> Iterator[Asker]:
    with caching(minimum=1000) as provider:
        yield Asker(provider)


@pytest.mark.parametrize(("name", "tokens"), [("", 7), ("xx", 7), ("xxx", 8), ("\u00e9\u00e9", 8)])
def test_tokens_are_a_quarter_of_the_bytes_rounded_up(asker: Asker, name: str, tokens: int) -> None:
    """Of the block's compact JSON, which has 25 bytes around its text."""
    marked = {"type": "text", "text": name + "x", "cache_control": FIVE}
    assert asker.claude(user(marked), said(text(100))) == (100 + tokens, 0, 0, 0)


# -- Anthropic -----------------------------------------------------------------------------------


def test_nothing_is_cached_without_a_breakpoint(asker: Asker) -> None:
    """CLAUDE, "How automatic prefix checking works": writes happen only at your breakpoint."""
    for _ in range(2):
        assert asker.claude(user(text(3000))) == (3000, 0, 0, 0)


def test_a_prefix_is_written_up_to_its_breakpoint_and_read_by_the_next(asker: Asker) -> None:
    """CLAUDE, "Tracking cache performance": three counters that add up to the prompt."""
    marked = user(text(2000, cache_control=FIVE), text(300, "b"))
    assert asker.claude(marked) == (300, 0, 2000, 0)
    assert asker.claude(marked) == (300, 2000, 0, 0)
    assert [bill.reads_of for bill in asker.provider.bills] == [None, 1]
    assert asker.provider.bills[1].body_tokens == {
        "input": 300, "read": 2000, "write": 0, "write_1h": 0, "output": 20,
    }  # fmt: skip


def test_the_automatic_breakpoint_moves_with_the_conversation(asker: Asker) -> None:
    """CLAUDE, "How automatic caching works in multi-turn conversations"."""
    talk = [user(text(2000))]
    assert asker.claude(*talk, cache_control=FIVE) == (0, 0, 2000, 0)
    talk += [said(text(20, "b")), user(text(100, "c"))]
    assert asker.claude(*talk, cache_control=FIVE) == (0, 2000, 120, 0)
    talk += [said(text(30, "d")), user(text(200, "e"))]
    assert asker.claude(*talk, cache_control=FIVE) == (0, 2120, 230, 0)
    assert [bill.reads_of for bill in asker.provider.bills] == [None, 1, 2]
    assert asker.provider.extends(1, 3)
    assert not asker.provider.extends(3, 1)


@pytest.mark.parametrize(
    ("model", "least"),
    [
        (FABLE, 512),
        ("claude-opus-5", 512),
        ("claude-opus-4-8", 1024),
        ("claude-sonnet-5", 1024),
        ("claude-sonnet-4-6", 1024),
        ("claude-opus-4-7", 2048),
        ("claude-opus-4-5", 4096),
        ("claude-haiku-4-5", 4096),
        (OPUS, 512),
        ("claude-sonnet-5-5", 512),
        (HAIKU, 4096),
    ],
)
def test_a_short_prefix_is_not_cached(model: str, least: int) -> None:
    """CLAUDE, "Cache limitations": no error, both counters 0. 4,096 where nothing was found."""
    with caching() as provider:
        asker = Asker(provider)
        for _ in range(2):
            short = user(text(least - 1, cache_control=FIVE))
            assert asker.claude(short, model=model) == (least - 1, 0, 0, 0)
        exact = user(text(least, cache_control=FIVE))
        assert asker.claude(exact, model=model) == (0, 0, least, 0)
        assert asker.claude(exact, model=model) == (0, least, 0, 0)


def test_a_breakpoint_below_the_minimum_does_not_keep_the_next_from_being_written(
    asker: Asker,
) -> None:
    """CLAUDE, "Cache limitations"."""
    talk = user(text(500, cache_control=FIVE), text(700, "b", cache_control=FIVE))
    assert asker.claude(talk) == (0, 0, 1200, 0)
    assert asker.claude(user(text(500, cache_control=FIVE))) == (500, 0, 0, 0)


@pytest.mark.parametrize(("blocks", "found"), [(29, True), (30, False)])
def test_a_breakpoint_looks_back_at_twenty_blocks(asker: Asker, blocks: int, found: bool) -> None:
    """CLAUDE, "How automatic prefix checking works": 20 positions, the breakpoint's the first."""
    parts = [text(200, f"{n} ") for n in range(blocks)]
    asker.claude(user(*parts[:10]), cache_control=FIVE)
    more = (blocks - 10) * 200
    counted = asker.claude(user(*parts), cache_control=FIVE)
    assert counted == ((0, 2000, more, 0) if found else (0, 0, 2000 + more, 0))


def test_a_second_breakpoint_looks_back_from_its_own_place(asker: Asker) -> None:
    """CLAUDE, the example of 10, 15 and 35 blocks."""
    parts = [text(200, f"{n} ") for n in range(35)]
    assert asker.claude(user(*parts[:10]), cache_control=FIVE) == (0, 0, 2000, 0)
    assert asker.claude(user(*parts[:15]), cache_control=FIVE) == (0, 2000, 1000, 0)
    parts[14] = {**parts[14], "cache_control": FIVE}
    assert asker.claude(user(*parts), cache_control=FIVE) == (0, 3000, 4000, 0)


def test_runs_of_tool_calls_and_of_results_count_as_one_block(asker: Asker) -> None:
    """CLAUDE, "How automatic prefix checking works", of the Claude API."""
    first = user(text(2000))
    asker.claude(first, cache_control=FIVE)
    use: Json = {"type": "tool_use", "name": "look", "input": {}}
    uses = [{**use, "id": f"{n}"} for n in range(30)]
    results = [{"type": "tool_result", "tool_use_id": f"{n}", "content": "x"} for n in range(30)]
    counted = asker.claude(first, said(*uses), user(*results), cache_control=FIVE)
    assert counted[:2] == (0, 2000)
    texts = [text(100, f"{n} ") for n in range(18)]
    # With the calls, the results and 18 more the entry is 20 positions before: too far.
    asker.provider.skip(301)
    asker.claude(first, cache_control=FIVE)
    talk = (first, said(*uses), user(*results, *texts))
    assert asker.claude(*talk[:2], user(*results, *texts[:17]), cache_control=FIVE)[1] == 2000
    asker.provider.skip(301)
    asker.claude(first, cache_control=FIVE)
    assert asker.claude(*talk, cache_control=FIVE)[1] == 0


def test_at_most_four_breakpoints(asker: Asker) -> None:
    """CLAUDE, "When to use multiple breakpoints", and "Edge cases" of automatic caching."""
    four = [text(1000, f"{n} ", cache_control=FIVE) for n in range(4)]
    last = text(100, "z")
    assert asker.claude(user(*four, last)) == (100, 0, 4000, 0)
    assert "maximum of 4" in asker.refused(user(*four, {**last, "cache_control": FIVE}))
    assert "maximum of 4" in asker.refused(user(*four, last), cache_control=FIVE)
    # On a block that has one already the automatic one needs no slot.
    assert asker.claude(user(*four), cache_control=FIVE) == (0, 4000, 0, 0)
    assert "another ttl" in asker.refused(user(*four[:1]), cache_control=HOUR)
    assert len(asker.provider.bills) == 2, "what is refused is not billed"


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "s"},
        {"type": "text", "text": ""},
    ],
)
def test_some_blocks_can_have_no_breakpoint(asker: Asker, block: Json) -> None:
    """CLAUDE, "What cannot be cached"; the automatic one walks back to a block that can."""
    assert "cannot" in asker.refused(said({**block, "cache_control": FIVE}))
    prompt, read, written, _ = asker.claude(user(text(2000)), said(block), cache_control=FIVE)
    assert (read, written) == (0, 2000)
    assert prompt > 0


def test_a_breakpoint_on_a_part_of_a_tool_result_is_the_results(asker: Asker) -> None:
    """CLAUDE, "What cannot be cached": sub-content is cached with its top-level block."""
    result = {"type": "tool_result", "tool_use_id": "1"}
    bare = {**result, "content": [text(2000)]}
    marked = {**result, "content": [text(2000, cache_control=FIVE)]}
    tokens = sum(asker.claude(user(marked)))
    assert tokens > 2000
    assert asker.claude(user(bare), cache_control=FIVE) == (0, tokens, 0, 0)


@pytest.mark.parametrize(("control", "lifetime"), [(FIVE, 300), (HOUR, 3600)])
def test_an_entry_lives_from_its_last_use(asker: Asker, control: Json, lifetime: int) -> None:
    """CLAUDE: 5 minutes, or "1-hour cache duration"; refreshed for free each time it is used."""
    written = (0, 0, 2000, 0) if control is FIVE else (0, 0, 0, 2000)
    assert asker.claude(user(text(2000)), cache_control=control) == written
    for _ in range(3):
        asker.provider.skip(lifetime - 5)
        assert asker.claude(user(text(2000)), cache_control=control) == (0, 2000, 0, 0)
    asker.provider.skip(lifetime)
    assert asker.claude(user(text(2000)), cache_control=control) == written


def test_a_hit_refreshes_an_entrys_own_lifetime(asker: Asker) -> None:
    """CLAUDE, "Mixing different TTLs": what is read is not written again, for an hour or else."""
    asker.claude(user(text(2000)), cache_control=FIVE)
    assert asker.claude(user(text(2000)), cache_control=HOUR) == (0, 2000, 0, 0)
    asker.provider.skip(300)
    assert asker.claude(user(text(2000)), cache_control=HOUR) == (0, 0, 0, 2000)
    assert asker.claude(user(text(2000)), cache_control=FIVE) == (0, 2000, 0, 0)
    asker.provider.skip(3595)
    assert asker.claude(user(text(2000)), cache_control=FIVE) == (0, 2000, 0, 0)


def test_every_breakpoint_refreshes_what_it_finds(asker: Asker) -> None:
    """CLAUDE: each time the cached content is used."""
    system = [text(2000, "s", cache_control=FIVE)]
    for n in range(4):
        asker.claude(user(text(500)), system=system, cache_control=FIVE)
        asker.provider.skip(200)
        assert asker.provider.bills[-1].reads_of == (1 if n else None)
    assert asker.claude(user(text(500, "other")), system=system) == (500, 2000, 0, 0)


def test_a_lifetime_counts_from_the_start_of_the_request() -> None:
    """CLAUDE, cache lifetime: a long answer eats it (reported for streams)."""
    with caching(lambda _: Answer(text="yes", delay=0.2), speed=1000, minimum=1000) as provider:
        asker = Asker(provider)
        asker.claude(user(text(2000)), cache_control=FIVE)  # 200 of its 300 seconds
        provider.skip(120)
        assert asker.claude(user(text(2000)), cache_control=FIVE) == (0, 0, 2000, 0)


def test_an_entry_is_of_use_once_the_first_answer_begins() -> None:
    """CLAUDE, "Cache limitations", of concurrent requests."""
    with caching(lambda _: Answer(text="yes", delay=0.3), minimum=1000) as provider:
        asker = Asker(provider)

        def ask(_: int) -> tuple[int, int, int, int]:
            return asker.claude(user(text(2000)), cache_control=FIVE)

        with ThreadPoolExecutor(3) as pool:
            assert [*pool.map(ask, range(3))] == [(0, 0, 2000, 0)] * 3
        assert ask(4) == (0, 2000, 0, 0)


def test_an_hour_comes_before_five_minutes(asker: Asker) -> None:
    """CLAUDE, "Mixing different TTLs": in the order of tools, system, messages."""
    hour, five = text(1000, "a", cache_control=HOUR), text(1000, "b", cache_control=FIVE)
    assert asker.claude(user(hour, five)) == (0, 0, 1000, 1000)
    assert "must not come after" in asker.refused(user(five, hour))
    assert "must not come after" in asker.refused(user(hour), system=[five])
    tool = {"name": "look", "input_schema": {}, "cache_control": FIVE}
    assert "must not come after" in asker.refused(user(hour), tools=[tool])
    assert "must not come after" in asker.refused(user(five, text(9)), cache_control=HOUR)
    assert "ttl" in asker.refused(user(text(1000)), cache_control={**FIVE, "ttl": "2h"})


def test_mixed_lifetimes_are_billed_at_three_places(asker: Asker) -> None:
    """CLAUDE, "Mixing different TTLs": A the highest hit, B the last 1h after it, C the last."""
    a, b = text(1000, "a", cache_control=HOUR), text(500, "b", cache_control=HOUR)
    c, d = text(300, "c", cache_control=FIVE), text(70, "d")
    assert asker.claude(user(a)) == (0, 0, 0, 1000)
    assert asker.claude(user(a, b, c, d)) == (70, 1000, 300, 500)
    e = text(40, "e", cache_control=FIVE)
    # A is beyond the last block for an hour: B equals A.
    assert asker.claude(user(a, b, c, d, e)) == (0, 1800, 110, 0)


SYSTEM = [text(1500, "system", cache_control=FIVE)]
TOOL = {"name": "look", "description": words(1200), "input_schema": {}, "cache_control": FIVE}
SHOWN = {"type": "image", "source": {"type": "base64", "data": "AA=="}}


@pytest.mark.parametrize(
    ("change", "survives"),
    [
        ({}, "messages"),
        ({"tools": [{**TOOL, "name": "see"}]}, "nothing"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"system": [text(1500, "other", cache_control=FIVE)]}, "tools"),
        ({"speed": "fast"}, "tools"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "tools"),
        ({"tool_choice": {"type": "any"}}, "system"),
        ({"thinking": {"type": "adaptive"}}, "system"),
        ({"output_config": {"effort": "low"}}, "system"),
        ({"messages": [user(text(1000)), user(SHOWN)]}, "system"),
        ({"model": HAIKU}, "nothing"),
    ],
)
def test_what_invalidates_what(asker: Asker, change: Json, survives: str) -> None:
    """CLAUDE, "What invalidates the cache"; caches are per model."""
    body: Json = {"model": OPUS, "max_tokens": 9, "messages": [user(text(1000))]}
    body |= {"tools": [TOOL], "system": SYSTEM, "cache_control": FIVE}
    asker.post("/v1/messages", body)
    ends = asker.provider.prompts[1].ends
    asker.post("/v1/messages", body | change)
    read = asker.provider.bills[-1].tokens.cache_read
    assert read == dict(zip(["tools", "system", "messages"], ends, strict=True)).get(survives, 0)
    assert asker.provider.extends(1, 2) == (change == {})


def test_what_fails_is_neither_billed_nor_cached() -> None:
    """Not published; the reading that grants less."""

    def script(ask: Any) -> Answer | Fault:
        return Fault(529) if ask.number == 1 else Answer(text="yes", tokens=Tokens(output=7))

    with caching(script, minimum=1000) as provider:
        asker = Asker(provider)
        with pytest.raises(HTTPError):
            asker.claude(user(text(2000)), cache_control=FIVE)
        assert asker.claude(user(text(2000)), cache_control=FIVE) == (0, 0, 2000, 0)
        assert [(bill.number, bill.tokens.output) for bill in provider.bills] == [(2, 7)]


# -- OpenAI, GPT-5.6 and later ---------------------------------------------------------------------

POINT: Json = {"prompt_cache_breakpoint": {"mode": "explicit"}}
EXPLICIT = {"mode": "explicit"}


def test_openai_counts_exactly_from_1024_tokens(asker: Asker) -> None:
    """OPENAI, "Summary of model differences": 1,024 visible tokens, exact, writes reported."""
    for _ in range(2):
        assert asker.gpt(user(text(1023))) == (1023, 0, 0)
    assert asker.gpt(user(text(1024))) == (1024, 0, 1024)
    assert asker.gpt(user(text(1024))) == (1024, 1024, 0)


def test_openai_reads_the_conversation_so_far(asker: Asker) -> None:
    """OPENAI, "Implicit mode": a breakpoint at the end of the latest eligible message."""
    talk = [user(text(1500))]
    assert asker.gpt(*talk) == (1500, 0, 1500)
    talk += [said(text(33, "b")), user(text(100, "c"))]
    assert asker.gpt(*talk) == (1633, 1500, 133)
    # What comes after the latest message of the user is neither written nor read.
    talk += [said(text(50, "d"))]
    assert asker.gpt(*talk) == (1683, 1633, 0)
    assert asker.provider.bills[-1].body_tokens["input"] == 50
    assert [bill.reads_of for bill in asker.provider.bills] == [None, 1, 2]


def test_openai_marks_the_last_of_a_group_of_tool_responses(asker: Asker) -> None:
    """OPENAI, "Implicit mode": the last tool response in a consecutive group."""
    call = {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"}
    results = [{"type": "function_call_output", "call_id": f"{n}", "output": "x"} for n in "12"]
    talk = [user(text(1500)), call, *results]
    one, _, written = asker.gpt(*talk[:3])
    assert written == one
    whole, read, written = asker.gpt(*talk)
    assert (read, written) == (0, whole), "in a longer group no breakpoint follows the first"
    assert asker.gpt(*talk, said(text(9)), user(text(9)))[1] == whole
    assert asker.gpt(*talk[:3], said(text(9)), user(text(9)))[1] == one


def test_openai_misses_where_only_the_end_differs(asker: Asker) -> None:
    """OPENAI, "How prefix matching works": only at boundaries.

    github.com/openai/codex/issues/35300 measured it.
    """
    assert asker.gpt(user(text(1500), text(100, "b"))) == (1600, 0, 1600)
    assert asker.gpt(user(text(1500), text(100, "c"))) == (1600, 0, 1600)
    assert asker.gpt(user(text(1500, **POINT), text(100, "d"))) == (1600, 0, 1600)
    assert asker.gpt(user(text(1500, **POINT), text(100, "e"))) == (1600, 1500, 100)


def test_openai_explicit_mode_writes_nothing_else(asker: Asker) -> None:
    """OPENAI, "Explicit mode"; what implicit mode wrote is not looked up."""
    explicit: Json = {"prompt_cache_options": EXPLICIT}
    assert asker.gpt(user(text(1500)), **explicit) == (1500, 0, 0)
    assert asker.gpt(user(text(1500)), **explicit) == (1500, 0, 0)
    marked = user(text(1500, **POINT), text(100, "b"))
    assert asker.gpt(marked, **explicit) == (1600, 0, 1500)
    assert asker.gpt(marked, **explicit) == (1600, 1500, 0)


@pytest.mark.parametrize(("mode", "written"), [("implicit", 3), ("explicit", 4)])
def test_openai_writes_the_latest_four(asker: Asker, mode: str, written: int) -> None:
    """OPENAI, "Implicit mode": it takes one of the four slots."""
    parts = [text(1100, f"{n} ", **POINT) for n in range(6)]
    asker.gpt(user(*parts, text(30, "z")), prompt_cache_options={"mode": mode})
    # Asking writes as well, but only what is shorter than the next question's prefix.
    for n in range(6):
        asker.gpt(user(*parts[: n + 1]), prompt_cache_options=EXPLICIT)
    read = [bill.reads_of == 1 for bill in asker.provider.bills[1:]]
    assert read == [False] * (6 - written) + [True] * written


@pytest.mark.parametrize(("turns", "found"), [(20, True), (21, False)])
def test_openai_looks_up_twenty_earlier_endings(asker: Asker, turns: int, found: bool) -> None:
    """OPENAI, "How prefix matching works", implicit mode."""
    talk = [user(text(1500))]
    asker.gpt(*talk)
    for n in range(turns):
        talk += [said(text(9, f"{n}")), user(text(9, f"{n}"))]
    assert asker.gpt(*talk)[1] == (1500 if found else 0)


def test_openai_looks_up_the_end_of_the_first_developer_messages(asker: Asker) -> None:
    """OPENAI, "How prefix matching works", implicit mode."""
    rules = {"role": "developer", "content": words(1500)}
    assert asker.gpt(rules) == (1500, 0, 1500)
    talk = [user(text(9, f"{n}")) for n in range(40)]
    assert asker.gpt(rules, *talk)[1] == 1500


def test_openai_looks_up_the_first_two_and_latest_fifty_explicit_ones(asker: Asker) -> None:
    """OPENAI, "How prefix matching works"; the API's reference speaks of 80."""
    parts = [text(1100, f"{n} ") for n in range(54)]
    marked = user(*({**part, **POINT} for part in parts))
    for place, found in ((0, True), (1, True), (2, False), (3, False), (4, True)):
        asker.provider.skip(1800)
        alone = user(*parts[:place], {**parts[place], **POINT})
        written = 1100 * (place + 1)
        assert asker.gpt(alone, prompt_cache_options=EXPLICIT) == (written, 0, written)
        assert asker.gpt(marked, prompt_cache_options=EXPLICIT)[1] == written * found


def test_openai_keeps_for_thirty_minutes_after_write_or_use(asker: Asker) -> None:
    """OPENAI, "Cache lifetime": reuse refreshes it without another charge."""
    asker.gpt(user(text(1500)))
    for _ in range(3):
        asker.provider.skip(1795)
        assert asker.gpt(user(text(1500))) == (1500, 1500, 0)
    asker.provider.skip(1800)
    assert asker.gpt(user(text(1500))) == (1500, 0, 1500)
    with pytest.raises(HTTPError):
        asker.gpt(user(text(1500)), prompt_cache_options={"ttl": "12h"})


@pytest.mark.parametrize("model", [SOL, MINI])
@pytest.mark.parametrize(
    "change",
    [
        {"tools": [{"type": "function", "name": "see"}]},
        {"text": {"format": {"type": "json_object"}}},
        {"text": {"verbosity": "low"}},
        {"reasoning": {"effort": "low"}},
        {"parallel_tool_calls": False},
        {"instructions": "Be kind."},
        {"prompt_cache_key": "other"},
        {"service_tier": "flex"},
    ],
)
def test_openai_settings_stand_before_the_prompt(asker: Asker, model: str, change: Json) -> None:
    """OPENAI, "Which settings affect the cached prefix", and "Prompt cache keys" keep apart."""
    asker.gpt(user(text(1500)), model=model)
    assert asker.gpt(user(text(1500)), model=model, **change)[1] == 0
    assert asker.gpt(user(text(1500)), model=model)[1] > 0
    assert not asker.provider.extends(1, 2)
    assert asker.gpt(user(text(1500)), model="gpt-6-luna")[1] == 0, "caches are per model"


@pytest.mark.parametrize("kind", ["text", "input_text"])
def test_a_text_is_the_same_in_all_spellings(asker: Asker, kind: str) -> None:
    asker.gpt({"role": "user", "content": words(1500)})
    assert asker.gpt(user({"type": kind, "text": words(1500)})) == (1500, 1500, 0)


def test_chat_completions_count_alike(asker: Asker) -> None:
    """OPENAI: `prompt_tokens` includes both parts."""
    talk: list[Json] = [{"role": "system", "content": words(1200)}]
    talk += [{"role": "user", "content": [text(100, "b")]}]
    body: Json = {"model": SOL, "messages": talk}
    used = asker.post("/v1/chat/completions", body)["usage"]
    details = {"cached_tokens": 0, "cache_write_tokens": 1300}
    assert (used["prompt_tokens"], used["prompt_tokens_details"]) == (1300, details)
    talk[1] = {"role": "user", "content": words(100, "b")}
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    talk += [{"role": "assistant", "content": None, "tool_calls": [call]}]
    talk += [{"role": "tool", "tool_call_id": "1", "content": words(50, "c")}]
    used = asker.post("/v1/chat/completions", body)["usage"]
    new = used["prompt_tokens"] - 1300
    assert used["prompt_tokens_details"] == {"cached_tokens": 1300, "cache_write_tokens": new}


# -- OpenAI before GPT-5.6 -------------------------------------------------------------------------


@pytest.mark.parametrize(("tokens", "read"), [(1023, 0), (1024, 1024), (1151, 1024), (1152, 1152)])
def test_older_models_read_in_steps_of_128(asker: Asker, tokens: int, read: int) -> None:
    """OPENAI, "Earlier models": from 1,024 tokens, rounded down to 128; writes are free."""
    assert asker.gpt(user(text(tokens)), model=MINI) == (tokens, 0, 0)
    assert asker.gpt(user(text(tokens)), model=MINI) == (tokens, read, 0)


def test_older_models_find_what_is_common_by_themselves(asker: Asker) -> None:
    """OPENAI, "Earlier models": implicit breakpoints at intervals, wherever the texts part."""
    asker.gpt(user(text(1500), text(900, "b")), model=MINI)
    assert asker.gpt(user(text(1500), text(900, "c")), model=MINI)[1] == 1408
    long = user(text(1500), {"type": "text", "text": words(900, "b")[:2000] + "!" * 2000})
    assert asker.gpt(long, model=MINI)[1] == 1920
    assert asker.gpt(long, model="gpt-5.5")[1] == 0
    assert asker.gpt(long, model="gpt-5.5")[1] == 2048, "its steps are of 2,048 tokens"


def test_older_models_forget_after_five_idle_minutes(asker: Asker) -> None:
    """OPENAI, "Cache lifetime", `in_memory` and `24h`."""
    asker.gpt(user(text(1500)), model=MINI)
    for _ in range(3):
        asker.provider.skip(295)
        assert asker.gpt(user(text(1500)), model=MINI)[1] == 1408
    asker.provider.skip(300)
    assert asker.gpt(user(text(1500)), model=MINI)[1] == 0
    asker.provider.skip(300)
    kept: Json = {"model": MINI, "prompt_cache_retention": "24h"}
    assert asker.gpt(user(text(1500)), **kept)[1] == 0
    asker.provider.skip(86_000)
    assert asker.gpt(user(text(1500)), **kept)[1] == 1408


# -- Google --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "least"), [("gemini-2.5-flash", 2048), ("gemini-3.8-flash", 4096), (ARGON, 4096)]
)
def test_google_reads_what_is_common_at_the_beginning(asker: Asker, model: str, least: int) -> None:
    """ai.google.dev/gemini-api/docs/caching, "Implicit caching"; writes cost as any input."""
    exact = "a" * (4 * least - len('{"text":""}'))
    assert asker.gemini(exact, model=model) == (least, None)
    assert asker.gemini(exact, model=model) == (least, least)
    assert asker.gemini(exact, "and more", model=model)[1] == least
    assert asker.gemini(exact[4:], "and more", model=model)[1] is None, "too short a beginning"
    assert asker.gemini("b" + exact, model=model)[1] is None
    assert asker.provider.bills[1].reads_of == 1
    assert {bill.tokens.cache_write for bill in asker.provider.bills} == {0}
    asker.provider.skip(300)
    assert asker.gemini(exact, model=model) == (least, None)


# -- the server ------------------------------------------------------------------------------------


def test_its_clock_runs_as_fast_as_asked() -> None:
    with caching(speed=6000, minimum=1000) as provider:
        asker = Asker(provider)
        asker.claude(user(text(2000)), cache_control=FIVE)
        time.sleep(0.06)
        assert provider.now >= 360
        assert asker.claude(user(text(2000)), cache_control=FIVE) == (0, 0, 2000, 0)


def test_bills_by_hand(asker: Asker) -> None:
    """4, 0.20, 5, 8 and 20 USD a million for this model."""
    a, b = text(1000, "a", cache_control=HOUR), text(500, "b", cache_control=FIVE)
    asker.claude(user(a, b, text(70, "d")))
    assert asker.provider.usd() == Decimal("0.01118")  # 70 * 4 + 500 * 5 + 1000 * 8 + 20 * 20
    asker.claude(user(a, b, text(70, "d")))
    read = Decimal("0.00098")  # 70 * 4 + 1500 * 0.20 + 20 * 20
    assert asker.provider.usd() == Decimal("0.01118") + read
    assert asker.provider.usd(models=[HAIKU]) == 0


@pytest.mark.parametrize(("tokens", "usd"), [(100_000, "0.01001"), (100_001, "0.0500505")])
def test_large_prompts_are_dearer(asker: Asker, tokens: int, usd: str) -> None:
    """0.10 and 0.50 USD a million up to 100,000 tokens, five times as much above."""
    asker.claude(user(text(tokens)), model=HAIKU)
    assert asker.provider.usd(HAND_PRICES) == Decimal(usd)
