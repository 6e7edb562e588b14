"""Hostile repositories, case by case as in docs/hostile.md, group A: git runs nothing of theirs.

All that names a program is planted at once, each under a name of its own, and the real command
walks every road: plan, run, mend, kill, resume, commit, push. What was executed left a mark.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
import pytest
from gitrepo import Repo, commit_from, make_repo, try_git

from runner.errors import GitRefused
from runner.git import PushAuth, Repository
from runner.git.urls import checked_branch, parse_remote

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass
class Trap:
    """A repository in which everything that could run leaves a mark with its own name."""

    repo: Repo
    planted: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """Marks by number of the case."""

    @property
    def marks(self) -> Path:
        return self.repo.home / "marks"

    def program(self, case: str, name: str) -> str:
        """Write a program that leaves a mark; return its path."""
        self.planted.setdefault(case, []).append(name)
        self.marks.mkdir(exist_ok=True)
        folder = self.repo.home / "programs"
        folder.mkdir(exist_ok=True)
        script = folder / name
        body = "cat\n" if name.startswith("filter.") else ""  # who is not heard is not waited for
        script.write_text(f'#!/bin/sh\nprintf x >>"{self.marks}/{name}"\n{body}exit 0\n')
        script.chmod(0o755)
        return str(script)

    def config(self, case: str, key: str, form: str = "{}", file: str | None = None) -> None:
        """Let a setting name a program."""
        name = key.replace("/", "_").replace(":", "_")
        where = ("-f", file) if file else ()
        self.repo.git("config", *where, "--add", key, form.format(self.program(case, name)))

    def executed(self) -> set[str]:
        return {mark.name for mark in self.marks.iterdir()}


HOOKS = (
    *("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "pre-push", "pre-rebase"),
    *("post-checkout", "post-merge", "post-rewrite", "pre-auto-gc", "reference-transaction"),
    *("post-index-change", "fsmonitor-watchman", "applypatch-msg", "pre-merge-commit", "update"),
    *(
        "pre-applypatch",
        "post-applypatch",
        "sendemail-validate",
        "push-to-checkout",
        "p4-changelist",
    ),
)


def _1_monitors(trap: Trap) -> None:
    trap.config("1", "core.fsmonitor")
    trap.repo.git("config", "core.untrackedCache", "true")
    trap.repo.git("config", "fsmonitor.allowRemote", "true")
    (trap.repo.root / ".git/fsmonitor--daemon").mkdir()


def _2_hooks(trap: Trap) -> None:
    for name in HOOKS:
        hook = trap.repo.root / ".git/hooks" / name
        shutil.copy(trap.program("2", f"hook-{name}"), hook)
    trap.config("2", "hook.evil.command")
    trap.repo.git("config", "hook.evil.event", "pre-commit")


def _3_filters(trap: Trap) -> None:
    for kind in ("clean", "smudge", "process"):
        trap.config("3", f"filter.evil.{kind}")
    trap.repo.git("config", "filter.evil.required", "true")


def _4_diffs(trap: Trap) -> None:
    for key in (
        *("diff.external", "diff.evil.command", "diff.evil.textconv", "merge.evil.driver"),
        *("difftool.evil.cmd", "mergetool.evil.cmd", "merge.tool", "diff.tool"),
    ):
        trap.config("4", key)


def _5_transports(trap: Trap) -> None:
    for key in (
        *(
            "core.sshCommand",
            "core.gitProxy",
            "remote.origin.uploadpack",
            "remote.origin.receivepack",
        ),
        *("remote.origin.proxy", "uploadpack.packObjectsHook", "core.alternateRefsCommand"),
        *("receive.procReceiveRefs", "receive.certNonceSeed", "http.proxy", "imap.tunnel"),
    ):
        trap.config("5", key)
    trap.config("5", "remote.evil.url", "ext::{} %S")
    trap.repo.git("config", "remote.evil.promisor", "true")
    trap.repo.git("config", "remote.origin.vcs", "evil")
    helper = trap.repo.root / "git-remote-evil"
    shutil.copy(trap.program("5", "git-remote-evil"), helper)
    for key, value in (
        *(("protocol.allow", "always"), ("protocol.ext.allow", "always")),
        *(("fetch.bundleURI", "file:///dev/zero"), ("transfer.bundleURI", "true")),
        *(("extensions.partialClone", "evil"), ("fetch.recurseSubmodules", "true")),
    ):
        trap.repo.git("config", key, value)


def _6_programs(trap: Trap) -> None:
    for key in (
        *("core.pager", "core.editor", "sequence.editor", "gpg.program", "gpg.ssh.program"),
        *("gpg.openpgp.program", "gpg.x509.program", "interactive.diffFilter", "pager.log"),
        *(
            "pager.status",
            "web.browser",
            "browser.evil.cmd",
            "man.evil.cmd",
            "sendemail.smtpServer",
        ),
        *("trailer.Runner-Run.command", "trailer.Signed.cmd", "gui.recentrepo", "core.askPass"),
    ):
        trap.config("6", key)
    trap.config("6", "gpg.ssh.defaultKeyCommand")
    for key, value in (
        *(("commit.gpgSign", "true"), ("tag.gpgSign", "true"), ("push.gpgSign", "if-asked")),
        *(("log.showSignature", "true"), ("merge.verifySignatures", "true"), ("gpg.format", "ssh")),
        *(("trailer.Signed.ifmissing", "add"), ("trace2.eventTarget", f"{trap.marks}/trace2")),
    ):
        trap.repo.git("config", key, value)


def _7_aliases(trap: Trap) -> None:
    for name in (
        *("status", "add", "commit", "push", "update-ref", "write-tree", "cat-file", "rev-parse"),
        *("commit-tree", "ls-remote", "log", "rev-list", "update-index", "diff-tree", "ls-files"),
    ):
        trap.config("7", f"alias.{name}", "!{}")


def _8_helpers(trap: Trap) -> None:
    trap.config("8", "credential.helper", "!{}")
    for url in ("https://github.com", "https://*.example.com", "file:///"):
        trap.config("8", f"credential.{url}.helper", "!{}")


def _9_rewrites(trap: Trap) -> None:
    evil = trap.repo.home / "evil.git"
    trap.repo.git("init", "-q", "--bare", str(evil))
    bare = str(trap.repo.home / "remote.git")
    trap.repo.git("config", f"url.{evil}.insteadOf", bare)
    trap.repo.git("config", "--add", f"url.{evil}.pushInsteadOf", bare)
    trap.repo.git("config", "--add", f"url.{evil}.insteadOf", "/")


def _13_worktree_config(trap: Trap) -> None:
    trap.repo.git("config", "extensions.worktreeConfig", "true")
    file = str(trap.repo.root / ".git/config.worktree")
    trap.config("13", "core.pager", file=file)
    trap.config("13", "diff.external", file=file)
    info = trap.repo.root / ".git/info"
    (info / "attributes").write_text("*.py diff=evil merge=evil\n*.evil filter=evil\n")
    (info / "grafts").write_text(f"{trap.repo.head()}\n")
    (trap.repo.root / ".git/objects/info").mkdir(exist_ok=True)


def _15_nested(trap: Trap) -> None:
    for name in ("nested", "src/deep"):
        inner = make_repo(trap.repo.root / name, "inner")
        program = trap.program("15", f"nested-{name.replace('/', '-')}")
        inner.git("config", "core.fsmonitor", program)
        inner.git("config", "filter.evil.clean", program)
    bare = trap.repo.root / "bare"
    trap.repo.git("init", "-q", "--bare", str(bare))
    for key in ("core.fsmonitor", "core.worktree"):
        trap.config("15", key, file=str(bare / "config"))


def _16_submodules(trap: Trap) -> None:
    program = trap.program("16", "submodule")
    trap.repo.write(
        ".gitmodules",
        f'[submodule "x"]\n\tpath = lib\n\turl = -u{program}\n\tupdate = !{program}\n'
        f'[submodule "../../hooks"]\n\tpath = ../up\n\turl = ext::{program}\n\tignore = none\n',
    )
    trap.repo.git("config", "submodule.x.update", f"!{program}")
    trap.repo.git("config", "submodule.x.url", f"ext::{program}")
    trap.repo.git("config", "submodule.recurse", "true")
    trap.repo.git("update-index", "--add", "--cacheinfo", f"160000,{trap.repo.head()},lib")
    (trap.repo.root / "lib").mkdir(exist_ok=True)
    inner = make_repo(trap.repo.root, "lib2")
    shutil.copytree(inner.root / ".git", trap.repo.root / "lib/.git")
    trap.config("16", "core.fsmonitor", file=str(trap.repo.root / "lib/.git/config"))
    shutil.rmtree(inner.root)


def _19_includes(trap: Trap) -> None:
    for number, section in enumerate(
        ("[include]", '[includeIf "gitdir:/"]', '[includeIf "onbranch:**"]',
         '[includeIf "hasconfig:remote.*.url:**"]')
    ):  # fmt: skip
        file = trap.repo.write(f"evil-{number}.config", "")
        for key in ("core.fsmonitor", "diff.external", "core.sshCommand"):
            name = f"include-{number}-{key}"
            trap.repo.git("config", "-f", str(file), key, trap.program("19", name))
        config = trap.repo.root / ".git/config"
        config.write_text(config.read_text() + f"{section}\n\tpath = {file}\n")


def _oddities(trap: Trap) -> None:
    repo = trap.repo
    repo.write(".mailmap", "Ada <ada@example.com> <\x1b]0;x\x07@x>\n" + "x" * 70_000 + "\n")
    repo.write(".gitattributes", "*.py diff=evil merge=evil text=auto\n*.evil filter=evil\n")
    head = repo.head()
    fake = repo.git("commit-tree", "-m", "replaced", repo.git("write-tree").strip()).strip()
    (repo.root / ".git/refs/replace").mkdir()
    (repo.root / f".git/refs/replace/{head}").write_text(f"{fake}\n")
    repo.git("config", "index.sparse", "true")
    repo.git("config", "core.splitIndex", "true")


PLANTS: tuple[Callable[[Trap], None], ...] = (
    *(_16_submodules, _15_nested, _oddities, _2_hooks, _3_filters, _4_diffs, _5_transports),
    *(_6_programs, _7_aliases, _8_helpers, _9_rewrites, _13_worktree_config, _19_includes),
    _1_monitors,
)

FLOW = """
name: walk
models: { cheap: "script:%(script)s", main: "script:%(script)s" }
steps:
  - id: once
    if: git.branch == "main" and git.changed("**")
    run: test -e %(home)s/was-here || { touch %(home)s/was-here; kill -9 $PPID; }
  - id: mend
    run: grep -q mended src/app.py
    fix: { agent: fixer, write: ["src/**"] }
  - id: commit
    needs: [mend]
    commit: { message: "fix: mend" }
  - id: push
    push: { remote: origin, branch: topic }
"""
SCRIPT = """
rules:
  - when: { role: cheap }
    turns:
      - call: write_file
        with: { path: src/app.py, content: "print('mended')\\n" }
      - done: mended
"""


def runner(repo: Repo, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the real command in the hostile repository, its own directory first on PATH."""
    env = {
        **os.environ,
        "PATH": os.pathsep.join((".", str(repo.root), os.environ["PATH"])),
        "SUBRUNNER_STATE_DIR": str(repo.home / "runs"),
        **environ,
    }
    return subprocess.run(
        [sys.executable, "-m", "runner", *args],
        cwd=repo.root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trap, set[str], set[str]]:
    """Walk every road once; return the trap, what ran on our side, what the user's git would."""
    home = tmp_path_factory.mktemp("trap").resolve()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home / "home"))
        patch.setenv("SUBRUNNER_SANDBOX", "off")
        patch.delenv("XDG_CONFIG_HOME", raising=False)
        (home / "home").mkdir()
        (home / "home/.gitconfig").write_text("[user]\n\tname = Ada\n\temail = a@example.com\n")
        return _walk(home)


def _walk(home: Path) -> tuple[Trap, set[str], set[str]]:
    repo = make_repo(home)
    bare = home / "remote.git"
    repo.git("init", "-q", "--bare", "-b", "main", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "-u", "origin", "main")
    repo.write("data.evil", "raw\n")
    repo.commit_all()
    trap = Trap(repo)
    for plant in PLANTS:
        plant(trap)
    shutil.rmtree(trap.marks)
    trap.marks.mkdir()
    (home / "script.yaml").write_text(SCRIPT)
    flow = home / "flow.yaml"
    flow.write_text(FLOW % {"script": home / "script.yaml", "home": home})
    hostile = {
        "GIT_EXTERNAL_DIFF": trap.program("env", "GIT_EXTERNAL_DIFF"),
        "GIT_SSH_COMMAND": trap.program("env", "GIT_SSH_COMMAND"),
        "GIT_PROXY_COMMAND": trap.program("env", "GIT_PROXY_COMMAND"),
        "GIT_ASKPASS": trap.program("env", "GIT_ASKPASS"),
        "GIT_EDITOR": trap.program("env", "GIT_EDITOR"),
        "GIT_PAGER": trap.program("env", "GIT_PAGER"),
        "GIT_TRACE": str(trap.marks / "GIT_TRACE"),
        "GIT_TRACE2_EVENT": str(trap.marks / "GIT_TRACE2"),
        "GIT_DIR": str(repo.root / "bare"),
        "GIT_WORK_TREE": "/",
        "GIT_INDEX_FILE": "/dev/null",
        "GIT_EXEC_PATH": str(home / "programs"),
        "GIT_TEMPLATE_DIR": str(home / "programs"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": trap.program("env", "GIT_CONFIG_VALUE"),
        "GIT_CONFIG_PARAMETERS": "'core.pager'='false'",
    }
    roads = [
        runner(repo, "plan", str(flow), **hostile),
        runner(repo, "exec", str(flow), "--no-hooks", **hostile),
        runner(repo, "resume", "--json", **hostile),
    ]
    (home / "roads.json").write_text(
        json.dumps([(r.returncode, r.stdout, r.stderr) for r in roads])
    )
    ran = trap.executed()
    shutil.rmtree(trap.marks)
    trap.marks.mkdir()
    repo.write("src/app.py", "print('three')\n")
    # What the user's own git stumbles over before it falls into anything.
    (repo.root / ".gitmodules").unlink()
    for section in ("submodule", "submodule.x", "filter.evil", "url." + str(home / "evil.git")):
        try_git("config", "--remove-section", section, cwd=repo.root)
    for key in ("remote.origin.vcs", "remote.origin.proxy", "receive.certNonceSeed"):
        try_git("config", "--unset-all", key, cwd=repo.root)
    for args in (
        *(
            ["status"],
            ["diff"],
            ["add", "-A"],
            ["-c", "commit.gpgSign=false", "commit", "-qm", "x"],
        ),
        *(["log", "-p", "-1"], ["fetch", "origin"], ["push", "origin", "main"], ["stash"]),
    ):
        try_git(*args, cwd=repo.root)
    return trap, ran, trap.executed()


CASES = ["1", "2", "3", "4", "5", "6", "7", "8", "13", "15", "16", "19", "env"]


@pytest.mark.parametrize("case", CASES)
def test_nothing_that_is_planted_runs(walked: tuple[Trap, set[str], set[str]], case: str) -> None:
    trap, ran, _ = walked
    assert trap.planted[case]
    assert ran.isdisjoint(trap.planted[case])


def test_every_road_was_walked_to_its_end(walked: tuple[Trap, set[str], set[str]]) -> None:
    trap, ran, theirs = walked
    plan, killed, resumed = json.loads((trap.repo.home / "roads.json").read_text())
    assert plan[0] == 0, plan
    assert killed[0] == -9, killed
    assert resumed[0] == 0, resumed
    report = json.loads(resumed[1])
    assert {step["id"]: step["status"] for step in report["steps"]} == dict.fromkeys(
        ("once", "mend", "commit", "push"), "succeeded"
    )
    assert report["steps"][1]["rung"] == "subagent"
    assert ran == set()
    # The traps are real: the user's own git falls into them.
    assert {"hook-pre-commit", "hook-reference-transaction", "remote.origin.uploadpack"} <= theirs
    assert {name for name in theirs if "fsmonitor" in name}
    assert {name for name in theirs if "diff" in name}


def test_9_the_push_went_to_the_recorded_url(walked: tuple[Trap, set[str], set[str]]) -> None:
    trap, _, _ = walked
    home = trap.repo.home
    there = try_git("for-each-ref", "refs/heads/topic", cwd=home / "remote.git").stdout
    assert b"refs/heads/topic" in there
    assert not try_git("for-each-ref", cwd=home / "evil.git").stdout
    shown = try_git("show", "topic:src/app.py", cwd=home / "remote.git").stdout
    assert shown == b"print('mended')\n"
    log = try_git("rev-list", "--count", "topic", cwd=home / "remote.git").stdout
    assert log.strip() == b"3"


# -- what is refused --


@pytest.fixture
def repo(world: Path) -> Repo:
    repo = make_repo(world)
    bare = world / "remote.git"
    repo.git("init", "-q", "--bare", "-b", "main", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "-u", "origin", "main")
    return repo


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("remote.origin.url", "https://evil.example.com/x.git"),
        ("remote.origin.pushurl", "/tmp/evil.git"),
        ("remote.origin.url", "ext::sh -c true"),
    ],
)
async def test_10_a_url_that_changed_during_the_run_is_refused(
    repo: Repo, key: str, value: str
) -> None:
    repository = await repo.open()
    repo.git("config", "--replace-all", key, value)
    with pytest.raises(GitRefused, match=r"changed during the run: it was .*remote\.git, it is"):
        await repository.push(
            remote="origin", branch="topic", auth=PushAuth(), expected=repo.head()
        )


@pytest.mark.parametrize(
    "url",
    [
        *("ext::sh -c true", "EXT::sh", "Ext::x", "fd::3", "foo::bar", "file://../x", "git://h/x"),
        *("--upload-pack=x", "-oProxyCommand=x", "ssh://-oProxyCommand=x/y", "https://-x/y"),
        *("-u./x", "ssh://host/\n", "https://h/\x1b[0m", "https://u:pass1234@h/x", "http://h/x"),
        *("ftp://h/x", "rsync://h/x", "h ost:x", "", "\\\\server\\share", "ssh://h\0/x", "../x"),
        *("sshx://h/x", "user@-host:x", "ext%3A%3Ax", "http://localhost.evil/x"),
    ],
)
def test_11_urls_that_run_or_mislead_are_refused(url: str, world: Path) -> None:
    with pytest.raises(GitRefused) as caught:
        parse_remote(url, world)
    assert "\x1b" not in str(caught.value)
    assert "pass1234" not in str(caught.value)


@pytest.mark.parametrize("what", ["HEAD", "refs", "packed", "config", "objects"])
async def test_12_a_rebuilt_git_directory_is_refused(repo: Repo, what: str) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    dot = repo.root / ".git"
    dot.rename(repo.root / ".g")
    (dot / "objects").mkdir(parents=True)
    (dot / "refs").mkdir()
    (dot / "HEAD").write_text("ref: refs/heads/main\n")
    if what == "config":
        (dot / "config").write_text(f"[core]\n\tfsmonitor = {repo.plant()}\n")
    with pytest.raises(GitRefused, match="replaced or changed during the run"):
        await commit_from(repository, start, ("src/app.py",))
    with pytest.raises(GitRefused, match="replaced or changed during the run"):
        await repository.push(remote="origin", branch="x", auth=PushAuth(), expected="0" * 40)
    assert not repo.canary.exists()


async def test_14_a_linked_worktree_that_was_there_at_the_start_works(repo: Repo) -> None:
    repo.git("worktree", "add", "-q", "-b", "side", str(repo.home / "side"))
    side = Repo(repo.home / "side", repo.home)
    for key in ("core.fsmonitor", "diff.external"):
        repo.git("config", key, str(repo.plant()))
    repo.canary.unlink(missing_ok=True)
    repository = await side.open()
    start = await repository.start_state()
    side.write("src/app.py", "print('side')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    pushed = await repository.push(remote="origin", branch="side", auth=PushAuth(), expected=sha)
    assert "Pushed" in type(pushed).__name__
    (side.root / ".git").write_text(f"gitdir: {repo.root}/.git\n")
    with pytest.raises(GitRefused, match="replaced or changed"):
        await repository.push(remote="origin", branch="x", auth=PushAuth(), expected=sha)
    assert not repo.canary.exists()


@pytest.mark.parametrize(
    "branch",
    [
        *("-h", "--exec=x", "-", "a\nb", "a\x1b[31mb", "x" * 4096, "a b", "a..b", "@{-1}", "@"),
        *("a~1", "a^", "a:b", "+a", "a.lock", "/a", "a/", ".a", "a//b", "a\\b", "a?b", "a*", "a[b"),
    ],
)
def test_17_names_of_branches_that_are_options_or_worse_are_refused(branch: str) -> None:
    if branch == "+a":
        assert checked_branch(branch) == "refs/heads/+a"  # a whole ref: never a refspec of its own
        return
    with pytest.raises(GitRefused) as caught:
        checked_branch(branch)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "path",
    [
        *(
            "-h",
            "--exec=x",
            "a\nb.py",
            "a\x1b[31m.py",
            "$(touch x).py",
            "'; touch x; '.py",
            ":(top)a",
        ),
        *("*", "a\tb", '"q"', "\\n", "é\udcff.py", "x" * 250, "-/-/--", "HEAD", ".git2/config"),
    ],
)
async def test_17_paths_that_are_options_or_worse_are_committed_as_they_are(
    repo: Repo, path: str
) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    file = repo.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x\n")
    staged, sha = await commit_from(repository, start, (path,))
    assert staged.paths == (path,)
    names = try_git("ls-tree", "-r", "-z", "--name-only", sha, cwd=repo.root).stdout.split(b"\0")
    assert os.fsencode(path) in names
    assert not (repo.root / "x").exists()


@pytest.mark.parametrize("value", ["Ada\nevil", "Ada <x>", "Ada\0", "a\rb"])
@pytest.mark.parametrize("key", ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"])
async def test_18_an_identity_with_line_breaks_is_refused(
    repo: Repo, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    if "\0" in value:
        value = value.replace("\0", "\n")
    monkeypatch.setenv(key, value)
    with pytest.raises(GitRefused, match="line break"):
        await repo.open()


async def test_18_an_identity_with_shell_in_it_is_a_name(repo: Repo) -> None:
    repo.git("config", "user.name", f"$(touch {repo.canary}) `x` ; 'q' \"z\"")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    await commit_from(repository, start, ("src/app.py",))
    assert "$(touch" in repo.git("log", "-1", "--format=%an %cn")
    assert not repo.canary.exists()


async def test_20_many_refs_a_deep_tree_and_a_big_file_are_borne(repo: Repo) -> None:
    head = repo.head()
    packed = repo.root / ".git/packed-refs"
    refs = "".join(f"{head} refs/tags/t{number:06}\n" for number in range(100_000))
    packed.write_text("# pack-refs with: peeled fully-peeled sorted \n" + refs)
    deep = repo.root.joinpath(*["d"] * 300)
    with anyio.fail_after(90):
        repository = await repo.open()
        start = await repository.start_state()
        guard = await repository.guard()
        deep.mkdir(parents=True)
        (deep / "x").write_text("x\n")
        with (repo.root / "sparse.bin").open("wb") as big:
            big.truncate(20 << 20)
        assert await repository.tampered(guard) == ()
        staged, sha = await commit_from(repository, start, (), "all")
        assert len(staged.paths) == 2
        pushed = await repository.push(remote="origin", branch="big", auth=PushAuth(), expected=sha)
        assert "Pushed" in type(pushed).__name__


@pytest.mark.parametrize(
    "what", ["index.lock", "MERGE_HEAD", "rebase-merge", "HEAD.lock", "bisect"]
)
async def test_21_what_is_under_way_is_refused_and_nothing_is_lost(repo: Repo, what: str) -> None:
    repo.write("src/app.py", "print('two')\n")
    dot = repo.root / ".git"
    if what == "HEAD.lock":
        repo.git("switch", "-q", "--detach")
        (dot / "HEAD.lock").write_text("")
    elif what == "rebase-merge":
        (dot / what).mkdir()
    elif what == "bisect":
        (dot / "BISECT_LOG").write_text("x\n")
    else:
        (dot / what).write_text(repo.head() + "\n")
    before = (repo.head(), repo.status())
    repository = await repo.open()
    start = await repository.start_state()
    with pytest.raises(GitRefused):
        await commit_from(repository, start, ("src/app.py",))
    assert (repo.head(), repo.status()) == before
    assert (repo.root / "src/app.py").read_text() == "print('two')\n"


@pytest.mark.parametrize("state", ["detached", "unborn"])
async def test_21_a_detached_or_unborn_head_is_committed_on(world: Path, state: str) -> None:
    repo = make_repo(world)
    if state == "detached":
        repo.git("switch", "-q", "--detach")
    else:
        repo.git("switch", "-q", "--orphan", "fresh")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("a.txt", "x\n")
    _, sha = await commit_from(repository, start, ("a.txt",))
    assert repo.head() == sha


async def test_22_history_is_never_rewritten(repo: Repo) -> None:
    repo.write("a.txt", "theirs\n")
    repo.commit_all()
    repo.git("push", "-q", "origin", "main")
    theirs = repo.head()
    repo.git("reset", "-q", "--hard", "HEAD^")
    repo.git("config", "--add", "remote.origin.push", "+refs/heads/*:refs/heads/*")
    repo.git("config", "push.default", "matching")
    repo.git("config", "remote.origin.mirror", "true")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("b.txt", "ours\n")
    _, sha = await commit_from(repository, start, ("b.txt",))
    done = await repository.push(remote="origin", branch="main", auth=PushAuth(), expected=sha)
    assert "NotFastForward" in type(done).__name__
    refs = try_git(
        "for-each-ref", "--format=%(objectname) %(refname)", cwd=repo.home / "remote.git"
    )
    assert refs.stdout.decode().split() == [theirs, "refs/heads/main"]


async def test_22_a_protected_branch_is_neither_committed_on_nor_pushed_to(repo: Repo) -> None:
    found = await Repository.open(repo.root, state=repo.state, protected=("main", "release/*"))
    assert found is not None
    start = await found.start_state()
    repo.write("a.txt", "x\n")
    with pytest.raises(GitRefused, match="protected by your configuration"):
        await commit_from(found, start, ("a.txt",))
    for branch in ("main", "release/1"):
        with pytest.raises(GitRefused, match="protected by your configuration"):
            await found.push(remote="origin", branch=branch, auth=PushAuth(), expected=repo.head())
