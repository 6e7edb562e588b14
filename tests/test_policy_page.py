"""Holds docs/policy.md, its picture and its table to what the policies do."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from decimal import Decimal
from pathlib import Path

import pytest

from benchmarks import policy_grid, streams
from runner.expected import POLICIES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/policy.md").read_text()
THREE = Decimal(3)


def test_the_picture_is_what_the_policy_decides() -> None:
    assert policy_grid.svg() == policy_grid.FILE.read_text(), "run benchmarks/policy_grid.py"


def test_the_picture_is_svg_and_shows_every_choice() -> None:
    root = ET.parse(policy_grid.FILE).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    drawn = [one.get("fill") for one in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert all(drawn.count(colour) > 1 for colour in policy_grid.COLOURS), "legend and cells"


def test_the_page_names_the_policies_and_facts_that_there_are() -> None:
    assert re.findall(r"^\| `(\w[\w-]*)`", PAGE, re.MULTILINE) == list(POLICIES)
    (block,) = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    shown = re.findall(r"^ +(\w+) = ", block, re.MULTILINE)
    failed = streams.stream("as guessed", 0, 1)[0]
    made = {str(name) for name in streams.explained(failed, [], THREE)}
    assert set(shown) <= made


@pytest.mark.parametrize("world", streams.WORLDS)
def test_on_streams_nobody_beats_who_knows_the_odds(world: streams.World) -> None:
    rows = {row.policy: row for row in streams.played(world, 12, 40, THREE)}
    assert list(rows) == [*POLICIES, "oracle"]
    best = rows["oracle"].priced[0]
    for name in ("expected-cost", "ladder", "main"):
        assert rows[name].priced[0] > 0.98 * best, "but for luck"
        assert rows[name].unmended < 1.0, "main's own failures only"
    assert rows["cheap"].usd[0] < rows["ladder"].usd[0]
    assert rows["cheap"].unmended > 8.0, "what is left broken is counted"
    assert rows["expected-cost"].priced[0] < 1.12 * best, "never far from the best"


def test_where_learning_gains_nothing_the_table_says_so() -> None:
    guessed, worse = (streams.played(world, 20, 40, THREE) for world in ("as guessed", "worse"))
    assert streams.verdict(guessed).startswith("Learning gains nothing here: ")
    assert re.match(r"Learning spends \d\.\d% less than ladder; ", streams.verdict(worse))


def test_a_stream_is_the_same_each_time() -> None:
    one, other = (streams.stream("drifting", 7, 20) for _ in range(2))
    assert one == other
    assert one != streams.stream("drifting", 8, 20)
    bills = [streams.play(failures, "expected-cost", THREE) for failures in (one, other)]
    assert bills[0] == bills[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_table_is_what_the_streams_show() -> None:
    for world in streams.WORLDS:
        rows = streams.played(world, streams.SEEDS, streams.FAILURES, streams.VALUE_OF_TIME)
        assert streams.markdown(world, rows) in PAGE, "run benchmarks/streams.py --markdown"
