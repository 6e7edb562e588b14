"""Finds by patterns what the tests of a file assert, in languages that are not parsed."""

from __future__ import annotations

import re

from runner.frozen import frozen
from runner.tamper.nouns import HELPERS, STRONG, WEAK, Checked


@frozen
class Language:
    """How the tests of a language look."""

    test: re.Pattern[str]
    assertion: re.Pattern[str]
    weak: re.Pattern[str]
    comment: str = r"/\*.*?\*/|(?<![:\"'/])//[^\n]*"
    hidden: re.Pattern[str] | None = None
    """What takes a test's effect away: a return at its start, a failure that is caught."""
    demand: re.Pattern[str] | None = None
    """An assertion of one line that says a value; its message is none."""
    row: re.Pattern[str] | None = None
    """A row of a table that a test goes through."""
    outside: re.Pattern[str] | None = None
    """What is neither a test nor helps one."""
    indented: bool = False
    """Whether a test ends where a brace stands at its own indent, as formatters have it."""


PYTHON_TEXT = Language(
    test=re.compile(r"^\s*(?:async\s+)?def\s+(?P<name>test\w*)", re.MULTILINE),
    assertion=re.compile(r"\bassert\b|\.assert\w+\s*\(|\braises\s*\("),
    weak=re.compile(r"\bassert\s+(?:True|1)\b|\bassert(?:True|IsNotNone)\s*\("),
    comment=r"#.*",
)

SCRIPT_TEXT = Language(
    test=re.compile(
        r"\b(?:it|test)(?:\.(?!skip|todo)\w+)*\s*(?:\([^()\n]*\)\s*)?\(\s*(?P<quote>[\"'`])"
        r"(?P<name>(?:\\.|(?!(?P=quote)).)*)(?P=quote)"
    ),
    assertion=re.compile(
        r"\bexpect\s*\(|\bassert(?:\.\w+)*\s*\(|\.should\b|\.expect\s*\("
        # Of the `t` that ava, tap and node:test hand to a test.
        r"|\bt\.(?:assert\.)?(?:is|isNot|not|deepEqual|notDeepEqual|strictEqual|equal|same|like"
        r"|match|regex|notRegex|truthy|falsy|true|false|ok|notOk|throws|throwsAsync|rejects"
        r"|snapshot)\s*\("
    ),
    weak=re.compile(
        r"\.(?:toBeTruthy|toBeFalsy|toBeDefined|toBeUndefined|toBeNull|toBeInstanceOf"
        r"|toMatchObject|toThrow|toHaveBeenCalled|toMatchSnapshot)\s*\(\s*\)"
        r"|expect\.any(?:thing)?\s*\(|\bexpect\s*\(\s*(?:true|1)\s*\)"
        r"|\bassert(?:\.ok)?\s*\(\s*true\s*\)|\.not\.to(?!HaveBeenCalled)\w+\s*\("
    ),
    demand=re.compile(
        r"\.(?:to(?:Be|Equal|StrictEqual|Contain|HaveLength|Match\w*)|equal|is|deepEqual)"
        r"\(.*\)"
    ),
    hidden=re.compile(
        r"\bcatch\s*(?:\([^)]*\)\s*)?\{\s*\}|\.catch\(\s*\(\w*\)\s*=>\s*(?:\{\s*\}|null|undefined)"
        r"|\bif\s*\(\s*false\s*\)|\A[^\n]*(?:=>|function[^\n]*)\s*\{\s*return\s*;?\s*\n"
    ),
)

GO_TEXT = Language(
    test=re.compile(r"^func\s+(?P<name>(?:Test|Fuzz|Example)\w*)\s*\(", re.MULTILINE),
    assertion=re.compile(
        r"\b[tbf]\.(?:Error|Fatal|Fail)\w*\s*\(|\b(?:require|assert|is|qt|cmp)\.\w+\s*\("
        r"|\b(?:assert|check|must|require|expect|want|verify)\w*\(\s*t\b"
    ),
    weak=re.compile(r"\b(?:require|assert)\.(?:NotNil|True|False|NoError|NotEmpty)\s*\("),
    hidden=re.compile(
        r"\bif\s+false\b|\A[^\n]*\{\s*return\s*\n|\brecover\(\)\s*\}\(\)|\{\s*recover\(\)"
    ),
    outside=re.compile(r"^func Benchmark.*?^\}", re.MULTILINE | re.DOTALL),
    row=re.compile(r"^[ \t]*(?:\"[^\"\n]*\":[ \t]*)?\{", re.MULTILINE),
    indented=True,
)

RUST_TEXT = Language(
    test=re.compile(
        r"^[ \t]*#\[(?:\w+::)*(?:test|rstest)\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*(?:pub\s+)?"
        r"(?:async\s+)?fn\s+(?P<name>\w+)",
        re.MULTILINE,
    ),
    assertion=re.compile(
        r"\b(?:debug_)?assert(?:_\w+)?!\s*\(|\bpanic!\s*\(|\b(?:eqnice|eqnice_repr)!\s*\("
    ),
    weak=re.compile(
        r"\bassert!\s*\(\s*true\b|\bassert_eq!\s*\(\s*(\w+)\s*,\s*\1\s*[,)]"
        r"|\bassert!\s*\([^;]*\.is_\w+\(\)\s*\)"
    ),
    demand=re.compile(r"\bassert_eq!\s*\([^\"]*\);"),
    hidden=re.compile(
        r"\bif\s+false\b|fn\s+\w+\(\)[^\n{]*\{\s*return(?:\s+Ok\(\(\)\))?\s*;|\bcatch_unwind\b"
    ),
    indented=True,
)


_VALUE = re.compile(r"(?<![\w.])\d[\w.]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|`[^`]*`")


def text_tests(text: str, language: Language, *, helpers: bool) -> dict[str, Checked]:
    """Cut a text into its tests, and count what each asserts.

    Args:
        text: Of the whole file.
        language: How its tests look.
        helpers: Whether what stands outside of them counts as well.
    """
    text = re.sub(language.comment, _blank, text, flags=re.DOTALL)
    starts = list(language.test.finditer(text))
    found: dict[str, Checked] = {}
    outside = [text[: starts[0].start() if starts else len(text)]]
    for place, match in enumerate(starts):
        limit = starts[place + 1].start() if place + 1 < len(starts) else len(text)
        end = _end(text, match.start(), limit) if language.indented else limit
        if language.outside is None:
            outside.append(text[end:limit])
        else:
            outside.append(language.outside.sub("", text[end:limit]))
        name, line = match["name"], text.count("\n", 0, match.start()) + 1
        _count(text[match.start() : end], language, found.setdefault(name, Checked(name, line)))
    if helpers:
        rest = Checked(HELPERS, 1)
        _count("".join(outside), language, rest)
        rest.rows = rest.cases = 0
        if rest.strengths:
            found[HELPERS] = rest
    return found


def _count(body: str, language: Language, checked: Checked) -> None:
    total = len(language.assertion.findall(body))
    weaker = min(sum(1 for _ in language.weak.finditer(body)), total)
    checked.strengths += [STRONG] * (total - weaker) + [WEAK] * weaker
    for demand in language.demand.findall(body) if language.demand else ():
        checked.constants.update(_VALUE.findall(demand))
    if language.hidden is not None:
        checked.swallowed += sum(1 for _ in language.hidden.finditer(body))
    if language.row is not None and re.search(r"\brange\b", body):
        checked.rows += len(language.row.findall(body))
        checked.cases = checked.rows


def _end(text: str, start: int, limit: int) -> int:
    """Return where the block that begins on a line ends: at a brace at the line's own indent."""
    indent = re.compile(r"[ \t]*").match(text, start)
    spaces = indent[0] if indent else ""
    opened = text.find("{", start, limit)
    if opened < 0:
        return limit
    line_end = text.find("\n", opened)
    line_end = limit if line_end < 0 else line_end
    if text[opened:line_end].rstrip().endswith("}"):
        return min(line_end, limit)
    closing = text.find(f"\n{spaces}}}", line_end, limit)
    return limit if closing < 0 else closing + len(spaces) + 2


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")
