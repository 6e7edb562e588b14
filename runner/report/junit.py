"""Renders a report as JUnit XML, as CI systems read it. Pure.

One suite for the run, one case for each step, and one for the run itself where it ended in a way
that no step tells: budget, protection, scope, provider, uncommitted changes, a signal.

The form is that of Jenkins' xUnit plugin, which pytest and Maven's surefire follow: `junit-10.xsd`
of https://github.com/jenkinsci/xunit-plugin below `org/jenkinsci/plugins/xunit/types/model/xsd`.
It has properties for suites only: those of a step are the suite's, as `step.ID.rung`. Flaky steps
are told as surefire does it, a passed case with `flakyFailure` in it:
https://maven.apache.org/surefire/maven-surefire-plugin/examples/rerun-failing-tests.html
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.outcome import Verdict
from runner.report.nouns import ending_of
from runner.report.published import exact
from runner.text import clean, head_tail, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from runner.outcome import Attempt
    from runner.report.nouns import Report, StepReport

OUTPUT_BYTES = 64 * 1024
"""Upper bound of one step's output in the file."""

TOTAL_BYTES = 4 * 1024 * 1024
"""Upper bound of all steps' output; GitLab reads no file of more than 30 MB, Jenkins slows down."""

_MESSAGE = 300
_ATTRIBUTE = 10_000

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no way to write, not even escaped: https://www.w3.org/TR/xml/#charsets"""

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_ATTRIBUTE_ESCAPES = _ESCAPES | str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})

_NOT_RUN = {
    "pending": "did not run",
    "running": "has not ended",
    "interrupted": "was cut off",
    "cancelled": "cancelled",
    "blocked": "blocked",
    "skipped": "skipped",
}


@frozen
class _Case:
    """One case: its body is made of elements that are rendered already."""

    name: str
    seconds: float
    body: tuple[str, ...]
    kind: str = ""
    """`failure`, `error`, `skipped`; empty: passed."""


def junit_xml(report: Report, outputs: Mapping[str, str] | None = None) -> str:
    """Return the report as JUnit XML, for a file in UTF-8.

    Args:
        report: A run, ended or not.
        outputs: What the commands of failed steps printed, by step, as far as it is at hand; cut
            to `OUTPUT_BYTES` each. The report itself has the part that tells what failed.
    """
    cases = [*_step_cases(report, outputs or {})]
    if (own := _run_case(report, cases)) is not None:
        cases.append(own)
    count = {kind: sum(case.kind == kind for case in cases) for kind in _KINDS}
    counts = {
        "tests": str(len(cases)),
        "failures": str(count["failure"]),
        "errors": str(count["error"]),
    }
    began = datetime.fromtimestamp(report.started_at, UTC)
    suite = {
        "name": report.workflow or "workflow",
        **counts,
        "skipped": str(count["skipped"]),
        "time": _seconds(report.seconds),
        "timestamp": began.strftime("%Y-%m-%dT%H:%M:%S"),
    }
    classname = report.workflow or "workflow"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        _open("testsuites", {"name": "runner", "time": suite["time"], **counts}),
        _open("testsuite", suite),
        "<properties>",
        *(_tag("property", {"name": k, "value": v}) for k, v in _properties(report)),
        "</properties>",
        *(_case_xml(case, classname) for case in cases),
        "</testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


_KINDS = ("failure", "error", "skipped")


def _step_cases(report: Report, outputs: Mapping[str, str]) -> Iterator[_Case]:
    left = TOTAL_BYTES
    for step in report.steps:
        output = outputs.get(step.id, "") if left > 0 else ""
        printed = head_tail(clean(output), min(OUTPUT_BYTES, left))
        left -= len(printed.encode("utf-8", "replace"))
        yield _step_case(step, printed)


def _step_case(step: StepReport, printed: str) -> _Case:
    told = _told(step, printed)
    match step.status:
        case "succeeded":
            flaky = tuple(_flaky(step.attempts)) if _is_flaky(step) else ()
            return _Case(step.id, step.seconds, (*flaky, *told))
        case "failed" if step.may_fail:
            why = f"failed, and may fail: {step.reason}"
            kind = "skipped"
        case "failed":
            why, kind = step.reason or "failed", "failure"
        case _:
            word = _NOT_RUN[step.status]
            why, kind = f"{word}: {step.reason}" if step.reason else word, "skipped"
    head = {"message": one_line(why, _MESSAGE), "type": _type(step)}
    parts = (step.title, step.tail, step.hint) if step.failed else ()
    text = head_tail("\n".join(filter(None, parts)), OUTPUT_BYTES)
    return _Case(step.id, step.seconds, (_tag(kind, head, text), *told), kind)


def _type(step: StepReport) -> str:
    """Return what kind of thing happened, in a word that does not change from run to run."""
    if step.status != "failed":
        return step.status
    return step.attempts[-1].verdict.value if step.attempts else step.kind


def _told(step: StepReport, printed: str) -> Iterator[str]:
    """Yield a step's `system-out`: how it was tried, then what its command printed."""
    lines = [_attempt_line(one) for one in step.attempts] if len(step.attempts) > 1 else []
    where = f"Whole output: {step.log}" if step.failed and step.log else ""
    lines += [one for one in (printed, where) if one]
    if lines and step.status != "skipped":
        yield _tag("system-out", {}, "\n".join(lines))


def _attempt_line(attempt: Attempt) -> str:
    who = f" ({attempt.model})" if attempt.model else ""
    head = f"attempt {attempt.number} at rung {attempt.rung.value}{who}: {attempt.verdict.value}"
    return one_line(f"{head}: {attempt.reason}" if attempt.reason else head, _MESSAGE)


def _is_flaky(step: StepReport) -> bool:
    return any(one.verdict is Verdict.FLAKY for one in step.attempts)


def _flaky(attempts: tuple[Attempt, ...]) -> Iterator[str]:
    """Yield each time that the command failed before it passed on the same tree."""
    for one in attempts:
        if one.verdict is not Verdict.FLAKY:
            head = {"message": one_line(one.reason, _MESSAGE), "type": one.verdict.value}
            yield _tag("flakyFailure", head, _attempt_line(one))


def _run_case(report: Report, cases: list[_Case]) -> _Case | None:
    """Return a case for how the run ended, where it ended badly and no step says so by itself."""
    code = report.exit_code
    told = code == 1 and any(case.kind == "failure" for case in cases)
    if code == 0 or told:
        return None
    kind = "error" if code is None or code in (3, 4, 6) or code > 128 else "failure"
    name = "killed" if code is None else f"exit {code}"
    why = f"{name}: {ending_of(report)}"
    lines = [why, report.lacked, report.advice]
    if report.uncommitted:
        lines += ["Changed and not committed:", *(f"  {path}" for path in report.uncommitted)]
    text = head_tail("\n".join(filter(None, lines)), OUTPUT_BYTES, 0.75)
    head = {"message": one_line(why, _MESSAGE), "type": name.replace(" ", "-")}
    return _Case("(the run itself)", 0.0, (_tag(kind, head, text),), kind)


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    yield "run_id", report.run_id
    yield "workflow", report.workflow
    yield "status", report.status
    yield "exit_code", "" if report.exit_code is None else str(report.exit_code)
    yield "cost_usd", _usd(report.cost_usd)
    yield "scripted", str(report.scripted).lower()
    for role, model in report.models.items():
        if model.usage.requests:
            yield f"model.{role}.id", model.id
            yield f"model.{role}.cost_usd", _usd(model.cost_usd)
    for step in report.steps:
        name = f"step.{step.id}"
        yield f"{name}.status", step.status
        if step.attempts:
            yield f"{name}.rung", step.rung.value if step.rung else ""
            yield f"{name}.verdict", step.attempts[-1].verdict.value
            yield f"{name}.attempts", str(len(step.attempts))
            yield f"{name}.cost_usd", _usd(step.cost_usd)


def _usd(cost: Decimal | None) -> str:
    return "unknown" if cost is None else exact(cost)


def _case_xml(case: _Case, classname: str) -> str:
    head = {"name": case.name, "classname": classname, "time": _seconds(case.seconds)}
    if not case.body:
        return _tag("testcase", head)
    return "\n".join([_open("testcase", head), *case.body, "</testcase>"])


def _seconds(value: float) -> str:
    """Write a time as surefire does: no exponent, three digits behind the point."""
    return f"{max(value, 0.0):.3f}"


def _open(name: str, attributes: Mapping[str, str]) -> str:
    pairs = "".join(f' {key}="{_attribute(value)}"' for key, value in attributes.items())
    return f"<{name}{pairs}>"


def _tag(name: str, attributes: Mapping[str, str], text: str = "") -> str:
    head = _open(name, attributes)
    return f"{head}{_text(text)}</{name}>" if text else f"{head[:-1]}/>"


def _text(text: str) -> str:
    return _NOT_XML.sub("\ufffd", clean(text)).translate(_ESCAPES)


def _attribute(text: str) -> str:
    return _NOT_XML.sub("\ufffd", clean(text)[:_ATTRIBUTE]).translate(_ATTRIBUTE_ESCAPES)
