"""Reads an expression from its text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple, assert_never, cast

from runner.expressions.parts import (
    FOREIGN_WORDS,
    PATH,
    Call,
    Compare,
    Constant,
    ExpressionError,
    Join,
    Name,
    Not,
    Operator,
    Part,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_LENGTH = 1000
"""Characters of an expression."""
MAX_NESTING = 50
"""Parentheses and `not` within one another."""


def paths(source: str) -> tuple[tuple[str, int], ...]:
    """Return each dotted name of an expression with its column (from 1).

    Raises:
        ExpressionError: It cannot be read.
    """
    return tuple(_names_in(parse(source)))


def _names_in(part: Part) -> Iterator[tuple[str, int]]:
    match part:
        case Name():
            yield part.path, part.column
        case Constant() | Call():
            return
        case Not():
            yield from _names_in(part.part)
        case Join():
            for one in part.parts:
                yield from _names_in(one)
        case Compare():
            yield from _names_in(part.left)
            yield from _names_in(part.right)
        case _:
            assert_never(part)


_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\n]+)
    |(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<number>-?[0-9]+(?:\.[0-9]+)?(?![A-Za-z0-9_.]))
    |(?P<name>{PATH})
    |(?P<operator>==|!=|<=|>=|<|>|\(|\)|,)""",
    re.VERBOSE | re.DOTALL,
)

_FOREIGN_SIGNS = {
    "&&": "Write `and`.",
    "||": "Write `or`.",
    "!": "Write `not`.",
    "=": "Write `==` to compare.",
    "${{": "An expression stands bare, without `${{ }}`.",
    "$": "Variables of a shell are not in sight here; the step's own `env` is: `env.NAME`.",
    '"': 'The text is not closed by a second `"`.',
    "'": "The text is not closed by a second `'`.",
    "+": "There is no arithmetic; compute in a command and hand the result on in `outputs`.",
    "-": "There is no arithmetic; compute in a command and hand the result on in `outputs`.",
    "*": "There is no arithmetic; compute in a command and hand the result on in `outputs`.",
    "/": "There is no arithmetic; compute in a command and hand the result on in `outputs`.",
    "[": "There are no lists; write `x == 'a' or x == 'b'`.",
}

_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


@lru_cache(maxsize=256)
def parse(source: str) -> Part:
    """Return an expression's parts.

    Raises:
        ExpressionError: It cannot be read.
    """
    if len(source) > MAX_LENGTH:
        message = f"this expression has {len(source):,} characters; {MAX_LENGTH:,} are the most"
        raise ExpressionError(message, 1)
    tokens = _tokens(source)
    _check_nesting(tokens)
    reader = _Reader([*tokens, _Token("end", "", len(source) + 1)])
    part = reader.any_of()
    reader.expect_end()
    return part


def _tokens(source: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(source):
        match = _TOKEN.match(source, position)
        if match is None:
            raise _bad_sign(source, position)
        kind = cast("str", match.lastgroup)
        if kind != "space":
            tokens.append(_Token(kind, match[0], position + 1))
        position = match.end()
    return tokens


def _bad_sign(source: str, position: int) -> ExpressionError:
    for sign in sorted(_FOREIGN_SIGNS, key=len, reverse=True):
        if source.startswith(sign, position):
            what = (
                "a text begins here and does not end"
                if sign in "'\""
                else f"there is no `{sign}` in an expression"
            )
            return ExpressionError(what, position + 1, hint=_FOREIGN_SIGNS[sign])
    message = f"{source[position]!r} does not belong in an expression"
    return ExpressionError(message, position + 1)


def _check_nesting(tokens: list[_Token]) -> None:
    """Refuse what would nest too deep, before anything is read recursively."""
    depth = nots = 0
    for token in tokens:
        nots = nots + 1 if token.text == "not" and token.kind == "name" else 0
        depth += (token.text == "(") - (token.text == ")")
        if max(depth, nots) > MAX_NESTING:
            raise ExpressionError(f"nested deeper than {MAX_NESTING}", token.column)


class _Reader:
    """Reads tokens from left to right; one method per line of the grammar."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _at(self, word: str) -> bool:
        return self._token.text == word and self._token.kind in {"name", "operator"}

    def expect_end(self) -> None:
        """Refuse anything after a whole expression."""
        token = self._token
        if token.kind == "end":
            return
        if token.text in _COMPARISONS:
            hint = "Comparisons do not chain: write `a < b and b < c`."
            raise ExpressionError("a second comparison", token.column, hint=hint)
        hint = FOREIGN_WORDS.get(token.text, "Join two conditions by `and` or `or`.")
        raise ExpressionError(f"`{token.text}` does not belong here", token.column, hint=hint)

    def any_of(self) -> Part:
        """Read parts joined by `or`."""
        return self._joined("or", self._all_of)

    def _all_of(self) -> Part:
        return self._joined("and", self._negation)

    def _joined(self, word: Literal["and", "or"], read: Callable[[], Part]) -> Part:
        parts = [read()]
        column = self._token.column
        while self._at(word):
            self._take()
            parts.append(read())
        return parts[0] if len(parts) == 1 else Join(word, tuple(parts), column)

    def _negation(self) -> Part:
        if not self._at("not"):
            return self._comparison()
        column = self._take().column
        return Not(self._negation(), column)

    def _comparison(self) -> Part:
        left = self._primary()
        column = self._token.column
        operator = self._operator()
        if operator is None:
            return left
        return Compare(operator, left, self._primary(), column)

    def _operator(self) -> Operator | None:
        if self._at("in"):
            self._take()
            return "in"
        if self._at("not"):
            self._take()
            if not self._at("in"):
                raise ExpressionError("`in` must follow `not` here", self._token.column)
            self._take()
            return "not in"
        if self._token.text in _COMPARISONS and self._token.kind == "operator":
            return cast("Operator", self._take().text)
        return None

    def _primary(self) -> Part:
        token = self._take()
        match token.kind:
            case "text":
                return Constant(_unescape(token), token.column)
            case "number":
                number = float(token.text) if "." in token.text else int(token.text)
                return Constant(number, token.column)
            case "name":
                return self._name(token)
            case "operator" if token.text == "(":
                part = self.any_of()
                if not self._at(")"):
                    raise ExpressionError("`(` is not closed by `)`", token.column)
                self._take()
                return part
            case "end":
                raise ExpressionError("the expression ends too early", token.column)
            case _:
                message = f"`{token.text}` stands where a value should"
                raise ExpressionError(message, token.column)

    def _name(self, token: _Token) -> Part:
        if token.text in {"true", "false", "True", "False"}:
            return Constant(token.text.lower() == "true", token.column)
        if token.text in {"and", "or", "in", "not"}:
            message = f"`{token.text}` stands where a value should"
            raise ExpressionError(message, token.column)
        if self._at("("):
            return self._call(token)
        return Name(token.text, token.column)

    def _call(self, name: _Token) -> Part:
        if name.text in FOREIGN_WORDS:
            message = f"there is no function `{name.text}` here"
            raise ExpressionError(message, name.column, hint=FOREIGN_WORDS[name.text])
        self._take()
        argument = self._take()
        if argument.kind != "text" or not self._at(")"):
            hint = f'Write `{name.text}("src/**")`.'
            raise ExpressionError(f"`{name.text}` takes one literal text", name.column, hint=hint)
        self._take()
        return Call(name.text, _unescape(argument), name.column)


def _unescape(token: _Token) -> str:
    body = token.text[1:-1]
    if "\\" not in body:
        return body

    def one(match: re.Match[str]) -> str:
        found = _ESCAPES.get(match[1])
        if found is None:
            hint = r"Known: \n, \t, \\, \', \"."
            column = token.column + 1 + match.start()
            raise ExpressionError(f"unknown escape `{match[0]}`", column, hint=hint)
        return found

    return re.sub(r"\\(.)", one, body, flags=re.DOTALL)
