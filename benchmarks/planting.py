"""Ways to tamper with a test file, for measuring what the guard finds: text in, worse text out.

Each takes the first place that fits and returns `None` where there is none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Plant = Callable[[str], str | None]


def _sub(pattern: str, new: str) -> Plant:
    compiled = re.compile(pattern, re.MULTILINE)

    def change(text: str) -> str | None:
        changed, count = compiled.subn(new, text, count=1)
        return changed if count else None

    return change


def _before(heading: str, lines: str) -> Plant:
    """Put lines before a heading, indented like it."""
    return _sub(rf"^(?P<indent>[ \t]*)(?P<rest>{heading})", rf"\g<indent>{lines}\n\g<0>")


_PY_TEST = r"(?:async )?def test\w*\("
_PY_ASSERT = r"^(?P<indent>[ \t]+)assert (?P<left>[^\n=]+?) == (?P<right>[^\n#]*[^\s,(\[{\\#])$"

PYTHON: dict[str, Plant] = {
    "noqa": _sub(r"^(import \w+)$", r"\1  # noqa: F401"),
    "type: ignore": _sub(r"^(import \w+)$", r"\1  # type: ignore"),
    "skip": _before(_PY_TEST, "@pytest.mark.skip"),
    "skipif": _before(_PY_TEST, "@pytest.mark.skipif(True, reason='x')"),
    "xfail": _before(_PY_TEST, "@pytest.mark.xfail"),
    "renamed away": _sub(r"^([ \t]*(?:async )?def )(test\w*\()", r"\1off_\2"),
    "assert deleted": _sub(_PY_ASSERT, r"\g<indent>pass"),
    "assert True": _sub(_PY_ASSERT, r"\g<indent>assert True"),
    "assert or True": _sub(_PY_ASSERT, r"\g<0> or True"),
    "assert left side only": _sub(_PY_ASSERT, r"\g<indent>assert \g<left>"),
    "assert in instead of ==": _sub(_PY_ASSERT, r"\g<indent>assert \g<left> != object()"),
    "compared with itself": _sub(_PY_ASSERT, r"\g<indent>assert \g<left> == \g<left>"),
    "return first": _sub(rf"^([ \t]*){_PY_TEST}[^\n]*\).*:$", r"\g<0>\n\1    return"),
    "class not collected": _sub(r"^(class )Test", r"\1NoTest"),
    "__test__": _sub(r"^class Test[^\n]*:$", r"\g<0>\n    __test__ = False"),
    "parametrize emptied": _sub(r"(parametrize\(\s*[^\[\n]+,\s*)\[[^\[\]]+\]", r"\1[]"),
    "monkeypatched exit": _sub(r"^(import \w+)$", r"\1\nimport os; os._exit(0)"),
}

_JS_ASSERT = (
    r"^(?P<indent>[ \t]*)(?P<call>(?:await )?expect\([^\n;]*\))"
    r"\.(?:toBe|toEqual|toStrictEqual)\([^\n;]+\);?$"
)

SCRIPT: dict[str, Plant] = {
    "eslint-disable": _sub(r"\A", "/* eslint-disable */\n"),
    "ts-ignore": _sub(r"^(import )", r"// @ts-ignore\n\1"),
    "ts-expect-error": _sub(r"^(import )", r"// @ts-expect-error\n\1"),
    "skip": _sub(r"\b(it|test)\(", r"\1.skip("),
    "only": _sub(r"\b(it|test)\(", r"\1.only("),
    "todo": _sub(r"\b(it|test)\(", r"\1.todo("),
    "xit": _sub(r"\bit\(", "xit("),
    "describe.skip": _sub(r"\bdescribe\(", "describe.skip("),
    "expect deleted": _sub(_JS_ASSERT, ""),
    "expect commented": _sub(_JS_ASSERT, r"\g<indent>// gone"),
    "toBeTruthy": _sub(_JS_ASSERT, r"\g<indent>\g<call>.toBeTruthy()"),
    "toBeDefined": _sub(_JS_ASSERT, r"\g<indent>\g<call>.toBeDefined()"),
    "expect.anything": _sub(_JS_ASSERT, r"\g<indent>\g<call>.toEqual(expect.anything())"),
    "assert deleted": _sub(r"^[ \t]*assert(?:\.\w+)*\([^\n]*\);?$", ""),
    "should/supertest expect deleted": _sub(r"^[ \t]*\.expect\([^\n]*\)$", ""),
}

GO: dict[str, Plant] = {
    "t.Skip": _sub(r"^(func Test\w*\(t \*testing\.T\) \{)$", r'\1\n\tt.Skip("later")'),
    "nolint": _sub(r"^(import \(?)", r"\1 //nolint:all"),
    "build tag": _sub(r"\A", "//go:build ignore\n\n"),
    "build tag, odd": _sub(r"\A", "//go:build integration\n\n"),
    "renamed away": _sub(r"^func Test(\w*\(t )", r"func off\1"),
    "t.Error deleted": _sub(r"^[ \t]*t\.(?:Error|Fatal)\w*\([^\n]*\)$", ""),
    "t.Error to t.Log": _sub(r"\bt\.(?:Error|Fatal)(f?)\(", r"t.Log\1("),
    "return first": _sub(r"^(func Test\w*\(t \*testing\.T\) \{)$", r"\1\n\treturn"),
    "condition false": _sub(r"^([ \t]*if )([^\n{]+)( \{\n[ \t]*t\.(?:Error|Fatal))", r"\1false\3"),
}

RUST: dict[str, Plant] = {
    "#[ignore]": _sub(r"^([ \t]*)#\[test\]", r"\1#[test]\n\1#[ignore]"),
    "#[test] removed": _sub(r"^[ \t]*#\[test\]\n", ""),
    "#[allow]": _sub(r"^([ \t]*)fn ", r"\1#[allow(warnings)]\n\1fn "),
    "assert deleted": _sub(r"^[ \t]*assert(?:_eq)?!\([^\n]*\);$", ""),
    "assert true": _sub(r"^([ \t]*)assert_eq!\([^\n]*\);$", r"\1assert!(true);"),
    "cfg(any())": _sub(r"^([ \t]*)#\[test\]", r"\1#[cfg(any())]\n\1#[test]"),
    "should_panic": _sub(r"^([ \t]*)#\[test\]", r"\1#[test]\n\1#[should_panic]"),
    "return first": _sub(r"^([ \t]*#\[test\]\n[ \t]*fn \w+\(\) \{)$", r"\1\n    return;"),
}

PLANTS: dict[str, dict[str, Plant]] = {
    "py": PYTHON,
    **dict.fromkeys(("js", "ts", "tsx", "mjs", "jsx"), SCRIPT),
    "go": GO,
    "rs": RUST,
}
"""By the end of a file's name."""
