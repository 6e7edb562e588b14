"""A failing command goes up the ladder: who is asked, what stays in the tree, what is undone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from scratch import CALC, UNITTEST, Scratch, make

from runner import Rung, Verdict
from runner.events import ModelResponded, Restored
from runner.report import to_json

if TYPE_CHECKING:
    from pathlib import Path

    from runner import Report

BROKEN = CALC.replace("a + b", "a - b")
WORKFLOW = f"""
name: mend
steps:
  - id: test
    run: {UNITTEST}
    fix: {{ agent: test-fixer, attempts: 2 }}
"""
GOOD = """call: edit_file
        with: { path: calc.py, old_text: "a - b", new_text: "a + b" }"""


@pytest.fixture
def broken(world: Path) -> Scratch:
    repo = make(world)
    repo.write("calc.py", BROKEN)
    repo.commit_all("break it")
    return repo


def rungs(report: Report) -> list[tuple[str, str]]:
    return [(a.rung.value, a.verdict.value) for a in report.steps[0].attempts]


def clean(repo: Scratch) -> bool:
    return repo.git("status", "--porcelain") == ""


async def test_a_subagent_mends_and_the_command_is_the_judge(broken: Scratch) -> None:
    models = broken.script(f"""
rules:
  - when: {{ role: cheap, step: test }}
    turns:
      - {GOOD}
      - done: mended
""")
    report = await broken.run(WORKFLOW, models=models)
    assert report.exit_code == 7, report
    assert rungs(report) == [("command", "hard"), ("subagent", "passed")]
    assert "a + b" in broken.read("calc.py")
    assert report.steps[0].attempts[1].files == ("calc.py",)
    assert report.scripted
    assert to_json(report)["models"]["cheap"]["requests"] == 2
    assert to_json(report)["models"]["main"]["requests"] == 0


async def test_claims_done_and_changed_nothing(broken: Scratch) -> None:
    models = broken.script(f"""
rules:
  - when: {{ role: cheap }}
    done: all tests pass now
  - when: {{ role: main, text: nothing changed on disk }}
    turns:
      - {GOOD}
      - done: mended
""")
    report = await broken.run(WORKFLOW, models=models)
    assert rungs(report) == [("command", "hard"), ("subagent", "hard"), ("main", "passed")]
    assert report.steps[0].attempts[1].reason == "nothing changed on disk"
    assert report.steps[0].rung is Rung.MAIN


async def test_gives_up_and_main_gets_one_packet(broken: Scratch) -> None:
    models = broken.script(f"""
rules:
  - when: {{ role: cheap }}
    cannot: {{ reason: beyond me, evidence: calc.py }}
  - when: {{ role: main, text: beyond me }}
    turns:
      - {GOOD}
      - done: mended
""")
    report = await broken.run(WORKFLOW, models=models)
    assert rungs(report) == [("command", "hard"), ("subagent", "hard"), ("main", "passed")]
    assert report.steps[0].attempts[1].reason == "the agent gave up: beyond me"


async def test_a_middle_model_is_asked_between_the_cheap_one_and_main(broken: Scratch) -> None:
    models = broken.script(f"""
rules:
  - when: {{ role: cheap }}
    cannot: {{ reason: beyond me }}
  - when: {{ role: mid, text: beyond me }}
    turns:
      - {GOOD}
      - done: mended
""")
    workflow = WORKFLOW.replace("attempts: 2", "then: mid").replace(
        "steps:", f"models: {{ mid: '{models['cheap']}' }}\nsteps:"
    )
    report = await broken.run(workflow, models=models)
    assert rungs(report) == [("command", "hard"), ("subagent", "hard"), ("subagent", "passed")]
    assert [one.role for one in report.steps[0].attempts] == ["", "cheap", "mid"]
    assert to_json(report)["models"]["main"]["requests"] == 0


async def test_a_middle_model_begins_on_the_tree_as_it_was(broken: Scratch) -> None:
    """Attempts used up are a hard failure: half a mend is undone before another model is asked."""
    broken.write("calc.py", BROKEN.replace("a * 2", "a * 3"))
    broken.commit_all("break it twice")
    models = broken.script("""
rules:
  - when: { role: cheap }
    turns:
      - call: edit_file
        with: { path: calc.py, old_text: "a - b", new_text: "a + b" }
      - done: half of it
  - when: { role: mid }
    turns:
      - call: read_file
        with: { path: calc.py }
      - cannot: { reason: too hard }
  - when: { role: main }
    cannot: { reason: no idea }
""")
    workflow = WORKFLOW.replace("attempts: 2", "attempts: 1, then: mid").replace(
        "steps:", f"models: {{ mid: '{models['cheap']}' }}\nsteps:"
    )
    report = await broken.run(workflow, models=models)
    assert rungs(report)[:3] == [("command", "hard"), ("subagent", "soft"), ("subagent", "hard")]
    restored = broken.of(Restored)
    assert restored[0].paths == ("calc.py",)
    asked = [event.messages for event in broken.of(ModelResponded) if event.role == "mid"]
    assert "a - b" in asked[-1]
    assert clean(broken)


async def test_edits_the_test_and_is_undone(broken: Scratch) -> None:
    models = broken.script("""
rules:
  - when: { role: cheap }
    turns:
      - call: edit_file
        with: { path: test_calc.py, old_text: "self.assertEqual(add(2, 3), 5)", new_text: "pass" }
      - done: the test was wrong
  - cannot: no idea
""")
    before = broken.read("test_calc.py")
    report = await broken.run(WORKFLOW, models=models)
    assert report.exit_code in {1, 5}
    assert broken.read("test_calc.py") == before
    assert clean(broken)


async def test_a_shell_that_edits_the_test_ends_with_5(broken: Scratch) -> None:
    models = broken.script("""
rules:
  - when: { role: cheap }
    turns:
      - call: shell
        with: { command: "echo > test_calc.py" }
      - done: no tests, no failures
  - cannot: no idea
""")
    before = broken.read("test_calc.py")
    report = await broken.run(WORKFLOW, models=models, allow_shell=True)
    assert report.exit_code == 5, report
    assert report.steps[0].attempts[1].reason.startswith(("left its scope", "tampered"))
    assert broken.read("test_calc.py") == before
    assert clean(broken)


async def test_commits_by_shell_and_the_commit_is_undone(broken: Scratch) -> None:
    head = broken.git("rev-parse", "HEAD")
    models = broken.script("""
rules:
  - when: { role: cheap }
    turns:
      - call: shell
        with: { command: "git commit -q --allow-empty -m mine && git tag mine" }
      - done: committed
  - cannot: no idea
""")
    report = await broken.run(WORKFLOW, models=models, allow_shell=True)
    assert report.exit_code == 5, report
    assert report.steps[0].attempts[1].reason.startswith("tampered with its judge")
    assert broken.git("rev-parse", "HEAD") == head
    assert broken.git("tag") == ""
    assert clean(broken)


async def test_suppression_is_tampering(world: Path) -> None:
    repo = make(world)
    repo.write("lint.sh", "grep -n 'import os$' calc.py && exit 1 || exit 0\n")
    repo.write("calc.py", "import os\n" + CALC)
    repo.commit_all()
    models = repo.script("""
rules:
  - when: { role: cheap }
    turns:
      - call: edit_file
        with: { path: calc.py, old_text: "import os\\n", new_text: "import os  # noqa\\n" }
      - done: silenced
  - cannot: no idea
""")
    report = await repo.run(
        """
steps:
  - id: lint
    run: sh lint.sh
    fix: lint-fixer
""",
        models=models,
    )
    assert report.exit_code == 5, report
    assert report.steps[0].attempts[1].reason.startswith("tampered with its judge")
    assert clean(repo)


async def test_breaks_more_and_is_restored_before_main_is_asked(broken: Scratch) -> None:
    models = broken.script("""
rules:
  - when: { role: cheap }
    turns:
      - call: edit_file
        with: { path: calc.py, old_text: "a * 2", new_text: "a * 3" }
      - done: better
  - when: { role: main }
    cannot: let a person look
""")
    report = await broken.run(WORKFLOW, models=models)
    assert report.exit_code == 1
    assert rungs(report) == [
        ("command", "hard"),
        ("subagent", "hard"),
        ("main", "hard"),
        ("main", "hard"),
    ]
    assert "broke more" in report.steps[0].attempts[1].reason
    assert clean(broken)
    assert broken.of(Restored)


async def test_mends_half_then_the_rest_on_the_tree_as_it_is(world: Path) -> None:
    repo = make(world)
    repo.write("calc.py", BROKEN.replace("a * 2", "a * 3"))
    repo.commit_all()
    models = repo.script(f"""
rules:
  - when: {{ role: cheap, attempt: 2 }}
    turns:
      - {GOOD}
      - done: half
  - when: {{ role: cheap, attempt: 3 }}
    turns:
      - call: edit_file
        with: {{ path: calc.py, old_text: "a * 3", new_text: "a * 2" }}
      - done: whole
""")
    report = await repo.run(WORKFLOW, models=models)
    assert rungs(report) == [("command", "hard"), ("subagent", "soft"), ("subagent", "passed")]
    assert repo.read("calc.py") == CALC


async def test_half_a_mend_is_undone_when_nobody_finishes_it(world: Path) -> None:
    repo = make(world)
    repo.write("calc.py", BROKEN.replace("a * 2", "a * 3"))
    repo.commit_all()
    models = repo.script(f"""
rules:
  - when: {{ role: cheap, attempt: 2 }}
    turns:
      - {GOOD}
      - done: half
  - cannot: stuck
""")
    report = await repo.run(WORKFLOW, models=models)
    assert report.exit_code == 1
    assert [v for _, v in rungs(report)][1:3] == ["soft", "hard"]
    assert clean(repo)


async def test_loops_and_is_stopped(broken: Scratch) -> None:
    models = broken.script("""
rules:
  - when: { role: cheap }
    call: read_file
    with: { path: calc.py }
  - cannot: no
""")
    report = await broken.run(WORKFLOW, models=models)
    assert report.exit_code == 1
    assert report.steps[0].attempts[1].reason.startswith("turns used up")
    assert len(broken.of(ModelResponded)) < 40


async def test_malformed_arguments_are_bounded(broken: Scratch) -> None:
    models = broken.script("""
rules:
  - when: { role: cheap }
    call: edit_file
    with: '{"path": 7, "nonsense": '
  - cannot: no
""")
    report = await broken.run(WORKFLOW, models=models)
    assert report.exit_code == 1
    assert report.steps[0].attempts[1].verdict is Verdict.HARD
    assert len(broken.of(ModelResponded)) < 40
    assert clean(broken)


@pytest.mark.parametrize(
    ("error", "code"), [("529", 6), ("401", 6), ("404", 6), ("refused", 6), ("too_long", 1)]
)
async def test_a_failing_provider_is_never_held_against_the_model(
    broken: Scratch, error: str, code: int
) -> None:
    models = broken.script(f"""
rules:
  - when: {{ role: cheap }}
    error: {error}
  - cannot: no
""")
    report = await broken.run(WORKFLOW, models=models)
    assert report.exit_code == code, report
    expected = Verdict.INFRA if code == 6 else Verdict.HARD
    assert report.steps[0].attempts[1].verdict is expected
    assert clean(broken)


async def test_no_models_leaves_the_step_with_its_own_failure(broken: Scratch) -> None:
    report = await broken.run(WORKFLOW, no_models=True)
    assert report.exit_code == 1
    assert "--no-models" in report.steps[0].hint


async def test_a_missing_key_removes_a_rung_and_nothing_else(broken: Scratch) -> None:
    report = await broken.run(WORKFLOW)
    assert report.exit_code == 1
    assert "ANTHROPIC_API_KEY" in report.steps[0].hint
    assert rungs(report) == [("command", "hard")]


async def test_fix_by_flag(broken: Scratch) -> None:
    models = broken.script(f"""
rules:
  - turns:
      - {GOOD}
      - done: mended
""")
    workflow = f"steps:\n  - id: test\n    run: {UNITTEST}\n"
    report = await broken.run(workflow, models=models, fix=("test",), allow_uncommitted=True)
    assert report.exit_code == 0


async def test_mend_then_commit_holds_what_passed(broken: Scratch) -> None:
    models = broken.script(f"""
rules:
  - turns:
      - {GOOD}
      - done: mended
""")
    report = await broken.run(
        WORKFLOW + "  - id: commit\n    commit: { message: auto }\n", models=models
    )
    assert report.exit_code == 0, report
    assert "a + b" in broken.git("show", "HEAD:calc.py")
    assert clean(broken)


async def test_a_prompt_step_asks_main_and_its_check_judges(world: Path) -> None:
    repo = make(world)
    models = repo.script("""
rules:
  - when: { role: main, step: implement }
    turns:
      - call: write_file
        with: { path: half.py, content: "def half(a):\\n    return a / 2\\n" }
      - done: { summary: added half, outputs: { risk: low } }
""")
    report = await repo.run(
        """
inputs: { change: { type: string } }
steps:
  - id: implement
    prompt: "Add half(): ${{ inputs.change }}"
    check: test -f half.py
    output: { risk: string }
  - id: after
    if: steps.implement.outputs.risk == "low"
    run: "true"
""",
        models=models,
        inputs={"change": "please"},
    )
    assert report.exit_code == 0, report
    assert report.steps[0].verified
    assert report.steps[0].rung is Rung.MAIN
    assert report.steps[0].outputs == {"risk": "low"}
    assert report.steps[1].status == "succeeded"


async def test_main_delegates_declared_steps_in_a_batch(world: Path) -> None:
    repo = make(world)
    models = repo.script("""
rules:
  - when: { role: main, step: implement }
    turns:
      - call: delegate
        with: { tasks: [{ step: test }, { agent: reviewer, task: look at calc.py }] }
      - done: delegated
  - when: { role: cheap }
    done: { summary: looks fine, outputs: { verdict: approve, findings: none } }
""")
    report = await repo.run(
        f"""
steps:
  - id: implement
    prompt: do it
  - id: test
    run: {UNITTEST}
""",
        models=models,
    )
    assert report.exit_code == 0, report
    ids = [step.id for step in report.steps]
    assert "implement/test" in ids or "implement" in ids


async def test_a_mend_that_leads_back_to_head_leaves_nothing_to_commit(world: Path) -> None:
    repo = make(world)
    repo.write("calc.py", BROKEN)
    models = repo.script(f"""
rules:
  - turns:
      - {GOOD}
      - done: mended
""")
    report = await repo.run(WORKFLOW, models=models)
    assert repo.read("calc.py") == CALC
    assert report.exit_code == 0
    assert report.uncommitted == ()
