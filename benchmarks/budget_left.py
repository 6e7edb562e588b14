"""Prints which share of the budget is left over when a run ends for want of money.

    python benchmarks/budget_left.py [--budget USD]... [--main-only]

Steps fail one after the other until nothing can be paid any more (exit 3). A subagent makes five
requests whose prompts grow from 3,000 to 8,000 tokens and answers with 300 to 600; it mends three
steps of four, the fourth goes to main, which works at 20,000 tokens and more. The provider is a
served one that counts a token for four bytes and what is cached by the published rules.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from cacheserver import HAND_PRICES, caching
from provider import Answer, Ask, Call, Tokens

from runner import Options, run_sync

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 400
BUDGETS = ("0.05", "0.10", "0.25", "1.00", "2.00")
PAIRS = {
    "opus-5-5 + haiku-5-5": ("anthropic:claude-opus-5-5", "anthropic:claude-haiku-5-5"),
    "gpt-6.1-sol + gpt-6-luna": ("openai:gpt-6.1-sol", "openai:gpt-6-luna"),
}
STEP = """\
  - id: s{0}
    needs: []
    run: grep -q ok s{0}.txt || {{ echo s{0}.txt is not ok; exit 1; }}
    fix: {{ agent: fixer, attempts: 1 }}
"""


def calls_so_far(ask: Ask) -> int:
    """Return how many calls the conversation has seen."""
    if "input" in ask.body:
        items = cast("list[dict[str, Any]]", ask.body["input"])
        return sum(item.get("type") == "function_call" for item in items)
    messages = cast("list[dict[str, Any]]", ask.body["messages"])
    return sum(message["role"] == "assistant" for message in messages)


def script(*, main_only: bool) -> Callable[[Ask], Answer]:
    """Return the models: what they say is of typical size, and mends what it should."""

    def play(ask: Ask) -> Answer:
        step = int(re.findall(r"`s(\d+)`", ask.text)[-1])
        calls, main = calls_so_far(ask), "opus" in ask.model or "sol" in ask.model
        edit = Call("write_file", {"path": f"s{step}.txt", "content": "ok\n"})
        done = Call("done", {"summary": "It is mended now."})
        if main:
            # The first packet reads its way to 20,000 tokens; each further one adds a little.
            reads = [f"large{n}.txt" for n in range(4)] if calls < 6 else [f"small{calls % 9}.txt"]
            at = calls if calls < 6 else (calls - 6) % 3
            output = 600
        else:
            reads, at, output = (
                [f"small{(step + n) % 9}.txt" for n in range(3)],
                calls,
                300 + 75 * calls,
            )
        if at < len(reads):
            call = Call("read_file", {"path": reads[at]})
        elif at == len(reads):
            call = edit
        else:
            gives_up = not main and (main_only or step % 4 == 3)
            call = Call("cannot", {"reason": "It is beyond me."}) if gives_up else done
        if not main and call is edit and (main_only or step % 4 == 3):
            call = Call("write_file", {"path": f"s{step}.txt", "content": "no\n"})
        return Answer("I see. " * (output // 2), (call,), Tokens(output=output))

    return play


def prepare(folder: Path) -> Path:
    """Make a repository with files of typical size."""
    root = folder / "work"
    root.mkdir()
    line = "The quick brown fox jumps over the lazy dog, line after line of it.\n"
    for number in range(9):
        (root / f"small{number}.txt").write_text(f"{number} {line}" * 75)
    for number in range(4):
        (root / f"large{number}.txt").write_text(f"{number} {line}" * 210)
    for number in range(STEPS):
        (root / f"s{number}.txt").write_text("not yet\n")
    for argv in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "start")):
        subprocess.run(["git", *IDENTITY, *argv], cwd=root, check=True)
    (folder / "w.yaml").write_text(
        "name: mends\nsteps:\n" + "".join(map(STEP.format, range(STEPS)))
    )
    return root


IDENTITY = ("-c", "user.name=A", "-c", "user.email=a@example.com")


def one(pair: tuple[str, str], budget: str, *, main_only: bool) -> str:
    """Run until the money is used up; return the figures as text."""
    with (
        tempfile.TemporaryDirectory(prefix="runner-budget-") as name,
        caching(script(main_only=main_only)) as provider,
    ):
        folder = Path(name)
        os.environ.update(provider.environ())
        report = run_sync(
            folder / "w.yaml",
            cwd=prepare(folder),
            models=dict(zip(("main", "cheap"), pair, strict=True)),
            options=Options(state_dir=folder / "state", budget_usd=Decimal(budget), jobs=1),
        )
        billed = provider.usd(HAND_PRICES)
    share = 1 - billed / Decimal(budget)
    asked = [ask.model for ask in provider.asks]
    mains = sum("opus" in model or "sol" in model for model in asked)
    last = next((step.reason for step in report.steps if "budget" in step.reason), "")
    counts = f"{len(asked)} requests, {mains} of main"
    return f"{share:>7.1%} left, exit {report.exit_code}, {counts}; {last}"


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", action="append")
    parser.add_argument("--main-only", action="store_true", help="subagents mend nothing")
    given = parser.parse_args()
    for name, pair in PAIRS.items():
        for budget in given.budget or BUDGETS:
            text = one(pair, budget, main_only=given.main_only)
            print(f"{name:<26}{budget:>5} USD {text}", flush=True)


if __name__ == "__main__":
    main()
