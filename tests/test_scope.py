from __future__ import annotations

import time
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runner.outcome import Change, Fingerprint, Phase
from runner.scope import Nature, Scope, is_judge, is_test, matches, nature_of, scope_for, violations

FILE, LINK, GITLINK = "100644", "120000", "160000"


def scope(
    write: tuple[str, ...] | None = None,
    protect: tuple[str, ...] = (),
    nature: Nature = "other",
    workflow_file: str | None = "workflow.yaml",
) -> Scope:
    return scope_for(write=write, protect=protect, workflow_file=workflow_file, nature=nature)


def change(path: str, before: str = FILE, after: str = FILE) -> Change:
    kind = "added" if not before else "deleted" if not after else "modified"
    return Change(path, kind, before_mode=before, after_mode=after)


# globs


@pytest.mark.parametrize(
    ("glob", "path", "expected"),
    [
        ("src/**", "src/a/b.py", True),
        ("src/**", "src", True),
        ("src/**", "srcs/a", False),
        ("src/", "src/a", True),
        ("src", "src/a", True),
        ("./src/", "src/a", True),
        ("/a.py", "a.py", True),
        ("*.py", "a.py", True),
        ("*.py", "a/b.py", False),
        ("**/*.py", "b.py", True),
        ("**/*.py", "a/c/b.py", True),
        ("*.py", ".py", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b/c", True),
        ("a/**/b/*.c", "a/b/x/b/y.c", True),
        ("a/*/c", "a/b/c", True),
        ("a/*/c", "a/b/b/c", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[!a]", "b", True),
        ("[!a]", "a", False),
        ("[^a]b", "/b", False),
        ("[]a]", "]", True),
        ("[a", "[a", True),
        ("[z-a]x", "bx", False),
        ("[[]x", "[x", True),
        ("[a-c]x", "bx", True),
        ("*.{ts,tsx}", "a.tsx", True),
        ("{a,b}/c", "b/c/d", True),
        ("{a}", "{a}", True),
        ("**", "x/y", True),
        ("*a*b*", "xaxbx", True),
        ("*a*b*", "xbxax", False),
        ("a**b", "axxb", True),
        ("a**b", "a/b", False),
        ("a.c", "abc", False),
        ("a\nb/*", "a\nb/c", True),
        ("a", "a\n", False),
        ("[!x]", "\n", True),
    ],
)
def test_matches(glob: str, path: str, expected: bool) -> None:
    assert matches(glob, path) is expected


def _naive(glob: str, path: str) -> bool:
    """Say the same by plain recursion, without braces and classes."""
    names = [name for name in glob.split("/") if name not in ("", ".")]
    if not names or glob.endswith("/") or not set(names[-1]) & set("*?["):
        names.append("**")

    @cache
    def name_matches(pattern: str, name: str) -> bool:
        if not pattern:
            return not name
        if pattern[0] == "*":
            return name_matches(pattern[1:], name) or (
                bool(name) and name_matches(pattern, name[1:])
            )
        return bool(name) and pattern[0] in ("?", name[0]) and name_matches(pattern[1:], name[1:])

    def walk(patterns: list[str], rest: list[str]) -> bool:
        if not patterns:
            return not rest
        if patterns[0] == "**":
            return walk(patterns[1:], rest) or (bool(rest) and walk(patterns, rest[1:]))
        return bool(rest) and name_matches(patterns[0], rest[0]) and walk(patterns[1:], rest[1:])

    return walk(names, path.split("/"))


_globs = st.lists(
    st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "*b", "*a*b", "a?", "***"])
)
_paths = st.lists(st.sampled_from(["a", "b", "ab", "aab", "abab", "c"]), min_size=1, max_size=6)


@given(_globs.map("/".join), _paths.map("/".join))
@settings(max_examples=500)
@example("**/a/**/b", "a/a/b/c/b")
def test_matches_like_plain_recursion(glob: str, path: str) -> None:
    assert matches(glob, path) is _naive(glob, path)


@given(st.text(max_size=40), st.text(max_size=40))
def test_matches_is_total(glob: str, path: str) -> None:
    matches(glob, path)


@given(st.text(st.characters(blacklist_characters="*?[{\0"), min_size=1, max_size=30))
def test_a_path_without_wildcards_matches_itself(path: str) -> None:
    names = [name for name in path.split("/") if name not in ("", ".")]
    if names:
        assert matches(path, "/".join(names))


def test_matching_is_linear() -> None:
    glob = "**/" + "/**/".join("*a*a*a*b" for _ in range(8))
    start = time.perf_counter()
    assert not matches(glob, "/".join(["a" * 200] * 2000))
    matches("{a,b}" * 40, "a" * 40)
    assert time.perf_counter() - start < 0.5


# scope


def test_without_write_the_tree_is_open() -> None:
    assert scope().allows("src/a.py")
    assert scope().allows("tests/test_a.py")
    assert scope().allows("pyproject.toml")


@pytest.mark.parametrize(
    "path",
    [
        "workflow.yaml",
        ".runner/agents/fixer.md",
        ".github/workflows/ci.yml",
        ".GitHub/Workflows/ci.yml",
        ".gitlab-ci.yml",
        "CODEOWNERS",
        "docs/CODEOWNERS",
        ".husky/pre-commit",
        ".pre-commit-config.yaml",
        "package-lock.json",
        "sub/uv.lock",
        "Cargo.lock",
        "AGENTS.md",
        "agents.md",
        "pkg/CLAUDE.md",
        ".claude/settings.json",
        ".mcp.json",
        ".vscode/tasks.json",
        ".envrc",
        ".env",
        ".gitattributes",
        ".gitignore",
        "src/.gitignore",
        "node_modules/jest/index.js",
        ".venv/lib/x.py",
        ".git/config",
        "sub/.GIT/hooks/pre-commit",
        "GIT~1/config",
        ".git /config",
        ".g\u200bit/config",
        "../outside",
        "a/../../outside",
        "/etc/passwd",
        "a//b",
        "a/./b",
        "C:/x",
        "a\\..\\b",
        "",
        "a\0b",
    ],
)
def test_always_protected(path: str) -> None:
    for nature in ("test", "lint", "format", "type", "other"):
        assert not scope(nature=nature).allows(path)
        assert not scope(("**", "src/**"), nature=nature).allows(path)


@pytest.mark.parametrize(
    ("path", "natures"),
    [
        ("tests/test_a.py", "test"),
        ("src/pkg/test_a.py", "test"),
        ("pkg/a_test.go", "test"),
        ("src/a.spec.tsx", "test"),
        ("test.js", "test"),
        ("lib/test-parser.mjs", "test"),
        ("lib/parser_test.ts", "test"),
        ("src/__snapshots__/a.snap", "test"),
        ("conftest.py", "test"),
        ("jest.config.js", "test"),
        ("pyproject.toml", "test lint format type"),
        ("package.json", "test lint format type"),
        ("Makefile", "test lint format type"),
        ("ruff.toml", "lint format"),
        ("eslint.config.mjs", "lint"),
        (".eslintrc.json", "lint"),
        ("biome.json", "lint format"),
        ("mypy.ini", "type"),
        ("tsconfig.json", "test type"),
        ("app/tsconfig.build.json", "test type"),
        ("clippy.toml", "lint"),
        ("src/a.py", ""),
        ("README.md", ""),
    ],
)
def test_protected_by_nature(path: str, natures: str) -> None:
    protected = [
        nature
        for nature in ("test", "lint", "format", "type", "other")
        if not scope(nature=nature).allows(path)
    ]
    assert sorted(protected) == sorted(natures.split())


def test_write_limits_and_names() -> None:
    some = scope(("src/**", "tests/**", "pyproject.toml"), nature="test")
    assert some.allows("src/a.py")
    assert some.allows("tests/test_a.py")
    assert some.allows("pyproject.toml")
    assert not some.allows("tests/conftest.py")
    assert not some.allows("src/test_b.py")
    assert not some.allows("setup.cfg")
    assert not some.allows("docs/a.md")
    assert some.named == ("tests/**", "pyproject.toml")


@pytest.mark.parametrize(
    ("glob", "path", "lifted"),
    [
        (".github/workflows/ci.yml", ".github/workflows/ci.yml", True),
        (".github/**", ".github/workflows/ci.yml", True),
        (".github/", ".github/workflows/ci.yml", True),
        ("**", ".github/workflows/ci.yml", False),
        ("**/*.yml", ".github/workflows/ci.yml", False),
        ("*/workflows/**", ".github/workflows/ci.yml", False),
        ("{src,.github}/**", ".github/workflows/ci.yml", False),
        ("uv.lock", "uv.lock", True),
        ("*.lock", "uv.lock", False),
        ("**/AGENTS.md", "a/AGENTS.md", True),
        (".git/config", ".git/config", False),
        ("workflow.yaml", "workflow.yaml", True),
        ("*.yaml", "workflow.yaml", False),
    ],
)
def test_only_a_glob_that_speaks_of_it_lifts_a_guard(glob: str, path: str, lifted: bool) -> None:
    assert scope((glob,)).allows(path) is lifted


def test_the_authors_own_protect_is_never_lifted() -> None:
    some = scope(("src/**", "src/gen/a.py"), protect=("src/gen",))
    assert not some.allows("src/gen/a.py")
    assert not some.allows("SRC/Gen/a.py")
    assert some.allows("src/b.py")


def test_scripts_of_the_check_are_protected() -> None:
    some = scope_for(
        write=None, protect=(), workflow_file=None, nature="lint", scripts=("./ci/[x]/lint.sh",)
    )
    assert not some.allows("ci/[x]/lint.sh")
    assert some.allows("ci/x/lint.sh")


def test_reason_and_describe_tell_what_holds() -> None:
    some = scope(("src/**", "uv.lock"), protect=("src/gen/**",), nature="test")
    assert "CI configuration" in some.reason(".github/x.yml")
    assert "`write`" in some.reason("docs/a.md")
    assert some.reason("src/a.py") == ""
    text = some.describe()
    for part in ("src/**", "src/gen/**", "uv.lock", "tests"):
        assert part in text
    assert len(text.splitlines()) <= 6


def test_violations_of_paths_modes_and_links() -> None:
    some = scope(("src/**",))
    fine = [change("src/a.py"), change("src/b.py", ""), change("src/c.sh", after="100755")]
    assert violations(some, fine) == ()
    bad = {
        change("docs/a.md"): "write",
        change("docs/b.md", after=""): "write",
        change("src/l", "", LINK): "symbolic link",
        change("src/m", FILE, GITLINK): "submodule",
        change("src/m", GITLINK, ""): "submodule",
        change("src/s", after="104755"): "104755",
        change("src/\x1b[2J\n.py/../x"): "plain path",
    }
    lines = violations(some, bad)
    assert len(lines) == len(bad)
    for line, word in zip(lines, bad.values(), strict=True):
        assert word in line
        assert "\n" not in line
        assert "\x1b" not in line


@pytest.mark.parametrize(
    ("target", "fine"),
    [
        ("b.py", True),
        ("../src/b.py", True),
        ("../../etc/passwd", False),
        ("/etc/passwd", False),
        ("../.git/config", False),
        ("../.github/x", False),
        ("..", False),
        ("../docs/a.md", False),
    ],
)
def test_links_must_stay_in_scope(target: str, fine: bool) -> None:
    lines = violations(scope(("src/**",)), [change("src/l", "", LINK)], {"src/l": target})
    assert (lines == ()) is fine


def test_is_test_and_is_judge() -> None:
    assert is_test("a/tests/b.py")
    assert not is_test("src/contest.py")
    assert is_judge("ruff.toml")
    assert is_judge(".github/workflows/x.yml")
    assert not is_judge("src/ruff.py")


# nature


@pytest.mark.parametrize(
    ("command", "nature"),
    [
        ("pytest -q", "test"),
        ("uv run --with x pytest", "test"),
        ("python -m pytest -x", "test"),
        ("python3.12 -m unittest", "test"),
        ("coverage run -m pytest", "test"),
        ("FOO=1 timeout 60 ./node_modules/.bin/jest", "test"),
        ("npx vitest@2 run", "test"),
        ("make test-unit", "test"),
        ("npm test", "test"),
        ("pnpm -r test", "test"),
        ("go test ./...", "test"),
        ("cargo nextest run", "test"),
        ("node --test", "test"),
        ("tox", "test"),
        ("tox -e lint", "lint"),
        ("bash scripts/run-tests.sh", "test"),
        ("./scripts/lint.sh", "lint"),
        ("ruff check .", "lint"),
        ("ruff format --check .", "format"),
        ("ruff --quiet format .", "format"),
        ("npm run lint", "lint"),
        ("cargo clippy -- -D warnings", "lint"),
        ("go vet ./...", "lint"),
        ("pre-commit run -a", "lint"),
        ("cargo fmt --check", "format"),
        ("black --check .", "format"),
        ("npx prettier --check .", "format"),
        ("mypy src", "type"),
        ("npx tsc --noEmit", "type"),
        ("npm run type-check", "type"),
        ("bash -c 'mypy .'", "type"),
        ("ruff check . && pytest -q", "test"),
        ("ruff format --check . ; ruff check .", "lint"),
        ("make check", "other"),
        ("cargo build", "other"),
        ("go build ./...", "other"),
        ("test -f x", "other"),
        ("echo test", "other"),
        ("cat tests/x | sort", "other"),
        ("cp tests/a.py b", "other"),
        ("", "other"),
    ],
)
def test_nature_of_a_command(command: str, nature: Nature) -> None:
    assert nature_of(command) == nature


def test_nature_of_a_failure_adds_to_the_command() -> None:
    def print_of(tool: str, phase: Phase = Phase.RUN) -> Fingerprint:
        return Fingerprint(tool, phase, frozenset())

    assert nature_of("make check", print_of("pytest")) == "test"
    assert nature_of("make check", print_of("ruff")) == "lint"
    assert nature_of("pytest", print_of("ruff")) == "test"
    assert nature_of("make check", print_of("general")) == "other"
    assert nature_of("make check", print_of("mypy+ruff")) == "type"
    assert nature_of("make check", print_of("go")) == "test"
    assert nature_of("make check", print_of("cargo", Phase.COLLECT)) == "other"


@given(st.text(max_size=60))
def test_nature_is_total(command: str) -> None:
    assert nature_of(command) in ("test", "lint", "format", "type", "other")
