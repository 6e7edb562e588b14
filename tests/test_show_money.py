"""`runner show --cost` and `--prefix`: what people and machines read of money and cache."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from story import START, failing, kept_warm, passing, responded

from runner.cli.app import root
from runner.console.ledger import render_cost, render_prefix
from runner.console.style import cells
from runner.events import Continuity, Event, ModelResponded, RunFinished
from runner.journal import Journal
from runner.journalfile import FILE
from runner.loader.config import parse_config
from runner.outcome import Usage
from runner.report import ledger_json, prefix_json, summarise
from runner.workspace.state import repo_state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Show = Callable[..., subprocess.CompletedProcess[str]]

WHY = "200 tokens less than promised: the provider may have dropped the entry early"
LATER = replace(
    responded(3, "main", "0.02", "extends"),
    usage=Usage(1, 42_000, 41_000, 900, 900, 300),
    continuity=Continuity("extends", 14, 9_768, "8c04bdd6e7cc6ae0", 41_200, WHY),
)
BROKEN = responded(3, "main", "0.0079", "messages[4].content[0]: changed (310 bytes became 322)")


def told(*more: ModelResponded) -> list[Event]:
    """Tell of the failing run, with more responses before its end."""
    *events, last = failing()
    return [*events, *more, last]


def cost(events: Sequence[Event], width: int = 80) -> str:
    return render_cost(summarise(events), width=width)


def prefix(events: Sequence[Event], width: int = 80) -> str:
    return render_prefix(summarise(events), width=width)


# --- the ledger -------------------------------------------------------------------------------

COST_80 = """\
  step        rung     model           reqs input  read write  1h output    cost
  test                                    3  124k 92.2k  1.1k 900   1.3k $0.0552
  · attempt 2 subagent script:ship.ya…    1 41.2k 25.6k   100   0    512 $0.0042
  · attempt 3 main     claude-big         2 83.2k 66.6k  1.0k 900    812 $0.0510
  keep-alive  main     claude-big         1 41.8k 41.2k     0   0      1 $0.0083

  role
  main                 claude-big         2 83.2k 66.6k  1.0k 900    812 $0.0510
  cheap                script:ship.ya…    1 41.2k 25.6k   100   0    512 $0.0042
  keep-alive           claude-big         1 41.8k 41.2k     0   0      1 $0.0083

  total                                   4  166k  133k  1.1k 900   1.3k $0.0635

  Cost    $0.0635 of $1.00 (the default), 93% left; $0.0042 of it scripted
  Cached  82,200 of 82,400 expected tokens read by main
  Prices  genai-prices 0.2.3, of 2026-11-09
"""
COST_160 = """\
  step          rung       model              requests     input   cache read   cache write   \
for 1h   output        cost
  test                                               3   124,400       92,200         1,100   \
   900    1,324   $0.055200
  · attempt 2   subagent   script:ship.yaml          1    41,200       25,600           100   \
     0      512   $0.004200
"""


def test_what_each_attempt_and_role_cost_at_80_columns() -> None:
    assert cost(told(kept_warm(), LATER)) == COST_80


def test_with_room_figures_have_all_their_digits() -> None:
    assert cost(told(kept_warm(), LATER), 160).startswith(COST_160)


def test_a_step_with_one_attempt_takes_one_line() -> None:
    text = cost([START, responded(3, "main", "0.5"), RunFinished(0, "succeeded", 1.0)], 100)
    assert [line.split()[:3] for line in text.splitlines()[:2]] == [
        ["step", "rung", "model"],
        ["test", "main", "claude-big"],
    ]
    # Nobody wrote to a cache for an hour.
    assert "1h" not in text


@pytest.mark.parametrize(
    ("cost_usd", "cell", "said"),
    [
        (None, "≥$0.0352", "Cost    at least $0.0352 of $1.00 (the default); a price is not known"),
        (Decimal(0), " $0.0352", "Cost    $0.0352 of $1.00 (the default), 96% left"),
    ],
)
def test_an_unknown_cost_is_never_zero(cost_usd: Decimal | None, cell: str, said: str) -> None:
    odd = replace(responded(1, "cheap", "0"), role="odd", cost_usd=cost_usd, step="lint")
    lines = cost(told(odd)).splitlines()
    (total,) = (line for line in lines if line.startswith("  total"))
    assert total.endswith(cell)
    assert said in "\n".join(lines)
    unknown = [line for line in lines if line.endswith(" unknown")]
    assert [line.split()[0] for line in unknown] == (["lint", "odd"] if cost_usd is None else [])


def test_requests_that_told_no_usage_are_named_as_such() -> None:
    lost = replace(responded(3, "main", "0.2"), usage=Usage(1))
    what = "Booked 2 requests whose usage nobody told, at the most that they can have cost"
    assert what in " ".join(cost(told(lost, lost)).split())
    free = replace(lost, cost_usd=Decimal(0))
    assert "Booked" not in cost(told(free))


@pytest.mark.parametrize(
    ("reads", "said"),
    [
        ([("first", 0, None)], ""),
        ([("first", 900, None), ("extends", 4_000, 4_000)], "4,000 of 4,000 {}"),
        # What was found unexpectedly is no part of what was promised and not read.
        (
            [("extends", 4_500, 0), ("extends", 0, 4_000), ("same", 5_000, 4_000)],
            "4,000 of 8,000 {}",
        ),
        ([("extends", 4_500, None)], ""),
        ([("extends", 0, 0)], ""),
        ([("extends", 9, None), ("extends", 4, 4)], "4 of 4 {}; nobody knows of 1 request"),
        ([("extends", 4, 4), ("tools: changed", 0, None)], "4 of 4 {}"),
    ],
)
def test_what_was_read_is_held_against_what_was_promised(
    reads: list[tuple[str, int, int | None]], said: str
) -> None:
    rows = [
        replace(
            responded(3, "main", "0.01"),
            usage=Usage(1, 9_000, read, 0, 0, 5),
            continuity=Continuity(how, 12, 8_634, "59136421a5052c58", expected),
        )
        for how, read, expected in reads
    ]
    text = cost([START, *rows, RunFinished(0, "succeeded", 1.0)])
    told = f"  Cached  {said.format('expected tokens read by main')}\n"
    assert (told in text) if said else ("Cached" not in text)


def test_own_prices_are_named_beside_the_table() -> None:
    own = replace(responded(3, "main", "0.01"), prices=(), at=5.0)
    assert "  Prices  own for anthropic:claude-big; else genai-prices 0.2.3, of" in cost(told(own))
    assert "  Prices  own for anthropic:claude-big\n" in cost([START, own])
    free = replace(own, cost_usd=Decimal(0))
    assert "Prices" not in cost([START, free])


def test_a_step_is_cut_in_its_middle_and_only_where_room_lacks() -> None:
    name = "integration-tests-on-postgres-16"
    long = replace(responded(2, "cheap", "0.1"), step=name)
    assert f"\n  {name} " in cost([START, long], 160)
    assert "\n  integra…gres-16 " in cost([START, long], 80)


def test_the_table_fits() -> None:
    long = replace(responded(2, "cheap", "0.1"), step="integration-tests-on-postgres")
    for width in (80, 100, 120, 160):
        for line in cost(told(long, kept_warm(), LATER), width).splitlines():
            assert cells(line) <= width, line


def test_without_models_one_sentence_says_so() -> None:
    nothing = "No model was asked in run 20261121-174530-3f9a: "
    assert cost(passing()) == f"{nothing}it cost no token.\n"
    assert prefix(passing()) == f"{nothing}there is no prefix.\n"
    without_main = prefix([START, responded(2, "cheap", "0.1")])
    assert without_main.endswith("had no main conversation: there is no prefix.\n")


# --- the prefix -------------------------------------------------------------------------------

PREFIX = f"""\
  #   step         blocks   bytes     digest   cached   expected   prefix
  1   test             12   8,634   59136421   25,600          ?   first
  2   keep-alive       12   8,634   59136421   41,200     41,200   same
  3   test             14   9,768   8c04bdd6   41,000     41,200   extends
      {WHY[:74].rpartition(" ")[0]}
      {WHY[:74].rpartition(" ")[2]}{WHY[74:]}

"""


def test_each_request_of_the_main_conversation_has_a_line() -> None:
    unbroken = "✓ unbroken: 3 requests, 1 conversation\n"
    assert prefix(told(kept_warm(), LATER)) == PREFIX + unbroken


def test_a_broken_prefix_is_loud() -> None:
    report = summarise(told(LATER, BROKEN))
    text = render_prefix(report, color=True)
    assert "\x1b[1;31m  3   test " in text
    assert "   BROKEN\x1b[0m\n" in text
    assert "\x1b[31m      differs: messages[4].content[0]: changed (310 bytes" in text
    assert text.endswith(
        "\x1b[1;31m✗ BROKEN: the main conversation's prompt cache was lost 1 time in 3 requests"
        "\x1b[0m\n\x1b[31m  This is a defect of runner: please report it, with this list.\x1b[0m\n"
    )


def test_another_conversation_begins_after_an_empty_line() -> None:
    other = replace(responded(3, "main", "0"), conversation="main-2")
    text = prefix(told(LATER, other, LATER))
    assert text.count("\n\n") == 3
    assert text.endswith("unbroken: 4 requests, 2 conversations\n")


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def show(tmp_path: Path) -> Show:
    """Run `runner show` where `recorded` has put a run."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environ = {**kept, "SUBRUNNER_STATE_DIR": str(tmp_path / "state"), "COLUMNS": "80"}
    (tmp_path / "work").mkdir()

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "runner", "show", *args]
        return subprocess.run(
            command, cwd=tmp_path / "work", env=environ, capture_output=True, text=True, check=False
        )

    return call


def recorded(folder: Path, events: Sequence[Event]) -> Path:
    """Write a run to the journal of `folder`/work; return the journal's file."""
    state = repo_state((folder / "work").resolve(), folder / "state")
    with Journal.open(state) as journal:
        journal.begin(START.run_id, folder / "work")
        for event in events:
            journal.append(START.run_id, event)
    return state / FILE


def test_show_prints_what_was_asked_for(show: Show, tmp_path: Path) -> None:
    recorded(tmp_path, told(kept_warm(), LATER))
    both = show("--cost", "--prefix").stdout
    assert show("--cost").stdout == COST_80
    assert both.startswith(f"{COST_80}\n{PREFIX}")
    assert show("--prefix").stdout == both.removeprefix(f"{COST_80}\n")
    rows = json.loads(show("--cost", "--json").stdout)
    assert [row["role"] for row in rows] == ["cheap", "main", "keepalive", "main"]
    assert [row["cost_usd"] for row in rows] == ["0.0042", "0.031", "0.0083", "0.02"]
    requests = json.loads(show("--prefix", "--json").stdout)
    assert requests[2] == {
        "number": 3, "at": 0.0, "step": "test", "attempt": 3, "role": "main",
        "conversation": "main", "blocks": 14, "bytes": 9768, "digest": "8c04bdd6e7cc6ae0",
        "how": "extends", "broken": False, "cached_tokens": 41_000, "expected_tokens": 41_200,
        "why": WHY,
    }  # fmt: skip
    together = json.loads(show("--cost", "--prefix", "--json").stdout)
    assert together == {"cost": rows, "prefix": requests}


def test_a_run_without_models_is_no_error(show: Show, tmp_path: Path) -> None:
    recorded(tmp_path, passing())
    done = show("--cost", "--prefix")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 3
    assert json.loads(show("--cost", "--json").stdout) == []


def test_a_run_of_an_older_release_is_shown_without_what_it_did_not_keep(
    show: Show, tmp_path: Path
) -> None:
    """Its rows have `prefix` as a text, and none of what was added since."""
    path = recorded(tmp_path, told(LATER))
    with sqlite3.connect(path, isolation_level=None) as database:
        query = "SELECT seq, data FROM event WHERE type IN ('run_started', 'model_responded')"
        for seq, text in database.execute(query).fetchall():
            data = json.loads(text)
            for name in ("continuity", "at", "prices", "may_fail"):
                data.pop(name, None)
            if "role" in data:
                data["prefix"] = "extends" if data["role"] == "main" else ""
            new = json.dumps(data)
            database.execute("UPDATE event SET data = ? WHERE seq = ?", (new, seq))
    database.close()
    done = show("--cost", "--prefix")
    assert done.returncode == 0, done.stderr
    table, _, rest = done.stdout.partition("\n  Cost ")
    assert table == COST_80_OLD
    assert "Prices" not in rest
    assert rest.endswith(
        "\nRun 20261121-174530-3f9a was recorded by an older release of runner, "
        "which kept nothing about the prefix.\n"
    )
    assert json.loads(show("--prefix", "--json").stdout) == []
    report = json.loads(show("--json").stdout)
    assert report["prefix"] == {
        "requests": 0, "conversations": 0, "unbroken": True, "breaks": [],
    }  # fmt: skip
    assert "✗ ship failed" in show().stdout


COST_80_OLD = "".join(
    line.replace("   4  166k  133k", "   3  124k 92.2k").replace("$0.0635", "$0.0552") + "\n"
    for line in COST_80.split("\n\n  Cost")[0].splitlines()
    if "keep-alive" not in line
)


# --- the page about it ------------------------------------------------------------------------

PAGE = (Path(__file__).parent.parent / "docs/money.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_what_the_page_tells_to_type_is_understood() -> None:
    text = "".join(text for language, text in BLOCKS if language == "sh")
    spans = re.findall(r"`runner ([^`]+)`", PAGE.replace("\n", " "))
    lines = [shlex.split(line, comments=True)[1:] for line in text.splitlines()]
    for name, *arguments in [*lines, *map(shlex.split, spans)]:
        command = root.get_command(click.Context(root), name)
        assert command is not None, name
        command.make_context(name, ["1" if word == "USD" else word for word in arguments])


def test_the_configuration_on_the_page_is_good() -> None:
    (text,) = [text for language, text in BLOCKS if language == "yaml"]
    (override,) = parse_config(text, file="config.yaml").caches.values()
    assert (override.minimum, override.retention, override.longer) == (1024, 300, 3600)


def test_the_page_names_each_key_that_is_printed() -> None:
    report = summarise(told(LATER))
    named = [set(words.split()) for words in re.findall(r"`(number [^`]+)`", PAGE)]
    assert named == [set(ledger_json(report)[0]), set(prefix_json(report)[0])]


# --- a whole run ------------------------------------------------------------------------------

SCRIPT = """\
as: anthropic:claude-opus-5-5
rules:
  - turns:
      - { call: list, with: { path: "." }, usage: { input: 1800, output: 2000 } }
      - { call: list, with: { path: "." }, usage: { input: 1900, output: 2000 } }
      - { call: list, with: { path: "." }, usage: { input: 2000, output: 2000 } }
      - { done: done, usage: { input: 2100, output: 2000 } }
"""


def test_a_run_that_is_out_of_money_says_what_was_needed_left_and_spent(
    show: Show, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / "main.yaml").write_text(SCRIPT)
    (work / "workflow.yaml").write_text("steps:\n  - { id: think, prompt: look around }\n")
    state = {"SUBRUNNER_STATE_DIR": str(tmp_path / "state"), "SUBRUNNER_CONFIG": ""}
    options = ["--model", "main=script:main.yaml", "--budget", "0.13"]
    done = subprocess.run(
        [sys.executable, "-m", "runner", "exec", *options],
        cwd=work, env=os.environ | state, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    said = " ".join(done.stderr.split())
    # Two answers of 2,000 tokens at 20 USD a million, and what was read.
    spent = Decimal(2000 * 2 * 20 + (1800 + 1900) * 4) / 1_000_000
    found = re.search(
        r"request of main needs up to \$([\d.]+) \(its worst case\); of \$0\.1300, "
        r"\$([\d.]+) is spent and \$([\d.]+) left\.",
        said,
    )
    assert found is not None, said
    assert Decimal(found[1]) > Decimal(found[3])
    assert round(Decimal(found[2]), 4) == round(spent, 4) == Decimal("0.0948")
    assert "Cost $0.0948 of $0.1300, 27% left, scripted: nothing was paid" in said
    assert re.search(r"Look runner show \S+ --cost", said)
    text = show("--cost", "--prefix").stdout
    assert re.search(r"\n  Prices  genai-prices [\d.]+, of 20\d\d-\d\d-\d\d\n", text)
    assert "✓ unbroken: 2 requests, 1 conversation\n" in text
    rows = json.loads(show("--cost", "--json").stdout)
    assert sum(Decimal(row["cost_usd"]) for row in rows) == spent
