"""What a repository may have run by a hook (`runner allow`), and the hook's place in settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from hosting import Claude
from hypothesis import given, settings
from hypothesis import strategies as st
from scratch import Scratch, make

from runner.cli import invoke
from runner.cli.allow import look, visible
from runner.errors import UsageError
from runner.hook import trust
from runner.hook.settings import Entry, install, is_ours, uninstall
from runner.hook.trust import Made, Part

if TYPE_CHECKING:
    from pathlib import Path

WORKFLOW = """
name: checks
steps:
  - id: inner
    uses: ./inner.yaml
  - id: test
    run: "true"
    fix: { agent: own }
"""
AGENT = "---\nname: own\ndescription: mends\n---\nMend it.\n"
COMMAND = "/opt/bin/runner hook claude-code"
ENTRIES = (Entry("Stop", COMMAND, 600), Entry("UserPromptSubmit", COMMAND, 10))


@pytest.fixture
def scratch(world: Path) -> Scratch:
    made = make(world)
    made.write(".runner/workflow.yaml", WORKFLOW)
    made.write(".runner/inner.yaml", "name: inner\nsteps:\n  - { id: a, run: 'true' }\n")
    made.write(".runner/agents/own.md", AGENT)
    made.write(".runner/agents/other.md", AGENT.replace("own", "other"))
    made.commit_all()
    return made


@pytest.fixture
def session(scratch: Scratch) -> Claude:
    return Claude(scratch.root, scratch.root.parent / "state")


def made_of(root: Path) -> Made:
    return look(None, root, root)[1]


# -- allow -----------------------------------------------------------------------------------------


def test_nothing_of_a_repository_runs_until_its_user_allowed_it(
    scratch: Scratch, session: Claude, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = session.hook()
    assert "not allowed" in answer["systemMessage"]
    assert "runner allow" in answer["systemMessage"]
    assert session.runs() == 0
    assert session.hook() == {}, "said once in a session"
    asked = subprocess.run(
        session.command("allow"), env=session.env(), cwd=scratch.root, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert asked.returncode == 2, "nobody is there to ask"
    assert "nobody is there to answer" in asked.stderr
    assert "--yes" in asked.stderr
    assert session.hook() == {}
    assert session.runs() == 0
    assert session.allow("--yes") == 0
    shown = capsys.readouterr().err
    assert ".runner/inner.yaml" in shown
    assert ".runner/agents/own.md" in shown
    assert ".runner/agents/other.md" not in shown, "nobody names it"
    assert session.hook() == {}
    assert session.runs() == 1
    file = session.state / "allowed.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert session.allow("--list") == 0
    assert str(scratch.root) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (".runner/workflow.yaml", WORKFLOW + "    # a comment\n"),
        (".runner/inner.yaml", "name: inner\nsteps:\n  - { id: a, run: 'exit 0' }\n"),
        (".runner/agents/own.md", AGENT + "And push it.\n"),
    ],
)
def test_what_changed_since_runs_only_when_it_is_allowed_again(
    scratch: Scratch, session: Claude, path: str, text: str
) -> None:
    session.allow("--yes")
    session.hook()
    before = scratch.read(path)
    scratch.write(path, text)
    answer = session.hook()
    assert "changed since it was allowed" in answer["systemMessage"]
    assert session.runs() == 1
    scratch.write(path, before)
    assert session.hook() == {}
    scratch.write(path, text)
    assert session.allow("--yes") == 0
    assert session.hook() == {}
    assert session.runs() == 3


def test_an_agent_that_nobody_names_is_no_part_of_it(scratch: Scratch, session: Claude) -> None:
    session.allow("--yes")
    scratch.write(".runner/agents/other.md", AGENT.replace("own", "other") + "More.\n")
    assert session.hook() == {}
    assert session.runs() == 1


def test_what_was_allowed_elsewhere_or_taken_back_does_not_count(
    scratch: Scratch, session: Claude, world: Path
) -> None:
    session.allow("--yes")
    (world / "other").mkdir()
    twin = make(world / "other")
    for path in (".runner/workflow.yaml", ".runner/inner.yaml", ".runner/agents/own.md"):
        twin.write(path, scratch.read(path))
    assert made_of(twin.root).digest == made_of(scratch.root).digest
    assert "not allowed" in Claude(twin.root, session.state).hook()["systemMessage"]
    assert session.allow("--revoke") == 0
    assert "not allowed" in session.hook()["systemMessage"]
    assert session.runs() == 0


def test_a_users_own_workflow_outside_needs_no_allow_unless_it_uses_the_repositorys_agents(
    scratch: Scratch, session: Claude, world: Path
) -> None:
    own = world / "own.yaml"
    own.write_text("name: mine\nsteps:\n  - { id: a, run: 'true' }\n")
    session.flags = ("--workflow", str(own))
    assert session.hook() == {}
    assert session.runs() == 1
    own.write_text("name: mine\nsteps:\n  - { id: a, run: 'true', fix: { agent: own } }\n")
    assert "not allowed" in session.hook()["systemMessage"]


def test_a_link_in_the_repository_is_the_repositorys_word(
    scratch: Scratch, session: Claude, world: Path
) -> None:
    (world / "own.yaml").write_text("name: mine\nsteps:\n  - { id: a, run: 'true' }\n")
    (scratch.root / "link.yaml").symlink_to(world / "own.yaml")
    scratch.write(".runner/plain.yaml", "name: mine\nsteps:\n  - { id: a, run: 'true' }\n")
    (world / "back.yaml").symlink_to(scratch.root / ".runner" / "plain.yaml")
    for path in ("link.yaml", str(world / "back.yaml")):
        session.flags = ("--workflow", path)
        assert "not allowed" in session.hook()["systemMessage"]


def test_a_workflow_that_others_can_change_is_refused(session: Claude, world: Path) -> None:
    own = world / "own.yaml"
    own.write_text("name: mine\nsteps:\n  - { id: a, run: 'true' }\n")
    own.chmod(0o666)
    session.flags = ("--workflow", str(own))
    assert "changed by other users" in session.hook()["systemMessage"]
    assert session.runs() == 0


def test_a_broken_workflow_is_said_once_and_blocks_nobody(
    scratch: Scratch, session: Claude
) -> None:
    scratch.write(".runner/workflow.yaml", "name: x\nsteps: 7\n")
    answer = session.hook()
    assert "steps" in answer["systemMessage"]
    assert "decision" not in answer
    assert session.hook() == {}


def test_every_line_of_a_command_is_shown(
    scratch: Scratch, session: Claude, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch.write(
        ".runner/workflow.yaml",
        'name: x\nsteps:\n  - id: a\n    run: "true\\n\\n\\n\\tevil"\n    autofix: "true\\nalso"\n',
    )
    session.allow("--yes")
    shown = capsys.readouterr().err
    assert r"\tevil" in shown, "the loader refuses other control characters; a tab is written out"
    assert "also" in shown


def test_what_surrounds_a_command_and_what_an_agent_is_told_are_shown(
    scratch: Scratch, session: Claude, capsys: pytest.CaptureFixture[str]
) -> None:
    session.allow("--yes")
    shown = capsys.readouterr().err
    assert "Mend it." in shown
    assert "shell" not in shown, "the usual one"
    scratch.write(
        ".runner/workflow.yaml",
        "name: x\ndefaults: { shell: [bash, -c, ./evil] }\n"
        "steps:\n  - { id: a, run: make, dir: sub, env: { BASH_ENV: ./evil.sh } }\n",
    )
    session.allow("--yes")
    shown = capsys.readouterr().err
    assert "shell  bash -c ./evil" in shown
    assert "env  BASH_ENV=./evil.sh" in shown
    assert "dir  sub" in shown


@pytest.mark.parametrize("agent", ["own", "commit-writer"])
def test_agents_that_are_asked_only_after_the_commit_are_allowed_with_the_rest(
    scratch: Scratch, session: Claude, agent: str
) -> None:
    scratch.write(
        ".runner/workflow.yaml",
        "name: x\nsteps:\n  - { id: a, run: 'true' }\n"
        f"  - {{ id: b, commit: {{ message: auto, agent: {agent} }} }}\n",
    )
    session.allow("--yes")
    assert session.hook() == {}
    assert session.runs() == 1
    scratch.write(".runner/agents/own.md", AGENT + "And push it.\n")
    changed = session.hook(session_id="another").get("systemMessage", "")
    assert ("changed since it was allowed" in changed) == (agent == "own")


@pytest.mark.parametrize("flags", [(), ("--no-models",)])
def test_a_pipe_or_a_device_in_a_scripts_place_is_refused_at_once(
    scratch: Scratch, session: Claude, flags: tuple[str, ...]
) -> None:
    os.mkfifo(scratch.root / "pipe")
    scratch.write(".runner/workflow.yaml", f"models: {{ cheap: 'script:pipe' }}\n{WORKFLOW}")
    session.flags = flags
    assert "regular file" in session.hook()["systemMessage"]
    assert session.runs() == 0


@settings(deadline=None)
@given(st.text())
def test_visible_text_is_printable(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(text) == text or not text.isprintable()


@pytest.mark.parametrize("text", ["{", "[]", '{"allowed": [{"root": 1}]}', '{"allowed": 7}'])
def test_a_list_that_cannot_be_read_allows_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "allowed.json").write_text(text)
    with pytest.raises(UsageError):
        trust.listed(tmp_path)


def test_a_list_that_others_can_write_allows_nothing(tmp_path: Path) -> None:
    made = Made("/r", "w", (Part("w", "0", None, inside=True),))
    trust.allow(tmp_path, made)
    assert trust.is_allowed(tmp_path, made)
    (tmp_path / "allowed.json").chmod(0o666)
    with pytest.raises(UsageError, match="other users"):
        trust.is_allowed(tmp_path, made)


def test_each_part_of_the_key_counts(tmp_path: Path) -> None:
    part = Part("w", "0", None, inside=True)
    trust.allow(tmp_path, Made("/r", "w", (part,)))
    assert not trust.is_allowed(tmp_path, Made("/s", "w", (part,)))
    assert not trust.is_allowed(tmp_path, Made("/r", "v", (part,)))
    assert not trust.is_allowed(tmp_path, Made("/r", "w", (Part("w", "1", None, inside=True),)))
    trust.allow(tmp_path, Made("/r", "v", (part,)))
    assert len(trust.listed(tmp_path)) == 2
    assert [one.workflow for one in trust.revoke(tmp_path, "/r", "v")] == ["v"]
    assert [one.workflow for one in trust.listed(tmp_path)] == ["w"]


# -- install ---------------------------------------------------------------------------------------


def hook(*args: str, cwd: Path, say: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runner", "hook", *args]
    return subprocess.run(
        command, input=say, cwd=cwd, env=os.environ, capture_output=True, text=True, check=False
    )


def test_install_shows_the_difference_asks_and_writes(scratch: Scratch) -> None:
    file = scratch.root / ".claude" / "settings.local.json"
    asked = hook("--install", cwd=scratch.root, say="n\n")
    assert asked.returncode == 0
    assert '+            "timeout": 600' in asked.stderr
    assert asked.stdout == ""
    assert not file.exists()
    assert hook("--install", cwd=scratch.root, say="y\n").returncode == 0
    stop = json.loads(file.read_text())["hooks"]["Stop"]
    assert stop[0]["hooks"][0]["type"] == "command"
    assert stop[0]["hooks"][0]["command"].endswith("hook claude-code")
    before = file.read_bytes()
    again = hook("--install", cwd=scratch.root)
    assert "stays as it is" in again.stderr
    assert file.read_bytes() == before
    changed = hook("--install", "-y", "--time", "5m", "--with-commit", "-C", ".", cwd=scratch.root)
    assert changed.returncode == 0, changed
    handler = json.loads(file.read_text())["hooks"]["Stop"][0]["hooks"]
    assert len(handler) == 1
    assert handler[0]["command"].endswith("hook claude-code --time 5m --with-commit")
    assert handler[0]["timeout"] == 360
    assert hook("--uninstall", "--yes", cwd=scratch.root).returncode == 0
    assert json.loads(file.read_text()) == {}


def test_what_is_installed_runs(scratch: Scratch, session: Claude) -> None:
    assert hook("--install", "--project", "-y", cwd=scratch.root).returncode == 0
    settings = json.loads((scratch.root / ".claude" / "settings.json").read_text())
    command = settings["hooks"]["Stop"][0]["hooks"][0]["command"]
    assert command == "runner hook claude-code", "for other machines, too"
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # noqa: PTH120
    done = subprocess.run(
        ["sh", "-c", command], input=json.dumps(session.given()), text=True, cwd=scratch.root,
        env={**session.env(), "PATH": path}, capture_output=True, check=True,
    )  # fmt: skip
    assert "not allowed" in json.loads(done.stdout)["systemMessage"]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"a": 1,}', '{"a": 1, "a": 2}', '// x\n{}', '{"hooks": 7}', "\ufeff{}",
     '{"hooks": {"Stop": {}}}', '{"a":' * 5000 + "1" + "}" * 5000],
)  # fmt: skip
def test_settings_that_cannot_be_read_are_left_alone(world: Path, text: str) -> None:
    (world / ".git").mkdir()
    file = world / ".claude" / "settings.json"
    file.parent.mkdir()
    file.write_text(text)
    assert invoke(["hook", "--install", "--project", "--yes", "-C", str(world)]) == 2
    assert file.read_text() == text


def test_a_repositorys_settings_never_lead_out_of_it(scratch: Scratch, world: Path) -> None:
    outside = world / "outside.json"
    outside.write_text("{}")
    (scratch.root / ".claude").mkdir()
    (scratch.root / ".claude" / "settings.json").symlink_to(outside)
    assert invoke(["hook", "--install", "--project", "-y", "-C", str(scratch.root)]) == 2
    assert outside.read_text() == "{}"


def test_a_users_linked_settings_are_written_where_they_are(world: Path) -> None:
    home = world / "home"
    (home / ".claude").mkdir(parents=True)
    (world / "dotfiles.json").write_text('{"model": "opus"}\n')
    (world / "dotfiles.json").chmod(0o600)
    (home / ".claude" / "settings.json").symlink_to(world / "dotfiles.json")
    command = [sys.executable, "-m", "runner", "hook", "--install", "--user", "--yes"]
    subprocess.run(
        command, cwd=world, env={**os.environ, "HOME": str(home)}, check=True, capture_output=True
    )
    assert (home / ".claude" / "settings.json").is_symlink()
    assert (world / "dotfiles.json").stat().st_mode & 0o777 == 0o600
    settings = json.loads((world / "dotfiles.json").read_text())
    assert list(settings) == ["model", "hooks"]


def test_only_what_is_ours_is_found_and_taken_out() -> None:
    other = {"type": "command", "command": "say runner hook claude-code2"}
    ours = {"type": "command", "command": "'/a b/runner' hook claude-code -j 2", "extra": [1.50]}
    listed = {"type": "command", "command": "runner", "args": ["hook", "claude-code"]}
    assert [is_ours(one) for one in (other, ours, listed, 7, {}, {**ours, "type": "http"})] == [
        False, True, True, False, False, False,
    ]  # fmt: skip
    text = json.dumps({"hooks": {"Stop": [{"matcher": "x", "hooks": [other, ours]}], "Other": []}})
    assert json.loads(uninstall(text)) == {
        "hooks": {"Stop": [{"matcher": "x", "hooks": [other]}], "Other": []}
    }
    renewed = json.loads(install(text, ENTRIES[:1]))["hooks"]["Stop"][0]["hooks"][1]
    assert renewed == {**ours, "command": COMMAND, "timeout": 600}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=3), one, max_size=3),
    max_leaves=8,
)
HANDLER = st.dictionaries(
    st.sampled_from(["type", "command", "x"]), st.text(max_size=5), max_size=3
)
GROUPS = st.lists(st.fixed_dictionaries({"hooks": st.lists(HANDLER, max_size=2)}), max_size=2)
HOOKS = st.dictionaries(st.sampled_from(["Stop", "PreToolUse"]), GROUPS, max_size=2)
SETTINGS = st.dictionaries(st.sampled_from(["model", "env", "ü"]), JSON, max_size=3).flatmap(
    lambda rest: st.just(rest) | HOOKS.map(lambda hooks: {**rest, "hooks": hooks})
)


@settings(deadline=None)
@given(SETTINGS, st.sampled_from([None, 0, 2, 4, "\t"]), st.booleans(), st.booleans())
def test_whatever_else_is_in_the_settings_stays_byte_for_byte(
    given_settings: dict[str, Any], indent: int | str | None, ascii_only: bool, crlf: bool
) -> None:
    text = json.dumps(given_settings, indent=indent, ensure_ascii=ascii_only)
    text = text.replace("\n", "\r\n") if crlf else text
    after = install(text, ENTRIES)
    found = json.loads(after)
    for entry in ENTRIES:
        kept = given_settings.get("hooks", {}).get(entry.event, [])
        assert found["hooks"][entry.event] == [*kept, {"hooks": [entry.handler]}]
        del found["hooks"][entry.event]
    was = {**given_settings, "hooks": {**given_settings.get("hooks", {})}}
    was["hooks"].pop("Stop", None)
    assert found == was
    assert _is_within(text, after), "only something was put in"
    assert install(after, ENTRIES) == after, "once"
    if all(given_settings.get("hooks", {"-": [1]}).values()) and given_settings.get("hooks") != {}:
        assert json.loads(uninstall(after)) == given_settings


def _is_within(part: str, whole: str) -> bool:
    """Tell whether all that is not blank of a text stands in another, in the same order."""
    letters = iter(whole)
    return all(letter in letters for letter in part if not letter.isspace())


def test_the_manner_of_the_file_is_kept() -> None:
    text = '{\n\t"model": "opus",\n\t"n": 1.50e3,\n\t"hooks": {\n\t\t"Stop": []\n\t}\n}\n'
    after = install(text, ENTRIES[:1])
    assert after.startswith(
        '{\n\t"model": "opus",\n\t"n": 1.50e3,\n\t"hooks": {\n\t\t"Stop": [\n\t\t\t{'
    )
    assert after.endswith("\n\t\t\t}\n\t\t]\n\t}\n}\n")
    assert uninstall(after) == '{\n\t"model": "opus",\n\t"n": 1.50e3\n}\n'
