"""What people see: plain lines, the live tree, how a run ended, and what is looked up later."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console as RichConsole
from story import ATTEMPTS, RUN, START, failing, kept_warm, passing, responded

from runner.console import make_console
from runner.console.live import Live
from runner.console.plain import PlainConsole
from runner.console.show import render_explain, render_runs, render_show
from runner.console.stream import Quietly
from runner.console.style import (
    ASCII,
    UNICODE,
    Span,
    cells,
    count,
    duration,
    fit,
    glyphs_for,
    money,
    paint,
    share,
)
from runner.console.summary import next_steps, render_end
from runner.console.tree import TreeConsole
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    CommandOutput,
    CommandStarted,
    Continuity,
    Decided,
    Event,
    GitFact,
    ModelResponded,
    Notice,
    Restored,
    RunFinished,
    RunResumed,
    StepFinished,
    StepPlan,
    StepStarted,
    ToolCalled,
)
from runner.journal import Record, RunRow
from runner.outcome import Rung, Status, StepOutcome, Usage, Verdict
from runner.report import StepReport, summarise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(events: Sequence[Event], *, quiet: bool = False) -> str:
    stream = io.StringIO()
    console = PlainConsole(Quietly(stream), quiet=quiet, clock=Clock())
    for event in events:
        console(event)
    console.close()
    console.close()
    return stream.getvalue()


# --- figures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (0.44, "0.4s"), (9.94, "9.9s"), (9.96, "10s"), (59.4, "59s"), (59.6, "1m"),
     (125, "2m 05s"), (3599.7, "1h 00m"), (3720, "1h 02m")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(None, "$?"), ("0", "$0"), ("0.00001", "<$0.0001"), ("0.0311", "$0.0311"), ("0.5", "$0.5000"),
     ("1", "$1.00"), ("12.345", "$12.34")],
)  # fmt: skip
def test_money(usd: str | None, text: str) -> None:
    assert money(None if usd is None else Decimal(usd)) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (41_250, "41.2k"), (99_949, "99.9k"), (99_960, "100k"),
     (999_949, "1000k"), (999_950, "1.0M"), (1_340_000, "1.3M")],
)  # fmt: skip
def test_counts(number: int, text: str) -> None:
    assert count(number) == text


def test_shares_round_down() -> None:
    assert (share(999, 1000), share(1000, 1000), share(0, 0)) == ("99%", "100%", "")


@given(st.text(), st.integers(0, 30))
def test_fitted_text_is_never_too_wide(text: str, width: int) -> None:
    assert cells(fit(text, width)) <= width
    assert "\n" not in fit(text, width)


def test_wide_characters_take_two_columns() -> None:
    assert cells("日本") == 4
    assert fit("日本語", 5) == "日本…"
    assert cells("e\u0301") == 1


def test_colour_is_nothing_but_colour() -> None:
    line = (Span("a ", "bold bad"), Span("b"), Span("   ", "dim"))
    assert paint([line], color=False) == "a b\n"
    assert paint([line], color=True) == "\x1b[1;31ma \x1b[0mb\n"


def test_signs_are_those_the_stream_has() -> None:
    assert glyphs_for("utf-8") is UNICODE
    assert glyphs_for("ascii") is glyphs_for("latin-1") is glyphs_for("no such") is ASCII
    text = render_end(summarise(failing()), width=80, color=False, glyphs=ASCII)
    assert text.isascii()


# --- plain lines ------------------------------------------------------------------------------


def test_plain_lines_tell_each_change_once() -> None:
    lines = plain(failing()).split("\n\n")[0].splitlines()
    assert [line.removeprefix("[   0.0s] ") for line in lines] == [
        f"ship: run {RUN}, 3 steps, budget $1.00 and 30m (the default), scripted",
        "lint: $ ruff check .",
        "test: $ pytest -q",
        "lint: succeeded at rung command (0.4s)",
        "test: attempt 1 hard: exit 1: 1 of 9 tests fails",
        "test: attempt 2 at rung subagent: fixer on script:ship.yaml",
        "test: attempt 2 hard: the agent gave up: the rule is not here"
        " (2 requests, $0.0042, 1 file changed)",
        "test: undid the changes to 1 path",
        "test: attempt 3 at rung main: main on claude-big",
        "test: attempt 3 hard: no progress (1 request, $0.0310)",
        "test: failed at rung main (1m 35s, $0.0352): 1 of 9 tests fails",
        "commit: blocked: needs test",
    ]


def test_a_passing_run_ends_in_few_words() -> None:
    assert plain(passing()).split("\n\n", 1)[1] == (
        f"  Look  runner show {RUN}\n\n✓ ship succeeded in 0.8s\n"
    )


def test_quiet_speaks_only_of_what_went_wrong() -> None:
    assert plain(passing(), quiet=True) == ""
    told = plain(failing(), quiet=True)
    assert "[   0.0s]" not in told
    assert "✗ test  pytest -q" in told


def test_a_run_that_never_ended_is_not_summed_up() -> None:
    assert "✗ ship" not in plain(failing()[:-1])
    assert plain([]) == ""


def test_a_run_that_is_resumed_is_told_with_what_came_before() -> None:
    stream = io.StringIO()
    console = PlainConsole(Quietly(stream), clock=Clock())
    events = failing()
    at = events.index(next(one for one in events if isinstance(one, StepFinished))) + 1
    console.continued((event, 0.0) for event in [*events[:at], RunFinished(130, "cancelled", 1.0)])
    for event in (RunResumed(2, 1.0), *events[at:]):
        console(event)
    console.close()
    said = stream.getvalue()
    assert said.startswith(f"[   0.0s] ship: run {RUN} goes on, 1 of 3 steps done before\n")
    assert "lint: $" not in said  # it was said then
    assert said.endswith(plain(events).partition("\n\n")[2])


def test_what_is_silent_for_long_is_named_again() -> None:
    stream = io.StringIO()
    console = PlainConsole(Quietly(stream), heartbeat=0.1)
    for event in (START, StepStarted("test"), CommandOutput("test", "collected\x1b[2J 9")):
        console(event)
    end = time.monotonic() + 5
    while stream.getvalue().count("still running") < 2 and time.monotonic() < end:
        time.sleep(0.02)
    console(StepFinished(StepOutcome("test", Status.SUCCEEDED)))
    console.close()
    said = [line for line in stream.getvalue().splitlines() if "still running" in line]
    assert len(said) >= 2
    assert re.fullmatch(r"\[ +0\.\ds\] test: still running after 0\.\ds: collected 9", said[0])


# --- how it ended -----------------------------------------------------------------------------

END_80 = """
  ✓ lint    command                                               0.4s
  ✗ test    main      1 of 9 tests fails (3 attempts)           1m 35s   $0.0352
  - commit            needs test

✗ test  pytest -q
  1 of 9 tests fails
  │ … 6 lines above left out
  │ noise 6
  │ noise 7
  │ noise 8
  │ noise 9
  │ noise 10
  │ noise 11
  │ noise 12
  │ noise 13
  │ noise 14
  │ noise 15
  │ noise 16
  │ noise 17
  │ noise 18
  │ noise 19
  │ FAILED tests/a.py::t
  Tried
     1 command                     hard    3.1s
       exit 1: 1 of 9 tests fails
     2 subagent  script:ship.yaml  hard     12s  $0.0042
       the agent gave up: the rule is not here
     3 main      claude-big        hard  1m 15s  $0.0310
       no progress
  Next
    Whole output: runner log 20261121-174530-3f9a test
    Why it went so: runner explain 20261121-174530-3f9a test

  rung       steps   attempts   requests   tokens in   cached   out      cost
  command        1          1
  subagent       0          1          1       41.2k      62%   512   $0.0042
  main           1          1          1       41.2k      62%   512   $0.0310

  ! test: left as they are, changed by others since: notes.txt

  Cost  $0.0352 of $1.00 (the default), 96% left; $0.0042 of it scripted
  Look  runner show 20261121-174530-3f9a
  Page  runner report 20261121-174530-3f9a

✗ ship failed after 1m 36s: a step failed (exit 1)  [scripted]
"""


def end(events: Sequence[Event], width: int = 80) -> str:
    return render_end(summarise(events), width=width, color=False, glyphs=UNICODE)


def test_the_end_of_a_failed_run_at_80_columns() -> None:
    assert end(failing()) == END_80


def test_with_room_the_reasons_stand_beside_the_attempts() -> None:
    assert (
        "     2 subagent  script:ship.yaml  hard     12s  $0.0042"
        "  the agent gave up: the rule is not here\n"
    ) in end(failing(), 160)


def test_no_line_but_the_outputs_own_is_too_wide() -> None:
    for width in (60, 80, 100, 160):
        lines = end(failing(), width).splitlines()
        assert all(cells(line) <= max(width, 76) for line in lines if "│" not in line)


def advice(**facts: object) -> list[str]:
    step = StepReport("test", "run", "pytest", "failed")
    return next_steps(replace(step, **facts), summarise([START]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "where", "text"),
    [
        ("/r/workflow.yaml", "", "--fix test"),
        ("/r/.runner/workflow.yaml", "", "--fix test"),
        ("/r/ci/a.yaml", "", "--fix test ci/a.yaml"),
        ("/x/a.yaml", " -C /r --state-dir /s", "--fix test /x/a.yaml -C /r --state-dir /s"),
    ],
)
def test_commands_work_as_they_are_named(file: str, where: str, text: str) -> None:
    report = summarise([replace(START, file=file), RunFinished(1, "failed", 1.0)])
    step = StepReport("ci/test", "run", "pytest", "failed", log="/s/log")
    assert next_steps(step, report, where=where) == [
        f"No model was asked: this step has no fix. Try: runner exec {text}",
        f"Whole output: runner log {RUN} ci/test{where}",
    ]
    ended = render_end(report, width=80, color=False, glyphs=UNICODE, where=where)
    assert f"Look  runner show {RUN}{where}\n" in ended


def test_a_failed_run_names_its_trace_and_a_passing_one_only_where_to_look() -> None:
    start = replace(START, trace_file="/s/trace.otlp.jsonl")
    report = summarise([start, *failing()[1:]])
    assert report.trace is not None
    said = render_end(report, width=80, color=False, glyphs=UNICODE)
    assert f"  Trace  {report.trace.id}  runner trace {RUN}\n" in said
    passed = summarise([replace(passing()[0], trace_file="/s/t"), *passing()[1:]])
    assert "Trace" not in render_end(passed, width=80, color=False, glyphs=UNICODE)


@pytest.mark.parametrize(("lines", "first"), [(20, "line 1"), (21, "… 6 lines above left out")])
def test_no_few_lines_of_output_are_left_out(lines: int, first: str) -> None:
    tail = "".join(f"line {number}\n" for number in range(1, lines + 1))
    outcome = StepOutcome("a", Status.FAILED, Rung.COMMAND, "exit 1", tail=tail)
    assert f"  exit 1\n  │ {first}\n" in end([START, StepFinished(outcome)])


def test_a_reason_is_no_advice() -> None:
    why = "2 packets used up"
    same = StepReport("a", "prompt", "", "failed", reason=why, hint=why)
    assert next_steps(same, summarise([START])) == [f"See: runner show {RUN}"]


def test_what_to_do_next() -> None:
    unasked = "No model was asked: this step has no fix. Try: runner exec --fix test"
    log = f"Whole output: runner log {RUN} test"
    why = f"Why it went so: runner explain {RUN} test"
    denied = replace(ATTEMPTS[0], verdict=Verdict.DENIED)
    assert advice() == [unasked]
    assert advice(log="/s/log", attempts=ATTEMPTS[:1]) == [unasked, log]
    assert advice(hint="Set KEY.\n  Or X=1.", log="/s/log") == ["Set KEY.", "Or X=1.", log]
    assert advice(log="/s/log", attempts=ATTEMPTS) == [log, why]
    assert advice(kind="push") == advice(attempts=(denied,)) == [f"See: runner show {RUN}"]


def test_of_many_steps_only_the_remarkable_have_a_row() -> None:
    outcomes = [StepOutcome(f"s{n}", Status.SUCCEEDED, Rung.COMMAND) for n in range(100)]
    events = [*failing()[:-1], *map(StepFinished, outcomes), RunFinished(1, "failed", 1.0)]
    text = end(events)
    assert "  ✓ 101 steps succeeded at rung command\n" in text
    assert "  ✗ test" in text
    assert "s42" not in text


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        (0, "succeeded", "✓ ship succeeded in 2.0s"),
        (3, "failed", "give it more: --budget USD"),
        (6, "failed", "check the model's key"),
        (7, "succeeded", "changed and in no commit: a.py, b.py"),
        (7, "succeeded", "--allow-uncommitted"),
        (7, "succeeded", "■ ship succeeded after 2.0s: every step passed, but only after"),
        (130, "cancelled", "■ ship cancelled after 2.0s: interrupted (exit 130)"),
    ],
)
def test_what_an_exit_code_means_is_said(code: int, status: str, text: str) -> None:
    last = RunFinished(code, status, 2.0, uncommitted=("a.py", "b.py"))  # type: ignore[arg-type]
    assert text in end([START, last])


def test_models_that_never_answered_cost_nothing_but_were_asked() -> None:
    tried = [one for one in failing() if not isinstance(one, ModelResponded)]
    assert "Cost  no tokens: no model answered\n" in end(tried)


UNKNOWN = replace(responded(3, "main", "0"), cost_usd=None)


@pytest.mark.parametrize(
    ("responses", "text"),
    [
        ([], "Cost  no tokens: no model was asked"),
        ([responded(3, "main", "0.5")], "Cost  $0.5000 of $1.00 (the default), 50% left\n"),
        ([responded(2, "cheap", "0.5")], "(the default), 50% left, scripted: nothing was paid"),
        ([UNKNOWN], "Cost  unknown of $1.00 (the default); a price is not known\n"),
        ([UNKNOWN, responded(3, "main", "0.3")], "Cost  at least $0.3000 of $1.00"),
        ([UNKNOWN, responded(3, "main", "0.3")], "  at least $0.3000\n"),
        ([kept_warm()], "Cost  $0.0083 of $1.00 (the default), 99% left\n"),
    ],
)
def test_what_it_cost_is_said(responses: list[Event], text: str) -> None:
    assert text in end([START, *responses, RunFinished(0, "succeeded", 1.0)])


BROKEN = responded(3, "main", "0", "tools[1]: changed (310 bytes became 322)")


def test_a_lost_cache_is_said_loudly_with_what_to_do() -> None:
    events = [START, *[BROKEN] * 5, RunFinished(0, "succeeded", 1.0)]
    report = summarise(events)
    text = render_end(report, width=80, color=True, glyphs=UNICODE, where=" -C /r")
    red = "\x1b[1;31m  ✗ the main conversation's prompt cache was lost at test: tools[1]: changed"
    assert text.count(red) == 3
    assert "✗ and 2 times more" in text
    assert f"\x1b[31m    runner show {RUN} --prefix -C /r\x1b[0m\n" in text
    assert plain(events).count("] test: the main conversation's prompt cache was lost: tools") == 5
    # Quiet is for what is as it should be.
    assert "This is a defect of runner. Please report it" in plain(events, quiet=True)


def test_money_used_up_is_told_with_where_it_went() -> None:
    why = "not asked: needs up to $0.8000, $0.5000 left"
    failed = StepFinished(StepOutcome("test", Status.FAILED, Rung.MAIN, why, exit_code=3))
    money = [START, responded(3, "main", "0.5"), failed, RunFinished(3, "failed", 2.0)]
    assert why in " ".join(end(money).split())
    assert "Next  give it more: --budget USD" in end(money)
    lacked = "The next request of main needs up to $0.8000 (its worst case); of $1.0000, ..."
    told = replace(money[-1], lacked=lacked, advice="runner exec --budget 1.30 or more")
    other = replace(START, file=f"{START.root}/ci/a.yaml")
    text = end([other, *money[1:-1], told])
    assert f"Short {lacked} " in " ".join(text.split())
    assert "Next   runner exec ci/a.yaml --budget 1.30 or more\n" in text
    assert f"Look  runner show {RUN} --cost\n" in end(money)
    late = [START, RunFinished(3, "failed", 1800.2)]
    assert "Next  give it more time: `budget: { time: ... }`" in end(late)


def test_what_is_allowed_to_fail_does_not_look_like_a_failed_run() -> None:
    plans = (StepPlan("test", "run", "pytest", ()), StepPlan("lint", "run", "ruff", ()))
    start = replace(START, steps=plans, may_fail=("test",), models={}, scripted=False)
    failed = StepOutcome(
        "test", Status.FAILED, Rung.COMMAND, "exit 1", attempts=ATTEMPTS[:1], exit_code=1, tail="E"
    )
    events = [start, StepStarted("test"), StepFinished(failed), RunFinished(0, "succeeded", 1.0)]
    text = render_end(summarise(events), width=80, color=True, glyphs=UNICODE)
    assert "31m" not in text.replace("\x1b[31mhard", "")
    assert "\x1b[33m  ! \x1b[0m\x1b[1mtest" in text
    assert "exit 1 (may fail)" in text
    assert "\x1b[1;33m! test\x1b[0m" in text
    assert "allow_failure: the run does not fail for it" in text
    assert "test: failed at rung command (0.0s): exit 1 (it may fail)" in plain(events)
    assert "  ! test" in frame(events[:-1])
    # Another one is red as ever.
    red = StepFinished(replace(failed, id="lint"))
    assert "\x1b[1;31m✗ lint" in render_end(
        summarise([*events[:-1], red, RunFinished(1, "failed", 1.0)]),
        width=80, color=True, glyphs=UNICODE,
    )  # fmt: skip


def test_commit_and_push_are_said() -> None:
    sha = "abcdef0123456789"
    pushed = GitFact("push", "push", {"sha": sha, "ref": "refs/heads/x", "remote": "origin"})
    text = end([START, pushed, RunFinished(0, "succeeded", 1.0, sha, "main", sha)])
    assert "Git   commit abcdef0123 on main, pushed to origin x\n" in text


# Without what `text.clean` is tested for itself, every part of an event may be hostile.
NASTY = "\x1b]0;title\x07\x1b[2J\x9b1m\rx\u202e\x00\u200b\ud83d\n"


def test_nothing_from_outside_acts_on_the_terminal() -> None:
    attempt = replace(ATTEMPTS[1], reason=NASTY, model=NASTY, files=(NASTY,))
    outcome = StepOutcome(
        "test", Status.FAILED, Rung.MAIN, NASTY, attempts=(attempt,), tail=NASTY * 3, hint=NASTY,
        log=NASTY,
    )  # fmt: skip
    plans = (StepPlan("test", "run", NASTY, ()), StepPlan("commit", "commit", NASTY, ()))
    start = replace(START, workflow=NASTY, branch=NASTY, root=NASTY, steps=plans)
    events: list[Event] = [
        start,
        Notice(NASTY, "test"),
        StepStarted("test"),
        CommandStarted("test", "run", NASTY),
        CommandOutput("test", NASTY),
        AttemptStarted("test", 1, Rung.SUBAGENT, NASTY, NASTY),
        ToolCalled("test", NASTY, NASTY),
        Decided("test", NASTY, NASTY, {NASTY: NASTY}),
        CommandFinished("test", "run", NASTY, 1, False, 1.0, 1, ""),
        AttemptFinished("test", attempt),
        Restored("test", "t", (NASTY,), (NASTY,)),
        StepFinished(outcome),
        RunFinished(7, "succeeded", 1.0, NASTY, NASTY, NASTY, (NASTY,)),
    ]
    report = summarise(events)
    live = Live()
    shown = [plain(events), render_show(report)]
    for event in events[:-1]:
        live.add(event)
        shown.append(paint(live.lines(width=80, height=24, glyphs=UNICODE), color=False))
    records = [Record(n, float(n), event) for n, event in enumerate(events)]
    row = RunRow(RUN, NASTY, NASTY, "failed", 1, 0.0, 1.0, None, False, NASTY, 1)
    shown += [render_explain(records), render_runs([row], now=2.0)]
    for text in shown:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u202e\ud800-\udfff]", text)


# --- the live tree ----------------------------------------------------------------------------


def frame(events: Sequence[Event], width: int = 80, height: int = 24, at: float = 2.0) -> str:
    clock = Clock()
    live = Live(clock)
    for event in events:
        live.add(event)
    clock.now = at
    lines = live.lines(width=width, height=height, glyphs=UNICODE)
    assert len(lines) <= height
    text = paint(lines, color=False)
    assert all(cells(line) <= width for line in text.splitlines())
    return text


def test_the_tree_while_a_command_and_while_a_model_works() -> None:
    assert frame(failing()[:7], 79) == (
        f"ship  {RUN}  budget $1.00 and 30m (the default)  [scripted]\n"
        "  ⠋ lint              $ ruff check .                                       2.0s\n"
        "  ⠋ test    command   collected 9 items                                    2.0s\n"
        "  · commit            commit by rule\n"
        "\n"
        "  2.0s  ·  0 done, 2 running, 1 waiting\n"
    )
    assert frame(failing()[:13], 110) == (
        f"ship  {RUN}  budget $1.00 and 30m (the default)  [scripted]\n"
        "  ✓ lint    command                                                   "
        "                          0.4s\n"
        "  ⠋ test    subagent  #2 script:ship.yaml: edit_file a.py             "
        "                          2.0s   $0.0042\n"
        "  · commit            commit by rule\n"
        "\n"
        "  2.0s  ·  1 done, 1 running, 1 waiting  ·  $0.0042 of $1.00  ·  41.2k in (62% cached)"
        "  ·  512 out\n"
    )


def test_the_tree_of_a_resumed_run_stands_as_it_was_left() -> None:
    cut = [
        *failing()[:7],
        StepFinished(StepOutcome("lint", Status.SUCCEEDED, Rung.COMMAND, seconds=0.4)),
        StepFinished(StepOutcome("commit", Status.CANCELLED, reason="interrupted")),
        RunFinished(130, "cancelled", 1.0),
        RunResumed(2, 9.0),
    ]
    assert frame(cut, 79) == (
        f"ship  {RUN}  budget $1.00 and 30m (the default)  [scripted]\n"
        "  ✓ lint    command                                                        0.4s\n"
        "  · test              pytest -q\n"
        "  · commit            commit by rule\n"
        "\n"
        "  2.0s  ·  1 done, 0 running, 2 waiting\n"
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "$1.00 and 30m (the default)"),
        ({"budget_given": True}, "$1.00 and 30m"),
        ({"budget_default": ("usd",), "budget_seconds": 2.0}, "$1.00 (the default) and 2.0s"),
        ({"budget_default": ("time",)}, "$1.00 and 30m (the default)"),
        (
            {"budget_default": ("usd", "time"), "budget_tokens": 90_000},
            "$1.00, 90.0k tokens and 30m (the default)",
        ),
        ({"budget_default": (), "budget_usd": None, "budget_tokens": 900}, "900 tokens and 30m"),
    ],
)
def test_each_ceiling_and_what_nobody_gave_is_named(changed: dict[str, Any], said: str) -> None:
    start = replace(START, **changed)
    assert f", budget {said}, scripted\n" in plain([start])
    assert f"  budget {said}  [scripted]\n" in frame([start], 110)


def test_a_keep_alive_is_paid_for_no_step() -> None:
    text = frame([*failing()[:13], kept_warm()], 110)
    assert text.splitlines()[:-1] == frame(failing()[:13], 110).splitlines()[:-1]
    assert "  $0.0125 of $1.00  ·  83.0k in (80% cached)" in text
    assert "  ·  1 keep-alive $0.0083\n" in frame([*failing()[:13], kept_warm()], 130)
    events = [*failing()[:-1], kept_warm(), failing()[-1]]
    assert "s] keep-alive of main: 41.2k cached, $0.0083\n" in plain(events)
    assert re.search(r"\n  · keep-alive +1 +41\.8k +98% +1 +\$0\.0083\n", end(events))
    assert "keepalive" not in render_show(summarise(events))


EXPIRED = "expired: 400 s after a request that is kept for 300 s"


@pytest.mark.parametrize(
    ("read", "expected", "why", "said"),
    [
        (41_200, 41_200, "", ""),
        (45_000, 41_200, "3800 more than promised", ""),
        (0, 0, "too short: 12 of 1024 tokens", ""),
        (0, None, "", ""),
        (
            1_200,
            41_200,
            "missed",
            "40,000 cached tokens of main had to be paid anew, at test: missed",
        ),
        # What had been read and written is what an expired entry held.
        (0, 0, EXPIRED, f"25,700 cached tokens of main had to be paid anew, at test: {EXPIRED}"),
    ],
)
def test_a_cache_that_was_not_read_is_told_at_the_end(
    read: int, expected: int | None, why: str, said: str
) -> None:
    first = responded(3, "main", "0.1")
    how = Continuity("extends", 14, 9_768, "8c04bdd6e7cc6ae0", expected, why)
    later = replace(first, usage=Usage(1, 50_000, read, 0, 0, 9), continuity=how)
    text = end([START, first, later, RunFinished(0, "succeeded", 1.0)])
    assert (f"  ! {said}\n" in text) if said else ("paid anew" not in text)
    if said:
        twice = end([START, first, later, first, later, RunFinished(0, "succeeded", 1.0)])
        missed = int(said.split(" ")[0].replace(",", ""))
        assert f"  ! {2 * missed:,} cached tokens" in twice
        assert "at test and 1 time more: " in twice


def test_the_sign_of_what_runs_turns() -> None:
    signs = {frame(failing()[:7], at=2 + n / 10).split("test")[0][-2] for n in range(10)}
    assert len(signs) == 10


def many(done: int, running: int, waiting: int) -> list[Event]:
    names = [f"s{n:02}" for n in range(done + running + waiting)]
    plans = tuple(StepPlan(name, "run", f"make {name}", ()) for name in names)
    events: list[Event] = [replace(START, steps=plans)]
    events += [StepStarted(name) for name in names[: done + running]]
    outcomes = [StepOutcome(name, Status.SUCCEEDED) for name in names[:done]]
    return [*events, *map(StepFinished, outcomes)]


def test_what_does_not_fit_is_folded() -> None:
    rows = [line[2:].rstrip() for line in frame(many(30, 2, 30), height=12).splitlines()[1:-2]]
    assert rows[0] == "✓ 30 done"
    assert [row.split()[1] for row in rows[1:3]] == ["s30", "s31"]
    assert rows[-1].startswith("· 25 waiting")
    assert len(rows) == 9


def test_where_a_model_works_is_folded_last() -> None:
    costly = AttemptStarted("s38", 2, Rung.MAIN, "main")
    text = frame([*many(0, 40, 0), costly], height=10)
    assert "s38" in text
    assert re.search(r"34 more running", text)


@settings(max_examples=60)
@given(st.data())
def test_a_frame_always_fits(data: st.DataObject) -> None:
    names = data.draw(
        st.lists(st.text("aé日_-", min_size=1, max_size=40), unique=True, max_size=30)
    )
    events: list[Event] = [
        replace(START, steps=tuple(StepPlan(name, "run", name * 3, ()) for name in names))
    ]
    for name in names:
        status = data.draw(st.sampled_from([None, *Status]))
        cost = data.draw(st.sampled_from([None, Decimal(0), Decimal("0.01")]))
        events.append(StepStarted(name))
        events.append(replace(responded(1, "cheap", "1"), step=name, cost_usd=cost))
        if status is not None:
            events.append(StepFinished(StepOutcome(name, status, reason=name * 4, seconds=5)))
    frame(events, data.draw(st.integers(50, 200)), data.draw(st.integers(5, 50)))


def test_the_tree_is_drawn_as_laid_out() -> None:
    console = TreeConsole(Quietly(io.StringIO()))
    recorder = RichConsole(width=80, height=24, record=True, file=io.StringIO())
    for event in failing()[1:13]:
        console(event)
    recorder.print(console.frame())
    assert re.search(r"✓ lint +command", recorder.export_text())


PLAY = """
import sys, time
sys.path.insert(0, sys.argv[1])
from story import failing
from runner.console import make_console
console = make_console(sys.stderr)
for event in failing():
    console(event)
    time.sleep(0.03)
console.close()
"""


def at_terminal(environ: Mapping[str, str], columns: int = 80) -> str:
    """Play the failing run at a real terminal, and return all that was written to it."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    here = str(Path(__file__).parent)
    base = {name: value for name, value in os.environ.items() if name not in _DECIDING}
    command = [sys.executable, "-c", PLAY, here]
    written = b""
    with subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, env={**base, **environ}
    ) as process:
        os.close(follower)
        while select.select([leader], [], [], 20)[0]:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # Linux's way to say that nobody holds the other end
                break
            if not piece:
                break
            written += piece
        assert process.wait() == 0
    os.close(leader)
    return written.decode()


_DECIDING = {"CI", "TERM", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "LC_ALL", "LANG"}
UTF8 = {"PYTHONIOENCODING": "utf-8"}


def test_at_a_real_terminal_a_tree_is_drawn_and_the_end_replaces_it() -> None:
    text = at_terminal({"TERM": "xterm-256color", **UTF8})
    assert "\x1b[?1049" not in text  # no alternate screen
    assert text.index("\x1b[?25h") < text.index("1 done")  # the cursor is there all the time
    assert "running," in text
    assert "\x1b[31m" in text
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.rpartition("\x1b[2K")[2]).replace(
        "\r\n", "\n"
    )
    assert last == END_80


def test_in_ci_there_are_lines_even_at_a_terminal() -> None:
    text = at_terminal({"TERM": "xterm", "CI": "true", **UTF8})
    assert "\x1b[2K" not in text
    assert "] " in text.splitlines()[0]


def test_no_color_is_honoured_in_tree_and_end() -> None:
    text = at_terminal({"TERM": "xterm-256color", "NO_COLOR": "1", **UTF8})
    assert "\x1b[2K" in text  # it is a tree
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", text)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    text = at_terminal({"TERM": "xterm", "PYTHONIOENCODING": "ascii"})
    assert text.isascii()
    assert "FAIL test" in text


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environ", "tree"),
    [
        (Terminal, {"TERM": "xterm"}, True),
        (Terminal, {"TERM": "xterm", "CI": "false"}, True),
        (Terminal, {"TERM": "xterm", "CI": "1"}, False),
        (Terminal, {"TERM": "xterm", "NO_COLOR": "1"}, True),
        (Terminal, {"TERM": "dumb"}, False),
        (Terminal, {}, False),
        (io.StringIO, {"TERM": "xterm"}, False),
        (io.StringIO, {"TERM": "xterm", "FORCE_COLOR": "1"}, False),
    ],
)
def test_who_gets_a_tree(
    stream: Callable[[], io.StringIO], environ: dict[str, str], *, tree: bool
) -> None:
    assert isinstance(make_console(stream(), environ=environ), TreeConsole) == tree
    for progress in ("quiet", "plain"):
        console = make_console(stream(), environ=environ, progress=progress)
        assert isinstance(console, PlainConsole)
    # Asked for, it is drawn in CI, too; not where its signs would be garbage.
    able = isinstance(stream(), Terminal) and environ.get("TERM", "dumb") != "dumb"
    console = make_console(stream(), environ=environ, progress="tree")
    assert isinstance(console, TreeConsole) == able


@pytest.mark.parametrize(
    ("environ", "color"),
    [({}, False), ({"FORCE_COLOR": "1"}, True), ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False)],
)
def test_lines_are_coloured_where_asked(environ: dict[str, str], *, color: bool) -> None:
    stream = io.StringIO()
    console = make_console(stream, environ=environ)
    for event in failing():
        console(event)
    console.close()
    assert ("\x1b[" in stream.getvalue()) == color


@pytest.mark.parametrize("interactive", [True, False])
def test_a_stream_that_is_gone_stops_nothing(*, interactive: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = open(writer, "w", encoding="utf-8", buffering=1)  # noqa: SIM115, PTH123  closed below, by descriptor
    console = TreeConsole(Quietly(stream)) if interactive else make_console(stream, environ={})
    for event in failing():
        console(event)
    console.close()
    with pytest.raises(BrokenPipeError):
        stream.close()


# --- looked up later --------------------------------------------------------------------------


def test_show_has_everything() -> None:
    text = render_show(summarise(failing()), width=80)
    for part in (
        f"Run      {RUN} of ship\n",
        "In       /r\n",
        "Models   main anthropic:claude-big, cheap script:/tmp/x/ship.yaml\n",
        "✗ test  pytest -q\n",
        "the agent gave up: the rule is not here",
        "│ FAILED tests/a.py::t",
        "subagent       0          1          1",
        "✗ ship failed after 1m 36s: a step failed (exit 1)  [scripted]\n",
    ):
        assert part in text
    assert not text.startswith("\n")


def test_show_of_a_run_that_is_going_on_and_of_a_killed_one() -> None:
    going = render_show(summarise(failing()[:13], until=1012.0))
    assert going.endswith("⠋ ship running after 12s  [scripted]\n")
    killed = render_show(summarise(failing()[:13], alive=False, until=1012.0))
    assert "■ test" in killed
    assert killed.endswith(
        f"\n  Then  runner resume {RUN}\n\n■ ship killed after 12s  [scripted]\n"
    )


def test_the_list_of_runs() -> None:
    row = RunRow(RUN, "/r", "ship", "failed", 1, 1000.0, 1096.0, Decimal("0.0352"), True, "h", 7)
    rows = [
        replace(row, id="20261121-174531-aaaa", status="running", exit_code=None, scripted=False,
                started_at=2000.0, cost_usd=Decimal(0)),
        row,
        replace(row, id="20261121-174529-bbbb", status="killed", exit_code=None, cost_usd=None),
    ]  # fmt: skip
    assert render_runs(rows, now=2030.0) == (
        "⠋ 20261121-174531-aaaa  ship  running                  just now      30s\n"
        "✗ 20261121-174530-3f9a  ship  failed     exit 1    17 minutes ago   1m 36s"
        "  $0.0352 scripted\n"
        "■ 20261121-174529-bbbb  ship  killed               17 minutes ago   1m 36s"
        "  $? scripted  resumable\n"
    )
    assert "runner exec" in render_runs([], now=0.0)


def test_explain_tells_what_was_decided_and_on_which_facts() -> None:
    records = [Record(n, 100.0 + n, event) for n, event in enumerate(failing(), start=1)]
    text = render_explain(records, "test")
    assert text.startswith("test\n     4.0s  attempt 1 at rung command\n")
    assert "    15s  decided: escalate, for the agent gave up\n             packets = 1\n" in text
    assert "     8.0s  run: exit 1 after 3.1s $ pytest -q\n" in text
    assert "lint" not in text
    assert "\nlint\n" in "\n" + render_explain(records)
    assert render_explain(records, "nope") == "Nothing was decided for step nope.\n"
