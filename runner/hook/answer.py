"""Decides what a run comes to for the agent that wanted to stop, and for its user. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.hook.claude import Reply
from runner.hook.quick import told_of
from runner.text import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.outcome import Packet

MOST_TOLD = 2
"""Hand-backs of one failure in one session."""
MOST_IN_ROW = 6
"""Hand-backs until the user says something: Claude Code itself ends the turn after 8."""
PACKETS = 3
"""Whole packets in one hand-back; other failing steps are named."""


@frozen
class Failed:
    """A step that failed, and what the agent is told of it."""

    step: str
    packet: Packet | None
    reason: str

    @property
    def key(self) -> str:
        """Names this failure of this step; empty where the agent is told nothing."""
        return f"{self.step}:{self.packet.failure}" if self.packet else ""


@frozen(kw_only=True)
class Ran:
    """A run as the hook looks at it."""

    run_id: str
    exit_code: int
    failed: tuple[Failed, ...]
    passed: tuple[str, ...]
    """Steps that succeeded."""
    mended: Mapping[str, tuple[str, ...]]
    """What changed by whom: `autofix` or `subagent` of a step, with the paths."""
    cost_usd: Decimal | None = Decimal(0)
    trouble: str = ""
    """Why it ended before its time: budget, time, a provider."""
    before: str = ""
    """Tree before the run."""
    after: str = ""

    @property
    def changed(self) -> tuple[str, ...]:
        """All paths that it changed."""
        return tuple(sorted({path for paths in self.mended.values() for path in paths}))


@frozen
class Known:
    """What is known of a session, as far as the answer depends on it."""

    told: Mapping[str, int]
    """How often each failure was handed back."""
    in_row: int = 0
    """Hand-backs since the user last said something."""
    told_on: str = ""
    """Tree of the last hand-back."""
    changed: tuple[str, ...] = ()
    """Paths that earlier runs changed and the agent has not been told of."""


@frozen
class Decision:
    """The reply, and what is known of the session after it."""

    reply: Reply
    known: Known
    state: str = ""
    """`passed`, `told`, `noted`, or empty where the next stop must look again."""


def decide(ran: Ran, known: Known) -> Decision:
    """Let the agent stop, or hand the failures back to it.

    A failure is handed back twice in a session, unless it was mended in between; and not again
    when nothing in the tree changed since, for the agent has nothing to add.
    """
    mine = {*ran.passed}
    told = {key: n for key, n in known.told.items() if key.rpartition(":")[0] not in mine}
    changed = tuple(sorted({*known.changed, *ran.changed}))
    if ran.exit_code >= 128:
        return Decision(Reply(), Known(told, known.in_row, known.told_on, changed))
    tellable = [one for one in ran.failed if one.packet is not None]
    unmoved = bool(known.told_on) and known.told_on == ran.after
    fresh = [
        one
        for one in tellable
        if told.get(one.key, 0) < MOST_TOLD and not (unmoved and told.get(one.key))
    ]
    if not fresh or known.in_row >= MOST_IN_ROW:
        return _let_go(ran, tellable, Known(told, 0, "", changed), out=bool(fresh))
    shown = fresh[:PACKETS]
    for one in shown:
        told[one.key] = told.get(one.key, 0) + 1
    block = _hand_back(ran, shown, changed, most=max(told[one.key] for one in shown))
    after = Known(told, known.in_row + 1, ran.after)
    note = _bill(ran)
    if ran.trouble:
        note = f"{note or 'runner'}: {one_line(ran.trouble, 300)}"
    return Decision(Reply(block=block, note=note), after, "told" if ran.after else "")


def _let_go(ran: Ran, told: Sequence[Failed], known: Known, *, out: bool) -> Decision:
    """Let the agent stop, and tell the user what it leaves behind."""
    if not ran.failed and not ran.trouble:
        # A pass is bound to its tree: where the run changed it, the next stop looks again.
        state = "passed" if ran.before == ran.after and not ran.changed else ""
        return Decision(Reply(note=_mended(ran)), known, state)
    lines: list[str] = []
    if told:
        why = (
            f"{MOST_IN_ROW} hand-backs in a row"
            if out
            else "it was handed back, and what the agent did since did not mend it"
        )
        lines.append(f"{_names(told)} still fail{'s' * (len(told) == 1)}: {why}")
    lines += [
        f"{one.step} fails: {one_line(one.reason, 200)}" for one in ran.failed if not one.packet
    ]
    if ran.trouble:
        lines.append(one_line(ran.trouble, 300))
    if ran.changed:
        lines.append(_mended(ran).removeprefix("runner: "))
    lines.append(f"See: runner show {ran.run_id}")
    note = "runner: " + ". ".join(line.rstrip(".") for line in lines)
    return Decision(Reply(note=note), known, "noted")


def _hand_back(ran: Ran, shown: Sequence[Failed], changed: Sequence[str], *, most: int) -> str:
    """Write what the agent goes on with: facts, the packets, and what is not as it knows it."""
    others = [one.step for one in ran.failed if one not in shown]
    checks = f"{len(ran.passed)} passed, {len(ran.failed)} failed"
    parts = [
        f"The repository's workflow ran because you were about to stop: {checks}."
        f" It runs again when you stop ({'last' if most == MOST_TOLD else 'first'} hand-back of"
        " this failure). Mend the cause: weaken no test and no check."
        + (f" Also failing: {', '.join(others)}." if others else "")
    ]
    parts += [one.packet.text for one in shown if one.packet]
    if changed:
        parts.append(told_of(changed))
    return "\n\n".join(parts)


def _mended(ran: Ran) -> str:
    """Tell the user what a run changed; empty where it changed nothing."""
    if not ran.changed:
        return ""
    parts = [f"{who} changed {_paths(paths)}" for who, paths in ran.mended.items() if paths]
    bill = _bill(ran).removeprefix("runner: ")
    head = "" if ran.failed else "all steps pass; "
    return f"runner: {head}{'; '.join(parts)}" + (f"; {bill}" if bill else "")


def _bill(ran: Ran) -> str:
    if ran.cost_usd is None:
        return "runner: subagents were asked, at a price that is not known"
    return f"runner: subagents cost ${ran.cost_usd:.4f}" if ran.cost_usd else ""


def _names(failed: Sequence[Failed]) -> str:
    return ", ".join(one.step for one in failed)


def _paths(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
    return ", ".join(one_line(path, 100) for path in paths[:5]) + more
