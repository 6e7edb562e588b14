from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from runner.brief import FIXED_BYTES, DelegateReport, HandoverFacts
from runner.conversation import MAIN_TOOLS, MainConversation
from runner.events import ModelResponded
from runner.models import Models
from runner.models.transport import RequestLimits
from runner.money import Purse
from runner.outcome import Cannot, Done, Exhausted, OverBudget, Refused, Unavailable
from runner.plan import AgentSpec, Price
from runner.prefix import extends, prefix_of_json
from runner.subagent import SubagentTask, run_subagent
from runner.tools import DelegateItem, Permit
from tests.provider import Answer, Ask, Call, Fault, Provider, Reply, Tokens, in_turn, serving

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from pathlib import Path

    from runner.agentloop import Worked
    from runner.events import Event
    from runner.plan import ValueType

VENDORS = ("anthropic:claude-opus-5-5", "openai:gpt-6.1-sol", "openai-chat:gpt-6.1-sol")
HELPER = AgentSpec(
    "helper", "Helps with anything.", "You help.", tools=("read_file",), turns=3, output={}
)
FACTS = HandoverFacts(steps=("lint: succeeded (subagent)",), diffstat=" a.py | 1 +")


SOME = Tokens()


def done(summary: str = "mended", tokens: Tokens | None = SOME, **outputs: object) -> Answer:
    arguments: dict[str, Any] = {"summary": summary}
    if outputs:
        arguments["outputs"] = outputs
    return Answer(calls=(Call("done", arguments),), tokens=tokens)


def calls(*made: Call, tokens: Tokens | None = SOME) -> Answer:
    return Answer(calls=made, tokens=tokens)


@dataclass
class Stage:
    """A main conversation on a provider on loopback, through a vendor's real client."""

    root: Path
    provider: Provider
    models: Models
    events: list[Event]
    model_id: str
    delegated: list[Sequence[DelegateItem]] = field(default_factory=list["Sequence[DelegateItem]"])
    turns: int = 0

    def open(self, max_context: int | None = None, *, long: bool = False) -> None:
        self.main = MainConversation(
            self.models,
            self.model_id,
            root=self.root,
            roster=[HELPER],
            emit=self.events.append,
            facts=self.facts,
            token="t0k",
            delegate=self.delegate,
            retention=lambda: long,
            max_context=max_context,
        )

    async def facts(self) -> HandoverFacts:
        return FACTS

    async def delegate(self, items: Sequence[DelegateItem], step: str) -> Sequence[DelegateReport]:
        """Run agents for real, as the engine would."""
        self.delegated.append(items)
        reports: list[DelegateReport] = []
        for item in items:
            task = SubagentTask(
                step=step,
                attempt=1,
                agent=HELPER,
                role="cheap",
                model_id=self.model_id,
                brief=item.task,
                permit=replace(self.permit(), turns=3),
                token="t0k",
            )
            mend = await run_subagent(task, models=self.models, emit=self.events.append)
            assert isinstance(mend.ending, Done)
            reports.append(
                DelegateReport(name="helper", status="succeeded", evidence=mend.ending.summary)
            )
        return reports

    def permit(self, **changed: Any) -> Permit:
        permit = Permit(
            root=self.root, allows=lambda _: True, why_not=lambda _: "", turns=6, shell=False
        )
        return replace(permit, **changed)

    async def turn(
        self,
        text: str,
        *,
        permit: Permit | None = None,
        outputs: Mapping[str, ValueType] | None = None,
    ) -> Worked:
        self.turns += 1
        return await self.main.turn(
            text,
            step=f"step{self.turns}",
            attempt=1,
            permit=permit or self.permit(),
            outputs=outputs,
        )

    @property
    def asks(self) -> list[Ask]:
        """The main agent's own requests."""
        return [ask for ask in self.provider.asks if "delegate" in ask.tools]

    @property
    def hows(self) -> list[str | None]:
        return [row.continuity and row.continuity.how for row in self.rows]

    @property
    def rows(self) -> list[ModelResponded]:
        rows = [event for event in self.events if isinstance(event, ModelResponded)]
        return [row for row in rows if row.role == "main"]

    def unbroken(self) -> bool:
        """Whether each request extends the one before in all that a cache depends on."""
        wire = [prefix_of_json(ask.api, ask.body, len(ask.raw)) for ask in self.asks]
        return [extends(one, other) for one, other in pairwise(wire)] == [""] * (len(wire) - 1)


@asynccontextmanager
async def stage(
    root: Path,
    script: Callable[[Ask], Reply],
    model_id: str = VENDORS[0],
    *,
    max_context: int | None = None,
) -> AsyncGenerator[Stage]:
    events: list[Event] = []
    (root / "a.py").write_text("x = 1\n")
    with serving(script) as provider:
        async with Models(
            purse=Purse("run", usd=Decimal(100)),
            emit=events.append,
            environ=provider.environ(),
            limits=RequestLimits(tries=1),
            # Of a server that is not OpenAI's own nobody knows a price but the user.
            prices={"openai-chat:*": Price(Decimal(2), Decimal(10))},
        ) as models:
            made = Stage(root, provider, models, events, model_id)
            made.open(max_context)
            yield made


def constants(ask: Ask) -> str:
    """Everything of a request but the conversation itself, cache markers and all."""
    # The key names the conversation.
    apart = {"messages", "input", "prompt_cache_key"}
    body = {name: value for name, value in ask.body.items() if name not in apart}
    # OpenAI's diagnostics name the response before; they are no part of the prompt.
    options: dict[str, Any] = body.get("prompt_cache_options") or {}
    options.pop("comparison_response_id", None)
    said: list[dict[str, Any]] = ask.body.get("messages") or ask.body["input"]
    return json.dumps([body, list(takewhile(lambda m: m.get("role") == "system", said))])


# the wire


@pytest.mark.parametrize("model_id", VENDORS)
async def test_each_request_of_a_run_extends_the_one_before(tmp_path: Path, model_id: str) -> None:
    edit = Call("edit_file", {"path": "a.py", "old_text": "x = 1", "new_text": "x = 2"})
    script = in_turn(
        calls(Call("read_file", {"path": "a.py"}), Call("grep", {"pattern": "x"})),
        calls(edit, Call("shell", {"command": "rm -rf ."})),
        done("first"),
        calls(Call("read_file", {"nonsense": 1}), Call("no_such_tool")),
        Answer(text="It is done, I think."),
        calls(Call("write_file", "{broken json")),
        Answer(calls=(Call("cannot", {"reason": "no", "evidence": "e"}),)),
        Answer(text="Beside a call.", calls=(Call("list"), edit)),
        calls(edit, Call("done", {"summary": "third"})),
    )
    async with stage(tmp_path, script, model_id) as made:
        assert (await made.turn("Packet one.")).ending == Done("first")
        permit = made.permit(tools=("read_file",), usd=Decimal(9), seconds=99.0, turns=9)
        assert (await made.turn("Packet two.", permit=permit)).ending == Cannot("no", "e")
        mend = await made.turn("Packet three.", outputs={})
        assert mend.ending == Done("third")
        assert len(made.asks) == 9
        assert made.unbroken()
        assert len({constants(ask) for ask in made.asks}) == 1
        assert made.hows == ["first", *["extends"] * 8]
        assert made.asks[0].tools == [*MAIN_TOOLS, "done", "cannot"]
        assert {row.conversation for row in made.rows} == {"main-1"}
        assert [row.step for row in made.rows] == [*["step1"] * 3, *["step2"] * 4, *["step3"] * 2]


@pytest.mark.parametrize("model_id", VENDORS)
async def test_a_packet_is_appended_as_one_user_message(tmp_path: Path, model_id: str) -> None:
    async with stage(tmp_path, in_turn(done()), model_id) as made:
        await made.turn("Packet one.")
        await made.turn("Packet two.")
        first, second = (ask.body.get("messages") or ask.body["input"] for ask in made.asks)
        if model_id.startswith("anthropic"):
            assert len(second) == len(first) + 2
            assert [part["type"] for part in second[-1]["content"]] == ["tool_result", "text"]
            assert second[-1]["content"][-1]["text"] == "Packet two."
        else:
            assert len(second) == len(first) + 3
            assert second[-1] == {"role": "user", "content": "Packet two."}


@pytest.mark.parametrize("model_id", VENDORS)
async def test_the_fixed_part_is_small_and_alike_in_two_runs(tmp_path: Path, model_id: str) -> None:
    parts: list[str] = []
    for _ in range(2):
        async with stage(tmp_path, in_turn(done()), model_id) as made:
            await made.turn("Packet.")
            parts.append(constants(made.asks[0]))
    assert parts[0] == parts[1]
    assert len(parts[0].encode()) <= FIXED_BYTES


async def test_the_main_conversation_is_cached_with_its_messages(tmp_path: Path) -> None:
    async with stage(tmp_path, in_turn(done())) as made:
        await made.turn("Packet. " * 2_000)
        for marked in (
            made.asks[0].body,
            *(made.asks[0].body[of][-1] for of in ("tools", "system")),
        ):
            assert marked["cache_control"] == {"type": "ephemeral", "ttl": "5m"}
    async with stage(tmp_path, in_turn(done()), VENDORS[1]) as made:
        await made.turn("Packet.")
        assert made.asks[0].body["prompt_cache_key"].startswith("main-1-")


# delegation


@pytest.mark.parametrize("model_id", VENDORS)
async def test_a_subagents_transcript_never_enters_the_main_conversation(
    tmp_path: Path, model_id: str
) -> None:
    (tmp_path / "a.py").write_text("WHAT_ONLY_THE_SUBAGENT_READ\n")
    batch = [{"agent": "helper", "task": "Do one."}, {"agent": "helper", "task": "Do two."}]

    def script(ask: Ask) -> Reply:
        if "delegate" not in ask.tools:
            assert "Packet" not in ask.text
            read = calls(Call("read_file", {"path": "a.py"}))
            return done("subagent's summary") if "WHAT_ONLY" in ask.text else read
        begun = "Do one." in ask.text
        return done("all") if begun else calls(Call("delegate", {"tasks": batch}))

    async with stage(tmp_path, script, model_id) as made:
        (tmp_path / "a.py").write_text("WHAT_ONLY_THE_SUBAGENT_READ\n")
        assert (await made.turn("Packet.")).ending == Done("all")
        assert [[item.task for item in items] for items in made.delegated] == [
            ["Do one.", "Do two."]
        ]
        assert len(made.asks) == 2
        assert len(made.provider.asks) == 6
        assert made.unbroken()
        assert "WHAT_ONLY" not in made.asks[-1].text
        assert made.asks[-1].text.count("helper: succeeded") == 2
        assert made.asks[-1].text.count("subagent's summary") == 2


async def test_without_a_delegate_the_tool_is_there_and_refuses(tmp_path: Path) -> None:
    script = in_turn(calls(Call("delegate", {"tasks": [{"step": "lint"}]})), done())
    async with stage(tmp_path, script) as made:
        made.main = MainConversation(
            made.models,
            made.model_id,
            root=tmp_path,
            roster=[],
            emit=made.events.append,
            facts=made.facts,
            token="t0k",
        )
        assert (await made.turn("Packet.")).ending == Done("mended")
        assert "Nothing can be delegated" in made.asks[1].text


# whatever happens, the next turn goes on


@pytest.mark.parametrize("model_id", VENDORS)
async def test_a_turn_cancelled_in_the_middle_of_a_request_leaves_it_usable(
    tmp_path: Path, model_id: str
) -> None:
    script = in_turn(done("one"), Answer(delay=20), done("three"), done("four"))
    async with stage(tmp_path, script, model_id) as made:
        await made.turn("Packet one.")
        with anyio.move_on_after(0.5) as scope:
            await made.turn("Packet two.")
        assert scope.cancelled_caught
        assert (await made.turn("Packet three.")).ending == Done("three")
        assert (await made.turn("Packet four.")).ending == Done("four")
        assert len(made.asks) == 4
        assert made.unbroken()
        assert "Packet two." in made.asks[2].text


@pytest.mark.parametrize("model_id", VENDORS)
async def test_a_turn_cancelled_in_the_middle_of_its_tools_is_answered_interrupted(
    tmp_path: Path, model_id: str
) -> None:
    async def check() -> str:
        await anyio.sleep(20)
        return ""

    two = calls(Call("list"), Call("check"), Call("read_file", {"path": "a.py"}))
    async with stage(tmp_path, in_turn(two, done("two"), done("three")), model_id) as made:
        with anyio.move_on_after(0.7) as scope:
            await made.turn("Packet one.", permit=made.permit(check=check))
        assert scope.cancelled_caught
        assert (await made.turn("Packet two.")).ending == Done("two")
        assert (await made.turn("Packet three.")).ending == Done("three")
        assert made.unbroken()
        assert "interrupted" in made.asks[1].text
        answered = made.asks[1].text.count("call_1_")
        assert answered == 6


@pytest.mark.parametrize("model_id", VENDORS)
@pytest.mark.parametrize(
    "bad",
    [
        calls(Call("grep", {"pattern": "x"})),
        Answer(text="no typed answer"),
        calls(Call("read_file", {"no": 1})),
        calls(*[Call("list", {"path": str(n)}) for n in range(200)]),
    ],
)
async def test_a_turn_that_used_up_its_limits_leaves_it_usable(
    tmp_path: Path, model_id: str, bad: Answer
) -> None:
    def script(ask: Ask) -> Reply:
        return done("two") if "Packet two." in ask.text else bad

    async with stage(tmp_path, script, model_id) as made:
        mend = await made.turn("Packet one.")
        assert isinstance(mend.ending, Exhausted | Refused)
        assert (await made.turn("Packet two.")).ending == Done("two")
        assert len(made.asks) <= 7
        assert made.unbroken()


@pytest.mark.parametrize("model_id", VENDORS)
async def test_the_same_packet_after_an_outage_is_not_appended_twice(
    tmp_path: Path, model_id: str
) -> None:
    script = in_turn(done("one"), Fault(529), Fault(529), done("two"))
    async with stage(tmp_path, script, model_id) as made:
        await made.turn("Packet one.")
        assert isinstance((await made.turn("Packet two.")).ending, Unavailable)
        assert isinstance((await made.turn("Packet two.")).ending, Unavailable)
        assert (await made.turn("Packet two.")).ending == Done("two")
        assert made.unbroken()
        assert [ask.text.count("Packet two.") for ask in made.asks] == [0, 1, 1, 1]
        assert made.asks[1].body == made.asks[3].body


async def test_turns_wait_for_each_other_in_the_order_they_came(tmp_path: Path) -> None:
    def script(ask: Ask) -> Reply:
        number = ask.text.count("Packet")
        return replace(done(f"answer {number}"), delay=0.05)

    endings: list[object] = []
    async with stage(tmp_path, script) as made:

        async def one(number: int) -> None:
            mend = await made.turn(f"Packet {number}.")
            endings.append((number, mend.ending))

        async with anyio.create_task_group() as tasks:
            for number in range(1, 5):
                tasks.start_soon(one, number)
                await anyio.sleep(0.005)
        assert endings == [(number, Done(f"answer {number}")) for number in range(1, 5)]
        assert made.unbroken()


# outputs


async def test_a_turns_outputs_are_asked_for_in_words_not_by_another_schema(tmp_path: Path) -> None:
    script = in_turn(done("a"), done("b", risk=5), done("c", risk="low", more=1))
    async with stage(tmp_path, script) as made:
        await made.turn("Plain.")
        mend = await made.turn("Judge.", outputs={"risk": "string"})
        assert mend.ending == Done("c", {"risk": "low"})
        assert "`risk` (string)" in made.asks[1].text
        assert "`risk` must be a string" in made.asks[2].text
        assert made.unbroken()
        assert len({constants(ask) for ask in made.asks}) == 1


# hand-over


FULL = Tokens(input=900, output=200)


@pytest.mark.parametrize("model_id", VENDORS)
async def test_a_full_conversation_is_closed_before_the_next_turn(
    tmp_path: Path, model_id: str
) -> None:
    script = in_turn(done("first work", FULL), done("second work"), done("third"))
    async with stage(tmp_path, script, model_id, max_context=1_000) as made:
        await made.turn("Packet one.")
        mend = await made.turn("Packet two.")
        conversation = made.main.conversation
        await made.turn("Packet three.")
        assert (mend.ending, conversation) == (Done("second work"), "main-2")
        first, second, third = made.asks
        assert constants(first) == constants(second)
        assert "Packet one." not in second.text
        for told in ("first work", "lint: succeeded (subagent)", "a.py | 1 +", "Packet two."):
            assert told in second.text
        assert "What is to be done now" in second.text
        made.provider.asks.remove(first)
        assert made.unbroken()
        assert third.text.count("Packet") == 2
        assert made.hows == ["first", "first", "extends"]


@pytest.mark.parametrize("model_id", VENDORS)
async def test_a_conversation_that_fills_in_the_middle_of_a_turn_goes_on_in_a_new_one(
    tmp_path: Path, model_id: str
) -> None:
    write = Call("write_file", {"path": "b.py", "content": "y"})
    script = in_turn(calls(write, tokens=FULL), done("went on"))
    async with stage(tmp_path, script, model_id, max_context=1_000) as made:
        mend = await made.turn("Packet one.")
        assert mend.ending == Done("went on")
        assert [row.conversation for row in made.rows] == ["main-1", "main-2"]
        assert (tmp_path / "b.py").exists()
        assert "still in the tree" in made.asks[1].text
        assert made.asks[1].text.count("Packet one.") == 1


async def test_a_turn_that_fills_one_conversation_after_another_ends(tmp_path: Path) -> None:
    def script(ask: Ask) -> Reply:
        return calls(Call("list", {"path": str(ask.number)}), tokens=FULL)

    async with stage(tmp_path, script, max_context=1_000) as made:
        mend = await made.turn("Packet one.", permit=made.permit(turns=50))
        assert isinstance(mend.ending, Refused)
        assert mend.ending.why == "too_long"
        assert len(made.asks) == 3


async def test_what_the_provider_finds_too_long_is_handed_over_too(tmp_path: Path) -> None:
    script = in_turn(done("one"), Fault(413), done("two"))
    async with stage(tmp_path, script) as made:
        await made.turn("Packet one.")
        mend = await made.turn("Packet two.")
        assert (mend.ending, made.main.conversation) == (Done("two"), "main-2")
    async with stage(tmp_path, in_turn(Fault(413))) as made:
        mend = await made.turn("Far too long.")
        assert isinstance(mend.ending, Refused)
        assert len(made.asks) == 1


@pytest.mark.parametrize("long", [True, False])
async def test_it_asks_for_the_retention_that_it_was_opened_with(
    tmp_path: Path, *, long: bool
) -> None:
    async with stage(tmp_path, in_turn(calls(Call("list")), done())) as made:
        made.open(long=long)
        await made.turn("Packet one. " * 500)
        assert made.main.for_an_hour == long
        assert [('"ttl":"1h"' in ask.text) for ask in made.asks] == [long] * 2


async def test_without_usage_sizes_are_guessed_from_bytes(tmp_path: Path) -> None:
    big = "x" * 6_000
    script = in_turn(
        calls(Call("write_file", {"path": "b", "content": big}), tokens=None),
        done("went on", tokens=None),
    )
    async with stage(tmp_path, script, VENDORS[2], max_context=1_000) as made:
        mend = await made.turn("Packet one.")
        assert (mend.ending, made.main.conversation) == (Done("went on"), "main-2")


async def test_a_scripted_main_agent_works_through_two_turns(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text(
        "rules:\n"
        "  - when: { role: main, text: Packet one }\n"
        "    turns:\n"
        "      - { call: edit_file, with: { path: a.py, old_text: '1', new_text: '2' } }\n"
        "      - done: First.\n"
        "  - cannot: { reason: Second., evidence: none }\n"
    )
    async with stage(tmp_path, in_turn(done()), f"script:{tmp_path}/demo.yaml") as made:
        assert (await made.turn("Packet one.")).ending == Done("First.")
        assert (await made.turn("Packet two.")).ending == Cannot("Second.", "none")
        assert made.hows == ["first", "extends", "extends"]
        assert all(row.scripted for row in made.rows)
        assert (tmp_path / "a.py").read_text() == "x = 2\n"


async def test_equal_facts_hand_over_in_equal_bytes(tmp_path: Path) -> None:
    bodies: list[bytes] = []
    for _ in range(2):
        script = in_turn(done("first work", FULL), done("second work"))
        async with stage(tmp_path, script, max_context=1_000) as made:
            await made.turn("Packet one.")
            await made.turn("Packet two.")
            bodies.append(made.asks[1].raw)
    assert bodies[0] == bodies[1]


@pytest.mark.parametrize("tokens", [Tokens(90_000), Tokens(9_000_000)])
async def test_after_a_dispute_no_new_conversation_is_opened_only_to_be_refused(
    tmp_path: Path, tokens: Tokens
) -> None:
    """Neither because the old one were too dear, nor because it were full by that count."""
    absurd = calls(Call("list"), tokens=tokens)
    async with stage(tmp_path, in_turn(done(), absurd)) as made:
        await made.turn("Packet one.")
        for text in ("Packet two.", "Packet three."):
            worked = await made.turn(text)
            assert isinstance(worked.ending, OverBudget)
            assert worked.ending.disputed
        assert made.main.conversation == "main-1"
        assert len(made.asks) == 2
