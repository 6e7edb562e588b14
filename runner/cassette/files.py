"""Writes a cassette's directory and reads it back, saying which file is damaged, missing or newer.

cassette.json        format, release, day, workflow, what the run was asked for, requests
requests/*.json      one for each request, with all tries of it, in order within a conversation
commands.jsonl       one line for each command that ran: exit code, end of its output
decisions.jsonl      one line for each decision, model response, attempt and step; the run's end
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runner.errors import RunnerError, UsageError
from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT = 1
"""Raised only when a cassette of an older release cannot be replayed any more."""
HEAD, COMMANDS, DECISIONS, REQUESTS = (
    "cassette.json",
    "commands.jsonl",
    "decisions.jsonl",
    "requests",
)
_LINES = "⟦lines⟧"
_ODD = re.compile(r"[^\w.~-]+")

Json = dict[str, Any]


@dataclass(slots=True)
class Take:
    """One request with what became of each of its tries."""

    step: str
    role: str
    model: str
    request: Json
    """`method`, `path`, and `body` (JSON) or `text`."""
    answers: list[Json] = field(default_factory=list[Json])
    """Each `status`, `headers`, and `body` (JSON), `text` or `base64`; or `error`: a broken try."""
    file: str = ""
    """Its file, relative to the cassette."""


@dataclass(slots=True)
class Track:
    """The requests of one conversation, in order."""

    name: str
    takes: list[Take] = field(default_factory=list[Take])


@frozen
class Cassette:
    """All that was recorded."""

    head: Json
    tracks: tuple[Track, ...]
    commands: tuple[Json, ...]
    decisions: tuple[Json, ...]


def track_name(step: str, role: str, taken: Sequence[str]) -> str:
    """Name a subagent's conversation: by step, role, and which one it is of those.

    Not by the attempt: how often a command had to run again depends on what ran beside it.
    """
    plain = f"{_ODD.sub('_', step.replace('/', '~'))}-{_ODD.sub('_', role)}"
    number = 1
    while f"{plain}-{number}" in taken:
        number += 1
    return f"{plain}-{number}"


def check_free(where: Path) -> None:
    """Refuse a directory that something is in, or that cannot be made: models cost money.

    Raises:
        UsageError: It is not empty, no directory, or there is no place for it.
    """
    try:
        if where.exists() and any(where.iterdir()):
            known = (where / HEAD).exists()
            remove = f", or remove the cassette that is there: rm -r {where}" if known else ""
            raise UsageError(
                f"--record {where}: there is something in it already",
                hint=f"Name a new directory{remove}",
            )
        where.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=where.parent).close()
    except OSError as error:
        raise UsageError(f"--record {where}: {error.strerror}") from error


def spread(value: Any) -> Any:
    """Return a JSON value with each text of several lines as a list of them, for reviewers."""
    match value:
        case str() if "\n" in value:
            return {_LINES: value.split("\n")}
        case dict():
            return {name: spread(item) for name, item in cast("Json", value).items()}
        case list():
            return [spread(item) for item in cast("list[Any]", value)]
        case _:
            return value


def joined(value: Any) -> Any:
    """Return what `spread` was given."""
    match value:
        case dict():
            found = cast("Json", value)
            lines = found.get(_LINES)
            if isinstance(lines, list) and len(found) == 1:
                return "\n".join(str(line) for line in cast("list[Any]", lines))
            return {name: joined(item) for name, item in found.items()}
        case list():
            return [joined(item) for item in cast("list[Any]", value)]
        case _:
            return value


def write(where: Path, cassette: Cassette) -> None:
    """Write a cassette: whole, or not at all.

    Raises:
        RunnerError: The file system refused.
    """
    try:
        where = where.resolve()  # `.` has no name
        where.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{where.name}-", dir=where.parent))
        try:
            made.chmod(0o755)
            _fill(made, cassette)
            os.rename(made, where)  # noqa: PTH104  in place of an empty directory, too
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
    except OSError as error:
        raise RunnerError(
            f"--record {where}: {error.strerror}",
            hint="The run itself is over; nothing was recorded.",
        ) from error


def read(where: Path) -> Cassette:
    """Read a cassette.

    Raises:
        UsageError: There is none, it is damaged or incomplete, or a newer release wrote it.
    """
    head = _object(where, HEAD)
    form = head.get("format")
    if not isinstance(form, int) or form < 1:
        raise _damaged(where, HEAD, "`format` is missing")
    if form > FORMAT:
        raise UsageError(
            f"{where / HEAD}: written by a newer release of runner (format {form})",
            hint="Use that release, or record anew.",
        )
    counts = head.get("requests")
    if not isinstance(counts, dict):
        raise _damaged(where, HEAD, "`requests` is missing")
    tracks = tuple(
        Track(name, [_take(where, name, number) for number in range(1, _count(count, where) + 1)])
        for name, count in cast("dict[str, Any]", counts).items()
    )
    return Cassette(head, tracks, _rows(where, COMMANDS), _rows(where, DECISIONS))


def pretty(value: Any) -> str:
    """Return a value as JSON that people can read, in the order that its fields have."""
    text = json.dumps(value, ensure_ascii=False, indent=1)
    # Half a character has no place in UTF-8.
    return text if _encodes(text) else json.dumps(value, indent=1)


def _fill(made: Path, cassette: Cassette) -> None:
    (made / REQUESTS).mkdir()
    _put(made / HEAD, pretty(cassette.head) + "\n")
    for track in cassette.tracks:
        for number, take in enumerate(track.takes, 1):
            told = {
                "step": take.step,
                "role": take.role,
                "model": take.model,
                "request": spread(take.request),
                "answers": spread(take.answers),
            }
            _put(made / _file(track.name, number), pretty(told) + "\n")
    _put(made / COMMANDS, "".join(f"{_line(row)}\n" for row in cassette.commands))
    _put(made / DECISIONS, "".join(f"{_line(row)}\n" for row in cassette.decisions))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _file(name: str, number: int) -> str:
    return f"{REQUESTS}/{name}-{number:03d}.json"


def _line(row: Mapping[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return text if _encodes(text) else json.dumps(row)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _text(where: Path, name: str) -> str:
    try:
        return (where / name).read_text("utf-8")
    except FileNotFoundError:
        if name == HEAD:
            raise UsageError(
                f"--replay {where}: there is no cassette",
                hint=f"Record one: runner exec ... --record {where}",
            ) from None
        raise _damaged(where, name, "the file is missing") from None
    except OSError as error:
        raise _damaged(where, name, str(error.strerror)) from error
    except UnicodeDecodeError:
        raise _damaged(where, name, "no UTF-8") from None


def _object(where: Path, name: str) -> Json:
    try:
        found: Any = json.loads(_text(where, name))
    except (ValueError, RecursionError) as error:
        raise _damaged(where, name, str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(where, name, "no JSON object")
    return cast("Json", found)


def _rows(where: Path, name: str) -> tuple[Json, ...]:
    rows: list[Json] = []
    for number, line in enumerate(_text(where, name).split("\n"), 1):
        if not line:
            continue
        try:
            row: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _damaged(where, f"{name}:{number}", str(error)) from None
        if not isinstance(row, dict):
            raise _damaged(where, f"{name}:{number}", "no JSON object")
        rows.append(cast("Json", row))
    return tuple(rows)


def _take(where: Path, name: str, number: int) -> Take:
    file = _file(name, number)
    told = _object(where, file)
    request, answers = told.get("request"), told.get("answers")
    if not isinstance(request, dict) or not _answers(answers):
        raise _damaged(where, file, "`request` or `answers` is missing")
    return Take(
        str(told.get("step", "")),
        str(told.get("role", "")),
        str(told.get("model", "")),
        joined(request),
        joined(answers),
        file,
    )


def _answers(found: Any) -> bool:
    if not isinstance(found, list) or not found:
        return False
    each = cast("list[Any]", found)
    return all(
        isinstance(one, dict) and (isinstance(one.get("status"), int) or "error" in one)  # pyright: ignore[reportUnknownMemberType]
        for one in each
    )


def _count(count: Any, where: Path) -> int:
    if not isinstance(count, int) or count < 1:
        raise _damaged(where, HEAD, "`requests` counts something else")
    return count


def _damaged(where: Path, name: str, why: str) -> UsageError:
    return UsageError(
        f"--replay {where}: {name} is damaged: {why}",
        hint="Bring it back from version control, or record anew.",
    )
