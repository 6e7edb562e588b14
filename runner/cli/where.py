"""Opens the journal of the repository that a command is about."""

from __future__ import annotations

import os
from pathlib import Path
from shlex import quote

from runner.journal import Journal
from runner.journalfile import FILE
from runner.prepare import work_tree
from runner.workspace.state import repo_state, state_root


def journal_of(cwd: Path, state_dir: Path | None) -> Journal:
    """Open the journal of the work tree around `cwd`.

    Raises:
        UsageError: No run was recorded there.
    """
    return Journal.open(_state(cwd, state_dir), create=False)


def has_journal(cwd: Path, state_dir: Path | None) -> bool:
    """Return whether any run of the work tree around `cwd` was recorded."""
    return (_state(cwd, state_dir) / FILE).exists()


def _state(cwd: Path, state_dir: Path | None) -> Path:
    return repo_state(work_tree(cwd.resolve()), state_root(state_dir))


def typed(cwd: Path, state_dir: Path | None) -> str:
    """Return the options that another command needs to find the same journal from here."""
    options = ""
    if work_tree(cwd.resolve()) != work_tree(Path.cwd()):
        options += f" -C {quote(str(cwd))}"
    if state_dir is not None and str(state_dir) != os.environ.get("SUBRUNNER_STATE_DIR"):
        options += f" --state-dir {quote(str(state_dir))}"
    return options
