from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    UserPromptPart,
    repair_messages,
)
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.usage import RequestUsage

from runner.agentloop import Work, drive, make_agent
from runner.brief import HandoverFacts
from runner.conversation import MainConversation
from runner.loader import load_agents
from runner.models import Asking, Models
from runner.models.markers import prompt_tokens
from runner.models.transport import RequestLimits
from runner.money import Purse
from runner.outcome import Done
from runner.plan import CacheOverride
from runner.plan import Provider as Server
from runner.prefix import extends, prefix_of_json
from runner.subagent import SubagentTask, run_subagent
from runner.tools import Permit
from runner.toolset import Hands
from tests.provider import Answer, Ask, Call, Reply, Thought, Tokens, in_turn, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic_ai.messages import ModelMessage

    from runner.plan import AgentSpec

OPUS = "anthropic:claude-opus-4-8"
"""Caches nothing below 1,024 tokens, by its provider's documentation."""
HAIKU = "anthropic:claude-haiku-4-5"
"""Nothing below 4,096."""
NEW = ("openai:gpt-6-luna", "openai-chat:gpt-6-luna")
OLD = ("openai:gpt-5.5", "openai-chat:gpt-4.1")
AGENTS = load_agents(Path(__file__).parent.parent / "agents", None)
DONE = Answer(calls=(Call("done", {"summary": "s"}),))
HOUR = {"type": "ephemeral", "ttl": "1h"}
FIVE = {"type": "ephemeral", "ttl": "5m"}


def models(environ: Mapping[str, str], **more: Any) -> Models:
    limits = RequestLimits(tries=1)
    return Models(purse=Purse("run"), emit=lambda _: None, environ=environ, limits=limits, **more)


def permit(root: Path, **more: Any) -> Permit:
    made = Permit(root=root, allows=lambda _: True, why_not=lambda _: "", turns=60, shell=False)
    return replace(made, **more)


def talk(
    root: Path,
    script: Callable[[Ask], Reply],
    packets: Sequence[str],
    model_id: str = OPUS,
    *,
    long: bool = False,
    alive: bool = False,
) -> list[Ask]:
    """Hold one main conversation, kept alive after each turn or not, and return its requests."""

    async def work(environ: dict[str, str]) -> None:
        async with models(environ) as opened:
            main = MainConversation(
                opened,
                model_id,
                root=root,
                roster=[],
                emit=lambda _: None,
                facts=_no_facts,
                token="t0k",
                retention=lambda: long,
            )
            for number, packet in enumerate(packets):
                await main.turn(packet, step=f"s{number}", attempt=1, permit=permit(root))
                if alive:
                    assert await main.keep_alive() == ""

    with serving(script) as provider:
        anyio.run(work, provider.environ())
        return provider.asks


async def _no_facts() -> Any:
    raise AssertionError("no hand-over is due")


@dataclass(frozen=True)
class Spawn:
    """How one spawn of an agent differs from another."""

    brief: str = "Mend it."
    step: str = "lint"
    attempt: int = 1
    turns: int = 5
    token: str = "t0k"


def spawn(
    root: Path,
    agent: AgentSpec,
    script: Callable[[Ask], Reply],
    model_id: str,
    how: Spawn = Spawn(),
    **more: Any,
) -> list[Ask]:
    """Run one subagent, in a run of its own, and return its requests."""

    async def work(environ: dict[str, str]) -> None:
        async with models(environ, **more) as opened:
            task = SubagentTask(
                step=how.step,
                attempt=how.attempt,
                agent=agent,
                role="cheap",
                model_id=model_id,
                brief=how.brief,
                permit=permit(root, turns=how.turns),
                token=how.token,
            )
            await run_subagent(task, models=opened, emit=lambda _: None)

    with serving(script) as provider:
        anyio.run(work, provider.environ())
        return provider.asks


def unbroken(asks: Sequence[Ask]) -> bool:
    wire = [prefix_of_json(ask.api, ask.body, len(ask.raw)) for ask in asks]
    return all(extends(one, other) == "" for one, other in pairwise(wire))


# Anthropic's published rules, known here on their own:
# platform.claude.com/docs/en/build-with-claude/prompt-caching


CACHEABLE = {"text", "image", "document", "tool_use", "tool_result"}
LOOK_BACK = 20


@dataclass
class Rendered:
    """A request as Anthropic caches it: blocks in order, and the markers' places and retentions."""

    blocks: list[bytes]
    marks: list[tuple[int, str]]

    def key(self, place: int) -> bytes:
        return sha256(b"\n".join(self.blocks[: place + 1])).digest()


def rendered(body: Mapping[str, Any]) -> Rendered:
    blocks: list[bytes] = []
    marks: list[tuple[int, str]] = []
    last = -1

    def add(where: str, block: Mapping[str, Any]) -> None:
        nonlocal last
        mark = block.get("cache_control")
        bare = {key: value for key, value in block.items() if key != "cache_control"}
        assert "cache_control" not in json.dumps(bare), "a marker inside of a block"
        if where == "tools" or (bare["type"] in CACHEABLE and bare.get("text") != ""):
            last = len(blocks)
        else:
            assert mark is None, f"{bare['type']} cannot be marked"
        if mark is not None:
            assert mark["type"] == "ephemeral"
            marks.append((len(blocks), mark.get("ttl", "5m")))
        blocks.append(where.encode() + json.dumps(bare).encode())

    for tool in body["tools"]:
        add("tools", tool)
    for block in body["system"]:
        add("system", block)
    for message in body["messages"]:
        for block in message["content"]:
            add(message["role"], block)
    if "cache_control" in body:  # automatic caching: on the last block that can be marked
        marks.append((last, body["cache_control"].get("ttl", "5m")))
    assert len(marks) <= 4
    retentions = [ttl for _, ttl in marks]
    assert retentions == sorted(retentions), "a longer retention after a shorter one"
    assert len({place for place, _ in marks}) == len(marks)
    return Rendered(blocks, marks)


class Cache:
    """What a provider that never forgets has cached."""

    def __init__(self) -> None:
        self._entries: set[bytes] = set()

    def read(self, request: Rendered) -> int:
        """Count the blocks read: each marker looks at 20 places, its own the first."""
        places = (n for mark, _ in request.marks for n in range(mark, mark - LOOK_BACK, -1))
        found = [n + 1 for n in places if n >= 0 and request.key(n) in self._entries]
        self._entries |= {request.key(mark) for mark, _ in request.marks}
        return max(found, default=0)


def random_talk(seed: int) -> tuple[Callable[[Ask], Reply], list[str]]:
    """Make up a conversation: some turns with dozens of calls, prose, thoughts, wrong calls."""
    rng = random.Random(seed)

    def script(ask: Ask) -> Reply:
        tokens = Tokens(input=len(ask.raw) // 3)
        thoughts = tuple(
            Thought(rng.choice(["", "Hm."]), f"sig{seed}{ask.number}{n}", before=rng.randrange(3))
            for n in range(rng.choice([0, 0, 1, 2]))
        )
        text = rng.choice(["", "I look."])
        end = Answer(text, DONE.calls, tokens, thoughts=thoughts)
        if rng.random() < 0.3:
            return end
        if rng.random() < 0.1:
            return replace(end, text="It is done, I think.", calls=())
        count = rng.choice([1, 2, 5, 9, 10, 11, 15, 30])
        made = [Call("read_file", {"path": f"{ask.number}.{n}"}) for n in range(count)]
        if rng.random() < 0.1:
            made[0] = Call("list", {"nonsense": 1})
        return replace(end, calls=tuple(made))

    return script, [f"Packet {n}: " + "why? " * rng.randrange(400) for n in range(10)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_each_main_request_finds_the_end_of_the_one_before(tmp_path: Path, seed: int) -> None:
    script, packets = random_talk(seed)
    ttl = "1h" if seed % 2 else "5m"
    asks = talk(tmp_path, script, packets, long=ttl == "1h", alive=seed >= 3)
    assert len(asks) >= 20
    wire = [rendered(ask.body) for ask in asks]
    assert unbroken(asks)
    cache = Cache()
    read = [cache.read(request) for request in wire]
    ends = [request.marks[-1][0] + 1 for request in wire]
    assert read == [0, *ends[:-1]]
    tools = len(asks[0].tools)
    for request in wire:
        assert request.marks[0] == (tools - 1, ttl)
        assert request.marks[1] == (tools, ttl)
        # A thought may end a response, never a request.
        assert request.marks[-1] == (len(request.blocks) - 1, ttl)


@pytest.mark.slow
def test_forty_turns_with_many_parallel_calls_are_each_read_whole(tmp_path: Path) -> None:

    def script(ask: Ask) -> Reply:
        tokens = Tokens(input=len(ask.raw) // 3)
        count = {2: 15, 20: 30, 50: 30}.get(ask.number, ask.number % 2)
        calls = tuple(Call("read_file", {"path": f"x{n}"}) for n in range(count))
        return Answer(calls=calls or DONE.calls, tokens=tokens)

    asks = talk(tmp_path, script, [f"Packet {n}" for n in range(40)])
    assert len(asks) > 60
    wire = [rendered(ask.body) for ask in asks]
    added = [len(other.blocks) - len(one.blocks) for one, other in pairwise(wire)]
    assert {30, 60} < set(added)
    cache = Cache()
    read = [cache.read(request) for request in wire]
    assert read[1:] == [request.marks[-1][0] + 1 for request in wire[:-1]]
    assert unbroken(asks)


def test_markers_never_reach_the_history(tmp_path: Path) -> None:
    with serving(in_turn(*THINKING, DONE)) as provider:
        history: Sequence[ModelMessage] = ()
        for prompt in ("One.", "Two.", "Three."):
            kept = history
            history = anyio.run(_held, tmp_path, provider.environ(), OPUS, kept, prompt)
            for messages in (kept, history):
                assert b"cache-point" not in ModelMessagesTypeAdapter.dump_json(list(messages))
    for ask in provider.asks:
        said = [block for message in ask.body["messages"] for block in message["content"]]
        marked = [block for block in said if "cache_control" in block]
        assert len(marked) == (0 if ask.number == 1 else 1)


# too short to be cached


@pytest.mark.parametrize("model_id", [OPUS, HAIKU])
def test_no_marker_is_sent_until_the_prompt_is_long_enough(tmp_path: Path, model_id: str) -> None:
    agent = replace(AGENTS["lint-fixer"], instructions="You mend.", tools=("grep",))
    least = 1_024 if model_id == OPUS else 4_096
    sizes = [300, 600, least - 500, least + 1, least + 400]
    script = in_turn(
        *(
            Answer(calls=(Call("grep", {"pattern": f"x{size}"}),), tokens=Tokens(input=size))
            for size in sizes
        ),
        DONE,
    )
    asks = spawn(tmp_path, agent, script, model_id, Spawn(turns=9))
    marked = ["cache_control" in ask.text for ask in asks]
    # Each request goes by what the provider counted of the one before.
    assert marked == [False, False, False, False, True, True]
    assert unbroken(asks)
    assert {ttl for ask in asks for _, ttl in rendered(ask.body).marks} == {"5m"}


def test_what_the_user_knows_of_a_model_decides(tmp_path: Path) -> None:
    agent = replace(AGENTS["lint-fixer"], instructions="You mend.", tools=("grep",))
    for minimum, marked in ((100, True), (100_000, False)):
        caches = {HAIKU: CacheOverride(minimum=minimum)}
        (ask,) = spawn(tmp_path, agent, in_turn(DONE), HAIKU, caches=caches)
        assert ("cache_control" in ask.text) == marked


def test_a_long_first_prompt_is_marked_at_once(tmp_path: Path) -> None:
    brief = "x = 1\n" * 2_000
    (ask,) = spawn(tmp_path, AGENTS["fixer"], in_turn(DONE), HAIKU, Spawn(brief))
    assert ask.body["cache_control"] == FIVE
    assert ask.body["system"][-1]["cache_control"] == FIVE
    assert ask.body["tools"][-1]["cache_control"] == FIVE
    (ask,) = talk(tmp_path, in_turn(DONE), [brief], HAIKU, long=True)
    assert ask.body["cache_control"] == HOUR


def _said(text: str, tokens: int) -> ModelResponse:
    usage = RequestUsage(input_tokens=tokens, output_tokens=20 if tokens else 0)
    return ModelResponse([TextPart(text)], usage=usage)


@pytest.mark.parametrize(
    ("messages", "least", "most"),
    [
        ([ModelRequest([UserPromptPart("x" * 4_000)])], 2_000, 2_200),
        ([ModelRequest([UserPromptPart("x" * 4_000)]), _said("y", 700)], 720, 800),
        (
            [
                ModelRequest([UserPromptPart("x" * 4_000)]),
                _said("y", 700),
                ModelRequest([UserPromptPart("z" * 1_000)]),
            ],
            1_220,
            1_400,
        ),
        # Nobody counted the last: from there on it is guessed.
        (
            [
                ModelRequest([UserPromptPart("x" * 4_000)]),
                _said("y", 700),
                ModelRequest([UserPromptPart("z" * 1_000)]),
                _said("w" * 1_000, 0),
            ],
            1_720,
            2_000,
        ),
    ],
)
def test_a_prompt_is_as_long_as_was_counted_and_no_shorter_than_guessed(
    messages: list[ModelMessage], least: int, most: int
) -> None:
    assert least <= prompt_tokens(messages, ModelRequestParameters()) <= most


# one request, nothing to read again


@pytest.mark.parametrize("model_id", [OPUS, HAIKU, *NEW, *OLD])
def test_an_agent_that_makes_one_request_caches_nothing(tmp_path: Path, model_id: str) -> None:
    done = Answer(calls=(Call("done", {"summary": "s", "outputs": {"message": "fix: a"}}),))
    how = Spawn("diff\n" * 9_000)
    (ask,) = spawn(tmp_path, AGENTS["commit-writer"], in_turn(done), model_id, how)
    assert "cache_control" not in ask.text
    assert "prompt_cache_breakpoint" not in ask.text
    # These write each prompt to the cache, at a price, unless they are told not to.
    options = {"mode": "explicit"} if model_id in NEW else None
    assert ask.body.get("prompt_cache_options") == options


# OpenAI: developers.openai.com/api/docs/guides/prompt-caching


def fixed_of_openai(ask: Ask) -> list[object]:
    """Tools and leading instructions, up to the breakpoint, which is the only one."""
    said: list[dict[str, Any]] = ask.body.get("messages") or ask.body["input"]
    parts = [(n, part) for n, item in enumerate(said) for part in _parts_of(item)]
    (at,) = [n for n, (_, part) in enumerate(parts) if "prompt_cache_breakpoint" in part]
    assert parts[at][1].pop("prompt_cache_breakpoint") == {"mode": "explicit"}
    assert {said[n]["role"] for n, _ in parts[: at + 1]} <= {"system", "developer"}
    return [ask.body["tools"], ask.body.get("instructions"), parts[: at + 1]]


def _parts_of(item: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = item.get("content")
    return cast("list[dict[str, Any]]", content) if isinstance(content, list) else []


@pytest.mark.parametrize("model_id", NEW)
def test_spawns_of_an_agent_share_a_breakpoint_after_their_fixed_part(
    tmp_path: Path, model_id: str
) -> None:
    reads = Answer(calls=(Call("list"),))
    asks = [
        *spawn(tmp_path, AGENTS["fixer"], in_turn(reads, DONE), model_id, Spawn("One.")),
        *spawn(tmp_path, AGENTS["fixer"], in_turn(DONE), model_id, Spawn("Two. " * 9_000)),
    ]
    assert len(asks) == 3
    fixed = [fixed_of_openai(ask) for ask in asks]
    assert fixed[0] == fixed[1] == fixed[2]
    for ask in asks:
        options = dict(ask.body["prompt_cache_options"])
        options.pop("comparison_response_id", None)  # diagnostics, free of charge
        assert options == {"mode": "implicit", "ttl": "30m"}
    assert unbroken(asks[:2])


@pytest.mark.parametrize("model_id", NEW)
def test_a_fixed_part_too_short_to_be_cached_has_no_breakpoint_however_long_it_gets(
    tmp_path: Path, model_id: str
) -> None:
    agent = replace(AGENTS["lint-fixer"], instructions="You mend.", tools=("grep",))
    caches = {model_id: CacheOverride(minimum=2_000)}
    reads = Answer(calls=(Call("grep", {"pattern": "x"}),), tokens=Tokens(input=9_000))
    how = Spawn("x = 1\n" * 9_000)
    asks = spawn(tmp_path, agent, in_turn(reads, DONE), model_id, how, caches=caches)
    assert all("prompt_cache_breakpoint" not in ask.text for ask in asks)
    assert unbroken(asks)


@pytest.mark.parametrize("model_id", OLD)
def test_models_that_know_no_breakpoints_are_sent_none(tmp_path: Path, model_id: str) -> None:
    reads = Answer(calls=(Call("list"),))
    how = Spawn("x = 1\n" * 9_000)
    asks = spawn(tmp_path, AGENTS["fixer"], in_turn(reads, DONE), model_id, how)
    asks += talk(tmp_path, in_turn(reads, DONE), ["x = 1\n" * 2_000], model_id)
    for ask in asks:
        assert "prompt_cache_breakpoint" not in ask.text
        assert "prompt_cache_options" not in ask.body
        assert len(ask.body["prompt_cache_key"]) <= 64


def test_a_declared_server_is_sent_nothing_of_the_kind(tmp_path: Path) -> None:
    with serving(in_turn(DONE)) as provider:
        declared = {"mine": Server("mine", provider.openai_url)}
        _served(tmp_path, provider.environ(), declared)
        (ask,) = provider.asks
    assert not [name for name in ask.body if "cache" in name]
    assert "prompt_cache_breakpoint" not in ask.text


def _served(root: Path, environ: dict[str, str], providers: Mapping[str, Server]) -> None:
    async def work() -> None:
        async with models(environ, providers=providers) as opened:
            task = SubagentTask(
                step="lint",
                attempt=1,
                agent=AGENTS["fixer"],
                role="cheap",
                model_id="mine:gpt-6-luna",
                brief="x = 1\n" * 9_000,
                permit=permit(root),
                token="t0k",
            )
            await run_subagent(task, models=opened, emit=lambda _: None)

    anyio.run(work)


@pytest.mark.parametrize("model_id", [*NEW, *OLD])
def test_each_agent_and_each_main_conversation_has_a_key_of_its_own(
    tmp_path: Path, model_id: str
) -> None:
    def key(name: str, root: Path, **how: Any) -> str:
        root.mkdir(exist_ok=True)
        agent = replace(AGENTS["fixer"], name=name)
        (ask,) = spawn(root, agent, in_turn(DONE), model_id, Spawn(**how))
        return ask.body["prompt_cache_key"]

    def main_keys(root: Path) -> list[str]:
        # The first conversation is full after its first turn, so that a second one opens.
        asks = handed_over(root, model_id)
        return [ask.body["prompt_cache_key"] for ask in asks]

    one, two = tmp_path / "one", tmp_path / "two"
    fixer = key("fixer", one)
    assert key("fixer", one, brief="Other.", step="test", attempt=3, token="0ther") == fixer
    long = [key("x" * 70 + end, one) for end in ("a", "b")]
    mains = [*main_keys(one), *main_keys(two)]
    every = [fixer, key("lint-fixer", one), key("fixer", two), *long, *mains]
    assert len(mains) == 4
    assert len(set(every)) == len(every)
    assert all(len(made) <= 64 for made in every)
    assert not any(str(tmp_path) in made for made in every)


def handed_over(root: Path, model_id: str) -> list[Ask]:
    async def facts() -> HandoverFacts:
        return HandoverFacts(steps=(), diffstat="")

    async def work(environ: dict[str, str]) -> None:
        async with models(environ) as opened:
            main = MainConversation(
                opened,
                model_id,
                root=root,
                roster=[],
                emit=lambda _: None,
                facts=facts,
                token="t0k",
                max_context=6_000,
            )
            for _ in range(2):
                await main.turn("Packet.", step="s", attempt=1, permit=permit(root))

    full = replace(DONE, tokens=Tokens(input=5_990))
    with serving(in_turn(full)) as provider:
        anyio.run(work, provider.environ())
        return provider.asks


# history goes back verbatim


THINKING = (
    Answer(
        text="I look.",
        thoughts=(
            Thought("First, “why”?\n", "c2lnLTE+/w=="),
            Thought("", "cmVkYWN0ZWQ=", before=0),
            Thought("And then…", "c2lnLTI=", before=1),
        ),
        calls=(Call("list"), Call("grep", {"pattern": "é"})),
        tokens=Tokens(input=9_000),
    ),
    Answer(
        thoughts=(Thought("Done, then.", "c2ln+/8="),),
        calls=DONE.calls,
        tokens=Tokens(input=9_500),
    ),
)
VENDORS = ("anthropic:claude-opus-5-5", "openai:gpt-6.1-sol", "google:gemini-3.5-flash-lite")


def thoughts_sent(ask: Ask) -> list[object]:
    """What went back of the model's thinking, each with what stands right after it."""
    if ask.api == "google":
        parts = [part for said in ask.body["contents"] for part in said["parts"]]
        signed = [part for part in parts if "thoughtSignature" in part]
        return [
            (part.get("functionCall", {"name": "text"})["name"], part["thoughtSignature"])
            for part in signed
        ]
    if ask.api == "responses":
        items = ask.body["input"]
    else:
        items = [block for message in ask.body["messages"] for block in message["content"]]
    kinds = {"thinking", "redacted_thinking", "reasoning"}
    return [(item, _name(after)) for item, after in pairwise(items) if item.get("type") in kinds]


def _name(item: Mapping[str, Any]) -> object:
    return item.get("name") or item.get("type")


ANTHROPIC_THOUGHTS = [
    (
        {"type": "thinking", "thinking": "First, “why”?\n", "signature": "c2lnLTE+/w=="},
        "redacted_thinking",
    ),
    ({"type": "redacted_thinking", "data": "cmVkYWN0ZWQ="}, "text"),
    ({"type": "thinking", "thinking": "And then…", "signature": "c2lnLTI="}, "grep"),
    ({"type": "thinking", "thinking": "Done, then.", "signature": "c2ln+/8="}, "done"),
]


def _reasoning(number: str, text: str, sealed: str) -> dict[str, Any]:
    summary = [{"type": "summary_text", "text": text}] if text else []
    item = {"id": f"rs_{number}", "type": "reasoning", "summary": summary}
    return {**item, "encrypted_content": sealed}


RESPONSES_THOUGHTS = [
    (_reasoning("1_0", "First, “why”?\n", "c2lnLTE+/w=="), "reasoning"),
    (_reasoning("1_1", "", "cmVkYWN0ZWQ="), "message"),
    (_reasoning("1_2", "And then…", "c2lnLTI="), "grep"),
    (_reasoning("2_0", "Done, then.", "c2ln+/8="), "done"),
]


# Gemini signs a response's first call; a call that lacks it gets a stand-in from pydantic-ai. The
# bytes are the same: google-genai writes them in the other alphabet that JSON of protobuf knows.
GOOGLE_SIGNATURES = [("list", "cmVkYWN0ZWQ="), ("grep", "c2lnLTI="), ("done", "c2ln-_8=")]


@pytest.mark.parametrize(
    ("model_id", "expected"),
    [
        (VENDORS[0], ANTHROPIC_THOUGHTS),
        (VENDORS[1], RESPONSES_THOUGHTS),
        (VENDORS[2], GOOGLE_SIGNATURES),
    ],
)
def test_thoughts_go_back_verbatim_and_in_order(
    tmp_path: Path, model_id: str, expected: list[object]
) -> None:
    silent = replace(THINKING[0], text="")
    first = silent if model_id.startswith("google") else THINKING[0]
    script = in_turn(first, THINKING[1], DONE)
    asks = talk(tmp_path, script, ["Packet one.", "Packet two."], model_id)
    assert len(asks) == 3
    assert thoughts_sent(asks[0]) == []
    assert thoughts_sent(asks[1]) == expected[:-1]
    assert thoughts_sent(asks[2]) == expected
    assert unbroken(asks)
    if asks[0].api == "responses":
        assert all(ask.body["store"] is False for ask in asks)
        assert all(ask.body["include"] == ["reasoning.encrypted_content"] for ask in asks)
        assert not any("previous_response_id" in ask.body for ask in asks)


@pytest.mark.parametrize("model_id", VENDORS)
def test_a_conversation_read_back_from_json_goes_on_byte_for_byte(
    tmp_path: Path, model_id: str
) -> None:
    with serving(in_turn(*THINKING, DONE)) as provider:
        kept = _held, tmp_path, provider.environ(), model_id
        history = anyio.run(*kept, (), "One.")
        anyio.run(*kept, history, "Two.")
        written = ModelMessagesTypeAdapter.dump_json(history)
        read = ModelMessagesTypeAdapter.validate_json(written)
        anyio.run(*kept, repair_messages(read), "Two.")
        again = ModelMessagesTypeAdapter.dump_json(repair_messages(read))
        assert again == written
    _, second, third, fourth = provider.asks
    assert len(thoughts_sent(third)) == 4
    assert third.raw == fourth.raw
    assert unbroken([second, third])


@pytest.mark.parametrize("model_id", VENDORS)
def test_an_interrupted_turn_keeps_its_thoughts(tmp_path: Path, model_id: str) -> None:
    async def check() -> str:
        await anyio.sleep(20)
        return ""

    async def work(environ: dict[str, str]) -> None:
        async with models(environ) as opened:
            main = MainConversation(
                opened,
                model_id,
                root=tmp_path,
                roster=[],
                emit=lambda _: None,
                facts=_no_facts,
                token="t0k",
            )
            with anyio.move_on_after(0.7):
                await main.turn("One.", step="s", attempt=1, permit=permit(tmp_path, check=check))
            await main.turn("Two.", step="t", attempt=1, permit=permit(tmp_path))

    first = replace(THINKING[0], calls=(Call("list"), Call("check")))
    with serving(in_turn(first, DONE)) as provider:
        anyio.run(work, provider.environ())
        one, two = provider.asks
    assert len(thoughts_sent(two)) == 3
    assert "interrupted" in two.text
    assert unbroken([one, two])


async def _held(
    root: Path,
    environ: dict[str, str],
    model_id: str,
    history: Sequence[ModelMessage],
    prompt: str,
) -> list[ModelMessage]:
    """Let an agent work on from a history and return what the conversation then is."""
    agent = make_agent("main", "You think. " * 900, ("list", "grep"), outputs=False)
    hands = Hands(permit=permit(root), step="s", emit=lambda _: None, token="t0k", outputs={})
    async with models(environ) as opened:
        model = opened.open(
            "main",
            model_id,
            conversation="main-1",
            asking=lambda: Asking("s", 1),
            cache_key="k",
            main=True,
        )
        work = Work(
            prompt=prompt,
            hands=hands,
            model=model,
            cache="1h",
            conversation="main-1",
            history=history,
        )
        assert isinstance(await drive(agent, work), Done)
        return repair_messages(work.messages)
