"""Lines as text with a style each, how they become text, and how figures are written. Pure."""

from __future__ import annotations

import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple

from runner.frozen import frozen
from runner.text import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.events import RunStarted

Style = Literal["", "ok", "bad", "warn", "dim", "bold", "bold ok", "bold bad", "bold warn"]

_CODES: Mapping[str, str] = {"ok": "32", "bad": "31", "warn": "33", "dim": "2", "bold": "1"}
"""SGR parameters (ECMA-48). Of the colours only those that are legible on dark and on light."""


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    style: Style = ""


Line = tuple[Span, ...]


@frozen
class Glyphs:
    """The signs that a stream can show."""

    ok: str = "✓"
    bad: str = "✗"
    warn: str = "!"
    skip: str = "-"
    wait: str = "·"
    stop: str = "■"
    dot: str = "·"
    bar: str = "│"
    more: str = "…"
    spin: str = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"

    def of(self, status: str) -> tuple[str, Style]:
        """Return a step status's sign and its style; `allowed` is a failure that may be."""
        match status:
            case "succeeded":
                return self.ok, "ok"
            case "failed":
                return self.bad, "bad"
            case "allowed":
                return self.warn, "warn"
            case "cancelled" | "interrupted" | "killed":
                return self.stop, "warn"
            case "pending":
                return self.wait, "dim"
            case "running":
                return self.spin[0], "bold"
            case _:
                return self.skip, "dim"


UNICODE = Glyphs()
ASCII = Glyphs("ok", "FAIL", "!", "-", ".", "stop", "-", "|", "...", "|/-\\")


def glyphs_for(encoding: str | None) -> Glyphs:
    """Choose the signs that `encoding` has."""
    try:
        (UNICODE.ok + UNICODE.spin + UNICODE.bar + UNICODE.stop).encode(encoding or "ascii")
    except (UnicodeError, LookupError):
        return ASCII
    return UNICODE


def paint(lines: Iterable[Line], *, color: bool) -> str:
    """Turn lines into text, each with a newline; without `color` nothing but the text."""
    return "".join(_paint_line(line, color=color) + "\n" for line in lines)


def _paint_line(line: Line, *, color: bool) -> str:
    spans = list(line)
    # Blanks at the end would wrap in a narrower terminal.
    while spans:
        last = spans.pop()
        if text := last.text.rstrip():
            spans.append(Span(text, last.style))
            break
    return "".join(_paint(span, color=color) for span in spans)


def _paint(span: Span, *, color: bool) -> str:
    text = safe(span.text)
    if not color or not span.style or not text:
        return text
    codes = ";".join(_CODES[word] for word in span.style.split())
    return f"\x1b[{codes}m{text}\x1b[0m"


def safe(text: str) -> str:
    """Return `text` without anything that acts on a terminal: the last door before one."""
    return text if text.isprintable() else clean(text).expandtabs(4).replace("\n", " ")


def cells(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def fit(text: str, width: int, more: str = "…") -> str:
    """Return `text` as one clean line, cut to `width` columns."""
    # One more than could be too long: a blank that is left out where it is cut counts, too.
    text = one_line(text, max(width, 0) + 2)
    if cells(text) <= width:
        return text
    room = width - len(more)
    while text and cells(text) > room:
        text = text[:-1]
    return f"{text.rstrip()}{more}" if room > 0 else ""


def pad(text: str, width: int) -> str:
    """Fill `text` up to `width` columns, on the right."""
    return text + " " * (width - cells(text))


def duration(seconds: float) -> str:
    """Write seconds as people read them: `0.4s`, `41s`, `2m 05s`, `1h 02m`."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest:02}s" if rest else f"{minutes}m"
    return f"{minutes // 60}h {minutes % 60:02}m"


def money(usd: Decimal | None) -> str:
    """Write US dollars: to the cent from one on, else to a hundredth of a cent; `?` is unknown."""
    if usd is None:
        return "$?"
    if usd == 0:
        return "$0"
    if usd < Decimal("0.0001"):
        return "<$0.0001"
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.4f}"


def known_money(known: Decimal, unknown: int) -> str:
    """Write a sum of US dollars of which `unknown` parts are not known."""
    if not unknown:
        return money(known)
    return f"at least {money(known)}" if known else "unknown"


def count(number: int) -> str:
    """Write a number of tokens in at most four digits: `980`, `41.2k`, `1.3M`."""
    if number < 1000:
        return str(number)
    if number < 999_950:
        return f"{number / 1000:.1f}k" if number < 99_950 else f"{number / 1000:.0f}k"
    return f"{number / 1_000_000:.1f}M"


def share(part: int, whole: int) -> str:
    """Write a part in per cent, rounded down, so that only all of it is 100 %; empty of nothing."""
    return f"{100 * part // whole}%" if whole else ""


_DEFAULT = " (the default)"


def budget(start: RunStarted) -> str:
    """Write a run's ceilings, and which of them nobody gave; empty without any."""
    usd, seconds, tokens = start.budget_usd, start.budget_seconds, start.budget_tokens
    default = start.budget_default
    if default is None:
        default = () if start.budget_given else ("usd", "time")
    both = usd is not None and seconds is not None and len(default) > 1
    limits: list[str] = []
    if usd is not None:
        limits.append(money(usd) + (_DEFAULT if "usd" in default and not both else ""))
    if tokens is not None:
        limits.append(f"{count(tokens)} tokens")
    if seconds is not None:
        limits.append(duration(seconds) + (_DEFAULT if "time" in default else ""))
    return ", ".join(limits[:-1]) + (" and " if limits[:-1] else "") + "".join(limits[-1:])


def plural(number: int, noun: str) -> str:
    """Write `1 step`, `2 steps`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def model_name(model: str | None, roles: Mapping[str, str]) -> str:
    """Write a model, given by id or role, as its id without the vendor; empty for none."""
    if not model:
        return ""
    vendor, _, name = roles.get(model, model).partition(":")
    if vendor == "script":
        return f"script:{name.rpartition('/')[2]}"
    return name or vendor
