"""Says what each command may reach; the run's sandbox, if it has one, keeps the rest from it."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from pathlib import Path

    from runner.engine.commands import Shell
    from runner.engine.state import Run
    from runner.sandbox import Need
    from runner.scope import Scope
    from runner.workspace.commands import Command


def need_of_step(run: Run, shell: Shell, outputs: Path) -> Need | None:
    """Return what a step's command needs: its tree, where its outputs go, network if it asks."""
    if run.ports.sandbox is None:
        return None
    from runner.sandbox import Need  # noqa: PLC0415  a run without a sandbox need not pay for it

    tree = (shell.cwd or run.ports.root).resolve()
    return Need(tree=tree, private=(outputs,), network=shell.step.network)


@asynccontextmanager
async def hook_needs(
    run: Run, shell: Shell, outputs: Path, written: Iterable[Path | None]
) -> AsyncGenerator[Need | None]:
    """Yield what a hook needs: as a step, and to write a `.git` of its own, and what is *written*.

    Args:
        run: The run.
        shell: Whose command it is.
        outputs: Directory of the step's outputs.
        written: The private index and the message, each alone in its directory.
    """
    need, repo = need_of_step(run, shell, outputs), run.ports.repo
    if need is None or repo is None:
        yield need
        return
    directory = run.ports.run_dir / "hooks" / str(run.commands + 1)
    copy = repo.copy_for_hook(directory)
    private = (*need.private, *(path.parent for path in written if path is not None))
    instead = tuple((one.path, one.source, one.writable) for one in copy.shown)
    try:
        yield replace(need, private=private, instead=instead)
        await repo.keep(copy)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def agents_shell(run: Run, scope: Scope) -> Callable[[Command], Command] | None:
    """Return what confines an agent's own commands to what it may write; `None`: nothing does."""
    ports, sandbox = run.ports, run.ports.sandbox
    if sandbox is None or sandbox.held.by == "none":
        return None
    from runner.sandbox import Need  # noqa: PLC0415  as above

    guarded = tuple(glob for guard in scope.guards for glob in guard.globs)
    need = Need(
        tree=ports.root.resolve(),
        write=scope.write if scope.write is not None else ("**",),
        protect=(*scope.protect, *guarded),
        lifted=scope.named,
        network=ports.network,
    )

    def confine(command: Command) -> Command:
        run.shelled = True
        return sandbox.confine(command, need)

    return confine
