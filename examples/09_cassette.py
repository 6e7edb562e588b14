"""Testing one's own workflow with what real models once answered, without network and key.

The cassette beside this file was made by `runner exec workflow.yaml --record 09_cassette` in a
folder as it is made below. Each request must be the recorded one, byte for byte, and the run must
take the same course. See docs/cassettes.md.
"""

import tempfile
from pathlib import Path

from runner import Options, ReplayError, run_sync

CASSETTE = Path(__file__).parent / "09_cassette"
WORKFLOW = """
name: mend
models: { main: "anthropic:claude-opus-5-5", cheap: "anthropic:claude-haiku-5-5" }
steps:
  - id: greeting
    run: grep -n "hello world" greeting.txt
    fix: { agent: fixer, write: [greeting.txt] }
"""


def replay(workflow: str) -> str:
    """Replay the cassette in a fresh folder; return what came of it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "workflow.yaml").write_text(workflow)
        (folder / "greeting.txt").write_text("helo world\n")
        options = Options(replay=CASSETTE)
        report = run_sync(folder / "workflow.yaml", cwd=folder, options=options)
        (step,) = report.steps
        text = (folder / "greeting.txt").read_text().strip()
        return f"{text}: rung {step.rung}, {report.cost_usd} USD when it was recorded"


print(replay(WORKFLOW))
try:
    # As if somebody had widened what the agent may write: the brief tells it so.
    replay(WORKFLOW.replace("[greeting.txt]", "['*.txt']"))
except ReplayError as error:
    print(error.diff)

# Prints:
# hello world: rung subagent, 0.000391 USD when it was recorded
# --- requests/greeting-cheap-1-001.json
# +++ this run
# @@ body.messages[0].content[0].text @@
#     |
#     | What you may change:
# -   | May write: greeting.txt
# +   | May write: *.txt
#     | Must not write either:
#     ¦  the workflow file;
