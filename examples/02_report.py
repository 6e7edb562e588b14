"""A run gives a report: what each step came to, at which rung, and what it cost."""

import tempfile
from pathlib import Path

from runner import RunFailed, run_sync

WORKFLOW = """
name: checks
steps:
  - id: good
    run: echo fine
  - id: bad
    needs: []
    run: test -e missing.txt
  - id: after
    needs: [bad]
    run: echo never
"""

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "workflow.yaml")
    file.write_text(WORKFLOW)
    report = run_sync(file, cwd=folder)

for step in report.steps:
    print(step.id, step.status, step.rung)
print("exit code", report.exit_code, "cost", report.cost_usd)
try:
    report.raise_for_status()
except RunFailed:
    print("failed")

# Prints:
# good succeeded command
# bad failed command
# after blocked None
# exit code 1 cost 0
# failed
