"""A command fails, a cheap subagent mends what it names, and the command judges the mend."""

import tempfile
from pathlib import Path

from runner import run_sync

WORKFLOW = """
name: mend
steps:
  - id: greeting
    run: grep -n "hello world" greeting.txt
    fix: { agent: fixer, write: [greeting.txt] }
"""

# What the cheap model answers, in place of a real one: see docs/scripted-models.md.
CHEAP = """
rules:
  - when: { step: greeting }
    turns:
      - call: edit_file
        with: { path: greeting.txt, old_text: helo, new_text: hello }
      - done: The greeting was misspelt.
"""

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    (folder / "cheap.yaml").write_text(CHEAP)
    (folder / "greeting.txt").write_text("helo world\n")
    report = run_sync(
        folder / "workflow.yaml", models={"cheap": f"script:{folder}/cheap.yaml"}, cwd=folder
    )
    print((folder / "greeting.txt").read_text(), end="")

(step,) = report.steps
for attempt in step.attempts:
    print(attempt.rung, attempt.verdict, attempt.files)
print("exit code", report.exit_code, "for nothing was committed:", report.uncommitted)

# Prints:
# hello world
# command hard ()
# subagent passed ('greeting.txt',)
# exit code 7 for nothing was committed: ('greeting.txt',)
