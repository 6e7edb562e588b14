"""Concurrent subagents under a budget, against a provider that keeps its own books.

Each schedule is drawn from a seed: who asks whom, what the provider does to each request, who is
cancelled when. The provider bills every request that it took, whatever became of the answer, by
prices typed in by hand; what it refused with an error of its own it does not bill.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import cycle
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from provider import Answer, Ask, Call, Fault, Reply, Tokens, serving
from pydantic import BaseModel
from pydantic_ai import Agent, ToolOutput
from pydantic_ai.usage import UsageLimits

from runner.events import ModelResponded
from runner.models import Asking, Models, error_ending
from runner.models.transport import RequestLimits
from runner.money import OverBudgetError, Purse, Worst
from runner.plan import Price
from runner.plan import Provider as Declared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.events import Event

OPUS = "anthropic:claude-opus-5-5"
CHEAP = ("anthropic:claude-haiku-5-5", "openai:gpt-6-luna", "openai-chat:gpt-6-luna", "local:qwen")
LOCAL = {
    "local:*": Price(Decimal(1), Decimal(3), Decimal("0.5"), Decimal("1.5")),
    # The table is not asked about a server that is not OpenAI's own.
    "openai-chat:*": Price(
        Decimal("0.10"), Decimal("0.50"), Decimal("0.01"), Decimal("0.125"), Decimal("0.125")
    ),
}
BY_HAND = {
    # USD for a million: input, read, written for 5 minutes, written for 1 hour, output.
    "claude-opus-5-5": ("4", "0.20", "5", "8", "20"),
    "claude-haiku-5-5": ("0.10", "0.01", "0.125", "0.20", "0.50"),
    "gpt-6-luna": ("0.10", "0.01", "0.125", "0.125", "0.50"),
    "qwen": ("1", "0.5", "1.5", "1.5", "3"),
}
LIMITS = RequestLimits(
    tries=3, try_seconds=0.4, total_seconds=3, first_wait=0.004, longest_wait=0.05
)
LONGEST = 8_000
AT_ONCE = 6
"""Schedules that run at the same time, for most of each is waiting."""

REFUSED = {
    "429": Fault(429, headers={"retry-after-ms": "5"}),
    "529": Fault(529, headers={"retry-after": "0"}),
    "500": Fault(500),
}
BROKEN = {
    "reset": Fault(break_off="reset"),
    "half a body": Fault(200, {"x": "y" * 90}, break_off="half"),
    "hang": Fault(break_off="hang", seconds=0.6),
    "gateway": Fault(502, b"<html>bad gateway</html>"),
    "timed out": Fault(504),
    "garbled": Fault(200, b"<html>welcome</html>"),
    "half a stream": Fault(
        200,
        b"event: ping\ndata: {}\n\n" * 30,
        {"content-type": "text/event-stream"},
        break_off="half",
    ),
}
MISREPORTED = ("missing", "negative", "cached > input", "no output", "no input")
NORMAL = "answered"


class Done(BaseModel):
    summary: str


@dataclass
class Bill:
    """What the provider charges one schedule."""

    usd: Decimal = Decimal(0)
    tokens: int = 0
    huge: Decimal = Decimal(0)
    """Part of `usd` for requests that it billed beyond what is possible."""


@dataclass
class Books:
    """The provider: what it does to each request, and what it bills whom."""

    seed: int
    bills: dict[str, Bill] = field(default_factory=dict[str, Bill])
    plans: dict[str, Plan] = field(default_factory=dict[str, "Plan"])
    counts: Counter[str] = field(default_factory=Counter[str])
    _troubles: Iterator[str] = field(
        default_factory=lambda: cycle([*REFUSED, *list(BROKEN)[:-1], *MISREPORTED])
    )

    def __call__(self, ask: Ask) -> Reply:
        key = ask.headers["authorization"].removeprefix("Bearer ")
        plan, rng = self.plans[key], Random(f"{self.seed} {ask.number}")
        kind = self._kind(plan, rng, stream=bool(ask.body.get("stream")))
        self.counts[kind] += 1
        self.counts["somebody waited for money"] += any(purse.line for purse in plan.purses)
        longest = longest_answer(ask)
        self.counts["shortened"] += longest < LONGEST
        if kind in REFUSED:
            return REFUSED[kind]
        true = count(ask, rng, plan)
        bill = self.bills.setdefault(key, Bill())
        if kind == "huge":
            true = Tokens(5_000_000, output=true.output)
            bill.huge += cost(ask.model, true)
        bill.usd += cost(ask.model, true)
        bill.tokens += true.input + true.output
        return BROKEN[kind] if kind in BROKEN else answer(rng, report(kind, true))

    def _kind(self, plan: Plan, rng: Random, *, stream: bool) -> str:
        """What happens to a request; all kinds of trouble in turn, so that none is left out."""
        if rng.random() < plan.huge:
            return "huge"
        if stream and rng.random() < plan.trouble / 3:
            return "half a stream"
        return next(self._troubles) if rng.random() < plan.trouble else NORMAL


def longest_answer(ask: Ask) -> int:
    """The longest answer that the request asks for."""
    names = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    (longest,) = [ask.body[name] for name in names if name in ask.body]
    return int(longest)


def count(ask: Ask, rng: Random, plan: Plan) -> Tokens:
    """Count what a request really takes: at most a token for a byte, and what nobody sees."""
    whole = plan.unseen + int(len(ask.raw) * plan.tokens_per_byte)
    output = rng.choice((1, longest_answer(ask), rng.randint(1, longest_answer(ask))))
    if ask.api == "anthropic" and '"cache_control"' not in ask.text:
        return Tokens(whole, output=output)
    read = rng.choice((0, rng.randint(0, whole)))
    written = rng.choice((whole - read, rng.randint(0, whole - read)))
    hour = written if '"ttl":"1h"' in ask.text else 0
    return Tokens(whole, read, written, hour, output)


def cost(model: str, tokens: Tokens) -> Decimal:
    """Price by hand."""
    plain, read, write, hour, output = map(Decimal, BY_HAND[model])
    total = plain * (tokens.input - tokens.cache_read - tokens.cache_write)
    total += read * tokens.cache_read + hour * tokens.cache_write_1h + output * tokens.output
    total += write * (tokens.cache_write - tokens.cache_write_1h)
    return total / 1_000_000


def report(kind: str, true: Tokens) -> Tokens | None:
    """What the provider says, which is not always what it bills."""
    match kind:
        case "missing":
            return None
        case "negative":
            return Tokens(-true.input, output=true.output)
        case "cached > input":
            return Tokens(10, cache_read=true.input + 10, output=true.output)
        case "no output":
            return Tokens(true.input, output=0)
        case "no input":
            return Tokens(0, output=true.output)
        case _:
            return true


def answer(rng: Random, tokens: Tokens | None) -> Answer:
    call = Call("done", {"summary": "ok"})
    if rng.random() < 0.6:
        call = Call("look", {"path": "x" * rng.choice((1, 50, 2_000))})
    return Answer(rng.choice(("", "I see.")), (call,), tokens, delay=rng.choice((0, 0, 0.01, 0.04)))


@dataclass
class Plan:
    """One schedule, drawn from its seed."""

    seed: int
    rng: Random = field(init=False)
    purses: list[Purse] = field(init=False)
    """The run's, then the steps'."""
    rows: list[ModelResponded] = field(default_factory=list[ModelResponded])
    results: Counter[str] = field(default_factory=Counter[str])

    def __post_init__(self) -> None:
        rng = self.rng = Random(self.seed)
        self.budget = Decimal(str(round(0.02 * 50 ** rng.random(), 6)))
        self.max_tokens = rng.choice((None, None, None, rng.randint(5_000, 60_000)))
        self.tokens_per_byte = rng.choice((0.1, 0.25, 0.9, 1.0))
        self.unseen = rng.choice((0, 300, 1_000))
        self.trouble = rng.choice((0.0, 0.3, 0.6))
        self.huge = 0.3 if self.seed % 8 == 0 else 0.0
        back = self.budget * rng.choice((0, 0, 3, 5)) / 10
        run = Purse("run", usd=self.budget, tokens=self.max_tokens, keep_back=back)
        shares = [rng.choice((None, self.budget, self.budget / 2, self.budget / 5)) for _ in "abc"]
        steps = [Purse(f"s{n}", usd=share, parent=run) for n, share in enumerate(shares)]
        self.purses = [run, *steps]
        self.agents = rng.randint(2, 8)
        self.deadline = 60.0 if self.huge else rng.choice((60.0,) * 4 + (rng.uniform(0.1, 0.8),))

    async def run(self, environ: dict[str, str]) -> None:
        """Let all agents work at once, until they end or the schedule is cancelled."""
        key = f"key-{self.seed}"
        keys = {"ANTHROPIC_API_KEY": key, "OPENAI_API_KEY": key, "LOCAL_KEY": key}
        environ = {**environ, **keys}
        local = Declared("local", environ["OPENAI_BASE_URL"], key_env="LOCAL_KEY")

        def emit(event: Event) -> None:
            if isinstance(event, ModelResponded):
                self.rows.append(event)

        models = Models(
            purse=self.purses[0],
            emit=emit,
            providers={"local": local},
            environ=environ,
            prices=LOCAL,
            limits=LIMITS,
        )
        async with models:
            with anyio.move_on_after(self.deadline) as scope:
                async with anyio.create_task_group() as tasks:
                    for number in range(self.agents):
                        tasks.start_soon(self._one, models, number)
            self.results["schedule cancelled"] += scope.cancelled_caught

    async def _one(self, models: Models, number: int) -> None:
        rng = Random(f"{self.seed} agent {number}")
        main = number == 0
        purse = self.purses[0] if main else rng.choice(self.purses[1:])
        model = models.open(
            "main" if main else "cheap",
            OPUS if main else rng.choice(CHEAP),
            conversation=f"c{number}",
            asking=lambda: Asking(purse.name, 1, purse),
            main=main,
        )
        agent = Agent(model, output_type=ToolOutput(Done, name="done"), instructions="Be good.")

        @agent.tool_plain
        def look(path: str) -> str:  # pyright: ignore[reportUnusedFunction]
            return path * 2

        await anyio.sleep(rng.choice((0, 0, 0.02)))
        seconds = rng.choice((60.0, 60.0, rng.uniform(0.03, 0.8)))
        with anyio.move_on_after(seconds) as scope:
            try:
                await self._work(agent, rng, main=main)
            except Exception as error:  # noqa: BLE001  every ending is counted
                self.results[type(error_ending(error)).__name__] += 1
                self.results["kept back"] += getattr(error, "kept_back", False)
        self.results["agent cancelled"] += scope.cancelled_caught

    async def _work(self, agent: Agent[None, Done], rng: Random, *, main: bool) -> None:
        limits = UsageLimits(request_limit=rng.randint(1, 6))
        settings: Any = {"cache": "1h" if main else rng.choice((True, False))}
        text = "Mend it. " * rng.choice((1, 100, 300))
        if rng.random() > 0.4:
            await agent.run(text, usage_limits=limits, model_settings=settings)
            return
        asked = agent.run_stream(text, usage_limits=limits, model_settings=settings)
        async with asked as streamed:
            self.results["stream"] += 1
            if rng.random() < 0.5:
                await streamed.get_output()

    def check(self, bill: Bill) -> Decimal:
        """Compare the books; return by how much the bill is above the budget, mostly below 0."""
        run = self.purses[0]
        what = f"schedule {self.seed}"
        for purse in self.purses:
            assert (purse.reserved, purse.reserved_tokens, purse.line) == (0, 0, []), what
        assert sum((row.cost_usd or Decimal(0) for row in self.rows), Decimal(0)) == run.spent, what
        assert run.spent >= bill.usd - bill.huge, what
        # Of an answer that was lost on its way nobody knows how much it will be billed at.
        assert bill.huge > 0 or not run.disputed, what
        for purse in self.purses[1:]:
            assert run.disputed or purse.usd is None or purse.spent <= purse.usd, what
        if run.tokens is not None and not bill.huge:
            assert bill.tokens <= run.spent_tokens <= run.tokens, what
        assert run.disputed or run.spent <= self.budget, what
        return bill.usd - bill.huge - self.budget


async def play(seeds: range) -> list[str]:
    """Play schedules; return what happened, as lines to print."""
    began, books = time.perf_counter(), Books(seeds.start)
    plans = [Plan(seed) for seed in seeds]
    books.plans = {f"key-{plan.seed}": plan for plan in plans}
    with serving(books) as provider:
        limiter = anyio.CapacityLimiter(AT_ONCE)

        async def one(plan: Plan) -> None:
            async with limiter:
                await plan.run(provider.environ())

        async with anyio.create_task_group() as tasks:
            for plan in plans:
                tasks.start_soon(one, plan)
        # A request that was cancelled on its way may arrive late; it is billed like any other.
        await anyio.sleep(0.2)
    over = max(plan.check(books.bills.get(key, Bill())) for key, plan in books.plans.items())
    for plan in plans:
        if plan.purses[0].disputed:
            with pytest.raises(OverBudgetError, match="more usage than is possible"):
                await plan.purses[0].reserve(Worst(Decimal(0)), kept=True)
    happened = sum((plan.results for plan in plans), books.counts)
    rows = [row for plan in plans for row in plan.rows]
    happened["booked at the worst case"] = sum(not row.usage.input_tokens for row in rows)
    happened["disputed"] = sum(plan.purses[0].disputed for plan in plans)
    assert over <= 0, f"overspent by {over}"
    missing = [kind for kind in EXPECTED if not happened[kind]]
    assert not missing, f"never happened: {missing}"
    seconds = time.perf_counter() - began
    return [
        f"{len(plans)} schedules, {len(provider.asks)} requests, {len(rows)} rows of the ledger, "
        f"{seconds:.0f} s",
        f"greatest overspend: {max(over, Decimal(0))} USD",
        *(f"  {kind}: {happened[kind]}" for kind in sorted(happened) if happened[kind]),
    ]


EXPECTED = {
    *REFUSED,
    *BROKEN,
    *MISREPORTED,
    NORMAL,
    "huge",
    "disputed",
    "shortened",
    "somebody waited for money",
    "agent cancelled",
    "schedule cancelled",
    "kept back",
    "OverBudget",
    "Exhausted",
    "Unavailable",
    "stream",
    "booked at the worst case",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Failed to extract usage")
async def test_no_schedule_overspends() -> None:
    show(await play(range(40)))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:Failed to extract usage")
async def test_no_schedule_of_a_thousand_overspends(capsys: pytest.CaptureFixture[str]) -> None:
    lines = await play(range(1_000, 2_000))
    with capsys.disabled():
        show(lines)


def show(lines: list[str]) -> None:
    """Tell a reader of the test's output what happened."""
    sys.stdout.write("\n".join(["", *lines, ""]))
