"""Runs killed at their points with SIGKILL, resumed, and held against one that nobody killed.

Here a sample: a point of each kind. All of them: `python tests/crashes.py --all -j 2`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from crashcourses import COURSES
from crashes import Ground, Trial, Zygote, attempt, every_kill, further_kill, spread
from crashpoints import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Grounds = Callable[[str], Ground]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grounds]:
    """Lay out a course at its first use."""
    zygote, where = Zygote(), tmp_path_factory.mktemp("crashes").resolve()
    made: dict[str, Ground] = {}

    def get(name: str) -> Ground:
        if name not in made:
            made[name] = Ground(COURSES[name], where, zygote)
        return made[name]

    yield get
    zygote.close()


def fine(trial: Trial) -> None:
    assert not trial.bad, (trial.course, trial.planned, trial.label, trial.bad)


def hit(trial: Trial) -> None:
    assert trial.kills, f"{trial.planned} was not reached: a point of that name is gone"
    fine(trial)


@pytest.mark.parametrize(
    ("course", "kill"),
    [
        ("ship", "journal BEGIN IMMEDIATE@1:after:alone"),  # not begun: nothing to resume
        ("ship", "note autofix+"),
        ("ship", "journal snapshot_taken@3:after:alone"),  # autofix done, its marks not written
        ("ship", "journal git_intent@1:after:alone"),
        ("ship", "file link ~/repo/.git/index.lock@1:after:alone"),
        ("ship", "process git update-ref@1:after:all"),
        ("ship", "process git update-ref@1:after:alone"),
        ("ship", "file replace ~/repo/.git/index@1:before:alone"),
        ("ship", "journal git_intent@2:after:alone"),
        ("ship", "note pre-receive"),
        ("ship", "note post-receive"),
        ("ship", "journal git_fact@2:before:alone"),
        ("ship", "note last+"),
        ("ship", "journal run_finished@1:after:alone"),
        ("hooks", "note hook-"),
        ("hooks", "process git push@1:after:all"),
        ("hooks", "journal git_fact@2:before:alone"),
        ("mend", "ask 2"),
        ("mend", "answer 2"),
        ("mend", "file rename easy.txt@1:before:alone"),
        ("mend", "file rename easy.txt@1:after:alone"),
        ("mend", "journal attempt_finished@2:after:alone"),
        ("mend", "answer 7"),
        ("prompt", "answer 3"),
        ("prompt", "journal command_started@3:after:alone"),
    ],
)
def test_killed(grounds: Grounds, course: str, kill: str) -> None:
    hit(attempt(grounds(course), kill))


@pytest.mark.parametrize(
    ("course", "kills"),
    [
        # A hook that was cut off twice, after it had changed what it looks at.
        ("hooks", ("journal command_finished@2:before:all", "process pre-commit@1:after:alone")),
        ("hooks", ("process pre-commit@1:after:alone", "process reaped@9:after:alone")),
        # The same call of a tool, cut off again and again: it is made once more all the same.
        ("prompt", ("note plan+", "ask 2")),
    ],
)
def test_killed_more_than_once(grounds: Grounds, course: str, kills: tuple[str, ...]) -> None:
    fine(attempt(grounds(course), kills[0], kills[1:]))


@pytest.mark.parametrize("course", ["ship", "hooks", "mend", "prompt"])
def test_killed_anywhere_and_again(grounds: Grounds, course: str) -> None:
    """Kills a few runs at places that change with the course, five times each."""
    ground, rng = grounds(course), Random(course)
    for kill in spread(every_kill(ground), 220, len(course)):
        fine(attempt(ground, kill, [further_kill(ground, rng) for _ in range(4)]))


@pytest.mark.parametrize("signals", ["TERM", "HUP", "INT INT"])
def test_interrupted_then_resumed(grounds: Grounds, signals: str) -> None:
    # On a busy machine a signal can come when all is over.
    trials = (attempt(grounds("ship"), f"note test+ {signals}") for _ in range(3))
    hit(next((trial for trial in trials if trial.kills), Trial("ship", signals)))


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("place", ["journal git_intent@1", "journal step_finished@2"])
def test_a_journal_that_cannot_be_written(grounds: Grounds, place: str, error: str) -> None:
    hit(attempt(grounds("ship"), f"{place}:before:{error}*"))


def killed(ground: Ground, kill: str = "note test+") -> None:
    """Leave a run as a kill leaves it."""
    ground.put_back()
    with ground.serving(kill):
        assert ground.start(Plan(""), None) == -9


def resumed(ground: Ground, *more: str) -> None:
    assert ground.start(Plan(""), None, "resume", *more) == 0, ground.said
    assert ground.left() == ground.undisturbed


def test_a_locked_journal_is_waited_for(grounds: Grounds) -> None:
    ground = grounds("ship")
    killed(ground)
    database = sqlite3.connect(ground.journal)
    database.execute("BEGIN IMMEDIATE")
    ground.begin(Plan(""), None, "resume")
    with pytest.raises(TimeoutError):
        ground.end(within=1)
    database.rollback()
    database.close()
    assert ground.end() == 0, ground.said
    assert ground.left() == ground.undisturbed


@pytest.mark.parametrize("kept", [0.95, 0.7])
def test_a_journal_that_lost_its_end_goes_on(grounds: Grounds, kept: float) -> None:
    ground = grounds("ship")
    killed(ground, "note last+")
    file = ground.journal.with_name(f"{ground.journal.name}-wal")
    with file.open("r+b") as opened:
        opened.truncate(int(file.stat().st_size * kept))
    assert ground.start(Plan(""), None, "resume") == 0, ground.said
    # One commit, one push, whatever it still knows of them; only what it calls them may differ.
    assert replace(ground.left(), steps={}) == replace(ground.undisturbed, steps={})


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_jumps(grounds: Grounds, jump: float) -> None:
    ground = grounds("ship")
    ground.put_back()
    with ground.serving("note test-"):
        plan = Plan(str(ground.where / "hit"), 1, "jump", kind="journal step_finished", jump=jump)
        assert ground.start(plan, None) == -9
    resumed(ground)


@pytest.mark.parametrize("files", [11, 14])
def test_a_full_file_table(grounds: Grounds, files: int) -> None:
    ground = grounds("ship")
    ground.put_back()
    code = ground.start(Plan(str(ground.where / "hit"), -1, "", files=files), None)
    assert code not in {0, 70}, code
    assert "Traceback" not in ground.said
    assert "files" in ground.said
    begun = ground.facts().begun
    assert ground.start(Plan(""), None, *(["resume"] if begun else [])) == 0, ground.said
    assert ground.left() == ground.undisturbed
