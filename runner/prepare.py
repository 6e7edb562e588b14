"""Reads and checks everything that a run needs; nothing has run when it returns."""

from __future__ import annotations

import os
from dataclasses import field, replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from runner import loader
from runner.errors import NotGranted, ProtectionError, UsageError
from runner.events import StepPlan
from runner.frozen import frozen
from runner.loader.build import DEFAULT_SECONDS, DEFAULT_USD
from runner.models.choice import choose, hosted, is_scripted, key_variables, split
from runner.plan import CHEAP, MAIN, Budget, Commit, Options, Prompt, Push, Run, Uses, Workflow
from runner.suggest import did_you_mean
from runner.workspace.environment import secret_values, ungranted
from runner.workspace.state import repo_state, state_root

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.models.choice import Choice
    from runner.models.transport import Tape
    from runner.plan import AgentSpec, Grants, SandboxMode, Step, UserConfig
    from runner.sandbox import Sandbox

T = TypeVar("T", int, float, Decimal)

SANDBOX_VARIABLE = "SUBRUNNER_SANDBOX"
_SHARED = frozenset({"HF_TOKEN", "VERCEL_OIDC_TOKEN", "GITHUB_API_KEY"})
"""Keys of models that are the account's key for everything else, too."""
_WORDS = frozenset(
    {
        *("password", "password1", "passw0rd", "changeme", "change-me", "letmein1", "12345678"),
        *("123456789", "1234567890", "qwertyui", "qwertyuiop", "disabled", "undefined"),
        *("required", "localhost", "username", "anonymous", "postgres", "test-token", "testtest"),
        *("production", "development", "staging1", "default1", "iloveyou", "sunshine", "princess"),
        *("football", "baseball", "superman", "trustno1", "whatever", "administrator"),
    }
)
_MODES: Mapping[str, SandboxMode] = {"auto": "auto", "require": "require", "off": "off"}


@frozen(kw_only=True)
class Prepared:
    """A run that may start: all was read, checked and granted, and nothing has run."""

    workflow: Workflow
    steps: tuple[Step, ...]
    root: Path
    options: Options
    config: UserConfig
    agents: Mapping[str, AgentSpec]
    choices: Mapping[str, Choice]
    inputs: Mapping[str, str | float | bool]
    secrets: Mapping[str, str] = field(repr=False)
    budget: Budget
    grants: Grants
    environ: Mapping[str, str] = field(repr=False)
    state: Path
    """State directory of the work tree."""
    tape: Tape | None = None
    """Records the run's requests, or answers them from what was recorded."""
    mode: SandboxMode = "auto"
    """What was asked for of a sandbox."""
    sandbox: Sandbox | None = None
    held_shell: bool = True
    """Whether agents may have a shell because a sandbox holds; a replay has what was recorded."""
    """Confines the run's commands; `None` until it is opened, or where it is off."""

    @property
    def hashes(self) -> bool:
        """Whether trees are hashed: only where something is committed, pushed, mended or asked."""
        return any(_needs_tree(step, self.options) for step in self.steps)

    @property
    def ships(self) -> bool:
        """Whether something is committed or pushed."""
        return any(isinstance(kind, Commit | Push) for kind in _kinds(self.steps))

    @property
    def defaults(self) -> tuple[Literal["usd", "time"], ...]:
        """Ceilings that nobody gave: neither the file, nor the command line, nor the user."""
        if self.workflow.budget_given:
            return ()
        found: list[Literal["usd", "time"]] = []
        if self.options.budget_usd is None and self.budget.usd == DEFAULT_USD:
            found.append("usd")
        if self.budget.seconds == DEFAULT_SECONDS:
            found.append("time")
        return tuple(found)

    @property
    def contains_agents(self) -> bool:
        """Whether a sandbox holds agents' shells, and some agent's definition asks for one."""
        holds = self.sandbox is not None and self.sandbox.held.by == "bubblewrap"
        asked = any("shell" in agent.tools for agent in self.agents.values())
        return holds and self.held_shell and asked

    @property
    def scripted(self) -> bool:
        """Whether a scripted model stands in for a real one."""
        return any(is_scripted(choice.id) for choice in self.choices.values())


def prepare(
    target: str | Path | Workflow | None,
    *,
    options: Options,
    cwd: Path,
    environ: Mapping[str, str] | None = None,
) -> Prepared:
    """Read and check everything that a run needs; run nothing.

    Raises:
        UsageError: A bad workflow, input, option or configuration, or a missing grant.
    """
    environ = dict(os.environ if environ is None else environ)
    root = work_tree(cwd)
    workflow = find_and_load(target, root, cwd)
    config = loader.load_config(environ=environ)
    steps = selected(workflow, options.steps)
    _check_named(workflow, options.fix, "--fix")
    _check_fixable(workflow, options.fix)
    _check_roles(workflow, options.models, config.models)
    trusted = config.grants.trust_checkout_auth or options.trust_checkout_auth
    options = replace(options, trust_checkout_auth=trusted)
    grants = replace(
        config.grants,
        secrets=(*config.grants.secrets, *options.secrets),
        network=config.grants.network or options.allow_network,
        shell=config.grants.shell or options.allow_shell,
    )
    choices = choose(workflow.models, options.models, environ, config, options.providers)
    choices = hosted(choices) if options.host else choices
    if not options.no_models:
        _check_scripts(choices.values(), root)
    # Reading the definitions costs more than all else here: only where one can be asked.
    asks = bool(options.fix) or any(map(_asks, _all(steps)))
    agents = loader.load_agents(root, workflow) if asks else dict[str, "AgentSpec"]()
    return Prepared(
        workflow=workflow,
        steps=steps,
        root=root,
        options=options,
        config=config,
        agents=agents,
        choices=choices,
        inputs=loader.resolve_inputs(
            workflow, options.inputs, cwd if options.input_files else None
        ),
        secrets=_granted(steps, options, grants, environ, config),
        budget=_budget(workflow.budget, options, config.ceilings),
        grants=grants,
        environ=environ,
        state=state_of(root, options.state_dir, environ),
        mode=sandbox_mode(workflow, options, config, environ),
    )


def sandbox_mode(
    workflow: Workflow, options: Options, config: UserConfig, environ: Mapping[str, str]
) -> SandboxMode:
    """Return what is asked for of a sandbox: the caller before the variable before the user's file.

    Raises:
        UsageError: The variable has no such value.
        ProtectionError: The workflow requires what the user switched off.
    """
    named = environ.get(SANDBOX_VARIABLE) or None
    mode = _MODES.get(named) if named else None
    if named and mode is None:
        raise UsageError(
            f"{SANDBOX_VARIABLE}={named!r} is no mode of the sandbox",
            hint="Give `auto`, `require` or `off`.",
        )
    chosen = options.sandbox or mode or config.sandbox.mode or "auto"
    if workflow.sandbox != "require" or chosen == "require":
        return chosen
    if chosen == "off":
        raise ProtectionError(
            f"workflow {workflow.name!r} requires a sandbox, and it is switched off",
            hint="Leave out `--sandbox off`, or what says so in SUBRUNNER_SANDBOX or your "
            "configuration.",
        )
    return "require"


def opened(prepared: Prepared) -> Prepared:
    """Open the run's sandbox; nothing has run.

    Raises:
        ProtectionError: It is required, and does not hold here.
        UsageError: The user's configuration is wrong about it.
    """
    if prepared.mode == "off":
        return prepared
    # A run without a sandbox need not pay for this.
    from runner.sandbox.opening import Extra, open_sandbox  # noqa: PLC0415

    settings = prepared.config.sandbox
    sandbox = open_sandbox(
        prepared.mode,
        prepared.root,
        prepared.state,
        prepared.environ,
        Extra(read=settings.read, write=settings.write),
    )
    return replace(prepared, sandbox=sandbox)


def state_of(
    root: Path, option: Path | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """Return the state directory of a work tree.

    Raises:
        UsageError: It lies inside the tree, or cannot be made private.
    """
    environ = os.environ if environ is None else environ
    return repo_state(root, state_root(option or _state_option(environ)))


def work_tree(cwd: Path) -> Path:
    """Return the git work tree around a directory; the directory itself where there is none."""
    for place in (cwd, *cwd.parents):
        if (place / ".git").exists():
            return place
    return cwd


def selected(workflow: Workflow, wanted: Sequence[str]) -> tuple[Step, ...]:
    """Return the steps to run: all, or the wanted ones and what they need.

    Raises:
        UsageError: A step is not in the workflow.
    """
    if not wanted:
        return workflow.steps
    _check_named(workflow, wanted, "STEP")
    by_id = {step.id: step for step in workflow.steps}
    keep: set[str] = set()
    todo = list(wanted)
    while todo:
        step = todo.pop()
        if step not in keep:
            keep.add(step)
            todo.extend(by_id[step].needs)
    return tuple(step for step in workflow.steps if step.id in keep)


def plan_of(step: Step) -> StepPlan:
    """Return a step as listeners see it before the run."""
    match step.kind:
        case Run(command):
            kind, title = "run", command
        case Prompt(text):
            kind, title = "prompt", text
        case Commit(files=files):
            kind, title = "commit", f"commit {files if isinstance(files, str) else ' '.join(files)}"
        case Push(remote, branch):
            kind, title = "push", f"push to {remote}{f'/{branch}' if branch else ''}"
        case Uses(workflow):
            kind, title = "uses", f"workflow {workflow.name}"
    return StepPlan(step.id, kind, title.strip().partition("\n")[0], step.needs)


def find_and_load(target: str | Path | Workflow | None, root: Path, cwd: Path) -> Workflow:
    """Return the workflow that a target names; a file beats a name."""
    if isinstance(target, Workflow):
        return target
    if isinstance(target, Path):
        target = str(target)
    if target is not None and (cwd / target).is_file():
        return loader.load_workflow(cwd / target, root=root)
    try:
        path = loader.find_workflow(target, root)
    except UsageError as error:
        raise _step_meant(target, root) or error from None
    return loader.load_workflow(path, root=root)


def _step_meant(target: str | None, root: Path) -> UsageError | None:
    """Return an error that helps where a step was named in the workflow's place."""
    try:
        workflow = loader.load_workflow(loader.find_workflow(None, root), root=root)
    except UsageError:
        return None
    if target not in {step.id for step in workflow.steps} or workflow.file is None:
        return None
    file = workflow.file.relative_to(root)
    hint = f"It is a step: name the workflow before it, `{file} {target}`."
    return UsageError(f"there is no workflow `{target}`", hint=hint)


def _check_named(workflow: Workflow, names: Iterable[str], what: str) -> None:
    known = [step.id for step in workflow.steps]
    for name in names:
        if name not in known:
            raise UsageError(
                f"{what} {name!r}: workflow {workflow.name!r} has no such step",
                hint=f"Its steps are: {', '.join(known)}.",
            )


def _check_scripts(choices: Iterable[Choice], root: Path) -> None:
    """Read the scripts of scripted models, so that a wrong one is told before anything runs."""
    scripts = dict.fromkeys(split(one.id)[1] for one in choices if is_scripted(one.id))
    if not scripts:
        return
    from runner.models.scriptfile import load_script  # noqa: PLC0415  no other run pays for it

    for script in scripts:
        load_script(root / script)


def _check_roles(workflow: Workflow, named: Iterable[str], configured: Iterable[str]) -> None:
    known = dict.fromkeys((MAIN, CHEAP, *workflow.models, *configured))
    for role in named:
        if role not in known:
            hint = did_you_mean(role, known, label="Roles")
            raise UsageError(f"there is no model role {role!r}", hint=hint)


def _check_fixable(workflow: Workflow, names: Sequence[str]) -> None:
    runs = [step.id for step in workflow.steps if isinstance(step.kind, Run)]
    for name in names:
        if name not in runs:
            raise UsageError(
                f"--fix {name!r}: only a command step is mended",
                hint=f"Those are: {', '.join(runs)}." if runs else "There is none.",
            )


def _granted(
    steps: Sequence[Step],
    options: Options,
    grants: Grants,
    environ: Mapping[str, str],
    config: UserConfig,
) -> dict[str, str]:
    """Return the granted secrets that these steps ask for.

    Raises:
        NotGranted: A secret or the network is asked for and not granted.
        UsageError: A granted secret is not in the environment.
    """
    _check_model_keys(steps, config, options, environ)
    secrets: dict[str, str] = {}
    for step in _all(steps):
        if isinstance(step.kind, Push) and options.no_push:
            continue
        if step.network and not grants.network:
            raise NotGranted(
                f"step {step.id!r} asks for network access, which is not granted",
                hint="Grant it with --allow-network.",
            )
        for name in ungranted(step.inherit, step.secrets):
            raise NotGranted(
                f"step {step.id!r} inherits {name!r}, which looks like a secret and is not granted",
                hint=f"Name it under the step's `secrets:` and give --secret {name}.",
            )
        for name in step.secrets:
            if name not in grants.secrets:
                raise NotGranted(
                    f"step {step.id!r} asks for the secret {name!r}, which is not granted",
                    hint=f"Grant it with --secret {name}; its value is the variable's.",
                )
            if not environ.get(name):
                raise UsageError(
                    f"the granted secret {name!r} is not set",
                    hint=f"Set {name} in the environment.",
                )
            _check_secret(name, environ[name])
            secrets[name] = environ[name]
    return secrets


def _check_secret(name: str, value: str) -> None:
    """Refuse a value that cannot be hidden without hiding half of every text.

    Raises:
        UsageError: It is too short, or a word.
    """
    from runner.workspace.secretforms import SHORTEST  # noqa: PLC0415  few runs have secrets

    size = len(value.strip().encode("utf-8", "surrogateescape"))
    if size < SHORTEST:
        why = f"it has {size} bytes, and what is shorter than {SHORTEST} cannot be hidden"
    elif value.strip().casefold() in _WORDS or len(set(value.strip())) < 3:
        why = "it is a word that any text may hold"
    else:
        return
    raise UsageError(
        f"the granted secret {name!r} is no secret: {why}",
        hint=f"Give {name} a long random value, or pass what is no secret by the step's `env`.",
    )


def known_secrets(prepared: Prepared) -> frozenset[str]:
    """Return the values that nothing of a run may tell: granted ones, and the environment's own."""
    environ, config = prepared.environ, prepared.config
    declared = (*config.providers.values(), *prepared.options.providers.values())
    keys = {one.key_env: "" for one in declared if one.key_env in environ}
    # Under a name that tells, whatever the user's configuration calls it.
    named = {f"{name}_KEY": environ[name] for name in keys if name}
    values = secret_values({**environ, **named}, sure=True)
    return frozenset({*prepared.secrets.values(), *values})


def _check_model_keys(
    steps: Iterable[Step], config: UserConfig, options: Options, environ: Mapping[str, str]
) -> None:
    """Refuse to hand a command what models are asked with: by its name, or by another.

    Raises:
        NotGranted: A step names or inherits such a key.
    """
    asked = {name: step for step in _all(steps) for name in (*step.secrets, *step.inherit)}
    if not asked:
        return
    declared = (*config.providers.values(), *options.providers.values())
    keys = ({one.key_env for one in declared if one.key_env} | key_variables()) - _SHARED
    values = {environ[name] for name in keys if environ.get(name)}
    for name, step in asked.items():
        if name in keys or environ.get(name, "") in values:
            raise NotGranted(
                f"step {step.id!r} asks for {name!r}, which is a model's key: "
                "no command is given one",
                hint="Use another key for what the command does, in a variable of its own.",
            )


def _budget(asked: Budget, options: Options, ceilings: Budget) -> Budget:
    """Return the budget: the command line's before the file's, below the user's ceilings."""
    usd = options.budget_usd if options.budget_usd is not None else asked.usd
    return Budget(
        usd=_least(usd, ceilings.usd),
        tokens=_least(asked.tokens, ceilings.tokens),
        seconds=_least(asked.seconds, ceilings.seconds),
    )


def _least(one: T | None, other: T | None) -> T | None:
    both = [value for value in (one, other) if value is not None]
    return min(both, default=None)


def _state_option(environ: Mapping[str, str]) -> Path | None:
    given = environ.get("SUBRUNNER_STATE_DIR")
    return Path(given) if given else None


def _needs_tree(step: Step, options: Options) -> bool:
    models = not options.no_models
    match step.kind:
        case Run(fix=fix, escalate=escalate):
            mends = fix is not None or escalate is not None or step.id in options.fix
            return mends and models
        case Prompt():
            return models
        case Commit() | Push():
            return True
        case Uses(workflow):
            return any(_needs_tree(inner, options) for inner in workflow.steps)


def _all(steps: Iterable[Step]) -> Iterable[Step]:
    for step in steps:
        yield step
        if isinstance(step.kind, Uses):
            yield from _all(step.kind.workflow.steps)


def _asks(step: Step) -> bool:
    """Tell whether an agent may be asked for a step."""
    match step.kind:
        case Run(fix=fix, escalate=escalate):
            return fix is not None or escalate is not None
        case Prompt():
            return True
        case Commit() | Push() | Uses():
            return True


def _kinds(steps: Iterable[Step]) -> Iterable[object]:
    return (step.kind for step in _all(steps))
