from __future__ import annotations

import contextlib
import re
import textwrap
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart

from runner.errors import UsageError, WorkflowErrors
from runner.events import ModelResponded
from runner.models import Asking, Models, error_ending
from runner.models.scriptfile import parse_script
from runner.money import Purse
from runner.outcome import Misconfigured, Refused, Unavailable

if TYPE_CHECKING:
    from runner.events import Event


class Done(BaseModel):
    summary: str
    outputs: dict[str, Any] = {}


class Cannot(BaseModel):
    reason: str
    evidence: str = ""


class Stage:
    """One script and all that happens with it."""

    def __init__(self, folder: Path, script: str) -> None:
        (folder / "s.yaml").write_text(textwrap.dedent(script))
        self.events: list[Event] = []
        self.purse = Purse("run", usd=Decimal(1))
        self.models = Models(purse=self.purse, emit=self.events.append, environ={}, root=folder)
        self.looked: list[str] = []

    @property
    def rows(self) -> list[ModelResponded]:
        return [event for event in self.events if isinstance(event, ModelResponded)]

    def agent(
        self, role: str = "cheap", step: str = "lint", attempt: int = 1, conversation: str = "c1"
    ) -> Agent[None, Done | Cannot]:
        model = self.models.open(
            role, "script:s.yaml", conversation=conversation, asking=lambda: Asking(step, attempt)
        )
        agent = Agent(
            model,
            output_type=[ToolOutput(Done, name="done"), ToolOutput(Cannot, name="cannot")],
            instructions="Be good.",
        )

        @agent.tool_plain
        def look(path: str) -> str:  # pyright: ignore[reportUnusedFunction]
            self.looked.append(path)
            return f"E501 in {path}"

        return agent

    async def run(self, prompt: str = "Mend it.", **who: Any) -> Done | Cannot:
        return (await self.agent(**who).run(prompt)).output


async def test_turns_are_played_one_after_another(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        """
        rules:
          - when: { role: cheap, step: lint }
            turns:
              - { call: look, with: { path: a.py } }
              - calls: [{ call: look, with: { path: b.py } }, { call: look, with: { path: c.py } }]
                text: I look at both.
              - done: { summary: Mended., outputs: { risk: low } }
        """,
    )
    assert await stage.run() == Done(summary="Mended.", outputs={"risk": "low"})
    assert sorted(stage.looked) == ["a.py", "b.py", "c.py"]
    assert [row.scripted for row in stage.rows] == [True] * 3
    # Another conversation plays from the first turn.
    assert await stage.run(conversation="c2", attempt=2) == Done(
        summary="Mended.", outputs={"risk": "low"}
    )


@pytest.mark.parametrize(
    ("who", "prompt", "reason"),
    [
        ({"role": "main"}, "x", "main"),
        ({"step": "test-unit"}, "x", "a test"),
        ({"attempt": 3}, "x", "third"),
        ({}, "there is F401 here", "unused"),
        ({}, "there is E999 here", "some code"),
        ({}, "x", "anything"),
    ],
)
async def test_the_first_rule_that_matches_answers(
    tmp_path: Path, who: dict[str, Any], prompt: str, reason: str
) -> None:
    stage = Stage(
        tmp_path,
        """
        rules:
          - { when: { role: main }, cannot: main }
          - { when: { step: "test*" }, cannot: a test }
          - { when: { attempt: 3 }, cannot: third }
          - { when: { text: F401 }, cannot: unused }
          - { when: { regex: '\\bE\\d+' }, cannot: some code }
          - { cannot: { reason: anything, evidence: none } }
        """,
    )
    found = await stage.run(prompt, **who)
    assert isinstance(found, Cannot)
    assert found.reason == reason


async def test_results_of_tools_are_text_too_and_times_limits_uses(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        """
        rules:
          - { when: { text: E501 in a.py }, times: 1, done: Seen. }
          - { times: 2, call: look, with: { path: a.py } }
          - { cannot: used up }
        """,
    )
    assert await stage.run() == Done(summary="Seen.")
    assert await stage.run(conversation="c2") == Cannot(reason="used up")


async def test_the_main_conversation_plays_each_packet(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        """
        rules:
          - when: { step: lint }
            turns: [{ call: look, with: { path: a } }, { done: lint }]
          - when: { step: test }
            turns: [{ call: look, with: { path: b } }, { done: test }]
        """,
    )
    step = "lint"
    model = stage.models.open(
        "main", "script:s.yaml", conversation="m", asking=lambda: Asking(step, 1), main=True
    )
    agent = Agent(model, output_type=ToolOutput(Done, name="done"), instructions="Be good.")

    @agent.tool_plain
    def look(path: str) -> str:  # pyright: ignore[reportUnusedFunction]
        return path

    first = await agent.run("packet one")
    step = "test"
    second = await agent.run("packet two", message_history=first.all_messages())
    assert (first.output.summary, second.output.summary) == ("lint", "test")
    hows = [row.continuity and row.continuity.how for row in stage.rows]
    assert hows == ["first", "extends", "extends", "extends"]
    assert [row.step for row in stage.rows] == ["lint", "lint", "test", "test"]
    # What an earlier request held is read from the cache.
    assert all(row.usage.cache_read_tokens > 0 for row in stage.rows[1:])


async def test_the_same_script_gives_the_same_bytes(tmp_path: Path) -> None:
    script = "rules: [{ turns: [{ call: look, with: { path: a } }, { done: x }] }]"
    parts: list[list[tuple[str, str]]] = []
    for _ in range(2):
        stage = Stage(tmp_path, script)
        result = await stage.agent().run("x")
        parts.append(
            [
                (part.tool_name, part.tool_call_id)
                for message in result.all_messages()
                if isinstance(message, ModelResponse)
                for part in message.parts
                if isinstance(part, ToolCallPart)
            ]
        )
    assert parts[0] == parts[1] == [("look", "call_c1_1_0"), ("done", "call_c1_2_0")]


async def test_without_a_model_to_be_priced_as_it_costs_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "rules: [{ done: x }]")
    await stage.run()
    assert [row.cost_usd for row in stage.rows] == [Decimal(0)]


async def test_it_is_priced_as_told(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        """
        as: anthropic:claude-opus-5-5
        rules:
          - done: x
            usage: { input: 1000, cache_read: 200, cache_write: 300, output: 100 }
        """,
    )
    await stage.run()
    # 500 at 4, 200 at 0.20, 300 at 5, 100 at 20.
    assert [row.cost_usd for row in stage.rows] == [Decimal("0.00554")]
    assert stage.purse.spent == Decimal("0.00554")
    assert stage.rows[0].asked == "script:s.yaml"


@pytest.mark.parametrize(
    ("answer", "ending", "why"),
    [
        ("error: 400", Refused, "rejected"),
        ("error: 401", Misconfigured, "authentication"),
        ("error: 402", Misconfigured, "quota"),
        ("error: 404", Misconfigured, "unknown_model"),
        ("error: 413", Refused, "too_long"),
        ("error: 429", Unavailable, ""),
        ("error: 500", Unavailable, ""),
        ("error: 529", Unavailable, ""),
        ("error: refused", Unavailable, ""),
        ("error: reset", Unavailable, ""),
        ("error: timeout", Unavailable, ""),
        ("error: too_long", Refused, "too_long"),
        ("error: content_filter", Refused, "content_filter"),
        ("{ done: x, served: another }", Misconfigured, "other_model_served"),
        ("{ call: look, with: '{\"path\": ' }", Refused, "unparseable"),
        ("{ call: done, with: { wrong: 1 } }", Refused, "unparseable"),
        ("{ when: { step: other }, done: x }", Unavailable, ""),
    ],
)
async def test_errors_end_as_those_of_a_vendor(
    tmp_path: Path, answer: str, ending: type, why: str
) -> None:
    stage = Stage(tmp_path, f"rules:\n  - {answer}\n")
    with pytest.raises(Exception) as caught:  # noqa: PT011  its type is what is tested
        await stage.run()
    found = error_ending(caught.value)
    assert isinstance(found, ending)
    assert getattr(found, "why", "") == why


async def test_no_rule_says_what_was_asked(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "rules: [{ when: { step: other }, done: x }]")
    with pytest.raises(Exception, match="no rule answers role `cheap`, step `lint`, attempt 1"):
        await stage.run("Mend the thing.")


async def test_an_answer_can_take_its_time(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "rules: [{ done: x, delay: 100ms }]")
    begin = time.monotonic()
    await stage.run()
    assert time.monotonic() - begin >= 0.1


async def test_text_and_streams(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "rules: [{ text: plain words }]")
    model = stage.models.open(
        "cheap", "script:s.yaml", conversation="c", asking=lambda: Asking("s", 1)
    )
    result = await Agent(model).run("x")
    assert result.response.parts == [TextPart("plain words")]
    async with Agent(model).run_stream("x") as streamed:
        assert await streamed.get_output() == "plain words"
    assert len(stage.rows) == 2


BAD = {
    "": ":1:1: the script is empty",
    "[]": ":1:1: a script must be a mapping",
    "as: x:y": ":1:1: a script needs `rules`",
    "rules: 3": ":1:8: `rules` must be a list",
    "rules: []": ":1:8: `rules` must not be empty",
    "rules: [{ done: x }]\nas: opus": ":2:5: a model is written `provider:model`",
    "rules: [{ dnoe: x }]": ":1:11: a rule has no key `dnoe`",
    "rules: [{ done: x }]\nrule: 1": ":2:1: a script has no key `rule`",
    "rules: [{ when: { setp: a }, done: x }]": ":1:19: `when` has no key `setp`",
    "rules: [{ when: lint, done: x }]": ":1:17: `when` must be a mapping",
    "rules: [{ when: { attempt: 0 }, done: x }]": ":1:28: this must be a whole number from 1",
    "rules: [{ when: { regex: '(' }, done: x }]": ":1:26: not a regular expression",
    "rules: [{ when: { step: a } }]": ":1:9: this answers nothing",
    "rules: [{ done: x, cannot: y }]": ":1:28: `done` and `cannot` exclude each other",
    "rules: [{ done: x, text: y }]": "exclude each other",
    "rules: [{ text: x, with: { a: 1 } }]": ":1:26: `with` belongs to `call`",
    "rules: [{ turns: [{ done: x }], text: y }]": ":1:39: `text` cannot stand beside `turns`",
    "rules: [{ turns: [] }]": ":1:18: `turns` must not be empty",
    "rules: [{ turns: [{ done: x, when: {} }] }]": ":1:30: an answer has no key `when`",
    "rules: [{ calls: [{ with: { a: 1 } }] }]": ":1:19: a call needs `call`",
    "rules: [{ call: [a] }]": ":1:17: this must be a text",
    "rules: [{ done: }]": ":1:17: this must be a text",
    "rules: [{ cannot: { why: x } }]": ":1:21: `cannot` has no key `why`",
    "rules: [{ cannot: { evidence: x } }]": ":1:19: `cannot` needs `reason`",
    "rules: [{ error: 200 }]": ":1:18: unknown error `200`",
    "rules: [{ error: exploded }]": ":1:18: unknown error `exploded`",
    "rules: [{ done: x, delay: soon }]": ":1:27: not a time: `soon`",
    "rules: [{ done: x, delay: -1 }]": ":1:27: not a time",
    "rules: [{ done: x, usage: { output: -1 } }]": ":1:37: this must be a whole number from 0",
    "rules: [{ done: x, usage: { tokens: 1 } }]": ":1:29: `usage` has no key `tokens`",
    "rules: [{ done: x, times: 0 }]": ":1:27: this must be a whole number from 1",
    "rules: [{ done: x, done: y }]": "stands here twice",
    "rules: [{ done: 'x }]": ":1:17:",
    "rules: !!python/object:x {}": "tags such as",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_script_says_where_and_what(text: str) -> None:
    with pytest.raises(WorkflowErrors) as caught:
        parse_script(text, "s.yaml")
    assert BAD[text] in str(caught.value)
    assert str(caught.value).startswith("s.yaml:")


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(WorkflowErrors) as caught:
        parse_script("rules:\n  - { dnoe: x, done: y }\n  - { error: 7 }\n  - { delay: x }\n", "s")
    assert [error.where.line for error in caught.value.errors] == [2, 3, 4]


async def test_a_bad_or_missing_file_is_told_when_the_model_is_opened(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "rules: [{ done: x, nope: 1 }]")
    with pytest.raises(WorkflowErrors, match=re.escape("s.yaml:1:20: a rule has no key `nope`")):
        stage.agent()
    (tmp_path / "s.yaml").unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        stage.agent()


def test_the_example_of_the_documentation_is_right() -> None:
    page = Path(__file__).parent.parent / "docs" / "scripted-models.md"
    (example,) = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.DOTALL)
    script = parse_script(example, "example")
    assert [len(rule.turns) for rule in script.rules] == [3, 2, 3, 1]
    edit = script.rules[0].turns[1].calls[0].arguments
    assert edit == {"path": "src/shop/cart.py", "old_text": "import os\n", "new_text": ""}


WORDS = st.sampled_from(
    ["rules", "as", "when", "turns", "times", "call", "with", "calls", "text", "done", "error", "x"]
)
NODES = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(WORDS, inner, max_size=4).map(
            lambda entries: "{" + ", ".join(f"{k}: {v}" for k, v in entries.items()) + "}"
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60), st.lists(NODES, max_size=3).map(lambda n: f"rules: [{', '.join(n)}]")
    )
)
def test_no_text_does_anything_but_parse_or_say_what_is_wrong(text: str) -> None:
    with contextlib.suppress(WorkflowErrors):
        assert parse_script(text, "s.yaml").rules
