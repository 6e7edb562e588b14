"""Declares mappings whose keys the language defines, and what holds between those keys."""

from __future__ import annotations

import typing
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from runner.frozen import frozen
from runner.loader.document import Mapping, Node, Scalar
from runner.loader.problems import Problems, Unreadable
from runner.loader.shapes import JsonSchema, Shape, describe, shorten
from runner.suggest import did_you_mean

T = TypeVar("T")

Foreign = typing.Mapping[str, str]
_NOTHING: Foreign = MappingProxyType({})


@frozen
class Field(Generic[T]):
    """One key of a record."""

    name: str
    shape: Shape[T]
    doc: str
    required: bool = False


def fields_of(keys: type) -> tuple[Field[Any], ...]:
    """Return the fields that a class lists, in order."""
    values = cast("dict[str, object]", dict(vars(keys)))
    return tuple(cast("Field[Any]", one) for one in values.values() if isinstance(one, Field))


class Rule(Protocol):
    """What holds between the keys of a record."""

    def check(self, node: Mapping, problems: Problems) -> None:
        """Tell `problems` where it does not hold."""
        ...

    def schema(self) -> JsonSchema:
        """Return the same as a part of the record's schema."""
        ...


class Fields(NamedTuple):
    """The readable values of one record; what could not be read was told already."""

    node: Mapping
    values: dict[str, object]

    def get(self, field: Field[T]) -> T | None:
        """Return a value, or `None` when it is absent or unreadable."""
        return cast("T | None", self.values.get(field.name))

    def get_or(self, field: Field[T], default: T) -> T:
        """Return a value, or a default."""
        found = self.get(field)
        return default if found is None else found

    def spoilt(self, field: Field[Any]) -> bool:
        """Return whether a key is written but unreadable, which was told already."""
        return field.name in self.node.entries and field.name not in self.values

    def unread(self, field: Field[Any], prefix: str) -> tuple[str, ...]:
        """Return dotted names that a mapping of names declares, but not readably."""
        if self.spoilt(field):
            return (prefix,)
        entry = self.node.entries.get(field.name)
        read = self.values.get(field.name)
        if entry is None or not isinstance(entry[1], Mapping) or not isinstance(read, dict):
            return ()
        return tuple(f"{prefix}.{name}" for name in entry[1].entries if name not in read)

    def has(self, field: Field[Any]) -> bool:
        """Return whether the key is written, readable or not."""
        return field.name in self.node.entries

    def key(self, field: Field[Any]) -> Scalar:
        """Return the key itself; it must be written."""
        return self.node.entries[field.name][0]

    def value(self, field: Field[Any]) -> Node:
        """Return the value's node; the key must be written."""
        return self.node.entries[field.name][1]


class Record(NamedTuple):
    """A mapping with the given keys and no others."""

    what: str
    fields: tuple[Field[Any], ...]
    rules: tuple[Rule, ...] = ()
    foreign: Foreign = _NOTHING
    """Keys of other tools that people will try, and what to do here."""
    example: str = ""

    def read(self, node: Node, problems: Problems) -> Fields:
        """Return what is readable; mistakes inside are told, and reading goes on."""
        if not isinstance(node, Mapping):
            message = f"{self.what} must be a mapping, but it is {describe(node)}"
            raise problems.fail(message, node, hint=self.example)
        values: dict[str, object] = {}
        known = {one.name: one for one in self.fields}
        for name, (key, value) in node.entries.items():
            one = known.get(name)
            if one is None:
                self._unknown(key, problems)
                continue
            try:
                values[name] = one.shape.read(value, problems)
            except Unreadable:
                continue
        for one in self.fields:
            if one.required and one.name not in node.entries:
                hint = self.example or one.doc
                problems.add(f"{self.what} needs the key `{one.name}`", node, hint=hint)
        for rule in self.rules:
            rule.check(node, problems)
        return Fields(node, values)

    def _unknown(self, key: Scalar, problems: Problems) -> None:
        hint = self.foreign.get(key.text.replace("_", "-")) or did_you_mean(
            key.text, [one.name for one in self.fields], label="Keys here"
        )
        message = f"unknown key `{shorten(key.text)}` in {self.what}"
        # The value is not shown: people put keys and tokens where they do not belong.
        problems.add(message, key, hint=hint, shown=key.column + len(key.text))

    def schema(self) -> JsonSchema:
        """Return the schema."""
        schema: JsonSchema = {
            "type": "object",
            "properties": {
                one.name: {"description": one.doc, **one.shape.schema()} for one in self.fields
            },
            "additionalProperties": False,
        }
        required = [one.name for one in self.fields if one.required]
        if required:
            schema["required"] = required
        rules = [rule.schema() for rule in self.rules]
        if rules:
            schema["allOf"] = rules
        return schema


class ExactlyOne(NamedTuple):
    """Just one of some keys is written."""

    what: str
    names: tuple[str, ...]

    def check(self, node: Mapping, problems: Problems) -> None:
        """Tell which keys there are."""
        found = [name for name in self.names if name in node.entries]
        if not found:
            one_of = ", ".join(self.names)
            hint = "For a command write `run: COMMAND`."
            problems.add(f"{self.what} needs one of the keys {one_of}", node, hint=hint)
        for name in found[1:]:
            message = f"{self.what} is one of `{found[0]}` and `{name}`, not both"
            problems.add(message, node.entries[name][0], hint="Make it two.")

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {"oneOf": [{"required": [name]} for name in self.names]}


class Belongs(NamedTuple):
    """A key means something beside one of some others only."""

    name: str
    beside: tuple[str, ...]
    hint: str = ""

    def check(self, node: Mapping, problems: Problems) -> None:
        """Tell where it stands alone."""
        entry = node.entries.get(self.name)
        if entry is None or any(name in node.entries for name in self.beside):
            return
        beside = " or ".join(f"`{name}`" for name in self.beside)
        message = f"`{self.name}` goes with {beside} only"
        problems.add(message, entry[0], hint=self.hint or "Delete it here.")

    def schema(self) -> JsonSchema:
        """Return the schema."""
        beside = {"anyOf": [{"required": [name]} for name in self.beside]}
        return {"if": {"required": [self.name]}, "then": beside}


class Excludes(NamedTuple):
    """A key means nothing beside another."""

    name: str
    other: str
    hint: str

    def check(self, node: Mapping, problems: Problems) -> None:
        """Tell where both stand."""
        if self.other in node.entries and self.name in node.entries:
            message = f"`{self.name}` does not go with `{self.other}`"
            problems.add(message, node.entries[self.name][0], hint=self.hint)

    def schema(self) -> JsonSchema:
        """Return the schema."""
        return {"not": {"required": [self.name, self.other]}}
