"""`runner history`: what people and machines read of it, and how it is shared and forgotten."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from runner.cli.app import root
from runner.console.history import render_history
from runner.console.style import cells
from runner.events import Notice
from runner.history import Tried
from runner.historyfile import FILE, History, past
from runner.journal import Journal
from runner.outcome import Rung
from runner.workspace.state import repo_state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Shell = Callable[..., subprocess.CompletedProcess[str]]

NOW = 1_795_283_171.0
OWN = Tried(
    kind="test",
    model="anthropic:claude-haiku-5-5",
    rung=Rung.SUBAGENT,
    mended=True,
    usd=Decimal("0.0123"),
    seconds=41.5,
    at=NOW,
    repo="own",
    run="20261121-174530-0000",
    step="test",
)


def some(repo: str = "own", model: str = OWN.model) -> list[Tried]:
    """Make 12 runs whose test failed: the subagent mended 9, main 2 of the 3 others."""
    rows: list[Tried] = []
    for number in range(12):
        run = f"20261121-1745{number:02}-{'0' * 3}{len(repo) % 10}"
        row = replace(OWN, repo=repo, run=run, at=NOW + number, model=model)
        rows.append(replace(row, mended=number < 9, seconds=30.0 + number))
        if number >= 9:
            main = replace(row, rung=Rung.MAIN, model="anthropic:claude-opus-5-5", seconds=90.0)
            rows.append(replace(main, mended=number > 9, usd=Decimal("1.5")))
    return rows


# --- what it looks like -----------------------------------------------------------------------

LINT = replace(OWN, kind="lint", model="local:qwen", usd=None, mended=False, step="lint")

AT_80 = """\
  kind  rung      model             tried  mended  90% interval     cost    time
  lint  subagent  qwen                  1       0         3-78%  unknown     42s
  test  subagent  claude-haiku-5-5     12       9        51-89%  $0.0123     36s
  test  main      claude-opus-5-5       3       2        25-90%    $1.50  1m 30s

  13 failing steps of 13 runs in this repository (own).
  The chance of mending lies in the interval with 90%, by these counts alone.
  Cost and time are medians of all attempts of a rung at one failing step.
"""
AT_160 = """\
  kind  rung      model                       tried  mended  90% interval     cost    time
  lint  subagent  local:qwen                      1       0         3-78%  unknown     42s
  test  subagent  anthropic:claude-haiku-5-5     12       9        51-89%  $0.0123     36s
  test  main      anthropic:claude-opus-5-5       3       2        25-90%    $1.50  1m 30s

  13 failing steps of 13 runs in 1 repository.
  The chance of mending lies in the interval with 90%, by these counts alone. Cost and time are
  medians of all attempts of a rung at one failing step.
"""


def test_the_table_fits_the_terminal() -> None:
    rows = [*some(), LINT]
    assert render_history(rows, repo="own", width=80) == AT_80
    assert render_history(rows, repo=None, width=160) == AT_160


def test_no_line_is_wider_than_the_terminal() -> None:
    rows = [*some(model="vendor:" + "long" * 30), replace(LINT, model="本地:千问" * 9)]
    for width in (72, 80, 119, 120, 160):
        shown = render_history(
            rows, repo="a-rather-long-name-of-a-project-0123456789ab", width=width
        )
        assert max(map(cells, shown.splitlines())) <= width


def test_two_vendors_of_one_model_are_told_apart() -> None:
    rows = [*some(model="anthropic:claude"), *some("other", model="bedrock:claude")]
    shown = render_history(
        [*rows, replace(OWN, model="script:/a/b/mend.yaml")], repo=None, width=80
    )
    assert "anthropic:clau" in shown
    assert "bedrock:claude" in shown
    assert "script:mend.yaml" in shown or "script:mend.ya…" in shown


def test_colour_only_where_it_is_wanted() -> None:
    shown = render_history(some(), repo="own", color=True)
    assert shown.startswith("\x1b[2m  kind")
    assert "\x1b" not in render_history(some(), repo="own")


# --- the command ------------------------------------------------------------------------------


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def shell(tmp_path: Path, state: Path) -> Shell:
    """Run the real command in a directory of its own, with a state of its own."""
    (tmp_path / "work").mkdir()

    def call(*args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "runner", *args],
            cwd=tmp_path / "work",
            env=os.environ | {"SUBRUNNER_STATE_DIR": str(state), "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
            **more,
        )

    return call


@pytest.fixture
def own(tmp_path: Path, state: Path, shell: Shell) -> str:
    """Fill the history for the directory that `shell` works in; return that one's name."""
    del shell
    name = repo_state(tmp_path / "work", state).name
    with History.open(state) as history:
        history.add([*some(name), *some("another-0123456789ab")])
    return name


def rows_of(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["rows"]


def test_this_repository_or_all(shell: Shell, own: str) -> None:
    here, everywhere = shell("history"), shell("history", "--all")
    assert (here.returncode, here.stderr) == (0, "")
    assert here.stdout.splitlines()[1].split() == (
        ["test", "subagent", "claude-haiku-5-5", "12", "9", "51-89%", "$0.0123", "36s"]
    )
    assert f"12 failing steps of 12 runs in this repository ({own})." in " ".join(
        here.stdout.split()
    )
    assert everywhere.stdout.splitlines()[1].split()[3:5] == ["24", "18"]
    assert "24 failing steps of 24 runs in 2 repositories." in everywhere.stdout


def test_json_is_for_machines(shell: Shell, own: str) -> None:
    told = json.loads(shell("history", "--json").stdout)
    assert {key: told[key] for key in ("repo", "steps", "runs")} == {
        "repo": own, "steps": 12, "runs": 12,
    }  # fmt: skip
    assert told["timetable"][0] == {
        "kind": "test", "rung": "subagent", "model": "anthropic:claude-haiku-5-5",
        "tried": 12, "mended": 9, "low": 0.5054, "high": 0.8873,
        "median_cost_usd": 0.0123, "median_seconds": 35.5,
    }  # fmt: skip
    everywhere = json.loads(shell("history", "--all", "--json").stdout)
    assert (everywhere["repo"], everywhere["timetable"][0]["tried"]) == (None, 24)


def test_without_history_one_sentence_helps(shell: Shell, state: Path) -> None:
    done = shell("history")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Nothing is known yet: each step that a model tries to mend adds to the history.\n"
    )
    assert json.loads(shell("history", "--json").stdout)["timetable"] == []
    assert json.loads(shell("history", "--export", "-").stdout)["rows"] == []
    assert shell("history", "--forget").stderr == "There is nothing to forget of this repository.\n"
    assert not (state / FILE).exists()
    with History.open(state) as history:
        history.add(some("another-0123456789ab"))
    assert shell("history").stdout.endswith(" Other repositories': runner history --all\n")


# --- sharing ----------------------------------------------------------------------------------


def test_ci_jobs_share_a_file(shell: Shell, own: str, state: Path, tmp_path: Path) -> None:
    file = tmp_path / "work/mends.json"
    done = shell("history", "--export", "mends.json")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "Wrote 15 rows to mends.json.\n"
    assert str(tmp_path) not in file.read_text()
    assert {row["repo"] for row in rows_of(file)} == {own}
    before = past(state, own)
    (state / FILE).unlink()  # another job, with a state of its own
    assert shell("history", "--import", "mends.json").stderr == "mends.json: 15 rows, 15 new.\n"
    assert shell("history", "--import", "mends.json").stderr == "mends.json: 15 rows, 0 new.\n"
    assert past(state) == before
    assert shell("history", "--all", "--export", "-").stdout == file.read_text()


def test_a_file_goes_through_a_pipe(shell: Shell, own: str, state: Path) -> None:
    del own
    everything = shell("history", "--all", "--export", "-")
    assert everything.stderr == "Wrote 30 rows.\n"
    (state / FILE).unlink()
    done = shell("history", "--import", "-", input=everything.stdout)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("stdin: 30 rows, 30 new.\n")


def test_another_checkouts_rows_can_become_this_ones(
    shell: Shell, state: Path, tmp_path: Path
) -> None:
    """A CI system may check out to another path each time."""
    with History.open(tmp_path / "theirs") as history:
        history.add(some("work-ba9876543210"))
    export = ["history", "--all", "--export", "mends.json", "--state-dir"]
    shell(*export, str(tmp_path / "theirs"))
    done = shell("history", "--import", "mends.json")
    own = repo_state(tmp_path / "work", state).name
    assert done.stderr.splitlines() == [
        "mends.json: 15 rows, 15 new.",
        f"  None of them is of this repository ({own}).",
        "  To count them as its own, for they are of another checkout of it, add --here.",
    ]
    assert "Nothing is known yet" in shell("history").stdout
    done = shell("history", "--import", "mends.json", "--here")
    assert done.stderr == ("mends.json: 15 rows, 0 new, 15 now counted as this repository's.\n")
    assert "12 failing steps of 12 runs in this repository" in shell("history").stdout
    assert len(past(state)) == 15


def test_rows_of_scripted_models_stay_on_the_machine(
    shell: Shell, own: str, state: Path, tmp_path: Path
) -> None:
    with History.open(state) as history:
        scripted = replace(OWN, repo=own, model=f"script:{tmp_path}/mend.yaml")
        history.add([replace(scripted, run=str(number)) for number in range(2)])
    done = shell("history", "--export", "mends.json")
    assert done.stderr == ("Wrote 15 rows to mends.json; 2 rows of scripted models left out.\n")
    assert "script" not in (tmp_path / "work/mends.json").read_text()
    assert "script:mend.ya" in shell("history").stdout


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("garbage", "mends.json: line 1, column 1: Expecting value"),
        ('{"schema": 1}', "mends.json: not a history of runner"),
        (
            '{"schema": 9, "what": "runner history", "rows": []}',
            "mends.json: schema 9; this release reads schema 1",
        ),
        (
            '{"schema": 1, "what": "runner history", "rows": [{"repo": "a"}]}',
            "mends.json: rows[0]: field `run` is missing",
        ),
    ],
)
def test_a_wrong_file_changes_nothing(
    shell: Shell, state: Path, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "work/mends.json").write_text(text)
    done = shell("history", "--import", "mends.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"runner: {said}")
    assert not (state / FILE).exists()


def test_files_that_are_not_there_or_cannot_be_written(shell: Shell) -> None:
    done = shell("history", "--import", "none.json")
    assert (done.returncode, done.stderr) == (
        2, "runner: --import none.json: No such file or directory\n",
    )  # fmt: skip
    done = shell("history", "--export", "none/mends.json")
    assert (done.returncode, done.stderr) == (
        1, "runner: --export none/mends.json: No such file or directory\n",
    )  # fmt: skip


# --- what goes wrong --------------------------------------------------------------------------


def test_a_damaged_or_newer_history_is_explained(shell: Shell, own: str, state: Path) -> None:
    del own
    with sqlite3.connect(state / FILE) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    for more in ((), ("--json",), ("--export", "-"), ("--forget", "--yes")):
        done = shell("history", *more)
        assert (done.returncode, done.stdout) == (1, "")
        assert "has format 99; this release knows formats up to 1\n" in done.stderr
        assert "Use the newer release of runner" in done.stderr
    (state / FILE).write_bytes(b"garbage" * 999)
    done = shell("history")
    assert (done.returncode, done.stdout) == (1, "")
    assert "file is not a database\n  Nothing was changed in it. Keep a copy" in done.stderr


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--export", "a", "--import", "b"], "--export and --import do not go together"),
        (["--json", "--forget"], "--forget and --json do not go together"),
        (["--here"], "--here goes with --import only"),
        (["--yes"], "--yes goes with --forget only"),
        (["--import", "a", "--all"], "--all does not go with --import"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    state: Path, tmp_path: Path, argv: list[str], said: str
) -> None:
    command = ["history", "-C", str(tmp_path), "--state-dir", str(state), *argv]
    error = CliRunner().invoke(root, command, standalone_mode=False).exception
    assert said in str(error)


# --- forgetting -------------------------------------------------------------------------------


def test_forgetting_is_asked_for(shell: Shell, own: str, state: Path) -> None:
    done = shell("history", "--forget", stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "runner: --forget asks first, and nobody is there\n  Add --yes.\n"
    assert len(past(state)) == 30
    done = shell("history", "--forget", "--yes")
    assert (done.returncode, done.stderr) == (0, "Forgot 15 rows of this repository.\n")
    assert past(state, own) == ()
    assert len(past(state)) == 15
    done = shell("history", "--forget", "--all", "-y")
    assert done.stderr == "Forgot 15 rows of all repositories.\n"
    assert past(state) == ()


@pytest.mark.parametrize(("answer", "left"), [(b"n\n", 30), (b"y\n", 15), (b"\n", 30)])
def test_a_person_is_asked_at_a_terminal(
    shell: Shell, own: str, state: Path, answer: bytes, left: int
) -> None:
    del own
    leader, follower = pty.openpty()
    try:
        os.write(leader, answer)
        done = shell("history", "--forget", stdin=follower)
    finally:
        os.close(leader)
        os.close(follower)
    assert done.returncode == 0
    assert done.stderr.startswith("Forget 15 rows of this repository? [y/N]: ")
    assert len(past(state)) == left


# --- help and completion ----------------------------------------------------------------------


def test_help_has_examples_that_work(shell: Shell, own: str) -> None:
    del own
    page = shell("history", "--help").stdout
    examples = [
        line.partition("#")[0].split()
        for line in page.splitlines()
        if line.startswith(("    runner history", "  runner history "))
    ]
    assert len(examples) == 4
    for command in examples:
        done = shell(*command[1:])
        assert done.returncode == 0, (command, done.stderr)


def test_a_shell_completes_its_options(shell: Shell) -> None:
    env = {
        "SUBRUNNER_COMPLETE": "bash_complete",
        "COMP_WORDS": "runner history --e",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(
        [sys.executable, "-m", "runner"], env=os.environ | env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    del shell
    assert done.stdout == "plain,--export\n"


# --- real runs --------------------------------------------------------------------------------

WORKFLOW = """
steps:
  - { id: lint, run: "! grep -n os calc.py", fix: true }
  - { id: test, run: test -e mended, fix: { attempts: 2 }, escalate: true }
"""
SCRIPT = r"""
as: anthropic:claude-haiku-5-5
rules:
  - when: { role: cheap, step: lint }
    turns:
      - { call: edit_file, with: { path: calc.py, old_text: "import os\n", new_text: "" } }
      - done: Removed it.
  - when: { role: cheap, step: test }
    cannot: { reason: No idea., evidence: none }
  - when: { role: main, step: test }
    turns:
      - { call: write_file, with: { path: mended, content: "" } }
      - done: Made it.
"""


@pytest.fixture
def mend(tmp_path: Path, shell: Shell) -> Callable[[], subprocess.CompletedProcess[str]]:
    """Make a repository with two defects; each call runs its workflow on it, mended by a script."""
    work = tmp_path / "work"
    (tmp_path / "mend.yaml").write_text(SCRIPT)
    (work / "workflow.yaml").write_text(WORKFLOW)
    (work / "calc.py").write_text("import os\nA = 1\n")
    for command in ("init -q", "add -A", "commit -q -m start"):
        subprocess.run(["git", *command.split()], cwd=work, check=True)
    models = [f"--model={role}=script:{tmp_path}/mend.yaml" for role in ("cheap", "main")]

    def call() -> subprocess.CompletedProcess[str]:
        (work / "calc.py").write_text("import os\nA = 1\n")
        (work / "mended").unlink(missing_ok=True)
        return shell("exec", *models, "--policy", "ladder", "--allow-uncommitted")

    return call


@pytest.mark.slow
def test_runs_fill_the_history(
    shell: Shell, mend: Callable[[], subprocess.CompletedProcess[str]], state: Path
) -> None:
    for _ in range(2):
        done = mend()
        assert done.returncode == 0, done.stderr
    told = json.loads(shell("history", "--json").stdout)
    assert (told["steps"], told["runs"]) == (4, 2)
    lines = [(one["rung"], one["tried"], one["mended"]) for one in told["timetable"]]
    assert sorted(lines) == [("main", 2, 2), ("subagent", 4, 2)]
    assert all(one["median_cost_usd"] > 0 for one in told["timetable"])
    runs = {one.run for one in past(state)}
    assert runs == {one["run_id"] for one in json.loads(shell("runs", "--json").stdout)}


def test_a_run_goes_on_without_a_damaged_history_and_says_so_once(
    mend: Callable[[], subprocess.CompletedProcess[str]], state: Path, tmp_path: Path
) -> None:
    state.mkdir(mode=0o700)
    (state / FILE).write_bytes(b"garbage" * 999)
    done = mend()
    assert done.returncode == 0, done.stderr
    with Journal.open(repo_state(tmp_path / "work", state), create=False) as journal:
        events = journal.events(journal.find())
        told = [event.text for event in events if isinstance(event, Notice)]
    assert [text for text in told if "history" in text] == [
        f"the history is left out of this run: the history {state / FILE}: file is not a database. "
        "Nothing was changed in it. Keep a copy, then move it and its -wal file away to start a "
        "new one"
    ]
    assert (state / FILE).read_bytes() == b"garbage" * 999


def test_a_run_without_models_makes_no_history(shell: Shell, state: Path, tmp_path: Path) -> None:
    (tmp_path / "work/workflow.yaml").write_text(
        "steps:\n  - { id: fail, run: 'false', fix: true }\n"
    )
    assert shell("exec", "--no-models").returncode == 1
    (tmp_path / "work/workflow.yaml").write_text("steps:\n  - { id: ok, run: 'true', fix: true }\n")
    assert shell("exec").returncode == 0
    assert not (state / FILE).exists()
