"""What a commit takes up, in the repositories that people really have; nothing lost anywhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import anyio
import pytest
from gitrepo import Repo, commit_from, make_repo, try_git

from runner.errors import GitRefused
from runner.git import Files, Repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def repo(world: Path) -> Repo:
    return make_repo(world)


async def test_commits_what_the_run_changed_and_leaves_status_clean(repo: Repo) -> None:
    before = repo.head()
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    repo.write("src/new.py", "x = 1\n")
    staged, sha = await commit_from(repository, start, ("src/app.py", "src/new.py"))
    assert staged.paths == ("src/app.py", "src/new.py")
    assert repo.status() == []
    assert repo.head() == sha
    assert repo.git("rev-parse", "HEAD^").strip() == before
    assert repo.git("rev-parse", "HEAD^{tree}").strip() == staged.tree
    assert (
        repo.git("log", "-1", "--format=%an <%ae>|%s") == "Ada Tester <ada@example.com>|fix: mend\n"
    )
    assert "commit: fix: mend" in repo.git("reflog", "-1", "HEAD")
    assert "commit: fix: mend" in repo.git("reflog", "-1", "main")
    assert "+print('two')" in staged.diff
    assert "2 files changed" in staged.stat
    repo.git("fsck", "--strict")


async def test_nothing_to_commit(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    repo.write("src/app.py", "print('one')\n")
    assert await repository.prepare("run", start=start, run_paths=["src/app.py"]) is None


async def test_untracked_at_the_start_is_left_out_and_listed(repo: Repo) -> None:
    repo.write("notes.txt", "mine\n")
    repo.write("README.md", "# Mine\n")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    repo.write("notes.txt", "mine, and the run's\n")
    staged, _ = await commit_from(repository, start, ("src/app.py", "notes.txt"))
    assert staged.paths == ("README.md", "src/app.py")
    assert staged.left_out == ("notes.txt",)
    assert repo.status() == ["?? notes.txt"]


async def test_a_tracked_file_that_somebody_edits_during_the_run_is_left_out(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    repo.write("README.md", "# In the editor\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",))
    assert staged.left_out == ("README.md",)
    assert repo.status() == [" M README.md"]


@pytest.mark.parametrize(
    ("files", "paths", "status"),
    [
        ("run", {"src/app.py", "README.md", "staged.txt", "part.txt"}, ["?? loose.txt"]),
        ("all", {"src/app.py", "README.md", "staged.txt", "part.txt", "loose.txt"}, []),
        (
            "staged",
            {"staged.txt", "part.txt"},
            ["M README.md", "M part.txt", "M src/app.py", "?? loose.txt"],
        ),
        (
            ("src/**",),
            {"src/app.py"},
            ["A  staged.txt", "M README.md", "MM part.txt", "?? loose.txt"],
        ),
        (("*.txt",), {"staged.txt", "part.txt", "loose.txt"}, ["M README.md", "M src/app.py"]),
    ],
)
async def test_each_mode_on_a_dirty_and_partly_staged_index(
    repo: Repo, files: Files, paths: set[str], status: list[str]
) -> None:
    repo.write("part.txt", "1\n")
    repo.commit_all()
    repo.write("staged.txt", "staged\n")
    repo.write("part.txt", "1\nstaged\n")
    repo.git("add", "staged.txt", "part.txt")
    repo.write("part.txt", "1\nstaged\nunstaged\n")
    repo.write("README.md", "# Edited\n")
    repo.write("loose.txt", "loose\n")
    staged_before = repo.git("show", ":part.txt")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",), files)
    assert set(staged.paths) == paths
    assert sorted(line.strip() for line in repo.status()) == sorted(status)
    assert (repo.root / "part.txt").read_text() == "1\nstaged\nunstaged\n"
    if files == "staged":
        assert repo.show("part.txt") == "1\nstaged\n"
    elif "part.txt" not in paths:
        assert repo.git("show", ":part.txt") == staged_before


async def test_a_file_staged_whole_is_committed_with_its_mend(repo: Repo) -> None:
    repo.write("src/app.py", "broken(\n")
    repo.git("add", "src/app.py")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "mended()\n")
    await commit_from(repository, start, ("src/app.py",), "staged")
    assert repo.show("src/app.py") == "mended()\n"
    assert repo.status() == []


async def test_staged_but_left_out_survives_byte_for_byte(repo: Repo) -> None:
    repo.write("gone.txt", "x\n")
    repo.commit_all()
    repo.write("docs/new.md", "new\n")
    repo.git("add", "docs/new.md")
    repo.git("rm", "-q", "gone.txt")
    repo.git("mv", "README.md", "READ.md")
    repo.write("intent.txt", "later\n")
    repo.git("add", "-N", "intent.txt")
    index_before = set(repo.git("ls-files", "-s").splitlines())
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",), ("src/**",))
    assert staged.paths == ("src/app.py",)
    index_after = set(repo.git("ls-files", "-s").splitlines())
    assert {line.split("\t")[1] for line in index_before ^ index_after} == {"src/app.py"}
    assert sorted(repo.status()) == sorted(
        ["A  docs/new.md", "D  gone.txt", "R  README.md -> READ.md", " A intent.txt"]
    )


async def test_kinds_of_changes(repo: Repo) -> None:
    repo.write("run.sh", "#!/bin/sh\n")
    repo.write("old.txt", "long enough to be a rename\n" * 9)
    repo.write("becomes/dir", "a file in a directory\n")
    repo.write("becomes_dir", "a file\n")
    repo.write("link_me", "text\n")
    repo.commit_all()
    repository = await repo.open()
    start = await repository.start_state()
    (repo.root / "run.sh").chmod(0o755)
    (repo.root / "old.txt").rename(repo.root / "renamed.txt")
    (repo.root / "becomes/dir").unlink()
    (repo.root / "becomes").rmdir()
    repo.write("becomes", "now a file\n")
    (repo.root / "becomes_dir").unlink()
    repo.write("becomes_dir/file", "now a directory\n")
    (repo.root / "link_me").unlink()
    (repo.root / "link_me").symlink_to("README.md")
    names = [*repo.root.rglob("*")]
    run_paths = tuple(
        str(path.relative_to(repo.root)) for path in names if ".git/" not in str(path)
    )
    staged, _ = await commit_from(
        repository, start, (*run_paths, "old.txt", "becomes/dir", "becomes_dir")
    )
    kinds = {change.path: change.kind for change in staged.changes}
    assert kinds == {
        "run.sh": "mode",
        "old.txt": "deleted",
        "renamed.txt": "added",
        "becomes": "added",
        "becomes/dir": "deleted",
        "becomes_dir": "deleted",
        "becomes_dir/file": "added",
        "link_me": "type",
    }
    assert repo.status() == []
    assert repo.git("ls-files", "-s", "link_me").startswith("120000")


@pytest.mark.parametrize(
    "name",
    [
        "-h",
        "--exec=x",
        "with space",
        "new\nline",
        "tab\there",
        "ünï",
        "quote\"'",
        "*",
        ":(top)x",
        "!x",
    ],
)
async def test_names(repo: Repo, name: str) -> None:
    repo.write(name, "1\n")
    repo.commit_all()
    repository = await repo.open()
    start = await repository.start_state()
    repo.write(name, "2\n")
    staged, _ = await commit_from(repository, start, (name,))
    assert staged.paths == (name,)
    assert repo.status() == []


async def test_a_name_that_is_no_utf8(repo: Repo) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    (repo.root / name).write_text("1\n")
    repository = await repo.open()
    start = await repository.start_state()
    staged, _ = await commit_from(repository, start, (), "all")
    assert staged.paths == (name,)
    assert start.untracked == {name}
    assert repo.status() == []


async def test_names_that_differ_in_case_only(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("readme.md", "small\n")
    staged, _ = await commit_from(repository, start, ("readme.md",))
    assert staged.paths == ("readme.md",)
    assert repo.show("README.md") == "# Read me\n"


@pytest.mark.parametrize(
    ("attributes", "config", "stored"),
    [
        ("* text=auto\n", {}, b"a\nb\n"),
        ("", {"core.autocrlf": "true"}, b"a\nb\n"),
        ("", {"core.autocrlf": "input"}, b"a\nb\n"),
        ("", {}, b"a\r\nb\r\n"),
        ("*.txt -text\n", {"core.autocrlf": "true"}, b"a\r\nb\r\n"),
        ("*.txt eol=crlf\n", {}, b"a\nb\n"),
        ("*.txt working-tree-encoding=UTF-16LE\n", {}, b"a\nb\n"),
    ],
)
async def test_line_ends_are_stored_as_the_users_own_git_would(
    repo: Repo, attributes: str, config: dict[str, str], stored: bytes
) -> None:
    for key, value in config.items():
        repo.git("config", key, value)
    if attributes:
        repo.write(".gitattributes", attributes)
        repo.commit_all("chore: attributes")
    repository = await repo.open()
    start = await repository.start_state()
    text = "a\r\nb\r\n"
    raw = text.encode() if "UTF-16" not in attributes else "a\nb\n".encode("utf-16-le")
    repo.write("eol.txt", raw)
    staged, _ = await commit_from(repository, start, ("eol.txt",))
    blob = try_git("cat-file", "blob", "HEAD:eol.txt", cwd=repo.root).stdout
    assert blob == stored
    assert repo.status() == []
    await repository.checkout(staged, repo.home / "clean")
    user = try_git("cat-file", "--filters", "HEAD:eol.txt", cwd=repo.root).stdout
    assert (repo.home / "clean/eol.txt").read_bytes() == user


async def test_what_only_exclude_files_ignore_is_never_taken(repo: Repo) -> None:
    (repo.root / ".git/info/exclude").write_text("private.txt\n")
    excludes = repo.home / "excludes"
    excludes.write_text("*.swp\n")
    repo.git("config", "--global", "core.excludesFile", str(excludes))
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("private.txt", "x\n")
    repo.write("a.swp", "x\n")
    repo.write("real.txt", "x\n")
    staged, _ = await commit_from(repository, start, (), "all")
    assert staged.paths == ("real.txt",)


async def test_a_file_that_is_tracked_although_ignored(repo: Repo) -> None:
    repo.write(".gitignore", "*.log\n")
    repo.write("kept.log", "1\n")
    repo.git("add", "-f", "kept.log")
    repo.commit_all()
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("kept.log", "2\n")
    repo.write("other.log", "2\n")
    staged, _ = await commit_from(repository, start, ("kept.log", "other.log"))
    assert staged.paths == ("kept.log",)


@pytest.mark.parametrize("sparse_index", [False, True])
async def test_sparse_checkout_keeps_what_is_outside_the_cone(
    repo: Repo, sparse_index: bool
) -> None:
    repo.write("big/data.txt", "data\n")
    repo.write("big/deep/more.txt", "more\n")
    repo.commit_all()
    flag = "--sparse-index" if sparse_index else "--no-sparse-index"
    repo.git("sparse-checkout", "init", "--cone", flag)
    repo.git("sparse-checkout", "set", "src")
    assert not (repo.root / "big").exists()
    repository = await repo.open()
    assert repository.facts.sparse
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",), "all")
    assert staged.paths == ("src/app.py",)
    assert repo.show("big/deep/more.txt") == "more\n"
    assert repo.status() == []
    assert not (repo.root / "big").exists()
    await repository.checkout(staged, repo.home / "clean")
    assert not (repo.home / "clean/big").exists()
    assert (repo.home / "clean/src/app.py").read_text() == "print('two')\n"


async def test_linked_worktree(repo: Repo) -> None:
    repo.git("worktree", "add", "-q", "-b", "side", str(repo.home / "linked"))
    linked = Repo(repo.home / "linked", repo.home)
    main_before = repo.head()
    repository = await linked.open()
    assert repository.facts.git_dir != repository.facts.common_dir
    start = await repository.start_state()
    linked.write("src/app.py", "print('two')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    assert linked.status() == []
    assert repo.status() == []
    assert repo.head() == main_before
    assert repo.git("rev-parse", "side").strip() == sha
    assert "fix: mend" in linked.git("reflog", "-1", "HEAD")
    assert "fix: mend" not in repo.git("reflog", "HEAD")


@pytest.mark.parametrize(
    "flags", [["--shared"], ["--depth=1", "--no-local"], ["--filter=blob:none", "--no-local"]]
)
async def test_clones_of_all_sorts(repo: Repo, flags: list[str]) -> None:
    repo.write("src/other.py", "other\n")
    repo.commit_all()
    repo.git("config", "uploadpack.allowFilter", "true")
    repo.git(
        "clone",
        "-q",
        *flags,
        f"file://{repo.root}" if flags != ["--shared"] else ".",
        str(repo.home / "clone"),
    )
    clone = Repo(repo.home / "clone", repo.home)
    repository = await clone.open()
    assert repository.facts.shallow == ("--depth=1" in flags)
    assert repository.facts.partial == ("--filter=blob:none" in flags)
    start = await repository.start_state()
    clone.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",))
    await repository.checkout(staged, repo.home / "clean")
    assert clone.status() == []
    assert clone.show("src/app.py") == "print('two')\n"


async def test_split_index_and_fsmonitor_extensions(repo: Repo) -> None:
    repo.git("config", "core.splitIndex", "true")
    repo.write("a.txt", "1\n")
    repo.commit_all()
    repo.git("update-index", "--split-index", "--untracked-cache")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("a.txt", "2\n")
    await commit_from(repository, start, ("a.txt",))
    assert repo.status() == []


async def test_submodule_is_never_entered_and_survives(repo: Repo) -> None:
    sub = make_repo(repo.home, "library")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(sub.root), "lib")
    repo.commit_all("chore: submodule")
    inside = repo.root / "lib"
    repo.git("config", "core.fsmonitor", str(repo.plant()), cwd=inside)
    (inside / "src/app.py").write_text("changed inside\n")
    gitlink = repo.git("ls-files", "-s", "lib")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, ("src/app.py",), "all")
    assert staged.paths == ("src/app.py",)
    assert repo.git("ls-files", "-s", "lib") == gitlink
    assert (inside / "src/app.py").read_text() == "changed inside\n"
    await repository.checkout(staged, repo.home / "clean")
    assert not repo.canary.exists()


async def test_a_moved_submodule_pointer_is_committed(repo: Repo) -> None:
    sub = make_repo(repo.home, "library")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(sub.root), "lib")
    repo.commit_all("chore: submodule")
    (repo.root / "lib/src/app.py").write_text("new\n")
    repo.git("commit", "-qam", "chore: inside", cwd=repo.root / "lib")
    repository = await repo.open()
    start = await repository.start_state()
    staged, _ = await commit_from(repository, start, ())
    assert [(change.path, change.after_mode) for change in staged.changes] == [("lib", "160000")]
    assert repo.status() == []


async def test_inside_a_submodules_work_tree(repo: Repo) -> None:
    sub = make_repo(repo.home, "library")
    repo.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(sub.root), "lib")
    repo.commit_all("chore: submodule")
    inner = Repo(repo.root / "lib", repo.home)
    repository = await inner.open()
    assert repository.facts.root == inner.root
    start = await repository.start_state()
    inner.write("src/app.py", "print('two')\n")
    await commit_from(repository, start, ("src/app.py",))
    assert inner.status() == []
    assert repo.status() == [" M lib"]


async def test_embedded_repository_is_left_out(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    make_repo(repo.root, "embedded")
    assert (await repository.status()).untracked == ("embedded/",)
    repo.write("src/app.py", "print('two')\n")
    staged, _ = await commit_from(repository, start, (), "all")
    assert staged.paths == ("src/app.py",)
    assert staged.left_out == ("embedded/",)


async def test_detached_head(repo: Repo) -> None:
    repo.git("checkout", "-q", "--detach")
    repository = await repo.open()
    assert repository.facts.branch == ""
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    assert repo.head() == sha
    assert (repo.root / ".git/HEAD").read_text() == f"{sha}\n"
    assert "commit: fix: mend" in repo.git("reflog", "-1", "HEAD")
    assert repo.git("rev-parse", "main").strip() == repo.git("rev-parse", "HEAD^").strip()
    assert repo.status() == []


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
async def test_unborn_branch(world: Path, object_format: str) -> None:
    repo = Repo(world / "empty", world)
    repo.root.mkdir()
    repo.git("init", "-q", "-b", "trunk", f"--object-format={object_format}")
    repository = await repo.open()
    assert (repository.facts.head, repository.facts.branch) == ("", "trunk")
    start = await repository.start_state()
    repo.write("first.txt", "1\n")
    staged, sha = await commit_from(repository, start, ("first.txt",))
    assert staged.parent == ""
    assert repo.head() == sha
    assert repo.status() == []
    await repository.checkout(staged, world / "clean")
    repo.write("first.txt", "2\n")
    again, _ = await commit_from(repository, start, ("first.txt",))
    assert again.parent == sha
    assert repo.status() == []


async def test_packed_refs_and_slashes_in_the_branch(repo: Repo) -> None:
    repo.git("switch", "-qc", "feature/one+two")
    repo.git("pack-refs", "--all")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    assert repo.git("rev-parse", "feature/one+two").strip() == sha


async def _refused(repository: Repository, repo: Repo, words: str) -> None:
    before = (repo.head(), repo.git("ls-files", "-s"), (repo.root / ".git/index").read_bytes())
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    with pytest.raises(GitRefused, match=words) as caught:
        await commit_from(repository, start, ("src/app.py",))
    assert caught.value.hint
    assert before == (
        repo.head(),
        repo.git("ls-files", "-s"),
        (repo.root / ".git/index").read_bytes(),
    )
    assert (repo.root / "src/app.py").read_text() == "print('two')\n"


async def test_missing_identity_is_refused(repo: Repo) -> None:
    repo.git("config", "--global", "--unset", "user.email")
    await _refused(await repo.open(), repo, "who you are")


@pytest.mark.parametrize("name", ["a\nb", "a <b>", "a\0b"])
async def test_an_identity_that_would_forge_headers_is_refused(repo: Repo, name: str) -> None:
    config = repo.root / ".git/config"
    escaped = name.replace("\n", "\\n").replace("\0", "\\b>")
    config.write_text(config.read_text() + f'[user]\n\tname = "{escaped}"\n')
    with pytest.raises(GitRefused, match=r"user\.name"):
        await repo.open()


async def test_an_identity_with_shell_characters_is_data(repo: Repo) -> None:
    repo.git("config", "user.name", f"$(touch {repo.canary}) `touch {repo.canary}`")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    await commit_from(repository, start, ("src/app.py",))
    assert repo.git("log", "-1", "--format=%an").startswith("$(touch")
    assert not repo.canary.exists()


async def test_an_index_lock_left_behind_is_refused(repo: Repo) -> None:
    lock = repo.root / ".git/index.lock"
    lock.write_text("")
    await _refused(await repo.open(), repo, "index.lock exists")
    assert lock.exists()


@pytest.mark.parametrize("operation", ["merge", "rebase", "cherry-pick", "revert"])
async def test_an_operation_in_progress_is_refused(repo: Repo, operation: str) -> None:
    repo.git("switch", "-qc", "side")
    repo.write("src/app.py", "side\n")
    repo.commit_all("chore: side")
    repo.git("switch", "-q", "main")
    repo.write("src/app.py", "main\n")
    repo.commit_all("chore: main")
    target = {"merge": "side", "rebase": "side", "cherry-pick": "side", "revert": "HEAD^"}[
        operation
    ]
    if operation == "revert":
        repo.write("src/app.py", "more\n")
        repo.commit_all("chore: more")
    try_git(operation, target, cwd=repo.root)
    repository = await repo.open()
    assert repository.facts.operation == operation
    start = await repository.start_state()
    with pytest.raises(GitRefused, match=operation):
        await repository.prepare("all", start=start, run_paths=())
    assert any(line.startswith("U") or "U" in line[:2] for line in repo.status())


async def test_unmerged_paths_without_an_operation_are_refused(repo: Repo) -> None:
    repo.write("src/app.py", "stashed\n")
    repo.git("stash")
    repo.write("src/app.py", "other\n")
    repo.commit_all("chore: other")
    try_git("stash", "pop", cwd=repo.root)
    repository = await repo.open()
    start = await repository.start_state()
    with pytest.raises(GitRefused, match="unmerged"):
        await repository.prepare("all", start=start, run_paths=())


async def test_a_protected_branch_is_refused(repo: Repo) -> None:
    repository = await Repository.open(repo.root, state=repo.state, protected=("main", "release/*"))
    assert repository is not None
    await _refused(repository, repo, "protected")


async def test_a_branch_that_moved_meanwhile_is_refused(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged = await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert staged is not None
    repo.write("README.md", "# The user's own commit\n")
    repo.git("commit", "-qm", "docs: user", "README.md")
    head = repo.head()
    with pytest.raises(GitRefused, match="moved"):
        await repository.commit(staged, "fix: x")
    assert repo.head() == head
    assert repo.status() == [" M src/app.py"]


async def test_switching_branches_during_the_run_is_refused(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    repo.git("switch", "-qc", "other")
    with pytest.raises(GitRefused, match="HEAD was on main at the start and is on other"):
        await repository.prepare("run", start=start, run_paths=["src/app.py"])


async def test_only_one_of_two_commits_at_once_wins(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged = await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert staged is not None
    results: list[object] = []

    async def one() -> None:
        try:
            results.append(await repository.commit(staged, "fix: x"))
        except GitRefused as error:
            results.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    assert sum(isinstance(result, GitRefused) for result in results) == 1
    assert repo.status() == []


async def test_what_the_user_stages_between_prepare_and_commit_survives(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged = await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert staged is not None
    repo.write("src/app.py", "print('three')\n")
    repo.write("README.md", "# staged meanwhile\n")
    repo.git("add", "-A")
    await repository.commit(staged, "fix: x")
    assert repo.show("src/app.py") == "print('two')\n"
    assert repo.git("show", ":src/app.py") == "print('three')\n"
    assert repo.status() == ["M  README.md", "M  src/app.py"]


async def test_the_commit_is_what_was_prepared_not_what_is_there_later(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('passed')\n")
    staged = await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert staged is not None
    repo.write("src/app.py", "print('later!')\n")
    staged.index.write_bytes(b"not an index")
    await repository.commit(staged, "fix: x")
    assert repo.show("src/app.py") == "print('passed')\n"
    assert repo.status() == [" M src/app.py"]


async def test_find_commit_by_its_trailers(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "2\n")
    staged = await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert staged is not None
    message = "fix: x\n\nRunner-Run: 20261121-174530-3f9a\nRunner-Step: commit\n"
    fact = await repository.commit(staged, message)
    assert await repository.find_commit("20261121-174530-3f9a") == fact.sha
    assert await repository.find_commit("20261121-174530-3f9a", "commit") == fact.sha
    assert await repository.find_commit("20261121-174530-3f9a", "other") is None
    assert await repository.find_commit("20261121-174530") is None


async def test_clean_checkout_is_a_repository_of_exactly_the_commit(repo: Repo) -> None:
    repo.write("notes.txt", "left out\n")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged = await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert staged is not None
    clean = repo.home / "clean"
    await repository.checkout(staged, clean)
    assert not (clean / "notes.txt").exists()
    assert (clean / "src/app.py").read_text() == "print('two')\n"
    assert repo.git("ls-files", cwd=clean) == repo.git("ls-files")
    assert repo.git("status", "--porcelain", cwd=clean) == "M  src/app.py\n"
    assert repo.git("rev-parse", "HEAD", cwd=clean).strip() == repo.head()
    with pytest.raises(GitRefused, match="not empty"):
        await repository.checkout(staged, clean)


async def test_no_repository(world: Path) -> None:
    assert await Repository.open(world, state=world / "state") is None


@pytest.mark.slow
async def test_ten_thousand_files_in_little_time(world: Path) -> None:
    repo = make_repo(world)
    for number in range(10_000):
        repo.write(f"d{number % 100}/f{number}.txt", f"{number}\n")
    repo.commit_all()
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    began = anyio.current_time()
    staged = await repository.prepare("run", start=start, run_paths=["src/app.py"])
    assert staged is not None
    await repository.commit(staged, "fix: x")
    seconds = anyio.current_time() - began
    assert repo.status() == []
    # Far above what it takes (see the benchmark), for machines under load.
    assert seconds < 2.0
