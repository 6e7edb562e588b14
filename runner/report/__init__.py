"""Sums up a run: its events become a report, the report an exit code and JSON. Pure."""

from __future__ import annotations

from runner.report.nouns import (
    Baseline,
    Break,
    GitReport,
    ModelReport,
    PrefixReport,
    Report,
    RungReport,
    RunStatus,
    Spent,
    StepReport,
    StepStatus,
    Total,
    can_resume,
    ending_of,
    exit_code,
    guarded,
    meaning,
)
from runner.report.published import SCHEMA, exact, ledger_json, prefix_json, to_json
from runner.report.tally import Tally, summarise

__all__ = [
    "SCHEMA",
    "Baseline",
    "Break",
    "GitReport",
    "ModelReport",
    "PrefixReport",
    "Report",
    "RunStatus",
    "RungReport",
    "Spent",
    "StepReport",
    "StepStatus",
    "Tally",
    "Total",
    "can_resume",
    "ending_of",
    "exact",
    "exit_code",
    "guarded",
    "ledger_json",
    "meaning",
    "prefix_json",
    "summarise",
    "to_json",
]
