"""Counts each request once, prices it, and hands it to its session and conversation."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runner.cache import rules_of
from runner.economics import Helper
from runner.frozen import frozen
from runner.measure.assume import ZERO
from runner.measure.course import FREE, Course, cost_of
from runner.measure.records import Trouble
from runner.measure.session import Session, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from decimal import Decimal

    from runner.measure.rates import Rates
    from runner.measure.records import Record, Source, Turn, What
    from runner.plan import CacheOverride
    from runner.price import ClassPrices

CHEAP: Mapping[str, str] = {
    "anthropic": "anthropic:claude-haiku-5-5",
    "bedrock": "anthropic:claude-haiku-5-5",
    "openai": "openai:gpt-6-luna",
}
"""The cheap model that is assumed beside a provider's, unless the user names one."""
_UNKNOWN_RETENTION = 300.0


@frozen
class Asked:
    """What the user chose."""

    prices: str | None = None
    """Model whose prices hold for every request; `None`: the served model's own."""
    main: str | None = None
    """Model whose prices hold for the requests of main conversations."""
    cheap: str | None = None
    """Model that runs would have been delegated to."""
    helper: Helper = Helper()
    caches: Mapping[str, CacheOverride] | None = None


class Model:
    """Sums of one served model."""

    __slots__ = ("cost", "priced", "tokens", "turns")

    def __init__(self) -> None:
        self.turns = self.priced = 0
        self.tokens = Tokens()
        self.cost: Decimal = ZERO


class Tally:
    """Everything that was counted."""

    def __init__(self, asked: Asked, rates: Rates) -> None:
        self.asked = asked
        self.sessions: dict[tuple[Source, str], Session] = {}
        self.models: dict[str, Model] = {}
        self.troubles: Counter[What] = Counter()
        self.copies = 0
        self.cheap: set[str] = set()
        """The models that runs were thought to be delegated to."""
        self._rates = rates
        self._seen: set[int] = set()

    def file(self, records: Iterable[Record]) -> None:
        """Count one log's records."""
        courses: dict[str, tuple[Course, Session]] = {}
        try:
            for record in records:
                if isinstance(record, Trouble):
                    self.troubles[record.what] += 1
                else:
                    self._turn(record, courses)
        finally:
            # A log that cannot be read on counts up to there.
            for course, session in courses.values():
                course.end(session)

    def _turn(self, turn: Turn, courses: dict[str, tuple[Course, Session]]) -> None:
        session = self._session(turn)
        if turn.conversation not in courses:
            course = Course(self.asked.helper, self._cheap_rates, self._retention)
            courses[turn.conversation] = (course, session)
        course, session = courses[turn.conversation]
        if turn.copied or not self._seen.isdisjoint(turn.ids):
            self.copies += 1
            self._seen.update(turn.ids)
            course.copied(turn, session)
            return
        self._seen.update(turn.ids)
        rates = self._rates.of(self._priced_as(turn), turn.began, turn.used.prompt)
        self._model(turn, rates)
        session.unpriced += rates is None
        course.hear(turn, FREE if rates is None else rates, session)

    def _session(self, turn: Turn) -> Session:
        key = (turn.source, turn.session)
        if key not in self.sessions:
            self.sessions[key] = Session(turn.source, turn.session)
        return self.sessions[key]

    def _model(self, turn: Turn, rates: ClassPrices | None) -> None:
        model = self.models.setdefault(turn.model, Model())
        model.turns += 1
        model.tokens.add(turn.used)
        if rates is not None:
            model.priced += 1
            model.cost += cost_of(turn, rates)

    def _priced_as(self, turn: Turn) -> str:
        chosen = None if turn.side else self.asked.main
        return chosen or self.asked.prices or turn.model

    def _cheap_rates(self, turn: Turn, prompt: int) -> ClassPrices | None:
        provider = self._priced_as(turn).partition(":")[0]
        model = self.asked.cheap or CHEAP.get(provider)
        if model is None:
            return None
        rates = self._rates.of(model, turn.began, prompt)
        if rates is not None:
            self.cheap.add(model)
        return rates

    def _retention(self, turn: Turn) -> float:
        """Return for how long the main's cache is kept: for an hour where it wrote for one."""
        rules = rules_of(turn.model, self.asked.caches or {})
        if rules is None:
            return _UNKNOWN_RETENTION
        if rules.longer is not None and turn.used.write_1h > turn.used.write_5m:
            return rules.longer
        return rules.retention
