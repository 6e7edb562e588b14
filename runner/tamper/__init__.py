"""Decides from a diff whether a mend worked on its judge instead of on the code.

A guard by patterns: it finds the common ways, not every way; what it may write and the command's
exit code are judged elsewhere. Code that was moved, renamed or reformatted is no finding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.scope import is_test
from runner.tamper.nouns import FileDiff, Finding

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.guarded import Nature

__all__ = ("FileDiff", "Finding", "findings")

_LARGEST = 1_000_000
"""Characters; a larger file is generated or data."""


def findings(files: Iterable[FileDiff], nature: Nature) -> tuple[Finding, ...]:
    """Return every sign of tampering in what a mend changed, in the order of the files.

    Args:
        files: The text files that differ, all of them: a move is only seen with both its ends.
        nature: What the step judges. For a format step a changed assertion is none of its
            business either way, so everything is looked for whatever the nature.
    """
    del nature
    # A run without a mend needs none of it.
    from runner.tamper.asserts import changed  # noqa: PLC0415  only a mend needs it
    from runner.tamper.judges import eased  # noqa: PLC0415  only a mend needs it
    from runner.tamper.renames import joined  # noqa: PLC0415  only a mend needs it
    from runner.tamper.suppressions import added  # noqa: PLC0415  only a mend needs it

    looked = joined(
        tuple(
            file
            for file in files
            if file.before != file.after
            and max(len(file.before or ""), len(file.after or "")) <= _LARGEST
        )
    )
    paths = {path for file in looked for path in (file.path, file.old_path)}
    tests = frozenset(path for path in paths if is_test(path))
    found = [*added(looked, tests), *changed(looked, tests), *eased(looked)]
    order = {file.path: place for place, file in enumerate(looked)}
    found.sort(key=lambda finding: (order[finding.path], finding.line, finding.what))
    return tuple(dict.fromkeys(found))
