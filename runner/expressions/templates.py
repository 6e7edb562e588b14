"""Fills `${{ dotted.path }}` in texts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from runner.expressions.parts import PATH, ExpressionError, look_up

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_RENDERED = 1024 * 1024
"""Characters of a rendered template."""

_OPEN = "${{"
_TEMPLATE = re.compile(rf"\$\{{\{{[ \t]*({PATH})[ \t]*\}}\}}")


def template_paths(text: str) -> tuple[tuple[str, int], ...]:
    """Return each dotted path of a template with the offset (from 0) of its `${{`.

    Raises:
        ExpressionError: A `${{` holds anything but one dotted path.
    """
    return tuple((match[1], match.start()) for match in _matches(text))


def render(text: str, lookup: Callable[[str], object]) -> str:
    """Replace each `${{ dotted.path }}` by its value, once: values are never read as templates.

    Raises:
        ExpressionError: A `${{` holds no dotted path, a value is missing, or the result is too big.
    """
    if _OPEN not in text:
        return text
    parts: list[str] = []
    end = 0
    size = len(text)
    for match in _matches(text):
        value = as_text(look_up(lookup, match[1], match.start() + 1))
        size += len(value)
        if size > MAX_RENDERED:
            message = f"the text grows beyond {MAX_RENDERED:,} characters at `{match[1]}`"
            raise ExpressionError(message, match.start() + 1)
        parts += (text[end : match.start()], value)
        end = match.end()
    return "".join([*parts, text[end:]])


def as_text(value: object) -> str:
    """Return how a value is written into text: `true`, `3`, `1.5`, text as it is, else JSON."""
    match value:
        case str():
            return value
        case float() if value.is_integer() and abs(value) < 1e15:
            return str(int(value))
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)


def _matches(text: str) -> list[re.Match[str]]:
    found: list[re.Match[str]] = []
    start = text.find(_OPEN)
    while start >= 0:
        match = _TEMPLATE.match(text, start)
        if match is None:
            raise _bad_template(text, start)
        found.append(match)
        start = text.find(_OPEN, match.end())
    return found


def _bad_template(text: str, start: int) -> ExpressionError:
    end = text.find("}}", start)
    if end < 0 or "\n" in text[start:end]:
        message = "`${{` is not closed by `}}` on its line"
        return ExpressionError(message, start + 1, hint="Write `${{ inputs.NAME }}`.")
    inner = text[start + len(_OPEN) : end].strip()
    if not inner:
        return ExpressionError("`${{ }}` is empty", start + 1, hint="Write `${{ inputs.NAME }}`.")
    return ExpressionError(
        f"`${{{{ {inner[:60]} }}}}` is no dotted name",
        start + 1,
        hint="Between `${{` and `}}` stands one name such as `inputs.change`, nothing else: "
        "decide with `if`, compute in a command.",
    )
