"""Makes the packet of a failing command: for the main agent, or for the agent that called us."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from runner import brief
from runner.outcome import Packet, Rung
from runner.plan import MAIN
from runner.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.engine.ladder import Job
    from runner.engine.state import Run
    from runner.outcome import Attempt, Failure

HOST_BYTES = 3_000
"""Of a packet to the agent that called us, at most: it stays in a conversation that is not ours."""


def packet_text(
    run: Run,
    job: Job,
    failure: Failure,
    attempts: Sequence[Attempt],
    *,
    reason: str,
    diff: str = "",
) -> str:
    """Write what the main agent is told of a failing command.

    What it may change is not said to the agent that called us: its user says that, and nothing here
    watches it or undoes what it does.
    """
    hosted = run.hosted(MAIN)
    tried = tuple(tried_line(one) for one in attempts if one.rung is not Rung.COMMAND)
    facts = brief.PacketFacts(
        step=job.shown,
        command=job.command,
        exit_code=failure.exit_code,
        failure=failure,
        goal=job.goal,
        tried=tried,
        diff=diff,
        scope="" if hosted else job.scope.describe(),
        reason="" if hosted and not tried else reason,
        token=run.ports.run_id,
    )
    return brief.packet(facts, limit=HOST_BYTES if hosted else brief.PACKET_BYTES)


def host_packet(
    run: Run, job: Job, failure: Failure, attempts: Sequence[Attempt], written: str
) -> Packet | None:
    """Return what the agent that called us is told of a step that failed, if it is told.

    It is told also what no model may mend, for it changed the tree itself; only not where
    `escalate: false` beside a `fix` keeps main out of it. `written` was meant for main already.
    """
    if not run.hosted(MAIN) or (job.fix is not None and job.escalate is None):
        return None
    text = written or packet_text(run, job, failure, attempts, reason="")
    return Packet(text, failure_id(failure))


def failure_id(failure: Failure) -> str:
    """Return a short name of a failure, the same for the same fingerprint."""
    found = failure.fingerprint
    parts = (found.tool, found.phase.name, *sorted(found.failures))
    data = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).hexdigest()[:16]


def tried_line(attempt: Attempt) -> str:
    """Render an earlier attempt as one line for a brief or packet."""
    files = f"; changed {', '.join(attempt.files[:5])}" if attempt.files else ""
    return one_line(f"{attempt.rung} {attempt.verdict}: {attempt.reason}{files}", 240)
