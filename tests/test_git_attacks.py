"""Nothing that a repository's configuration names is ever run by git: group A of the attacks.

Each attack plants a program that leaves a canary. The whole road is walked: open, guard, status,
prepare, checkout, commit, push, rebase, undo.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import anyio
import pytest
from gitrepo import Repo, commit_from, make_repo, try_git

from runner.errors import GitRefused
from runner.git import PushAuth, Repository, StartState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def repo(world: Path) -> Repo:
    repo = make_repo(world)
    bare = world / "remote.git"
    repo.git("init", "-q", "--bare", "-b", "main", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "-u", "origin", "main")
    return repo


def _config(key: str, value: str = "{planted}") -> Callable[[Repo], None]:
    def plant(repo: Repo) -> None:
        repo.git("config", "--add", key, value.format(planted=repo.plant()))

    return plant


def _hooks_directory(repo: Repo) -> None:
    for name in (
        *("pre-commit", "commit-msg", "post-commit", "post-checkout", "pre-push", "post-rewrite"),
        *("reference-transaction", "post-index-change", "fsmonitor-watchman", "pre-auto-gc"),
        *("post-merge", "pre-merge-commit", "pre-rebase", "applypatch-msg", "update"),
    ):
        (repo.root / ".git/hooks" / name).write_bytes(repo.plant().read_bytes())
        (repo.root / ".git/hooks" / name).chmod(0o755)


def _hooks_path(repo: Repo) -> None:
    folder = repo.root / ".githooks"
    folder.mkdir()
    for name in ("pre-commit", "reference-transaction", "post-index-change", "pre-push"):
        (folder / name).write_bytes(repo.plant().read_bytes())
        (folder / name).chmod(0o755)
    repo.git("config", "core.hooksPath", ".githooks")


def _include(repo: Repo) -> None:
    evil = repo.write("evil.config", f"[core]\n\tfsmonitor = {repo.plant()}\n")
    config = repo.root / ".git/config"
    config.write_text(f"[include]\n\tpath = {evil}\n" + config.read_text())
    config.write_text(config.read_text() + f'[includeIf "gitdir:/"]\n\tpath = {evil}\n')


def _textconv(repo: Repo) -> None:
    (repo.root / ".git/info/attributes").write_text("*.py diff=evil merge=evil\n")
    for key in ("diff.evil.textconv", "diff.evil.command", "merge.evil.driver"):
        repo.git("config", key, str(repo.plant()))


def _helpers(repo: Repo) -> None:
    for key in ("credential.helper", "core.askPass", "core.gitProxy", "core.sshCommand"):
        repo.git("config", key, f"!{repo.plant()}" if "helper" in key else str(repo.plant()))
    for key in ("uploadpack", "receivepack"):
        repo.git("config", f"remote.origin.{key}", str(repo.plant_silent()))


def _signing(repo: Repo) -> None:
    for key, value in (
        ("gpg.program", str(repo.plant())),
        ("gpg.ssh.program", str(repo.plant())),
        ("commit.gpgSign", "true"),
        ("push.gpgSign", "if-asked"),
        ("log.showSignature", "true"),
    ):
        repo.git("config", key, value)


def _programs(repo: Repo) -> None:
    for key in (
        "core.pager",
        "core.editor",
        "sequence.editor",
        "pager.status",
        "interactive.diffFilter",
    ):
        repo.git("config", key, str(repo.plant()))
    for name in ("status", "add", "commit", "push", "update-ref", "write-tree"):
        repo.git("config", f"alias.{name}", f"!{repo.plant()}")
    repo.git("config", "trace2.eventTarget", str(repo.canary))


def _git_in_the_tree(repo: Repo) -> None:
    (repo.root / "git").write_bytes(repo.plant().read_bytes())
    (repo.root / "git").chmod(0o755)


ATTACKS: dict[str, Callable[[Repo], None]] = {
    "fsmonitor": _config("core.fsmonitor"),
    "hooks": _hooks_directory,
    "hooks path": _hooks_path,
    "external diff": _config("diff.external"),
    "textconv and merge driver": _textconv,
    "helpers and transports": _helpers,
    "signing": _signing,
    "pager, editor, aliases, trace": _programs,
    "include": _include,
    "git in the work tree": _git_in_the_tree,
    "alternate refs command": _config("core.alternateRefsCommand"),
    "upload-pack hook": _config("uploadpack.packObjectsHook"),
    "receive hooks": _config("receive.procReceiveRefs", "refs/heads"),
    "excludes from a device": _config("core.excludesFile", "/dev/zero"),
    "attributes from a device": _config("core.attributesFile", "/dev/zero"),
    "work tree encoding": _config("i18n.commitEncoding", "UTF-7"),
}


@pytest.mark.parametrize("attack", list(ATTACKS))
async def test_the_whole_road_runs_nothing(
    repo: Repo, attack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ATTACKS[attack](repo)
    repo.canary.unlink(missing_ok=True)  # the user's own git may have been caught while planting
    monkeypatch.setenv("PATH", f".{os.pathsep}{repo.root}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(repo.root)
    with anyio.fail_after(60):
        await _walk(repo)
    assert not repo.canary.exists(), repo.canary.read_text()


@pytest.mark.parametrize(
    "attack",
    [
        "fsmonitor",
        "hooks",
        "hooks path",
        "external diff",
        "textconv and merge driver",
        "helpers and transports",
        "signing",
        "include",
    ],
)
def test_the_users_own_git_would_be_caught(repo: Repo, attack: str) -> None:
    ATTACKS[attack](repo)
    repo.canary.unlink(missing_ok=True)
    repo.write("src/app.py", "print('two')\n")
    for args in (["status"], ["diff"], ["commit", "-qam", "x"], ["log", "-p"], ["push", "origin"]):
        try_git(*args, cwd=repo.root)
    assert repo.canary.exists()


_HOOKS = ("reference-transaction", "post-index-change", "pre-commit", "post-commit", "pre-push")


async def test_hooks_in_our_own_directories_are_not_run(repo: Repo) -> None:
    """Where no sandbox holds, a command can write the state directory as well."""
    await repo.open()
    hooks = [found / "hooks" for found in repo.state.rglob("*.git") if found.is_dir()]
    assert hooks
    for folder in hooks:
        folder.mkdir(exist_ok=True)
        for name in _HOOKS:
            shutil.copy(repo.plant(), folder / name)
    await _walk(repo)
    assert not repo.canary.exists(), repo.canary.read_text()


async def _walk(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    guard = await repository.guard()
    repo.write("src/app.py", "print('two')\n")
    repo.write("src/new.py", "x = 1\n")
    await repository.status()
    assert await repository.tampered(guard) == ()
    await repository.undo(guard)
    staged, sha = await commit_from(repository, start, ("src/app.py", "src/new.py"))
    assert staged.paths == ("src/app.py", "src/new.py")
    await repository.checkout(staged, repo.home / "clean")
    pushed = await repository.push(remote="origin", branch="main", auth=PushAuth(), expected=sha)
    assert "Pushed" in type(pushed).__name__
    _others_push(repo)
    repo.write("src/third.py", "y = 1\n")
    _, sha = await commit_from(repository, start, ("src/third.py",))
    behind = await repository.push(remote="origin", branch="main", auth=PushAuth(), expected=sha)
    assert "NotFastForward" in type(behind).__name__
    rebased = await repository.rebase_onto_upstream()
    assert "Rebased" in type(rebased).__name__


def _others_push(repo: Repo) -> None:
    """Somebody else's commit arrives at the remote; plain plumbing, without the planted things."""
    bare = repo.home / "remote.git"
    repo.git("clone", "-q", str(bare), str(repo.home / "other"), cwd=repo.home)
    other = Repo(repo.home / "other", repo.home)
    other.write("other.txt", "theirs\n")
    other.commit_all("chore: theirs")
    other.git("push", "-q")


@pytest.mark.parametrize("kind", ["clean", "process"])
async def test_a_path_with_a_filter_is_refused_and_never_stored_raw(repo: Repo, kind: str) -> None:
    repo.write(".gitattributes", "*.bin filter=evil\n")
    repo.commit_all()
    repo.git("config", f"filter.evil.{kind}", str(repo.plant()))
    repo.git("config", "filter.evil.smudge", str(repo.plant()))
    repository = await repo.open()
    assert "evil" in repository.facts.filters
    start = await repository.start_state()
    repo.write("secret.bin", "plain text\n")
    with pytest.raises(GitRefused, match=r"secret\.bin.*'evil'"):
        await repository.prepare("run", start=start, run_paths=["secret.bin"])
    objects = repo.git("cat-file", "--batch-all-objects", "--batch-check")
    raw = repo.git("hash-object", "--no-filters", "secret.bin").strip()
    assert raw not in objects
    assert not repo.canary.exists()
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",))
    assert staged.left_out == ("secret.bin",)


async def test_attributes_that_the_run_itself_adds_count(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write(".gitattributes", "*.py filter=evil\n")
    repo.write("src/app.py", "print('two')\n")
    with pytest.raises(GitRefused, match="evil"):
        await repository.prepare("all", start=start, run_paths=())


async def _lfs_like(repo: Repo) -> Path:
    """Make a repository with a filter like git-crypt's and LFS's: stored otherwise than shown."""
    tool = repo.home / "rot13"
    tool.write_text("#!/bin/sh\ntr A-Za-z N-ZA-Mn-za-m\n")
    tool.chmod(0o755)
    repo.git("config", "--global", "filter.rot.clean", str(tool))
    repo.git("config", "--global", "filter.rot.smudge", str(tool))
    repo.write(".gitattributes", "*.enc filter=rot\n")
    repo.write("kept.enc", "secret\n")
    repo.commit_all()
    assert repo.show("kept.enc") == "frperg\n"
    return tool


async def test_unchanged_filtered_files_survive_a_commit(repo: Repo) -> None:
    await _lfs_like(repo)
    repository = await repo.open()
    start = await repository.start_state()
    assert start.changed == frozenset()
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",), "all")
    assert staged.paths == ("src/app.py",)
    assert repo.show("kept.enc") == "frperg\n"
    assert repo.status() == []
    await repository.checkout(staged, repo.home / "clean")
    assert (repo.home / "clean/kept.enc").read_text() == "secret\n"


async def test_a_changed_filtered_file_is_refused_even_at_the_same_size(repo: Repo) -> None:
    await _lfs_like(repo)
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("kept.enc", "SECRET\n")
    with pytest.raises(GitRefused, match=r"kept\.enc"):
        await repository.prepare("run", start=start, run_paths=["kept.enc"])
    with pytest.raises(GitRefused, match=r"kept\.enc"):
        await repository.prepare("all", start=start, run_paths=())


async def test_a_filtered_file_that_the_user_staged_is_committed_as_staged(repo: Repo) -> None:
    await _lfs_like(repo)
    repo.write("new.enc", "hello\n")
    repo.git("add", "new.enc")
    repository = await repo.open()
    start = await repository.start_state()
    staged, _ = await commit_from(repository, start)
    assert staged.paths == ("new.enc",)
    assert repo.show("new.enc") == "uryyb\n"
    assert repo.status() == []


async def test_a_filter_that_is_allowed_by_name_runs(repo: Repo) -> None:
    await _lfs_like(repo)
    repository = await repo.open(filters=("rot",))
    start = await repository.start_state()
    repo.write("kept.enc", "changed\n")
    staged, _ = await commit_from(repository, start, ("kept.enc",))
    assert repo.show("kept.enc") == "punatrq\n"
    assert repo.status() == []
    await repository.checkout(staged, repo.home / "clean")
    assert (repo.home / "clean/kept.enc").read_text() == "changed\n"


async def test_lfs_pointers_without_lfs_installed(repo: Repo) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
    repo.write("model.bin", pointer)
    repo.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    repo.commit_all()
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",), "all")
    assert staged.paths == ("src/app.py",)
    assert repo.show("model.bin") == pointer
    repo.write("model.bin", b"\0" * 900)
    with pytest.raises(GitRefused, match="'lfs'"):
        await repository.prepare("all", start=start, run_paths=())


async def _opened(repo: Repo) -> tuple[Repository, StartState]:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    return repository, start


@pytest.mark.parametrize("what", ["commondir", "alternates", "moved", "gitfile", "symlink"])
async def test_a_git_directory_that_is_redirected_during_the_run_is_refused(
    repo: Repo, what: str
) -> None:
    repository, start = await _opened(repo)
    dot = repo.root / ".git"
    evil = repo.home / "evil.git"
    shutil.copytree(dot, evil, symlinks=True)
    repo.git("config", "-f", str(evil / "config"), "core.fsmonitor", str(repo.plant()))
    if what == "commondir":
        (dot / "commondir").write_text(f"{evil}\n")
    elif what == "alternates":
        (dot / "objects/info").mkdir(exist_ok=True)
        (dot / "objects/info/alternates").write_text(f"{evil}/objects\n")
    else:
        dot.rename(repo.root / ".g")
        if what == "moved":
            evil.rename(dot)
        elif what == "gitfile":
            dot.write_text(f"gitdir: {evil}\n")
        else:
            dot.symlink_to(evil)
    with pytest.raises(GitRefused, match="replaced or changed during the run"):
        await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert not repo.canary.exists()


async def test_nested_repositories_are_never_entered(repo: Repo) -> None:
    repository, start = await _opened(repo)
    for name in ("nested", "src/deep"):
        inner = make_repo(repo.root / name, "inner")
        inner.git("config", "core.fsmonitor", str(repo.plant()))
    bare = repo.root / "bare"
    repo.git("init", "-q", "--bare", str(bare))
    repo.git("config", "-f", str(bare / "config"), "core.fsmonitor", str(repo.plant()))
    repo.canary.unlink(missing_ok=True)
    await commit_from(repository, start, (), "all")
    assert not repo.canary.exists()


async def test_hostile_submodules_are_not_initialised(repo: Repo) -> None:
    repository, start = await _opened(repo)
    repo.write(
        ".gitmodules",
        f'[submodule "x"]\n\tpath = lib\n\turl = -u{repo.plant()}\n\tupdate = !{repo.plant()}\n',
    )
    staged, _ = await commit_from(repository, start, (), "all")
    assert ".gitmodules" in staged.paths
    await repository.checkout(staged, repo.home / "clean")
    assert not repo.canary.exists()


async def test_a_fifo_as_included_configuration_hangs_nobody(repo: Repo) -> None:
    os.mkfifo(repo.root / "pipe")
    config = repo.root / ".git/config"
    config.write_text(config.read_text() + f"[include]\n\tpath = {repo.root}/pipe\n")
    with anyio.fail_after(20):
        repository = await repo.open()
        start = await repository.start_state()
        repo.write("src/app.py", "print('two')\n")
        await commit_from(repository, start, ("src/app.py",))
    assert "includes other files" in repository.facts.notes[0]


async def _prepared(repo: Repo) -> None:
    repository = await repo.open()
    empty = StartState(frozenset(), frozenset(), frozenset())
    await repository.prepare("run", start=empty, run_paths=["src/app.py"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[core\n", "configuration file cannot be read"),
        ("[core]\n\tworktree = /\n", "core.worktree"),
        ("[core]\n\tbare = true\n", "bare"),
        ("[extensions]\n\trefStorage = reftable\n", "reftable"),
    ],
)
async def test_a_configuration_that_misleads_is_refused(
    repo: Repo, content: str, words: str
) -> None:
    config = repo.root / ".git/config"
    config.write_text(config.read_text() + content)
    repo.write("src/app.py", "print('two')\n")
    with pytest.raises(GitRefused, match=words):
        await _prepared(repo)


async def test_symlinked_directories_are_not_followed(repo: Repo) -> None:
    outside = repo.home / "outside"
    outside.mkdir()
    (outside / "app.py").write_text("outside\n")
    repository = await repo.open()
    start = await repository.start_state()
    (repo.root / "src/app.py").unlink()
    (repo.root / "src").rmdir()
    (repo.root / "src").symlink_to(outside)
    staged, _ = await commit_from(repository, start, ("src/app.py", "src"))
    assert {change.path: change.kind for change in staged.changes} == {
        "src": "added",
        "src/app.py": "deleted",
    }
