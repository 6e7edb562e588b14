"""Renders a proposal as a workflow file. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from runner.init.proposal import AGENTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.init.proposal import Check, Proposal

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
