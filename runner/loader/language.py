"""Declares the workflow language: every key, what it takes, and what it is for. Nothing else knows.

The documentation strings here are what editors show; keep them to one or two sentences.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from runner.loader.records import (
    Belongs,
    ExactlyOne,
    Excludes,
    Field,
    Fields,
    Record,
    fields_of,
)
from runner.loader.shapes import (
    Choice,
    Constant,
    Duration,
    Either,
    Flag,
    ListOf,
    MapOf,
    Money,
    Text,
    Whole,
)
from runner.loader.vocabulary import (
    AGENT_TEXT,
    COMMAND,
    DIRECTORY,
    ENVIRONMENT_SHAPE,
    EXPRESSION,
    GLOB,
    MODEL_ID,
    NAME_TEXT,
    PLAIN,
    PROMPT_TEXT,
    ROLE_TEXT,
    STEP_ID,
    VARIABLE,
    WORKFLOW_NAME,
)

if TYPE_CHECKING:
    from runner.plan import KeepWarm, ValueType, When

MAX_STEPS = 2_000
TOOLS = ("read_file", "edit_file", "write_file", "list", "grep", "check", "shell")
SHELLS = {
    "bash": ("bash", "-eo", "pipefail", "-c"),
    "sh": ("sh", "-e", "-c"),
    "python": ("python", "-c"),
    "pwsh": ("pwsh", "-NoProfile", "-Command"),
}
KINDS = ("run", "prompt", "commit", "push", "uses")

_TYPES = {
    **dict.fromkeys(("str", "text", "enum", "choice"), "string"),
    **dict.fromkeys(("int", "integer", "float", "decimal"), "number"),
    "bool": "boolean",
}
_JSON = dict.fromkeys(("array", "list", "object", "dict", "map", "any"), "json")
VALUE_TYPE: Choice[ValueType] = Choice(
    ("string", "number", "boolean", "json"), foreign={**_TYPES, **_JSON}
)
_INPUT_TYPE: Choice[ValueType] = Choice(("string", "number", "boolean"), foreign=_TYPES)
_WHEN: Choice[When] = Choice(("success", "failure", "always"))
Files = Literal["run", "all", "staged"]
_FILES: Either[str | tuple[str, ...]] = Either(
    "`run`, `all`, `staged` or a list of globs",
    scalar=Choice(("run", "all", "staged"), 'Globs stand in a list: ["src/**"].'),
    sequence=ListOf(GLOB, "globs", least=1),
)

# fix and escalate.


class FixKeys:
    """Keys of `fix`."""

    AGENT = Field("agent", AGENT_TEXT, "The agent that mends; default `fixer`.")
    MODEL = Field("model", ROLE_TEXT, "A model role; default the agent's own.")
    THEN = Field("then", ROLE_TEXT, "A dearer model role, asked between it and main; default none.")
    ATTEMPTS = Field("attempts", Whole(1, 10), "Tries by subagents; default 2.")
    TURNS = Field("turns", Whole(1, 100), "Requests of one attempt at most.")
    SECONDS = Field("seconds", Duration(86_400), "Time of one attempt at most.")
    USD = Field("usd", Money(), "Money of this step's subagents at most.")
    WRITE = Field(
        "write", ListOf(GLOB, "globs"), "What a mend may write; default all but protected."
    )
    PROTECT = Field(
        "protect", ListOf(GLOB, "globs"), "What no mend may write, beside the defaults'."
    )
    TOOLS = Field(
        "tools", ListOf(Choice(TOOLS), "tools", least=1, unique=True), "Default: the agent's own."
    )


FIX_RECORD = Record(
    "`fix`",
    fields_of(FixKeys),
    foreign={
        "escalate": "`escalate` stands beside `fix`, in the step.",
        "max": "Write `attempts`.",
    },
)
FIX_SHAPE: Either[bool | str | Fields] = Either(
    "`true`, `false`, an agent's name or a mapping",
    flag=Flag(),
    scalar=AGENT_TEXT,
    mapping=FIX_RECORD,
)
ESCALATE_MAX = Field("max", Whole(1, 10), "Packets to the main agent at most; default 2.")
ESCALATE_SHAPE: Either[bool | Fields] = Either(
    "`true`, `false` or a mapping with `max`",
    flag=Flag(),
    mapping=Record("`escalate`", (ESCALATE_MAX,)),
    example="Write `escalate: { max: 2 }`.",
)


class RetryKeys:
    """Keys of `retry`."""

    ATTEMPTS = Field("attempts", Whole(0, 10), "How often the command runs again by itself.")
    DELAY = Field("delay", Duration(3_600, zero=True), "Time between two tries.")


RETRY_SHAPE = Record(
    "`retry`", (RetryKeys.ATTEMPTS, RetryKeys.DELAY), example="Write `retry: { attempts: 1 }`."
)
SHELL_SHAPE: Either[str | tuple[str, ...]] = Either(
    "a shell's name or a list of arguments",
    scalar=Choice(tuple(SHELLS), "Write another as a list of arguments: [fish, -c]."),
    sequence=ListOf(PLAIN, "arguments", least=1, most=20),
)

# Steps.


class CommitKeys:
    """Keys of `commit`."""

    MESSAGE = Field("message", Text("a message", max_length=20_000), "`auto`, or the message.")
    AGENT = Field("agent", AGENT_TEXT, "Who writes the message where it is `auto`.")
    FILES = Field(
        "files",
        _FILES,
        "`run` (default): what this run changed and what was tracked and changed at its start.",
    )


class PushKeys:
    """Keys of `push`."""

    REMOTE = Field(
        "remote",
        Text(
            "a remote's name",
            pattern=r"[A-Za-z0-9][A-Za-z0-9._/-]*",
            rule="Write the name of a remote, such as `origin`, not its address.",
            max_length=200,
        ),
        "A remote of the repository; default `origin`.",
    )
    BRANCH = Field("branch", Text("a branch", max_length=250), "Default `runner/WORKFLOW-RUN`.")
    AUTH = Field(
        "auth",
        Text(
            "a way to authenticate",
            pattern=r"auto|ssh|helper|secret:[A-Za-z_][A-Za-z0-9_]*",
            rule="Write `auto`, `ssh`, `helper` or `secret:NAME`.",
        ),
        "`auto` (default), `ssh`, `helper` or `secret:NAME`.",
    )


_WRITTEN = ("run", "check")


class StepKeys:
    """Keys of a step."""

    ID = Field("id", STEP_ID, "Its name, unique in the file: `id: test`.", required=True)
    IF = Field("if", EXPRESSION, "Run the step if this holds, else skip it.")
    ELSE = Field(
        "else",
        Choice(("stop",), "Without `else` a step whose `if` does not hold is skipped."),
        "`stop`: if `if` does not hold, the run succeeds here.",
    )
    NEEDS = Field(
        "needs",
        ListOf(STEP_ID, "steps' ids", unique=True),
        "Steps that must end before; default the step before, `[]` starts at once.",
    )
    WHEN = Field("when", _WHEN, "Run after success (default), failure, or always.")
    ENV = Field(
        "env", ENVIRONMENT_SHAPE, "Variables of its commands; `inherit` names those passed on."
    )
    SECRETS = Field(
        "secrets", ListOf(VARIABLE, "secrets' names", unique=True), "Secrets it is given."
    )
    DIR = Field("dir", DIRECTORY, "Where its commands run.")
    SHELL = Field("shell", SHELL_SHAPE, "What runs its commands; default `bash -eo pipefail`.")
    TIMEOUT = Field("timeout", Duration(), "For each command, such as `10m`.")
    RETRY = Field("retry", RETRY_SHAPE, "Runs the command again before anything else is tried.")
    SOURCES = Field(
        "sources",
        ListOf(GLOB, "globs", least=1),
        "What makes an earlier pass stale; default the whole tree.",
    )
    NETWORK = Field("network", Flag(), "Whether the step asks for network.")
    ALLOW_FAILURE = Field("allow_failure", Flag(), "Whether the run may succeed though it fails.")
    OUTPUTS = Field(
        "outputs",
        MapOf(NAME_TEXT, VALUE_TYPE),
        "Values that the command writes as JSON to $SUBRUNNER_OUTPUT, with their types.",
    )
    RUN = Field("run", COMMAND, "A command.")
    AUTOFIX = Field("autofix", COMMAND, "A command that mends what `run` complains about.")
    FIX = Field("fix", FIX_SHAPE, "Let a subagent mend what makes `run` fail.")
    ESCALATE = Field(
        "escalate", ESCALATE_SHAPE, "Let the main agent mend what subagents could not."
    )
    PROMPT = Field("prompt", PROMPT_TEXT, "A task for an agent.")
    AGENT = Field("agent", AGENT_TEXT, "Who does it; default `main`.")
    CHECK = Field("check", COMMAND, "A command that judges what the agent did.")
    ACCEPT = Field("accept", EXPRESSION, "A condition on the agent's typed output.")
    OUTPUT = Field(
        "output",
        MapOf(NAME_TEXT, VALUE_TYPE),
        "What the agent must answer, with types.",
    )
    WRITE = Field("write", ListOf(GLOB, "globs"), "What the agent may write.")
    PROTECT = Field("protect", ListOf(GLOB, "globs"), "What the agent may not write.")
    COMMIT = Field(
        "commit",
        Record(
            "`commit`",
            fields_of(CommitKeys),
            example="Write `commit: { message: auto }`, or your own message in place of `auto`.",
            foreign={"paths": "Write `files`.", "add": "Write `files`."},
        ),
        "Commits what passed.",
    )
    PUSH = Field(
        "push",
        Record(
            "`push`",
            fields_of(PushKeys),
            example="Write `push: { remote: origin }`.",
            foreign={"force": "A push is never forced.", "url": "Write the remote's name."},
        ),
        "Pushes this run's commit.",
    )
    USES = Field("uses", Text("a workflow", max_length=300), "Another local file, or a built-in.")
    WITH = Field("with", MapOf(NAME_TEXT, Constant()), "Values for that workflow's inputs.")


_CI = "That belongs to the CI system; this runs inside one of its jobs."
_PASTED = "Write `run: COMMAND`."
_IN_FIX = "For a `run` step it stands under `fix`."

STEP = Record(
    "a step",
    fields_of(StepKeys),
    rules=(
        ExactlyOne("a step", KINDS),
        Belongs("else", ("if",)),
        Belongs("autofix", ("run",)),
        Belongs(
            "fix", ("run",), "What a `check` or a git hook complains about `defaults.fix` mends."
        ),
        Belongs("escalate", ("run",)),
        Belongs("agent", ("prompt",), "The agent that mends stands in `fix: { agent: NAME }`."),
        Belongs("check", ("prompt",), "The command of a `run` step is its own check."),
        Belongs("accept", ("output",), "It judges the `output` that a prompt step declares."),
        Belongs("output", ("prompt",), "What a command hands on is declared by `outputs`."),
        Belongs("outputs", ("run",), "What an agent answers is declared by `output`."),
        Belongs("write", ("prompt",), _IN_FIX),
        Belongs("protect", ("prompt",), _IN_FIX),
        Belongs("with", ("uses",)),
        Belongs("dir", _WRITTEN),
        Belongs("shell", _WRITTEN),
        Belongs("retry", _WRITTEN),
        Belongs("sources", _WRITTEN),
        Belongs("network", ("run", "prompt", "push", "commit")),
        Excludes("timeout", "uses", "Give it to the steps of that workflow."),
        Belongs("env", ("run", "prompt", "commit", "push"), "Hand values over by `with`."),
        Belongs(
            "secrets",
            ("run", "commit", "push", "uses"),
            "An agent could read them: put the command that needs them into a `run` step.",
        ),
    ),
    foreign={
        "name": "Write `id`.",
        "timeout-minutes": "Write `timeout: 10m`.",
        "working-directory": "Write `dir: PATH`.",
        "cwd": "Write `dir: PATH`.",
        "continue-on-error": "Write `allow_failure: true`.",
        "command": _PASTED,
        "cmd": _PASTED,
        "script": _PASTED,
        "depends-on": "Write `needs: [ID]`.",
        "retries": "Write `retry: { attempts: 1 }`.",
        "model": "A model role stands in `fix: { model: cheap }` or in the agent's file.",
        "strategy": _CI,
        "matrix": _CI,
        "services": _CI,
        "container": _CI,
        "runs-on": _CI,
    },
    example="Write `- id: test`, and below it `run: pytest`.",
)

# The file.


class BudgetKeys:
    """Keys of `budget`."""

    USD = Field("usd", Money(), "Money for models; default 1.00.")
    TOKENS = Field("tokens", Whole(0, 10**12), "Tokens of all requests together.")
    TIME = Field("time", Duration(), "Time for the whole run; default 30m.")


BUDGET_SHAPE = Record(
    "`budget`",
    (BudgetKeys.USD, BudgetKeys.TOKENS, BudgetKeys.TIME),
    foreign={"seconds": "Write `time: 20m`.", "timeout": "Write `time: 20m`."},
    example="Write `budget: { usd: 2.00, time: 20m }`.",
)


KEEP_WARM_SHAPE: Choice[KeepWarm] = Choice(
    ("auto", "off"), foreign={"false": "off", "never": "off", "true": "auto", "on": "auto"}
)


SANDBOX_SHAPE: Choice[Literal["require"]] = Choice(
    ("require",), foreign={"true": "require", "required": "require", "on": "require"}
)


class InputKeys:
    """Keys of an input."""

    TYPE = Field("type", _INPUT_TYPE, "`string` (default), `number` or `boolean`.")
    DEFAULT = Field(
        "default",
        Text("a value", any_scalar=True, empty=True, max_length=100_000),
        "Without it the input is required.",
    )
    DESCRIPTION = Field("description", PLAIN, "What it is for.")
    UNTRUSTED = Field("untrusted", Flag(), "Fence it as data when a model reads it.")


INPUT = Record(
    "an input",
    (InputKeys.TYPE, InputKeys.DEFAULT, InputKeys.DESCRIPTION, InputKeys.UNTRUSTED),
    foreign={"required": "An input is required unless it has a `default`."},
    example="Write `NAME: { type: string, description: ... }`.",
)


class DefaultKeys:
    """Keys of `defaults`."""

    FIX = Field(
        "fix", FIX_SHAPE, "For steps that are safe to repeat: no secrets, no network, no commit."
    )
    ESCALATE = Field("escalate", ESCALATE_SHAPE, "For steps with a `fix`.")
    TIMEOUT = Field("timeout", Duration(), "For each command.")
    SHELL = Field("shell", SHELL_SHAPE, "What runs commands.")
    DIR = Field("dir", DIRECTORY, "Where commands run.")
    ENV = Field("env", ENVIRONMENT_SHAPE, "Variables of all commands.")
    PROTECT = Field("protect", ListOf(GLOB, "globs"), "What no mend of any step may write.")
    RETRY = Field("retry", RETRY_SHAPE, "Runs commands again before anything else is tried.")


class WorkflowKeys:
    """Keys of the file."""

    NAME = Field("name", WORKFLOW_NAME, "Its name; default the file's.")
    MODELS = Field(
        "models", MapOf(ROLE_TEXT, MODEL_ID), "Model ids by role: `main`, `cheap`, your own."
    )
    BUDGET = Field("budget", BUDGET_SHAPE, "Ceilings of a run; default 1.00 USD and 30 minutes.")
    INPUTS = Field(
        "inputs", MapOf(NAME_TEXT, INPUT), "Values that the caller gives by `-i NAME=VALUE`."
    )
    SECRETS = Field(
        "secrets",
        ListOf(VARIABLE, "secrets' names", unique=True),
        "Names of secrets that it asks for; granted by `--secret NAME`.",
    )
    DEFAULTS = Field(
        "defaults",
        Record(
            "`defaults`",
            fields_of(DefaultKeys),
            foreign={"run": "`shell` and `dir` stand in `defaults` themselves."},
        ),
        "For all steps that do not say otherwise.",
    )
    STEPS = Field(
        "steps", ListOf(STEP, "steps", least=1, most=MAX_STEPS), "What is done.", required=True
    )
    KEEP_WARM = Field(
        "keep_warm",
        KEEP_WARM_SHAPE,
        "Whether main's prompt cache is kept alive where that is cheaper; default `auto`.",
    )
    SANDBOX = Field(
        "sandbox",
        SANDBOX_SHAPE,
        "`require`: it does not run where no sandbox holds. Nothing weaker can be asked for.",
    )
    OVERRIDES = Field(
        "overrides",
        ListOf(AGENT_TEXT, "agents' names", unique=True),
        "Built-in agents that the repository replaces by its own of the same name.",
    )


_JOBS = "There are no jobs: `steps` stands at the top level."

WORKFLOW = Record(
    "a workflow",
    fields_of(WorkflowKeys),
    foreign={
        "on": "There are no triggers: let a CI job call `runner exec`.",
        "true": "There are no triggers: let a CI job call `runner exec`.",
        "jobs": _JOBS,
        "tasks": _JOBS,
        "env": "Write `defaults: { env: ... }`.",
        "permissions": _CI,
        "concurrency": _CI,
        "services": _CI,
        "matrix": _CI,
        "fix": "Write `defaults: { fix: ... }`.",
        "agents": "Agents are Markdown files in `.runner/agents`.",
        "version": "Delete it: there is one version.",
    },
    example="It begins with `steps:`.",
)


def workflow_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of workflow files, for editors."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "runner workflow",
    }
    schema |= WORKFLOW.schema()
    step = schema["properties"]["steps"]["items"]
    schema["properties"]["steps"]["items"] = {"$ref": "#/$defs/step"}
    schema["$defs"] = {"step": step}
    return schema
