"""Keeps what a run was prepared from beside its journal, so that it can be prepared again.

Never a secret's value and never a key: those come from the resuming process's own environment.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.codec import plain, reader
from runner.errors import UsageError
from runner.frozen import frozen
from runner.plan import Options, with_used
from runner.prepare import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.plan import ResumeOptions, Workflow
    from runner.prepare import Prepared
    from runner.workspace.masking import Mask

FILE = "prepared.json"
_FORMAT = 1
_LATER = ("state_dir", "record", "replay")
"""Options that are the process's own, or that rule a resume out."""


@frozen(kw_only=True)
class Preparation:
    """What `prepare` was given, and a digest of all that the plan came from."""

    target: str
    """The workflow's file, below the root where it lies there; empty for one without a file."""
    root: str
    options: Options
    policy: str
    """Name of the policy; empty for a function of the caller's own."""
    digests: Mapping[str, str]
    """Of each file and definition, by the name that people know it by."""
    whole: bool = True
    """Whether nothing of it was masked."""


def keep(prepared: Prepared, directory: Path, mask: Mask, *, policy: str) -> None:
    """Write down what a run is prepared from, before its first event."""
    workflow, root = prepared.workflow, prepared.root
    options = replace(
        prepared.options, inputs=dict(prepared.inputs), input_files=False, state_dir=None
    )
    facts = {
        "format": _FORMAT,
        "target": _named(workflow.file, root) if workflow.file else "",
        "root": str(root),
        "options": plain(options),
        "policy": policy,
        "digests": digests(prepared),
    }
    text = json.dumps(facts, indent=1)
    masked = mask.text(text) if mask else text
    if masked != text:
        facts["whole"] = False
        masked = mask.text(json.dumps(facts, indent=1))
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    new = directory / f"{FILE}.new"
    new.write_text(masked, encoding="utf-8")
    new.chmod(0o600)
    new.replace(directory / FILE)


def read(directory: Path, run_id: str) -> Preparation:
    """Read what a run was prepared from.

    Raises:
        UsageError: It is not there, damaged, or of a newer release.
    """
    try:
        facts: dict[str, Any] = json.loads((directory / FILE).read_text("utf-8"))
        known = facts["format"]
    except FileNotFoundError:
        raise UsageError(
            f"run {run_id} cannot be resumed: what it was prepared from was not written down",
            hint="An older release ran it, or its files are gone. Start it again: runner exec",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{directory / FILE} cannot be read: {error}", hint=_ANEW) from error
    if known > _FORMAT:
        raise UsageError(
            f"run {run_id} was begun by a newer release of runner", hint="Resume it with that one."
        )
    options = reader(Options)(facts["options"])
    return Preparation(
        target=facts["target"],
        root=facts["root"],
        options=options,
        policy=facts["policy"],
        digests=facts["digests"],
        whole=facts.get("whole", True),
    )


def digests(prepared: Prepared) -> dict[str, str]:
    """Return a digest of each file and definition that a plan came from."""
    found = {
        _named(one.file, prepared.root) if one.file else f"workflow {one.name}": one.sha256
        for one in with_used(prepared.workflow)
    }
    for name, agent in sorted(prepared.agents.items()):
        text = json.dumps(plain(agent), sort_keys=True)
        found[f"agent {name}"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def prepare_again(
    kept: Preparation,
    wishes: ResumeOptions,
    *,
    run_id: str,
    root: Path,
    workflow: Workflow | None,
    environ: Mapping[str, str] | None,
) -> Prepared:
    """Prepare a run as it was prepared once, with what the resuming caller adds.

    Raises:
        UsageError: Something that the plan came from has changed, a grant is missing, or the run
            cannot be prepared from what was kept.
    """
    _refuse(kept, run_id, root, workflow)
    secrets = tuple(dict.fromkeys((*kept.options.secrets, *wishes.secrets)))
    usd = kept.options.budget_usd if wishes.budget_usd is None else wishes.budget_usd
    options = replace(
        kept.options,
        secrets=secrets,
        budget_usd=usd,
        sandbox=wishes.sandbox or kept.options.sandbox,
        state_dir=wishes.state_dir,
    )
    target = workflow if workflow is not None else root / kept.target
    prepared = prepare(target, options=options, cwd=root, environ=environ)
    if wishes.seconds is not None:
        ceiling = prepared.config.ceilings.seconds
        seconds = wishes.seconds if ceiling is None else min(ceiling, wishes.seconds)
        prepared = replace(prepared, budget=replace(prepared.budget, seconds=seconds))
    now = digests(prepared)
    changed = sorted(
        name for name in kept.digests.keys() | now.keys() if kept.digests.get(name) != now.get(name)
    )
    if changed:
        raise UsageError(
            f"run {run_id} cannot be resumed: {', '.join(changed)} changed since it began",
            hint="Take that back, or start a new run: runner exec",
        )
    return prepared


def _refuse(kept: Preparation, run_id: str, root: Path, workflow: Workflow | None) -> None:
    why = ""
    if not kept.whole:
        why = "an input or option held a secret, which is written down nowhere"
    elif kept.options.record is not None or kept.options.replay is not None:
        why = "it was recorded to, or replayed from, a cassette"
    elif not kept.target and workflow is None:
        why = "its workflow came from a program, not from a file: resume it from there"
    elif Path(kept.root) != root:
        why = f"it was begun in {kept.root}, and this is {root}"
    if why:
        raise UsageError(f"run {run_id} cannot be resumed: {why}", hint=_ANEW)


def _named(file: Path, root: Path) -> str:
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return str(file.resolve())


_ANEW = "Start a new run: runner exec"
