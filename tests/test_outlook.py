"""What rungs are likely to cost: from prices alone, from history, and with a cold cache."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from runner.history import Tried
from runner.outcome import Rung
from runner.outlook import CHEAP_SECONDS, Known, outlook_of
from runner.price import ClassPrices

MILLION = Decimal(1_000_000)


def prices(text: str) -> ClassPrices:
    return ClassPrices(*(Decimal(one) / MILLION for one in text.split()))


OPUS, HAIKU = prices("4 0.20 5 8 20"), prices("0.10 0.01 0.125 0.20 0.50")
KNOWN = Known(
    kind="test",
    repo="r",
    past=(),
    roles={"cheap": "haiku"},
    main="opus",
    prices={"opus": OPUS, "haiku": HAIKU},
    context=50_000,
    cold=False,
    left_usd=None,
    value_of_time=Decimal(3),
    irreversible=False,
)


def tried(number: int, rung: Rung, usd: str, *, mended: bool = True, model: str = "haiku") -> Tried:
    return Tried(
        kind="test",
        model=model,
        rung=rung,
        mended=mended,
        usd=Decimal(usd),
        seconds=10.0 * number,
        at=float(number),
        repo="r",
        run=f"run{number}",
    )


def test_by_prices_alone() -> None:
    found = outlook_of(KNOWN)
    assert not found.odds.known
    assert found.odds.chance == 0.6
    assert (found.usd_from, found.cheap_seconds) == ("estimate", CHEAP_SECONDS)
    assert found.cheap_usd is not None
    assert found.main_usd is not None
    assert found.cheap_usd < Decimal("0.005") < found.main_usd


def test_a_cold_cache_and_a_longer_conversation_make_main_dearer() -> None:
    warm, cold = outlook_of(KNOWN), outlook_of(replace(KNOWN, cold=True))
    long = outlook_of(replace(KNOWN, context=100_000))
    assert warm.main_usd is not None
    assert cold.main_usd is not None
    assert long.main_usd is not None
    assert cold.main_usd - warm.main_usd == Decimal("4.8") * 50_000 / MILLION
    assert long.main_usd > warm.main_usd


def test_what_it_cost_before_is_believed() -> None:
    past = [tried(n, Rung.SUBAGENT, f"0.00{n}") for n in (1, 2, 3)]
    past += [tried(n, Rung.MAIN, f"0.0{n}", model="opus") for n in (4, 5, 6)]
    found = outlook_of(replace(KNOWN, past=past, context=1_000))
    assert (found.cheap_usd, found.usd_from) == (Decimal("0.002"), "history")
    assert (found.cheap_seconds, found.main_seconds) == (20.0, 50.0)
    assert found.main_usd == Decimal("0.05")
    # Never less than to read the conversation as it is now.
    found = outlook_of(replace(KNOWN, past=past, context=100_000))
    assert found.main_usd == 4 * Decimal("0.20") * 100_000 / MILLION
    cold = outlook_of(replace(KNOWN, past=past, context=100_000, cold=True))
    assert cold.main_usd == Decimal("0.08") + Decimal("0.48")


def test_without_a_price_there_is_no_cost() -> None:
    found = outlook_of(replace(KNOWN, prices={"opus": None, "haiku": None}))
    assert (found.cheap_usd, found.main_usd) == (None, None)
    assert found.report_usd == 0


def test_a_middle_model_is_seen_apart() -> None:
    known = replace(KNOWN, roles={"cheap": "haiku", "mid": "sonnet"})
    known = replace(known, prices={**KNOWN.prices, "sonnet": prices("2 0.10 2.5 4 10")})
    past = [tried(1, Rung.SUBAGENT, "0.001", mended=False)]
    (mid,) = outlook_of(replace(known, past=past)).mid
    assert mid.role == "mid"
    assert not mid.odds.known
    assert outlook_of(replace(known, past=past)).odds.failed == 1.0
