"""Reads from a Python file's syntax tree what its tests assert."""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING

from runner.tamper.nouns import EMPTY, HELPERS, STRONG, WEAK, Checked

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_Lists = dict[str, int]
"""Names of a module that stand for lists, and how many elements those have."""
_LITERAL = (ast.List, ast.Tuple, ast.Set)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_tests(text: str) -> dict[str, Checked] | None:
    """Return what each test of a file asserts, by its name; `None` where it cannot be parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            tree = ast.parse(text)
        found: dict[str, Checked] = {}
        helpers = Checked(HELPERS, 1)
        _walk(tree.body, Checked(HELPERS, 1), _lists(tree), found, helpers)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if helpers.strengths or helpers.cases:
        found[HELPERS] = helpers
    return found


def _lists(tree: ast.Module) -> _Lists:
    """Count what is written out of the lists of a module."""
    found: _Lists = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, _LITERAL):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = len(node.value.elts)
    return found


def _walk(
    body: Sequence[ast.stmt],
    around: Checked,
    lists: Mapping[str, int],
    found: dict[str, Checked],
    helpers: Checked,
) -> None:
    """Go through a module or a class, which `around` has the name of."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            # What inherits may be a `TestCase`, whatever its name is.
            collected = around.collected and (
                node.name.startswith("Test") or any(ast.unparse(b) != "object" for b in node.bases)
            )
            inner = Checked(f"{around.name}{node.name}.", node.lineno, collected=collected)
            _walk(node.body, inner, lists, found, helpers)
        elif isinstance(node, _Function):
            if node.name.startswith("test"):
                name = around.name + node.name
                found[name] = _test(name, node, lists)
                found[name].collected = around.collected
            else:
                _collect(node.body, helpers, caught=False)
                _count_cases(node, helpers, lists)
        elif isinstance(node, ast.If | ast.Try | ast.With):
            _walk(node.body, around, lists, found, helpers)


def _test(name: str, node: _Function, lists: Mapping[str, int]) -> Checked:
    checked = Checked(name, node.lineno)
    body = node.body[_documented(node) :]
    _collect(body, checked, caught=False)
    # A `return` before the end leaves the rest out.
    checked.swallowed += any(isinstance(one, ast.Return) for one in body[:-1])
    checked.does = any(not _is_nothing(one) for one in body)
    _count_cases(node, checked, lists)
    return checked


def _documented(node: _Function) -> int:
    return 1 if ast.get_docstring(node, clean=False) is not None else 0


def _is_nothing(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass | ast.Return) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


def _count_cases(node: _Function, checked: Checked, lists: Mapping[str, int]) -> None:
    """Count the rows of `parametrize` and of a fixture's `params`."""
    for decorator in node.decorator_list:
        if not isinstance(decorator, ast.Call):
            continue
        name = _called(decorator.func)
        given: list[ast.expr] = [
            keyword.value
            for keyword in decorator.keywords
            if keyword.arg == ("argvalues" if name == "parametrize" else "params")
        ]
        if name == "parametrize":
            given += decorator.args[1:2]
        elif name != "fixture":
            continue
        for rows in given:
            count = _length(rows, lists)
            checked.cases += count or 0
            checked.counted &= count is not None


def _length(rows: ast.expr, lists: Mapping[str, int]) -> int | None:
    if isinstance(rows, _LITERAL):
        return len(rows.elts) if not any(isinstance(e, ast.Starred) for e in rows.elts) else None
    return lists.get(rows.id) if isinstance(rows, ast.Name) else None


def _collect(body: Iterable[ast.stmt], checked: Checked, *, caught: bool) -> None:
    """Note the assertions of a body; `caught` where failing would have no effect."""
    for node in body:
        _note(node, checked, caught=caught)
        if isinstance(node, ast.For | ast.AsyncFor) and isinstance(node.iter, _LITERAL):
            checked.rows += len(node.iter.elts)
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
    elif isinstance(node, ast.If | ast.While):
        yield node.body, isinstance(node.test, ast.Constant) and not node.test.value
        yield node.orelse, False
    elif isinstance(node, ast.For | ast.AsyncFor):
        yield node.body, isinstance(node.iter, _LITERAL) and not node.iter.elts
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


_RAISES = frozenset({"raises", "assertRaises", "assertRaisesRegex", "warns", "assertWarns"})


def _note_call(call: ast.Call, checked: Checked, *, caught: bool) -> None:
    """Note `self.assertEqual(...)`, `pytest.raises(...)`, `mock.assert_called_with(...)`."""
    name = _called(call.func)
    if name in _RAISES:
        kind = ast.unparse(call.args[0]) if call.args else ""
        broad = kind in ("Exception", "BaseException", "")
        _add(checked, WEAK if broad else STRONG, None, caught=caught)
        # What the message must say is a demand of its own.
        for keyword in call.keywords:
            if keyword.arg == "match":
                _add(checked, STRONG, keyword.value, caught=caught)
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
        checked.constants.update(_constants(node))


def _constants(node: ast.AST) -> Iterator[str]:
    """Yield the values that are written out, but no pieces of those that are put together."""
    if isinstance(node, ast.Constant) and not isinstance(node.value, bool | None):
        yield repr(node.value)
    composed = isinstance(node, ast.JoinedStr) and any(
        isinstance(part, ast.FormattedValue) for part in node.values
    )
    for inner in () if composed else ast.iter_child_nodes(node):
        yield from _constants(inner)


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
