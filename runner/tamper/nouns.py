"""What the tamper guard is given and what it says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from runner.frozen import frozen


@frozen
class FileDiff:
    """One text file before and after a mend; `None` where it is absent."""

    path: str
    before: str | None
    after: str | None
    was: str = ""
    """Its path before, where it has another one now."""

    @property
    def old_path(self) -> str:
        """The path that `before` was at."""
        return self.was or self.path


@frozen
class Finding:
    """One sign that a mend worked on its judge instead of on the code."""

    path: str
    line: int
    """From 1, in the file as it now is; in the old one where the place is gone."""
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


STRONG, WEAK, EMPTY = 2, 1, 0
"""An assertion that compares with something; one about truth or presence; one that cannot fail."""

HELPERS = ""
"""The name under which the assertions of a test file outside of its tests are counted."""


@dataclass(slots=True)
class Checked:
    """What one test asserts."""

    name: str
    line: int
    strengths: list[int] = field(default_factory=list[int])
    constants: Counter[str] = field(default_factory=Counter[str])
    """Numbers and texts that its assertions compare with."""
    swallowed: int = 0
    """Assertions whose failure is caught, and whatever never runs."""
    cases: int = 0
    """Rows of its parameters, where they are written out."""
    counted: bool = True
    """Whether all of its parameters are written out."""
    rows: int = 0
    """Rows of what its assertions are repeated for."""
    does: bool = True
    """Whether it does anything."""
    collected: bool = True
    """Whether test runners would find it by its name."""


def suffix(path: str) -> str:
    """Return what a file's name ends in, lower case and without the dot; empty for none."""
    name = path.rsplit("/", 1)[-1].lower()
    return name.rsplit(".", 1)[-1] if "." in name else ""


PYTHON = frozenset({"py", "pyi", "pyx"})
SCRIPT = frozenset({"js", "jsx", "mjs", "cjs", "ts", "tsx", "mts", "cts", "vue", "svelte"})
SHELL = frozenset({"sh", "bash", "zsh", "mk", "bats"})
