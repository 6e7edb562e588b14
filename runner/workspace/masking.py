"""Hides secrets in what commands write and in what listeners hear."""

from __future__ import annotations

import json
import re
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

HIDDEN = "***"
_SHORTEST = 4
"""Characters; hiding shorter values would make every text unreadable and hide nothing."""


class Mask:
    """The secrets of one run; false when there is none.

    A secret of several lines is hidden line by line, and as it is written in JSON.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        forms = {form for secret in secrets for form in _forms(secret)}
        self.forms = tuple(sorted(forms, key=lambda form: (-len(form), form)))
        self._text = re.compile("|".join(map(re.escape, self.forms)))

    def __bool__(self) -> bool:
        return bool(self.forms)

    def text(self, text: str) -> str:
        """Hide secrets in a text."""
        return self._text.sub(HIDDEN, text) if self.forms else text

    def noun(self, value: T) -> T:
        """Hide secrets in all texts of a frozen noun, a mapping or a tuple, however deep."""
        found: Any = value
        if type(found) is str:
            found = self.text(found)
        elif isinstance(found, dict):
            found = {k: self.noun(v) for k, v in cast("Mapping[Any, Any]", found).items()}
        elif isinstance(found, tuple | list):
            masked = [self.noun(one) for one in cast("Iterable[Any]", found)]
            found = masked if isinstance(found, list) else tuple(masked)
        elif is_dataclass(found) and not isinstance(found, type):
            found = replace(
                found, **{one.name: self.noun(getattr(found, one.name)) for one in fields(found)}
            )
        return cast("T", found)


class MaskedStream:
    """Hides secrets in a stream of bytes, those too that come in two pieces."""

    def __init__(self, mask: Mask) -> None:
        self._forms = tuple(form.encode("utf-8", "surrogateescape") for form in mask.forms)
        self._bytes = re.compile(b"|".join(map(re.escape, self._forms)))
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """Return what can be told so far; the beginning of a secret is held back."""
        data = self._bytes.sub(HIDDEN.encode(), self._held + chunk)
        held = next((size for size in self._sizes(data) if self._begins(data[-size:])), 0)
        self._held = data[len(data) - held :]
        return data[: len(data) - held]

    def rest(self) -> bytes:
        """Return what was held back to the end: it was none."""
        rest, self._held = self._held, b""
        return rest

    def _sizes(self, data: bytes) -> range:
        return range(min(len(self._forms[0]) - 1, len(data)), 0, -1)

    def _begins(self, end: bytes) -> bool:
        return any(form.startswith(end) for form in self._forms)


def _forms(secret: str) -> Iterable[str]:
    lines = (line.strip() for line in secret.splitlines())
    for form in (secret, *lines):
        if len(form) >= _SHORTEST:
            yield form
            yield json.dumps(form)[1:-1]
