"""Opens the journal of the repository that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.journal import Journal
from runner.prepare import work_tree
from runner.workspace.state import repo_state, state_root

if TYPE_CHECKING:
    from pathlib import Path


def journal_of(cwd: Path, state_dir: Path | None) -> Journal:
    """Open the journal of the work tree around `cwd`.

    Raises:
        UsageError: No run was recorded there.
    """
    state = repo_state(work_tree(cwd.resolve()), state_root(state_dir))
    return Journal.open(state, create=False)
