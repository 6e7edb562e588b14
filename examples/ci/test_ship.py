"""What must hold of a run of this repository's workflow, whoever changes the workflow.

Run it with pytest; SHIP_REPORT names the report of a run that is over, so that a job asserts
on what it has just done. Without it the workflow is run here, and no model is asked.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from runner import Options, run_sync
from runner.report import to_json

MOST_USD = 0.50


@pytest.fixture(scope="session")
def report() -> dict[str, Any]:
    """Return the report of the run, as `runner exec --report` writes it."""
    given = os.environ.get("SHIP_REPORT")
    if given:
        found: dict[str, Any] = json.loads(Path(given).read_text("utf-8"))
        return found
    return to_json(run_sync(options=Options(no_models=True, no_push=True)))


def test_it_succeeds(report: dict[str, Any]) -> None:
    """Nothing failed that may not, and nothing is left uncommitted."""
    assert report["exit_code"] == 0, {step["id"]: step["reason"] for step in report["steps"]}


def test_everything_that_passed_was_judged_by_a_command(report: dict[str, Any]) -> None:
    """A step is verified by an outside check, never by a model's word."""
    passed = [step for step in report["steps"] if step["status"] == "succeeded"]
    assert [step["id"] for step in passed if not step["verified"]] == []


def test_no_test_was_mended_by_a_model(report: dict[str, Any]) -> None:
    """A failing test is for people to look at."""
    rungs = {step["id"]: step["rung"] for step in report["steps"] if "test" in step["id"]}
    assert set(rungs.values()) <= {"command"}, rungs


def test_it_is_cheap_and_loses_no_cache(report: dict[str, Any]) -> None:
    """Mends are worth a bounded amount, and the main conversation was only appended to."""
    assert report["cost_usd"] is not None, "a model's price is not known"
    assert report["cost_usd"] <= MOST_USD
    assert report["prefix"]["unbroken"]
