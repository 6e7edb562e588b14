"""Tests of snapshots on real repositories: raw, complete, and nothing of the user's is touched."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from runner.errors import RunnerError
from runner.workspace.store import valid
from runner.workspace.tree import Tree

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GIT = {
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "A",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "A",
    "GIT_COMMITTER_EMAIL": "a@example.com",
}


class Opener(Protocol):
    async def __call__(self, root: Path) -> Tree: ...


def git(cwd: Path, *args: str, **more: Any) -> str:
    done = subprocess.run(
        ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *args],
        cwd=cwd,
        env={**GIT, **more},
        capture_output=True,
        check=True,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def shell(cwd: Path, script: str) -> None:
    subprocess.run(["sh", "-ec", script], cwd=cwd, check=True)


def empty_directories(root: Path) -> list[Path]:
    found = [p for p in root.rglob("*") if p.is_dir() and ".git" not in p.parts]
    return [path for path in found if not any(path.iterdir())]


def fill(root: Path, files: dict[str, bytes | str]) -> None:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)


def contents(root: Path) -> dict[str, tuple[str, bytes]]:
    """Every file and link below `root` outside of `.git`, with what git would record."""
    found: dict[str, tuple[str, bytes]] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if ".git" in Path(name).parts:
            continue
        if path.is_symlink():
            found[name] = ("120000", os.fsencode(path.readlink()))
        elif path.is_file():
            mode = "100755" if path.stat().st_mode & stat.S_IXUSR else "100644"
            found[name] = (mode, path.read_bytes())
    return found


def frozen(repo: Path) -> dict[str, bytes]:
    """Everything in `.git`, byte for byte."""
    return {str(p): p.read_bytes() for p in sorted(repo.rglob("*")) if p.is_file()}


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    git(root, "init", "-q")
    fill(root, {"a.txt": "one\n", "src/b.py": "b = 1\n", ".gitignore": "*.log\nbuild/\n"})
    git(root, "add", "-A")
    git(root, "commit", "-qm", "first")
    return root


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home: the global excludes of who runs the tests are none of their business."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return home


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opener]:
    trees: list[Tree] = []

    async def make(root: Path) -> Tree:
        state = tmp_path / "state" / root.name
        state.mkdir(parents=True, exist_ok=True)
        trees.append(await Tree.open(root, state))
        return trees[-1]

    yield make
    for tree in trees:
        tree.close()


async def exported(tree: Tree, snapshot: str, tmp_path: Path) -> dict[str, tuple[str, bytes]]:
    target = tmp_path / f"export-{snapshot[:8]}-{os.urandom(4).hex()}"
    target.mkdir()
    await tree.export(snapshot, target)
    return contents(target)


# -- what a snapshot is ----------------------------------------------------------------------------


async def test_the_tree_is_tracked_and_untracked_but_not_ignored(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    fill(repo, {"new.txt": "n\n", "x.log": "ignored", "build/out": "ignored"})
    before = frozen(repo / ".git")
    tree = await opened(repo)
    snapshot = await tree.snapshot()
    assert set(await exported(tree, snapshot, tmp_path)) == {
        *(".gitignore", "a.txt", "new.txt", "src/b.py")
    }
    assert frozen(repo / ".git") == before
    assert git(repo, "status", "--porcelain") == "?? new.txt\n"


async def test_the_hash_says_whether_something_changed(repo: Path, opened: Opener) -> None:
    tree = await opened(repo)
    first = await tree.snapshot()
    assert await tree.snapshot() == first
    (repo / "x.log").write_text("ignored")
    assert await tree.snapshot() == first
    (repo / "a.txt").write_text("two\n")
    second = await tree.snapshot()
    assert second != first
    (repo / "a.txt").write_text("one\n")
    assert await tree.snapshot() == first
    assert await (await opened(repo)).snapshot() == first


async def test_a_change_within_the_same_second_is_seen(repo: Path, opened: Opener) -> None:
    """Same size, same inode, and even the time set back: as a formatter that keeps times does."""
    tree = await opened(repo)
    seen: set[str] = set()
    os.utime(repo / "a.txt", ns=(10**18, 10**18))
    for text in ("aaa\n", "bbb\n", "ccc\n", "ddd\n"):
        with (repo / "a.txt").open("r+") as file:
            file.write(text)
        os.utime(repo / "a.txt", ns=(10**18, 10**18))
        seen.add(await tree.snapshot())
    assert len(seen) == 4


async def test_a_directory_without_a_repository(tmp_path: Path, opened: Opener) -> None:
    root = tmp_path / "plain"
    fill(root, {"a": "1", "d/e": "2", "node_modules/x/y": "3", ".gitignore": "z\n", "z": "4"})
    tree = await opened(root)
    first = await tree.snapshot()
    assert set(await exported(tree, first, tmp_path)) == {"a", "d/e", ".gitignore"}
    fill(root, {"a": "changed"})
    (root / "d" / "e").unlink()
    second = await tree.snapshot()
    assert await tree.restore(second, first) == (("a", "d/e"), ())
    assert (root / "d" / "e").read_text() == "2"
    assert sorted(p.name for p in root.iterdir()) == [".gitignore", "a", "d", "node_modules", "z"]


async def test_an_empty_directory_and_an_unborn_branch(tmp_path: Path, opened: Opener) -> None:
    root = tmp_path / "unborn"
    root.mkdir()
    git(root, "init", "-q")
    tree = await opened(root)
    empty = await tree.snapshot()
    assert await tree.changes(empty, "") == ()
    fill(root, {"a": "1"})
    git(root, "add", "a")
    one = await tree.snapshot()
    assert [change.path for change in await tree.changes(empty, one)] == ["a"]
    # What only the index of an unborn branch held is kept although git forgets it.
    git(root, "rm", "-q", "--cached", "a")
    git(root, "gc", "-q", "--prune=now")
    assert await tree.read(one, "a") == b"1"


async def test_staged_work_survives_the_users_own_gc(repo: Path, opened: Opener) -> None:
    fill(repo, {"a.txt": "staged only\n"})
    git(repo, "add", "a.txt")
    tree = await opened(repo)
    snapshot = await tree.snapshot()
    git(repo, "reset", "-q", "--hard")
    git(repo, "gc", "-q", "--prune=now")
    assert await tree.read(snapshot, "a.txt") == b"staged only\n"


async def test_ignored_but_tracked_files_belong_to_the_tree(repo: Path, opened: Opener) -> None:
    fill(repo, {"kept.log": "1\n"})
    git(repo, "add", "-f", "kept.log")
    tree = await opened(repo)
    first = await tree.snapshot()
    assert await tree.read(first, "kept.log") == b"1\n"
    (repo / "kept.log").unlink()
    second = await tree.snapshot()
    assert [c.kind for c in await tree.changes(first, second)] == ["deleted"]
    await tree.restore(second, first)
    assert await tree.snapshot() == first


async def test_a_mend_cannot_hide_a_file_by_ignoring_it(repo: Path, opened: Opener) -> None:
    tree = await opened(repo)
    fill(repo, {"new.txt": "1"})
    first = await tree.snapshot()
    fill(repo, {".gitignore": "new.txt\n", "new.txt": "2"})
    second = await tree.snapshot()
    assert {c.path for c in await tree.changes(first, second)} == {".gitignore", "new.txt"}
    # The next run starts from what is ignored then.
    assert await tree.read(await (await opened(repo)).snapshot(), "new.txt") is None


async def test_info_exclude_and_global_excludes_hold(
    repo: Path, home: Path, opened: Opener, tmp_path: Path
) -> None:
    fill(repo / ".git", {"info/exclude": "*.mine\n!*.both\n"})
    fill(
        home,
        {".gitconfig": f"[core]\n\texcludesFile = {home}/ignore\n", "ignore": "*.swp\n*.both\n"},
    )
    fill(repo, {"a.mine": "", "b.swp": "", "c.txt": "", "d.both": ""})
    tree = await opened(repo)
    names = set(await exported(tree, await tree.snapshot(), tmp_path))
    assert names & {"a.mine", "b.swp", "c.txt", "d.both"} == {"c.txt", "d.both"}
    fill(home, {".gitconfig": "", ".config/git/ignore": "*.txt\n"})
    tree = await opened(repo)
    names = set(await exported(tree, await tree.snapshot(), tmp_path))
    assert names & {"b.swp", "c.txt"} == {"b.swp"}


async def test_content_is_raw_whatever_the_attributes_ask_for(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    sentinel = tmp_path / "filter-ran"
    for key in ("clean", "smudge", "process"):
        git(repo, "config", f"filter.evil.{key}", f"touch {sentinel}; cat")
    git(repo, "config", "diff.evil.textconv", f"touch {sentinel}; cat")
    git(repo, "config", "core.autocrlf", "true")
    fill(
        repo,
        {
            ".gitattributes": "[attr]secret filter=evil diff=evil\n"
            "* text=auto eol=crlf ident\n*.bin filter=evil diff=evil -diff\n*.key secret\n"
            "*.u16 working-tree-encoding=UTF-16 text\n",
            "crlf.txt": "a\r\nb\r\n",
            "lf.txt": "a\nb\n",
            "mixed.txt": "a\r\nb\n$Id: abc$\n",
            "x.bin": b"\0\1\r\n\2",
            "y.key": "plain text of a secret\n",
            "z.u16": "äöü\n".encode("utf-16"),
            "bad.u16": b"\xff",
        },
    )
    tree = await opened(repo)
    first = await tree.snapshot()
    assert await exported(tree, first, tmp_path) == contents(repo)
    on_disk = contents(repo)
    fill(repo, {name: data + b"more" for name, (_, data) in on_disk.items() if name[0] != "."})
    second = await tree.snapshot()
    await tree.diff(first, second)
    await tree.texts(first, second)
    restored, external = await tree.restore(second, first)
    assert (len(restored), external) == (len(on_disk) - 2, ())
    assert contents(repo) == on_disk
    assert not sentinel.exists()


async def test_lfs_and_encrypted_files_keep_their_real_content(repo: Path, opened: Opener) -> None:
    """The index holds a pointer and the disk the real thing; no filter tells them apart."""
    fill(
        repo, {".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n", "a.bin": "pointer"}
    )
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "pointer")
    real = os.urandom(300_000)
    fill(repo, {"a.bin": real})
    tree = await opened(repo)
    first = await tree.snapshot()
    assert await tree.read(first, "a.bin") == real
    fill(repo, {"a.bin": b"destroyed"})
    await tree.restore(await tree.snapshot(), first)
    assert (repo / "a.bin").read_bytes() == real


async def test_nothing_that_is_planted_is_executed(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    """Also not in a nested repository, where `git add -A` would run `git status`."""
    sentinel = tmp_path / "ran"
    nested = repo / "nested"
    nested.mkdir()
    git(nested, "init", "-q")
    fill(nested, {"x": "1"})
    git(nested, "add", "x")
    git(nested, "commit", "-qm", "x")
    for place in (repo, nested):
        git(place, "config", "core.fsmonitor", f"touch {sentinel}; false")
        git(place, "config", "core.hooksPath", str(tmp_path / "hooks"))
    hooks = {"post-index-change", "reference-transaction", "pre-auto-gc", "post-checkout"}
    fill(tmp_path, {f"hooks/{name}": f"#!/bin/sh\ntouch {sentinel}\n" for name in hooks})
    for name in hooks:
        (tmp_path / "hooks" / name).chmod(0o755)
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(nested, {"x": "2", "y": "3"})
    fill(repo, {"a.txt": "2\n"})
    second = await tree.snapshot()
    await tree.diff(first, second)
    await tree.stat(first, second)
    await tree.restore(second, first)
    await tree.snapshot()
    assert not sentinel.exists()


# -- kinds of repositories -------------------------------------------------------------------------


async def test_sparse_checkout(repo: Path, opened: Opener) -> None:
    for flags in ((), ("--sparse-index",)):
        git(repo, "sparse-checkout", "set", "--cone", *flags, "other")
        assert not (repo / "src").exists()
        before = git(repo, "ls-files", "-t")
        tree = await opened(repo)
        first = await tree.snapshot()
        assert await tree.read(first, "src/b.py") is None
        fill(repo, {"a.txt": "2\n"})
        second = await tree.snapshot()
        assert [c.path for c in await tree.changes(first, second)] == ["a.txt"]
        await tree.restore(second, first)
        assert not (repo / "src").exists()
        assert git(repo, "ls-files", "-t") == before
        assert git(repo, "status", "--porcelain") == ""


async def test_linked_worktree_and_shared_clone(repo: Path, opened: Opener, tmp_path: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "-b", "topic")
    git(tmp_path, "clone", "-q", "--shared", str(repo), "shared")
    hashes: set[str] = set()
    for root in (repo, tmp_path / "linked", tmp_path / "shared"):
        tree = await opened(root)
        hashes.add(await tree.snapshot())
        fill(root, {"a.txt": f"{root.name}\n", "new": "1"})
        changed = await tree.snapshot()
        await tree.restore(changed, next(iter(hashes)))
        assert git(root, "status", "--porcelain") == ""
    assert len(hashes) == 1


async def test_split_index_with_a_forced_file(repo: Path, opened: Opener) -> None:
    fill(repo, {"forced.log": "x"})
    git(repo, "add", "-f", "forced.log")
    git(repo, "update-index", "--split-index")
    tree = await opened(repo)
    assert await tree.read(await tree.snapshot(), "forced.log") == b"x"


async def test_submodules_are_recorded_and_never_entered(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    git(library, "init", "-q")
    fill(library, {"lib.c": "1"})
    git(library, "add", "-A")
    git(library, "commit", "-qm", "lib")
    git(repo, "submodule", "add", "-q", str(library), "vendor/lib")
    tree = await opened(repo)
    first = await tree.snapshot()
    assert await tree.read(first, "vendor/lib/lib.c") is None
    assert any("vendor/lib: a repository of its own" in note for note in tree.notes)
    fill(repo, {"vendor/lib/lib.c": "2"})
    assert await tree.snapshot() == first
    git(repo / "vendor" / "lib", "commit", "-qam", "moved")
    second = await tree.snapshot()
    [change] = await tree.changes(first, second)
    assert (change.path, change.before_mode, change.after_mode) == (
        "vendor/lib",
        "160000",
        "160000",
    )
    assert await tree.restore(second, first) == ((), ("vendor/lib",))
    assert (repo / "vendor/lib/lib.c").read_text() == "2"


async def test_nested_repositories_of_all_sorts(repo: Path, opened: Opener, tmp_path: Path) -> None:
    for name in ("unborn", "born", "gone"):
        (repo / name).mkdir()
        git(repo / name, "init", "-q")
        fill(repo / name, {"x": name})
    for name in ("born", "gone"):
        git(repo / name, "add", "-A")
        git(repo / name, "commit", "-qm", "x")
    git(repo, "init", "-q", "--bare", "bare")
    fill(
        repo,
        {"broken/.git": "gitdir: /nowhere", "broken/x": "1", "empty/.git/x": "", "empty/y": "2"},
    )
    tree = await opened(repo)
    first = await tree.snapshot()
    names = {c.path for c in await tree.changes("", first)}
    assert {"born", "gone", "bare/HEAD", "empty/y"} <= names
    assert not names & {"born/x", "unborn/x", "empty/.git/x"}
    assert any("unborn: a repository of its own, without a commit" in note for note in tree.notes)
    shell(repo, "rm -rf gone/.git")
    second = await tree.snapshot()
    assert {c.path for c in await tree.changes(first, second)} == {"gone", "gone/x"}
    assert await tree.snapshot() == second


async def test_sha256_repositories(tmp_path: Path, opened: Opener) -> None:
    root = tmp_path / "sha256"
    root.mkdir()
    git(root, "init", "-q", "--object-format=sha256")
    fill(root, {"a": "1"})
    git(root, "add", "a")
    git(root, "commit", "-qm", "a")
    tree = await opened(root)
    first = await tree.snapshot()
    assert len(first) == 64
    fill(root, {"a": "2", "b": "3"})
    assert await tree.restore(await tree.snapshot(), first) == (("a", "b"), ())
    assert (root / "a").read_text() == "1"


# -- odd files -------------------------------------------------------------------------------------


async def test_odd_names(repo: Path, opened: Opener, tmp_path: Path) -> None:
    names = [
        *(
            "with space",
            "new\nline",
            "tab\there",
            "quote\"'",
            "-dash",
            "back\\slash",
            ":colon",
            "é",
        ),
        *("e\u0301", "*star*", "[x]", "git~1", "trailing ", "x" * 255, ".GIT-not", "a:b", "%s"),
    ]
    fill(repo, {f"odd/{name}": name for name in names})
    (repo / os.fsdecode(b"odd/\xff\xfe latin")).write_bytes(b"latin")
    tree = await opened(repo)
    first = await tree.snapshot()
    assert await exported(tree, first, tmp_path) == contents(repo)
    assert await tree.read(first, os.fsdecode(b"odd/\xff\xfe latin")) == b"latin"
    before = contents(repo)
    for path in (repo / "odd").iterdir():
        path.unlink()
    second = await tree.snapshot()
    restored, external = await tree.restore(second, first)
    assert (len(restored), external) == (len(names) + 1, ())
    assert contents(repo) == before


async def test_what_is_no_file_is_left_out_with_a_note(repo: Path, opened: Opener) -> None:
    tree = await opened(repo)
    first = await tree.snapshot()
    os.mkfifo(repo / "pipe")
    with (repo / "sparse").open("wb") as file:
        file.truncate(10**12)
    assert await tree.snapshot() == first
    assert tree.notes == ("sparse: larger than 1,024 MiB",)
    (repo / "a.txt").unlink()
    os.mkfifo(repo / "a.txt")
    second = await tree.snapshot()
    assert [(c.path, c.kind) for c in await tree.changes(first, second)] == [("a.txt", "deleted")]
    assert await tree.restore(second, first) == ((), ("a.txt",))


async def test_unreadable_files_do_not_stop_a_snapshot(repo: Path, opened: Opener) -> None:
    tree = await opened(repo)
    first = await tree.snapshot()
    (repo / "a.txt").chmod(0)
    if os.access(repo / "a.txt", os.R_OK):
        pytest.skip("root reads everything")
    fill(repo, {"b": "1"})
    second = await tree.snapshot()
    assert [c.path for c in await tree.changes(first, second)] == ["b"]
    assert tree.notes == ("a.txt: not readable",)


SWAPS: dict[str, str] = {
    "file to directory": "rm a.txt; mkdir a.txt; echo x >a.txt/x",
    "directory to file": "rm -r src; echo x >src",
    "file to link": "rm a.txt; ln -s src/b.py a.txt",
    "link changes": "rm link; ln -s elsewhere link",
    "link to file": "rm link; echo x >link",
    "link to directory": "rm link; mkdir link; echo x >link/y",
    "directory to link inside": "mv src moved; ln -s moved src",
    "directory to link outside": "mv src ../moved-$$; ln -s ../moved-$$ src",
    "mode": "chmod +x a.txt; chmod -x run.sh",
    "rename": "mv a.txt b.txt; mv src lib",
    "emptied": "rm -r src a.txt link run.sh",
    "deep": "mkdir -p x/y/z; echo 1 >x/y/z/f; echo 2 >x/g",
    "truncated": ": >a.txt",
    "broken link": "ln -s /no/such/place new; ln -s . self",
}


@pytest.mark.parametrize("script", SWAPS.values(), ids=SWAPS)
async def test_every_change_is_seen_and_undone(
    repo: Path, opened: Opener, tmp_path: Path, script: str
) -> None:
    fill(repo, {"run.sh": "#!/bin/sh\n"})
    (repo / "run.sh").chmod(0o755)
    (repo / "link").symlink_to("a.txt")
    tree = await opened(repo)
    first = await tree.snapshot()
    before = contents(repo)
    shell(repo, script)
    second = await tree.snapshot()
    changed = {c.path for c in await tree.changes(first, second)}
    assert changed
    assert await exported(tree, second, tmp_path) == contents(repo)
    restored, external = await tree.restore(second, first)
    assert (set(restored), external) == (changed, ())
    assert contents(repo) == before
    assert await tree.snapshot() == first
    assert empty_directories(repo) == []


# -- restoring -------------------------------------------------------------------------------------


async def test_edits_of_others_are_kept(repo: Path, opened: Opener) -> None:
    fill(repo, {"c": "1", "d": "1", "e": "1"})
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(repo, {"a.txt": "mend", "c": "mend", "new": "mend", "new2": "mend"})
    (repo / "d").unlink()
    (repo / "e").unlink()
    second = await tree.snapshot()
    fill(repo, {"c": "editor", "d": "editor", "new": "editor", "fresh": "editor"})
    assert await tree.restore(second, first) == (("a.txt", "e", "new2"), ("c", "d", "new"))
    texts = {name: data.decode() for name, (_, data) in contents(repo).items() if "/" not in name}
    del texts[".gitignore"]
    assert texts == {
        "a.txt": "one\n",
        "c": "editor",
        "d": "editor",
        "e": "1",
        "new": "editor",
        "fresh": "editor",
    }


async def test_a_file_in_a_directory_of_others_is_kept(repo: Path, opened: Opener) -> None:
    """The mend made a directory of a file, and somebody put a file of their own there."""
    tree = await opened(repo)
    first = await tree.snapshot()
    (repo / "a.txt").unlink()
    fill(repo, {"a.txt/x": "mend"})
    second = await tree.snapshot()
    fill(repo, {"a.txt/own": "mine"})
    assert await tree.restore(second, first) == (("a.txt/x",), ("a.txt",))
    assert (repo / "a.txt" / "own").read_text() == "mine"


async def test_nothing_is_written_through_links(repo: Path, opened: Opener, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    fill(outside, {"b.py": "mend", "c.py": "mend"})
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(repo, {"src/b.py": "mend", "src/c.py": "mend"})
    second = await tree.snapshot()
    (repo / "src").rename(repo / "old")
    (repo / "src").symlink_to(outside)
    assert "src/b.py" in (await tree.restore(second, first))[1]
    assert contents(outside) == {"b.py": ("100644", b"mend"), "c.py": ("100644", b"mend")}


async def test_a_hard_link_to_outside_is_not_written_through(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(tmp_path, {"outside": "shared"})
    (repo / "a.txt").unlink()
    (repo / "a.txt").hardlink_to(tmp_path / "outside")
    await tree.restore(await tree.snapshot(), first)
    assert (repo / "a.txt").read_text() == "one\n"
    assert (tmp_path / "outside").read_text() == "shared"


async def test_a_private_file_stays_private(repo: Path, opened: Opener) -> None:
    fill(repo, {".env": "A=1"})
    (repo / ".env").chmod(0o600)
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(repo, {".env": "A=2"})
    await tree.restore(await tree.snapshot(), first)
    assert ((repo / ".env").read_text(), (repo / ".env").stat().st_mode & 0o777) == ("A=1", 0o600)


async def test_a_damaged_snapshot_is_not_restored(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    tree = await opened(repo)
    fill(repo, {"a.txt": "unsaved work\n"})
    first = await tree.snapshot()
    fill(repo, {"a.txt": "mend\n"})
    second = await tree.snapshot()
    [change] = await tree.changes(second, first)
    blob = (
        tmp_path / f"state/repo/control.git/objects/{change.after_blob[:2]}/{change.after_blob[2:]}"
    )
    blob.chmod(0o600)
    blob.write_bytes(b"rubbish")
    with pytest.raises(RunnerError, match="missing or damaged"):
        await tree.restore(second, first)
    assert (repo / "a.txt").read_text() == "mend\n"


# -- looking at snapshots --------------------------------------------------------------------------


async def test_kinds_of_changes(repo: Path, opened: Opener) -> None:
    fill(repo, {"m": "1", "t": "1", "x": "1"})
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(repo, {"m": "2", "n": "1"})
    (repo / "t").unlink()
    (repo / "t").symlink_to("m")
    (repo / "x").chmod(0o755)
    (repo / "a.txt").unlink()
    second = await tree.snapshot()
    found = {
        c.path: (c.kind, c.before_mode, c.after_mode) for c in await tree.changes(first, second)
    }
    assert found == {
        "a.txt": ("deleted", "100644", ""),
        "m": ("modified", "100644", "100644"),
        "n": ("added", "", "100644"),
        "t": ("type", "100644", "120000"),
        "x": ("mode", "100644", "100755"),
    }


async def test_diff_stat_and_texts(repo: Path, opened: Opener) -> None:
    tree = await opened(repo)
    first = await tree.snapshot()
    big = "line\n" * 300_000
    fill(repo, {"a.txt": "two\n", "bin": b"\0\1", "new.py": "x = 1\n", "big": big})
    (repo / "src" / "b.py").unlink()
    second = await tree.snapshot()
    diff = await tree.diff(first, second)
    assert "-one\n+two\n" in diff
    assert diff.endswith("[... the diff goes on ...]\n")
    assert len(diff) < 200_100
    assert "5 files changed, 300002 insertions(+), 2 deletions(-)" in await tree.stat(first, second)
    assert await tree.texts(first, second) == [
        ("a.txt", "one\n", "two\n"),
        ("new.py", None, "x = 1\n"),
        ("src/b.py", "b = 1\n", None),
    ]


async def test_attributes_cannot_hide_a_diff(repo: Path, opened: Opener) -> None:
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(repo, {".gitattributes": "* -diff binary\n", "a.txt": "two\n"})
    assert "-one\n+two\n" in await tree.diff(first, await tree.snapshot())


async def test_a_subset_changes_only_with_its_paths(repo: Path, opened: Opener) -> None:
    tree = await opened(repo)
    first = await tree.snapshot()
    fill(repo, {"a.txt": "two\n"})
    second = await tree.snapshot()
    (repo / "src" / "b.py").chmod(0o755)
    third = await tree.snapshot()
    globs = ("src/**",)
    assert await tree.subset(first, globs) == await tree.subset(second, globs)
    assert await tree.subset(second, globs) != await tree.subset(third, globs)
    assert await tree.subset(first, None) == first


async def test_an_id_is_never_taken_for_an_option() -> None:
    for text in ("--output=/tmp/x", "HEAD", "", "a" * 39, "A" * 40):
        with pytest.raises(ValueError, match="no id"):
            valid(text)


async def test_ignored_things_are_linked_into_a_clean_checkout(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    fill(repo, {"build/tool": "x", "src/__pycache__/b.pyc": "x", "src/x.log": "x", "new": "x"})
    fill(repo, {".gitignore": "build/\n__pycache__/\n*.log\n"})
    tree = await opened(repo)
    target = tmp_path / "checkout"
    target.mkdir()
    await tree.export(await tree.snapshot(), target)
    await tree.link_ignored(target)
    links = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_symlink()}
    assert links == {"build", "src/x.log"}
    assert (target / "build" / "tool").read_text() == "x"


async def test_private_files_go_and_the_next_run_starts_from_the_last(
    repo: Path, opened: Opener, tmp_path: Path
) -> None:
    tree = await opened(repo)
    snapshot = await tree.snapshot()
    tree.close()
    control = tmp_path / "state" / "repo" / "control.git"
    assert list((control / "trees").iterdir()) == []
    (control / "trees" / "999999999.1").mkdir()
    again = await opened(repo)
    assert not (control / "trees" / "999999999.1").exists()
    assert await again.snapshot() == snapshot
    assert await again.read(snapshot, "a.txt") == b"one\n"
