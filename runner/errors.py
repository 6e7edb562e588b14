"""Every error this program raises on purpose, and the exit code that each leads to.

RunnerError                 base; `message` says what, `hint` what to do next
├── UsageError              2   bad command line, input, grant or user configuration
│   ├── WorkflowError       2   bad workflow or agent file; has file, line and column
│   └── NotGranted          2   the workflow asks for what nobody granted
├── ProtectionError         4   a protection that was asked for is not available
├── ProviderError           6   a provider failed, refused, or served another model
├── GitRefused              1   a commit or push that is not safe here; nothing was changed
├── ReplayError             1   a replayed run was not as its cassette has it; has the diff
├── RunFailed               *   a run did not end with 0; has its report and that exit code
└── JournalError            1   the journal cannot be written or read
    └── HistoryError        1   the history cannot; a run goes on without it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.plan import Location
    from runner.report import Report


class RunnerError(Exception):
    """Base of all errors meant for a user's eyes.

    Attributes:
        message: What is wrong, in one sentence.
        hint: What to do next; empty when there is nothing to add.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(RunnerError):
    """Raised when the command line, an input, a grant or the user's configuration is wrong."""

    exit_code = 2


class WorkflowError(UsageError):
    """Raised when a workflow or agent file is wrong; nothing has run.

    Attributes:
        where: File, line and column (both from 1) of the offending text.
        line: The text of that line, or empty when there is none to show.
    """

    def __init__(self, message: str, *, where: Location, line: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.where = where
        self.line = line

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}"
        if self.line:
            gutter = f"{self.where.line:>5} | "
            caret = " " * (len(gutter) + self.where.column - 1) + "^"
            text += f"\n{gutter}{self.line}\n{caret}"
        return f"{text}\n  {self.hint}" if self.hint else text


class WorkflowErrors(UsageError):  # noqa: N818  several of them, not one
    """Raised with every error found in one workflow file, in the order of the file."""

    def __init__(self, errors: Sequence[WorkflowError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = tuple(errors)


class NotGranted(UsageError):  # noqa: N818  named by the situation, as DESIGN does
    """Raised when a workflow asks for something that neither flag nor user configuration grants."""


class ProtectionError(RunnerError):
    """Raised when a protection that was asked for is not available here."""

    exit_code = 4


class ProviderError(RunnerError):
    """Raised when a provider failed for good, refused, or served a model that was not asked for."""

    exit_code = 6


class GitRefused(RunnerError):  # noqa: N818  named by the situation
    """Raised when a commit or push is not safe here; the repository is as it was."""


class RunFailed(RunnerError):  # noqa: N818  named by the situation
    """Raised by `Report.raise_for_status` when the run did not end with exit code 0.

    Attributes:
        report: What happened.
    """

    def __init__(self, message: str, *, report: Report, exit_code: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.report = report
        self.exit_code = exit_code


class ReplayError(RunnerError):
    """Raised when a replayed run asked, decided or ended otherwise than its cassette has it.

    Attributes:
        diff: What differs, in lines that people read.
    """

    def __init__(self, message: str, *, diff: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.diff = diff

    def __str__(self) -> str:
        shown = "".join(f"\n  {line}" for line in self.diff.split("\n")) if self.diff else ""
        return self.message + shown + (f"\n  {self.hint}" if self.hint else "")


class JournalError(RunnerError):
    """Raised when the journal cannot be opened, read or written."""


class HistoryError(JournalError):
    """Raised when the history cannot be opened, read or written; no run fails for that."""
