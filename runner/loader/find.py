"""Finds the workflow file that a user means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.loader.builtin import builtin
from runner.suggest import closest

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES = (".yaml", ".yml")
_FOLDERS = ("workflows", ".runner/workflows")
_ALONE = ("workflow.yaml", "workflow.yml", ".runner/workflow.yaml", ".runner/workflow.yml")


def find_workflow(target: str | None, root: Path) -> Path:
    """Return the file for a path, a name, or nothing.

    A path is taken as it is, from `root`. A name is looked up in `workflows`, `.runner/workflows`
    and the built-ins. Without a target: `workflow.yaml`, `.runner/workflow.yaml`, or the only
    file in the two folders.

    Raises:
        UsageError: There is none, or without a target more than one; says what there is.
    """
    if target is None:
        return _only(root)
    if "/" in target or target.endswith(_SUFFIXES):
        return _explicit(target, root)
    found = {**_built_in(), **_named(root)}
    if target in found:
        return found[target]
    nearest = closest(target, found)
    hint = f"Did you mean `{nearest}`? " if nearest else ""
    raise UsageError(f"there is no workflow `{target}`", hint=hint + _what_there_is(root))


def workflow_names(root: Path) -> tuple[str, ...]:
    """Return every name that `find_workflow` takes, the repository's own first."""
    return tuple(dict.fromkeys([*sorted(_named(root)), *sorted(_built_in())]))


def built_in_workflow(name: str) -> Path | None:
    """Return the file of a built-in workflow."""
    return _built_in().get(name)


def _explicit(target: str, root: Path) -> Path:
    path = root / target
    try:
        if path.is_file():
            return path
        kind = "is a directory" if path.is_dir() else "is no regular file"
        kind = kind if path.exists() else "does not exist"
    except (OSError, ValueError):
        kind = "cannot be read"
    raise UsageError(f"the workflow file {target!r} {kind}", hint=_what_there_is(root))


def _only(root: Path) -> Path:
    for name in _ALONE:
        if (root / name).is_file():
            return root / name
    named = _named(root)
    if len(named) == 1:
        return next(iter(named.values()))
    if named:
        raise UsageError("several workflows are here; name one", hint=_what_there_is(root))
    hint = "Write one with `runner init`, or see one at work with `runner demo`."
    raise UsageError(f"there is no workflow in {root}", hint=f"{hint} {_what_there_is(root)}")


def _named(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _FOLDERS:
        for name, path in _in_folder(root / folder).items():
            found.setdefault(name, path)
    return found


def _built_in() -> dict[str, Path]:
    return _in_folder(builtin("workflows"))


def _in_folder(folder: Path) -> dict[str, Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return {}
    # Of `x.yaml` and `x.yml` the first wins.
    return {
        path.stem: path for path in reversed(entries) if path.suffix in _SUFFIXES and path.is_file()
    }


def _what_there_is(root: Path) -> str:
    here = sorted(_named(root)) + [name for name in _ALONE if (root / name).is_file()]
    parts = [f"Here: {', '.join(here)}."] if here else []
    shipped = sorted(_built_in())
    if shipped:
        parts.append(f"Built in: {', '.join(shipped)}.")
    return " ".join(parts)
