"""Declares what a file may hold: each shape both reads a node and writes its JSON Schema.

One truth: `language.py` says once what a key takes, and from that come the validation with its
messages and the schema that editors use.
"""

from __future__ import annotations

import re
import typing
from dataclasses import field
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

from runner.frozen import frozen
from runner.loader import scalars
from runner.loader.document import Mapping, Node, Scalar, Sequence, place_in
from runner.loader.problems import Problems, Unreadable
from runner.suggest import closest

if TYPE_CHECKING:
    from decimal import Decimal

T_co = TypeVar("T_co", covariant=True)

JsonSchema = dict[str, Any]

_OLD_FLAGS = {"yes": True, "on": True, "no": False, "off": False}


# Named tuples where they are not generic, for a dataclass takes four times as long to define; of
# generic named tuples type checkers infer too little.


class Shape(Protocol[T_co]):
    """What a value may be."""

    def read(self, node: Node, problems: Problems) -> T_co:
        """Return the value, or tell `problems` and raise `Unreadable`."""
        ...

    def schema(self) -> JsonSchema:
        """Return the JSON Schema (2020-12) of the same values."""
        ...


def describe(node: Node) -> str:
    """Return what a node is, in a few words."""
    match node:
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"
        case Scalar():
            match scalars.look(node):
                case "null":
                    return "empty"
                case "text":
                    return f"the text {shorten(node.text)!r}"
                case found:
                    return f"the {found} `{node.text}`"


def shorten(text: str) -> str:
    """Return the first line of a text, cut."""
    line = text.strip().split("\n", 1)[0]
    return line if len(line) <= 40 else line[:40] + "..."


def _scalar(node: Node, problems: Problems, what: str, example: str) -> Scalar:
    """Return a scalar that is not empty."""
    if isinstance(node, Scalar) and scalars.look(node) != "null":
        return node
    raise problems.fail(f"this must be {what}, but it is {describe(node)}", node, hint=example)


class Text(NamedTuple):
    """A text, as a rule one that needs no quotes."""

    what: str
    pattern: str = ""
    """Whole text must match; written so that Python and JavaScript agree on it."""
    rule: str = ""
    """The pattern in words."""
    max_length: int = 10_000
    no_template: bool = False
    """`${{ }}` is refused: the text is run by a shell."""
    any_scalar: bool = False
    """Numbers and booleans are taken as they are written."""
    empty: bool = False
    private: bool = False
    """A wrong one is not shown: it may hold a password."""
    example: str = ""
    """What to write when it is no text at all."""

    def read(self, node: Node, problems: Problems) -> str:
        """Return the text."""
        scalar = self._text(node, problems)
        text = scalar.text
        if not text.strip() and not self.empty:
            raise problems.fail(f"{self.what} must not be empty", node)
        if len(text) > self.max_length:
            message = f"{self.what} has {len(text):,} characters; {self.max_length:,} are the most"
            raise problems.fail(message, node)
        if self.no_template and "${{" in text:
            at = place_in(scalar, text.index("${{"), problems)
            hint = (
                "No value may become shell code. Give it to the command as a variable: "
                'env: { VALUE: "${{ inputs.NAME }}" }, and write "$VALUE" here.'
            )
            raise problems.fail(f"`${{{{ }}}}` is refused in {self.what}", at, hint=hint)
        if self.pattern and not re.fullmatch(self.pattern, text):
            shown = "this" if self.private else repr(shorten(text))
            cut = node.column - 1 if self.private else None
            problems.add(f"{shown} is not {self.what}", node, hint=self.rule, shown=cut)
            raise Unreadable
        return text

    def _text(self, node: Node, problems: Problems) -> Scalar:
        example = 'For an empty text write "".' if self.empty else self.example
        scalar = _scalar(node, problems, self.what, example)
        found = scalars.look(scalar)
        if found != "text" and not self.any_scalar:
            message = f"this must be {self.what}, but `{scalar.text}` is a {found}"
            hint = f'If the text is meant, put it in quotes: "{scalar.text}".'
            if self.pattern and not re.fullmatch(self.pattern, scalar.text):
                hint = self.rule
            raise problems.fail(message, node, hint=hint)
        return scalar

    def schema(self) -> JsonSchema:
        """Return the schema."""
        schema: JsonSchema = {"type": "string", "maxLength": self.max_length}
        if self.any_scalar:
            schema["type"] = ["string", "number", "boolean"]
        if self.pattern:
            schema["pattern"] = f"^(?:{self.pattern})$"
        elif not self.empty:
            schema["pattern"] = r"\S"
        if self.no_template:
            schema["not"] = {"pattern": r"\$\{\{"}
        return schema


class Flag(NamedTuple):
    """`true` or `false`."""

    only: bool | None = None

    def read(self, node: Node, problems: Problems) -> bool:
        """Return the boolean."""
        found = None
        if isinstance(node, Scalar) and scalars.look(node) == "boolean":
            found = scalars.boolean(node.text)
        if found is None or (self.only is not None and found != self.only):
            hint = ""
            if isinstance(node, Scalar) and node.text.lower() in _OLD_FLAGS:
                meant = str(_OLD_FLAGS[node.text.lower()]).lower()
                hint = f"Write `{meant}`: YAML 1.2 knows no `yes`, `no`, `on` and `off`."
            raise problems.fail(
                f"this must be {self._what()}, but it is {describe(node)}", node, hint=hint
            )
        return found

    def _what(self) -> str:
        return "`true` or `false`" if self.only is None else f"`{str(self.only).lower()}`"

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {"type": "boolean"} if self.only is None else {"const": self.only}


class Whole(NamedTuple):
    """A whole number within bounds."""

    least: int
    most: int

    def read(self, node: Node, problems: Problems) -> int:
        """Return the number."""
        text = node.text if isinstance(node, Scalar) and node.plain else ""
        found = scalars.number(text)
        if found is None or found != int(found) or not self.least <= found <= self.most:
            what = f"a whole number from {self.least:,} to {self.most:,}"
            raise problems.fail(f"this must be {what}, but it is {describe(node)}", node)
        return int(found)

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


class Money(NamedTuple):
    """An amount in USD."""

    most: int = 10_000

    def read(self, node: Node, problems: Problems) -> Decimal:
        """Return the amount, exactly as written."""
        text = node.text if isinstance(node, Scalar) and node.plain else ""
        found = scalars.money(text)
        if found is None or not 0 <= found <= self.most:
            message = f"this must be an amount in USD, but it is {describe(node)}"
            hint = f"Write a number from 0 to {self.most:,} without a sign, such as `2.50`."
            raise problems.fail(message, node, hint=hint)
        return found

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {"type": "number", "minimum": 0, "maximum": self.most}


class Duration(NamedTuple):
    """A time span."""

    most: int = 7 * 86_400
    zero: bool = False

    def read(self, node: Node, problems: Problems) -> float:
        """Return seconds."""
        found = scalars.duration(node.text) if isinstance(node, Scalar) else None
        if found is None or found > self.most or found < 0 or (found == 0 and not self.zero):
            message = f"this must be a time span, but it is {describe(node)}"
            if found is not None:
                message = f"a time span of {found:g} seconds is out of bounds here"
            hint = f"Write `90s`, `10m`, `1h30m` or seconds; {self.most // 86_400} days at most."
            raise problems.fail(message, node, hint=hint)
        return found

    def schema(self) -> JsonSchema:
        """Return the schema."""
        bound = "minimum" if self.zero else "exclusiveMinimum"
        some = "(?=.)" if self.zero else "(?=.*[1-9])"
        seconds = r"[0-9]{1,15}(?:\.[0-9]{1,15})?"
        parts = "([0-9]{1,6}d)?([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,9}s)?"
        return {
            "anyOf": [
                {"type": "number", bound: 0, "maximum": self.most},
                {"type": "string", "pattern": f"^{some}(?:{seconds}|{parts})$"},
            ]
        }


@frozen
class Choice(Generic[T_co]):
    """One of a few words."""

    words: tuple[T_co, ...]
    hint: str = ""
    """What to do when no word is near."""
    foreign: typing.Mapping[str, str] = field(default_factory=dict[str, str])
    """Words of other tools that people will try, and ours."""

    def read(self, node: Node, problems: Problems) -> T_co:
        """Return the word."""
        known = [str(word) for word in self.words]
        text = node.text if isinstance(node, Scalar) else ""
        if text not in known:
            one_of = f"one of {', '.join(known)}" if len(known) > 1 else f"`{known[0]}`"
            message = f"this must be {one_of}, but it is {describe(node)}"
            nearest = self.foreign.get(text.lower()) or closest(text, known)
            hint = f"Did you mean `{nearest}`?" if nearest else self.hint
            raise problems.fail(message, node, hint=hint)
        return self.words[known.index(text)]

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {"enum": list(self.words)}


class Constant(NamedTuple):
    """A number, boolean or text that keeps the type it is written in."""

    def read(self, node: Node, problems: Problems) -> str | int | float | bool:
        """Return the value."""
        scalar = _scalar(node, problems, "a text, a number, `true` or `false`", "")
        match scalars.look(scalar):
            case "boolean":
                return scalars.boolean(scalar.text) is True
            case "number":
                found = scalars.number(scalar.text)
                if found is None:
                    hint = f'Write it in plain decimals, or as a text: "{scalar.text}".'
                    raise problems.fail(f"`{scalar.text}` is no number here", node, hint=hint)
                return found
            case _:
                return scalar.text

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {"type": ["string", "number", "boolean"]}


@frozen
class ListOf(Generic[T_co]):
    """A list whose entries have one shape."""

    entry: Shape[T_co]
    what: str
    least: int = 0
    most: int = 1_000
    unique: bool = False

    def read(self, node: Node, problems: Problems) -> tuple[T_co, ...]:
        """Return the entries."""
        if not isinstance(node, Sequence):
            raise problems.fail(
                f"this must be a list of {self.what}, but it is {describe(node)}",
                node,
                hint=self._hint(node),
            )
        count = len(node.items)
        if not self.least <= count <= self.most:
            bound = f"{self.least} at least" if count < self.least else f"{self.most:,} at most"
            raise problems.fail(f"this list holds {count:,} {self.what}; it takes {bound}", node)
        found: list[T_co] = []
        failed = False
        for item in node.items:
            try:
                found.append(self.entry.read(item, problems))
            except Unreadable:
                failed = True
        failed = failed or self._repeats(node, found, problems)
        if failed:
            raise Unreadable
        return tuple(found)

    def _hint(self, node: Node) -> str:
        if isinstance(node, Mapping):
            return "Begin each entry by `- `."
        if not isinstance(node, Scalar) or "\n" in node.text:
            return ""
        if scalars.look(node) == "null":
            return "" if self.least else "For none write `[]`."
        text = shorten(node.text)
        plain = r"[A-Za-z0-9_.-]+"
        if re.fullmatch(rf"{plain}(?:[ ,]+{plain})+", text):
            return f"Put them in brackets: [{', '.join(re.findall(plain, text))}]."
        quote = "" if re.fullmatch(plain, text) else '"'
        return f"Put it in brackets: [{quote}{text}{quote}]."

    def _repeats(self, node: Sequence, found: list[T_co], problems: Problems) -> bool:
        if not self.unique:
            return False
        for number, value in enumerate(found):
            if value in found[:number]:
                problems.add(f"{value!r} stands in this list twice", node.items[number])
                return True
        return False

    def schema(self) -> JsonSchema:
        """Return the schema."""
        schema: JsonSchema = {"type": "array", "items": self.entry.schema(), "maxItems": self.most}
        if self.least:
            schema["minItems"] = self.least
        if self.unique:
            schema["uniqueItems"] = True
        return schema


@frozen
class MapOf(Generic[T_co]):
    """A mapping whose keys are the author's own."""

    key: Text
    value: Shape[T_co]
    most: int = 200

    def read(self, node: Node, problems: Problems) -> dict[str, T_co]:
        """Return the readable values by key; mistakes are told, and reading goes on."""
        if not isinstance(node, Mapping):
            message = f"this must be a mapping, but it is {describe(node)}"
            raise problems.fail(message, node, hint="Write `name: value`, one a line.")
        if len(node.entries) > self.most:
            raise problems.fail(f"more than {self.most} entries", node)
        found: dict[str, T_co] = {}
        for name, (key, value) in node.entries.items():
            try:
                self.key.read(Scalar(key.text, key.line, key.column, plain=False), problems)
                found[name] = self.value.read(value, problems)
            except Unreadable:
                continue
        return found

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {
            "type": "object",
            "propertyNames": self.key.schema(),
            "additionalProperties": self.value.schema(),
            "maxProperties": self.most,
        }


@frozen
class Either(Generic[T_co]):
    """A value told apart by how it is written: a boolean, another scalar, a list, a mapping."""

    what: str
    flag: Shape[T_co] | None = None
    scalar: Shape[T_co] | None = None
    sequence: Shape[T_co] | None = None
    mapping: Shape[T_co] | None = None
    example: str = ""

    def read(self, node: Node, problems: Problems) -> T_co:
        """Return what the matching shape reads."""
        shape = self._shape(node)
        if shape is None:
            message = f"this must be {self.what}, but it is {describe(node)}"
            raise problems.fail(message, node, hint=self.example)
        return shape.read(node, problems)

    def _shape(self, node: Node) -> Shape[T_co] | None:
        match node:
            case Sequence():
                return self.sequence
            case Mapping():
                return self.mapping
            case Scalar():
                found = scalars.look(node)
                if found == "boolean" and self.flag is not None:
                    return self.flag
                return None if found == "null" else self.scalar

    def schema(self) -> JsonSchema:
        """Return the schema."""
        shapes = (self.flag, self.scalar, self.sequence, self.mapping)
        return {"anyOf": [shape.schema() for shape in shapes if shape is not None]}
