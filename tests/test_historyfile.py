"""The history's file: rows are there once, whoever writes when, and it never fails a run."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import HistoryError, UsageError
from runner.events import AttemptFinished, Decided
from runner.history import Tried
from runner.historyfile import FILE, KEEP, History, Imported, past, record
from runner.historyjson import LIMIT, export, read, text_of
from runner.journal import Journal
from runner.journalfile import FILE as JOURNAL
from runner.outcome import Attempt, Rung, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

NOW = 1_800_000_000.0


def tried(at: float = 0.0, **more: Any) -> Tried:
    """Make a row, another for each time."""
    row = Tried(
        kind="test",
        model="anthropic:claude-haiku-5-5",
        rung=Rung.SUBAGENT,
        mended=True,
        usd=Decimal("0.0123"),
        seconds=41.5,
        at=NOW + at,
        repo="shop-0123456789ab",
        run=f"20261121-174530-{int(at):04d}",
        step="test",
    )
    return replace(row, **more)


# --- rows -------------------------------------------------------------------------------------


def test_rows_come_back_exactly_newest_first(tmp_path: Path) -> None:
    rows = [
        tried(1),
        tried(3, usd=None, mended=False),
        tried(2, usd=Decimal("0.10"), rung=Rung.MAIN),
    ]
    with History.open(tmp_path) as history:
        assert history.add(rows) == 3
    back = past(tmp_path)
    assert back == (rows[1], rows[2], rows[0])
    assert [type(one.mended) for one in back] == [bool] * 3
    assert str(back[1].usd) == "0.10"


def test_a_row_is_there_once_and_stays_as_it_was(tmp_path: Path) -> None:
    row = tried()
    others = [replace(row, **{name: "other"}) for name in ("run", "step", "kind", "model")]
    others.append(replace(row, rung=Rung.MAIN))
    with History.open(tmp_path) as history:
        assert history.add([row, row]) == 1
        assert history.add([replace(row, mended=False, at=NOW + 9, repo="other")]) == 0
        assert history.all() == (row,)
        assert history.add([row, *others]) == 5


def test_a_repository_is_asked_for_by_its_name(tmp_path: Path) -> None:
    with History.open(tmp_path) as history:
        history.add([tried(number, repo=f"r{number % 2}") for number in range(6)])
        assert [one.at - NOW for one in history.all("r0")] == [4, 2, 0]
        assert [one.at - NOW for one in history.all("r0", limit=2)] == [4, 2]
        assert history.all("r2") == ()
        assert history.forget("r0") == 3
        assert {one.repo for one in history.all()} == {"r1"}
        assert history.forget() == 3
        assert history.all() == ()


def test_only_the_newest_are_kept_and_what_is_dropped_at_once_is_not_new(tmp_path: Path) -> None:
    with History.open(tmp_path) as history:
        assert history.add(tried(number) for number in range(10, KEEP + 10)) == KEEP
        assert history.add([tried(5), tried(KEEP + 10), tried(6)]) == 1
        times = [one.at - NOW for one in history.all(limit=2 * KEEP)]
    assert len(times) == KEEP
    assert (times[0], times[-1]) == (KEEP + 10, 11)


def test_a_name_that_is_no_text_is_kept_readable(tmp_path: Path) -> None:
    model = os.fsdecode(b"script:/tmp/\xff.yaml")
    with History.open(tmp_path) as history:
        assert [history.add([tried(model=model)]) for _ in range(2)] == [1, 0]
        assert history.all()[0].model == r"script:/tmp/\udcff.yaml"


def test_reading_makes_no_file(tmp_path: Path) -> None:
    assert past(tmp_path) == past(tmp_path / "none") == ()
    assert list(tmp_path.iterdir()) == []


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with History.open(state) as history:
        history.add([tried()])
        modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in (state, *state.iterdir())}
        assert len(list(state.iterdir())) == 3  # the file and SQLite's two helpers
    assert modes == {0}


ADD = """
import sys
from decimal import Decimal
from pathlib import Path
from runner.history import Tried
from runner.historyfile import History
from runner.outcome import Rung
me = sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(40):
    run = f"{me}-{number}" if number % 2 else f"both-{number}"
    with History.open(Path(sys.argv[1])) as history:
        history.add([Tried(kind="test", model="a:b", rung=Rung.MAIN, mended=True, usd=None,
                           seconds=1.0, at=1.0 * number, repo=me, run=run, step="t")])
"""


def test_processes_that_add_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", ADD, str(state), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name in ("a", "b", "c")
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:  # all make the file, all write to it
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    assert [writer.communicate()[1] for writer in writers] == [""] * 3
    runs = [one.run for one in past(state)]
    assert len(runs) == len(set(runs)) == 3 * 20 + 20


# --- what is wrong with the file --------------------------------------------------------------


def garbage(path: Path) -> None:
    path.write_bytes(b"no SQLite at all, but long enough to be looked at" * 100)


def torn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


def newer(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE theirs (a)")
    database.close()


def journal(path: Path) -> None:
    path.unlink()
    Journal.open(path.parent).close()
    (path.parent / JOURNAL).rename(path)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def odd_row(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("UPDATE tried SET rung = 'ladder'")
    database.close()


BROKEN = [
    (garbage, "not a database", "Keep a copy"),
    (torn, "malformed", "Keep a copy"),
    (newer, "has format 99; this release knows formats up to 1", "newer release"),
    (foreign, "is not a history of runner", "move that file away"),
    (journal, "is not a history of runner", "move that file away"),
    (directory, "unable to open database file", "permissions"),
    (odd_row, "a row of run '20261121-174530-0299' cannot be read", "Keep a copy"),
]


def holding(path: Path, events: Sequence[Any]) -> Journal:
    opened = Journal.open(path)
    opened.begin("r1", path)
    for one in events:
        opened.append("r1", one)
    return opened


def mending(step: str = "test", **more: Any) -> list[Any]:
    attempt = Attempt(
        2, Rung.SUBAGENT, "a:b", Verdict.PASSED, "", cost_usd=Decimal("0.5"), seconds=2.0, **more
    )
    return [Decided(step, "AskSubagent", "", {"kind": "lint"}), AttemptFinished(step, attempt)]


@pytest.mark.parametrize(("spoil", "said", "hint"), BROKEN, ids=[one[0].__name__ for one in BROKEN])
def test_a_history_that_cannot_be_used_is_explained_left_as_it_is_and_fails_no_run(
    tmp_path: Path, spoil: Callable[[Path], None], said: str, hint: str
) -> None:
    with History.open(tmp_path) as history:
        history.add(tried(number) for number in range(300))
    path = tmp_path / FILE
    spoil(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(HistoryError) as error:
        past(tmp_path)
    assert said in error.value.message
    assert str(path) in error.value.message
    assert hint in error.value.hint
    if spoil is odd_row:
        return  # other rows can still be added
    with holding(tmp_path / "repo", mending()) as opened:
        notice = record(opened, "r1", "repo", tmp_path)
    assert notice.startswith("this run is not in the history: ")
    assert "\n" not in notice
    if spoil is not torn:
        assert said in notice
    if before:
        assert path.read_bytes() == before


def test_a_history_that_was_emptied_is_not_written_over(tmp_path: Path) -> None:
    history = History.open(tmp_path)
    history.add([tried()])
    (tmp_path / FILE).write_bytes(b"")
    with pytest.raises(HistoryError, match="has been emptied"):
        past(tmp_path)
    assert (tmp_path / FILE).stat().st_size == 0
    history.close()


LIMITED = """
import resource, sys
from pathlib import Path
from runner.historyfile import record
from runner.journal import Journal
state = Path(sys.argv[1])
with Journal.open(state / "repo") as journal:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    print(record(journal, "r1", "repo", state))
"""


def test_a_full_disk_is_one_notice(tmp_path: Path) -> None:
    holding(tmp_path / "repo", mending()).close()
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("this run is not in the history: the history ")
    assert done.stdout.count("\n") == 1


def test_a_directory_that_cannot_be_written_is_one_notice(tmp_path: Path) -> None:
    """A file stands where the directory should be: true for root too, unlike permissions."""
    (tmp_path / "state").write_text("")
    with holding(tmp_path / "repo", mending()) as opened:
        notice = record(opened, "r1", "repo", tmp_path / "state")
    assert "File exists" in notice or "Not a directory" in notice
    assert "--state-dir" in notice


# --- recording a run --------------------------------------------------------------------------


def test_a_finished_run_is_recorded_once(tmp_path: Path) -> None:
    with holding(tmp_path / "repo", [*mending("a"), *mending("b")]) as opened:
        assert [record(opened, "r1", "repo-1", tmp_path) for _ in range(2)] == ["", ""]
    rows = past(tmp_path, "repo-1")
    assert [(one.run, one.step, one.kind, one.model, one.mended) for one in rows] == [
        ("r1", "b", "lint", "a:b", True),
        ("r1", "a", "lint", "a:b", True),
    ]
    assert (rows[0].usd, rows[0].seconds) == (Decimal("0.5"), 2.0)


def test_a_run_without_an_attempt_opens_no_file(tmp_path: Path) -> None:
    infra = AttemptFinished("a", Attempt(2, Rung.SUBAGENT, "a:b", Verdict.INFRA, ""))
    with holding(tmp_path / "repo", [mending("a")[0], infra]) as opened:
        assert record(opened, "r1", "repo-1", tmp_path) == ""
    assert not (tmp_path / FILE).exists()


def test_nothing_heavy_is_imported_for_it() -> None:
    heavy = ("pydantic", "pydantic_ai", "genai_prices", "httpx2", "rich", "jsonschema", "anyio")
    code = f"import sys, runner.historyfile; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n")


# --- sharing ----------------------------------------------------------------------------------


def shared(*rows: Tried) -> bytes:
    return text_of(export(rows)).encode()


def given_back(data: bytes) -> tuple[Tried, ...]:
    return read(data, name="h.json", now=NOW)


names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
somewhat = st.builds(
    Tried,
    kind=st.sampled_from(["test", "lint", "format", "type", "other"]),
    model=names.filter(lambda name: not name.startswith("script:")),
    rung=st.sampled_from([Rung.SUBAGENT, Rung.MAIN]),
    mended=st.booleans(),
    usd=st.none() | st.decimals(0, 1000, places=6),
    seconds=st.integers(0, 10**7).map(lambda ms: ms / 1000),
    at=st.integers(0, int(NOW)).map(float),
    repo=st.from_regex(r"[A-Za-z0-9._-]{1,60}", fullmatch=True),
    run=st.from_regex(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{4}", fullmatch=True),
    step=names,
)


@given(st.lists(somewhat, max_size=5))
def test_what_was_exported_is_read_as_it_was(rows: list[Tried]) -> None:
    back = given_back(shared(*rows))
    assert list(back) == rows
    assert shared(*back) == shared(*rows)


def test_an_exported_file_reads_well(tmp_path: Path) -> None:
    with History.open(tmp_path) as history:
        history.add([tried(), tried(1, model=f"script:{tmp_path}/a.yaml", usd=None)])
        rows = history.all()
    text = text_of(export(rows))
    assert json.loads(text) == export(rows)
    assert text.splitlines() == [
        "{",
        '  "schema": 1,',
        '  "what": "runner history",',
        '  "rows": [',
        '    {"repo": "shop-0123456789ab", "run": "20261121-174530-0000", "step": "test", '
        '"kind": "test", "model": "anthropic:claude-haiku-5-5", "rung": "subagent", '
        '"mended": true, "cost_usd": 0.0123, "seconds": 41.5, "at": 1800000000.0}',
        "  ]",
        "}",
    ]
    assert json.loads(text_of(export([]))) == {"schema": 1, "what": "runner history", "rows": []}


def test_merging_doubles_nothing(tmp_path: Path) -> None:
    theirs = given_back(shared(tried(1), tried(2), tried(2)))
    with History.open(tmp_path) as history:
        history.add([tried(1), tried(7)])
        assert history.import_(theirs) == Imported(rows=3, new=1, moved=0)
        assert history.import_(theirs) == Imported(rows=3, new=0, moved=0)
        assert len(history.all()) == 3


def test_rows_of_another_checkout_can_be_counted_as_ones_own(tmp_path: Path) -> None:
    with History.open(tmp_path) as history:
        history.add([tried(1), tried(9, repo="mine")])
        assert history.import_([tried(1), tried(2)], repo="mine") == Imported(2, 1, 1)
        assert history.import_([tried(1), tried(2)], repo="mine") == Imported(2, 0, 0)
        assert {one.repo for one in history.all()} == {"mine"}


def changed(**fields: Any) -> bytes:
    document = export([tried(), tried(1)])
    document["rows"][1] |= fields
    return json.dumps(document).encode()


def without(key: str) -> bytes:
    document = export([tried()])
    del document["rows"][0][key]
    return json.dumps(document).encode()


HEAD = '"what": "runner history", "schema"'
WRONG: list[tuple[bytes, str]] = [
    (b"", "h.json: line 1, column 1: Expecting value"),
    (b'{\n "schema" 1\n}', "h.json: line 2, column 11: Expecting ':' delimiter"),
    (b"\xff\xfe\x00", "h.json: not UTF-8 text, byte 0"),
    (b"[" * 100_000, "h.json: not JSON that can be read: "),
    (b"9" * 5000, "h.json: not JSON that can be read: "),
    (b'{"a": 1e99999999999999999999}', "h.json: not JSON that can be read: "),
    (b'{"a": NaN}', "h.json: not JSON that can be read: NaN is no number of JSON"),
    (b" " * (LIMIT + 1), "h.json: longer than 16 MB"),
    (b"[]", "h.json: not a history of runner"),
    (b'{"schema": 1, "run_id": "x"}', "h.json: not a history of runner"),
    (f'{{{HEAD}: "1", "rows": []}}'.encode(), "h.json: not a history of runner"),
    (f'{{{HEAD}: true, "rows": []}}'.encode(), "h.json: not a history of runner"),
    (f'{{{HEAD}: 2, "rows": []}}'.encode(), "h.json: schema 2; this release reads schema 1"),
    (f'{{{HEAD}: 0, "rows": []}}'.encode(), "h.json: schema 0; this release reads schema 1"),
    (f"{{{HEAD}: 1}}".encode(), "h.json: `rows` is not a list"),
    (f'{{{HEAD}: 1, "rows": [7]}}'.encode(), "h.json: rows[0]: not an object but 7"),
    (changed(color="red"), 'h.json: rows[1]: unknown field "color"'),
    (without("model"), "h.json: rows[0]: field `model` is missing"),
    (changed(mended=1), "h.json: rows[1]: field `mended` is not true or false but 1"),
    (changed(rung="command"), "field `rung` is not one of subagent, main but "),
    (changed(rung=["main"]), "field `rung` is not one of subagent, main but "),
    (changed(cost_usd="0.1"), "field `cost_usd` is not an amount or null but "),
    (changed(cost_usd=-0.1), "field `cost_usd` is not an amount or null but -0.1"),
    (changed(seconds=True), "field `seconds` is not a number of seconds but true"),
    (changed(seconds=10**400), "field `seconds` is not a number of seconds but 1000"),
    (changed(at=NOW + 90_000), "rows[1]: field `at` lies in the future: 1800090000.0"),
    (changed(at="today"), "field `at` is not a time in seconds since the epoch but "),
    (changed(repo="../etc"), "field `repo` is not the name of a state directory but "),
    (changed(run="a b"), "field `run` is not a run's id but "),
    (changed(step="\x1b[2J"), "field `step` is not a step's id but "),
    (changed(step="x" * 5000), "field `step` is not a step's id but \"xxxxx"),
    (changed(model="\ud800"), "field `model` is not a model's id but "),
    (changed(model=""), "field `model` is not a model's id but "),
    (changed(kind="Test!"), "field `kind` is not a kind of failure, such as `test` but "),
]


@pytest.mark.parametrize(("data", "said"), WRONG, ids=[said[:60] for _, said in WRONG])
def test_a_wrong_file_is_refused_with_its_place(data: bytes, said: str) -> None:
    with pytest.raises(UsageError) as error:
        given_back(data)
    assert said in error.value.message
    assert len(error.value.message) < 200
    assert error.value.message.isprintable()
    assert error.value.hint


def test_what_other_editors_write_is_read_too() -> None:
    assert given_back(b"\xef\xbb\xbf" + shared(tried())) == (tried(),)
    document = export([tried()])
    document["rows"][0] |= {"cost_usd": None, "seconds": 41, "at": int(NOW + 80_000)}
    back = given_back(json.dumps(document, indent=4).encode())
    assert back == (replace(tried(), usd=None, seconds=41.0, at=NOW + 80_000),)
    assert [type(back[0].seconds), type(back[0].at)] == [float, float]
