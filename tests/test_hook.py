"""`runner hook claude-code`: the real command, as Claude Code calls it, on a real repository."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hosting import Claude
from hypothesis import given, settings
from hypothesis import strategies as st
from scratch import CALC, UNITTEST, Scratch, make

from runner.api import execute
from runner.errors import NotGranted, RunnerError
from runner.hook import claude, quick
from runner.hook.alone import alone
from runner.hook.answer import MOST_IN_ROW, Failed, Known, Ran, decide
from runner.hook.claude import Reply, Request
from runner.hook.memory import Memory, recall, remember
from runner.hook.stamps import settled_stamp, stamp_of, with_directories
from runner.outcome import Packet
from runner.plan import Options
from runner.workspace.state import state_root

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runner.prepare import Prepared

WORKFLOW = f"""\
name: checks
defaults:
  fix: {{ agent: fixer, attempts: 1 }}
steps:
  - id: implement
    if: inputs.change != ""
    prompt: ${{{{ inputs.change }}}}
  - id: format
    run: |
      ! grep -n '[[:space:]]$' *.py
    autofix: sed -i 's/[[:space:]]*$//' *.py
  - id: test
    run: {UNITTEST}
  - id: commit
    commit: {{ message: auto }}
""".replace("defaults:", "inputs:\n  change: { type: string, default: '' }\ndefaults:", 1)
GOOD, WRONG, WORSE = CALC, CALC.replace("a * 2", "a * 3"), CALC.replace("a * 2", "a * 4")
MENDS = """\
as: anthropic:claude-haiku-5-5
rules:
  - when: { role: cheap, step: test }
    turns:
      - call: edit_file
        with: { path: calc.py, old_text: "a * 3", new_text: "a * 2" }
      - done: mended
"""
SOFT = """\
rules:
  - when: { role: cheap, step: test }
    turns:
      - call: edit_file
        with: { path: calc.py, old_text: "a * 3", new_text: "a * 2  # half of it" }
      - done: half of it
"""


@pytest.fixture
def scratch(world: Path) -> Scratch:
    made = make(world)
    made.write(".gitignore", "__pycache__/\n")
    made.write(".runner/workflow.yaml", WORKFLOW)
    made.commit_all()
    return made


@pytest.fixture
def session(scratch: Scratch) -> Claude:
    """Return a session in which the workflow is allowed."""
    made = Claude(scratch.root, scratch.root.parent / "state")
    assert made.allow("--yes") == 0
    return made


def cheap(scratch: Scratch, script: str) -> tuple[str, ...]:
    """Return the flags that let a scripted model play the cheap one."""
    file = scratch.root.parent / "script.yaml"
    file.write_text(script)
    return ("--model", f"cheap=script:{file}")


# -- the four cases --------------------------------------------------------------------------------


def test_passing_the_agent_stops_without_a_word(session: Claude) -> None:
    assert session.turn() == [{}]
    assert session.runs() == 1


def test_autofixed_it_stops_and_both_are_told_which_file_changed(
    scratch: Scratch, session: Claude
) -> None:
    (answer,) = session.turn(lambda: scratch.write("calc.py", GOOD.replace("b\n", "b   \n")))
    assert answer == {"systemMessage": "runner: all steps pass; format (autofix) changed calc.py"}
    assert scratch.read("calc.py") == GOOD
    assert "calc.py" in session.prompt()
    assert session.prompt() == "", "told once"


def test_mended_by_a_subagent_it_stops_and_is_told_with_the_next_prompt(
    scratch: Scratch, session: Claude
) -> None:
    session.flags = cheap(scratch, MENDS)
    (answer,) = session.turn(lambda: scratch.write("calc.py", WRONG))
    note = answer["systemMessage"]
    assert "test (subagent) changed calc.py" in note
    assert "subagents cost $0.0" in note, "a script that is priced as a model is"
    assert scratch.read("calc.py") == GOOD
    assert "calc.py" in session.prompt()


def test_handed_back_it_mends_and_stops(scratch: Scratch, session: Claude) -> None:
    wrong, right = (
        (lambda: scratch.write("calc.py", WRONG)),
        (lambda: scratch.write("calc.py", GOOD)),
    )
    blocked, free = session.turn(wrong, right)
    reason = blocked["reason"]
    assert "step `test` still fails" in reason
    assert UNITTEST in reason
    assert "12 != 8" in reason
    assert "first hand-back" in reason
    assert len(reason) < 1600, "some hundred tokens"
    assert "You may" not in reason, "its user says what it may change"
    assert free == {}


def test_handed_back_twice_then_the_user_is_told(scratch: Scratch, session: Claude) -> None:
    first, second, note = session.turn(
        lambda: scratch.write("calc.py", WRONG),
        lambda: scratch.write("calc.py", WORSE),
        lambda: scratch.write("calc.py", WRONG + "\n"),
    )
    assert "first hand-back" in first["reason"]
    assert "last hand-back" in second["reason"]
    assert "16 != 8" in second["reason"]
    assert note.keys() == {"systemMessage"}
    assert "test still fails" in note["systemMessage"]
    before = session.runs()
    assert session.turn() == [{}], "said once"
    assert session.runs() == before, "and the same tree is not run again"


def test_an_agent_that_changes_nothing_is_not_told_twice(scratch: Scratch, session: Claude) -> None:
    blocked, note = session.turn(lambda: scratch.write("calc.py", WRONG))
    assert "decision" in blocked
    assert "decision" not in note
    assert "test still fails" in note["systemMessage"]


# -- rungs -----------------------------------------------------------------------------------------


def test_a_subagents_half_mend_is_undone_and_its_diff_handed_back(
    scratch: Scratch, session: Claude
) -> None:
    both = CALC.replace("a + b", "a - b").replace("a * 2", "a * 3")
    session.flags = cheap(scratch, SOFT)
    blocked, _ = session.turn(
        lambda: scratch.write("calc.py", both), lambda: scratch.write("calc.py", GOOD)
    )
    assert scratch.read("calc.py") == GOOD
    assert "half of it" in blocked["reason"], "the best diff is in the packet"
    assert "earlier attempts" in blocked["reason"]


def test_the_tree_is_as_the_agent_left_it_when_it_is_handed_back(
    scratch: Scratch, session: Claude
) -> None:
    both = CALC.replace("a + b", "a - b").replace("a * 2", "a * 3")
    session.flags = cheap(scratch, SOFT)
    scratch.write("calc.py", both)
    assert "decision" in session.hook()
    assert scratch.read("calc.py") == both


def test_models_off_is_the_hand_back_at_once(scratch: Scratch, session: Claude) -> None:
    session.flags = (*cheap(scratch, MENDS), "--no-models")
    scratch.write("calc.py", WRONG)
    assert "step `test` still fails" in session.hook()["reason"]


@pytest.mark.slow
def test_a_budget_that_is_used_up_loses_no_hand_back(scratch: Scratch, session: Claude) -> None:
    session.flags = (*cheap(scratch, MENDS), "--budget", "0")
    scratch.write("calc.py", WRONG)
    answer = session.hook()
    assert "12 != 8" in answer["reason"]
    assert "budget" in answer["systemMessage"]


def test_plain_commands_are_handed_back_too_but_not_where_escalation_is_off(
    scratch: Scratch, session: Claude
) -> None:
    scratch.write(
        ".runner/workflow.yaml",
        """
        name: plain
        steps:
          - { id: one, run: "echo some output; exit 3" }
          - { id: two, needs: [], run: "exit 4", fix: { agent: fixer }, escalate: false }
          - { id: soft, needs: [], run: "exit 5", allow_failure: true }
        """,
    )
    session.allow("--yes")
    answer = session.hook()
    assert "some output" in answer["reason"]
    assert "step `one`" in answer["reason"]
    assert "Also failing: two" in answer["reason"]
    assert "soft" not in answer["reason"]


def test_what_a_used_workflow_fails_at_is_handed_back(scratch: Scratch, session: Claude) -> None:
    scratch.write(".runner/inner.yaml", "name: inner\nsteps:\n  - { id: deep, run: exit 3 }\n")
    scratch.write(
        ".runner/workflow.yaml", "name: outer\nsteps:\n  - { id: all, uses: ./inner.yaml }\n"
    )
    session.allow("--yes")
    reason = session.hook()["reason"]
    assert "step `all/deep`" in reason
    assert "1 failed" in reason


def test_only_steps_before_the_first_commit_run(scratch: Scratch, session: Claude) -> None:
    head = scratch.git("rev-parse", "HEAD")
    scratch.write("calc.py", CALC + "\n\nX = 1\n")
    assert session.hook() == {}
    assert scratch.git("rev-parse", "HEAD") == head
    session.flags = ("--with-commit",)
    assert session.hook() == {}
    assert scratch.git("rev-parse", "HEAD") != head


def test_only_the_step_that_is_named(scratch: Scratch, session: Claude) -> None:
    session.flags = ("--only", "format")
    scratch.write("calc.py", WRONG)
    assert session.hook() == {}


def test_what_the_agent_itself_is_to_do_is_skipped_and_the_rest_goes_on(
    scratch: Scratch, session: Claude
) -> None:
    session.flags = ("-i", "change=Add a feature.")
    assert session.hook() == {}
    scratch.write("calc.py", WRONG)
    assert "1 passed, 1 failed" in session.hook()["reason"]


async def test_what_is_not_admitted_does_not_run(scratch: Scratch) -> None:
    seen: list[Prepared] = []

    def refuse(prepared: Prepared) -> None:
        seen.append(prepared)
        raise NotGranted("no")

    state = scratch.root.parent / "state"
    with pytest.raises(NotGranted):
        await execute(None, cwd=scratch.root, options=Options(state_dir=state), admit=refuse)
    assert [one.id for one in seen[0].steps][1:3] == ["format", "test"]
    assert not list(state.glob("repos/*/runs/*"))


def test_a_run_that_takes_too_long_ends_before_the_hook_does(
    scratch: Scratch, session: Claude
) -> None:
    scratch.write(".runner/workflow.yaml", "name: slow\nsteps:\n  - { id: wait, run: sleep 60 }\n")
    session.allow("--yes")
    session.flags = ("--time", "1s")
    answer = session.hook()
    assert "the time ran out" in answer["systemMessage"]
    assert "decision" not in answer


# -- nothing to do ---------------------------------------------------------------------------------


def test_an_unchanged_tree_runs_nothing_and_imports_next_to_nothing(
    scratch: Scratch, session: Claude
) -> None:
    assert session.hook() == {}
    begun = session.runs()
    assert session.hook() == {}
    assert session.runs() == begun
    command = [sys.executable, "-X", "importtime", "-m", "runner", "hook", "claude-code"]
    done = subprocess.run(
        command, input=json.dumps(session.given()), env=session.env(), cwd=scratch.root,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    heavy = {"click", "anyio", "dataclasses", "pathlib", "yaml", "sqlite3", "platformdirs"}
    assert "runner.hook.quick" in imported
    assert not imported & {*heavy, "runner.api", "runner.cli.app"}


def same_size(root: Path) -> None:
    (root / "calc.py").write_text(CALC.replace("a + b", "b + a"))


def new_file(root: Path) -> None:
    (root / "new.py").touch()


def new_agent(root: Path) -> None:
    (root / ".runner" / "agents").mkdir()
    text = "---\nname: x\ndescription: d\n---\nDo nothing.\n"
    (root / ".runner" / "agents" / "x.md").write_text(text)


def mode(root: Path) -> None:
    (root / "test_calc.py").chmod(0o755)


def in_an_empty_directory(root: Path) -> None:
    (root / "empty" / "below" / "new.py").touch()


def beside_what_is_ignored(root: Path) -> None:
    (root / "out" / "new.py").touch()


def with_the_directorys_time_put_back(root: Path) -> None:
    before = root.stat()
    (root / "new.py").touch()
    os.utime(root, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        same_size,
        new_file,
        new_agent,
        mode,
        in_an_empty_directory,
        beside_what_is_ignored,
        with_the_directorys_time_put_back,
    ],
)
def test_any_change_of_the_tree_is_looked_at(
    scratch: Scratch, session: Claude, change: Callable[[Path], None]
) -> None:
    (scratch.root / "empty" / "below").mkdir(parents=True)
    (scratch.root / "out").mkdir()
    (scratch.root / "out" / "a.pyc").touch()
    scratch.write(".gitignore", "__pycache__/\n*.pyc\n")
    session.allow("--yes")
    session.hook()
    assert session.hook() == {}
    begun = session.runs()
    change(scratch.root)
    assert session.hook() == {}
    assert session.runs() == begun + 1


def test_touched_and_ignored_files_are_no_change(scratch: Scratch, session: Claude) -> None:
    session.hook()
    begun = session.runs()
    os.utime(scratch.root / "calc.py")
    (scratch.root / "__pycache__").mkdir(exist_ok=True)
    (scratch.root / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert session.hook() == {}
    assert session.runs() == begun, "the contents are the same, and that decides"


def test_another_session_and_other_flags_look_for_themselves(session: Claude) -> None:
    session.hook()
    session.session = "another"
    session.hook()
    assert session.runs() == 2
    session.flags = ("--no-hooks",)
    session.hook()
    assert session.runs() == 3


@pytest.mark.parametrize(
    "more",
    [
        {"hook_event_name": "SubagentStop"},
        {"hook_event_name": "SessionEnd"},
        {"permission_mode": "plan"},
        {"agent_id": "agent-1"},
        {"background_tasks": [{"id": "1", "type": "subagent", "status": "running"}]},
        {"cwd": "/"},
        {"cwd": "/no/such/directory"},
    ],
    ids=str,
)
def test_nothing_is_run_where_nothing_ended(
    scratch: Scratch, session: Claude, more: dict[str, Any]
) -> None:
    scratch.write("calc.py", WRONG)
    assert session.hook(**more) == {}
    assert session.runs() == 0


def test_a_repository_without_a_workflow_is_left_alone_until_it_has_one(
    scratch: Scratch, session: Claude
) -> None:
    (scratch.root / ".runner/workflow.yaml").unlink()
    assert session.hook() == {}
    assert session.hook() == {}
    scratch.write("workflow.yaml", "name: x\nsteps:\n  - { id: a, run: exit 1 }\n")
    assert "not allowed" in session.hook()["systemMessage"]


# -- hostile ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stdin",
    [
        b"",
        b"hello",
        b"[1]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"session_id": 1, "cwd": "/", "hook_event_name": "Stop"}',
        b'{"session_id": "", "cwd": "/", "hook_event_name": "Stop"}',
        b'{"session_id": "a", "cwd": "relative", "hook_event_name": "Stop"}',
        b'{"session_id": "a", "cwd": "/\\u0000", "hook_event_name": "Stop"}',
        b'{"session_id": "a", "cwd": "/\\ud800", "hook_event_name": "Stop"}',
        b'{"session_id": "a", "cwd": "/", "x": "' + b"x" * claude.LARGEST + b'"}',
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_input_is_said_and_blocks_nobody(session: Claude, stdin: bytes) -> None:
    done = session.raw(stdin)
    assert done.returncode == 1, "2 would keep the agent from stopping"
    assert done.stdout == b""
    assert done.stderr.startswith(b"runner: the input")
    assert b"Traceback" not in done.stderr


def test_a_wrong_flag_in_the_settings_blocks_nobody(session: Claude) -> None:
    session.flags = ("--no-such-option",)
    done = session.raw(json.dumps(session.given()).encode())
    assert done.returncode == 1
    assert b"--no-such-option" in done.stderr


@pytest.mark.parametrize("name", ["../../../etc/x", "a/b", "\0", "x" * 100_000, "\ud800", "-"])
def test_session_ids_are_only_names(scratch: Scratch, session: Claude, name: str) -> None:
    session.session = name
    scratch.write("calc.py", WRONG)
    assert "decision" in session.hook()
    files = sorted(path.suffix for path in (session.state / "hook").iterdir())
    assert files == [".json", ".lock"]


def test_the_transcript_is_never_read(scratch: Scratch, session: Claude) -> None:
    fifo = scratch.root.parent / "fifo"
    os.mkfifo(fifo)  # whoever opens it waits for ever
    assert session.hook(transcript_path=str(fifo)) == {}
    assert session.hook(transcript_path=["no", "text"]) == {}


@pytest.mark.slow
def test_a_failure_that_changes_each_time_is_no_endless_loop(
    scratch: Scratch, session: Claude
) -> None:
    scratch.write(
        ".runner/workflow.yaml",
        "name: x\nsteps:\n  - { id: a, run: 'cat salt; echo error: $(cat salt) >&2; exit 1' }\n",
    )
    session.allow("--yes")
    names = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta"]
    answers = session.turn(*(partial(scratch.write, "salt", f"{name}\n") for name in names))
    assert "decision" not in answers[-1]
    assert len(answers) == MOST_IN_ROW + 1, "before Claude Code itself ends the turn"
    assert "in a row" in answers[-1]["systemMessage"]


def test_the_same_hook_installed_twice_answers_once(scratch: Scratch, session: Claude) -> None:
    gate, over = scratch.root.parent / "gate", scratch.root.parent / "over"
    waits = f"touch {gate}; for i in $(seq 600); do test -e {over} && exit 1; sleep 0.1; done"
    scratch.write(".runner/workflow.yaml", f"name: x\nsteps:\n  - {{ id: a, run: '{waits}' }}\n")
    session.allow("--yes")
    with session.start() as first:
        _await(gate)
        session.flags = ("-j", "1")  # the other entry's command line differs
        answer = session.hook()
        over.touch()
        assert answer == {}
        said, _ = first.communicate()
    assert json.loads(said)["decision"] == "block"
    assert session.runs() == 1


def test_told_to_end_it_leaves_the_tree_as_the_agent_left_it(
    scratch: Scratch, session: Claude
) -> None:
    gate = scratch.root.parent / "gate"
    judge = f"if grep -q 'a [*] 3' calc.py; then exit 1; fi; touch {gate}; sleep 60"
    scratch.write(
        ".runner/workflow.yaml",
        f"""
        name: x
        defaults: {{ fix: {{ agent: fixer }} }}
        steps:
          - id: test
            run: "{judge}"
        """,
    )
    session.allow("--yes")
    session.flags = cheap(scratch, MENDS)
    scratch.write("calc.py", WRONG)
    with session.start() as hook:
        _await(gate)
        assert scratch.read("calc.py") == GOOD, "mended, and not judged yet"
        hook.send_signal(signal.SIGTERM)
        said, _ = hook.communicate(timeout=20)
    assert scratch.read("calc.py") == WRONG
    assert said == b""


def _await(path: Path) -> None:
    for _ in range(600):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


async def test_who_waited_in_vain_for_another_session_says_so(tmp_path: Path) -> None:
    held = await alone(str(tmp_path / "lock"), "one", 0)
    assert held is not None
    assert await alone(str(tmp_path / "lock"), "one", 0) is None, "the same session answers once"
    with pytest.raises(RunnerError, match="another session"):
        await alone(str(tmp_path / "lock"), "two", 0)
    os.close(held)
    freed = await alone(str(tmp_path / "lock"), "two", 0)
    assert freed is not None
    os.close(freed)


def test_another_run_in_the_same_tree_is_said(scratch: Scratch, session: Claude) -> None:
    gate = scratch.root.parent / "gate"
    other = scratch.root.parent / "other.yaml"
    other.write_text(f"name: x\nsteps:\n  - {{ id: a, run: 'touch {gate}; sleep 60' }}\n")
    running = subprocess.Popen(
        session.command("exec", "-q", str(other)), env=session.env(), cwd=scratch.root,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _await(gate)
        assert "runner: " in session.hook()["systemMessage"]
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait()


# -- decisions, as tables --------------------------------------------------------------------------


def ran(*failed: Failed, code: int = 1, **more: Any) -> Ran:
    return Ran(
        **{  # pyright: ignore[reportArgumentType]  a table's values
            "run_id": "R", "exit_code": code, "failed": failed, "passed": (), "mended": {},
            "before": "T", "after": "T", **more,
        }
    )  # fmt: skip


def failing(step: str, failure: str = "f") -> Failed:
    return Failed(step, Packet(f"packet of {step}", failure), "exit 1")


def test_a_pass_is_remembered_only_for_the_tree_it_was_seen_on() -> None:
    nothing = Known({})
    assert decide(ran(code=0), nothing).state == "passed"
    assert decide(ran(code=0, after="U"), nothing).state == ""
    assert decide(ran(code=7, mended={"f (autofix)": ("a",)}), nothing).state == ""


def test_an_interrupted_run_says_nothing_and_settles_nothing() -> None:
    decision = decide(ran(failing("a"), code=143), Known({"a:f": 1}, 2, "T", ("x",)))
    assert decision.reply == Reply()
    assert decision.state == ""
    assert decision.known == Known({"a:f": 1}, 2, "T", ("x",))


def test_a_failure_that_was_mended_in_between_counts_anew() -> None:
    known = Known({"a:f": 2, "all/b:f": 2, "c:f": 1})
    told = decide(ran(code=0, passed=("a", "all/b")), known).known.told
    assert told == {"c:f": 1}
    assert decide(ran(failing("a")), Known(told)).reply.block


def test_a_new_failure_beside_a_stale_one_is_handed_back_alone() -> None:
    decision = decide(ran(failing("a"), failing("b")), Known({"a:f": 2}, 1, "S"))
    assert "packet of b" in decision.reply.block
    assert "packet of a" not in decision.reply.block
    assert "Also failing: a" in decision.reply.block
    assert decision.known.told == {"a:f": 2, "b:f": 1}


def test_many_failures_are_named_and_three_told_whole() -> None:
    decision = decide(ran(*(failing(name) for name in "abcde")), Known({}))
    assert decision.reply.block.count("packet of") == 3
    assert "Also failing: d, e." in decision.reply.block
    assert decision.known.told == {"a:f": 1, "b:f": 1, "c:f": 1}, "only what was told counts"


def test_what_changed_is_told_with_the_next_hand_back_and_then_forgotten() -> None:
    decision = decide(
        ran(failing("a"), mended={"f (autofix)": ("x.py",)}), Known({}, 0, "", ("y",))
    )
    assert "x.py, y" in decision.reply.block
    assert decision.known.changed == ()
    quiet = decide(ran(code=0, mended={"f (autofix)": ("x.py",)}), Known({}, 0, "", ("y",)))
    assert quiet.known.changed == ("x.py", "y"), "kept until the agent is told"


@pytest.mark.parametrize(
    ("cost", "said"),
    [(Decimal(0), ""), (Decimal("0.0123"), "$0.0123"), (None, "not known")],
)
def test_what_subagents_cost_is_said(cost: Decimal | None, said: str) -> None:
    assert said in decide(ran(failing("a"), cost_usd=cost), Known({})).reply.note


@settings(deadline=None)
@given(
    st.lists(st.sampled_from("abc"), max_size=12),
    st.booleans(),
)
def test_whatever_fails_the_agent_is_free_in_the_end(steps: list[str], moving: bool) -> None:
    known, blocked = Known({}), 0
    for at, step in enumerate(steps):
        failure = str(at) if moving else "f"
        decision = decide(ran(failing(step, failure), after=str(at)), known)
        blocked = blocked + 1 if decision.reply.block else 0
        assert blocked <= MOST_IN_ROW
        assert all(n <= 2 for n in decision.known.told.values())
        known = decision.known


# -- what Claude Code gives and takes --------------------------------------------------------------


def test_the_documented_input_is_understood(tmp_path: Path) -> None:
    given = Claude(tmp_path, tmp_path).given(stop_hook_active=True)
    asked = claude.read(json.dumps(given).encode())
    assert asked == Request("stop", given["session_id"], str(tmp_path), again=True)
    given |= {"hook_event_name": "UserPromptSubmit", "prompt": "hello"}
    assert claude.read(json.dumps(given).encode()).event == "prompt"


def test_the_answers_are_as_documented() -> None:
    assert claude.write("stop", Reply()) == ""
    block = json.loads(claude.write("stop", Reply(block="why", note="hm")))
    assert block == {"decision": "block", "reason": "why", "systemMessage": "hm"}
    context = json.loads(claude.write("prompt", Reply(context="facts")))
    assert context == {
        "hookSpecificOutput": {"hookEventName": "UserPromptSubmit", "additionalContext": "facts"}
    }
    assert len(json.loads(claude.write("stop", Reply(block="x" * 20_000)))["reason"]) < 10_000


@settings(deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_no_input_breaks_the_reader(data: bytes) -> None:
    with suppress(ValueError):
        claude.read(data)


# -- memory and stamps -----------------------------------------------------------------------------


def test_memory_comes_back_as_it_was_and_is_private(tmp_path: Path) -> None:
    file = tmp_path / "hook" / "x.json"
    memory = Memory()
    memory.state, memory.told, memory.paths = "passed", {"a:f": 1}, ["/x/\udcff"]
    remember(str(file), memory)
    found = recall(str(file))
    assert (found.state, found.told, found.paths) == ("passed", {"a:f": 1}, ["/x/\udcff"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"version": 2}', '{"version": 1, "state": 7}', "[" * 90_000]
)
def test_memory_that_is_none_of_ours_counts_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "x.json"
    file.write_text(text)
    assert recall(str(file)).state == ""


def test_a_broken_memory_goes_the_long_way(scratch: Scratch, session: Claude) -> None:
    session.hook()
    (file,) = (session.state / "hook").glob("*.json")
    data = json.loads(file.read_text()) | {"paths": [7], "state": "passed"}
    file.write_text(json.dumps(data))
    assert session.hook() == {}


def test_a_stamp_tells_files_and_directories(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    paths = with_directories(str(tmp_path), ["d/f"])
    assert paths == [str(tmp_path), f"{tmp_path}/d", f"{tmp_path}/d/f"]
    (tmp_path / "e" / "f").mkdir(parents=True)
    hollow = with_directories(str(tmp_path), [], ["e"])
    assert hollow == [str(tmp_path), f"{tmp_path}/e", f"{tmp_path}/e/f"]
    stamp = settled_stamp(paths)
    assert stamp == stamp_of(paths)
    (tmp_path / "d" / "f").write_text("y")
    assert stamp_of(paths) != stamp, "as long, but written later than the stamp could hide"
    stamp = settled_stamp(paths)
    (tmp_path / "d" / "g").touch()
    assert stamp_of(paths) != stamp


def test_files_that_do_not_come_to_rest_have_no_stamp(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.touch()
    ahead = time.time() + 1000
    os.utime(file, (ahead, ahead))
    assert settled_stamp([str(file)]) == ""


@pytest.mark.parametrize("name", ["", "/somewhere/state", "  "])
def test_the_quick_way_knows_the_same_state_directory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", name and name.replace("/somewhere", str(tmp_path)))
    assert quick.state_of(["hook"], os.environ) == str(state_root(None))
    given = str(tmp_path / "given")
    assert quick.state_of(["hook", "--state-dir", given], os.environ) == given
    assert quick.state_of(["hook", f"--state-dir={given}"], os.environ) == given
    assert quick.state_of(["hook", "--state", given], os.environ) == "", "not certain: the long way"


def test_the_long_way_reads_the_same_input_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hello")))
    assert not quick.answered(["hook", "claude-code"])
    assert sys.stdin.read() == "hello"
