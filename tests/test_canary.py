"""Secrets go in everywhere, and no byte that a run leaves or sends has one of them."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import pty
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from collector import collecting
from provider import Answer, Ask, Call, Fault, Reply, serving
from scratch import Scratch, make

from runner.workspace.masking import Mask

if TYPE_CHECKING:
    from collections.abc import Iterator

GRANTED = "gr4nted/Qx+7\"z'K$w9&Lp"
PLAIN = "enviR0nment-Jw8kT2vXq"
KEY = "m0del-key-Zq71bWx93Lf5"
CANARIES = (GRANTED, PLAIN, KEY)

CHIRP = """
import base64, gzip, json, os, shlex, sys, time, urllib.parse
name = sys.argv[1]
value = os.environ.get(name) or next(
    line.split("=", 1)[1].rstrip() for line in open(".env") if line.startswith(name)
)
raw = value.encode()
forms = [value, repr(value), json.dumps(value), json.dumps(json.dumps(value)), shlex.quote(value),
    urllib.parse.quote(value, safe=""), urllib.parse.quote_plus(value), raw.hex(),
    raw.hex().upper(),
    base64.urlsafe_b64encode(raw).decode(), "https://user:" + urllib.parse.quote(value) + "@host/",
    "\\x1b[31m" + value[:5] + "\\x1b[0m\\x1b[1m" + value[5:] + "\\x1b[0m",
    "\\x1b]8;;http://x/\\x07" + value + "\\x1b]8;;\\x07"]
forms += [base64.b64encode(b"x" * n + raw + b"tail").decode() for n in range(3)]
for form in forms:
    sys.stdout.write("<" + form + ">\\r\\n"); sys.stdout.flush()
    sys.stderr.write("[" + form + "]\\n"); sys.stderr.flush()
for at in range(0, len(value), 3):
    sys.stdout.write(value[at:at + 3]); sys.stdout.flush(); time.sleep(0.003)
print()
print("x" * (16384 - 9) + value)
print("calc.py:1: error: " + value)
if len(sys.argv) > 2:
    raise SystemExit("Traceback: " + value)
"""


def forms(value: str) -> Iterator[bytes]:
    """Yield what must not be found: made here on its own, not by what the masker is made of."""
    raw = value.encode()
    yield raw
    yield from (text.encode() for text in (json.dumps(value)[1:-1], html.escape(value)))
    yield from (text.encode() for text in (quote(value, safe=""), quote(value), quote_plus(value)))
    yield from (raw.hex().encode(), raw.hex().upper().encode())
    for before in range(3):
        whole = base64.b64encode(b"x" * before + raw)
        yield whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


@dataclass
class Told:
    """All that one run left and sent."""

    pieces: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def add(self, name: str, data: bytes) -> None:
        self.pieces[name] = data
        if data[:2] == b"\x1f\x8b":
            self.pieces[f"{name}, unpacked"] = gzip.decompress(data)
        if data[:15] == b"SQLite format 3":
            self.pieces[f"{name}, as rows"] = b""

    def tree(self, folder: Path) -> None:
        for file in sorted(folder.rglob("*")):
            if not file.is_file() or file.is_symlink() or _is_copy(file):
                continue
            self.add(str(file), str(file).encode() + b"\n" + file.read_bytes())
            if file.read_bytes()[:15] == b"SQLite format 3":
                with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
                    rows = "\n".join(database.iterdump()).encode("utf-8", "surrogateescape")
                database.close()
                self.add(f"{file}, as rows", rows)

    def leaks(self) -> list[str]:
        """Return where a canary is, in any form, in any piece, as it is or without escapes."""
        wanted = [(value, form) for value in CANARIES for form in forms(value)]
        found: list[str] = []
        for name, data in self.pieces.items():
            for text in (data, _unescaped(data)):
                found += [
                    f"{name}: {value[:4]}... as {form!r} at {_around(text, form)!r}"
                    for value, form in wanted
                    if form in text
                ]
        return found


def _is_copy(file: Path) -> bool:
    """Tell whether a file is the copy of one of the tree, to be put back from: for nobody else."""
    copies = next((up for up in file.parents if up.name in ("environments", "snapshots.git")), None)
    if copies is None:
        return False
    assert any(up.stat().st_mode & 0o077 == 0 for up in (copies, *copies.parents[:3]))
    return True


def _around(text: bytes, form: bytes) -> bytes:
    at = text.find(form)
    return text[max(0, at - 80) : at + 200]


def _unescaped(data: bytes) -> bytes:
    text = data.decode("utf-8", "replace")
    for old, new in (
        ("\\u001b", "\x1b"),
        ("\\/", "/"),
        ('\\"', '"'),
        ("\\'", "'"),
        ("&quot;", '"'),
    ):
        text = text.replace(old, new)
    return html.unescape(text).encode()


def script(ask: Ask) -> Reply:
    """Let the provider echo what it was sent, and a model say what it cannot know."""
    if ask.number == 1:
        return Fault(529, {"error": {"type": "overloaded_error", "message": f"key {KEY}"}})
    finish = next((tool for tool in ask.tools if "done" in tool.lower()), "done")
    if ask.number == 2:
        return Answer(
            text=f"I see {PLAIN} and {GRANTED}",
            calls=(
                Call("read_file", {"path": "notes.txt"}),
                Call("grep", {"pattern": PLAIN, "path": "."}),
                Call("grep", {"pattern": "JHD|Jw8", "path": "."}),
                Call("read_file", {"path": ".env"}),
                Call("read_file", {"path": f"{PLAIN}.txt"}),
                Call(
                    "shell",
                    {"command": "env | rev; env | gzip | base64 -w0; echo; cat notes.txt; env"},
                ),
                Call("check", {}),
            ),
        )
    if ask.number == 3:
        return Answer(calls=(Call("write_file", {"path": "told.txt", "content": "mended"}),))
    if ask.number == 4:
        return Answer(calls=(Call(finish, {"summary": f"mended with {PLAIN}"}),))
    return Fault(400, {"error": {"type": "invalid_request_error", "message": f"bad key {KEY}"}})


WORKFLOW = """
name: canary
secrets: [GRANTED]
models: { cheap: "anthropic:claude-haiku-5-5", main: "anthropic:claude-opus-5-5" }
inputs: { what: { type: string, default: "" } }
steps:
  - id: sing
    secrets: [GRANTED]
    run: %(python)s chirp.py GRANTED
  - id: cry
    needs: []
    allow_failure: true
    secrets: [GRANTED]
    run: %(python)s chirp.py GRANTED fail
  - id: tell
    needs: []
    allow_failure: true
    secrets: [GRANTED]
    run: |
      %(python)s -c 'import json, os; print(json.dumps({"it": os.environ["GRANTED"]}))' \\
        >"$SUBRUNNER_OUTPUT"
      mkdir -p "$(dirname "$SUBRUNNER_OUTPUT")/d"
      printenv GRANTED >"$(dirname "$SUBRUNNER_OUTPUT")/d/x"
    outputs: { it: string }
  - id: mend
    needs: []
    run: %(python)s chirp.py PLAIN; test -e told.txt
    fix: { agent: fixer, write: ["told.txt"] }
  - id: ask
    needs: [mend]
    allow_failure: true
    prompt: ${{ inputs.what }}
  - id: commit
    needs: [sing, mend]
    commit: { message: "feat: told", files: all }
  - id: push
    needs: [commit]
    when: always
    allow_failure: true
    push: { remote: origin, branch: "topic/${{ inputs.what }}" }
"""


def world_of(world: Path) -> Scratch:
    repo = make(world)
    repo.write("chirp.py", CHIRP)
    repo.write("notes.txt", f"the value is {PLAIN}\n")
    repo.write(".gitignore", ".env\nnotes.txt\n*.txt\n!told.txt\n")
    repo.commit_all()
    (repo.root / ".env").write_text(f"PLAIN={PLAIN}\n")
    repo.write(f"{PLAIN}.txt", "a name that tells\n")
    hook = repo.root / ".git/hooks/pre-commit"
    hook.write_text("#!/bin/sh\ncat .env\ngrep = .env | tr -d '\\n' >&2\n")
    hook.chmod(0o755)
    (world / "flow.yaml").write_text(WORKFLOW % {"python": sys.executable})
    return repo


def terminal(command: list[str], cwd: Path, environ: dict[str, str]) -> tuple[int, bytes, bytes]:
    """Run a command with a terminal for its errors; return exit code, output, what was shown."""
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while chunk := os.read(master, 65536):
                shown.extend(chunk)
        except OSError:
            return

    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
    )
    os.close(slave)
    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=120)
    reader.join(timeout=10)
    os.close(master)
    return process.returncode, out, bytes(shown)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Told, list[Ask], dict[str, Any]]:
    """Run it all once, with every sink on."""
    world = tmp_path_factory.mktemp("canary").resolve()
    home = world / "home"
    home.mkdir()
    (home / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.com\n")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.endswith(("_API_KEY", "_TOKEN"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        return _run_it_all(world)


def _run_it_all(world: Path) -> tuple[Told, list[Ask], dict[str, Any]]:
    repo, seen, out = world_of(world), Told(), world / "out"
    out.mkdir()
    flags = ["--json", "--progress", "tree", "--trace-content", "--secret", "GRANTED", "-j", "1"]
    flags += [
        "--allow-shell",
        "--events",
        str(out / "events.jsonl"),
        "--report",
        str(out / "r.json"),
    ]
    flags += ["--junit", str(out / "junit.xml"), "--record", str(out / "cassette")]
    flags += ["-i", f"what=say {PLAIN} and {GRANTED}", "--policy", "ladder", "--budget", "5"]
    with serving(script) as provider, collecting() as collector:
        environ = {
            **os.environ,
            **provider.environ(),
            "ANTHROPIC_API_KEY": KEY,
            "GRANTED": GRANTED,
            "PLAIN_TOKEN": PLAIN,
            "SUBRUNNER_STATE_DIR": str(world / "state"),
            "SUBRUNNER_SANDBOX": "off",
            "SUBRUNNER_CONFIG": "",
            "GITHUB_ACTIONS": "true",
            "GITHUB_STEP_SUMMARY": str(out / "summary.md"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "TERM": "xterm-256color",
        }
        command = [sys.executable, "-m", "runner"]
        code, stdout, screen = terminal(
            [*command, "exec", *flags, str(world / "flow.yaml")], repo.root, environ
        )
        report = json.loads(stdout)
        seen.add("stdout", stdout)
        seen.add("terminal", screen)
        for args in (
            ("report", "-o", str(out / "page.html")), ("show", "--json"), ("log", "last", "cry"),
            ("trace",), ("explain",),
        ):  # fmt: skip
            _, stdout, screen = terminal([*command, *args], repo.root, environ)
            seen.add(f"{' '.join(args)}: stdout", stdout)
            seen.add(f"{' '.join(args)}: stderr", screen)
        for post in collector.posts:
            seen.add(f"collector {post.number}", post.body + str(post.headers).encode())
        for ask in provider.asks:
            headers = {
                k: v for k, v in ask.headers.items() if k not in ("x-api-key", "authorization")
            }
            # A model's own words go back to it as they were: nobody else is told of them.
            others = [one for one in ask.body["messages"] if one["role"] != "assistant"]
            body = json.dumps({**ask.body, "messages": others}).encode()
            seen.add(f"request {ask.number}", body + str(headers).encode() + ask.path.encode())
        seen.tree(world / "state")
        seen.tree(out)
        seen.add("git", repo.git("log", "--all", "-p").encode())
    report["exit"] = code
    return seen, provider.asks, report


def test_no_byte_of_a_run_has_a_secret(told: tuple[Told, list[Ask], dict[str, Any]]) -> None:
    seen, _, _ = told
    leaks = seen.leaks()
    assert not leaks, "\n".join(leaks)


def test_everything_was_on_and_the_canaries_did_sing(
    told: tuple[Told, list[Ask], dict[str, Any]],
) -> None:
    """A run that broke at once would leak nothing either."""
    seen, asks, report = told
    steps = {step["id"]: step for step in report["steps"]}
    assert {name: step["status"] for name, step in steps.items()} == {
        "sing": "succeeded",
        "cry": "failed",
        "tell": "failed",
        "mend": "succeeded",
        "ask": "failed",
        "commit": "succeeded",
        "push": "failed",
    }, report
    assert "secret to its outputs" in steps["tell"]["reason"]
    assert len(asks) >= 5
    names = " ".join(seen.pieces)
    for part in ("events.jsonl", "r.json", "junit.xml", "summary.md", "page.html", "collector 1"):
        assert part in names
    for part in ("cassette", "journal", ".log", "trace", "request 5", "terminal", "as rows"):
        assert part in names
    stars = [name for name, data in seen.pieces.items() if b"***" in data]
    for part in (
        "events.jsonl",
        "sing.01",
        "cry.01",
        "mend.01",
        "cassette",
        "request 3",
        "page.html",
    ):
        assert any(part in name for name in stars), part


def test_what_cannot_be_masked_was_not_to_be_had_by_agents(
    told: tuple[Told, list[Ask], dict[str, Any]],
) -> None:
    seen, asks, _ = told
    sent = b"".join(ask.raw for ask in asks)
    assert b"exit code 0" in sent
    assert b"closed to agents" in sent
    for value in CANARIES:
        assert value[::-1].encode() not in sent
    packed = [
        word
        for word in sent.replace(b"\\n", b" ").replace(b'"', b" ").split()
        if word[:4] == b"H4sI"
    ]
    assert packed
    for word in packed:
        plain = gzip.decompress(base64.b64decode(word))
        assert b"PATH=" in plain
        assert not any(value.encode() in plain for value in CANARIES)
    assert seen.pieces


def test_the_search_finds_what_is_there() -> None:
    for value in CANARIES:
        for form in forms(value):
            seen = Told()
            seen.add("a", b"before " + form + b" after")
            assert seen.leaks(), form
            assert not any(
                form in Mask(CANARIES).text(form.decode()).encode() for form in forms(value)
            )


@pytest.mark.tools
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="becoming another user needs root and setpriv",
)
def test_no_command_reads_the_runners_variables() -> None:
    """Root reads everything: so it is tried as another user, without a sandbox."""
    with tempfile.TemporaryDirectory() as name:
        world = Path(name)
        for folder in (world, world / "work", world / "state"):
            folder.mkdir(exist_ok=True)
            os.chown(folder, 65534, 65534)
        file = world / "work/flow.yaml"
        look = "cat /proc/$PPID/environ || true; cat /proc/$PPID/maps || true"
        file.write_text(f"name: look\nsteps:\n  - id: look\n    run: {look}\n")
        file.chmod(0o644)
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(world),
            "CHIRP": PLAIN,
            "SUBRUNNER_SANDBOX": "off",
            "SUBRUNNER_STATE_DIR": str(world / "state"),
        }
        who = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        command = [*who, sys.executable, "-m", "runner", "exec", "flow.yaml"]
        told = subprocess.run(
            command, cwd=world / "work", env=environ, capture_output=True, check=False
        )
        if b"No module named" in told.stderr or b"Permission denied" in told.stderr:
            pytest.skip("another user may not read this Python")
        assert told.returncode == 0, told.stderr
        logs = [log.read_bytes() for log in (world / "state").rglob("*.log")]
        assert b"Permission denied" in b"".join(logs)
        assert PLAIN.encode() not in b"".join(logs)
