"""Proposes checks for a Python repository: ruff, black, flake8, mypy, pyright, pytest, unittest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runner.init.proposal import Check, Proposal, Role

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.init.evidence import Evidence

PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "tox.ini")
ENVIRONMENTS = (".venv/bin", "venv/bin")
MANAGERS = {"uv.lock": "uv", "poetry.lock": "poetry", "pdm.lock": "pdm"}
OWN_FLAGS = ("--check", "--diff", "--fix", "--exit-non-zero-on-fix", "--show-fixes", "--write")
"""Flags that decide whether a tool writes; `init` sets them itself."""


def propose(evidence: Evidence) -> Proposal:
    """Propose the checks whose tools are configured or used here, and found."""
    found = [*_format(evidence), *_lint(evidence), *_types(evidence), *_test(evidence)]
    checks = tuple(one for one in found if isinstance(one, Check))
    return Proposal(checks, tuple(one for one in found if isinstance(one, str)))


def command_for(evidence: Evidence, tool: str) -> str:
    """Return how to call a tool that is installed for this repository; empty when it is not."""
    for folder in ENVIRONMENTS:
        if evidence.has(f"{folder}/{tool}"):
            manager = next((m for f, m in MANAGERS.items() if evidence.has(f)), "")
            return (
                f"{manager} run {tool}"
                if manager and evidence.which(manager)
                else f"{folder}/{tool}"
            )
    return tool if evidence.which(tool) else ""


def _format(evidence: Evidence) -> Iterator[Check | str]:
    why = "[tool.ruff.format] in pyproject.toml" if evidence.tool("ruff", "format") else ""
    why = why or _used(evidence, "ruff format", "ruff-format")
    if why:
        yield _tool(evidence, "format", "ruff", "format", why, check="--check")
        return
    why = "[tool.black] in pyproject.toml" if evidence.tool("black") else ""
    why = why or _used(evidence, "black", "black")
    if why:
        yield _tool(evidence, "format", "black", "", why, check="--check")


def _lint(evidence: Evidence) -> Iterator[Check | str]:
    configured = evidence.has("ruff.toml", ".ruff.toml")
    if not configured and evidence.tool("ruff"):
        configured = "[tool.ruff] in pyproject.toml"
    why = configured or _used(evidence, "ruff check", "ruff", "ruff-check")
    if why:
        yield _tool(evidence, "lint", "ruff", "check", why, fix="--fix")
        return
    why = "flake8's configuration" if "flake8" in evidence.ini else ""
    if why := why or _used(evidence, "flake8", "flake8"):
        yield _tool(evidence, "lint", "flake8", "", why)


def _types(evidence: Evidence) -> Iterator[Check | str]:
    configured = evidence.tool("mypy") or "mypy" in evidence.ini
    why = _used(evidence, "mypy", "mypy") or ("mypy's configuration" if configured else "")
    if why:
        knows = any(evidence.tool("mypy", key) for key in ("files", "packages", "modules"))
        arguments = _arguments(evidence, "mypy")
        if knows or arguments:
            yield _plain(evidence, "types", "mypy", () if knows else arguments, why)
        else:
            yield "mypy is used here, but nothing says on which paths: add a step `run: mypy PATHS`"
    configured = evidence.tool("pyright") or bool(evidence.has("pyrightconfig.json"))
    why = "pyright's configuration" if configured else _used(evidence, "pyright", "pyright")
    if why:
        yield _plain(evidence, "types", "pyright", _arguments(evidence, "pyright"), why)


def _test(evidence: Evidence) -> Iterator[Check | str]:
    if why := _pytest_used(evidence):
        if evidence.mentions("python -m pytest"):
            python = command_for(evidence, "python") or command_for(evidence, "python3")
            found = command_for(evidence, "pytest")
            yield _check("test", f"{python} -m pytest -q" if found else "", "pytest", why)
        else:
            yield _plain(evidence, "test", "pytest", ("-q",), why)
        return
    folder = evidence.has("tests", "test")
    if folder and _imports(evidence, folder, "unittest"):
        python = command_for(evidence, "python3") or command_for(evidence, "python")
        given = evidence.arguments("unittest")
        top = ("-t", ".") if evidence.has(f"{folder}/__init__.py") else ()
        words = given or ("discover", "-s", folder, *top)
        run = " ".join((python, "-m", "unittest", *words)) if python else ""
        yield _check("test", run, "python3", f"unittest in {folder}/")


def _pytest_used(evidence: Evidence) -> str:
    if evidence.tool("pytest"):
        return "[tool.pytest] in pyproject.toml"
    if path := evidence.has("pytest.ini", "conftest.py", "tests/conftest.py", "test/conftest.py"):
        return path
    if evidence.ini & {"tool:pytest", "pytest"}:
        return "pytest's configuration"
    if why := _used(evidence, "pytest"):
        return why
    folder = evidence.has("tests", "test")
    return f"pytest in {folder}/" if folder and _imports(evidence, folder, "pytest") else ""


def _imports(evidence: Evidence, folder: str, module: str) -> bool:
    pattern = re.compile(rf"^\s*(?:import|from) {module}\b", re.MULTILINE)
    paths = sorted((evidence.root / folder).rglob("test*.py"))[:200]
    return any(pattern.search(path.read_text(encoding="utf-8", errors="replace")) for path in paths)


def _used(evidence: Evidence, command: str, *hooks: str) -> str:
    """Say where the command is used on the whole repository, if anywhere."""
    if path := evidence.mentions(command):
        return path
    if any(evidence.hooks.get(hook) for hook in hooks):
        return ".pre-commit-config.yaml"
    return ""


def _arguments(evidence: Evidence, command: str) -> tuple[str, ...]:
    words = evidence.arguments(command) or ()
    return tuple(word for word in words if word.split("=")[0] not in OWN_FLAGS)


def _paths(evidence: Evidence, command: str) -> tuple[str, ...]:
    words = _arguments(evidence, command)
    return tuple(word for word in words if not word.startswith("-") and evidence.has(word))


def _tool(
    evidence: Evidence, role: Role, tool: str, sub: str, why: str, *, check: str = "", fix: str = ""
) -> Check | str:
    """Propose `TOOL SUB CHECK PATHS`, mended by `TOOL SUB FIX PATHS` where the tool can write."""
    paths = _paths(evidence, f"{tool} {sub}".strip()) or (".",)
    base = command_for(evidence, tool)
    words = [base, sub] if sub else [base]
    run = " ".join([*words, *([check] if check else []), *paths]) if base else ""
    writes = check or fix
    autofix = " ".join([*words, *([fix] if fix else []), *paths]) if base and writes else ""
    return _check(role, run, tool, why, autofix)


def _plain(
    evidence: Evidence, role: Role, tool: str, words: Sequence[str], why: str
) -> Check | str:
    base = command_for(evidence, tool)
    return _check(role, " ".join([base, *words]) if base else "", tool, why)


def _check(role: Role, run: str, tool: str, why: str, autofix: str = "") -> Check | str:
    if not run:
        return (
            f"{tool} is used here ({why}) but not installed: install it, then `runner init --force`"
        )
    return Check(role, run, why, "python", autofix)
