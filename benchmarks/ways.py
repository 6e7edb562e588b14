"""Does the same mechanical work in one of three ways, against the server that counts caches."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import CachePoint
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIResponsesModel, OpenAIResponsesModelSettings
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits

from runner import Options
from runner.api import execute

# The server is the tests' own; under pytest they are on the path already.
sys.path.append(str(Path(__file__).parent.parent / "tests"))

from cacheserver import HAND_PRICES, MILLION, caching
from chores import (
    Chores,
    Player,
    at_once,
    filler,
    is_fresh,
    main_agent,
    make_repository,
    one_by_one,
    still_failing,
    subagent,
    tree_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cacheserver import Bill, CachingProvider
    from provider import Answer, Ask
    from pydantic_ai.messages import ModelMessage, UserContent
    from pydantic_ai.models import Model

Way = Literal["inline", "at once", "switch", "switch 1h", "runner off", "runner"]
RUNNERS = frozenset({"runner", "runner off"})
INSTRUCTIONS = "You are a coding agent. You work in the repository with your tools; you say little."
OPENING = "Read all chapters below docs, then say that you have."
WORK = "Check each part by `sh script/check PART`: {}. Where it fails, mend its file below src."
REST = "Mend what still fails: {}."
NEXT = "Say in one sentence what comes next."
SPEED = 60
"""Seconds on the server's clock in one real second, where the work is slow."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A main model and a cheap one of a vendor, as the vendor names them."""

    vendor: str
    main: str
    cheap: str

    def open(self, name: str, provider: CachingProvider) -> Model:
        """Open a model as pydantic-ai does it."""
        if self.vendor == "anthropic":
            own = AnthropicProvider(base_url=provider.url, api_key="none")
            return AnthropicModel(name, provider=own)
        return OpenAIResponsesModel(
            name, provider=OpenAIProvider(base_url=provider.openai_url, api_key="none")
        )


PAIRS = {
    "anthropic": Pair("anthropic", "claude-opus-5-5", "claude-haiku-5-5"),
    "openai": Pair("openai", "gpt-6.1-sol", "gpt-6-luna"),
}


@dataclass(frozen=True, slots=True)
class Case:
    """Who does what, and at what pace."""

    pair: Pair
    chores: Chores
    slow: bool = False
    """Whether time passes on the server's clock so that caches expire."""

    @property
    def speed(self) -> int:
        """Seconds on the server's clock in one real second."""
        return SPEED if self.slow else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What one way cost, by the server's bills."""

    usd: Decimal
    """All after the opening turn, and what its writes cost more for a longer retention."""
    opening_usd: Decimal
    bills_usd: Decimal
    """All requests together."""
    ledger_usd: Decimal | None = None
    """What the runner says of the same."""
    context: int
    """Tokens of the main conversation's prompt at the end of the opening turn."""
    main: int
    """Requests after the opening turn; keep-alives are among them."""
    cheap: int
    tokens: Mapping[str, Mapping[str, int]]
    """The same requests' tokens, by model and class."""
    tree: str
    """Hash of all files at the end."""
    failing: tuple[str, ...]
    """Parts whose check fails at the end."""


class Bench:
    """Does work in conversations of exactly the wanted size."""

    def __init__(self) -> None:
        self._pads: dict[tuple[str, bool, int], int] = {}
        self._alone: dict[tuple[str, int], Decimal] = {}

    async def alone(self, case: Case) -> Decimal:
        """Return what the turns after the work cost without any work, in USD."""
        key = (case.pair.vendor, case.chores.context)
        if key not in self._alone:
            bare = replace(case.chores, steps=0, failing=False, hard=0)
            self._alone[key] = (await self.spend(replace(case, chores=bare), "inline")).usd
        return self._alone[key]

    async def spend(self, case: Case, way: Way) -> Spent:
        """Do the work in one way."""
        key = (case.pair.vendor, way in RUNNERS, case.chores.context)
        if key not in self._pads:
            # A run of nothing but the opening tells what its prompt lacks.
            bare = replace(case, chores=replace(case.chores, steps=0, later=0, hard=0))
            self._pads[key] = case.chores.context - (await _once(bare, way, 0)).context
            assert 0 <= self._pads[key] < 3_800, f"a prompt cannot make up for {self._pads[key]}"
        found = await _once(case, way, self._pads[key])
        assert found.context == case.chores.context, found
        return found


async def _once(case: Case, way: Way, pad: int) -> Spent:
    opening = f"{OPENING} {filler(4 * pad).replace(chr(10), ' ')}"
    with tempfile.TemporaryDirectory(prefix="three-ways-") as name:
        root = Path(name) / "repository"
        make_repository(root, case.chores)
        if way in RUNNERS:
            return await _in_runner(case, way, root, opening)
        return await _in_conversation(case, way, root, opening)


def _sum_up(bills: list[Bill], case: Case, root: Path) -> Spent:
    """Sum up what the server billed, and look at what was left."""
    pair, first = case.pair, case.chores.opening
    opening, rest = bills[:first], bills[first:]
    _, _, write, write_1h, _ = HAND_PRICES[pair.main]
    dearer = sum(one.body_tokens["write_1h"] for one in opening) * (write_1h - write) / MILLION
    before, after = (sum((b.usd() for b in some), Decimal(0)) for some in (opening, rest))
    return Spent(
        usd=after + dearer,
        opening_usd=before,
        bills_usd=before + after,
        context=opening[-1].tokens.input,
        main=sum(one.model == pair.main for one in rest),
        cheap=sum(one.model == pair.cheap for one in rest),
        tokens={model: _tokens(rest, model) for model in (pair.main, pair.cheap)},
        tree=tree_of(root),
        failing=tuple(still_failing(root, case.chores)),
    )


def _tokens(bills: list[Bill], model: str) -> dict[str, int]:
    total: Counter[str] = Counter()
    for bill in bills:
        if bill.model == model:
            total.update(bill.body_tokens)
    return dict(total)


async def _in_conversation(case: Case, way: Way, root: Path, opening: str) -> Spent:
    """Do it as a plain agent of pydantic-ai, with its cache on."""
    pair, chores = case.pair, case.chores
    switched = way in {"switch", "switch 1h"}
    retention = "1h" if way == "switch 1h" else "5m"
    talk = at_once(chores) if way == "at once" else one_by_one(chores, switched=switched)
    with caching(Player(talk), speed=case.speed) as provider:
        main, cheap = pair.open(pair.main, provider), pair.open(pair.cheap, provider)
        turns: list[tuple[str | Sequence[UserContent], Model]] = [(opening, main)]
        if chores.steps:
            work = WORK.format(", ".join(chores.parts))
            # By this mark main finds its cache again, however much was said meanwhile.
            marked = [work, CachePoint(ttl=retention)] if switched else work
            turns.append((marked, cheap if switched else main))
        if chores.hard and switched:
            turns.append((REST.format(", ".join(chores.parts[: chores.hard])), main))
        turns += [(NEXT, main)] * chores.later
        agent, said = _coding_agent(root, retention), list["ModelMessage"]()
        for text, model in turns:
            limits = UsageLimits(request_limit=None)
            done = await agent.run(text, model=model, message_history=said, usage_limits=limits)
            said = done.all_messages()
        return _sum_up(provider.bills, case, root)


def _coding_agent(root: Path, retention: Literal["5m", "1h"]) -> Agent[None, str]:
    settings = OpenAIResponsesModelSettings(
        cache=retention, openai_prompt_cache_key="three-ways", openai_store=False
    )

    async def bash(command: str) -> str:
        """Run a command in the repository."""
        done = await anyio.run_process(["bash", "-c", command], cwd=root, check=False)
        return f"exit code {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}"

    async def edit(path: str, old_text: str, new_text: str) -> str:
        """Replace a text that occurs once in a file by another."""
        file = anyio.Path(root, path)
        text = await file.read_text()
        if text.count(old_text) != 1:
            return f"It occurs {text.count(old_text)} times."
        await file.write_text(text.replace(old_text, new_text))
        return "Replaced."

    tools = [Tool(bash), Tool(edit, sequential=True)]
    return Agent(instructions=INSTRUCTIONS, model_settings=settings, tools=tools)


class _Cast:
    """Lets one model answer the main conversation, and another each subagent."""

    def __init__(self, case: Case) -> None:
        self._main_model, self._chores = case.pair.main, case.chores
        self._main = Player(main_agent(case.chores))
        self._sub = Player(subagent(case.chores))

    def __call__(self, ask: Ask) -> Answer:
        if ask.model == self._main_model:
            return self._main(ask)
        if is_fresh(ask):
            self._sub = Player(subagent(self._chores))
        return self._sub(ask)


async def _in_runner(case: Case, way: Way, root: Path, opening: str) -> Spent:
    """Do it as a workflow."""
    file, config = root.parent / "chores.yaml", root.parent / "config.yaml"
    warm = "off" if way == "runner off" else "auto"
    file.write_text(json.dumps({**_workflow(case, opening), "keep_warm": warm}))
    config.write_text(json.dumps(_config(case)))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with caching(_Cast(case), speed=case.speed) as provider:
        report = await execute(
            file,
            options=Options(state_dir=root.parent / "state", allow_uncommitted=True),
            cwd=root,
            environ={**kept, **provider.environ(), "SUBRUNNER_CONFIG": str(config)},
        )
        report.raise_for_status()
        return replace(_sum_up(provider.bills, case, root), ledger_usd=report.cost_usd)


def _workflow(case: Case, opening: str) -> dict[str, object]:
    pair, chores = case.pair, case.chores
    fix = {"agent": "fixer", "write": ["src/**"]}
    return {
        "name": "chores",
        "models": {role: f"{pair.vendor}:{getattr(pair, role)}" for role in ("main", "cheap")},
        "budget": {"usd": 1000, "time": "1h"},
        "steps": [
            {"id": "open", "prompt": opening},
            *({"id": part, "run": f"sh script/check {part}", "fix": fix} for part in chores.parts),
            *({"id": f"next_{number}", "prompt": NEXT} for number in range(chores.later)),
        ],
    }


def _config(case: Case) -> dict[str, object]:
    """Tell the runner that the server's clock is a faster one."""
    if not case.slow:
        return {}
    times = {"retention": 300 / case.speed, "longer": 3600 / case.speed}
    return {"caches": {f"{case.pair.vendor}:*": times}}
