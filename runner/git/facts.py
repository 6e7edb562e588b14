"""The nouns of git: what a repository is, what is staged for a commit, what a push came to."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.outcome import Change

HOOK_NAMES = ("pre-commit", "prepare-commit-msg", "commit-msg", "pre-push")
"""The hooks that are run, as commands; all others stay silent."""

HookName = Literal["pre-commit", "prepare-commit-msg", "commit-msg", "pre-push"]

Files = Literal["run", "all", "staged"] | tuple[str, ...]
"""What a commit takes up; a tuple holds globs."""


@frozen
class Hook:
    """A hook that git would have run, as it was at the start."""

    path: Path
    sha256: str


@frozen
class RepositoryFacts:
    """What a repository was when the run started: read once, as data, and pinned."""

    root: Path
    """The work tree."""
    git_dir: Path
    common_dir: Path
    """Equal to `git_dir` but in a linked worktree."""
    head: str
    """HEAD's commit; empty on an unborn branch."""
    branch: str
    """Short name of the current branch; empty when HEAD is detached."""
    upstream: tuple[str, str] | None
    """Remote and branch that the current branch follows."""
    remotes: Mapping[str, str]
    """Name to URL, as fetched from; `insteadOf` of the user's own configuration is applied."""
    push_urls: Mapping[str, str]
    identity: tuple[str, str] | None
    """Name and address of the author."""
    hooks: Mapping[str, Hook]
    hooks_dir: Path
    hook_files: Mapping[Path, str]
    """Every file beside the hooks, by its digest: hooks source their neighbours."""
    operation: str
    """``merge``, ``rebase``, ``cherry-pick``, ``revert``, ``am`` or ``bisect``; empty for none."""
    sparse: bool
    shallow: bool
    partial: bool
    """A clone that leaves objects at its remote."""
    filters: tuple[str, ...]
    """Names of the filter drivers that some configuration defines."""
    unsupported: str = ""
    """Why nothing can be committed or pushed here; empty when it can."""
    notes: tuple[str, ...] = ()
    """What a person should know: for example that commits of a run are not signed."""


@frozen
class Dirty:
    """What the user's own git would call changed."""

    changed: tuple[str, ...]
    """Tracked paths, staged or not."""
    untracked: tuple[str, ...]
    """Not ignored; a directory with a repository of its own ends with a slash."""

    def __bool__(self) -> bool:
        return bool(self.changed or self.untracked)


@frozen
class StartState:
    """What was changed, untracked and staged when the run started."""

    changed: frozenset[str]
    untracked: frozenset[str]
    staged_whole: frozenset[str]
    """Paths staged exactly as they stood in the work tree."""


@frozen
class Staged:
    """A tree that is ready to be committed; it does not change when the work tree does."""

    tree: str
    parent: str
    """Commit that it goes on; empty on an unborn branch."""
    changes: tuple[Change, ...]
    left_out: tuple[str, ...]
    """Changed or untracked paths that the commit does not take up."""
    index: Path
    """Private index for hooks and the clean checkout; what is committed is `tree`."""
    diff: str
    """Unified, capped."""
    stat: str
    partly: frozenset[str] = frozenset()
    """Paths whose staged content is not the work tree's (`files: staged`)."""
    files: Files = "run"
    index_before: Mapping[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])
    """Mode and object that the user's index had for the committed paths."""
    index_digest: str = ""
    """Of the user's index file when it was copied."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths that the commit changes."""
        return tuple(change.path for change in self.changes)


@frozen
class TakenUp:
    """What a hook changed: in the private index, in the work tree, or both."""

    staged: Staged | None
    """The new tree; `None` when nothing is left to commit."""
    changed: tuple[str, ...]
    """Paths that the hook changed and that are now part of the commit."""
    refused: tuple[str, ...]
    """Paths that it changed out of scope; they are left out."""


@frozen
class CommitFact:
    """A commit that was made."""

    sha: str
    parent: str
    ref: str
    """Full name of the branch, or `HEAD` when detached."""


@frozen
class HookRun:
    """How the engine runs a hook: as a command like any other, in the work tree's root."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    """To lay over the clean environment."""
    stdin: bytes


@frozen
class PushPlan:
    """Where a push goes, as the pre-push hook is told."""

    remote: str
    url: str
    local_ref: str
    sha: str
    remote_ref: str
    remote_sha: str
    """What the remote ref is now; zeros when it does not exist."""


@frozen
class PushAuth:
    """Who the push says it is. A secret never enters an argument, a URL or a file."""

    kind: Literal["auto", "ssh", "helper", "secret"] = "auto"
    secret: str = field(default="", repr=False)
    """Token for `secret`, or the granted one that `auto` may use."""
    username: str = ""
    """For Basic authentication; the URL's own, else `x-access-token`."""
    trust_checkout: bool = False
    """Use the header that the CI system's checkout left in the repository's configuration."""


@frozen
class Pushed:
    """The remote ref was read back and equals the local commit."""

    remote: str
    ref: str
    sha: str


@frozen
class NotFastForward:
    """The remote branch has commits that this one has not."""

    remote: str
    ref: str
    detail: str
    rebase: bool
    """True when it is the current branch's upstream, so that a rebase is due."""
    command: str
    """What a person types to go on by hand."""


@frozen
class Rebased:
    """This run's own commits were put on top of the upstream's."""

    sha: str
    onto: str
    paths: tuple[str, ...]
    """Paths that changed in the work tree."""


@frozen
class Conflict:
    """This run's commits and the upstream's touch the same lines; nothing was changed yet."""

    paths: tuple[str, ...]
    tree: str
    """The merged tree, with conflict markers in `paths`."""
    onto: str
    message: str
    """Message for the commit that resolves it."""
    detail: str = ""


@frozen
class Recorded:
    """One path under `.git` as a guard saw it."""

    kind: Literal["file", "link", "directory", "other"]
    signature: tuple[int, ...]
    """Device, inode, size, mode, mtime and ctime in nanoseconds."""
    digest: str = ""
    """Content's SHA-256, or a link's target."""


@frozen
class Guard:
    """What HEAD, refs, config, hooks and index were before a model's attempt."""

    entries: Mapping[bytes, Recorded]
    """By absolute path."""
    places: Mapping[bytes, tuple[int, int]]
    """Device and inode of the directories that must not be swapped for others."""
