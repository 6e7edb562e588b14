"""The cheap model gives up, the main agent mends; a sink hears every event of it."""

import tempfile
from pathlib import Path

from runner import Options, run_sync
from runner.events import AttemptFinished, Decided, Event

WORKFLOW = """
name: ladder
steps:
  - id: sum
    run: test "$(cat sum.txt)" = 4
    fix: fixer
"""
CHEAP = """
rules:
  - cannot: { reason: I cannot tell what the sum should be. }
"""
MAIN = """
rules:
  - turns:
      - call: edit_file
        with: { path: sum.txt, old_text: "5", new_text: "4" }
      - done: Two and two are four.
"""


def listen(event: Event) -> None:
    """Print what was tried and what was decided."""
    if isinstance(event, AttemptFinished):
        print(event.attempt.rung, event.attempt.verdict)
    elif isinstance(event, Decided):
        print("->", event.decision)


with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    for file, text in {"workflow.yaml": WORKFLOW, "cheap.yaml": CHEAP, "main.yaml": MAIN}.items():
        (folder / file).write_text(text)
    (folder / "sum.txt").write_text("5\n")
    models = {role: f"script:{folder}/{role}.yaml" for role in ("cheap", "main")}
    options = Options(allow_uncommitted=True)
    report = run_sync(
        folder / "workflow.yaml", models=models, cwd=folder, options=options, sinks=[listen]
    )
print("exit code", report.exit_code)

# Prints:
# command hard
# -> AskSubagent
# subagent hard
# -> AskMain
# main passed
# exit code 0
