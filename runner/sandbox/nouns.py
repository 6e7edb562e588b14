"""What a sandbox is asked for, what it holds, and what it kept from a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol, assert_never

from runner.frozen import frozen

if TYPE_CHECKING:
    from pathlib import Path

    from runner.workspace.commands import Command

Holder = Literal["bubblewrap", "landlock", "none"]


@frozen(kw_only=True)
class Need:
    """What one command may reach; all else of the machine is kept from it."""

    tree: Path
    """The directory that it works in or below: the work tree, or a clean checkout of it."""
    write: tuple[str, ...] | None = None
    """Globs below the tree that may be written; `None` is the whole tree: an author's command."""
    protect: tuple[str, ...] = ()
    """Globs that may not, though `write` has them."""
    lifted: tuple[str, ...] = ()
    """Globs of `write` that name something which is otherwise protected."""
    private: tuple[Path, ...] = ()
    """Directories outside of the tree that it may write: that of `$SUBRUNNER_OUTPUT`, say."""
    instead: tuple[tuple[Path, Path, bool], ...] = ()
    """What it finds at a path in the place of what is there: path, source, whether it may write."""
    network: bool = False
    """Whether it shares the machine's network; else it has a loopback of its own and no more."""


@frozen
class Held:
    """What holds on this machine, and how to get more."""

    by: Holder
    why: str = ""
    """Why it is not bubblewrap; empty when it is."""
    fix: str = ""
    """The exact command or setting to get it."""

    @property
    def words(self) -> str:
        """As a report has it: `bubblewrap`, `landlock`, or `none: WHY`."""
        return f"none: {self.why}" if self.by == "none" and self.why else self.by

    @property
    def warning(self) -> str:
        """What people are told where it is not bubblewrap; empty where it is."""
        match self.by:
            case "bubblewrap":
                return ""
            case "landlock":
                what = "Landlock confines commands, which holds less than bubblewrap"
            case "none":
                what = "no sandbox holds: agents have file tools and the step's own command"
            case _:
                assert_never(self.by)
        fix = f"; to get it: {self.fix}" if self.fix else ""
        return f"{what} ({self.why}{fix}). See `runner doctor`"


@frozen
class Cache:
    """A tool's cache: private to this repository, where the tool is told to keep it."""

    variable: str
    """The variable that tells the tool; empty where it only looks at `path`."""
    path: Path
    """Where the user's own is."""
    private: Path
    """Where this repository's is, in the state directory; it may be written."""
    shown: bool = False
    """Whether the user's own can be read in the sandbox."""


@frozen(kw_only=True)
class Surroundings:
    """What a run's commands find around the tree, looked at once; all paths are real ones."""

    root: Path
    """The work tree."""
    home: Path
    """The user's home, which is empty in the sandbox but for what the others here name."""
    readable: tuple[Path, ...] = ()
    """Files and directories that can be read: the system's, tools', interpreters'."""
    writable: tuple[Path, ...] = ()
    """Directories outside of the tree that may be written: the user's configuration says so."""
    hidden: tuple[Path, ...] = ()
    """Files that cannot be read although they lie below something that can: those of `/etc` that
    are for root only."""
    closed: tuple[Path, ...] = ()
    """The same for directories: nothing in them is there."""
    links: tuple[tuple[Path, str], ...] = ()
    """Symbolic links to make, and where they lead: `/bin` to `usr/bin`, say."""
    git: tuple[Path, ...] = ()
    """All that git keeps of this repository, wherever it lies: never written."""
    caches: tuple[Cache, ...] = ()
    gitconfig: str = ""
    """What git finds as its user's configuration: the plain part of their own."""
    state: Path | None = None
    """This repository's part of the state directory that belongs to sandboxes."""


MountKind = Literal["read", "write", "empty", "link", "mask", "hide"]
"""`read` and `write` show a source; `empty` is a new file system in memory; `link` is a symbolic
link; `mask` puts an empty file over a file, `hide` an unreadable directory over a directory."""


@frozen
class Mount:
    """One thing that a command finds at a path; later ones lie over earlier ones."""

    kind: MountKind
    path: Path
    source: str = ""
    """What is shown there, or where a link leads; empty: the same path."""
    optional: bool = False
    """Whether a source that is gone by now is left out."""


class Sandbox(Protocol):
    """Confines the commands of one run."""

    @property
    def held(self) -> Held:
        """What holds."""
        ...

    @property
    def surroundings(self) -> Surroundings:
        """What was found around the tree."""
        ...

    def confine(self, command: Command, need: Need) -> Command:
        """Return the command as it is started so that it reaches no more than it needs."""
        ...
