"""The report: what the events come to, its JSON, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from functools import partial, reduce
from itertools import chain, combinations, product
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from story import PRICES, failing, kept_warm

from runner.errors import RunFailed
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    Continuity,
    Event,
    GitFact,
    ModelResponded,
    Notice,
    Restored,
    RunFinished,
    RunResumed,
    RunStarted,
    StepFinished,
    StepPlan,
    StepStarted,
)
from runner.outcome import Attempt, Rung, Status, StepOutcome, Usage, Verdict
from runner.report import (
    Break,
    Tally,
    Total,
    exact,
    exit_code,
    ledger_json,
    meaning,
    prefix_json,
    summarise,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# --- exit code --------------------------------------------------------------------------------

CODES = (1, 3, 4, 5, 6)
EVERY_SET = list(chain.from_iterable(combinations(CODES, n) for n in range(len(CODES) + 1)))


def asking(codes: Iterable[int]) -> list[StepOutcome]:
    return [StepOutcome(f"s{code}", Status.FAILED, exit_code=code) for code in (0, *codes)]


def expected(codes: Iterable[int], signal: int | None, *, dirty: bool, allowed: bool) -> int:
    """DESIGN section 3, read aloud: the first that applies of 130/143, 6, 3, 5, 4, 1, 7."""
    applies = {*codes, *({128 + signal} if signal else ()), *({7} if dirty and not allowed else ())}
    return next((code for code in (130, 143, 6, 3, 5, 4, 1, 7) if code in applies), 0)


@pytest.mark.parametrize("signal", [None, 2, 15])
@pytest.mark.parametrize(("dirty", "allowed"), list(product([False, True], repeat=2)))
def test_the_exit_code_over_all_combinations(
    signal: int | None, *, dirty: bool, allowed: bool
) -> None:
    for codes in EVERY_SET:
        want = expected(codes, signal, dirty=dirty, allowed=allowed)
        paths = ("a.py",) if dirty else ()
        decide = partial(
            exit_code, interrupted=signal, uncommitted=paths, allow_uncommitted=allowed
        )
        assert decide(asking(codes)) == want
        assert decide(reversed(asking(codes))) == want
        assert decide((), run_codes=codes) == want


def test_a_code_that_nobody_foresaw_is_never_green() -> None:
    assert exit_code(asking([9])) == 1
    assert exit_code(asking([9, 4])) == 4


def test_every_exit_code_has_a_meaning() -> None:
    texts = [meaning(code) for code in (None, 0, 1, 2, 3, 4, 5, 6, 7, 130, 143)]
    assert len(set(texts)) == len(texts)
    assert meaning(129) == "ended by signal 1"


# --- the fold ---------------------------------------------------------------------------------

STEPS = (
    StepPlan("lint", "run", "ruff check .", ()),
    StepPlan("test", "run", "pytest -q", ("lint",)),
    StepPlan("commit", "commit", "commit", ("test",)),
)
START = RunStarted(
    run_id="20261121-174530-3f9a", workflow="ship", file="workflow.yaml", root="/r", state_dir="/s",
    models={"main": "a:big", "cheap": "a:small"}, budget_usd=Decimal(2), budget_seconds=60.0,
    budget_given=True, scripted=False, sandbox="none", git_before="c0", branch="main", steps=STEPS,
    started_at=1000.0,
)  # fmt: skip
FIRST = Attempt(1, Rung.COMMAND, None, Verdict.HARD, "exit 1", seconds=1.0)
MENDED = Attempt(
    2, Rung.SUBAGENT, "cheap", Verdict.PASSED, "passes", 2, Decimal("0.003"), 4.0, ("a",)
)


def responded(
    cost: str | None, *, role: str = "cheap", how: str = "", scripted: bool = False
) -> ModelResponded:
    usage = Usage(1, 1000, 600, 100, 40, 50)
    money = None if cost is None else Decimal(cost)
    number = 3 if role == "main" else 2
    return ModelResponded(
        "test", number, role, f"a:{role}", "x", usage, money, 1.0, f"c-{role}",
        continuity=Continuity(how, 3, 99, "ab", 600) if how else None, scripted=scripted,
    )  # fmt: skip


def story() -> list[Event]:
    """A run of three steps: one passes, one is mended by a subagent, one commits."""
    outcomes = [
        StepOutcome("lint", Status.SUCCEEDED, Rung.COMMAND, verified=True, seconds=0.51239),
        StepOutcome(
            "test", Status.SUCCEEDED, Rung.SUBAGENT, "mended", verified=True, seconds=5.0,
            cost_usd=Decimal("0.003"), outputs={"n": 1}, log="/s/log", attempts=(FIRST, MENDED),
        ),
        StepOutcome("commit", Status.SUCCEEDED, Rung.COMMAND),
    ]  # fmt: skip
    return [
        START,
        StepStarted("lint"),
        StepFinished(outcomes[0]),
        StepStarted("test"),
        AttemptStarted("test", 1, Rung.COMMAND, None),
        AttemptFinished("test", FIRST),
        AttemptStarted("test", 2, Rung.SUBAGENT, "cheap", "fixer"),
        responded("0.001"),
        responded("0.002"),
        AttemptFinished("test", MENDED),
        StepFinished(outcomes[1]),
        StepStarted("commit"),
        GitFact("commit", "commit", {"sha": "c1", "branch": "main"}),
        StepFinished(outcomes[2]),
        RunFinished(0, "succeeded", 7.25, "c1", "main", "c1"),
    ]


def test_the_report_as_json_is_the_published_form_key_for_key() -> None:
    none = {
        "requests": 0, "input_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0,
        "cache_write_1h_tokens": 0, "output_tokens": 0, "cost_usd": 0.0,
    }  # fmt: skip
    used = {
        "id": "a:cheap", "requests": 2, "input_tokens": 2000, "cache_read_tokens": 1200,
        "cache_write_tokens": 200, "cache_write_1h_tokens": 80, "output_tokens": 100,
        "cost_usd": 0.003,
    }  # fmt: skip
    assert to_json(summarise(story())) == {
        "schema": 1, "run_id": "20261121-174530-3f9a", "workflow": "ship", "status": "succeeded",
        "exit_code": 0, "seconds": 7.25, "cost_usd": 0.003,
        "baseline": {"inline_usd": None, "switch_usd": None, "estimated": True}, "scripted": False,
        "replayed": False,
        "git": {"before": "c0", "after": "c1", "branch": "main", "remote_ref": "c1"},
        "sandbox": "none", "state_dir": "/s", "trace": None,
        "models": {"main": {"id": "a:big", **none}, "cheap": used},
        "prefix": {"requests": 0, "conversations": 0, "unbroken": True, "breaks": []},
        "prices": None,
        "steps": [
            {
                "id": "lint", "status": "succeeded", "rung": "command", "reason": "",
                "verified": True, "seconds": 0.512, "cost_usd": 0.0, "outputs": {}, "log": "",
                "attempts": [],
            },
            {
                "id": "test", "status": "succeeded", "rung": "subagent", "reason": "mended",
                "verified": True, "seconds": 5.0, "cost_usd": 0.003, "outputs": {"n": 1},
                "log": "/s/log",
                "attempts": [
                    {
                        "rung": "command", "model": None, "verdict": "hard", "reason": "exit 1",
                        "requests": 0, "cost_usd": 0.0, "seconds": 1.0, "files": [],
                    },
                    {
                        "rung": "subagent", "model": "cheap", "verdict": "passed",
                        "reason": "passes", "requests": 2, "cost_usd": 0.003, "seconds": 4.0,
                        "files": ["a"],
                    },
                ],
            },
            {
                "id": "commit", "status": "succeeded", "rung": "command", "reason": "",
                "verified": False, "seconds": 0.0, "cost_usd": 0.0, "outputs": {}, "log": "",
                "attempts": [],
            },
        ],
    }  # fmt: skip


def test_totals_by_rung() -> None:
    command, subagent, main = summarise(story()).rungs
    assert (command.rung, command.steps, command.attempts) == (Rung.COMMAND, 2, 1)
    assert (subagent.steps, subagent.attempts, subagent.cost_usd) == (1, 1, Decimal("0.003"))
    assert subagent.usage.requests == 2
    assert (main.steps, main.attempts, main.usage) == (0, 0, Usage())


def test_an_unknown_price_is_not_zero() -> None:
    report = summarise([*story()[:8], responded(None), *story()[9:]])
    assert report.cost_usd is None
    assert report.models["cheap"].cost_usd is None
    assert report.models["main"].cost_usd == 0
    assert report.known_cost_usd == Decimal("0.001")
    assert to_json(report)["cost_usd"] is None


def test_any_scripted_answer_marks_the_run() -> None:
    events = story()
    events[7] = responded("0.001", scripted=True)
    report = summarise(events)
    assert report.scripted
    assert (report.scripted_usd, report.cost_usd) == (Decimal("0.001"), Decimal("0.003"))


def test_breaks_of_the_main_conversations_prefix_are_counted_and_named() -> None:
    turns = [
        AttemptStarted("test", 3, Rung.MAIN, "main"),
        *(responded("0", role="main", how=how) for how in ("first", "extends", "tools[2]")),
    ]
    report = summarise([START, *turns, replace(kept_warm("system[0]"), conversation="c-main")])
    assert (report.prefix.requests, report.prefix.conversations) == (4, 1)
    assert report.prefix.breaks == (Break(3, "test", "tools[2]"), Break(4, "", "system[0]"))
    assert [str(one) for one in report.prefix.breaks] == ["test: tools[2]", "keep-alive: system[0]"]
    assert not report.prefix.unbroken
    assert report.rungs[2].usage.requests == 4
    assert to_json(report)["prefix"]["breaks"] == [
        {"request": 3, "step": "test", "where": "tools[2]"},
        {"request": 4, "step": "", "where": "system[0]"},
    ]
    assert [row["broken"] for row in prefix_json(report)] == [False, False, True, True]


# --- the ledger -------------------------------------------------------------------------------


def test_a_keep_alive_belongs_to_rung_main_and_to_no_step() -> None:
    without, report = summarise(failing()[:-1]), summarise([*failing()[:-1], kept_warm()])
    assert list(without.models) == ["main", "cheap"]
    assert list(report.models) == ["main", "cheap", "keepalive"]
    assert report.models["keepalive"].cost_usd == Decimal("0.0083")
    assert report.rungs[2].usage.requests == without.rungs[2].usage.requests + 1
    assert report.steps == without.steps
    assert report.by_step[""].usage.requests == 1
    last = report.by_attempt[-1]
    assert (last.step, last.attempt, last.rung, last.role) == ("", 0, Rung.MAIN, "keepalive")
    lost = summarise([START, replace(kept_warm(), continuity=None)])
    assert lost.rungs[2].usage.requests == 1
    assert report.cost_usd == Decimal("0.0352") + Decimal("0.0083")


def test_a_row_of_the_ledger_has_every_class_of_tokens_and_an_exact_cost() -> None:
    events = [*story()[:7], replace(responded("0.0000001234"), prices=PRICES), responded(None)]
    report = summarise(events)
    first, second = ledger_json(report)
    assert first == {
        "number": 1, "at": 0.0, "step": "test", "attempt": 2, "rung": "subagent", "role": "cheap",
        "asked": "a:cheap", "served": "x", "conversation": "c-cheap", "input_tokens": 1000,
        "cache_read_tokens": 600, "cache_write_tokens": 100, "cache_write_1h_tokens": 40,
        "output_tokens": 50, "cost_usd": "0.0000001234", "seconds": 1.0, "scripted": False,
    }  # fmt: skip
    assert second["cost_usd"] is None
    assert to_json(report)["prices"] == {"source": PRICES[0], "date": PRICES[1]}


def test_the_ledger_keeps_no_messages() -> None:
    report = summarise([START, replace(responded("1"), messages="[...]")])
    assert report.ledger == (responded("1"),)


@pytest.mark.parametrize(
    ("usd", "text"), [("1E-7", "0.0000001"), ("0.0300", "0.03"), ("120", "120"), ("0.0", "0")]
)
def test_exact_amounts(usd: str, text: str) -> None:
    assert exact(Decimal(usd)) == text


def row(step: str, attempt: int, role: str, usd: Decimal | None) -> ModelResponded:
    return replace(responded(None), step=step, attempt=attempt, role=role, asked=role, cost_usd=usd)


ROWS = st.builds(
    row,
    st.sampled_from(["", "lint", "test"]),
    st.integers(0, 2),
    st.sampled_from(["main", "cheap", "keepalive"]),
    st.none() | st.decimals(0, 1, places=9),
)


@given(st.lists(ROWS, max_size=20))
def test_every_way_to_sum_the_ledger_up_comes_to_the_same(rows: list[ModelResponded]) -> None:
    report = summarise([START, *rows])
    known = sum((row.cost_usd for row in rows if row.cost_usd is not None), Decimal(0))
    unknown = sum(row.cost_usd is None for row in rows)
    usage = reduce(lambda one, row: one + row.usage, rows, Usage())
    ways = (
        report.by_step.values(),
        [one.total for one in report.by_attempt],
        [model.total for model in report.models.values()],
        [rung.total for rung in report.rungs],
    )
    for totals in ways:
        parts = list(totals)
        assert sum((part.known_usd for part in parts), Decimal(0)) == known
        assert sum(part.unknown for part in parts) == unknown
        assert reduce(lambda one, part: one + part.usage, parts, Usage()) == usage
        assert all((part.cost_usd is None) == (part.unknown > 0) for part in parts)
    assert report.cost_usd == (None if unknown else known)
    assert report.known_cost_usd == known
    assert Total() == summarise([START]).models["main"].total


def test_a_run_without_models_reports_no_prices_and_never_loads_their_table(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text('steps:\n  - { id: a, run: "true", fix: fixer }\n')
    code = (
        "import sys; from runner import run_sync; from runner.report import to_json;"
        "report = to_json(run_sync('a.yaml'));"
        "heavy = {'genai_prices', 'pydantic', 'pydantic_ai', 'httpx2', 'rich'} & set(sys.modules);"
        "sys.exit(0 if not heavy and report['prices'] is None and report['exit_code'] == 0 else 1)"
    )
    environ = {"PYTHONPATH": ":".join(sys.path), "ANTHROPIC_API_KEY": "x"}
    where = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_STATE_HOME")}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environ | where, check=True)


@pytest.mark.parametrize(
    ("alive", "status", "step"), [(True, "running", "running"), (False, "killed", "interrupted")]
)
def test_a_run_without_its_last_event(*, alive: bool, status: str, step: str) -> None:
    report = summarise(story()[:8], alive=alive, until=1012.5)
    assert (report.status, report.exit_code, report.seconds) == (status, None, 12.5)
    assert [one.status for one in report.steps] == ["succeeded", step, "pending"]
    assert report.steps[1].attempts == (FIRST,)
    assert report.steps[1].cost_usd == Decimal("0.001")
    with pytest.raises(RunFailed) as caught:
        report.raise_for_status()
    assert caught.value.exit_code == 1


def test_without_any_event_there_is_still_a_report() -> None:
    assert summarise([], alive=False).status == "killed"


def test_after_each_event_there_is_a_report_that_is_valid_json() -> None:
    tally = Tally()
    for event in story():
        tally.add(event)
        json.dumps(to_json(tally.report()), allow_nan=False)
    assert tally.report() == summarise(story())


def test_outputs_of_any_sort_become_valid_json() -> None:
    strange = {"nan": float("nan"), "inf": [float("inf")], "pair": (Decimal("0.5"), None), "s": {1}}
    outcome = StepOutcome("lint", Status.SUCCEEDED, outputs=strange)
    data = to_json(summarise([START, StepFinished(outcome)]))
    outputs = json.loads(json.dumps(data, allow_nan=False))["steps"][0]["outputs"]
    assert outputs == {"nan": None, "inf": [None], "pair": [0.5, None], "s": "{1}"}


def test_notices_and_what_others_changed_are_told() -> None:
    report = summarise(
        [
            START,
            Notice("no key"),
            Notice("slow", "test"),
            Restored("test", "t", ("a",), ()),
            Restored("test", "t", ("a",), ("b", "c")),
        ]
    )
    assert report.notices[:2] == ("no key", "test: slow")
    assert report.notices[2].endswith("b, c")
    assert len(report.notices) == 3


def test_work_in_no_plan_comes_after_what_was_planned() -> None:
    events = [START, StepStarted("extra"), StepFinished(StepOutcome("other", Status.SUCCEEDED))]
    ids = [step.id for step in summarise(events).steps]
    assert ids == ["lint", "test", "commit", "other", "extra"]


def test_a_pushed_ref_is_known_before_the_run_ends() -> None:
    facts = {"ref": "refs/heads/x", "remote": "origin", "sha": "c1"}
    git = summarise([START, GitFact("push", "push", facts)]).git
    assert (git.remote_ref, git.pushed_to) == ("c1", "origin x")


def test_raise_for_status_names_what_failed() -> None:
    report = summarise(story())
    assert report.raise_for_status() is report
    failed = StepFinished(StepOutcome("lint", Status.FAILED, reason="exit 1: F401", exit_code=1))
    report = summarise([START, failed, RunFinished(1, "failed", 1.0)])
    with pytest.raises(RunFailed, match=r"lint \(exit 1: F401\); a step failed") as caught:
        report.raise_for_status()
    assert caught.value.report is report
    assert caught.value.exit_code == 1
    assert "runner show 20261121-174530-3f9a" in caught.value.hint


def test_the_trace_of_the_last_life_is_named() -> None:
    start = replace(START, trace_file="/s/trace.otlp.jsonl")
    first = summarise([start]).trace
    assert first is not None
    assert to_json(summarise([start]))["trace"] == {"id": first.id, "file": first.file}
    again = summarise([start, RunResumed(2, 9.0)]).trace
    assert again is not None
    assert again.id != first.id
    assert summarise([START]).trace is None
