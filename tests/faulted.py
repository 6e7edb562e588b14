"""Runs the table of `faults.py`, and random sequences of it, and holds the runs to their promises.

    python tests/faulted.py [VENDOR ...]               # prints the table as Markdown
    python tests/faulted.py --seeds 2000 [--first N]   # prints each seed that broke a promise

Each case is a run of a workflow with one failing step in a small repository, asked through a
vendor's real client over loopback. `broken_promises` says what no fault may do, whatever it is.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
from faults import CANNOT, CASES, DONE_ONLY, EDIT, LOOK, MEND, VENDORS, saying
from provider import Answer, Fault, Tokens, serving

from runner.api import execute, execute_again
from runner.events import (
    AttemptFinished,
    AttemptStarted,
    ModelAsked,
    ModelRefused,
    ModelResponded,
    RunResumed,
    StepStarted,
    ToolCalled,
)
from runner.outcome import Verdict
from runner.plan import Options, Price, Provider, ResumeOptions
from runner.report import can_resume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from faults import Case, Class, Vendor
    from provider import Ask, Reply

    from runner.events import Event, Sink
    from runner.report import Report

MODELS: Mapping[Vendor, tuple[str, str]] = {
    # cheap, main; chat is that of a server which the user declared
    "anthropic": ("anthropic:claude-haiku-5-5", "anthropic:claude-opus-5-5"),
    "responses": ("openai:gpt-6-luna", "openai:gpt-6.1-sol"),
    "chat": ("local:small", "local:big"),
    "google": ("google:gemini-3.5-flash-lite", "google:gemini-3.8-pro"),
}
MAIN_NAMES = frozenset(main.partition(":")[2] for _, main in MODELS.values())
PRICE = Price(Decimal(1), Decimal(5))
"""For all models alike, so that the provider's bill can be reckoned here."""
BUDGET = Decimal(3)
CODES: Mapping[Class, int] = {"passed": 0, "hard": 1, "infra": 6, "money": 3}
VERDICTS: Mapping[Class, Verdict] = {
    "passed": Verdict.PASSED,
    "hard": Verdict.HARD,
    "infra": Verdict.INFRA,
    "money": Verdict.CANCELLED,
}
BROKEN = "def add(a, b):\n    return a - b\n"
MENDED = BROKEN.replace("-", "+")
FAILING = {"test", "one", "two", "three"}
CHECK = "grep -q 'a + b' calc.py || { echo 'calc.py:2:5: error: it does not add'; exit 1; }"


def workflow(*steps: str, seconds: float | None = None) -> str:
    """Return a workflow of steps that all fail for the same reason."""
    limit = f", seconds: {seconds}" if seconds else ""
    text = f"name: faults\nbudget: {{ usd: {BUDGET}, time: 4m }}\nsteps:\n"
    for step in steps or ("test",):
        text += f"""\
  - id: {step}
    needs: []
    run: |
      {CHECK}
    fix: {{ agent: fixer, attempts: 1, turns: 6{limit} }}
    escalate: {{ max: 1 }}
"""
    return text


# -- runs ----------------------------------------------------------------------------------------


@dataclass
class World:
    """A repository with one defect, in the middle of somebody's work, and runs in it."""

    where: Path
    vendor: Vendor
    events: list[Event] = field(default_factory=list["Event"])
    asks: list[tuple[Ask, Reply]] = field(default_factory=list["tuple[Ask, Reply]"])

    def __post_init__(self) -> None:
        shutil.copytree(template(self.where.parent), self.where)
        self.before = self.look()

    @property
    def root(self) -> Path:
        return self.where / "repo"

    def look(self) -> dict[str, bytes]:
        """Return all files of the tree, the index and the refs."""
        found = {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file() and ".git" not in path.parts
        }
        inner = self.root / ".git"
        refs = [inner / "HEAD", inner / "index", *(inner / "refs").rglob("*")]
        return found | {str(path): path.read_bytes() for path in refs if path.is_file()}

    def hearing(self, script: Callable[[Ask], Reply]) -> Callable[[Ask], Reply]:
        def hear(ask: Ask) -> Reply:
            reply = script(ask)
            self.asks.append((ask, reply))
            return reply

        return hear

    async def run(
        self,
        text: str,
        environ: Mapping[str, str],
        *,
        usd: Decimal | None = None,
        watch: Sink = lambda _: None,
    ) -> Report:
        (self.where / "workflow.yaml").write_text(text)
        cheap, main = MODELS[self.vendor]
        served = Provider("local", environ["OPENAI_BASE_URL"])
        return await execute(
            self.where / "workflow.yaml",
            options=Options(
                models={"cheap": cheap, "main": main},
                providers={"local": served},
                prices={cheap: PRICE, main: PRICE},
                budget_usd=usd,
                state_dir=self.where / "state",
                allow_uncommitted=True,
            ),
            cwd=self.root,
            sinks=[self.events.append, watch],
            environ=_environ(environ),
        )

    async def resume(self, environ: Mapping[str, str]) -> Report:
        return await execute_again(
            options=ResumeOptions(state_dir=self.where / "state"),
            cwd=self.root,
            sinks=[self.events.append],
            environ=_environ(environ),
        )

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


def template(where: Path) -> Path:
    """Make the repository that all worlds below a directory begin as, once."""
    made = where / "template"
    repo = made / "repo"
    if not made.exists():
        repo.mkdir(parents=True)
        git = partial(subprocess.run, cwd=repo, check=True, capture_output=True)
        git(["git", "init", "-q"])
        (repo / "calc.py").write_text(BROKEN)
        (repo / "notes.md").write_text("one\ntwo\n")
        git(["git", "add", "-A"])
        who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
        git(["git", *who, "commit", "-q", "-m", "start"])
        (repo / "notes.md").write_text("one\nstaged\n")
        git(["git", "add", "notes.md"])
        (repo / "notes.md").write_text("one\nstaged\nand more\n")
        (repo / "draft.txt").write_text("untracked\n")
    return made


def _environ(provider: Mapping[str, str]) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, **provider, "OTEL_SDK_DISABLED": "true", "SUBRUNNER_SANDBOX": "off"}


@dataclass(frozen=True)
class Played:
    """One case, run to its end."""

    case: Case
    vendor: Vendor
    world: World
    report: Report
    seconds: float

    @property
    def problems(self) -> list[str]:
        """Say what is not as the table and the promises have it; nothing when all is well."""
        case, report = self.case, self.report
        attempt = next(a for a in report.steps[0].attempts if a.rung == "subagent")
        asks = [ask for ask, _ in self.world.asks if ask.model not in MAIN_NAMES]
        unknown = [row for row in self.world.of(ModelResponded) if row.unknown]
        found = {
            "exit code": (report.exit_code, CODES[case.ends]),
            "verdict": (attempt.verdict, VERDICTS[case.ends]),
            "requests": (len(asks), case.asks),
            "rows at worst case": (len(unknown), case.unknown),
            "asked main": (len(asks) < len(self.world.asks), case.ends == "hard"),
            "resumable": (
                can_resume(report.status, report.exit_code),
                case.ends in {"infra", "money"},
            ),
        }
        wrong = [
            f"{what}: {is_}, not {to_be}" for what, (is_, to_be) in found.items() if is_ != to_be
        ]
        if not re.search(case.words, attempt.reason):
            wrong.append(f"reason {attempt.reason!r} lacks {case.words!r}")
        if wrong:
            wrong.append(f"the attempt: {attempt}")
        return [*wrong, *broken_promises(self.world, report)]


async def play(case: Case, vendor: Vendor, where: Path) -> Played:
    """Run a case in a new world."""
    case, world = case.at(vendor), World(where, vendor)
    given = iter(range(len(case.replies) - 1))

    def script(ask: Ask) -> Reply:
        return CANNOT if ask.model in MAIN_NAMES else case.replies[next(given, -1)]

    began = time.monotonic()
    with serving(world.hearing(script)) as provider, anyio.fail_after(100):
        report = await world.run(workflow(seconds=case.seconds), provider.environ())
    return Played(case, vendor, world, report, time.monotonic() - began)


async def play_all(
    chosen: Iterable[tuple[Case, Vendor]], where: Path, most: int = 8
) -> list[Played]:
    """Run many cases, some at once: who waits for a provider needs no processor."""
    slots, done = anyio.CapacityLimiter(most), dict[int, Played]()

    async def one(number: int, case: Case, vendor: Vendor) -> None:
        async with slots:
            done[number] = await play(case, vendor, where / f"case-{number}")

    async with anyio.create_task_group() as tasks:
        for number, (case, vendor) in enumerate(chosen):
            tasks.start_soon(one, number, case, vendor)
    return [done[number] for number in sorted(done)]


# -- promises ------------------------------------------------------------------------------------


def broken_promises(world: World, report: Report, budget: Decimal = BUDGET) -> list[str]:
    """Say what was broken of that which holds whatever a provider does."""
    money = _of_money(world, report, budget)
    return [*_of_tree(world, report), *money, *_of_order(world)]


def _of_tree(world: World, report: Report) -> Iterator[str]:
    now = world.look()
    # Each of the steps has the same defect before it.
    mended = any(step.status == "succeeded" for step in report.steps if step.id in FAILING)
    if mended:
        mended_calc = now.pop("calc.py") == MENDED.encode()
        now.pop("new.txt", None)
        if not mended_calc:
            yield "it is said to be mended, and is not"
    before = {path: was for path, was in world.before.items() if not (mended and path == "calc.py")}
    if now != before:
        differ = {path for path in {*now, *before} if now.get(path) != before.get(path)}
        yield f"the tree is not as before: {sorted(differ)}"


def _of_money(world: World, report: Report, budget: Decimal) -> Iterator[str]:
    asked: list[ModelAsked] = world.of(ModelAsked)
    rows: list[ModelResponded] = world.of(ModelResponded)
    ends = Counter(e.number for e in world.events if isinstance(e, ModelResponded | ModelRefused))
    if ends != Counter(one.number for one in asked):
        yield f"requests {[one.number for one in asked]} ended as {sorted(ends.elements())}"
    spent = sum((row.cost_usd or Decimal(0) for row in rows), Decimal(0))
    billed = sum((bill(reply) for _, reply in world.asks), Decimal(0))
    if not billed <= spent:
        yield f"the provider bills {billed}, the ledger has {spent}"
    absurd = any(bill(reply) > BUDGET for _, reply in world.asks)
    if spent > budget and not absurd:
        yield f"{spent} is spent, of {budget}"
    if report.cost_usd is None or abs(report.cost_usd - spent) > Decimal("0.000001"):
        yield f"the report says {report.cost_usd}, the ledger {spent}"
    worst = {one.number: one.worst_usd for one in asked}
    for row in rows:
        if row.unknown and row.cost_usd != worst[row.number]:
            yield f"request {row.number} is unknown and counts {row.cost_usd}"
    known = Counter(str(row.cost_usd) for row in rows if not row.unknown)
    answers = Counter(str(bill(reply)) for _, reply in world.asks if isinstance(reply, Answer))
    if known - answers:
        yield f"known costs {known} are not those of {answers}"


def bill(reply: Reply) -> Decimal:
    """Return what the provider charges for a reply, which tells so or not."""
    tokens = Tokens()
    if isinstance(reply, Fault):
        # Whose connection broke, and who sent nonsense, did the work for all one knows.
        if 400 <= reply.status < 500 and reply.status != 408:
            return Decimal(0)
        if reply.status >= 500 and reply.status != 504 and reply.body is None:
            return Decimal(0)
    elif reply.tokens is not None and reply.tokens.input > 0:
        tokens = reply.tokens
    return (tokens.input * PRICE.input + tokens.output * PRICE.output) / 1_000_000


def _of_order(world: World) -> Iterator[str]:
    """After a fault of the provider nobody is asked and nothing begins, but what runs goes on."""
    over = False
    for event in world.events:
        match event:
            case AttemptFinished(attempt=attempt):
                over = over or attempt.verdict is Verdict.INFRA
            case RunResumed():
                over = False
            case AttemptStarted() | ModelAsked() | StepStarted() | ToolCalled() if over:
                yield f"after the end: {event}"
            case _:
                pass


def children() -> list[str]:
    """Return the processes that this one started and that are still there."""
    tasks = Path("/proc/self/task").iterdir()
    found = [pid for task in tasks for pid in (task / "children").read_text().split()]
    return [Path(f"/proc/{pid}/cmdline").read_bytes().decode() for pid in found]


# -- random sequences ----------------------------------------------------------------------------

_EVERY = tuple(case for case in CASES if case.seconds is None)
_QUICK = tuple(case for case in _EVERY if not case.patient)


def random_script(seed: int) -> Callable[[Ask], Reply]:
    """Make both models say anything from the table, good answers as often as faults."""

    def script(ask: Ask) -> Reply:
        chance = Random(f"{seed}:{ask.number}")
        if chance.random() < 0.5:
            return chance.choice((MEND, LOOK, LOOK, saying(EDIT), DONE_ONLY, CANNOT))
        case = chance.choice(_EVERY if chance.random() < 0.1 else _QUICK)
        return case.replies[0]

    return script


async def play_seed(seed: int, where: Path) -> list[str]:
    """Run a random sequence, resume it while it can be resumed, and say which promises it broke."""
    chance = Random(f"world {seed}")
    world = World(where / f"seed-{seed}", chance.choice(VENDORS))
    budget = chance.choice((Decimal("0.08"), Decimal("0.3"), BUDGET))
    wrong: list[str] = []
    with serving(world.hearing(random_script(seed))) as provider, anyio.fail_after(100):
        report = await world.run(workflow("one", "two"), provider.environ(), usd=budget)
        for _ in range(3):
            wrong += broken_promises(world, report, budget)
            if report.exit_code != 6:
                break
            report = await world.resume(provider.environ())
    if report.exit_code not in {0, 1, 3, 6}:
        wrong.append(f"exit code {report.exit_code}")
    shutil.rmtree(world.where)
    return [f"seed {seed} ({world.vendor}, {budget}): {one}" for one in wrong]


async def play_seeds(seeds: Sequence[int], where: Path, most: int = 8) -> list[str]:
    """Run many seeds, some at once; return what was broken."""
    slots, wrong = anyio.CapacityLimiter(most), list[str]()

    async def one(seed: int) -> None:
        async with slots:
            wrong.extend(await play_seed(seed, where))

    async with anyio.create_task_group() as tasks:
        for seed in seeds:
            tasks.start_soon(one, seed)
    return wrong


# -- by hand -------------------------------------------------------------------------------------


def main() -> int:
    """Print the table, or the seeds that broke a promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("vendors", nargs="*", help=f"of {', '.join(VENDORS)}; all by default")
    parser.add_argument("--seeds", type=int, default=0, help="run so many random sequences instead")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # libraries complain of the nonsense that they are sent
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        where = Path(scratch)
        if given.seeds:
            seeds = range(given.first, given.first + given.seeds)
            wrong = anyio.run(play_seeds, seeds, where)
            _say(*wrong, f"{given.seeds} seeds, {len(wrong)} promises broken")
            return bool(wrong)
        named = Counter[str](given.vendors or VENDORS)
        chosen = [one for one in product(CASES, VENDORS) if named[one[1]]]
        return _print(anyio.run(play_all, chosen, where))


def _print(played: Sequence[Played]) -> int:
    rows: dict[tuple[str, ...], list[str]] = {}
    for one in played:
        case = one.case
        asks = sum(ask.model not in MAIN_NAMES for ask, _ in one.world.asks)
        row = (case.name, case.ends, str(one.report.exit_code), str(asks), str(case.unknown))
        rows.setdefault((*row, "; ".join(one.problems)), []).append(one.vendor)
    lines = ["| fault | class | exit code | requests | at worst case | vendors | problems |"]
    lines.append("| --- " * 7 + "|")
    for (*row, problems), vendors in rows.items():
        said = "all" if len(vendors) == len(VENDORS) else ", ".join(vendors)
        lines.append(f"| {' | '.join((*row, said, problems))} |")
    wrong = sum(bool(one.problems) for one in played)
    spent = sum((one.report.cost_usd or Decimal(0) for one in played), Decimal(0))
    runs = f"{len(played)} runs of {len(CASES)} faults, {wrong} with problems; ${spent} booked"
    _say(*lines, "", runs)
    return bool(wrong)


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
