"""Real linters, type checker, tests and hooks: `init` finds them, `exec` runs and mends by them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scratch import Scratch, make, with_remote

from runner.cli import invoke
from runner.events import CommandFinished

if TYPE_CHECKING:
    from runner import Report

pytestmark = pytest.mark.tools

PROJECT = """\
[project]
name = "shop"
version = "1"

[tool.ruff]
line-length = 88

[tool.mypy]
strict = true
files = ["shop.py"]

[tool.pytest.ini_options]
testpaths = ["."]
"""
SHOP = '''\
"""Prices."""


def total(prices: list[float], rate: float) -> float:
    """Return the sum with tax."""
    return sum(prices) * (1 + rate)
'''
TEST = """\
from shop import total


def test_total() -> None:
    assert total([1.0, 2.0], 0.5) == 4.5
"""
HOOKS = """\
repos:
  - repo: local
    hooks:
      - id: format
        name: format
        entry: ruff format
        language: system
        types: [python]
"""
WORKFLOW = """
name: ship
steps:
  - id: format
    run: ruff format --check .
    autofix: ruff format .
  - id: lint
    run: ruff check .
    fix: lint-fixer
  - id: types
    run: mypy
    fix: fixer
  - id: test
    run: python -m pytest -q -p no:cacheprovider
    fix: test-fixer
  - id: commit
    needs: [format, lint, types, test]
    commit: { message: auto }
  - id: push
    push: { remote: origin }
"""
SCRIPT = """
rules:
  - when: { role: cheap, step: lint }
    turns:
      - call: edit_file
        with: { path: shop.py, old_text: "import os\\n\\n\\n", new_text: "\\n" }
      - done: removed the unused import
  - when: { role: cheap, step: types }
    turns:
      - call: edit_file
        with: { path: shop.py, old_text: "rate: str", new_text: "rate: float" }
      - call: check
      - done: the rate is a number
  - when: { role: cheap, step: test }
    cannot: { reason: the sign looks right to me, evidence: shop.py }
  - when: { role: main, step: test, text: test_total }
    turns:
      - call: edit_file
        with: { path: shop.py, old_text: "(1 - rate)", new_text: "(1 + rate)" }
      - done: tax is added
"""


@pytest.fixture
def shop(world: Path, monkeypatch: pytest.MonkeyPatch) -> Scratch:
    """A project whose tools are those of this environment."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for tool in ("ruff", "mypy", "pre-commit"):
        assert shutil.which(tool), f"{tool} is missing: pip install --group tools"
    repo = make(world)
    for name in ("calc.py", "test_calc.py"):
        (repo.root / name).unlink()
    repo.write("pyproject.toml", PROJECT)
    repo.write("shop.py", SHOP)
    repo.write("test_shop.py", TEST)
    repo.write(".gitignore", "__pycache__/\n.mypy_cache/\n.ruff_cache/\n")
    repo.commit_all()
    return repo


def install_hooks(shop: Scratch) -> None:
    subprocess.run(["pre-commit", "install"], cwd=shop.root, check=True, capture_output=True)


def rungs(report: Report) -> dict[str, str]:
    return {step.id: str(step.rung) for step in report.steps}


def test_init_writes_a_workflow_that_passes_on_the_clean_tree(
    shop: Scratch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = ["-C", str(shop.root)]
    assert invoke(["init", *place]) == 0
    written = shop.read(".runner/workflow.yaml")
    assert "ruff check" in written
    assert "mypy" in written
    assert "pytest" in written
    assert invoke(["exec", *place, "--json"]) == 0
    assert '"cost_usd": 0' in capsys.readouterr().out
    assert shop.git("status", "--porcelain") == "?? .runner/"


async def test_every_rung_on_real_tools_then_commit_and_push(shop: Scratch) -> None:
    remote = with_remote(shop)
    broken = SHOP.replace("1 + rate", "1 - rate").replace("rate: float", "rate: str")
    shop.write("shop.py", broken.replace('"""Prices."""\n', '"""Prices."""\nimport os\n'))
    report = await shop.run(WORKFLOW, models=shop.script(SCRIPT))
    assert report.exit_code == 0, report
    assert rungs(report)["format"] == "command"
    assert rungs(report)["lint"] == "subagent"
    assert rungs(report)["types"] == "subagent"
    assert rungs(report)["test"] == "main"
    assert shop.read("shop.py") == SHOP
    # What was broken is mended: HEAD's own content, so that nothing is left to commit.
    assert report.steps[4].status == "skipped"
    shop.write("shop.py", broken + "\n\nEXTRA   = 1\n")
    again = await shop.run(WORKFLOW, models=shop.script(SCRIPT))
    assert again.exit_code == 0, again
    head = shop.git("rev-parse", "HEAD")
    assert head in shop.git(f"--git-dir={remote}", "for-each-ref", "--format=%(objectname)")
    assert "EXTRA = 1" in shop.git("show", "HEAD:shop.py")


async def test_hooks_of_the_real_framework_fix_and_are_taken_up(shop: Scratch) -> None:
    shop.write(".pre-commit-config.yaml", HOOKS)
    shop.commit_all("hooks")
    install_hooks(shop)
    shop.write("shop.py", SHOP + "\n\nEXTRA   = 1\n")
    report = await shop.run(
        """
        steps:
          - id: test
            run: python -m pytest -q -p no:cacheprovider
          - id: commit
            commit: { message: auto }
        """
    )
    assert report.exit_code == 0, report
    assert "hook" in [event.purpose for event in shop.of(CommandFinished)]
    assert "EXTRA = 1" in shop.git("show", "HEAD:shop.py")
    assert shop.git("status", "--porcelain") == ""
