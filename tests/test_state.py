"""Tests of where the runner keeps its own files."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from runner.errors import UsageError
from runner.workspace.state import repo_state, state_root

if TYPE_CHECKING:
    from pathlib import Path


def test_directories_are_private(tmp_path: Path) -> None:
    root = state_root(tmp_path / "a" / "state")
    place = repo_state(tmp_path, root) if not root.is_relative_to(tmp_path) else root
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_each_tree_has_one_place_whichever_way_it_is_reached(tmp_path: Path) -> None:
    root = state_root(tmp_path / "state")
    for name in ("one", "other/one", "späti ☕"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("one")
    one = repo_state(tmp_path / "one", root)
    assert one == repo_state(tmp_path / "link", root)
    assert one != repo_state(tmp_path / "other" / "one", root)
    assert one.parent == root / "repos"
    assert one.name.startswith("one-")
    assert len(one.name) == len("one-") + 12
    assert repo_state(tmp_path / "späti ☕", root).name.isascii()


def test_state_inside_the_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="inside the work tree"):
        repo_state(tmp_path, state_root(tmp_path / "state"))


def test_a_directory_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    with pytest.raises(UsageError, match="not private") as caught:
        state_root(tmp_path / "state")
    assert "chmod 700" in caught.value.hint


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        state_root(tmp_path / "state")
