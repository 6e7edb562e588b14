"""Whole runs in unusual repositories: what ships, what is refused, and that nothing is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from exotic import (
    APP,
    FORMATTED,
    SHIP,
    SHIPPED,
    Exotic,
    begin,
    differing,
    files_below,
    kept,
    look,
    try_git,
    user_git,
)

from runner import UsageError
from runner.events import CommandFinished, Restored, SnapshotTaken, StepStarted, ToolCalled

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner import Report
    from runner.events import Event


def status(report: Report) -> dict[str, str]:
    return {step.id: str(step.status) for step in report.steps}


pytestmark = pytest.mark.slow

SHIPS = {"format": "succeeded", "lint": "succeeded", "commit": "succeeded", "push": "succeeded"}
GIVES_UP = {"format": "succeeded", "lint": "failed", "commit": "blocked", "push": "blocked"}


# -- where the work tree lies ----------------------------------------------------------------------


def ordinary(home: Path) -> Exotic:
    return begin(home)


def sparse(home: Path) -> Exotic:
    place = begin(home)
    place.git("sparse-checkout", "init", "--cone")
    assert not (place.root / "docs").exists()
    return place


def sparse_index(home: Path) -> Exotic:
    place = begin(home)
    place.git("sparse-checkout", "init", "--cone", "--sparse-index")
    return place


def sparse_patterns(home: Path) -> Exotic:
    place = begin(home)
    place.git("sparse-checkout", "init", "--no-cone")
    place.git("sparse-checkout", "set", "--no-cone", "/app.txt")
    assert not (place.root / "README.md").exists()
    return place


def linked_worktree(home: Path) -> Exotic:
    place = begin(home)
    place.git("worktree", "add", "-q", "-b", "side", str(home / "linked"))
    return Exotic(home, home / "linked")


def detached_worktree_inside(home: Path) -> Exotic:
    place = begin(home)
    place.write(".git/info/exclude", "trees/\n")
    place.git("worktree", "add", "-q", "-b", "side", str(place.root / "trees/side"))
    return Exotic(home, place.root / "trees/side")


def shared_clone(home: Path) -> Exotic:
    begin(home)
    user_git("clone", "-q", "--shared", str(home / "repo"), str(home / "clone"), cwd=home)
    clone = Exotic(home, home / "clone")
    clone.git("remote", "set-url", "origin", str(clone.remote))
    return clone


def shallow_clone(home: Path) -> Exotic:
    place = begin(home)
    place.write("README.md", "# More\n")
    place.commit_all("second")
    place.git("push", "-q")
    user_git("clone", "-q", "--depth=1", f"file://{place.remote}", str(home / "clone"), cwd=home)
    return Exotic(home, home / "clone")


def partial_clone(home: Path) -> Exotic:
    place = begin(home)
    user_git("config", "uploadpack.allowFilter", "true", cwd=place.remote)
    place.write("docs/guide.txt", "new guide\n")
    place.commit_all("second")
    place.git("push", "-q")
    url = f"file://{place.remote}"
    user_git("clone", "-q", "--filter=blob:none", url, str(home / "clone"), cwd=home)
    return Exotic(home, home / "clone")


def with_submodule(home: Path) -> Exotic:
    place = begin(home)
    allow = ("-c", "protocol.file.allow=always")
    place.git(*allow, "submodule", "--quiet", "add", str(place.remote), "sub")
    place.commit_all("add a submodule")
    place.write("sub/README.md", "edited inside\n")
    place.write("sub/new.txt", "new inside\n")
    place.git("push", "-q")
    return place


def inside_submodule(home: Path) -> Exotic:
    place = with_submodule(home)
    place.git("checkout", "-q", "main", cwd=place.root / "sub")
    place.git("checkout", "-q", ".", cwd=place.root / "sub")
    (place.root / "sub/new.txt").unlink()
    return Exotic(home, place.root / "sub")


def nested_repository(home: Path) -> Exotic:
    place = begin(home)
    place.write("inner/file.txt", "own\n")
    user_git("init", "-q", cwd=place.root / "inner")
    place.write("empty/.keep", "")
    user_git("init", "-q", cwd=place.root / "empty")
    return place


def separate_git_dir(home: Path) -> Exotic:
    place = begin(home)
    place.git("init", "-q", "--separate-git-dir", str(home / "elsewhere.git"))
    return place


def linked_root(home: Path) -> Exotic:
    place = begin(home)
    (home / "link").symlink_to(place.root)
    return Exotic(home, home / "link")


def sha256(home: Path) -> Exotic:
    place = Exotic(home, home / "repo")
    place.root.mkdir()
    place.git("init", "-q", "-b", "main", "--object-format=sha256")
    place.write("app.txt", APP)
    place.commit_all()
    flags = ("-q", "--bare", "--object-format=sha256")
    user_git("init", *flags, str(place.remote), cwd=home)
    place.git("remote", "add", "origin", str(place.remote))
    return place


def packed_and_old(home: Path) -> Exotic:
    place = begin(home)
    place.git("checkout", "-q", "-b", "feature/one/two")
    place.git("pack-refs", "--all")
    place.git("gc", "-q")
    return place


def split_index(home: Path) -> Exotic:
    place = begin(home)
    place.git("update-index", "--split-index")
    place.write("README.md", "# staged\n")
    place.git("add", "README.md")
    place.git("commit", "-q", "-m", "second")
    return place


def untracked_cache(home: Path) -> Exotic:
    place = begin(home)
    place.git("config", "core.untrackedCache", "true")
    place.git("config", "core.fsmonitor", "true-is-not-run")
    place.git("config", "core.fsmonitor", "false")
    place.git("update-index", "--untracked-cache", "--index-version", "4")
    place.git("status")
    return place


# -- what is in it ---------------------------------------------------------------------------------


def filter_elsewhere(home: Path) -> Exotic:
    """A git-crypt-like filter over one file, as LFS and git-crypt set themselves up."""
    place = begin(home)
    rot = home / "rot"
    rot.write_text("#!/bin/sh\ntr a-z n-za-m\n")
    rot.chmod(0o755)
    place.git("config", "filter.crypt.clean", str(rot))
    place.git("config", "filter.crypt.smudge", str(rot))
    place.git("config", "filter.crypt.required", "true")
    place.write(".gitattributes", "*.secret filter=crypt diff=crypt\n")
    place.write("a.secret", "topsecret\n")
    place.commit_all("a secret")
    assert place.git("cat-file", "blob", "HEAD:a.secret") == "gbcfrperg"
    return place


LFS = """\
#!/bin/sh
# What git-lfs does, in little: the content goes to a store, a pointer goes to git.
store=$(dirname "$0")/lfs-store
mkdir -p "$store"
cat >"$store/in.$$"
if [ "$1" = clean ]; then
    if head -c 8 "$store/in.$$" | grep -q '^version '; then cat "$store/in.$$"; exit; fi
    oid=$(sha256sum <"$store/in.$$" | cut -d' ' -f1)
    size=$(wc -c <"$store/in.$$")
    mv "$store/in.$$" "$store/$oid"
    printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%s\\nsize %s\\n' "$oid" "$size"
else
    oid=$(sed -n 's/^oid sha256://p' "$store/in.$$")
    if [ -f "$store/$oid" ]; then cat "$store/$oid"; else cat "$store/in.$$"; fi
fi
"""


def lfs(home: Path) -> Exotic:
    """One object that is there, one that was not fetched: the work tree holds its pointer."""
    place = begin(home)
    tool = home / "lfs"
    tool.write_text(LFS)
    tool.chmod(0o755)
    for kind in ("clean", "smudge"):
        place.git("config", f"filter.lfs.{kind}", f"{tool} {kind} %f")
    place.git("config", "filter.lfs.required", "true")
    place.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    place.write("big.bin", b"\0\1\2" * 1000)
    place.write("absent.bin", b"\3\4" * 1000)
    place.commit_all("two objects")
    shutil.rmtree(home / "lfs-store")
    (place.root / "absent.bin").unlink()
    place.git("checkout", "-q", "absent.bin")
    assert place.read("absent.bin").startswith("version https://git-lfs")
    return place


def odd_files(home: Path) -> Exotic:
    place = begin(home)
    place.write("with space.txt", "a\n")
    place.write("new\nline.txt", "a\n")
    place.write("-h", "a\n")
    place.write("--help", "a\n")
    place.write(":(top)x", "a\n")
    place.write("quote'\"`$(x).txt", "a\n")
    place.write("tab\t.txt", "a\n")
    place.write("back\\slash.txt", "a\n")
    place.write("ünïcode.txt", "a\n")
    place.write(os.fsdecode(b"latin-\xe9.txt"), "a\n")
    place.write("tool", "#!/bin/sh\n", mode=0o755)
    (place.root / "link").symlink_to("README.md")
    (place.root / "dangling").symlink_to("nowhere")
    (place.root / "outside").symlink_to("/etc")
    place.commit_all("odd names")
    return place


def tracked_but_ignored(home: Path) -> Exotic:
    place = begin(home)
    place.write(".gitignore", "*.log\napp.txt\n")
    place.write("kept.log", "log\n")
    place.git("add", "-f", "kept.log")
    place.commit_all("ignore")
    place.write("other.log", "ignored\n")
    return place


def stashed(home: Path) -> Exotic:
    place = begin(home)
    for text in ("one", "two"):
        place.write("README.md", text)
        place.git("stash", "push", "-q", "-m", text)
    return place


ORDINARY: list[Callable[[Path], Exotic]] = [
    ordinary,
    sparse,
    sparse_index,
    sparse_patterns,
    linked_worktree,
    detached_worktree_inside,
    shared_clone,
    shallow_clone,
    partial_clone,
    with_submodule,
    inside_submodule,
    nested_repository,
    separate_git_dir,
    linked_root,
    sha256,
    packed_and_old,
    split_index,
    untracked_cache,
    filter_elsewhere,
    lfs,
    odd_files,
    tracked_but_ignored,
    stashed,
]


SUMS = (
    "git -c core.quotePath=false ls-files -z | LC_ALL=C sort -z"
    ' | while IFS= read -r -d \'\' f; do [ ! -f "$f" ] || sha256sum -- "$f"; done'
    " | sed /app.txt/d"
)
"""Content of every tracked file but the one that is mended."""


def tracking(place: Exotic) -> list[str]:
    """Where git itself would note the push: a clone of one branch follows only that."""
    wanted = place.git("config", "remote.origin.fetch")
    return ["refs/remotes/origin/out"] if wanted.startswith("+refs/heads/*") else []


def branch_of(place: Exotic) -> str:
    return place.git("symbolic-ref", "HEAD")


@pytest.mark.parametrize("build", ORDINARY, ids=lambda build: build.__name__)
async def test_a_run_ships_and_touches_nothing_else(
    build: Callable[[Path], Exotic], world: Path
) -> None:
    place = build(world)
    # Something is left out: so the checks run on a clean checkout too, which must be the same.
    place.write("mine.note", "untracked\n")
    (world / "seen").write_bytes(os.fsencode(place.shell(SUMS)))
    same = f"  - id: same\n    run: |\n      {SUMS} | diff - {world}/seen >&2\n  - id: commit"
    before, start = look(place), place.status()
    report = await place.run(SHIP.replace("  - id: commit", same))
    assert (report.exit_code, status(report)) == (0, {**SHIPS, "same": "succeeded"}), report
    assert "clean" in [event.purpose for event in place.of(CommandFinished)]
    kept(
        before,
        look(place),
        files=["app.txt"],
        refs=[branch_of(place), *tracking(place)],
    )
    assert place.read() == SHIPPED
    assert place.pushed() == place.head
    assert place.git("diff", "--name-only", "HEAD~", "HEAD") == "app.txt"
    assert place.git("show", "HEAD:app.txt") + "\n" == SHIPPED
    assert place.status() == start
    place.git("fsck", "--connectivity-only")


async def test_local_content_under_flags_of_the_index_stays_local(world: Path) -> None:
    place = begin(world)
    place.git("update-index", "--assume-unchanged", "README.md")
    place.git("update-index", "--skip-worktree", "docs/guide.txt")
    place.write("README.md", "local only\n")
    place.write("docs/guide.txt", "local only\n")
    place.write("mine.note", "untracked\n")
    before = look(place)
    both = 'grep -q "local only" README.md docs/guide.txt || grep -q "^guide" docs/guide.txt'
    step = f"  - id: both\n    run: |\n      {both}\n  - id: commit"
    report = await place.run(SHIP.replace("  - id: commit", step))
    assert report.exit_code == 0, report
    assert "clean" in [event.purpose for event in place.of(CommandFinished)]
    kept(before, look(place), files=["app.txt"], refs=["refs/heads/main", *tracking(place)])
    assert place.git("diff", "--name-only", "HEAD~", "HEAD") == "app.txt"


@pytest.mark.parametrize("build", ORDINARY, ids=lambda build: build.__name__)
async def test_a_run_that_gives_up_undoes_its_mends(
    build: Callable[[Path], Exotic], world: Path
) -> None:
    place = build(world)
    before = look(place)
    report = await place.run(models=place.bungler())
    assert (report.exit_code, status(report)) == (1, GIVES_UP), report
    kept(before, look(place), files=["app.txt"], index=[])
    assert place.read() == FORMATTED
    assert place.pushed() == ""


# -- line ends and filters over the changed file itself --------------------------------------------


@pytest.mark.parametrize(
    ("attributes", "config"),
    [
        ("* text=auto eol=crlf\n", {}),
        ("*.txt text\n", {"core.eol": "crlf"}),
        ("", {"core.autocrlf": "true"}),
    ],
    ids=["attributes", "core.eol", "autocrlf"],
)
async def test_line_ends_stay_as_they_are_on_both_sides(
    attributes: str, config: dict[str, str], world: Path
) -> None:
    place = begin(world)
    for key, value in config.items():
        place.git("config", key, value)
    place.write(".gitattributes", attributes)
    place.commit_all("attributes")
    for name in ("app.txt", "README.md"):
        (place.root / name).unlink()
    place.git("checkout", "-q", ".")
    assert place.read() == APP.replace("\n", "\r\n")
    assert place.status() == []
    before = look(place)
    report = await place.run()
    assert report.exit_code == 0, report
    kept(before, look(place), files=["app.txt"], refs=["refs/heads/main", *tracking(place)])
    assert place.read() == SHIPPED.replace("\n", "\r\n")
    assert place.git("cat-file", "blob", "HEAD:app.txt") + "\n" == SHIPPED
    assert place.status() == []


async def test_autocrlf_input_and_a_file_that_was_stored_with_crlf(world: Path) -> None:
    place = begin(world)
    place.write("app.txt", APP.replace("\n", "\r\n"))
    place.commit_all("stored raw")
    place.git("config", "core.autocrlf", "input")
    before = look(place)
    report = await place.run()
    assert report.exit_code == 0, report
    kept(before, look(place), files=["app.txt"], refs=["refs/heads/main", *tracking(place)])
    # As the user's own git: a file that is stored with CRLF is not normalised behind their back.
    assert place.git("cat-file", "blob", "HEAD:app.txt") == SHIPPED.replace("\n", "\r\n").strip(
        "\n"
    )
    assert place.status() == []


async def test_a_changed_file_with_a_filter_is_refused_and_kept_then_allowed(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = filter_elsewhere(world)
    place.write(".gitattributes", "*.secret filter=crypt\napp.txt filter=crypt\n")
    place.commit_all("the app is secret too")
    before = look(place)
    report = await place.run()
    assert report.exit_code == 1, report
    assert status(report) == {**SHIPS, "commit": "failed", "push": "blocked"}
    assert "filter 'crypt'" in report.steps[2].reason
    kept(before, look(place), files=["app.txt"], index=[])
    assert place.read() == SHIPPED
    config = world / "user.yaml"
    config.write_text("filters: [crypt]\n")
    monkeypatch.setenv("SUBRUNNER_CONFIG", str(config))
    again = await place.run()
    assert again.exit_code == 0, again
    kept(before, look(place), files=["app.txt"], refs=["refs/heads/main", *tracking(place)])
    assert "uryyb" in place.git("cat-file", "blob", "HEAD:app.txt")
    assert place.status() == []


# -- what the user has under way -------------------------------------------------------------------


async def test_a_dirty_and_partly_staged_index(world: Path) -> None:
    place = begin(world)
    for name in ("staged", "partly", "dirty", "gone", "moved"):
        place.write(f"{name}.txt", "one\ntwo\nthree\n")
    place.commit_all("more")
    place.write("staged.txt", "ONE\ntwo\nthree\n")
    place.write("partly.txt", "ONE\ntwo\nthree\n")
    place.write("new.txt", "staged\n")
    place.git("add", "-A")
    place.git("mv", "moved.txt", "to.txt")
    place.write("partly.txt", "ONE\ntwo\nTHREE\n")
    place.write("dirty.txt", "one\nTWO\nthree\n")
    (place.root / "gone.txt").unlink()
    place.write("untracked.txt", "mine\n")
    before = look(place)
    report = await place.run()
    assert report.exit_code == 0, report
    shipped = {"app.txt", "staged.txt", "partly.txt", "dirty.txt", "gone.txt", "new.txt"}
    shipped |= {"moved.txt", "to.txt"}
    assert set(place.git("diff", "--name-only", "--no-renames", "HEAD~", "HEAD").split()) == shipped
    after = look(place)
    assert differing(before.files, after.files) == {"app.txt"}
    assert place.status() == ["?? untracked.txt"]
    assert "left out of the commit: untracked.txt" in place.said()


@pytest.mark.parametrize("files", ["staged", '["app.txt"]', "all"])
async def test_each_choice_of_files_keeps_the_rest_as_it_was(files: str, world: Path) -> None:
    place = begin(world)
    place.write("partly.txt", "one\ntwo\nthree\n")
    place.write("dirty.txt", "one\n")
    place.write("other.txt", "one\n")
    place.commit_all("more")
    place.write("partly.txt", "ONE\ntwo\nthree\n")
    place.write("other.txt", "staged\n")
    place.write("app.txt", APP + "staged\n")
    place.git("add", "-A")
    place.write("partly.txt", "ONE\ntwo\nTHREE\n")
    place.write("dirty.txt", "TWO\n")
    place.write("untracked.txt", "mine\n")
    before = look(place)
    report = await place.run(SHIP.replace("message: auto", f"message: auto, files: {files}"))
    assert report.exit_code == 0, report
    after = look(place)
    assert differing(before.files, after.files) == {"app.txt"}
    committed = set(place.git("diff", "--name-only", "HEAD~", "HEAD").split())
    assert place.git("show", "HEAD:app.txt") + "\n" == SHIPPED + "staged\n"
    if files == "staged":
        assert committed == {"app.txt", "partly.txt", "other.txt"}
        assert place.git("show", "HEAD:partly.txt") == "ONE\ntwo\nthree"
        assert place.status() == [" M dirty.txt", " M partly.txt", "?? untracked.txt"]
        assert differing(before.index, after.index) == {"app.txt"}
    elif files == "all":
        assert committed == {"app.txt", "partly.txt", "other.txt", "dirty.txt", "untracked.txt"}
        assert place.status() == []
    else:
        assert committed == {"app.txt"}
        assert differing(before.index, after.index) == {"app.txt"}
        assert place.status() == [
            " M dirty.txt",
            "?? untracked.txt",
            "M  other.txt",
            "MM partly.txt",
        ]


async def test_what_is_left_out_and_needed_refuses_and_environments_are_linked(world: Path) -> None:
    place = begin(world)
    place.write(".gitignore", "env/\n")
    place.commit_all("ignore")
    place.write("env/tool", "#!/bin/sh\ncat needed.txt 2>&1 >/dev/null\n", mode=0o755)
    place.write("needed.txt", "untracked\n")
    before = look(place)
    workflow = SHIP.replace("  - id: commit", "  - id: test\n    run: env/tool\n  - id: commit")
    report = await place.run(workflow)
    assert report.exit_code == 1, report
    assert "passes in the work tree but not on what would be committed" in report.steps[3].reason
    assert "needed.txt" in report.steps[3].hint
    kept(before, look(place), files=["app.txt"], index=[])
    place.write("env/tool", "#!/bin/sh\ntest ! -e needed.txt || test -d .git\n", mode=0o755)
    again = await place.run(workflow)
    assert again.exit_code == 0, again
    assert place.status() == ["?? needed.txt"]


@pytest.mark.parametrize("kind", ["identity", "lock", "merge", "unmerged", "protected", "rebase"])
async def test_a_commit_that_is_not_safe_is_refused_with_nothing_lost(
    kind: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = begin(world)
    told = {
        "identity": "does not know who you are",
        "lock": "index.lock exists",
        "merge": "a merge is in progress",
        "unmerged": "unmerged paths",
        "protected": "'main' is protected",
        "rebase": "a rebase is in progress",
    }[kind]
    if kind == "identity":
        (Path(os.environ["HOME"]) / ".gitconfig").write_text("")
    elif kind == "lock":
        place.write(".git/index.lock", "left behind")
    elif kind == "protected":
        (world / "user.yaml").write_text("protected_branches: [main, 'release/*']\n")
        monkeypatch.setenv("SUBRUNNER_CONFIG", str(world / "user.yaml"))
    else:
        place.git("checkout", "-q", "-b", "side")
        place.write("README.md", "# theirs\n")
        place.commit_all("theirs")
        place.git("checkout", "-q", "main")
        place.write("README.md", "# ours\n")
        place.commit_all("ours")
        how = ["rebase", "side"] if kind == "rebase" else ["merge", "side"]
        try_git(*how, cwd=place.root)
        if kind == "unmerged":
            (place.root / ".git/MERGE_HEAD").unlink()
    before, start = look(place), place.status()
    report = await place.run()
    assert report.exit_code == 1, report
    assert status(report)["commit"] == "failed"
    assert told in report.steps[2].reason
    kept(before, look(place), files=["app.txt"], index=[])
    assert place.read() == SHIPPED
    assert [line for line in place.status() if "app.txt" not in line] == start
    assert (place.root / ".git/index.lock").exists() == (kind == "lock")


async def test_a_detached_head_commits_there_and_pushes(world: Path) -> None:
    place = begin(world)
    place.git("checkout", "-q", "--detach")
    start = place.head
    report = await place.run()
    assert report.exit_code == 0, report
    assert (place.root / ".git/HEAD").read_text().strip() == place.head != start
    assert place.git("rev-parse", "HEAD~") == start == place.git("rev-parse", "main")
    assert place.pushed() == place.head
    assert place.git("reflog", "-1", "--format=%gs").startswith("commit: ")


async def test_an_unborn_branch_gets_its_first_commit(world: Path) -> None:
    place = Exotic(world, world / "repo")
    place.root.mkdir()
    place.git("init", "-q", "-b", "main")
    user_git("init", "-q", "--bare", str(place.remote), cwd=world)
    place.git("remote", "add", "origin", str(place.remote))
    place.write("app.txt", APP)
    place.write("staged.txt", "staged\n")
    place.git("add", "app.txt", "staged.txt")
    place.write("untracked.txt", "mine\n")
    report = await place.run()
    assert report.exit_code == 0, report
    assert place.git("ls-tree", "--name-only", "HEAD").split() == ["app.txt", "staged.txt"]
    assert place.git("rev-list", "--count", "HEAD") == "1"
    assert place.pushed() == place.head
    assert place.status() == ["?? untracked.txt"]


async def test_an_unborn_branch_with_nothing_staged_has_nothing_to_commit(world: Path) -> None:
    place = Exotic(world, world / "repo")
    place.root.mkdir()
    place.git("init", "-q", "-b", "main")
    place.write("app.txt", SHIPPED)
    report = await place.run(SHIP.split("  - id: push")[0])
    assert (report.exit_code, status(report)["commit"]) == (0, "skipped"), report
    assert place.status() == ["?? app.txt"]


# -- the changed file itself has an odd name, mode or kind -----------------------------------------


@pytest.mark.parametrize(
    "name", ["with space.txt", "-h", "sub dir/ünïcode.txt", ":(top)app", "$(x)`y`.txt"]
)
async def test_a_file_with_an_odd_name_is_mended_and_shipped(name: str, world: Path) -> None:
    place = begin(world)
    place.git("rm", "-q", "app.txt")
    place.write(name, APP, mode=0o755)
    place.commit_all("odd")
    place.app = name
    report = await place.run()
    assert report.exit_code == 0, report
    assert place.read() == SHIPPED
    assert (place.root / name).stat().st_mode & 0o777 == 0o755
    assert place.git("diff", "--name-only", "-z", "HEAD~", "HEAD") == name + "\0"
    assert place.git("ls-files", "--stage").count("100755") == 1
    assert place.pushed() == place.head
    assert place.status() == []


async def test_names_that_no_tool_can_spell_are_shipped_by_an_autofix(world: Path) -> None:
    place = begin(world)
    names = [
        os.fsdecode(b"latin-\xe9.txt"),
        "new\nline.txt",
        "tab\t.txt",
        "-h",
        "--version",
        "a\\b",
    ]
    for name in names:
        place.write(name, APP)
    place.write("tool", "#!/bin/sh\n")
    (place.root / "link").symlink_to("app.txt")
    place.commit_all("odd")
    place.write(
        "autofix.sh",
        """
        chmod +x tool
        ln -sfn README.md link
        for one in latin* new* tab* a?b -h --version; do printf x >"./$one"; done
        """,
    )
    place.commit_all("script")
    report = await place.run(
        """
        steps:
          - id: format
            run: test -x tool
            autofix: sh autofix.sh
          - id: commit
            commit: { message: auto }
          - id: push
            push: { remote: origin, branch: out }
        """
    )
    assert report.exit_code == 0, report
    changed = place.git("diff", "--name-only", "-z", "HEAD~", "HEAD").split("\0")[:-1]
    assert sorted(changed) == sorted([*names, "tool", "link"])
    assert place.git("ls-tree", "HEAD", "tool", "link").split()[0::4] == ["120000", "100755"]
    assert place.status() == []


# -- hooks -----------------------------------------------------------------------------------------


async def test_a_hook_that_fixes_is_taken_up_and_checks_see_it(world: Path) -> None:
    place = begin(world)
    place.hook("pre-commit", "grep -q Fixed app.txt || { echo Fixed >>app.txt; exit 1; }\n")
    report = await place.run()
    assert report.exit_code == 0, report
    assert place.git("show", "HEAD:app.txt") == SHIPPED + "Fixed"
    assert place.status() == []
    assert [a.rung.value for a in report.steps[2].attempts] == ["command"] * len(
        report.steps[2].attempts
    )


async def test_a_hook_that_fixes_and_stages_by_itself(world: Path) -> None:
    place = begin(world)
    place.hook(
        "pre-commit", "grep -q Fixed app.txt || { echo Fixed >>app.txt; git add app.txt; }\n"
    )
    report = await place.run()
    assert report.exit_code == 0, report
    assert place.git("show", "HEAD:app.txt") == SHIPPED + "Fixed"
    assert place.status() == []


STAGED_ONLY = """
    git diff --quiet || { echo "unstaged changes would be stashed away"; exit 1; }
    git show :README.md | grep -Hn "Read me" && exit 1
    grep -q Fixed app.txt || { echo Fixed >>app.txt; echo "fixed app.txt"; exit 1; }
    """
"""As the pre-commit framework: what is not in the index does not count, and a fix is a failure."""


async def test_a_hook_that_looks_at_the_index_alone(world: Path) -> None:
    place = begin(world)
    place.hook("pre-commit", STAGED_ONLY)
    models = place.script(
        """
        rules:
          - when: { role: cheap, step: lint }
            turns:
              - call: edit_file
                with: { path: app.txt, old_text: helo, new_text: hello }
              - done: spelled right
          - when: { role: cheap, step: commit }
            turns:
              - call: edit_file
                with: { path: README.md, old_text: Read me, new_text: Title }
              - done: as the hook wants it
          - cannot: not my part
        """
    )
    report = await place.run(models=models)
    assert report.exit_code == 0, report
    assert place.git("show", "HEAD:app.txt") == SHIPPED + "Fixed"
    assert place.git("show", "HEAD:README.md") == "# Title"
    asked = [a for a in report.steps[2].attempts if a.rung.value != "command"]
    assert len(asked) == 1, "what the hook fixes by itself costs no token"
    assert place.status() == []


async def test_a_hook_that_never_settles_is_given_up(world: Path) -> None:
    place = begin(world)
    place.hook("pre-commit", "echo again >>app.txt\n")
    before = look(place)
    report = await place.run()
    assert report.exit_code == 1, report
    assert "did not settle" in report.steps[2].reason
    kept(before, look(place), files=["app.txt"], index=[])


@pytest.mark.parametrize("mended", [True, False])
async def test_a_failing_hook_goes_up_the_ladder(mended: bool, world: Path) -> None:
    place = begin(world)
    place.hook("pre-commit", 'grep -Hn "Read me" README.md && exit 1 || exit 0\n')
    old = "Read me" if mended else "# "
    place.hook("pre-push", 'cat >/dev/null; test "$1" = origin\n')
    before = look(place)
    models = place.script(
        f"""
        rules:
          - when: {{ role: cheap, step: lint }}
            turns:
              - call: edit_file
                with: {{ path: app.txt, old_text: helo, new_text: hello }}
              - done: spelled right
          - when: {{ step: commit }}
            turns:
              - call: edit_file
                with: {{ path: README.md, old_text: "{old}", new_text: "Title" }}
              - {"done: as the hook wants it" if mended else "cannot: no"}
          - cannot: not my part
        """
    )
    report = await place.run(models=models)
    if mended:
        assert report.exit_code == 0, report
        refs = ["refs/heads/main", *tracking(place)]
        kept(before, look(place), files=["app.txt", "README.md"], refs=refs)
        assert place.git("show", "HEAD:README.md") == "# Title"
        assert place.status() == []
    else:
        assert report.exit_code == 1, report
        assert "the pre-commit hook fails" in report.steps[2].reason
        kept(before, look(place), files=["app.txt"], index=[])
        assert place.read("README.md") == "# Read me\n"


async def test_a_hook_in_husky_s_way(world: Path) -> None:
    place = begin(world)
    husky = '. "$(dirname "$0")/h"\n'
    for name in ("pre-commit", "commit-msg", "pre-push"):
        place.hook(name, husky, where=".husky/_")
    runs = """
        name=$(basename "$0")
        script=$(dirname "$(dirname "$0")")/$name
        [ ! -f "$script" ] && exit 0
        export PATH="node_modules/.bin:$PATH"
        sh -e "$script" "$@"
        """
    place.hook("h", runs, where=".husky/_")
    place.write(".husky/_/.gitignore", "*\n")
    place.write(".husky/pre-commit", "lint-staged\n")
    place.write(".husky/commit-msg", 'grep -q "^[a-z]*[(:]" "$1"\n')
    place.write(".gitignore", "node_modules\n")
    staged = """
        git diff --cached --name-only | grep -q app.txt
        grep -q Formatted app.txt || echo Formatted >>app.txt
        git add app.txt
        """
    place.hook("lint-staged", staged, where="node_modules/.bin")
    place.git("config", "core.hooksPath", ".husky/_")
    place.git("add", "-A")
    place.git("-c", "core.hooksPath=/dev/null", "commit", "-q", "-m", "husky")
    before = look(place)
    report = await place.run()
    assert report.exit_code == 0, report
    kept(before, look(place), files=["app.txt"], refs=["refs/heads/main", *tracking(place)])
    assert place.git("show", "HEAD:app.txt") == SHIPPED + "Formatted"
    assert place.status() == []


@pytest.mark.parametrize("name", ["commit-msg", "prepare-commit-msg"])
async def test_a_hook_that_refuses_the_message(name: str, world: Path) -> None:
    place = begin(world)
    place.hook(name, 'echo "no ticket in the message" >&2; exit 1\n')
    before = look(place)
    report = await place.run(models=place.mender())
    assert report.exit_code == 1, report
    assert f"the {name} hook refuses the message" in report.steps[2].reason
    assert "no ticket in the message" in report.steps[2].tail
    kept(before, look(place), files=["app.txt"], index=[])
    assert place.read() == SHIPPED


async def test_message_hooks_may_write_the_message(world: Path) -> None:
    place = begin(world)
    place.hook("prepare-commit-msg", 'sed -i "1s/$/ (T-1)/" "$1"\n')
    place.hook("commit-msg", 'echo "Change-Id: I1" >>"$1"; grep -q "T-1" "$1"\n')
    report = await place.run()
    assert report.exit_code == 0, report
    message = place.git("log", "-1", "--format=%B")
    assert message.splitlines()[0].endswith("(T-1)")
    assert "Change-Id: I1" in message
    assert "Runner-Run: " in message


async def test_a_failing_pre_push_hook_leaves_the_commit_unpushed(world: Path) -> None:
    place = begin(world)
    place.hook("pre-push", "echo not on a friday; exit 1\n")
    report = await place.run()
    assert report.exit_code == 1, report
    assert status(report) == {**SHIPS, "push": "failed"}
    assert "not on a friday" in report.steps[3].tail
    assert place.pushed() == ""
    assert place.git("show", "HEAD:app.txt") + "\n" == SHIPPED
    assert place.status() == []
    skipped = await place.run(no_hooks=True)
    assert status(skipped)["commit"] == "skipped"


@pytest.mark.parametrize("name", ["pre-commit", "pre-push"])
async def test_a_hook_that_changes_during_the_run_ends_with_5(name: str, world: Path) -> None:
    place = begin(world)
    hook = place.hook(name, "exit 0\n")
    canary = world / "canary"
    before = look(place)
    workflow = SHIP.replace(
        "  - id: commit" if name == "pre-commit" else "  - id: push",
        f"  - id: swap\n    run: echo 'touch {canary}' >>{hook}\n"
        + ("  - id: commit" if name == "pre-commit" else "  - id: push"),
    )
    report = await place.run(workflow)
    assert report.exit_code == 5, report
    assert (
        "hooks changed during the run"
        in next(s for s in report.steps if s.status == "failed").reason
    )
    assert not canary.exists()
    assert place.pushed() == ""
    if name == "pre-commit":
        assert differing(before.refs, look(place).refs) == set()


async def test_a_hook_that_empties_the_message(world: Path) -> None:
    place = begin(world)
    place.hook("commit-msg", ': >"$1"\n')
    before = look(place)
    report = await place.run()
    assert report.exit_code == 1, report
    assert "message is empty" in report.steps[2].reason
    kept(before, look(place), files=["app.txt"], index=[])


async def test_a_hook_that_writes_latin_1_into_the_message(world: Path) -> None:
    place = begin(world)
    place.hook("commit-msg", "printf '\\nSigned: Ren\\351\\n' >>\"$1\"\n")
    report = await place.run()
    assert report.exit_code == 0, report
    raw = os.fsencode(place.git("cat-file", "commit", "HEAD"))
    assert "Signed: Ren\xe9".encode() in raw  # git itself makes UTF-8 of it


# -- other hands at work ---------------------------------------------------------------------------


FREE = SHIP.replace("lint-fixer", "fixer")
"""With an agent that may write files anew."""


class Editor:
    """Somebody who acts as soon as an event comes that answers to `when`, once."""

    def __init__(
        self, place: Exotic, when: Callable[[Event], bool], act: Callable[[], object]
    ) -> None:
        self.when, self.act, self.acted = when, act, False
        place.listeners.append(self)

    def __call__(self, event: Event) -> None:
        if not self.acted and self.when(event):
            self.acted = True
            self.act()


def tool_called(name: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, ToolCalled) and event.tool == name


def snapshot_taken(label: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, SnapshotTaken) and event.label == label


async def test_an_edit_while_a_mend_runs_is_neither_undone_nor_committed(world: Path) -> None:
    place = begin(world)
    editor = Editor(
        place,
        tool_called("edit_file"),
        lambda: (place.write("README.md", "# typed by hand\n"), place.write("mine.txt", "new\n")),
    )
    report = await place.run()
    assert editor.acted
    assert report.exit_code == 0, report
    assert report.steps[1].attempts[1].files == ("app.txt",)
    assert place.read("README.md") == "# typed by hand\n"
    assert place.git("diff", "--name-only", "HEAD~", "HEAD") == "app.txt"
    assert place.status() == [" M README.md", "?? mine.txt"]
    assert place.pushed() == place.head


async def test_an_edit_while_a_mend_fails_is_kept_and_reported(world: Path) -> None:
    place = begin(world)
    Editor(
        place,
        tool_called("write_file"),
        lambda: (place.write("README.md", "# typed by hand\n"), place.write("mine.txt", "new\n")),
    )
    before = look(place)
    report = await place.run(FREE, models=place.bungler())
    assert report.exit_code == 1, report
    assert "scope" not in report.steps[1].reason
    kept(before, look(place), files=["app.txt", "README.md", "mine.txt"], index=[])
    assert place.read() == FORMATTED
    assert place.read("README.md") == "# typed by hand\n"
    external = {path for event in place.of(Restored) for path in event.external}
    assert external == {"README.md", "mine.txt"}


async def test_an_edit_of_the_very_file_that_is_mended_is_kept(world: Path) -> None:
    place = begin(world)
    Editor(place, tool_called("write_file"), lambda: place.write("app.txt", "all mine: helo\n"))
    report = await place.run(FREE, models=place.bungler())
    assert report.exit_code == 1, report
    assert place.read() == "all mine: helo\n"
    assert not (place.root / "notes.txt").exists()
    assert "app.txt" in {path for event in place.of(Restored) for path in event.external}


@pytest.mark.parametrize("name", ["app.txt", "notes.txt"])
async def test_an_edit_just_before_a_restore_is_kept(name: str, world: Path) -> None:
    place = begin(world)
    Editor(place, snapshot_taken("before restore"), lambda: place.write(name, "helo by hand\n"))
    report = await place.run(FREE, models=place.bungler())
    assert report.exit_code == 1, report
    assert place.read(name) == "helo by hand\n"
    assert {path for event in place.of(Restored) for path in event.external} == {name}
    assert place.read("README.md") == "# Read me\n"


@pytest.mark.parametrize("ends", ["done: written", "cannot: too hard"])
async def test_an_edit_while_a_prompt_is_worked_on_is_kept(ends: str, world: Path) -> None:
    place = begin(world)
    models = place.script(
        f"""
        rules:
          - turns:
              - call: write_file
                with: {{ path: made.txt, content: made }}
              - {ends}
        """
    )

    def act() -> None:
        place.write("README.md", "# typed by hand\n")
        place.write("docs/guide.txt", "committed by hand\n")
        place.git("commit", "-q", "-m", "by hand", "docs/guide.txt")

    Editor(place, tool_called("write_file"), act)
    workflow = """
        steps:
          - id: make
            prompt: Make it.
          - id: commit
            commit: { message: auto }
        """
    report = await place.run(workflow, models=models)
    done = ends.startswith("done")
    assert (report.exit_code == 0) == done, report
    assert (place.root / "made.txt").exists() == done
    assert place.read("README.md") == "# typed by hand\n"
    assert place.status() == [" M README.md"]
    log = place.git("log", "--format=%s").splitlines()
    assert log[-2:] == ["by hand", "start"]
    assert len(log) == 2 + done
    if done:
        assert place.git("diff", "--name-only", "HEAD~", "HEAD") == "made.txt"


async def test_a_commit_of_the_user_while_a_mend_runs_stays(world: Path) -> None:
    place = begin(world)

    def act() -> None:
        place.write("README.md", "# committed by hand\n")
        place.git("commit", "-q", "-m", "by hand", "README.md")
        place.git("tag", "mine")

    Editor(place, tool_called("edit_file"), act)
    start = place.head
    report = await place.run()
    assert report.exit_code == 0, report
    assert place.git("log", "--format=%s").splitlines()[1:] == ["by hand", "start"]
    assert place.git("rev-parse", "HEAD~2") == start
    assert place.git("rev-parse", "mine") == place.git("rev-parse", "HEAD~")
    assert place.git("diff", "--name-only", "HEAD~", "HEAD") == "app.txt"
    assert place.status() == []


async def test_a_stash_of_the_user_while_a_mend_fails_stays(world: Path) -> None:
    place = begin(world)
    place.write("README.md", "# dirty\n")

    def act() -> None:
        place.git("stash", "push", "-q", "README.md")

    Editor(place, tool_called("edit_file"), act)
    report = await place.run(models=place.bungler())
    assert report.exit_code == 1, report
    assert place.git("show", "stash@{0}:README.md") == "# dirty"
    assert place.read("README.md") == "# Read me\n"
    assert place.read() == FORMATTED


async def test_the_user_switches_branches_during_a_run(world: Path) -> None:
    place = begin(world)
    Editor(place, tool_called("edit_file"), lambda: place.git("checkout", "-q", "-b", "other"))
    report = await place.run()
    assert report.exit_code == 1, report
    assert "HEAD was on main at the start and is on other now" in report.steps[2].reason
    assert place.git("symbolic-ref", "--short", "HEAD") == "other"
    assert place.read() == SHIPPED


@pytest.mark.parametrize("apart", [False, True])
async def test_two_runs_in_one_tree(apart: bool, world: Path) -> None:
    place = begin(world)
    other = Exotic(world, place.root)
    reports: list[Report | UsageError] = []

    async def second() -> None:
        try:
            reports.append(await other.run(models={}))
        except UsageError as error:
            reports.append(error)

    hold = SHIP.replace("  - id: commit", "  - id: hold\n    run: sleep 0.4\n  - id: commit")
    state = world / "elsewhere" if apart else place.state
    async with anyio.create_task_group() as group:
        begun = Editor(
            place, lambda event: isinstance(event, StepStarted), lambda: group.start_soon(second)
        )
        reports.append(await place.run(hold, state_dir=state))
        assert begun.acted
    ended = [report for report in reports if not isinstance(report, UsageError)]
    codes = sorted(report.exit_code or 0 for report in ended)
    if apart:
        # With state directories of their own the two know nothing of each other. Whoever comes
        # first commits; the other finds nothing left to do, or says that HEAD has moved.
        assert len(codes) == 2
        assert codes[0] == 0
        assert codes[1] in (0, 1, 7)
    else:
        assert codes == [0]
        assert any("is going on in" in str(report) for report in reports)
    assert place.read() == SHIPPED
    assert place.git("rev-list", "--count", "HEAD") == "2"
    assert place.git("show", "HEAD:app.txt") + "\n" == SHIPPED
    assert place.status() == []
    place.git("fsck")


# -- the remote ------------------------------------------------------------------------------------

TO_MAIN = SHIP.replace("branch: out", "branch: main")


def colleague(place: Exotic, path: str, text: str) -> str:
    """Push a commit to the remote's main from elsewhere."""
    clone = place.home / "colleague"
    if not clone.exists():
        user_git("clone", "-q", "-b", "main", str(place.remote), str(clone), cwd=place.home)
    there = Exotic(place.home, clone)
    there.git("pull", "-q")
    there.write(path, text)
    there.commit_all(f"theirs: {path}")
    there.git("push", "-q", "origin", "main")
    return there.head


async def test_an_upstream_that_moved_on_is_rebased_onto_checked_and_pushed(world: Path) -> None:
    place = begin(world)
    theirs = colleague(place, "README.md", "# theirs\n")
    place.write("untracked.txt", "mine\n")
    place.write("docs/guide.txt", "work in progress\n")
    workflow = TO_MAIN.replace("message: auto", "message: auto, files: [app.txt]")
    report = await place.run(workflow)
    assert report.exit_code == 0, report
    assert place.git("rev-parse", "HEAD~") == theirs
    assert place.pushed("main") == place.head
    assert place.read("README.md") == "# theirs\n"
    assert place.read() == SHIPPED
    assert place.status() == [" M docs/guide.txt", "?? untracked.txt"]


async def test_checks_that_fail_on_the_rebased_tree_stop_the_push(world: Path) -> None:
    place = begin(world)
    theirs = colleague(place, "more.txt", "helo\n")
    report = await place.run(TO_MAIN.replace("! grep -Hn helo -- 'APP'", "! grep -Hrn helo ."))
    assert report.exit_code == 1, report
    assert status(report) == {**SHIPS, "push": "failed"}
    assert "local and not pushed" in report.steps[3].hint
    assert place.pushed("main") == theirs == place.git("rev-parse", "HEAD~")
    assert place.status() == []


@pytest.mark.parametrize("mended", [True, False])
async def test_a_conflict_goes_up_the_ladder_or_nothing_changes(mended: bool, world: Path) -> None:
    place = begin(world)
    theirs = colleague(place, "app.txt", "x = 1\ngreeting: helo from them\n")
    place.write("untracked.txt", "mine\n")
    place.write("docs/guide.txt", "work in progress\n")
    merged = "x = 1\\ngreeting: hello from them\\n"
    models = place.script(
        f"""
        rules:
          - when: {{ role: cheap, step: lint }}
            turns:
              - call: edit_file
                with: {{ path: app.txt, old_text: helo, new_text: hello }}
              - done: spelled right
          - when: {{ role: cheap, step: push }}
            turns:
              - call: write_file
                with: {{ path: app.txt, content: "{merged if mended else "<<<<<<< still"}" }}
              - done: both
          - cannot: not my part
        """
    )
    workflow = TO_MAIN.replace("message: auto", "message: auto, files: [app.txt]")
    report = await place.run(workflow, models=models)
    assert place.status() == [" M docs/guide.txt", "?? untracked.txt"]
    if mended:
        assert report.exit_code == 0, report
        assert place.read() == "x = 1\ngreeting: hello from them\n"
        assert place.git("rev-parse", "HEAD~") == theirs
        assert place.pushed("main") == place.head
    else:
        assert report.exit_code == 1, report
        assert place.read() == SHIPPED
        assert place.git("show", "HEAD:app.txt") + "\n" == SHIPPED
        assert place.pushed("main") == theirs
        assert "git pull --rebase" in report.steps[3].hint
    assert not (place.root / ".git/rebase-merge").exists()


async def test_another_branch_that_moved_on_is_never_forced(world: Path) -> None:
    place = begin(world)
    place.git("push", "-q", "origin", "main:out")
    clone = world / "colleague"
    user_git("clone", "-q", "-b", "out", str(place.remote), str(clone), cwd=world)
    user_git("commit", "-q", "--allow-empty", "-m", "theirs", cwd=clone)
    user_git("push", "-q", "origin", "out", cwd=clone)
    theirs = place.pushed()
    report = await place.run()
    assert report.exit_code == 1, report
    assert place.pushed() == theirs
    assert "By hand: git pull --rebase origin out" in report.steps[3].hint


async def test_mended_code_that_moves_the_push_elsewhere(world: Path) -> None:
    place = begin(world)
    user_git("init", "-q", "--bare", str(world / "thief.git"), cwd=world)
    place.write("tool.sh", "echo helo\n")
    place.commit_all("a tool")
    config = (place.root / ".git/config").read_bytes()
    models = place.script(
        f"""
        rules:
          - when: {{ role: cheap, step: lint }}
            turns:
              - call: write_file
                with:
                  path: tool.sh
                  content: "git remote set-url origin {world}/thief.git; echo hello\\n"
              - done: spelled right
          - cannot: not my part
        """
    )
    workflow = SHIP.replace(
        "! grep -Hn helo -- 'APP'", "sh tool.sh >out.log; ! grep -Hn helo out.log"
    )
    place.write(".git/info/exclude", "out.log\n")
    report = await place.run(
        workflow.replace("lint-fixer, attempts: 1", "lint-fixer, attempts: 1, write: [tool.sh]"),
        models=models,
    )
    assert report.exit_code != 0, report
    assert (place.root / ".git/config").read_bytes() == config
    assert user_git("for-each-ref", cwd=world / "thief.git") == ""


async def test_a_url_that_changes_during_the_run_is_not_pushed_to(world: Path) -> None:
    place = begin(world)
    user_git("init", "-q", "--bare", str(world / "other.git"), cwd=world)
    swap = f"  - id: swap\n    run: git remote set-url origin {world}/other.git\n  - id: push"
    report = await place.run(SHIP.replace("  - id: push", swap))
    assert report.exit_code == 1, report
    assert "the URL of 'origin' changed during the run" in report.steps[4].reason
    assert user_git("for-each-ref", cwd=world / "other.git") == ""
    assert place.pushed() == ""


async def test_a_remote_that_is_not_there(world: Path) -> None:
    place = begin(world)
    place.remote.rename(world / "gone.git")
    report = await place.run()
    assert report.exit_code == 1, report
    assert status(report) == {**SHIPS, "push": "failed"}
    assert place.git("show", "HEAD:app.txt") + "\n" == SHIPPED


# -- places where a run has little room ------------------------------------------------------------


async def test_a_run_in_a_sub_directory_is_a_run_of_the_whole_tree(world: Path) -> None:
    place = begin(world)
    (place.root / "sub").mkdir()
    report = await place.run(cwd=place.root / "sub")
    assert report.exit_code == 0, report
    assert place.git("show", "HEAD:app.txt") + "\n" == SHIPPED
    assert place.pushed() == place.head


async def test_without_a_repository_mends_work_and_commits_say_why_not(world: Path) -> None:
    place = begin(world)
    (place.root / ".git").rename(world / "was.git")
    files = dict(files_below(place.root))
    report = await place.run()
    assert report.exit_code == 1, report
    assert status(report) == {**SHIPS, "commit": "failed", "push": "blocked"}
    assert "is no git repository" in report.steps[2].reason
    assert differing(files, dict(files_below(place.root))) == {"app.txt"}
    place.write("app.txt", APP)
    report = await place.run(models=place.bungler())
    assert report.exit_code == 1, report
    assert place.read() == FORMATTED
    assert not (place.root / "notes.txt").exists()


# -- the command line, and places that cannot be written -----------------------------------------


def runner_exec(
    place: Exotic, *args: str, prefix: tuple[str, ...] = (), cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `runner exec` as a process of its own."""
    file = place.home / "workflow.yaml"
    file.write_text(SHIP.replace("APP", place.app))
    models = [f"--model={role}={model}" for role, model in place.mender().items()]
    given = ("--state-dir", str(place.state)) if "--state-dir" not in args else ()
    command = [sys.executable, "-m", "runner", "exec", str(file), *models, *given, *args]
    return subprocess.run(
        [*prefix, *command], cwd=cwd or place.root, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_the_command_line_in_a_sub_directory(world: Path) -> None:
    place = begin(world)
    place.write("sub/own.txt", "own\n")
    place.commit_all("sub")
    place.write(os.fsdecode(b"latin-\xe9 \x1b[31m.txt"), "untracked\n")
    done = runner_exec(place, "-C", "repo/sub", "--json", cwd=world)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [step["status"] for step in report["steps"]] == ["succeeded"] * 4
    assert report["git"]["after"] == place.head == place.pushed()
    assert "\x1b[31m.txt" not in done.stderr
    assert "latin-" in done.stderr


def unprivileged() -> tuple[str, ...]:
    """How to drop root's right to write everywhere, where the tests run as root."""
    if os.geteuid() != 0:
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root writes everywhere")
    return ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["tree", "git", "objects"])
def test_what_cannot_be_written_is_told_and_left(what: str, world: Path) -> None:
    place = begin(world)
    place.write("app.txt", FORMATTED)  # so that it is a mend that finds the tree closed
    place.commit_all("formatted")
    top = {"tree": "", "git": ".git", "objects": ".git/objects"}[what]
    below = (path for path in (place.root / top).rglob("*") if path.is_dir())
    paths = [place.root / top, *(() if what == "tree" else below)]
    before = look(place)
    for path in paths:
        path.chmod(0o555)
    try:
        done = runner_exec(place, prefix=unprivileged())
    finally:
        for path in paths:
            path.chmod(0o755)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    after = look(place)
    kept(before, after, files=[] if what == "tree" else ["app.txt"], index=[])
    assert not (place.root / ".git/index.lock").exists()
    if what != "tree":
        assert place.read() == SHIPPED


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [16, 100, 200, 380, 404, 548, 644])
def test_a_full_disk_under_the_state_directory(kilobytes: int, world: Path) -> None:
    place = begin(world)
    place.state.mkdir()
    before = look(place)
    mount = f'mount -t tmpfs -o mode=700,size={kilobytes}k tmpfs "{place.state}" && exec "$@"'
    own = ("unshare", "-rm", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*own, "true"], check=False).returncode:
        pytest.skip("no mounts of one's own here")
    done = runner_exec(place, prefix=own)
    assert done.returncode not in (0, 126, 127), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "full" in done.stderr or "No space" in done.stderr or "I/O error" in done.stderr
    after = look(place)
    assert differing(before.files, after.files) <= {"app.txt"}
    if place.head == before.refs["refs/heads/main"]:
        kept(before, after, files=differing(before.files, after.files), index=[])
        assert place.pushed() == ""
    else:
        assert place.git("rev-parse", "HEAD~") == before.refs["refs/heads/main"]
        assert place.status() == []
        assert place.pushed() in ("", place.head)
    place.git("fsck")
