"""Runs on real repositories: the order of steps, rung command, and what a run leaves behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scratch import PYTHON, UNITTEST, make, with_remote

from runner import Rung, Status, UsageError, Verdict
from runner.errors import NotGranted
from runner.events import CommandFinished, StepStarted
from runner.report import to_json

if TYPE_CHECKING:
    from runner import Report


def status(report: Report) -> dict[str, str]:
    return {step.id: str(step.status) for step in report.steps}


async def test_a_passing_run_costs_nothing(world: Path) -> None:
    repo = make(world)
    report = await repo.run(f"""
        steps:
          - id: test
            run: {UNITTEST}
        """)
    assert report.exit_code == 0
    assert status(report) == {"test": "succeeded"}
    assert report.steps[0].rung is Rung.COMMAND
    assert to_json(report)["cost_usd"] == 0
    assert to_json(report)["models"] == {}
    report.raise_for_status()


async def test_a_failing_step_without_fix_says_that_no_model_was_asked(world: Path) -> None:
    repo = make(world)
    report = await repo.run("""
        steps:
          - id: test
            run: echo broken >&2; exit 3
          - id: after
            run: "true"
        """)
    assert report.exit_code == 1
    assert status(report) == {"test": "failed", "after": "blocked"}
    assert report.steps[0].reason == "exit 3"
    assert "No model was asked: this step has no fix" in report.steps[0].hint
    assert "runner exec --fix test" in report.steps[0].hint
    assert "broken" in report.steps[0].tail


async def test_needs_when_if_and_outputs(world: Path) -> None:
    repo = make(world)
    report = await repo.run(
        """
        inputs:
          who: { type: string, default: nobody }
        steps:
          - id: one
            run: echo '{"n":"7"}' > "$SUBRUNNER_OUTPUT"
            outputs: { n: string }
          - id: skipped
            if: steps.one.outputs.n == "8"
            run: "false"
          - id: told
            needs: [one, skipped]
            env: { N: "${{ steps.one.outputs.n }}", WHO: "${{ inputs.who }}" }
            run: test "$N $WHO" = "7 ada"
          - id: broken
            needs: []
            run: "false"
          - id: cleanup
            needs: [broken]
            when: failure
            run: "true"
          - id: always
            needs: [broken]
            when: always
            run: "true"
          - id: lenient
            needs: []
            allow_failure: true
            run: "false"
          - id: anyway
            needs: [lenient]
            run: "true"
        """,
        inputs={"who": "ada"},
    )
    assert status(report) == {
        "one": "succeeded",
        "skipped": "skipped",
        "told": "succeeded",
        "broken": "failed",
        "cleanup": "succeeded",
        "always": "succeeded",
        "lenient": "failed",
        "anyway": "succeeded",
    }
    assert report.exit_code == 1


async def test_else_stop_ends_the_run_as_succeeded(world: Path) -> None:
    repo = make(world)
    workflow = """
        steps:
          - id: gate
            if: git.dirty and git.branch == "main" and git.changed("*.py")
            else: stop
            run: "true"
          - id: next
            run: "true"
        """
    clean = await repo.run(workflow)
    assert clean.exit_code == 0
    assert status(clean) == {"gate": "skipped", "next": "skipped"}
    repo.write("calc.py", "changed = True\n")
    dirty = await repo.run(workflow)
    assert status(dirty) == {"gate": "succeeded", "next": "succeeded"}


async def test_a_condition_sees_the_variables_that_the_step_declares(world: Path) -> None:
    repo = make(world)
    report = await repo.run("""
        inputs: { stage: { default: prod } }
        defaults: { env: { WHERE: here } }
        steps:
          - id: "on"
            env: { STAGE: "${{ inputs.stage }}" }
            if: env.STAGE == "prod" and env.WHERE == "here"
            run: "true"
          - id: "off"
            env: { STAGE: "${{ inputs.stage }}" }
            if: env.STAGE != "prod"
            run: "true"
        """)
    assert status(report) == {"on": "succeeded", "off": "skipped"}


async def test_fail_fast_starts_nothing_new(world: Path) -> None:
    repo = make(world)
    report = await repo.run(
        """
        steps:
          - id: a
            run: exit 1
          - id: b
            needs: []
            run: sleep 0.2
          - id: c
            needs: [b]
            run: "true"
        """,
        fail_fast=True,
        jobs=1,
    )
    assert report.exit_code == 1
    assert status(report)["c"] != "succeeded"


async def test_independent_steps_run_at_once_up_to_jobs(world: Path) -> None:
    repo = make(world)
    steps = "".join(f"\n          - {{id: s{n}, needs: [], run: sleep 0.3}}" for n in range(4))
    quick = await repo.run(f"""
        steps:{steps}
        """, jobs=4)  # fmt: skip
    slow = await repo.run(f"""
        steps:{steps}
        """, jobs=1)  # fmt: skip
    assert slow.seconds > 1.2 > 1.0 > quick.seconds


async def test_a_flaky_command_is_reported_as_flaky(world: Path) -> None:
    repo = make(world)
    mark = world / "mark"
    report = await repo.run(f"""
        steps:
          - id: test
            run: test -e {mark} || {{ touch {mark}; exit 1; }}
            retry: {{ attempts: 2 }}
        """)
    assert report.exit_code == 0
    assert report.steps[0].attempts[-1].verdict is Verdict.FLAKY
    assert report.steps[0].reason == "flaky"


async def test_autofix_is_rung_command_and_uncommitted_changes_are_no_green(world: Path) -> None:
    repo = make(world)
    repo.write("calc.py", repo.read("calc.py") + "x=1\n")
    repo.commit_all()
    workflow = """
        steps:
          - id: format
            run: "! grep -q x=1 calc.py"
            autofix: sed -i 's/x=1/x = 1/' calc.py
            fix: true
        """
    report = await repo.run(workflow)
    assert report.exit_code == 7
    assert status(report) == {"format": "succeeded"}
    assert report.steps[0].rung is Rung.COMMAND
    assert "x = 1" in repo.read("calc.py")
    repo.git("checkout", "-q", "calc.py")
    allowed = await repo.run(workflow, allow_uncommitted=True)
    assert allowed.exit_code == 0


async def test_a_timeout_fails_the_step(world: Path) -> None:
    repo = make(world)
    report = await repo.run("""
        steps:
          - id: slow
            run: sleep 30
            timeout: 1s
        """)
    assert report.exit_code == 1
    assert report.steps[0].reason.startswith("timed out")
    assert report.seconds < 10


async def test_the_time_budget_ends_the_run_with_3(world: Path) -> None:
    repo = make(world)
    report = await repo.run("""
        budget: { time: 1s }
        steps:
          - id: slow
            run: sleep 30
          - id: next
            run: "true"
        """)
    assert report.exit_code == 3
    assert status(report) == {"slow": "cancelled", "next": "cancelled"}


async def test_selected_steps_bring_what_they_need(world: Path) -> None:
    repo = make(world)
    workflow = """
        steps:
          - { id: a, run: "true" }
          - { id: b, run: "true" }
          - { id: c, needs: [], run: "true" }
        """
    report = await repo.run(workflow, steps=("b",))
    assert set(status(report)) == {"a", "b"}
    with pytest.raises(UsageError, match="no such step"):
        await repo.run(workflow, steps=("nope",))


async def test_uses_runs_another_workflow_as_one_step(world: Path) -> None:
    repo = make(world)
    (world / "inner.yaml").write_text(
        "name: inner\ninputs: {word: {type: string}}\n"
        'steps:\n  - id: say\n    env: {W: "${{ inputs.word }}"}\n    run: test "$W" = hello\n'
    )
    report = await repo.run("""
        steps:
          - id: inner
            uses: ./inner.yaml
            with: { word: hello }
          - id: after
            run: "true"
        """)
    assert report.exit_code == 0, report
    assert status(report)["after"] == "succeeded"
    assert "inner/say" in [event.step for event in repo.of(StepStarted)]


async def test_a_secret_must_be_granted_and_reaches_only_its_step(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make(world)
    workflow = """
        secrets: [CANARY_WORD]
        steps:
          - id: with
            run: test "$CANARY_WORD" = chirp-chirp
            secrets: [CANARY_WORD]
          - id: without
            run: test -z "${CANARY_WORD:-}"
        """
    monkeypatch.setenv("CANARY_WORD", "chirp-chirp")
    with pytest.raises(NotGranted, match="--secret CANARY_WORD"):
        await repo.run(workflow)
    report = await repo.run(workflow, secrets=("CANARY_WORD",))
    assert report.exit_code == 0


async def test_a_directory_without_git_runs_and_refuses_to_commit(world: Path) -> None:
    repo = make(world)
    (repo.root / ".git").rename(world / "was-git")
    report = await repo.run("""
        steps:
          - id: test
            run: "true"
          - id: commit
            commit: { message: auto }
        """)
    assert status(report) == {"test": "succeeded", "commit": "failed"}
    assert "no git repository" in report.steps[1].reason
    assert report.exit_code == 1


async def test_commit_takes_exactly_what_passed_and_push_reads_it_back(world: Path) -> None:
    repo = make(world)
    remote = with_remote(repo)
    repo.write("calc.py", repo.read("calc.py") + "\n\ndef half(a):\n    return a / 2\n")
    repo.write("stray.txt", "not asked for\n")
    report = await repo.run(f"""
        name: ship
        steps:
          - id: test
            run: {UNITTEST}
          - id: commit
            commit: {{ message: auto }}
          - id: push
            push: {{ remote: origin }}
        """)
    assert report.exit_code == 0, report
    head = repo.git("rev-parse", "HEAD")
    branch = f"runner/ship-{report.run_id}"
    assert repo.git(f"--git-dir={remote}", "rev-parse", f"refs/heads/{branch}") == head
    body = repo.git("log", "-1", "--format=%B")
    assert f"Runner-Run: {report.run_id}" in body
    assert "Runner-Verified: test" in body
    assert repo.git("status", "--porcelain") == "?? stray.txt"
    # Left out of the commit, so the test was also run on a clean checkout of what is committed.
    assert "clean" in [event.purpose for event in repo.of(CommandFinished)]
    assert to_json(report)["git"]["remote_ref"] == head


async def test_nothing_to_commit_is_skipped(world: Path) -> None:
    repo = make(world)
    with_remote(repo)
    report = await repo.run("""
        steps:
          - { id: test, run: "true" }
          - { id: commit, commit: { message: auto } }
          - { id: push, push: { remote: origin } }
        """)
    assert report.exit_code == 0
    assert status(report) == {"test": "succeeded", "commit": "skipped", "push": "skipped"}


async def test_a_check_that_went_stale_runs_again_before_the_commit(world: Path) -> None:
    repo = make(world)
    repo.write("calc.py", repo.read("calc.py") + "\nX = 1\n")
    report = await repo.run(f"""
        steps:
          - id: test
            run: {UNITTEST}
          - id: later
            run: echo 'raise SystemExit(1)' > calc.py
          - id: commit
            needs: [test, later]
            commit: {{ message: auto }}
        """)
    assert status(report)["commit"] == "failed"
    assert "check 'test' fails on the tree to commit" in report.steps[2].reason
    assert repo.git("log", "--format=%s") == "start"


async def test_a_file_left_out_that_a_check_needs_refuses_the_commit(world: Path) -> None:
    repo = make(world)
    repo.write("helper.py", "VALUE = 1\n")
    repo.write("calc.py", "from helper import VALUE\n" + repo.read("calc.py"))
    report = await repo.run(f"""
        steps:
          - id: test
            run: {UNITTEST}
          - id: commit
            commit: {{ message: auto }}
        """)
    assert status(report) == {"test": "succeeded", "commit": "failed"}
    assert "helper.py" in report.steps[1].hint
    taken = await repo.run(f"""
        steps:
          - id: test
            run: {UNITTEST}
          - id: commit
            commit: {{ message: auto, files: all }}
        """)
    assert taken.exit_code == 0, taken
    assert repo.git("status", "--porcelain") == ""


async def test_the_journal_keeps_the_whole_run(world: Path) -> None:
    repo = make(world)
    report = await repo.run("""
        steps:
          - { id: a, run: echo hello }
        """)
    log = Path(report.steps[0].log)
    assert log.read_text() == "hello\n"
    assert json.dumps(to_json(report))
    assert not list(repo.root.glob(".runner*"))


async def test_commands_get_a_clean_environment(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make(world)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-canary")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("INHERITED", "yes")
    report = await repo.run(f"""
        steps:
          - id: env
            env: {{ inherit: [INHERITED], OWN: mine }}
            run: |
              {PYTHON} - <<'X'
              import os
              assert "ANTHROPIC_API_KEY" not in os.environ
              assert os.environ["INHERITED"] == "yes"
              assert os.environ["OWN"] == "mine"
              assert os.environ["CI"] == "1"
              X
        """)
    assert report.exit_code == 0, report.steps[0].tail


async def test_several_runs_at_once_in_one_process(world: Path) -> None:
    import anyio

    reports: list[Report] = []

    async def one(name: str) -> None:
        place = world / name
        place.mkdir()
        reports.append(
            await make(place).run("""
            steps:
              - { id: a, run: sleep 0.2 }
            """)
        )

    async with anyio.create_task_group() as group:
        for name in ("x", "y", "z"):
            group.start_soon(one, name)
    assert [report.exit_code for report in reports] == [0, 0, 0]
    assert {step.status for report in reports for step in report.steps} == {Status.SUCCEEDED}
