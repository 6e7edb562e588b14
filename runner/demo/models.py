"""Writes the scripts of the demo's models: a cheap and an expensive one, for one scene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.demo.project import Defect, Scene

PRICED_AS: Mapping[str, str] = {
    "cheap": "anthropic:claude-haiku-5-5",
    "main": "anthropic:claude-opus-5-5",
}
"""Whose prices the scripted models show; nothing is paid."""


def write(scene: Scene, folder: Path, *, pace: float) -> Mapping[str, str]:
    """Write one script for each role; return the model ids to run with.

    Args:
        scene: What has to be mended.
        folder: Where the scripts go; not in the repository.
        pace: Seconds that each answer takes, so that a person can follow.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rules = {"cheap": cheap_rules(scene), "main": main_rules(scene)}
    ids: dict[str, str] = {}
    for role, answers in rules.items():
        path = folder / f"{role}.script.yaml"
        script = {"as": PRICED_AS[role], "rules": [_paced(rule, pace) for rule in answers]}
        text = yaml.safe_dump(script, sort_keys=False, allow_unicode=True, width=100)
        path.write_text(text, encoding="utf-8")
        ids[role] = f"script:{path}"
    return ids


def cheap_rules(scene: Scene) -> list[dict[str, Any]]:
    """The cheap model mends the lint error and gives up on the failing test."""
    return [
        {"when": {"step": "lint"}, "turns": _mending(scene.lint)},
        {
            "when": {"step": "test"},
            "turns": [
                {"call": "read_file", "with": {"path": scene.test.path}},
                {"cannot": {"reason": scene.test.cannot, "evidence": f"read {scene.test.path}"}},
            ],
        },
    ]


def main_rules(scene: Scene) -> list[dict[str, Any]]:
    """The main agent mends the failing test from one packet."""
    return [{"when": {"step": "test"}, "turns": _mending(scene.test)}]


def _mending(defect: Defect) -> list[dict[str, Any]]:
    edit = {"path": defect.path, "old_text": defect.bad, "new_text": defect.good}
    return [
        {"call": "read_file", "with": {"path": defect.path}},
        {"call": "edit_file", "with": edit},
        {"call": "check"},
        {"done": defect.done},
    ]


def _paced(rule: dict[str, Any], pace: float) -> dict[str, Any]:
    if not pace:
        return rule
    return rule | {"turns": [turn | {"delay": pace} for turn in rule["turns"]]}
