"""`runner hook`: runs a workflow when one's own coding agent wants to stop, and installs itself."""

from __future__ import annotations

import difflib
import os
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from runner.cli.options import completing, options_from, run_options
from runner.cli.output import agreed, print_text, tell
from runner.errors import RunnerError, UsageError
from runner.frozen import frozen
from runner.hook import claude
from runner.hook.drive import Wish, stop
from runner.hook.settings import Entry, install, uninstall
from runner.loader.scalars import duration
from runner.prepare import work_tree

MARGIN = 60
"""Seconds that Claude Code gives the hook beyond its own time: to end commands, restore, report."""
DEFAULT = 540.0
"""Seconds of a run: with the margin the 600 that a command hook has by default."""
PROMPT_TIMEOUT = 10
"""Seconds for the hook that only tells, with the user's next prompt, which files changed."""


class Span(click.ParamType[float]):
    """A time span such as `90s` or `10m`, in seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        found = duration(str(value))
        if found is None or not 1 <= found <= 86_400:
            self.fail(f"{value!r} is no time span, such as 90s or 10m", param, ctx)
        return found


@click.command("hook", epilog="What it does, costs and trusts: docs/hook.md")
@click.argument("host", required=False, type=click.Choice(["claude-code"]))
@click.option(
    "--workflow",
    metavar="FILE|NAME",
    shell_complete=completing("workflows"),
    help="Run this one; outside of the repository it needs no `runner allow`.",
)
@click.option(
    "--only",
    "steps",
    multiple=True,
    metavar="STEP",
    help="Run only STEP and what it needs.",
)
@click.option("--with-commit", is_flag=True, help="Run commit and push steps, too.")
@click.option(
    "--time", "seconds", type=Span(), default=DEFAULT, metavar="TIME", help="Time of a run. [9m]"
)
@click.option("--install", "task", flag_value="install", help="Add it to Claude Code's settings.")
@click.option("--uninstall", "task", flag_value="uninstall", help="Take it out of them.")
@click.option("--user", "scope", flag_value="user", help="In ~/.claude/settings.json.")
@click.option("--project", "scope", flag_value="project", help="In .claude/settings.json.")
@click.option(
    "--local", "scope", flag_value="local", help="In .claude/settings.local.json: the default."
)
@click.option("-y", "--yes", is_flag=True, help="Write without asking.")
@run_options
def hook_command(
    host: str | None, task: str | None, scope: str | None, directory: Path, **given: Any
) -> int:
    """Run the repository's workflow when Claude Code wants to stop.

    `runner hook --install` puts this into Claude Code's settings, with the other options given
    there. Claude Code then gives it a JSON object on stdin and takes one on stdout: a step that
    still fails is handed back to the agent, at most twice. The agent's session is the main agent:
    no key is needed for it, and nothing of it is paid here.
    """
    if task is not None:
        seconds: float = given["seconds"]
        change(task, scope or "local", directory.resolve(), seconds, yes=given["yes"])
        return 0
    if host is None:
        raise UsageError("nothing to do", hint="Install it: runner hook --install")
    return answer(given)


def answer(given: dict[str, Any]) -> int:
    """Answer the hook on stdin; exit code 2 would block the agent without a reason."""
    if sys.stdin.isatty():
        raise click.ClickException("Claude Code's JSON belongs on stdin; see docs/hook.md")
    data = sys.stdin.buffer.read(claude.LARGEST + 1)
    try:
        asked = claude.read(data)
    except ValueError as error:
        tell(f"runner: {error}")
        return 1
    if asked.event != "stop":
        return 0
    try:
        wish = Wish(
            argv=tuple(sys.argv[1:]),
            options=options_from(given, os.environ),
            workflow=given["workflow"],
            with_commit=given["with_commit"],
            seconds=given["seconds"],
        )
        reply = anyio.run(partial(stop, asked, wish))
    except RunnerError as error:
        reply = claude.Reply(note=f"runner: {error}")
    text = claude.write(asked.event, reply)
    if text:
        print_text(text)
    return 0


# -- the settings ----------------------------------------------------------------------------------


@frozen
class Change:
    """What a change of a settings file comes to."""

    path: Path
    before: str
    after: str

    @property
    def diff(self) -> str:
        """The change, for people."""
        lines = difflib.unified_diff(
            self.before.splitlines(), self.after.splitlines(),
            str(self.path), str(self.path), lineterm="",
        )  # fmt: skip
        return "\n".join(lines)


def change(task: str, scope: str, cwd: Path, seconds: float, *, yes: bool) -> None:
    """Show what a settings file would become, ask, and write it.

    Raises:
        UsageError: The file cannot be read, or changed without losing something.
    """
    path = settings_file(scope, cwd)
    before = _read(path)
    wanted = entries(scope, sys.argv[1:], seconds)
    try:
        after = install(before, wanted) if task == "install" else uninstall(before)
    except UsageError as error:
        raise UsageError(f"{path}: {error}", hint="Mend it by hand; nothing was written.") from None
    if after == before:
        tell(f"{path} stays as it is: the hook is {'in' if task == 'install' else 'not in'} it.")
        return
    tell(Change(path, before, after).diff)
    if not yes and not agreed(f"Write {path}?"):
        tell("Nothing was written.")
        return
    _write(path, after)
    tell(f"Wrote {path}.")
    if task == "install":
        tell("Next, in each repository: runner allow    shows what would run there, and asks")


def settings_file(scope: str, cwd: Path) -> Path:
    """Return the settings file of a scope, links followed.

    https://code.claude.com/docs/en/hooks, "Hook locations".

    Raises:
        UsageError: A repository's own leads out of it.
    """
    if scope == "user":
        return (Path.home() / ".claude" / "settings.json").resolve()
    root = work_tree(cwd)
    name = "settings.json" if scope == "project" else "settings.local.json"
    path = root / ".claude" / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{path} leads out of the repository, to {path.resolve()}")
    return path


def entries(scope: str, argv: list[str], seconds: float) -> tuple[Entry, ...]:
    """Return what the settings are to have: the command line without what was for installing."""
    # A repository's settings are for other machines, too, where it is wherever PATH says.
    program = "runner" if scope == "project" else _program()
    command = shlex.join([program, "hook", "claude-code", *_kept(argv)])
    return (
        Entry("Stop", command, int(seconds) + MARGIN),
        Entry("UserPromptSubmit", command, PROMPT_TIMEOUT),
    )


_OURS = frozenset(
    {"--install", "--uninstall", "--user", "--project", "--local", "--yes", "-y", "hook"}
)


def _kept(argv: list[str]) -> list[str]:
    """Return the options that each run of the hook is to have."""
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        if word in {"-C", "--directory"}:
            next(words, None)
        elif word not in {*_OURS, "claude-code"} and not word.startswith(("-C", "--directory=")):
            kept.append(word)
    return kept


def _program() -> str:
    """Return this program by its full path: a hook's PATH is not always the shell's."""
    own = Path(sys.argv[0])
    if own.name == "runner" and own.is_file():
        return str(own.absolute())
    return shutil.which("runner") or "runner"


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def _write(path: Path, text: str) -> None:
    """Replace a file in one go; it keeps its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        own = path.with_name(f".{path.name}.{os.getpid()}")
        own.write_bytes(text.encode("utf-8"))
        own.chmod(mode)
        own.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
