"""Testing one's own workflow with scripted models: run it with pytest, it needs no key."""

from pathlib import Path

import pytest

from runner import Rung, Status, run

WORKFLOW = """
name: mine
steps:
  - id: check
    run: grep -q good state.txt
    fix: { agent: fixer, attempts: 1, write: [state.txt] }
    escalate: false
"""
MENDS = """
rules:
  - turns:
      - { call: edit_file, with: { path: state.txt, old_text: bad, new_text: good } }
      - done: It is mended.
"""
CLAIMS = """
rules:
  - done: It is mended, believe me.
"""


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [(MENDS, Status.SUCCEEDED, "good\n"), (CLAIMS, Status.FAILED, "bad\n")],
)
async def test_a_mend_counts_only_when_the_check_passes(
    answer: str, status: Status, text: str, tmp_path: Path
) -> None:
    """The second model only claims; its step fails, and the tree is as it was."""
    (tmp_path / "workflow.yaml").write_text(WORKFLOW)
    (tmp_path / "cheap.yaml").write_text(answer)
    (tmp_path / "state.txt").write_text("bad\n")
    models = {"cheap": f"script:{tmp_path}/cheap.yaml"}
    report = await run(tmp_path / "workflow.yaml", models=models, cwd=tmp_path)
    (step,) = report.steps
    assert (step.status, (tmp_path / "state.txt").read_text()) == (status, text)
    assert Rung.SUBAGENT in {attempt.rung for attempt in step.attempts}
