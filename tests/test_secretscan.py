"""No commit and no push carries a key; nothing that is none is taken for one."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
import string
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from gitrepo import Repo, commit_from, make_repo
from scratch import make

from runner.errors import GitRefused, UsageError
from runner.git import PushAuth, Repository
from runner.secretfiles import is_secret, is_unshippable
from runner.secretscan import OVERLAP, Scanner
from runner.workspace.environment import secret_values

if TYPE_CHECKING:
    from pathlib import Path

_DICE = random.Random(5)
WORDS = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
KNOWN = "tr0ub4dor&3-horse"


def made(size: int, letters: str = WORDS) -> str:
    """Return what a generator would; no key stands in this file for other scanners to find."""
    return "".join(_DICE.choice(letters) for _ in range(size))


UPPER = string.ascii_uppercase + string.digits
KEYS = {
    "AWS": "AKIA" + made(16, string.ascii_uppercase + "234567"),
    "GitHub": "ghp_" + made(36),
    "GitHub, fine-grained": "github_pat_" + made(22) + "_" + made(59),
    "GitLab": "glpat-" + made(20),
    "Slack": "xoxb-" + made(12, string.digits) + "-" + made(24),
    "Slack webhook": "https://hooks.slack.com/services/T"
    + "/".join((made(8, UPPER), "B" + made(8, UPPER), made(24))),
    "Stripe": "sk_live_" + made(24),
    "Google": "AIza" + made(35),
    "Google OAuth": "GOCSPX-" + made(28),
    "Anthropic": "sk-ant-api03-" + made(80),
    "OpenAI": "sk-proj-" + made(60) + "T3BlbkFJ" + made(60),
    "OpenRouter": "sk-or-v1-" + made(64, HEX),
    "Groq": "gsk_" + made(52),
    "Hugging Face": "hf_" + made(34, string.ascii_letters),
    "npm": "npm_" + made(36),
    "PyPI": "pypi-AgEIcHlwaS5vcmc" + made(60),
    "RubyGems": "rubygems_" + made(48, HEX),
    "crates.io": "cio" + made(32),
    "Docker": "dckr_pat_" + made(27),
    "SendGrid": "SG." + made(22) + "." + made(43),
    "Mailgun": "key-" + made(32, HEX),
    "Twilio": "SK" + made(32, HEX),
    "DigitalOcean": "dop_v1_" + made(64, HEX),
    "Shopify": "shpat_" + made(32, HEX),
    "Square": "sq0atp-" + made(22),
    "Databricks": "dapi" + made(32, HEX),
    "Vault": "hvs." + made(95),
    "Terraform": made(14) + ".atlasv1." + made(62),
    "Linear": "lin_api_" + made(40),
    "Notion": "ntn_" + made(46),
    "Atlassian": "ATATT3" + made(186),
    "Grafana": "glsa_" + made(32) + "_" + made(8, HEX),
    "New Relic": "NRAK-" + made(27, UPPER),
    "Doppler": "dp.pt." + made(43),
    "PlanetScale": "pscale_tkn_" + made(43),
    "Pulumi": "pul-" + made(40, HEX),
    "Telegram": made(10, "123456789") + ":AA" + made(33),
    "Azure": "AccountName=x;AccountKey=" + made(86) + "==",
    "age": "AGE-SECRET-KEY-1" + made(58, UPPER),
    "PEM": "-----BEGIN RSA PRIVATE " + f"KEY-----\n{made(64)}\n{made(64)}\n",
    "PEM in JSON": '"-----BEGIN PRIVATE ' + f'KEY-----\\n{made(64)}\\n{made(64)}"',
    "OpenSSH": "-----BEGIN OPENSSH PRIVATE " + f"KEY-----\n{made(70)}\n",
    "PGP": "-----BEGIN PGP PRIVATE KEY " + f"BLOCK-----\n\n{made(64)}\n",
    "URL": f"postgres://app:{made(20)}@db.internal:5432/app",
    ".npmrc": "//registry.npmjs.org/:_authToken=" + made(36),
    "assigned": f'api_key = "{made(32)}"',
    "assigned, JSON": f'"clientSecret": "{made(40)}"',
    "assigned, YAML": f"  password: {made(24)}",
    "assigned, .env": f"DB_PASSWORD={made(24)}",
    "assigned, hex": f'SECRET_KEY = "{made(64, HEX)}"',
}


@pytest.mark.parametrize("kind", KEYS)
def test_keys_are_found_with_their_line_and_never_told(kind: str) -> None:
    text = f"first\nsecond = 2\n{KEYS[kind]}\n"
    hits = Scanner().file("src/app.txt", text.encode())
    assert hits, KEYS[kind]
    for hit in hits:
        assert hit.where == "src/app.txt:3"
        assert not any(KEYS[kind][at : at + 12] in hit.words for at in range(len(KEYS[kind]) - 11))


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize(
    "comment", ["# gitleaks:allow", "// pragma: allowlist secret", "# runner: allow-secret"]
)
def test_a_line_may_say_that_it_holds_none(kind: str, comment: str) -> None:
    first, *rest = KEYS[kind].split("\n")
    text = "\n".join(
        [f"{first}  {comment}" if "BEGIN" not in first else f"{comment} {first}", *rest]
    )
    assert Scanner().file("a", text.encode()) == []
    if "allowlist" in comment:
        text = f"x = 1 {comment.replace('allowlist', 'allowlist nextline')}\n{KEYS[kind]}"
        assert Scanner().file("a", text.encode()) == []
    assert Scanner(allow=["fixtures/**"]).file("fixtures/a", KEYS[kind].encode()) == []
    assert Scanner(allow=["fixtures/**"]).file("src/a", KEYS[kind].encode())


HARMLESS = {
    "src/a.py": [
        'token = "AKIAIOSFODNN7EXAMPLE"',
        "api_key = os.environ['API_KEY_OF_SERVICE_2']",
        'password = "correct horse battery staple"',
        "token = make_session_token_2(request)",
        "secret_name = 'projects/12/secrets/app-key-v2'",
        'token_url = "https://auth.example.com/oauth2/token?v=1a2b3c4d5e6f7a8b"',
        'key = "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"',
        'TOKEN = "ghp_' + "abcdefghijklmnopqrstuvwxyz0123456789" + '"',
        "-----BEGIN " + 'PRIVATE KEY-----" in text',
        "-----BEGIN CERTIFICATE-----\n" + made(64),
        f'sha256 = "{made(64, HEX)}"',
        f'token_id = "{made(8, HEX)}-{made(4, HEX)}-{made(4, HEX)}-{made(4, HEX)}-{made(12, HEX)}"',
        "password=${DB_PASSWORD_2}",
        "https://user:password@example.com/",
        "postgres://app:your-password-1@db/x",
        "private_key = crypto.x25519.X25519PrivateKey",
        f'assert digest == "{made(40, HEX)}"',
        f"commit {made(40, HEX)}",
    ],
    "package-lock.json": [f'"integrity": "sha512-{made(86)}=="', f'"token": "{made(40)}"'],
    "poetry.lock": [f'{{file = "x.whl", hash = "sha256:{made(64, HEX)}"}}'],
    "go.sum": [f"github.com/a/token v1.0.0 h1:{made(43)}="],
    "requirements.txt": [f"token==1.0 --hash=sha256:{made(64, HEX)}"],
    "dist/app.min.js": [f'password:"{made(24)}"'],
}


@pytest.mark.parametrize("path", HARMLESS)
def test_what_is_none_is_not_taken_for_one(path: str) -> None:
    for line in HARMLESS[path]:
        assert Scanner().file(path, f"x\n{line}\n".encode()) == [], line


def test_names_of_files_that_hold_keys() -> None:
    for path in (
        ".env",
        "a/.env.production",
        "deploy/id_rsa",
        ".git-credentials",
        "x/.AWS/credentials",
    ):
        assert is_secret(path), path
        assert is_unshippable(path), path
        assert Scanner().new_name(path), path
    for path in ("server.pem", ".npmrc", "a/secrets.yaml", "x/.ssh/anything"):
        assert is_secret(path), path
    for path in (".env.example", "env.py", "keys.py", "docs/environment.md", "monkey.txt"):
        assert not is_secret(path), path
        assert not is_unshippable(path), path
    assert Scanner(allow=["**/.env"]).new_name("app/.env") == []


FORMS = {
    "plain": KNOWN.encode(),
    "base64": base64.b64encode(b"user:" + KNOWN.encode()),
    "hex": KNOWN.encode().hex().encode(),
    "percent": KNOWN.replace("&", "%26").encode(),
    "JSON": json.dumps({"a": KNOWN}).encode(),
    "UTF-16": KNOWN.encode("utf-16"),
    "binary": b"\0\1\2" + KNOWN.encode() + b"\0",
}


@pytest.mark.parametrize("form", FORMS)
def test_known_values_are_found_in_every_form_and_no_comment_lets_them_pass(form: str) -> None:
    scanner = Scanner([KNOWN], allow=["**"])
    data = FORMS[form] if form == "UTF-16" else FORMS[form] + b" # gitleaks:allow"
    hits = scanner.file("tests/fixture.bin", data)
    assert hits
    assert all(hit.known for hit in hits)
    assert scanner.words(f"fix: {KNOWN}", "the message")
    assert KNOWN not in scanner.shown(f"src/{KNOWN}.py")
    assert Scanner(["short"]).file("a", b"short") == []


def test_variables_whose_values_texts_hold_anyway_are_left_out() -> None:
    environ = {
        "KEY_FILE": "/etc/ssl/private/key2.pem",
        "TOKEN_URL": "https://auth.example.com/v2/token",
        "AUTH": "github-oauth-provider",
        "SSH_AUTH_SOCK": "/tmp/ssh-12/agent.3",
        "API_TOKEN": "k3y-of-the-house",
    }
    assert set(secret_values(environ, sure=True)) == {"k3y-of-the-house"}


def test_a_blob_that_is_read_in_pieces_hides_nothing_at_their_edges() -> None:
    key = KEYS["GitHub"].encode()
    scanner = Scanner()
    for before in (OVERLAP - len(key), OVERLAP, 3 * OVERLAP // 2):
        data = b"x\n" * (before // 2) + key + b"\n"
        pieces = [data[at : at + OVERLAP] for at in range(0, len(data), OVERLAP)]
        kept, found = b"", 0
        for piece in pieces:
            found += len(scanner.file("a", kept + piece))
            kept = (kept + piece)[-OVERLAP:]
        assert found >= 1


def test_no_text_takes_long() -> None:
    for data in (
        b"key" * 30_000,
        b"://a:" * 20_000,
        b"ghp_" * 25_000,
        b"-----BEGIN PRIVATE KEY-----\n" * 3_000,
    ):
        assert Scanner().file("a.py", data) == []


# -- commits --


@pytest.fixture
def repo(world: Path) -> Repo:
    repo = make_repo(world)
    bare = world / "remote.git"
    repo.git("init", "-q", "--bare", "-b", "main", str(bare))
    repo.git("remote", "add", "origin", str(bare))
    repo.git("push", "-q", "-u", "origin", "main")
    return repo


async def opened(repo: Repo) -> Repository:
    found = await Repository.open(repo.root, state=repo.state, scanner=Scanner([KNOWN]))
    assert found is not None
    return found


async def refused(repo: Repo, path: str, data: bytes, message: str = "fix: mend\n") -> str:
    """Commit one file; return why not."""
    repository = await opened(repo)
    start = await repository.start_state()
    repo.write(path, data)
    before = repo.head()
    staged = await repository.prepare("all", start=start, run_paths=())
    assert staged is not None
    with pytest.raises(GitRefused) as caught:
        await repository.commit(staged, message)
    assert repo.head() == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "data", "words"),
    [
        ("src/new.py", f"a\nb = '{KEYS['GitHub']}'\n".encode(), "src/new.py:2 (a GitHub token)"),
        ("src/app.py", f"x\n{KEYS['AWS']}\n".encode(), "src/app.py:2 (an AWS access key)"),
        ("logo.png", b"\x89PNG\0\0" + KEYS["Stripe"].encode(), "logo.png, byte 6 (a Stripe key)"),
        ("blob.bin", b"\0\1" + KNOWN.encode(), "blob.bin, byte 2 (a secret of this run"),
        ("id.txt", KEYS["OpenSSH"].encode(), "id.txt:1 (a private key)"),
        ("app/.env", b"DEBUG=1\n", "app/.env (a file that holds keys by its name)"),
        (f"notes/{KEYS['npm']}.txt", b"x\n", "the name of a file in notes (an npm token)"),
        (f"{KNOWN}/a.txt", b"x\n", "the name of a file in ***"),
    ],
)  # fmt: skip
async def test_a_commit_with_a_key_is_refused(
    repo: Repo, path: str, data: bytes, words: str
) -> None:
    said = await refused(repo, path, data)
    assert words in said
    assert "revoke" in said
    assert not any(key[-12:] in said for key in (*KEYS.values(), KNOWN))
    assert ("allow_secrets" in said) is ("of this run" not in said)


@pytest.mark.parametrize("key", [KEYS["GitLab"], KNOWN, KNOWN.encode().hex()])
async def test_a_message_with_a_key_is_refused(repo: Repo, key: str) -> None:
    said = await refused(repo, "a.txt", b"x\n", f"fix: mend\n\nwith {key}\n")
    assert "the commit's message" in said
    assert key not in said


async def test_a_link_and_a_big_file_are_looked_at_too(repo: Repo) -> None:
    repository = await opened(repo)
    start = await repository.start_state()
    (repo.root / "link").symlink_to(f"/opt/{KEYS['npm']}")
    with pytest.raises(GitRefused, match="link:1"):
        await commit_from(repository, start, ("link",), "all")
    (repo.root / "link").unlink()
    repo.write("big.bin", os.urandom(1 << 20) * 9 + KEYS["Groq"].encode())
    with pytest.raises(GitRefused, match=r"big\.bin, byte \d+ \(a Groq key\)"):
        await commit_from(repository, start, (), "all")


async def test_a_key_that_was_there_before_is_not_new(repo: Repo) -> None:
    repo.write("src/old.py", f"x = 1\nkey = '{KEYS['GitHub']}'\n")
    repo.write("data/.env", "A=1\n")
    repo.commit_all()
    repository = await opened(repo)
    start = await repository.start_state()
    repo.write("src/old.py", f"key = '{KEYS['GitHub']}'\ny = 2\n")
    repo.write("src/moved.py", f"key = '{KEYS['GitHub']}'\n")
    repo.write("data/.env", "A=2\n")
    staged, _ = await commit_from(repository, start, (), "all")
    assert set(staged.paths) == {"src/old.py", "src/moved.py", "data/.env"}


# -- pushes --


async def push(repo: Repo, branch: str = "main") -> str:
    """Push what the user committed; return why not."""
    repository = await opened(repo)
    with pytest.raises(GitRefused) as caught:
        await repository.push_plan(
            remote="origin", branch=branch, auth=PushAuth("ssh"), expected=repo.head()
        )
    said = str(caught.value)
    with pytest.raises(GitRefused):
        await repository.push(
            remote="origin", branch=branch, auth=PushAuth("ssh"), expected=repo.head()
        )
    refs = repo.git("for-each-ref", cwd=repo.home / "remote.git")
    assert repo.head() not in refs
    return said


async def test_a_push_is_refused_for_any_commit_of_its_range(repo: Repo) -> None:
    repo.write("src/app.py", f"key = '{KEYS['Google']}'\n")
    repo.commit_all()
    repo.write("src/app.py", "clean = True\n")
    repo.commit_all()
    said = await push(repo)
    assert "src/app.py:1 (a Google API key)" in said
    assert "src/app.py:1" in await push(repo, "topic/other")
    assert KEYS["Google"] not in said


@pytest.mark.parametrize("what", ["message", "author", "name", "file", "binary", "known"])
async def test_a_push_is_refused_for_words_and_names(repo: Repo, what: str) -> None:
    key = KEYS["Linear"]
    repo.write("a.txt", "x\n")
    if what == "message":
        repo.commit_all(f"fix: {key}")
    elif what == "author":
        repo.git("add", "-A")
        repo.git("-c", f"user.name=Ada {key}", "commit", "-qm", "x")
    elif what == "name":
        repo.write(f"{key}.txt", "x\n")
        repo.commit_all()
        repo.git("rm", "-q", f"{key}.txt")
        repo.git("commit", "-qm", "gone again")
    else:
        content = {"file": "A=1\n", "binary": b"\0" + key.encode(), "known": KNOWN}[what]
        repo.write({"file": "deploy/.env"}.get(what, "data.bin"), content)
        repo.commit_all()
    said = await push(repo)
    assert key not in said
    assert KNOWN not in said


async def test_what_the_remote_has_already_is_pushed_along(repo: Repo) -> None:
    repo.write("src/old.py", f"key = '{KEYS['Pulumi']}'\n")
    repo.commit_all(f"feat: with {KEYS['Pulumi']}")
    repo.git("push", "-q", "origin", "main")
    repo.write("src/old.py", f"x = 1\nkey = '{KEYS['Pulumi']}'\n")
    repo.commit_all("fix: more")
    repository = await opened(repo)
    pushed = await repository.push(
        remote="origin", branch="topic", auth=PushAuth(), expected=repo.head()
    )
    assert "Pushed" in type(pushed).__name__


async def test_a_branch_that_is_named_like_a_key_is_refused(repo: Repo) -> None:
    repo.write("a.txt", "x\n")
    repo.commit_all()
    assert "the branch's name (a DigitalOcean token)" in await push(repo, KEYS["DigitalOcean"])


# -- the real command --


def runner(root: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", *args],
        cwd=root,
        env={**os.environ, "SUBRUNNER_STATE_DIR": str(root.parent / "state"), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_ends_with_one_and_no_model_is_asked(world: Path) -> None:
    scratch = make(world)
    key, secret = KEYS["GitHub"], made(24)
    scratch.write(".git/hooks/commit-msg", f'#!/bin/sh\necho "{key}" >>"$1"\n')
    (scratch.root / ".git/hooks/commit-msg").chmod(0o755)
    scratch.write("calc.py", "more = 1\n")
    (world / "flow.yaml").write_text(
        "steps:\n"
        "  - id: write\n"
        '    run: if test -n "$WHAT"; then printf "%s" "$WHAT" >leak.txt; fi\n'
        "    env: { inherit: [WHAT] }\n"
        "    fix: true\n"
        "  - id: commit\n"
        "    commit: { message: 'feat: more', files: all }\n"
    )
    flow = str(world / "flow.yaml")
    for what, words in (
        (f"a\n{key}", "leak.txt:2 (a GitHub token)"),
        (f"a\n{secret}", "leak.txt:2 (a secret of this run or of its environment)"),
        ("", "the commit's message (a GitHub token)"),
    ):
        done = runner(scratch.root, "exec", "--json", flow, WHAT=what, MY_API_TOKEN=secret)
        assert done.returncode == 1, done.stderr
        report = json.loads(done.stdout)
        assert report["steps"][1]["status"] == "failed"
        assert words in report["steps"][1]["reason"]
        assert report["models"] == {}
        assert not any(value in done.stdout + done.stderr for value in (key, secret))
        assert scratch.git("log", "-1", "--format=%s") == "start"
        (scratch.root / "leak.txt").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("abc", "has 3 bytes"),
        ("true", "has 4 bytes"),
        ("       1", "has 1 bytes"),
        ("Password", "a word that any text may hold"),
        ("aaaaaaaaaaaa", "a word that any text may hold"),
    ],
)
async def test_what_is_no_secret_cannot_be_granted(
    world: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    repo = make(world)
    monkeypatch.setenv("DEPLOY", value)
    with pytest.raises(UsageError, match=words) as caught:
        await repo.run(
            "secrets: [DEPLOY]\nsteps:\n  - { id: x, run: 'true', secrets: [DEPLOY] }\n",
            secrets=("DEPLOY",),
        )
    assert len(value) < 9 or value not in str(caught.value)


@pytest.mark.parametrize(
    "step",
    [
        "{ id: x, run: 'true', secrets: [ANTHROPIC_API_KEY] }",
        "{ id: x, run: 'true', secrets: [SAME] }",
        "{ id: x, run: 'true', secrets: [OPENAI_API_KEY], env: { inherit: [OPENAI_API_KEY] } }",
    ],
)
async def test_no_command_is_given_a_models_key(
    world: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    repo = make(world)
    names = ("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "SAME")
    for name in names:
        monkeypatch.setenv(name, hashlib.sha256(name[:4].encode()).hexdigest())
    monkeypatch.setenv("SAME", os.environ["ANTHROPIC_API_KEY"])
    with pytest.raises(UsageError, match="a model's key"):
        await repo.run(f"secrets: [{', '.join(names)}]\nsteps:\n  - {step}\n", secrets=names)


async def test_a_prompt_that_names_a_secret_is_refused(world: Path) -> None:
    repo = make(world)
    with pytest.raises(UsageError, match="secrets"):
        await repo.run(
            "secrets: [DEPLOY]\nsteps:\n  - { id: x, prompt: hello, secrets: [DEPLOY] }\n",
            secrets=("DEPLOY",),
        )
