"""Decides where the marks of an axis stand. Pure."""

from __future__ import annotations

import math


def ticks(most: float, about: int = 5) -> list[float]:
    """Return round numbers from 0 up to `most`, about so many of them; only 0 where that is 0."""
    if not 1e-9 < most < math.inf:
        return [0.0]
    rough = most / max(1, about)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * size for size in (1, 2, 5, 10) if power * size >= rough * 0.999)
    return [step * number for number in range(int(most / step * 1.000001) + 1)]


def time_ticks(most: float, about: int = 5) -> list[float]:
    """Return marks in seconds at which a clock looks round: 15 s, 2 min, an hour."""
    for step in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200):
        if most > about and most / step <= about:
            return [float(step * number) for number in range(int(most / step) + 1)]
    return ticks(most, about)


def percent(value: float, most: float) -> str:
    """Return `value` as part of `most`, as SVG takes lengths: `12.5%`, never outside of it."""
    share = 0.0 if most <= 0 else min(max(value / most, 0.0), 1.0)
    return f"{100 * share:.3f}".rstrip("0").rstrip(".") + "%"
