"""The report's published form: DESIGN section 3's JSON, key for key."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast

from runner.report.nouns import guarded

if TYPE_CHECKING:
    from runner.outcome import Attempt, Usage
    from runner.report.nouns import Break, ModelReport, Report, StepReport

SCHEMA = 1
"""Raised only when a key goes or changes its meaning."""

_PRICES = ("source", "date")


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
        "replayed": report.replayed,
        "git": {
            "before": git.before,
            "after": git.after,
            "branch": git.branch,
            "remote_ref": git.remote_ref,
        },
        "trace": report.trace and {"id": report.trace.id, "file": report.trace.file},
        "sandbox": report.sandbox,
        "state_dir": report.state_dir,
        "models": {role: _model_json(model) for role, model in report.models.items()},
        "prefix": {
            "requests": report.prefix.requests,
            "conversations": report.prefix.conversations,
            "unbroken": report.prefix.unbroken,
            "breaks": [_break_json(one) for one in report.prefix.breaks],
        },
        "prices": None if report.prices is None else dict(zip(_PRICES, report.prices, strict=True)),
        "steps": [_step_json(step) for step in report.steps],
    }


def ledger_json(report: Report) -> list[dict[str, Any]]:
    """Return the ledger: an object for each model response, its cost exact, as a text or null."""
    rungs = {(one.step, one.attempt, one.role): one.rung.value for one in report.by_attempt}
    return [
        {
            "number": number,
            "at": row.at,
            "step": row.step,
            "attempt": row.attempt,
            "rung": rungs[row.step, row.attempt, row.role],
            "role": row.role,
            "asked": row.asked,
            "served": row.served,
            "conversation": row.conversation,
            **_tokens_json(row.usage),
            "cost_usd": None if row.cost_usd is None else exact(row.cost_usd),
            "seconds": _seconds(row.seconds),
            "scripted": row.scripted,
        }
        for number, row in enumerate(report.ledger, start=1)
    ]


def prefix_json(report: Report) -> list[dict[str, Any]]:
    """Return an object for each request of the main conversation that its guard looked at."""
    return [
        {
            "number": number,
            "at": row.at,
            "step": row.step,
            "attempt": row.attempt,
            "role": row.role,
            "conversation": row.conversation,
            "blocks": how.blocks,
            "bytes": how.size,
            "digest": how.digest,
            "how": how.how,
            "broken": how.broken,
            "cached_tokens": row.usage.cache_read_tokens,
            "expected_tokens": how.expected,
            "why": how.why,
        }
        for number, (row, how) in enumerate(guarded(report), start=1)
    ]


def exact(usd: Decimal) -> str:
    """Write all digits of an amount, never as `1E-7`, without zeros at the end."""
    text = f"{usd:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _break_json(one: Break) -> dict[str, Any]:
    return {"request": one.request, "step": one.step, "where": one.where}


def _tokens_json(usage: Usage) -> dict[str, int]:
    return {
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_tokens": usage.output_tokens,
    }


def _model_json(model: ModelReport) -> dict[str, Any]:
    return {
        "id": model.id,
        "requests": model.usage.requests,
        **_tokens_json(model.usage),
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
