"""Runs cut off at every point where a model is concerned, and resumed: nothing is asked twice.

One run is recorded through the vendors' real clients; at each event that matters all that is on the
disk is copied, as a kill at that moment leaves it. Then each copy is put back and resumed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
from cacheserver import CachingProvider, caching
from provider import Answer, Ask, Call, Fault, Tokens
from scratch import PYTHON, Scratch, make

from runner.api import execute, execute_again
from runner.cli.where import journal_of
from runner.events import (
    AttemptFinished,
    ConversationOpened,
    Event,
    ModelAsked,
    ModelResponded,
    Notice,
    SnapshotTaken,
    ToolCalled,
    TurnEnded,
)
from runner.history import Tried
from runner.historyfile import History
from runner.outcome import Rung
from runner.plan import Options, ResumeOptions
from runner.prefix import digest_of, model_in, prefix_of_json
from runner.toolset import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from provider import Reply

    from runner.report import Report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SECRET = "hunter2-hunter2"
CHECK = """\
import os, sys

print("the token is", open("token.txt").read())
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
name: two
budget: {{ usd: 5, time: 5m }}
secrets: [TOKEN]
inputs:
  change: {{ type: string }}
steps:
  - id: knows
    run: "true"
    secrets: [TOKEN]
  - id: plan
    prompt: ${{{{ inputs.change }}}}
{STEP.format(part="a", python=PYTHON)}
{STEP.format(part="b", python=PYTHON)}
  - id: commit
    needs: [part-a, part-b]
    commit: {{ message: auto }}
"""
NOTES = "".join(f"At place {n} a part must be whole, or what follows fails.\n" for n in range(60))
CONTEXT = "Read the notes.\n" + NOTES
MAIN_MODELS = {"claude-opus-5-5", "gpt-6.1-sol"}
READ = {"read_file", "list", "grep"}

ANTHROPIC = ("anthropic:claude-opus-5-5", "anthropic:claude-haiku-5-5")
RESPONSES = ("openai:gpt-6.1-sol", "openai:gpt-6-luna")
CHAT = ("openai-chat:gpt-6.1-sol", "openai-chat:gpt-6-luna")


# -- what the models say -------------------------------------------------------------------------


@dataclass
class Seen:
    """A request as a model sees it: its newest calls, their answers, the newest task."""

    calls: list[tuple[str, Any]] = field(default_factory=list["tuple[str, Any]"])
    answers: str = ""
    task: str = ""


def seen(ask: Ask) -> Seen:
    found = Seen()
    for who, what in _flat(ask):
        if who == "call":
            if found.answers:
                found.calls, found.answers = [], ""
            found.calls.append(what)
        elif who == "answer":
            found.answers += json.dumps(what)
        else:
            found = Seen(task=str(what))
    return found


def _flat(ask: Ask) -> list[tuple[str, Any]]:
    items: list[dict[str, Any]] = ask.body.get("messages") or ask.body["input"]
    flat: list[tuple[str, Any]] = []
    for item in items:
        kind = item.get("type")
        if kind == "function_call":
            flat.append(("call", (item["name"], json.loads(item["arguments"]))))
        elif kind == "function_call_output":
            flat.append(("answer", item["output"]))
        elif item.get("role") == "tool":
            flat.append(("answer", item["content"]))
        elif item.get("role") in {"user", "assistant"}:
            flat += _parts(item)
    return flat


def _parts(item: dict[str, Any]) -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    content: Any = item.get("content") or []
    for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
        if part["type"] == "tool_use":
            flat.append(("call", (part["name"], part["input"])))
        elif part["type"] == "tool_result":
            flat.append(("answer", part["content"]))
        elif item["role"] == "user":
            flat.append(("task", part.get("text")))
    for call in item.get("tool_calls") or ():
        function = call["function"]
        flat.append(("call", (function["name"], json.loads(function["arguments"]))))
    return flat


def script(ask: Ask) -> Answer:
    """Answer by what the request says alone: the same to the same, whoever asks it when."""
    now = seen(ask)
    part = (re.findall(r"part (\w) is not whole", now.task) or ["plan"])[-1]
    calls = _calls(now, part, main=ask.model in MAIN_MODELS)
    return Answer(calls=calls, tokens=Tokens(output=100 + len(now.answers) % 90))


def _calls(now: Seen, part: str, *, main: bool) -> tuple[Call, ...]:
    names = {name for name, _ in now.calls}
    if "interrupted: the runner" in now.answers:
        return tuple(Call(name, what) for name, what in now.calls if name not in READ)
    if not names:
        return (Call("read_file", {"path": "token.txt"}), Call("list", {"path": "parts"}))
    if part == "b" and not main:
        return (Call("cannot", {"reason": "nobody told me what it is for"}),)
    if names & READ and names.isdisjoint({"edit_file", "check"}):
        edit = {"path": f"parts/{part}.txt", "old_text": "broken", "new_text": "whole"}
        also = [] if part == "plan" else [Call("check")]
        return (Call("edit_file", edit), Call("grep", {"pattern": "hunter"}), *also)
    return (Call("done", {"summary": f"{part} is whole"}),)


# -- a run, cut off --------------------------------------------------------------------------------


@dataclass
class Cut:
    """What a kill right after an event leaves."""

    number: int
    """Events of the model side before it and with it."""
    event: Event
    asks: int
    """Requests that the provider had got."""
    where: Path


@dataclass
class Course:
    """A run that went through, with all that was on the disk on its way."""

    world: Path
    repo: Scratch
    provider: CachingProvider
    models: tuple[str, str]
    report: Report | None = None
    events: list[Event] = field(default_factory=list["Event"])
    cuts: list[Cut] = field(default_factory=list["Cut"])
    asks: list[Ask] = field(default_factory=list["Ask"])

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        own = {"TOKEN": SECRET, "SUBRUNNER_CONFIG": str(self.world / "config.yaml")}
        own["SUBRUNNER_SANDBOX"] = "off"  # commands wait for what lies beside the tree
        return kept | own | self.provider.environ()

    def go(self) -> None:
        """Run, and copy what is on the disk at each event that matters."""

        def cut(event: Event) -> None:
            self.events.append(event)
            if worth_a_cut(event):
                where = self.world / f"cut-{len(self.cuts)}"
                shutil.copytree(self.world / "live", where, symlinks=True)
                asks = len(self.provider.asks)
                self.cuts.append(Cut(len(self.events), event, asks, where))

        async def work() -> Report:
            return await execute(
                self.world / "live" / "repo" / "workflow.yaml",
                options=Options(
                    state_dir=self.world / "live" / "state",
                    inputs={"change": CONTEXT},
                    models=dict(zip(("main", "cheap"), self.models, strict=True)),
                    secrets=("TOKEN",),
                    strict_prefix=True,
                ),
                cwd=self.repo.root,
                sinks=[cut],
                environ=self.environ,
            )

        self.report = anyio.run(work)
        self.asks = [*self.provider.asks]

    def resume(
        self, cut: Cut, budget: Decimal | None = None
    ) -> tuple[Report, list[Event], list[Ask]]:
        """Put a cut back and resume it; return the new life's events and requests."""
        shutil.rmtree(self.world / "live")
        shutil.copytree(cut.where, self.world / "live", symlinks=True)
        before, events = len(self.provider.asks), list[Event]()

        async def work() -> Report:
            return await execute_again(
                options=ResumeOptions(state_dir=self.world / "live" / "state", budget_usd=budget),
                cwd=self.repo.root,
                sinks=[events.append],
                environ=self.environ,
            )

        return anyio.run(work), events, self.provider.asks[before:]


def worth_a_cut(event: Event) -> bool:
    match event:
        case ModelAsked() | ModelResponded() | ToolCalled() | TurnEnded() | ConversationOpened():
            return True
        case AttemptFinished(attempt=attempt):
            return attempt.model is not None
        case SnapshotTaken(label=label):
            return label.startswith("after call")
        case _:
            return False


def start(world: Path, provider: CachingProvider, models: tuple[str, str]) -> Course:
    live = world / "live"
    live.mkdir()
    repo = make(live)
    repo.write("check.py", CHECK)
    repo.write("workflow.yaml", WORKFLOW)
    repo.write("token.txt", f"{SECRET}\n")
    for part in ("a", "b", "plan"):
        repo.write(f"parts/{part}.txt", "broken\n")
    repo.commit_all("two parts")
    prices = 'prices: {"openai-chat:gpt-6.1-sol": {input: 2, output: 10}, '
    prices += '"openai-chat:gpt-6-luna": {input: 0.1, output: 0.5}}'
    (world / "config.yaml").write_text(prices if models == CHAT else "{}")
    course = Course(world, repo, provider, models)
    course.go()
    assert course.report is not None
    assert course.report.exit_code == 0, course.report
    return course


# -- what must hold --------------------------------------------------------------------------------


def canonical(ask: Ask) -> str:
    """A request without what only tells answers apart: ids go by their first appearance."""
    ids: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return ids.setdefault(found[0], f"id-{len(ids)}")

    return re.sub(r"\b(call|fc|msg|rs|resp|chatcmpl)_?-?\d+(_\d+)?\b", named, ask.text)


def rows_of(events: Sequence[Event]) -> list[ModelResponded]:
    return [event for event in events if isinstance(event, ModelResponded)]


def told_to_main(events: Sequence[Event]) -> list[str]:
    return [row.continuity.how for row in rows_of(events) if row.continuity is not None]


def check_resumed(course: Course, cut: Cut) -> None:
    """Resume after one cut and hold it against the run that went through."""
    report, events, asks = course.resume(cut)
    past = course.events[: cut.number]
    assert report.exit_code == 0, (cut.event, report)
    for part in ("a", "b", "plan"):
        assert course.repo.read(f"parts/{part}.txt") == "whole\n", cut.event
    assert course.repo.git("status", "--porcelain") == ""
    assert course.repo.git("log", "--format=%s").count("\n") == 2
    nothing_is_asked_twice(course, cut, past, asks)
    the_tree_is_what_the_model_was_told(cut, past, events)
    the_money_is_exact(course, cut, [*past, *events], report)
    main_goes_on(course, cut, past, events, asks)
    the_journal_has_what_was_sent(events, asks)


def nothing_is_asked_twice(
    course: Course, cut: Cut, past: Sequence[Event], asks: Sequence[Ask]
) -> None:
    """Requests after the cut are those that were missing; one that hung is asked again."""
    answered = Counter(canonical(ask) for ask in course.asks[: len(rows_of(past))])
    again = [ask for ask in asks if answered[canonical(ask)]]
    assert not again, (cut.event, again[0].text[-600:])
    whole = [canonical(ask) for ask in course.asks]
    interrupted = [ask for ask in asks if "interrupted: the runner" in ask.text]
    if not interrupted:
        left = whole[len(rows_of(past)) :]
        assert [canonical(ask) for ask in asks] == left, cut.event
    else:
        assert isinstance(cut.event, ModelResponded | ToolCalled | SnapshotTaken)


def the_tree_is_what_the_model_was_told(
    cut: Cut, past: Sequence[Event], events: Sequence[Event]
) -> None:
    """Just the calls that nobody saw the end of are interrupted, and what they did is undone."""
    failed = [e for e in events if isinstance(e, ToolCalled) and e.failed]
    interrupted = [e.call for e in failed if e.result == INTERRUPTED]
    assert sorted(interrupted) == sorted(cut_off(past)), cut.event
    if isinstance(cut.event, SnapshotTaken):
        assert len(failed) == len(interrupted), "an edit that was undone can be made again"


def cut_off(past: Sequence[Event]) -> list[str]:
    """Return the ids of the calls that were under way, but for those that change nothing."""
    calls: dict[str, str] = {}
    for event in past:
        match event:
            case ModelResponded(messages=messages) if messages:
                parts = json.loads(messages)[-1]["parts"]
                calls = {p["tool_call_id"]: p["tool_name"] for p in parts if "tool_name" in p}
            case ToolCalled(call=call):
                calls.pop(call, None)
            case ModelAsked() | AttemptFinished():
                calls = {}
            case _:
                pass
    apart = {*READ, "done", "cannot"}
    return [call for call, name in calls.items() if name not in apart]


def the_money_is_exact(course: Course, cut: Cut, events: Sequence[Event], report: Report) -> None:
    rows = rows_of(events)
    lost = [row for row in rows if row.unknown]
    hung = isinstance(cut.event, ModelAsked)
    assert [row.unknown for row in lost] == ["killed"] * hung
    if hung:
        assert isinstance(cut.event, ModelAsked)
        assert lost[0].number == cut.event.number
        assert lost[0].cost_usd == cut.event.worst_usd
    numbers = [event.number for event in events if isinstance(event, ModelAsked)]
    assert sorted(row.number for row in rows) == numbers == [*range(1, len(numbers) + 1)]
    assert sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0)) == report.cost_usd
    by_step: Counter[str] = Counter()
    for row in rows:
        by_step[row.step] += row.usage.requests
    for step in report.steps:
        told = sum(attempt.requests for attempt in step.attempts)
        assert told == by_step[step.id], (cut.event, step)


def main_goes_on(
    course: Course,
    cut: Cut,
    past: Sequence[Event],
    events: Sequence[Event],
    asks: Sequence[Ask],
) -> None:
    """Its first request after the cut extends the last answered one, by the oracle's own rules."""
    assert not [event for event in events if isinstance(event, Notice) and "closed" in event.text]
    before = [ask for ask in course.asks[: len(rows_of(past))] if ask.model in MAIN_MODELS]
    after = [ask for ask in asks if ask.model in MAIN_MODELS]
    for one, other in pairwise([*before[-1:], *after]):
        assert course.provider.extends(one.number, other.number), cut.event
    expected = ["extends"] * len(after) if before else ["first", *["extends"] * len(after)][:-1]
    assert told_to_main(events)[-len(after) :] == expected[: len(after)] or not after


def the_journal_has_what_was_sent(events: Sequence[Event], asks: Sequence[Ask]) -> None:
    asked = [event for event in events if isinstance(event, ModelAsked)]
    assert [event.digest for event in asked] == [
        digest_of(
            prefix_of_json(
                ask.api,
                cast("Mapping[str, Any]", ask.body),
                len(ask.raw),
                model=model_in(ask.path),
            )
        )
        for ask in asks
    ]
    for ask in asks:
        at = ask.text.find(SECRET)
        assert at < 0, ask.text[max(0, at - 300) : at + 60]


def cut_everywhere(world: Path, models: tuple[str, str], every: int) -> None:
    with caching(script, minimum=512) as provider:
        course = start(world, provider, models)
        assert len(course.cuts) > 40
        the_journal_has_what_was_sent(course.events, course.asks)
        for cut in course.cuts[::every]:
            check_resumed(course, cut)
            shutil.rmtree(cut.where)


@pytest.mark.slow
@pytest.mark.parametrize(
    "models", [ANTHROPIC, RESPONSES, CHAT], ids=["anthropic", "responses", "chat"]
)
def test_a_run_cut_off_anywhere_asks_only_what_was_missing(
    world: Path, models: tuple[str, str]
) -> None:
    cut_everywhere(world, models, 1)


def test_a_run_cut_off_here_and_there_asks_only_what_was_missing(world: Path) -> None:
    cut_everywhere(world, ANTHROPIC, 9)


# -- what changed meanwhile ------------------------------------------------------------------------


def between_turns(course: Course) -> Cut:
    """Return the cut at which main has ended its first turn, and is asked again later."""
    return next(cut for cut in course.cuts if isinstance(cut.event, TurnEnded))


def test_what_earlier_lives_spent_is_spent(world: Path) -> None:
    """The request that hung counts at its worst case, and leaves nothing of this budget."""
    with caching(script, minimum=512) as provider:
        course = start(world, provider, ANTHROPIC)
        asked = [cut for cut in course.cuts if isinstance(cut.event, ModelAsked)]
        cut = asked[-1]
        past = course.events[: cut.number]
        assert isinstance(cut.event, ModelAsked)
        known = sum((row.cost_usd or Decimal(0) for row in rows_of(past)), Decimal(0))
        worst = cut.event.worst_usd or Decimal(0)
        report, _, asks = course.resume(cut, budget=known + worst + Decimal("0.0001"))
        assert (report.exit_code, asks) == (3, [])
        assert report.cost_usd == known + worst


def test_what_other_runs_taught_meanwhile_is_not_told_to_main(world: Path) -> None:
    """The timetable in its instructions is that of the run's beginning."""
    with caching(script, minimum=512) as provider:
        course = start(world, provider, ANTHROPIC)
        cut = between_turns(course)
        tried = Tried(
            kind="test",
            model="anthropic:claude-haiku-5-5",
            rung=Rung.SUBAGENT,
            mended=True,
            usd=Decimal("0.01"),
            seconds=9.0,
            at=time.time(),
            repo="other",
            run="other",
        )
        with History.open(cut.where / "state") as history:
            history.add([tried] * 3)
        check_resumed(course, cut)


def test_a_conversation_that_cannot_go_on_as_it_was_is_handed_over(world: Path) -> None:
    """As after an update that renders requests in another way: nothing is broken silently."""
    with caching(script, minimum=512) as provider:
        course = start(world, provider, ANTHROPIC)
        cut = course.cuts[course.cuts.index(between_turns(course)) + 1]
        (file,) = cut.where.glob("state/**/journal.sqlite3")
        with closing(sqlite3.connect(file)) as journal, journal:
            changed = journal.execute(
                'UPDATE event SET data = replace(data, \'"digest":"\', \'"digest":"0\')'
                " WHERE type = 'model_asked'"
            )
            assert changed.rowcount == 3
        report, events, asks = course.resume(cut)
    assert report.exit_code == 0
    told = [event.text for event in events if isinstance(event, Notice)]
    assert any(text.startswith("main-1 is closed and another opened: ") for text in told), told
    first = next(ask for ask in asks if ask.model in MAIN_MODELS)
    assert "part b is not whole" in first.text
    assert "plan: plan is whole" in first.text
    assert len(first.body["messages"]) == 1
    assert told_to_main(events) == ["first", "extends", "extends"]
    prefix = report.prefix
    assert (prefix.conversations, prefix.unbroken) == (2, True)


# -- scripted models -------------------------------------------------------------------------------

SCRIPT = """\
as: anthropic:claude-haiku-5-5
rules:
  - when: { role: main, step: plan }
    turns:
      - calls:
          - { call: read_file, with: { path: token.txt } }
          - { call: list, with: { path: parts } }
      - call: edit_file
        with: { path: parts/plan.txt, old_text: broken, new_text: whole }
      - done: planned
  - when: { role: cheap, step: part-a }
    times: 1
    turns:
      - { call: read_file, with: { path: parts/a.txt } }
      - call: edit_file
        with: { path: parts/a.txt, old_text: broken, new_text: whole }
      - done: mended
  - when: { role: cheap, step: part-b }
    times: 1
    cannot: { reason: nobody told me }
  - when: { role: main, step: part-b }
    turns:
      - { call: read_file, with: { path: parts/b.txt } }
      - call: edit_file
        with: { path: parts/b.txt, old_text: broken, new_text: whole }
      - done: mended
"""


def played(events: Sequence[Event]) -> tuple[list[object], Counter[object]]:
    """What a scripted run says, in order, and what its calls came to, which end in any order."""
    told, calls = list[object](), Counter[object]()
    for event in events:
        match event:
            case ModelResponded(messages=messages) if messages:
                parts = json.loads(messages)[-1]["parts"]
                said = [(part.get("tool_name"), part.get("args")) for part in parts]
                told.append((event.step, event.role, said, event.usage, event.cost_usd))
            case ToolCalled():
                calls[event.step, event.tool, event.result] += 1
            case _:
                pass
    return told, calls


def test_a_script_goes_on_where_it_was(world: Path) -> None:
    file = world / "script.yaml"
    file.write_text(SCRIPT)
    with caching(script) as provider:
        course = start(world, provider, (f"script:{file}", f"script:{file}"))
        assert not provider.asks
    whole = played(course.events)
    kinds = (ModelAsked, ModelResponded, TurnEnded, AttemptFinished)
    cuts = [cut for cut in course.cuts if isinstance(cut.event, kinds)]
    for cut in cuts[::4]:
        report, events, _ = course.resume(cut)
        past = course.events[: cut.number]
        assert report.exit_code == 0
        again = played([*past, *events])
        calls = [event for event in events if isinstance(event, ToolCalled)]
        if not any(event.result == INTERRUPTED for event in calls):
            assert again == whole, cut.event


# -- real kills ------------------------------------------------------------------------------------


class Killed:
    """`runner exec` in a process of its own, against a provider that counts its cache."""

    def __init__(self, world: Path, provider: CachingProvider, models: tuple[str, str]) -> None:
        self.world, self.provider, self.models = world, provider, models
        self.repo = make(world)
        self.repo.write("check.py", CHECK)
        self.repo.write("workflow.yaml", WORKFLOW)
        self.repo.write("token.txt", f"{SECRET}\n")
        for part in ("a", "b", "plan"):
            self.repo.write(f"parts/{part}.txt", "broken\n")
        self.repo.commit_all("two parts")
        (world / "config.yaml").write_text("{}")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        kept |= {"TOKEN": SECRET, "SUBRUNNER_CONFIG": str(self.world / "config.yaml")}
        kept["SUBRUNNER_SANDBOX"] = "off"  # commands wait for what lies beside the tree
        return subprocess.Popen(
            [sys.executable, "-m", "runner", *arguments, "--state-dir", str(self.world / "state")],
            cwd=self.repo.root,
            env=kept | self.provider.environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def kill_when(self, reached: threading.Event) -> None:
        """Start the run, and kill it once it is where it should be."""
        main, cheap = self.models
        arguments = ("-i", f"change={CONTEXT}", "--model", f"main={main}")
        process = self.start(
            "exec", "--strict-prefix", "--secret", "TOKEN", *arguments, "--model", f"cheap={cheap}"
        )
        try:
            assert reached.wait(60), process.communicate()
        finally:
            os.kill(process.pid, signal.SIGKILL)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def resume(self) -> dict[str, Any]:
        process = self.start("resume", "--json")
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        return json.loads(out)

    def rows(self) -> list[ModelResponded]:
        with journal_of(self.repo.root, self.world / "state") as journal:
            return rows_of([*journal.events(journal.find())])


@pytest.mark.parametrize(
    ("models", "main"),
    [
        pytest.param(ANTHROPIC, True, id="anthropic-main"),
        pytest.param(ANTHROPIC, False, id="anthropic-subagent", marks=pytest.mark.slow),
        pytest.param(RESPONSES, True, id="responses-main", marks=pytest.mark.slow),
        pytest.param(RESPONSES, False, id="responses-subagent", marks=pytest.mark.slow),
    ],
)
def test_killed_while_the_provider_thinks(
    world: Path, models: tuple[str, str], *, main: bool
) -> None:
    """The request that hung is sent again as it was; its cache is read whole; both are paid for."""
    reached, hung = threading.Event(), list[Ask]()

    def hangs(ask: Ask) -> Reply:
        mine = (ask.model in MAIN_MODELS) == main and "edit_file" in str(seen(ask).calls)
        if mine and not hung:
            hung.append(ask)
            reached.set()
            return Fault(break_off="hang", seconds=90)
        return script(ask)

    with caching(hangs, minimum=512) as provider:
        killed = Killed(world, provider, models)
        killed.kill_when(reached)
        before = provider.bills[-1]
        report = killed.resume()
        asks, bills = provider.asks, provider.bills
    again = asks[hung[0].number]
    assert again.raw == hung[0].raw
    assert Counter(canonical(ask) for ask in asks).most_common(2)[1][1] == 1
    rows = killed.rows()
    lost = [row for row in rows if row.unknown]
    assert [row.unknown for row in lost] == ["killed"]
    billed = sum((bill.usd() for bill in bills), Decimal(0))
    assert report["cost_usd"] == float(billed + (lost[0].cost_usd or 0))
    bill = next(bill for bill in bills if bill.number == again.number)
    if main or models == RESPONSES:
        assert bill.reads_of == before.number
        assert bill.tokens.cache_read == before.tokens.input
    assert report["prefix"]["breaks"] == []
    assert report["prefix"]["conversations"] == 1


def test_killed_while_a_tool_waits(world: Path) -> None:
    """What the call did nobody knows: its model is told so, and it goes on."""
    reached = threading.Event()
    gate = world / "gate"
    waits = f"""\
import os, sys, time

gate = {str(gate)!r}
if "whole" in open(f"parts/{{sys.argv[1]}}.txt").read() and os.path.exists(gate):
    open(gate + ".reached", "w").close()
    while os.path.exists(gate):
        time.sleep(0.02)
"""
    with caching(script, minimum=512) as provider:
        killed = Killed(world, provider, ANTHROPIC)
        killed.repo.write("check.py", waits + CHECK)
        killed.repo.commit_all("it waits")
        gate.touch()

        def watch() -> None:
            deadline = time.monotonic() + 60
            while not (world / "gate.reached").exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            reached.set()

        threading.Thread(target=watch, daemon=True).start()
        killed.kill_when(reached)
        before = len(provider.asks)
        gate.unlink()
        report = killed.resume()
        after = provider.asks[before:]
    told = seen(after[0])
    assert [name for name, _ in told.calls] == ["edit_file", "grep", "check"]
    # The edit and the search were settled; only the check was cut off.
    assert told.answers.count("interrupted: the runner") == 1
    assert [name for name, _ in seen(after[1]).calls] == ["edit_file", "check"]
    assert not [row for row in killed.rows() if row.unknown]
    assert report["exit_code"] == 0
    assert len(Counter(canonical(ask) for ask in provider.asks)) == len(provider.asks)
