"""Kills runs at every point where they change something, resumes them, and compares.

    python tests/crashes.py --all            # every point, before and after, and the table
    python tests/crashes.py --every 20 -j 2  # each 20th of them, two at a time
    python tests/crashes.py --seconds 600    # as many as there is time for, by the seed
    python tests/crashes.py ship 57:after:alone "journal git_fact@1:before:all"

A course (a workflow in a repository of its own) runs undisturbed; its points are counted. Then
it runs again for each point, is killed there with SIGKILL, resumed until it ends; what it
leaves is held against the undisturbed run and against what those outside of it counted: a ledger
that its commands write, the provider's bills, the reflog of the remote. Processes are forked from
one that has imported everything (`Zygote`): the real command line, without the imports' seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from importlib import import_module
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from cacheserver import CachingProvider, caching
from crashcourses import COURSES, Course
from crashpoints import Plan, install

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from provider import Ask, Reply

PATIENCE = 90.0
"""Seconds after which a process counts as hung."""
LIVES = 10
WARM = (
    "anyio._backends._asyncio", "click", "pydantic_ai.models.anthropic", "runner.api",
    "runner.cli.app", "runner.cli.exec", "runner.cli.resume", "runner.git", "runner.modelside",
    "runner.telemetry.file", "runner.workers", "runner.workspace.tree",
)  # fmt: skip
"""What a zygote imports."""
CUT_OFF = (-signal.SIGKILL, *(128 + number for number in (1, 2, 15)))


# -- processes -------------------------------------------------------------------------------------


class Zygote:
    """A process that has imported the runner, and forks one that runs a command line."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # what is not read stays in the pipe, where `select` sees it
        )

    def begin(self, where: Path, argv: Sequence[str], environ: dict[str, str], plan: Plan) -> int:
        """Begin `runner ARGV`; return its process id."""
        order = {"where": str(where), "argv": list(argv), "environ": environ, "plan": asdict(plan)}
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(order)}\n".encode())
        return int(self._read())

    def end(self, within: float | None = None) -> int:
        """Wait for the end of what began; return its code, or minus the signal.

        Raises:
            TimeoutError: It has not ended *within* so many seconds.
        """
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], within)[0]:
            raise TimeoutError
        return int(self._read())

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote is gone"
        return line


def serve() -> None:
    """Be a zygote: fork a run for each order from stdin, tell its pid, then its end."""
    for name in WARM:
        import_module(name)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if not child:
            _be_runner(order)
        tell(child)
        deadline = time.monotonic() + PATIENCE
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(0.003)
            if time.monotonic() > deadline:
                os.kill(child, signal.SIGABRT)
        tell(os.waitstatus_to_exitcode(ended[1]))


def _be_runner(order: dict[str, Any]) -> None:
    """Become what `runner ARGV` would be, with its points counted."""
    code = 70
    try:
        where = Path(order["where"])
        os.setsid()
        os.chdir(where / "repo")
        for number, name in enumerate(("/dev/null", where / "out", where / "err")):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            opened = os.open(name, flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        os.environ.clear()
        os.environ.update(order["environ"])
        sys.argv = ["runner", *order["argv"]]
        (where / "pid").write_text(str(os.getpid()))
        if order["plan"]["log"]:
            install(Plan(**order["plan"]))
        from runner.cli import invoke

        code = invoke(sys.argv[1:])
        sys.stdout.flush()
        sys.stderr.flush()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  it is told, and the process ends
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


# -- what a run leaves -----------------------------------------------------------------------------


@dataclass
class Left:
    """What is there once it is over, without what differs from run to run."""

    code: int = 0
    steps: dict[str, Any] = field(default_factory=dict[str, Any])
    tree: dict[str, str] = field(default_factory=dict[str, str])
    status: str = ""
    index: str = ""
    commits: list[str] = field(default_factory=list[str])
    head_log: int = 0
    remote: dict[str, str] = field(default_factory=dict[str, str])
    remote_log: int = 0
    git_files: list[str] = field(default_factory=list[str])
    breaks: list[Any] = field(default_factory=list[Any])


@dataclass
class Facts:
    """What the journal says right after a kill; read without the runner's own code."""

    begun: bool = False
    """Whether a run has been registered."""
    commands: list[str] = field(default_factory=list[str])
    """Texts of commands that began and did not end."""
    ended: list[str] = field(default_factory=list[str])
    """Texts of those that ended, each once, of steps that did not."""
    asks: list[int] = field(default_factory=list[int])
    """Numbers of requests that left and were not answered."""
    lives: int = 0
    finished: int | None = None


@dataclass
class Trial:
    """One run that was disturbed, and what became of it."""

    course: str
    planned: str
    label: str = ""
    kills: int = 0
    refused: list[str] = field(default_factory=list[str])
    again: list[str] = field(default_factory=list[str])
    """Commands of steps in flight at a kill that ran once more."""
    lost: list[str] = field(default_factory=list[str])
    doubled: list[str] = field(default_factory=list[str])
    paid_twice: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    """All else that is not as in the undisturbed run."""
    seconds: float = 0.0

    @property
    def bad(self) -> list[str]:
        """All that must not be."""
        named = [f"lost: {one}" for one in self.lost]
        named += [f"doubled: {one}" for one in self.doubled]
        named += [f"paid twice: {one}" for one in self.paid_twice]
        return [*named, *self.wrong]


# -- a course --------------------------------------------------------------------------------------


class Ground:
    """A course in a directory of its own: laid out once, put back for each run."""

    def __init__(self, course: Course, where: Path, zygote: Zygote) -> None:
        self.course, self.where, self._zygote = course, where / course.name, zygote
        self._template = where / f"{course.name}.template"
        self.where.mkdir(parents=True)
        course.lay_out(self.where)
        shutil.copytree(self.where, self._template, symlinks=True)
        self.points: list[str] = []
        self.outside: list[str] = []
        """Points outside of the runner: what commands and hooks noted, requests and answers."""
        self.undisturbed = Left()
        self.ledger = Counter[str]()
        self.asked = Counter[str]()
        self._walk()

    def _walk(self) -> None:
        """Run it undisturbed, twice: what differs between the two would tell nothing."""
        for first in (True, False):
            self.put_back()
            with self.serving("") as provider:
                self.points = self._count(provider)
                left = self.left()
                asks = [*provider.asks]
            assert left.code == self.course.code, self.said
            assert first or left == self.undisturbed, differences(self.undisturbed, left)
            self.undisturbed, self.ledger = left, Counter(self.noted())
            self.asked = Counter(canonical(ask) for ask in asks)
        self.outside = [f"note {word}" for word in dict.fromkeys(self.noted())]
        for ask in range(1, self.asked.total() + 1):
            self.outside += [f"ask {ask}", f"answer {ask}"]

    def _count(self, provider: CachingProvider | None) -> list[str]:
        log = self.where / "points"
        code = self.start(Plan(str(log)), provider)
        assert code == self.course.code, (code, self.said)
        return log.read_text().splitlines()

    def put_back(self) -> None:
        self._end_all()
        shutil.rmtree(self.where)
        shutil.copytree(self._template, self.where, symlinks=True)

    def serving(self, point: str) -> Serving:
        return Serving(self, point)

    @property
    def size(self) -> int:
        """How many points there are, inside and outside of the runner."""
        return len(self.points) + len(self.outside)

    # -- the runner --------------------------------------------------------------------------------

    def start(self, plan: Plan, provider: CachingProvider | None, *more: str) -> int:
        """Run `runner exec`, or what `more` says, to its end, however it comes."""
        self.begin(plan, provider, *more)
        return self.end()

    def end(self, within: float | None = None) -> int:
        """Wait for the end of what began; see `Zygote.end`."""
        return self._zygote.end(within)

    def begin(self, plan: Plan, provider: CachingProvider | None, *more: str) -> None:
        """Begin `runner exec`, or what `more` says."""
        argv = more or ("exec", "../workflow.yaml", *self.course.options)
        argv = (*argv, "--state-dir", str(self.where / "state"), "--json")
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        home = {"HOME": str(self.where / "home"), "XDG_CONFIG_HOME": str(self.where / "home/c")}
        # What commands note lies out of the tree, where a sandbox would keep them from it.
        kept |= home | {"SUBRUNNER_SANDBOX": "off"}
        environ = kept | (provider.environ() if provider else {})
        self._zygote.begin(self.where, argv, environ, plan)

    @property
    def said(self) -> str:
        """What the last process said to people."""
        return (self.where / "err").read_text()

    @property
    def journal(self) -> Path:
        """The journal's file."""
        return next((self.where / "state").rglob("journal.sqlite3"))

    def noted(self) -> list[str]:
        file = self.where / "ledger"
        return file.read_text().split() if file.exists() else []

    @property
    def pid(self) -> int:
        return int((self.where / "pid").read_text())

    def facts(self) -> Facts:
        """Read the journal as it is."""
        facts = Facts()
        found = [*(self.where / "state").rglob("journal.sqlite3")]
        if not found:
            return facts
        with closing(sqlite3.connect(found[0])) as database, suppress(sqlite3.OperationalError):
            facts.begun = bool(database.execute("SELECT count(*) FROM run").fetchone()[0])
            rows = database.execute("SELECT data FROM event ORDER BY seq").fetchall()
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            fold(facts, (json.loads(row) for (row,) in rows))
        return facts

    # -- what it leaves ----------------------------------------------------------------------------

    def left(self) -> Left:
        """Gather what is there now."""
        report = self.report()
        return Left(
            code=-1 if report is None else report["exit_code"],
            steps={} if report is None else dict(map(_step, report["steps"])),
            tree=tree_of(self.where / "repo"),
            status=self.git("status", "--porcelain"),
            index=self.git("ls-files", "--stage"),
            commits=_plain(self.git("log", "--format=%T %B%x00")).split("\0"),
            head_log=len(self.git("reflog", "show", "HEAD").splitlines()),
            remote=self._remote(),
            remote_log=self._remote_log(),
            git_files=self._git_files(),
            breaks=_breaks(report or {}),
        )

    def report(self) -> dict[str, Any] | None:
        text = (self.where / "out").read_text()
        return json.loads(text) if text.startswith("{") else None

    def git(self, *argv: str) -> str:
        done = subprocess.run(
            ["git", *argv],
            cwd=self.where / "repo",
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self.where / "home")},
        )
        return done.stdout.strip() + done.stderr.strip()

    def _remote(self) -> dict[str, str]:
        if not (self.where / "remote.git").exists():
            return {}
        refs = [line.split() for line in self.git("ls-remote", "../remote.git").splitlines()]
        head = self.git("rev-parse", "HEAD")
        return {ref: "HEAD" if sha == head else sha for sha, ref in refs if ref != "HEAD"}

    def _remote_log(self) -> int:
        logs = (self.where / "remote.git" / "logs").rglob("*")
        return sum(len(log.read_text().splitlines()) for log in logs if log.is_file())

    def _git_files(self) -> list[str]:
        top = self.where / "repo" / ".git"
        names = (path.relative_to(top) for path in top.rglob("*") if path.is_file())
        return sorted(_plain(str(name)) for name in names if name.parts[0] != "objects")

    def strays(self) -> list[str]:
        """Return what processes of the run are still there after a moment."""
        deadline = time.monotonic() + 3
        while (found := list(self._mine())) and time.monotonic() < deadline:
            time.sleep(0.02)
        return [name for _, name in found]

    def _mine(self) -> Iterator[tuple[int, str]]:
        mark = os.fsencode(self.where) + b"/"
        for entry in os.listdir("/proc"):  # noqa: PTH208  quick, for others change it
            if not entry.isdigit() or int(entry) == os.getpid():
                continue
            with suppress(OSError):
                line = Path(f"/proc/{entry}/cmdline").read_bytes()
                if mark in line or mark in Path(f"/proc/{entry}/environ").read_bytes():
                    yield int(entry), line.replace(b"\0", b" ").decode()

    def _end_all(self) -> None:
        for pid, _ in self._mine():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)


class Serving:
    """The provider of one trial, which kills the run at a point of its own."""

    def __init__(self, ground: Ground, point: str) -> None:
        self._ground, self._point = ground, point
        self._caching: Any = None
        if point.startswith("note "):
            (ground.where / "crash").write_text(point.removeprefix("note ") + "\n")

    def __enter__(self) -> CachingProvider:
        self._caching = caching(self._script, minimum=512)
        self._provider: CachingProvider = self._caching.__enter__()
        return self._provider

    def __exit__(self, *what: object) -> None:
        self._caching.__exit__(*what)

    def _script(self, ask: Ask) -> Reply:
        self._kill_at(f"ask {ask.number}")
        reply = self._ground.course.script(ask)
        self._kill_at(f"answer {ask.number}")
        return reply

    def _kill_at(self, point: str) -> None:
        if point == self._point:
            self._point = ""
            with suppress(ProcessLookupError):
                os.kill(self._ground.pid, signal.SIGKILL)


# -- a trial ---------------------------------------------------------------------------------------


def kill_plan(ground: Ground, planned: str) -> tuple[Plan, str]:
    """Return what the first process does to itself, or what somebody outside of it does.

    `57:after:alone` is by number, `journal git_fact@2:before:all` the second one; `note test+`,
    `note test+ TERM`, `ask 2`, `answer 2` are from outside.
    """
    log = str(ground.where / "hit")
    if ":" not in planned:
        return Plan("", 0), planned
    place, when, act = planned.rsplit(":", 2)
    if place.isdigit():
        return Plan(log, int(place), act, when), ""
    label, _, number = place.rpartition("@")
    return Plan(log, int(number), act.removesuffix("*"), when, label, act.endswith("*")), ""


def attempt(ground: Ground, planned: str, again: Sequence[str] = ()) -> Trial:
    """Run the course, kill it as planned, resume it (killed again as `again` says), compare."""
    trial, began = Trial(ground.course.name, " ".join([planned, *again])), time.monotonic()
    ground.put_back()
    plan, point = kill_plan(ground, planned)
    met: list[Facts] = []
    with ground.serving(point) as provider:
        code = ground.start(plan, provider)
        later = [kill_plan(ground, one)[0] for one in again]
        failing = plan.act.startswith("E") and code != ground.course.code
        while (code in CUT_OFF or failing) and trial.kills < LIVES:
            failing = False
            trial.kills += 1
            met.append(ground.facts())
            plan = later.pop(0) if later else Plan("")
            code = go_on(ground, trial, plan, provider, met[-1])
        compare(ground, trial, met, provider)
    hit = ground.where / "hit"
    trial.label = "; ".join(hit.read_text().splitlines()) if hit.exists() else point
    trial.seconds = time.monotonic() - began
    return trial


def go_on(ground: Ground, trial: Trial, plan: Plan, provider: CachingProvider, facts: Facts) -> int:
    """Resume, as somebody would who reads what is refused."""
    if not facts.begun:
        return ground.start(plan, provider)
    code = ground.start(plan, provider, "resume")
    if code != 2:
        return code
    said = ground.said
    unsure = re.search(r"--done (\S+), or --again", said)
    if unsure is not None:
        step = unsure[1]
        # Somebody looks at what it should have done.
        flag = "--done" if f"{step}-" in ground.noted() else "--again"
        trial.refused.append(f"may not be safe to repeat: {flag}")
        return ground.start(plan, provider, "resume", flag, step)
    if "is over" in said:
        # Killed after its last event: there is nothing left to do; its report is asked for.
        trial.refused.append("it was over")
        return ground.start(plan, provider, "show", "last")
    trial.refused.append(said.strip())
    trial.wrong.append(f"refused: {said.strip()}")
    return code


def compare(ground: Ground, trial: Trial, met: list[Facts], provider: CachingProvider) -> None:
    """Hold what is there against the undisturbed run and against what was counted outside."""
    left = ground.left()
    if any("--done" in one for one in trial.refused):
        # Taken at somebody's word: it has no attempts of its own.
        left.steps["last"] = ground.undisturbed.steps["last"]
    if left != ground.undisturbed:
        trial.wrong += differences(ground.undisturbed, left)
    if left.code != ground.course.code:
        trial.wrong.append(ground.said[-1500:])
    compare_ledger(ground, trial, met)
    asked = sum(len(facts.asks) for facts in met)
    more = Counter(canonical(ask) for ask in provider.asks) - ground.asked
    twice = [ask for ask, count in more.items() for _ in range(count) if ask in ground.asked]
    if len(twice) > asked:
        trial.paid_twice += [one[-300:] for one in twice[asked:]]
    compare_money(ground, trial, provider, asked)
    trial.wrong += [f"still running: {name}" for name in ground.strays()]


def compare_ledger(ground: Ground, trial: Trial, met: list[Facts]) -> None:
    """Count what commands noted: nothing missing, nothing twice but what was in flight."""
    now = Counter(ground.noted())
    # A check may run less often: what it would have run again for had not changed by then.
    trial.lost += [word for word in ground.ledger if not now[word]]
    # The remote is asked again where it had not taken the push: `post-receive` says that it had.
    allowed = Counter({"pre-receive": len(met)})
    for facts in met:
        texts = [*facts.commands, *facts.ended]
        allowed += Counter({word for text in texts for word in words_in(text)})
    for word in (now - ground.ledger).elements():
        if allowed[word]:
            allowed[word] -= 1
            trial.again.append(word)
        else:
            trial.doubled.append(word)


def compare_money(ground: Ground, trial: Trial, provider: CachingProvider, asked: int) -> None:
    """Nothing that was billed is missing; what was in flight is booked once, at its worst."""
    report = ground.report()
    if report is None or not provider.asks:
        return
    cost, billed = Decimal(str(report["cost_usd"])), provider.usd()
    facts = ground.facts()
    if facts.asks:
        trial.wrong.append(f"requests without an end: {facts.asks}")
    if (not asked and cost != billed) or cost < billed:
        trial.wrong.append(f"cost {cost}, billed {billed}, in flight {asked}")
    if cost > ground.course.budget:
        trial.wrong.append(f"cost {cost} above the budget of {ground.course.budget}")
    mains = [ask.number for ask in provider.asks if ask.model in ground.course.mains]
    for one, other in pairwise(number for number in mains if number in provider.prompts):
        if not provider.extends(one, other):
            trial.wrong.append(f"request {other} does not begin with request {one}")


# -- small parts -----------------------------------------------------------------------------------


def fold(facts: Facts, events: Iterable[dict[str, Any]]) -> None:
    """Sum up what was under way, from the events alone."""
    commands: dict[str, str] = {}
    ended: dict[str, list[str]] = {}
    asks: set[int] = set()
    for event in events:
        step = str(event.get("step", ""))
        match event["type"]:
            case "run_started" | "run_resumed":
                facts.lives += 1
            case "command_started":
                commands[step] = event["command"]
            case "command_finished":
                ended.setdefault(step, []).append(commands.pop(step, ""))
            case "step_finished":
                if event["outcome"]["status"] != "cancelled":
                    ended.pop(event["outcome"]["id"], None)
                    commands.pop(event["outcome"]["id"], None)
            case "model_asked":
                asks.add(event["number"])
            case "model_responded" | "model_refused":
                asks.discard(event.get("number", 0))
            case "run_finished":
                facts.finished = event["exit_code"]
            case _:
                pass
    facts.commands, facts.asks = list(commands.values()), sorted(asks)
    facts.ended = sorted({text for texts in ended.values() for text in texts})


def words_in(command: str) -> list[str]:
    """Return what a command notes, by its text."""
    if "pre-commit" in command:
        return ["hook+", "hook-"]
    checked = re.findall(r"check\.sh (\w+)", command)
    noted = re.findall(r"note ([\w+-]+)", command)
    return noted + [f"{one}{end}" for one in checked for end in "+-"]


def tell(what: object) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def _step(step: dict[str, Any]) -> tuple[str, Any]:
    told = (step["status"], step.get("rung"), step.get("reason"))
    tried = [(one["rung"], one["verdict"]) for one in step["attempts"]]
    # A command that was run again failed again.
    return step["id"], (*told, [one for one, _ in groupby(tried)])


def _plain(text: str) -> str:
    """Return a text without what differs from run to run."""
    text = re.sub(r"\d{8}-\d{6}-[0-9a-f]{4}", "RUN", text)
    return re.sub(r"\b[0-9a-f]{40}\b(?!\s)", "SHA", text)


def tree_of(root: Path) -> dict[str, str]:
    """Return all files with mode and content, but for git's own."""
    found: dict[str, str] = {}
    for path in sorted(root.rglob("*")):
        if ".git" not in path.relative_to(root).parts and not path.is_dir():
            mode = oct(path.lstat().st_mode)
            found[str(path.relative_to(root))] = f"{mode} {path.read_text()}"
    return found


def canonical(ask: Ask) -> str:
    """Return a request without what only tells answers apart: ids go by their first appearance."""
    ids: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return ids.setdefault(found[0], f"id-{len(ids)}")

    return re.sub(r"\b(call|msg)_\d+(_\d+)?\b", named, ask.text)


def differences(expected: Left, got: Left) -> list[str]:
    """Return where the two differ, one line each."""
    pairs = ((name, value, asdict(got)[name]) for name, value in asdict(expected).items())
    return [
        f"{name}: expected {str(_but(one, other))[:400]}, got {str(_but(other, one))[:400]}"
        for name, one, other in pairs
        if one != other
    ]


def _but(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        mine = cast("dict[str, Any]", one)
        return {key: value for key, value in mine.items() if other.get(key) != value}
    if isinstance(one, list):
        return [value for value in cast("list[Any]", one) if value not in other]
    return one


def _breaks(report: dict[str, Any]) -> list[Any]:
    prefix: dict[str, Any] = report.get("prefix") or {}
    return prefix.get("breaks", [])


# -- which points ----------------------------------------------------------------------------------


def every_kill(ground: Ground) -> list[str]:
    """Return all kills of a course: at each point before and after, alone or with all children."""
    rng = random.Random(ground.course.name)
    kills = [
        f"{number}:{when}:{rng.choice(('alone', 'all'))}"
        for number in range(1, len(ground.points) + 1)
        for when in ("before", "after")
    ]
    return [*kills, *ground.outside]


def further_kill(ground: Ground, rng: random.Random) -> str:
    """Return a kill of a resuming process; one beyond the end of what it does is none."""
    at = rng.randint(1, max(1, len(ground.points) // 3))
    return f"{at}:{rng.choice(('before', 'after'))}:{rng.choice(('alone', 'all'))}"


def spread(kills: Sequence[str], every: int, seed: int = 1) -> list[str]:
    """Return each n-th of them, from a place that the seed tells, in an order that it tells."""
    chosen = list(kills[seed % every :: every])
    random.Random(seed).shuffle(chosen)
    return chosen


# -- by hand ---------------------------------------------------------------------------------------


def work(names: Sequence[str], given: argparse.Namespace) -> None:
    """Try the kills of one part of all, each printed as a line of JSON."""
    zygote, rng = Zygote(), random.Random(given.seed)
    part, of = map(int, given.part.split("/"))
    with tempfile.TemporaryDirectory(prefix="crashes-") as name:
        grounds = [Ground(COURSES[course], Path(name).resolve(), zygote) for course in names]
        kills: list[tuple[Ground, str]] = []
        for ground in grounds:
            own = spread(every_kill(ground), given.every, given.seed)
            kills += [(ground, planned) for planned in own]
            tell(json.dumps({"course": ground.course.name, "points": ground.size}))
        random.Random(given.seed).shuffle(kills)
        until = time.monotonic() + given.seconds
        for count, (ground, planned) in enumerate(kills[part::of]):
            if time.monotonic() > until:
                break
            again = [further_kill(ground, rng) for _ in range(count % (given.again + 1))]
            tell(json.dumps(asdict(attempt(ground, planned, again))))
    zygote.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("course", nargs="?", choices=[*COURSES], help="only this one")
    parser.add_argument(
        "kill", nargs="*", help="57:after:alone, or `note WORD`, `ask 2`, `answer 2`"
    )
    parser.add_argument("--zygote", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    parser.add_argument("--all", action="store_true", help="every point, before and after")
    parser.add_argument("--every", type=int, default=0, metavar="N", help="each n-th of them")
    parser.add_argument("--seconds", type=float, default=1e6, metavar="S", help="stop after these")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--again",
        type=int,
        default=1,
        metavar="N",
        help="kill up to N times more while it is resumed: the first run never, the next once (1)",
    )
    parser.add_argument("-j", dest="jobs", type=int, default=1)
    parser.add_argument("--log", default="", metavar="FILE", help="append each trial, as JSON")
    parser.add_argument("--points", action="store_true", help="print the points of a course")
    given = parser.parse_args()
    names = [given.course] if given.course else [*COURSES]
    if given.zygote:
        return serve()
    if given.part:
        return work(names, given)
    if given.points or given.kill:
        return _one(COURSES[names[0]], given.kill)
    return _many(names, given)


def _one(course: Course, kill: list[str]) -> None:
    zygote = Zygote()
    with tempfile.TemporaryDirectory(prefix="crashes-") as name:
        ground = Ground(course, Path(name).resolve(), zygote)
        if not kill:
            for number, label in enumerate(ground.points, 1):
                tell(f"{number} {label}")
            tell("\n".join(ground.outside))
            return
        trial = attempt(ground, kill[0], kill[1:])
        tell(json.dumps(asdict(trial), indent=1))
        tell(ground.said)
    zygote.close()


def _many(names: Sequence[str], given: argparse.Namespace) -> None:
    """Share the work among processes; print what is wrong as it comes, then the table."""
    argv = [sys.executable, __file__, *([given.course] if given.course else [])]
    argv += ["--every", str(given.every or 1), "--seed", str(given.seed)]
    argv += ["--again", str(given.again), "--seconds", str(given.seconds)]
    workers = [
        subprocess.Popen(
            [*argv, "--part", f"{one}/{given.jobs}"], stdout=subprocess.PIPE, text=True
        )
        for one in range(given.jobs)
    ]
    trials: list[Trial] = []
    points: dict[str, int] = {}
    for worker in workers:
        assert worker.stdout is not None
        for line in worker.stdout:
            told = json.loads(line)
            if "points" in told:
                points[told["course"]] = told["points"]
                continue
            trials.append(Trial(**told))
            if given.log:
                with Path(given.log).open("a") as log:
                    log.write(line)
            if trials[-1].bad:
                tell(f"{trials[-1].course} {trials[-1].planned} ({trials[-1].label})")
                for one in trials[-1].bad:
                    tell(f"    {one}")
        worker.wait()
    tell(table(names, points, trials))


def table(names: Sequence[str], points: dict[str, int], trials: Sequence[Trial]) -> str:
    """Return the table for the notes."""
    lines = [
        "| course | points | runs | kills | again | lost | doubled | paid 2x | refused | other |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name in [*names, ""]:
        own = [one for one in trials if name in ("", one.course)]
        total = [points.get(name, 0) if name else sum(points.values()), len(own)]
        total += [sum(one.kills for one in own)]
        for what in ("again", "lost", "doubled", "paid_twice", "refused", "wrong"):
            total.append(sum(bool(getattr(one, what)) for one in own))
        lines.append(f"| {name or 'all'} | {' | '.join(map(str, total))} |")
    why = Counter(reason for one in trials for reason in one.refused)
    lines += ["", *(f"refused {count} times: {reason}" for reason, count in why.items())]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
