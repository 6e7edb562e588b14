"""Runs one workflow for the command line, with console, event stream and report around it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, cast

import anyio

from runner.api import execute, execute_again
from runner.cli.output import in_github, print_json, print_text, tell
from runner.cli.where import typed
from runner.codec import encode
from runner.console import make_console
from runner.errors import RunnerError, UsageError
from runner.events import CommandOutput, RunResumed, RunStarted, TimedSink
from runner.frozen import frozen
from runner.report import SCHEMA, Tally, to_json
from runner.workspace.processes import close_to_others

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from runner.cli.github import GitHubJob
    from runner.console import Progress
    from runner.events import Event, Sink
    from runner.plan import Options, ResumeOptions
    from runner.report import Report


@frozen
class Output:
    """Where a run is told to: people on stderr, machines wherever they asked."""

    as_json: bool = False
    report: Path | None = None
    events: str | None = None
    """A file, or `-` for stdout."""
    progress: Progress = "auto"
    junit: Path | None = None
    annotations: bool = True
    """Whether GitHub Actions, where this runs in one of its jobs, is told as it wants it."""
    otlp: str | None = None
    """Address of a server that the run's trace is sent to while it goes on."""
    trace_content: bool = False
    """Whether that trace holds prompts, tool arguments and answers."""

    @property
    def wants_report(self) -> bool:
        """Whether the report is to be written in any form."""
        return self.as_json or self.report is not None or self.junit is not None

    def checked(self) -> Output:
        """Return this, or refuse what cannot be.

        Raises:
            UsageError: Two things want stdout.
        """
        if self.as_json and self.events == "-":
            raise UsageError("--json and --events - both want stdout", hint="Give --events a file.")
        return self


def drive(
    target: str | None,
    *,
    options: Options,
    cwd: Path,
    output: Output,
    environ: Mapping[str, str] = os.environ,
) -> Report:
    """Run a workflow to its end and write what `output` asks for."""
    run = partial(execute, target, options=options)
    where = typed(cwd, options.state_dir)
    return _drive(run, cwd=cwd, where=where, output=output, environ=environ)


def drive_again(
    run_id: str,
    *,
    options: ResumeOptions,
    cwd: Path,
    output: Output,
    environ: Mapping[str, str] = os.environ,
) -> Report:
    """Resume a run, bring it to its end, and write what `output` asks for."""
    run = partial(execute_again, run_id, options=options)
    where = typed(cwd, options.state_dir)
    return _drive(run, cwd=cwd, where=where, output=output, environ=environ, resumed=True)


def _drive(
    run: Callable[..., Coroutine[Any, Any, Report]],
    *,
    cwd: Path,
    where: str,
    output: Output,
    environ: Mapping[str, str],
    resumed: bool = False,
) -> Report:
    close_to_others()
    with ExitStack() as stack:
        audience = Audience(stack, output, where, environ, resumed=resumed)
        going = partial(run, cwd=cwd, sinks=audience.sinks, environ=environ, handle_signals=True)
        try:
            audience.report = report = anyio.run(going)
        except RunnerError as error:
            audience.error = error
            raise
    return report


class Audience:
    """Everybody who hears a run: people, and the machines that `output` names.

    What is told at a run's end is told as the stack closes, also when an error ended it.
    """

    def __init__(
        self,
        stack: ExitStack,
        output: Output,
        where: str,
        environ: Mapping[str, str],
        *,
        resumed: bool,
    ) -> None:
        self.report: Report | None = None
        """Set once the run has one; before, only what was heard can be told."""
        self.error: RunnerError | None = None
        """What ended the run, or was wrong with it though it had ended."""
        self.github = output.annotations and in_github(environ)
        """Whether GitHub reads what is written for workflow commands."""
        self._heard = _Heard()
        self._output = output
        self._job: GitHubJob | None = None
        people: TextIO = sys.stderr
        # Sends what is left when all else is told: it may wait for a server.
        exports = _exports(stack, output, environ)
        stack.callback(self._end)
        if self.github:
            # Nobody else pays for it.
            from runner.cli.github import GitHubJob, Harmless  # noqa: PLC0415

            summary = environ.get("GITHUB_STEP_SUMMARY", "")
            self._job = GitHubJob(sys.stderr, summary, quiet=output.progress == "quiet")
            lines = Harmless(sys.stderr)
            stack.callback(lines.finish)
            people = cast("TextIO", lines)
        console = make_console(people, progress=output.progress, where=where, environ=environ)
        stack.callback(console.close)
        heard: list[Sink] = [console, *exports]
        if output.events is not None:
            heard.append(_event_writer(stack, output.events, resumed=resumed, github=self.github))
        if self._job is not None:
            heard.append(self._job)
        if self._job is not None or output.wants_report:
            heard.append(self._heard)
        self.sinks = tuple(heard)

    def _end(self) -> None:
        report = self.report or self._without_report()
        if not report.run_id:
            return  # nothing has run
        if self._output.junit is not None:
            write_junit(report, self._output.junit)
        if self._job is not None and (trouble := self._job.end(report)):
            tell(f"runner: {trouble}")
        write_report(report, self._output, github=self.github)

    def _without_report(self) -> Report:
        """Sum up what was heard of a run that an error ended; it exits as that error does."""
        report, error = self._heard.tally.report(alive=False), self.error
        if error is None:
            return report
        code, advice = error.exit_code, error.message
        return replace(report, status="failed", exit_code=code, advice=advice)


class _Heard(TimedSink):
    """Sums up what was heard, for a run that an error keeps from giving its report."""

    def __init__(self) -> None:
        self.tally = Tally()

    def continued(self, past: Iterable[tuple[Event, float]]) -> None:
        """Take what earlier processes of a resumed run did."""
        for event, _ in past:
            self.tally.add(event)

    def hear(self, event: Event, at: float) -> None:
        """Take an event."""
        del at
        self.tally.add(event)


def _exports(stack: ExitStack, output: Output, environ: Mapping[str, str]) -> Sequence[Sink]:
    """Return the sinks that export the run while it goes on, where somebody asked for it."""
    if output.otlp is None and not any(name.startswith("OTEL_") for name in environ):
        return ()
    from runner.telemetry.live import exporting  # noqa: PLC0415  few runs are exported

    exports = exporting(tell, output.otlp, environ, content=output.trace_content)
    return stack.enter_context(exports)


def write_junit(report: Report, path: Path) -> None:
    """Write the report as JUnit XML; what keeps it from being written is only told."""
    # Few runs are asked for it.
    from runner.cli.logs import printed  # noqa: PLC0415
    from runner.report.junit import OUTPUT_BYTES, junit_xml  # noqa: PLC0415  as above

    outputs = {one.id: printed(one.log, OUTPUT_BYTES) for one in report.steps if one.failed}
    text = junit_xml(report, outputs)
    _write(path, text, "--junit", f"runner show {report.run_id}")


def _write(path: Path, text: str, option: str, kept: str) -> None:
    """Write a file that an option asked for; the run is over and has its own exit code."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="replace")
    except OSError as error:
        tell(f"runner: {option} {path}: {error.strerror}")
        tell(f"  It is kept: {kept}")


def write_report(report: Report, output: Output, *, github: bool = False) -> None:
    """Write the report as JSON to stdout and to a file, as asked.

    Args:
        report: The report.
        output: Where to.
        github: Whether stdout is read for workflow commands.
    """
    if output.report is not None:
        text = json.dumps(to_json(report), indent=2, ensure_ascii=False) + "\n"
        _write(output.report, text, "--report", f"runner show --json {report.run_id}")
    if output.as_json and github:
        print_text(_harmless_json()(json.dumps(to_json(report), indent=2, ensure_ascii=False)))
    elif output.as_json:
        print_json(to_json(report))


def _harmless_json() -> Callable[[str], str]:
    from runner.report.github import harmless_json  # noqa: PLC0415  only in a job of GitHub's

    return harmless_json


def _event_writer(stack: ExitStack, name: str, *, resumed: bool, github: bool) -> EventWriter:
    """Return a sink that writes each event as one line of JSON as soon as it happens.

    What a resumed run adds goes behind what its earlier processes wrote.
    """
    if name == "-":
        return EventWriter(sys.stdout, change=_harmless_json() if github else None)
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a" if resumed else "w", encoding="utf-8")
        if resumed and _is_torn(path):
            stream.write("\n")  # a killed process may have left half a line
    except OSError as error:
        raise UsageError(f"--events {name}: {error.strerror}") from error
    writer = EventWriter(stream)
    stack.callback(writer.close)
    return writer


def _is_torn(path: Path) -> bool:
    """Tell whether a file ends in the middle of a line."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        return file.read(1) not in (b"", b"\n")


class EventWriter(TimedSink):
    """A sink that writes each event as one line of JSON; a reader that is gone ends no run.

    Each line begins with what kind of event it is, which place it has in which run and trace, and
    when it happened; `runner schema --events` prints what else it holds.
    """

    def __init__(self, stream: TextIO, *, change: Callable[[str], str] | None = None) -> None:
        """Write to a stream.

        Args:
            stream: Where to.
            change: What is done to each line before it is written.
        """
        self._stream: TextIO | None = stream
        self._change = change
        self._seq = 0
        self._run_id = ""
        self._trace_id = ""

    def continued(self, past: Iterable[tuple[Event, float]]) -> None:
        """Go on counting where a resumed run was cut off; what was written then is not again."""
        for event, _ in past:
            self._count(event)

    def hear(self, event: Event, at: float) -> None:
        """Write one event; the output of commands is in their logs."""
        if self._stream is None or isinstance(event, CommandOutput):
            return
        self._count(event)
        fields = encode(event)
        head = {"type": fields["type"], "schema": SCHEMA, "seq": self._seq, "ts": at}
        ids = {"run_id": self._run_id, "trace_id": self._trace_id}
        line = json.dumps(head | ids | fields, ensure_ascii=False)
        try:
            self._stream.write((self._change(line) if self._change else line) + "\n")
            self._stream.flush()
        except OSError as error:
            self.close()
            self._stream = None
            tell(f"runner: events are no longer written: {error.strerror}; the run goes on")

    def close(self) -> None:
        """Close the file; what could not be written to it was told."""
        if self._stream is not None and self._stream is not sys.stdout:
            with suppress(OSError):
                self._stream.close()

    def _count(self, event: Event) -> None:
        """Note the event's place, and the trace of the process that it begins."""
        self._seq += 1
        if not isinstance(event, RunStarted | RunResumed):
            return
        from runner.telemetry.identity import trace_id  # noqa: PLC0415  only where it is written

        life = 1
        if isinstance(event, RunStarted):
            self._run_id = event.run_id
        else:
            life = event.life
        self._trace_id = trace_id(self._run_id, life, event.trace_parent)
