"""Sums up a run: its events become a report, the report an exit code and JSON. Pure."""

from __future__ import annotations

from runner.report.nouns import (
    Baseline,
    GitReport,
    ModelReport,
    PrefixReport,
    Report,
    RungReport,
    RunStatus,
    StepReport,
    StepStatus,
    exit_code,
    meaning,
)
from runner.report.published import SCHEMA, to_json
from runner.report.tally import Tally, summarise

__all__ = [
    "SCHEMA",
    "Baseline",
    "GitReport",
    "ModelReport",
    "PrefixReport",
    "Report",
    "RunStatus",
    "RungReport",
    "StepReport",
    "StepStatus",
    "Tally",
    "exit_code",
    "meaning",
    "summarise",
    "to_json",
]
