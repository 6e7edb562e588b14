"""`runner plan`: prints what a run would do, ask and cost at most; runs nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any, assert_never

import anyio
import click

from runner import price
from runner.advice import means_of
from runner.cli.options import completing, options_from, run_options
from runner.cli.output import print_text
from runner.console.style import duration
from runner.errors import ProtectionError
from runner.frozen import frozen
from runner.git import Repository
from runner.loader.build import DEFAULT_SECONDS, DEFAULT_USD
from runner.plan import MAIN, Commit, Options, Prompt, Push, Run, UserConfig, Uses
from runner.prepare import Prepared, find_and_load, opened, prepare, work_tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from runner.git import Dirty, RepositoryFacts
    from runner.plan import Escalate, Fix, Step

DEFAULT_FIX = "fixer"
"""Agent of a step that `--fix STEP` gives a fix."""


@frozen
class Facts:
    """All that a plan is printed from."""

    prepared: Prepared
    granted: frozenset[str]
    """Secrets that somebody granted."""
    network: bool
    """Whether somebody granted the network."""
    repository: RepositoryFacts | None
    dirty: Dirty | None


@click.command("plan")
@click.argument(
    "target", required=False, metavar="[FILE|NAME]", shell_complete=completing("workflows")
)
@click.argument("steps", nargs=-1, metavar="[STEP]...", shell_complete=completing("steps"))
@run_options
def plan_command(target: str | None, directory: Path, **given: Any) -> int:
    """Print the steps in order, who would mend them, and what that may cost; run nothing."""
    options = options_from(given, os.environ)
    cwd = directory.resolve()
    print_text(render_plan(anyio.run(partial(gather, target, options, cwd))))
    return 0


async def gather(target: str | None, options: Options, cwd: Path) -> Facts:
    """Read everything that a plan shows, as a run would; what is not granted is shown, not refused.

    Raises:
        UsageError: The workflow, an input or an option is wrong.
    """
    workflow = find_and_load(target, work_tree(cwd), cwd)
    asked = {name for step in walk(workflow.steps) for name in step.secrets}
    environ = dict(os.environ)
    environ |= {name: "for the plan only" for name in asked if not environ.get(name)}
    everything = replace(options, secrets=tuple(asked), allow_network=True)
    prepared = prepare(workflow, options=everything, cwd=cwd, environ=environ)
    repository = await Repository.open(prepared.root, state=prepared.state)
    return Facts(
        prepared=prepared,
        granted=frozenset((*options.secrets, *prepared.config.grants.secrets)),
        network=options.allow_network or prepared.config.grants.network,
        repository=repository.facts if repository else None,
        dirty=await repository.status() if repository else None,
    )


def render_plan(facts: Facts) -> str:
    """Render the plan: what is there, what each step may do, what it may cost."""
    head = [*_place(facts), *_models(facts), *_asks(facts), *_git(facts)]
    steps = [line for step in facts.prepared.steps for line in _step(step, facts.prepared)]
    cost = [*_policy(facts.prepared), *_ceilings(facts.prepared)]
    cost += [_row("cost", worst_case(facts.prepared)), *_prices(facts.prepared)]
    return "\n".join([*head, "", *steps, "", *cost])


def walk(steps: Iterable[Step]) -> Iterator[Step]:
    """Yield every step, those of used workflows too."""
    for step in steps:
        yield step
        if isinstance(step.kind, Uses):
            yield from walk(step.kind.workflow.steps)


def _row(name: str, text: str) -> str:
    return f"{name:<10}{text}"


def _place(facts: Facts) -> Iterator[str]:
    prepared = facts.prepared
    jobs = prepared.options.jobs or os.cpu_count() or 1
    yield _row("workflow", f"{prepared.workflow.name}   {prepared.workflow.file}")
    yield _row("tree", f"{prepared.root}   {_state(facts)}")
    yield _row("steps", f"{len(prepared.steps)}, at most {jobs} at once")
    yield _row("sandbox", _sandbox(prepared))


def _sandbox(prepared: Prepared) -> str:
    """Say what confines commands here, as a run would find it."""
    try:
        sandbox = opened(prepared).sandbox
    except ProtectionError as error:
        return f"required, and it would not run: {error.message}"
    if sandbox is None:
        return "off: commands can reach the whole machine"
    required = ", required" if prepared.mode == "require" else ""
    return f"{sandbox.held.words}{required}"


def _state(facts: Facts) -> str:
    if facts.repository is None:
        return "no git repository: nothing can be committed or pushed"
    at = f"at {facts.repository.head[:12]}" if facts.repository.head else "without a commit"
    where = f"on {facts.repository.branch}" if facts.repository.branch else "detached"
    dirty = facts.dirty
    changes = (
        f"{len(dirty.changed)} changed, {len(dirty.untracked)} untracked" if dirty else "clean"
    )
    return f"{where} {at}, {changes}"


def _models(facts: Facts) -> Iterator[str]:
    prepared = facts.prepared
    if prepared.options.no_models:
        yield _row("models", "none: --no-models")
        return
    for at, choice in enumerate(prepared.choices.values()):
        lack = "" if choice.available else f", not available: set {choice.missing}"
        yield _row("" if at else "models", f"{choice.role}: {choice.id} ({choice.source}){lack}")


def _asks(facts: Facts) -> Iterator[str]:
    steps = tuple(walk(facts.prepared.steps))
    asks = [
        f"secret {name}: "
        + ("granted" if name in facts.granted else f"not granted, --secret {name}")
        for name in sorted({name for step in steps for name in step.secrets})
    ]
    if any(step.network for step in steps):
        asks.append("network: " + ("granted" if facts.network else "not granted, --allow-network"))
    if facts.prepared.grants.shell:
        asks.append("granted: a shell for agents")
    for at, ask in enumerate(asks):
        yield _row("" if at else "grants", ask)


def _git(facts: Facts) -> Iterator[str]:
    repository = facts.repository
    if repository is None or not facts.prepared.ships:
        return
    hooks = "none" if not repository.hooks else ", ".join(sorted(repository.hooks))
    skipped = " (skipped: --no-hooks)" if facts.prepared.options.no_hooks else ""
    yield _row("hooks", f"{hooks}{skipped}")
    pushes = [s.kind for s in walk(facts.prepared.steps) if isinstance(s.kind, Push)]
    for remote in dict.fromkeys(push.remote for push in pushes):
        url = repository.push_urls.get(remote) or repository.remotes.get(remote)
        yield _row("remote", f"{remote}: {url or 'there is none of that name'}")
    if repository.unsupported:
        yield _row("", f"nothing can be committed here: {repository.unsupported}")


def _step(step: Step, prepared: Prepared) -> Iterator[str]:
    needs = f"   after {', '.join(step.needs)}" if step.needs else "   at once"
    condition = f"   if {step.condition.source}" if step.condition else ""
    when = "" if step.when == "success" else f"   when: {step.when}"
    yield f"{step.id}{needs}{condition}{when}"
    yield from (f"    {line}" for line in _kind(step, prepared))


def _kind(step: Step, prepared: Prepared) -> Iterator[str]:
    kind = step.kind
    match kind:
        case Run():
            yield _row("run", _first_line(kind.command))
            if kind.autofix:
                yield _row("autofix", _first_line(kind.autofix))
            fix = kind.fix
            if fix is None and step.id in prepared.options.fix:
                yield _row("subagent", f"{DEFAULT_FIX}: --fix {step.id}")
            yield from _rungs(fix, kind.escalate, prepared)
        case Prompt():
            yield _row("prompt", f"{kind.agent}: {_first_line(kind.text)}")
            if kind.check:
                yield _row("check", _first_line(kind.check))
            yield from _rungs(kind.fix, kind.escalate, prepared)
        case Commit():
            files = kind.files if isinstance(kind.files, str) else " ".join(kind.files)
            yield _row("commit", f"files: {files}; message: {kind.message}")
        case Push():
            branch = kind.branch or f"runner/{prepared.workflow.name}-<run id>"
            skipped = " (skipped: --no-push)" if prepared.options.no_push else ""
            yield _row("push", f"{kind.remote} {branch}, auth: {kind.auth}{skipped}")
        case Uses():
            yield _row("uses", kind.workflow.name)
            for inner in kind.workflow.steps:
                yield from (f"    {line}" for line in _step(inner, prepared))
        case _:
            assert_never(kind)


def _rungs(fix: Fix | None, escalate: Escalate | None, prepared: Prepared) -> Iterator[str]:
    if fix is not None:
        role = fix.model or prepared.agents[fix.agent].model
        turns = fix.turns or prepared.agents[fix.agent].turns
        yield _row("subagent", f"{fix.agent} on {role}, {fix.attempts} attempts of {turns} turns")
        if fix.then:
            yield _row("", f"then on {fix.then}, as often")
        scope = " ".join(fix.write) if fix.write else "everything that is not ignored or protected"
        yield _row("", f"may write {scope}")
    if escalate is not None:
        yield _row("main", f"at most {escalate.max} packets")


def _first_line(text: str) -> str:
    first, _, rest = text.strip().partition("\n")
    return f"{first} ..." if rest else first


def worst_case(prepared: Prepared) -> str:
    """Say what the run can cost at most: by its steps' own limits, else by its budget."""
    caps = [cap for step in walk(prepared.steps) for cap in _caps(step, prepared)]
    if not caps or prepared.options.no_models:
        return "nothing: no step asks a model"
    if not any(choice.available for choice in prepared.choices.values()):
        return "nothing: there is no model to ask"
    usd = prepared.budget.usd
    total = None if None in caps else sum((cap for cap in caps if cap is not None), Decimal(0))
    known = [bound for bound in (usd, total) if bound is not None]
    if not known:
        return "without a ceiling: the workflow has no budget"
    given = "" if prepared.workflow.budget_given else " (the default budget)"
    nothing = "nothing while every command passes; " if not _prompts(prepared) else ""
    return (
        f"{nothing}at most {min(known):.2f} USD{given}: no request is sent that it does not cover"
    )


def _prices(prepared: Prepared) -> Iterator[str]:
    """Say which prices a run would be paid by, where it may ask a model."""
    caps = any(True for step in walk(prepared.steps) for _ in _caps(step, prepared))
    asked = not prepared.options.no_models and any(
        choice.available for choice in prepared.choices.values()
    )
    if caps and asked:
        source, date = price.source()
        yield _row("", f"prices: {source}, of {date}")


def _ceilings(prepared: Prepared) -> Iterator[str]:
    """Say which ceilings hold, and where each was written."""
    means, held = means_of(prepared), prepared.budget
    given, default = means.given, not prepared.workflow.budget_given
    usd = given.usd if means.usd_given is None else means.usd_given
    file_of = "the default" if default and usd == DEFAULT_USD else "the workflow"
    lines: list[str] = []
    if held.usd is not None:
        where = file_of if means.usd_given is None else "--budget"
        lines.append(f"{held.usd:.2f} USD: {where if held.usd == usd else means.key('usd')}")
    if held.tokens is not None:
        where = "the workflow" if held.tokens == given.tokens else means.key("tokens")
        lines.append(f"{held.tokens:,} tokens: {where}")
    if held.seconds is not None:
        where = "the default" if default and held.seconds == DEFAULT_SECONDS else "the workflow"
        where = where if held.seconds == given.seconds else means.key("time")
        lines.append(f"{duration(held.seconds)}: {where}")
    for at, line in enumerate(lines):
        yield _row("" if at else "ceilings", line)


def _policy(prepared: Prepared) -> Iterator[str]:
    """Say who chooses whom to ask first, where that was set."""
    option, own = prepared.options.policy, prepared.config.policy
    if option is not None:
        yield _row("policy", f"{option}: --policy")
    elif own != UserConfig().policy:
        yield _row("policy", f"{own}: `policy` in {means_of(prepared).config}")


def _prompts(prepared: Prepared) -> bool:
    return any(isinstance(step.kind, Prompt) for step in walk(prepared.steps))


def _caps(step: Step, prepared: Prepared) -> Iterator[Decimal | None]:
    """Yield the money limit of each rung that asks a model; `None` is one without its own."""
    kind = step.kind
    if not isinstance(kind, Run | Prompt):
        return
    if isinstance(kind, Prompt) and kind.agent == MAIN:
        yield None
    if kind.fix is not None:
        yield kind.fix.usd
    elif step.id in prepared.options.fix:
        yield None
    if kind.escalate is not None:
        yield None
