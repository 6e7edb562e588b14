"""Draws who worked at which step when: a lane for each, taller bars for dearer rungs. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from runner.console.style import UNICODE, duration, plural
from runner.outcome import Rung
from runner.page.axis import percent, time_ticks
from runner.page.html import Html, el, join
from runner.page.parts import details, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.page.facts import Bar, Course, Story
    from runner.report import StepReport

LANES = 150
"""Steps that are drawn; of more, those that say most."""
BARS = 3_000
"""Bars in all lanes; each lane has its share, and 20 in any case."""
_ROWS = 600
"""Rows of the table that says the same."""
_HEIGHT = 28
_TALL: Mapping[Rung | None, int] = {Rung.MAIN: 22, Rung.SUBAGENT: 15, Rung.COMMAND: 9, None: 9}
_WARM = "keep-alive"


def timeline(story: Story, anchors: Mapping[str, str]) -> Html | None:
    """Draw the run; `None` where no step took any time.

    Args:
        story: The run.
        anchors: Where a step is told of, by its id.
    """
    steps = {step.id: step for step in story.report.steps}
    known = [course for course in story.courses.values() if course.bars]
    if not known or story.seconds <= 0:
        return None
    shown = chosen(known, steps)
    most = max(20, BARS // len(shown))
    cut = [replace(course, bars=_longest(course.bars, most)) for course in shown]
    lanes = [_lane(course, story, steps.get(course.id), anchors) for course in cut]
    left = len(known) - len(shown)
    more = f"{plural(left, 'step')} more, all quick and passed by their own command, not drawn."
    return join(
        _legend(shown, story),
        el(
            "div",
            el("div", el("span"), _axis(story), class_="row axis"),
            lanes,
            class_="lanes",
        ),
        el("p", more, class_="quiet") if left else None,
        details("The same as a table", _table(shown)),
    )


def chosen(courses: Sequence[Course], steps: Mapping[str, StepReport]) -> list[Course]:
    """Return the lanes to draw, in the order of the steps; of too many, those that say most."""
    order = {step: at for at, step in enumerate(steps)}
    ordered = sorted(courses, key=lambda course: order.get(course.id, len(order)))
    if len(ordered) <= LANES:
        return ordered

    def weight(course: Course) -> tuple[bool, bool, float]:
        step = steps.get(course.id)
        failed = step is not None and step.status not in ("succeeded", "skipped")
        asked = any(bar.kind == "request" for bar in course.bars)
        return (failed, asked, sum(bar.end - bar.start for bar in course.bars))

    best = {course.id for course in sorted(ordered, key=weight, reverse=True)[:LANES]}
    return [course for course in ordered if course.id in best]


def _longest(bars: Sequence[Bar], most: int) -> tuple[Bar, ...]:
    """Return the bars that are seen best, of too many of them."""
    return tuple(sorted(bars, key=lambda bar: bar.start - bar.end)[:most])


def _axis(story: Story) -> Html:
    marks: list[Html] = []
    for tick in time_ticks(story.seconds):
        share = tick / story.seconds
        anchor = "start" if share < 0.04 else "end" if share > 0.96 else "middle"
        x = percent(tick, story.seconds)
        marks.append(el("text", clock(tick, story.seconds), x=x, y=12, text_anchor=anchor))
    return el("svg", marks, width="100%", height=16, aria_hidden="true", class_="ticks")


def clock(seconds: float, most: float) -> str:
    """Write a mark of an axis that reaches to `most`, so that no two marks look the same."""
    if most < 1:
        return f"{1000 * seconds:.3g}ms"
    if most < 10 and seconds != int(seconds):
        return f"{seconds:.1f}s"
    return f"{int(seconds)}s" if seconds < 60 else duration(seconds)


def _lane(
    course: Course, story: Story, step: StepReport | None, anchors: Mapping[str, str]
) -> Html:
    name = course.id or f"main's cache ({_WARM})"
    sign, style = UNICODE.of("allowed" if step.allowed else step.status) if step else ("", "")
    anchor = anchors.get(course.id)
    label = el("a", name, href=f"#{anchor}") if anchor else el("span", name)
    mark = el("span", f"{sign} ", class_=style or None, aria_hidden="true") if sign else None
    return el(
        "div", el("div", mark, label, class_="name"), _bars(course, story, name), class_="row"
    )


def _bars(course: Course, story: Story, name: str) -> Html:
    grid = [
        el(
            "line",
            x1=percent(tick, story.seconds),
            x2=percent(tick, story.seconds),
            y1=0,
            y2=_HEIGHT,
        )
        for tick in time_ticks(story.seconds)
    ]
    taken = [
        el("line", x1=percent(at, story.seconds), x2=percent(at, story.seconds), y1=0, y2=_HEIGHT,
           class_="resumed")
        for at in story.resumed
    ]  # fmt: skip
    # What is within something else is drawn over it.
    rank = {"step": 0, "wait": 1, "attempt": 2, "command": 3, "request": 4}
    bars = sorted(course.bars, key=lambda bar: rank[bar.kind])
    words = "; ".join(bar.words for bar in course.bars[:12] if bar.kind == "attempt")
    return el(
        "svg",
        el("title", f"{name}: from {_span(course)}"),
        el("desc", words or plural(len(course.bars), "bar")),
        el("g", grid, class_="grid"),
        taken,
        [_bar(bar, story.seconds) for bar in bars],
        width="100%",
        height=_HEIGHT,
        role="img",
        class_="lane",
    )


def _span(course: Course) -> str:
    start, end = min(bar.start for bar in course.bars), max(bar.end for bar in course.bars)
    return f"{duration(start)} to {duration(end)}"


def _bar(bar: Bar, most: float) -> Html:
    tall = {"step": 1, "wait": 4, "command": 5}.get(bar.kind) or _TALL[bar.rung]
    if bar.kind == "request":
        tall -= 4
    y = _HEIGHT - 2 - tall
    return el(
        "rect",
        el("title", f"{bar.words}, from {duration(bar.start)}"),
        x=percent(bar.start, most),
        y=y,
        width=percent(bar.end - bar.start, most),
        height=tall,
        class_=" ".join([bar.kind, *([bar.rung.value] if bar.rung else []), *["cut"] * bar.cut]),
    )


def _legend(courses: Sequence[Course], story: Story) -> Html:
    bars = [bar for course in courses for bar in course.bars]
    rungs = [rung for rung in Rung if any(b.rung is rung for b in bars if b.kind == "attempt")]
    items = [
        _key(f"attempt {rung.value}", _TALL[rung], f"attempt at rung {rung.value}")
        for rung in rungs
    ]
    words = {
        "command": ("command", 5, "a command runs"),
        "request": ("request main", 11, "a model is asked"),
        "wait": ("wait", 4, "waiting"),
        "step": ("step", 1, "the step as a whole"),
    }
    kinds = {bar.kind for bar in bars}
    items += [_key(*words[kind]) for kind in words if kind in kinds]
    if any(bar.cut for bar in bars):
        items.append(_key("attempt command cut", 9, "cut off"))
    if story.resumed:
        line = el("line", x1=11, x2=11, y1=0, y2=24, class_="resumed")
        items.append(el("li", _swatch(line), "taken up again"))
    return el("ul", items, class_="legend")


def _key(classes: str, tall: int, words: str) -> Html:
    rect = el("rect", x=1, y=23 - tall, width=20, height=tall, class_=classes)
    return el("li", _swatch(rect), words)


def _swatch(mark: Html) -> Html:
    return el("svg", mark, width=22, height=24, aria_hidden="true", class_="lane")


def _table(courses: Sequence[Course]) -> Html:
    rows = [
        [
            course.id or _WARM,
            bar.kind,
            bar.words,
            duration(bar.start),
            duration(bar.end - bar.start),
        ]
        for course in courses
        for bar in sorted(course.bars, key=lambda bar: bar.start)
    ]
    more = f"{len(rows) - _ROWS:,} rows more are left out." if len(rows) > _ROWS else ""
    titles = ["step", "what", "in words", "from", "for"]
    made = table("The time line's bars", titles, rows[:_ROWS], aligned="<<<>>")
    return join(made, el("p", more, class_="quiet") if more else None)
