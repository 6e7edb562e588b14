"""Finds tests and assertions that a mend deleted or weakened.

Python is read by its syntax tree, everything else by patterns over the text without comments. What
is gone from one file but stands in another was moved.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.tamper.nouns import PYTHON, SCRIPT, Finding, suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.tamper.nouns import FileDiff

STRONG, WEAK, EMPTY = 2, 1, 0
"""An assertion that compares with something; one about truth or presence; one that cannot fail."""


@dataclass(slots=True)
class Checked:
    """What one test asserts."""

    name: str
    line: int
    strengths: list[int] = field(default_factory=list[int])
    constants: Counter[str] = field(default_factory=Counter[str])
    """Numbers and texts that its assertions compare with."""
    swallowed: int = 0
    """Assertions whose failure is caught."""
    cases: int = 0
    """Rows of its parameters, where they are written out."""


_ByName = dict[str, Checked]
_HELPERS = ""
"""The name under which the assertions of a test file outside of its tests are counted."""


def changed(files: Sequence[FileDiff], tests: frozenset[str]) -> Iterator[Finding]:
    """Yield the tests that are gone and those that assert less than before."""
    before = {file.path: _tests(file.path, file.before, tests) for file in files}
    after = {file.path: _tests(file.path, file.after, tests) for file in files}
    for file in files:
        was, now = before[file.path], after[file.path]
        gone = [
            name
            for name in was
            if name not in now and not _elsewhere(name, file.path, after, before)
        ]
        if _HELPERS in gone:
            gone.remove(_HELPERS)
            if file.after is not None:
                yield from _compare(file.path, was[_HELPERS], Checked(_HELPERS, 1))
        new = [name for name in now if name not in was and name]
        # As many new names as old ones gone: renamed. What they assert is compared in sum.
        for name in gone[len(new) :]:
            yield Finding(file.path, was[name].line, f"test deleted: {name}")
        if gone and new:
            yield from _compare_sums(file.path, was, now, gone, new)
        for name in was:
            if name in now:
                yield from _compare(file.path, was[name], now[name])
    yield from _moved(files, before, after)


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
    if fewer > 0:
        yield Finding(path, now.line, f"{fewer} assertion{'s'[: fewer > 1]} deleted {where}")
    elif now.strengths.count(EMPTY) > was.strengths.count(EMPTY):
        yield Finding(path, now.line, f"an assertion that cannot fail {where}")
    elif now.strengths.count(STRONG) < was.strengths.count(STRONG):
        yield Finding(path, now.line, f"an assertion weakened {where}")
    elif was.constants - now.constants and now.constants - was.constants:
        yield Finding(path, now.line, f"an expected value changed {where}")
    if now.swallowed > was.swallowed:
        yield Finding(path, now.line, f"an assertion whose failure is caught or skipped {where}")
    if now.cases < was.cases:
        yield Finding(path, now.line, f"{was.cases - now.cases} cases deleted {where}")


def _tests(path: str, text: str | None, tests: frozenset[str]) -> dict[str, Checked]:
    """Return the tests of a file by name; a file without tests of its own asserts as a whole."""
    kind = suffix(path)
    if text is None or (path not in tests and kind != "rs"):
        return {}
    if kind in PYTHON:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SyntaxWarning)
                return _python_tests(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return _by_pattern(text, _PYTHON_TEST, _PYTHON_ASSERT, _PYTHON_WEAK, r"#.*")
    if kind in SCRIPT:
        return _by_pattern(text, _SCRIPT_TEST, _SCRIPT_ASSERT, _SCRIPT_WEAK, _C_COMMENT)
    if kind == "go":
        return _by_pattern(text, _GO_TEST, _GO_ASSERT, _GO_WEAK, _C_COMMENT)
    if kind == "rs":
        return _by_pattern(text, _RUST_TEST, _RUST_ASSERT, _RUST_WEAK, _C_COMMENT)
    return {}


# Python


def _python_tests(tree: ast.Module) -> dict[str, Checked]:
    found: dict[str, Checked] = {}
    helpers = Checked(_HELPERS, 1)
    _walk(tree.body, "", found, helpers)
    if helpers.strengths:
        found[_HELPERS] = helpers
    return found


def _walk(
    body: Sequence[ast.stmt], prefix: str, found: dict[str, Checked], helpers: Checked
) -> None:
    for node in body:
        if isinstance(node, ast.ClassDef):
            _walk(node.body, f"{prefix}{node.name}.", found, helpers)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test"):
                name = prefix + node.name
                found[name] = _python_test(name, node)
            else:
                _collect(node.body, helpers, caught=False)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            _walk(node.body, prefix, found, helpers)


def _python_test(name: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Checked:
    checked = Checked(name, node.lineno)
    _collect(node.body, checked, caught=False)
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call) and _called(decorator.func) == "parametrize":
            rows = decorator.args[1:2]
            checked.cases += len(rows[0].elts) if rows and isinstance(rows[0], _LITERAL) else 0
    return checked


_LITERAL = (ast.List, ast.Tuple, ast.Set)


def _collect(body: Iterable[ast.stmt], checked: Checked, *, caught: bool) -> None:
    """Note the assertions of a body; `caught` where failing would have no effect."""
    for node in body:
        _note(node, checked, caught=caught)
        for inner, hidden in _bodies(node):
            _collect(inner, checked, caught=caught or hidden)
        # What comes after it never runs.
        caught = caught or isinstance(node, ast.Return)


def _bodies(node: ast.stmt) -> Iterator[tuple[Sequence[ast.stmt], bool]]:
    """Yield the bodies inside a statement, and whether a failure in them goes unnoticed."""
    if isinstance(node, ast.Try):
        yield node.body, any(_swallows(handler) for handler in node.handlers)
        for handler in node.handlers:
            yield handler.body, False
        yield node.orelse, False
        yield node.finalbody, False
    elif isinstance(node, ast.With | ast.AsyncWith):
        calls = [item.context_expr for item in node.items]
        hides = any(
            isinstance(call, ast.Call) and _called(call.func) == "suppress" for call in calls
        )
        yield node.body, hides
    elif isinstance(node, ast.If):
        never = isinstance(node.test, ast.Constant) and not node.test.value
        yield node.body, never
        yield node.orelse, False
    elif isinstance(node, ast.For | ast.AsyncFor | ast.While):
        yield node.body, False
        yield node.orelse, False
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.body, False
    elif isinstance(node, ast.Match):
        for case in node.cases:
            yield case.body, False


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Return whether a handler catches a failing assertion and says nothing."""
    kinds = "" if handler.type is None else ast.unparse(handler.type)
    broad = not kinds or re.search(r"\b(?:AssertionError|Exception|BaseException)\b", kinds)
    raises = any(isinstance(node, ast.Raise) for one in handler.body for node in ast.walk(one))
    fails = any(".fail(" in ast.unparse(one) for one in handler.body)
    return bool(broad) and not raises and not fails


def _note(node: ast.stmt, checked: Checked, *, caught: bool) -> None:
    """Note the assertion that a statement is, if it is one."""
    if isinstance(node, ast.Assert):
        _add(checked, _strength(node.test), node.test, caught=caught)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Await):
        call = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(call, ast.Call):
            _note_call(call, checked, caught=caught)
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            if isinstance(item.context_expr, ast.Call):
                _note_call(item.context_expr, checked, caught=caught)


def _called(function: ast.expr) -> str:
    """Return the last name of what is called."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _note_call(call: ast.Call, checked: Checked, *, caught: bool) -> None:
    """Note `self.assertEqual(...)`, `pytest.raises(...)`, `mock.assert_called_with(...)`."""
    name = _called(call.func)
    if name in ("raises", "assertRaises", "assertRaisesRegex", "warns", "assertWarns"):
        kind = ast.unparse(call.args[0]) if call.args else ""
        broad = kind in ("Exception", "BaseException", "")
        _add(checked, WEAK if broad else STRONG, None, caught=caught)
    elif name.startswith("assert"):
        weak = name in _WEAK_METHODS
        _add(checked, WEAK if weak else STRONG, None if weak else call, caught=caught)
    elif name == "fail":
        _add(checked, STRONG, None, caught=caught)


_WEAK_NAMES = (
    "assertTrue assertFalse assertIsNone assertIsNotNone assert_called assertIsInstance"
    " assert_called_once assert_ assert_awaited"
)
_WEAK_METHODS = frozenset(_WEAK_NAMES.split())


def _add(checked: Checked, strength: int, node: ast.expr | None, *, caught: bool) -> None:
    checked.strengths.append(strength)
    checked.swallowed += caught
    if node is not None and strength == STRONG:
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and not isinstance(inner.value, bool | None):
                checked.constants[repr(inner.value)] += 1


def _strength(test: ast.expr) -> int:
    """Say how much an expression demands."""
    if isinstance(test, ast.Constant):
        return EMPTY if test.value else STRONG
    if isinstance(test, ast.BoolOp):
        parts = [_strength(value) for value in test.values]
        if isinstance(test.op, ast.Or):
            return EMPTY if EMPTY in parts or _or_true(test) else WEAK
        return max(parts)
    if isinstance(test, ast.Compare):
        return _compare_strength(test)
    if isinstance(test, ast.Tuple):
        return EMPTY if test.elts else STRONG  # a tuple that is not empty is always true
    return WEAK


def _or_true(test: ast.BoolOp) -> bool:
    return any(isinstance(value, ast.Constant) and bool(value.value) for value in test.values)


def _compare_strength(test: ast.Compare) -> int:
    sides = [test.left, *test.comparators]
    if len({ast.dump(side) for side in sides}) == 1 and isinstance(test.ops[0], ast.Eq | ast.Is):
        return EMPTY
    # Equal to nothing, to truth or to zero is what linters turn into plain truth.
    if any(_is_plain(side) for side in sides):
        return WEAK
    return STRONG if isinstance(test.ops[0], ast.Eq | ast.In | ast.Is) else WEAK


def _is_plain(side: ast.expr) -> bool:
    if isinstance(side, ast.Constant):
        return side.value in (None, True, False, 0, "", b"")
    return isinstance(side, ast.List | ast.Tuple) and not side.elts


# Everything else

_C_COMMENT = r"/\*.*?\*/|(?<![:\"'/])//[^\n]*"

_PYTHON_TEST = re.compile(r"^\s*(?:async\s+)?def\s+(?P<name>test\w*)", re.MULTILINE)
_PYTHON_ASSERT = re.compile(r"\bassert\b|\.assert\w+\s*\(|\braises\s*\(")
_PYTHON_WEAK = re.compile(r"\bassert\s+(?:True|1)\b|\bassert(?:True|IsNotNone)\s*\(")

_SCRIPT_TEST = re.compile(
    r"\b(?:it|test)(?:\.(?!skip|todo)\w+)*\s*(?:\([^()\n]*\)\s*)?\(\s*(?P<quote>[\"'`])"
    r"(?P<name>(?:\\.|(?!(?P=quote)).)*)(?P=quote)"
)
_SCRIPT_ASSERT = re.compile(
    r"\bexpect\s*\(|\bassert(?:\.\w+)*\s*\(|\.should\b"
    # Of the `t` that ava, tap and node:test hand to a test.
    r"|\bt\.(?:assert\.)?(?:is|isNot|not|deepEqual|notDeepEqual|strictEqual|equal|same|like|match"
    r"|regex|notRegex|truthy|falsy|true|false|ok|notOk|throws|throwsAsync|rejects|snapshot)\s*\("
)
_SCRIPT_WEAK = re.compile(
    r"\.(?:toBeTruthy|toBeFalsy|toBeDefined|toBeUndefined|toBeNull|toBeInstanceOf|toMatchObject"
    r"|toThrow|toHaveBeenCalled|toMatchSnapshot)\s*\(\s*\)|expect\.any(?:thing)?\s*\("
    r"|\bexpect\s*\(\s*(?:true|1)\s*\)|\bassert(?:\.ok)?\s*\(\s*true\s*\)|\.not\.toThrow\s*\("
)

_GO_TEST = re.compile(r"^func\s+(?P<name>(?:Test|Fuzz|Example)\w*)\s*\(", re.MULTILINE)
_GO_ASSERT = re.compile(
    r"\b[tbf]\.(?:Error|Fatal|Fail)\w*\s*\(|\b(?:require|assert|is|qt|cmp)\.\w+\s*\("
)
_GO_WEAK = re.compile(r"\b(?:require|assert)\.(?:NotNil|True|False|NoError|NotEmpty)\s*\(")

_RUST_TEST = re.compile(
    r"#\[(?:\w+::)*(?:test|rstest)\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?(?:async\s+)?"
    r"fn\s+(?P<name>\w+)"
)
_RUST_ASSERT = re.compile(r"\b(?:debug_)?assert(?:_\w+)?!\s*\(|\bpanic!\s*\(")
_RUST_WEAK = re.compile(
    r"\bassert!\s*\(\s*true\b|\bassert_eq!\s*\(\s*(\w+)\s*,\s*\1\s*[,)]|\bassert!\s*\([^;]*\.is_\w+\(\)\s*\)"
)


def _by_pattern(
    text: str,
    test: re.Pattern[str],
    assertion: re.Pattern[str],
    weak: re.Pattern[str],
    comment: str,
) -> dict[str, Checked]:
    """Cut a text into its tests, from one heading to the next, and count what each asserts."""
    text = re.sub(comment, _blank, text, flags=re.DOTALL)
    starts = list(test.finditer(text))
    found: dict[str, Checked] = {}
    for place, match in enumerate(starts):
        end = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        body = text[match.start() : end]
        name = match["name"]
        line = text.count("\n", 0, match.start()) + 1
        checked = found.setdefault(name, Checked(name, line))
        total = len(assertion.findall(body))
        weaker = min(sum(1 for _ in weak.finditer(body)), total)
        checked.strengths += [STRONG] * (total - weaker) + [WEAK] * weaker
    return found


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")
