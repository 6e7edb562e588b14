"""Makes text from outside safe to show and to quote: cleaned, capped, on one line, fenced."""

from __future__ import annotations

import os
import re

_ESCAPES = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # strings
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # CSI
    r"|\x1b[ -/]*[0-~]?"  # the two- and three-byte ones
)
"""Terminal control sequences (ECMA-48): OSC, DCS, SOS, PM, APC; CSI; the rest. An unterminated
string ends with its line, so that no program can hide what comes after it."""

_ERASED = re.compile(r"^[^\n]*(?:\x1b\[[12]K|\r\x1b\[0?K)", re.MULTILINE)
"""A line wiped before it is written anew, as progress bars do it."""

_LINE_BREAKS = re.compile(r"(?<!\r)\r+\n|[\x0b\x0c\x85\u2028\u2029]")

_INVISIBLE = re.compile(
    "["
    "\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0 and C1 but tab, LF and what `_LINE_BREAKS` made LF
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"  # soft hyphen, joiners, fillers
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f"  # zero width, bidi
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U000e0000-\U000e0fff"  # tags (invisible ASCII) and variation selectors
    "]"
)

_SURROGATES = re.compile("[\ud800-\udfff]")

_LEFT_OUT = "[... {} bytes left out ...]"


def clean(text: str) -> str:
    r"""Return `text` as a reader would see it, with nothing in it that acts on a terminal.

    Terminal sequences, control characters other than `\n` and `\t`, bidi and zero-width characters
    go; a carriage return overwrites its line from the start; lone surrogates become U+FFFD.
    """
    text = _ERASED.sub("", text)
    text = _ESCAPES.sub("", text)
    text = _LINE_BREAKS.sub("\n", text)
    if "\r" in text:
        text = "\n".join(_overwrite(line) for line in text.split("\n"))
    if "\b" in text:
        text = _backspace(text)
    text = _INVISIBLE.sub("", text)
    return _SURROGATES.sub("\ufffd", text)


def _overwrite(line: str) -> str:
    """Resolve carriage returns: later text covers earlier text, as far as it reaches."""
    if "\r" not in line:
        return line
    seen: list[str] = []
    covered = 0
    for part in reversed(line.split("\r")):
        if len(part) > covered:
            seen.append(part[covered:])
            covered = len(part)
    return "".join(seen)


def _backspace(text: str) -> str:
    """Resolve backspaces within a line, as `man` uses them to print bold."""
    kept: list[str] = []
    for char in text:
        if char != "\b":
            kept.append(char)
        elif kept and kept[-1] != "\n":
            kept.pop()
    return "".join(kept)


def head_tail(text: str, limit_bytes: int, head_share: float = 0.25) -> str:
    """Return `text` cut to at most `limit_bytes` bytes of UTF-8, its middle left out.

    Cut at ends of lines where there are any near enough, never within a character. A line in the
    place of the middle tells how many bytes are missing; where not even that fits, the tail alone.

    Args:
        text: Any text; lone surrogates become `?`.
        limit_bytes: Upper bound of the result, in bytes; below 1 gives an empty text.
        head_share: Part of the room that the head gets, 0 to 1.
    """
    data = text.encode("utf-8", "replace")
    if len(data) <= limit_bytes:
        return data.decode()
    marker_room = len(_LEFT_OUT.format(len(data))) + 2
    room = limit_bytes - marker_room
    if room < marker_room:
        return data[len(data) - max(limit_bytes, 0) :].decode("utf-8", "ignore")
    head_room = int(room * min(max(head_share, 0.0), 1.0))
    head = _head_at_line(data[:head_room])
    tail = _tail_at_line(data[len(data) - (room - head_room) :])
    marker = _LEFT_OUT.format(len(data) - len(head.encode()) - len(tail.encode()))
    before = "" if not head or head.endswith("\n") else "\n"
    return f"{head}{before}{marker}\n{tail}"


def _head_at_line(data: bytes) -> str:
    """Cut a head at its last end of line, unless that would lose more than half of it."""
    cut = data.rfind(b"\n") + 1
    return (data[:cut] if cut > len(data) // 2 else data).decode("utf-8", "ignore")


def _tail_at_line(data: bytes) -> str:
    """Cut a tail at its first end of line, unless that would lose more than half of it."""
    cut = data.find(b"\n") + 1
    return (data[cut:] if 0 < cut <= len(data) // 2 else data).decode("utf-8", "ignore")


def one_line(text: str, limit: int) -> str:
    """Return `text` cleaned, as one line of at most `limit` characters; an ellipsis where cut."""
    flat = " ".join(clean(text).split())
    if len(flat) <= limit:
        return flat
    return flat[: max(limit - 1, 0)].rstrip() + "…" if limit > 0 else ""


def fence(text: str, label: str, *, token: str | None = None) -> str:
    """Put text that is data, not instructions, between two delimiters that it cannot contain.

    Args:
        text: Untrusted text; cleaned here, for invisible characters could split a delimiter.
        label: What it is, for the reader; reduced to one line without angle brackets.
        token: Makes the delimiter the same for the same text (a run's own secret).
            Without it: 64 random bits.
    """
    inner = clean(text)
    base = token if token is not None else os.urandom(8).hex()
    mark, more = base, 0
    while mark.casefold() in inner.casefold():
        more += 1
        mark = f"{base}-{more}"
    name = one_line(re.sub(r"[<>]", "", label), 80)
    end = "" if not inner or inner.endswith("\n") else "\n"
    return f"<untrusted-{mark} {name}>\n{inner}{end}</untrusted-{mark}>"
