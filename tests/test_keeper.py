"""Main's prompt cache kept alive over real pauses, against a provider that expires by the clock.

The provider's clock runs fifty times as fast, and the runner is told of retentions as short: six
seconds stand for five minutes. What is asked, said and billed is real.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from cacheserver import HAND_PRICES, CachingProvider, caching
from provider import Answer, Call, Fault
from scratch import Scratch, make

from runner.ahead import next_ask
from runner.cache import rules_of
from runner.events import (
    AttemptStarted,
    Continuity,
    Decided,
    ModelResponded,
    RunFinished,
    StepFinished,
    StepStarted,
)
from runner.keeper import Keeper
from runner.keepwarm import Ahead
from runner.loader import load_workflow, parse_workflow
from runner.outcome import Attempt, Rung, Status, StepOutcome, Usage, Verdict
from runner.price import class_prices
from runner.progress import Progress
from runner.report import summarise

if TYPE_CHECKING:
    from pathlib import Path

    from provider import Ask, Reply

    from runner import Report
    from runner.events import Event

pytestmark = pytest.mark.timeout(90)

SPEED = 50.0
CONFIG = """\
caches:
  "anthropic:*": { minimum: 4096, retention: 6s, longer: 72s }
"""
MODELS = {"main": "anthropic:claude-opus-5-5", "cheap": "anthropic:claude-haiku-5-5"}
WORKFLOW = """
name: pause
budget: {{ usd: 20, time: 2m }}
{more}
inputs:
  what: {{ type: string }}
steps:
  - id: one
    prompt: ${{{{ inputs.what }}}}
  - id: pause
    run: sleep {seconds}
  - id: two
    prompt: And now?
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return make(tmp_path)


def answer(_: Ask) -> Answer:
    return Answer(calls=(Call("done", {"summary": "ok"}),))


class Stage:
    """A repository, a provider, and a user who knows the provider's retentions."""

    def __init__(
        self, scratch: Scratch, provider: CachingProvider, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.scratch, self.provider = scratch, provider
        config = scratch.root.parent / "config.yaml"
        config.write_text(CONFIG)
        monkeypatch.setenv("SUBRUNNER_CONFIG", str(config))
        for name, value in provider.environ().items():
            monkeypatch.setenv(name, value)

    async def run(self, seconds: float, more: str = "", **options: Any) -> list[ModelResponded]:
        """Ask main, pause, ask main again; return the rows of the ledger."""
        report = await self.play(WORKFLOW.format(seconds=seconds, more=more), **options)
        assert report.exit_code == 0
        assert report.prefix.unbroken
        return self.scratch.of(ModelResponded)

    async def play(self, workflow: str, **options: Any) -> Report:
        """Run a workflow whose first prompt is long enough to be cached."""
        inputs = {"what": "Look at this. " * 2_000}
        return await self.scratch.run(workflow, inputs=inputs, models=MODELS, **options)

    @property
    def decisions(self) -> list[str]:
        return [one.decision for one in self.scratch.of(Decided) if not one.step]


@pytest.mark.slow
async def test_a_pause_of_unknown_length_is_bridged_by_keep_alives(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caching(answer, speed=SPEED) as provider:
        stage = Stage(scratch, provider, monkeypatch)
        rows = await stage.run(8)
    assert [row.role for row in rows] == ["main", "keepalive", "main"]
    one, ping, two = rows
    assert ping.continuity is not None
    assert ping.continuity.how == "same"
    assert ping.usage.cache_read_tokens == one.usage.input_tokens
    assert ping.usage.output_tokens == 1 or ping.usage.output_tokens <= 40
    assert two.continuity is not None
    assert (two.continuity.how, two.continuity.why) == ("extends", "")
    assert two.usage.cache_read_tokens == one.usage.input_tokens == two.continuity.expected
    assert "keep main's cache alive" in stage.decisions
    assert sum(row.cost_usd or 0 for row in rows) == provider.usd(HAND_PRICES)
    first, again, _ = provider.asks
    assert again.body == {**first.body, "max_tokens": 1}


@pytest.mark.slow
async def test_without_keep_alives_the_loss_is_seen_and_explained(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caching(answer, speed=SPEED) as provider:
        rows = await Stage(scratch, provider, monkeypatch).run(8, "keep_warm: off")
    assert [row.role for row in rows] == ["main", "main"]
    assert rows[1].continuity is not None
    assert rows[1].continuity.how == "extends"
    assert rows[1].continuity.why.startswith("expired")
    assert rows[1].usage.cache_read_tokens == 0


async def test_a_short_pause_and_a_last_turn_cost_nothing(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caching(answer, speed=SPEED) as provider:
        stage = Stage(scratch, provider, monkeypatch)
        await stage.run(1)
        rows = await stage.run(1)
    assert [row.role for row in rows] == ["main", "main"]
    assert stage.decisions == ["ask for the usual retention of main's cache"]


# -- what is known of the steps ahead --------------------------------------------------------------

PLAN = """
steps:
  - id: plan
    prompt: Think.
  - id: test
    run: pytest -q
    fix: fixer
  - id: format
    needs: [plan]
    run: ruff format --check .
  - id: tell
    needs: [test]
    prompt: Tell.
"""


def ended(step: str, seconds: float, *rungs: Rung) -> StepOutcome:
    tried = tuple(
        Attempt(number, rung, None, Verdict.HARD, "") for number, rung in enumerate(rungs)
    )
    return StepOutcome(step, Status.SUCCEEDED, seconds=seconds, attempts=tried)


def test_steps_ahead_by_plan_alone() -> None:
    progress = Progress(parse_workflow(PLAN, file=None).steps, ())
    progress.hear(StepStarted("plan"), 0.0)
    progress.hear(AttemptStarted("plan", 1, Rung.MAIN, "m"), 0.0)
    progress.hear(StepFinished(ended("plan", 5.0, Rung.MAIN)), 5.0)
    progress.hear(StepStarted("test"), 5.0)
    test, form, tell = progress.steps(9.0, in_turn=False)
    assert (test.id, test.seconds, test.elapsed, test.asks) == ("test", None, 4.0, "end")
    assert test.chance == pytest.approx(0.05)
    assert (form.id, form.chance, form.elapsed) == ("format", 0.0, 0.0)
    assert (tell.id, tell.needs, tell.chance, tell.asks) == ("tell", ("test",), 1.0, "start")
    assert next_ask([test, form, tell]) == Ahead(None, 1.0)


def test_steps_ahead_by_history() -> None:
    past = [ended("test", 100.0 + n, Rung.COMMAND) for n in range(7)]
    past += [ended("test", 300.0, Rung.COMMAND, Rung.SUBAGENT, Rung.MAIN) for _ in range(2)]
    past += [ended("test", 200.0, Rung.COMMAND, Rung.SUBAGENT)]
    progress = Progress(parse_workflow(PLAN, file=None).steps, past)
    progress.hear(StepFinished(ended("plan", 5.0, Rung.MAIN)), 5.0)
    progress.hear(StepStarted("test"), 5.0)
    test, _, _ = progress.steps(15.0, in_turn=False)
    assert test.seconds == pytest.approx(104.5)
    assert test.chance == pytest.approx((2 + 0.05 * 2) / 12)
    progress.hear(AttemptStarted("test", 2, Rung.SUBAGENT, "m"), 15.0)
    test, _, _ = progress.steps(15.0, in_turn=False)
    assert test.chance == pytest.approx((2 + 0.3 * 2) / 5), (
        "it failed: runs that passed say nothing"
    )
    progress.hear(StepFinished(ended("test", 99.0, Rung.COMMAND)), 99.0)
    assert [step.id for step in progress.steps(99.0, in_turn=False)] == ["format", "tell"]


def test_within_its_own_turn_main_is_surely_asked_again() -> None:
    past = [ended("test", 60.0, Rung.COMMAND)]
    progress = Progress(parse_workflow(PLAN, file=None).steps, past)
    progress.hear(StepStarted("plan"), 0.0)
    assert next_ask(progress.steps(1.0, in_turn=True)) == Ahead(None, 1.0)
    progress.hear(StepStarted("plan/test"), 10.0)
    assert next_ask(progress.steps(20.0, in_turn=True)) == Ahead(50.0, 1.0)
    progress.hear(StepFinished(ended("plan/test", 30.0, Rung.COMMAND)), 40.0)
    assert next_ask(progress.steps(41.0, in_turn=True)) == Ahead(None, 1.0)


TWICE = (
    PLAN
    + """\
  - id: again
    needs: [tell]
    run: pytest -q
  - id: end
    needs: [again]
    prompt: End.
"""
)


@pytest.mark.parametrize(("seconds", "longer"), [(60.0, False), (3_000.0, True)])
def test_what_it_would_ask_for_is_told_without_deciding_it(seconds: float, *, longer: bool) -> None:
    said: list[Event] = []
    main, past = MODELS["main"], [ended(test, seconds, Rung.COMMAND) for test in ("test", "again")]
    keeper = Keeper(
        Progress(parse_workflow(TWICE, file=None).steps, past),
        rules=rules_of(main, {}),
        prices=lambda tokens: class_prices(main, datetime.now(UTC), {}, tokens),
        least=1,
        emit=said.append,
    )
    keeper.hear(AttemptStarted("plan", 1, Rung.MAIN, "m"))
    assert keeper.would_be_longer() is longer
    assert not said
    assert keeper.retention() is longer
    assert len(said) == 1


INNER = """
steps:
  - id: a
    run: "true"
  - id: b
    run: "true"
"""
OUTER = """
steps:
  - id: one
    run: "true"
  - id: use
    uses: ./inner.yaml
  - id: two
    prompt: Go.
"""


def test_steps_of_a_used_workflow_stand_before_it(tmp_path: Path) -> None:
    (tmp_path / "inner.yaml").write_text(INNER)
    (tmp_path / "workflow.yaml").write_text(OUTER)
    steps = load_workflow(tmp_path / "workflow.yaml", root=tmp_path).steps
    ahead = {one.id: one.needs for one in Progress(steps, ()).steps(0.0, in_turn=False)}
    assert ahead == {
        "one": (),
        "use/a": ("one",),
        "use/b": ("use/a",),
        "use": ("one", "use/a", "use/b"),
        "two": ("use",),
    }


# -- what only saves money never harms -------------------------------------------------------------

CUT = Answer(text="long", cut=True)
ALWAYS = """
name: pause
budget: { usd: 20, time: 2m }
inputs:
  what: { type: string }
steps:
  - { id: zero, prompt: "${{ inputs.what }}" }
  - { id: one, prompt: Go on., allow_failure: true }
  - { id: pause, run: sleep 8, when: always }
  - { id: two, prompt: And now?, when: always }
"""


@pytest.mark.slow
async def test_after_a_cut_answer_the_newest_request_is_kept_alive(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with caching(lambda ask: CUT if ask.number in (2, 3) else answer(ask), speed=SPEED) as provider:
        stage = Stage(scratch, provider, monkeypatch)
        report = await stage.play(ALWAYS, strict_prefix=True)
    assert report.exit_code == 0
    assert report.prefix.unbroken
    rows = scratch.of(ModelResponded)
    assert [row.role for row in rows] == ["main", "main", "main", "keepalive", "main"]
    assert rows[3].usage.cache_read_tokens == rows[2].usage.input_tokens


@pytest.mark.slow
async def test_a_keep_alive_is_tried_once_whatever_becomes_of_it(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(ask: Ask) -> Reply:
        return Fault(break_off="reset") if ask.body["max_tokens"] == 1 else answer(ask)

    with caching(script, speed=SPEED) as provider:
        stage = Stage(scratch, provider, monkeypatch)
        rows = await stage.run(8)
        assert len(provider.asks) == 3
    assert [row.role for row in rows] == ["main", "keepalive", "main"]
    failed = [one.reason for one in scratch.of(Decided) if "failed" in one.reason]
    assert failed == ["a keep-alive failed: it was not answered at the first try"]


@pytest.mark.slow
async def test_a_run_that_was_told_to_end_keeps_nothing_alive(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(ask: Ask) -> Answer:
        return replace(answer(ask), model="other" if ask.number == 2 else None)

    with caching(script, speed=SPEED) as provider:
        stage = Stage(scratch, provider, monkeypatch)
        workflow = ALWAYS.replace("allow_failure: true", "needs: [zero]")
        report = await stage.play(workflow.replace("now?, when: always", "now?"))
    assert report.exit_code == 6
    assert [row.role for row in scratch.of(ModelResponded)] == ["main", "main"]


@pytest.mark.slow
async def test_a_keep_alive_under_way_at_the_end_is_waited_for(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = ALWAYS.partition("  - { id: one")[0] + (
        "  - { id: test, run: sleep 6.5, fix: fixer }\n"
    )

    def script(ask: Ask) -> Answer:
        return replace(answer(ask), delay=2.5 if ask.body["max_tokens"] == 1 else 0.0)

    with caching(script, speed=SPEED) as provider:
        report = await Stage(scratch, provider, monkeypatch).play(workflow)
        billed = provider.usd(HAND_PRICES)
    assert report.exit_code == 0
    last = scratch.events[-1]
    assert isinstance(last, RunFinished)
    assert [row.role for row in scratch.of(ModelResponded)] == ["main", "keepalive"]
    assert report.cost_usd == billed, "what it cost is known, not its worst case"


async def test_a_subagent_of_mains_model_is_not_the_main_conversation(
    scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = """
name: role
budget: { usd: 20 }
inputs:
  what: { type: string }
steps:
  - { id: zero, prompt: "${{ inputs.what }}" }
  - { id: test, run: "test -f no.txt", fix: { agent: fixer, model: main, attempts: 1 } }
"""
    with caching(answer, speed=1) as provider:
        report = await Stage(scratch, provider, monkeypatch).play(workflow)
    assert report.exit_code == 1
    assert report.prefix.conversations == 1
    assert report.prefix.unbroken
    of_test = [row for row in scratch.of(ModelResponded) if row.step == "test"]
    assert [row.continuity is None for row in of_test][:1] == [True]
    assert of_test[-1].continuity is not None


def test_a_main_agent_that_breaks_its_prefix_fails_a_strict_run_and_is_told() -> None:
    """Only a defect could do it: a row as it is then recorded shows in report and verdict."""
    refused = Continuity("system[0]: changed (1 bytes became 2)", 3, 100, "ab" * 8)
    events = [
        ModelResponded(
            "s", 1, "main", "a:b", "", Usage(), Decimal(0), 0.0, "main-1", continuity=refused
        )
    ]
    report = summarise(events)
    assert not report.prefix.unbroken
    assert report.prefix.breaks[0].step == "s"
