#!/usr/bin/env bash
# Any CI system, or none: runs the repository's workflow and says what its exit code asks for.
# Usage: shell.sh [DIRECTORY FOR WHAT THE RUN WRITES]
set -euo pipefail

out=${1:-$(mktemp -d)}
status=0
runner exec --report "$out/report.json" --junit "$out/junit.xml" --events "$out/events.jsonl" ||
    status=$?

case $status in
    0) say="all steps passed" ;;
    1) say="a step failed: $out/junit.xml has its output" ;;
    2) say="nothing ran: the workflow, an input or a grant is wrong" ;;
    3) say="the budget is used up: --budget USD gives more" ;;
    6) say="a provider failed: run the job again later" ;;
    7) say="passed after mends that nobody committed: commit uncommitted.patch, or add a commit step" ;;
    *) say="see runner show" ;;
esac
echo "exit $status: $say"
exit "$status"
