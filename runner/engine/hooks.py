"""Runs a repository's hooks as the checks they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.engine.commands import Shell, environment, output_path, watch
from runner.engine.confining import hook_needs
from runner.engine.jobs import DEFAULT_FIX, scope_within
from runner.engine.ladder import Job
from runner.plan import Escalate, Prompt, Retry, Run, Uses
from runner.workspace.commands import Command

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from runner.engine.checks import Shipping
    from runner.events import Purpose
    from runner.git import HookName, PushPlan, Staged
    from runner.outcome import CommandResult
    from runner.plan import Step
    from runner.scope import Scope


def hook_scope(shipping: Shipping) -> Scope:
    """Return what a hook, and a mend of its failure, may change."""
    return scope_within(shipping.graph.run)


def hook_job(
    shipping: Shipping,
    name: HookName,
    *,
    stage: Callable[[], Awaitable[Staged]] | None = None,
    message_file: Path | None = None,
    push: PushPlan | None = None,
) -> Job:
    """Make a ladder job of a hook; it is mended only where the workflow mends anything.

    *stage* is asked each time that the hook runs: hooks look at the index, and must find there
    what they, or a mend, changed since.
    """
    run, repo = shipping.graph.run, shipping.repo()
    text = f"{name} hook"

    async def invoke(purpose: Purpose) -> CommandResult:
        staged = await stage() if stage else None
        result = await once(purpose, staged)
        if result.passed or stage is None or staged is None:
            return result
        # Hooks that fix what they find fail by that: what they left is theirs to see once more.
        fixed = await stage()
        return result if fixed.tree == staged.tree else await once(purpose, fixed)

    async def once(purpose: Purpose, staged: Staged | None) -> CommandResult:
        hooked = repo.hook_invocation(name, staged=staged, message_file=message_file, push=push)
        assert hooked is not None, "asked for only where the hook is wanted"
        shell = Shell(shipping.step, shipping.shown, shipping.names)
        base = environment(run, shell)
        outputs = output_path(run, shipping.shown).parent
        outputs.mkdir(mode=0o700, parents=True, exist_ok=True)
        command = Command(
            argv=hooked.argv,
            cwd=repo.facts.root,
            env={**base, **hooked.env},
            timeout=shipping.step.timeout,
            log=run.log_path(shipping.shown, name),
            stdin=hooked.stdin or None,
        )
        written = (staged.index if staged is not None else None, message_file)
        async with hook_needs(run, shell, outputs, written) as need:
            return await watch(run, shipping.shown, command, text, purpose, need)

    mends = _mends_anything(run.ports.workflow.steps)
    return Job(
        shown=shipping.shown,
        key=f"{shipping.shown}:{name}",
        command=text,
        purpose="hook",
        invoke=invoke,
        scope=hook_scope(shipping),
        fix=(run.ports.workflow.default_fix or DEFAULT_FIX) if mends else None,
        escalate=Escalate() if mends else None,
        retry=Retry(),
        unmended="" if mends else "no step of this workflow has a fix",
    )


def wanted(shipping: Shipping, name: HookName) -> bool:
    """Tell whether the repository has this hook and it is not switched off."""
    return not shipping.graph.run.ports.options.no_hooks and name in shipping.repo().facts.hooks


def _mends_anything(steps: Iterable[Step]) -> bool:
    for step in steps:
        match step.kind:
            case Run(fix=fix) | Prompt(fix=fix) if fix is not None:
                return True
            case Uses(workflow) if _mends_anything(workflow.steps):
                return True
            case _:
                continue
    return False
