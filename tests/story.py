"""Made-up runs as the engine tells them; shared by the tests of what people see."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    CommandOutput,
    CommandStarted,
    Continuity,
    Decided,
    Event,
    ModelResponded,
    Restored,
    RunFinished,
    RunStarted,
    StepFinished,
    StepPlan,
    StepStarted,
    ToolCalled,
)
from runner.outcome import Attempt, Rung, Status, StepOutcome, Usage, Verdict

RUN = "20261121-174530-3f9a"
STEPS = (
    StepPlan("lint", "run", "ruff check .", ()),
    StepPlan("test", "run", "pytest -q", ()),
    StepPlan("commit", "commit", "commit by rule", ("lint", "test")),
)
START = RunStarted(
    run_id=RUN, workflow="ship", file="/r/workflow.yaml", root="/r", state_dir="/s",
    models={"main": "anthropic:claude-big", "cheap": "script:/tmp/x/ship.yaml"},
    budget_usd=Decimal(1), budget_seconds=1800.0, budget_given=False, scripted=True, sandbox="",
    git_before="c0", branch="main", steps=STEPS, started_at=1000.0,
)  # fmt: skip
TAIL = "\n".join(f"noise {n}" for n in range(20)) + "\n\x1b[31mFAILED\x1b[0m tests/a.py::t\n"
ATTEMPTS = (
    Attempt(1, Rung.COMMAND, None, Verdict.HARD, "exit 1: 1 of 9 tests fails", seconds=3.1),
    Attempt(2, Rung.SUBAGENT, "cheap", Verdict.HARD, "the agent gave up: the rule is not here", 2,
            Decimal("0.0042"), 12.0, ("a.py",)),
    Attempt(3, Rung.MAIN, "main", Verdict.HARD, "no progress", 1, Decimal("0.031"), 75.0),
)  # fmt: skip


PRICES = ("genai-prices 0.2.3", "2026-11-09")


def responded(number: int, role: str, cost: str, how: str = "first") -> ModelResponded:
    usage = Usage(1, 41_200, 25_600, 100, 0, 512)
    continuity = Continuity(how, 12, 8_634, "59136421a5052c58") if role == "main" else None
    return ModelResponded(
        "test", number, role, START.models[role], "x", usage, Decimal(cost), 1.0, role,
        continuity=continuity, scripted=role == "cheap", prices=PRICES,
    )  # fmt: skip


def kept_warm(how: str = "same") -> ModelResponded:
    """Tell of a keep-alive of the main conversation: a row of no step."""
    usage = Usage(1, 41_800, 41_200, 0, 0, 1)
    continuity = Continuity(how, 12, 8_634, "59136421a5052c58", 41_200)
    return ModelResponded(
        "", 0, "keepalive", START.models["main"], "x", usage, Decimal("0.0083"), 1.0, "main",
        continuity=continuity, at=1300.0, prices=PRICES,
    )  # fmt: skip


def failing() -> list[Event]:
    """Lint passes; test goes up the ladder and fails; commit is blocked."""
    lint = StepOutcome("lint", Status.SUCCEEDED, Rung.COMMAND, verified=True, seconds=0.4)
    test = StepOutcome(
        "test", Status.FAILED, Rung.MAIN, "1 of 9 tests fails", seconds=95.0, attempts=ATTEMPTS,
        cost_usd=Decimal("0.0352"), exit_code=1, tail=TAIL, log="/s/log",
    )  # fmt: skip
    return [
        START,
        StepStarted("lint"),
        CommandStarted("lint", "run", "ruff check ."),
        StepStarted("test"),
        AttemptStarted("test", 1, Rung.COMMAND, None),
        CommandStarted("test", "run", "pytest -q"),
        CommandOutput("test", "collected 9 items"),
        StepFinished(lint),
        CommandFinished("test", "run", "pytest -q", 1, False, 3.1, 900, "/s/log"),
        AttemptFinished("test", ATTEMPTS[0]),
        AttemptStarted("test", 2, Rung.SUBAGENT, "cheap", "fixer"),
        responded(2, "cheap", "0.0042"),
        ToolCalled("test", "edit_file", "a.py"),
        AttemptFinished("test", ATTEMPTS[1]),
        Restored("test", "t0", ("a.py",), ("notes.txt",)),
        Decided("test", "escalate", "the agent gave up", {"packets": 1}),
        AttemptStarted("test", 3, Rung.MAIN, "main", "main"),
        responded(3, "main", "0.031"),
        AttemptFinished("test", ATTEMPTS[2]),
        StepFinished(test),
        StepFinished(StepOutcome("commit", Status.BLOCKED, reason="needs test")),
        RunFinished(1, "failed", 96.0, "", "main"),
    ]


def passing() -> list[Event]:
    ok = [StepOutcome(name, Status.SUCCEEDED, Rung.COMMAND, seconds=0.4) for name in "ab"]
    plans = tuple(StepPlan(one.id, "run", f"make {one.id}", ()) for one in ok)
    start = replace(START, steps=plans, models={}, scripted=False)
    return [start, *map(StepFinished, ok), RunFinished(0, "succeeded", 0.8)]
