"""A repository in one small file: what the engine asks of `git.Repository`, without git."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import GitRefused, UsageError
from runner.git import (
    CommitFact,
    Dirty,
    Pushed,
    PushPlan,
    RepositoryFacts,
    Staged,
    StartState,
)
from runner.git.committing import Made
from runner.globs import matches_any

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from runner.git import Files, PushAuth

    from .tree import FakeTree

REF = "refs/heads/main"


class FakeRepository:
    """One branch and one remote; each act is a moment at which a process may die, on both sides."""

    ref = REF

    def __init__(self, file: Path, tree: FakeTree, moment: Callable[[str], None]) -> None:
        self.file, self.tree, self.moment = file, tree, moment
        self.facts = RepositoryFacts(
            root=tree.root,
            git_dir=tree.root / ".git",
            common_dir=tree.root / ".git",
            head=self.load()["head"],
            branch="main",
            upstream=None,
            remotes={"origin": "sim"},
            push_urls={"origin": "sim"},
            identity=("Sim", "sim@example.com"),
            hooks={},
            hooks_dir=tree.root / ".git" / "hooks",
            hook_files={},
            operation="",
            sparse=False,
            shallow=False,
            partial=False,
            filters=(),
        )

    def load(self) -> dict[str, Any]:
        """Return what is on the disk."""
        return json.loads(self.file.read_text())

    def save(self, facts: dict[str, Any]) -> None:
        """Write it in one stroke."""
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(facts))
        new.replace(self.file)

    def _dirty(self) -> tuple[list[str], list[str]]:
        facts = self.load()
        head = self.tree.files(facts["commits"][facts["head"]]["tree"])
        now = self.tree.scan()
        changed = [path for path in head if now.get(path) != head[path]]
        return sorted(changed), sorted(now.keys() - head.keys())

    async def status(self) -> Dirty:
        """Tell what differs from HEAD."""
        changed, untracked = self._dirty()
        return Dirty(tuple(changed), tuple(untracked))

    async def start_state(self) -> StartState:
        """Record what is changed and untracked."""
        changed, untracked = self._dirty()
        return StartState(frozenset(changed), frozenset(untracked), frozenset())

    async def guard(self) -> Any:
        """Nothing here is watched."""
        return object()

    async def tampered(self, guard: object) -> tuple[str, ...]:
        """Nobody tampers with it."""
        del guard
        return ()

    async def undo(self, guard: object) -> None:
        """Nothing to do."""

    def hooks_changed(self) -> tuple[str, ...]:
        """There are none."""
        return ()

    async def prepare(
        self, files: Files, *, start: StartState, run_paths: Collection[str]
    ) -> Staged | None:
        """Stage what a commit takes up."""
        facts = self.load()
        before = facts["commits"][facts["head"]]["tree"]
        head, now = self.tree.files(before), self.tree.scan()
        staged, left_out = dict(head), list[str]()
        for path in sorted(head.keys() | now.keys()):
            if head.get(path) == now.get(path):
                continue
            if not _taken(path, files, start, run_paths):
                left_out.append(path)
            elif path in now:
                staged[path] = now[path]
            else:
                del staged[path]
        tree = self.tree.keep(staged)
        if tree == before:
            return None
        changes = await self.tree.changes(before, tree)
        stat = ", ".join(change.path for change in changes)
        return Staged(tree, facts["head"], changes, tuple(left_out), Path(), stat, stat)

    async def refuse_keys(self, staged: Staged) -> None:
        """Nobody puts keys into a story."""

    async def checkout(self, staged: Staged, destination: Path) -> None:
        """Write what will be committed."""
        for path, blob in self.tree.files(staged.tree).items():
            file = destination / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.tree.data(blob))

    async def commit(self, staged: Staged, message: str) -> CommitFact:
        """Commit, if HEAD is still the parent."""
        facts = self.load()
        if facts["head"] != staged.parent:
            raise GitRefused("HEAD moved since the commit was prepared")
        text = f"{staged.parent}\n{staged.tree}\n{message}"
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        facts["commits"][sha] = {"parent": staged.parent, "tree": staged.tree, "message": message}
        facts["head"] = sha
        self.moment("commit")
        self.save(facts)
        self.moment("committed")
        return CommitFact(sha, staged.parent, REF)

    async def commits_of(self, run_id: str) -> list[Made]:
        """Return a run's commits, oldest first."""
        facts = self.load()
        found: list[Made] = []
        sha = facts["head"]
        while sha:
            one = facts["commits"][sha]
            if f"Runner-Run: {run_id}" in one["message"]:
                step = one["message"].partition("Runner-Step: ")[2].partition("\n")[0]
                subject = one["message"].partition("\n")[0]
                found.insert(0, Made(sha, one["parent"], one["tree"], step, subject))
            sha = one["parent"]
        return found

    async def rejoin(
        self, run_id: str, *, expected: str, finish: Callable[[Made | None], bool]
    ) -> tuple[Made, ...]:
        """Take over the run's commits."""
        made = await self.commits_of(run_id)
        head = self.load()["head"]
        newest = made[-1] if made and made[-1].sha == head else None
        if newest is None and head != expected:
            raise UsageError(f"HEAD was at {expected} and is at {head}")
        finish(newest)
        return tuple(made)

    async def note_pushed(self, pushed: Pushed) -> None:
        """Nobody follows the remote here."""

    async def push_plan(
        self, *, remote: str, branch: str, auth: PushAuth, expected: str
    ) -> PushPlan:
        """Tell where a push would go."""
        del auth
        ref = f"refs/heads/{branch}"
        return PushPlan(remote, "sim", REF, expected, ref, self.load()["remote"].get(ref, ""))

    async def push(self, *, remote: str, branch: str, auth: PushAuth, expected: str) -> Pushed:
        """Push; the remote counts how often it was told."""
        del auth
        facts, ref = self.load(), f"refs/heads/{branch}"
        facts["remote"][ref] = expected
        facts["pushes"] += [[ref, expected]]
        self.moment("push")
        self.save(facts)
        self.moment("pushed")
        return Pushed(remote, ref, expected)


def _taken(path: str, files: Files, start: StartState, run_paths: Collection[str]) -> bool:
    if files == "all":
        return True
    if files == "run":
        return path not in start.untracked and (path in run_paths or path in start.changed)
    return files != "staged" and matches_any(files, path)
