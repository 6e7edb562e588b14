"""Small questions that the rungs ask of a run: who answers, what changed, what is a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.plan import MAIN

if TYPE_CHECKING:
    from pathlib import Path

    from runner.engine.state import Run
    from runner.plan import AgentSpec, Fix

FOULS = ("left its scope", "tampered with its judge")
"""How the reason begins when an attempt did what no passing command makes good."""


async def changed_paths(run: Run, before: str, after: str) -> set[str]:
    """Return the paths that differ between two snapshots."""
    if run.ports.tree is None or before == after:
        return set()
    return {change.path for change in await run.ports.tree.changes(before, after)}


def agent_of(run: Run, fix: Fix) -> AgentSpec:
    """Return the definition that a fix names; the loader has checked that there is one."""
    return run.ports.agents[fix.agent]


def role_of(run: Run, fix: Fix | None) -> str:
    """Return the model role of a fix's subagent."""
    if fix is None:
        return MAIN
    return fix.model or agent_of(run, fix).model


def who(run: Run, fix: Fix | None, role: str) -> tuple[str, str]:
    """Return the model id and the agent's name of an attempt."""
    name = MAIN if role == MAIN or fix is None else fix.agent
    return run.ports.choices[role].id, name


def is_file(root: Path, path: str) -> bool:
    """Tell whether output that names *path* names a file of the tree."""
    try:
        return (root / path).is_file()
    except (OSError, ValueError):
        return False
