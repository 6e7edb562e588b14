"""`runner init`: what it finds in a repository, what it writes, and that it passes there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.init import initialise, propose, remote_of
from runner.init.ci import ci_job
from runner.init.evidence import Evidence, filled, gather, hooks_in
from runner.init.proposal import AGENTS, Check, Proposal
from runner.init.render import scalar, workflow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def which(*tools: str) -> Callable[[str], str | None]:
    return lambda tool: f"/bin/{tool}" if tool in tools else None


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def found(root: Path, files: Mapping[str, str], *tools: str) -> dict[str, str]:
    proposal = propose(gather(write(root, files), which(*tools)))
    return {check.id: check.run for check in proposal.checks}


CASES: list[tuple[str, dict[str, str], tuple[str, ...], dict[str, str]]] = [
    ("nothing", {}, ("ruff", "pytest", "make", "npm"), {}),
    (
        "ruff configured for linting only",
        {"pyproject.toml": "[tool.ruff]\nline-length = 100\n"},
        ("ruff",),
        {"lint": "ruff check ."},
    ),
    (
        "ruff formats too",
        {"pyproject.toml": "[tool.ruff.format]\nquote-style = 'single'\n"},
        ("ruff",),
        {"format": "ruff format --check .", "lint": "ruff check ."},
    ),
    (
        "automation says on which paths",
        {
            "src/a.py": "",
            "tests/a.py": "",
            "scripts/check": 'export SOURCE="src tests"\n'
            "${PREFIX}ruff format $SOURCE --check --diff\n"
            "${PREFIX}mypy --strict $SOURCE\n"
            "${PREFIX}ruff check $SOURCE\n",
        },
        ("ruff", "mypy"),
        {
            "format": "ruff format --check src tests",
            "lint": "ruff check src tests",
            "types": "mypy --strict src tests",
        },
    ),
    (
        "nox says on which paths",
        {"src/a.py": "", "noxfile.py": 'session.run("mypy", "--strict", "src")\n'},
        ("mypy",),
        {"types": "mypy --strict src"},
    ),
    (
        "mypy knows its files",
        {"pyproject.toml": "[tool.mypy]\nfiles = ['src']\n"},
        ("mypy",),
        {"types": "mypy"},
    ),
    ("mypy without paths is left out", {"mypy.ini": "[mypy]\nstrict = true\n"}, ("mypy",), {}),
    (
        "tools that are not installed are left out",
        {"pyproject.toml": "[tool.ruff]\n[tool.pytest.ini_options]\n[tool.pyright]\n"},
        ("pytest",),
        {"test": "pytest -q"},
    ),
    (
        "a tool in the repository's own environment",
        {"pyproject.toml": "[tool.pytest.ini_options]\n", ".venv/bin/pytest": ""},
        (),
        {"test": ".venv/bin/pytest -q"},
    ),
    (
        "by the manager whose lock file there is",
        {"pyproject.toml": "[tool.ruff]\n", "uv.lock": "", ".venv/bin/ruff": ""},
        ("uv",),
        {"lint": "uv run ruff check ."},
    ),
    (
        "python -m pytest where automation says so",
        {
            "pytest.ini": "[pytest]\n",
            ".github/workflows/ci.yml": "    - run: python -m pytest tests\n",
        },
        ("pytest", "python"),
        {"test": "python -m pytest -q"},
    ),
    (
        "unittest",
        {"tests/test_a.py": "import unittest\n"},
        ("python3", "pytest"),
        {"test": "python3 -m unittest discover -s tests"},
    ),
    (
        "black from a hook that looks at everything",
        {".pre-commit-config.yaml": "repos:\n- repo: r\n  hooks:\n  - id: black\n"},
        ("black",),
        {"format": "black --check ."},
    ),
    (
        "a hook that looks at some files only is no evidence",
        {".pre-commit-config.yaml": "exclude: ^x\nrepos:\n- repo: r\n  hooks:\n  - id: black\n"},
        ("black",),
        {},
    ),
    (
        "pre-commit lints where nothing else does",
        {".pre-commit-config.yaml": "repos:\n- repo: r\n  hooks:\n  - id: trailing-whitespace\n"},
        ("pre-commit",),
        {"lint": "pre-commit run --all-files"},
    ),
    (
        "package.json by its lock file's manager",
        {
            "package.json": '{"scripts": {"lint": "eslint .", "lint:fix": "eslint . --fix",'
            ' "format": "prettier --write .", "typecheck": "tsc", "test": "vitest run"}}',
            "pnpm-lock.yaml": "",
        },
        ("pnpm", "npm"),
        {"lint": "pnpm run lint", "types": "pnpm run typecheck", "test": "pnpm run test"},
    ),
    (
        "scripts that watch, write or are npm's placeholder are left out",
        {
            "package.json": '{"scripts": {"lint": "eslint --fix .", "test": "jest --watch",'
            ' "typecheck": "echo \\"Error: no test specified\\" && exit 1"}}'
        },
        ("npm",),
        {},
    ),
    (
        "no node_modules, no scripts",
        {"package.json": '{"scripts": {"test": "jest"}, "devDependencies": {"jest": "1"}}'},
        ("npm",),
        {},
    ),
    (
        "cargo",
        {
            "Cargo.toml": "[package]\n",
            ".github/workflows/ci.yml": "- run: cargo fmt --check\n"
            "- run: cargo clippy -- -D warnings\n",
        },
        ("cargo", "rustfmt", "cargo-clippy"),
        {
            "format": "cargo fmt --all --check",
            "lint": "cargo clippy --all-targets -- -D warnings",
            "test": "cargo test",
        },
    ),
    ("cargo alone", {"Cargo.toml": ""}, ("cargo", "rustfmt"), {"test": "cargo test"}),
    (
        "go",
        {"go.mod": "module m\n"},
        ("go", "gofmt"),
        {"lint": "go vet ./...", "test": "go test ./..."},
    ),
    (
        "make for what nothing else covers",
        {
            "Makefile": "SRC := a\n.PHONY: test lint\nfmt:\n\tx\n"
            "check-fmt:\n\tx\nlint test: dep\n\tx\n",
            "go.mod": "module m\n",
        },
        ("make", "go"),
        {"format": "make check-fmt", "lint": "go vet ./...", "test": "go test ./..."},
    ),
    (
        "two languages",
        {"go.mod": "module m\n", "pyproject.toml": "[tool.ruff]\n[tool.pytest.ini_options]\n"},
        ("go", "ruff", "pytest"),
        {
            "lint": "ruff check .",
            "lint-go": "go vet ./...",
            "test": "pytest -q",
            "test-go": "go test ./...",
        },
    ),
]


@pytest.mark.parametrize(
    ("files", "tools", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_is_proposed(
    files: dict[str, str], tools: tuple[str, ...], expected: dict[str, str], tmp_path: Path
) -> None:
    assert found(tmp_path, files, *tools) == expected


@pytest.mark.parametrize(
    ("files", "note"),
    [
        ({"pyproject.toml": "[tool.ruff]\n"}, "ruff is used here ([tool.ruff] in pyproject.toml)"),
        ({"mypy.ini": "[mypy]\n"}, "mypy is used here, but nothing says on which paths"),
        ({"Cargo.toml": ""}, "cargo is not installed"),
        ({"go.mod": ""}, "go is not installed"),
        ({"Makefile": "test:\n\ttrue\n"}, "make is not installed"),
        ({"package.json": '{"scripts": {"test": "x"}}', "yarn.lock": ""}, "yarn is not installed"),
        ({".pre-commit-config.yaml": "repos: [{hooks: [{id: x}]}]"}, "pre-commit is not installed"),
    ],
)
def test_what_is_left_out_is_said(files: dict[str, str], note: str, tmp_path: Path) -> None:
    proposal = propose(gather(write(tmp_path, files), which()))
    assert proposal.checks == ()
    assert any(note in one for one in proposal.notes)


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "package.json", ".pre-commit-config.yaml", "tox.ini"]
)
@pytest.mark.parametrize(
    "text", ["{[", "\x00", "- 1", "[[[", "\ud800".encode("utf-8", "surrogatepass")]
)
def test_a_broken_file_counts_as_absent(name: str, text: str | bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert propose(gather(tmp_path, which("ruff", "npm", "pre-commit"))).checks == ()


@given(st.text())
def test_reading_hooks_and_variables_never_fails(text: str) -> None:
    assert isinstance(hooks_in(text), dict)
    assert isinstance(filled(text), str)


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1))
@example("A ")
@example("FALSE")
@example("on")
@example(".5e3")
@example(".inf")
@example("a: b")
def test_a_command_reads_back_as_it_was(text: str) -> None:
    assert yaml.safe_load(f"run: {scalar(text)}") == {"run": text}


def test_only_lint_type_and_test_steps_get_a_fix() -> None:
    checks = tuple(
        Check(role, "x", "y", "python", id=role) for role in ("format", "lint", "types", "test")
    )
    steps = yaml.safe_load(workflow(Proposal(checks), git=False, remote=""))["steps"]
    assert {step["id"] for step in steps if "fix" in step} == set(AGENTS)


@pytest.mark.parametrize(
    ("git", "remote", "expected"),
    [
        (False, "", ["test"]),
        (True, "", ["test", "commit"]),
        (True, "up", ["test", "commit", "push"]),
    ],
)
def test_commit_and_push_only_where_they_can_be(
    git: bool, remote: str, expected: list[str]
) -> None:
    steps = yaml.safe_load(workflow(Proposal(()), git=git, remote=remote))["steps"]
    assert [step["id"] for step in steps] == expected


def test_the_remote_is_origin_else_the_first_one(tmp_path: Path) -> None:
    assert remote_of(tmp_path) == ""
    write(tmp_path, {".git/config": '[remote "up"]\n\turl = x\n[remote "origin"]\n\turl = y\n'})
    assert remote_of(tmp_path) == "origin"
    write(tmp_path, {".git/config": '[remote "up"]\n\turl = x\n'})
    assert remote_of(tmp_path) == "up"


def test_an_existing_workflow_is_kept_unless_forced(tmp_path: Path) -> None:
    write(tmp_path, {".runner/workflow.yaml": "mine"})
    with pytest.raises(UsageError, match="exists already") as caught:
        initialise(tmp_path)
    assert "runner init --force" in str(caught.value)
    assert (tmp_path / ".runner/workflow.yaml").read_text() == "mine"
    assert initialise(tmp_path, force=True).files == (".runner/workflow.yaml",)
    assert "steps:" in (tmp_path / ".runner/workflow.yaml").read_text()


def test_a_ci_job_is_written_beside_the_users_own_workflow(tmp_path: Path) -> None:
    write(tmp_path, {".runner/workflow.yaml": "mine"})
    written = initialise(tmp_path, ci="github")
    assert written.kept
    assert written.files == (".github/workflows/runner.yml",)
    assert (tmp_path / ".runner/workflow.yaml").read_text() == "mine"
    with pytest.raises(UsageError, match="runner init --ci github --force"):
        initialise(tmp_path, ci="github")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pyproject.toml", "[project"),
        ("package.json", '{"scripts": '),
        (".pre-commit-config.yaml", "repos: ["),
    ],
)
def test_a_file_that_cannot_be_parsed_is_told(name: str, text: str, tmp_path: Path) -> None:
    proposal = propose(gather(write(tmp_path, {name: text}), which()))
    assert proposal.notes == (f"{name} cannot be parsed, so nothing in it was seen",)


def test_an_empty_file_is_not_told(tmp_path: Path) -> None:
    files = {"pyproject.toml": "", "package.json": "", ".pre-commit-config.yaml": ""}
    assert gather(write(tmp_path, files), which()).broken == ()


def test_what_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    write(tmp_path, {".runner": "a file where the folder should be"})
    with pytest.raises(UsageError, match="cannot be written: File exists"):
        initialise(tmp_path)


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_the_ci_job_is_yaml_and_runs_the_workflow(system: str) -> None:
    proposal = Proposal((Check("test", "pytest", "x", "python"),))
    text = ci_job("github" if system == "github" else "gitlab", proposal)
    assert yaml.safe_load(text)
    assert "runner exec --report" in text
    assert "pip install -e ." in text


def test_tools_are_looked_up_where_the_user_has_them(tmp_path: Path) -> None:
    assert gather(tmp_path).which is shutil.which
    assert Evidence(tmp_path).which("git") == shutil.which("git")


def test_the_commands_found_in_a_real_project_pass(tmp_path: Path) -> None:
    files = {
        "calc.py": "def add(a, b):\n    return a + b\n",
        "tests/test_calc.py": "import unittest\nimport calc\n\n\n"
        "class Calc(unittest.TestCase):\n    def test_add(self):\n"
        "        self.assertEqual(calc.add(1, 2), 3)\n",
    }
    proposal = propose(gather(write(tmp_path, files)))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for check in proposal.checks:
        command = ["bash", "-eo", "pipefail", "-c", check.run]
        done = subprocess.run(command, cwd=tmp_path, env={"PATH": path}, check=False)
        assert done.returncode == 0, check
    assert [check.id for check in proposal.checks] == ["test"]
