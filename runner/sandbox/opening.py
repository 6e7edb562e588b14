"""Opens the sandbox of a run: the strongest that holds here, or none, and says why."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from runner.errors import ProtectionError
from runner.sandbox.bubblewrap import Bubblewrap, find_program, not_installed, probe
from runner.sandbox.nouns import Held
from runner.sandbox.surroundings import Extra, home_of, look_around

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from runner.plan import SandboxMode
    from runner.sandbox.nouns import Need, Sandbox, Surroundings
    from runner.workspace.commands import Command

__all__ = ("Bare", "Extra", "hold", "open_sandbox")

DIRECTORY = "sandbox"
"""Below the state directory of a work tree: private caches, and what a probe found."""


class Bare:
    """Confines nothing, for nothing holds here."""

    def __init__(self, held: Held, surroundings: Surroundings) -> None:
        self.held, self.surroundings = held, surroundings

    def confine(self, command: Command, need: Need) -> Command:
        """Return the command as it is."""
        del need
        return command


def open_sandbox(
    mode: SandboxMode, root: Path, state: Path, environ: Mapping[str, str], extra: Extra
) -> Sandbox | None:
    """Return the sandbox of a run; `None` where the user switched it off.

    Raises:
        ProtectionError: It is required, and bubblewrap cannot make one here.
        UsageError: The user's configuration names a relative path.
    """
    if mode == "off":
        return None
    place = state / DIRECTORY
    program = find_program()
    held = hold(root, place, environ, program)
    if mode == "require" and held.by != "bubblewrap":
        raise ProtectionError(f"a sandbox is required, and none holds: {held.why}", hint=held.fix)
    around = look_around(root, place, environ, extra)
    if held.by == "bubblewrap" and program is not None:
        return Bubblewrap(program, around)
    if held.by == "landlock":
        from runner.sandbox import landlock  # noqa: PLC0415  only where bubblewrap does not hold

        return landlock.Landlock(held, around)
    return Bare(held, around)


def hold(root: Path, place: Path, environ: Mapping[str, str], program: Path | None) -> Held:
    """Say what holds for a work tree here: tried, not guessed."""
    if sys.platform != "linux":
        return Held("none", f"there is no bubblewrap on {sys.platform}", "Run it on Linux.")
    home, real = home_of(environ), root.resolve()
    if home.is_relative_to(real):
        return Held(
            "none",
            f"the work tree {real} holds your home directory",
            "Move the repository into a directory of its own.",
        )
    owner = real.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        return Held(
            "none",
            f"the work tree belongs to the user {owner}, and root in the sandbox has no more"
            " rights than anybody",
            f"Run it as that user, or: chown -R root {real}",
        )
    found = not_installed() if program is None else probe(program, place)
    if found.by == "bubblewrap":
        return found
    from runner.sandbox import landlock  # noqa: PLC0415  as above

    return landlock.instead_of(found, place)
