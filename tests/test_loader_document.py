"""Strict reading of YAML: what scalars mean, limits, positions, and that nothing crashes it."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.errors import UsageError, WorkflowErrors
from runner.loader import scalars
from runner.loader.document import (
    MAX_BYTES,
    Mapping,
    Node,
    Scalar,
    Sequence,
    decode,
    place_in,
    read_document,
)

if TYPE_CHECKING:
    from runner.errors import WorkflowError


def read(data: str | bytes) -> Node | None:
    text, problems = decode(data, "x.yaml")
    return read_document(text, problems)


def refusal(data: str | bytes) -> WorkflowError:
    with pytest.raises(WorkflowErrors) as caught:
        read(data)
    return caught.value.errors[0]


def scalar(text: str) -> Scalar:
    node = read(text)
    assert isinstance(node, Scalar)
    return node


@pytest.mark.parametrize(
    ("text", "look"),
    [
        *((word, "text") for word in ("on", "off", "yes", "no", "y", "n", "On", "NO")),
        *((word, "text") for word in ("12:30", "190:20:30", "2001-01-01", "1_000", "0b1", "1.2.3")),
        *((word, "text") for word in ("tRue", "nUll", "=", "0o9", "--1", "1e", ". 5", "e3")),
        *((word, "boolean") for word in ("true", "True", "TRUE", "false", "False", "FALSE")),
        *((word, "null") for word in ("~", "null", "Null", "NULL")),
        *((word, "number") for word in ("0", "-19", "+12", "0o14", "0x3A", "010", "1.5", "-.5")),
        *((word, "number") for word in ("1e3", "12e03", "-2E+05", "3.", ".inf", "-.INF", ".nan")),
        *((word, "text") for word in ('"true"', "'1'", '""', "'~'")),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, look: str) -> None:
    assert scalars.look(scalar(text)) == look


def test_keys_are_texts() -> None:
    node = read("on: 1\nno: 2\n12:30: 3\ntrue: 4\n1: 5\n~: 6\n")
    assert isinstance(node, Mapping)
    assert list(node.entries) == ["on", "no", "12:30", "true", "1", "~"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d2h3m4s", 93_784),
        ("45", 45),
        ("0.5", 0.5),
        ("0s", 0),
        *((text, None) for text in ("", "s", "10 m", "1m1h", "-5s", "1.5h", "10M", "1e3", "²s")),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert scalars.duration(text) == seconds


@pytest.mark.parametrize("text", ["1e3", "0x10", ".5", "1_000", "nan", "", "٣", "1" * 40, "+1"])
def test_numbers_are_plain_decimals(text: str) -> None:
    assert scalars.number(text) is None
    assert scalars.money(text) is None


def test_positions_count_from_one() -> None:
    node = read("a:\n  - b\n  - {c: d}\n")
    assert isinstance(node, Mapping)
    key, items = node.entries["a"]
    assert isinstance(items, Sequence)
    inner = items.items[1]
    assert isinstance(inner, Mapping)
    value = inner.entries["c"][1]
    assert [(one.line, one.column) for one in (key, items.items[0], inner, value)] == [
        (1, 1),
        (2, 5),
        (3, 5),
        (3, 9),
    ]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: x HERE", 1, 6),
        ("a: 'x HERE'", 1, 7),
        ('a: "x HERE"', 1, 7),
        ("a: |\n  one\n  x HERE\n", 3, 5),
        ("a: |\n\n  one\n\n    x HERE\n", 5, 7),
        ("a: |2\n    x HERE\n", 2, 7),
        ("a: &b x HERE\n", 1, 9),
        ("a:\n  x HERE", 2, 5),
    ],
)
def test_finds_the_place_within_a_text(text: str, line: int, column: int) -> None:
    checked, problems = decode(text, "x.yaml")
    node = read_document(checked, problems)
    assert isinstance(node, Mapping)
    value = node.entries["a"][1]
    assert isinstance(value, Scalar)
    assert place_in(value, value.text.index("HERE"), problems) == (line, column)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("[" * 50_000, (1, 33), "nested deeper"),
        ("{a: " * 50_000, (1, 129), "nested deeper"),
        ("- " * 50_000, (1, 65), "nested deeper"),
        ("? " * 50_000, None, "key must be a text"),
        ("a: " + "x" * MAX_BYTES, (1, 1), "over 1,024 KiB"),
        ("- x\n" * 50_001, (50_000, 3), "more than 50,000 values"),
        ("a: 1\nb: 2\na: 3", (3, 1), "`a` stands here twice, first on line 1"),
        ('"a": 1\na: 2', (2, 1), "twice"),
        ("{a: 1, a: 2}", (1, 8), "twice"),
        ("a: &x [1]\n<<: *x", (2, 1), "merge keys"),
        ("a: {<<: {b: 1}}", (1, 5), "merge keys"),
        ("a: !!str 1", (1, 4), "tags such as `!!str`"),
        ("a: ! 1", (1, 4), "tags such as `!`"),
        ("!x a: 1", (1, 1), "tags such as `!x`"),
        ("a: !!python/object/apply:os.system [ls]", (1, 4), "!!python/object/apply"),
        ("%TAG ! tag:x,2000:\n---\na: !y 1", (3, 4), "tags such as"),
        ("%YAML 1.1\n---\na: 1", (1, 1), "only YAML 1.2"),
        ("a: 1\n---\nb: 1", (2, 1), "second document"),
        ("a: 1\n...\n---\nb: 1", (3, 1), "second document"),
        ("a: *b", (1, 4), "no anchor `&b`"),
        ("a: &b [*b]", (1, 8), "never end"),
        ("a: &b 1\nc: &b 2", (2, 4), "second time"),
        ("&a [a]: 1", (1, 1), "key must be a text"),
        ("a: &b x\n*b : 1", (2, 1), "written out"),
        ("{[a]: 1}", (1, 2), "key must be a text"),
        ("a: {{ x }}", (1, 5), "key must be a text"),
        ('a: "\\0"', (1, 4), "invisible control"),
        ('a: "\\e[31m"', (1, 4), "invisible control"),
        ('a: "\\u202e"', (1, 4), "invisible control"),
        ("a: x\u202ey", (1, 5), "U+202E"),
        ("a: x\x00y", (1, 5), "U+0000"),
        ("a: x\x85y", (1, 5), "U+0085"),
        ("a: x\u2028y", (1, 5), "U+2028"),
        ("a:\r\n  b: x\x07", (2, 7), "U+0007"),
        ("\ufeffa: 1", (1, 1), "U+FEFF"),
        ("a: \ud800", (1, 4), "U+D800"),
        ("a: b\n\tc: d", (2, 1), "a tab"),
    ],
)
def test_refuses_at_once_with_the_place(
    text: str, place: tuple[int, int] | None, message: str
) -> None:
    start = time.process_time()
    error = refusal(text)
    assert time.process_time() - start < 1.0
    assert message in error.message
    assert place in (None, (error.where.line, error.where.column))


@pytest.mark.parametrize(
    ("data", "place", "message"),
    [
        ("a: é".encode("utf-16"), (1, 1), "not UTF-8"),
        ("a: b\nc: é".encode("latin-1"), (2, 4), "not UTF-8"),
        (b"\xef\xbb\xbfa: 1", (1, 1), "U+FEFF"),
        (b"a: \xed\xa0\x80", (1, 4), "not UTF-8"),
        (b"a: 1\n" * 300_000, (1, 1), "over 1,024 KiB"),
    ],
)
def test_refuses_bytes(data: bytes, place: tuple[int, int], message: str) -> None:
    error = refusal(data)
    assert message in error.message
    assert (error.where.line, error.where.column) == place


def test_an_alias_counts_as_what_it_stands_for() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    start = time.process_time()
    assert "more than 50,000 values" in refusal("\n".join(lines)).message
    assert time.process_time() - start < 0.5


def test_an_alias_is_the_same_value() -> None:
    node = read("a: &x {b: [1, 2]}\nc: *x\n")
    assert isinstance(node, Mapping)
    assert node.entries["c"][1] is node.entries["a"][1]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\n\n"])
def test_nothing_is_nothing(text: str) -> None:
    node = read(text)
    assert node is None or (isinstance(node, Scalar) and scalars.look(node) == "null")


def test_shows_no_more_of_a_long_line_than_helps() -> None:
    error = refusal("a: " + "x" * 5_000 + " : y")
    assert error.line == ""
    error = refusal("a: b: " + "x" * 5_000)
    assert len(error.line) < 200


_PIECES = st.sampled_from(
    [
        *("a", "b: ", "- ", "? ", ": ", "\n", "\n  ", "\n    ", "\t", "\r\n", "\r"),
        *("[", "]", "{", "}", ", ", "'", '"', "|", ">", "|2-", "#", "&x ", "*x", "!", "!!str "),
        *(
            "<<: *x",
            "%",
            "@",
            "`",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            "\\",
            "~",
            "é",
            "\u2028",
            "\x00",
        ),
    ]
)


_TEXTS = st.one_of(
    st.lists(_PIECES, max_size=60).map("".join), st.text(max_size=80), st.binary(max_size=80)
)


@given(_TEXTS)
@example("? ? ? x")
@example("a: |\n\n\t")
@example("- - -\n  - \n -")
@example('"\\ud800"')
@example("[a, *x, &x]")
@settings(max_examples=400, deadline=None)
def test_no_text_crashes_the_reader(data: str | bytes) -> None:
    try:
        node = read(data)
    except UsageError:
        return
    assert node is None or isinstance(node, Scalar | Sequence | Mapping)


_PLAIN = st.recursive(
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=8),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text("abcxyz", min_size=1, max_size=4), inner, max_size=4),
    ),
    max_leaves=12,
)


def _plain(node: Node | None) -> object:
    match node:
        case Mapping():
            return {name: _plain(value) for name, (_, value) in node.entries.items()}
        case Sequence():
            return [_plain(item) for item in node.items]
        case Scalar():
            return node.text
        case None:
            return None


@given(_PLAIN)
@settings(max_examples=150, deadline=None)
def test_reads_back_what_was_written(value: object) -> None:
    assert _plain(read(json.dumps(value))) == value
