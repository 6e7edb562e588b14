"""Decides what a command judges (tests, lint, format or types), from its words and its failure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.outcome import Phase

if TYPE_CHECKING:
    from collections.abc import Set

    from runner.guarded import Nature
    from runner.outcome import Fingerprint

_STRICTEST: tuple[Nature, ...] = ("test", "type", "lint", "format")
"""Where several natures are found the first of these counts: it guards most."""

_BY_TOOL: dict[str, Nature] = {
    "pytest": "test",
    "unittest": "test",
    "jest": "test",
    "vitest": "test",
    "ruff": "lint",
    "eslint": "lint",
    "biome": "lint",
    "go-vet": "lint",
    "clippy": "lint",
    "pre-commit": "lint",
    "ruff-format": "format",
    "rustfmt": "format",
    "mypy": "type",
    "pyright": "type",
    "tsc": "type",
}
"""Tools as fingerprints name them."""

_TEST = (
    "pytest py.test unittest nose2 trial tox nox jest vitest mocha ava tap playwright cypress karma"
    " wtr ctest nextest gotestsum ginkgo rspec minitest phpunit pest bats prove"
)
_LINT = (
    "ruff flake8 pylint bandit eslint oxlint tslint xo stylelint biome standard golangci-lint"
    " staticcheck revive clippy shellcheck yamllint markdownlint markdownlint-cli2 hadolint rubocop"
    " codespell typos pre-commit prek actionlint semgrep lint-imports"
)
_FORMAT = "black isort yapf autopep8 gofmt gofumpt goimports rustfmt prettier dprint clang-format"
_TYPE = "mypy dmypy pyright basedpyright pyre pyrefly pytype ty tsc vue-tsc svelte-check tsd"

_BY_PROGRAM: dict[str, Nature] = {
    **dict.fromkeys(_TEST.split(), "test"),
    **dict.fromkeys(_LINT.split(), "lint"),
    **dict.fromkeys(_FORMAT.split(), "format"),
    **dict.fromkeys(_TYPE.split(), "type"),
}

_BY_WORD: dict[str, Nature] = {
    "test": "test",
    "tests": "test",
    "tested": "test",
    "unit": "test",
    "integration": "test",
    "e2e": "test",
    "spec": "test",
    "coverage": "test",
    "lint": "lint",
    "lints": "lint",
    "linter": "lint",
    "style": "lint",
    "vet": "lint",
    "clippy": "lint",
    "fmt": "format",
    "format": "format",
    "formatting": "format",
    "type": "type",
    "types": "type",
    "typing": "type",
    "typecheck": "type",
    "typechecks": "type",
    "tsc": "type",
    "mypy": "type",
    "pyright": "type",
}
"""Words of a target or a script's name: `make test-unit`, `npm run type-check`, `./ci/lint.sh`."""

_RUNS_TARGETS = (
    "make gmake just task npm pnpm yarn bun npx bunx deno node cargo go mvn mvnw gradle gradlew"
    " dotnet swift mix rake bundle bazel nx turbo lerna hatch pdm poetry uv rye invoke inv poe"
    " doit composer stack cabal sbt lein zig dart flutter manage.py runtests.py setup.py"
)
_WRAPS = (
    "env time nice timeout sudo xvfb-run exec command run x dlx tool with uv uvx pipx poetry pdm"
    " hatch rye npx bunx pnpm yarn python python3 coverage bash sh -m -c -- -p -n"
)
_TARGET_RUNNERS = frozenset(_RUNS_TARGETS.split())
_WRAPPERS = frozenset(_WRAPS.split())
"""Words that stand before the program that counts."""

_SEPARATORS = re.compile(r"&&|\|\||[;|&\n()]")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=\S*$")


def nature_of(command: str, fingerprint: Fingerprint | None = None) -> Nature:
    """Return what `command` judges, going by its words and, where there is one, by its failure.

    Where both or several parts of the command say something, the nature that guards most wins:
    `ruff check && pytest` is a test. `other` when nothing is recognised.
    """
    found: set[Nature] = set()
    for tool in fingerprint.tool.split("+") if fingerprint else ():
        if tool in _BY_TOOL:
            found.add(_BY_TOOL[tool])
        elif tool in ("go", "cargo") and fingerprint and fingerprint.phase is Phase.RUN:
            found.add("test")  # both build first: what fails after that are tests
    for part in _SEPARATORS.split(command):
        nature = _of_simple(part)
        if nature is not None:
            found.add(nature)
    return _strictest(found) or "other"


def _of_simple(command: str) -> Nature | None:
    """Return the nature of one command without `&&`, `|` and their like."""
    words = [word.strip("\"'`$") for word in command.split()]
    while words and (_ASSIGNMENT.match(words[0]) or words[0] in ("!", "if", "then", "do")):
        words.pop(0)
    for index, word in enumerate(words):
        program = re.sub(r"@.*|\.exe$|(?<=^python)[\d.]+$", "", word.rsplit("/", 1)[-1])
        rest = words[index + 1 :]
        if program in _BY_PROGRAM:
            return _refined(program, rest)
        if program in _TARGET_RUNNERS and (nature := _of_targets(program, rest)):
            return nature
        if program in _TARGET_RUNNERS or program in _WRAPPERS or _is_setting(word):
            continue
        # `test -f x` is the shell's own; a script tells by its name what it is for.
        return _of_name(program) if "/" in word or "." in program else None
    return None


def _refined(program: str, rest: list[str]) -> Nature:
    """Tell apart what one program does under several names: `ruff format` is no lint."""
    if program in ("ruff", "biome") and next(iter(_plain(rest)), "") == "format":
        return "format"
    if program in ("tox", "nox"):
        return _of_targets(program, rest) or "test"
    return _BY_PROGRAM[program]


def _of_targets(program: str, rest: list[str]) -> Nature | None:
    """Return what the targets of `make`, `npm run` and so on are named after."""
    if program in ("cargo", "go") and rest[:1] in (["check"], ["vet"]):
        return "type" if program == "cargo" else "lint"
    if program == "node":
        return "test" if any(word.startswith("--test") for word in rest) else None
    for word in _plain(rest):
        if word.rsplit("/", 1)[-1] in _BY_PROGRAM:
            return None  # `uv run pytest`: the program itself says more
        if nature := _of_name(word):
            return nature
    return None


def _plain(words: list[str]) -> list[str]:
    return [word for word in words if not word.startswith("-")]


def _of_name(name: str) -> Nature | None:
    """Return the nature that a target's or a script's name tells: `test:unit`, `check-types`."""
    parts = re.split(r"[^a-z0-9]+", name.rsplit("/", 1)[-1].lower())
    found: set[Nature] = {_BY_WORD[part] for part in parts if part in _BY_WORD}
    return _strictest(found)


def _strictest(found: Set[Nature]) -> Nature | None:
    return next((nature for nature in _STRICTEST if nature in found), None)


def _is_setting(word: str) -> bool:
    """Return whether a word only sets how the program after it runs: an option, a number."""
    return word.startswith("-") or word.isdigit() or bool(re.fullmatch(r"[\d.]+[smh]?", word))
