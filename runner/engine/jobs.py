"""Makes ladder jobs out of steps: what to run, what to try, what may be written."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from runner.engine.commands import Shell, execute
from runner.engine.ladder import Job
from runner.expressions import render
from runner.plan import Escalate, Fix, Prompt, Run, with_used
from runner.scope import nature_of, scope_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from runner.engine import state
    from runner.engine.names import Names
    from runner.events import Purpose
    from runner.nature import Nature
    from runner.outcome import CommandResult
    from runner.plan import Step
    from runner.scope import Scope

DEFAULT_FIX = Fix(agent="fixer")
"""What `--fix STEP` gives a step that has no fix of its own."""


def job_of(
    run: state.Run, step: Step, shown: str, names: Names, purpose: Purpose | None = None
) -> Job:
    """Make the job of a `run` step, or of the `check` of a `prompt` step."""
    shell = Shell(step, shown, names)
    match step.kind:
        case Run(command, autofix, fix, escalate):
            if fix is None and step.id in run.ports.options.fix:
                fix = run.ports.workflow.default_fix or DEFAULT_FIX
                escalate = escalate or Escalate()
            purpose = purpose or "run"
        case Prompt(check=str(command), fix=fix, escalate=escalate):
            autofix, purpose = None, purpose or "check"
        case _:
            raise AssertionError(f"step {step.id!r} has no command")
    return Job(
        shown=shown,
        command=command,
        purpose=purpose,
        invoke=invoker(run, shell, command),
        scope=scope_of(run, step, command, fix),
        rescope=lambda print_: scope_of(run, step, command, fix, nature=nature_of(command, print_)),
        directory=render(step.dir, names.look_up),
        autofix=_bind(run, shell, autofix, "autofix") if autofix else None,
        fix=fix,
        escalate=escalate,
        retry=step.retry,
        sources=step.sources,
        irreversible=step.network or bool(step.secrets),
    )


def invoker(
    run: state.Run, shell: Shell, command: str
) -> Callable[[Purpose], Awaitable[CommandResult]]:
    """Bind a command to its step; the purpose is told at each call."""

    async def invoke(purpose: Purpose) -> CommandResult:
        return await execute(run, shell, command, purpose)

    return invoke


def scope_of(
    run: state.Run, step: Step, command: str, fix: Fix | None, *, nature: Nature | None = None
) -> Scope:
    """Return what a mend of this step may write; its *nature* is told by the command otherwise."""
    own = step.kind.protect if isinstance(step.kind, Prompt) else ()
    write = step.kind.write if isinstance(step.kind, Prompt) else None
    return scope_within(
        run,
        write=fix.write if fix and fix.write is not None else write,
        protect=(*own, *(fix.protect if fix else ())),
        nature=nature or nature_of(command),
        scripts=judging_scripts(command, run.ports.root),
    )


def scope_within(
    run: state.Run,
    *,
    write: tuple[str, ...] | None = None,
    protect: tuple[str, ...] = (),
    nature: Nature = "other",
    scripts: tuple[str, ...] = (),
) -> Scope:
    """Make a scope that keeps what the run's workflow, and those that it uses, protect."""
    run.workflows = run.workflows or tuple(with_used(run.ports.workflow))
    workflow, *used = run.workflows
    files = (inside(run.ports.root, one.file) for one in used)
    return scope_for(
        write=write,
        protect=(*workflow.protect, *(glob for one in used for glob in one.protect), *protect),
        workflow_file=inside(run.ports.root, workflow.file),
        nature=nature,
        scripts=scripts,
        used_files=tuple(file for file in files if file is not None),
    )


INTERPRETERS = re.compile(r"(ba|da|z|k)?sh|python[0-9.]*|node|bun|deno|ruby|perl|php")
ASSIGNMENT = re.compile(r"\w+=")
RECIPES = {
    "make": ("Makefile", "makefile", "GNUmakefile"),
    "just": ("justfile", "Justfile", ".justfile"),
    "npm": ("package.json",),
    "pnpm": ("package.json",),
    "yarn": ("package.json",),
    "bun": ("package.json",),
    "tox": ("tox.ini",),
    "nox": ("noxfile.py",),
}
"""Where the programs that only look up what to run have it written."""


def judging_scripts(command: str, root: Path) -> tuple[str, ...]:
    """Return the files of the tree that make up a command: scripts that it runs, and recipes."""
    found: list[str] = []
    for simple in re.split(r"&&|\|\||[;|\n]", command):
        # What stands before the program sets variables.
        words = [word.strip("\"'()") for word in simple.split() if not ASSIGNMENT.match(word)]
        if not words:
            continue
        program = words[0].rpartition("/")[2]
        found.append(words[0])
        found.extend(RECIPES.get(program, ()))
        if INTERPRETERS.fullmatch(program):
            found.extend(word for word in words[1:] if not word.startswith("-"))
    paths = (posixpath.normpath(path) for path in found)
    return tuple(dict.fromkeys(path for path in paths if _in_tree(root, path)))


def _in_tree(root: Path, path: str) -> bool:
    try:
        return not path.startswith(("/", "..")) and (root / path).is_file()
    except (OSError, ValueError):
        return False


def inside(root: Path, file: Path | None) -> str | None:
    """Return a file's path in the tree; `None` when it lies elsewhere."""
    if file is None:
        return None
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return None


def judges(step: Step) -> bool:
    """Tell whether a step has a command that a commit can depend on."""
    return isinstance(step.kind, Run) or (
        isinstance(step.kind, Prompt) and step.kind.check is not None
    )


def _bind(
    run: state.Run, shell: Shell, command: str, purpose: Purpose
) -> Callable[[], Awaitable[CommandResult]]:
    async def call() -> CommandResult:
        return await execute(run, shell, command, purpose)

    return call
