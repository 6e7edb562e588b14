"""The jobs of `examples/ci`, run in scratch repositories as CI systems run them."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from junitform import parsed
from scratch import CALC, UNITTEST, make

from runner.init import initialise
from runner.init.ci import ci_job
from runner.init.proposal import Check, Proposal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scratch import Scratch

EXAMPLES = Path(__file__).parent.parent / "examples" / "ci"
PYTHON = Proposal((Check("test", "pytest -q", "x", "python"),))
OUTSIDE = ("pip", "pipx", "sudo", "npm")
"""Programs of the machine that a job prepares: not this project's, and not run here."""


@pytest.fixture
def scratch(world: Path) -> Scratch:
    made = make(world)
    made.write(
        ".runner/workflow.yaml",
        f"""
        name: checks
        steps:
          - id: test
            run: {UNITTEST}
            fix: test-fixer
        """,
    )
    made.commit_all()
    return made


def broken(scratch: Scratch) -> None:
    scratch.write("calc.py", CALC.replace("a + b", "a - b"))
    scratch.commit_all()


def machine(scratch: Scratch, **more: str) -> dict[str, str]:
    """Return the environment of a CI machine on which only `runner` and Python are installed."""
    home, programs = scratch.root.parent / "home", scratch.root.parent / "bin"
    if not programs.exists():
        home.mkdir()
        programs.mkdir()
        for name in OUTSIDE:
            stand_in(programs / name, f'echo "{name} $*" >> "$HOME/prepared"')
        stand_in(programs / "runner", f'exec {sys.executable} -m runner "$@"')
        (programs / "python").symlink_to(sys.executable)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "CI": "true", **more}


def stand_in(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def sh(
    command: list[str], scratch: Scratch, environ: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=scratch.root, env=environ, capture_output=True, text=True, check=False
    )


def spans(trace: Path) -> set[str]:
    """Return the names of the spans in OTLP/JSON lines."""
    batches = [json.loads(line) for line in trace.read_text().splitlines()]
    return {
        span["name"]
        for batch in batches
        for resource in batch["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    }


# -- one source ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "system", "file"),
    [
        ("github.yml", "github", ".github/workflows/runner.yml"),
        ("gitlab.yml", "gitlab", ".gitlab-ci.yml"),
    ],
)
def test_init_writes_the_job_of_the_example(
    name: str, system: Any, file: str, tmp_path: Path
) -> None:
    assert (EXAMPLES / name).read_text() == ci_job(system, PYTHON)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    initialise(tmp_path, ci=system)
    assert (tmp_path / file).read_text() == (EXAMPLES / name).read_text()


@pytest.mark.parametrize("language", ["python", "node", "go"])
def test_setup_is_by_language(language: str) -> None:
    proposal = Proposal((Check("test", "x", "y", language),))
    for system in ("github", "gitlab"):
        text = ci_job(system, proposal)
        assert yaml.safe_load(text)
        assert ("npm ci" in text, "pip install -e ." in text) == (
            language == "node",
            language == "python",
        )


def test_the_page_names_every_example_and_every_exit_code() -> None:
    page = (EXAMPLES.parent.parent / "docs" / "ci.md").read_text()
    linked = set(re.findall(r"\]\(\.\./examples/ci/([\w.]+)\)", page))
    assert linked == {one.name for one in EXAMPLES.iterdir() if one.is_file()}
    codes = re.findall(r"^\| ([\d, ]+) \|", page, re.MULTILINE)
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "7", "130, 143"]


# -- GitHub ----------------------------------------------------------------------------------------


def job() -> dict[str, Any]:
    # YAML 1.1 reads `on` as true; GitHub reads it as a word.
    text = (EXAMPLES / "github.yml").read_text().replace("\non:", '\n"on":')
    return yaml.safe_load(text)


def run_github(scratch: Scratch, secrets: Mapping[str, str]) -> tuple[dict[str, int], Path]:
    """Run each `run:` of the job as GitHub does: a script file, its own shell, its variables."""
    temp = scratch.root.parent / "temp"
    temp.mkdir()
    summary = temp / "summary.md"
    summary.touch()
    codes: dict[str, int] = {}
    failed = False
    for step in job()["jobs"]["runner"]["steps"]:
        if "run" not in step or (failed and step.get("if") != "always()"):
            continue
        script = temp / "script.sh"
        script.write_text(step["run"])
        own = {
            key: secrets.get(value.removeprefix("${{ secrets.").removesuffix(" }}"), "")
            for key, value in step.get("env", {}).items()
        }
        environ = machine(
            scratch,
            GITHUB_ACTIONS="true",
            GITHUB_STEP_SUMMARY=str(summary),
            GITHUB_WORKSPACE=str(scratch.root),
            RUNNER_TEMP=str(temp),
            **own,
        )
        # https://docs.github.com/actions/reference/workflow-syntax-for-github-actions#jobsjob_idstepsshell
        done = sh(["bash", "-e", str(script)], scratch, environ)
        codes[step["run"].split("\n")[0]] = done.returncode
        failed = failed or (done.returncode != 0 and not step.get("continue-on-error"))
    return codes, temp


@pytest.mark.parametrize("healthy", [True, False])
def test_the_github_job_runs_as_on_a_fork(scratch: Scratch, healthy: bool) -> None:
    """Without secrets: the variable is there, and empty."""
    if not healthy:
        broken(scratch)
    codes, temp = run_github(scratch, {})
    prepared = (scratch.root.parent / "home" / "prepared").read_text().splitlines()
    assert prepared == ["pip install -e .", "pipx install subagent-runner"]
    main = next(code for line, code in codes.items() if line.startswith("exec runner exec"))
    assert main == (0 if healthy else 1)
    report = json.loads((temp / "run" / "report.json").read_text())
    assert report["steps"][0]["status"] == ("succeeded" if healthy else "failed")
    assert [model["requests"] for model in report["models"].values()] in ([], [0], [0, 0])
    root = parsed((temp / "run" / "junit.xml").read_text("utf-8"))
    assert len([*root.iter("failure")]) == (0 if healthy else 1)
    assert "checks: exit" in (temp / "summary.md").read_text()
    assert spans(temp / "run" / "trace.otlp.jsonl") >= {"invoke_workflow checks", "step test"}
    # The tree is as it was checked out: what is kept is beside it.
    assert scratch.git("status", "--porcelain") == ""


def test_what_the_github_job_keeps_and_grants() -> None:
    steps = job()["jobs"]["runner"]["steps"]
    assert job()["permissions"] == {"contents": "read"}
    used = {step["uses"].partition("@")[0]: step for step in steps if "uses" in step}
    assert used["actions/checkout"]["with"] == {"fetch-depth": 0, "persist-credentials": False}
    assert used["actions/cache"]["with"]["path"] == "~/.local/state/subagent-runner"
    assert used["actions/upload-artifact"]["with"]["path"] == "${{ runner.temp }}/run"
    assert used["actions/upload-artifact"]["if"] == "always()"
    assert all("@v" in step["uses"] for step in used.values())
    # A secret is in the environment of the one step that needs it, and in no other.
    assert [bool(step.get("env")) for step in steps].count(True) == 1


def test_the_state_directory_is_the_one_that_the_job_caches(scratch: Scratch) -> None:
    codes, temp = run_github(scratch, {})
    assert codes
    state = Path(json.loads((temp / "run" / "report.json").read_text())["state_dir"])
    cached = scratch.root.parent / "home" / ".local" / "state" / "subagent-runner"
    assert cached in state.parents


def test_the_line_for_the_sandbox_can_be_switched_on() -> None:
    text = (EXAMPLES / "github.yml").read_text()
    (line,) = [one for one in text.splitlines() if "apparmor_restrict" in one]
    steps = yaml.safe_load(text.replace(line, line.replace("# - run", "- run")))
    runs = [step["run"] for step in steps["jobs"]["runner"]["steps"] if "run" in step]
    assert "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0" in runs


def test_a_job_that_was_cut_off_is_resumed_by_the_next(scratch: Scratch) -> None:
    jobs = yaml.safe_load((EXAMPLES / "resume.yml").read_text())["jobs"]
    temp, ledger = scratch.root.parent / "temp", scratch.root.parent / "ledger"
    temp.mkdir()
    cut_off = f"test -e {ledger}.cut || {{ touch {ledger}.cut; kill -TERM $PPID; sleep 9; }}"
    scratch.write(
        ".runner/workflow.yaml",
        f"""
        name: checks
        steps:
          - id: one
            run: echo one >> {ledger}
          - id: two
            run: echo two >> {ledger}; {cut_off}
        """,
    )
    scratch.commit_all()
    environ = machine(scratch, RUNNER_TEMP=str(temp), SUBRUNNER_SANDBOX="off")

    def run_all(job: str) -> list[int]:
        codes: list[int] = []
        for step in jobs[job]["steps"]:
            condition = step.get("if", "success()")
            if "run" in step and ("failure()" in condition) == any(codes):
                codes.append(sh(["bash", "-e", "-c", step["run"]], scratch, environ).returncode)
        return codes

    assert run_all("runner") == [0, 143, 0]
    kept = jobs["runner"]["steps"][-1]["with"]["path"].replace("${{ runner.temp }}", str(temp))
    # Another machine, on which only the artifact is there.
    shutil.rmtree(temp / "state")
    assert Path(kept).is_file()
    assert run_all("again") == [0, 0, 0]
    assert ledger.read_text().split() == ["one", "two", "two"]


# -- GitLab ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("healthy", [True, False])
def test_the_gitlab_job_runs(scratch: Scratch, healthy: bool) -> None:
    if not healthy:
        broken(scratch)
    facts = yaml.safe_load((EXAMPLES / "gitlab.yml").read_text())["runner"]
    environ = machine(scratch, GITLAB_CI="true", CI_PROJECT_DIR=str(scratch.root))
    # GitLab makes one script of the lines, and another of those after it.
    script = "set -eo pipefail\n" + "\n".join(facts["script"])
    done = sh(["bash", "-c", script], scratch, environ)
    assert done.returncode == (0 if healthy else 1), done.stderr
    sh(["bash", "-c", "set -eo pipefail\n" + "\n".join(facts["after_script"])], scratch, environ)
    junit = facts["artifacts"]["reports"]["junit"]
    assert junit.startswith(facts["artifacts"]["paths"][0])
    root = parsed((scratch.root / junit).read_text("utf-8"))
    assert len([*root.iter("failure")]) == (0 if healthy else 1)
    assert "::group::" not in done.stderr
    trace = scratch.root / "runner-run" / "trace.otlp.jsonl"
    assert spans(trace) >= {"invoke_workflow checks", "step test"}


# -- shell, Python, pytest -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("calc", "code", "says"),
    [
        (CALC, 0, "exit 0: all steps passed"),
        (CALC.replace("a + b", "a - b"), 1, "exit 1: a step failed: "),
    ],
)
def test_the_shell_job(scratch: Scratch, calc: str, code: int, says: str) -> None:
    scratch.write("calc.py", calc)
    out = scratch.root.parent / "out"
    environ = machine(scratch)
    done = sh(["bash", str(EXAMPLES / "shell.sh"), str(out)], scratch, environ)
    assert done.returncode == code, done.stderr
    assert done.stdout.splitlines()[-1].startswith(says)
    assert parsed((out / "junit.xml").read_text("utf-8")) is not None
    assert json.loads((out / "report.json").read_text())["exit_code"] == code
    assert json.loads((out / "events.jsonl").read_text().splitlines()[-1])["exit_code"] == code


def test_the_shell_job_says_when_nothing_ran(scratch: Scratch) -> None:
    scratch.write(".runner/workflow.yaml", "name: x\nsteps: [{id: a, rum: x}]\n")
    done = sh(["bash", str(EXAMPLES / "shell.sh")], scratch, machine(scratch))
    assert (done.returncode, done.stdout.strip()[:19]) == (2, "exit 2: nothing ran")


@pytest.mark.parametrize("healthy", [True, False])
def test_the_python_job(scratch: Scratch, healthy: bool) -> None:
    if not healthy:
        broken(scratch)
    out = scratch.root.parent / "out"
    command = [sys.executable, str(EXAMPLES / "job.py"), str(out)]
    done = sh(command, scratch, machine(scratch))
    assert done.returncode == (0 if healthy else 1), done.stderr
    assert parsed((out / "junit.xml").read_text("utf-8")) is not None
    said = done.stdout.splitlines()
    state = "succeeded" if healthy else "failed"
    places = [] if healthy else ["test_calc.py:8: AssertionError: -1 != 5"]
    assert said == [f"test: {state} at rung command", *places, "cost: 0 USD"]


def test_the_python_job_says_what_is_wrong_with_a_workflow(scratch: Scratch) -> None:
    scratch.write(".runner/workflow.yaml", "name: x\nsteps: [{id: a, rum: x}]\n")
    done = sh([sys.executable, str(EXAMPLES / "job.py")], scratch, machine(scratch))
    assert done.returncode == 2
    assert "unknown key" in done.stderr


@pytest.mark.parametrize("healthy", [True, False])
def test_the_pytest_asserts_on_a_run_and_on_a_report(scratch: Scratch, healthy: bool) -> None:
    if not healthy:
        broken(scratch)
    copy = scratch.root.parent / "test_ship.py"
    shutil.copy(EXAMPLES / "test_ship.py", copy)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", str(copy.parent), "-o", "asyncio_default_fixture_loop_scope=function"]
    here = sh([*command, str(copy)], scratch, machine(scratch))
    out = scratch.root.parent / "out"
    sh(["bash", str(EXAMPLES / "shell.sh"), str(out)], scratch, machine(scratch))
    environ = machine(scratch, SHIP_REPORT=str(out / "report.json"))
    given = sh([*command, str(copy)], scratch, environ)
    for done in (here, given):
        assert done.returncode == (0 if healthy else 1), done.stdout
        assert ("4 passed" if healthy else "1 failed, 3 passed") in done.stdout


# -- held against the CI systems' own schemas ------------------------------------------------------


@pytest.mark.tools
@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("vendor.github-workflows", "github.yml"),
        ("vendor.github-workflows", "resume.yml"),
        ("vendor.gitlab-ci", "gitlab.yml"),
    ],
)
def test_the_jobs_follow_their_public_schemas(schema: str, name: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    done = subprocess.run(
        [*command, str(EXAMPLES / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
