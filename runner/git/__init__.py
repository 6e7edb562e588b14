"""Commit and push on a user's repository without running anything that its configuration names."""

from __future__ import annotations

from runner.git.facts import (
    HOOK_NAMES,
    CommitFact,
    Conflict,
    Dirty,
    Files,
    Guard,
    Hook,
    HookName,
    HookRun,
    NotFastForward,
    PushAuth,
    Pushed,
    PushPlan,
    Rebased,
    RepositoryFacts,
    Staged,
    StartState,
    TakenUp,
)
from runner.git.repository import Repository

__all__ = [
    "HOOK_NAMES",
    "CommitFact",
    "Conflict",
    "Dirty",
    "Files",
    "Guard",
    "Hook",
    "HookName",
    "HookRun",
    "NotFastForward",
    "PushAuth",
    "PushPlan",
    "Pushed",
    "Rebased",
    "Repository",
    "RepositoryFacts",
    "Staged",
    "StartState",
    "TakenUp",
]
