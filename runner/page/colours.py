"""The colours of the page, light and dark, and whether two of them can be told apart. Pure.

Rungs have those of `docs/policy.svg`: blue is a subagent, orange main; a command is grey.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "paper": "#ffffff",
    "panel": "#f5f6f8",
    "ink": "#1c2833",
    "quiet": "#515d68",
    "line": "#d5d9de",
    "link": "#1a5276",
    "command": "#7b8794",
    "subagent": "#2471a3",
    "main": "#d9772b",
    "read": "#138d75",
    "written": "#8e44ad",
    "uncached": "#7b8794",
    "good": "#1b6f3f",
    "bad": "#a93226",
    "warn": "#7e5109",
    "added": "#e3f4e8",
    "removed": "#fbe7e5",
    "bad-paper": "#fdf3f2",
}
DARK: Mapping[str, str] = {
    "paper": "#15191d",
    "panel": "#1d2328",
    "ink": "#e6e9ec",
    "quiet": "#a7b1bb",
    "line": "#39424a",
    "link": "#85c1e9",
    "command": "#8a97a5",
    "subagent": "#5dade2",
    "main": "#f0a15f",
    "read": "#48c9b0",
    "written": "#c39bd3",
    "uncached": "#8a97a5",
    "good": "#7ed6a2",
    "bad": "#f5a59b",
    "warn": "#f0c36d",
    "added": "#15321f",
    "removed": "#3d1f1e",
    "bad-paper": "#291c1c",
}

TEXTS = ("ink", "quiet", "link", "good", "bad", "warn")
"""What text is written in, on `paper` and on `panel`."""
GRAPHICS = ("command", "subagent", "main", "read", "written", "uncached")
"""What charts are drawn in, on `paper`."""


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, 1 to 21 (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
