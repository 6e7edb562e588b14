"""Turns `fix`, `escalate`, `retry`, `shell` and `env` into nouns, over the file's defaults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from runner.loader.language import (
    ESCALATE_MAX,
    SHELLS,
    DefaultKeys,
    FixKeys,
    RetryKeys,
)
from runner.loader.records import Fields
from runner.loader.vocabulary import Environment
from runner.plan import Escalate, Fix, Retry

if TYPE_CHECKING:
    from runner.loader.records import Field

T = TypeVar("T")

FIXER = "fixer"
"""The agent that mends unless another is named."""
_NO_VARIABLES = Environment({}, {}, ())


class Defaults(NamedTuple):
    """What holds for all steps that do not say otherwise."""

    fix: Fix | None
    escalate: Escalate | None
    """`None` when `defaults` switches it off."""
    timeout: float | None
    shell: tuple[str, ...]
    dir: str
    env: Environment
    protect: tuple[str, ...]
    retry: Retry


def defaults_of(fields: Fields | None) -> Defaults:
    """Return what `defaults` says, or what holds without it."""
    if fields is None:
        return Defaults(None, Escalate(), None, SHELLS["bash"], ".", _NO_VARIABLES, (), Retry())
    return Defaults(
        fix=fix_of(fields.get(DefaultKeys.FIX), None),
        escalate=escalate_of(fields.get(DefaultKeys.ESCALATE), Escalate()),
        timeout=fields.get(DefaultKeys.TIMEOUT),
        shell=shell_of(fields, DefaultKeys.SHELL, SHELLS["bash"]),
        dir=fields.get_or(DefaultKeys.DIR, "."),
        env=fields.get_or(DefaultKeys.ENV, _NO_VARIABLES),
        protect=fields.get_or(DefaultKeys.PROTECT, ()),
        retry=retry_of(fields.get(DefaultKeys.RETRY), Retry()),
    )


def fix_of(value: bool | str | Fields | None, base: Fix | None) -> Fix | None:  # noqa: FBT001  as the file says it
    """Return a step's fix: what it says itself, over `base`."""
    start = base or Fix(FIXER)
    match value:
        case None:
            return base
        case False:
            return None
        case True:
            return start
        case str():
            return replace(start, agent=value)
        case Fields():
            return Fix(
                agent=value.get_or(FixKeys.AGENT, start.agent),
                model=value.get(FixKeys.MODEL) or start.model,
                then=value.get(FixKeys.THEN) or start.then,
                attempts=value.get_or(FixKeys.ATTEMPTS, start.attempts),
                turns=_first(value.get(FixKeys.TURNS), start.turns),
                seconds=_first(value.get(FixKeys.SECONDS), start.seconds),
                usd=_first(value.get(FixKeys.USD), start.usd),
                write=_first(value.get(FixKeys.WRITE), start.write),
                protect=start.protect + value.get_or(FixKeys.PROTECT, ()),
                tools=_first(value.get(FixKeys.TOOLS), start.tools),
            )


def escalate_of(value: bool | Fields | None, base: Escalate | None) -> Escalate | None:  # noqa: FBT001  as the file says it
    """Return how many packets may go up: what is said here, over `base`."""
    match value:
        case None:
            return base
        case False:
            return None
        case True:
            return base or Escalate()
        case Fields():
            return Escalate(value.get_or(ESCALATE_MAX, Escalate().max))


def retry_of(value: Fields | None, base: Retry) -> Retry:
    """Return how often a command runs again."""
    if value is None:
        return base
    return Retry(
        attempts=value.get_or(RetryKeys.ATTEMPTS, 1),
        delay=value.get_or(RetryKeys.DELAY, 0.0),
    )


def shell_of(
    fields: Fields, field: Field[str | tuple[str, ...]], base: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the arguments that stand before a command."""
    match fields.get(field):
        case None:
            return base
        case str() as name:
            return SHELLS[name]
        case arguments:
            return arguments


def env_of(own: Environment | None, base: Environment) -> Environment:
    """Return a step's variables over the defaults'."""
    if own is None:
        return base
    return Environment(
        base.values | own.values,
        base.nodes | own.nodes,
        tuple(dict.fromkeys((*base.inherit, *own.inherit))),
    )


def _first(own: T | None, base: T | None) -> T | None:
    return base if own is None else own
