"""Builds the table of steps, and the course of each that did not simply pass. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.console.style import UNICODE, duration, model_name, money, plural
from runner.frozen import frozen
from runner.outcome import Rung, Verdict
from runner.page.diff import counted, render_diff
from runner.page.facts import Course, Made, Ran, Tried
from runner.page.html import Html, el, join
from runner.page.parts import details, facts, output, quiet, section, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.page.facts import Story
    from runner.page.html import Child
    from runner.page.room import Room
    from runner.report import StepReport

ROWS = 1_200
"""Steps in the table."""
TOLD = 200
"""Steps whose course is told."""
_MANY = 40
"""With more steps, those that passed at rung `command` are folded away."""
_EVENTS = 80
"""What is told of one step's course, at most; the last of it."""


@frozen
class Seen:
    """What was read for the page beside the journal."""

    diffs: Mapping[tuple[str, int], str]
    """By step and attempt; a reason in brackets where it cannot be shown."""
    outputs: Mapping[str, str]
    """Ends of failing commands' outputs, cleaned, by the path of their log."""


@frozen
class Rooms:
    """What is left for the long texts."""

    tails: Room
    diffs: Room
    courses: Room
    """For what is told of steps, those texts included."""


def plain(step: StepReport, course: Course | None) -> bool:
    """Tell whether there is nothing to say of a step beyond its row."""
    if step.status == "pending":
        return True
    told = course.told if course else ()
    quiet_told = all(
        (isinstance(one, Ran) and not one.failed)
        or (isinstance(one, Tried) and one.rung is Rung.COMMAND)
        for _, one in told
    )
    passed = step.status in ("succeeded", "skipped", "blocked", "cancelled")
    return passed and quiet_told and len(step.attempts) < 2 and not step.outputs


def told_steps(story: Story) -> list[StepReport]:
    """Return the steps whose course is told, in order; of too many, those that failed first."""
    wanted = [s for s in story.report.steps if not plain(s, story.courses.get(s.id))]
    if len(wanted) <= TOLD:
        return wanted
    ranked = sorted(wanted, key=lambda step: (not step.failed, -len(step.attempts)))
    best = {step.id for step in ranked[:TOLD]}
    return [step for step in wanted if step.id in best]


# -- the table -------------------------------------------------------------------------------------


def step_table(story: Story, anchors: Mapping[str, str]) -> Html | None:
    """Build a row for each step; of many, those that simply passed are folded away."""
    steps = story.report.steps
    if not steps:
        return None
    notable, simple = list(steps), list[type(steps[0])]()
    if len(steps) > _MANY:
        notable = [step for step in steps if not _simple(step)]
        simple = [step for step in steps if _simple(step)]
    folded = None
    if simple:
        words = f"{plural(len(simple), 'step')} succeeded at rung command"
        folded = details(f"✓ {words}", _rows(simple[:ROWS], anchors, words))
    left = max(0, len(simple) - ROWS) + max(0, len(notable) - ROWS)
    run_id = story.report.run_id
    rest = quiet(f"{left:,} steps more: runner show {run_id} --json") if left else None
    shown = _rows(notable[:ROWS], anchors, "Steps") if notable else None
    return section("steps", "Steps", shown, folded, rest)


def _simple(step: StepReport) -> bool:
    return step.status == "succeeded" and step.rung in (None, Rung.COMMAND) and not step.reason


def _rows(steps: Sequence[StepReport], anchors: Mapping[str, str], caption: str) -> Html:
    paid = any(step.cost_usd is None or step.cost_usd for step in steps)
    why = any(_why(step) for step in steps)
    titles = ["step", "ended", "rung", "attempts", "time"]
    titles += [*(["cost"] if paid else []), *(["why"] if why else [])]
    rows = [_row(step, anchors.get(step.id), paid=paid)[: len(titles)] for step in steps]
    return table(caption, titles, rows, aligned=("<<<>>" + ">" * paid + "<" * why))


def _row(step: StepReport, anchor: str | None, *, paid: bool) -> list[Child]:
    cost: list[Child] = [money(step.cost_usd) if step.cost_usd != 0 else ""] if paid else []
    ran = bool(step.attempts) or step.seconds > 0
    return [
        el("a", step.id, href=f"#{anchor}") if anchor else step.id,
        _status(step),
        _rung(step.rung),
        str(len(step.attempts) or ""),
        duration(step.seconds) if ran else "",
        *cost,
        _why(step),
    ]


def _why(step: StepReport) -> str:
    unverified = step.status == "succeeded" and step.kind == "prompt" and not step.verified
    parts = [step.reason, "may fail" if step.allowed else "", "not verified" if unverified else ""]
    return ", ".join(part for part in parts if part)[:300]


def _status(step: StepReport) -> Html:
    sign, style = UNICODE.of("allowed" if step.allowed else step.status)
    sign = "▸" if step.status == "running" else sign
    mark = el("span", f"{sign} ", class_=style or None, aria_hidden="true")
    return el("span", mark, step.status, class_="whole")


def _rung(rung: Rung | None) -> Html | None:
    return el("span", rung.value, class_=f"rung {rung.value}") if rung else None


# -- one step --------------------------------------------------------------------------------------


def step_details(story: Story, anchors: Mapping[str, str], seen: Seen, rooms: Rooms) -> Html | None:
    """Build the course of each step that is worth it; `None` where none is."""
    shown = told_steps(story)
    if not shown:
        return None
    told = [_step(step, story, anchors[step.id], seen, rooms) for step in shown]
    wanted = sum(not plain(s, story.courses.get(s.id)) for s in story.report.steps)
    rest = quiet(f"{wanted - len(shown):,} steps more: runner show {story.report.run_id}")
    return section("courses", "Step by step", told, rest if wanted > len(shown) else None)


def _step(step: StepReport, story: Story, anchor: str, seen: Seen, rooms: Rooms) -> Html:
    course = story.courses.get(step.id) or Course(step.id)
    made = (_item(at, one, step.id, seen, rooms) for at, one in course.told[-_EVENTS:])
    told = [one for one in made if rooms.courses.takes(one)]
    left = len(course.told) - len(told)
    more = (
        f"{left:,} lines are left out: runner explain {story.report.run_id} {step.id}"
        if left
        else ""
    )
    sign, style = UNICODE.of("allowed" if step.allowed else step.status)
    outputs = ", ".join(f"{k}={v}" for k, v in step.outputs.items())[:1_000]
    return el(
        "article",
        el("h3", el("span", f"{sign} ", class_=style or None, aria_hidden="true"), step.id),
        el("p", el("code", step.title)) if step.title else None,
        facts(
            {
                "Ended": join(_ended(step), " ", _rung(step.rung)),
                "Took": duration(step.seconds) if step.seconds else None,
                "Cost": money(step.cost_usd) if step.cost_usd != 0 else None,
                "Outputs": el("code", outputs) if outputs else None,
                "Log": el("code", step.log) if step.log and step.failed else None,
            }
        ),
        quiet(more) if more else None,
        el("ol", told, class_="course") if told else None,
        class_="step",
        id=anchor,
    )


def _ended(step: StepReport) -> str:
    return f"{step.status}: {step.reason}" if step.reason else step.status


def _item(at: float, one: Made | Ran | Tried | str, step: str, seen: Seen, rooms: Rooms) -> Html:
    when = el("span", duration(at), class_="when")
    match one:
        case Made():
            link = el("a", "arithmetic", href=f"#decision-{one.number}")
            return el("li", when, el("div", one.text, " (", link, ")"), class_="decided")
        case Ran():
            return el("li", when, el("div", _ran(one, seen, rooms)))
        case Tried():
            return el("li", when, el("div", _tried(one, step, seen, rooms)), class_="tried")
        case str():
            return el("li", when, el("div", one))


def _ran(one: Ran, seen: Seen, rooms: Rooms) -> Html:
    how, dollar, command = one.text.partition("  $ ")
    said = join(how, " ", el("code", command)) if dollar else join(one.text)
    if not one.failed or one.log not in seen.outputs:
        return said
    tail, cut = rooms.tails.tail(seen.outputs[one.log], 8_000)
    words = "The end of its output" if cut else "Its output"
    return join(said, details(words, output(tail)) if tail.strip() else None)


def _tried(one: Tried, step: str, seen: Seen, rooms: Rooms) -> Html:
    attempt = one.attempt
    assert attempt is not None, "what was cut off is told as a text"
    spent = [duration(attempt.seconds)]
    spent += [plural(attempt.requests, "request")] if attempt.requests else []
    spent += [money(attempt.cost_usd)] if attempt.cost_usd != 0 else []
    return join(
        el(
            "p",
            el("strong", f"attempt {one.number} "),
            _rung(one.rung),
            " ",
            el("code", model_name(one.model, {})) if one.model else None,
            " ",
            _verdict(attempt.verdict),
            f" {attempt.reason} ",
            el("span", f"({', '.join(spent)})", class_="quiet"),
        ),
        el("p", "The agent: ", el("q", attempt.summary)) if attempt.summary else None,
        _tools(one),
        _diff(seen.diffs.get((step, one.number), ""), rooms),
    )


def _verdict(verdict: Verdict) -> Html:
    style = {Verdict.PASSED: "ok", Verdict.HARD: "bad"}.get(verdict, "warn")
    return el("span", verdict.value, class_=f"badge {style}")


def _tools(one: Tried) -> Html | None:
    if not one.tools:
        return None
    shown = [el("li", el("code", line[:300])) for line in one.tools[:60]]
    more = len(one.tools) - len(shown)
    rest = quiet(f"{more} more") if more else None
    return details(f"{plural(len(one.tools), 'tool call')}", el("ul", shown), rest)


def _diff(diff: str, rooms: Rooms) -> Html | None:
    if not diff.strip():
        return None
    if diff.startswith("["):
        return quiet(diff)
    shown, cut = rooms.diffs.head(diff, 60_000)
    if not shown:
        return quiet("The changes are left out: the page would grow too large.")
    added, removed = counted(diff)
    rest = quiet("The changes go on: they are cut here.") if cut else None
    return details(
        f"Changes: +{added} -{removed} lines", render_diff(shown), rest, open_=len(diff) < 2_500
    )
