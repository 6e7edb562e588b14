"""`runner init`: looks at a repository and writes a workflow that passes while it is unbroken.

    gather(root) -> Evidence -> propose -> Proposal -> render -> the file

A step is written only when the repository itself uses the tool and the tool is found; what was
seen and left out is said, with what to do about it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.frozen import frozen
from runner.init import others, python
from runner.init.ci import CI, ci_job
from runner.init.evidence import gather
from runner.init.proposal import Proposal, arranged
from runner.init.render import workflow

if TYPE_CHECKING:
    from pathlib import Path

    from runner.init.evidence import Evidence

__all__ = ["CI", "Proposal", "Written", "initialise", "propose"]

WORKFLOW = ".runner/workflow.yaml"
CI_FILES: dict[CI, str] = {
    "github": ".github/workflows/runner.yml",
    "gitlab": ".gitlab-ci.yml",
}


@frozen
class Written:
    """What `init` did."""

    proposal: Proposal
    files: tuple[str, ...]
    """Relative to the root."""
    kept: bool = False
    """A workflow was there already and was left as it is: only a CI job was asked for besides."""


def propose(evidence: Evidence) -> Proposal:
    """Decide which checks to write, and what to say about the others."""
    direct = python.propose(evidence) + others.node(evidence)
    direct += others.rust(evidence) + others.go(evidence)
    if "lint" not in direct.roles:
        direct += others.pre_commit(evidence)
    broken = [f"{name} cannot be parsed, so nothing in it was seen" for name in evidence.broken]
    direct += Proposal((), tuple(broken))
    return arranged(direct + others.make(evidence, direct.roles))


def initialise(root: Path, *, ci: CI | None = None, force: bool = False) -> Written:
    """Look at `root` and write the workflow, and the CI job when asked.

    Beside a workflow that is there already the CI job alone is written.

    Raises:
        UsageError: A file that would be written exists (with `force` it is replaced), or one cannot
            be written.
    """
    proposal = propose(gather(root))
    config = root / ".git"
    text = workflow(proposal, git=config.exists(), remote=remote_of(root))
    texts = {WORKFLOW: text}
    kept = ci is not None and not force and (root / WORKFLOW).is_file()
    if kept:
        del texts[WORKFLOW]
    if ci is not None:
        texts[CI_FILES[ci]] = ci_job(ci, proposal)
    there = [path for path in texts if (root / path).exists()]
    if there and not force:
        message = f"{' and '.join(there)} exists already"
        again = f"runner init{f' --ci {ci}' if ci else ''} --force"
        also = f", and {WORKFLOW} with it" if kept else ""
        raise UsageError(message, hint=f"To replace it{also}: {again}")
    for path, content in texts.items():
        _write(root / path, content)
    return Written(proposal, tuple(texts), kept)


def _write(path: Path, content: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def remote_of(root: Path) -> str:
    """Return the remote to push to: `origin`, else the first one; empty without any."""
    config = root / ".git" / "config"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    names: list[str] = re.findall(r'^\s*\[remote "([\w./-]+)"\]', text, re.MULTILINE)
    return "origin" if "origin" in names else next(iter(names), "")
