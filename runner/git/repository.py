"""The one door to a user's repository: facts, guard, status, commit, hooks, push and rebase."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio

from runner.errors import GitRefused, UsageError
from runner.frozen import frozen
from runner.git import committing, hookcopy, hooks, rebasing, staging
from runner.git.checkout import write_checkout
from runner.git.config import Configuration, read_configuration, read_file
from runner.git.discover import find_places, operation, read_head, remote_urls
from runner.git.facts import Dirty, NotFastForward, PushAuth, Rebased, RepositoryFacts
from runner.git.guarding import Watch
from runner.git.leaks import Leaks, Reach
from runner.git.opening import head_commit, make_facts, make_private, pins, refuse_auth
from runner.git.process import find_git
from runner.git.pushing import Courier, Target, checkout_header
from runner.git.shadow import make_shadow, point_head
from runner.git.status import Status, copy_index, read_status
from runner.git.urls import checked_branch, masked, parse_remote
from runner.globs import matches_any
from runner.secretscan import Scanner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from runner.git.facts import (
        CommitFact,
        Conflict,
        Files,
        Guard,
        HookName,
        HookRun,
        Pushed,
        PushPlan,
        Staged,
        StartState,
        TakenUp,
    )
    from runner.git.hookcopy import HookCopy
    from runner.git.shadow import Shadow
    from runner.git.urls import Remote

T = TypeVar("T")

_EDGE = 500
"""Commits at the edge of a shallow clone that are known to be elsewhere."""


@frozen
class Opened:
    """What a repository is opened with, apart from its facts."""

    shadow: Shadow
    config: Configuration
    state: Path
    allowed: frozenset[str]
    protected: tuple[str, ...]
    scanner: Scanner


class Repository:
    """A git work tree. Every method verifies first that `.git` is still the one that was opened."""

    def __init__(self, facts: RepositoryFacts, opened: Opened) -> None:
        self.facts = facts
        self._opened = opened
        self._shadow = opened.shadow
        self._stage = staging.Stage(opened.shadow, opened.allowed, facts.partial)
        self._watch = Watch(opened.shadow, opened.state / "guard")
        self._leaks = Leaks(opened.shadow, opened.scanner)
        self._courier = Courier(opened.shadow, opened.config.user, opened.state / "courier.git")
        self._pinned = pins(opened.shadow.places)
        self._made: list[str] = []
        self._seen_there: dict[tuple[str, str], str] = {}
        self._plan: rebasing.Rebase | None = None
        self._count = 0

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        state: Path,
        filters: Collection[str] = (),
        protected: Collection[str] = (),
        scanner: Scanner | None = None,
    ) -> Repository | None:
        """Read the facts once. `None`: *directory* is in no git work tree.

        Args:
            directory: The work tree or a directory inside it.
            state: A private directory outside the work tree; survives as long as the run.
            filters: Names of filter drivers that the user allows to run (`lfs` ...).
            protected: Globs of branches that the user does not allow commits on.
            scanner: Looks for keys in what is committed or pushed; by default for those that
                anybody would know.
        """
        places = find_places(directory)
        if places is None:
            return None
        git = find_git(places.root)
        make_private(state)
        config = await read_configuration(
            git, places.root, places.git_dir, places.common_dir, state
        )
        shadow = make_shadow(git, state, places, config, filters)
        branch_ref, commit = read_head(places)
        point_head(shadow, branch_ref, commit)
        head = await head_commit(shadow)
        facts = make_facts(places, config, branch_ref, head)
        allowed = frozenset(filters)
        opened = Opened(shadow, config, state, allowed, tuple(protected), scanner or Scanner())
        return cls(facts, opened)

    async def guard(self) -> Guard:
        """Record HEAD, refs, config, hooks, index and the `.git` file before a model's attempt."""
        self._verify()
        return await anyio.to_thread.run_sync(self._watch.take)

    async def tampered(self, guard: Guard) -> tuple[str, ...]:
        """Say in words what differs from *guard*; a refreshed index or packed refs do not."""
        return (await self._watch.compare(guard)).said

    async def undo(self, guard: Guard) -> None:
        """Put back, byte for byte, what differs from *guard*."""
        await self._watch.undo(guard)

    async def status(self) -> Dirty:
        """Tell what the user's own git would call changed."""
        found = await self._status()
        return Dirty(tuple(entry.path for entry in found.entries), found.untracked)

    async def start_state(self) -> StartState:
        """Record, at the start of a run, what is changed, untracked and staged."""
        return staging.start_state(await self._status())

    async def prepare(
        self, files: Files, *, start: StartState, run_paths: Collection[str]
    ) -> Staged | None:
        """Stage what a commit takes up in a private index. `None`: nothing to commit.

        Raises:
            GitRefused: Not safe here, or a path has a filter that is not allowed by name.
        """
        self._verify()
        self._refuse_unsafe()
        parent = await self._current_head()
        return await staging.prepare(
            self._stage,
            files,
            start=start,
            run_paths=run_paths,
            parent=parent,
            index=self._new_index(),
        )

    async def take_up(
        self,
        staged: Staged,
        *,
        touched: Collection[str] = (),
        allows: Callable[[str], bool] | None = None,
    ) -> TakenUp:
        """Take up what a hook staged in the private index or changed in the work tree.

        Args:
            staged: What the hook was run on.
            touched: Paths that changed in the work tree while the hook ran.
            allows: The scope; `None` allows all.
        """
        self._verify()
        return await staging.take_up(
            self._stage, staged, touched=touched, allows=allows or (lambda _: True)
        )

    async def checkout(self, staged: Staged, destination: Path) -> None:
        """Write a clean checkout, with a small `.git` of its own, to an empty directory."""
        self._verify()
        await write_checkout(self._stage, staged, destination, self.facts)

    async def refuse_keys(self, staged: Staged) -> None:
        """Refuse to commit what carries a key: before a hook or a model sees it.

        Raises:
            GitRefused: With the places, never the key.
        """
        await self._leaks.refuse_tree(staged.tree, staged.parent, staged.changes)

    async def commit(self, staged: Staged, message: str) -> CommitFact:
        """Commit exactly *staged*'s tree, if HEAD is still its parent.

        Raises:
            GitRefused: HEAD moved, the index is locked, it carries a key, ...; nothing was changed.
        """
        self._verify()
        self._refuse_unsafe()
        if await self._current_head() != staged.parent:
            raise GitRefused(
                f"{self.facts.branch or 'HEAD'} moved since the commit was prepared",
                hint="somebody else committed meanwhile; run again on the branch as it is now",
            )
        await self.refuse_keys(staged)
        self._leaks.refuse_message(message)
        # A commit that was begun is ended: half of it would leave the index behind the branch.
        fact = await _unbroken(
            committing.commit_staged(self._shadow, staged, self._ref, message, self._identity())
        )
        self._made.append(fact.sha)
        return fact

    async def find_commit(self, run_id: str, step: str = "") -> str | None:
        """Look for a commit of this run (and step) by its trailers; newest first from HEAD."""
        head = await head_commit(self._shadow)
        return await committing.find_commit(self._shadow, head, run_id, step)

    async def commits_of(self, run_id: str) -> list[committing.Made]:
        """Return the commits of a run that HEAD reaches, oldest first."""
        return await committing.commits_of(self._shadow, await head_commit(self._shadow), run_id)

    async def rejoin(
        self, run_id: str, *, expected: str, finish: Callable[[committing.Made | None], bool]
    ) -> tuple[committing.Made, ...]:
        """Take over what an earlier process of a run did here; return its commits, oldest first.

        Args:
            run_id: As in the commits' trailers.
            expected: Commit that HEAD was known to be at; empty for an unborn branch.
            finish: Tells by HEAD's commit, where that is the run's, whether it moved HEAD there
                without ending what follows.

        Raises:
            UsageError: HEAD is where the run cannot have brought it.
        """
        self._verify()
        head = await self._current_head()
        made = await committing.commits_of(self._shadow, head, run_id)
        newest = made[-1] if made and made[-1].sha == head else None
        if newest is None and not await self._reaches(head, expected):
            raise UsageError(
                f"HEAD was at {expected[:12]} and is at {head[:12] or 'no commit'}, "
                "which does not hold it",
                hint="Bring it back (git reflog), or start a new run: runner exec",
            )
        committing.settle_locks(self.facts.git_dir, finish=finish(newest))
        self._made = [one.sha for one in made]
        return tuple(made)

    async def _reaches(self, head: str, commit: str) -> bool:
        if commit in ("", head):
            return True
        if not head:
            return False
        done = await self._shadow.run("merge-base", "--is-ancestor", commit, head)
        return done.code == 0

    def hook_invocation(
        self,
        name: HookName,
        *,
        staged: Staged | None = None,
        message_file: Path | None = None,
        push: PushPlan | None = None,
    ) -> HookRun | None:
        """How to run a hook, or `None` when the repository had none at the start."""
        return hooks.invocation(self.facts, name, staged, message_file, push)

    def copy_for_hook(self, directory: Path) -> HookCopy:
        """Make a `.git` that a hook may write in a sandbox; its objects are kept by `keep`."""
        return hookcopy.copy_for_hook(self.facts, directory)

    async def keep(self, copy: HookCopy) -> None:
        """Take over the objects that a hook made in its own `.git`."""
        await hookcopy.keep_objects(self._shadow, copy.objects)

    def hooks_changed(self) -> tuple[str, ...]:
        """Hooks that are not what they were at the start (exit 5)."""
        return hooks.changed_hooks(self.facts)

    async def push_plan(
        self, *, remote: str, branch: str, auth: PushAuth, expected: str
    ) -> PushPlan:
        """Find out where a push would go, for the pre-push hook and the journal's intent.

        Raises:
            GitRefused: It is not allowed, cannot be asked, or would carry a key.
        """
        target = await self._target(remote, branch, auth)
        local = self._ref or "HEAD"
        plan = await self._courier.plan(target, expected, local)
        self._seen_there[remote, branch] = plan.remote_sha
        if plan.remote_sha != expected:
            await self._refuse_push(remote, branch, expected)
        return plan

    async def push(
        self, *, remote: str, branch: str, auth: PushAuth, expected: str
    ) -> Pushed | NotFastForward:
        """Push the commit *expected* to *branch*, never by force, and read it back.

        Raises:
            GitRefused: With the reason and the command to type.
        """
        target = await self._target(remote, branch, auth)
        await self._shadow.check("rev-parse", "--verify", "--quiet", f"{expected}^{{commit}}")
        await self._refuse_push(remote, branch, expected)
        result = await self._courier.push(target, expected)
        if isinstance(result, NotFastForward):
            return replace(result, rebase=self.facts.upstream == (remote, branch))
        await self.note_pushed(result)
        return result

    async def rebase_onto_upstream(
        self,
        *,
        auth: PushAuth | None = None,
        announce: Callable[[rebasing.Rebase], None] = lambda _: None,
    ) -> Rebased | Conflict:
        """Fetch the upstream and put this run's own commits on top of it.

        *announce* is told what is about to be done, before anything is moved.

        Raises:
            GitRefused: More than this run's own commits would have to be rewritten.
        """
        self._verify()
        self._refuse_unsafe()
        plan = await self._rebase_plan(auth or PushAuth())
        announce(plan)
        work = rebasing.rebase(self._stage, plan, index_name="index.rebase")
        result = await _unbroken(work)
        if isinstance(result, Rebased):
            self._made = await self._commits_on(result)
        else:
            self._plan = plan
        return result

    async def conflict_again(self, onto: str) -> Conflict:
        """Return the conflict that an earlier process of the run was about to resolve.

        Raises:
            GitRefused: There is none any more.
        """
        self._verify()
        self._refuse_unsafe()
        plan = await self._plan_onto(onto)
        found = await rebasing.replay(self._shadow, plan)
        if isinstance(found, str):
            raise GitRefused("the rebase that was cut off has no conflict any more")
        self._plan = plan
        return found

    async def rebase_paths(self, onto: str) -> frozenset[str]:
        """Return the paths that a rebase of this run's commits changes in the work tree."""
        return await rebasing.touched_by(self._shadow, await self._plan_onto(onto))

    async def show_conflict(self, conflict: Conflict) -> None:
        """Write the merged files, with markers, into the work tree; HEAD stays where it is."""
        self._verify()
        head = await self._current_head()
        # Shown in full or not at all, so that it can be taken back.
        await _unbroken(rebasing.show_conflict(self._stage, head, conflict, "index.conflict"))

    async def resolve(self, conflict: Conflict, *, touched: Collection[str] = ()) -> Rebased:
        """Commit the mended conflict on top of the upstream.

        Raises:
            GitRefused: A marker is left, or HEAD moved.
        """
        self._verify()
        self._refuse_unsafe()
        if self._plan is None or self._plan.onto != conflict.onto:
            raise GitRefused("no rebase with this conflict is under way")
        if await self._current_head() != self._plan.head:
            raise GitRefused("HEAD moved while the conflict was being resolved")
        self._leaks.refuse_message(conflict.message)
        admit = self._leaks.refuse_tree
        work = rebasing.resolve(self._stage, self._plan, conflict, touched, admit)
        result = await _unbroken(work)
        self._made, self._plan = [result.sha], None
        return result

    async def _status(self) -> Status:
        index = copy_index(self._shadow, self._new_index())
        try:
            return await read_status(self._shadow, index, self._opened.allowed)
        finally:
            index.unlink(missing_ok=True)

    @property
    def ref(self) -> str:
        """Full name of the current branch, or `HEAD` when detached."""
        return self._ref or "HEAD"

    @property
    def _ref(self) -> str:
        return f"refs/heads/{self.facts.branch}" if self.facts.branch else ""

    def _new_index(self) -> Path:
        self._count += 1
        place = self._opened.state / "index"
        if self._count == 1:
            staging.forget_old(place)
        # Alone in its directory: a hook may write there, and nowhere else of the state. None of an
        # earlier process's: one that was killed may have left the lock that git holds while it
        # writes.
        directory = place / f"{os.getpid()}.{self._count}"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o700, parents=True)
        return directory / "index"

    def _identity(self) -> tuple[str, str]:
        if self.facts.identity is None:
            raise GitRefused(
                "git does not know who you are",
                hint="git config --global user.name 'Your Name' and "
                "git config --global user.email you@example.com",
            )
        return self.facts.identity

    def _verify(self) -> None:
        """Refuse to go on when `.git` is not the one that was opened."""
        changed = [
            path for path, pin in pins(self._shadow.places).items() if self._pinned.get(path) != pin
        ]
        if changed:
            raise GitRefused(
                f"{changed[0]} was replaced or changed during the run",
                hint="nothing was committed or pushed",
            )

    def _refuse_unsafe(self) -> None:
        """Refuse a commit where it would damage something; nothing has been changed yet."""
        facts = self.facts
        if facts.unsupported:
            raise GitRefused(facts.unsupported)
        under_way = operation(facts.git_dir)
        if under_way:
            raise GitRefused(
                f"a {under_way} is in progress",
                hint=f"finish it or `git {under_way} --abort` first; nothing was changed",
            )
        lock = facts.git_dir / "index.lock"
        if os.path.lexists(lock):
            raise GitRefused(
                f"{lock} exists: another git process is at work, or one was killed",
                hint=f"if no git process runs any more: rm '{lock}'",
            )
        if facts.branch and matches_any(self._opened.protected, facts.branch):
            raise GitRefused(
                f"{facts.branch!r} is protected by your configuration",
                hint="git switch -c another-branch",
            )
        self._identity()

    async def _current_head(self) -> str:
        """Return HEAD's commit, if HEAD still is where the run began."""
        branch_ref, commit = read_head(self._shadow.places)
        if branch_ref != self._ref:
            raise GitRefused(
                f"HEAD was on {self.facts.branch or 'no branch'} at the start and is on "
                f"{branch_ref.removeprefix('refs/heads/') or 'no branch'} now",
                hint="nothing was committed; go back to the branch and run again",
            )
        point_head(self._shadow, branch_ref, commit)
        return await head_commit(self._shadow)

    async def _target(self, remote: str, branch: str, auth: PushAuth) -> Target:
        """Check everything about a push that can be checked without the network."""
        self._verify()
        if self.facts.unsupported:
            raise GitRefused(self.facts.unsupported)
        ref = checked_branch(branch)
        if matches_any(self._opened.protected, branch):
            raise GitRefused(f"{branch!r} is protected by your configuration")
        url = self.facts.push_urls.get(remote, "")
        if not url:
            known = ", ".join(sorted(self.facts.push_urls)) or "none"
            raise GitRefused(
                f"there is no remote {remote!r} (there is: {known})",
                hint=f"git remote add {remote if remote.isalnum() else 'origin'} URL",
            )
        found = parse_remote(url, self.facts.root)
        await self._refuse_changed_url(remote, url)
        refuse_auth(auth, found.protocol)
        header = checkout_header(self._opened.config.repository, found)
        if auth.trust_checkout and not header:
            header = await self._included_header(found)
        return Target(remote, found, ref, auth, header)

    async def _refuse_push(self, remote: str, branch: str, sha: str) -> None:
        there = self._seen_there.get((remote, branch), "")
        has = [there] if there.strip("0") else []
        if self.facts.shallow:
            # What lies below the edge of a shallow clone came from a remote.
            edge = self._shadow.places.common_dir / "shallow"
            has += edge.read_text("ascii", "replace").split()[:_EDGE]
        await self._leaks.refuse_push(Reach(sha, remote, branch, tuple(has)))

    async def _refuse_changed_url(self, remote: str, recorded: str) -> None:
        places = self._shadow.places
        now = await read_configuration(
            self._shadow.git,
            places.root,
            places.git_dir,
            places.common_dir,
            self._opened.state,
        )
        url = remote_urls(now, places.root, push=True).get(remote, "nothing")
        if url != recorded:
            raise GitRefused(
                f"the URL of {remote!r} changed during the run: "
                f"it was {masked(recorded)}, it is {masked(url)}",
                hint="nothing was pushed; check .git/config",
            )

    async def _included_header(self, remote: Remote) -> str:
        """Look for a CI checkout's header in the files that the repository's config includes.

        Only on the user's grant: newer checkouts keep the header outside `.git` and include it.
        """
        repository = self._opened.config.repository
        paths = [path for _, paths in repository.sub("includeif", "path") for path in paths]
        for path in (*paths, *repository.all("include.path")):
            settings = await read_file(
                self._shadow.git, self.facts.root, Path(path), self._opened.state
            )
            header = checkout_header(settings, remote)
            if header:
                return header
        return ""

    async def note_pushed(self, pushed: Pushed) -> None:
        """Move the remote-tracking ref as git does, so that `git status` counts right."""
        branch = pushed.ref.removeprefix("refs/heads/")
        wanted = f"+refs/heads/*:refs/remotes/{pushed.remote}/*"
        specs = self._opened.config.repository.all(f"remote.{pushed.remote}.fetch")
        if wanted in specs:
            ref = f"refs/remotes/{pushed.remote}/{branch}"
            # Best effort: the push is done, whatever becomes of the note about it.
            await self._shadow.run("update-ref", "-m", "update by push", ref, pushed.sha)

    async def _rebase_plan(self, auth: PushAuth) -> rebasing.Rebase:
        if self.facts.upstream is None:
            raise GitRefused("the current branch follows no upstream")
        remote, branch = self.facts.upstream
        target = await self._target(remote, branch, auth)
        url = self.facts.remotes.get(remote, target.remote.url)
        target = replace(target, remote=parse_remote(url, self.facts.root))
        onto = await self._courier.fetch(target)
        head = await self._current_head()
        if not self._made or self._made[-1] != head:
            raise GitRefused(
                "HEAD is not a commit of this run", hint="git pull --rebase && git push"
            )
        return await self._plan_onto(onto)

    async def _plan_onto(self, onto: str) -> rebasing.Rebase:
        return await rebasing.plan_rebase(
            self._shadow, self._ref, self._made, onto, self._identity()
        )

    async def _commits_on(self, rebased: Rebased) -> list[str]:
        out = await self._shadow.check("rev-list", "--reverse", f"{rebased.onto}..{rebased.sha}")
        return out.decode().split()


async def _unbroken(work: Awaitable[T]) -> T:
    """Let *work* come to its end even when the run is cancelled meanwhile."""
    with anyio.CancelScope(shield=True):
        return await work
    raise AssertionError("a shield swallows nothing")
