"""Commit messages: Conventional Commits, a subject of 72 characters, trailers at the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.git.message import SUBJECT, by_rule, problems, with_trailers
from runner.outcome import Change


def _changes(*paths: str, kind: str = "modified") -> list[Change]:
    return [Change(path, kind) for path in paths]  # type: ignore[arg-type]  a table of kinds


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        (_changes("src/app.py"), "chore(src): update app.py"),
        (_changes("src/a.py", "src/b.py"), "chore(src): update 2 files"),
        (_changes("tests/test_a.py", kind="added"), "test(tests): add test_a.py"),
        (_changes("README.md", "docs/a.md"), "docs: update 2 files"),
        (_changes("a.py", kind="deleted"), "chore: remove a.py"),
        (_changes("src/a.py", "docs/b.md"), "chore: update 2 files"),
        (_changes("pyproject.toml"), "build: update pyproject.toml"),
        (_changes(".github/workflows/ci.yaml"), "ci: update ci.yaml"),
        (_changes("src/" + "x" * 300), "chore: update 1 file"),
        (_changes("src/new\nline \x1b[31m"), "chore(src): update new?line ?[31m"),
    ],
)
def test_by_rule(changes: list[Change], subject: str) -> None:
    message = by_rule(changes, ["lint", "test"])
    assert message.splitlines()[0] == subject
    assert message.endswith("Passed: lint, test.\n")
    assert problems(message) == ()


@given(st.lists(st.text(min_size=1).map(lambda text: Change(text, "modified")), min_size=1))
def test_a_message_by_rule_is_always_sound(changes: list[Change]) -> None:
    message = by_rule(changes, [])
    assert problems(message) == ()
    assert len(message.splitlines()[0]) <= SUBJECT


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("fix: it", None),
        ("feat(api)!: drop it\n\nBREAKING CHANGE: gone\n", None),
        ("Fix: it", None),
        ("fix it", "type(scope): text"),
        ("fix:it", "type(scope): text"),
        ("fix : it", "type(scope): text"),
        ("", "type(scope): text"),
        ("wip: it", "is not one of"),
        (f"fix: {'x' * 68}", "more than 72"),
        ("fix: it.", "full stop"),
        ("fix: it\nmore", "not blank"),
        ("fix: \x1b[31mit", "control"),
    ],
)
def test_problems(message: str, words: str | None) -> None:
    found = problems(message)
    assert (found == ()) if words is None else any(words in line for line in found)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("fix: it", "fix: it\n\nRunner-Run: 1\n"),
        ("fix: it\n\nBody.\n\n", "fix: it\n\nBody.\n\nRunner-Run: 1\n"),
        ("fix: it\n\nRefs: #1\n", "fix: it\n\nRefs: #1\nRunner-Run: 1\n"),
        ("fix: it\n\nBody: and\nmore text\n", "fix: it\n\nBody: and\nmore text\n\nRunner-Run: 1\n"),
    ],
)
def test_trailers(message: str, expected: str) -> None:
    assert with_trailers(message, {"Runner-Run": "1"}) == expected


@pytest.mark.parametrize("trailers", [{"Bad Name": "1"}, {"Name": "a\nb"}, {"": "x"}])
def test_trailers_that_would_forge_others_are_refused(trailers: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="trailer"):
        with_trailers("fix: it", trailers)
