"""Fails when a test was skipped that is not on the list: SKIPS.py TIER JUNIT.xml LIST."""

import sys
from fnmatch import fnmatchcase
from pathlib import Path
from xml.etree import ElementTree as ET


def skipped(junit: Path) -> list[tuple[str, str]]:
    """Return each skipped test's name and reason."""
    cases = ET.parse(junit).iter("testcase")  # noqa: S314  written by our own pytest a moment ago
    found: list[tuple[str, str]] = []
    for case in cases:
        mark = case.find("skipped")
        if mark is not None:
            name = f"{case.get('classname')}::{case.get('name')}"
            found.append((name, mark.get("message") or ""))
    return found


def main() -> int:
    """Compare with the list."""
    tier, junit, listing = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    rows = [line.split("#")[0].split() for line in listing.read_text().splitlines()]
    allowed = [row[1] for row in rows if row and row[0] == tier]
    wrong = [
        f"{name}: {reason}"
        for name, reason in skipped(junit)
        if not any(fnmatchcase(name, pattern) for pattern in allowed)
    ]
    for line in wrong:
        sys.stdout.write(f"skipped, but must run here: {line}\n")
    return 1 if wrong else 0


sys.exit(main())
