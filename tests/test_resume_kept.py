"""What a resume keeps: the user's work, what was written of the run, and what is not its own."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from crashing import World
from forking import Forked

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = 'steps:\n  - { id: one, run: "true" }\n'


@pytest.fixture
def here(world: Path) -> Iterator[World]:
    place = World(world)
    yield place
    place.close()


def journal_of(here: World) -> Path:
    return next(here.file("state").rglob("journal.sqlite3"))


def change(here: World, sql: str) -> None:
    """Let the journal say something else."""
    with closing(sqlite3.connect(journal_of(here))) as database:
        database.execute(sql)
        database.commit()


def held(here: World, steps: str) -> None:
    """Kill a run whose command wrote a file and waits; nothing of it is left, and time passes."""
    here.workflow(steps)
    life = here.start().wait_for(here.at())
    life.kill()
    here.go()
    deadline = time.monotonic() + 30
    while not here.file("over").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(2.5)  # what the command wrote, and what is written from now on, lie that far apart
    change(here, "UPDATE event SET at = at - 3.5")


AUTOFIX = """
    steps:
      - id: format
        run: {note}; grep -qx neat log.txt && test ! -e half.txt
        autofix: |
          echo half > half.txt; {hold}; touch {over}
          rm -f half.txt; echo neat > log.txt
"""


def test_what_the_user_wrote_after_a_kill_in_an_autofix_is_kept(here: World) -> None:
    here.scratch.write("log.txt", "first\n")
    here.scratch.write("mine.txt", "old\n")
    here.scratch.commit_all()
    # Killed with the run, the autofix never gets to its second line.
    cut_off = AUTOFIX.replace("touch {over}", "touch {over}; [ -e {again} ] || exit 1")
    names = {"over": here.file("over"), "again": here.file("again")}
    held(here, cut_off.format(note=here.note("run"), hold=here.hold(), **names))
    assert (here.root / "half.txt").exists()
    here.scratch.write("mine.txt", "what I want\n")
    here.file("again").touch()
    told = here.resume("--discard-external")
    assert told.code == 7, told.stderr
    assert here.scratch.read("mine.txt") == "what I want\n"
    assert not (here.root / "half.txt").exists()
    assert told.report["steps"][0]["status"] == "succeeded"
    assert here.of("run_resumed")[0]["external"] == ["mine.txt"]


@pytest.mark.slow
def test_what_the_user_wrote_after_a_kill_in_a_command_is_not_committed(here: World) -> None:
    here.scratch.write("mine.txt", "old\n")
    here.scratch.commit_all()
    held(
        here,
        f"""
        steps:
          - id: make
            run: echo made > log.txt; {here.hold()}; touch {here.file("over")}
          - id: commit
            commit: {{ message: "feat: make" }}
        """,
    )
    here.scratch.write("mine.txt", "what I want\n")
    told = here.resume()
    assert here.of("run_resumed")[0]["external"] == ["mine.txt"]
    assert here.scratch.read("mine.txt") == "what I want\n"
    assert "mine.txt" not in here.scratch.git("show", "--name-only", "--format=", "HEAD"), told


def test_events_of_a_resumed_run_go_behind_those_before(here: World) -> None:
    here.workflow(f'steps:\n  - {{ id: one, run: "{here.hold()}" }}\n')
    life = here.start().wait_for(here.at())
    life.kill()
    here.go()
    file = here.where / "events-1.jsonl"
    with file.open("a") as opened:
        opened.write('{"type": "half a li')
    before = file.read_text()
    argv = ("resume", "--state-dir", str(here.file("state")), "--events", str(file))
    resumed = Forked(argv, cwd=here.root, environ=os.environ)
    _, said = resumed.communicate()
    assert resumed.returncode == 0, said
    text = file.read_text()
    assert text.startswith(f"{before}\n")
    later = [json.loads(line) for line in text.removeprefix(before).splitlines() if line]
    assert (later[0]["type"], later[-1]["type"]) == ("run_resumed", "run_finished")
    seqs = [json.loads(line)["seq"] for line in before.splitlines()[:-1]]
    assert [one["seq"] for one in later] == [*range(seqs[-1] + 1, seqs[-1] + 1 + len(later))]


def test_a_second_clone_knows_nothing_of_the_first_ones_run(here: World) -> None:
    here.workflow(f'steps:\n  - {{ id: one, run: "{here.hold()}" }}\n')
    life = here.start().wait_for(here.at())
    clone = here.where / "clone"
    shutil.copytree(here.root, clone)
    argv = ("--state-dir", str(here.file("state")))
    resumed = Forked(("resume", *argv), cwd=clone, environ=os.environ)
    _, said = resumed.communicate()
    assert resumed.returncode == 2
    assert "no run has been recorded" in said
    # Nor does it wait for it.
    (here.where / "other.yaml").write_text(ONE)
    other = Forked(("exec", "../other.yaml", *argv), cwd=clone, environ=os.environ)
    _, said = other.communicate()
    assert other.returncode == 0, said
    assert life.process.poll() is None
    here.go()
    assert life.end().code == 0


def test_a_journal_of_a_newer_release_is_refused_and_left_alone(here: World) -> None:
    here.workflow(f'steps:\n  - {{ id: one, run: "{here.hold()}" }}\n')
    here.start().wait_for(here.at()).kill()
    here.go()
    change(here, "PRAGMA user_version = 999")
    told = here.resume()
    assert told.code != 0
    assert "newer release" in told.stderr
    assert "Traceback" not in told.stderr
    change(here, "PRAGMA user_version = 1")
    assert here.resume().code == 0


def test_runs_are_forgotten_after_the_days_of_the_users_configuration(here: World) -> None:
    config = Path(os.environ["XDG_CONFIG_HOME"]) / "subagent-runner" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("keep_days: 3\n")
    here.workflow(ONE)
    old = here.start().end().report["run_id"]
    for days, there in ((2, True), (4, False)):
        change(here, f"UPDATE event SET at = at - {days * 86_400} WHERE run = '{old}'")
        assert here.start().end().code == 0
        assert (old in here.runner("runs")) is there
        change(here, f"UPDATE event SET at = at + {days * 86_400} WHERE run = '{old}'")
