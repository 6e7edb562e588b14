"""What an agent's tools may do: the permit of one attempt, and the names of the tools there are.

Light on purpose: the engine makes permits without loading a model library. The tools themselves
are in `toolset`.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from decimal import Decimal
    from pathlib import Path

    from runner.workspace.commands import Command

TOOL_NAMES = ("read_file", "edit_file", "write_file", "list", "grep", "check", "shell")
"""Every tool that an agent's front matter can name, in the order of the wire."""


@frozen(kw_only=True)
class Permit:
    """What the tools of one attempt may do, asked at each call.

    The main agent's definitions on the wire never depend on it: a tool that is not permitted
    refuses when it is called.
    """

    root: Path
    """The tree's root; nothing outside is read or written, whatever links say."""
    allows: Callable[[str], bool]
    """Whether a path (relative to `root`, symbolic links resolved) may be written."""
    why_not: Callable[[str], str]
    """Why a path may not be written, as a sentence for the model."""
    wrote: Callable[[str, bytes], None] | None = None
    """Told of each file that a tool is about to write, and with what; in the tool's own thread."""
    keeps: Callable[[str], Awaitable[None]] | None = None
    """Records what somebody else has left at a path, before a file tool writes there."""
    settled: Callable[[], Awaitable[None]] | None = None
    """Records the tree after a call that may have changed it, before the call counts as done: a
    resumed run goes back to there."""
    check: Callable[[], Awaitable[str]] | None = None
    """Runs the step's own command and says how it ended; `None` where the step has none."""
    shell: bool = False
    """Whether a shell may be used: it was granted, or the sandbox holds."""
    confine: Callable[[Command], Command] | None = None
    """Keeps what the shell runs to what may be written here; `None` where nothing does."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """The whole environment of shell commands, but for what `traced` adds."""
    traced: Callable[[str], Mapping[str, str]] | None = None
    """Returns what tells a command its span in the trace, for the call with that id."""
    turns: int = 12
    """Model requests, at most."""
    seconds: float | None = None
    """Wall-clock seconds, at most."""
    usd: Decimal | None = None
    """Money of all the step's subagents together, at most; their purse keeps it, by the ledger."""
    tools: tuple[str, ...] = TOOL_NAMES
    """Tools that may be used; those of the definition that are missing here refuse."""


@frozen
class DelegateItem:
    """One item of a `delegate` call: a declared step, or an agent with its task."""

    step: str = ""
    agent: str = ""
    task: str = ""
