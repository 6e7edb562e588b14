"""Decides how a model's work ended from the type of the error that ended it: the failure table.

Imports pydantic-ai: whoever has such an error has it loaded.
"""

from __future__ import annotations

from typing import cast

from pydantic_ai import exceptions as pai

from runner.errors import ProviderError, ReplayError
from runner.models.guard import PrefixBrokenError
from runner.money import OverBudgetError
from runner.outcome import (
    Ending,
    Exhausted,
    Misconfigured,
    OffRecord,
    OverBudget,
    PrefixBroken,
    Refused,
    Unavailable,
)

RUN_PURSE = "run"
"""Name of the run's purse; any other is a step's."""

_LONGEST_DETAIL = 500


class OtherModelServedError(ProviderError):
    """Raised when a provider answered with another model than was asked for."""


class ScriptError(ProviderError):
    """Raised when a scripted model has no answer for a request."""


def ending_of(error: BaseException) -> Ending | None:
    """Tell how the work ended; `None` for what is no model's or provider's doing."""
    if isinstance(error, BaseExceptionGroup):
        endings = [
            ending_of(each) for each in cast("BaseExceptionGroup[BaseException]", error).exceptions
        ]
        return endings[0] if endings and None not in endings else None
    if isinstance(error, OverBudgetError):
        return _over_budget(error)
    if isinstance(error, PrefixBrokenError | ReplayError | ProviderError):
        return _own(error)
    if isinstance(error, pai.ModelAPIError):
        return _of_provider(error)
    if isinstance(error, TimeoutError):
        # pydantic-ai's RunTimedOut is one, and so is what anyio.fail_after raises.
        return Exhausted("seconds", _detail(error))
    if isinstance(error, pai.UsageLimitExceeded):
        return Exhausted("turns", _detail(error))
    if isinstance(error, pai.ContentFilterError):
        return Refused("content_filter", _detail(error))
    if isinstance(error, pai.UnexpectedModelBehavior):
        return Refused("unparseable", _detail(error))
    return None


def _over_budget(error: OverBudgetError) -> Ending:
    if error.purse == RUN_PURSE:
        return OverBudget(
            error.needed,
            error.left,
            error.message,
            kept_back=error.kept_back,
            disputed=error.disputed,
            lack=error.lack,
        )
    return Exhausted("usd", error.lack.words)


def _own(error: PrefixBrokenError | ReplayError | ProviderError) -> Ending:
    if isinstance(error, PrefixBrokenError):
        return PrefixBroken(f"{error.message} {error.hint}")
    if isinstance(error, ReplayError):
        return OffRecord("not the request that was recorded")  # the error itself tells at the end
    if isinstance(error, OtherModelServedError):
        return Misconfigured("other_model_served", error.message)
    if isinstance(error, ScriptError):
        return Unavailable(error.message)
    return Misconfigured("authentication", str(error))


def _of_provider(error: pai.ModelAPIError) -> Ending:
    detail = _detail(error)
    if isinstance(error, pai.ModelQuotaExceededError):
        return Misconfigured("quota", detail)
    if isinstance(error, pai.ModelAuthenticationError):
        return Misconfigured("authentication", detail)
    if isinstance(error, pai.ModelNotFoundError):
        return Misconfigured("unknown_model", detail)
    if isinstance(error, pai.ModelContextWindowExceededError):
        return Refused("too_long", detail)
    if isinstance(error, pai.ModelRequestRejectedError):
        return Refused("rejected", detail)
    if isinstance(error, pai.ModelHTTPError):
        return _of_status(error.status_code, detail)
    # Rate limits, outages, broken connections, time-outs, answers that are no JSON.
    return Unavailable(detail)


def _of_status(status: int, detail: str) -> Ending:
    """Statuses that the library puts in no category."""
    if status == 413:
        return Refused("too_long", detail)
    # 407 is the word of a proxy on the way.
    if status < 500 and status not in {407, 408, 409, 425, 429}:
        return Refused("rejected", detail)
    return Unavailable(detail)


def _detail(error: BaseException) -> str:
    """The error in one short line for people; nothing is decided by it."""
    text = _status(error) if isinstance(error, pai.ModelHTTPError) else str(error)
    text = " ".join(text.split()) or type(error).__name__
    # What the library advises its own users is no advice for ours.
    text = text.partition(" Consider raising the ")[0]
    return text if len(text) <= _LONGEST_DETAIL else f"{text[: _LONGEST_DETAIL - 3]}..."


def _status(error: pai.ModelHTTPError) -> str:
    """Say what a provider answered instead of an answer, in its own words where it has any."""
    said = _words(error.body)
    return (
        f"{error.model_name} answered with status {error.status_code}{': ' if said else ''}{said}"
    )


def _words(body: object) -> str:
    """Return the message in an error's body: vendors nest it in `error`, or do not."""
    if not isinstance(body, dict):
        return "" if body is None else str(body)
    fields = cast("dict[str, object]", body)
    inner = fields.get("error", fields.get("message", ""))
    return _words(cast("object", inner)) if isinstance(inner, dict | str) else ""
