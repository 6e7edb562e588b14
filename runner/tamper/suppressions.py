"""Finds suppressions and skips that a mend added, in the languages that fingerprints know.

Counted by kind, file and rule. One that was there before may move, within its file or with its
line into another, and may be reformatted: only what is more than before, here and over all files,
counts.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from runner.frozen import frozen
from runner.scope import is_judge
from runner.tamper.nouns import PYTHON, SCRIPT, SHELL, Finding, suffix

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runner.tamper.nouns import FileDiff

_Rules = tuple[tuple[re.Pattern[str], str], ...]


def _rules(*pairs: tuple[str, str]) -> _Rules:
    return tuple((re.compile(pattern), kind) for pattern, kind in pairs)


_CODES = r"(?P<codes>[^\n]*)"

_IN_PYTHON = _rules(
    (r"#\s*(?:ruff|flake8)\s*:\s*noqa(?::(?P<codes>[\w ,]+))?", "noqa for a whole file"),
    (r"#\s*noqa\b(?:\s*:\s*(?P<codes>[A-Z]\w*(?:[\s,]+[A-Z]+\d+)*))?", "noqa"),
    (r"#\s*ruff\s*:\s*(?:disable|isort: *skip)\b(?P<codes>.*)", "ruff: disable"),
    (r"#\s*type\s*:\s*ignore\b(?:\[(?P<codes>[^\]]*)\])?", "type: ignore"),
    (r"#\s*(?:ty|pyrefly)\s*:\s*ignore\b(?:\[(?P<codes>[^\]]*)\])?", "type: ignore"),
    (
        r"#\s*mypy\s*:\s*(?P<codes>ignore-errors|disable-error-code\b.*|disallow\S*|allow\S*)",
        "mypy:",
    ),
    (r"#\s*pyright\s*:\s*ignore\b(?:\[(?P<codes>[^\]]*)\])?", "pyright: ignore"),
    (r"#\s*pyright\s*:\s*(?P<codes>basic|off|report\w+\s*=\s*(?:false|none|\"?\w+))", "pyright:"),
    (r"#\s*pylint\s*:\s*disable(?:-next)?\s*=\s*(?P<codes>[\w, -]+)", "pylint: disable"),
    (r"#\s*nosec\b|#\s*NOSONAR\b|#\s*noinspection\b", "nosec"),
    (r"#\s*(?:pyre-(?:ignore|fixme|unsafe)|pytype\s*:\s*(?:disable|skip-file))\b", "type: ignore"),
    (r"\bcast\(\s*[\"']?(?:typing\.|t\.)?Any\b", "cast to Any"),
    (r"#\s*pragma\s*:\s*no\s*(?:cover|branch)", "pragma: no cover"),
    (r"#\s*fmt\s*:\s*(?:off|skip)", "fmt: off"),
    (r"#\s*yapf\s*:\s*disable|#\s*isort\s*:\s*(?:skip|off)", "format switched off"),
    (r"@(?:typing\.)?no_type_check\b", "no_type_check"),
    (r"\bmark\.skip(?:if)?\b", "pytest.mark.skip"),
    (r"\bmark\.xfail\b", "pytest.mark.xfail"),
    (r"\bpytest\.(?:skip|xfail|importorskip|exit)\s*\(", "pytest.skip()"),
    (r"@(?:unittest\.)?(?:skip|skipIf|skipUnless|expectedFailure)\b", "unittest.skip"),
    (r"\bself\.skipTest\s*\(|\braise\s+(?:unittest\.)?SkipTest\b", "unittest.skip"),
    (r"^\s*collect_ignore(?:_glob)?\b|\b__test__\s*=\s*False\b", "tests not collected"),
    (
        r"\bdef\s+pytest_(?:collection_modifyitems|runtest_\w+|session(?:start|finish)|report\w+"
        r"|pyfunc_call|ignore_collect|collection_finish|assertrepr_compare|cmdline_\w+|collect_\w+"
        r"|pycollect_\w+|itemcollected|deselected|unconfigure|exception_interact|fixture_setup"
        r"|load_initial_conftests)\b",
        "a hook into pytest",
    ),
    (
        r"\b(?:unittest\.|case\.)?TestCase\.\w+\s*=(?!=)|\b_?pytest(?:\.\w+)+\s*=(?!=)"
        r"|\bsetattr\(\s*(?:unittest|TestCase|_?pytest)\b",
        "the test framework changed",
    ),
    (r"\bdef\s+__eq__\(.*:\s*return\s+True\b", "equal to anything"),
)

_IN_SCRIPT = _rules(
    (rf"\beslint-disable(?:-next-line|-line)?\b{_CODES}", "eslint-disable"),
    (
        rf"\b(?:oxlint-disable(?:-next-line)?|deno-lint-ignore(?:-file)?|tslint:disable)\b{_CODES}",
        "lint switched off",
    ),
    (r"/\*\s*eslint\s+(?P<codes>[^*]*(?:off|0)\b)", "eslint rule switched off"),
    (r"@ts-nocheck\b", "@ts-nocheck"),
    (r"@ts-(?:ignore|expect-error)\b", "@ts-ignore"),
    (r"\bbiome-ignore(?:-all|-start)?\s+(?P<codes>[\w/]+)", "biome-ignore"),
    (r"\bprettier-ignore\b", "prettier-ignore"),
    (r"\bstylelint-disable\b|\$Flow(?:FixMe|Ignore|Issue)\b", "lint switched off"),
    (r"\bas\s+any\b|<any>(?=\s*[\w(])", "as any"),
    (r"\b(?:it|test|describe)(?:\.\w+)*\.each\(\s*\[\s*\]", "tests left out"),
    (r"\b(?:expect|jest|vi|chai|assert)\.\w+\s*=(?![=>])", "the test framework changed"),
    (r"\bprocess\.exitCode\s*=\s*0\b", "exit 0 in a test"),
    (r"(?:/\*|//)\s*(?:istanbul|c8|v8)\s+ignore\b", "coverage ignored"),
    (
        r"\b(?:it|test|describe|suite|context|bench)(?:\.\w+)*"
        r"\.(?:skip|todo|fails|failing|skipIf|runIf)\b",
        "test.skip",
    ),
    (r"\b(?:it|test|describe|suite|context)(?:\.\w+)*\.only\b", "test.only (skips all others)"),
    (r"\b[xf](?:it|describe|test|context)\s*\(", "test.skip"),
    (r"\bthis\.skip\s*\(|\bctx\.skip\s*\(|\bpending\s*\(\s*\)", "test.skip"),
)

_IN_GO = _rules(
    (r"//\s*nolint\b(?::(?P<codes>[\w,-]+))?", "nolint"),
    (r"//\s*lint:(?:file-)?ignore\s+(?P<codes>\S+)", "lint:ignore"),
    (r"#nosec\b", "nosec"),
    (r"\b[tbf]\.Skip(?:f|Now)?\s*\(", "t.Skip"),
    (
        r"^//\s*(?:go:build|\+build)\s+(?P<codes>ignore|never|!?test\b.*|disabled\w*)",
        "left out of the build",
    ),
)

_IN_GO_TESTS = _rules((r"^//\s*(?:go:build|\+build)\s+(?P<codes>.*)", "left out of the build"))
"""Whatever the condition: somewhere the tests are no longer built."""

_IN_RUST = _rules(
    (r"#!?\[\s*(?:allow|expect)\s*\((?P<codes>[^)]*)\)", "allow()"),
    (r"#!?\[\s*cfg_attr\s*\([^\]]*\b(?:allow|ignore)\b(?P<codes>[^\]]*)\]", "allow()"),
    (r"#\[\s*ignore\b", "#[ignore]"),
    (r"#\[\s*should_panic\b", "#[should_panic]"),
    (r"#\[\s*cfg\s*\(\s*(?:any\s*\(\s*\)|FALSE|never)\s*\)", "left out of the build"),
    (r"#!?\[\s*rustfmt::skip\b", "rustfmt::skip"),
    (r"```\s*(?:ignore|no_run|text)\b", "documentation test skipped"),
)

_IN_SHELL = _rules(
    (r"\|\|\s*(?:true\b|:(?=\s|$|[;)\"'])|exit\s+0\b|echo\b|/bin/true\b)", "|| true"),
    (r"(?:^|[;&|]\s*|[\"'])exit\s+0\b", "exit 0"),
    (r"\S\s*;\s*(?:true|:)\s*[\"']?$", "|| true"),
    (
        r"^\s*-?\s*if\s*:\s*(?:false\b|[\"']?\$\{\{\s*false)|\bwhen\s*:\s*(?:never|manual)\b",
        "never run",
    ),
    (r"^\.IGNORE\b|\bMAKEFLAGS\s*[+:]?=.*(?:\s|-\w*)i\b", "failure allowed"),
    (r"(?:^|[;&]\s*)set\s+\+(?:e|o\s+(?:errexit|pipefail))\b", "set +e"),
    (r"(?:^|[;&]\s*)trap\s+['\"]?\s*exit\s+0", "trap exit 0"),
    (r"\bcontinue-on-error\s*:\s*true\b|\ballow_failure\s*:\s*true\b", "failure allowed"),
    (
        r"--(?:exit-zero|no-verify|passWithNoTests|pass-with-no-tests|no-error-on-unmatched-pattern"
        r"|suppress-tests|silent-errors)\b",
        "failure allowed",
    ),
    (
        r"--(?:ignore|deselect|ignore-glob|testPathIgnorePatterns)[= ](?P<codes>\S+)",
        "tests left out",
    ),
    (
        r"(?:^|\s|[\"'])-[km][= ]?[\"']?not\b(?P<codes>.*)|--skip[= ](?P<codes2>\S+)",
        "tests left out",
    ),
    (r"#\s*shellcheck\s+disable=(?P<codes>[\w,]+)", "shellcheck disable"),
    (r"^\t-(?=\S)", "a failing recipe line ignored"),
    (r"\bSKIP=(?P<codes>[\w,-]+)", "hooks skipped"),
)

_ANYWHERE = _rules(
    (
        r"\bPYTEST_CURRENT_TEST\b|[\"']pytest[\"']\s+in\s+sys\.modules",
        "code that looks for its tests",
    ),
    (
        r"\b(?:JEST_WORKER_ID|VITEST_WORKER_ID)\b|process\.env\.VITEST\b",
        "code that looks for its tests",
    ),
    (r"\btesting\.Testing\(\)", "code that looks for its tests"),
    # Whatever was to be told after it is told no longer.
    (r"\bos\._exit\s*\(\s*0\s*\)", "exit 0 in a test"),
)

_EXITS = _rules(
    (
        r"\b(?:sys\.exit|process\.exit|os\.Exit)\s*\(\s*0?\s*\)"
        r"|\braise\s+SystemExit(?:\(\s*0?\s*\))?\s*$|\batexit\.register\(",
        "exit 0 in a test",
    ),
)


def _rules_for(path: str, *, is_test: bool) -> _Rules:
    """Return what to look for in a file of this name."""
    kind = suffix(path)
    rules = _ANYWHERE + (_EXITS if is_test else ())
    if kind in PYTHON:
        return _IN_PYTHON + rules
    if kind in SCRIPT:
        return _IN_SCRIPT + rules
    if kind == "go":
        return (_IN_GO_TESTS if is_test else ()) + _IN_GO + rules
    if kind == "rs":
        return _IN_RUST + rules
    if kind in SHELL or is_judge(path):
        return _IN_SHELL
    return ()


@frozen
class _Mark:
    """One suppression or skip."""

    kind: str
    rule: str
    """One rule it names; empty when it is for all."""
    line: int
    code: str
    """The line it stands on, without white space."""


def added(files: Sequence[FileDiff], tests: frozenset[str]) -> Iterator[Finding]:
    """Yield the suppressions and skips that were not there before."""
    grown: list[tuple[str, _Mark]] = []
    freed: Counter[tuple[str, str, str]] = Counter()
    for file in files:
        exits = file.path in tests or is_judge(file.path)
        rules = _rules_for(file.path, is_test=exits)
        if not rules or file.before == file.after:
            continue
        before, after = _lines(file.before), _lines(file.after)
        # What stands in both cancels out, wherever it stands.
        same = Counter(before) & Counter(after)
        more, fewer = _difference(_marks(before, same, rules), _marks(after, same, rules))
        grown += [(file.path, mark) for mark in more]
        freed.update((mark.kind, mark.rule, mark.code) for mark in fewer)
    for path, mark in grown:
        # The same line gone from another file: it was moved, not added.
        if freed[mark.kind, mark.rule, mark.code] > 0:
            freed[mark.kind, mark.rule, mark.code] -= 1
            continue
        rule = f" ({mark.rule})" if mark.rule else ""
        yield Finding(path, mark.line, f"added: {mark.kind}{rule}")


def _difference(before: Iterable[_Mark], after: Iterable[_Mark]) -> tuple[list[_Mark], list[_Mark]]:
    """Return the marks of one file that are too many now, and those that were there before only."""
    old: defaultdict[tuple[str, str], list[_Mark]] = defaultdict(list)
    new: defaultdict[tuple[str, str], list[_Mark]] = defaultdict(list)
    for mark in before:
        old[mark.kind, mark.rule].append(mark)
    for mark in after:
        new[mark.kind, mark.rule].append(mark)
    more: list[_Mark] = []
    fewer: list[_Mark] = []
    narrowed: Counter[str] = Counter()
    for kind, rule in old:
        if not rule:
            narrowed[kind] += max(len(old[kind, rule]) - len(new.get((kind, rule), [])), 0)
    for key in {**old, **new}:
        was, now = old.get(key, []), new.get(key, [])
        extra = len(now) - len(was)
        if extra > 0:
            more += _unlike(now, was)[:extra]
        elif extra < 0:
            fewer += _unlike(was, now)[:-extra]
    return _not_narrowed(more, fewer, narrowed), fewer


def _not_narrowed(
    more: Iterable[_Mark], fewer: Iterable[_Mark], narrowed: Counter[str]
) -> list[_Mark]:
    """Leave out the marks that say for less what others said before."""
    # What covered the whole file covered all that is now said line by line.
    covered = {_WIDE[mark.kind, mark.rule] for mark in fewer if (mark.kind, mark.rule) in _WIDE}
    kept: list[_Mark] = []
    for mark in more:
        # `noqa` turned into `noqa: F401` covers less than before.
        if mark.rule and narrowed[mark.kind] > 0:
            narrowed[mark.kind] -= 1
        elif (mark.kind, mark.rule) in _WIDE or mark.kind not in covered:
            kept.append(mark)
    return kept


_WIDE = {
    ("noqa for a whole file", ""): "noqa",
    ("allow()", "warnings"): "allow()",
    ("mypy:", "ignore-errors"): "type: ignore",
    ("@ts-nocheck", ""): "@ts-ignore",
}
"""Suppressions of a whole file, and the narrower kind that may take their place."""


def _unlike(marks: Sequence[_Mark], others: Sequence[_Mark]) -> list[_Mark]:
    """Sort marks: those whose line the others do not have come first."""
    left = Counter(mark.code for mark in others)
    unlike: list[_Mark] = []
    alike: list[_Mark] = []
    for mark in marks:
        if left[mark.code] > 0:
            left[mark.code] -= 1
            alike.append(mark)
        else:
            unlike.append(mark)
    return unlike + alike


def _lines(text: str | None) -> list[str]:
    return (text or "").splitlines()


def _marks(lines: Sequence[str], same: Counter[str], rules: _Rules) -> list[_Mark]:
    """Find all marks in the lines that are not `same`, one for each rule that a mark names."""
    marks: list[_Mark] = []
    left = same.copy()
    for number, line in enumerate(lines, start=1):
        if left[line] > 0:
            left[line] -= 1
            continue
        code = "".join(line.split())
        for pattern, kind in rules:
            for match in pattern.finditer(line):
                groups = match.groupdict()
                codes = groups.get("codes") or groups.get("codes2") or ""
                marks += [_Mark(kind, rule, number, code) for rule in _split(codes)]
    return marks


def _split(codes: str) -> list[str]:
    """Split the rules that a mark names; what follows `--` is a reason, in every language."""
    codes = re.split(r"\s--|\*/|-->", codes)[0]
    return sorted({code for code in re.split(r"[\s,]+", codes.strip()) if code}) or [""]
