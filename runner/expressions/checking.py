"""Decides the type that an expression comes to, before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, assert_never

from runner.expressions.parts import (
    FOREIGN_WORDS,
    Call,
    Compare,
    Constant,
    ExpressionError,
    Join,
    Name,
    Not,
    Part,
    type_of,
)
from runner.expressions.reading import parse
from runner.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from runner.plan import ValueType


def check(
    source: str,
    names: Mapping[str, ValueType],
    functions: Collection[str] = (),
    choices: Callable[[str], Collection[str] | None] = lambda path: None,
) -> ValueType:
    """Return the type that an expression comes to.

    Args:
        source: The expression.
        names: Dotted names in sight, with their types.
        functions: Functions of one literal text that may be called.
        choices: Returns, for a name that only ever holds certain texts, those texts. Comparing it
            with any other text is an error, for it would silently never be equal.

    Raises:
        ExpressionError: It cannot be read, names what is not in sight, or mixes types.
    """
    return _Types(names, functions, choices).of(parse(source))


class _Types(NamedTuple):
    names: Mapping[str, ValueType]
    functions: Collection[str]
    choices: Callable[[str], Collection[str] | None]

    def of(self, part: Part) -> ValueType:
        match part:
            case Constant():
                return type_of(part.value)
            case Name():
                return self._name(part)
            case Call():
                return self._call(part)
            case Not():
                self._boolean(part.part, "not")
            case Join():
                for one in part.parts:
                    self._boolean(one, part.word)
            case Compare():
                self._compare(part)
            case _:
                assert_never(part)
        return "boolean"

    def _name(self, name: Name) -> ValueType:
        found = self.names.get(name.path)
        if found is None:
            raise unknown_name(name.path, name.column, self.names)
        if found == "json":
            hint = "Declare a string, number or boolean output for what you want to test."
            message = f"`{name.path}` is JSON, which cannot be used in an expression"
            raise ExpressionError(message, name.column, hint=hint)
        return found

    def _call(self, call: Call) -> ValueType:
        if call.function not in self.functions:
            message = f"there is no function `{call.function}` here"
            foreign = FOREIGN_WORDS.get(call.function)
            hint = foreign or did_you_mean(call.function, self.functions)
            raise ExpressionError(message, call.column, hint=hint)
        return "boolean"

    def _boolean(self, part: Part, word: str) -> None:
        found = self.of(part)
        if found != "boolean":
            example = "x != ''" if found == "string" else "x != 0"
            message = f"`{word}` joins true or false, but this is a {found}"
            raise ExpressionError(message, part.column, hint=f"Compare it: `{example}`.")

    def _compare(self, part: Compare) -> None:
        left, right = self.of(part.left), self.of(part.right)
        if part.operator in {"in", "not in"}:
            wrong = left != "string" or right != "string"
            need = "a text on both sides"
        elif part.operator in {"==", "!="}:
            wrong = left != right
            need = "the same type on both sides"
        else:
            wrong = left != "number" or right != "number"
            need = "a number on both sides"
        if wrong:
            message = f"`{part.operator}` needs {need}, but these are a {left} and a {right}"
            hint = "Texts stand in quotes, numbers do not." if left != right else ""
            raise ExpressionError(message, part.column, hint=hint)
        if part.operator in {"==", "!="}:
            self._check_choice(part.left, part.right)
            self._check_choice(part.right, part.left)

    def _check_choice(self, name: Part, constant: Part) -> None:
        if not (isinstance(name, Name) and isinstance(constant, Constant)):
            return
        known = self.choices(name.path)
        if known is not None and constant.value not in known:
            message = f"`{name.path}` is never {constant.value!r}"
            hint = did_you_mean(str(constant.value), known, label="It is one of")
            raise ExpressionError(message, constant.column, hint=hint)


def unknown_name(path: str, column: int, names: Collection[str]) -> ExpressionError:
    """Return the error for a dotted name that is not in sight, with what was probably meant."""
    hint = FOREIGN_WORDS.get(path) or FOREIGN_WORDS.get(path.partition(".")[0])
    hint = hint or did_you_mean(path, names, label="In sight")
    if path.startswith("env.") and not hint.startswith("Did"):
        hint = f"Of `env` there is only what the step declares: `env: {{ NAME: ... }}`. {hint}"
    if "." not in path and not hint.startswith(("Write", "There", "What")):
        hint = f"A literal text stands in quotes: '{path}'. {hint}".strip()
    return ExpressionError(f"there is no `{path}` here", column, hint=hint)
