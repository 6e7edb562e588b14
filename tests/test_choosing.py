"""Who tries first, over real runs: history is kept, weighed, told to main and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scratch import CALC, UNITTEST, Scratch, make

from runner import Options, run
from runner.console.show import render_explain
from runner.events import Decided, ModelResponded
from runner.journal import Journal
from runner.policy import AskMain, ladder
from runner.workspace.state import repo_state

if TYPE_CHECKING:
    from pathlib import Path

    from runner import Report
    from runner.policy import Move, Situation

BROKEN = CALC.replace("a + b", "a - b")
WORKFLOW = f"""
name: mend
steps:
  - id: test
    run: {UNITTEST}
    fix: {{ agent: test-fixer, attempts: 1 }}
"""
CHEAP = """
as: anthropic:claude-haiku-5-5
rules:
  - when: { role: cheap }
    cannot: { reason: beyond me }
"""
MAIN = """
as: anthropic:claude-opus-5-5
rules:
  - when: { role: main }
    turns:
      - call: edit_file
        with: { path: calc.py, old_text: "a - b", new_text: "a + b" }
      - done: mended
"""


class Stage:
    """A repository whose test fails again before each run, a useless cheap model, a good main."""

    def __init__(self, where: Path) -> None:
        self.repo: Scratch = make(where)
        self.repo.write("calc.py", BROKEN)
        self.repo.commit_all("break it")
        self.models = {"cheap": CHEAP, "main": MAIN}
        for role, text in self.models.items():
            (where / f"{role}.yaml").write_text(text)
            self.models[role] = f"script:{where / role}.yaml"

    async def run(self, **options: object) -> list[str]:
        """Return the rungs that were tried, in order."""
        self.repo.git("checkout", "-q", "calc.py")
        self.report: Report = await self.repo.run(WORKFLOW, models=self.models, **options)
        return [attempt.rung.value for attempt in self.report.steps[0].attempts]

    @property
    def first(self) -> Decided:
        return next(one for one in self.repo.of(Decided) if one.step)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def worth(hour: str, where: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = where / "config.yaml"
    config.write_text(f"value_of_time: {hour}\n")
    monkeypatch.setenv("SUBRUNNER_CONFIG", str(config))


async def test_without_history_the_ladder_and_with_it_the_cheaper_way(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worth("9000", tmp_path, monkeypatch)
    assert await stage.run() == ["command", "subagent", "main"]
    assert stage.first.decision == "AskSubagent"
    tried: list[str] = []
    for _ in range(8):
        tried = await stage.run()
        if tried == ["command", "main"]:
            break
    assert tried == ["command", "main"], "minutes with a model that never mends are dear"
    assert stage.first.decision == "AskMain"
    assert float(stage.first.facts["subagent_failed"]) > 0.9
    asked = [row.messages for row in stage.repo.of(ModelResponded) if row.role == "main"]
    assert "test by script:" in asked[0], "main is told who can do what"
    state = repo_state(stage.repo.root, tmp_path / "state")
    with Journal.open(state) as journal:
        records = tuple(journal.records(stage.report.run_id))
    text = render_explain(records, "test")
    assert "subagent_then_main_usd" in text
    assert "main_at_once_usd" in text


async def test_where_time_is_cheap_the_cheap_model_is_tried_all_the_same(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worth("0", tmp_path, monkeypatch)
    for _ in range(4):
        assert await stage.run() == ["command", "subagent", "main"]
    assert stage.first.facts["value_of_time_usd_per_hour"] == "0"
    chance = float(stage.first.facts["subagent_chance"])
    assert 0 < chance < 0.5


async def test_policies_by_name(stage: Stage) -> None:
    assert await stage.run(policy="ladder") == ["command", "subagent", "main"]
    assert await stage.run(policy="main") == ["command", "main"]
    assert await stage.run(policy="cheap") == ["command", "subagent"]
    assert stage.report.exit_code == 1
    assert "never to ask main" in stage.report.steps[0].reason


async def test_a_policy_of_ones_own(stage: Stage, tmp_path: Path) -> None:
    seen: list[Situation] = []

    def mine(now: Situation) -> Move:
        seen.append(now)
        return AskMain("I say so", {"my": "fact"}) if not now.attempts else ladder(now)

    stage.repo.git("checkout", "-q", "calc.py")
    file = tmp_path / "own.yaml"
    file.write_text(WORKFLOW)
    options = Options(state_dir=tmp_path / "state")
    report = await run(
        file,
        cwd=stage.repo.root,
        models=stage.models,
        options=options,
        policy=mine,
        sinks=[stage.repo.events.append],
    )
    assert [one.rung.value for one in report.steps[0].attempts] == ["command", "main"]
    assert stage.first.facts["my"] == "fact"
    assert seen[0].outlook is not None
    assert seen[0].outlook.kind == "test"


async def test_a_middle_model_is_weighed_against_main_after_a_hard_failure(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worth("9000", tmp_path, monkeypatch)
    (tmp_path / "mid.yaml").write_text(CHEAP.replace("cheap", "mid"))
    stage.models["mid"] = f"script:{tmp_path / 'mid.yaml'}"
    workflow = WORKFLOW.replace("attempts: 1", "attempts: 1, then: mid").replace(
        "steps:", f"models: {{ mid: '{stage.models['mid']}' }}\nsteps:"
    )

    async def decisions() -> list[Decided]:
        stage.repo.git("checkout", "-q", "calc.py")
        await stage.repo.run(workflow, models=stage.models)
        return [one for one in stage.repo.of(Decided) if one.step]

    first, second, third = await decisions()
    assert [first.decision, second.decision, third.decision] == [
        *("AskSubagent", "AskSubagent", "AskMain"),
    ]
    assert "mid_then_main_usd" in second.facts, "compared anew, with what the first failure cost"
    made = [first, second, third]
    for _ in range(6):
        made = await decisions()
        if len(made) < 3:
            break
    assert len(made) < 3, "who never mends is left out once that is known"
