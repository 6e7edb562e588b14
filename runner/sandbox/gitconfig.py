"""Decides what git is told in the sandbox of the user's own settings: who commits, and little else.

Suites make repositories and commit in them; the home that git would look in is empty there. Nothing
that runs a program, names a server or holds a key is taken over.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SMALL = 256 * 1024
_TAKEN = {
    "user": ("name", "email"),
    "init": ("defaultbranch",),
    "safe": ("directory",),
    "core": ("autocrlf",),
}
_STAND_IN = "[user]\n\tname = Nobody\n\temail = nobody@localhost\n"
"""Where the user's name stands in another file that theirs includes, which is not followed."""


def user_settings(home: Path, environ: Mapping[str, str]) -> str:
    """Return what is taken over of the user's own files (git-config(1), FILES)."""
    named = environ.get("XDG_CONFIG_HOME", "")
    config = Path(named) if named.startswith("/") else home / ".config"
    return taken(_text(path) for path in (config / "git" / "config", home / ".gitconfig"))


def taken(files: Iterable[str]) -> str:
    r"""Return the settings that are taken over, as a file of their own, from the texts of files.

    >>> taken(["[user]\n\tname = Ada\n[credential]\n\thelper = store\n"])
    '[user]\n\tname = Ada\n'
    """
    parts: list[str] = []
    for text in files:
        lines = text.splitlines()
        if any(line.lstrip().lower().startswith("[include") for line in lines):
            parts.append(_STAND_IN)
        section = ""
        for line in lines:
            if line.lstrip().startswith("["):
                section, line = _header(line)
            key, sign, _ = line.partition("=")
            plain = sign and not line.endswith("\\")
            if plain and key.strip().lower() in _TAKEN.get(section, ()):
                parts.append(f"[{section}]\n\t{line.strip()}\n")
    return "".join(parts)


def _header(line: str) -> tuple[str, str]:
    """Return a section's name and what stands behind it; no name where it has a subsection."""
    name, closed, rest = line.lstrip()[1:].partition("]")
    return (name.strip().lower(), rest) if closed and '"' not in name else ("", "")


def _text(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            return file.read(_SMALL)
    except OSError:
        return ""
