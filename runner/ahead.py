"""Tells from the steps ahead how long main will not be asked, and how surely it is. Pure."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen
from runner.keepwarm import Ahead

if TYPE_CHECKING:
    from collections.abc import Sequence


@frozen(kw_only=True)
class StepAhead:
    """A step that is not finished, as far as the main's cache is concerned."""

    id: str
    needs: tuple[str, ...] = ()
    """Ids of steps that end before it begins; those that are not listed have ended."""
    seconds: float | None = None
    """How long it usually takes, as `usual` tells; `None` where nobody knows, 0 for a group."""
    elapsed: float = 0.0
    """For how many seconds it has been running."""
    chance: float = 0.0
    """That it asks main, from 0 to 1: 1 for a prompt of the main agent and for delegated work."""
    asks: Literal["start", "end"] = "end"
    """When it asks main: a prompt at its start; a failing command and delegated work at the end."""


def usual(past: Sequence[float]) -> float | None:
    """Return the median of what a step took in past runs, in seconds; `None` without any."""
    if not past:
        return None
    ordered, half = sorted(past), len(past) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def next_ask(steps: Sequence[StepAhead]) -> Ahead:
    """Tell how long the main agent will not be asked, and whether it is at all.

    Steps run as soon as what they need has ended, on as many cores as there are; one that waits
    for its turn even so asks now. A running step that takes longer than usual is one of unknown
    length. The time is the mean over who may ask first; where nobody may ask for certain, until
    nobody can ask any more.

    Args:
        steps: All that are not finished, each after those that it needs.
    """
    silent, mean, last = 1.0, 0.0, 0.0
    for when, chance in _asked(steps):
        mean += silent * chance * when
        last = when
        silent *= 1.0 - chance
        if silent <= 0.0:
            break
    if last == inf or silent >= 1.0:
        return Ahead(None, 1.0 - silent)
    return Ahead(mean + silent * last, 1.0 - silent)


def pauses_ahead(steps: Sequence[StepAhead]) -> tuple[Ahead, ...]:
    """Tell every pause that the conversation will have, in order; for `choose_retention`.

    One ends at each step that asks main for certain, and the last one where only some may.

    Args:
        steps: All after the one that opens the conversation, each after those that it needs.
    """
    pauses: list[Ahead] = []
    rest = list(steps)
    while rest:
        pause = next_ask(rest)
        if pause.use <= 0.0:
            break
        pauses.append(pause)
        surely = next((step for step in rest if step.chance >= 1.0), None)
        if surely is None:
            break
        ended = _with_needs(surely, rest)
        rest = [step for step in rest if step.id not in ended]
    return tuple(pauses)


def _asked(steps: Sequence[StepAhead]) -> list[tuple[float, float]]:
    """Return when each step may ask main, in seconds from now or `inf`, and how likely it is."""
    ends: dict[str, float] = {}
    asked: list[tuple[float, float]] = []
    for step in steps:
        begins = max((ends[name] for name in step.needs if name in ends), default=0.0)
        takes = inf if step.seconds is None else step.seconds
        late = 0.0 < takes <= step.elapsed
        ends[step.id] = begins + (inf if late else max(0.0, takes - step.elapsed))
        if step.chance > 0.0:
            asked.append((begins if step.asks == "start" else ends[step.id], step.chance))
    return sorted(asked)


def _with_needs(step: StepAhead, steps: Sequence[StepAhead]) -> frozenset[str]:
    """Return the ids of a step and of all that it needs, directly or not."""
    by_id = {one.id: one for one in steps}
    found: set[str] = set()
    open_ids = [step.id]
    while open_ids:
        name = open_ids.pop()
        if name in by_id and name not in found:
            found.add(name)
            open_ids.extend(by_id[name].needs)
    return frozenset(found)
