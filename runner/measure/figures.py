"""Turns what was counted into the figures that are shown, with quartiles over sessions. Pure."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from runner.frozen import frozen
from runner.measure.assume import ZERO
from runner.measure.session import GAPS, WAYS, Gaps, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.measure.files import Unread
    from runner.measure.records import What
    from runner.measure.session import Session, Way
    from runner.measure.tally import Asked, Model, Tally

HUNDRED = Decimal(100)


@frozen
class Quartiles:
    """The first quartile, the median and the third, by linear interpolation."""

    low: Decimal
    middle: Decimal
    high: Decimal


def quartiles(values: Iterable[Decimal | int]) -> Quartiles | None:
    """Return the quartiles; `None` of nothing."""
    known = [Decimal(value) for value in values]
    if not known:
        return None
    if len(known) == 1:
        return Quartiles(known[0], known[0], known[0])
    return Quartiles(*quantiles(known, n=4, method="inclusive"))


@frozen
class Saving:
    """What one way would have saved."""

    usd: Decimal
    share: Decimal | None
    """Per cent of the known cost; `None` without one."""
    session_usd: Quartiles | None
    session_share: Quartiles | None
    """Per cent of each session's cost."""


@frozen
class Looked:
    """What was looked at."""

    files: int
    bytes: int
    unread: tuple[Unread, ...]
    prices: tuple[str, str] | None
    """Name and date of the table of prices; `None` where none was asked."""


@frozen
class Figures:
    """Everything that `runner measure` says."""

    looked: Looked
    asked: Asked
    sessions: tuple[Session, ...]
    """By their first request."""
    models: Mapping[str, Model]
    troubles: Mapping[What, int]
    copies: int
    cheap: tuple[str, ...]
    tokens: Tokens
    cost: Decimal | None
    """USD of all requests whose price is known; `None` when none is."""
    whole: int
    """Sessions whose every request has a known price: the ones that quartiles are over."""
    mechanical_usd: Decimal | None
    turn_share: Quartiles | None
    """Per cent of a session's turns that are mechanical."""
    cost_share: Quartiles | None
    runs: Mapping[int, int]
    """How many runs of consecutive mechanical turns are of which length."""
    run_length: Quartiles | None
    gaps: Mapping[int, Gaps]
    savings: Mapping[Way, Saving | None]
    """`None` where no price is known to say it by."""

    def count(self, name: str) -> int:
        """Sum one of the sessions' counts."""
        return sum(getattr(session, name) for session in self.sessions)


def figures(tally: Tally, looked: Looked) -> Figures:
    """Return the figures of what was counted."""
    sessions = [one for one in tally.sessions.values() if one.turns]
    sessions.sort(key=lambda one: (one.first or 0.0, one.source, one.name))
    whole = [one for one in sessions if not one.unpriced and one.cost > 0]
    priced = any(one.turns > one.unpriced for one in sessions)
    cost = sum((one.cost for one in sessions), ZERO) if priced else None
    runs = Counter(length for one in sessions for length in one.runs)
    return Figures(
        looked=looked,
        asked=tally.asked,
        sessions=tuple(sessions),
        models=dict(sorted(tally.models.items(), key=lambda item: (-item[1].cost, item[0]))),
        troubles=dict(sorted(tally.troubles.items())),
        copies=tally.copies,
        cheap=tuple(sorted(tally.cheap)),
        tokens=_tokens(sessions),
        cost=cost,
        whole=len(whole),
        mechanical_usd=sum((one.mechanical_usd for one in sessions), ZERO) if priced else None,
        turn_share=quartiles(HUNDRED * one.mechanical / one.turns for one in sessions),
        cost_share=quartiles(HUNDRED * one.mechanical_usd / one.cost for one in whole),
        runs=dict(sorted(runs.items())),
        run_length=quartiles(runs.elements()),
        gaps={length: _gaps(sessions, length) for length in (0, *GAPS)},
        savings={way: _saving(way, sessions, whole, cost) for way in WAYS},
    )


def _tokens(sessions: Iterable[Session]) -> Tokens:
    total = Tokens()
    for one in sessions:
        total.add(one.tokens)
    return total


def _gaps(sessions: Iterable[Session], length: int) -> Gaps:
    total = Gaps()
    for one in sessions:
        gap = one.gaps[length]
        total.add(gap.count, gap.lost, gap.tokens, gap.usd)
    return total


def _saving(
    way: Way, sessions: Sequence[Session], whole: Sequence[Session], cost: Decimal | None
) -> Saving | None:
    if cost is None:
        return None
    # Nothing to delegate saves nothing; what runs without any model to give them to is not known.
    given = way != "delegation" or any(one.delegated for one in sessions)
    if not given and any(one.undelegated for one in sessions):
        return None
    usd = sum((one.saved[way] for one in sessions), ZERO)
    return Saving(
        usd=usd,
        share=HUNDRED * usd / cost if cost else None,
        session_usd=quartiles(one.saved[way] for one in whole),
        session_share=quartiles(HUNDRED * one.saved[way] / one.cost for one in whole),
    )


def to_json(shown: Figures) -> dict[str, Any]:
    """Return all figures as JSON: USD and per cent as numbers, `null` where not known."""
    return {
        "schema": "runner-measure/1",
        "looked_at": {
            "files": shown.looked.files,
            "bytes": shown.looked.bytes,
            "unread": [{"path": str(one.path), "why": one.why} for one in shown.looked.unread],
            "lines_left_out": dict(shown.troubles),
            "copies_of_requests": shown.copies,
        },
        "prices": {
            "table": None if shown.looked.prices is None else " ".join(shown.looked.prices),
            "all": shown.asked.prices,
            "main": shown.asked.main,
            "cheap": list(shown.cheap),
        },
        "assumed": _assumed_json(shown),
        "sessions": {"all": len(shown.sessions), "with_every_price_known": shown.whole},
        "turns": {
            "all": shown.count("turns"),
            "side": shown.count("side_turns"),
            "without_known_price": shown.count("unpriced"),
            "fast": shown.count("fast"),
        },
        "tokens": _tokens_json(shown.tokens),
        "cost_usd": _number(shown.cost),
        "models": {name: _model_json(model) for name, model in shown.models.items()},
        "mechanical": _mechanical_json(shown),
        "gaps": {str(length): _gaps_json(gap) for length, gap in shown.gaps.items()},
        "saved": {way: _saving_json(saving) for way, saving in shown.savings.items()}
        | {"counted": _counted_json(shown)},
        "each_session": [_session_json(one) for one in shown.sessions],
    }


def _assumed_json(shown: Figures) -> dict[str, Any]:
    helper = shown.asked.helper
    return {
        "failure": float(helper.fails),
        "brief_tokens": helper.brief,
        "answer_tokens": helper.answer,
        "report_tokens": helper.report,
        "fixed_tokens": helper.fixed,
        "task_tokens": helper.task,
        "turns_factor": float(helper.more_turns),
    }


def _mechanical_json(shown: Figures) -> dict[str, Any]:
    commands: Counter[str] = Counter()
    for one in shown.sessions:
        commands.update(one.commands)
    return {
        "turns": shown.count("mechanical"),
        "cost_usd": _number(shown.mechanical_usd),
        "passed": shown.count("passed"),
        "failed": shown.count("failed"),
        "commands": dict(sorted(commands.items())),
        "percent_of_turns": _quartiles_json(shown.turn_share),
        "percent_of_cost": _quartiles_json(shown.cost_share),
        "runs": {str(length): count for length, count in shown.runs.items()},
        "run_length": _quartiles_json(shown.run_length),
    }


def _counted_json(shown: Figures) -> dict[str, int]:
    return {
        "batched_turns": shown.count("batched"),
        "turns_left_out": shown.count("left_out"),
        "runs_delegated": shown.count("delegated"),
        "runs_that_paid": shown.count("paid"),
        "runs_without_known_price": shown.count("undelegated"),
    }


def _session_json(one: Session) -> dict[str, Any]:
    known = one.turns > one.unpriced
    return {
        "source": one.source,
        "session": one.name,
        "began": one.first,
        "turns": one.turns,
        "side_turns": one.side_turns,
        "without_known_price": one.unpriced,
        "tokens": _tokens_json(one.tokens),
        "cost_usd": float(one.cost) if known else None,
        "mechanical_turns": one.mechanical,
        "mechanical_usd": float(one.mechanical_usd) if known else None,
        "runs": one.runs,
        "gaps": {str(length): _gaps_json(gap) for length, gap in one.gaps.items()},
        "saved_usd": {way: float(usd) if known else None for way, usd in one.saved.items()},
    }


def _saving_json(saving: Saving | None) -> dict[str, Any] | None:
    if saving is None:
        return None
    return {
        "usd": float(saving.usd),
        "percent": _number(saving.share),
        "session_usd": _quartiles_json(saving.session_usd),
        "session_percent": _quartiles_json(saving.session_share),
    }


def _model_json(model: Model) -> dict[str, Any]:
    return {
        "turns": model.turns,
        "tokens": _tokens_json(model.tokens),
        "cost_usd": float(model.cost) if model.priced == model.turns else None,
    }


def _gaps_json(gap: Gaps) -> dict[str, Any]:
    return {
        "count": gap.count,
        "caches_lost": gap.lost,
        "rewritten_tokens": gap.tokens,
        "usd_over_reading": float(gap.usd),
    }


def _tokens_json(tokens: Tokens) -> dict[str, int]:
    return {
        "uncached_input": tokens.uncached,
        "cache_read": tokens.read,
        "cache_write_5m": tokens.write_5m,
        "cache_write_1h": tokens.write_1h,
        "output": tokens.output,
    }


def _quartiles_json(found: Quartiles | None) -> list[float] | None:
    return None if found is None else [float(found.low), float(found.middle), float(found.high)]


def _number(value: Decimal | None) -> float | None:
    return None if value is None else float(value)
