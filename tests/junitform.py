"""What readers of JUnit XML demand, written down by hand and checked without their libraries.

The facts are those of the schema of Jenkins' xUnit plugin (`junit-10.xsd`, MIT), the strictest of
the public ones: which element may stand in which, what attributes it must and may have. Unlike it
this also demands that the counts of a suite are right.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from collections.abc import Iterator

RERUN = ("rerunFailure", "rerunError", "flakyFailure", "flakyError")
OUTPUT = ("system-out", "system-err")
CHILDREN: dict[str, tuple[str, ...]] = {
    "testsuites": ("testsuite",),
    "testsuite": ("testsuite", "properties", "testcase", *OUTPUT),
    "properties": ("property",),
    "testcase": ("skipped", "error", "failure", *RERUN, *OUTPUT),
    **dict.fromkeys(RERUN, ("stackTrace", *OUTPUT)),
}
TEXT = ("skipped", "error", "failure", "stackTrace", *RERUN, *OUTPUT)
RESULT = ({"message", "type"}, set[str]())
"""Attributes that an element may have, and those that it must have."""
ATTRIBUTES: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set()),
    "testsuite": (
        {"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname"}
        | {"id", "package", "file", "log", "url", "version"},
        {"name", "tests", "failures", "errors"},
    ),
    "property": ({"name", "value"}, {"name", "value"}),
    "testcase": ({"name", "time", "classname", "group"}, {"name"}),
    "skipped": RESULT,
    "error": RESULT,
    "failure": RESULT,
    **dict.fromkeys(RERUN, ({"message", "type"}, {"type"})),
}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")


def parsed(text: str) -> ElementTree.Element:
    """Parse the bytes that a reader gets, and hold them against the schema."""
    root = ElementTree.fromstring(text.encode("utf-8"))
    assert root.tag == "testsuites"
    problems = [*_problems(root)]
    assert not problems
    return root


def _problems(element: ElementTree.Element) -> Iterator[str]:
    may, must = ATTRIBUTES.get(element.tag, (set[str](), set[str]()))
    if not must <= set(element.attrib) <= may:
        yield f"attributes of {element.tag}: {element.attrib}"
    if element.tag in ("testsuites", "testsuite") and not TIME.fullmatch(element.get("time", "")):
        yield f"time of {element.tag}: {element.get('time')}"
    if element.tag not in TEXT and (element.text or "").strip():
        yield f"text in {element.tag}: {element.text}"
    if element.tag == "testsuite":
        yield from _counts(element)
    for child in element:
        if child.tag not in CHILDREN.get(element.tag, ()):
            yield f"{child.tag} in {element.tag}"
        if (child.tail or "").strip() and element.tag not in TEXT:
            yield f"text behind {child.tag}: {child.tail}"
        yield from _problems(child)


def _counts(suite: ElementTree.Element) -> Iterator[str]:
    cases = suite.findall("testcase")
    tags = [[child.tag for child in case] for case in cases]
    told = {
        "tests": len(cases),
        "failures": sum("failure" in one for one in tags),
        "errors": sum("error" in one for one in tags),
        "skipped": sum("skipped" in one for one in tags),
    }
    for name, number in told.items():
        if suite.get(name) != str(number):
            yield f"{name} of {suite.get('name')}: {suite.get(name)}, counted {number}"
