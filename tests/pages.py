"""A made-up run in which all happens that a page can tell, and hostile texts in all of it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
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
    RunStarted,
    SnapshotTaken,
    StepFinished,
    StepPlan,
    StepStarted,
    ToolCalled,
    Waited,
)
from runner.journal import Record
from runner.outcome import Attempt, Rung, Status, StepOutcome, Usage, Verdict
from runner.page import Seen, Story, render_page, story_of
from runner.report import summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HOSTILE = "</script></style><script>alert('x')</script>&amp;\"'<!--\x1b[31m\u202edesrever\x00]]>"
START = RunStarted(
    run_id="20261121-174530-3f9a", workflow="ship", file="/r/workflow.yaml", root="/r",
    state_dir="/s/run",
    models={"main": "anthropic:claude-opus-5-5", "cheap": "anthropic:claude-haiku-5-5"},
    budget_usd=Decimal(1), budget_seconds=1800.0, budget_given=False, scripted=False,
    sandbox="bubblewrap", git_before="c0", branch="main", steps=(), started_at=1000.0,
)  # fmt: skip
DIFF = """\
diff --git a/calc.py b/calc.py
index 6cca9d3..661182a 100644
--- a/calc.py
+++ b/calc.py
@@ -1,3 +1,3 @@
 def add(a, b):
-    return a - b
--- a comment that looks like a header
+    return a + b
+++ one more
"""
FACTS = {"choice": "subagent then main (0.0559 USD, minutes priced); main at once 0.1375",
         "subagent_usd": "0.002942", "failures": [HOSTILE]}  # fmt: skip


def records(events: Iterable[tuple[float, Event]]) -> list[Record]:
    return [Record(at + 1, 1000.0 + when, event) for at, (when, event) in enumerate(events)]


def story(told: Sequence[Record], *, alive: bool = False) -> Story:
    events = (record.event for record in told)
    return story_of(told, summarise(events, alive=alive, until=told[-1].at))


def page(told: Sequence[Record], seen: Seen | None = None) -> str:
    return render_page(story(told), seen or Seen({("test", 2): DIFF}, {"/s/run/1.log": HOSTILE}))


def answered(
    role: str, usage: Usage, usd: str | None, how: str = "", expected: int | None = None,
    step: str = "test", number: int = 2, seconds: float = 3.0,
) -> ModelResponded:  # fmt: skip
    model = START.models.get(role, START.models["main"])
    why = "missed by the provider" if expected and usage.cache_read_tokens < expected else ""
    continuity = Continuity(how, 12, 8_634, "59136421a5052c58", expected, why) if how else None
    return ModelResponded(
        step, number, role, model, model, usage, None if usd is None else Decimal(usd), seconds,
        "main", continuity=continuity, at=1.0, prices=("genai-prices 0.2.3", "2026-11-09"),
    )  # fmt: skip


def _cut_off() -> list[tuple[float, Event]]:
    """Tell of the first life: a flaky step, a subagent in vain, main cut off in the middle."""
    command = Attempt(1, Rung.COMMAND, None, Verdict.HARD, "exit 1", seconds=3.0)
    sub = Attempt(
        2, Rung.SUBAGENT, START.models["cheap"], Verdict.HARD, f"gave up {HOSTILE}", 2,
        Decimal("0.0042"), 12.0, ("calc.py",), f"I cannot {HOSTILE}", "cheap",
    )  # fmt: skip
    flaky = StepOutcome(
        "lint", Status.SUCCEEDED, Rung.COMMAND, "flaky", verified=True, seconds=1.0,
        attempts=(command, replace(command, number=2, verdict=Verdict.FLAKY, reason="passed")),
    )  # fmt: skip
    return [
        (0.0, replace(START, steps=_PLANS)),
        (0.1, Notice(f"a note {HOSTILE}")),
        (0.1, StepStarted("lint")),
        (0.2, CommandStarted("lint", "run", "ruff check .", 1)),
        (0.9, CommandFinished("lint", "run", "ruff check .", 1, False, 0.7, 9, "/s/run/1.log", 1)),
        (1.1, StepFinished(flaky)),
        (1.2, StepStarted("test")),
        (3.0, Waited("test", "tree", 1.5)),
        (3.1, AttemptStarted("test", 1, Rung.COMMAND, None)),
        (3.2, CommandStarted("test", "run", HOSTILE, 2)),
        (6.1, CommandFinished("test", "run", HOSTILE, 1, False, 2.9, 900, "/s/run/1.log", 2)),
        (6.2, AttemptFinished("test", command)),
        (6.3, SnapshotTaken("test", "before mends", "a" * 40)),
        (6.4, Decided("test", "AskSubagent", f"the command failed {HOSTILE}", FACTS)),
        (6.5, AttemptStarted("test", 2, Rung.SUBAGENT, START.models["cheap"], "fixer")),
        (6.6, SnapshotTaken("test", "before attempt 2", "a" * 40)),
        (9.6, answered("cheap", Usage(1, 8_000, 0, 6_000, 0, 90), "0.0042")),
        (9.7, ToolCalled("test", "edit_file", f"calc.py {HOSTILE}", failed=True, reason=HOSTILE)),
        (15.0, SnapshotTaken("test", "after attempt 2", "b" * 40)),
        (18.5, AttemptFinished("test", sub)),
        (18.6, Restored("test", "a" * 40, ("calc.py",), ("notes.txt",))),
        (18.7, Decided("test", "AskMain", "it gave up", {})),
        (18.8, AttemptStarted("test", 3, Rung.MAIN, START.models["main"], "main")),
        (22.0, answered("main", Usage(1, 40_000, 0, 40_000, 0, 500), "0.2", "first", None,
                        "test", 3)),
        (26.0, answered("main", Usage(1, 42_000, 40_000, 1_500, 0, 90), "0.02", "extends", 40_000,
                        "test", 3)),
    ]  # fmt: skip


def _taken_up() -> list[tuple[float, Event]]:
    """Tell of the second life, a day later: the prefix breaks, and the test fails for good."""
    day = 86_400.0
    last = Attempt(3, Rung.MAIN, START.models["main"], Verdict.HARD, "no progress", 3,
                   Decimal("0.031"), 75.0, (), "", "main")  # fmt: skip
    failed = StepOutcome(
        "test", Status.FAILED, Rung.MAIN, f"1 of 9 fails {HOSTILE}", seconds=95.0,
        cost_usd=Decimal("0.25"), exit_code=1, tail=f"FAILED {HOSTILE}\n", log="/s/run/1.log",
        outputs={HOSTILE: HOSTILE}, attempts=(last,),
    )  # fmt: skip
    kept = answered("keepalive", Usage(1, 42_000, 41_500, 0, 0, 1), "0.008", "same", 41_500, "", 0)
    return [
        (day, RunResumed(2, 1000.0 + day)),
        (day + 4, AttemptStarted("test", 3, Rung.MAIN, START.models["main"], "main")),
        (day + 9, kept),
        (day + 10, Decided("", "keep main's cache alive", "that is cheaper", {"pings": 2})),
        (day + 15, answered("main", Usage(1, 44_000, 0, 20_000, 0, 90), "0.05",
                            f"tools[2] {HOSTILE}", 41_500, "test", 3)),
        (day + 18, answered("main", Usage(1, 45_000, 1_000, 0, 0, 90), None, "extends", 44_000,
                            "test", 3)),
        (day + 20, AttemptFinished("test", last)),
        (day + 20, StepFinished(failed)),
        (day + 21, GitFact("commit", "commit", {"sha": "70761fcc24", "branch": HOSTILE})),
        (day + 21, StepFinished(StepOutcome("commit", Status.BLOCKED, reason="needs test"))),
        (day + 22, RunFinished(1, "failed", 50.0, "", "main", inline_usd=Decimal("0.9"),
                               switch_usd=Decimal("0.1"), advice=HOSTILE)),
    ]  # fmt: skip


_PLANS = (
    StepPlan("lint", "run", "ruff check .", ()),
    StepPlan("test", "run", HOSTILE, ()),
    StepPlan("commit", "commit", "commit by rule", ("lint", "test")),
)


def everything() -> list[Record]:
    """Tell of a run killed in main's attempt, taken up a day later, and failed."""
    return records([*_cut_off(), *_taken_up()])


def killed() -> list[Record]:
    return records(_cut_off())


def plain(steps: int, *, failing: int = 0) -> list[Record]:
    """Tell of a run without git or models, of so many steps."""
    plans = tuple(StepPlan(f"step-{n}", "run", f"make {n}", ()) for n in range(steps))
    told: list[tuple[float, Event]] = [(0.0, replace(START, models={}, steps=plans))]
    for at, plan in enumerate(plans):
        bad = at < failing
        verdict = Verdict.HARD if bad else Verdict.PASSED
        reason = "exit 1" if bad else "passed"
        attempt = Attempt(1, Rung.COMMAND, None, verdict, reason, seconds=0.5)
        outcome = StepOutcome(
            plan.id, Status.FAILED if bad else Status.SUCCEEDED, Rung.COMMAND,
            "exit 1" if bad else "", verified=not bad, seconds=0.5, attempts=(attempt,),
            log=f"/s/run/{at}.log", tail="&" * 16_000 + "\nthe last line\n" if bad else "",
        )  # fmt: skip
        code, log = int(bad), f"/s/run/{at}.log"
        told += [
            (at, StepStarted(plan.id)),
            (at, AttemptStarted(plan.id, 1, Rung.COMMAND, None)),
            (at, CommandStarted(plan.id, "run", plan.title, at + 1)),
            (at + 0.5, CommandFinished(plan.id, "run", plan.title, code, False, 0.5, 9, log,
                                       at + 1)),
            (at + 0.5, AttemptFinished(plan.id, attempt)),
            (at + 0.5, StepFinished(outcome)),
        ]  # fmt: skip
    code = int(failing > 0)
    told.append((float(steps), RunFinished(code, "failed" if code else "succeeded", steps)))
    return records(told)
