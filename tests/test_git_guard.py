"""Around a model's attempt: what happened to `.git` is found, named, and undone byte for byte."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest
from gitrepo import Repo, commit_from, make_repo

from runner.errors import GitRefused

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def repo(world: Path) -> Repo:
    repo = make_repo(world)
    repo.write("src/app.py", "print('stash me')\n")
    repo.git("stash")
    repo.git("branch", "old")
    repo.git("pack-refs", "--all")
    repo.git("tag", "v1")
    repo.write("staged.txt", "staged\n")
    repo.git("add", "staged.txt")
    return repo


def _files(repo: Repo) -> dict[str, bytes]:
    """Read everything under `.git` that means something."""
    dot = repo.root / ".git"
    skipped = ("objects/", "ORIG_HEAD", "COMMIT_EDITMSG", "FETCH_HEAD")
    return {
        name: path.read_bytes()
        for path in sorted(dot.rglob("*"))
        if path.is_file() and not (name := str(path.relative_to(dot))).startswith(skipped)
    }


def _commit(repo: Repo) -> None:
    repo.write("src/app.py", "print('by the model')\n")
    repo.git("commit", "-qam", "feat: sneaky")


def _amend(repo: Repo) -> None:
    repo.git("commit", "-q", "--amend", "-m", "rewritten")


def _edit(path: str, text: str = "evil\n") -> Callable[[Repo], None]:
    def edit(repo: Repo) -> None:
        file = repo.root / ".git" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    return edit


def _hook(repo: Repo) -> None:
    _edit("hooks/pre-commit", "#!/bin/sh\n")(repo)
    (repo.root / ".git/hooks/pre-commit").chmod(0o755)


def _hook_mode(repo: Repo) -> None:
    (repo.root / ".git/hooks/update.sample").chmod(0o700)


def _link_refs(repo: Repo) -> None:
    refs = repo.root / ".git/refs/heads"
    shutil.copytree(refs, repo.home / "heads")
    shutil.rmtree(refs)
    refs.symlink_to(repo.home / "heads")


def _git(*args: str) -> Callable[[Repo], object]:
    return lambda repo: repo.git(*args)


ATTEMPTS: dict[str, tuple[Callable[[Repo], object], str]] = {
    "commit": (_commit, "refs/heads/main was moved"),
    "amend": (_amend, "refs/heads/main was moved"),
    "branch": (_git("branch", "new"), "refs/heads/new was added"),
    "delete branch": (_git("branch", "-D", "old"), "refs/heads/old was removed"),
    "tag": (_git("tag", "-f", "v1", "HEAD"), ""),
    "move tag": (
        _git("update-ref", "refs/tags/v1", "stash@{0}"),
        "refs/tags/v1 was moved",
    ),
    "tracking ref": (
        _git("update-ref", "refs/remotes/o/x", "HEAD"),
        "refs/remotes/o/x was added",
    ),
    "switch": (_git("switch", "-q", "old"), "HEAD was changed"),
    "detach": (_git("checkout", "-q", "--detach"), "HEAD was changed"),
    "stash drop": (_git("stash", "drop"), "refs/stash was removed"),
    "stash": (_git("stash", "-q"), "refs/stash was moved"),
    "add": (lambda repo: (repo.write("x", "x"), repo.git("add", "x")), "the index was changed"),
    "assume unchanged": (
        _git("update-index", "--assume-unchanged", "src/app.py"),
        "the index was changed",
    ),
    "reset": (_git("reset", "-q"), "the index was changed"),
    "broken index": (_edit("index", "broken"), "the index was changed"),
    "config": (_git("config", "alias.x", "!evil"), "config was changed"),
    "config removed": (lambda repo: (repo.root / ".git/config").unlink(), "config was removed"),
    "hook": (_hook, "hooks/pre-commit was added"),
    "hook mode": (_hook_mode, "hooks/update.sample was changed"),
    "attributes": (_edit("info/attributes"), "info/attributes was added"),
    "exclude": (_edit("info/exclude"), "info/exclude was changed"),
    "commondir": (_edit("commondir"), "commondir was added"),
    "worktree config": (_edit("config.worktree"), "config.worktree was added"),
    "alternates": (_edit("objects/info/alternates"), "objects/info/alternates was added"),
    "merge state": (_edit("MERGE_HEAD"), "MERGE_HEAD was added"),
    "submodule config": (_edit("modules/x/config"), "modules/x/config was added"),
    "pack refs": (_git("pack-refs", "--all"), ""),
    "status": (lambda repo: (os.utime(repo.root / "README.md"), repo.git("status")), ""),
    "gc": (_git("gc", "-q"), ""),
    "linked refs": (_link_refs, "refs/heads was added"),
}


@pytest.mark.parametrize("what", list(ATTEMPTS))
async def test_each_change_is_named_and_undone(repo: Repo, what: str) -> None:
    act, words = ATTEMPTS[what]
    repository = await repo.open()
    guard = await repository.guard()
    before = _files(repo)
    act(repo)
    said = await repository.tampered(guard)
    if not words:
        assert said == ()
        return
    assert any(words in line for line in said), said
    await repository.undo(guard)
    assert _files(repo) == before
    assert await repository.tampered(guard) == ()
    repo.git("fsck", "--no-dangling")


async def test_several_guards_in_a_row(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    for number in range(3):
        repo.write("src/app.py", f"print({number})\n")
        await commit_from(repository, start, ("src/app.py",))
        guard = await repository.guard()
        head = repo.head()
        _commit(repo)
        await repository.undo(guard)
        assert repo.head() == head


async def test_undo_leaves_the_work_tree_alone(repo: Repo) -> None:
    repository = await repo.open()
    guard = await repository.guard()
    _commit(repo)
    await repository.undo(guard)
    assert (repo.root / "src/app.py").read_text() == "print('by the model')\n"
    assert repo.status() == [" M src/app.py", "A  staged.txt"]


async def test_a_git_directory_that_was_moved_and_rebuilt_is_brought_back(repo: Repo) -> None:
    repository = await repo.open()
    guard = await repository.guard()
    before = _files(repo)
    (repo.root / ".git").rename(repo.root / ".g")
    repo.git("init", "-q")
    assert any(".git was replaced" in line for line in await repository.tampered(guard))
    await repository.undo(guard)
    assert _files(repo) == before
    assert not (repo.root / ".g").exists()
    assert repo.git("log", "-1", "--format=%s") == "chore: begin\n"


async def test_a_git_directory_that_is_gone_is_told_loudly(repo: Repo) -> None:
    repository = await repo.open()
    guard = await repository.guard()
    (repo.root / ".git").rename(repo.home / "elsewhere")
    with pytest.raises(GitRefused, match="moved away"):
        await repository.undo(guard)


async def test_the_pointer_file_of_a_linked_worktree(repo: Repo) -> None:
    repo.git("worktree", "add", "-q", "-b", "side", str(repo.home / "linked"))
    linked = Repo(repo.home / "linked", repo.home)
    repository = await linked.open()
    guard = await repository.guard()
    pointer = (linked.root / ".git").read_bytes()
    (linked.root / ".git").write_text("gitdir: /nowhere\n")
    assert any(".git was changed" in line for line in await repository.tampered(guard))
    await repository.undo(guard)
    assert (linked.root / ".git").read_bytes() == pointer
    repo.write("README.md", "# The user works in the main work tree meanwhile\n")
    repo.git("add", "README.md")
    assert await repository.tampered(guard) == ()


async def test_many_refs_in_bounded_time(repo: Repo) -> None:
    head = repo.head()
    lines = "".join(f"create refs/heads/many/{number} {head}\n" for number in range(3000))
    repo.git("update-ref", "--stdin", stdin=lines)
    repo.git("pack-refs", "--all")
    repository = await repo.open()
    guard = await repository.guard()
    repo.git("update-ref", "-d", "refs/heads/many/7")
    assert await repository.tampered(guard) == (f"refs/heads/many/7 was removed from {head}",)
    await repository.undo(guard)
    assert repo.git("rev-parse", "refs/heads/many/7").strip() == head
