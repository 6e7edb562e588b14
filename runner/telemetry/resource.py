"""Says what a trace is of: the program, the machine, the repository, the job around it.

https://opentelemetry.io/docs/specs/semconv/resource/
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache
from typing import TYPE_CHECKING

from runner.telemetry import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from runner.events import RunStarted
    from runner.telemetry.nouns import Value

SERVICE = "runner"
_DIST = re.compile(r"subagent_runner-(.+)\.dist-info")
_OS = {"win32": "windows", "cygwin": "windows"}
_PULL = re.compile(r"refs/pull/(\d+)/")


def resource_attributes(
    started: RunStarted, environ: Mapping[str, str], *, host: str = "", pid: int | None = None
) -> dict[str, Value]:
    """Return what all spans of a run have in common.

    Args:
        started: The run's first event.
        environ: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` come before what is found; CI
            systems say there what job this is.
        host: Name of the machine that the run was on; this one by default.
        pid: Process that the run was in; this one by default.
    """
    found: dict[str, Value] = {
        names.SERVICE_NAME: SERVICE,
        names.SERVICE_VERSION: own_version(),
        names.SERVICE_INSTANCE: started.run_id,
        names.HOST_NAME: host or os.uname().nodename,
        names.OS_TYPE: _OS.get(sys.platform, sys.platform),
        names.PROCESS_ID: os.getpid() if pid is None else pid,
        names.OPENINFERENCE_PROJECT: SERVICE,
        names.VCS_REVISION: started.git_before,
        names.VCS_BRANCH: started.branch,
        **_job(environ),
        **dict(_said(environ.get("OTEL_RESOURCE_ATTRIBUTES", ""))),
    }
    if environ.get("OTEL_SERVICE_NAME"):
        found[names.SERVICE_NAME] = environ["OTEL_SERVICE_NAME"]
    return {name: value for name, value in found.items() if value != ""}


def _job(environ: Mapping[str, str]) -> dict[str, Value]:
    """Say which job of which CI system this is, and for which change.

    https://docs.github.com/en/actions/reference/workflows-and-actions/variables
    https://docs.gitlab.com/ci/variables/predefined_variables/
    """
    if environ.get("GITHUB_ACTIONS") == "true" and "GITHUB_REPOSITORY" in environ:
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        repository = f"{server}/{environ['GITHUB_REPOSITORY']}"
        pull = _PULL.match(environ.get("GITHUB_REF", ""))
        return {
            names.VCS_URL: repository,
            names.VCS_CHANGE: pull[1] if pull else "",
            names.PIPELINE_URL: f"{repository}/actions/runs/{environ.get('GITHUB_RUN_ID', '')}",
            names.WORKER_NAME: environ.get("RUNNER_NAME", ""),
        }
    if environ.get("GITLAB_CI") == "true":
        return {
            names.VCS_URL: environ.get("CI_PROJECT_URL", ""),
            names.VCS_CHANGE: environ.get("CI_MERGE_REQUEST_IID", ""),
            names.PIPELINE_URL: environ.get("CI_JOB_URL", ""),
            names.WORKER_NAME: environ.get("CI_RUNNER_DESCRIPTION", ""),
        }
    return {}


def _said(text: str) -> Iterator[tuple[str, Value]]:
    """Read `OTEL_RESOURCE_ATTRIBUTES`; where any of it is malformed, none of it counts.

    https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable
    """
    if not text.strip():
        return
    from urllib.parse import unquote  # noqa: PLC0415  few runs are told any

    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if all(name.strip() and equals for name, equals, _ in pairs):
        yield from ((name.strip(), unquote(value.strip())) for name, _, value in pairs)


@cache
def own_version() -> str:
    """Return the installed version; empty when the program runs from a bare checkout.

    `importlib.metadata` says the same and takes 20 ms, which every run would pay.
    """
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")  # noqa: PTH208  names are all that is looked at
        except OSError:
            continue
        for entry in entries:
            if found := _DIST.fullmatch(entry):
                return found[1]
    return ""
