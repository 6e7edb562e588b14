"""Tells by a written table whether a command line is mechanical, and of which families. Pure.

Mechanical: every command of the line formats, lints, checks types, tests, builds, or is one of
`git add commit fetch pull push status`; beside them only what moves, names or cuts output may stand
(`cd`, `echo`, `| tail`). Whatever the table does not know is not mechanical.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast

from runner.frozen import frozen
from runner.measure.shell import NotUnderstoodError, Simple, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.measure.records import Family

Kind = Literal["format", "lint", "types", "test", "build", "git", "beside"]

_ANY = "*"
_NONE = ""

TOOLS: Mapping[str, str] = {
    "format": "black clang-format dprint gofmt gofumpt goimports isort nixfmt ormolu prettier"
    " rustfmt shfmt stylua swiftformat yapf",
    "lint": "actionlint bandit checkstyle codespell cspell eslint flake8 golangci-lint hadolint"
    " ktlint lint-imports markdownlint markdownlint-cli2 oxlint pre-commit prek py_compile"
    " compileall pylint rubocop semgrep shellcheck staticcheck standardrb stylelint swiftlint"
    " tflint typos vulture yamllint",
    "types": "basedpyright flow mypy pyre pyright svelte-check tsc vue-tsc",
    "test": "ava bats ctest jest karma mocha nox phpunit pytest py.test rspec tap tox unittest"
    " vitest",
    "build": "esbuild msbuild ninja parcel rollup tsup webpack xcodebuild",
    "beside": "cd pushd popd echo printf true : export set unset source . pwd sleep wait date"
    " which exit",
}
"""Programs that are of one family whatever they are told."""

VERBS: Mapping[str, Mapping[str, str]] = {
    "biome": {"format": "format", "lint check ci": "lint"},
    "bun": {"test": "test", "build": "build"},
    "cargo": {
        "fmt": "format",
        "clippy": "lint",
        "check": "types",
        "test nextest t": "test",
        "build b": "build",
    },
    "cmake": {"--build": "build"},
    "cypress": {"run": "test"},
    "dart": {"format": "format", "analyze": "lint", "test": "test"},
    "deno": {"fmt": "format", "lint": "lint", "check": "types", "test": "test"},
    "dotnet": {"format": "format", "test": "test", "build": "build"},
    "flutter": {"analyze": "lint", "test": "test", "build": "build"},
    "git": {"add commit fetch pull push status": "git"},
    "go": {"fmt": "format", "vet": "lint", "test": "test", "build": "build"},
    "just": {},
    "make": {_NONE: "build"},
    "mix": {
        "format": "format",
        "credo": "lint",
        "dialyzer": "types",
        "test": "test",
        "compile": "build",
    },
    "mvn": {"test verify": "test", "compile package": "build"},
    "next": {"lint": "lint", "build": "build"},
    "node": {"--test": "test"},
    "npm": {"test t": "test"},
    "playwright": {"test": "test"},
    "pnpm": {"test t": "test"},
    "ruff": {"format": "format", "check": "lint"},
    "swift": {"test": "test", "build": "build"},
    "taplo": {"fmt format": "format", "lint check": "lint"},
    "terraform": {"fmt": "format", "validate": "lint"},
    "turbo": {},
    "ty": {"check": "types"},
    "vite": {"build": "build"},
    "yarn": {"test": "test"},
    "zig": {"fmt": "format", "test": "test", "build": "build"},
}
"""Programs whose first argument decides; those that run tasks by name look in `TASKS` besides."""

TASKS: Mapping[str, str] = {
    "format": "format fmt prettier style",
    "lint": "check eslint lint precommit pre-commit ruff verify",
    "types": "mypy pyright tsc type-check typecheck types",
    "test": "coverage e2e integration jest pytest test tests unit vitest",
    "build": "all build bundle compile dist",
}
"""What tasks of make, npm and the like are called, up to a `:`, `-` or `.`."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_RUNS_TASKS = _words("make gmake just task npm pnpm yarn bun turbo nx gradle gradlew mvn mvnw")
_MANY_TASKS = frozenset({"make", "just", "gradle", "mvn"})
_TASK_WORDS = frozenset({"run", "run-script"})
_SAME = {"gmake": "make", "mvnw": "mvn", "gradlew": "gradle", "python3": "python"}

_FILTERS = _words(
    "awk cat column cut egrep fgrep fold grep head jq less nl rg sed sort tail tee tr uniq wc"
)
"""What may stand behind a pipe, or cut a file that the same line wrote."""

_VERB_IS_OPTION = frozenset({"cmake", "node"})

_WRAPPERS = _words("bunx command env nice nohup npx pnpx stdbuf time uvx xvfb-run")
_RUNNERS: Mapping[str, str] = {
    "bundle": "exec",
    "hatch": "run",
    "pdm": "run",
    "pipenv": "run",
    "pixi": "run",
    "pnpm": "exec",
    "poetry": "run",
    "rye": "run",
    "uv": "run",
    "yarn": "exec",
}
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_SHELLS = frozenset({"bash", "sh", "zsh", "dash"})
_SHELL_OPTION = re.compile(r"-[a-z]*c")
_DEEPEST = 3

_GIT_LOOKS: Mapping[str, frozenset[str]] = {
    "diff": frozenset(
        {"--stat", "--shortstat", "--numstat", "--name-only", "--name-status", "--check", "--quiet"}
    ),
    "log": frozenset({"--oneline", "-1"}),
    "rev-parse": frozenset(),
    "branch": frozenset({"--show-current"}),
}
"""Short looks that go with a commit; the whole diff is read to think, and is not among them."""


@frozen
class Mechanical:
    """What is known of a mechanical command line."""

    families: tuple[Family, ...]
    """Of each mechanical command, in order."""
    telling: bool
    """Whether the line's exit code is 0 only if all of them succeeded: it is not behind a pipe
    (without `pipefail`), `;` or `||`."""


def mechanical(line: str) -> Mechanical | None:
    """Return what a mechanical command line runs; `None` when it is not mechanical.

    Args:
        line: A command line, as a model gave it to a shell.
    """
    found = _line(line, 0)
    return found if found and found.families else None


def _line(line: str, depth: int) -> Mechanical | None:
    try:
        commands = split(line)
    except NotUnderstoodError:
        return None
    families: list[Family] = []
    written: set[str] = set()
    telling, safe = True, False
    for command in commands:
        found = _of_command(command, written, depth)
        if found is None:
            return None
        if families and command.after != "&&":
            telling = telling and safe and command.after in {"|", "|&"}
        families += found.families
        telling = telling and found.telling
        safe = safe or _sets_pipefail(command.words)
        written |= _writes(command)
    return Mechanical(tuple(families), telling)


def _sets_pipefail(words: Sequence[str]) -> bool:
    return words[:1] == ("set",) and words[-1:] == ("pipefail",)


def _writes(command: Simple) -> set[str]:
    """Return the files that a command writes, by redirection or as `tee`."""
    tee = command.words[1:] if command.words[:1] == ("tee",) else ()
    return {*command.targets, *(word for word in tee if not word.startswith("-"))}


def _of_command(command: Simple, written: set[str], depth: int) -> Mechanical | None:
    words = unwrapped(command.words)
    if not words:
        # Nothing but assignments; by redirection alone a file is emptied.
        return None if command.targets else _BESIDE
    program = words[0].rpartition("/")[2]
    if program in _FILTERS:
        fine = command.after in {"|", "|&"} or (len(words) > 1 and words[-1] in written)
        return _BESIDE if fine and "-i" not in words else None
    if program in _SHELLS:
        return _of_shell(words[1:], depth)
    kind = kind_of(program, words[1:])
    if kind is None or (kind == "beside" and command.targets):
        return None
    return _BESIDE if kind == "beside" else Mechanical((kind,), telling=True)


def _of_shell(arguments: Sequence[str], depth: int) -> Mechanical | None:
    if len(arguments) != 2 or not _SHELL_OPTION.fullmatch(arguments[0]) or depth >= _DEEPEST:
        return None
    return _line(arguments[1], depth + 1)


_BESIDE = Mechanical((), telling=True)


def unwrapped(words: Sequence[str]) -> Sequence[str]:
    """Return a command without assignments and without programs that only start another."""
    rest = list(words)
    while rest:
        program = rest[0].rpartition("/")[2]
        if _ASSIGNMENT.match(rest[0]) or program in _WRAPPERS:
            rest = _after_options(rest[1:])
        elif program == "timeout":
            rest = _after_options(rest[1:])[1:]
        elif len(rest) > 1 and _RUNNERS.get(program) == rest[1]:
            rest = _after_options(rest[2:])
        elif program.startswith("python") and len(rest) > 2 and rest[1] == "-m":
            rest = rest[2:]
        else:
            break
    return rest


def _after_options(words: list[str]) -> list[str]:
    while words and words[0].startswith("-"):
        words = words[1:]
    return words


def kind_of(program: str, arguments: Sequence[str]) -> Kind | None:
    """Return what a program with its arguments is; `None` when the table does not know it."""
    if program in _ALWAYS:
        return _ALWAYS[program]
    name = _SAME.get(program, program)
    if name == "git":
        arguments = _git_arguments(arguments)
        if arguments and _is_look(arguments):
            return "beside"
    verbs = _BY_VERB.get(name, _NO_VERBS)
    if name in _VERB_IS_OPTION:
        return verbs.get(arguments[0]) if arguments else None
    plain = [word for word in arguments if not word.startswith("-") and "=" not in word]
    if name in _RUNS_TASKS:
        return _of_tasks(plain, verbs, every=name in _MANY_TASKS)
    return verbs.get(plain[0] if plain else _NONE)


def _of_tasks(plain: Sequence[str], verbs: Mapping[str, Kind], *, every: bool) -> Kind | None:
    if plain and plain[0] in _TASK_WORDS:
        plain = plain[1:2]
        verbs = {}
    if not plain:
        return verbs.get(_NONE)
    # What follows a task is its arguments for some programs, more tasks for others.
    names = plain if every else plain[:1]
    kinds: list[Kind | None] = [verbs.get(word) or _BY_TASK.get(_stem(word)) for word in names]
    return kinds[0] if all(kinds) else None


def _stem(task: str) -> str:
    """Return the part of a task's name that says what it does: `test` of `test:unit`."""
    name = task.rpartition("/")[2].lstrip(":")
    return name if name in _BY_TASK else re.split(r"[:.\-_]", name, maxsplit=1)[0]


def _git_arguments(arguments: Sequence[str]) -> Sequence[str]:
    """Leave out `-C DIR`, `-c NAME=VALUE` and the like before the verb."""
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        rest = rest[2:] if rest[0] in {"-C", "-c"} else rest[1:]
    return rest


def _is_look(arguments: Sequence[str]) -> bool:
    asked = _GIT_LOOKS.get(arguments[0])
    if asked is None:
        return False
    return not asked or any(word in asked for word in arguments[1:])


def _listed(table: Mapping[str, str]) -> dict[str, Kind]:
    return {name: cast("Kind", kind) for kind, names in table.items() for name in names.split()}


def _verbs(table: Mapping[str, str]) -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    for words, kind in table.items():
        for word in words.split() or [_NONE]:
            found[word] = cast("Kind", kind)
    return found


_ALWAYS = _listed(TOOLS)
_BY_TASK = _listed(TASKS)
_NO_VERBS: dict[str, Kind] = {}
_BY_VERB = {name: _verbs(table) for name, table in VERBS.items()}
