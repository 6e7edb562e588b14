"""Writes a run as one HTML page that needs nothing else: no script, no network, no font. Pure."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

from runner.page.css import style
from runner.page.facts import Course, Story, failed_commands, mends, story_of
from runner.page.html import Html, document, el, join, style_sheet
from runner.page.parts import section
from runner.page.room import Room
from runner.page.sections import about, cache, costs, decisions, failures, head, remarks
from runner.page.steps import Rooms, Seen, step_details, step_table, told_steps
from runner.page.timeline import timeline

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.report import Report

__all__ = [
    "Course",
    "Seen",
    "Story",
    "failed_commands",
    "mends",
    "render_page",
    "story_of",
    "told_steps",
]

TAILS = 700_000
"""Bytes of markup that all outputs may take."""
DIFFS = 1_100_000
"""Bytes of markup that all changes may take."""
COURSES = 2_400_000
"""Bytes of markup that all courses may take, with those outputs and changes."""
DECIDED = 500_000


def render_page(story: Story, seen: Seen, *, where: str = "") -> str:
    """Return the page of a run.

    Args:
        story: What the journal tells.
        seen: Changes and outputs that were read beside it.
        where: Options that the commands it names need, to be about the same run.
    """
    report = story.report
    anchors = {step.id: f"step-{at}" for at, step in enumerate(told_steps(story), start=1)}
    # What failed is told first, and has the first of the room.
    rooms = Rooms(Room(TAILS), Room(DIFFS), Room(COURSES))
    failed = failures(report, anchors, rooms.tails, where)
    line = timeline(story, anchors)
    parts: Mapping[str, tuple[str, Html | None]] = {
        "failed": ("What failed", failed),
        "remarks": ("Worth knowing", remarks(report, where)),
        "steps": ("Steps", step_table(story, anchors)),
        "time": ("Time line", section("time", "Time line", line) if line else None),
        "cost": ("Cost", costs(report)),
        "cache": ("Cache", cache(report)),
        "decisions": ("Decisions", decisions(story, anchors, Room(DECIDED))),
        "courses": ("Step by step", step_details(story, anchors, seen, rooms)),
        "about": ("About this run", about(report)),
    }
    shown = {anchor: part for anchor, part in parts.items() if part[1] is not None}
    links = [el("li", el("a", name, href=f"#{anchor}")) for anchor, (name, _) in shown.items()]
    body = join(
        el("a", "To the content", href="#content", class_="skip"),
        head(report),
        el("nav", el("ul", links), aria_label="Sections") if len(links) > 1 else None,
        el("main", [part for _, part in shown.values()], id="content"),
        _foot(report, where),
    )
    return document(_meta(report), body)


def _meta(report: Report) -> Html:
    css = style()
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return join(
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", f"{report.workflow or 'run'} {report.status}: run {report.run_id}"),
        style_sheet(css),
    )


def _foot(report: Report, where: str) -> Html:
    run = report.run_id
    return el(
        "footer",
        el(
            "p",
            "Made by runner from the journal of this run; times count from its start, pauses "
            "between two lives of it are left out. Secrets granted to the run were masked when "
            "it was recorded. What is cut here is whole there:",
        ),
        el(
            "ul",
            el("li", el("code", f"runner show {run}{where}"), ", --cost, --prefix, --json"),
            el("li", el("code", f"runner explain {run}{where}"), ": every decision and command"),
            el("li", el("code", f"runner log {run} STEP{where}"), ": a step's whole last output"),
            el("li", el("code", f"runner restore {run} --list{where}"), ": its snapshots"),
            el("li", "logs: ", el("code", f"{report.state_dir}/logs"))
            if report.state_dir
            else None,
        ),
    )
