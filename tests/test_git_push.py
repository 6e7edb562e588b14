"""Pushes go to the recorded remote, never by force, and are read back.

Rebases touch this run's own commits only.
"""

from __future__ import annotations

import base64
import http.server
import os
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from gitrepo import GIT, Repo, commit_from, make_repo

from runner.errors import GitRefused
from runner.git import Conflict, NotFastForward, PushAuth, Pushed, Rebased, Repository
from runner.git.urls import checked_branch, parse_remote

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

AUTO = PushAuth()


@pytest.fixture
def repo(world: Path) -> Repo:
    repo = make_repo(world)
    bare = world / "remote.git"
    repo.git("init", "-q", "--bare", "-b", "main", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "-u", "origin", "main")
    return repo


def _remote(repo: Repo, ref: str = "main") -> str:
    return repo.git("rev-parse", ref, cwd=repo.home / "remote.git").strip()


def _theirs(repo: Repo, path: str = "other.txt", text: str = "theirs\n") -> str:
    other = Repo(repo.home / "other", repo.home)
    if not other.root.exists():
        repo.git("clone", "-q", str(repo.home / "remote.git"), str(other.root))
    other.write(path, text)
    sha = other.commit_all("chore: theirs")
    other.git("push", "-q")
    return sha


async def test_push_to_a_new_branch_and_read_back(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    branch = "runner/ship-20261121-174530-3f9a"
    plan = await repository.push_plan(remote="origin", branch=branch, auth=AUTO, expected=sha)
    assert plan.remote_ref == f"refs/heads/{branch}"
    assert plan.remote_sha == "0" * 40
    assert plan.local_ref == "refs/heads/main"
    pushed = await repository.push(remote="origin", branch=branch, auth=AUTO, expected=sha)
    assert pushed == Pushed("origin", f"refs/heads/{branch}", sha)
    assert _remote(repo, branch) == sha
    assert repo.git("rev-parse", f"origin/{branch}").strip() == sha
    again = await repository.push(remote="origin", branch=branch, auth=AUTO, expected=sha)
    assert again == pushed


async def test_push_of_a_detached_head_and_of_a_first_commit(world: Path) -> None:
    repo = Repo(world / "empty", world)
    repo.root.mkdir()
    repo.git("init", "-q", "-b", "main")
    repo.git("init", "-q", "--bare", str(world / "remote.git"))
    repo.git("remote", "add", "origin", "../remote.git")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("a", "1\n")
    _, sha = await commit_from(repository, start, ("a",))
    await repository.push(remote="origin", branch="main", auth=AUTO, expected=sha)
    assert _remote(repo) == sha
    repo.git("checkout", "-q", "--detach")
    repository = await repo.open()
    repo.write("a", "2\n")
    _, sha = await commit_from(repository, start, ("a",))
    await repository.push(remote="origin", branch="side", auth=AUTO, expected=sha)
    assert _remote(repo, "side") == sha


@pytest.mark.parametrize("flags", [["--depth=1"], ["--shared"], ["--filter=blob:none"]])
async def test_push_from_clones_of_all_sorts(repo: Repo, flags: list[str]) -> None:
    repo.git("config", "uploadpack.allowFilter", "true", cwd=repo.home / "remote.git")
    _theirs(repo)
    source = str(repo.home / "remote.git")
    url = source if flags == ["--shared"] else f"file://{source}"
    repo.git("clone", "-q", *flags, url, str(repo.home / "clone"))
    clone = Repo(repo.home / "clone", repo.home)
    repository = await clone.open()
    start = await repository.start_state()
    clone.write("src/app.py", "print('two')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    await repository.push(remote="origin", branch="main", auth=AUTO, expected=sha)
    assert _remote(repo) == sha
    repo.git("fsck", "--no-dangling", cwd=repo.home / "remote.git")


async def test_insteadof_of_the_repository_is_ignored(repo: Repo) -> None:
    evil = repo.home / "evil.git"
    repo.git("init", "-q", "--bare", str(evil))
    repo.git("config", f"url.{evil}.insteadOf", str(repo.home / "remote.git"))
    repo.git("config", f"url.{evil}.pushInsteadOf", str(repo.home))
    repository = await repo.open()
    assert "insteadOf is not applied" in " ".join(repository.facts.notes)
    await repository.push(remote="origin", branch="new", auth=AUTO, expected=repo.head())
    assert _remote(repo, "new") == repo.head()
    assert repo.git("for-each-ref", cwd=evil) == ""


async def test_insteadof_of_the_user_is_applied_and_shown(repo: Repo) -> None:
    mirror = repo.home / "mirror.git"
    repo.git("init", "-q", "--bare", str(mirror))
    repo.git("config", "--global", f"url.{mirror}.pushInsteadOf", "https://example.com/x.git")
    repo.git("remote", "set-url", "origin", "https://example.com/x.git")
    repository = await repo.open()
    assert repository.facts.remotes["origin"] == "https://example.com/x.git"
    assert repository.facts.push_urls["origin"] == str(mirror)
    await repository.push(remote="origin", branch="new", auth=AUTO, expected=repo.head())
    assert repo.git("rev-parse", "new", cwd=mirror).strip() == repo.head()


async def test_a_url_that_changes_during_the_run_is_refused_naming_both(repo: Repo) -> None:
    repository = await repo.open()
    evil = repo.home / "evil.git"
    repo.git("init", "-q", "--bare", str(evil))
    repo.git("remote", "set-url", "origin", str(evil))
    with pytest.raises(GitRefused, match=rf"{repo.home}/remote\.git.*{evil}"):
        await repository.push(remote="origin", branch="new", auth=AUTO, expected=repo.head())
    assert repo.git("for-each-ref", cwd=evil) == ""


@pytest.mark.parametrize(
    "url",
    [
        *("ext::sh -c touch% canary", "EXT::sh", "ext::sh", "fd::3", "evil::https://example.com"),
        *("-oProxyCommand=touch", "--upload-pack=touch", "ssh://-oProxyCommand=x/y", "-x@host:p"),
        *("git://example.com/x", "http://example.com/x", "ftp://example.com/x", "https:///x"),
        *("https://user:password@example.com/x", "relative/path", "host:ext::sh", "", "a b"),
        *("https://exa\nmple.com/x", "file+ssh://x/y", "FILE:///tmp/x", "rsync://x/y"),
    ],
)
def test_urls_that_are_refused(url: str, world: Path) -> None:
    with pytest.raises(GitRefused) as caught:
        parse_remote(url, world)
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "protocol", "host", "username"),
    [
        ("https://example.com/x.git", "https", "example.com", ""),
        ("https://me@example.com:8443/x.git", "https", "example.com", "me"),
        ("git@example.com:team/x.git", "ssh", "example.com", "git"),
        ("example.com:x.git", "ssh", "example.com", ""),
        ("ssh://git@example.com:22/x.git", "ssh", "example.com", "git"),
        ("http://127.0.0.1:8000/x.git", "http", "127.0.0.1", ""),
        ("/srv/x.git", "file", "", ""),
        ("file:///srv/x.git", "file", "", ""),
    ],
)
def test_urls_that_are_allowed(
    url: str, protocol: str, host: str, username: str, world: Path
) -> None:
    remote = parse_remote(url, world)
    assert (remote.protocol, remote.host, remote.username) == (protocol, host, username)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_a_remote_inside_the_work_tree_is_refused(repo: Repo, form: str) -> None:
    inside = repo.root / "remote"
    repo.git("init", "-q", "--bare", str(inside))
    (inside / "hooks/pre-receive").write_bytes(repo.plant().read_bytes())
    (inside / "hooks/pre-receive").chmod(0o755)
    repo.git("remote", "set-url", "origin", form.format(inside))
    repository = await repo.open()
    with pytest.raises(GitRefused, match="inside the work tree"):
        await repository.push(remote="origin", branch="new", auth=AUTO, expected=repo.head())
    assert not repo.canary.exists()


@pytest.mark.parametrize(
    "branch",
    [
        *("-h", "--exec=x", "a b", "a\nb", "a\x1b[31m", "x" * 4096, "a..b", "a@{1}", "/a", "a/"),
        *(
            ".a",
            "a/.b",
            "a.lock",
            "a.lock/b",
            "a:b",
            "a^",
            "a~1",
            "a?",
            "a*",
            "a[b",
            "a\\b",
            "@",
            "",
        ),
    ],
)
def test_branch_names_that_are_refused(branch: str) -> None:
    with pytest.raises(GitRefused):
        checked_branch(branch)


@pytest.mark.parametrize(
    "branch", ["main", "runner/ship-1", "feat/a+b", "ünï", "v1.2", "a@b", "#1"]
)
def test_branch_names_that_are_allowed(branch: str) -> None:
    assert checked_branch(branch) == f"refs/heads/{branch}"


async def test_what_cannot_be_pushed_is_refused_with_what_to_do(repo: Repo) -> None:
    repository = await repo.open()
    head = repo.head()
    with pytest.raises(GitRefused, match=r"no remote 'other' .*origin"):
        await repository.push(remote="other", branch="x", auth=AUTO, expected=head)
    with pytest.raises(GitRefused, match="empty or was not granted"):
        await repository.push(remote="origin", branch="x", auth=PushAuth("secret"), expected=head)
    with pytest.raises(GitRefused, match="rev-parse"):
        await repository.push(remote="origin", branch="x", auth=AUTO, expected="0" * 40)


async def test_a_refusing_remote_is_quoted_without_its_escapes(repo: Repo) -> None:
    hook = repo.home / "remote.git/hooks/pre-receive"
    hook.write_text("#!/bin/sh\nprintf '\\033[31mno way\\033[0m\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    repository = await repo.open()
    with pytest.raises(GitRefused, match="no way") as caught:
        await repository.push(remote="origin", branch="new", auth=AUTO, expected=repo.head())
    assert "\x1b" not in str(caught.value)


async def test_a_remote_that_rewrites_is_caught_by_reading_back(repo: Repo) -> None:
    bare = repo.home / "remote.git"
    hook = bare / "hooks/post-receive"
    hook.write_text(
        f"#!/bin/sh\ncd {bare} && unset GIT_QUARANTINE_PATH && git update-ref -d refs/heads/new\n"
    )
    hook.chmod(0o755)
    repository = await repo.open()
    with pytest.raises(GitRefused, match="is at nothing"):
        await repository.push(remote="origin", branch="new", auth=AUTO, expected=repo.head())


async def test_non_fast_forward_never_forces_and_says_what_to_type(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    theirs = _theirs(repo)
    result = await repository.push(remote="origin", branch="main", auth=AUTO, expected=sha)
    assert isinstance(result, NotFastForward)
    assert result.rebase
    assert result.command == "git pull --rebase origin main && git push origin main"
    assert _remote(repo) == theirs
    repo.git("push", "-q", "origin", "HEAD~:refs/heads/side")
    repo.git(
        "push",
        "-q",
        "-f",
        str(repo.home / "remote.git"),
        f"{theirs}:refs/heads/side",
        cwd=repo.home / "other",
    )
    other = await repository.push(remote="origin", branch="side", auth=AUTO, expected=sha)
    assert isinstance(other, NotFastForward)
    assert not other.rebase


async def test_rebase_of_own_commits_then_push(repo: Repo) -> None:
    repo.write("dirty.txt", "1\n")
    repo.write("notes.txt", "mine\n")
    repo.git("add", "dirty.txt")
    repo.git("commit", "-qm", "chore: dirty")
    repo.git("push", "-q")
    repo.write("dirty.txt", "1\nuncommitted\n")
    repository = await repo.open()
    start = await repository.start_state()
    for number in range(2):
        repo.write("src/app.py", f"print({number})\n" * 3)
        await commit_from(repository, start, ("src/app.py",), ("src/**",))
    theirs = _theirs(repo, "README.md", "# Theirs\n")
    rebased = await repository.rebase_onto_upstream()
    assert isinstance(rebased, Rebased)
    assert rebased.onto == theirs
    assert repo.git("log", "-3", "--format=%s").split("\n")[:3] == [
        "fix: mend",
        "fix: mend",
        "chore: theirs",
    ]
    assert (repo.root / "README.md").read_text() == "# Theirs\n"
    assert (repo.root / "dirty.txt").read_text() == "1\nuncommitted\n"
    assert repo.status() == [" M dirty.txt", "?? notes.txt"]
    assert repo.git("show", "--stat", "--format=", "HEAD").count("|") == 1
    pushed = await repository.push(remote="origin", branch="main", auth=AUTO, expected=rebased.sha)
    assert isinstance(pushed, Pushed)
    assert _remote(repo) == rebased.sha
    # What follows is this run's own again.
    repo.git("pull", "-q", cwd=repo.home / "other")
    _theirs(repo, "late.txt")
    repo.write("src/app.py", "print('again')\n")
    await commit_from(repository, start, ("src/app.py",), ("src/**",))
    assert isinstance(await repository.rebase_onto_upstream(), Rebased)


async def test_rebase_refuses_to_rewrite_what_is_not_its_own(repo: Repo) -> None:
    repo.write("mine.txt", "unpushed\n")
    repo.commit_all("chore: mine")
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    _theirs(repo)
    with pytest.raises(GitRefused, match="earlier commits of yours") as caught:
        await repository.rebase_onto_upstream()
    assert "git pull --rebase" in caught.value.hint
    repo.write("more.txt", "x\n")
    repo.commit_all("chore: on top")
    with pytest.raises(GitRefused, match="not a commit of this run"):
        await repository.rebase_onto_upstream()
    assert repo.git("rev-parse", "HEAD~").strip() == sha


async def test_rebase_refuses_to_overwrite_local_changes(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('two')\n")
    repo.write("README.md", "# In the editor\n")
    _, sha = await commit_from(repository, start, ("src/app.py",))
    _theirs(repo, "README.md", "# Theirs\n")
    with pytest.raises(GitRefused, match="in the way"):
        await repository.rebase_onto_upstream()
    assert (repo.root / "README.md").read_text() == "# In the editor\n"
    assert repo.head() == sha
    assert repo.status() == [" M README.md"]


async def test_a_conflict_is_shown_mended_and_committed(repo: Repo) -> None:
    repository = await repo.open()
    start = await repository.start_state()
    repo.write("src/app.py", "print('ours')\n")
    repo.write("src/new.py", "x = 1\n")
    _, sha = await commit_from(repository, start, ("src/app.py", "src/new.py"))
    theirs = _theirs(repo, "src/app.py", "print('theirs')\n")
    conflict = await repository.rebase_onto_upstream()
    assert isinstance(conflict, Conflict)
    assert conflict.paths == ("src/app.py",)
    assert (repo.root / "src/app.py").read_text() == "print('ours')\n"
    assert repo.head() == sha
    repo.write("src/new.py", "x = 1\nunfinished(\n")
    await repository.show_conflict(conflict)
    assert "<<<<<<<" in (repo.root / "src/app.py").read_text()
    with pytest.raises(GitRefused, match="conflict markers"):
        await repository.resolve(conflict)
    assert repo.head() == sha
    repo.write("src/app.py", "print('both')\n")
    rebased = await repository.resolve(conflict)
    assert repo.git("rev-parse", "HEAD^").strip() == theirs
    assert repo.show("src/app.py") == "print('both')\n"
    assert repo.show("src/new.py") == "x = 1\n"
    assert repo.status() == [" M src/new.py"]
    pushed = await repository.push(remote="origin", branch="main", auth=AUTO, expected=rebased.sha)
    assert isinstance(pushed, Pushed)


class _Backend(http.server.BaseHTTPRequestHandler):
    """git's own http backend behind Basic authentication."""

    root = ""
    secret = ""
    seen: list[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        return

    def do_GET(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        self._serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def _serve(self, body: bytes) -> None:
        given = self.headers.get("Authorization", "")
        self.seen.append(given)
        wanted = base64.b64encode(f"x-access-token:{self.secret}".encode()).decode()
        if given != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="x"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path, _, query = self.path.partition("?")
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": self.root,
            "GIT_HTTP_EXPORT_ALL": "1",
            "REMOTE_USER": "x",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(
            [GIT, "http-backend"], env=env, input=body, capture_output=True, check=True
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        self.send_response(200)
        for line in head.decode().split("\r\n"):
            name, _, value = line.partition(": ")
            if name != "Status":
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def _serving(root: Path, secret: str) -> Generator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("Handler", (_Backend,), {"root": str(root), "secret": secret, "seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/remote.git", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_a_secret_authenticates_and_leaves_no_trace(repo: Repo) -> None:
    secret = "tok-3f9a-canary-secret"
    with _serving(repo.home, secret) as (url, seen):
        repo.git("remote", "set-url", "origin", url)
        repo.git("config", "credential.helper", f"!{repo.plant()}")
        repository = await repo.open()
        head = repo.head()
        with pytest.raises(GitRefused, match="could not read Username") as caught:
            await repository.push(remote="origin", branch="new", auth=AUTO, expected=head)
        assert "--secret" in caught.value.hint
        wrong = PushAuth("secret", "wrong-token")
        with pytest.raises(GitRefused) as caught:
            await repository.push(remote="origin", branch="new", auth=wrong, expected=head)
        assert "wrong-token" not in str(caught.value)
        for auth in (PushAuth("secret", secret), PushAuth("auto", secret)):
            pushed = await repository.push(remote="origin", branch="new", auth=auth, expected=head)
            assert isinstance(pushed, Pushed)
    assert any(seen)
    assert secret not in repr(PushAuth("secret", secret))
    forms = (secret.encode(), base64.b64encode(f"x-access-token:{secret}".encode()))
    for path in repo.home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert not any(form in path.read_bytes() for form in forms), path
    assert not repo.canary.exists()


async def test_the_users_own_helper_is_asked_for_auto(repo: Repo) -> None:
    secret = "from-the-users-helper"
    helper = repo.home / "helper"
    helper.write_text(f"#!/bin/sh\necho username=x-access-token\necho password={secret}\n")
    helper.chmod(0o755)
    repo.git("config", "--global", "credential.helper", str(helper))
    with _serving(repo.home, secret) as (url, _):
        repo.git("remote", "set-url", "origin", url)
        repository = await repo.open()
        pushed = await repository.push(
            remote="origin", branch="new", auth=AUTO, expected=repo.head()
        )
    assert isinstance(pushed, Pushed)


async def test_a_protected_branch_is_not_pushed_to(repo: Repo) -> None:
    repository = await Repository.open(repo.root, state=repo.state, protected=("main",))
    assert repository is not None
    with pytest.raises(GitRefused, match="protected"):
        await repository.push(remote="origin", branch="main", auth=AUTO, expected=repo.head())
