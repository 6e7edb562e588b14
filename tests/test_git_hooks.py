"""Hooks are found at the start and run by others, as commands; what they change is taken up."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from gitrepo import Repo, make_repo

from runner.git import HookRun, PushPlan, Repository, Staged, StartState

if TYPE_CHECKING:
    from pathlib import Path


FIX = "sed -i 's/( /(/;s/ )/)/' src/app.py"
"""A formatter."""


@pytest.fixture
def repo(world: Path) -> Repo:
    return make_repo(world)


def _hook(repo: Repo, name: str, body: str, folder: str = ".git/hooks") -> Path:
    return repo.write(f"{folder}/{name}", f"#!/bin/sh\n{body}\n", mode=0o755)


def _run(repo: Repo, hook: HookRun | None) -> subprocess.CompletedProcess[str]:
    """Run a hook as the engine does: in the root, its environment laid over a clean one."""
    assert hook is not None
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
    return subprocess.run(
        hook.argv,
        cwd=repo.root,
        env=clean | dict(hook.env),
        input=hook.stdin.decode(),
        capture_output=True,
        text=True,
        check=False,
    )


async def _ready(
    repo: Repo, path: str = "src/app.py", text: str = "print( 'two' )\n"
) -> tuple[Repository, StartState, Staged]:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write(path, text)
    staged = await repository.prepare("run", start=start, run_paths=[path])
    assert staged is not None
    return repository, start, staged


async def test_no_hooks(repo: Repo) -> None:
    repo.write(".git/hooks/pre-commit", "#!/bin/sh\n", mode=0o644)  # git ignores it: not executable
    repository, _, staged = await _ready(repo)
    assert repository.facts.hooks == {}
    assert repository.hook_invocation("pre-commit", staged=staged) is None


async def test_a_hook_sees_exactly_what_will_be_committed(repo: Repo) -> None:
    repo.write("left.txt", "left out\n")
    repo.write("README.md", "# staged but left out\n")
    repo.git("add", "left.txt", "README.md")
    _hook(repo, "pre-commit", "git diff --cached --name-only; git diff --name-only; git diff-files")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged = await repository.prepare(("src/**",), start=start, run_paths=["src/app.py"])
    assert staged is not None
    done = _run(repo, repository.hook_invocation("pre-commit", staged=staged))
    lines = done.stdout.splitlines()
    assert lines[0] == "src/app.py"
    assert lines[1] == "README.md"
    assert all("README.md" in line for line in lines[2:])
    index = repo.git("ls-files", "-s")
    await repository.commit(staged, "fix: x")
    assert sorted(repo.status()) == ["A  left.txt", "M  README.md"]
    assert repo.git("ls-files", "-s") != index


async def test_a_hook_that_fixes_without_staging_is_taken_up(repo: Repo) -> None:
    _hook(
        repo,
        "pre-commit",
        "grep -q '( ' src/app.py || exit 0\nsed -i 's/( /(/;s/ )/)/' src/app.py\nexit 1",
    )
    repository, _, staged = await _ready(repo)
    first = _run(repo, repository.hook_invocation("pre-commit", staged=staged))
    assert first.returncode == 1
    taken = await repository.take_up(staged, touched=["src/app.py"])
    assert taken.changed == ("src/app.py",)
    assert taken.staged is not None
    second = _run(repo, repository.hook_invocation("pre-commit", staged=taken.staged))
    assert second.returncode == 0
    nothing = await repository.take_up(taken.staged, touched=[])
    assert nothing.changed == ()
    await repository.commit(taken.staged, "fix: x")
    assert repo.show("src/app.py") == "print('two')\n"
    assert repo.status() == []


async def test_a_hook_that_stages_its_fixes_and_new_files(repo: Repo) -> None:
    body = (
        "sed -i 's/( /(/;s/ )/)/' src/app.py\necho 1 >version.txt\ngit add src/app.py version.txt"
    )
    _hook(repo, "pre-commit", body)
    repository, _, staged = await _ready(repo)
    assert _run(repo, repository.hook_invocation("pre-commit", staged=staged)).returncode == 0
    taken = await repository.take_up(staged, touched=["src/app.py", "version.txt"])
    assert taken.changed == ("src/app.py", "version.txt")
    assert taken.staged is not None
    await repository.commit(taken.staged, "fix: x")
    assert repo.show("version.txt") == "1\n"
    assert repo.status() == []


async def test_a_hook_that_stages_what_a_sparse_checkout_has_absent(repo: Repo) -> None:
    repo.write("far/version.txt", "1\n")
    repo.commit_all()
    repo.git("sparse-checkout", "set", "src")
    body = """blob=$(echo 2 | git hash-object -w --stdin)
git update-index --cacheinfo 100644,$blob,far/version.txt"""
    _hook(repo, "pre-commit", body)
    repository, _, staged = await _ready(repo)
    assert _run(repo, repository.hook_invocation("pre-commit", staged=staged)).returncode == 0
    taken = await repository.take_up(staged, touched=[])
    assert taken.staged is not None
    await repository.commit(taken.staged, "fix: x")
    assert repo.show("far/version.txt") == "2\n"


async def test_a_hook_that_stages_everything_carries_in_nothing_left_out(repo: Repo) -> None:
    repo.write("private.txt", "untracked at the start\n")
    _hook(repo, "pre-commit", "git add -A")
    repository, _, staged = await _ready(repo)
    assert _run(repo, repository.hook_invocation("pre-commit", staged=staged)).returncode == 0
    taken = await repository.take_up(staged, touched=[])
    assert taken.refused == ("private.txt",)
    assert taken.staged is not None
    assert taken.staged.paths == ("src/app.py",)
    await repository.commit(taken.staged, "fix: x")
    assert repo.status() == ["?? private.txt"]


async def test_a_hook_that_leaves_its_scope_is_not_taken_up_there(repo: Repo) -> None:
    _hook(repo, "pre-commit", "echo x >>README.md; echo '# ok' >>src/app.py; git add -u")
    repository, _, staged = await _ready(repo)
    _run(repo, repository.hook_invocation("pre-commit", staged=staged))
    taken = await repository.take_up(
        staged, touched=["README.md", "src/app.py"], allows=lambda path: path.startswith("src/")
    )
    assert taken.refused == ("README.md",)
    assert taken.changed == ("src/app.py",)
    assert taken.staged is not None
    await repository.commit(taken.staged, "fix: x")
    assert repo.status() == [" M README.md"]


async def test_a_hook_that_undoes_everything_leaves_nothing_to_commit(repo: Repo) -> None:
    _hook(repo, "pre-commit", "git checkout -q HEAD -- src/app.py")
    repository, _, staged = await _ready(repo)
    _run(repo, repository.hook_invocation("pre-commit", staged=staged))
    taken = await repository.take_up(staged, touched=["src/app.py"])
    assert taken.staged is None


async def test_partly_staged_content_is_what_the_hook_stages(repo: Repo) -> None:
    repo.write("src/app.py", "print( 'staged' )\n")
    repo.git("add", "src/app.py")
    repo.write("src/app.py", "print( 'staged' )\nunfinished(\n")
    # The way of lint-staged: show the staged content, fix and stage it, bring the rest back.
    body = """git show :src/app.py >/tmp/$$.staged
sed -i 's/( /(/;s/ )/)/' /tmp/$$.staged
blob=$(git hash-object -w /tmp/$$.staged); rm /tmp/$$.staged
git update-index --cacheinfo 100644,$blob,src/app.py"""
    _hook(repo, "pre-commit", body)
    repository = await repo.open()
    start = await repository.start_state()
    staged = await repository.prepare("staged", start=start, run_paths=[])
    assert staged is not None
    assert _run(repo, repository.hook_invocation("pre-commit", staged=staged)).returncode == 0
    taken = await repository.take_up(staged, touched=[])
    assert taken.staged is not None
    await repository.commit(taken.staged, "fix: x")
    assert repo.show("src/app.py") == "print('staged')\n"
    assert (repo.root / "src/app.py").read_text() == "print( 'staged' )\nunfinished(\n"


async def test_the_stash_and_checkout_of_pre_commit_frameworks(repo: Repo) -> None:
    # They take unstaged changes away while the hooks run, through the index that they are given.
    repo.write("README.md", "# left out\n")
    body = """git diff --binary >/tmp/$$.patch
git checkout -q -- .
grep -q 'left out' README.md && exit 9
git apply /tmp/$$.patch; rm /tmp/$$.patch"""
    _hook(repo, "pre-commit", body)
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    staged = await repository.prepare(("src/**",), start=start, run_paths=["src/app.py"])
    assert staged is not None
    done = _run(repo, repository.hook_invocation("pre-commit", staged=staged))
    assert done.returncode == 0, done.stderr
    assert (repo.root / "README.md").read_text() == "# left out\n"
    assert (repo.root / "src/app.py").read_text() == "print('two')\n"
    await repository.commit(staged, "fix: x")
    assert repo.status() == [" M README.md"]


async def test_message_hooks(repo: Repo) -> None:
    _hook(repo, "prepare-commit-msg", 'test "$2" = message && echo "Refs: 1" >>"$1"')
    _hook(repo, "commit-msg", 'grep -q "^fix: " "$1"')
    repository, _, staged = await _ready(repo)
    message = repo.home / "message"
    message.write_text("fix: x\n\n")
    for name in ("prepare-commit-msg", "commit-msg"):
        hook = repository.hook_invocation(name, staged=staged, message_file=message)
        assert _run(repo, hook).returncode == 0
    await repository.commit(staged, message.read_text())
    assert repo.git("log", "-1", "--format=%B").strip() == "fix: x\n\nRefs: 1"


async def test_pre_push_hook(repo: Repo) -> None:
    _hook(repo, "pre-push", 'echo "$1 $2"; cat')
    repository = await repo.open()
    plan = PushPlan("origin", "/srv/x", "refs/heads/main", "a" * 40, "refs/heads/x", "0" * 40)
    done = _run(repo, repository.hook_invocation("pre-push", push=plan))
    assert done.stdout == f"origin /srv/x\nrefs/heads/main {'a' * 40} refs/heads/x {'0' * 40}\n"


async def test_husky(repo: Repo) -> None:
    _hook(repo, "h", '. "$(dirname "$0")/../$(basename "$0")"', ".husky/_")
    _hook(repo, "pre-commit", '. "$(dirname "$0")/h"', ".husky/_")
    _hook(repo, "pre-commit", "echo husky ran", ".husky")
    repo.write(".husky/_/.gitignore", "*\n")
    repo.git("config", "core.hooksPath", ".husky/_")
    repository, _, staged = await _ready(repo)
    done = _run(repo, repository.hook_invocation("pre-commit", staged=staged))
    assert done.stdout == "husky ran\n"
    assert repository.hooks_changed() == ()
    _hook(repo, "pre-commit", "echo something else", ".husky")
    assert repository.hooks_changed() == (str(repo.root / ".husky/pre-commit"),)


@pytest.mark.parametrize("what", ["changed", "removed", "mode", "added beside"])
async def test_hooks_that_change_during_the_run_are_named(repo: Repo, what: str) -> None:
    hook = _hook(repo, "pre-commit", "exit 0")
    repository = await repo.open()
    if what == "changed":
        hook.write_text("#!/bin/sh\ntouch canary\n")
    elif what == "removed":
        hook.unlink()
    elif what == "mode":
        hook.chmod(0o644)
    else:
        hook = _hook(repo, "commit-msg", "exit 0")
    assert repository.hooks_changed() == (str(hook),)


async def test_hooks_that_an_installer_adds_where_there_were_none_are_not_run(repo: Repo) -> None:
    repository = await repo.open()
    _hook(repo, "pre-commit", "exit 1", ".husky/_")
    repo.git("config", "core.hooksPath", ".husky/_")
    assert repository.hooks_changed() == ()
    assert repository.hook_invocation("pre-commit") is None


async def test_hooks_path_of_the_user(repo: Repo) -> None:
    own = repo.home / "hooks"
    own.mkdir()
    (own / "pre-commit").write_text("#!/bin/sh\necho own\n")
    (own / "pre-commit").chmod(0o755)
    repo.git("config", "--global", "core.hooksPath", str(own))
    repository, _, staged = await _ready(repo)
    assert _run(repo, repository.hook_invocation("pre-commit", staged=staged)).stdout == "own\n"


async def test_hooks_in_a_linked_worktree(repo: Repo) -> None:
    _hook(repo, "pre-commit", "git diff --cached --name-only; git rev-parse --abbrev-ref HEAD")
    repo.git("worktree", "add", "-q", "-b", "side", str(repo.home / "linked"))
    linked = Repo(repo.home / "linked", repo.home)
    repository, _, staged = await _ready(linked)
    done = _run(linked, repository.hook_invocation("pre-commit", staged=staged))
    assert done.stdout == "src/app.py\nside\n"
