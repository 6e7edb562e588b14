"""Decides what of the history others may read, and reads what they hand over. Pure.

The file is one JSON object, made to be shared between the jobs of a CI system:

    {"schema": 1, "what": "runner history", "rows": [
      {"repo": "shop-3f2a9c0d1e5b", "run": "20261121-174530-3f9a", "step": "test", "kind": "test",
       "model": "anthropic:claude-haiku-5-5", "rung": "subagent", "mended": true,
       "cost_usd": 0.0123, "seconds": 41.5, "at": 1795283171.5}]}

A row is what one rung came to on one failing step. `cost_usd` is `null` where a price is not known,
`seconds` is how long the attempts took, `at` when they ended, in seconds since the epoch. No code,
no output, no path: `repo` is a name and 12 hex digits, which tell work trees apart. Rows of
scripted models are left out: they say nothing of any model, and name a file of the machine.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from runner.errors import UsageError
from runner.history import Tried
from runner.outcome import Rung

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

SCHEMA = 1
"""Raised only when a key goes or changes its meaning."""
WHAT = "runner history"
LIMIT = 16 * 1024 * 1024
"""Bytes beyond which nothing is read: the whole history has a tenth of that."""

_AHEAD = 86_400.0
"""Seconds that another machine's clock may be ahead: what seems newest is what is kept."""
_RUNGS = tuple(rung.value for rung in Rung if rung is not Rung.COMMAND)


def export(rows: Iterable[Tried]) -> dict[str, Any]:
    """Return the rows that may be shared as plain JSON values."""
    shared = [_row(one) for one in rows if not scripted(one)]
    return {"schema": SCHEMA, "what": WHAT, "rows": shared}


def scripted(row: Tried) -> bool:
    """Tell whether a row comes of a scripted model."""
    return row.model.startswith("script:")


def text_of(exported: Mapping[str, Any]) -> str:
    """Write what `export` returned with a line for each row, so that files can be compared."""
    rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False)}" for row in exported["rows"])
    head = f'{{\n  "schema": {SCHEMA},\n  "what": {json.dumps(WHAT)},\n  "rows": ['
    return f"{head}\n{rows}\n  ]\n}}\n" if rows else f"{head}]\n}}\n"


def read(data: bytes, *, name: str, now: float) -> tuple[Tried, ...]:
    """Read what `text_of` wrote, here or on another machine.

    Args:
        data: The file.
        name: What the file is called in errors.
        now: Seconds since the epoch.

    Raises:
        UsageError: It is no history, of a newer schema, or has a wrong row; nothing is taken of it.
    """
    document = _parsed(data, name)
    if not isinstance(document, dict):
        raise UsageError(f"{name}: not a history of runner", hint=_HINT)
    document = cast("dict[str, Any]", document)
    schema, what, rows = (document.get(key) for key in ("schema", "what", "rows"))
    if what != WHAT or not isinstance(schema, int) or isinstance(schema, bool):
        raise UsageError(f"{name}: not a history of runner", hint=_HINT)
    if not 1 <= schema <= SCHEMA:
        raise UsageError(
            f"{name}: schema {schema}; this release reads schema {SCHEMA}",
            hint="It was written by a newer release of runner: use that one.",
        )
    if not isinstance(rows, list):
        raise UsageError(f"{name}: `rows` is not a list", hint=_HINT)
    listed = cast("Sequence[Any]", rows)
    return tuple(_tried(row, f"{name}: rows[{at}]", now) for at, row in enumerate(listed))


_HINT = "Write one with: runner history --export FILE"


def _row(one: Tried) -> dict[str, Any]:
    return {
        "repo": one.repo,
        "run": one.run,
        "step": one.step,
        "kind": one.kind,
        "model": one.model,
        "rung": one.rung.value,
        "mended": one.mended,
        "cost_usd": None if one.usd is None else float(one.usd),
        "seconds": round(one.seconds, 3),
        "at": round(one.at, 3),
    }


def _parsed(data: bytes, name: str) -> object:
    if len(data) > LIMIT:
        raise UsageError(f"{name}: longer than {LIMIT // 1024**2} MB", hint=_HINT)
    try:
        return json.loads(data.decode("utf-8-sig"), parse_float=Decimal, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise UsageError(f"{name}: {where}: {error.msg}", hint=_HINT) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: not UTF-8 text, byte {error.start}", hint=_HINT) from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"{name}: not JSON that can be read: {error}", hint=_HINT) from error


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no number of JSON")


def _tried(row: object, where: str, now: float) -> Tried:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: not an object but {_shown(row)}", hint=_HINT)
    given = cast("Mapping[str, Any]", row)
    for key in given.keys() - _FIELDS.keys():
        raise UsageError(f"{where}: unknown field {_shown(key)}", hint=_HINT)
    values: dict[str, Any] = {}
    for key, (name, check, what) in _FIELDS.items():
        if key not in given:
            raise UsageError(f"{where}: field `{key}` is missing", hint=_HINT)
        if not check(given[key]):
            message = f"{where}: field `{key}` is not {what} but {_shown(given[key])}"
            raise UsageError(message, hint=_HINT)
        values[name] = given[key]
    if values["at"] > now + _AHEAD:
        message = f"{where}: field `at` lies in the future: {_shown(given['at'])}"
        raise UsageError(message, hint="Set the clock of the machine that wrote it.")
    usd = values["usd"]
    values["rung"] = Rung(values["rung"])
    values["usd"] = None if usd is None else Decimal(usd)
    values["seconds"], values["at"] = float(values["seconds"]), float(values["at"])
    return Tried(**values)


def _shown(value: object) -> str:
    """Show a wrong value, cut: it may be anything."""
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _like(pattern: str) -> Callable[[Any], bool]:
    matches = re.compile(pattern).fullmatch
    return lambda value: isinstance(value, str) and matches(value) is not None


def _named(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()


def _amount(value: Any) -> bool:
    """Tell whether a value is a number from 0 up to what a float holds exactly enough."""
    if not isinstance(value, int | Decimal) or isinstance(value, bool):
        return False
    return 0 <= value <= 10**12 and math.isfinite(value)


_FIELDS: Mapping[str, tuple[str, Callable[[Any], bool], str]] = {
    "repo": ("repo", _like(r"[A-Za-z0-9._-]{1,60}"), "the name of a state directory"),
    "run": ("run", _like(r"[A-Za-z0-9-]{1,40}"), "a run's id"),
    "step": ("step", _named, "a step's id"),
    "kind": ("kind", _like(r"[a-z_-]{1,20}"), "a kind of failure, such as `test`"),
    "model": ("model", _named, "a model's id"),
    "rung": ("rung", lambda value: value in _RUNGS, f"one of {', '.join(_RUNGS)}"),
    "mended": ("mended", lambda value: isinstance(value, bool), "true or false"),
    "cost_usd": ("usd", lambda value: value is None or _amount(value), "an amount or null"),
    "seconds": ("seconds", _amount, "a number of seconds"),
    "at": ("at", _amount, "a time in seconds since the epoch"),
}
"""Each key of a row: the noun's field, what it must be, and that in words."""

assert {name for name, _, _ in _FIELDS.values()} == {field.name for field in fields(Tried)}
