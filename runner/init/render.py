"""Renders a proposal as a workflow file, and the job that runs it in a CI system. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Literal

from runner.init.proposal import AGENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.init.proposal import Check, Proposal

CI = Literal["github", "gitlab"]

HEAD = """\
# Written by `runner init`; it is yours to change. `runner check` says what is wrong with it,
# `runner plan` what a run would do, and `runner exec` runs it.
name: checks
budget: { usd: 1.00, time: 30m }          # ceilings; while every command passes, nothing is spent
"""

INPUTS = """\
inputs:
  ship: { type: boolean, default: false, description: Commit what passed and push it }
"""

EMPTY = """
  - id: test                              # nothing was found here: put your own command in
    run: echo "no checks yet"
"""

COMMIT = """
  - id: commit                            # with: runner exec -i ship=true
    if: inputs.ship
    needs: [{needs}]
    commit: {{ message: auto }}
"""

PUSH = """
  - id: push                              # to a branch of its own: runner/checks-<run id>
    if: inputs.ship
    push: {{ remote: {remote} }}
"""


def workflow(proposal: Proposal, *, git: bool, remote: str) -> str:
    """Render the workflow file; commit and push only where there is something to push to."""
    parts = [HEAD, INPUTS if git else "", "\nsteps:\n"]
    steps = [_step(check, first=at == 0) for at, check in enumerate(proposal.checks)]
    parts.append("\n".join(steps) if steps else EMPTY.lstrip("\n"))
    needs = ", ".join(check.id for check in proposal.checks) or "test"
    if git:
        parts.append(COMMIT.format(needs=needs))
    if git and remote:
        parts.append(PUSH.format(remote=remote))
    return "".join(parts)


def _step(check: Check, *, first: bool) -> str:
    return "\n".join(_lines(check, first=first)) + "\n"


def _lines(check: Check, *, first: bool) -> Iterator[str]:
    head = f"  - id: {check.id}"
    yield f"{head:<42}# {check.why}"
    if not first:
        yield "    needs: []"
    yield f"    run: {scalar(check.run)}"
    if check.autofix:
        yield f"    autofix: {scalar(check.autofix)}"
    if agent := AGENTS.get(check.role):
        yield f"    fix: {agent}"


def scalar(text: str) -> str:
    """Render a command as a YAML scalar: plain where that is safe, else in double quotes."""
    plain = re.fullmatch(r"[A-Za-z./][\w ./=,@+:-]*", text) and ": " not in text
    safe = plain and text[-1] not in ": " and not _TYPED.fullmatch(text)
    return text if safe else json.dumps(text, ensure_ascii=False)


_TYPED = re.compile(r"true|false|null|yes|no|on|off|y|n|\.[0-9.e+-]*|\.inf|\.nan", re.IGNORECASE)
"""What some YAML reader takes for something else than a text."""


GITHUB = """\
# Written by `runner init --ci github`. A secret ANTHROPIC_API_KEY (or OPENAI_API_KEY) is needed
# only where models are to mend what fails; without it, a failing check simply fails.
name: runner
on:
  push:
  pull_request:
permissions:
  contents: read
jobs:
  runner:
    runs-on: ubuntu-latest
    timeout-minutes: 45
    steps:
      - uses: actions/checkout@v4
        with: {{ persist-credentials: false }}
      - uses: actions/setup-python@v5
        with: {{ python-version: "3.13" }}
{setup}      - run: pipx install subagent-runner
      # Exit code 7: all passed, but only after mends that are not committed.
      # The first `exec` is the shell's: a cancelled job's signal then reaches the runner itself.
      - run: exec runner exec --report runner-report.json
        env:
          ANTHROPIC_API_KEY: ${{{{ secrets.ANTHROPIC_API_KEY }}}}
      - if: always()
        uses: actions/upload-artifact@v4
        with: {{ name: runner-report, path: runner-report.json, if-no-files-found: ignore }}
"""

GITLAB = """\
# Written by `runner init --ci gitlab`. A masked variable ANTHROPIC_API_KEY (or OPENAI_API_KEY) is
# needed only where models are to mend what fails; without it, a failing check simply fails.
runner:
  image: python:3.13
  timeout: 45m
  script:
{setup}    - pip install subagent-runner
    # Exit code 7: all passed, but only after mends that are not committed.
    - exec runner exec --report runner-report.json
  artifacts:
    when: always
    paths: [runner-report.json]
"""


def ci_job(system: CI, proposal: Proposal) -> str:
    """Render the CI job; its setup installs what the steps' languages usually need."""
    languages = {check.language for check in proposal.checks}
    lines = [line for language, line in SETUP.items() if language in languages]
    if system == "github":
        return GITHUB.format(setup="".join(f"      - run: {line}\n" for line in lines))
    return GITLAB.format(setup="".join(f"    - {line}\n" for line in lines))


SETUP = {
    "python": "pip install -e .              # and what your checks need",
    "node": "npm ci                        # or your package manager's own",
}
