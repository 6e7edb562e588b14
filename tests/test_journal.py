"""The journal: what was written comes back exactly, whoever dies when."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from itertools import count
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import events, outcome
from runner.errors import JournalError, UsageError
from runner.events import (
    CommandOutput,
    Event,
    GitFact,
    GitIntent,
    ModelResponded,
    Notice,
    RunFinished,
    RunStarted,
    StepFinished,
    StepStarted,
)
from runner.journal import Journal, decode, encode, new_run_id
from runner.lease import Holder, Lease, held, myself
from runner.outcome import Status, StepOutcome, Usage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EVENTS: Sequence[type[Any]] = get_args(Event)

# --- exact round trip -------------------------------------------------------------------------

# A high surrogate before a low one would become one character; file names hold low ones only.
text = st.text(st.characters(exclude_categories=[]).filter(lambda c: not "\ud800" <= c < "\udc00"))
numbers = st.floats(allow_nan=False)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
PLAIN: Mapping[object, st.SearchStrategy[Any]] = {
    str: text,
    int: st.integers(),
    float: numbers,
    bool: st.booleans(),
    NoneType: st.none(),
    Any: values,
    Decimal: st.decimals(allow_nan=False),
    Path: text.filter(lambda t: "\0" not in t).map(Path),
}


def strategy(hint: Any) -> st.SearchStrategy[Any]:
    if hint in PLAIN:
        return PLAIN[hint]
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, UnionType):
        return st.one_of([strategy(arg) for arg in args])
    if origin is tuple:
        return st.lists(strategy(args[0]), max_size=3).map(tuple)
    if origin is frozenset:
        return st.frozensets(strategy(args[0]), max_size=3)
    if origin is Mapping:
        return st.dictionaries(strategy(args[0]), strategy(args[1]), max_size=3)
    if issubclass(hint, Enum):
        return st.sampled_from(hint)
    names = {"Mapping": Mapping, "Decimal": Decimal, "Path": Path, **vars(outcome), **vars(events)}
    hints = get_type_hints(hint, localns=names)
    return st.builds(hint, **{name: strategy(of) for name, of in hints.items()})


@pytest.mark.parametrize("cls", EVENTS, ids=lambda cls: cls.__name__)
def test_every_event_comes_back_exactly(cls: type[Any]) -> None:
    # Events have many fields: a busy machine is slow to fill them, which says nothing of them.
    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    @given(strategy(cls))
    def check(event: Event) -> None:
        back = decode(json.loads(json.dumps(encode(event))))
        assert back == event
        assert repr(back) == repr(event)  # 1.0 is not 1.00, an enum is not its text

    check()


def test_an_event_reads_well_as_json() -> None:
    event = StepFinished(StepOutcome("lint", Status.SUCCEEDED, cost_usd=Decimal("0.10")))
    data = encode(event)
    assert data["type"] == "step_finished"
    assert data["outcome"]["status"] == "succeeded"
    assert data["outcome"]["cost_usd"] == "0.10"


def test_values_that_json_has_not_are_written_as_the_nearest() -> None:
    facts = {"cost": Decimal("0.10"), "where": Path("a/b"), "names": {"b", "a"}, "pair": (1, 2)}
    event = decode(json.loads(json.dumps(encode(events.Decided("s", "d", "r", facts)))))
    assert isinstance(event, events.Decided)
    assert event.facts == {"cost": "0.10", "where": "a/b", "names": ["a", "b"], "pair": [1, 2]}


def test_a_newer_writers_extra_field_is_ignored_and_an_older_ones_gap_filled() -> None:
    assert decode({"type": "notice", "text": "t", "color": "red"}) == Notice("t")


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"type": "no_such_event"},
        {"type": ["notice"]},
        {"type": "notice"},
        {"type": "step_finished", "outcome": None},
        {"type": "step_finished", "outcome": {"id": "a", "status": "no such status"}},
        {"type": "step_finished", "outcome": {"id": "a", "status": "failed", "cost_usd": "much"}},
    ],
)
def test_what_is_no_event_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(JournalError):
        decode(data)


# --- writing and reading ----------------------------------------------------------------------


def started(root: Path, *, scripted: bool = False) -> RunStarted:
    return RunStarted(
        run_id="r", workflow="ship", file="workflow.yaml", root=str(root), state_dir="s",
        models={"main": "m"}, budget_usd=Decimal(1), budget_seconds=60.0, budget_given=True,
        scripted=scripted, sandbox="", git_before="", branch="main", steps=(), started_at=1.0,
    )  # fmt: skip


def responded(cost: Decimal | None, *, scripted: bool = False) -> ModelResponded:
    usage = Usage(requests=1, input_tokens=10)
    return ModelResponded("s", 1, "cheap", "a:b", "b", usage, cost, 0.1, "c", scripted=scripted)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def journal(state: Path) -> Iterator[Journal]:
    ticks = count(1000)
    with Journal.open(state, clock=lambda: float(next(ticks))) as opened:
        yield opened


def test_what_was_written_is_read_in_order_with_its_time(journal: Journal, tmp_path: Path) -> None:
    wrote = [started(tmp_path), StepStarted("a"), Notice("n"), GitIntent("c", "commit", {})]
    journal.begin("r1", tmp_path)
    assert [journal.append("r1", event) for event in wrote] == [1, 2, 3, 4]
    assert list(journal.events("r1")) == wrote
    records = list(journal.records("r1", after=2))
    assert [record.seq for record in records] == [3, 4]
    assert records[0].at < records[1].at


def test_command_output_is_not_kept(journal: Journal, tmp_path: Path) -> None:
    journal.begin("r1", tmp_path)
    assert journal.append("r1", CommandOutput("a", "line")) == 0
    assert journal.append("r1", Notice("n")) == 1
    assert journal.append("r1", CommandOutput("a", "line")) == 1
    assert list(journal.events("r1")) == [Notice("n")]


def test_the_list_of_runs_says_what_became_of_each(
    state: Path, journal: Journal, tmp_path: Path
) -> None:
    roots = [tmp_path / name for name in "abcd"]
    for name, root in zip(("done", "dear", "dead", "live"), roots, strict=True):
        journal.begin(name, root)
        journal.append(name, started(root))
    journal.append("done", responded(Decimal("0.10"), scripted=True))
    journal.append("done", responded(Decimal("0.205")))
    journal.append("done", RunFinished(7, "succeeded", 1.0))
    journal.append("dear", responded(None))
    journal.append("dear", responded(Decimal(1)))
    journal.append("dear", RunFinished(1, "failed", 1.0))
    for name in ("done", "dear", "dead"):
        journal.end(name)
    with Journal.open(state, create=False) as other:
        rows = {row.id: row for row in other.runs()}
    assert list(rows) == ["live", "dead", "dear", "done"]  # newest first
    assert {name: row.status for name, row in rows.items()} == {
        "live": "running", "dead": "killed", "dear": "failed", "done": "succeeded"
    }  # fmt: skip
    assert rows["done"].exit_code == 7
    assert rows["done"].cost_usd == Decimal("0.305")
    assert rows["done"].scripted
    assert not rows["dear"].scripted
    assert rows["dear"].cost_usd is None  # unknown is not zero
    assert rows["done"].workflow == "ship"
    assert rows["done"].heard_at > rows["done"].started_at
    assert rows["live"].pid == os.getpid()


def test_a_reader_follows_a_run_that_is_being_written(state: Path, tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from runner.journal import Journal
from runner.events import Notice
with Journal.open(Path({str(state)!r})) as journal:
    journal.begin("r1", Path({str(tmp_path)!r}))
    for number in range(300):
        journal.append("r1", Notice(str(number)))
        if number == 0:
            print("ready", flush=True)
        time.sleep(0.001)
    journal.end("r1")
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        seen, looks = 0, 0
        with Journal.open(state, create=False) as journal:
            while seen < 300:
                for record in journal.records("r1", after=seen):
                    assert record.seq == seen + 1
                    assert record.event == Notice(str(seen))
                    seen = record.seq
                looks += 1
        assert writer.wait() == 0
    assert looks > 1


def test_writing_an_event_takes_less_than_a_millisecond(journal: Journal, tmp_path: Path) -> None:
    journal.begin("r1", tmp_path)
    event = responded(Decimal("0.01"))
    times: list[float] = []
    for _ in range(200):
        begun = time.perf_counter()
        journal.append("r1", event)
        times.append(time.perf_counter() - begun)
    assert statistics.median(times) < 0.001


def test_only_the_owner_can_read_it(journal: Journal, state: Path, tmp_path: Path) -> None:
    journal.begin("r1", tmp_path)
    journal.append("r1", Notice("n"))
    assert {path.stat().st_mode & 0o077 for path in [state, *state.iterdir()]} == {0}


def test_a_run_that_is_not_open_here_cannot_be_written(journal: Journal, tmp_path: Path) -> None:
    journal.begin("r1", tmp_path)
    journal.end("r1")
    journal.end("r1")
    with pytest.raises(JournalError, match="not open"):
        journal.append("r1", Notice("n"))


def test_run_ids_sort_by_time_and_differ() -> None:
    assert new_run_id(1795283130.9).startswith("20261121-174530-")
    assert new_run_id(0) < new_run_id(1) < new_run_id(2**31)
    assert len({new_run_id(0) for _ in range(20)}) > 15


def test_finding_a_run(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no run has been recorded"):
        journal.find()
    ids = ["20261121-174530-3f9a", "20261121-174531-aaaa", "20261122-000000-bbbb"]
    for run_id in ids:
        journal.begin(run_id, tmp_path)
        journal.end(run_id)
    assert journal.find() == journal.find("last") == ids[2]
    assert journal.find(ids[0]) == journal.find("20261121-174530") == journal.find("3f9a") == ids[0]
    with pytest.raises(UsageError, match="any of 2 runs"):
        journal.find("20261121")
    for wrong in ("", "%", "174530", "nope"):
        with pytest.raises(UsageError, match="no run"):
            journal.find(wrong)


def test_pruning_keeps_the_newest_and_what_is_alive(journal: Journal, tmp_path: Path) -> None:
    for number in range(6):
        journal.begin(f"r{number}", tmp_path / str(number))
        journal.append(f"r{number}", Notice("x" * 100_000))
        if number != 1:
            journal.end(f"r{number}")
    size = sum(path.stat().st_size for path in (tmp_path / "state").iterdir())
    assert journal.prune(2) == ("r3", "r2", "r0")
    assert [row.id for row in journal.runs()] == ["r5", "r4", "r1"]
    assert list(journal.events("r0")) == []
    assert journal.append("r1", Notice("n")) == 2
    assert journal.prune(2) == ()
    journal.close()
    assert sum(path.stat().st_size for path in (tmp_path / "state").iterdir()) < size / 2


# --- leases -----------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from runner.journal import Journal
from runner.events import Notice
journal = Journal.open(Path(sys.argv[1]))
journal.begin("theirs", Path(sys.argv[2]))
journal.append("theirs", Notice("mine"))
print("ready", flush=True)
time.sleep(60)
"""


def hold(state: Path, root: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", HOLD, str(state), str(root)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def test_a_live_run_keeps_others_out_and_a_dead_one_does_not(state: Path, tmp_path: Path) -> None:
    with hold(state, tmp_path) as holder, Journal.open(state) as journal:
        assert journal.alive("theirs")
        with pytest.raises(UsageError, match=rf"run theirs is going on .*process {holder.pid}"):
            journal.begin("mine", tmp_path)
        with pytest.raises(UsageError):
            journal.begin("theirs", tmp_path, resume=True)
        journal.begin("elsewhere", tmp_path / "other")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        assert not journal.alive("theirs")
        assert {row.id: row.status for row in journal.runs()}["theirs"] == "killed"
        journal.begin("mine", tmp_path)
        journal.end("mine")
        journal.begin("theirs", tmp_path, resume=True)
        assert journal.append("theirs", Notice("yours")) == 2
        assert journal.alive("theirs")
        assert list(journal.events("theirs")) == [Notice("mine"), Notice("yours")]


def test_a_second_run_of_the_same_process_is_refused_too(journal: Journal, tmp_path: Path) -> None:
    journal.begin("r1", tmp_path)
    with pytest.raises(UsageError):
        journal.begin("r2", tmp_path)
    journal.end("r1")
    journal.begin("r2", tmp_path)


def test_a_run_that_was_not_ended_is_dead_once_its_journal_is_closed(state: Path) -> None:
    with Journal.open(state) as journal:
        journal.begin("r1", state)
    with Journal.open(state) as journal:
        assert not journal.alive("r1")
        journal.begin("r2", state)


def test_an_id_is_used_once(journal: Journal, tmp_path: Path) -> None:
    journal.begin("r1", tmp_path)
    journal.end("r1")
    with pytest.raises(JournalError):
        journal.begin("r1", tmp_path)
    with pytest.raises(UsageError, match="no run"):
        journal.begin("r2", tmp_path, resume=True)
    journal.begin("r3", tmp_path)  # nothing of the refused ones is left behind


def test_without_its_lock_a_lease_is_judged_by_its_holders_identity(tmp_path: Path) -> None:
    me = myself()
    gone = tmp_path / "gone"
    assert held(gone, me)
    assert not held(gone, Holder(me.host, me.boot, me.pid, "1"))  # the number was used again
    assert not held(gone, Holder(me.host, "another boot", me.pid, me.started))
    assert not held(gone, Holder("another host", me.boot, me.pid, me.started))
    with subprocess.Popen(["true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        stat = Path(f"/proc/{child.pid}/stat")
        if stat.exists():
            ticks = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[19]
            assert not held(gone, Holder(me.host, me.boot, child.pid, ticks))  # a zombie


def test_a_lease_is_taken_once_and_given_back(tmp_path: Path) -> None:
    path = tmp_path / "lease"
    first = Lease.take(path)
    assert first is not None
    assert Lease.take(path) is None
    first.release()
    first.release()
    assert not path.exists()
    again = Lease.take(path)
    assert again is not None
    again.release()


# --- killed, damaged, newer, full -------------------------------------------------------------

WRITE = """
import sys
from itertools import count
from pathlib import Path
from runner.journal import Journal
from runner.events import Notice
journal = Journal.open(Path(sys.argv[1]))
journal.begin("r1", Path(sys.argv[1]))
for number in count():
    journal.append("r1", Notice(str(number)))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_what_was_appended_before_a_kill_is_there(state: Path) -> None:
    command = [sys.executable, "-c", WRITE, str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            writer.stdout.readline()
        writer.kill()
        told = 50 + len(writer.stdout.read().splitlines())
    with Journal.open(state, create=False) as journal:
        texts = [event.text for event in journal.events("r1") if isinstance(event, Notice)]
    assert texts == [str(number) for number in range(len(texts))]
    assert told <= len(texts) <= told + 1


def written(state: Path) -> Path:
    with Journal.open(state) as journal:
        journal.begin("r1", state)
        journal.append("r1", GitFact("c", "commit", {"sha": "a" * 40}))
        for _ in range(200):
            journal.append("r1", Notice("n" * 200))
        journal.end("r1")
    return state / "journal.sqlite3"


def read_all(state: Path) -> None:
    with Journal.open(state) as journal:
        for row in journal.runs():
            list(journal.events(row.id))


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "text": lambda _: b"this is no database at all, whatever its name says" * 40,
    "half": lambda data: data[: len(data) // 2],
    "head": lambda data: data[:4000],
    "no header": lambda data: b"\0" * 100 + data[100:],
    "garbled": lambda data: data[:6000] + b"\xa5" * (len(data) - 6000),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_told_and_left_alone(
    state: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = written(state)
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    with pytest.raises(JournalError) as caught:
        read_all(state)
    assert str(file) in str(caught.value)
    assert "Keep a copy" in caught.value.hint or "move that file away" in caught.value.hint
    assert file.read_bytes() == damaged


def test_a_damaged_event_is_told_with_its_place(state: Path) -> None:
    file = written(state)
    with sqlite3.connect(file) as database:
        database.execute("UPDATE event SET data = '{' WHERE seq = 7")
    database.close()
    with pytest.raises(JournalError, match="event 7 of run r1"):
        read_all(state)


def test_an_emptied_file_does_not_cost_its_helper_file(state: Path) -> None:
    file = written(state)
    file.write_bytes(b"")
    helper = file.with_name(file.name + "-wal")
    helper.write_bytes(b"what was not yet moved over")
    with pytest.raises(JournalError, match="emptied"):
        Journal.open(state)
    assert helper.read_bytes() == b"what was not yet moved over"


def test_a_newer_format_is_refused_and_left_alone(state: Path) -> None:
    file = written(state)
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    before = file.read_bytes()
    with pytest.raises(JournalError, match="format 99") as caught:
        Journal.open(state)
    assert "newer release" in caught.value.hint
    assert file.read_bytes() == before


def test_somebody_elses_database_is_refused_and_left_alone(state: Path) -> None:
    state.mkdir()
    file = state / "journal.sqlite3"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE theirs (x)")
    database.close()
    before = file.read_bytes()
    with pytest.raises(JournalError, match="is not a journal"):
        Journal.open(state)
    assert file.read_bytes() == before


def test_without_a_journal_there_is_nothing_to_show(state: Path) -> None:
    with pytest.raises(UsageError, match="no run has been recorded"):
        Journal.open(state, create=False)
    assert not state.exists()


FULL = """
import resource, sys
from pathlib import Path
from runner.errors import JournalError
from runner.journal import Journal
from runner.events import Notice
journal = Journal.open(Path(sys.argv[1]))
journal.begin("r1", Path(sys.argv[1]))
journal.append("r1", Notice("before"))
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
try:
    for _ in range(50):
        journal.append("r1", Notice("x" * 10_000))
except JournalError as error:
    print(error.hint)
"""


def test_a_disk_that_takes_no_more_is_told_and_loses_nothing(state: Path) -> None:
    command = [sys.executable, "-c", FULL, str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "disk" in done.stdout
    with Journal.open(state) as journal:
        assert next(journal.events("r1")) == Notice("before")
        journal.begin("r2", state)


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(JournalError, match=r"journal\.sqlite3") as caught:
        Journal.open(tmp_path / "file" / "state")
    assert "--state-dir" in caught.value.hint


def test_many_may_open_a_new_journal_at_once(state: Path) -> None:
    script = HOLD.replace("time.sleep(60)", "journal.close()")
    commands = [
        [sys.executable, "-c", script.replace('"theirs"', f'"r{number}"'), str(state), str(number)]
        for number in range(6)
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait() for process in processes] == [0] * 6
    with Journal.open(state) as journal:
        assert len(journal.runs()) == 6


def test_what_every_run_imports_is_light() -> None:
    script = "import sys, runner.journal, runner.report, runner.console; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    heavy = {"rich", "pydantic", "pydantic_ai", "opentelemetry", "httpx2", "asyncio", "jsonschema"}
    assert not heavy & set(done.stdout.split())
