"""Finds judges that a mend made easier to please: thresholds, rules left out, scripts emptied."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from typing import TYPE_CHECKING, cast

from runner.scope import is_judge
from runner.tamper.nouns import SHELL, Finding, suffix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runner.tamper.nouns import FileDiff

_FLOOR = re.compile(
    r"(?P<key>(?:cov[-_])?fail[-_]?under|min(?:imum)?[-_]?(?:coverage|score|grade)|coverage_threshold"
    r"|branches|functions|lines|statements|threshold)[\"']?\s*[:=]?\s*[\"']?(?P<value>\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
"""A number that must be reached: less is easier."""

_CEILING = re.compile(
    r"(?P<key>max[-_](?:warnings|complexity|line[-_]length|args|branches|returns|statements|locals"
    r"|depth|params|lines(?:-per-function)?|doc[-_]length|public[-_]methods|attributes|nested\w*)"
    r"|line[-_]?(?:length|width)|print[-_]?width|cognitive-complexity-threshold"
    r"|too-many-\w+-threshold|maxfail|reruns|retries)[\"']?\s*[:=]?\s*[\"'\[]?"
    r"(?:[\"']?\w+[\"']?,\s*)?(?P<value>\d+(?:\.\d+)?)",
    re.IGNORECASE,
)
"""A number that must not be exceeded: more is easier."""

_LEAVES_OUT = re.compile(
    r"(?:^|[._-])(?:ignore|ignores|exclude|excludes|omit|disable|disabled|deselect|skip|skips"
    r"|per-file-ignores|per_file_ignores|disable_error_code|exclude_lines|exclude_also"
    r"|norecursedirs|testpathignorepatterns|coveragepathignorepatterns|modulepathignorepatterns"
    r"|ignorepatterns|exclude_gitignore|allow|builtins|collect_ignore|expected-failures)"
    r"(?:[._-]|$)",
    re.IGNORECASE,
)
_TAKES_IN = re.compile(
    r"(?:^|[._-])(?:select|enable|enabled|include|files|testpaths|testmatch|testregex|packages"
    r"|strict|warn_\w+|disallow_\w+|check_\w+|no\w+|recommended|xfail_strict|plugins|deny|forbid"
    r"|error)(?:[._-]|$)",
    re.IGNORECASE,
)
_EASES = re.compile(
    r"(?:^|\.)(?:ignore_errors|ignore_missing_imports|allow_\w+|implicit_\w+|skiplibcheck"
    r"|follow_imports_for_stubs|passwithnotests|allowjs|allowunreachablecode|bail|isolate)$",
    re.IGNORECASE,
)
_OFF = frozenset({"off", "0", "false", "none", "allow", "warn", "warning", "info", "ignore"})
_ON = frozenset({"error", "deny", "forbid", "on", "true", "2", "standard", "strict", "all"})

_RELEVANT = {
    "pyproject.toml": re.compile(
        r"tool\.(?:ruff|pytest|coverage|mypy|pyright|basedpyright|pylint|flake8|isort|black|bandit"
        r"|pydocstyle|ty|pyrefly|tox|nox|deptry|vulture|interrogate|codespell|importlinter)\b"
    ),
    "package.json": re.compile(
        r"(?:scripts|jest|eslintConfig|eslintIgnore|c8|nyc|xo|ava|mocha|lint-staged|standard)\b"
    ),
    "cargo.toml": re.compile(r"(?:workspace\.)?lints\."),
}
"""In files that hold more than a judge's configuration: the names that are."""

_NOTHING = re.compile(
    r"\s*(?:#.*|//.*|@?(?:true|:|exit(?:\s+0)?|echo\b.*|printf\b.*)|set\s+[-+]\S+(?:\s+\w+)?"
    r"|shift|cd\b.*|[{}]|then|fi|done|do|else|esac|\.PHONY\b.*|[\w./-]+\s*:{1,2}\s*)?\s*$"
)
"""A line of a script that checks nothing."""


def eased(files: Sequence[FileDiff]) -> Iterator[Finding]:
    """Yield where a judge's configuration or script asks for less than before."""
    # A file under a new name: what it says is compared with what is gone.
    added = {file.after for file in files if file.before is None}
    for file in files:
        if file.before is None or file.before == file.after:
            continue
        judge = is_judge(file.path)
        if file.after is None:
            if (judge or suffix(file.path) in SHELL) and file.before not in added:
                yield Finding(file.path, 1, "a judge's configuration or script deleted")
            continue
        if judge or suffix(file.path) in SHELL:
            yield from _numbers(file.path, file.before, file.after)
            yield from _emptied(file.path, file.before, file.after)
        if judge:
            yield from _settings(file.path, file.before, file.after)
        if suffix(file.path) == "snap":
            yield Finding(file.path, 1, "a recorded snapshot changed")


def _numbers(path: str, before: str, after: str) -> Iterator[Finding]:
    """Compare thresholds, key by key in their order."""
    for pattern, worse, what in (
        (_FLOOR, -1, "lowered"),
        (_CEILING, 1, "raised"),
    ):
        was, now = _values(pattern, before), _values(pattern, after)
        for key, old in was.items():
            new = now.get(key, [])
            if worse < 0 and len(new) < len(old):
                yield Finding(path, 1, f"threshold removed: {key}")
                continue
            for (one, _), (other, line) in zip(old, new, strict=False):
                if (other - one) * worse > 0:
                    yield Finding(path, line, f"threshold {what}: {key} from {one:g} to {other:g}")


def _values(pattern: re.Pattern[str], text: str) -> dict[str, list[tuple[float, int]]]:
    found: dict[str, list[tuple[float, int]]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        for match in pattern.finditer(line):
            key = match["key"].lower().replace("_", "-")
            found.setdefault(key, []).append((float(match["value"]), number))
    return found


def _emptied(path: str, before: str, after: str) -> Iterator[Finding]:
    """Compare what a script does; one that did something and now does nothing is no check."""
    if suffix(path) in SHELL or "make" in path.lower():
        did = [line for line in before.splitlines() if not _NOTHING.match(line)]
        does = [line for line in after.splitlines() if not _NOTHING.match(line)]
        if did and not does:
            yield Finding(path, 1, "a check script emptied")


def _settings(path: str, before: str, after: str) -> Iterator[Finding]:
    """Compare settings by name: lists that leave out, lists that take in, and switches."""
    was, now = _flat(path, before), _flat(path, after)
    if was is None or now is None:
        return
    relevant = _RELEVANT.get(path.rsplit("/", 1)[-1].lower())
    for key in {**was, **now}:
        if relevant is not None and not relevant.match(key):
            continue
        old, new = was.get(key, ()), now.get(key, ())
        if what := _eased(key, old, new):
            yield Finding(path, _line_of(after, key), f"{what}: {key}")


def _eased(key: str, old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """Say in which way a setting asks for less than it did; empty when it does not."""
    more = [value for value in new if value not in old]
    fewer = [value for value in old if value not in new]
    if ".scripts." in f".{key}." or key.startswith("scripts"):
        return "a script emptied" if old and (not new or _NOTHING.match(new[0])) else ""
    if _LEAVES_OUT.search(key) and more and not _is_switch(more):
        return "more left out"
    if _EASES.search(key) and any(value.lower() == "true" for value in more):
        return "a check switched off"
    if _TAKES_IN.search(key) and fewer and not (_is_switch(fewer) and _is_off(fewer)):
        return "fewer taken in" if not _is_switch(fewer) else "a check switched off"
    if _is_on(fewer) and _is_off(more):
        return "a check switched off"
    if not old and new and _is_off(new[:1]) and re.search(r"(?:^|\.)rules?\.|lints?\.", key):
        return "a rule switched off"
    return ""


def _is_switch(values: Sequence[str]) -> bool:
    return all(value.lower() in _OFF | _ON for value in values)


def _is_on(values: Sequence[str]) -> bool:
    return bool(values) and values[0].lower() in _ON


def _is_off(values: Sequence[str]) -> bool:
    return bool(values) and values[0].lower() in _OFF


def _line_of(text: str, key: str) -> int:
    """Return the line where a key stands, as well as its last name tells."""
    name = key.rsplit(".", 1)[-1]
    return next(
        (number for number, line in enumerate(text.splitlines(), start=1) if name in line), 1
    )


def _flat(path: str, text: str) -> dict[str, tuple[str, ...]] | None:
    """Return a configuration as dotted names with their values; `None` where it cannot be read."""
    kind = suffix(path)
    try:
        if kind == "toml":
            return _flatten(tomllib.loads(text))
        if kind in ("json", "jsonc", "eslintrc"):
            return _flatten(json.loads(_without_comments(text)))
        if kind in ("ini", "cfg", "flake8", "coveragerc", "pylintrc"):
            parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
            parser.read_string(text)
            return {
                f"{section}.{key}": tuple(re.split(r"[\s,]+", (value or "").strip()))
                for section in parser.sections()
                for key, value in parser.items(section)
            }
    except (ValueError, configparser.Error, RecursionError):
        return None
    return None


def _without_comments(text: str) -> str:
    """Take comments and trailing commas out of JSON as TypeScript's and biome's files have them."""
    text = re.sub(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*', r"\1", text, flags=re.DOTALL)
    return re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', r"\1", text)


def _flatten(value: object, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Spread a tree of settings out; a list of plain values is one setting."""
    if isinstance(value, dict):
        flat: dict[str, tuple[str, ...]] = {}
        for key, inner in cast("dict[str, object]", value).items():
            flat |= _flatten(inner, f"{prefix}.{key}" if prefix else key)
        return flat
    if isinstance(value, list):
        return {prefix: tuple(_plain(item) for item in cast("list[object]", value))}
    return {prefix: (_plain(value),)}


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)
