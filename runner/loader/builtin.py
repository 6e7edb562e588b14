"""Finds the agents and workflows that are shipped as data."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def builtin(kind: Literal["agents", "workflows"]) -> Path:
    """Return the folder of shipped `agents` or `workflows`: in a wheel, or in a source checkout.

    A path, not `importlib.resources`, whose import alone takes longer than the rest of the loader.
    """
    package = Path(__file__).parent.parent
    installed = package / "_builtin" / kind
    return installed if installed.is_dir() else package.parent / kind
