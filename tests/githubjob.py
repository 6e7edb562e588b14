"""Reads a job's log as GitHub's runner does, to see which workflow commands it would obey.

Told after https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs:
`::name key=value,...::data` at the start of a line, spaces aside, and the older
`##[name key=value;...]data` anywhere in one. It compares words as a culture does, so characters
without a shape do not count.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN = (
    "add-mask", "add-matcher", "add-path", "debug", "echo", "endgroup", "error", "group", "notice",
    "remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning",
)  # fmt: skip


@dataclass(frozen=True)
class Command:
    """One command that was obeyed."""

    name: str
    facts: Mapping[str, str]
    data: str


def commands(log: str) -> list[Command]:
    """Return every command of a log, in order."""
    lines = re.split(r"[\r\n]", log)
    return [one for line in lines if (one := _new(_shaped(line)) or _old(_shaped(line)))]


def _shaped(line: str) -> str:
    """Drop what has no shape: control characters, and what joins or directs others."""
    return "".join(
        c for c in line if unicodedata.category(c) not in ("Cc", "Cf", "Mn") or c == "\t"
    )


def _new(line: str) -> Command | None:
    line = line.lstrip()
    head, end, data = line[2:].partition("::")
    if not line.startswith("::") or not end:
        return None
    name, _, rest = head.partition(" ")
    pairs = (one.split("=", 1) for one in rest.strip().split(",") if "=" in one)
    facts = {key: _plain(_plain(value, "%3A", ":"), "%2C", ",") for key, value in pairs}
    facts = {key: _data(value) for key, value in facts.items()}
    return Command(name, facts, _data(data)) if name in KNOWN else None


def _old(line: str) -> Command | None:
    _, begun, rest = line.partition("##[")
    head, end, data = rest.partition("]")
    name = head.partition(" ")[0]
    return Command(name, {}, data) if begun and end and name in KNOWN else None


def _data(text: str) -> str:
    return _plain(_plain(_plain(text, "%0D", "\r"), "%0A", "\n"), "%25", "%")


def _plain(text: str, escaped: str, meant: str) -> str:
    return text.replace(escaped, meant)
