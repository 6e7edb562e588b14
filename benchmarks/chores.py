"""The mechanical work of `three_ways`: a repository with checks, and models that do it sensibly.

The models are scripted as generators: each is sent what its model is newly shown and yields what it
answers. They look at what really came back, so that work that was not done cannot pass for done.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from provider import Answer, Call, Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from provider import Ask

Talk = Generator[Answer, str, str]
"""Yields answers, is sent what the model is shown next, and returns what it was shown last."""

WRONG, RIGHT = "limit = 12", "limit = 10"
READ_BYTES = 14_000
"""Of one file of `docs`: both kinds of agent read it in one call."""
READS = 8
"""Files read in one response: Anthropic's look-back is twenty blocks."""
_LINE = 1_000
_FILLER = "what this part of the program does and why it was written so; "

_CHECK = """\
cat script/cases
sleep "$(cat script/pause)"
if grep -qx 'limit = 10' "src/$1.py"; then
    echo "$1: all good"
else
    grep -n '^limit' "src/$1.py" | sed "s|^|src/$1.py:|"
    echo "$1: FAILED"
    exit 1
fi
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chores:
    """Mechanical work on a repository, and the conversation that it is done in. Sizes in tokens."""

    steps: int
    failing: bool = False
    """Whether each step fails at first and needs a small edit."""
    hard: int = 0
    """How many of these edits are beyond the cheap model."""
    context: int = 50_000
    """Prompt of the main conversation just before the work."""
    output: int = 150
    """Of each answer of each model."""
    result: int = 600
    """Printed by each check."""
    later: int = 1
    """Turns of the main conversation after the work."""
    pause: float = 0.0
    """Seconds that a check takes."""

    @property
    def parts(self) -> tuple[str, ...]:
        """What the steps check."""
        return tuple(f"part_{number:02}" for number in range(1, self.steps + 1))

    @property
    def docs(self) -> Mapping[str, int]:
        """Files that the main agent reads before the work, and their bytes.

        With what reading them adds they come close to `context`; the prompt makes up the rest.
        """
        whole = round((self.context - 2_300) / 1.029 * 4)
        return {
            f"docs/chapter_{at // READ_BYTES:02}.txt": min(READ_BYTES, whole - at)
            for at in range(0, whole, READ_BYTES)
        }

    @property
    def opening(self) -> int:
        """Requests of the opening turn."""
        return -(-len(self.docs) // READS) + 1


def make_repository(root: Path, chores: Chores) -> None:
    """Write the repository, and commit it as its owner would."""
    for folder in ("docs", "script", "src"):
        (root / folder).mkdir(parents=True)
    for name, size in chores.docs.items():
        (root / name).write_text(filler(size))
    line = "case {:04}: read, compared, in order\n"
    cases = "".join(line.format(n) for n in range(chores.result * 4 // len(line)))
    (root / "script/cases").write_text(cases)
    (root / "script/pause").write_text(f"{chores.pause}\n")
    (root / "script/check").write_text(_CHECK)
    limit = "limit = 11" if chores.failing else RIGHT
    for part in chores.parts:
        table = "".join(f"entry_{n:02} = {n * n}\n" for n in range(20))
        (root / f"src/{part}.py").write_text(f"{table}{limit}\n")
    _git(root, "init", "--quiet")
    _git(root, "add", "--all")
    _git(root, "commit", "--quiet", "--message", "start")


def tree_of(root: Path) -> str:
    """Return the hash of all files."""
    _git(root, "add", "--all")
    return _git(root, "write-tree")


def still_failing(root: Path, chores: Chores) -> list[str]:
    """Return the parts whose check fails now."""
    (root / "script/pause").write_text("0\n")
    return [
        part
        for part in chores.parts
        if subprocess.run(
            ["sh", "script/check", part], cwd=root, capture_output=True, check=False
        ).returncode
    ]


def filler(size: int) -> str:
    """Return plain text of so many bytes, in lines of the same length."""
    line = (_FILLER * (_LINE // len(_FILLER) + 1))[: _LINE - 1] + "\n"
    return (line * (size // _LINE + 1))[:size]


def _git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


class Voice:
    """How a model speaks: each answer has as many tokens as are billed for it."""

    def __init__(self, output: int) -> None:
        self._output = output

    def __call__(self, text: str, *calls: Call) -> Answer:
        """Return an answer with words enough."""
        used = len(text) + sum(len(call.tool) + len(json.dumps(call.arguments)) for call in calls)
        padding = filler(max(0, 4 * self._output - used - 1)).replace("\n", " ")
        output = max(self._output, -(-used // 4))
        return Answer(f"{text} {padding}".strip(), calls, Tokens(output=output))


class Player:
    """Lets one generator answer a conversation."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk
        next(talk)

    def __call__(self, ask: Ask) -> Answer:
        """Answer one request."""
        if keeps_alive(ask):
            return Answer("o", tokens=Tokens(output=1))
        return self._talk.send(newest(ask))


def keeps_alive(ask: Ask) -> bool:
    """Tell a request that only keeps a cache from one that wants an answer."""
    most = ask.body.get("max_tokens") or ask.body.get("max_output_tokens") or 4096
    return cast("int", most) <= 16


def newest(ask: Ask) -> str:
    """Return what the model is shown since its last answer, as JSON."""
    items = _items(ask)
    own = [n for n, item in enumerate(items) if _is_own(item)]
    return json.dumps(items[own[-1] + 1 if own else 0 :])


def is_fresh(ask: Ask) -> bool:
    """Tell whether a conversation begins."""
    return not any(map(_is_own, _items(ask)))


def _items(ask: Ask) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", ask.body["messages" if "messages" in ask.body else "input"])


def _is_own(item: dict[str, Any]) -> bool:
    return item.get("role") == "assistant" or item.get("type") in {"function_call", "reasoning"}


@dataclass(frozen=True, slots=True)
class Hands:
    """How an agent calls its tools, and how it ends a turn."""

    read: Callable[[str], Call]
    edit: Callable[[str, str, str], Call]
    check: Callable[[str], Call]
    end: Callable[[str], tuple[Call, ...]]


def _bash(command: str) -> Call:
    return Call("bash", {"command": command})


def _edit(tool: str) -> Callable[[str, str, str], Call]:
    return lambda path, old, new: Call(tool, {"path": path, "old_text": old, "new_text": new})


CODER = Hands(
    read=lambda path: _bash(f"cat {path}"),
    edit=_edit("edit"),
    check=lambda parts: _bash(f"for part in {parts}; do sh script/check $part; done"),
    end=lambda _: (),
)
"""A coding agent with `bash` and `edit`, which ends a turn with words."""
RUNNER = Hands(
    read=lambda path: Call("read_file", {"path": path}),
    edit=_edit("edit_file"),
    check=lambda _: Call("check"),
    end=lambda summary: (Call("done", {"summary": summary}),),
)
"""The runner's own tools."""


def one_by_one(chores: Chores, *, switched: bool) -> Talk:
    """Do each step in one call of `bash`; read, edit and check again where it fails.

    Args:
        chores: The work.
        switched: Whether the cheap model does it: what is beyond it is left to a later turn.
    """
    say = Voice(chores.output)
    seen = yield from _reading(chores, say, CODER)
    for number, part in enumerate(chores.parts):
        beyond = switched and number < chores.hard
        seen = yield say(f"I check {part}.", CODER.check(part))
        if failed(seen):
            yield from _mend(part, WRONG if beyond else RIGHT, say, CODER)
    if chores.steps:
        seen = yield say("All parts are checked.")
    if chores.hard and switched:
        for part in chores.parts[: chores.hard]:
            yield from _mend(part, RIGHT, say, CODER)
        yield say("All is mended.")
    return (yield from _later(say, CODER))


def at_once(chores: Chores) -> Talk:
    """Do all steps in one call of `bash`; then all reads, all edits, and what failed again."""
    say = Voice(chores.output)
    yield from _reading(chores, say, CODER)
    seen = yield say("I check all.", CODER.check(" ".join(chores.parts)))
    broken = failed(seen)
    if broken:
        yield say("I read them.", *(CODER.read(_file(part)) for part in broken))
        edits = (CODER.edit(_file(part), "limit = 11", RIGHT) for part in broken)
        yield say("I mend them.", *edits)
        yield say("I check them again.", CODER.check(" ".join(broken)))
    yield say("All parts are checked.")
    return (yield from _later(say, CODER))


def main_agent(chores: Chores) -> Talk:
    """Answer the runner's main conversation: prompts, and packets about what nobody else mended."""
    say = Voice(chores.output)
    seen = yield from _reading(chores, say, RUNNER)
    while True:
        packet = re.search(r"Packet: step `(part_\d\d)`", seen)
        if packet:
            yield from _mend(packet[1], RIGHT, say, RUNNER)
        seen = yield say("This is done.", *RUNNER.end("It is done."))


def subagent(chores: Chores) -> Talk:
    """Answer the brief of one failing step."""
    say = Voice(chores.output)
    brief = yield Answer()
    part = re.findall(r"Step `(part_\d\d)`", brief)[0]
    beyond = part in chores.parts[: chores.hard]
    seen = yield from _mend(part, WRONG if beyond else RIGHT, say, RUNNER)
    if failed(seen):
        reason = Call("cannot", {"reason": "No file that I may write says what the limit is."})
        return (yield say("I cannot know it.", reason))
    return (yield say("It is mended.", *RUNNER.end("The limit is what the check wants.")))


def failed(seen: str) -> list[str]:
    """Return the parts that a check's output calls failed."""
    return re.findall(r"(part_\d\d): FAILED", seen)


def _reading(chores: Chores, say: Voice, hands: Hands) -> Talk:
    """Read all of `docs` in the opening turn; return what opens the next one."""
    yield Answer()
    names = list(chores.docs)
    for first in range(0, len(names), READS):
        some = names[first : first + READS]
        seen = yield say("I read on.", *map(hands.read, some))
        assert seen.count(_FILLER) >= len(some), f"{some} were not shown: {seen[:300]}"
    return (yield say("I have read all.", *hands.end("I have read all.")))


def _mend(part: str, limit: str, say: Voice, hands: Hands) -> Talk:
    seen = yield say(f"I read {part}.", hands.read(_file(part)))
    old = re.findall(r"limit = \d+", seen)[0]
    yield say(f"I mend {part}.", hands.edit(_file(part), old, limit))
    return (yield say(f"I check {part} again.", hands.check(part)))


def _later(say: Voice, hands: Hands) -> Talk:
    while True:
        yield say("This comes next.", *hands.end("This comes next."))


def _file(part: str) -> str:
    return f"src/{part}.py"
