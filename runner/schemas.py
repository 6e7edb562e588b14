"""Writes down as JSON Schemas what `--events` and `--report` publish, from the nouns alone. Pure.

Draft 2020-12 (https://json-schema.org/draft/2020-12). Fields and kinds of events that a newer
release adds stay valid: nothing forbids what is not named, and an unknown `type` is any object.
What a reader relies on is under `required`; the number under `schema` is raised when that changes.
"""

from __future__ import annotations

import dataclasses
import types
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

from runner.codec import fields_of, hints_of, kinds
from runner.events import CommandOutput
from runner.outcome import Attempt, Rung, Usage, Verdict
from runner.report import (
    SCHEMA,
    Baseline,
    Break,
    GitReport,
    ModelReport,
    PrefixReport,
    Report,
    StepReport,
    to_json,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

_PLAIN: Mapping[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}
_EXACT: Schema = {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]+)?(E[+-]?[0-9]+)?$"}
"""Money in events: a decimal number as a text, so that no digit is lost."""
_ROUNDED: Schema = {"type": "number"}
"""Money in the report: in USD, as a JSON number."""


def event_schema() -> Schema:
    """Return the JSON Schema of one line of `--events`."""
    write = _Writer(_EXACT)
    written = {kind: cls for kind, cls in kinds().items() if cls is not CommandOutput}
    cases: list[Schema] = []
    for kind, cls in written.items():
        when: Schema = {"properties": {"type": {"const": kind}}, "required": ["type"]}
        cases.append({"if": when, "then": {"$ref": f"#/$defs/{write.named(cls)}"}})
    return {
        "$schema": DRAFT,
        "title": "One line of `runner exec --events`",
        "type": "object",
        "properties": {
            "type": {
                "type": "string",
                "description": "Which kind of event it is; readers pass over those they don't know",
                "examples": list(written),
            },
            "schema": {"const": SCHEMA},
            "seq": {
                "type": "integer",
                "minimum": 1,
                "description": "Place within the run, without gaps; the same as in its journal",
            },
            "ts": {"type": "number", "description": "When it happened: seconds since the epoch"},
            "run_id": {"type": "string"},
            "trace_id": {
                "type": "string",
                "pattern": "^([0-9a-f]{32})?$",
                "description": "The run's trace: attributes `runner.step.id` and so on join there",
            },
        },
        "required": ["type", "schema", "seq", "ts", "run_id", "trace_id"],
        "allOf": cases,
        "$defs": dict(sorted(write.defs.items())),
    }


def report_schema() -> Schema:
    """Return the JSON Schema of the report: `--json`, `--report`, `runner show --json`.

    Which fields of its nouns are published is asked of `to_json` itself.
    """
    write = _Writer(_ROUNDED)
    shown = to_json(_SAMPLE)
    step, model, prefix = shown["steps"][0], shown["models"]["main"], shown["prefix"]
    tokens = write.some(Usage, [one for one in model if one in fields_of(Usage)])
    attempt = write.some(Attempt, step["attempts"][0])
    parts: Schema = {
        "schema": {"const": SCHEMA},
        "git": write.some(GitReport, shown["git"]),
        "baseline": _with(write.some(Baseline, shown["baseline"]), {"estimated": {"const": True}}),
        "models": {"type": "object", "additionalProperties": {"$ref": "#/$defs/model"}},
        "prefix": _with(
            write.some(PrefixReport, [one for one in prefix if one != "breaks"]),
            {
                "unbroken": _PLAIN[bool],
                "breaks": _list(write.some(Break, prefix["breaks"][0])),
            },
        ),
        "prices": _or_null(_object({"source": _PLAIN[str], "date": _PLAIN[str]})),
        "steps": _list({"$ref": "#/$defs/step"}),
    }
    whole = _with(write.some(Report, [one for one in shown if one not in parts]), parts)
    # A key that a later release added has a default: reports without it stay valid.
    whole["required"] = [one for one in shown if one in parts or one in _required(Report)]
    return {
        "$schema": DRAFT,
        "title": "The report of a run of `runner`",
        **whole,
        "$defs": {
            **write.defs,
            "model": _with(
                write.some(ModelReport, ("id",)),
                {**tokens["properties"], "cost_usd": _or_null(_ROUNDED)},
            ),
            "step": _with(
                write.some(StepReport, [one for one in step if one != "attempts"]),
                {"attempts": _list({"$ref": "#/$defs/attempt"})},
            ),
            "attempt": attempt,
        },
    }


_SAMPLE = Report(
    run_id="", workflow="", status="succeeded", exit_code=0, seconds=0.0, cost_usd=None,
    scripted=False, git=GitReport(), sandbox="", state_dir="", models={"main": ModelReport("")},
    prefix=PrefixReport(breaks=(Break(1, "", ""),)),
    steps=(
        StepReport(
            "", "run", "", "succeeded",
            attempts=(Attempt(1, Rung.COMMAND, None, Verdict.PASSED, ""),),
        ),
    ),
)  # fmt: skip
"""A report with one of everything, to see which keys it is published under."""


class _Writer:
    """Turns annotations into schemas; the nouns that they name are defined once."""

    def __init__(self, money: Schema) -> None:
        self.defs: dict[str, Schema] = {}
        self._money = money

    def named(self, cls: type[Any]) -> str:
        """Define a noun and return its name."""
        name = cls.__name__
        if name not in self.defs:
            self.defs[name] = {}
            self.defs[name] = self.some(cls, fields_of(cls)) | {"description": _first_line(cls)}
            self.defs[name]["required"] = _required(cls)
        return name

    def some(self, cls: type[Any], names: Iterable[str]) -> Schema:
        """Return the schema of an object that has some of a noun's fields."""
        hints = hints_of(cls)
        return _object({name: self.of(hints[name]) for name in names if name in hints})

    def of(self, hint: Any) -> Schema:
        """Return the schema of the JSON value that stands for a value of an annotated type."""
        if hint in _PLAIN:
            return _PLAIN[hint]
        if isinstance(hint, type):
            return self._of_class(hint)
        origin, args = get_origin(hint), get_args(hint)
        if origin is Literal:
            return {"enum": list(args)}
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.of(arg) for arg in args]}
        if origin in (tuple, list, frozenset) and args:
            return _list(self.of(args[0]))
        if origin is not None and len(args) == 2:
            return {"type": "object", "additionalProperties": self.of(args[1])}
        raise TypeError(f"no schema for {hint!r}")

    def _of_class(self, hint: type[Any]) -> Schema:
        if issubclass(hint, Decimal):
            return self._money
        if issubclass(hint, PurePath):
            return _PLAIN[str]
        if issubclass(hint, Enum):
            return {"enum": [one.value for one in hint]}
        if dataclasses.is_dataclass(hint):
            return {"$ref": f"#/$defs/{self.named(hint)}"}
        raise TypeError(f"no schema for {hint!r}")


def _first_line(cls: type[Any]) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]


def _required(cls: type[Any]) -> list[str]:
    """Return the fields that every release wrote: those that have no default."""
    none = dataclasses.MISSING
    return [
        one.name
        for one in dataclasses.fields(cls)
        if one.default is none and one.default_factory is none
    ]


def _object(properties: Mapping[str, Schema]) -> Schema:
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def _with(schema: Schema, properties: Mapping[str, Schema]) -> Schema:
    return _object({**schema.get("properties", {}), **properties})


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, _PLAIN[type(None)]]}
