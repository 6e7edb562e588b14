"""Tests of the environment that commands get."""

from __future__ import annotations

import pytest

from runner.errors import NotGranted
from runner.workspace.environment import clean_environment, clean_path, ungranted


def made(base: dict[str, str], **more: object) -> dict[str, str]:
    given: dict[str, object] = {"declared": {}, "inherit": (), "secrets": {}, "extra": {}}
    return clean_environment(base=base, **{**given, **more})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "DYLD_INSERT_LIBRARIES",
            "BASH_ENV",
            "ENV",
            "NODE_OPTIONS",
        ),
        *("PYTHONPATH", "PYTHONSTARTUP", "PERL5LIB", "RUBYOPT", "GIT_SSH_COMMAND", "GIT_DIR"),
        *("HTTPS_PROXY", "https_proxy", "ANTHROPIC_API_KEY", "SSH_AUTH_SOCK", "AWS_PROFILE", "X"),
        *(
            "PROMPT_COMMAND",
            "IFS",
            "CDPATH",
            "BASH_FUNC_ls%%",
            "TERM_PROGRAM",
            "DBUS_SESSION_BUS_ADDRESS",
        ),
    ],
)
def test_what_is_not_on_the_list_stays_out(name: str) -> None:
    assert name not in made({"PATH": "/bin", name: "x"})


@pytest.mark.parametrize(
    "name",
    [
        *("HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "CARGO_HOME"),
        *("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ],
)
def test_what_is_on_the_list_comes_along(name: str) -> None:
    assert made({name: "value"})[name] == "value"


def test_terminals_are_told_that_nobody_is_there() -> None:
    found = made({"TERM": "xterm-256color", "CI": "", "FORCE_COLOR": "1"})
    assert {name: found.get(name) for name in ("TERM", "CI", "NO_COLOR", "FORCE_COLOR")} == {
        "TERM": "dumb",
        "CI": "1",
        "NO_COLOR": "1",
        "FORCE_COLOR": None,
    }


def test_later_sources_win() -> None:
    found = made(
        {"TERM": "a", "TZ": "base", "A": "base", "B": "base", "C": "base"},
        inherit=("A", "B", "C", "MISSING"),
        declared={"B": "declared", "C": "declared", "TERM": "vt100"},
        secrets={"C": "secret"},
        extra={"TZ": "extra"},
    )
    assert (found["A"], found["B"], found["C"]) == ("base", "declared", "secret")
    assert (found["TZ"], found["TERM"]) == ("extra", "vt100")
    assert "MISSING" not in found


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("/usr/bin:/bin", "/usr/bin:/bin"),
        (".:/bin:", "/bin"),
        ("node_modules/.bin:/bin::./x:~/bin", "/bin"),
        ("/a:/b:/a", "/a:/b"),
        ("", "/usr/local/bin:/usr/bin:/bin"),
        (":.:", "/usr/local/bin:/usr/bin:/bin"),
    ],
)
def test_path_has_absolute_entries_only(path: str, clean: str) -> None:
    assert clean_path(path) == clean
    assert made({"PATH": path})["PATH"] == clean
    assert made({}, declared={"PATH": path})["PATH"] == clean


@pytest.mark.parametrize(
    "name", ["ANTHROPIC_API_KEY", "GITHUB_TOKEN", "DB_PASSWORD", "npm_auth", "SECRET", "SENTRY_DSN"]
)
def test_inheriting_a_secret_needs_its_grant(name: str) -> None:
    with pytest.raises(NotGranted, match=f"{name}.*not granted") as caught:
        made({name: "hush"}, inherit=(name,))
    assert f"--secret {name}" in caught.value.hint
    assert made({name: "hush"}, inherit=(name,), secrets={name: "hush"})[name] == "hush"


def test_names_that_only_contain_such_words_are_no_secrets() -> None:
    assert ungranted(("MONKEY", "KEYBOARD", "PATHS", "TOKENIZERS_PARALLELISM", "PG_HOST"), ()) == ()
