"""Renders a run for GitHub Actions: annotations, folded output, the step summary. Pure.

A job's log is read line by line for workflow commands, on both streams, so that what comes from
outside is never written but through `harmless`.

Commands and their escapes: https://docs.github.com/actions/reference/workflow-commands-for-github-actions
and https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts
How they are read: https://github.com/actions/runner/blob/main/src/Runner.Common/ActionCommand.cs
"""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen
from runner.outcome import Rung, Verdict
from runner.report.nouns import ending_of
from runner.text import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.report.nouns import Report, StepReport

MOST_OF_STEP = 10
MOST_OF_RUN = 50
"""Annotations; GitHub itself shows 10 errors, 10 warnings and 10 notices of one of its steps, and
50 of a job. So the first of each failing step come before the second of any."""

GROUP_BYTES = 64 * 1024
"""Upper bound of one step's folded output."""

GROUPS_BYTES = 1024 * 1024
"""Upper bound of all folded output of a run."""

_MESSAGE = 1000
_TITLE = 200

Level = Literal["error", "warning", "notice"]


@frozen
class Annotation:
    """A remark that GitHub shows with the run, and beside the line where it has one."""

    level: Level
    title: str
    message: str
    path: str = ""
    """Relative to the repository's root."""
    line: int = 0
    column: int = 0


def command(annotation: Annotation) -> str:
    """Render an annotation as the workflow command that makes it."""
    facts = {
        "file": annotation.path,
        "line": str(annotation.line or ""),
        "col": str(annotation.column or "") if annotation.line else "",
        "title": one_line(annotation.title, _TITLE),
    }
    given = ",".join(f"{name}={_property(value)}" for name, value in facts.items() if value)
    message = _data(one_line(annotation.message, _MESSAGE) or annotation.level)
    return f"::{annotation.level} {given}::{message}"


def group(title: str, output: str) -> str:
    """Render output as lines that GitHub folds below a title."""
    text = harmless(clean(output)).strip("\n")
    return f"::group::{_data(one_line(title, _TITLE))}\n{text}\n::endgroup::\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


_SHAPELESS = (
    "[\x00-\x09\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2"
    "\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)
"""Control and format characters, joiners, fillers: what a comparison of words may pass over."""
_AT_START = re.compile(rf"(\A|[\r\n])((?:[^\S\r\n]|{_SHAPELESS[:-1]})*):{_SHAPELESS}:")
_ANYWHERE = re.compile(rf"#{_SHAPELESS}#{_SHAPELESS}\[")
_JSON_SHARP = re.compile(rf"#(?={_SHAPELESS}\[)")


def harmless(text: str) -> str:
    """Return `text` with nothing in it that GitHub takes for a workflow command.

    Commands are `::name ...::` at the start of a line, spaces aside, and the older `##[name]`
    anywhere. They are looked for by comparing words as a culture does, which passes over control
    and zero-width characters: only a visible gap is safe.
    """
    return _ANYWHERE.sub("# #[", _AT_START.sub(r"\1\2: :", text))


def harmless_json(text: str) -> str:
    """Return the same JSON, written so that it holds no workflow command: none of the old form."""
    return _JSON_SHARP.sub(r"\\u0023", text)


# -- annotations -----------------------------------------------------------------------------------


def remarks(report: Report) -> tuple[Annotation, ...]:
    """Return what to remark on a run that has ended: how it ended first, then step by step."""
    of_steps = [tuple(_of_step(step))[:MOST_OF_STEP] for step in report.steps]
    in_turn = [one for row in zip_longest(*of_steps) for one in row if one is not None]
    # GitHub counts each level by itself: what failed is never kept out by what was mended.
    order: tuple[Level, ...] = ("error", "warning", "notice")
    ordered = sorted([*_of_run(report), *in_turn], key=lambda one: order.index(one.level))
    return tuple(ordered[:MOST_OF_RUN])


def _of_run(report: Report) -> Iterator[Annotation]:
    code = report.exit_code
    if code == 0 or (code == 1 and any(step.failed for step in report.steps)):
        return
    words = [ending_of(report), report.lacked, report.advice]
    if report.uncommitted:
        words.append(f"Not committed: {', '.join(report.uncommitted)}")
    what = "killed" if code is None else f"exit {code}"
    yield Annotation("error", f"{report.workflow}: {what}", ". ".join(filter(None, words)))


def _of_step(step: StepReport) -> Iterator[Annotation]:
    if step.failed:
        level: Level = "warning" if step.may_fail else "error"
        title = f"{step.id} {'failed, and may fail' if step.may_fail else 'failed'}"
        for place in step.places:
            message = place.message or step.reason or step.title
            yield Annotation(level, title, message, place.path, place.line, place.column)
        if not step.places:
            words = (f"{step.reason}: {step.title}", step.hint)
            yield Annotation(level, title, ". ".join(filter(None, words)))
    elif any(one.verdict is Verdict.FLAKY for one in step.attempts):
        yield Annotation("warning", f"{step.id} is flaky", f"{step.title}: passed when run again")
    elif words := _mended(step):
        yield Annotation("notice", f"{step.id} was mended", words)


def _mended(step: StepReport) -> str:
    """Say who mended a step; empty for one that was not: a prompt or a commit message is none."""
    last = step.attempts[-1] if step.attempts else None
    models = step.rung in (Rung.SUBAGENT, Rung.MAIN)
    if last is None or step.kind != "run" or step.status != "succeeded" or not models:
        return ""
    who = f" ({last.model})" if last.model else ""
    files = f": {', '.join(last.files)}" if last.files else ""
    return f"mended at rung {last.rung.value}{who}{files}"
