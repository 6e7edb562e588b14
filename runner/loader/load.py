"""Loads a workflow with all that it uses, and checks that the agents it names exist."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.loader.agents import agent_names, built_in_names, load_agents, own_names
from runner.loader.build import Built, Origin, build
from runner.loader.files import is_inside, read_file, shown
from runner.loader.find import built_in_workflow, find_workflow
from runner.loader.language import MAX_STEPS
from runner.plan import MAIN, Uses, Workflow
from runner.suggest import closest, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")
"""What a workflow's name, a part of branches' names, cannot hold."""
MAX_USES = 8
"""How deep workflows may use one another."""


def load_workflow(path: Path, *, root: Path | None = None) -> Workflow:
    """Return the workflow of a file.

    Args:
        path: The file.
        root: The repository. With it, files that the workflow uses must be inside, and agents
            that it names must exist.

    Raises:
        UsageError: The file cannot be read.
        WorkflowErrors: With every mistake found in it and in what it uses.
    """
    return parse_workflow(read_file(path, "workflow file"), file=path, root=root)


def parse_workflow(
    text: str | bytes, *, file: Path | None, name: str = "workflow.yaml", root: Path | None = None
) -> Workflow:
    """Return the workflow of a text.

    Args:
        text: What stands in the file.
        file: Where it was read from; `None` for a text of another origin, which can only use
            built-in workflows.
        name: What messages call it without a file.
        root: As for `load_workflow`.

    Raises:
        WorkflowErrors: With every mistake found in it and in what it uses.
        UsageError: An agent's file is wrong.
    """
    loading = _Loading(root, _checker(root))
    workflow = loading.parse(text, file, name, ())
    if root is not None:
        load_agents(root, workflow)
    return workflow


@dataclass(slots=True)
class _Loading:
    """One load: what was read already, so that a file used often is read once."""

    root: Path | None
    check: Callable[[Built], None]
    done: dict[tuple[Path, bool], Workflow | UsageError] = field(
        default_factory=dict[tuple[Path, bool], "Workflow | UsageError"]
    )
    """Failures too: files that use one another many times would else be read without end."""

    def parse(
        self,
        text: str | bytes,
        file: Path | None,
        name: str,
        chain: tuple[Path, ...],
        *,
        after_commit: bool = False,
    ) -> Workflow:
        resolved = (*chain, file.resolve()) if file is not None else chain

        def use(target: str, later: bool) -> Workflow:  # noqa: FBT001  the shape of `Origin.use`
            return self._used(target, file, resolved, after_commit=later)

        label = shown(file, self.root) if file is not None else name
        stem = _UNFIT.sub("-", Path(label).name.split(".", 1)[0]).strip("-") or "workflow"
        built = build(text, Origin(label, stem, file, after_commit, self.check, use))
        count = count_steps(built.workflow)
        if count > MAX_STEPS:
            message = f"{label} has {count:,} steps with all that it uses"
            raise UsageError(message, hint=f"{MAX_STEPS:,} are the most.")
        return built.workflow

    def _used(
        self, target: str, user: Path | None, chain: tuple[Path, ...], *, after_commit: bool
    ) -> Workflow:
        path = self._locate(target, user)
        resolved = path.resolve()
        if resolved in chain:
            names = [one.name for one in (*chain[chain.index(resolved) :], resolved)]
            raise UsageError(f"workflows use one another in a circle: {' -> '.join(names)}")
        if len(chain) > MAX_USES:
            raise UsageError(f"workflows use one another more than {MAX_USES} deep")
        key = (resolved, after_commit)
        found = self.done.get(key)
        if found is None:
            try:
                data = read_file(path, "workflow file")
                found = self.parse(data, path, path.name, chain, after_commit=after_commit)
            except UsageError as error:
                found = error
            self.done[key] = found
        if isinstance(found, UsageError):
            raise found
        return found

    def _locate(self, target: str, user: Path | None) -> Path:
        if "://" in target or "@" in target or target.startswith(("git:", "docker:")):
            hint = "Keep a copy in the repository and write `uses: ./FILE.yaml`."
            raise UsageError("`uses` takes local files only", hint=hint)
        if target.startswith(("./", "../")):
            return self._local(target, user)
        if "/" in target or target.endswith((".yaml", ".yml")):
            raise UsageError(f"{target!r} is no name", hint=f"For a file write `./{target}`.")
        if self.root is not None:
            return find_workflow(target, self.root)
        found = built_in_workflow(target)
        if found is None:
            raise UsageError(f"there is no built-in workflow `{target}`")
        return found

    def _local(self, target: str, user: Path | None) -> Path:
        if user is None:
            raise UsageError("a workflow that is no file can only use built-in ones")
        path = user.parent / target
        bounds = self.root if self.root is not None and is_inside(user, self.root) else user.parent
        try:
            inside = is_inside(path, bounds)
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise UsageError(f"{target!r} leads out of the repository")
        if not path.is_file():
            beside = [
                f"./{one.name}" for one in user.parent.glob("*.y*ml") if one.name != user.name
            ]
            nearest = closest(target, sorted(beside))
            hint = f"Did you mean `{nearest}`?" if nearest else "It is relative to this file."
            raise UsageError(f"there is no file {target!r} beside this one", hint=hint)
        return path


def count_steps(workflow: Workflow) -> int:
    """Return how many steps a workflow has, those of workflows that it uses included."""
    total = 0
    for step in workflow.steps:
        total += 1 + (count_steps(step.kind.workflow) if isinstance(step.kind, Uses) else 0)
    return total


def _checker(root: Path | None) -> Callable[[Built], None]:
    """Return what checks the agents that a file names against those there are."""
    if root is None:
        return lambda built: None
    names = agent_names(root)
    shipped, own = built_in_names(), own_names(root)

    def check(built: Built) -> None:
        for one in built.mentions:
            if one.name not in names:
                known = (MAIN, *names) if one.prompted else names
                hint = did_you_mean(one.name, known, label="Agents")
                built.problems.add(f"there is no agent `{one.name}`", one.at, hint=hint)
        for one in built.overrides:
            if one.name not in shipped:
                hint = did_you_mean(one.name, shipped, label="Built in")
                built.problems.add(f"`{one.name}` is no built-in agent", one.at, hint=hint)
            elif one.name not in own:
                hint = f"Write it, or delete `{one.name}` here."
                message = f"there is no `.runner/agents/{one.name}.md` to override it"
                built.problems.add(message, one.at, hint=hint)

    return check
