"""Tells GitHub Actions of a run: folded output as steps end, annotations and summary at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.logs import printed
from runner.cli.stepsummary import LIMIT, step_summary
from runner.console.stream import Quietly
from runner.console.style import duration
from runner.events import StepFinished
from runner.report.github import (
    GROUP_BYTES,
    GROUPS_BYTES,
    command,
    group,
    harmless,
    remarks,
)

if TYPE_CHECKING:
    from typing import TextIO

    from runner.events import Event
    from runner.outcome import StepOutcome
    from runner.report import Report


class Harmless:
    """A text stream in whose lines GitHub finds no workflow command; it passes on whole lines."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""
        """The last line, as long as it is not ended: only whole lines can be judged."""

    @property
    def encoding(self) -> str:
        """The encoding of what is written."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """Write text without commands."""
        whole, ended, self._begun = (self._begun + text).rpartition("\n")
        self._stream.write(harmless(whole) + ended)
        return len(text)

    def flush(self) -> None:
        """Pass on the lines that are ended."""
        self._stream.flush()

    def finish(self) -> None:
        """Write what is left of a line that was never ended."""
        if self._begun:
            self.write("\n")
        self.flush()

    def isatty(self) -> bool:
        """Whether a terminal reads it."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor below."""
        return self._stream.fileno()


class GitHubJob:
    """A sink that folds each step's output, and at the end says what to show with the run."""

    def __init__(self, stream: TextIO, summary: str, *, quiet: bool = False) -> None:
        """Listen to one run.

        Args:
            stream: Read by GitHub for workflow commands: stderr, as all that is for people.
            summary: Path of the step summary, `GITHUB_STEP_SUMMARY`; empty: there is none.
            quiet: Whether to leave out the folded output.
        """
        self._stream = Quietly(stream)
        self._summary = summary
        self._room = 0 if quiet else GROUPS_BYTES

    def __call__(self, event: Event) -> None:
        """Fold the output of a step that has ended."""
        if isinstance(event, StepFinished):
            self._fold(event.outcome)

    def _fold(self, outcome: StepOutcome) -> None:
        text = printed(outcome.log, min(GROUP_BYTES, self._room))
        if not text.strip():
            return
        self._room -= len(text)
        how = f"{outcome.id}: {outcome.status.value}, {duration(outcome.seconds)}"
        self._stream.write(group(f"Output of {how}", text))
        self._stream.flush()

    def end(self, report: Report) -> str:
        """Write annotations and summary; return what is to be said if that was not possible."""
        self._stream.write("".join(f"{command(one)}\n" for one in remarks(report)))
        self._stream.flush()
        if not self._summary:
            return ""
        try:
            with Path(self._summary).open("ab") as file:
                # Of what is too long GitHub shows nothing, what others wrote before included.
                text = step_summary(report, LIMIT - file.tell())
                file.write(text.encode("utf-8", "replace"))
        except OSError as error:
            return f"GITHUB_STEP_SUMMARY {self._summary}: {error.strerror}"
        return ""
