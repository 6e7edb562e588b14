"""Decides what a repository may have run by a hook: only what its user has allowed, unchanged.

A hook runs in whatever directory an agent works in, also in a clone of a stranger's repository.
What is hashed is what the runner executes or tells a model: the workflow, those that it uses, the
agents that they name, the scripts of scripted models. The commands then run the repository's code,
as they do when the agent itself runs the tests: that is not, and cannot be, part of the hash.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runner.errors import NotGranted, UsageError
from runner.frozen import frozen
from runner.loader.agents import load_agents, named_agents
from runner.loader.builtin import builtin
from runner.loader.files import read_file
from runner.models.choice import is_scripted, split
from runner.plan import Prompt, with_used

if TYPE_CHECKING:
    from collections.abc import Generator

    from runner.plan import AgentSpec, Workflow
    from runner.prepare import Prepared

FILE = "allowed.json"
_VERSION = 1
_LARGEST = 16 * 1024 * 1024


@frozen
class Part:
    """One file that a run is made of."""

    label: str
    """For people: a path from the root, or wherever it lies."""
    sha256: str
    path: Path | None
    """`None` for what comes with the runner."""
    inside: bool
    """Whether the repository decides what it says."""


@frozen
class Made:
    """All that a run is made of."""

    root: str
    """Real path of the repository."""
    workflow: str
    """Its file, as `Part.label`."""
    parts: tuple[Part, ...]

    @property
    def digest(self) -> str:
        """Hash of all of it."""
        lines = sorted(f"{part.label}\0{part.sha256}\n" for part in self.parts)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    @property
    def asks(self) -> bool:
        """Whether the user must have allowed it: any of it is the repository's own."""
        return any(part.inside for part in self.parts)


@frozen
class Allowed:
    """One line of what the user has allowed."""

    root: str
    workflow: str
    sha256: str
    at: float
    """Seconds since the epoch."""


def made_of(prepared: Prepared) -> Made:
    """Return what a prepared run is made of.

    Raises:
        UsageError: A workflow outside of the repository can be changed by other users.
    """
    root = prepared.root
    flows = [_flow(one, root) for one in with_used(prepared.workflow)]
    agents = [_agent(agent, root) for agent in agents_of(prepared)]
    scripts = [_script(path, root) for path in _scripts(prepared)]
    parts = {part.label: part for part in (*flows, *agents, *scripts)}
    return Made(str(root.resolve()), flows[0].label, tuple(parts.values()))


def agents_of(prepared: Prepared) -> list[AgentSpec]:
    """Return the agents that may be told something; a check's own fixer among them.

    All that the workflow names, also beyond the steps of this run: what is allowed is the whole.
    """
    found = {*prepared.workflow.overrides}
    for flow in with_used(prepared.workflow):
        found.update(named_agents(flow))
        kinds = (step.kind for step in flow.steps)
        found.update(kind.fix.agent for kind in kinds if isinstance(kind, Prompt) and kind.fix)
    if not found:
        return []
    # A run whose steps ask none has read none.
    agents = prepared.agents or load_agents(prepared.root, prepared.workflow)
    return [agents[name] for name in sorted(found & agents.keys())]


def _scripts(prepared: Prepared) -> list[Path]:
    """Return what stands in for models because the workflow says so, not its user."""
    chosen = [one for one in prepared.choices.values() if one.source == "workflow"]
    ids = {one.id for one in chosen if is_scripted(one.id)}
    return [prepared.root / split(one)[1] for one in sorted(ids)]


def _flow(workflow: Workflow, root: Path) -> Part:
    file = workflow.file
    if file is None:
        raise UsageError("a workflow that is no file cannot run in a hook")
    inside = _inside(file, root)
    if not inside and not file.resolve().is_relative_to(builtin("workflows").resolve()):
        _check_private(file)
    return Part(label(file, root), workflow.sha256, file.absolute(), inside)


def _agent(agent: AgentSpec, root: Path) -> Part:
    """Hash what the agent's file was read as, not the file: nothing can change in between."""
    fields = [agent.name, agent.description, agent.instructions, agent.model]
    data = json.dumps([*fields, agent.tools, agent.turns, dict(agent.output)])
    built_in = agent.source == "built-in"
    path = None if built_in else (root / agent.source).absolute()
    digest = hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()
    return Part(f"agent {agent.name}" if built_in else agent.source, digest, path, not built_in)


def _script(path: Path, root: Path) -> Part:
    digest = hashlib.sha256(read_file(path, "script")).hexdigest()
    return Part(label(path, root), digest, path.absolute(), _inside(path, root))


def _inside(file: Path, root: Path) -> bool:
    """Tell whether the repository decides what a path says: it lies in it, or leads into it."""
    here = Path(os.path.normpath(file.absolute()))
    return here.is_relative_to(root) or file.resolve().is_relative_to(root.resolve())


def label(file: Path, root: Path) -> str:
    """Name a file for people: from the root where it lies below."""
    here = Path(os.path.normpath(file.absolute()))
    return here.relative_to(root).as_posix() if here.is_relative_to(root) else str(here)


def _check_private(file: Path) -> None:
    found = file.stat()
    if found.st_uid not in (os.geteuid(), 0) or stat.S_IMODE(found.st_mode) & 0o002:
        raise NotGranted(
            f"the workflow {file} can be changed by other users",
            hint=f"Run `chmod o-w {file}`, or keep it somewhere of your own.",
        )


# -- what is allowed -------------------------------------------------------------------------------


def is_allowed(state_root: Path, made: Made) -> bool:
    """Tell whether the user has allowed exactly this."""
    wanted = (made.root, made.workflow, made.digest)
    return any((one.root, one.workflow, one.sha256) == wanted for one in listed(state_root))


def was_allowed(state_root: Path, made: Made) -> bool:
    """Tell whether the user has allowed this workflow before it changed."""
    wanted = (made.root, made.workflow)
    return any((one.root, one.workflow) == wanted for one in listed(state_root))


def listed(state_root: Path) -> tuple[Allowed, ...]:
    """Return all that the user has allowed; nothing where the file cannot be trusted.

    Raises:
        UsageError: The file is there and cannot be read.
    """
    path = state_root / FILE
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
                raise UsageError(
                    f"{path} can be changed by other users: what it allows does not count",
                    hint=f"Look at it, then run `chmod 600 {path}`.",
                )
            data = json.loads(stream.read(_LARGEST))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", hint="Delete it, and allow anew."
        ) from None
    try:
        return tuple(_entry(one) for one in data["allowed"])
    except (KeyError, TypeError, ValueError):
        message = f"{path} is not what `runner allow` writes"
        raise UsageError(message, hint="Delete it, and allow anew.") from None


def _entry(row: Any) -> Allowed:
    given = cast("dict[str, Any]", row)
    texts = [given[key] for key in ("root", "workflow", "sha256")]
    if not all(isinstance(one, str) for one in texts):
        raise TypeError
    return Allowed(texts[0], texts[1], texts[2], float(given["at"]))


def allow(state_root: Path, made: Made) -> None:
    """Record that the user allows exactly this, in place of what that workflow was before."""
    entry = Allowed(made.root, made.workflow, made.digest, time.time())
    with _alone(state_root):
        kept = [one for one in listed(state_root) if not _same(one, made.root, made.workflow)]
        _write(state_root, [*kept, entry])


def revoke(state_root: Path, root: str, workflow: str | None) -> tuple[Allowed, ...]:
    """Take back what was allowed for a repository, or for one of its workflows."""
    with _alone(state_root):
        entries = listed(state_root)
        gone = tuple(one for one in entries if _same(one, root, workflow))
        if gone:
            _write(state_root, [one for one in entries if one not in gone])
    return gone


def _same(one: Allowed, root: str, workflow: str | None) -> bool:
    return one.root == root and workflow in (None, one.workflow)


@contextmanager
def _alone(state_root: Path) -> Generator[None]:
    """Let one process at a time change the list."""
    descriptor = os.open(state_root / f"{FILE}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(state_root: Path, entries: list[Allowed]) -> None:
    rows = [
        {"root": one.root, "workflow": one.workflow, "sha256": one.sha256, "at": one.at}
        for one in entries
    ]
    text = json.dumps({"version": _VERSION, "allowed": rows}, indent=2) + "\n"
    own = state_root / f"{FILE}.{os.getpid()}"
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    own.replace(state_root / FILE)
