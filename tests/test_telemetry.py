"""Ids, the fold of events into spans, their OTLP form, what the environment says; all pure."""

from __future__ import annotations

import base64
import json
import math
import random
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from spantrees import check_trees, roots
from story import START, failing, kept_warm, passing, responded

from runner.codec import decode, encode
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    CommandFinished,
    CommandStarted,
    Continuity,
    Decided,
    Event,
    GitFact,
    ModelRetried,
    Notice,
    Restored,
    RunFinished,
    RunResumed,
    SnapshotTaken,
    StepFinished,
    StepPlan,
    StepStarted,
    ToolCalled,
    Waited,
)
from runner.outcome import Attempt, Rung, Status, StepOutcome, Usage, Verdict
from runner.telemetry import Link, Span, SpanEvent, identity, names
from runner.telemetry.carrier import Carrier, carrier_of, without_export
from runner.telemetry.describing import executable, provider_and_model
from runner.telemetry.messages import ALL_BYTES, PART_BYTES, content_attributes
from runner.telemetry.otlp import line, traces
from runner.telemetry.resource import own_version, resource_attributes
from runner.telemetry.spans import Spans

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
T0 = 1_795_000_000.0


# -- identity -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (PARENT, (TRACE, SPAN, 1)),
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN, 0)),
        (f"00-{TRACE}-{SPAN}-03", (TRACE, SPAN, 3)),
        (f" \t{PARENT} ", (TRACE, SPAN, 1)),
        # A later version may say more, and what is known of it is taken.
        (f"cc-{TRACE}-{SPAN}-01", (TRACE, SPAN, 1)),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-holds", (TRACE, SPAN, 1)),
        (f"cc-{TRACE}-{SPAN}-01.what", None),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"0-{TRACE}-{SPAN}-01", None),
        (f"00-{TRACE[:-1]}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}g-01", None),
        (f"00-{TRACE}-{SPAN}-1", None),
        (f"00-{TRACE}-{SPAN}", None),
        (f"{PARENT}\n", None),
        (f"{PARENT},{PARENT}", None),
        ("", None),
        ("00", None),
    ],
)
def test_traceparents_are_read_as_the_specification_says(
    text: str, found: tuple[str, str, int] | None
) -> None:
    parent = identity.parse_traceparent(text)
    assert (parent and (parent.trace_id, parent.span_id, parent.flags)) == found


@given(st.text(max_size=80))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert identity.parse_traceparent(text) is None or len(text) >= 55
    identity.parse_tracestate(text)
    assert identity.trace_id("run", 1, text) == identity.trace_id("run")


@given(
    st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255), st.integers(0, 254)
)
def test_what_is_written_is_read_again(trace: int, span: int, flags: int, version: int) -> None:
    text = f"{version:02x}-{trace:032x}-{span:016x}-{flags:02x}"
    parent = identity.parse_traceparent(text)
    assert parent is not None
    assert str(parent)[2:] == text[2:]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("rojo=00f067aa0ba902b7", "rojo=00f067aa0ba902b7"),
        ("rojo=1 , congo=2", "rojo=1,congo=2"),
        ("a=1,,b=2", "a=1,b=2"),
        ("fw529a3039@dt=FfffffA;x:1", "fw529a3039@dt=FfffffA;x:1"),
        ("a=1,a=2", ""),
        ("A=1", ""),
        ("a", ""),
        ("a=", ""),
        ("a=b=c", ""),
        ("a=\x07", ""),
        (",".join(f"k{n}=1" for n in range(33)), ""),
        ("", ""),
    ],
)
def test_tracestate_is_passed_on_or_dropped_whole(text: str, kept: str) -> None:
    assert identity.parse_tracestate(text) == kept


def test_ids_are_derived_and_differ_where_they_must() -> None:
    assert identity.trace_id("r") == identity.trace_id("r")
    assert identity.trace_id("r") != identity.trace_id("s")
    assert identity.trace_id("r", 2) != identity.trace_id("r", 1)
    assert identity.trace_id("r", 2, PARENT) == TRACE
    paths = [("a", "b"), ("ab",), ("a", "b", ""), ("", "a", "b"), ("a",), ("1:a",)]
    assert len({identity.span_id(TRACE, *path) for path in paths}) == len(paths)
    # Two runs, and two lives of one, in the same outer trace.
    ids = {identity.root_id(run, life, PARENT) for run in "rs" for life in (1, 2)}
    assert len(ids) == 4


def test_a_command_is_told_its_own_span() -> None:
    told = identity.parse_traceparent(identity.command_parent("r", 1, "", 7))
    assert told is not None
    assert told.trace_id == identity.trace_id("r")
    spans = fold([START_R, StepStarted("a"), *ran("a", 7)])
    assert [span.span_id for span in spans if span.name == "make"] == [told.span_id]
    assert told.flags == 1


@pytest.mark.parametrize(("given_flags", "told"), [("00", 1), ("01", 1), ("02", 3), ("03", 3)])
def test_what_we_record_is_told_as_recorded(given_flags: str, told: int) -> None:
    text = identity.command_parent("r", 1, f"00-{TRACE}-{SPAN}-{given_flags}", 1)
    parent = identity.parse_traceparent(text)
    assert parent is not None
    assert (parent.trace_id, parent.flags) == (TRACE, told)


# -- the carrier ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "carrier"),
    [
        ({}, Carrier("r")),
        ({"TRACEPARENT": "nonsense", "TRACESTATE": "a=1"}, Carrier("r")),
        ({"TRACESTATE": "a=1"}, Carrier("r")),
        ({"TRACEPARENT": PARENT}, Carrier("r", 1, PARENT)),
        ({"TRACEPARENT": PARENT, "TRACESTATE": "a=1"}, Carrier("r", 1, PARENT, "a=1")),
        ({"TRACEPARENT": PARENT, "TRACESTATE": "A=1"}, Carrier("r", 1, PARENT)),
        ({"OTEL_SDK_DISABLED": " TRUE "}, Carrier("r", on=False)),
        ({"OTEL_SDK_DISABLED": "yes"}, Carrier("r")),
    ],
)
def test_the_environment_says_what_trace_it_is(environ: dict[str, str], carrier: Carrier) -> None:
    assert carrier_of(environ, "r") == carrier


def test_commands_are_told_and_nothing_when_there_is_nothing_to_tell() -> None:
    told = Carrier("r", 1, PARENT, "a=1").command(3)
    assert told == {"TRACEPARENT": identity.command_parent("r", 1, PARENT, 3), "TRACESTATE": "a=1"}
    assert Carrier("r", on=False).command(3) == {}
    assert Carrier("r", 1, PARENT, on=False).command(3) == {"TRACEPARENT": PARENT}
    tool = Carrier("r").tool("s", 2, "call_1")["TRACEPARENT"]
    assert tool == identity.span_parent("r", 1, "", "tool", "s", "2", "call_1")


def test_an_agents_command_knows_of_no_exporter() -> None:
    env = {"OTEL_EXPORTER_OTLP_HEADERS": "k=v", "OTEL_SERVICE_NAME": "x", "PATH": "/bin"}
    assert without_export(env) == {"OTEL_SERVICE_NAME": "x", "PATH": "/bin"}


# -- the fold -------------------------------------------------------------------------------------

START_R = replace(START, run_id="r", steps=(StepPlan("a", "run", "make", ()),))


def fold(events: Sequence[Event], step: float = 1.0, **more: Any) -> list[Span]:
    """Fold events a second apart, and close what is open a second later."""
    spans, ended = Spans(**more), list["Span"]()
    for number, event in enumerate(events):
        ended += spans.add(event, T0 + number * step)
    return [*ended, *spans.close(T0 + len(events) * step)]


def named(spans: Iterable[Span], start: str) -> Span:
    """Return the one span whose name begins so."""
    (found,) = (span for span in spans if span.name.startswith(start))
    return found


def ran(step: str, number: int, code: int | None = 0, purpose: Any = "run") -> list[Event]:
    argv = ("bash", "-c", "make it")
    return [
        CommandStarted(step, purpose, "make it", number, argv),
        CommandFinished(
            step, purpose, "make it", code, code is None, 1.0, 9, "/s/logs/a.log", number
        ),
    ]


def tried(step: str, number: int, rung: Rung, verdict: Verdict, *within: Event) -> list[Event]:
    model = None if rung is Rung.COMMAND else START.models["main"]
    attempt = Attempt(number, rung, model, verdict, f"because {number}", role=str(rung))
    return [
        AttemptStarted(step, number, rung, model, "fixer" if model else ""),
        *within,
        AttemptFinished(step, attempt),
    ]


def ended(step: str, status: Status = Status.SUCCEEDED, **more: Any) -> StepFinished:
    return StepFinished(StepOutcome(step, status, **more))


def called(step: str, attempt: int, tool: str, call: str, seconds: float = 0.5) -> ToolCalled:
    return ToolCalled(step, tool, "a.py", attempt=attempt, call=call, seconds=seconds)


def shape(spans: list[Span]) -> list[str]:
    """Draw spans as indented names in order of their start, `!` behind those that are errors."""
    below: dict[str, list[Span]] = {}
    known = {span.span_id for span in spans}
    for span in sorted(spans, key=lambda one: one.start):
        parent = span.parent_id if span.parent_id in known else ""
        below.setdefault(parent, []).append(span)

    def lines(span: Span, depth: int) -> list[str]:
        own = "  " * depth + span.name + (" !" if span.status == "error" else "")
        return [own, *(x for one in below.get(span.span_id, []) for x in lines(one, depth + 1))]

    return [text for root in below[""] for text in lines(root, 0)]


RICH: list[Event] = [
    START_R,
    Waited("a", "slot", 0.75),
    StepStarted("a"),
    *tried("a", 1, Rung.COMMAND, Verdict.HARD, *ran("a", 1, 1)),
    Waited("a", "tree", 0.25),
    Decided("a", "AskSubagent", "the command failed", {"odds": Decimal("0.5"), "failures": ["t"]}),
    *tried(
        "a", 2, Rung.SUBAGENT, Verdict.SOFT,
        replace(responded(2, "cheap", "0.01"), step="a"),
        called("a", 2, "check", "c1"),
        *ran("a", 2, 1, "agent"),
        called("a", 2, "check", "c2", 2.5),
        SnapshotTaken("a", "after attempt 2", "t"),
        *ran("a", 3, 1, "check"),
    ),
    Decided("a", "AskMain", "no progress", {}),
    *tried(
        "a", 3, Rung.MAIN, Verdict.PASSED,
        ModelRetried("a", 3, "main", "anthropic:claude-big", "HTTP 529", 1.5),
        replace(responded(3, "main", "0.02"), step="a"),
        StepStarted("a/b"),
        *tried("a/b", 1, Rung.COMMAND, Verdict.PASSED, *ran("a/b", 4)),
        ended("a/b"),
        called("a", 3, "delegate", "c3"),
        *ran("a", 5, 0, "check"),
    ),
    kept_warm(),
    ended("a", rung=Rung.MAIN, verified=True),
    ended("commit", Status.BLOCKED, reason="needs a"),
    RunFinished(0, "succeeded", 30.0),
]  # fmt: skip


def test_the_tree_is_as_drawn() -> None:
    assert shape(fold(RICH)) == [
        "invoke_workflow ship",
        "  step a",
        "    queue a",
        "    attempt 1 command !",
        "      make !",
        "    queue a",
        "    attempt 2 subagent !",
        "      invoke_agent fixer",
        "        chat ship.yaml",
        "        execute_tool check",
        "        execute_tool check",
        "          make !",
        "      check a !",
        "        make !",
        "    attempt 3 main",
        "      invoke_agent fixer",
        "        chat claude-big",
        "        step a/b",
        "          attempt 1 command",
        "            make",
        "        execute_tool delegate",
        "      check a",
        "        make",
        "  chat claude-big",
        "  step commit",
    ]


def test_every_prefix_of_a_run_closes_into_a_tree() -> None:
    for stream in (RICH, failing(), passing()):
        for length in range(1, len(stream) + 1):
            spans = fold(stream[:length])
            check_trees(spans)
            (root,) = roots(spans)
            whole = isinstance(stream[length - 1], RunFinished)
            assert (root.attributes.get(names.ERROR_TYPE) == names.KILLED) is not whole


def test_spans_come_once_and_as_soon_as_they_are_over() -> None:
    spans, seen = Spans(), list["Span"]()
    for number, event in enumerate(RICH):
        now = spans.add(event, T0 + number)
        seen += now
        open_now = {span.span_id for span in spans.open()}
        assert not open_now & {span.span_id for span in seen}
        assert bool(open_now) is not isinstance(event, RunFinished)
    assert spans.open() == []
    assert spans.close(T0) == []
    assert seen == fold(RICH)
    check_trees(seen)


def test_live_events_and_journaled_ones_give_the_same_spans() -> None:
    journaled = [decode(json.loads(json.dumps(encode(event)))) for event in RICH]
    assert fold(journaled) == fold(RICH)
    assert fold(journaled, content=True) == fold(RICH, content=True)


def step_events(step: str, first: int) -> list[Event]:
    """Make the events of one step on its way up the ladder."""
    chat = replace(responded(2, "cheap", "0.01"), step=step)
    return [
        Waited(step, "slot", 0.6),
        StepStarted(step),
        *tried(step, 1, Rung.COMMAND, Verdict.HARD, *ran(step, first, 1)),
        Decided(step, "AskSubagent", "the command failed", {}),
        *tried(
            step, 2, Rung.SUBAGENT, Verdict.PASSED, chat, called(step, 2, "edit_file", "c"),
            *ran(step, first + 1, 0, "agent"), called(step, 2, "check", "c"),
            SnapshotTaken(step, "after attempt 2", "t"), *ran(step, first + 2, 0, "check"),
        ),
        Restored(step, "t", ("a",), ()),
        Notice("note", step),
        GitFact(step, "commit", {"sha": "c0", "message": "said"}),
        ended(step),
    ]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_order_loss_and_clock_gives_whole_trees(data: st.DataObject) -> None:
    """Steps in parallel, events that an older release did not have, a clock that is put back."""
    draw = random.Random(data.draw(st.integers(0, 2**32)))
    queues = [step_events(step, 10 * number + 1) for number, step in enumerate(["a", "b", "a/x"])]
    stream: list[Event] = [START_R]
    while any(queues):
        stream.append(draw.choice([queue for queue in queues if queue]).pop(0))
    if draw.random() < 0.5:
        stream.insert(draw.randrange(1, len(stream)), RunResumed(2, T0))
    lost = draw.choice([0.0, 0.1, 0.5])
    stream = [stream[0], *(event for event in stream[1:] if draw.random() >= lost)]
    stream = stream[: draw.randint(1, len(stream))]
    if draw.random() < 0.5:
        stream.append(RunFinished(1, "failed", 9.0))
    spans, found, at = Spans(content=draw.random() < 0.5), list["Span"](), T0
    for event in stream:
        at += draw.choice([0.0, 0.3, 5.0, -3600.0, -0.001])
        found += spans.add(event, at)
    found += spans.close(at)
    check_trees(found)
    assert len(roots(found)) == 1 + any(isinstance(event, RunResumed) for event in stream)


def test_a_resumed_run_has_a_trace_for_each_life_and_links_back() -> None:
    first = RICH[:8]
    again = [
        RunResumed(2, T0, ("x.py",)),
        StepStarted("a", continued=True),
        *tried("a", 2, Rung.COMMAND, Verdict.PASSED, *ran("a", 9)),
        ended("a"),
        RunFinished(0, "succeeded", 9.0),
    ]
    spans = fold([*first, *again])
    check_trees(spans)
    killed, resumed = roots(spans)
    assert killed.trace_id == identity.trace_id("r", 1)
    assert resumed.trace_id == identity.trace_id("r", 2)
    assert [(link.span_id, link.attributes) for link in resumed.links] == [
        (killed.span_id, {names.LINK_KIND: names.RESUME_OF})
    ]
    # It ended when it was last heard of, not when somebody took it up.
    assert killed.end == round((T0 + 7) * 1e9)
    assert killed.status == "error"
    before, after = (span for span in spans if span.name == "step a")
    assert before.attributes[names.ERROR_TYPE] == names.KILLED
    assert [link.span_id for link in after.links] == [before.span_id]
    assert killed.attributes[names.RUN_OUTCOME] == "killed"
    assert resumed.attributes[names.EXTERNAL] == 1


def test_two_lives_in_one_outer_trace_are_two_trees() -> None:
    start = replace(START_R, trace_parent=PARENT, trace_state="a=1")
    spans = fold([start, StepStarted("a"), RunResumed(2, T0, (), PARENT, "a=1"), StepStarted("a")])
    check_trees(spans, outside=SPAN)
    assert {span.trace_id for span in spans} == {TRACE}
    assert {span.trace_state for span in spans} == {"a=1"}
    assert len(roots(spans)) == 2


def test_a_run_that_ended_and_is_resumed_keeps_its_end() -> None:
    spans = fold([START_R, RunFinished(6, "failed", 1.0), RunResumed(2, T0), StepStarted("a")])
    first, second = roots(spans)
    assert first.attributes[names.ERROR_TYPE] == "provider_failed"
    assert [link.span_id for link in second.links] == [first.span_id]


def test_events_before_a_run_and_after_it_are_nothing() -> None:
    spans = Spans()
    assert spans.add(StepStarted("a"), T0) == []
    assert spans.add(RunResumed(2, T0), T0) == []
    assert spans.open() == []
    spans.add(START_R, T0)
    spans.add(RunFinished(0, "succeeded", 1.0), T0)
    assert spans.add(StepStarted("a"), T0) == []
    assert spans.close(T0) == []


def test_waiting_begins_the_step_and_is_shown_in_it() -> None:
    spans = fold([START_R, Waited("a", "slot", 0.75), StepStarted("a"), Waited("a", "tree", 0.5)])
    slot, tree = (span for span in spans if span.name == "queue a")
    step = named(spans, "step a")
    assert (slot.end - slot.start, tree.end - tree.start) == (750_000_000, 500_000_000)
    assert step.start == slot.start
    assert slot.parent_id == tree.parent_id == step.span_id
    assert [one.attributes[names.WAIT_REASON] for one in (slot, tree)] == ["slot", "tree"]


def test_attempts_say_why_and_after_which() -> None:
    spans = fold(RICH)
    attempts = sorted(
        (s for s in spans if s.name.startswith("attempt ") and s.attributes[names.STEP_ID] == "a"),
        key=lambda one: one.start,
    )
    command, subagent, main = attempts
    assert command.links == ()
    assert [link.span_id for link in subagent.links] == [command.span_id]
    assert [link.span_id for link in main.links] == [subagent.span_id]
    why = {names.LINK_KIND: names.ESCALATED_FROM, names.LINK_REASON: "no progress"}
    assert main.links[0].attributes == why
    # Readers drop what a link says of itself.
    assert why.items() <= main.attributes.items()
    assert main.attributes[names.ATTEMPT_PREVIOUS] == subagent.span_id
    assert subagent.attributes[names.DECISION] == "AskSubagent"
    assert subagent.attributes["runner.decision.odds"] == "0.5"
    assert subagent.attributes["runner.decision.failures"] == 1
    moves = [
        (event.attributes[names.ESCALATE_FROM], event.attributes[names.ESCALATE_TO])
        for span in spans if span.name == "step a"
        for event in span.events if event.name == names.ESCALATE_EVENT
    ]  # fmt: skip
    assert moves == [("command", "subagent"), ("subagent", "main")]
    # A run that came good is not red but where it went wrong.
    whole = [span.status for span in spans if span.name.startswith(("step", "invoke_"))]
    assert set(whole) == {"unset"}


def test_the_same_rung_again_is_a_retry_and_a_pass_before_is_no_reason() -> None:
    spans = fold([
        START_R, StepStarted("a"),
        *tried("a", 1, Rung.COMMAND, Verdict.HARD), *tried("a", 2, Rung.COMMAND, Verdict.FLAKY),
        *tried("a", 3, Rung.COMMAND, Verdict.HARD),
    ])  # fmt: skip
    one, two, three = (named(spans, f"attempt {number}") for number in (1, 2, 3))
    assert [link.span_id for link in two.links] == [one.span_id]
    assert two.attributes[names.LINK_KIND] == names.RETRY_OF
    assert two.attributes[names.LINK_REASON] == "because 1"
    assert three.links == ()


@pytest.mark.parametrize(
    ("rung", "verdict", "error"),
    [
        (Rung.COMMAND, Verdict.HARD, "check_failed"),
        (Rung.SUBAGENT, Verdict.SOFT, "gave_up"),
        (Rung.SUBAGENT, Verdict.INFRA, "provider_failed"),
        (Rung.COMMAND, Verdict.DENIED, "denied"),
        (Rung.SUBAGENT, Verdict.CANCELLED, None),
        (Rung.COMMAND, Verdict.PASSED, None),
        (Rung.COMMAND, Verdict.FLAKY, None),
    ],
)
def test_only_attempts_that_failed_are_errors(
    rung: Rung, verdict: Verdict, error: str | None
) -> None:
    spans = fold([START_R, StepStarted("a"), *tried("a", 1, rung, verdict), ended("a")])
    attempt = named(spans, "attempt 1")
    assert attempt.attributes.get(names.ERROR_TYPE) == error
    assert attempt.message == ("because 1" if error else "")
    # Nobody was asked: an agent that did nothing is no span.
    assert not any(span.name.startswith("invoke_agent") for span in spans)


@pytest.mark.parametrize(
    ("code", "error"), [(0, None), (2, "exit_2"), (None, "timeout"), (143, "exit_143")]
)
def test_commands_are_errors_by_their_exit(code: int | None, error: str | None) -> None:
    spans = fold([START_R, StepStarted("a"), *ran("a", 1, code), ended("a")])
    command = named(spans, "make")
    assert command.kind == "client"
    assert command.attributes.get(names.ERROR_TYPE) == error
    assert command.attributes.get(names.EXIT_CODE) == code
    assert command.attributes[names.COMMAND_LOG] == "a.log"
    assert command.attributes[names.COMMAND_ARGS] == ("bash", "-c", "make it")


@pytest.mark.parametrize(
    ("status", "code", "result", "error"),
    [
        ("succeeded", 0, "success", None),
        ("succeeded", 7, "success", None),
        ("failed", 1, "failure", "step_failed"),
        ("failed", 3, "failure", "budget_exceeded"),
        ("failed", 4, "error", "denied"),
        ("failed", 5, "failure", "tampering"),
        ("failed", 6, "error", "provider_failed"),
        ("cancelled", 143, "cancellation", None),
    ],
)
def test_the_root_says_how_the_run_ended(
    status: Any, code: int, result: str, error: str | None
) -> None:
    (root,) = fold([START_R, RunFinished(code, status, 1.0, inline_usd=Decimal("0.5"))])
    assert root.kind == "server"
    assert root.attributes[names.PIPELINE_RESULT] == result
    assert root.attributes[names.RUN_EXIT] == code
    assert root.attributes[names.INLINE_USD] == 0.5
    assert root.attributes.get(names.ERROR_TYPE) == error
    assert root.status == ("error" if error else "unset")


def test_an_attempt_whose_command_ran_out_of_time_says_so() -> None:
    within = tried("a", 1, Rung.COMMAND, Verdict.HARD, *ran("a", 1, None))
    spans = fold([START_R, StepStarted("a"), *within, ended("a", Status.FAILED)])
    assert named(spans, "attempt 1").attributes[names.ERROR_TYPE] == "timeout"


def test_an_agent_ends_where_its_work_is_judged() -> None:
    chat = replace(responded(1, "cheap", "0.01"), step="a")
    within = tried("a", 1, Rung.SUBAGENT, Verdict.PASSED, chat, *ran("a", 1, 0, "check"))
    spans = fold([START_R, StepStarted("a"), *within, ended("a")])
    agent, check = named(spans, "invoke_agent"), named(spans, "check a")
    assert agent.end == check.start


def test_steps_that_never_began_are_moments_with_their_result() -> None:
    spans = fold([START_R, ended("a", Status.BLOCKED, reason="needs b"), ended("b", Status.FAILED)])
    blocked, failed = named(spans, "step a"), named(spans, "step b")
    # A moment: but readers take a span without any length for one that goes on.
    assert blocked.end - blocked.start == 1
    assert blocked.status == "unset"
    assert blocked.attributes[names.TASK_RESULT] == "skip"
    assert blocked.attributes[names.STEP_REASON] == "needs b"
    assert failed.status == "error"


def test_tokens_are_on_requests_only_and_roll_ups_have_names_of_their_own() -> None:
    spans = fold(RICH)
    counted = [span for span in spans if names.INPUT_TOKENS in span.attributes]
    assert len(counted) == 3
    assert {span.name.partition(" ")[0] for span in counted} == {"chat"}
    root = named(spans, "invoke_workflow")
    for count, roll_up in (
        (names.INPUT_TOKENS, names.USAGE_INPUT),
        (names.OUTPUT_TOKENS, names.USAGE_OUTPUT),
        (names.COST_USD, names.COST_USD),
    ):
        total = sum(float(str(span.attributes[count])) for span in counted)
        assert math.isclose(float(str(root.attributes[roll_up])), total)
    main = named(spans, "attempt 3 main")
    assert main.attributes[names.COST_USD] == 0.02
    assert main.attributes[names.USAGE_INPUT] == 41_200
    assert main.attributes[names.USAGE_CACHE_READ] == 25_600


def test_a_request_says_what_its_cache_did() -> None:
    row = replace(responded(1, "main", "0.02", "extends"), step="a", conversation="main-1")
    continuity = Continuity("tools", 12, 8_634, "d" * 16, 900, "it was too short")
    stream = [START_R, StepStarted("a"), replace(row, continuity=continuity, served="big-1")]
    chat = named(fold(stream), "chat claude-big")
    assert {
        names.PROVIDER: "anthropic",
        names.RESPONSE_MODEL: "big-1",
        names.PREFIX_HOW: "tools",
        names.PREFIX_BROKEN: True,
        names.CACHE_EXPECTED: 900,
        names.CACHE_WHY: "it was too short",
        names.CONVERSATION: "r/main-1",
        names.CACHE_READ: 25_600,
        names.CACHE_CREATION: 100,
    }.items() <= chat.attributes.items()


def test_an_unknown_cost_is_no_cost() -> None:
    rows = [replace(responded(n, "main", "0.02"), step="a", attempt=1) for n in (1, 2)]
    rows[1] = replace(rows[1], cost_usd=None)
    spans = fold([START_R, StepStarted("a"), *rows, ended("a")])
    assert [names.COST_USD in span.attributes for span in spans if "chat" in span.name] == [
        True,
        False,
    ]
    assert names.COST_USD not in named(spans, "step a").attributes
    assert named(spans, "step a").attributes[names.USAGE_REQUESTS] == 2


def test_lost_and_refused_requests_are_errors() -> None:
    lost = replace(responded(1, "main", "0.02"), step="a", served="", usage=Usage(1))
    unsent = replace(lost, usage=Usage())
    spans = fold([START_R, StepStarted("a"), lost, unsent])
    errors = [span.attributes[names.ERROR_TYPE] for span in spans if "chat" in span.name]
    assert errors == ["no_response", "prefix_broken"]


def test_tries_are_told_on_the_request_they_belong_to() -> None:
    chat = next(span for span in fold(RICH) if names.RETRY_COUNT in span.attributes)
    (retry,) = chat.events
    assert retry.name == names.RETRY_EVENT
    assert retry.attributes[names.ERROR_TYPE] == "529"
    assert retry.attributes[names.RETRY_DELAY] == 1.5
    assert chat.start <= retry.at <= chat.end


def test_a_request_that_never_was_answered_is_a_span_all_the_same() -> None:
    retried = ModelRetried("a", 1, "cheap", "openai:gpt-x", "HTTP 503", 2.0)
    within = tried("a", 1, Rung.SUBAGENT, Verdict.INFRA, retried, retried)
    spans = fold([START_R, StepStarted("a"), *within, ended("a", Status.FAILED, exit_code=6)])
    chat = named(spans, "chat gpt-x")
    assert chat.attributes[names.ERROR_TYPE] == "503"
    assert chat.attributes[names.RETRY_COUNT] == 2
    assert named(spans, "step a").attributes[names.ERROR_TYPE] == "provider_failed"


def test_keep_alives_hang_below_the_root() -> None:
    spans = fold([START_R, kept_warm()])
    chat, root = named(spans, "chat"), named(spans, "invoke_workflow")
    assert chat.parent_id == root.span_id
    assert chat.attributes[names.ROLE] == "keepalive"


def test_older_journals_have_no_numbers() -> None:
    events = [
        CommandStarted("a", "run", "make it"),
        CommandStarted("a", "hook", "make that"),
        CommandFinished("a", "run", "make it", 0, False, 1.0, 9, ""),
        CommandFinished("a", "hook", "make that", 1, False, 1.0, 9, ""),
    ]
    spans = fold([START_R, StepStarted("a"), *events, ended("a")])
    check_trees(spans)
    assert [span.status for span in spans if span.name == "make"] == ["unset", "error"]


def test_a_tool_that_failed_says_so_but_not_with_which_words() -> None:
    call = replace(called("a", 1, "edit_file", "c"), failed=True, reason="no `secret` in a.py")
    stream = [START_R, StepStarted("a"), call]
    quiet, loud = named(fold(stream), "execute_tool"), named(fold(stream, content=True), "exec")
    assert quiet.attributes[names.ERROR_TYPE] == "tool_failed"
    assert names.TOOL_SUMMARY not in quiet.attributes
    assert quiet.message == ""
    assert loud.attributes[names.TOOL_SUMMARY] == "a.py"
    assert loud.message == "no `secret` in a.py"


@pytest.mark.parametrize(
    "reason",
    ["the agent gave up: CANARY", "tampered with its judge: CANARY", "request unparseable: CANARY"],
)
def test_what_an_agent_said_is_in_no_reason(reason: str) -> None:
    attempt = Attempt(1, Rung.SUBAGENT, "m", Verdict.HARD, reason, summary="CANARY")
    stream = [
        START_R,
        StepStarted("a"),
        AttemptStarted("a", 1, Rung.SUBAGENT, "m", "fixer"),
        AttemptFinished("a", attempt),
        Decided("a", "GiveUp", f"{reason}; escalation is off", {}),
        Notice(f"a note: {reason}", "a"),
        ended(
            "a", Status.FAILED, reason=f"{reason}; escalation is off", hint=reason, tail="CANARY"
        ),
        ended("b", Status.FAILED, reason=f"step 'a': {reason}; escalation is off"),
    ]
    assert "CANARY" not in repr(fold(stream))
    assert reason.partition(":")[0] in named(fold(stream), "step b").message
    assert "CANARY" in named(fold(stream, content=True), "attempt 1").message


# -- names of things ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "argv", "name"),
    [
        ("pytest -q", ("bash", "-c", "x"), "pytest"),
        ("A=1 B='x' .venv/bin/ruff check", ("bash", "-c", "x"), "ruff"),
        ("(cd src; make)", ("bash", "-c", "x"), "cd"),
        ("pre-commit hook", ("/r/.git/hooks/pre-commit",), "pre-commit"),
        ("print(1)", ("python3", "-c", "print(1)"), "python3"),
        ("$X", ("bash", "-c", "x"), "bash"),
        ("", (), "bash"),
        ("x" * 40, ("bash",), "bash"),
        ("ä", ("/x/ö",), "command"),
    ],
)
def test_commands_are_named_by_what_they_run(
    command: str, argv: tuple[str, ...], name: str
) -> None:
    assert executable(CommandStarted("a", "run", command, 1, argv)) == name


@pytest.mark.parametrize(
    ("model_id", "found"),
    [
        ("anthropic:claude-x", ("anthropic", "claude-x")),
        ("openai-responses:gpt", ("openai", "gpt")),
        ("google:gemini", ("gcp.gemini", "gemini")),
        ("local:a:b", ("local", "a:b")),
        ("script:/tmp/x/s.yaml", ("script", "s.yaml")),
        ("bare", ("", "bare")),
    ],
)
def test_models_are_named_as_the_conventions_have_it(model_id: str, found: tuple[str, str]) -> None:
    assert provider_and_model(model_id) == found


# -- OTLP -----------------------------------------------------------------------------------------


def protobuf(data: dict[str, Any]) -> ExportTraceServiceRequest:
    """Read OTLP/JSON with the real schema; protobuf's own reader wants ids in base64."""

    def encoded(value: Any) -> Any:
        if isinstance(value, list):
            return [encoded(one) for one in cast("list[Any]", value)]
        if not isinstance(value, dict):
            return value
        ids = {"traceId", "spanId", "parentSpanId"}
        fields = cast("dict[str, Any]", value)
        return {
            key: base64.b64encode(bytes.fromhex(one)).decode() if key in ids else encoded(one)
            for key, one in fields.items()
        }

    return Parse(json.dumps(encoded(data)), ExportTraceServiceRequest())


def test_a_run_is_what_the_real_schema_takes() -> None:
    spans = fold(RICH)
    written = json.loads(line(spans, {"service.name": "runner", "process.pid": 7}))
    request = protobuf(written)
    (resource,) = request.resource_spans
    assert {one.key: one.value.WhichOneof("value") for one in resource.resource.attributes} == {
        "service.name": "string_value",
        "process.pid": "int_value",
    }
    (scope,) = resource.scope_spans
    assert scope.scope.name == "runner"
    read = {span.span_id.hex(): span for span in scope.spans}
    assert len(read) == len(spans)
    for span in spans:
        other = read[span.span_id]
        assert other.trace_id.hex() == span.trace_id
        assert other.parent_span_id.hex() == span.parent_id
        assert (other.name, other.start_time_unix_nano) == (span.name, span.start)
        assert other.end_time_unix_nano == span.end
        assert other.kind == {"internal": 1, "server": 2, "client": 3}[span.kind]
        assert other.status.code == {"unset": 0, "ok": 1, "error": 2}[span.status]
        assert [link.span_id.hex() for link in other.links] == [one.span_id for one in span.links]
        assert [event.time_unix_nano for event in other.events] == [one.at for one in span.events]
        assert len(other.attributes) == len(span.attributes)


def test_values_are_written_as_the_encoding_says() -> None:
    span = Span(
        trace_id=TRACE, span_id=SPAN, parent_id="", name="n\udcff", kind="internal",
        start=2**60, end=2**60 + 1, status="ok", message="m\udcff",
        attributes={"s": "ä\udcff\x00", "t": True, "i": -(2**62), "f": 0.5, "n": math.nan,
                    "p": math.inf, "m": -math.inf, "l": ("a", "b\udcff"), "e": ()},
        links=(Link(TRACE, SPAN, {"k": "v"}),), events=(SpanEvent("e", 5, {"k": 1}),),
        trace_state="a=1",
    )  # fmt: skip
    data = json.loads(line([span], {}))
    ((written,),) = ((one["spans"] for one in r["scopeSpans"]) for r in data["resourceSpans"])
    (written,) = written
    values = {one["key"]: one["value"] for one in written["attributes"]}
    assert values == {
        "s": {"stringValue": "ä?\x00"},
        "t": {"boolValue": True},
        "i": {"intValue": str(-(2**62))},
        "f": {"doubleValue": 0.5},
        "n": {"doubleValue": "NaN"},
        "p": {"doubleValue": "Infinity"},
        "m": {"doubleValue": "-Infinity"},
        "l": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b?"}]}},
        "e": {"arrayValue": {"values": []}},
    }
    assert written["startTimeUnixNano"] == str(2**60)
    assert written["status"] == {"code": 1, "message": "m?"}
    assert written["traceState"] == "a=1"
    assert "parentSpanId" not in written
    protobuf(data)


@pytest.mark.parametrize(("parent", "flags"), [("", 0x101), (SPAN, 0x301)])
def test_a_root_in_an_outer_trace_says_that_its_parent_is_elsewhere(
    parent: str, flags: int
) -> None:
    (root,) = fold([replace(START_R, trace_parent=PARENT if parent else "")])
    data = traces([root], {})
    assert data["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["flags"] == flags


# -- the resource ---------------------------------------------------------------------------------

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REPOSITORY": "o/r",
    "GITHUB_REF": "refs/pull/7/merge",
    "GITHUB_RUN_ID": "99",
    "RUNNER_NAME": "w1",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_URL": "https://g/o/r",
    "CI_MERGE_REQUEST_IID": "8",
    "CI_JOB_URL": "https://g/o/r/-/jobs/1",
}


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, {"service.name": "runner", "service.instance.id": "r", "vcs.ref.head.name": "main"}),
        ({"OTEL_SERVICE_NAME": "mine"}, {"service.name": "mine"}),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "team=a%20b, service.name=other"},
            {"team": "a b", "service.name": "other"},
        ),
        (
            {"OTEL_RESOURCE_ATTRIBUTES": "service.name=o", "OTEL_SERVICE_NAME": "mine"},
            {"service.name": "mine"},
        ),
        ({"OTEL_RESOURCE_ATTRIBUTES": "a=1,broken"}, {"service.name": "runner"}),
        (
            GITHUB,
            {
                "vcs.repository.url.full": "https://github.com/o/r",
                "vcs.change.id": "7",
                "cicd.pipeline.run.url.full": "https://github.com/o/r/actions/runs/99",
                "cicd.worker.name": "w1",
            },
        ),
        (GITLAB, {"vcs.change.id": "8", "cicd.pipeline.run.url.full": GITLAB["CI_JOB_URL"]}),
    ],
)
def test_the_resource_says_what_the_trace_is_of(
    environ: dict[str, str], found: dict[str, str]
) -> None:
    attributes = resource_attributes(START_R, environ, host="h", pid=7)
    assert found.items() <= attributes.items()
    assert attributes["process.pid"] == 7
    assert attributes["host.name"] == "h"
    assert attributes["openinference.project.name"] == "runner"
    assert "" not in attributes.values()
    assert ("a" in attributes) is False


def test_a_resource_named_in_other_bytes_than_utf_8_is_written_all_the_same() -> None:
    attributes = resource_attributes(START_R, {"OTEL_RESOURCE_ATTRIBUTES": "\udcff=\udcfe"})
    written = json.loads(line(fold([START_R]), attributes))
    assert "?" in {one["key"] for one in written["resourceSpans"][0]["resource"]["attributes"]}


def test_the_version_is_the_installed_one() -> None:
    from importlib.metadata import version

    assert own_version() == version("subagent-runner")


# -- content --------------------------------------------------------------------------------------


def said(*parts: dict[str, Any], kind: str = "request", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "parts": list(parts), **more}


def user(text: Any) -> dict[str, Any]:
    return {"part_kind": "user-prompt", "content": text}


def test_messages_are_written_as_the_conventions_have_them() -> None:
    call = {"part_kind": "tool-call", "tool_name": "t", "args": '{"a": 1}', "tool_call_id": "c"}
    back = {"part_kind": "tool-return", "tool_name": "t", "content": "r", "tool_call_id": "c"}
    thought = {"part_kind": "thinking", "content": "hm"}
    text = {"part_kind": "text", "content": "hi"}
    found = content_attributes(
        json.dumps([
            said(user("go"), instructions="Be good."),
            said(thought, text, call, kind="response", finish_reason="tool_call"),
            said(back),
            said(text, kind="response"),
        ])
    )  # fmt: skip
    assert {name: json.loads(str(value)) for name, value in found.items()} == {
        names.SYSTEM_INSTRUCTIONS: [{"type": "text", "content": "Be good."}],
        names.INPUT_MESSAGES: [
            {"role": "user", "parts": [{"type": "text", "content": "go"}]},
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": "c", "response": "r"}],
            },
        ],
        names.OUTPUT_MESSAGES: [
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "hm"},
                    {"type": "text", "content": "hi"},
                    {"type": "tool_call", "id": "c", "name": "t", "arguments": {"a": 1}},
                ],
                "finish_reason": "tool_call",
            },
            {
                "role": "assistant",
                "parts": [{"type": "text", "content": "hi"}],
                "finish_reason": "stop",
            },
        ],
    }


def test_long_messages_are_cut_and_stay_whole() -> None:
    long = {"part_kind": "tool-call", "tool_name": "t", "args": {"x": "y" * 9000}}
    many = [said(user(f"{n} " + "ä" * 9_000)) for n in range(12)]
    found = content_attributes(json.dumps([*many, said(long, kind="response")]))
    asked = json.loads(str(found[names.INPUT_MESSAGES]))
    texts = [message["parts"][0]["content"] for message in asked]
    assert texts[0].startswith("0 ")
    assert texts[-1].startswith("11 ")
    assert "messages left out" in texts[1]
    assert all(len(text.encode()) <= PART_BYTES for text in texts)
    assert len(str(found[names.INPUT_MESSAGES]).encode()) <= ALL_BYTES + 200
    (answer,) = json.loads(str(found[names.OUTPUT_MESSAGES]))
    assert len(answer["parts"][0]["arguments"]) <= PART_BYTES


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", '[{"kind": "request"}]', "null", "7"])
def test_what_cannot_be_read_says_nothing(text: str) -> None:
    assert content_attributes(text) == {}


def test_content_is_only_there_when_asked_for() -> None:
    row = replace(
        responded(1, "main", "0.02"), step="a", messages=json.dumps([said(user("CANARY"))])
    )
    stream = [START_R, StepStarted("a"), row]
    assert "CANARY" not in repr(fold(stream))
    assert "CANARY" in str(named(fold(stream, content=True), "chat").attributes)
