"""The table of hostile cases is whole, and every test that it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "hostile.md"
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split(" | ")]
    for line in TABLE.read_text().splitlines()
    if re.match(r"\| N?\d+ \|", line)
]
OPEN = {"52", "53", "72"}
"""What no test shows; a row more here needs a word why in the table."""


@cache
def functions_of(name: str) -> frozenset[str]:
    tree = ast.parse((TESTS / name).read_text())
    functions = (
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return frozenset(node.name for node in functions)


def test_every_case_has_its_row_once_and_in_order() -> None:
    numbers = [row[0] for row in ROWS]
    assert [number for number in numbers if number.isdigit()] == [str(n) for n in range(1, 91)]
    assert len(set(numbers)) == len(numbers)
    assert all(len(row) == 5 and all(row) for row in ROWS), "a row has five cells"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_the_tests_that_a_row_names_are_there(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row[4])
    assert bool(named) is (row[0] not in OPEN)
    for file, name in named:
        assert name in functions_of(file), f"{file} has no {name}"
    assert len(named) == row[4].count("::"), "each is written as `file::test`"
