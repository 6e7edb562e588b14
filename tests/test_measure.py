"""`runner measure`: readers of session logs, the table of mechanical commands, figures by hand."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.economics import Helper
from runner.measure import claude, codex
from runner.measure.course import FREE, Course, cost_of
from runner.measure.figures import Looked, figures, quartiles, to_json
from runner.measure.files import default_places, find
from runner.measure.mechanical import mechanical
from runner.measure.parse import LONGEST
from runner.measure.rates import Rates
from runner.measure.records import Trouble, Turn, Used
from runner.measure.render import render
from runner.measure.session import Session
from runner.measure.tally import Asked, Tally
from runner.outcome import Usage
from runner.price import ClassPrices, cost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from runner.measure.records import Record, Work

SESSION = "0b6f9f0e-1111-4222-8333-444455556666"
OTHER_SESSION = "0b6f9f0e-1111-4222-8333-777788889999"
CANARY = "s3cr3t-canary"
START = datetime(2026, 11, 12, 9, tzinfo=UTC)

COMMIT = "git add -A && git commit -m \"$(cat <<'EOF'\nDon't (ever\n\nBy: me\nEOF\n)\" && git push"


@pytest.mark.parametrize(
    ("line", "families", "telling"),
    [
        ("pytest -q", "test", True),
        ("cd /x && .venv/bin/pytest -q", "test", True),
        ("cd /x; pytest", "test", True),
        ("pytest 2>&1 | tail -20", "test", False),
        ("set -o pipefail; pytest 2>&1 | tail -20", "test", True),
        ("pytest || true", "test", False),
        ("pytest; echo done", "test", False),
        ("ruff check --fix . && ruff format .", "lint format", True),
        ("ruff check .\nmypy src", "lint types", False),
        ("uv run --frozen mypy src", "types", True),
        ("python3 -m unittest", "test", True),
        ("FOO=1 BAR='a b' npx tsc --noEmit", "types", True),
        ("timeout --kill-after=5 60 cargo clippy", "lint", True),
        ("bash -lc 'cargo test && cargo build'", "test build", True),
        ("npm run test:unit -- --watch=false", "test", True),
        ("npm test", "test", True),
        ("pnpm exec eslint . --fix", "lint", True),
        ("make", "build", True),
        ("make -j8 test lint", "test", True),
        ("cmake --build build", "build", True),
        ("./gradlew test", "test", True),
        ("git -C sub status", "git", True),
        ("git status && git diff --stat && git log --oneline -5", "git", True),
        (COMMIT, "git git git", True),
        ("pytest > /tmp/out 2>&1; tail -5 /tmp/out", "test", False),
        ("pytest > out.txt", "test", True),
        ("pytest $(git diff --name-only)", "test", True),
        ("git push --force", "git", True),
    ],
)
def test_a_mechanical_command_is_told_by_the_table(line: str, families: str, telling: bool) -> None:
    found = mechanical(line)
    assert found is not None
    assert found.families == tuple(families.split())
    assert found.telling is telling


@pytest.mark.parametrize(
    "line",
    [
        "",
        "echo hi",
        "cat src/a.py",
        "git diff",
        "git log",
        "git stash",
        "make deploy",
        "make test deploy",
        "npm run deploy",
        "npm install",
        "rm -rf build && make",
        "sed -i s/a/b/ x && pytest",
        "pytest; cat src/a.py",
        "echo x > src/a.py && pytest",
        "> src/a.py; pytest",
        "cat > a.py <<'EOF'\nx\nEOF\npytest",
        "for f in a b; do pytest $f; done",
        "(cd a && make)",
        "npm run build &",
        "python scripts/run.py",
        "cargo run",
        "docker build .",
        "bash test.sh",
        'pytest "unterminated',
        "pytest $(unterminated",
        "git commit -m \"$(cat <<'EOF'\nnever ends",
        "pytest " + "x" * 20_001,
        "sudo pytest",
    ],
)
def test_what_the_table_does_not_know_is_not_mechanical(line: str) -> None:
    assert mechanical(line) is None


@given(st.text(max_size=60) | st.text("pytest git'\"$(){}<>|&;\\\n`#=EOF ", max_size=80))
def test_no_line_of_shell_is_too_odd(line: str) -> None:
    mechanical(line)


class Log:
    """Lines of an invented log, each a bit later than the one before."""

    def __init__(self) -> None:
        self.now = START
        self.lines: list[bytes] = []

    def later(self, **more: float) -> None:
        self.now += timedelta(**more)

    def put(self, record: dict[str, Any]) -> None:
        self.now += timedelta(seconds=1)
        stamp = self.now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.raw(json.dumps({"timestamp": stamp} | record).encode())

    def raw(self, line: bytes) -> None:
        self.lines.append(line + b"\n")

    def write(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(self.lines))
        return path


class ClaudeLog(Log):
    """As Claude Code writes it."""

    def __init__(self, session: str = SESSION) -> None:
        super().__init__()
        self.common: dict[str, Any] = {"sessionId": session, "isSidechain": False, "cwd": CANARY}
        self.number = 0

    def user(self, content: Any = CANARY) -> None:
        self.put(self.common | {"type": "user", "message": {"role": "user", "content": content}})

    def result(self, call: str, *, failed: bool = False) -> None:
        block = {"type": "tool_result", "tool_use_id": call, "content": CANARY}
        self.user([block | {"is_error": failed}])

    def piece(self, blocks: list[dict[str, Any]], usage: Any, **more: Any) -> None:
        message: dict[str, Any] = {
            "id": f"msg_{self.number}",
            "model": "claude-opus-5-5",
            "content": blocks,
        }
        message |= {"role": "assistant", "usage": usage} | more
        request = {"type": "assistant", "requestId": f"req_{self.number}"}
        self.put(self.common | request | {"message": message})

    def turn(
        self,
        command: str = "",
        *,
        read: int = 0,
        write: int = 0,
        output: int = 100,
        failed: bool = False,
        name: str = "Bash",
        **more: Any,
    ) -> None:
        """Write a turn: a thought, a command where one is given, and its result."""
        self.number += 1
        call = f"toolu_{self.number}"
        usage = claude_usage(read, write, output)
        self.piece([{"type": "thinking", "thinking": CANARY}], usage | {"output_tokens": 2}, **more)
        if command:
            tool = {"type": "tool_use", "id": call, "name": name, "input": {"command": command}}
            self.piece([tool], usage, **more)
            self.result(call, failed=failed)
        else:
            self.piece([{"type": "text", "text": CANARY}], usage, **more)


def claude_usage(read: int, write: int, output: int, hour: int = 0) -> dict[str, Any]:
    split = {"ephemeral_5m_input_tokens": write - hour, "ephemeral_1h_input_tokens": hour}
    usage = {"input_tokens": 3, "cache_read_input_tokens": read, "output_tokens": output}
    return usage | {"cache_creation_input_tokens": write, "cache_creation": split}


class CodexLog(Log):
    """As Codex writes it."""

    def __init__(self, session: str = SESSION, **meta: Any) -> None:
        super().__init__()
        self.ordinal = 0
        self.total = {"input_tokens": 0, "cached_input_tokens": 0, "output_tokens": 0}
        self.item("session_meta", **({"id": session, "model_provider": "openai"} | meta))
        self.item("turn_context", model="gpt-6.1-sol")

    def item(self, kind: str, **payload: Any) -> None:
        self.put({"ordinal": self.ordinal, "type": kind, "payload": payload})
        self.ordinal += 1

    def call(self, command: str, code: int | None = 0) -> None:
        """Write a command's call, with its result to come after the count."""
        arguments = json.dumps({"cmd": command})
        self.item("response_item", type="function_call", name="exec_command", arguments=arguments,
                  call_id=f"call_{self.ordinal}")  # fmt: skip
        self.pending = (f"call_{self.ordinal - 1}", code)

    def count(self, prompt: int, cached: int, output: int = 50, **more: Any) -> None:
        usage = {"input_tokens": prompt, "cached_input_tokens": cached, "output_tokens": output}
        self.total = {name: self.total[name] + number for name, number in usage.items()}
        info = {"total_token_usage": self.total, "last_token_usage": usage | more}
        self.item("event_msg", type="token_count", info=info, rate_limits=None)

    def result(self) -> None:
        call, code = self.pending
        head = f"Wall time: 1 s\nProcess exited with code {code}\n" if code is not None else ""
        output = f"{head}Output:\n{CANARY} exited with code 7"
        self.item("response_item", type="function_call_output", call_id=call, output=output)


def turns(records: Iterable[Record]) -> list[Turn]:
    return [one for one in records if isinstance(one, Turn)]


def troubles(records: Iterable[Record]) -> list[str]:
    return [one.what for one in records if isinstance(one, Trouble)]


# The readers


def test_a_response_in_several_records_counts_once_with_its_last_output() -> None:
    log = ClaudeLog()
    log.user()
    log.turn("pytest -q", read=1_000, write=200, output=321)
    (turn,) = turns(claude.read(log.lines, "x"))
    assert turn.used == Used(3, 1_000, 200, 0, 321)
    assert turn.began == (START + timedelta(seconds=1)).timestamp()
    assert (turn.session, turn.model) == (SESSION, "anthropic:claude-opus-5-5")
    assert (turn.work, turn.families, turn.passed) == ("mechanical", ("test",), True)


def test_what_was_written_for_an_hour_is_told_apart() -> None:
    log = ClaudeLog()
    for usage in (claude_usage(0, 900, 1, hour=700), {"cache_creation_input_tokens": 50}):
        log.number += 1
        log.piece([], usage)
    found = [one.used for one in turns(claude.read(log.lines, "x"))]
    assert found == [Used(3, 0, 200, 700, 1), Used(0, 0, 50, 0, 0)]


def test_responses_that_are_written_at_once_are_kept_apart() -> None:
    log = ClaudeLog()
    for number in (1, 2, 1, 2):
        log.number = number
        log.piece([], claude_usage(number, 0, 10 * number))
    found = turns(claude.read(log.lines, "x"))
    assert [one.used.read for one in found] == [1, 2]


@pytest.mark.parametrize(("given", "named"), [("id", "requestId"), ("requestId", "id")])
def test_one_of_the_two_ids_is_enough(given: str, named: str) -> None:
    log = ClaudeLog()
    for number in (1, 2):
        message: dict[str, Any] = {"model": "claude-opus-5-5", "usage": claude_usage(5, 5, number)}
        ids = {"id": "same", "requestId": "same"}
        ids[named] = f"other {number}"
        record = {"type": "assistant", "requestId": ids["requestId"]}
        log.put(log.common | record | {"message": message | {"id": ids["id"]}})
    assert [one.used.output for one in turns(claude.read(log.lines, "x"))] == [2], given


def test_only_mechanical_calls_make_a_turn_mechanical() -> None:
    log = ClaudeLog()
    log.turn("pytest", name="Edit")
    log.turn("cat src/a.py")
    log.turn()
    log.turn("pytest", name="BashOutput")
    log.number = 9
    for command in ("pytest", "cat src/a.py"):
        block = {"type": "tool_use", "id": command, "name": "Bash", "input": {"command": command}}
        log.piece([block], claude_usage(1, 1, 1))
    works = [one.work for one in turns(claude.read(log.lines, "x"))]
    assert works == ["other", "other", "none", "waiting", "other"]


def test_whether_a_command_passed_is_told_by_the_log_or_not_at_all() -> None:
    log = ClaudeLog()
    log.turn("pytest", failed=True)
    log.turn("pytest | tail -5")
    log.number = 8
    block = {"type": "tool_use", "id": "b", "name": "Bash"}
    background = block | {"input": {"command": "pytest", "run_in_background": True}}
    log.piece([background], claude_usage(1, 1, 1))
    log.result("b")
    log.number = 9
    log.piece([block | {"id": "c", "input": {"command": "pytest"}}], claude_usage(1, 1, 1))
    for number, outcome in ((10, {"interrupted": True}), (11, {"backgroundTaskId": "b1"})):
        log.number, call = number, f"toolu_{number}"
        log.piece([block | {"id": call, "input": {"command": "pytest"}}], claude_usage(1, 1, 1))
        result = {"type": "tool_result", "tool_use_id": call}
        user = {"type": "user", "message": {"content": [result]}, "toolUseResult": outcome}
        log.put(log.common | user)
    passed = [one.passed for one in turns(claude.read(log.lines, "x"))]
    assert passed == [False, None, None, None, False, None]


def test_what_is_no_request_is_not_counted_and_said() -> None:
    log = ClaudeLog()
    log.turn(model="<synthetic>")
    log.raw(b'{"type":"assistant","message":')
    log.raw(b"[1, 2]")
    log.put({"type": "a-new-kind"})
    log.put({"type": "progress", "data": {"message": {"type": "assistant", "usage": {}}}})
    for usage in (None, "x", {"input_tokens": -1}, {"output_tokens": 1.5}, {"input_tokens": True}):
        log.number += 1
        log.piece([], usage)
    records = list(claude.read(log.lines, "x"))
    assert turns(records) == []
    wrong = ["records with unreadable usage"] * 5
    kinds = ["synthetic records"] * 2 + ["broken lines"] * 2 + ["records of other kinds"]
    assert troubles(records) == kinds + wrong


def test_side_chains_are_conversations_of_their_own() -> None:
    log = ClaudeLog()
    log.turn("pytest", read=50_000)
    log.common |= {"isSidechain": True, "agentId": "a1"}
    log.turn("pytest", read=5_000)
    log.common |= {"agentId": "a2"}
    log.turn("pytest", read=5_000)
    found = turns(claude.read(log.lines, "x"))
    assert [one.side for one in found] == [False, True, True]
    assert len({one.conversation for one in found}) == 3
    assert {one.session for one in found} == {SESSION}


def test_a_compaction_begins_anew() -> None:
    log = ClaudeLog()
    log.turn(read=90_000)
    log.put(log.common | {"type": "system", "subtype": "compact_boundary", "content": CANARY})
    log.turn(read=9_000)
    log.turn(read=9_500)
    assert [one.fresh for one in turns(claude.read(log.lines, "x"))] == [False, True, False]


def test_codex_counts_each_request_once_in_classes_that_do_not_overlap() -> None:
    log = CodexLog()
    log.call("pytest -q")
    log.count(10_000, 8_000, cache_write_input_tokens=1_500)
    log.result()
    total, log.total = log.total, dict(log.total)
    log.item("event_msg", type="token_count", info={"total_token_usage": total,
             "last_token_usage": {"input_tokens": 10_000}})  # fmt: skip
    log.item("event_msg", type="token_count", info=None)
    log.call("cat a.py", 1)
    log.count(11_000, 10_000)
    log.result()
    first, second = turns(codex.read(log.lines, "x"))
    assert first.used == Used(500, 8_000, 1_500, 0, 50)
    assert (first.work, first.passed, first.model) == ("mechanical", True, "openai:gpt-6.1-sol")
    assert second.used == Used(1_000, 10_000, 0, 0, 50)
    assert (second.work, second.passed) == ("other", False)


def test_codex_sums_alone_are_taken_apart() -> None:
    log = CodexLog()
    for total in (1_000, 2_500, 2_500, 400):
        usage = {"input_tokens": total, "cached_input_tokens": 0, "output_tokens": total // 10}
        log.item("event_msg", type="token_count", info={"total_token_usage": usage})
    # The last sum is smaller: the session began to count anew.
    assert [one.used.uncached for one in turns(codex.read(log.lines, "x"))] == [1_000, 1_500, 400]


@pytest.mark.parametrize(
    ("item", "work"),
    [
        ({"type": "function_call", "name": "shell",
          "arguments": json.dumps({"command": ["bash", "-lc", "cargo test && git add -A"]})},
         "mechanical"),
        ({"type": "function_call", "name": "shell",
          "arguments": json.dumps({"command": ["pytest", "-k", "a; rm b"]})}, "mechanical"),
        ({"type": "local_shell_call", "action": {"command": ["cat", "x"]}}, "other"),
        ({"type": "function_call", "name": "write_stdin",
          "arguments": json.dumps({"session_id": 1, "chars": ""})}, "waiting"),
        ({"type": "function_call", "name": "write_stdin",
          "arguments": json.dumps({"session_id": 1, "chars": "y"})}, "other"),
        ({"type": "custom_tool_call", "name": "exec",
          "input": 'text(await tools.exec_command({cmd:"pytest -k \\"a\\"", max: 2}))'},
         "mechanical"),
        ({"type": "custom_tool_call", "name": "exec",
          "input": "await tools.exec_command({cmd: 'pytest'}); await tools.apply_patch(p)"},
         "other"),
        ({"type": "custom_tool_call", "name": "exec",
          "input": "await tools.exec_command({cmd: `pytest ${name}`})"}, "other"),
        ({"type": "custom_tool_call", "name": "apply_patch", "input": CANARY}, "other"),
        ({"type": "function_call", "name": "exec_command", "arguments": "not json"}, "other"),
    ],
)  # fmt: skip
def test_every_way_in_which_codex_runs_commands(item: dict[str, Any], work: Work) -> None:
    log = CodexLog()
    log.item("response_item", call_id="c", **item)
    log.count(10, 0)
    assert [one.work for one in turns(codex.read(log.lines, "x"))] == [work]


@pytest.mark.parametrize(
    ("output", "passed"),
    [
        ("Process exited with code 0\nOutput:\nexited with code 1", True),
        ("Exit code: 2\nOutput:\n", False),
        ("Process running with session ID 4\nOutput:\nexited with code 0", None),
        ('{"output":"x","metadata":{"exit_code":0}}', True),
        ('{"output":"x","metadata":{"exit_code":3}}', False),
        ([{"type": "input_text", "text": "exited with code 0"}], None),
        (None, None),
    ],
)
def test_a_result_tells_its_exit_code(output: Any, passed: bool | None) -> None:
    assert codex.succeeded(output) is passed


def test_what_a_fork_repeats_from_its_parent_is_marked() -> None:
    by_ordinal = CodexLog(OTHER_SESSION, forked_from_id=SESSION, subagent_history_start_ordinal=4)
    by_ordinal.item("session_meta", id=SESSION)
    by_ordinal.count(50, 0)
    by_ordinal.count(70, 0)

    by_date = CodexLog(OTHER_SESSION, forked_from_id=SESSION)
    by_date.item("session_meta", id=SESSION)
    began = START.timestamp()
    by_date.item("event_msg", type="task_started", started_at=began - 86_400)
    by_date.count(50, 0)
    by_date.later(minutes=20)
    by_date.item("event_msg", type="task_started", started_at=by_date.now.timestamp())
    by_date.count(70, 0)

    by_time = CodexLog(OTHER_SESSION, forked_from_id=SESSION)
    by_time.item("session_meta", id=SESSION)
    by_time.count(50, 0)
    by_time.later(minutes=1)
    by_time.count(70, 0)

    resumed = CodexLog(SESSION)
    resumed.item("session_meta", id=SESSION)
    resumed.count(50, 0)

    for log in (by_ordinal, by_date, by_time):
        assert [one.copied for one in turns(codex.read(log.lines, "x"))] == [True, False]
    assert [one.copied for one in turns(codex.read(resumed.lines, "x"))] == [False]


WORDS = (
    "type", "payload", "message", "usage", "id", "content", "info", "input_tokens", "timestamp",
    "total_token_usage", "last_token_usage", "name", "input", "command", "arguments", "sessionId",
)  # fmt: skip
KINDS = ("assistant", "user", "system", "event_msg", "response_item", "session_meta")
READERS = pytest.mark.parametrize("reader", [claude, codex])
Read = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@READERS
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_no_bytes_stop_a_reader(reader: Any, lines: list[bytes]) -> None:
    list(reader.read(lines, "x"))


@READERS
@given(st.sampled_from(KINDS), Read)
def test_no_record_stops_a_reader(reader: Any, kind: str, value: Any) -> None:
    for inner in (value, {"type": "token_count", "info": value}, {"content": [value]}):
        line = json.dumps({"type": kind, "payload": inner, "message": inner}).encode()
        list(reader.read([line, line], "x"))


@READERS
@given(st.data())
def test_no_damage_to_a_real_record_stops_a_reader(reader: Any, data: st.DataObject) -> None:
    log = ClaudeLog() if reader is claude else CodexLog()
    if isinstance(log, ClaudeLog):
        log.turn("pytest -q", read=1_000, write=200)
    else:
        log.call("pytest -q")
        log.count(10, 0)
        log.result()
    records = [json.loads(line) for line in log.lines]
    victim: Any = data.draw(st.sampled_from(records))
    for _ in range(data.draw(st.integers(0, 4))):
        inner = victim[data.draw(st.sampled_from(sorted(victim)))]
        if not isinstance(inner, dict) or not inner:
            break
        victim = cast("dict[str, Any]", inner)
    victim[data.draw(st.sampled_from(sorted(victim)))] = data.draw(Read)
    list(reader.read([json.dumps(record).encode() for record in records], "x"))


# The figures


OPUS = ClassPrices(*(Decimal(usd) / 1_000_000 for usd in ("4", "0.20", "5", "8", "20")))
HAIKU = ClassPrices(*(Decimal(usd) / 1_000_000 for usd in ("0.10", "0.01", "0.125", "0.20", "0.5")))
"""Typed in by hand from the vendor's list of 2026-11-09: USD per million tokens."""


def one_turn(prompt: int, read: int, work: Work = "other", **more: Any) -> Turn:
    written = more.pop("written", prompt - read)
    used = Used(prompt - read - written, read, written, 0, more.pop("output", 300))
    return Turn("claude", "s", "c", more.pop("side", False), "anthropic:claude-opus-5-5",
                more.pop("began", 0.0), used, work, **more)  # fmt: skip


def follow(chain: Sequence[Turn], helper: Helper | None = None) -> Session:
    session = Session("claude", "s")
    course = Course(helper or Helper(), lambda _turn, _size: HAIKU, lambda _turn: 300.0)
    for turn in chain:
        course.hear(turn, OPUS, session)
    course.end(session)
    return session


def test_delegation_agrees_with_the_worked_example_of_the_cost_model() -> None:
    # Opus 5.5 with 80k of context, 6 mechanical turns of 300 tokens that add 1,200 each, 30 later
    # turns; a helper on Haiku 5.5: 21.5 cents inline, 4.2 delegated.
    chain = [one_turn(80_000, 80_000, written=0)]
    chain += [one_turn(80_000 + 1_200 * n, 80_000 + 1_200 * max(0, n - 1), "mechanical")
              for n in range(6)]  # fmt: skip
    # What comes after reads it all, 30 times; the first of them writes the last growth.
    chain += [one_turn(87_200, 86_000, output=0)]
    chain += [one_turn(87_200, 87_200, output=0, written=0)] * 30
    session = follow(chain)
    assert session.runs == [6]
    saved = session.saved["delegation"]
    # By hand, in millionths of a dollar; the turn after the run reads the first 5 growths.
    inline = 6 * 80_000 * 0.2 + 1_200 * 15 * 0.2 + 7_200 * 5 + 300 * 6 * 20 + 30 * 7_200 * 0.2
    asked = 80_000 * 0.2 + 250 * 20 + 550 * 5 + 30 * 550 * 0.2
    helper = 5_500 * 0.125 + (7 * 5_500 + 28 * 1_200) * 0.01 + 9_600 * 0.125 + 2_400 * 0.5
    again = inline + 6 * 550 * 0.2 + 600 * 5 + 30 * 600 * 0.2
    assert inline == pytest.approx(215_000, abs=700)
    by_hand = inline - asked - helper - 0.05 * again
    assert float(saved) * 1e6 == pytest.approx(by_hand, abs=1)
    assert float(saved) == pytest.approx(0.215 - 0.042, abs=0.003)


def test_batching_saves_what_the_turns_behind_one_that_passed_read() -> None:
    chain = [
        one_turn(50_000, 50_000, written=0),
        one_turn(51_000, 50_000, "mechanical", passed=True),
        one_turn(52_000, 51_000, "mechanical", passed=False),
        one_turn(53_000, 52_000, "mechanical", passed=None),
        one_turn(54_000, 0, "mechanical", passed=True),
        one_turn(55_000, 54_000, "mechanical", passed=True),
        one_turn(56_000, 55_000),
    ]
    session = follow(chain)
    assert session.batched == 2
    assert session.saved["batching"] == (51_000 + 54_000) * OPUS.read


def test_steps_save_the_turn_its_tokens_and_their_later_readings() -> None:
    chain = [
        one_turn(50_000, 50_000, written=0),
        one_turn(51_000, 50_000, "mechanical", passed=True, output=200),
        one_turn(53_000, 51_000),
        one_turn(53_500, 53_000),
        one_turn(54_000, 0),  # a lost cache: nothing was read, nothing is credited
    ]
    expected = (50_000 + 2_000) * OPUS.read + 200 * OPUS.output + 2_000 * OPUS.write
    assert follow(chain).saved["steps"] == expected
    failed = [one_turn(1, 0), one_turn(51_000, 50_000, "mechanical", passed=False)]
    assert follow(failed).saved["steps"] == 0


def test_a_run_that_outlives_the_retention_pays_for_the_cache_of_the_main() -> None:
    def chain(seconds: float) -> list[Turn]:
        return [
            one_turn(80_000, 80_000, "mechanical", written=0, began=1.0),
            one_turn(80_500, 80_000, "mechanical", began=2.0),
            one_turn(81_000, 80_500, began=seconds),
        ]

    short, long = (follow(chain(at)).saved["delegation"] for at in (200.0, 400.0))
    assert short - long == pytest.approx(80_000 * (OPUS.write - OPUS.read))
    certain = follow(chain(200.0), Helper(fails=Decimal(0))).saved["delegation"]
    assert certain > short > follow(chain(200.0), Helper(fails=Decimal(1))).saved["delegation"]


def test_what_is_delegated_already_is_not_delegated_again() -> None:
    chain = [one_turn(80_000, 79_000, "mechanical", side=True), one_turn(81_000, 80_000, side=True)]
    session = follow(chain)
    assert (session.delegated, session.runs, session.saved["delegation"]) == (0, [], 0)


Work_ = st.sampled_from(["none", "mechanical", "waiting", "other"])


@given(
    st.lists(
        st.tuples(
            st.integers(1, 200_000), st.integers(0, 200_000), Work_, st.booleans() | st.none()
        ),
        max_size=25,
    )
)
def test_nothing_saves_more_than_was_paid(
    given_turns: list[tuple[int, int, Work, bool | None]],
) -> None:
    chain = [
        one_turn(prompt, min(read, prompt), work, passed=passed, began=60.0 * number)
        for number, (prompt, read, work, passed) in enumerate(given_turns)
    ]
    session = follow(chain)
    assert session.cost == sum(cost_of(turn, OPUS) for turn in chain)
    assert 0 <= session.saved["batching"] <= session.cost
    assert 0 <= session.saved["steps"] <= session.cost
    assert session.saved["delegation"] <= session.cost


def test_gaps_tell_what_was_written_again() -> None:
    def at(began: float, prompt: int, read: int, **more: Any) -> Turn:
        return one_turn(prompt, read, began=began, **more)

    chain = [
        at(0, 40_000, 0),
        at(10, 41_000, 40_000),
        at(400, 42_000, 0),
        at(8_000, 43_000, 0),
        at(8_400, 44_000, 42_000),  # kept for longer, but for its last tokens: a gap, no loss
        at(8_500, 30_000, 0, fresh=True),  # compacted: no gap, no loss
    ]
    gaps = follow(chain).gaps
    told = {length: (one.count, one.lost, one.tokens) for length, one in gaps.items()}
    assert told == {0: (1, 0, 0), 300: (3, 2, 83_000), 3_600: (1, 1, 42_000)}
    assert gaps[300].usd == 83_000 * (OPUS.write - OPUS.read)


def test_quartiles_are_interpolated() -> None:
    assert quartiles([]) is None
    four = quartiles([1, 2, 3, 4])
    assert four is not None
    assert [four.low, four.middle, four.high] == [Decimal("1.75"), Decimal("2.5"), Decimal("3.25")]


@pytest.mark.parametrize(
    "model",
    [
        "anthropic:claude-opus-5-5",
        "anthropic:claude-haiku-5-5",
        "openai:gpt-6.1-sol",
        "xai:grok-4.7",
    ],
)
def test_remembered_prices_are_those_of_the_table(model: str) -> None:
    rates = Rates({})
    for prompt in (1, 99_999, 100_000, 100_001, 200_000, 272_000, 272_001, 900_000):
        read, written, hour = prompt // 2, prompt // 4, prompt // 8
        used = Used(prompt - read - written, read, written - hour, hour, 777)
        found = rates.of(model, START.timestamp(), prompt)
        assert found is not None
        turn = Turn("claude", "s", "c", side=False, model=model, began=None, used=used, work="none")
        usage = Usage(1, prompt, read, written, hour, 777)
        assert cost_of(turn, found) == pytest.approx(
            cost(model, usage, START), rel=Decimal("1e-20")
        )
    assert rates.of("unlisted:x", None, 5) is None


def tally(*logs: tuple[Any, Log], asked: Asked | None = None) -> Tally:
    found = Tally(asked or Asked(), Rates({}))
    for reader, log in logs:
        found.file(reader.read(log.lines, "x"))
    return found


def test_a_request_that_stands_in_two_logs_is_counted_once() -> None:
    log, fork = ClaudeLog(), ClaudeLog(OTHER_SESSION)
    log.turn("pytest", read=10_000)
    fork.turn("pytest", read=10_000)
    fork.turn(read=11_000)
    found = tally((claude, log), (claude, fork))
    assert (found.copies, found.models["anthropic:claude-opus-5-5"].turns) == (1, 2)

    parent = CodexLog(SESSION)
    parent.count(100, 0)
    child = CodexLog(OTHER_SESSION, forked_from_id=SESSION)
    child.later(hours=1)
    child.count(100, 0)
    child.count(120, 100)
    found = tally((codex, parent), (codex, child))
    assert (found.copies, found.models["openai:gpt-6.1-sol"].turns) == (1, 2)


def test_waiting_counts_with_what_is_waited_for() -> None:
    log = ClaudeLog()
    log.turn("pytest", read=10_000)
    log.turn("x", read=10_500, name="BashOutput")
    log.turn("cat a", read=11_000)
    log.turn("x", read=11_500, name="BashOutput")
    (session,) = tally((claude, log)).sessions.values()
    assert (session.mechanical, session.runs) == (2, [2])


def test_an_unknown_price_is_null_and_said() -> None:
    log = ClaudeLog()
    log.turn("pytest", read=10_000, model="my-own-model")
    shown = figures(tally((claude, log)), Looked(1, 1, (), None))
    told = to_json(shown)
    assert (told["cost_usd"], told["mechanical"]["cost_usd"]) == (None, None)
    assert told["saved"]["steps"] is None
    assert told["turns"]["without_known_price"] == 1
    text = " ".join(render(shown, width=100, color=False).split())
    assert "No price is known for 1 turn" in text
    assert "unknown" in text
    priced = figures(
        tally((claude, log), asked=Asked(prices="anthropic:claude-opus-5-5")),
        Looked(1, 1, (), None),
    )
    assert priced.cost == cost_of(one_turn(10_003, 10_000, written=0, output=100), OPUS)


def test_no_content_leaves_the_readers_where_none_should_stand() -> None:
    log = ClaudeLog(session=f"{CANARY} instead of a UUID")
    log.common |= {"isSidechain": True, "agentId": CANARY, "type": CANARY}
    log.turn(f"git commit -m {CANARY}", model=f"{CANARY} instead of a model")
    log.turn(f"pytest {CANARY}.py", name=CANARY)
    other = CodexLog(f"{CANARY} too", model_provider=f"{CANARY} or so")
    other.count(90, 0)
    other.item("turn_context", model={CANARY: CANARY})
    other.call(f"pytest {CANARY}")
    other.count(100, 0)
    for reader, one in ((claude, log), (codex, other)):
        assert CANARY not in repr(list(reader.read(one.lines, CANARY)))
    shown = figures(tally((claude, log), (codex, other)), Looked(1, 1, (), None))
    assert CANARY not in json.dumps(to_json(shown)) + render(shown, width=100, color=True)


# Files


def test_every_log_is_found_once_whatever_links_lead_to_it(tmp_path: Path) -> None:
    log = ClaudeLog()
    log.turn()
    log.write(tmp_path / "p" / "a.jsonl")
    log.write(tmp_path / "p" / "sub" / "b.jsonl")
    (tmp_path / "p" / "sub" / "loop").symlink_to(tmp_path / "p", target_is_directory=True)
    (tmp_path / "p" / "again.jsonl").symlink_to(tmp_path / "p" / "a.jsonl")
    (tmp_path / "p" / "itself.jsonl").symlink_to("itself.jsonl")
    (tmp_path / "p" / "notes.txt").write_text("no log")
    os.mkfifo(tmp_path / "p" / "pipe.jsonl")
    (tmp_path / "p" / "b.jsonl.gz").write_bytes(gzip.compress(b"x"))
    log.write(tmp_path / "p" / "b.jsonl")
    logs, unread = find([tmp_path / "p", tmp_path / "p" / "sub", tmp_path / "none"])
    names = [str(log.path.relative_to(tmp_path / "p")) for log in logs]
    assert names == ["a.jsonl", "b.jsonl", "sub/b.jsonl"]
    assert [one.path.name for one in unread] == ["itself.jsonl", "none"]


def test_the_logs_are_looked_for_where_the_agents_keep_them(tmp_path: Path) -> None:
    for place in (".claude/projects", ".codex/sessions", "else/projects", "code/archived_sessions"):
        (tmp_path / place).mkdir(parents=True)
    usual = default_places({}, tmp_path)
    assert usual == (tmp_path / ".claude/projects", tmp_path / ".codex/sessions")
    environ = {"CLAUDE_CONFIG_DIR": str(tmp_path / "else"), "CODEX_HOME": str(tmp_path / "code")}
    named = default_places(environ, tmp_path)
    assert named == (tmp_path / "else/projects", tmp_path / "code/archived_sessions")


# The command


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Variables of a user whose home holds a log of each format."""
    home = tmp_path / "home"
    log = ClaudeLog()
    for number in range(12):
        log.turn("pytest -q" if number % 3 else "cat a", read=20_000 + 900 * number, write=900)
        log.later(minutes=7 if number == 5 else 0)
    log.raw(b'{"' + CANARY.encode())
    log.write(home / ".claude/projects/-home-me" / f"{SESSION}.jsonl")
    codex_log = CodexLog(OTHER_SESSION)
    for number in range(9):
        codex_log.call("git status" if number % 2 else "ls")
        codex_log.count(9_000 + 700 * number, 8_000 + 700 * number)
        codex_log.result()
    codex_log.write(home / ".codex/sessions/2026/11/12" / f"rollout-x-{OTHER_SESSION}.jsonl")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {"HOME": str(home), "SUBRUNNER_CONFIG": ""}


def run(environ: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runner", "measure", *args]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)


def test_a_user_reads_what_his_sessions_show(environ: dict[str, str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    for columns in (80, 160):
        done = run(environ | {"COLUMNS": str(columns)})
        assert (done.returncode, done.stderr) == (0, "")
        assert "2 sessions: 1 of Claude Code, 1 of Codex" in done.stdout
        assert max(len(line) for line in done.stdout.splitlines()) <= columns
        assert "Not counted: 1 broken lines." in done.stdout
        assert CANARY not in done.stdout
    told = json.loads(run(environ, "--json").stdout)
    assert told["turns"]["all"] == 21
    assert told["mechanical"]["turns"] == 12
    assert told["mechanical"]["commands"] == {"git": 4, "test": 8}
    assert told["gaps"]["300"]["count"] == 1
    assert [one["session"] for one in told["each_session"]] == [SESSION, OTHER_SESSION]
    assert CANARY not in json.dumps(told)
    assert sorted(tmp_path.rglob("*")) == before, "it only reads"


def test_other_prices_can_be_chosen(environ: dict[str, str]) -> None:
    def usd(*args: str) -> float:
        return json.loads(run(environ, "--json", *args).stdout)["cost_usd"]

    own, main = usd(), usd("--main", "anthropic:claude-fable-5-2")
    assert main > own
    assert usd("--prices", "anthropic:claude-fable-5-2") == main
    saved = json.loads(run(environ, "--json", "--failure-rate", "1").stdout)["saved"]
    assert saved["delegation"]["usd"] < 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--cheap", "openai:no-such-model"], "no price is known"),
        (["--main", "claude-opus-5-5"], "provider:model"),
        (["--failure-rate", "2"], "--failure-rate"),
        (["/nowhere/at/all"], "no session logs"),
    ],
)
def test_slips_are_answered_in_a_line(environ: dict[str, str], args: list[str], says: str) -> None:
    done = run(environ, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_packed_and_cut_logs_are_read_as_far_as_they_go(
    environ: dict[str, str], tmp_path: Path
) -> None:
    log = ClaudeLog()
    for _ in range(300):
        log.turn("pytest", read=20_000)
        log.user(os.urandom(1_000).hex())
    packed = gzip.compress(b"".join(log.lines))
    (tmp_path / "whole.jsonl.gz").write_bytes(packed)
    done = run(environ, "--json", str(tmp_path / "whole.jsonl.gz"))
    assert json.loads(done.stdout)["turns"]["all"] == 300
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    told = json.loads(run(environ, "--json", str(tmp_path / "cut.jsonl.gz")).stdout)
    assert 0 < told["turns"]["all"] < 300
    assert len(told["looked_at"]["unread"]) == 1


@pytest.mark.skipif(shutil.which("zstd") is None, reason="zstd is not installed")
def test_logs_packed_by_zstd_are_read(environ: dict[str, str], tmp_path: Path) -> None:
    log = CodexLog()
    log.count(100, 0)
    path = log.write(tmp_path / "logs" / "rollout-x.jsonl")
    subprocess.run(["zstd", "-q", "--rm", str(path)], check=True)
    told = json.loads(run(environ, "--json", str(path.parent)).stdout)
    assert told["turns"]["all"] == 1


def test_a_log_that_needs_a_missing_program_is_said(
    environ: dict[str, str], tmp_path: Path
) -> None:
    log = CodexLog()
    log.count(100, 0)
    path = log.write(tmp_path / "logs" / "rollout-a.jsonl")
    (path.parent / "rollout-b.jsonl.zst").write_bytes(b"x")
    done = run(environ | {"PATH": "/nowhere"}, str(path.parent))
    assert done.returncode == 0
    assert "packed by zstd, which is not installed" in " ".join(done.stdout.split())


def test_a_huge_line_costs_little_memory(environ: dict[str, str], tmp_path: Path) -> None:
    log = ClaudeLog()
    log.turn("pytest", read=20_000)
    path = log.write(tmp_path / "a.jsonl")
    with path.open("ab") as file:
        file.truncate(path.stat().st_size + 30 * LONGEST)
    with path.open("ab") as file:
        log.turn(read=21_000)
        file.write(b"\n" + b"".join(log.lines[-2:]))
    # A child is charged with what its parent held when it forked: a small one stands between.
    between = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)"
    )
    command = [sys.executable, "-m", "runner", "measure", "--json", str(path)]
    done = subprocess.run(
        [sys.executable, "-c", between, *command],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["turns"]["all"] == 2
    assert told["looked_at"]["lines_left_out"] == {"lines over 8 MB": 1}
    peak = int(done.stderr.split()[-1])
    assert peak < 150_000 * (1_000 if sys.platform == "darwin" else 1)


def test_an_interrupt_ends_it_at_once(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.truncate(200_000_000_000)  # of holes: reading it takes minutes
    # Whoever runs tests in the background has them ignore interrupts, and so do their children.
    heard = (
        "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "runpy.run_module('runner', run_name='__main__')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", heard, "measure", str(path)],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            time.sleep(1.5)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, out, err.strip()) == (130, "", "runner: interrupted")


def test_a_file_that_is_no_log_shows_no_request(environ: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(f"{CANARY}\n{{}}\n")
    done = run(environ, str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"no request found, 1 file, {path.stat().st_size} B",
        "Not counted: 1 broken lines, 1 records of other kinds.",
    ]
    assert json.loads(run(environ, "--json", str(path)).stdout)["cost_usd"] is None


@pytest.mark.parametrize("name", ["a.jsonl", "rollout-a.jsonl"])
def test_the_format_is_told_by_what_stands_in_a_log(
    environ: dict[str, str], tmp_path: Path, name: str
) -> None:
    for log in (ClaudeLog(), CodexLog()):
        log.raw(b"broken")
        if isinstance(log, ClaudeLog):
            log.user([{"type": "text", "payload": CANARY}])
            log.turn()
        else:
            log.count(100, 0)
        told = json.loads(run(environ, "--json", str(log.write(tmp_path / name))).stdout)
        assert told["turns"]["all"] == 1


def test_help_is_light() -> None:
    heavy = "genai_prices", "pydantic", "pydantic_ai", "httpx2", "rich", "jsonschema"
    code = f"import runner.cli.measure, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_models_without_a_price_add_nothing() -> None:
    session = Session("claude", "s")
    course = Course(Helper(), lambda _turn, _size: HAIKU, lambda _turn: 300.0)
    course.hear(one_turn(50_000, 49_000, "mechanical", passed=True), FREE, session)
    course.hear(one_turn(51_000, 50_000), FREE, session)
    assert (session.cost, session.undelegated, session.delegated) == (0, 1, 0)
    assert set(session.saved.values()) == {Decimal(0)}
