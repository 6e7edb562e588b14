"""Reads one YAML 1.2 document into plain nodes with positions, or says precisely why not.

libyaml gives events; limits (size, depth, nodes, aliases, duplicate keys, tags, merge keys) are
checked on them before a tree is built. Scalars stay text: what a text means is decided by the field
that it stands in (`scalars.py`), so `on`, `no`, `12:30` and `010` hold no surprise.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import yaml

from runner.loader.problems import Problems, Source, Spot, Unreadable
from runner.loader.syntax import explain

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 50_000
"""Scalars, lists and mappings, aliases counted as what they stand for."""

# C0 but tab and line ends, DEL, C1 with NEL, line and paragraph separator (line breaks for YAML 1.1
# only), what turns the direction of text round, BOM, lone surrogates.
_REFUSED = re.compile(
    r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]"
)
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


# Nodes are made by the ten thousand and at each start of the program: plain classes, for a frozen
# dataclass takes twice the time per node and a hundred times the time to define.


class Scalar:
    """A text as written. Lines and columns count from 1."""

    __slots__ = ("column", "line", "plain", "text")

    def __init__(self, text: str, line: int, column: int, *, plain: bool) -> None:
        self.text = text
        self.line = line
        self.column = column
        self.plain = plain
        """Neither quoted nor a block: only then can it mean a number, boolean or null."""


class Sequence:
    """A list."""

    __slots__ = ("column", "items", "line")

    def __init__(self, items: list[Node], line: int, column: int) -> None:
        self.items = items
        self.line = line
        self.column = column


class Mapping:
    """Keys, each unique, with their values, in order."""

    __slots__ = ("column", "entries", "line")

    def __init__(self, entries: dict[str, tuple[Scalar, Node]], line: int, column: int) -> None:
        self.entries = entries
        self.line = line
        self.column = column


Node = Scalar | Sequence | Mapping


def decode(data: str | bytes, file: str) -> tuple[str, Problems]:
    """Return a file's text, checked for size, encoding and invisible characters.

    Raises:
        WorkflowErrors: It is too big, not UTF-8, or holds what nobody can see.
    """
    size = len(data)
    if size > MAX_BYTES:
        problems = Problems(Source(file, ()))
        hint = "A workflow holds steps; keep data in files of its own."
        problems.add(
            f"the file has over {MAX_BYTES // 1024:,} KiB, the most", Spot(1, 1), hint=hint
        )
        problems.raise_if_any()
    text = data if isinstance(data, str) else _utf8(data, file)
    problems = Problems(Source.of(file, text))
    refused = _REFUSED.search(text)
    if refused is not None:
        hint = "Delete it; most editors can show invisible characters."
        if refused[0] == "\ufeff":
            hint = "Save the file as UTF-8 without a byte order mark."
        name = f"U+{ord(refused[0]):04X}"
        problems.add(
            f"an invisible character ({name}) stands here",
            position(text, refused.start()),
            hint=hint,
        )
        problems.raise_if_any()
    return text, problems


def _utf8(data: bytes, file: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        shown = data.decode("utf-8", "replace")
        problems = Problems(Source.of(file, shown))
        hint = "Save the file as UTF-8."
        spot = position(before, len(before))
        problems.add("the file is not UTF-8 from here on", spot, hint=hint)
        problems.raise_if_any()
        raise AssertionError from error  # never reached: there is a problem


def position(text: str, offset: int) -> Spot:
    """Return the place of an offset (from 0) in a text."""
    breaks = list(_LINE_BREAK.finditer(text, 0, offset))
    return Spot(len(breaks) + 1, offset - (breaks[-1].end() if breaks else 0) + 1)


def read_document(text: str, problems: Problems, *, first_line: int = 1) -> Node | None:
    """Return the root node of a text, or `None` when it holds nothing but comments.

    Args:
        text: What `decode` returned, or a part of it.
        problems: Where mistakes go, raised all together at the first that ends reading.
        first_line: Line of the file on which `text` begins.

    Raises:
        WorkflowErrors: It is not one document of YAML 1.2, or beyond the limits.
    """
    builder = _Builder(problems, first_line - 1)
    try:
        builder.read(text)
    except yaml.MarkedYAMLError as error:
        spot, message, hint = explain(error, problems.source, first_line - 1)
        problems.add(message, spot, hint=hint)
    except yaml.YAMLError as error:
        problems.add(f"this is not YAML: {error}", Spot(first_line, 1))
    except Unreadable:
        pass
    problems.raise_if_any()
    return builder.root


class _Open:
    """A list or mapping that is being filled."""

    __slots__ = ("anchor", "key", "node", "nodes_before")

    def __init__(self, node: Sequence | Mapping, anchor: str | None, nodes_before: int) -> None:
        self.node = node
        self.anchor = anchor
        self.nodes_before = nodes_before
        self.key: Scalar | None = None


class _Anchored(NamedTuple):
    node: Node
    nodes: int
    """How many nodes an alias of it stands for."""


class _Builder:
    """Turns events into nodes within the limits."""

    def __init__(self, problems: Problems, shift: int) -> None:
        self.problems = problems
        self.shift = shift
        """Lines of the file before this document."""
        self.root: Node | None = None
        self.documents = 0
        self.nodes = 0
        self.stack: list[_Open] = []
        self.anchors: dict[str, _Anchored | None] = {}
        """`None` while the anchored node is still open: an alias to it would never end."""

    def read(self, text: str) -> None:
        """Take all events of a text."""
        # The stubs leave the types of the pure-Python loader open.
        loader = cast("Any", yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader)
        next_event: Callable[[], yaml.Event | None] = loader(text).get_event
        while True:
            event = next_event()
            match event:
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._open(event)
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._close()
                case yaml.AliasEvent():
                    self._alias(event)
                case yaml.DocumentStartEvent():
                    self._document(event)
                case yaml.StreamEndEvent() | None:
                    return
                case _:
                    pass

    def _fail(self, event: yaml.Event, message: str, hint: str = "") -> Unreadable:
        return self.problems.fail(message, Spot(*self._at(event)), hint=hint)

    def _at(self, event: yaml.Event) -> tuple[int, int]:
        mark = event.start_mark
        assert mark is not None
        return mark.line + 1 + self.shift, mark.column + 1

    def _document(self, event: yaml.DocumentStartEvent) -> None:
        self.documents += 1
        if self.documents > 1:
            raise self._fail(event, "a second document begins here", "Keep one document a file.")
        if event.version is not None and event.version != (1, 2):
            raise self._fail(event, "only YAML 1.2 is read", "Delete the `%YAML` line.")

    def _check(self, event: yaml.NodeEvent, tag: str | None, more: int = 1) -> None:
        """Count a node, and refuse tags and repeated anchors."""
        self.nodes += more
        if self.nodes > MAX_NODES:
            raise self._fail(event, f"more than {MAX_NODES:,} values, aliases counted in full")
        if tag is not None:
            written = tag.replace("tag:yaml.org,2002:", "!!")[:60]
            hint = "Put quotes around a text that begins with `!`; in a condition write `not`."
            raise self._fail(event, f"tags such as `{written}` are not read", hint)
        if event.anchor is not None and event.anchor in self.anchors:
            raise self._fail(event, f"the anchor `&{event.anchor}` stands here a second time")

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        # The event of a scalar has no tag unless one is written.
        self._check(event, event.tag)
        line, column = self._at(event)
        plain = not event.style
        text = event.value
        if not plain and _REFUSED.search(text):
            raise self._fail(event, "this text holds an invisible control character")
        scalar = Scalar(text, line, column, plain=plain)
        if event.anchor is not None:
            self.anchors[event.anchor] = _Anchored(scalar, 1)
        self._place(scalar)

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        self._check(event, event.tag)
        if len(self.stack) >= MAX_DEPTH:
            raise self._fail(event, f"nested deeper than {MAX_DEPTH}")
        if self._at_key():
            hint = "A `{` or `[` at the start of a text, as in `{{ x }}`, needs quotes around it."
            raise self._fail(event, "a key must be a text", hint)
        line, column = self._at(event)
        is_map = isinstance(event, yaml.MappingStartEvent)
        node = Mapping({}, line, column) if is_map else Sequence([], line, column)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_Open(node, event.anchor, self.nodes))

    def _at_key(self) -> bool:
        """Whether a key of a mapping must come next."""
        return (
            bool(self.stack)
            and isinstance(self.stack[-1].node, Mapping)
            and self.stack[-1].key is None
        )

    def _close(self) -> None:
        done = self.stack.pop()
        if done.anchor is not None:
            self.anchors[done.anchor] = _Anchored(done.node, self.nodes - done.nodes_before + 1)
        self._place(done.node)

    def _alias(self, event: yaml.AliasEvent) -> None:
        name = event.anchor or ""
        if name not in self.anchors:
            hint = f"A text that begins with `*` needs quotes: '*{name}'."
            raise self._fail(event, f"there is no anchor `&{name}` before this alias", hint)
        anchored = self.anchors[name]
        if anchored is None:
            raise self._fail(event, f"`*{name}` stands inside `&{name}`: it would never end")
        self.nodes += anchored.nodes
        if self.nodes > MAX_NODES:
            raise self._fail(event, f"more than {MAX_NODES:,} values, aliases counted in full")
        if self._at_key():
            raise self._fail(event, "a key must be written out, not be an alias")
        self._place(anchored.node)

    def _place(self, node: Node) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        if isinstance(parent.node, Sequence):
            parent.node.items.append(node)
        elif parent.key is None:
            parent.key = self._key(parent.node, node)
        else:
            parent.node.entries[parent.key.text] = (parent.key, node)
            parent.key = None

    def _key(self, parent: Mapping, node: Node) -> Scalar:
        assert isinstance(node, Scalar)  # `_open` and `_alias` let nothing else stand as a key
        if node.plain and node.text == "<<":
            hint = "Write the keys out, or put the shared part under `defaults`."
            raise self.problems.fail("merge keys (`<<`) are not read", node, hint=hint)
        before = parent.entries.get(node.text)
        if before is not None:
            message = f"`{node.text[:60]}` stands here twice, first on line {before[0].line}"
            hint = "Keep one of the two."
            raise self.problems.fail(message, node, hint=hint)
        return node


def place_in(scalar: Scalar, offset: int, problems: Problems) -> Spot:
    """Return the place in the file of an offset (from 0) into a scalar's text, as near as it shows.

    Blocks are indented and quoted texts escaped, so the text is looked for where it stands.
    """
    before = scalar.text[:offset]
    number = before.count("\n")
    wanted = scalar.text.split("\n")[number]
    inside = offset - (before.rfind("\n") + 1)
    lines = problems.source.lines
    for line in range(scalar.line, min(scalar.line + number + 3, len(lines) + 1)):
        start = scalar.column - 1 if line == scalar.line else 0
        found = lines[line - 1].find(wanted, start) if wanted else -1
        if found >= 0 and line - scalar.line >= number:
            return Spot(line, found + inside + 1)
    return Spot(scalar.line, scalar.column)
