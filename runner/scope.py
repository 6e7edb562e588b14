"""Decides which paths a mend may write, and whether what it did stayed within them."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.globs import alternatives, is_wild, matches, matches_any, names_of
from runner.guarded import ALL_CONFIGURATION, ALWAYS, TESTS, Nature, configuration
from runner.nature import nature_of
from runner.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.outcome import Change

__all__ = (
    "Guard",
    "Nature",
    "Scope",
    "is_judge",
    "is_lock",
    "is_test",
    "matches",
    "nature_of",
    "scope_for",
    "violations",
)

_PLAIN_MODES = ("", "040000", "100644", "100755")
_LINK, _GITLINK = "120000", "160000"


@frozen
class Guard:
    """Paths that a mend may write only where its own `write` names them."""

    why: str
    globs: tuple[str, ...]

    def covers(self, path: str) -> bool:
        """Return whether this guard stands before `path`, in whatever case it is written."""
        return matches_any(_folded(self.globs), _fold(path))


@frozen
class Scope:
    """The paths a mend may write (`write`) and may not (`protect`); see `scope_for`."""

    write: tuple[str, ...] | None
    """Globs; `None` is everything that is in the tree."""
    protect: tuple[str, ...]
    """The author's own; nothing lifts them."""
    nature: Nature
    named: tuple[str, ...]
    """The globs of `write` that lift a guard, for the plan, the report and the trailer."""
    guards: tuple[Guard, ...] = ()
    """Protected always or by nature, unless `write` names it."""

    def allows(self, path: str) -> bool:
        """Return whether a mend may add, change or delete `path` (relative to the root)."""
        return not self.reason(path)

    def reason(self, path: str) -> str:
        """Return why a mend may not write `path`, in a few words; empty when it may."""
        if unsound := _unsound(path):
            return unsound
        if matches_any(_folded(self.protect), _fold(path)):
            return "protected by the workflow"
        for guard in self.guards:
            if guard.covers(path) and not self._lifts(guard, path):
                return f"protected: {guard.why}"
        if self.write is not None and not matches_any(self.write, path):
            return "not among the paths that `write` allows"
        return ""

    def _lifts(self, guard: Guard, path: str) -> bool:
        return any(_names(glob, guard) and matches(glob, path) for glob in self.named)

    def describe(self) -> str:
        """Return the scope for a brief: a few lines, the same for the same scope."""
        write = "any file of the tree" if self.write is None else _listed(self.write)
        lines = [f"May write: {write}"]
        if self.protect:
            lines.append(f"Must not write: {_listed(self.protect)}")
        if self.guards:
            whys = "; ".join(guard.why for guard in self.guards)
            lines.append(f"Must not write either: {whys}")
        if self.named:
            lines.append(f"Allowed by name although otherwise protected: {_listed(self.named)}")
        lines.append("Everything else is undone and counts as a failure.")
        return "\n".join(lines)


def scope_for(
    *,
    write: tuple[str, ...] | None,
    protect: tuple[str, ...],
    workflow_file: str | None,
    nature: Nature,
    scripts: tuple[str, ...] = (),
    used_files: tuple[str, ...] = (),
) -> Scope:
    """Make the scope of a step's mends.

    Args:
        write: The step's own `fix.write`; `None` is everything in the tree.
        protect: The step's `protect` together with the defaults'. Nothing lifts these.
        workflow_file: The workflow, relative to the root; `None` where it lies outside of it.
        used_files: Workflows that it uses, the same way.
        nature: What the step's command judges; decides whether tests and configuration are guarded.
        scripts: Further files that make up the judge, such as the script that the command runs.
    """
    guards = [Guard(why, globs) for why, globs in ALWAYS.items()]
    if used_files:
        guards.insert(0, Guard("a workflow that is used", tuple(map(_literal, used_files))))
    if workflow_file is not None:
        guards.insert(0, Guard("the workflow file", (_literal(workflow_file),)))
    if scripts:
        guards.append(Guard("the check's own script", tuple(_literal(path) for path in scripts)))
    if nature == "test":
        guards.append(Guard("the tests", TESTS))
    if globs := configuration(nature):
        whose = "the tests'" if nature == "test" else f"the {nature} step's"
        guards.append(Guard(f"{whose} configuration", globs))
    named = tuple(glob for glob in write or () if any(_names(glob, guard) for guard in guards))
    return Scope(write, protect, nature, named, tuple(guards))


def violations(
    scope: Scope, changes: Iterable[Change], targets: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Return what left the scope, a line for people each; empty when nothing did.

    Args:
        scope: What was allowed.
        changes: How the tree differs from before.
        targets: Of the symbolic links that were added or changed: path to what it points to. A link
            whose target is not told is a violation.
    """
    lines: list[str] = []
    for change in changes:
        why = scope.reason(change.path) or _odd(scope, change, (targets or {}).get(change.path))
        if why:
            lines.append(f"{one_line(change.path, 200)}: {why}")
    return tuple(lines)


def is_test(path: str) -> bool:
    """Return whether `path` is a test or belongs to the tests."""
    return matches_any(_folded(TESTS), _fold(path))


def is_lock(path: str) -> bool:
    """Return whether `path` is a lock file, which building may rewrite."""
    return matches_any(_folded(ALWAYS["a lock file"]), _fold(path))


def is_judge(path: str) -> bool:
    """Return whether `path` configures a judge, of whatever nature, or says what runs."""
    hooks_and_ci = ALWAYS["hooks"] + ALWAYS["CI configuration"]
    return matches_any(_folded(ALL_CONFIGURATION + hooks_and_ci), _fold(path))


def _odd(scope: Scope, change: Change, target: str | None) -> str:
    """Say what is wrong with a change whose path is allowed."""
    if change.after_mode == _GITLINK or change.before_mode == _GITLINK:
        return "a submodule was added, moved or removed"
    if change.after_mode == _LINK:
        return _bad_link(scope, change.path, target)
    if change.after_mode not in _PLAIN_MODES:
        return f"has the mode {change.after_mode}"
    return ""


def _bad_link(scope: Scope, path: str, target: str | None) -> str:
    """Say why a symbolic link is not allowed: it leads out, or into what may not be written."""
    if target is None:
        return "became a symbolic link"
    if target.startswith(("/", "~")) or "\\" in target or "\0" in target:
        return "a symbolic link that leads out of the tree"
    names = path.split("/")[:-1]
    for name in target.split("/"):
        if name == "..":
            if not names:
                return "a symbolic link that leads out of the tree"
            names.pop()
        elif name not in ("", "."):
            names.append(name)
    why = scope.reason("/".join(names)) if names else "the root"
    return f"a symbolic link to a path that may not be written ({why})" if why else ""


def _unsound(path: str) -> str:
    """Say why a path is none of the tree's, whatever the globs say."""
    if not path or "\0" in path:
        return "not a path"
    if path.startswith(("/", "~")) or "\\" in path or path[1:2] == ":":
        return "not a path relative to the root"
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names):
        return "not a plain path below the root"
    # Trailing dots and spaces, and the 8.3 name: other spellings of `.git` on some file systems.
    if any(_fold(name).rstrip(". ") in (".git", "git~1") for name in names):
        return "git's own"
    return ""


def _literal(path: str) -> str:
    """Escape a path so that as a glob it means just itself."""
    path = path.removeprefix("./")
    return "".join(f"[{char}]" if char in "*?[{" else char for char in path)


def _fold(text: str) -> str:
    """Fold case and Unicode form, as the most forgiving file system would."""
    if text.isascii():
        return text.lower()
    visible = "".join(char for char in text if unicodedata.category(char) != "Cf")
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", visible).casefold())


@lru_cache(maxsize=256)
def _folded(globs: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_fold(glob) for glob in globs)


@lru_cache(maxsize=4096)
def _names(glob: str, guard: Guard) -> bool:
    """Return whether a glob of `write` speaks of what `guard` guards, not merely includes it.

    `.github/**` and `tests/**` do, `**` and `src/**` do not: a glob speaks of it when whatever
    stands for its wildcards, the path is guarded.
    """
    return all(guard.covers(_sample(one)) for one in alternatives(glob))


def _sample(glob: str) -> str:
    """Return a path that matches a glob, with made-up names in the place of wildcards."""
    names: list[str] = []
    for name in names_of(glob):
        if is_wild(name):
            names.append("".join("zq" if char in "*?[" else char for char in name if char != "]"))
        else:
            names.append(name)
    return "/".join(names) or "zq"


def _listed(globs: tuple[str, ...]) -> str:
    shown = ", ".join(one_line(glob, 80) for glob in globs[:20])
    return f"{shown} and {len(globs) - 20} more" if len(globs) > 20 else shown or "nothing"
