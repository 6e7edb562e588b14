"""What is known, and open, of one process's work at a run while its events become spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.telemetry import describing, names

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.events import CommandStarted, Decided, ModelRetried, RunStarted, Waited
    from runner.outcome import Attempt, Rung
    from runner.telemetry.growing import Growing, Trace
    from runner.telemetry.nouns import Link, Value


# Plain classes: each `@dataclass` would cost every run's start half a millisecond.


class Trying:
    """An attempt under way.

    Attributes:
        span: Its own.
        agent: Works at it; `None` where none does, or no longer.
        asked: Whether anything was asked; an agent that was not is no span.
        check: Judges it; `None` where it does not run.
        judged: Whether it did.
        timed_out: Whether the attempt's last command did not end by itself.
        tally: Of its requests.
        retries: Tries since the last answer, with their moments.
        held: The agent's own commands that ended, and when, until the call of a tool is told that
            they belong to.
    """

    def __init__(self, span: Growing, number: int, rung: Rung) -> None:
        self.span, self.number, self.rung = span, number, rung
        self.agent: Growing | None = None
        self.asked = False
        self.check: Growing | None = None
        self.judged = self.timed_out = False
        self.tally = describing.Tally()
        self.retries: list[tuple[int, ModelRetried]] = []
        self.held: list[tuple[Growing, int]] = []


class Stepping:
    """One step, from what is first heard of it to its last event.

    Attributes:
        id: As people see it.
        span: Its own; `None` before it began.
        waits: Before it began: from when until when.
        trying: The attempt that is under way.
        running: Commands that are.
        decided: What the policy decided last, until an attempt follows from it.
        last: The attempt before, and its span.
        tally: Of its requests.
    """

    def __init__(self, shown: str) -> None:
        self.id = shown
        self.span: Growing | None = None
        self.waits: list[tuple[int, int, Waited]] = []
        self.trying: Trying | None = None
        self.running: list[tuple[Growing, CommandStarted]] = []
        self.decided: Decided | None = None
        self.last: tuple[Attempt, str] | None = None
        self.tally = describing.Tally()


class Life:
    """The spans of one process's work at a run.

    Attributes:
        trace: All that is open.
        root: Stands for this life of the run.
        steps: What is open, by shown id.
        step_ids: Spans of all steps that began in this life, by shown id.
        earlier: Links to the steps of the life before.
        counts: Of the workflow's own steps.
    """

    def __init__(
        self,
        started: RunStarted,
        number: int,
        trace: Trace,
        now: int,
        *,
        content: bool,
        earlier: Mapping[str, Link],
    ) -> None:
        self.trace, self.started, self.content = trace, started, content
        self.private = describing.Private(content=content)
        self.plans = {plan.id: plan for plan in started.steps}
        self.steps: dict[str, Stepping] = {}
        self.step_ids: dict[str, str] = {}
        self.earlier = earlier
        self.tally = describing.Tally()
        self.counts = {names.STEPS_TOTAL: 0, names.STEPS_FAILED: 0, names.STEPS_ESCALATED: 0}
        self.root = trace.begin(
            (),
            None,
            names.WORKFLOW_SPAN.format(started.workflow),
            now,
            kind="server",
            attributes=describing.run_attributes(started, number),
        )

    def step(self, shown: str) -> Stepping:
        """Return what is known of a step."""
        return self.steps.setdefault(shown, Stepping(shown))

    def trying(self, shown: str, number: int = 0) -> Trying | None:
        """Return a step's attempt that is under way, if it is the one with that number."""
        step = self.steps.get(shown)
        trying = step.trying if step else None
        return trying if trying is not None and number in (0, trying.number) else None

    def above(self, shown: str) -> Growing:
        """Return the span that a step belongs below: the agent that delegated it, or its `uses`."""
        outer = shown
        while "/" in outer:
            outer = outer.rpartition("/")[0]
            found = self.steps.get(outer)
            if found is None or found.span is None:
                continue
            trying = found.trying
            if trying is None or trying.agent is None:
                return found.span
            trying.asked = True
            return trying.agent
        return self.root

    def home(self, shown: str) -> Growing:
        """Return a step's span; what is told of no step, or of none that began, is the run's."""
        step = self.steps.get(shown)
        if step is not None and step.span is not None:
            return step.span
        return self.above(shown) if shown else self.root

    def note(self, step: str, name: str, now: int, attributes: Mapping[str, Value]) -> None:
        """Note what happened to a step, or to the run, at one moment."""
        self.home(step).tell(name, now, attributes)

    def sum_up(self) -> None:
        """Write on the root what all requests and steps came to."""
        self.root.attributes |= self.tally.attributes() | self.counts
