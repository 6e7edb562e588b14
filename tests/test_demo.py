"""The demo's scratch repository: every project and defect, on real files and real git."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from runner.demo import models, scratch
from runner.demo.project import (
    Defect,
    Project,
    Scene,
    before,
    finished,
    projects,
    replaced,
    scene,
    scene_for,
)
from runner.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = [
    pytest.param(project, lint, test, id=f"{project.name}-{at}")
    for project in projects()
    for at, (lint, test) in enumerate(zip(project.lint, project.test, strict=True))
]


COMMANDS = {
    "format": ["script/format", "--check"],
    "lint": ["script/lint"],
    "test": ["script/test"],
}


def failing(repository: Path, *names: str) -> list[str]:
    """Run some of the scratch project's own checks; tell which fail."""
    return [name for name in names if run(repository, *COMMANDS[name]) != 0]


def run(repository: Path, *command: str) -> int:
    environ = scratch.python_first(os.environ)
    done = subprocess.run(command, cwd=repository, env=environ, capture_output=True, check=False)
    return done.returncode


def mend(repository: Path, defect: Defect) -> None:
    path = repository / defect.path
    path.write_text(replaced(path.read_text(), defect.bad, defect.good))


@pytest.mark.parametrize(("project", "lint", "test"), PAIRS)
def test_each_defect_fails_its_own_check_until_it_is_mended(
    project: Project, lint: Defect, test: Defect, tmp_path: Path
) -> None:
    place = scratch.make(scene(project, lint, test, random=Random(7)), tmp_path)
    assert failing(place.repository, "format", "lint", "test") == ["format", "lint", "test"]
    run(place.repository, "script/format")
    assert failing(place.repository, "format", "lint") == ["lint"]
    mend(place.repository, lint)
    assert failing(place.repository, "lint", "test") == ["test"]
    mend(place.repository, test)
    assert failing(place.repository, "format", "lint", "test") == []


@pytest.mark.parametrize("project", projects(), ids=lambda project: project.name)
def test_what_is_committed_at_the_start_passes_every_check(
    project: Project, tmp_path: Path
) -> None:
    made = scene(project, project.lint[0], project.test[0], random=Random(7))
    place = scratch.make(made, tmp_path)
    subprocess.run(["git", "stash", "--quiet"], cwd=place.repository, check=True)
    assert failing(place.repository, "format", "lint", "test") == []


@pytest.mark.parametrize("seed", range(4))
def test_formatting_gives_back_the_text_without_format_errors(seed: int, tmp_path: Path) -> None:
    made = scene_for(seed)
    place = scratch.make(made, tmp_path)
    run(place.repository, "script/format")
    for path in made.unformatted:
        expected = finished(made.project.files[path])
        for defect in (made.lint, made.test):
            if defect.path == path:
                expected = expected.replace(defect.good, defect.bad)
        assert (place.repository / path).read_text() == expected


def test_a_seed_gives_the_same_scene_and_commit_again(tmp_path: Path) -> None:
    one, other = scene_for(11), scene_for(11)
    assert one == other
    first = scratch.make(one, tmp_path / "a")
    second = scratch.make(other, tmp_path / "b")
    assert scratch.head(first) == scratch.head(second)


def test_seeds_vary_project_and_defects() -> None:
    scenes = [scene_for(seed) for seed in range(40)]
    assert {s.project.name for s in scenes} == {"clock", "shop", "words"}
    assert len({(s.lint, s.test) for s in scenes}) > 10


def test_the_remote_starts_at_the_first_commit_and_the_change_is_uncommitted(
    tmp_path: Path,
) -> None:
    place = scratch.make(scene_for(1), tmp_path)
    assert scratch.remote_refs(place)["refs/heads/main"] == scratch.head(place)
    status = ["git", "status", "--porcelain"]
    lines = subprocess.run(status, cwd=place.repository, capture_output=True, text=True, check=True)
    assert {line[:2] for line in lines.stdout.splitlines()} == {" M"}


def test_a_directory_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="not an empty directory"):
        scratch.make(scene_for(1), tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]  # noqa: PTH208  names are what is compared


def test_the_users_git_configuration_does_not_reach_the_scratch_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[commit]\n\tgpgsign = true\n[user]\n\tname = Somebody\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    place = scratch.make(scene_for(1), tmp_path / "demo")
    author = scratch.git(place.repository, "log", "-1", "--format=%an")
    assert author == "Runner Demo"


def test_markers_tell_the_change_from_what_was_there() -> None:
    text = "a\n#+\nb\n    #-\nc\n"
    assert (before(text), finished(text)) == ("a\nc\n", "a\nb\nc\n")


def test_a_data_file_whose_defect_fits_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="2 times"):
        replaced("x x", "x", "y")


def script(made: Scene, folder: Path, role: str, pace: float) -> dict[str, Any]:
    ids = models.write(made, folder, pace=pace)
    path = folder / f"{role}.script.yaml"
    assert ids[role] == f"script:{path}"
    return yaml.safe_load(path.read_text())


def test_scripts_hold_the_edits_that_mend_the_scene(tmp_path: Path) -> None:
    made = scene_for(3)
    (lint, test) = script(made, tmp_path, "cheap", 0)["rules"]
    edit = next(turn["with"] for turn in lint["turns"] if turn.get("call") == "edit_file")
    assert edit == {
        "path": made.lint.path,
        "old_text": made.lint.bad,
        "new_text": made.lint.good,
    }
    assert test["turns"][-1]["cannot"]["reason"] == made.test.cannot


def test_pace_delays_every_answer(tmp_path: Path) -> None:
    rules = script(scene_for(3), tmp_path, "main", 0.5)["rules"]
    assert {turn["delay"] for rule in rules for turn in rule["turns"]} == {0.5}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_demo_ships_with_every_rung_seen(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "runner", "demo", str(tmp_path / "demo"), f"--seed={seed}"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["exit_code"] == 0
    assert report["scripted"]
    rungs = {step["id"]: step["rung"] for step in report["steps"]}
    assert (rungs["format"], rungs["lint"], rungs["test"]) == ("command", "subagent", "main")
    (test,) = [step for step in report["steps"] if step["id"] == "test"]
    assert ("subagent", "hard") in {(a["rung"], a["verdict"]) for a in test["attempts"]}
    (repository,) = [path for path in (tmp_path / "demo").iterdir() if (path / ".git").exists()]
    commit = scratch.git(repository, "rev-parse", "HEAD")
    assert report["git"]["after"] == commit != report["git"]["before"]
    assert commit in scratch.git(repository, "ls-remote", "origin", "refs/heads/runner/*")
    assert "In your own repository:" in done.stderr


def test_the_demo_refuses_a_directory_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    command = [sys.executable, "-m", "runner", "demo", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not an empty directory" in done.stderr
