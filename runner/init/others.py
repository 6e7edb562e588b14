"""Proposes checks for Node, Rust and Go repositories, for pre-commit, and from make's targets."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runner.init.proposal import NOTHING, Check, Proposal, Role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from runner.init.evidence import Evidence

LOCKS = {
    "pnpm-lock.yaml": "pnpm",
    "yarn.lock": "yarn",
    "bun.lock": "bun",
    "bun.lockb": "bun",
    "package-lock.json": "npm",
}
SCRIPTS: Mapping[Role, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "format": (
        ("format:check", "check:format", "fmt:check", "prettier:check", "check-format"),
        ("format", "format:fix", "format:write", "fmt", "prettier:write", "prettier"),
    ),
    "lint": (("lint", "lint:check"), ("lint:fix", "fix:lint", "lint-fix")),
    "types": (("typecheck", "type-check", "check-types", "types", "tsc"), ()),
    "test": (("test:ci", "test:unit", "test"), ()),
}
"""Names of package.json scripts for each role: those that check, and those that write."""

WATCHES = re.compile(r"--watch\b|\bwatch\b|no test specified")
WRITES = re.compile(r"--(?:fix|write)\b")

TARGETS: Mapping[Role, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "format": (("format-check", "check-format", "fmt-check", "check-fmt"), ("format", "fmt")),
    "lint": (("lint",), ("lint-fix", "fix")),
    "types": (("typecheck", "type-check", "types", "mypy"), ()),
    "test": (("test", "tests", "check"), ()),
}
"""Names of make targets for each role, as above."""


def node(evidence: Evidence) -> Proposal:
    """Propose package.json's scripts, called by the package manager whose lock file there is."""
    scripts = {
        k: v for k, v in _table(evidence.package.get("scripts")).items() if isinstance(v, str)
    }
    if not scripts:
        return NOTHING
    manager = next((name for file, name in LOCKS.items() if evidence.has(file)), "npm")
    if not evidence.which(manager):
        return Proposal(
            (), (f"package.json: {manager} is not installed, so no step calls its scripts",)
        )
    needs = any(evidence.package.get(key) for key in ("dependencies", "devDependencies"))
    if needs and not evidence.has("node_modules", ".pnp.cjs"):
        note = f"package.json: run `{manager} install`, then `runner init --force`"
        return Proposal((), (note,))
    return Proposal(tuple(_scripts(scripts, manager)))


def _scripts(scripts: Mapping[str, str], manager: str) -> Iterator[Check]:
    for role, (checking, writing) in SCRIPTS.items():
        name = next((n for n in checking if n in scripts and not _unfit(scripts[n])), "")
        if name:
            fix = next((n for n in writing if n in scripts and WRITES.search(scripts[n])), "")
            autofix = f"{manager} run {fix}" if fix else ""
            why = f"script {name!r} in package.json"
            yield Check(role, f"{manager} run {name}", why, "node", autofix)


def _unfit(script: str) -> bool:
    return bool(WATCHES.search(script) or WRITES.search(script))


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]  data from a file


def rust(evidence: Evidence) -> Proposal:
    """Propose cargo's own checks; formatter and clippy only where the repository uses them."""
    if not evidence.has("Cargo.toml"):
        return NOTHING
    if not evidence.which("cargo"):
        return Proposal((), ("Cargo.toml: cargo is not installed, so no step calls it",))
    checks: list[Check] = []
    why = evidence.has("rustfmt.toml", ".rustfmt.toml") or evidence.mentions("cargo fmt")
    if why and evidence.which("rustfmt"):
        checks.append(Check("format", "cargo fmt --all --check", why, "rust", "cargo fmt --all"))
    why = evidence.has("clippy.toml", ".clippy.toml") or evidence.mentions("cargo clippy")
    if why and evidence.which("cargo-clippy"):
        strict = any("-D warnings" in text for text in evidence.texts.values())
        run = "cargo clippy --all-targets" + (" -- -D warnings" if strict else "")
        checks.append(Check("lint", run, why, "rust"))
    checks.append(Check("test", "cargo test", "Cargo.toml", "rust"))
    return Proposal(tuple(checks))


def go(evidence: Evidence) -> Proposal:
    """Propose go's own checks; gofmt and golangci-lint only where the repository uses them."""
    if not evidence.has("go.mod"):
        return NOTHING
    if not evidence.which("go"):
        return Proposal((), ("go.mod: go is not installed, so no step calls it",))
    checks: list[Check] = []
    why = evidence.mentions("gofmt") or evidence.mentions("go fmt")
    if why and evidence.which("gofmt"):
        run = 'out=$(gofmt -l .); echo "$out"; test -z "$out"'
        checks.append(Check("format", run, why, "go", "gofmt -w ."))
    why = evidence.has(".golangci.yml", ".golangci.yaml", ".golangci.toml")
    if why and evidence.which("golangci-lint"):
        checks.append(Check("lint", "golangci-lint run", why, "go", "golangci-lint run --fix"))
    else:
        checks.append(Check("lint", "go vet ./...", "go.mod", "go"))
    checks.append(Check("test", "go test ./...", "go.mod", "go"))
    return Proposal(tuple(checks))


def pre_commit(evidence: Evidence) -> Proposal:
    """Propose pre-commit on all files, where it is installed."""
    if not evidence.hooks:
        return NOTHING
    if not evidence.which("pre-commit"):
        note = ".pre-commit-config.yaml: pre-commit is not installed, so no step calls it"
        return Proposal((), (note,))
    run = "pre-commit run --all-files"
    return Proposal((Check("lint", run, ".pre-commit-config.yaml", "pre-commit", run),))


def make(evidence: Evidence, covered: Collection[Role]) -> Proposal:
    """Propose make's targets for the roles that nothing else covers."""
    name = evidence.has("GNUmakefile", "Makefile", "makefile")
    if not name:
        return NOTHING
    text = evidence.texts.get(name, "")
    targets = {
        target
        for line in re.findall(r"^([\w .-]+):(?![=:])", text, re.MULTILINE)
        for target in line.split()
    }
    found = tuple(check for check in _targets(targets, name) if check.role not in covered)
    if found and not evidence.which("make"):
        return Proposal((), (f"{name}: make is not installed, so no step calls it",))
    return Proposal(found)


def _targets(targets: set[str], file: str) -> Iterator[Check]:
    for role, (checking, writing) in TARGETS.items():
        name = next((name for name in checking if name in targets), "")
        if name:
            fix = next((name for name in writing if name in targets), "")
            why = f"target {name!r} in {file}"
            yield Check(role, f"make {name}", why, "make", f"make {fix}" if fix else "")
