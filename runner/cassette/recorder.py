"""Records a run: keeps what passes the wire and what is told, and writes it when the run ended."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import anyio

from runner.cassette.course import Course
from runner.cassette.files import FORMAT, Cassette, Take, Track, check_free, track_name, write
from runner.cassette.names import Names
from runner.cassette.setting import setting_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import httpx2

    from runner.events import Event
    from runner.models.transport import Caller
    from runner.plan import Options
    from runner.prepare import Prepared
    from runner.report import Report

Json = dict[str, Any]


class Recorder:
    """Records one run into a directory.

    Args:
        where: The directory; must not exist, or be empty.

    Raises:
        UsageError: Something is in it.
    """

    def __init__(self, where: Path) -> None:
        check_free(where)
        self._where = where
        self._tracks: dict[str, Track] = {}
        """By the conversation's id in this run."""
        self._head: Json = {}

    @property
    def day(self) -> datetime | None:
        """Today's prices hold."""
        return None

    def choose(self, options: Options) -> Options:
        """Leave the options as they are."""
        return options

    def begin(self, prepared: Prepared, run_id: str) -> Prepared:
        """Note what the run is asked for; keep nothing warm, for that goes by the clock."""
        self._names = Names(prepared, run_id)
        self._course = Course(self._names.steps, self._names.text)
        self._head = {
            "format": FORMAT,
            "runner": version("subagent-runner"),
            "day": datetime.now(UTC).date().isoformat(),
            **self._names.json(setting_of(prepared)),
        }
        return replace(prepared, config=replace(prepared.config, keep_warm="off"))

    def wire(
        self, network: Callable[[], httpx2.AsyncClient], cap: int
    ) -> httpx2.AsyncBaseTransport:
        """Return what sends over the network and keeps each try."""
        from runner.cassette.wire import RecordingTransport  # noqa: PLC0415  the HTTP library

        return RecordingTransport(network, cap, self._names, self)

    async def sleep(self, seconds: float) -> None:
        """Wait as any run does."""
        await anyio.sleep(seconds)

    def hear(self, event: Event) -> None:
        """Keep what is told."""
        self._course.hear(event)

    def keep(self, who: Caller | None, request: Json, answer: Json) -> None:
        """Keep one try; the same request after a try that failed is the same request."""
        conversation = who.conversation if who else ""
        track = self._tracks.get(conversation)
        if track is None:
            track = self._tracks[conversation] = Track(self._name(who))
        last = track.takes[-1] if track.takes else None
        if last is None or last.request != request or _good(last.answers[-1]):
            step, role, model = (who.step, who.role, who.model) if who else ("", "", "")
            last = Take(step, role, self._names.text(model), request)
            track.takes.append(last)
        last.answers.append(answer)

    def end(self, report: Report) -> None:
        """Write the cassette, unless the run was interrupted.

        Raises:
            RunnerError: It cannot be written.
        """
        if report.exit_code is None or report.exit_code > 128:
            return
        tracks = tuple(sorted(self._tracks.values(), key=lambda track: track.name))
        head = {**self._head, "requests": {track.name: len(track.takes) for track in tracks}}
        course = self._course
        write(self._where, Cassette(head, tracks, course.commands, course.decisions(report)))

    def _name(self, who: Caller | None) -> str:
        if who is None:
            return "nobody"
        if who.main:
            return who.conversation
        taken = [track.name for track in self._tracks.values()]
        return track_name(who.step, who.role, taken)


def _good(answer: Json) -> bool:
    return answer.get("status", 500) < 400 and "body" in answer
