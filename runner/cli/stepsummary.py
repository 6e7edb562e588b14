"""Renders a run as Markdown, for the summary page of a GitHub job. Pure.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions#adding-a-job-summary
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.console.style import count, duration, money, share
from runner.report import ending_of
from runner.text import clean, head_tail, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from decimal import Decimal

    from runner.report import Report, StepReport

LIMIT = 1024 * 1024
"""Bytes that GitHub takes of one step's summary; of a longer one it shows nothing at all.
https://github.com/actions/runner/blob/main/src/Runner.Worker/FileCommandManager.cs"""

_ROOM = 4096
"""Bytes kept for what is said of the parts that found no room."""

_CELL = 200
_TAIL_BYTES = 8 * 1024
_ACTIVE = re.compile(r"[\\`*_\[\]<>|~&$#!@:\"'(){}]")
"""What Markdown, HTML or GitHub's own additions may act on."""
_BEGINS = re.compile(r"^[-+=\d]")
"""What begins a list, a rule or a heading at the start of a line."""

_MARKS = {"succeeded": "✅", "failed": "❌", "cancelled": "⏹️", "blocked": "⛔", "skipped": "⏭️"}


def step_summary(report: Report, limit: int = LIMIT) -> str:
    """Return the summary, of at most `limit` bytes; what finds no room is counted."""
    head = [_title(report), _how(report)]
    rows = [_STEPS_HEAD, *map(_step_row, report.steps)]
    text, missing = _fitted("\n\n".join(head) + "\n\n", rows, "\n", limit - _ROOM)
    if missing:
        text += f"\n{missing} more steps: see the report.\n"
    rest = [*_costs(report), *_failures(report)]
    text, missing = _fitted(text + "\n", rest, "\n\n", limit - _ROOM // 2)
    if missing:
        text += f"{missing} more parts found no room: see the report.\n"
    return text if len(text.encode()) <= limit else ""


def _fitted(text: str, parts: Sequence[str], end: str, limit: int) -> tuple[str, int]:
    """Add parts as long as they fit; return the text and how many did not."""
    pieces, size = [text], len(text.encode())
    for number, part in enumerate(parts):
        size += len(part.encode()) + len(end)
        if size > limit:
            return "".join(pieces), len(parts) - number
        pieces.append(part + end)
    return "".join(pieces), 0


def _title(report: Report) -> str:
    mark = "✅" if report.ok else "❌"
    ended = f"exit {report.exit_code}, " if report.exit_code is not None else ""
    return f"## {mark} {_plain(report.workflow)}: {ended}{ending_of(report)}"


def _how(report: Report) -> str:
    parts = [f"Run {_plain(report.run_id)}", duration(report.seconds), _money(report)]
    if report.git.pushed_to:
        parts.append(f"pushed to {_plain(report.git.pushed_to)}")
    lines = [", ".join(parts) + "."]
    lines += [_line(one) for one in (report.lacked, report.advice) if one]
    if report.uncommitted:
        lines.append(f"Changed and not committed: {_plain(', '.join(report.uncommitted), 2000)}")
    if report.scripted:
        lines.append("Scripted models answered: nothing of this was paid.")
    return "  \n".join(lines)


def _money(report: Report) -> str:
    asked = any(model.usage.requests for model in report.models.values())
    return _plain(money(report.cost_usd)) if asked else "no model asked"


_STEPS_HEAD = "| step | result | rung | verdict | attempts | time | cost |\n" + "| --- " * 7 + "|"


def _step_row(step: StepReport) -> str:
    mark, reason = _MARKS.get(step.status, "▫️"), f": {step.reason}" if step.reason else ""
    may = ", and may fail" if step.allowed else ""
    return _row(
        step.id,
        f"{mark} {step.status}{may}{reason}",
        step.rung.value if step.rung else "",
        step.attempts[-1].verdict.value if step.attempts else "",
        str(len(step.attempts) or ""),
        duration(step.seconds) if step.attempts or step.seconds else "",
        money(step.cost_usd) if step.cost_usd != 0 else "",
    )


def _costs(report: Report) -> Iterator[str]:
    used = {role: one for role, one in report.models.items() if one.usage.requests}
    if not used:
        return
    head = "| role | model | requests | input | of it cached | output | cost |\n"
    rows = [head + "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for role, one in used.items():
        usage = one.usage
        cached = share(usage.cache_read_tokens, usage.input_tokens)
        numbers = (str(usage.requests), count(usage.input_tokens), cached)
        rows.append(_row(role, one.id, *numbers, count(usage.output_tokens), money(one.cost_usd)))
    rows.append(_row("this run", "", "", "", "", "", money(report.cost_usd)))
    for words, usd in _baselines(report):
        rows.append(_row(words, "estimate", "", "", "", "", money(usd)))
    yield "### Cost\n\n" + "\n".join(rows)


def _baselines(report: Report) -> Iterator[tuple[str, Decimal]]:
    inline, switch = report.baseline.inline_usd, report.baseline.switch_usd
    if inline is not None:
        yield "the same work inline, by main", inline
    if switch is not None:
        yield "by switching main to the cheap model and back", switch


def _failures(report: Report) -> Iterator[str]:
    failed = [step for step in report.steps if step.failed]
    if failed:
        yield "### What failed"
    for step in failed:
        yield _failure(step)


def _failure(step: StepReport) -> str:
    tail = head_tail(clean(step.tail), _TAIL_BYTES).strip("\n")
    longest = max((len(run) for run in re.findall("`+", tail)), default=0)
    fence = "`" * max(3, longest + 1)
    title = f"<b>{_plain(step.id)}</b>: {_plain(step.title)} ({_plain(step.reason)})"
    parts = [f"<details open><summary>{title}</summary>"]
    parts += [f"{fence}text\n{tail}\n{fence}"] if tail else []
    parts += [_line(step.hint)] if step.hint else []
    return "\n\n".join([*parts, "</details>"])


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str, limit: int = _CELL) -> str:
    """Return text that Markdown and HTML show as it is, on one line.

    Entities are never structure in Markdown: https://spec.commonmark.org/0.31.2/#entity-and-numeric-character-references
    """
    return _ACTIVE.sub(_entity, one_line(text, limit))


def _line(text: str) -> str:
    """Return text that may stand at the start of a line."""
    return _BEGINS.sub(_entity, _plain(text, 1000))


def _entity(match: re.Match[str]) -> str:
    return f"&#{ord(match[0])};"
