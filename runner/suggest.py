"""Finds the word that somebody probably meant, for error messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str:
    """Return the known word nearest to `word`, or an empty text when none is near."""
    from difflib import get_close_matches  # noqa: PLC0415  only when something is wrong: 3 ms

    plain = {_plain(candidate): candidate for candidate in known}
    # One letter of three is a third: `rum` is nearer to `run` than the figure says.
    cutoff = 0.6 if len(word) <= 3 else 0.7
    matches = get_close_matches(_plain(word[:80]), plain, n=1, cutoff=cutoff)
    return plain[matches[0]] if matches else ""


def did_you_mean(word: str, known: Iterable[str], *, label: str = "Known") -> str:
    """Return a hint: the nearest known word if there is one, and all of them when they are few."""
    words = sorted(known)
    nearest = closest(word, words)
    parts = [f"Did you mean `{nearest}`?"] if nearest else []
    if words and (len(words) <= 20 or not nearest):
        shown = ", ".join(words[:30])
        parts.append(f"{label}: {shown}{' ...' if len(words) > 30 else ''}.")
    return " ".join(parts)


def _plain(word: str) -> str:
    """Fold what people mix up: case, hyphens, underscores and spaces."""
    return word.lower().replace("-", "_").replace(" ", "_")
