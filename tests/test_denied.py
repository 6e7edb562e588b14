"""What a sandbox kept from a command is proved, never guessed from words."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import pytest
from refusing import why_not

from runner.outcome import CommandResult, Denial, Verdict
from runner.policy import of_command
from runner.sandbox.denied import Facts, denial
from runner.sandbox.kept import seen_at
from runner.sandbox.nouns import Mount

HOME, TREE = "/home/ada", "/home/ada/work"
OUTSIDE = {
    HOME,
    f"{HOME}/.cache",
    f"{HOME}/.gitconfig",
    f"{HOME}/.local",
    f"{HOME}/.local/bin",
    f"{HOME}/.local/bin/tool",
    f"{HOME}/.local/bin/mytool",
    f"{HOME}/.ssh",
    "/etc",
    "/etc/hosts",
    "/etc/motd",
    "/etc/shadow",
    "/opt",
    "/usr/lib",
    "/usr/local/bin",
    "/usr/local/lib",
    "/usr/bin/git",
    "/usr/share",
    "/usr/share/tool",
    "/var/lib",
    "/var/lib/dpkg",
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/var/run/postgresql",
    "/var/run/postgresql/.s.PGSQL.5432",
    TREE,
    f"{TREE}/.git",
    f"{TREE}/.git/config",
    f"{TREE}/.git/refs/heads",
    f"{TREE}/.git/hooks",
}
"""What the user has. The outputs below were captured from the tools themselves, in a sandbox."""

MOUNTS = {
    mount.path: mount
    for mount in (
        *(Mount("read", Path(path)) for path in ("/usr", "/etc", "/opt", f"{TREE}/.git")),
        *(Mount("empty", Path(path)) for path in ("/tmp", "/run", HOME)),
        Mount("read", Path(f"{HOME}/.pyenv")),
        Mount("write", Path(TREE)),
        Mount("write", Path(f"{HOME}/.cache/pip"), "/state/pip"),
        Mount("mask", Path("/etc/shadow")),
        Mount("hide", Path("/etc/private")),
    )
}


def facts(*, network: bool = False, forbids: bool = False) -> Facts:
    """Return what is known of a command's sandbox in the tree of Ada."""
    return Facts(
        tree=TREE,
        cwd=TREE,
        home=HOME,
        network=network,
        sight=lambda path: seen_at(MOUNTS, PurePath(path)),
        exists=OUTSIDE.__contains__,
        writable=lambda path: path in OUTSIDE or str(PurePath(path).parent) in OUTSIDE,
        which=lambda name: f"{HOME}/.local/bin/{name}" if name in ("mytool", "tool") else "",
        listens=(5432).__eq__,
        forbids=forbids,
        git=(f"{TREE}/.git",),
    )


def captured() -> dict[str, tuple[str, str]]:
    """Return the outputs by name, each with what was kept; `-` is nothing that can be proved."""
    text = Path(__file__).with_name("data").joinpath("denied.txt").read_text("utf-8")
    parts = re.split(r"(?m)^=== (\S+) => (.+)\n", text)[1:]
    found = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {name: (expected, output) for name, expected, output in found}


CAPTURED = captured()


@pytest.mark.parametrize("name", CAPTURED)
def test_real_output(name: str) -> None:
    """What each tool printed is read as what it lacked, or as nothing that can be proved."""
    expected, output = CAPTURED[name]
    found = denial(output, facts())
    said = "-" if found is None else found.what
    assert said.startswith(expected) or (expected.startswith("port") and expected in said), said


NETWORK = [name for name, (expected, _) in CAPTURED.items() if expected.startswith("the network")]


@pytest.mark.parametrize("name", NETWORK)
def test_network_failure_with_network(name: str) -> None:
    """A command that had the network and did not reach a host was not denied it."""
    assert denial(CAPTURED[name][1], facts(network=True)) is None


@pytest.mark.parametrize(
    ("line", "what"),
    [
        # there, and not outside either
        ("cat: /home/ada/.nothing: No such file or directory", None),
        ("touch: cannot touch '/nowhere/x': Read-only file system", None),
        ("bash: line 1: othertool: command not found", None),
        ("curl: (7) Failed to connect to 127.0.0.1 port 9: Connection refused", None),
        ("curl: (6) Could not resolve host: nowhere.invalid", None),
        ("connect ENETUNREACH 192.0.2.1:80", None),
        # there in the sandbox, too
        ("cat: /usr/share: Permission denied", None),
        ("cat: /etc/hosts: No such file or directory", None),
        ("FileNotFoundError: [Errno 2] No such file or directory: 'data/x.json'", None),
        ("OSError: [Errno 30] Read-only file system: '/home/ada/work/build'", None),
        ("cat: /home/ada/.cache/pip/x: No such file or directory", None),
        # of any program
        ("cat: /tmp/x: No such file or directory", None),
        ("open /proc/sys/kernel/x: read-only file system", None),
        # only told by
        ("/usr/bin/git: 1: cannot create out/x: Read-only file system", None),
        ("/usr/share/tool: 1: cannot create /opt/x: Read-only file system", "writing to /opt/x"),
        ("/home/ada/.gitconfig: No such file or directory",
         "/home/ada/.gitconfig, which is hidden"),
        # proved
        ("cat: /etc/shadow: Permission denied", "/etc/shadow, which is hidden"),
        ("npm error enoent ENOENT: no such file or directory, open '/home/ada/.gitconfig'",
         "/home/ada/.gitconfig, which is hidden"),
        ("ENOENT: no such file or directory, open '~/.gitconfig'",
         "/home/ada/.gitconfig, which is hidden"),
        ("Host key verification failed.", "your SSH keys and agent"),
        ("git@example.com: Permission denied (publickey).", "your SSH keys and agent"),
        ("redis: Error 111 connecting to localhost:5432. Connection refused.",
         "the service that listens at port 5432 of this machine"),
        ("connect ECONNREFUSED 127.0.0.1:5433", None),
        ("dial tcp [::1]:5432: connect: connection refused",
         "the service that listens at port 5432 of this machine"),
        ("bwrap: execvp mytool: No such file or directory",
         "the program mytool (/home/ada/.local/bin/mytool)"),
    ],
)  # fmt: skip
def test_line(line: str, what: str | None) -> None:
    """One line proves something only where it names what the user has and the sandbox has not."""
    found = denial(line, facts())
    assert (found.what if found else None) == what


def test_landlock_says_otherwise() -> None:
    """Landlock answers that permission is denied where a mount would be read-only."""
    line = "touch: cannot touch '/usr/share/x': Permission denied"
    assert denial(line, facts()) is None
    found = denial(line, facts(forbids=True))
    assert found is not None
    assert found.what == "writing to /usr/share/x"


NO_NETWORK = "curl: (6) Could not resolve host: example.com"


@pytest.mark.parametrize(
    ("output", "denied"),
    [
        (NO_NETWORK, True),
        (f"{NO_NETWORK}\nmake: *** [Makefile:2: all] Error 6", True),
        (f"{NO_NETWORK}\n\ndone", True),
        (f"{NO_NETWORK}\nAssertionError: expected 3", False),
        (f"{NO_NETWORK}\nFAIL: retry", False),
        (f"{NO_NETWORK}\n1 test failed", False),
        (f"{NO_NETWORK}\n" + "another line\n" * 5, True),
        (f"{NO_NETWORK}\n" + "another line\n" * 20, False),
        (f"{NO_NETWORK}\n" + "  at another line\n" * 100, False),
        (f"--- FAIL: TestA (0.00s)\n    x_test.go:4: {NO_NETWORK}\nFAIL\nFAIL\tx\t0.1s", True),
        (f"--- FAIL: TestA (0.00s)\n    x_test.go:4: {NO_NETWORK}\n"
         "--- FAIL: TestB (0.00s)\n    x_test.go:9: got 2\nFAIL", False),
        ("____ test_a ____\nTraceback (most recent call last):\nAssertionError: 3\n"
         f"------ Captured stdout call ------\n{NO_NETWORK}\n==== 1 failed in 0.1s ====", False),
    ],
)  # fmt: skip
def test_last_word(output: str, denied: bool) -> None:
    """What a command went on after, or what other tests failed for, is not why it failed."""
    assert (denial(output, facts()) is not None) is denied


def test_middle_missing() -> None:
    """Where failing tests may be missing, those that are there prove nothing."""
    output = f"--- FAIL: TestA (0.00s)\n    x_test.go:4: {NO_NETWORK}\nFAIL"
    assert denial(output, facts(), whole=True) is not None
    assert denial(output, facts(), whole=False) is None
    listed = CAPTURED["pytest-net"][1]
    assert denial(listed, facts(), whole=False) is not None, "pytest lists them all at the end"


def test_hint_names_the_line() -> None:
    """What to write is said to the letter."""
    found = denial(NO_NETWORK, facts())
    assert found is not None
    assert "`network: true`" in found.hint
    assert "--allow-network" in found.hint
    found = denial("bash: line 1: mytool: command not found", facts())
    assert found is not None
    assert "`sandbox: {read: [~/.local/bin]}`" in found.hint
    found = denial("touch: cannot touch '/opt/x': Read-only file system", facts())
    assert found is not None
    assert "`sandbox: {write: [/opt]}`" in found.hint


@pytest.mark.parametrize(
    ("path", "sight"),
    [
        ("/usr/bin/git", "read"),
        (f"{TREE}/src/a.py", "write"),
        (f"{TREE}/.git/index", "read"),
        (HOME, "empty"),
        (f"{HOME}/.netrc", "hidden"),
        (f"{HOME}/.cache/pip/http", "write"),
        ("/etc/shadow", "hidden"),
        ("/etc/private/key", "hidden"),
        ("/srv/data", "hidden"),
    ],
)
def test_sight(path: str, sight: str) -> None:
    """The mount that lies nearest says what a path is."""
    assert partial(seen_at, MOUNTS)(PurePath(path)) == sight


@pytest.mark.parametrize(
    ("code", "denied", "again", "verdict"),
    [
        (0, False, False, Verdict.PASSED),
        (0, False, True, Verdict.FLAKY),
        (1, False, False, Verdict.HARD),
        (1, False, True, Verdict.HARD),
        (1, True, False, Verdict.DENIED),
    ],
)
def test_verdict(code: int, denied: bool, again: bool, verdict: Verdict) -> None:
    """A command that was denied something is neither retried nor mended."""
    kept = Denial("the network", "ask for it") if denied else None
    result = CommandResult(code, False, 1.0, "", "", 0, None, kept)
    assert of_command(result, again=again) is verdict


WORKFLOW = """\
name: denied
steps:
  - id: net
    run: curl -sS https://example.com/data
    retry: { attempts: 3 }
    autofix: touch autofixed
    fix: true
  - id: git
    needs: []
    run: git commit --allow-empty -m planted
  - id: late
    needs: []
    run: test -f made && curl -sS https://example.com/data
    autofix: touch made
    fix: true
  - id: allowed
    needs: []
    run: git commit --allow-empty -m planted
    allow_failure: true
  - id: own
    needs: []
    run: exit 3
"""


@pytest.mark.tools
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")
class TestRealRun:
    """A run in the real sandbox: what it keeps ends the step at once, and is told everywhere."""

    @pytest.fixture
    def root(self, world: Path) -> Path:
        """Return a repository with the workflow, committed."""
        root = world / "tree"
        root.mkdir()
        (root / "workflow.yaml").write_text(WORKFLOW)
        for args in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "first")):
            subprocess.run(["git", *args], cwd=root, check=True, capture_output=True)
        return root

    def run(self, root: Path, *steps: str) -> tuple[int, dict[str, Any], str]:
        """Run steps; return the exit code, the report and what people read."""
        env = {name: value for name, value in os.environ.items() if name != "SUBRUNNER_SANDBOX"}
        env["PYTHONPATH"] = str(Path(__file__).parents[1])
        argv = [sys.executable, "-m", "runner", "exec", "workflow.yaml", *steps]
        argv += ["--json", "--junit", str(root.parent / "junit.xml")]
        done = subprocess.run(
            argv, cwd=root, env=env, capture_output=True, text=True, timeout=100, check=False
        )
        return done.returncode, json.loads(done.stdout), done.stderr

    def test_denied_everywhere(self, root: Path) -> None:
        """No retry, no autofix, no model; reason, hint, verdict and exit code in every output."""
        code, report, told = self.run(root)
        steps = {step["id"]: step for step in report["steps"]}
        assert report["exit_code"] == code == 4, "before 1, which the last step asks for"
        assert [a["verdict"] for a in steps["net"]["attempts"]] == ["denied"]
        assert steps["net"]["reason"] == "the sandbox kept from it: the network (example.com)"
        assert not (root / "autofixed").exists()
        assert [a["verdict"] for a in steps["git"]["attempts"]] == ["denied"]
        assert [a["verdict"] for a in steps["late"]["attempts"]] == ["hard", "denied"]
        assert [a["verdict"] for a in steps["own"]["attempts"]] == ["hard"]
        assert "`network: true`" in told
        assert "--allow-network" in told
        assert "No command writes what git keeps: let a `commit` step commit" in told
        assert 'type="denied"' in (root.parent / "junit.xml").read_text()
        log = subprocess.run(
            ["git", "log", "--oneline"], cwd=root, check=True, capture_output=True
        ).stdout
        assert log.count(b"\n") == 1

    def test_trace(self, root: Path) -> None:
        """The trace has the verdict, and what confined the commands."""
        self.run(root, "git")
        state = Path(os.environ["XDG_STATE_HOME"])
        text = "".join(path.read_text() for path in state.rglob("trace*.json*"))
        assert "denied" in text
        assert "runner.run.sandbox" in text
        assert "bubblewrap" in text

    def test_may_fail(self, root: Path) -> None:
        """Where a step may fail, so may a denied one."""
        code, report, _ = self.run(root, "allowed")
        assert code == report["exit_code"] == 0
        assert report["steps"][0]["attempts"][0]["verdict"] == "denied"


OUTPUTS = sorted(Path(__file__).with_name("outputs").glob("*.txt"))


@pytest.mark.parametrize("path", OUTPUTS, ids=lambda path: path.stem)
def test_no_false_alarm(path: Path) -> None:
    """What linters, compilers and test runners print of ordinary failures denies nothing."""
    text = path.read_text("utf-8", "replace")
    assert denial(text, facts()) is None
    assert denial(text, facts(forbids=True)) is None
