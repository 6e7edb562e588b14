"""Decides the value of an expression, during a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, assert_never, cast

from runner.expressions.parts import (
    Call,
    Compare,
    Constant,
    ExpressionError,
    Join,
    Name,
    Not,
    Part,
    Value,
    look_up,
    type_of,
)
from runner.expressions.reading import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def evaluate(
    source: str,
    lookup: Callable[[str], object],
    functions: Mapping[str, Callable[[str], bool]] | None = None,
) -> Value:
    """Return the value of an expression.

    Raises:
        ExpressionError: And nothing else, as long as `lookup` and the functions raise `LookupError`
            at most: a missing value or one of a wrong type has a column like any other mistake.
    """
    return _Values(lookup, functions or {}).of(parse(source))


class _Values(NamedTuple):
    lookup: Callable[[str], object]
    functions: Mapping[str, Callable[[str], bool]]

    def of(self, part: Part) -> Value:
        match part:
            case Constant():
                return part.value
            case Name():
                return self._name(part)
            case Call():
                return self._call(part)
            case Not():
                return not self._boolean(part.part)
            case Join() if part.word == "and":
                return all(self._boolean(one) for one in part.parts)
            case Join():
                return any(self._boolean(one) for one in part.parts)
            case Compare():
                return self._compare(part)
            case _:
                assert_never(part)

    def _name(self, name: Name) -> Value:
        value = look_up(self.lookup, name.path, name.column)
        if not isinstance(value, str | int | float):
            message = f"`{name.path}` is neither text nor number nor boolean"
            raise ExpressionError(message, name.column)
        return value

    def _call(self, call: Call) -> bool:
        function = self.functions.get(call.function)
        if function is None:
            raise ExpressionError(f"there is no function `{call.function}` here", call.column)
        return bool(function(call.argument))

    def _boolean(self, part: Part) -> bool:
        value = self.of(part)
        if not isinstance(value, bool):
            raise ExpressionError(f"{value!r:.60} is neither true nor false", part.column)
        return value

    def _compare(self, part: Compare) -> bool:
        left, right = self.of(part.left), self.of(part.right)
        match part.operator:
            case "==":
                return _same(left, right)
            case "!=":
                return not _same(left, right)
            case "in" | "not in":
                if not (isinstance(left, str) and isinstance(right, str)):
                    message = f"`{part.operator}` needs texts, not {left!r:.60} and {right!r:.60}"
                    raise ExpressionError(message, part.column)
                return (left in right) == (part.operator == "in")
            case "<" | "<=" | ">" | ">=":
                return self._order(part, left, right)
            case _:
                assert_never(part.operator)

    def _order(self, part: Compare, left: Value, right: Value) -> bool:
        if type_of(left) != "number" or type_of(right) != "number":
            message = f"`{part.operator}` needs numbers, not {left!r:.60} and {right!r:.60}"
            raise ExpressionError(message, part.column)
        one, other = cast("float", left), cast("float", right)
        match part.operator:
            case "<":
                return one < other
            case "<=":
                return one <= other
            case ">":
                return one > other
            case _:
                return one >= other


def _same(left: Value, right: Value) -> bool:
    """Compare without Python's `True == 1`."""
    return type_of(left) == type_of(right) and left == right
