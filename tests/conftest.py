"""Shared by all tests: nobody's configuration, state or keys but the test's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

# For fixtures of whole modules as well, which run before the one below.
os.environ["SUBRUNNER_SANDBOX"] = "off"


@pytest.fixture(autouse=True)
def _private_world(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep every test away from the user's home, git configuration, keys and CI's variables."""
    home = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_TOKEN", "_BASE_URL")) or name.startswith(
            ("SUBRUNNER_", "GIT_", "OTEL_", "GITHUB_")
        ):
            monkeypatch.delenv(name)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    # Tests' commands write down what they did beside the tree; what a sandbox does has its own.
    monkeypatch.setenv("SUBRUNNER_SANDBOX", "off")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Ada Tester\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"
    )


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Return an empty directory with a real path, free of links."""
    return tmp_path.resolve()
