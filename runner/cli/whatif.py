"""`runner whatif`: prints what a recorded run would have cost otherwise; changes nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner import price as prices
from runner.cli.look import RUN_WORDS
from runner.cli.options import Pair, completing, directory_option, price, state_option
from runner.cli.output import print_json, print_text, wants_color
from runner.cli.where import journal_of
from runner.console.whatif import render_whatif, verdict
from runner.errors import RunnerError, UsageError
from runner.loader.config import load_config
from runner.models.choice import SCRIPT
from runner.plan import CHEAP, MAIN
from runner.whatif import (
    Assumptions,
    Changes,
    Command,
    Try,
    alternatives,
    models_of,
    observed,
    stated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.plan import Price
    from runner.price import ClassPrices
    from runner.whatif import Line, Observed

_EPILOG = f"""\
\b
Examples:
  runner whatif                              # the last run: done by main, or by switching models
  runner whatif --context 120000             # ... in a conversation of that size
  runner whatif --set cheap=openai:gpt-6-luna
  runner whatif --policy main --retention 1h

{RUN_WORDS}, the default.

What a run cost is measured; all other sums are estimates from its record, each with what is
measured and what is assumed. A sum is an interval where nobody knows whether an attempt that never
happened would have mended. Failed attempts are part of what a run cost, and no other way is charged
for a cache that had gone cold.

With --json: {{run_id, estimated, verdict, models, prices, assumptions, lines: [{{name, low_usd,
high_usd, measured, assumed, facts}}]}}; null is a price that is not known.
"""


@click.command("whatif", epilog=_EPILOG)
@click.argument("run", default="last", shell_complete=completing("runs"))
@click.option(
    "--set",
    "chosen",
    multiple=True,
    type=Pair("ROLE=MODEL, such as cheap=openai:gpt-6-luna"),
    metavar="ROLE=MODEL",
    shell_complete=completing("roles"),
    help="Another model for a role.",
)
@click.option(
    "--policy",
    type=click.Choice(["expected-cost", "ladder", "main", "cheap"]),
    help="Another choice of who tries first.",
)
@click.option(
    "--retention", type=click.Choice(["5m", "1h"]), help="Another retention of main's cache."
)
@click.option(
    "--context",
    type=click.IntRange(min=0),
    metavar="TOKENS",
    help="Size of the conversation that would have done the work. "
    "[as the run had it; 50000 where it had none]",
)
@click.option(
    "--price",
    "own",
    multiple=True,
    type=Pair("MODEL=IN/OUT, such as 'local:*=0/0'"),
    metavar="MODEL=IN/OUT",
    help="Price of a model in USD per million tokens.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@state_option
@directory_option
def whatif_command(run: str, state_dir: Path | None, directory: Path, **asked: Any) -> int:
    """Print what a run would have cost in main alone, by switching models, or changed."""
    with journal_of(directory, state_dir) as journal:
        seen = observed(journal.events(journal.find(run)))
    config = load_config()
    table = prices.Remembered(
        partial(
            _class_prices,
            at=datetime.fromtimestamp(seen.started_at, UTC),
            own={**config.prices, **{model: price(model, text) for model, text in asked["own"]}},
            unknown={one.model for one in seen.requests if one.usd is None},
        )
    )
    seen, changed = _with(_resolved(seen), _checked(seen, asked["chosen"]))
    assume = Assumptions(context=asked["context"])
    changes = Changes(changed, asked["retention"], asked["policy"], config.caches)
    lines = alternatives(seen, table, assume, changes)
    figures = _figures(seen, assume, changes)
    source = prices.source()
    if asked["as_json"]:
        print_json(_json(seen, lines, figures, source))
    else:
        width = min(shutil.get_terminal_size((100, 24)).columns, 160)
        print_text(
            render_whatif(seen, lines, figures, prices=source, width=width, color=wants_color())
        )
    return 0


def _class_prices(
    model: str, tokens: int, *, at: datetime, own: Mapping[str, Price], unknown: set[str]
) -> ClassPrices | None:
    """Tell a model's prices; those of one that the run could not price only by the user's word."""
    if model in unknown and prices.own_price(model, own) is None:
        return None
    return prices.class_prices(model, at, own, tokens)


def _checked(seen: Observed, chosen: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Refuse what names no role of the run, or no model."""
    roles = {MAIN: None, CHEAP: None} | dict.fromkeys(seen.models)
    for role, model in chosen:
        if role not in roles:
            known = ", ".join(roles)
            raise UsageError(f"--set {role}={model}: no role {role!r}", hint=f"Roles: {known}.")
        if not all(model.partition(":")):
            raise UsageError(
                f"--set {role}={model}: not a model",
                hint="Write provider:model, such as openai:gpt-6-luna.",
            )
    return dict(chosen)


def _with(seen: Observed, chosen: dict[str, str]) -> tuple[Observed, dict[str, str]]:
    """Let models stand in where nobody was asked; return those that replace one that was."""
    asked = {one.role for one in seen.requests}
    idle = {role: model for role, model in chosen.items() if role not in asked}
    rest = {role: model for role, model in chosen.items() if role in asked}
    return replace(seen, models={**seen.models, **idle}), rest


def _resolved(seen: Observed) -> Observed:
    """Let the model that a script stands for be priced where the script was never asked."""
    found = {role: _stands_for(model) for role, model in seen.models.items()}
    return replace(seen, models=found)


def _stands_for(model: str) -> str:
    if model.partition(":")[0] != SCRIPT:
        return model
    from runner.models.scriptfile import load_script  # noqa: PLC0415  few runs are scripted

    try:
        return load_script(Path(model.partition(":")[2])).priced_as or model
    except (RunnerError, OSError):
        return model


def _figures(seen: Observed, assume: Assumptions, changes: Changes) -> dict[str, Any]:
    """Return the assumed figures that play a part in this run's estimates."""
    idle = {role for role in (MAIN, CHEAP) if role in seen.models}
    if seen.own:
        idle.add("unknown_context")
    if not any(isinstance(item, Try) for item in seen.items):
        idle.add("more_turns")
    if not any(isinstance(item, Command) and not item.output_bytes for item in seen.items):
        idle.add("git_bytes")
    if not changes.models and changes.policy is None:
        idle |= {"packet", "mend_turns", "mend_result"} | ({"fixed"} if not seen.own else set())
    return {name: value for name, value in stated(assume).items() if name not in idle}


def _json(
    seen: Observed,
    lines: Sequence[Line],
    figures: Mapping[str, Any],
    source: tuple[str, str],
) -> dict[str, Any]:
    return {
        "run_id": seen.run,
        "estimated": True,
        "verdict": verdict(lines),
        "models": models_of(seen, Assumptions()),
        "prices": {"source": source[0], "date": source[1]},
        "assumptions": dict(figures),
        "lines": [
            {
                "name": line.name,
                "low_usd": None if line.low_usd is None else float(line.low_usd),
                "high_usd": None if line.high_usd is None else float(line.high_usd),
                "measured": line.measured,
                "assumed": line.assumed,
                "facts": dict(line.facts),
            }
            for line in lines
        ],
    }
