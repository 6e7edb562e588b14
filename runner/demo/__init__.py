"""The demonstration: a scratch repository with defects, scripted models, a check of the end.

    scene_for(seed) -> make(scene) -> write(scripts) -> run `ship` -> problems(stage, report)

The scene is pure and lives in `project`; `scratch` is what touches the disk and git.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.demo import models, scratch
from runner.demo.project import scene_for
from runner.frozen import frozen
from runner.outcome import Rung, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.demo.project import Scene
    from runner.demo.scratch import Scratch
    from runner.report import Report

WORKFLOW = "ship"


@frozen
class Stage:
    """Everything that is ready before the run."""

    scene: Scene
    scratch: Scratch
    models: Mapping[str, str]
    state: Path


def prepare(directory: Path | None, seed: int, *, pace: float = 0.0) -> Stage:
    """Make the scratch repository, its remote and the models' scripts.

    Raises:
        UsageError: The directory is not empty, or git is missing.
    """
    scene = scene_for(seed)
    place = scratch.make(scene, directory)
    ids = models.write(scene, place.base / "models", pace=pace)
    return Stage(scene, place, ids, place.base / "state")


def opening(stage: Stage) -> str:
    """Say what was made and what is wrong with it."""
    scene = stage.scene
    return "\n".join(
        [
            f"A scratch repository: {stage.scratch.repository}",
            f"  {scene.project.subject}",
            f"  about to be shipped: {scene.project.change}",
            "What is wrong in it:",
            f"  format  {', '.join(scene.unformatted)}: for the formatter",
            f"  lint    {scene.lint.path}: {scene.lint.rule}, which no tool mends",
            f"  test    {scene.test.path}: the cheap model will give up on it",
            "The models are scripted: nothing is paid. Commands, git and files are real.",
            "",
        ]
    )


def problems(stage: Stage, report: Report) -> tuple[str, ...]:
    """Compare what the report says with what git and the remote say themselves."""
    found: list[str] = []
    settled = {step.rung for step in report.steps}
    found.extend(f"no step was settled at rung {rung}" for rung in Rung if rung not in settled)
    tried = [(a.rung, a.verdict) for step in report.steps for a in step.attempts]
    if (Rung.SUBAGENT, Verdict.HARD) not in tried:
        found.append("no subagent gave up")
    commit = scratch.head(stage.scratch)
    if commit != report.git.after or commit == report.git.before:
        found.append(f"the report's commit {report.git.after!r} is not the repository's {commit}")
    if not shipped_ref(stage.scratch, commit):
        found.append(f"the remote has no branch of this run at {commit}")
    return tuple(found)


def shipped_ref(place: Scratch, commit: str) -> str:
    """Return the remote's branch for a run that stands at the commit; empty without one."""
    refs = scratch.remote_refs(place).items()
    return next((r for r, at in refs if at == commit and r.startswith("refs/heads/runner/")), "")


def closing(stage: Stage, report: Report, found: tuple[str, ...]) -> str:
    """Say whether it worked, where to look, and what to type next."""
    place = stage.scratch
    if found:
        lines = ["The demo did not end as it should:", *(f"  {line}" for line in found)]
    else:
        commit = scratch.head(place)
        ref = shipped_ref(place, commit)
        lines = [f"Shipped: {ref}", f"  on the remote is the local commit {commit[:12]}."]
    look = f"-C {place.repository} --state-dir {stage.state}"
    return "\n".join(
        [
            "",
            *lines,
            "What was shipped:",
            f"  git -C {place.repository} show",
            "Why each rung was taken:",
            f"  runner explain {look}",
            "",
            "In your own repository:",
            "  runner init    looks at it and writes a workflow",
            "  runner exec    runs it: no key and no token while every command passes",
            "To let models mend what fails, set ANTHROPIC_API_KEY or OPENAI_API_KEY first.",
        ]
    )
