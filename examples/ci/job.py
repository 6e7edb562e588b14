"""A CI job in Python: runs the repository's workflow and passes on what it comes to.

Usage: python job.py [DIRECTORY FOR WHAT THE RUN WRITES]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from runner import Report, RunnerError, run_sync
from runner.report import to_json
from runner.report.junit import junit_xml


def main(out: Path) -> int:
    """Run, write the reports, and return the exit code."""
    try:
        report = run_sync(models={}, cwd=Path.cwd())
    except RunnerError as error:  # nothing ran: a bad workflow, input or missing grant
        print(error, file=sys.stderr)
        return error.exit_code
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(to_json(report), indent=2), "utf-8")
    (out / "junit.xml").write_text(junit_xml(report), "utf-8")
    print("\n".join(lines(report)))
    return 1 if report.exit_code is None else report.exit_code


def lines(report: Report) -> list[str]:
    """Say what each step came to, and where those that failed point."""
    said = [f"{step.id}: {step.status} at rung {step.rung or 'none'}" for step in report.steps]
    for step in report.steps:
        said += [f"{place.path}:{place.line}: {place.message}" for place in step.places]
    return [*said, f"cost: {report.cost_usd} USD"]


if __name__ == "__main__":
    sys.exit(main(Path(*sys.argv[1:2] or ["runner-run"])))
