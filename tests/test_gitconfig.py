"""What git is told in the sandbox of its user: who commits, and nothing that acts."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from runner.sandbox.gitconfig import taken, user_settings

if TYPE_CHECKING:
    from pathlib import Path

OWN = """\
# mine
[user]
\tname = "Ada # Lovelace"   ; who
\temail = ada@example.com
\tsigningkey = ABCDEF
[Core]
\tautoCRLF = false
\tpager = less
\tfsmonitor = /home/ada/run-me
\thooksPath = /home/ada/hooks
[credential "https://example.com"]
\thelper = store
\tname = not-a-user
[url "https://token:x@example.com/"]
\tinsteadOf = https://example.com/
[init] defaultBranch = trunk
[safe]
\tdirectory = /srv/a
\tdirectory = /srv/b
[alias]
\tname = !run-me
[filter "lfs"]
\tclean = run-me
"""


def listed(text: str, where: Path) -> list[str]:
    """Return the settings as git reads them."""
    file = where / "taken"
    file.write_text(text)
    asked = ["git", "config", "--file", str(file), "--list"]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_only_who_commits_and_how_is_taken(world: Path) -> None:
    assert listed(taken([OWN]), world) == [
        "user.name=Ada # Lovelace",
        "user.email=ada@example.com",
        "core.autocrlf=false",
        "init.defaultbranch=trunk",
        "safe.directory=/srv/a",
        "safe.directory=/srv/b",
    ]


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ((), []),
        (("",), []),
        (("[user\nname = x\n",), []),
        (("name = before any section\n",), []),
        (("[user]\n\tname = goes \\\n\ton\n",), []),
        (("[user]\r\n\tname = Ada\r\n",), ["user.name=Ada"]),
        (("[user]\nname = A\n", "[user]\nname = B\n"), ["user.name=A", "user.name=B"]),
        (
            ("[include]\n\tpath = ~/work.inc\n",),
            ["user.name=Nobody", "user.email=nobody@localhost"],
        ),
        (
            ('[includeIf "gitdir:~/w/"]\n\tpath = w.inc\n[user]\n\tname = Ada\n',),
            ["user.name=Nobody", "user.email=nobody@localhost", "user.name=Ada"],
        ),
    ],
)
def test_taken(texts: tuple[str, ...], wanted: list[str], world: Path) -> None:
    assert listed(taken(texts), world) == wanted


def test_both_files_of_the_user_are_read(world: Path) -> None:
    config = world / "config" / "git" / "config"
    config.parent.mkdir(parents=True)
    config.write_text("[user]\n\temail = ada@example.com\n")
    (world / ".gitconfig").write_text("[user]\n\tname = Ada\n")
    text = user_settings(world, {"XDG_CONFIG_HOME": str(world / "config")})
    assert listed(text, world) == ["user.email=ada@example.com", "user.name=Ada"]
    assert listed(user_settings(world, {}), world) == ["user.name=Ada"]


def test_no_files_are_nothing(world: Path) -> None:
    assert user_settings(world / "nowhere", {}) == ""
