"""The parts of an expression, its error, and the words of other languages people will try."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.plan import ValueType

PATH = r"[A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z_][A-Za-z0-9_-]*)*"
"""A dotted name, as a regular expression."""

Value = str | int | float | bool
Operator = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]


class ExpressionError(UsageError):
    """Raised when an expression or template is wrong, or a value does not fit it.

    Attributes:
        column: Where in the text, from 1.
    """

    def __init__(self, message: str, column: int, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.column = column


# The parts of an expression. A closed union: match it with `assert_never`. Named tuples: as
# dataclasses they would cost each start of the program four times as much.


class Constant(NamedTuple):
    """A literal."""

    value: Value
    column: int


class Name(NamedTuple):
    """A dotted name."""

    path: str
    column: int


class Call(NamedTuple):
    """A function of one literal text."""

    function: str
    argument: str
    column: int


class Not(NamedTuple):
    """`not` before a part."""

    part: Part
    column: int


class Join(NamedTuple):
    """Parts joined by `and` or `or`."""

    word: Literal["and", "or"]
    parts: tuple[Part, ...]
    column: int


class Compare(NamedTuple):
    """Two parts compared."""

    operator: Operator
    left: Part
    right: Part
    column: int


Part = Constant | Name | Call | Not | Join | Compare


FOREIGN_WORDS = {
    "success": "Write `when: success` beside `if` (it is the default).",
    "failure": "Write `when: failure` beside `if`.",
    "always": "Write `when: always` beside `if`.",
    "cancelled": "Write `when: always` beside `if`.",
    "contains": "Write `'part' in inputs.NAME`.",
    "startsWith": "There is only `'part' in inputs.NAME`; compute the rest in a command.",
    "endsWith": "There is only `'part' in inputs.NAME`; compute the rest in a command.",
    "null": "There is no null: compare with `''`, `0` or `false`.",
    "None": "There is no null: compare with `''`, `0` or `false`.",
    "github": "What the CI system knows comes in by inputs: `-i branch=$GITHUB_REF_NAME`.",
    "matrix": "There is no matrix: that is the CI system's; hand its values in by inputs.",
    "secrets": "A secret never becomes text: name it under the step's `secrets`, and the command "
    "finds it in its environment.",
    "needs": "Write `steps.ID.outputs.NAME`.",
    "vars": "Write `inputs.NAME`.",
    "is": "Write `==`.",
    **dict.fromkeys(("yes", "on"), "Write `true`; a text stands in quotes."),
    **dict.fromkeys(("no", "off"), "Write `false`; a text stands in quotes."),
}


def type_of(value: Value) -> ValueType:
    """Return a value's type."""
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case _:
            return "number"


def look_up(lookup: Callable[[str], object], path: str, column: int) -> object:
    """Return a name's value.

    Raises:
        ExpressionError: It has none.
    """
    try:
        return lookup(path)
    except LookupError:
        raise ExpressionError(f"`{path}` has no value here", column) from None
