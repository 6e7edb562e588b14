"""Finds tests and assertions that a mend deleted or weakened.

Python is read by its syntax tree, everything else by patterns over the text without comments. What
is gone from one file but stands in another was moved.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.tamper.nouns import (
    EMPTY,
    HELPERS,
    PYTHON,
    SCRIPT,
    STRONG,
    Checked,
    Finding,
    suffix,
)
from runner.tamper.pythontests import python_tests
from runner.tamper.texttests import GO_TEXT, PYTHON_TEXT, RUST_TEXT, SCRIPT_TEXT, text_tests

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.tamper.nouns import FileDiff

_ByName = dict[str, Checked]

_COLLECTED = re.compile(r"(?:^|/)(?:test_[^/]*|[^/]*_test|tests)\.py$")
_PLATFORM = re.compile(
    r"_(?:windows|darwin|plan9|js|wasm|freebsd|netbsd|openbsd|solaris|aix|android|ios)"
    r"(?:_\w+)?_test\.go$"
)
"""A Go test that is built on another system only."""


def changed(files: Sequence[FileDiff], tests: frozenset[str]) -> Iterator[Finding]:
    """Yield the tests that are gone and those that assert less than before."""
    before = {file.path: _tests(file.old_path, file.before, tests) for file in files}
    after = {file.path: _tests(file.path, file.after, tests) for file in files}
    for file in files:
        was, now = before[file.path], after[file.path]
        if file.was and was and _lost_to_its_name(file):
            yield Finding(file.path, 1, f"tests not collected: renamed from {file.was}")
            continue
        gone = [
            name
            for name in was
            if name not in now and not _elsewhere(name, file.path, after, before)
        ]
        if HELPERS in gone:
            gone.remove(HELPERS)
            if file.after is not None and not _asserts_as_much(was, now):
                yield from _compare(file.path, was[HELPERS], Checked(HELPERS, 1))
        new = [
            name
            for name in now
            if name not in was and name and (now[name].collected or not _collected(was, gone))
        ]
        # As many new names as old ones gone: renamed. What they assert is compared in sum.
        for name in gone[len(new) :]:
            yield Finding(file.path, was[name].line, f"test deleted: {name}")
        if gone and new:
            yield from _compare_sums(file.path, was, now, gone, new)
        for name in was:
            # What a helper asserted may stand in the tests now.
            if name in now and not (name == HELPERS and _asserts_as_much(was, now)):
                yield from _compare(file.path, was[name], now[name])
    yield from _moved(files, before, after)


def _asserts_as_much(was: _ByName, now: _ByName) -> bool:
    """Return whether a file asserts in sum what it did."""
    before = [strength for checked in was.values() for strength in checked.strengths]
    after = [strength for checked in now.values() for strength in checked.strengths]
    swallowed = sum(one.swallowed for one in now.values()) > sum(o.swallowed for o in was.values())
    cases = now.get(HELPERS, Checked(HELPERS, 1)).cases < was[HELPERS].cases
    enough = len(after) >= len(before) and after.count(STRONG) >= before.count(STRONG)
    return enough and not swallowed and not cases


def _collected(was: _ByName, gone: Sequence[str]) -> bool:
    return any(was[name].collected for name in gone)


def _lost_to_its_name(file: FileDiff) -> bool:
    """Return whether a renamed test file is no longer found by those who look for tests."""
    if _COLLECTED.search(file.was) and not _COLLECTED.search(file.path):
        return True
    return bool(_PLATFORM.search(file.path)) and not _PLATFORM.search(file.was)


def _elsewhere(name: str, path: str, after: dict[str, _ByName], before: dict[str, _ByName]) -> bool:
    """Return whether a test that is gone from `path` turned up in another file."""
    return any(
        name in found and name not in before[other]
        for other, found in after.items()
        if other != path
    )


def _moved(
    files: Sequence[FileDiff],
    before: dict[str, _ByName],
    after: dict[str, _ByName],
) -> Iterator[Finding]:
    """Compare tests that went from one file to another."""
    for file in files:
        for name, was in before[file.path].items():
            if name in after[file.path]:
                continue
            for other, found in after.items():
                if other != file.path and name in found and name not in before[other]:
                    yield from _compare(other, was, found[name])
                    break


def _compare_sums(
    path: str,
    was: dict[str, Checked],
    now: dict[str, Checked],
    gone: Sequence[str],
    new: Sequence[str],
) -> Iterator[Finding]:
    """Compare renamed tests, which cannot be told apart, by all that they assert together."""
    lost = sum(len(was[name].strengths) for name in gone[: len(new)])
    kept = sum(len(now[name].strengths) for name in new)
    strong_lost = sum(was[name].strengths.count(STRONG) for name in gone[: len(new)])
    strong_kept = sum(now[name].strengths.count(STRONG) for name in new)
    if kept < lost or strong_kept < strong_lost:
        yield Finding(
            path, now[new[0]].line, f"a test replaced by one that asserts less: {gone[0]}"
        )


def _compare(path: str, was: Checked, now: Checked) -> Iterator[Finding]:
    """Compare one test with what it was."""
    where = f"in {now.name}" if now.name else "in this file"
    fewer = len(was.strengths) - len(now.strengths)
    strong = was.strengths.count(STRONG) - now.strengths.count(STRONG)
    # One after the other turned into a table: each row is asserted by what is left.
    rows = now.rows - was.rows
    tabled = bool(now.strengths) and 0 < max(fewer, strong) < rows
    if fewer > 0 and not tabled:
        yield Finding(path, now.line, f"{fewer} assertion{'s'[: fewer > 1]} deleted {where}")
    elif now.strengths.count(EMPTY) > was.strengths.count(EMPTY):
        yield Finding(path, now.line, f"an assertion that cannot fail {where}")
    elif strong > 0 and not tabled:
        yield Finding(path, now.line, f"an assertion weakened {where}")
    elif was.constants - now.constants and now.constants - was.constants:
        yield Finding(path, now.line, f"an expected value changed {where}")
    elif was.does and not now.does:
        yield Finding(path, now.line, f"a test emptied {where}")
    if now.swallowed > was.swallowed:
        yield Finding(path, now.line, f"an assertion whose failure is caught or skipped {where}")
    if now.cases < was.cases and now.counted:
        yield Finding(path, now.line, f"{was.cases - now.cases} cases deleted {where}")


def _tests(path: str, text: str | None, tests: frozenset[str]) -> dict[str, Checked]:
    """Return the tests of a file by name; a file without tests of its own asserts as a whole."""
    kind = suffix(path)
    is_test = path in tests
    if text is None or (not is_test and kind != "rs"):
        return {}
    if kind in PYTHON:
        found = python_tests(text)
        return found if found is not None else text_tests(text, PYTHON_TEXT, helpers=False)
    if kind in SCRIPT:
        return text_tests(text, SCRIPT_TEXT, helpers=is_test)
    if kind == "go":
        return text_tests(text, GO_TEXT, helpers=is_test)
    if kind == "rs":
        return text_tests(text, RUST_TEXT, helpers=is_test)
    return {}
