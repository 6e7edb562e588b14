"""What `if`, `accept` and `${{ }}` mean, and that no text can make them do anything else."""

from __future__ import annotations

import string
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.expressions import (
    ExpressionError,
    as_text,
    check,
    evaluate,
    paths,
    render,
    template_paths,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.plan import ValueType

NAMES: dict[str, ValueType] = {
    "inputs.change": "string",
    "inputs.count": "number",
    "inputs.deep": "boolean",
    "steps.type-check.status": "string",
    "steps.lint.outputs.all": "json",
    "git.dirty": "boolean",
    "git.branch": "string",
}
VALUES: dict[str, object] = {
    "inputs.change": "tidy up",
    "inputs.count": 3,
    "inputs.deep": False,
    "steps.type-check.status": "succeeded",
    "steps.lint.outputs.all": [1, 2],
    "git.dirty": True,
    "git.branch": "main",
}


def _changed(glob: str) -> bool:
    return glob == "src/**"


FUNCTIONS = {"git.changed": _changed}


def choices(path: str) -> tuple[str, ...] | None:
    return ("succeeded", "failed") if path.endswith(".status") else None


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("true", True),
        ("False", False),
        ("not git.dirty", False),
        ("not not git.dirty", True),
        ("inputs.change != ''", True),
        ('inputs.change == "tidy up"', True),
        ("'up' in inputs.change", True),
        ("'up' not in inputs.change", False),
        ("not 'up' in inputs.change", False),
        ("inputs.count > 2", True),
        ("inputs.count >= 3 and inputs.count <= 3", True),
        ("inputs.count < -1.5", False),
        ("inputs.count == 3.0", True),
        ("steps.type-check.status == 'succeeded'", True),
        ('git.changed("src/**") and not git.changed("docs/**")', True),
        ("inputs.deep or git.dirty and inputs.deep", False),
        ("(inputs.deep or git.dirty) and git.dirty", True),
        ("\n  git.dirty\n  and git.branch == 'main'\n", True),
        (r"'it\'s' == " + '"it\'s"', True),
        (r'"a\tb" == "a' + "\t" + 'b"', True),
    ],
)
def test_means(source: str, value: object) -> None:
    assert check(source, NAMES, FUNCTIONS, choices) == "boolean"
    assert evaluate(source, VALUES.__getitem__, FUNCTIONS) is value


@pytest.mark.parametrize(
    ("source", "column", "message", "hint"),
    [
        ("", 1, "ends too early", ""),
        ("git.dirty and", 14, "ends too early", ""),
        ("(git.dirty", 1, "not closed", ""),
        ("git.dirty)", 10, "`)` does not belong here", ""),
        ("git.dirty && true", 11, "no `&&`", "Write `and`."),
        ("!git.dirty", 1, "no `!`", "Write `not`."),
        ("git.branch = 'main'", 12, "no `=`", "Write `==` to compare."),
        ("git.branch == 'main", 15, "does not end", "not closed"),
        ("git.branch == main", 15, "no `main`", "'main'"),
        ("git.brnch == 'main'", 1, "no `git.brnch`", "Did you mean `git.branch`?"),
        ("inputs.count + 1 > 2", 14, "no `+`", "no arithmetic"),
        ("inputs.count -1 > 2", 14, "`-1` does not belong", "Join two conditions"),
        ("inputs.count in [1, 2]", 17, "no `[`", "no lists"),
        ("1 < inputs.count < 4", 18, "a second comparison", "do not chain"),
        ("inputs.change == null", 18, "no `null`", "There is no null"),
        ("success()", 1, "no function `success`", "when: success"),
        ("contains(inputs.change, 'x')", 1, "no function `contains`", "in inputs.NAME"),
        ("git.changd('x')", 1, "no function `git.changd`", "git.changed"),
        ("git.changed(inputs.change)", 1, "takes one literal text", 'git.changed("src/**")'),
        ("github.ref == 'x'", 1, "no `github.ref`", "by inputs"),
        ("secrets.TOKEN == 'x'", 1, "no `secrets.TOKEN`", "never becomes text"),
        ("inputs.change == 3", 15, "same type on both sides", "Texts stand in quotes"),
        ("inputs.change > 'a'", 15, "a number on both sides", ""),
        ("1 in inputs.change", 3, "a text on both sides", ""),
        ("inputs.change and git.dirty", 1, "joins true or false", "x != ''"),
        ("not inputs.count", 5, "`not` joins true or false", "x != 0"),
        ("steps.lint.outputs.all == ''", 1, "is JSON", "Declare a string"),
        ("steps.type-check.status == 'success'", 28, "never 'success'", "succeeded"),
        (r"'\d' == ''", 2, r"unknown escape `\d`", "Known"),
        ("git.dirty is true", 11, "`is` does not belong", "=="),
        ("${{ git.dirty }}", 1, "no `${{`", "bare"),
        ("1.2.3 == 4", 1, "does not belong", ""),
        ("1e5 == 4", 1, "does not belong", ""),
        ("inputs.change not 'x'", 19, "`in` must follow `not`", ""),
    ],
)
def test_says_what_is_wrong_and_where(source: str, column: int, message: str, hint: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        check(source, NAMES, FUNCTIONS, choices)
    assert caught.value.column == column
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "source",
    [
        "(" * 10_000 + "true" + ")" * 10_000,
        "(" * 51 + "true" + ")" * 51,
        "not " * 51 + "true",
        "'" + "x" * 2_000_000 + "'",
        "true and " * 200 + "true",
    ],
)
def test_refuses_what_is_too_big_at_once(source: str) -> None:
    start = time.perf_counter()
    with pytest.raises(ExpressionError):
        check(source, {})
    assert time.perf_counter() - start < 0.25


def test_takes_what_is_just_small_enough() -> None:
    assert evaluate("(" * 50 + "true" + ")" * 50, VALUES.__getitem__) is True
    assert evaluate("not " * 50 + "true", VALUES.__getitem__) is True


@pytest.mark.parametrize(
    ("source", "values", "message"),
    [
        ("a.b == 'x'", {}, "`a.b` has no value here"),
        ("a.b > 1", {"a.b": ""}, "`>` needs numbers"),
        ("a.b > 1", {"a.b": True}, "`>` needs numbers"),
        ("a.b and true", {"a.b": "yes"}, "neither true nor false"),
        ("'x' in a.b", {"a.b": 3}, "needs texts"),
        ("a.b == 'x'", {"a.b": ["x"]}, "neither text nor number nor boolean"),
        ("a.b == 'x'", {"a.b": None}, "neither text nor number nor boolean"),
        ("f('x')", {}, "no function `f`"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_with_a_column(
    source: str, values: dict[str, object], message: str
) -> None:
    with pytest.raises(ExpressionError, match=message) as caught:
        evaluate(source, values.__getitem__)
    assert caught.value.column >= 1


def test_true_is_not_one() -> None:
    assert evaluate("a.b == 1", {"a.b": True}.__getitem__) is False
    assert evaluate("a.b != 1", {"a.b": True}.__getitem__) is True


def test_stops_at_the_first_part_that_decides() -> None:
    asked: list[str] = []

    def look_up(path: str) -> object:
        asked.append(path)
        return path == "a.yes"

    assert evaluate("a.yes or a.no", look_up) is True
    assert evaluate("a.no and a.yes", look_up) is False
    assert asked == ["a.yes", "a.no"]


def test_lists_names_with_columns() -> None:
    source = "not a.b and ('c.d' in e.f-g or git.changed('x'))"
    assert paths(source) == (("a.b", 5), ("e.f-g", 23))


# Templates.


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"),
        ("${{ inputs.change }}", "tidy up"),
        ("a ${{inputs.count}} b ${{  git.dirty  }}", "a 3 b true"),
        ("${{ steps.type-check.status }}", "succeeded"),
        ("${{ steps.lint.outputs.all }}", "[1, 2]"),
        ("$ {{ x }} {{ y }} $${{ git.branch }}", "$ {{ x }} {{ y }} $main"),
    ],
)
def test_renders(text: str, rendered: str) -> None:
    assert render(text, VALUES.__getitem__) == rendered


def test_never_reads_a_value_as_a_template() -> None:
    values = {"a.b": "${{ c.d }}", "c.d": "secret"}
    assert render("<${{ a.b }}>", values.__getitem__) == "<${{ c.d }}>"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("x ${{ a.b", 3, "not closed"),
        ("x ${{ a.b\n}}", 3, "not closed"),
        ("${{ }}", 1, "is empty"),
        ("${{ a.b || 'x' }}", 1, "is no dotted name"),
        ("${{ a.b }} ${{ f(1) }}", 12, "is no dotted name"),
        ("${{ a..b }}", 1, "is no dotted name"),
        ("${{ no.value }}", 1, "has no value"),
    ],
)
def test_says_what_is_wrong_in_a_template(text: str, column: int, message: str) -> None:
    with pytest.raises(ExpressionError, match=message) as caught:
        render(text, {"a.b": "x"}.__getitem__)
    assert caught.value.column == column


def test_lists_paths_with_offsets() -> None:
    assert template_paths("x ${{ a.b }}\n${{ c }}") == (("a.b", 2), ("c", 13))


def test_a_rendered_text_is_bounded() -> None:
    with pytest.raises(ExpressionError, match="grows beyond"):
        render("${{ a }}${{ a }}", {"a": "x" * 600_000}.__getitem__)


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (3.0, "3"), (0.5, "0.5"), (True, "true"), ("é", "é"), ({"a": "é"}, '{"a": "é"}')],
)
def test_writes_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


# Whatever comes.

_PIECES = st.sampled_from(
    [
        *"()'\"\\!=<>&|$[]{}-+.,",
        *(" and ", " or ", " not ", " in ", "==", "!=", "${{", "}}", " true ", " 12 ", "'x'"),
        *(
            "inputs.change",
            "inputs.count",
            "git.dirty",
            'git.changed("x")',
            "steps.lint.outputs.all",
        ),
    ]
)
_SOURCES = st.one_of(
    st.lists(_PIECES, max_size=40).map("".join),
    st.text(max_size=60),
    st.text(string.printable, max_size=60),
)


def _error(action: Callable[[], object]) -> ExpressionError | None:
    try:
        action()
    except ExpressionError as error:
        return error
    return None


@given(_SOURCES)
@settings(max_examples=200, deadline=None)
def test_no_expression_raises_anything_else(source: str) -> None:
    error = _error(lambda: check(source, NAMES, FUNCTIONS, choices))
    if error is not None:
        assert 1 <= error.column <= len(source) + 1
        assert str(error)
        return
    # What was type-checked cannot fail on values of those types.
    value = evaluate(source, VALUES.__getitem__, FUNCTIONS)
    found = check(source, NAMES, FUNCTIONS, choices)
    assert found == (
        "boolean" if isinstance(value, bool) else "string" if isinstance(value, str) else "number"
    )


_VALUES = st.one_of(
    st.none(), st.text(), st.floats(), st.integers(), st.booleans(), st.lists(st.integers())
)


@given(_SOURCES, st.dictionaries(st.sampled_from(sorted(NAMES)), _VALUES))
@settings(max_examples=150, deadline=None)
def test_no_value_raises_anything_else(source: str, values: dict[str, object]) -> None:
    for action in (evaluate, render):
        error = _error(lambda action=action: action(source, values.__getitem__))
        assert error is None or error.column >= 1
