"""Runs the workflows of real projects without and with the sandbox, and prints what differs.

    python benchmarks/projects.py DIR[=VENV] ...

Each DIR is a checkout whose dependencies are installed and whose `.runner/workflow.yaml` runs its
suite. VENV is a virtual environment that the user would have activated. What passes without the
sandbox must pass in it, with default settings; `--times N` takes the best of N runs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RUNNER = (sys.executable, "-m", "runner")


@dataclass(frozen=True)
class Ran:
    """How one run of a project's workflow ended."""

    exit_code: int
    steps: dict[str, tuple[str, float]]
    """Of each step its status, or its verdict where it was denied, and its seconds."""
    sandbox: str
    why: tuple[str, ...]
    """Reasons of the steps that did not succeed."""

    @property
    def seconds(self) -> float:
        """Of all commands."""
        return sum(seconds for _, seconds in self.steps.values())

    @property
    def words(self) -> str:
        """`passed`, or what did not."""
        bad = [f"{name} {how}" for name, (how, _) in self.steps.items() if how != "succeeded"]
        if bad:
            return ", ".join(bad)
        return "passed" if self.exit_code == 0 else f"exit {self.exit_code}"


def run_project(root: Path, venv: Path | None, *options: str) -> Ran:
    """Run the project's workflow as its user would."""
    environ = dict(os.environ)
    environ.pop("SUBRUNNER_SANDBOX", None)
    environ.pop("VIRTUAL_ENV", None)
    if venv is not None:
        environ["VIRTUAL_ENV"] = str(venv)
        environ["PATH"] = f"{venv / 'bin'}:{environ['PATH']}"
    done = subprocess.run(
        [*RUNNER, "exec", "--json", "--no-models", "--allow-network", "-j", "1", *options],
        cwd=root,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return Ran(done.returncode, {}, "", (done.stderr.strip()[-2000:],))
    steps = {step["id"]: (_how(step), float(step["seconds"])) for step in report["steps"]}
    why = tuple(
        f"{step['id']}: {step['reason']} (log: {step['log']})"
        for step in report["steps"]
        if step["status"] != "succeeded"
    )
    return Ran(done.returncode, steps, report["sandbox"], why)


def _how(step: dict[str, Any]) -> str:
    verdicts = [attempt["verdict"] for attempt in step["attempts"]]
    return "denied" if "denied" in verdicts else step["status"]


def best(root: Path, venv: Path | None, times: int, *options: str) -> Ran:
    """Return the quickest of some runs, or the first that did not pass."""
    runs: list[Ran] = []
    for _ in range(times):
        runs.append(run_project(root, venv, *options))
        if runs[-1].exit_code != 0:
            return runs[-1]
    return min(runs, key=lambda run: run.seconds)


def main() -> int:
    """Print the table; 1 when something that passes outside does not pass in the sandbox."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("projects", nargs="+", metavar="DIR[=VENV]")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--inside-only", action="store_true", help="leave out the runs outside")
    asked = parser.parse_args()
    print("| project | steps | outside, s | sandboxed, s | outside | sandboxed |")
    print("| --- | --- | --- | --- | --- | --- |")
    worse, said = 0, list[str]()
    for project in asked.projects:
        name, _, venv = project.partition("=")
        root, active = Path(name).resolve(), Path(venv).expanduser().resolve() if venv else None
        outside = None if asked.inside_only else best(root, active, asked.times, "--sandbox", "off")
        inside = best(root, active, asked.times)
        before = f"{outside.seconds:.2f} |" if outside else "|"
        print(
            f"| {root.name} | {' '.join(inside.steps)} | {before} {inside.seconds:.2f} |"
            f" {outside.words if outside else ''} | {inside.words} ({inside.sandbox}) |",
            flush=True,
        )
        if inside.exit_code != 0 and (outside is None or outside.exit_code == 0):
            worse += 1
        for where, run in (("outside", outside), ("sandboxed", inside)):
            said += [f"{root.name} {where}: {why}" for why in run.why] if run else []
    print(*("", *said), sep="\n")
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main())
