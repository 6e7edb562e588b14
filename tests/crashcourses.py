"""The workflows whose runs are killed at every point, each in a repository of its own."""

from __future__ import annotations

import json
import re
import subprocess
from dataclasses import dataclass, field
from decimal import Decimal
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from provider import Answer, Call, Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from provider import Ask, Reply

MAIN, CHEAP = "claude-opus-5-5", "claude-haiku-5-5"
MODELS = (f"--model=main=anthropic:{MAIN}", f"--model=cheap=anthropic:{CHEAP}", "--policy=ladder")

NOTE = """\
#!/bin/sh
# Says that it was here, outside of the tree; kills the run where a test asks for that.
here=$(dirname "$(readlink -f "$0")")
echo "$1" >> "$here/ledger"
[ -e "$here/crash" ] || exit 0
read -r word signals < "$here/crash"
[ "$word" = "$1" ] || exit 0
rm "$here/crash"
for signal in ${signals:-KILL}; do
    kill -s "$signal" "$(cat "$here/pid")"
    sleep 0.3
done
"""
CHECK = """\
#!/bin/sh
../note $1+
if ! grep -qx whole parts/$1.txt; then
    echo "parts/$1.txt:1: error: part $1 is not whole"
    ../note $1-
    exit 1
fi
../note $1-
"""


def git(where: Path, *argv: str) -> None:
    """Run the user's own git in the repository."""
    subprocess.run(
        ["git", *argv],
        cwd=where / "repo",
        check=True,
        capture_output=True,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(where / "home")},
    )


@dataclass(frozen=True)
class Course:
    """A workflow, what is there before it runs, and who answers."""

    name: str
    workflow: str
    files: dict[str, str] = field(default_factory=dict[str, str])
    options: tuple[str, ...] = ()
    code: int = 0
    budget: Decimal = Decimal(1)
    mains: frozenset[str] = frozenset({MAIN})
    remote: bool = False
    hook: str = ""
    """Body of the pre-commit hook."""
    moved: bool = False
    """Whether somebody else has pushed meanwhile."""

    def script(self, ask: Ask) -> Reply:
        """Answer a request."""
        return script(ask)

    def lay_out(self, where: Path) -> None:
        """Make repository, remote, hooks and workflow."""
        (where / "home").mkdir()
        (where / "home" / ".gitconfig").write_text(
            "[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"
        )
        (where / "note").write_text(NOTE)
        (where / "note").chmod(0o755)
        (where / "workflow.yaml").write_text(dedent(self.workflow))
        (where / "repo").mkdir()
        git(where, "init", "-q")
        for name, text in {"check.sh": CHECK, **self.files}.items():
            file = where / "repo" / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        git(where, "add", "-A")
        git(where, "commit", "-q", "-m", "start")
        if self.remote:
            self._lay_out_remote(where)
        if self.hook:
            hook = where / "repo" / ".git" / "hooks" / "pre-commit"
            hook.write_text(f"#!/bin/sh\n{self.hook}\n")
            hook.chmod(0o755)

    def _lay_out_remote(self, where: Path) -> None:
        git(where, "init", "-q", "--bare", "../remote.git")
        git(where, "-C", "../remote.git", "config", "core.logAllRefUpdates", "always")
        git(where, "remote", "add", "origin", str(where / "remote.git"))
        git(where, "push", "-q", "-u", "origin", "HEAD")
        if self.moved:
            git(where, "clone", "-q", "../remote.git", "../other")
            (where / "other" / "theirs.txt").write_text("theirs\n")
            git(where, "-C", "../other", "add", "-A")
            git(where, "-C", "../other", "commit", "-q", "-m", "theirs")
            git(where, "-C", "../other", "push", "-q")
        for name in ("pre-receive", "post-receive"):
            hook = where / "remote.git" / "hooks" / name
            hook.write_text(f"#!/bin/sh\n{where}/note {name}\n")
            hook.chmod(0o755)


def script(ask: Ask) -> Reply:
    """Answer by what the request says alone: the same to the same, whoever asks it when."""
    calls: list[tuple[str, Any]] = []
    answers = task = ""
    for message in ask.body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for part in parts:
            if part["type"] == "tool_use":
                if answers:
                    calls, answers = [], ""
                calls.append((part["name"], part["input"]))
            elif part["type"] == "tool_result":
                answers += json.dumps(part["content"])
            elif message["role"] == "user":
                calls, answers, task = [], "", part["text"]
    said = re.findall(r"part (\w+) is not whole", task)
    return Answer(
        calls=_calls(calls, answers, said[-1] if said else "plan", ask.model),
        tokens=Tokens(output=100 + len(answers) % 90),
    )


def _calls(calls: list[tuple[str, Any]], answers: str, part: str, model: str) -> tuple[Call, ...]:
    names = {name for name, _ in calls}
    if "interrupted: the runner" in answers:
        return tuple(Call(name, what) for name, what in calls if name not in {"read_file", "list"})
    path = f"parts/{part}.txt"
    if not names:
        return (Call("read_file", {"path": path}), Call("list", {"path": "parts"}))
    if part == "hard" and model == CHEAP:
        return (Call("cannot", {"reason": "nobody told me what it is for"}),)
    if names & {"read_file", "list"} and names.isdisjoint({"edit_file", "check"}):
        edit = Call("edit_file", {"path": path, "old_text": "broken", "new_text": "whole"})
        return (edit,) if part == "plan" else (edit, Call("check"))
    return (Call("done", {"summary": f"{part} is whole"}),)


def parts(*names: str) -> dict[str, str]:
    """Return files that are to be mended."""
    return {f"parts/{name}.txt": "broken\n" for name in names}


SHIP = Course(
    "ship",
    """\
    name: ship
    steps:
      - id: format
        run: ../note format+ && grep -q neat log.txt && ../note format-
        autofix: ../note autofix+ && echo neat >> log.txt && ../note autofix-
      - id: test
        run: ../note test+ && ../note test-
      - id: commit
        commit: { message: "fix: neat" }
      - id: push
        push: { branch: out }
      - id: last
        run: ../note last+ && ../note last-
    """,
    files={"log.txt": "first\n"},
    remote=True,
)
MEND = Course(
    "mend",
    """\
    name: mend
    budget: { usd: 1, time: 10m }
    steps:
      - id: easy
        run: sh check.sh easy
        fix: { agent: fixer, attempts: 1 }
      - id: hard
        run: sh check.sh hard
        fix: { agent: fixer, attempts: 1 }
        escalate: true
      - id: commit
        commit: { message: auto }
    """,
    files=parts("easy", "hard"),
    options=MODELS,
)
PROMPT = Course(
    "prompt",
    """\
    name: prompt
    budget: { usd: 1, time: 10m }
    steps:
      - id: plan
        prompt: Make the part called plan whole.
        check: sh check.sh plan
      - id: left
        needs: [plan]
        run: sh check.sh left
        sources: [parts/left.txt]
        fix: { agent: fixer, attempts: 1 }
      - id: right
        needs: [plan]
        run: sh check.sh right
        sources: [parts/right.txt]
        fix: { agent: fixer, attempts: 1 }
      - id: commit
        needs: [left, right]
        commit: { message: auto }
    """,
    files=parts("plan", "left", "right"),
    options=(*MODELS, "-j", "2"),
)
HOOKS = Course(
    "hooks",
    """\
    name: hooks
    steps:
      - id: make
        run: ../note make+; test -e made.txt || echo made > made.txt; ../note make-
      - id: commit
        commit: { message: "feat: made", files: all }
      - id: push
        push: { branch: main }
    """,
    remote=True,
    moved=True,
    hook="../note hook+; sed -i s/^made$/neat/ made.txt; git add made.txt; ../note hook-",
)
COURSES = {course.name: course for course in (SHIP, MEND, PROMPT, HOOKS)}
