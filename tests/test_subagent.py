from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

from runner import brief
from runner.events import ModelResponded, ToolCalled
from runner.loader import load_agents
from runner.models import Models
from runner.models.transport import RequestLimits
from runner.money import Purse
from runner.outcome import (
    Cannot,
    Done,
    Ending,
    Exhausted,
    Misconfigured,
    OverBudget,
    Refused,
    Unavailable,
    Usage,
)
from runner.plan import Price
from runner.prefix import extends, prefix_of_json
from runner.subagent import SubagentTask, run_subagent, wire_tools
from runner.tools import Permit
from tests.provider import Answer, Ask, Call, Fault, Reply, Tokens, in_turn, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agentloop import Worked
    from runner.events import Event
    from runner.plan import AgentSpec

AGENTS = Path(__file__).parent.parent / "agents"
NAMES = sorted(path.stem for path in AGENTS.glob("*.md"))
VENDORS = ("anthropic:claude-haiku-5-5", "openai:gpt-6-luna", "openai-chat:gpt-6-luna")
DONE = Answer(calls=(Call("done", {"summary": "mended"}),))


def builtin(name: str) -> AgentSpec:
    return load_agents(AGENTS, None)[name]


def permit_for(root: Path) -> Permit:
    return Permit(root=root, allows=lambda _: True, why_not=lambda _: "", shell=True, turns=5)


@dataclass
class Spawned:
    worked: Worked
    asks: list[Ask]
    events: list[Event] = field(default_factory=list["Event"])

    @property
    def rows(self) -> list[ModelResponded]:
        return [event for event in self.events if isinstance(event, ModelResponded)]

    @property
    def ending(self) -> Ending:
        return self.worked.ending


def spawn(
    root: Path,
    script: Callable[[Ask], Reply],
    *,
    agent: AgentSpec | None = None,
    model_id: str = VENDORS[0],
    permit: Permit | None = None,
    usd: Decimal | None = Decimal(5),
    **task: Any,
) -> Spawned:
    """Run one subagent through a vendor's real client against a provider on loopback."""
    events: list[Event] = []

    async def work(environ: dict[str, str]) -> Worked:
        limits = RequestLimits(tries=1)
        async with Models(
            purse=Purse("run", usd=usd),
            emit=events.append,
            environ=environ,
            limits=limits,
            # Of a server that is not OpenAI's own nobody knows a price but the user.
            prices={"openai-chat:*": Price(Decimal("0.1"), Decimal("0.5"))},
        ) as models:
            asked = SubagentTask(
                step="lint",
                attempt=1,
                agent=agent or builtin("fixer"),
                role="cheap",
                model_id=model_id,
                brief="Mend it.",
                permit=permit or permit_for(root),
                token="t0k",
            )
            changed = replace(asked, **task)
            return await run_subagent(changed, models=models, emit=events.append)

    with serving(script) as provider:
        worked = anyio.run(work, provider.environ())
        return Spawned(worked, provider.asks, events)


def fixed_part(ask: Ask) -> bytes:
    """Everything of a request but the conversation, as it is on the wire, without cache markers."""
    apart = {"messages", "input", "prompt_cache_key", "prompt_cache_options"}
    parts: list[object] = [{name: ask.body[name] for name in ask.body if name not in apart}]
    said: list[dict[str, Any]] = ask.body.get("messages") or ask.body["input"]
    parts += [message for message in said if message.get("role") in {"system", "developer"}]
    return json.dumps(_unmarked(parts), ensure_ascii=False, separators=(",", ":")).encode()


def _unmarked(value: Any) -> Any:
    if isinstance(value, list):
        return [_unmarked(item) for item in cast("list[Any]", value)]
    if not isinstance(value, dict):
        return value
    markers = {"cache_control", "prompt_cache_breakpoint"}
    items = cast("dict[str, Any]", value).items()
    return {name: _unmarked(item) for name, item in items if name not in markers}


# the fixed part


@pytest.mark.parametrize("model_id", VENDORS)
@pytest.mark.parametrize("name", NAMES)
def test_the_fixed_part_is_small_and_the_same_from_spawn_to_spawn(
    tmp_path: Path, name: str, model_id: str
) -> None:
    agent = builtin(name)
    answer = Answer(calls=(Call("done", {"summary": "s", "outputs": outputs(agent)}),))
    parts: list[bytes] = []
    # One brief is too short for the prompt to be cached, the other is not.
    briefs = ("Mend it.", "E501 line too long\n" * 900)
    for number, said in enumerate(briefs, 1):
        permit = replace(
            permit_for(tmp_path),
            turns=number + 3,
            seconds=float(90 * number),
            check=_no_check if number == 1 else None,
            allows=_nothing,
        )
        spawned = spawn(
            tmp_path,
            in_turn(answer),
            agent=agent,
            model_id=model_id,
            permit=permit,
            brief=said,
            step=f"step-{number}",
            attempt=number,
            role=("cheap", "other")[number - 1],
            token=f"t0k{number}",
        )
        assert isinstance(spawned.ending, Done)
        assert spawned.asks[0].tools == [*wire_tools(agent, permit), "done", "cannot"]
        parts.append(fixed_part(spawned.asks[0]))
    assert parts[0] == parts[1]
    assert len(parts[0]) <= brief.FIXED_BYTES


async def _no_check() -> str:
    return ""


def _nothing(_: str) -> bool:
    return False


def outputs(agent: AgentSpec) -> dict[str, object]:
    return {name: "x" if kind == "string" else [] for name, kind in agent.output.items()}


def test_the_built_in_agents_are_these_and_name_only_tools_there_are() -> None:
    assert NAMES == [
        "commit-writer", "conflict-fixer", "fixer", "lint-fixer", "reviewer", "test-fixer"
    ]  # fmt: skip
    for name in NAMES:
        assert builtin(name).name == name
        assert builtin(name).model == "cheap"
        wire = wire_tools(builtin(name), permit_for(AGENTS))
        assert wire == builtin(name).tools


def test_a_shell_that_nobody_granted_is_not_offered_and_a_steps_own_choice_of_tools_is(
    tmp_path: Path,
) -> None:
    permit = permit_for(tmp_path)
    assert "shell" in wire_tools(builtin("fixer"), permit)
    assert "shell" not in wire_tools(builtin("fixer"), replace(permit, shell=False))
    only = replace(permit, tools=("read_file",))
    assert wire_tools(builtin("fixer"), only) == ("read_file",)


def test_a_subagent_sees_its_brief_and_its_instructions_and_nothing_else(tmp_path: Path) -> None:
    (ask,) = spawn(tmp_path, in_turn(DONE), model_id=VENDORS[2]).asks
    system, user = ask.body["messages"]
    assert [part["text"] for part in system["content"]] == [builtin("fixer").instructions.strip()]
    assert user == {"role": "user", "content": "Mend it."}


# caching


def test_a_subagent_is_cached_for_a_short_while_only(tmp_path: Path) -> None:
    reads = Answer(calls=(Call("list"),), tokens=Tokens(input=5_000))
    asks = spawn(tmp_path, in_turn(reads, DONE), brief="Why? " * 2_000).asks
    assert len(asks) == 2
    for ask in asks:
        for marked in (ask.body, ask.body["tools"][-1], ask.body["system"][-1]):
            assert marked["cache_control"] == {"type": "ephemeral", "ttl": "5m"}


def test_openai_gets_a_key_for_each_agent_and_tree(tmp_path: Path) -> None:
    def key(name: str, root: Path) -> str:
        root.mkdir(exist_ok=True)
        answer = Answer(calls=(Call("cannot", {"reason": "no"}),))
        made = spawn(root, in_turn(answer), agent=builtin(name), model_id=VENDORS[1])
        return made.asks[0].body["prompt_cache_key"]

    keys = [key("fixer", tmp_path / "a"), key("lint-fixer", tmp_path / "a")]
    assert keys[0].startswith("fixer-")
    assert key("fixer", tmp_path / "a") == keys[0]
    assert len({*keys, key("fixer", tmp_path / "b")}) == 3
    assert str(tmp_path) not in keys[0]


@pytest.mark.parametrize("model_id", VENDORS)
def test_each_request_of_a_subagent_extends_the_one_before(tmp_path: Path, model_id: str) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    made = spawn(
        tmp_path,
        in_turn(
            Answer(calls=(Call("read_file", {"path": "a.py"}), Call("list"))),
            Answer(calls=(Call("read_file", {"file": 5}), Call("nothing"))),
            Answer(text="I think that it is mended."),
            DONE,
        ),
        model_id=model_id,
    )
    assert made.ending == Done("mended")
    wire = [prefix_of_json(ask.api, ask.body, len(ask.raw)) for ask in made.asks]
    assert [extends(one, next_) for one, next_ in pairwise(wire)] == ["", "", ""]


# endings


def test_done_and_cannot_are_the_agents_own_words(tmp_path: Path) -> None:
    made = spawn(tmp_path, in_turn(DONE))
    assert made.ending == Done("mended")
    told = {"reason": "It is not mine.", "evidence": "a.py:1"}
    made = spawn(tmp_path, in_turn(Answer(calls=(Call("cannot", told),))))
    assert made.ending == Cannot("It is not mine.", "a.py:1")


def test_what_it_used_is_in_the_ledger_under_its_step_and_attempt(tmp_path: Path) -> None:
    tokens = Tokens(input=1_000, cache_read=600, cache_write=300, output=50)
    call, done = (
        Answer(calls=a.calls, tokens=tokens) for a in (Answer(calls=(Call("list"),)), DONE)
    )
    made = spawn(tmp_path, in_turn(call, done))
    assert [row.usage for row in made.rows] == [Usage(1, 1_000, 600, 300, 0, 50)] * 2
    assert all(row.cost_usd for row in made.rows)
    assert len({row.conversation for row in made.rows}) == 1
    assert {(row.step, row.attempt, row.role) for row in made.rows} == {("lint", 1, "cheap")}


LOOP = Answer(calls=(Call("grep", {"pattern": "x"}),))


def test_turns_end_it_however_many_the_library_would_allow(tmp_path: Path) -> None:
    made = spawn(tmp_path, in_turn(LOOP), permit=replace(permit_for(tmp_path), turns=60))
    assert isinstance(made.ending, Exhausted)
    assert made.ending.limit == "turns"
    assert len(made.asks) == 60


def test_seconds_end_it_in_the_middle_of_a_request_and_of_a_tool(tmp_path: Path) -> None:
    permit = replace(permit_for(tmp_path), seconds=0.5)
    slow = Answer(calls=DONE.calls, delay=20)
    made = spawn(tmp_path, in_turn(slow), permit=permit)
    assert isinstance(made.ending, Exhausted)
    assert made.ending.limit == "seconds"
    assert made.worked.seconds < 5

    async def check() -> str:
        await anyio.sleep(20)
        return ""

    made = spawn(
        tmp_path, in_turn(Answer(calls=(Call("check"),))), permit=replace(permit, check=check)
    )
    assert isinstance(made.ending, Exhausted)
    assert made.ending.limit == "seconds"
    assert len(made.asks) == 1


def test_the_steps_purse_ends_it_as_its_own_limit_and_the_runs_as_the_runs(tmp_path: Path) -> None:
    def dear(ask: Ask) -> Reply:
        return Answer(calls=(Call("list"),), tokens=Tokens(2_000, output=ask.body["max_tokens"]))

    made = spawn(tmp_path, dear, purse=Purse("lint", usd=Decimal("0.003")))
    assert isinstance(made.ending, Exhausted)
    assert made.ending.limit == "usd"
    assert len(made.asks) == 1
    made = spawn(tmp_path, in_turn(DONE), usd=Decimal("0.0000001"))
    assert isinstance(made.ending, OverBudget)
    assert made.asks == []


@pytest.mark.parametrize(
    ("reply", "ending"),
    [
        (Fault(529), Unavailable),
        (Fault(500), Unavailable),
        (Fault(break_off="reset"), Unavailable),
        (Fault(401), Misconfigured),
        (Fault(404), Misconfigured),
        (Fault(400), Refused),
        (Fault(413), Refused),
        (Answer(calls=DONE.calls, model="claude-opus-9"), Misconfigured),
        (Answer(text="Done!"), Refused),
        (Answer(), Refused),
        (Answer(calls=(Call("edit_file", "{not json"),)), Refused),
        (Answer(calls=(Call("push", {"to": "evil"}),)), Refused),
        (Answer(text="no", refused=True), Refused),
    ],
)
@pytest.mark.parametrize("model_id", [VENDORS[0], VENDORS[2]])
def test_every_way_to_fail_is_an_ending(
    tmp_path: Path, model_id: str, reply: Reply, ending: type[Ending]
) -> None:
    made = spawn(tmp_path, in_turn(reply), model_id=model_id)
    assert isinstance(made.ending, ending), made.ending
    assert len(made.asks) <= 5


def test_cancelling_it_is_no_ending(tmp_path: Path) -> None:
    async def work(environ: dict[str, str]) -> bool:
        async with Models(purse=Purse("run"), emit=lambda _: None, environ=environ) as models:
            with anyio.move_on_after(0.5) as scope:
                task = SubagentTask(
                    step="lint",
                    attempt=1,
                    agent=builtin("fixer"),
                    role="cheap",
                    model_id=VENDORS[0],
                    brief="Mend it.",
                    permit=permit_for(tmp_path),
                    token="t0k",
                )
                await run_subagent(task, models=models, emit=lambda _: None)
            return scope.cancelled_caught

    with serving(in_turn(Answer(delay=20))) as provider:
        assert anyio.run(work, provider.environ())


# outputs


def test_outputs_are_validated_and_asked_for_again(tmp_path: Path) -> None:
    agent = replace(builtin("reviewer"), output={"verdict": "string", "risk": "number"})

    def says(**given: object) -> Answer:
        return Answer(calls=(Call("done", {"summary": "s", "outputs": given}),))

    good = says(verdict="approve", risk=2, more="dropped")
    made = spawn(tmp_path, in_turn(says(verdict=5), good), agent=agent)
    assert made.ending == Done("s", {"verdict": "approve", "risk": 2})
    assert "`verdict` must be a string; `risk` (number) is missing" in made.asks[1].text
    made = spawn(tmp_path, in_turn(says(verdict=5)), agent=agent)
    assert isinstance(made.ending, Refused)
    assert len(made.asks) == 3
    made = spawn(tmp_path, in_turn(says(verdict="x" * 70_000, risk=True)), agent=agent)
    assert isinstance(made.ending, Refused)


def test_a_steps_own_outputs_come_before_the_agents(tmp_path: Path) -> None:
    answer = Answer(calls=(Call("done", {"summary": "s", "outputs": {"n": [1]}}),))
    made = spawn(tmp_path, in_turn(answer), outputs={"n": "json"})
    assert made.ending == Done("s", {"n": [1]})


def test_tools_tell_listeners_and_work_on_the_tree(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os\nx = 1\n")
    edit = Call("edit_file", {"path": "a.py", "old_text": "import os\n", "new_text": ""})
    made = spawn(tmp_path, in_turn(Answer(calls=(edit,)), DONE))
    assert (tmp_path / "a.py").read_text() == "x = 1\n"
    (called,) = (event for event in made.events if isinstance(event, ToolCalled))
    assert (called.step, called.tool, called.summary) == ("lint", "edit_file", "a.py")
    assert called.attempt > 0
