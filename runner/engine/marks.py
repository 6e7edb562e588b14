"""Remembers what this run itself left in the tree; all else that changed is somebody else's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.outcome import Change


@dataclass(slots=True)
class Marks:
    """What the run left at each path that it touched.

    File tools say what they write, and commands run between two snapshots. What changed and is in
    neither was changed by somebody else, the user's editor for example: that is nobody's foul, is
    not undone and belongs to no commit of this run. While a command runs, or an agent has a free
    shell, nobody can tell, and everything counts as the run's.
    """

    blobs: dict[str, str] = field(default_factory=dict[str, str])
    """Git's id of the content, by path; empty for a deletion."""

    def mark(self, blobs: Mapping[str, str], forgotten: Iterable[str] = ()) -> None:
        """Note what the run leaves at paths, and forget others first."""
        for path in forgotten:
            self.blobs.pop(path, None)
        self.blobs.update(blobs)

    def is_ours(self, change: Change) -> bool:
        """Tell whether a change led to what the run left there."""
        return self.blobs.get(change.path) == change.after_blob
