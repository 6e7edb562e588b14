"""Runs the commands of steps: environment, log, events, outputs."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runner.engine.confining import need_of_step
from runner.errors import RunnerError, UsageError
from runner.events import CommandFinished, CommandOutput, CommandStarted
from runner.expressions import render
from runner.frozen import frozen
from runner.outcome import CommandResult
from runner.telemetry.carrier import without_export
from runner.workspace.commands import Command
from runner.workspace.environment import clean_environment
from runner.workspace.masking import Mask
from runner.workspace.output import recall
from runner.workspace.plainfile import plain_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runner.engine.names import Names
    from runner.engine.state import Run
    from runner.events import Purpose
    from runner.plan import Step, ValueType
    from runner.sandbox import Need

GRACE = 2.0
"""Seconds between TERM and KILL."""
CLOSING_GRACE = 0.3
"""The same for what still runs when the run's own end is near."""
OUTPUT_LIMIT = 64 * 1024
"""Bytes of JSON that a step may write to `$SUBRUNNER_OUTPUT`."""


@frozen
class Shell:
    """Where and for whom a command runs."""

    step: Step
    shown: str
    names: Names
    cwd: Path | None = None
    """Another directory than the tree: a clean checkout."""
    extra: Mapping[str, str] = field(default_factory=dict[str, str])


def environment(run: Run, shell: Shell) -> dict[str, str]:
    """Build the whole environment of a step's command: an allowlist, and what the step declares."""
    ports, step = run.ports, shell.step
    declared = {name: render(value, shell.names.look_up) for name, value in step.env.items()}
    secrets = {name: ports.secrets[name] for name in step.secrets if name in ports.secrets}
    own = {
        "SUBRUNNER_RUN_ID": ports.run_id,
        "SUBRUNNER_STEP": shell.shown,
        "SUBRUNNER_OUTPUT": str(output_path(run, shell.shown)),
        # A mend often keeps a file's size and its second: a cached .pyc would then hide it.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return clean_environment(
        base=ports.environ,
        declared=declared,
        inherit=step.inherit,
        secrets=secrets,
        extra={**own, **shell.extra},
    )


def directory(run: Run, shell: Shell) -> Path:
    """Return the step's directory, which must lie in the tree.

    Raises:
        UsageError: The rendered `dir` leaves the tree or does not exist.
    """
    base = (shell.cwd or run.ports.root).resolve()
    wanted = render(shell.step.dir, shell.names.look_up)
    cwd = (base / wanted).resolve()
    if not cwd.is_relative_to(base):
        raise UsageError(f"step {shell.shown!r}: dir {wanted!r} leaves the tree")
    if not cwd.is_dir():
        raise UsageError(f"step {shell.shown!r}: dir {wanted!r} does not exist in the tree")
    return cwd


async def execute(run: Run, shell: Shell, text: str, purpose: Purpose) -> CommandResult:
    """Run a command line of a step through its shell."""
    outputs = output_path(run, shell.shown).parent
    shutil.rmtree(outputs, ignore_errors=True)
    outputs.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = Command(
        argv=(*shell.step.shell, text),
        cwd=directory(run, shell),
        env=environment(run, shell),
        timeout=shell.step.timeout,
        log=run.log_path(shell.shown, purpose),
        grace=CLOSING_GRACE if run.close_by else GRACE,
    )
    need = need_of_step(run, shell, outputs)
    result = await watch(run, shell.shown, command, text, purpose, need)
    if not result.passed:
        # Nobody reads them, and they are not masked.
        shutil.rmtree(outputs, ignore_errors=True)
    return result


async def watch(
    run: Run, shown: str, command: Command, text: str, purpose: Purpose, need: Need | None
) -> CommandResult:
    """Run any command and tell the listeners; *need* is what the run's sandbox lets it reach."""
    emit, number = run.ports.emit, run.next_command()
    emit(CommandStarted(shown, purpose, text, number, command.argv))
    env = without_export(command.env) if purpose == "agent" else command.env
    # What the author declared is not told another span than the one that he chose.
    env = {**run.ports.carrier.command(number), **env}
    command = replace(command, mask=run.ports.mask, env=env)
    sandbox = run.ports.sandbox
    confined = command if sandbox is None or need is None else sandbox.confine(command, need)
    result = await run.ports.run_command(
        confined, on_line=lambda line: emit(CommandOutput(shown, line))
    )
    if not result.passed and sandbox is not None and need is not None:
        from runner.sandbox.kept import kept_from  # noqa: PLC0415  only a failure needs it

        result = replace(result, denial=kept_from(sandbox, command, need, result))
    emit(
        CommandFinished(
            shown,
            purpose,
            text,
            exit_code=result.exit_code,
            timed_out=result.timed_out,
            seconds=result.seconds,
            output_bytes=result.total_bytes,
            log=str(result.log or ""),
            number=number,
            denial=result.denial,
        )
    )
    return result


def look(
    run: Run, shown: str, text: str, purpose: Purpose, found: Callable[[], Sequence[str]]
) -> CommandResult:
    """Let something of our own judge as a command does, which fails with the lines *found*.

    A later life of the run reads the log as that of any command.
    """
    emit, number = run.ports.emit, run.next_command()
    emit(CommandStarted(shown, purpose, text, number))
    began, log = time.monotonic(), run.log_path(shown, purpose)
    said = "".join(f"{line}\n" for line in found()).encode("utf-8", "surrogateescape")
    log.write_bytes(said)
    log.chmod(0o600)
    ended = CommandFinished(
        shown,
        purpose,
        text,
        exit_code=int(bool(said)),
        timed_out=False,
        seconds=time.monotonic() - began,
        output_bytes=len(said),
        log=str(log),
        number=number,
    )
    emit(ended)
    result = result_of(run, ended)
    assert result is not None, "its log was written just now"
    return result


def result_of(run: Run, ended: CommandFinished) -> CommandResult | None:
    """Return how a command of an earlier life ended; `None` where its log is gone."""
    head = tail = ""
    log = run.ports.run_dir / "logs" / Path(ended.log).name if ended.log else None
    if log is not None:
        try:
            head, tail = recall(log, ended.output_bytes)
        except OSError:
            return None
    return CommandResult(
        exit_code=ended.exit_code,
        timed_out=ended.timed_out,
        seconds=ended.seconds,
        head=head,
        tail=tail,
        total_bytes=ended.output_bytes,
        log=log,
        denial=ended.denial,
    )


def output_path(run: Run, shown: str) -> Path:
    """Return the file that a step's command may write its outputs to."""
    return run.ports.run_dir / "outputs" / shown.replace("/", "~") / "outputs.json"


def read_outputs(run: Run, shell: Shell) -> dict[str, Any]:
    """Read what the command wrote to `$SUBRUNNER_OUTPUT`.

    Raises:
        RunnerError: It is no JSON object, too large, not of the declared types, or holds a secret.
    """
    path = output_path(run, shell.shown)
    data = plain_bytes(path, OUTPUT_LIMIT + 1)
    _hide_outputs(run, path, data)
    if data is None:
        missing = ", ".join(shell.step.outputs)
        if missing:
            raise RunnerError(
                f"step {shell.shown!r} passed but wrote no outputs ({missing})",
                hint='Write them as JSON: echo \'{"name": "value"}\' > "$SUBRUNNER_OUTPUT"',
            )
        return {}
    if len(data) > OUTPUT_LIMIT:
        raise RunnerError(f"step {shell.shown!r} wrote more than {OUTPUT_LIMIT:,} bytes of outputs")
    try:
        value = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RunnerError(f"step {shell.shown!r} wrote outputs that are no JSON: {error}") from None
    if _holds_secret(run, value):
        shutil.rmtree(path.parent, ignore_errors=True)
        raise RunnerError(
            f"step {shell.shown!r} wrote a secret to its outputs",
            hint="Outputs go to steps that do not name the secret: let those name it themselves.",
        )
    problem = wrong_type(value, shell.step.outputs)
    if problem:
        raise RunnerError(f"step {shell.shown!r} wrote bad outputs: {problem}")
    return value


def _hide_outputs(run: Run, path: Path, data: bytes | None) -> None:
    """Leave nothing on disk that is masked elsewhere, nor what lies beside the outputs."""
    mask = run.ports.mask
    if not mask or not path.parent.is_dir():
        return
    if data is None or any(mask.spans(data)):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if data is not None and not path.exists():
        path.write_text(mask.text(data.decode("utf-8", "replace")), "utf-8")
        path.chmod(0o600)
    for other in path.parent.iterdir():
        if other.is_dir() and not other.is_symlink():
            shutil.rmtree(other, ignore_errors=True)
        elif other != path:
            other.unlink(missing_ok=True)


def _holds_secret(run: Run, value: object) -> bool:
    """Tell whether outputs hold a granted secret, however they spell it."""
    granted = Mask(run.ports.secrets.values())
    return bool(granted) and granted.noun(value) != value


def wrong_type(value: object, declared: Mapping[str, ValueType]) -> str:
    """Say what is wrong with outputs against their declaration; empty when nothing is."""
    if not isinstance(value, dict):
        return "not a JSON object"
    found = cast("dict[str, object]", value)
    for name, kind in declared.items():
        if name not in found:
            return f"{name!r} is missing"
        if not is_type(found[name], kind):
            return f"{name!r} is not a {kind}"
    return ""


def is_type(value: object, kind: ValueType) -> bool:
    """Tell whether a JSON value is of a declared type."""
    match kind:
        case "string":
            return isinstance(value, str)
        case "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        case "boolean":
            return isinstance(value, bool)
        case "json":
            return True
