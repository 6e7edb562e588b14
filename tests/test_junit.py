"""JUnit XML: what it holds, that nothing breaks it, and that it is there whenever a run was."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitform import parsed
from scratch import UNITTEST, make
from story import failing

from runner.outcome import Attempt, Rung, Verdict
from runner.report import (
    GitReport,
    ModelReport,
    PrefixReport,
    Report,
    StepReport,
    meaning,
    summarise,
)
from runner.report.junit import OUTPUT_BYTES, TOTAL_BYTES, junit_xml

if TYPE_CHECKING:
    from pathlib import Path
    from xml.etree.ElementTree import Element

    from scratch import Scratch

    from runner.report import RunStatus


def report(
    *steps: StepReport, code: int | None = 0, status: RunStatus = "succeeded", **more: object
) -> Report:
    facts: dict[str, object] = {
        "seconds": 12.3456, "cost_usd": Decimal("0.0123"), "scripted": False, "git": GitReport(),
        "sandbox": "", "state_dir": "/s", "models": {}, "prefix": PrefixReport(),
        "started_at": 1_795_305_600.0, "workflow": "ship", **more,
    }  # fmt: skip
    return Report(run_id="r1", status=status, exit_code=code, steps=steps, **facts)  # pyright: ignore[reportArgumentType]  a table of facts


def tried(verdict: Verdict, number: int = 1, reason: str = "exit 1") -> Attempt:
    return Attempt(number, Rung.COMMAND, None, verdict, reason, seconds=0.5)


def step(name: str = "test", status: str = "succeeded", **more: object) -> StepReport:
    facts: dict[str, object] = {"kind": "run", "title": "pytest -q", **more}
    return StepReport(id=name, status=status, **facts)  # pyright: ignore[reportArgumentType]  as above


FAILED = step(
    "test",
    "failed",
    rung=Rung.COMMAND,
    reason="exit 1",
    seconds=1.5,
    log="/s/logs/test.log",
    attempts=(tried(Verdict.HARD),),
    tail="E assert 1 == 2",
    hint="No model was asked.",
)


def cases(root: Element) -> dict[str, Element]:
    return {case.get("name", ""): case for case in root.iter("testcase")}


def only(root: Element, name: str) -> Element:
    case = cases(root)[name]
    (result,) = [one for one in case if one.tag in ("failure", "error", "skipped")]
    return result


def properties(root: Element) -> dict[str, str]:
    return {one.get("name", ""): one.get("value", "") for one in root.iter("property")}


# what it holds


def test_a_case_for_each_step_below_the_workflow() -> None:
    root = parsed(junit_xml(report(step("lint", seconds=0.25), FAILED, code=1)))
    assert [(c.get("name"), c.get("classname"), c.get("time")) for c in root.iter("testcase")] == [
        ("lint", "ship", "0.250"),
        ("test", "ship", "1.500"),
    ]
    (suite,) = root
    assert suite.attrib == {
        "name": "ship",
        "tests": "2",
        "failures": "1",
        "errors": "0",
        "skipped": "0",
        "time": "12.346",
        "timestamp": "2026-11-22T00:00:00",
    }


def test_a_failure_has_the_command_what_failed_and_what_to_do() -> None:
    root = parsed(junit_xml(report(FAILED, code=1), {"test": "before\nE assert 1 == 2\n"}))
    failure = only(root, "test")
    assert failure.tag == "failure"
    assert failure.attrib == {"message": "exit 1", "type": "hard"}
    assert failure.text == "pytest -q\nE assert 1 == 2\nNo model was asked."
    said = cases(root)["test"].findtext("system-out") or ""
    assert said == "before\nE assert 1 == 2\n\nWhole output: /s/logs/test.log"


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ("skipped", "skipped: why"),
        ("blocked", "blocked: why"),
        ("cancelled", "cancelled: why"),
        ("interrupted", "was cut off: why"),
        ("pending", "did not run: why"),
    ],
)
def test_what_did_not_end_is_skipped(status: str, message: str) -> None:
    root = parsed(junit_xml(report(step("a", status, reason="why"))))
    assert only(root, "a").tag == "skipped"
    assert only(root, "a").get("message") == message


def test_a_failure_that_is_allowed_fails_nothing() -> None:
    allowed = step("a", "failed", reason="exit 4", may_fail=True, tail="warn")
    root = parsed(junit_xml(report(allowed)))
    assert only(root, "a").tag == "skipped"
    assert only(root, "a").get("message") == "failed, and may fail: exit 4"
    assert "warn" in (only(root, "a").text or "")


def test_a_flaky_step_passed_and_says_how_often_it_failed() -> None:
    attempts = (tried(Verdict.HARD), tried(Verdict.HARD, 2, "exit 3"), tried(Verdict.FLAKY, 3, ""))
    root = parsed(junit_xml(report(step("a", attempts=attempts, reason="flaky"))))
    case = cases(root)["a"]
    assert [one.get("message") for one in case.findall("flakyFailure")] == ["exit 1", "exit 3"]
    assert not [one for one in case if one.tag in ("failure", "error", "skipped")]


def test_a_mended_step_passed_and_tells_every_attempt() -> None:
    mend = Attempt(2, Rung.SUBAGENT, "a:haiku", Verdict.PASSED, "", 3, Decimal("0.01"), 4.0)
    attempts = (tried(Verdict.HARD), mend)
    one = step("a", attempts=attempts, rung=Rung.SUBAGENT, cost_usd=Decimal("0.01"))
    root = parsed(junit_xml(report(one)))
    said = cases(root)["a"].findtext("system-out") or ""
    assert said.splitlines() == [
        "attempt 1 at rung command: hard: exit 1",
        "attempt 2 at rung subagent (a:haiku): passed",
    ]
    assert not cases(root)["a"].findall("flakyFailure")


def test_properties_say_run_cost_rung_verdict_and_attempts() -> None:
    unknown = step("b", attempts=(tried(Verdict.PASSED),), rung=Rung.COMMAND, cost_usd=None)
    told = properties(parsed(junit_xml(report(FAILED, unknown, code=1))))
    assert told["run_id"] == "r1"
    assert told["exit_code"] == "1"
    assert told["cost_usd"] == "0.0123"
    assert {name: value for name, value in told.items() if name.startswith("step.test.")} == {
        "step.test.status": "failed",
        "step.test.rung": "command",
        "step.test.verdict": "hard",
        "step.test.attempts": "1",
        "step.test.cost_usd": "0",
    }
    assert told["step.b.cost_usd"] == "unknown"


def test_models_that_were_asked_are_properties() -> None:
    told = properties(parsed(junit_xml(summarise(failing()))))
    assert told["model.main.id"] == "anthropic:claude-big"
    assert Decimal(told["model.main.cost_usd"]) > 0
    idle = report(models={"cheap": ModelReport("a:b")})
    assert "model.cheap.id" not in properties(parsed(junit_xml(idle)))


# how the run ended


@pytest.mark.parametrize("code", [3, 4, 5, 6, 7, 129, 130, 143])
def test_an_exit_code_that_no_step_tells_is_a_case_of_its_own(code: int) -> None:
    root = parsed(junit_xml(report(step("a"), code=code, status="failed", lacked="needs $2")))
    result = only(root, "(the run itself)")
    assert result.tag in ("failure", "error")
    assert result.get("type") == f"exit-{code}"
    assert meaning(code) in (result.get("message") or "")
    assert "needs $2" in (result.text or "")


@pytest.mark.parametrize("code", [3, 5])
def test_it_is_there_beside_a_failed_step_too(code: int) -> None:
    root = parsed(junit_xml(report(FAILED, code=code, status="failed")))
    assert only(root, "test").tag == "failure"
    assert only(root, "(the run itself)").get("type") == f"exit-{code}"


def test_a_failed_step_tells_exit_1_by_itself() -> None:
    assert [*cases(parsed(junit_xml(report(FAILED, code=1))))] == ["test"]
    # Work that was delegated may fail without a step of its own: never green over it.
    assert only(parsed(junit_xml(report(step("a"), code=1))), "(the run itself)").tag == "failure"


def test_an_error_that_no_step_tells_is_told_as_the_runs() -> None:
    made = report(step("a"), code=1, status="failed", advice="replay of x: it went otherwise")
    case = only(parsed(junit_xml(made)), "(the run itself)")
    assert case.get("message") == "exit 1: an error ended the run"
    assert "replay of x" in (case.text or "")


def test_uncommitted_paths_are_named() -> None:
    made = report(step("a"), code=7, uncommitted=("src/a.py", "src/b.py"))
    assert "src/b.py" in (only(parsed(junit_xml(made)), "(the run itself)").text or "")


def test_a_run_that_never_ended_is_an_error() -> None:
    root = parsed(junit_xml(report(step("a", "interrupted"), code=None, status="killed")))
    assert only(root, "(the run itself)").tag == "error"
    assert only(root, "(the run itself)").get("type") == "killed"


# nothing breaks it

BAD = "\x00\x08\x0b\x1b\x7f\x85\ufffe\uffff\U0001ffff\ud800\udfff\u2028"
NASTY = st.lists(
    st.one_of(
        st.characters(),
        st.sampled_from([*BAD, *"]><&\"'\r\n\t", "]]>", "<![CDATA[", "&#0;", "<!--", "\x1b[31m"]),
    ),
    max_size=20,
).map("".join)


@pytest.mark.parametrize("bad", BAD)
def test_no_character_breaks_the_xml_wherever_it_stands(bad: str) -> None:
    text = f"a{bad}b"
    attempts = (tried(Verdict.HARD, 1, text), tried(Verdict.FLAKY, 2, text))
    one = step(text, "failed", reason=text, title=text, tail=text, hint=text, log=text)
    made = report(one, step("b", attempts=attempts), code=3, advice=text, workflow=text)
    assert len([*parsed(junit_xml(made, {text: text})).iter("testcase")]) == 3


@given(NASTY, NASTY, NASTY, NASTY)
@settings(max_examples=100)
def test_no_text_breaks_the_xml(name: str, reason: str, tail: str, printed: str) -> None:
    attempts = (tried(Verdict.HARD, 1, reason), tried(Verdict.FLAKY, 2, tail))
    one = step(name, "failed", reason=reason, title=printed, tail=tail, attempts=attempts, log=name)
    two = step(name + "2", attempts=attempts)
    made = report(one, two, step(tail, "blocked", reason=reason), code=3, lacked=tail)
    root = parsed(junit_xml(made, {name: printed}))
    assert len([*root.iter("testcase")]) == 4


def test_what_xml_can_say_is_said_as_it_is() -> None:
    words = "a < b && c > d ]]> \"q\" 'p'\n\tline <![CDATA[ x ]]> ü 漢 😀"
    root = parsed(junit_xml(report(step("a", "failed", tail=words, title=""), code=1)))
    assert only(root, "a").text == words


def test_output_that_is_not_text_is_made_readable(tmp_path: Path) -> None:
    printed = b"\x1b[31mred\x1b[0m \xff\xfe \x00nul".decode("utf-8", "replace")
    root = parsed(junit_xml(report(FAILED, code=1), {"test": printed}))
    said = cases(root)["test"].findtext("system-out") or ""
    assert said.startswith("red \ufffd\ufffd nul")


def test_huge_output_is_cut_in_the_middle() -> None:
    text = junit_xml(report(FAILED, code=1), {"test": "head\n" + "x" * 10_000_000 + "\nthe end"})
    assert len(text) < 3 * OUTPUT_BYTES
    said = cases(parsed(text))["test"].findtext("system-out") or ""
    assert said.startswith("head\n")
    assert "bytes left out" in said
    assert "the end" in said


def test_many_huge_outputs_are_bounded_together() -> None:
    steps = tuple(step(f"s{n}", "failed") for n in range(200))
    text = junit_xml(report(*steps, code=1), {f"s{n}": "y" * 100_000 for n in range(200)})
    assert len(text) < TOTAL_BYTES + 200_000
    assert len(cases(parsed(text))) == 200


# with real runs


def run(scratch: Scratch, *options: str, code: int) -> Path:
    out = scratch.root.parent / "out" / "junit.xml"
    state = scratch.root.parent / "state"
    command = [sys.executable, "-m", "runner", "exec", "--junit", str(out)]
    done = subprocess.run(
        [*command, "--state-dir", str(state), *options],
        cwd=scratch.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return out


def workflow(scratch: Scratch, text: str) -> None:
    scratch.write(".runner/workflow.yaml", text)


def test_a_real_run_writes_it(world: Path) -> None:
    scratch = make(world)
    workflow(
        scratch,
        f"""
        name: ship
        steps:
          - id: test
            run: {UNITTEST}
          - id: noise
            needs: []
            run: printf '\\033[31mred\\033[0m \\000 \\377 ]]>'; exit 3
          - id: once
            needs: []
            run: test -e ../flag || {{ touch ../flag; exit 9; }}
            retry: {{ attempts: 1 }}
        """,
    )
    root = parsed(run(scratch, code=1).read_text("utf-8"))
    assert [(c.get("name"), [one.tag for one in c]) for c in root.iter("testcase")] == [
        ("test", []),
        ("noise", ["failure", "system-out"]),
        ("once", ["flakyFailure", "system-out"]),
    ]
    assert "red" in (only(root, "noise").text or "")
    assert "\ufffd ]]>" in (cases(root)["noise"].findtext("system-out") or "")


def test_it_is_written_when_a_run_is_interrupted(world: Path) -> None:
    scratch = make(world)
    workflow(
        scratch,
        """
        name: ship
        steps:
          - id: slow
            run: touch ../begun; sleep 600
          - id: later
            run: "true"
        """,
    )
    out, state = world / "junit.xml", world / "state"
    command = [sys.executable, "-m", "runner", "exec", "--junit", str(out)]
    process = subprocess.Popen([*command, "--state-dir", str(state)], cwd=scratch.root)
    while not (world / "begun").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 143
    root = parsed(out.read_text("utf-8"))
    assert only(root, "slow").tag == "skipped"
    assert only(root, "later").tag == "skipped"
    assert only(root, "(the run itself)").get("type") == "exit-143"


def test_a_budget_that_ran_out_is_told(world: Path) -> None:
    scratch = make(world)
    workflow(
        scratch,
        """
        name: ship
        budget: { time: 1s }
        steps:
          - id: slow
            run: sleep 60
        """,
    )
    root = parsed(run(scratch, code=3).read_text("utf-8"))
    assert only(root, "(the run itself)").get("type") == "exit-3"


def test_where_it_cannot_be_written_the_run_keeps_its_code(world: Path) -> None:
    scratch = make(world)
    workflow(scratch, 'name: ship\nsteps: [{id: a, run: "true"}]\n')
    (world / "out").write_text("a file where the folder should be")
    done = subprocess.run(
        [sys.executable, "-m", "runner", "exec", "--junit", "../out/junit.xml"],
        cwd=scratch.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "--junit ../out/junit.xml: " in done.stderr
    assert "runner show" in done.stderr


def test_nothing_is_written_when_nothing_ran(world: Path) -> None:
    scratch = make(world)
    workflow(scratch, "name: ship\nsteps: [{id: a, rum: x}]\n")
    assert not run(scratch, code=2).exists()


# with the readers' own libraries


@pytest.mark.tools
def test_junitparser_reads_it() -> None:
    xunit2: Any = import_module("junitparser.xunit2")
    attempts = (tried(Verdict.HARD), tried(Verdict.FLAKY, 2))
    made = report(FAILED, step("flaky", attempts=attempts), step("no", "blocked"), code=3)
    suites = xunit2.JUnitXml.fromstring(junit_xml(made, {"test": "printed"}).encode())
    (suite,) = suites
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    by_name = {case.name: case for case in suite}
    assert [type(one).__name__ for one in by_name["test"].result] == ["Failure"]
    assert [one.message for one in by_name["flaky"].flaky_failures()] == ["exit 1"]
    assert by_name["flaky"].is_passed
    assert by_name["no"].is_skipped
    assert {one.name: one.value for one in suite.properties()}["step.test.rung"] == "command"
