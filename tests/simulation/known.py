"""Seeds that found something: what, and whether it is mended."""

from __future__ import annotations

MENDED = {
    160: "a `uses` step whose inner step was cut off by an outage stayed failed after the resume: "
    "what needs it was blocked, and the run ended with 7",
    53: "a step that waited for the tree while a provider failed another one still asked a model; "
    "what it did was put back when the failed one was taken up again",
    406: "a `prompt` that runs `always` asked the provider that had just failed, likewise",
    542: "an agent's `write_file` took the place of what the user had just written, kept nowhere",
    1294: "after a resume nobody saw that an autofix of an earlier life was not committed: exit 0",
}
OPEN: dict[int, str] = {}
"""Not mended yet: told only with `--only`."""
