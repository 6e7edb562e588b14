"""Lives a story through: each life of the run is a process of its own, forked, and killed if so."""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import re
import signal
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import anyio

from runner.api import execute, execute_again
from runner.errors import UsageError
from runner.journal import Journal
from runner.plan import Options, ResumeOptions
from runner.prepare import state_of
from runner.report import Tally
from runner.resuming import OVER
from runner.session import Outside

from .clock import VirtualLoop
from .repository import FakeRepository
from .tree import FakeTree
from .world import KILLED, Fate, Processes, environment

if TYPE_CHECKING:
    from pathlib import Path

    from runner.events import Event
    from runner.report import Report

    from .story import Mishaps, Story

EPOCH = 1_800_000_000.0
MOST_LIVES = 12
WATCH = 20
"""Real seconds after which a life that does not end is ended, and tells where it is."""


@dataclass(kw_only=True)
class Place:
    """Where one telling of a story is on the disk."""

    top: Path

    @property
    def root(self) -> Path:
        return self.top / "repo"

    @property
    def ledger(self) -> Path:
        return self.top / "ledger"

    @property
    def store(self) -> Path:
        return self.top / "store"

    @property
    def git(self) -> Path:
        return self.top / "git.json"

    def state(self) -> Path:
        """Return the run's state directory."""
        return state_of(self.root, self.top / "state", environment(self.top))


@dataclass(kw_only=True)
class Ended:
    """How one life ended."""

    code: int | None = None
    """Exit code of the run; `None`: killed, or refused."""
    killed: bool = False
    refused: str = ""
    moments: int = 0
    now: float = EPOCH
    budget: str = ""
    error: str = ""


@dataclass(kw_only=True)
class Told:
    """A story that was told to its end."""

    story: Story
    place: Place
    lives: list[Ended] = field(default_factory=list[Ended])
    trouble: list[str] = field(default_factory=list[str])


def settle(story: Story, place: Place) -> None:
    """Make the world as it is before the run."""
    (place.root / ".git").mkdir(parents=True)
    (place.root / "src").mkdir()
    for does in story.behaviours.values():
        (place.root / does.file).write_text("".join(f"{one}\n" for one in does.defects))
    for file in story.prompts.values():
        (place.root / file).write_text("a1\n")
    (place.root / "flow.yaml").write_text(json.dumps(story.workflow, indent=1))
    if story.used is not None:
        (place.root / "inner.yaml").write_text(json.dumps(story.used, indent=1))
    (place.top / "script.yaml").write_text(story.script(healed=False))
    place.ledger.write_text("")
    tree = FakeTree(place.root, place.store, lambda _: None)
    first = {"parent": "", "tree": tree.keep(tree.scan()), "message": "start"}
    facts: dict[str, Any] = {
        "head": "0" * 40,
        "commits": {"0" * 40: first},
        "remote": {},
        "pushes": [],
    }
    place.git.write_text(json.dumps(facts))


def tell(story: Story, top: Path, lives: list[Mishaps], *, most: int = 0) -> Told:
    """Live a story through; *most* is how many moments an uninterrupted life has."""
    place = Place(top=top)
    settle(story, place)
    told = Told(story=story, place=place)
    now, chance = EPOCH, Random(story.seed)
    wishes: dict[str, Any] = {}
    mishaps = list(lives)
    for number in range(1, MOST_LIVES + 1):
        mishap = mishaps.pop(0) if mishaps else None
        crash = None
        if mishap is not None and mishap.crash is not None:
            crash = 1 + int(mishap.crash * most)
        fate = Fate(place.ledger, number, crash, mishap.crash_in if mishap else "")
        for path, text in mishap.offline if mishap and number > 1 else ():
            (place.root / path).write_text(text)
            fate.note("user", path=path, text=text)
        ended = _life(story, place, fate, mishap, now, chance.random(), wishes)
        told.lives.append(ended)
        now = ended.now + 60
        if ended.error:
            told.trouble.append(f"life {number}: {ended.error}")
            return told
        if ended.code in OVER:
            return told
        if not _go_on(told, place, ended, wishes):
            return told
    told.trouble.append(f"it does not end: {[(one.code, one.refused) for one in told.lives]}")
    return told


def _go_on(told: Told, place: Place, ended: Ended, wishes: dict[str, Any]) -> bool:
    """Do what a person would do before the next life; tell whether there is one."""
    if ended.code == 3:
        wishes |= {"budget_usd": Decimal(60), "seconds": 100_000.0}
    if ended.code == 6:
        (place.top / "script.yaml").write_text(told.story.script(healed=True))
    if not ended.refused:
        return True
    if over := re.search(r" is over: it \w+ with exit code (\d+)", ended.refused):
        # It was killed after its last event.
        ended.code = int(over[1])
        return False
    if found := re.search(r"step '([^']+)' was cut off while its command ran", ended.refused):
        wishes["again"] = (*wishes.get("again", ()), found[1])
    elif "--discard-external" in ended.refused:
        wishes["discard_external"] = True
    elif "used up" in ended.refused or "did not cover" in ended.refused:
        wishes |= {"budget_usd": Decimal(60), "seconds": 100_000.0}
    elif "--again and --done name steps" in ended.refused:
        wishes.pop("again", None)
    else:
        told.trouble.append(f"refused: {ended.refused}")
        return False
    return True


def warm_up(story: Story, top: Path) -> None:
    """Live a life in this very process, so that its forks find all made that is made only once."""
    place = Place(top=top)
    settle(story, place)
    _live(story, place, Fate(place.ledger, 1, None), None, EPOCH, 0.5, {})


def _life(
    story: Story,
    place: Place,
    fate: Fate,
    mishap: Mishaps | None,
    now: float,
    chance: float,
    wishes: dict[str, Any],
) -> Ended:
    """Live one life in a process of its own."""
    result = place.top / f"life-{fate.life}.json"
    child = os.fork()
    if not child:
        gc.disable()
        faulthandler.dump_traceback_later(WATCH, exit=True)
        try:
            ended = _live(story, place, fate, mishap, now, chance, wishes)
        except BaseException:  # noqa: BLE001  whatever it is, it is told
            ended = Ended(error=traceback.format_exc())
        with suppress(BaseException):
            result.write_text(json.dumps(ended.__dict__))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == KILLED:
        last = json.loads(place.ledger.read_text().splitlines()[-1])
        return Ended(killed=True, now=last["t"])
    if not result.exists():
        return Ended(error=f"the process ended with {os.waitstatus_to_exitcode(status)}")
    return Ended(**json.loads(result.read_text()))


def _live(
    story: Story,
    place: Place,
    fate: Fate,
    mishap: Mishaps | None,
    now: float,
    chance: float,
    wishes: dict[str, Any],
) -> Ended:
    import random

    random.seed(chance)
    loop = VirtualLoop(now, Random(chance))
    events: list[Event] = []

    def heard(event: Event) -> None:
        events.append(event)
        fate.moment(type(event).__name__)

    async def go() -> Ended:
        _schedule(loop, place, fate, mishap)
        try:
            report = await _run(story, place, fate, heard, wishes)
        except UsageError as error:
            return Ended(refused=f"{error.message} {error.hint}", now=loop.now)
        state = place.state()
        with Journal.open(state, create=False) as journal:
            tally = Tally()
            for record in journal.records(report.run_id):
                tally.add(record.event)
        folded = tally.report()
        error = "" if folded == report else f"journal and report differ:\n{folded}\n{report}"
        return Ended(code=report.exit_code, moments=fate.moments, now=loop.now, error=error)

    return anyio.run(go, backend_options={"loop_factory": lambda: loop})


async def _run(
    story: Story, place: Place, fate: Fate, heard: Any, wishes: dict[str, Any]
) -> Report:
    tree = FakeTree(place.root, place.store, fate.moment)
    repo = FakeRepository(place.git, tree, fate.moment)

    async def open_tree(_: object) -> Any:
        return tree

    async def open_repository(_: object) -> Any:
        return repo

    outside = Outside(
        run_command=Processes(story, fate),
        open_tree=open_tree,
        open_repository=open_repository,
    )
    environ = environment(place.top)
    common: dict[str, Any] = {
        "cwd": place.root,
        "environ": environ,
        "sinks": [heard],
        "handle_signals": True,
        "outside": outside,
    }
    if fate.life > 1 and (place.state() / "journal.sqlite3").exists():
        options = ResumeOptions(state_dir=place.top / "state", **wishes)
        with Journal.open(place.state(), create=False) as journal:
            began = bool(journal.runs())
        if began:
            return await execute_again(options=options, **common)
    script = f"script:{place.top / 'script.yaml'}"
    options = Options(
        state_dir=place.top / "state",
        models={"cheap": script, "main": script},
        jobs=story.jobs,
        fail_fast=story.fail_fast,
        secrets=("TOKEN",) if story.secrets else (),
    )
    return await execute(place.root / "flow.yaml", options=options, **common)


def _schedule(loop: VirtualLoop, place: Place, fate: Fate, mishap: Mishaps | None) -> None:
    """Let what the user does happen in its time."""
    if mishap is None:
        return
    if mishap.signal is not None:
        after, number = mishap.signal

        def send() -> None:
            if signal.getsignal(signal.Signals(number)) in (
                signal.SIG_DFL,
                signal.default_int_handler,
            ):
                return  # the run is not there yet, or over
            fate.note("signal", number=number)
            os.kill(os.getpid(), number)

        loop.call_later(after, send)
    for after, path, text in mishap.edits:

        def edit(path: str = path, text: str = text) -> None:
            fate.note("user", path=path, text=text)
            (place.root / path).write_text(text)

        loop.call_later(after, edit)
