"""Reads what a repository says about its own checks: configuration, automation, tools found."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import field
from typing import TYPE_CHECKING, Any

import yaml

from runner.frozen import frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

AUTOMATION = (
    ".github/workflows/*.y*ml",
    ".gitlab-ci.yml",
    ".circleci/config.yml",
    ".travis.yml",
    "azure-pipelines.yml",
    "Makefile",
    "GNUmakefile",
    "justfile",
    "tox.ini",
    "noxfile.py",
    "script/*",
    "scripts/*",
)
"""Files in which a repository says how it is checked."""

MAX_BYTES = 500_000
"""A larger file is no configuration."""

_VARIABLE = re.compile(
    r"""^\s*(?:export\s+)?(\w+)\s*[:?]?=\s*["']?([^"'$`\n]*?)["']?\s*$""", re.MULTILINE
)
_USE = re.compile(r"\$(?:\{(\w+)\}|\((\w+)\)|(\w+))")
_WORD = re.compile(r"[\w./=:,@+-]+")
_PREFIX = (
    r"(?:uv run |poetry run |pdm run |hatch run |npx |python3? -m |\$\{?PREFIX\}?|\.?venv/bin/)*"
)


@frozen
class Evidence:
    """What there is in a repository; every decision of `init` is made from this."""

    root: Path
    texts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Automation files by path, their simple variables filled in."""
    pyproject: Mapping[str, Any] = field(default_factory=dict[str, Any])
    package: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """`package.json`."""
    hooks: Mapping[str, bool] = field(default_factory=dict[str, bool])
    """Hooks of pre-commit by id; true where they look at all files."""
    ini: frozenset[str] = frozenset()
    """Sections of setup.cfg, tox.ini and the like."""
    broken: tuple[str, ...] = ()
    """Files that cannot be parsed; what they say is not known."""
    which: Callable[[str], str | None] = shutil.which

    def has(self, *paths: str) -> str:
        """Return the first of the paths that exists, or an empty text."""
        return next((path for path in paths if (self.root / path).exists()), "")

    def tool(self, *keys: str) -> bool:
        """Return whether pyproject.toml has the table `[tool.KEYS...]`."""
        value: Any = self.pyproject.get("tool", {})
        for key in keys:
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]  # pyright: ignore[reportUnknownVariableType]  TOML, checked above
        return True

    def mentions(self, command: str) -> str:
        """Return the first automation file that runs the command, or an empty text."""
        return next((path for path, _ in self._uses(command)), "")

    def arguments(self, command: str) -> tuple[str, ...] | None:
        """Return the arguments that automation gives to the command, where they are plain words.

        Of several uses the first with arguments counts; `None` when there is no plain use at all.
        """
        plain = [words for _, words in self._uses(command) if words is not None]
        return next(filter(None, plain), plain[0] if plain else None)

    def _uses(self, command: str) -> Iterator[tuple[str, tuple[str, ...] | None]]:
        shell = re.compile(
            rf"(?:^|[\s;&|:'\"@-]){_PREFIX}{re.escape(command)}(?![\w./-])([^\n;&|#]*)"
        )
        quoted = re.compile(
            r"""run\(\s*["']"""
            + re.escape(command).replace(r"\ ", r"""["'],\s*["']""")
            + r"""["']([^)]*)"""
        )
        for path, text in self.texts.items():
            for match in shell.finditer(text):
                yield path, plain_words(match[1].rstrip("'\" ]").split())
            for match in quoted.finditer(text):
                yield path, plain_words(re.findall(r"""["']([^"']*)["']""", match[1]))


def plain_words(words: Sequence[str]) -> tuple[str, ...] | None:
    """Return the words when none of them needs a shell, else `None`."""
    return tuple(words) if all(_WORD.fullmatch(word) for word in words) else None


def gather(root: Path, which: Callable[[str], str | None] = shutil.which) -> Evidence:
    """Read the repository at `root`; files that cannot be read count as absent."""
    return Evidence(
        root=root,
        texts={path: filled(text) for path, text in _automation(root)},
        pyproject=_toml(_read(root / "pyproject.toml")),
        package=_json(_read(root / "package.json")),
        hooks=hooks_in(_read(root / ".pre-commit-config.yaml")),
        ini=frozenset(_sections(root)),
        broken=tuple(name for name, parse in _PARSERS.items() if _is_broken(root / name, parse)),
        which=which,
    )


def filled(text: str) -> str:
    """Fill in variables that the same text sets to plain values, as shells and make do."""
    values = {match[1]: match[2] for match in _VARIABLE.finditer(text)}

    def value(match: re.Match[str]) -> str:
        return values.get(match[1] or match[2] or match[3], match[0])

    return _USE.sub(value, text)


def hooks_in(text: str) -> dict[str, bool]:
    """Return the hooks of a pre-commit configuration, and which look at all files."""
    data = _yaml(text)
    partial = bool(data.get("exclude") or data.get("files"))
    found: dict[str, bool] = {}
    for repository in _dicts(data.get("repos")):
        for hook in _dicts(repository.get("hooks")):
            narrowed = partial or any(key in hook for key in ("exclude", "files", "args"))
            found[str(hook.get("id"))] = not narrowed
    return found


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []  # pyright: ignore[reportUnknownVariableType]  data from a file


def _automation(root: Path) -> Iterator[tuple[str, str]]:
    for pattern in AUTOMATION:
        for path in sorted(root.glob(pattern)):
            if text := _read(path):
                yield str(path.relative_to(root)), text


def _sections(root: Path) -> Iterator[str]:
    for name in ("setup.cfg", "tox.ini", "pytest.ini", "mypy.ini", ".flake8"):
        parser = ConfigParser(interpolation=None, strict=False)
        try:
            parser.read_string(_read(root / name))
        except ConfigError:
            continue
        yield from parser.sections()


def _read(path: Path) -> str:
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _is_broken(path: Path, parse: Callable[[str], object]) -> bool:
    text = _read(path)
    try:
        parse(text or "{}" if path.suffix == ".json" else text)
    except (ValueError, yaml.YAMLError):  # what `tomllib` and `json` raise is a ValueError
        return True
    return False


_PARSERS: Mapping[str, Callable[[str], object]] = {
    "pyproject.toml": tomllib.loads,
    "package.json": json.loads,
    ".pre-commit-config.yaml": yaml.safe_load,
}


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


def _json(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]  data from a file


def _yaml(text: str) -> dict[str, Any]:
    try:
        value: Any = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]  data from a file
