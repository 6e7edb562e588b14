"""Decides where the runner keeps its own files: never in the tree, private to the user."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path

import platformdirs

from runner.errors import UsageError

_NAME_LIMIT = 40


def state_root(option: Path | None) -> Path:
    """Return the directory of all the runner's state, made private (0700) if it was not there.

    Args:
        option: `--state-dir`; `None` is the platform's place for a user's state.

    Raises:
        UsageError: It cannot be made, is no directory, or belongs to somebody else.
    """
    root = option if option is not None else platformdirs.user_state_path("subagent-runner")
    return _private(Path(os.path.abspath(root.expanduser())))  # noqa: PTH100  keeps links as given


def repo_state(root_dir: Path, state_root: Path) -> Path:
    """Return the state directory of one work tree: `repos/<name>-<12 hex of its real path>`.

    Raises:
        UsageError: The state directory lies inside the tree, or cannot be made private.
    """
    real = root_dir.resolve()
    if state_root.resolve().is_relative_to(real):
        raise UsageError(
            f"the state directory {state_root} lies inside the work tree {real}",
            hint="Nothing is ever written into the tree: give a --state-dir outside of it.",
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", real.name).strip("-.")[:_NAME_LIMIT] or "root"
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return _private(_private(state_root / "repos") / f"{name}-{digest}")


def _private(path: Path) -> Path:
    """Make `path` with mode 0700; refuse one that another user prepared or can write to."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
    except OSError as error:
        raise UsageError(
            f"the state directory {path} cannot be made: {error.strerror}",
            hint="Choose another with --state-dir.",
        ) from error
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise UsageError(
            f"the state directory {path} is not private: other users can write to it",
            hint=f"Run `chmod 700 {path}`, or choose another with --state-dir.",
        )
    return path
