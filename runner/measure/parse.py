"""Takes single values out of a log's records without trusting them. Pure."""

from __future__ import annotations

import json
import re
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeGuard

LONGEST = 8_000_000
"""Bytes of a line that is still read; pasted pictures make longer ones, usage never does."""
TOO_LONG = b"\0"
"""Stands for a longer line: no line of a log is that byte alone."""
_MOST = 10**10
"""Tokens that one request could have at most: more is nonsense."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_PROVIDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/@:+-]{0,99}")
UNNAMED = "unlisted:unnamed"

Json = dict[str, Any]


def is_object(value: object) -> TypeGuard[Json]:
    """Tell whether a JSON value is an object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Tell whether a JSON value is a list."""
    return isinstance(value, list)


def objects(value: object) -> list[Json]:
    """Return the objects of a list; none of anything else."""
    return [one for one in value if is_object(one)] if is_list(value) else []


def parsed(line: bytes | str) -> Json | None:
    """Return a line's object; `None` when it is none. Says nothing of why: that would quote it."""
    try:
        value: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if is_object(value) else None


def inside(value: object, *names: str) -> Json:
    """Return the object at a path; empty when there is none."""
    for name in names:
        value = value.get(name) if is_object(value) else None
    return value if is_object(value) else {}


def text(value: object) -> str:
    """Return a string; empty of anything else."""
    return value if isinstance(value, str) else ""


def tokens(value: object) -> int | None:
    """Return a count of tokens: 0 where none is given, `None` of what cannot be one."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= _MOST else None


def seconds(value: object) -> float | None:
    """Return a time of ISO 8601 in seconds since the epoch; `None` of anything else."""
    if not isinstance(value, str) or not 19 <= len(value) <= 40:
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.timestamp() if moment.tzinfo else None
    except (ValueError, OverflowError, OSError):
        return None


def digest(*parts: str) -> int:
    """Return 63 bits that stand for a text that must not go further."""
    data = "\0".join(parts).encode(errors="surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest()) >> 1


def session_name(value: str) -> str:
    """Return a session's UUID; a digest of anything else, which could be content."""
    found = _UUID.search(value[-80:].lower())
    return found.group() if found else f"{digest(value):016x}"


def model_id(name: object, provider: str) -> str:
    """Return `provider:model`; a fixed name where what stands there cannot be a model's."""
    plain = text(name).partition("[")[0]  # `[1m]` asks for a longer window
    known = _PROVIDER.fullmatch(provider) and _MODEL.fullmatch(plain)
    return f"{provider}:{plain}" if known else UNNAMED
