"""Every message of `broken_workflows/*.yaml`, word for word, as a new user reads it.

A missing `.txt` is written by its test, which then fails: read what it says, then run it again.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from runner.errors import UsageError, WorkflowErrors
from runner.loader import load_workflow

FOLDER = Path(__file__).parent / "broken_workflows"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_are_enough() -> None:
    assert len(FILES) >= 30


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_message(file: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_workflow(file, root=FOLDER)
    found = f"{caught.value}\n"
    expected = file.with_suffix(".txt")
    if not expected.exists():
        expected.write_text(found)
        pytest.fail(f"{expected.name} was missing; it is written, now read it")
    assert found == expected.read_text()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_message_shows_the_place_and_the_line(file: Path) -> None:
    with pytest.raises(WorkflowErrors) as caught:
        load_workflow(file, root=FOLDER)
    for error in caught.value.errors:
        lines = (FOLDER / error.where.file).read_text().splitlines()
        line = lines[error.where.line - 1]
        assert 1 <= error.where.column <= len(line) + 1
        assert line.startswith(error.line.removesuffix(" ..."))
        assert not re.search(r"Traceback|<.* object|None\b", str(error))
