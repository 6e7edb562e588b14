"""Lists the forms in which a secret may show up in text. Pure."""

from __future__ import annotations

import base64
import html
import json
import shlex
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORTEST = 8
"""Bytes; to hide shorter values would make every text unreadable and hide nothing."""
_WRAPS = (76, 64)
"""Columns at which `base64` and PEM break lines (RFC 2045 section 6.8, RFC 7468 section 2)."""


def forms_of(secret: str) -> frozenset[bytes]:
    """Return a secret as it is, its lines, and what encoders and quoting make of each.

    Base64 (plain and URL-safe, at all three alignments inside other data, broken into lines or
    not), hex, percent-encoding, JSON, XML and HTML, Python's `repr`, and quoting for a shell.
    """
    lines = (line.strip() for line in secret.splitlines())
    texts = {secret, secret.strip(), *lines}
    found = {form for text in texts if _long(text) for form in _written(text)}
    return frozenset(form for form in found if len(form) >= SHORTEST)


def _long(text: str) -> bool:
    return len(_bytes(text)) >= SHORTEST


def _written(text: str) -> Iterator[bytes]:
    yield from map(_bytes, _quoted(text))
    raw = _bytes(text)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            yield from _aligned(encode(bytes(before) + raw), before, len(raw))
        for width in _WRAPS:
            whole = encode(raw).rstrip(b"=")
            yield from (whole[at : at + width] for at in range(0, len(whole), width))
    yield raw.hex().encode()
    yield raw.hex().upper().encode()


def _aligned(encoded: bytes, before: int, size: int) -> Iterator[bytes]:
    """Cut off the characters that what stands before and after the secret has a part in."""
    yield encoded[-(-before * 8 // 6) : (before + size) * 8 // 6]


def _quoted(text: str) -> Iterator[str]:
    yield text
    for ascii_only in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")
        yield json.dumps(escaped, ensure_ascii=ascii_only)[1:-1]  # JSON in a string of JSON
    yield repr(text)[1:-1]
    yield html.escape(text)
    yield html.escape(text, quote=False)
    yield from _percent(text)
    yield from _for_a_shell(text)


def _percent(text: str) -> Iterator[str]:
    raw = _bytes(text)
    for made in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        yield made
        yield _lower_escapes(made)  # hex digits of either case are equal (RFC 3986 section 2.1)


def _lower_escapes(made: str) -> str:
    first, *rest = made.split("%")
    return first + "".join(f"%{part[:2].lower()}{part[2:]}" for part in rest)


def _for_a_shell(text: str) -> Iterator[str]:
    quoted = shlex.quote(text)
    yield quoted.removeprefix("'").removesuffix("'")
    yield text.replace("'", "'\\''")
    yield "".join(f"\\{char}" if char in '$`"\\' else char for char in text)  # in double quotes
    # What bash's `printf %q` and `set -x` write without quotes.
    yield "".join(char if char.isalnum() or char in "_-./:=@%+,~" else f"\\{char}" for char in text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
