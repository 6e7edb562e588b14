"""`runner trace upload`: sends the trace of a run that is over to a server of OpenTelemetry's."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from runner.cli.options import completing, directory_option, state_option
from runner.cli.output import print_text, tell
from runner.cli.where import journal_of
from runner.telemetry.settings import without_password

if TYPE_CHECKING:
    from pathlib import Path


@click.command("upload")
@click.argument("run", default="last", shell_complete=completing("runs"))
@click.option(
    "--otlp",
    metavar="URL",
    help="Server of OpenTelemetry's protocol, such as Jaeger: http://localhost:4318. "
    "[OTEL_EXPORTER_OTLP_ENDPOINT]",
)
@click.option("--trace-content", is_flag=True, help="With prompts, tool arguments and answers.")
@state_option
@directory_option
def upload_command(
    run: str,
    otlp: str | None,
    trace_content: bool,  # noqa: FBT001  click passes flags by name
    state_dir: Path | None,
    directory: Path,
) -> int:
    """Send the trace of RUN to a server, from the journal: also of a run that was killed.

    May be done again: ids stay the same. RUN is a run id, its beginning or last part, or `last`.
    """
    # OpenTelemetry's packages take a fifth of a second to load; other commands need none.
    from runner.telemetry.upload import target_of, upload  # noqa: PLC0415

    target = target_of(os.environ, otlp)
    with journal_of(directory, state_dir) as journal:
        run_id = journal.find(run)
        row = next(row for row in journal.runs() if row.id == run_id)
        records = journal.records(run_id)
        spans = upload(row, records, target, os.environ, _progress, content=trace_content)
    where = without_password(target.url)
    print_text(f"{len(spans)} spans of run {run_id} sent to {where}")
    print_text("\n".join(f"trace {one}" for one in dict.fromkeys(s.trace_id for s in spans)))
    if row.status == "running":
        tell("The run goes on: what is not over yet was left out. Send it again when it is.")
    return 0


def _progress(sent: int, of: int) -> None:
    """Say how far it is, where one request is not all."""
    if sent < of:
        tell(f"{sent} of {of} spans sent")
