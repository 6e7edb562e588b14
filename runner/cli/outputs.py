"""Options that say where a run is told to: shared by all commands that run something."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.drive import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.cli.options import Decorated

PROGRESS = ("auto", "tree", "plain", "quiet")


def output_options(command: Decorated) -> Decorated:
    """Add the options that `output_from` reads."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.option("--json", "as_json", is_flag=True, help="Print the report to stdout as JSON."),
    click.option(
        "--report",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write the report to FILE as JSON.",
    ),
    click.option(
        "--junit",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Write the report to FILE as JUnit XML, for CI systems.",
    ),
    click.option("--events", metavar="FILE|-", help="Write each event as one line of JSON."),
    click.option(
        "--annotations/--no-annotations",
        default=True,
        help="In a job of GitHub Actions: annotate lines that failed, fold output, write the step "
        "summary. [on]",
    ),
    click.option(
        "--progress",
        type=click.Choice(PROGRESS),
        default="auto",
        envvar="SUBRUNNER_PROGRESS",
        help="How to show the run: a live tree, plain lines, or only what failed. "
        "[SUBRUNNER_PROGRESS, or tree at a terminal]",
    ),
    click.option(
        "--otlp",
        metavar="URL",
        help="Send the run's trace while it goes on to a server of OpenTelemetry's protocol, such "
        "as Jaeger: http://localhost:4318. [OTEL_EXPORTER_OTLP_ENDPOINT]",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Say only what failed: --progress quiet."),
)


def output_from(given: Mapping[str, Any]) -> Output:
    """Turn the parsed values of `output_options` into an `Output`.

    Raises:
        UsageError: Two things want stdout.
    """
    return Output(
        as_json=given["as_json"],
        report=given["report"],
        events=given["events"],
        progress="quiet" if given["quiet"] else given["progress"],
        junit=given["junit"],
        annotations=given["annotations"],
        otlp=given["otlp"],
        trace_content=given.get("trace_content", False),
    ).checked()
