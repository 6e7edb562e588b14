"""What records and what replays have in common, as the rest of the program sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import httpx2

    from runner.events import Event
    from runner.plan import Options
    from runner.prepare import Prepared
    from runner.report import Report


class Tape(Protocol):
    """Stands between a run and its models; hears the run; has the last word when it has ended."""

    @property
    def day(self) -> datetime | None:
        """The day whose prices hold; `None` is today."""
        ...

    def choose(self, options: Options) -> Options:
        """Say what the run is asked for, before anything is read."""
        ...

    def begin(self, prepared: Prepared, run_id: str) -> Prepared:
        """Say what the run works with, when all was read and nothing has run."""
        ...

    def wire(
        self, network: Callable[[], httpx2.AsyncClient], cap: int
    ) -> httpx2.AsyncBaseTransport:
        """Return what requests go through; opens the *network* or leaves it alone.

        Args:
            network: Opens connections to the providers.
            cap: Bytes of a response at most.
        """
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait before a request is tried again."""
        ...

    def hear(self, event: Event) -> None:
        """Listen to the run."""
        ...

    def end(self, report: Report) -> None:
        """Take the run's end.

        Raises:
            ReplayError: The run was not as recorded.
            RunnerError: What was recorded cannot be written.
        """
        ...
