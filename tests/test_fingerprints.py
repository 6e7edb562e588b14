# ruff: noqa: E501  one row of a table, one line
from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.fingerprints import PARTIAL, progress, read
from runner.outcome import CommandResult, Failure, Fingerprint, Phase

OUTPUTS = Path(__file__).parent / "outputs"
NAMES = sorted(path.stem for path in OUTPUTS.glob("*.txt"))
FILES = frozenset(
    ["src/calc.py", "tests/test_calc.py", "tests/test_c.py", "tests/test_imp.py", "tests/test_syn.py", "conftest.py", "ut/test_u.py", "ut2/test_i.py", "lint/a.py", "lint/b.py", "lint/syn.py", "ty/m.py", "ty/n.py", "src/a.ts", "src/b.ts", "src/c.ts", "es/a.js", "es/b.js", "es/syn.js", "a.js", "b.js", "b.ts", "syn.js", "sum.test.js", "two.test.js", "imp.test.js", "syn.test.js", "calc/calc.go", "calc/calc_test.go", "broken/b.go", "src/lib.rs", "tests/it.rs", "Cargo.toml"]
)  # fmt: skip


def output(name: str) -> str:
    return (OUTPUTS / f"{name}.txt").read_text()


def fail(
    text: str, command: str = "make check", *, code: int | None = 1, timed_out: bool = False
) -> Failure:
    size = len(text.encode())
    result = CommandResult(code, timed_out, 1.0, text, "", size, None)
    return read(command, result, FILES.__contains__)


def cut(text: str, head: int, tail: int, command: str = "make check") -> Failure:
    """Read an output of which only so many characters at its ends were kept."""
    if head + tail >= len(text):
        return fail(text, command)
    ends = text[:head], text[len(text) - tail :]
    result = CommandResult(1, False, 1.0, *ends, len(text.encode()), None)
    return read(command, result, FILES.__contains__)


def later(text: str) -> str:
    """Return the output as another run of the same failure would print it."""
    text = re.sub(r"\b\d+\.\d+ ?(?=m?s\b)", "7.31", text)
    text = re.sub(r"\b\d+(?=µs\b|ms\b| ms\b)", "93", text)
    text = re.sub(r"pytest-of-dev/pytest-\d+", "pytest-of-dev/pytest-77", text)
    text = re.sub(r"0x[0-9a-f]+", "0x7fffdeadbeef", text)
    text = re.sub(r"(?<=\.(?:py|ts|js|go|rs)):(\d+)(?!\d|:\d)", r":9\1", text)
    text = re.sub(r"(?<=\.(?:py|ts|js|go|rs)):(\d+):(\d+)", r":9\1:3", text)
    text = re.sub(r"\.ts\(\d+,\d+\)", ".ts(77,7)", text)
    text = re.sub(r"(?m)^(\s+)\d+:\d+(\s+(?:error|warning)\b)", r"\g<1>912:7\2", text)
    text = re.sub(r"\bline \d+", "line 83", text)
    return re.sub(r"(?<=' )\(\d+\)(?= panicked)", "(4242)", text)


def ids(*names: str) -> frozenset[str]:
    return frozenset(names)


# what each tool says


CALC = "tests/test_calc.py::"
SIX = ids(
    *(CALC + name for name in ("test_add", "test_param[x y-z]", "test_div", "TestMoney::test_eq")),
    *(CALC + name for name in ("TestMoney::test_slow", "test_uses: error")),
)
GO_FOUR = ids(
    *(f"example.com/gop/calc: {name}" for name in ("TestAdd", "TestTable")),
    *(f"example.com/gop/calc: TestTable/{name}" for name in ("one", "two_words")),
)
UNITTEST = ids(
    "test_add (test_u.T.test_add)",
    "test_err (test_u.T.test_err): error",
    "test_sub (test_u.T.test_sub) (i=0)",
    "test_sub (test_u.T.test_sub) (i=2)",
)


@pytest.mark.parametrize(
    ("name", "tool", "phase", "failures"),
    [
        ("pytest-failures", "pytest", Phase.RUN, SIX),
        ("pytest-quiet", "pytest", Phase.RUN, SIX),
        ("pytest-very-quiet", "pytest", Phase.RUN, SIX),
        ("pytest-xdist", "pytest", Phase.RUN, SIX),
        ("pytest-first-only", "pytest", Phase.RUN, ids(CALC + "test_add")),
        ("pytest-xdist-died", "pytest", Phase.RUN, ids("tests/test_c.py::test_c")),
        (
            "pytest-dashes",
            "pytest",
            Phase.RUN,
            ids(
                *(
                    f"tests/test_c.py::{n}"
                    for n in ("test_c[a]", "test_c[b - c]", "test_c[d::e]", "test_long")
                )
            ),
        ),
        (
            "pytest-subtests",
            "pytest",
            Phase.RUN,
            ids(
                *(
                    f"tests/test_c.py::test_s{n}"
                    for n in ("", " SUBFAILED[num] (i=0)", " SUBFAILED[num] (i=2)")
                )
            ),
        ),
        (
            "pytest-collect",
            "pytest",
            Phase.COLLECT,
            ids(
                "tests/test_imp.py: error: ModuleNotFoundError: No module named 'nosuch'",
                "tests/test_syn.py: error: SyntaxError: invalid syntax",
            ),
        ),
        (
            "pytest-conftest",
            "pytest",
            Phase.COLLECT,
            ids("conftest.py: ModuleNotFoundError: No module named 'nosuch'"),
        ),
        (
            "pytest-usage",
            "pytest",
            Phase.COLLECT,
            ids("no tests ran: ERROR: file or directory not found: nothere.py"),
        ),
        ("pytest-none", "pytest", Phase.COLLECT, ids("no tests ran")),
        ("pytest-badini", "pytest", Phase.PARSE, None),
        ("pytest-died", "general", Phase.RUN, None),
        ("pytest-no-summary", "general", Phase.RUN, None),
        ("unittest-failures", "unittest", Phase.RUN, UNITTEST),
        ("unittest-verbose", "unittest", Phase.RUN, UNITTEST),
        ("unittest-import", "unittest", Phase.COLLECT, None),
        ("unittest-not-loaded", "unittest", Phase.COLLECT, None),
        (
            "ruff-full",
            "ruff",
            Phase.RUN,
            ids(
                "lint/a.py:F401: `os` imported but unused",
                "lint/a.py:F401: `sys` imported but unused",
                "lint/a.py:F401: `typing.List` imported but unused",
                "lint/a.py:F821: Undefined name `undefined_name`",
                "lint/a.py:F841: Local variable `y` is assigned to but never used",
                "lint/a.py:UP035: `typing.List` is deprecated, use `list` instead",
            ),
        ),
        ("ruff-concise", "ruff", Phase.PARSE, None),
        ("ruff-usage", "general", Phase.RUN, None),
        ("ruff-format-check", "ruff-format", Phase.PARSE, None),
        (
            "ruff-format-check2",
            "ruff-format",
            Phase.RUN,
            ids("lint/a.py: unformatted", "lint/b.py: unformatted"),
        ),
        (
            "mypy-errors",
            "mypy",
            Phase.RUN,
            ids(
                'ty/m.py:return-value: Incompatible return value type (got "int", expected "str")',
                'ty/m.py:arg-type: Argument 1 to "f" has incompatible type "str"; expected "int"',
                'ty/m.py:arg-type: Argument 1 to "f" has incompatible type "str"; expected "int" #2',
                'ty/m.py:name-defined: Name "nothere" is not defined',
                'ty/n.py:assignment: Incompatible types in assignment (expression has type "str", variable has type "int")',
            ),
        ),
        ("mypy-syntax", "mypy", Phase.PARSE, None),
        ("mypy-usage", "mypy", Phase.COLLECT, None),
        ("pyright-errors", "pyright", Phase.RUN, None),
        ("pyright-syntax", "pyright", Phase.PARSE, None),
        (
            "tsc-errors",
            "tsc",
            Phase.RUN,
            ids(
                "src/a.ts:TS2322: Type 'string' is not assignable to type 'number'.",
                "src/a.ts:TS2322: Type 'string' is not assignable to type 'number'. #2",
                "src/a.ts:TS2304: Cannot find name 'nothere'.",
                "src/b.ts:TS2322: Type 'number' is not assignable to type 'string'.",
            ),
        ),
        ("tsc-syntax", "tsc", Phase.PARSE, ids("src/c.ts:TS1109: Expression expected.")),
        ("tsc-usage", "tsc", Phase.PARSE, None),
        ("eslint-stylish", "eslint", Phase.PARSE, None),
        ("eslint-warnings", "eslint", Phase.RUN, None),
        ("eslint-usage", "general", Phase.RUN, None),
        ("biome-check", "biome", Phase.PARSE, None),
        (
            "biome-lint",
            "biome",
            Phase.RUN,
            ids(
                "b.js:lint/suspicious/noDuplicateObjectKeys:"
                " This property is later overwritten by an object member with the same name."
            ),
        ),
        ("biome-format", "biome", Phase.RUN, None),
        (
            "jest-failures",
            "jest",
            Phase.COLLECT,
            ids(
                "sum.test.js: sum › adds",  # noqa: RUF001  as jest prints it
                "sum.test.js: sum › nested › odd › throws",  # noqa: RUF001  as jest prints it
                "two.test.js: adds",
                "two.test.js: t",
                "imp.test.js: Test suite failed to run: Cannot find module './nothere' from 'imp.test.js'",
                "syn.test.js: Test suite failed to run: SyntaxError: syn.test.js: Unexpected token",
            ),
        ),
        ("jest-verbose", "jest", Phase.RUN, None),
        ("jest-none", "jest", Phase.COLLECT, ids("no tests ran")),
        ("vitest-failures", "vitest", Phase.COLLECT, None),
        (
            "vitest-verbose",
            "vitest",
            Phase.RUN,
            ids(
                "sum.test.js > sum > adds",
                "sum.test.js > sum > nested › odd > throws",  # noqa: RUF001  as vitest prints it
                "two.test.js > adds",
                "two.test.js > t",
            ),
        ),
        ("vitest-none", "vitest", Phase.COLLECT, ids("no tests ran")),
        ("go-test", "go", Phase.RUN, GO_FOUR),
        ("go-test-verbose", "go", Phase.RUN, GO_FOUR),
        (
            "go-test-panic",
            "go",
            Phase.RUN,
            ids(
                "example.com/gop/panics: TestP",
                "example.com/gop/panics: panic: assignment to entry in nil map",
            ),
        ),
        ("go-test-build", "go", Phase.COLLECT, None),
        ("go-setup", "go", Phase.COLLECT, None),
        ("go-build", "go", Phase.COLLECT, None),
        ("go-syntax", "go", Phase.PARSE, None),
        ("go-vet-broken", "go-vet", Phase.COLLECT, None),
        (
            "cargo-test-all",
            "cargo",
            Phase.RUN,
            ids(
                "src/lib.rs: tests::adds",
                "src/lib.rs: tests::panics",
                "tests/it.rs: outer",
                "doc calc: src/lib.rs - add",
            ),
        ),
        ("cargo-build", "cargo", Phase.COLLECT, None),
        ("cargo-test-compile", "cargo", Phase.COLLECT, None),
        ("cargo-syntax", "cargo", Phase.PARSE, None),
        ("cargo-manifest", "cargo", Phase.PARSE, None),
        ("cargo-clippy", "clippy", Phase.RUN, None),
        ("cargo-clippy-compile", "cargo", Phase.COLLECT, None),
        (
            "cargo-fmt",
            "rustfmt",
            Phase.RUN,
            ids("src/lib.rs: unformatted", "tests/it.rs: unformatted"),
        ),
        ("pre-commit-failures", "pre-commit", Phase.PARSE, None),
        ("pre-commit-config", "pre-commit", Phase.PARSE, None),
    ],
)
def test_real_outputs(name: str, tool: str, phase: Phase, failures: frozenset[str] | None) -> None:
    found = fail(output(name)).fingerprint
    assert (found.tool, found.phase) == (tool, phase)
    assert not any(one.startswith(PARTIAL) for one in found.failures)
    if failures is not None:
        assert found.failures == failures


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ruff-concise", "ruff-grouped"),
        ("ruff-concise", "ruff-syntax"),
        ("ruff-concise", "ruff-github"),
        ("mypy-errors", "mypy-pretty"),
        ("tsc-errors", "tsc-pretty"),
        ("go-test", "go-test-verbose"),
        ("cargo-build", "cargo-test-compile"),
        ("pre-commit-failures", "pre-commit-verbose"),
    ],
)
def test_one_failure_in_two_formats(one: str, other: str) -> None:
    assert fail(output(one)).fingerprint == fail(output(other)).fingerprint


@pytest.mark.parametrize(
    ("command", "name", "tool"),
    [
        ("go vet ./...", "go-vet", "go-vet"),
        ("ruff format --diff .", "ruff-format-diff", "ruff-format"),
        ("cargo test", "cargo-test-compile", "cargo"),
    ],
)
def test_the_command_is_a_hint(command: str, name: str, tool: str) -> None:
    assert fail(output(name), command).fingerprint.tool == tool


def test_hooks_are_read_by_their_own_tools() -> None:
    failures = fail(output("pre-commit-failures")).fingerprint.failures
    assert "ruff: lint/a.py:F401: `os` imported but unused" in failures
    assert 'mypy: ty/m.py:name-defined: Name "nothere" is not defined' in failures
    assert "ruff-format: modified files" in failures
    assert [one for one in failures if one.startswith("own: exit 3: ")]
    assert not [one for one in failures if one.startswith(("ok", "no:"))]


# the same failure looks the same, different ones do not


@pytest.mark.parametrize("name", NAMES)
def test_the_same_failure_of_another_run_looks_the_same(name: str) -> None:
    text = output(name)
    again = later(text)
    before, after = fail(text).fingerprint, fail(again).fingerprint
    assert before == after
    assert progress(before, after) == "same"


@pytest.mark.parametrize(
    "name",
    [
        "pyright-errors",
        "eslint-stylish",
        "ruff-github",
        "cargo-fmt",
        "vitest-suites",
        "jest-suites",
        "pytest-conftest",
    ],
)
def test_the_same_failure_in_another_checkout_looks_the_same(name: str) -> None:
    moved = output(name).replace("/home/dev/project", "/tmp/zz91/checkout")
    assert fail(output(name)).fingerprint == fail(moved).fingerprint


def test_different_failures_look_different() -> None:
    seen: dict[Fingerprint, set[str]] = {}
    for name in NAMES:
        seen.setdefault(fail(output(name)).fingerprint, set()).add(name.partition("-")[0])
    assert [tools for tools in seen.values() if len(tools) > 1] == []
    general = [one for one in seen if one.tool == "general"]
    assert len(general) == len([n for n in NAMES if fail(output(n)).fingerprint.tool == "general"])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("error: status 200", "error: status 404"),
        ("expected a:1", "expected a:2"),
        ("cannot open /tmp/a1/x.txt", "cannot open /tmp/a1/y.txt"),
        ("assert (1, 2) == (1, 3)", "assert (1, 2) == (1, 4)"),
        ("coverage 50%", "coverage 60%"),
        ("module foo missing", "module bar missing"),
    ],
)
def test_general_failures_differ_by_what_they_say(one: str, other: str) -> None:
    before, after = fail(one).fingerprint, fail(other).fingerprint
    assert before.tool == "general"
    assert progress(before, after) == "changed"


def test_general_failures_are_equal_whatever_the_run() -> None:
    text = "at /tmp/ab12/x.c:{}:3 in {}ms, pid {}: 0x{}ff 2026-01-0{}T10:00:00Z\n"
    assert (
        fail(text.format(1, 2, 3, 4, 5)).fingerprint == fail(text.format(6, 7, 8, 9, 1)).fingerprint
    )


def test_less_general_output_is_no_progress() -> None:
    before = fail("error: one\nerror: two\n").fingerprint
    assert progress(before, fail("error: one\n").fingerprint) == "changed"
    assert progress(before, fail("").fingerprint) == "changed"
    assert progress(before, fail("error: one\nerror: two\n", code=2).fingerprint) == "changed"


def test_a_timeout_is_no_list_of_failures() -> None:
    found = fail(output("pytest-failures"), timed_out=True, code=None)
    assert found.fingerprint == Fingerprint("general", Phase.RUN, frozenset({"timed out"}))
    assert found.timed_out


# progress


def prints(*failures: str, tool: str = "pytest", phase: Phase = Phase.RUN) -> Fingerprint:
    return Fingerprint(tool, phase, frozenset(failures))


ALL_5 = f"{PARTIAL}: 5 in all)"
ALL_4 = f"{PARTIAL}: 4 in all)"
SOME = f"{PARTIAL})"


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (prints("a", "b"), prints("a"), "progress"),
        (prints("a"), prints("a"), "same"),
        (prints("a"), prints("a", "b"), "worse"),
        (prints("a"), prints("b"), "changed"),
        (prints("a", "b"), prints("b", "c"), "changed"),
        (prints("a", phase=Phase.COLLECT), prints("b", "c", "d"), "progress"),
        (prints("a"), prints("a", phase=Phase.PARSE), "worse"),
        (prints("a"), prints("a", tool="jest"), "changed"),
        (prints("a", "b", "c"), prints("a", SOME), "changed"),
        (prints("a", "b", "c"), prints("a", ALL_4), "worse"),
        (prints("a", "b"), prints("a", "b", ALL_5), "worse"),
        (prints("a", "b"), prints("a", "b", SOME), "changed"),
        (prints("a", ALL_5), prints("a"), "progress"),
        (prints("a", "b", SOME), prints("a"), "progress"),
        (prints("a", SOME), prints("a"), "changed"),
        (prints("a", SOME), prints("b"), "changed"),
        (prints("a", ALL_5), prints("a", ALL_5), "same"),
        (prints("a", ALL_5), prints("a", ALL_4), "changed"),
        (prints("a", "b", ALL_5), prints("a", ALL_4), "changed"),
        (prints("a", SOME), prints("a", SOME), "changed"),
    ],
)
def test_progress(before: Fingerprint, after: Fingerprint, expected: str) -> None:
    if expected == "worse" and "a" in before.failures and ALL_4 in after.failures:
        expected = "changed"  # `b` and `c` may be gone: only a superset is worse
    assert progress(before, after) == expected


_sets = st.frozensets(st.sampled_from("abcde"))


@given(_sets, _sets, _sets, st.booleans(), st.booleans())
def test_partial_lists_never_claim_what_the_whole_ones_would_not(
    was: frozenset[str], now: frozenset[str], hidden: frozenset[str], counted: bool, after: bool
) -> None:
    """Hide some of a list: what is still claimed as progress or worse must be so in truth."""
    whole = now if after else was
    mark = f"{PARTIAL}: {len(whole)} in all)" if counted else SOME
    part = prints(*(whole - hidden), *([mark] if whole & hidden else []))
    truth = progress(prints(*was), prints(*now))
    claimed = progress(prints(*was), part) if after else progress(part, prints(*now))
    assert claimed in (truth, "changed")


# output that was cut


@given(st.sampled_from(NAMES), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_cut_output_is_never_progress(name: str, head: float, tail: float) -> None:
    text = output(name)
    whole = fail(text).fingerprint
    part = cut(text, int(len(text) * head), int(len(text) * tail)).fingerprint
    if part.tool == whole.tool:
        assert progress(whole, part) != "progress" or part.phase > whole.phase
        assert progress(part, whole) != "progress" or whole.phase > part.phase


@pytest.mark.parametrize(
    ("name", "head", "tail"),
    [
        ("jest-verbose", 31, 0),
        ("jest-failures", 12.5, 2),
        ("cargo-test-all", 16, 9),
        ("biome-lint", 13, 10),
        ("pytest-badini", 20, 0),
    ],
)
def test_these_cuts_once_looked_like_progress(name: str, head: float, tail: int) -> None:
    text = output(name)
    whole = fail(text).fingerprint
    part = cut(text, int(len(text) * head / 32), len(text) * tail // 32).fingerprint
    assert progress(whole, part) != "progress"
    assert progress(part, whole) != "progress"


@given(st.sampled_from(["ruff-concise", "tsc-errors", "mypy-errors", "eslint-warnings"]), st.data())
@settings(max_examples=200, deadline=None)
def test_half_a_line_at_the_cut_is_no_failure(name: str, data: st.DataObject) -> None:
    text = output(name)
    head = data.draw(st.integers(0, len(text)))
    tail = data.draw(st.integers(1, len(text)))
    whole, part = fail(text).fingerprint, cut(text, head, tail).fingerprint
    if part.tool == whole.tool:
        assert {one for one in part.failures if not one.startswith(PARTIAL)} <= whole.failures


def test_bad_bytes_do_not_hide_that_the_output_was_cut() -> None:
    head = "\ufffd" * 300 + "\n" + output("mypy-errors").partition("ty/n.py")[0]
    tail = output("ruff-full")
    read_bytes = len((head + tail).encode()) - 600  # each bad byte is three in what was decoded
    found = read(
        "make", CommandResult(1, False, 1.0, head, tail, read_bytes + 500, None), FILES.__contains__
    )
    assert [one for one in found.fingerprint.failures if one.startswith(PARTIAL)]


def long_pytest(failing: int) -> str:
    names = [f"tests/test_big.py::test_{n:05}" for n in range(failing)]
    sections = "".join(
        f"{'_' * 30} {name[18:]} {'_' * 30}\n\n>   assert 1 == 2\nE   assert 1 == 2\n\n{name[:17]}:3: AssertionError\n"
        for name in names
    )
    summary = "".join(f"FAILED {name} - assert 1 == 2\n" for name in names)
    bar = "=" * 30
    return (
        f"{bar} test session starts {bar}\ncollected {failing} items\n\ntests/test_big.py FFF\n\n{bar} FAILURES {bar}\n"
        f"{sections}{bar} short test summary info {bar}\n{summary}{bar} {failing} failed in 1.23s {bar}\n"
    )


def test_a_cut_before_the_list_of_failures_loses_nothing() -> None:
    before = cut(long_pytest(500), 10_000, 40_000).fingerprint
    after = cut(long_pytest(499), 10_000, 40_000).fingerprint
    assert not [one for one in before.failures if one.startswith(PARTIAL)]
    assert progress(before, after) == "progress"


def test_a_cut_list_of_failures_is_marked() -> None:
    whole = fail(long_pytest(500)).fingerprint
    part = cut(long_pytest(500), 10_000, 5_000).fingerprint
    assert f"{PARTIAL}: 500 in all)" in part.failures
    assert part.failures - {f"{PARTIAL}: 500 in all)"} < whole.failures
    assert progress(whole, part) == "changed"
    assert progress(part, part) == "same"
    assert progress(part, cut(long_pytest(499), 10_000, 5_000).fingerprint) == "changed"


def test_another_tool_may_be_missing_where_the_output_was_cut() -> None:
    text = output("mypy-errors") + "noise\n" * 2000 + long_pytest(3)
    part = cut(text, 100, len(long_pytest(3)) + 50).fingerprint
    assert [one for one in part.failures if one.startswith(PARTIAL)]


def test_output_of_a_killed_command_is_marked() -> None:
    found = fail(output("ruff-concise"), code=137).fingerprint
    assert [one for one in found.failures if one.startswith(PARTIAL)]


# several tools, tools inside tools


def test_several_tools_are_told_apart() -> None:
    both = fail(output("ruff-full") + output("pytest-failures")).fingerprint
    assert both.tool == "pytest+ruff"
    assert "pytest: tests/test_calc.py::test_add" in both.failures
    less = output("ruff-full") + output("pytest-first-only")
    assert progress(both, fail(less).fingerprint) == "progress"
    assert progress(both, fail(output("ruff-full")).fingerprint) == "changed"


def test_what_a_test_prints_is_not_read_as_another_tools_words() -> None:
    inner = output("ruff-concise") + output("mypy-errors") + output("pytest-collect")
    text = output("pytest-failures").replace("some output\n", inner)
    assert inner in text
    assert fail(text).fingerprint.failures == SIX


def test_two_sessions_count_both() -> None:
    twice = fail(output("pytest-first-only") * 2).fingerprint
    assert twice.failures == ids(CALC + "test_add", CALC + "test_add #2")
    assert progress(twice, fail(output("pytest-first-only")).fingerprint) == "progress"


def test_coverage_below_its_threshold_is_a_failure() -> None:
    text = (
        "============ test session starts ============\ncollected 1 item\n\ntests/test_a.py .   [100%]\n"
        "FAIL Required test coverage of 80% not reached. Total coverage: 50.00%\n"
        "============ 1 passed in 0.02s ============\n"
    )
    assert fail(text).fingerprint == prints("coverage below its threshold")


# what is shown


def test_files_are_named_in_order_and_by_the_tree() -> None:
    assert fail(output("pytest-failures")).files == ("tests/test_calc.py", "src/calc.py")
    assert fail(output("pyright-errors")).files == ("ty/m.py", "ty/n.py")
    assert fail(output("tsc-errors")).files == ("src/a.ts", "src/b.ts")
    assert fail(output("ruff-github")).files == ("lint/a.py", "lint/syn.py")


def test_files_outside_of_the_tree_are_not_named() -> None:
    text = "error in ../a.py, src/../../a.py, /etc/passwd and ./a.py\n"
    result = CommandResult(1, False, 1.0, text, "", len(text), None)
    assert read("x", result, lambda path: path.endswith("a.py")).files == ("a.py",)


def test_files_seen_from_the_steps_directory() -> None:
    text = "error in a.py:3\n"
    result = CommandResult(1, False, 1.0, text, "", len(text), None)
    assert read("x", result, {"web/a.py"}.__contains__, "web").files == ("web/a.py",)


@pytest.mark.parametrize("name", NAMES)
def test_the_tail_is_clean_and_short(name: str) -> None:
    tail = fail(output(name)).tail
    assert 0 < len(tail.encode()) <= 6000
    assert "\x1b" not in tail


def test_the_tail_shows_the_failures_not_the_noise() -> None:
    text = "installing things\n" * 2000 + output("pytest-failures")
    tail = fail(text).tail
    assert "installing" not in tail
    assert "FAILED tests/test_calc.py::test_add" in tail
    assert "division by zero" in tail


@given(st.text(max_size=400), st.text(max_size=400), st.integers(0, 2000))
def test_any_output_is_read(head: str, tail: str, size: int) -> None:
    found = read("make", CommandResult(1, False, 1.0, head, tail, size, None), lambda _: True)
    assert found.fingerprint.failures


@pytest.mark.parametrize(
    "hostile",
    [
        "." * 120_000,
        "=" * 120_000,
        "_" * 120_000,
        "a/" * 60_000,
        "/a" * 60_000,
        "SUBFAILED" + "(a)" * 40_000,
        "FAILED a::b" + "[" * 100_000,
        ("x" + "." * 1900 + "Failed\n") * 60,
        ("FAIL " + "[x] " * 400 + "\n") * 70,
        (" 1:1 error x" + " " * 1900 + "!\n") * 60,
        "a.py:1:1: " * 12_000,
        "====== test session starts ======\n" * 3000,
        "1 failed in 1s\n" * 8000,
        "Test Suites: 1 failed\n" * 5000,
    ],
)
def test_hostile_output_is_read_in_time(hostile: str) -> None:
    start = time.perf_counter()
    fail(hostile, "pytest mypy ruff cargo go test")
    assert time.perf_counter() - start < 4
