"""A run that shows everything a trace can: a retry, a mend, an escalation, a failed step.

It is the real command in a process of its own, on a real repository, asking a provider on loopback
for models that everybody's price table knows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from provider import Answer, Call, Reply, Tokens
from scratch import make

from runner.journal import Journal
from runner.telemetry.reading import spans_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from provider import Ask
    from scratch import Scratch

    from runner.journal import Record
    from runner.telemetry.nouns import Span

MAIN, CHEAP = "claude-opus-4-5", "claude-haiku-4-5"
MODELS = (
    *("--model", f"main=anthropic:{MAIN}"),
    *("--model", f"cheap=anthropic:{CHEAP}"),
    *("--policy", "ladder"),
)
LADDER = """\
name: ladder
steps:
  - id: shaky
    run: test -e ../tried || { touch ../tried; exit 1; }
    retry: { attempts: 1 }
  - id: lint
    run: grep -q tidy lint.txt
    fix: { agent: fixer, attempts: 1, write: [lint.txt] }
    needs: [shaky]
  - id: rule
    run: grep -q round rule.txt
    fix: { agent: fixer, attempts: 1, write: [rule.txt] }
    needs: [lint]
  - id: hopeless
    run: grep -q found lost.txt
    fix: { agent: fixer, attempts: 1, write: [lost.txt] }
    escalate: { max: 1 }
    needs: [rule]
  - id: after
    run: "true"
    needs: [hopeless]
"""
TOKENS = {
    CHEAP: Tokens(input=2_000, cache_read=300, cache_write=700, output=120),
    MAIN: Tokens(input=12_000, cache_read=9_000, cache_write=2_000, output=450),
}


class Players:
    """Mends `lint` on the cheap model and `rule` on main; nobody can do anything for `hopeless`."""

    def __call__(self, ask: Ask) -> Reply:
        return Answer(calls=(self._call(ask),), tokens=TOKENS[ask.model])

    def _call(self, ask: Ask) -> Call:
        said = [json.dumps(message) for message in ask.body["messages"]]
        asked = "".join(said).rpartition("grep -q ")[2]
        edited = "edit_file" in "".join(said[-2:-1])  # what this model did last
        if asked.startswith("tidy"):
            return _done() if edited else _edit("lint.txt", "messy", "tidy")
        if asked.startswith("round") and ask.model == MAIN:
            return _done() if edited else _edit("rule.txt", "cut", "round")
        return Call("cannot", {"reason": "it is not for me to say"})


def _edit(path: str, old: str, new: str) -> Call:
    return Call("edit_file", {"path": path, "old_text": old, "new_text": new})


def _done() -> Call:
    return Call("done", {"summary": "mended"})


def repository(world: Path, workflow: str = LADDER) -> Scratch:
    """Make the repository with the workflow in it."""
    repo = make(world)
    for name, text in {"lint": "messy", "rule": "cut", "lost": "nothing"}.items():
        repo.write(f"{name}.txt", f"{text}\n")
    repo.write("workflow.yaml", workflow)
    repo.commit_all("the work")
    return repo


def environment(repo: Scratch, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command about the repository."""
    return {**os.environ, "SUBRUNNER_STATE_DIR": str(repo.root.parent / "state"), **more}


def command(
    repo: Scratch, *args: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the real command in the repository, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "runner", *args],
        cwd=repo.root,
        env=environment(repo, env or {}),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@dataclass(frozen=True)
class Told:
    """What the journal says of the newest run."""

    run_id: str
    records: list[Record]
    spans: list[Span]

    def named(self, name: str) -> list[Span]:
        """Return the spans of a name, in order of their beginning."""
        return sorted((s for s in self.spans if s.name == name), key=lambda span: span.start)


def told(repo: Scratch) -> Told:
    """Fold the newest run's journal."""
    (state,) = (repo.root.parent / "state").rglob("journal.sqlite3")
    with Journal.open(state.parent, create=False) as journal:
        run_id = journal.find()
        records = list(journal.records(run_id))
        happened = [(record.event, record.at) for record in records]
        spans, _ = spans_of(happened, alive=journal.alive(run_id))
    return Told(run_id, records, spans)
