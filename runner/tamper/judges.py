"""Finds judges that a mend made easier to please: thresholds, rules left out, scripts emptied."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from typing import TYPE_CHECKING, cast

from runner.nature import nature_of
from runner.scope import is_judge
from runner.tamper.nouns import PYTHON, SCRIPT, SHELL, Finding, suffix

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
    r"|norecursedirs|filterwarnings|testpathignorepatterns|coveragepathignorepatterns|modulepathignorepatterns"
    r"|ignorepatterns|exclude_gitignore|allow|builtins|collect_ignore|expected-failures)"
    r"(?:[._-]|$)",
    re.IGNORECASE,
)
_TAKES_IN = re.compile(
    r"(?:^|[._-])(?:select|enable|enabled|include|files|testpaths|testmatch|testregex|packages"
    r"|strict|warn_\w+|disallow_\w+|check_\w+|no\w+|recommended|xfail_strict|plugins|deny|forbid"
    r"|error|python_\w+)(?:[._-]|$)",
    re.IGNORECASE,
)
_EASES = re.compile(
    r"(?:^|\.)(?:ignore_errors|ignore_missing_imports|allow_\w+|implicit_\w+|skiplibcheck"
    r"|follow_imports_for_stubs|ignore_outcome|passwithnotests|allowjs|allowunreachablecode|bail|isolate)$",
    re.IGNORECASE,
)
_OFF = frozenset({"off", "0", "false", "none", "allow", "warn", "warning", "info", "ignore"})
_ON = frozenset({"error", "deny", "forbid", "on", "true", "2", "standard", "strict", "all"})

_RELEVANT = {
    "pyproject.toml": re.compile(
        r"(?:ruff|pytest|coverage|mypy|pyright|basedpyright|pylint|flake8|isort|black|bandit"
        r"|pydocstyle|ty|pyrefly|tox|nox|deptry|vulture|interrogate|codespell|importlinter)\b"
    ),
    "setup.cfg": re.compile(
        r"(?:pytest|coverage|mypy|pyright|pylint|flake8|isort|pycodestyle|pydocstyle|bandit|tox"
        r"|codespell|importlinter|yapf|mutmut)\b"
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
    came = _came(files)
    for file in files:
        if file.before is None or file.before == file.after:
            continue
        judge, script = is_judge(file.path), suffix(file.path) in SHELL
        if is_judge(file.old_path) and (file.after is None or not (judge or script)):
            if not _all_moved(file, came) and not _builds_only(file):
                yield Finding(file.path, 1, "a judge's configuration or script deleted")
            continue
        if suffix(file.path) == "snap":
            yield Finding(file.path, 1, "a recorded snapshot changed")
        if file.after is None:
            if script and not _builds_only(file):
                yield Finding(file.path, 1, "a judge's configuration or script deleted")
            continue
        if judge or script:
            yield from _numbers(file.path, file.before, file.after)
            yield from _emptied(file.path, file.before, file.after)
        if judge:
            yield from _settings(file, came)
    yield from _less_strict(files)


def _builds_only(file: FileDiff) -> bool:
    """Return whether a script that is gone judged nothing, by its name and by what it ran."""
    if suffix(file.old_path) not in SHELL and "makefile" not in file.old_path.lower():
        return False
    lines = (file.before or "").splitlines()
    return not _natures(lines) and nature_of(f"./{file.old_path}") == "other"


_Came = frozenset[tuple[str, tuple[str, ...]]]
"""Last names of settings and what they are, where they were not so before."""


def _came(files: Sequence[FileDiff]) -> _Came:
    found: set[tuple[str, tuple[str, ...]]] = set()
    for file in files:
        if file.after is None or not is_judge(file.path):
            continue
        was = _flat(file.path, file.before or "") or {}
        for key, value in (_flat(file.path, file.after) or {}).items():
            if was.get(key) != value:
                found.add((_last(key), value))
    return frozenset(found)


def _all_moved(file: FileDiff, came: _Came) -> bool:
    """Return whether all that a configuration said stands in another one now."""
    flat = _flat(file.old_path, file.before or "")
    return bool(flat) and all((_last(key), value) in came for key, value in (flat or {}).items())


def _last(key: str) -> str:
    return key.rsplit(".", 1)[-1].replace("-", "_").lower()


_STRICT = {
    PYTHON: re.compile(r"#\s*(?:(?:based)?pyright|mypy)\s*:\s*strict\b"),
    SCRIPT: re.compile(r"//\s*@ts-check\b"),
    frozenset({"rs"}): re.compile(r"#!\[\s*(?:deny|forbid)\s*\("),
    SHELL: re.compile(r"^\s*set\s+-\w*[eu]\w*(?:\s+-?o?\s*pipefail)?", re.MULTILINE),
}
"""What a file says to be judged by more than others; in a shell script: to end where it fails."""


def _less_strict(files: Sequence[FileDiff]) -> Iterator[Finding]:
    """Yield files that no longer ask to be judged strictly, unless that went elsewhere."""
    for kinds, pattern in _STRICT.items():
        some = [file for file in files if suffix(file.path) in kinds]
        counts = [
            len(pattern.findall(file.after or "")) - len(pattern.findall(file.before or ""))
            for file in some
        ]
        if sum(counts) < 0:
            for file, count in zip(some, counts, strict=True):
                if count < 0 and file.after is not None:
                    yield Finding(file.path, 1, "strictness taken away")


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
            return
        was, now = _natures(did), _natures(does)
        for nature in sorted(was - now):
            yield Finding(path, 1, f"no {nature} is run any more")


def _natures(lines: Sequence[str]) -> set[str]:
    """Return what the commands of a script judge."""
    return {nature_of(line.strip().lstrip("@-")) for line in lines if line.strip()[:1] != "#"} - {
        "other"
    }


def _settings(file: FileDiff, came: _Came) -> Iterator[Finding]:
    """Compare settings by name: lists that leave out, lists that take in, and switches."""
    after = file.after or ""
    was, now = _flat(file.old_path, file.before or ""), _flat(file.path, after)
    if was is None or now is None:
        return
    relevant = _RELEVANT.get(file.path.rsplit("/", 1)[-1].lower())
    values = set(now.values())
    for key in {**was, **now}:
        if relevant is not None and not relevant.match(key):
            continue
        old, new = was.get(key, ()), now.get(key, ())
        if not new and ((_last(key), old) in came or (_is_script(key) and old in values)):
            continue  # it has another name, or stands in another file
        if what := _eased(key, old, new):
            yield Finding(file.path, _line_of(after, key), f"{what}: {key}")


def _is_script(key: str) -> bool:
    return key.startswith("scripts.")


def _eased(key: str, old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """Say in which way a setting asks for less than it did; empty when it does not."""
    more = [value for value in new if value not in old]
    fewer = [value for value in old if value not in new]
    if _is_script(key):
        return _script_eased(key, old, new)
    if _LEAVES_OUT.search(key) and more and not _is_switch(more):
        ignores = [value for value in more if "warnings" not in key or value.startswith("ignore")]
        return "more left out" if ignores else ""
    if _EASES.search(key) and any(value.lower() == "true" for value in more):
        return "a check switched off"
    if _TAKES_IN.search(key) and fewer and not (_is_switch(fewer) and _is_off(fewer)):
        return "fewer taken in" if not _is_switch(fewer) else "a check switched off"
    if _is_on(fewer) and _is_off(more):
        return "a check switched off"
    if not old and new and re.search(r"(?:^|\.)(?:testpaths|testmatch|testregex)$", key.lower()):
        return "fewer taken in"
    if not old and new and _is_off(new[:1]) and re.search(r"(?:^|\.)rules?\.|lints?\.", key):
        return "a rule switched off"
    return ""


def _script_eased(key: str, old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """Say whether a script of `package.json` that checked something checks nothing now."""
    if old and new and _NOTHING.match(new[0]) and not _NOTHING.match(old[0]):
        return "a script emptied"
    judged = nature_of(f"npm run {key.removeprefix('scripts.')}") != "other"
    return "a script deleted" if old and not new and judged else ""


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
            flat = _flatten(tomllib.loads(text))
            return {
                key.removeprefix("tool.").replace(".ini_options", ""): flat[key] for key in flat
            }
        if kind in ("json", "jsonc", "eslintrc"):
            return _flatten(json.loads(_without_comments(text)))
        if kind in ("ini", "cfg", "flake8", "coveragerc", "pylintrc"):
            parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
            parser.read_string(text)
            return {
                f"{_section(section)}.{key}": _words(value or "")
                for section in parser.sections()
                for key, value in parser.items(section)
            }
        if kind in SCRIPT and not _BUILDS.search(path):
            return _settings_of_script(text)
        if kind.endswith("ignore"):
            return {"ignore": tuple(line for line in text.split("\n") if line.strip())}
    except (ValueError, configparser.Error, RecursionError):
        return None
    return None


_BUILDS = re.compile(r"(?:^|/)(?:vite|babel)\.config|(?:^|/)tasks|\.setup\.|-setup\.|setupTests")
_PAIR = re.compile(
    r"(?P<quote>[\"']?)(?P<key>[@\w][@\w/-]*)(?P=quote)\s*:\s*"
    r"(?:\[(?P<list>[^\[\]]*)\]|(?P<value>true\b|false\b|\d+|\"[^\"\n]*\"|'[^'\n]*'))"
)


def _settings_of_script(text: str) -> dict[str, tuple[str, ...]]:
    """Read what is written out in a configuration that is a program: names, lists and values."""
    text = re.sub(r"/\*.*?\*/|(?<![:\"'/*])//[^\n]*", "", text, flags=re.DOTALL)
    found: dict[str, tuple[str, ...]] = {}
    for match in _PAIR.finditer(text):
        written = match["list"] if match["list"] is not None else match["value"]
        values = tuple(part.strip().strip("\"'") for part in written.split(",") if part.strip())
        rule = "/" in match["key"] or "-" in match["key"]
        key = f"rules.{match['key']}" if rule else match["key"]
        found[key] = found.get(key, ()) + values
    return found


def _section(name: str) -> str:
    return name.removeprefix("tool:").replace(":", ".")


def _words(value: str) -> tuple[str, ...]:
    words = re.split(r"[\s,]+", value.strip())
    return tuple(word.lower() if word.lower() in ("true", "false") else word for word in words)


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
