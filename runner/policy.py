"""Decides what an attempt came to and who tries next. Pure; the engine knows none of it."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING, Any, assert_never

from runner.fingerprints import progress
from runner.frozen import frozen
from runner.outcome import (
    Attempt,
    Cannot,
    Done,
    Ending,
    Exhausted,
    Failure,
    HandedBack,
    Misconfigured,
    OffRecord,
    OverBudget,
    PrefixBroken,
    Refused,
    Rung,
    Unavailable,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from runner.history import Odds
    from runner.outcome import CommandResult
    from runner.plan import Escalate, Fix


@frozen
class Evidence:
    """What is known after a model attempt, none of it from the model but `ending`."""

    ending: Ending
    changed: bool
    """Whether anything in the tree differs from before the attempt."""
    before: Failure
    after: Failure | None
    """The command's failure after the attempt; `None` when it passed, or was not run."""
    passed: bool
    violations: tuple[str, ...] = ()
    tampering: tuple[str, ...] = ()
    soft_before: bool = False
    """Whether an earlier attempt was let through as merely different."""


def of_command(result: CommandResult, *, again: bool) -> Verdict:
    """Give a command its verdict; *again*: nothing was done but to run it once more.

    What a sandbox kept from it, nobody can mend: neither a retry nor a model.
    """
    if result.passed:
        return Verdict.FLAKY if again else Verdict.PASSED
    return Verdict.HARD if result.denial is None else Verdict.DENIED


DIFFERENT = "another failure than before"
"""Reason of an attempt that is let through once although it is no progress."""


@frozen
class Judgement:
    """A verdict with its reason in one line."""

    verdict: Verdict
    reason: str
    different: bool = False
    """Soft only because the failure is another one, which is granted once."""


def judge(evidence: Evidence) -> Judgement:
    """Give a model attempt its verdict; the agent's own word never makes it pass."""
    foul = _foul(evidence)
    if foul:
        return Judgement(Verdict.HARD, foul)
    if evidence.passed:
        if evidence.changed:
            return Judgement(Verdict.PASSED, "the command passes")
        return Judgement(Verdict.FLAKY, "the command passes although nothing was changed")
    return _by_ending(evidence)


def _by_ending(evidence: Evidence) -> Judgement:  # noqa: C901  one case for each ending
    """Judge an attempt that did not make the command pass."""
    match evidence.ending:
        case Unavailable(detail):
            return Judgement(Verdict.INFRA, f"provider unavailable: {detail}")
        case Misconfigured(why, detail):
            return Judgement(Verdict.INFRA, f"{why.replace('_', ' ')}: {detail}")
        case OverBudget(detail=detail, kept_back=kept_back, lack=lack):
            verdict = Verdict.HARD if kept_back else Verdict.CANCELLED
            return Judgement(verdict, f"not asked: {lack.words if lack else detail}")
        case PrefixBroken(detail):
            return Judgement(Verdict.CANCELLED, f"strict prefix: {detail}")
        case OffRecord(detail):
            return Judgement(Verdict.CANCELLED, f"not asked: {detail}")
        case HandedBack():
            # Nobody tried: it says nothing of any model.
            return Judgement(Verdict.CANCELLED, "handed back to the agent")
        case Cannot(reason):
            return Judgement(Verdict.HARD, f"the agent gave up: {reason}")
        case Exhausted(limit, detail):
            what = "not asked" if limit == "usd" else f"{limit} used up"
            return Judgement(Verdict.HARD, f"{what}{': ' + detail if detail else ''}")
        case Refused(why, detail):
            what = why.replace("_", " ")
            return Judgement(Verdict.HARD, f"request {what}{': ' + detail if detail else ''}")
        case Done():
            return _judge_progress(evidence)
        case _:
            assert_never(evidence.ending)


def _foul(evidence: Evidence) -> str:
    """Say what was done that no passing command makes good."""
    if evidence.tampering:
        return "tampered with its judge: " + "; ".join(evidence.tampering[:3])
    if evidence.violations:
        return "left its scope: " + "; ".join(evidence.violations[:3])
    return ""


def _judge_progress(evidence: Evidence) -> Judgement:
    if not evidence.changed:
        return Judgement(Verdict.HARD, "nothing changed on disk")
    if evidence.after is None:
        return Judgement(Verdict.HARD, "the command was not run")
    match progress(evidence.before.fingerprint, evidence.after.fingerprint):
        case "progress":
            return Judgement(Verdict.SOFT, "progress: fewer failures, or a later phase")
        case "same":
            return Judgement(Verdict.HARD, "no progress: the same failure")
        case "worse":
            return Judgement(Verdict.HARD, "no progress: it broke more")
        case "changed":
            if evidence.soft_before:
                return Judgement(Verdict.HARD, "no progress: another failure again")
            return Judgement(Verdict.SOFT, DIFFERENT, different=True)


@frozen
class Situation:
    """Everything that the choice of the next rung may look at."""

    step: str
    failure: Failure
    fix: Fix | None
    escalate: Escalate | None
    subagent: bool
    """Whether a model answers for the subagent's role."""
    main: bool
    attempts: tuple[Attempt, ...]
    """The model attempts so far."""
    out_of_scope: bool
    """Whether every file that the failure names lies out of scope."""
    unmended: str = ""
    """Why no model may be asked here although the step has a fix; empty when one may."""
    mid: bool = False
    """Whether a model answers for the step's further subagent role."""
    outlook: Outlook | None = None
    """What the choice is likely to cost; `None` where nobody estimated it."""


@frozen(kw_only=True)
class Mid:
    """A further subagent's model that the step names, dearer than its first and not main's."""

    role: str
    odds: Odds
    usd: Decimal | None
    seconds: float


@frozen(kw_only=True)
class Outlook:
    """What the rungs are likely to cost for one failure; money in USD."""

    kind: str
    """Of the failure: `test`, `lint`, `format`, `type`, `other`."""
    odds: Odds
    """Of the subagent's model."""
    cheap_usd: Decimal | None
    """Of the subagent, all its attempts; `None`: no price is known."""
    cheap_seconds: float
    main_usd: Decimal | None
    """Of one packet to main, what its cache's state makes of it included."""
    main_seconds: float
    report_usd: Decimal
    """What main pays to read of a subagent's failure, beyond the packet that it gets anyway."""
    context: int
    """Tokens of the main conversation; 0 while it is not open."""
    cold: bool
    """Whether main's cache is gone, or was never there."""
    left_usd: Decimal | None
    """Of the run's budget; `None` without one."""
    value_of_time: Decimal
    """USD for an hour of waiting."""
    irreversible: bool
    """Whether a wrong pass cannot be taken back: the lower bound of the odds counts."""
    usd_from: str = "estimate"
    """Where the subagent's cost is known from: `history` or `estimate`."""
    mid: tuple[Mid, ...] = ()


@frozen
class AskSubagent:
    """Give a fresh subagent a brief."""

    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The arithmetic behind it, for the decision record."""
    role: str = ""
    """The model role that is asked; empty is the step's first."""


@frozen
class AskMain:
    """Append a packet to the main conversation."""

    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


@frozen
class GiveUp:
    """Undo the attempts and let the step fail."""

    reason: str
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])


Move = AskSubagent | AskMain | GiveUp

if TYPE_CHECKING:
    Policy = Callable[[Situation], Move]


def ladder(now: Situation) -> Move:
    """Choose the lowest rung that is not spent: subagent first, main on a hard failure only."""
    if now.fix is None and now.escalate is None:
        return GiveUp("no model was asked: this step has no fix")
    if now.unmended:
        return GiveUp(now.unmended)
    subagents = [a for a in now.attempts if a.rung is Rung.SUBAGENT]
    packets = [a for a in now.attempts if a.rung is Rung.MAIN]
    if not packets:
        cheap = _subagent(now, subagents)
        if isinstance(cheap, AskSubagent):
            return cheap
        return _main(now, packets, cheap)
    return _main(now, packets, packets[-1].reason)


def _subagent(now: Situation, tried: list[Attempt]) -> AskSubagent | str:
    """Return the move, or why this rung is left."""
    if now.fix is None:
        return "this step has no fix"
    if not now.subagent and not now.mid:
        return "no model for the subagent"
    if now.out_of_scope:
        return "every file that the failure names is out of scope"
    if not tried:
        first = "" if now.subagent else now.fix.then or ""
        return AskSubagent("the command failed", role=first)
    last = tried[-1]
    reason, same = last.reason, sum(one.role == last.role for one in tried)
    if last.verdict is Verdict.SOFT:
        if same < now.fix.attempts:
            return AskSubagent(reason, role=last.role)
        reason = f"{same} attempts used up"
    then = now.fix.then
    if now.mid and then is not None and all(one.role != then for one in tried):
        return AskSubagent(reason, role=then)
    return reason


def _main(now: Situation, packets: list[Attempt], reason: str) -> AskMain | GiveUp:
    if now.escalate is None or now.escalate.max == 0:
        return GiveUp(f"{reason}; escalation is off for this step")
    if not now.main:
        return GiveUp(reason)
    if len(packets) >= now.escalate.max:
        return GiveUp(f"{reason}; {len(packets)} packets used up")
    return AskMain(reason)
