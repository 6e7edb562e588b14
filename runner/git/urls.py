"""Decides which remote URLs and branch names are acceptable, before git ever sees them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from runner.errors import GitRefused
from runner.frozen import frozen

_CONTROL = re.compile(r"[\x00-\x20\x7f]")
_SCP = re.compile(
    r"(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?P<host>[A-Za-z0-9][^:/@\s]*):(?!:)"
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# What `git check-ref-format` forbids, and more: no name that a program could take for an option.
_BAD_BRANCH = re.compile(
    r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock(?:/|$)|(?:^|/)\.|[./]$|^[-/]|^@$"
)
_MOST_BRANCH = 200


@frozen
class Remote:
    """A URL that a push may go to."""

    url: str
    protocol: Literal["https", "http", "ssh", "file"]
    host: str
    username: str


def parse_remote(url: str, root: Path) -> Remote:
    """Return what *url* is.

    Raises:
        GitRefused: It is not https, ssh, or a local path outside the work tree.
    """
    if not url or _CONTROL.search(url) or url.startswith("-"):
        raise _refused(url, "it holds blanks or control characters, or begins like an option")
    scheme, separator, _ = url.partition("://")
    if separator and scheme == "file":
        if urlsplit(url).netloc not in ("", "localhost"):
            raise _refused(url, "a file: URL names no other host")
        return _local(url, unquote(urlsplit(url).path), root)
    if separator:
        return _with_scheme(url, scheme)
    if "::" in url.split("/", 1)[0]:
        raise _refused(url, "remote helpers are never run")
    if url.startswith("/"):
        return _local(url, url, root)
    match = _SCP.match(url)
    if match is None:
        raise _refused(url, "it is neither https, ssh nor an absolute path")
    return Remote(url, "ssh", match["host"], match["user"] or "")


def _with_scheme(url: str, scheme: str) -> Remote:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or host.startswith("-") or (parts.username or "").startswith("-"):
        raise _refused(url, "it names no host, or one that begins like an option")
    if parts.password:
        raise _refused(masked(url), "it holds a password; take it out and grant it as a secret")
    if scheme == "https":
        return Remote(url, "https", host, parts.username or "")
    if scheme == "http" and host in _LOOPBACK:
        return Remote(url, "http", host, parts.username or "")
    if scheme in ("ssh", "git+ssh", "ssh+git"):
        return Remote(url, "ssh", host, parts.username or "")
    raise _refused(url, f"the protocol {scheme!r} is not allowed")


def _local(url: str, path: str, root: Path) -> Remote:
    if Path(path).resolve().is_relative_to(root):
        raise _refused(url, "it is inside the work tree, so its hooks are the tree's to write")
    return Remote(url, "file", "", "")


def masked(url: str) -> str:
    """Return *url* without a password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


def _refused(url: str, why: str) -> GitRefused:
    shown = masked(url).encode("unicode_escape").decode()[:200]
    return GitRefused(
        f"cannot push to {shown!r}: {why}",
        hint="https://, ssh://, user@host:path and local paths are allowed",
    )


def checked_branch(branch: str) -> str:
    """Return the full ref of *branch*.

    Raises:
        GitRefused: git would not take the name, or a program could take it for an option.
    """
    if not branch or len(branch) > _MOST_BRANCH or _BAD_BRANCH.search(branch):
        shown = branch.encode("unicode_escape").decode()[:100]
        raise GitRefused(
            f"{shown!r} is no acceptable branch name",
            hint="letters, digits, `-`, `_`, `.` and `/`; no `..`, blank or leading `-`",
        )
    return f"refs/heads/{branch}"
