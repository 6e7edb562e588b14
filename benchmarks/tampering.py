"""Measures the tamper guard on real histories: `python benchmarks/tampering.py REPOSITORY...`.

Each sampled commit is looked at as if a mend had made it. People work on their tests too, so a
flag is no false alarm by itself: it is one where nothing was suppressed, skipped, weakened,
lowered or deleted. `--show` prints flags with their diff to be judged by hand, and the judgements
(`--judged FILE`, one line each: TRUE or FALSE, a tab, the flag's key) give the share of false
alarms. What the guard may have missed is looked for in two ways: words of suppressions on added
lines that got no flag (`--suspects`), and tampering of known kinds planted into the test files of
the same commits.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from planting import PLANTS

from runner.scope import is_test
from runner.tamper import FileDiff, Finding, findings
from runner.tamper.nouns import suffix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LARGEST = 400_000
_SUSPECT = re.compile(
    r"noqa|type:\s*ignore|pyright:|pylint:|pragma|fmt:\s*(?:off|skip)|\bskip|xfail|expectedFailure"
    r"|eslint-disable|@ts-|prettier-ignore|biome-ignore|\.only\b|\.todo\b|\bas any\b|nolint|t\.Skip"
    r"|#\[ignore|#!?\[allow|\|\|\s*true|set \+e|continue-on-error|exit 0|collect_ignore|__test__",
    re.IGNORECASE,
)
"""Far too wide on purpose: what it finds is read by people."""


@dataclass(frozen=True)
class Flag:
    """One thing that the guard said of one commit."""

    repository: str
    commit: str
    finding: Finding

    @property
    def key(self) -> str:
        """Name it for the judgements, without a word of what is somebody else's."""
        digest = hashlib.sha256(str(self.finding).encode("utf-8", "surrogateescape")).hexdigest()
        return f"{self.repository} {self.commit[:12]} {digest[:10]}"

    @property
    def family(self) -> str:
        """Say what sort of finding it is, without names and numbers."""
        what = re.sub(r"\(.*\)$", "", self.finding.what)
        what = re.sub(r"\b\d+\b", "N", re.split(r": (?!ignore|disable|off|no )", what)[0])
        what = what if what != "added" else self.finding.what.split(" (")[0]
        return re.sub(r" in (?!this file).*| of .*", "", what.replace("assertions", "assertion"))


class History:
    """One repository, read by git alone: nothing of it is checked out or run."""

    def __init__(self, path: Path) -> None:
        self._git = path / ".git" if (path / ".git").is_dir() else path
        parent = path.parent.name
        self.name = (parent if path.name in ("repo", ".git") else path.name).rpartition("+")[2]

    def git(self, *args: str) -> bytes:
        """Run git on it."""
        command = ["git", "--git-dir", str(self._git), *args]
        return subprocess.run(command, check=True, capture_output=True).stdout

    def sample(self, count: int, seed: int) -> list[str]:
        """Choose commits that are no merges and have a parent, the same ones for the same seed."""
        rows = self.git("log", "--no-merges", "--min-parents=1", "--format=%H").decode().split()
        chosen = random.Random(f"{seed} {self.name}")  # noqa: S311  a sample, no secret
        return chosen.sample(sorted(rows), min(count, len(rows)))

    def files(self, commit: str) -> list[FileDiff]:
        """Return the text files that a commit changed, a renamed one as two."""
        raw = self.git("diff-tree", "-r", "-z", "--no-renames", f"{commit}^", commit).decode(
            "utf-8", "replace"
        )
        cells = raw.split("\0")
        found: list[FileDiff] = []
        for head, path in zip(cells[::2], cells[1::2], strict=False):
            before_mode, after_mode, before, after, _ = head.removeprefix(":").split()
            if "160000" in (before_mode, after_mode) or "120000" in (before_mode, after_mode):
                continue
            found.append(FileDiff(path, self.text(before), self.text(after)))
        return [file for file in found if "\0" not in (file.before or "") + (file.after or "")]

    def text(self, blob: str) -> str | None:
        """Return a blob's text; `None` for the one that is none."""
        if not blob.strip("0"):
            return None
        try:
            data = self.git("cat-file", "blob", blob)
        except subprocess.CalledProcessError:  # left out of a partial copy
            return "\0"
        return data.decode("utf-8", "replace") if len(data) <= _LARGEST else "\0"

    def diff(self, commit: str, path: str) -> str:
        """Return what a commit did to a file."""
        shown = self.git("show", "--format=", "-U2", "-M", commit, "--", path)
        return shown.decode("utf-8", "replace")


def suspects(history: History, commit: str, files: Sequence[FileDiff]) -> Iterator[str]:
    """Yield added lines that have a suspicious word and whose word was not taken away as well."""
    more, fewer = defaultdict[str, list[str]](list), Counter[str]()
    for file in files:
        if suffix(file.path) in ("md", "rst", "txt", "lock") or "lock" in file.path:
            continue
        before = Counter((file.before or "").splitlines())
        after = Counter((file.after or "").splitlines())
        for line in (after - before).elements():
            for match in _SUSPECT.finditer(line):
                more[match[0].lower()].append(f"{file.path}: {line.strip()[:140]}")
        for line in (before - after).elements():
            fewer.update(match[0].lower() for match in _SUSPECT.finditer(line))
    for word, lines in more.items():
        for line in lines[fewer[word] :]:
            yield f"{history.name} {commit[:12]} {line}"


@dataclass
class Course:
    """What came out, over all repositories."""

    flags: list[Flag]
    unflagged: list[str]
    planted: dict[str, list[bool]]
    commits: int = 0
    clean: int = 0


def measure(history: History, commits: Sequence[str], course: Course) -> None:
    """Look at the commits of one repository."""
    flagged = with_code = 0
    said = len(course.flags)
    for commit in commits:
        files = history.files(commit)
        found = findings(files, "lint")
        with_code += any(is_code(file.path) for file in files)
        flagged += bool(found)
        course.flags += [Flag(history.name, commit, finding) for finding in found]
        kinds = " ".join(finding.what for finding in found)
        if "added" not in kinds and "tests not" not in kinds:
            course.unflagged += suspects(history, commit, files)
        plant(files, course)
    course.commits += len(commits)
    print(
        f"{history.name:22} {len(commits):4} commits, {with_code:4} of code; "
        f"{flagged:4} flagged, {len(course.flags) - said:4} flags"
    )


def is_code(path: str) -> bool:
    """Return whether a file is in a language that the guard reads."""
    return suffix(path) in {"py", "js", "ts", "tsx", "jsx", "mjs", "go", "rs", "sh"}


def plant(files: Sequence[FileDiff], course: Course) -> None:
    """Tamper with each test file in each known way, on top of what the commit did to it."""
    for file in files:
        if file.after is None or not (is_test(file.path) or suffix(file.path) == "rs"):
            continue
        for name, change in PLANTS.get(suffix(file.path), {}).items():
            twisted = change(file.after)
            if twisted is not None and twisted != file.after:
                seen = findings([FileDiff(file.path, file.after, twisted)], "lint")
                course.planted.setdefault(f"{suffix(file.path)}: {name}", []).append(bool(seen))


def judged(path: Path, flags: Sequence[Flag]) -> None:
    """Hold the flags against what people said of them."""
    verdicts: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            verdict, key = line.split("\t")[:2]
            verdicts[key] = verdict
    now = Counter(verdicts.get(flag.key, "not judged") for flag in flags)
    keys = {flag.key for flag in flags}
    gone = Counter(verdict for key, verdict in verdicts.items() if key not in keys)
    print(f"judged by hand: {dict(now)}; judged and no longer said: {dict(gone)}")
    for flag in flags:
        if verdicts.get(flag.key) == "FALSE":
            print(f"  still false: {flag.key} {flag.finding}")
    for key, verdict in verdicts.items():
        if verdict == "TRUE" and key not in keys:
            print(f"  no longer found: {key}")


def show(histories: Sequence[History], flags: Sequence[Flag], count: int, seed: int) -> None:
    """Print a random choice of flags with what the commit did."""
    by_name = {history.name: history for history in histories}
    chosen = random.Random(seed)  # noqa: S311  a sample, no secret
    for flag in chosen.sample(list(flags), min(count, len(flags))):
        print(f"\n#### {flag.key} {flag.finding}")
        print(by_name[flag.repository].diff(flag.commit, flag.finding.path)[:6000])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("repository", nargs="+", type=Path)
    parser.add_argument("--commits", type=int, default=50, help="commits of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=0, help="flags to print with their diff")
    parser.add_argument("--suspects", action="store_true", help="what may have been missed")
    parser.add_argument("--keys", type=Path, help="file for the keys of all flags")
    parser.add_argument("--judged", type=Path, help="judgements to count")
    told = parser.parse_args()
    histories = [History(path) for path in told.repository]
    course = Course([], [], {})
    for history in histories:
        measure(history, history.sample(told.commits, told.seed), course)
    print(f"\n{course.commits} commits, {len(course.flags)} flags, by family:")
    for family, count in Counter(flag.family for flag in course.flags).most_common():
        print(f"  {count:5} {family}")
    print("\nplanted tampering: found of tried")
    for name, seen in sorted(course.planted.items()):
        print(f"  {sum(seen):5} of {len(seen):5}  {name}")
    tried = [one for seen in course.planted.values() for one in seen]
    print(f"  {sum(tried):5} of {len(tried):5}  in all")
    if told.keys:
        told.keys.write_text("".join(f"\t{flag.key}\t{flag.finding}\n" for flag in course.flags))
    if told.judged:
        judged(told.judged, course.flags)
    if told.suspects:
        print("\nsuspicious and not flagged:", *course.unflagged, sep="\n  ")
    show(histories, course.flags, told.show, told.seed)


if __name__ == "__main__":
    main()
