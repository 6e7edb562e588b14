from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from cacheserver import HAND_PRICES, MILLION

pytestmark = pytest.mark.slow
BENCHMARK = Path(__file__).parent.parent / "benchmarks" / "three_ways.py"


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    """What the benchmark itself measures, by kind of work."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARK), "--quick", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {row["work"]: row for row in json.loads(done.stdout)}


def test_all_ways_do_the_same_work(rows: dict[str, dict[str, Any]]) -> None:
    passing, failing = rows["all pass"], rows["all fail, 1 hard"]
    for row in (passing, failing):
        assert set(row["ways"]) == {"inline", "at once", "switch", "runner"}
        assert len({way["tree"] for way in row["ways"].values()}) == 1
    # What failed was mended: its end is where the other began.
    assert passing["ways"]["runner"]["tree"] == failing["ways"]["runner"]["tree"]


def test_figures_are_bills_at_prices_typed_in_by_hand(rows: dict[str, dict[str, Any]]) -> None:
    classes = ("input", "read", "write", "write_1h", "output")
    for row in rows.values():
        for way in row["ways"].values():
            usd = sum(
                Decimal(tokens.get(name, 0)) * price / MILLION
                for model, tokens in way["tokens"].items()
                for name, price in zip(classes, HAND_PRICES[model], strict=True)
            )
            assert way["usd"] == pytest.approx(float(usd), rel=1e-12)
            assert way["usd"] > 0


def test_while_all_pass_the_runner_asks_nobody(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["all pass"]
    ways, steps = row["ways"], row["steps"]
    # The one request is the turn after the work, which all ways have.
    assert (ways["runner"]["main_requests"], ways["runner"]["cheap_requests"]) == (1, 0)
    assert ways["runner"]["tokens"]["claude-haiku-5-5"] == {}
    assert ways["inline"]["main_requests"] == steps + 2
    assert (ways["switch"]["main_requests"], ways["switch"]["cheap_requests"]) == (1, steps + 1)
    costs = [ways[way]["usd"] for way in ("runner", "switch", "at once", "inline")]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(row["alone_usd"], rel=0.15)


def test_what_fails_costs_subagents_and_only_the_hard_one_main(
    rows: dict[str, dict[str, Any]],
) -> None:
    row = rows["all fail, 1 hard"]
    runner, inline, steps = row["ways"]["runner"], row["ways"]["inline"], row["steps"]
    assert runner["cheap_requests"] == 4 * steps
    assert runner["main_requests"] == 4 + 1
    assert inline["main_requests"] == 4 * steps + 2
    assert runner["usd"] > rows["all pass"]["ways"]["runner"]["usd"]
