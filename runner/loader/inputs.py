"""Decides the values of a workflow's inputs from what the caller gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.loader import scalars
from runner.loader.document import MAX_BYTES
from runner.loader.files import read_file
from runner.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.plan import Input, Workflow


def resolve_inputs(
    workflow: Workflow, given: Mapping[str, str | float | bool], cwd: Path | None
) -> dict[str, str | int | float | bool]:
    """Return a value for every input.

    Args:
        workflow: What declares them.
        given: By name; a text is read as the input's type.
        cwd: A value `@FILE` is that file's text, from this directory; `@@` stands for one `@`.
            `None` reads no files: for values that no person typed.

    Raises:
        UsageError: An input is unknown, missing, or of another type; a file cannot be read.
    """
    for name in given:
        if name not in workflow.inputs:
            hint = did_you_mean(name, workflow.inputs, label="Inputs")
            hint = hint or "It declares no inputs."
            raise UsageError(f"the workflow `{workflow.name}` has no input `{name}`", hint=hint)
    missing = [one for one in workflow.inputs.values() if one.required and one.name not in given]
    if missing:
        raise _missing(workflow, missing)
    return {
        name: _value(one, given[name], cwd) if name in given else _default(one)
        for name, one in workflow.inputs.items()
    }


def _missing(workflow: Workflow, missing: list[Input]) -> UsageError:
    names = ", ".join(one.name for one in missing)
    hint = "Give " + " ".join(f"-i {one.name}={_example(one)}" for one in missing) + "."
    described = [f"{one.name}: {one.description}" for one in missing if one.description]
    hint = "\n  ".join([hint, *described])
    return UsageError(f"the workflow `{workflow.name}` needs the input {names}", hint=hint)


def _example(one: Input) -> str:
    return {"number": "NUMBER", "boolean": "true"}.get(one.type, "TEXT")


def _default(one: Input) -> str | int | float | bool:
    return "" if one.default is None else one.default


def _value(one: Input, given: str | float | bool, cwd: Path | None) -> str | int | float | bool:  # noqa: FBT001  any type of input
    if not isinstance(given, str):
        fits = one.type == ("boolean" if isinstance(given, bool) else "number")
        if not fits:
            raise UsageError(f"the input `{one.name}` is a {one.type}, not {given!r}")
        return given
    text = _text(one, given, cwd)
    value = scalars.typed(text.strip() if one.type != "string" else text, one.type)
    if value is None:
        hint = "Write `true` or `false`." if one.type == "boolean" else "Write plain decimals."
        raise UsageError(f"the input `{one.name}` is a {one.type}, not {text[:60]!r}", hint=hint)
    if isinstance(value, str) and "\0" in value:
        raise UsageError(f"the input `{one.name}` holds a NUL character")
    return value


def _text(one: Input, given: str, cwd: Path | None) -> str:
    if cwd is None or not given.startswith("@"):
        return given
    if given.startswith("@@"):
        return given[1:]
    data = read_file(cwd / given[1:], f"file for the input `{one.name}`,")
    if len(data) > MAX_BYTES:
        raise UsageError(f"the file for the input `{one.name}` has over {MAX_BYTES:,} bytes")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"the file {given[1:]} for the input `{one.name}` is not UTF-8") from None
