"""Renders what the journal holds, for `show`, `runs` and `explain`. Pure: records in, text out."""

from __future__ import annotations

import time
from textwrap import wrap
from typing import TYPE_CHECKING

from runner.console.money import baseline_text, cost_text, rung_table
from runner.console.style import (
    UNICODE,
    Line,
    Span,
    Style,
    duration,
    fit,
    money,
    pad,
    paint,
    plural,
)
from runner.console.summary import (
    failure,
    git_text,
    join,
    labelled,
    notes,
    resumed_by,
    step_rows,
    tried,
    verdict,
)
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    Decided,
    Restored,
    StepFinished,
)
from runner.plan import KEEPALIVE
from runner.report import can_resume
from runner.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.events import Event
    from runner.journal import Record, RunRow
    from runner.report import Report, StepReport


def render_show(report: Report, *, width: int = 100, color: bool = False, where: str = "") -> str:
    """Render one run whole: each step with its attempts, failing tails, models, git, notices.

    `where` are the options that the commands it names need, to be about the same repository.
    """
    blocks = [
        _head(report, width),
        step_rows(report, width=width, glyphs=UNICODE),
        *(_attempts(step, report, width=width, where=where) for step in report.steps),
        rung_table(report, width=width),
        notes(report, width=width, glyphs=UNICODE, where=where),
        labelled({"Then": resumed_by(report, where)}, width=width),
        [verdict(report, glyphs=UNICODE)],
    ]
    return paint(join(blocks)[1:], color=color)


def _head(report: Report, width: int) -> list[Line]:
    models = [f"{role} {model.id}" for role, model in report.models.items() if role != KEEPALIVE]
    return labelled(
        {
            "Run": f"{report.run_id} of {report.workflow}",
            "File": fit(report.file, 200),
            "In": fit(report.root, 200),
            "Started": _at(report.started_at),
            "Models": ", ".join(models),
            "Sandbox": report.sandbox,
            "Git": git_text(report),
            "Cost": cost_text(report),
            "Else": baseline_text(report),
            "State": fit(report.state_dir, 200),
        },
        width=width,
    )


def _attempts(step: StepReport, report: Report, *, width: int, where: str) -> list[Line]:
    """What was tried on a step: with all details where it failed, nothing where once was enough."""
    if step.failed:
        return failure(step, report, width=width, glyphs=UNICODE, where=where)
    if len(step.attempts) < 2:
        return []
    sign, style = UNICODE.of(step.status)
    title = fit(step.title, max(20, width - len(step.id) - 6))
    head: Line = (Span(f"{sign} {step.id}", style), Span(f"  {title}", "dim"))
    return [head, *tried(step, report, width=width, glyphs=UNICODE)]


def render_runs(
    rows: Sequence[RunRow], *, now: float, width: int = 100, color: bool = False
) -> str:
    """Render the list of runs, newest first, one line each; `now` in seconds since the epoch."""
    if not rows:
        return "No run has been recorded here. Start one: runner exec\n"
    name = min(max(len(row.workflow) for row in rows), 24)
    return paint((_run_line(row, now, name, width) for row in rows), color=color)


def _run_line(row: RunRow, now: float, name: int, width: int) -> Line:
    # Passed, but with changes in no commit: as the run's own end shows it.
    sign, style = UNICODE.of("cancelled" if row.exit_code == 7 else row.status)
    end = now if row.status == "running" else row.heard_at
    exit_text = "" if row.exit_code is None else f"exit {row.exit_code}"
    cost = "" if row.cost_usd == 0 else money(row.cost_usd)
    if row.scripted:
        cost += " scripted"
    columns = (
        f"  {row.status:<9}",
        f"  {exit_text:<8}",
        f"  {_ago(now - row.started_at):>12}",
        f"  {duration(max(0.0, end - row.started_at)):>7}",
        f"  {cost}",
        "  resumable" if can_resume(row.status, row.exit_code) else "",
    )
    return (
        Span(f"{sign} ", style),
        Span(row.id),
        Span(f"  {pad(fit(row.workflow, name), name)}", "bold"),
        Span(fit_columns(columns, width - len(row.id) - name - 4)),
    )


def fit_columns(columns: Sequence[str], width: int) -> str:
    """Join as many whole columns as fit, at least one."""
    text = columns[0]
    for column in columns[1:]:
        if len((text + column).rstrip()) > width:
            break
        text += column
    return text


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return f"{plural(int(seconds // size), unit)} ago"
    return "just now"


def _at(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(epoch)) if epoch else ""


def render_explain(
    records: Iterable[Record], step: str | None = None, *, width: int = 100, color: bool = False
) -> str:
    """Render what was decided, why and on which facts, for one step or for all."""
    start: float | None = None
    by_step: dict[str, list[Line]] = {}
    for record in records:
        start = record.at if start is None else start
        told = told_of(record.event)
        if told is None or step not in (None, told.step):
            continue
        lines = by_step.setdefault(told.step, [(Span(told.step or "the run", "bold"),)])
        lines += told.lines(record.at - start, width)
    if not by_step:
        return f"Nothing was decided{f' for step {step}' if step else ''}.\n"
    return paint(join(by_step.values())[1:], color=color)


class Told:
    """One event of a step in words."""

    def __init__(
        self, step: str, text: str, style: Style = "", facts: Mapping[str, object] | None = None
    ) -> None:
        self.step = step
        self.text = text
        self._style: Style = style
        self.facts = facts or {}

    def lines(self, at: float, width: int) -> list[Line]:
        """Lay it out: a line with its time, below it the facts."""
        head = f"  {duration(at):>7}  "
        lines: list[Line] = [
            (Span(head, "dim"), Span(fit(self.text, max(40, width * 3 - len(head))), self._style))
        ]
        for name, value in self.facts.items():
            room = max(40, width - 13)
            text = clean(f"{name} = {value}")
            # The choice is the sentence that all the other facts are there for: it is never cut.
            parts = wrap(text, room - 2) if name == "choice" else [fit(text, room)]
            lines += [
                (Span(f"{'':{15 if number else 13}}{part}", "dim"),)
                for number, part in enumerate(parts)
            ]
        return lines


def told_of(event: Event) -> Told | None:
    """Tell an event as `explain` does; `None` where it tells nothing of it."""
    match event:
        case Decided(step, decision, reason, facts):
            return Told(step, f"decided: {decision}, for {reason}", "bold", facts)
        case AttemptStarted(step, number, rung, model):
            return Told(
                step, f"attempt {number} at rung {rung.value}{f' by {model}' if model else ''}"
            )
        case AttemptFinished(step, attempt):
            return Told(step, f"attempt {attempt.number} {attempt.verdict.value}: {attempt.reason}")
        case CommandFinished() if event.purpose != "agent":
            return Told(event.step, _command_text(event))
        case Restored(step, _, paths, external):
            kept = f", {plural(len(external), 'path')} left to others" if external else ""
            return Told(step, f"changes undone in {plural(len(paths), 'path')}{kept}")
        case StepFinished(outcome):
            reason = f": {outcome.reason}" if outcome.reason else ""
            return Told(outcome.id, f"{outcome.status.value}{reason}")
        case _:
            return None


def _command_text(event: CommandFinished) -> str:
    if event.timed_out:
        how = "timed out"
    else:
        how = "ended by the runner" if event.exit_code is None else f"exit {event.exit_code}"
    return f"{event.purpose}: {how} after {duration(event.seconds)}  $ {fit(event.command, 200)}"
