"""Decides how much of what others wrote a page has room for. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from runner.page.html import Html, escape

LINE = 48
"""Bytes that the markup around a line of a diff takes, at most."""


@dataclass(slots=True)
class Room:
    """The bytes of markup that are left for one kind of thing."""

    left: int

    def takes(self, *parts: Html) -> bool:
        """Tell whether these fit together, and if so, take the room that they need."""
        size = sum(len(part.markup.encode("utf-8", "replace")) for part in parts)
        if size > self.left:
            return False
        self.left -= size
        return True

    def tail(self, text: str, most: int) -> tuple[str, bool]:
        """Return the last whole lines of `text` that fit, and whether any is missing."""
        lines = text.split("\n")
        kept = self._fitting(lines[::-1], most, around=1)[::-1]
        return "\n".join(kept), len(kept) < len(lines)

    def head(self, text: str, most: int) -> tuple[str, bool]:
        """Return the first whole lines of a diff that fit, and whether any is missing."""
        lines = text.split("\n")
        kept = self._fitting(lines, most, around=LINE)
        return "\n".join(kept), len(kept) < len(lines)

    def _fitting(self, lines: list[str], most: int, *, around: int) -> list[str]:
        room = min(most, self.left)
        kept: list[str] = []
        for line in lines:
            # A line that alone would fill the room is cut: what is first or last in it is shown.
            shown = line if len(line) <= most // 8 else f"{line[: most // 8]} [... cut ...]"
            size = len(escape(shown).encode("utf-8", "replace")) + around
            if size > room:
                break
            room -= size
            self.left -= size
            kept.append(shown)
        return kept
