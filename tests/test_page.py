"""What a page tells of a run, and that nothing in it can act on the browser that shows it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import html5lib
import pages
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scratch import make

from runner.events import AttemptFinished, CommandFinished, Decided, SnapshotTaken, StepStarted
from runner.outcome import Attempt, Rung, Verdict
from runner.page import Seen, mends, render_page
from runner.page.axis import percent, ticks, time_ticks
from runner.page.colours import DARK, GRAPHICS, LIGHT, TEXTS, contrast
from runner.page.css import style
from runner.page.diff import counted, render_diff
from runner.page.facts import Tried
from runner.page.html import Html, el, escape, join, style_sheet
from runner.page.room import LINE, Room
from runner.page.timeline import LANES, clock
from runner.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree.ElementTree import Element

    from runner.events import Event
    from runner.journal import Record

NAMESPACE = "{http://www.w3.org/1999/xhtml}"


def parsed(page: str) -> Element:
    """Parse as a browser does; what the standard calls a parse error fails the test."""
    parser: Any = html5lib.HTMLParser(strict=True)
    return parser.parse(page)


def every(root: Element, *names: str) -> Iterator[Element]:
    """Yield elements by local name, SVG's too."""
    for one in root.iter():
        if one.tag.rpartition("}")[2] in names:
            yield one


def text_of(one: Element) -> str:
    return " ".join("".join(one.itertext()).split())


def headings(root: Element) -> list[str]:
    return [text_of(one) for one in every(root, "h2")]


RUNS = {
    "everything": pages.everything(),
    "killed": pages.killed(),
    "one": pages.plain(1),
    "sixty": pages.plain(60, failing=3),
    "begun": pages.everything()[:1],
}


# -- the door --------------------------------------------------------------------------------------


@given(st.text(), st.text())
def test_no_text_becomes_markup(child: str, attribute: str) -> None:
    made = el("p", child, title=attribute)
    found = next(every(parsed(f"<!DOCTYPE html><title>x</title>{made}"), "p"))
    assert len(found) == 0
    nowhere = re.compile("[\ufdd0-\ufdef]|[\ufffe\uffff]")
    if not nowhere.search(child + attribute) and all(ord(c) < 0xFFFF for c in child + attribute):
        assert (found.text or "") == clean(child)
        assert found.get("title") == clean(attribute)


@given(st.text(alphabet=st.sampled_from("<>&\"'/!-sscript=\x00\x1b\u202e\u2066\u200b\r\n")))
def test_nothing_acts_on_a_reader(text: str) -> None:
    made = str(escape(text))
    assert not re.search("[<>\"'\x00\x1b\u202e\u2066\u200b\r]", made)


@pytest.mark.parametrize("code", [0xFFFE, 0xFDD0, 0x1FFFF, 0x10FFFE, 0xD800])
def test_what_no_page_may_hold_is_replaced(code: int) -> None:
    assert escape(f"a{chr(code)}b") == "a\ufffdb"


@pytest.mark.parametrize("name", ["onclick", "ONLOAD", "a b", "x=y", '"', ""])
def test_no_attribute_is_a_script(name: str) -> None:
    with pytest.raises(ValueError, match="no attribute"):
        el("p", **{name: "x"})


@pytest.mark.parametrize(
    "target", ["https://x", "//x", "javascript:x", "data:,x", "file:///", " #a"]
)
def test_no_link_leads_out(target: str) -> None:
    with pytest.raises(ValueError, match="out of the page"):
        el("a", "x", href=target)
    assert str(el("a", "x", href="#a")) == '<a href="#a">x</a>'


@pytest.mark.parametrize("tag", ["p>", "script src", "", "1a", "p\n"])
def test_no_name_breaks_out(tag: str) -> None:
    with pytest.raises(ValueError, match="no name of an element"):
        el(tag)


def test_attributes_and_children_come_in_all_kinds() -> None:
    made = el("p", "<", None, [Html("<b>"), 3], class_="a", open=True, id=None, hidden=False)
    assert str(made) == '<p class="a" open>&lt;<b>3</p>'
    assert str(join("a", el("br"))) == "a<br>"
    with pytest.raises(ValueError, match="no markup"):
        style_sheet("a{}</style>")


# -- the whole page --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_a_page_is_well_formed_and_needs_nothing(name: str) -> None:
    page = pages.page(RUNS[name])
    root = parsed(page)
    assert [
        one.tag for one in every(root, "script", "link", "img", "iframe", "object", "a:href")
    ] == []
    for one in root.iter():
        for key, value in one.attrib.items():
            assert not str(key).lower().startswith("on"), (one.tag, key)
            assert key != "style", "the policy allows no inline style"
            if key in ("href", "src", "{http://www.w3.org/1999/xlink}href"):
                assert value.startswith("#")
    assert "alert(" not in "".join(one.text or "" for one in every(root, "style"))
    outside = re.findall(r"url\((?!#)|@import|https?://|<base", page)
    assert outside == []
    assert not re.search("[\x00\x1b\u202e]", page)


@pytest.mark.parametrize("name", RUNS)
def test_every_id_is_there_once_and_every_link_finds_one(name: str) -> None:
    root = parsed(pages.page(RUNS[name]))
    ids = [str(one.get("id")) for one in root.iter() if one.get("id")]
    assert sorted(ids) == sorted(set(ids))
    targets = [str(one.get("href"))[1:] for one in every(root, "a")]
    assert [one for one in targets if one not in ids] == []
    named = [one.get("aria-labelledby") for one in root.iter() if one.get("aria-labelledby")]
    assert [one for one in named if one not in ids] == []
    fills = [str(one.get("fill")) for one in root.iter() if "url" in str(one.get("fill"))]
    assert [one for one in fills if one[5:-1] not in ids] == []


@pytest.mark.parametrize("name", RUNS)
def test_headings_go_down_step_by_step(name: str) -> None:
    levels = [
        int(one.tag[-1]) for one in every(parsed(pages.page(RUNS[name])), "h1", "h2", "h3", "h4")
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("name", RUNS)
def test_no_section_is_empty(name: str) -> None:
    root = parsed(pages.page(RUNS[name]))
    for one in every(root, "section", "article", "details", "table"):
        own = [text_of(child) for child in one if "caption" not in str(child.tag)]
        assert len([text for text in own if text]) > 1 or len(list(every(one, "tr"))) > 1, own


@pytest.mark.parametrize("name", RUNS)
def test_tables_say_what_their_cells_are(name: str) -> None:
    for table in every(parsed(pages.page(RUNS[name])), "table"):
        assert [one.get("scope") for one in every(next(every(table, "thead")), "th")]
        rows = list(every(next(every(table, "tbody")), "tr"))
        for row in rows:
            assert [one.get("scope") for one in every(row, "th")] == ["row"]
        widths = {len(row) for row in rows} | {len(next(every(table, "tr")))}
        assert len(widths) == 1


@pytest.mark.parametrize("name", RUNS)
def test_charts_say_what_they_show(name: str) -> None:
    for chart in every(parsed(pages.page(RUNS[name])), "svg"):
        if chart.get("aria-hidden") == "true":
            continue
        assert chart.get("role") == "img"
        assert text_of(next(every(chart, "title")))
        assert text_of(next(every(chart, "desc")))


def test_the_policy_allows_the_one_style_sheet_and_nothing_else() -> None:
    page = pages.page(RUNS["one"])
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith("default-src &#x27;none&#x27;; style-src &#x27;sha256-")
    assert "unsafe" not in policy
    assert page.count("<style>") == 1


# -- what it tells ---------------------------------------------------------------------------------


def test_what_failed_comes_first_with_its_output_and_what_to_do() -> None:
    root = parsed(pages.page(RUNS["everything"]))
    assert headings(root)[0] == "What failed"
    failed = next(one for one in every(root, "section") if one.get("id") == "failed")
    said = text_of(failed)
    assert "FAILED </script>" in said
    assert "runner explain 20261121-174530-3f9a test" in said
    assert "1 of 9 fails" in said


def test_what_was_allowed_to_fail_is_no_failure_of_the_run() -> None:
    told = pages.plain(2, failing=1)
    start = told[0].event
    allowed = [told[0]._replace(event=pages.replace(start, may_fail=("step-0",))), *told[1:]]  # type: ignore[type-var]
    assert "What failed" not in headings(parsed(pages.page(allowed)))
    assert "exit 1, may fail" in pages.page(allowed)


def test_a_run_without_git_or_models_has_no_such_sections() -> None:
    assert headings(parsed(pages.page(RUNS["one"]))) == ["Steps", "Time line", "About this run"]
    assert "no model was asked" in pages.page(RUNS["one"])


def test_a_killed_run_tells_where_it_was_cut_off() -> None:
    page = pages.page(RUNS["killed"])
    assert "ship killed" in page
    assert "interrupted" in page
    assert "attempt 3 was cut off" in page
    told = pages.story(RUNS["killed"])
    cut = [bar for bar in told.courses["test"].bars if bar.cut]
    assert sorted(bar.kind for bar in cut) == ["attempt", "step"]
    assert {bar.end for bar in cut} == {26.0}
    assert "Tokens of each request" in page


def test_a_night_between_two_lives_is_no_time_of_the_run() -> None:
    told = pages.story(RUNS["everything"])
    assert told.seconds == pytest.approx(26.0 + 22.0)
    assert told.resumed == (26.0,)
    mains = [b for b in told.courses["test"].bars if b.kind == "attempt" and b.rung == "main"]
    assert [(round(b.start, 1), round(b.end, 1), b.cut) for b in mains] == [
        (18.8, 26.0, True), (30.0, 46.0, False),
    ]  # fmt: skip
    assert "taken up again" in pages.page(RUNS["everything"])


def test_a_clock_that_is_set_back_ends_nothing_before_it_begins() -> None:
    told = [one._replace(at=one.at - 500 * (n > 9)) for n, one in enumerate(RUNS["everything"])]
    bars = [bar for course in pages.story(told).courses.values() for bar in course.bars]
    assert all(0 <= bar.start <= bar.end for bar in bars)


def test_costs_by_role_add_up_beside_the_estimates() -> None:
    root = parsed(pages.page(RUNS["everything"]))
    table = next(t for t in every(root, "table") if text_of(t[0]) == "Cost by role")
    rows = [[text_of(cell) for cell in row] for row in every(table, "tr")]
    assert [(row[0], row[-1]) for row in rows] == [
        ("role", "cost"),
        ("main", "at least $0.2700"),
        ("cheap", "$0.0042"),
        ("keepalive", "$0.0080"),
        ("this run", "at least $0.2822"),
        ("inline on main (estimate)", "about $0.9000"),
        ("by switching (estimate)", "about $0.1000"),
    ]
    chart = next(c for c in every(root, "svg") if "Cost by role" in text_of(c))
    widths = [float(str(one.get("width"))[:-1]) for one in every(chart, "rect")]
    assert widths == pytest.approx([30.0, 0.467, 0.889, 100.0, 11.111], abs=0.001)
    starts = [float(str(one.get("x"))[:-1]) for one in every(chart, "rect")]
    assert starts == pytest.approx([0.0, 30.0, 30.467, 0.0, 0.0], abs=0.001)


def test_the_cache_chart_is_to_scale_and_marks_expected_reads_and_breaks() -> None:
    root = parsed(pages.page(RUNS["everything"]))
    chart = next(c for c in every(root, "svg") if "Tokens of each request" in text_of(c))
    of = {name: [one for one in every(chart, "rect", "line", "text") if one.get("class") == name]
          for name in ("read", "written", "uncached", "expected", "break")}  # fmt: skip
    assert [len(of[name]) for name in of] == [3, 3, 4, 4, 2]
    # The second request: 40,000 of the 45,000 that the highest bar has.
    assert float(str(of["read"][0].get("height"))) == pytest.approx(170 * 40_000 / 45_000, abs=0.02)
    assert "5 requests; 1 broke the prefix: 4" in text_of(chart)
    section = next(one for one in every(root, "section") if one.get("id") == "cache")
    assert "✗ BROKEN 1 time" in text_of(section)
    assert "missed by the provider" in text_of(section)


def test_decisions_are_told_as_explain_tells_them_with_their_arithmetic() -> None:
    root = parsed(pages.page(RUNS["everything"]))
    told = [one for one in every(root, "article") if one.get("class") == "decision"]
    assert [one.get("id") for one in told] == ["decision-1", "decision-2", "decision-3"]
    assert "decided: AskSubagent, for the command failed" in text_of(told[0])
    assert str(pages.FACTS["choice"]) in text_of(told[0])
    rows = [[text_of(cell) for cell in row] for row in every(told[0], "tr")]
    assert rows[:2] == [["fact", "value"], ["subagent_usd", "0.002942"]]
    assert text_of(told[2]).startswith("the run")


def test_a_course_is_told_in_order_with_changes_and_undoing() -> None:
    root = parsed(pages.page(RUNS["everything"]))
    step = next(one for one in every(root, "article") if text_of(one).startswith("✗ test"))
    told = [text_of(one) for one in next(every(step, "ol"))]
    words = [
        "run: exit 1", "attempt 1 command hard", "decided: AskSubagent", "attempt 2 subagent",
        "changes undone in 1 path, 1 path left to others", "decided: AskMain",
        "attempt 3 was cut off", "attempt 3 main",
    ]  # fmt: skip
    assert [
        n for n, (line, word) in enumerate(zip(told, words, strict=True)) if word not in line
    ] == []
    assert "Changes: +2 -2 lines" in told[3]
    assert "edit_file calc.py" in told[3]
    assert "1 tool call" in told[3]
    added = [text_of(one) for one in every(step, "ins")]
    assert added == ["+ return a + b", "+++ one more"]


def test_a_mend_is_shown_from_the_tree_before_it() -> None:
    ((step, tried),) = mends(pages.story(RUNS["everything"]).courses.values())
    assert (step, tried.number, tried.before, tried.after) == ("test", 2, "a" * 40, "b" * 40)


@pytest.mark.parametrize(
    ("labels", "trees"),
    [
        # A mend, as the ladder tells it, with what is recorded after each call.
        (["before mends", "before attempt 1", "after call 1", "after attempt 1"], ("1", "3")),
        (["before attempt 1", "before restore", "before attempt 1", "after attempt 1"], ("2", "3")),
        # A prompt step has no snapshot of its own for each attempt.
        (["before prompt", "after call 1", "after attempt 1"], ("0", "2")),
        (["before prompt", "after attempt 0", "after attempt 1"], ("0", "2")),
        (["before attempt 1", "before restore", "after attempt 1"], ("0", "2")),
        (["before prompt", "before restore"], ("", "")),
    ],
)
def test_the_trees_around_an_attempt(labels: list[str], trees: tuple[str, str]) -> None:
    taken = [(n, SnapshotTaken("a", label, str(n))) for n, label in enumerate(labels)]
    attempt = Attempt(1, Rung.SUBAGENT, "cheap", Verdict.PASSED, "passed", seconds=1.0)
    told = pages.records([(0, pages.START), *taken, (9, AttemptFinished("a", attempt))])
    (tried,) = [one for _, one in pages.story(told).courses["a"].told if isinstance(one, Tried)]
    assert (tried.before, tried.after) == trees


def test_a_diff_that_cannot_be_read_says_so() -> None:
    words = "[the changes cannot be read: no such tree]"
    page = pages.page(RUNS["everything"], Seen({("test", 2): words}, {}))
    assert words in page
    assert "<ins>" not in page


@pytest.mark.parametrize(
    ("diff", "added", "removed"),
    [
        (
            pages.DIFF,
            ["+    return a + b", "+++ one more"],
            ["-    return a - b", "--- a comment that looks like a header"],
        ),
        ("diff --git a/x b/x\n--- /dev/null\n+++ b/x\n@@ -0,0 +1 @@\n+a\n", ["+a"], []),
        ("--- a/x\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n\\ No newline at end of file\n", [], ["-a"]),
        ("@@ -1 +1 @@\n+b\n-a\n", ["+b"], ["-a"]),
        ("@@ nonsense @@\n+a\n", [], []),
        ("@@ -1,x +1,- @@\n+a\n-b\n", [], []),
        ("@@ -1 +1,2 @@ def f():\n-a\n+b\n+c\n+d\n", ["+b", "+c"], ["-a"]),
        ("", [], []),
    ],
)  # fmt: skip
def test_lines_of_a_diff(diff: str, added: list[str], removed: list[str]) -> None:
    assert counted(diff) == (len(added), len(removed))
    root = parsed(f"<!DOCTYPE html><title>x</title>{render_diff(diff)}")
    assert ["".join(one.itertext()).rstrip("\n") for one in every(root, "ins")] == added
    assert ["".join(one.itertext()).rstrip("\n") for one in every(root, "del")] == removed


# -- size ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_thousand_steps_with_long_outputs_give_a_page_that_can_be_sent() -> None:
    told = pages.plain(1_000, failing=500)
    big = Seen({}, {f"/s/run/{n}.log": "<&>" * 6_000 + "\nthe last line" for n in range(500)})
    page = render_page(pages.story(told), big)
    assert len(page.encode()) < 5_000_000
    root = parsed(page)
    assert f"{1_000 - LANES} steps more" in page
    lanes = [one for one in every(root, "svg") if one.get("class") == "lane" and one.get("role")]
    assert len(lanes) == LANES
    assert "500 steps succeeded at rung command" in page
    assert "the last line" in page
    assert re.search(r"\d+ steps more: runner show", page)


def test_whatever_is_written_the_page_can_be_sent() -> None:
    told: list[tuple[float, Event]] = [(0.0, pages.START)]
    told += [(0.0, StepStarted(f"step-{number}")) for number in range(300)]
    for number in range(3_000):
        step = f"step-{number % 300}"
        facts = {f"fact-{n}": '"' * 2_000 for n in range(9)}
        told.append((number, Decided(step, "&" * 300, "<" * 300, facts if number < 300 else {})))
        told.append((number, CommandFinished(step, "run", "<" * 200, 1, False, 1.0, 9, "", number)))
    page = pages.page(pages.records(told))
    assert len(page.encode()) < 5_000_000
    assert re.search(r"2,\d{3} more: runner explain", page)
    assert "lines are left out: runner explain 20261121-174530-3f9a step-" in page


@given(st.lists(st.text(max_size=40), max_size=30), st.integers(0, 4_000), st.integers(0, 4_000))
def test_no_more_is_taken_than_there_is_room(lines: list[str], left: int, most: int) -> None:
    text = "\n".join(lines)
    for take in (Room.tail, Room.head):
        room = Room(left)
        kept, cut = take(room, text, most)
        size = len(escape(kept).encode()) if kept else 0
        assert size <= min(left, most)
        assert room.left >= 0
        more, _ = take(room, text, most)
        assert size + len(escape(more).encode()) <= left
        if not cut and all(len(line) <= most // 8 for line in text.split("\n")):
            assert kept == text


def test_the_end_of_an_output_is_kept_and_the_beginning_of_a_diff() -> None:
    text = "\n".join(f"line {n}" for n in range(100))
    assert Room(10_000).tail(text, 80)[0].endswith("line 98\nline 99")
    assert Room(10_000).head(text, 10 * (LINE + 7))[0].startswith("line 0\nline 1")
    assert "[... cut ...]" in Room(10_000).tail("x" * 9_000, 800)[0]


# -- axes and colours ------------------------------------------------------------------------------


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=0, max_value=1e9))
def test_marks_of_an_axis_are_round_and_within(most: float) -> None:
    for made in (ticks(most), time_ticks(most)):
        assert made[0] == 0
        assert len(made) <= 12
        assert all(tick <= most * 1.00001 for tick in made)
        assert made == sorted(set(made))


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (0.0, ["0ms"]),
        (0.04, ["0ms", "10ms", "20ms", "30ms", "40ms"]),
        (2.8, ["0s", "1s", "2s"]),
        (9.0, ["0s", "2s", "4s", "6s", "8s"]),
        (60.0, ["0s", "15s", "30s", "45s", "1m"]),
        (3_000.0, ["0s", "10m", "20m", "30m", "40m", "50m"]),
    ],
)
def test_a_clock_reads_as_people_read_one(most: float, marks: list[str]) -> None:
    assert [clock(tick, most) for tick in time_ticks(most)] == marks


@pytest.mark.parametrize(
    ("value", "most", "text"),
    [(1, 8, "12.5%"), (0, 8, "0%"), (9, 8, "100%"), (-1, 8, "0%"), (1, 0, "0%"), (1, 3, "33.333%")],
)
def test_a_part_as_svg_takes_it(value: float, most: float, text: str) -> None:
    assert percent(value, most) == text


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_what_is_written_and_drawn_can_be_seen(palette: dict[str, str]) -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    # WCAG 2.2: 1.4.3 asks 4.5 of text, 1.4.11 asks 3 of what a chart is read by.
    grounds = ("paper", "panel", "bad-paper")
    weak = [(t, g) for t in TEXTS for g in grounds if contrast(palette[t], palette[g]) < 4.5]
    assert weak == []
    assert [g for g in ("added", "removed") if contrast(palette["ink"], palette[g]) < 4.5] == []
    assert [name for name in GRAPHICS if contrast(palette[name], palette["paper"]) < 3] == []


def test_every_colour_that_is_used_is_there_in_both() -> None:
    used = set(re.findall(r"var\(--([a-z-]+)\)", style()))
    assert used == set(LIGHT) == set(DARK)
    assert not re.search(r"#[0-9a-f]{3,6}\b", style().split("* { box-sizing")[1])


# -- the command -----------------------------------------------------------------------------------

MENDED = """\
name: ship
steps:
  - id: test
    run: python3 -m unittest -q test_calc
    fix: { agent: fixer }
"""
CHEAP = """\
rules:
  - turns:
      - call: edit_file
        with: { path: calc.py, old_text: "a - b", new_text: "a + b  # sk-ant-0123456789" }
      - done: Mended.
"""


def runner(cwd: Path, *args: str, **more: str) -> subprocess.CompletedProcess[str]:
    state = {"SUBRUNNER_STATE_DIR": str(cwd.parent / "state"), **more}
    command = [sys.executable, "-m", "runner", *args]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **state}, capture_output=True, text=True, check=False
    )


@pytest.fixture
def mended(world: Path) -> Path:
    """Return a repository in which a run mended a failing test."""
    scratch = make(world)
    scratch.write(
        "calc.py", "def add(a, b):\n    return a - b\n\n\ndef double(a):\n    return a * 2\n"
    )
    scratch.commit_all("break it")
    (world / "workflow.yaml").write_text(MENDED)
    (world / "cheap.yaml").write_text(CHEAP)
    asked = ("exec", "../workflow.yaml", "--model", f"cheap=script:{world}/cheap.yaml")
    assert runner(scratch.root, *asked, "-q").returncode == 7
    return scratch.root


def test_a_real_run_is_told_from_journal_logs_and_snapshots(mended: Path) -> None:
    done = runner(mended, "report", SOME_API_KEY="sk-ant-0123456789")
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.name == "report.html"
    assert path.is_relative_to(mended.parent / "state")
    assert path.stat().st_mode & 0o777 == 0o600
    page = path.read_text()
    root = parsed(page)
    assert [text_of(one) for one in every(root, "del")] == ["- return a - b"]
    # A secret of this environment is hidden where it came into a file.
    assert [text_of(one) for one in every(root, "ins")] == ["+ return a + b # ***"]
    assert "AssertionError: -1 != 5" in page
    assert "sk-ant" not in page
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=mended, capture_output=True, text=True, check=True
    )
    assert status.stdout == " M calc.py\n", "nothing is written into the tree"


def test_a_secret_that_no_run_was_granted_is_hidden_wherever_the_page_has_it(world: Path) -> None:
    scratch = make(world)
    scratch.write("secret.txt", "key s3cret-value-0123\n")
    steps = "  - { id: test, run: cat secret.txt >&2; false }\n"
    (world / "workflow.yaml").write_text(f"name: leaks\nsteps:\n{steps}")
    assert runner(scratch.root, "exec", "../workflow.yaml", "-q").returncode == 1
    assert "s3cret-value" in runner(scratch.root, "report", "-o", "-").stdout
    page = runner(scratch.root, "report", "-o", "-", DB_PASSWD="s3cret-value-0123").stdout
    assert page.count("key ***") == 2, "among what failed, and in the step's course"
    assert "s3cret-value" not in page


def test_the_page_goes_where_it_is_told_to(mended: Path) -> None:
    piped = runner(mended, "report", "last", "-o", "-")
    assert piped.stdout.startswith("<!DOCTYPE html>")
    named = runner(mended, "report", "-o", "../page.html")
    assert named.stdout == "../page.html\n"
    assert (mended.parent / "page.html").read_text() == piped.stdout
    # A program that opens pages stands in for the desktop's.
    bin_dir = mended.parent / "bin"
    bin_dir.mkdir()
    opener = bin_dir / ("open" if sys.platform == "darwin" else "xdg-open")
    opener.write_text(f'#!/bin/sh\necho "$1" >"{mended.parent}/opened"\n')
    opener.chmod(0o755)
    opened = runner(mended, "report", "--open", PATH=f"{bin_dir}:{os.environ['PATH']}")
    assert opened.returncode == 0
    for _ in range(100):
        if (mended.parent / "opened").exists() and (mended.parent / "opened").read_text():
            break
        subprocess.run(["sleep", "0.05"], check=True)
    assert (mended.parent / "opened").read_text() == opened.stdout


def test_a_slip_is_explained(mended: Path) -> None:
    slips = {
        "nosuch": "no run 'nosuch' here",
        "-o/dev/null/page.html": "cannot be written to /dev/null/page.html: Not a directory",
        "-ono/such/page.html": "no/such/page.html: No such file",
    }
    for slip, words in slips.items():
        done = runner(mended, "report", slip)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_where_nothing_ran_there_is_nothing_to_report(world: Path) -> None:
    (world / "empty").mkdir()
    done = runner(world / "empty", "report")
    assert done.returncode == 2
    assert "no run has been recorded" in done.stderr


def test_what_is_gone_is_said_and_the_rest_is_told(mended: Path) -> None:
    state = next((mended.parent / "state" / "repos").iterdir())
    for log in state.glob("runs/*/logs/*"):
        log.unlink()
    for objects in (state / "control.git" / "objects").glob("??"):
        for one in objects.iterdir():
            one.unlink()
    done = runner(mended, "report", "-o", "-")
    assert done.returncode == 0, done.stderr
    assert "[the changes cannot be read: " in done.stdout
    assert "attempt 2 " in done.stdout


def test_the_tail_of_a_long_log_is_shown(world: Path) -> None:
    scratch = make(world)
    (world / "workflow.yaml").write_text(
        "name: long\nsteps:\n  - id: a\n    run: seq 100000; echo the-very-last; exit 3\n"
        "    retry: { attempts: 1 }\n"
    )
    assert runner(scratch.root, "exec", "../workflow.yaml", "-q").returncode == 1
    page = runner(scratch.root, "report", "-o", "-").stdout
    found = [text_of(one) for one in every(parsed(page), "pre")]
    assert len(found) >= 3
    assert all(one.endswith("the-very-last") for one in found)
    assert page.count("The end of its output") >= 2
    assert len(page) < 200_000


def test_no_command_but_this_one_pays_for_the_page() -> None:
    code = "import runner.cli.exec, runner.api, sys; print('runner.page' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.lower()) is False


def test_the_first_record_alone_makes_a_page() -> None:
    told: list[Record] = pages.everything()[:1]
    assert "ship killed" in pages.page(told)
