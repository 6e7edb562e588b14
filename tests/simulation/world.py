"""What is outside of a run: processes, and the moments at which the run's own may be killed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

from runner.outcome import CommandResult

from .story import SECRET, state_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.workspace.commands import Command

    from .story import Behaviour, Story

KILLED = 137


class Fate:
    """Counts the moments of a life, and ends it at one of them as `kill -9` does."""

    def __init__(self, ledger: Path, life: int, crash_at: int | None, crash_in: str = "") -> None:
        self.ledger, self.life = ledger, life
        self.crash_at, self.crash_in = (None if crash_in else crash_at), crash_in
        self.moments = 0

    def moment(self, what: str) -> None:
        """Pass a moment, or not."""
        self.moments += 1
        if self.moments == self.crash_at or what == self.crash_in:
            self.note("killed", at=what)
            os._exit(KILLED)

    def note(self, what: str, **facts: Any) -> None:
        """Write to the ledger, which no run knows of."""
        line = json.dumps({"what": what, "life": self.life, "t": time.time(), **facts})
        with self.ledger.open("a") as file:
            file.write(line + "\n")


class Processes:
    """Plays commands: `work ID` judges a file, `fix ID` takes what it can out of it."""

    def __init__(self, story: Story, fate: Fate) -> None:
        self.story, self.fate = story, fate

    async def __call__(
        self, command: Command, *, on_line: Callable[[str], None] | None = None
    ) -> CommandResult:
        """Play one command to its end; cancelled, it has done nothing."""
        text = command.argv[-1]
        verb, _, name = text.partition(" ")
        does = self.story.behaviours[f"work {name}"]
        purpose = command.log.name.split(".")[-2] if command.log else ""
        step = command.env["SUBRUNNER_STEP"]
        facts = {"text": text, "step": step, "purpose": purpose, "own": does.step}
        # Before it is told: a process that was started counts, whoever knows of it.
        self.fate.note("start", **facts)
        self.fate.moment("start")
        began, code = time.monotonic(), None
        limit = command.timeout
        await anyio.sleep(min(does.seconds, limit) if limit is not None else does.seconds)
        file = command.cwd / does.file
        content = file.read_text() if file.is_file() else ""
        output = ""
        if limit is None or does.seconds <= limit:
            code, output = self._act(verb, does, command, content)
        self.fate.note("end", code=code, **facts)
        self.fate.moment("end")
        return self._result(command, code, output, time.monotonic() - began, on_line)

    def _act(self, verb: str, does: Behaviour, command: Command, content: str) -> tuple[int, str]:
        if verb == "fix":
            left = [line for line in content.split() if not line.startswith("a")]
            (command.cwd / does.file).write_text("".join(f"{line}\n" for line in left))
            self.fate.moment("changed")
            return 0, ""
        if does.writes:
            (command.cwd / "out").mkdir(exist_ok=True)
            (command.cwd / "out" / does.file.rpartition("/")[2]).write_text("made\n")
            self.fate.moment("changed")
        if does.spoils and self._runs(does) <= 1:
            (command.cwd / does.spoils).write_text("c3\n")
            self.fate.moment("changed")
        if does.outputs:
            Path(command.env["SUBRUNNER_OUTPUT"]).write_text('{"word": "w"}')
        said = f"the token is {command.env['TOKEN']}\n" if does.secret else ""
        if self._runs(does) <= does.flaky:
            return 1, f"{said}flaky\n"
        if does.passes(content):
            return 0, f"{said}fine\n"
        lines = [f"{does.file}:{n}: error: {d}" for n, d in enumerate(content.split(), 1)]
        return 1, "\n".join((said, *lines, state_of(does.step, content), ""))

    def _runs(self, does: Behaviour) -> int:
        """Count how often a command was started until now, by the ledger."""
        lines = map(json.loads, self.fate.ledger.read_text().splitlines())
        return sum(one["what"] == "start" and one["own"] == does.step for one in lines)

    def _result(
        self,
        command: Command,
        code: int | None,
        output: str,
        seconds: float,
        on_line: Callable[[str], None] | None,
    ) -> CommandResult:
        shown = command.mask.text(output) if command.mask else output
        log = command.log if shown else None
        if log is not None:
            log.write_text(shown)
            if on_line is not None:
                on_line(shown.strip().rpartition("\n")[2])
        return CommandResult(
            exit_code=code,
            timed_out=code is None,
            seconds=seconds,
            head=shown,
            tail="",
            total_bytes=len(shown.encode()),
            log=log,
        )


def environment(home: Path) -> dict[str, str]:
    """Return what a run is told of its surroundings."""
    return {
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CONFIG_HOME": str(home / "config"),
        "TOKEN": SECRET,
        "OTEL_SDK_DISABLED": "true",
        "SUBRUNNER_SANDBOX": "off",
    }
