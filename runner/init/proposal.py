"""What `init` proposes: frozen nouns, and how steps of several languages go together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

Role = Literal["format", "lint", "types", "test"]
ROLES: tuple[Role, ...] = ("format", "lint", "types", "test")

AGENTS: dict[Role, str] = {"lint": "lint-fixer", "types": "fixer", "test": "test-fixer"}
"""Who mends which role. A formatter mends itself; nobody else touches what it complains about."""


@frozen
class Check:
    """One step that `init` would write."""

    role: Role
    run: str
    why: str
    """What was found, shown as a comment beside the step."""
    language: str
    autofix: str = ""
    id: str = ""


@frozen
class Proposal:
    """Everything `init` found: steps to write, and what it left out and why."""

    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def roles(self) -> frozenset[Role]:
        """Return the roles that the checks cover."""
        return frozenset(check.role for check in self.checks)

    def __add__(self, other: Proposal) -> Proposal:
        return Proposal(self.checks + other.checks, self.notes + other.notes)


NOTHING = Proposal(())


def arranged(proposal: Proposal) -> Proposal:
    """Order the checks by role, cheapest first, and give each an id of its own."""
    ordered = sorted(proposal.checks, key=lambda check: ROLES.index(check.role))
    return replace(proposal, checks=tuple(_named(ordered)))


def _named(checks: Iterable[Check]) -> list[Check]:
    taken: list[str] = []
    named: list[Check] = []
    for check in checks:
        wanted = [check.role, f"{check.role}-{check.language}"]
        wanted += [f"{check.role}-{check.language}-{number}" for number in range(2, 20)]
        taken.append(next(one for one in wanted if one not in taken))
        named.append(replace(check, id=taken[-1]))
    return named
