"""Writes how a run ended: what failed, what was tried, what to do next, what it cost. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePath
from textwrap import wrap
from typing import TYPE_CHECKING

from runner.console.money import baseline_text, breaks, cost_text, misses, rung_table
from runner.console.rows import layout, row_of
from runner.console.style import (
    Glyphs,
    Line,
    Span,
    Style,
    cells,
    duration,
    fit,
    model_name,
    money,
    pad,
    paint,
    plural,
)
from runner.outcome import Rung, Usage, Verdict
from runner.report import Report, StepReport, can_resume, meaning
from runner.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.outcome import Attempt

TAIL_LINES = 15
_TAIL_SLACK = 5
"""No fewer lines are left out than that: what a linter says first is what is wrong."""
_TAIL_COLUMNS = 400
"""A longer line of output is cut; the log has all of it."""
_REASON = 300
"""An attempt's reason is cut there."""
_ROWS = 40
"""With more steps, those that passed at rung `command` are only counted."""


def render_end(
    report: Report, *, width: int, color: bool, glyphs: Glyphs, steps: bool = True, where: str = ""
) -> str:
    """Write the end of a run.

    Args:
        report: What happened.
        width: Columns.
        color: Whether to colour.
        glyphs: The signs that the stream can show.
        steps: Whether a row for each step belongs to it.
        where: Options without which the commands that are named would not find this run.
    """
    blocks = [
        step_rows(report, width=width, glyphs=glyphs) if steps else [],
        *(
            failure(step, report, width=width, glyphs=glyphs, where=where)
            for step in report.steps
            if step.failed
        ),
        rung_table(report, width=width),
        notes(report, width=width, glyphs=glyphs, where=where),
        facts(report, width=width, where=where),
        [verdict(report, glyphs=glyphs)],
    ]
    return paint(join(blocks), color=color)


def join(blocks: Iterable[list[Line]]) -> list[Line]:
    """Put blocks under each other, an empty line before each; empty ones are left out."""
    lines: list[Line] = []
    for block in blocks:
        if block:
            lines += [(), *block]
    return lines


def step_rows(report: Report, *, width: int, glyphs: Glyphs) -> list[Line]:
    """One row for each step; of many, those that passed without a token are counted."""
    shown = list(report.steps)
    folded = 0
    if len(shown) > _ROWS:
        shown = [step for step in shown if not _unremarkable(step)]
        folded = len(report.steps) - len(shown)
    used: defaultdict[str, Usage] = defaultdict(Usage)
    for response in report.ledger:
        used[response.step] += response.usage
    rows = [row_of(step, used[step.id]) for step in shown]
    lines = layout(rows, width=width, glyphs=glyphs)
    if folded:
        passed = f"{plural(folded, 'step')} succeeded at rung command"
        lines.insert(0, (Span(f"  {glyphs.ok} ", "ok"), Span(passed, "dim")))
    return lines


def _unremarkable(step: StepReport) -> bool:
    return step.status == "succeeded" and step.rung in (None, Rung.COMMAND) and not step.reason


def failure(
    step: StepReport, report: Report, *, width: int, glyphs: Glyphs, where: str = ""
) -> list[Line]:
    """Say what failed, with the end of its output, what was tried and what to do next."""
    title = fit(step.title, max(20, width - len(step.id) - 6), glyphs.more)
    mark = Span(f"{glyphs.bad} {step.id}", "bold bad")
    if step.allowed:
        mark = Span(f"{glyphs.warn} {step.id}", "bold warn")
    lines: list[Line] = [(mark, Span(f"  {title}" if title else "", "dim"))]
    lines += _wrapped(fit(step.reason, _REASON, glyphs.more), indent=2, width=width)
    if step.allowed:
        lines.append((Span("  allow_failure: the run does not fail for it", "warn"),))
    lines += tail_lines(step, report, glyphs=glyphs)
    lines += tried(step, report, width=width, glyphs=glyphs)
    lines.append((Span("  Next", "bold"),))
    lines += [(Span(f"    {advice}"),) for advice in next_steps(step, report, where=where)]
    return lines


def tail_lines(step: StepReport, report: Report, *, glyphs: Glyphs) -> list[Line]:
    """The last lines of the failing output, each behind a bar, and how many came before."""
    text = clean(step.tail).strip("\n")
    if not text.strip():
        return []
    every = [line.rstrip() for line in text.expandtabs(4).split("\n")]
    last = every if len(every) <= TAIL_LINES + _TAIL_SLACK else every[-TAIL_LINES:]
    lines: list[Line] = []
    if len(last) < len(every):
        left_out = len(every) - len(last)
        note = f"{glyphs.more} {plural(left_out, 'line')} above left out"
        lines.append((Span(f"  {glyphs.bar} {note}", "dim"),))
    for line in last:
        cut = line if len(line) <= _TAIL_COLUMNS else line[:_TAIL_COLUMNS] + glyphs.more
        lines.append((Span(f"  {glyphs.bar} ", "warn" if step.allowed else "bad"), Span(cut)))
    return lines


def tried(step: StepReport, report: Report, *, width: int, glyphs: Glyphs) -> list[Line]:
    """One line for each attempt: rung, model, verdict, reason, time and money."""
    if not step.attempts:
        return []
    roles = {role: model.id for role, model in report.models.items()}
    names = [fit(model_name(one.model, roles), max(8, width // 4)) for one in step.attempts]
    paid = any(one.cost_usd != 0 for one in step.attempts)
    spent = [_spent(one, paid=paid) for one in step.attempts]
    reasons = [fit(one.reason, _REASON, glyphs.more) for one in step.attempts]
    name_size, spent_size = max(map(cells, names)), max(map(len, spent))
    verdict_size = max(len(one.verdict) for one in step.attempts)
    lines: list[Line] = []
    for number, one in enumerate(step.attempts):
        name = f"  {pad(names[number], name_size)}" if name_size else ""
        head = f"    {number + 1:>2} {one.rung.value:<8}{name}  "
        mark = Span(f"{one.verdict.value:<{verdict_size}}", _verdict_style(one.verdict))
        lines.append((Span(head), mark, Span(f"  {spent[number]:>{spent_size}}", "dim")))
    taken = sum(cells(span.text) for span in lines[0]) + 2
    if all(taken + cells(reason) <= width for reason in reasons):
        lines = [(*line, Span(f"  {text}")) for line, text in zip(lines, reasons, strict=True)]
    else:
        lines = [
            part
            for line, text in zip(lines, reasons, strict=True)
            for part in (line, *_wrapped(text, indent=7, width=width))
        ]
    return [(Span("  Tried", "bold"),), *lines]


def _spent(attempt: Attempt, *, paid: bool) -> str:
    cost = "" if attempt.cost_usd == 0 else money(attempt.cost_usd)
    return (
        f"{duration(attempt.seconds):>6}  {cost:>7}" if paid else f"{duration(attempt.seconds):>6}"
    )


def _wrapped(text: str, *, indent: int, width: int) -> list[Line]:
    return [(Span(" " * indent + line),) for line in wrap(text, max(20, width - indent))]


def _verdict_style(verdict: Verdict) -> Style:
    match verdict:
        case Verdict.PASSED:
            return "ok"
        case Verdict.HARD:
            return "bad"
        case Verdict.SOFT | Verdict.FLAKY | Verdict.INFRA | Verdict.DENIED | Verdict.CANCELLED:
            return "warn"


def next_steps(step: StepReport, report: Report, *, where: str = "") -> list[str]:
    """Say what a person can do about a failed step, most useful first; commands work as typed."""
    hint = "" if step.hint == step.reason else clean(step.hint)
    advice = [line.strip() for line in hint.split("\n") if line.strip()]
    again = f"runner exec --fix {step.id.rpartition('/')[2]}"
    if not step.hint.strip() and _nobody_asked(step):
        advice.append(f"No model was asked: this step has no fix. Try: {again}")
    if missing := _not_found(step):
        advice.insert(0, f"`{missing}` was not found: install it, or see that PATH leads to it.")
    target = _target(report)
    advice = [line + target + where if line.endswith(again) else line for line in advice]
    if step.log:
        advice.append(f"Whole output: runner log {report.run_id} {step.id}{where}")
    if any(_by_model(attempt) for attempt in step.attempts):
        advice.append(f"Why it went so: runner explain {report.run_id} {step.id}{where}")
    return advice or [f"See: runner show {report.run_id}{where}"]


def _not_found(step: StepReport) -> str:
    """Return the program that a shell did not find, by its own words; mostly empty."""
    if not step.attempts or step.attempts[-1].reason != "exit 127":
        return ""
    found = re.search(r"^(?:.*: )?([^\s:]+): (?:command )?not found$", step.tail, re.MULTILINE)
    return found[1] if found else ""


def _target(report: Report) -> str:
    """Return the file as an argument of `runner exec`; empty where that finds it by itself."""
    file = PurePath(report.file)
    if file.is_relative_to(report.root):
        file = file.relative_to(report.root)
    return "" if str(file) in ("workflow.yaml", ".runner/workflow.yaml", ".") else f" {file}"


def _nobody_asked(step: StepReport) -> bool:
    """Whether a command failed and nothing but commands was tried, for want of a fix."""
    if step.kind != "run" or any(_by_model(attempt) for attempt in step.attempts):
        return False
    mendable = (Verdict.HARD, Verdict.SOFT)
    return not step.attempts or step.attempts[-1].verdict in mendable


def _by_model(attempt: Attempt) -> bool:
    return attempt.rung is not Rung.COMMAND


def notes(report: Report, *, width: int, glyphs: Glyphs, where: str = "") -> list[Line]:
    """What a person should know that is no failure of a step."""
    room = max(40, width * 2)
    lines: list[Line] = [
        (Span("  ! ", "warn"), Span(fit(text, room, glyphs.more))) for text in report.notices
    ]
    lines += breaks(report, room=room, glyphs=glyphs, where=where)
    lines += misses(report, room=room, glyphs=glyphs)
    if report.exit_code == 7:
        names = _some(report.uncommitted)
        lines.append((Span("  ! ", "warn"), Span(f"changed and in no commit: {names}")))
    return lines


def _some(names: tuple[str, ...], limit: int = 8) -> str:
    shown = ", ".join(fit(name, 60) for name in names[:limit])
    return f"{shown} and {len(names) - limit} more" if len(names) > limit else shown


def facts(report: Report, *, width: int, where: str = "") -> list[Line]:
    """Commit, push, cost and where to look, one labelled line each."""
    pairs = {
        "Git": git_text(report),
        "Cost": cost_text(report),
        "Else": baseline_text(report),
        "Short": report.lacked,
        "Next": _run_advice(report),
        "Then": resumed_by(report, where),
        "Look": _look(report, where),
        "Page": f"runner report {report.run_id}{where}" if report.ledger else "",
        "Trace": _trace(report, where),
    }
    return labelled(pairs, width=width)


_WHOLE = frozenset({"Then", "Next", "Look", "State", "In", "File", "Trace"})
"""Labels of what people copy: commands and paths are not broken into lines."""


def labelled(pairs: Mapping[str, str], *, width: int) -> list[Line]:
    """Lay out labelled lines, long ones over several; those without text are left out."""
    shown = {label: text for label, text in pairs.items() if text}
    size = max((len(label) for label in shown), default=0)
    room = max(20, width - size - 4)
    lines: list[Line] = []
    for label, text in shown.items():
        long = cells(text) > room and label not in _WHOLE
        parts = wrap(text, room, break_on_hyphens=False) if long else [text]
        for number, part in enumerate(parts):
            lines.append((Span(f"  {'' if number else label:<{size}}  ", "dim"), Span(part)))
    return lines


def git_text(report: Report) -> str:
    """Say what was committed and pushed; empty where nothing was."""
    git = report.git
    if not git.after or git.after == git.before:
        return ""
    where = f" on {fit(git.branch, 60)}" if git.branch else ""
    pushed = f", pushed to {fit(git.pushed_to or git.remote_ref, 80)}" if git.remote_ref else ""
    return f"commit {git.after[:10]}{where}{pushed}"


def _look(report: Report, where: str) -> str:
    """The command that tells more; when money ran out, what it was spent on."""
    cost = " --cost" if report.exit_code == 3 and report.ledger else ""
    return f"runner show {report.run_id}{cost}{where}" if report.run_id else ""


def _trace(report: Report, where: str) -> str:
    """The id to look for in a server, and the command; not where there is little to see."""
    if report.trace is None or not (report.ledger or report.exit_code):
        return ""
    return f"{report.trace.id}  runner trace {report.run_id}{where}"


def resumed_by(report: Report, where: str = "") -> str:
    """The command that goes on with a run that was cut off."""
    if not report.run_id or not can_resume(report.status, report.exit_code):
        return ""
    more = ""
    if report.exit_code == 3:
        spent = report.budget_seconds is not None and report.seconds >= report.budget_seconds
        more = " --time TIME" if spent else " --budget USD"
    return f"runner resume {report.run_id}{more}{where}"


def _run_advice(report: Report) -> str:
    """What to do about an end that no single step stands for."""
    match report.exit_code:
        case 3 if report.advice:
            return report.advice.replace("runner exec", f"runner exec{_target(report)}")
        case 3 if report.budget_seconds is not None and report.seconds >= report.budget_seconds:
            return "give it more time: `budget: { time: ... }` in the workflow file"
        case 3:
            return "give it more: --budget USD, or `budget` in the workflow file"
        case 6:
            return (
                "check the model's key, name and provider, or try later; nothing here was held "
                "against the code"
            )
        case 7:
            return "commit them, add a commit step, or pass --allow-uncommitted"
        case _:
            return ""


def verdict(report: Report, *, glyphs: Glyphs) -> Line:
    """The last line: how it ended, in what time, and what the exit code means."""
    sign, style = glyphs.of(report.status)
    bold: Mapping[Style, Style] = {"ok": "bold ok", "bad": "bold bad", "warn": "bold warn"}
    if report.exit_code == 7:
        sign, style = glyphs.of("cancelled")
    text = f"{sign} {report.workflow} {report.status}"
    code = report.exit_code
    why = "" if not code else f": {meaning(code)} (exit {code})"
    mark = "  [scripted]" if report.scripted else "  [replayed]" if report.replayed else ""
    after = f" {'in' if code == 0 else 'after'} {duration(report.seconds)}"
    return (Span(text, bold.get(style, "bold")), Span(after + why), Span(mark, "warn"))
