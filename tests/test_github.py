"""GitHub Actions: annotations on the lines that failed, folded output, the step summary."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
import unicodedata
from dataclasses import dataclass
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest
from githubjob import Command, commands
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from scratch import CALC, UNITTEST, make
from test_fingerprints import FILES, NAMES, fail, output
from test_junit import report, step, tried

from runner.cli.github import GitHubJob, Harmless
from runner.cli.logs import printed
from runner.cli.stepsummary import LIMIT, step_summary
from runner.events import StepFinished
from runner.outcome import Attempt, Place, Rung, Status, StepOutcome, Usage, Verdict
from runner.report import Baseline, ModelReport, Total
from runner.report.github import (
    GROUP_BYTES,
    MOST_OF_RUN,
    MOST_OF_STEP,
    Annotation,
    command,
    group,
    harmless,
    harmless_json,
    remarks,
)

if TYPE_CHECKING:
    from pathlib import Path

    from scratch import Scratch

PIECES = ["::error::", "##[add-mask]", "::stop-commands::x", "\n::set-output name=a::b"]
NASTY = st.lists(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from(":#[]% ,=\r\n\t\x00\x0b\x1b\u200b\u2028\xad\xa0\ufeff"),
        st.sampled_from(PIECES),
    ),
    max_size=30,
).map("".join)

# -- where failures are ----------------------------------------------------------------------------

PLACES: dict[str, list[tuple[str, int, int, str]]] = {
    "pytest-failures": [
        ("tests/test_calc.py", 32, 0, "RuntimeError: fixture broke"),
        ("tests/test_calc.py", 8, 0, "assert -1 == 3"),
        ("src/calc.py", 10, 0, "TypeError: unsupported operand type(s) for -: 'str' and 'str'"),
        ("src/calc.py", 14, 0, "ZeroDivisionError: division by zero"),
    ],
    "pytest-quiet": [("tests/test_calc.py", 0, 0, "assert -1 == 3")],
    "pytest-collect": [
        ("tests/test_imp.py", 1, 0, "ModuleNotFoundError: No module named 'nosuch'"),
        ("tests/test_syn.py", 0, 0, "failed"),
    ],
    "unittest-failures": [
        ("src/calc.py", 10, 0, "TypeError: unsupported operand type(s) for -: 'str' and 'str'"),
        ("ut/test_u.py", 6, 0, "AssertionError: -1 != 3"),
        ("ut/test_u.py", 14, 0, "AssertionError: 0 != 1"),
    ],
    "jest-suites": [("imp.test.js", 1, 11, "Cannot find module './nothere' from 'imp.test.js'")],
    "vitest-failures": [
        ("imp.test.js", 1, 72, "Error: Cannot find module './nothere' imported from imp.test.js"),
        ("sum.test.js", 4, 43, "AssertionError: expected -1 to be 3 // Object.is equality"),
        ("sum.test.js", 6, 33, "Error: bad at 23490"),
    ],
    "cargo-test": [("src/lib.rs", 14, 9, "assertion `left == right` failed")],
    "cargo-build": [
        ("src/lib.rs", 1, 30, "E0425: cannot find function `undefined_fn` in this scope"),
        ("src/lib.rs", 1, 46, "E0308: mismatched types"),
    ],
    "cargo-fmt": [("src/lib.rs", 1, 0, "not formatted"), ("tests/it.rs", 1, 0, "not formatted")],
    "go-build": [("broken/b.go", 3, 23, 'cannot use "x" (untyped string constant) as int value')],
    "ruff-full": [("lint/a.py", 1, 8, "F401 `os` imported but unused")],
    "ruff-concise": [("lint/a.py", 1, 8, "F401 `os` imported but unused")],
    "ruff-grouped": [("lint/a.py", 1, 8, "F401 `os` imported but unused")],
    "ruff-github": [("lint/a.py", 1, 8, "F401 `os` imported but unused")],
    "ruff-format-check": [("lint/a.py", 12, 1, "unformatted: File would be reformatted")],
    "mypy-pretty": [("ty/m.py", 2, 12, "Incompatible return value type")],
    "pyright-errors": [("ty/m.py", 2, 12, 'Type "int" is not assignable to return type "str"')],
    "tsc-errors": [("src/a.ts", 2, 7, "TS2322: Type 'string' is not assignable")],
    "tsc-pretty": [("src/a.ts", 2, 7, "TS2322: Type 'string' is not assignable")],
    "eslint-stylish": [("es/a.js", 1, 5, "'x' is assigned a value but never used")],
    "eslint-warnings": [("es/a.js", 1, 5, "'x' is assigned a value but never used")],
    "biome-lint": [("b.js", 2, 10, "lint/suspicious/noDuplicateObjectKeys: This property")],
    "pre-commit-failures": [("lint/a.py", 1, 8, "F401 `os` imported but unused")],
}


@pytest.mark.parametrize("name", PLACES)
def test_the_lines_that_a_tool_points_at(name: str) -> None:
    found = fail(output(name)).places
    expected = PLACES[name]
    assert [(one.path, one.line, one.column) for one in found[: len(expected)]] == [
        one[:3] for one in expected
    ]
    for one, (*_, message) in zip(found, expected, strict=False):
        assert one.message.startswith(message)


@pytest.mark.parametrize("name", NAMES)
def test_places_are_files_of_the_tree_each_once_and_few(name: str) -> None:
    found = fail(output(name)).places
    assert len(found) <= 10
    assert len({(one.path, one.line, one.column) for one in found}) == len(found)
    assert all(one.path in FILES and one.line >= 0 and one.message for one in found)


def test_warnings_count_only_where_nothing_else_failed() -> None:
    text = "ty/m.py:3:1: warning: mild\nty/m.py:9:2: error: bad\nty/m.py:9:2: note: see\n"
    assert [one.line for one in fail(text).places] == [9]
    assert [one.line for one in fail("ty/m.py:3:1: warning: mild\n").places] == [3]


def test_any_tool_that_writes_path_line_message_is_understood() -> None:
    found = fail("checking\nsrc/a.ts:12: bad thing\n  es/a.js:3:4: worse\nnope.js:1:1: not ours\n")
    assert found.places == (
        Place("src/a.ts", 12, 0, "bad thing"),
        Place("es/a.js", 3, 4, "worse"),
    )


def test_a_traceback_of_a_script_points_at_its_last_line_in_the_tree() -> None:
    text = (
        'Traceback (most recent call last):\n  File "/w/r/src/calc.py", line 2, in <module>\n'
        '    go()\n  File "/usr/lib/python3/json.py", line 9, in go\nValueError: no\n'
    )
    assert fail(text).places == (Place("src/calc.py", 2, 0, "ValueError: no"),)


@given(NASTY)
def test_no_output_breaks_the_search_for_places(text: str) -> None:
    for one in fail(f"src/a.ts:3:4: {text}\n{text}\n").places:
        assert one.path in FILES
        assert "\n" not in one.message


# -- annotations -----------------------------------------------------------------------------------


def failed(name: str = "lint", *places: Place, **more: Any) -> Any:
    facts = {"reason": "exit 1", "attempts": (tried(Verdict.HARD),), **more}
    return step(name, "failed", places=places, **facts)


def test_a_command_is_escaped_as_the_toolkit_does() -> None:
    one = Annotation("error", "a:b,c%", "50% of\r\nit: x, y", "d,e:f.py", 3, 7)
    # https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts
    assert command(one) == (
        "::error file=d%2Ce%3Af.py,line=3,col=7,title=a%3Ab%2Cc%25::50%25 of it: x, y"
    )


@given(NASTY, NASTY, NASTY)
@settings(max_examples=200)
def test_an_annotation_is_one_command_that_says_what_it_should(
    title: str, message: str, path: str
) -> None:
    text = command(Annotation("warning", title, message, path, 3))
    (found,) = commands(text)
    assert found.name == "warning"
    assert found.facts.get("line") == "3"
    if path and not re.search(r"[^\x20-\x7e]", path):
        assert found.facts["file"] == path


def test_failures_are_errors_on_their_lines() -> None:
    made = report(failed("lint", Place("a.py", 1, 8, "F401 unused")), code=1)
    assert remarks(made) == (Annotation("error", "lint failed", "F401 unused", "a.py", 1, 8),)


def test_a_failure_without_a_line_is_an_error_that_says_what_to_do() -> None:
    (one,) = remarks(report(failed("test", hint="Set KEY."), code=1))
    assert (one.level, one.path) == ("error", "")
    assert one.message == "exit 1: pytest -q. Set KEY."


def test_what_may_fail_is_a_warning() -> None:
    (one,) = remarks(report(failed("a", Place("a.py", 1), may_fail=True)))
    assert (one.level, one.title) == ("warning", "a failed, and may fail")


def test_flaky_is_a_warning_and_a_mend_a_notice() -> None:
    flaky = step("a", attempts=(tried(Verdict.HARD), tried(Verdict.FLAKY, 2)), rung=Rung.COMMAND)
    mend = Attempt(2, Rung.SUBAGENT, "a:haiku", Verdict.PASSED, "", files=("x.py",))
    mended = step("b", attempts=(tried(Verdict.HARD), mend), rung=Rung.SUBAGENT)
    written = step("c", kind="commit", attempts=(mend,), rung=Rung.SUBAGENT)
    found = remarks(report(mended, flaky, written))
    assert [(one.level, one.title) for one in found] == [
        ("warning", "a is flaky"),
        ("notice", "b was mended"),
    ]
    assert found[1].message == "mended at rung subagent (a:haiku): x.py"


@pytest.mark.parametrize("code", [3, 4, 5, 6, 7, 130])
def test_how_the_run_ended_comes_first(code: int) -> None:
    made = report(failed("a", Place("a.py", 1)), code=code, advice="Give --budget 2")
    first = remarks(made)[0]
    assert (first.level, first.title) == ("error", f"ship: exit {code}")
    assert first.message.endswith("Give --budget 2")


def test_an_error_that_no_step_tells_is_annotated() -> None:
    (one,) = remarks(report(code=1, status="failed", advice="replay of x: it went otherwise"))
    assert one.message == "an error ended the run. replay of x: it went otherwise"


def test_each_failing_step_is_seen_before_any_step_twice() -> None:
    many = tuple(Place("a.py", line) for line in range(1, 31))
    found = remarks(report(failed("one", *many), failed("two", *many), code=1))
    assert [one.title for one in found[:4]] == [
        "one failed", "two failed", "one failed", "two failed"
    ]  # fmt: skip
    assert len(found) == 2 * MOST_OF_STEP


def test_there_are_at_most_fifty() -> None:
    many = tuple(Place("a.py", line) for line in range(1, 31))
    found = remarks(report(*(failed(f"s{n}", *many) for n in range(20)), code=3))
    assert len(found) == MOST_OF_RUN
    assert found[0].title == "ship: exit 3"
    assert {one.title for one in found[1:21]} == {f"s{n} failed" for n in range(20)}


# -- nothing from outside is a command -------------------------------------------------------------


@given(NASTY)
@settings(max_examples=500)
def test_nothing_harmless_is_a_command(text: str) -> None:
    assert commands(harmless(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "::error::x",
        "  \t::error::x",
        "a\r::error::x",
        ":\u200b:error::x",
        "\ufeff::error::x",
        "\x00::error::x",
        "see ##[add-mask]x",
        "#\u200b#[add-mask]x",
        "##\xad[add-mask]x",
        "\x85::stop-commands::x",
    ],
)
def test_commands_of_every_form_are_taken_apart(text: str) -> None:
    assert commands(text), "the reader obeys it"
    assert commands(harmless(text)) == []


def test_what_is_no_command_stays_as_it_is() -> None:
    text = "FAILED test_a.py::test_b - ::error::\n  | a::b\n#[derive(Debug)]\n# [x]\n\n\n## [1.0]\n"
    assert harmless(text) == text


def test_blank_lines_take_no_longer_than_their_number() -> None:
    assert harmless("\n \t" * 200_000 + "#" * 200_000 + ":" * 200_000)


@given(NASTY, NASTY)
def test_a_group_holds_text_only(title: str, text: str) -> None:
    found = commands(group(title, text))
    assert [one.name for one in found] == ["group", "endgroup"]


@given(st.lists(NASTY, max_size=5), st.integers(0, 5))
def test_a_stream_is_harmless_however_its_lines_come_in_pieces(texts: list[str], cut: int) -> None:
    stream = StringIO()
    lines = Harmless(stream)
    for text in texts:
        lines.write(text[:cut])
        lines.flush()
        lines.write(text[cut:])
    lines.finish()
    assert commands(stream.getvalue()) == []


@given(NASTY)
def test_json_is_harmless_and_the_same(text: str) -> None:
    told = harmless_json(
        json.dumps({"said": text, "list": ["#", [1]]}, indent=2, ensure_ascii=False)
    )
    assert commands(told) == []
    assert json.loads(told) == {"said": text, "list": ["#", [1]]}


# -- folded output ---------------------------------------------------------------------------------


def folded(tmp_path: Path, data: bytes, *, quiet: bool = False) -> str:
    log = tmp_path / "a.log"
    log.write_bytes(data)
    stream = StringIO()
    job = GitHubJob(stream, "", quiet=quiet)
    job(StepFinished(StepOutcome("a", Status.FAILED, seconds=2.0, log=str(log))))
    return stream.getvalue()


def test_output_is_folded_below_its_step(tmp_path: Path) -> None:
    text = folded(tmp_path, b"one\n\x1b[31mtwo\x1b[0m\n::error::three \xff\n")
    assert text == (
        "::group::Output of a: failed, 2.0s\none\ntwo\n: :error::three \ufffd\n::endgroup::\n"
    )


def test_quiet_and_silent_steps_fold_nothing(tmp_path: Path) -> None:
    assert folded(tmp_path, b"one", quiet=True) == ""
    assert folded(tmp_path, b" \n") == ""


def test_folded_output_is_bounded_by_step_and_by_run(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"first\n" + b"x" * 10_000_000 + b"\nlast\n")
    stream = StringIO()
    job = GitHubJob(stream, "")
    for number in range(40):
        job(StepFinished(StepOutcome(f"s{number}", Status.FAILED, log=str(log))))
    groups = stream.getvalue().split("::endgroup::\n")
    assert groups[0].startswith("::group::Output of s0: failed, 0.0s\nfirst\n")
    assert groups[0].endswith("\nlast\n")
    assert "bytes left out" in groups[0]
    assert len(groups[0]) < GROUP_BYTES + 200
    assert len(stream.getvalue()) < 1_100_000


def test_a_log_that_is_gone_is_empty(tmp_path: Path) -> None:
    assert printed(str(tmp_path / "none"), 100) == ""
    assert printed(str(tmp_path), 100) == ""
    assert printed("", 100) == ""


# -- step summary ----------------------------------------------------------------------------------


OWN = {
    "h2", "h3", "p", "br", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "b",
    "pre",
}  # fmt: skip


def rendered(text: str) -> str:
    """Render as GitHub does: CommonMark with tables, HTML let through."""
    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)


def rows(page: str) -> list[list[str]]:
    found = re.findall(r"<tr>(.*?)</tr>", page, re.DOTALL)
    return [
        [html.unescape(cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", one, re.DOTALL)]
        for one in found
    ]


def test_the_summary_has_a_row_for_each_step() -> None:
    mend = Attempt(2, Rung.SUBAGENT, "a:haiku", Verdict.PASSED, "", 1, Decimal("0.0042"))
    mended = step(
        "lint",
        attempts=(tried(Verdict.HARD), mend),
        rung=Rung.SUBAGENT,
        seconds=12.0,
        cost_usd=Decimal("0.0042"),
    )
    page = rendered(step_summary(report(mended, step("later", "blocked", reason="needs lint"))))
    assert rows(page)[1:] == [
        ["lint", "✅ succeeded", "subagent", "passed", "2", "12s", "$0.0042"],
        ["later", "⛔ blocked: needs lint", "", "", "", "", ""],
    ]
    assert "<h2>✅ ship: exit 0, all steps succeeded</h2>" in page


def test_the_summary_has_costs_by_role_beside_two_estimates() -> None:
    total = Total(Usage(3, 41_200, 25_600, 100, 0, 512), Decimal("0.031"))
    made = report(
        step("a"),
        models={"main": ModelReport("a:opus", total), "cheap": ModelReport("a:haiku")},
        cost_usd=Decimal("0.031"),
        baseline=Baseline(Decimal("0.5"), Decimal("0.25")),
    )
    page = rendered(step_summary(made))
    assert rows(page)[3:] == [
        ["main", "a:opus", "3", "41.2k", "62%", "512", "$0.0310"],
        ["this run", "", "", "", "", "", "$0.0310"],
        ["the same work inline, by main", "estimate", "", "", "", "", "$0.5000"],
        ["by switching main to the cheap model and back", "estimate", "", "", "", "", "$0.2500"],
    ]


def test_a_run_without_models_has_no_cost_table() -> None:
    text = step_summary(report(step("a"), models={"cheap": ModelReport("a:haiku")}))
    assert "no model asked" in text
    assert "### Cost" not in text


def test_the_summary_has_what_failed_with_its_tail() -> None:
    one = failed("test", tail="E ```\n</details> <b>x</b> | y\n````", hint="Set A_KEY.")
    page = rendered(step_summary(report(one, code=1)))
    (block,) = re.findall(r"<pre><code[^>]*>(.*?)</code></pre>", page, re.DOTALL)
    assert html.unescape(block) == "E ```\n</details> <b>x</b> | y\n````\n"
    assert "<p>Set A_KEY.</p>" in page
    assert page.count("</details>") == 1


@given(NASTY | st.text("|`<>*_[]()#~!&$\\@:.-+{}\"' \nab", max_size=40))
@settings(max_examples=200)
def test_markdown_and_html_of_others_are_shown_not_obeyed(text: str) -> None:
    one = failed(text, reason=text, title=text, tail=text, hint=text)
    made = report(one, step("b", "blocked", reason=text), code=1, workflow=text)
    page = rendered(step_summary(made))
    # Its own elements, however the texts read: nothing was added, no table or block torn.
    tags = re.findall(r"<(\w+)", re.sub(r"<code.*?</code>", "", page, flags=re.DOTALL))
    assert set(tags) <= OWN
    assert (tags.count("tr"), tags.count("details"), tags.count("h2")) == (3, 1, 1)


def test_the_summary_is_never_too_long_to_be_shown() -> None:
    big = [failed(f"step-{n}", tail="x" * 9000 + f"{n}") for n in range(400)]
    text = step_summary(report(*big, code=1))
    assert LIMIT // 2 < len(text.encode()) <= LIMIT
    assert "found no room" in text
    many = [step("s" * 200 + str(n)) for n in range(9000)]
    text = step_summary(report(*many))
    assert len(text.encode()) <= LIMIT
    assert "more steps" in text
    assert step_summary(report(*big, code=1), 100) == ""


def test_what_others_wrote_into_the_summary_is_kept_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# mine\n" + "y" * (LIMIT - 30_000))
    big = [failed(f"step-{n}", tail="x" * 7000) for n in range(40)]
    assert GitHubJob(StringIO(), str(file)).end(report(*big, code=1)) == ""
    assert file.read_text().startswith("# mine\n")
    assert "What failed" in file.read_text()
    assert file.stat().st_size <= LIMIT


def test_a_summary_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    told = GitHubJob(StringIO(), str(tmp_path / "no" / "file")).end(report(step("a")))
    assert "No such file" in told


# -- with real runs --------------------------------------------------------------------------------


@dataclass
class Job:
    """What a job of GitHub's would see of one run."""

    code: int
    stdout: str
    stderr: str
    summary: str

    @property
    def commands(self) -> list[Command]:
        return commands(self.stderr) + commands(self.stdout)

    def of(self, *names: str) -> list[tuple[str, str, str]]:
        return [
            (one.facts.get("file", ""), one.facts.get("line", ""), one.data)
            for one in self.commands
            if one.name in names
        ]


def github(scratch: Scratch, *options: str, **environ: str) -> Job:
    """Run as a step of a job does."""
    summary = scratch.root.parent / "summary.md"
    summary.touch()
    facts = {
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_WORKSPACE": str(scratch.root),
        "SUBRUNNER_STATE_DIR": str(scratch.root.parent / "state"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "runner", "exec", *options],
        cwd=scratch.root, env={**os.environ, **facts, **environ}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return Job(done.returncode, done.stdout, done.stderr, summary.read_text())


INJECTS = (
    "printf '::error file=calc.py,line=1::injected\\n  ::add-mask::a\\n##[set-output name=x]y\\n"
    "::stop-commands::never\\n'"
)


def broken(world: Path) -> Scratch:
    scratch = make(world)
    scratch.write("calc.py", CALC.replace("a + b", "a - b"))
    scratch.write(
        ".runner/workflow.yaml",
        f"""
        name: checks
        steps:
          - id: test
            run: {UNITTEST}
            fix: test-fixer
          - id: evil
            needs: []
            run: {json.dumps(INJECTS + "; exit 3")}
        """,
    )
    return scratch


def test_a_failing_run_is_annotated_folded_and_summed_up(world: Path) -> None:
    job = github(broken(world))
    assert job.code == 1
    names = [one.name for one in job.commands]
    assert names == ["group", "endgroup", "group", "endgroup", "error", "error"]
    assert job.of("error") == [
        ("test_calc.py", "8", "AssertionError: -1 != 5"),
        # What a step says to GitHub is what it points at, below our title.
        ("calc.py", "1", "injected"),
    ]
    assert "❌ checks: exit 1, a step failed" in job.summary
    assert "AssertionError: -1 != 5" in job.summary


@pytest.mark.parametrize("options", [["--json"], ["--events", "-"], ["-q"]])
def test_no_command_of_a_step_reaches_github_whatever_is_printed(
    options: list[str], world: Path
) -> None:
    job = github(broken(world), *options)
    found = [one for one in job.commands if one.name not in ("group", "endgroup", "error")]
    assert found == []
    ours = {"test failed", "evil failed"}
    assert {one.facts["title"] for one in job.commands if one.name == "error"} == ours
    assert ("group" in {one.name for one in job.commands}) == (options != ["-q"])


def test_an_error_that_quotes_a_file_gives_github_no_commands(world: Path) -> None:
    scratch = make(world)
    scratch.write(".runner/workflow.yaml", "name: '##[add-mask]x'\nsteps: []\n")
    job = github(scratch)
    assert job.code == 2
    assert "# #[add-mask]x" in job.stderr
    assert job.commands == []


def test_no_annotations_is_as_anywhere_else(world: Path) -> None:
    job = github(broken(world), "--no-annotations", "-q")
    assert job.code == 1
    assert job.summary == ""
    assert "::group::" not in job.stderr
    elsewhere = github(broken_again(world), "-q", GITHUB_ACTIONS="")
    assert elsewhere.summary == ""
    assert "::error file=test_calc.py" not in elsewhere.stderr


def broken_again(world: Path) -> Scratch:
    (world / "second").mkdir()
    return broken(world / "second")


def test_a_mend_is_a_notice_and_costs_are_in_the_summary(world: Path) -> None:
    scratch = broken(world)
    scratch.write(
        ".runner/workflow.yaml",
        f"""
        name: checks
        steps:
          - id: test
            run: {UNITTEST}
            fix: {{ agent: test-fixer, write: [calc.py] }}
        """,
    )
    scratch.commit_all()
    models = scratch.script(
        """
        rules:
          - turns:
              - { call: edit_file, with: { path: calc.py, old_text: a - b, new_text: a + b } }
              - done: It is mended.
        """
    )
    options = [f"--model={role}={model}" for role, model in models.items()]
    job = github(scratch, "--policy", "ladder", *options)
    assert job.code == 7
    assert job.of("notice") == [("", "", f"mended at rung subagent ({models['cheap']}): calc.py")]
    (ended,) = job.of("error")
    assert "Not committed: calc.py" in ended[2]
    table = rows(rendered(job.summary))
    assert [row[2:4] for row in table[1:2]] == [["subagent", "passed"]]
    assert next(row for row in table if row[0] == "cheap")[2] == "2"


def test_a_pull_request_from_a_fork_is_like_make(world: Path) -> None:
    """A fork has no secrets: the variable is there, and empty."""
    job = github(broken(world), ANTHROPIC_API_KEY="", OPENAI_API_KEY="")
    assert job.code == 1
    lines = [line.strip() for line in job.stderr.splitlines() if "ANTHROPIC_API_KEY" in line]
    assert lines
    assert "No model was asked: set ANTHROPIC_API_KEY or OPENAI_API_KEY" in job.stderr
    assert "no model asked" in job.summary
    assert "ANTHROPIC_API_KEY" in html.unescape(job.summary)


def test_a_green_run_has_no_remarks(world: Path) -> None:
    scratch = broken(world)
    scratch.write("calc.py", CALC)
    job = github(scratch, ".runner/workflow.yaml", "test")
    assert job.code == 0
    assert {one.name for one in job.commands} <= {"group", "endgroup"}
    assert "✅ checks: exit 0" in job.summary


def test_shapes_that_the_reader_passes_over_are_all_covered() -> None:
    """Whatever GitHub's comparison ignores between two colons must not hide them from us."""
    shapeless = [
        chr(code)
        for code in range(0x20000)
        if unicodedata.category(chr(code)) in ("Cc", "Cf") and chr(code) not in "\r\n"
    ]
    assert [c for c in shapeless if commands(harmless(f":{c}:error::x"))] == []
