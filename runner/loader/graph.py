"""Decides the order of steps: what each needs, what comes before it, whether that can be."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Graph(NamedTuple):
    """Steps by number, in the order of the file."""

    needs: tuple[tuple[int, ...], ...]
    order: tuple[int, ...]
    """A possible order: every step after all that it needs."""
    before: tuple[int, ...]
    """For each step a bit mask of all steps before it, near or far."""

    def comes_after(self, step: int, other: int) -> bool:
        """Return whether `other` has ended whenever `step` starts."""
        return bool(self.before[step] >> other & 1)


def arrange(needs: Sequence[Sequence[int]]) -> Graph | tuple[int, ...]:
    """Return the graph, or the steps of a cycle, the first one repeated at the end."""
    waiting = [len(set(one)) for one in needs]
    unlocks: list[list[int]] = [[] for _ in needs]
    for number, wanted in enumerate(needs):
        for other in set(wanted):
            unlocks[other].append(number)
    order = [number for number, count in enumerate(waiting) if count == 0]
    before = [0] * len(needs)
    for number in order:  # grows while it is read
        for later in unlocks[number]:
            before[later] |= before[number] | 1 << number
            waiting[later] -= 1
            if waiting[later] == 0:
                order.append(later)
    if len(order) < len(needs):
        return _cycle(needs, waiting)
    return Graph(tuple(tuple(one) for one in needs), tuple(order), tuple(before))


def _cycle(needs: Sequence[Sequence[int]], waiting: Sequence[int]) -> tuple[int, ...]:
    """Walk from a step that never starts to one that it waits for, until one comes again."""
    here = next(number for number, count in enumerate(waiting) if count)
    path: list[int] = []
    while here not in path:
        path.append(here)
        here = next(other for other in needs[here] if waiting[other])
    return (*path[path.index(here) :], here)
