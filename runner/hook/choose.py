"""Decides which workflow and which of its steps a hook runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.errors import RunnerError
from runner.plan import Commit, Push, Uses
from runner.prepare import find_and_load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from runner.plan import Step, Workflow

FILES = ("workflow.yaml", "workflow.yml", ".runner/workflow.yaml", ".runner/workflow.yml")
_FOLDERS = ("workflows", ".runner/workflows")


def places(root: Path) -> list[str]:
    """Return the directories in which a workflow would turn up, were one written."""
    return [str(root / one) for one in (".", ".runner", *_FOLDERS)]


def workflow_of(target: str | None, root: Path, seconds: float) -> Workflow | None:
    """Return the workflow with its time bounded; `None` where the repository has none.

    Raises:
        UsageError: It is not there although it was named, is one of several, or is wrong.
    """
    try:
        found = find_and_load(target, root, root)
    except RunnerError:
        if target is None and not any(True for _ in _workflows(root)):
            return None
        raise
    least = min(found.budget.seconds or seconds, seconds)
    return replace(found, budget=replace(found.budget, seconds=least))


def _workflows(root: Path) -> Iterator[Path]:
    yield from (root / one for one in FILES if (root / one).is_file())
    for folder in _FOLDERS:
        try:
            found = list((root / folder).iterdir())
        except OSError:
            continue
        yield from (path for path in found if path.suffix in {".yaml", ".yml"})


def chosen(workflow: Workflow, wanted: Sequence[str], *, with_commit: bool) -> tuple[str, ...]:
    """Return the steps to run: those before the first that commits or pushes, or all.

    Of these only the wanted ones, if any are named; what they need runs with them.
    """
    if with_commit:
        return tuple(wanted) or tuple(step.id for step in workflow.steps)
    early: list[str] = []
    for step in workflow.steps:
        if _ships(step):
            break
        early.append(step.id)
    steps = {step.id: step for step in workflow.steps}
    early = [one for one in early if _needed(one, steps) <= {*early}]
    return tuple(one for one in early if not wanted or one in wanted)


def _ships(step: Step) -> bool:
    if isinstance(step.kind, Uses):
        return any(map(_ships, step.kind.workflow.steps))
    return isinstance(step.kind, Commit | Push)


def _needed(step: str, steps: dict[str, Step]) -> set[str]:
    """Return a step and all that it needs, directly or not."""
    found, todo = set[str](), [step]
    while todo:
        one = todo.pop()
        if one not in found:
            found.add(one)
            todo.extend(steps[one].needs)
    return found
