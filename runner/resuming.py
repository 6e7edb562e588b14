"""Decides whether a run can be resumed, and with what; its lease is held meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.errors import UsageError
from runner.preparation import prepare_again, read
from runner.recorded import recorded
from runner.report import can_resume
from runner.session import Resumed
from runner.workspace.strays import end_earlier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from runner.journal import Journal, RunRow
    from runner.plan import ResumeOptions, Workflow
    from runner.prepare import Prepared
    from runner.recorded import Recorded

OVER = frozenset({0, 1, 2, 4, 5, 7})
"""Exit codes of runs that ended by themselves: there is nothing to go on with."""
_WANT = 3
_NEW = "Start a new one: runner exec"


def take_up(
    journal: Journal,
    run_id: str,
    wishes: ResumeOptions,
    *,
    root: Path,
    state: Path,
    workflow: Workflow | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[Prepared, Resumed | None, str]:
    """Prepare a run again whose lease is held here, and end what its last process left running.

    Returns:
        What was prepared; what the run goes on from, `None` where it was killed before its first
        event; and the name of its policy.

    Raises:
        UsageError: It cannot be resumed, or not so; the message says what to do.
        JournalError: The journal cannot be read.
    """
    past = tuple(journal.records(run_id))
    known = recorded((record.at, record.event) for record in past)
    refuse_over(known, run_id, journal.runs())
    kept = read(state / "runs" / run_id, run_id)
    prepared = prepare_again(
        kept, wishes, run_id=run_id, root=root, workflow=workflow, environ=environ
    )
    if known is not None:
        _refuse_poor(known, prepared, run_id)
    left = end_earlier(run_id, state)
    resumed = Resumed(known, wishes, past, left) if known is not None else None
    return prepared, resumed, kept.policy


def refuse_over(known: Recorded | None, run_id: str, runs: Iterable[RunRow]) -> None:
    """Refuse a run that has ended by itself, and name the newest that has not.

    Raises:
        UsageError: It has.
    """
    if known is None or known.finished is None or known.finished.exit_code not in OVER:
        return
    other = next((run.id for run in runs if can_resume(run.status, run.exit_code)), "")
    raise UsageError(
        f"run {run_id} is over: it {known.finished.status} with exit code "
        f"{known.finished.exit_code}",
        hint="Only a run that was interrupted, killed, or left without provider, money or time can "
        f"be resumed. {f'Run {other} can: runner resume {other}' if other else _NEW}",
    )


def _refuse_poor(known: Recorded, prepared: Prepared, run_id: str) -> None:
    """Refuse where the run's money or time is used up and nobody gives more."""
    budget, start = prepared.budget, known.start
    if budget.seconds is not None and known.seconds >= budget.seconds:
        raise UsageError(
            f"run {run_id} has used up its {budget.seconds:.0f} s in "
            f"{known.lives} {'process' if known.lives == 1 else 'processes'}",
            hint=f"Give it more: runner resume {run_id} --time 1h",
        )
    if known.finished is None or known.finished.exit_code != _WANT:
        return
    given = (budget.usd, budget.seconds, budget.tokens)
    before = (start.budget_usd, start.budget_seconds, start.budget_tokens)
    if not any(map(_is_more, given, before)):
        raise UsageError(
            f"run {run_id} ended because its budget did not cover what came next",
            hint=f"Give it more than {_money(start.budget_usd)}: runner resume {run_id} "
            "--budget USD, or --time; tokens in `ceilings.tokens` of your configuration",
        )


def _is_more(now: object, before: object) -> bool:
    if before is None:
        return False
    return now is None or now > before  # type: ignore[operator]


def _money(usd: object) -> str:
    return "before" if usd is None else f"${usd}"
