"""A real run against a provider that counts its cache: ten mends, two escalations, no break.

What the run says it used and paid is held against what the server counted, row by row.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from cacheserver import HAND_PRICES, Bill, CachingProvider, caching
from provider import Answer, Ask, Call, Tokens
from scratch import PYTHON, Scratch, make

from runner.cli.where import journal_of
from runner.events import ModelResponded

if TYPE_CHECKING:
    from pathlib import Path

    from cacheprompt import Prompt

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PARTS = tuple(f"{n:02}" for n in range(1, 13))
HARD = ("04", "09")
"""Parts that no subagent mends."""
CHECK = """\
import sys

name = f"parts/{sys.argv[1]}.txt"
if open(name).read() != "whole\\n":
    sys.exit(f"{name}:1: error: part {sys.argv[1]} is not whole")
"""
STEP = """\
  - id: part-{part}
    run: {python} check.py {part}
    sources: [check.py, parts/{part}.txt]
    fix: {{ agent: fixer, attempts: 1 }}
"""
WORKFLOW = f"""\
name: twelve
budget: {{ usd: 5, time: 5m }}
inputs:
  change: {{ type: string }}
steps:
  - id: plan
    prompt: ${{{{ inputs.change }}}}
{"".join(STEP.format(part=part, python=PYTHON) for part in PARTS)}
  - id: commit
    needs: [{", ".join(f"part-{part}" for part in PARTS)}]
    commit: {{ message: auto }}
"""
CONTEXT = "Read the notes, and keep in mind what each part is for.\n" + "".join(
    f"Part {n % 12 + 1:02} is used at place {n} of the plan, where it must be whole.\n"
    for n in range(180)
)
NOTES = "".join(f"At place {n} a part must be whole, or what follows fails.\n" for n in range(60))

FIXED = {"tool", "system", "developer", "instructions"}
"""Labels of the blocks before the messages."""


# -- what the models say -------------------------------------------------------------------------


def script(ask: Ask) -> Answer:
    """Each answer is as long as the request's number: no two rows are alike."""
    calls = _main(ask) if ask.model in {"claude-opus-5-5", "gpt-6.1-sol"} else _cheap(ask)
    return Answer(calls=calls, tokens=Tokens(output=100 + ask.number))


def _main(ask: Ask) -> tuple[Call, ...]:
    newest = _newest(ask)
    part = re.findall(r"part (\d\d) is not whole", newest)
    if part:
        return (_edit(part[-1]),)
    if "tool_result" in newest or "function_call_output" in newest:
        return (Call("done", {"summary": "as asked"}),)
    # Calls and results are 24 blocks, but two positions of the look-back.
    return tuple(Call("read_file", {"path": f"notes/{part}.md"}) for part in PARTS)


def _cheap(ask: Ask) -> tuple[Call, ...]:
    part = re.findall(r"part (\d\d) is not whole", ask.text)[-1]
    if part in HARD:
        return (Call("cannot", {"reason": "nobody told me what it is for"}),)
    if "call_" in ask.text:
        return (Call("done", {"summary": "it is whole"}),)
    return (_edit(part),)


def _edit(part: str) -> Call:
    edit = {"path": f"parts/{part}.txt", "old_text": "broken", "new_text": "whole"}
    return Call("edit_file", edit)


def _newest(ask: Ask) -> str:
    """What the user's side added after the model's last answer."""
    items: list[dict[str, Any]] = ask.body.get("messages") or ask.body["input"]
    ours = {"assistant", "function_call"}
    last = max(
        (n for n, one in enumerate(items) if ours & {one.get("role"), one.get("type")}), default=-1
    )
    return json.dumps(items[last + 1 :])


# -- the run -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ran:
    provider: CachingProvider
    main: str
    report: dict[str, Any]
    rows: tuple[ModelResponded, ...]
    repo: Scratch

    def bills(self, model: str) -> list[Bill]:
        return [bill for bill in self.provider.bills if bill.model == model]


def _repository(world: Path) -> Scratch:
    repo = make(world)
    repo.write("check.py", CHECK)
    repo.write("workflow.yaml", WORKFLOW)
    for part in PARTS:
        repo.write(f"parts/{part}.txt", "broken\n")
        repo.write(f"notes/{part}.md", f"# Part {part}\n{NOTES}")
    repo.commit_all("twelve parts")
    (world / "change.txt").write_text(CONTEXT)
    return repo


def _run(world: Path, main: str, cheap: str, minimum: int | None) -> Ran:
    """Run `runner exec` as a process of its own, and read its report and journal."""
    repo = _repository(world)
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    state = world / "state"
    config = world / "config.yaml"
    config.write_text(f'caches: {{"anthropic:*": {{minimum: {minimum}}}}}' if minimum else "{}")
    kept |= {"SUBRUNNER_STATE_DIR": str(state), "SUBRUNNER_CONFIG": str(config)}
    arguments = ["exec", "--json", "-i", f"change=@{world / 'change.txt'}"]
    arguments += ["--model", f"main={main}", "--model", f"cheap={cheap}"]
    with caching(script, minimum=minimum) as provider:
        done = subprocess.run(
            [sys.executable, "-m", "runner", *arguments],
            cwd=repo.root,
            env=kept | provider.environ(),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    with journal_of(repo.root, state) as journal:
        events = [*journal.events(report["run_id"])]
    rows = tuple(event for event in events if isinstance(event, ModelResponded))
    return Ran(provider, main.partition(":")[2], report, rows, repo)


ANTHROPIC = ("anthropic:claude-opus-5-5", "anthropic:claude-haiku-5-5")
OPENAI = ("openai:gpt-6.1-sol", "openai:gpt-6-luna")


@pytest.mark.parametrize(
    ("models", "minimum", "subagents_cache"),
    [
        pytest.param(ANTHROPIC, None, False, id="anthropic"),
        pytest.param(ANTHROPIC, 512, True, id="anthropic-from-512", marks=pytest.mark.slow),
        pytest.param(OPENAI, None, True, id="openai"),
    ],
)
def test_ten_mends_and_two_escalations(
    world: Path, models: tuple[str, str], minimum: int | None, subagents_cache: bool
) -> None:
    """`minimum` is of the provider, and in the user's configuration; else 4,096 and 1,024."""
    ran = _run(world, *models, minimum)
    ten_are_mended_below_and_two_by_main(ran)
    every_main_request_extends_the_one_before(ran)
    every_main_request_reads_all_of_the_one_before(ran)
    the_ledger_is_what_the_server_counted(ran)
    the_sums_are_what_the_server_bills(ran)
    the_fixed_part_of_every_spawn_is_the_same_bytes(ran)
    subagents_read_their_fixed_part_and_their_own_messages(ran, long_enough=subagents_cache)


def ten_are_mended_below_and_two_by_main(ran: Ran) -> None:
    rungs = {step["id"]: step["rung"] for step in ran.report["steps"]}
    below = {f"part-{part}" for part in PARTS if part not in HARD}
    assert {name for name, rung in rungs.items() if rung == "subagent"} == below
    assert {name for name, rung in rungs.items() if rung == "main"} == {
        "plan",
        *(f"part-{part}" for part in HARD),
    }
    assert ran.repo.git("status", "--porcelain") == ""
    assert ran.repo.git("log", "--format=%s").count("\n") == 2


def every_main_request_extends_the_one_before(ran: Ran) -> None:
    main = ran.bills(ran.main)
    assert len(main) == 6, "a prompt and two packets, each answered in two requests"
    assert ran.report["prefix"] == {
        "requests": 6,
        "conversations": 1,
        "unbroken": True,
        "breaks": [],
    }
    for before, after in pairwise(main):
        assert ran.provider.extends(before.number, after.number)
    assert main[1].tokens.input > 10_000


def every_main_request_reads_all_of_the_one_before(ran: Ran) -> None:
    main = ran.bills(ran.main)
    assert (main[0].reads_of, main[0].tokens.cache_read) == (None, 0)
    for before, after in pairwise(main):
        assert after.reads_of == before.number
        assert after.tokens.cache_read == before.tokens.input
        assert after.body_tokens["input"] == 0, "nothing of main is left out of its cache"
    told = [row.continuity for row in ran.rows if row.role == "main"]
    assert [one and (one.how, one.expected, one.why) for one in told] == [
        ("first", None, ""),
        *(("extends", bill.tokens.cache_read, "") for bill in main[1:]),
    ]


def the_ledger_is_what_the_server_counted(ran: Ran) -> None:
    assert len(ran.rows) == len(ran.provider.bills) == 6 + 10 * 2 + 2
    for row, bill in zip(ran.rows, ran.provider.bills, strict=True):
        usage = row.usage
        assert row.served == row.asked.partition(":")[2] == bill.model
        assert bill.body_tokens == {
            "input": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
            "read": usage.cache_read_tokens,
            "write": usage.cache_write_tokens - usage.cache_write_1h_tokens,
            "write_1h": usage.cache_write_1h_tokens,
            "output": usage.output_tokens,
        }
        assert row.cost_usd == bill.usd(HAND_PRICES)


def the_sums_are_what_the_server_bills(ran: Ran) -> None:
    assert sum((row.cost_usd or Decimal(0) for row in ran.rows), Decimal(0)) == ran.provider.usd()
    assert ran.report["cost_usd"] == float(ran.provider.usd())
    for role in ("main", "cheap"):
        told = ran.report["models"][role]
        model = told["id"].partition(":")[2]
        tokens = [bill.tokens for bill in ran.bills(model)]
        assert told["requests"] == len(tokens)
        assert told["input_tokens"] == sum(one.input for one in tokens)
        assert told["cache_read_tokens"] == sum(one.cache_read for one in tokens)
        assert told["cache_write_tokens"] == sum(one.cache_write for one in tokens)
        assert told["output_tokens"] == sum(one.output for one in tokens)
        assert told["cost_usd"] == float(ran.provider.usd(models=[model]))


def the_fixed_part_of_every_spawn_is_the_same_bytes(ran: Ran) -> None:
    cheap = [ask for ask in ran.provider.asks if ask.model != ran.main]
    assert len(cheap) == 22
    assert len({_fixed(ran.provider.prompts[ask.number]) for ask in cheap}) == 1
    assert len({_settings(ask) for ask in cheap}) == 1


def subagents_read_their_fixed_part_and_their_own_messages(ran: Ran, *, long_enough: bool) -> None:
    cheap = [bill for bill in ran.provider.bills if bill.model != ran.main]
    if not long_enough:
        assert {(bill.tokens.cache_read, bill.tokens.cache_write) for bill in cheap} == {(0, 0)}
        return
    first = ran.provider.prompts[cheap[0].number]
    fixed = sum(block.tokens for block in first.blocks if block.label in FIXED)
    for before, bill in pairwise(cheap):
        again = ran.provider.extends(before.number, bill.number)
        read = (before.number, before.tokens.input) if again else (cheap[0].number, fixed)
        assert (bill.reads_of, bill.tokens.cache_read) == read
        assert bill.body_tokens["input"] == 0


def _fixed(prompt: Prompt) -> bytes:
    """Tools and instructions, as the cache sees them."""
    fixed = [block.text for block in prompt.blocks if block.label in FIXED]
    assert fixed[:-1], "no tools"
    return b"\n".join(fixed)


def _settings(ask: Ask) -> str:
    """All fields but the messages, in their order; diagnostics name the response before."""
    own = {"messages", "input", "prompt_cache_options"}
    return json.dumps([item for item in ask.body.items() if item[0] not in own])
