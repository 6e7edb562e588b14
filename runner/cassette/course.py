"""Folds a run's events into the rows that a cassette keeps of it, and compares two runs by them.

Steps run side by side, so rows stand by step, in the order of the workflow, not by time.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.cassette.differ import rows_diff
from runner.cassette.places import still
from runner.events import (
    AttemptFinished,
    CommandFinished,
    Decided,
    Event,
    ModelResponded,
    StepFinished,
)
from runner.models.choice import SCRIPT, is_scripted
from runner.outcome import Rung
from runner.report.published import exact
from runner.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from decimal import Decimal

    from runner.report import Report

OUTPUT_CHARACTERS = 2_000
"""Of a command's output, its end, that is kept for people."""
_READ_BYTES = 16_000
"""More than that, so that no secret is cut in two before it is masked."""
_COSTS = ("cost_usd", "prices")

Json = dict[str, Any]


class Course:
    """What happened in a run, as rows: fed with its events.

    Args:
        steps: Shown ids of the workflow's steps, in order.
        say: Masks a text and replaces the run's own names.
    """

    def __init__(self, steps: Sequence[str], say: Callable[[str], str]) -> None:
        self._order = {step: place for place, step in enumerate(steps)}
        self._say = say
        self._commands: dict[str, list[Json]] = {}
        self._decisions: dict[str, list[Json]] = {}

    def hear(self, event: Event) -> None:
        """Take up the next event."""
        match event:
            case CommandFinished():
                self._commands.setdefault(event.step, []).append(self._command(event))
            case Decided(step, decision, reason):
                self._add(step, decided=self._said(decision), reason=self._said(reason))
            case ModelResponded():
                self._add(event.step, **_response(event))
            case AttemptFinished(step, attempt):
                self._add(
                    step,
                    rung=attempt.rung.value,
                    model=_model(attempt.model or ""),
                    verdict=attempt.verdict.value,
                    reason=self._said(attempt.reason),
                    files=list(attempt.files),
                )
            case StepFinished(outcome):
                self._add(
                    outcome.id,
                    status=outcome.status.value,
                    rung=outcome.rung.value if outcome.rung else "",
                    reason=self._said(outcome.reason),
                    verified=outcome.verified,
                )
            case _:
                pass

    @property
    def commands(self) -> tuple[Json, ...]:
        """One row for each command, by step."""
        return self._sorted(self._commands)

    def decisions(self, report: Report) -> tuple[Json, ...]:
        """One row for each decision, response, attempt and step, by step; then the run's end."""
        end = {
            "run": report.status,
            "exit_code": report.exit_code,
            **({} if report.scripted else {"cost_usd": _exact(report.cost_usd)}),
            "prices": list(report.prices or ()),
        }
        return (*self._sorted(self._decisions), end)

    def _add(self, step: str, **row: Any) -> None:
        rows, told = self._decisions.setdefault(step, []), {"step": step, **row}
        # A command runs again where steps beside it changed the tree meanwhile: a matter of time.
        if not (rows and told == rows[-1] and row.get("rung") == Rung.COMMAND.value):
            rows.append(told)

    def _said(self, text: str) -> str:
        return still(self._say(text))

    def _command(self, event: CommandFinished) -> Json:
        return {
            "step": event.step,
            "purpose": event.purpose,
            "command": self._say(event.command),
            "exit_code": event.exit_code,
            "timed_out": event.timed_out,
            "output": self._said(clean(_end_of(event.log)))[-OUTPUT_CHARACTERS:],
        }

    def _sorted(self, rows: dict[str, list[Json]]) -> tuple[Json, ...]:
        return tuple(row for step in sorted(rows, key=self._place) for row in rows[step])

    def _place(self, step: str) -> tuple[int, str]:
        """A delegated step stands behind the one that main was asked for."""
        known = step
        while known and known not in self._order:
            known = known.rpartition("/")[0]
        return self._order.get(known, len(self._order)), step


def commands_diff(
    before: Iterable[Json], after: Iterable[Json], leave: Collection[str], *, so_far: bool = False
) -> str:
    """Compare how commands ended; empty where they ended alike.

    What ran twice in a row with the same end counts once: a step that runs beside others may have
    to run its command again, for they changed the tree. Whether a clean checkout is looked at
    before a commit depends on what lies around (the cassette itself); what it says is decided on.

    Args:
        before: Rows of the one run.
        after: Rows of the other.
        leave: Steps that are not compared.
        so_far: Whether the other was cut short: what it did not come to is no difference.
    """
    old, new = _ends(before, leave), _ends(after, leave)
    if so_far:
        come_to = Counter(row["step"] for row in new)
        seen = Counter[str]()
        kept: list[Json] = []
        for row in old:
            seen[row["step"]] += 1
            if seen[row["step"]] <= come_to[row["step"]]:
                kept.append(row)
        old = kept
    return rows_diff(old, new)


def decisions_diff(before: Sequence[Json], after: Sequence[Json], leave: Collection[str]) -> str:
    """Compare what was decided, asked, judged and paid; empty where it was the same.

    By another price table the same tokens cost something else: then no cost is compared.
    """
    tables = {str(row["prices"]) for row in (*before, *after) if row.get("prices")}
    without = _COSTS if len(tables) > 1 else ()
    old, new = (
        [
            {name: value for name, value in row.items() if name not in without}
            for row in rows
            if row.get("step") not in leave
        ]
        for rows in (before, after)
    )
    return rows_diff(old, new)


def _ends(rows: Iterable[Json], leave: Collection[str]) -> list[Json]:
    kept = ("step", "purpose", "command", "exit_code", "timed_out")
    ends = (
        {name: row.get(name) for name in kept}
        for row in rows
        if row.get("step") not in leave and row.get("purpose") != "clean"
    )
    return [one for one, _ in groupby(ends)]


def _response(event: ModelResponded) -> Json:
    usage = event.usage
    if event.scripted:
        # Its tokens are estimated from bytes, those too that a program prints anew each time.
        return {"role": event.role, "asked": _model(event.asked)}
    return {
        "role": event.role,
        "asked": event.asked,
        "served": event.served,
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "cost_usd": _exact(event.cost_usd),
    }


def _exact(usd: Decimal | None) -> str | None:
    return None if usd is None else exact(usd)


def _model(model_id: str) -> str:
    """Name a model; of a script's file only its name, for it may lie anywhere."""
    return f"{SCRIPT}:{Path(model_id).name}" if is_scripted(model_id) else model_id


def _end_of(log: str) -> str:
    """Read the end of a command's log; nothing where it has none any more."""
    if not log:
        return ""
    try:
        with Path(log).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _READ_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
