"""Runs workflows by plain commands first, cheap subagents next, and one main agent on hard failure.

load(file)  ->  Workflow            read and checked, nothing run
run(file)   ->  Report              in a running event loop
run_sync(file)                      anywhere else
resume()             ->  Report     goes on with a run that was cut off; `resume_sync` likewise
report.raise_for_status()           when a failing run should be an exception
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runner.api import load, resume, resume_sync, run, run_sync
    from runner.errors import ReplayError, RunFailed, RunnerError, UsageError, WorkflowError
    from runner.outcome import Attempt, Rung, Status, Verdict
    from runner.plan import Options, ResumeOptions, Workflow
    from runner.report import Report, StepReport

__all__ = [
    "Attempt",
    "Options",
    "ReplayError",
    "Report",
    "ResumeOptions",
    "RunFailed",
    "Rung",
    "RunnerError",
    "Status",
    "StepReport",
    "UsageError",
    "Verdict",
    "Workflow",
    "WorkflowError",
    "load",
    "resume",
    "resume_sync",
    "run",
    "run_sync",
]

_HOMES = {
    "api": ("load", "resume", "resume_sync", "run", "run_sync"),
    "errors": ("ReplayError", "RunFailed", "RunnerError", "UsageError", "WorkflowError"),
    "outcome": ("Attempt", "Rung", "Status", "Verdict"),
    "plan": ("Options", "ResumeOptions", "Workflow"),
    "report": ("Report", "StepReport"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `runner --help` pays for none of them."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'runner' has no attribute {name!r}")
    return getattr(import_module(f"runner.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
