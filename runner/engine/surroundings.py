"""Guards what snapshots do not hold while a model works: `.git`, and ignored files that are run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio.to_thread

from runner.text import one_line
from runner.workspace import nested

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from runner.engine.state import Run
    from runner.git import Guard
    from runner.scope import Scope
    from runner.workspace.environments import Environments, Stamp

_NAMED = 3


@dataclass(slots=True)
class Surroundings:
    """What one attempt must leave alone around the tree."""

    run: Run
    step: str
    scope: Scope
    _guard: Guard | None = None
    _environments: Environments | None = None
    _installed: dict[str, Stamp] | None = None
    _repositories: frozenset[str] | None = None
    """What there was of repositories inside the tree."""
    _found: tuple[str, ...] = ()
    """What was undone in git after commands, and not told yet."""

    async def take(self) -> None:
        """Record everything as it is before an attempt."""
        ports = self.run.ports
        # Without a shell no tool reaches any of this: thousands of files need not be copied, and
        # a commit that is made meanwhile is the user's. Only commands are watched then.
        if not ports.shell:
            return
        # Where a sandbox holds the shell, git and environments are there to be read only.
        confined = self.run.confined
        self._guard = await ports.repo.guard() if ports.repo and not confined else None
        if ports.tree is None:
            return
        if self._environments is None:
            self._environments = ports.tree.environments(self._is_protected)
        watch = self._environments
        self._installed = await (watch.look() if confined else watch.record())
        self._repositories = await self._nested()

    async def undo(self) -> tuple[str, ...]:
        """Put back what is not as it was taken, and say what; what was taken still holds."""
        found, self._found = self._found, ()
        tampering = (
            *found,
            *await self._undo_git(),
            *await self._undo_installed(),
            *await self._undo_nested(),
        )
        if tampering:
            self.run.say(f"undone: {'; '.join(tampering)}", self.step)
        return tampering

    async def drop(self) -> None:
        """Stop guarding: the attempt is over."""
        self._guard = self._installed = self._repositories = None

    @asynccontextmanager
    async def command(self) -> AsyncGenerator[None]:
        """Run the author's own command inside, and with it what was mended.

        It may change environments: many commands install into them.
        """
        repo = self.run.ports.repo
        watched = self._guard is None and repo is not None
        if watched and repo is not None:
            self._guard = await repo.guard()
        watch, installed = self._environments, self._installed
        before = await watch.look() if watch and installed is not None else None
        yield
        if watch and installed is not None and before is not None:
            await watch.allow(installed, before, await watch.look())
        if watched:
            self._found = (*self._found, *await self._undo_git())
            self._guard = None

    def _is_protected(self, path: str) -> bool:
        return self.scope.reason(path).startswith("protected")

    async def _undo_git(self) -> tuple[str, ...]:
        repo, guard = self.run.ports.repo, self._guard
        if repo is None or guard is None:
            return ()
        tampering = await repo.tampered(guard)
        if tampering:
            await repo.undo(guard)
        return tampering

    async def _undo_installed(self) -> tuple[str, ...]:
        watch, installed = self._environments, self._installed
        if watch is None or installed is None:
            return ()
        changed = await watch.changed(installed)
        if not changed:
            return ()
        lost = await watch.undo(installed, changed)
        said = f"ignored files that commands run were changed: {_some(changed)}"
        return (f"{said} (not put back: {_some(lost)})" if lost else said,)

    async def _nested(self) -> frozenset[str]:
        return await anyio.to_thread.run_sync(nested.repositories, self.run.ports.root)

    async def _undo_nested(self) -> tuple[str, ...]:
        tree, before = self.run.ports.tree, self._repositories
        if tree is None or before is None:
            return ()
        new = await self._nested() - before
        if not new:
            return ()
        put_away = nested.put_away
        lost = await anyio.to_thread.run_sync(put_away, tree.root, new, tree.aside)
        said = f"repositories were put into the tree: {_some(tuple(sorted(new)))}"
        return (
            f"{said} (still there: {_some(lost)})" if lost else f"{said} (now in {tree.aside})",
        )


def _some(paths: tuple[str, ...]) -> str:
    shown = ", ".join(one_line(path, 120) for path in paths[:_NAMED])
    return f"{shown} and {len(paths) - _NAMED} more" if len(paths) > _NAMED else shown
