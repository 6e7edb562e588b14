"""Finds the hooks that git would run and says how to run them as commands; never runs one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from runner.git.facts import HOOK_NAMES, Hook, HookRun
from runner.git.shadow import expanded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.git.config import Configuration
    from runner.git.discover import Places
    from runner.git.facts import HookName, PushPlan, RepositoryFacts, Staged

_MOST_FILES = 500
_MOST_BYTES = 5_000_000


def hooks_directory(config: Configuration, places: Places) -> Path:
    """Return where git looks for hooks, through `core.hooksPath` too."""
    configured = config.merged.get("core.hookspath")
    return expanded(configured, places.root) if configured else places.common_dir / "hooks"


def find_hooks(directory: Path) -> dict[str, Hook]:
    """Return the hooks of *directory* that git would run: regular and executable."""
    found: dict[str, Hook] = {}
    for name in HOOK_NAMES:
        path = directory / name
        digest = _digest(path)
        if digest and os.access(path, os.X_OK):
            found[name] = Hook(path, digest)
    return found


def hook_files(directory: Path, root: Path) -> dict[Path, str]:
    """Digest everything beside the hooks, for hooks source their neighbours.

    husky keeps wrappers in `_` and the user's own hooks one level up; both count. A hooks path
    that is the work tree's root itself would count every file: there only hooks do.
    """
    base = directory.parent if directory.name == "_" else directory
    if base.resolve() == root.resolve():
        return {}
    return {path: digest for path in _files(base) if (digest := _digest(path))}


def _files(base: Path) -> Iterator[Path]:
    seen = 0
    for folder, folders, names in os.walk(base):
        folders.sort()
        for name in sorted(names):
            if name.endswith(".sample"):
                continue
            seen += 1
            if seen > _MOST_FILES:
                return
            yield Path(folder) / name


def _digest(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return ""
        mode = b"x" if os.access(path, os.X_OK) else b"-"
        return hashlib.sha256(mode + path.read_bytes()).hexdigest()
    except OSError:
        return ""


def changed_hooks(facts: RepositoryFacts) -> tuple[str, ...]:
    """Name the hooks, and files beside them, that are not what they were at the start.

    Nothing counts where there was no hook at the start: what an installer adds during the run
    (`npm ci` with husky) is not run by this one.
    """
    if not facts.hooks:
        return ()
    now = hook_files(facts.hooks_dir, facts.root)
    changed = {path for path, digest in facts.hook_files.items() if now.get(path) != digest}
    changed |= {path for path in now if path not in facts.hook_files}
    hooks = find_hooks(facts.hooks_dir)
    changed |= {
        hook.path
        for name, hook in facts.hooks.items()
        if name not in hooks or hooks[name].sha256 != hook.sha256
    }
    return tuple(sorted(str(path) for path in changed))


def invocation(
    facts: RepositoryFacts,
    name: HookName,
    staged: Staged | None,
    message_file: Path | None,
    push: PushPlan | None,
) -> HookRun | None:
    """Say how git would have run the hook: arguments, environment and input."""
    hook = facts.hooks.get(name)
    if hook is None:
        return None
    env = _environment(facts, staged)
    path = str(hook.path)
    if name == "pre-push":
        if push is None:
            return None
        line = f"{push.local_ref} {push.sha} {push.remote_ref} {push.remote_sha}\n"
        return HookRun((path, push.remote, push.url), env, line.encode())
    if name == "pre-commit":
        return HookRun((path,), env, b"")
    if message_file is None:
        return None
    source = ("message",) if name == "prepare-commit-msg" else ()
    return HookRun((path, str(message_file), *source), env, b"")


def _environment(facts: RepositoryFacts, staged: Staged | None) -> Mapping[str, str]:
    """Make the environment that `git commit PATHS` gives its hooks.

    The hook finds the repository by its working directory, as it does under git; GIT_DIR is not
    set, for that misleads hooks that look at other repositories. It sees the private index.
    """
    env = {"GIT_EDITOR": ":", "GIT_PREFIX": ""}
    if facts.identity is not None:
        env["GIT_AUTHOR_NAME"], env["GIT_AUTHOR_EMAIL"] = facts.identity
    if staged is not None:
        env["GIT_INDEX_FILE"] = str(staged.index)
    return env
