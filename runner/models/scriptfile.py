"""Reads the file of a scripted model (`docs/scripted-models.md`) or says what is wrong."""

from __future__ import annotations

import contextlib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import UsageError
from runner.frozen import frozen
from runner.loader import scalars
from runner.loader.document import MAX_BYTES, Mapping, Node, Scalar, Sequence, decode, read_document
from runner.loader.problems import Problems, Spot, Unreadable
from runner.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

T = TypeVar("T")

FAULTS = ("refused", "reset", "timeout", "too_long", "content_filter")
"""Errors that have no HTTP status of their own."""


@frozen
class When:
    """What a request must be like; `None` is anything."""

    role: str | None = None
    step: str | None = None
    attempt: int | None = None
    text: str | None = None
    regex: re.Pattern[str] | None = None

    def fits(self, role: str, step: str, attempt: int) -> bool:
        """Tell whether a request of this role, step and attempt may be answered."""
        return (
            (self.role is None or fnmatchcase(role, self.role))
            and (self.step is None or fnmatchcase(step, self.step))
            and (self.attempt is None or attempt == self.attempt)
        )

    def reads(self, shown: str) -> bool:
        """Tell whether what the model is newly shown is what the rule waits for."""
        return (self.text is None or self.text in shown) and (
            self.regex is None or self.regex.search(shown) is not None
        )


@frozen
class Call:
    """A tool call; arguments as a text are sent as they are."""

    tool: str
    arguments: dict[str, Any] | str


@frozen
class Tokens:
    """Tokens to report; `input` includes reads and writes of the cache."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0


@frozen
class Answer:
    """What one request is answered with."""

    line: int
    """Of the script, for messages."""
    calls: tuple[Call, ...] = ()
    text: str | None = None
    output: Call | None = None
    """`done` or `cannot`, with its arguments."""
    error: int | str | None = None
    delay: float = 0.0
    usage: Tokens | None = None
    served: str | None = None


@frozen
class Rule:
    """When to answer, and with what."""

    when: When
    turns: tuple[Answer, ...]
    times: int | None
    line: int


@frozen
class Script:
    """A whole file."""

    file: str
    rules: tuple[Rule, ...]
    priced_as: str | None


def load_script(path: Path) -> Script:
    """Read a script.

    Raises:
        WorkflowErrors: With every mistake found, as `file:line:column`.
        UsageError: There is no such file, or it is a pipe or a device.
    """
    try:
        if path.exists() and not path.is_file():
            # A repository names it: a pipe would never end, a device neither.
            raise UsageError(f"The script {path} is no regular file.")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"The script {path} cannot be read: {error.strerror}.",
            hint="A relative path is looked up from the directory that the run works in.",
        ) from error
    return parse_script(data, str(path))


def parse_script(data: str | bytes, file: str) -> Script:
    """Read a script from its text.

    Raises:
        WorkflowErrors: With every mistake found.
    """
    text, problems = decode(data, file)
    root = read_document(text, problems)
    script: Script | None = None
    with contextlib.suppress(Unreadable):
        script = _script(root, problems)
    problems.raise_if_any()
    assert script is not None
    return script


def _script(root: Node | None, problems: Problems) -> Script:
    if root is None:
        raise problems.fail("the script is empty", Spot(1, 1), hint=_HINT)
    keys = _mapping(root, problems, ("as", "rules"), "a script")
    if "rules" not in keys:
        raise problems.fail("a script needs `rules`", root, hint=_HINT)
    priced_as = _text(keys["as"], problems) if "as" in keys else None
    if priced_as is not None and ":" not in priced_as:
        problems.add("a model is written `provider:model`", keys["as"])
    rules = _each(_items(keys["rules"], problems, "rules"), lambda node: _rule(node, problems))
    return Script(problems.source.file, rules, priced_as)


_HINT = "Begin with `rules:` and a list of rules; see docs/scripted-models.md."
_OF_ANSWER = (
    "call",
    "with",
    "calls",
    "text",
    "done",
    "cannot",
    "error",
    "delay",
    "usage",
    "served",
)
_OF_RULE = ("when", "times", "turns")
_MAIN_KEYS = ("call", "calls", "text", "done", "cannot", "error")


def _rule(node: Node, problems: Problems) -> Rule:
    keys = _mapping(node, problems, (*_OF_RULE, *_OF_ANSWER), "a rule")
    when = _when(keys["when"], problems) if "when" in keys else When()
    times = _whole(keys["times"], problems, least=1) if "times" in keys else None
    if "turns" not in keys:
        return Rule(when, (_answer(node, keys, problems),), times, node.line)
    beside = next((key for key in keys if key in _OF_ANSWER), None)
    if beside is not None:
        raise problems.fail(f"`{beside}` cannot stand beside `turns`", keys[beside])
    turns = _each(
        _items(keys["turns"], problems, "turns"),
        lambda turn: _answer(turn, _mapping(turn, problems, _OF_ANSWER, "an answer"), problems),
    )
    return Rule(when, turns, times, node.line)


def _when(node: Node, problems: Problems) -> When:
    keys = _mapping(node, problems, ("role", "step", "attempt", "text", "regex"), "`when`")
    pattern = None
    if "regex" in keys:
        try:
            pattern = re.compile(_text(keys["regex"], problems))
        except re.error as error:
            problems.add(f"not a regular expression: {error}", keys["regex"])
    return When(
        role=_text(keys["role"], problems) if "role" in keys else None,
        step=_text(keys["step"], problems) if "step" in keys else None,
        attempt=_whole(keys["attempt"], problems, least=1) if "attempt" in keys else None,
        text=_text(keys["text"], problems) if "text" in keys else None,
        regex=pattern,
    )


def _answer(node: Node, keys: dict[str, Node], problems: Problems) -> Answer:
    _check_kind(node, keys, problems)
    calls: tuple[Call, ...] = ()
    if "call" in keys:
        calls = (_call(keys, problems),)
    elif "calls" in keys:
        entries = _items(keys["calls"], problems, "calls")
        calls = _each(
            entries,
            lambda n: _call(_mapping(n, problems, ("call", "with"), "a call", "call"), problems),
        )
    return Answer(
        line=node.line,
        calls=calls,
        text=_text(keys["text"], problems) if "text" in keys else None,
        output=_output(keys, problems),
        error=_error(keys["error"], problems) if "error" in keys else None,
        delay=_seconds(keys["delay"], problems) if "delay" in keys else 0.0,
        usage=_usage(keys["usage"], problems) if "usage" in keys else None,
        served=_text(keys["served"], problems) if "served" in keys else None,
    )


def _check_kind(node: Node, keys: dict[str, Node], problems: Problems) -> None:
    kinds = [key for key in _MAIN_KEYS if key in keys]
    if not kinds:
        hint = "Give one of " + ", ".join(f"`{key}`" for key in _MAIN_KEYS) + "."
        raise problems.fail("this answers nothing", node, hint=hint)
    if len(kinds) > 1 and set(kinds) not in ({"call", "text"}, {"calls", "text"}):
        first, second = kinds[:2]
        raise problems.fail(f"`{first}` and `{second}` exclude each other", keys[second])
    if "with" in keys and "call" not in keys:
        raise problems.fail("`with` belongs to `call`", keys["with"])


def _call(keys: dict[str, Node], problems: Problems) -> Call:
    tool = _text(keys["call"], problems)
    given = keys.get("with")
    if given is None:
        return Call(tool, {})
    if isinstance(given, Mapping):
        return Call(tool, {key: _plain(value) for key, (_, value) in given.entries.items()})
    return Call(tool, _text(given, problems))


def _output(keys: dict[str, Node], problems: Problems) -> Call | None:
    for name, short, more in (("done", "summary", "outputs"), ("cannot", "reason", "evidence")):
        node = keys.get(name)
        if node is None:
            continue
        if not isinstance(node, Mapping):
            return Call(name, {short: _text(node, problems)})
        fields = _mapping(node, problems, (short, more), f"`{name}`", short)
        return Call(name, {key: _plain(value) for key, value in fields.items()})
    return None


def _error(node: Node, problems: Problems) -> int | str:
    word = _text(node, problems)
    if word in FAULTS:
        return word
    if word.isascii() and word.isdigit() and 400 <= int(word) <= 599:
        return int(word)
    hint = "Give an HTTP status from 400 to 599, or one of " + ", ".join(FAULTS) + "."
    raise problems.fail(f"unknown error `{word}`", node, hint=hint)


def _usage(node: Node, problems: Problems) -> Tokens:
    keys = _mapping(node, problems, ("input", "cache_read", "cache_write", "output"), "`usage`")
    return Tokens(**{key: _whole(value, problems) for key, value in keys.items()})


def _seconds(node: Node, problems: Problems) -> float:
    word = _text(node, problems)
    millis = word.removesuffix("ms")
    plain = scalars.number(millis) if millis != word else None
    seconds = scalars.duration(word) if plain is None else plain / 1000
    if seconds is None or seconds < 0:
        raise problems.fail(f"not a time: `{word}`", node, hint="Write 2s, 500ms, 1m or seconds.")
    return float(seconds)


def _whole(node: Node, problems: Problems, *, least: int = 0) -> int:
    found = scalars.number(node.text) if isinstance(node, Scalar) else None
    if not isinstance(found, int) or found < least:
        raise problems.fail(f"this must be a whole number from {least}", node)
    return found


def _text(node: Node, problems: Problems) -> str:
    if not isinstance(node, Scalar) or scalars.look(node) == "null":
        raise problems.fail("this must be a text", node)
    return node.text


def _items(node: Node, problems: Problems, what: str) -> list[Node]:
    if not isinstance(node, Sequence):
        raise problems.fail(f"`{what}` must be a list", node, hint="Begin each entry with `- `.")
    if not node.items:
        raise problems.fail(f"`{what}` must not be empty", node)
    return node.items


def _mapping(
    node: Node, problems: Problems, known: tuple[str, ...], what: str, required: str = ""
) -> dict[str, Node]:
    """The values of a mapping that has known keys only."""
    if not isinstance(node, Mapping):
        raise problems.fail(f"{what} must be a mapping (`key: value`)", node)
    for key, (name, _) in node.entries.items():
        if key not in known:
            problems.add(f"{what} has no key `{key}`", name, hint=did_you_mean(key, known))
    if required and required not in node.entries:
        raise problems.fail(f"{what} needs `{required}`", node)
    return {key: value for key, (_, value) in node.entries.items() if key in known}


def _each(nodes: Iterable[Node], read: Callable[[Node], T]) -> tuple[T, ...]:
    """Read every entry, so that all mistakes are told at once."""
    found: list[T] = []
    for node in nodes:
        try:
            found.append(read(node))
        except Unreadable:
            continue
    return tuple(found)


def _plain(node: Node) -> Any:
    """The value of a node, as YAML 1.2 takes it."""
    match node:
        case Mapping():
            return {key: _plain(value) for key, (_, value) in node.entries.items()}
        case Sequence():
            return [_plain(item) for item in node.items]
        case Scalar():
            look = scalars.look(node)
            if look == "null":
                return None
            if look == "boolean":
                return scalars.boolean(node.text)
            number = scalars.number(node.text) if look == "number" else None
            return node.text if number is None else number
