"""Runs one workflow for the command line, with console, event stream and report around it."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import anyio

from runner.api import execute
from runner.cli.output import print_json, tell
from runner.cli.where import typed
from runner.codec import encode
from runner.console import make_console
from runner.errors import UsageError
from runner.events import CommandOutput
from runner.frozen import frozen
from runner.report import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.events import Event, Sink
    from runner.plan import Options
    from runner.report import Report


@frozen
class Output:
    """Where a run is told to: people on stderr, machines wherever they asked."""

    as_json: bool = False
    report: Path | None = None
    events: str | None = None
    """A file, or `-` for stdout."""
    quiet: bool = False

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
    with ExitStack() as stack:
        where = typed(cwd, options.state_dir)
        console = make_console(sys.stderr, quiet=output.quiet, where=where)
        stack.callback(console.close)
        sinks: list[Sink] = [console]
        if output.events is not None:
            sinks.append(_event_writer(stack, output.events))
        run = partial(
            execute,
            target,
            options=options,
            cwd=cwd,
            sinks=tuple(sinks),
            environ=environ,
            handle_signals=True,
        )
        report = anyio.run(run)
    write_report(report, output)
    return report


def write_report(report: Report, output: Output) -> None:
    """Write the report as JSON to stdout and to a file, as asked."""
    if output.report is not None:
        text = json.dumps(to_json(report), indent=2, ensure_ascii=False) + "\n"
        try:
            output.report.parent.mkdir(parents=True, exist_ok=True)
            output.report.write_text(text, encoding="utf-8")
        except OSError as error:
            # The run is over and has its own exit code: the report is in the journal as well.
            tell(f"runner: --report {output.report}: {error.strerror}")
            tell(f"  It is kept: runner show --json {report.run_id}")
    if output.as_json:
        print_json(to_json(report))


def _event_writer(stack: ExitStack, name: str) -> Sink:
    """Return a sink that writes each event as one line of JSON as soon as it happens."""
    if name == "-":
        return EventWriter(sys.stdout)
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = stack.enter_context(path.open("w", encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--events {name}: {error.strerror}") from error
    return EventWriter(stream)


class EventWriter:
    """A sink that writes each event as one line of JSON; a reader that is gone ends no run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream: TextIO | None = stream

    def __call__(self, event: Event) -> None:
        """Write one event; the output of commands is in their logs."""
        if self._stream is None or isinstance(event, CommandOutput):
            return
        try:
            self._stream.write(json.dumps(encode(event), ensure_ascii=False) + "\n")
            self._stream.flush()
        except OSError as error:
            self._stream = None
            tell(f"runner: events are no longer written: {error.strerror}; the run goes on")
