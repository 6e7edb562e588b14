"""The report's published form: DESIGN section 3's JSON, key for key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from runner.outcome import Attempt
    from runner.report.nouns import ModelReport, Report, StepReport

SCHEMA = 1
"""Raised only when a key goes or changes its meaning."""


def to_json(report: Report) -> dict[str, Any]:
    """Return the published form of `report` (DESIGN section 3), of plain JSON values only."""
    git = report.git
    return {
        "schema": SCHEMA,
        "run_id": report.run_id,
        "workflow": report.workflow,
        "status": report.status,
        "exit_code": report.exit_code,
        "seconds": _seconds(report.seconds),
        "cost_usd": _json(report.cost_usd),
        "baseline": {
            "inline_usd": _json(report.baseline.inline_usd),
            "switch_usd": _json(report.baseline.switch_usd),
            "estimated": True,
        },
        "scripted": report.scripted,
        "git": {
            "before": git.before,
            "after": git.after,
            "branch": git.branch,
            "remote_ref": git.remote_ref,
        },
        "sandbox": report.sandbox,
        "state_dir": report.state_dir,
        "models": {role: _model_json(model) for role, model in report.models.items()},
        "prefix": {
            "requests": report.prefix.requests,
            "conversations": report.prefix.conversations,
            "unbroken": report.prefix.unbroken,
            "breaks": list(report.prefix.breaks),
        },
        "steps": [_step_json(step) for step in report.steps],
    }


def _model_json(model: ModelReport) -> dict[str, Any]:
    return {
        "id": model.id,
        "requests": model.usage.requests,
        "input_tokens": model.usage.input_tokens,
        "cache_read_tokens": model.usage.cache_read_tokens,
        "cache_write_tokens": model.usage.cache_write_tokens,
        "output_tokens": model.usage.output_tokens,
        "cost_usd": _json(model.cost_usd),
    }


def _step_json(step: StepReport) -> dict[str, Any]:
    return {
        "id": step.id,
        "status": step.status,
        "rung": step.rung and step.rung.value,
        "reason": step.reason,
        "verified": step.verified,
        "seconds": _seconds(step.seconds),
        "cost_usd": _json(step.cost_usd),
        "outputs": _json(step.outputs),
        "log": step.log,
        "attempts": [_attempt_json(attempt) for attempt in step.attempts],
    }


def _attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "rung": attempt.rung.value,
        "model": attempt.model,
        "verdict": attempt.verdict.value,
        "reason": attempt.reason,
        "requests": attempt.requests,
        "cost_usd": _json(attempt.cost_usd),
        "seconds": _seconds(attempt.seconds),
        "files": list(attempt.files),
    }


def _seconds(value: float) -> float:
    return round(value, 3)


def _json(value: Any) -> Any:
    """Return the nearest value that every JSON reader takes: a step's outputs may be anything."""
    match value:
        case None | str() | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value)
        case Mapping():
            entries = cast("Mapping[object, object]", value)
            return {str(key): _json(item) for key, item in entries.items()}
        case list() | tuple():
            return [_json(item) for item in cast("list[object] | tuple[object, ...]", value)]
        case _:
            return str(value)
