"""Decides what the demo's scratch project looks like for a seed; reads data files only."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from random import Random
from typing import TYPE_CHECKING, Any

import yaml

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NEW_FROM, NEW_TO = "#+", "#-"
"""Lines that stand around what the user is about to ship in a project's data file."""

IGNORED = "__pycache__/\n*.pyc\n"


@frozen
class Defect:
    """One thing wrong in one file, and the edit that puts it right."""

    path: str
    good: str
    bad: str
    done: str
    """What the scripted agent that mends it says."""
    cannot: str = ""
    """What the scripted cheap agent says when it gives up; test defects only."""
    rule: str = ""
    """Rule of `script/lint` that finds it; lint defects only."""


@frozen
class Project:
    """A scratch project as its data file describes it."""

    name: str
    subject: str
    change: str
    files: Mapping[str, str]
    lint: tuple[Defect, ...]
    test: tuple[Defect, ...]

    def changes(self, path: str) -> bool:
        """Return whether the user's change touches the file."""
        return NEW_FROM in self.files[path]


@frozen
class Scene:
    """What the demo starts from: the committed files, the work tree, and what is wrong in it."""

    project: Project
    seed: int
    committed: Mapping[str, str]
    tree: Mapping[str, str]
    lint: Defect
    test: Defect
    unformatted: tuple[str, ...]
    """Paths that `script/format --check` complains about."""


@cache
def projects() -> tuple[Project, ...]:
    """Read every project that is shipped, sorted by name."""
    folder = files("runner.demo") / "projects"
    texts = [f.read_text(encoding="utf-8") for f in folder.iterdir() if f.name.endswith(".yaml")]
    return tuple(sorted(map(_project, texts), key=lambda project: project.name))


def _project(text: str) -> Project:
    data: dict[str, Any] = yaml.safe_load(text)
    lint = tuple(Defect(**defect) for defect in data.pop("lint"))
    test = tuple(Defect(**defect) for defect in data.pop("test"))
    return Project(**data, lint=lint, test=test)


def scene(project: Project, lint: Defect, test: Defect, *, random: Random, seed: int = 0) -> Scene:
    """Plant both defects and a few format errors in the project's change."""
    tree = {path: finished(text) for path, text in project.files.items()}
    for defect in (lint, test):
        tree[defect.path] = replaced(tree[defect.path], defect.good, defect.bad)
    changed = sorted(path for path in tree if path.endswith(".py") and project.changes(path))
    unformatted = sorted(random.sample(changed, k=2))
    for path in unformatted:
        tree[path] = untidy(tree[path], random)
    return Scene(
        project=project,
        seed=seed,
        committed={".gitignore": IGNORED}
        | {path: before(text) for path, text in project.files.items()},
        tree=tree,
        lint=lint,
        test=test,
        unformatted=tuple(unformatted),
    )


def scene_for(seed: int) -> Scene:
    """Choose project, defects and format errors by the seed; the same seed gives the same scene."""
    random = Random(seed)  # noqa: S311  variety for a demonstration, no secret
    project = projects()[seed % len(projects())]  # the first seeds show all of them
    lint, test = random.choice(project.lint), random.choice(project.test)
    return scene(project, lint, test, random=random, seed=seed)


def _marked(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each line but the markers, and whether it belongs to the change."""
    new = False
    for line in text.splitlines(keepends=True):
        word = line.strip()
        if word in (NEW_FROM, NEW_TO):
            new = word == NEW_FROM
        else:
            yield line, new


def finished(text: str) -> str:
    """Return a data file's text with the change in it."""
    return "".join(line for line, _ in _marked(text))


def before(text: str) -> str:
    """Return a data file's text without the change."""
    return "".join(line for line, new in _marked(text) if not new)


def replaced(text: str, old: str, new: str) -> str:
    """Replace what must stand there exactly once; a data file that says otherwise is a bug."""
    if text.count(old) != 1:
        message = f"{old!r} stands {text.count(old)} times in the file, not once"
        raise ValueError(message)
    return text.replace(old, new)


def untidy(text: str, random: Random) -> str:
    """Return the text with format errors that `script/format` undoes byte for byte."""
    lines = text.split("\n")
    indented = [at for at, line in enumerate(lines) if line.startswith("    ")]
    spoilt = random.sample(indented, k=min(3, len(indented)))
    lines[spoilt[0]] += " " * random.randint(1, 4)
    for at in spoilt[1:]:
        lines[at] = lines[at].replace("    ", "\t")
    return "\n".join(lines) + "\n" * random.randint(0, 3)
