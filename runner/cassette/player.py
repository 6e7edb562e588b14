"""Replays a run: answers each request as it was recorded, and holds the run against the record."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio

from runner.cassette import differ
from runner.cassette.course import Course, commands_diff, decisions_diff
from runner.cassette.files import HEAD, read
from runner.cassette.names import Names
from runner.cassette.places import comparable
from runner.cassette.setting import chosen, digest_of, restored
from runner.errors import ReplayError, UsageError
from runner.plan import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from runner.cassette.files import Take, Track
    from runner.events import Event
    from runner.models.transport import Caller
    from runner.plan import Options
    from runner.prepare import Prepared
    from runner.report import Report

Json = dict[str, Any]

_OF_MAIN = re.compile(rf"{MAIN}-\d+")
"""Name of a main conversation; others begin with their step."""


class Player:
    """Replays one run from a directory.

    Args:
        where: The cassette.

    Raises:
        UsageError: It cannot be read.
    """

    def __init__(self, where: Path) -> None:
        self._where = where
        self._cassette = read(where)
        self._day = self._recorded_on()
        self._free = list(self._cassette.tracks)
        self._playing: dict[str, _Playing] = {}
        self._problem: ReplayError | None = None

    @property
    def day(self) -> datetime | None:
        """The prices of the day hold on which it was recorded."""
        return self._day

    def choose(self, options: Options) -> Options:
        """Take what was recorded where the caller says nothing."""
        self._given = options
        return chosen(options, self._cassette.head)

    def begin(self, prepared: Prepared, run_id: str) -> Prepared:
        """Work with the models, the money and the prices that were recorded."""
        # By the keys that are really there: none of a replay's own is a secret.
        self._names = Names(prepared, run_id)
        self._course = Course(self._names.steps, self._names.text)
        self._changed = digest_of(self._cassette.head) != prepared.workflow.sha256
        return restored(prepared, self._names.back(self._cassette.head), self._given)

    def wire(
        self, network: Callable[[], httpx2.AsyncClient], cap: int
    ) -> httpx2.AsyncBaseTransport:
        """Return what answers in the network's place, which is not opened."""
        from runner.cassette.wire import ReplayingTransport  # noqa: PLC0415  the HTTP library

        del network, cap
        return ReplayingTransport(self._names, self)

    async def sleep(self, seconds: float) -> None:
        """Let others go on; nobody is busy here."""
        del seconds
        await anyio.lowlevel.checkpoint()

    def hear(self, event: Event) -> None:
        """Keep what is told."""
        self._course.hear(event)

    def answer(self, who: Caller | None, request: Json) -> Json:
        """Return the recorded answer to a try of a request.

        Raises:
            ReplayError: Something else was asked while recording, or nothing.
        """
        if self._problem is None:
            try:
                return self._answer(who, request)
            except ReplayError as error:
                self._problem = error
        # Once off the record, nothing that follows is as it was.
        raise self._problem

    def end(self, report: Report) -> None:
        """Hold the run against the record.

        Raises:
            ReplayError: It was not as recorded.
        """
        if report.exit_code is None or report.exit_code > 128:
            return
        leave, recorded = self._names.pushes, self._cassette
        cut_short = self._problem is not None
        commands = commands_diff(recorded.commands, self._course.commands, leave, so_far=cut_short)
        if self._problem is not None:
            problem = self._problem
            if commands:
                diff = f"{problem.diff}\nbefore that, commands ended otherwise:\n{commands}"
                raise ReplayError(problem.message, diff=diff, hint=problem.hint)
            raise problem
        found = {
            "requests that were recorded and not made:": "\n".join(self._left_over()),
            "how commands ended (- recorded, + now):": commands,
            "what was decided, asked and paid (- recorded, + now):": decisions_diff(
                recorded.decisions, self._course.decisions(report), leave
            ),
        }
        parts = [f"{what}\n{diff}" for what, diff in found.items() if diff]
        if parts:
            raise self._error("the run went otherwise than it was recorded", "\n".join(parts))

    def _answer(self, who: Caller | None, request: Json) -> Json:
        wanted = _text(request)
        playing = self._playing.get(who.conversation if who else "")
        if playing is None:
            playing = self._take_up(who, wanted)
        take, answer = playing.next()
        if take is None:
            what = f"makes request {playing.asked}, where {playing.asked - 1} were recorded"
            raise self._error(f"{_told(who)} {what}", _newest(request))
        if _text(take.request) != wanted:
            place, diff = _compare(take.request, request)
            raise self._error(
                f"{_told(who)} asks something else than was recorded, at `{place}`",
                f"--- {take.file}\n+++ this run\n{diff}",
            )
        return answer

    def _take_up(self, who: Caller | None, wanted: str) -> _Playing:
        """Choose the recorded conversation that a new one is: by who asks, then by what."""
        fits = [track for track in self._free if _fits(track, who)]
        same = (track for track in fits if _text(track.takes[0].request) == wanted)
        track = next(same, fits[0] if fits else None)
        if track is None:
            raise self._error(f"{_told(who)} asks, where nothing was recorded", "")
        self._free.remove(track)
        playing = self._playing[who.conversation if who else ""] = _Playing(track)
        return playing

    def _left_over(self) -> list[str]:
        left = [take.file for one in self._playing.values() for take in one.left]
        return sorted([*left, *(take.file for track in self._free for take in track.takes)])

    def _error(self, what: str, diff: str) -> ReplayError:
        changed = "The workflow file has changed since. " if self._changed else ""
        hint = f"{changed}If that is meant, record anew: remove {self._where}, then --record it."
        return ReplayError(f"replay of {self._where}: {what}", diff=diff, hint=hint)

    def _recorded_on(self) -> datetime:
        day = self._cassette.head.get("day")
        try:
            return datetime.fromisoformat(str(day)).replace(hour=12, tzinfo=UTC)
        except ValueError:
            raise UsageError(
                f"--replay {self._where}: {HEAD} is damaged: `day` is no date",
                hint="Bring it back from version control, or record anew.",
            ) from None


class _Playing:
    """Where a conversation is in what was recorded of it."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._at, self._tries = 0, 0
        self.asked = 0
        """Requests that were made."""

    def next(self) -> tuple[Take | None, Json]:
        """Go one try further: to the next answer to the same request, else to the next request."""
        takes = self._track.takes
        if self.asked == 0 or self._tries >= len(takes[self._at].answers):
            self._at, self._tries = self.asked, 0
            self.asked += 1
            if self._at >= len(takes):
                self._at = len(takes) - 1
                return None, {}
        take = takes[self._at]
        self._tries += 1
        return take, take.answers[self._tries - 1]

    @property
    def left(self) -> list[Take]:
        """Recorded requests that were not made."""
        return self._track.takes[self.asked :]


def _fits(track: Track, who: Caller | None) -> bool:
    first = track.takes[0]
    if who is None or who.main:
        return track.name == (who.conversation if who else "nobody")
    of_main = _OF_MAIN.fullmatch(track.name) is not None
    return (who.step, who.role) == (first.step, first.role) and not of_main


def _told(who: Caller | None) -> str:
    if who is None:
        return "somebody"
    return f"step `{who.step}`, attempt {who.attempt}, role `{who.role}`"


def _text(request: Json) -> str:
    return json.dumps(comparable(request))


def _compare(recorded: Json, now: Json) -> tuple[str, str]:
    return differ.diff(*(list(differ.lines_of(comparable(one))) for one in (recorded, now)))


def _newest(request: Json) -> str:
    """Show the end of a request that nobody expected."""
    lines = [line.text for line in differ.lines_of(request.get("body", request.get("text", "")))]
    return "\n".join(["its end:", *(f"+ {line}" for line in lines[-8:])])
