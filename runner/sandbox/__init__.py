"""Keeps commands and agents from all of the machine that their work does not need."""

from __future__ import annotations

from runner.outcome import Denial
from runner.sandbox.nouns import (
    Cache,
    Held,
    Holder,
    Mount,
    Need,
    Sandbox,
    Surroundings,
)

__all__ = (
    "Cache",
    "Denial",
    "Held",
    "Holder",
    "Mount",
    "Need",
    "Sandbox",
    "Surroundings",
)
