"""What the tamper guard is given and what it says."""

from __future__ import annotations

from runner.frozen import frozen


@frozen
class FileDiff:
    """One text file before and after a mend; `None` where it is absent."""

    path: str
    before: str | None
    after: str | None


@frozen
class Finding:
    """One sign that a mend worked on its judge instead of on the code."""

    path: str
    line: int
    """From 1, in the file as it now is; in the old one where the place is gone."""
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"


def suffix(path: str) -> str:
    """Return what a file's name ends in, lower case and without the dot; empty for none."""
    name = path.rsplit("/", 1)[-1].lower()
    return name.rsplit(".", 1)[-1] if "." in name else ""


PYTHON = frozenset({"py", "pyi", "pyx"})
SCRIPT = frozenset({"js", "jsx", "mjs", "cjs", "ts", "tsx", "mts", "cts", "vue", "svelte"})
SHELL = frozenset({"sh", "bash", "zsh", "mk", "bats"})
