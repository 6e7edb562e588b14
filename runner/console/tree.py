"""Draws the live tree at a terminal with rich, and how the run ended below it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TextIO, cast

from rich.console import Console as RichConsole
from rich.live import Live as RichLive
from rich.text import Text

from runner.console.live import FRAMES, Live
from runner.console.style import Line, Style, glyphs_for, safe
from runner.console.summary import render_end
from runner.events import Event, RunFinished, RunResumed, RunStarted, TimedSink
from runner.report import Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.console.stream import Quietly

_STYLES: Mapping[str, str] = {"ok": "green", "bad": "red", "warn": "yellow"}


class TreeConsole(TimedSink):
    """Redraws the tree a few times a second, below the prompt: no alternate screen."""

    def __init__(
        self,
        stream: Quietly,
        *,
        color: bool = True,
        where: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._where = where
        self._color = color
        self._glyphs = glyphs_for(stream.encoding)
        self._tally = Tally()
        self._state = Live(clock)
        self._ended = False
        self._lock = threading.Lock()
        """Between the loop's thread, which hears, and the one that draws."""
        self._console = RichConsole(
            file=cast("TextIO", stream),
            force_terminal=True,
            no_color=not color,
            highlight=False,
            legacy_windows=False,
        )
        self._live: RichLive | None = None

    def continued(self, past: Iterable[tuple[Event, float]]) -> None:
        """Take up what is known of a run that is resumed: it is drawn as it was left."""
        with self._lock:
            for event, _ in past:
                self._tally.add(event)
                self._state.add(event)

    def hear(self, event: Event, at: float) -> None:
        """Take up one event; it is seen with the next frame."""
        del at
        with self._lock:
            self._tally.add(event)
            self._state.add(event)
        match event:
            case RunStarted() | RunResumed():
                self._start()
            case RunFinished():
                self._ended = True
            case _:
                pass

    def close(self) -> None:
        """Take the tree away, and write in its place how the run ended, if it did."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        if not self._ended:
            return
        self._ended = False
        text = render_end(
            self._tally.report(),
            width=self._console.width,
            color=self._color,
            glyphs=self._glyphs,
            where=self._where,
        )
        self._stream.write(text)
        self._stream.flush()

    def frame(self) -> Text:
        """Draw this moment."""
        size = self._console.size
        # The last column and line stay free: a terminal would wrap, or scroll.
        with self._lock:
            lines = self._state.lines(
                width=size.width - 1, height=size.height - 1, glyphs=self._glyphs
            )
        return Text("\n", no_wrap=True, overflow="crop", end="").join(map(_text, lines))

    def _start(self) -> None:
        if self._live is not None:
            return
        self._live = RichLive(
            get_renderable=self.frame,
            console=self._console,
            refresh_per_second=FRAMES,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._live.start()
        # Hidden, it would stay so after `kill -9`.
        self._console.show_cursor(show=True)


def _text(line: Line) -> Text:
    return Text.assemble(*((safe(span.text), _rich_style(span.style)) for span in line))


def _rich_style(style: Style) -> str:
    return " ".join(_STYLES.get(word, word) for word in style.split())
