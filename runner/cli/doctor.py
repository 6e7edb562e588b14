"""`runner doctor`: tries to break every protection, and says what holds on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import anyio
import click

from runner.cli import checkup
from runner.cli.options import directory_option, state_option
from runner.cli.output import print_json, print_text, wants_color
from runner.console.style import Span, fit, glyphs_for, pad, paint
from runner.errors import ProtectionError, RunnerError
from runner.frozen import frozen
from runner.loader import load_config
from runner.prepare import work_tree
from runner.sandbox.bubblewrap import find_program
from runner.sandbox.landlock import version as landlock_version
from runner.sandbox.opening import DIRECTORY, hold
from runner.sandbox.probes import Proof, attempt
from runner.workspace.state import repo_state, state_root

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.cli.checkup import Tool
    from runner.console.style import Glyphs, Line
    from runner.sandbox.nouns import Held
    from runner.sandbox.probes import Proofs

SCHEMA = 1
"""Of what `--json` prints; a field may be added, none changes its meaning."""
_WIDTH = 80
_LACKING = 4
_EPILOG = """\
\b
Examples:
  runner doctor              # what holds here, and how to get the rest
  runner doctor --require    # in a CI job: fail where not everything does
  runner doctor --json

Nothing is believed that was not tried: commands in a scratch repository try to write its
.git, read your home, reach the network, see and end other processes and stay behind; what
came of it is looked up from outside. Nothing of yours is read, changed or sent.

\b
Signs:
  ✓  the attempt failed: the protection holds
  !  it does not hold here, and nothing promises it; what to do stands below
  ✗  it should hold and does not: exit code 4

Exit code 4, too, with --require (or `sandbox: {mode: require}` in your configuration, or
SUBRUNNER_SANDBOX=require) where bubblewrap cannot make the sandbox. Else 0.

With --json: {schema, sandbox: {by, why, fix, mode, landlock, milliseconds}, proofs: [{id,
title, tried, holds, promised, seen}], state: {path, file_system}, tools: [{name, path,
version}], keys: [NAME], exit_code}. Of keys only the names of their variables.
"""


@frozen(kw_only=True)
class Findings:
    """Everything that was found."""

    held: Held
    mode: str
    proofs: tuple[Proof, ...]
    milliseconds: float
    state: Path
    file_system: str
    tools: tuple[Tool, ...]
    keys: tuple[str, ...]
    problem: str = ""
    """Why the attempts on the sandbox were not made."""

    @property
    def exit_code(self) -> int:
        """4 where something that should hold does not, or what is required is not there."""
        broken = any(proof.promised and not proof.holds for proof in self.proofs)
        lacking = self.mode == "require" and self.held.by != "bubblewrap"
        return _LACKING if broken or lacking or self.problem else 0


@click.command("doctor", epilog=_EPILOG)
@click.option("--require", is_flag=True, help="Exit with 4 where the sandbox does not hold.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@state_option
@directory_option
def doctor_command(state_dir: Path | None, directory: Path, *, require: bool, as_json: bool) -> int:
    """Say what protects you here, each proved by an attempt to break it.

    Shows the sandbox of commands and agents, git, masking, the state directory, which tools
    and keys there are, what the sandbox costs, and what to do to get what is missing.
    """
    found = anyio.run(_look, work_tree(directory.resolve()), state_root(state_dir), require)
    if as_json:
        print_json(_json(found))
    else:
        glyphs = glyphs_for(sys.stdout.encoding)
        print_text(paint(_lines(found, glyphs), color=wants_color()))
    return found.exit_code


async def _look(root: Path, state: Path, require: bool) -> Findings:  # noqa: FBT001  anyio.run hands on no names
    environ = dict(os.environ)
    mode = "require" if require else _mode(environ)
    repository = repo_state(root, state)
    held = hold(root, repository / DIRECTORY, environ, find_program())
    proofs: list[Proof] = []
    milliseconds, problem = 0.0, ""
    try:
        tried: Proofs = await attempt(state, environ)
        proofs, milliseconds = [*tried.proofs], tried.milliseconds
    except ProtectionError as error:
        problem = f"{error.message}. {error.hint}"
    proofs.append(await _git(state))
    proofs.append(await checkup.try_masking(state))
    proofs.append(checkup.try_state(repository))
    return Findings(
        held=held,
        mode=mode,
        proofs=tuple(proofs),
        milliseconds=milliseconds,
        state=repository,
        file_system=checkup.file_system(repository),
        tools=checkup.tools(environ),
        keys=checkup.keys(environ),
        problem=problem,
    )


async def _git(state: Path) -> Proof:
    try:
        return await checkup.try_git(state)
    except (RunnerError, OSError, subprocess.SubprocessError) as error:
        # Without git there is nothing that could run what it is told to.
        there = shutil.which("git") is not None
        return Proof(
            id="git-programs",
            title="git runs nothing it is told to",
            tried="nothing: git cannot be used",
            holds=False,
            promised=there,
            seen=str(error),
        )


def _mode(environ: dict[str, str]) -> str:
    """Return what is asked for of a sandbox, as `runner exec` without options has it."""
    return environ.get("SUBRUNNER_SANDBOX") or load_config().sandbox.mode or "auto"


# -- for people ------------------------------------------------------------------------------------


def _lines(found: Findings, glyphs: Glyphs) -> Iterator[Line]:
    yield from _sandbox(found)
    yield ()
    yield (Span(pad("    Protection", 42), "dim"), Span("What was tried against it", "dim"))
    for proof in found.proofs:
        yield from _proof(proof, glyphs)
    yield ()
    yield from _labelled("Tools", [f"{tool.name} {tool.version}".strip() for tool in found.tools])
    yield from _labelled("Keys", list(found.keys) or ["none: commands run, models are not asked"])
    where = f"{found.state}" + (f" ({found.file_system})" if found.file_system else "")
    yield (Span("State    ", "dim"), Span(where))
    yield ()
    yield from _verdict(found, glyphs)


def _sandbox(found: Findings) -> Iterator[Line]:
    cost = f", {found.milliseconds:.0f} ms a command" if found.milliseconds else ""
    named = {
        "bubblewrap": "bubblewrap",
        "landlock": f"Landlock, version {landlock_version()}: less than bubblewrap",
        "none": "none",
    }[found.held.by]
    off = "  (switched off: SUBRUNNER_SANDBOX or your configuration)" if found.mode == "off" else ""
    style = "bold ok" if found.held.by == "bubblewrap" else "bold warn"
    yield (Span("Sandbox  ", "dim"), Span(named, style), Span(cost + off))
    for label, text in (("Why", found.held.why), ("Fix", found.held.fix), ("But", found.problem)):
        if text:
            yield from _labelled(label, [text], whole=label == "Fix")


def _proof(proof: Proof, glyphs: Glyphs) -> Iterator[Line]:
    sign, style = ("✓", "ok") if proof.holds else ("✗", "bad") if proof.promised else ("!", "warn")
    sign = {"✓": glyphs.ok, "✗": glyphs.bad, "!": glyphs.warn}[sign]
    yield (
        Span(f"  {sign} ", style),  # pyright: ignore[reportArgumentType]  one of the three above
        Span(pad(proof.title, 38)),
        Span(fit(proof.tried, _WIDTH - 42, glyphs.more), "dim"),
    )
    if not proof.holds:
        text = proof.seen if proof.seen == "reached" else f"reached: {proof.seen}"
        yield (Span("      "), Span(fit(text, _WIDTH - 6, glyphs.more), "warn"))


def _labelled(label: str, words: list[str], *, whole: bool = False) -> Iterator[Line]:
    """Lay out words behind a label, over several lines; *whole*: what is copied is not broken."""
    lines, room = [""], _WIDTH - 9
    separated = words if len(words) > 1 else words[0].split() if words else []
    between = ", " if len(words) > 1 else " "
    for word in separated:
        joined = f"{lines[-1]}{between if lines[-1] else ''}{word}"
        if len(joined) > room and lines[-1] and not whole:
            lines[-1] += between.rstrip()
            lines.append(word)
        else:
            lines[-1] = joined
    for number, line in enumerate(lines):
        yield (Span(pad("" if number else label, 9), "dim"), Span(line))


def _verdict(found: Findings, glyphs: Glyphs) -> Iterator[Line]:
    broken = [proof for proof in found.proofs if proof.promised and not proof.holds]
    if broken or found.problem:
        text = "What should hold here does not: do not run what you do not trust"
        yield (Span(f"{glyphs.bad} ", "bad"), Span(text, "bold"))
    elif found.held.by == "bubblewrap":
        yield (Span(f"{glyphs.ok} ", "ok"), Span("Everything holds", "bold"))
    else:
        lacking = sum(not proof.holds for proof in found.proofs)
        text = f"{lacking} of {len(found.proofs)} protections need bubblewrap"
        more = ", which is required" if found.mode == "require" else ""
        sign = (glyphs.bad, "bad") if more else (glyphs.warn, "warn")
        yield (
            Span(f"{sign[0]} ", sign[1]),  # pyright: ignore[reportArgumentType]  one of the two above
            Span(f"{text}{more}; see Fix. What each means: docs/sandbox.md", "bold"),
        )


def _json(found: Findings) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "sandbox": {
            "by": found.held.by,
            "why": found.held.why,
            "fix": found.held.fix,
            "mode": found.mode,
            "landlock": landlock_version(),
            "milliseconds": round(found.milliseconds, 1),
            "problem": found.problem,
        },
        "proofs": [asdict(proof) for proof in found.proofs],
        "state": {"path": str(found.state), "file_system": found.file_system},
        "tools": [asdict(tool) for tool in found.tools],
        "keys": list(found.keys),
        "exit_code": found.exit_code,
    }
