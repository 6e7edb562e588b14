"""The worked examples of the cost model, to the tenth of a cent."""

from __future__ import annotations

from decimal import Decimal

import pytest

from runner.economics import Helper, Rates, Work, delegated, inline, switched

MILLION = Decimal(1_000_000)


def rates(text: str) -> Rates:
    return Rates(*(Decimal(one) / MILLION for one in text.split()))


OPUS = rates("4 0.20 5 20")
HAIKU = rates("0.10 0.01 0.125 0.50")
SONNET = rates("2 0.10 2.5 10")
OPUS_4_8 = rates("5 0.50 6.25 25")
HAIKU_4_5 = rates("1 0.10 1.25 5")


def cents(usd: Decimal) -> Decimal:
    return (usd * 100).quantize(Decimal("0.1"))


@pytest.mark.parametrize(
    ("main", "cheap", "context", "expected"),
    [
        # inline; switched warm and cold; delegated warm, with two pings, cold
        (OPUS, HAIKU, 80_000, "21.5 9.5 47.9 4.2 7.4 42.6"),
        (OPUS, HAIKU, 180_000, "33.5 24.7 111.1 6.8 14.0 93.2"),
        (SONNET, HAIKU, 80_000, "10.7 5.6 24.8 2.3 3.9 21.5"),
        (OPUS_4_8, HAIKU_4_5, 80_000, "44.7 31.3 77.3 11.9 19.9 57.9"),
    ],
)
def test_the_worked_examples(main: Rates, cheap: Rates, context: int, expected: str) -> None:
    work, helper = Work(context=context, turns=6), Helper()
    dear = rates("0.50 0.05 0.625 2.50") if context > 100_000 and cheap is HAIKU else cheap
    found = (
        inline(main, work),
        switched(main, dear, work),
        switched(main, dear, work, expired=True),
        delegated(main, cheap, work, helper),
        delegated(main, cheap, work, helper, pings=2),
        delegated(main, cheap, work, helper, expired=True),
    )
    assert " ".join(str(cents(one)) for one in found) == expected
