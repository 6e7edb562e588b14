"""Renders the job that runs a workflow in a CI system. Pure.

`examples/ci/` holds what this writes for a Python repository; a test compares them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from runner.init.proposal import Proposal

CI = Literal["github", "gitlab"]

GITHUB = """\
# Written by `runner init --ci github`; docs/ci.md tells what each part is for. A secret
# ANTHROPIC_API_KEY (or OPENAI_API_KEY) is needed only where models are to mend what fails; without
# it, as in a pull request from a fork, a failing check fails the job and no model is asked.
name: runner
on:
  push:
  pull_request:
permissions:
  contents: read
jobs:
  runner:
    runs-on: ubuntu-latest
    timeout-minutes: 45
    steps:
      - uses: actions/checkout@v4
        with: {{ fetch-depth: 0, persist-credentials: false }}
      - uses: actions/setup-python@v5
        with: {{ python-version: "3.13" }}
{setup}      - run: pipx install subagent-runner
      # Journals and history: from what was mended before, a run chooses who tries first.
      - uses: actions/cache@v4
        with:
          path: ~/.local/state/subagent-runner
          key: runner-${{{{ github.run_id }}}}-${{{{ github.run_attempt }}}}
          restore-keys: runner-
      # Ubuntu 24.04 keeps bubblewrap, the sandbox, from making user namespaces. Allow it on a
      # hosted machine, which is thrown away after the job; never on one of your own that lives on.
      # - run: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0
      # The first `exec` is the shell's: a cancelled job's signal then reaches the runner itself.
      # A secret that a step asks for is granted by name: `--secret NAME`, and NAME under `env`.
      - run: >-
          exec runner exec --report "$RUNNER_TEMP/run/report.json"
          --junit "$RUNNER_TEMP/run/junit.xml"
        env:
          ANTHROPIC_API_KEY: ${{{{ secrets.ANTHROPIC_API_KEY }}}}
      - if: always()
        continue-on-error: true
        run: runner trace last -o "$RUNNER_TEMP/run/trace.otlp.jsonl"
      - if: always()
        uses: actions/upload-artifact@v4
        with:
          name: runner
          path: ${{{{ runner.temp }}}}/run
          if-no-files-found: ignore
"""

GITLAB = """\
# Written by `runner init --ci gitlab`; docs/ci.md tells what each part is for. A masked variable
# ANTHROPIC_API_KEY (or OPENAI_API_KEY) is needed only where models are to mend what fails; without
# it, as in a merge request from a fork, a failing check fails the job and no model is asked.
runner:
  image: python:3.13
  timeout: 45m
  variables: {{ GIT_DEPTH: "0" }}
  script:
{setup}    - pip install subagent-runner
    # The first `exec` is the shell's, so it comes last: a cancelled job's signal then reaches the
    # runner itself. A secret that a step asks for is granted by name: `--secret NAME`.
    - exec runner exec --report runner-run/report.json --junit runner-run/junit.xml
  after_script:
    - runner trace last -o runner-run/trace.otlp.jsonl
  artifacts:
    when: always
    paths: [runner-run/]
    reports: {{ junit: runner-run/junit.xml }}
"""

SETUP = {
    "python": "pip install -e .              # and what your checks need",
    "node": "npm ci                        # or your package manager's own",
}


def ci_job(system: CI, proposal: Proposal) -> str:
    """Render the CI job; its setup installs what the steps' languages usually need."""
    languages = {check.language for check in proposal.checks}
    lines = [line for language, line in SETUP.items() if language in languages]
    if system == "github":
        return GITHUB.format(setup="".join(f"      - run: {line}\n" for line in lines))
    return GITLAB.format(setup="".join(f"    - {line}\n" for line in lines))
