"""Whole runs in virtual time, each from one seed: killed, interrupted, resumed, and compared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.known import MENDED

ROOT = Path(__file__).parents[1]
CHUNK = 50
FEW = 6

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="each life is a fork of one process"),
    pytest.mark.timeout(600),
]


def simulate(*args: str) -> None:
    """Tell stories in a process of its own, which forks one for each life of a run."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 201, CHUNK))
def test_every_story_ends_well(first: int) -> None:
    simulate("--from", str(first), "--seeds", str(CHUNK))


def test_stories_that_once_did_not_end_well_do_and_some_more() -> None:
    simulate("--only", *map(str, {*MENDED, *range(1, FEW + 1)}))
