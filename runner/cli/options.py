"""Options that several commands share, and the pure step from parsed values to `Options`."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runner.errors import UsageError
from runner.plan import Options, Price, Provider

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound="Callable[..., Any]")

directory_option = click.option(
    "-C",
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Work as if started in DIR.",
)
state_option = click.option(
    "--state-dir",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="SUBRUNNER_STATE_DIR",
    metavar="DIR",
    help="Keep journals, logs and snapshots in DIR.",
)

sandbox_option = click.option(
    "--sandbox",
    type=click.Choice(["auto", "require", "off"]),
    help="Confine commands as far as that holds here, refuse to run where it does not, or let "
    "them reach the whole machine. [auto]",
)


def completing(what: str) -> Callable[..., list[CompletionItem]]:
    """Return what a shell's completion calls: a function of `runner.cli.complete`, by name."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        module = import_module(
            "runner.cli.complete"
        )  # only when completing: the start need not pay
        found: list[CompletionItem] = getattr(module, what)(ctx, param, incomplete)
        return found

    return complete


class Pair(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`, split at the first equals sign."""

    def __init__(self, example: str) -> None:
        self.name = "pair"
        self.example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Return key and value."""
        if isinstance(value, tuple):  # click converts a value twice when it comes from a default
            return value  # pyright: ignore[reportUnknownVariableType]  its own earlier answer
        key, equals, rest = str(value).partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is not of the form {self.example}", param, ctx)
        return key, rest


class Usd(click.ParamType[Decimal]):
    """An amount of US dollars, exact."""

    name = "usd"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """Return the amount."""
        try:
            amount = Decimal(str(value).removeprefix("$"))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount < 0:
            self.fail(f"{value!r} is no amount of US dollars, such as 2 or 0.50", param, ctx)
        return amount


class Seconds(click.ParamType[float]):
    """A length of time: `90`, `90s`, `30m`, `2h`."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        text = str(value).strip()
        unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
        number = text[:-1] if unit else text
        if not number.isdecimal() or not int(number):
            self.fail(f"{value!r} is no length of time, such as 90s, 30m or 2h", param, ctx)
        return float(int(number) * (unit or 1))


def run_options(command: Decorated) -> Decorated:
    """Add everything that decides how a workflow runs: shared by `exec` and `plan`."""
    for option in reversed(_RUN_OPTIONS):
        command = option(command)
    return command


_RUN_OPTIONS: Sequence[Callable[[Any], Any]] = (
    click.option(
        "-i",
        "--input",
        "inputs",
        multiple=True,
        type=Pair("NAME=VALUE"),
        metavar="NAME=VALUE",
        help="Give an input; NAME=@FILE reads it from a file.",
    ),
    click.option(
        "--model",
        "models",
        multiple=True,
        type=Pair("ROLE=ID, such as cheap=anthropic:claude-haiku-5-5"),
        metavar="ROLE=ID",
        shell_complete=completing("roles"),
        help="Choose the model of a role, such as main or cheap.",
    ),
    click.option(
        "--provider",
        "providers",
        multiple=True,
        type=Pair("NAME=URL"),
        metavar="NAME=URL",
        help="Declare an OpenAI-compatible server; its models are NAME:model.",
    ),
    click.option(
        "--price",
        "prices",
        multiple=True,
        type=Pair("MODEL=IN/OUT, such as 'local:*=0/0'"),
        metavar="MODEL=IN/OUT",
        help="Price of a model in USD per million tokens; NAME:* is all of a server's.",
    ),
    click.option("--budget", type=Usd(), metavar="USD", help="Spend at most this much."),
    click.option("--secret", "secrets", multiple=True, metavar="NAME", help="Grant a secret."),
    click.option(
        "--fix",
        multiple=True,
        metavar="STEP",
        shell_complete=completing("steps"),
        help="Let agents mend STEP in this run.",
    ),
    click.option("--no-models", is_flag=True, help="Ask no model, whatever fails."),
    click.option(
        "--policy",
        type=click.Choice(["expected-cost", "ladder", "main", "cheap"]),
        help="Who tries first to mend a failure: by expected cost, always the subagent, main at "
        "once, or never main. [expected-cost]",
    ),
    click.option(
        "--strict-prefix",
        is_flag=True,
        help="Fail the run if the main conversation's prompt cache could be lost: a request that "
        "does not extend the one before is not sent.",
    ),
    click.option("--no-push", is_flag=True, help="Skip push steps."),
    click.option("--no-hooks", is_flag=True, help="Skip git hooks."),
    click.option(
        "-j", "--jobs", type=click.IntRange(min=1), metavar="N", help="Steps at once. [cores]"
    ),
    click.option("--fail-fast", is_flag=True, help="Start nothing new after a failure."),
    sandbox_option,
    click.option("--allow-shell", is_flag=True, help="Grant agents a shell without a sandbox."),
    click.option("--allow-network", is_flag=True, help="Grant agents' commands the network."),
    click.option(
        "--allow-uncommitted", is_flag=True, help="Exit 0 though mends are not committed."
    ),
    click.option(
        "--trust-checkout-auth", is_flag=True, help="Push with the token a CI checkout left."
    ),
    state_option,
    directory_option,
)


def options_from(given: Mapping[str, Any], environ: Mapping[str, str]) -> Options:
    """Turn the parsed values of `run_options` and the step names into `Options`."""
    return Options(
        steps=tuple(given["steps"]),
        inputs=dict(given["inputs"]),
        input_files=True,
        models=dict(given["models"]),
        providers={name: provider(name, url, environ) for name, url in given["providers"]},
        prices={model: price(model, text) for model, text in given["prices"]},
        budget_usd=given["budget"],
        secrets=tuple(given["secrets"]),
        fix=tuple(given["fix"]),
        policy=given["policy"],
        strict_prefix=given["strict_prefix"],
        no_models=given["no_models"],
        no_push=given["no_push"],
        no_hooks=given["no_hooks"],
        jobs=given["jobs"],
        fail_fast=given["fail_fast"],
        allow_shell=given["allow_shell"],
        allow_network=given["allow_network"],
        allow_uncommitted=given["allow_uncommitted"],
        trust_checkout_auth=given["trust_checkout_auth"],
        sandbox=given["sandbox"],
        trace_content=given.get("trace_content", False),
        record=given.get("record"),
        replay=given.get("replay"),
        state_dir=given["state_dir"],
    )


def price(model: str, text: str) -> Price:
    """Read a price such as `0.5/2`: input and output, in USD per million tokens.

    Raises:
        UsageError: It is not two amounts.
    """
    try:
        amounts = [Decimal(part) for part in text.split("/")]
    except InvalidOperation:
        amounts = []
    if len(amounts) != 2 or not all(amount.is_finite() and amount >= 0 for amount in amounts):
        raise UsageError(
            f"--price {model}={text}: not a price",
            hint="Write input and output in USD per million tokens: --price 'local:*=0/0'.",
        )
    return Price(*amounts)


def provider(name: str, url: str, environ: Mapping[str, str]) -> Provider:
    """Declare a server; its key is taken from `NAME_API_KEY` where that is set.

    Raises:
        UsageError: The address is none.
    """
    if not url.startswith(("https://", "http://")):
        hint = f"Write --provider {name}=https://HOST/v1."
        raise UsageError(f"--provider {name}={url}: not an address", hint=hint)
    variable = f"{name.upper().replace('-', '_')}_API_KEY"
    return Provider(name=name, base_url=url, key_env=variable if variable in environ else None)
